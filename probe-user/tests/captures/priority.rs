//! Priorities of VLAN tags, which flows are told apart by only if an aggregate asks for them: against tshark and
//! against pmacctd.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::aggregate::{by_key, rows, rows_of_pmacctd, side_by_side, sum_of};
use crate::corpus::{Capture, corpus};
use crate::file;
use crate::frames::{CUSTOMER_TAG, IPV4, Ipv4, UDP, ports, tagged};
use crate::host::View;
use crate::own::whole;
use crate::say;
use crate::scratch::Scratch;
use crate::totals::{Dissected, RULE_COUNT};
use crate::tshark;

/// Captures of IP packets with a priority.
const WITH_PRIORITY: &[&str] = &[
    "bfd_source_port_49152.pcap",
    "bgp-encap.pcap",
    "bgp-evpn.pcap",
    "ripv2-invalid-length.pcap",
    "rsvp_cap.pcap",
];

const KEY: &[&str] = &["vlan", "cos", "src_host", "dst_host", "proto"];

fn settings(key: &[&str]) -> String {
    format!("key = {key:?}")
}

/// Packets by VLAN identifier and priority of the outer tag.
type Priorities = BTreeMap<(u64, u64), u64>;

fn priorities(rows: &[Value]) -> Priorities {
    let mut found = Priorities::new();
    for row in rows {
        let number = |name: &str| row[name].as_u64().unwrap();
        *found.entry((number("vlan"), number("cos"))).or_default() += number("packets");
    }
    found
}

#[test]
fn priorities_of_captures_are_those_of_tshark_and_of_pmacctd() {
    let scratch = Scratch::new("priority");
    let corpus = corpus();
    let dissected = tshark::dissect("priority-tshark", corpus, &["vlan.id", "vlan.priority"]);
    let mut dissected = dissected.iter();
    // Rows of pathflow, with the file.
    let mut found = Vec::new();
    for capture in &corpus.captures {
        let mut expected = Priorities::new();
        for row in capture.ethernet().map(|_| dissected.next().expect("a row for each packet")) {
            if Dissected::new(row, View::Outer).expected(&mut [0; RULE_COUNT]).is_some() {
                let number = |name: &str| row.number(name, 0).unwrap_or(0);
                *expected.entry((number("vlan.id"), number("vlan.priority"))).or_default() += 1;
            }
        }
        if !WITH_PRIORITY.contains(&capture.name.as_str()) {
            continue;
        }
        assert!(expected.keys().any(|(_, priority)| *priority > 0), "{}: {expected:?}", capture.name);
        let path = capture.path.as_ref().unwrap();
        let (ours, _) = rows(&settings(KEY), path, &scratch);
        assert_eq!(priorities(&ours), expected, "{}", capture.name);
        found.push((path, ours));
    }
    let theirs = side_by_side(&found, |(path, _)| rows_of_pmacctd(KEY, "", path, &scratch));
    for ((path, ours), theirs) in found.iter().zip(theirs) {
        assert_eq!(by_key(ours), by_key(&theirs), "{}", path.display());
    }
    let compared = found.len();
    say(&format!("priorities: {compared} captures as tshark and pmacctd see them"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || compared == WITH_PRIORITY.len());
}

/// One flow whose packets have every priority, with and without a VLAN.
fn one_flow() -> Capture {
    let packet = Ipv4::new(UDP, &ports(5000, 53, 20)).packet();
    let mut frames = vec![tagged(&[], IPV4, &packet)];
    for priority in 0..8 {
        for identifier in [0, 100, 0x1064] {
            let tags = [(CUSTOMER_TAG, priority << 13 | identifier)];
            frames.extend(vec![tagged(&tags, IPV4, &packet); usize::from(priority) + 1]);
        }
    }
    whole("priorities", frames)
}

#[test]
fn packets_of_one_flow_are_told_apart_by_priority_only_where_it_is_asked_for() {
    let scratch = Scratch::new("priority-split");
    let path = scratch.file("priorities.pcap");
    let capture = one_flow();
    file::write(&path, &capture.packets).unwrap();

    let (split, _) = rows(&settings(KEY), &path, &scratch);
    assert_eq!(split.len(), 16, "{split:#?}");
    let theirs = rows_of_pmacctd(KEY, "", &path, &scratch);
    assert_eq!(by_key(&split), by_key(&theirs));
    let expected: Priorities = (0..8)
        .flat_map(|priority| {
            let untagged = u64::from(priority == 0);
            [((0, priority), priority + 1 + untagged), ((100, priority), 2 * (priority + 1))]
        })
        .collect();
    assert_eq!(priorities(&split), expected);

    let without: Vec<&str> = KEY.iter().copied().filter(|name| *name != "cos").collect();
    let (whole, _) = rows(&settings(&without), &path, &scratch);
    assert_eq!(whole.len(), 2, "{whole:#?}");
    assert_eq!(sum_of(&whole), sum_of(&split));
    assert_eq!(by_key(&whole), by_key(&rows_of_pmacctd(&without, "", &path, &scratch)));
}

/// Records of flows say nothing of priorities, so an aggregate that asks for them does not split them.
#[test]
fn flow_records_are_not_told_apart_by_priority() {
    let scratch = Scratch::new("priority-records");
    let path = scratch.file("priorities.pcap");
    file::write(&path, &one_flow().packets).unwrap();
    let (_, report) = rows(&settings(KEY), &path, &scratch);
    let made = report.lines().find(|line| line.starts_with("flow records made")).unwrap_or_default();
    assert!(made.contains(" 2 records"), "{report}");
}
