//! Fields of the flow key against an independent dissection: tshark's.
//!
//! What tshark shows must be what is in the key. The reverse is not asked for: tshark stops early in packets
//! that contradict themselves, where pathflow accounts what it can read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Addresses, KEY_FLAG_LATER_FRAGMENT, WideKey};
use pathflow_common::parse::{MAX_EXTENSION_HEADERS, PacketFacts};

use crate::corpus::{Corpus, corpus};
use crate::host::{Fate, Host, View};
use crate::say;
use crate::tshark::{self, Family, Layers, Row, Tunnel};

const FIELDS: [&str; 30] = [
    "ieee8021ad.svid",
    "ieee8021ad.priority",
    "vlan.id",
    "vlan.priority",
    "ip.src",
    "ip.dst",
    "ip.dsfield",
    "ip.proto",
    "ip.id",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.tclass",
    "ipv6.flow",
    "ipv6.nxt",
    "ipv6.fraghdr.nxt",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.more",
    "ipv6.fraghdr.ident",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "udp.srcport",
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

/// Every field that tshark shows of the headers that count is in the key of an accounted packet.
#[test]
fn keys_equal_an_independent_dissection() {
    let corpus = corpus();
    let rows = tshark::dissect("keys", corpus, &FIELDS);
    let mut compared = keys_equal(corpus, &rows, View::Outer);
    say(&format!("tshark: fields equal on both sides, by number of packets: {compared:?}"));
    let inside = keys_equal(corpus, &rows, View::Inner);
    say(&format!("tshark: the same inside tunnels: {inside:?}"));
    for field in ["vxlan network identifier", "vxlan network identifier without a packet", "priority"] {
        compared.insert(field, inside[field]);
    }
    for field in [
        "addresses",
        "class of service",
        "tags",
        "priority",
        "label",
        "vxlan network identifier",
        "vxlan network identifier without a packet",
        "flow label",
        "protocol",
        "ports of the first fragment",
        "identification without a first fragment",
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

/// Compares every key. Returns how often each field was compared.
fn keys_equal(corpus: &Corpus, rows: &[Row], view: View) -> BTreeMap<&'static str, u64> {
    let mut rows = rows.iter();
    let mut compared: BTreeMap<&str, u64> = BTreeMap::new();
    let mut faults = Vec::new();
    for capture in &corpus.captures {
        let host = Host::new(view);
        let mut fragments = BTreeMap::new();
        for (number, packet) in (1..).zip(capture.ethernet()) {
            let row = rows.next().expect("a row for each packet");
            let frame = SliceFrame::captured(&packet.octets, packet.wire_length);
            let Fate::Flow { key, facts } = host.fate_at(&frame, 0, packet.time) else { continue };
            if view == View::Inner && row.is_too_long() {
                continue;
            }
            let Some(layers) = row.layers(view) else { continue };
            let mut check =
                Check { view, compared: &mut compared, faults: Vec::new(), fragments: &mut fragments };
            check.link(key, &layers, row);
            check.network(key, &layers, row);
            check.transport(key, facts, &layers, row, packet.time);
            for fault in check.faults {
                faults.push(format!("{view:?}, {} packet {number}: {fault}: {row:?}", capture.name));
            }
        }
    }
    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
    compared
}

/// What tells a datagram from others: family, addresses, identification, and the protocol in IPv4.
type Datagram<'a> = (Family, &'a str, &'a str, u64, u64);

/// What a first fragment said, by tshark.
#[derive(Clone, Copy)]
struct FirstFragment {
    time: u64,
    ports: Option<[u64; 2]>,
    protocol: u64,
}

/// For how long an identification is that of the same datagram, in nanoseconds.
const DATAGRAM_LIFETIME: u64 = 30_000_000_000;

/// Comparisons of one packet.
struct Check<'a, 'b> {
    view: View,
    compared: &'a mut BTreeMap<&'static str, u64>,
    faults: Vec<String>,
    fragments: &'a mut BTreeMap<Datagram<'b>, FirstFragment>,
}

impl<'b> Check<'_, 'b> {
    /// Compares one field, if tshark shows it.
    fn equal<T: Copy + PartialEq + Debug>(&mut self, field: &'static str, ours: T, theirs: Option<T>) {
        let Some(theirs) = theirs else { return };
        *self.compared.entry(field).or_default() += 1;
        if ours != theirs {
            self.faults.push(format!("{field}: pathflow {ours:?}, tshark {theirs:?}"));
        }
    }

    fn link(&mut self, key: WideKey, layers: &Layers<'_>, row: &Row) {
        let fields = key.fields();
        if !layers.tags.is_empty() {
            let ours = [fields.vlan_id, fields.customer_vlan_id].map(u64::from);
            self.equal("tags", ours, tags(layers, row));
            let theirs = priority(layers, row);
            let is_asked_for = self.view.settings().vlan_priority;
            let field = if is_asked_for && theirs > Some(0) { "priority" } else { "no priority" };
            let theirs = theirs.map(|theirs| if is_asked_for { theirs } else { 0 });
            self.equal(field, u64::from(fields.vlan_priority), theirs);
        }
        let label = (layers.labels > 0).then(|| row.number("mpls.label", 0)).flatten();
        self.equal("label", key.encapsulation().mpls_top_label().map(u64::from), Some(label));
        let identifier = row.network_identifier().filter(|_| self.view == View::Inner);
        let field = match identifier {
            None => "no network identifier",
            Some(_) if layers.tunnel == Some(Tunnel::Vxlan) => "vxlan network identifier",
            Some(_) => "vxlan network identifier without a packet",
        };
        let ours = u64::from(key.encapsulation().vxlan_network_identifier());
        self.equal(field, ours, Some(identifier.unwrap_or_default()));
    }

    fn network(&mut self, key: WideKey, layers: &Layers<'_>, row: &Row) {
        let [source, destination, class] = match layers.family {
            Family::Ipv4 => ["ip.src", "ip.dst", "ip.dsfield"],
            Family::Ipv6 => ["ipv6.src", "ipv6.dst", "ipv6.tclass"],
        };
        let address = |name: &str| row.all(name).nth(layers.nth).and_then(|text| text.parse::<IpAddr>().ok());
        let ours: [IpAddr; 2] = match key.addresses() {
            Addresses::Ipv4(source, destination) => [source.into(), destination.into()],
            Addresses::Ipv6(source, destination) => [source.into(), destination.into()],
        };
        let theirs =
            address(source).zip(address(destination)).map(|(source, destination)| [source, destination]);
        self.equal("addresses", ours, theirs);
        let fields = key.fields();
        self.equal("class of service", u64::from(fields.class_of_service), row.number(class, layers.nth));
        let label = (layers.family == Family::Ipv6).then(|| row.number("ipv6.flow", layers.nth)).flatten();
        let field = if label > Some(0) { "flow label" } else { "no flow label" };
        self.equal(field, u64::from(key.flow_label()), Some(label.unwrap_or_default()));
        let protocol = match layers.family {
            Family::Ipv4 => row.number("ip.proto", layers.nth),
            // With extension headers it is the last of them that names it.
            Family::Ipv6 if layers.upper.first().is_none_or(|upper| !EXTENSIONS.contains(upper)) => {
                row.number("ipv6.nxt", layers.nth)
            }
            Family::Ipv6 => None,
        };
        self.equal("protocol", u64::from(fields.protocol), protocol);
    }

    fn transport(&mut self, key: WideKey, facts: PacketFacts, layers: &Layers<'_>, row: &'b Row, time: u64) {
        let ours = ports_of(key);
        let extensions = layers.upper.iter().take_while(|upper| EXTENSIONS.contains(upper)).count();
        let extensions = if layers.family == Family::Ipv6 { extensions } else { 0 };
        let theirs = ports(layers, extensions, row);
        if let Some((datagram, offset)) = datagram(layers, row) {
            let protocol = u64::from(key.fields().protocol);
            if offset == 0 {
                // tshark is asked for nothing but ports here: what the key's protocol is was compared above.
                let ports = theirs.map(|(_, ports)| ports);
                self.fragments.insert(datagram, FirstFragment { time, ports, protocol });
            } else {
                return self.later_fragment(key, datagram, time);
            }
        }
        if extensions > MAX_EXTENSION_HEADERS {
            return self.equal("no ports behind too many extension headers", ours, Some([0, 0]));
        }
        if layers.family == Family::Ipv6 && facts.octets == 40 {
            // A payload length of 0 that is no jumbogram's: what follows is not the packet's.
            return self.equal("no ports beyond the packet", ours, Some([0, 0]));
        }
        let Some((field, theirs)) = theirs else { return };
        self.equal(field, ours, Some(theirs));
        if field == "tcp" {
            self.equal("tcp control bits", u64::from(facts.tcp_control_bits), row.number("tcp.flags", 0));
        }
    }

    fn later_fragment(&mut self, key: WideKey, datagram: Datagram<'b>, time: u64) {
        let is_unknown = key.fields().flags & KEY_FLAG_LATER_FRAGMENT != 0;
        let first = self.fragments.get(&datagram).copied();
        if let Some(first) = first.filter(|first| first.time.saturating_add(DATAGRAM_LIFETIME) >= time) {
            self.equal("a first fragment", is_unknown, Some(false));
            self.equal("ports of the first fragment", ports_of(key), first.ports);
            let ours = u64::from(key.fields().protocol);
            self.equal("protocol of the first fragment", ours, Some(first.protocol));
        } else {
            self.equal("no first fragment", is_unknown, Some(true));
            let identification = u64::from(u32::from_ne_bytes(key.fields().ports));
            self.equal("identification without a first fragment", identification, Some(datagram.3));
        }
    }
}

fn ports_of(key: WideKey) -> [u64; 2] {
    let [s0, s1, d0, d1] = key.fields().ports;
    [[s0, s1], [d0, d1]].map(|port| u64::from(u16::from_be_bytes(port)))
}

/// Which datagram a fragment is of and its offset, if the packet is a fragment.
fn datagram<'a>(layers: &Layers<'_>, row: &'a Row) -> Option<(Datagram<'a>, u64)> {
    let number = |name: &str, nth: usize| row.number(name, nth);
    let address = |name: &str| row.all(name).nth(layers.nth);
    let nth = layers.nth;
    match layers.family {
        Family::Ipv4 => {
            let (more, offset) = (number("ip.flags.mf", nth)?, number("ip.frag_offset", nth)?);
            let (source, destination) = (address("ip.src")?, address("ip.dst")?);
            let (identification, protocol) = (number("ip.id", nth)?, number("ip.proto", nth)?);
            (more + offset > 0)
                .then_some(((Family::Ipv4, source, destination, identification, protocol), offset))
        }
        Family::Ipv6 => {
            let place = layers.upper.iter().position(|upper| *upper == "ipv6.fraghdr")?;
            if place > MAX_EXTENSION_HEADERS {
                return None;
            }
            let (more, offset) = (number("ipv6.fraghdr.more", 0)?, number("ipv6.fraghdr.offset", 0)?);
            let (source, destination) = (address("ipv6.src")?, address("ipv6.dst")?);
            let identification = number("ipv6.fraghdr.ident", 0)?;
            (more + offset > 0).then_some(((Family::Ipv6, source, destination, identification, 0), offset))
        }
    }
}

