//! Routes as peers sent them, and the tables in which traffic is looked up.
//!
//! [`Rib`] has one owner, the BGP thread. Enrichment workers have a [`RibReader`] each, which takes no lock: the writer
//! changes lookup tables in place, word by word, and uses the numbers of attributes and the memory of nodes again only
//! after every reader has left what it was in ([`RibReader::enter`]).

mod adj_rib_in;
mod counts;
mod epoch;
mod intern;
mod length_table;
mod lookups;
mod lpm;
mod packed;
mod paths;
mod reader;
mod store;
#[cfg(test)]
mod tests;
mod update;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::BitXor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use foldhash::fast::RandomState;
use ipnet::IpNet;

use adj_rib_in::{AdjRibIn, Announced, Common};
pub use counts::{ApplyCounts, FamilyState, LookupSource, Memory, PeerId, PeerIdentity, Retained, RouteRef};
use epoch::Epochs;
use intern::InternTable;
use lookups::{PeerLookups, heap_of_path_set, whole};
use packed::Packed;
pub use reader::{AttributesId, LookupTable, Match, Path, PathEnds, RibReader, RibView};
use reader::{PeerView, Shared};
use store::{Destination, Prefix};

use crate::{Attributes, Family, Nlri, RouteDistinguisher, Safi};

/// UPDATEs after which memory that readers have left is looked for.
const COLLECT_EVERY: u32 = 256;

/// Slots of lookup tables that a turn of a session or of a monitored router may change before it ends, if with a whole
/// message: a few tenths of a millisecond, as long as 64 KiB of UPDATEs with usual prefixes take, or less.
pub(crate) const SLOTS_PER_TURN: u64 = 1 << 18;

/// Slots that take as long as showing one peer to readers, who see all peers anew when one comes.
const COST_OF_PEER: u64 = 64;

/// Routes whose memory is waited for together.
const SIDE_BY_SIDE: usize = 32;

/// Where a table dump or another walk over the routes of a peer stands. Changes between two pieces do no harm: a route
/// that is there all the time is given exactly once.
#[derive(Clone, Debug, Default)]
pub struct DumpPosition {
    /// Place in [`Family::ALL`].
    family: usize,
    after: Option<Destination>,
}

/// All routes of all peers. Owned by one thread.
#[derive(Debug)]
pub struct Rib {
    common: Common,
    peers: BTreeMap<PeerId, Peer>,
    next_peer: u32,
    /// Routes of peers that were removed.
    left: Vec<AdjRibIn>,
    shared: Arc<Shared>,
    applied: u32,
    rewritten: u64,
    /// Memory for keys of attributes.
    key: Vec<u8>,
    /// Memory for routes that are announced together.
    batch: Vec<(Family, Nlri)>,
}

#[derive(Debug)]
struct Peer {
    identity: Arc<PeerIdentity>,
    /// The BGP Identifier that it told last.
    identifier: Option<Ipv4Addr>,
    /// At the places of [`Family::ALL`].
    families: [Option<Box<AdjRibIn>>; Family::ALL.len()],
    lookups: Option<PeerLookups>,
    /// A bit for each family, for readers.
    end_of_rib: Arc<AtomicU8>,
}

impl Peer {
    fn family(&mut self, family: Family) -> Option<&mut AdjRibIn> {
        self.families.get_mut(family.index()).and_then(Option::as_deref_mut)
    }

    /// As [`PeerLookups::rewritten`].
    fn rewritten(&self) -> u64 {
        self.lookups.as_ref().map_or(0, PeerLookups::rewritten)
    }

    /// The routes of a family, and in which tables they are looked up.
    fn family_or_new(&mut self, family: Family) -> Option<(&mut AdjRibIn, &mut Option<PeerLookups>)> {
        let routes = self.families.get_mut(family.index())?;
        Some((routes.get_or_insert_with(|| Box::new(AdjRibIn::new(family))), &mut self.lookups))
    }

