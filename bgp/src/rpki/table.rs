//! An immutable set of VRPs in the order that lookups want.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Vrp;

/// Outcome of RFC 6811, section 2, for one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ValidationState {
    /// No VRP covers the prefix.
    #[default]
    NotFound,
    /// At least one VRP matches.
    Valid,
    /// VRPs cover the prefix, and none matches.
    Invalid,
}

/// What records and dumps say: [`ValidationState`], and of an invalid route whether a less specific one stands behind
/// it. Traffic follows that one where invalid routes are rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoaStatus {
    /// No VRP covers the prefix, or there is no route.
    #[default]
    Unknown,
    /// Some VRP matches.
    Valid,
    /// None matches, and the less specific routes are invalid too.
    Invalid,
    /// None matches; the nearest less specific route that is not invalid is valid.
    InvalidCoveredByValid,
    /// None matches; no VRP covers the nearest less specific route that is not invalid.
    InvalidCoveredByUnknown,
}

impl RoaStatus {
    /// pmacct's letter: `u`, `v`, `i`, `V`, `U`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Unknown => 'u',
            Self::Valid => 'v',
            Self::Invalid => 'i',
            Self::InvalidCoveredByValid => 'V',
            Self::InvalidCoveredByUnknown => 'U',
        }
    }
}

/// VRPs of one address family. Covering prefixes are chained, so that a lookup is one binary search and a walk over
/// the few prefixes around it.
#[derive(Clone, Debug)]
struct FamilyTable<N> {
    /// Each prefix once, ascending by address, then by length: every prefix stands behind those that cover it.
    prefixes: Box<[Covering<N>]>,
    /// Of all prefixes, in their order.
    authorisations: Box<[Authorisation]>,
}

#[derive(Clone, Copy, Debug)]
struct Covering<N> {
    prefix: N,
    /// Place of the longest shorter prefix around this one; [`NONE`] if there is none.
    parent: u32,
    /// Place of the first authorisation. They end where those of the next prefix start.
    first: u32,
}

#[derive(Clone, Copy, Debug)]
struct Authorisation {
    as_number: u32,
    max_length: u8,
}

const NONE: u32 = u32::MAX;

trait Net: Copy + Ord {
    fn covers(self, other: Self) -> bool;
    fn length(self) -> u8;
}

impl Net for Ipv4Net {
    fn covers(self, other: Self) -> bool {
        self.contains(&other)
    }

    fn length(self) -> u8 {
        self.prefix_len()
    }
}

impl Net for Ipv6Net {
    fn covers(self, other: Self) -> bool {
        self.contains(&other)
    }

    fn length(self) -> u8 {
        self.prefix_len()
    }
}

impl<N> Default for FamilyTable<N> {
    fn default() -> Self {
        Self { prefixes: Box::default(), authorisations: Box::default() }
    }
}

impl<N: Net> FamilyTable<N> {
    /// `sorted` is ascending by prefix.
    fn new(sorted: impl Iterator<Item = (N, Authorisation)>) -> Self {
        let mut prefixes: Vec<Covering<N>> = Vec::new();
        let mut authorisations = Vec::new();
        for (prefix, authorisation) in sorted {
            if prefixes.last().is_none_or(|last| last.prefix != prefix) {
                let previous = u32::try_from(prefixes.len()).ok().and_then(|length| length.checked_sub(1));
                let parent = enclosing(&prefixes, previous.unwrap_or(NONE), prefix);
                prefixes.push(Covering { prefix, parent, first: authorisations.len() as u32 });
            }
            authorisations.push(authorisation);
        }
        Self { prefixes: prefixes.into(), authorisations: authorisations.into() }
    }

    fn validate(&self, prefix: N, origin_as: Option<u32>) -> ValidationState {
        let behind = self.prefixes.partition_point(|covering| covering.prefix <= prefix) as u32;
        let mut place = enclosing(&self.prefixes, behind.checked_sub(1).unwrap_or(NONE), prefix);
        let mut state = ValidationState::NotFound;
        while let Some(covering) = self.prefixes.get(place as usize) {
            state = ValidationState::Invalid;
            let end = self
                .prefixes
                .get(place as usize + 1)
                .map_or(self.authorisations.len(), |next| next.first as usize);
            let authorised = self.authorisations.get(covering.first as usize..end).unwrap_or_default();
            let matches = |one: &Authorisation| {
                one.as_number != 0 && Some(one.as_number) == origin_as && prefix.length() <= one.max_length
            };
            if authorised.iter().any(matches) {
                return ValidationState::Valid;
            }
            place = covering.parent;
        }
        state
    }
}

