//! Where routes come from: the BGP speaker, BMP and RPKI.

mod bmp;

use std::collections::BTreeSet;
use std::iter::once;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use pathflow_bgp::Family;
use pathflow_bgp::bmp::status::{RouterStatus, StationHandle};
use pathflow_bgp::fsm::State;
use pathflow_bgp::rib::{FamilyState, PeerId};
use pathflow_bgp::rpki::rtr::client::{Client, Settings as CacheSettings, Statistics};
use pathflow_bgp::rpki::rtr::pdu::Version;
use pathflow_bgp::rpki::{RoaStore, Source, read_file};
use pathflow_bgp::speaker::{PeerStatus, RouteEntry, Speaker, SpeakerHandle, StartError, Unavailable};
use tracing::{info, warn};

use crate::bgp_output::origin::Origins;
use crate::bgp_output::{Output, OutputCounts};
use crate::config::{Config, RpkiSettings};
use crate::control::{FamilyAnswer, PeerAnswer, RouteAnswer};
use crate::enrich::{
    Covers, CurrentSettings, EnrichSettings, Hold, RouteDetail, RouteSettings, RouteSource, TagMap,
    origin_validation,
};
use crate::error::RunError;
use crate::pipeline::{route_detail, spawn};

/// More validated ROA payloads than this are not taken; there are 800,000.
const MAX_VRPS: usize = 10_000_000;
/// How often it is looked whether the routes are complete.
const HOLD_STEP: Duration = Duration::from_millis(100);
/// How long the less specific routes of an answer are waited for.
const LESS_SPECIFIC_TIME: Duration = Duration::from_secs(2);
/// Looks in a row at which the routes of BMP routers have to be complete: no router says which families are to come.
const BMP_LOOKS: u32 = 10;

/// Everything that has to do with routes.
#[derive(Debug)]
pub struct Routing {
    /// What those who make records need.
    pub source: RouteSource,
    /// The speaker, if there is one.
    pub speaker: Option<SpeakerHandle>,
    /// The BMP station, if there is one.
    pub station: Option<StationHandle>,
    /// What the client of the RPKI cache did, if there is one.
    pub cache: Option<Arc<Statistics>>,
    output: Option<Output>,
}

/// What the routes of a running daemon can be asked.
#[derive(Clone, Debug)]
pub struct RouteAnswers {
    source: RouteSource,
    speaker: SpeakerHandle,
    station: Option<StationHandle>,
}

impl Routing {
    /// Starts what is configured.
    ///
    /// # Errors
    /// [`RunError`] if an address cannot be had, or a file cannot be read.
    pub fn start(config: &Config) -> Result<Self, RunError> {
        let asks_attributes = route_detail(config) == RouteDetail::Attributes;
        let settings = CurrentSettings::new(EnrichSettings { asks_attributes, ..config.enrich.clone() });
        announce_networks(config);
        let roas = config.rpki.as_ref().map(|_| Arc::new(RoaStore::new()));
        let mut cache = None;
        if let (Some(rpki), Some(store)) = (&config.rpki, &roas) {
            read_roas(rpki, store)?;
            cache = start_cache(rpki, store)?;
        }
        let (speaker, station) = start_speaker(config)?;
        let output =
            speaker.as_ref().map(|speaker| start_output(config, speaker, roas.as_ref())).transpose()?;
        let hold = match &speaker {
            Some(speaker) if !config.enrich.wait_for_rib.is_zero() => {
                let hold = Hold::on();
                let (held, time) = (hold.clone(), config.enrich.wait_for_rib);
                let expected = Expected::new(config, speaker.clone(), station.clone());
                spawn("routes".to_owned(), move || release_when_complete(&held, &expected, time))?;
                hold
            }
            _ => Hold::default(),
        };
        let reader = speaker.as_ref().map(SpeakerHandle::reader);
        let session_as = speaker.as_ref().map(SpeakerHandle::session_as).unwrap_or_default();
        let covers = speaker.clone().map(Covers::from);
        let source =
            RouteSource { settings, detail: RouteDetail::Numbers, reader, roas, covers, session_as, hold };
        Ok(Self { source, speaker, station, cache, output })
    }

