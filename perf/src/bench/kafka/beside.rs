//! The same capture into the same broker, by pathflow and by pmacctd's kafka plugin, with one configuration for both.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use pathflow_perf::frames::{Family, Frame, FrameSettings};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{Broker, Options};
use crate::exporter::{self, Exporter, descendants};
use crate::final_report::FinalReport;
use crate::report::{Report, Spread};
use crate::scratch::Scratch;

/// Packets of each flow.
const PACKETS: u32 = 2;

/// How long a run may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Serialize)]
struct Row {
    program: &'static str,
    /// Messages in the topic, of each run.
    messages: Vec<u64>,
    /// Packets that are in no message, of each run.
    lost_packets: Vec<u64>,
    octets_of_message: Spread,
    /// By the broker's clock, from the first batch that it has appended to the last.
    messages_per_second: Spread,
    /// Of all processes, the reading of the capture included.
    cpu_seconds_per_million_messages: Spread,
}

/// What a topic has.
#[derive(Clone, Copy)]
struct Found {
    messages: u64,
    octets: u64,
    packets: u64,
    seconds: f64,
}

pub(super) fn run(options: &Options, report: &mut Report) -> Result<()> {
    let pathflow = exporter::pathflow(options.pathflow.as_deref())?;
    let scratch = Scratch::new()?;
    let capture = scratch.file("flows.pcap");
    write_capture(&capture, options.flows)?;
    let folder = scratch.file("kafka");
    fs::create_dir(&folder)?;
    let broker = Broker::start(&options.libraries, &folder, "log.message.timestamp.type=LogAppendTime\n")?;
    report.heading(
        "kafka, beside pmacctd",
        &format!(
            "{} runs of each, in turn; a capture of {} flows with {PACKETS} packets each, one message for each flow, to \
             two partitions of one broker (Apache Kafka) on the same machine; pmacctd has room for all flows\n\n\
             {:<10} {:>8} {:>8} {:>7} {:>30} {:>30}",
            options.rounds,
            options.flows,
            "program",
            "messages",
            "lost p.",
            "octets",
            "messages/s min/med/max",
            "CPU s/M messages"
        ),
    );
    let mut programs = vec![(Exporter::Pathflow, Vec::new())];
    match Exporter::Pmacctd.is_installed() {
        Ok(()) => programs.push((Exporter::Pmacctd, Vec::new())),
        Err(why) => report.text(&why),
    }
    for round in 0..options.rounds {
        for (program, runs) in &mut programs {
            let topic = format!("{}.{round}", program.name());
            let configuration = configuration(&capture, &broker, &topic);
            let file = scratch.file(&format!("{topic}.conf"));
            fs::write(&file, configuration)?;
            let log = scratch.file(&format!("{topic}.log"));
            let cpu = match program {
                Exporter::Pmacctd => by_pmacctd(&file, &log, options.flows)?,
                _ => by_pathflow(&pathflow, &capture, &file, &log, options.flows)?,
            };
            let found = read(&broker, &topic)?;
            ensure!(found.messages > 0, "{topic}: nothing: {}", text(&log));
            runs.push((cpu, found));
        }
    }
    for (program, runs) in programs {
        let spread =
            |value: fn(f64, Found) -> f64| Spread::of(runs.iter().map(|(cpu, found)| value(*cpu, *found)));
        let messages: Vec<u64> = runs.iter().map(|(_, found)| found.messages).collect();
        let sent = u64::from(options.flows * PACKETS);
        let lost_packets = runs.iter().map(|(_, found)| sent.saturating_sub(found.packets)).collect();
        let row = Row {
            program: program.name(),
            messages,
            lost_packets,
            octets_of_message: spread(|_, found| found.octets as f64 / found.messages as f64),
            messages_per_second: spread(|_, found| found.messages as f64 / found.seconds),
            cpu_seconds_per_million_messages: spread(|cpu, found| cpu * 1e6 / found.messages as f64),
        };
        let most = |values: &[u64]| values.iter().copied().max().unwrap_or(0);
        let line = format!(
            "{:<10} {:>8} {:>8} {:>7.0} {:>30} {:>30}",
            row.program,
            most(&row.messages),
            most(&row.lost_packets),
            row.octets_of_message.median,
            row.messages_per_second.text(0),
            row.cpu_seconds_per_million_messages.text(2)
        );
        report.row(&line, row)?;
    }
    Ok(())
}

/// One packet each microsecond; every flow once, then every flow again.
fn write_capture(path: &Path, flows: u32) -> Result<()> {
    let frame = Frame::new(&FrameSettings { family: Family::Ipv4, ..FrameSettings::default() })?;
    let mut file = BufWriter::new(File::create(path)?);
    // Microseconds, version 2.4, Ethernet.
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1] {
        file.write_all(&word.to_ne_bytes())?;
    }
    for number in 0..flows * PACKETS {
        let octets = frame.flow(number % flows);
        let (second, microsecond) = (1_700_000_000 + number / 1_000_000, number % 1_000_000);
        for word in [second, microsecond, octets.len() as u32, octets.len() as u32] {
            file.write_all(&word.to_ne_bytes())?;
        }
        file.write_all(&octets)?;
    }
    Ok(file.flush()?)
}