/// From `place` along the parents to the first that covers `prefix`. What covers a prefix and stands before it covers
/// everything between, so it is found whichever of those `place` is.
fn enclosing<N: Net>(prefixes: &[Covering<N>], mut place: u32, prefix: N) -> u32 {
    while let Some(covering) = prefixes.get(place as usize) {
        if covering.prefix.covers(prefix) {
            return place;
        }
        place = covering.parent;
    }
    NONE
}

/// A set of VRPs, immutable.
#[derive(Clone, Debug, Default)]
pub struct RoaTable {
    ipv4: FamilyTable<Ipv4Net>,
    ipv6: FamilyTable<Ipv6Net>,
}

impl RoaTable {
    /// Of any VRPs in any order; duplicates count once.
    #[must_use]
    pub fn new(vrps: impl IntoIterator<Item = Vrp>) -> Self {
        let mut vrps: Vec<Vrp> = vrps.into_iter().collect();
        vrps.sort_unstable();
        vrps.dedup();
        let authorisation =
            |vrp: &Vrp| Authorisation { as_number: vrp.as_number, max_length: vrp.max_length };
        let ipv4 = vrps.iter().filter_map(|vrp| match vrp.prefix {
            IpNet::V4(prefix) => Some((prefix, authorisation(vrp))),
            IpNet::V6(_) => None,
        });
        let ipv6 = vrps.iter().filter_map(|vrp| match vrp.prefix {
            IpNet::V4(_) => None,
            IpNet::V6(prefix) => Some((prefix, authorisation(vrp))),
        });
        Self { ipv4: FamilyTable::new(ipv4), ipv6: FamilyTable::new(ipv6) }
    }

