//! Which partition of its topic a message is for.
//!
//! As librdkafka's `consistent_random`, with one difference: a message without a key is never for a partition that has no
//! leader while there is another one. librdkafka tries twice and then takes any; what it takes for such a partition it keeps
//! until there is a leader again, and in time the producer's window would be full of it. A message with a key is always for
//! the partition of its key: what has the same key stays in order.

use std::time::{Duration, Instant};

use rdkafka::producer::Partitioner;

/// Partitions that are drawn before they are looked at one after the other.
const DRAWS: u64 = 4;

/// Messages without a key that come within a time are for one partition, so that batches are large.
#[derive(Clone, Debug)]
pub(super) struct Available {
    start: Instant,
    together: Duration,
}

impl Available {
    pub(super) fn new(together: Duration) -> Self {
        Self { start: Instant::now(), together: together.max(Duration::from_millis(1)) }
    }
}

impl Partitioner for Available {
    fn partition(
        &self,
        _topic: &str,
        key: Option<&[u8]>,
        partitions: i32,
        is_available: impl Fn(i32) -> bool,
    ) -> i32 {
        match key {
            Some(key) if !key.is_empty() => of_key(key, partitions),
            _ => {
                let turn = self.start.elapsed().as_nanos() / self.together.as_nanos();
                of_turn(turn as u64, partitions, is_available)
            }
        }
    }
}

/// That of librdkafka's `consistent` and `consistent_random`: CRC-32 of the key.
fn of_key(key: &[u8], partitions: i32) -> i32 {
    (crc32fast::hash(key) % partitions.max(1).unsigned_abs()) as i32
}

/// Any that is available; if none is, any.
fn of_turn(turn: u64, partitions: i32, is_available: impl Fn(i32) -> bool) -> i32 {
    let count = partitions.max(1).unsigned_abs();
    let draw = |number: u64| (mixed(turn.wrapping_mul(DRAWS).wrapping_add(number)) % u64::from(count)) as i32;
    let first = draw(0);
    let in_row = (0..count).map(|place| ((first.unsigned_abs() + place) % count) as i32);
    (0..DRAWS).map(draw).chain(in_row).find(|partition| is_available(*partition)).unwrap_or(first)
}

/// `SplitMix64`: numbers that follow each other become as different as any.
const fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hashed_by_the_usual_crc() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(of_key(b"123456789", i32::MAX), (0xcbf4_3926_u32 % i32::MAX.unsigned_abs()) as i32);
        assert_eq!(of_key(b"", 7), 0);
    }

    #[test]
    fn what_has_no_key_is_for_any_partition_that_is_available() {
        for lost in 0..3 {
            let mut counts = [0_u32; 3];
            for turn in 0..3000 {
                counts[of_turn(turn, 3, |partition| partition != lost).unsigned_abs() as usize] += 1;
            }
            let shares = counts.iter().enumerate();
            for (partition, count) in shares {
                let expected = if partition as i32 == lost { 0..1 } else { 1300..1700 };
                assert!(expected.contains(count), "{counts:?}");
            }
        }
        // Far from those that are drawn, and where there is none.
        assert!((0..100).all(|turn| of_turn(turn, 1000, |partition| partition == 7) == 7));
        assert!((0..100).all(|turn| (0..3).contains(&of_turn(turn, 3, |_| false))));
        assert_eq!(of_turn(1, 0, |_| false), 0);
    }
}
