//! `MP_REACH_NLRI` and `MP_UNREACH_NLRI` (RFC 4760, sections 3 and 4).

use std::net::IpAddr;

use super::SessionContext;
use super::nlri::NlriFormat;
use crate::Family;

/// A value of one of the two attributes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Multiprotocol<T> {
    /// Of a family whose routes are kept.
    Kept(T),
    /// Of another one: ignored, and named.
    Ignored {
        /// AFI and SAFI.
        family: (u16, u8),
        /// True if nothing is in it: `MP_REACH_NLRI` that announces nothing.
        empty: bool,
    },
}

/// `MP_REACH_NLRI`, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct MpReachNlri<'a> {
    pub(super) next_hop: IpAddr,
    pub(super) format: NlriFormat,
    pub(super) nlri: &'a [u8],
}

/// `MP_UNREACH_NLRI`, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct MpUnreachNlri<'a> {
    pub(super) format: NlriFormat,
    pub(super) nlri: &'a [u8],
}

/// Decodes `MP_REACH_NLRI`; what is wrong, if the routes in it cannot be found.
pub(super) fn decode_reach(
    value: &[u8],
    context: SessionContext,
) -> Result<Multiprotocol<MpReachNlri<'_>>, &'static str> {
    let (family, value) = split_family(value).ok_or("MP_REACH_NLRI cut short")?;
    let split = value.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    // One reserved octet lies between next hop and routes.
    let split = split.and_then(|(next_hop, rest)| Some((next_hop, rest.split_first()?.1)));
    let Some(known) = Family::from_numbers(family.0, family.1) else {
        let empty = split.is_none_or(|(_, nlri)| nlri.is_empty());
        return Ok(Multiprotocol::Ignored { family, empty });
    };
    let (next_hop, nlri) = split.ok_or("MP_REACH_NLRI cut short")?;
    let next_hop = decode_next_hop(next_hop).ok_or("next hop in MP_REACH_NLRI of a length that none has")?;
    let format = NlriFormat { family: known, add_path: context.add_path.contains(known), withdrawn: false };
    if !format.is_well_formed(nlri) {
        return Err("malformed NLRI in MP_REACH_NLRI");
    }
    Ok(Multiprotocol::Kept(MpReachNlri { next_hop, format, nlri }))
}

/// Decodes `MP_UNREACH_NLRI`; what is wrong, if the routes in it cannot be found.
pub(super) fn decode_unreach(
    value: &[u8],
    context: SessionContext,
) -> Result<Multiprotocol<MpUnreachNlri<'_>>, &'static str> {
    let (family, nlri) = split_family(value).ok_or("MP_UNREACH_NLRI cut short")?;
    let Some(known) = Family::from_numbers(family.0, family.1) else {
        return Ok(Multiprotocol::Ignored { family, empty: nlri.is_empty() });
    };
    let format = NlriFormat { family: known, add_path: context.add_path.contains(known), withdrawn: true };
    if !format.is_well_formed(nlri) {
        return Err("malformed NLRI in MP_UNREACH_NLRI");
    }
    Ok(Multiprotocol::Kept(MpUnreachNlri { format, nlri }))
}

fn split_family(value: &[u8]) -> Option<((u16, u8), &[u8])> {
    let (&[high, low, safi], rest) = value.split_first_chunk()?;
    Some(((u16::from_be_bytes([high, low]), safi), rest))
}

/// The next hop of a family that is kept, whichever it is: IPv4 or IPv6 (RFC 8950), either behind a Route Distinguisher
/// (RFC 4364, section 4.3.2; RFC 4659, section 3.2.1), an IPv6 one with a link-local one after it (RFC 2545, section
/// 3). The global one counts, unless it is the unspecified address beside a link-local one.
fn decode_next_hop(octets: &[u8]) -> Option<IpAddr> {
    let ipv4 = |octets: &[u8]| octets.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
    let ipv6 = |octets: &[u8]| octets.first_chunk::<16>().map(|octets| IpAddr::from(*octets));
    match octets.len() {
        4 => ipv4(octets),
        12 => ipv4(octets.get(8..)?),
        16 => ipv6(octets),
        24 => ipv6(octets.get(8..)?),
        32 => ipv6(octets).filter(|global| !global.is_unspecified()).or_else(|| ipv6(octets.get(16..)?)),
        48 => {
            let global = ipv6(octets.get(8..)?).filter(|global| !global.is_unspecified());
            global.or_else(|| ipv6(octets.get(32..)?))
        }
        _ => None,
    }
}
