//! The ledger: where every packet and every record is, at every moment.
//!
//! Double entry. What happens to packets is written as a transfer from one account to another, so that the
//! accounts always add up to what was seen; nothing here is computed as the difference of other terms.
//! What a drain finds in the tables is compared with what the kernel program counted: the account
//! `in_kernel` is credited by the kernel's own counters and debited by what is found in the tables, and is
//! empty again when both agree.
//!
//! Transfers are made per batch, never per packet, under one lock; a reader takes a copy under the same
//! lock, and so every scrape sees identities that hold exactly:
//!
//! ```text
//! seen          = dropped by reason + in_kernel + in_transit + in_cache + in_records   (per observation point)
//! sum(in_records) = records made                                                       (packets and octets)
//! ```
//!
//! Sinks have accounts of every record (`sinks.rs`). Aggregates get the same packets beside the flows, and have accounts of their own.

mod aggregates;
mod sinks;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pathflow_common::DropReason;
use pathflow_common::layout::{Count, OBSERVATION_POINTS, PointCounters};
use pathflow_exporter::{FlowRecord, Tally};

use crate::capture::pin::{CrashLosses, PinnedAccounts, add_losses};

pub use aggregates::{AggregateAccounts, OutputAccount, OutputAccounts, ProgramCounts};
pub use sinks::SinkAccounts;

/// Packets and layer 3 octets; arithmetic is modulo 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Octets, as in [`Count`].
    pub octets: u64,
}

impl Amount {
    /// Adds.
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.octets = self.octets.wrapping_add(other.octets);
    }

    /// Subtracts.
    pub fn subtract(&mut self, other: Self) {
        self.packets = self.packets.wrapping_sub(other.packets);
        self.octets = self.octets.wrapping_sub(other.octets);
    }

    /// The product.
    #[must_use]
    pub const fn times(self, factor: u64) -> Self {
        Self { packets: self.packets.wrapping_mul(factor), octets: self.octets.wrapping_mul(factor) }
    }

    /// True if there is nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Count> for Amount {
    fn from(count: Count) -> Self {
        Self { packets: count.packets, octets: count.octets }
    }
}

/// Amounts by observation point; what a batch moves.
#[derive(Clone, Debug)]
pub struct PointAmounts(Vec<Amount>);

impl PointAmounts {
    /// Nothing anywhere.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![Amount::default(); OBSERVATION_POINTS as usize])
    }

    /// Adds to one point.
    pub fn add(&mut self, observation_point: u16, amount: Amount) {
        if let Some(sum) = self.0.get_mut(observation_point as usize) {
            sum.add(amount);
        }
    }

    /// Empties all points.
    pub fn clear(&mut self) {
        self.0.fill(Amount::default());
    }
}

impl Default for PointAmounts {
    fn default() -> Self {
        Self::new()
    }
}

/// Accounts of one observation point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointAccounts {
    /// Every packet the kernel program counted, in all epochs that have ended.
    pub seen: Amount,
    /// Not accounted to a flow, by [`DropReason`].
    pub dropped: [Amount; DropReason::COUNT],
    /// In an epoch that has ended and is being drained, or later fragments that wait for their first one.
    pub in_kernel: Amount,
    /// Drained, not yet in the cache.
    pub in_transit: Amount,
    /// In flows in progress.
    pub in_cache: Amount,
    /// In records.
    pub in_records: Amount,
    /// How much of this came by way of a spill log. Not an account: it is in the others as well.
    pub spilled: Amount,
    /// Packets of this that were later fragments; not an account either.
    pub later_fragments: u64,
    /// Packets of these that are in flows without ports, because their first fragment was not seen.
    pub fragments_without_ports: u64,
    /// Packets of this whose flows are not told apart by all of their extension, for lack of room or because a run before has
    /// counted them, which was not asked for it.
    pub without_extension: u64,
}

impl PointAccounts {
    /// Sum of every place a seen packet can be.
    #[must_use]
    pub fn accounted(&self) -> Amount {
        let mut sum = Amount::default();
        for amount in self.dropped {
            sum.add(amount);
        }
        for amount in [self.in_kernel, self.in_transit, self.in_cache, self.in_records] {
            sum.add(amount);
        }
        sum
    }

