//! The thread of an aggregate, and the thread that writes what it hands over.
//!
//! The queue in front of it is never waited for in live capture: what finds it full is counted as lost. A purge is
//! due when every shard has said that it has handed over everything up to that time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pathflow_exporter::Tally;
use tracing::{debug, info, warn};

use super::aggregation::{Aggregation, Spread};
use super::observed::Observed;
use super::output::RowOutput;
use super::purge::{LeftOut, Purge, RowLimits};
use super::settings::AggregateSettings;
use crate::clock::Reading;
use crate::enrich::CurrentSettings;
use crate::export::SharedContext;
use crate::ledger::Ledger;
use crate::metering::shard::Pace;

/// Batches of deltas that wait for an aggregate at most: a quarter million deltas.
const QUEUE: usize = 256;
/// Messages about the time for which there is room beside them.
const TICKS: usize = 64;
/// Purges that wait for the writer at most. Another one is being written, and a table is being filled.
const PURGES: usize = 1;
/// How often outputs that have nothing to write look after themselves.
const POLL: Duration = Duration::from_secs(1);
/// How long they may take at the end, if nobody has said it.
const CLOSE_TIME: Duration = Duration::from_secs(8);

const NANOSECONDS: u64 = 1_000_000_000;
const MICROSECONDS: u64 = 1_000_000;

/// What an aggregate is told.
#[derive(Debug)]
enum Message {
    Deltas(Arc<Vec<Observed>>),
    /// The shard with this number has handed over everything up to this time.
    Tick(usize, Reading),
}

/// The sending end of an aggregate's queue.
#[derive(Clone, Debug)]
pub struct AggregateQueue {
    number: usize,
    messages: Sender<Message>,
}

/// What is said of the end of an aggregate.
#[derive(Debug, Default)]
pub struct End {
    /// Until when outputs may deliver what they have.
    deadline: OnceLock<Instant>,
    /// Whether it ends alone, while packets are counted.
    is_alone: AtomicBool,
}

impl End {
    /// Everything ends: outputs may deliver until `deadline`.
    pub fn set_deadline(&self, deadline: Instant) {
        // The first one counts.
        let _ = self.deadline.set(deadline);
    }

    /// The aggregate ends, and others go on. Settings that are read anew from now on are not for it.
    pub fn set_alone(&self) {
        self.is_alone.store(true, Ordering::SeqCst);
    }

    fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::SeqCst)
    }
}

impl AggregateQueue {
    /// Number in the ledger.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Puts a batch into the queue; false if it is full. Never waits. Where the queue is waited for, each shard has a place
    /// beyond the bound, for several may have seen the last one.
    #[must_use]
    pub fn offer(&self, deltas: Arc<Vec<Observed>>, pace: Pace) -> bool {
        (pace == Pace::WaitForSinks || self.has_room())
            && self.messages.try_send(Message::Deltas(deltas)).is_ok()
    }

    /// Whether there is room for another batch.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.messages.len() < QUEUE
    }

    /// A shard has handed over everything up to this time.
    pub fn tick(&self, shard: usize, now: Reading, pace: Pace) {
        let tick = Message::Tick(shard, now);
        // One that finds no room is made up for by the next one.
        let _ = match pace {
            Pace::NeverWait => self.messages.try_send(tick).is_ok(),
            Pace::WaitForSinks => {
                // What is left of the queue is for batches that are on their way to it.
                while self.messages.len() >= QUEUE + TICKS {
                    thread::sleep(Duration::from_millis(1));
                }
                self.messages.send(tick).is_ok()
            }
        };
    }
}

/// What an aggregate works with.
#[derive(Debug)]
pub struct AggregatorParts {
    /// Number in the ledger.
    pub number: usize,
    /// Settings.
    pub settings: AggregateSettings,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// Names of interfaces.
    pub context: SharedContext,
    /// What is known beyond what packets carry.
    pub enrichment: CurrentSettings,
    /// Number of shards.
    pub shards: usize,
    /// Whether the writer is waited for.
    pub pace: Pace,
    /// What is said of its end.
    pub end: Arc<End>,
    /// Those before it, which have closed their outputs when nobody sends here any more.
    pub before: Vec<Receiver<Ended>>,
}

