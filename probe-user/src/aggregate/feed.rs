//! What a shard makes for aggregates of the deltas that pass through it.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pathflow_common::extension::KeyExtension;
use pathflow_exporter::FlowEndReason;
use tracing::warn;

use super::aggregator::AggregateQueue;
use super::observed::Observed;
use crate::capture::Delta;
use crate::clock::Reading;
use crate::enrich::Enricher;
use crate::interfaces::InterfaceNames;
use crate::ledger::{Amount, Ledger};
use crate::metering::Flow;
use crate::metering::extensions::Extensions;
use crate::metering::flow_record::flow_record;
use crate::metering::observation::PointTable;
use crate::metering::shard::Pace;

/// Deltas that wait for the first routes at most.
const MOST_HELD: usize = 1 << 18;
/// Deltas in a batch of those that wait: small ones are put together.
const BATCH: usize = 1024;
/// How long aggregates may take what has waited, before it is offered all the same.
const RELEASE_TIME: Duration = Duration::from_secs(5);
/// The kernel program knows the time to one of its ticks, in microseconds: a packet of an epoch may seem to be from
/// before it by so much.
const TICK: u64 = 10_000;
/// Extensions of keys that a shard remembers at most.
const MOST_EXTENSIONS: usize = 1 << 16;

const TCP: u8 = 6;

/// The queues of the aggregates that there are. Every shard reads them, once per message, and one replaces them: what a
/// shard hands over goes to those of before or of after, and never to both.
#[derive(Clone, Debug, Default)]
pub struct CurrentQueues(Arc<RwLock<Arc<Vec<AggregateQueue>>>>);

impl CurrentQueues {
    /// Those of now.
    fn load(&self) -> Arc<Vec<AggregateQueue>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other ones. Those that are not among them are at their end when every shard has had its next message.
    pub(super) fn replace(&self, queues: Vec<AggregateQueue>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(queues);
    }
}

/// Deltas on their way from one shard to all aggregates.
#[derive(Debug)]
pub struct Feed {
    /// Number of the shard, from 0.
    shard: usize,
    current: CurrentQueues,
    queues: Arc<Vec<AggregateQueue>>,
    pace: Pace,
    extensions: Arc<Extensions>,
    /// Those that were looked up. A number is never that of another one.
    looked_up: HashMap<u32, Arc<KeyExtension>, RandomState>,
    batch: Vec<Observed>,
    amount: Amount,
    /// Batches that wait for the first routes, oldest first.
    held: VecDeque<(Vec<Observed>, Amount)>,
    /// Deltas in them.
    held_deltas: usize,
    /// Whether some of them had to go on without routes.
    has_overflowed: bool,
    /// Until when what has waited goes on only as fast as aggregates take it.
    release_until: Option<Instant>,
    /// Start of the epoch from which deltas come, if it is known.
    epoch_start: Option<Reading>,
    /// End of that epoch.
    epoch_end: Option<Reading>,
}

impl Feed {
    /// From a shard with this number, counted from 0.
    #[must_use]
    pub fn new(shard: usize, current: CurrentQueues, pace: Pace, extensions: Arc<Extensions>) -> Self {
        Self {
            shard,
            queues: current.load(),
            current,
            pace,
            extensions,
            looked_up: HashMap::default(),
            batch: Vec::new(),
            amount: Amount::default(),
            held: VecDeque::new(),
            held_deltas: 0,
            has_overflowed: false,
            release_until: None,
            epoch_start: None,
            epoch_end: None,
        }
    }

    /// The aggregates are those of now, until this is called again.
    pub fn follow(&mut self) {
        self.queues = self.current.load();
    }

