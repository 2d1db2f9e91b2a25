//! What enrichment workers see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;

use super::counts::{PeerId, PeerIdentity};
use super::epoch::{Epochs, ReaderEpoch};
use super::intern::Values;
use super::lookups::{Lookups, PathSet, Tables};
use super::lpm::{Lpm, PAYLOAD_BITS};
use super::packed::Packed;
use crate::{AsPathEnds, Attributes, Family};

/// Lookups that are done in one go in a batch.
const BATCH: usize = 64;

/// What the writer and all readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) epochs: Arc<Epochs>,
    pub(super) peers: ArcSwap<Vec<PeerView>>,
    attributes: Arc<Values<Packed>>,
    path_sets: Arc<Values<PathSet>>,
}

impl Shared {
    pub(super) fn new(
        epochs: Arc<Epochs>,
        attributes: Arc<Values<Packed>>,
        path_sets: Arc<Values<PathSet>>,
    ) -> Self {
        Self { epochs, peers: ArcSwap::default(), attributes, path_sets }
    }
}

/// A peer as readers see it.
#[derive(Debug)]
pub(super) struct PeerView {
    pub(super) id: PeerId,
    pub(super) identity: Arc<PeerIdentity>,
    pub(super) identifier: Option<Ipv4Addr>,
    pub(super) tables: Option<Arc<Tables>>,
    /// A bit for each family.
    pub(super) end_of_rib: Arc<AtomicU8>,
}

/// One thread's way to the routes. `Clone` registers another reader.
#[derive(Debug)]
pub struct RibReader {
    shared: Arc<Shared>,
    epoch: Arc<ReaderEpoch>,
}

impl Clone for RibReader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl RibReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let epoch = shared.epochs.register();
        Self { shared, epoch }
    }

    /// Begins to read. Enter for some hundred lookups, then drop the view: as long as it is held, attributes and nodes
    /// that went out of use are kept. It costs some tens of nanoseconds.
    pub fn enter(&mut self) -> RibView<'_> {
        self.shared.epochs.enter(&self.epoch);
        RibView { shared: &self.shared, epoch: &self.epoch, peers: self.shared.peers.load_full() }
    }
}

/// A [`RibReader`] that reads. Routes change meanwhile; what was found stays valid.
#[derive(Debug)]
pub struct RibView<'r> {
    shared: &'r Shared,
    epoch: &'r ReaderEpoch,
    peers: Arc<Vec<PeerView>>,
}

impl Drop for RibView<'_> {
    fn drop(&mut self) {
        self.epoch.leave();
    }
}

impl RibView<'_> {
    /// The table of a peer; `None` if there is no such peer or traffic is not looked up in its routes.
    #[must_use]
    pub fn peer(&self, peer: PeerId) -> Option<LookupTable<'_>> {
        let index = self.peers.binary_search_by_key(&peer, |peer| peer.id).ok()?;
        let peer = self.peers.get(index)?;
        let tables = peer.tables.as_ref()?;
        Some(LookupTable {
            shared: self.shared,
            ipv4: tables.ipv4.get().map(|table| &**table),
            ipv6: tables.ipv6.get().map(|table| &**table),
            end_of_rib: &peer.end_of_rib,
        })
    }

    /// The number of the peer with this name.
    #[must_use]
    pub fn peer_named(&self, name: &str) -> Option<PeerId> {
        self.peers.iter().find(|peer| *peer.identity.name == *name).map(|peer| peer.id)
    }

    /// Numbers of the peers with this address (one session, or several BMP tables), and after them of those whose BGP
    /// Identifier it is.
    pub fn peers_at(&self, address: IpAddr) -> impl Iterator<Item = PeerId> {
        let is_at = move |peer: &&PeerView| peer.identity.address == address;
        let is_named =
            move |peer: &&PeerView| !is_at(peer) && peer.identifier.map(IpAddr::V4) == Some(address);
        self.peers.iter().filter(is_at).chain(self.peers.iter().filter(is_named)).map(|peer| peer.id)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &PeerIdentity)> {
        self.peers.iter().map(|peer| (peer.id, &*peer.identity))
    }
}

/// The routes of one peer, for lookups.
#[derive(Clone, Copy, Debug)]
pub struct LookupTable<'v> {
    shared: &'v Shared,
    /// `None` if there was no route when the table was asked for.
    ipv4: Option<&'v Lpm>,
    ipv6: Option<&'v Lpm>,
    end_of_rib: &'v AtomicU8,
}

