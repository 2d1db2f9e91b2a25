//! What other threads can ask of the BGP thread. Calls wait for its answer: do not make them in an async task that
//! other work depends on.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::{LogCapacity, LogEvents, PeerStatus, Settings, SpeakerCounters, StartError};
use crate::rib::{DumpPosition, PeerId, RibReader};
use crate::{Attributes, Family, Nlri};

/// Routes of one answer while a table is read out: less than a millisecond of the BGP thread's time.
pub(super) const PIECE: usize = 1000;

/// The BGP thread does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It has ended.
    #[error("the BGP speaker has stopped")]
    Stopped,
    /// There are too many questions at once, or it has too much to do to answer within [`PATIENCE`].
    #[error("the BGP speaker is too busy to answer")]
    Busy,
}

/// How long an answer is waited for. The thread works in turns of milliseconds; nobody is to be held up by one that does
/// not.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause before a question that was one too many is put again.
const PAUSE: Duration = Duration::from_millis(1);

/// A question and where its answer goes.
pub(super) enum Request {
    Peers(SyncSender<Vec<PeerStatus>>),
    Counters(SyncSender<SpeakerCounters>),
    Routes { peer: PeerId, position: DumpPosition, answer: SyncSender<RoutePiece> },
    Covering { peer: PeerId, address: IpAddr, answer: SyncSender<Vec<RouteEntry>> },
    Exact { peer: PeerId, prefix: IpNet, answer: SyncSender<Vec<RouteEntry>> },
    LessSpecific { peer: PeerId, prefix: IpNet, answer: SyncSender<Vec<RouteEntry>> },
    Reload { settings: Settings, claim: Claim, answer: SyncSender<Result<(), StartError>> },
    Refresh { peer: PeerId, answer: SyncSender<bool> },
    Reset { peer: PeerId, text: String, answer: SyncSender<bool> },
    Subscribe { capacity: LogCapacity, answer: SyncSender<LogEvents> },
    Stop { text: String },
}

/// Whether a request is carried out or withdrawn: who claims it first decides.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// False if the other one was first.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Some routes of a table.
pub(super) struct RoutePiece {
    pub(super) routes: Vec<RouteEntry>,
    pub(super) position: DumpPosition,
    pub(super) more: bool,
    /// There is no such peer any more.
    pub(super) is_cut: bool,
}

/// One route of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Of which family.
    pub family: Family,
    /// Prefix, Route Distinguisher, Path Identifier and label.
    pub nlri: Nlri,
    /// What the peer says about it.
    pub attributes: Arc<Attributes>,
    /// True if the peer's session was lost and did not bring it back yet.
    pub stale: bool,
}

/// The way to a speaker. Clones lead to the same one.
#[derive(Clone)]
pub struct SpeakerHandle {
    pub(super) requests: Sender<Request>,
    pub(super) reader: RibReader,
    pub(super) addresses: Arc<[SocketAddr]>,
    pub(super) session_as: Arc<AtomicU32>,
    pub(super) thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl std::fmt::Debug for SpeakerHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SpeakerHandle").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl SpeakerHandle {
    /// A reader of the RIB, for one thread.
    #[must_use]
    pub fn reader(&self) -> RibReader {
        self.reader.clone()
    }

