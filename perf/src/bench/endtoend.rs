//! `endtoend`: pathflow beside other exporters, from the wire to the collector.
//!
//! A generator on CPU 0 sends frames at full rate through a veth pair; the exporter listens at its far end and
//! exports IPFIX to `nfcapd` in the same namespace. Truth is what the far interface has received.
//!
//! - Rounds are interleaved: each has every exporter and both floors, at every number of flows.
//! - CPU time is that of the exporter's processes, from before the traffic until they are idle after it, so
//!   that what was received has been read. The export of all flows at the end is in a column of its own.
//! - Kernel time is that of the generator and of the kernel's receiving thread of its CPU. What an exporter
//!   adds is its kernel time less that of the same round without a listener: once with GRO on at the far end,
//!   once with an XDP program that lets everything pass.
//! - Everything runs at nice -20, because the machine may have other work.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use pathflow_perf::cpu;
use pathflow_perf::frames::{Frame, FrameSettings};
use serde::Serialize;

use crate::collector::{Collected, Collector};
use crate::exporter::{self, Exporter, Running};
use crate::final_report::FinalReport;
use crate::link::{Burst, FAR, Link};
use crate::report::{Report, Spread, met};
use crate::scratch::Scratch;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The program to measure; without it, `pathflow` beside this program
    #[arg(long)]
    pub(crate) pathflow: Option<PathBuf>,
    /// Packets of each run
    #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) packets: u64,
    /// Runs of each exporter and number of flows
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Numbers of flows
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 60_000])]
    pub(crate) flows: Vec<u32>,
    /// Measure pathflow alone
    #[arg(long)]
    pub(crate) no_peers: bool,
}

/// Wanted: CPU seconds per million packets up to this many flows, and with more.
const CPU_TARGETS: [(u32, f64); 2] = [(1000, 0.02), (u32::MAX, 0.08)];
/// Wanted: nanoseconds of kernel time that an exporter adds to each packet.
const KERNEL_TARGET: f64 = 60.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Nobody listens; the far end receives in batches.
    Gro,
    /// Nobody listens; an XDP program lets everything pass.
    Pass,
    Exporter(Exporter),
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Gro => "none, GRO",
            Self::Pass => "none, XDP_PASS",
            Self::Exporter(exporter) => exporter.name(),
        }
    }
}

/// One run.
#[derive(Clone, Copy)]
struct Run {
    burst: Burst,
    export: Option<Account>,
}

/// What an exporter did in one run.
#[derive(Clone, Copy)]
struct Account {
    collected: Collected,
    cpu_time: Duration,
    cpu_time_to_end: Duration,
    memory_mebibytes: f64,
}

impl Run {
    fn kernel_nanoseconds(&self) -> f64 {
        self.burst.kernel_time.as_nanos() as f64 / self.burst.arrived as f64
    }
}

impl Account {
    /// Seconds per million packets accounted: work for packets that are lost is no achievement.
    fn per_million(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.collected.packets as f64 * 1e6
    }
}

/// All runs of one exporter with one number of flows.
#[derive(Serialize)]
struct Row {
    exporter: &'static str,
    flows: u32,
    /// Packets that arrived, of all runs.
    arrived_packets: u64,
    /// Packets in the records that the collector received, of all runs.
    accounted_packets: Option<u64>,
    /// Datagrams of records that the collector's socket had no room for, of all runs.
    collector_dropped_datagrams: Option<u64>,
    records: Option<Spread>,
    million_arrived_per_second: Spread,
    accounted_percent: Option<Spread>,
    cpu_seconds_per_million_packets: Option<Spread>,
    /// Until the exporter has ended, and so exported every flow.
    cpu_seconds_per_million_packets_with_export: Option<Spread>,
    kernel_nanoseconds_per_packet: Spread,
    /// Over nobody listening, GRO on.
    added_to_gro_nanoseconds: Option<Spread>,
    /// Over an XDP program that lets everything pass.
    added_to_pass_nanoseconds: Option<Spread>,
    memory_mebibytes: Option<Spread>,
}

