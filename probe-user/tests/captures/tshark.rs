//! What tshark says of every Ethernet packet.
//!
//! tshark goes through one file with the packets of all captures, one after the other, because starting it
//! takes longer than its work.

use std::process::Command;

use pathflow_common::parse::MAX_LABELS;
use pathflow_common::parse::link::MAX_TAGS;

use crate::corpus::{Capture, Corpus};
use crate::file::{self, Packet};
use crate::host::{VXLAN_PORTS, View};
use crate::scratch::Scratch;

/// Every packet for itself, and header fields as they are in the packet.
const PREFERENCES: [&str; 4] = [
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "ip.tso_support:FALSE",
];
/// tshark knows of one VXLAN port by itself.
const DECODE_AS: &str = "udp.port==8472,vxlan";
/// Name of the file.
const FILE: &str = "all.pcap";
/// Fields of every row.
const COMMON: [&str; 4] = ["frame.number", "frame.len", "frame.cap_len", "frame.protocols"];
/// Fields by which layers are found.
const STRUCTURE: [&str; 14] = [
    "ieee8021ad.id",
    "ieee8021ad.cvid",
    "mpls.label",
    "mpls.bottom",
    "ip.hdr_len",
    "ip.len",
    "ip.flags.mf",
    "ip.frag_offset",
    "gre.flags_and_version",
    "gre.proto",
    "udp.dstport",
    "vxlan.flag_i",
    "vxlan.vni",
    "ipv6.plen",
];

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
    /// Further fields: name and values, of those that it has.
    fields: Vec<(&'static str, String)>,
}

/// What an address family has in a packet below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// In a packet of this family.
    Ip(Family),
    Gre,
    /// Ethernet in GRE.
    BridgedGre,
    Vxlan,
}

/// The network layer that counts, and what lies below it.
#[derive(Clone, Debug)]
pub(crate) struct Layers<'a> {
    /// Protocols of the tags of the frame that it is in, as tshark names them.
    pub(crate) tags: Vec<&'static str>,
    /// How many "vlan" tags come before these.
    pub(crate) tags_before: usize,
    /// Labels below Ethernet.
    pub(crate) labels: usize,
    pub(crate) is_session: bool,
    /// The tunnel that was entered.
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) family: Family,
    /// Where the network layer starts.
    pub(crate) offset: u64,
    /// How many headers of the same family come before.
    pub(crate) nth: usize,
    /// How many UDP headers come before.
    pub(crate) udp_before: usize,
    /// Protocols after the network layer.
    pub(crate) upper: Vec<&'a str>,
}

