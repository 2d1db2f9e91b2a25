//! The parser as compiled for the host, and what it says of a frame.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use pathflow::metering::extensions::Extensions;
use pathflow::metering::fragments::DatagramTable;
use pathflow::metering::packets::{ExtensionSettings, KeySettings};
use pathflow_common::bytes::SliceFrame;
use pathflow_common::extension::{CHOSEN_PLACES, ChosenPlace, Layer};
use pathflow_common::flow::{Datagram, DatagramPorts, Encapsulation, Ipv4Key, Key, WIDE_KEY_WORDS, WideKey};
use pathflow_common::layout::Count;
use pathflow_common::parse::extension::{self, Layers, Wanted};
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse};
use pathflow_common::{DropReason, PacketBytes};

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
    Flow { key: WideKey, facts: PacketFacts },
    Unaccounted { reason: DropReason, octets: u32 },
}

/// UDP ports that tests take for VXLAN.
pub(crate) const VXLAN_PORTS: [u16; 2] = [4789, 8472];

/// Which packet of a tunnel counts. Inside, keys have the priority of the outer tag, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Outer,
    Inner,
    /// The outer one, with every extension of the key.
    Extended,
    /// The one inside, with the extensions that there are for it, and without the flow label.
    ExtendedInner,
}

/// Places of every layer, as many as there can be.
fn chosen() -> Vec<ChosenPlace> {
    let place = |layer, protocol, offset, length, destination| ChosenPlace {
        layer,
        protocol,
        offset,
        length,
        destination,
    };
    vec![
        place(Layer::Packet, None, 12, 2, 0),
        place(Layer::Vlan, None, 0, 2, 2),
        place(Layer::Mpls, None, 0, 4, 4),
        place(Layer::Network, Some(0x0800), 4, 2, 8),
        place(Layer::Network, Some(0x86dd), 1, 2, 8),
        place(Layer::Transport, Some(6), 4, 4, 10),
        place(Layer::Transport, Some(17), 4, 4, 10),
        place(Layer::Transport, Some(58), 0, 4, 10),
        place(Layer::Transport, None, 0, 4, 10),
        place(Layer::Payload, Some(17), 0, 8, 14),
        place(Layer::Payload, Some(6), 100, 8, 14),
        place(Layer::Payload, None, 0, 8, 14),
        place(Layer::Network, None, 300, 8, 14),
        place(Layer::Mac, None, 6, 6, 22),
        place(Layer::Payload, None, 1400, 4, 28),
        place(Layer::Network, None, 16, 4, 28),
    ]
}

/// What keys have beyond their words, in the kernel and on the host.
pub(crate) fn extensions() -> &'static Arc<Extensions> {
    static EXTENSIONS: LazyLock<Arc<Extensions>> = LazyLock::new(|| Arc::new(Extensions::new(1 << 22, 1)));
    &EXTENSIONS
}

impl View {
    pub(crate) fn settings(self) -> KeySettings {
        let is_inner = matches!(self, Self::Inner | Self::ExtendedInner);
        let is_extended = matches!(self, Self::Extended | Self::ExtendedInner);
        KeySettings {
            inner: is_inner,
            vxlan_ports: VXLAN_PORTS.to_vec(),
            vlan_priority: is_inner,
            flow_label: self != Self::ExtendedInner,
            extension: ExtensionSettings {
                inner: is_extended && !is_inner,
                labels: is_extended,
                chosen: if is_extended { chosen() } else { Vec::new() },
            },
        }
    }
}

/// The parser with what it remembers of fragments.
pub(crate) struct Host {
    keys: KeySettings,
    chosen: [u64; CHOSEN_PLACES],
    datagrams: RefCell<DatagramTable>,
}

impl Host {
    /// Nothing seen yet.
    pub(crate) fn new(view: View) -> Self {
        let keys = view.settings();
        Self { chosen: keys.extension.chosen_words(), keys, datagrams: RefCell::default() }
    }

