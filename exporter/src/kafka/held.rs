//! Topics that take nothing, because they are missing or forbidden, and what waits for them.
//!
//! The first message that fails holds its topic. Its other messages are parked in their blocks, and when nothing else
//! is left of the oldest blocks, they move to blocks of their topic alone, which rest in the spool, or in memory if there
//! is none. So the window is free for other topics, and no message is in two places. Every [`AGAIN`] one message of the
//! topic goes out: when it is delivered the others follow in order, and then the topic is like any other.
//!
//! Of a partition without a leader the producer says nothing, and gives nothing back. When the window is half full of what
//! is late while other topics are not, what the producer has of such a topic moves to blocks of its own, too, but stays in
//! memory, and the oldest of it is the message that tries the topic.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use rdkafka::error::RDKafkaErrorCode;

use super::{
    account::{DeliveryErrorKind, KafkaLossReason},
    block::Block,
    event::{KafkaEvent, printable},
    flights::{Flight, Flights},
    producer::NotTaken,
    settings::Durability,
    spool::{Amount, Entry, Read, SpoolError},
    worker::{AGAIN, HANDED_AT_ONCE, Worker},
};
use crate::record::Tally;

/// What was parked moves to blocks of its own so often.
const MOVE: Duration = Duration::from_millis(250);

/// A topic whose messages are all in blocks with others that cannot move is tried in place after this time.
const IN_PLACE: Duration = Duration::from_secs(10);

/// What the producer has had for so long, while other topics went on, is stuck.
const STUCK: Duration = Duration::from_secs(3);

/// That is looked for so often, while the window is half full.
const LOOK: Duration = Duration::from_secs(1);

/// So many topics that take nothing are named in the log.
const NAMED: usize = 8;

/// All such topics, by name.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub topics: BTreeMap<String, Topic>,
    moved: Option<Instant>,
    looked: Option<Instant>,
}

/// A topic that takes nothing, or did so until now.
#[derive(Debug)]
pub(super) struct Topic {
    pub resting: VecDeque<Resting>,
    /// Blocks of it that are in memory to be sent.
    pub flights: Flights,
    /// Its messages that are in blocks with others.
    parked: usize,
    since: Instant,
    /// When to try it; `None` if it takes messages.
    due: Option<Instant>,
    /// The message that tries it.
    scout: Option<u64>,
    is_named: bool,
    /// The one that tries it is with the producer for as long as a partition has no leader.
    is_stuck: bool,
}

/// A block that is not with the producer.
#[derive(Debug)]
pub(super) enum Resting {
    Stored(Entry),
    InMemory(Block),
}

impl Resting {
    pub(super) fn into_memory(self) -> Option<Block> {
        match self {
            Self::Stored(_) => None,
            Self::InMemory(block) => Some(block),
        }
    }

    fn octets_in_memory(&self) -> usize {
        match self {
            Self::Stored(_) => 0,
            Self::InMemory(block) => block.octets().len(),
        }
    }

    fn first(&self) -> u64 {
        match self {
            Self::Stored(entry) => entry.first,
            Self::InMemory(block) => block.first,
        }
    }
}

impl Topic {
    fn new(now: Instant, due: Instant) -> Self {
        Self {
            resting: VecDeque::new(),
            flights: Flights::default(),
            parked: 0,
            since: now,
            due: Some(due),
            scout: None,
            is_named: false,
            is_stuck: false,
        }
    }
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Whether nothing is to be done before the next attempt.
    pub(super) fn is_quiet(&self) -> bool {
        self.topics.values().all(|topic| topic.due.is_some() && (topic.scout.is_none() || topic.is_stuck))
    }

    /// Topics for which something may be to do.
    fn due(&self, now: Instant) -> impl Iterator<Item = &String> {
        let is_due = move |topic: &Topic| topic.scout.is_none() && topic.due.is_none_or(|due| now >= due);
        self.topics.iter().filter(move |(_, topic)| is_due(topic)).map(|(name, _)| name)
    }

