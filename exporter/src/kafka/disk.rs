//! The worker's side of the spool: what is written, forced out, read back; and what to do when the disk fails.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    KafkaError,
    account::KafkaLossReason,
    block::Block,
    event::KafkaEvent,
    held::Resting,
    settings::KafkaSettings,
    spool::{
        AccountFile, Amount, Entry, Opened, Read, Reservation, SetAside, Spool, SpoolError, SpoolFolder,
        Standing, random, start_of_machine,
    },
    worker::Worker,
};
use crate::record::Tally;

/// A spool that failed is tried again after this time ...
const REOPEN: Duration = Duration::from_secs(1);

/// ... and then after twice as long each time, up to this.
const REOPEN_MOST: Duration = Duration::from_secs(10);

/// A file system that was full, with nothing in the spool to force out, is tried again so often.
const DISK_FULL: Duration = Duration::from_secs(1);

/// Blocks that are forced out for one at most: more would mean that something else is wrong.
const FORCED_OUT: usize = 64;

/// The spool, if there is one, and the numbers beside it.
pub(super) struct Disk {
    folder: Option<SpoolFolder>,
    pub spool: Option<Spool>,
    /// Blocks that are on disk alone, oldest first.
    pub unsent: VecDeque<Entry>,
    pub standing: Standing,
    written: Standing,
    /// When to try again, and what was damaged.
    reopen: Option<(Instant, Option<String>)>,
    reopen_after: Duration,
    /// Until then nothing is written.
    full_until: Option<Instant>,
    pub has_grown: bool,
}

/// What the start of an output found.
pub(super) struct Found {
    pub disk: Disk,
    pub file: Option<AccountFile>,
    pub events: Vec<KafkaEvent>,
    /// In the spool.
    pub recovered: Amount,
    /// No longer in the spool, because of damage to it.
    pub damaged: Amount,
    pub lost_by_crash: Tally,
}

/// How the run ended that wrote the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Orderly,
    Killed,
    /// With the machine.
    WentDown,
}

impl Disk {
    /// Opens what an earlier run left.
    pub(super) fn open(settings: &KafkaSettings) -> Result<Found, KafkaError> {
        let disk = Self {
            folder: None,
            spool: None,
            unsent: VecDeque::new(),
            standing: Standing { instance: random(), epoch: 1, ..Standing::default() },
            written: Standing::default(),
            reopen: None,
            reopen_after: REOPEN,
            full_until: None,
            has_grown: false,
        };
        let mut found = Found {
            disk,
            file: None,
            events: Vec::new(),
            recovered: Amount::default(),
            damaged: Amount::default(),
            lost_by_crash: Tally::ZERO,
        };
        let Some(spool) = &settings.spool else { return Ok(found) };
        let failed = |text: String| KafkaError::Spool { path: spool.directory.clone(), text };
        let folder = SpoolFolder::take(spool)?;
        let file = folder.account_file().map_err(|error| failed(error.to_string()))?;
        let (standing, reserved) = file.read();
        let start = start_of_machine();
        let marked = file.marked();
        let end = match marked {
            None => End::Orderly,
            Some(marked) if marked == start => End::Killed,
            Some(_) => End::WentDown,
        };
        let opened = folder.open(standing.as_ref(), None).map_err(|error| failed(error.to_string()))?;
        found.disk.folder = Some(folder);
        found.take_over(opened, standing, reserved, end);
        file.mark(start).map_err(|error| failed(error.to_string()))?;
        found.file = Some(file);
        Ok(found)
    }

    pub(super) fn can_store(&self, now: Instant) -> bool {
        self.spool.is_some() && self.full_until.is_none_or(|until| now >= until)
    }
}

