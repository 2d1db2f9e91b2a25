//! The application of flows, found by nDPI in their first packets (feature `ndpi`).
//!
//! Packets reach a [`Classifier`] beside the flow tables: from the kernel by a buffer for each CPU
//! ([`Payloads`](crate::capture::Payloads)), or where user space has them anyway. What it finds is in [`Classes`], which
//! deltas get their class from when they leave for the shards. Only if an aggregate asks for it is any of this there.

mod class;
mod classes;
mod classifier;
mod conversation;
mod in_order;
#[cfg(feature = "ndpi")]
mod ndpi;
#[cfg(not(feature = "ndpi"))]
#[path = "without_ndpi.rs"]
mod ndpi;
mod reader;
mod tap;

use std::time::Duration;

pub use class::Class;
pub use classes::{ClassCounts, Classes};
pub use classifier::Classifier;
pub use conversation::Conversation;
pub use reader::PayloadReader;
pub use tap::{Tap, TapSource};

/// Whether this pathflow was built with nDPI.
pub const IS_BUILT_IN: bool = cfg!(feature = "ndpi");

/// How flows are classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassifySettings {
    /// Packets with payload of one conversation that are looked at.
    pub packets: u32,
    /// Octets of each, from the start of its frame.
    pub octets: u32,
    /// Conversations that are remembered.
    pub max_flows: usize,
    /// How long one is remembered that has no packets.
    pub idle_timeout: Duration,
    /// Whether ports and addresses may say what payload does not.
    pub guess: bool,
}

/// Why flows cannot be classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassifyError {
    /// Built without.
    #[error("this pathflow was built without nDPI; build it with `--features ndpi` (Debian: libndpi-dev)")]
    NotBuiltIn,
    /// nDPI gave none.
    #[error("nDPI cannot make a detection module")]
    NoModule,
}

/// What is known after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    class: Class,
    /// Whether further packets cannot tell more.
    is_final: bool,
}