/// For both programs; pathflow leaves out what is about the capture.
fn configuration(capture: &Path, broker: &Broker, topic: &str) -> String {
    format!(
        "daemonize: false\npcap_savefile: {}\npcap_savefile_wait: true\nplugins: kafka[acct]\n\
         aggregate[acct]: etype, src_host, dst_host, src_port, dst_port, proto, tos, tcpflags\n\
         kafka_output[acct]: json\nkafka_broker_host[acct]: 127.0.0.1\nkafka_broker_port[acct]: {}\n\
         kafka_topic[acct]: {topic}\nkafka_refresh_time[acct]: 10\nkafka_history[acct]: 5m\n\
         kafka_history_roundoff[acct]: m\nkafka_cache_entries[acct]: 600011\nplugin_pipe_size: 268435456\n\
         plugin_buffer_size: 268435\n",
        capture.display(),
        broker.port
    )
}

/// CPU seconds of a run.
fn by_pathflow(pathflow: &Path, capture: &Path, configuration: &Path, log: &Path, flows: u32) -> Result<f64> {
    let mut command = Command::new(pathflow);
    command.arg("replay").arg(capture).arg("--pmacct-config").arg(configuration);
    let mut processes = Processes::start(command, log)?;
    processes.watch(|| false)?;
    FinalReport::parse(&text(log)).check(u64::from(flows * PACKETS))?;
    Ok(processes.seconds())
}

/// CPU seconds of a run.
fn by_pmacctd(configuration: &Path, log: &Path, flows: u32) -> Result<f64> {
    let mut command = Command::new("pmacctd");
    command.arg("-f").arg(configuration);
    let mut processes = Processes::start(command, log)?;
    // It does not end with the capture, and writes when the refresh time has come.
    processes.watch(|| {
        let log = text(log);
        let written =
            log.split("QN: ").skip(1).filter_map(|rest| rest.split('/').next()?.parse::<u64>().ok());
        written.sum::<u64>() >= u64::from(flows)
    })?;
    if let Some(id) = processes.child.id().try_into().ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(id, Signal::INT);
    }
    processes.watch(|| false)?;
    Ok(processes.seconds())
}

/// A program, and all processes that come from it, some of which outlive it.
struct Processes {
    child: Child,
    /// CPU time of each, in ticks.
    known: BTreeMap<u32, u64>,
    log: std::path::PathBuf,
}

impl Processes {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        Ok(Self { known: BTreeMap::from([(child.id(), 0)]), child, log: log.to_owned() })
    }

    /// Until all have ended, or that is so.
    fn watch(&mut self, mut is_enough: impl FnMut() -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if !self.look() || is_enough() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("it does not come to an end: {}", text(&self.log));
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether there is one left.
    fn look(&mut self) -> bool {
        let ids: Vec<u32> = self.known.keys().copied().flat_map(descendants).collect();
        let mut is_there = false;
        for id in ids {
            if let Some((is_running, ticks)) = ticks(id) {
                is_there |= is_running;
                self.known.insert(id, ticks);
            }
        }
        is_there
    }

    fn seconds(&self) -> f64 {
        self.known.values().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for id in self.known.keys().filter(|id| ticks(**id).is_some_and(|(is_running, _)| is_running)) {
            if let Some(id) = Pid::from_raw(*id as i32) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Whether a process runs, and its CPU time so far; `None` if there is none.
fn ticks(id: u32) -> Option<(bool, u64)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program may have blanks and parentheses.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some((!matches!(*fields.first()?, "Z" | "X"), number(11)? + number(12)?))
}

fn text(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// Everything in a topic.
fn read(broker: &Broker, topic: &str) -> Result<Found> {
    let mut kcat = Command::new("kcat")
        .args(["-C", "-q", "-e", "-o", "beginning", "-b", &broker.address(), "-t", topic, "-f", "%S %T %s\n"])
        .stdout(Stdio::piped())
        .spawn()
        .context("kcat is missing: `cargo xtask setup --peers` installs it")?;
    let mut found = Found { messages: 0, octets: 0, packets: 0, seconds: 0.0 };
    let (mut first, mut last) = (u64::MAX, 0);
    for line in BufReader::new(kcat.stdout.take().context("output of kcat")?).lines() {
        let line = line?;
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().context("a line of kcat");
        let (octets, at): (u64, u64) = (part()?.parse()?, part()?.parse()?);
        let packets = part()?.split_once("\"packets\": ").and_then(|(_, rest)| rest.split(',').next());
        found.messages += 1;
        found.octets += octets;
        found.packets += packets.context("a message without packets")?.parse::<u64>()?;
        (first, last) = (first.min(at), last.max(at));
    }
    ensure!(kcat.wait()?.success(), "kcat failed");
    found.seconds = last.saturating_sub(first) as f64 / 1e3;
    Ok(found)
}
