//! Messages that leave together, because for the system that is little more work than one.
//!
//! Only messages with nothing but Flow Records take part, all of one length but for the last, while nothing fails. The
//! system takes all of them or none. If none, their records are still there: the Sequence Number goes back, and they go
//! into messages that are sent one by one, the first of which is dealt with as if it had met the error.

use super::{ExportTime, ExportingProcess, Unsent};
use crate::account::LossReason;
use crate::record::Tally;
use crate::sequence::SequenceNumber;
use crate::transport::{SegmentsOutcome, SendOutcome};

/// The most that every kernel takes (`UDP_MAX_SEGMENTS`).
const MAX_MESSAGES: u64 = 64;

/// Finished messages, one after the other.
#[derive(Debug, Default)]
pub(super) struct Run {
    octets: Vec<u8>,
    /// Octets of each message but for the last.
    segment: u16,
    messages: u64,
    flow_records: usize,
    tally: Tally,
    /// Sequence Number of the first.
    first: Option<SequenceNumber>,
    /// Each message is sent alone for now, because a run was not sent.
    is_off: bool,
}

impl Run {
    /// How many of the records that are not sent are in it.
    pub(super) const fn records(&self) -> usize {
        self.flow_records
    }

    const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether a message of so many octets can leave with it, if no more than `size` octets can.
    fn has_room(&self, octets: usize, size: usize) -> bool {
        self.is_empty()
            || (octets <= self.segment.into()
                && self.octets.len() + octets <= size
                && self.messages < MAX_MESSAGES)
    }

    /// No message can be behind one that is shorter than others.
    fn is_complete(&self) -> bool {
        self.octets.len() as u64 != self.messages * u64::from(self.segment)
    }

    fn clear(&mut self) {
        self.octets.clear();
        *self = Self { octets: std::mem::take(&mut self.octets), is_off: self.is_off, ..Self::default() };
    }
}

impl ExportingProcess {
    /// Whether the message that has begun can leave together with others. What announces something cannot: it is known
    /// at once what becomes of it.
    pub(super) fn can_leave_with_others(&self) -> bool {
        self.transport.segments_size() > 0
            && self.run_outcome.is_none()
            && self.failure.is_none()
            && !self.is_refused
            && !self.run.is_off
            && self.preamble.is_none()
            && self.message.flow_records() > 0
            && self.message.template_records() + self.message.options_records() == 0
    }

    /// Finishes the message and puts it into the run, which leaves when it is full.
    pub(super) fn join_run(&mut self, now: ExportTime) {
        self.encoder.finish(&mut self.message, now);
        let octets = self.message.octets().len();
        if !self.run.has_room(octets, self.transport.segments_size()) && !self.send_run(now) {
            return;
        }
        let run = &mut self.run;
        if run.is_empty() {
            // Once.
            run.octets.reserve_exact(self.transport.segments_size());
            run.segment = octets as u16;
            run.first = Some(self.encoder.sequence());
        }
        run.octets.extend_from_slice(self.message.octets());
        run.messages += 1;
        let before = run.flow_records;
        run.flow_records += self.message.flow_records() as usize;
        // While they are at hand.
        let own = self.unsent.get(before..run.flow_records).unwrap_or_default();
        run.tally += Unsent::tally_of(own);
        self.encoder.commit(&self.message);
        self.schedule.sent(now.monotonic, self.preamble.what);
        if self.run.is_complete() {
            self.send_run(now);
        }
    }

    /// Sends the run. If that fails, its records are sent in messages of their own, and `false` is returned: the message
    /// that has begun is void.
    pub(super) fn send_run(&mut self, now: ExportTime) -> bool {
        let run = &mut self.run;
        let Some(first) = run.first else { return true };
        let records = run.flow_records.min(self.unsent.len());
        match self.transport.send_segments(&run.octets, run.segment) {
            SegmentsOutcome::As(SendOutcome::Sent) => {
                let tally = run.tally;
                self.unsent.drain(..records);
                self.counts.messages += run.messages;
                self.counts.octets += run.octets.len() as u64;
                self.records_sent += records as u64;
                run.clear();
                self.account.settle_delivered();
                self.account.send(tally);
                return true;
            }
            SegmentsOutcome::As(outcome) => self.run_outcome = Some(outcome),
            SegmentsOutcome::NotSupported => {}
        }
        run.clear();
        self.encoder.set_sequence(first);
        self.is_open = false;
        self.send_singly(now, records);
        false
    }

    /// Sends the first `records` of those that are not sent, and perhaps more, each message alone.
    fn send_singly(&mut self, now: ExportTime, records: usize) {
        let left = self.unsent.len() - records;
        self.run.is_off = true;
        while self.unsent.len() > left {
            self.encode_unsent(now);
            self.send_message(now);
        }
        self.run.is_off = false;
        // Nothing was small enough to be sent; then the error was about what had been sent before.
        if matches!(self.run_outcome.take(), Some(SendOutcome::Refused(_) | SendOutcome::Unreachable(_))) {
            self.account.lose_in_flight(LossReason::CollectorRefused);
        }
    }
}