    /// Who answers questions, if there are routes.
    #[must_use]
    pub fn answers(&self) -> Option<RouteAnswers> {
        let Self { source, speaker, station, .. } = self;
        Some(RouteAnswers { source: source.clone(), speaker: speaker.clone()?, station: station.clone() })
    }

    /// What became of files of what peers have sent.
    #[must_use]
    pub fn output_counts(&self) -> OutputCounts {
        self.output.as_ref().map(Output::counts).unwrap_or_default()
    }

    /// Takes what new settings say of routes. What cannot be taken is said and stays as it was.
    pub fn reload(&self, config: &Config) {
        if let Some(output) = &self.output {
            output.reopen();
        }
        announce_networks(config);
        self.source.settings.replace(config.enrich.clone());
        if let (Some(speaker), Some(settings)) = (&self.speaker, &config.bgp)
            && let Err(error) = speaker.reload(settings.clone())
        {
            warn!("bgp: {error}; sessions stay as they are");
        }
        if let (Some(rpki), Some(store)) = (&config.rpki, &self.source.roas)
            && let Err(error) = read_roas(rpki, store)
        {
            warn!("{error}; what it said before stays");
        }
    }

    /// Ends the sessions.
    pub fn finish(self) {
        let Self { speaker: Some(speaker), output, .. } = self else { return };
        let stop = || speaker.stop("pathflow ends");
        match output {
            Some(output) => output.finish(stop),
            None => stop(),
        }
    }
}

fn announce_networks(config: &Config) {
    for expression in config.enrich.tag_maps().flat_map(TagMap::without_bit) {
        info!(
            "tag_map: filter {expression:?} is compared with the addresses of records, as packets are asked for \
             8 others already; it is not true of records with VLAN or MPLS label"
        );
    }
    let networks = &config.enrich.networks;
    if !networks.is_empty() {
        info!("{} networks of our own", networks.len());
    }
    if !networks.repeated().is_empty() {
        warn!("enrich.networks_file: lines {:?} repeat earlier ones and do not count", networks.repeated());
    }
}

/// Starts what writes files of what peers have sent.
fn start_output(
    config: &Config,
    speaker: &SpeakerHandle,
    roas: Option<&Arc<RoaStore>>,
) -> Result<Output, RunError> {
    let local_as = config.enrich.routes.local_as;
    let origins = roas.map(|roas| Origins { roas: Arc::clone(roas), speaker: speaker.clone(), local_as });
    Output::start(&config.bgp_output, speaker, origins.as_ref())
}

/// Starts the thread `bgp` if there is something for it to do.
fn start_speaker(config: &Config) -> Result<(Option<SpeakerHandle>, Option<StationHandle>), RunError> {
    let fault = |error: StartError| RunError::Bgp(error.to_string());
    let settings = config.bgp.clone().unwrap_or_default();
    let (speaker, station) = match &config.bmp {
        Some(bmp) => {
            let (station, listening) = bmp::listen(bmp)?;
            let serve = |rib| listening.serve(rib);
            (Speaker::start_with(settings, serve).map_err(fault)?, Some(station))
        }
        None if config.bgp.is_some() => (Speaker::start(settings).map_err(fault)?, None),
        None => return Ok((None, None)),
    };
    for address in speaker.addresses() {
        info!("BGP on {address}");
    }
    Ok((Some(speaker), station))
}

fn read_roas(rpki: &RpkiSettings, store: &RoaStore) -> Result<(), RunError> {
    if let Some(file) = &rpki.file {
        let vrps = read_file(file, MAX_VRPS).map_err(|error| RunError::Rpki(error.to_string()))?;
        info!("{} validated ROA payloads from {}", vrps.len(), file.display());
        store.publish(Source::File, vrps.into());
    }
    Ok(())
}

