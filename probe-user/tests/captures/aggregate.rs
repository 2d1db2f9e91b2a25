//! Aggregates over captures, by `pathflow replay`: against tshark, and against pmacctd.

use std::collections::BTreeMap;
use std::fs;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ScopedJoinHandle};

use serde_json::Value;

use crate::corpus::{Capture, corpus};
use crate::file::{self, Packet};
use crate::frames::{IPV4, IPV6, Ipv4, UDP, ipv6, ports, tagged};
use crate::host::View;
use crate::own::whole;
use crate::say;
use crate::scratch::Scratch;
use crate::totals::{Dissected, RULE_COUNT};
use crate::tshark;

/// Packets and octets.
pub(crate) type Sum = (u64, u64);

/// Rows of the one aggregate that `settings` are for, and what was said at the end.
pub(crate) fn rows(settings: &str, path: &Path, scratch: &Scratch) -> (Vec<Value>, String) {
    let configuration = scratch.file("pathflow.toml");
    let text = format!("[[aggregate]]\nname = \"test\"\nutc = true\n{settings}\n[aggregate.stdout]\n");
    fs::write(&configuration, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathflow"));
    let output = command.args(["replay", "-c"]).arg(&configuration).arg(path).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", path.display());
    assert!(errors.contains("ledger: every packet and every record is accounted for"), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), errors)
}

pub(crate) fn sum_of<'r>(rows: impl IntoIterator<Item = &'r Value>) -> Sum {
    rows.into_iter().fold((0, 0), |(packets, octets), row| {
        (packets + row["packets"].as_u64().unwrap(), octets + row["bytes"].as_u64().unwrap())
    })
}

fn figure(report: &str, label: &str) -> Sum {
    let line = report.lines().find(|line| line.starts_with(label)).unwrap_or_default();
    let words: Vec<&str> = line.get(label.len()..).unwrap_or_default().split_whitespace().collect();
    match words[..] {
        [packets, "packets", octets, "octets", ..] => (packets.parse().unwrap(), octets.parse().unwrap()),
        _ => (0, 0),
    }
}

