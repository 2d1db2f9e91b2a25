//! Filters of aggregates against tcpdump: `pathflow replay` adds up the packets that tcpdump selects, each of them.
//!
//! Every packet has a second of its own, and aggregates have bins of a second: a row is a packet. Which packets are
//! accounted at all is tshark's to say, by the rules of [`crate::totals`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use pathflow_common::flow::FILTER_RESULTS;
use serde_json::Value;

use crate::file::{self, Packet};
use crate::filter::{EXPRESSIONS, chosen_by_tcpdump, packets};
use crate::host::View;
use crate::say;
use crate::scratch::Scratch;
use crate::totals::{Dissected, RULE_COUNT};
use crate::tshark;

/// Time of the first packet, seconds since 1970: a midnight.
const START: u64 = 1_700_006_400;
/// `LINKTYPE_RAW`, `_NULL`, `_LINUX_SLL` and `_LINUX_SLL2`, with the octets before the network header.
const OTHER_LINKS: [(u32, usize); 4] = [(101, 0), (0, 4), (113, 16), (276, 20)];
/// Words by which an expression asks for more than the network packet.
const OF_THE_LINK: [&str; 9] =
    ["ether", "vlan", "mpls", "pppoes", "len", "greater", "less", "arp", "multicast"];

/// Octets of packets, by their number.
type Octets = BTreeMap<u64, u64>;

/// What `pathflow replay` has in the aggregate of each expression, and in one that has no filter.
fn aggregated(scratch: &Scratch, path: &Path, expressions: &[&str]) -> (Vec<Octets>, Octets) {
    let outputs: Vec<_> =
        (0..=expressions.len()).map(|number| scratch.file(&format!("{number}.json"))).collect();
    let filters = expressions.iter().copied().chain([""]);
    let table = |(number, (filter, output)): (usize, (&str, &std::path::PathBuf))| {
        // As a literal string: filters have backslashes.
        format!(
            "[[aggregate]]\nname = \"a{number}\"\nkey = []\nfilter = '{filter}'\nhistory = \"1s\"\nrefresh = \"24h\"\n\
             utc = true\n[aggregate.format]\ntimestamps = \"epoch\"\n[aggregate.file]\npath = \"{}\"\nappend = true\n",
            output.display()
        )
    };
    let settings: String = filters.zip(&outputs).enumerate().map(table).collect();
    let configuration = scratch.file("pathflow.toml");
    fs::write(&configuration, settings).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathflow"));
    let output = command.args(["replay", "-c"]).arg(&configuration).arg(path).output().unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{expressions:?}: {report}");
    assert!(report.contains("ledger: every packet and every record is accounted for"), "{report}");
    let mut read = outputs.iter().map(|path| {
        // An aggregate without rows makes no file.
        let text = fs::read_to_string(path).unwrap_or_default();
        _ = fs::remove_file(path);
        text.lines().map(row).collect::<Octets>()
    });
    let of_each = read.by_ref().take(expressions.len()).collect();
    (of_each, read.next().unwrap())
}

/// Number and octets of a packet.
fn row(line: &str) -> (u64, u64) {
    let row: Value = serde_json::from_str(line).unwrap();
    assert_eq!(row["packets"], 1, "{line}");
    let time: u64 = row["stamp_inserted"].as_str().unwrap().parse().unwrap();
    (time - START, row["bytes"].as_u64().unwrap())
}

/// The packets with times by their numbers.
fn numbered(packets: impl IntoIterator<Item = Packet>) -> Vec<Packet> {
    let packets = (0..).zip(packets);
    packets.map(|(number, packet)| Packet { time: (START + number) * 1_000_000_000, ..packet }).collect()
}

/// Octets that tshark finds in the packets that are accounted, by their numbers.
fn accounted(test: &str, packets: &[Packet]) -> Octets {
    let rows = tshark::dissect_packets(test, packets, &[]);
    assert_eq!(rows.len(), packets.len());
    let octets =
        |row| Dissected::new(row, View::Outer).expected(&mut [0; RULE_COUNT]).map(|(_, octets)| octets);
    (0..).zip(&rows).filter_map(|(number, row)| Some((number, octets(row)?))).collect()
}

/// Compares for every expression; says how many packets each one selected.
fn compare(link: &str, packets: &[Packet], expressions: &[&str], accounted: &Octets) -> Vec<usize> {
    let scratch = Scratch::new(&format!("aggregate-filter-{link}"));
    let path = scratch.file("all.pcap");
    file::write(&path, packets).unwrap();
    let mut selected = Vec::new();
    for some in expressions.chunks(FILTER_RESULTS) {
        let (of_each, all) = aggregated(&scratch, &path, some);
        assert_differ_in_nothing(&format!("{link}, no filter"), &all, accounted, packets);
        for (expression, found) in some.iter().zip(of_each) {
            let chosen: BTreeSet<u64> = chosen_by_tcpdump(&path, expression)
                .into_iter()
                .map(|time| time / 1_000_000 - START)
                .collect();
            let of_chosen = accounted.iter().filter(|(number, _)| chosen.contains(number));
            let expected: Octets = of_chosen.map(|(number, octets)| (*number, *octets)).collect();
            assert_differ_in_nothing(&format!("{link}, {expression}"), &found, &expected, packets);
            selected.push(found.len());
        }
    }
    selected
}

