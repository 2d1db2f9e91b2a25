//! `test`: every check and test in one command, each step named and timed, a summary as the last line.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Write},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    avro, clickhouse, ebpf, goflow2, kafka, process,
    setup::{self, Purpose},
    tidy,
};

/// Members tested on the host. The kernel program compiles for BPF alone; `probe-user/tests/netns` runs it.
///
/// Every step names them all, and picks by target what it is for: with one package alone, the crates that they share
/// would have fewer features, and be compiled once more.
const HOST_MEMBERS: [&str; 3] = ["--workspace", "--exclude", "pathflow-ebpf"];

/// The test target that makes network namespaces: it needs root, and each test loads programs and sends traffic.
const NETNS: &str = "netns";

/// The test target that needs a collector in Go.
const GOFLOW2: &str = "goflow2";

/// The test target that needs a broker.
const KAFKA: &str = "kafka";

/// Tests at a time: most of what they do is to wait, for daemons and for times.
const THREADS: &str = "--test-threads=4";

/// How many tests ended how.
#[derive(Default, Debug, PartialEq, Eq, Clone, Copy)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// The steps run so far.
#[derive(Default)]
struct Report {
    tally: Tally,
    failed_steps: Vec<&'static str>,
}

/// Runs everything, or only the tests whose name contains `filter`.
pub(crate) fn run(filter: Option<&str>) -> Result<ExitCode> {
    if !process::is_root() {
        bail!("the tests load kernel programs and make network namespaces: run `cargo xtask test` as root");
    }
    let mut report = Report::default();
    if !report.step("set-up", |_| setup::run(Purpose::Test)) {
        return Ok(report.finish());
    }
    if filter.is_none() {
        report.step("format", |_| process::run(&mut process::cargo(["fmt", "--all", "--check"])));
        report.step("tidy", |_| tidy::run());
        report.step("clippy", |_| clippy());
        report.step("clippy for eBPF", |_| ebpf::lint());
    }
    let built = report.step("build", |_| build());
    if built {
        report.step("tests", |tally| {
            let mut command = process::cargo(["test", "--no-fail-fast"]);
            command.args(HOST_MEMBERS).args(filter).args(["--", THREADS]).stdin(Stdio::null());
            run_counted(&mut command, &mut io::stdout(), tally)
        });
        report.goflow2(filter);
        report.kafka(filter);
        report.step("tests in network namespaces", |tally| {
            let mut command = target_test(NETNS, filter);
            command.env("PATHFLOW_KAFKA", kafka::libraries()?).env("PATHFLOW_CHDB", clickhouse::folder()?);
            command.env("PATHFLOW_APICURIO", avro::registry()?).env("PATHFLOW_FASTAVRO", avro::reader()?);
            let (variable, options) = kafka::JAVA_OPTIONS;
            command.env(variable, options);
            run_counted(&mut command, &mut io::stdout(), tally)
        });
    }
    Ok(report.finish())
}

impl Report {
    /// Runs one step and goes on after a failure, so that one run shows everything that is wrong.
    fn step(&mut self, name: &'static str, action: impl FnOnce(&mut Tally) -> Result<()>) -> bool {
        println!("== {name}");
        let start = Instant::now();
        let result = action(&mut self.tally);
        let seconds = start.elapsed().as_secs_f64();
        match &result {
            Ok(()) => println!("== {name}: done in {seconds:.1} s"),
            Err(error) => {
                println!("== {name}: FAILED after {seconds:.1} s: {error:#}");
                self.failed_steps.push(name);
            }
        }
        result.is_ok()
    }

    /// Tests against goflow2, where it can be had; else they count as skipped.
    fn goflow2(&mut self, filter: Option<&str>) {
        match goflow2::program() {
            Ok(program) => {
                self.step("tests against goflow2", |tally| {
                    let mut command = target_test(GOFLOW2, filter);
                    command.env("PATHFLOW_GOFLOW2", &program);
                    run_counted(&mut command, &mut io::stdout(), tally)
                });
            }
            Err(error) => {
                println!("== tests against goflow2: LEFT OUT: {error:#}");
                self.tally.skipped += 1;
            }
        }
    }