/// Follows a cache until the process ends.
fn start_cache(rpki: &RpkiSettings, store: &Arc<RoaStore>) -> Result<Option<Arc<Statistics>>, RunError> {
    let Some(cache) = &rpki.cache else { return Ok(None) };
    let statistics = Arc::new(Statistics::default());
    let settings = CacheSettings { cache: cache.clone(), version: Version::V1, max_vrps: MAX_VRPS };
    let client = Client::new(settings, Arc::clone(store), Arc::clone(&statistics));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError::Thread { name: "rpki".to_owned(), error })?;
    spawn("rpki".to_owned(), move || runtime.block_on(client.run()))?;
    Ok(Some(statistics))
}

/// Who has to have told all routes before records are made.
struct Expected {
    speaker: SpeakerHandle,
    station: Option<StationHandle>,
    /// Peers that are expected, not only allowed.
    peers: BTreeSet<IpAddr>,
    /// The same of routers with BMP.
    routers: BTreeSet<IpAddr>,
}

impl Expected {
    fn new(config: &Config, speaker: SpeakerHandle, station: Option<StationHandle>) -> Self {
        let peers = config.bgp.iter().flat_map(|settings| &settings.peers);
        let peers = peers.filter(|peer| !peer.is_dynamic()).map(|peer| peer.remote.addr()).collect();
        let routers = config.bmp.iter().flat_map(|settings| &settings.routers);
        let routers = routers.filter(|router| router.prefix_len() == router.max_prefix_len());
        Self { speaker, station, peers, routers: routers.map(IpNet::addr).collect() }
    }

    /// Whether all of them have, and there is one at all.
    fn is_complete(&self) -> Result<bool, Unavailable> {
        let peers = peers_complete(&self.speaker.peers()?, &self.peers);
        let routers = match &self.station {
            Some(station) => bmp::complete(&station.routers().ok_or(Unavailable::Busy)?, &self.routers),
            None => Complete::Nobody,
        };
        Ok(peers != Complete::No && routers != Complete::No && (peers, routers) != NOBODY)
    }
}

/// No source of routes has said anything.
const NOBODY: (Complete, Complete) = (Complete::Nobody, Complete::Nobody);

/// Whether those who are expected have told all their routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complete {
    /// All of them, and there are some.
    Yes,
    /// Not all.
    No,
    /// There is nobody.
    Nobody,
}

fn release_when_complete(hold: &Hold, expected: &Expected, time: Duration) {
    let start = Instant::now();
    let (peers, routers) = (expected.peers.len(), expected.routers.len());
    info!("records wait for the routes of {peers} BGP peers and {routers} routers with BMP");
    let needed = if expected.station.is_some() { BMP_LOOKS } else { 1 };
    let mut looks = 0;
    loop {
        let complete = expected.is_complete();
        looks = if complete == Ok(true) { looks + 1 } else { 0 };
        match complete {
            Ok(true) if looks >= needed => {
                info!("the routes are complete after {:.1} s", start.elapsed().as_secs_f64());
                break;
            }
            Err(Unavailable::Stopped) => break,
            _ if start.elapsed() >= time => {
                warn!("the routes are not complete; records are made all the same");
                break;
            }
            _ => thread::sleep(HOLD_STEP),
        }
    }
    hold.release();
}

/// Of BGP: `peers` are expected, any other is welcome.
fn peers_complete(status: &[PeerStatus], peers: &BTreeSet<IpAddr>) -> Complete {
    let complete = |peer: &PeerStatus| match &peer.negotiated {
        Some(negotiated) if peer.state == State::Established => peer
            .families
            .iter()
            .all(|(family, state)| state.end_of_rib || !negotiated.families.contains(*family)),
        _ => false,
    };
    let is_there = |address: &IpAddr| status.iter().any(|peer| peer.address == *address && complete(peer));
    match (peers.iter().all(is_there), status.iter().any(complete)) {
        (false, _) => Complete::No,
        (true, true) => Complete::Yes,
        (true, false) => Complete::Nobody,
    }
}

impl RouteAnswers {
    /// How the peers are.
    ///
    /// # Errors
    /// [`Unavailable`] if the thread `bgp` does not answer.
    pub fn peers(&self) -> Result<Vec<PeerAnswer>, Unavailable> {
        let mut answers: Vec<PeerAnswer> = self.speaker.peers()?.iter().map(peer_answer).collect();
        answers.extend(bmp::answers(&self.routers()));
        Ok(answers)
    }

