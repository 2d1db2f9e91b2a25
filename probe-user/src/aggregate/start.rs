//! Starts what the settings ask for, changes it while packets are counted, and ends it.
//!
//! A change first opens whatever is new, and only when all of it is open starts the threads: what fails leaves nothing behind
//! that would wait for the end of those that go on. Then the queues
//! are replaced for all shards at once. An aggregate that is not among them any more has its last rows written and ends when
//! every shard has let go of its queue; one that goes on with its files, its spool or its name begins to write after that.

use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use tracing::{info, warn};

use super::aggregator::{AggregateQueue, Aggregator, AggregatorParts, End, Ended, Handles, Writer};
use super::feed::CurrentQueues;
use super::output::{self, KeptRows, Left};
use super::settings::AggregateSettings;
use crate::enrich::CurrentSettings;
use crate::error::RunError;
use crate::export::SharedContext;
use crate::ledger::{AggregateAccounts, Ledger};
use crate::metering::shard::Pace;
use crate::pipeline::spawn;

/// How long aggregates may take to write what is left at the end.
const CLOSE_TIME: Duration = Duration::from_secs(10);
/// How much of that outputs may spend on delivery. The rest is for their own end, such as putting into the spool what was
/// not delivered.
const DELIVERY_TIME: Duration = Duration::from_secs(8);

/// The rows that aggregates keep in memory now, for who answers questions.
#[derive(Clone, Debug, Default)]
pub struct CurrentRows(Arc<RwLock<Vec<KeptRows>>>);

impl CurrentRows {
    /// Those of now.
    #[must_use]
    pub fn load(&self) -> Vec<KeptRows> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, rows: Vec<KeptRows>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

/// What aggregates work with, whichever they are.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Number of shards.
    pub shards: usize,
    /// Whether anybody is waited for.
    pub pace: Pace,
    /// Accounts.
    pub ledger: Arc<Ledger>,
    /// Names of interfaces.
    pub context: SharedContext,
    /// What is known beyond what packets carry.
    pub enrichment: CurrentSettings,
}

/// Aggregates at work.
#[derive(Debug)]
pub struct Aggregates {
    surroundings: Surroundings,
    queues: CurrentQueues,
    kept: CurrentRows,
    running: Vec<Running>,
    /// Those that were changed or are not wanted any more, and may still be writing.
    ending: Vec<Running>,
    next_number: usize,
}

/// An aggregate at work.
#[derive(Debug)]
struct Running {
    number: usize,
    left: Left,
    queue: Option<AggregateQueue>,
    end: Arc<End>,
    ended: Receiver<Ended>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn has_ended(&self) -> bool {
        matches!(self.ended.try_recv(), Err(TryRecvError::Disconnected))
    }
}

impl Aggregates {
    /// Opens the outputs and starts the threads.
    ///
    /// # Errors
    /// [`RunError`] if an output cannot be opened or a thread not be started.
    pub fn start(settings: &[AggregateSettings], surroundings: Surroundings) -> Result<Self, RunError> {
        let mut aggregates = Self {
            surroundings,
            queues: CurrentQueues::default(),
            kept: CurrentRows::default(),
            running: Vec::new(),
            ending: Vec::new(),
            next_number: 0,
        };
        aggregates.change(settings, || ())?;
        aggregates.check_places();
        Ok(aggregates)
    }

    /// Their queues.
    #[must_use]
    pub const fn queues(&self) -> &CurrentQueues {
        &self.queues
    }

    /// The rows that are kept in memory.
    #[must_use]
    pub const fn kept(&self) -> &CurrentRows {
        &self.kept
    }

    /// Says what those lack that ask for places, if nothing is known of places.
    pub fn check_places(&self) {
        let asks = self.settings().filter(|settings| settings.key.asks_places());
        for AggregateSettings { name, .. } in asks {
            if self.surroundings.enrichment.load().geography.is_none() {
                warn!(
                    "aggregate {name}: there is no enrich.geoip_file: countries, postal codes and coordinates are empty"
                );
            }
        }
    }

    /// Settings of those that there are.
    pub fn settings(&self) -> impl Iterator<Item = &AggregateSettings> {
        self.running.iter().map(|running| &running.left.settings)
    }

