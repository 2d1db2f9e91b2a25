//! Sampling of packets that are in records already: an export of its own interval, from the same flow cache.
//!
//! Systematic count-based sampling (RFC 5475, section 5.1) from a random start, where the packets of each record follow
//! those of the record before: every N-th of them is selected. So each packet is selected with the probability 1/N, and of
//! a record of n packets, n/N are, rounded up or down. Its octets are reduced by as much as its packets, and what rounding
//! takes from one record the next one gets. Multiplied by N, packets and octets are therefore right on average, and never
//! more than one interval away in the sum.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;

use pathflow_exporter::{FlowDirection, FlowRecord, ObservationContext, Selector, SelectorAlgorithm};

use crate::ledger::Amount;

/// Selector of records that were not sampled before. Observation Points are numbered from 1 and are few.
const SELECTOR_ID: u16 = u16::MAX;

/// Bits behind the point of a number of octets.
const FRACTION_BITS: u32 = 32;

/// What an export with an interval of its own selects.
#[derive(Debug)]
pub struct RecordSampling {
    interval: NonZeroU32,
    /// Packets up to the next one that is selected, which is one of them.
    until_next: u64,
    /// Octets that rounding has left, as a fraction of 2^32.
    octets_left: u64,
}

impl RecordSampling {
    /// One packet in `interval`; `None` if that is every packet.
    #[must_use]
    pub fn new(interval: NonZeroU32) -> Option<Self> {
        let start = RandomState::new().build_hasher().finish() % u64::from(interval.get());
        (interval.get() > 1).then_some(Self { interval, until_next: start + 1, octets_left: 0 })
    }

    /// `record` with the packets that are selected of it, if there are any. It says how many it stands for.
    pub fn sample(&mut self, record: &FlowRecord) -> Option<FlowRecord> {
        let all = Amount { packets: record.packet_delta_count, octets: record.octet_delta_count };
        let Amount { packets, octets } = self.sample_amount(all);
        if packets == 0 {
            return None;
        }
        Some(FlowRecord {
            packet_delta_count: packets,
            octet_delta_count: octets,
            sampling_interval: self.multiplied(record.sampling_interval),
            selector_id: if record.selector_id == 0 { SELECTOR_ID } else { record.selector_id },
            ..record.clone()
        })
    }

    /// What is selected of an amount; no octets if it is no packet.
    pub fn sample_amount(&mut self, amount: Amount) -> Amount {
        match self.select(amount.packets) {
            0 => Amount::default(),
            packets => Amount { packets, octets: self.share(amount.octets, packets, amount.packets) },
        }
    }

    /// What collectors are told: the sampling of the capture and this one together, as one.
    #[must_use]
    pub fn context(&self, context: &ObservationContext) -> Arc<ObservationContext> {
        let multiplied =
            |selector: &Selector| Selector { interval: self.multiplied(selector.interval), ..*selector };
        let own = Selector {
            id: SELECTOR_ID,
            // Of every interface.
            interface: 0,
            direction: FlowDirection::Ingress,
            algorithm: SelectorAlgorithm::Systematic,
            interval: self.interval.get(),
        };
        Arc::new(ObservationContext {
            interfaces: context.interfaces.clone(),
            selectors: context.selectors.iter().map(multiplied).chain([own]).collect(),
        })
    }

    /// How many of the next `packets` are selected.
    fn select(&mut self, packets: u64) -> u64 {
        let Some(after) = packets.checked_sub(self.until_next) else {
            self.until_next -= packets;
            return 0;
        };
        let interval = u64::from(self.interval.get());
        self.until_next = interval - after % interval;
        1 + after / interval
    }

    /// The octets of `selected` of `packets` packets that have `octets` together.
    fn share(&mut self, octets: u64, selected: u64, packets: u64) -> u64 {
        // Below 2^128, as `selected` is at most `packets` and a packet has less than 2^32 octets.
        let product = u128::from(octets) * u128::from(selected);
        let packets = u128::from(packets.max(1));
        let whole = product / packets;
        let fraction = ((product % packets) << FRACTION_BITS) / packets;
        let fraction = fraction as u64 + self.octets_left;
        self.octets_left = fraction & ((1 << FRACTION_BITS) - 1);
        whole as u64 + (fraction >> FRACTION_BITS)
    }

