//! From Flow Records to what the format can carry of them.

use super::{ExportEvent, ExportingProcess};
use crate::account::LossReason;
use crate::encode::Fit;
use crate::record::{FlowRecord, Tally};
use crate::time::ExportTime;

/// A record as it goes into a message.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) record: FlowRecord,
    /// A later part of a Flow Record: its packets and octets count, but the record was counted with its first part.
    is_continuation: bool,
}

impl Unsent {
    pub(super) fn tally(&self) -> Tally {
        Tally { records: u64::from(!self.is_continuation), ..Tally::from(&self.record) }
    }

    pub(super) fn tally_of(records: &[Self]) -> Tally {
        records.iter().fold(Tally::ZERO, |sum, record| sum + record.tally())
    }
}

impl ExportingProcess {
    /// Puts an accepted record into messages, as far as the format can carry it, and sends those that are full.
    pub(super) fn admit(&mut self, now: ExportTime, record: &FlowRecord) {
        let mut fit = match self.encoder.fit(record, now) {
            Ok(fit) => fit,
            Err(reason) => return self.cannot_carry(record, reason),
        };
        self.encoder.fit_length(&mut fit, record, self.budget);
        if fit.is_limited() {
            self.count_limits(fit);
        }
        for index in 0..fit.parts() {
            self.unsent.push(Unsent { record: fit.part(record, index), is_continuation: index > 0 });
            // Without a connection it waits.
            while self.is_ready() && !self.encode_unsent(now) {
                self.send_message(now);
            }
        }
    }

    fn cannot_carry(&mut self, record: &FlowRecord, reason: LossReason) {
        if self.account.lost(reason).records == 0 {
            self.keep_event(ExportEvent::CannotCarry { reason });
        }
        self.account.lose_pending(Tally::from(record), reason);
    }

    fn count_limits(&mut self, fit: Fit) {
        for reason in fit.limits() {
            if self.counts.limited(reason) == 0 {
                self.keep_event(ExportEvent::Limited { reason });
            }
            self.counts.limited[reason as usize] += 1;
        }
    }
}
