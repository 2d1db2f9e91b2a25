//! Where routes come from: the BGP speaker, RPKI, and the socket by which both can be asked.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use pathflow_bgp::bmp::router;
use pathflow_bgp::bmp::station::{self, Station};
use pathflow_bgp::fsm::State;
use pathflow_bgp::rib::Rib;
use pathflow_bgp::rpki::rtr::client::{Client, Settings as CacheSettings, Statistics};
use pathflow_bgp::rpki::rtr::pdu::Version;
use pathflow_bgp::rpki::{RoaStore, Source, ValidationState, read_file};
use pathflow_bgp::speaker::{PeerStatus, RouteEntry, Speaker, SpeakerHandle, StartError, Unavailable};
use tokio::task::spawn_local;
use tracing::{info, warn};

use crate::bgp_output::{Output, OutputCounts};
use crate::config::{BmpSettings, Config, RpkiSettings};
use crate::control::{ControlSocket, FamilyAnswer, PeerAnswer, Request, Response, RouteAnswer, SocketName};
use crate::enrich::{CurrentSettings, Hold, RouteSettings, RouteSource};
use crate::error::RunError;
use crate::pipeline::spawn;

/// More validated ROA payloads than this are not taken; there are 800,000.
const MAX_VRPS: usize = 10_000_000;
/// How often it is looked whether the routes are complete.
const HOLD_STEP: Duration = Duration::from_millis(100);

/// Everything that has to do with routes.
#[derive(Debug)]
pub struct Routing {
    /// What those who make records need.
    pub source: RouteSource,
    /// The speaker, if there is one.
    pub speaker: Option<SpeakerHandle>,
    /// What the client of the RPKI cache did, if there is one.
    pub cache: Option<Arc<Statistics>>,
    output: Option<Output>,
    _socket: Option<SocketName>,
}

impl Routing {
    /// Starts what is configured.
    ///
    /// # Errors
    /// [`RunError`] if an address or the socket cannot be had, or a file cannot be read.
    pub fn start(config: &Config) -> Result<Self, RunError> {
        let settings = CurrentSettings::new(config.enrich.clone());
        announce_networks(config);
        let roas = config.rpki.as_ref().map(|_| Arc::new(RoaStore::new()));
        let mut cache = None;
        if let (Some(rpki), Some(store)) = (&config.rpki, &roas) {
            read_roas(rpki, store)?;
            cache = start_cache(rpki, store)?;
        }
        let speaker = start_speaker(config)?;
        let output =
            speaker.as_ref().map(|speaker| Output::start(&config.bgp_output, speaker)).transpose()?;
        let hold = match &speaker {
            Some(speaker) if !config.enrich.wait_for_rib.is_zero() => {
                let hold = Hold::on();
                let (held, speaker, time) = (hold.clone(), speaker.clone(), config.enrich.wait_for_rib);
                let peers = fixed_peers(config);
                spawn("routes".to_owned(), move || release_when_complete(&held, &speaker, &peers, time))?;
                hold
            }
            _ => Hold::default(),
        };
        let reader = speaker.as_ref().map(SpeakerHandle::reader);
        let source = RouteSource { settings, reader, roas, hold };
        let socket = match (&config.control, &speaker) {
            (Some(path), Some(speaker)) => Some(start_control(path, &source, speaker)?),
            _ => None,
        };
        Ok(Self { source, speaker, cache, output, _socket: socket })
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
    let networks = &config.enrich.networks;
    if !networks.is_empty() {
        info!("{} networks of our own", networks.len());
    }
    if !networks.repeated().is_empty() {
        warn!("enrich.networks_file: lines {:?} repeat earlier ones and do not count", networks.repeated());
    }
}

/// Starts the thread `bgp` if there is something for it to do.
fn start_speaker(config: &Config) -> Result<Option<SpeakerHandle>, RunError> {
    let fault = |error: StartError| RunError::Bgp(error.to_string());
    let settings = config.bgp.clone().unwrap_or_default();
    let speaker = match &config.bmp {
        Some(bmp) => {
            let listener =
                bmp_listener(bmp.listen).map_err(|error| RunError::Bmp { address: bmp.listen, error })?;
            info!("BMP on {}", bmp.listen);
            let station = station_settings(bmp);
            Speaker::start_with(settings, move |rib| serve_bmp(listener, station, rib)).map_err(fault)?
        }
        None if config.bgp.is_some() => Speaker::start(settings).map_err(fault)?,
        None => return Ok(None),
    };
    for address in speaker.addresses() {
        info!("BGP on {address}");
    }
    Ok(Some(speaker))
}

fn bmp_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn station_settings(bmp: &BmpSettings) -> station::Settings {
    let router = router::Settings { stale_time: bmp.stale_time, ..router::Settings::default() };
    station::Settings { allowed: Some(bmp.routers.clone()), router, ..station::Settings::default() }
}

/// In the thread `bgp`, which owns the RIB.
fn serve_bmp(listener: TcpListener, settings: station::Settings, rib: Rc<RefCell<Rib>>) {
    let station = Station::new(settings, rib, Arc::default());
    spawn_local(async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => station.run(listener).await,
            Err(error) => warn!("no BMP: {error}"),
        }
    });
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

