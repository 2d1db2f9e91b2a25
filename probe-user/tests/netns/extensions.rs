//! What is inside a packet tells rows apart when the kernel counts: packets in tunnels, stacks of labels, octets of the
//! operator's choice.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use super::support::frames::{Frame, Upper, write_octets};
use super::support::json::flows;
use super::support::network::Network;
use super::support::probe::{Ended, Probe, ProbeBuilder};
use super::support::temp_dir::TempDir;
use super::support::traffic::replay;

const ETHERNET_OCTETS: usize = 14;
const IPV4_OCTETS: usize = 20;

const CONFIGURATION: &str = r#"
[[capture.primitive]]
name = "ttl"
at = ["l3:0x800+8", "l3:0x86dd+7"]
length = 1
semantics = "u_int"

[[aggregate]]
name = "inside"
refresh = "1s"
key = ["src_host", "dst_port", "vxlan", "mpls_label_top", "mpls_label_stack", "tunnel_src_host", "tunnel_dst_port",
    "tunnel_proto", "tunnel_dst_mac", "ttl", "tcpflags", "tunnel_tcpflags"]
[aggregate.stdout]
"#;

/// Rows as JSON, without what differs from run to run, with their packets and octets.
type Rows = BTreeMap<String, (u64, u64)>;

fn frame(source: &str, upper: Upper) -> Frame {
    let destination = if source.contains(':') { "2001:db8::9" } else { "198.18.0.9" };
    Frame::new(source, destination, upper)
}

/// The packet of a frame, without padding.
fn packet(frame: &Frame) -> Vec<u8> {
    frame.octets()[ETHERNET_OCTETS..][..frame.ip_octets() as usize].to_vec()
}

/// `inside` as the payload of UDP to this port.
fn in_udp(source: &str, port: u16, inside: &[u8]) -> Vec<u8> {
    let outer = frame(source, Upper::Udp(5555, port)).payload(inside.len() as u16);
    let end = ETHERNET_OCTETS + outer.ip_octets() as usize;
    let mut octets = outer.octets();
    octets[end - inside.len()..end].copy_from_slice(inside);
    octets
}

/// A frame in a VXLAN (RFC 7348).
fn in_vxlan(source: &str, identifier: u8, inside: &Frame) -> Vec<u8> {
    let header = [0x08, 0, 0, 0, 0, 0, identifier, 0];
    in_udp(source, 4789, &[&header, inside.octets().as_slice()].concat())
}

/// A packet in GRE (RFC 2784) without a key.
fn in_gre(source: &str, inside: &Frame) -> Vec<u8> {
    // GRE's header and the packet take the place of UDP's header and payload.
    let inside = [&[0, 0, 0x08, 0][..], &packet(inside)].concat();
    let outer = frame(source, Upper::Udp(0, 0)).payload(inside.len() as u16 - 8);
    let mut octets = outer.octets();
    octets[ETHERNET_OCTETS + 9] = 47;
    let start = ETHERNET_OCTETS + IPV4_OCTETS;
    octets[start..start + inside.len()].copy_from_slice(&inside);
    octets
}

/// A packet below labels (RFC 3032).
fn labelled(labels: &[u32], inside: &Frame) -> Vec<u8> {
    let mut octets = inside.octets()[..12].to_vec();
    octets.extend([0x88, 0x47]);
    for (label, place) in labels.iter().zip(1..) {
        let is_last = u32::from(place == labels.len());
        octets.extend((label << 12 | is_last << 8 | 64).to_be_bytes());
    }
    octets.extend(packet(inside));
    octets.resize(octets.len().max(60), 0);
    octets
}

fn with_time_to_live(mut octets: Vec<u8>, time_to_live: u8) -> Vec<u8> {
    octets[ETHERNET_OCTETS + 8] = time_to_live;
    octets
}

