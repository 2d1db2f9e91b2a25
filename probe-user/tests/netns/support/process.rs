//! A running program that is ended by its process id, at the latest when its guard goes.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::temp_dir::TempDir;
use super::{PATIENCE, wait_for};

/// A program that runs, in a process group of its own because some make children.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    directory: TempDir,
}

/// What the program writes to standard error.
const ERRORS: &str = "stderr";

impl Process {
    /// Starts `command`. What it writes to standard error goes to a file, since a pipe that nobody reads
    /// could stop it; standard output goes where the caller has set it to.
    pub(crate) fn start(command: &mut Command) -> Self {
        let directory = TempDir::new();
        command.process_group(0).stderr(File::create(directory.file(ERRORS)).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, directory }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub(crate) fn errors(&self) -> String {
        errors(&self.directory)
    }

    /// Waits until standard error contains `text`; a panic if the program ends before.
    pub(crate) fn wait_for_message(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().unwrap();
            let errors = self.errors();
            if errors.contains(text) {
                return;
            }
            assert!(ended.is_none() && Instant::now() < deadline, "no {text:?} in {errors:?} ({ended:?})");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, which the caller has brought about.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let Self { child, directory } = self;
        wait_for("end of a program", || errors(directory), || child.try_wait().unwrap())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }
}

fn errors(directory: &TempDir) -> String {
    String::from_utf8_lossy(&fs::read(directory.file(ERRORS)).unwrap_or_default()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        // Children that it left are in its group. No process is: no reason to fail.
        _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        _ = self.child.wait();
    }
}
