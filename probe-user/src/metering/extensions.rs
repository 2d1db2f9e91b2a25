//! What flows are told apart by beyond the words of their keys: each extension once, under a number.
//!
//! A number is never used for another extension while the program runs. Extensions that no packet had for some time are
//! forgotten. The number is for the way from where packets are counted to the shards: who keeps an extension for longer
//! takes the extension itself.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashTable};
use pathflow_common::extension::KeyExtension;
use tracing::warn;

/// Extensions that a daemon holds at most.
pub const LIMIT: usize = 1 << 18;
/// How long an extension is held that no packet has, in nanoseconds of the packets' clock.
const KEPT: u64 = 3600 * SECOND;
/// The same when half of the room is taken. Longer than deltas may be on their way to a shard.
const KEPT_IN_NEED: u64 = 300 * SECOND;
/// How often is looked for what can be forgotten.
const LOOK: u64 = 30 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// The extensions, shared. Written to once for each new one, never for each packet.
#[derive(Debug)]
pub struct Extensions {
    held: RwLock<Held>,
    hasher: RandomState,
    /// Extensions that are held at most.
    limit: usize,
    refused: AtomicU64,
    /// Whether it was said that there are no numbers any more.
    has_said: AtomicBool,
    /// The time that each shard has reached.
    reached: Vec<AtomicU64>,
    /// When is next looked for what can be forgotten.
    next_look: AtomicU64,
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
    /// When a packet had it, in nanoseconds of the packets' clock.
    used: AtomicU64,
}

impl Extensions {
    /// None held yet, and never more than `limit`, for so many shards.
    #[must_use]
    pub fn new(limit: usize, shards: usize) -> Self {
        Self {
            held: RwLock::default(),
            hasher: RandomState::default(),
            limit,
            refused: AtomicU64::new(0),
            has_said: AtomicBool::new(false),
            reached: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            next_look: AtomicU64::new(0),
        }
    }

    /// The number of `extension`, which is in use at `time` (nanoseconds of the packets' clock). 0 if there are too many, or
    /// have been since the start: that there is no number left any more is said once.
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
            if held.last == u32::MAX && !self.has_said.swap(true, Ordering::Relaxed) {
                warn!(
                    "flows have been told apart by {} different tunnels, label stacks or primitives since the start: until a \
                     restart they are not told apart by others",
                    u32::MAX
                );
            }
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

    /// A shard has done with everything from before `time`. Now and then, what no packet has had for long is forgotten.
    pub fn reached(&self, shard: usize, time: u64) {
        if let Some(reached) = self.reached.get(shard) {
            reached.store(time, Ordering::Relaxed);
        }
        let next = self.next_look.load(Ordering::Relaxed);
        if time < next
            || self
                .next_look
                .compare_exchange(next, time.saturating_add(LOOK), Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let slowest = self.reached.iter().map(|reached| reached.load(Ordering::Relaxed)).min().unwrap_or(0);
        let kept = if self.held() > self.limit / 2 { KEPT_IN_NEED } else { KEPT };
        self.forget_before(slowest.saturating_sub(kept));
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
        let extensions = Extensions::new(1000, 1);
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
    fn what_a_slow_shard_may_still_need_is_held() {
        let extensions = Extensions::new(100, 2);
        let number = extensions.number(&labelled(1), SECOND);
        extensions.reached(0, 2 * KEPT);
        assert_eq!(extensions.held(), 1);
        extensions.reached(1, 2 * KEPT);
        extensions.reached(0, 2 * KEPT + LOOK);
        assert_eq!((extensions.held(), extensions.get(number)), (0, None));
        let numbers: Vec<u32> = (0..60).map(|label| extensions.number(&labelled(label), 2 * KEPT)).collect();
        extensions.number(&labelled(7), 2 * KEPT + KEPT_IN_NEED);
        let later = 2 * KEPT + LOOK + KEPT_IN_NEED + 1;
        extensions.reached(1, later);
        extensions.reached(0, later + LOOK);
        assert_eq!(extensions.held(), 1);
        assert!(extensions.get(numbers[7]).is_some());
    }

    #[test]
    fn numbers_that_have_run_out_are_told_of_once() {
        let extensions = Extensions::new(10, 1);
        extensions.held.write().unwrap().last = u32::MAX - 1;
        assert_eq!(extensions.number(&labelled(1), 1), u32::MAX);
        assert!(!extensions.has_said.load(Ordering::Relaxed));
        assert_eq!((extensions.number(&labelled(2), 1), extensions.number(&labelled(3), 1)), (0, 0));
        assert!(extensions.has_said.load(Ordering::Relaxed));
        assert_eq!((extensions.refused(), extensions.number(&labelled(1), 2)), (2, u32::MAX));
        // That is for good, however few are held.
        extensions.forget_before(3);
        assert_eq!((extensions.held(), extensions.number(&labelled(1), 4)), (0, 0));
    }

    #[test]
    fn too_many_are_refused_and_counted() {
        let extensions = Extensions::new(2, 1);
        assert!(extensions.number(&labelled(1), 1) != 0 && extensions.number(&labelled(2), 1) != 0);
        assert_eq!((extensions.number(&labelled(3), 1), extensions.refused()), (0, 1));
        assert_ne!(extensions.number(&labelled(1), 1), 0);
    }
}
