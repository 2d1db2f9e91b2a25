//! Changes to a lookup table, while readers are in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::bucket::{self, BUCKET_BITS, Entry, KEY_BITS, MAX_ENTRIES};
use super::chunks::{FreeChunks, LINE_BITS};
use super::huge_pages::HugePages;
use super::{
    BUCKET, EMPTY, Full, Lpm, NARROW_BITS, PAYLOAD_BITS, POINTER, ROOT_BITS, WIDE_BITS, is_bucket,
    is_pointer, payload,
};
use crate::rib::store::Prefix;

/// Slots of the root that share a page of memory.
const ROOT_PAGE_BITS: u32 = 10;
/// Slots in a row that take as long as a node's cover, or a bucket, which are anywhere in memory.
const COST_OF_COVER: u64 = 16;
const COST_OF_BUCKET: u64 = 64;

/// The one that changes a table.
#[derive(Debug)]
pub(in crate::rib) struct LpmWriter {
    lpm: Arc<Lpm>,
    wide: FreeChunks<WIDE_BITS>,
    narrow: FreeChunks<NARROW_BITS>,
    buckets: FreeChunks<BUCKET_BITS>,
    /// Pages of the root that were written, a bit each.
    touched: Box<[u64]>,
    huge_pages: HugePages,
    /// Slots looked at for a change, ever.
    rewritten: u64,
}

/// A node of the table, the root included.
#[derive(Clone, Copy)]
enum Node {
    Root,
    Wide(u32),
    Narrow(u32),
}

impl Lpm {
    fn cell(&self, node: Node, index: usize) -> Option<&AtomicU32> {
        match node {
            Node::Root => self.root.get(index & ((1 << ROOT_BITS) - 1)),
            Node::Wide(number) => self.wide.slot(number, index),
            Node::Narrow(number) => self.narrow.slot(number, index),
        }
    }

    /// The slot in a bucket that stands for addresses which no prefix in it covers.
    fn cover_of_bucket(&self, bucket: u32, depth: u32) -> Option<&AtomicU32> {
        let (entries, _) = bucket::read(&self.buckets, bucket, depth);
        self.buckets.slot(bucket, 2 * entries.len() + 1)
    }

    /// Changes slots of `node` and all below that its prefixes cover; `end` is the depth that the node resolves. Returns
    /// how many slots it looked at.
    fn rewrite(
        &self,
        node: Node,
        end: u32,
        first: usize,
        count: usize,
        change: &impl Fn(u32) -> Option<u32>,
    ) -> u64 {
        let mut seen = count as u64;
        for slot in (first..first + count).filter_map(|index| self.cell(node, index)) {
            let value = slot.load(Ordering::Relaxed);
            if is_pointer(value) {
                let below = child(node, value);
                seen += self.rewrite(below, end + bits_of(below), 0, 1 << bits_of(below), change);
            } else if is_bucket(value) {
                seen += COST_OF_BUCKET;
                if let Some(cover) = self.cover_of_bucket(payload(value), end) {
                    change_slot(cover, change);
                }
            } else {
                change_slot(slot, change);
            }
        }
        seen
    }

    /// As [`Self::rewrite`], of the root, where a node below has one slot for all prefixes that end above it.
    fn rewrite_root(&self, first: usize, count: usize, change: &impl Fn(u32) -> Option<u32>) -> u64 {
        let mut seen = count as u64;
        for slot in self.root.get(first..first + count).unwrap_or_default() {
            let value = slot.load(Ordering::Relaxed);
            if is_pointer(value) {
                seen += COST_OF_COVER;
                if let Some(cover) = self.cover(value) {
                    change_slot(cover, change);
                }
            } else {
                change_slot(slot, change);
            }
        }
        seen
    }
}

impl LpmWriter {
    /// An empty table that resolves prefixes up to `short_bits` apart.
    pub(in crate::rib) fn new(short_bits: u32) -> Self {
        let lpm = Arc::new(Lpm::new(short_bits));
        Self {
            huge_pages: HugePages::new(&lpm.root),
            lpm,
            wide: FreeChunks::default(),
            narrow: FreeChunks::default(),
            buckets: FreeChunks::default(),
            touched: vec![0; 1 << (ROOT_BITS - ROOT_PAGE_BITS - 6)].into_boxed_slice(),
            rewritten: 0,
        }
    }

    /// Slots looked at for a change since the table was made, for short prefixes very many; a million take a few
    /// milliseconds.
    pub(in crate::rib) fn rewritten(&self) -> u64 {
        self.rewritten
    }

