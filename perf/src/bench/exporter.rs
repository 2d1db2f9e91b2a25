//! pathflow and other exporters as processes: started in a namespace, watched, ended.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use pathflow_perf::netns::Namespace;
use rustix::process::{Pid, Signal, kill_process};

use crate::collector::COLLECTOR;
use crate::scratch::Scratch;

/// How long a program may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// Idle is who was on a CPU for less than this part of this time.
const IDLE: Duration = Duration::from_millis(1500);
const IDLE_SHARE: u32 = 50;

/// Programs that make flow records of what an interface receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exporter {
    Pathflow,
    Softflowd,
    Pmacctd,
}

impl Exporter {
    pub(crate) const PEERS: [Self; 2] = [Self::Softflowd, Self::Pmacctd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pathflow => "pathflow",
            Self::Softflowd => "softflowd",
            Self::Pmacctd => "pmacctd",
        }
    }

    /// Whether the program is installed; says what to do if it is not.
    pub(crate) fn is_installed(self) -> Result<(), String> {
        let package = match self {
            Self::Pathflow => return Ok(()),
            Self::Softflowd => "softflowd",
            Self::Pmacctd => "pmacct",
        };
        let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        if folders.iter().any(|folder| Path::new(folder).join(self.name()).is_file()) {
            return Ok(());
        }
        Err(format!(
            "{} is missing: Debian package {package}; `cargo xtask setup --peers` installs it",
            self.name()
        ))
    }
}

/// The released program to measure: as given, or the one beside this program.
pub(crate) fn pathflow(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("pathflow"),
    };
    ensure!(
        path.is_file(),
        "{}: no such file: build it by `cargo build --release -p pathflow`, or name it by --pathflow",
        path.display()
    );
    Ok(path)
}

/// The program that takes routing tables, beside this one.
pub(crate) fn routes_program() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("pathflow-routes");
    ensure!(path.is_file(), "{}: no such file: build it with all of pathflow-perf", path.display());
    Ok(path)
}

/// A running program; killed if it is dropped before its end.
pub(crate) struct Running {
    name: &'static str,
    child: Option<Child>,
    log: PathBuf,
    /// What makes it end in order, if a signal does not.
    end_command: Option<Command>,
}

impl Running {
    /// Starts `line` in `namespace`; what it prints goes to a file in `scratch`.
    pub(crate) fn start(
        namespace: &Namespace,
        name: &'static str,
        line: &[&str],
        scratch: &Scratch,
    ) -> Result<Self> {
        let (program, arguments) = line.split_first().context("no program")?;
        let log = scratch.file(&format!("{name}.log"));
        let output = File::create(&log)?;
        // nsenter becomes the program, so the process started here is the one to watch.
        let child = namespace
            .command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        Ok(Self { name, child: Some(child), log, end_command: None })
    }

    /// Starts an exporter on `interface`, tuned so that it can hold a quarter million flows, and waits until
    /// it captures.
    pub(crate) fn exporter(
        exporter: Exporter,
        namespace: &Namespace,
        interface: &str,
        pathflow: &Path,
        scratch: &Scratch,
    ) -> Result<Self> {
        match exporter {
            Exporter::Pathflow => {
                let program = pathflow.to_str().context("the path of pathflow is not UTF-8")?;
                let line = [program, "run", "--interface", interface, "--collector", COLLECTOR];
                let mut running = Self::start(namespace, exporter.name(), &line, scratch)?;
                running.wait_for("to capture", |log, _| log.contains("metrics on http://"))?;
                Ok(running)
            }
            Exporter::Softflowd => {
                let pid_file = scratch.file("softflowd.pid").display().to_string();
                let control = scratch.file("softflowd.ctl").display().to_string();
                let line = [
                    "softflowd",
                    "-d",
                    "-i",
                    interface,
                    "-n",
                    COLLECTOR,
                    "-v",
                    "10",
                    "-m",
                    "262144",
                    "-B",
                    "134217728",
                    "-p",
                    &pid_file,
                    "-c",
                    &control,
                ];
                let mut running = Self::start(namespace, exporter.name(), &line, scratch)?;
                running.wait_for("to capture", |_, id| has_packet_socket(id))?;
                // Ended by a signal it forgets its flows.
                let mut end = Command::new("softflowctl");
                end.args(["-c", &control, "shutdown"]);
                running.end_command = Some(end);
                Ok(running)
            }
            Exporter::Pmacctd => {
                let configuration = scratch.file("pmacctd.conf");
                fs::write(
                    &configuration,
                    format!(
                        "daemonize: false\npcap_interface: {interface}\nplugins: nfprobe\n\
                         aggregate: src_host, dst_host, src_port, dst_port, proto, tos\n\
                         nfprobe_receiver: {COLLECTOR}\nnfprobe_version: 10\nnfprobe_maxflows: 262144\n\
                         pmacctd_pipe_size: 134217728\nplugin_pipe_size: 268435456\n\
                         plugin_buffer_size: 268435\n"
                    ),
                )?;
                let configuration = configuration.display().to_string();
                let line = ["pmacctd", "-f", &configuration];
                let mut running = Self::start(namespace, exporter.name(), &line, scratch)?;
                running.wait_for("to capture", |_, id| has_packet_socket(id))?;
                // Its plugin is a process of its own, which starts on the side.
                thread::sleep(Duration::from_secs(1));
                Ok(running)
            }
        }
    }

