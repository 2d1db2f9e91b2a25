//! Starts the sinks that the settings ask for, changes them while packets are counted, and ends them.
//!
//! A change first opens and starts whatever is new, so that what can fail fails before anything has changed. Then the queues
//! are replaced for all shards at once. A sink that is not among them any more sends what it has and ends when every shard
//! has let go of its queue; one that goes on with its collector sends nothing before that: a collector may know both by the
//! address of this host, and the templates of one are not those of the other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use pathflow_exporter::{ExportingProcess, FlowPrinter, InterfaceNames, LineStyle, Stdout};
use tracing::{info, warn};

use super::destination::transport;
use super::queue::{CurrentSinks, SinkQueue};
use super::{
    Failover, Output, Pacer, RecordSampling, RecordSelection, Share, SharedContext, Sink, SinkEnded,
    SinkParts,
};
use crate::clock::Clock;
use crate::config::raw::Distribution;
use crate::config::{ExportProcess, ExportTransport};
use crate::enrich::CurrentSettings;
use crate::error::RunError;
use crate::ledger::Ledger;
use crate::metering::shard::{Pace, RECORD_BATCH};
use crate::metrics::Latencies;
use crate::pipeline::{CLOSE_TIME, spawn};
use crate::stop::Stop;

/// How long sinks may take to count what they have not sent, when there is no time to send it.
const COUNT_TIME: Duration = Duration::from_secs(2);

/// What sinks work with, whichever they are.
#[derive(Clone, Debug)]
pub struct SinkSurroundings {
    /// Number of shards.
    pub shards: usize,
    /// Whether anybody is waited for.
    pub pace: Pace,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// How long exporting takes.
    pub latencies: Arc<Latencies>,
    /// What collectors are told.
    pub context: SharedContext,
    /// Settings of now.
    pub enrichment: CurrentSettings,
    /// Pulled when standard output is closed, if nothing else is being exported to.
    pub stop: Stop,
}

/// What a sink is made of: an Exporting Process for one collector, or for those that stand in for each other. Two that are
/// equal are the same sink.
#[derive(Clone, Debug, PartialEq)]
struct SinkSettings {
    /// With its own collectors only, and without what does not make it another one.
    process: ExportProcess,
    share: Option<Share>,
}

/// A sink at work.
#[derive(Debug)]
struct Running {
    number: usize,
    /// `None` = standard output.
    settings: Option<SinkSettings>,
    queue: Option<SinkQueue>,
    is_leaving: Arc<AtomicBool>,
    ended: Receiver<SinkEnded>,
    thread: JoinHandle<()>,
    format: &'static str,
    /// The collector, or those that stand in for each other.
    destination: String,
}

/// Sinks at work.
#[derive(Debug)]
pub struct Exports {
    surroundings: SinkSurroundings,
    clock: Clock,
    queues: CurrentSinks,
    processes: Vec<ExportProcess>,
    running: Vec<Running>,
    /// Those that were changed or are not wanted any more, and may still be sending.
    ending: Vec<Running>,
    /// Whether there is one sink only.
    is_alone: Arc<AtomicBool>,
    next_number: usize,
}

/// Sinks that are ready to take the place of others.
#[derive(Debug)]
pub struct NextExports {
    processes: Vec<ExportProcess>,
    wanted: Vec<SinkSettings>,
    begun: Vec<Running>,
    /// Nobody has got records yet.
    is_start: bool,
}

/// An output that is open.
struct Opened {
    /// `None` = standard output.
    settings: Option<SinkSettings>,
    format: &'static str,
    output: Output,
    queue_records: usize,
}

impl Exports {
    /// Opens what `processes` send to, and standard output for lines in this style with room for so many records. The threads
    /// run when it returns.
    ///
    /// # Errors
    /// [`RunError`] if an output cannot be opened or a thread not be started.
    pub fn start(
        processes: &[ExportProcess],
        lines: Option<(LineStyle, usize)>,
        surroundings: SinkSurroundings,
    ) -> Result<Self, RunError> {
        let mut exports = Self {
            surroundings,
            clock: Clock::new(),
            queues: CurrentSinks::default(),
            processes: Vec::new(),
            running: Vec::new(),
            ending: Vec::new(),
            is_alone: Arc::default(),
            next_number: 0,
        };
        let mut next = exports.prepare(processes)?;
        next.is_start = true;
        if let Some((style, queue_records)) = lines {
            let stdout = Stdout::new().map_err(RunError::Stdout)?;
            let printer = FlowPrinter::new(style, stdout, Arc::new(InterfaceNames::default()));
            let output = Output::Lines(Box::new(printer));
            let format = match style {
                LineStyle::Text => "text",
                LineStyle::Json => "json",
            };
            next.begun.push(exports.begin(Opened { settings: None, format, output, queue_records }, &[])?);
        }
        exports.change(next);
        Ok(exports)
    }

