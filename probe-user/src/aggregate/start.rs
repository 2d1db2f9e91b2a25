//! Starts what the settings ask for, and ends it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::info;

use super::aggregator::{AggregateQueue, Aggregator, AggregatorParts};
use super::output::{self, KeptRows};
use super::settings::AggregateSettings;
use crate::error::RunError;
use crate::export::SharedContext;
use crate::ledger::{AggregateAccounts, Ledger};
use crate::metering::shard::Pace;
use crate::pipeline::spawn;

/// How long aggregates may take to write what is left at the end.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// Aggregates at work.
#[derive(Debug, Default)]
pub struct Aggregates {
    /// Their queues, in the order of the ledger.
    pub queues: Vec<AggregateQueue>,
    /// The rows that are kept in memory.
    pub kept: Vec<KeptRows>,
    threads: Vec<JoinHandle<()>>,
}

impl Aggregates {
    /// Opens the outputs and starts the threads.
    ///
    /// # Errors
    /// [`RunError`] if an output cannot be opened or a thread not be started.
    pub fn start(
        settings: &[AggregateSettings],
        shards: usize,
        pace: Pace,
        ledger: &Arc<Ledger>,
        context: &SharedContext,
    ) -> Result<Self, RunError> {
        let outputs = settings.iter().map(output::open).collect::<Result<Vec<_>, _>>()?;
        let accounts = settings.iter().zip(&outputs).map(|(settings, outputs)| {
            let outputs = outputs.iter().map(|output| (output.kind(), output.destination()));
            AggregateAccounts::new(settings.name.clone(), outputs)
        });
        ledger.open_aggregates(accounts.collect());
        let mut aggregates = Self::default();
        for (number, (settings, outputs)) in settings.iter().zip(outputs).enumerate() {
            let parts = AggregatorParts {
                number,
                settings: settings.clone(),
                ledger: Arc::clone(ledger),
                context: context.clone(),
                shards,
                pace,
            };
            aggregates.kept.extend(outputs.iter().filter_map(|output| output.kept()));
            for output in &outputs {
                let (kind, destination) = (output.kind(), output.destination());
                if kind == destination {
                    info!("aggregate {} to {kind}", settings.name);
                } else {
                    info!("aggregate {} to {kind}: {destination}", settings.name);
                }
            }
            let (aggregator, writer, queue) = Aggregator::new(parts, outputs);
            aggregates.threads.push(spawn(format!("aggregate-{}", settings.name), || aggregator.run())?);
            aggregates.threads.push(spawn(format!("write-{}", settings.name), || writer.run())?);
            aggregates.queues.push(queue);
        }
        Ok(aggregates)
    }

    /// Waits until everything is written, or for so long that it will not be. The shards have ended.
    pub fn finish(self) {
        drop(self.queues);
        let deadline = Instant::now() + CLOSE_TIME;
        for thread in self.threads {
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
