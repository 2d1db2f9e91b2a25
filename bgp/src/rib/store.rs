//! The prefixes that one peer sent of one family, each with a value that is not 0.

use std::collections::BTreeMap;
use std::ops::Bound;

use foldhash::fast::RandomState;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::length_table::{LengthTable, NO_VALUE};
use crate::{Afi, Family, Nlri, RouteDistinguisher, Safi};

/// A prefix in the first bits of 128, with zeroes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    pub(super) bits: u128,
    pub(super) length: u8,
}

impl Prefix {
    pub(super) fn new(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(prefix) => {
                Self { bits: u128::from(prefix.network().to_bits()) << 96, length: prefix.prefix_len() }
            }
            IpNet::V6(prefix) => Self { bits: prefix.network().to_bits(), length: prefix.prefix_len() },
        }
    }

    pub(super) fn shortened(self, length: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self { bits: self.bits & mask, length }
    }

    /// As the API has it.
    pub(super) fn to_net(self, afi: Afi) -> IpNet {
        // No length here is beyond what its family has.
        match afi {
            Afi::Ipv4 => Ipv4Net::new(((self.bits >> 96) as u32).into(), self.length.min(32))
                .map_or_else(|_| Ipv4Net::default().into(), IpNet::V4),
            Afi::Ipv6 => Ipv6Net::new(self.bits.into(), self.length.min(128))
                .map_or_else(|_| Ipv6Net::default().into(), IpNet::V6),
        }
    }
}

/// What a family tells routes apart by, but for the Path Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Destination {
    pub(super) route_distinguisher: Option<RouteDistinguisher>,
    pub(super) prefix: Prefix,
}

impl Destination {
    pub(super) fn new(nlri: &Nlri) -> Self {
        Self { route_distinguisher: nlri.route_distinguisher, prefix: Prefix::new(nlri.prefix) }
    }
}

/// Value by destination.
#[derive(Debug)]
pub(super) enum Store {
    /// One table for each length.
    Ipv4(Box<[LengthTable<u32>; 33]>),
    /// One table for each length up to 64 and for each beyond.
    Ipv6(Box<[LengthTable<u64>; 65]>, Box<[LengthTable<u128>; 64]>),
    /// VPN tables are small beside those.
    Vpn(BTreeMap<Destination, u32>),
}

/// Calls a method on the table of a prefix, with the key that the table has for it.
macro_rules! in_table {
    ($store:expr, $prefix:expr, $default:expr, |$table:ident, $key:ident| $body:expr) => {
        match $store {
            Store::Ipv4(tables) => match tables.get($prefix.length as usize) {
                Some($table) => {
                    let $key = ($prefix.bits >> 96) as u32;
                    $body
                }
                None => $default,
            },
            Store::Ipv6(short, long) => {
                if let Some($table) = short.get($prefix.length as usize) {
                    let $key = ($prefix.bits >> 64) as u64;
                    $body
                } else if let Some($table) = long.get(($prefix.length as usize).wrapping_sub(65)) {
                    let $key = $prefix.bits;
                    $body
                } else {
                    $default
                }
            }
            Store::Vpn(_) => $default,
        }
    };
}

impl Store {
    pub(super) fn new(family: Family) -> Self {
        match (family.safi, family.afi) {
            (Safi::MplsVpn, _) => Self::Vpn(BTreeMap::new()),
            (_, Afi::Ipv4) => Self::Ipv4(Box::new(std::array::from_fn(|_| LengthTable::default()))),
            (_, Afi::Ipv6) => Self::Ipv6(
                Box::new(std::array::from_fn(|_| LengthTable::default())),
                Box::new(std::array::from_fn(|_| LengthTable::default())),
            ),
        }
    }

    pub(super) fn get(&self, hasher: &RandomState, at: &Destination) -> Option<u32> {
        match self {
            Self::Vpn(map) => map.get(at).copied(),
            _ => in_table!(self, at.prefix, None, |table, key| table.get(hasher, key)),
        }
    }

    /// Looks at the memory that [`Self::replace`] needs; what it returns means nothing.
    pub(super) fn look_at(&self, hasher: &RandomState, prefix: Prefix) -> u32 {
        in_table!(self, prefix, NO_VALUE, |table, key| table.look_at(hasher, key))
    }

    /// Puts `value` there and returns what was there, or [`NO_VALUE`].
    pub(super) fn replace(&mut self, hasher: &RandomState, at: Destination, value: u32) -> u32 {
        match self {
            Self::Vpn(map) => map.insert(at, value).unwrap_or(NO_VALUE),
            _ => self.replace_in_table(hasher, at.prefix, value),
        }
    }

