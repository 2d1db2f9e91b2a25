//! `mirror`: what a packet costs through `AF_XDP`, beside the tables in the kernel.
//!
//! A generator on CPU 0 sends frames at full rate through a veth pair. The three cases take turns: an XDP
//! program that lets everything pass, pathflow's tables in the kernel, and its mirror mode with one queue,
//! its worker on another CPU. Flows go as far as deltas for the shards, and no further, in both.
//!
//! - Kernel time is that of the generator and of the kernel's receiving thread of its CPU: sending and
//!   receiving. With the tables the packet goes on to the network stack; the mirror takes it away, but
//!   copies it.
//! - Worker time is that of the mirror's worker. Each packet it did not take has a name in the ledger.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use crossbeam_channel::bounded;
use pathflow::capture::xsk::{Mirror, MirrorOutput, MirrorSettings};
use pathflow::capture::{FilterSet, Hook};
use pathflow::clock::Clock;
use pathflow::ledger::Ledger;
use pathflow::metering::extensions::Extensions;
use pathflow::metering::packets::KeySettings;
use pathflow::stop::Stop;
use pathflow_perf::cpu;
use pathflow_perf::frames::{Family, Frame, FrameSettings};
use pathflow_perf::interface;
use serde::Serialize;

use crate::link::{Burst, FAR, Link, SENDING_CPU};
use crate::report::{Report, Spread};
use crate::tables::{Tables, ample_sizes};

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Packets of each run
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) packets: u64,
    /// Runs of each case and number of flows
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Numbers of flows
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 60_000])]
    pub(crate) flows: Vec<u32>,
}

/// CPU of the worker.
const WORKER_CPU: u32 = SENDING_CPU + 1;
/// Observation point of the packets, here and there.
const POINT: u16 = 1;
/// How long the worker may take for what is in its ring.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Pass,
    Tables,
    Mirror,
}

const CASES: [Case; 3] = [Case::Pass, Case::Tables, Case::Mirror];

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Pass => "XDP_PASS",
            Self::Tables => "kernel tables",
            Self::Mirror => "AF_XDP mirror",
        }
    }
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    burst: Burst,
    /// Packets that are in flows.
    accounted: u64,
    worker_time: Duration,
}

impl Run {
    /// Of kernel time, for each packet that arrived.
    fn kernel_nanoseconds(&self) -> f64 {
        self.burst.kernel_time.as_nanos() as f64 / self.burst.arrived as f64
    }

    /// Of worker time, for each packet that it took.
    fn worker_nanoseconds(&self) -> f64 {
        self.worker_time.as_nanos() as f64 / self.accounted.max(1) as f64
    }

    fn nanoseconds(&self) -> f64 {
        self.kernel_nanoseconds() + self.worker_nanoseconds()
    }
}

/// One line of the table.
#[derive(Serialize)]
struct Row {
    case: &'static str,
    flows: u32,
    million_arrived_per_second: Spread,
    /// Share of the packets that arrived and are in flows.
    accounted_percent: Spread,
    kernel_nanoseconds_per_packet: Spread,
    worker_nanoseconds_per_packet: Spread,
    /// Kernel and worker together, less the kernel time of the empty program in the same round.
    added_to_pass_nanoseconds: Spread,
    /// Million packets that one core could send, receive and account in a second.
    million_per_core_and_second: Spread,
}

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    cpu::go_first().context("priority")?;
    report.heading(
        "mirror",
        &format!(
            "{} interleaved rounds of {} packets of 64 octets; min / median / max\n\n{:<14} {:>6} {:>19} \
             {:>22} {:>17} {:>17} {:>19} {:>19}",
            options.rounds,
            options.packets,
            "case",
            "flows",
            "Mpps arrived",
            "% accounted",
            "kernel ns/packet",
            "worker ns/packet",
            "ns over XDP_PASS",
            "Mpps per core"
        ),
    );
    let frame = Frame::new(&FrameSettings::default())?;
    for flows in &options.flows {
        let mut runs: [Vec<Run>; 3] = Default::default();
        for _ in 0..options.rounds {
            for (case, runs) in CASES.into_iter().zip(&mut runs) {
                let run = measure(case, &frame, *flows, options.packets);
                runs.push(run.with_context(|| format!("{} with {flows} flows", case.name()))?);
            }
        }
        for (case, own) in CASES.into_iter().zip(&runs) {
            let row = row(case, *flows, own, &runs[0]);
            report.row(&line(&row), &row)?;
        }
    }
    Ok(())
}

fn measure(case: Case, frame: &Frame, flows: u32, packets: u64) -> Result<Run> {
    let link = Link::new()?;
    match case {
        Case::Pass => {
            let _pass = link.pass()?;
            let burst = link.burst(frame, flows, packets)?;
            Ok(Run { burst, accounted: 0, worker_time: Duration::ZERO })
        }
        Case::Tables => tables(&link, frame, flows, packets),
        Case::Mirror => mirror(&link, frame, flows, packets),
    }
}

