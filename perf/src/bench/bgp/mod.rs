//! `bgp`: a full table over TCP into the BGP speaker, and into other programs that keep one.
//!
//! Everything is in a network namespace of its own, over its loopback.

mod feed;
mod receiver;

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use pathflow_perf::full_table::{FullTable, Shape, Size};
use pathflow_perf::netns::Namespace;
use serde::Serialize;

use crate::Common;
use crate::bgp::feed::Feed;
use crate::bgp::receiver::{Program, Receiver, Routes, Usage};
use crate::report::{Report, Spread};

/// No AS path of the table has it, so nobody sees a loop.
const AS_NUMBER: u32 = 397_143;
/// Where the table comes from.
const FEEDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How often progress is looked at.
const PAUSE: Duration = Duration::from_millis(5);
/// Idle is who was on a CPU for less than this part of each pause for so long.
const IDLE_CPU: f64 = 0.0004;
const IDLE: Duration = Duration::from_millis(700);
/// Octets that a table takes at the least.
const LEAST_TABLE: f64 = 50e6;
/// How long a table may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Settings of the measurement.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// Leave BIRD and pmbgpd out
    #[arg(long)]
    no_peers: bool,
}

/// What one program took for a table.
#[derive(Serialize)]
struct Row {
    receiver: &'static str,
    from: &'static str,
    shape: &'static str,
    messages: Option<usize>,
    octets: Option<usize>,
    /// From OPEN until the last route can be used.
    seconds: Spread,
    /// Of the thread `bgp`, or of the whole other program.
    cpu_seconds: Spread,
    /// What the process grew by, megabytes (10^6).
    resident: Spread,
    /// Of BIRD, if that sends.
    sender_cpu_seconds: Option<Spread>,
}

/// What one receiver took once.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    cpu_seconds: f64,
    resident: f64,
    sender_cpu_seconds: Option<f64>,
}

/// A table as messages.
struct Stream {
    name: &'static str,
    octets: Vec<u8>,
    messages: usize,
}

pub(crate) fn run(options: &Options, common: &Common, report: &mut Report) -> Result<()> {
    let table = FullTable::generate(Size::FULL);
    report.heading(
        "bgp",
        &format!(
            "{} runs in turn; {} prefixes, {} attribute sets, over TCP on the loopback of a namespace; seconds from OPEN \
             until the last route is usable; CPU of the thread bgp or the whole other program until it is idle; resident: \
             growth of the process\n\n{:>10} {:>7} {:>11} {:>9} {:>7} {:>22} {:>22} {:>24} {:>22}",
            common.runs,
            table.routes.len(),
            table.attribute_sets.len(),
            "receiver",
            "from",
            "shape",
            "UPDATEs",
            "MB",
            "seconds min/med/max",
            "CPU s min/med/max",
            "resident MB min/med/max",
            "sender's CPU s"
        ),
    );
    let namespace = Namespace::new("pathflow-bgp")?;
    namespace.set_up("lo")?;
    let programs = programs(options, report);
    let streams = [("packed", Shape::Packed), ("one prefix", Shape::OnePrefix)].map(|(name, shape)| {
        let (mut octets, starts) = table.updates(shape);
        feed::end_of_rib(&mut octets);
        Stream { name, octets, messages: starts.len() - 1 }
    });
    from_feeder(&namespace, &streams, &programs, table.routes.len(), common, report)?;
    if programs.contains(&Program::Bird) {
        from_bird(&namespace, &streams[0], &programs, table.routes.len(), common, report)?;
    }
    Ok(())
}

/// Those that are there.
fn programs(options: &Options, report: &Report) -> Vec<Program> {
    let mut programs = vec![Program::Pathflow];
    for program in [Program::Bird, Program::Pmbgpd] {
        match program.is_installed() {
            Ok(()) if !options.no_peers => programs.push(program),
            Ok(()) => {}
            Err(text) => report.text(&format!("left out: {text}")),
        }
    }
    programs
}

/// The table from a speaker that does nothing but write it.
fn from_feeder(
    namespace: &Namespace,
    streams: &[Stream],
    programs: &[Program],
    routes: usize,
    common: &Common,
    report: &mut Report,
) -> Result<()> {
    for stream in streams {
        let mut samples = vec![Vec::new(); programs.len()];
        for _ in 0..common.runs {
            for (program, samples) in programs.iter().zip(&mut samples) {
                let mut receiver = Receiver::start(*program, namespace)?;
                let before = receiver.usage()?;
                let feed = namespace.run(|| Feed::open(FEEDER, program.address()))?;
                let feed = feed.with_context(|| format!("session with {}", program.name()))?;
                let sample = thread::scope(|scope| {
                    let writer = scope.spawn(|| feed.send(&stream.octets));
                    let sample =
                        follow(&mut receiver, feed.start, before, routes, |_| Ok(writer.is_finished()));
                    // The writer may still wait for a receiver that reads no more.
                    feed.close();
                    let written = writer.join().map_err(|_| anyhow::anyhow!("the feeder failed"))?;
                    let sample = sample?;
                    written.with_context(|| format!("{} does not read", program.name()))?;
                    anyhow::Ok(sample)
                })?;
                samples.push(sample);
            }
        }
        for (program, samples) in programs.iter().zip(samples) {
            let size = Some((stream.messages, stream.octets.len()));
            tell(*program, ("feeder", stream.name), size, &samples, report)?;
        }
    }
    Ok(())
}

