//! The `pathflow` program: reads arguments and configuration, runs, reports, and says by its exit status
//! how it went: 0 after a normal end, 1 if it failed while running, 2 if it could not start.

use std::fmt::Display;
use std::process::ExitCode;
use std::thread;

use clap::Parser as _;
use mimalloc::MiMalloc;
use pathflow::cli::{Cli, Command, Run};
use pathflow::config::raw::Raw;
use pathflow::config::{self, Config};
use pathflow::stop::Stop;
use pathflow::{logging, report, supervisor};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// It could not start: usage, configuration, or this machine.
const CANNOT_START: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(flags) => run(*flags),
        Command::Check { file } => match config::read(&file) {
            Ok(_) => {
                println!("{}: right", file.display());
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
    }
}

fn run(mut flags: Run) -> ExitCode {
    let file = flags.config.take();
    let raw = match file.as_deref().map_or_else(|| Ok(Raw::default()), config::read) {
        Ok(raw) => raw,
        Err(error) => return fail(&error),
    };
    let config = match Config::resolve(raw, flags.overrides()) {
        Ok(config) => config,
        Err(error) => return fail(&error),
    };
    if let Err(error) = logging::start(&config.log) {
        return fail(&format!("log.level: {:?} cannot be used: {error}", config.log));
    }
    let (stop, stopped) = Stop::new();
    if let Err(error) = listen_for_signals(stop.clone()) {
        return fail(&format!("signals: {error}"));
    }
    match supervisor::run(&config, &stop, &stopped) {
        Ok(ended) => {
            eprint!("{}", report::report(&ended));
            if ended.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => fail(&error),
    }
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

fn fail(error: &dyn Display) -> ExitCode {
    eprintln!("pathflow: {error}");
    ExitCode::from(CANNOT_START)
}
