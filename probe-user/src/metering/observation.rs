//! Observation points: interfaces in one direction, by the number that the kernel program puts into keys.
//!
//! They come and go while packets are counted: interfaces appear, disappear and are renamed, and a new
//! sampling interval makes a new point, so that no flow mixes packets of two intervals. A number is used again
//! only for the same interface name and direction, so that counters of one number always mean one thing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use pathflow_common::layout::OBSERVATION_POINTS;
use pathflow_exporter::{FlowDirection, SelectorAlgorithm};

/// Where packets are seen: an interface in one direction (RFC 7011 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationPoint {
    /// The kernel's interface index; 0 for packets of an interface that was not registered.
    pub interface: u32,
    /// Interface name.
    pub name: String,
    /// Direction.
    pub direction: FlowDirection,
    /// One in this many packets is accounted; 1 = every packet.
    pub sampling_interval: u32,
    /// How they are chosen.
    pub algorithm: SelectorAlgorithm,
    /// One packet in this many has its header sampled; 0 = none.
    pub header_sampling_interval: u32,
    /// Whether packets begin with an Ethernet header.
    pub has_link_header: bool,
}

impl ObservationPoint {
    /// For packets of an interface that was not registered.
    fn unregistered() -> Self {
        Self {
            interface: 0,
            name: "unregistered".to_owned(),
            direction: FlowDirection::Ingress,
            sampling_interval: 1,
            algorithm: SelectorAlgorithm::Random,
            header_sampling_interval: 0,
            has_link_header: true,
        }
    }
}

/// All points at one moment, by number.
#[derive(Clone, Debug, Default)]
pub struct PointTable {
    points: Vec<ObservationPoint>,
    /// When a point was retired; `None` while it is in use.
    retired: Vec<Option<Instant>>,
}

impl PointTable {
    /// Point `number`, if there is one.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<&ObservationPoint> {
        self.points.get(number as usize)
    }

    /// All points in the order of their numbers, from 0.
    #[must_use]
    pub fn points(&self) -> &[ObservationPoint] {
        &self.points
    }

    /// Points in use, with their numbers.
    pub fn in_use(&self) -> impl Iterator<Item = (u16, &ObservationPoint)> {
        (0..)
            .zip(&self.points)
            .zip(&self.retired)
            .filter(|((number, _), retired)| *number > 0 && retired.is_none())
            .map(|(numbered, _)| numbered)
    }

    /// Points of which not every packet is accounted, with their numbers, whether or not they are in use:
    /// records of a retired point may be on their way.
    pub fn sampled(&self) -> impl Iterator<Item = (u16, &ObservationPoint)> {
        (0..).zip(&self.points).filter(|(_, point)| point.sampling_interval > 1)
    }
}

/// The points, shared. Readers take a copy of a pointer, per batch and never per packet.
#[derive(Debug)]
pub struct ObservationPoints {
    table: RwLock<Arc<PointTable>>,
    /// How long packets of a retired point may still be on their way to the accounts.
    quarantine: Duration,
}

impl ObservationPoints {
    /// Point 0 alone. A packet of a retired point is in the accounts after `quarantine`.
    #[must_use]
    pub fn new(quarantine: Duration) -> Self {
        let table = PointTable { points: vec![ObservationPoint::unregistered()], retired: vec![None] };
        Self { table: RwLock::new(Arc::new(table)), quarantine }
    }

    /// All points at this moment.
    #[must_use]
    pub fn table(&self) -> Arc<PointTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives `point` a number; `None` if all are in use. `is_gone` says of the number of a retired point whether no flow has
    /// it any more: while routes are waited for, or every sink is full, flows stay for longer than any timeout.
    #[must_use]
    pub fn add(&self, point: ObservationPoint, is_gone: impl Fn(u16) -> bool) -> Option<u16> {
        self.change(|table| {
            let again = (1..table.points.len()).find(|number| {
                let old = &table.points[*number];
                table.retired[*number].is_some_and(|since| since.elapsed() >= self.quarantine)
                    && (&old.name, old.direction) == (&point.name, point.direction)
                    && u16::try_from(*number).is_ok_and(&is_gone)
            });
            if let Some(number) = again {
                table.points[number] = point;
                table.retired[number] = None;
                return u16::try_from(number).ok();
            }
            let number = table.points.len();
            if number >= OBSERVATION_POINTS as usize {
                return None;
            }
            table.points.push(point);
            table.retired.push(None);
            u16::try_from(number).ok()
        })
    }

