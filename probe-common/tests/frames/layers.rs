//! What may lie between Ethernet and the packet that counts, in any combination.

use pathflow_common::flow::{Addresses, Encapsulation, KEY_FLAG_IPV6, KeyFields};
use pathflow_common::parse::PacketFacts;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{
    DESTINATION4, DESTINATION6, Flow, Ipv4, POINT, SOURCE4, SOURCE6, VXLAN_PORTS, ethernet, ipv6,
};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const GRE: u8 = 47;
/// Source port of VXLAN packets.
const SOURCE_PORT: u16 = 50_000;

type Tags = Vec<(u16, u16)>;

/// What is directly above the tags.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Ip,
    Session,
    Labels(Vec<u32>),
}

/// The tunnel that a packet is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    None,
    Ip,
    /// With these flags.
    Gre(u16),
    /// A frame with tags in GRE.
    Bridge(Tags),
    /// A frame with tags in the network of this identifier.
    Vxlan(Tags, u32, u16),
}

/// A combination of them.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    tags: Tags,
    link: Link,
    pub(crate) tunnel: Tunnel,
    /// Whether the tunnel's own packet is IPv6.
    over_ipv6: bool,
}

fn tags() -> impl Strategy<Value = Tags> {
    vec((prop::sample::select(&[0x8100, 0x88a8, 0x9100][..]), any::<u16>()), 0..=4)
}

/// Any combination that is walked.
pub(crate) fn layers() -> impl Strategy<Value = Layers> {
    let link = prop_oneof![
        2 => Just(Link::Ip),
        1 => Just(Link::Session),
        2 => vec(0..=0xf_ffff_u32, 1..=10).prop_map(Link::Labels),
    ];
    let flags = (0..8_u16).prop_map(|bits| (bits & 1) << 15 | (bits >> 1 & 1) << 13 | (bits >> 2) << 12);
    let tunnel = prop_oneof![
        Just(Tunnel::None),
        Just(Tunnel::Ip),
        flags.prop_map(Tunnel::Gre),
        tags().prop_map(Tunnel::Bridge),
        (tags(), 0..=0xff_ffff_u32, prop::sample::select(&VXLAN_PORTS[..]))
            .prop_map(|(tags, identifier, port)| Tunnel::Vxlan(tags, identifier, port)),
    ];
    (tags(), link, tunnel, any::<bool>()).prop_map(|(tags, link, tunnel, over_ipv6)| Layers {
        tags,
        link,
        tunnel,
        over_ipv6,
    })
}

impl Layers {
    /// The frame of an IP packet.
    pub(crate) fn frame(&self, packet: &[u8], is_ipv6: bool) -> Vec<u8> {
        let ether_type = if is_ipv6 { IPV6 } else { IPV4 };
        let Some((protocol, payload)) = self.payload(packet, ether_type) else {
            return self.link(packet, is_ipv6);
        };
        let outer =
            if self.over_ipv6 { ipv6(protocol, &payload) } else { Ipv4::of(protocol).packet(&payload) };
        self.link(&outer, self.over_ipv6)
    }

    /// Protocol number and payload of the tunnel's packet.
    fn payload(&self, packet: &[u8], ether_type: u16) -> Option<(u8, Vec<u8>)> {
        Some(match &self.tunnel {
            Tunnel::None => return None,
            Tunnel::Ip => (if ether_type == IPV6 { 41 } else { 4 }, packet.to_vec()),
            Tunnel::Gre(flags) => {
                let words = (flags & 0xb000).count_ones() as usize;
                let header = [flags.to_be_bytes(), ether_type.to_be_bytes()].concat();
                (GRE, [&header[..], &vec![0x45; 4 * words], packet].concat())
            }
            Tunnel::Bridge(tags) => {
                (GRE, [&[0, 0, 0x65, 0x58], &ethernet(tags, ether_type, packet)[..]].concat())
            }
            Tunnel::Vxlan(tags, identifier, port) => {
                let mut payload = [SOURCE_PORT.to_be_bytes(), port.to_be_bytes()].concat();
                payload.extend([0, 0, 0, 0, 0x08, 0, 0, 0]);
                payload.extend((identifier << 8).to_be_bytes());
                payload.extend(ethernet(tags, ether_type, packet));
                (UDP, payload)
            }
        })
    }

