//! What became of messages for a broker.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Messages of a topic, by where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicAccount {
    /// Confirmed by the broker.
    pub delivered: u64,
    /// In memory, not confirmed.
    pub waiting: u64,
    /// In the spool.
    pub spooled: u64,
    /// Lost, by reason.
    pub lost: BTreeMap<&'static str, u64>,
    /// What keeps messages from being delivered, in times that it happened, by reason.
    pub errors: Vec<(&'static str, u64)>,
}

/// The account as of now, for those who want to see it.
#[derive(Debug, Default)]
pub struct TopicCounts(Mutex<TopicAccount>);

impl TopicCounts {
    /// What it is now.
    #[must_use]
    pub fn account(&self) -> TopicAccount {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(feature = "kafka")]
    pub(super) fn publish(&self, account: TopicAccount) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = account;
    }
}
