//! The message log: what peers say, as it comes, for those who subscribe.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::SystemTime;

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

/// Subscribers and what they missed.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    senders: Vec<SyncSender<LogEvent>>,
    pub(crate) dropped: u64,
}

impl Subscribers {
    pub(crate) fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// A new subscriber, for whom `capacity` events are kept.
    pub(crate) fn subscribe(&mut self, capacity: usize) -> Receiver<LogEvent> {
        let (sender, receiver) = mpsc::sync_channel(capacity.max(1));
        self.senders.push(sender);
        receiver
    }

    /// Never waits: an event that a subscriber has no room for is counted and gone.
    pub(crate) fn publish(&mut self, event: &LogEvent) {
        let dropped = &mut self.dropped;
        self.senders.retain(|sender| match sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                *dropped += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_loses_events_and_they_are_counted() {
        let mut subscribers = Subscribers::default();
        let slow = subscribers.subscribe(2);
        let gone = subscribers.subscribe(2);
        drop(gone);
        let event = LogEvent {
            at: SystemTime::UNIX_EPOCH,
            peer: PeerId(1),
            name: Arc::from("peer"),
            address: "192.0.2.1".parse().unwrap(),
            remote: None,
            add_path: FamilySet::EMPTY,
            kind: LogKind::SessionUp,
        };
        (0..5).for_each(|_| subscribers.publish(&event));
        assert_eq!((slow.try_iter().count(), subscribers.dropped), (2, 3));
        drop(slow);
        subscribers.publish(&event);
        assert!(subscribers.is_empty());
    }
}
