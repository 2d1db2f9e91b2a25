//! What tshark says of every Ethernet packet.
//!
//! tshark goes through one file with the packets of all captures, one after the other, because starting it
//! takes longer than its work.

use std::process::Command;

use crate::corpus::{Capture, Corpus};
use crate::file;
use crate::scratch::Scratch;

/// Every packet for itself, and header fields as they are in the packet.
const PREFERENCES: [&str; 4] = [
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "ip.tso_support:FALSE",
];
/// Fields of every row.
const COMMON: [&str; 4] = ["frame.number", "frame.len", "frame.cap_len", "frame.protocols"];

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

/// A packet as dissected.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) wire_length: u64,
    pub(crate) captured: u64,
    /// The protocols, outermost first.
    pub(crate) protocols: String,
    /// Further fields: name and first value, empty if it has none.
    fields: Vec<(&'static str, String)>,
}

/// The outermost layers of a packet.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    /// Protocols of the tags, as tshark names them.
    pub(crate) tags: Vec<&'static str>,
    pub(crate) family: Family,
    /// Where the network layer starts.
    pub(crate) offset: u64,
    /// Protocols after the network layer.
    pub(crate) upper: Vec<&'a str>,
}

/// Dissects the Ethernet packets of all captures. `fields` are what the rows hold beside the common ones; of a
/// field that occurs several times they hold all values, separated by commas, and `ieee8021ad.cvid` is needed
/// to find the layers.
///
/// # Panics
/// If there is no tshark, or if it does not give a row for each packet.
pub(crate) fn dissect(test: &str, corpus: &Corpus, fields: &[&'static str]) -> Vec<Row> {
    let scratch = Scratch::new(test);
    let file = scratch.file("all.pcap");
    file::write(&file, corpus.captures.iter().flat_map(Capture::ethernet)).expect("a file for tshark");
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(&file).args(["-T", "fields", "-E", "occurrence=a"]);
    command.args(PREFERENCES.iter().flat_map(|preference| ["-o", preference]));
    command.args(COMMON.iter().chain(fields).flat_map(|field| ["-e", field]));
    let output = command.output().expect("this test needs tshark");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    (1..).zip(text.lines()).map(|(number, line)| Row::parse(number, line, fields)).collect()
}

impl Row {
    fn parse(number: u64, line: &str, fields: &[&'static str]) -> Self {
        let mut values = line.split('\t');
        let mut next = || values.next().unwrap_or_else(|| panic!("a value is missing: {line:?}"));
        let mut common = || next().parse::<u64>().unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(common(), number, "{line:?}");
        let (wire_length, captured) = (common(), common());
        let protocols = next().to_owned();
        let fields = fields.iter().map(|name| (*name, next().to_owned())).collect();
        Self { wire_length, captured, protocols, fields }
    }

    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.into_iter().flat_map(|(_, values)| values.split(',')).filter(|value| !value.is_empty())
    }

    /// The first value of a field, which is that of the outermost header.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of a field as a number, decimal or hexadecimal.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        number(self.first(name)?)
    }

    /// The layers, if there is IP below Ethernet and two tags at most. tshark looks for IP deeper, in tunnels
    /// and behind further tags; pathflow does not.
    pub(crate) fn layers(&self) -> Option<Layers<'_>> {
        let mut rest = self.protocols.strip_prefix("eth:ethertype:")?;
        let mut tags = Vec::new();
        loop {
            if let Some(inner) = rest.strip_prefix("vlan:ethertype:") {
                rest = inner;
                tags.push("vlan");
            } else if let Some(inner) = rest.strip_prefix("ieee8021ad:ethertype:") {
                rest = inner;
                // A service tag in a service tag is one header to tshark.
                let inner_too = self.first("ieee8021ad.cvid").is_some();
                tags.extend(vec!["ieee8021ad"; if inner_too { 2 } else { 1 }]);
            } else {
                break;
            }
        }
        if tags.len() > 2 {
            return None;
        }
        let mut upper = rest.split(':');
        let family = match upper.next()? {
            "ip" => Family::Ipv4,
            "ipv6" => Family::Ipv6,
            _ => return None,
        };
        let offset = 14 + 4 * tags.len() as u64;
        Some(Layers { tags, family, offset, upper: upper.collect() })
    }
}

/// A number as tshark writes it, decimal or hexadecimal.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
