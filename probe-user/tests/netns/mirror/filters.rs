//! Filters on mirror ports: what was sent is selected as tcpdump selects it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Mirrored, SPAN, mirror_port};
use crate::support::frames::{Frame, Upper, write_timed};
use crate::support::json::flows;
use crate::support::probe::ProbeBuilder;
use crate::support::temp_dir::TempDir;
use crate::support::tool::{output, tool};
use crate::support::traffic::replay_slowly;

/// Of aggregates, as many as a packet can be asked.
const EXPRESSIONS: [&str; 8] = [
    "tcp port 443",
    "vlan and udp",
    "vlan 7 and port 53",
    "vlan and vlan and ip6",
    "ip and not vlan",
    "ip[2:2] > 300 or greater 400",
    "icmp or icmp6",
    "tcp[tcpflags] & tcp-syn != 0 or (vlan and tcp[tcpflags] & tcp-syn != 0)",
];
/// Of the capture, for a second run.
const REQUIRED: &str = "ip or (vlan and ip)";

/// Packets and octets by source address, port and outermost tag.
type Sums = BTreeMap<(String, u64, u64), (u64, u64)>;

fn frames() -> Vec<Frame> {
    let mut frames = Vec::new();
    for (source, destination) in [("203.0.113.5", "198.18.0.9"), ("2001:db8::5", "2001:db8::9")] {
        for (number, payload) in (0..).zip([0, 40, 250, 900]) {
            for upper in [
                Upper::Tcp(50_000 + number, 443, 0x02),
                Upper::Tcp(50_000 + number, 443, 0x18),
                Upper::Tcp(50_000 + number, 22, 0x12),
                Upper::Udp(40_000 + number, 53),
                Upper::Udp(40_000 + number, 4343),
                Upper::Icmp(3, 3),
            ] {
                let frame = Frame::new(source, destination, upper).payload(payload);
                frames.extend([
                    frame.clone(),
                    frame.clone(),
                    frame.clone().tag(0x8100, 7),
                    frame.clone().tag(0x8100, 8),
                    frame.clone().tag(0x88a8, 9).tag(0x8100, 7),
                ]);
            }
        }
    }
    frames
}

/// Numbers of the frames that tcpdump selects; each has its number for a time.
fn selected(capture: &Path, expression: &str) -> BTreeSet<usize> {
    let text = output(tool("tcpdump").args(["-n", "-q", "-tt", "-r"]).arg(capture).arg(expression));
    let lines = text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    lines.map(|line| line.split('.').next().unwrap().parse().unwrap()).collect()
}

fn sums<'f>(frames: impl Iterator<Item = &'f Frame>) -> Sums {
    let mut sums = Sums::new();
    for frame in frames {
        let port = match frame.upper {
            Upper::Tcp(source, ..) | Upper::Udp(source, _) => source,
            Upper::Icmp(..) => 0,
        };
        let tag = frame.tags.first().map_or(0, |(_, identifier)| *identifier);
        let sum = sums.entry((frame.source.to_string(), port.into(), tag.into())).or_default();
        *sum = (sum.0 + 1, sum.1 + frame.ip_octets());
    }
    sums
}

fn aggregated(file: &Path) -> Sums {
    let mut sums = Sums::new();
    for row in flows(&fs::read_to_string(file).unwrap_or_default()) {
        let number = |key: &str| row[key].as_u64().unwrap_or_default();
        let key = (row["ip_src"].as_str().unwrap().to_owned(), number("port_src"), number("vlan"));
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + number("packets"), sum.1 + number("bytes"));
    }
    sums
}

#[test]
fn aggregates_of_a_mirror_port_have_what_tcpdump_selects() {
    let directory = TempDir::new();
    let capture = directory.file("frames.pcap");
    let frames = frames();
    write_timed(&capture, (0..).zip(frames.iter().map(Frame::octets)));
    // With an expression of the whole capture it is both.
    for required in ["", REQUIRED] {
        let network = Mirrored::new();
        let rows = |number: usize| directory.file(&format!("rows-{number}-{}", required.is_empty()));
        let aggregates = EXPRESSIONS.iter().enumerate().map(|(number, expression)| {
            format!(
                "[[aggregate]]\nname = \"a{number}\"\nkey = [\"src_host\", \"src_port\", \"vlan\"]\n\
                 filter = \"{expression}\"\n[aggregate.file]\npath = \"{}\"\nappend = true\n",
                rows(number).display()
            )
        });
        let aggregates: String = aggregates.collect();
        let configuration = mirror_port("")
            .replace("[capture]\n", &format!("[capture]\nfilter = \"{required}\"\n"))
            + &aggregates;
        let probe = ProbeBuilder::configured(&network.host).json().configuration(&configuration).start();
        replay_slowly((&network.switch, SPAN), &capture, frames.len());
        let queues = network.queue_packets();
        assert!(queues.iter().all(|packets| *packets > 0), "{queues:?}");
        let ended = super::end(probe, frames.len() as u64);
        assert_eq!(ended.report.dropped(), ended.report.figure("not in a flow: filtered"));
        let accounted = selected(&capture, required);
        assert_eq!(ended.report.recorded().packets, accounted.len() as u64, "{required}");
        for (number, expression) in EXPRESSIONS.iter().enumerate() {
            let both = &selected(&capture, expression) & &accounted;
            assert_eq!(
                aggregated(&rows(number)),
                sums(both.iter().map(|number| &frames[*number])),
                "{expression}"
            );
            assert!(
                both.len() < accounted.len() && (!both.is_empty() || !required.is_empty()),
                "{expression}"
            );
        }
    }
}