/// In bins of a second, the sum over rows is what tshark sees of that second's packets; over all bins it is the ledger.
#[test]
fn the_sum_over_rows_is_that_of_tshark_in_every_bin() {
    let scratch = Scratch::new("aggregate-tshark");
    let corpus = corpus();
    let dissected = tshark::dissect("aggregate", corpus, &[]);
    let mut dissected = dissected.iter();
    let (mut checked, mut packets) = (0, 0);
    for capture in &corpus.captures {
        let mut expected: BTreeMap<u64, Sum> = BTreeMap::new();
        for packet in capture.ethernet() {
            let row = dissected.next().expect("a row for each packet");
            let amount = Dissected::new(row, View::Outer).expected(&mut [0; RULE_COUNT]);
            if let Some((_, octets)) = amount {
                let sum = expected.entry(packet.time / 1_000_000_000).or_default();
                *sum = (sum.0 + 1, sum.1 + octets);
            }
        }
        let Some(path) = capture.path.as_ref().filter(|_| is_whole(capture)) else { continue };
        let settings =
            "key = [\"src_host\", \"dst_host\", \"proto\", \"src_port\"]\nhistory = \"1s\"\nrefresh = \"1h\"";
        let (rows, report) = rows(settings, path, &scratch);
        // The form of the time is not the matter here: bins are compared in order.
        let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for row in &rows {
            let bin = &row["stamp_inserted"];
            let bin = bin.as_u64().map_or_else(|| bin.to_string(), |bin| format!("{bin:020}"));
            found.entry(bin).or_default().push(row);
        }
        let found: Vec<Sum> = found.into_values().map(sum_of).collect();
        assert_eq!(found, expected.values().copied().collect::<Vec<_>>(), "{}", capture.name);
        assert_eq!(figure(&report, "aggregate test"), sum_of(&rows), "{report}");
        assert_eq!(figure(&report, "  in flow records"), sum_of(&rows), "{report}");
        packets += sum_of(&rows).0;
        checked += 1;
    }
    say(&format!("aggregates: {checked} files, {packets} packets in bins of a second, as tshark sees them"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || checked > 100, "{checked} files");
}

fn is_whole(capture: &Capture) -> bool {
    capture.fault.is_none() && capture.packets.iter().all(Packet::is_ethernet)
}

/// Keys of pmacct's that need nothing but packets.
const KEYS: [&[&str]; 4] = [
    &["src_host", "dst_host", "src_port", "dst_port", "proto", "tos"],
    &["proto", "tcpflags"],
    &["vlan", "etype"],
    &["sum_host"],
];

/// Rows of pmacctd with further `settings`, which plays a file once if it has no delay.
pub(crate) fn rows_of_pmacctd(key: &[&str], settings: &str, path: &Path, scratch: &Scratch) -> Vec<Value> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = |ending| scratch.file(&format!("pmacctd-{number}.{ending}"));
    let (configuration, rows) = (file("conf"), file("json"));
    let text = format!(
        "daemonize: false\npcap_savefile: {}\nplugins: print\nprint_output: json\nprint_output_file: {}\n\
         print_output_file_append: true\nprint_refresh_time: 86400\n\
         aggregate: {}\n{settings}",
        path.display(),
        rows.display(),
        key.join(",")
    );
    fs::write(&configuration, text).unwrap();
    let mut command = Command::new("pmacctd");
    let output =
        command.arg("-f").arg(&configuration).output().expect("this test needs pmacctd (Debian: pmacct)");
    let text = fs::read_to_string(&rows);
    let text = text.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `run` returns for each of these, some at a time: pmacctd takes seconds to end and does nothing in them.
pub(crate) fn side_by_side<I: Sync, T: Send>(items: &[I], run: impl Fn(&I) -> T + Sync) -> Vec<T> {
    const AT_A_TIME: usize = 8;
    let run = &run;
    let together = |items| -> Vec<T> {
        thread::scope(|scope| {
            let started: Vec<_> = <[I]>::iter(items).map(|item| scope.spawn(move || run(item))).collect();
            let ended = started.into_iter().map(ScopedJoinHandle::join);
            ended.map(|result| result.unwrap_or_else(|reason| panic::resume_unwind(reason))).collect()
        })
    };
    items.chunks(AT_A_TIME).flat_map(together).collect()
}

/// Rows by what they are told apart by, with their TCP flags; numbers may be texts. There may be several purges.
pub(crate) fn by_key(rows: &[Value]) -> BTreeMap<String, (Sum, u64)> {
    let mut sums = BTreeMap::new();
    for row in rows {
        let key: Vec<String> = row
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| !["event_type", "packets", "bytes", "tcp_flags"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}={}", value.to_string().trim_matches('"')))
            .collect();
        let (packets, octets) = sum_of([row]);
        let flags = row["tcp_flags"].as_str().map_or(row["tcp_flags"].as_u64(), |text| text.parse().ok());
        let (sum, all_flags): &mut (Sum, u64) = sums.entry(key.join(" ")).or_default();
        *sum = (sum.0 + packets, sum.1 + octets);
        *all_flags |= flags.unwrap_or(0);
    }
    sums
}

/// Captures of plain traffic, which pmacctd 1.7.7 and pathflow see alike: no tunnels, sessions and cut headers.
pub(crate) const PLAIN: &[&str] = &[
    "OSPFv3_broadcast_adjacency.pcap",
    "RADIUS.pcap",
    "bgp-4byte-asn.pcap",
    "dhcpv4v6-rfc5970-rfc8572.pcap",
    "ldp-common-session.pcap",
    "mptcp-v0.pcap",
];

#[test]
fn rows_are_those_of_pmacctd() {
    let scratch = Scratch::new("aggregate-pmacctd");
    let plain = corpus().captures.iter().filter(|capture| PLAIN.contains(&capture.name.as_str()));
    let runs: Vec<(&Capture, &[&str])> = plain.flat_map(|capture| KEYS.map(|key| (capture, key))).collect();
    let all_theirs = side_by_side(&runs, |(capture, key)| {
        rows_of_pmacctd(key, "pmacctd_time_new: true\n", capture.path.as_ref().unwrap(), &scratch)
    });
    for ((capture, key), theirs) in runs.iter().zip(all_theirs) {
        let (ours, _) = rows(&format!("key = {key:?}"), capture.path.as_ref().unwrap(), &scratch);
        assert!(!theirs.is_empty(), "{}: pmacctd has no row", capture.name);
        assert_eq!(by_key(&ours), by_key(&theirs), "{} {key:?}", capture.name);
    }
    let compared = runs.len();
    say(&format!("aggregates: {compared} times the rows of pmacctd"));
    assert!(std::env::var_os("PATHFLOW_CAPTURES").is_none() || compared == PLAIN.len() * KEYS.len());
}

#[test]
fn labels_of_several_rules_are_one_object() {
    let scratch = Scratch::new("aggregate-labels");
    let settings = "key = [\"label\"]\nformat = { label_as_map = true }\n\
                    [[enrich.tag]]\nset_label = \"site%ams\"\njeq = \"next\"\n\
                    [[enrich.tag]]\nset_label = \"family%six\"\nfilter = \"ip6\"\njeq = \"next\"\n\
                    [[enrich.tag]]\nset_label = \"rack%7,row%b\"\n";
    let path = scratch.file("frames.pcap");
    let [four, six] = [Ipv4::new(UDP, &ports(1, 2, 8)).packet(), ipv6(0, UDP, &ports(1, 2, 8))];
    let frames = whole("labels", vec![tagged(&[], IPV4, &four), tagged(&[], IPV6, &six)]);
    file::write(&path, &frames.packets).unwrap();
    let (rows, _) = rows(settings, &path, &scratch);
    let mut labels: Vec<String> = rows.iter().map(|row| row["label"].to_string()).collect();
    labels.sort();
    let expected =
        [r#"{"family":"six","rack":"7","row":"b","site":"ams"}"#, r#"{"rack":"7","row":"b","site":"ams"}"#];
    assert_eq!(labels, expected);
}
