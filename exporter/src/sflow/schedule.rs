//! When counters are sent: each interface once in an interval, and not all at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

/// Decides which interfaces' counters are due. Each has a place in the interval of its own, so that a router with
/// many interfaces sends a few at a time.
#[derive(Clone, Debug)]
pub struct CounterSchedule {
    interval: Duration,
    /// When each interface is due next, by ifIndex.
    next: BTreeMap<u32, Duration>,
    /// Interfaces seen so far.
    seen: u32,
}

impl CounterSchedule {
    /// Every `interval`; zero counts as one millisecond.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval: interval.max(Duration::from_millis(1)), next: BTreeMap::new(), seen: 0 }
    }

    /// Whether the interface with this ifIndex is due at `now`; then it is due again an interval later. An
    /// interface that is new is due for the first time within the first interval.
    pub fn is_due(&mut self, now: Duration, index: u32) -> bool {
        let Some(at) = self.next.get_mut(&index) else {
            // Each number's bits in reverse: the places fill the interval evenly, however many there are.
            let place = f64::from(self.seen.reverse_bits()) / (f64::from(u32::MAX) + 1.0);
            let is_first = self.seen == 0;
            self.seen = self.seen.wrapping_add(1);
            let first = now + self.interval.mul_f64(place);
            self.next.insert(index, if is_first { now + self.interval } else { first });
            return is_first;
        };
        if *at > now {
            return false;
        }
        // Times that were missed are not made up for.
        let missed = now.saturating_sub(*at).as_nanos() / self.interval.as_nanos();
        *at += self.interval * (missed + 1).min(u128::from(u32::MAX)) as u32;
        true
    }

    /// Forgets all interfaces but those with an ifIndex that `is_there`.
    pub fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.next.retain(|index, _| is_there(*index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interface_is_due_once_in_an_interval_at_a_time_of_its_own() {
        let mut schedule = CounterSchedule::new(Duration::from_secs(20));
        let mut times: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        let mut most = 0;
        for second in 0..100 {
            let due: Vec<u32> =
                (1..=40).filter(|index| schedule.is_due(Duration::from_secs(second), *index)).collect();
            most = most.max(due.len());
            for index in due {
                times.entry(index).or_default().push(second);
            }
        }
        assert!(most <= 4, "{most} at a time");
        for (index, times) in times {
            assert!(times[0] <= 20 && times[times.len() - 1] >= 80, "{index}: {times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 20), "{index}: {times:?}");
        }
    }

    #[test]
    fn what_was_missed_is_not_made_up_for_and_what_is_gone_is_forgotten() {
        let mut schedule = CounterSchedule::new(Duration::from_secs(20));
        assert!(schedule.is_due(Duration::ZERO, 7));
        assert!(schedule.is_due(Duration::from_secs(70), 7));
        assert!(!schedule.is_due(Duration::from_secs(79), 7));
        assert!(schedule.is_due(Duration::from_secs(80), 7));
        schedule.retain(|index| index != 7);
        // As new, it has another place in the interval than the first one.
        assert!(!schedule.is_due(Duration::from_secs(1000), 7));
        assert!(schedule.is_due(Duration::from_secs(1010), 7));
    }
}
