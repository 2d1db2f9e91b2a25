//! The daemon under test.

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use rustix::process::Signal;

use super::metrics::Metrics;
use super::namespace::Namespace;
use super::network::CAPTURED;
use super::process::Process;
use super::report::Report;
use super::temp_dir::TempDir;
use super::wait_for;

/// The daemon: what cargo has just built.
pub(crate) fn daemon() -> PathBuf {
    env::var_os("PATHFLOW_BIN").map_or_else(|| env!("CARGO_BIN_EXE_pathflow").into(), PathBuf::from)
}

/// The configuration file.
const CONFIGURATION: &str = "pathflow.toml";
/// The same, of pmacct.
const PMACCT_CONFIGURATION: &str = "pmacctd.conf";

/// Where the daemon is asked, unless the file says it.
const SOCKET: &str = "PATHFLOW_CONTROL__SOCKET";

/// How to start the daemon.
#[derive(Debug)]
pub(crate) struct ProbeBuilder<'a> {
    namespace: &'a Namespace,
    arguments: Vec<String>,
    configuration: String,
    pmacct_configuration: Option<String>,
    is_output_piped: bool,
}

impl<'a> ProbeBuilder<'a> {
    /// On [`CAPTURED`], with a short drain interval, so that the tests are quick.
    pub(crate) fn new(namespace: &'a Namespace) -> Self {
        let arguments = ["--interface", CAPTURED, "--drain-interval", "200ms"].map(str::to_owned);
        Self {
            namespace,
            arguments: arguments.to_vec(),
            configuration: String::new(),
            pmacct_configuration: None,
            is_output_piped: false,
        }
    }

    /// On no interface but those that the configuration names.
    pub(crate) fn configured(namespace: &'a Namespace) -> Self {
        let arguments = ["--drain-interval", "200ms"].map(str::to_owned).to_vec();
        Self {
            namespace,
            arguments,
            configuration: String::new(),
            pmacct_configuration: None,
            is_output_piped: false,
        }
    }

    pub(crate) fn argument(mut self, flag: &str, value: &str) -> Self {
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    /// Another drain interval than the short one.
    pub(crate) fn drain_interval(mut self, interval: &str) -> Self {
        interval.clone_into(&mut self.arguments[3]);
        self
    }

    pub(crate) fn collector(self, collector: SocketAddr, format: &str) -> Self {
        self.argument("--collector", &collector.to_string()).argument("--format", format)
    }

    /// Flows as JSON lines on standard output.
    pub(crate) fn json(mut self) -> Self {
        self.arguments.push("--json".to_owned());
        self
    }

    /// Text of the configuration file.
    pub(crate) fn configuration(mut self, text: &str) -> Self {
        text.clone_into(&mut self.configuration);
        self
    }

    /// Text of a configuration file of pmacct's, which takes the place of the other one.
    pub(crate) fn pmacct_configuration(mut self, text: &str) -> Self {
        self.pmacct_configuration = Some(text.to_owned());
        self
    }

    /// Standard output is a pipe that the test reads, instead of a file.
    pub(crate) fn piped(mut self) -> Self {
        self.is_output_piped = true;
        self
    }

    /// Starts the daemon and waits until it captures.
    pub(crate) fn start(self) -> Probe<'a> {
        let directory = TempDir::new();
        let (flag, name, text) = match &self.pmacct_configuration {
            None => ("--config", CONFIGURATION, &self.configuration),
            Some(text) => ("--pmacct-config", PMACCT_CONFIGURATION, text),
        };
        let (configuration, output) = (directory.file(name), directory.file("stdout"));
        fs::write(&configuration, text).unwrap();
        let mut command = self.namespace.enter(daemon().to_str().unwrap());
        // Other tests have daemons of their own.
        if !text.contains("[control]") {
            command.env(SOCKET, directory.file("control.sock"));
        }
        command.arg("run").arg(flag).arg(&configuration).args(&self.arguments);
        if self.is_output_piped {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(File::create(&output).unwrap());
        }
        let mut process = Process::start(&mut command);
        // Written when everything is attached and ready.
        process.wait_for_message("metrics on http://");
        let errors = process.errors();
        assert!(errors.contains("capturing on "), "{errors}");
        let (_, page) = errors.split_once("metrics on http://").unwrap();
        let listen = page.split('/').next().unwrap().parse().unwrap();
        Probe { namespace: self.namespace, process, listen, output, directory }
    }
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Probe<'a> {
    namespace: &'a Namespace,
    process: Process,
    /// Address of the metrics page; every namespace has a loopback of its own.
    listen: SocketAddr,
    output: PathBuf,
    directory: TempDir,
}

/// How the daemon ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) report: Report,
    /// Standard output, unless it was piped.
    pub(crate) output: String,
}

impl Probe<'_> {
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Scrapes the metrics page.
    pub(crate) fn metrics(&self) -> Metrics {
        self.namespace.run(|| Metrics::scrape(self.listen))
    }

    /// Waits until a scrape shows what `condition` wants.
    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
        wait_for(
            what,
            || format!("{:#?}", self.metrics()),
            || Some(self.metrics()).filter(|metrics| condition(metrics)),
        )
    }

    /// Writes another configuration file, and has it read.
    pub(crate) fn reload(&self, configuration: &str) {
        fs::write(self.directory.file(CONFIGURATION), configuration).unwrap();
        self.process.signal(Signal::HUP);
    }

    /// A command such as `pathflow peers` that asks this daemon.
    pub(crate) fn ask(&self, words: &[&str]) -> Command {
        let mut command = Command::new(daemon());
        command.args(words).env(SOCKET, self.directory.file("control.sock"));
        command
    }

    /// Standard output so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.process.errors()
    }

    /// Asks it to end, which it must do without an error.
    pub(crate) fn terminate(mut self) -> Ended {
        self.process.signal(Signal::TERM);
        let ended = self.ended();
        assert!(ended.status.success(), "{}: {}", ended.status, ended.report.text());
        ended
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> Ended {
        let status = self.process.wait();
        let errors = self.process.errors();
        assert!(!errors.contains("panicked"), "{errors}");
        Ended { status, report: Report::parse(&errors), output: self.output() }
    }
}

/// Runs the daemon with arguments that it has to refuse: status 2 and one line, which is returned. Before it
/// may be told how far it came.
pub(crate) fn refusal(command: &mut Command) -> String {
    let directory = TempDir::new();
    let output = directory.file("stdout");
    let mut process = Process::start(command.stdin(Stdio::null()).stdout(File::create(&output).unwrap()));
    let status = process.wait();
    let errors = process.errors();
    assert_eq!(status.code(), Some(2), "{command:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let mut lines = errors.lines().filter(|line| !line.contains(" INFO "));
    let message = lines.next().unwrap_or_default().to_owned();
    assert!(message.starts_with("pathflow: ") && lines.next().is_none(), "{errors}");
    assert_eq!(fs::read(&output).unwrap(), b"");
    message
}
