//! Accounts of sinks: where every record that was made is, for each of those who get records.
//!
//! ```text
//! records made = missed + queued + lost to a full queue + not selected + accepted   (per sink)
//! accepted     = pending + in flight + delivered + lost by reason                   (per sink)
//! ```
//!
//! What was made before a sink was there, or after it had to go, is missed. Accounts of sinks that have ended while packets
//! are counted are added up by format and destination.

use pathflow_common::DropReason;
use pathflow_exporter::{ExportAccount, ExportCounts, MeteringStatistics, Tally};

use super::{Amount, Books, Ledger, RecordsMade};

/// Accounts of one sink: an Exporting Process or standard output.
#[derive(Clone, Debug, Default)]
pub struct SinkAccounts {
    /// Its number, which no other one has had.
    pub number: usize,
    /// Format, for metrics: `ipfix`, `netflow-v9`, `netflow-v5`, `json`, `text`.
    pub format: &'static str,
    /// Where it goes, for metrics: the collector's address, or `stdout`.
    pub destination: String,
    /// Records made while it was not there.
    pub missed: Tally,
    /// Records waiting in the queue.
    pub queued: Tally,
    /// Records that found the queue full.
    pub queue_full: Tally,
    /// Records that this sink is not for.
    pub not_selected: Tally,
    /// Accounts of the sink itself.
    pub account: ExportAccount,
    /// What it has sent.
    pub counts: ExportCounts,
    /// It gets no more records and ends when it has sent what it has.
    is_leaving: bool,
}

impl SinkAccounts {
    pub(super) fn new(number: usize, format: &'static str, destination: String, missed: Tally) -> Self {
        Self { number, format, destination, missed, ..Self::default() }
    }

    /// What it was offered.
    fn offered(&self) -> Tally {
        self.queued + self.queue_full + self.not_selected + self.account.accepted
    }

    /// Adds those of a later sink with the same format and destination.
    fn add(&mut self, later: &Self) {
        self.queued += later.queued;
        self.queue_full += later.queue_full;
        self.not_selected += later.not_selected;
        self.account = self.account.and(&later.account);
        self.counts = self.counts.and(&later.counts);
    }

    /// Whether nothing is on its way any more.
    pub(super) fn is_settled(&self) -> bool {
        self.queued + self.account.pending + self.account.in_flight == Tally::ZERO
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.format, &self.destination) == (other.format, &other.destination)
    }

    /// What a sink has no more to do with: handed to the network, lost by name, or not for it.
    fn settled(&self) -> Amount {
        let account = &self.account;
        let done = account.delivered + account.in_flight + account.total_lost();
        amount(done + self.queue_full + self.not_selected + self.missed)
    }

    /// What it has and has not sent.
    fn outstanding(&self) -> Amount {
        amount(self.queued + self.account.pending)
    }
}

fn amount(tally: Tally) -> Amount {
    Amount { packets: tally.packets, octets: tally.octets }
}

/// Adds accounts to those of the same format and destination.
fn add_by_destination(sums: &mut Vec<SinkAccounts>, accounts: &SinkAccounts) {
    match sums.iter_mut().find(|sum| sum.is_same(accounts)) {
        Some(sum) => sum.add(accounts),
        None => sums.push(accounts.clone()),
    }
}

impl Books {
    /// Accounts of all sinks, those that have ended included, added up by format and destination.
    #[must_use]
    pub fn sinks_by_destination(&self) -> Vec<SinkAccounts> {
        let mut sums = self.ended_sinks.clone();
        self.sinks.iter().for_each(|accounts| add_by_destination(&mut sums, accounts));
        for sum in &mut sums {
            sum.missed = self.records - sum.offered();
        }
        sums.sort_by_key(|sum| sum.number);
        sums
    }

    /// The first identity of sinks that does not hold, in words.
    pub(super) fn sink_imbalance(&self) -> Option<String> {
        for sink in self.sinks.iter().chain(&self.ended_sinks) {
            if !sink.account.is_balanced() {
                return Some(format!("{} {}: {:?}", sink.format, sink.destination, sink.account));
            }
        }
        let unbalanced = self.sinks.iter().find(|sink| self.records != sink.missed + sink.offered())?;
        Some(format!("{} {}: records made {:?}", unbalanced.format, unbalanced.destination, self.records))
    }

    fn sink(&mut self, number: usize) -> Option<&mut SinkAccounts> {
        self.sinks.iter_mut().find(|sink| sink.number == number)
    }
}

impl Ledger {
    /// Opens the accounts of a sink, whose number no other one has had. False if the next run will not know what it had,
    /// should this one be killed.
    #[must_use]
    pub fn open_sink(&self, number: usize, format: &'static str, destination: String) -> bool {
        let mut books = self.lock();
        let label = format!("{format} {destination}");
        let sink = SinkAccounts::new(number, format, destination, books.records);
        let settled = sink.settled();
        books.sinks.push(sink);
        let mut is_kept = true;
        self.with_pinned(|accounts| is_kept = accounts.begin(number, &label, settled));
        is_kept
    }

    /// A sink is to get no more records; some may still come.
    pub fn sink_leaves(&self, number: usize) {
        if let Some(sink) = self.lock().sink(number) {
            sink.is_leaving = true;
            let outstanding = sink.outstanding();
            self.with_pinned(|accounts| accounts.leave(number, outstanding));
        }
    }

    /// A sink that had to go has ended: its accounts are with those of its destination from now on.
    pub fn sink_ended(&self, number: usize) {
        let mut books = self.lock();
        if let Some(place) = books.sinks.iter().position(|sink| sink.number == number) {
            let accounts = books.sinks.remove(place);
            add_by_destination(&mut books.ended_sinks, &accounts);
            self.with_pinned(|pinned| pinned.end(number));
        }
    }

