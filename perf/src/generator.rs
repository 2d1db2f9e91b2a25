//! Sends frames of many flows out of an interface as fast as one CPU can, without a network card.
//!
//! `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` (kernel 5.18) makes real frames and runs an XDP
//! program on each; the program writes the flow into it and redirects it to the interface. The
//! kernel does not say how many frames the interface took: [`Generator::send`] compares its counters.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions};
use serde::Serialize;

use crate::cpu::Stay;
use crate::frames::Frame;
use crate::interface::{self, Counters};
pub use crate::object::{ObjectError, Order};
use crate::object::{Output, load, program, verify};

const PROGRAM: &str = "generate";
/// Frames of one call without a rate. Each call costs tens of milliseconds, mostly grace periods.
const MAX_CHUNK: u32 = 1_000_000;
/// With a rate, one call sends the frames of this many seconds.
const RATE_SECONDS: u32 = 10;
/// Below this rate, frames per second, each frame is a call of its own, which has no grace period, and the
/// waiting is done here; above, the kernel program waits.
const MIN_KERNEL_RATE: u32 = 15_000;
/// With a rate, the frames of one batch take no longer than this: the kernel lets nothing else run
/// meanwhile on the CPU, and shows the interface no frame before.
const BATCHES_PER_SECOND: u32 = 1000;
/// Largest batch that the kernel takes.
pub const MAX_BATCH: u32 = 256;
/// How long the interface's counters may take to show the last frames.
const SETTLE: Duration = Duration::from_secs(2);

/// Why traffic could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// The interface does not exist or cannot be asked.
    #[error("interface {interface}: {error}")]
    Interface {
        /// Its name.
        interface: String,
        /// What the kernel says.
        error: io::Error,
    },
    /// The program could not be loaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The thread cannot be kept on its CPU.
    #[error("cannot stay on one CPU: {0}")]
    Cpu(io::Error),
    /// The kernel refuses to send, perhaps because it is older than 5.18.
    #[error("cannot send live frames: {0}")]
    Run(#[from] ProgramError),
}

/// What to send.
#[derive(Clone, Debug)]
pub struct GeneratorSettings {
    /// Interface to send out of, in the calling thread's network namespace.
    pub interface: String,
    /// Number of flows, 1 or more.
    pub flows: u32,
    /// Order of the flows.
    pub order: Order,
    /// Frames that are handed to the interface at once, 1 to [`MAX_BATCH`]; fewer if they would take more
    /// than a millisecond at the rate.
    pub batch: u32,
    /// Frames per second; as many as possible if there is none.
    pub rate: Option<u32>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sent {
    /// Frames made.
    pub packets: u64,
    /// Packets that the interface says it sent meanwhile, those of others included.
    pub interface_sent_packets: u64,
    /// Packets that the interface says it dropped meanwhile.
    pub interface_dropped_packets: u64,
    /// Frames that the interface did not send.
    pub missing_packets: u64,
    /// Time it took.
    pub seconds: f64,
    /// Million frames per second.
    pub mpps: f64,
}

/// A loaded generator.
pub struct Generator {
    ebpf: Ebpf,
    frame: Frame,
    interface: String,
    pace: Pace,
}

/// How the frames are spread over calls and batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// Frames of one call.
    chunk: u32,
    batch: u32,
    /// Nanoseconds that the kernel program waits from one frame to the next.
    kernel_interval: u64,
    /// Nanoseconds that are waited here from one call to the next.
    call_interval: u64,
}

impl Pace {
    fn new(rate: Option<u32>, batch: u32) -> Self {
        let batch = batch.clamp(1, MAX_BATCH);
        let Some(rate) = rate.map(|rate| rate.max(1)) else {
            return Self { chunk: MAX_CHUNK, batch, kernel_interval: 0, call_interval: 0 };
        };
        let interval = 1_000_000_000 / u64::from(rate);
        if rate < MIN_KERNEL_RATE {
            return Self { chunk: 1, batch: 1, kernel_interval: 0, call_interval: interval };
        }
        Self {
            chunk: rate.saturating_mul(RATE_SECONDS),
            batch: batch.min(rate / BATCHES_PER_SECOND),
            kernel_interval: interval,
            call_interval: 0,
        }
    }
}

