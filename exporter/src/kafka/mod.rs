//! Messages to Apache Kafka, and what becomes of them when the broker does not take them.
//!
//! [`Kafka::send`] puts a message into a bounded queue and never waits. A thread hands messages to librdkafka's
//! idempotent producer and keeps each until the broker has confirmed it; when the broker does not, it writes them to a
//! spool on disk, as [`Durability`] says. As long as there is a message on disk that is not with the producer, all
//! messages pass through the spool: they leave in the order in which they came. What cannot be delivered is counted by
//! reason ([`KafkaAccount`]). A topic that takes nothing holds back no other one: its messages move aside, in the spool
//! or else in memory, as far as there is room, and go out in order when it takes them.
//!
//! The promise is *at least once*, within the bounds of queue and spool. Every message has a stamp in a Kafka header
//! ([`STAMP_HEADER`]) by which a consumer can tell those that came twice: sequence numbers have no gaps but those that
//! are counted as lost, across restarts too if there is a spool. Within a partition messages come in the order of their
//! numbers, but for those that had to be sent again after the producer had given them up ([`KafkaCounts::resent`]).

mod account;
mod block;
mod disk;
mod event;
mod flights;
mod held;
mod inbox;
mod partitioner;
mod producer;
mod settings;
mod spool;
mod worker;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

pub use account::{ClientErrorKind, DeliveryErrorKind, KafkaAccount, KafkaCounts, KafkaLossReason};
pub use event::KafkaEvent;
pub use producer::STAMP_HEADER;
pub use settings::{Durability, KafkaSettings, SpoolSettings, reserved_properties};

use crate::record::Tally;
use inbox::Inbox;
use worker::Worker;

/// A message for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Name of the topic, with nothing left to be replaced in it.
    pub topic: &'a str,
    /// `None`: as the partitioner says, by the key if there is one.
    pub partition: Option<i32>,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Content.
    pub payload: &'a [u8],
    /// What it stands for, in the account.
    pub tally: Tally,
}

/// Why a message was not accepted. It is not in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue has its full size.
    #[error("the queue is full")]
    QueueFull,
    /// No topic can have this name.
    #[error("no topic can have this name")]
    InvalidTopic,
    /// More than a message can ever have (1 000 000 000 octets).
    #[error("no message can be so large")]
    TooLarge,
    /// The output is ending.
    #[error("the output is ending")]
    Closing,
}

/// Why an output cannot start.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// librdkafka does not know a property, or not this value of it.
    #[error("{}", property_text(property, *unknown))]
    Property {
        /// Its name.
        property: String,
        /// It is the name that is wrong.
        unknown: bool,
    },
    /// A property that is not to be set.
    #[error("property {property} cannot be set: {why}")]
    Reserved {
        /// Its name.
        property: String,
        /// What would break.
        why: &'static str,
    },
    /// librdkafka could not be started.
    #[error("the Kafka client cannot start: {text}")]
    Client {
        /// As librdkafka puts it.
        text: String,
    },
    /// The durability needs a spool.
    #[error("this durability needs a folder for the spool")]
    NoSpool,
    /// A spool of such a size cannot work.
    #[error("a spool needs {} octets at least", SpoolSettings::MIN_SIZE)]
    SpoolTooSmall,
    /// Two processes, or two outputs, with one spool.
    #[error("the spool {} is in use by another process or output", path.display())]
    SpoolTaken {
        /// Its folder.
        path: PathBuf,
    },
    /// The folder of the spool cannot be used.
    #[error("the spool {} cannot be used: {text}", path.display())]
    Spool {
        /// Its folder.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// The system refused a thread.
    #[error("no thread for the Kafka output: {0}")]
    Thread(std::io::Error),
}

fn property_text(property: &str, unknown: bool) -> String {
    if unknown {
        format!("librdkafka knows no property {property}, or was built without what it needs")
    } else {
        format!("librdkafka does not take this value for property {property}")
    }
}

/// An output to Kafka.
pub struct Kafka {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kafka").finish_non_exhaustive()
    }
}

impl Kafka {
    /// Opens the spool and starts the thread. It does not wait for a broker.
    ///
    /// # Errors
    /// What is wrong with the settings, or that the spool is in use.
    pub fn start(settings: KafkaSettings) -> Result<Self, KafkaError> {
        settings.check()?;
        let (mut worker, inbox) = Worker::new(settings)?;
        let thread = thread::Builder::new().name("kafka".to_owned()).spawn(move || worker.run());
        Ok(Self { inbox, thread: Some(thread.map_err(KafkaError::Thread)?) })
    }

    /// Accepts a message, or says why not; never waits for the network or the spool.
    ///
    /// # Errors
    /// The message is not accepted, and not a part of the account.
    pub fn send(&mut self, message: &Message<'_>) -> Result<(), Refused> {
        self.push(message, None)
    }

    /// As [`send`](Self::send), but waits for room in the queue until `give_up`.
    ///
    /// # Errors
    /// The message is not accepted, and not a part of the account.
    pub fn send_before(&mut self, message: &Message<'_>, give_up: Instant) -> Result<(), Refused> {
        self.push(message, Some(give_up))
    }

    fn push(&self, message: &Message<'_>, give_up: Option<Instant>) -> Result<(), Refused> {
        if !is_topic(message.topic) {
            return Err(Refused::InvalidTopic);
        }
        if message.payload.len() + message.key.map_or(0, <[u8]>::len) > LARGEST {
            return Err(Refused::TooLarge);
        }
        self.inbox.push(message, give_up)
    }

    /// Whether the queue has room: a small message would be accepted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.inbox.has_room()
    }

    /// Where every accepted message is; exact at any time.
    #[must_use]
    pub fn account(&self) -> KafkaAccount {
        self.inbox.account()
    }

    /// What producer and spool did.
    #[must_use]
    pub fn counts(&self) -> KafkaCounts {
        self.inbox.published().counts
    }

    /// Whether the broker has confirmed nothing for a while, although there was something to confirm.
    #[must_use]
    pub fn is_in_outage(&self) -> bool {
        self.inbox.published().is_in_outage
    }

    /// The next event for the log.
    #[must_use]
    pub fn next_event(&mut self) -> Option<KafkaEvent> {
        self.inbox.next_event()
    }

    /// Sends what is there until `deadline`; the rest goes to the spool, if there is one, for the next start.
    ///
    /// The events that are left, and the final account: nothing is queued or in flight in it.
    #[must_use]
    pub fn close(mut self, deadline: Instant) -> (KafkaAccount, Vec<KafkaEvent>) {
        self.end(deadline);
        let events = std::iter::from_fn(|| self.inbox.next_event()).collect();
        (self.inbox.account(), events)
    }

    fn end(&mut self, deadline: Instant) {
        self.inbox.close(deadline);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has aborted the release program; a test sees it in the account.
            let _ = thread.join();
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.end(Instant::now());
    }
}

/// Octets of key and payload.
const LARGEST: usize = 1_000_000_000;

/// Names that Kafka takes.
fn is_topic(name: &str) -> bool {
    let is_legal = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    (1..=249).contains(&name.len()) && name.bytes().all(is_legal) && name != "." && name != ".."
}
