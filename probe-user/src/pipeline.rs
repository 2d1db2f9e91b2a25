//! Everything behind the capture: the shards of the flow cache, the sinks, and the ledger over both.
//!
//! The same for live capture and for replay: what fills it differs, and what happens to packets does not.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use pathflow_exporter::{
    ExportingProcess, FieldGroups, FlowPrinter, InterfaceNames, LineStyle, Session, Stdout, TcpSettings,
    TlsSettings, Transport, Udp, UdpSettings,
};

use crate::aggregate::{Aggregates, Feed, Surroundings};
use crate::capture::Delta;
use crate::captures::Shared;
use crate::classify::{ClassCounts, Classes};
use crate::clock::Clock;
use crate::config::raw::{Distribution, StdoutStyle};
use crate::config::{Config, ExportProcess, ExportTransport};
use crate::enrich::{CurrentSettings, RouteDetail, RouteSource};
use crate::error::RunError;
use crate::export::{
    Failover, Output, Pacer, RecordSampling, RecordSelection, Share, SharedContext, Sink, SinkParts,
    SinkQueue,
};
use crate::ledger::{Books, Ledger};
use crate::metering::FlowCache;
use crate::metering::extensions::{self, Extensions};
use crate::metering::shard::{Pace, RECORD_BATCH, Shard, ShardMessage};
use crate::metrics::Latencies;
use crate::sflow::SflowEnded;
use crate::stop::Stop;
use crate::unacknowledged::unacknowledged;

/// CPUs for each shard.
const CPUS_PER_SHARD: usize = 4;
/// Batches of deltas that wait for a shard at most: a quarter million flows.
const SHARD_QUEUE: usize = 256;
/// How long sinks may take to send what is left at the end.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(10);

/// How long they may then take to count what they have not sent.
const COUNT_TIME: Duration = Duration::from_secs(2);

/// What is left when the daemon has ended.
#[derive(Debug)]
pub struct Ended {
    /// The accounts.
    pub books: Books,
    /// How long the stages took.
    pub latencies: Arc<Latencies>,
    /// What was sampled and sent by sFlow.
    pub sflow: SflowEnded,
    /// What was classified, if anybody asked.
    pub classes: Option<ClassCounts>,
    /// Whether it ended because a part failed, or something that was held could not be sent in time.
    pub failed: bool,
}

/// Shards and sinks at work.
#[derive(Debug)]
pub struct Pipeline {
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// How long the stages take.
    pub latencies: Arc<Latencies>,
    /// Queues of the shards.
    pub shards: Vec<Sender<ShardMessage>>,
    /// Empty buffers that the shards are done with.
    pub pool: Receiver<Vec<Delta>>,
    /// What keys have beyond their words.
    pub extensions: Arc<Extensions>,
    /// Applications of flows, if anybody asks.
    pub classes: Option<Arc<Classes>>,
    shard_threads: Vec<JoinHandle<()>>,
    sinks: Vec<SinkQueue>,
    sink_threads: Vec<JoinHandle<()>>,
    /// Beside the flows.
    pub aggregates: Aggregates,
}

impl Pipeline {
    /// Opens the outputs and starts the threads.
    ///
    /// # Errors
    /// [`RunError`] if an output cannot be opened or a thread not be started.
    pub fn start(
        config: &Config,
        shared: &Shared,
        pace: Pace,
        routing: &RouteSource,
        stop: &Stop,
    ) -> Result<Self, RunError> {
        let outputs = outputs(config)?;
        let ledger =
            Arc::new(Ledger::new(outputs.iter().map(|opened| (opened.format, opened.destination()))));
        let latencies = Arc::new(Latencies::new());
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let count = config.shards.unwrap_or_else(|| cpus.div_ceil(CPUS_PER_SHARD));
        let (sinks, sink_threads) = start_sinks(
            outputs,
            (pace, count),
            &ledger,
            &latencies,
            (&shared.context, &routing.settings, stop),
        )?;
        let surroundings = Surroundings {
            shards: count,
            pace,
            ledger: Arc::clone(&ledger),
            context: shared.context.clone(),
            enrichment: routing.settings.clone(),
        };
        let aggregates = Aggregates::start(&config.aggregates, surroundings)?;
        let (emptied, pool) = bounded(count * SHARD_QUEUE);
        let extensions = Arc::new(Extensions::new(extensions::LIMIT, count));
        let (mut shards, mut shard_threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (sender, messages) = bounded(SHARD_QUEUE);
            let shard = Shard {
                number,
                extensions: Arc::clone(&extensions),
                cache: FlowCache::new(config.timeouts, config.max_flows.div_ceil(count as u32)),
                messages,
                pool: emptied.clone(),
                ledger: Arc::clone(&ledger),
                points: Arc::clone(&shared.points),
                names: shared.names.clone(),
                enricher: routing.enricher(),
                record_filters: config.record_filters,
                hold: routing.hold.clone(),
                sinks: sinks.clone(),
                feed: Feed::new(number, aggregates.queues().clone(), pace, Arc::clone(&extensions)),
                pace,
                latencies: Arc::clone(&latencies),
            };
            shard_threads.push(spawn(format!("shard-{number}"), move || shard.run())?);
            shards.push(sender);
        }
        Ok(Self {
            ledger,
            latencies,
            shards,
            pool,
            extensions,
            classes: config.classify.is_some().then(Arc::default),
            shard_threads,
            sinks,
            sink_threads,
            aggregates,
        })
    }

