//! The way to end: signals, a closed output and failed parts all pull the same stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Ends the daemon; may be pulled by anyone, any number of times.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: Sender<()>,
    pulled: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// A stop, and the end that hears it.
    #[must_use]
    pub fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Self { sender, pulled: Arc::default(), failed: Arc::default() }, receiver)
    }

    /// Ends the daemon.
    pub fn pull(&self) {
        self.pulled.store(true, Ordering::Relaxed);
        // Full: it was pulled before.
        let _ = self.sender.try_send(());
    }

    /// Whether it was pulled.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.pulled.load(Ordering::Relaxed)
    }

    /// Whether a part could not go on.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Ends the daemon because a part cannot go on.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.pull();
    }
}
