//! `latency`: what pathflow adds to the time that a router takes for a packet.
//!
//! Three namespaces, source - router - sink, joined by veth pairs; the router forwards IPv4. One thread on
//! one CPU has a socket in the source and one in the sink. At a steady rate it sends a datagram, then asks the
//! other socket until the datagram is there: the time between is one way through the router, without the
//! wake-up of a reader, whose cost would hide the router's. pathflow's threads are kept off that CPU: a router
//! forwards in the kernel, which does not wait for them, but this thread would.
//!
//! An XDP program on a veth changes how it receives, so pathflow is compared with an empty one as well as with
//! none. With none, the veth receives each packet by itself, or with GRO on in batches.

use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use pathflow_perf::netns::{self, Namespace};
use pathflow_perf::pass::Pass;
use pathflow_perf::{cpu, interface};
use serde::Serialize;

use crate::collector::Collector;
use crate::exporter::{self, Exporter, Running};
use crate::link::SENDING_CPU;
use crate::report::{Report, Spread};
use crate::scratch::Scratch;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The program to measure; without it, `pathflow` beside this program
    #[arg(long)]
    pub(crate) pathflow: Option<PathBuf>,
    /// Datagrams per second
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Seconds of each run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// Runs of each kind, interleaved
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Nothing,
    Gro,
    Pass,
    Pathflow,
}

impl Case {
    const ALL: [Self; 4] = [Self::Nothing, Self::Gro, Self::Pass, Self::Pathflow];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Gro => "none, GRO",
            Self::Pass => "XDP_PASS",
            Self::Pathflow => "pathflow",
        }
    }
}

/// The router's interface towards the source.
const INCOMING: &str = "pfin";
/// Before the measurement, so that neighbours are known and caches warm.
const WARM_UP: u32 = 2000;
/// A datagram that is not there after this long is lost.
const LOST: Duration = Duration::from_millis(50);
const PAYLOAD: usize = 64;

/// All runs of one kind; nanoseconds.
#[derive(Serialize)]
struct Row {
    on_interface: &'static str,
    datagrams: u64,
    lost: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
    /// Of the medians of the runs.
    p50_of_runs: Spread,
    /// Differences of the medians, to the empty XDP program in the same round.
    p50_over_pass: Spread,
}

struct Run {
    latencies: Histogram<u64>,
    lost: u64,
}

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let pathflow = exporter::pathflow(options.pathflow.as_deref())?;
    cpu::go_first().context("nice -20")?;
    report.heading(
        "latency",
        &format!(
            "{} interleaved rounds of {} s at {} datagrams/s through a router, one way, nanoseconds; sent and \
             received by one thread on CPU {SENDING_CPU}\n\n{:<10} {:>9} {:>5} {:>7} {:>7} {:>7} {:>8} {:>10} \
             {:>22} {:>20}",
            options.rounds,
            options.seconds,
            options.rate,
            "interface",
            "datagrams",
            "lost",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "p50 of rounds",
            "p50 over XDP_PASS"
        ),
    );
    let mut runs: [Vec<Run>; Case::ALL.len()] = Default::default();
    for _ in 0..options.rounds {
        for (case, runs) in Case::ALL.into_iter().zip(&mut runs) {
            runs.push(measure(case, options, &pathflow).with_context(|| case.name())?);
        }
    }
    let medians: Vec<Vec<f64>> = runs
        .iter()
        .map(|runs| runs.iter().map(|run| run.latencies.value_at_quantile(0.5) as f64).collect())
        .collect();
    for ((case, runs), own) in Case::ALL.into_iter().zip(&runs).zip(&medians) {
        let mut all = histogram()?;
        for run in runs {
            all.add(&run.latencies)?;
        }
        let pass = &medians[Case::Pass as usize];
        let row = Row {
            on_interface: case.name(),
            datagrams: all.len(),
            lost: runs.iter().map(|run| run.lost).sum(),
            p50: all.value_at_quantile(0.5),
            p90: all.value_at_quantile(0.9),
            p99: all.value_at_quantile(0.99),
            p99_9: all.value_at_quantile(0.999),
            max: all.max(),
            p50_of_runs: Spread::of(own.iter().copied()),
            p50_over_pass: Spread::of(own.iter().zip(pass).map(|(own, pass)| own - pass)),
        };
        let line = format!(
            "{:<10} {:>9} {:>5} {:>7} {:>7} {:>7} {:>8} {:>10} {:>22} {:>20}",
            row.on_interface,
            row.datagrams,
            row.lost,
            row.p50,
            row.p90,
            row.p99,
            row.p99_9,
            row.max,
            row.p50_of_runs.text(0),
            row.p50_over_pass.text(0)
        );
        report.row(&line, &row)?;
    }
    Ok(())
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(1_000_000_000, 3)?)
}

