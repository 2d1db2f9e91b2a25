//! The worker of one RX queue: takes frames, parses them, accounts them to flows, hands these over.
//!
//! Packets of one flow are added up first (see [`PacketMeter`]). Whatever a worker waits for, the kernel goes on filling the ring meanwhile, and counts what
//! finds no room; after two seconds without a sign of life its packets pass to the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, mem};

use pathflow_common::DropReason;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::Origin;
use pathflow_common::layout::{Count, PointCounters};
use pathflow_common::parse::link::Link;

use super::program::MirrorMaps;
use super::socket::{QueueSocket, Receiver, SocketStatistics};
use crate::capture::FilterSet;
use crate::classify::Tap;
use crate::clock::Clock;
use crate::interfaces::MacAddress;
use crate::ledger::Ledger;
use crate::metering::packets::PacketMeter;

/// Longest wait for a packet, so that the end and the heartbeat are not missed.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// How often a sign of life is given; each costs the kernel program a miss in its cache.
const HEARTBEAT_NANOSECONDS: u64 = 100_000_000;
/// Where the addresses are in an Ethernet frame.
const DESTINATION_MAC: std::ops::Range<usize> = 0..6;
const SOURCE_MAC: std::ops::Range<usize> = 6..12;

/// What the workers of one mirror port share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) maps: MirrorMaps,
    /// Observation point of frames that come from elsewhere, and of whatever is lost.
    pub(super) ingress: u16,
    /// Observation point of frames that come from the router.
    pub(super) egress: u16,
    /// MAC addresses of the router.
    pub(super) router_macs: Vec<[u8; 6]>,
    /// Which packets are accounted, and what else is asked of them.
    filters: FilterSet,
    /// Asks the workers to empty their rings and end.
    pub(super) stopping: AtomicBool,
    /// Redirected packets that the ledger knows of.
    entered: AtomicU64,
    /// Passed packets that the ledger knows of.
    passed: Mutex<Count>,
    /// What sockets have counted, by queue.
    statistics: Mutex<Vec<SocketStatistics>>,
}

impl Shared {
    pub(super) fn new(
        maps: MirrorMaps,
        (ingress, egress): (u16, u16),
        router_macs: Vec<[u8; 6]>,
        filters: FilterSet,
        queues: usize,
    ) -> Self {
        Self {
            maps,
            ingress,
            egress,
            router_macs,
            filters,
            stopping: AtomicBool::new(false),
            entered: AtomicU64::new(0),
            passed: Mutex::default(),
            statistics: Mutex::new(vec![SocketStatistics::default(); queues]),
        }
    }

    /// Packets that the kernel program has handed over and the ledger does not know of yet.
    pub(super) fn live_packets(&self) -> u64 {
        // In this order: what was entered before was counted before.
        let entered = self.entered.load(Ordering::Acquire);
        self.maps.counted().redirected.packets.saturating_sub(entered)
    }

    /// Enters in the ledger what the program has let pass since this was called last.
    pub(super) fn enter_passed(&self, ledger: &Ledger) {
        let mut before = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.maps.counted().passed;
        let passed = Count {
            packets: now.packets.saturating_sub(before.packets),
            octets: now.octets.saturating_sub(before.octets),
        };
        if passed.packets == 0 {
            return;
        }
        *before = now;
        let mut counters = PointCounters { seen: passed, ..PointCounters::default() };
        counters.dropped[DropReason::Passed as usize] = passed;
        ledger.seen(&[(self.ingress, counters)]);
    }

    /// Enters redirected packets that nobody has accounted for: at the end there should be none, so they stay
    /// in the account `in_kernel`, where the report shows them.
    pub(super) fn enter_missing(&self, ledger: &Ledger) {
        let redirected = self.maps.counted().redirected.packets;
        let missing = redirected.wrapping_sub(self.entered.load(Ordering::Acquire));
        if missing != 0 {
            let seen = Count { packets: missing, octets: 0 };
            ledger.seen(&[(self.ingress, PointCounters { seen, ..PointCounters::default() })]);
        }
    }

    /// What the sockets have counted, by queue.
    pub(super) fn statistics(&self) -> Vec<SocketStatistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a socket has counted, and returns what it had before.
    fn note(&self, queue: u32, now: SocketStatistics) -> SocketStatistics {
        let mut statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        statistics.get_mut(queue as usize).map_or(now, |before| mem::replace(before, now))
    }
}

/// What a worker is made of.
pub(super) struct WorkerParts {
    pub(super) socket: QueueSocket,
    pub(super) queue: u32,
    pub(super) shared: Arc<Shared>,
    pub(super) meter: PacketMeter,
    pub(super) tap: Option<Tap>,
    pub(super) clock: Clock,
    pub(super) drain_interval: Duration,
}

