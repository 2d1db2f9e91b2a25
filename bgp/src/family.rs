//! Address families (RFC 4760): which routes a session carries.

use std::fmt;

/// Address Family Identifier (IANA "Address Family Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Afi {
    /// IP version 4.
    Ipv4 = 1,
    /// IP version 6.
    Ipv6 = 2,
}

/// Subsequent Address Family Identifier (IANA "SAFI Values"), as far as pathflow keeps the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Safi {
    /// Unicast forwarding (RFC 4760, section 6).
    Unicast = 1,
    /// Unicast with MPLS labels (RFC 8277).
    LabelledUnicast = 4,
    /// MPLS VPN: a Route Distinguisher and labels before each prefix (RFC 4364, RFC 4659).
    MplsVpn = 128,
}

/// AFI and SAFI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family {
    /// Of which protocol the prefixes are.
    pub afi: Afi,
    /// What the routes are for.
    pub safi: Safi,
}

impl Family {
    /// IPv4 unicast, which BGP speakers without the Multiprotocol capability exchange (RFC 4271).
    pub const IPV4_UNICAST: Self = Self { afi: Afi::Ipv4, safi: Safi::Unicast };
    /// IPv6 unicast.
    pub const IPV6_UNICAST: Self = Self { afi: Afi::Ipv6, safi: Safi::Unicast };
    /// Every family whose routes are kept.
    pub const ALL: [Self; 6] = [
        Self::IPV4_UNICAST,
        Self::IPV6_UNICAST,
        Self { afi: Afi::Ipv4, safi: Safi::LabelledUnicast },
        Self { afi: Afi::Ipv6, safi: Safi::LabelledUnicast },
        Self { afi: Afi::Ipv4, safi: Safi::MplsVpn },
        Self { afi: Afi::Ipv6, safi: Safi::MplsVpn },
    ];

    /// `None` for a family that is not kept.
    #[must_use]
    pub fn from_numbers(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.afi as u16 == afi && family.safi as u8 == safi)
    }

    /// Place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        let version = usize::from(self.afi == Afi::Ipv6);
        match self.safi {
            Safi::Unicast => version,
            Safi::LabelledUnicast => 2 + version,
            Safi::MplsVpn => 4 + version,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.afi {
            Afi::Ipv4 => "IPv4",
            Afi::Ipv6 => "IPv6",
        };
        let purpose = match self.safi {
            Safi::Unicast => "unicast",
            Safi::LabelledUnicast => "labelled unicast",
            Safi::MplsVpn => "VPN",
        };
        write!(formatter, "{version} {purpose}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_by_its_numbers_and_at_its_index() {
        for (index, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family.index(), index);
            assert_eq!(Family::from_numbers(family.afi as u16, family.safi as u8), Some(family));
        }
        // L2VPN EVPN (RFC 7432), IPv4 multicast (RFC 4760).
        assert_eq!(Family::from_numbers(25, 70), None);
        assert_eq!(Family::from_numbers(1, 2), None);
    }
}
