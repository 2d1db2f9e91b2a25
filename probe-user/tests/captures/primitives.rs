//! Primitives of what is inside a packet: the packet inside a tunnel, the MPLS stack, octets of the operator's choice.
//! Against pmacctd, octet for octet, and against tshark.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::aggregate::{PLAIN, by_key, rows, rows_of_pmacctd};
use crate::corpus::corpus;
use crate::file::{self, Packet};
use crate::frames::{
    CUSTOMER_TAG, ICMP, IPV4, IPV6, Ipv4, MPLS, TCP, UDP, ethernet, icmp, ipv6, labelled, ports, readdressed,
    tagged, tcp, vxlan,
};
use crate::host::View;
use crate::own::whole;
use crate::say;
use crate::scratch::Scratch;
use crate::totals::{Dissected, RULE_COUNT};
use crate::tshark::{self, Family};

/// Primitives of the operator's own, in pmacct's form: name, places, length and semantics.
type Own<'a> = (&'a str, &'a [&'a str], u8, &'a str);

/// Those of the example that comes with pmacct which are read from packets.
const EXAMPLE: [Own<'_>; 3] = [
    ("ttl_pm", &["l3:0x800+8", "l3:0x86dd+7"], 1, "u_int"),
    ("udp_len", &["l4:17+4"], 2, "u_int"),
    ("tcp_win", &["l4:6+14"], 2, "u_int"),
];
/// One of each semantics, 32 octets together.
const EACH: [Own<'_>; 8] = [
    ("identification", &["l3:0x800+4"], 2, "hex"),
    ("a", &["l3:0x800+16"], 4, "u_int"),
    ("address", &["l3:0x800+12"], 4, "ip"),
    ("sender", &["mac:+6"], 6, "mac"),
    ("end", &["l3:0x800+16"], 8, "hex"),
    // pmacctd writes zeros where a packet has nothing.
    ("start", &["packet:+11"], 2, "raw"),
    // "@" and a zero, where fragments are forbidden. pmacctd does not end at the last octet, but at the next zero.
    ("flag", &["l3:0x800+6"], 2, "str"),
    ("data", &["payload:+0"], 4, "raw"),
];

fn as_toml(own: &[Own<'_>]) -> String {
    let table = |(name, at, length, semantics): &Own<'_>| {
        format!(
            "[[capture.primitive]]\nname = {name:?}\nat = {at:?}\nlength = {length}\nsemantics = {semantics:?}\n"
        )
    };
    own.iter().map(table).collect()
}

/// The line of pmacctd's configuration that names the file with them.
fn as_map(own: &[Own<'_>], scratch: &Scratch) -> String {
    let line = |(name, at, length, semantics): &Own<'_>| {
        let at = at.join(" packet_ptr=");
        format!("name={name} packet_ptr={at} len={length} semantics={semantics}\n")
    };
    let file = scratch.file("primitives.lst");
    fs::write(&file, own.iter().map(line).collect::<String>()).unwrap();
    format!("aggregate_primitives: {}\n", file.display())
}

/// `free`, which does nothing: when it reads VXLAN, pmacctd 1.7.7 frees memory that is not its own, and is aborted.
fn without_free(scratch: &Scratch) -> PathBuf {
    let library = scratch.file("without-free.so");
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-x", "c", "-o"])
        .arg(&library)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn()
        .expect("this test needs cc");
    compiler.stdin.take().unwrap().write_all(b"void free(void *memory) { (void)memory; }\n").unwrap();
    assert!(compiler.wait().unwrap().success());
    library
}

