//! Accounts of aggregates: where every packet that was offered to them is.
//!
//! ```text
//! offered + multiplied = queue_full + queued + not_selected + sampled_out + table_full + in_table
//!                        + purging + below_minimum + below_top + purged         (per aggregate)
//! given + recovered    = waiting + spooled + delivered + lost by reason         (per output)
//! ```
//!
//! What an output is given is what is purged, since it was opened. Accounts of aggregates that have ended while packets are
//! counted are added up by name.

use pathflow_exporter::Tally;

use super::{Amount, Books, Ledger};
use crate::aggregate::{LeftOut, Spread};

/// Accounts of one aggregate.
#[derive(Clone, Debug, Default)]
pub struct AggregateAccounts {
    /// Its number: of two with one name, the later one has the higher.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Deltas that were made for it.
    pub offered: Amount,
    /// Lost, because its queue was full.
    pub queue_full: Amount,
    /// In its queue.
    pub queued: Amount,
    /// What became of the others.
    pub spread: Spread,
    /// In rows of the table.
    pub in_table: Tally,
    /// In purges that are being written, or wait for it.
    pub purging: Tally,
    /// Left out of purges.
    pub left_out: LeftOut,
    /// Rows that its outputs were given.
    pub purged: Tally,
    /// Purges.
    pub purges: u64,
    /// Those of them that came early, because the table was full.
    pub early_purges: u64,
    /// Its outputs.
    pub outputs: Vec<OutputAccounts>,
}

/// Accounts of one output of an aggregate.
#[derive(Clone, Debug, Default)]
pub struct OutputAccounts {
    /// What it is, for metrics: `stdout`, `file`, `kafka`.
    pub kind: &'static str,
    /// Where it goes, for people and for metrics.
    pub destination: String,
    /// Rows that it was given.
    pub given: Tally,
    /// What became of its rows.
    pub account: OutputAccount,
}

/// What became of the rows that an output was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputAccount {
    /// Given and not yet delivered.
    pub waiting: Tally,
    /// On disk, to be delivered by this run or the next.
    pub spooled: Tally,
    /// Found on disk at the start: given to an earlier run.
    pub recovered: Tally,
    /// Written, or acknowledged.
    pub delivered: Tally,
    /// Lost, by reason.
    pub lost: Vec<(&'static str, Tally)>,
    /// What keeps rows from being delivered, in times that it happened, by reason.
    pub errors: Vec<(&'static str, u64)>,
    /// Programs that were run for what was written, if there is one to run.
    pub programs: Option<ProgramCounts>,
}

/// What became of programs that were to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramCounts {
    /// Ended with status 0.
    pub succeeded: u64,
    /// Could not be run, ended with another status or by a signal, or were killed at the end.
    pub failed: u64,
    /// Not run at once, as too many ran; the next one is for their files, too.
    pub postponed: u64,
}

impl OutputAccount {
    /// Enters a loss.
    pub fn lose(&mut self, reason: &'static str, lost: Tally) {
        match self.lost.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, sum)) => *sum += lost,
            None => self.lost.push((reason, lost)),
        }
    }

    /// Lost for whatever reason.
    #[must_use]
    pub fn total_lost(&self) -> Tally {
        self.lost.iter().fold(Tally::ZERO, |sum, (_, lost)| sum + *lost)
    }

    fn total(&self) -> Tally {
        self.waiting + self.spooled + self.delivered + self.total_lost()
    }

    fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.spooled += other.spooled;
        self.recovered += other.recovered;
        self.delivered += other.delivered;
        for (reason, lost) in &other.lost {
            self.lose(reason, *lost);
        }
        for (reason, times) in &other.errors {
            match self.errors.iter_mut().find(|(present, _)| present == reason) {
                Some((_, sum)) => *sum += times,
                None => self.errors.push((reason, *times)),
            }
        }
        if let Some(programs) = other.programs {
            let sum = self.programs.get_or_insert_default();
            sum.succeeded += programs.succeeded;
            sum.failed += programs.failed;
            sum.postponed += programs.postponed;
        }
    }
}

impl OutputAccounts {
    /// Rows in the spool that `later` has found there are its own.
    fn hand_on(&mut self, later: &mut Self) {
        let spooled = self.account.spooled;
        let found = later.account.recovered;
        let has_found = found.records >= spooled.records
            && found.packets >= spooled.packets
            && found.octets >= spooled.octets;
        if has_found && self.kind == later.kind {
            self.account.spooled = Tally::ZERO;
            self.given -= spooled;
            later.account.recovered -= spooled;
            later.given += spooled;
        }
    }
}