impl<'v> LookupTable<'v> {
    fn found(&self, slot: u32) -> Option<Match<'v>> {
        Some(Match { shared: self.shared, slot: NonZeroU32::new(slot)? })
    }

    fn batch_ipv4(&self, addresses: &[u32], slots: &mut [u32]) {
        match self.ipv4 {
            Some(table) => table.batch_ipv4(addresses, slots),
            None => slots.fill(0),
        }
    }

    fn batch_ipv6(&self, addresses: &[u128], slots: &mut [u32]) {
        match self.ipv6 {
            Some(table) => table.batch_ipv6(addresses, slots),
            None => slots.fill(0),
        }
    }

    /// The route with the longest prefix that covers `address`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Match<'v>> {
        match address {
            IpAddr::V4(address) => self.lookup_ipv4(address),
            IpAddr::V6(address) => self.lookup_ipv6(address),
        }
    }

    /// As [`Self::lookup`].
    #[inline]
    #[must_use]
    pub fn lookup_ipv4(&self, address: Ipv4Addr) -> Option<Match<'v>> {
        self.found(self.ipv4?.lookup_ipv4(address.to_bits()))
    }

    /// As [`Self::lookup`].
    #[inline]
    #[must_use]
    pub fn lookup_ipv6(&self, address: Ipv6Addr) -> Option<Match<'v>> {
        self.found(self.ipv6?.lookup_ipv6(address.to_bits()))
    }

    /// Looks up as many addresses as both slices have, faster than one by one: waits for memory overlap.
    pub fn lookup_batch_ipv4(&self, addresses: &[Ipv4Addr], found: &mut [Option<Match<'v>>]) {
        let (mut bits, mut slots) = ([0; BATCH], [0; BATCH]);
        for (addresses, found) in addresses.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            bits.iter_mut().zip(addresses).for_each(|(bits, address)| *bits = address.to_bits());
            let count = addresses.len();
            self.batch_ipv4(&bits[..count], &mut slots[..count]);
            found.iter_mut().zip(slots).for_each(|(found, slot)| *found = self.found(slot));
        }
    }

    /// As [`Self::lookup_batch_ipv4`].
    pub fn lookup_batch_ipv6(&self, addresses: &[Ipv6Addr], found: &mut [Option<Match<'v>>]) {
        let (mut bits, mut slots) = ([0; BATCH], [0; BATCH]);
        for (addresses, found) in addresses.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            bits.iter_mut().zip(addresses).for_each(|(bits, address)| *bits = address.to_bits());
            let count = addresses.len();
            self.batch_ipv6(&bits[..count], &mut slots[..count]);
            found.iter_mut().zip(slots).for_each(|(found, slot)| *found = self.found(slot));
        }
    }

    /// As [`Self::lookup_batch_ipv4`], of addresses of both families.
    pub fn lookup_batch(&self, addresses: &[IpAddr], found: &mut [Option<Match<'v>>]) {
        for (addresses, found) in addresses.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            let (mut ipv4, mut slots_ipv4, mut count_ipv4) = ([0; BATCH], [0; BATCH], 0);
            let (mut ipv6, mut slots_ipv6, mut count_ipv6) = ([0; BATCH], [0; BATCH], 0);
            for address in addresses {
                // Both have as many places as there are addresses.
                match address {
                    IpAddr::V4(address) => {
                        ipv4[count_ipv4] = address.to_bits();
                        count_ipv4 += 1;
                    }
                    IpAddr::V6(address) => {
                        ipv6[count_ipv6] = address.to_bits();
                        count_ipv6 += 1;
                    }
                }
            }
            self.batch_ipv4(&ipv4[..count_ipv4], &mut slots_ipv4[..count_ipv4]);
            self.batch_ipv6(&ipv6[..count_ipv6], &mut slots_ipv6[..count_ipv6]);
            let (mut of_ipv4, mut of_ipv6) = (slots_ipv4.into_iter(), slots_ipv6.into_iter());
            for (address, found) in addresses.iter().zip(found) {
                let slot = if address.is_ipv4() { of_ipv4.next() } else { of_ipv6.next() };
                *found = slot.and_then(|slot| self.found(slot));
            }
        }
    }

    /// True after End-of-RIB of this family in the present session.
    #[must_use]
    pub fn end_of_rib(&self, family: Family) -> bool {
        self.end_of_rib.load(Ordering::Acquire) & (1 << family.index()) != 0
    }
}