impl Generator {
    /// Loads the generator.
    ///
    /// # Errors
    /// If there is no such interface, or the kernel refuses the program.
    pub fn load(settings: &GeneratorSettings, frame: Frame) -> Result<Self, GeneratorError> {
        let index = interface::index(&settings.interface)
            .map_err(|error| GeneratorError::Interface { interface: settings.interface.clone(), error })?;
        let pace = Pace::new(settings.rate, settings.batch);
        let output = Output { interface: index, interval: pace.kernel_interval };
        let mut ebpf = load(&frame, settings.flows, settings.order, output)?;
        verify(&mut ebpf, PROGRAM)?;
        Ok(Self { ebpf, frame, interface: settings.interface.clone(), pace })
    }

    /// Sends exactly `packets` frames. The calling thread stays on its CPU meanwhile: a veth's receiver runs
    /// where the first frame was sent, and from another CPU its queue of 256 would soon be full.
    ///
    /// # Errors
    /// If the kernel refuses to send, a signal comes, or the interface disappears. Frames that the
    /// interface drops are not an error but in [`Sent::missing_packets`].
    pub fn send(&self, packets: u64) -> Result<Sent, GeneratorError> {
        let _stay = Stay::here().map_err(GeneratorError::Cpu)?;
        let before = self.counters()?;
        let start = Instant::now();
        let (mut sent, mut calls) = (0, 0);
        while sent < packets {
            let due = Duration::from_nanos(self.pace.call_interval * calls);
            thread::sleep(due.saturating_sub(start.elapsed()));
            let now = u64::from(self.pace.chunk).min(packets - sent) as u32;
            self.send_chunk(now)?;
            sent += u64::from(now);
            calls += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = self.settled(&before, packets)?;
        let interface_sent_packets = after.sent_packets - before.sent_packets;
        Ok(Sent {
            packets,
            interface_sent_packets,
            interface_dropped_packets: after.send_dropped_packets - before.send_dropped_packets,
            missing_packets: packets.saturating_sub(interface_sent_packets),
            seconds,
            mpps: packets as f64 / seconds / 1e6,
        })
    }

    fn send_chunk(&self, packets: u32) -> Result<(), GeneratorError> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(self.frame.octets());
        options.repeat = packets;
        options.attrs = TestRunAttrs::new().xdp_live_frames(self.pace.batch);
        program(&self.ebpf, PROGRAM)?.test_run(options)?;
        Ok(())
    }

    /// The counters once they show `packets` more than `before`, or no longer grow.
    fn settled(&self, before: &Counters, packets: u64) -> Result<Counters, GeneratorError> {
        let start = Instant::now();
        loop {
            let now = self.counters()?;
            if now.sent_packets - before.sent_packets >= packets || start.elapsed() > SETTLE {
                return Ok(now);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn counters(&self) -> Result<Counters, GeneratorError> {
        interface::counters(&self.interface)
            .map_err(|error| GeneratorError::Interface { interface: self.interface.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_rate_nothing_waits() {
        let pace = Pace::new(None, 64);
        assert_eq!(pace, Pace { chunk: MAX_CHUNK, batch: 64, kernel_interval: 0, call_interval: 0 });
        assert_eq!(Pace::new(None, 0).batch, 1);
        assert_eq!(Pace::new(None, 1000).batch, MAX_BATCH);
    }

    #[test]
    fn slow_frames_are_calls_of_their_own() {
        let pace = Pace::new(Some(100), 64);
        assert_eq!(pace, Pace { chunk: 1, batch: 1, kernel_interval: 0, call_interval: 10_000_000 });
    }

    #[test]
    fn fast_frames_wait_in_the_kernel_program() {
        let pace = Pace::new(Some(20_000), 64);
        assert_eq!(pace, Pace { chunk: 200_000, batch: 20, kernel_interval: 50_000, call_interval: 0 });
        let pace = Pace::new(Some(1_000_000), 64);
        assert_eq!((pace.batch, pace.kernel_interval), (64, 1000));
        assert_eq!(Pace::new(Some(u32::MAX), 64).chunk, u32::MAX);
    }
}