    fn link(&self, packet: &[u8], is_ipv6: bool) -> Vec<u8> {
        match &self.link {
            Link::Ip => ethernet(&self.tags, if is_ipv6 { IPV6 } else { IPV4 }, packet),
            Link::Session => {
                let protocol = if is_ipv6 { 0x57 } else { 0x21 };
                let [high, low] = (packet.len() as u16 + 2).to_be_bytes();
                let header = [0x11, 0, 0, 1, high, low, 0, protocol];
                ethernet(&self.tags, 0x8864, &[&header[..], packet].concat())
            }
            Link::Labels(labels) => {
                let mut payload = Vec::new();
                for (place, label) in (1..).zip(labels) {
                    payload.extend((label << 12 | u32::from(place == labels.len()) << 8).to_be_bytes());
                }
                payload.extend(packet);
                ethernet(&self.tags, 0x8847, &payload)
            }
        }
    }

    /// With the priority of the outer tag, what is to be said of the packet that is to be said as `bare` of without layers.
    pub(crate) fn expected(&self, bare: Flow) -> Flow {
        let (tags, identifier) = match &self.tunnel {
            Tunnel::Bridge(tags) => (tags, 0),
            Tunnel::Vxlan(tags, identifier, _) => (tags, *identifier),
            _ => (&self.tags, 0),
        };
        let vlan_id = |place: usize| tags.get(place).map_or(0, |(_, control)| control & 0xfff);
        let vlan_priority = tags.first().map_or(0, |(_, control)| (control >> 13) as u8);
        let fields =
            KeyFields { vlan_id: vlan_id(0), customer_vlan_id: vlan_id(1), vlan_priority, ..bare.fields };
        let encapsulation = self.labels().with_vxlan_network_identifier(identifier);
        Flow { fields, encapsulation, ..bare }
    }

    fn labels(&self) -> Encapsulation {
        match &self.link {
            Link::Labels(labels) => Encapsulation::NONE.with_mpls_top_label(labels[0]),
            _ => Encapsulation::NONE,
        }
    }

    /// What is to be said of the tunnel's own packet with `packet` in it.
    pub(crate) fn outside(&self, packet: &[u8], is_ipv6: bool) -> Flow {
        let (protocol, payload) = self.payload(packet, if is_ipv6 { IPV6 } else { IPV4 }).unwrap();
        let vlan_id = |place: usize| self.tags.get(place).map_or(0, |(_, control)| control & 0xfff);
        let mut ports = [0; 4];
        let mut header_octets = if self.over_ipv6 { 40 } else { 20 };
        let octets = payload.len() as u32 + u32::from(header_octets);
        if let Tunnel::Vxlan(_, _, port) = self.tunnel {
            ports = (u32::from(SOURCE_PORT) << 16 | u32::from(port)).to_be_bytes();
            header_octets += 8;
        }
        Flow {
            fields: KeyFields {
                observation_point: POINT,
                filter_results: 0,
                flags: if self.over_ipv6 { KEY_FLAG_IPV6 } else { 0 },
                protocol,
                ports,
                vlan_id: vlan_id(0),
                customer_vlan_id: vlan_id(1),
                vlan_priority: 0,
                class_of_service: if self.over_ipv6 { 0xb8 } else { 0 },
            },
            addresses: if self.over_ipv6 {
                Addresses::Ipv6(SOURCE6, DESTINATION6)
            } else {
                Addresses::Ipv4(SOURCE4, DESTINATION4)
            },
            encapsulation: self.labels(),
            flow_label: 0,
            facts: PacketFacts { octets, tcp_control_bits: 0, header_octets },
        }
    }
}
