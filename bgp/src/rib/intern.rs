//! Values that many routes share, each kept once and named by a small number.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use super::epoch::Retired;

/// Numbers have 23 bits, because a slot of a lookup table has no more for them. 0 is no value's number.
pub(super) const MAX_INDEX: u32 = (1 << 23) - 1;
const PAGE_BITS: u32 = 12;
const PAGES: usize = 1 << (23 - PAGE_BITS);
/// Values out of use that are kept for readers which are still inside. If there are more, the oldest go all the same,
/// and a reader that held its view for so long finds nothing in their place.
const MAX_KEPT: usize = 1 << 16;

/// What readers see: value by number.
#[derive(Debug)]
pub(super) struct Values<T> {
    pages: Box<[OnceLock<Page<T>>]>,
}

type Page<T> = Box<[Slot<T>]>;

#[derive(Debug)]
struct Slot<T> {
    /// Set when the number is first used: to put a value in is then cheaper than to change one, which looks at all threads
    /// that may be reading.
    value: OnceLock<ArcSwapOption<T>>,
    generation: AtomicU32,
}

impl<T> Slot<T> {
    fn store(&self, value: Arc<T>) {
        let mut value = Some(value);
        let cell = self.value.get_or_init(|| ArcSwapOption::new(value.take()));
        if value.is_some() {
            cell.store(value);
        }
    }
}

impl<T> Values<T> {
    fn new() -> Self {
        Self { pages: (0..PAGES).map(|_| OnceLock::new()).collect() }
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let page = self.pages.get((index >> PAGE_BITS) as usize)?.get()?;
        page.get((index & ((1 << PAGE_BITS) - 1)) as usize)
    }

    fn slot_or_new(&self, index: u32) -> Option<&Slot<T>> {
        let new = || Slot { value: OnceLock::new(), generation: AtomicU32::new(0) };
        self.pages
            .get((index >> PAGE_BITS) as usize)?
            .get_or_init(|| (0..1 << PAGE_BITS).map(|_| new()).collect());
        self.slot(index)
    }

    pub(super) fn get(&self, index: u32) -> Option<Arc<T>> {
        self.slot(index)?.value.get()?.load_full()
    }

    /// What `look` sees in the value.
    pub(super) fn with<R>(&self, index: u32, look: impl FnOnce(&T) -> R) -> Option<R> {
        let value = self.slot(index)?.value.get()?.load();
        value.as_deref().map(look)
    }

    /// How often the number was used before for another value.
    pub(super) fn generation(&self, index: u32) -> u32 {
        self.slot(index).map_or(0, |slot| slot.generation.load(Ordering::Relaxed))
    }
}

/// The writer's side: number by key, and how many routes use it.
#[derive(Debug)]
pub(super) struct InternTable<T> {
    values: Arc<Values<T>>,
    by_key: HashTable<u32>,
    /// At the place of each number. Place 0 is not used.
    uses: Vec<Use>,
    free: Vec<u32>,
    retired: Retired<u32>,
    /// Of the oldest retired ones, how many were taken from readers already.
    taken: usize,
    taken_total: u64,
    hashers: [foldhash::quality::RandomState; 2],
    /// Heap of values, octets.
    heap: usize,
    heap_of: fn(&T) -> usize,
}

/// Two hashes with secrets of their own stand for a key: keys would take more memory than all prefixes, and that two of
/// them agree in 128 bits is less likely than a fault of the memory.
type KeyHash = [u64; 2];

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    key: KeyHash,
    routes: u32,
}

impl<T> InternTable<T> {
    /// `heap_of`: octets that a value has on the heap.
    pub(super) fn new(heap_of: fn(&T) -> usize) -> Self {
        Self {
            values: Arc::new(Values::new()),
            by_key: HashTable::new(),
            uses: vec![Use::default()],
            free: Vec::new(),
            retired: Retired::default(),
            taken: 0,
            taken_total: 0,
            hashers: Default::default(),
            heap: 0,
            heap_of,
        }
    }

    pub(super) fn values(&self) -> &Arc<Values<T>> {
        &self.values
    }

