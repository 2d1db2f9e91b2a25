//! Replay: a capture in a file or stream goes through the pipeline of live capture, by the file's clock.
//!
//! Needs no privileges. Nothing is lost to speed: the file waits for the sinks. The ledger is the same, with
//! the parser in place of the kernel program.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pathflow_common::PacketBytes as _;
use pathflow_common::flow::Origin;
use pathflow_common::layout::OBSERVATION_POINTS;
use pathflow_exporter::{FlowDirection, InterfaceInfo, ObservationContext, SelectorAlgorithm};
use tracing::warn;

use crate::capture::FilterSet;
use crate::capture::pcap::{FilePacket, PacketFile, PcapFileError};
use crate::captures::Shared;
use crate::classify::{Classifier, ClassifyError};
use crate::clock::Reading;
use crate::config::Config;
use crate::enrich::{CurrentSettings, RouteSource};
use crate::error::RunError;
use crate::export::SharedContext;
use crate::interfaces::NameTable;
use crate::metering::batches::{Batches, DELTA_BATCH};
use crate::metering::observation::{ObservationPoint, ObservationPoints};
use crate::metering::packets::PacketMeter;
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
    let routes =
        RouteSource { settings: CurrentSettings::new(config.enrich.clone()), ..RouteSource::default() };
    let pipeline = Pipeline::start(config, &shared(file), Pace::WaitForSinks, &routes, stop)?;
    for kept in pipeline.aggregates.kept().load() {
        warn!("aggregate {}: what it keeps in memory is gone when the replay ends", kept.aggregate());
    }
    let mut replay = Replay::new(config, &pipeline)?;
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
fn shared(file: &Path) -> Shared {
    let name = file.display().to_string();
    let points = ObservationPoints::new(Duration::MAX);
    let mut interfaces = Vec::new();
    for index in 1..OBSERVATION_POINTS {
        // There is room for as many as are counted here.
        let point = ObservationPoint {
            interface: index,
            name: name.clone(),
            direction: FlowDirection::Ingress,
            sampling_interval: 1,
            algorithm: SelectorAlgorithm::Random,
            header_sampling_interval: 0,
            has_link_header: true,
        };
        let _ = points.add(point, |_| false);
        interfaces.push(InterfaceInfo { index, name: name.clone(), description: String::new(), vlan_id: 0 });
    }
    let context = SharedContext::default();
    context.replace(ObservationContext { interfaces, selectors: Vec::new() });
    Shared { points: Arc::new(points), names: NameTable::default(), context }
}

/// The part of a drain worker, with packets of a file.
struct Replay {
    meter: PacketMeter,
    /// Finds applications, if anybody asks.
    classifier: Option<Classifier>,
    filters: FilterSet,
    /// Room for packets without an Ethernet header, so that filters find one.
    imagined: Vec<u8>,
    /// The latest time stamp so far: time does not go back.
    now: u64,
    /// When flows are to be expired next.
    next_expiry: u64,
    interval: u64,
}

impl Replay {
    fn new(config: &Config, pipeline: &Pipeline) -> Result<Self, ClassifyError> {
        let classes = pipeline.classes.clone();
        let classifier = match (config.classify, &classes) {
            (Some(settings), Some(classes)) => {
                Some(Classifier::new(settings, config.keys.clone(), Arc::clone(classes))?)
            }
            _ => None,
        };
        let batches =
            Batches::new(pipeline.shards.clone(), pipeline.pool.clone(), Arc::clone(&pipeline.ledger))
                .with_classes(classes);
        Ok(Self {
            classifier,
            meter: PacketMeter::new(
                batches,
                config.keys.clone(),
                Arc::clone(&pipeline.extensions),
                DELTA_BATCH,
            ),
            filters: config.filters.clone(),
            imagined: Vec::new(),
            now: 0,
            next_expiry: 0,
            interval: config.drain_interval.as_nanos() as u64,
        })
    }

    fn packet(&mut self, packet: &FilePacket<'_>) {
        let time = packet.time.unwrap_or(self.now);
        self.now = self.now.max(time);
        if self.now >= self.next_expiry {
            self.meter.hand_over(self.now);
            self.meter.batches().tell(ShardMessage::Expire, self.reading());
            self.next_expiry = (self.now / self.interval + 1) * self.interval;
        }
        // Point 0 is for what has no number, as in live capture.
        let point =
            u16::try_from(packet.interface + 1).ok().filter(|point| u32::from(*point) < OBSERVATION_POINTS);
        let point = point.unwrap_or(0);
        let mut filter_results = 0;
        if !self.filters.is_empty() {
            let frame = packet.ethernet(&mut self.imagined);
            match self.filters.results(frame, packet.ethernet_length()) {
                Some(results) => filter_results = results,
                None => return self.meter.filtered(point, packet.frame().wire_length()),
            }
        }
        if let (Some(classifier), Ok(link)) = (&mut self.classifier, packet.start()) {
            classifier.packet(packet.frame(), link, time);
        }
        let origin = Origin { observation_point: point, filter_results };
        self.meter.packet(origin, time, packet.neighbour(), packet.frame(), packet.start());
    }

    fn end(&mut self) {
        self.meter.hand_over(u64::MAX);
        self.meter.batches().tell(ShardMessage::Flush, self.reading());
    }

    /// The file's clock is both clocks.
    fn reading(&self) -> Reading {
        Reading { monotonic: self.now, wall: self.now }
    }
}
