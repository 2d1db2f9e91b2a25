//! What is known of conversations: written by classifiers, read once for each batch of deltas.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use foldhash::quality::RandomState;
use hashbrown::HashMap;

use super::{Class, Conversation};
use crate::capture::Delta;

const SECOND: u64 = 1_000_000_000;

/// The classes of conversations, shared.
#[derive(Debug, Default)]
pub struct Classes {
    table: RwLock<HashMap<Conversation, Entry, RandomState>>,
    pub(super) counters: Counters,
}

#[derive(Debug)]
struct Entry {
    class: Class,
    /// When it last had packets, in seconds of their clock.
    used: AtomicU32,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) packets: AtomicU64,
    pub(super) classified: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) pending: AtomicU64,
    pub(super) pending_full: AtomicU64,
    pub(super) table_full: AtomicU64,
}

/// What was classified so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Packets with payload that were looked at.
    pub packets: u64,
    /// Conversations that got a class.
    pub classified: u64,
    /// Conversations that got none.
    pub unknown: u64,
    /// Conversations of which more packets are wanted.
    pub pending: u64,
    /// Conversations that are remembered, with a class or without.
    pub held: u64,
    /// Conversations that were given up before their time, because too many were pending.
    pub pending_full: u64,
    /// Conversations that were forgotten before their time, because there were too many.
    pub table_full: u64,
}

impl Classes {
    /// Gives deltas their classes.
    pub fn apply(&self, deltas: &mut [Delta]) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            let entry = Conversation::of(&delta.key).and_then(|conversation| table.get(&conversation));
            if let Some(entry) = entry {
                entry.used.fetch_max((delta.last / SECOND) as u32, Ordering::Relaxed);
                delta.class = entry.class;
            }
        }
    }

    /// The class of a conversation is this one from now on.
    pub(super) fn set(&self, conversation: Conversation, class: Class, seconds: u32) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.insert(conversation, Entry { class, used: AtomicU32::new(seconds) });
    }

    /// When these were last in use; 0 = they are not held.
    pub(super) fn used(&self, conversations: &[Conversation]) -> Vec<u32> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let used =
            |conversation| table.get(conversation).map_or(0, |entry| entry.used.load(Ordering::Relaxed));
        conversations.iter().map(used).collect()
    }

    /// Nothing is known of these any more.
    pub(super) fn forget(&self, conversations: &[Conversation]) {
        if conversations.is_empty() {
            return;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for conversation in conversations {
            table.remove(conversation);
        }
    }

    /// What was classified so far.
    #[must_use]
    pub fn counts(&self) -> ClassCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { packets, classified, unknown, pending, pending_full, table_full } = &self.counters;
        ClassCounts {
            packets: count(packets),
            classified: count(classified),
            unknown: count(unknown),
            pending: count(pending),
            held: self.table.read().unwrap_or_else(PoisonError::into_inner).len() as u64,
            pending_full: count(pending_full),
            table_full: count(table_full),
        }
    }
}
