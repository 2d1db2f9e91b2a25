//! Builds every part, owns the threads, and takes everything down in the order in which nothing is lost.
//!
//! ```text
//! kernel tables -> drain workers -> shards (flow cache) -> sinks (collectors, standard output)
//! ```
//!
//! The end goes the same way: detach, drain what the kernel holds, turn every flow into a record, send
//! every record, close.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use pathflow_bgp::RouteTable;
use pathflow_common::flow::HASH_SECRETS;
use pathflow_common::layout::OBSERVATION_POINTS;
use pathflow_exporter::{
    ExportSettingsError, ExportingProcess, FlowDirection, FlowPrinter, InterfaceNames, LineStyle, Stdout,
    Transport, Udp, UdpError, UdpSettings,
};
use tracing::info;

use crate::capture::{CaptureError, FlowTables, KernelProgram, LoadSettings, receiving_cpus};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::raw::StdoutStyle;
use crate::enrich::Enricher;
use crate::export::{Output, Sink, SinkParts, SinkQueue};
use crate::http;
use crate::ledger::{Books, Ledger};
use crate::metering::FlowCache;
use crate::metering::drain::{DrainContext, DrainWorker, Timekeeper};
use crate::metering::flow_record::ObservationPoint;
use crate::metering::shard::{RECORD_BATCH, Shard, ShardMessage};
use crate::metrics::{Latencies, Observed};
use crate::netlink;

/// CPUs for which one drain worker is enough: it scans 20 million slots a second and more.
const CPUS_PER_WORKER: usize = 8;
/// CPUs for each shard.
const CPUS_PER_SHARD: usize = 4;
/// Batches of deltas that wait for a shard at most: a quarter million flows.
const SHARD_QUEUE: usize = 256;
/// How long sinks may take to send what is left at the end.
const CLOSE_TIME: Duration = Duration::from_secs(10);
/// Without a drain for this many intervals, the program is not healthy.
const STALLED_INTERVALS: u32 = 3;

/// Why the daemon cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No interface was named.
    #[error("no interface: name one with --interface NAME or capture.interfaces in the configuration file")]
    NoInterface,
    /// Capture is not possible.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The interfaces cannot be listed.
    #[error("cannot list the interfaces: {0}")]
    Netlink(io::Error),
    /// A collector cannot be exported to.
    #[error(transparent)]
    Collector(#[from] UdpError),
    /// Export settings that cannot work.
    #[error("export: {0}")]
    Export(#[from] ExportSettingsError),
    /// Standard output cannot be used.
    #[error("standard output: {0}")]
    Stdout(io::Error),
    /// The address of the metrics page cannot be had.
    #[error("http.listen: {address}: {error}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// From the system.
        error: io::Error,
    },
    /// No random numbers.
    #[error("no random numbers for the table hash: {0}")]
    Random(io::Error),
    /// A thread cannot be started.
    #[error("cannot start thread {name}: {error}")]
    Thread {
        /// Its name.
        name: String,
        /// From the system.
        error: io::Error,
    },
}

/// Ends the daemon; may be pulled by anyone, any number of times.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: Sender<()>,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// A stop, and the end that hears it.
    #[must_use]
    pub fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Self { sender, failed: Arc::default() }, receiver)
    }

    /// Ends the daemon.
    pub fn pull(&self) {
        // Full: it was pulled before.
        let _ = self.sender.try_send(());
    }

    /// Ends the daemon because a part cannot go on.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.pull();
    }
}

/// What is left when the daemon has ended.
#[derive(Debug)]
pub struct Ended {
    /// The accounts.
    pub books: Books,
    /// How long the stages took.
    pub latencies: Arc<Latencies>,
    /// Whether it ended because a part failed, or something that was held could not be sent in time.
    pub failed: bool,
}