impl AggregateAccounts {
    /// Accounts of an aggregate with outputs of these kinds and destinations.
    #[must_use]
    pub fn new(
        number: usize,
        name: String,
        outputs: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let outputs = outputs
            .into_iter()
            .map(|(kind, destination)| OutputAccounts { kind, destination, ..OutputAccounts::default() })
            .collect();
        Self { number, name, outputs, ..Self::default() }
    }

    /// Adds those of a later aggregate of the same name.
    fn add(&mut self, later: &Self) {
        self.number = later.number;
        self.offered.add(later.offered);
        self.queue_full.add(later.queue_full);
        self.queued.add(later.queued);
        self.spread.add(&later.spread);
        self.in_table += later.in_table;
        self.purging += later.purging;
        self.left_out.below_minimum += later.left_out.below_minimum;
        self.left_out.below_top += later.left_out.below_top;
        self.purged += later.purged;
        self.purges += later.purges;
        self.early_purges += later.early_purges;
        for mut output in later.outputs.iter().cloned() {
            self.outputs.iter_mut().for_each(|earlier| earlier.hand_on(&mut output));
            let is_same = |earlier: &&mut OutputAccounts| {
                (earlier.kind, &earlier.destination) == (output.kind, &output.destination)
            };
            match self.outputs.iter_mut().find(is_same) {
                Some(earlier) => {
                    earlier.given += output.given;
                    earlier.account.add(&output.account);
                }
                None => self.outputs.push(output),
            }
        }
    }

    /// Whether nothing is on its way any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.queued.is_zero()
            && self.in_table == Tally::ZERO
            && self.purging == Tally::ZERO
            && self.outputs.iter().all(|output| output.account.waiting == Tally::ZERO)
    }

    /// What does not add up, in words; `None` if everything does.
    #[must_use]
    pub fn imbalance(&self) -> Option<String> {
        let mut offered = self.offered;
        offered.add(self.spread.multiplied);
        let mut accounted = self.queue_full;
        let Spread { not_selected, sampled_out, table_full, .. } = self.spread;
        let LeftOut { below_minimum, below_top } = self.left_out;
        let tallies = [self.in_table, self.purging, below_minimum, below_top, self.purged];
        [self.queued, not_selected, sampled_out, table_full]
            .into_iter()
            .chain(tallies.map(amount))
            .for_each(|amount| accounted.add(amount));
        if offered != accounted {
            return Some(format!("aggregate {}: offered {offered:?}, accounted {accounted:?}", self.name));
        }
        let unbalanced = self
            .outputs
            .iter()
            .find(|output| output.account.total() != output.given + output.account.recovered)?;
        let OutputAccounts { kind, destination, given, account } = unbalanced;
        Some(format!("aggregate {}: {kind} {destination}: given {given:?}, {account:?}", self.name))
    }
}

/// Adds accounts to those of the same name.
fn add_by_name(sums: &mut Vec<AggregateAccounts>, accounts: &AggregateAccounts) {
    match sums.iter_mut().find(|sum| sum.name == accounts.name) {
        Some(sum) => sum.add(accounts),
        None => sums.push(accounts.clone()),
    }
}

impl Books {
    /// Accounts of all aggregates, those that have ended included, added up by name.
    #[must_use]
    pub fn aggregates_by_name(&self) -> Vec<AggregateAccounts> {
        let mut sums = self.ended_aggregates.clone();
        self.aggregates.iter().for_each(|accounts| add_by_name(&mut sums, accounts));
        // Those that there are come first, in their order.
        let is_there =
            |sum: &AggregateAccounts| self.aggregates.iter().any(|present| present.number == sum.number);
        sums.sort_by_key(|sum| (!is_there(sum), sum.number));
        sums
    }

    fn aggregate(&mut self, number: usize) -> Option<&mut AggregateAccounts> {
        self.aggregates.iter_mut().find(|accounts| accounts.number == number)
    }
}

impl Ledger {
    /// Opens the accounts of an aggregate, whose number no other one has had.
    pub fn open_aggregate(&self, accounts: AggregateAccounts) {
        self.lock().aggregates.push(accounts);
    }

    /// An aggregate has ended: its accounts are with those of its name from now on.
    pub fn aggregate_ended(&self, number: usize) {
        let mut books = self.lock();
        if let Some(place) = books.aggregates.iter().position(|accounts| accounts.number == number) {
            let accounts = books.aggregates.remove(place);
            add_by_name(&mut books.ended_aggregates, &accounts);
        }
    }

    /// A batch was made for aggregates. `offered` puts it into the queue of one after the other, by number, and says whether
    /// it had room; it must not block. Offered under the lock, as records are.
    pub fn offered(&self, amount: Amount, offered: impl Iterator<Item = (usize, bool)>) {
        let mut books = self.lock();
        for (number, has_room) in offered {
            if let Some(aggregate) = books.aggregate(number) {
                aggregate.offered.add(amount);
                let account = if has_room { &mut aggregate.queued } else { &mut aggregate.queue_full };
                account.add(amount);
            }
        }
    }

