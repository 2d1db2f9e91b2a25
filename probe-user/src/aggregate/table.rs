//! The table of an aggregate: one row for each key, up to a limit.
//!
//! Counters and key of a row lie side by side in one slab of words, and a hash table finds them by key: a delta costs
//! one look into each. What finds no room is not added, and the caller says what becomes of it.
//!
//! A large table is in memory and not in a cache, and a row is anywhere in it. So keys are staged in groups, the rows of
//! a group are read without waiting for one another, and only then counted.

use std::hash::BuildHasher as _;
use std::hint::black_box;
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
/// Bits of the word with the number of flows that are TCP flags, below them those inside tunnels.
const FLAG_BITS: u32 = 16;

/// Words of a slab that a cache of the core holds well: beyond it, rows are read before they are counted.
const NEAR_WORDS: usize = 32 * 1024;
/// Words of a line of the cache.
const LINE_WORDS: usize = 8;

/// Values that a table of few rows may keep: some of them are only passed by.
const LEAST_INTERNED: usize = 4096;

/// Rows by key, and what their keys refer to.
#[derive(Debug)]
pub(super) struct Table {
    layout: Arc<KeyLayout>,
    rows: Rows,
    interned: Interned,
    buffer: KeyBuffer,
    staged: Vec<Staged>,
    /// Their keys, one after the other.
    staged_keys: Vec<u64>,
}

/// A delta that is not counted yet.
#[derive(Clone, Copy, Debug)]
struct Staged {
    /// Of its key.
    hash: u64,
    counters: Counters,
    /// The row that is its own most likely.
    row: Option<u32>,
}

#[derive(Debug)]
struct Rows {
    /// At most.
    limit: usize,
    /// Words of a row.
    stride: usize,
    hasher: RandomState,
    index: HashTable<u32>,
    slab: Vec<u64>,
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
    pub(super) tunnel_tcp_flags: u8,
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
            tunnel_tcp_flags: observed.inner_tcp_control_bits as u8,
        }
    }

    fn read(words: &[u64]) -> Self {
        let [packets, octets, first, last, more] = words.first_chunk().copied().unwrap_or_default();
        let (tcp_flags, tunnel_tcp_flags) = ((more >> 8) as u8, more as u8);
        Self { packets, octets, first, last, flows: more >> FLAG_BITS, tcp_flags, tunnel_tcp_flags }
    }

    const fn words(self) -> [u64; COUNTER_WORDS] {
        let more = self.flows << FLAG_BITS | (self.tcp_flags as u64) << 8 | self.tunnel_tcp_flags as u64;
        [self.packets, self.octets, self.first, self.last, more]
    }

    const fn amount(&self) -> Amount {
        Amount { packets: self.packets, octets: self.octets }
    }

    fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.octets = self.octets.wrapping_add(other.octets);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.flows = self.flows.wrapping_add(other.flows);
        self.tcp_flags |= other.tcp_flags;
        self.tunnel_tcp_flags |= other.tunnel_tcp_flags;
    }
}

impl Rows {
    /// Finds the rows that are most likely those of `staged`, and has them read if they are far away.
    fn look_up(&self, staged: &mut [Staged]) {
        for one in &mut *staged {
            one.row = self.index.find(one.hash, |_| true).copied();
        }
        if self.slab.len() < NEAR_WORDS {
            return;
        }
        let mut seen = 0;
        for number in staged.iter().filter_map(|one| one.row) {
            let start = number as usize * self.stride;
            let row = self.slab.get(start..start + self.stride).unwrap_or_default();
            seen ^= row.iter().step_by(LINE_WORDS).chain(row.last()).fold(0, |seen, word| seen ^ word);
        }
        // Nobody asks for it: it is what makes the processor read all of them at once.
        black_box(seen);
    }

    /// False if it needs a row and there is no room.
    fn count(&mut self, key: &[u64], staged: &Staged) -> bool {
        let Self { limit, stride, hasher, index, slab, amount } = self;
        let (limit, stride) = (*limit, *stride);
        let Staged { hash, counters, row } = *staged;
        let is_own = |number: &u32| key_of(slab, stride, *number) == key;
        if let Some(number) = row.filter(is_own).or_else(|| index.find(hash, is_own).copied()) {
            let words = &mut slab[number as usize * stride..][..COUNTER_WORDS];
            let mut sum = Counters::read(words);
            sum.add(counters);
            words.copy_from_slice(&sum.words());
        } else if index.len() < limit {
            let number = index.len() as u32;
            index.insert_unique(hash, number, |number| hasher.hash_one(key_of(slab, stride, *number)));
            slab.extend_from_slice(&counters.words());
            slab.extend_from_slice(key);
        } else {
            return false;
        }
        amount.add(counters.amount());
        true
    }

    /// Counts one that was not staged.
    fn count_now(&mut self, key: &[u64], counters: Counters) -> bool {
        let hash = self.hasher.hash_one(key);
        self.count(key, &Staged { hash, counters, row: None })
    }
}

fn key_of(slab: &[u64], stride: usize, number: u32) -> &[u64] {
    let start = number as usize * stride;
    &slab[start + COUNTER_WORDS..start + stride]
}

