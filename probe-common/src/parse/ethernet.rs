//! Ethernet II and VLAN tags (IEEE 802.1Q).

use crate::{DropReason, PacketBytes};

/// `EtherType` of IPv4.
pub const IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub const IPV6: u16 = 0x86dd;

/// Customer tag, service tag, and the number used for service tags before 802.1ad.
const TAG_PROTOCOLS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// Offset of the first `EtherType`.
pub(super) const TYPE_OFFSET: usize = 12;
const HEADER_OCTETS: usize = 14;
const TAG_OCTETS: usize = 4;

/// What lies below the network header.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// `EtherType` after the tags.
    pub(super) ether_type: u16,
    /// Outer VLAN identifier, 0 if untagged.
    pub(super) vlan_id: u16,
    /// Inner VLAN identifier, 0 if there is no second tag.
    pub(super) customer_vlan_id: u16,
    /// Where the network header starts.
    pub(super) offset: usize,
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == TAG_PROTOCOLS[0] || ether_type == TAG_PROTOCOLS[1] || ether_type == TAG_PROTOCOLS[2]
}

impl Link {
    /// Of a frame whose `EtherType` is that of its payload.
    #[inline(always)]
    pub(super) fn untagged(ether_type: u16) -> Self {
        Self { ether_type, vlan_id: 0, customer_vlan_id: 0, offset: HEADER_OCTETS }
    }
}

/// Goes on from the first `EtherType` to that after the tags.
#[inline(always)]
pub(super) fn skip_tags<P: PacketBytes>(packet: &P, mut link: Link) -> Result<Link, DropReason> {
    if !is_tag(link.ether_type) {
        return Ok(link);
    }
    let Some([c0, c1, t0, t1]) = packet.read::<4>(link.offset) else { return Err(DropReason::Truncated) };
    link.vlan_id = u16::from_be_bytes([c0, c1]) & 0xfff;
    link.ether_type = u16::from_be_bytes([t0, t1]);
    link.offset += TAG_OCTETS;
    if !is_tag(link.ether_type) {
        return Ok(link);
    }
    let Some([c0, c1, t0, t1]) = packet.read::<4>(link.offset) else { return Err(DropReason::Truncated) };
    link.customer_vlan_id = u16::from_be_bytes([c0, c1]) & 0xfff;
    link.ether_type = u16::from_be_bytes([t0, t1]);
    link.offset += TAG_OCTETS;
    Ok(link)
}
