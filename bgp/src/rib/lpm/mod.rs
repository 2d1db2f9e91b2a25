//! Longest-prefix match without locks: one writer changes slots in place while readers look them up.
//!
//! A root of 2^24 slots answers for the first 24 bits (DIR-24-8, Gupta, Lin and `McKeown` 1998); below are nodes of 256
//! slots. IPv6 goes on with buckets of a few prefixes, and where those are full, nodes of 16 slots with buckets below.
//! Each slot has the whole answer, so a lookup ends at the first slot that is no pointer. Where that one is empty, a
//! shorter prefix has the answer: a node below the root has a slot of its own, its cover, for prefixes of up to 24 bits,
//! and the shortest prefixes are in a table of their own. A default route, or a /9 above many nodes, that changes would
//! rewrite everything otherwise.
//!
//! Every slot changes from one right answer to the next by one store. A reader gets what was right at some moment
//! during its lookup.

mod bucket;
mod chunks;
mod huge_pages;
mod writer;

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::zeroed_slice_box;

use bucket::{BUCKET_BITS, search};
use chunks::{Chunks, LINE_BITS};
pub(super) use writer::LpmWriter;

/// A slot: length of the prefix in the upper 8 bits, payload in the others; 0 is empty.
pub(super) const PAYLOAD_BITS: u32 = 24;
/// In place of the length: the payload is the number of a node.
const POINTER: u32 = 255;
/// In place of the length: the payload is the number of a bucket.
const BUCKET: u32 = 254;
const EMPTY: u32 = 0;

const ROOT_BITS: u32 = 24;
const WIDE_BITS: u32 = 8;
const NARROW_BITS: u32 = 4;
/// About as many nodes and buckets as there may be: 256 MiB each.
const MAX_WIDE: u32 = 1 << 18;
const MAX_NARROW: u32 = 1 << 22;
const MAX_BUCKETS: u32 = 1 << 21;

/// Bits of an IPv4 address that the table of short prefixes resolves.
pub(super) const SHORT_IPV4: u32 = 8;
/// The same for IPv6, where registries get /12 prefixes.
pub(super) const SHORT_IPV6: u32 = 12;
/// Addresses of a batch that are looked up side by side.
const SIDE_BY_SIDE: usize = 32;

fn is_pointer(slot: u32) -> bool {
    slot >> PAYLOAD_BITS == POINTER
}

fn payload(slot: u32) -> u32 {
    slot & ((1 << PAYLOAD_BITS) - 1)
}

fn is_bucket(slot: u32) -> bool {
    slot >> PAYLOAD_BITS == BUCKET
}

/// No node can be had: the table has as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What readers see of a table. An address is the first bits of 128 on the writer's side.
#[derive(Debug)]
pub(super) struct Lpm {
    short_bits: u32,
    short: Box<[AtomicU32]>,
    root: Box<[AtomicU32]>,
    wide: Chunks<WIDE_BITS>,
    /// The cover of each wide node.
    covers: Chunks<LINE_BITS>,
    narrow: Chunks<NARROW_BITS>,
    buckets: Chunks<BUCKET_BITS>,
}

impl Lpm {
    fn new(short_bits: u32) -> Self {
        Self {
            short_bits,
            short: zeroed_slice_box(1 << short_bits),
            // Pages that no route touches take no memory.
            root: zeroed_slice_box(1 << ROOT_BITS),
            wide: Chunks::new(MAX_WIDE),
            covers: Chunks::new(MAX_WIDE >> LINE_BITS),
            narrow: Chunks::new(MAX_NARROW),
            buckets: Chunks::new(MAX_BUCKETS),
        }
    }

    #[inline]
    fn root(&self, index: u32) -> u32 {
        self.root.get(index as usize).map_or(EMPTY, |slot| slot.load(Ordering::Acquire))
    }

    #[inline]
    fn wide(&self, pointer: u32, index: u32) -> u32 {
        self.wide.load(payload(pointer), index as usize)
    }

    /// The slot for addresses that no prefix in a wide node covers.
    fn cover(&self, pointer: u32) -> Option<&AtomicU32> {
        self.cover_of(payload(pointer))
    }

    fn cover_of(&self, node: u32) -> Option<&AtomicU32> {
        self.covers.slot(node >> LINE_BITS, node as usize)
    }

    #[inline]
    fn narrow(&self, pointer: u32, index: u32) -> u32 {
        self.narrow.load(payload(pointer), index as usize)
    }

