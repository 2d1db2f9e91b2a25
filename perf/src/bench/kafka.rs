//! `kafka`: how many messages a second one producer puts into a broker, and how many the spool takes; then the same
//! traffic through pathflow and through pmacctd.

mod beside;

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use pathflow_exporter::{
    Tally,
    kafka::{Durability, Kafka, KafkaAccount, KafkaSettings, Message, SpoolSettings},
};
use serde::Serialize;

use crate::Common;
use crate::report::{Report, Spread, met};
use crate::scratch::Scratch;

/// Wanted of one producer, messages a second.
const TARGET: f64 = 500_000.0;

/// Octets of a message.
const SIZE: usize = 300;

const TALLY: Tally = Tally { records: 1, packets: 10, octets: 6000 };

/// Options of `pathflow-bench kafka`.
#[derive(Args)]
pub(crate) struct Options {
    /// Archives of Apache Kafka, as `cargo xtask kafka` prints them: a broker is started from them
    #[arg(long)]
    libraries: PathBuf,
    /// Messages of each run; none: not measured
    #[arg(long, default_value_t = 2_000_000)]
    messages: u64,
    /// Flows of the capture for pathflow and pmacctd; none: not measured
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(..=600_000))]
    flows: u32,
    /// Runs of pathflow and pmacctd
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The program to measure beside pmacctd; without it, `pathflow` beside this program
    #[arg(long)]
    pathflow: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    path: &'static str,
    /// Messages a second, by the clock: until the broker, or the spool, has the last one.
    messages_per_second: Spread,
    /// Of all threads of the process, sender and client library together, without the broker.
    cpu_microseconds_per_message: Spread,
    target_met: Option<bool>,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
enum Subject {
    Memory,
    Always,
    SpoolAlone,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Memory, Self::Always, Self::SpoolAlone];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "to the broker",
            Self::Always => "by the spool to the broker",
            Self::SpoolAlone => "to the spool alone",
        }
    }

    fn is_done(self, account: &KafkaAccount, count: u64) -> bool {
        match self {
            Self::Memory | Self::Always => account.delivered.records == count,
            Self::SpoolAlone => account.queued.records == 0 && account.accepted.records == count,
        }
    }
}

pub(crate) fn run(options: &Options, common: &Common, report: &mut Report) -> Result<()> {
    if options.messages > 0 {
        producer(options, common, report)?;
    }
    if options.flows > 0 {
        beside::run(options, report)?;
    }
    Ok(())
}

fn producer(options: &Options, common: &Common, report: &mut Report) -> Result<()> {
    report.heading(
        "kafka",
        &format!(
            "{} runs of each, in turn; {} messages of {SIZE} octets with key and stamp, LZ4, idempotent, acks=all, to \
             two partitions of one broker (Apache Kafka) on the same machine, which has had as many before; target {TARGET}/s\n\n\
             {:<28} {:>34} {:>24} {:>7}",
            common.runs, options.messages, "path", "messages/s min/med/max", "CPU us each", "target"
        ),
    );
    let scratch = Scratch::new()?;
    let folder = scratch.file("kafka");
    fs::create_dir(&folder)?;
    let broker = Broker::start(&options.libraries, &folder, "")?;
    // Not counted: the broker compiles itself meanwhile.
    measure(Subject::Memory, &broker, &folder.join("warm-up"), options.messages)?;
    let mut results = Subject::ALL.map(|subject| (subject, Vec::new(), Vec::new()));
    for run in 0..common.runs {
        for (subject, rates, costs) in &mut results {
            let spool = folder.join(format!("spool-{run}-{}", *subject as u8));
            let (rate, cost) = measure(*subject, &broker, &spool, options.messages)?;
            rates.push(rate);
            costs.push(cost);
        }
    }
    for (subject, rates, costs) in results {
        let rates = Spread::of(rates);
        let costs = Spread::of(costs);
        let target_met = (subject == Subject::Memory).then_some(rates.median >= TARGET);
        let line = format!(
            "{:<28} {:>34} {:>24} {:>7}",
            subject.name(),
            rates.text(0),
            costs.text(2),
            target_met.map_or("", met)
        );
        let row = Row {
            path: subject.name(),
            messages_per_second: rates,
            cpu_microseconds_per_message: costs,
            target_met,
        };
        report.row(&line, row)?;
    }
    Ok(())
}

