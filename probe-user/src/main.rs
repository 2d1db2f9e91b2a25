//! The `pathflow` program: reads arguments and configuration, runs, reports, and says by its exit status
//! how it went: 0 after a normal end, 1 if it failed while running, 2 if it could not start, 75 if it could not yet.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Parser as _;
use clap::error::ErrorKind;
use crossbeam_channel::bounded;
use mimalloc::MiMalloc;
use pathflow::aggregate::encode::Format;
use pathflow::capture::pin;
use pathflow::cli::{Cli, Command, Control, Doctor, Replay, Rows, Source};
use pathflow::config::raw::Raw;
use pathflow::config::{self, Config, ConfigError, Environment, Overrides};
use pathflow::control::{self, CELL_SEPARATOR, Request, Response, RowsRequest};
use pathflow::doctor::{self, Plan};
use pathflow::host::System;
use pathflow::interfaces::interfaces;
use pathflow::pmacct::{self, Imported};
use pathflow::replay::Replayed;
use pathflow::stop::Stop;
use pathflow::supervisor::{self, Events};
use pathflow::{logging, report};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// It could not start: usage, configuration, or this machine.
const CANNOT_START: u8 = 2;
/// It could not start for what may pass: `EX_TEMPFAIL` of sysexits(3).
const CANNOT_START_YET: u8 = 75;
/// Columns of `pathflow doctor`, whatever the terminal: the output is the same in a pipe.
const TABLE_WIDTH: usize = 110;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Run(flags) => {
            let source = flags.common.source();
            run(source, flags.overrides())
        }
        Command::Replay(flags) => {
            let Replay { file, common } = *flags;
            let source = common.source();
            replay(&file, &source, common.overrides())
        }
        Command::Check { file, pmacct_config } => check(file.as_deref(), pmacct_config.as_deref()),
        Command::Import { file, output } => import(&file, output.as_deref()),
        Command::Doctor(flags) => doctor(flags),
        Command::Route { address, peer, control } => ask(&Request::Route { address, peer }, control),
        Command::Peers { control } => ask(&Request::Peers, control),
        Command::Rows(flags) => rows(flags),
        Command::Detach { interface } => detach(&interface),
    };
    result.unwrap_or_else(|error| {
        say(&format!("pathflow: {}\n", one_line(&error)));
        let may_pass = error.downcast_ref::<ConfigError>().is_some_and(ConfigError::may_pass);
        ExitCode::from(if may_pass { CANNOT_START_YET } else { CANNOT_START })
    })
}

/// An error with its causes, but for those that it has said already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match line.as_str() {
            "" => cause,
            said if said.ends_with(&cause) => line,
            said => format!("{said}: {cause}"),
        }
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

