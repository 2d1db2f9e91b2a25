//! Prefixes of one length: a sorted array with gaps.
//!
//! Entries are in the order of a hash of their key, each as near as possible to where its hash points, so that one look
//! at memory finds it. The order is the same whatever the size of the array: a walk that notes the last key goes on
//! after it even if the array grew in between.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

/// A value that stands for "nothing here".
pub(super) const NO_VALUE: u32 = 0;
const MIN_CAPACITY: usize = 8;

/// Bits of a prefix, as narrow as its length allows.
pub(super) trait Key: Copy + Ord + Default + std::hash::Hash {}
impl Key for u32 {}
impl Key for u64 {}
impl Key for u128 {}

#[derive(Clone, Copy, Debug, Default)]
struct Entry<K> {
    key: K,
    value: u32,
}

/// Values by key. Every value but [`NO_VALUE`] can be kept.
#[derive(Debug)]
pub(super) struct LengthTable<K> {
    /// As many as hashes are spread over, and those that found no place before the end.
    entries: Vec<Entry<K>>,
    capacity: usize,
    len: usize,
}

impl<K> Default for LengthTable<K> {
    fn default() -> Self {
        Self { entries: Vec::new(), capacity: 0, len: 0 }
    }
}

fn hash<K: Key>(hasher: &RandomState, key: K) -> u32 {
    (hasher.hash_one(key) >> 32) as u32
}

fn home(hash: u32, capacity: usize) -> usize {
    ((u64::from(hash) * capacity as u64) >> 32) as usize
}

impl<K: Key> LengthTable<K> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Looks at the memory where `key` is or has to go; what it returns means nothing.
    pub(super) fn look_at(&self, hasher: &RandomState, key: K) -> u32 {
        self.entries.get(home(hash(hasher, key), self.capacity)).map_or(NO_VALUE, |entry| entry.value)
    }

    /// Where `key` is, or where it has to go.
    fn find(&self, hasher: &RandomState, key: K) -> Result<usize, usize> {
        let wanted = hash(hasher, key);
        let mut index = home(wanted, self.capacity);
        while let Some(entry) = self.entries.get(index) {
            if entry.value == NO_VALUE {
                break;
            }
            if entry.key == key {
                return Ok(index);
            }
            if (hash(hasher, entry.key), entry.key) > (wanted, key) {
                break;
            }
            index += 1;
        }
        Err(index)
    }

    pub(super) fn get(&self, hasher: &RandomState, key: K) -> Option<u32> {
        let index = self.find(hasher, key).ok()?;
        self.entries.get(index).map(|entry| entry.value)
    }

    /// Puts `value` in the place of `key` and returns what was there, or [`NO_VALUE`].
    pub(super) fn replace(&mut self, hasher: &RandomState, key: K, value: u32) -> u32 {
        match self.find(hasher, key) {
            Ok(index) => self
                .entries
                .get_mut(index)
                .map_or(NO_VALUE, |entry| std::mem::replace(&mut entry.value, value)),
            Err(index) => {
                if self.len * 5 >= self.capacity * 4 {
                    self.grow(hasher);
                    if let Err(index) = self.find(hasher, key) {
                        self.insert_at(index, Entry { key, value });
                    }
                } else {
                    self.insert_at(index, Entry { key, value });
                }
                NO_VALUE
            }
        }
    }

    fn insert_at(&mut self, index: usize, entry: Entry<K>) {
        let (_, rest) = self.entries.split_at(index.min(self.entries.len()));
        let run = rest.iter().take_while(|entry| entry.value != NO_VALUE).count();
        if run == rest.len() {
            // Not twice the memory for one more entry.
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact(64);
            }
            self.entries.push(Entry::default());
        }
        if let Some(moved) = self.entries.get_mut(index..=index + run) {
            moved.rotate_right(1);
            if let Some(first) = moved.first_mut() {
                *first = entry;
            }
        }
        self.len += 1;
    }

    fn grow(&mut self, hasher: &RandomState) {
        let capacity = (self.capacity + self.capacity / 2).max(MIN_CAPACITY);
        // Some more, for those that find no place before the end.
        let mut entries = Vec::with_capacity(capacity + 32);
        entries.resize(capacity, Entry::default());
        let mut next = 0;
        for entry in self.entries.iter().filter(|entry| entry.value != NO_VALUE) {
            let index = home(hash(hasher, entry.key), capacity).max(next);
            match entries.get_mut(index) {
                Some(place) => *place = *entry,
                None => entries.push(*entry),
            }
            next = index + 1;
        }
        (self.entries, self.capacity) = (entries, capacity);
    }

    /// Takes `key` out and returns its value, or [`NO_VALUE`].
    pub(super) fn remove(&mut self, hasher: &RandomState, key: K) -> u32 {
        let Ok(index) = self.find(hasher, key) else { return NO_VALUE };
        let value = self.entries.get(index).map_or(NO_VALUE, |entry| entry.value);
        // Those behind it that are not where their hash points move up.
        let mut last = index;
        while let Some(entry) = self.entries.get(last + 1)
            && entry.value != NO_VALUE
            && home(hash(hasher, entry.key), self.capacity) <= last
        {
            last += 1;
        }
        if let Some(moved) = self.entries.get_mut(index..=last) {
            moved.rotate_left(1);
            if let Some(gap) = moved.last_mut() {
                *gap = Entry::default();
            }
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        }
        value
    }

    /// Keys and values in the table's order, those behind `after` only.
    pub(super) fn iter_after(
        &self,
        hasher: &RandomState,
        after: Option<K>,
    ) -> impl Iterator<Item = (K, u32)> + '_ {
        let start = after.map_or(0, |key| match self.find(hasher, key) {
            Ok(index) => index + 1,
            Err(index) => index,
        });
        let rest = self.entries.get(start..).unwrap_or_default();
        rest.iter().filter(|entry| entry.value != NO_VALUE).map(|entry| (entry.key, entry.value))
    }

    pub(super) fn octets(&self) -> usize {
        self.entries.capacity() * size_of::<Entry<K>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_map_and_stays_in_order(
            changes in prop::collection::vec((0u32..400, 0u32..4), 0..2000),
            pause in 0usize..2000,
        ) {
            let hasher = RandomState::default();
            let (mut table, mut map) = (LengthTable::<u32>::default(), BTreeMap::new());
            for (number, (key, value)) in changes.iter().enumerate() {
                if *value == NO_VALUE {
                    prop_assert_eq!(table.remove(&hasher, *key), map.remove(key).unwrap_or(NO_VALUE));
                } else {
                    let before = map.insert(*key, *value).unwrap_or(NO_VALUE);
                    prop_assert_eq!(table.replace(&hasher, *key, *value), before);
                }
                prop_assert_eq!(table.len(), map.len());
                if number == pause {
                    for key in 0..400 {
                        prop_assert_eq!(table.get(&hasher, key), map.get(&key).copied());
                    }
                }
            }
            let all: BTreeMap<u32, u32> = table.iter_after(&hasher, None).collect();
            prop_assert_eq!(&all, &map);
            // One by one, each from the key before, gives the same as in one go.
            let (mut last, mut steps) = (None, Vec::new());
            while let Some((key, value)) = table.iter_after(&hasher, last).next() {
                steps.push((key, value));
                last = Some(key);
            }
            prop_assert_eq!(steps, table.iter_after(&hasher, None).collect::<Vec<_>>());
        }
    }
}
