//! The thread of an output: takes messages from the queue, hands them to the producer, and moves them to and from the
//! spool.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::error::RDKafkaErrorCode;

use super::{
    KafkaError, Message,
    account::{DeliveryErrorKind, KafkaAccount, KafkaCounts, KafkaLossReason},
    block::Block,
    disk::Disk,
    event::{KafkaEvent, printable},
    flights::{Flight, Flights},
    held::{Held, Resting},
    inbox::{Inbox, Published},
    producer::{Batching, Complaint, NotTaken, Producer, Report, Stamp, Verdict, judge, may_be_persisted},
    settings::{Durability, KafkaSettings},
    spool::{Amount, Entry, Reservation},
};

/// A block that is not full waits so long for more messages ...
const LINGER: Duration = Duration::from_millis(5);

/// ... or so long if it goes to the spool, where each costs a row.
const SPOOL_LINGER: Duration = Duration::from_millis(50);

/// Messages that failed are tried again after this time.
pub(super) const AGAIN: Duration = Duration::from_secs(2);

/// A producer that ended is replaced at once, but no more often than this.
const RECREATE: Duration = Duration::from_secs(5);

/// At the end an outage is waited out for so long, if nothing is lost by leaving it to the spool.
const PATIENCE: Duration = Duration::from_secs(10);

/// Blocks that go to the spool before the producer is asked for its reports again.
const STORED_AT_ONCE: usize = 32;

/// Messages that go to the producer before it is asked for its reports again.
pub(super) const HANDED_AT_ONCE: usize = 8192;

pub(super) struct Worker {
    pub settings: KafkaSettings,
    pub inbox: Arc<Inbox>,
    pub disk: Disk,
    pub flights: Flights,
    pub held: Held,
    pub account: KafkaAccount,
    pub counts: KafkaCounts,
    /// Messages go through the spool.
    pub is_storing: bool,
    pub instance: String,
    pub producer: Option<Producer>,
    /// Made when it is needed.
    single: Option<Producer>,
    recreate_at: Instant,
    /// Taken from the queue, neither with the producer nor in the spool.
    pending: VecDeque<Block>,
    retries: VecDeque<Retry>,
    delivered_at: Instant,
    outage: Option<Instant>,
}

/// A message that is to be sent again.
#[derive(Clone, Copy, Debug)]
struct Retry {
    due: Instant,
    sequence: u64,
    alone: bool,
}

impl Worker {
    pub(super) fn new(settings: KafkaSettings) -> Result<(Self, Arc<Inbox>), KafkaError> {
        let producer = Producer::new(&settings, Batching::Many)?;
        let found = Disk::open(&settings)?;
        let standing = found.disk.standing;
        let inbox = Inbox::new(settings.queue_octets, found.file, standing.epoch, standing.accepted.messages);
        let inbox = Arc::new(inbox);
        let now = Instant::now();
        found.events.into_iter().for_each(|event| inbox.tell(event, now));
        let recovered = found.recovered.tally + found.damaged.tally;
        let mut account = KafkaAccount {
            accepted: recovered,
            recovered,
            spooled: found.recovered.tally,
            lost_by_crash: found.lost_by_crash,
            ..KafkaAccount::default()
        };
        account.lose(found.damaged.tally, KafkaLossReason::SpoolDamaged);
        let mut worker = Self {
            settings,
            inbox: Arc::clone(&inbox),
            disk: found.disk,
            flights: Flights::default(),
            held: Held::default(),
            account,
            counts: KafkaCounts { lost: found.damaged.messages, ..KafkaCounts::default() },
            is_storing: false,
            instance: format!("{:032x}", u128::from_be_bytes(standing.instance)),
            producer: Some(producer),
            single: None,
            recreate_at: now,
            pending: VecDeque::new(),
            retries: VecDeque::new(),
            delivered_at: now,
            outage: None,
        };
        if let Some(file) = inbox.file() {
            // Nothing is reserved any more: what was is counted.
            let _ = file.reserve(Reservation::nothing(standing.accepted.messages));
        }
        worker.publish();
        Ok((worker, inbox))
    }

