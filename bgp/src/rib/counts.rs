//! Plain values that the RIB takes and gives.

use std::net::IpAddr;
use std::ops::AddAssign;

use crate::{Attributes, Family, Nlri, RouteDistinguisher};

/// Number of a peer in a [`super::Rib`]; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

/// Whose routes these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// By which configuration, log and commands name the peer; tells BMP's tables of one router apart.
    pub name: Box<str>,
    /// Address of the session's far end.
    pub address: IpAddr,
}

/// In which routes of a peer traffic is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupSource {
    /// IPv4 and IPv6 unicast.
    Unicast,
    /// Unicast with labels (RFC 8277).
    LabelledUnicast,
    /// The VPN routes of one Route Distinguisher (RFC 4364).
    Vpn(RouteDistinguisher),
}

/// What one UPDATE did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyCounts {
    /// Routes that are new.
    pub added: u32,
    /// Routes whose attributes or label changed.
    pub replaced: u32,
    /// Routes announced as they were.
    pub unchanged: u32,
    /// Routes withdrawn.
    pub withdrawn: u32,
    /// Withdrawals of routes that were not there.
    pub unknown: u32,
    /// Routes not taken because a bound was reached: attribute sets, paths of one prefix, or memory of a lookup table.
    pub refused: u32,
}

impl AddAssign for ApplyCounts {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.replaced += other.replaced;
        self.unchanged += other.unchanged;
        self.withdrawn += other.withdrawn;
        self.unknown += other.unknown;
        self.refused += other.refused;
    }
}

/// How a family of a peer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyState {
    /// Routes, stale ones included.
    pub routes: u32,
    /// Those of a session that is over, or not sent again yet since the begin of a refresh.
    pub stale: u32,
    /// End-of-RIB came in this session.
    pub end_of_rib: bool,
}

/// A route in a dump.
#[derive(Clone, Copy, Debug)]
pub struct RouteRef<'a> {
    /// Of which family.
    pub family: Family,
    /// Prefix, Route Distinguisher, Path Identifier and label.
    pub nlri: Nlri,
    /// What the peer says about it.
    pub attributes: &'a Attributes,
    /// True if it is stale ([`FamilyState::stale`]).
    pub stale: bool,
}

/// What a [`super::Rib`] takes, in octets of memory asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Prefixes of all peers with the numbers of their attributes.
    pub prefixes: usize,
    /// Attribute sets, keys and index.
    pub attributes: usize,
    /// Lookup tables of IPv4.
    pub lookups_ipv4: usize,
    /// Lookup tables of IPv6.
    pub lookups_ipv6: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        self.prefixes + self.attributes + self.lookups_ipv4 + self.lookups_ipv6
    }
}

/// What went out of use and is kept for readers that may still look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Attribute sets and sets of paths; above 65,536 of each the oldest go all the same.
    pub attribute_sets: usize,
    /// Nodes of lookup tables.
    pub nodes: usize,
    /// Attribute sets that were taken from readers which held their view for too long, since the start.
    pub taken: u64,
}