/// Ports as tshark shows them, and of what. ICMP: 0, type and code.
fn ports(layers: &Layers<'_>, extensions: usize, row: &Row) -> Option<(&'static str, [u64; 2])> {
    let upper = *layers.upper.get(extensions)?;
    let nth = if upper == "udp" { layers.udp_before } else { 0 };
    let pair =
        |source: &str, destination: &str| Some([row.number(source, nth)?, row.number(destination, nth)?]);
    let message = |kind: &str, code: &str| {
        let [kind, code] = pair(kind, code)?;
        Some([0, kind << 8 | code])
    };
    let (field, ports) = match upper {
        "tcp" => ("tcp", pair("tcp.srcport", "tcp.dstport")),
        "udp" | "udplite" => ("udp", pair("udp.srcport", "udp.dstport")),
        "sctp" => ("sctp", pair("sctp.srcport", "sctp.dstport")),
        "dccp" => ("dccp", pair("dccp.srcport", "dccp.dstport")),
        "icmp" => ("icmp", message("icmp.type", "icmp.code")),
        "icmpv6" => ("icmpv6", message("icmpv6.type", "icmpv6.code")),
        _ => return None,
    };
    Some((field, ports?))
}

/// Priority of the outer tag.
fn priority(layers: &Layers<'_>, row: &Row) -> Option<u64> {
    match *layers.tags.first()? {
        "vlan" => row.number("vlan.priority", layers.tags_before),
        _ => row.number("ieee8021ad.priority", 0),
    }
}

/// Identifiers of the outer and the inner tag, 0 for none; `None` if tshark's cannot be told apart.
fn tags(layers: &Layers<'_>, row: &Row) -> Option<[u64; 2]> {
    let mut customer = row.all("vlan.id").filter_map(tshark::number).skip(layers.tags_before);
    let mut single = row.all("ieee8021ad.id").filter_map(tshark::number);
    let [outer, inner] = ["ieee8021ad.svid", "ieee8021ad.cvid"].map(|name| row.number(name, 0));
    let mut double = outer.into_iter().chain(inner);
    let is_double = inner.is_some();
    let mut identifiers = [0; 2];
    for (identifier, tag) in identifiers.iter_mut().zip(&layers.tags) {
        *identifier = match *tag {
            "vlan" => customer.next(),
            _ if is_double => double.next(),
            _ => single.next(),
        }?;
    }
    Some(identifiers)
}
