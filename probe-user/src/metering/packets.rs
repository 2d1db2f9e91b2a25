//! Accounting where user space sees every packet: replay, and mirror ports.
//!
//! What the kernel program does in its tables, this does in a small table of its own: parse, count, add up by
//! flow, and enter what was seen in the ledger before it goes on.

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher as _;
use std::mem;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashTable};
use pathflow_common::extension::{CHOSEN_PLACES, ChosenPlace, KeyExtension};
use pathflow_common::flow::{Datagram, DatagramPorts, Encapsulation, Ipv4Key, Origin, WideKey};
use pathflow_common::layout::{Count, OBSERVATION_POINTS, PointCounters};
use pathflow_common::parse::extension::{self, Layers, Wanted};
use pathflow_common::parse::link::Link;
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse_link};
use pathflow_common::{DropReason, PacketBytes};

use super::batches::Batches;
use super::extensions::Extensions;
use super::fragments::{DatagramTable, Held, HeldFragments};
use crate::capture::Delta;
use crate::classify::Class;
use crate::interfaces::MacAddress;

/// Flows that are added up between two hand-overs.
const FLOWS: usize = 8192;

const SECOND: u64 = 1_000_000_000;

/// What the key of a packet is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySettings {
    /// Of a packet in a tunnel: the packet inside, not the tunnel's.
    pub inner: bool,
    /// UDP destination ports of VXLAN.
    pub vxlan_ports: Vec<u16>,
    /// Packets of different priority (PCP of the outer VLAN tag) have different keys.
    pub vlan_priority: bool,
    /// What keys have beyond their words.
    pub extension: ExtensionSettings,
}

/// What the [`KeyExtension`](pathflow_common::extension::KeyExtension) of a packet has. With nothing, no packet has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionSettings {
    /// The packet inside a tunnel. Not together with [`KeySettings::inner`].
    pub inner: bool,
    /// All labels of the MPLS stack.
    pub labels: bool,
    /// What the operator chose; at most [`CHOSEN_PLACES`](pathflow_common::extension::CHOSEN_PLACES).
    pub chosen: Vec<ChosenPlace>,
}

impl ExtensionSettings {
    /// Whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.inner || self.labels || !self.chosen.is_empty()
    }

    /// Octets of a layer that the chosen places reach.
    #[must_use]
    pub fn reach(&self) -> u32 {
        let ends = self.chosen.iter().map(|place| u32::from(place.offset) + u32::from(place.length));
        ends.max().unwrap_or(0)
    }

    /// Places of the primitive whose octets begin at `destination`, as if that was the first octet.
    #[must_use]
    pub fn places_of(&self, destination: u8) -> Vec<ChosenPlace> {
        let places = self.chosen.iter().filter(|place| place.destination == destination);
        places.map(|place| ChosenPlace { destination: 0, ..*place }).collect()
    }

    /// The places as the parser takes them.
    #[must_use]
    pub fn chosen_words(&self) -> [u64; CHOSEN_PLACES] {
        let mut words = [0; CHOSEN_PLACES];
        for (word, place) in words.iter_mut().zip(&self.chosen) {
            *word = place.word();
        }
        words
    }
}

/// Accounts packets one by one.
#[derive(Debug)]
pub struct PacketMeter {
    batches: Batches,
    keys: KeySettings,
    /// Places of chosen octets.
    chosen: [u64; CHOSEN_PLACES],
    extensions: Arc<Extensions>,
    /// Numbers of extensions that were seen since the last hand-over.
    numbers: RefCell<HashMap<KeyExtension, u32, RandomState>>,
    /// What was read since the ledger was last told, by observation point.
    counters: Vec<PointCounters>,
    packets: usize,
    /// Packets after which the ledger is told.
    limit: usize,
    /// Packets that the ledger was told of since somebody asked.
    entered: u64,
    /// Flows of these packets, all of them in one second of the packets' clock.
    flows: HashTable<Delta>,
    hasher: RandomState,
    second: u64,
    held: HeldFragments,
    datagrams: RefCell<DatagramTable>,
    /// Whether the packet in hand is a later fragment.
    is_later_fragment: Cell<bool>,
    /// Whether there was no room for the extension of the packet in hand.
    without_extension: Cell<bool>,
    /// MAC address at the other end of the link of the packet in hand.
    neighbour: MacAddress,
    /// Number of the packet in hand among those of its flow since the last hand-over; 0 = it has no payload, or no flow.
    number_in_flow: u64,
}

