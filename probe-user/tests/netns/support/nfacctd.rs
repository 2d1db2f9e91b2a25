//! pmacct's `nfacctd` receives and prints JSON.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::json::sum;
use super::namespace::Namespace;
use super::process::Process;
use super::temp_dir::TempDir;
use super::wait_for;

/// What flows are told apart by.
const AGGREGATE: &str =
    "aggregate[test]: src_host,dst_host,src_port,dst_port,proto,in_iface,export_proto_version\n";

/// A running `nfacctd`.
#[derive(Debug)]
pub(crate) struct Nfacctd {
    process: Process,
    printed: PathBuf,
    log: PathBuf,
    _directory: TempDir,
}

impl Nfacctd {
    /// Starts it and waits until it can print.
    pub(crate) fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        Self::start_with(namespace, address, "")
    }

    /// As [`start`](Self::start), with further lines of configuration.
    pub(crate) fn start_with(namespace: &Namespace, address: SocketAddr, more: &str) -> Self {
        Self::start_program("nfacctd", namespace, address, more)
    }

    /// `sfacctd`, the same for sFlow, with further lines of configuration, in which `aggregate` replaces the usual one.
    pub(crate) fn start_sflow(namespace: &Namespace, address: SocketAddr, more: &str) -> Self {
        Self::start_program("sfacctd", namespace, address, more)
    }

    fn start_program(program: &str, namespace: &Namespace, address: SocketAddr, more: &str) -> Self {
        let directory = TempDir::new();
        let (printed, log) = (directory.file("flows.json"), directory.file("log"));
        let configuration = directory.file("nfacctd.conf");
        let aggregate = if more.contains("aggregate[test]") { "" } else { AGGREGATE };
        let text = format!(
            "daemonize: false\n\
             {program}_ip: {}\n\
             {program}_port: {}\n\
             {program}_pipe_size: 4000000\n\
             plugins: print[test]\n\
             print_output[test]: json\n\
             print_refresh_time[test]: 1\n\
             print_output_file[test]: {}\n\
             print_output_file_append[test]: true\n\
             {aggregate}{more}",
            address.ip(),
            address.port(),
            printed.display()
        );
        fs::write(&configuration, text).unwrap();
        let mut command = namespace.command(program);
        command.arg("-f").arg(&configuration).stdout(File::create(&log).unwrap());
        let process = Process::start(&mut command);
        let nfacctd = Self { process, printed, log, _directory: directory };
        // What arrives before its plugin is ready is lost, and it has no better way to say that it is.
        wait_for(
            "nfacctd is ready",
            || nfacctd.log(),
            || nfacctd.log().contains("Purging cache").then_some(()),
        );
        nfacctd
    }

    /// Waits until it has printed flows of `packets` packets in all, and returns them.
    pub(crate) fn printed(&self, packets: u64) -> Vec<Value> {
        wait_for(
            "nfacctd prints",
            || format!("{:?}: {}", self.flows(), self.log()),
            || {
                let flows = self.flows();
                (sum(&flows, "packets") >= packets).then_some(flows)
            },
        )
    }

    fn flows(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.printed).unwrap_or_default();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn log(&self) -> String {
        self.process.errors() + &fs::read_to_string(&self.log).unwrap_or_default()
    }
}
