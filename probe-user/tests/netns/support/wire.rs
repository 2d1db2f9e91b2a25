//! What is on the wire towards the collector: captured by `tcpdump`, read by `tshark`.

use std::collections::BTreeMap;
use std::process::Command;

use super::namespace::Namespace;
use super::network::COLLECTING;
use super::process::Process;
use super::temp_dir::TempDir;
use super::tool::{output, tool};

const FILE: &str = "wire.pcap";

/// A running capture of export traffic at the collector's interface.
#[derive(Debug)]
pub(crate) struct Wire {
    process: Process,
    directory: TempDir,
}

/// Captured export traffic.
#[derive(Debug)]
pub(crate) struct Capture {
    directory: TempDir,
}

/// One exported record: values by the names of Wireshark's fields.
pub(crate) type Fields = BTreeMap<&'static str, String>;

impl Wire {
    /// Starts to capture datagrams to `port`, and waits until it does.
    pub(crate) fn start(collector: &Namespace, port: u16) -> Self {
        let mut command = collector.command("tcpdump");
        let directory = TempDir::new();
        command.args(["-i", COLLECTING, "-U", "-n", "-B", "16384", "--immediate-mode", "-Z", "root", "-w"]);
        command.arg(directory.file(FILE));
        // Later fragments have no port.
        command.arg(format!("udp dst port {port} or ip[6:2] & 0x1fff != 0"));
        let mut process = Process::start(&mut command);
        process.wait_for_message("listening on");
        Self { process, directory }
    }

    /// Ends the capture, which must be complete.
    pub(crate) fn stop(mut self) -> Capture {
        let status = self.process.terminate();
        let errors = self.process.errors();
        assert!(status.success() && errors.contains("\n0 packets dropped by kernel"), "{errors}");
        Capture { directory: self.directory }
    }
}

impl Capture {
    /// The values of `fields` in each datagram; several of one field are a list.
    pub(crate) fn datagrams(&self, fields: &[&str]) -> Vec<Vec<Vec<String>>> {
        let mut command = self.tshark();
        command.args(["-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]);
        for field in fields {
            command.args(["-e", field]);
        }
        let list =
            |values: &str| values.split(';').filter(|value| !value.is_empty()).map(str::to_owned).collect();
        output(&mut command).lines().map(|line| line.split('|').map(list).collect()).collect()
    }

    /// Every exported record. All records must be of templates that have every one of `fields`.
    pub(crate) fn records(&self, fields: &[&'static str]) -> Vec<Fields> {
        let mut records = Vec::new();
        for datagram in self.datagrams(fields) {
            let count = datagram[0].len();
            for record in 0..count {
                let values = fields.iter().zip(&datagram).map(|(field, values)| {
                    assert_eq!(values.len(), count, "{field} in {datagram:?}");
                    (*field, values[record].clone())
                });
                records.push(values.collect());
            }
        }
        records
    }

    /// Every message can be decoded by one who has read only what came before it.
    pub(crate) fn assert_decodable(&self) {
        let text = output(self.tshark().arg("-V"));
        for fault in ["No template found", "Malformed", "Unknown", "[Expert Info (Error"] {
            assert!(!text.contains(fault), "{fault}: {text}");
        }
    }

    fn tshark(&self) -> Command {
        let mut command = tool("tshark");
        command.arg("-r").arg(self.directory.file(FILE)).args([
            "-d",
            "udp.port==4739,cflow",
            "-o",
            "udp.check_checksum:FALSE",
        ]);
        command
    }
}
