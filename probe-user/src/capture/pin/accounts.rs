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
/// Accounts for sinks that begin later than the run.
const SPARE: usize = 32;
/// Octets of a label.
const LABEL_OCTETS: usize = 15 * size_of::<u64>();

/// Rows that the accounts of `sinks` sinks take, and of those that may come later.
pub(super) const fn rows(sinks: usize) -> usize {
    (1 + sinks + SPARE) * ROWS_EACH
}

/// What a run has to do with the sink of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does not export to it: only what was lost with earlier runs is known.
    Former = 0,
    /// It exports to it everything from when the account was opened.
    Own = 1,
    /// It sends what it has left, which is all that its account holds.
    Leaving = 2,
}

impl Standing {
    const fn from_word(word: u64) -> Self {
        match word {
            0 => Self::Former,
            2 => Self::Leaving,
            _ => Self::Own,
        }
    }
}

/// One account: of the process, or of one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    sequence: u64,
    /// Process: entered in user space (mirror ports). Sink: delivered, or lost by name.
    pub(super) settled: Amount,
    /// Process: taken over from earlier runs. Sink: what is being sent at this moment; of one that is leaving, all that is
    /// not sent.
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
    /// Of the process, and then of each sink.
    accounts: Vec<Account>,
    /// What the accounts of sinks are for.
    holders: Vec<Holder>,
}

/// Whose an account is.
#[derive(Clone, Debug)]
struct Holder {
    /// Empty: nobody's yet.
    label: String,
    /// Of the sink with this number in the ledger, while there is one.
    sink: Option<usize>,
    standing: Standing,
}

impl PinnedAccounts {
    /// Empty accounts; those of this run's own sinks come first, in the order of the ledger, which has numbered them from 0.
    pub(super) fn new(rows: Mapping<Row>, labels: Vec<String>, own: usize) -> Self {
        let holder = |(number, label)| {
            let is_own = number < own;
            let standing = if is_own { Standing::Own } else { Standing::Former };
            Holder { label, sink: is_own.then_some(number), standing }
        };
        let nobody = Holder { label: String::new(), sink: None, standing: Standing::Former };
        let mut holders: Vec<Holder> = labels.into_iter().enumerate().map(holder).collect();
        holders.resize(holders.len() + SPARE, nobody);
        for (number, holder) in holders.iter().enumerate() {
            rows.write((number + 1) * ROWS_EACH + 2, label_row(&holder.label, holder.standing));
        }
        let accounts = vec![Account::default(); holders.len() + 1];
        Self { rows, accounts, holders }
    }

    /// A sink begins for which `settled` is done with: what was lost before its time. False if there is no room for its
    /// account.
    pub fn begin(&mut self, sink: usize, label: &str, settled: Amount) -> bool {
        let is_free = |(_, holder): &(usize, &Holder)| holder.sink.is_none();
        let holders = || self.holders.iter().enumerate().filter(is_free);
        let is_forgotten = |number: usize| {
            let account = self.accounts.get(number + 1).copied().unwrap_or_default();
            account.lost.is_zero() && account.doubtful.is_zero()
        };
        let place = holders()
            .find(|(_, holder)| holder.label == label)
            .or_else(|| holders().find(|(_, holder)| holder.label.is_empty()))
            .or_else(|| holders().find(|(number, _)| is_forgotten(*number)));
        let Some((number, _)) = place else { return false };
        self.change(number + 1, |account| (account.settled, account.held) = (settled, Amount::default()));
        if let Some(holder) = self.holders.get_mut(number) {
            *holder = Holder { label: label.to_owned(), sink: Some(sink), standing: Standing::Own };
        }
        // The label first: only then it is an account of a sink.
        let row = (number + 1) * ROWS_EACH + 2;
        self.rows.write(row, label_row(label, Standing::Former));
        self.rows.store_first_word(row, Standing::Own as u64);
        true
    }

    /// A sink gets no more, and has not sent this.
    pub fn leave(&mut self, sink: usize, outstanding: Amount) {
        let Some(number) = self.number(sink) else { return };
        self.change(number + 1, |account| account.held = outstanding);
        self.set_standing(number, Standing::Leaving);
    }

    /// A sink that got no more has ended.
    pub fn end(&mut self, sink: usize) {
        let Some(number) = self.number(sink) else { return };
        self.set_standing(number, Standing::Former);
        if let Some(holder) = self.holders.get_mut(number) {
            holder.sink = None;
        }
    }

    fn set_standing(&mut self, number: usize, standing: Standing) {
        if let Some(holder) = self.holders.get_mut(number)
            && holder.standing != standing
        {
            holder.standing = standing;
            self.rows.store_first_word((number + 1) * ROWS_EACH + 2, standing as u64);
        }
    }

    /// The account of a sink.
    fn number(&self, sink: usize) -> Option<usize> {
        self.holders.iter().position(|holder| holder.sink == Some(sink))
    }

    /// Packets were entered that are in no table of the kernel's.
    pub fn entered(&mut self, amount: Amount) {
        self.change(0, |account| account.settled.add(amount));
    }

    /// A sink is about to send this.
    pub fn sending(&mut self, sink: usize, amount: Amount) {
        self.change_own(sink, |account| account.held = amount);
    }

    /// A sink has delivered or lost this since the start, and is sending nothing.
    pub fn settled(&mut self, sink: usize, amount: Amount) {
        self.change_own(sink, |account| {
            account.settled = amount;
            account.held = Amount::default();
        });
    }