impl Found {
    /// Continues where an earlier run ended, and says what it left behind.
    fn take_over(
        &mut self,
        opened: Opened,
        standing: Option<Standing>,
        reserved: Reservation,
        end_of_run: End,
    ) {
        let Opened { spool, entries, damaged, set_aside } = opened;
        for entry in &entries {
            self.recovered += entry.amount;
        }
        for entry in &damaged {
            self.damaged += entry.amount;
        }
        let readable = self.recovered;
        let removed = spool.removed();
        let end = entries.last().map_or(0, |entry| entry.first.saturating_add(entry.amount.messages));
        let end = end.max(spool.end_of_remains());
        // After a power cut the file beside the spool may be older than the spool.
        let standing = standing.filter(|standing| standing.instance == spool.instance());
        let standing = standing.into_iter().chain([spool.standing()]);
        let standing =
            standing.max_by_key(|standing| (standing.accepted.messages, standing.settled.messages));
        let standing = standing.unwrap_or_default();
        // Of what waited in the queue it is not known what it stands for.
        let given = reserved.given.max(standing.accepted.messages);
        let mut known = standing.settled;
        known += removed;
        let mut accepted = standing.accepted;
        for entry in &entries {
            if entry.first < standing.accepted.messages {
                known += entry.amount;
            } else {
                let messages = entry.amount.messages.min(given.saturating_sub(entry.first));
                known += Amount { messages, ..Amount::default() };
                accepted.tally += entry.amount.tally;
            }
        }
        let lost = given.saturating_sub(known.messages);
        let tally = if lost > 0 { standing.accepted.less(known).tally } else { Tally::ZERO };
        let uncertain = reserved.end.saturating_sub(given);
        let went_down = end_of_run == End::WentDown;
        if end_of_run == End::Orderly {
            // All was settled or in the spool.
            self.damaged += Amount { messages: lost, tally };
        } else if lost + uncertain > 0 || went_down {
            self.lost_by_crash = tally;
            self.events.push(KafkaEvent::CrashLoss { messages: lost, uncertain, tally, went_down });
        }
        accepted.messages = accepted.messages.max(reserved.end).max(end).max(removed.messages);
        let settled = accepted.less(removed).less(readable);
        self.disk.standing =
            Standing { instance: spool.instance(), epoch: spool.epoch(), accepted, settled, removed };
        self.events.extend(set_aside.map(told));
        if self.damaged.messages > 0 {
            self.events.push(KafkaEvent::SpoolDamaged { messages: self.damaged.messages });
        }
        if readable.messages > 0 {
            let Amount { messages, tally } = readable;
            self.events.push(KafkaEvent::SpoolRecovered { messages, tally });
        }
        self.disk.has_grown = readable.messages > 0;
        self.disk.spool = Some(spool);
        self.disk.unsent = entries.into();
    }
}

fn told(aside: SetAside) -> KafkaEvent {
    let SetAside { path, text, messages } = aside;
    KafkaEvent::SpoolSetAside { path, text, messages }
}

impl Worker {
    /// Writes `block` to the spool; whether it is there.
    pub(super) fn store(&mut self, block: &Block, now: Instant) -> bool {
        for _ in 0..FORCED_OUT {
            let Some(spool) = &mut self.disk.spool else { return false };
            let reason = match spool.append(block) {
                Ok(()) => {
                    self.disk.has_grown = true;
                    self.counts.spooled += u64::from(block.count());
                    return true;
                }
                Err(SpoolError::Full) => {
                    self.inbox.tell(KafkaEvent::SpoolFull, now);
                    KafkaLossReason::SpoolBound
                }
                Err(SpoolError::DiskFull) => {
                    self.inbox.tell(KafkaEvent::DiskFull, now);
                    KafkaLossReason::DiskFull
                }
                Err(error) => {
                    self.spool_failed(error, now);
                    return false;
                }
            };
            if !self.force_out(reason, now) {
                break;
            }
        }
        self.disk.full_until = Some(now + DISK_FULL);
        false
    }

    /// Makes room by the oldest block: a copy of what the producer has, or else one that is lost by it. Whether there is
    /// more room now: a file system may be so full that nothing can be removed, and then nothing is lost for it.
    pub(super) fn force_out(&mut self, reason: KafkaLossReason, now: Instant) -> bool {
        let Some(spool) = &mut self.disk.spool else { return false };
        let removed = if let Some(flight) = self.flights.iter_mut().find(|flight| flight.stored) {
            let removed = spool.give_up(&Entry::of(&flight.block), false);
            if removed.is_ok() {
                (flight.stored, flight.forced_out) = (false, true);
                let (_, waiting) = flight.waiting();
                self.account.spooled -= waiting;
                self.account.queued += waiting;
            }
            removed
        } else if let Some(entry) = self.held.oldest_stored() {
            let removed = spool.give_up(&entry, true);
            if removed.is_ok() {
                self.held.take_oldest(|block| matches!(block, Resting::Stored(_)));
                self.inbox.tell(KafkaEvent::HeldLost { messages: entry.amount.messages }, now);
                self.forced_out(&entry, KafkaLossReason::TopicUnavailable);
            }
            removed
        } else if let Some(entry) = self.disk.unsent.front().copied() {
            let removed = spool.give_up(&entry, true);
            if removed.is_ok() {
                self.disk.unsent.pop_front();
                self.forced_out(&entry, reason);
            }
            removed
        } else {
            return false;
        };
        match removed {
            Ok(()) => true,
            Err(SpoolError::DiskFull) => false,
            Err(error) => {
                self.spool_failed(error, now);
                false
            }
        }
    }

