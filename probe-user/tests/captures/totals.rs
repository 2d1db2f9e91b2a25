//! Packets and octets of IPv4 and IPv6 against an independent count: tshark's.
//!
//! What tshark says of each packet is compared with what the parser says of it. Where the two mean
//! different things by design, one of [`RULES`] says so.

use std::collections::BTreeMap;
use std::process::Command;

use pathflow_common::bytes::SliceFrame;

use crate::corpus::{Corpus, corpus};
use crate::host::{Fate, Host, View};
use crate::say;
use crate::tshark::{self, Family, Row};

/// What a packet adds: IP packets have a family and octets, others nothing.
pub(crate) type Added = Option<(Family, u64)>;

/// Number of [`RULES`].
pub(crate) const RULE_COUNT: usize = 5;

/// What tshark found in a packet.
#[derive(Debug, Default)]
pub(crate) struct Dissected {
    wire_length: u64,
    captured: u64,
    /// The network layer and where it starts.
    network_layer: Option<(Family, u64)>,
    header_length: Option<u64>,
    total_length: Option<u64>,
    payload_length: Option<u64>,
}

impl Dissected {
    pub(crate) fn new(row: &Row, view: View) -> Self {
        let layers = row.layers(view);
        let nth = layers.as_ref().map_or(0, |layers| layers.nth);
        Self {
            wire_length: row.wire_length,
            captured: row.captured,
            network_layer: layers.map(|layers| (layers.family, layers.offset)),
            header_length: row.number("ip.hdr_len", nth),
            total_length: row.number("ip.len", nth),
            payload_length: row.number("ipv6.plen", nth),
        }
    }

    /// Octets by the length field of the network layer.
    fn amount(&self) -> Added {
        match self.network_layer? {
            (Family::Ipv4, _) => Some((Family::Ipv4, self.total_length?)),
            (Family::Ipv6, _) => Some((Family::Ipv6, self.payload_length? + 40)),
        }
    }
}

impl Dissected {
    /// What pathflow is to count.
    pub(crate) fn expected(&self, used: &mut [u64; RULE_COUNT]) -> Added {
        let plain = self.amount();
        for (rule, used) in RULES.iter().zip(used) {
            if let Some(amount) = (rule.amount)(self) {
                *used += u64::from(amount != plain);
                return amount;
            }
        }
        plain
    }
}

/// Why pathflow's count of a packet is another one than tshark's.
struct Rule {
    reason: &'static str,
    /// What pathflow is to count, if the rule is about this packet.
    amount: fn(&Dissected) -> Option<Added>,
}

const RULES: [Rule; RULE_COUNT] = [
    Rule {
        reason: "an IPv4 total length below the header length contradicts itself: malformed",
        amount: |packet| {
            let (Family::Ipv4, offset) = packet.network_layer? else { return None };
            let is_long = packet.total_length? == 0 && packet.wire_length - offset > 65_535;
            (!is_long && packet.total_length? < packet.header_length?).then_some(None)
        },
    },
    Rule {
        reason: "an IPv4 total length of 0 in a packet longer than the field can say (BIG TCP) means its length",
        amount: |packet| {
            let (Family::Ipv4, offset) = packet.network_layer? else { return None };
            let available = packet.wire_length - offset;
            (packet.total_length? == 0 && available > 65_535).then_some(Some((Family::Ipv4, available)))
        },
    },
    Rule {
        reason: "an IPv6 payload length of 0 in a packet longer than the field can say (jumbogram) means its length",
        amount: |packet| {
            let (Family::Ipv6, offset) = packet.network_layer? else { return None };
            let available = packet.wire_length - offset;
            (packet.payload_length? == 0 && available > 65_575).then_some(Some((Family::Ipv6, available)))
        },
    },
    Rule {
        reason: "an IP header that is not wholly there is truncated, even if the length field can be read",
        amount: |packet| {
            let (family, offset) = packet.network_layer?;
            let header = if family == Family::Ipv4 { 20 } else { 40 };
            (packet.captured < offset + header).then_some(None)
        },
    },
    Rule {
        reason: "a length of more than the frame had for the packet counts what the frame had",
        amount: |packet| {
            let (family, offset) = packet.network_layer?;
            let available = packet.wire_length - offset;
            (packet.amount()?.1 > available).then_some(Some((family, available)))
        },
    },
];