    /// Until the end that [`Inbox::close`] set.
    pub(super) fn run(&mut self) {
        loop {
            let now = Instant::now();
            // Before the turn: what was accepted until then is taken in it.
            let end = self.inbox.end();
            let is_busy = self.step(now);
            if let Some(end) = end
                && (now >= end || self.is_done() && self.held.is_empty() || self.is_safe(now))
            {
                break;
            }
            if !is_busy {
                let is_idle = self.is_done() && self.held.is_quiet();
                self.inbox.wait(Duration::from_millis(if is_idle { 50 } else { 2 }));
            }
        }
        self.finish();
    }

    /// One turn; whether there was something to do.
    fn step(&mut self, now: Instant) -> bool {
        let mut is_busy = self.hear(now);
        self.replace_producer(now);
        is_busy |= self.take(now);
        self.find_stuck(now);
        self.watch(now);
        is_busy |= self.pass_on(now);
        is_busy |= self.hand_over(now);
        is_busy |= self.tend_held(now);
        self.send_again(now);
        self.sweep(now);
        self.tend_spool(now);
        self.publish();
        is_busy
    }

    fn is_done(&self) -> bool {
        self.flights.is_empty() && self.pending.is_empty() && self.disk.unsent.is_empty()
    }

    /// At the end: everything is in the spool, and the broker has not taken it for long.
    fn is_safe(&self, now: Instant) -> bool {
        let is_long = self.outage.is_some_and(|began| now.duration_since(began) >= PATIENCE);
        self.disk.spool.is_some()
            && self.pending.is_empty()
            && (self.is_done() || is_long && self.flights.iter().all(|flight| flight.stored))
            && self.held.is_safe(if is_long { Duration::ZERO } else { PATIENCE }, now)
    }

    /// The message with this number, and the block that it is in, if it is not settled.
    pub(super) fn locate(&self, sequence: u64) -> Option<(&Flight, Message<'_>)> {
        let held = || self.held.topics.values().find_map(|topic| topic.flights.find(sequence));
        self.flights.find(sequence).or_else(held)
    }

    fn settle(&mut self, sequence: u64) {
        self.held.forget_scout(sequence);
        if self.flights.find(sequence).is_some() {
            self.flights.settle(sequence);
        } else {
            self.held.topics.values_mut().for_each(|topic| topic.flights.settle(sequence));
        }
    }

    /// The producer's reports.
    fn hear(&mut self, now: Instant) -> bool {
        let mut complaints = Vec::new();
        let mut heard = |producer: &Option<Producer>| {
            let Some(producer) = producer else { return Vec::new() };
            let reports = producer.reports();
            complaints.append(&mut producer.errors());
            reports
        };
        let (many, single) = (heard(&self.producer), heard(&self.single));
        let is_busy = !many.is_empty() || !single.is_empty();
        self.settle_all(&many, false, now);
        self.settle_all(&single, true, now);
        for Complaint { kind, text } in complaints {
            self.counts.client_errors[kind as usize] += 1;
            let text = printable(&self.settings.without_secrets(&text));
            self.inbox.tell(KafkaEvent::ClientError { kind, text }, now);
        }
        is_busy
    }

    fn settle_all(&mut self, reports: &[Report], alone: bool, now: Instant) {
        for report in reports {
            match report.error {
                None => self.delivered(report.sequence, now),
                Some(code) => self.failed(report.sequence, code, alone, now),
            }
        }
    }

    fn delivered(&mut self, sequence: u64, now: Instant) {
        self.delivered_at = now;
        if let Some(began) = self.outage.take() {
            self.inbox.tell(KafkaEvent::OutageEnded { lasted: now.duration_since(began) }, now);
            self.inbox.end_of_outage();
        }
        let Some((_, message)) = self.locate(sequence) else { return };
        let tally = message.tally;
        if !self.held.is_empty() {
            let topic = message.topic.to_owned();
            if let Some(held) = self.held.topics.get_mut(&topic) {
                Self::topic_works(held, sequence);
            }
        }
        self.account.in_flight -= tally;
        self.account.delivered += tally;
        self.counts.delivered += 1;
        self.settle(sequence);
    }

