//! What a packet's key has beyond its words, read once the places of its layers are known.
//!
//! A step of its own behind the parser: it starts from a few offsets, so that the kernel program can do it in a
//! function of its own, which the verifier follows from values that it knows nothing of.

use super::link::Link;
use super::tunnel::Tunnels;
use super::{MAX_LABELS, PacketFacts, ipv4, ipv6, tunnel};
use crate::PacketBytes;
use crate::bytes::field;
use crate::extension::{
    CHOSEN_OCTETS, CHOSEN_OFFSETS, CHOSEN_PLACES, InnerPacket, KeyExtension, Layer, chosen_bits,
};
use crate::flow::{Encapsulation, WideKey};

/// What extensions are to have.
pub trait Wanted: Tunnels {
    /// The packet inside a tunnel.
    fn inner_packet(&self) -> bool;
    /// The whole MPLS stack.
    fn label_stack(&self) -> bool;
    /// [`ChosenPlace::word`](crate::extension::ChosenPlace::word) of the place with this number, below
    /// [`CHOSEN_PLACES`]; 0 = there is none.
    fn chosen_place(&self, number: usize) -> u64;
}

/// Where the layers of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Layers {
    /// What the packet is wrapped in, as in its key.
    pub encapsulation: Encapsulation,
    /// Where each [`Layer`] starts, by its number, in octets of the frame; [`Layers::ABSENT`] where there is none.
    pub offsets: [u16; 8],
    /// Where the IP packet ends.
    pub end: u32,
    /// The tag that is held beside the frame: TPID and TCI; 0 = none. Offsets of the link's layers count it.
    pub tag: u32,
    /// `EtherType` of [`Layer::Network`].
    pub ether_type: u16,
    /// IP protocol of [`Layer::Transport`].
    pub protocol: u16,
    /// As in [`KeyExtension::flow_label`].
    pub flow_label: u32,
}

const _: () = assert!(size_of::<Layers>() == 40);

/// What follows the network header.
pub(super) struct Upper {
    pub(super) protocol: u8,
    /// Where it starts; `None` in a later fragment.
    pub(super) offset: Option<usize>,
    /// Octets of the header of TCP or UDP.
    pub(super) header_octets: u16,
}

const TCP: u8 = 6;
const TCP_OCTETS: u16 = 20;
/// Offsets have 15 bits, as in [`PacketBytes::forget`].
const OFFSET: usize = 0x7fff;

/// Where the tag is that is held beside the frame.
const TAG_OFFSET: usize = 12;
const TAG_END: usize = TAG_OFFSET + 4;

impl Layers {
    /// In place of an offset.
    pub const ABSENT: u16 = u16::MAX;

    #[inline(always)]
    pub(super) fn new(link: &Link, end: usize, upper: &Upper) -> Self {
        let transport = upper.offset.map_or(Self::ABSENT, |offset| offset as u16);
        let has_payload = upper.header_octets != 0
            && upper.offset.is_some()
            && (upper.protocol != TCP || upper.header_octets >= TCP_OCTETS);
        let payload = if has_payload { transport.wrapping_add(upper.header_octets) } else { Self::ABSENT };
        let lower = link.lower;
        Self {
            encapsulation: link.encapsulation,
            offsets: [0, 0, lower.mac(), lower.vlan(), lower.mpls(), link.offset as u16, transport, payload],
            end: end as u32,
            tag: 0,
            ether_type: link.ether_type,
            protocol: upper.protocol as u16,
            flow_label: 0,
        }
    }
}

/// Reads into `extension`, which must be all zero, what `wanted` wants of the packet. Returns whether there is more than
/// the key's words can say. `control_bits` become those of the packet inside a tunnel, if the outer one is not TCP.
#[inline(always)]
pub fn read<P: PacketBytes, W: Wanted>(
    packet: &P,
    layers: &Layers,
    wanted: &W,
    extension: &mut KeyExtension,
    control_bits: &mut u16,
) -> bool {
    let mut is_any = false;
    let mut encapsulation = layers.encapsulation;
    if wanted.inner_packet() {
        let inner_bits;
        (is_any, encapsulation, inner_bits) = read_inner(packet, layers, wanted, &mut extension.inner);
        if extension.inner.ether_type != 0 && layers.protocol != TCP as u16 {
            *control_bits = inner_bits;
        }
    }
    extension.flow_label = layers.flow_label;
    extension.vxlan_network_identifier = encapsulation.vxlan_network_identifier();
    if let Some(top) = encapsulation.mpls_top_label() {
        extension.labels[0] = top;
        extension.label_count = 1;
        if wanted.label_stack() {
            is_any = true;
            read_labels(packet, layers, extension);
        }
    }
    read_chosen(packet, layers, wanted, extension);
    is_any || extension.chosen_present != 0
}

