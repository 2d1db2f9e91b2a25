//! Fields of the flow key against an independent dissection: tshark's.
//!
//! What tshark shows must be what is in the key. The reverse is not asked for: tshark stops early in packets
//! that contradict themselves, where pathflow accounts what it can read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Addresses, Ipv6Key};
use pathflow_common::parse::{MAX_EXTENSION_HEADERS, PacketFacts};

use crate::corpus::corpus;
use crate::host::{Fate, fate};
use crate::say;
use crate::tshark::{self, Family, Layers, Row};

const FIELDS: [&str; 27] = [
    "ieee8021ad.id",
    "ieee8021ad.svid",
    "ieee8021ad.cvid",
    "vlan.id",
    "ip.src",
    "ip.dst",
    "ip.dsfield",
    "ip.proto",
    "ip.frag_offset",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.tclass",
    "ipv6.nxt",
    "ipv6.fraghdr.offset",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "dccp.srcport",
    "dccp.dstport",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
];

/// Extension headers as tshark names them. It shows the last one last.
const EXTENSIONS: [&str; 6] = ["ipv6.hopopts", "ipv6.routing", "ipv6.fraghdr", "ipv6.dstopts", "ah", "mipv6"];

/// Every field that tshark shows of the outermost headers of an accounted packet is in its key.
#[test]
fn keys_equal_an_independent_dissection() {
    let corpus = corpus();
    let mut rows = tshark::dissect("keys", corpus, &FIELDS).into_iter();
    let mut compared: BTreeMap<&str, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    for capture in &corpus.captures {
        for (number, packet) in (1..).zip(capture.ethernet()) {
            let row = rows.next().expect("a row for each packet");
            let Fate::Flow { key, facts } = fate(&SliceFrame::captured(&packet.octets, packet.wire_length))
            else {
                continue;
            };
            let Some(layers) = row.layers() else { continue };
            let mut check = Check { compared: &mut compared, faults: Vec::new() };
            check.network(key, &layers, &row);
            check.transport(key, facts, &layers, &row);
            for fault in check.faults {
                faults.push(format!("{} packet {number}: {fault}: {row:?}", capture.name));
            }
        }
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
    say(&format!("tshark: fields equal on both sides, by number of packets: {compared:?}"));
    for field in [
        "addresses",
        "class of service",
        "tags",
        "protocol",
        "no ports in a later fragment",
        "no ports behind too many extension headers",
        "tcp",
        "tcp control bits",
        "udp",
        "sctp",
        "dccp",
        "icmp",
        "icmpv6",
    ] {
        assert!(compared.get(field).is_some_and(|packets| *packets >= 2), "{field}: {compared:?}");
    }
}

/// Comparisons of one packet.
struct Check<'a> {
    compared: &'a mut BTreeMap<&'static str, u64>,
    faults: Vec<String>,
}