/// Never sent: who holds the sender has not closed its outputs.
#[derive(Debug)]
pub enum Ended {}

/// An aggregate: takes deltas from its queue and hands purges to its writer.
#[derive(Debug)]
pub struct Aggregator {
    parts: AggregatorParts,
    aggregation: Aggregation,
    messages: Receiver<Message>,
    purges: Sender<Purge>,
    /// Purges that are written, for their memory.
    written: Receiver<Purge>,
    /// Time of the last tick of each shard, in nanoseconds since the Unix epoch.
    ticks: Vec<Option<u64>>,
    /// Time of the last packet, in microseconds since the Unix epoch: for purges before the first ticks.
    last_packet: u64,
    /// When the next purge is due, in seconds since the Unix epoch.
    next_purge: Option<u64>,
}

/// Writes purges.
#[derive(Debug)]
pub struct Writer {
    number: usize,
    name: String,
    limits: RowLimits,
    outputs: Vec<Box<dyn RowOutput>>,
    ledger: Arc<Ledger>,
    purges: Receiver<Purge>,
    written: Sender<Purge>,
    end: Arc<End>,
    before: Vec<Receiver<Ended>>,
    /// Dropped when the outputs are closed.
    ended: Sender<Ended>,
}

/// The ends of an aggregate that others hold.
#[derive(Debug)]
pub struct Handles {
    /// Its queue.
    pub queue: AggregateQueue,
    /// Nobody sends here any more once its outputs are closed.
    pub ended: Receiver<Ended>,
}

impl Aggregator {
    /// An aggregate with its queue, and the writer to its outputs.
    #[must_use]
    pub fn new(mut parts: AggregatorParts, outputs: Vec<Box<dyn RowOutput>>) -> (Self, Writer, Handles) {
        // A batch and a message about the time of each shard.
        let (queue, messages) = bounded(QUEUE + TICKS + 2 * parts.shards);
        let queue = AggregateQueue { number: parts.number, messages: queue };
        let (ended_sender, ended) = bounded(0);
        let (purges, to_write) = bounded(PURGES);
        let (give_back, written) = bounded(PURGES + 1);
        let writer = Writer {
            number: parts.number,
            name: parts.settings.name.clone(),
            limits: parts.settings.limits,
            outputs,
            ledger: Arc::clone(&parts.ledger),
            purges: to_write,
            written: give_back,
            end: Arc::clone(&parts.end),
            before: std::mem::take(&mut parts.before),
            ended: ended_sender,
        };
        let aggregation = Aggregation::new(parts.settings.clone());
        let ticks = vec![None; parts.shards];
        let aggregator =
            Self { parts, aggregation, messages, purges, written, ticks, last_packet: 0, next_purge: None };
        (aggregator, writer, Handles { queue, ended })
    }

