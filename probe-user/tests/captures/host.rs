//! The parser as compiled for the host, and what it says of a frame.

use std::collections::BTreeMap;

use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Ipv4Key, Ipv6Key, Key};
use pathflow_common::layout::Count;
use pathflow_common::parse::{FlowSink, PacketFacts, parse};

/// Octets that the kernel puts into the first buffer of a frame: a page of 4,096 less 256 of headroom and
/// 320 for what describes the further buffers. The kernel program reads no further.
pub(crate) const FIRST_BUFFER: usize = 3520;

/// The kernel's view of a captured frame: it is as long as what was captured, and only its first buffer can
/// be read.
pub(crate) fn in_first_buffer(frame: &[u8]) -> SliceFrame<'_> {
    SliceFrame::captured(&frame[..frame.len().min(FIRST_BUFFER)], frame.len() as u32)
}

/// What the parser decided for one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Flow { key: Ipv6Key, facts: PacketFacts },
    Unaccounted { reason: DropReason, octets: u32 },
}

/// Runs the parser over a frame seen at `observation_point`.
///
/// # Panics
/// If it does not call its sink exactly once.
pub(crate) fn fate_at(frame: &SliceFrame<'_>, observation_point: u16) -> Fate {
    let mut fates = Fates { calls: 0, last: None };
    parse(frame, observation_point, &mut fates);
    assert_eq!(fates.calls, 1, "a packet has one fate: {frame:02x?}");
    fates.last.expect("a fate for one call")
}

/// The same at observation point 0.
pub(crate) fn fate(frame: &SliceFrame<'_>) -> Fate {
    fate_at(frame, 0)
}

struct Fates {
    calls: u32,
    last: Option<Fate>,
}

impl Fates {
    fn push(&mut self, fate: Fate) {
        self.calls += 1;
        self.last = Some(fate);
    }
}

impl FlowSink for &mut Fates {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.push(Fate::Flow { key: key.widen(), facts });
    }

    fn ipv6(self, key: Ipv6Key, facts: PacketFacts) {
        self.push(Fate::Flow { key, facts });
    }

    fn unaccounted(self, reason: DropReason, octets: u32) {
        self.push(Fate::Unaccounted { reason, octets });
    }
}

/// A flow's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlowTotal {
    pub(crate) packets: u64,
    pub(crate) octets: u64,
    pub(crate) tcp_control_bits: u16,
}

/// Flows and counters of any number of packets, as the parser or the kernel program gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// By key without epoch.
    pub(crate) flows: BTreeMap<[u64; 6], FlowTotal>,
    /// Every packet, by observation point.
    pub(crate) seen: BTreeMap<u16, Count>,
    /// Packets in no flow, by observation point and position of the reason.
    pub(crate) dropped: BTreeMap<(u16, usize), Count>,
}

impl Totals {
    /// Adds a packet seen at `observation_point`.
    pub(crate) fn add(&mut self, fate: Fate, observation_point: u16) {
        let octets = match fate {
            Fate::Flow { key, facts } => {
                self.add_flow(key, 1, u64::from(facts.octets), facts.tcp_control_bits);
                facts.octets
            }
            Fate::Unaccounted { reason, octets } => {
                let count = Count { packets: 1, octets: u64::from(octets) };
                self.add_dropped(observation_point, reason as usize, count);
                octets
            }
        };
        self.add_seen(observation_point, Count { packets: 1, octets: u64::from(octets) });
    }

    pub(crate) fn add_flow(&mut self, key: Ipv6Key, packets: u64, octets: u64, tcp_control_bits: u16) {
        let flow = self.flows.entry(key.0).or_default();
        flow.packets += packets;
        flow.octets += octets;
        flow.tcp_control_bits |= tcp_control_bits;
    }

    pub(crate) fn add_seen(&mut self, observation_point: u16, count: Count) {
        add(self.seen.entry(observation_point).or_default(), count);
    }

    pub(crate) fn add_dropped(&mut self, observation_point: u16, reason: usize, count: Count) {
        if count != Count::default() {
            add(self.dropped.entry((observation_point, reason)).or_default(), count);
        }
    }

    /// Packets and octets in flows.
    pub(crate) fn in_flows(&self) -> Count {
        self.flows.values().fold(Count::default(), |mut sum, flow| {
            add(&mut sum, Count { packets: flow.packets, octets: flow.octets });
            sum
        })
    }

    /// Packets and octets that went to one reason, at any observation point.
    pub(crate) fn dropped_for(&self, reason: DropReason) -> Count {
        let mut sum = Count::default();
        for ((_, position), count) in &self.dropped {
            if *position == reason as usize {
                add(&mut sum, *count);
            }
        }
        sum
    }

    /// Where `self` and `other` differ, a line for each difference.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let keys = self.flows.keys().chain(other.flows.keys().filter(|key| !self.flows.contains_key(*key)));
        for words in keys {
            let (ours, theirs) = (self.flows.get(words), other.flows.get(words));
            if ours != theirs {
                lines.push(format!("{}: {ours:?}, {theirs:?}", describe(*words)));
            }
        }
        if self.seen != other.seen {
            lines.push(format!("seen: {:?}, {:?}", self.seen, other.seen));
        }
        if self.dropped != other.dropped {
            lines.push(format!("in no flow: {:?}, {:?}", self.dropped, other.dropped));
        }
        lines
    }
}

fn add(sum: &mut Count, count: Count) {
    sum.packets += count.packets;
    sum.octets += count.octets;
}

fn describe(words: [u64; 6]) -> String {
    let key: Ipv6Key = Key(words);
    format!("{:?} {:?}", key.addresses(), key.fields())
}
