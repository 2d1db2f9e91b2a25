//! Nodes of a lookup table: arrays of slots, in pages that never move. The first page is small and each one twice as
//! large as the one before, so that a small table takes little memory and a large one few pages.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::zeroed_slice_box;

use crate::rib::epoch::Retired;

/// Slots of a cache line.
pub(super) const LINE_BITS: u32 = 4;
const LINE: usize = 1 << LINE_BITS;
/// Slots of the first page, 4 KiB.
const FIRST_PAGE_BITS: u32 = 10;

/// Some nodes.
#[derive(Debug)]
struct Page {
    slots: Box<[AtomicU32]>,
    /// The first slot that begins a cache line, so that no small node lies in two.
    start: usize,
}

impl Page {
    fn new(slots: usize) -> Self {
        // Memory of a large page that no node uses yet is none.
        let slots: Box<[AtomicU32]> = zeroed_slice_box(slots + LINE - 1);
        let before = (slots.as_ptr() as usize / size_of::<AtomicU32>()) % LINE;
        Self { slots, start: (LINE - before) % LINE }
    }
}

/// What readers see: all nodes of one size, 2^`BITS` slots (4 or more).
#[derive(Debug)]
pub(super) struct Chunks<const BITS: u32> {
    pages: Box<[OnceLock<Page>]>,
}

impl<const BITS: u32> Chunks<BITS> {
    /// Nodes of the first page.
    const FIRST_BITS: u32 = FIRST_PAGE_BITS - BITS;

    /// Room for `limit` nodes, a power of two, less those of one small page. None of them takes memory yet.
    pub(super) fn new(limit: u32) -> Self {
        let pages = limit.ilog2().saturating_sub(Self::FIRST_BITS).max(1);
        Self { pages: (0..pages).map(|_| OnceLock::new()).collect() }
    }

    /// The page of a node, and its place there.
    #[inline]
    fn place(node: u32) -> (usize, usize) {
        // Pages begin where this is a power of two.
        let number = node + (1 << Self::FIRST_BITS);
        let power = (number | 1).ilog2();
        ((power - Self::FIRST_BITS) as usize, (number ^ (1 << power)) as usize)
    }

    /// Makes room for a node; `None` if there may be no more.
    pub(super) fn make(&self, node: u32) -> Option<()> {
        let (number, _) = Self::place(node);
        let page = self.pages.get(number)?;
        page.get_or_init(|| Page::new(1 << (FIRST_PAGE_BITS as usize + number)));
        Some(())
    }

    /// One slot; `None` if there is no such node. Of `slot`, the lowest `BITS` bits count.
    #[inline]
    pub(super) fn slot(&self, node: u32, slot: usize) -> Option<&AtomicU32> {
        let (number, place) = Self::place(node);
        let page = self.pages.get(number)?.get()?;
        page.slots.get(page.start + (place << BITS | slot & ((1 << BITS) - 1)))
    }

    /// The value of a slot; 0 if there is no such node.
    #[inline]
    pub(super) fn load(&self, node: u32, slot: usize) -> u32 {
        self.slot(node, slot).map_or(0, |slot| slot.load(Ordering::Acquire))
    }

    /// Octets of memory if nodes with lower numbers than `next` were in use.
    pub(super) fn octets(&self, next: u32) -> usize {
        ((next as usize) << BITS) * size_of::<AtomicU32>() + size_of_val(&*self.pages)
    }
}

/// The writer's side: which nodes are free.
#[derive(Debug, Default)]
pub(super) struct FreeChunks<const BITS: u32> {
    /// Nodes with lower numbers were in use before.
    next: u32,
    free: Vec<u32>,
    retired: Retired<u32>,
}

impl<const BITS: u32> FreeChunks<BITS> {
    /// A node to use; `None` if there may be no more. Its slots are as they were left.
    pub(super) fn take(&mut self, chunks: &Chunks<BITS>) -> Option<u32> {
        if let Some(node) = self.free.pop() {
            return Some(node);
        }
        chunks.make(self.next)?;
        self.next += 1;
        Some(self.next - 1)
    }

    /// Keeps a node for readers that may be in it.
    pub(super) fn retire(&mut self, node: u32, epoch: u64) {
        self.retired.push(epoch, node);
    }

    /// Frees what went out of use before the epoch `horizon`.
    pub(super) fn collect(&mut self, horizon: u64) {
        while let Some(node) = self.retired.pop_before(horizon) {
            self.free.push(node);
        }
    }

    /// Nodes out of use that readers may still be in.
    pub(super) fn kept(&self) -> usize {
        self.retired.len()
    }

    /// Nodes in use.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.next as usize - self.free.len() - self.retired.len()
    }

    /// Numbers of nodes that were ever in use are below this.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    pub(super) fn octets(&self, chunks: &Chunks<BITS>) -> usize {
        chunks.octets(self.next) + self.free.capacity() * size_of::<u32>() + self.retired.octets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_slots_of_its_own_from_a_cache_line_on() {
        const NODES: u32 = 5000;
        let chunks = Chunks::<5>::new(1 << 13);
        for node in 0..NODES {
            chunks.make(node).unwrap();
            for slot in 0..32 {
                chunks.slot(node, slot).unwrap().store(node * 32 + slot as u32, Ordering::Relaxed);
            }
        }
        for node in 0..NODES {
            assert!((0..32).all(|slot| chunks.load(node, slot) == node * 32 + slot as u32));
            assert_eq!(std::ptr::from_ref(chunks.slot(node, 0).unwrap()) as usize % 64, 0);
        }
        assert_eq!(chunks.make((1 << 13) - 33), Some(()));
        assert_eq!(chunks.make((1 << 13) - 32), None);
    }
}