/// Messages a second, and microseconds of CPU time of each.
fn measure(subject: Subject, broker: &Broker, spool: &Path, count: u64) -> Result<(f64, f64)> {
    let brokers = if subject == Subject::SpoolAlone { "127.0.0.1:1".to_owned() } else { broker.address() };
    let mut settings = KafkaSettings::new(brokers);
    if subject != Subject::Memory {
        settings.durability = Durability::Always;
        settings.spool = Some(SpoolSettings { max_octets: 4 << 30, ..SpoolSettings::new(spool.to_owned()) });
    }
    let mut kafka = Kafka::start(settings)?;
    let payloads: Vec<Vec<u8>> = (0..4096).map(payload).collect();
    let cpu = cpu_seconds();
    let start = Instant::now();
    let end = start + Duration::from_mins(5);
    for (number, payload) in (0..count).zip(payloads.iter().cycle()) {
        let key = number.to_le_bytes();
        let message = Message { topic: "bench", partition: None, key: Some(&key), payload, tally: TALLY };
        kafka.send_before(&message, end)?;
    }
    while !subject.is_done(&kafka.account(), count) {
        ensure!(Instant::now() < end, "not done: {:?} {:?}", kafka.account(), kafka.counts());
        thread::sleep(Duration::from_millis(2));
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    drop(kafka);
    // The next run wants the room.
    if spool.exists() {
        fs::remove_dir_all(spool).context("the spool of the run")?;
    }
    Ok((count as f64 / seconds, cpu * 1e6 / count as f64))
}

/// A record as pmacct's JSON has it, with numbers that differ.
fn payload(number: u64) -> Vec<u8> {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut payload = format!(
        "{{\"event_type\": \"purge\", \"as_src\": {}, \"as_dst\": {}, \"peer_ip_src\": \"192.0.2.{}\", \
         \"ip_src\": \"198.51.{}.{}\", \"ip_dst\": \"203.0.{}.{}\", \"port_src\": {}, \"port_dst\": {}, \
         \"ip_proto\": \"tcp\", \"packets\": {}, \"bytes\": {}",
        mix % 65_000,
        (mix >> 16) % 65_000,
        mix % 256,
        (mix >> 8) % 256,
        (mix >> 24) % 256,
        (mix >> 32) % 256,
        (mix >> 40) % 256,
        (mix >> 20) % 65_536,
        (mix >> 36) % 65_536,
        (mix >> 48) % 10_000,
        (mix >> 30) % 10_000_000
    )
    .into_bytes();
    payload.resize(SIZE - 1, b' ');
    payload.push(b'}');
    payload
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// One node, for the time of the measurement.
struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    fn start(libraries: &Path, folder: &Path, properties: &str) -> Result<Self> {
        let ports =
            [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()));
        let [port, controller] = ports;
        let (port, controller) = (port?.port(), controller?.port());
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nnum.partitions=2\nlog.retention.bytes=500000000\n{properties}",
            folder.join("data").display()
        );
        fs::write(folder.join("server.properties"), settings)?;
        // It runs in another folder.
        let libraries = fs::canonicalize(libraries)?;
        let java = || {
            let mut command = Command::new("java");
            command.args(["-Xmx1g", "-cp"]).arg(libraries.join("*")).current_dir(folder).stdin(Stdio::null());
            command
        };
        let mut format = java();
        format.args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg"]);
        let formatted = format.args(["-c", "server.properties"]).output().context("java does not start")?;
        ensure!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let log = File::create(folder.join("log"))?;
        let mut command = java();
        command.args(["kafka.Kafka", "server.properties"]).stdout(log.try_clone()?).stderr(log);
        let broker = Self { process: command.spawn()?, port };
        let end = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < end, "the broker does not start");
            thread::sleep(Duration::from_millis(200));
        }
        Ok(broker)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
