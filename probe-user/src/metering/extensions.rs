//! What flows are told apart by beyond the words of their keys: each extension once, under a number.
//!
//! A number is never used for another extension while the program runs. Extensions that no packet had for some time are
//! forgotten, as their flows have ended; what a flow is told apart by is there as long as the flow is.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashTable};
use pathflow_common::extension::KeyExtension;

/// The extensions, shared. Written to once for each new one, never for each packet.
#[derive(Debug)]
pub struct Extensions {
    held: RwLock<Held>,
    hasher: RandomState,
    /// Extensions that are held at most.
    limit: usize,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    numbers: HashTable<u32>,
    extensions: HashMap<u32, Entry>,
    last: u32,
}

#[derive(Debug)]
struct Entry {
    extension: Arc<KeyExtension>,
    /// When a packet had it, in whatever unit the caller counts time.
    used: AtomicU64,
}

impl Extensions {
    /// None held yet, and never more than `limit`.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { held: RwLock::default(), hasher: RandomState::default(), limit, refused: AtomicU64::new(0) }
    }

    /// The number of `extension`, which is in use at `time` (nanoseconds of the packets' clock). 0 if there are too many.
    pub fn number(&self, extension: &KeyExtension, time: u64) -> u32 {
        let hash = self.hasher.hash_one(extension);
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = held.find(hash, extension) {
            held.touch(number, time);
            return number;
        }
        drop(held);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = held.find(hash, extension) {
            held.touch(number, time);
            return number;
        }
        let number = held.last.checked_add(1).filter(|_| held.extensions.len() < self.limit);
        let Some(number) = number else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return 0;
        };
        held.last = number;
        let entry = Entry { extension: Arc::new(*extension), used: AtomicU64::new(time) };
        held.extensions.insert(number, entry);
        let Held { numbers, extensions, .. } = &mut *held;
        numbers.insert_unique(hash, number, |number| {
            extensions.get(number).map_or(0, |entry| self.hasher.hash_one(*entry.extension))
        });
        number
    }

    /// The extension of this number. `None` for 0.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Arc<KeyExtension>> {
        if number == 0 {
            return None;
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.extensions.get(&number).map(|entry| Arc::clone(&entry.extension))
    }

    /// Forgets those that were last in use before `time`.
    pub fn forget_before(&self, time: u64) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let Held { numbers, extensions, .. } = &mut *held;
        extensions.retain(|_, entry| *entry.used.get_mut() >= time);
        numbers.retain(|number| extensions.contains_key(number));
    }

    /// How many are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.read().unwrap_or_else(PoisonError::into_inner).extensions.len()
    }

    /// How often there were too many: those flows are not told apart by their extensions.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Held {
    fn find(&self, hash: u64, extension: &KeyExtension) -> Option<u32> {
        let is_same =
            |number: &u32| self.extensions.get(number).is_some_and(|entry| *entry.extension == *extension);
        self.numbers.find(hash, is_same).copied()
    }

    fn touch(&self, number: u32, time: u64) {
        if let Some(entry) = self.extensions.get(&number) {
            entry.used.fetch_max(time, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(label: u32) -> KeyExtension {
        KeyExtension { label_count: 1, vxlan_network_identifier: label, ..KeyExtension::default() }
    }

    #[test]
    fn one_number_is_one_extension_for_good() {
        let extensions = Extensions::new(1000);
        let numbers: Vec<u32> = (0..500).map(|label| extensions.number(&labelled(label), 1)).collect();
        let again: Vec<u32> = (0..500).map(|label| extensions.number(&labelled(label), 2)).collect();
        assert_eq!(numbers, again);
        for (label, number) in (0..).zip(&numbers) {
            assert_eq!(*extensions.get(*number).unwrap(), labelled(label));
        }
        assert_eq!(extensions.number(&labelled(7), 9), numbers[7]);
        extensions.forget_before(3);
        assert_eq!(extensions.held(), 1);
        assert!(extensions.get(numbers[8]).is_none() && extensions.get(numbers[7]).is_some());
        // A forgotten one gets a new number: rows under the old one are not mixed with others.
        assert!(extensions.number(&labelled(8), 10) > 500);
        assert!(extensions.get(0).is_none());
    }

    #[test]
    fn too_many_are_refused_and_counted() {
        let extensions = Extensions::new(2);
        assert!(extensions.number(&labelled(1), 1) != 0 && extensions.number(&labelled(2), 1) != 0);
        assert_eq!((extensions.number(&labelled(3), 1), extensions.refused()), (0, 1));
        assert_ne!(extensions.number(&labelled(1), 1), 0);
    }
}