/// Dissects the Ethernet packets of all captures. `fields` are what the rows hold beside the common ones.
///
/// # Panics
/// If there is no tshark, or if it does not give a row for each packet.
pub(crate) fn dissect(test: &str, corpus: &Corpus, fields: &[&'static str]) -> Vec<Row> {
    dissect_packets(test, corpus.captures.iter().flat_map(Capture::ethernet), fields)
}

/// The same with other packets.
///
/// # Panics
/// Likewise.
pub(crate) fn dissect_packets<'a>(
    test: &str,
    packets: impl IntoIterator<Item = &'a Packet>,
    fields: &[&'static str],
) -> Vec<Row> {
    let file = File::of(test, packets);
    let fields: Vec<&'static str> = STRUCTURE.iter().chain(fields).copied().collect();
    let text = file.run(&[], &COMMON.iter().chain(&fields).copied().collect::<Vec<_>>());
    (1..).zip(text.lines()).map(|(number, line)| Row::parse(number, line, &fields)).collect()
}

/// Packets, such as the Ethernet packets of all captures, in one file.
pub(crate) struct File(Scratch);

impl File {
    /// Writes it.
    ///
    /// # Panics
    /// If that fails.
    pub(crate) fn new(test: &str, corpus: &Corpus) -> Self {
        Self::of(test, corpus.captures.iter().flat_map(Capture::ethernet))
    }

    fn of<'a>(test: &str, packets: impl IntoIterator<Item = &'a Packet>) -> Self {
        let scratch = Scratch::new(test);
        file::write(&scratch.file(FILE), packets).expect("a file for tshark");
        Self(scratch)
    }

    /// How many packets a display filter finds.
    ///
    /// # Panics
    /// If there is no tshark, or if it does not know the filter.
    pub(crate) fn count(&self, filter: &str) -> u64 {
        self.run(&["-Y", filter], &["frame.number"]).lines().count() as u64
    }

    fn run(&self, arguments: &[&str], fields: &[&str]) -> String {
        let mut command = Command::new("tshark");
        command.arg("-n").arg("-r").arg(self.0.file(FILE)).args(["-T", "fields", "-E", "occurrence=a"]);
        command.args(PREFERENCES.iter().flat_map(|preference| ["-o", preference]));
        command.args(["-d", DECODE_AS]).args(arguments);
        command.args(fields.iter().flat_map(|field| ["-e", field]));
        let output = command.output().expect("this test needs tshark");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Row {
    fn parse(number: u64, line: &str, fields: &[&'static str]) -> Self {
        let mut values = line.split('\t');
        let mut next = || values.next().unwrap_or_else(|| panic!("a value is missing: {line:?}"));
        let mut common = || next().parse::<u64>().unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(common(), number, "{line:?}");
        let (wire_length, captured) = (common(), common());
        let protocols = next().to_owned();
        let fields = fields.iter().map(|name| (*name, next().to_owned()));
        let fields = fields.filter(|(_, values)| !values.is_empty()).collect();
        Self { wire_length, captured, protocols, fields }
    }

    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let found = self.fields.iter().find(|(field, _)| *field == name);
        found.into_iter().flat_map(|(_, values)| values.split(',')).filter(|value| !value.is_empty())
    }

    /// The value of the header that comes after `nth` others with this field, as a number, decimal or
    /// hexadecimal.
    pub(crate) fn number(&self, name: &str, nth: usize) -> Option<u64> {
        number(self.all(name).nth(nth)?)
    }

    /// The layers, if there is IP below Ethernet and what pathflow walks. tshark looks for IP deeper.
    pub(crate) fn layers(&self, view: View) -> Option<Layers<'_>> {
        let outer = self.outer()?;
        if view == View::Outer {
            return Some(outer);
        }
        match self.inner(&outer) {
            Some(inner) if self.is_sound(&inner) => Some(inner),
            _ => Some(outer),
        }
    }

    /// Whether tshark stops where pathflow goes on: in a packet longer than its length field can say.
    pub(crate) fn is_too_long(&self) -> bool {
        let length = |name: &str| self.number(name, 0) == Some(0);
        self.outer().is_some_and(|outer| {
            self.wire_length - outer.offset > 65_575 && (length("ip.len") || length("ipv6.plen"))
        })
    }

    fn outer(&self) -> Option<Layers<'_>> {
        let rest: Vec<&str> = self.protocols.split(':').collect();
        let (tags, rest) = self.tags(rest.strip_prefix(&["eth", "ethertype"][..])?)?;
        let mut offset = 14 + 4 * tags.len() as u64;
        let (mut labels, mut is_session) = (0, false);
        let rest = match rest {
            ["mpls", rest @ ..] => {
                labels = self.all("mpls.bottom").take_while(|bottom| *bottom == "0").count() + 1;
                rest
            }
            ["pppoes", "ppp", rest @ ..] => {
                is_session = true;
                rest
            }
            rest => rest,
        };
        offset += 4 * labels as u64 + if is_session { 8 } else { 0 };
        if labels > MAX_LABELS {
            return None;
        }
        let (family, upper) = family(rest)?;
        let (nth, tags_before, udp_before) = (0, 0, 0);
        let upper = upper.to_vec();
        let tunnel = None;
        Some(Layers { tags, tags_before, labels, is_session, tunnel, family, offset, nth, udp_before, upper })
    }

    /// Tags with the protocols after them, if there are not too many.
    fn tags<'a, 'b>(&self, mut rest: &'b [&'a str]) -> Option<(Vec<&'static str>, &'b [&'a str])> {
        let mut tags = Vec::new();
        loop {
            match rest {
                ["vlan", "ethertype", after @ ..] => {
                    tags.push("vlan");
                    rest = after;
                }
                ["ieee8021ad", "ethertype", after @ ..] => {
                    // A service tag in a service tag is one header to tshark.
                    let (singles, doubles) =
                        (self.all("ieee8021ad.id").count(), self.all("ieee8021ad.cvid").count());
                    let done = tags.iter().filter(|tag| **tag == "ieee8021ad").count();
                    assert!(singles == 0 || doubles == 0 || done == 0, "cannot be told apart: {self:?}");
                    tags.extend(vec!["ieee8021ad"; if doubles > 0 { 2 } else { 1 }]);
                    rest = after;
                }
                _ => break,
            }
        }
        (tags.len() <= MAX_TAGS).then_some((tags, rest))
    }

    /// The network identifier of a packet in VXLAN, whatever it carries.
    pub(crate) fn network_identifier(&self) -> Option<u64> {
        let outer = self.outer()?;
        let ["udp", "vxlan", ..] = outer.upper[..] else { return None };
        let is_fragment = outer.family == Family::Ipv4
            && (self.number("ip.flags.mf", 0)? != 0 || self.number("ip.frag_offset", 0)? != 0);
        let port = self.number("udp.dstport", 0)?;
        let is_known = VXLAN_PORTS.iter().any(|known| u64::from(*known) == port);
        let has_identifier = self.number("vxlan.flag_i", 0)? == 1;
        self.number("vxlan.vni", 0).filter(|_| is_known && has_identifier && !is_fragment)
    }

    /// The packet inside, if `outer` is a tunnel's packet that is entered.
    fn inner<'a>(&'a self, outer: &Layers<'a>) -> Option<Layers<'a>> {
        let header = match outer.family {
            Family::Ipv4 => {
                let is_whole = self.number("ip.flags.mf", 0)? == 0 && self.number("ip.frag_offset", 0)? == 0;
                self.number("ip.hdr_len", 0).filter(|_| is_whole)?
            }
            Family::Ipv6 => 40,
        };
        let payload = outer.offset + header;
        let mut inner = outer.clone();
        match outer.upper[..] {
            ["ip" | "ipv6", ..] => {
                inner.set_network(&outer.upper, payload)?;
                inner.tunnel = Some(Tunnel::Ip(outer.family));
            }
            ["gre", ref rest @ ..] => {
                let flags = self.number("gre.flags_and_version", 0)?;
                if flags & 0x4007 != 0 {
                    return None;
                }
                let words = (flags & 0xb000).count_ones();
                let payload = payload + 4 + 4 * u64::from(words);
                match (self.number("gre.proto", 0)?, rest) {
                    (0x0800, ["ip", ..]) | (0x86dd, ["ipv6", ..]) => {
                        inner.set_network(rest, payload)?;
                        inner.tunnel = Some(Tunnel::Gre);
                    }
                    (0x6558, ["eth", "ethertype", rest @ ..]) => {
                        self.set_frame(&mut inner, rest, payload)?;
                        inner.tunnel = Some(Tunnel::BridgedGre);
                    }
                    _ => return None,
                }
            }
            ["udp", "vxlan", "eth", "ethertype", ref rest @ ..] => {
                let has_identifier = self.number("vxlan.flag_i", 0)? == 1;
                let port = self.number("udp.dstport", 0)?;
                if !has_identifier || !VXLAN_PORTS.iter().any(|known| u64::from(*known) == port) {
                    return None;
                }
                self.set_frame(&mut inner, rest, payload + 8 + 8)?;
                inner.udp_before = 1;
                inner.tunnel = Some(Tunnel::Vxlan);
            }
            _ => return None,
        }
        inner.nth = usize::from(inner.family == outer.family);
        Some(inner)
    }

    fn set_frame<'a>(&self, inner: &mut Layers<'a>, rest: &[&'a str], offset: u64) -> Option<()> {
        inner.tags_before = inner.tags.iter().filter(|tag| **tag == "vlan").count();
        let (tags, rest) = self.tags(rest)?;
        let offset = offset + 14 + 4 * tags.len() as u64;
        inner.tags = tags;
        inner.set_network(rest, offset)
    }

    /// Whether the IP header was captured and does not contradict itself.
    fn is_sound(&self, layers: &Layers<'_>) -> bool {
        let end = layers.offset + if layers.family == Family::Ipv4 { 20 } else { 40 };
        if self.captured < end {
            return false;
        }
        let (length, header) = (self.number("ip.len", layers.nth), self.number("ip.hdr_len", layers.nth));
        let is_long = length == Some(0) && self.wire_length - layers.offset > 65_535;
        layers.family == Family::Ipv6 || is_long || (length.is_some() && header.is_some() && length >= header)
    }
}

impl<'a> Layers<'a> {
    fn set_network(&mut self, protocols: &[&'a str], offset: u64) -> Option<()> {
        let (family, upper) = family(protocols)?;
        self.family = family;
        self.upper = upper.to_vec();
        self.offset = offset;
        Some(())
    }
}

fn family<'a, 'b>(protocols: &'b [&'a str]) -> Option<(Family, &'b [&'a str])> {
    match protocols {
        ["ip", upper @ ..] => Some((Family::Ipv4, upper)),
        ["ipv6", upper @ ..] => Some((Family::Ipv6, upper)),
        _ => None,
    }
}

/// A number as tshark writes it, decimal or hexadecimal.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
