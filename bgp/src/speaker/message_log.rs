//! The message log: what peers say, as it comes, for those who subscribe.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::{Duration, SystemTime};

use crate::rib::PeerId;
use crate::wire::{FamilySet, Notification};
use crate::{Attributes, Family, Nlri};

/// Something that a peer said, or that happened to its session.
#[derive(Clone, Debug)]
pub struct LogEvent {
    /// When.
    pub at: SystemTime,
    /// The peer's number in the RIB.
    pub peer: PeerId,
    /// Its name.
    pub name: Arc<str>,
    /// Its address.
    pub address: IpAddr,
    /// Its end of the connection, while the session is up.
    pub remote: Option<SocketAddr>,
    /// Families in which its routes have Path Identifiers (RFC 7911).
    pub add_path: FamilySet,
    /// What.
    pub kind: LogKind,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum LogKind {
    /// The session is up.
    SessionUp,
    /// The session is down.
    SessionDown,
    /// Routes withdrawn, also those whose announcement is malformed (RFC 7606).
    Withdrawn(Vec<Withdrawal>),
    /// Routes announced, with one set of attributes.
    Announced {
        /// The routes.
        routes: Vec<(Family, Nlri)>,
        /// What the peer says about them.
        attributes: Arc<Attributes>,
    },
    /// The first table of a family is complete (RFC 4724, section 2).
    EndOfRib(Family),
    /// A NOTIFICATION came.
    NotificationReceived(Notification),
    /// A NOTIFICATION was sent.
    NotificationSent(Notification),
}

/// A route that the peer takes back.
#[derive(Clone, Debug)]
pub struct Withdrawal {
    /// Of which family.
    pub family: Family,
    /// Which.
    pub nlri: Nlri,
    /// What the peer had said about it; `None` if it had said nothing.
    pub attributes: Option<Arc<Attributes>>,
}

impl LogEvent {
    /// Octets of memory that it takes, about. Withdrawals that follow one another share their attributes if they can.
    fn size(&self) -> usize {
        let kind = match &self.kind {
            LogKind::Withdrawn(withdrawn) => {
                let mut last = None;
                let attributes = withdrawn.iter().filter_map(|one| one.attributes.as_ref());
                let distinct = attributes.filter(|attributes| {
                    last.replace(Arc::as_ptr(attributes)) != Some(Arc::as_ptr(attributes))
                });
                size_of_val(withdrawn.as_slice())
                    + distinct.map(|attributes| attributes.size()).sum::<usize>()
            }
            LogKind::Announced { routes, attributes } => size_of_val(routes.as_slice()) + attributes.size(),
            LogKind::NotificationReceived(notification) | LogKind::NotificationSent(notification) => {
                notification.data.len()
            }
            LogKind::SessionUp | LogKind::SessionDown | LogKind::EndOfRib(_) => 0,
        };
        size_of::<Self>() + kind
    }
}

/// What is kept for a subscriber that is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCapacity {
    /// Events.
    pub events: usize,
    /// Octets of memory that they take, about. An event that is larger finds room if no other one waits.
    pub octets: usize,
}

/// Events as they come, for one subscriber.
#[derive(Debug)]
pub struct LogEvents {
    receiver: Receiver<LogEvent>,
    held: Arc<AtomicUsize>,
}

impl LogEvents {
    /// The next event, waited for no longer than `timeout`.
    ///
    /// # Errors
    /// If none came, or none will come any more.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<LogEvent, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout).map(|event| self.taken(event))
    }

    /// Events that are there.
    pub fn try_iter(&self) -> impl Iterator<Item = LogEvent> {
        self.receiver.try_iter().map(|event| self.taken(event))
    }

    fn taken(&self, event: LogEvent) -> LogEvent {
        self.held.fetch_sub(event.size(), Ordering::Relaxed);
        event
    }
}

#[derive(Debug)]
struct Subscriber {
    sender: SyncSender<LogEvent>,
    /// Octets of the events that wait.
    held: Arc<AtomicUsize>,
    limit: usize,
}