    fn replace_in_table(&mut self, hasher: &RandomState, prefix: Prefix, value: u32) -> u32 {
        match self {
            Self::Ipv4(tables) => tables
                .get_mut(prefix.length as usize)
                .map_or(NO_VALUE, |table| table.replace(hasher, (prefix.bits >> 96) as u32, value)),
            Self::Ipv6(short, long) => {
                if let Some(table) = short.get_mut(prefix.length as usize) {
                    table.replace(hasher, (prefix.bits >> 64) as u64, value)
                } else if let Some(table) = long.get_mut((prefix.length as usize).wrapping_sub(65)) {
                    table.replace(hasher, prefix.bits, value)
                } else {
                    NO_VALUE
                }
            }
            Self::Vpn(_) => NO_VALUE,
        }
    }

    /// Takes a value out and returns it, or [`NO_VALUE`].
    pub(super) fn remove(&mut self, hasher: &RandomState, at: &Destination) -> u32 {
        let prefix = at.prefix;
        match self {
            Self::Vpn(map) => map.remove(at).unwrap_or(NO_VALUE),
            Self::Ipv4(tables) => tables
                .get_mut(prefix.length as usize)
                .map_or(NO_VALUE, |table| table.remove(hasher, (prefix.bits >> 96) as u32)),
            Self::Ipv6(short, long) => {
                if let Some(table) = short.get_mut(prefix.length as usize) {
                    table.remove(hasher, (prefix.bits >> 64) as u64)
                } else if let Some(table) = long.get_mut((prefix.length as usize).wrapping_sub(65)) {
                    table.remove(hasher, prefix.bits)
                } else {
                    NO_VALUE
                }
            }
        }
    }

    /// The longest destination that covers `at` and is shorter than `below` bits.
    pub(super) fn covering(
        &self,
        hasher: &RandomState,
        at: &Destination,
        below: u8,
    ) -> Option<(Destination, u32)> {
        (0..below).rev().find_map(|length| {
            let shorter = Destination { prefix: at.prefix.shortened(length), ..*at };
            if self.len_of(length) == 0 {
                return None;
            }
            self.get(hasher, &shorter).map(|value| (shorter, value))
        })
    }

    /// Destinations of one length; with VPN routes those of all.
    fn len_of(&self, length: u8) -> usize {
        match self {
            Self::Vpn(map) => map.len(),
            _ => in_table!(self, Prefix { bits: 0, length }, 0, |table, _key| table.len()),
        }
    }

    /// Gives `each` about `limit` destinations behind `after`. True if there may be more.
    pub(super) fn walk(
        &self,
        hasher: &RandomState,
        after: Option<Destination>,
        limit: usize,
        mut each: impl FnMut(Destination, u32),
    ) -> bool {
        let mut left = limit;
        if let Self::Vpn(map) = self {
            let start = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = map.range((start, Bound::Unbounded));
            rest.by_ref().take(limit).for_each(|(at, value)| each(*at, *value));
            return rest.next().is_some();
        }
        let (first, mut after) = match after {
            Some(after) => (after.prefix.length, Some(after.prefix)),
            None => (0, None),
        };
        for length in first..=128 {
            let room = left;
            let mut give = |bits: u128, value: u32| {
                each(Destination { route_distinguisher: None, prefix: Prefix { bits, length } }, value);
                left -= 1;
            };
            let from = after.take();
            match self {
                Self::Ipv4(tables) => {
                    let Some(table) = tables.get(length as usize) else { break };
                    let from = from.map(|prefix| (prefix.bits >> 96) as u32);
                    let rest = table.iter_after(hasher, from).take(room);
                    rest.for_each(|(key, value)| give(u128::from(key) << 96, value));
                }
                Self::Ipv6(short, long) => {
                    if let Some(table) = short.get(length as usize) {
                        let from = from.map(|prefix| (prefix.bits >> 64) as u64);
                        let rest = table.iter_after(hasher, from).take(room);
                        rest.for_each(|(key, value)| give(u128::from(key) << 64, value));
                    } else if let Some(table) = long.get((length as usize).wrapping_sub(65)) {
                        let from = from.map(|prefix| prefix.bits);
                        let rest = table.iter_after(hasher, from).take(room);
                        rest.for_each(|(key, value)| give(key, value));
                    }
                }
                Self::Vpn(_) => {}
            }
            if left == 0 {
                return true;
            }
        }
        false
    }

    /// Octets of memory; those of a map of VPN routes are estimated.
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Ipv4(tables) => {
                size_of_val(&**tables) + tables.iter().map(LengthTable::octets).sum::<usize>()
            }
            Self::Ipv6(short, long) => {
                let tables = size_of_val(&**short) + size_of_val(&**long);
                tables
                    + short.iter().map(LengthTable::octets).sum::<usize>()
                    + long.iter().map(LengthTable::octets).sum::<usize>()
            }
            // Nodes of a map are two thirds full on average.
            Self::Vpn(map) => map.len() * size_of::<(Destination, u32)>() * 3 / 2,
        }
    }
}
