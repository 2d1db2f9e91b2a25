//! First packets of flows, as the kernel program sends them: a buffer for each CPU.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::perf::{PerfEvent, PerfEventArrayBuffer};
use aya::maps::{MapData, PerfEventArray};
use pathflow_common::layout::{PayloadHeader, PayloadState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mapping::Mapping;
use super::{CaptureError, support};

/// Pages of the buffer of one CPU: 1 MiB.
const PAGES: usize = 256;
/// Packets of one CPU that are taken at once, at most.
const AT_ONCE: usize = 512;

/// The receiving end of the buffers.
pub struct Payloads {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    done: Done,
    /// A packet that lies at the end of a buffer and goes on at its start.
    whole: Vec<u8>,
}

/// Hashes of keys whose packets are not wanted any more. Each is forgotten after some time, so that it is not for a later
/// flow of the same key; so long the kernel program sends its first packets anew.
struct Done {
    hashes: Mapping<u64>,
    kept: Duration,
    /// Where forgetting goes on, and up to what time it has come, in nanoseconds.
    next: usize,
    forgotten: u64,
}

impl Done {
    fn mark(&self, hash: u64) {
        self.hashes.store_first_word(hash as usize & (self.hashes.length() - 1), hash);
    }

    /// Has everything forgotten that was marked longer ago than is kept.
    fn forget(&mut self, now: u64) {
        let length = self.hashes.length() as u128;
        let passed = now.saturating_sub(self.forgotten);
        let due = (u128::from(passed) * length / self.kept.as_nanos().max(1)).min(length);
        if due == 0 {
            return;
        }
        self.forgotten = now;
        for _ in 0..due {
            self.hashes.store_first_word(self.next, 0);
            self.next = (self.next + 1) & (self.hashes.length() - 1);
        }
    }
}

/// What the kernel program counts of the packets that it sends.
#[derive(Clone)]
pub struct PayloadStates(Arc<Mapping<PayloadState>>);

/// What became of first packets of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadCounts {
    /// Packets that user space got.
    pub sent: u64,
    /// Packets beyond what a CPU may send in one epoch.
    pub over_budget: u64,
    /// Packets that found no room.
    pub buffer_full: u64,
}

impl Payloads {
    /// Opens a buffer for each CPU. What is `done`, a power of two, is so for as long as it is `kept`.
    pub(super) fn open(
        mut array: PerfEventArray<MapData>,
        done: Mapping<u64>,
        kept: Duration,
    ) -> Result<Self, CaptureError> {
        let buffers = support::online_cpus()?
            .into_iter()
            .map(|cpu| array.open(cpu, Some(PAGES)))
            .collect::<Result<_, _>>()
            .map_err(|error| CaptureError::Map { name: "PAYLOADS", reason: super::program::full(&error) })?;
        let done = Done { hashes: done, kept, next: 0, forgotten: 0 };
        Ok(Self { buffers, done, whole: Vec::new() })
    }

    /// Waits until there is a packet or `other` can be read, but no longer than `timeout`.
    ///
    /// # Errors
    /// If the buffers cannot be waited for.
    pub fn wait(&self, other: impl AsFd, timeout: Duration) -> io::Result<()> {
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let mut ready: Vec<PollFd<'_>> = self
            .buffers
            .iter()
            .map(|buffer| PollFd::from_borrowed_fd(buffer.as_fd(), PollFlags::IN))
            .collect();
        ready.push(PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN));
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Calls `each` for the packets that are there, those of one CPU in their order. Returns whether there may be more.
    pub fn receive(&mut self, mut each: impl FnMut(&PayloadHeader, &[u8])) -> bool {
        let Self { buffers, whole, .. } = self;
        let mut is_more = false;
        for buffer in buffers {
            let taken = buffer.try_fold(0, |taken, event| {
                // Of those that were lost the kernel program has an account.
                if let PerfEvent::Sample { head, tail } = event {
                    let octets = if tail.is_empty() {
                        head
                    } else {
                        whole.clear();
                        whole.extend_from_slice(head);
                        whole.extend_from_slice(tail);
                        whole.as_slice()
                    };
                    if let Some((header, octets)) = octets.split_first_chunk() {
                        let header = PayloadHeader::from_octets(header);
                        // What follows is there to fill words.
                        each(&header, octets.get(..header.captured.into()).unwrap_or(octets));
                    }
                }
                if taken < AT_ONCE { ControlFlow::Continue(taken + 1) } else { ControlFlow::Break(()) }
            });
            is_more |= taken.is_break();
        }
        is_more
    }

    /// No more packets of the key with this hash are wanted for some time.
    pub fn mark(&self, hash: u64) {
        self.done.mark(hash);
    }

    /// Of keys that were marked for longer than that, packets are wanted anew. `now` is in monotonic nanoseconds.
    pub fn forget(&mut self, now: u64) {
        self.done.forget(now);
    }
}

impl fmt::Debug for Payloads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buffers: Vec<_> = self.buffers.iter().map(AsRawFd::as_raw_fd).collect();
        formatter.debug_struct("Payloads").field("buffers", &buffers).finish_non_exhaustive()
    }
}

impl PayloadStates {
    pub(super) fn new(states: Mapping<PayloadState>) -> Self {
        Self(Arc::new(states))
    }

    /// Of all CPUs together.
    #[must_use]
    pub fn counts(&self) -> PayloadCounts {
        let mut counts = PayloadCounts::default();
        for state in (0..self.0.length()).filter_map(|cpu| self.0.read(cpu)) {
            counts.sent += state.sent;
            counts.over_budget += state.over_budget;
            counts.buffer_full += state.buffer_full;
        }
        counts
    }
}

impl fmt::Debug for PayloadStates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PayloadStates").field(&self.counts()).finish()
    }
}
