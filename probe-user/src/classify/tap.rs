//! Where user space sees packets on several threads: copies of the first ones of flows on their way to the one classifier.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pathflow_common::layout::PayloadHeader;
use rustix::event::{EventfdFlags, eventfd};

/// Octets after which a batch goes on.
const BATCH_OCTETS: usize = 1 << 16;
/// Batches that wait at most, 16 MiB.
const BATCHES: usize = 256;

/// Wakes the thread that classifies.
#[derive(Debug)]
pub(super) struct Wake {
    is_ending: AtomicBool,
    event: OwnedFd,
}

impl Wake {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { is_ending: AtomicBool::new(false), event })
    }

    /// What can be read when there is something to do.
    pub(super) fn event(&self) -> &OwnedFd {
        &self.event
    }

    pub(super) fn wake(&self) {
        // An eventfd takes eight octets, and takes them at once.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub(super) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the end has come. To be called before looking for something to do.
    pub(super) fn take(&self) -> bool {
        // There may be nothing in it, if something else has woken the thread.
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
        self.is_ending.load(Ordering::Acquire)
    }
}

/// Makes taps.
#[derive(Clone, Debug)]
pub struct TapSource {
    packets: u32,
    octets: usize,
    batches: Sender<Vec<u8>>,
    emptied: Receiver<Vec<u8>>,
    wake: Arc<Wake>,
    lost: Arc<AtomicU64>,
}

/// The other end of taps.
#[derive(Debug)]
pub(super) struct Tapped {
    pub(super) batches: Receiver<Vec<u8>>,
    pub(super) emptied: Sender<Vec<u8>>,
}

/// Takes copies of packets on one thread.
#[derive(Debug)]
pub struct Tap {
    source: TapSource,
    batch: Vec<u8>,
    packets: u64,
}

impl TapSource {
    /// `packets` of each flow between two drains, and `octets` of each.
    pub(super) fn new(packets: u32, octets: u32, wake: Arc<Wake>) -> (Self, Tapped) {
        let (batches, filled) = bounded(BATCHES);
        let (emptied, pool) = bounded(BATCHES);
        let lost = Arc::default();
        let source = Self { packets, octets: octets as usize, batches, emptied: pool, wake, lost };
        (source, Tapped { batches: filled, emptied })
    }

    /// For one thread.
    #[must_use]
    pub fn tap(&self) -> Tap {
        Tap { source: self.clone(), batch: Vec::new(), packets: 0 }
    }

    /// Packets for which there was no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Tap {
    /// Packets of each flow that are wanted between two drains.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.source.packets.into()
    }

    /// Takes a packet of this point, seen at `time` in monotonic nanoseconds, whose frame was so long.
    pub fn packet(&mut self, observation_point: u16, time: u64, frame: &[u8], frame_length: u32) {
        let frame = frame.get(..self.source.octets).unwrap_or(frame);
        let header =
            PayloadHeader { observation_point, captured: frame.len() as u16, frame_length, hash: 0, time };
        self.batch.extend(header.octets());
        self.batch.extend_from_slice(frame);
        self.packets += 1;
        if self.batch.len() >= BATCH_OCTETS {
            self.send();
        }
    }

    /// Lets what was taken go on.
    pub fn send(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let empty = self.source.emptied.try_recv().unwrap_or_default();
        match self.source.batches.try_send(std::mem::replace(&mut self.batch, empty)) {
            Ok(()) => self.source.wake.wake(),
            Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) => {
                self.source.lost.fetch_add(self.packets, Ordering::Relaxed);
                batch.clear();
                self.batch = batch;
            }
        }
        self.packets = 0;
    }
}

/// Calls `each` for every packet of a batch.
pub(super) fn packets(mut batch: &[u8], mut each: impl FnMut(&PayloadHeader, &[u8])) {
    while let Some((header, rest)) = batch.split_first_chunk() {
        let header = PayloadHeader::from_octets(header);
        let Some((octets, rest)) = rest.split_at_checked(header.captured.into()) else { return };
        each(&header, octets);
        batch = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_arrives_or_is_counted() {
        let (source, tapped) = TapSource::new(10, 100, Arc::new(Wake::new().unwrap()));
        let mut tap = source.tap();
        tap.packet(3, 5, &[7; 60], 60);
        tap.packet(4, 5, &[8; 200], 200);
        tap.send();
        let mut found = Vec::new();
        packets(&tapped.batches.try_recv().unwrap(), |header, octets| found.push((*header, octets.to_vec())));
        let header = |observation_point, captured, frame_length| PayloadHeader {
            observation_point,
            captured,
            frame_length,
            hash: 0,
            time: 5,
        };
        assert_eq!(found, [(header(3, 60, 60), vec![7; 60]), (header(4, 100, 200), vec![8; 100])]);
        for _ in 0..BATCHES + 2 {
            tap.packet(3, 5, &[7; 60], 60);
            tap.packet(3, 5, &[7; 60], 60);
            tap.send();
        }
        assert_eq!((tapped.batches.len(), source.lost()), (BATCHES, 4));
        // Half an entry is none.
        let mut cut_short = header(3, 60, 60).octets().to_vec();
        cut_short.extend([7; 59]);
        packets(&cut_short, |_, _| panic!("cut short"));
    }
}