impl Check<'_> {
    /// Compares one field, if tshark shows it.
    fn equal<T: Copy + PartialEq + Debug>(&mut self, field: &'static str, ours: T, theirs: Option<T>) {
        let Some(theirs) = theirs else { return };
        *self.compared.entry(field).or_default() += 1;
        if ours != theirs {
            self.faults.push(format!("{field}: pathflow {ours:?}, tshark {theirs:?}"));
        }
    }

    fn network(&mut self, key: Ipv6Key, layers: &Layers<'_>, row: &Row) {
        let fields = key.fields();
        let [source, destination, class] = match layers.family {
            Family::Ipv4 => ["ip.src", "ip.dst", "ip.dsfield"],
            Family::Ipv6 => ["ipv6.src", "ipv6.dst", "ipv6.tclass"],
        };
        let address = |name: &str| row.first(name).and_then(|text| text.parse::<IpAddr>().ok());
        let ours: [IpAddr; 2] = match key.addresses() {
            Addresses::Ipv4(source, destination) => [source.into(), destination.into()],
            Addresses::Ipv6(source, destination) => [source.into(), destination.into()],
        };
        let theirs =
            address(source).zip(address(destination)).map(|(source, destination)| [source, destination]);
        self.equal("addresses", ours, theirs);
        self.equal("class of service", u64::from(fields.class_of_service), row.number(class));
        let [outer, inner] = tags(layers, row);
        if !layers.tags.is_empty() {
            self.equal(
                "tags",
                [fields.vlan_id, fields.customer_vlan_id].map(u64::from),
                Some([outer, inner]),
            );
        }
        let protocol = match layers.family {
            Family::Ipv4 => row.number("ip.proto"),
            // With extension headers it is the last of them that names it.
            Family::Ipv6 if layers.upper.first().is_none_or(|upper| !EXTENSIONS.contains(upper)) => {
                row.number("ipv6.nxt")
            }
            Family::Ipv6 => None,
        };
        self.equal("protocol", u64::from(fields.protocol), protocol);
    }

    fn transport(&mut self, key: Ipv6Key, facts: PacketFacts, layers: &Layers<'_>, row: &Row) {
        let [s0, s1, d0, d1] = key.fields().ports;
        let ports = [[s0, s1], [d0, d1]].map(|port| u64::from(u16::from_be_bytes(port)));
        let offset = match layers.family {
            Family::Ipv4 => row.number("ip.frag_offset"),
            Family::Ipv6 if layers.upper.contains(&"ipv6.fraghdr") => row.number("ipv6.fraghdr.offset"),
            Family::Ipv6 => None,
        };
        if offset.is_some_and(|offset| offset != 0) {
            return self.equal("no ports in a later fragment", ports, Some([0, 0]));
        }
        let extensions = layers.upper.iter().take_while(|upper| EXTENSIONS.contains(upper)).count();
        let extensions = if layers.family == Family::Ipv6 { extensions } else { 0 };
        if extensions > MAX_EXTENSION_HEADERS {
            return self.equal("no ports behind too many extension headers", ports, Some([0, 0]));
        }
        if layers.family == Family::Ipv6 && facts.octets == 40 {
            // A payload length of 0 that is no jumbogram's: what follows is not the packet's.
            return self.equal("no ports beyond the packet", ports, Some([0, 0]));
        }
        let Some(upper) = layers.upper.get(extensions) else { return };
        let pair = |source: &str, destination: &str| row.number(source).zip(row.number(destination));
        let (field, theirs) = match *upper {
            "tcp" => ("tcp", pair("tcp.srcport", "tcp.dstport")),
            "udp" | "udplite" => ("udp", pair("udp.srcport", "udp.dstport")),
            "sctp" => ("sctp", pair("sctp.srcport", "sctp.dstport")),
            "dccp" => ("dccp", pair("dccp.srcport", "dccp.dstport")),
            "icmp" => ("icmp", pair("icmp.type", "icmp.code").map(|(kind, code)| (0, kind << 8 | code))),
            "icmpv6" => {
                ("icmpv6", pair("icmpv6.type", "icmpv6.code").map(|(kind, code)| (0, kind << 8 | code)))
            }
            _ => return,
        };
        self.equal(field, ports, theirs.map(|(source, destination)| [source, destination]));
        if field == "tcp" {
            self.equal("tcp control bits", u64::from(facts.tcp_control_bits), row.number("tcp.flags"));
        }
    }
}

/// Identifiers of the outer and the inner tag, 0 for none.
fn tags(layers: &Layers<'_>, row: &Row) -> [u64; 2] {
    let customer: Vec<u64> = row.all("vlan.id").filter_map(tshark::number).collect();
    let single = row.number("ieee8021ad.id").unwrap_or_default();
    let double = ["ieee8021ad.svid", "ieee8021ad.cvid"].map(|name| row.number(name).unwrap_or_default());
    let at = |position: usize| customer.get(position).copied().unwrap_or_default();
    match layers.tags[..] {
        ["vlan", "vlan"] => [at(0), at(1)],
        ["vlan", _] => [at(0), single],
        ["vlan"] => [at(0), 0],
        ["ieee8021ad", "vlan"] => [single, at(0)],
        ["ieee8021ad", _] => double,
        ["ieee8021ad"] => [single, 0],
        _ => [0, 0],
    }
}
