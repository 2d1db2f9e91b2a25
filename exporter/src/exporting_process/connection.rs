//! The Exporting Process on a transport with connections: TCP and TLS.
//!
//! Each connection is a Transport Session of its own: the Collecting Process forgets all templates at its end (RFC 7011,
//! section 8.1), and Sequence Numbers count within a connection (section 3.1), so both begin anew.

use std::collections::VecDeque;

use super::{Encoder, ExportEvent, ExportTime, ExportingProcess};
use crate::account::{LossReason, SendErrorKind};
use crate::record::{FlowRecord, Tally};
use crate::template_schedule::TemplateSchedule;
use crate::transport::Transport;
use crate::transport::session::SessionEvent;

/// Messages in flight after which the system is asked what has been acknowledged, without waiting for the next tick.
const MANY: usize = 256;

/// What was sent and is not known to have arrived: for each message, the octets of the session up to its end, and its
/// records. As many as the system has buffers for.
#[derive(Debug, Default)]
pub(super) struct InFlight(VecDeque<(u64, Tally)>);

impl InFlight {
    pub(super) fn push(&mut self, end: u64, tally: Tally) {
        if tally != Tally::ZERO {
            self.0.push_back((end, tally));
        }
    }

    /// Takes what has arrived when `octets` of the session are acknowledged.
    fn take_arrived(&mut self, octets: u64) -> Tally {
        let mut arrived = Tally::ZERO;
        while let Some((_, tally)) = self.0.pop_front_if(|(end, _)| *end <= octets) {
            arrived += tally;
        }
        arrived
    }
}

impl ExportingProcess {
    /// Whether messages can be sent. If not, there is no connection, or it takes no more for now: then records are
    /// better kept elsewhere until [`poll`](Self::poll) has brought about a change. Always true without connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.transport.is_ready()
    }

    /// Whether the transport has connections, so that it is known what has arrived.
    #[must_use]
    pub const fn has_sessions(&self) -> bool {
        matches!(self.transport, Transport::Session(_))
    }

    /// To be called again and again while [`is_ready`](Self::is_ready) is false: connects, sends what waits. Waits up to
    /// 50 ms for the network if there is something to wait for; when a connection ends, up to two seconds.
    pub fn poll(&mut self, now: ExportTime) {
        self.follow_session(now);
        if self.rest_of_preamble.is_some() {
            self.send_preamble(now);
        }
        self.flush(now);
    }

    /// Connects at the next [`poll`](Self::poll), and after the next failures soon, however long it has failed.
    pub fn retry(&mut self) {
        if let Some(session) = self.transport.session() {
            session.retry();
        }
    }

    /// Whether everything is delivered or lost.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.account.pending + self.account.in_flight == Tally::ZERO
    }

    /// Accepts `records` and counts them as lost, because there is no connection and no more time to wait for one.
    pub fn give_up(&mut self, records: &[FlowRecord]) {
        let tally = Tally::of(records);
        self.account.accept(tally);
        self.account.lose_pending(tally, LossReason::NotConnected);
    }

    /// Takes back the records that are in no message that was sent, as if they had not been accepted: another collector
    /// is to get them, while there is no connection to this one. Nothing without connections.
    pub fn take_pending(&mut self) -> Vec<FlowRecord> {
        if !self.has_sessions() || self.is_ready() {
            return Vec::new();
        }
        let pending = self.account.pending;
        self.account.accepted -= pending;
        self.account.pending -= pending;
        self.is_open = false;
        self.unsent.drain(..).map(|unsent| unsent.record).collect()
    }

    /// Has the session do what it can, and takes notice of what has happened to it.
    pub(super) fn follow_session(&mut self, now: ExportTime) {
        let Some(session) = self.transport.session() else { return };
        // An event that nobody has heard yet comes first.
        let mut event = session.take_event();
        if event.is_none() {
            session.advance(now.monotonic);
            event = session.take_event();
        }
        let acknowledged = session.acknowledged();
        match event {
            Some(SessionEvent::Began) => self.begin_session(now),
            Some(SessionEvent::Failed(error)) => {
                self.count_error(SendErrorKind::ConnectFailed);
                let text = error.to_string();
                if self.connect_failure.as_ref() != Some(&text) {
                    self.connect_failure = Some(text);
                    self.keep_event(ExportEvent::ConnectFailed { error });
                }
            }
            Some(SessionEvent::Lost { reason, acknowledged, error }) => {
                self.count_error(SendErrorKind::ConnectionLost);
                let unacknowledged = self.end_session(reason, acknowledged);
                self.keep_event(ExportEvent::ConnectionLost { error, unacknowledged });
            }
            None => self.account.deliver(self.in_flight.take_arrived(acknowledged)),
        }
    }

    /// Asks what has arrived, if that may be much.
    pub(super) fn follow_many(&mut self) {
        if self.in_flight.0.len().is_multiple_of(MANY)
            && let Some(session) = self.transport.session()
        {
            let acknowledged = session.acknowledged();
            self.account.deliver(self.in_flight.take_arrived(acknowledged));
        }
    }

    /// The collector knows nothing: templates and options data go before any record.
    fn begin_session(&mut self, now: ExportTime) {
        self.forget_messages();
        self.encoder = Encoder::with_groups(self.format, self.observation_domain_id, self.field_groups);
        self.schedule = TemplateSchedule::once();
        self.connect_failure = None;
        if self.unsent.is_empty()
            && let Some(context) = self.next_context.take()
        {
            self.context = context;
        }
        self.keep_event(ExportEvent::Connected);
        self.send_preamble(now);
    }

    /// What is not acknowledged is lost; returns how much that is.
    fn end_session(&mut self, reason: LossReason, acknowledged: u64) -> Tally {
        self.account.deliver(self.in_flight.take_arrived(acknowledged));
        self.in_flight.0.clear();
        let unacknowledged = self.account.in_flight;
        self.account.lose_in_flight(reason);
        self.forget_messages();
        unacknowledged
    }

    /// The message that has begun is not sent; its records are.
    fn forget_messages(&mut self) {
        self.is_open = false;
        self.rest_of_preamble = None;
        self.only_preamble_fits = false;
    }

    /// Ends the session in order. What could not be sent, or is not acknowledged, is lost.
    pub(super) fn close_session(&mut self) {
        let Some(session) = self.transport.session() else { return };
        let acknowledged = session.close();
        self.end_session(LossReason::ConnectionLost, acknowledged);
        let unsent = self.account.pending;
        self.unsent.clear();
        self.account.lose_pending(unsent, LossReason::NotConnected);
    }
}