    /// The aggregates are these from now on. Those whose settings are the same go on as they are; others end, and new ones
    /// begin. `meanwhile` is called between the moment from which other settings are not for those that end, and the one
    /// from which new ones get packets.
    ///
    /// # Errors
    /// [`RunError`] if an output cannot be opened or a thread not be started; then nothing has changed.
    pub fn change(
        &mut self,
        settings: &[AggregateSettings],
        meanwhile: impl FnOnce(),
    ) -> Result<(), RunError> {
        self.ending.retain(|running| !running.has_ended());
        let mut opened = Vec::new();
        let is_new = |new: &&AggregateSettings| !self.settings().any(|running| running == *new);
        for new in settings.iter().filter(is_new).collect::<Vec<_>>() {
            self.next_number += 1;
            opened.push(self.open(self.next_number - 1, new, settings)?);
        }
        let begun = opened.into_iter().map(Opened::start).collect::<Result<Vec<Begun>, RunError>>()?;
        for Begun { running, outputs, .. } in &begun {
            let settings = &running.left.settings;
            let accounts = AggregateAccounts::new(running.number, settings.name.clone(), outputs.clone());
            self.surroundings.ledger.open_aggregate(accounts);
            announce(&settings.name, outputs);
        }
        let mut before = std::mem::take(&mut self.running);
        for running in before.iter().filter(|running| !settings.contains(&running.left.settings)) {
            running.end.set_alone();
            let name = &running.left.settings.name;
            if settings.iter().any(|settings| settings.name == *name) {
                info!("aggregate {name} begins anew with other settings");
            } else {
                info!("aggregate {name} ends");
            }
        }
        meanwhile();
        let mut begun: Vec<Running> = begun.into_iter().map(Begun::work).collect();
        for settings in settings {
            for from in [&mut before, &mut begun] {
                let place = from.iter().position(|running| running.left.settings == *settings);
                self.running.extend(place.map(|place| from.remove(place)));
            }
        }
        self.queues.replace(self.running.iter().filter_map(|running| running.queue.clone()).collect());
        self.kept.replace(self.running.iter().filter_map(|running| running.left.kept.clone()).collect());
        for running in &mut before {
            running.queue = None;
        }
        self.ending.extend(before);
        Ok(())
    }

    /// Opens the outputs of an aggregate, which has no packets yet. `all` are those that there will be.
    fn open(
        &self,
        number: usize,
        settings: &AggregateSettings,
        all: &[AggregateSettings],
    ) -> Result<Opened, RunError> {
        let Surroundings { shards, pace, ledger, context, enrichment } = self.surroundings.clone();
        let is_in_the_way = |running: &&Running| running.left.is_in_the_way_of(settings);
        let changed = self.running.iter().filter(|running| !all.contains(&running.left.settings));
        let changed: Vec<&Running> = changed.filter(is_in_the_way).collect();
        // What ended with an earlier change has left nothing to go on with, but may still have the spool.
        let earlier: Vec<&Running> = self.ending.iter().filter(is_in_the_way).collect();
        let of_earlier =
            earlier.iter().map(|running| Left { kept: None, files: None, ..running.left.clone() });
        let left: Vec<Left> = changed.iter().map(|running| running.left.clone()).chain(of_earlier).collect();
        let opened = output::open(settings, pace, &left)?;
        let outputs = opened.iter().map(|output| (output.kind(), output.destination())).collect();
        let left = Left {
            settings: settings.clone(),
            kept: opened.iter().find_map(|output| output.kept()),
            files: opened.iter().find_map(|output| output.files()),
        };
        let end = Arc::<End>::default();
        let parts = AggregatorParts {
            number,
            settings: settings.clone(),
            ledger,
            context,
            enrichment,
            shards,
            pace,
            end: Arc::clone(&end),
            before: changed.iter().chain(&earlier).map(|running| running.ended.clone()).collect(),
        };
        let (aggregator, writer, Handles { queue, ended }) = Aggregator::new(parts, opened);
        let running = Running { number, left, queue: Some(queue), end, ended, threads: Vec::new() };
        Ok(Opened { running, outputs, aggregator, writer })
    }

    /// Waits until everything is written, or for so long that it will not be. The shards have ended.
    pub fn finish(self) {
        let now = Instant::now();
        let deadline = now + CLOSE_TIME;
        self.queues.replace(Vec::new());
        let mut all = self.ending;
        all.extend(self.running);
        for running in &mut all {
            // Before the queue goes: the writer's end comes after that.
            running.end.set_deadline(now + DELIVERY_TIME);
            running.queue = None;
        }
        for thread in all.into_iter().flat_map(|running| running.threads) {
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

/// An aggregate whose outputs are open.
struct Opened {
    running: Running,
    /// Kinds and destinations.
    outputs: Vec<(&'static str, String)>,
    aggregator: Aggregator,
    writer: Writer,
}

impl Opened {
    /// Starts the threads. They wait, and end if they are not to [work](Begun::work).
    fn start(self) -> Result<Begun, RunError> {
        let Self { mut running, outputs, aggregator, writer } = self;
        let (works, is_to_work) = bounded(THREADS);
        let name = &running.left.settings.name;
        let wait = is_to_work.clone();
        let aggregate = move || {
            if wait.recv().is_ok() {
                aggregator.run();
            }
        };
        let write = move || {
            if is_to_work.recv().is_ok() {
                writer.run();
            }
        };
        let threads =
            [spawn(format!("aggregate-{name}"), aggregate)?, spawn(format!("write-{name}"), write)?];
        running.threads.extend(threads);
        Ok(Begun { running, outputs, works })
    }
}

/// Threads of an aggregate.
const THREADS: usize = 2;

/// An aggregate that gets no packets yet.
struct Begun {
    running: Running,
    /// Kinds and destinations.
    outputs: Vec<(&'static str, String)>,
    works: Sender<()>,
}

impl Begun {
    fn work(self) -> Running {
        for _ in 0..THREADS {
            // They are there: there is room for both.
            let _ = self.works.send(());
        }
        self.running
    }
}

fn announce(name: &str, outputs: &[(&'static str, String)]) {
    for (kind, destination) in outputs {
        if kind == destination {
            info!("aggregate {name} to {kind}");
        } else {
            info!("aggregate {name} to {kind}: {destination}");
        }
    }
}