pub(crate) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let pathflow = exporter::pathflow(options.pathflow.as_deref())?;
    cpu::go_first().context("nice -20")?;
    report.heading(
        "endtoend",
        &format!(
            "{} interleaved rounds of {} packets, 64 octets, random flows, full rate; targets: 100 %, {} and \
             {} CPU s, {KERNEL_TARGET} ns added",
            options.rounds, options.packets, CPU_TARGETS[0].1, CPU_TARGETS[1].1
        ),
    );
    let mut cases = vec![Case::Gro, Case::Pass, Case::Exporter(Exporter::Pathflow)];
    for peer in Exporter::PEERS.into_iter().filter(|_| !options.no_peers) {
        match peer.is_installed() {
            Ok(()) => cases.push(Case::Exporter(peer)),
            Err(reason) => eprintln!("{reason}"),
        }
    }
    let frame = Frame::new(&FrameSettings::default())?;
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); cases.len() * options.flows.len()];
    for _ in 0..options.rounds {
        let all = options.flows.iter().flat_map(|flows| cases.iter().map(move |case| (*flows, *case)));
        for ((flows, case), runs) in all.zip(&mut runs) {
            let run = measure(case, &frame, flows, options.packets, &pathflow)
                .with_context(|| format!("{} with {flows} flows", case.name()))?;
            runs.push(run);
        }
    }
    report.text(&format!(
        "\n{:<14} {:>6} {:>19} {:>22} {:>10} {:>23} {:>8} {:>17} {:>19} {:>19} {:>6}  {}",
        "exporter",
        "flows",
        "Mpps arrived",
        "% accounted",
        "lost",
        "CPU s/M packets",
        "+export",
        "kernel ns/packet",
        "ns over GRO",
        "ns over XDP_PASS",
        "MiB",
        "targets"
    ));
    for (flows, runs) in options.flows.iter().zip(runs.chunks(cases.len())) {
        for (case, own) in cases.iter().zip(runs) {
            let row = row(*case, *flows, own, &runs[0], &runs[1]);
            report.row(&line(&row), &row)?;
            if let Some(dropped @ 1..) = row.collector_dropped_datagrams {
                report.text(&format!(
                    "  the collector lost {dropped} datagrams of these records: {}",
                    row.exporter
                ));
            }
        }
    }
    Ok(())
}

fn measure(case: Case, frame: &Frame, flows: u32, packets: u64, pathflow: &Path) -> Result<Run> {
    let link = Link::new()?;
    let exporter = match case {
        Case::Pass => {
            let _pass = link.pass()?;
            return Ok(Run { burst: link.burst(frame, flows, packets)?, export: None });
        }
        Case::Gro => {
            link.receive_in_batches()?;
            return Ok(Run { burst: link.burst(frame, flows, packets)?, export: None });
        }
        Case::Exporter(exporter) => exporter,
    };
    if exporter != Exporter::Pathflow {
        link.receive_in_batches()?;
    }
    let scratch = Scratch::new()?;
    let collector = Collector::start(&link.far, &scratch)?;
    let running = Running::exporter(exporter, &link.far, FAR, pathflow, &scratch)?;
    let (before, before_children) = (running.cpu_time(), children_time()?);
    let burst = link.burst(frame, flows, packets)?;
    running.wait_until_idle();
    let cpu_time = running.cpu_time().saturating_sub(before);
    let memory_mebibytes = running.memory_mebibytes();
    let log = running.end()?;
    let cpu_time_to_end =
        children_time()?.saturating_sub(before_children).saturating_sub(before).max(cpu_time);
    let collected = collector.end()?;
    if exporter == Exporter::Pathflow {
        FinalReport::parse(&log).check(burst.arrived)?;
    }
    Ok(Run { burst, export: Some(Account { collected, cpu_time, cpu_time_to_end, memory_mebibytes }) })
}