    fn multiplied(&self, interval: u32) -> u32 {
        interval.max(1).saturating_mul(self.interval.get())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn record(packets: u64, octets: u64) -> FlowRecord {
        FlowRecord {
            packet_delta_count: packets,
            octet_delta_count: octets,
            ..FlowRecord::between(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]))
        }
    }

    fn sampling(interval: u32, start: u64) -> RecordSampling {
        RecordSampling {
            until_next: start + 1,
            ..RecordSampling::new(NonZeroU32::new(interval).unwrap()).unwrap()
        }
    }

    /// From every start, against a model that looks at each packet.
    #[test]
    fn every_nth_packet_is_selected() {
        let sizes = [1, 1, 3, 7, 8, 1, 20, 6, 7, 14, 2, 1, 1, 1, 700, 5];
        for start in 0..7 {
            let mut sampling = sampling(7, start);
            let mut number = 0;
            for packets in sizes {
                let selected = (0..packets).filter(|packet| (number + packet) % 7 == start).count() as u64;
                number += packets;
                let sampled = sampling.sample(&record(packets, packets * 100));
                assert_eq!(sampled.as_ref().map_or(0, |record| record.packet_delta_count), selected);
                assert_eq!(sampled.as_ref().map_or(0, |record| record.octet_delta_count), selected * 100);
                assert!(sampled.is_none_or(|record| record.sampling_interval == 7));
            }
        }
    }

    /// Over all starts, the sum is exact.
    #[test]
    fn multiplied_it_is_right_on_average() {
        let records: Vec<FlowRecord> = (1..300)
            .map(|number| record(number % 37 + 1, (number % 37 + 1) * (64 + number * 13 % 1400) + number % 5))
            .collect();
        let total = |records: &[FlowRecord]| {
            let sum = |of: fn(&FlowRecord) -> u64| records.iter().map(of).sum::<u64>();
            [sum(|record| record.packet_delta_count), sum(|record| record.octet_delta_count)]
        };
        let mut sums = [0, 0];
        for start in 0..10 {
            let mut sampling = sampling(10, start);
            let sampled: Vec<FlowRecord> =
                records.iter().filter_map(|record| sampling.sample(record)).collect();
            let [packets, octets] = total(&sampled);
            assert!((packets * 10).abs_diff(total(&records)[0]) <= 10);
            sums = [sums[0] + packets, sums[1] + octets];
        }
        let [packets, octets] = total(&records);
        assert_eq!(sums[0], packets);
        assert!(sums[1].abs_diff(octets) <= 10, "{} instead of {octets}", sums[1]);
    }

    #[test]
    fn intervals_are_told_as_one() {
        assert!(RecordSampling::new(NonZeroU32::MIN).is_none());
        let mut every_tenth = sampling(10, 0);
        let sampled_before = FlowRecord { sampling_interval: 100, selector_id: 3, ..record(20, 2000) };
        let sampled = every_tenth.sample(&sampled_before).unwrap();
        assert_eq!((sampled.sampling_interval, sampled.selector_id), (1000, 3));
        let sampled = every_tenth.sample(&record(10, 1000)).unwrap();
        let selector = |id, interval, algorithm| Selector {
            id,
            interface: 0,
            direction: FlowDirection::Ingress,
            algorithm,
            interval,
        };
        let context = ObservationContext {
            interfaces: Vec::new(),
            selectors: vec![selector(3, 100, SelectorAlgorithm::Random)],
        };
        let own = selector(sampled.selector_id, 10, SelectorAlgorithm::Systematic);
        let told = [selector(3, 1000, SelectorAlgorithm::Random), own];
        assert_eq!(every_tenth.context(&context).selectors, told);
    }

    #[test]
    fn the_largest_counters_do_not_overflow() {
        let mut sampling = sampling(2, 0);
        let sampled = sampling.sample(&record(u64::MAX, u64::MAX)).unwrap();
        assert_eq!(sampled.packet_delta_count, 1 << 63);
        assert_eq!(sampled.octet_delta_count, 1 << 63);
    }
}
