//! A program of the operator's that is run when a purge has been written.
//!
//! It is run without a shell, as the user that pathflow runs as, in a process group of its own. The names of the files are
//! on its standard input, a line each; what it writes to standard output is thrown away. Few run at once, and none
//! outlives pathflow: what is left at the end is killed.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tracing::warn;

use crate::ledger::ProgramCounts;

/// Programs of one output that run at once at most.
const MOST: usize = 4;
/// Names that wait for one of them to end at most.
const NAMES: usize = 10_000;
/// How often it is looked at the end whether they have ended.
const LOOK: Duration = Duration::from_millis(10);
/// Says to the program whose files they are.
const NAME_VARIABLE: &str = "PATHFLOW_AGGREGATE";

/// Runs the program.
#[derive(Debug)]
pub(super) struct Program {
    /// The output, for people.
    name: String,
    aggregate: String,
    /// The program and its arguments.
    command: Vec<String>,
    running: Vec<Child>,
    /// Files for the next one.
    waiting: Vec<PathBuf>,
    counts: ProgramCounts,
    is_behind: bool,
}

impl Program {
    /// `command` is the program with its arguments; `None` if it is empty.
    pub(super) fn new(aggregate: &str, command: &[String]) -> Option<Self> {
        (!command.is_empty()).then(|| Self {
            name: format!("aggregate {aggregate}"),
            aggregate: aggregate.to_owned(),
            command: command.to_vec(),
            running: Vec::new(),
            waiting: Vec::new(),
            counts: ProgramCounts::default(),
            is_behind: false,
        })
    }

    /// Starts it for these files, or when another one has ended if as many as may run do so.
    pub(super) fn run(&mut self, files: Vec<PathBuf>) {
        self.waiting.extend(files);
        self.reap();
        if self.waiting.is_empty() {
            self.is_behind = false;
            return;
        }
        self.counts.postponed += 1;
        if !std::mem::replace(&mut self.is_behind, true) {
            let path = self.path();
            warn!("{}: exec: {MOST} of {path} still run: the next one has to wait", self.name);
        }
        if self.waiting.len() > NAMES {
            let lost = self.waiting.len() - NAMES;
            warn!("{}: exec: too many files wait for {}: {lost} are left out", self.name, self.path());
            self.waiting.drain(..lost);
        }
    }

    fn run_waiting(&mut self) {
        if self.waiting.is_empty() || self.running.len() >= MOST {
            return;
        }
        let files = std::mem::take(&mut self.waiting);
        match self.start(&files) {
            Ok(child) => self.running.push(child),
            Err(error) => {
                self.counts.failed += 1;
                warn!("{}: exec: {} cannot be run: {error}", self.name, self.path());
            }
        }
    }

    fn start(&self, files: &[PathBuf]) -> io::Result<Child> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        Command::new(program)
            .args(arguments)
            .env(NAME_VARIABLE, &self.aggregate)
            .stdin(listed(files)?)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
    }

    /// Looks which ones have ended, and starts the one that waits.
    pub(super) fn reap(&mut self) {
        let mut running = std::mem::take(&mut self.running);
        running.retain_mut(|child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                self.ended(status);
                false
            }
            Err(error) => {
                self.counts.failed += 1;
                warn!("{}: exec: {}: {error}", self.name, self.path());
                false
            }
        });
        self.running = running;
        self.run_waiting();
    }

    fn ended(&mut self, status: ExitStatus) {
        if status.success() {
            self.counts.succeeded += 1;
        } else {
            self.counts.failed += 1;
            warn!("{}: exec: {}: {status}", self.name, self.path());
        }
    }

    /// Waits until all have ended; those that have not by then are killed.
    pub(super) fn close(&mut self, deadline: Instant) {
        self.reap();
        while !(self.running.is_empty() && self.waiting.is_empty()) && Instant::now() < deadline {
            thread::sleep(LOOK);
            self.reap();
        }
        for mut child in std::mem::take(&mut self.running) {
            warn!("{}: exec: {} is killed, as pathflow ends", self.name, self.path());
            // What it has started itself is in its group. It has not been waited for, so the number is still its own.
            if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            self.counts.failed += 1;
        }
        let files = std::mem::take(&mut self.waiting).len();
        if files > 0 {
            warn!("{}: exec: {} is not run for {files} files, as pathflow ends", self.name, self.path());
            self.counts.failed += 1;
        }
    }

    pub(super) const fn counts(&self) -> ProgramCounts {
        self.counts
    }

    fn path(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// The names of files as a file in memory, which nobody has to write while it is read.
fn listed(files: &[PathBuf]) -> io::Result<File> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut list = File::from(memfd_create("files", MemfdFlags::CLOEXEC)?);
    let mut names = Vec::new();
    for file in files {
        names.extend_from_slice(file.as_os_str().as_bytes());
        names.push(b'\n');
    }
    list.write_all(&names)?;
    list.rewind()?;
    Ok(list)
}
