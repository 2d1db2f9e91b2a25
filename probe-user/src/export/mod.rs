//! Sinks: one thread with one bounded queue for each collector, or for several that stand in for each other, and for
//! standard output.

mod destination;
mod failover;
mod pacer;
mod queue;
mod sampling;
mod selection;
mod start;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};
use pathflow_exporter::{
    ExportAccount, ExportCounts, ExportEvent, ExportTime, ExportingProcess, FlowPrinter, FlowRecord,
    InterfaceNames, LimitReason, MeteringStatistics, ObservationContext, Tally,
};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::enrich::{CurrentSettings, OwnTags};
use crate::ledger::Ledger;
use crate::metrics::Latencies;
use crate::pipeline::CLOSE_TIME;
use crate::stop::Stop;

pub use failover::Failover;
pub use pacer::Pacer;
pub use queue::{CurrentSinks, SinkQueue};
pub use sampling::RecordSampling;
pub use selection::{Conditions, IpVersion, RecordSelection, Share};
pub use start::{Exports, NextExports, SinkSurroundings};

/// How often a sink that has nothing to do resends templates, asks for errors and so on.
const TICK: Duration = Duration::from_secs(1);

/// How long a sink without a connection waits before it looks again.
const CONNECTION_WAIT: Duration = Duration::from_millis(50);

/// The same at the end, when only acknowledgements may be missing.
const CLOSE_WAIT: Duration = Duration::from_millis(2);

/// After this long without a connection nobody waits for the sink any more: what finds its queue full is lost.
const LONG_OUTAGE: Duration = Duration::from_secs(10);

/// What collectors are told about interfaces and sampling: replaced by one, read by every sink once per batch.
#[derive(Clone, Debug, Default)]
pub struct SharedContext(Arc<RwLock<Arc<ObservationContext>>>);

impl SharedContext {
    /// What holds now.
    #[must_use]
    pub fn load(&self) -> Arc<ObservationContext> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something else holds from now on.
    pub fn replace(&self, context: ObservationContext) {
        let mut shared = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if **shared != context {
            *shared = Arc::new(context);
        }
    }
}

/// What records go to.
#[derive(Debug)]
pub enum Output {
    /// A collector.
    Collector(Box<ExportingProcess>),
    /// Collectors that stand in for each other.
    Failover(Box<Failover>),
    /// Lines on standard output.
    Lines(Box<FlowPrinter>),
}

impl Output {
    fn export(&mut self, now: ExportTime, records: &[FlowRecord]) {
        match self {
            Self::Collector(process) => process.export(now, records),
            Self::Failover(failover) => failover.export(now, records),
            Self::Lines(printer) => printer.export(records),
        }
    }

    fn set_context(&mut self, context: &Arc<ObservationContext>) {
        match self {
            Self::Collector(process) => process.set_context(Arc::clone(context)),
            Self::Failover(failover) => failover.set_context(context),
            Self::Lines(printer) => {
                let names: InterfaceNames = context
                    .interfaces
                    .iter()
                    .map(|interface| (interface.index, interface.name.clone()))
                    .collect();
                printer.set_interface_names(Arc::new(names));
            }
        }
    }

    fn set_statistics(&mut self, statistics: MeteringStatistics) {
        match self {
            Self::Collector(process) => process.set_metering_statistics(statistics),
            Self::Failover(failover) => failover.set_metering_statistics(statistics),
            Self::Lines(_) => {}
        }
    }

    fn flush(&mut self, now: ExportTime) {
        match self {
            Self::Collector(process) => process.flush(now),
            Self::Failover(failover) => failover.flush(now),
            Self::Lines(printer) => printer.flush(),
        }
    }

    fn tick(&mut self, now: ExportTime) {
        match self {
            Self::Collector(process) => process.tick(now),
            Self::Failover(failover) => failover.tick(now),
            Self::Lines(printer) => printer.flush(),
        }
    }