impl PacketMeter {
    /// Nothing seen yet. The ledger is told of packets after `limit` of them at the latest.
    #[must_use]
    pub fn new(batches: Batches, keys: KeySettings, extensions: Arc<Extensions>, limit: usize) -> Self {
        Self {
            batches,
            chosen: keys.extension.chosen_words(),
            keys,
            extensions,
            numbers: RefCell::default(),
            counters: vec![PointCounters::default(); OBSERVATION_POINTS as usize],
            packets: 0,
            limit,
            entered: 0,
            flows: HashTable::with_capacity(FLOWS),
            hasher: RandomState::default(),
            second: 0,
            held: HeldFragments::default(),
            datagrams: RefCell::default(),
            is_later_fragment: Cell::new(false),
            without_extension: Cell::new(false),
            neighbour: MacAddress::UNKNOWN,
            number_in_flow: 0,
        }
    }

    /// Number of the packet that was accounted last among those of its flow since the last hand-over; `None` if it has no
    /// payload, or is in no flow yet.
    #[must_use]
    pub fn number_in_flow(&self) -> Option<u64> {
        Some(self.number_in_flow).filter(|number| *number > 0)
    }

    /// The batches that packets go to.
    #[must_use]
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Accounts a packet of `origin` seen at `time`, in nanoseconds, from or to `neighbour` on the link. `link` is where
    /// parsing starts, or why it cannot.
    pub fn packet<P: PacketBytes>(
        &mut self,
        origin: Origin,
        time: u64,
        neighbour: MacAddress,
        packet: &P,
        link: Result<Link, DropReason>,
    ) {
        self.neighbour = neighbour;
        self.number_in_flow = 0;
        // What goes on is of one second, so that it is of one time bin.
        let second = time / SECOND;
        if second != self.second {
            if !self.flows.is_empty() {
                self.hand_over(time);
            }
            self.second = second;
        }
        let sink = Sink { meter: self, point: origin.observation_point, time };
        match link {
            Ok(link) => parse_link(packet, origin, link, sink),
            Err(reason) => sink.unaccounted(reason, packet.wire_length()),
        }
        self.packets += 1;
        if self.packets >= self.limit || self.flows.len() >= FLOWS {
            self.hand_over(time);
        }
    }

    /// Counts a packet of `octets` that the filter does not match.
    pub fn filtered(&mut self, point: u16, octets: u32) {
        self.dropped(point, DropReason::Filtered, octets);
        self.packets += 1;
    }

    /// Counts a packet of `octets` that is in no flow.
    fn dropped(&mut self, point: u16, reason: DropReason, octets: u32) {
        if let Some(counters) = self.seen(point, octets) {
            add(&mut counters.dropped[reason as usize], octets);
        }
    }

    /// Packets that the ledger was told of since this was asked last.
    pub fn take_entered(&mut self) -> u64 {
        mem::take(&mut self.entered)
    }

    /// Enters what was seen in the ledger, then lets it go on. `now` is in nanoseconds by the packets' clock.
    pub fn hand_over(&mut self, now: u64) {
        let seen: Vec<(u16, PointCounters)> = (0..)
            .zip(&self.counters)
            .filter(|(_, counters)| **counters != PointCounters::default())
            .map(|(point, counters)| (point, *counters))
            .collect();
        self.batches.ledger().seen(&seen);
        for (point, counters) in seen {
            self.entered += counters.seen.packets;
            self.counters[point as usize] = PointCounters::default();
        }
        self.packets = 0;
        self.numbers.get_mut().clear();
        for delta in self.flows.drain() {
            self.batches.push_and_send(delta);
        }
        let (datagrams, batches) = (self.datagrams.get_mut(), &mut self.batches);
        self.held.release(
            now,
            |datagram, time| datagrams.get(datagram, time),
            |delta, without_ports| {
                if without_ports {
                    batches.fragments_without_ports(&delta);
                }
                batches.push_and_send(delta);
            },
        );
        self.batches.send_all();
    }

