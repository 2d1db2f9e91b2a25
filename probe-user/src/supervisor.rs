//! Live capture: builds every part, and takes everything down in the order in which nothing is lost.
//!
//! ```text
//! kernel tables -> drain workers -> shards (flow cache) -> sinks (collectors, standard output)
//! ```
//!
//! The end goes the same way: detach, drain what the kernel holds, turn every flow into a record, send
//! every record, close.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select};
use pathflow_common::flow::HASH_SECRETS;
use pathflow_common::layout::OBSERVATION_POINTS;
use tracing::{info, warn};

use crate::adoption;
use crate::answers::Answers;
use crate::capture::pin::Pins;
use crate::capture::{
    CaptureError, Epochs, FlowTables, KernelProgram, LoadSettings, PayloadSettings, PayloadStates, Payloads,
    receiving_cpus,
};
use crate::captures::{Captures, Outlet, Shared};
use crate::classify::{Classifier, PayloadReader};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::raw::EgressInterface;
use crate::control::SocketName;
use crate::error::RunError;
use crate::export::SharedContext;
use crate::http;
use crate::interfaces::{Direction, Interface, InterfaceRules, Monitor, NameTable, Snapshot};
use crate::metering::FlowCache;
use crate::metering::drain::{DrainContext, DrainWorker, Timekeeper};
use crate::metering::observation::ObservationPoints;
use crate::metering::samples::{SamplePool, SampleTotals};
use crate::metering::shard::Pace;
use crate::metrics::Sources;
use crate::pipeline::{CLOSE_TIME, Ended, Pipeline, join, spawn};
use crate::reload;
use crate::routing::Routing;
use crate::sflow::{SampleReader, Sflow, SflowEnded};
use crate::stop::Stop;

/// CPUs for which one drain worker is enough: it scans 20 million slots a second and more.
const CPUS_PER_WORKER: usize = 8;
/// Without a drain for this many intervals, the program is not healthy.
const STALLED_INTERVALS: u32 = 3;

/// First packets of flows of one CPU in one epoch that user space gets at most: in a flood that is less than a tenth of
/// the CPU's time.
const PAYLOAD_BUDGET: u32 = 65_536;

/// What the main thread hears while packets are counted.
#[derive(Debug)]
pub struct Events {
    /// The end.
    pub stopped: Receiver<()>,
    /// Settings were read anew: SIGHUP.
    pub reloaded: Receiver<Config>,
}

/// Runs until it hears that it should end.
///
/// # Errors
/// [`RunError`] if it cannot start; then nothing is attached and nothing was changed.
pub fn run(config: &Config, stop: &Stop, events: &Events) -> Result<Ended, RunError> {
    if config.interfaces.selection.is_empty() {
        return Err(RunError::NoInterface);
    }
    let monitor = Monitor::start().map_err(RunError::Netlink)?;
    let first = monitor.snapshots().recv().unwrap_or_default();
    let interfaces = config.interfaces.find(&first.interfaces)?;
    let limit = OBSERVATION_POINTS - 1;
    if interfaces.len() > limit as usize {
        return Err(CaptureError::TooManyInterfaces { limit }.into());
    }
    let clock = Clock::new();
    let server = match config.listen {
        Some(address) => {
            Some(http::Server::bind(address).map_err(|error| RunError::Listen { address, error })?)
        }
        None => None,
    };
    let [seed, ..] = random_words()?;
    let settings = load_settings(config, &interfaces)?;
    let mut pins = Pins::open(config.pin, &config.keys).map_err(CaptureError::from)?;
    let ended =
        capture(config, stop, events, Start { monitor, first, clock, server, seed, settings }, &mut pins);
    if let (Err(_), Some(pins)) = (&ended, &pins) {
        // Nothing is attached; what was may be in links of an earlier run, and then its tables stay.
        pins.give_up();
    }
    ended
}

/// What is known before anything is loaded.
struct Start {
    monitor: Monitor,
    first: Snapshot,
    clock: Clock,
    server: Option<http::Server>,
    seed: u32,
    settings: LoadSettings,
}