    fn close(&mut self, now: ExportTime) {
        match self {
            Self::Collector(process) => process.close(now),
            Self::Failover(failover) => failover.close(now),
            Self::Lines(printer) => printer.flush(),
        }
    }

    /// Whether it takes records now. If not, they are to stay in the queue.
    fn is_ready(&self) -> bool {
        match self {
            Self::Collector(process) => process.is_ready(),
            Self::Failover(failover) => failover.is_ready(),
            Self::Lines(_) => true,
        }
    }

    /// Does something about it.
    fn poll(&mut self, now: ExportTime) {
        match self {
            Self::Collector(process) => process.poll(now),
            Self::Failover(failover) => failover.poll(now),
            Self::Lines(_) => {}
        }
    }

    /// There is little time: what waits to be tried again is tried now.
    fn retry(&mut self) {
        match self {
            Self::Collector(process) => process.retry(),
            Self::Failover(failover) => failover.retry(),
            Self::Lines(_) => {}
        }
    }

    /// Whether what was sent has arrived, where that can be known.
    fn is_settled(&self) -> bool {
        match self {
            Self::Collector(process) => !process.has_sessions() || process.is_settled(),
            Self::Failover(failover) => failover.is_settled(),
            Self::Lines(_) => true,
        }
    }

    /// There is no time to send these any more.
    fn give_up(&mut self, records: &[FlowRecord]) {
        match self {
            Self::Collector(process) => process.give_up(records),
            Self::Failover(failover) => failover.give_up(records),
            Self::Lines(_) => {}
        }
    }

    fn account(&self) -> (&ExportAccount, &ExportCounts) {
        match self {
            Self::Collector(process) => (process.account(), process.counts()),
            Self::Failover(failover) => (failover.account(), failover.counts()),
            Self::Lines(printer) => (printer.account(), printer.counts()),
        }
    }

    /// The next event, and which of the destinations it is about.
    fn next_event(&mut self) -> Option<(usize, ExportEvent)> {
        match self {
            Self::Collector(process) => process.next_event().map(|event| (0, event)),
            Self::Failover(failover) => failover.next_event(),
            Self::Lines(printer) => printer.next_event().map(|event| (0, event)),
        }
    }

    /// Which of the destinations gets records from now on, if it is another one than before.
    fn switched(&mut self) -> Option<usize> {
        match self {
            Self::Failover(failover) => failover.switched(),
            Self::Collector(_) | Self::Lines(_) => None,
        }
    }
}

/// Everything a sink needs but its queue.
#[derive(Debug)]
pub struct SinkParts {
    /// Number in the ledger.
    pub number: usize,
    /// For log messages: the collector, or each of those that stand in for each other.
    pub destinations: Vec<String>,
    /// Which records it is for.
    pub selection: RecordSelection,
    /// Which of their packets.
    pub sampling: Option<RecordSampling>,
    /// Settings of now, and the name by which they have rules for its tags.
    pub tags: (CurrentSettings, String),
    /// Where records go.
    pub output: Output,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// The clock.
    pub clock: Clock,
    /// How long exporting a batch takes.
    pub latencies: Arc<Latencies>,
    /// What collectors are told.
    pub context: SharedContext,
    /// Pulled when standard output is closed, if this is true: it is the only sink.
    pub stop_when_alone: (Stop, Arc<AtomicBool>),
    /// Spreads records over time.
    pub pacer: Option<Pacer>,
    /// It has to go while packets are counted, and other settings are not for it any more.
    pub is_leaving: Arc<AtomicBool>,
    /// Sinks that have to end before this one sends anything.
    pub before: Vec<Receiver<SinkEnded>>,
}

/// Nobody sends it: the receiving end is disconnected when a sink has ended.
#[derive(Debug)]
pub enum SinkEnded {}