    pub(in crate::rib) fn lpm(&self) -> &Arc<Lpm> {
        &self.lpm
    }

    /// Looks at the memory that [`Self::set`] needs; what it returns means nothing.
    pub(in crate::rib) fn look_at(&self, prefix: Prefix) -> u32 {
        let lpm = &*self.lpm;
        let mut slot = lpm.root(index_at(prefix.bits, ROOT_BITS) as u32);
        if is_pointer(slot) {
            slot = lpm.wide(slot, index_at(prefix.bits, ROOT_BITS + WIDE_BITS) as u32);
        }
        if is_bucket(slot) { lpm.buckets.load(payload(slot), 0) } else { slot }
    }

    /// Adds a prefix or changes its payload, which is not 0 and has 24 bits.
    pub(in crate::rib) fn set(&mut self, prefix: Prefix, payload: u32, epoch: u64) -> Result<(), Full> {
        let length = u32::from(prefix.length);
        let new = (length << PAYLOAD_BITS) | payload;
        if length <= self.lpm.short_bits {
            self.rewrite_short(prefix, replaces(new));
            return Ok(());
        }
        let lpm = Arc::clone(&self.lpm);
        self.insert(&lpm, (Node::Root, ROOT_BITS), prefix, new, epoch)
    }

    /// Puts a prefix below a node, which resolves the bits before `end`.
    fn insert(
        &mut self,
        lpm: &Lpm,
        (mut node, mut end): (Node, u32),
        prefix: Prefix,
        new: u32,
        epoch: u64,
    ) -> Result<(), Full> {
        let length = u32::from(prefix.length);
        while length > end {
            let index = index_at(prefix.bits, end);
            let slot = lpm.cell(node, index).ok_or(Full)?;
            let value = slot.load(Ordering::Relaxed);
            let next = if is_pointer(value) {
                child(node, value)
            } else if is_bucket(value) {
                let (mut entries, cover) = bucket::read(&lpm.buckets, payload(value), end);
                let entry = (key_at(prefix.bits, end), new);
                if let Some(place) = entries.iter().position(|other| is_same(*other, entry)) {
                    if let Some(word) = lpm.buckets.slot(payload(value), 2 * place + 1) {
                        word.store(new, Ordering::Release);
                    }
                    return Ok(());
                }
                if length <= end + KEY_BITS && entries.len() < MAX_ENTRIES {
                    let place = entries.partition_point(|other| other.1 >> PAYLOAD_BITS >= length);
                    entries.insert(place, entry);
                    let bucket = self.new_bucket(lpm, &entries, cover)?;
                    slot.store(bucket, Ordering::Release);
                    self.buckets.retire(payload(value), epoch);
                    return Ok(());
                }
                // What is in the bucket goes below a new node, which readers see when it is complete.
                let next = self.new_node(lpm, node, cover)?;
                for (key, slot) in entries {
                    let bits = prefix.shortened(end as u8).bits | ((u128::from(key) << 96) >> end);
                    let prefix = Prefix { bits, length: (slot >> PAYLOAD_BITS) as u8 };
                    self.insert(lpm, (next, end + bits_of(next)), prefix, slot, epoch)?;
                }
                slot.store(pointer(next), Ordering::Release);
                self.buckets.retire(payload(value), epoch);
                next
            } else if !matches!(node, Node::Root) && length <= end + KEY_BITS {
                let bucket = self.new_bucket(lpm, &[(key_at(prefix.bits, end), new)], value)?;
                slot.store(bucket, Ordering::Release);
                return Ok(());
            } else {
                let next = self.new_node(lpm, node, value)?;
                slot.store(pointer(next), Ordering::Release);
                next
            };
            if matches!(node, Node::Root) {
                self.touch(index, 1);
            }
            node = next;
            end += bits_of(node);
        }
        self.rewrite_range(lpm, (node, end), prefix, replaces(new));
        Ok(())
    }

