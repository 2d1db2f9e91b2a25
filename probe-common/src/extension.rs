//! What a flow can be told apart by beyond the words of its key: the packet inside a tunnel, the whole MPLS
//! stack, and octets that the operator chose.
//!
//! It is too long for a slot, nobody pays for it who does not ask for it, and packets of one flow have the same.
//! So a flow has a reference to it ([`KEY_FLAG_EXTENDED`](crate::flow::KEY_FLAG_EXTENDED)), and the extension
//! lies in a table of its own ([`map::EXTENSIONS`](crate::layout::map::EXTENSIONS)).

use core::mem::offset_of;

use crate::bytes::field;
use crate::flow::Encapsulation;
use crate::parse::MAX_LABELS;

/// Octets that the operator can choose from a packet.
pub const CHOSEN_OCTETS: usize = 32;
/// Places that they can be read from.
pub const CHOSEN_PLACES: usize = 16;
/// Offsets of such places, from the start of their layer, are less than this.
pub const CHOSEN_OFFSETS: usize = 0x4000;

/// The packet inside a tunnel. All zero if there is none, but for the MAC addresses of a frame that carries no IP.
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
    /// Which of these a packet has, a bit for each.
    pub chosen_present: u32,
    /// IPv6 flow label, 20 bits, as in the key; 0 if nobody asks for it.
    pub flow_label: u32,
}

/// Words of an extension.
pub const EXTENSION_WORDS: usize = size_of::<KeyExtension>() / size_of::<u64>();

/// An extension in the kernel's table and on its way to user space: its reference, and each of its words combined with
/// that (exclusive or).
///
/// The kernel takes the element of an old extension for a new one at any time, also while a packet or user space looks at
/// it. Then reference and words are of two extensions, and do not open with what was looked for: no packet gets the
/// reference of another extension than its own. (References are never used twice.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SealedExtension {
    /// What flows have in their key.
    pub reference: u64,
    /// The words of the extension, as they lie in memory, each combined with the reference.
    pub words: [u64; EXTENSION_WORDS],
}

impl SealedExtension {
    /// From how it lies in memory.
    #[must_use]
    pub fn from_octets(octets: &[u8; size_of::<Self>()]) -> Self {
        let word = |position: usize| u64::from_ne_bytes(field(octets, size_of::<u64>() * position));
        let mut words = [0; EXTENSION_WORDS];
        for (position, place) in (1..).zip(&mut words) {
            *place = word(position);
        }
        Self { reference: word(0), words }
    }

    /// The extension that was sealed.
    #[must_use]
    pub fn open(&self) -> KeyExtension {
        let mut octets = [0; size_of::<KeyExtension>()];
        for (place, word) in octets.as_chunks_mut().0.iter_mut().zip(self.words) {
            *place = (word ^ self.reference).to_ne_bytes();
        }
        KeyExtension::from_octets(&octets)
    }
}

const _: () = assert!(size_of::<InnerPacket>() == 56);
const _: () = assert!(size_of::<KeyExtension>() == 144 && size_of::<SealedExtension>() == 152);
const _: () = assert!(offset_of!(InnerPacket, ports) == 32 && offset_of!(InnerPacket, ether_type) == 40);
const _: () =
    assert!(offset_of!(InnerPacket, source_mac) == 44 && offset_of!(InnerPacket, destination_mac) == 50);
const _: () = assert!(offset_of!(KeyExtension, labels) == 56 && offset_of!(KeyExtension, chosen) == 104);