/// A sink: takes records from its queue and exports them.
#[derive(Debug)]
pub struct Sink {
    parts: SinkParts,
    records: Receiver<Arc<Vec<FlowRecord>>>,
    close: Receiver<Instant>,
    is_cut_off: Arc<AtomicBool>,
    /// When the output last took records.
    ready_at: Instant,
    /// What the output was told last.
    context: Arc<ObservationContext>,
    /// Those of a batch that it is for.
    selected: Vec<FlowRecord>,
    /// Rules for tags of its own.
    own_tags: OwnTags,
    is_closing: bool,
    /// Disconnected when it is gone.
    _ended: Sender<SinkEnded>,
}

impl Sink {
    /// A sink and its queue of at most `batches` batches, and one more of each of the `shards`; and what shows that it has
    /// ended.
    #[must_use]
    pub fn new(parts: SinkParts, batches: usize, shards: usize) -> (Self, SinkQueue, Receiver<SinkEnded>) {
        let limit = batches.max(2);
        let (sender, records) = bounded(limit + shards);
        let (close_sender, close) = bounded(1);
        let is_cut_off = Arc::<AtomicBool>::default();
        let (ended_sender, ended) = bounded(0);
        let queue = SinkQueue {
            number: parts.number,
            records: sender,
            limit,
            close: close_sender,
            is_cut_off: Arc::clone(&is_cut_off),
        };
        let mut sink = Self {
            parts,
            records,
            close,
            is_cut_off,
            ready_at: Instant::now(),
            context: Arc::default(),
            selected: Vec::new(),
            own_tags: OwnTags::default(),
            is_closing: false,
            _ended: ended_sender,
        };
        sink.adopt_tags();
        (sink, queue, ended)
    }

