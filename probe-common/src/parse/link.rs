//! What lies below the network header: Ethernet, VLAN tags (IEEE 802.1Q), MPLS (RFC 3032), `PPPoE` (RFC 2516).

use super::{FlowSink, MAX_LABELS};
use crate::bytes::field;
use crate::flow::Encapsulation;
use crate::{DropReason, PacketBytes};

/// `EtherType` of IPv4.
pub const IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub const IPV6: u16 = 0x86dd;
/// `EtherType`s of MPLS: unicast, and with upstream-assigned labels (RFC 5332).
const MPLS: [u16; 2] = [0x8847, 0x8848];
/// `EtherType` of a `PPPoE` session.
const PPPOE_SESSION: u16 = 0x8864;

/// Customer tag, service tag, and the number used for service tags before 802.1ad.
const TAG_PROTOCOLS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// VLAN tags that are walked. The outer two are in the key.
pub const MAX_TAGS: usize = 4;
/// Offset of the first `EtherType`.
pub(super) const TYPE_OFFSET: usize = 12;
const HEADER_OCTETS: usize = 14;
/// Bits of a tag's control information: VLAN identifier, and with it the priority code point.
const IDENTIFIER: u16 = 0x0fff;
const PRIORITY_AND_IDENTIFIER: u16 = 0xefff;
const TAG_OCTETS: usize = 4;
const LABEL_OCTETS: usize = 4;
const PPPOE_OCTETS: usize = 8;

const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// What lies below the network header, as far as it has been read.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// `EtherType` of what is at `offset`.
    pub ether_type: u16,
    /// Tags read so far.
    pub tags: u8,
    /// What the key has of the outer tag's control information: the VLAN identifier in the low 12 bits, and in the high 3
    /// bits the priority, if it is asked for; 0 if untagged.
    pub outer_tag: u16,
    /// Inner VLAN identifier, 0 if there is no second tag.
    pub customer_vlan_id: u16,
    /// Where the header of `ether_type` starts.
    pub offset: usize,
    /// What the packet is wrapped in.
    pub encapsulation: Encapsulation,
    /// Where the layers below are, for extensions.
    pub lower: LowerLayers,
}

/// Offsets of the layers below the network header, 16 bits each; all ones where there is none.
#[derive(Clone, Copy, Debug)]
pub struct LowerLayers(u64);

impl LowerLayers {
    const NONE: Self = Self(u64::MAX);
    const MAC: u32 = 0;
    const VLAN: u32 = 16;
    const MPLS: u32 = 32;

    #[inline(always)]
    const fn with(self, shift: u32, offset: usize) -> Self {
        Self(self.0 & !(0xffff << shift) | (offset as u64 & 0xffff) << shift)
    }

    /// Of the MAC header.
    #[inline(always)]
    pub(super) const fn mac(self) -> u16 {
        (self.0 >> Self::MAC) as u16
    }

    /// Of the control information of the outermost VLAN tag.
    #[inline(always)]
    pub(super) const fn vlan(self) -> u16 {
        (self.0 >> Self::VLAN) as u16
    }

    /// Of the top of the MPLS stack.
    #[inline(always)]
    pub(super) const fn mpls(self) -> u16 {
        (self.0 >> Self::MPLS) as u16
    }

    /// The same, as [`PacketBytes::forget_word`] has it.
    #[inline(always)]
    pub(super) fn forget<P: PacketBytes>(self, packet: &P) -> Self {
        Self(packet.forget_word(self.0))
    }

    /// With the frame at `offset` inside a tunnel in place of the outer one.
    #[inline(always)]
    fn inside(self, offset: usize) -> Self {
        Self(self.0 | 0xffff << Self::VLAN).with(Self::MAC, offset)
    }
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == TAG_PROTOCOLS[0] || ether_type == TAG_PROTOCOLS[1] || ether_type == TAG_PROTOCOLS[2]
}

impl Link {
    /// Of a packet whose network header is at `offset`.
    #[inline(always)]
    #[must_use]
    pub const fn network(ether_type: u16, offset: usize) -> Self {
        Self {
            ether_type,
            tags: 0,
            outer_tag: 0,
            customer_vlan_id: 0,
            offset,
            encapsulation: Encapsulation::NONE,
            lower: LowerLayers::NONE,
        }
    }

    /// Of an Ethernet frame that starts with the packet.
    #[inline(always)]
    #[must_use]
    pub fn ethernet<P: PacketBytes>(packet: &P) -> Option<Self> {
        let ether_type = packet.read::<2>(TYPE_OFFSET)?;
        Some(Self::after_ethernet(u16::from_be_bytes(ether_type)))
    }

    /// Of an Ethernet frame of this type that starts with the packet.
    #[inline(always)]
    #[must_use]
    pub const fn after_ethernet(ether_type: u16) -> Self {
        let mut link = Self::network(ether_type, HEADER_OCTETS);
        link.lower = link.lower.with(LowerLayers::MAC, 0);
        link
    }

    /// With the place of the outermost tag, if the packet has one: that is where the link is, or beside the frame.
    #[inline(always)]
    pub(super) fn at_outer_tag(mut self) -> Self {
        if self.tags != 0 {
            self.lower = self.lower.with(LowerLayers::VLAN, HEADER_OCTETS);
        } else if is_tag(self.ether_type) {
            self.lower = self.lower.with(LowerLayers::VLAN, self.offset);
        }
        self
    }

