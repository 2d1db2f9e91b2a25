//! Known packets on the wire, known values in the exported records, as Wireshark's dissector reads them.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use super::support::frames::{Frame, Upper, write_capture};
use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network};
use super::support::probe::ProbeBuilder;
use super::support::temp_dir::TempDir;
use super::support::tool::tool;
use super::support::traffic::replay;
use super::support::wire::{Fields, Wire};

const COMMON: [&str; 15] = [
    "cflow.protocol",
    "cflow.srcport",
    "cflow.dstport",
    "cflow.packets",
    "cflow.octets",
    "cflow.tos",
    "cflow.tcpflags",
    "cflow.vlanid",
    "cflow.inputint",
    "cflow.outputint",
    "cflow.direction",
    "cflow.flow_end_reason",
    "cflow.abstimestart",
    "cflow.abstimeend",
    "cflow.ip_version",
];

/// Three flows of one family: TCP with a tag, UDP, ICMP.
pub(crate) fn frames(source: &str, destination: &str) -> [Frame; 4] {
    let frame = |upper| Frame::new(source, destination, upper).class_of_service(0xb8);
    let (kind, code) = if source.contains(':') { (1, 4) } else { (3, 3) };
    [
        frame(Upper::Tcp(49_152, 443, 0x02)).tag(0x8100, 301),
        frame(Upper::Tcp(49_152, 443, 0x18)).tag(0x8100, 301).payload(1000),
        frame(Upper::Udp(5353, 53)).payload(77),
        frame(Upper::Icmp(kind, code)).payload(48),
    ]
}

pub(crate) fn unix_milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Reads what Wireshark makes of a time, such as `Nov 21, 2026 07:40:00.123000000 UTC`.
pub(crate) fn milliseconds_of(time: &str) -> u64 {
    let output = tool("date").args(["-u", "-d", time, "+%s%3N"]).stderr(Stdio::inherit()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn assert_values(record: &Fields, expected: &[(&str, &str)]) {
    for (field, value) in expected {
        assert_eq!(record[field], *value, "{field} of {record:#?}");
    }
}

fn every_field_is_right(format: &str, [source, destination]: [&str; 2]) {
    let network = Network::new();
    let directory = TempDir::new();
    let is_ipv6 = source.contains(':');
    let wire = Wire::start(&network);
    let probe = ProbeBuilder::new(&network.router).collector(COLLECTOR_IPV4, format).start();
    let frames = frames(source, destination);
    let file = directory.file("frames.pcap");
    write_capture(&file, &frames);

    let start = unix_milliseconds();
    replay(&network.sender, &file, frames.len());
    let end = unix_milliseconds();
    let ended = probe.terminate();
    // Nobody listens at the collector, which is not what this test is about.
    ended.report.assert_balanced();
    assert_eq!(ended.report.made().records, 3);

    let capture = wire.stop(&network);
    capture.assert_decodable();
    let addresses =
        if is_ipv6 { ["cflow.srcaddrv6", "cflow.dstaddrv6"] } else { ["cflow.srcaddr", "cflow.dstaddr"] };
    let icmp: &[&str] = match (is_ipv6, format) {
        (true, "ipfix") => &["cflow.icmp_ipv6_type", "cflow.icmp_ipv6_code"],
        _ => &["cflow.icmp_type_code_ipv4"],
    };
    let fields: Vec<&str> = COMMON.iter().chain(&addresses).chain(icmp).copied().collect();
    let records = capture.records(&fields);
    assert_eq!(records.len(), 3);

    let interface = network.router.link(CAPTURED)["ifindex"].to_string();
    for record in &records {
        assert_values(
            record,
            &[
                (addresses[0], source),
                (addresses[1], destination),
                ("cflow.ip_version", if is_ipv6 { "6" } else { "4" }),
                ("cflow.tos", "0xb8"),
                ("cflow.inputint", &interface),
                ("cflow.outputint", "0"),
                ("cflow.direction", "0"),
                // Forced end: the daemon was asked to stop.
                ("cflow.flow_end_reason", "4"),
            ],
        );
        let (first, last) =
            (milliseconds_of(&record["cflow.abstimestart"]), milliseconds_of(&record["cflow.abstimeend"]));
        assert!(first <= last, "{record:#?}");
        // Times are of the kernel's tick, 10 ms at most; a clock may be adjusted by as much.
        assert!(first + 20 >= start && last <= end + 20, "{start} to {end}: {record:#?}");
    }
    let record = |protocol: &str| {
        records.iter().find(|record| record["cflow.protocol"] == protocol).expect("record of the protocol")
    };
    let octets = |frames: &[Frame]| frames.iter().map(Frame::ip_octets).sum::<u64>().to_string();
    assert_values(
        record("6"),
        &[
            ("cflow.srcport", "49152"),
            ("cflow.dstport", "443"),
            ("cflow.packets", "2"),
            ("cflow.octets", &octets(&frames[..2])),
            ("cflow.tcpflags", "0x1a"),
            ("cflow.vlanid", "301"),
        ],
    );
    assert_values(
        record("17"),
        &[
            ("cflow.srcport", "5353"),
            ("cflow.dstport", "53"),
            ("cflow.packets", "1"),
            ("cflow.octets", &octets(&frames[2..3])),
            ("cflow.tcpflags", "0x00"),
            ("cflow.vlanid", "0"),
        ],
    );
    let record = record(if is_ipv6 { "58" } else { "1" });
    assert_values(record, &[("cflow.packets", "1"), ("cflow.octets", &octets(&frames[3..]))]);
    match (is_ipv6, format) {
        (true, "ipfix") => {
            assert_values(record, &[("cflow.icmp_ipv6_type", "1"), ("cflow.icmp_ipv6_code", "4")]);
        }
        (true, _) => assert_values(record, &[("cflow.icmp_type_code_ipv4", "0x0104")]),
        (false, _) => assert_values(record, &[("cflow.icmp_type_code_ipv4", "0x0303")]),
    }
}

pub(crate) const IPV4: [&str; 2] = ["203.0.113.5", "198.18.0.9"];
const IPV6: [&str; 2] = ["2001:db8:1::5", "2001:db8:2::9"];

#[test]
fn ipfix_records_of_ipv4_packets_have_the_right_values() {
    every_field_is_right("ipfix", IPV4);
}

#[test]
fn ipfix_records_of_ipv6_packets_have_the_right_values() {
    every_field_is_right("ipfix", IPV6);
}

#[test]
fn netflow_v9_records_of_ipv4_packets_have_the_right_values() {
    every_field_is_right("netflow-v9", IPV4);
}

#[test]
fn netflow_v9_records_of_ipv6_packets_have_the_right_values() {
    every_field_is_right("netflow-v9", IPV6);
}
