//! Blocks that the producer has, in part or all of it, until every message of them is settled.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{Message, block::Block};
use crate::record::Tally;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Next for the producer.
    Waiting,
    /// With the producer, or about to be sent again.
    Handed,
    /// Its topic takes nothing.
    Parked,
    /// With the producer, which can do nothing with it for now; about to move to a block of its topic alone.
    Stuck,
    /// It needs no more care.
    Settled,
}

/// A block with the producer.
#[derive(Debug)]
pub(super) struct Flight {
    pub block: Block,
    /// Whether the spool has a copy.
    pub stored: bool,
    /// It had one, or could have none: it is too late for it.
    pub forced_out: bool,
    /// Since its first message was with the producer.
    pub since: Option<Instant>,
    /// No message before this one waits.
    next: u32,
    states: Vec<State>,
    unsettled: u32,
    parked: u32,
}

impl Flight {
    fn state(&self, index: u32) -> State {
        self.states.get(index as usize).copied().unwrap_or(State::Settled)
    }

    fn set(&mut self, index: u32, state: State) {
        let Some(place) = self.states.get_mut(index as usize) else { return };
        let was = std::mem::replace(place, state);
        self.unsettled -= u32::from(was != State::Settled);
        self.unsettled += u32::from(state != State::Settled);
        let is_aside = |state| matches!(state, State::Parked | State::Stuck);
        self.parked -= u32::from(is_aside(was));
        self.parked += u32::from(is_aside(state));
        if state == State::Waiting {
            self.next = self.next.min(index);
        }
    }

    /// Whether nothing of it is settled or with the producer.
    fn is_untouched(&self) -> bool {
        self.states.iter().all(|state| *state == State::Waiting)
    }

    /// Whether some of it is settled.
    fn is_partial(&self) -> bool {
        self.unsettled < self.block.count()
    }

    /// All that is left of it is to move to other blocks.
    pub(super) fn park_all(&mut self) {
        for index in 0..self.block.count() {
            if self.state(index) != State::Settled {
                self.set(index, State::Parked);
            }
        }
    }

    /// Whether all that is left of it is of topics that take nothing.
    fn is_parked(&self) -> bool {
        self.unsettled > 0 && self.unsettled == self.parked
    }

    /// What is with the producer.
    pub(super) fn handed_over(&self) -> (u64, Tally) {
        self.sum(|state| matches!(state, State::Handed | State::Stuck))
    }

    /// What is not with the producer, and not settled.
    pub(super) fn waiting(&self) -> (u64, Tally) {
        self.sum(|state| matches!(state, State::Waiting | State::Parked))
    }

    fn sum(&self, is_meant: fn(State) -> bool) -> (u64, Tally) {
        let messages = (0..self.block.count()).filter(|index| is_meant(self.state(*index)));
        messages
            .filter_map(|index| self.block.message(index))
            .fold((0, Tally::ZERO), |(count, sum), message| (count + 1, sum + message.tally))
    }

    /// What its topic does not take, with sequence numbers, and whether the producer has it.
    pub(super) fn parked(&self) -> impl Iterator<Item = (u64, Message<'_>, bool)> {
        (0..self.block.count()).filter_map(|index| {
            let is_stuck = match self.state(index) {
                State::Parked => false,
                State::Stuck => true,
                _ => return None,
            };
            Some((self.block.sequence(index), self.block.message(index)?, is_stuck))
        })
    }

    /// Whether it has been with the producer since before `time`.
    fn is_older(&self, time: Instant) -> bool {
        self.since.is_some_and(|since| since <= time)
    }
}