/// Runs until `stopped` hears something.
///
/// # Errors
/// [`RunError`] if it cannot start; then nothing is attached and nothing was changed.
pub fn run(config: &Config, stop: &Stop, stopped: &Receiver<()>) -> Result<Ended, RunError> {
    let interfaces = find_interfaces(config)?;
    let points = observation_points(&interfaces);
    let clock = Clock::new();
    let latencies = Arc::new(Latencies::new());
    let server = match config.listen {
        Some(address) => {
            Some(http::Server::bind(address).map_err(|error| RunError::Listen { address, error })?)
        }
        None => None,
    };
    let outputs = outputs(config, &points)?;
    let ledger = Arc::new(Ledger::new(outputs.iter().map(|(format, name, _)| (*format, name.clone()))));

    let table_cpus = receiving_cpus(&config.interfaces);
    let settings = LoadSettings { sizes: config.sizes, table_cpus, hash_secrets: hash_secrets()? };
    let (mut program, tables, epochs) = KernelProgram::load(&settings)?;
    let tables = Arc::new(tables);
    #[cfg(feature = "kernel-log")]
    {
        let log = program.log()?;
        spawn("kernel-log".to_owned(), move || log.run())?;
    }
    let mut threads = Threads::default();
    let (sinks, sink_threads) = start_sinks(config, outputs, &ledger, clock, &latencies, stop)?;
    let (shards, pool) = start_shards(config, &mut threads, &ledger, &points, &sinks, &latencies)?;
    let context = DrainContext {
        tables: Arc::clone(&tables),
        shards,
        pool,
        ledger: Arc::clone(&ledger),
        latencies: Arc::clone(&latencies),
    };

    // Attached only now: from the first packet on, everything behind the kernel program is ready.
    for (number, interface) in (1..).zip(&interfaces) {
        program.register(interface.index, number)?;
    }
    for interface in &interfaces {
        program.attach(&interface.name, interface.index)?;
    }
    announce(config, &program, &tables, &settings);
    for sink in ledger.books().sinks {
        info!("exporting {} to {}", sink.format, sink.destination);
    }
    for interface in &interfaces {
        info!("capturing on {} (index {}), XDP native mode", interface.name, interface.index);
    }
    let (stop_timekeeper, timekeeper_stopped) = Stop::new();
    start_drain(config, &mut threads, context, epochs, clock, (stop, timekeeper_stopped))?;
    if let Some(server) = server {
        let address = server.address().map_err(RunError::Stdout)?;
        info!("metrics on http://{address}/metrics");
        let observed = Observed {
            ledger: Arc::clone(&ledger),
            latencies: Arc::clone(&latencies),
            tables,
            points: Arc::clone(&points),
        };
        let stalled_after = config.drain_interval * STALLED_INTERVALS + Duration::from_secs(1);
        // Serves until the process ends, so nobody waits for it.
        spawn("http".to_owned(), move || server.run(observed, stalled_after))?;
    }

    // Whether it hears something or every sender is gone, the end has come.
    let _ = stopped.recv();
    info!("stopping: detaching, then exporting what is held");
    program.detach();
    stop_timekeeper.pull();
    threads.join();
    close_sinks(&sinks, sink_threads);
    let books = ledger.books();
    let failed = stop.failed.load(Ordering::Relaxed) || !books.is_settled();
    Ok(Ended { books, latencies, failed })
}

fn find_interfaces(config: &Config) -> Result<Vec<netlink::Interface>, RunError> {
    if config.interfaces.is_empty() {
        return Err(RunError::NoInterface);
    }
    let limit = OBSERVATION_POINTS - 1;
    if config.interfaces.len() > limit as usize {
        return Err(CaptureError::TooManyInterfaces { limit }.into());
    }
    let present = netlink::interfaces().map_err(RunError::Netlink)?;
    config
        .interfaces
        .iter()
        .map(|name| {
            present
                .iter()
                .find(|interface| interface.name == *name)
                .cloned()
                .ok_or_else(|| CaptureError::NoInterface { interface: name.clone() }.into())
        })
        .collect()
}

/// Numbers are positions: point 0 stands for interfaces that were not registered.
fn observation_points(interfaces: &[netlink::Interface]) -> Arc<[ObservationPoint]> {
    let unregistered =
        ObservationPoint { interface: 0, name: "unregistered".to_owned(), direction: FlowDirection::Ingress };
    let registered = interfaces.iter().map(|interface| ObservationPoint {
        interface: interface.index,
        name: interface.name.clone(),
        direction: FlowDirection::Ingress,
    });
    std::iter::once(unregistered).chain(registered).collect()
}