    /// Whether the message with this topic has to wait; it is counted as parked then.
    pub(super) fn parks(&mut self, topic: &str) -> bool {
        let held = self.topics.get_mut(topic);
        held.is_some_and(|held| {
            held.parked += 1;
            true
        })
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.topics.values().flat_map(|topic| topic.flights.iter())
    }

    pub(super) fn flights_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.topics.values_mut().flat_map(|topic| topic.flights.iter_mut())
    }

    /// The message with this number is settled, in whatever way: if it was to try its topic, another one is.
    pub(super) fn forget_scout(&mut self, sequence: u64) {
        for topic in self.topics.values_mut().filter(|topic| topic.scout == Some(sequence)) {
            (topic.scout, topic.is_stuck) = (None, false);
        }
    }

    /// The producer is gone, and all that it had.
    pub(super) fn restart(&mut self) {
        for topic in self.topics.values_mut() {
            topic.flights.restart();
            (topic.scout, topic.is_stuck) = (None, false);
        }
    }

    /// Whether the spool has all that waits, which has waited for so long.
    pub(super) fn is_safe(&self, patience: Duration, now: Instant) -> bool {
        self.topics.values().all(|topic| {
            now.duration_since(topic.since) >= patience
                && topic.due.is_some()
                && topic.flights.iter().all(|flight| flight.stored)
                && topic.resting.iter().all(|block| matches!(block, Resting::Stored(_)))
        })
    }

    /// Whether the spool has something of it.
    pub(super) fn is_stored(&self) -> bool {
        let is_stored = |block: &Resting| matches!(block, Resting::Stored(_));
        self.topics.values().any(|topic| topic.resting.iter().any(is_stored))
            || self.flights().any(|flight| flight.stored)
    }

    /// Takes out the oldest block that `is_meant`.
    pub(super) fn take_oldest(&mut self, is_meant: fn(&Resting) -> bool) -> Option<Resting> {
        let place = |topic: &Topic| topic.resting.iter().position(is_meant);
        let oldest =
            |topic: &&mut Topic| place(topic).and_then(|place| topic.resting.get(place)).map(Resting::first);
        let topic = self.topics.values_mut().filter(|topic| oldest(topic).is_some()).min_by_key(oldest)?;
        topic.resting.remove(place(topic)?)
    }

    /// The oldest block that the spool has.
    pub(super) fn oldest_stored(&self) -> Option<Entry> {
        let stored = |block: &Resting| match block {
            Resting::Stored(entry) => Some(*entry),
            Resting::InMemory(_) => None,
        };
        let oldest = |topic: &Topic| topic.resting.iter().find_map(stored);
        self.topics.values().filter_map(oldest).min_by_key(|entry| entry.first)
    }

    fn octets_in_memory(&self) -> usize {
        self.topics.values().flat_map(|topic| &topic.resting).map(Resting::octets_in_memory).sum()
    }

    fn octets_in_flight(&self) -> usize {
        self.topics.values().map(|topic| topic.flights.octets()).sum()
    }
}

impl Worker {
    /// The topic of this message, which was with the producer, takes nothing for now.
    pub(super) fn hold(
        &mut self,
        sequence: u64,
        kind: DeliveryErrorKind,
        code: RDKafkaErrorCode,
        now: Instant,
    ) {
        let Some((flight, message)) = self.locate(sequence) else { return };
        let (topic, tally, stored) = (message.topic.to_owned(), message.tally, flight.stored);
        self.account.in_flight -= tally;
        *(if stored { &mut self.account.spooled } else { &mut self.account.queued }) += tally;
        self.counts.resent += 1;
        let count = self.held.topics.len();
        let held = self.held.topics.entry(topic.clone()).or_insert_with(|| Topic::new(now, now + AGAIN));
        held.due = Some(now + AGAIN);
        if held.scout == Some(sequence) {
            (held.scout, held.is_stuck) = (None, false);
        }
        if held.flights.find(sequence).is_some() {
            held.flights.put_back(sequence);
            // Many topics may wait; what the spool has need not be in memory for that.
            if let Some(flight) = held.flights.take_untouched() {
                held.resting.push_front(if flight.stored {
                    Resting::Stored(Entry::of(&flight.block))
                } else {
                    Resting::InMemory(flight.block)
                });
            }
        } else {
            self.flights.park(sequence);
            held.parked += 1;
        }
        if !held.is_named && count < NAMED {
            held.is_named = true;
            let text = printable(&code.to_string());
            self.inbox.tell(KafkaEvent::DeliveryFailed { kind, topic, text }, now);
        }
    }