/// Frames, and the row of each by hand.
fn frames() -> (Vec<Vec<u8>>, Rows) {
    let inner_tcp = |port| frame("192.0.2.77", Upper::Tcp(1, port, 0x12)).payload(20);
    let inner_udp = || frame("2001:db8::77", Upper::Udp(1, 53)).payload(20);
    let syn = || frame("203.0.113.5", Upper::Tcp(1024, 9, 0x02)).payload(100);
    let row = |source: &str, port: u16, outer: Value, ttl: u8, flags: &str| {
        let mut row = serde_json::json!({
            "ip_src": source, "port_dst": port, "vxlan": 0, "mpls_label_top": 0, "mpls_label_stack": "", "ttl": ttl.to_string(),
            "tunnel_ip_src": "", "tunnel_port_dst": 0, "tunnel_ip_proto": "0", "tunnel_mac_dst": "00:00:00:00:00:00",
            "tcp_flags": flags, "tunnel_tcp_flags": "0",
        });
        let (row_fields, own) = (row.as_object_mut().unwrap(), outer.as_object().unwrap());
        row_fields.extend(own.clone());
        row
    };
    let tcp_inside = |port: u16, vxlan: u64| {
        serde_json::json!({"vxlan": vxlan, "tunnel_ip_src": "192.0.2.77", "tunnel_port_dst": port,
            "tunnel_ip_proto": "tcp", "tunnel_tcp_flags": "18", "tunnel_mac_dst": "02:00:00:00:00:02"})
    };
    let udp_inside = serde_json::json!({"vxlan": 7, "tunnel_ip_src": "2001:db8::77", "tunnel_port_dst": 53,
        "tunnel_ip_proto": "udp", "tunnel_mac_dst": "02:00:00:00:00:02"});
    let gre_inside = serde_json::json!({"tunnel_ip_src": "192.0.2.77", "tunnel_port_dst": 80,
        "tunnel_ip_proto": "tcp", "tunnel_tcp_flags": "18", "tunnel_mac_dst": "00:00:00:00:00:00"});
    let stack = |top: u64, all: &str| serde_json::json!({"mpls_label_top": top, "mpls_label_stack": all});
    let none = serde_json::json!({});
    let (outer, outer_ipv6) = ("203.0.113.6", "2001:db8::6");
    let kinds = [
        (syn().octets(), syn().ip_octets(), row("203.0.113.5", 9, none.clone(), 64, "2"), 1),
        (with_time_to_live(syn().octets(), 9), syn().ip_octets(), row("203.0.113.5", 9, none, 9, "2"), 2),
        (
            labelled(&[16, 17, 1_048_575], &syn()),
            syn().ip_octets(),
            row("203.0.113.5", 9, stack(16, "16_17_1048575"), 64, "2"),
            3,
        ),
        (labelled(&[16], &syn()), syn().ip_octets(), row("203.0.113.5", 9, stack(16, "16"), 64, "2"), 4),
        (in_vxlan(outer, 7, &inner_tcp(80)), 36 + 74, row(outer, 4789, tcp_inside(80, 7), 64, "0"), 5),
        (in_vxlan(outer, 7, &inner_tcp(81)), 36 + 74, row(outer, 4789, tcp_inside(81, 7), 64, "0"), 6),
        (in_vxlan(outer, 8, &inner_tcp(81)), 36 + 74, row(outer, 4789, tcp_inside(81, 8), 64, "0"), 7),
        (in_vxlan(outer_ipv6, 7, &inner_udp()), 56 + 82, row(outer_ipv6, 4789, udp_inside, 64, "0"), 8),
        (in_gre(outer, &inner_tcp(80)), 24 + 60, row(outer, 0, gre_inside, 64, "0"), 9),
    ];
    let mut all = Vec::new();
    let mut rows = Rows::new();
    for (octets, length, row, count) in kinds {
        all.extend(vec![octets; count]);
        rows.insert(row.to_string(), (count as u64, count as u64 * length));
    }
    (all, rows)
}

fn rows(ended: &Ended) -> Rows {
    let mut rows = Rows::new();
    for mut row in flows(&ended.output) {
        let fields = row.as_object_mut().unwrap();
        let mut number = |name: &str| fields.remove(name).unwrap().as_u64().unwrap();
        let (packets, octets) = (number("packets"), number("bytes"));
        for name in ["event_type", "stamp_inserted", "stamp_updated"] {
            fields.remove(name);
        }
        let sum = rows.entry(row.to_string()).or_default();
        *sum = (sum.0 + packets, sum.1 + octets);
    }
    rows
}

fn rows_are_told_apart(hook: &str) {
    let network = Network::new();
    let directory = TempDir::new();
    let probe =
        ProbeBuilder::new(&network.router).configuration(CONFIGURATION).argument("--hook", hook).start();
    let (frames, expected) = frames();
    let file = directory.file("frames.pcap");
    write_octets(&file, &frames);
    for _ in 0..3 {
        replay(&network.sender, &file, frames.len());
    }
    let metrics = probe.wait_until("packets", |metrics| {
        metrics.total("pathflow_received_packets_total") >= 3 * frames.len() as u64
    });
    assert_eq!(metrics.total("pathflow_packets_without_extension_total"), 0);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let expected: Rows = expected.into_iter().map(|(row, sum)| (row, (3 * sum.0, 3 * sum.1))).collect();
    assert_eq!(rows(&ended), expected);
}

#[test]
fn rows_are_told_apart_by_what_is_inside_at_xdp() {
    rows_are_told_apart("xdp");
}

#[test]
fn rows_are_told_apart_by_what_is_inside_at_tc() {
    rows_are_told_apart("tc");
}

