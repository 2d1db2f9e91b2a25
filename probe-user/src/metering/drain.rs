//! Drain workers: pinned threads that empty the kernel's tables into the shards.
//!
//! One of them, the first, is the timekeeper: it ends the epoch for all, hands every worker its CPUs,
//! takes its own share, and tells the shards the time when all are done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tracing::{error, warn};

use super::batches::Batches;
use super::extensions::Extensions;
use super::fragments::{Held, HeldFragments};
use super::shard::ShardMessage;
use crate::capture::{CaptureError, Delta, Epochs, ExtensionNumbers, FlowTables, TickTime};
use crate::classify::Classes;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::metrics::Latencies;
use crate::stop::Stop;

/// How often the fill level of the tables is looked at between drains.
const POLL: Duration = Duration::from_millis(10);

/// What every drain worker uses.
#[derive(Clone, Debug)]
pub struct DrainContext {
    /// The kernel's tables.
    pub tables: Arc<FlowTables>,
    /// Queues of the shards.
    pub shards: Vec<Sender<ShardMessage>>,
    /// Empty buffers that the shards are done with.
    pub pool: Receiver<Vec<Delta>>,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// How long draining takes.
    pub latencies: Arc<Latencies>,
    /// What keys have beyond their words.
    pub extensions: Arc<Extensions>,
    /// Applications of flows, if anybody asks.
    pub classes: Option<Arc<Classes>>,
}

/// What a drain worker is told.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Drain this epoch, which is over. The time is in monotonic nanoseconds.
    Drain(u64, u64),
    /// The end: hand over everything that waits.
    Release,
}

/// Drains the CPUs at some positions of the tables, when told that an epoch has ended.
#[derive(Debug)]
pub struct DrainWorker {
    /// Shared parts.
    pub context: DrainContext,
    /// Positions in the tables.
    pub positions: Vec<usize>,
    /// What to do.
    pub work: Receiver<Work>,
    /// Told when an epoch is drained.
    pub done: Sender<()>,
}

impl DrainWorker {
    /// Works until the timekeeper is gone.
    pub fn run(self) {
        let mut drain = Drain::new(self.context);
        while let Ok(work) = self.work.recv() {
            drain.work(work, &self.positions);
            if self.done.send(()).is_err() {
                return;
            }
        }
    }
}

/// Ends epochs, and drains its own share.
#[derive(Debug)]
pub struct Timekeeper {
    /// Shared parts.
    pub context: DrainContext,
    /// Positions in the tables.
    pub positions: Vec<usize>,
    /// Starts new epochs.
    pub epochs: Epochs,
    /// Where the other workers get their work.
    pub workers: Vec<Sender<Work>>,
    /// Where the other workers say that they are done.
    pub done: Receiver<()>,
    /// Length of an epoch, unless a table fills up earlier.
    pub interval: Duration,
    /// The clock.
    pub clock: Clock,
    /// Ends the work.
    pub stop: Stop,
}

impl Timekeeper {
    /// Works until it is told to stop, then empties the tables and the caches: by then, nothing may be
    /// attached any more.
    pub fn run(mut self, stopped: &Receiver<()>) {
        let mut drain = Drain::new(self.context.clone());
        // The caches learn what time it is before the first flow comes.
        drain.batches.tell(ShardMessage::Expire, self.clock.read());
        while self.wait(stopped) {
            if let Err(reason) = self.end_epoch(&mut drain) {
                // Without the kernel's word that an epoch is over, its tables cannot be read.
                error!("{reason}; stopping");
                self.stop.fail();
                // The final epochs are for when nothing is attached any more.
                let _ = stopped.recv();
                break;
            }
            drain.batches.tell(ShardMessage::Expire, self.clock.read());
        }
        // Twice: a program that began just as the first new epoch did may have written to it.
        for _ in 0..2 {
            if let Err(reason) = self.end_epoch(&mut drain) {
                error!("{reason}");
            }
        }
        if let Err(reason) = self.work(&mut drain, Work::Release) {
            error!("{reason}");
        }
        drain.batches.tell(ShardMessage::Flush, self.clock.read());
    }