/// All of them, in order of sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Flights {
    list: VecDeque<Flight>,
    /// No message of those before this one waits.
    cursor: usize,
    octets: usize,
    /// Blocks of which every message is settled: in an outage there may be many blocks, and none of these.
    settled: usize,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Octets of the blocks.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// The oldest of which a message is with the producer, as far as that is known without a search, or waits for it.
    pub(super) fn oldest(&self) -> Option<&Flight> {
        self.list.iter().find(|flight| flight.unsettled > flight.parked)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.list.iter_mut()
    }

    pub(super) fn push(&mut self, block: Block, stored: bool) {
        let count = block.count();
        self.octets += block.octets().len();
        let states = vec![State::Waiting; count as usize];
        // At the end but for what failed while others were stuck.
        let place = self.list.partition_point(|flight| flight.block.first <= block.first);
        if place < self.list.len() {
            self.cursor = self.cursor.min(place);
        }
        let flight = Flight {
            block,
            stored,
            forced_out: false,
            since: None,
            next: 0,
            states,
            unsettled: count,
            parked: 0,
        };
        self.list.insert(place, flight);
    }

    /// The next message for the producer.
    pub(super) fn next_to_hand(&mut self) -> Option<(&mut Flight, u32)> {
        loop {
            let flight = self.list.get_mut(self.cursor)?;
            let count = flight.block.count();
            let next = (flight.next..count).find(|index| flight.state(*index) == State::Waiting);
            flight.next = next.unwrap_or(count);
            if let Some(index) = next {
                // The borrow checker wants the flight once more.
                return self.list.get_mut(self.cursor).map(|flight| (flight, index));
            }
            self.cursor += 1;
        }
    }

    /// The message of the last [`next_to_hand`](Self::next_to_hand) is with the producer.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some(flight) = self.list.get_mut(self.cursor) {
            flight.set(flight.next, State::Handed);
            flight.next += 1;
            flight.since.get_or_insert(now);
        }
    }

    /// The message of the last [`next_to_hand`](Self::next_to_hand) is for a topic that takes nothing.
    pub(super) fn park_next(&mut self) {
        if let Some(flight) = self.list.get_mut(self.cursor) {
            flight.set(flight.next, State::Parked);
            flight.next += 1;
        }
    }

    /// The message with this number is for a topic that takes nothing.
    pub(super) fn park(&mut self, sequence: u64) {
        self.set(sequence, State::Parked);
    }

    /// Of the blocks that the producer has had since before `time`: the topics of all messages, each with the first of
    /// those that it has not confirmed.
    pub(super) fn late_topics(&self, time: Instant) -> BTreeMap<&str, Option<u64>> {
        let mut topics = BTreeMap::new();
        for flight in self.list.iter().filter(|flight| flight.is_older(time)) {
            for index in 0..flight.block.count() {
                let Some(message) = flight.block.message(index) else { continue };
                let late = topics.entry(message.topic).or_insert(None);
                if flight.state(index) == State::Handed && late.is_none() {
                    *late = Some(flight.block.sequence(index));
                }
            }
        }
        topics
    }

    /// What the producer has of `topic` is to move aside.
    pub(super) fn set_stuck(&mut self, topic: &str) {
        for flight in &mut self.list {
            for index in 0..flight.block.count() {
                if flight.state(index) == State::Handed
                    && flight.block.message(index).is_some_and(|message| message.topic == topic)
                {
                    flight.set(index, State::Stuck);
                }
            }
        }
    }

    /// Adds a block that the producer has.
    pub(super) fn push_handed(&mut self, block: Block, stored: bool, now: Instant) {
        self.push(block, stored);
        if let Some(flight) = self.list.back_mut() {
            flight.states.fill(State::Handed);
            flight.next = flight.block.count();
            flight.since = Some(now);
        }
    }

    /// What was parked for `topic` is for the producer again.
    pub(super) fn unpark(&mut self, topic: &str) {
        for (place, flight) in self.list.iter_mut().enumerate().filter(|(_, flight)| flight.parked > 0) {
            for index in 0..flight.block.count() {
                if flight.state(index) == State::Parked
                    && flight.block.message(index).is_some_and(|message| message.topic == topic)
                {
                    flight.set(index, State::Waiting);
                    self.cursor = self.cursor.min(place);
                }
            }
        }
    }

    /// The blocks of which some is settled, and those before them.
    pub(super) fn remains(&mut self) -> impl Iterator<Item = &mut Flight> {
        let end = self.list.iter().rposition(Flight::is_partial).map_or(0, |last| last + 1);
        self.list.iter_mut().take(end)
    }

    /// The message with this number is for the producer again.
    pub(super) fn put_back(&mut self, sequence: u64) {
        if let Some(place) = self.set(sequence, State::Waiting) {
            self.cursor = self.cursor.min(place);
        }
    }

    /// The message with this number, if it is not settled.
    pub(super) fn find(&self, sequence: u64) -> Option<(&Flight, Message<'_>)> {
        let (place, index) = self.place(sequence)?;
        let flight = self.list.get(place)?;
        if flight.state(index) == State::Settled {
            return None;
        }
        Some((flight, flight.block.message(index)?))
    }

    /// The message with this number needs no more care.
    pub(super) fn settle(&mut self, sequence: u64) {
        let Some((place, index)) = self.place(sequence) else { return };
        let Some(flight) = self.list.get_mut(place) else { return };
        if flight.state(index) != State::Settled {
            flight.set(index, State::Settled);
            self.settled += usize::from(flight.unsettled == 0);
        }
    }

    fn set(&mut self, sequence: u64, state: State) -> Option<usize> {
        let (place, index) = self.place(sequence)?;
        self.list.get_mut(place)?.set(index, state);
        Some(place)
    }

    fn place(&self, sequence: u64) -> Option<(usize, u32)> {
        let end = self.list.partition_point(|flight| flight.block.first <= sequence);
        // Blocks of remains may overlap: what failed while others were stuck is in a later one.
        let mut places = (0..end).rev();
        places.find_map(|place| Some((place, self.list.get(place)?.block.place_of(sequence)?)))
    }

    /// Takes out a block of which every message is settled. Blocks leave in any order.
    pub(super) fn take_settled(&mut self) -> Option<Flight> {
        if self.settled == 0 {
            return None;
        }
        let place = match self.list.front() {
            Some(flight) if flight.unsettled == 0 => 0,
            _ => self.list.iter().position(|flight| flight.unsettled == 0)?,
        };
        self.take(place)
    }

    /// Takes out the oldest block if all that is left of it is of topics that take nothing. In order: what a topic gets
    /// when it takes messages again must not overtake what is left of older blocks.
    pub(super) fn take_parked(&mut self) -> Option<Flight> {
        if self.list.front()?.is_parked() { self.take(0) } else { None }
    }

    /// Takes out the only block if nothing of it is settled or with the producer.
    pub(super) fn take_untouched(&mut self) -> Option<Flight> {
        if self.list.len() == 1 && self.list.front()?.is_untouched() { self.take(0) } else { None }
    }

    fn take(&mut self, place: usize) -> Option<Flight> {
        let flight = self.list.remove(place)?;
        self.octets -= flight.block.octets().len();
        if flight.unsettled == 0 {
            self.settled = self.settled.saturating_sub(1);
        }
        if place < self.cursor {
            self.cursor -= 1;
        }
        Some(flight)
    }

    /// What is with the producer is to be handed over again.
    pub(super) fn restart(&mut self) {
        self.cursor = 0;
        for flight in &mut self.list {
            for index in 0..flight.block.count() {
                if matches!(flight.state(index), State::Handed | State::Stuck) {
                    flight.set(index, State::Waiting);
                }
            }
            flight.next = 0;
        }
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Flight> {
        self.octets = 0;
        self.cursor = 0;
        self.settled = 0;
        std::mem::take(&mut self.list).into_iter()
    }
}
