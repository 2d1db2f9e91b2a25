//! Routes' destinations on the wire (RFC 4271, section 4.3; RFC 4760; RFC 7911; RFC 8277; RFC 4364).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Afi, Family, MplsLabel, Nlri, RouteDistinguisher, Safi};

/// Octets of a Path Identifier (RFC 7911, section 3).
const PATH_IDENTIFIER_OCTETS: usize = 4;
/// Bits of an MPLS label with TC and S (RFC 8277, section 2.1).
const LABEL_BITS: u8 = 24;
/// Bits of a Route Distinguisher (RFC 4364, section 4.1).
const ROUTE_DISTINGUISHER_BITS: u8 = 64;
/// In a withdrawal, in the place of a label (RFC 8277, section 2.4).
const WITHDRAW_LABEL: [u8; 3] = [0x80, 0, 0];

/// How one field of an UPDATE writes its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NlriFormat {
    pub(super) family: Family,
    /// True with Path Identifiers.
    pub(super) add_path: bool,
    /// True if the field withdraws.
    pub(super) withdrawn: bool,
}

/// NLRI of one field, in the order received. The field was checked when its message was decoded.
#[derive(Clone, Debug)]
pub struct NlriIterator<'a> {
    octets: &'a [u8],
    format: NlriFormat,
}

impl<'a> NlriIterator<'a> {
    pub(super) fn new(octets: &'a [u8], format: NlriFormat) -> Self {
        Self { octets, format }
    }

    /// The family of every route of the field.
    #[must_use]
    pub fn family(&self) -> Family {
        self.format.family
    }
}

impl Iterator for NlriIterator<'_> {
    type Item = Nlri;

    #[inline]
    fn next(&mut self) -> Option<Nlri> {
        let (nlri, rest) = self.format.decode(self.octets)?;
        self.octets = rest;
        Some(nlri)
    }
}

impl NlriFormat {
    /// True if `octets` are whole NLRI, one after the other, none with a prefix longer than its family has (RFC 7606,
    /// section 5.3). Host bits beyond the prefix length mean nothing (RFC 4271, section 4.3).
    pub(super) fn is_well_formed(self, mut octets: &[u8]) -> bool {
        if self.family.safi == Safi::Unicast {
            let identifier = if self.add_path { PATH_IDENTIFIER_OCTETS } else { 0 };
            let most = prefix_bits(self.family.afi);
            while !octets.is_empty() {
                let Some(length) = octets.get(identifier).filter(|length| **length <= most) else {
                    return false;
                };
                let Some(rest) = octets.get(identifier + 1 + octets_of(*length)..) else { return false };
                octets = rest;
            }
            return true;
        }
        while !octets.is_empty() {
            let Some((_, rest)) = self.decode(octets) else { return false };
            octets = rest;
        }
        true
    }

    /// The first route of `octets`, and what follows; `None` at the end, and if it is malformed.
    #[inline]
    fn decode(self, octets: &[u8]) -> Option<(Nlri, &[u8])> {
        let (path_id, octets) = if self.add_path {
            let (identifier, rest) = octets.split_first_chunk::<PATH_IDENTIFIER_OCTETS>()?;
            (u32::from_be_bytes(*identifier), rest)
        } else {
            (0, octets)
        };
        let (&length, octets) = octets.split_first()?;
        let (value, rest) = octets.split_at_checked(octets_of(length))?;
        if self.family.safi == Safi::Unicast {
            // What follows the prefix may be read with it: the mask takes it away again.
            let prefix = self.prefix(octets, length)?;
            return Some((Nlri { route_distinguisher: None, prefix, path_id, label: None }, rest));
        }
        let (label, route_distinguisher, value, length) = self.split_labels(value, length)?;
        let prefix = self.prefix(value, length)?;
        let label = (!self.withdrawn).then_some(label);
        Some((Nlri { route_distinguisher, prefix, path_id, label }, rest))
    }

