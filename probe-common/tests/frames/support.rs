//! Frames put together octet by octet, and the parser's answer as a value.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use pathflow_common::DropReason;
use pathflow_common::PacketBytes;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::extension::{ChosenPlace, KeyExtension};
use pathflow_common::flow::{Addresses, Datagram, DatagramPorts, Encapsulation, Ipv4Key, KeyFields, WideKey};
use pathflow_common::parse::extension::{self, Layers, Wanted};
use pathflow_common::parse::link::Link;
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse, parse_link};

/// Observation point of every parsed frame.
pub(crate) const POINT: u16 = 42;

pub(crate) const SOURCE4: [u8; 4] = [192, 0, 2, 1];
pub(crate) const DESTINATION4: [u8; 4] = [198, 51, 100, 2];
pub(crate) const SOURCE6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
pub(crate) const DESTINATION6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];

/// Ports 4660 to 443.
pub(crate) const PORTS: [u8; 4] = [0x12, 0x34, 0x01, 0xbb];

/// What the parser made of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Flow(Flow),
    Unaccounted(DropReason, u32),
}

/// A key taken apart, and the facts that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "the flow label of IPv6 is called so")]
pub(crate) struct Flow {
    pub(crate) fields: KeyFields,
    pub(crate) addresses: Addresses,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) flow_label: u32,
    pub(crate) facts: PacketFacts,
}

impl Parsed {
    /// The flow of a frame that must have one.
    #[track_caller]
    pub(crate) fn flow(self) -> Flow {
        match self {
            Self::Flow(flow) => flow,
            Self::Unaccounted(reason, _) => panic!("not accounted: {reason:?}"),
        }
    }

    /// The reason of a frame that must have none.
    #[track_caller]
    pub(crate) fn reason(self) -> DropReason {
        match self {
            Self::Flow(flow) => panic!("accounted: {flow:?}"),
            Self::Unaccounted(reason, _) => reason,
        }
    }
}

/// UDP ports of VXLAN for [`Observer::inside`].
pub(crate) const VXLAN_PORTS: [u16; 2] = [4789, 8472];

/// Where frames are seen: which packet counts of those in a tunnel, and what is remembered of fragments.
#[derive(Default)]
pub(crate) struct Observer {
    enters_tunnels: bool,
    has_vlan_priority: bool,
    has_flow_label: bool,
    datagrams: RefCell<HashMap<Datagram, DatagramPorts>>,
    wanted: Extended,
    /// The tag that is held beside frames.
    tag: u32,
    /// Of the last frame.
    extension: Cell<Option<KeyExtension>>,
}

/// What extensions are to have.
#[derive(Clone, Default)]
pub(crate) struct Extended {
    pub(crate) inner: bool,
    pub(crate) labels: bool,
    pub(crate) chosen: Vec<ChosenPlace>,
}

impl Extended {
    fn is_any(&self) -> bool {
        self.inner || self.labels || !self.chosen.is_empty()
    }
}

impl Observer {
    /// Tunnels are entered.
    pub(crate) fn inside() -> Self {
        Self { enters_tunnels: true, ..Self::default() }
    }

    /// The same, with the priority of the outer tag or without it.
    pub(crate) fn with_vlan_priority(self, has_vlan_priority: bool) -> Self {
        Self { has_vlan_priority, ..self }
    }

    /// The same with the flow label.
    pub(crate) fn with_flow_label(self) -> Self {
        Self { has_flow_label: true, ..self }
    }

    /// Keys are extended.
    pub(crate) fn extended(self, wanted: Extended) -> Self {
        Self { wanted, ..self }
    }

    /// With a tag beside each frame: TPID and TCI.
    pub(crate) fn with_tag_beside(self, tag: u32) -> Self {
        Self { tag, ..self }
    }

    /// The flow of a complete frame, and its extension.
    #[track_caller]
    pub(crate) fn flow(&self, octets: &[u8]) -> (Flow, Option<KeyExtension>) {
        let flow = if self.tag == 0 {
            self.parse(octets).flow()
        } else {
            let link =
                |frame: &SliceFrame<'_>| Link::ethernet(frame).unwrap().with_tag(self.tag as u16, false);
            self.parse_from(octets, link).flow()
        };
        (flow, self.extension.get())
    }

    /// Parses a complete frame.
    pub(crate) fn parse(&self, octets: &[u8]) -> Parsed {
        self.parse_captured(octets, octets.len() as u32)
    }

    /// Parses the first octets of a frame that has `wire_length` octets. Exactly one method of the sink must
    /// be called that takes it, and a frame that is not accounted must be counted with its wire length.
    pub(crate) fn parse_captured(&self, octets: &[u8], wire_length: u32) -> Parsed {
        let frame = SliceFrame::captured(octets, wire_length);
        self.result(octets, wire_length, |sink| parse(&frame, POINT, sink))
    }

