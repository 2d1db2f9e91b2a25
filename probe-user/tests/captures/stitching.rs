//! Times of the first and the last packet of each row, which is no part of its key: against tshark and against pmacctd.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::aggregate::{PLAIN, rows, rows_of_pmacctd, side_by_side};
use crate::corpus::corpus;
use crate::host::View;
use crate::say;
use crate::scratch::Scratch;
use crate::totals::{Dissected, RULE_COUNT};
use crate::tshark;

/// Times of the first and the last packet, in microseconds since the Unix epoch.
type Times = (u64, u64);

/// `1700000000.000111`, as microseconds.
fn microseconds(time: &Value) -> u64 {
    let text = time.as_str().unwrap_or_else(|| panic!("{time} is no text"));
    let (seconds, fraction) = text.split_once('.').unwrap_or_else(|| panic!("{text} has no fraction"));
    assert_eq!(fraction.len(), 6, "{text}");
    seconds.parse::<u64>().unwrap() * 1_000_000 + fraction.parse::<u64>().unwrap()
}

/// Times by `EtherType` and bin; there may be several rows.
fn times(rows: &[Value]) -> BTreeMap<(String, String), Times> {
    let mut found: BTreeMap<(String, String), Times> = BTreeMap::new();
    for row in rows {
        let (first, last) = (microseconds(&row["timestamp_min"]), microseconds(&row["timestamp_max"]));
        assert!(first <= last, "{row}");
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let times = found.entry((text("etype"), text("stamp_inserted"))).or_insert((first, last));
        *times = (times.0.min(first), times.1.max(last));
    }
    found
}

const BINS: &str = "history = \"1m\"\nrefresh = \"1h\"\n";
const OURS: &str = "key = [\"etype\"]\nstitching = true\nformat = { timestamps = \"epoch\" }\n";
const THEIRS: &str = "pmacctd_stitching: true\ntimestamps_utc: true\ntimestamps_since_epoch: true\n";

#[test]
fn first_and_last_packets_of_rows_are_those_of_tshark_and_pmacctd() {
    let scratch = Scratch::new("stitching");
    let corpus = corpus();
    let dissected = tshark::dissect("stitching-tshark", corpus, &["eth.type", "vlan.etype"]);
    let mut dissected = dissected.iter();
    let mut different = 0;
    // First packets as pathflow has them, with the file.
    let mut firsts = Vec::new();
    // Bins of old files pmacctd does not have. As the last packet's time it takes that at which it reads the packet.
    let first = |rows: &[Value]| -> Vec<(String, u64)> {
        times(rows).into_iter().map(|((ethertype, _), (first, _))| (ethertype, first)).collect()
    };
    for capture in &corpus.captures {
        let mut expected: BTreeMap<(String, String), Times> = BTreeMap::new();
        for packet in capture.ethernet() {
            let row = dissected.next().expect("a row for each packet");
            let amount = Dissected::new(row, View::Outer).expected(&mut [0; RULE_COUNT]);
            let Some((family, _)) = amount else { continue };
            let time = packet.time / 1000;
            let bin = time / 60_000_000 * 60;
            let is_ipv4 = family == tshark::Family::Ipv4;
            let ethertype = if is_ipv4 { "800" } else { "86dd" };
            let times = expected.entry((ethertype.to_owned(), bin.to_string())).or_insert((time, time));
            *times = (times.0.min(time), times.1.max(time));
        }
        if !PLAIN.contains(&capture.name.as_str()) {
            continue;
        }
        let path = capture.path.as_ref().unwrap();
        let (ours, _) = rows(&(OURS.to_owned() + BINS), path, &scratch);
        let ours = times(&ours);
        assert_eq!(ours, expected, "{}", capture.name);
        different += ours.values().filter(|(first, last)| first < last).count();
        let (ours, _) = rows(OURS, path, &scratch);
        firsts.push((path, first(&ours)));
    }
    let theirs = side_by_side(&firsts, |(path, _)| rows_of_pmacctd(&["etype"], THEIRS, path, &scratch));
    for ((path, ours), theirs) in firsts.iter().zip(theirs) {
        assert_eq!(*ours, first(&theirs), "{}", path.display());
    }
    let compared = firsts.len();
    say(&format!("stitching: {compared} captures as tshark and pmacctd see them"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || compared == PLAIN.len() && different > 2);
}

/// A configuration of pmacctd's that asks for it has the same columns, in CSV as well.
#[test]
fn titles_and_order_are_those_of_pmacctd() {
    let scratch = Scratch::new("stitching-titles");
    let Some(path) =
        corpus().captures.iter().find(|capture| capture.name == PLAIN[0]).and_then(|one| one.path.clone())
    else {
        return assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none());
    };
    let out = scratch.file("rows.csv");
    let configuration = scratch.file("titles.toml");
    let text = format!(
        "[[aggregate]]\nname = \"test\"\nkey = [\"vlan\", \"cos\", \"etype\", \"proto\", \"timestamp_arrival\"]\n\
         stitching = true\n[aggregate.file]\npath = \"{}\"\nformat = \"csv\"\n",
        out.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pathflow"));
    let output = command.args(["replay", "-c"]).arg(&configuration).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ours = fs::read_to_string(&out).unwrap();
    let theirs = scratch.file("pmacctd.csv");
    let configuration = scratch.file("pmacctd.conf");
    let text = format!(
        "daemonize: false\npcap_savefile: {}\nplugins: print\nprint_output: csv\nprint_output_file: {}\n\
         print_refresh_time: 86400\npmacctd_stitching: true\naggregate: vlan,cos,etype,proto,timestamp_arrival\n",
        path.display(),
        theirs.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut command = std::process::Command::new("pmacctd");
    command.arg("-f").arg(&configuration).output().expect("this test needs pmacctd (Debian: pmacct)");
    let theirs = fs::read_to_string(&theirs).unwrap();
    assert_eq!(ours.lines().next(), theirs.lines().next());
    assert!(ours.lines().next().unwrap().contains("TIMESTAMP_MIN,TIMESTAMP_MAX"), "{ours}");
}
