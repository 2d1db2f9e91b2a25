//! The accounts of a run, where the next one finds them: they say what a killed run had taken from the
//! kernel and not delivered.
//!
//! Each account is kept twice. The copy that is not in force is written, then put in force by its number, so
//! that a run that is killed in the middle leaves the copy before.

use std::collections::BTreeMap;

use super::layout::Row;
use crate::capture::mapping::Mapping;
use crate::ledger::Amount;

/// Rows of an account: two copies and its label.
const ROWS_EACH: usize = 3;
/// Octets of a label.
const LABEL_OCTETS: usize = 15 * size_of::<u64>();

/// Rows that the accounts of `sinks` sinks take.
pub(super) const fn rows(sinks: usize) -> usize {
    (1 + sinks) * ROWS_EACH
}

/// One account: of the process, or of one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    sequence: u64,
    /// Process: entered in user space (mirror ports). Sink: delivered, or lost by name.
    pub(super) settled: Amount,
    /// Process: taken over from earlier runs. Sink: what is being sent at this moment.
    pub(super) held: Amount,
    /// Sink: lost with earlier runs that were killed.
    pub(super) lost: Amount,
    /// Sink: of this, what may have been delivered all the same.
    pub(super) doubtful: Amount,
    /// The run that was taken over last, and what it changed. It does not count before that run says by whom
    /// it was taken over.
    last_run: u64,
    last_held: Amount,
    last_lost: Amount,
    last_doubtful: Amount,
}

impl Account {
    /// Words of a row: its number, the amounts, and the run.
    const RUN: usize = 15;

    fn from_row(row: Row) -> Self {
        let word = |number: usize| row.0.get(number).copied().unwrap_or_default();
        let amount = |number: usize| Amount { packets: word(2 * number + 1), octets: word(2 * number + 2) };
        Self {
            sequence: word(0),
            settled: amount(0),
            held: amount(1),
            lost: amount(2),
            doubtful: amount(3),
            last_held: amount(4),
            last_lost: amount(5),
            last_doubtful: amount(6),
            last_run: word(Self::RUN),
        }
    }

    fn row(&self) -> Row {
        let amounts = [
            self.settled,
            self.held,
            self.lost,
            self.doubtful,
            self.last_held,
            self.last_lost,
            self.last_doubtful,
        ];
        let mut words = [0; 16];
        words[0] = self.sequence;
        for (place, amount) in words[1..Self::RUN].as_chunks_mut().0.iter_mut().zip(amounts) {
            *place = [amount.packets, amount.octets];
        }
        words[Self::RUN] = self.last_run;
        Row(words)
    }

    /// The account as it was before the last run was taken over, if that has not been done with.
    fn committed(mut self, is_open: &impl Fn(u64) -> bool) -> Self {
        if self.last_run != 0 && is_open(self.last_run) {
            self.held.subtract(self.last_held);
            self.lost.subtract(self.last_lost);
            self.doubtful.subtract(self.last_doubtful);
        }
        self
    }

    fn add(&mut self, run: u64, held: Amount, lost: Amount, doubtful: Amount) {
        self.held.add(held);
        self.lost.add(lost);
        self.doubtful.add(doubtful);
        (self.last_run, self.last_held, self.last_lost, self.last_doubtful) = (run, held, lost, doubtful);
    }
}

/// What was lost in runs that were killed, by the sink that did not get it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashLoss {
    /// Taken from the kernel, and neither delivered nor lost by another name.
    pub lost: Amount,
    /// Of this, what was being sent when the run was killed: it may have been delivered.
    pub doubtful: Amount,
}

/// By sink: format and destination, with a space between.
pub type CrashLosses = BTreeMap<String, CrashLoss>;

/// The accounts of this run.
#[derive(Debug)]
pub struct PinnedAccounts {
    rows: Mapping<Row>,
    accounts: Vec<Account>,
    labels: Vec<String>,
}

impl PinnedAccounts {
    /// Empty accounts; those of this run's own sinks come first, in the order of the ledger.
    pub(super) fn new(rows: Mapping<Row>, labels: Vec<String>, own: usize) -> Self {
        for (number, label) in labels.iter().enumerate() {
            rows.write((number + 1) * ROWS_EACH + 2, label_row(label, number < own));
        }
        let accounts = vec![Account::default(); labels.len() + 1];
        Self { rows, accounts, labels }
    }

    /// Packets were entered that are in no table of the kernel's.
    pub fn entered(&mut self, amount: Amount) {
        self.change(0, |account| account.settled.add(amount));
    }

    /// A sink is about to send this.
    pub fn sending(&mut self, sink: usize, amount: Amount) {
        self.change(sink + 1, |account| account.held = amount);
    }

    /// A sink has delivered or lost this since the start, and is sending nothing.
    pub fn settled(&mut self, sink: usize, amount: Amount) {
        self.change(sink + 1, |account| {
            account.settled = amount;
            account.held = Amount::default();
        });
    }

    /// A sink has delivered or lost this since the start; it may be sending.
    pub fn lost(&mut self, sink: usize, settled: Amount) {
        self.change(sink + 1, |account| account.settled = settled);
    }