/// The table from BIRD, which has it all and waits for nobody.
fn from_bird(
    namespace: &Namespace,
    stream: &Stream,
    programs: &[Program],
    routes: usize,
    common: &Common,
    report: &mut Report,
) -> Result<()> {
    let receivers: Vec<Program> =
        programs.iter().copied().filter(|program| *program != Program::Bird).collect();
    let mut bird = Receiver::start(Program::Bird, namespace)?;
    let before = bird.usage()?;
    let feed = namespace.run(|| Feed::open(FEEDER, Program::Bird.address()))??;
    feed.send(&stream.octets)?;
    follow(&mut bird, feed.start, before, routes, |_| Ok(true))?;
    let mut samples = vec![Vec::new(); receivers.len()];
    for _ in 0..common.runs {
        for (program, samples) in receivers.iter().zip(&mut samples) {
            let mut receiver = Receiver::start(*program, namespace)?;
            let before = receiver.usage()?;
            let sender_before = bird.usage()?.cpu_seconds;
            bird.command(&format!("enable to_{}", program.name()))?;
            let waiting = Instant::now();
            while !receiver.is_connected() {
                ensure!(waiting.elapsed() < PATIENCE, "BIRD does not connect to {}", program.name());
                thread::sleep(Duration::from_millis(1));
            }
            let start = Instant::now();
            // How much BIRD has sent, only it knows: idle after growth has to do.
            let is_sent =
                |receiver: &Receiver| Ok(receiver.usage()?.resident - before.resident > LEAST_TABLE);
            let mut sample = follow(&mut receiver, start, before, routes, is_sent)?;
            sample.sender_cpu_seconds = Some(bird.usage()?.cpu_seconds - sender_before);
            bird.command(&format!("disable to_{}", program.name()))?;
            samples.push(sample);
        }
    }
    for (program, samples) in receivers.iter().zip(samples) {
        tell(*program, ("BIRD", "its own"), None, &samples, report)?;
    }
    Ok(())
}

/// Watches a receiver until it has the table and is idle.
fn follow(
    receiver: &mut Receiver,
    start: Instant,
    before: Usage,
    routes: usize,
    is_sent: impl Fn(&Receiver) -> Result<bool>,
) -> Result<Sample> {
    let (mut usage, mut busy, mut complete) = (before, start, None);
    loop {
        thread::sleep(PAUSE);
        let now = Instant::now();
        let next = receiver.usage()?;
        if next.cpu_seconds - usage.cpu_seconds > IDLE_CPU {
            busy = now;
        }
        usage = next;
        let is_idle = now - busy > IDLE;
        match receiver.routes()? {
            Routes::Known(known) if known == routes => {
                complete.get_or_insert(now);
            }
            // Whoever does not tell is done with the last thing it did.
            Routes::Untold if is_idle && is_sent(receiver)? && !receiver.has_unread() => {
                complete = Some(busy);
            }
            _ => {}
        }
        if let (true, Some(complete)) = (is_idle, complete) {
            return Ok(Sample {
                seconds: (complete - start).as_secs_f64(),
                cpu_seconds: usage.cpu_seconds - before.cpu_seconds,
                resident: (usage.resident - before.resident) / 1e6,
                sender_cpu_seconds: None,
            });
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{} has {:?} of {routes} routes, and written: {}",
            receiver.name(),
            receiver.routes()?,
            receiver.log()
        );
    }
}

fn tell(
    program: Program,
    (from, shape): (&'static str, &'static str),
    size: Option<(usize, usize)>,
    samples: &[Sample],
    report: &mut Report,
) -> Result<()> {
    let spread = |value: fn(&Sample) -> f64| Spread::of(samples.iter().map(value));
    let row = Row {
        receiver: program.name(),
        from,
        shape,
        messages: size.map(|(messages, _)| messages),
        octets: size.map(|(_, octets)| octets),
        seconds: spread(|sample| sample.seconds),
        cpu_seconds: spread(|sample| sample.cpu_seconds),
        resident: spread(|sample| sample.resident),
        sender_cpu_seconds: size.is_none().then(|| spread(|sample| sample.sender_cpu_seconds.unwrap_or(0.0))),
    };
    let line = format!(
        "{:>10} {from:>7} {shape:>11} {:>9} {:>7} {:>22} {:>22} {:>24} {:>22}",
        row.receiver,
        row.messages.map_or(String::new(), |messages| messages.to_string()),
        row.octets.map_or(String::new(), |octets| format!("{:.1}", octets as f64 / 1e6)),
        row.seconds.text(2),
        row.cpu_seconds.text(2),
        row.resident.text(1),
        row.sender_cpu_seconds.map_or(String::new(), |seconds| seconds.text(2)),
    );
    report.row(&line, &row)
}
