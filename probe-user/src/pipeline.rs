//! Everything behind the capture: the shards of the flow cache, the sinks, and the ledger over both.
//!
//! The same for live capture and for replay: what fills it differs, and what happens to packets does not.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use pathflow_exporter::{FieldGroups, LineStyle};

use crate::aggregate::{Aggregates, Feed, Surroundings};
use crate::capture::Delta;
use crate::captures::Shared;
use crate::classify::{ClassCounts, Classes};
use crate::config::raw::StdoutStyle;
use crate::config::{Config, ExportProcess};
use crate::enrich::{RouteDetail, RouteSource};
use crate::error::RunError;
use crate::export::{Exports, SinkSurroundings};
use crate::ledger::{Books, Ledger};
use crate::metering::FlowCache;
use crate::metering::extensions::{self, Extensions};
use crate::metering::shard::{Pace, Shard, ShardMessage};
use crate::metrics::Latencies;
use crate::sflow::SflowEnded;
use crate::stop::Stop;

/// CPUs for each shard.
const CPUS_PER_SHARD: usize = 4;
/// Batches of deltas that wait for a shard at most: a quarter million flows.
const SHARD_QUEUE: usize = 256;
/// How long sinks may take to send what is left at the end.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(10);

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
    /// What records go to.
    pub exports: Exports,
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
        let ledger = Arc::new(Ledger::new([]));
        let latencies = Arc::new(Latencies::new());
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let count = config.shards.unwrap_or_else(|| cpus.div_ceil(CPUS_PER_SHARD));
        let surroundings = SinkSurroundings {
            shards: count,
            pace,
            ledger: Arc::clone(&ledger),
            latencies: Arc::clone(&latencies),
            context: shared.context.clone(),
            enrichment: routing.settings.clone(),
            stop: stop.clone(),
        };
        let lines = line_style(config).map(|style| (style, config.queue_records));
        let exports = Exports::start(&config.processes, lines, surroundings)?;
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
                sinks: exports.queues().clone(),
                feed: Feed::new(number, aggregates.queues().clone(), pace, Arc::clone(&extensions)),
                pace,
                latencies: Arc::clone(&latencies),
            };
            shard_threads.push(spawn(format!("shard-{number}"), move || shard.run())?);
            shards.push(sender);
        }
        let classes = config.classify.is_some().then(Arc::default);
        Ok(Self { ledger, latencies, shards, pool, extensions, classes, shard_threads, exports, aggregates })
    }

    /// Ends shards and sinks, in this order. Nobody else may hold a queue of a shard any more. `has_failed`
    /// says whether what came before went wrong.
    #[must_use]
    pub fn finish(self, has_failed: bool) -> Ended {
        drop(self.shards);
        join(self.shard_threads);
        self.exports.finish();
        self.aggregates.finish();
        let books = self.ledger.books();
        let failed = has_failed || !books.is_settled();
        let classes = self.classes.map(|classes| classes.counts());
        Ended { books, latencies: self.latencies, sflow: SflowEnded::default(), classes, failed }
    }
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