impl KeyExtension {
    /// Nothing.
    pub const NONE: Self = Self {
        inner: InnerPacket {
            addresses: [0; 4],
            ports: [0; 4],
            flow_label: 0,
            ether_type: 0,
            protocol: 0,
            class_of_service: 0,
            source_mac: [0; 6],
            destination_mac: [0; 6],
        },
        labels: [0; MAX_LABELS],
        label_count: 0,
        vxlan_network_identifier: 0,
        chosen: [0; CHOSEN_OCTETS],
        chosen_present: 0,
        flow_label: 0,
    };

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
        put(136, &self.chosen_present.to_ne_bytes());
        put(140, &self.flow_label.to_ne_bytes());
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
            chosen_present: half(136),
            flow_label: half(140),
        }
    }

    /// What the packet is wrapped in, as a key without an extension has it.
    #[must_use]
    pub fn encapsulation(&self) -> Encapsulation {
        let mut encapsulation = Encapsulation::NONE;
        if let Some(top) = self.label_stack().first() {
            encapsulation = encapsulation.with_mpls_top_label(*top);
        }
        encapsulation.with_vxlan_network_identifier(self.vxlan_network_identifier)
    }

    /// The extension without flow label, and the label: a key has room for it where it has no reference.
    #[must_use]
    pub fn take_flow_label(self) -> (Self, u32) {
        (Self { flow_label: 0, ..self }, self.flow_label)
    }

    /// The extension of a packet that has none of the chosen octets.
    #[must_use]
    pub fn without_chosen_octets(self) -> Self {
        Self { chosen: [0; CHOSEN_OCTETS], chosen_present: 0, ..self }
    }

    /// Whether a packet has all of `length` chosen octets from `start`.
    #[must_use]
    pub fn has_chosen(&self, start: u8, length: u8) -> bool {
        let asked = chosen_bits(start.into(), length.into());
        asked != 0 && self.chosen_present & asked == asked
    }

    /// The labels from the top.
    #[must_use]
    pub fn label_stack(&self) -> &[u32] {
        self.labels.get(..self.label_count as usize).unwrap_or(&self.labels)
    }
}

/// A bit for each of `length` chosen octets from `start`.
#[inline(always)]
pub(crate) const fn chosen_bits(start: usize, length: usize) -> u32 {
    (((1_u64 << (length & 0x3f)) - 1) << (start & 0x1f)) as u32
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
    /// Octets from the start of the layer; below [`CHOSEN_OFFSETS`].
    pub offset: u16,
    /// Octets that are read; all of them, or none if the packet ends before.
    pub length: u8,
    /// Where they go in [`KeyExtension::chosen`]. Places of one primitive have the same: the first that a packet
    /// has (with its protocol, and long enough) wins.
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

    /// As the kernel program makes it.
    fn sealed(extension: &KeyExtension, reference: u64) -> SealedExtension {
        let octets = extension.octets();
        let mut words = octets.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word) ^ reference);
        SealedExtension { reference, words: core::array::from_fn(|_| words.next().unwrap()) }
    }

    #[test]
    fn an_element_that_is_taken_for_another_extension_opens_as_neither() {
        let extension = |label_count| KeyExtension { label_count, ..KeyExtension::default() };
        let (old, new) = (sealed(&extension(1), 5 << 48 | 7), sealed(&extension(2), 4 << 48 | 7));
        assert_eq!((old.open(), new.open()), (extension(1), extension(2)));
        // Any part of it has been written, in any order.
        for written in 1..(1_u32 << 18) - 1 {
            let mut words = old.words;
            for (place, (word, new)) in words.iter_mut().zip(new.words).enumerate() {
                *word = if written >> place & 1 == 0 { *word } else { new };
            }
            assert_ne!(SealedExtension { words, ..new }.open(), extension(1), "{written:x}");
            assert_ne!(SealedExtension { words, ..old }.open(), extension(2), "{written:x}");
        }
        assert_ne!(SealedExtension { reference: new.reference, ..old }.open(), extension(1));
    }

    #[test]
    fn chosen_octets_are_there_as_a_whole() {
        assert_eq!((chosen_bits(0, 32), chosen_bits(31, 1), chosen_bits(3, 0)), (u32::MAX, 1 << 31, 0));
        let extension = KeyExtension { chosen_present: 0b0111_1000, ..KeyExtension::default() };
        assert!(extension.has_chosen(3, 4) && extension.has_chosen(6, 1));
        assert!(!extension.has_chosen(2, 2) && !extension.has_chosen(6, 2) && !extension.has_chosen(3, 0));
    }
}