/// The next run learns from pinned tables what their references stand for.
#[test]
fn what_was_counted_without_a_daemon_is_told_apart() {
    let network = Network::new();
    let directory = TempDir::new();
    let configuration = format!("[capture]\npin = true\n{CONFIGURATION}");
    let builder = || ProbeBuilder::new(&network.router).configuration(&configuration);
    let mut killed = builder().start();
    killed.process().signal(Signal::KILL);
    killed.process().wait();
    let (frames, expected) = frames();
    let file = directory.file("frames.pcap");
    write_octets(&file, &frames);
    replay(&network.sender, &file, frames.len());
    let ended = builder().start().terminate();
    let detached =
        network.router.enter(super::support::probe::daemon().to_str().unwrap()).arg("detach").status();
    ended.report.assert_balanced();
    assert_eq!(rows(&ended), expected);
    assert!(detached.unwrap().success());
}

/// Primitives as rows have them, with packets.
type Figures = BTreeMap<[String; 5], u64>;

fn figures(ended: &Ended) -> Figures {
    let mut figures = Figures::new();
    for row in flows(&ended.output) {
        let names = ["ip_src", "ttl", "length", "mpls_label_top", "mpls_label_stack"];
        let words = names.map(|name| row[name].to_string().trim_matches('"').to_owned());
        *figures.entry(words).or_default() += row["packets"].as_u64().unwrap();
    }
    figures
}

/// What a run has counted that was asked for other primitives is not taken for those of the next one.
#[test]
fn primitives_change_while_nobody_is_there() {
    let network = Network::new();
    let directory = TempDir::new();
    let primitive = |name: &str, place: &str, length: u8| {
        format!(
            "[[capture.primitive]]\nname = \"{name}\"\nat = [\"{place}\"]\nlength = {length}\nsemantics = \"u_int\"\n"
        )
    };
    let start = |names: &str| {
        let configuration = [
            "[capture]\npin = true\n",
            &primitive("ttl", "l3:0x800+8", 1),
            &primitive("length", "l3:0x800+2", 2),
            &format!(
                "[[aggregate]]\nname = \"inside\"\nrefresh = \"1s\"\nkey = [\"src_host\", {names}]\n[aggregate.stdout]\n"
            ),
        ];
        ProbeBuilder::new(&network.router).configuration(&configuration.concat()).start()
    };
    let kill = |mut probe: Probe<'_>| {
        probe.process().signal(Signal::KILL);
        probe.process().wait();
    };
    let without = |probe: &Probe<'_>| probe.metrics().total("pathflow_packets_without_extension_total");
    let (plain, below) = ("203.0.113.5", "203.0.113.6");
    let packet = |source| frame(source, Upper::Udp(1, 9)).payload(300);
    let length = packet(plain).ip_octets().to_string();
    let octets = [vec![packet(plain).octets(); 3], vec![labelled(&[16, 17, 18], &packet(below)); 4]].concat();
    let file = directory.file("frames.pcap");
    write_octets(&file, &octets);
    let send = || replay(&network.sender, &file, octets.len());
    let expected = |rows: &[[&str; 5]]| -> Figures {
        let packets = |row: &[&str; 5]| if row[0] == plain { 3 } else { 4 };
        rows.iter().map(|row| (row.map(str::to_owned), packets(row))).collect()
    };

    let both = r#""ttl", "length""#;
    kill(start(both));
    send();
    // Its place is another one, and nobody has read the stack.
    let others = r#""length", "mpls_label_top", "mpls_label_stack""#;
    let probe = start(others);
    assert_eq!(without(&probe), 7);
    let ended = probe.terminate();
    let text = ended.report.text();
    assert!(
        text.contains(
            "of these, 7 packets are in rows without all labels of the MPLS stack, primitives of your own: "
        ),
        "{text}"
    );
    assert_eq!(figures(&ended), expected(&[[plain, "null", "0", "0", ""], [below, "null", "0", "16", ""]]));
    // The same are read.
    send();
    let probe = start(others);
    assert_eq!(without(&probe), 0);
    let ended = probe.terminate();
    assert!(!ended.report.text().contains("are in rows without"), "{}", ended.report.text());
    assert_eq!(
        figures(&ended),
        expected(&[[plain, "null", &length, "0", ""], [below, "null", &length, "16", "16_17_18"]])
    );
    // More than is asked for does no harm.
    send();
    let probe = start(r#""mpls_label_stack""#);
    assert_eq!(without(&probe), 0);
    let ended = probe.terminate();
    assert_eq!(
        figures(&ended),
        expected(&[[plain, "null", "null", "null", ""], [below, "null", "null", "null", "16_17_18"]])
    );
    // Without any, nothing was read.
    send();
    let probe = start(r#""dst_port""#);
    assert_eq!(without(&probe), 0);
    probe.terminate();
    send();
    let probe = start(both);
    assert_eq!(without(&probe), 7);
    let ended = probe.terminate();
    let detached =
        network.router.enter(super::support::probe::daemon().to_str().unwrap()).arg("detach").status();
    assert_eq!(
        figures(&ended),
        expected(&[[plain, "0", "0", "null", "null"], [below, "0", "0", "null", "null"]])
    );
    assert!(detached.unwrap().success());
}