    /// Adds the accounts of another point.
    pub fn add(&mut self, other: &Self) {
        self.seen.add(other.seen);
        for (sum, amount) in self.dropped.iter_mut().zip(other.dropped) {
            sum.add(amount);
        }
        self.in_kernel.add(other.in_kernel);
        self.in_transit.add(other.in_transit);
        self.in_cache.add(other.in_cache);
        self.in_records.add(other.in_records);
        self.spilled.add(other.spilled);
        self.later_fragments += other.later_fragments;
        self.fragments_without_ports += other.fragments_without_ports;
        self.without_extension += other.without_extension;
    }
}

/// A copy of all accounts, taken at one moment.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By number of the observation point.
    pub points: Vec<PointAccounts>,
    /// Records made.
    pub records: Tally,
    /// Records made, by `flowEndReason` (1 to 5).
    pub records_by_reason: [u64; 6],
    /// Flows in the cache.
    pub flows: u64,
    /// Of sinks, in the order in which they were started.
    pub sinks: Vec<SinkAccounts>,
    /// Of those that have ended since, one for each format and destination.
    pub ended_sinks: Vec<SinkAccounts>,
    /// Of aggregates, in the order in which they were started.
    pub aggregates: Vec<AggregateAccounts>,
    /// Of those that have ended since, one for each name.
    pub ended_aggregates: Vec<AggregateAccounts>,
    /// What was lost with earlier, pinned runs that were killed. In no other account: they had it.
    pub crash_losses: CrashLosses,
}

impl Books {
    /// All points together.
    #[must_use]
    pub fn total(&self) -> PointAccounts {
        self.points.iter().fold(PointAccounts::default(), |mut sum, point| {
            sum.add(point);
            sum
        })
    }

    /// Whether nothing is on its way any more: every packet is in a record or dropped by name, and every
    /// record is delivered or lost by name.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let PointAccounts { in_kernel, in_transit, in_cache, .. } = self.total();
        let held = [in_kernel, in_transit, in_cache];
        held.iter().all(Amount::is_zero)
            && self.sinks.iter().chain(&self.ended_sinks).all(SinkAccounts::is_settled)
            && self.all_aggregates().all(AggregateAccounts::is_settled)
    }

    /// The first identity that does not hold, in words; `None` if all do.
    #[must_use]
    pub fn imbalance(&self) -> Option<String> {
        for (number, point) in self.points.iter().enumerate() {
            if point.seen != point.accounted() {
                return Some(format!(
                    "observation point {number}: seen {:?}, accounted {:?}",
                    point.seen,
                    point.accounted()
                ));
            }
        }
        let total = self.total();
        if (total.in_records.packets, total.in_records.octets) != (self.records.packets, self.records.octets)
        {
            return Some(format!("in records {:?}, records made {:?}", total.in_records, self.records));
        }
        self.sink_imbalance().or_else(|| self.all_aggregates().find_map(AggregateAccounts::imbalance))
    }

    fn all_aggregates(&self) -> impl Iterator<Item = &AggregateAccounts> {
        self.aggregates.iter().chain(&self.ended_aggregates)
    }
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger {
    books: Mutex<Books>,
    /// What a later run is to find if this one is killed.
    pinned: OnceLock<Mutex<PinnedAccounts>>,
}

impl Ledger {
    /// Empty accounts for `sinks`, numbered from 0, given by format and destination.
    #[must_use]
    pub fn new(sinks: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let sinks = sinks
            .into_iter()
            .enumerate()
            .map(|(number, (format, destination))| {
                SinkAccounts::new(number, format, destination, Tally::ZERO)
            })
            .collect();
        let books = Books {
            points: vec![PointAccounts::default(); OBSERVATION_POINTS as usize],
            sinks,
            ..Books::default()
        };
        Self { books: Mutex::new(books), pinned: OnceLock::new() }
    }