/// What pmacctd writes of a file, line by line in order.
fn lines_of_pmacctd(format: &str, key: &str, settings: &str, path: &Path, scratch: &Scratch) -> Vec<String> {
    let (configuration, rows) = (scratch.file("pmacctd.conf"), scratch.file("pmacctd.rows"));
    let _ = fs::remove_file(&rows);
    // It must be told to append, or the header is written without rows.
    let text = format!(
        "daemonize: false\npcap_savefile: {}\nplugins: print\nprint_output: {format}\nprint_output_file: {}\n\
         print_output_file_append: true\nprint_refresh_time: 86400\npmacctd_time_new: true\nsnaplen: 65535\n\
         timestamps_utc: true\naggregate: {key}\n{settings}",
        path.display(),
        rows.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut command = Command::new("pmacctd");
    command.arg("-f").arg(&configuration).env("LD_PRELOAD", without_free(scratch));
    let output = command.output().expect("this test needs pmacctd (Debian: pmacct)");
    let text = fs::read_to_string(&rows);
    sorted(&text.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// What pathflow writes of it.
fn lines(format: &str, key: &str, settings: &str, path: &Path, scratch: &Scratch) -> Vec<String> {
    let (configuration, rows) = (scratch.file("pathflow.toml"), scratch.file("pathflow.rows"));
    let _ = fs::remove_file(&rows);
    let key: Vec<&str> = key.split(',').collect();
    let text = format!(
        "{settings}[[aggregate]]\nname = \"test\"\nutc = true\nkey = {key:?}\n[aggregate.file]\npath = {:?}\n\
         format = {format:?}\n",
        rows.display().to_string()
    );
    fs::write(&configuration, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathflow"));
    let output = command.args(["replay", "-c"]).arg(&configuration).arg(path).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    sorted(&fs::read_to_string(&rows).unwrap_or_else(|error| panic!("{error}: {errors}")))
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Of which packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// All of them.
    All,
    /// Those that pmacctd 1.7.7 reads rightly. It does not if there are several labels: it finds no header of IPv4
    /// behind them, and of IPv6 another label at the bottom. In VXLAN over IPv6 it has no octets of UDP.
    ToPmacctd,
}

/// Packets in VXLAN, below labels, and neither: of both families, with several types of service and control bits.
fn packets(known: Known) -> Vec<Packet> {
    let inside = |tos: u8, protocol: u8, payload: &[u8]| {
        ethernet(IPV4, &Ipv4 { class_of_service: tos, ..Ipv4::new(protocol, payload) }.packet())
    };
    let frames_inside = [
        inside(0xb8, TCP, &tcp(1000, 0x12, 4)),
        inside(0, UDP, &ports(1001, 53, 20)),
        inside(4, ICMP, &icmp(8, 0)),
        inside(0x2e, 89, &[2; 24]),
        ethernet(IPV6, &ipv6(0x28, TCP, &tcp(1002, 0x19, 9))),
        ethernet(IPV6, &readdressed(&ipv6(0, UDP, &ports(1003, 443, 12)), 7)),
    ];
    let mut frames = Vec::new();
    for (identifier, inside) in (5000..).zip(&frames_inside) {
        let segment = vxlan(4789, identifier, inside);
        frames.push(Ipv4::new(UDP, &segment).frame());
        if known == Known::All {
            frames.push(ethernet(IPV6, &ipv6(0, UDP, &segment)));
        }
    }
    if known == Known::All {
        // No IP: ARP, and LLDP behind a tag.
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 20], &[0; 18]].concat();
        let lldp = [&[2, 7, 4, 2, 0, 0, 0, 0, 1][..], &[4, 2, 7, 1, 6, 2, 0, 120, 0, 0]].concat();
        for (identifier, inside) in
            [(16_777_215, ethernet(0x0806, &arp)), (6000, tagged(&[(CUSTOMER_TAG, 9)], 0x88cc, &lldp))]
        {
            frames.push(Ipv4::new(UDP, &vxlan(4789, identifier, &inside)).frame());
            frames.push(ethernet(IPV6, &ipv6(0, UDP, &vxlan(4789, identifier, &inside))));
        }
    }
    let stacks = [&[16][..], &[1_048_575], &[100, 200], &[1_048_575, 17, 18, 19, 20]];
    for labels in stacks.into_iter().take(if known == Known::All { 4 } else { 2 }) {
        frames.push(ethernet(MPLS, &labelled(labels, &Ipv4::new(UDP, &ports(7, 8, 11)).packet())));
        frames.push(ethernet(MPLS, &labelled(labels, &ipv6(3, TCP, &tcp(9, 2, 0)))));
    }
    let segment = tcp(5, 2, 0);
    let plain = Ipv4 { class_of_service: 0xb8, identification: 0x00ff, ..Ipv4::new(TCP, &segment) };
    frames.extend([plain.frame(), Ipv4::new(ICMP, &icmp(0, 0)).frame()]);
    frames.push(tagged(&[(CUSTOMER_TAG, 7)], IPV6, &ipv6(1, UDP, &ports(1, 2, 8))));
    whole("primitives", frames).packets
}

/// Also the titles, the order and the width of columns.
#[test]
fn rows_are_those_of_pmacctd_octet_for_octet() {
    let scratch = Scratch::new("primitives-octets");
    let path = scratch.file("frames.pcap");
    let packets = packets(Known::ToPmacctd);
    file::write(&path, &packets).unwrap();
    // pmacctd reads what follows the IP header only if ports are asked for.
    let key = "src_host,dst_host,src_port,dst_port,proto,tos,mpls_label_top,mpls_label_bottom,mpls_stack_depth,\
               tunnel_src_mac,tunnel_dst_mac,tunnel_src_host,tunnel_dst_host,tunnel_proto,tunnel_tos,tunnel_src_port,\
               tunnel_dst_port,vxlan,timestamp_arrival";
    // What pmacctd calls payload is that of the packet inside a tunnel, and ICMP without a header of its own.
    for own in [&EXAMPLE[..], &EACH[..7]] {
        let names: Vec<&str> = own.iter().map(|(name, ..)| *name).collect();
        let key = format!("{key},{}", names.join(","));
        for (format, theirs) in [
            ("json", "json"),
            ("csv", "csv"),
            ("formatted", "formatted"),
            ("event-csv", "event_csv"),
            ("event-formatted", "event_formatted"),
        ] {
            let ours = lines(format, &key, &as_toml(own), &path, &scratch);
            let theirs = lines_of_pmacctd(theirs, &key, &as_map(own, &scratch), &path, &scratch);
            let without = |some: &[String], others: &[String]| -> Vec<String> {
                some.iter().filter(|line| !others.contains(line)).take(2).cloned().collect()
            };
            assert_eq!(without(&ours, &theirs), without(&theirs, &ours), "{format}: ours, and theirs");
            assert_eq!(ours.len(), packets.len() + usize::from(format != "json"));
        }
    }
}

#[test]
fn tunnels_of_captures_are_those_of_pmacctd() {
    let scratch = Scratch::new("primitives-tunnels");
    let key = "src_host,src_port,dst_port,tunnel_src_mac,tunnel_dst_mac,tunnel_src_host,tunnel_dst_host,tunnel_proto,\
               tunnel_tos,tunnel_src_port,tunnel_dst_port,vxlan";
    let mut compared = 0;
    for capture in &corpus().captures {
        let Some(path) = capture.path.as_ref().filter(|_| is_of_vxlan(&capture.name)) else { continue };
        let parsed = |lines: Vec<String>| -> Vec<Value> {
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let ours = parsed(lines("json", key, "", path, &scratch));
        let theirs = parsed(lines_of_pmacctd("json", key, "", path, &scratch));
        assert!(!theirs.is_empty(), "{}", capture.name);
        assert_eq!(by_key(&ours), by_key(&theirs), "{}", capture.name);
        compared += 1;
    }
    say(&format!("primitives: {compared} captures with the tunnels of pmacctd"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || compared == 5, "{compared}");
}

/// Captures of whole VXLAN packets on its own port.
fn is_of_vxlan(name: &str) -> bool {
    name == "vxlan.pcap" || (name.starts_with("gso-") && name.contains("-vxlan-"))
}

#[test]
fn octets_of_captures_are_those_of_pmacctd() {
    let scratch = Scratch::new("primitives-own");
    let mut compared = 0;
    for capture in corpus().captures.iter().filter(|capture| PLAIN.contains(&capture.name.as_str())) {
        let path = capture.path.as_ref().unwrap();
        for own in [&EXAMPLE[..], &EACH] {
            let names: Vec<&str> = own.iter().map(|(name, ..)| *name).collect();
            let key = [&["src_host", "src_port", "proto"], &names[..]].concat();
            let (ours, _) = rows(&format!("key = {key:?}\n{}", as_toml(own)), path, &scratch);
            let settings = format!("pmacctd_time_new: true\n{}", as_map(own, &scratch));
            let theirs = rows_of_pmacctd(&key, &settings, path, &scratch);
            // Of a protocol that it does not know, what pmacctd calls payload is all of it: it has no header.
            let known = |rows: Vec<Value>| -> Vec<Value> {
                let is_known = |row: &Value| row["ip_proto"] == "tcp" || row["ip_proto"] == "udp";
                rows.into_iter().filter(|row| row.get("data").is_none() || is_known(row)).collect()
            };
            let (ours, theirs) = (by_key(&known(ours)), by_key(&known(theirs)));
            let differing: Vec<_> = ours.iter().filter(|(key, sum)| theirs.get(*key) != Some(sum)).collect();
            assert!(differing.is_empty(), "{} {key:?}: {differing:#?}\n{theirs:#?}", capture.name);
            assert_eq!(ours.len(), theirs.len());
            compared += 1;
        }
    }
    say(&format!("primitives: {compared} times the octets of pmacctd"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || compared == 2 * PLAIN.len());
}

/// The ports that tshark is told of.
const PORTS_OF_VXLAN: &str = "vxlan_ports = [4789, 8472]\n";

#[test]
fn flow_labels_are_those_of_tshark() {
    let scratch = Scratch::new("primitives-flow-label");
    let mut dissected = tshark::dissect("primitives-flow-label-tshark", corpus(), &["ipv6.flow"]).into_iter();
    let (mut compared, mut labelled) = (0, 0);
    for capture in &corpus().captures {
        let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in capture.ethernet() {
            let row = dissected.next().expect("a row for each packet");
            if Dissected::new(&row, View::Outer).expected(&mut [0; RULE_COUNT]).is_none() {
                continue;
            }
            let Some(layers) = row.layers(View::Outer) else { continue };
            let label = if layers.family == Family::Ipv6 { row.number("ipv6.flow", 0) } else { None };
            *expected.entry(label.unwrap_or(0)).or_default() += 1;
        }
        expected.remove(&0);
        let is_ethernet = capture.fault.is_none() && capture.packets.iter().all(Packet::is_ethernet);
        let Some(path) = capture.path.as_ref().filter(|_| is_ethernet && !expected.is_empty()) else {
            continue;
        };
        for beside in ["", ", \"mpls_label_stack\""] {
            let (rows, _) = rows(&format!("key = [\"flow_label\"{beside}]\n"), path, &scratch);
            let mut found: BTreeMap<u64, u64> = BTreeMap::new();
            for row in &rows {
                *found.entry(row["flow_label"].as_u64().unwrap()).or_default() +=
                    row["packets"].as_u64().unwrap();
            }
            found.remove(&0);
            assert_eq!(found, expected, "{}{beside}", capture.name);
        }
        compared += 1;
        labelled += expected.values().sum::<u64>();
    }
    say(&format!("primitives: flow labels of {labelled} packets in {compared} captures as tshark has them"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || compared > 0);
}

/// Flow records say nothing of flow labels, so an aggregate that asks for them does not split them.
#[test]
fn flow_records_are_not_told_apart_by_flow_label() {
    let scratch = Scratch::new("primitives-flow-label-records");
    let path = scratch.file("frames.pcap");
    let with_label = |label: u32| {
        let mut packet = ipv6(0, UDP, &ports(1, 2, 8));
        packet[..4].copy_from_slice(&(0x6000_0000 | label).to_be_bytes());
        ethernet(IPV6, &packet)
    };
    let frames = [0, 1, 0x8_0000, 0xf_ffff, 0xf_ffff].map(with_label);
    file::write(&path, &whole("flow-labels", frames.to_vec()).packets).unwrap();
    let (found, report) = rows("key = [\"src_port\", \"tos\", \"flow_label\"]\n", &path, &scratch);
    let found: Vec<[u64; 2]> =
        found.iter().map(|row| ["flow_label", "packets"].map(|name| row[name].as_u64().unwrap())).collect();
    let found: BTreeMap<u64, u64> = found.into_iter().map(|[label, packets]| (label, packets)).collect();
    assert_eq!(found, BTreeMap::from([(0, 1), (1, 1), (0x8_0000, 1), (0xf_ffff, 2)]));
    let made = report.lines().find(|line| line.starts_with("flow records made")).unwrap_or_default();
    assert!(made.contains(" 1 records"), "{report}");
}

/// Zeros that a packet has are not taken for nothing.
#[test]
fn raw_octets_that_are_zero_are_written() {
    let scratch = Scratch::new("primitives-raw");
    let path = scratch.file("frames.pcap");
    let frames = [&[0; 4][..], &[0; 3], &[0, 0, 0, 1]].map(|payload| {
        let header = [0, 1, 0, 2, 0, 8 + payload.len() as u8, 0, 0];
        Ipv4::new(UDP, &[&header, payload].concat()).frame()
    });
    file::write(&path, &whole("raw", frames.to_vec()).packets).unwrap();
    let own: [Own<'_>; 2] = [("data", &["payload:+0"], 4, "raw"), ("number", &["payload:+0"], 4, "u_int")];
    let (found, _) = rows(&format!("key = [\"data\", \"number\"]\n{}", as_toml(&own)), &path, &scratch);
    let mut found: Vec<[&str; 2]> =
        found.iter().map(|row| ["data", "number"].map(|name| row[name].as_str().unwrap())).collect();
    found.sort_unstable();
    assert_eq!(found, [["", "0"], ["00-00-00-00", "0"], ["00-00-00-01", "1"]]);
}

/// Packets by what `name` says in each of the keys.
fn packets_by(rows: &[Value], names: &[&str]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for row in rows {
        let text = |name: &&str| row[*name].as_str().unwrap_or_default().to_owned();
        let key = names.iter().map(text).collect::<Vec<_>>().join(" ");
        *found.entry(key).or_default() += row["packets"].as_u64().unwrap();
    }
    found
}

#[test]
fn labels_and_packets_inside_are_those_of_tshark() {
    let scratch = Scratch::new("primitives-tshark");
    let fields = ["mpls.label", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.flags"];
    let mut files = vec![("frames".to_owned(), scratch.file("frames.pcap"), packets(Known::All))];
    for capture in &corpus().captures {
        let is_ethernet = capture.fault.is_none() && capture.packets.iter().all(Packet::is_ethernet);
        if let Some(path) = capture.path.as_ref().filter(|_| is_ethernet) {
            files.push((capture.name.clone(), path.clone(), capture.packets.clone()));
        }
    }
    file::write(&files[0].1, &files[0].2).unwrap();
    let all = tshark::dissect_packets("primitives-all", files.iter().flat_map(|file| &file.2), &fields);
    let (mut dissected, mut stacks, mut insides, mut of_networks) = (all.iter(), 0, 0, 0);
    for (name, path, packets) in &files {
        let (mut labels, mut inside): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
        let mut networks: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in packets {
            let row = dissected.next().expect("a row for each packet");
            let Some(layers) = row.layers(View::Outer).filter(|_| !row.is_too_long()) else { continue };
            if let Some(identifier) = row.network_identifier() {
                *networks.entry(identifier).or_default() += 1;
            }
            let stack: Vec<&str> = row.all("mpls.label").take(layers.labels).collect();
            if !stack.is_empty() {
                *labels.entry(stack.join("_")).or_default() += 1;
            }
            let is_inside = ["vxlan:eth:ethertype:ip:", "vxlan:eth:ethertype:ipv6:"]
                .iter()
                .any(|protocols| format!("{}:", row.protocols).contains(protocols));
            if is_inside && (is_of_vxlan(name) || name == "frames") {
                // Those inside come last.
                let is_ipv4 = format!("{}:", row.protocols).contains("vxlan:eth:ethertype:ip:");
                let prefix = if is_ipv4 { "ip" } else { "ipv6" };
                let last = |field: &str| row.all(field).last().unwrap_or_default().to_owned();
                let flags = row.all("tcp.flags").last().and_then(tshark::number).unwrap_or(0);
                let names = [".src", ".dst"].map(|end| last(&format!("{prefix}{end}")));
                *inside.entry(format!("{} {} {flags}", names[0], names[1])).or_default() += 1;
            }
        }
        if !labels.is_empty() {
            let key = ["mpls_label_stack", "mpls_label_top", "mpls_label_bottom", "mpls_stack_depth"];
            let (found, _) = rows(&format!("key = {key:?}\n"), path, &scratch);
            for row in &found {
                let stack: Vec<&str> = row[key[0]].as_str().unwrap().split('_').collect();
                let [top, bottom, depth] = [key[1], key[2], key[3]].map(|name| row[name].as_u64().unwrap());
                let number = |label: Option<&&str>| label.map_or(0, |label| label.parse().unwrap_or(0));
                let count = if stack[0].is_empty() { 0 } else { stack.len() };
                assert_eq!((top, bottom, depth), (number(stack.first()), number(stack.last()), count as u64));
            }
            let mut found = packets_by(&found, &key[..1]);
            found.remove("");
            assert_eq!(found, labels, "{name}");
            stacks += labels.values().sum::<u64>();
        }
        if !networks.is_empty() {
            for tunnels in ["outer", "inner"] {
                let settings =
                    format!("key = [\"vxlan\"]\n[capture]\ntunnels = {tunnels:?}\n{PORTS_OF_VXLAN}");
                let (found, _) = rows(&settings, path, &scratch);
                let found =
                    found.iter().map(|row| ["vxlan", "packets"].map(|name| row[name].as_u64().unwrap()));
                let found: BTreeMap<u64, u64> = found.map(|[vxlan, packets]| (vxlan, packets)).collect();
                let found: BTreeMap<u64, u64> = found.into_iter().filter(|(vxlan, _)| *vxlan != 0).collect();
                assert_eq!(found, networks, "{name} {tunnels}");
            }
            of_networks += networks.values().sum::<u64>();
        }
        if !inside.is_empty() {
            let key = "key = [\"tunnel_src_host\", \"tunnel_dst_host\", \"tunnel_tcpflags\", \"tunnel_src_port\"]\n";
            let (found, _) = rows(key, path, &scratch);
            let mut found = packets_by(&found, &["tunnel_ip_src", "tunnel_ip_dst", "tunnel_tcp_flags"]);
            found.retain(|key, _| !key.starts_with(' '));
            assert_eq!(found, inside, "{name}");
            insides += inside.values().sum::<u64>();
        }
    }
    say(&format!(
        "primitives: {stacks} label stacks, {of_networks} packets in VXLAN and {insides} packets inside of others as tshark \
         has them"
    ));
    assert!(stacks >= 8 && insides >= 12 && of_networks >= 16, "{stacks} {insides} {of_networks}");
}

/// The outer packet has no control bits, those inside have them; rows of packets without a tunnel have none inside.
#[test]
fn control_bits_are_those_of_the_packet_that_has_them() {
    let scratch = Scratch::new("primitives-flags");
    let path = scratch.file("frames.pcap");
    file::write(&path, &packets(Known::All)).unwrap();
    let (rows, _) =
        rows("key = [\"proto\", \"tunnel_proto\", \"tcpflags\", \"tunnel_tcpflags\"]\n", &path, &scratch);
    let mut found: Vec<String> = rows
        .iter()
        .map(|row| {
            ["ip_proto", "tcp_flags", "tunnel_ip_proto", "tunnel_tcp_flags"]
                .map(|name| row[name].as_str().unwrap())
                .join(" ")
        })
        .collect();
    found.sort();
    let expected = [
        "icmp 0 0 0",
        "tcp 2 0 0",
        "udp 0 0 0",
        "udp 0 icmp 0",
        "udp 0 ospf 0",
        "udp 0 tcp 27",
        "udp 0 udp 0",
    ];
    assert_eq!(found, expected);
}
