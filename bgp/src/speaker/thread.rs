//! The BGP thread: its runtime, its listening sockets, its answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use super::handle::{PIECE, Request, RouteEntry, RoutePiece, SpeakerHandle};
use super::shared::{Peer, Shared};
use super::status::PeerStatus;
use super::{Settings, StartError};
use crate::Family;
use crate::fsm::State;
use crate::iana::cease_subcode;
use crate::listener;
use crate::rib::{PeerId, Rib, RibReader, RouteRef};
use crate::session::Command;
use crate::wire::Notification;

/// Questions not answered yet.
const REQUESTS: usize = 64;
/// Routes that the RIB's left-over work may touch in a turn: about a millisecond.
const WORK: usize = 10_000;
/// Pause of left-over work when there is none.
const WORK_PAUSE: Duration = Duration::from_millis(50);
/// How long peers may take to read our last words when the speaker stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Listening sockets by the address that was asked for.
type Listeners = BTreeMap<SocketAddr, Listening>;

struct Listening {
    listener: Rc<TcpListener>,
    task: JoinHandle<()>,
}

pub(super) fn start(
    settings: Settings,
    more: impl FnOnce(Rc<RefCell<Rib>>) + Send + 'static,
) -> Result<SpeakerHandle, StartError> {
    settings.check()?;
    let addresses: BTreeSet<SocketAddr> = settings.listen.iter().copied().collect();
    let sockets = bind_all(&addresses, &settings)?;
    let bound: Result<Vec<SocketAddr>, io::Error> =
        sockets.iter().map(|(_, socket)| socket.local_addr()).collect();
    let bound = bound.map_err(StartError::Thread)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let (requests, questions) = mpsc::channel(REQUESTS);
    let (started, wait) = sync_channel(1);
    let session_as = Arc::new(AtomicU32::new(0));
    let shown = Arc::clone(&session_as);
    let body = move || {
        let run = run((settings, session_as), sockets, questions, started, more);
        LocalSet::new().block_on(&runtime, run);
    };
    let thread =
        std::thread::Builder::new().name("bgp".to_owned()).spawn(body).map_err(StartError::Thread)?;
    let ended = || StartError::Thread(io::Error::other("it ended"));
    let reader = wait.recv().map_err(|_| ended())?.map_err(StartError::Thread)?;
    Ok(SpeakerHandle {
        requests,
        reader,
        addresses: bound.into(),
        session_as: shown,
        thread: Arc::new(Mutex::new(Some(thread))),
    })
}

type Sockets = Vec<(SocketAddr, std::net::TcpListener)>;

fn bind_all(addresses: &BTreeSet<SocketAddr>, settings: &Settings) -> Result<Sockets, StartError> {
    let bind = |address: &SocketAddr| match listener::bind(*address, settings) {
        Ok(socket) => Ok((*address, socket)),
        Err(source) => Err(StartError::Listen { address: *address, source }),
    };
    addresses.iter().map(bind).collect()
}

async fn run(
    (settings, session_as): (Settings, Arc<AtomicU32>),
    sockets: Sockets,
    mut questions: mpsc::Receiver<Request>,
    started: SyncSender<io::Result<RibReader>>,
    more: impl FnOnce(Rc<RefCell<Rib>>),
) {
    let rib = Rc::new(RefCell::new(Rib::new()));
    let shared = Rc::new(Shared::new(settings.clone(), Rc::clone(&rib), session_as));
    for peer in settings.peers.iter().filter(|peer| !peer.is_dynamic()) {
        shared.add_peer(peer.remote.addr(), peer);
    }
    let mut listeners = Listeners::new();
    for (address, socket) in sockets {
        if let Err(error) = listen(&shared, &mut listeners, address, socket) {
            // Whoever waits has gone only if the process ends.
            let _ = started.send(Err(error));
            return;
        }
    }
    let reader = rib.borrow().reader();
    tokio::task::spawn_local(work(Rc::clone(&rib)));
    more(rib);
    let _ = started.send(Ok(reader));
    let mut text = String::new();
    while let Some(request) = questions.recv().await {
        if let Request::Stop { text: farewell } = request {
            text = farewell;
            break;
        }
        answer(&shared, &mut listeners, request);
        tokio::task::yield_now().await;
    }
    stop(&shared, listeners, &text).await;
}

