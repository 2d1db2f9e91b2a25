//! BGP as pathflow needs it: a speaker that takes routes and gives none, a BMP station, the routes of all peers with
//! lookups that take no lock, and RPKI.
//!
//! ```text
//! octets -> session -> wire (decode) -> fsm (pure) -> rib (one writer) -> readers (no lock)
//! ```
//!
//! | Module | What | Standards |
//! |---|---|---|
//! | [`wire`] | messages between octets and values | RFC 4271, 4760, 7606, 6793, 7911, 8277, 4364, 8950, 8654, 9072 |
//! | [`fsm`] | state machine of a peer, pure | RFC 4271 section 8 |
//! | [`speaker`] | sessions, in one thread | RFC 2385, 5082, 2918, 7313, 4724, 9003, 9234 |
//! | [`bmp`] | BMP station | RFC 7854, 8671, 9069 |
//! | [`rib`] | routes and longest-prefix match | RFC 4632 |
//! | [`rpki`] | origin validation | RFC 6811, 8210 |
//!
//! This crate knows nothing of flows.

// Only `md5` has unsafe code; `cargo xtask tidy` sees to that.
#![deny(unsafe_code)]

mod attributes;
pub mod bmp;
mod community;
mod connection;
pub mod error;
mod family;
pub mod fsm;
pub mod iana;
mod listener;
mod md5;
mod nlri;
pub mod rib;
pub mod rpki;
mod session;
pub mod speaker;
pub mod wire;

pub use attributes::{AsPath, Attributes, Origin, Segment, SegmentKind};
pub use community::{Community, ExtendedCommunity, LargeCommunity};
pub use family::{Afi, Family, Safi};
pub use nlri::{MplsLabel, Nlri, RouteDistinguisher};

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// What a route says about the addresses it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `AS_PATH` (RFC 4271 section 4.3) as a row of AS numbers, nearest first. Empty for a route of the
    /// router's own AS, which is not the same as no route.
    pub as_path: Arc<[u32]>,
    /// `NEXT_HOP` (RFC 4271 section 4.3), or that of `MP_REACH_NLRI` (RFC 4760 section 3).
    pub next_hop: Option<IpAddr>,
}

impl Route {
    /// The AS that the prefix comes from: the last one of the path; `None` if the path is empty.
    #[must_use]
    pub fn origin_as(&self) -> Option<u32> {
        self.as_path.last().copied()
    }
}

/// A table of routes, one per prefix.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    ipv4: PrefixMap<Ipv4Net, Route>,
    ipv6: PrefixMap<Ipv6Net, Route>,
}

impl RouteTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of routes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    /// True if there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a route, or replaces the one of the same prefix, which is returned. Host bits are ignored.
    pub fn insert(&mut self, prefix: IpNet, route: Route) -> Option<Route> {
        match prefix {
            IpNet::V4(prefix) => self.ipv4.insert(prefix.trunc(), route),
            IpNet::V6(prefix) => self.ipv6.insert(prefix.trunc(), route),
        }
    }

    /// Removes the route of exactly `prefix`.
    pub fn remove(&mut self, prefix: IpNet) -> Option<Route> {
        match prefix {
            IpNet::V4(prefix) => self.ipv4.remove(&prefix.trunc()),
            IpNet::V6(prefix) => self.ipv6.remove(&prefix.trunc()),
        }
    }

    /// The route with the longest prefix that covers `address` (RFC 4632 section 5.1), and that prefix.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<(IpNet, &Route)> {
        match address {
            IpAddr::V4(address) => {
                let (prefix, route) = self.ipv4.get_lpm(&Ipv4Net::from(address))?;
                Some((IpNet::V4(prefix), route))
            }
            IpAddr::V6(address) => {
                let (prefix, route) = self.ipv6.get_lpm(&Ipv6Net::from(address))?;
                Some((IpNet::V6(prefix), route))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn route(origin: u32) -> Route {
        Route { as_path: Arc::from([64_500, origin]), next_hop: None }
    }

    #[test]
    fn the_longest_prefix_wins_in_each_family() {
        let mut table = RouteTable::new();
        for (prefix, origin) in
            [("0.0.0.0/0", 1), ("192.0.2.0/24", 2), ("192.0.2.128/25", 3), ("2001:db8::/32", 4)]
        {
            assert_eq!(table.insert(prefix.parse().unwrap(), route(origin)), None);
        }
        let origin =
            |address: &str| table.lookup(address.parse().unwrap()).and_then(|(_, route)| route.origin_as());
        assert_eq!(origin("198.51.100.1"), Some(1));
        assert_eq!(origin("192.0.2.1"), Some(2));
        assert_eq!(origin("192.0.2.200"), Some(3));
        assert_eq!(origin("2001:db8::1"), Some(4));
        assert_eq!(origin("2001:db9::1"), None);
        assert_eq!(
            table.lookup("192.0.2.200".parse().unwrap()).unwrap().0,
            "192.0.2.128/25".parse().unwrap()
        );
    }

    #[test]
    fn an_empty_path_is_a_route_without_origin() {
        let mut table = RouteTable::new();
        table.insert("192.0.2.0/24".parse().unwrap(), Route { as_path: Arc::from([]), next_hop: None });
        let (_, route) = table.lookup("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(route.origin_as(), None);
        assert!(table.lookup("198.51.100.1".parse().unwrap()).is_none());
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            changes in prop::collection::vec((any::<u32>(), 0..=32u8, any::<bool>()), 0..200),
            addresses in prop::collection::vec(any::<u32>(), 1..50),
        ) {
            let mut table = RouteTable::new();
            let mut model = BTreeMap::new();
            for (number, (address, length, remove)) in changes.iter().enumerate() {
                // Few distinct top octets, so that prefixes nest and repeat.
                let net = Ipv4Net::new((address & 0x0303_ffff).into(), *length).unwrap().trunc();
                if *remove {
                    prop_assert_eq!(table.remove(net.into()), model.remove(&net));
                } else {
                    let route = route(number as u32);
                    prop_assert_eq!(table.insert(net.into(), route.clone()), model.insert(net, route));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for address in addresses {
                let address = std::net::Ipv4Addr::from(address & 0x0303_ffff);
                let expected = model
                    .iter()
                    .filter(|(net, _)| net.contains(&address))
                    .max_by_key(|(net, _)| net.prefix_len())
                    .map(|(net, route)| (IpNet::from(*net), route));
                prop_assert_eq!(table.lookup(address.into()), expected);
            }
        }
    }
}
