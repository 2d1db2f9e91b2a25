//! Replay: a capture in a file or stream goes through the pipeline of live capture, by the file's clock.
//!
//! Needs no privileges. Nothing is lost to speed: the file waits for the sinks. The ledger is the same, with
//! the parser in place of the kernel program.

use std::path::Path;
use std::sync::Arc;

use pathflow_common::DropReason;
use pathflow_common::flow::{Ipv4Key, Ipv6Key};
use pathflow_common::layout::{Count, OBSERVATION_POINTS, PointCounters};
use pathflow_common::parse::{FlowSink, PacketFacts};
use pathflow_exporter::FlowDirection;
use tracing::warn;

use crate::capture::Delta;
use crate::capture::pcap::{FilePacket, PacketFile, PcapFileError};
use crate::clock::Reading;
use crate::config::Config;
use crate::error::RunError;
use crate::metering::batches::{Batches, DELTA_BATCH};
use crate::metering::flow_record::ObservationPoint;
use crate::metering::shard::{Pace, ShardMessage};
use crate::pipeline::{Ended, Pipeline};
use crate::stop::Stop;

/// Why a replay ended before the end of the file, if it did.
#[derive(Debug)]
pub struct Replayed {
    /// What is left when everything read was exported.
    pub ended: Ended,
    /// What was wrong with the file.
    pub fault: Option<PcapFileError>,
}

/// Replays `file` (`-` is standard input) until its end or until `stop` is pulled.
///
/// # Errors
/// [`RunError`] if the file cannot be opened or the pipeline not be started.
pub fn run(config: &Config, file: &Path, stop: &Stop) -> Result<Replayed, RunError> {
    let mut packets = match PacketFile::open(file, stop) {
        Ok(packets) => Some(packets),
        // Asked to end before anything came.
        Err(_) if stop.is_pulled() => None,
        Err(error) => return Err(error.into()),
    };
    let pipeline = Pipeline::start(config, &observation_points(file), Pace::WaitForSinks, stop)?;
    let mut replay = Replay::new(config, &pipeline);
    let mut fault = None;
    // Once the stop is pulled the file is at its end, after what has been read of it already.
    while let Some(packets) = &mut packets {
        match packets.next(|packet| replay.packet(&packet)) {
            Ok(true) => {}
            Ok(false) => break,
            // A stream that was left in the middle was not cut short by its sender.
            Err(_) if stop.is_pulled() => break,
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    replay.end();
    drop(replay);
    for link in packets.iter().flat_map(PacketFile::unknown_links) {
        warn!("{}: packets of link type {link} are not understood and counted as not_ip", file.display());
    }
    Ok(Replayed { ended: pipeline.finish(stop.has_failed()), fault })
}

/// Interface `n` of the file is observation point `n + 1` and interface index `n + 1`.
fn observation_points(file: &Path) -> Arc<[ObservationPoint]> {
    (0..OBSERVATION_POINTS)
        .map(|interface| ObservationPoint {
            interface,
            name: file.display().to_string(),
            direction: FlowDirection::Ingress,
        })
        .collect()
}

/// The part of a drain worker, with packets of a file.
struct Replay {
    batches: Batches,
    /// What was read since the ledger was last told, by observation point.
    counters: Vec<PointCounters>,
    packets: usize,
    /// The latest time stamp so far: time does not go back.
    now: u64,
    /// When flows are to be expired next.
    next_expiry: u64,
    interval: u64,
}

impl Replay {
    fn new(config: &Config, pipeline: &Pipeline) -> Self {
        Self {
            batches: Batches::new(
                pipeline.shards.clone(),
                pipeline.pool.clone(),
                Arc::clone(&pipeline.ledger),
            ),
            counters: vec![PointCounters::default(); OBSERVATION_POINTS as usize],
            packets: 0,
            now: 0,
            next_expiry: 0,
            interval: config.drain_interval.as_nanos() as u64,
        }
    }

    fn packet(&mut self, packet: &FilePacket<'_>) {
        let time = packet.time.unwrap_or(self.now);
        self.now = self.now.max(time);
        if self.now >= self.next_expiry {
            self.hand_over();
            self.batches.tell(ShardMessage::Expire, self.reading());
            self.next_expiry = (self.now / self.interval + 1) * self.interval;
        }
        // Point 0 is for what has no number, as in live capture.
        let point =
            u16::try_from(packet.interface + 1).ok().filter(|point| u32::from(*point) < OBSERVATION_POINTS);
        let point = point.unwrap_or(0);
        packet.parse(point, PacketSink { replay: self, point, time });
        self.packets += 1;
        if self.packets >= DELTA_BATCH {
            self.hand_over();
        }
    }

    /// Enters what was read in the ledger, then lets it go on.
    fn hand_over(&mut self) {
        let seen: Vec<(u16, PointCounters)> = (0..)
            .zip(&self.counters)
            .filter(|(_, counters)| **counters != PointCounters::default())
            .map(|(point, counters)| (point, *counters))
            .collect();
        self.batches.ledger().seen(&seen);
        self.counters.fill(PointCounters::default());
        self.packets = 0;
        self.batches.send_all();
    }

    fn end(&mut self) {
        self.hand_over();
        self.batches.tell(ShardMessage::Flush, self.reading());
    }

    /// The file's clock is both clocks.
    fn reading(&self) -> Reading {
        Reading { monotonic: self.now, wall: self.now }
    }

    fn seen(&mut self, point: u16, octets: u32) -> Option<&mut PointCounters> {
        let counters = self.counters.get_mut(point as usize)?;
        add(&mut counters.seen, octets);
        Some(counters)
    }

    fn flow(&mut self, key: Ipv6Key, point: u16, facts: PacketFacts, time: u64) {
        self.seen(point, facts.octets);
        self.batches.push(Delta {
            key,
            octets: u64::from(facts.octets),
            packets: 1,
            first: time,
            last: time,
            tcp_control_bits: facts.tcp_control_bits,
        });
    }
}

fn add(count: &mut Count, octets: u32) {
    count.packets += 1;
    count.octets += u64::from(octets);
}

struct PacketSink<'a> {
    replay: &'a mut Replay,
    point: u16,
    time: u64,
}

impl FlowSink for PacketSink<'_> {
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.replay.flow(key.widen(), self.point, facts, self.time);
    }

    fn ipv6(self, key: Ipv6Key, facts: PacketFacts) {
        self.replay.flow(key, self.point, facts, self.time);
    }

    fn unaccounted(self, reason: DropReason, octets: u32) {
        if let Some(counters) = self.replay.seen(self.point, octets) {
            add(&mut counters.dropped[reason as usize], octets);
        }
    }
}
