//! Follows the interfaces of this network namespace.
//!
//! The kernel tells of every change by rtnetlink. What it tells is put into a table; when something has
//! changed, the whole table goes to whoever acts on it, who therefore cannot miss anything by being slow: of
//! several snapshots that wait only the last remains. If the kernel had to drop messages, it says so, and the
//! table is made anew. So it is every minute, for the kernel keeps silent on some changes, such as the
//! description of an interface that is down.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use netlink_packet_core::NetlinkPayload;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tracing::{error, warn};

use super::inventory::Interface;
use super::rtnetlink::{LinkEvent, LinkQuery, messages, receive};

/// How long changes are gathered. Most come in groups: an interface is made, renamed and set up.
const GATHER: Duration = Duration::from_millis(50);
/// How long to wait before the kernel is asked again that did not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How often all interfaces are listed although nothing was told.
const REFRESH: Duration = Duration::from_mins(1);
/// Receive buffer, in octets: some hundred messages. The kernel may grant less (`net.core.rmem_max`).
const BUFFER: u32 = 1 << 20;

/// The interfaces at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By index.
    pub interfaces: Vec<Interface>,
    /// Indexes of interfaces that went since the snapshot received before. If there is one with such an index
    /// now, it is another interface.
    pub gone: BTreeSet<u32>,
}

/// A thread that follows the interfaces; it ends with this handle.
#[derive(Debug)]
pub struct Monitor {
    snapshots: Receiver<Snapshot>,
    overruns: Arc<AtomicU64>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts in the network namespace of the calling thread. The first snapshot is there at once.
    ///
    /// # Errors
    /// If the kernel cannot be asked, or the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::with_buffer(BUFFER)
    }

    /// As [`start`](Self::start), with room for `octets` of messages that were not read yet.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_buffer(octets: u32) -> io::Result<Self> {
        let mut follower = Follower::new(octets)?;
        let (sender, snapshots) = bounded(1);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let overruns = Arc::clone(&follower.overruns);
        let outbox = Outbox { sender, waiting: snapshots.clone() };
        outbox.put(follower.table.take());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("interfaces".to_owned())
            .spawn(move || follower.run(&outbox, &stopped))?;
        Ok(Self { snapshots, overruns, stop, thread: Some(thread) })
    }

    /// Where snapshots come out: the first at once, then one after every change.
    #[must_use]
    pub fn snapshots(&self) -> &Receiver<Snapshot> {
        &self.snapshots
    }

    /// How often the kernel had to drop messages, so that the interfaces were listed anew.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // An eventfd takes eight octets, and takes them at once.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where the last snapshot waits.
#[derive(Debug)]
struct Outbox {
    sender: Sender<Snapshot>,
    waiting: Receiver<Snapshot>,
}

impl Outbox {
    /// Puts a snapshot in, in place of one that nobody has taken.
    fn put(&self, mut snapshot: Snapshot) {
        loop {
            match self.sender.try_send(snapshot) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(unsent)) => snapshot = unsent,
            }
            if let Ok(old) = self.waiting.try_recv() {
                snapshot.gone.extend(old.gone);
            }
        }
    }
}

/// What is known of the interfaces.
#[derive(Debug, Default)]
struct LinkTable {
    links: BTreeMap<u32, Interface>,
    gone: BTreeSet<u32>,
    has_changed: bool,
}

impl LinkTable {
    fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Present(link) => {
                if self.links.get(&link.index) != Some(&link) {
                    self.has_changed = true;
                    self.links.insert(link.index, link);
                }
            }
            LinkEvent::Gone(index) => {
                if self.links.remove(&index).is_some() {
                    self.has_changed = true;
                    self.gone.insert(index);
                }
            }
            LinkEvent::Other => {}
        }
    }

    /// Replaces everything by a list of the kernel's.
    fn replace(&mut self, links: Vec<Interface>) {
        let links: BTreeMap<u32, Interface> = links.into_iter().map(|link| (link.index, link)).collect();
        self.gone.extend(self.links.keys().filter(|index| !links.contains_key(index)));
        self.has_changed |= links != self.links;
        self.links = links;
    }

    /// The present state, with what went since this was last asked for.
    fn take(&mut self) -> Snapshot {
        self.has_changed = false;
        Snapshot { interfaces: self.links.values().cloned().collect(), gone: std::mem::take(&mut self.gone) }
    }
}

/// The work of the thread.
#[derive(Debug)]
struct Follower {
    events: Socket,
    query: LinkQuery,
    table: LinkTable,
    /// The table may not be what the kernel has.
    is_stale: bool,
    overruns: Arc<AtomicU64>,
}

impl Follower {
    fn new(buffer: u32) -> io::Result<Self> {
        let mut events = Socket::new(NETLINK_ROUTE)?;
        events.set_rx_buf_sz(buffer)?;
        events.set_non_blocking(true)?;
        events.bind(&SocketAddr::new(0, 0))?;
        events.add_membership(libc::RTNLGRP_LINK)?;
        let (query, table) = (LinkQuery::new()?, LinkTable::default());
        let mut follower = Self { events, query, table, is_stale: true, overruns: Arc::default() };
        // Asked only now: what changes from here on is told.
        follower.list()?;
        Ok(follower)
    }

