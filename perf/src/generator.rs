//! Sends frames of many flows out of an interface as fast as one CPU can, without a network card.
//!
//! `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` (kernel 5.18) makes real frames and runs an XDP
//! program on each; the program writes the flow into the frame and redirects it to the interface. The
//! kernel does not say how many frames the interface took: [`Generator::send`] compares its counters.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions};
use serde::Serialize;

use crate::frames::Frame;
use crate::interface::{self, Counters};
pub use crate::object::{ObjectError, Order};
use crate::object::{load, program, verify};

const PROGRAM: &str = "generate";
/// Each call costs the set-up of a page pool and grace periods: fewer calls are faster, but none can be
/// interrupted.
const MAX_CHUNK: u32 = 1_000_000;
/// With a rate, this much time's packets are sent at once.
const RATE_INTERVAL: Duration = Duration::from_millis(100);
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
    /// Frames that are handed to the interface at once, 1 to [`MAX_BATCH`].
    pub batch: u32,
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
    batch: u32,
}

impl Generator {
    /// Loads the generator.
    ///
    /// # Errors
    /// If there is no such interface, or the kernel refuses the program.
    pub fn load(settings: &GeneratorSettings, frame: Frame) -> Result<Self, GeneratorError> {
        let index = interface::index(&settings.interface)
            .map_err(|error| GeneratorError::Interface { interface: settings.interface.clone(), error })?;
        let mut ebpf = load(&frame, settings.flows, settings.order, index)?;
        verify(&mut ebpf, PROGRAM)?;
        Ok(Self {
            ebpf,
            frame,
            interface: settings.interface.clone(),
            batch: settings.batch.clamp(1, MAX_BATCH),
        })
    }

    /// Sends exactly `packets` frames on the CPU of the calling thread, at `rate` frames per second if it
    /// is given, otherwise as fast as it goes.
    ///
    /// # Errors
    /// If the kernel refuses to send or the interface disappears. Frames that the interface drops are not
    /// an error but in [`Sent::missing_packets`].
    pub fn send(&self, packets: u64, rate: Option<u32>) -> Result<Sent, GeneratorError> {
        let chunk = rate.map_or(MAX_CHUNK, |rate| chunk_at(rate, self.batch));
        let before = self.counters()?;
        let start = Instant::now();
        let mut sent = 0;
        while sent < packets {
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(sent as f64 / f64::from(rate.max(1)));
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
            let now = u64::from(chunk).min(packets - sent) as u32;
            self.send_chunk(now)?;
            sent += u64::from(now);
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
        options.attrs = TestRunAttrs::new().xdp_live_frames(self.batch);
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

/// Frames of one call at `rate` frames per second: a whole number of batches.
fn chunk_at(rate: u32, batch: u32) -> u32 {
    let packets = (f64::from(rate) * RATE_INTERVAL.as_secs_f64()) as u32;
    packets.clamp(1, MAX_CHUNK).next_multiple_of(if packets > batch { batch } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_the_rate() {
        assert_eq!(chunk_at(1, 64), 1);
        assert_eq!(chunk_at(100, 64), 10);
        assert_eq!(chunk_at(64_000, 64), 6400);
        assert_eq!(chunk_at(100_000, 64), 10_048);
        assert_eq!(chunk_at(u32::MAX, 64), 1_000_000);
    }
}