/// Opens every output: its format, its name and itself.
fn outputs(
    config: &Config,
    points: &[ObservationPoint],
) -> Result<Vec<(&'static str, String, Output)>, RunError> {
    let mut outputs = Vec::new();
    for collector in &config.collectors {
        let mut settings = UdpSettings::new(*collector);
        settings.source_address = config.source_address;
        let process = ExportingProcess::new(&config.export, Transport::Udp(Udp::connect(&settings)?))?;
        outputs.push((
            config.export.format.as_str(),
            collector.to_string(),
            Output::Collector(Box::new(process)),
        ));
    }
    let style = match config.stdout {
        StdoutStyle::Auto if !config.collectors.is_empty() => None,
        StdoutStyle::Auto if io::stdout().is_terminal() => Some(LineStyle::Text),
        StdoutStyle::Auto | StdoutStyle::Json => Some(LineStyle::Json),
        StdoutStyle::Text => Some(LineStyle::Text),
        StdoutStyle::None => None,
    };
    if let Some(style) = style {
        // Point 0 is no interface.
        let names: InterfaceNames =
            points.iter().skip(1).map(|point| (point.interface, point.name.clone())).collect();
        let printer = FlowPrinter::new(style, Stdout::new().map_err(RunError::Stdout)?, Arc::new(names));
        let format = match style {
            LineStyle::Text => "text",
            LineStyle::Json => "json",
        };
        outputs.push((format, "stdout".to_owned(), Output::Lines(Box::new(printer))));
    }
    Ok(outputs)
}

fn hash_secrets() -> Result<[u32; HASH_SECRETS], RunError> {
    let mut octets = [0; 4 * HASH_SECRETS];
    rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| RunError::Random(error.into()))?;
    let mut secrets = [0; HASH_SECRETS];
    for (secret, octets) in secrets.iter_mut().zip(octets.as_chunks().0) {
        *secret = u32::from_ne_bytes(*octets);
    }
    Ok(secrets)
}

fn announce(config: &Config, program: &KernelProgram, tables: &FlowTables, settings: &LoadSettings) {
    let with_tables = tables.table_cpu_count() as u64;
    let without = tables.online_cpu_count() as u64 - with_tables;
    let octets =
        with_tables * settings.sizes.octets_with_tables() + without * settings.sizes.octets_without_tables();
    info!(
        "kernel program {}; tables for {with_tables} of {} CPUs, {} IPv4 and {} IPv6 flows each per {}: {:.1} MiB of kernel memory",
        program.name(),
        tables.online_cpu_count(),
        config.sizes.ipv4_slots,
        config.sizes.ipv6_slots,
        humantime::format_duration(config.drain_interval),
        octets as f64 / f64::from(1 << 20),
    );
    info!(
        "flow cache for {} flows, at most {:.0} MiB of memory",
        config.max_flows,
        config.max_flows as f64 * FlowCache::OCTETS_PER_FLOW as f64 / f64::from(1 << 20)
    );
}