    /// Waits until `is_ready` for the log and the process, which must not end before.
    pub(crate) fn wait_for(&mut self, what: &str, is_ready: impl Fn(&str, u32) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let child = self.child.as_mut().context("ended")?;
            if let Some(status) = child.try_wait()? {
                bail!("{} ended at once, {status}: {}", self.name, self.log().trim());
            }
            let id = child.id();
            if is_ready(&self.log(), id) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "waited in vain for {} {what}: {}", self.name, self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it has ended by itself, which must be without an error.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        let Some(child) = &mut self.child else { return Ok(true) };
        let Some(status) = child.try_wait()? else { return Ok(false) };
        self.child = None;
        ensure!(status.success(), "{}: {status}: {}", self.name, self.log());
        Ok(true)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Time that it and the processes it started were on a CPU, in user space and in the kernel.
    pub(crate) fn cpu_time(&self) -> Duration {
        descendants(self.id()).into_iter().map(process_time).sum()
    }

    /// Proportional share of memory of it and the processes it started, in MiB.
    pub(crate) fn memory_mebibytes(&self) -> f64 {
        let kibibytes = |id| {
            let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:").map(str::to_owned));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0)
        };
        descendants(self.id()).into_iter().map(kibibytes).sum::<f64>() / 1024.0
    }

    /// Waits until it has hardly any work for a while, and [`PATIENCE`] at most.
    pub(crate) fn wait_until_idle(&self) {
        let start = Instant::now();
        let mut before = self.cpu_time();
        while start.elapsed() < PATIENCE {
            thread::sleep(IDLE);
            let now = self.cpu_time();
            if now.saturating_sub(before) < IDLE / IDLE_SHARE {
                return;
            }
            before = now;
        }
    }

    /// Ends it in order, and returns what it has printed.
    pub(crate) fn end(mut self) -> Result<String> {
        if let Some(mut child) = self.child.take() {
            match &mut self.end_command {
                Some(command) => drop(command.output().with_context(|| format!("end of {}", self.name))?),
                // pmacctd takes no other signal for an orderly end; all take this one.
                None => kill_process(Pid::from_child(&child), Signal::INT)?,
            }
            let start = Instant::now();
            while child.try_wait()?.is_none() {
                if start.elapsed() > PATIENCE {
                    self.child = Some(child);
                    bail!("{} does not end: {}", self.name, self.log());
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let others = descendants(child.id());
            let _ = child.kill();
            let _ = child.wait();
            for id in others.into_iter().skip(1) {
                if let Some(id) = Pid::from_raw(id as i32) {
                    let _ = kill_process(id, Signal::KILL);
                }
            }
        }
    }
}

/// A process and all that come from it.
pub(crate) fn descendants(id: u32) -> Vec<u32> {
    let mut found = vec![id];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        found.extend(children.unwrap_or_default().split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        next += 1;
    }
    found
}

/// CPU time of the threads that a process has now.
pub(crate) fn process_time(id: u32) -> Duration {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return Duration::ZERO };
    let times = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// Whether a packet socket is open in the network namespace of a process.
fn has_packet_socket(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/net/packet")).is_ok_and(|table| table.lines().count() > 1)
}