impl Table {
    /// An empty table of at most `limit` rows.
    pub(super) fn new(layout: Arc<KeyLayout>, limit: usize) -> Self {
        let rows = Rows {
            limit: limit.clamp(2, u32::MAX as usize),
            stride: COUNTER_WORDS + layout.words(),
            hasher: RandomState::default(),
            index: HashTable::new(),
            slab: Vec::new(),
            amount: Amount::default(),
        };
        Self {
            layout,
            rows,
            interned: Interned::default(),
            buffer: KeyBuffer::new(),
            staged: Vec::new(),
            staged_keys: Vec::new(),
        }
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.rows.index.len()
    }

    /// What is in all rows together, with their number.
    pub(super) fn tally(&self) -> Tally {
        let Amount { packets, octets } = self.rows.amount;
        Tally { records: self.len() as u64, packets, octets }
    }

    pub(super) fn layout(&self) -> &KeyLayout {
        &self.layout
    }

    pub(super) const fn interned(&self) -> &Interned {
        &self.interned
    }

    /// Whether so many rows more would find room.
    pub(super) fn has_room(&self, rows: usize) -> bool {
        self.len() + rows <= self.rows.limit && self.interned.len() < self.most_interned()
    }

    /// Whether the rows of so many deltas more would find room, and all that their keys refer to.
    pub(super) fn has_room_for(&self, deltas: usize) -> bool {
        let rows = deltas * self.layout.ends().len();
        let values = rows * self.layout.interned();
        self.len() + rows <= self.rows.limit && self.interned.len() + values <= self.most_interned()
    }

    /// Stages `amount` of a delta for [`Table::count_staged`]; false if that needs a row and there is no room.
    pub(super) fn stage(&mut self, part: &Part<'_>, amount: Amount, names: &InterfaceTexts) -> bool {
        // A row that is there has only values that are there.
        self.interned.set_closed(self.interned.len() >= self.most_interned());
        let words = self.layout.words();
        let start = self.staged.len() * words;
        if self.staged_keys.len() < start + words {
            self.staged_keys.resize(start + words, 0);
        }
        let key = &mut self.staged_keys[start..start + words];
        self.layout.project(key, part, &mut self.interned, names);
        if self.interned.has_refused() {
            return false;
        }
        let hash = self.rows.hasher.hash_one(&*key);
        self.staged.push(Staged { hash, counters: Counters::of(part.observed, amount), row: None });
        true
    }

    /// Deltas that are staged.
    pub(super) const fn staged(&self) -> usize {
        self.staged.len()
    }

    /// Counts what is staged; returns what needs a row and finds no room.
    pub(super) fn count_staged(&mut self) -> Amount {
        let Self { layout, rows, staged, staged_keys, .. } = self;
        let mut without_room = Amount::default();
        rows.look_up(staged);
        for (one, key) in staged.iter().zip(staged_keys.chunks_exact(layout.words())) {
            if !rows.count(key, one) {
                without_room.add(one.counters.amount());
            }
        }
        staged.clear();
        without_room
    }

    /// Adds a row of `other`, which is of the same layout; false if that needs a row and there is no room.
    pub(super) fn absorb(&mut self, other: &Self, counters: Counters, key: &[u64]) -> bool {
        if self.has_room(1) {
            return self.copy(other, counters, key);
        }
        // A row that is there has only values that are there. Those of others would fill up what is kept.
        let key = self.buffer.copy(key);
        let find = |number, kept| self.interned.find(&other.interned, number, kept);
        self.layout.renumber(key, find) && self.rows.count_now(key, counters)
    }

    fn copy(&mut self, other: &Self, counters: Counters, key: &[u64]) -> bool {
        let key = self.buffer.copy(key);
        let adopt = |number, kept| Some(self.interned.adopt(&other.interned, number, kept));
        self.layout.renumber(key, adopt) && self.rows.count_now(key, counters)
    }

    /// Values that are kept at most, beside the rows.
    fn most_interned(&self) -> usize {
        self.rows.limit.max(LEAST_INTERNED)
    }

    /// Counters and key of a row, if there is one with this number.
    pub(super) fn row(&self, number: usize) -> Option<(Counters, &[u64])> {
        let stride = self.rows.stride;
        let row = self.rows.slab.get(number * stride..(number + 1) * stride)?;
        let (counters, key) = row.split_at(COUNTER_WORDS);
        Some((Counters::read(counters), key))
    }

    /// Forgets all rows and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.rows.index.clear();
        self.rows.slab.clear();
        self.rows.amount = Amount::default();
        self.interned.clear();
    }

    /// Moves the rows of bins that begin at `time` or later to `other`, which is of the same layout.
    pub(super) fn move_later(&mut self, time: u64, other: &mut Self) {
        let is_later = |key: &[u64]| KeyLayout::bin(key) >= time;
        let numbers = || (0..self.len()).filter_map(|number| self.row(number));
        if !numbers().any(|(_, key)| is_later(key)) {
            return;
        }
        // Rare: only where one shard is ahead of another.
        let mut earlier = Self::new(Arc::clone(&self.layout), self.rows.limit);
        for (counters, key) in numbers() {
            let into = if is_later(key) { &mut *other } else { &mut earlier };
            // There is room: it has no more rows than this table.
            into.copy(self, counters, key);
        }
        *self = earlier;
    }
}
