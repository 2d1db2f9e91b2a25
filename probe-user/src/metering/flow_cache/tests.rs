//! Tests of the flow cache: each end reason by itself, and conservation against a slow model.

use std::collections::BTreeMap;

use pathflow_common::flow::{Encapsulation, Ipv4Key, KeyFields};
use proptest::prelude::*;

use super::*;
use crate::classify::Class;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// The wheel looks at flows in steps of 67 ms.
const STEP: u64 = 70 * MILLISECOND;

const TIMEOUTS: Timeouts = Timeouts {
    active: Duration::from_mins(1),
    idle: Duration::from_secs(15),
    tcp_end: Duration::from_secs(2),
};

fn key(number: u32) -> WideKey {
    let fields = KeyFields { observation_point: 1, protocol: 6, ..KeyFields::default() };
    let [a, b, c, d] = number.to_be_bytes();
    Ipv4Key::new(fields, [a, b, c, d, 192, 0, 2, 1]).widen(Encapsulation::NONE)
}

fn delta(number: u32, first: u64, last: u64, packets: u64, tcp_control_bits: u16) -> Delta {
    Delta {
        key: key(number),
        octets: packets * 100,
        packets,
        first,
        last,
        tcp_control_bits,
        other_interface: 0,
        next_hop: None,
        neighbour: MacAddress::UNKNOWN,
        class: Class::UNKNOWN,
    }
}

fn expire_all(cache: &mut FlowCache, now: u64) -> Vec<(Flow, FlowEndReason)> {
    std::iter::from_fn(|| cache.expire(now)).collect()
}

#[test]
fn a_silent_flow_ends_by_idle_timeout_and_not_before() {
    let mut cache = FlowCache::new(TIMEOUTS, 10);
    cache.merge(&delta(1, SECOND, 2 * SECOND, 3, 0x10));
    assert_eq!(expire_all(&mut cache, 17 * SECOND - 1), []);
    let ended = expire_all(&mut cache, 17 * SECOND + STEP);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].1, FlowEndReason::IdleTimeout);
    assert_eq!((ended[0].0.packets, ended[0].0.octets), (3, 300));
    assert_eq!((ended[0].0.first, ended[0].0.last), (SECOND, 2 * SECOND));
    assert!(cache.is_empty());
}

#[test]
fn a_flow_that_goes_on_is_reported_in_parts() {
    let mut cache = FlowCache::new(TIMEOUTS, 10);
    let mut parts = Vec::new();
    for second in 1..=150 {
        cache.merge(&delta(1, second * SECOND, second * SECOND, 1, 0x10));
        parts.extend(expire_all(&mut cache, second * SECOND + 1));
    }
    parts.extend(expire_all(&mut cache, 200 * SECOND));
    let reasons: Vec<FlowEndReason> = parts.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(
        reasons,
        [FlowEndReason::ActiveTimeout, FlowEndReason::ActiveTimeout, FlowEndReason::IdleTimeout]
    );
    assert_eq!(parts.iter().map(|(flow, _)| flow.packets).sum::<u64>(), 150);
    for (flow, _) in &parts[..2] {
        let length = flow.last - flow.first;
        assert!((59 * SECOND..=61 * SECOND).contains(&length), "{length}");
    }
}

#[test]
fn tcp_fin_and_rst_end_a_flow_soon_but_keep_what_follows() {
    for flag in [0x01, 0x04] {
        let mut cache = FlowCache::new(TIMEOUTS, 10);
        cache.merge(&delta(1, SECOND, SECOND, 1, 0x02));
        cache.merge(&delta(1, 2 * SECOND, 2 * SECOND, 1, flag));
        // The acknowledgement of the FIN, a second later.
        cache.merge(&delta(1, 3 * SECOND, 3 * SECOND, 1, 0x10));
        assert_eq!(expire_all(&mut cache, 5 * SECOND - 1), []);
        let ended = expire_all(&mut cache, 5 * SECOND + STEP);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].1, FlowEndReason::EndOfFlow);
        assert_eq!(ended[0].0.packets, 3);
        assert_eq!(ended[0].0.tcp_control_bits, 0x12 | flag);
    }
}

#[test]
fn the_flow_nearest_to_its_end_is_evicted() {
    let mut cache = FlowCache::new(TIMEOUTS, 2);
    assert_eq!(cache.merge(&delta(1, 5 * SECOND, 5 * SECOND, 1, 0)), None);
    assert_eq!(cache.merge(&delta(2, SECOND, SECOND, 1, 0)), None);
    let evicted = cache.merge(&delta(3, 6 * SECOND, 6 * SECOND, 1, 0)).unwrap();
    assert_eq!(evicted.key, key(2));
    assert_eq!(cache.len(), 2);
}

/// With a wheel that starts at 0, this would take hours.
#[test]
fn a_long_uptime_costs_nothing() {
    let uptime = 100 * 365 * 86_400 * SECOND;
    let mut cache = FlowCache::new(TIMEOUTS, 100_000);
    for number in 0..100_000 {
        cache.merge(&delta(number, uptime, uptime, 1, 0));
    }
    assert_eq!(expire_all(&mut cache, uptime + 15 * SECOND + STEP).len(), 100_000);
}

