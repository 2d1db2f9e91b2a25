//! pathflow's developer commands; run them as `cargo xtask <command>`.
#![forbid(unsafe_code)]

mod avro;
mod build;
mod clickhouse;
mod codegen;
mod ebpf;
mod goflow2;
mod kafka;
mod process;
mod setup;
mod test;
mod tidy;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use setup::Purpose;

/// pathflow's developer commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the build needs (Debian, as root)
    Setup {
        /// Install what the tests need as well: collectors, exporters, network tools, linters
        #[arg(long)]
        peers: bool,
    },
    /// Build the kernel program alone
    BuildEbpf,
    /// Build the probe, after `setup`
    Build {
        /// Build without optimization
        #[arg(long)]
        debug: bool,
    },
    /// Build the probe and run it: everything after `run` goes to `pathflow run`
    #[command(disable_help_flag = true)]
    Run {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run every check and test, as root
    Test {
        /// Run only the tests whose name contains this, and no other check
        filter: Option<String>,
    },
    /// Build the benchmarks and run them: everything after `bench` goes to `pathflow-bench`
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Fetch Apache Kafka for the tests, and say where it is
    Kafka,
    /// Fetch `ClickHouse` for the tests, as a library for Python, and say where it is
    Clickhouse,
    /// Fetch a schema registry and a reader of Avro for the tests, and say where they are
    Avro,
    /// Make the sources that are made from tables
    Codegen,
    /// Check the rules that neither rustfmt nor clippy knows
    Tidy,
}

fn main() -> ExitCode {
    run(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(if error.is::<setup::ByHand>() { 2 } else { 1 })
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup { peers } => setup::command(if peers { Purpose::Test } else { Purpose::Build })?,
        Command::BuildEbpf => ebpf::run()?,
        Command::Build { debug } => build::build(debug)?,
        Command::Run { arguments } => build::run(&arguments)?,
        Command::Test { filter } => return test::run(filter.as_deref()),
        Command::Bench { arguments } => build::bench(&arguments)?,
        Command::Kafka => println!("{}", kafka::libraries()?.display()),
        Command::Clickhouse => println!("{}", clickhouse::folder()?.display()),
        Command::Avro => println!("{}\n{}", avro::registry()?.display(), avro::reader()?.display()),
        Command::Codegen => codegen::run()?,
        Command::Tidy => tidy::run()?,
    }
    Ok(ExitCode::SUCCESS)
}