    /// This run takes over `run`: what is still in its tables, and what was lost with it and before. Counts
    /// once that run says so.
    pub(crate) fn take_over(&mut self, run: u64, untaken: Amount, losses: &CrashLosses) {
        let none = Amount::default();
        self.change(0, |account| account.add(run, untaken, none, none));
        for number in 0..self.labels.len() {
            let loss = self.labels.get(number).and_then(|label| losses.get(label));
            if let Some(loss) = loss.copied() {
                self.change(number + 1, |account| account.add(run, none, loss.lost, loss.doubtful));
            }
        }
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.accounts.get_mut(number) else { return };
        change(account);
        account.sequence += 1;
        let place = number * ROWS_EACH + (account.sequence & 1) as usize;
        // All of it under the old number first, then the number: only then it is in force.
        let mut row = account.row();
        row.0[0] = self.rows.first_word(place);
        self.rows.write(place, row);
        self.rows.store_first_word(place, account.sequence);
    }
}

/// The accounts of an earlier run.
#[derive(Debug, Default)]
pub(super) struct FormerAccounts {
    pub(super) process: Account,
    /// By label, and whether the run exported to it.
    pub(super) sinks: Vec<(String, bool, Account)>,
}

impl FormerAccounts {
    /// Reads them. `is_open` says of a run whether it is there and belongs to nobody, or to somebody else.
    pub(super) fn read(rows: &Mapping<Row>, is_open: impl Fn(u64) -> bool) -> Self {
        let account = |number: usize| {
            let copies = [0, 1].map(|copy| rows.read(number * ROWS_EACH + copy).unwrap_or_default());
            let newest = copies.into_iter().max_by_key(|row| row.0[0]).unwrap_or_default();
            Account::from_row(newest).committed(&is_open)
        };
        let sinks = (1..rows.length() / ROWS_EACH)
            .map(|number| {
                let (label, is_own) = label_of(rows.read(number * ROWS_EACH + 2).unwrap_or_default());
                (label, is_own, account(number))
            })
            .collect();
        Self { process: account(0), sinks }
    }

    /// What was lost with this run, by its sinks. `taken` is what it took from its tables, into flows.
    pub(super) fn own_losses(&self, taken: Amount, has_ended: bool) -> CrashLosses {
        let mut entered = taken;
        entered.add(self.process.settled);
        entered.add(self.process.held);
        let own = self.sinks.iter().filter(|(_, is_own, _)| *is_own && !has_ended);
        own.map(|(label, _, account)| {
            let mut lost = entered;
            lost.subtract(account.settled);
            (label.clone(), CrashLoss { lost, doubtful: account.held })
        })
        .collect()
    }

    /// What was lost with runs before this one.
    pub(super) fn earlier_losses(&self) -> CrashLosses {
        let loss = |account: &Account| CrashLoss { lost: account.lost, doubtful: account.doubtful };
        self.sinks.iter().map(|(label, _, account)| (label.clone(), loss(account))).collect()
    }
}

/// Adds `more` to `losses`.
pub(crate) fn add_losses(losses: &mut CrashLosses, more: &CrashLosses) {
    for (label, loss) in more {
        let sum = losses.entry(label.clone()).or_default();
        sum.lost.add(loss.lost);
        sum.doubtful.add(loss.doubtful);
    }
}

fn label_row(label: &str, is_own: bool) -> Row {
    let mut octets = [0; LABEL_OCTETS];
    for (place, octet) in octets.iter_mut().zip(label.bytes()) {
        *place = octet;
    }
    let mut words = [0; 16];
    words[0] = u64::from(is_own);
    for (word, octets) in words.iter_mut().skip(1).zip(octets.as_chunks().0) {
        *word = u64::from_ne_bytes(*octets);
    }
    Row(words)
}

fn label_of(row: Row) -> (String, bool) {
    let octets: Vec<u8> = row.0.iter().skip(1).flat_map(|word| word.to_ne_bytes()).collect();
    let length = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
    (String::from_utf8_lossy(&octets[..length]).into_owned(), row.0[0] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn amount(packets: u64) -> Amount {
        Amount { packets, octets: packets * 100 }
    }

    #[test]
    fn an_account_is_read_as_it_was_written() {
        let mut account = Account { sequence: 7, settled: amount(1), ..Account::default() };
        account.add(9, amount(2), amount(3), amount(4));
        assert_eq!(Account::from_row(account.row()), account);
        assert_eq!(account.committed(&|_| false), account);
        let before = account.committed(&|run| run == 9);
        assert_eq!((before.settled, before.held, before.lost), (amount(1), amount(0), amount(0)));
    }

    #[test]
    fn labels_are_kept_up_to_their_room() {
        let label = "ipfix 192.0.2.1:4739";
        assert_eq!(label_of(label_row(label, true)), (label.to_owned(), true));
        let long = "x".repeat(500);
        assert_eq!(label_of(label_row(&long, false)), ("x".repeat(LABEL_OCTETS), false));
    }

    #[test]
    fn what_is_taken_and_not_settled_is_lost_unless_the_run_ended_in_order() {
        let sink = Account { settled: amount(70), held: amount(5), lost: amount(2), ..Account::default() };
        let process = Account { settled: amount(10), held: amount(20), ..Account::default() };
        let sinks = vec![("json stdout".to_owned(), true, sink), ("old sink".to_owned(), false, sink)];
        let accounts = FormerAccounts { process, sinks };
        let losses = accounts.own_losses(amount(100), false);
        assert_eq!(losses.len(), 1);
        assert_eq!(losses["json stdout"], CrashLoss { lost: amount(60), doubtful: amount(5) });
        assert!(accounts.own_losses(amount(100), true).is_empty());
        let mut earlier = accounts.earlier_losses();
        assert_eq!(earlier["old sink"], CrashLoss { lost: amount(2), doubtful: amount(0) });
        add_losses(&mut earlier, &losses);
        assert_eq!(earlier["json stdout"], CrashLoss { lost: amount(62), doubtful: amount(5) });
    }
}