    /// Flows left the cache as records. `offer` puts them into the queue of the sink with this number and says whether it had
    /// room; `None` if there is no such queue. It must not block.
    ///
    /// Offered under the lock: a sink that takes the batch at once finds it entered already.
    pub fn recorded(&self, made: &RecordsMade, mut offer: impl FnMut(usize) -> Option<bool>) {
        let mut books = self.lock();
        for (point, amount) in books.points.iter_mut().zip(&made.amounts.0) {
            if !amount.is_zero() {
                point.in_cache.subtract(*amount);
                point.in_records.add(*amount);
            }
        }
        books.records += made.tally;
        for (sum, count) in books.records_by_reason.iter_mut().zip(made.by_reason) {
            *sum += count;
        }
        for sink in &mut books.sinks {
            let offered = offer(sink.number);
            let account = match offered {
                Some(true) => &mut sink.queued,
                Some(false) => &mut sink.queue_full,
                None => &mut sink.missed,
            };
            *account += made.tally;
            if sink.is_leaving {
                self.with_pinned(|accounts| accounts.leave(sink.number, sink.outstanding()));
            } else if offered != Some(true) {
                self.with_pinned(|accounts| accounts.lost(sink.number, sink.settled()));
            }
        }
    }

    /// A sink is about to send what it holds and `taken` from its queue: until it has said what became of it,
    /// nobody knows.
    pub fn sending(&self, number: usize, taken: Tally, account: &ExportAccount) {
        let amount = amount(account.pending + taken);
        if !amount.is_zero() {
            self.with_pinned(|accounts| accounts.sending(number, amount));
        }
    }

    /// A sink took records from its queue, of which some were not for it; its own accounts are now these.
    pub fn exported(
        &self,
        number: usize,
        (taken, not_selected): (Tally, Tally),
        account: &ExportAccount,
        counts: &ExportCounts,
    ) {
        if let Some(sink) = self.lock().sink(number) {
            sink.queued -= taken;
            sink.not_selected += not_selected;
            sink.account = *account;
            sink.counts = *counts;
            if sink.is_leaving {
                self.with_pinned(|accounts| accounts.leave(number, sink.outstanding()));
            } else {
                self.with_pinned(|accounts| accounts.settled(number, sink.settled()));
            }
        }
    }

    /// What collectors are told of losses, those before a sink included.
    #[must_use]
    pub fn metering_statistics(&self, number: usize) -> MeteringStatistics {
        let books = self.lock();
        let mut ignored = Amount::default();
        for point in &books.points {
            for reason in DropReason::ALL.into_iter().filter(|reason| reason.is_loss()) {
                ignored.add(point.dropped[reason as usize]);
            }
        }
        let sink = books.sinks.iter().find(|sink| sink.number == number);
        MeteringStatistics {
            // 0 means that there is none.
            exporting_process_id: number as u32 + 1,
            ignored_packets: ignored.packets,
            ignored_octets: ignored.octets,
            not_accepted: sink.map(|sink| sink.queue_full).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(records: u64) -> RecordsMade {
        let tally = Tally { records, packets: 10 * records, octets: 1000 * records };
        let mut made = RecordsMade { tally, ..RecordsMade::default() };
        made.amounts.add(1, amount(tally));
        made
    }

    /// A sink takes what it has in its queue, and delivers everything.
    fn deliver(ledger: &Ledger, number: usize) {
        let sink = ledger.books().sinks.iter().find(|sink| sink.number == number).cloned().unwrap();
        let accepted = sink.account.accepted + sink.queued;
        let account = ExportAccount { accepted, delivered: accepted, ..ExportAccount::default() };
        ledger.exported(number, (sink.queued, Tally::ZERO), &account, &ExportCounts::default());
    }

    #[test]
    fn a_record_is_for_the_sink_of_before_or_of_after() {
        let ledger = Ledger::new([("ipfix", "a".to_owned()), ("ipfix", "b".to_owned())]);
        let sink_imbalance = || ledger.books().sink_imbalance();
        ledger.recorded(&made(5), |_| Some(true));
        assert!(ledger.open_sink(2, "ipfix", "b".to_owned()));
        assert_eq!(ledger.books().sinks[2].missed, made(5).tally);
        // One shard knows of the change, another one does not yet.
        ledger.sink_leaves(1);
        ledger.recorded(&made(3), |number| (number != 1).then_some(true));
        ledger.recorded(&made(2), |number| (number != 2).then_some(true));
        assert_eq!(sink_imbalance(), None);
        (0..3).for_each(|number| deliver(&ledger, number));
        ledger.sink_ended(1);
        ledger.recorded(&made(1), |_| Some(false));
        assert_eq!(sink_imbalance(), None);
        let sums = ledger.books().sinks_by_destination();
        let figures = |sum: &SinkAccounts| {
            (sum.destination.clone(), [sum.account.delivered, sum.queue_full, sum.missed].map(|t| t.records))
        };
        let sums: Vec<_> = sums.iter().map(figures).collect();
        assert_eq!(sums, [("a".to_owned(), [10, 1, 0]), ("b".to_owned(), [10, 1, 0])]);
        // Nobody came after it.
        ledger.sink_leaves(0);
        ledger.sink_ended(0);
        ledger.recorded(&made(4), |_| Some(true));
        let sums = ledger.books().sinks_by_destination();
        assert_eq!(figures(&sums[0]), ("a".to_owned(), [10, 1, 4]));
        assert_eq!(sink_imbalance(), None);
    }
}