    /// With the tag that the kernel took out of the frame and holds beside it. It was the outermost. `has_priority`: whether
    /// the key has its priority.
    #[inline(always)]
    #[must_use]
    pub const fn with_tag(mut self, control_information: u16, has_priority: bool) -> Self {
        self.tags = 1;
        self.outer_tag =
            control_information & if has_priority { PRIORITY_AND_IDENTIFIER } else { IDENTIFIER };
        self
    }

    /// Outer VLAN identifier, 0 if untagged.
    #[inline(always)]
    pub(super) const fn vlan_id(&self) -> u16 {
        self.outer_tag & IDENTIFIER
    }

    /// Priority of the outer tag; 0 if untagged, or if nobody asks for it.
    #[inline(always)]
    pub(super) const fn vlan_priority(&self) -> u8 {
        (self.outer_tag >> 13) as u8
    }

    /// Of the Ethernet frame at `offset` inside a tunnel, after its tags; `encapsulation` is the tunnel's.
    #[inline(always)]
    pub(super) fn inner_ethernet<P: PacketBytes>(
        packet: &P,
        has_priority: bool,
        offset: usize,
        outer: Self,
    ) -> Result<Self, DropReason> {
        let Some(ether_type) = packet.read::<2>(offset + TYPE_OFFSET) else {
            return Err(DropReason::Truncated);
        };
        let network = Self::network(u16::from_be_bytes(ether_type), offset + HEADER_OCTETS);
        let Self { encapsulation, lower, .. } = outer;
        let link = Self { encapsulation, lower: lower.inside(offset), ..network }.at_outer_tag();
        link.skip_tags(packet, has_priority)
    }

    /// The same, so that nobody can tell by what headers it was reached.
    #[inline(always)]
    #[must_use]
    pub fn forget<P: PacketBytes>(mut self, packet: &P) -> Self {
        self.offset = packet.forget(self.offset);
        let identifiers = self.outer_tag as u64 | (self.customer_vlan_id as u64) << 16;
        let identifiers = packet.forget_word(identifiers);
        self.outer_tag = identifiers as u16;
        self.customer_vlan_id = (identifiers >> 16) as u16;
        self.encapsulation = self.encapsulation.forget(packet);
        self
    }

    /// Goes on to the network header: over tags, a `PPPoE` session header and MPLS labels.
    #[inline(always)]
    pub(super) fn skip_all<P: PacketBytes, S: FlowSink>(
        self,
        packet: &P,
        sink: &S,
    ) -> Result<Self, DropReason> {
        let mut link = self.skip_tags(packet, sink.has_vlan_priority())?;
        link.offset = packet.forget(link.offset);
        if link.ether_type == PPPOE_SESSION {
            link = link.skip_pppoe(packet)?;
        }
        if link.ether_type == MPLS[0] || link.ether_type == MPLS[1] {
            if sink.extends() {
                link.lower = link.lower.with(LowerLayers::MPLS, link.offset);
            }
            link = link.skip_labels(packet)?;
        }
        Ok(link)
    }

    #[inline(always)]
    fn skip_tags<P: PacketBytes>(mut self, packet: &P, has_priority: bool) -> Result<Self, DropReason> {
        let mut tags = 0;
        while tags < MAX_TAGS && is_tag(self.ether_type) {
            let Some(tag) = packet.read::<4>(self.offset) else { return Err(DropReason::Truncated) };
            let control_information = u16::from_be_bytes(field(&tag, 0));
            if self.tags == 0 {
                self.outer_tag = control_information & IDENTIFIER;
                if has_priority {
                    self.outer_tag = control_information & PRIORITY_AND_IDENTIFIER;
                }
            } else if self.tags == 1 {
                self.customer_vlan_id = control_information & IDENTIFIER;
            }
            self.tags += 1;
            self.ether_type = u16::from_be_bytes(field(&tag, 2));
            self.offset += TAG_OCTETS;
            tags += 1;
        }
        Ok(self)
    }

    #[inline(always)]
    fn skip_pppoe<P: PacketBytes>(mut self, packet: &P) -> Result<Self, DropReason> {
        let Some(header) = packet.read::<PPPOE_OCTETS>(self.offset) else {
            return Err(DropReason::Truncated);
        };
        // Version 1, type 1, code 0: session data.
        if u16::from_be_bytes(field(&header, 0)) != 0x1100 {
            return Err(DropReason::Malformed);
        }
        self.ether_type = match u16::from_be_bytes(field(&header, 6)) {
            PPP_IPV4 => IPV4,
            PPP_IPV6 => IPV6,
            _ => return Err(DropReason::NotIp),
        };
        self.offset += PPPOE_OCTETS;
        Ok(self)
    }

    #[inline(always)]
    fn skip_labels<P: PacketBytes>(mut self, packet: &P) -> Result<Self, DropReason> {
        let mut labels = 0;
        while labels < MAX_LABELS {
            let Some(entry) = packet.read::<LABEL_OCTETS>(self.offset) else {
                return Err(DropReason::Truncated);
            };
            let entry = u32::from_be_bytes(entry);
            if labels == 0 {
                self.encapsulation = self.encapsulation.with_mpls_top_label(entry >> 12);
            }
            self.offset += LABEL_OCTETS;
            labels += 1;
            if entry & 0x100 != 0 {
                // Nothing below the labels says what follows them; IP tells itself by its first nibble, and
                // a pseudowire starts with another one (RFC 4928).
                let Some([first, ..]) = packet.read::<4>(self.offset) else {
                    return Err(DropReason::Truncated);
                };
                self.ether_type = match first >> 4 {
                    4 => IPV4,
                    6 => IPV6,
                    _ => return Err(DropReason::NotIp),
                };
                return Ok(self);
            }
        }
        Err(DropReason::NotIp)
    }
}