fn check(file: Option<&Path>, pmacct_config: Option<&Path>) -> anyhow::Result<ExitCode> {
    if let Some(file) = file {
        config::read(file)?;
    }
    if let Some(file) = pmacct_config {
        remark(&pmacct::import(file)?);
    }
    let file = file.or(pmacct_config).unwrap_or(Path::new(""));
    // If nobody reads it, the exit status still says so.
    let _ = writeln!(io::stdout(), "{}: right", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes what a configuration of pmacct's means here.
fn import(file: &Path, directory: Option<&Path>) -> anyhow::Result<ExitCode> {
    let imported = pmacct::import(file)?;
    remark(&imported);
    let text = &imported.toml;
    match directory {
        None => io::stdout().write_all(text.as_bytes()).context("standard output")?,
        Some(directory) => {
            fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
            let path = directory.join("pathflow.toml");
            let mode = if imported.has_secrets { 0o600 } else { 0o644 };
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .with_context(|| path.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what pathflow does not do as the configuration has it.
fn remark(imported: &Imported) {
    for remark in imported.warnings() {
        say(&format!("{remark}\n"));
    }
}

/// Looks at this machine; the exit status is that of a start which fails, if it would.
fn doctor(flags: Doctor) -> anyhow::Result<ExitCode> {
    let Doctor { config, interface, json } = flags;
    let raw = config.as_deref().map_or_else(|| Ok(Raw::default()), config::read)?;
    let environment = Environment::of_process();
    let overrides = Overrides { environment, interfaces: interface, ..Overrides::default() };
    let config = Config::resolve(raw, overrides)?;
    let findings = doctor::examine(
        &System,
        &Plan::new(&config, &interfaces().context("the interfaces cannot be listed")?),
    );
    let text = if json { findings.json()? + "\n" } else { findings.text(TABLE_WIDTH) };
    // If nobody reads it, the exit status still says so.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(if findings.is_fit() { ExitCode::SUCCESS } else { ExitCode::from(CANNOT_START) })
}

/// Asks the running daemon; the exit status is 1 if it has no answer.
fn ask(request: &Request, flags: Control) -> anyhow::Result<ExitCode> {
    let Control { config, json } = flags;
    let (response, _) = ask_daemon(request, config.as_deref())?;
    if let (Response::Error(error), false) = (&response, json) {
        say(&format!("pathflow: {error}\n"));
        return Ok(ExitCode::FAILURE);
    }
    let text = if json { serde_json::to_string(&response)? + "\n" } else { response.text() };
    // If nobody reads it, the exit status still says so.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(if response.is_answer() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks the running daemon for rows; the exit status is 1 if it has no answer.
fn rows(flags: Rows) -> anyhow::Result<ExitCode> {
    let Rows { aggregate, top, by, conditions, sum, reset, csv, control: Control { config, json } } = flags;
    let format = if json { Format::Json } else { Format::Csv };
    let separator = if csv || json { ",".to_owned() } else { CELL_SEPARATOR.to_string() };
    let request = RowsRequest { aggregate, conditions, top, by, format, separator, reset };
    let (response, rows) = ask_daemon(&Request::Rows(request), config.as_deref())?;
    let mut stdout = io::stdout().lock();
    // If nobody reads it, the exit status still says so.
    let _ = match &response {
        Response::Rows(answer) if sum && json => writeln!(stdout, "{}", serde_json::to_string(answer)?),
        Response::Rows(_) if sum => stdout.write_all(response.text().as_bytes()),
        Response::Rows(_) if csv || json => stdout.write_all(&rows),
        Response::Rows(_) => stdout
            .write_all(&control::aligned(&rows))
            .and_then(|()| stdout.write_all(response.text().as_bytes())),
        _ => {
            say(&format!("pathflow: {}", response.text()));
            return Ok(ExitCode::FAILURE);
        }
    };
    Ok(ExitCode::SUCCESS)
}

/// Asks the daemon whose configuration file this is.
fn ask_daemon(request: &Request, config: Option<&Path>) -> anyhow::Result<(Response, Vec<u8>)> {
    let raw = config.map_or_else(|| Ok(Raw::default()), config::read)?;
    let raw = Environment::of_process().over(raw)?;
    let socket = Path::new(&raw.control.socket);
    let nobody = || {
        let what = match request {
            Request::Rows(_) => "rows in memory",
            Request::Peers | Request::Route { .. } => "BGP peers",
        };
        format!("{}: no answer of a daemon with {what}", socket.display())
    };
    control::ask(socket, request).with_context(nobody)
}

/// Ends what goes on in the kernel, and says what it was.
fn detach(names: &[String]) -> anyhow::Result<ExitCode> {
    let interfaces = interfaces().context("the interfaces cannot be listed")?;
    let mut only = Vec::new();
    for name in names {
        let found = interfaces.iter().find(|interface| interface.name == *name);
        only.push(found.with_context(|| format!("interface {name}: no such interface"))?.clone());
    }
    let detached = pin::detach(&interfaces, (!names.is_empty()).then_some(only.as_slice()))?;
    // If nobody reads it, the exit status still says so.
    let _ = io::stdout().write_all(detached.text(&interfaces).as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn run(source: Source, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let config = configure(&source, overrides.clone())?;
    let (stop, stopped) = Stop::new();
    let (reload, reloaded) = bounded(1);
    let unread = reloaded.clone();
    let mut in_use: Vec<SocketAddr> = config.collectors().collect();
    let mut reread =
        move || match resolve(&source, Overrides { in_use: in_use.clone(), ..overrides.clone() }, |_| ()) {
            Ok(config) => {
                in_use = config.collectors().collect();
                // Those that nobody has looked at yet are outdated.
                drop(unread.try_recv());
                drop(reload.try_send(config));
            }
            Err(error) => say(&format!("pathflow: {}; the settings stay as they are\n", one_line(&error))),
        };
    let (wish, wishes) = bounded(1);
    // Names of hosts and files may take their time, or never come.
    thread::Builder::new()
        .name("settings".to_owned())
        .spawn(move || wishes.iter().for_each(|()| reread()))
        .context("settings")?;
    // One that waits already is as good as two.
    let note = move || {
        let _ = wish.try_send(());
    };
    listen_for_signals(stop.clone(), note).context("signals")?;
    let ended = supervisor::run(&config, &stop, &Events { stopped, reloaded })?;
    say(&report::report(&ended));
    Ok(if ended.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn replay(capture: &Path, source: &Source, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let config = configure(source, overrides)?;
    let (stop, _) = Stop::new();
    listen_for_signals(stop.clone(), || {}).context("signals")?;
    let Replayed { ended, fault } = pathflow::replay::run(&config, capture, &stop)?;
    say(&report::report(&ended));
    if let Some(fault) = &fault {
        say(&format!("pathflow: {fault}\n"));
    }
    Ok(if ended.failed || fault.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Reads the configuration and starts logging.
fn configure(source: &Source, overrides: Overrides) -> anyhow::Result<Config> {
    let config = resolve(source, overrides, remark)?;
    logging::start(&config.log)
        .map_err(|error| anyhow::anyhow!("log.level: {:?} cannot be used: {error}", config.log))?;
    Ok(config)
}

fn resolve(source: &Source, overrides: Overrides, remark: impl Fn(&Imported)) -> anyhow::Result<Config> {
    let raw = match source {
        Source::Default => Raw::default(),
        Source::Toml(file) => config::read(file)?,
        Source::Pmacct(file) => {
            let imported = pmacct::import(file)?;
            remark(&imported);
            imported.raw
        }
    };
    Ok(Config::resolve(raw, overrides)?)
}

/// The first SIGINT or SIGTERM ends the work in order, the second one at once; SIGHUP calls `reload`, and so does SIGUSR2,
/// by which pmacct reads its maps again. `reload` must not wait for anything.
fn listen_for_signals(stop: Stop, reload: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut ends = 0;
        for signal in signals.forever() {
            if matches!(signal, SIGHUP | SIGUSR2) {
                reload();
                continue;
            }
            stop.pull();
            ends += 1;
            if ends > 1 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_each_of_its_causes_once() {
        let file = Path::new("/nowhere/networks");
        let error = pathflow::enrich::Networks::read(file).unwrap_err();
        let said = error.to_string();
        let whole = anyhow::Error::from(config::ConfigError::from(error));
        assert_eq!(one_line(&whole), format!("enrich.networks_file: {said}"));
        let untold = anyhow::Error::from(io::Error::other("no such thing")).context("signals");
        assert_eq!(one_line(&untold), "signals: no such thing");
    }
}
