//! Buckets: a few prefixes that begin with the same bits, longest first.
//!
//! Most IPv6 prefixes are /48s, a handful of each provider. Nodes for every four bits would take four looks at memory
//! from a /32 to them, a bucket takes one or two.

use std::sync::atomic::Ordering;

use super::chunks::Chunks;
use super::{EMPTY, PAYLOAD_BITS};

/// Two words for each of 16 entries: 32 bits behind those that all have in common, and a slot.
pub(super) const BUCKET_BITS: u32 = 5;
/// Bits of an address that entries are told apart by.
pub(super) const KEY_BITS: u32 = 32;
/// Prefixes of one bucket. The last entry is the slot of the shorter prefix that covers all of them.
pub(super) const MAX_ENTRIES: usize = 15;

/// Prefix bits and slot.
pub(super) type Entry = (u32, u32);

/// True if the entry's prefix covers `key`; `depth` bits are in common, and up to 32 more.
#[inline]
fn covers(entry: Entry, depth: u32, key: u32) -> bool {
    let length = (entry.1 >> PAYLOAD_BITS).wrapping_sub(depth);
    (entry.0 ^ key) >> (KEY_BITS.wrapping_sub(length) & (KEY_BITS - 1)) == 0
}

/// The slot of the longest prefix that covers `key`.
#[inline]
pub(super) fn search(buckets: &Chunks<BUCKET_BITS>, bucket: u32, depth: u32, key: u32) -> u32 {
    for index in 0..=MAX_ENTRIES {
        let slot = buckets.load(bucket, 2 * index + 1);
        if slot >> PAYLOAD_BITS <= depth || covers((buckets.load(bucket, 2 * index), slot), depth, key) {
            return slot;
        }
    }
    EMPTY
}

/// All entries, and the slot of the shorter prefix behind them.
pub(super) fn read(buckets: &Chunks<BUCKET_BITS>, bucket: u32, depth: u32) -> (Vec<Entry>, u32) {
    let mut entries = Vec::with_capacity(MAX_ENTRIES + 1);
    for index in 0..=MAX_ENTRIES {
        let slot = buckets.load(bucket, 2 * index + 1);
        if slot >> PAYLOAD_BITS <= depth {
            return (entries, slot);
        }
        entries.push((buckets.load(bucket, 2 * index), slot));
    }
    (entries, EMPTY)
}

/// Writes a bucket that no reader sees yet.
pub(super) fn write(buckets: &Chunks<BUCKET_BITS>, bucket: u32, entries: &[Entry], cover: u32) {
    for (index, (key, slot)) in entries.iter().chain([&(0, cover)]).enumerate() {
        for (place, value) in [(2 * index, *key), (2 * index + 1, *slot)] {
            if let Some(word) = buckets.slot(bucket, place) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }
}