fn assert_differ_in_nothing(what: &str, found: &Octets, expected: &Octets, packets: &[Packet]) {
    let differs = |number: &&u64| found.get(number) != expected.get(number);
    let numbers: BTreeSet<&u64> = found.keys().chain(expected.keys()).filter(differs).collect();
    let shown: Vec<String> = numbers
        .iter()
        .take(5)
        .map(|number| {
            let (here, there) = (found.get(number), expected.get(number));
            format!("packet {number}: octets {here:?}, to be {there:?}: {:02x?}", packets[**number as usize])
        })
        .collect();
    assert!(numbers.is_empty(), "{what}: {} packets differ:\n{}", numbers.len(), shown.join("\n"));
}

/// Says what was compared; every expression is to mean something.
fn report(link: &str, accounted: &Octets, selected: &[usize]) {
    let of_some = selected.iter().filter(|count| (1..accounted.len()).contains(*count)).count();
    say(&format!(
        "aggregates: {} filters over {} packets ({link}): {} selected as tcpdump does, {of_some} of the filters select some",
        selected.len(),
        accounted.len(),
        selected.iter().sum::<usize>()
    ));
}

#[test]
fn aggregates_with_filters_have_the_packets_that_tcpdump_selects() {
    let packets = numbered(packets());
    let accounted = accounted("aggregate-filter", &packets);
    let selected = compare("Ethernet", &packets, &EXPRESSIONS, &accounted);
    report("Ethernet", &accounted, &selected);
    // Frames that have no IP packet are in no aggregate, so a filter for them selects none.
    let of_some = selected.iter().filter(|count| (1..accounted.len()).contains(*count)).count();
    assert!(of_some >= 55, "{of_some} filters select some");
}

/// Packets without an Ethernet header: the filter is asked of the same packet, in a frame that has none.
#[test]
fn packets_of_other_links_are_selected_as_tcpdump_does() {
    let expressions: Vec<&str> = EXPRESSIONS
        .into_iter()
        .filter(|expression| OF_THE_LINK.iter().all(|word| !expression.contains(word)))
        .collect();
    assert!(expressions.len() >= 30, "{expressions:?}");
    let ethernet = packets();
    let (plain, octets): (Vec<&Packet>, Vec<u64>) = accounted("aggregate-filter-links", &ethernet)
        .into_iter()
        .map(|(number, octets)| (&ethernet[number as usize], octets))
        .filter(|(packet, _)| is_plain(&packet.octets))
        .unzip();
    let octets: Octets = (0..).zip(octets).collect();
    for (position, (link, header)) in OTHER_LINKS.into_iter().enumerate() {
        // All for the first one; then, in one run each, others for every link.
        let expressions: Vec<&str> = match position {
            0 => expressions.clone(),
            _ => expressions
                .iter()
                .copied()
                .skip(position)
                .step_by(expressions.len().div_ceil(FILTER_RESULTS))
                .collect(),
        };
        let packets = numbered(plain.iter().map(|packet| relinked(packet, link, header)));
        let selected = compare(&format!("link type {link}"), &packets, &expressions, &octets);
        report(&format!("link type {link}"), &octets, &selected);
        assert!(selected.iter().all(|count| *count != 0), "{expressions:?}: {selected:?}");
    }
}

/// Whether the network packet follows upon the Ethernet header, and is of the version that its type says.
fn is_plain(octets: &[u8]) -> bool {
    matches!(octets.get(12..15), Some([0x08, 0x00, version]) if version >> 4 == 4)
        || matches!(octets.get(12..15), Some([0x86, 0xdd, version]) if version >> 4 == 6)
}

/// The packet with another header before the network packet, of so many octets.
fn relinked(packet: &Packet, link_type: u32, header: usize) -> Packet {
    let mut octets = vec![0; header];
    let ether_type = &packet.octets[12..14];
    match link_type {
        // Each system has its own number of IPv6; this is one that tcpdump knows.
        0 => octets.copy_from_slice(&u32::to_le_bytes(if ether_type == [0x08, 0x00] { 2 } else { 24 })),
        113 => octets[14..].copy_from_slice(ether_type),
        276 => octets[..2].copy_from_slice(ether_type),
        _ => {}
    }
    octets.extend(&packet.octets[14..]);
    let wire_length = packet.wire_length - 14 + header as u32;
    Packet { link_type, octets, wire_length, time: packet.time }
}
