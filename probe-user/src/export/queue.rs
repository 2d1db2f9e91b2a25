//! The queues of sinks, into which shards put records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crossbeam_channel::Sender;
use pathflow_exporter::FlowRecord;

/// The sending end of a sink's queue. When all of them are gone, the sink sends what it has and ends.
#[derive(Clone, Debug)]
pub struct SinkQueue {
    pub(super) number: usize,
    pub(super) records: Sender<Arc<Vec<FlowRecord>>>,
    /// Batches at which it counts as full. Those who look at the same moment have a place each beyond it.
    pub(super) limit: usize,
    /// Takes the time by which the sink has to have ended.
    pub(super) close: Sender<Instant>,
    /// The sink has had no connection for long.
    pub(super) is_cut_off: Arc<AtomicBool>,
}

impl SinkQueue {
    /// Number of its sink in the ledger.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Puts a batch into the queue; false if it is full. Never waits.
    #[must_use]
    pub fn offer(&self, records: Arc<Vec<FlowRecord>>) -> bool {
        self.records.try_send(records).is_ok()
    }

    /// Whether the queue has room for another batch of each shard. Also true if there is no room and waiting for it is of no
    /// use, because the collector has been gone for long.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.records.len() < self.limit || self.is_cut_off.load(Ordering::Relaxed)
    }

    /// Asks the sink to send what it has, until `deadline`, and to end. Nobody may put records into the queue any more.
    pub fn close(&self, deadline: Instant) {
        // A sink that is gone, or asked already, need not be told.
        let _ = self.close.try_send(deadline);
    }
}

/// The queues of the sinks that there are. Every shard reads them, once per message, and one replaces them: a record goes to
/// those of before or of after, and never to both.
#[derive(Clone, Debug, Default)]
pub struct CurrentSinks(Arc<RwLock<Arc<Vec<SinkQueue>>>>);

impl CurrentSinks {
    /// Those of now.
    #[must_use]
    pub fn load(&self) -> Arc<Vec<SinkQueue>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other ones. Those that are not among them are at their end when every shard has had its next message.
    pub(super) fn replace(&self, queues: Vec<SinkQueue>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(queues);
    }
}