/// Packet by packet, the octets that the parser accounts are those of the outermost IP header as tshark
/// reads it, or on request of the one inside a tunnel.
#[test]
fn totals_equal_an_independent_count() {
    let corpus = corpus();
    let rows = tshark::dissect("totals", corpus, &[]);
    for view in [View::Outer, View::Inner] {
        totals_equal(corpus, &rows, view);
    }
}

fn totals_equal(corpus: &Corpus, rows: &[Row], view: View) {
    let mut rows = rows.iter();

    let mut used = [0_u64; RULE_COUNT];
    let mut sums: BTreeMap<Family, (u64, u64)> = BTreeMap::new();
    let mut packets = 0;
    let mut faults = Vec::new();
    for capture in &corpus.captures {
        let mut mismatches = Vec::new();
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        for (number, packet) in (1..).zip(capture.ethernet()) {
            packets += 1;
            let row = rows.next().expect("a row for each packet");
            if view == View::Inner && row.is_too_long() {
                continue;
            }
            let dissected = Dissected::new(row, view);
            assert_eq!(dissected.captured, packet.octets.len() as u64, "{row:?}");
            let expected = dissected.expected(&mut used);
            let accounted =
                accounted(Host::new(view).fate(&SliceFrame::captured(&packet.octets, packet.wire_length)));
            add(&mut ours, accounted);
            add(&mut theirs, expected);
            if accounted != expected {
                mismatches
                    .push(format!("  packet {number}: pathflow {accounted:?}, tshark {expected:?}: {row:?}"));
            }
        }
        for (family, (packets, octets)) in &ours {
            let sum = sums.entry(*family).or_default();
            *sum = (sum.0 + packets, sum.1 + octets);
        }
        if ours != theirs || !mismatches.is_empty() {
            faults.push(format!("{}: pathflow {ours:?}, tshark {theirs:?}", capture.name));
            faults.append(&mut mismatches);
        }
    }
    assert!(faults.is_empty(), "{} lines of differences:\n{}", faults.len(), faults.join("\n"));
    assert!(rows.next().is_none(), "tshark knows of more packets");
    let captures = corpus.captures.iter().filter(|capture| capture.ethernet().next().is_some()).count();
    corpus.check_processed(captures, packets);
    say(&format!(
        "tshark ({view:?}): {captures} captures, {packets} packets, of them (packets, octets) {sums:?} equal on both sides"
    ));
    for (rule, used) in RULES.iter().zip(used) {
        say(&format!("  {used} by the rule: {}", rule.reason));
        // Few of the odd packets are in tunnels.
        assert!(used > 0 || view == View::Inner, "no packet needs the rule: {}", rule.reason);
    }
}

fn accounted(fate: Fate) -> Added {
    let Fate::Flow { key, facts } = fate else { return None };
    let family = match key.addresses() {
        pathflow_common::flow::Addresses::Ipv4(..) => Family::Ipv4,
        pathflow_common::flow::Addresses::Ipv6(..) => Family::Ipv6,
    };
    Some((family, u64::from(facts.octets)))
}

fn add(sums: &mut BTreeMap<Family, (u64, u64)>, amount: Added) {
    if let Some((family, octets)) = amount {
        let sum = sums.entry(family).or_default();
        *sum = (sum.0 + 1, sum.1 + octets);
    }
}

/// The files of the directory are read completely: as many packets, with as many octets on the wire, as
/// capinfos finds in them.
#[test]
fn files_hold_what_capinfos_finds_in_them() {
    let corpus = corpus();
    let captures: Vec<_> = corpus.captures.iter().filter(|capture| capture.path.is_some()).collect();
    if captures.is_empty() {
        return say("capinfos: no files to compare with");
    }
    let mut command = Command::new("capinfos");
    command.args(["-T", "-r", "-B", "-c", "-d"]);
    command.args(captures.iter().filter_map(|capture| capture.path.as_ref()));
    let output = command.output().expect("this test needs capinfos");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = BTreeMap::new();
    for line in text.lines() {
        if let [name, packets, octets] = line.split('\t').collect::<Vec<_>>()[..] {
            found.insert(name.to_owned(), (packets.parse().ok(), octets.parse().ok()));
        }
    }
    for capture in captures {
        let path = capture.path.as_ref().expect("a file").display().to_string();
        let octets: u64 = capture.packets.iter().map(|packet| u64::from(packet.wire_length)).sum();
        let read = (Some(capture.packets.len()), Some(octets));
        match found.get(&path) {
            Some(counted) => assert_eq!(*counted, read, "{path}"),
            // Then neither may hold anything that capinfos could have counted.
            None => assert!(capture.fault.is_some(), "{path}: capinfos does not know it"),
        }
    }
}