    /// Follows until `stop` can be read.
    fn run(mut self, outbox: &Outbox, stop: &OwnedFd) {
        let mut due: Option<Instant> = None;
        let mut refresh = Instant::now() + REFRESH;
        loop {
            let wake = match due {
                Some(due) => due,
                None if self.is_stale => Instant::now() + RETRY,
                None => refresh,
            };
            match self.wait(stop, wake.saturating_duration_since(Instant::now())) {
                Ok(true) => return,
                Ok(false) => {}
                Err(reason) => {
                    error!("interfaces that come, go or change are no longer noticed: {reason}");
                    return;
                }
            }
            if refresh <= Instant::now() {
                refresh = Instant::now() + REFRESH;
                self.is_stale = true;
            }
            if let Err(reason) = self.read() {
                warn!("the interfaces cannot be listed, trying again: {reason}");
            }
            if self.table.has_changed {
                due.get_or_insert_with(|| Instant::now() + GATHER);
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                due = None;
                outbox.put(self.table.take());
            }
        }
    }

    /// Waits for events; whether it is time to end.
    fn wait(&self, stop: &OwnedFd, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        let mut sources =
            [PollFd::from_borrowed_fd(self.events.as_fd(), PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut sources, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(!sources[1].revents().is_empty())
    }

    /// Reads the events that wait, and lists everything anew if some were lost.
    fn read(&mut self) -> io::Result<()> {
        loop {
            let datagram = match receive(&self.events) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // ENOBUFS says that events were lost, and is said once; after anything else, too, a list
                    // is right whatever has happened.
                    if error.raw_os_error() == Some(libc::ENOBUFS) {
                        self.overruns.fetch_add(1, Ordering::Relaxed);
                        self.is_stale = true;
                        continue;
                    }
                    self.is_stale = true;
                    break;
                }
            };
            for message in messages(&datagram) {
                match message.map(|message| message.payload) {
                    Ok(NetlinkPayload::InnerMessage(event)) => self.table.apply(event),
                    Ok(NetlinkPayload::Overrun(_)) | Err(_) => self.is_stale = true,
                    Ok(_) => {}
                }
            }
        }
        if self.is_stale { self.list() } else { Ok(()) }
    }

    fn list(&mut self) -> io::Result<()> {
        let links = self.query.all()?;
        self.table.replace(links);
        self.is_stale = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Interface {
        Interface { index, name: name.to_owned(), ..Interface::default() }
    }

    fn indexes(snapshot: &Snapshot) -> (Vec<u32>, Vec<u32>) {
        (snapshot.interfaces.iter().map(|link| link.index).collect(), snapshot.gone.iter().copied().collect())
    }

    #[test]
    fn an_interface_that_went_and_came_back_is_told_as_gone() {
        let mut table = LinkTable::default();
        table.replace(vec![link(1, "lo"), link(2, "eth0")]);
        assert_eq!(indexes(&table.take()), (vec![1, 2], vec![]));
        assert!(!table.has_changed);
        for event in [LinkEvent::Gone(2), LinkEvent::Present(link(2, "eth0")), LinkEvent::Gone(7)] {
            table.apply(event);
        }
        assert!(table.has_changed);
        assert_eq!(indexes(&table.take()), (vec![1, 2], vec![2]));
        table.apply(LinkEvent::Present(link(2, "eth0")));
        table.apply(LinkEvent::Other);
        assert!(!table.has_changed);
        table.replace(vec![link(1, "lo"), link(3, "eth0")]);
        assert!(table.has_changed);
        assert_eq!(indexes(&table.take()), (vec![1, 3], vec![2]));
    }

    #[test]
    fn a_snapshot_that_nobody_took_gives_way_and_leaves_what_went() {
        let (sender, waiting) = bounded(1);
        let outbox = Outbox { sender, waiting: waiting.clone() };
        for (index, gone) in [(2, 9), (3, 2), (4, 3)] {
            outbox.put(Snapshot { interfaces: vec![link(index, "eth0")], gone: BTreeSet::from([gone]) });
        }
        assert_eq!(indexes(&waiting.recv().unwrap()), (vec![4], vec![2, 3, 9]));
        assert!(waiting.try_recv().is_err());
    }

    #[test]
    fn the_first_snapshot_is_there_at_once_and_the_thread_ends() {
        let monitor = Monitor::start().unwrap();
        let snapshot = monitor.snapshots().try_recv().unwrap();
        assert!(snapshot.interfaces.iter().any(|link| link.name == "lo"));
        assert_eq!(monitor.overruns(), 0);
        let snapshots = monitor.snapshots().clone();
        drop(monitor);
        // Sender and table went with the thread.
        while snapshots.try_recv().is_ok() {}
        assert_eq!(snapshots.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected));
    }
}