#[test]
fn timeouts_beyond_the_wheel_are_kept() {
    let timeouts = Timeouts { active: Duration::from_hours(2), idle: Duration::from_hours(1), ..TIMEOUTS };
    let mut cache = FlowCache::new(timeouts, 10);
    cache.merge(&delta(1, 0, 0, 1, 0));
    for minute in 1..60 {
        assert_eq!(expire_all(&mut cache, minute * 60 * SECOND), [], "minute {minute}");
    }
    assert_eq!(expire_all(&mut cache, 3600 * SECOND + STEP).len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Merge { number: u32, age: u64, packets: u64, tcp_control_bits: u16 },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let bits = prop_oneof![8 => Just(0x10u16), 1 => Just(0x11u16), 1 => Just(0x04u16)];
    prop_oneof![
        3 => (0..12u32, 0..SECOND, 1..100u64, bits).prop_map(|(number, age, packets, tcp_control_bits)| {
            Step::Merge { number, age, packets, tcp_control_bits }
        }),
        1 => (0..20 * SECOND).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens, what went in is in the cache or came out once, and nothing ends before its time
    /// or stays long after it.
    #[test]
    fn packets_are_conserved_and_ends_are_right(steps in prop::collection::vec(step(), 1..300), limit in 1..16u32) {
        let mut cache = FlowCache::new(TIMEOUTS, limit);
        let mut model: BTreeMap<u32, Flow> = BTreeMap::new();
        let mut now = 1000 * SECOND;
        let number_of = |flow: &Flow| match flow.key.addresses() {
            pathflow_common::flow::Addresses::Ipv4(source, _) => u32::from_be_bytes(source),
            pathflow_common::flow::Addresses::Ipv6(..) => unreachable!("only IPv4 keys go in"),
        };
        for step in steps {
            match step {
                Step::Merge { number, age, packets, tcp_control_bits } => {
                    let delta = delta(number, now - age, now, packets, tcp_control_bits);
                    if let Some(evicted) = cache.merge(&delta) {
                        prop_assert_eq!(model.remove(&number_of(&evicted)), Some(evicted));
                    }
                    model.entry(number).and_modify(|flow| flow.add(&delta)).or_insert_with(|| Flow::from(&delta));
                }
                Step::Pass(time) => {
                    now += time;
                    while let Some((flow, reason)) = cache.expire(now) {
                        prop_assert_eq!(model.remove(&number_of(&flow)), Some(flow));
                        let silent = now - flow.last;
                        let due = match reason {
                            FlowEndReason::IdleTimeout => silent >= 15 * SECOND,
                            FlowEndReason::EndOfFlow => silent >= 2 * SECOND && flow.tcp_control_bits & 5 != 0,
                            FlowEndReason::ActiveTimeout => now - flow.first >= 60 * SECOND,
                            FlowEndReason::ForcedEnd | FlowEndReason::LackOfResources => false,
                        };
                        prop_assert!(due, "{:?} {:?}", reason, flow);
                    }
                    for flow in model.values() {
                        prop_assert!(now - flow.last < 15 * SECOND + STEP);
                        prop_assert!(now - flow.first < 60 * SECOND + STEP);
                    }
                }
            }
            prop_assert_eq!(cache.len(), model.len());
            prop_assert!(cache.len() <= limit as usize);
        }
        while let Some(flow) = cache.flush() {
            prop_assert_eq!(model.remove(&number_of(&flow)), Some(flow));
        }
        prop_assert!(model.is_empty());
    }
}

/// In groups that have the same flow twice, and flows that the group before them evicted.
#[test]
fn what_is_read_ahead_is_merged_as_anything_else() {
    const FLOWS: u32 = 3 * NEAR_FLOWS as u32;
    let mut cache = FlowCache::new(TIMEOUTS, FLOWS / 2);
    let (mut packets, mut evicted) = (BTreeMap::new(), 0);
    // 7919 is prime: they come in another order than they lie in.
    let numbers: Vec<u32> = (0..4 * FLOWS).map(|turn| turn.wrapping_mul(7919) % FLOWS / 3 * 2).collect();
    for group in numbers.chunks(16) {
        let hashes: Vec<KeyHash> = group.iter().map(|number| cache.hash(&key(*number))).collect();
        cache.read_ahead(hashes.iter().copied());
        for (number, hash) in group.iter().zip(hashes) {
            *packets.entry(*number).or_insert(0) += 1;
            if let Some(flow) = cache.merge_hashed(&delta(*number, SECOND, SECOND, 1, 0), hash) {
                evicted += 1;
                count_down(&mut packets, &flow);
            }
        }
    }
    assert!(evicted == 0 && cache.len() == FLOWS as usize / 3);
    for number in FLOWS..2 * FLOWS {
        packets.insert(number, 1);
        let hash = cache.hash(&key(number));
        cache.read_ahead([hash].into_iter());
        if let Some(flow) = cache.merge_hashed(&delta(number, SECOND, SECOND, 1, 0), hash) {
            evicted += 1;
            count_down(&mut packets, &flow);
        }
    }
    assert_eq!(evicted, FLOWS as usize / 3 + FLOWS as usize - FLOWS as usize / 2);
    while let Some(flow) = cache.flush() {
        count_down(&mut packets, &flow);
    }
    assert!(packets.is_empty(), "{} flows did not come out", packets.len());
}

fn count_down(packets: &mut BTreeMap<u32, u64>, flow: &Flow) {
    let pathflow_common::flow::Addresses::Ipv4(source, _) = flow.key.addresses() else {
        unreachable!("only IPv4 keys go in")
    };
    assert_eq!(packets.remove(&u32::from_be_bytes(source)), Some(flow.packets));
}
