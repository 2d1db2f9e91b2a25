//! The tables of one peer in which traffic is looked up.

use std::net::IpAddr;
use std::sync::Arc;

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
    ipv4: Lookups,
    ipv6: Lookups,
}

/// What readers see of [`PeerLookups`].
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) ipv4: Arc<Lpm>,
    pub(super) ipv6: Arc<Lpm>,
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
        let [ipv4, ipv6] = [SHORT_IPV4, SHORT_IPV6].map(|bits| Lookups(LpmWriter::new(bits)));
        Self { source, ipv4, ipv6 }
    }

    pub(super) fn source(&self) -> LookupSource {
        self.source
    }

    pub(super) fn tables(&self) -> Tables {
        Tables { ipv4: Arc::clone(self.ipv4.0.lpm()), ipv6: Arc::clone(self.ipv6.0.lpm()) }
    }

    /// The table in which this destination is looked up, if any.
    pub(super) fn table(&mut self, family: Family, at: &Destination) -> Option<&mut Lookups> {
        self.has(family, at).then_some(match family.afi {
            Afi::Ipv4 => &mut self.ipv4,
            Afi::Ipv6 => &mut self.ipv6,
        })
    }

    /// As [`Self::table`].
    pub(super) fn table_of(&self, family: Family, at: &Destination) -> Option<&Lookups> {
        self.has(family, at).then_some(match family.afi {
            Afi::Ipv4 => &self.ipv4,
            Afi::Ipv6 => &self.ipv6,
        })
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
        self.ipv4.0.collect(horizon);
        self.ipv6.0.collect(horizon);
    }

    /// Nodes out of use that readers may still be in.
    pub(super) fn kept(&self) -> usize {
        self.ipv4.0.kept() + self.ipv6.0.kept()
    }

    /// Nodes in use.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.ipv4.0.nodes() + self.ipv6.0.nodes()
    }

    /// As [`LpmWriter::rewritten`], of both tables.
    pub(super) fn rewritten(&self) -> u64 {
        self.ipv4.0.rewritten() + self.ipv6.0.rewritten()
    }

    /// Octets of memory of both tables.
    pub(super) fn octets(&self) -> (usize, usize) {
        (self.ipv4.0.octets(), self.ipv6.0.octets())
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