    /// Takes a prefix out. `cover` is the longest prefix that covers it, with its payload.
    pub(in crate::rib) fn clear(&mut self, prefix: Prefix, cover: Option<(u8, u32)>, epoch: u64) {
        let length = u32::from(prefix.length);
        let short = length <= self.lpm.short_bits;
        // Where no prefix of this part of the table covers an address, the part before it has the answer.
        let part = |length: u32| (length > self.lpm.short_bits, length > ROOT_BITS);
        let new = match cover {
            Some((cover, payload)) if part(cover.into()) == part(length) => {
                (u32::from(cover) << PAYLOAD_BITS) | payload
            }
            _ => EMPTY,
        };
        // Only one prefix of this length covers these slots.
        let change = |slot: u32| (slot != EMPTY && slot >> PAYLOAD_BITS == length).then_some(new);
        if short {
            self.rewrite_short(prefix, change);
            return;
        }
        let lpm = Arc::clone(&self.lpm);
        let (mut node, mut end) = (Node::Root, ROOT_BITS);
        let mut way: Vec<(Node, usize)> = Vec::new();
        let mut in_bucket = false;
        while length > end {
            let index = index_at(prefix.bits, end);
            let Some(slot) = lpm.cell(node, index) else { return };
            let value = slot.load(Ordering::Relaxed);
            if is_bucket(value) {
                in_bucket = true;
                self.remove_from_bucket(&lpm, slot, end, prefix, epoch);
                break;
            }
            if !is_pointer(value) {
                return;
            }
            way.push((node, index));
            node = child(node, value);
            end += bits_of(node);
        }
        if !in_bucket {
            self.rewrite_range(&lpm, (node, end), prefix, change);
        }
        // A node whose slots are all alike is of no use, unless they have prefixes of its own: those are looked for in it.
        while let Some((parent, index)) = way.pop() {
            let value_at = |index| lpm.cell(node, index).map_or(EMPTY, |slot| slot.load(Ordering::Relaxed));
            let mut value = value_at(0);
            let alike = (1..1 << bits_of(node)).all(|index| value_at(index) == value);
            end -= bits_of(node);
            if value >> PAYLOAD_BITS > end || !alike {
                return;
            }
            if let Node::Wide(number) = node {
                value = lpm.cover_of(number).map_or(EMPTY, |cover| cover.load(Ordering::Relaxed));
            }
            if let Some(slot) = lpm.cell(parent, index) {
                slot.store(value, Ordering::Release);
            }
            match node {
                Node::Root => {}
                Node::Wide(number) => self.wide.retire(number, epoch),
                Node::Narrow(number) => self.narrow.retire(number, epoch),
            }
            node = parent;
        }
    }

    fn remove_from_bucket(&mut self, lpm: &Lpm, slot: &AtomicU32, depth: u32, prefix: Prefix, epoch: u64) {
        let old = slot.load(Ordering::Relaxed);
        let (mut entries, cover) = bucket::read(&lpm.buckets, payload(old), depth);
        let entry = (key_at(prefix.bits, depth), u32::from(prefix.length) << PAYLOAD_BITS);
        let Some(place) = entries.iter().position(|other| is_same(*other, entry)) else { return };
        entries.remove(place);
        // With no room for a new bucket, less exact answers are the lesser evil than a route that was withdrawn.
        let new =
            if entries.is_empty() { cover } else { self.new_bucket(lpm, &entries, cover).unwrap_or(cover) };
        slot.store(new, Ordering::Release);
        self.buckets.retire(payload(old), epoch);
    }

    /// Frees nodes that went out of use before the epoch `horizon`.
    pub(in crate::rib) fn collect(&mut self, horizon: u64) {
        self.wide.collect(horizon);
        self.narrow.collect(horizon);
        self.buckets.collect(horizon);
    }

    /// Nodes out of use that readers may still be in.
    pub(in crate::rib) fn kept(&self) -> usize {
        self.wide.kept() + self.narrow.kept() + self.buckets.kept()
    }

    /// Nodes in use.
    #[cfg(test)]
    pub(in crate::rib) fn nodes(&self) -> usize {
        self.wide.in_use() + self.narrow.in_use() + self.buckets.in_use()
    }

    /// Octets of memory, without pages of the root that were never written.
    pub(in crate::rib) fn octets(&self) -> usize {
        self.huge_pages.octets()
            + size_of_val(&*self.lpm.short)
            + size_of_val(&*self.touched)
            + self.wide.octets(&self.lpm.wide)
            + self.lpm.covers.octets(self.wide.next() >> LINE_BITS)
            + self.narrow.octets(&self.lpm.narrow)
            + self.buckets.octets(&self.lpm.buckets)
    }

    /// A slot with a new bucket.
    fn new_bucket(&mut self, lpm: &Lpm, entries: &[Entry], cover: u32) -> Result<u32, Full> {
        let bucket = self.buckets.take(&lpm.buckets).ok_or(Full)?;
        bucket::write(&lpm.buckets, bucket, entries, cover);
        Ok((BUCKET << PAYLOAD_BITS) | bucket)
    }