    /// Tests against Apache Kafka. Unlike Go, what they need is installed by `setup`: without it they fail.
    fn kafka(&mut self, filter: Option<&str>) {
        self.step("tests against Apache Kafka", |tally| {
            let libraries = kafka::libraries()?;
            let mut command = target_test(KAFKA, filter);
            let (variable, options) = kafka::JAVA_OPTIONS;
            command.env("PATHFLOW_KAFKA", &libraries).env(variable, options);
            run_counted(&mut command, &mut io::stdout(), tally)
        });
    }

    /// The summary is the last line, whatever happened.
    fn finish(self) -> ExitCode {
        if !self.failed_steps.is_empty() {
            println!("Failed: {}.", self.failed_steps.join(", "));
        }
        println!("{}", self.tally);
        ExitCode::from(u8::from(!self.failed_steps.is_empty()))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let numbers = result.split_once(". ").map_or("", |(_, numbers)| numbers);
        for part in numbers.split("; ") {
            match part.split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                Some((count, "ignored")) => self.skipped += count.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

fn clippy() -> Result<()> {
    let lint = |options: &[&str]| {
        let mut command = process::cargo(["clippy"]);
        process::run(command.args(HOST_MEMBERS).args(options).args(["--", "--deny", "warnings"]))
    };
    lint(&["--all-targets"])?;
    // `--all-targets` leaves out what `cargo test` would not run by itself.
    lint(&["--test", GOFLOW2, "--test", KAFKA, "--test", NETNS])?;
    // With a test, so that the crates that tests share with programs have the features that they had above.
    lint(&["--features", "pathflow/kernel-log", "--lib", "--bins", "--test", NETNS])
}

/// The probe as it is shipped, and the optimized generator that end-to-end tests start. Benchmarks are compiled by the
/// tests: to optimize them as a whole takes as long as to optimize the probe.
fn build() -> Result<()> {
    let mut command = process::cargo(["build", "--release", "--package", "pathflow", "--package"]);
    process::run(command.args(["pathflow-perf", "--bin", "pathflow", "--bin", "pathflow-trafficgen"]))
}

/// Runs one test target.
fn target_test(target: &str, filter: Option<&str>) -> Command {
    let mut command = process::cargo(["test"]);
    command
        .args(HOST_MEMBERS)
        .args(["--test", target])
        .args(filter)
        .args(["--", THREADS])
        .stdin(Stdio::null());
    command
}

/// Runs tests, shows their output as it comes and counts their results.
fn run_counted(command: &mut Command, screen: &mut impl Write, tally: &mut Tally) -> Result<()> {
    let line = process::line(command);
    let failed_before = tally.failed;
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("`{line}` did not start"))?;
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        // Bytes, not text: a test may print anything.
        while reader.read_until(b'\n', &mut bytes)? > 0 {
            screen.write_all(&bytes)?;
            tally.add(String::from_utf8_lossy(&bytes).trim_end());
            bytes.clear();
        }
    }
    let status = child.wait()?;
    if !status.success() {
        // A test program that dies, or does not compile, reports no result of its own.
        if tally.failed == failed_before {
            tally.failed += 1;
        }
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_sums_result_lines_and_ignores_the_rest() {
        let mut tally = Tally::default();
        tally.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        tally.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.add("test frames::result: ok. 7 passed; 7 failed");
        assert_eq!(tally, Tally { passed: 4, failed: 2, skipped: 1 });
        assert_eq!(tally.to_string(), "4 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_command_that_dies_without_a_result_counts_as_a_failure() {
        let mut report = Report::default();
        assert!(!report.step("dies", |tally| run_counted(
            &mut Command::new("false"),
            &mut io::sink(),
            tally
        )));
        assert_eq!(report.tally, Tally { passed: 0, failed: 1, skipped: 0 });
        assert_eq!(report.failed_steps, ["dies"]);
    }

    #[test]
    fn results_of_a_command_are_counted() {
        let (mut report, mut screen) = (Report::default(), Vec::new());
        let mut command = Command::new("echo");
        command.arg("test result: ok. 5 passed; 0 failed; 0 ignored");
        assert!(report.step("works", |tally| run_counted(&mut command, &mut screen, tally)));
        assert_eq!(screen, b"test result: ok. 5 passed; 0 failed; 0 ignored\n");
        assert_eq!(report.tally, Tally { passed: 5, failed: 0, skipped: 0 });
        assert!(report.failed_steps.is_empty());
    }
}