    /// An aggregate took something from its queue; its table now has `in_table`.
    pub fn aggregated(&self, number: usize, spread: &Spread, in_table: Tally) {
        if let Some(aggregate) = self.lock().aggregate(number) {
            aggregate.queued.subtract(spread.offered);
            aggregate.spread.add(spread);
            aggregate.in_table = in_table;
        }
    }

    /// An aggregate took rows out of its table, in which there is `in_table` now.
    pub fn purging(&self, number: usize, purging: Tally, in_table: Tally, is_early: bool) {
        if let Some(aggregate) = self.lock().aggregate(number) {
            aggregate.purging += purging;
            aggregate.in_table = in_table;
            aggregate.purges += 1;
            aggregate.early_purges += u64::from(is_early);
        }
    }

    /// The outputs of an aggregate were given rows, but for those that are left out; their own accounts are now these.
    pub fn purged(
        &self,
        number: usize,
        (purged, left_out): (Tally, LeftOut),
        outputs: impl Iterator<Item = OutputAccount>,
    ) {
        if let Some(aggregate) = self.lock().aggregate(number) {
            aggregate.purging -= purged + left_out.below_minimum + left_out.below_top;
            aggregate.purged += purged;
            aggregate.left_out.below_minimum += left_out.below_minimum;
            aggregate.left_out.below_top += left_out.below_top;
            for (output, account) in aggregate.outputs.iter_mut().zip(outputs) {
                output.given += purged;
                output.account = account;
            }
        }
    }
}

fn amount(tally: Tally) -> Amount {
    Amount { packets: tally.packets, octets: tally.octets }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(records: u64) -> Tally {
        Tally { records, packets: 10 * records, octets: 1000 * records }
    }

    /// An aggregate that was offered so many rows, all of which its output was given.
    fn run(ledger: &Ledger, number: usize, destination: &str, rows: u64, account: OutputAccount) {
        let outputs = [("kafka", destination.to_owned())];
        ledger.open_aggregate(AggregateAccounts::new(number, "a".to_owned(), outputs));
        let offered = amount(tally(rows));
        ledger.offered(offered, std::iter::once((number, true)));
        let spread = Spread { offered, in_table: offered, ..Spread::default() };
        ledger.aggregated(number, &spread, tally(rows));
        ledger.purging(number, tally(rows), Tally::ZERO, false);
        ledger.purged(number, (tally(rows), LeftOut::default()), std::iter::once(account));
        let books = ledger.books();
        assert_eq!((books.imbalance(), books.is_settled()), (None, true));
    }

    #[test]
    fn accounts_of_aggregates_that_ended_are_added_up_by_name() {
        let ledger = Ledger::new([]);
        let spooled = |delivered, spooled, recovered| OutputAccount {
            delivered: tally(delivered),
            spooled: tally(spooled),
            recovered: tally(recovered),
            ..OutputAccount::default()
        };
        run(&ledger, 0, "broker/one", 10, spooled(7, 3, 0));
        ledger.aggregate_ended(0);
        assert!(ledger.books().aggregates.is_empty());
        // What the first one has left in the spool is found by the second, and confirmed.
        run(&ledger, 1, "broker/one", 5, spooled(8, 0, 3));
        let [sum] = &ledger.books().aggregates_by_name()[..] else { panic!() };
        assert_eq!((sum.number, sum.offered, sum.purged, sum.purges), (1, amount(tally(15)), tally(15), 2));
        assert_eq!(sum.outputs.len(), 1);
        assert_eq!(sum.outputs[0].account, spooled(15, 0, 0));
        assert_eq!(sum.imbalance(), None);
        // So it is if the destination is another one: it is its rows then.
        ledger.aggregate_ended(1);
        run(&ledger, 2, "broker/one", 4, spooled(0, 4, 0));
        ledger.aggregate_ended(2);
        run(&ledger, 3, "broker/two", 1, spooled(5, 0, 4));
        let [sum] = &ledger.books().aggregates_by_name()[..] else { panic!() };
        let outputs: Vec<_> = sum.outputs.iter().map(|output| &output.account).collect();
        assert_eq!(outputs, [&spooled(15, 0, 0), &spooled(5, 0, 0)]);
        assert_eq!((sum.imbalance(), sum.purged), (None, tally(20)));
        ledger.aggregate_ended(3);
        assert_eq!(ledger.books().aggregates_by_name().len(), 1);
        assert_eq!(ledger.books().imbalance(), None);
    }
}
