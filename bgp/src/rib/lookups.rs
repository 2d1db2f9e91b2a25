//! The tables of one peer in which traffic is looked up.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::counts::LookupSource;
use super::intern::{InternTable, MAX_INDEX};
use super::lpm::{Lpm, LpmWriter, SHORT_IPV4, SHORT_IPV6};
use super::packed::Packed;
use super::store::{Destination, Prefix};
use crate::{Afi, Family, Safi};

/// Set in the payload of a slot whose other bits number a path set, not attributes.
const PATH_SET: u32 = MAX_INDEX + 1;

/// Several paths of one destination, in the order of their Path Identifiers.
pub(super) type PathSet = Box<[SetPath]>;

/// One path of a [`PathSet`].
#[derive(Clone, Debug)]
pub(super) struct SetPath {
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) attributes: Arc<Packed>,
}

/// The number of the set of paths with these attributes. `None` if all numbers are in use.
pub(super) fn path_set(
    numbers: &[u32],
    attributes: &InternTable<Packed>,
    sets: &mut InternTable<PathSet>,
) -> Option<u32> {
    // Path Identifiers say only in which order they are. Numbers of attributes are used again, generations tell.
    let values = attributes.values();
    let key: Vec<u8> = numbers
        .iter()
        .flat_map(|index| [*index, values.generation(*index)])
        .flat_map(u32::to_ne_bytes)
        .collect();
    let set = |index: &u32| {
        let index = *index;
        let attributes = values.get(index)?;
        Some(SetPath { index, generation: values.generation(index), attributes })
    };
    sets.intern(&key, || numbers.iter().filter_map(set).collect())
}

/// Lookup tables of IPv4 and IPv6, and of which routes they are.
#[derive(Debug)]
pub(super) struct PeerLookups {
    source: LookupSource,
    ipv4: Option<Lookups>,
    ipv6: Option<Lookups>,
    tables: Arc<Tables>,
}

/// What readers see of [`PeerLookups`]: a table of each family of which there was a route.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) ipv4: OnceLock<Arc<Lpm>>,
    pub(super) ipv6: OnceLock<Arc<Lpm>>,
}

/// One lookup table.
#[derive(Debug)]
pub(super) struct Lookups(LpmWriter);

impl Lookups {
    pub(super) fn payload_of_set(set: u32) -> u32 {
        PATH_SET | set
    }

    /// Attributes or path set of a payload.
    pub(super) fn set_of_payload(payload: u32) -> (bool, u32) {
        (payload & PATH_SET != 0, payload & MAX_INDEX)
    }

    /// Looks at the memory that [`Self::set`] needs; what it returns means nothing.
    pub(super) fn look_at(&self, prefix: Prefix) -> u32 {
        self.0.look_at(prefix)
    }

    /// False if there is no room.
    pub(super) fn set(&mut self, prefix: Prefix, payload: u32, epoch: u64) -> bool {
        self.0.set(prefix, payload, epoch).is_ok()
    }

    pub(super) fn clear(&mut self, prefix: Prefix, cover: Option<(u8, u32)>, epoch: u64) {
        self.0.clear(prefix, cover, epoch);
    }
}

impl PeerLookups {
    pub(super) fn new(source: LookupSource) -> Self {
        Self { source, ipv4: None, ipv6: None, tables: Arc::default() }
    }

    pub(super) fn source(&self) -> LookupSource {
        self.source
    }

    pub(super) fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// The table in which this destination is looked up, if any.
    pub(super) fn table(&mut self, family: Family, at: &Destination) -> Option<&mut Lookups> {
        if !self.has(family, at) {
            return None;
        }
        let (table, shown, short) = match family.afi {
            Afi::Ipv4 => (&mut self.ipv4, &self.tables.ipv4, SHORT_IPV4),
            Afi::Ipv6 => (&mut self.ipv6, &self.tables.ipv6, SHORT_IPV6),
        };
        Some(table.get_or_insert_with(|| {
            let writer = LpmWriter::new(short);
            shown.get_or_init(|| Arc::clone(writer.lpm()));
            Lookups(writer)
        }))
    }

    /// As [`Self::table`].
    pub(super) fn table_of(&self, family: Family, at: &Destination) -> Option<&Lookups> {
        let table = match family.afi {
            Afi::Ipv4 => &self.ipv4,
            Afi::Ipv6 => &self.ipv6,
        };
        table.as_ref().filter(|_| self.has(family, at))
    }

    fn both(&self) -> impl Iterator<Item = &Lookups> {
        [&self.ipv4, &self.ipv6].into_iter().flatten()
    }

    /// Whether this destination is looked up.
    fn has(&self, family: Family, at: &Destination) -> bool {
        match self.source {
            LookupSource::Unicast => family.safi == Safi::Unicast,
            LookupSource::LabelledUnicast => family.safi == Safi::LabelledUnicast,
            LookupSource::Vpn(wanted) => {
                family.safi == Safi::MplsVpn && at.route_distinguisher == Some(wanted)
            }
        }
    }

    pub(super) fn collect(&mut self, horizon: u64) {
        for table in [&mut self.ipv4, &mut self.ipv6].into_iter().flatten() {
            table.0.collect(horizon);
        }
    }

    /// Nodes out of use that readers may still be in.
    pub(super) fn kept(&self) -> usize {
        self.both().map(|table| table.0.kept()).sum()
    }

    /// Nodes in use.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.both().map(|table| table.0.nodes()).sum()
    }

    /// As [`LpmWriter::rewritten`], of both tables.
    pub(super) fn rewritten(&self) -> u64 {
        self.both().map(|table| table.0.rewritten()).sum()
    }

    /// Octets of memory of both tables.
    pub(super) fn octets(&self) -> (usize, usize) {
        let octets = |table: &Option<Lookups>| table.as_ref().map_or(0, |table| table.0.octets());
        (octets(&self.ipv4), octets(&self.ipv6))
    }
}

/// Octets that a path set takes on the heap, without the attributes, which the routes have.
pub(super) fn heap_of_path_set(set: &PathSet) -> usize {
    size_of_val(&**set) + size_of::<PathSet>()
}

/// An address as the first of 128 bits, and its length.
pub(super) fn whole(address: IpAddr) -> Prefix {
    Prefix::new(address.into())
}
