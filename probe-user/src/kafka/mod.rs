//! What all outputs to Apache Kafka have in common: settings of the client, how long its queue is waited for, and what is
//! said of what happens.

pub mod events;
pub(crate) mod queue;
mod settings;

pub use settings::{Client, ClientSettings, DurabilityName, SettingsError, checked_topic};