    /// Number of VRPs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ipv4.authorisations.len() + self.ipv6.authorisations.len()
    }

    /// True if there is no VRP.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// State of a route (RFC 6811, section 2). `origin_as` is `None` if there is no single origin: the path ends in an
    /// `AS_SET`. Of a route with an empty path it is the AS of the router itself. Host bits are ignored.
    #[must_use]
    pub fn validate(&self, prefix: IpNet, origin_as: Option<u32>) -> ValidationState {
        match prefix {
            IpNet::V4(prefix) => self.ipv4.validate(prefix.trunc(), origin_as),
            IpNet::V6(prefix) => self.ipv6.validate(prefix.trunc(), origin_as),
        }
    }

    /// Status of the first of `routes`, which are those that one table holds for an address, the longest prefix first;
    /// the others are looked at only if it is invalid.
    pub fn status(&self, routes: impl IntoIterator<Item = (IpNet, Option<u32>)>) -> RoaStatus {
        let mut states = routes.into_iter().map(|(prefix, origin_as)| self.validate(prefix, origin_as));
        match states.next() {
            None | Some(ValidationState::NotFound) => return RoaStatus::Unknown,
            Some(ValidationState::Valid) => return RoaStatus::Valid,
            Some(ValidationState::Invalid) => {}
        }
        match states.find(|state| *state != ValidationState::Invalid) {
            None | Some(ValidationState::Invalid) => RoaStatus::Invalid,
            Some(ValidationState::Valid) => RoaStatus::InvalidCoveredByValid,
            Some(ValidationState::NotFound) => RoaStatus::InvalidCoveredByUnknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vrp(prefix: &str, max_length: u8, as_number: u32) -> Vrp {
        Vrp::new(prefix.parse().unwrap(), max_length, as_number).unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn states_are_those_of_rfc_6811() {
        let table = RoaTable::new([
            vrp("192.0.2.0/24", 24, 64_500),
            vrp("198.51.0.0/16", 20, 64_501),
            vrp("198.51.100.0/24", 24, 64_502),
            vrp("203.0.113.0/24", 32, 0),
            vrp("2001:db8::/32", 48, 64_500),
        ]);
        assert_eq!(table.len(), 5);
        let state = |prefix, origin| table.validate(net(prefix), Some(origin));
        assert_eq!(state("192.0.2.0/24", 64_500), ValidationState::Valid);
        assert_eq!(state("192.0.2.0/24", 64_501), ValidationState::Invalid);
        assert_eq!(state("192.0.2.0/25", 64_500), ValidationState::Invalid);
        assert_eq!(state("192.0.0.0/16", 64_500), ValidationState::NotFound);
        assert_eq!(state("198.51.96.0/20", 64_501), ValidationState::Valid);
        assert_eq!(state("198.51.100.0/24", 64_501), ValidationState::Invalid);
        assert_eq!(state("198.51.100.0/24", 64_502), ValidationState::Valid);
        assert_eq!(state("203.0.113.0/24", 0), ValidationState::Invalid);
        assert_eq!(state("2001:db8:1::/48", 64_500), ValidationState::Valid);
        assert_eq!(state("2001:db8:1::/49", 64_500), ValidationState::Invalid);
        assert_eq!(table.validate(net("192.0.2.0/24"), None), ValidationState::Invalid);
    }

    #[test]
    fn an_invalid_route_says_what_covers_it() {
        let table = RoaTable::new([vrp("192.0.2.0/23", 24, 64_500)]);
        let status = |routes: &[(&str, u32)]| {
            table.status(routes.iter().map(|(prefix, origin)| (net(prefix), Some(*origin)))).letter()
        };
        assert_eq!(status(&[]), 'u');
        assert_eq!(status(&[("198.51.100.0/24", 1)]), 'u');
        assert_eq!(status(&[("192.0.2.0/24", 64_500), ("192.0.2.0/23", 1)]), 'v');
        assert_eq!(status(&[("192.0.2.0/24", 1)]), 'i');
        assert_eq!(status(&[("192.0.2.0/25", 1), ("192.0.2.0/24", 2)]), 'i');
        assert_eq!(status(&[("192.0.2.0/25", 1), ("192.0.2.0/24", 2), ("192.0.2.0/23", 64_500)]), 'V');
        assert_eq!(status(&[("192.0.2.0/24", 1), ("192.0.0.0/16", 64_500)]), 'U');
    }

    #[test]
    fn values_that_are_no_vrp_are_refused() {
        assert!(matches!(Vrp::new(net("192.0.2.1/24"), 24, 1), Err(VrpError::HostBits(_))));
        assert!(matches!(Vrp::new(net("192.0.2.0/24"), 23, 1), Err(VrpError::MaxLength { .. })));
        assert!(matches!(Vrp::new(net("192.0.2.0/24"), 33, 1), Err(VrpError::MaxLength { .. })));
        assert!(Vrp::new(net("2001:db8::/32"), 128, 1).is_ok());
    }

    use super::super::VrpError;

    /// RFC 6811, section 2, word by word over a list.
    fn slow(vrps: &[Vrp], prefix: IpNet, origin_as: Option<u32>) -> ValidationState {
        let covered: Vec<_> = vrps.iter().filter(|vrp| vrp.prefix.contains(&prefix)).collect();
        if covered.is_empty() {
            return ValidationState::NotFound;
        }
        let matched = covered.iter().any(|vrp| {
            prefix.prefix_len() <= vrp.max_length && origin_as == Some(vrp.as_number) && vrp.as_number != 0
        });
        if matched { ValidationState::Valid } else { ValidationState::Invalid }
    }

    /// Prefixes that nest and repeat: few distinct top octets, and of IPv6 the same pattern in the top half.
    fn prefixes() -> impl Strategy<Value = IpNet> {
        (any::<u32>(), 0..=32u8, any::<bool>()).prop_map(|(address, length, ipv6)| {
            let address = address & 0x0303_8003;
            if ipv6 {
                let address = u128::from(address) << 96;
                IpNet::V6(Ipv6Net::new(address.into(), length * 2).unwrap().trunc())
            } else {
                IpNet::V4(Ipv4Net::new(address.into(), length).unwrap().trunc())
            }
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_words_of_the_rfc(
            vrps in prop::collection::vec((prefixes(), 0..=8u8, 0..4u32), 0..100),
            routes in prop::collection::vec((prefixes(), prop::option::of(0..4u32)), 1..100),
        ) {
            let vrps: Vec<_> = vrps
                .into_iter()
                .filter_map(|(prefix, more, as_number)| Vrp::new(prefix, prefix.prefix_len() + more, as_number).ok())
                .collect();
            let table = RoaTable::new(vrps.iter().copied());
            for (prefix, origin_as) in routes {
                prop_assert_eq!(table.validate(prefix, origin_as), slow(&vrps, prefix, origin_as));
            }
        }
    }
}
