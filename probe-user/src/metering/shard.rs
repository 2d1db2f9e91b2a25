//! A shard of the flow cache: a thread that owns its flows and shares nothing.
//!
//! Deltas come in by a bounded channel. When it is full the drain worker waits, and meanwhile the kernel's
//! tables go on counting; if they fill up too, the loss has its name there. Records go out by bounded
//! queues, which are never waited for: what finds a queue full is counted as lost.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use pathflow_exporter::{FlowEndReason, FlowRecord};

use super::extensions::Extensions;
use super::flow_record::flow_record;
use super::observation::{ObservationPoints, PointTable};
use super::{Flow, FlowCache};
use crate::aggregate::Feed;
use crate::capture::Delta;
use crate::clock::{Clock, Reading};
use crate::enrich::{Enricher, Hold};
use crate::export::{CurrentSinks, SinkQueue};
use crate::interfaces::{InterfaceNames, NameTable};
use crate::ledger::{Amount, Ledger, PointAmounts, RecordsMade};
use crate::metrics::Latencies;

/// Records that are handed to the sinks together.
pub const RECORD_BATCH: usize = 512;
/// Deltas whose flows are looked up together: a core reads some ten lines of memory at once.
const GROUP: usize = 16;
/// IP protocol number.
const TCP: u8 = 6;
/// How long sinks may take to make room for what the cache holds at the end.
const FLUSH_TIME: Duration = Duration::from_secs(10);

/// Whether a shard waits for sinks that are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Live capture: a full queue is a loss, because packets keep coming.
    NeverWait,
    /// Replay: the file has time.
    WaitForSinks,
}

/// What a shard is told.
#[derive(Debug)]
pub enum ShardMessage {
    /// Deltas of flows that belong to this shard. The emptied buffer goes back by the pool.
    Deltas(Vec<Delta>),
    /// An epoch of the kernel's tables ended at this time: what comes from now on was counted in it.
    EpochEnded(Reading),
    /// An epoch has been drained: expire what is over at this time.
    Expire(Reading),
    /// The end: turn everything into records.
    Flush(Reading),
}

/// What a shard works with.
#[derive(Debug)]
pub struct Shard {
    /// Its number, from 0.
    pub number: usize,
    /// What keys have beyond their words.
    pub extensions: Arc<Extensions>,
    /// Its flows.
    pub cache: FlowCache,
    /// Where its messages come from.
    pub messages: Receiver<ShardMessage>,
    /// Where emptied delta buffers go.
    pub pool: Sender<Vec<Delta>>,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// Observation points.
    pub points: Arc<ObservationPoints>,
    /// Numbers of interfaces in records.
    pub names: NameTable,
    /// Fills what packets do not carry.
    pub enricher: Enricher,
    /// The filter results that records have, a bit for each; flows are not told apart by others.
    pub record_filters: u8,
    /// Whether the first records still wait for routes.
    pub hold: Hold,
    /// Queues of the sinks.
    pub sinks: CurrentSinks,
    /// What aggregates get.
    pub feed: Feed,
    /// Whether sinks are waited for.
    pub pace: Pace,
    /// How long merging takes.
    pub latencies: Arc<Latencies>,
}

impl Shard {
    /// Works until every sender of messages is gone.
    pub fn run(mut self) {
        let mut records = Records::new();
        while let Ok(message) = self.messages.recv() {
            let flows = self.cache.len();
            if let ShardMessage::Expire(now) = message {
                self.extensions.reached(self.number, now.monotonic);
            }
            records.points = self.points.table();
            records.names = self.names.load();
            records.sinks = self.sinks.load();
            self.feed.follow();
            match message {
                ShardMessage::Deltas(deltas) => self.merge(deltas, &mut records),
                ShardMessage::EpochEnded(now) => self.feed.epoch_ended(now),
                // Flows of the start stay in the cache until their routes are there.
                ShardMessage::Expire(_) if self.hold.is_on() => {}
                ShardMessage::Expire(now) => {
                    records.now = Some(now);
                    self.feed.hand_over(&mut self.enricher, &records.names, &self.ledger);
                    self.feed.tick(now);
                    // A burst that fills every queue is spread over the next epochs: the flows can stay in
                    // the cache until then. A sink that is slower than the others delays nothing.
                    while (records.sinks.is_empty() || records.sinks.iter().any(SinkQueue::has_room))
                        && let Some((flow, reason)) = self.cache.expire(now.monotonic)
                    {
                        self.record(&flow, reason, &mut records);
                    }
                    self.hand_over(&mut records);
                }
                ShardMessage::Flush(now) => {
                    records.now = Some(now);
                    let deadline = Instant::now() + FLUSH_TIME;
                    while let Some(flow) = self.cache.flush() {
                        if records.batch.is_empty() {
                            wait_for_room(&records.sinks, Some(deadline));
                        }
                        self.record(&flow, FlowEndReason::ForcedEnd, &mut records);
                    }
                    self.hand_over(&mut records);
                    self.feed.flush(&mut self.enricher, &records.names, &self.ledger);
                    self.feed.tick(now);
                }
            }
            self.ledger.flows_changed(flows, self.cache.len());
        }
    }