    /// Parses a complete frame from where `link` says.
    pub(crate) fn parse_from(&self, octets: &[u8], link: impl FnOnce(&SliceFrame<'_>) -> Link) -> Parsed {
        let frame = SliceFrame::new(octets);
        self.result(octets, octets.len() as u32, |sink| parse_link(&frame, POINT, link(&frame), sink))
    }

    fn result(&self, octets: &[u8], wire_length: u32, parse: impl FnOnce(Keep<'_>)) -> Parsed {
        self.extension.set(None);
        let (calls, result) = (Cell::new(0), Cell::new(None));
        parse(Keep { observer: self, calls: &calls, result: &result });
        assert_eq!(calls.get(), 1, "{octets:02x?}");
        let parsed = result.get().unwrap();
        match parsed {
            Parsed::Flow(flow) => assert_eq!(flow.fields.observation_point, POINT),
            Parsed::Unaccounted(_, octets) => assert_eq!(octets, wire_length),
        }
        parsed
    }
}

/// Parses a complete frame, of which nothing came before.
pub(crate) fn parse_frame(octets: &[u8]) -> Parsed {
    Observer::default().parse(octets)
}

/// Parses the first octets of a frame that has `wire_length` octets, of which nothing came before.
pub(crate) fn parse_captured(octets: &[u8], wire_length: u32) -> Parsed {
    Observer::default().parse_captured(octets, wire_length)
}

/// A sink that keeps the result and counts the calls.
struct Keep<'a> {
    observer: &'a Observer,
    calls: &'a Cell<u32>,
    result: &'a Cell<Option<Parsed>>,
}

impl Keep<'_> {
    fn keep(&self, parsed: Parsed) {
        self.calls.set(self.calls.get() + 1);
        self.result.set(Some(parsed));
    }
}

impl FlowSink for Keep<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        let wide = key.widen(Encapsulation::NONE);
        assert_eq!(key.fields(), wide.fields());
        self.wide(wide, facts);
    }

    fn wide(self, key: WideKey, facts: PacketFacts) {
        assert_eq!(key.extension() != 0, self.observer.extension.get().is_some());
        let (addresses, encapsulation) = (key.addresses(), key.encapsulation());
        let flow_label = key.flow_label();
        let fields = key.without_flow_label().fields();
        self.keep(Parsed::Flow(Flow { fields, addresses, encapsulation, flow_label, facts }));
    }

    fn unaccounted(self, reason: DropReason, octets: u32) {
        self.keep(Parsed::Unaccounted(reason, octets));
    }

    fn has_vlan_priority(&self) -> bool {
        self.observer.has_vlan_priority
    }

    fn has_flow_label(&self) -> bool {
        self.observer.has_flow_label
    }

    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts) {
        self.observer.datagrams.borrow_mut().insert(*datagram, ports);
    }

    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        self.observer.datagrams.borrow().get(datagram).copied()
    }

    fn extends(&self) -> bool {
        self.observer.wanted.is_any()
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
            NUMBER
        })
    }
}

impl Wanted for Keep<'_> {
    fn inner_packet(&self) -> bool {
        self.observer.wanted.inner
    }

    fn label_stack(&self) -> bool {
        self.observer.wanted.labels
    }

    fn chosen_place(&self, number: usize) -> u64 {
        self.observer.wanted.chosen.get(number).map_or(0, |place| place.word())
    }
}

impl Tunnels for Keep<'_> {
    fn entered(&self) -> bool {
        self.observer.enters_tunnels
    }

    fn is_vxlan(&self, destination_port: u16) -> bool {
        VXLAN_PORTS.contains(&destination_port)
    }
}

/// Number of every extension.
const NUMBER: u32 = 7;

/// An Ethernet frame; each tag is its protocol identifier and its control word.
pub(crate) fn ethernet(tags: &[(u16, u16)], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1];
    for (protocol, control) in tags {
        frame.extend(protocol.to_be_bytes());
        frame.extend(control.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Identification of every IPv4 packet that asks for no other.
pub(crate) const IDENTIFICATION: u16 = 0xabcd;

/// Fields of an IPv4 header that tests change.
#[derive(Clone, Copy)]
pub(crate) struct Ipv4<'a> {
    pub(crate) type_of_service: u8,
    pub(crate) identification: u16,
    /// Flags and fragment offset.
    pub(crate) fragment: u16,
    pub(crate) protocol: u8,
    /// A multiple of four octets.
    pub(crate) options: &'a [u8],
}

impl Ipv4<'_> {
    pub(crate) fn of(protocol: u8) -> Self {
        Self { type_of_service: 0, identification: IDENTIFICATION, fragment: 0x4000, protocol, options: &[] }
    }

    /// The packet: header and `payload`.
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_octets = 20 + self.options.len();
        let mut packet = vec![0x40 | (header_octets / 4) as u8, self.type_of_service];
        packet.extend(((header_octets + payload.len()) as u16).to_be_bytes());
        packet.extend(self.identification.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(SOURCE4);
        packet.extend(DESTINATION4);
        packet.extend(self.options);
        packet.extend(payload);
        packet
    }

    /// The packet in a frame without tags.
    pub(crate) fn frame(&self, payload: &[u8]) -> Vec<u8> {
        ethernet(&[], 0x0800, &self.packet(payload))
    }
}

/// An IPv6 packet with traffic class 0xb8 and flow label 0x12345.
pub(crate) fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6b, 0x81, 0x23, 0x45];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(SOURCE6);
    packet.extend(DESTINATION6);
    packet.extend(payload);
    packet
}

/// The same in a frame without tags.
pub(crate) fn ipv6_frame(next_header: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x86dd, &ipv6(next_header, payload))
}

/// A UDP header with [`PORTS`] and eight octets of data.
pub(crate) fn udp() -> Vec<u8> {
    [&PORTS[..], &[0, 16, 0, 0], &[0xee; 8]].concat()
}

/// A TCP header with [`PORTS`] and the twelve control bits.
pub(crate) fn tcp(control_bits: u16) -> Vec<u8> {
    let word = 0x5000 | control_bits;
    [&PORTS[..], &[0xff; 8], &word.to_be_bytes(), &[0xff; 6]].concat()
}
