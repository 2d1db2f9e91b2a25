//! What all tasks of the BGP thread share. Nobody holds a borrow over a wait.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::message_log::{LogEvent, LogKind, Subscribers};
use super::status::{PeerCounters, PeerStatus, SpeakerCounters};
use super::{PeerSettings, Settings};
use crate::connection::Connection;
use crate::fsm::Time;
use crate::rib::{PeerId, PeerIdentity, Rib};
use crate::session::{Command, Session};

/// Accepted connections and commands that a peer's task has not taken yet.
const MAILBOX: usize = 16;
/// Connections that wait for the peer to read our last words.
const MAX_LINGERING: usize = 64;
/// Equal lines in a log are about so far apart.
const LOG_PAUSE: Duration = Duration::from_mins(1);
/// Lines about one peer, or one listening socket, in that time.
const MAX_LOG_LINES: u32 = 20;

pub(crate) struct Shared {
    pub(crate) settings: RefCell<Settings>,
    pub(crate) rib: Rc<RefCell<Rib>>,
    pub(crate) peers: RefCell<BTreeMap<IpAddr, Rc<Peer>>>,
    pub(crate) subscribers: RefCell<Subscribers>,
    pub(crate) counters: RefCell<SpeakerCounters>,
    /// Our AS number in the session that came up last.
    pub(crate) session_as: Arc<AtomicU32>,
    lingering: Rc<Cell<usize>>,
    start: Instant,
}

/// A peer as all tasks see it; its own task has the rest.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) id: PeerId,
    pub(crate) name: Arc<str>,
    pub(crate) dynamic: bool,
    pub(crate) settings: RefCell<Rc<PeerSettings>>,
    pub(crate) status: RefCell<PeerStatus>,
    pub(crate) mailbox: mpsc::Sender<Command>,
    pub(crate) task: RefCell<Option<JoinHandle<()>>>,
}

impl Peer {
    pub(crate) fn count(&self, count: impl FnOnce(&mut PeerCounters)) {
        count(&mut self.status.borrow_mut().counters);
    }
}

impl Shared {
    pub(crate) fn new(settings: Settings, rib: Rc<RefCell<Rib>>, session_as: Arc<AtomicU32>) -> Self {
        Self {
            settings: RefCell::new(settings),
            rib,
            peers: RefCell::default(),
            subscribers: RefCell::default(),
            counters: RefCell::default(),
            session_as,
            lingering: Rc::default(),
            start: Instant::now(),
        }
    }

    /// The time of state machines.
    pub(crate) fn now(&self) -> Time {
        self.start.elapsed()
    }

    /// That time for the runtime's timers.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        // A time that no clock can show is a timer that never expires.
        let instant = self.start.checked_add(time).unwrap_or(self.start + Duration::from_secs(1 << 30));
        tokio::time::Instant::from_std(instant)
    }

    /// Adds a peer and starts its task.
    pub(crate) fn add_peer(self: &Rc<Self>, address: IpAddr, settings: &PeerSettings) -> Rc<Peer> {
        let dynamic = settings.is_dynamic();
        let name = match &settings.name {
            Some(name) if !dynamic => Arc::from(&**name),
            _ => Arc::from(address.to_string()),
        };
        let identity = PeerIdentity { name: Box::from(&*name), address };
        let id = self.rib.borrow_mut().add_peer(identity, settings.lookups);
        let (mailbox, commands) = mpsc::channel(MAILBOX);
        let status = PeerStatus {
            id,
            name: Box::from(&*name),
            address,
            dynamic,
            state: crate::fsm::State::Idle,
            since: SystemTime::now(),
            local: None,
            remote: None,
            negotiated: None,
            families: Vec::new(),
            counters: PeerCounters::default(),
            attribute_errors: BTreeMap::new(),
            last_error: None,
        };
        let peer = Rc::new(Peer {
            address,
            id,
            name,
            dynamic,
            settings: RefCell::new(Rc::new(settings.clone())),
            status: RefCell::new(status),
            mailbox,
            task: RefCell::new(None),
        });
        self.peers.borrow_mut().insert(address, Rc::clone(&peer));
        let session = Session::new(Rc::clone(self), Rc::clone(&peer), commands);
        *peer.task.borrow_mut() = Some(tokio::task::spawn_local(session.run()));
        peer
    }

    /// Forgets a peer and its routes.
    pub(crate) fn remove_peer(&self, peer: &Peer) {
        self.rib.borrow_mut().remove_peer(peer.id);
        let mut peers = self.peers.borrow_mut();
        // A new one may have taken its place.
        if peers.get(&peer.address).is_some_and(|other| other.id == peer.id) {
            peers.remove(&peer.address);
        }
    }

    /// Whether anybody wants [`Self::log`] to be called.
    pub(crate) fn has_subscribers(&self) -> bool {
        !self.subscribers.borrow().is_empty()
    }

    pub(crate) fn log(&self, peer: &Peer, kind: LogKind) {
        if self.has_subscribers() {
            let (remote, add_path) = {
                let status = peer.status.borrow();
                let add_path = status.negotiated.as_ref().map(|agreed| agreed.context.add_path);
                (status.remote, add_path.unwrap_or_default())
            };
            let event = LogEvent {
                at: SystemTime::now(),
                peer: peer.id,
                name: Arc::clone(&peer.name),
                address: peer.address,
                remote,
                add_path,
                kind,
            };
            self.subscribers.borrow_mut().publish(&event);
        }
    }

    /// Ends a connection in its own time.
    pub(crate) fn linger(&self, connection: Connection) {
        let lingering = Rc::clone(&self.lingering);
        if lingering.get() >= MAX_LINGERING {
            return;
        }
        lingering.set(lingering.get() + 1);
        tokio::task::spawn_local(async move {
            connection.linger().await;
            lingering.set(lingering.get() - 1);
        });
    }

    /// Connections that are being ended.
    pub(crate) fn lingering(&self) -> usize {
        self.lingering.get()
    }
}

/// Keeps a log from being filled: in each minute some lines, and none twice in a row.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    last: String,
    lines: u32,
    until: Time,
    suppressed: u64,
}

impl LogLimit {
    /// Whether to write `text` now; then with how many lines were left out since the last one, to be written behind it.
    pub(crate) fn admit(&mut self, text: &str, now: Time) -> Option<LeftOut> {
        if now >= self.until {
            self.until = now.saturating_add(LOG_PAUSE);
            self.lines = 0;
            self.last.clear();
        }
        if self.last == text || self.lines >= MAX_LOG_LINES {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        text.clone_into(&mut self.last);
        Some(LeftOut(std::mem::take(&mut self.suppressed)))
    }
}

/// Lines that were left out; nothing in a line if there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            lines => write!(formatter, " ({lines} lines left out)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_written_once_a_minute_with_the_number_left_out() {
        let mut limit = LogLimit::default();
        let second = Duration::from_secs(1);
        assert_eq!(limit.admit("a", Duration::ZERO), Some(LeftOut(0)));
        assert_eq!(limit.admit("a", second), None);
        assert_eq!(limit.admit("a", 59 * second), None);
        assert_eq!(limit.admit("a", 60 * second), Some(LeftOut(2)));
        assert_eq!(limit.admit("b", 60 * second), Some(LeftOut(0)));
        let written = (0..100).filter(|n: &u32| limit.admit(&n.to_string(), 61 * second).is_some()).count();
        assert_eq!(written, 18);
    }
}
