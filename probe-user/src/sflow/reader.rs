//! The reader of header samples: the one who must never wait.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::{EventfdFlags, eventfd};

use crate::capture::HeaderSamples;
use crate::error::RunError;
use crate::metering::samples::{SamplePool, SampledHeader};
use crate::pipeline::spawn;

/// How long it sleeps when there are no samples.
const SAMPLE_WAIT: Duration = Duration::from_secs(1);

/// A thread that takes samples out of the kernel's ring.
#[derive(Debug)]
pub struct SampleReader {
    stop: Arc<(AtomicBool, OwnedFd)>,
    thread: JoinHandle<()>,
}

impl SampleReader {
    /// Enters every sample of `ring` into `pool`, and puts it into `queue` if there is one.
    ///
    /// # Errors
    /// [`RunError`] if the thread cannot be started.
    pub fn start(
        mut ring: HeaderSamples,
        pool: SamplePool,
        queue: Option<Sender<SampledHeader>>,
    ) -> Result<Self, RunError> {
        let name = "samples".to_owned();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| RunError::Thread { name: name.clone(), error: error.into() })?;
        let stop = Arc::new((AtomicBool::new(false), wake));
        let stopped = Arc::clone(&stop);
        let read = move || {
            loop {
                // Asked before the ring is read: what came until then is read.
                let is_last = stopped.0.load(Ordering::Acquire);
                while let Some(sample) = ring.receive() {
                    let sampled = pool.enter(&sample);
                    if queue.as_ref().is_some_and(|queue| queue.try_send(sampled).is_err()) {
                        pool.queue_full(sampled.observation_point);
                    }
                }
                if is_last || ring.wait(&stopped.1, SAMPLE_WAIT).is_err() {
                    break;
                }
            }
        };
        let thread = spawn(name, read)?;
        Ok(Self { stop, thread })
    }

    /// Reads what is left and ends. Where the kernel goes on sampling, the rest stays in the ring.
    pub fn finish(self) {
        self.stop.0.store(true, Ordering::Release);
        // An eventfd takes eight octets, and takes them at once.
        let _ = rustix::io::write(&self.stop.1, &1_u64.to_ne_bytes());
        // A panic in it has ended the process already.
        let _ = self.thread.join();
    }
}
