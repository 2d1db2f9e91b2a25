//! Enrichment: what is known about a flow beyond its packets. Done once per record, when it is made.
//!
//! The only place that knows both flows and routes.

mod cache;
pub mod communities;
mod covers;
mod geography;
mod hold;
mod method;
mod networks;
mod route;
mod rules;
mod settings;
pub mod tags;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashSet;
use pathflow_bgp::rib::{AttributesId, LookupTable, Match, PeerId, RibReader, RibView};
use pathflow_bgp::rpki::{RoaStore, RoaTable, ValidationState};
use pathflow_exporter::{BgpRoute, FlowRecord, OriginValidation};

use crate::interfaces::InterfaceNames;
use cache::{AttributesKey, RouteCache};
pub use communities::Pattern;
use covers::{CoverCache, network};
pub use covers::{Covers, origin_validation};
pub use geography::{Geography, GeographyError, Place, Places};
pub use hold::Hold;
pub use method::{Method, Methods, Origin, resolve};
pub use networks::{Network, Networks, NetworksError};
pub use route::{PreparedRoute, RouteNumbers, RouteSettings};
pub use rules::{AgentRule, InterfaceSets, PeerReference, PeerSourceRule};
pub use settings::{CurrentSettings, EnrichSettings, RouteDetail, RouteSource};
use tags::JoinedLabels;
pub use tags::{OwnTags, TagMap, TagMapError, TagsOf};

/// Fills the fields of records that packets do not carry. One for each thread that makes records.
#[derive(Debug)]
pub struct Enricher {
    current: CurrentSettings,
    settings: Arc<EnrichSettings>,
    reader: Option<RibReader>,
    roas: Option<Arc<RoaStore>>,
    covers: Option<Covers>,
    session_as: Arc<AtomicU32>,
    /// What is wanted of routes at least, whatever the settings are.
    detail: RouteDetail,
    work: Work,
}

/// What changes from record to record.
#[derive(Debug)]
struct Work {
    routes: Routes,
    covers: CoverCache,
    agent_interfaces: InterfaceSets,
    peer_source_interfaces: InterfaceSets,
    labels: JoinedLabels,
}

/// Routes as records have them.
#[derive(Debug)]
enum Routes {
    Numbers(RouteCache<RouteNumbers>),
    Attributes(RouteCache<PreparedRoute>),
}

/// Sets of attributes of which the numbers are kept at most: more than a full table has.
const NUMBERS: usize = 1 << 18;
/// Those that are kept whole at most. Traffic uses few of those that a full table has.
const ATTRIBUTES: usize = 1 << 16;

/// What BGP says of one address.
#[derive(Clone, Debug)]
struct Found {
    peer: PeerId,
    prefix_length: u8,
    numbers: RouteNumbers,
    route: Option<Arc<BgpRoute>>,
}

impl Enricher {
    /// An enricher that follows `current` settings and finds routes by `reader`, if there is BGP, and whether they may
    /// be what they are by `roas`, if there is RPKI.
    #[must_use]
    pub fn new(current: CurrentSettings, reader: Option<RibReader>, roas: Option<Arc<RoaStore>>) -> Self {
        let settings = current.load();
        let detail = RouteDetail::default();
        let work = Work::new(&settings, detail);
        Self { current, settings, reader, roas, covers: None, session_as: Arc::default(), detail, work }
    }

    /// For those who want this of routes, beside the rules for tags.
    #[must_use]
    pub fn with_detail(mut self, detail: RouteDetail) -> Self {
        self.detail = detail;
        self.work = Work::new(&self.settings, detail);
        self
    }

    /// The AS of this router: what the settings say, else what it was in the BGP session that came up last; 0 = not
    /// known.
    #[must_use]
    pub fn own_as(&self) -> u32 {
        match self.settings.routes.local_as {
            0 => self.session_as.load(Ordering::Relaxed),
            local_as => local_as,
        }
    }

