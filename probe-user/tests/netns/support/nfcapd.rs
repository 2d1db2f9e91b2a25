//! `nfcapd` receives, `nfdump` tells what.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use super::json;
use super::network::Network;
use super::process::Process;
use super::temp_dir::TempDir;
use super::tool::{output, tool};
use super::wait_for;
use super::wire::{Capture, Wire};

/// A running `nfcapd`.
#[derive(Debug)]
pub(crate) struct Nfcapd {
    process: Process,
    address: SocketAddr,
    flows: PathBuf,
    log: PathBuf,
    wire: Wire,
    _directory: TempDir,
}

/// What `nfcapd` has received.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Each flow record, with the keys of `nfdump -o json`.
    pub(crate) flows: Vec<Value>,
    log: String,
    /// Everything that was on the wire.
    capture: Capture,
}

impl Nfcapd {
    /// Starts it and waits until it listens.
    pub(crate) fn start(network: &Network, address: SocketAddr) -> Self {
        Self::start_program("nfcapd", network, address)
    }

    /// `sfcapd`, the same for sFlow.
    pub(crate) fn start_sflow(network: &Network, address: SocketAddr) -> Self {
        Self::start_program("sfcapd", network, address)
    }

    fn start_program(program: &str, network: &Network, address: SocketAddr) -> Self {
        let directory = TempDir::new();
        let (flows, log) = (directory.file("flows"), directory.file("log"));
        fs::create_dir(&flows).unwrap();
        let mut command = network.collector.command(program);
        command.args(["-b", &address.ip().to_string(), "-p", &address.port().to_string()]);
        command.args([if address.is_ipv6() { "-6" } else { "-4" }, "-B", "4000000", "-w"]).arg(&flows);
        command.stdout(File::create(&log).unwrap());
        let wire = Wire::start(network);
        let process = Process::start(&mut command);
        let nfcapd = Self { process, address, flows, log, wire, _directory: directory };
        wait_for("nfcapd listens", || nfcapd.process.errors(), || nfcapd.socket());
        nfcapd
    }

    /// Waits until it has read everything that the router has sent, then ends it.
    pub(crate) fn stop(mut self, network: &Network) -> Collected {
        network.wait_until_read();
        let socket = self.socket().unwrap();
        assert!(socket.trim_end().ends_with(" 0"), "the socket of nfcapd had no room: {socket}");
        let status = self.process.terminate();
        let capture = self.wire.stop(network);
        let log = self.process.errors() + &fs::read_to_string(&self.log).unwrap();
        assert!(status.success(), "nfcapd: {status}: {log}");

        // All files: there are two if the run crosses a multiple of five minutes.
        let mut nfdump = tool("nfdump");
        nfdump.args(["-q", "-N", "-o", "json", "-R"]).arg(&self.flows);
        let text = output(&mut nfdump);
        // Some versions write the list's brackets, some do not.
        let text = if text.trim() == "No matching flows" { "" } else { &text };
        let list = format!("[{}]", text.trim().trim_start_matches('[').trim_end_matches(']'));
        let flows = serde_json::from_str(&list).unwrap_or_else(|error| panic!("{error} in {text}; {log}"));
        Collected { flows, log, capture }
    }

    /// Its line in the socket table of its namespace.
    fn socket(&self) -> Option<String> {
        let table = if self.address.is_ipv6() { "udp6" } else { "udp" };
        let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.process.id())).ok()?;
        let port = format!(":{:04X}", self.address.port());
        let mut lines = table.lines();
        let line = lines.find(|line| line.split_whitespace().nth(1).is_some_and(|l| l.ends_with(&port)));
        line.map(str::to_owned)
    }
}

impl Collected {
    /// Everything that was on the wire.
    pub(crate) fn capture(&self) -> &Capture {
        &self.capture
    }

    pub(crate) fn packets(&self) -> u64 {
        json::sum(&self.flows, "in_packets")
    }

    pub(crate) fn octets(&self) -> u64 {
        json::sum(&self.flows, "in_bytes")
    }

    /// No message was missing, repeated or not understood. Because `nfcapd` leaves options data out of
    /// IPFIX sequence numbers, it takes them for missing; as often as that, and not once more.
    pub(crate) fn assert_in_sequence(&self) {
        let errors = self.capture.check_ipfix_sequence();
        let expected = format!("Sequence Errors: {errors}, Bad Packets: 0");
        assert!(self.log.contains(&expected), "no {expected:?} in {}", self.log);
    }
}