    fn note_end_of_rib(&mut self, family: Family, came: bool) {
        let routes =
            if came { self.family_or_new(family).map(|(routes, _)| routes) } else { self.family(family) };
        if let Some(routes) = routes {
            routes.end_of_rib = came;
        }
        let bit = 1 << family.index();
        if came {
            self.end_of_rib.fetch_or(bit, Ordering::Release);
        } else {
            self.end_of_rib.fetch_and(!bit, Ordering::Release);
        }
    }
}

impl Default for Rib {
    fn default() -> Self {
        Self::new()
    }
}

impl Rib {
    /// A RIB without peers.
    #[must_use]
    pub fn new() -> Self {
        let epochs = Arc::new(Epochs::new());
        let common = Common {
            epochs: Arc::clone(&epochs),
            attributes: InternTable::new(Packed::octets),
            path_sets: InternTable::new(heap_of_path_set),
            hasher: RandomState::default(),
        };
        let (attributes, path_sets) = (common.attributes.values(), common.path_sets.values());
        let shared = Arc::new(Shared::new(epochs, Arc::clone(attributes), Arc::clone(path_sets)));
        Self {
            common,
            peers: BTreeMap::new(),
            next_peer: 0,
            left: Vec::new(),
            shared,
            applied: 0,
            rewritten: 0,
            key: Vec::new(),
            batch: Vec::new(),
        }
    }

    /// A new reader, for one thread. Clone it for others.
    #[must_use]
    pub fn reader(&self) -> RibReader {
        RibReader::new(Arc::clone(&self.shared))
    }

    /// Adds a peer without routes. `lookups`: whether and in which of its routes traffic is looked up.
    pub fn add_peer(&mut self, identity: PeerIdentity, lookups: Option<LookupSource>) -> PeerId {
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let peer = Peer {
            identity: Arc::new(identity),
            identifier: None,
            families: std::array::from_fn(|_| None),
            lookups: lookups.map(PeerLookups::new),
            end_of_rib: Arc::default(),
        };
        self.peers.insert(id, peer);
        self.show_peers();
        self.rewritten += COST_OF_PEER * self.peers.len() as u64;
        id
    }

