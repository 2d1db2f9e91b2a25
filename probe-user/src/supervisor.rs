//! Live capture: builds every part, and takes everything down in the order in which nothing is lost.
//!
//! ```text
//! kernel tables -> drain workers -> shards (flow cache) -> sinks (collectors, standard output)
//! ```
//!
//! The end goes the same way: detach, drain what the kernel holds, turn every flow into a record, send
//! every record, close.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use pathflow_common::flow::HASH_SECRETS;
use pathflow_common::layout::OBSERVATION_POINTS;
use pathflow_exporter::FlowDirection;
use tracing::info;

use crate::capture::{CaptureError, FlowTables, KernelProgram, LoadSettings, receiving_cpus};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::RunError;
use crate::http;
use crate::metering::FlowCache;
use crate::metering::drain::{DrainContext, DrainWorker, Timekeeper};
use crate::metering::flow_record::ObservationPoint;
use crate::metering::shard::Pace;
use crate::metrics::Observed;
use crate::netlink;
use crate::pipeline::{Ended, Pipeline, join, spawn};
use crate::stop::Stop;

/// CPUs for which one drain worker is enough: it scans 20 million slots a second and more.
const CPUS_PER_WORKER: usize = 8;
/// Without a drain for this many intervals, the program is not healthy.
const STALLED_INTERVALS: u32 = 3;

/// Runs until `stopped` hears something.
///
/// # Errors
/// [`RunError`] if it cannot start; then nothing is attached and nothing was changed.
pub fn run(config: &Config, stop: &Stop, stopped: &Receiver<()>) -> Result<Ended, RunError> {
    let interfaces = find_interfaces(config)?;
    let points = observation_points(&interfaces);
    let clock = Clock::new();
    let server = match config.listen {
        Some(address) => {
            Some(http::Server::bind(address).map_err(|error| RunError::Listen { address, error })?)
        }
        None => None,
    };
    let table_cpus = receiving_cpus(&interfaces);
    let settings = LoadSettings { sizes: config.sizes, table_cpus, hash_secrets: hash_secrets()? };
    let (mut program, tables, epochs) = KernelProgram::load(&settings)?;
    let tables = Arc::new(tables);
    #[cfg(feature = "kernel-log")]
    {
        let log = program.log()?;
        spawn("kernel-log".to_owned(), move || log.run())?;
    }
    let pipeline = Pipeline::start(config, &points, Pace::NeverWait, stop)?;

    // Attached only now: from the first packet on, everything behind the kernel program is ready.
    for (number, interface) in (1..).zip(&interfaces) {
        program.register(interface.index, number)?;
    }
    for interface in &interfaces {
        program.attach(&interface.name, interface.index)?;
    }
    announce(config, &program, &tables, &settings);
    for sink in pipeline.ledger.books().sinks {
        info!("exporting {} to {}", sink.format, sink.destination);
    }
    for interface in &interfaces {
        info!("capturing on {} (index {}), XDP native mode", interface.name, interface.index);
    }
    let (stop_timekeeper, timekeeper_stopped) = Stop::new();
    let context = DrainContext {
        tables: Arc::clone(&tables),
        shards: pipeline.shards.clone(),
        pool: pipeline.pool.clone(),
        ledger: Arc::clone(&pipeline.ledger),
        latencies: Arc::clone(&pipeline.latencies),
    };
    let drain_threads = start_drain(config, context, epochs, clock, (stop, timekeeper_stopped))?;
    if let Some(server) = server {
        let address = server.address();
        info!("metrics on http://{address}/metrics");
        let observed = Observed {
            ledger: Arc::clone(&pipeline.ledger),
            latencies: Arc::clone(&pipeline.latencies),
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
    join(drain_threads);
    Ok(pipeline.finish(stop.has_failed()))
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
        "flow cache for {} flows, about {:.0} MiB of memory when full",
        config.max_flows,
        config.max_flows as f64 * FlowCache::OCTETS_PER_FLOW as f64 / f64::from(1 << 20)
    );
}

fn start_drain(
    config: &Config,
    context: DrainContext,
    epochs: crate::capture::Epochs,
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
            DrainWorker { context: context.clone(), positions, epochs: receiver, done: done_sender.clone() };
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