/// Source, router and sink, and a socket at either end.
struct Route {
    _source: Namespace,
    router: Namespace,
    _sink: Namespace,
    sender: UdpSocket,
    receiver: UdpSocket,
}

impl Route {
    fn new() -> Result<Self> {
        let namespace = || Namespace::new("pathflow-perf");
        let (source, router, sink) = (namespace()?, namespace()?, namespace()?);
        netns::join((&source, "pfsource"), (&router, INCOMING))?;
        netns::join((&router, "pfout"), (&sink, "pfsink"))?;
        for (namespace, interface, address) in [
            (&source, "pfsource", "198.18.1.1/24"),
            (&router, INCOMING, "198.18.1.2/24"),
            (&router, "pfout", "198.18.2.1/24"),
            (&sink, "pfsink", "198.18.2.2/24"),
        ] {
            namespace.execute(&["ip", "address", "add", address, "dev", interface])?;
        }
        source.execute(&["ip", "route", "add", "default", "via", "198.18.1.2"])?;
        sink.execute(&["ip", "route", "add", "default", "via", "198.18.2.1"])?;
        router.execute(&["sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1"])?;
        router.set_up("lo")?;
        // A socket stays in the namespace in which it was opened, whoever uses it.
        let receiver = sink.run(|| UdpSocket::bind("198.18.2.2:9"))??;
        receiver.set_nonblocking(true)?;
        let sender = source.run(|| UdpSocket::bind("198.18.1.1:1024"))??;
        sender.connect("198.18.2.2:9")?;
        Ok(Self { _source: source, router, _sink: sink, sender, receiver })
    }

    /// Sends `datagrams` at a steady rate, and receives each.
    fn stream(&self, datagrams: u32, interval: Duration) -> Result<Run> {
        let mut run = Run { latencies: histogram()?, lost: 0 };
        let mut buffer = [0; 2 * PAYLOAD];
        let mut due = Instant::now();
        for number in 0..datagrams {
            due += interval;
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let mut payload = [0; PAYLOAD];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            let start = Instant::now();
            self.sender.send(&payload)?;
            loop {
                match self.receiver.recv(&mut buffer) {
                    // One that was given up as lost may come late.
                    Ok(_) if buffer[..4] == payload[..4] => {
                        run.latencies.saturating_record(start.elapsed().as_nanos() as u64);
                        break;
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if start.elapsed() > LOST {
                            run.lost += 1;
                            break;
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // After a pause the rate goes on; what was missed is not made up for.
            due = due.max(Instant::now().checked_sub(interval).unwrap_or(due));
        }
        Ok(run)
    }
}

/// Starts processes that stay off [`SENDING_CPU`].
fn beside<T: Send>(start: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            cpu::avoid(SENDING_CPU)?;
            start()
        });
        starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn measure(case: Case, options: &Options, pathflow: &Path) -> Result<Run> {
    let path = Route::new()?;
    let scratch = Scratch::new()?;
    let mut pass = None;
    let mut probe = None;
    match case {
        Case::Nothing => {}
        Case::Gro => path.router.execute(&["ethtool", "-K", INCOMING, "gro", "on"])?,
        Case::Pass => {
            pass = Some(path.router.run(|| anyhow::Ok(Pass::attach(interface::index(INCOMING)?)?))??);
        }
        Case::Pathflow => {
            probe = Some(beside(|| {
                let collector = Collector::start(&path.router, &scratch)?;
                let exporter = Exporter::Pathflow;
                Ok((Running::exporter(exporter, &path.router, INCOMING, pathflow, &scratch)?, collector))
            })?);
        }
    }
    let interval = Duration::from_secs(1) / options.rate;
    let run = thread::scope(|scope| {
        let stream = scope.spawn(|| {
            cpu::pin(SENDING_CPU)?;
            path.stream(WARM_UP, interval)?;
            path.stream(options.rate * options.seconds, interval)
        });
        stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    drop(pass);
    if let Some((running, collector)) = probe {
        running.end()?;
        let packets = collector.end()?.packets;
        ensure!(packets >= run.latencies.len(), "pathflow was not on the way: {packets} packets");
    }
    Ok(run)
}