    /// An attempt to send a message that was with the producer has failed.
    pub(super) fn failed(&mut self, sequence: u64, code: RDKafkaErrorCode, alone: bool, now: Instant) {
        let Some((_, message)) = self.locate(sequence) else { return };
        let tally = message.tally;
        let (kind, verdict) = judge(code, alone);
        self.counts.errors[kind as usize] += 1;
        if may_be_persisted(code) {
            self.counts.possibly_persisted += 1;
        }
        match verdict {
            Verdict::Lose(reason) => {
                self.account.in_flight -= tally;
                self.lost(sequence, reason, now);
            }
            Verdict::SendAgain if kind != DeliveryErrorKind::ProducerEnded => {
                self.hold(sequence, kind, code, now);
            }
            verdict => {
                let again = verdict == Verdict::SendAgain;
                let due = if again { now + AGAIN } else { now };
                self.retries.push_back(Retry { due, sequence, alone: alone || !again });
            }
        }
    }

    /// Counts a message as lost that has been taken out of its place in the account.
    fn lost(&mut self, sequence: u64, reason: KafkaLossReason, now: Instant) {
        let Some((_, message)) = self.locate(sequence) else { return };
        let tally = message.tally;
        let event = KafkaEvent::MessageLost {
            reason,
            topic: message.topic.to_owned(),
            key: printable(&String::from_utf8_lossy(message.key.unwrap_or_default())),
            octets: message.payload.len(),
        };
        self.account.lose(tally, reason);
        self.counts.lost += 1;
        self.inbox.tell(event, now);
        self.settle(sequence);
    }

    /// Makes a producer if there is none, or if it will never send again.
    fn replace_producer(&mut self, now: Instant) {
        let fatal = [&self.producer, &self.single].into_iter().flatten().find_map(Producer::fatal_error);
        if let Some(Complaint { kind, text }) = fatal {
            self.counts.client_errors[kind as usize] += 1;
            self.end_producers(now);
            for flight in self.flights.iter().chain(self.held.flights()) {
                let (count, handed) = flight.handed_over();
                self.counts.possibly_persisted += count;
                self.counts.resent += count;
                self.account.in_flight -= handed;
                if flight.stored {
                    self.account.spooled += handed;
                } else {
                    self.account.queued += handed;
                }
            }
            self.flights.restart();
            self.held.restart();
            self.retries.clear();
            self.begin_epoch(now);
            self.counts.producers_recreated += 1;
            let text = printable(&self.settings.without_secrets(&text));
            self.inbox.tell(KafkaEvent::ProducerRecreated { epoch: self.disk.standing.epoch, text }, now);
        }
        if self.producer.is_none() && now >= self.recreate_at {
            self.recreate_at = now + RECREATE;
            match Producer::new(&self.settings, Batching::Many) {
                Ok(producer) => self.producer = Some(producer),
                Err(error) => {
                    self.inbox.tell(KafkaEvent::ProducerFailed { text: printable(&error.to_string()) }, now);
                }
            }
        }
    }

    /// Ends the producers and takes their last good reports.
    fn end_producers(&mut self, now: Instant) {
        for producer in [self.producer.take(), self.single.take()].into_iter().flatten() {
            for report in producer.end() {
                if report.error.is_none() {
                    self.delivered(report.sequence, now);
                }
            }
        }
    }

    fn begin_epoch(&mut self, now: Instant) {
        let epoch = self.disk.standing.epoch.wrapping_add(1);
        self.disk.standing.epoch = epoch;
        self.inbox.begin_epoch(epoch);
        if let Some(spool) = &mut self.disk.spool
            && let Err(error) = spool.begin_epoch(epoch)
        {
            self.spool_failed(error, now);
        }
    }

    /// Takes from the queue, if what was taken before has gone on.
    fn take(&mut self, now: Instant) -> bool {
        if !self.pending.is_empty() {
            return false;
        }
        let taken = self.inbox.take(if self.is_storing { SPOOL_LINGER } else { LINGER }, now);
        self.account.accepted += taken.tally;
        self.account.queued += taken.tally;
        let accepted = &mut self.disk.standing.accepted;
        *accepted = Amount { messages: taken.next, tally: accepted.tally + taken.tally };
        self.pending = taken.blocks;
        // What is not known after a kill must be little: the numbers are written before anything is done.
        self.write_standing();
        !self.pending.is_empty()
    }

