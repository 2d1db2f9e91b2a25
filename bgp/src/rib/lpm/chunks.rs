//! Nodes of a lookup table: arrays of slots, in pages that never move.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::rib::epoch::Retired;

/// Slots of a cache line.
pub(super) const LINE_BITS: u32 = 4;
/// Lines of one page, 256 KiB: a node is never spread over two pages.
const PAGE_BITS: u32 = 12;

/// A cache line, so that no small node lies in two.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU32; 1 << LINE_BITS]);

/// What readers see: all nodes of one size, 2^`BITS` slots (4 or more).
#[derive(Debug)]
pub(super) struct Chunks<const BITS: u32> {
    pages: Box<[OnceLock<Box<[Line]>>]>,
}

impl<const BITS: u32> Chunks<BITS> {
    const NODE_BITS: u32 = PAGE_BITS + LINE_BITS - BITS;

    /// Room for `limit` nodes, none of which takes memory yet.
    pub(super) fn new(limit: u32) -> Self {
        let pages = (limit as usize) >> Self::NODE_BITS;
        Self { pages: (0..pages.max(1)).map(|_| OnceLock::new()).collect() }
    }

    /// Makes room for a node; `None` if there may be no more.
    pub(super) fn make(&self, node: u32) -> Option<()> {
        let page = self.pages.get((node >> Self::NODE_BITS) as usize)?;
        page.get_or_init(|| (0..1 << PAGE_BITS).map(|_| Line::default()).collect());
        Some(())
    }

    /// Octets of memory, all nodes included.
    pub(super) fn octets(&self) -> usize {
        let made = self.pages.iter().filter(|page| page.get().is_some()).count();
        made * (size_of::<Line>() << PAGE_BITS) + size_of_val(&*self.pages)
    }

    /// One slot; `None` if there is no such node. Of `slot`, the lowest `BITS` bits count.
    #[inline]
    pub(super) fn slot(&self, node: u32, slot: usize) -> Option<&AtomicU32> {
        let page = self.pages.get((node >> Self::NODE_BITS) as usize)?.get()?;
        let first = (node << (BITS - LINE_BITS)) as usize & ((1 << PAGE_BITS) - 1);
        let line = (slot & ((1 << BITS) - 1)) >> LINE_BITS;
        page.get(first | line)?.0.get(slot & ((1 << LINE_BITS) - 1))
    }

    /// The value of a slot; 0 if there is no such node.
    #[inline]
    pub(super) fn load(&self, node: u32, slot: usize) -> u32 {
        self.slot(node, slot).map_or(0, |slot| slot.load(Ordering::Acquire))
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

    pub(super) fn octets(&self, chunks: &Chunks<BITS>) -> usize {
        let pages = (self.next as usize).div_ceil(1 << Chunks::<BITS>::NODE_BITS);
        pages * size_of::<Line>() * (1 << PAGE_BITS)
            + size_of_val(&*chunks.pages)
            + self.free.capacity() * size_of::<u32>()
            + self.retired.octets()
    }
}