    /// A new node below `parent`, in place of a slot with `value`.
    fn new_node(&mut self, lpm: &Lpm, parent: Node, value: u32) -> Result<Node, Full> {
        let (node, value) = match parent {
            Node::Root => {
                let number = self.wide.take(&lpm.wide).ok_or(Full)?;
                lpm.covers.make(number >> LINE_BITS);
                lpm.cover_of(number).ok_or(Full)?.store(value, Ordering::Relaxed);
                (Node::Wide(number), EMPTY)
            }
            Node::Wide(_) | Node::Narrow(_) => {
                (Node::Narrow(self.narrow.take(&lpm.narrow).ok_or(Full)?), value)
            }
        };
        for slot in (0..1 << bits_of(node)).filter_map(|index| lpm.cell(node, index)) {
            slot.store(value, Ordering::Relaxed);
        }
        Ok(node)
    }

    fn rewrite_short(&mut self, prefix: Prefix, change: impl Fn(u32) -> Option<u32>) {
        let bits = self.lpm.short_bits;
        let first = index_at(prefix.bits, bits);
        let count = 1usize << (bits - u32::from(prefix.length));
        self.rewritten += count as u64;
        let slots = self.lpm.short.get(first..first + count).unwrap_or_default();
        for slot in slots {
            change_slot(slot, &change);
        }
    }

    /// Changes the slots of `prefix` in a node, which resolves the bits before `end`, and in all below.
    fn rewrite_range(
        &mut self,
        lpm: &Lpm,
        (node, end): (Node, u32),
        prefix: Prefix,
        change: impl Fn(u32) -> Option<u32>,
    ) {
        let first = index_at(prefix.bits, end) & ((1 << bits_of(node)) - 1);
        let count = 1usize << (end - u32::from(prefix.length));
        self.rewritten += if matches!(node, Node::Root) {
            self.touch(first, count);
            lpm.rewrite_root(first, count, &change)
        } else {
            lpm.rewrite(node, end, first, count, &change)
        };
    }

    fn touch(&mut self, first: usize, count: usize) {
        let last = first + count - 1;
        for page in first >> ROOT_PAGE_BITS..=last >> ROOT_PAGE_BITS {
            if let Some(pages) = self.touched.get_mut(page / 64)
                && *pages & (1 << (page % 64)) == 0
            {
                *pages |= 1 << (page % 64);
                self.huge_pages.touched(&self.lpm.root, page);
            }
        }
    }
}

/// Puts `new` where there is nothing, or no longer prefix.
fn replaces(new: u32) -> impl Fn(u32) -> Option<u32> {
    move |slot| (slot == EMPTY || slot >> PAYLOAD_BITS <= new >> PAYLOAD_BITS).then_some(new)
}

fn change_slot(slot: &AtomicU32, change: &impl Fn(u32) -> Option<u32>) {
    if let Some(new) = change(slot.load(Ordering::Relaxed)) {
        slot.store(new, Ordering::Release);
    }
}

/// Two entries of the same prefix.
fn is_same(one: Entry, other: Entry) -> bool {
    one.0 == other.0 && one.1 >> PAYLOAD_BITS == other.1 >> PAYLOAD_BITS
}

fn bits_of(node: Node) -> u32 {
    match node {
        Node::Root => ROOT_BITS,
        Node::Wide(_) => WIDE_BITS,
        Node::Narrow(_) => NARROW_BITS,
    }
}

fn child(node: Node, pointer: u32) -> Node {
    match node {
        Node::Root => Node::Wide(payload(pointer)),
        Node::Wide(_) | Node::Narrow(_) => Node::Narrow(payload(pointer)),
    }
}

fn pointer(node: Node) -> u32 {
    match node {
        // Nothing points to the root.
        Node::Root => EMPTY,
        Node::Wide(number) | Node::Narrow(number) => (POINTER << PAYLOAD_BITS) | number,
    }
}

/// The bits of an address before `end`, as a number; the lowest of them select a slot.
fn index_at(bits: u128, end: u32) -> usize {
    (bits >> (128 - end)) as usize
}

/// The bits of an address from `depth` on, as many as entries of buckets have.
fn key_at(bits: u128, depth: u32) -> u32 {
    ((bits << depth) >> 96) as u32
}
