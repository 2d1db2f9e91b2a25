//! Flows in progress: merged from the kernel's deltas, expired by time, evicted for room.
//!
//! A core without I/O and without a clock: time is an argument, in nanoseconds of the monotonic clock.
//! Flows lie in a slab; a hash table finds them by key, and a timer wheel by the time at which they could
//! end. A flow that goes on is not moved on the wheel for each delta: when its bucket is due it is looked
//! at again and, if its time has not come, filed anew.

use std::hash::BuildHasher as _;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use pathflow_common::flow::WideKey;
use pathflow_exporter::FlowEndReason;

use super::timer_wheel::TimerWheel;
use crate::capture::Delta;
use crate::interfaces::MacAddress;

/// FIN or RST: with either of them a TCP flow is at its end.
const TCP_END: u16 = 0x01 | 0x04;
/// Flows that are reserved room for at once.
const RESERVED_FLOWS: u32 = 1 << 20;

/// Flows that a cache of the core holds well: of more, those of a group of deltas are read ahead.
const NEAR_FLOWS: usize = 1024;
/// Words of a line of the cache.
const LINE_WORDS: usize = 8;

/// When flows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A flow that goes on is reported in parts this long (flowActiveTimeout, IE 36).
    pub active: Duration,
    /// A flow without packets for this long is over (flowIdleTimeout, IE 37).
    pub idle: Duration,
    /// A TCP flow with FIN or RST is over when it has been silent for this long: the acknowledgement of a
    /// FIN and retransmissions still belong to it.
    pub tcp_end: Duration,
}

/// A flow in progress, or one that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Key in the common form, without epoch.
    pub key: WideKey,
    /// Layer 3 octets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Time of the first packet, monotonic nanoseconds.
    pub first: u64,
    /// Time of the last packet, monotonic nanoseconds.
    pub last: u64,
    /// TCP control bits of all packets, or-ed.
    pub tcp_control_bits: u16,
    /// As in [`Delta::other_interface`]: the last one that was known.
    pub other_interface: u32,
    /// As in [`Delta::next_hop`], of the same moment.
    pub next_hop: Option<IpAddr>,
    /// As in [`Delta::neighbour`]: the last one that was known.
    pub neighbour: MacAddress,
}

impl Flow {
    fn add(&mut self, delta: &Delta) {
        self.octets += delta.octets;
        self.packets += delta.packets;
        self.first = self.first.min(delta.first);
        self.last = self.last.max(delta.last);
        self.tcp_control_bits |= delta.tcp_control_bits;
        if delta.other_interface != 0 {
            self.other_interface = delta.other_interface;
            self.next_hop = delta.next_hop;
        }
        if delta.neighbour != MacAddress::UNKNOWN {
            self.neighbour = delta.neighbour;
        }
    }
}

impl From<&Delta> for Flow {
    fn from(delta: &Delta) -> Self {
        Self {
            key: delta.key,
            octets: delta.octets,
            packets: delta.packets,
            first: delta.first,
            last: delta.last,
            tcp_control_bits: delta.tcp_control_bits,
            other_interface: delta.other_interface,
            next_hop: delta.next_hop,
            neighbour: delta.neighbour,
        }
    }
}

/// Where a flow cache looks for a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash(u64);

/// The flow cache of one shard.
#[derive(Debug)]
pub struct FlowCache {
    active: u64,
    idle: u64,
    tcp_end: u64,
    limit: usize,
    hasher: RandomState,
    index: HashTable<u32>,
    slab: Vec<Flow>,
    free: Vec<u32>,
    wheel: TimerWheel,
}

impl FlowCache {
    /// Memory for one flow at most, in octets: itself, its place on the wheel, in the index (which is an
    /// eighth empty at least and doubles when it grows) and in the list of free places.
    pub const OCTETS_PER_FLOW: usize = size_of::<Flow>() + 12 + 2 * 5 * 8 / 7 + 4;

    /// An empty cache of at most `limit` flows (at least one).
    #[must_use]
    pub fn new(timeouts: Timeouts, limit: u32) -> Self {
        let nanoseconds = |timeout: Duration| timeout.as_nanos() as u64;
        Self {
            active: nanoseconds(timeouts.active),
            idle: nanoseconds(timeouts.idle),
            tcp_end: nanoseconds(timeouts.tcp_end),
            limit: limit.max(1) as usize,
            hasher: RandomState::default(),
            index: HashTable::new(),
            // Address space only: pages that are never written to take no memory. A larger cache grows.
            slab: Vec::with_capacity(limit.clamp(1, RESERVED_FLOWS) as usize),
            free: Vec::new(),
            wheel: TimerWheel::new(),
        }
    }