    /// The number of the value with `key`, with one more use. `make` is called if there is none yet. `None` if all
    /// numbers are in use.
    pub(super) fn intern(&mut self, key: &[u8], make: impl FnOnce() -> T) -> Option<u32> {
        let key = self.hashers.each_ref().map(|hasher| hasher.hash_one(key));
        let is_it = |index: &u32| self.uses.get(*index as usize).is_some_and(|entry| entry.key == key);
        if let Some(index) = self.by_key.find(key[0], is_it) {
            let index = *index;
            self.add_use(index);
            return Some(index);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.uses.len() > MAX_INDEX as usize => return None,
            None => {
                self.uses.push(Use::default());
                (self.uses.len() - 1) as u32
            }
        };
        let value = Arc::new(make());
        self.heap += (self.heap_of)(&value) + 2 * size_of::<usize>();
        self.values.slot_or_new(index)?.store(value);
        *self.uses.get_mut(index as usize)? = Use { key, routes: 1 };
        let uses = &self.uses;
        let hash_of = |index: &u32| uses.get(*index as usize).map_or(0, |entry| entry.key[0]);
        self.by_key.insert_unique(key[0], index, hash_of);
        Some(index)
    }

    pub(super) fn add_use(&mut self, index: u32) {
        if let Some(entry) = self.uses.get_mut(index as usize) {
            entry.routes += 1;
        }
    }

    /// One use less. After the last one the value is kept until [`Self::collect`]; `epoch` is the current one.
    pub(super) fn release(&mut self, index: u32, epoch: u64) {
        let Some(entry) = self.uses.get_mut(index as usize) else { return };
        entry.routes = entry.routes.saturating_sub(1);
        if entry.routes > 0 {
            return;
        }
        let [hash, _] = entry.key;
        if let Ok(found) = self.by_key.find_entry(hash, |other| *other == index) {
            found.remove();
        }
        self.retired.push(epoch, index);
        if self.retired.len() - self.taken > MAX_KEPT
            && let Some(oldest) = self.retired.get(self.taken)
        {
            self.clear(oldest);
            self.taken += 1;
            self.taken_total += 1;
        }
    }

    /// Frees what went out of use before the epoch `horizon`.
    pub(super) fn collect(&mut self, horizon: u64) {
        while let Some(index) = self.retired.pop_before(horizon) {
            if self.taken > 0 {
                self.taken -= 1;
            } else {
                self.clear(index);
            }
            if let Some(slot) = self.values.slot(index) {
                slot.generation.fetch_add(1, Ordering::Relaxed);
            }
            self.free.push(index);
        }
    }

    fn clear(&mut self, index: u32) {
        if let Some(value) = self.values.slot(index).and_then(|slot| slot.value.get()?.swap(None)) {
            self.heap -= (self.heap_of)(&value) + 2 * size_of::<usize>();
        }
    }

    /// Values in use.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Values out of use that readers may still see.
    pub(super) fn kept(&self) -> usize {
        self.retired.len()
    }

    /// Values that were taken from readers which stayed inside for too long.
    pub(super) fn taken_total(&self) -> u64 {
        self.taken_total
    }

    /// Octets of memory.
    pub(super) fn octets(&self) -> usize {
        let pages = self.uses.len().div_ceil(1 << PAGE_BITS);
        self.heap
            + self.by_key.allocation_size()
            + self.uses.capacity() * size_of::<Use>()
            + self.free.capacity() * size_of::<u32>()
            + self.retired.octets()
            + pages * size_of::<Slot<T>>() * (1 << PAGE_BITS)
            + PAGES * size_of::<OnceLock<Box<[Slot<T>]>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_after_its_readers_left() {
        let mut table = InternTable::<u32>::new(|_| 0);
        let values = Arc::clone(table.values());
        let one = table.intern(b"one", || 1).unwrap();
        assert_eq!(table.intern(b"one", || unreachable!()), Some(one));
        let two = table.intern(b"two", || 2).unwrap();
        assert_ne!(one, two);
        table.release(one, 5);
        table.release(one, 5);
        // Readers that entered in epoch 5 are still inside.
        table.collect(5);
        assert_eq!(values.get(one).as_deref(), Some(&1));
        let three = table.intern(b"three", || 3).unwrap();
        assert!(three != one && three != two);
        let generation = values.generation(one);
        table.collect(6);
        assert_eq!(table.intern(b"four", || 4), Some(one));
        assert_eq!(values.get(one).as_deref(), Some(&4));
        assert_ne!(values.generation(one), generation);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn values_kept_for_readers_are_bounded_and_numbers_stay_reserved() {
        let mut table = InternTable::<u32>::new(|_| 1);
        let values = Arc::clone(table.values());
        let total = MAX_KEPT as u32 + 10;
        for number in 0..total {
            let index = table.intern(&number.to_le_bytes(), || number).unwrap();
            assert_eq!(index, number + 1);
            table.release(index, 1);
        }
        assert_eq!(table.taken_total(), 10);
        assert_eq!(values.get(10), None);
        assert_eq!(values.get(11).as_deref(), Some(&10));
        table.collect(2);
        assert_eq!((table.kept(), table.heap), (0, 0));
        assert!(table.intern(b"x", || 0).unwrap() <= total);
    }
}