fn tables(link: &Link, frame: &Frame, flows: u32, packets: u64) -> Result<Run> {
    let index = link.far.run(|| interface::index(FAR))??;
    let mut tables = Tables::load(ample_sizes(Family::Ipv4, flows), SENDING_CPU)?;
    tables.program.register(index, false, POINT, 0)?;
    link.far.run(|| tables.program.attach(FAR, index, Hook::XdpNative))??;
    let burst = link.burst(frame, flows, packets)?;
    tables.program.detach_all();
    let epoch = tables.epochs.advance(&tables.flows)?;
    let mut accounted = 0;
    tables.drain(epoch, |delta| accounted += delta.packets);
    ensure!(tables.counters(epoch).seen.packets == burst.arrived, "the program has seen another number");
    Ok(Run { burst, accounted, worker_time: Duration::ZERO })
}

fn mirror(link: &Link, frame: &Frame, flows: u32, packets: u64) -> Result<Run> {
    let index = link.far.run(|| interface::index(FAR))??;
    let ledger = Arc::new(Ledger::new([]));
    // Buffers go at once: what becomes of deltas is not measured here.
    let (shard, messages) = bounded(256);
    let (_, pool) = bounded(1);
    let sink = thread::spawn(move || messages.into_iter().for_each(drop));
    let (stop, _) = Stop::new();
    let output = MirrorOutput {
        ingress_point: POINT,
        egress_point: POINT + 1,
        shards: vec![shard],
        pool,
        ledger: Arc::clone(&ledger),
        keys: KeySettings::default(),
        extensions: Arc::new(Extensions::new(1, 1)),
        classes: None,
        taps: None,
        filters: FilterSet::default(),
        clock: Clock::new(),
        stop,
    };
    let settings = MirrorSettings { cpus: vec![WORKER_CPU], ..MirrorSettings::new(FAR.to_owned(), index) };
    let mirror = link.far.run(|| Mirror::start(&settings, &output))??;
    drop(output);
    let worker = format!("mirror-{POINT}-0");
    let before = thread_time(&worker)?;
    let burst = link.burst(frame, flows, packets)?;
    let deadline = Instant::now() + PATIENCE;
    while mirror.live_packets() > 0 {
        ensure!(Instant::now() < deadline, "the worker has not taken everything");
        thread::sleep(Duration::from_millis(10));
    }
    let worker_time = thread_time(&worker)?.saturating_sub(before);
    mirror.stop();
    ensure!(sink.join().is_ok(), "the sink has failed");
    let total = ledger.books().total();
    ensure!(total.in_kernel.is_zero(), "{total:?}");
    ensure!(total.seen.packets == burst.arrived, "{} packets arrived, {total:?}", burst.arrived);
    Ok(Run { burst, accounted: total.in_transit.packets, worker_time })
}

/// CPU time of the thread of this process that is called `name`.
fn thread_time(name: &str) -> Result<Duration> {
    for entry in fs::read_dir("/proc/self/task")?.flatten() {
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
            let times = fs::read_to_string(entry.path().join("schedstat"))?;
            let time = times.split_whitespace().next().and_then(|time| time.parse().ok());
            return time.map(Duration::from_nanos).context("schedstat");
        }
    }
    anyhow::bail!("no thread {name}")
}

fn row(case: Case, flows: u32, own: &[Run], pass: &[Run]) -> Row {
    let spread = |value: &dyn Fn(&Run) -> f64| Spread::of(own.iter().map(value));
    Row {
        case: case.name(),
        flows,
        million_arrived_per_second: spread(&|run| run.burst.arrived as f64 / run.burst.seconds / 1e6),
        accounted_percent: spread(&|run| run.accounted as f64 / run.burst.arrived as f64 * 100.0),
        kernel_nanoseconds_per_packet: spread(&Run::kernel_nanoseconds),
        worker_nanoseconds_per_packet: spread(&Run::worker_nanoseconds),
        added_to_pass_nanoseconds: Spread::of(
            own.iter().zip(pass).map(|(run, pass)| run.nanoseconds() - pass.nanoseconds()),
        ),
        million_per_core_and_second: spread(&|run| 1000.0 / run.nanoseconds()),
    }
}

fn line(row: &Row) -> String {
    format!(
        "{:<14} {:>6} {:>19} {:>22} {:>17} {:>17} {:>19} {:>19}",
        row.case,
        row.flows,
        row.million_arrived_per_second.text(2),
        row.accounted_percent.text(2),
        row.kernel_nanoseconds_per_packet.text(0),
        row.worker_nanoseconds_per_packet.text(0),
        row.added_to_pass_nanoseconds.text(0),
        row.million_per_core_and_second.text(2)
    )
}
