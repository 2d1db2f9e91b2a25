//! How fast a collector is sent records.
//!
//! Flows that began together end together, and a collector that is sent a quarter million records within
//! milliseconds drops what its socket has no room for, which nobody here would ever know.

use std::time::{Duration, Instant};

/// How many times as fast urgent records are sent.
const URGENCY: f64 = 10.0;

/// Spreads batches of records over time.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    records_per_second: u32,
    /// When the next batch is due.
    next: Option<Instant>,
}

impl Pacer {
    /// At most this many records in a second, and ten times as many that are urgent; not 0.
    #[must_use]
    pub const fn new(records_per_second: u32) -> Self {
        Self { records_per_second, next: None }
    }

    /// How long to wait from `now` before `records` are sent; `is_urgent` if they must not wait for long.
    #[must_use]
    pub fn delay(&mut self, now: Instant, records: usize, is_urgent: bool) -> Duration {
        // What was not used in quiet times is not saved up.
        let due = self.next.map_or(now, |next| next.max(now));
        let haste = if is_urgent { URGENCY } else { 1.0 };
        let rate = f64::from(self.records_per_second.max(1)) * haste;
        self.next = Some(due + Duration::from_secs_f64(records as f64 / rate));
        due - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_spread_urgent_ones_less_and_quiet_times_not_saved_up() {
        let mut pacer = Pacer::new(1000);
        let start = Instant::now();
        let milliseconds = Duration::from_millis;
        assert_eq!(pacer.delay(start, 100, false), Duration::ZERO);
        assert_eq!(pacer.delay(start, 50, false), milliseconds(100));
        assert_eq!(pacer.delay(start + milliseconds(120), 50, false), milliseconds(30));
        let later = start + Duration::from_mins(1);
        assert_eq!(pacer.delay(later, 500, false), Duration::ZERO);
        assert_eq!(pacer.delay(later, 100, true), milliseconds(500));
        assert_eq!(pacer.delay(later, 1, false), milliseconds(510));
    }
}