fn start_sinks(
    config: &Config,
    outputs: Vec<(&'static str, String, Output)>,
    ledger: &Arc<Ledger>,
    clock: Clock,
    latencies: &Arc<Latencies>,
    stop: &Stop,
) -> Result<(Vec<SinkQueue>, Vec<JoinHandle<()>>), RunError> {
    let alone = outputs.len() == 1;
    let (mut queues, mut threads) = (Vec::new(), Vec::new());
    for (number, (_, destination, output)) in outputs.into_iter().enumerate() {
        let parts = SinkParts {
            number,
            destination,
            output,
            ledger: Arc::clone(ledger),
            clock,
            latencies: Arc::clone(latencies),
            stop_when_closed: alone.then(|| stop.clone()),
        };
        let (sink, queue) = Sink::new(parts, config.queue_records.div_ceil(RECORD_BATCH));
        threads.push(spawn(format!("export-{number}"), move || sink.run())?);
        queues.push(queue);
    }
    Ok((queues, threads))
}

type ShardEnds = (Vec<Sender<ShardMessage>>, Receiver<Vec<crate::capture::Delta>>);

fn start_shards(
    config: &Config,
    threads: &mut Threads,
    ledger: &Arc<Ledger>,
    points: &Arc<[ObservationPoint]>,
    sinks: &[SinkQueue],
    latencies: &Arc<Latencies>,
) -> Result<ShardEnds, RunError> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let count = config.shards.unwrap_or_else(|| cpus.div_ceil(CPUS_PER_SHARD));
    let (pool, empty) = bounded(count * SHARD_QUEUE);
    let enricher = Arc::new(Enricher::new(RouteTable::new()));
    let mut senders = Vec::new();
    for number in 0..count {
        let (sender, messages) = bounded(SHARD_QUEUE);
        let shard = Shard {
            cache: FlowCache::new(config.timeouts, config.max_flows.div_ceil(count as u32)),
            messages,
            pool: pool.clone(),
            ledger: Arc::clone(ledger),
            points: Arc::clone(points),
            enricher: Arc::clone(&enricher),
            sinks: sinks.to_vec(),
            latencies: Arc::clone(latencies),
        };
        threads.0.push(spawn(format!("shard-{number}"), move || shard.run())?);
        senders.push(sender);
    }
    Ok((senders, empty))
}

fn start_drain(
    config: &Config,
    threads: &mut Threads,
    context: DrainContext,
    epochs: crate::capture::Epochs,
    clock: Clock,
    (stop, stopped): (&Stop, Receiver<()>),
) -> Result<(), RunError> {
    let tables = Arc::clone(&context.tables);
    let count = config
        .drain_workers
        .unwrap_or_else(|| tables.table_cpu_count().div_ceil(CPUS_PER_WORKER))
        .clamp(1, tables.table_cpu_count().max(1));
    // CPUs with tables are shared out evenly, in order; the first worker looks after the others as well.
    let mut shares: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut seen = 0;
    for position in 0..tables.cpu_count() {
        let share = if tables.table_cpu(position).is_some() {
            seen += 1;
            (seen - 1) * count / tables.table_cpu_count()
        } else {
            0
        };
        shares[share].push(position);
    }
    let (done_sender, done) = bounded(count);
    let mut workers = Vec::new();
    let own = shares.remove(0);
    for (number, positions) in (1..).zip(shares) {
        let (sender, receiver) = bounded(1);
        let cpu = last_cpu(&tables, &positions);
        let worker =
            DrainWorker { context: context.clone(), positions, epochs: receiver, done: done_sender.clone() };
        threads.0.push(spawn(format!("drain-{number}"), move || {
            pin(cpu);
            worker.run();
        })?);
        workers.push(sender);
    }
    let cpu = last_cpu(&tables, &own);
    let timekeeper = Timekeeper {
        context,
        positions: own,
        epochs,
        workers,
        done,
        interval: config.drain_interval,
        clock,
        stop: stop.clone(),
    };
    threads.0.push(spawn("drain-0".to_owned(), move || {
        pin(cpu);
        timekeeper.run(&stopped);
    })?);
    Ok(())
}

fn last_cpu(tables: &FlowTables, positions: &[usize]) -> Option<u32> {
    positions.iter().rev().find_map(|position| tables.table_cpu(*position))
}

/// Keeps the calling thread on one CPU, the last of those it drains: their tables are warm in its cache.
fn pin(cpu: Option<u32>) {
    if let Some(id) = cpu {
        // Where the CPU is not allowed to this process, the thread stays unpinned.
        core_affinity::set_for_current(core_affinity::CoreId { id: id as usize });
    }
}

fn close_sinks(sinks: &[SinkQueue], threads: Vec<JoinHandle<()>>) {
    let deadline = Instant::now() + CLOSE_TIME;
    for sink in sinks {
        sink.close(deadline);
    }
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

/// Threads that end by themselves once their input has.
#[derive(Debug, Default)]
struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    fn join(self) {
        for thread in self.0 {
            // A panic in it has ended the process already.
            let _ = thread.join();
        }
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RunError> {
    thread::Builder::new().name(name.clone()).spawn(work).map_err(|error| RunError::Thread { name, error })
}
