//! What all outputs to Apache Kafka have in common: settings of the client, and what is said of what happens.

pub mod events;
mod settings;

pub use settings::{Client, ClientSettings, DurabilityName, SettingsError, checked_topic};