/// Peers that are expected, not only allowed.
fn fixed_peers(config: &Config) -> BTreeSet<IpAddr> {
    let peers = config.bgp.iter().flat_map(|settings| &settings.peers);
    peers.filter(|peer| !peer.is_dynamic()).map(|peer| peer.remote.addr()).collect()
}

fn release_when_complete(hold: &Hold, speaker: &SpeakerHandle, peers: &BTreeSet<IpAddr>, time: Duration) {
    let start = Instant::now();
    info!("records wait for the routes of {} BGP peers", peers.len());
    loop {
        match speaker.peers() {
            Ok(status) if is_complete(&status, peers) => {
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

/// Whether all `peers` are up and have said that all their routes have come.
fn is_complete(status: &[PeerStatus], peers: &BTreeSet<IpAddr>) -> bool {
    let complete = |peer: &PeerStatus| match &peer.negotiated {
        Some(negotiated) if peer.state == State::Established => peer
            .families
            .iter()
            .all(|(family, state)| state.end_of_rib || !negotiated.families.contains(*family)),
        _ => false,
    };
    peers.iter().all(|address| status.iter().any(|peer| peer.address == *address && complete(peer)))
        && status.iter().any(complete)
}

fn start_control(path: &Path, source: &RouteSource, speaker: &SpeakerHandle) -> Result<SocketName, RunError> {
    let (socket, name) =
        ControlSocket::bind(path).map_err(|error| RunError::Control { path: path.to_owned(), error })?;
    let (source, speaker) = (source.clone(), speaker.clone());
    // Answers until the process ends, so nobody waits for it.
    spawn("control".to_owned(), move || {
        socket.run(|request| {
            answer(&request, &source, &speaker).unwrap_or_else(|error| Response::Error(error.to_string()))
        });
    })?;
    Ok(name)
}

fn answer(request: &Request, source: &RouteSource, speaker: &SpeakerHandle) -> Result<Response, Unavailable> {
    let peers = speaker.peers()?;
    match request {
        Request::Peers => Ok(Response::Peers(peers.iter().map(peer_answer).collect())),
        Request::Route { address, peer } => {
            let settings = source.settings.load();
            let is_asked = |status: &&PeerStatus| {
                peer.as_ref().is_none_or(|peer| *status.name == **peer || status.address.to_string() == *peer)
            };
            let mut routes = Vec::new();
            for status in peers.iter().filter(is_asked) {
                let entries = speaker.covering(status.id, *address)?;
                routes.push(route_answer(status, &entries, &settings.routes, source.roas.as_deref()));
            }
            Ok(Response::Routes(routes))
        }
    }
}

fn route_answer(
    status: &PeerStatus,
    entries: &[RouteEntry],
    settings: &RouteSettings,
    roas: Option<&RoaStore>,
) -> RouteAnswer {
    let peer = name(status);
    let Some(first) = entries.first() else { return RouteAnswer { peer, ..RouteAnswer::default() } };
    let prefix: IpNet = first.nlri.prefix;
    let prepared = settings.prepare(&first.attributes);
    let rpki = roas.and_then(|roas| {
        let own = (settings.local_as != 0).then_some(settings.local_as);
        let announced_by = if prepared.has_empty_path { Some(own?) } else { prepared.announced_by };
        Some(match roas.table().validate(prefix, announced_by) {
            ValidationState::NotFound => "not-found",
            ValidationState::Valid => "valid",
            ValidationState::Invalid => "invalid",
        })
    });
    RouteAnswer {
        peer,
        prefix: Some(prefix.to_string()),
        paths: entries
            .iter()
            // Made by ourselves a moment ago: it is JSON.
            .map(|entry| {
                serde_json::from_str(settings.prepare(&entry.attributes).route.json()).unwrap_or_default()
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
        updates: status.counters.updates_received,
        last_error: status.last_error.as_ref().map(|error| error.text.clone()),
        families: status
            .families
            .iter()
            .map(|(family, state)| FamilyAnswer {
                family: family.to_string(),
                routes: state.routes.into(),
                stale: state.stale.into(),
                end_of_rib: state.end_of_rib,
            })
            .collect(),
    }
}