    /// Decides whether messages go through the spool, and whether this is an outage.
    fn watch(&mut self, now: Instant) {
        let age = |since: Instant| now.saturating_duration_since(since);
        let oldest =
            self.flights.oldest().map_or(Duration::ZERO, |flight| flight.since.map_or(Duration::ZERO, age));
        let is_late = oldest > self.settings.outage_after;
        if is_late && self.outage.is_none() && age(self.delivered_at) > self.settings.outage_after {
            self.outage = Some(now);
            let to_spool = self.settings.durability != Durability::Memory && self.disk.spool.is_some();
            self.inbox.tell(KafkaEvent::OutageBegan { to_spool }, now);
        }
        let queued: usize = self.pending.iter().map(|block| block.octets().len()).sum();
        let is_crowded = self.is_window_full() && queued > self.settings.queue_octets / 2;
        self.is_storing = match self.settings.durability {
            Durability::Memory => false,
            Durability::Always => true,
            Durability::Outage => {
                is_late || is_crowded || self.outage.is_some() || !self.disk.unsent.is_empty()
            }
        };
        if self.is_storing
            && (is_late || self.outage.is_some())
            && self.disk.can_store(now)
            && self.flights.iter().any(|flight| !flight.stored && !flight.forced_out)
        {
            self.store_flights(now);
        }
    }

    fn is_window_full(&self) -> bool {
        self.flights.octets() >= self.settings.in_flight_octets
    }

    /// Moves what was taken to the producer's window or to the spool.
    fn pass_on(&mut self, now: Instant) -> bool {
        let mut is_busy = self.load(now);
        for _ in 0..STORED_AT_ONCE {
            let Some(block) = self.pending.pop_front() else { break };
            let stored = self.is_storing && self.disk.can_store(now) && self.store(&block, now);
            // Behind what is on disk alone a block may go only if the spool does not work.
            let is_next = self.disk.unsent.is_empty() || (!stored && self.disk.spool.is_none());
            if stored {
                self.account.queued -= block.tally;
                self.account.spooled += block.tally;
            }
            if is_next && !self.is_window_full() {
                self.flights.push(block, stored);
            } else if stored {
                self.disk.unsent.push_back(Entry::of(&block));
            } else {
                self.pending.push_front(block);
                break;
            }
            is_busy = true;
        }
        is_busy
    }

    /// Hands messages to the producer until it takes no more.
    fn hand_over(&mut self, now: Instant) -> bool {
        let mut is_busy = false;
        for _ in 0..HANDED_AT_ONCE {
            let Some(producer) = &self.producer else { break };
            let Some((flight, index)) = self.flights.next_to_hand() else { break };
            let sequence = flight.block.first + u64::from(index);
            let stamp = Stamp { instance: &self.instance, epoch: flight.block.epoch, sequence };
            let stored = flight.stored;
            let Some(message) = flight.block.message(index) else { break };
            if !self.held.is_empty() && self.held.parks(message.topic) {
                self.flights.park_next();
                is_busy = true;
                continue;
            }
            let tally = message.tally;
            let sent = producer.send(&message, &stamp);
            if sent == Err(NotTaken::QueueFull) {
                break;
            }
            let home = if stored { &mut self.account.spooled } else { &mut self.account.queued };
            *home -= tally;
            self.account.in_flight += tally;
            self.flights.advance(now);
            is_busy = true;
            if let Err(NotTaken::Failed(code)) = sent {
                // What it does not take for its size is not a matter of its batch.
                self.failed(sequence, code, true, now);
            }
        }
        is_busy
    }

    /// Sends again what failed, in order, when it is time.
    fn send_again(&mut self, now: Instant) {
        let mut due = Vec::new();
        self.retries.retain(|retry| {
            let is_due = retry.due <= now;
            if is_due {
                due.push(*retry);
            }
            !is_due
        });
        due.sort_unstable_by_key(|retry| retry.sequence);
        let mut is_full = false;
        for retry in due {
            if is_full || !self.send_once_more(retry, now) {
                is_full = true;
                self.retries.push_back(retry);
            }
        }
    }