/// CPU time of every process that this one has started and seen the end of.
fn children_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may hold anything; columns are counted behind it.
    let (_, rest) = stat.rsplit_once(')').context("/proc/self/stat")?;
    let ticks = rest.split_whitespace().skip(13).take(2).filter_map(|text| text.parse::<u64>().ok());
    Ok(Duration::from_secs_f64(ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64))
}

fn row(case: Case, flows: u32, own: &[Run], gro: &[Run], pass: &[Run]) -> Row {
    let exports = || own.iter().filter_map(|run| run.export.map(|export| (run, export)));
    let is_exporter = exports().next().is_some();
    let spread = |value: &dyn Fn(&Run, &Account) -> f64| {
        is_exporter.then(|| Spread::of(exports().map(|(run, export)| value(run, &export))))
    };
    let added = |floor: &[Run]| {
        let differences =
            own.iter().zip(floor).map(|(run, floor)| run.kernel_nanoseconds() - floor.kernel_nanoseconds());
        is_exporter.then(|| Spread::of(differences))
    };
    let sum = |value: fn(&Account) -> u64| is_exporter.then(|| exports().map(|(_, e)| value(&e)).sum());
    Row {
        exporter: case.name(),
        flows,
        arrived_packets: own.iter().map(|run| run.burst.arrived).sum(),
        accounted_packets: sum(|export| export.collected.packets),
        collector_dropped_datagrams: sum(|export| export.collected.dropped_datagrams),
        records: spread(&|_, export| export.collected.records as f64),
        million_arrived_per_second: Spread::of(
            own.iter().map(|run| run.burst.arrived as f64 / run.burst.seconds / 1e6),
        ),
        accounted_percent: spread(&|run, export| {
            export.collected.packets as f64 / run.burst.arrived as f64 * 100.0
        }),
        cpu_seconds_per_million_packets: spread(&|_, export| export.per_million(export.cpu_time)),
        cpu_seconds_per_million_packets_with_export: spread(&|_, export| {
            export.per_million(export.cpu_time_to_end)
        }),
        kernel_nanoseconds_per_packet: Spread::of(own.iter().map(Run::kernel_nanoseconds)),
        added_to_gro_nanoseconds: added(gro),
        added_to_pass_nanoseconds: added(pass),
        memory_mebibytes: spread(&|_, export| export.memory_mebibytes),
    }
}

fn line(row: &Row) -> String {
    let text = |spread: Option<Spread>, decimals| spread.map_or_else(String::new, |s| s.text(decimals));
    let lost = row.accounted_packets.map(|packets| row.arrived_packets as i64 - packets as i64);
    format!(
        "{:<14} {:>6} {:>19} {:>22} {:>10} {:>23} {:>8} {:>17} {:>19} {:>19} {:>6}  {}",
        row.exporter,
        row.flows,
        row.million_arrived_per_second.text(2),
        text(row.accounted_percent, 2),
        lost.map_or_else(String::new, |lost| lost.to_string()),
        text(row.cpu_seconds_per_million_packets, 4),
        row.cpu_seconds_per_million_packets_with_export
            .map_or_else(String::new, |spread| format!("{:.4}", spread.median)),
        row.kernel_nanoseconds_per_packet.text(0),
        text(row.added_to_gro_nanoseconds, 0),
        text(row.added_to_pass_nanoseconds, 0),
        row.memory_mebibytes.map_or_else(String::new, |spread| format!("{:.0}", spread.median)),
        targets(row)
    )
}

/// How pathflow's targets stand; others have none.
fn targets(row: &Row) -> String {
    let (Some(accounted), Some(cpu), Some(added)) =
        (row.accounted_packets, row.cpu_seconds_per_million_packets, row.added_to_gro_nanoseconds)
    else {
        return String::new();
    };
    if row.exporter != Exporter::Pathflow.name() {
        return String::new();
    }
    let limit = CPU_TARGETS.iter().find(|(flows, _)| row.flows <= *flows).map_or(0.0, |(_, limit)| *limit);
    format!(
        "100 % {}, CPU {}, kernel {}",
        met(accounted == row.arrived_packets),
        met(cpu.median <= limit),
        met(added.median <= KERNEL_TARGET)
    )
}
