//! What a shard makes for aggregates of the deltas that pass through it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pathflow_exporter::FlowEndReason;

use super::aggregator::AggregateQueue;
use super::observed::Observed;
use crate::capture::Delta;
use crate::clock::Reading;
use crate::enrich::Enricher;
use crate::interfaces::InterfaceNames;
use crate::ledger::{Amount, Ledger};
use crate::metering::Flow;
use crate::metering::flow_record::flow_record;
use crate::metering::observation::PointTable;
use crate::metering::shard::Pace;

/// Deltas on their way from one shard to all aggregates.
#[derive(Debug)]
pub struct Feed {
    /// Number of the shard, from 0.
    shard: usize,
    queues: Vec<AggregateQueue>,
    pace: Pace,
    batch: Vec<Observed>,
    amount: Amount,
}

impl Feed {
    /// From a shard with this number, counted from 0.
    #[must_use]
    pub const fn new(shard: usize, queues: Vec<AggregateQueue>, pace: Pace) -> Self {
        Self { shard, queues, pace, batch: Vec::new(), amount: Amount { packets: 0, octets: 0 } }
    }

    /// Whether there is an aggregate.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Adds a delta. `begins` says whether its flow does.
    pub fn push(
        &mut self,
        delta: &Delta,
        begins: bool,
        now: Reading,
        points: &PointTable,
        names: &InterfaceNames,
    ) {
        // It has not ended: nobody looks at the reason.
        let record = flow_record(&Flow::from(delta), FlowEndReason::ActiveTimeout, now, points, names);
        self.amount.add(Amount { packets: delta.packets, octets: delta.octets });
        self.batch.push(Observed {
            record,
            filter_results: filter_results(delta),
            begins,
            start: now.unix_microseconds(delta.first),
            end: now.unix_microseconds(delta.last),
        });
    }

    /// Offers what was added to every aggregate.
    pub fn hand_over(&mut self, enricher: &mut Enricher, names: &Arc<InterfaceNames>, ledger: &Ledger) {
        if self.batch.is_empty() {
            return;
        }
        let records = self.batch.iter_mut().map(|observed| &mut observed.record);
        enricher.enrich(records, names);
        while self.pace == Pace::WaitForSinks && !self.queues.iter().all(AggregateQueue::has_room) {
            thread::sleep(Duration::from_millis(1));
        }
        let next = Vec::with_capacity(self.batch.len());
        let batch = Arc::new(std::mem::replace(&mut self.batch, next));
        ledger.offered(std::mem::take(&mut self.amount), |number| {
            self.queues.get(number).is_some_and(|queue| queue.offer(Arc::clone(&batch)))
        });
    }

    /// Tells every aggregate that everything up to this time is handed over.
    pub fn tick(&self, now: Reading) {
        self.queues.iter().for_each(|queue| queue.tick(self.shard, now, self.pace));
    }
}

/// Results of the filters of aggregates, which the kernel program puts into the key of a flow.
const fn filter_results(_delta: &Delta) -> u8 {
    0
}
