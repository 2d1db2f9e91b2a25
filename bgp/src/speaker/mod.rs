//! The BGP speaker: one thread with all sessions and the RIB, and the handle by which other threads ask it.
//!
//! It announces nothing: the only UPDATE it sends is the End-of-RIB marker that restarting peers wait for.

mod handle;
mod message_log;
mod settings;
mod shared;
mod status;
mod thread;

pub use handle::{RouteEntry, Routes, SpeakerHandle, Unavailable};
pub use message_log::{LogCapacity, LogEvent, LogEvents, LogKind, Withdrawal};
pub use settings::{Active, PeerSettings, Settings, SettingsError};
pub use status::{LastError, PeerCounters, PeerStatus, SpeakerCounters};

pub(crate) use shared::{LogLimit, Peer, Shared};

pub use crate::md5::{BadKeyLength, Md5Key};
pub use crate::session::Negotiated;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::rib::Rib;

/// Why a speaker does not start, or does not take new settings.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings contradict each other.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An address cannot be listened on.
    #[error("cannot listen for BGP on {address}: {source}")]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No thread, or no runtime in it.
    #[error("cannot start the BGP thread: {0}")]
    Thread(io::Error),
    /// The speaker is not there any more, or too busy.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Starts speakers.
#[derive(Debug)]
pub struct Speaker;

impl Speaker {
    /// Starts the thread `bgp`. It listens when this returns.
    ///
    /// # Errors
    /// If settings contradict each other, or an address cannot be listened on.
    pub fn start(settings: Settings) -> Result<SpeakerHandle, StartError> {
        Self::start_with(settings, |_| {})
    }

    /// As [`Self::start`]; `more` is called in the thread, inside its runtime, where it may spawn local tasks (a BMP
    /// station) that use the RIB too. No task may hold a borrow of the RIB over an await.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        settings: Settings,
        more: impl FnOnce(Rc<RefCell<Rib>>) + Send + 'static,
    ) -> Result<SpeakerHandle, StartError> {
        thread::start(settings, more)
    }
}