    /// Notes the BGP Identifier of a peer (RFC 4271, section 4.2), by which readers find it as well.
    pub fn set_identifier(&mut self, peer: PeerId, identifier: Ipv4Addr) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.identifier.replace(identifier) != Some(identifier) {
            self.show_peers();
        }
    }

    /// Forgets a peer. Readers do not see it any more at once; its memory comes back in [`Self::work`].
    pub fn remove_peer(&mut self, peer: PeerId) {
        self.remove_peers(&[peer]);
    }

    /// As [`Self::remove_peer`], of several in one go.
    pub fn remove_peers(&mut self, peers: &[PeerId]) {
        let before = self.peers.len();
        for peer in peers.iter().filter_map(|peer| self.peers.remove(peer)) {
            self.left.extend(peer.families.into_iter().flatten().map(|routes| *routes));
        }
        if self.peers.len() < before {
            self.show_peers();
        }
    }

    /// Changes in which routes of a peer traffic is looked up. Fills a new table at once, which takes some tenths of a
    /// second for a million routes.
    pub fn set_lookups(&mut self, peer: PeerId, source: Option<LookupSource>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if entry.lookups.as_ref().map(PeerLookups::source) == source {
            return;
        }
        let mut lookups = source.map(PeerLookups::new);
        let mut counts = ApplyCounts::default();
        for routes in entry.families.iter_mut().flatten() {
            routes.drop_path_sets(&mut self.common);
            let Some(lookups) = &mut lookups else { continue };
            let family = routes.family;
            let mut all = Vec::new();
            routes.store().walk(&self.common.hasher, None, usize::MAX, |at, _| {
                if lookups.table(family, &at).is_some() {
                    all.push(at);
                }
            });
            for at in all {
                routes.publish(at, &mut self.common, lookups.table(family, &at), &mut counts);
            }
        }
        entry.lookups = lookups;
        self.show_peers();
    }

    /// Lets readers see the peers that there are now.
    fn show_peers(&self) {
        let view = |(id, peer): (&PeerId, &Peer)| PeerView {
            id: *id,
            identity: Arc::clone(&peer.identity),
            identifier: peer.identifier,
            tables: peer.lookups.as_ref().map(|lookups| Arc::clone(lookups.tables())),
            end_of_rib: Arc::clone(&peer.end_of_rib),
        };
        self.shared.peers.store(Arc::new(self.peers.iter().map(view).collect()));
    }

    /// Applies one UPDATE: first what it withdraws, then what it announces. `key` stands for its attributes
    /// (`wire::Update::interning_key`); `attributes` decodes them and is called only if the key is not known.
    pub fn apply(
        &mut self,
        peer: PeerId,
        withdrawn: impl IntoIterator<Item = (Family, Nlri)>,
        key: &[u8],
        attributes: impl FnOnce() -> Attributes,
        announced: impl IntoIterator<Item = (Family, Nlri)>,
    ) -> ApplyCounts {
        let mut counts = self.withdraw(peer, withdrawn);
        counts += self.announce(peer, key, attributes, announced);
        counts
    }

    /// Takes routes back; Path Identifiers count, labels do not.
    pub fn withdraw(
        &mut self,
        peer: PeerId,
        routes: impl IntoIterator<Item = (Family, Nlri)>,
    ) -> ApplyCounts {
        let mut counts = ApplyCounts::default();
        let Some(entry) = self.peers.get_mut(&peer) else { return counts };
        let before = entry.rewritten();
        for (family, nlri) in routes {
            entry.withdraw(family, &nlri, &mut self.common, &mut counts);
        }
        self.rewritten += entry.rewritten() - before;
        self.count_update();
        counts
    }

    /// Takes routes of one attribute set; `key` and `attributes` are as in [`Self::apply`].
    pub fn announce(
        &mut self,
        peer: PeerId,
        key: &[u8],
        attributes: impl FnOnce() -> Attributes,
        routes: impl IntoIterator<Item = (Family, Nlri)>,
    ) -> ApplyCounts {
        let mut counts = ApplyCounts::default();
        let Some(entry) = self.peers.get_mut(&peer) else { return counts };
        let mut routes = routes.into_iter().peekable();
        if routes.peek().is_none() {
            return counts;
        }
        let before = entry.rewritten();
        if let Some(number) = self.common.attributes.intern(key, || Packed::pack(&attributes())) {
            while routes.peek().is_some() {
                let batch = &mut self.batch;
                batch.clear();
                batch.extend(routes.by_ref().take(SIDE_BY_SIDE));
                if batch.len() > 1 {
                    // Memory is waited for together, not route by route.
                    let look_at =
                        |(family, nlri): &(Family, Nlri)| entry.look_at(*family, nlri, &self.common);
                    black_box(batch.iter().map(look_at).fold(0, BitXor::bitxor));
                }
                for (family, nlri) in batch {
                    entry.announce(*family, nlri, number, &mut self.common, &mut counts);
                }
            }
            self.common.attributes.release(number, self.common.epochs.current());
        } else {
            // What the peer said before about these prefixes is no longer true.
            for (family, nlri) in routes {
                entry.withdraw(family, &nlri, &mut self.common, &mut ApplyCounts::default());
                counts.refused += 1;
            }
        }
        self.rewritten += entry.rewritten() - before;
        self.count_update();
        counts
    }

    /// Slots of lookup tables that changes of routes made it look at since it was made, and what else takes as long. A
    /// route with a short
    /// prefix has very many of them; a million take a few milliseconds. Who applies several UPDATEs in a row does well to
    /// let others have their turn when this has grown by as much.
    #[must_use]
    pub fn slots_rewritten(&self) -> u64 {
        self.rewritten
    }

    fn count_update(&mut self) {
        self.applied = self.applied.wrapping_add(1);
        if self.applied.is_multiple_of(COLLECT_EVERY) {
            self.collect();
        }
    }

    /// The session of a peer was lost: its routes become stale and stay usable. Those that were stale already go (RFC
    /// 4724, section 4.2), in [`Self::work`].
    pub fn session_down(&mut self, peer: PeerId) {
        for family in Family::ALL {
            self.begin_epoch(peer, family, true);
            if let Some(entry) = self.peers.get_mut(&peer) {
                entry.note_end_of_rib(family, false);
            }
        }
    }

    fn begin_epoch(&mut self, peer: PeerId, family: Family, sweep_older: bool) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let Some(routes) = entry.family(family) else { return };
        if !routes.begin_epoch() {
            routes.begin_sweep(0);
            while entry.sweep(family, usize::MAX, &mut self.common) > 0 {}
            if let Some(routes) = entry.family(family) {
                routes.begin_epoch();
            }
        }
        if sweep_older && let Some(routes) = entry.family(family) {
            routes.begin_sweep(1);
        }
    }

    /// The peer sent End-of-RIB (RFC 4724, section 2): what is still stale in this family goes, in [`Self::work`].
    pub fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.note_end_of_rib(family, true);
        }
        self.sweep_stale_family(peer, family);
    }

    /// The time for stale routes is over (RFC 4724, section 4.2): they go, in [`Self::work`].
    pub fn sweep_stale(&mut self, peer: PeerId) {
        for family in Family::ALL {
            self.sweep_stale_family(peer, family);
        }
    }

    /// As [`Self::sweep_stale`], of one family: the peer did not keep its forwarding state (RFC 4724, section 4.2).
    pub fn sweep_stale_family(&mut self, peer: PeerId, family: Family) {
        if let Some(routes) = self.peers.get_mut(&peer).and_then(|entry| entry.family(family)) {
            routes.begin_sweep(0);
        }
    }

    /// The peer begins to send all its routes again (`BoRR`, RFC 7313, section 4).
    pub fn refresh_begin(&mut self, peer: PeerId, family: Family) {
        self.begin_epoch(peer, family, false);
    }

    /// The peer has sent all its routes again (`EoRR`, RFC 7313, section 4): what was not among them goes, in
    /// [`Self::work`].
    pub fn refresh_end(&mut self, peer: PeerId, family: Family) {
        self.sweep_stale_family(peer, family);
    }

    /// Does what was left for later (stale routes, removed peers, memory that readers have left), at most `limit`
    /// routes of it; 2,000 take about a millisecond. True if there is more to do.
    pub fn work(&mut self, limit: usize) -> bool {
        let mut left = limit;
        for entry in self.peers.values_mut() {
            let before = entry.rewritten();
            for family in Family::ALL {
                if left > 0 {
                    left = left.saturating_sub(entry.sweep(family, left, &mut self.common));
                }
            }
            self.rewritten += entry.rewritten() - before;
        }
        while left > 0
            && let Some(mut routes) = self.left.pop()
        {
            let before = routes.routes();
            if routes.dissolve(left, &mut self.common) {
                self.left.push(routes);
                break;
            }
            left = left.saturating_sub(before as usize);
        }
        self.collect();
        let sweeping = |peer: &Peer| peer.families.iter().flatten().any(|routes| routes.is_sweeping());
        !self.left.is_empty() || self.peers.values().any(sweeping)
    }

    /// Frees what readers have left.
    fn collect(&mut self) {
        let kept: usize =
            self.peers.values().filter_map(|peer| peer.lookups.as_ref()).map(PeerLookups::kept).sum();
        if kept + self.common.attributes.kept() + self.common.path_sets.kept() == 0 {
            return;
        }
        let horizon = self.common.epochs.advance();
        self.common.attributes.collect(horizon);
        self.common.path_sets.collect(horizon);
        for lookups in self.peers.values_mut().filter_map(|peer| peer.lookups.as_mut()) {
            lookups.collect(horizon);
        }
    }

    /// Gives `each` the next routes of a peer, those of about `limit` destinations, and moves `position` on; 1000 take
    /// some tens of microseconds. True if there are more.
    pub fn dump(
        &self,
        peer: PeerId,
        position: &mut DumpPosition,
        limit: usize,
        mut each: impl FnMut(RouteRef<'_>),
    ) -> bool {
        let Some(entry) = self.peers.get(&peer) else { return false };
        let mut left = limit;
        while let Some(routes) = entry.families.get(position.family) {
            let after = position.after;
            let more = routes.as_ref().is_some_and(|routes| {
                routes.store().walk(&self.common.hasher, after, left, |at, value| {
                    position.after = Some(at);
                    left -= 1;
                    self.give(routes, &at, value, &mut each);
                })
            });
            if more {
                return true;
            }
            *position = DumpPosition { family: position.family + 1, after: None };
            if left == 0 {
                return position.family < entry.families.len();
            }
        }
        false
    }

    fn give(&self, routes: &AdjRibIn, at: &Destination, value: u32, mut each: impl FnMut(RouteRef<'_>)) {
        routes.paths(value, |path_id, route, label| {
            let Some(packed) = self.common.attributes.values().get(route.attributes()) else { return };
            each(RouteRef {
                family: routes.family,
                nlri: Nlri {
                    route_distinguisher: at.route_distinguisher,
                    prefix: at.prefix.to_net(routes.family.afi),
                    path_id,
                    label,
                },
                attributes: &packed.unpack(),
                stale: routes.is_stale(route),
            });
        });
    }

    /// The routes of exactly this prefix, by Path Identifier.
    pub fn routes(
        &self,
        peer: PeerId,
        family: Family,
        route_distinguisher: Option<RouteDistinguisher>,
        prefix: IpNet,
        each: impl FnMut(RouteRef<'_>),
    ) {
        let at = Destination { route_distinguisher, prefix: Prefix::new(prefix) };
        if let Some(routes) = self.adj_rib_in(peer, family)
            && let Some(value) = routes.store().get(&self.common.hasher, &at)
        {
            self.give(routes, &at, value, each);
        }
    }

    /// The routes with the longest prefix that covers `address`, by Path Identifier. Slower than a lookup of a reader,
    /// but of every peer and family.
    pub fn longest_match(
        &self,
        peer: PeerId,
        family: Family,
        route_distinguisher: Option<RouteDistinguisher>,
        address: IpAddr,
        each: impl FnMut(RouteRef<'_>),
    ) {
        let prefix = whole(address);
        let at = Destination { route_distinguisher, prefix };
        if let Some(routes) = self.adj_rib_in(peer, family)
            && family.afi == afi_of(address)
            && let Some((at, value)) = routes.store().covering(&self.common.hasher, &at, prefix.length + 1)
        {
            self.give(routes, &at, value, each);
        }
    }

    /// The routes that cover `prefix` and are less specific, longest first, of those in which traffic is looked up.
    pub fn less_specific(&self, peer: PeerId, prefix: IpNet, mut each: impl FnMut(RouteRef<'_>)) {
        let source = self.peers.get(&peer).and_then(|peer| peer.lookups.as_ref()).map(PeerLookups::source);
        let (safi, route_distinguisher) = match source {
            None => return,
            Some(LookupSource::Unicast) => (Safi::Unicast, None),
            Some(LookupSource::LabelledUnicast) => (Safi::LabelledUnicast, None),
            Some(LookupSource::Vpn(distinguisher)) => (Safi::MplsVpn, Some(distinguisher)),
        };
        let Some(routes) = self.adj_rib_in(peer, Family { afi: afi_of(prefix.addr()), safi }) else { return };
        let mut at = Destination { route_distinguisher, prefix: Prefix::new(prefix) };
        while let Some((cover, value)) = routes.store().covering(&self.common.hasher, &at, at.prefix.length) {
            self.give(routes, &cover, value, &mut each);
            at = cover;
        }
    }

    fn adj_rib_in(&self, peer: PeerId, family: Family) -> Option<&AdjRibIn> {
        self.peers.get(&peer)?.families.get(family.index())?.as_deref()
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &PeerIdentity)> {
        self.peers.iter().map(|(id, peer)| (*id, &*peer.identity))
    }

    /// How a family of a peer stands; all zero for a peer that there is not.
    #[must_use]
    pub fn family_state(&self, peer: PeerId, family: Family) -> FamilyState {
        self.adj_rib_in(peer, family).map_or_else(FamilyState::default, |routes| FamilyState {
            routes: routes.routes(),
            stale: routes.stale(),
            end_of_rib: routes.end_of_rib,
        })
    }

    /// Number of attribute sets in use.
    #[must_use]
    pub fn attribute_sets(&self) -> usize {
        self.common.attributes.len()
    }

    /// What is kept for readers.
    #[must_use]
    pub fn retained(&self) -> Retained {
        let nodes = self.peers.values().filter_map(|peer| peer.lookups.as_ref()).map(PeerLookups::kept).sum();
        let (attributes, path_sets) = (&self.common.attributes, &self.common.path_sets);
        Retained {
            attribute_sets: attributes.kept() + path_sets.kept(),
            nodes,
            taken: attributes.taken_total() + path_sets.taken_total(),
        }
    }

    #[cfg(test)]
    fn nodes_in_use(&self) -> usize {
        self.peers.values().filter_map(|peer| peer.lookups.as_ref()).map(PeerLookups::nodes).sum()
    }

    /// What the RIB takes, octets.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let mut memory = Memory {
            attributes: self.common.attributes.octets() + self.common.path_sets.octets(),
            prefixes: self.left.iter().map(AdjRibIn::octets).sum(),
            ..Memory::default()
        };
        for peer in self.peers.values() {
            memory.prefixes += peer.families.iter().flatten().map(|routes| routes.octets()).sum::<usize>();
            if let Some(lookups) = &peer.lookups {
                let (ipv4, ipv6) = lookups.octets();
                memory.lookups_ipv4 += ipv4;
                memory.lookups_ipv6 += ipv6;
            }
        }
        memory
    }
}

fn afi_of(address: IpAddr) -> crate::Afi {
    if address.is_ipv4() { crate::Afi::Ipv4 } else { crate::Afi::Ipv6 }
}

impl Peer {
    /// Looks at the memory that [`Self::announce`] needs; what it returns means nothing.
    fn look_at(&self, family: Family, nlri: &Nlri, common: &Common) -> u32 {
        let Some(Some(routes)) = self.families.get(family.index()) else { return 0 };
        let at = Destination::new(nlri);
        let table = self.lookups.as_ref().and_then(|lookups| lookups.table_of(family, &at));
        routes.store().look_at(&common.hasher, at.prefix) ^ table.map_or(0, |table| table.look_at(at.prefix))
    }

    fn announce(
        &mut self,
        family: Family,
        nlri: &Nlri,
        attributes: u32,
        common: &mut Common,
        counts: &mut ApplyCounts,
    ) {
        let Some((routes, lookups)) = self.family_or_new(family) else { return };
        let at = Destination::new(nlri);
        let table = lookups.as_mut().and_then(|lookups| lookups.table(family, &at));
        let new = Announced { path_id: nlri.path_id, label: nlri.label, attributes };
        routes.announce(at, new, common, table, counts);
    }

    fn withdraw(&mut self, family: Family, nlri: &Nlri, common: &mut Common, counts: &mut ApplyCounts) {
        let Some(Some(routes)) = self.families.get_mut(family.index()) else {
            counts.unknown += 1;
            return;
        };
        let lookups = &mut self.lookups;
        let at = Destination::new(nlri);
        let table = lookups.as_mut().and_then(|lookups| lookups.table(family, &at));
        routes.withdraw(&at, nlri.path_id, common, table, counts);
    }

    /// As [`AdjRibIn::sweep`].
    fn sweep(&mut self, family: Family, limit: usize, common: &mut Common) -> usize {
        let Some(routes) = self.families.get_mut(family.index()).and_then(Option::as_deref_mut) else {
            return 0;
        };
        routes.sweep(limit, common, &mut self.lookups)
    }
}
