//! Flows on standard output.

use std::io::{BufRead as _, BufReader, Read as _};
use std::thread;

use super::support::json::{flows, sum};
use super::support::network::Network;
use super::support::probe::ProbeBuilder;
use super::support::traffic::Traffic;

#[test]
fn json_lines_into_a_pipe_add_up_to_what_was_sent() {
    let network = Network::new();
    let mut probe = ProbeBuilder::new(&network.router).json().piped().start();
    let mut pipe = probe.process().child().stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    let traffic = Traffic { packets: 100_000, flows: 20_000, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.terminate().report.assert_complete();

    let flows = flows(&reader.join().unwrap());
    assert_eq!(flows.len(), 20_000);
    assert_eq!(sum(&flows, "packet_delta_count"), traffic.packets);
    assert_eq!(sum(&flows, "octet_delta_count"), traffic.octets());
    assert!(flows.iter().all(|flow| flow["ingress_interface_name"] == "veth-in"), "{:#}", flows[0]);
}

#[test]
fn a_closed_pipe_ends_the_daemon_in_order() {
    let network = Network::new();
    let mut probe =
        ProbeBuilder::new(&network.router).json().argument("--active-timeout", "300ms").piped().start();
    let pipe = probe.process().child().stdout.take().unwrap();
    let endless = Traffic { packets: 1_000_000_000, rate: Some(10_000), ..Traffic::default() };
    let _generator = endless.start(&network.sender);

    // As `head -1` does.
    let mut line = String::new();
    BufReader::new(pipe).read_line(&mut line).unwrap();
    assert_eq!(flows(&line).len(), 1);
    let ended = probe.ended();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.report.text());
    ended.report.assert_balanced();
    let text = ended.report.text();
    assert!(text.contains("the reader of standard output is gone"), "{text}");
    assert!(ended.report.lost_for("output_closed").records > 0, "{text}");
    assert_eq!(ended.report.exported().records + ended.report.lost().records, ended.report.made().records);
}
