//! Double-entry account of every sample given to an Agent.

use std::ops::{Add, AddAssign, SubAssign};

use crate::account::LossReason;

/// A number of samples, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleTally {
    /// Flow samples.
    pub flow_samples: u64,
    /// Counter samples.
    pub counter_samples: u64,
}

impl SampleTally {
    /// None.
    pub const ZERO: Self = Self { flow_samples: 0, counter_samples: 0 };
    pub(super) const FLOW: Self = Self { flow_samples: 1, counter_samples: 0 };
    pub(super) const COUNTER: Self = Self { flow_samples: 0, counter_samples: 1 };
}

impl Add for SampleTally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flow_samples: self.flow_samples + other.flow_samples,
            counter_samples: self.counter_samples + other.counter_samples,
        }
    }
}

impl AddAssign for SampleTally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for SampleTally {
    fn sub_assign(&mut self, other: Self) {
        self.flow_samples -= other.flow_samples;
        self.counter_samples -= other.counter_samples;
    }
}

/// Where every sample is now that an Agent has accepted.
///
/// At any time `accepted == pending + in_flight + delivered + total_lost()`; `delivered` and `lost` only grow. As
/// in [`ExportAccount`](crate::ExportAccount), *delivered* means sent, with no error reported by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleAccount {
    /// Given to the Agent.
    pub accepted: SampleTally,
    /// In the datagram that is not sent yet.
    pub pending: SampleTally,
    /// In datagrams about which an error could still be reported.
    pub in_flight: SampleTally,
    /// Sent without a report of failure.
    pub delivered: SampleTally,
    /// Not delivered, by [`LossReason`].
    pub lost: [SampleTally; LossReason::COUNT],
}

impl SampleAccount {
    /// Samples lost for `reason`.
    #[must_use]
    pub const fn lost(&self, reason: LossReason) -> SampleTally {
        self.lost[reason as usize]
    }

    /// Samples lost for any reason.
    #[must_use]
    pub fn total_lost(&self) -> SampleTally {
        self.lost.iter().fold(SampleTally::ZERO, |sum, tally| sum + *tally)
    }

    /// Whether every accepted sample is accounted for exactly once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.pending + self.in_flight + self.delivered + self.total_lost()
    }

    /// Both accounts together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.accepted += other.accepted;
        self.pending += other.pending;
        self.in_flight += other.in_flight;
        self.delivered += other.delivered;
        for (sum, tally) in self.lost.iter_mut().zip(other.lost) {
            *sum += tally;
        }
        self
    }

    pub(super) fn accept(&mut self, tally: SampleTally) {
        self.accepted += tally;
        self.pending += tally;
    }

    pub(super) fn send(&mut self, tally: SampleTally) {
        self.pending -= tally;
        self.in_flight += tally;
    }

    pub(super) fn settle_delivered(&mut self) {
        self.delivered += std::mem::take(&mut self.in_flight);
    }

    pub(super) fn lose_in_flight(&mut self, reason: LossReason) {
        self.lost[reason as usize] += std::mem::take(&mut self.in_flight);
    }

    pub(super) fn lose_pending(&mut self, tally: SampleTally, reason: LossReason) {
        self.pending -= tally;
        self.lost[reason as usize] += tally;
    }
}
