//! What a flow can be told apart by beyond the words of its key: the packet inside a tunnel, the whole MPLS
//! stack, and octets that the operator chose.
//!
//! It is too long for a slot, nobody pays for it who does not ask for it, and packets of one flow have the same.
//! So a flow has a reference to it ([`KEY_FLAG_EXTENDED`](crate::flow::KEY_FLAG_EXTENDED)), and the extension
//! lies in a table of its own ([`map::EXTENSIONS`](crate::layout::map::EXTENSIONS)).

use core::mem::offset_of;

use crate::bytes::field;
use crate::parse::MAX_LABELS;

/// Octets that the operator can choose from a packet.
pub const CHOSEN_OCTETS: usize = 32;
/// Places that they can be read from.
pub const CHOSEN_PLACES: usize = 16;

/// The packet inside a tunnel. All zero if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct InnerPacket {
    /// The four address words as in a wide key (IPv4: both in the first).
    pub addresses: [u64; 4],
    /// As in [`KeyFields::ports`](crate::flow::KeyFields::ports).
    pub ports: [u8; 4],
    /// IPv6 flow label, 20 bits.
    pub flow_label: u32,
    /// `EtherType` of the packet: IPv4 or IPv6; 0 = there is none.
    pub ether_type: u16,
    /// IP protocol; for IPv6 that of the last header reached.
    pub protocol: u8,
    /// IPv4 type of service or IPv6 traffic class.
    pub class_of_service: u8,
    /// Source MAC address; zero in a tunnel that carries no Ethernet.
    pub source_mac: [u8; 6],
    /// Destination MAC address, likewise.
    pub destination_mac: [u8; 6],
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct KeyExtension {
    /// The packet inside a tunnel, if tunnels are looked into beside the key.
    pub inner: InnerPacket,
    /// Labels of the MPLS stack from the top (RFC 3032), 20 bits each; 0 beyond [`Self::label_count`]. All of
    /// them only if the stack is asked for, otherwise the one at the top.
    pub labels: [u32; MAX_LABELS],
    /// How many.
    pub label_count: u32,
    /// VXLAN network identifier (RFC 7348), 24 bits; 0 = none.
    pub vxlan_network_identifier: u32,
    /// Octets that the operator chose, each where [`ChosenPlace::destination`] says; 0 where a packet has none.
    pub chosen: [u8; CHOSEN_OCTETS],
}

const _: () = assert!(size_of::<InnerPacket>() == 56);
const _: () = assert!(size_of::<KeyExtension>() == 136);
const _: () = assert!(offset_of!(InnerPacket, ports) == 32 && offset_of!(InnerPacket, ether_type) == 40);
const _: () =
    assert!(offset_of!(InnerPacket, source_mac) == 44 && offset_of!(InnerPacket, destination_mac) == 50);
const _: () = assert!(offset_of!(KeyExtension, labels) == 56 && offset_of!(KeyExtension, chosen) == 104);

impl KeyExtension {
    /// As it lies in memory.
    #[must_use]
    pub fn octets(&self) -> [u8; size_of::<Self>()] {
        let mut octets = [0; size_of::<Self>()];
        let mut put = |offset: usize, field: &[u8]| {
            for (place, octet) in octets.iter_mut().skip(offset).zip(field) {
                *place = *octet;
            }
        };
        for (offset, word) in (0..).step_by(8).zip(self.inner.addresses) {
            put(offset, &word.to_ne_bytes());
        }
        put(32, &self.inner.ports);
        put(36, &self.inner.flow_label.to_ne_bytes());
        put(40, &self.inner.ether_type.to_ne_bytes());
        put(42, &[self.inner.protocol, self.inner.class_of_service]);
        put(44, &self.inner.source_mac);
        put(50, &self.inner.destination_mac);
        for (offset, label) in (56..).step_by(4).zip(self.labels) {
            put(offset, &label.to_ne_bytes());
        }
        put(96, &self.label_count.to_ne_bytes());
        put(100, &self.vxlan_network_identifier.to_ne_bytes());
        put(104, &self.chosen);
        octets
    }

    /// From how it lies in memory.
    #[must_use]
    pub fn from_octets(octets: &[u8; size_of::<Self>()]) -> Self {
        let word = |offset| u64::from_ne_bytes(field(octets, offset));
        let half = |offset| u32::from_ne_bytes(field(octets, offset));
        let mut labels = [0; MAX_LABELS];
        for (label, offset) in labels.iter_mut().zip((56..).step_by(4)) {
            *label = half(offset);
        }
        let [protocol, class_of_service] = field(octets, 42);
        Self {
            inner: InnerPacket {
                addresses: [word(0), word(8), word(16), word(24)],
                ports: field(octets, 32),
                flow_label: half(36),
                ether_type: u16::from_ne_bytes(field(octets, 40)),
                protocol,
                class_of_service,
                source_mac: field(octets, 44),
                destination_mac: field(octets, 50),
            },
            labels,
            label_count: half(96),
            vxlan_network_identifier: half(100),
            chosen: field(octets, 104),
        }
    }

    /// The labels from the top.
    #[must_use]
    pub fn label_stack(&self) -> &[u32] {
        self.labels.get(..self.label_count as usize).unwrap_or(&self.labels)
    }
}

/// What a place in a packet is counted from (`packet_ptr` of pmacct's custom primitives).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Layer {
    /// The first octet of the frame.
    Packet = 1,
    /// The MAC header.
    Mac = 2,
    /// The control information of the outermost VLAN tag.
    Vlan = 3,
    /// The top of the MPLS stack.
    Mpls = 4,
    /// The IP header.
    Network = 5,
    /// What follows the IP header and its extension headers; not in later fragments.
    Transport = 6,
    /// What follows the header of TCP or UDP.
    Payload = 7,
}

/// A place from which chosen octets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChosenPlace {
    /// What `offset` is counted from.
    pub layer: Layer,
    /// Only for packets where the layer has this protocol: `EtherType` of [`Layer::Network`], IP protocol of
    /// [`Layer::Transport`] and [`Layer::Payload`].
    pub protocol: Option<u16>,
    /// Octets from the start of the layer.
    pub offset: u16,
    /// Octets that are read; all of them, or none if the packet ends before.
    pub length: u8,
    /// Where they go in [`KeyExtension::chosen`]. Places of one primitive have the same: the first that a packet
    /// has wins.
    pub destination: u8,
}

impl ChosenPlace {
    /// For the kernel program: layer in bits 0..8, length 8..16, destination 16..24, whether there is a protocol
    /// 24..32, protocol 32..48, offset 48..64. Zero is no place.
    #[must_use]
    pub const fn word(self) -> u64 {
        let (has_protocol, protocol) = match self.protocol {
            Some(protocol) => (1, protocol as u64),
            None => (0, 0),
        };
        self.layer as u64
            | (self.length as u64) << 8
            | (self.destination as u64) << 16
            | has_protocol << 24
            | protocol << 32
            | (self.offset as u64) << 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_those_of_memory() {
        let mut octets = [0; size_of::<KeyExtension>()];
        for (octet, value) in octets.iter_mut().zip(1..) {
            *octet = value;
        }
        let extension = KeyExtension::from_octets(&octets);
        assert_eq!(extension.octets(), octets);
    }
}
