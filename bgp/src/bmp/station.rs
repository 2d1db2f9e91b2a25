//! The listener: connections of routers, on the runtime of the thread that owns the RIB.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::timeout;
use tracing::{info, warn};

use super::RouteSink;
use super::router::{self, Router, RouterError, Statistics};
use super::wire::{self, HEADER_OCTETS, Header};
use crate::rib::SLOTS_PER_TURN;

/// The port that routers usually connect to; IANA has none for BMP.
pub const PORT: u16 = 1790;

/// Initiation has to come within this time.
const INITIATION_TIME: Duration = Duration::from_secs(30);
/// More of a message that has begun has to come within this time.
const MESSAGE_TIME: Duration = Duration::from_mins(1);
/// Between looks at what is stale.
const TICK: Duration = Duration::from_secs(1);
/// BMP has no keepalives, so TCP's have to find a router that is gone: idle time and interval.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// Room for each read.
const READ_OCTETS: usize = 64 * 1024;

/// Who may connect, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sources that may connect; `None` for all.
    pub allowed: Option<Vec<IpNet>>,
    /// Most routers at a time, those that are gone and stale included.
    pub max_routers: usize,
    /// Of each router.
    pub router: router::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self { allowed: None, max_routers: 1024, router: router::Settings::default() }
    }
}

/// A BMP station. Clones are the same station.
#[derive(Debug)]
pub struct Station<S> {
    shared: Rc<Shared<S>>,
}

impl<S> Clone for Station<S> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<S> {
    settings: RefCell<Settings>,
    sink: Rc<RefCell<S>>,
    statistics: Arc<Statistics>,
    routers: RefCell<HashMap<IpAddr, Entry>>,
}

