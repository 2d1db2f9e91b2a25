//! Applications of flows in captures: what `pathflow replay` finds, against ndpiReader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::aggregate::{rows, side_by_side};
use crate::corpus::{Capture, corpus};
use crate::say;
use crate::scratch::Scratch;

/// Both ends with their ports, the smaller one first, and the protocol.
type Conversation = (BTreeSet<String>, String);

/// Packets are looked at until nDPI has made up its mind, as ndpiReader does.
const SETTINGS: &str = "key = [\"src_host\", \"dst_host\", \"src_port\", \"dst_port\", \"proto\", \"class\"]\n\
    refresh = \"1h\"\nformat.protocol_numbers = true\n";
const CLASSIFY: &str = "[capture.classify]\npackets = 80\n";

fn conversation(ends: [(&str, &str); 2], protocol: &str) -> Conversation {
    (ends.into_iter().map(|(address, port)| format!("{address} {port}")).collect(), protocol.to_owned())
}

/// What ndpiReader says of each conversation, without guessing by ports.
fn expected(capture: &Path, scratch: &Scratch) -> BTreeMap<Conversation, String> {
    let file = scratch.file("flows.csv");
    let _ = fs::remove_file(&file);
    let mut command = Command::new("ndpiReader");
    command.args(["-d", "-q", "-C"]).arg(&file).arg("-i").arg(capture);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.expect("ndpiReader, of libndpi-bin");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(',').collect();
        let [_, protocol, _, _, _, source, source_port, destination, destination_port, _, name, ..] =
            fields[..]
        else {
            continue;
        };
        let ends = [(source, source_port), (destination, destination_port)];
        found.insert(conversation(ends, protocol), name.replace('.', "/"));
    }
    found
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned)
}

/// Classes of each conversation, in the order of rows.
fn actual(rows: &[Value]) -> BTreeMap<Conversation, BTreeSet<String>> {
    let mut found: BTreeMap<Conversation, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let [source, source_port, destination, destination_port, protocol] =
            ["ip_src", "port_src", "ip_dst", "port_dst", "ip_proto"].map(|key| text(row, key));
        let ends = [(source.as_str(), source_port.as_str()), (&destination, &destination_port)];
        found.entry(conversation(ends, &protocol)).or_default().insert(text(row, "class"));
    }
    found
}

/// How many of the conversations that both know there are, and those whose class is another one.
fn compare(capture: &Capture, path: &Path, scratch: &Scratch) -> (usize, Vec<String>) {
    let expected = expected(path, scratch);
    if expected.is_empty() {
        return (0, Vec::new());
    }
    let (rows, _) = rows(&[SETTINGS, CLASSIFY].concat(), path, scratch);
    let actual = actual(&rows);
    let mut others = Vec::new();
    let mut compared = 0;
    for (conversation, name) in expected {
        let Some(classes) = actual.get(&conversation) else { continue };
        compared += 1;
        // Rows of packets from before it was known are unknown.
        if !classes.contains(if name == "Unknown" { "unknown" } else { &name }) {
            others.push(format!("{}: {conversation:?}: {name}, here {classes:?}", capture.name));
        }
    }
    (compared, others)
}

#[test]
fn classes_are_those_of_ndpi_reader() {
    let captures: Vec<(usize, &Capture)> = corpus().captures.iter().enumerate().collect();
    let results = side_by_side(&captures, |(number, capture)| {
        let scratch = Scratch::new(&format!("classes-{number}"));
        capture.path.as_ref().map_or((0, Vec::new()), |path| compare(capture, path, &scratch))
    });
    let compared: usize = results.iter().map(|(compared, _)| compared).sum();
    let others: Vec<String> = results.into_iter().flat_map(|(_, others)| others).collect();
    say(&format!("classes: {compared} conversations, {} not as ndpiReader has them", others.len()));
    assert!(others.is_empty(), "{} of {compared}\n{}", others.len(), others.join("\n"));
}
