//! Any octets, cut anywhere, of any length on the wire, have exactly one result, whether tunnels are entered or
//! not, and the same result wherever the cut lies behind what was read. So have those whose keys are extended.
#![no_main]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use pathflow_common::DropReason;
use pathflow_common::PacketBytes;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::extension::{CHOSEN_OCTETS, ChosenPlace, KeyExtension, Layer};
use pathflow_common::flow::{
    Datagram, DatagramPorts, Encapsulation, Ipv4Key, KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT, WideKey,
};
use pathflow_common::parse::extension::{self, Layers, Wanted};
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse};

/// Observation point of every frame.
const POINT: u16 = 63;
/// UDP port of VXLAN.
const VXLAN: u16 = 4789;

const fn place(layer: Layer, protocol: Option<u16>, offset: u16, length: u8, destination: u8) -> ChosenPlace {
    ChosenPlace { layer, protocol, offset, length, destination }
}

/// Places of every layer.
const PLACES: [ChosenPlace; 9] = [
    place(Layer::Packet, None, 10, 8, 0),
    place(Layer::Vlan, None, 0, 2, 8),
    place(Layer::Mpls, None, 4, 4, 10),
    place(Layer::Mac, None, 11, 3, 14),
    place(Layer::Network, Some(0x0800), 8, 1, 17),
    place(Layer::Network, Some(0x86dd), 7, 1, 17),
    place(Layer::Transport, Some(6), 14, 2, 18),
    place(Layer::Payload, None, 0, 8, 20),
    place(Layer::Payload, Some(17), 100, 4, 28),
];

/// Key in the common form and facts, or the reason.
type Outcome = Result<(WideKey, PacketFacts), DropReason>;

/// Where frames are seen.
#[derive(Default)]
struct Observer {
    enters_tunnels: bool,
    has_vlan_priority: bool,
    has_flow_label: bool,
    extends: bool,
    /// The tag beside the frame.
    tag: u32,
    extension: Cell<Option<KeyExtension>>,
    datagrams: RefCell<HashMap<Datagram, DatagramPorts>>,
}

struct Keep<'a> {
    observer: &'a Observer,
    outcome: &'a Cell<Option<Outcome>>,
}

impl Keep<'_> {
    fn keep(&self, outcome: Outcome) {
        assert!(self.outcome.replace(Some(outcome)).is_none(), "a second result");
    }
}

impl FlowSink for Keep<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.wide(key.widen(Encapsulation::NONE), facts);
    }

    fn wide(self, key: WideKey, facts: PacketFacts) {
        let flags = key.without_flow_label().fields().flags & !KEY_FLAG_LATER_FRAGMENT;
        assert_eq!(flags & !KEY_FLAG_IPV6, 0);
        assert!(facts.octets >= if flags == KEY_FLAG_IPV6 { 40 } else { 20 });
        assert_eq!(key.datagram().is_some(), key.fields().flags & KEY_FLAG_LATER_FRAGMENT != 0);
        self.keep(Ok((key, facts)));
    }

    fn unaccounted(self, reason: DropReason, _octets: u32) {
        assert!([DropReason::NotIp, DropReason::Truncated, DropReason::Malformed].contains(&reason));
        self.keep(Err(reason));
    }

    fn has_vlan_priority(&self) -> bool {
        self.observer.has_vlan_priority
    }

    fn has_flow_label(&self) -> bool {
        self.observer.has_flow_label
    }

    fn extends(&self) -> bool {
        self.observer.extends
    }

    fn extended<P: PacketBytes>(
        &self,
        packet: &P,
        layers: Layers,
        key: WideKey,
        facts: PacketFacts,
    ) -> (WideKey, PacketFacts) {
        let layers = Layers { tag: self.observer.tag, ..layers };
        extension::extend(packet, &layers, self, (key, facts), |extension| {
            self.observer.extension.set(Some(*extension));
            1
        })
    }

    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts) {
        self.observer.datagrams.borrow_mut().insert(*datagram, ports);
    }

    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        self.observer.datagrams.borrow().get(datagram).copied()
    }
}

impl Wanted for Keep<'_> {
    fn inner_packet(&self) -> bool {
        !self.observer.enters_tunnels
    }

    fn label_stack(&self) -> bool {
        true
    }

    fn chosen_place(&self, number: usize) -> u64 {
        PLACES.get(number).map_or(0, |place| place.word())
    }
}

impl Tunnels for Keep<'_> {
    fn entered(&self) -> bool {
        self.observer.enters_tunnels
    }

    fn is_vxlan(&self, destination_port: u16) -> bool {
        destination_port == VXLAN
    }
}