    fn forced_out(&mut self, entry: &Entry, reason: KafkaLossReason) {
        self.account.spooled -= entry.amount.tally;
        self.account.lose(entry.amount.tally, reason);
        self.counts.lost += entry.amount.messages;
    }

    /// Reads blocks back while the producer has room for them.
    pub(super) fn load(&mut self, now: Instant) -> bool {
        let mut has_loaded = false;
        while self.flights.octets() < self.settings.in_flight_octets {
            let (Some(entry), Some(spool)) = (self.disk.unsent.front().copied(), &mut self.disk.spool) else {
                break;
            };
            let read = spool.read(entry.first);
            if let Err(error) = read {
                self.spool_failed(error, now);
                break;
            }
            self.disk.unsent.pop_front();
            has_loaded = true;
            match read {
                Ok(Read::Block(block)) if Entry::of(&block) == entry => {
                    if block.is_of_remains() {
                        self.rest(&block, now);
                    } else {
                        self.flights.push(block, true);
                    }
                }
                _ => self.lose_damaged(&entry, now),
            }
        }
        has_loaded
    }

    /// A block of the spool is not what was written.
    pub(super) fn lose_damaged(&mut self, entry: &Entry, now: Instant) {
        let Amount { messages, tally } = entry.amount;
        self.account.spooled -= tally;
        self.account.lose(tally, KafkaLossReason::SpoolDamaged);
        self.counts.lost += messages;
        self.inbox.tell(KafkaEvent::SpoolDamaged { messages }, now);
        if let Some(spool) = &mut self.disk.spool
            && let Err(error) = spool.remove(entry, true)
            && !matches!(error, SpoolError::DiskFull)
        {
            self.spool_failed(error, now);
        }
    }

