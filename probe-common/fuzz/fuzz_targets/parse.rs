//! Any octets, cut anywhere, of any length on the wire, have exactly one result, whether tunnels are entered or
//! not, and the same result wherever the cut lies behind what was read.
#![no_main]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{
    Datagram, DatagramPorts, Encapsulation, Ipv4Key, KEY_FLAG_IPV6, KEY_FLAG_LATER_FRAGMENT, WideKey,
};
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse};

/// Observation point of every frame.
const POINT: u16 = 63;
/// UDP port of VXLAN.
const VXLAN: u16 = 4789;

/// Key in the common form and facts, or the reason.
type Outcome = Result<(WideKey, PacketFacts), DropReason>;

/// Where frames are seen.
#[derive(Default)]
struct Observer {
    enters_tunnels: bool,
    has_vlan_priority: bool,
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
        let flags = key.fields().flags & !KEY_FLAG_LATER_FRAGMENT;
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

    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts) {
        self.observer.datagrams.borrow_mut().insert(*datagram, ports);
    }

    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        self.observer.datagrams.borrow().get(datagram).copied()
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