    /// The label, the Route Distinguisher of VPN families, and the prefix with its length in bits.
    ///
    /// There is one label, whatever its bottom-of-stack bit says, for the Multiple Labels Capability is never announced
    /// (RFC 8277, section 2.2); in a withdrawal three octets of any value are in its place (section 2.4).
    fn split_labels(
        self,
        value: &[u8],
        length: u8,
    ) -> Option<(MplsLabel, Option<RouteDistinguisher>, &[u8], u8)> {
        let vpn = self.family.safi == Safi::MplsVpn;
        let beside = if vpn { ROUTE_DISTINGUISHER_BITS } else { 0 };
        let length = length.checked_sub(beside)?.checked_sub(LABEL_BITS)?;
        let (label, value) = value.split_first_chunk()?;
        if !vpn {
            return Some((MplsLabel(*label), None, value, length));
        }
        let (distinguisher, value) = value.split_first_chunk()?;
        Some((MplsLabel(*label), Some(RouteDistinguisher(*distinguisher)), value, length))
    }

    /// The prefix of `length` bits at the start of `octets`; `None` if the family has no such length.
    #[inline]
    fn prefix(self, octets: &[u8], length: u8) -> Option<IpNet> {
        Some(match self.family.afi {
            Afi::Ipv4 => {
                let unused = 32_u32.checked_sub(u32::from(length))?;
                let mask = u32::MAX.checked_shl(unused).unwrap_or(0);
                let address = Ipv4Addr::from(u32::from_be_bytes(padded(octets)) & mask);
                IpNet::V4(Ipv4Net::new(address, length).ok()?)
            }
            Afi::Ipv6 => {
                let unused = 128_u32.checked_sub(u32::from(length))?;
                let mask = u128::MAX.checked_shl(unused).unwrap_or(0);
                let address = Ipv6Addr::from(u128::from_be_bytes(padded(octets)) & mask);
                IpNet::V6(Ipv6Net::new(address, length).ok()?)
            }
        })
    }
}

/// The first `N` octets, with zeros for those that are not there.
#[inline]
fn padded<const N: usize>(octets: &[u8]) -> [u8; N] {
    octets.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; N];
        padded.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        padded
    })
}

/// Octets that hold so many bits.
#[inline]
fn octets_of(bits: u8) -> usize {
    usize::from(bits).div_ceil(8)
}

fn prefix_bits(afi: Afi) -> u8 {
    match afi {
        Afi::Ipv4 => 32,
        Afi::Ipv6 => 128,
    }
}

/// Appends routes as [`NlriFormat`] says.
pub(super) fn encode(routes: &[Nlri], format: NlriFormat, into: &mut Vec<u8>) {
    for route in routes {
        encode_one(route, format, into);
    }
}

/// In a withdrawal the label is that of RFC 8277, section 2.4; a label that is
/// missing is 3 (implicit null), a missing Route Distinguisher 0.
fn encode_one(nlri: &Nlri, format: NlriFormat, into: &mut Vec<u8>) {
    if format.add_path {
        into.extend_from_slice(&nlri.path_id.to_be_bytes());
    }
    let start = into.len();
    into.push(0);
    if format.family.safi != Safi::Unicast {
        let label = nlri.label.map_or([0, 0, 0x31], |label| label.0);
        into.extend_from_slice(if format.withdrawn { &WITHDRAW_LABEL } else { &label });
    }
    if format.family.safi == Safi::MplsVpn {
        into.extend_from_slice(&nlri.route_distinguisher.map_or([0; 8], |distinguisher| distinguisher.0));
    }
    let beside = (into.len() - start - 1) * 8;
    let length = nlri.prefix.prefix_len();
    let octets = octets_of(length);
    match nlri.prefix.network() {
        std::net::IpAddr::V4(address) => {
            into.extend_from_slice(address.octets().get(..octets).unwrap_or_default());
        }
        std::net::IpAddr::V6(address) => {
            into.extend_from_slice(address.octets().get(..octets).unwrap_or_default());
        }
    }
    if let Some(field) = into.get_mut(start) {
        *field = length + beside as u8;
    }
}