    /// Copies what the producer has to the spool: it may never be able to send it. Nothing is forced out for that: it
    /// is older than what is there.
    pub(super) fn store_flights(&mut self, now: Instant) {
        let mut failure = None;
        for flight in self.flights.iter_mut().filter(|flight| !flight.stored && !flight.forced_out) {
            let Some(spool) = &mut self.disk.spool else { break };
            match spool.append(&flight.block) {
                Ok(()) => {}
                Err(SpoolError::Full | SpoolError::DiskFull) => {
                    flight.forced_out = true;
                    continue;
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            self.disk.has_grown = true;
            self.counts.spooled += u64::from(flight.block.count());
            flight.stored = true;
            let (_, waiting) = flight.waiting();
            self.account.queued -= waiting;
            self.account.spooled += waiting;
        }
        if let Some(error) = failure {
            self.spool_failed(error, now);
        }
    }

    /// Syncs, and tries again what failed.
    pub(super) fn tend_spool(&mut self, now: Instant) {
        if let Some(spool) = &mut self.disk.spool {
            let is_empty = self.disk.unsent.is_empty()
                && !self.flights.iter().any(|flight| flight.stored)
                && !self.held.is_stored();
            let mut done = spool.tick(now);
            if done.is_ok() && is_empty && self.disk.has_grown && !self.is_storing {
                self.disk.has_grown = false;
                done = spool.shrink();
            }
            if let Err(error) = done {
                // A full disk can wait: nothing is lost, and the next tick tries again.
                if !matches!(error, SpoolError::DiskFull) {
                    self.spool_failed(error, now);
                }
            }
        } else if self.disk.reopen.as_ref().is_some_and(|(at, _)| now >= *at) {
            self.reopen(now);
        }
    }

    pub(super) fn spool_failed(&mut self, error: SpoolError, now: Instant) {
        self.inbox.tell(KafkaEvent::SpoolFailed { text: error.to_string() }, now);
        self.disk.spool = None;
        self.disk.reopen = Some(match error {
            SpoolError::Damaged(text) => (now, Some(text)),
            _ => (now + self.disk.reopen_after, None),
        });
        // What the producer has is in memory alone now.
        let flights = self.flights.iter_mut().chain(self.held.flights_mut());
        for flight in flights.filter(|flight| flight.stored) {
            flight.stored = false;
            let (_, waiting) = flight.waiting();
            self.account.spooled -= waiting;
            self.account.queued += waiting;
        }
    }

    fn reopen(&mut self, now: Instant) {
        let Some(folder) = &self.disk.folder else { return };
        let damaged = self.disk.reopen.take().and_then(|(_, damaged)| damaged);
        let opened = match folder.open(Some(&self.disk.standing), damaged.clone()) {
            Ok(opened) => opened,
            Err(error) => {
                self.inbox.tell(KafkaEvent::SpoolFailed { text: error.to_string() }, now);
                self.disk.reopen_after = (2 * self.disk.reopen_after).min(REOPEN_MOST);
                self.disk.reopen = Some((now + self.disk.reopen_after, damaged));
                return;
            }
        };
        let Opened { mut spool, entries, damaged, set_aside } = opened;
        self.inbox.begin_epoch(spool.epoch());
        self.disk.standing.epoch = spool.epoch();
        let resting = self.held.topics.values().flat_map(|topic| &topic.resting);
        let resting = resting.filter_map(|block| match block {
            Resting::Stored(entry) => Some(entry),
            Resting::InMemory(_) => None,
        });
        let wanted: HashSet<Entry> = self.disk.unsent.iter().chain(resting).copied().collect();
        let mut found: HashSet<Entry> = HashSet::new();
        let damaged: HashSet<u64> = damaged.iter().map(|entry| entry.first).collect();
        let mut failure = None;
        for entry in entries {
            if wanted.contains(&entry) {
                found.insert(entry);
            } else if let Err(error) = spool.remove(&entry, false) {
                // Of what was with the producer: it is in memory or settled, and counted so.
                failure = Some(error);
            }
        }
        // On a full disk they stay until there is room.
        failure = failure.or(spool.remove_now().err()).filter(|error| !matches!(error, SpoolError::DiskFull));
        let mut gone = Vec::new();
        self.disk.unsent.retain(|entry| {
            found.contains(entry) || {
                gone.push(*entry);
                false
            }
        });
        for topic in self.held.topics.values_mut() {
            topic.resting.retain(|block| match block {
                Resting::Stored(entry) if !found.contains(entry) => {
                    gone.push(*entry);
                    false
                }
                _ => true,
            });
        }
        for entry in gone {
            let Amount { messages, tally } = entry.amount;
            self.account.spooled -= tally;
            self.counts.lost += messages;
            if damaged.contains(&entry.first) {
                // The spool has counted it as removed.
                self.account.lose(tally, KafkaLossReason::SpoolDamaged);
                self.inbox.tell(KafkaEvent::SpoolDamaged { messages }, now);
            } else {
                self.account.lose(tally, KafkaLossReason::SpoolFailed);
                self.disk.standing.settled += entry.amount;
            }
        }
        if let Some(aside) = set_aside {
            self.inbox.tell(told(aside), now);
        }
        self.disk.spool = Some(spool);
        if let Some(error) = failure {
            return self.spool_failed(error, now);
        }
        self.disk.reopen_after = REOPEN;
        self.inbox.tell(KafkaEvent::SpoolWorks, now);
    }

    /// Keeps the numbers for the next run.
    pub(super) fn write_standing(&mut self) {
        if let Some(spool) = &mut self.disk.spool {
            self.disk.standing.removed = spool.removed();
            spool.note(&self.disk.standing);
        }
        if self.disk.standing != self.disk.written
            && let Some(file) = self.inbox.file()
        {
            self.disk.written = self.disk.standing;
            // Without them the next run can say less; nothing is lost for that.
            let _ = file.write(&self.disk.standing);
        }
    }
}