fn listen(
    shared: &Rc<Shared>,
    listeners: &mut Listeners,
    address: SocketAddr,
    socket: std::net::TcpListener,
) -> io::Result<()> {
    let listener = Rc::new(TcpListener::from_std(socket)?);
    let task = tokio::task::spawn_local(listener::accept(Rc::clone(shared), Rc::clone(&listener)));
    listeners.insert(address, Listening { listener, task });
    Ok(())
}

/// What the RIB left for later.
async fn work(rib: Rc<RefCell<Rib>>) {
    loop {
        let more = rib.borrow_mut().work(WORK);
        if more {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(WORK_PAUSE).await;
        }
    }
}

/// Those who asked may have gone: an answer that nobody takes is no error.
fn reply<A>(to: &SyncSender<A>, answer: A) {
    let _ = to.send(answer);
}

fn answer(shared: &Rc<Shared>, listeners: &mut Listeners, request: Request) {
    match request {
        Request::Peers(answer) => reply(&answer, peers(shared)),
        Request::Counters(answer) => {
            let mut counters = *shared.counters.borrow();
            counters.log_events_dropped = shared.subscribers.borrow().dropped;
            reply(&answer, counters);
        }
        Request::Routes { peer, mut position, answer } => {
            let mut routes = Vec::with_capacity(PIECE);
            let rib = shared.rib.borrow();
            let more = rib.dump(peer, &mut position, PIECE, |route| routes.push(RouteEntry::from(route)));
            let is_cut = !rib.peers().any(|(id, _)| id == peer);
            reply(&answer, RoutePiece { routes, position, more, is_cut });
        }
        Request::Covering { peer, address, answer } => {
            reply(&answer, covering(&shared.rib.borrow(), peer, address));
        }
        Request::Exact { peer, prefix, answer } => {
            reply(&answer, exact(&shared.rib.borrow(), peer, prefix));
        }
        Request::LessSpecific { peer, prefix, answer } => {
            let mut routes = Vec::new();
            shared.rib.borrow().less_specific(peer, prefix, |route| routes.push(RouteEntry::from(route)));
            reply(&answer, routes);
        }
        Request::Reload { settings, claim, answer } => {
            if claim.take() {
                reply(&answer, reload(shared, listeners, &settings));
            }
        }
        Request::Refresh { peer, answer } => reply(&answer, command(shared, peer, Command::Refresh)),
        Request::Reset { peer, text, answer } => {
            let notification = Notification::cease(cease_subcode::ADMINISTRATIVE_RESET, &text);
            reply(&answer, command(shared, peer, Command::Reset(notification)));
        }
        Request::Subscribe { capacity, answer } => {
            reply(&answer, shared.subscribers.borrow_mut().subscribe(capacity));
        }
        // Handled by the caller.
        Request::Stop { .. } => {}
    }
}

fn peers(shared: &Shared) -> Vec<PeerStatus> {
    let rib = shared.rib.borrow();
    let status = |peer: &Rc<Peer>| {
        let mut status = peer.status.borrow().clone();
        let agreed = status.negotiated.as_ref().map(|agreed| agreed.families).unwrap_or_default();
        let families = Family::ALL.into_iter().map(|family| (family, rib.family_state(peer.id, family)));
        status.families =
            families.filter(|(family, state)| agreed.contains(*family) || state.routes > 0).collect();
        status
    };
    shared.peers.borrow().values().map(status).collect()
}

fn command(shared: &Shared, id: PeerId, command: Command) -> bool {
    let peers = shared.peers.borrow();
    let peer = peers.values().find(|peer| peer.id == id);
    peer.is_some_and(|peer| peer.mailbox.try_send(command).is_ok())
}

fn exact(rib: &Rib, peer: PeerId, prefix: IpNet) -> Vec<RouteEntry> {
    let family = if prefix.addr().is_ipv4() { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST };
    let mut routes = Vec::new();
    rib.routes(peer, family, None, prefix.trunc(), |route| routes.push(RouteEntry::from(route)));
    routes
}

