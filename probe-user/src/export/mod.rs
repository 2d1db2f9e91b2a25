//! Sinks: one thread with one bounded queue for each collector, or for several that stand in for each other, and for
//! standard output.

mod failover;
mod pacer;
mod selection;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use pathflow_exporter::{
    ExportAccount, ExportCounts, ExportEvent, ExportTime, ExportingProcess, FlowPrinter, FlowRecord,
    InterfaceNames, LimitReason, MeteringStatistics, ObservationContext, Tally,
};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::metrics::Latencies;
use crate::stop::Stop;

pub use failover::Failover;
pub use pacer::Pacer;
pub use selection::{Conditions, IpVersion, RecordSelection, Share};

/// How often a sink that has nothing to do resends templates, asks for errors and so on.
const TICK: Duration = Duration::from_secs(1);

/// What a sink is told.
#[derive(Debug)]
enum SinkMessage {
    Records(Arc<Vec<FlowRecord>>),
    Close,
}

/// The sending end of a sink's queue.
#[derive(Clone, Debug)]
pub struct SinkQueue {
    messages: Sender<SinkMessage>,
    is_closing: Arc<AtomicBool>,
}

impl SinkQueue {
    /// Puts a batch into the queue; false if it is full. Never waits.
    #[must_use]
    pub fn offer(&self, records: Arc<Vec<FlowRecord>>) -> bool {
        self.messages.try_send(SinkMessage::Records(records)).is_ok()
    }

    /// Whether the queue has room for another batch. It stays true until the next batch is offered only if
    /// nobody else offers one.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.messages.is_full()
    }

    /// Asks the sink to send what it has and to end. Waits for room in the queue, until `deadline`.
    pub fn close(&self, deadline: Instant) {
        self.is_closing.store(true, Ordering::Relaxed);
        // A sink that is gone has nothing left to send.
        let _ = self.messages.send_deadline(SinkMessage::Close, deadline);
    }
}

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
    /// Pulled when standard output is closed, if nothing else is being exported to.
    pub stop_when_closed: Option<Stop>,
    /// Spreads records over time.
    pub pacer: Option<Pacer>,
}

/// A sink: takes records from its queue and exports them.
#[derive(Debug)]
pub struct Sink {
    parts: SinkParts,
    messages: Receiver<SinkMessage>,
    /// What the output was told last.
    context: Arc<ObservationContext>,
    /// Those of a batch that it is for.
    selected: Vec<FlowRecord>,
    is_closing: Arc<AtomicBool>,
}

impl Sink {
    /// A sink and its queue of at most `batches` batches.
    #[must_use]
    pub fn new(parts: SinkParts, batches: usize) -> (Self, SinkQueue) {
        let (sender, messages) = crossbeam_channel::bounded(batches.max(2));
        let is_closing = Arc::new(AtomicBool::new(false));
        let queue = SinkQueue { messages: sender, is_closing: Arc::clone(&is_closing) };
        (Self { parts, messages, context: Arc::default(), selected: Vec::new(), is_closing }, queue)
    }

    /// Works until it is told to close, or every queue end is gone.
    pub fn run(mut self) {
        let mut last_tick = Instant::now();
        self.tell_statistics();
        loop {
            let next = self.next();
            let context = self.parts.context.load();
            if !Arc::ptr_eq(&context, &self.context) {
                self.parts.selection.set_context(&context);
                self.parts.output.set_context(&context);
                self.context = context;
            }
            match next {
                Next::Records(records) => {
                    self.pace(records.len());
                    self.export(&records);
                }
                Next::Idle => {}
                Next::Close => break,
            }
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.tell_statistics();
                self.sending(Tally::ZERO);
                self.parts.output.tick(self.now());
                self.settle(Tally::ZERO, Tally::ZERO);
            }
        }
        self.sending(Tally::ZERO);
        self.parts.output.close(self.now());
        self.settle(Tally::ZERO, Tally::ZERO);
    }

    /// The next message; sends what is pending before it waits for one.
    fn next(&mut self) -> Next {
        match self.messages.try_recv() {
            Ok(message) => return message.into(),
            Err(TryRecvError::Disconnected) => return Next::Close,
            Err(TryRecvError::Empty) => {}
        }
        self.sending(Tally::ZERO);
        self.parts.output.flush(self.now());
        self.settle(Tally::ZERO, Tally::ZERO);
        match self.messages.recv_timeout(TICK) {
            Ok(message) => message.into(),
            Err(RecvTimeoutError::Timeout) => Next::Idle,
            Err(RecvTimeoutError::Disconnected) => Next::Close,
        }
    }

    /// Waits until it is time to send so many records.
    fn pace(&mut self, records: usize) {
        let Some(pacer) = &mut self.parts.pacer else { return };
        let is_half_full =
            self.messages.capacity().is_some_and(|capacity| self.messages.len() > capacity / 2);
        let is_urgent = is_half_full || self.is_closing.load(Ordering::Relaxed);
        let delay = pacer.delay(Instant::now(), records, is_urgent);
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }

    fn export(&mut self, records: &[FlowRecord]) {
        let start = Instant::now();
        self.sending(Tally::of(records));
        let now = self.now();
        let mut not_selected = Tally::ZERO;
        if self.parts.selection.is_everything() {
            self.parts.output.export(now, records);
        } else {
            self.selected.clear();
            for record in records {
                if self.parts.selection.selects(record) {
                    self.selected.push(record.clone());
                } else {
                    not_selected += Tally::from(record);
                }
            }
            self.parts.output.export(now, &self.selected);
        }
        self.settle(Tally::of(records), not_selected);
        self.parts.latencies.export(start.elapsed());
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
                if let Some(stop) = &self.parts.stop_when_closed {
                    stop.pull();
                }
            }
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
    }
}

enum Next {
    Records(Arc<Vec<FlowRecord>>),
    Idle,
    Close,
}

impl From<SinkMessage> for Next {
    fn from(message: SinkMessage) -> Self {
        match message {
            SinkMessage::Records(records) => Self::Records(records),
            SinkMessage::Close => Self::Close,
        }
    }
}