#[derive(Debug)]
struct Entry {
    router: Router,
    /// The present connection.
    connection: Option<AbortHandle>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed by the router")]
    Closed,
    #[error("closed within a message")]
    Cut,
    #[error("no {0} in time")]
    Silent(&'static str),
    #[error("{0}")]
    Router(#[from] RouterError),
}

impl<S> Station<S> {
    pub(super) fn sink(&self) -> &RefCell<S> {
        &self.shared.sink
    }
}

impl<S: RouteSink + 'static> Station<S> {
    /// A station without routers. `sink` is borrowed for one message at a time, never across an await.
    #[must_use]
    pub fn new(settings: Settings, sink: Rc<RefCell<S>>, statistics: Arc<Statistics>) -> Self {
        let settings = RefCell::new(settings);
        Self { shared: Rc::new(Shared { settings, sink, statistics, routers: RefCell::default() }) }
    }

    /// Serves `listener` until the future is dropped; [`Self::close`] ends the connections. Several listeners may be
    /// served at a time. To be run within a `LocalSet`.
    pub async fn run(&self, listener: TcpListener) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, source)) => self.accept(stream, source),
                    Err(error) => {
                        // Out of descriptors, most likely: not to be asked again at once.
                        warn!(%error, "BMP: connection not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = tick.tick() => self.timer(Instant::now()),
            }
        }
    }

    /// Changes who may connect, at once for new connections, and how routers that connect from now on are treated.
    pub fn set_settings(&self, settings: Settings) {
        *self.shared.settings.borrow_mut() = settings;
    }

    /// Ends all connections and forgets all routers.
    pub fn close(&self) {
        let mut sink = self.shared.sink.borrow_mut();
        for (_, mut entry) in self.shared.routers.borrow_mut().drain() {
            if let Some(connection) = entry.connection.take() {
                connection.abort();
            }
            entry.router.remove(&mut *sink);
        }
    }

    /// Looks at each router: its address, whether it is connected, and what it said.
    pub fn routers(&self, mut each: impl FnMut(IpAddr, bool, &Router)) {
        for (address, entry) in self.shared.routers.borrow().iter() {
            each(*address, entry.connection.is_some(), &entry.router);
        }
    }

    fn timer(&self, now: Instant) {
        let mut sink = self.shared.sink.borrow_mut();
        self.shared.routers.borrow_mut().retain(|_, entry| {
            entry.router.timer(now, &mut *sink);
            entry.connection.is_some() || entry.router.peers().next().is_some()
        });
    }

    fn accept(&self, stream: TcpStream, source: SocketAddr) {
        let address = source.ip().to_canonical();
        let settings = self.shared.settings.borrow();
        let statistics = &self.shared.statistics;
        let is_allowed = |networks: &Vec<IpNet>| networks.iter().any(|network| network.contains(&address));
        if !settings.allowed.as_ref().is_none_or(is_allowed) {
            statistics.refused_sources.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut routers = self.shared.routers.borrow_mut();
        if !routers.contains_key(&address) && routers.len() >= settings.max_routers {
            statistics.refused_routers.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Err(error) = keep_alive(&stream) {
            warn!(router = %address, %error, "BMP: no TCP keepalives");
        }
        statistics.connections.fetch_add(1, Ordering::Relaxed);
        info!(router = %address, "BMP: connected");
        let entry = routers.entry(address).or_insert_with(|| Entry {
            router: Router::new(address, settings.router.clone()),
            connection: None,
        });
        // A router that connects again has given up the old connection, even if nobody told us.
        if let Some(old) = entry.connection.take() {
            old.abort();
            statistics.replaced_connections.fetch_add(1, Ordering::Relaxed);
            entry.router.disconnected(Instant::now(), &mut *self.shared.sink.borrow_mut());
        }
        let station = self.clone();
        let task = spawn_local(async move { station.connection(stream, address).await });
        entry.connection = Some(task.abort_handle());
    }

    async fn connection(self, mut stream: TcpStream, address: IpAddr) {
        let end = match self.receive(&mut stream, address).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let statistics = &self.shared.statistics;
        match end {
            End::Closed | End::Router(RouterError::Terminated(_)) => {
                info!(router = %address, reason = %end, "BMP: connection ended");
            }
            End::Io(_) | End::Cut => {
                statistics.connection_failures.fetch_add(1, Ordering::Relaxed);
                warn!(router = %address, reason = %end, "BMP: connection ended");
            }
            End::Silent(_) | End::Router(_) => {
                statistics.bad_connections.fetch_add(1, Ordering::Relaxed);
                warn!(router = %address, reason = %end, "BMP: connection ended");
            }
        }
        if let Some(entry) = self.shared.routers.borrow_mut().get_mut(&address) {
            entry.connection = None;
            entry.router.disconnected(Instant::now(), &mut *self.shared.sink.borrow_mut());
        }
    }

    async fn receive(
        &self,
        stream: &mut TcpStream,
        address: IpAddr,
    ) -> Result<std::convert::Infallible, End> {
        let start = Instant::now();
        let mut buffer = Vec::new();
        let mut initiated = false;
        loop {
            buffer.reserve(READ_OCTETS);
            let patience = if !initiated {
                Some((INITIATION_TIME.saturating_sub(start.elapsed()), "Initiation"))
            } else if buffer.is_empty() {
                None
            } else {
                Some((MESSAGE_TIME, "end of a message"))
            };
            let read = stream.read_buf(&mut buffer);
            let octets = match patience {
                Some((time, what)) => timeout(time, read).await.map_err(|_| End::Silent(what))??,
                None => read.await?,
            };
            if octets == 0 {
                return Err(if buffer.is_empty() { End::Closed } else { End::Cut });
            }
            loop {
                let (taken, has_more) = self.messages(&buffer, address, &mut initiated)?;
                buffer.drain(..taken);
                // Sessions and other routers want their turn between two reads of a full table.
                yield_now().await;
                if !has_more {
                    break;
                }
            }
        }
    }

    /// Takes all whole messages, or as many as a turn may; gives their octets, and whether there may be more.
    fn messages(&self, buffer: &[u8], address: IpAddr, initiated: &mut bool) -> Result<(usize, bool), End> {
        let mut routers = self.shared.routers.borrow_mut();
        let mut sink = self.shared.sink.borrow_mut();
        // Without an entry the station was closed, and this task is about to be ended.
        let router = &mut routers.get_mut(&address).ok_or(End::Closed)?.router;
        let now = Instant::now();
        let start = sink.slots_rewritten();
        let (mut taken, mut has_more) = (0, false);
        while !has_more
            && let Some(octets) = buffer.get(taken..)
            && let Some(header) = Header::decode(octets).map_err(RouterError::from)?
            && let Some(body) = octets.get(HEADER_OCTETS..header.octets)
        {
            router.received(now, header.message_type, body, &self.shared.statistics, &mut *sink)?;
            taken += header.octets;
            has_more = sink.slots_rewritten() - start > SLOTS_PER_TURN;
        }
        *initiated = router.is_initiated();
        Ok((taken, has_more))
    }
}

fn keep_alive(stream: &TcpStream) -> Result<(), rustix::io::Errno> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)
}

// A message that the station takes fits its buffer many times over what a read adds.
const _: () = assert!(wire::MAX_MESSAGE_OCTETS >= READ_OCTETS);
