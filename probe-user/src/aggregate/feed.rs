//! What a shard makes for aggregates of the deltas that pass through it.

use std::collections::VecDeque;
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

/// Batches that wait for the first routes at most.
const MOST_HELD: usize = 256;
/// The kernel program knows the time to one of its ticks, in microseconds: a packet of an epoch may seem to be from
/// before it by so much.
const TICK: u64 = 10_000;

/// Deltas on their way from one shard to all aggregates.
#[derive(Debug)]
pub struct Feed {
    /// Number of the shard, from 0.
    shard: usize,
    queues: Vec<AggregateQueue>,
    pace: Pace,
    batch: Vec<Observed>,
    amount: Amount,
    /// Batches that wait for the first routes, oldest first.
    held: VecDeque<(Vec<Observed>, Amount)>,
    /// Start of the epoch from which deltas come, if it is known.
    epoch_start: Option<Reading>,
    /// End of that epoch.
    epoch_end: Option<Reading>,
}

impl Feed {
    /// From a shard with this number, counted from 0.
    #[must_use]
    pub fn new(shard: usize, queues: Vec<AggregateQueue>, pace: Pace) -> Self {
        Self {
            shard,
            queues,
            pace,
            batch: Vec::new(),
            amount: Amount::default(),
            held: VecDeque::new(),
            epoch_start: None,
            epoch_end: None,
        }
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
        let start = now.unix_microseconds(delta.first);
        let epoch = self.epoch_start.map_or(0, |epoch| epoch.wall / 1000);
        // Else it would be in the bin before, whose rows have been written.
        let time = if start < epoch && epoch - start <= TICK { epoch } else { start };
        self.batch.push(Observed { record, begins, start, time, end: now.unix_microseconds(delta.last) });
    }

    /// An epoch of the kernel's tables ended at this time, and what is added from now on is of that epoch.
    pub fn epoch_ended(&mut self, now: Reading) {
        self.epoch_start = self.epoch_end.replace(now);
    }

    /// Keeps what was added until routes are there. When that is too much, the oldest goes on without.
    pub fn hold(&mut self, enricher: &mut Enricher, names: &Arc<InterfaceNames>, ledger: &Ledger) {
        if self.batch.is_empty() {
            return;
        }
        if self.held.len() >= MOST_HELD
            && let Some((batch, amount)) = self.held.pop_front()
        {
            self.offer(batch, amount, enricher, names, ledger);
        }
        self.held.push_back((std::mem::take(&mut self.batch), std::mem::take(&mut self.amount)));
    }

    /// Offers what was added to every aggregate.
    pub fn hand_over(&mut self, enricher: &mut Enricher, names: &Arc<InterfaceNames>, ledger: &Ledger) {
        while let Some((batch, amount)) = self.held.pop_front() {
            self.offer(batch, amount, enricher, names, ledger);
        }
        if !self.batch.is_empty() {
            let next = Vec::with_capacity(self.batch.len());
            let batch = std::mem::replace(&mut self.batch, next);
            let amount = std::mem::take(&mut self.amount);
            self.offer(batch, amount, enricher, names, ledger);
        }
    }

    fn offer(
        &self,
        mut batch: Vec<Observed>,
        amount: Amount,
        enricher: &mut Enricher,
        names: &Arc<InterfaceNames>,
        ledger: &Ledger,
    ) {
        enricher.enrich(&mut batch, names);
        while self.pace == Pace::WaitForSinks && !self.queues.iter().all(AggregateQueue::has_room) {
            thread::sleep(Duration::from_millis(1));
        }
        let batch = Arc::new(batch);
        ledger.offered(amount, |number| {
            self.queues.get(number).is_some_and(|queue| queue.offer(Arc::clone(&batch)))
        });
    }

    /// Tells every aggregate that everything up to this time is handed over, or up to the end of the epoch, where there
    /// are epochs.
    pub fn tick(&self, now: Reading) {
        let now = self.epoch_end.unwrap_or(now);
        self.queues.iter().for_each(|queue| queue.tick(self.shard, now, self.pace));
    }
}
