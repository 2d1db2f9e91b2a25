//! At the start, records can wait until the routes are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether records wait. All clones say the same.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<AtomicBool>);

impl Hold {
    /// Records wait until [`Self::release`].
    #[must_use]
    pub fn on() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether they still do.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// They do not wait any more.
    pub fn release(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