    /// Works until every end of its queue is gone, then hands over what it has.
    pub fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            match message {
                Message::Deltas(deltas) => self.add(&deltas),
                Message::Tick(shard, now) => self.tick(shard, now),
            }
        }
        let mut purge = self.take(self.now(), None, false);
        if self.parts.end.is_alone() {
            // Another aggregate may write to the same file in this period.
            purge.set_early();
        }
        // The writer ends after this thread, unless the process does.
        let _ = self.purges.send(purge);
    }

    fn add(&mut self, deltas: &[Observed]) {
        self.aggregation.set_context(self.parts.context.load());
        let enrichment = self.parts.enrichment.load();
        // Asked after that: what is loaded later is not for one that ends.
        if !self.parts.end.is_alone() {
            self.aggregation.set_enrichment(&enrichment);
        }
        self.last_packet = deltas.last().map_or(self.last_packet, |observed| observed.end);
        let mut spread = Spread::default();
        let mut rest = deltas;
        while !rest.is_empty() {
            if !self.aggregation.has_room() && self.can_purge() {
                self.enter(&std::mem::take(&mut spread));
                let purge = self.take(self.now(), None, true);
                let _ = self.purges.send(purge);
            }
            let (next, later) = rest.split_at(self.aggregation.room(rest.len()));
            self.aggregation.add(next, &mut spread);
            rest = later;
        }
        self.enter(&spread);
    }

    fn tick(&mut self, shard: usize, now: Reading) {
        if let Some(tick) = self.ticks.get_mut(shard) {
            *tick = Some(now.wall);
        }
        if self.ticks.contains(&None) {
            return;
        }
        let now = self.now();
        let refresh = &self.aggregation.settings().refresh;
        let period = refresh.bin_of(now);
        let due = *self.next_purge.get_or_insert(period.end);
        // Shards may be some moments apart.
        let is_set_back = due.saturating_sub(now) > refresh.length() + 2;
        if (now < due && !is_set_back) || !self.can_purge() {
            return;
        }
        self.next_purge = Some(period.end);
        // Rows of bins that are in the future now would wait for it.
        let before = if is_set_back { None } else { Some(period.start) };
        if is_set_back {
            let name = &self.parts.settings.name;
            warn!("aggregate {name}: the wall clock was set back; all rows are written now");
        }
        let purge = self.take(now, before, false);
        let _ = self.purges.send(purge);
    }

    /// The time up to which every shard has handed everything over, in seconds since the Unix epoch.
    fn now(&self) -> u64 {
        match self.ticks.iter().flatten().min() {
            Some(tick) => tick / NANOSECONDS,
            None => self.last_packet / MICROSECONDS,
        }
    }

    /// Whether the writer takes a purge, at once or, where there is time, sooner or later.
    fn can_purge(&self) -> bool {
        self.parts.pace == Pace::WaitForSinks || !self.purges.is_full()
    }

    fn take(&mut self, updated: u64, before: Option<u64>, is_early: bool) -> Purge {
        let memory = self.written.try_recv().ok();
        let mut purge = self.aggregation.purge(updated, before, memory);
        if is_early {
            purge.set_early();
        }
        self.parts.ledger.purging(self.parts.number, purge.tally(), self.aggregation.tally(), is_early);
        purge
    }

    fn enter(&self, spread: &Spread) {
        self.parts.ledger.aggregated(self.parts.number, spread, self.aggregation.tally());
    }
}

impl Writer {
    /// Works until the aggregate is gone, then closes the outputs.
    pub fn run(mut self) {
        for before in std::mem::take(&mut self.before) {
            // Its rows come first, and it may have the spool.
            let _ = before.recv();
        }
        self.outputs.iter_mut().for_each(|output| output.poll());
        loop {
            match self.purges.recv_timeout(POLL) {
                Ok(purge) => self.write(purge),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.outputs.iter_mut().for_each(|output| output.poll());
            self.settle();
        }
        let deadline = self.end.deadline.get().copied().unwrap_or_else(|| Instant::now() + CLOSE_TIME);
        self.outputs.iter_mut().for_each(|output| output.close(deadline));
        self.settle();
        if self.end.is_alone() {
            self.ledger.aggregate_ended(self.number);
        }
        drop(self.ended);
    }

    fn write(&mut self, mut purge: Purge) {
        let start = Instant::now();
        let rows = purge.len();
        let left_out = purge.choose(&self.limits);
        let lost = |outputs: &[Box<dyn RowOutput>]| {
            outputs.iter().map(|output| output.account().total_lost().records).sum::<u64>()
        };
        let lost_before = lost(&self.outputs);
        self.outputs.iter_mut().for_each(|output| output.write(&purge));
        self.ledger.purged(
            self.number,
            (purge.tally(), left_out),
            self.outputs.iter().map(|output| output.account()),
        );
        let (name, written, elapsed) = (&self.name, purge.len(), start.elapsed().as_secs_f64());
        if rows == 0 {
            debug!("aggregate {name}: nothing to purge");
        } else if self.outputs.iter().all(|output| output.kept().is_some()) {
            debug!("aggregate {name}: {written} of {rows} rows taken over in {elapsed:.3} s");
        } else {
            info!("aggregate {name}: purged {written} of {rows} rows in {elapsed:.3} s");
        }
        let lost = lost(&self.outputs) - lost_before;
        if lost > 0 {
            warn!("aggregate {name}: {lost} rows of this purge are lost");
        }
        // Full: there is memory enough.
        let _ = self.written.try_send(purge);
    }

    fn settle(&self) {
        let accounts = self.outputs.iter().map(|output| output.account());
        self.ledger.purged(self.number, (Tally::ZERO, LeftOut::default()), accounts);
    }
}

#[cfg(test)]
mod tests;