    /// A message of the topic has been delivered.
    pub(super) fn topic_works(held: &mut Topic, sequence: u64) {
        if held.is_stuck && held.scout != Some(sequence) {
            // Another partition has its leader.
            return;
        }
        held.due = None;
        if held.scout == Some(sequence) {
            (held.scout, held.is_stuck) = (None, false);
        }
    }

    /// A partition without a leader: librdkafka keeps what is for it, says nothing, and the window would fill with it.
    /// What of such a topic is with the producer moves aside, and the rest of it waits until the first of that is
    /// confirmed.
    pub(super) fn find_stuck(&mut self, now: Instant) {
        let is_due = self.held.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK);
        let octets = self.flights.octets();
        if !is_due || octets <= self.settings.in_flight_octets / 2 {
            return;
        }
        self.held.looked = Some(now);
        let Some(time) = now.checked_sub(STUCK) else { return };
        let topics = self.flights.late_topics(time);
        if topics.values().all(Option::is_some)
            || self.held.octets_in_flight() + octets > 2 * self.settings.in_flight_octets
        {
            // Nothing goes on, or there is no room for more of it.
            return;
        }
        let late = topics.into_iter().filter_map(|(topic, first)| Some((topic.to_owned(), first?)));
        for (topic, first) in late.collect::<Vec<_>>() {
            if self.held.topics.contains_key(&topic) {
                continue;
            }
            self.flights.set_stuck(&topic);
            let count = self.held.topics.len();
            let mut held = Topic::new(now, now);
            (held.scout, held.is_stuck, held.is_named) = (Some(first), true, count < NAMED);
            if held.is_named {
                self.inbox.tell(KafkaEvent::TopicStuck { topic: topic.clone() }, now);
            }
            self.held.topics.insert(topic, held);
        }
        self.move_parked(now);
    }

    /// A block of a topic that an earlier run left behind: it is tried at once.
    pub(super) fn rest(&mut self, block: &Block, now: Instant) {
        let topic = block.message(0).map_or_else(String::new, |message| message.topic.to_owned());
        let held = self.held.topics.entry(topic).or_insert_with(|| Topic::new(now, now));
        held.resting.push_back(Resting::Stored(Entry::of(block)));
    }

    /// Moves what was parked, tries topics, and sends what waits for those that take messages again; whether there was
    /// something to do.
    pub(super) fn tend_held(&mut self, now: Instant) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let is_due = self.held.moved.is_none_or(|moved| now.duration_since(moved) >= MOVE);
        if is_due || self.flights.octets() > self.settings.in_flight_octets / 2 {
            self.held.moved = Some(now);
            self.move_parked(now);
        }
        let names: Vec<String> = self.held.due(now).cloned().collect();
        let mut is_busy = false;
        for name in names {
            is_busy |= self.tend_topic(&name, now);
        }
        is_busy
    }

    fn tend_topic(&mut self, name: &str, now: Instant) -> bool {
        let Some(held) = self.held.topics.get(name) else { return false };
        let is_trying = held.due.is_some();
        if held.resting.is_empty() && held.flights.is_empty() {
            let is_stuck = held.due.is_some_and(|due| now >= due + IN_PLACE);
            if !is_trying || is_stuck || held.parked == 0 {
                self.let_go(name, now);
            }
            return false;
        }
        self.load_held(name, is_trying, now);
        let most = if is_trying { 1 } else { HANDED_AT_ONCE };
        self.hand_over_held(name, most, now)
    }

    /// The topic is like any other from now on: what is parked goes on from where it is.
    fn let_go(&mut self, name: &str, now: Instant) {
        let Some(held) = self.held.topics.remove(name) else { return };
        self.flights.unpark(name);
        if held.is_named && held.due.is_none() {
            let lasted = now.duration_since(held.since);
            self.inbox.tell(KafkaEvent::TopicWorks { topic: name.to_owned(), lasted }, now);
        }
    }

    /// Takes blocks of the topic to be sent: one to try it, or as many as have room.
    fn load_held(&mut self, name: &str, is_trying: bool, now: Instant) {
        let mut room = (self.settings.in_flight_octets / 2).saturating_sub(self.held.octets_in_flight());
        while let Some(held) = self.held.topics.get_mut(name) {
            if (room == 0 || is_trying) && !held.flights.is_empty() {
                return;
            }
            let Some(next) = held.resting.pop_front() else { return };
            let (block, stored) = match next {
                Resting::InMemory(block) => (block, false),
                Resting::Stored(entry) => {
                    let Some(spool) = &mut self.disk.spool else {
                        return held.resting.push_front(Resting::Stored(entry));
                    };
                    match spool.read(entry.first) {
                        Ok(Read::Block(block)) if Entry::of(&block) == entry => (block, true),
                        Ok(_) => {
                            self.lose_damaged(&entry, now);
                            continue;
                        }
                        Err(error) => {
                            held.resting.push_front(Resting::Stored(entry));
                            return self.spool_failed(error, now);
                        }
                    }
                }
            };
            room = room.saturating_sub(block.octets().len());
            held.flights.push(block, stored);
        }
    }

    fn hand_over_held(&mut self, name: &str, most: usize, now: Instant) -> bool {
        let mut is_busy = false;
        for _ in 0..most {
            let (Some(producer), Some(held)) = (&self.producer, self.held.topics.get_mut(name)) else {
                break;
            };
            let Some((flight, index)) = held.flights.next_to_hand() else { break };
            let sequence = flight.block.sequence(index);
            let stamp =
                super::producer::Stamp { instance: &self.instance, epoch: flight.block.epoch, sequence };
            let stored = flight.stored;
            let Some(message) = flight.block.message(index) else { break };
            let tally = message.tally;
            let sent = producer.send(&message, &stamp);
            if sent == Err(NotTaken::QueueFull) {
                break;
            }
            *(if stored { &mut self.account.spooled } else { &mut self.account.queued }) -= tally;
            self.account.in_flight += tally;
            held.flights.advance(now);
            if held.due.is_some() {
                held.scout = Some(sequence);
            }
            is_busy = true;
            if let Err(NotTaken::Failed(code)) = sent {
                self.failed(sequence, code, true, now);
                break;
            }
        }
        is_busy
    }

    /// Moves what is left of the oldest blocks to blocks of one topic each.
    pub(super) fn move_parked(&mut self, now: Instant) {
        let mut old = Vec::new();
        let (mut settled_in_spool, mut settled) = (Amount::default(), Amount::default());
        let mut moved: BTreeMap<(String, bool), Vec<Block>> = BTreeMap::new();
        while let Some(flight) = self.flights.take_parked() {
            let Entry { first, mut amount } = Entry::of(&flight.block);
            let (mut parked, mut stuck) = (Tally::ZERO, Tally::ZERO);
            for (sequence, message, is_stuck) in flight.parked() {
                amount.messages -= 1;
                *(if is_stuck { &mut stuck } else { &mut parked }) += message.tally;
                let blocks = moved.entry((message.topic.to_owned(), is_stuck)).or_default();
                match blocks.last_mut() {
                    Some(block) if !block.is_full() && block.epoch == flight.block.epoch => {
                        block.push_with(sequence, &message);
                    }
                    _ => {
                        let mut block = Block::new(flight.block.epoch, sequence);
                        block.push_with(sequence, &message);
                        blocks.push(block);
                    }
                }
            }
            amount.tally -= parked + stuck;
            if flight.stored {
                old.push(first);
                settled_in_spool += amount;
                self.account.spooled -= parked;
                self.account.queued += parked;
            } else {
                settled += amount;
            }
        }
        self.disk.standing.settled += settled;
        for ((name, is_stuck), blocks) in &moved {
            if let Some(held) = self.held.topics.get_mut(name)
                && !is_stuck
            {
                let count = blocks.iter().map(|block| block.count() as usize).sum();
                held.parked = held.parked.saturating_sub(count);
            }
        }
        let (names, blocks): (Vec<(String, bool)>, Vec<Block>) = moved
            .into_iter()
            .flat_map(|(name, blocks)| blocks.into_iter().map(move |block| (name.clone(), block)))
            .unzip();
        if blocks.is_empty() {
            return;
        }
        let stored = self.exchange(&old, settled_in_spool, &blocks, now);
        for ((name, is_stuck), block) in names.into_iter().zip(blocks) {
            let held = self.held.topics.entry(name).or_insert_with(|| Topic::new(now, now));
            if stored {
                self.counts.spooled += u64::from(block.count());
            }
            if is_stuck {
                held.flights.push_handed(block, stored, now);
            } else if stored {
                self.account.queued -= block.tally;
                self.account.spooled += block.tally;
                held.resting.push_back(Resting::Stored(Entry::of(&block)));
            } else {
                held.resting.push_back(Resting::InMemory(block));
            }
        }
        self.keep_bound(now);
    }

    /// Whether the spool has `blocks` now, in the place of the `old` ones.
    fn exchange(&mut self, old: &[u64], settled: Amount, blocks: &[Block], now: Instant) -> bool {
        let is_wanted = self.settings.durability != Durability::Memory;
        while is_wanted && self.disk.can_store(now) {
            let Some(spool) = &mut self.disk.spool else { break };
            let reason = match spool.exchange(old, settled, blocks) {
                Ok(()) => {
                    self.disk.has_grown = true;
                    return true;
                }
                Err(SpoolError::Full) => KafkaLossReason::SpoolBound,
                Err(SpoolError::DiskFull) => KafkaLossReason::DiskFull,
                Err(error) => {
                    self.spool_failed(error, now);
                    break;
                }
            };
            if !blocks.iter().all(|_| self.force_out(reason, now)) {
                break;
            }
        }
        // They rest in memory, and the old ones are no longer needed.
        let Some(spool) = &mut self.disk.spool else {
            self.disk.standing.settled += settled;
            return false;
        };
        let amounts = std::iter::once(settled).chain(std::iter::repeat(Amount::default()));
        for (first, amount) in old.iter().zip(amounts) {
            match spool.remove(&Entry { first: *first, amount }, true) {
                // It is removed when there is room for that.
                Ok(()) | Err(SpoolError::DiskFull) => {}
                Err(error) => {
                    self.spool_failed(error, now);
                    break;
                }
            }
        }
        false
    }

    /// What rests in memory has a bound; the oldest go.
    fn keep_bound(&mut self, now: Instant) {
        let mut octets = self.held.octets_in_memory();
        while octets > self.settings.in_flight_octets / 2 {
            let oldest = self.held.take_oldest(|block| matches!(block, Resting::InMemory(_)));
            let Some(Resting::InMemory(block)) = oldest else { return };
            octets -= block.octets().len();
            self.account.queued -= block.tally;
            self.disk.standing.settled += Entry::of(&block).amount;
            self.account.lose(block.tally, KafkaLossReason::TopicUnavailable);
            let messages = u64::from(block.count());
            self.counts.lost += messages;
            self.inbox.tell(KafkaEvent::HeldLost { messages }, now);
        }
    }
}