/// The key and the facts of a packet outside of the kernel's tables: with what [`read`] reads, if there is anything.
/// `number` gives an extension its number.
pub fn extend<P: PacketBytes, W: Wanted>(
    packet: &P,
    layers: &Layers,
    wanted: &W,
    (key, mut facts): (WideKey, PacketFacts),
    number: impl FnOnce(&KeyExtension) -> u32,
) -> (WideKey, PacketFacts) {
    let mut extension = KeyExtension::NONE;
    if !read(packet, layers, wanted, &mut extension, &mut facts.tcp_control_bits) {
        return (key, facts);
    }
    let (extension, flow_label) = extension.take_flow_label();
    let key = key.with_extension(number(&extension), extension.encapsulation());
    (key.with_flow_label(flow_label), facts)
}

#[inline(always)]
fn read_labels<P: PacketBytes>(packet: &P, layers: &Layers, extension: &mut KeyExtension) {
    let offset = layers.offsets[Layer::Mpls as usize];
    let mut place = 0;
    while place < MAX_LABELS && offset != Layers::ABSENT {
        let Some(entry) = packet.read::<4>((offset as usize & OFFSET) + place * 4) else { return };
        let entry = u32::from_be_bytes(entry);
        extension.labels[place] = entry >> 12;
        place += 1;
        extension.label_count = place as u32;
        if entry & 0x100 != 0 {
            return;
        }
    }
}

/// Reads the packet inside a tunnel, of a frame without an IP packet the MAC addresses. Returns whether there is one or the
/// other, what the packet is wrapped in, and the TCP control bits.
#[inline(always)]
fn read_inner<P: PacketBytes, W: Wanted>(
    packet: &P,
    layers: &Layers,
    wanted: &W,
    inner: &mut InnerPacket,
) -> (bool, Encapsulation, u16) {
    let outer = Link {
        encapsulation: layers.encapsulation,
        ..Link::network(layers.ether_type, layers.offsets[Layer::Network as usize] as usize & OFFSET)
    };
    let tunnel::Inside { link, frame, is_entered } = tunnel::inside(packet, outer, wanted, false);
    let link = link.forget(packet);
    let frame = packet.forget(frame);
    if frame != 0
        && let Some(addresses) = packet.read::<12>(frame)
    {
        inner.destination_mac = field(&addresses, 0);
        inner.source_mac = field(&addresses, 6);
    }
    if !is_entered {
        let is_any = frame != 0 || link.encapsulation.vxlan_network_identifier() != 0;
        return (is_any, link.encapsulation, 0);
    }
    let control_bits = if link.ether_type == super::link::IPV4 {
        ipv4::read_inner(packet, &link, inner)
    } else {
        ipv6::read_inner(packet, &link, inner)
    };
    (true, link.encapsulation, control_bits)
}

/// The first place of a destination that the packet has wins: read in turn from the last one, it overwrites the
/// others.
#[inline(always)]
fn read_chosen<P: PacketBytes, W: Wanted>(
    packet: &P,
    layers: &Layers,
    wanted: &W,
    extension: &mut KeyExtension,
) {
    let mut left = CHOSEN_PLACES;
    while left > 0 {
        left -= 1;
        let place = wanted.chosen_place(left);
        if place != 0 {
            read_place(packet, layers, place, extension);
        }
    }
}

#[inline(always)]
fn read_place<P: PacketBytes>(packet: &P, layers: &Layers, place: u64, extension: &mut KeyExtension) {
    let layer = place as usize & 7;
    let length = (place >> 8) as u8 as usize;
    let destination = (place >> 16) as u8 as usize;
    let offset = (place >> 48) as usize;
    if place >> 24 & 1 != 0 {
        let protocol = match layer {
            _ if layer == Layer::Network as usize => layers.ether_type,
            _ if layer >= Layer::Transport as usize => layers.protocol,
            _ => return,
        };
        if protocol != (place >> 32) as u16 {
            return;
        }
    }
    let start = layers.offsets[layer];
    if start == Layers::ABSENT || offset >= CHOSEN_OFFSETS {
        return;
    }
    let start = start as usize & OFFSET;
    let is_link = layer < Layer::Network as usize;
    let has_tag = layer < Layer::Mpls as usize && start < TAG_END && layers.tag != 0;
    let mut end = packet.readable_length();
    if has_tag {
        end += TAG_END - TAG_OFFSET;
    } else if !is_link && end > layers.end as usize {
        end = layers.end as usize;
    }
    if start + offset + length > end {
        return;
    }
    extension.chosen_present |= chosen_bits(destination, length);
    let mut number = 0;
    while number < length && number < CHOSEN_OCTETS && destination + number < CHOSEN_OCTETS {
        let mut position = start + offset + number;
        let mut octet = None;
        if has_tag && position >= TAG_OFFSET {
            if position < TAG_END {
                octet = Some([(layers.tag >> (8 * (3 - (position & 3)))) as u8]);
            }
            position = packet.forget(position - (TAG_END - TAG_OFFSET));
        }
        if octet.is_none() {
            octet = packet.read::<1>(position);
        }
        extension.chosen[(destination + number) & (CHOSEN_OCTETS - 1)] = octet.unwrap_or_default()[0];
        number += 1;
    }
}