impl Subscriber {
    fn send(&self, event: &LogEvent, size: usize) -> Result<(), TrySendError<()>> {
        // Nobody else adds to it.
        let held = self.held.fetch_add(size, Ordering::Relaxed);
        let result = if held > 0 && held + size > self.limit {
            Err(TrySendError::Full(()))
        } else {
            self.sender.try_send(event.clone()).map_err(|error| match error {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            })
        };
        if result.is_err() {
            self.held.fetch_sub(size, Ordering::Relaxed);
        }
        result
    }
}

/// Subscribers and what they missed.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    subscribers: Vec<Subscriber>,
    pub(crate) dropped: u64,
}

impl Subscribers {
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// A new subscriber, for whom so much is kept.
    pub(crate) fn subscribe(&mut self, capacity: LogCapacity) -> LogEvents {
        let (sender, receiver) = mpsc::sync_channel(capacity.events.max(1));
        let held = Arc::new(AtomicUsize::new(0));
        self.subscribers.push(Subscriber { sender, held: Arc::clone(&held), limit: capacity.octets });
        LogEvents { receiver, held }
    }

    /// Never waits: an event that a subscriber has no room for is counted and gone.
    pub(crate) fn publish(&mut self, event: &LogEvent) {
        let (dropped, size) = (&mut self.dropped, event.size());
        self.subscribers.retain(|subscriber| match subscriber.send(event, size) {
            Ok(()) => true,
            Err(TrySendError::Full(())) => {
                *dropped += 1;
                true
            }
            Err(TrySendError::Disconnected(())) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: LogKind) -> LogEvent {
        LogEvent {
            at: SystemTime::UNIX_EPOCH,
            peer: PeerId(1),
            name: Arc::from("peer"),
            address: "192.0.2.1".parse().unwrap(),
            remote: None,
            add_path: FamilySet::EMPTY,
            kind,
        }
    }

    #[test]
    fn a_slow_subscriber_loses_events_and_they_are_counted() {
        let mut subscribers = Subscribers::default();
        let capacity = LogCapacity { events: 2, octets: 1 << 20 };
        let slow = subscribers.subscribe(capacity);
        let gone = subscribers.subscribe(capacity);
        drop(gone);
        let event = event(LogKind::SessionUp);
        (0..5).for_each(|_| subscribers.publish(&event));
        assert_eq!((slow.try_iter().count(), subscribers.dropped), (2, 3));
        drop(slow);
        subscribers.publish(&event);
        assert!(subscribers.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_by_its_size_as_well() {
        let mut subscribers = Subscribers::default();
        let slow = subscribers.subscribe(LogCapacity { events: 1000, octets: 100_000 });
        let attributes =
            Arc::new(Attributes { communities: vec![7; 10_000].into(), ..Attributes::default() });
        let withdrawal = |attributes: &Arc<Attributes>| Withdrawal {
            family: Family::IPV4_UNICAST,
            nlri: Nlri {
                route_distinguisher: None,
                prefix: "192.0.2.0/24".parse().unwrap(),
                path_id: 0,
                label: None,
            },
            attributes: Some(Arc::clone(attributes)),
        };
        // 40,000 octets, whoever shares them.
        let shared = event(LogKind::Withdrawn((0..5).map(|_| withdrawal(&attributes)).collect()));
        (0..9).for_each(|_| subscribers.publish(&shared));
        assert_eq!((slow.try_iter().count(), subscribers.dropped), (2, 7));
        // 200,000 octets find room if nothing else waits, and leave none.
        let own = || Arc::new(Attributes::clone(&attributes));
        let large = event(LogKind::Withdrawn((0..5).map(|_| withdrawal(&own())).collect()));
        for one in [&large, &large, &shared] {
            subscribers.publish(one);
        }
        assert_eq!((slow.try_iter().count(), subscribers.dropped), (1, 9));
        subscribers.publish(&shared);
        assert_eq!(slow.try_iter().count(), 1);
    }
}
