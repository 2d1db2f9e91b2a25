//! What was sent by sFlow, for the page of metrics and the report.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pathflow_exporter::sflow::{AgentCounts, SampleAccount};

use super::Exporting;
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
pub struct SflowBooks(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    /// Of those that there are.
    present: Vec<CollectorBooks>,
    /// Of those that have ended, one for each destination.
    ended: Vec<CollectorBooks>,
}

impl CollectorBooks {
    fn of(exporting: &Exporting) -> Self {
        let Exporting { destination, agent, .. } = exporting;
        Self { destination: destination.clone(), account: *agent.account(), counts: *agent.counts() }
    }

    fn add_to(self, sums: &mut Vec<Self>) {
        match sums.iter_mut().find(|sum| sum.destination == self.destination) {
            Some(sum) => {
                sum.account = sum.account.and(&self.account);
                sum.counts = sum.counts.and(&self.counts);
            }
            None => sums.push(self),
        }
    }
}

impl SflowBooks {
    /// As they are now, those of earlier agents for the same collector included. Empty if there never was a collector.
    #[must_use]
    pub fn collectors(&self) -> Vec<CollectorBooks> {
        let books = self.lock();
        let mut sums = books.present.clone();
        books.ended.iter().cloned().for_each(|ended| ended.add_to(&mut sums));
        sums
    }

    pub(super) fn enter(&self, agents: &[Exporting]) {
        let mut books = self.lock();
        let of_present = books.present.iter().map(|present| &present.destination);
        if !of_present.eq(agents.iter().map(|exporting| &exporting.destination)) {
            books.present = agents.iter().map(CollectorBooks::of).collect();
        }
        for (present, Exporting { agent, .. }) in books.present.iter_mut().zip(agents) {
            present.account = *agent.account();
            present.counts = *agent.counts();
        }
    }

    /// An agent has ended; it will not be among those that are entered next.
    pub(super) fn end(&self, exporting: &Exporting) {
        let mut books = self.lock();
        books.present.retain(|present| present.destination != exporting.destination);
        CollectorBooks::of(exporting).add_to(&mut books.ended);
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
