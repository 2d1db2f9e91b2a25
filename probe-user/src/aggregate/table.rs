//! The table of an aggregate: one row for each key, up to a limit.
//!
//! Counters and key of a row lie side by side in one slab of words, and a hash table finds them by key: a delta costs
//! one look into each. What finds no room is not added, and the caller says what becomes of it.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use pathflow_exporter::Tally;

use super::intern::Interned;
use super::key::{InterfaceTexts, KeyBuffer, KeyLayout, Part};
use super::observed::Observed;
use crate::ledger::Amount;

/// Words of counters in front of the key.
const COUNTER_WORDS: usize = 5;
/// Bits of the word with the number of flows that are TCP flags.
const FLAG_BITS: u32 = 8;

/// Values that a table of few rows may keep: some of them are only passed by.
const LEAST_INTERNED: usize = 4096;

/// Rows by key.
#[derive(Debug)]
pub(super) struct Table {
    layout: Arc<KeyLayout>,
    limit: usize,
    hasher: RandomState,
    index: HashTable<u32>,
    slab: Vec<u64>,
    interned: Interned,
    buffer: KeyBuffer,
    amount: Amount,
}

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) packets: u64,
    pub(super) octets: u64,
    /// Microseconds since the Unix epoch.
    pub(super) first: u64,
    /// Microseconds since the Unix epoch.
    pub(super) last: u64,
    /// Flows that began.
    pub(super) flows: u64,
    pub(super) tcp_flags: u8,
}

impl Counters {
    /// Of a delta of which `amount` counts.
    fn of(observed: &Observed, amount: Amount) -> Self {
        Self {
            packets: amount.packets,
            octets: amount.octets,
            first: observed.start,
            last: observed.end,
            flows: observed.begins.into(),
            // Binary formats and pmacct know eight of them.
            tcp_flags: observed.record.tcp_control_bits as u8,
        }
    }

    fn read(words: &[u64]) -> Self {
        let [packets, octets, first, last, more] = words.first_chunk().copied().unwrap_or_default();
        Self { packets, octets, first, last, flows: more >> FLAG_BITS, tcp_flags: more as u8 }
    }

    const fn words(self) -> [u64; COUNTER_WORDS] {
        let more = self.flows << FLAG_BITS | self.tcp_flags as u64;
        [self.packets, self.octets, self.first, self.last, more]
    }

    fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.octets = self.octets.wrapping_add(other.octets);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.flows = self.flows.wrapping_add(other.flows);
        self.tcp_flags |= other.tcp_flags;
    }
}

impl Table {
    /// An empty table of at most `limit` rows.
    pub(super) fn new(layout: Arc<KeyLayout>, limit: usize) -> Self {
        Self {
            layout,
            limit: limit.clamp(2, u32::MAX as usize),
            hasher: RandomState::default(),
            index: HashTable::new(),
            slab: Vec::new(),
            interned: Interned::default(),
            buffer: KeyBuffer::new(),
            amount: Amount::default(),
        }
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// What is in all rows together, with their number.
    pub(super) fn tally(&self) -> Tally {
        Tally { records: self.len() as u64, packets: self.amount.packets, octets: self.amount.octets }
    }

    pub(super) fn layout(&self) -> &KeyLayout {
        &self.layout
    }

    pub(super) const fn interned(&self) -> &Interned {
        &self.interned
    }

    /// Whether so many rows more would find room.
    pub(super) fn has_room(&self, rows: usize) -> bool {
        self.len() + rows <= self.limit && self.interned.len() < self.most_interned()
    }

    /// Counts `amount` of a delta; false if that needs a row and there is no room.
    pub(super) fn add(&mut self, part: &Part<'_>, amount: Amount, names: &InterfaceTexts) -> bool {
        if self.interned.len() >= self.most_interned() {
            return false;
        }
        let layout = Arc::clone(&self.layout);
        let mut buffer = std::mem::replace(&mut self.buffer, KeyBuffer::new());
        let key = layout.project(&mut buffer, part, &mut self.interned, names);
        let is_added = self.count(key, Counters::of(part.observed, amount));
        self.buffer = buffer;
        is_added
    }

    /// Values that are kept at most, beside the rows.
    fn most_interned(&self) -> usize {
        self.limit.max(LEAST_INTERNED)
    }

    fn count(&mut self, key: &[u64], counters: Counters) -> bool {
        let stride = COUNTER_WORDS + self.layout.words();
        let Self { index, slab, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        let key_of =
            |number: u32| &slab[number as usize * stride + COUNTER_WORDS..][..stride - COUNTER_WORDS];
        let amount = Amount { packets: counters.packets, octets: counters.octets };
        if let Some(&number) = index.find(hash, |number| key_of(*number) == key) {
            let words = &mut slab[number as usize * stride..][..COUNTER_WORDS];
            let mut sum = Counters::read(words);
            sum.add(counters);
            words.copy_from_slice(&sum.words());
        } else if index.len() < self.limit {
            let number = index.len() as u32;
            index.insert_unique(hash, number, |number| hasher.hash_one(key_of(*number)));
            slab.extend_from_slice(&counters.words());
            slab.extend_from_slice(key);
        } else {
            return false;
        }
        self.amount.add(amount);
        true
    }

    /// Counters and key of a row, if there is one with this number.
    pub(super) fn row(&self, number: usize) -> Option<(Counters, &[u64])> {
        let stride = COUNTER_WORDS + self.layout.words();
        let (counters, key) = self.slab.get(number * stride..(number + 1) * stride)?.split_at(COUNTER_WORDS);
        Some((Counters::read(counters), key))
    }

    /// Forgets all rows and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.slab.clear();
        self.interned.clear();
        self.amount = Amount::default();
    }

    /// Moves the rows of bins that begin at `time` or later to `other`, which is of the same layout.
    pub(super) fn move_later(&mut self, time: u64, other: &mut Self) {
        let is_later = |key: &[u64]| KeyLayout::bin(key) >= time;
        if !self.rows().any(|(_, key)| is_later(key)) {
            return;
        }
        // Rare: only where one shard is ahead of another.
        let mut earlier = Self::new(Arc::clone(&self.layout), self.limit);
        for (counters, key) in self.rows() {
            let into = if is_later(key) { &mut *other } else { &mut earlier };
            let mut key = key.to_vec();
            self.layout.adopt(&mut key, &self.interned, &mut into.interned);
            into.count(&key, counters);
        }
        *self = earlier;
    }

    fn rows(&self) -> impl Iterator<Item = (Counters, &[u64])> {
        (0..self.len()).filter_map(|number| self.row(number))
    }
}