    /// Works until it is told to close, or every queue end is gone.
    pub fn run(mut self) {
        for other in std::mem::take(&mut self.parts.before) {
            // Nothing comes; it ends with the other one.
            let _ = other.recv();
        }
        let mut last_tick = Instant::now();
        self.tell_statistics();
        let deadline = loop {
            let next = if self.is_ready() { self.next() } else { self.wait_for_connection() };
            self.adopt_context();
            match next {
                Next::Records(records) => {
                    self.pace(records.len());
                    self.export(&records);
                }
                Next::Idle => {}
                Next::Close(deadline) => break deadline,
            }
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.tell_statistics();
                self.sending(Tally::ZERO);
                self.parts.output.tick(self.now());
                self.settle(Tally::ZERO, Tally::ZERO);
            }
        };
        self.finish(deadline);
        if self.parts.is_leaving.load(Ordering::Acquire) {
            self.parts.ledger.sink_ended(self.parts.number);
        }
    }

    /// The rules for tags of its own are those of now, unless it has to go.
    fn adopt_tags(&mut self) {
        let (settings, name) = &self.parts.tags;
        if !self.parts.is_leaving.load(Ordering::Acquire) {
            self.own_tags.set(settings.load().tags_of_exports.get(name));
        }
    }

    fn adopt_context(&mut self) {
        let context = self.parts.context.load();
        if !Arc::ptr_eq(&context, &self.context) {
            self.parts.selection.set_context(&context);
            match &self.parts.sampling {
                Some(sampling) => self.parts.output.set_context(&sampling.context(&context)),
                None => self.parts.output.set_context(&context),
            }
            self.context = context;
        }
    }

    /// Notes how long the output has not been ready.
    fn is_ready(&mut self) -> bool {
        let is_ready = self.parts.output.is_ready();
        if is_ready {
            self.ready_at = Instant::now();
        }
        self.is_cut_off.store(self.ready_at.elapsed() >= LONG_OUTAGE, Ordering::Relaxed);
        is_ready
    }

    /// The next message; sends what is pending before it waits for one.
    fn next(&mut self) -> Next {
        match self.records.try_recv() {
            Ok(records) => return Next::Records(records),
            Err(TryRecvError::Disconnected) => return Next::last(),
            Err(TryRecvError::Empty) => {}
        }
        self.sending(Tally::ZERO);
        self.parts.output.flush(self.now());
        self.settle(Tally::ZERO, Tally::ZERO);
        select! {
            recv(self.records) -> records => {
                records.map_or_else(|_| Next::last(), Next::Records)
            }
            recv(self.close) -> deadline => deadline.map_or_else(|_| Next::last(), Next::Close),
            default(TICK) => Next::Idle,
        }
    }

    /// Leaves the queue alone: what has no room in it is lost under the queue's own name.
    fn wait_for_connection(&mut self) -> Next {
        self.poll();
        if self.is_ready() {
            return Next::Idle;
        }
        match self.close.recv_timeout(CONNECTION_WAIT) {
            Ok(deadline) => Next::Close(deadline),
            Err(RecvTimeoutError::Timeout) => Next::Idle,
            Err(RecvTimeoutError::Disconnected) => Next::last(),
        }
    }

    fn poll(&mut self) {
        self.sending(Tally::ZERO);
        self.parts.output.poll(self.now());
        self.settle(Tally::ZERO, Tally::ZERO);
    }

    /// Sends what it has; what is left of it at `deadline` is lost.
    fn finish(&mut self, deadline: Instant) {
        self.is_closing = true;
        self.parts.output.retry();
        while let Ok(records) = self.records.try_recv() {
            while !self.parts.output.is_ready() && Instant::now() < deadline {
                self.poll_or_wait();
            }
            self.adopt_context();
            if self.parts.output.is_ready() {
                self.pace(records.len());
                self.export(&records);
            } else {
                self.give_up(&records);
            }
        }
        self.sending(Tally::ZERO);
        self.parts.output.flush(self.now());
        self.settle(Tally::ZERO, Tally::ZERO);
        while !self.parts.output.is_settled() && Instant::now() < deadline {
            self.poll_or_wait();
        }
        self.sending(Tally::ZERO);
        self.parts.output.close(self.now());
        self.settle(Tally::ZERO, Tally::ZERO);
    }

    fn poll_or_wait(&mut self) {
        self.poll();
        if !self.parts.output.is_ready() {
            thread::sleep(CONNECTION_WAIT);
        } else if !self.parts.output.is_settled() {
            thread::sleep(CLOSE_WAIT);
        }
    }

    /// Waits until it is time to send so many records.
    fn pace(&mut self, records: usize) {
        let Some(pacer) = &mut self.parts.pacer else { return };
        let is_half_full = self.records.capacity().is_some_and(|capacity| self.records.len() > capacity / 2);
        let is_urgent = is_half_full || self.is_closing || !self.close.is_empty();
        let delay = pacer.delay(Instant::now(), records, is_urgent);
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }

    fn export(&mut self, records: &[FlowRecord]) {
        let start = Instant::now();
        let now = self.now();
        self.with_selected(records, |output, selected| output.export(now, selected));
        self.parts.latencies.export(start.elapsed());
    }

    fn give_up(&mut self, records: &[FlowRecord]) {
        self.with_selected(records, Output::give_up);
    }

    /// Does something with those of `records` that this sink is for, and enters what became of them.
    fn with_selected(&mut self, records: &[FlowRecord], action: impl FnOnce(&mut Output, &[FlowRecord])) {
        self.sending(Tally::of(records));
        let mut not_selected = Tally::ZERO;
        self.adopt_tags();
        let has_own_tags = self.own_tags.is_there();
        if self.parts.selection.is_everything() && self.parts.sampling.is_none() && !has_own_tags {
            action(&mut self.parts.output, records);
        } else {
            self.selected.clear();
            for record in records {
                let mut selected = self.parts.selection.selects(record).then(|| record.clone());
                if let (Some(whole), Some(sampling)) = (&selected, &mut self.parts.sampling) {
                    selected = sampling.sample(whole);
                }
                if let Some(selected) = &mut selected {
                    self.own_tags.apply(selected);
                }
                not_selected += Tally::from(record) - selected.as_ref().map(Tally::from).unwrap_or_default();
                self.selected.extend(selected);
            }
            action(&mut self.parts.output, &self.selected);
        }
        self.settle(Tally::of(records), not_selected);
    }

    fn sending(&self, taken: Tally) {
        let (account, _) = self.parts.output.account();
        self.parts.ledger.sending(self.parts.number, taken, account);
    }

    fn tell_statistics(&mut self) {
        let statistics = self.parts.ledger.metering_statistics(self.parts.number);
        self.parts.output.set_statistics(statistics);
    }

    /// Enters what became of `taken`, of which `not_selected` is not for this sink.
    fn settle(&mut self, taken: Tally, not_selected: Tally) {
        let (account, counts) = self.parts.output.account();
        self.parts.ledger.exported(self.parts.number, (taken, not_selected), account, counts);
        while let Some((number, event)) = self.parts.output.next_event() {
            self.log(self.destination(number), &event);
        }
        if let Some(number) = self.parts.output.switched() {
            info!("records go to collector {} from now on", self.destination(number));
        }
    }

    fn destination(&self, number: usize) -> &str {
        self.parts.destinations.get(number).map_or("", String::as_str)
    }

    fn log(&self, destination: &str, event: &ExportEvent) {
        match event {
            ExportEvent::Refused { error } => {
                warn!("collector {destination} refuses messages: {error}; records are lost until it is back");
            }
            ExportEvent::TimedOut => warn!("collector {destination}: the socket takes no more messages"),
            ExportEvent::Failed { error } => warn!("collector {destination}: sending fails: {error}"),
            ExportEvent::Closed => {
                warn!("the reader of standard output is gone");
                let (stop, is_alone) = &self.parts.stop_when_alone;
                if is_alone.load(Ordering::Acquire) {
                    stop.pull();
                }
            }
            ExportEvent::Connected => info!("connected to collector {destination}"),
            ExportEvent::ConnectFailed { error } => {
                warn!("no connection to collector {destination}: {error}; records wait in the queue");
            }
            ExportEvent::ConnectionLost { error, unacknowledged } => warn!(
                "connection to collector {destination} lost: {error}; {} records were not acknowledged",
                unacknowledged.records
            ),
            ExportEvent::Recovered => info!("collector {destination} takes messages again"),
            ExportEvent::PathMtuChanged { from, to } => {
                info!("collector {destination}: path MTU is now {to} octets, was {from}");
            }
            ExportEvent::Limited { reason } => {
                let name = reason.as_str();
                let what = limit_in_words(*reason);
                warn!("collector {destination}: {what}; told once, counted as {name}");
            }
            ExportEvent::CannotCarry { reason } => {
                let name = reason.as_str();
                warn!(
                    "collector {destination}: records that the format cannot carry are lost; counted as {name}"
                );
            }
        }
    }

    fn now(&self) -> ExportTime {
        let reading = self.parts.clock.read();
        ExportTime {
            unix_milliseconds: reading.wall / 1_000_000,
            monotonic: Duration::from_nanos(reading.monotonic),
        }
    }
}

const fn limit_in_words(reason: LimitReason) -> &'static str {
    match reason {
        LimitReason::AsNumberOver16Bits => {
            "the format has no AS numbers over 65535; 23456 (AS_TRANS) is sent for them"
        }
        LimitReason::InterfaceIndexOver16Bits => {
            "the format has no interface indexes over 65535; 0 is sent for them"
        }
        LimitReason::SamplingIntervalOver14Bits => {
            "the format has no sampling intervals over 16383; that is sent for them, and estimates will be too low"
        }
        LimitReason::CountersOver32Bits => {
            "the format has no counters over 32 bits; records with more are sent as several"
        }
        LimitReason::FlowTimeOutOfRange => {
            "the format has no times in the future or over 49 days ago; the nearest are sent for them"
        }
        LimitReason::FieldsOverMessageSize => {
            "records with all their communities, or with their label, are larger than a message; they are sent without"
        }
    }
}

enum Next {
    Records(Arc<Vec<FlowRecord>>),
    Idle,
    /// To end by this time.
    Close(Instant),
}

impl Next {
    /// Every queue end is gone.
    fn last() -> Self {
        Self::Close(Instant::now() + CLOSE_TIME)
    }
}