    /// Addresses and ports listened on since the start; a port set as 0 is the one that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Our AS number in the session that came up last; 0 = there was none yet.
    #[must_use]
    pub fn session_as(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.session_as)
    }

    /// How all peers stand, by address.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn peers(&self) -> Result<Vec<PeerStatus>, Unavailable> {
        self.ask(Request::Peers)
    }

    /// Events that belong to no peer.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn counters(&self) -> Result<SpeakerCounters, Unavailable> {
        self.ask(Request::Counters)
    }

    /// All routes of a peer, fetched in pieces: routes that come or go meanwhile may or may not be among them.
    #[must_use]
    pub fn routes(&self, peer: PeerId) -> Routes {
        Routes {
            handle: self.clone(),
            peer,
            position: DumpPosition::default(),
            piece: VecDeque::new(),
            more: true,
            is_cut: false,
        }
    }

    /// The unicast routes of a peer with the longest prefix that covers an address; several with ADD-PATH.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn covering(&self, peer: PeerId, address: IpAddr) -> Result<Vec<RouteEntry>, Unavailable> {
        self.ask(|answer| Request::Covering { peer, address, answer })
    }

    /// The unicast routes of a peer of exactly a prefix.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn exact(&self, peer: PeerId, prefix: IpNet) -> Result<Vec<RouteEntry>, Unavailable> {
        self.ask(|answer| Request::Exact { peer, prefix, answer })
    }

    /// The routes of a peer that cover `prefix` and are less specific, longest first, of those in which traffic is looked
    /// up; the answer is not waited for longer than `patience`.
    ///
    /// # Errors
    /// If the thread does not answer in time.
    pub fn less_specific(
        &self,
        peer: PeerId,
        prefix: IpNet,
        patience: Duration,
    ) -> Result<Vec<RouteEntry>, Unavailable> {
        let (sender, answer) = sync_channel(1);
        self.request(Request::LessSpecific { peer, prefix, answer: sender })?;
        wait(&answer, patience)
    }

    /// Takes new settings. Only sessions end whose own settings changed. If there is an error, all stays as it was, also if
    /// the thread does not get to it in time: then it is told that nobody wants it any more.
    ///
    /// # Errors
    /// As at the start.
    pub fn reload(&self, settings: Settings) -> Result<(), StartError> {
        self.reload_within(settings, PATIENCE)
    }

    fn reload_within(&self, settings: Settings, patience: Duration) -> Result<(), StartError> {
        settings.check()?;
        let (claim, (sender, answer)) = (Claim::default(), sync_channel(1));
        self.request(Request::Reload { settings, claim: claim.clone(), answer: sender })?;
        match wait(&answer, patience) {
            // It is at it, and does nothing else before it is done.
            Err(Unavailable::Busy) if !claim.take() => answer.recv().map_err(|_| Unavailable::Stopped)?,
            answered => answered?,
        }
    }

    /// Asks a peer for all its routes again (RFC 2918). False if there is no such peer.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn refresh(&self, peer: PeerId) -> Result<bool, Unavailable> {
        self.ask(|answer| Request::Refresh { peer, answer })
    }

    /// Ends a peer's session with Cease, Administrative Reset and a text (RFC 9003), and starts it again. False if there
    /// is no such peer.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn reset(&self, peer: PeerId, text: &str) -> Result<bool, Unavailable> {
        self.ask(|answer| Request::Reset { peer, text: text.to_owned(), answer })
    }

    /// What peers say from now on. What a reader that is late has no room for is lost, and its events are counted
    /// ([`SpeakerCounters::log_events_dropped`]). Drop what is returned to end it.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub fn subscribe(&self, capacity: LogCapacity) -> Result<LogEvents, Unavailable> {
        self.ask(|answer| Request::Subscribe { capacity, answer })
    }

    /// Ends all sessions with Cease, Administrative Shutdown and a text (RFC 9003), and the thread. Returns when it has
    /// ended, after a few seconds at most.
    pub fn stop(&self, text: &str) {
        let mut request = Request::Stop { text: text.to_owned() };
        // A full queue empties in no time.
        while let Err(TrySendError::Full(again)) = self.requests.try_send(request) {
            request = again;
            std::thread::yield_now();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the BGP thread panicked");
        }
    }

    fn ask<A>(&self, request: impl FnOnce(SyncSender<A>) -> Request) -> Result<A, Unavailable> {
        let (sender, answer) = sync_channel(1);
        self.request(request(sender))?;
        wait(&answer, PATIENCE)
    }

    fn request(&self, request: Request) -> Result<(), Unavailable> {
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => Unavailable::Busy,
            TrySendError::Closed(_) => Unavailable::Stopped,
        })
    }
}

fn wait<A>(answer: &Receiver<A>, patience: Duration) -> Result<A, Unavailable> {
    answer.recv_timeout(patience).map_err(|error| match error {
        RecvTimeoutError::Timeout => Unavailable::Busy,
        RecvTimeoutError::Disconnected => Unavailable::Stopped,
    })
}

/// All routes of a peer. Ends early if the speaker stops or forgets the peer: see [`Self::is_complete`].
#[derive(Debug)]
pub struct Routes {
    handle: SpeakerHandle,
    peer: PeerId,
    position: DumpPosition,
    piece: VecDeque<RouteEntry>,
    more: bool,
    is_cut: bool,
}

impl Routes {
    /// Whether all routes have come; to be asked at the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.more && !self.is_cut
    }
}

impl Iterator for Routes {
    type Item = RouteEntry;

    fn next(&mut self) -> Option<RouteEntry> {
        while self.piece.is_empty() && self.more {
            let position = self.position.clone();
            let peer = self.peer;
            match self.handle.ask(|answer| Request::Routes { peer, position, answer }) {
                Ok(piece) => {
                    self.piece = piece.routes.into();
                    self.position = piece.position;
                    self.more = piece.more;
                    self.is_cut = piece.is_cut;
                }
                Err(Unavailable::Busy) => std::thread::sleep(PAUSE),
                Err(Unavailable::Stopped) => (self.more, self.is_cut) = (false, true),
            }
        }
        self.piece.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::rib::Rib;

    /// Somebody waits so long in a test, and the other one needs no longer than that.
    const SHORT: Duration = Duration::from_millis(20);

    /// Of a thread that is played by the test.
    fn handle() -> (SpeakerHandle, Receiver<Request>) {
        let (requests, questions) = channel(1);
        let handle = SpeakerHandle {
            requests,
            reader: Rib::new().reader(),
            addresses: Arc::default(),
            session_as: Arc::default(),
            thread: Arc::default(),
        };
        (handle, questions)
    }

    #[test]
    fn settings_that_nobody_got_to_in_time_are_withdrawn() {
        let (handle, mut questions) = handle();
        let error = handle.reload_within(Settings::default(), SHORT).unwrap_err();
        assert!(matches!(error, StartError::Unavailable(Unavailable::Busy)), "{error}");
        let Some(Request::Reload { claim, .. }) = questions.blocking_recv() else { panic!() };
        assert!(!claim.take());
    }

    #[test]
    fn settings_that_are_being_taken_are_waited_for() {
        let (handle, mut questions) = handle();
        let busy = std::thread::spawn(move || {
            let Some(Request::Reload { claim, answer, .. }) = questions.blocking_recv() else { panic!() };
            assert!(claim.take());
            std::thread::sleep(3 * SHORT);
            answer.send(Ok(())).unwrap();
        });
        assert!(handle.reload_within(Settings::default(), SHORT).is_ok());
        busy.join().unwrap();
    }
}
