//! `pathflow-bench`: how fast each part of pathflow is on this machine. One file per measurement.
#![forbid(unsafe_code)]

mod drain;
mod encode;
mod kernel;
mod merge;
mod random;
mod report;
mod tables;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use pathflow_perf::{cpu, machine};

use crate::report::Report;

/// Measures the parts of pathflow on this machine, as root
#[derive(Parser)]
#[command(name = "pathflow-bench")]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
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
    /// Draining the kernel's flow tables
    Drain,
    /// Deltas of flows merged into the flow cache
    Merge,
    /// Flow records encoded, and sent over loopback
    Encode,
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
    cpu::pin(common.cpu).with_context(|| format!("CPU {}", common.cpu))?;
    let mut report = Report::new(common.json);
    match measurement {
        Measurement::Kernel(options) => kernel::run(options, common, &mut report)?,
        Measurement::Drain => drain::run(common, &mut report)?,
        Measurement::Merge => merge::run(common, &mut report)?,
        Measurement::Encode => encode::run(common, &mut report)?,
    }
    report.finish()
}
