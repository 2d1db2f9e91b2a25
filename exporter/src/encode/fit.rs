//! What of a Flow Record a format can carry.

use crate::account::LimitReason;
use crate::record::FlowRecord;

/// How a Flow Record goes into a format: whole, or altered, or in several parts. Made by
/// [`Encoder::fit`](super::Encoder::fit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// A bit for each [`LimitReason`].
    limits: u8,
    parts: u32,
    /// First and last packet, in milliseconds since the Unix epoch, if they have to differ from the record's.
    times: Option<[u64; 2]>,
    leaves_out: bool,
}

impl Fit {
    /// The format carries all that it has fields for.
    pub(super) const WHOLE: Self = Self { limits: 0, parts: 1, times: None, leaves_out: false };

    /// In how many records the format carries it.
    #[must_use]
    pub const fn parts(self) -> u32 {
        self.parts
    }

    /// Why what is sent differs from the record.
    pub fn limits(self) -> impl Iterator<Item = LimitReason> {
        LimitReason::ALL.into_iter().filter(move |reason| self.limits & bit(*reason) != 0)
    }

    /// Whether [`limits`](Self::limits) has any.
    #[must_use]
    pub const fn is_limited(self) -> bool {
        self.limits != 0
    }

    /// Part `index` of `record`, for [`Encoder::push`](super::Encoder::push). The counters of all parts add up to
    /// those of `record`.
    #[must_use]
    #[inline]
    pub fn part(self, record: &FlowRecord, index: u32) -> FlowRecord {
        let mut part = record.clone();
        if let Some([start, end]) = self.times {
            part.flow_start_milliseconds = start;
            part.flow_end_milliseconds = end;
        }
        if self.leaves_out {
            (part.source_route, part.destination_route, part.label) = (None, None, None);
            part.has_route = false;
        }
        if self.parts > 1 {
            part.packet_delta_count = self.share(record.packet_delta_count, index);
            part.octet_delta_count = self.share(record.octet_delta_count, index);
        }
        part
    }

    pub(super) const fn limit(&mut self, reason: LimitReason) {
        self.limits |= bit(reason);
    }

    pub(super) const fn split(&mut self, parts: u32) {
        self.parts = parts;
        self.limit(LimitReason::CountersOver32Bits);
    }

    pub(super) const fn leave_out(&mut self) {
        self.leaves_out = true;
        self.limit(LimitReason::FieldsOverMessageSize);
    }

    pub(super) const fn set_times(&mut self, times: [u64; 2]) {
        self.times = Some(times);
        self.limit(LimitReason::FlowTimeOutOfRange);
    }

    /// Shares differ by one at most.
    fn share(self, count: u64, index: u32) -> u64 {
        let parts = u128::from(self.parts.max(1));
        let up_to = |index: u128| u128::from(count) * index / parts;
        let index = u128::from(index);
        (up_to(index + 1) - up_to(index)) as u64
    }
}

const fn bit(reason: LimitReason) -> u8 {
    1 << reason as u8
}