    fn merge(&mut self, mut deltas: Vec<Delta>, records: &mut Records) {
        let start = Instant::now();
        let mut amounts = PointAmounts::new();
        for delta in &deltas {
            let amount = Amount { packets: delta.packets, octets: delta.octets };
            amounts.add(delta.key.fields().observation_point, amount);
        }
        self.ledger.merged(&amounts);
        let mut group = Vec::with_capacity(GROUP);
        for of_kernel in deltas.chunks(GROUP) {
            group.extend(of_kernel.iter().map(|delta| {
                let delta = self.of_flow(delta);
                (delta, self.cache.hash(&delta.key))
            }));
            self.cache.read_ahead(group.iter().map(|(_, hash)| *hash));
            for (delta, (of_flow, hash)) in of_kernel.iter().zip(group.drain(..)) {
                let flows = self.cache.len();
                let evicted = self.cache.merge_hashed(&of_flow, hash);
                if self.feed.is_wanted() {
                    let begins = evicted.is_some() || self.cache.len() > flows;
                    let now = records.now();
                    self.feed.push(delta, begins, now, &records.points, &records.names);
                }
                if let Some(evicted) = evicted {
                    self.record(&evicted, FlowEndReason::LackOfResources, records);
                }
            }
        }
        self.hand_over(records);
        if self.hold.is_on() {
            self.feed.hold(&mut self.enricher, &records.names, &self.ledger);
        } else {
            self.feed.hand_over(&mut self.enricher, &records.names, &self.ledger);
        }
        deltas.clear();
        // The pool is as large as there are buffers; if it should be full, the buffer is simply freed.
        let _ = self.pool.try_send(deltas);
        self.latencies.merge(start.elapsed());
    }

    /// A delta as its flow takes it: flows are told apart only by what records say, and by the filters that they are asked
    /// about.
    fn of_flow(&self, delta: &Delta) -> Delta {
        let key =
            delta.key.with_filter_results_of(self.record_filters).without_vlan_priority().without_extension();
        // Else they are of the packet inside a tunnel.
        let is_tcp = delta.key.fields().protocol == TCP;
        let tcp_control_bits = if is_tcp { delta.tcp_control_bits } else { 0 };
        Delta { key, tcp_control_bits, ..*delta }
    }

    fn record(&mut self, flow: &Flow, reason: FlowEndReason, records: &mut Records) {
        let now = records.now();
        let record = flow_record(flow, reason, now, &records.points, &records.names);
        records.made.add(flow.key.fields().observation_point, &record);
        records.batch.push(record);
        if records.batch.len() >= RECORD_BATCH {
            self.hand_over(records);
        }
    }

    fn hand_over(&mut self, records: &mut Records) {
        if records.batch.is_empty() {
            return;
        }
        self.enricher.enrich(&mut records.batch, &records.names);
        if self.pace == Pace::WaitForSinks {
            wait_for_room(&records.sinks, None);
        }
        let batch = Arc::new(std::mem::replace(&mut records.batch, Vec::with_capacity(RECORD_BATCH)));
        self.ledger.recorded(&records.made, |sink| {
            let queue = records.sinks.iter().find(|queue| queue.number() == sink)?;
            Some(queue.offer(Arc::clone(&batch)))
        });
        records.made.clear();
    }
}

/// Waits for every sink, where there is time: in a replay, and at the end when nothing comes in any more.
fn wait_for_room(sinks: &[SinkQueue], deadline: Option<Instant>) {
    while !sinks.iter().all(SinkQueue::has_room) && deadline.is_none_or(|deadline| Instant::now() < deadline)
    {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Records on their way to the sinks.
struct Records {
    batch: Vec<FlowRecord>,
    made: RecordsMade,
    points: Arc<PointTable>,
    names: Arc<InterfaceNames>,
    /// The sinks of now: all records of a message go to the same ones.
    sinks: Arc<Vec<SinkQueue>>,
    /// The last reading of the clocks; records made between two of them use it.
    now: Option<Reading>,
}

impl Records {
    fn new() -> Self {
        Self {
            batch: Vec::with_capacity(RECORD_BATCH),
            made: RecordsMade::default(),
            points: Arc::default(),
            names: Arc::default(),
            sinks: Arc::default(),
            now: None,
        }
    }

    fn now(&mut self) -> Reading {
        *self.now.get_or_insert_with(|| Clock::new().read())
    }
}
