//! `pathflow-bench`: how fast each part of pathflow is on this machine. One file per measurement.
#![forbid(unsafe_code)]

mod aggregate;
mod bgp;
mod collector;
mod drain;
mod encode;
mod endtoend;
mod enrich;
mod exporter;
mod families;
mod file;
mod final_report;
mod json;
mod kafka;
mod kernel;
mod latency;
mod link;
mod merge;
mod mirror;
#[cfg(feature = "netgauze")]
mod netgauze;
mod records;
mod replay;
mod report;
mod rib;
mod scratch;
mod send;
mod soak;
mod tables;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use pathflow_perf::cpu::Stay;
use pathflow_perf::machine;

use crate::report::Report;

/// Measures the parts of pathflow on this machine, as root
#[derive(Parser)]
#[command(name = "pathflow-bench")]
struct Arguments {
    /// Without one: all, briefly
    #[command(subcommand)]
    measurement: Option<Measurement>,
    #[command(flatten)]
    common: Common,
}

/// What every measurement takes.
#[derive(Args)]
struct Common {
    /// CPU to measure on
    #[arg(long, global = true, default_value_t = 0)]
    cpu: u32,
    /// How often each number is measured
    #[arg(long, global = true, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Measure although the kernel times every program run, which makes each slower
    #[arg(long, global = true)]
    force: bool,
}

#[derive(Subcommand)]
enum Measurement {
    /// Cost of one packet in the kernel program, over that of an empty program
    Kernel(kernel::Options),
    /// The same for packets with other headers, at each hook
    Families(families::Options),
    /// Draining the kernel's flow tables
    Drain,
    /// Deltas of flows merged into the flow cache
    Merge,
    /// Deltas of flows added up by an aggregate
    Aggregate,
    /// Flow records and samples encoded
    Encode,
    /// Rows of an aggregate as JSON
    Json,
    /// Flow records encoded and sent, over UDP, TCP and TLS
    Send,
    /// pathflow beside other exporters, from a veth pair to a collector
    #[command(name = "endtoend")]
    EndToEnd(endtoend::Options),
    /// Mirror mode (`AF_XDP`) beside the tables in the kernel
    Mirror(mirror::Options),
    /// A capture of mixed traffic at top speed into pathflow
    Replay(replay::Options),
    /// A capture file into flows, beside other programs that read one
    File(file::Options),
    /// Time that pathflow adds to forwarding
    Latency(latency::Options),
    /// Every format at once to real collectors, for ten minutes
    Soak(soak::Options),
    /// Messages into Apache Kafka, and into the spool
    Kafka(kafka::Options),
    /// A full table into the RIB; lookups while it changes
    Rib,
    /// Records that get what a full table says of their addresses
    Enrich,
    /// A full table over TCP into the BGP speaker, beside BIRD and pmbgpd
    Bgp(bgp::Options),
    /// All of these but `soak` and `kafka`, briefly
    All {
        /// The program to measure; without it, `pathflow` beside this program
        #[arg(long)]
        pathflow: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { measurement, common } = arguments;
    if machine::bpf_stats_enabled() && !common.force {
        bail!("kernel.bpf_stats_enabled is 1: set it to 0, or measure all the same with --force");
    }
    let mut report = Report::new(common.json);
    let all = Measurement::All { pathflow: None };
    measure(measurement.as_ref().unwrap_or(&all), common, &mut report)?;
    report.finish()
}

fn measure(measurement: &Measurement, common: &Common, report: &mut Report) -> Result<()> {
    // What the other measurements start must not be kept on this CPU as well.
    let stay = || Stay::on(common.cpu).with_context(|| format!("CPU {}", common.cpu));
    match measurement {
        Measurement::Kernel(options) => {
            let _stay = stay()?;
            kernel::run(options, common, report)
        }
        Measurement::Families(options) => {
            let _stay = stay()?;
            families::run(options, common, report)
        }
        Measurement::Drain => {
            let _stay = stay()?;
            drain::run(common, report)
        }
        Measurement::Merge => {
            let _stay = stay()?;
            merge::run(common, report)
        }
        Measurement::Aggregate => {
            let _stay = stay()?;
            aggregate::run(common, report)
        }
        Measurement::Encode => {
            let _stay = stay()?;
            encode::run(common, report)
        }
        Measurement::Json => {
            let _stay = stay()?;
            json::run(common, report)
        }
        Measurement::Send => {
            let _stay = stay()?;
            send::run(common, report)
        }
        Measurement::EndToEnd(options) => endtoend::run(options, report),
        Measurement::Mirror(options) => mirror::run(options, report),
        Measurement::Replay(options) => replay::run(options, report),
        Measurement::File(options) => {
            let _stay = stay()?;
            file::run(options, common, report)
        }
        Measurement::Bgp(options) => bgp::run(options, common, report),
        Measurement::Enrich => enrich::run(common, report),
        Measurement::Kafka(options) => kafka::run(options, common, report),
        Measurement::Rib => rib::run(common, report),
        Measurement::Latency(options) => latency::run(options, report),
        Measurement::Soak(options) => soak::run(options, report),
        Measurement::All { pathflow } => all(pathflow.as_deref(), common, report),
    }
}

/// Every measurement, with settings under which all take a few minutes.
fn all(pathflow: Option<&Path>, common: &Common, report: &mut Report) -> Result<()> {
    let pathflow = pathflow.map(Path::to_owned);
    let common = Common { runs: common.runs.min(3), ..*common };
    for measurement in [
        Measurement::Kernel(kernel::Options { packets: 200_000, flows: kernel::FLOWS.to_vec() }),
        Measurement::Families(families::Options { packets: 200_000 }),
        Measurement::Drain,
        Measurement::Merge,
        Measurement::Encode,
        Measurement::Json,
        Measurement::Send,
        Measurement::EndToEnd(endtoend::Options {
            pathflow: pathflow.clone(),
            packets: 3_000_000,
            rounds: 1,
            flows: vec![1000, 60_000],
            no_peers: false,
        }),
        Measurement::Mirror(mirror::Options { packets: 3_000_000, rounds: 1, flows: vec![1000, 60_000] }),
        Measurement::Replay(replay::Options { pathflow: pathflow.clone(), loops: 100, rounds: 1 }),
        Measurement::File(file::Options { pathflow: pathflow.clone(), packets: 1_000_000, rounds: 3 }),
        Measurement::Rib,
        Measurement::Enrich,
        Measurement::Bgp(bgp::Options::default()),
        Measurement::Latency(latency::Options { pathflow, rate: 20_000, seconds: 2, rounds: 2 }),
    ] {
        measure(&measurement, &common, report)?;
    }
    Ok(())
}
