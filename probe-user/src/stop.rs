//! The way to end: signals, a closed output and failed parts all pull the same stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Ends the daemon; may be pulled by anyone, any number of times.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: Sender<()>,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// A stop, and the end that hears it.
    #[must_use]
    pub fn new() -> (Self, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Self { sender, failed: Arc::default() }, receiver)
    }

    /// Ends the daemon.
    pub fn pull(&self) {
        // Full: it was pulled before.
        let _ = self.sender.try_send(());
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
