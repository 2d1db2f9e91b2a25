//! What becomes known of a session: its status, its last error, its lines in the log.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::{Negotiated, Session};
use crate::speaker::LastError;
use crate::wire::Notification;

impl Session {
    pub(super) fn note_up(&self, (local, remote): (SocketAddr, SocketAddr), agreed: &Negotiated) {
        self.shared.session_as.store(agreed.local_as, Ordering::Relaxed);
        let mut status = self.peer.status.borrow_mut();
        status.counters.sessions += 1;
        status.local = Some(local);
        status.remote = Some(remote);
        status.negotiated = Some(agreed.clone());
        let families: Vec<String> = agreed.families.iter().map(|family| family.to_string()).collect();
        let name = &self.peer.name;
        tracing::info!(
            peer = %name,
            "session up: AS {}, we are AS {}, hold time {} s, {}",
            agreed.remote_as,
            agreed.local_as,
            agreed.hold_time,
            families.join(", "),
        );
    }

    /// A NOTIFICATION that the machine sends, unless its cause was noted already.
    pub(super) fn note_sent(&mut self, notification: &Notification) {
        let noted = self.peer.status.borrow().last_error.as_ref().is_some_and(|error| {
            error.notification.as_ref() == Some(notification)
                && !error.received
                && error.at.elapsed().is_ok_and(|age| age < Duration::from_millis(100))
        });
        if !noted {
            self.failed(Some(notification.clone()), false, format!("we said: {notification}"));
        }
    }

    /// Notes why a session or a try ended, and logs it unless it is the same as before.
    pub(super) fn failed(&mut self, notification: Option<Notification>, received: bool, text: String) {
        if let Some(left_out) = self.log_limit.admit(&text, self.shared.now()) {
            tracing::warn!(peer = %self.peer.name, "{text}{left_out}");
        }
        let error = LastError { at: SystemTime::now(), notification, received, text };
        self.peer.status.borrow_mut().last_error = Some(error);
    }
}