    /// Fills `records`, which have interface numbers by `names`. A field stays 0 or `None` where nothing is known.
    pub fn enrich<R>(&mut self, records: &mut [R], names: &Arc<InterfaceNames>)
    where
        R: AsRef<FlowRecord> + AsMut<FlowRecord>,
    {
        let settings = self.current.load();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.work = Work::new(&settings, self.detail);
            self.settings = settings;
        }
        let Self { settings, reader, roas, covers, work, .. } = self;
        if reader.is_none() && settings.networks.is_empty() && settings.peer_sources.is_empty() {
            return records.iter_mut().for_each(|record| work.tag(record.as_mut(), settings));
        }
        work.set_names(names, settings);
        let view = reader.as_mut().map(RibReader::enter);
        let tables = Tables::new(view.as_ref(), settings);
        let table = roas.as_ref().map(|store| store.table());
        let rpki = table.as_deref().map(|roas| Rpki { roas, covers: covers.as_ref() });
        for records in records.chunks_mut(SIDE_BY_SIDE) {
            let routes = tables.routes(records, settings, &work.agent_interfaces);
            work.routes.look_at(&routes);
            for (record, routes) in records.iter_mut().zip(routes) {
                work.enrich(record.as_mut(), routes, settings, rpki);
                work.tag(record.as_mut(), settings);
            }
        }
    }
}

/// What origin validation goes by.
#[derive(Clone, Copy)]
struct Rpki<'t> {
    roas: &'t RoaTable,
    /// Who knows what stands behind an invalid route, if anybody does.
    covers: Option<&'t Covers>,
}

/// Records whose addresses are looked up together.
const SIDE_BY_SIDE: usize = 32;

/// The routes of a record's source and destination, each with the peer that has it.
type Ends<'v> = [Option<(PeerId, Match<'v>)>; 2];

/// A peer's routes.
type PeerTable<'v> = (PeerId, LookupTable<'v>);

/// The tables of a batch.
struct Tables<'v> {
    /// In the order in which they are asked, if there is no rule.
    all: Vec<PeerTable<'v>>,
    /// Of each rule.
    by_rule: Vec<Option<PeerTable<'v>>>,
}

impl<'v> Tables<'v> {
    fn new(view: Option<&'v RibView<'_>>, settings: &EnrichSettings) -> Self {
        let Some(view) = view else { return Self { all: Vec::new(), by_rule: Vec::new() } };
        if settings.agents.is_empty() {
            let all = view.peers().filter_map(|(peer, _)| Some((peer, view.peer(peer)?))).collect();
            return Self { all, by_rule: Vec::new() };
        }
        let table = |peer: &PeerReference| match peer {
            PeerReference::Address(address) => {
                view.peers_at(*address).find_map(|peer| Some((peer, view.peer(peer)?)))
            }
            PeerReference::Name(name) => {
                view.peer_named(name).and_then(|peer| Some((peer, view.peer(peer)?)))
            }
        };
        let by_rule = settings.agents.iter().map(|rule| table(&rule.peer)).collect();
        Self { all: Vec::new(), by_rule }
    }

    /// The routes of [`SIDE_BY_SIDE`] records at most.
    fn routes<R: AsRef<FlowRecord>>(
        &self,
        records: &[R],
        settings: &EnrichSettings,
        interfaces: &InterfaceSets,
    ) -> [Ends<'v>; SIDE_BY_SIDE] {
        let mut routes = [[None; 2]; SIDE_BY_SIDE];
        if !settings.agents.is_empty() {
            for (record, routes) in records.iter().map(AsRef::as_ref).zip(&mut routes) {
                let tables = self.of(record, settings, interfaces);
                *routes = [record.source_address, record.destination_address].map(|address| {
                    tables.iter().find_map(|(peer, table)| Some((*peer, table.lookup(address)?)))
                });
            }
            return routes;
        }
        let mut addresses = [[IpAddr::V4(Ipv4Addr::UNSPECIFIED); 2]; SIDE_BY_SIDE];
        for (addresses, record) in addresses.iter_mut().zip(records.iter().map(AsRef::as_ref)) {
            *addresses = [record.source_address, record.destination_address];
        }
        let addresses = addresses.as_flattened().get(..2 * records.len()).unwrap_or_default();
        for (peer, table) in &self.all {
            let mut found = [None; 2 * SIDE_BY_SIDE];
            table.lookup_batch(addresses, &mut found);
            let mut missing = false;
            for (route, found) in routes.as_flattened_mut().iter_mut().zip(found).take(addresses.len()) {
                *route = route.or(found.map(|found| (*peer, found)));
                missing |= route.is_none();
            }
            if !missing {
                break;
            }
        }
        routes
    }