    fn seen(&mut self, point: u16, octets: u32) -> Option<&mut PointCounters> {
        let counters = self.counters.get_mut(point as usize)?;
        add(&mut counters.seen, octets);
        Some(counters)
    }

    fn flow(&mut self, key: WideKey, point: u16, facts: PacketFacts, time: u64) {
        let is_later_fragment = self.is_later_fragment.take();
        let without_extension = self.without_extension.take();
        if let Some(counters) = self.seen(point, facts.octets) {
            counters.later_fragments += u64::from(is_later_fragment);
            counters.without_extension += u64::from(without_extension);
        }
        let delta = Delta {
            key,
            octets: u64::from(facts.octets),
            packets: 1,
            first: time,
            last: time,
            tcp_control_bits: facts.tcp_control_bits,
            other_interface: 0,
            next_hop: None,
            neighbour: self.neighbour,
            class: Class::UNKNOWN,
        };
        let has_payload = facts.octets > u32::from(facts.header_octets);
        let number = match self.held.hold(delta) {
            Held::Complete(delta) => self.add(delta),
            Held::WithoutPorts(delta) => {
                self.batches.fragments_without_ports(&delta);
                self.add(delta)
            }
            Held::Waiting => 0,
        };
        self.number_in_flow = if has_payload { number } else { 0 };
    }

    /// Adds a packet to its flow; returns how many there are in it now.
    fn add(&mut self, delta: Delta) -> u64 {
        let hash = self.hasher.hash_one(delta.key.0);
        if let Some(flow) = self.flows.find_mut(hash, |flow| flow.key == delta.key) {
            flow.octets += delta.octets;
            flow.packets += 1;
            // Time stamps of a file may go back.
            flow.first = flow.first.min(delta.first);
            flow.last = flow.last.max(delta.last);
            flow.tcp_control_bits |= delta.tcp_control_bits;
            return flow.packets;
        }
        let hasher = &self.hasher;
        self.flows.insert_unique(hash, delta, |flow| hasher.hash_one(flow.key.0));
        1
    }
}

fn add(count: &mut Count, octets: u32) {
    count.packets += 1;
    count.octets += u64::from(octets);
}

struct Sink<'a> {
    meter: &'a mut PacketMeter,
    point: u16,
    time: u64,
}

impl FlowSink for Sink<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.meter.flow(key.widen(Encapsulation::NONE), self.point, facts, self.time);
    }

    fn wide(self, key: WideKey, facts: PacketFacts) {
        self.meter.flow(key, self.point, facts, self.time);
    }

    fn unaccounted(self, reason: DropReason, octets: u32) {
        self.meter.dropped(self.point, reason, octets);
    }

    fn has_vlan_priority(&self) -> bool {
        self.meter.keys.vlan_priority
    }

    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts) {
        self.meter.datagrams.borrow_mut().insert(*datagram, ports, self.time);
    }

    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        self.meter.is_later_fragment.set(true);
        self.meter.datagrams.borrow().get(datagram, self.time)
    }

    fn extends(&self) -> bool {
        self.meter.keys.extension.is_any()
    }

    fn extended<P: PacketBytes>(
        &self,
        packet: &P,
        layers: Layers,
        key: WideKey,
        mut facts: PacketFacts,
    ) -> (WideKey, PacketFacts) {
        let mut extension = KeyExtension::default();
        let control_bits = &mut facts.tcp_control_bits;
        if !extension::read(packet, &layers, &*self.meter, &mut extension, control_bits) {
            return (key, facts);
        }
        let mut numbers = self.meter.numbers.borrow_mut();
        let number =
            *numbers.entry(extension).or_insert_with(|| self.meter.extensions.number(&extension, self.time));
        if number == 0 {
            self.meter.without_extension.set(true);
        }
        (key.with_extension(number, extension.encapsulation()), facts)
    }
}