    /// No more packets come from point `number`. Records of its flows are still made.
    pub fn retire(&self, number: u16) {
        self.change(|table| {
            if let Some(retired) = table.retired.get_mut(number as usize) {
                *retired = Some(Instant::now());
            }
        });
    }

    /// The interface of point `number` has this name now.
    pub fn rename(&self, number: u16, name: &str) {
        self.change(|table| {
            if let Some(point) = table.points.get_mut(number as usize) {
                name.clone_into(&mut point.name);
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut PointTable) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut table))
    }
}

#[cfg(test)]
mod tests {
    use pathflow_common::layout::{Count, PointCounters};
    use pathflow_exporter::FlowRecord;

    use super::*;
    use crate::ledger::{Ledger, PointAmounts, RecordsMade};

    fn point(name: &str, interface: u32) -> ObservationPoint {
        ObservationPoint { interface, name: name.to_owned(), ..ObservationPoint::unregistered() }
    }

    /// No flow is anywhere.
    fn add(points: &ObservationPoints, point: ObservationPoint) -> Option<u16> {
        points.add(point, |_| true)
    }

    #[test]
    fn a_number_is_used_again_only_for_the_same_interface_and_after_its_flows_are_gone() {
        let points = ObservationPoints::new(Duration::ZERO);
        assert_eq!(add(&points, point("eth0", 3)), Some(1));
        assert_eq!(add(&points, point("eth1", 4)), Some(2));
        points.retire(1);
        assert_eq!(add(&points, point("eth2", 5)), Some(3));
        assert_eq!(add(&points, point("eth0", 9)), Some(1));
        assert_eq!(points.table().get(1).unwrap().interface, 9);
        assert_eq!(points.table().in_use().map(|(number, _)| number).collect::<Vec<_>>(), [1, 2, 3]);

        let points = ObservationPoints::new(Duration::from_hours(1));
        assert_eq!(add(&points, point("eth0", 3)), Some(1));
        points.retire(1);
        assert_eq!(add(&points, point("eth0", 3)), Some(2));
        assert_eq!(points.table().get(1).unwrap().name, "eth0");
    }

    #[test]
    fn a_number_that_flows_have_is_not_used_again() {
        let points = ObservationPoints::new(Duration::ZERO);
        let ledger = Ledger::new([]);
        let add = |interface| points.add(point("eth0", interface), |number| ledger.has_no_flow(number));
        assert_eq!(add(3), Some(1));
        points.retire(1);
        let seen = Count { packets: 5, octets: 500 };
        let amounts = || {
            let mut amounts = PointAmounts::new();
            amounts.add(1, seen.into());
            amounts
        };
        ledger.seen_in_tables(&[(1, PointCounters { seen, ..PointCounters::default() })]);
        assert_eq!(add(4), Some(2));
        ledger.drained(&amounts());
        assert_eq!(add(5), Some(3));
        ledger.merged(&amounts());
        assert_eq!(add(6), Some(4));
        let mut made = RecordsMade::default();
        made.add(
            1,
            &FlowRecord {
                packet_delta_count: seen.packets,
                octet_delta_count: seen.octets,
                ..FlowRecord::between([192, 0, 2, 1].into(), [192, 0, 2, 2].into())
            },
        );
        ledger.recorded(&made, |_| Some(true));
        assert_eq!(add(7), Some(1));
    }

    #[test]
    fn numbers_are_bounded() {
        let points = ObservationPoints::new(Duration::ZERO);
        for interface in 1..OBSERVATION_POINTS {
            assert!(add(&points, point(&format!("eth{interface}"), interface)).is_some());
        }
        assert_eq!(add(&points, point("one too many", 1)), None);
    }
}