    /// Their queues.
    #[must_use]
    pub const fn queues(&self) -> &CurrentSinks {
        &self.queues
    }

    /// Exporting Processes that there are.
    #[must_use]
    pub fn processes(&self) -> &[ExportProcess] {
        &self.processes
    }

    /// Opens and starts what is new of these, which get no records before [`change`](Self::change). From now on other rules
    /// for tags are not for those that are to end.
    ///
    /// # Errors
    /// [`RunError`] if an output cannot be opened or a thread not be started; then nothing has changed.
    pub fn prepare(&mut self, processes: &[ExportProcess]) -> Result<NextExports, RunError> {
        self.ending.retain(|running| !running.has_ended());
        let wanted: Vec<SinkSettings> = processes.iter().flat_map(sinks).collect();
        let mut opened = Vec::new();
        for settings in wanted.iter().filter(|settings| !self.has(settings)) {
            opened.push(Opened {
                format: settings.process.settings.format.as_str(),
                output: settings.open()?,
                queue_records: settings.process.queue_records,
                settings: Some(settings.clone()),
            });
        }
        let begun = opened.into_iter().map(|opened| self.begin(opened, &wanted)).collect::<Result<_, _>>()?;
        for running in self.running.iter().filter(|running| !running.is_among(&wanted)) {
            running.is_leaving.store(true, Ordering::Release);
        }
        Ok(NextExports { processes: processes.to_vec(), wanted, begun, is_start: false })
    }

    /// Those that are wanted get records from now on, and others do not. Standard output stays.
    pub fn change(&mut self, next: NextExports) {
        let SinkSurroundings { ledger, .. } = &self.surroundings;
        for Running { number, format, destination, .. } in &next.begun {
            if !ledger.open_sink(*number, format, destination.clone()) {
                warn!(
                    "{format} to {destination}: what is lost if pathflow is killed will not be known of it before a restart"
                );
            }
        }
        let (stay, mut leave): (Vec<Running>, Vec<Running>) =
            self.running.drain(..).partition(|running| running.is_among(&next.wanted));
        for Running { format, destination, .. } in &leave {
            let is_same = |begun: &Running| (begun.format, &begun.destination) == (*format, destination);
            if next.begun.iter().any(is_same) {
                info!("export of {format} to {destination} begins anew with other settings");
            } else {
                info!("export of {format} to {destination} ends");
            }
        }
        for Running { format, destination, .. } in next.begun.iter().filter(|_| !next.is_start) {
            info!("exporting {format} to {destination}");
        }
        self.running = stay;
        self.running.extend(next.begun);
        self.processes = next.processes;
        self.is_alone.store(self.running.len() == 1, Ordering::Release);
        self.queues.replace(self.running.iter().filter_map(|running| running.queue.clone()).collect());
        for running in &mut leave {
            self.surroundings.ledger.sink_leaves(running.number);
            running.queue = None;
        }
        self.ending.extend(leave);
    }

    /// Starts the thread of a sink, which gets no records yet.
    fn begin(&mut self, opened: Opened, wanted: &[SinkSettings]) -> Result<Running, RunError> {
        let SinkSurroundings { shards, pace, ledger, latencies, context, enrichment, stop } =
            self.surroundings.clone();
        let number = self.next_number;
        self.next_number += 1;
        let Opened { settings, format, output, queue_records } = opened;
        let process = settings.as_ref().map(|settings| &settings.process);
        let collectors = process.map_or(&[][..], |process| &process.collectors);
        let destinations: Vec<String> = match process {
            Some(_) => collectors.iter().map(ToString::to_string).collect(),
            None => vec!["stdout".to_owned()],
        };
        let destination = destinations.join("|");
        let is_leaving = Arc::<AtomicBool>::default();
        let pacer = process.and_then(|process| process.pace);
        let parts = SinkParts {
            number,
            destinations,
            selection: settings.as_ref().map(SinkSettings::selection).unwrap_or_default(),
            sampling: process.and_then(|process| RecordSampling::new(process.sampling_interval)),
            tags: (enrichment, process.map(ExportProcess::name).unwrap_or_default()),
            output,
            ledger,
            clock: self.clock,
            latencies,
            context,
            stop_when_alone: (stop, Arc::clone(&self.is_alone)),
            // A file has time; who is behind is waited for.
            pacer: pacer.filter(|_| pace == Pace::NeverWait).map(Pacer::new),
            is_leaving: Arc::clone(&is_leaving),
            before: self.others_to(collectors, wanted),
        };
        let (sink, queue, ended) = Sink::new(parts, queue_records.div_ceil(RECORD_BATCH), shards);
        let thread = spawn(format!("export-{number}"), move || sink.run())?;
        let queue = Some(queue);
        Ok(Running { number, settings, queue, is_leaving, ended, thread, format, destination })
    }