impl Observer {
    fn outcome(&self, octets: &[u8], wire_length: u32) -> Outcome {
        let outcome = Cell::new(None);
        let sink = Keep { observer: self, outcome: &outcome };
        parse(&SliceFrame::captured(octets, wire_length), POINT, sink);
        outcome.get().expect("no result")
    }
}

/// What a key is extended by changes nothing of the key, and is sound.
fn extended(octets: &[u8], observer: Observer) {
    let length = octets.len() as u32;
    let plain = Observer { enters_tunnels: observer.enters_tunnels, ..Observer::default() };
    let plain = plain.outcome(octets, length);
    let observer = Observer { extends: true, has_flow_label: true, ..observer };
    let found = observer.outcome(octets, length);
    let (Ok((key, facts)), Ok((plain, plain_facts))) = (found, plain) else {
        assert_eq!(found.err(), plain.err());
        return;
    };
    assert_eq!(key.without_flow_label().fields(), plain.fields());
    assert_eq!((key.addresses(), facts.octets), (plain.addresses(), plain_facts.octets));
    assert_eq!(key.encapsulation().mpls_top_label(), plain.encapsulation().mpls_top_label());
    let Some(extension) = observer.extension.get() else { return assert_eq!(key.extension(), 0) };
    assert_eq!(key.extension(), 1);
    assert_eq!(KeyExtension::from_octets(&extension.octets()), extension);
    assert_eq!(extension.encapsulation(), key.encapsulation());
    assert!(extension.label_count <= 10 && extension.flow_label == 0);
    for (position, octet) in extension.chosen.iter().enumerate().take(CHOSEN_OCTETS) {
        assert!(*octet == 0 || extension.chosen_present >> position & 1 == 1);
    }
    for place in PLACES {
        let bits = extension.chosen_present >> place.destination & ((1 << place.length) - 1);
        assert!(bits == 0 || extension.has_chosen(place.destination, place.length));
    }
}

fuzz_target!(|octets: &[u8]| {
    let length = octets.len() as u32;
    let outside = Observer::default().outcome(octets, length);
    if let Ok((key, facts)) = outside {
        let fields = key.fields();
        assert_eq!((key.epoch(), fields.observation_point), (0, POINT));
        assert!(fields.vlan_id < 4096 && fields.customer_vlan_id < 4096 && fields.vlan_priority == 0);
        // The priority is the only difference that it makes.
        let with_priority = Observer { has_vlan_priority: true, ..Observer::default() };
        let with_priority =
            with_priority.outcome(octets, length).map(|(key, facts)| (key.without_vlan_priority(), facts));
        assert_eq!(with_priority, outside);
        assert_eq!(key.encapsulation().vxlan_network_identifier(), 0);
        assert!(facts.tcp_control_bits < 4096);
        assert_eq!(facts.tcp_control_bits == 0 || fields.protocol == 6, true);
    }
    // Nor is the flow label another one.
    let with_label = Observer { has_flow_label: true, ..Observer::default() };
    let with_label = with_label.outcome(octets, length).map(|(key, facts)| (key.without_flow_label(), facts));
    assert_eq!(with_label, outside);
    for (enters_tunnels, tag) in [(false, 0), (false, 0x8100_6064), (true, 0)] {
        extended(octets, Observer { enters_tunnels, tag, ..Observer::default() });
    }
    // A tunnel never costs a packet its flow.
    let inside = Observer { enters_tunnels: true, ..Observer::default() }.outcome(octets, length);
    match (outside, inside) {
        (Ok((_, outer)), Ok((_, inner))) => assert!(outer.octets <= length && inner.octets <= length),
        (Err(outside), Err(inside)) => assert_eq!(outside, inside),
        (Ok(_), Err(reason)) => panic!("{reason:?} inside"),
        (Err(_), Ok(_)) => {}
    }
    // Cut in the middle: truncated or not, what is read is the same.
    let cut = Observer::default().outcome(&octets[..octets.len() / 2], length);
    match (outside, cut) {
        (Ok((whole, facts)), Ok((cut, cut_facts))) => {
            assert_eq!((whole.addresses(), facts.octets), (cut.addresses(), cut_facts.octets));
            assert_eq!(whole.encapsulation(), cut.encapsulation());
            assert!(cut.fields().ports == [0; 4] || cut.fields().ports == whole.fields().ports);
        }
        (_, Err(DropReason::Truncated)) => {}
        (whole, cut) => assert_eq!(whole, cut),
    }
    // A length that no frame has must not matter but for packets too long for their length field.
    Observer { enters_tunnels: true, ..Observer::default() }.outcome(octets, u32::MAX).ok();
    // Frames one after the other, of which some are fragments of one datagram.
    let observer = Observer { enters_tunnels: octets.len() % 2 == 0, ..Observer::default() };
    for frame in octets.chunks(96) {
        observer.outcome(frame, frame.len() as u32).ok();
    }
});