    /// A sink has delivered or lost this since the start; it may be sending.
    pub fn lost(&mut self, sink: usize, settled: Amount) {
        self.change_own(sink, |account| account.settled = settled);
    }

    /// This run takes over `run`: what is still in its tables, and what was lost with it and before. Counts
    /// once that run says so.
    pub(crate) fn take_over(&mut self, run: u64, untaken: Amount, losses: &CrashLosses) {
        let none = Amount::default();
        self.change(0, |account| account.add(run, untaken, none, none));
        for number in 0..self.holders.len() {
            let loss = self.holders.get(number).and_then(|holder| losses.get(&holder.label));
            if let Some(loss) = loss.copied() {
                self.change(number + 1, |account| account.add(run, none, loss.lost, loss.doubtful));
            }
        }
    }

    fn change_own(&mut self, sink: usize, change: impl FnOnce(&mut Account)) {
        let is_own = |holder: &Holder| holder.sink == Some(sink) && holder.standing == Standing::Own;
        if let Some(number) = self.holders.iter().position(is_own) {
            self.change(number + 1, change);
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
    /// By label; two can have the same one, if an export was changed while packets were counted.
    pub(super) sinks: Vec<(String, Standing, Account)>,
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
                let (label, standing) = label_of(rows.read(number * ROWS_EACH + 2).unwrap_or_default());
                (label, standing, account(number))
            })
            .filter(|(label, ..)| !label.is_empty())
            .collect();
        Self { process: account(0), sinks }
    }

    /// What was lost with this run, by its sinks. `taken` is what it took from its tables, into flows.
    pub(super) fn own_losses(&self, taken: Amount, has_ended: bool) -> CrashLosses {
        let mut entered = taken;
        entered.add(self.process.settled);
        entered.add(self.process.held);
        let mut losses = CrashLosses::new();
        for (label, standing, account) in self.sinks.iter().filter(|_| !has_ended) {
            let mut lost = match standing {
                Standing::Former => continue,
                Standing::Own => entered,
                Standing::Leaving => account.held,
            };
            if *standing == Standing::Own {
                lost.subtract(account.settled);
            }
            let loss = CrashLoss { lost, doubtful: account.held };
            add_losses(&mut losses, &CrashLosses::from([(label.clone(), loss)]));
        }
        losses
    }

    /// What was lost with runs before this one.
    pub(super) fn earlier_losses(&self) -> CrashLosses {
        let mut losses = CrashLosses::new();
        for (label, _, account) in &self.sinks {
            let loss = CrashLoss { lost: account.lost, doubtful: account.doubtful };
            add_losses(&mut losses, &CrashLosses::from([(label.clone(), loss)]));
        }
        losses
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

fn label_row(label: &str, standing: Standing) -> Row {
    let mut octets = [0; LABEL_OCTETS];
    for (place, octet) in octets.iter_mut().zip(label.bytes()) {
        *place = octet;
    }
    let mut words = [0; 16];
    words[0] = standing as u64;
    for (word, octets) in words.iter_mut().skip(1).zip(octets.as_chunks().0) {
        *word = u64::from_ne_bytes(*octets);
    }
    Row(words)
}

fn label_of(row: Row) -> (String, Standing) {
    let octets: Vec<u8> = row.0.iter().skip(1).flat_map(|word| word.to_ne_bytes()).collect();
    let length = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
    (String::from_utf8_lossy(&octets[..length]).into_owned(), Standing::from_word(row.0[0]))
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
        assert_eq!(label_of(label_row(label, Standing::Own)), (label.to_owned(), Standing::Own));
        let long = "x".repeat(500);
        let leaving = label_row(&long, Standing::Leaving);
        assert_eq!(label_of(leaving), ("x".repeat(LABEL_OCTETS), Standing::Leaving));
    }

    #[test]
    fn what_is_taken_and_not_settled_is_lost_unless_the_run_ended_in_order() {
        let sink = Account { settled: amount(70), held: amount(5), lost: amount(2), ..Account::default() };
        let process = Account { settled: amount(10), held: amount(20), ..Account::default() };
        let account = |label: &str, standing, account| (label.to_owned(), standing, account);
        let mut sinks =
            vec![account("json stdout", Standing::Own, sink), account("old sink", Standing::Former, sink)];
        let accounts = FormerAccounts { process, sinks: sinks.clone() };
        let losses = accounts.own_losses(amount(100), false);
        assert_eq!(losses.len(), 1);
        assert_eq!(losses["json stdout"], CrashLoss { lost: amount(60), doubtful: amount(5) });
        // One with the same destination that got no more had this left.
        let left = Account { settled: amount(3), held: amount(4), ..Account::default() };
        sinks.push(account("json stdout", Standing::Leaving, left));
        let both = FormerAccounts { process, sinks }.own_losses(amount(100), false);
        assert_eq!(both["json stdout"], CrashLoss { lost: amount(64), doubtful: amount(9) });
        assert!(accounts.own_losses(amount(100), true).is_empty());
        let mut earlier = accounts.earlier_losses();
        assert_eq!(earlier["old sink"], CrashLoss { lost: amount(2), doubtful: amount(0) });
        add_losses(&mut earlier, &losses);
        assert_eq!(earlier["json stdout"], CrashLoss { lost: amount(62), doubtful: amount(5) });
    }
}
