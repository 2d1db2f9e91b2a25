//! The `pathflow` program: reads arguments and configuration, runs, reports, and says by its exit status
//! how it went: 0 after a normal end, 1 if it failed while running, 2 if it could not start.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::ErrorKind;
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
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
        say(&format!("pathflow: {error:#}\n"));
        ExitCode::from(CANNOT_START)
    })
}

/// Help and version as they are; a mistake on one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(error.exit_code() as u8);
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    say(&format!("pathflow: {}\n", lines.join("; ").trim_start_matches("error: ")));
    ExitCode::from(CANNOT_START)
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    config::read(file)?;
    // If nobody reads it, the exit status still says so.
    let _ = writeln!(io::stdout(), "{}: right", file.display());
    Ok(ExitCode::SUCCESS)
}

fn run(file: Option<&Path>, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let config = configure(file, overrides)?;
    let (stop, stopped) = Stop::new();
    listen_for_signals(stop.clone()).context("signals")?;
    let ended = supervisor::run(&config, &stop, &stopped)?;
    say(&report::report(&ended));
    Ok(if ended.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn replay(capture: &Path, file: Option<&Path>, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let config = configure(file, overrides)?;
    let (stop, _) = Stop::new();
    listen_for_signals(stop.clone()).context("signals")?;
    let Replayed { ended, fault } = pathflow::replay::run(&config, capture, &stop)?;
    say(&report::report(&ended));
    if let Some(fault) = &fault {
        say(&format!("pathflow: {fault}\n"));
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
fn listen_for_signals(stop: Stop) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for (count, signal) in (1..).zip(signals.forever()) {
            stop.pull();
            if count > 1 {
                say("pathflow: ended at once; what was held is not exported\n");
                std::process::exit(128 + signal);
            }
        }
    })?;
    Ok(())
}

/// Writes to standard error, where somebody may listen or not.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