    /// What each of the peers, or `peer` alone, knows of an address.
    ///
    /// # Errors
    /// [`Unavailable`] if the thread `bgp` does not answer.
    pub fn routes(&self, address: IpAddr, peer: Option<&str>) -> Result<Vec<RouteAnswer>, Unavailable> {
        let Self { source, speaker, .. } = self;
        let settings = source.settings.load();
        let is_asked = |names: &[&str]| peer.is_none_or(|peer| names.contains(&peer));
        let mut routes = Vec::new();
        let mut ask = |id: PeerId, name: String| {
            let entries = speaker.covering(id, address)?;
            let mut less = Vec::new();
            if let (Some(first), Some(_)) = (entries.first(), &source.roas) {
                less = speaker.less_specific(id, first.nlri.prefix, LESS_SPECIFIC_TIME)?;
            }
            routes.push(route_answer(name, &entries, &less, &settings.routes, source.roas.as_deref()));
            Ok::<_, Unavailable>(())
        };
        for status in &speaker.peers()? {
            if is_asked(&[&status.name, &status.address.to_string()]) {
                ask(status.id, name(status))?;
            }
        }
        for router in &self.routers() {
            for table in router.peers.iter().flat_map(|peer| &peer.tables) {
                if is_asked(&[&table.name, &router.address.to_string()]) {
                    ask(table.id, table.name.clone())?;
                }
            }
        }
        Ok(routes)
    }

    fn routers(&self) -> Vec<RouterStatus> {
        self.station.as_ref().and_then(StationHandle::routers).unwrap_or_default()
    }
}

fn route_answer(
    peer: String,
    entries: &[RouteEntry],
    less: &[RouteEntry],
    settings: &RouteSettings,
    roas: Option<&RoaStore>,
) -> RouteAnswer {
    let Some(first) = entries.first() else { return RouteAnswer { peer, ..RouteAnswer::default() } };
    let prefix: IpNet = first.nlri.prefix;
    let rpki = roas.and_then(|roas| {
        let own = (settings.local_as != 0).then_some(settings.local_as);
        let origin_as = |entry: &RouteEntry| {
            let path = entry.attributes.as_path.ends();
            if path.is_empty() { own } else { path.announced_by() }
        };
        // Of our own AS, which has to be known.
        if first.attributes.as_path.is_empty() {
            own?;
        }
        let chain = once(first).chain(less).map(|entry| (entry.nlri.prefix, origin_as(entry)));
        Some(origin_validation(roas.table().status(chain)).as_str())
    });
    RouteAnswer {
        peer,
        prefix: Some(prefix.to_string()),
        paths: entries
            .iter()
            // Made by ourselves a moment ago: it is JSON.
            .map(|entry| {
                serde_json::from_str(settings.prepare(entry.attributes.as_ref().clone()).route.json())
                    .unwrap_or_default()
            })
            .collect(),
        stale: first.stale,
        rpki: rpki.map(str::to_owned),
    }
}

/// The address, with the name if there is one.
fn name(status: &PeerStatus) -> String {
    let address = status.address.to_string();
    if *status.name == *address { address } else { format!("{} ({address})", status.name) }
}

fn peer_answer(status: &PeerStatus) -> PeerAnswer {
    let up = status.state == State::Established;
    PeerAnswer {
        peer: name(status),
        as_number: status.negotiated.as_ref().map_or(0, |negotiated| negotiated.remote_as),
        state: status.state.to_string(),
        up_seconds: up.then(|| SystemTime::now().duration_since(status.since).unwrap_or_default().as_secs()),
        updates: Some(status.counters.updates_received),
        last_error: status.last_error.as_ref().map(|error| error.text.clone()),
        families: family_answers(&status.families),
    }
}

fn family_answers(families: &[(Family, FamilyState)]) -> Vec<FamilyAnswer> {
    let answer = |(family, state): &(Family, FamilyState)| FamilyAnswer {
        family: family.to_string(),
        routes: state.routes.into(),
        stale: state.stale.into(),
        end_of_rib: state.end_of_rib,
    };
    families.iter().map(answer).collect()
}
