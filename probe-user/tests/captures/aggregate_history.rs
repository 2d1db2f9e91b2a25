//! Time bins of aggregates over captures: each packet is in the bin of its time, however often rows are written.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::aggregate::{rows, rows_of_pmacctd, side_by_side};
use crate::file::{self, ETHERNET, Packet};
use crate::frames::{Ipv4, UDP, ports};
use crate::say;
use crate::scratch::Scratch;

/// Start of a bin, seconds since 1970 (2023-11-14 22:15:00 UTC).
const EDGE: u64 = 1_700_000_100;
/// Length of bins, seconds.
const HISTORY: u64 = 300;
/// Source ports, each a row of its own.
const PORTS: [u16; 2] = [1000, 2000];

/// Packets and octets by the start of the bin and the source port.
type Sums = BTreeMap<(u64, u16), (u64, u64)>;

/// Packets over four bins, in the order in which they are captured: microseconds after [`EDGE`].
fn times() -> Vec<i64> {
    let bin = HISTORY as i64 * 1_000_000;
    let steady = (-bin..2 * bin + 7_000_000).step_by(7_000_013);
    let edges = [-bin, -bin + 1, -1_000_000, -1, 0, 1, 999_999, 1_000_000, bin - 1, bin, bin + 1, 2 * bin];
    let mut times: Vec<i64> = steady.chain(edges).collect();
    times.sort_unstable();
    // Some come late: they are of a bin that is over.
    times.extend([-2_000_000, -1, 0, bin - 1, 2 * bin + 8_000_000]);
    times
}

fn packets() -> Vec<Packet> {
    let packet = |(number, time): (usize, i64)| {
        let octets = Ipv4::new(UDP, &ports(PORTS[number % 2], 53, 8 + number)).frame();
        let time = (EDGE * 1_000_000).checked_add_signed(time).unwrap() * 1000;
        Packet { link_type: ETHERNET, wire_length: octets.len() as u32, octets, time }
    };
    times().into_iter().enumerate().map(packet).collect()
}

/// What is in each bin, if those of a second are in that of the second that `second` makes of it.
fn expected(packets: &[Packet], second: impl Fn(u64) -> u64) -> Sums {
    let mut sums = Sums::new();
    for packet in packets {
        let bin = second(packet.time / 1_000_000_000) / HISTORY * HISTORY;
        let half = |at: usize| u16::from_be_bytes([packet.octets[at], packet.octets[at + 1]]);
        // Total length and source port of a packet without options.
        let sum = sums.entry((bin, half(34))).or_default();
        *sum = (sum.0 + 1, sum.1 + u64::from(half(16)));
    }
    sums
}

fn sums(rows: &[Value]) -> Sums {
    let mut sums = Sums::new();
    for row in rows {
        let number = |key: &str| row[key].as_u64().unwrap();
        let bin = row["stamp_inserted"].as_str().unwrap().parse().unwrap();
        let sum = sums.entry((bin, number("port_src") as u16)).or_default();
        *sum = (sum.0 + number("packets"), sum.1 + number("bytes"));
    }
    sums
}

#[test]
fn records_split_at_the_edge_of_a_bin_and_their_sum_stays() {
    let scratch = Scratch::new("aggregate-history");
    let (path, packets) = (scratch.file("edge.pcap"), packets());
    file::write(&path, &packets).unwrap();
    let by_time = expected(&packets, |second| second);
    assert_eq!(by_time.keys().map(|(bin, _)| bin).collect::<std::collections::BTreeSet<_>>().len(), 4);
    let octets =
        packets.iter().map(|packet| u64::from(packet.octets[16]) << 8 | u64::from(packet.octets[17]));
    let total = (packets.len() as u64, octets.sum::<u64>());
    let all = |sums: &Sums| sums.values().fold((0, 0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1));
    let settings = |history: &str, refresh: &str| {
        format!(
            "key = [\"src_port\"]\n{history}refresh = \"{refresh}\"\nformat = {{ timestamps = \"epoch\" }}\n"
        )
    };
    for refresh in ["1s", "7s", "5m", "24h"] {
        let (rows, report) = rows(&settings("history = \"5m\"\n", refresh), &path, &scratch);
        assert_eq!(sums(&rows), by_time, "refresh {refresh}: {report}");
        assert_eq!(all(&sums(&rows)), total);
    }
    // Without bins it is the same sum.
    let (without, _) = rows(&settings("", "24h"), &path, &scratch);
    let sum = |key: &str| without.iter().map(|row| row[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((without.len(), sum("packets"), sum("bytes")), (PORTS.len(), total.0, total.1));

    // pmacctd 1.7.7 has the second that begins with a bin in the bin before, and otherwise the same.
    let history = "print_history: 5m\nprint_history_roundoff: m\ntimestamps_since_epoch: true\n";
    let time = |new| format!("{history}pmacctd_time_new: {new}\n");
    let without_edges = scratch.file("clear.pcap");
    let clear: Vec<Packet> =
        packets.iter().filter(|packet| packet.time / 1_000_000_000 % HISTORY != 0).cloned().collect();
    file::write(&without_edges, &clear).unwrap();
    let runs = [(false, &path), (false, &without_edges), (true, &without_edges)];
    let [whole, theirs, arrived] =
        &side_by_side(&runs, |(new, path)| rows_of_pmacctd(&["src_port"], &time(*new), path, &scratch))[..]
    else {
        panic!("three runs")
    };
    assert_eq!(sums(whole), expected(&packets, |second| second - 1));
    let (ours, _) = rows(&settings("history = \"5m\"\n", "1m"), &without_edges, &scratch);
    assert_eq!(sums(&ours), sums(theirs));
    // By the time of arrival all are in the bin of now; that changes no sum.
    assert!(arrived.len() < theirs.len() && all(&sums(arrived)) == all(&sums(&ours)), "{arrived:#?}");
    say(&format!("aggregates: {} packets in bins of {HISTORY} s, as pmacctd has them", total.0));
}