impl Wanted for PacketMeter {
    fn inner_packet(&self) -> bool {
        self.keys.extension.inner
    }

    fn label_stack(&self) -> bool {
        self.keys.extension.labels
    }

    fn chosen_place(&self, number: usize) -> u64 {
        self.chosen.get(number).copied().unwrap_or(0)
    }
}

impl Tunnels for PacketMeter {
    fn entered(&self) -> bool {
        self.keys.inner
    }

    fn is_vxlan(&self, destination_port: u16) -> bool {
        self.keys.vxlan_ports.contains(&destination_port)
    }
}

impl Tunnels for Sink<'_> {
    fn entered(&self) -> bool {
        self.meter.entered()
    }

    fn is_vxlan(&self, destination_port: u16) -> bool {
        self.meter.is_vxlan(destination_port)
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use pathflow_common::bytes::SliceFrame;

    use super::*;
    use crate::ledger::Ledger;
    use crate::metering::shard::ShardMessage;

    /// IPv4 with TCP (SYN) in IPv4, below two labels; the last octet of the inner source address differs.
    fn frame(host: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64]);
        for (protocol, octets, last) in [(4, 60, 1), (6, 40, host)] {
            frame.extend([0x45, 0, 0, octets, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, last, 192, 0, 2, 9]);
        }
        frame.extend([0, 80, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn deltas(limit: usize, extension: ExtensionSettings) -> (Vec<Delta>, Arc<Extensions>, u64) {
        let (sender, messages) = bounded(4);
        let (_, pool) = bounded(1);
        let ledger = Arc::new(Ledger::new([]));
        let extensions = Arc::new(Extensions::new(limit, 1));
        let batches = Batches::new(vec![sender], pool, Arc::clone(&ledger));
        let keys = KeySettings { extension, ..KeySettings::default() };
        let mut meter = PacketMeter::new(batches, keys, Arc::clone(&extensions), 1024);
        for host in [3, 4, 3] {
            let octets = frame(host);
            let frame = SliceFrame::new(&octets);
            let link = Link::ethernet(&frame).ok_or(DropReason::Truncated);
            meter.packet(Origin::default(), 5, MacAddress::UNKNOWN, &frame, link);
        }
        meter.hand_over(10);
        let Ok(ShardMessage::Deltas(deltas)) = messages.try_recv() else { panic!("no deltas") };
        (deltas, extensions, ledger.books().points[0].without_extension)
    }

    #[test]
    fn flows_are_told_apart_by_what_is_asked_for() {
        let labels = ExtensionSettings { labels: true, ..ExtensionSettings::default() };
        let (flows, extensions, _) = deltas(10, labels.clone());
        let [flow] = flows[..] else { panic!("{flows:?}") };
        assert_eq!((flow.packets, flow.tcp_control_bits), (3, 0));
        assert_eq!(flow.key.encapsulation().mpls_top_label(), Some(16));
        assert_eq!(extensions.get(flow.key.extension()).unwrap().label_stack(), [16, 32]);

        let (mut flows, extensions, without) = deltas(10, ExtensionSettings { inner: true, ..labels });
        flows.sort_by_key(|flow| flow.packets);
        let hosts = flows.iter().map(|flow| {
            let inner = extensions.get(flow.key.extension()).unwrap().inner;
            (flow.packets, inner.addresses[0].to_ne_bytes()[3], flow.tcp_control_bits)
        });
        assert_eq!(hosts.collect::<Vec<_>>(), [(1, 4, 2), (2, 3, 2)]);
        assert_eq!(without, 0);
    }

    #[test]
    fn packets_without_room_for_their_extension_are_counted() {
        let inner = ExtensionSettings { inner: true, ..ExtensionSettings::default() };
        let (flows, extensions, without) = deltas(1, inner);
        let numbers: Vec<(u32, u64)> =
            flows.iter().map(|flow| (flow.key.extension(), flow.packets)).collect();
        assert!(numbers.contains(&(0, 1)) && numbers.len() == 2, "{numbers:?}");
        assert_eq!((without, extensions.held()), (1, 1));
    }
}