    /// Those in which the addresses of a record are looked up, by the rules; the first with a route counts.
    fn of<'t>(
        &'t self,
        record: &FlowRecord,
        settings: &EnrichSettings,
        interfaces: &InterfaceSets,
    ) -> &'t [PeerTable<'v>] {
        let mut rules = settings.agents.iter().zip(interfaces.iter()).zip(&self.by_rule);
        match rules.find(|((rule, numbers), _)| rule.is_for(record, numbers)) {
            Some((_, table)) => table.as_slice(),
            None => &[],
        }
    }
}

impl Work {
    fn new(settings: &EnrichSettings, detail: RouteDetail) -> Self {
        Self {
            routes: Routes::new(
                if settings.asks_attributes || settings.tag_maps().any(TagMap::asks_attributes) {
                    RouteDetail::Attributes
                } else {
                    detail
                },
            ),
            covers: CoverCache::default(),
            agent_interfaces: InterfaceSets::new(settings.agents.len()),
            peer_source_interfaces: InterfaceSets::new(settings.peer_sources.len()),
            labels: JoinedLabels::default(),
        }
    }

    /// Tags go by everything else.
    fn tag(&mut self, record: &mut FlowRecord, settings: &EnrichSettings) {
        if !settings.tags.is_empty() {
            settings.tags.apply(record, &mut self.labels);
        }
    }

    fn set_names(&mut self, names: &Arc<InterfaceNames>, settings: &EnrichSettings) {
        let agents = settings.agents.iter().map(|rule| rule.interfaces.as_slice());
        self.agent_interfaces.set_names(names, agents);
        let peer_sources = settings.peer_sources.iter().map(|rule| rule.interfaces.as_slice());
        self.peer_source_interfaces.set_names(names, peer_sources);
    }

    fn enrich(
        &mut self,
        record: &mut FlowRecord,
        [source_route, destination_route]: Ends<'_>,
        settings: &EnrichSettings,
        rpki: Option<Rpki<'_>>,
    ) {
        let (source, destination) = (record.source_address, record.destination_address);
        // Of several paths, traffic takes that of the kernel's next hop; by which it came nobody knows.
        let to = self.routes.find(destination_route, record.ip_next_hop, &settings.routes);
        let from = self.routes.find(source_route, None, &settings.routes);

        let origin = |address, found: Option<&Found>| {
            let bgp = found.map(|found| Origin {
                prefix_length: found.prefix_length,
                as_number: found.numbers.origin_as,
                peer_as_number: found.numbers.peer_as,
                next_hop: found.numbers.next_hop,
            });
            resolve(settings.methods, bgp.as_ref(), settings.networks.find(address))
        };
        let (of_source, of_destination) = (origin(source, from.as_ref()), origin(destination, to.as_ref()));
        record.bgp_source_as_number = of_source.as_number;
        record.source_prefix_length = of_source.prefix_length;
        record.bgp_destination_as_number = of_destination.as_number;
        record.destination_prefix_length = of_destination.prefix_length;
        record.bgp_next_hop = of_destination.next_hop;
        record.bgp_next_adjacent_as_number = of_destination.peer_as_number;
        record.bgp_prev_adjacent_as_number = self.peer_source(record, of_source, settings);
        if let Some(rpki) = rpki {
            let local_as = settings.routes.local_as;
            let mut validate =
                |address, found: Option<&Found>| found?.validate(address, local_as, rpki, &mut self.covers);
            record.source_rpki = validate(source, from.as_ref());
            record.destination_rpki = validate(destination, to.as_ref());
        }
        record.has_route = from.is_some() || to.is_some();
        record.source_route = from.and_then(|found| found.route);
        record.destination_route = to.and_then(|found| found.route);
    }