fn capture(
    config: &Config,
    stop: &Stop,
    events: &Events,
    start: Start,
    pins: &mut Option<Pins>,
) -> Result<Ended, RunError> {
    let Start { monitor, first, clock, server, seed, settings } = start;
    let (mut program, tables, mut epochs) =
        KernelProgram::load_pinned(&settings, pins.as_ref().and_then(Pins::run))?;
    let tables = Arc::new(tables);
    #[cfg(feature = "kernel-log")]
    {
        let log = program.log()?;
        spawn("kernel-log".to_owned(), move || log.run())?;
    }
    let ring = program.header_samples()?;
    let samples = SamplePool::default();
    let shared = Shared {
        // Records of a flow are made an active timeout and two epochs after its first packet at the latest.
        points: Arc::new(ObservationPoints::new(config.timeouts.active + config.drain_interval * 2)),
        names: NameTable::default(),
        context: SharedContext::default(),
    };
    let routing = Routing::start(config)?;
    let mut pipeline = Pipeline::start(config, &shared, Pace::NeverWait, &routing.source, stop)?;
    let answers = Answers { routes: routing.answers(), rows: pipeline.aggregates.kept().clone() };
    let mut socket = Socket::new(answers, config.control.as_deref())?;

    // Who wants samples may come later.
    let start_sflow = || Sflow::start(config.sflow.as_ref(), &shared, &routing.source, clock);
    let mut sflow = settings.header_samples.then(start_sflow).transpose()?;
    let reader = SampleReader::start(ring, samples.clone(), sflow.as_ref().map(Sflow::queue))?;

    let classifier = classifier(config, &pipeline, &mut program, &settings)?;
    let payload_states = classifier.as_ref().map(|(.., states)| states.clone());
    let start = |(payloads, classifier, _)| {
        PayloadReader::start(payloads, classifier, Arc::clone(&shared.points), clock)
    };
    let payload_reader = classifier.map(start).transpose()?;

    announce(config, &program, &tables, &settings);
    for sink in pipeline.ledger.books().sinks {
        info!("exporting {} to {}", sink.format, sink.destination);
    }
    // Attached only now: from the first packet on, everything behind the kernel program is ready.
    let outlet = Outlet {
        shards: pipeline.shards.clone(),
        pool: pipeline.pool.clone(),
        ledger: Arc::clone(&pipeline.ledger),
        extensions: Arc::clone(&pipeline.extensions),
        classes: pipeline.classes.clone(),
        taps: payload_reader.as_ref().map(|reader| reader.taps().clone()),
        clock,
        stop: stop.clone(),
    };
    let mut captures = Captures::new(program, config, shared.clone(), outlet, seed);
    if let Some(pins) = pins.as_ref() {
        pins.keep_accounts(&pipeline.ledger, &settings.sizes)?;
        // Those that are gone are remembered by this; those that are there are entered by the start.
        shared.names.update(&adoption::interfaces(pins), &config.interfaces);
        captures.use_pins(pins.links());
    }
    if let Err(error) = captures.start(&first) {
        captures.give_up();
        return Err(error);
    }
    let (stop_timekeeper, timekeeper_stopped) = Stop::new();
    let context = DrainContext {
        tables: Arc::clone(&tables),
        shards: pipeline.shards.clone(),
        pool: pipeline.pool.clone(),
        ledger: Arc::clone(&pipeline.ledger),
        latencies: Arc::clone(&pipeline.latencies),
        extensions: Arc::clone(&pipeline.extensions),
        classes: pipeline.classes.clone(),
    };
    if let Some(pins) = pins.as_mut() {
        adoption::adopt(pins, &captures, &mut epochs, &shared.points, &context, clock)?;
    }
    let drain_threads = start_drain(config, context, epochs, clock, (stop, timekeeper_stopped))?;
    if let Some(server) = server {
        let address = server.address();
        info!("metrics on http://{address}/metrics");
        let sources = Sources {
            ledger: Arc::clone(&pipeline.ledger),
            latencies: Arc::clone(&pipeline.latencies),
            tables,
            points: Arc::clone(&shared.points),
            samples: samples.clone(),
            sflow: sflow.as_ref().map(Sflow::books).unwrap_or_default(),
            bgp: routing.speaker.clone(),
            bmp: routing.station.clone(),
            rpki: routing.cache.clone(),
            bgp_output: routing.output_counts(),
            classes: pipeline.classes.clone(),
            payloads: payload_states,
            taps: payload_reader.as_ref().map(|reader| reader.taps().clone()),
        };
        let stalled_after = config.drain_interval * STALLED_INTERVALS + Duration::from_secs(1);
        // Serves until the process ends, so nobody waits for it.
        spawn("http".to_owned(), move || server.run(sources, stalled_after))?;
    }

    let mut reload = |settings| {
        let rules = reload::apply(settings, config, &routing, &mut pipeline, sflow.as_mut());
        socket.open_if_asked();
        rules
    };
    follow(&mut captures, &mut reload, &monitor, first, events);
    if config.pin {
        info!("stopping: exporting what is held; what is pinned stays attached");
    } else {
        info!("stopping: detaching, then exporting what is held");
    }
    captures.end();
    // Before the last deltas leave.
    payload_reader.into_iter().for_each(PayloadReader::finish);
    stop_timekeeper.pull();
    join(drain_threads);
    reader.finish();
    let sflow = finish_sflow(sflow, &samples);
    let ended = Ended { sflow, ..pipeline.finish(stop.has_failed()) };
    // The last records had their routes.
    routing.finish();
    if let Some(pins) = pins.as_ref().filter(|_| config.pin) {
        pins.ended();
        info!("the kernel goes on counting until the next start; `pathflow detach` ends that");
    }
    Ok(ended)
}

/// What finds applications of flows, if an aggregate asks for them, and where its packets come from.
fn classifier(
    config: &Config,
    pipeline: &Pipeline,
    program: &mut KernelProgram,
    loaded: &LoadSettings,
) -> Result<Option<(Payloads, Classifier, PayloadStates)>, RunError> {
    let (Some(settings), Some(classes), Some(loaded)) =
        (config.classify, &pipeline.classes, &loaded.payloads)
    else {
        return Ok(None);
    };
    let classifier = Classifier::new(settings, config.keys.clone(), Arc::clone(classes))?;
    let (payloads, states) = program.payloads(loaded)?;
    Ok(Some((payloads, classifier, states)))
}

