//! Rows that aggregates keep in memory, as `pathflow rows` shows them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::flows;
use super::support::network::{CAPTURED, Network};
use super::support::probe::ProbeBuilder;
use super::support::process::Process;
use super::support::temp_dir::TempDir;
use super::support::tool::{output, tool};
use super::support::traffic::{Traffic, replay};
use super::support::wait_for;

/// Source, destination, source port, packets and octets.
type Row = (String, String, u64, u64, u64);

fn rows(text: &str) -> Vec<Row> {
    let text_of = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    let row = |row: &Value| {
        let [packets, octets] = [number(row, "packets"), number(row, "bytes")];
        (text_of(row, "ip_src"), text_of(row, "ip_dst"), number(row, "port_src"), packets, octets)
    };
    let mut rows: Vec<Row> = flows(text).iter().map(row).collect();
    rows.sort();
    rows
}

fn packets(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row.3).sum()
}

/// What pmacctd keeps in memory, by its client.
fn of_pmacct(pipe: &Path) -> Vec<Row> {
    rows(
        &String::from_utf8(
            tool("pmacct").args(["-s", "-O", "json", "-p"]).arg(pipe).output().unwrap().stdout,
        )
        .unwrap(),
    )
}

/// The configuration of the JANOG tutorial in small: two tables. pmacctd applies no `aggregate_filter` to a file.
fn configuration(directory: &TempDir, source: &str) -> String {
    let [one, two] = ["one", "two"].map(|name| directory.file(name).display().to_string());
    format!(
        "daemonize: false\n{source}\nplugins: memory[one], memory[two]\n\
         aggregate[one]: src_host, src_port\naggregate[two]: src_host, dst_host\n\
         imt_path[one]: {one}\nimt_path[two]: {two}\nimt_mem_pools_number: 0\n"
    )
}

/// pmacctd reads what pathflow is sent: of an interface it would lose some on a busy machine.
#[test]
fn rows_in_memory_are_those_of_pmacctd() {
    let network = Network::new();
    let directory = TempDir::new();
    let capture = directory.file("frames.pcap");
    let frame = |number: u16| {
        let (source, destination) =
            (format!("192.0.2.{}", number % 37), format!("198.51.100.{}", number % 3));
        let upper = if number.is_multiple_of(5) {
            Upper::Tcp(number % 7, 80, 16)
        } else {
            Upper::Udp(number % 7, 53)
        };
        Frame::new(&source, &destination, upper).payload(number % 11)
    };
    let frames: Vec<Frame> = (0..800).map(frame).collect();
    write_capture(&capture, &frames);
    let file = directory.file("pmacctd.conf");
    let source = format!("pcap_savefile: {}\npcap_savefile_wait: true", capture.display());
    fs::write(&file, configuration(&directory, &source)).unwrap();
    let mut pmacctd = Process::start(network.router.command("pmacctd").arg("-f").arg(&file));
    pmacctd.wait_for_message("finished reading PCAP capture file");

    let probe = ProbeBuilder::configured(&network.router)
        .pmacct_configuration(&configuration(&directory, &format!("pcap_interface: {CAPTURED}")))
        .start();
    replay(&network.sender, &capture, frames.len());
    let ours = |name: &str, flag: &[&str]| output(probe.ask(&["rows", name]).args(flag));
    wait_for(
        "rows of all packets",
        || ours("one", &[]),
        || (packets(&rows(&ours("one", &["--json"]))) == frames.len() as u64).then_some(()),
    );
    for name in ["one", "two"] {
        let rows = rows(&ours(name, &["--json"]));
        let theirs = || of_pmacct(&directory.file(name));
        wait_for(
            "the rows of pmacctd",
            || format!("{rows:?} {:?}", theirs()),
            || (theirs() == rows).then_some(()),
        );
        assert!(rows.len() > 10, "{rows:?}");
    }
    probe.terminate().report.assert_balanced();
}

