//! Purges of aggregates while traffic goes on: what is in each, and what marks them.
//!
//! The traffic lasts for 12 seconds, or for `PATHFLOW_REFRESH_SECONDS`, if that is longer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::support::frames::{Frame, Upper, write_timed};
use super::support::json::{flows, sum};
use super::support::network::Network;
use super::support::probe::{ProbeBuilder, daemon};
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::{Traffic, replay};

/// Seconds between two purges.
const REFRESH: u64 = 5;
/// Length of bins, seconds.
const HISTORY: u64 = 300;
/// Packets per second.
const RATE: u32 = 2000;
const FLOWS: u32 = 10;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn traffic_seconds() -> u64 {
    let text = std::env::var("PATHFLOW_REFRESH_SECONDS").unwrap_or_default();
    text.parse().unwrap_or(0).max(12)
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().or_else(|| row[key].as_str()?.parse().ok()).unwrap_or_else(|| panic!("{key}: {row}"))
}

/// Lines between markers: of each purge its rows. Fails if markers and rows are not in order, or if a marker does not
/// have the number of its rows.
pub(crate) fn purges(lines: &[Value]) -> Vec<Vec<Value>> {
    let (mut purges, mut open) = (Vec::new(), None::<Vec<Value>>);
    for line in lines {
        match line["event_type"].as_str().unwrap() {
            "purge_init" => assert!(open.replace(Vec::new()).is_none(), "not ended: {line}"),
            "purge_close" => {
                let rows = open.take().unwrap_or_else(|| panic!("not begun: {line}"));
                let counts = ["purged_entries", "total_entries"].map(|key| number(line, key));
                assert_eq!(counts, [rows.len() as u64; 2], "{line}");
                purges.push(rows);
            }
            "purge" => open.as_mut().unwrap_or_else(|| panic!("not in a purge: {line}")).push(line.clone()),
            other => panic!("{other}: {line}"),
        }
    }
    assert!(open.is_none(), "a purge does not end");
    purges
}

/// Starts of the bins between two times.
fn bins(start: u64, end: u64) -> BTreeSet<u64> {
    (start / HISTORY..=end / HISTORY).map(|bin| bin * HISTORY).collect()
}

/// Each purge has what came since the one before: each key has one row in it, and rows have to be added up.
#[test]
fn a_purge_has_one_row_for_each_key_and_they_add_up() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(&format!(
            "[[aggregate]]\nname = \"acct\"\nkey = [\"src_host\", \"src_port\"]\nhistory = \"{HISTORY}s\"\n\
             refresh = \"{REFRESH}s\"\nutc = true\nformat = {{ timestamps = \"epoch\" }}\n\
             [aggregate.stdout]\nmarkers = true\n"
        ))
        .start();
    let seconds = traffic_seconds();
    let packets = seconds * u64::from(RATE);
    let traffic = Traffic { packets, flows: FLOWS, rate: Some(RATE), ..Traffic::default() };
    let start = now();
    traffic.send(&network.sender);
    let bins = bins(start, now());
    let ended = probe.terminate();
    ended.report.assert_balanced();

    let mut purges = purges(&flows(&ended.output));
    purges.retain(|purge| !purge.is_empty());
    let rows = purges.concat();
    assert_eq!((sum(&rows, "packets"), sum(&rows, "bytes")), (traffic.packets, traffic.octets()));
    let (mut times, mut rows_of_keys) = (Vec::new(), BTreeMap::<String, u64>::new());
    for (position, purge) in purges.iter().enumerate() {
        let updated = number(&purge[0], "stamp_updated");
        let mut keys = BTreeSet::new();
        for row in purge {
            assert_eq!(number(row, "stamp_updated"), updated, "{row}");
            let (bin, key) =
                (number(row, "stamp_inserted"), format!("{} {}", row["ip_src"], row["port_src"]));
            assert!(bins.contains(&bin) && bin <= updated, "{row}");
            assert!(keys.insert((bin, key.clone())), "twice in a purge: {row}");
            *rows_of_keys.entry(key).or_default() += 1;
        }
        let is_inner = position > 0 && position + 1 < purges.len();
        assert!(!is_inner || keys.len() == FLOWS as usize, "{updated}: {keys:?}");
        times.push(updated);
    }
    // Bins begin when purges do, so no purge but the last is of two.
    let periods: Vec<u64> = times[..times.len() - 1].iter().map(|time| time / REFRESH).collect();
    assert!(times.is_sorted() && periods.windows(2).all(|two| two[0] < two[1]), "{times:?}");
    let least = seconds / REFRESH;
    assert_eq!(rows_of_keys.len(), FLOWS as usize);
    assert!(rows_of_keys.values().all(|rows| *rows >= least), "{rows_of_keys:?} in {times:?}");
}

/// A capture over the edge of a bin: replayed it is in the bins of its packets' times, sent in those of their arrival.
#[test]
fn packets_are_in_the_bin_of_their_arrival_or_of_their_time_in_a_file() {
    const EDGE: u32 = 1_700_000_100;
    let network = Network::new();
    let directory = TempDir::new();
    let (file, settings) = (directory.file("edge.pcap"), directory.file("replay.toml"));
    let frame = |port| Frame::new("203.0.113.5", "198.18.0.9", Upper::Udp(port, 53)).payload(30);
    let frames: Vec<(u32, Frame)> =
        (0..40_u16).map(|number| (EDGE - 20 + u32::from(number), frame(1000 + number % 2))).collect();
    write_timed(&file, frames.iter().map(|(time, frame)| (*time, frame.octets())));
    let configuration = format!(
        "[[aggregate]]\nname = \"acct\"\nkey = [\"src_port\"]\nhistory = \"{HISTORY}s\"\nutc = true\n\
         format = {{ timestamps = \"epoch\" }}\n[aggregate.stdout]\n"
    );
    fs::write(&settings, &configuration).unwrap();
    let replayed = output(Command::new(daemon()).args(["replay", "-c"]).arg(&settings).arg(&file));
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    let start = now();
    replay(&network.sender, &file, frames.len());
    let arrival = bins(start, now());
    let ended = probe.terminate();
    ended.report.assert_balanced();

    let sums = |text: &str| {
        let mut sums: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for row in flows(text) {
            let sum = sums.entry((number(&row, "stamp_inserted"), number(&row, "port_src"))).or_default();
            *sum = (sum.0 + number(&row, "packets"), sum.1 + number(&row, "bytes"));
        }
        sums
    };
    let edge = u64::from(EDGE);
    let half = (10, 10 * 58);
    let by_time = [
        ((edge - HISTORY, 1000), half),
        ((edge - HISTORY, 1001), half),
        ((edge, 1000), half),
        ((edge, 1001), half),
    ];
    assert_eq!(sums(&replayed), BTreeMap::from(by_time));
    let arrived = sums(&ended.output);
    assert!(arrived.keys().all(|(bin, _)| arrival.contains(bin)), "{arrived:?}");
    for port in [1000, 1001] {
        let of_port = arrived.iter().filter(|((_, of), _)| *of == port).map(|(_, sum)| *sum);
        assert_eq!(of_port.fold((0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1)), (20, 20 * 58));
    }
}