    /// Waits until the epoch is to be ended; false if the work is.
    fn wait(&self, stopped: &Receiver<()>) -> bool {
        // Epochs end on multiples of the interval by the wall clock. The wait itself is by the monotonic
        // clock, so that a step of the wall clock can not stretch it.
        let deadline = Instant::now() + self.clock.read().until_multiple_of(self.interval);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match stopped.recv_timeout(left.min(POLL)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if left <= POLL || self.context.tables.half_full() {
                return true;
            }
        }
    }

    fn end_epoch(&mut self, drain: &mut Drain) -> Result<(), CaptureError> {
        let start = Instant::now();
        let epoch = self.epochs.advance(&self.context.tables)?;
        self.context.latencies.grace_period(start.elapsed());
        drain.batches.tell(ShardMessage::EpochEnded, self.clock.read());
        self.work(drain, Work::Drain(epoch, self.clock.read().monotonic))
    }

    /// Has all workers do something, this one among them, and waits for the others.
    fn work(&self, drain: &mut Drain, work: Work) -> Result<(), CaptureError> {
        let started = self.workers.iter().filter(|worker| worker.send(work).is_ok()).count();
        drain.work(work, &self.positions);
        for _ in 0..started {
            if self.done.recv().is_err() {
                return Err(CaptureError::Thread("drain worker".to_owned()));
            }
        }
        Ok(())
    }
}

/// The work of draining.
#[derive(Debug)]
struct Drain {
    tables: Arc<FlowTables>,
    latencies: Arc<Latencies>,
    batches: Batches,
    fragments: HeldFragments,
    extensions: ExtensionNumbers,
    /// Of the last epoch that was not empty.
    ticks: Option<TickTime>,
    /// Whether a CPU without tables has been warned of.
    warned: bool,
}

impl Drain {
    fn new(context: DrainContext) -> Self {
        let DrainContext { tables, shards, pool, ledger, latencies, extensions, classes } = context;
        let batches = Batches::new(shards, pool, ledger).with_classes(classes);
        let fragments = HeldFragments::default();
        let extensions = ExtensionNumbers::new(extensions);
        Self { tables, latencies, batches, fragments, extensions, ticks: None, warned: false }
    }

    fn work(&mut self, work: Work, positions: &[usize]) {
        match work {
            Work::Drain(epoch, now) => {
                self.drain(epoch, positions);
                self.release_fragments(now);
            }
            Work::Release => self.release_fragments(u64::MAX),
        }
        self.batches.send_all();
    }

    fn drain(&mut self, epoch: u64, positions: &[usize]) {
        let start = Instant::now();
        for &position in positions {
            // First what the kernel counted, then what is in its tables: see `ledger`.
            self.batches.ledger().seen_in_tables(&self.tables.take_counters(epoch, position));
            let drained = self.tables.drain(epoch, position, &mut self.extensions, |delta| {
                match self.fragments.hold(delta) {
                    Held::Complete(delta) => self.batches.push_and_send(delta),
                    Held::WithoutPorts(delta) => {
                        self.batches.fragments_without_ports(&delta);
                        self.batches.push_and_send(delta);
                    }
                    // Stays on the account of what is in the kernel.
                    Held::Waiting => {}
                }
            });
            self.batches.ledger().without_extension(self.extensions.take_without());
            self.ticks = drained.ticks.or(self.ticks);
            if drained.spilled > 0 && self.tables.table_cpu(position).is_none() && !self.warned {
                self.warned = true;
                warn!(
                    "packets arrive on a CPU without flow tables, where only a spill log counts them; \
                     restart after the interrupts have moved"
                );
            }
        }
        self.latencies.drain(start.elapsed());
    }

    fn release_fragments(&mut self, now: u64) {
        let (tables, ticks, batches) = (&self.tables, self.ticks, &mut self.batches);
        self.fragments.release(
            now,
            |datagram, time| tables.datagram_ports(datagram, ticks?, time),
            |delta, without_ports| {
                if without_ports {
                    batches.fragments_without_ports(&delta);
                }
                batches.push_and_send(delta);
            },
        );
    }
}