    /// Whether the producer took it, or it needs none.
    fn send_once_more(&mut self, retry: Retry, now: Instant) -> bool {
        if retry.alone && self.single.is_none() {
            match Producer::new(&self.settings, Batching::Single) {
                Ok(producer) => self.single = Some(producer),
                Err(error) => {
                    self.inbox.tell(KafkaEvent::ProducerFailed { text: printable(&error.to_string()) }, now);
                    return false;
                }
            }
        }
        let Some(producer) = (if retry.alone { &self.single } else { &self.producer }) else { return false };
        let Some((flight, message)) = self.locate(retry.sequence) else { return true };
        let stamp = Stamp { instance: &self.instance, epoch: flight.block.epoch, sequence: retry.sequence };
        match producer.send(&message, &stamp) {
            Ok(()) => self.counts.resent += 1,
            Err(NotTaken::QueueFull) => return false,
            Err(NotTaken::Failed(code)) => self.failed(retry.sequence, code, true, now),
        }
        true
    }

    /// Lets go of blocks that need no more care.
    fn sweep(&mut self, now: Instant) {
        loop {
            let held = || self.held.topics.values_mut().find_map(|topic| topic.flights.take_settled());
            let Some(flight) = self.flights.take_settled().or_else(held) else { break };
            let entry = Entry::of(&flight.block);
            match &mut self.disk.spool {
                Some(spool) if flight.stored => {
                    if let Err(error) = spool.remove(&entry, true)
                        && !matches!(error, super::spool::SpoolError::DiskFull)
                    {
                        self.spool_failed(error, now);
                    }
                }
                _ => self.disk.standing.settled += entry.amount,
            }
        }
    }

    fn publish(&mut self) {
        self.write_standing();
        let octets = self.pending.iter().map(|block| block.octets().len()).sum();
        let Self { account, counts, .. } = *self;
        self.inbox.publish(&Published { account, counts, octets, is_in_outage: self.outage.is_some() });
    }

    /// Puts what is left into the spool, or counts it as lost.
    fn finish(&mut self) {
        let now = Instant::now();
        self.take(now);
        self.end_producers(now);
        self.sweep(now);
        let keeps = self.settings.durability != Durability::Memory;
        if keeps && self.disk.spool.is_some() {
            // What has arrived need not come again.
            for flight in self.flights.remains() {
                let (count, handed) = flight.handed_over();
                self.counts.possibly_persisted += count;
                self.account.in_flight -= handed;
                let home = if flight.stored { &mut self.account.spooled } else { &mut self.account.queued };
                *home += handed;
                flight.park_all();
            }
        }
        self.move_parked(now);
        let mut flights: Vec<_> = self.flights.drain().collect();
        for topic in self.held.topics.values_mut() {
            flights.extend(topic.flights.drain());
            let (in_memory, stored): (VecDeque<_>, _) =
                topic.resting.drain(..).partition(|block| matches!(block, Resting::InMemory(_)));
            topic.resting = stored;
            self.pending.extend(in_memory.into_iter().filter_map(Resting::into_memory));
        }
        for flight in flights {
            let (handed_count, handed) = flight.handed_over();
            let (waiting_count, waiting) = flight.waiting();
            self.account.in_flight -= handed;
            self.counts.possibly_persisted += handed_count;
            let home = if flight.stored { &mut self.account.spooled } else { &mut self.account.queued };
            *home -= waiting;
            let tally = handed + waiting;
            if (flight.stored && self.disk.spool.is_some()) || (keeps && self.store(&flight.block, now)) {
                // A block is stored whole; its messages that have arrived will come again.
                self.account.spooled += tally;
            } else {
                self.account.lose(tally, KafkaLossReason::Unsent);
                self.counts.lost += handed_count + waiting_count;
                self.disk.standing.settled += Entry::of(&flight.block).amount;
            }
        }
        loop {
            while let Some(block) = self.pending.pop_front() {
                self.account.queued -= block.tally;
                if keeps && self.store(&block, now) {
                    self.account.spooled += block.tally;
                } else {
                    self.account.lose(block.tally, KafkaLossReason::Unsent);
                    self.counts.lost += u64::from(block.count());
                    self.disk.standing.settled += Entry::of(&block).amount;
                }
            }
            if !self.take(now) {
                break;
            }
        }
        if let Some(mut spool) = self.disk.spool.take() {
            self.disk.standing.removed = spool.removed();
            spool.note(&self.disk.standing);
            if let Err(error) = spool.close() {
                self.inbox.tell(KafkaEvent::SpoolFailed { text: error.to_string() }, now);
            }
        }
        self.publish();
        if let Some(file) = self.inbox.file() {
            // If it stays, the next run says too much, and no more than that.
            let _ = file.mark([0; 16]);
        }
    }
}