    /// Those that send to one of these collectors, and are to end.
    fn others_to(&self, collectors: &[SocketAddr], wanted: &[SinkSettings]) -> Vec<Receiver<SinkEnded>> {
        let to_end = self.running.iter().filter(|running| !running.is_among(wanted)).chain(&self.ending);
        let sends = |running: &&Running| running.sends_to(collectors);
        to_end.filter(sends).map(|running| running.ended.clone()).collect()
    }

    fn has(&self, settings: &SinkSettings) -> bool {
        self.running.iter().any(|running| running.settings.as_ref() == Some(settings))
    }

    /// Has every sink send what it has, and waits for that, or for so long that it will not be. The shards have ended.
    pub fn finish(self) {
        let deadline = Instant::now() + CLOSE_TIME;
        for queue in self.running.iter().filter_map(|running| running.queue.as_ref()) {
            queue.close(deadline);
        }
        let deadline = deadline + COUNT_TIME;
        for Running { thread, .. } in self.running.into_iter().chain(self.ending) {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A panic in it has ended the process already.
                let _ = thread.join();
            }
        }
    }
}

impl Running {
    fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Whether it is one of these, or standard output.
    fn is_among(&self, wanted: &[SinkSettings]) -> bool {
        self.settings.as_ref().is_none_or(|settings| wanted.contains(settings))
    }

    fn sends_to(&self, collectors: &[SocketAddr]) -> bool {
        let own = self.settings.as_ref().map_or(&[][..], |settings| &settings.process.collectors);
        own.iter().any(|collector| collectors.contains(collector))
    }
}

/// The sinks of an Exporting Process: one for each collector, or one for all of them.
fn sinks(process: &ExportProcess) -> Vec<SinkSettings> {
    // Rules for tags are found by its name, and can be others any time.
    let common = ExportProcess { tag_map: String::new(), has_default_fields: false, ..process.clone() };
    if process.distribution == Distribution::Failover {
        return vec![SinkSettings { process: common, share: None }];
    }
    let of = process.collectors.len() as u64;
    let sink = |(number, collector): (usize, &SocketAddr)| {
        let transport = match &process.transport {
            ExportTransport::Tls { files, server_names } => ExportTransport::Tls {
                files: files.clone(),
                server_names: server_names.get(number).cloned().into_iter().collect(),
            },
            other => other.clone(),
        };
        let has_share = process.distribution == Distribution::FlowHash;
        let share = has_share.then_some(Share { number: number as u64, of });
        let process = ExportProcess {
            collectors: vec![*collector],
            distribution: Distribution::All,
            transport,
            ..common.clone()
        };
        SinkSettings { process, share }
    };
    process.collectors.iter().enumerate().map(sink).collect()
}

impl SinkSettings {
    fn selection(&self) -> RecordSelection {
        RecordSelection::new(self.process.conditions.clone(), self.share)
    }

    fn open(&self) -> Result<Output, RunError> {
        let mut collectors = Vec::new();
        for (number, collector) in self.process.collectors.iter().enumerate() {
            let transport = transport(&self.process, *collector, number)?;
            collectors.push(ExportingProcess::new(&self.process.settings, transport)?);
        }
        let is_one = self.process.distribution != Distribution::Failover;
        Ok(match collectors.pop() {
            Some(collector) if is_one => Output::Collector(Box::new(collector)),
            last => {
                collectors.extend(last);
                Output::Failover(Box::new(Failover::new(collectors)))
            }
        })
    }
}
