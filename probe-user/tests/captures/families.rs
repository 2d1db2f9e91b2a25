//! Each kind of header by itself: captures that have it, and the kernel's counts of them against tshark's.

use std::collections::BTreeMap;

use pathflow::capture::TableSizes;
use pathflow_common::flow::{Addresses, Key, WideKey};

use crate::corpus::corpus;
use crate::host::View;
use crate::kernel_run::{Hook, Kernel};
use crate::say;
use crate::totals::{Dissected, RULE_COUNT};
use crate::tshark::{self, Family, File, Layers, Row, Tunnel};

const ROOMY: TableSizes = TableSizes { ipv4_slots: 16_384, ipv6_slots: 16_384, spill_slots: 1024 };

/// One kind of header.
struct Kind {
    name: &'static str,
    view: View,
    has: fn(&Layers<'_>, &Row) -> bool,
    /// tshark's display filter for it. In tunnels it finds more: fragments, and what is cut inside.
    filter: &'static str,
}

/// What may lie below the network layer, as a regular expression of tshark's.
macro_rules! below {
    ($rest:literal) => {
        concat!(
            "frame.protocols matches \"^eth:ethertype:((vlan|ieee8021ad):ethertype:)*(mpls:|pppoes:ppp:)?",
            $rest,
            "\""
        )
    };
}

const KINDS: [Kind; 15] = [
    Kind {
        name: "MPLS",
        view: View::Outer,
        has: |layers, _| layers.labels > 0,
        // What has more labels is not walked.
        filter: "count(mpls.label) <= 10 && frame.protocols matches \"^eth:ethertype:((vlan|ieee8021ad):ethertype:)*mpls:ip(v6)?(:|$)\"",
    },
    Kind {
        name: "MPLS below tags",
        view: View::Outer,
        has: |layers, _| layers.labels > 0 && !layers.tags.is_empty(),
        filter: "frame.protocols matches \"^eth:ethertype:((vlan|ieee8021ad):ethertype:)+mpls:ip(v6)?(:|$)\"",
    },
    Kind {
        name: "PPPoE",
        view: View::Outer,
        has: |layers, _| layers.is_session,
        filter: "frame.protocols matches \"^eth:ethertype:((vlan|ieee8021ad):ethertype:)*pppoes:ppp:ip(v6)?(:|$)\"",
    },
    Kind {
        name: "two tags",
        view: View::Outer,
        has: |layers, _| layers.tags == ["vlan", "vlan"],
        filter: "frame.protocols matches \"^eth:ethertype:vlan:ethertype:vlan:ethertype:(mpls:|pppoes:ppp:)?ip(v6)?(:|$)\"",
    },
    Kind {
        name: "four tags",
        view: View::Outer,
        has: |layers, _| layers.tags == ["vlan"; 4],
        filter: "frame.protocols matches \"^eth:ethertype:(vlan:ethertype:){4}(mpls:|pppoes:ppp:)?ip(v6)?(:|$)\"",
    },
    Kind {
        name: "IPv4 fragments",
        view: View::Outer,
        has: |layers, row| {
            let is_fragment = |name| row.number(name, 0).is_some_and(|value| value != 0);
            layers.family == Family::Ipv4 && (is_fragment("ip.flags.mf") || is_fragment("ip.frag_offset"))
        },
        // The first header of each packet.
        filter: concat!(
            "(ip.flags.mf#1 == 1 || ip.frag_offset#1 > 0) && ",
            "frame.protocols matches \"^eth:ethertype:((vlan|ieee8021ad):ethertype:)*(mpls:|pppoes:ppp:)?ip(:|$)\""
        ),
    },
    Kind {
        name: "IPv6 fragments",
        view: View::Outer,
        has: |layers, _| layers.family == Family::Ipv6 && layers.upper.contains(&"ipv6.fraghdr"),
        filter: below!("ipv6:(.*:)?ipv6.fraghdr(:|$)"),
    },
    Kind {
        name: "IPv4 in IPv4",
        view: View::Inner,
        has: |layers, _| is_in(layers, Tunnel::Ip(Family::Ipv4), Family::Ipv4),
        filter: below!("ip:ip(:|$)"),
    },
    Kind {
        name: "IPv6 in IPv4",
        view: View::Inner,
        has: |layers, _| is_in(layers, Tunnel::Ip(Family::Ipv4), Family::Ipv6),
        filter: below!("ip:ipv6(:|$)"),
    },
    Kind {
        name: "IPv4 in IPv6",
        view: View::Inner,
        has: |layers, _| is_in(layers, Tunnel::Ip(Family::Ipv6), Family::Ipv4),
        filter: below!("ipv6:ip(:|$)"),
    },
    Kind {
        name: "IPv6 in IPv6",
        view: View::Inner,
        has: |layers, _| is_in(layers, Tunnel::Ip(Family::Ipv6), Family::Ipv6),
        filter: below!("ipv6:ipv6(:|$)"),
    },
    Kind {
        name: "IPv4 in GRE",
        view: View::Inner,
        has: |layers, _| is_in(layers, Tunnel::Gre, Family::Ipv4),
        filter: below!("ip(v6)?:gre:ip(:|$)"),
    },
    Kind {
        name: "IPv6 in GRE",
        view: View::Inner,
        has: |layers, _| is_in(layers, Tunnel::Gre, Family::Ipv6),
        filter: below!("ip(v6)?:gre:ipv6(:|$)"),
    },
    Kind {
        name: "Ethernet in GRE",
        view: View::Inner,
        has: |layers, _| layers.tunnel == Some(Tunnel::BridgedGre),
        filter: below!("ip(v6)?:gre:eth:ethertype:((vlan|ieee8021ad):ethertype:)*ip(v6)?(:|$)"),
    },
    Kind {
        name: "VXLAN",
        view: View::Inner,
        has: |layers, _| layers.tunnel == Some(Tunnel::Vxlan),
        filter: below!("ip(v6)?:udp:vxlan:eth:ethertype:((vlan|ieee8021ad):ethertype:)*ip(v6)?(:|$)"),
    },
];

fn is_in(layers: &Layers<'_>, tunnel: Tunnel, family: Family) -> bool {
    layers.tunnel == Some(tunnel) && layers.family == family
}

/// Packets and octets by address family.
type Sums = BTreeMap<Family, (u64, u64)>;

fn add(sums: &mut Sums, family: Family, packets: u64, octets: u64) {
    let sum = sums.entry(family).or_default();
    *sum = (sum.0 + packets, sum.1 + octets);
}

/// For each kind and each capture that has it, the kernel program's packets and octets of those packets are
/// tshark's, and there is at least one such capture.
#[test]
fn each_kind_of_header_is_in_a_capture_and_counted_as_tshark_counts_it() {
    let corpus = corpus();
    let rows = tshark::dissect("families", corpus, &[]);
    let file = File::new("families-count", corpus);
    let mut kernels = [View::Outer, View::Inner].map(|view| Kernel::load(ROOMY, Hook::Xdp, view));
    for Kind { name, view, has, filter } in KINDS {
        let kernel = &mut kernels[usize::from(view == View::Inner)];
        let mut remaining = rows.iter();
        let (mut captures, mut packets) = (Vec::new(), 0);
        for capture in &corpus.captures {
            let mut theirs = Sums::new();
            let mut found = 0;
            for (packet, row) in capture.ethernet().zip(remaining.by_ref()) {
                if !row.layers(view).is_some_and(|layers| has(&layers, row)) {
                    continue;
                }
                found += 1;
                // The kernel's test run knows nothing of octets that the capture does not have.
                let is_whole = row.captured == row.wire_length;
                if !is_whole || packet.octets.len() > Hook::Xdp.longest() {
                    continue;
                }
                kernel.run(&packet.octets).expect("a frame that the kernel takes");
                if let Some((family, octets)) = Dissected::new(row, view).expected(&mut [0; RULE_COUNT]) {
                    add(&mut theirs, family, 1, octets);
                }
            }
            if found == 0 {
                continue;
            }
            let mut ours = Sums::new();
            for (words, total) in kernel.drain().totals.flows {
                let key: WideKey = Key(words);
                let family = match key.addresses() {
                    Addresses::Ipv4(..) => Family::Ipv4,
                    Addresses::Ipv6(..) => Family::Ipv6,
                };
                add(&mut ours, family, total.packets, total.octets);
            }
            assert_eq!(ours, theirs, "{name} in {}", capture.name);
            packets += found;
            if !theirs.is_empty() {
                captures.push(capture.name.as_str());
            }
        }
        let filtered = file.count(filter);
        say(&format!("{name}: {packets} packets in {} captures: {}", captures.len(), captures.join(", ")));
        assert!(!captures.is_empty(), "{name}: no capture has it");
        match view {
            View::Outer => assert_eq!(filtered, packets, "{name}: {filter}"),
            _ => assert!(filtered >= packets, "{name}: {filtered} by {filter}, {packets}"),
        }
    }
}