/// A route that was found. "No route" is `None` instead; a route with an empty AS path is a `Match`.
#[derive(Clone, Copy, Debug)]
pub struct Match<'v> {
    shared: &'v Shared,
    slot: NonZeroU32,
}

impl Match<'_> {
    fn payload(&self) -> (bool, u32) {
        Lookups::set_of_payload(self.slot.get() & ((1 << PAYLOAD_BITS) - 1))
    }

    /// Length of the prefix, bits.
    #[inline]
    #[must_use]
    pub fn prefix_length(&self) -> u8 {
        (self.slot.get() >> PAYLOAD_BITS) as u8
    }

    /// Number of paths; more than 1 only with ADD-PATH (RFC 7911).
    #[must_use]
    pub fn path_count(&self) -> usize {
        match self.payload() {
            (true, index) => self.shared.path_sets.get(index).map_or(0, |set| set.len()),
            (false, _) => 1,
        }
    }

    /// The path whose next hop is `next_hop`; if there is none, or none was asked for, the path with the lowest Path
    /// Identifier. Unpacks the attributes, which takes some hundred nanoseconds: keep what is made of them by
    /// [`Path::attributes_id`] and ask [`Self::attributes_id`] first. `None` only if this view was held for so long that
    /// its attributes had to go.
    #[must_use]
    pub fn choose(&self, next_hop: Option<IpAddr>) -> Option<Path> {
        let look = |attributes: &Packed, attributes_id| Path {
            attributes: Arc::new(attributes.unpack()),
            attributes_id,
        };
        self.look_at_chosen(next_hop, look)
    }

    /// What enrichment needs of the path that [`Self::choose`] gives, without unpacking all of its attributes; takes no
    /// memory.
    #[must_use]
    pub fn choose_ends(&self, next_hop: Option<IpAddr>) -> Option<PathEnds> {
        let look = |attributes: &Packed, attributes_id| PathEnds {
            as_path: attributes.as_path_ends(),
            next_hop: attributes.next_hop(),
            attributes_id,
        };
        self.look_at_chosen(next_hop, look)
    }

    /// Which attributes the path has that [`Self::choose`] gives.
    #[must_use]
    pub fn choose_attributes_id(&self, next_hop: Option<IpAddr>) -> Option<AttributesId> {
        self.attributes_id().or_else(|| self.look_at_chosen(next_hop, |_, attributes_id| attributes_id))
    }

    fn look_at_chosen<R>(
        &self,
        next_hop: Option<IpAddr>,
        look: impl FnOnce(&Packed, AttributesId) -> R,
    ) -> Option<R> {
        let (true, index) = self.payload() else {
            let attributes_id = self.attributes_id()?;
            let attributes = &self.shared.attributes;
            return attributes.with(attributes_id.index, |attributes| look(attributes, attributes_id));
        };
        let look_at_set = |set: &PathSet| {
            let has_it = || set.iter().find(|path| path.attributes.next_hop() == next_hop);
            let path = next_hop.and_then(|_| has_it()).or_else(|| set.first())?;
            let attributes_id = AttributesId { index: path.index, generation: path.generation };
            Some(look(&path.attributes, attributes_id))
        };
        self.shared.path_sets.with(index, look_at_set)?
    }

    /// The only path's attributes, without a look at them: a cache of conversions may be asked with it first. `None` if
    /// there are several paths.
    #[inline]
    #[must_use]
    pub fn attributes_id(&self) -> Option<AttributesId> {
        let (false, index) = self.payload() else { return None };
        Some(AttributesId { index, generation: self.shared.attributes.generation(index) })
    }
}

impl PartialEq for Match<'_> {
    /// Same prefix length, and same attributes or same paths.
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot
    }
}

/// One path of a [`Match`].
#[derive(Clone, Debug)]
pub struct Path {
    /// What the peer says.
    pub attributes: Arc<Attributes>,
    /// Stands for `attributes`.
    pub attributes_id: AttributesId,
}

/// The little of one path of a [`Match`] by which it is known whose the route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEnds {
    /// Ends of the AS path.
    pub as_path: AsPathEnds,
    /// The next hop.
    pub next_hop: Option<IpAddr>,
    /// Stands for all attributes.
    pub attributes_id: AttributesId,
}

/// Stands for one attribute set: equal ids always mean equal attributes, so conversions may be cached by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributesId {
    /// Small number, used again some time after the attribute set has gone: good as an index.
    pub index: u32,
    /// Tells the uses of an index apart.
    pub generation: u32,
}
