//! What was sent by sFlow, for the page of metrics and the report.

use std::sync::{Arc, Mutex, PoisonError};

use pathflow_exporter::sflow::{Agent, AgentCounts, SampleAccount};

use crate::metering::samples::SampleTotals;

/// What one collector was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorBooks {
    /// Address and port of the collector.
    pub destination: String,
    /// Where every sample is.
    pub account: SampleAccount,
    /// Datagrams and errors.
    pub counts: AgentCounts,
}

/// What is left of sFlow when the daemon has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SflowEnded {
    /// Samples of all interfaces.
    pub samples: SampleTotals,
    /// What each collector was sent. Empty without a collector.
    pub collectors: Vec<CollectorBooks>,
    /// Samples that were still in the queue.
    pub not_taken: u64,
}

/// The accounts of all collectors: written after each batch of samples, read by the page of metrics.
#[derive(Clone, Debug, Default)]
pub struct SflowBooks(Arc<Mutex<Vec<CollectorBooks>>>);

impl SflowBooks {
    pub(super) fn new(destinations: impl Iterator<Item = String>) -> Self {
        let books =
            destinations.map(|destination| CollectorBooks { destination, ..CollectorBooks::default() });
        Self(Arc::new(Mutex::new(books.collect())))
    }

    /// As they are now. Empty without a collector.
    #[must_use]
    pub fn collectors(&self) -> Vec<CollectorBooks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn enter<'a>(&self, agents: impl Iterator<Item = &'a Agent>) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (collector, agent) in books.iter_mut().zip(agents) {
            collector.account = *agent.account();
            collector.counts = *agent.counts();
        }
    }
}