    /// Flows in progress.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if no flow is in progress.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Where the flow of a key is looked for.
    #[must_use]
    pub fn hash(&self, key: &WideKey) -> KeyHash {
        KeyHash(self.hasher.hash_one(key.0))
    }

    /// Has the flows of a group of some ten keys read that [`FlowCache::merge_hashed`] is about to look for. A large cache
    /// is in memory, and one flow after the other would be waited for.
    pub fn read_ahead(&self, hashes: impl Iterator<Item = KeyHash>) {
        if self.slab.len() < NEAR_FLOWS {
            return;
        }
        let mut seen = 0;
        for KeyHash(hash) in hashes {
            let flow = self.index.find(hash, |_| true).and_then(|number| self.slab.get(*number as usize));
            if let Some(flow) = flow {
                seen ^= flow.key.0.iter().step_by(LINE_WORDS).fold(flow.last, |seen, word| seen ^ word);
                seen ^= u64::from(flow.other_interface) ^ flow.octets;
            }
        }
        // Nobody asks for it: it is what makes the processor read all of them at once.
        black_box(seen);
    }

    /// Adds a delta to its flow, which begins if it is not in the cache. If that needs room, the flow that
    /// was expected to end first when it was last looked at is evicted and returned: its reason is lack of
    /// resources.
    pub fn merge(&mut self, delta: &Delta) -> Option<Flow> {
        self.merge_hashed(delta, self.hash(&delta.key))
    }

    /// [`FlowCache::merge`], with the hash of the delta's key.
    pub fn merge_hashed(&mut self, delta: &Delta, KeyHash(hash): KeyHash) -> Option<Flow> {
        let slab = &mut self.slab;
        if let Some(&number) = self.index.find(hash, |&number| slab[number as usize].key == delta.key) {
            let flow = &mut slab[number as usize];
            let had_ended = flow.tcp_control_bits & TCP_END != 0;
            flow.add(delta);
            if !had_ended && flow.tcp_control_bits & TCP_END != 0 {
                // Its end came nearer than the bucket it is filed in.
                let end = self.end_of(number);
                self.wheel.remove(number);
                self.wheel.file(number, end);
            }
            return None;
        }
        if self.index.is_empty() {
            // Nothing is on the wheel: it can turn to this moment at once, however long it stood still.
            self.wheel.advance(delta.last);
        }
        let evicted = if self.index.len() >= self.limit { self.evict() } else { None };
        let number = if let Some(number) = self.free.pop() {
            self.slab[number as usize] = Flow::from(delta);
            number
        } else {
            self.slab.push(Flow::from(delta));
            (self.slab.len() - 1) as u32
        };
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.index.insert_unique(hash, number, |&number| hasher.hash_one(slab[number as usize].key.0));
        self.wheel.file(number, self.end_of(number));
        evicted
    }

    /// Takes out the next flow that is over at `now`, and why.
    pub fn expire(&mut self, now: u64) -> Option<(Flow, FlowEndReason)> {
        while let Some(number) = self.wheel.take_due(now) {
            if let Some(reason) = self.reason(number, now) {
                return Some((self.remove(number), reason));
            }
            self.wheel.file(number, self.end_of(number));
        }
        self.wheel.advance(now);
        None
    }

    /// Takes out any flow: for the end of the process.
    pub fn flush(&mut self) -> Option<Flow> {
        self.evict()
    }

    fn evict(&mut self) -> Option<Flow> {
        let number = self.wheel.take_first()?;
        Some(self.remove(number))
    }

    fn remove(&mut self, number: u32) -> Flow {
        let flow = self.slab[number as usize];
        let hash = self.hasher.hash_one(flow.key.0);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
        flow
    }

    /// When the flow ends if nothing more comes.
    fn end_of(&self, number: u32) -> u64 {
        let flow = &self.slab[number as usize];
        let silence =
            if flow.tcp_control_bits & TCP_END == 0 { self.idle } else { self.tcp_end.min(self.idle) };
        flow.last.saturating_add(silence).min(flow.first.saturating_add(self.active))
    }

    fn reason(&self, number: u32, now: u64) -> Option<FlowEndReason> {
        let flow = &self.slab[number as usize];
        let silent_for = now.saturating_sub(flow.last);
        if flow.tcp_control_bits & TCP_END != 0 && silent_for >= self.tcp_end.min(self.idle) {
            Some(FlowEndReason::EndOfFlow)
        } else if silent_for >= self.idle {
            Some(FlowEndReason::IdleTimeout)
        } else if now.saturating_sub(flow.first) >= self.active {
            Some(FlowEndReason::ActiveTimeout)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
