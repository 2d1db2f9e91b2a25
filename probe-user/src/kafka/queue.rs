//! The queue of an output to Kafka, for those who fill it and may wait while it is full.

use std::time::{Duration, Instant};

use pathflow_exporter::kafka::{Kafka, Message, Refused};

/// How long a queue that stays full is waited for, since it took the last message.
const PATIENCE: Duration = Duration::from_secs(1);

/// Until when a full queue is waited for. Each message that it takes makes that later: what a broker takes slowly comes
/// whole, and one that takes nothing holds up a whole purge or dump for [`PATIENCE`] alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    until: Instant,
}

impl Patience {
    /// All of it, from now on.
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() + PATIENCE }
    }

    /// Sends a message, as soon as the queue takes it.
    ///
    /// # Errors
    /// Why it does not take it.
    pub(crate) fn send(&mut self, kafka: &mut Kafka, message: &Message<'_>) -> Result<(), Refused> {
        kafka.send_before(message, self.until)?;
        *self = Self::new();
        Ok(())
    }
}

/// Under which name it is counted that the queue did not take a message.
pub(crate) const fn refusal_name(refused: Refused) -> &'static str {
    match refused {
        Refused::QueueFull => "kafka_queue_full",
        Refused::InvalidTopic => "kafka_invalid_topic",
        Refused::TooLarge => "kafka_too_large",
        Refused::Closing => "kafka_unsent",
    }
}