    /// Keeps what a later run needs to know in `accounts` from now on.
    pub fn pin(&self, accounts: PinnedAccounts) {
        // There is one start of a run.
        let _ = self.pinned.set(Mutex::new(accounts));
    }

    /// The tables of an earlier run now belong to this one, with `in_flows` in them; `losses` were lost with it
    /// and before.
    pub fn take_over(&self, run: u64, in_flows: Amount, losses: &CrashLosses) {
        self.with_pinned(|accounts| accounts.take_over(run, in_flows, losses));
        add_losses(&mut self.lock().crash_losses, losses);
    }

    /// A copy of all accounts at this moment.
    #[must_use]
    pub fn books(&self) -> Books {
        self.lock().clone()
    }

    /// Enters what was counted in user space, where no map of the kernel's keeps it.
    pub fn seen(&self, counters: &[(u16, PointCounters)]) {
        self.with_pinned(|accounts| {
            for (_, counted) in counters {
                let mut in_flows = Amount::from(counted.seen);
                counted.dropped.iter().for_each(|count| in_flows.subtract((*count).into()));
                accounts.entered(in_flows);
            }
        });
        self.seen_in_tables(counters);
    }

    /// An epoch has ended: enters what the kernel program counted on one CPU.
    pub fn seen_in_tables(&self, counters: &[(u16, PointCounters)]) {
        let mut books = self.lock();
        for (number, counted) in counters {
            let Some(point) = books.points.get_mut(*number as usize) else { continue };
            let seen = Amount::from(counted.seen);
            point.seen.add(seen);
            point.in_kernel.add(seen);
            point.spilled.add(counted.spilled.into());
            point.later_fragments += counted.later_fragments;
            point.without_extension += counted.without_extension;
            for (account, count) in point.dropped.iter_mut().zip(counted.dropped) {
                account.add(count.into());
                point.in_kernel.subtract(count.into());
            }
        }
    }

    /// Packets that are later fragments go on without ports.
    pub fn fragments_without_ports(&self, observation_point: u16, packets: u64) {
        if let Some(point) = self.lock().points.get_mut(observation_point as usize) {
            point.fragments_without_ports += packets;
        }
    }

    /// Whether no packet of an observation point is in a flow that still goes on, or on its way to one.
    #[must_use]
    pub fn has_no_flow(&self, observation_point: u16) -> bool {
        let books = self.lock();
        let point = books.points.get(usize::from(observation_point));
        point.is_none_or(|point| {
            [point.in_kernel, point.in_transit, point.in_cache].iter().all(|amount| amount.packets == 0)
        })
    }

    /// Packets, by observation point, go on without the extension of their flow.
    pub fn without_extension(&self, packets: impl IntoIterator<Item = (u16, u64)>) {
        let mut packets = packets.into_iter().peekable();
        if packets.peek().is_none() {
            return;
        }
        let mut books = self.lock();
        for (number, packets) in packets {
            if let Some(point) = books.points.get_mut(number as usize) {
                point.without_extension += packets;
            }
        }
    }

    /// A batch was taken from the tables and is on its way to the cache.
    pub fn drained(&self, amounts: &PointAmounts) {
        self.transfer(amounts, |point, amount| {
            point.in_kernel.subtract(amount);
            point.in_transit.add(amount);
        });
    }

    /// A batch that was in transit is in the cache.
    pub fn merged(&self, amounts: &PointAmounts) {
        self.transfer(amounts, |point, amount| {
            point.in_transit.subtract(amount);
            point.in_cache.add(amount);
        });
    }

    /// A shard's cache has changed by this many flows.
    pub fn flows_changed(&self, before: usize, after: usize) {
        let mut books = self.lock();
        books.flows = books.flows.wrapping_add(after as u64).wrapping_sub(before as u64);
    }