    /// Runs the parser over a frame seen at `observation_point` and `time`, in nanoseconds.
    ///
    /// # Panics
    /// If it does not call its sink exactly once.
    pub(crate) fn fate_at(&self, frame: &SliceFrame<'_>, observation_point: u16, time: u64) -> Fate {
        let fates = Cell::new((0, None));
        parse(frame, observation_point, Fates { host: self, time, results: &fates });
        let (calls, last) = fates.get();
        assert_eq!(calls, 1, "a packet has one fate: {frame:02x?}");
        last.expect("a fate for one call")
    }

    /// The same at observation point 0, when nothing that is remembered is too old.
    pub(crate) fn fate(&self, frame: &SliceFrame<'_>) -> Fate {
        self.fate_at(frame, 0, 0)
    }

    /// Gives later fragments the ports of first ones that came after them.
    pub(crate) fn resolve(&self, totals: &mut Totals) {
        for (words, total) in std::mem::take(&mut totals.flows) {
            let key: WideKey = Key(words);
            let key = key.datagram().map_or(key, |datagram| {
                let first = self.datagrams.borrow().get(&datagram, 0);
                first.map_or(key.without_ports(), |first| key.with_ports_of(first))
            });
            totals.add_flow(key, total.packets, total.octets, total.tcp_control_bits);
        }
    }
}

/// Runs the parser over a frame of which nothing came before, at observation point 0.
pub(crate) fn fate(frame: &SliceFrame<'_>) -> Fate {
    Host::new(View::Outer).fate(frame)
}

struct Fates<'a> {
    host: &'a Host,
    time: u64,
    /// How many, and the last one.
    results: &'a Cell<(u32, Option<Fate>)>,
}

impl Fates<'_> {
    fn push(&self, fate: Fate) {
        self.results.set((self.results.get().0 + 1, Some(fate)));
    }
}

impl FlowSink for Fates<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.push(Fate::Flow { key: key.widen(Encapsulation::NONE), facts });
    }

    fn wide(self, key: WideKey, facts: PacketFacts) {
        self.push(Fate::Flow { key, facts });
    }

    fn unaccounted(self, reason: DropReason, octets: u32) {
        self.push(Fate::Unaccounted { reason, octets });
    }

    fn has_vlan_priority(&self) -> bool {
        self.host.keys.vlan_priority
    }

    fn has_flow_label(&self) -> bool {
        self.host.keys.flow_label
    }

    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts) {
        self.host.datagrams.borrow_mut().insert(*datagram, ports, self.time);
    }

    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        self.host.datagrams.borrow().get(datagram, self.time)
    }

    fn extends(&self) -> bool {
        self.host.keys.extension.is_any()
    }

    fn extended<P: PacketBytes>(
        &self,
        packet: &P,
        layers: Layers,
        key: WideKey,
        facts: PacketFacts,
    ) -> (WideKey, PacketFacts) {
        extension::extend(packet, &layers, self, (key, facts), |extension| extensions().number(extension, 0))
    }
}

impl Wanted for Fates<'_> {
    fn inner_packet(&self) -> bool {
        self.host.keys.extension.inner
    }

    fn label_stack(&self) -> bool {
        self.host.keys.extension.labels
    }

    fn chosen_place(&self, number: usize) -> u64 {
        self.host.chosen[number]
    }
}

impl Tunnels for Fates<'_> {
    fn entered(&self) -> bool {
        self.host.keys.inner
    }

    fn is_vxlan(&self, destination_port: u16) -> bool {
        VXLAN_PORTS.contains(&destination_port)
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
    pub(crate) flows: BTreeMap<[u64; WIDE_KEY_WORDS], FlowTotal>,
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

    pub(crate) fn add_flow(&mut self, key: WideKey, packets: u64, octets: u64, tcp_control_bits: u16) {
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

fn describe(words: [u64; WIDE_KEY_WORDS]) -> String {
    let key: WideKey = Key(words);
    let extension = extensions().get(key.extension());
    let label = key.flow_label();
    format!("{:?} {:?} {:?} {label} {extension:x?}", key.addresses(), key.fields(), key.encapsulation())
}
