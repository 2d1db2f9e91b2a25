//! The `pathflow` program: reads arguments and configuration, runs, reports, and says by its exit status
//! how it went: 0 after a normal end, 1 if it failed while running, 2 if it could not start.

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Parser as _;
use mimalloc::MiMalloc;
use pathflow::cli::{Cli, Command, Replay};
use pathflow::config::raw::Raw;
use pathflow::config::{self, Config, Overrides};
use pathflow::replay::Replayed;
use pathflow::stop::Stop;
use pathflow::{logging, report, supervisor};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// It could not start: usage, configuration, or this machine.
const CANNOT_START: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(flags) => {
            let file = flags.common.config.clone();
            run(file.as_deref(), flags.overrides())
        }
        Command::Replay(flags) => {
            let Replay { file, common } = *flags;
            let config = common.config.clone();
            replay(&file, config.as_deref(), common.overrides())
        }
        Command::Check { file } => check(&file),
    };
    result.unwrap_or_else(|error| {
        eprintln!("pathflow: {error:#}");
        ExitCode::from(CANNOT_START)
    })
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    config::read(file)?;
    println!("{}: right", file.display());
    Ok(ExitCode::SUCCESS)
}

fn run(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let config = configure(file, overrides)?;
    let (stop, stopped) = Stop::new();
    listen_for_signals(stop.clone()).context("signals")?;
    let ended = supervisor::run(&config, &stop, &stopped)?;
    eprint!("{}", report::report(&ended));
    Ok(if ended.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn replay(capture: &Path, file: Option<&Path>, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let config = configure(file, overrides)?;
    let (stop, stopped) = Stop::new();
    listen_for_signals(stop.clone()).context("signals")?;
    let Replayed { ended, fault } = pathflow::replay::run(&config, capture, &stop, &stopped)?;
    eprint!("{}", report::report(&ended));
    if let Some(fault) = &fault {
        eprintln!("pathflow: {fault}");
    }
    Ok(if ended.failed || fault.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads the configuration and starts logging.
fn configure(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<Config> {
    let raw = file.map_or_else(|| Ok(Raw::default()), config::read)?;
    let config = Config::resolve(raw, overrides)?;
    logging::start(&config.log)
        .map_err(|error| anyhow::anyhow!("log.level: {:?} cannot be used: {error}", config.log))?;
    Ok(config)
}

/// The first SIGINT or SIGTERM ends the work in order, the second one at once.
fn listen_for_signals(stop: Stop) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for (count, signal) in (1..).zip(signals.forever()) {
            stop.pull();
            if count > 1 {
                eprintln!("pathflow: ended at once; what was held is not exported");
                std::process::exit(128 + signal);
            }
        }
    })?;
    Ok(())
}