    fn transfer(&self, amounts: &PointAmounts, entry: impl Fn(&mut PointAccounts, Amount)) {
        let mut books = self.lock();
        for (point, amount) in books.points.iter_mut().zip(&amounts.0) {
            if !amount.is_zero() {
                entry(point, *amount);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // A panic ends the process (panic = "abort"), so a poisoned lock is never seen in a release build;
        // in tests the numbers are still what they were.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_pinned(&self, action: impl FnOnce(&mut PinnedAccounts)) {
        if let Some(pinned) = self.pinned.get() {
            action(&mut pinned.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// What a batch of records holds.
#[derive(Debug, Default)]
pub struct RecordsMade {
    /// By observation point.
    pub amounts: PointAmounts,
    /// In total, with their number.
    pub tally: Tally,
    /// Their number by `flowEndReason`.
    pub by_reason: [u64; 6],
}

impl RecordsMade {
    /// Adds one record.
    pub fn add(&mut self, observation_point: u16, record: &FlowRecord) {
        let amount = Amount { packets: record.packet_delta_count, octets: record.octet_delta_count };
        self.amounts.add(observation_point, amount);
        self.tally += Tally::from(record);
        self.by_reason[record.flow_end_reason as usize] += 1;
    }

    /// Empties it for the next batch.
    pub fn clear(&mut self) {
        self.amounts.clear();
        self.tally = Tally::ZERO;
        self.by_reason = [0; 6];
    }
}

#[cfg(test)]
mod tests {
    use pathflow_exporter::{ExportAccount, ExportCounts};

    use super::*;

    fn amounts(point: u16, packets: u64) -> PointAmounts {
        let mut amounts = PointAmounts::new();
        amounts.add(point, Amount { packets, octets: packets * 50 });
        amounts
    }

    fn counters(seen: u64, not_ip: u64) -> PointCounters {
        let count = |packets| Count { packets, octets: packets * 50 };
        let mut counters = PointCounters { seen: count(seen), ..PointCounters::default() };
        counters.dropped[DropReason::NotIp as usize] = count(not_ip);
        counters
    }

    #[test]
    fn every_transfer_keeps_the_identities() {
        let ledger = Ledger::new([("ipfix", "192.0.2.1:4739".to_owned()), ("json", "stdout".to_owned())]);
        let check = |when: &str| assert_eq!(ledger.books().imbalance(), None, "{when}");
        ledger.seen(&[(1, counters(100, 7)), (2, counters(10, 0))]);
        check("seen");
        ledger.drained(&amounts(1, 93));
        check("drained");
        ledger.merged(&amounts(1, 93));
        check("merged");
        let made = RecordsMade {
            amounts: amounts(1, 50),
            tally: Tally { records: 5, packets: 50, octets: 2500 },
            by_reason: [0, 5, 0, 0, 0, 0],
        };
        ledger.recorded(&made, |sink| Some(sink == 0));
        check("recorded");
        let books = ledger.books();
        assert_eq!(books.sinks[0].queued, made.tally);
        assert_eq!(books.sinks[1].queue_full, made.tally);
        let account = ExportAccount { accepted: made.tally, pending: made.tally, ..ExportAccount::default() };
        ledger.exported(0, (made.tally, Tally::ZERO), &account, &ExportCounts::default());
        check("exported");
        let total = ledger.books().total();
        assert_eq!(total.seen.packets, 110);
        assert_eq!(total.dropped[DropReason::NotIp as usize].packets, 7);
        assert_eq!(total.in_kernel.packets, 10);
        assert_eq!(total.in_cache.packets, 43);
        assert_eq!(total.in_records.packets, 50);
    }

    #[test]
    fn a_missing_packet_is_found() {
        let ledger = Ledger::new([]);
        ledger.seen(&[(1, counters(100, 0))]);
        ledger.drained(&amounts(1, 99));
        // The tables hold one packet less than the kernel counted: it stays on the kernel's account.
        assert_eq!(ledger.books().total().in_kernel.packets, 1);
        assert_eq!(ledger.books().imbalance(), None);
        let mut books = ledger.books();
        books.points[1].in_cache.packets += 1;
        assert!(books.imbalance().unwrap().contains("observation point 1"));
        let mut books = ledger.books();
        books.records.packets += 1;
        assert!(books.imbalance().unwrap().contains("records made"));
    }
}