    /// Ends shards and sinks, in this order. Nobody else may hold a queue of a shard any more. `has_failed`
    /// says whether what came before went wrong.
    #[must_use]
    pub fn finish(self, has_failed: bool) -> Ended {
        drop(self.shards);
        join(self.shard_threads);
        close_sinks(&self.sinks, self.sink_threads);
        self.aggregates.finish();
        let books = self.ledger.books();
        let failed = has_failed || !books.is_settled();
        let classes = self.classes.map(|classes| classes.counts());
        Ended { books, latencies: self.latencies, sflow: SflowEnded::default(), classes, failed }
    }
}

/// An output that is open, and what is said of it.
struct Opened {
    format: &'static str,
    /// The collector, or each of those that stand in for each other.
    destinations: Vec<String>,
    selection: RecordSelection,
    sampling: Option<RecordSampling>,
    /// By this it has rules for tags of its own.
    name: String,
    output: Output,
    queue_records: usize,
    /// Records in a second.
    pace: Option<u32>,
}

impl Opened {
    /// For metrics.
    fn destination(&self) -> String {
        self.destinations.join("|")
    }
}

fn outputs(config: &Config) -> Result<Vec<Opened>, RunError> {
    let mut outputs = Vec::new();
    for process in &config.processes {
        open_process(process, &mut outputs)?;
    }
    if let Some(style) = line_style(config) {
        let names = Arc::new(InterfaceNames::default());
        let printer = FlowPrinter::new(style, Stdout::new().map_err(RunError::Stdout)?, names);
        let format = match style {
            LineStyle::Text => "text",
            LineStyle::Json => "json",
        };
        outputs.push(Opened {
            format,
            destinations: vec!["stdout".to_owned()],
            selection: RecordSelection::default(),
            sampling: None,
            name: String::new(),
            output: Output::Lines(Box::new(printer)),
            queue_records: config.queue_records,
            pace: None,
        });
    }
    Ok(outputs)
}

/// How flows are written to standard output, if they are.
pub(crate) fn line_style(config: &Config) -> Option<LineStyle> {
    match config.stdout {
        StdoutStyle::Auto if !config.processes.is_empty() || !config.aggregates.is_empty() => None,
        StdoutStyle::Auto if io::stdout().is_terminal() => Some(LineStyle::Text),
        StdoutStyle::Auto | StdoutStyle::Json => Some(LineStyle::Json),
        StdoutStyle::Text => Some(LineStyle::Text),
        StdoutStyle::None => None,
    }
}

/// What outputs and aggregates want of routes.
pub(crate) fn route_detail(config: &Config) -> RouteDetail {
    let has_lists =
        |process: &ExportProcess| process.settings.field_groups.contains(FieldGroups::COMMUNITIES);
    let wants_attributes = line_style(config).is_some()
        || config.processes.iter().any(has_lists)
        || config.aggregates.iter().any(|aggregate| aggregate.key.asks_attributes());
    if wants_attributes { RouteDetail::Attributes } else { RouteDetail::Numbers }
}