/// Works until it is told to stop and the ring is empty, or until the socket fails.
///
/// # Errors
/// If the socket fails, which it also does when its interface is gone.
pub(super) fn run(parts: WorkerParts) -> io::Result<()> {
    let WorkerParts { socket, queue, shared, meter, tap, clock, drain_interval } = parts;
    let is_zero_copy = socket.is_zero_copy();
    let mut receiver = Receiver::new(socket);
    let mut accounts = Accounts { shared: Arc::clone(&shared), meter, tap };
    let mut now = clock.read();
    let (mut next_beat, mut next_drain) = (0, 0);
    let result = loop {
        if now.monotonic >= next_beat {
            shared.maps.beat(queue, now.monotonic);
            next_beat = now.monotonic + HEARTBEAT_NANOSECONDS;
        }
        if now.monotonic >= next_drain {
            if let Err(error) = receiver.socket().check() {
                break Err(error);
            }
            accounts.enter_losses(&receiver, queue, is_zero_copy);
            accounts.hand_over(now.monotonic);
            shared.enter_passed(accounts.meter.batches().ledger());
            next_drain = now.monotonic + now.until_multiple_of(drain_interval).as_nanos() as u64;
        }
        // Asked before the ring is looked at: nothing comes after the stop.
        let is_last = shared.stopping.load(Ordering::Acquire);
        let frames = receiver.receive(|frame, octets| accounts.packet(frame, octets, now.monotonic));
        if frames == 0 {
            accounts.tap.iter_mut().for_each(Tap::send);
            if is_last {
                break Ok(());
            }
            let until_drain = Duration::from_nanos(next_drain.saturating_sub(now.monotonic));
            if let Err(error) = receiver.wait(until_drain.min(LONGEST_WAIT)) {
                break Err(error);
            }
        }
        now = clock.read();
    };
    accounts.enter_losses(&receiver, queue, is_zero_copy);
    // Nothing comes any more that fragments could wait for.
    accounts.hand_over(u64::MAX);
    result
}

/// Packets on their way into the ledger and to the shards.
struct Accounts {
    shared: Arc<Shared>,
    meter: PacketMeter,
    /// Takes what tells of applications, if anybody asks.
    tap: Option<Tap>,
}

impl Accounts {
    fn packet(&mut self, frame: &[u8], octets: u32, time: u64) {
        let point = if self.is_of_router(frame) { self.shared.egress } else { self.shared.ingress };
        let Some(filter_results) = self.shared.filters.results(frame, octets) else {
            self.meter.filtered(point, octets);
            return self.note_entered();
        };
        let place = if point == self.shared.egress { DESTINATION_MAC } else { SOURCE_MAC };
        let neighbour = frame.get(place).and_then(|mac| mac.try_into().ok());
        let neighbour = neighbour.map_or(MacAddress::UNKNOWN, MacAddress);
        let captured = frame;
        let frame = SliceFrame::captured(frame, octets);
        self.meter.packet(
            Origin { observation_point: point, filter_results },
            time,
            neighbour,
            &frame,
            Link::ethernet(&frame).ok_or(DropReason::Truncated),
        );
        if let (Some(tap), Some(number)) = (&mut self.tap, self.meter.number_in_flow())
            && number <= tap.wanted()
        {
            tap.packet(point, time, captured, octets);
        }
        self.note_entered();
    }

    fn is_of_router(&self, frame: &[u8]) -> bool {
        let macs = &self.shared.router_macs;
        !macs.is_empty() && frame.get(SOURCE_MAC).is_some_and(|mac| macs.iter().any(|own| own == mac))
    }

    /// Enters what was received in the ledger, then lets it go on.
    fn hand_over(&mut self, now: u64) {
        self.tap.iter_mut().for_each(Tap::send);
        self.meter.hand_over(now);
        self.note_entered();
    }

    fn note_entered(&mut self) {
        let packets = self.meter.take_entered();
        if packets > 0 {
            self.shared.entered.fetch_add(packets, Ordering::AcqRel);
        }
    }

    /// Enters what the kernel has dropped at the socket. It counts packets only; their octets nobody knows.
    fn enter_losses(&self, receiver: &Receiver, queue: u32, is_zero_copy: bool) {
        // A socket that cannot be asked any more has failed, and is looked at elsewhere.
        let Ok(now) = receiver.socket().statistics() else { return };
        let before = self.shared.note(queue, now);
        let (before, now) = (losses(&before, is_zero_copy), losses(&now, is_zero_copy));
        let mut counters = PointCounters::default();
        for ((reason, now), (_, before)) in now.into_iter().zip(before) {
            let packets = now.saturating_sub(before);
            counters.dropped[reason as usize].packets = packets;
            counters.seen.packets += packets;
        }
        self.enter(&[(self.shared.ingress, counters)]);
    }

    fn enter(&self, counters: &[(u16, PointCounters)]) {
        let packets = counters.iter().map(|(_, counters)| counters.seen.packets).sum();
        if packets > 0 {
            self.meter.batches().ledger().seen(counters);
            self.shared.entered.fetch_add(packets, Ordering::AcqRel);
        }
    }
}

/// The losses in a socket's counters, each packet once.
fn losses(counted: &SocketStatistics, is_zero_copy: bool) -> [(DropReason, u64); 3] {
    // In copy mode the kernel looks for a frame for each packet. In zero-copy mode the driver looks for
    // frames ahead of packets, and what it drops for want of them never reaches the program.
    let empty = if is_zero_copy { 0 } else { counted.rx_fill_ring_empty_descriptors.min(counted.rx_dropped) };
    [
        (DropReason::RxRingFull, counted.rx_ring_full),
        (DropReason::FillRingEmpty, empty),
        (DropReason::RxDropped, counted.rx_dropped - empty),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_without_a_frame_is_lost_once() {
        let counted = SocketStatistics {
            rx_dropped: 10,
            rx_ring_full: 3,
            rx_fill_ring_empty_descriptors: 7,
            rx_invalid_descriptors: 1,
        };
        let packets = |is_zero_copy| losses(&counted, is_zero_copy).map(|(_, packets)| packets);
        assert_eq!(packets(false), [3, 7, 3]);
        assert_eq!(packets(true), [3, 0, 10]);
        // Read between the two counters of one packet.
        let between = SocketStatistics { rx_fill_ring_empty_descriptors: 11, ..counted };
        assert_eq!(losses(&between, false).map(|(_, packets)| packets), [3, 10, 0]);
    }
}