#[test]
fn rows_are_chosen_summed_and_forgotten() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(
            "[[aggregate]]\nname = \"hosts\"\nkey = [\"src_host\", \"src_port\", \"proto\"]\nrefresh = \"1s\"\n\
             [aggregate.memory]\n\n[[aggregate]]\nname = \"small\"\nkey = [\"src_host\"]\nrefresh = \"1s\"\n\
             [aggregate.memory]\nmax_entries = 3\n",
        )
        .start();
    let traffic = Traffic { packets: 1000, flows: 10, ..Traffic::default() };
    traffic.send(&network.sender);
    let said = |words: &[&str]| -> Output { probe.ask(&[&["rows"], words].concat()).output().unwrap() };
    let text = |words: &[&str]| output(&mut probe.ask(&[&["rows"], words].concat()));
    let is_there = || {
        text(&["hosts", "--sum"]).starts_with(&format!("10 rows, 1000 packets, {} octets", traffic.octets()))
    };
    wait_for("all rows", || text(&["hosts"]), || is_there().then_some(()));

    let table = text(&["hosts", "--top", "3"]);
    let lines: Vec<&str> = table.lines().collect();
    let words: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(words, ["SRC_IP", "SRC_PORT", "PROTOCOL", "PACKETS", "BYTES"]);
    assert_eq!(lines.len(), 5, "{table}");
    assert!(
        lines[4].starts_with("3 rows, 300 packets, ")
            && lines[4].contains("; matching: 10 rows, 1000 packets"),
        "{table}"
    );
    assert_eq!(text(&["hosts", "--csv"]).lines().count(), 11);
    let host = rows(&text(&["hosts", "--json"]))[0].0.clone();
    let of_host =
        rows(&text(&["hosts", "--json", "--where", &format!("src_host={host}"), "-w", "proto=udp"]));
    assert_eq!(of_host.iter().map(|row| (row.0.clone(), row.3)).collect::<Vec<_>>(), [(host, 100)]);
    assert!(text(&["hosts", "--sum", "--where", "src_host=203.0.113.0/24"]).starts_with("0 rows, 0 packets"));

    for (words, expected) in [
        (&["hosts", "--where", "dst_host=1.2.3.4"][..], "dst_host: it is not in the key of hosts"),
        (&["nobody"], "nobody: no aggregate of this name keeps rows in memory; there are hosts, small"),
        (&[], "which aggregate? There are hosts, small"),
    ] {
        let said = said(words);
        let errors = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!((said.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.starts_with("pathflow: ") && errors.contains(expected), "{errors}");
    }
    let peers = probe.ask(&["peers"]).output().unwrap();
    let errors = String::from_utf8_lossy(&peers.stderr).into_owned();
    assert_eq!((peers.status.code(), peers.stdout.len()), (Some(1), 0), "{errors}");
    assert!(errors.starts_with("pathflow: there is no [bgp] peer"), "{errors}");

    text(&["hosts", "--reset"]);
    assert!(text(&["hosts", "--sum"]).starts_with("0 rows, 0 packets, 0 octets; since "));
    let metrics = probe.metrics();
    let in_small = text(&["small", "--sum", "--json"]);
    let in_small: Value = serde_json::from_str(&in_small).unwrap();
    assert_eq!(in_small["all"][0], 3, "{in_small}");
    assert_eq!(
        in_small["all"][1].as_u64().unwrap()
            + metrics.sum("pathflow_aggregate_output_lost_packets_total", &[("reason", "memory_full")]),
        traffic.packets
    );
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let lost = ended.report.figure("aggregate small: lost to memory, memory_full");
    assert_eq!(lost.packets, 700, "{}", ended.report.text());
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    let directory = TempDir::new();
    let socket = directory.file("none.sock");
    let mut command = Command::new(super::support::probe::daemon());
    let said = command.args(["rows", "a"]).env("PATHFLOW_CONTROL__SOCKET", &socket).output().unwrap();
    let errors = String::from_utf8_lossy(&said.stderr);
    assert_eq!((said.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
    assert!(
        errors.contains(&format!("{}: no answer of a daemon with rows in memory", socket.display())),
        "{errors}"
    );
}