/// Opens what an Exporting Process sends to: a sink for each collector, or one for all of them.
fn open_process(process: &ExportProcess, outputs: &mut Vec<Opened>) -> Result<(), RunError> {
    let mut collectors = Vec::new();
    for (number, collector) in process.collectors.iter().enumerate() {
        collectors.push(ExportingProcess::new(&process.settings, transport(process, *collector, number)?)?);
    }
    let mut open = |destinations: &[SocketAddr], share, output| {
        outputs.push(Opened {
            format: process.settings.format.as_str(),
            destinations: destinations.iter().map(ToString::to_string).collect(),
            selection: RecordSelection::new(process.conditions.clone(), share),
            sampling: RecordSampling::new(process.sampling_interval),
            name: process.name(),
            output,
            queue_records: process.queue_records,
            pace: process.pace,
        });
    };
    if process.distribution == Distribution::Failover {
        open(&process.collectors, None, Output::Failover(Box::new(Failover::new(collectors))));
        return Ok(());
    }
    let of = collectors.len() as u64;
    for ((number, destination), collector) in (0..).zip(&process.collectors).zip(collectors) {
        let share = (process.distribution == Distribution::FlowHash).then_some(Share { number, of });
        open(&[*destination], share, Output::Collector(Box::new(collector)));
    }
    Ok(())
}

/// What carries messages to the collector with this number.
fn transport(process: &ExportProcess, collector: SocketAddr, number: usize) -> Result<Transport, RunError> {
    let ExportProcess { source_address, dscp, ttl, .. } = *process;
    let server_name = match &process.transport {
        ExportTransport::Udp => {
            let settings = UdpSettings { source_address, dscp, ttl, ..UdpSettings::new(collector) };
            return Ok(Transport::Udp(Udp::connect(&settings)?));
        }
        ExportTransport::Tcp => None,
        ExportTransport::Tls { files, server_names } => {
            Some((files, server_names.get(number).map_or("", String::as_str)))
        }
    };
    let settings = TcpSettings {
        source_address,
        dscp,
        ttl,
        unacknowledged: Some(unacknowledged),
        ..TcpSettings::new(collector)
    };
    let session = match server_name {
        Some((files, name)) => Session::tls(settings, TlsSettings::load(files, name)?),
        None => Session::tcp(settings),
    };
    Ok(Transport::Session(Box::new(session)))
}

fn start_sinks(
    outputs: Vec<Opened>,
    (pace, shards): (Pace, usize),
    ledger: &Arc<Ledger>,
    latencies: &Arc<Latencies>,
    (context, enrichment, stop): (&SharedContext, &CurrentSettings, &Stop),
) -> Result<(Vec<SinkQueue>, Vec<JoinHandle<()>>), RunError> {
    let clock = Clock::new();
    let alone = outputs.len() == 1;
    let (mut queues, mut threads) = (Vec::new(), Vec::new());
    for (number, opened) in outputs.into_iter().enumerate() {
        let parts = SinkParts {
            number,
            destinations: opened.destinations,
            selection: opened.selection,
            sampling: opened.sampling,
            tags: (enrichment.clone(), opened.name),
            output: opened.output,
            ledger: Arc::clone(ledger),
            clock,
            latencies: Arc::clone(latencies),
            context: context.clone(),
            stop_when_closed: alone.then(|| stop.clone()),
            // A file has time; who is behind is waited for.
            pacer: opened.pace.filter(|_| pace == Pace::NeverWait).map(Pacer::new),
        };
        let (sink, queue) = Sink::new(parts, opened.queue_records.div_ceil(RECORD_BATCH), shards);
        threads.push(spawn(format!("export-{number}"), move || sink.run())?);
        queues.push(queue);
    }
    Ok((queues, threads))
}

fn close_sinks(sinks: &[SinkQueue], threads: Vec<JoinHandle<()>>) {
    let deadline = Instant::now() + CLOSE_TIME;
    for sink in sinks {
        sink.close(deadline);
    }
    let deadline = deadline + COUNT_TIME;
    for thread in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        if thread.is_finished() {
            // A panic in it has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Waits for threads that end by themselves once their input has.
pub(crate) fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A panic in it has ended the process already.
        let _ = thread.join();
    }
}

/// Starts a named thread.
pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RunError> {
    thread::Builder::new().name(name.clone()).spawn(work).map_err(|error| RunError::Thread { name, error })
}
