//! Blocks that the producer has, in part or all of it, until every message of them is settled.

use std::{collections::VecDeque, time::Instant};

use super::{Message, block::Block};
use crate::record::Tally;

/// A block with the producer.
#[derive(Debug)]
pub(super) struct Flight {
    pub block: Block,
    /// Whether the spool has a copy.
    pub stored: bool,
    /// It had one, or could have none: it is too late for it.
    pub forced_out: bool,
    /// Since its first message is with the producer.
    pub since: Option<Instant>,
    /// Messages before this one are with the producer, or settled.
    handed: u32,
    settled: Vec<bool>,
    unsettled: u32,
}

impl Flight {
    fn is_settled(&self, index: u32) -> bool {
        self.settled.get(index as usize).copied().unwrap_or(true)
    }

    /// Of those that are not settled: with the producer.
    pub(super) fn handed_over(&self) -> (u64, Tally) {
        self.sum(0..self.handed)
    }

    /// Of those that are not settled: not with the producer.
    pub(super) fn waiting(&self) -> (u64, Tally) {
        self.sum(self.handed..self.block.count())
    }

    fn sum(&self, indexes: std::ops::Range<u32>) -> (u64, Tally) {
        let messages = indexes.filter(|index| !self.is_settled(*index));
        messages
            .filter_map(|index| self.block.message(index))
            .fold((0, Tally::ZERO), |(count, sum), message| (count + 1, sum + message.tally))
    }
}

/// All of them, in order of sequence numbers.
#[derive(Debug, Default)]
pub(super) struct Flights {
    list: VecDeque<Flight>,
    /// The first that is not all with the producer.
    cursor: usize,
    octets: usize,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Octets of the blocks.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    pub(super) fn oldest(&self) -> Option<&Flight> {
        self.list.front()
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
        let settled = vec![false; count as usize];
        self.list.push_back(Flight {
            block,
            stored,
            forced_out: false,
            since: None,
            handed: 0,
            settled,
            unsettled: count,
        });
    }

    /// The next message for the producer.
    pub(super) fn next_to_hand(&mut self) -> Option<(&mut Flight, u32)> {
        loop {
            let flight = self.list.get(self.cursor)?;
            let (handed, count) = (flight.handed, flight.block.count());
            let next = (handed..count).find(|index| !flight.is_settled(*index));
            let flight = self.list.get_mut(self.cursor)?;
            flight.handed = next.unwrap_or(count);
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
            flight.handed += 1;
            flight.since.get_or_insert(now);
        }
    }

    /// The message with this number, if it is not settled.
    pub(super) fn find(&self, sequence: u64) -> Option<(&Flight, Message<'_>)> {
        let (place, index) = self.place(sequence)?;
        let flight = self.list.get(place)?;
        if flight.is_settled(index) {
            return None;
        }
        Some((flight, flight.block.message(index)?))
    }

    /// The message with this number needs no more care.
    pub(super) fn settle(&mut self, sequence: u64) {
        let Some((place, index)) = self.place(sequence) else { return };
        let Some(flight) = self.list.get_mut(place) else { return };
        if let Some(settled) = flight.settled.get_mut(index as usize)
            && !std::mem::replace(settled, true)
        {
            flight.unsettled -= 1;
        }
    }

    fn place(&self, sequence: u64) -> Option<(usize, u32)> {
        let place = self.list.partition_point(|flight| flight.block.first <= sequence).checked_sub(1)?;
        let index = sequence - self.list.get(place)?.block.first;
        Some((place, u32::try_from(index).ok()?))
    }

    /// Takes out a block of which every message is settled. Blocks leave in any order: one that waits for a missing
    /// topic does not hold the others.
    pub(super) fn take_settled(&mut self) -> Option<Flight> {
        let place = match self.list.front() {
            Some(flight) if flight.unsettled == 0 => 0,
            _ => self.list.iter().position(|flight| flight.unsettled == 0)?,
        };
        let flight = self.list.remove(place)?;
        self.octets -= flight.block.octets().len();
        if place < self.cursor {
            self.cursor -= 1;
        }
        Some(flight)
    }

    /// Everything that is not settled is to be handed over again.
    pub(super) fn restart(&mut self) {
        self.cursor = 0;
        for flight in &mut self.list {
            flight.handed = 0;
        }
    }

    /// Takes out everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Flight> {
        self.octets = 0;
        self.cursor = 0;
        std::mem::take(&mut self.list).into_iter()
    }
}