/// Longest prefix first.
fn covering(rib: &Rib, peer: PeerId, address: IpAddr) -> Vec<RouteEntry> {
    let host = IpNet::from(address);
    let lengths = (0..=host.max_prefix_len()).rev();
    let prefixes = lengths.filter_map(|length| IpNet::new(address, length).ok());
    prefixes.map(|prefix| exact(rib, peer, prefix)).find(|routes| !routes.is_empty()).unwrap_or_default()
}

/// Everything that can fail comes first.
fn reload(shared: &Rc<Shared>, listeners: &mut Listeners, new: &Settings) -> Result<(), StartError> {
    let wanted: BTreeSet<SocketAddr> = new.listen.iter().copied().collect();
    let added = wanted.iter().filter(|address| !listeners.contains_key(address)).copied().collect();
    let sockets = bind_all(&added, new)?;
    let old = shared.settings.replace(new.clone());
    for (address, listening) in listeners.iter() {
        let socket = SockRef::from(&*listening.listener);
        if let Err(source) = listener::set_security(&socket, address.is_ipv6(), Some(&old), new) {
            shared.settings.replace(old);
            return Err(StartError::Listen { address: *address, source });
        }
    }
    for (address, socket) in sockets {
        let result = listen(shared, listeners, address, socket);
        result.map_err(|source| StartError::Listen { address, source })?;
    }
    listeners.retain(|address, listening| {
        let keep = wanted.contains(address);
        if !keep {
            listening.task.abort();
        }
        keep
    });
    let router_id_changed = old.router_id != new.router_id;
    let peers: Vec<Rc<Peer>> = shared.peers.borrow().values().cloned().collect();
    for peer in peers {
        reload_peer(shared, &peer, new, router_id_changed);
    }
    for settings in new.peers.iter().filter(|settings| !settings.is_dynamic()) {
        let address = settings.remote.addr();
        let known = shared.peers.borrow().contains_key(&address);
        if !known {
            shared.add_peer(address, settings);
        }
    }
    Ok(())
}

fn reload_peer(shared: &Rc<Shared>, peer: &Rc<Peer>, new: &Settings, router_id_changed: bool) {
    let old = Rc::clone(&peer.settings.borrow());
    let settings = new.peer(peer.address).filter(|settings| {
        // Whatever makes another name makes another peer to those who look routes up.
        settings.is_dynamic() == peer.dynamic && (peer.dynamic || settings.name == old.name)
    });
    let change = match settings {
        None => {
            // At once, so that a peer of the same address can take its place.
            shared.peers.borrow_mut().remove(&peer.address);
            Command::Remove(Notification::cease(cease_subcode::PEER_DECONFIGURED, ""))
        }
        Some(settings) if *settings != *old => Command::Reconfigure(Rc::new(settings.clone())),
        Some(_) if router_id_changed => {
            Command::Reset(Notification::cease(cease_subcode::OTHER_CONFIGURATION_CHANGE, ""))
        }
        Some(_) => return,
    };
    let mailbox = peer.mailbox.clone();
    // The mailbox may be full of connections for a moment.
    tokio::task::spawn_local(async move { drop(mailbox.send(change).await) });
}

/// Ends all sessions, then waits for peers to read why, for a bounded time.
async fn stop(shared: &Rc<Shared>, listeners: Listeners, text: &str) {
    for listening in listeners.into_values() {
        listening.task.abort();
    }
    let notification = Notification::cease(cease_subcode::ADMINISTRATIVE_SHUTDOWN, text);
    let peers: Vec<Rc<Peer>> = shared.peers.borrow().values().cloned().collect();
    let farewell = async {
        let mut tasks = Vec::new();
        for peer in &peers {
            drop(peer.mailbox.send(Command::Remove(notification.clone())).await);
            tasks.extend(peer.task.borrow_mut().take());
        }
        for task in tasks {
            drop(task.await);
        }
        while shared.lingering() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let states: Vec<_> =
        peers.iter().filter(|peer| peer.status.borrow().state == State::Established).collect();
    tracing::info!(sessions = states.len(), "BGP speaker stops");
    drop(tokio::time::timeout(FAREWELL, farewell).await);
}

impl From<RouteRef<'_>> for RouteEntry {
    fn from(route: RouteRef<'_>) -> Self {
        Self {
            family: route.family,
            nlri: route.nlri,
            attributes: Arc::new(route.attributes.clone()),
            stale: route.stale,
        }
    }
}