    /// The AS from which a flow comes in; what the route to its source says if no rule knows better.
    fn peer_source(&self, record: &FlowRecord, source: Origin, settings: &EnrichSettings) -> u32 {
        let is_for = |(rule, numbers): &(&PeerSourceRule, &HashSet<u32>)| {
            rule.is_for(record, source.next_hop, numbers)
        };
        let mut rules = settings.peer_sources.iter().zip(self.peer_source_interfaces.iter());
        rules.find(is_for).and_then(|(rule, _)| rule.as_number).unwrap_or(source.peer_as_number)
    }
}

impl Routes {
    const fn new(detail: RouteDetail) -> Self {
        match detail {
            RouteDetail::Numbers => Self::Numbers(RouteCache::with_room(NUMBERS)),
            RouteDetail::Attributes => Self::Attributes(RouteCache::with_room(ATTRIBUTES)),
        }
    }

    /// Looks at the memory that [`Self::find`] needs: waits for it overlap.
    fn look_at(&self, routes: &[Ends<'_>]) {
        let ids = routes.as_flattened().iter().flatten().filter_map(|(_, found)| found.attributes_id());
        let looked = match self {
            Self::Numbers(cache) => ids.fold(0, |all, id| all ^ cache.look_at(key(id))),
            Self::Attributes(cache) => ids.fold(0, |all, id| all ^ cache.look_at(key(id))),
        };
        black_box(looked);
    }

    fn find(
        &mut self,
        route: Option<(PeerId, Match<'_>)>,
        via: Option<IpAddr>,
        settings: &RouteSettings,
    ) -> Option<Found> {
        let (peer, found) = route?;
        let key = key(found.choose_attributes_id(via)?);
        let (numbers, route) = match self {
            Self::Numbers(cache) => (*cache.get(key, || settings.numbers_of(&found, via))?, None),
            Self::Attributes(cache) => {
                let unpacked = || Some(Arc::unwrap_or_clone(found.choose(via)?.attributes));
                let prepared = cache.get(key, || Some(settings.prepare(unpacked()?)))?;
                (prepared.numbers, Some(Arc::clone(&prepared.route)))
            }
        };
        Some(Found { peer, prefix_length: found.prefix_length(), numbers, route })
    }
}

const fn key(id: AttributesId) -> AttributesKey {
    AttributesKey { id: id.index, generation: id.generation }
}

impl Found {
    /// Whether the route comes from an AS that may announce it (RFC 6811); `None` if that is not known.
    fn validate(
        &self,
        address: IpAddr,
        local_as: u32,
        rpki: Rpki<'_>,
        cache: &mut CoverCache,
    ) -> Option<OriginValidation> {
        let prefix = network(address, self.prefix_length)?;
        let own = (local_as != 0).then_some(local_as);
        let origin_as = if self.numbers.has_empty_path { Some(own?) } else { self.numbers.announced_by };
        Some(match (rpki.roas.validate(prefix, origin_as), rpki.covers) {
            (ValidationState::NotFound, _) => OriginValidation::NotFound,
            (ValidationState::Valid, _) => OriginValidation::Valid,
            (ValidationState::Invalid, None) => OriginValidation::Invalid,
            (ValidationState::Invalid, Some(covers)) => {
                cache.validate(covers, (self.peer, prefix), (origin_as, own), rpki.roas)
            }
        })
    }
}

#[cfg(test)]
mod tests;