/// Follows interfaces and settings until the end is heard. Without a monitor, which has said why it has ended, the interfaces
/// of its last snapshot are captured.
fn follow(
    captures: &mut Captures,
    reload: &mut impl FnMut(Config) -> InterfaceRules,
    monitor: &Monitor,
    mut snapshot: Snapshot,
    events: &Events,
) {
    let (mut reloaded, mut snapshots) = (events.reloaded.clone(), monitor.snapshots().clone());
    loop {
        select! {
            recv(events.stopped) -> _ => return,
            recv(snapshots) -> next => match next {
                Ok(next) => {
                    captures.follow(&next);
                    snapshot = next;
                    // What went is gone once.
                    snapshot.gone.clear();
                }
                Err(_) => snapshots = never(),
            },
            recv(reloaded) -> settings => match settings {
                Ok(settings) => {
                    captures.set_rules(reload(settings));
                    info!("interfaces are captured by the new settings");
                    captures.follow(&snapshot);
                }
                Err(_) => reloaded = never(),
            },
        }
    }
}

/// The socket for questions, which is there while there is something to ask, or once there was.
struct Socket<'a> {
    answers: Answers,
    path: Option<&'a Path>,
    /// It has its name as long as this lives.
    name: Option<SocketName>,
}

impl<'a> Socket<'a> {
    fn new(answers: Answers, path: Option<&'a Path>) -> Result<Self, RunError> {
        let name = path.map(|path| answers.clone().serve(path)).transpose()?.flatten();
        Ok(Self { answers, path, name })
    }

    /// New settings may have brought something to ask.
    fn open_if_asked(&mut self) {
        if let (None, Some(path)) = (&self.name, self.path) {
            match self.answers.clone().serve(path) {
                Ok(name) => self.name = name,
                Err(error) => warn!("{error}; questions are not answered"),
            }
        }
    }
}

/// Sends what is left by sFlow, and closes its books.
fn finish_sflow(sflow: Option<Sflow>, samples: &SamplePool) -> SflowEnded {
    let Some(sflow) = sflow else { return SflowEnded::default() };
    let books = sflow.books();
    let not_taken = sflow.finish(Instant::now() + CLOSE_TIME);
    let mut total = SampleTotals::default();
    for (_, totals) in samples.totals() {
        total.add(totals);
    }
    SflowEnded { samples: total, collectors: books.collectors(), not_taken }
}

fn load_settings(config: &Config, interfaces: &[Interface]) -> Result<LoadSettings, RunError> {
    let each = || interfaces.iter().map(|interface| config.interfaces.settings(interface));
    // Packets go out on any CPU, and what interface may come nobody knows.
    let receives_only = each().all(|settings| settings.direction == Direction::Ingress);
    let table_cpus = if receives_only && config.interfaces.is_settled(interfaces) {
        receiving_cpus(interfaces)
    } else {
        receiving_cpus(&[])
    };
    Ok(LoadSettings {
        sizes: config.sizes,
        table_cpus,
        hash_secrets: random_words()?,
        filters: config.filters.clone(),
        fib_lookup: config.egress_interface == EgressInterface::Fib,
        keys: config.keys.clone(),
        header_samples: each().any(|settings| settings.header_sampling_interval.is_some()),
        payloads: config.classify.map(|settings| PayloadSettings {
            packets: settings.packets,
            octets: settings.octets,
            budget: PAYLOAD_BUDGET,
            // Both directions are flows of their own.
            done: 2 * (settings.max_flows as u32).next_power_of_two(),
            // No longer than what was found out is remembered.
            kept: settings.idle_timeout / 2,
        }),
    })
}

/// Random numbers, for instance for the table hash.
fn random_words() -> Result<[u32; HASH_SECRETS], RunError> {
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
        "flow cache for {} flows, about {:.0} MiB of memory when full",
        config.max_flows,
        config.max_flows as f64 * FlowCache::OCTETS_PER_FLOW as f64 / f64::from(1 << 20)
    );
}

fn start_drain(
    config: &Config,
    context: DrainContext,
    epochs: Epochs,
    clock: Clock,
    (stop, stopped): (&Stop, Receiver<()>),
) -> Result<Vec<JoinHandle<()>>, RunError> {
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
    let (mut workers, mut threads) = (Vec::new(), Vec::new());
    let own = shares.remove(0);
    for (number, positions) in (1..).zip(shares) {
        let (sender, receiver) = bounded(1);
        let cpu = last_cpu(&tables, &positions);
        let worker =
            DrainWorker { context: context.clone(), positions, work: receiver, done: done_sender.clone() };
        threads.push(spawn(format!("drain-{number}"), move || {
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
    threads.push(spawn("drain-0".to_owned(), move || {
        pin(cpu);
        timekeeper.run(&stopped);
    })?);
    Ok(threads)
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