    /// The answer of prefixes of up to 24 bits for a slot of the root, `short` if there is none.
    fn above(&self, index: u32, short: u32) -> u32 {
        let slot = self.root(index);
        let cover = if is_pointer(slot) {
            self.cover(slot).map_or(EMPTY, |cover| cover.load(Ordering::Acquire))
        } else {
            slot
        };
        if cover == EMPTY { short } else { cover }
    }

    fn short(&self, index: u32) -> u32 {
        self.short.get(index as usize).map_or(EMPTY, |slot| slot.load(Ordering::Acquire))
    }

    /// The slot of an IPv4 address; 0 if there is no route.
    #[inline]
    pub(super) fn lookup_ipv4(&self, address: u32) -> u32 {
        self.finish_ipv4(address, self.root(address >> 8))
    }

    #[inline]
    fn finish_ipv4(&self, address: u32, mut slot: u32) -> u32 {
        if is_pointer(slot) {
            slot = self.wide(slot, address & 0xff);
        }
        if slot == EMPTY { self.above_ipv4(address) } else { slot }
    }

    #[cold]
    fn above_ipv4(&self, address: u32) -> u32 {
        let above = self.above(address >> 8, self.short(address >> (32 - SHORT_IPV4)));
        // Had a longer prefix come before `above` was read, the two would not belong together.
        let slot = self.root(address >> 8);
        let slot = if is_pointer(slot) { self.wide(slot, address & 0xff) } else { slot };
        if slot == EMPTY { above } else { slot }
    }

    /// Looks up as many addresses as both slices have.
    pub(super) fn batch_ipv4(&self, addresses: &[u32], found: &mut [u32]) {
        for (addresses, found) in addresses.chunks(SIDE_BY_SIDE).zip(found.chunks_mut(SIDE_BY_SIDE)) {
            for (address, slot) in addresses.iter().zip(found.iter_mut()) {
                *slot = self.root(*address >> 8);
            }
            for (address, slot) in addresses.iter().zip(found.iter_mut()) {
                *slot = self.finish_ipv4(*address, *slot);
            }
        }
    }

    /// The slot of an IPv6 address; 0 if there is no route.
    #[inline]
    pub(super) fn lookup_ipv6(&self, address: u128) -> u32 {
        let slot = self.walk_ipv6(address);
        if slot == EMPTY { self.above_ipv6(address) } else { slot }
    }

    #[inline]
    fn walk_ipv6(&self, address: u128) -> u32 {
        let high = (address >> 64) as u64;
        let mut slot = self.root((high >> 40) as u32);
        if is_pointer(slot) {
            slot = self.wide(slot, (high >> 32) as u32);
        }
        self.below_ipv6(address, slot)
    }

    /// From a slot that answers for 32 bits to the end.
    #[inline]
    fn below_ipv6(&self, address: u128, mut slot: u32) -> u32 {
        let mut depth = ROOT_BITS + WIDE_BITS;
        while is_pointer(slot) && depth < 128 {
            depth += NARROW_BITS;
            slot = self.narrow(slot, (address >> (128 - depth)) as u32);
        }
        if is_bucket(slot) {
            slot = search(&self.buckets, payload(slot), depth, ((address << depth) >> 96) as u32);
        }
        slot
    }

    #[cold]
    fn above_ipv6(&self, address: u128) -> u32 {
        let short = self.short((address >> (128 - SHORT_IPV6)) as u32);
        let above = self.above((address >> 104) as u32, short);
        // As for IPv4.
        let slot = self.walk_ipv6(address);
        if slot == EMPTY { above } else { slot }
    }

    /// Looks up as many addresses as both slices have.
    pub(super) fn batch_ipv6(&self, addresses: &[u128], found: &mut [u32]) {
        for (addresses, found) in addresses.chunks(SIDE_BY_SIDE).zip(found.chunks_mut(SIDE_BY_SIDE)) {
            for (address, slot) in addresses.iter().zip(found.iter_mut()) {
                *slot = self.root((*address >> 104) as u32);
            }
            for (address, slot) in addresses.iter().zip(found.iter_mut()) {
                if is_pointer(*slot) {
                    *slot = self.wide(*slot, (*address >> 96) as u32);
                }
            }
            // Searches end where nobody can foresee, so the processor does not come to the next in time to wait for its
            // memory meanwhile: all are waited for here.
            for slot in found.iter() {
                let bucket = if is_bucket(*slot) { payload(*slot) } else { 0 };
                black_box(self.buckets.load(bucket, 0));
            }
            for (address, slot) in addresses.iter().zip(found.iter_mut()) {
                *slot = self.below_ipv6(*address, *slot);
            }
            for (address, slot) in addresses.iter().zip(found.iter_mut()) {
                if *slot == EMPTY {
                    *slot = self.above_ipv6(*address);
                }
            }
        }
    }
}