    /// Whether there is an aggregate.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
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
        let extension = self.extension(delta.key.extension());
        let is_inside = record.protocol_identifier != TCP
            && extension.as_ref().is_some_and(|extension| extension.inner.ether_type != 0);
        let inner_tcp_control_bits = if is_inside { delta.tcp_control_bits } else { 0 };
        let end = now.unix_microseconds(delta.last);
        let class = delta.class;
        self.batch.push(Observed {
            record,
            extension,
            inner_tcp_control_bits,
            class,
            begins,
            start,
            time,
            end,
        });
    }

    /// The extension of this number; `None` for 0, and for one that is forgotten.
    fn extension(&mut self, number: u32) -> Option<Arc<KeyExtension>> {
        if number == 0 {
            return None;
        }
        if let Some(extension) = self.looked_up.get(&number) {
            return Some(Arc::clone(extension));
        }
        let extension = self.extensions.get(number)?;
        if self.looked_up.len() >= MOST_EXTENSIONS {
            self.looked_up.clear();
        }
        self.looked_up.insert(number, Arc::clone(&extension));
        Some(extension)
    }

    /// An epoch of the kernel's tables ended at this time, and what is added from now on is of that epoch.
    pub fn epoch_ended(&mut self, now: Reading) {
        self.epoch_start = self.epoch_end.replace(now);
    }

    /// Keeps what was added until routes are there. When that is too much, the oldest goes on without.
    pub fn hold(&mut self, enricher: &mut Enricher, names: &Arc<InterfaceNames>, ledger: &Ledger) {
        while self.held_deltas + self.batch.len() > MOST_HELD
            && let Some((batch, amount)) = self.take_held()
        {
            if !std::mem::replace(&mut self.has_overflowed, true) {
                warn!(
                    "aggregates: more than {MOST_HELD} changes of flows wait for routes; the first go on without"
                );
            }
            self.offer(batch, amount, enricher, names, ledger);
        }
        self.keep();
    }

    /// Offers what was added to every aggregate; after what has waited, which may take a few calls.
    pub fn hand_over(&mut self, enricher: &mut Enricher, names: &Arc<InterfaceNames>, ledger: &Ledger) {
        if !self.held.is_empty() {
            let until = *self.release_until.get_or_insert_with(|| Instant::now() + RELEASE_TIME);
            let has_room = |feed: &Self| feed.queues.iter().all(AggregateQueue::has_room);
            while (has_room(self) || Instant::now() > until)
                && let Some((batch, amount)) = self.take_held()
            {
                self.offer(batch, amount, enricher, names, ledger);
            }
            if !self.held.is_empty() {
                return self.keep();
            }
        }
        if !self.batch.is_empty() {
            let next = Vec::with_capacity(self.batch.len());
            let batch = std::mem::replace(&mut self.batch, next);
            let amount = std::mem::take(&mut self.amount);
            self.offer(batch, amount, enricher, names, ledger);
        }
    }

    /// Offers everything, whether there is room or not.
    pub fn flush(&mut self, enricher: &mut Enricher, names: &Arc<InterfaceNames>, ledger: &Ledger) {
        let deadline = Instant::now() + RELEASE_TIME;
        self.release_until = Some(deadline);
        while !self.held.is_empty() && Instant::now() < deadline {
            self.hand_over(enricher, names, ledger);
            thread::sleep(Duration::from_millis(1));
        }
        self.hand_over(enricher, names, ledger);
    }

    fn keep(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.held_deltas += self.batch.len();
        let amount = std::mem::take(&mut self.amount);
        match self.held.back_mut() {
            Some((last, sum)) if last.len() + self.batch.len() <= BATCH => {
                last.append(&mut self.batch);
                sum.add(amount);
            }
            _ => self.held.push_back((std::mem::take(&mut self.batch), amount)),
        }
    }

    fn take_held(&mut self) -> Option<(Vec<Observed>, Amount)> {
        let held = self.held.pop_front()?;
        self.held_deltas -= held.0.len();
        Some(held)
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
        let offer = |queue: &AggregateQueue| (queue.number(), queue.offer(Arc::clone(&batch), self.pace));
        ledger.offered(amount, self.queues.iter().map(offer));
    }

    /// Tells every aggregate that everything up to this time is handed over, or up to the end of the epoch, where there
    /// are epochs.
    pub fn tick(&self, now: Reading) {
        if !self.held.is_empty() {
            return;
        }
        let now = self.epoch_end.unwrap_or(now);
        self.queues.iter().for_each(|queue| queue.tick(self.shard, now, self.pace));
    }
}
