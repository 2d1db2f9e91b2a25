//! Time: the kernel's monotonic clock and the wall clock, converted in this one place.
//!
//! Everything inside pathflow is in nanoseconds of the monotonic clock that the kernel program sees. Wall
//! time is made only when a record leaves, with the offset read at that moment: after a step of the wall
//! clock, records are on the new time at once, and no duration ever changes.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// Two readings of a clock so many nanoseconds apart are as good as one: no record says times any finer.
const NEAR: u64 = 1000;
/// How often both clocks are read at most.
const READINGS: usize = 4;

/// Reads the clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What a time namespace adds to the monotonic clock of this process, in nanoseconds. The kernel
    /// program sees the clock without it.
    namespace_offset: i64,
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The kernel's `CLOCK_MONOTONIC`, in nanoseconds.
    pub monotonic: u64,
    /// Wall time since the Unix epoch, in nanoseconds.
    pub wall: u64,
}

impl Clock {
    /// A clock for this process.
    #[must_use]
    pub fn new() -> Self {
        let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        Self { namespace_offset: namespace_offset(&offsets) }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn read(&self) -> Reading {
        let mut nearest = (u64::MAX, Reading { monotonic: 0, wall: 0 });
        // A thread that has to wait between the two is as far off: it tries again, and has most likely its turn.
        for _ in 0..READINGS {
            let before = nanoseconds(ClockId::Monotonic);
            let wall = nanoseconds(ClockId::Realtime);
            let apart = nanoseconds(ClockId::Monotonic).saturating_sub(before);
            if apart < nearest.0 {
                let monotonic = (before + apart / 2).saturating_sub_signed(self.namespace_offset);
                nearest = (apart, Reading { monotonic, wall });
            }
            if apart <= NEAR {
                break;
            }
        }
        nearest.1
    }

    /// Nanoseconds from one tick of the kernel's counter (jiffy) to the next.
    #[must_use]
    pub fn tick_nanoseconds() -> u64 {
        // The coarse clock advances once per tick, so its resolution is the tick.
        let tick = clock_getres(ClockId::MonotonicCoarse);
        (tick.tv_sec as u64 * 1_000_000_000 + tick.tv_nsec as u64).max(1)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Reading {
    /// Milliseconds since the Unix epoch at `monotonic` nanoseconds, by the wall clock of this reading.
    #[must_use]
    pub fn unix_milliseconds(&self, monotonic: u64) -> u64 {
        self.unix_nanoseconds(monotonic) / 1_000_000
    }

    /// Microseconds since the Unix epoch, likewise.
    #[must_use]
    pub fn unix_microseconds(&self, monotonic: u64) -> u64 {
        self.unix_nanoseconds(monotonic) / 1_000
    }

    fn unix_nanoseconds(&self, monotonic: u64) -> u64 {
        // Whatever a capture file says: the result stays in range.
        let wall = i128::from(self.wall) + i128::from(monotonic) - i128::from(self.monotonic);
        u64::try_from(wall.max(0)).unwrap_or(u64::MAX)
    }

    /// How long until the wall clock shows the next multiple of `interval`.
    #[must_use]
    pub fn until_multiple_of(&self, interval: Duration) -> Duration {
        let interval = (interval.as_nanos() as u64).max(1);
        Duration::from_nanos(interval - self.wall % interval)
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The `monotonic` line of `/proc/PID/timens_offsets` (`time_namespaces(7)`), in nanoseconds.
fn namespace_offset(offsets: &str) -> i64 {
    offsets
        .lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            if words.next() != Some("monotonic") {
                return None;
            }
            let seconds: i64 = words.next()?.parse().ok()?;
            let nanoseconds: i64 = words.next()?.parse().ok()?;
            Some(seconds * 1_000_000_000 + nanoseconds)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn wall_time_follows_a_step_and_durations_do_not_change() {
        let before = Reading { monotonic: 100 * SECOND, wall: 1_000_000 * SECOND };
        let stepped = Reading { monotonic: 101 * SECOND, wall: 1_003_601 * SECOND };
        let (first, last) = (90 * SECOND, 99 * SECOND);
        assert_eq!(before.unix_milliseconds(first), 999_990_000);
        assert_eq!(stepped.unix_milliseconds(first), 1_003_590_000);
        for reading in [before, stepped] {
            assert_eq!(reading.unix_milliseconds(last) - reading.unix_milliseconds(first), 9_000);
        }
    }

    #[test]
    fn times_before_the_unix_epoch_stay_at_it() {
        let reading = Reading { monotonic: 100 * SECOND, wall: SECOND };
        assert_eq!(reading.unix_milliseconds(0), 0);
    }

    #[test]
    fn next_multiple_is_never_now() {
        let at = |wall: u64| Reading { monotonic: 0, wall };
        let interval = Duration::from_secs(1);
        assert_eq!(at(5 * SECOND + 250_000_000).until_multiple_of(interval), Duration::from_millis(750));
        assert_eq!(at(5 * SECOND).until_multiple_of(interval), interval);
    }

    #[test]
    fn time_namespace_offsets_are_read() {
        assert_eq!(
            namespace_offset("monotonic           3600         5\nboottime  7 0\n"),
            3_600_000_000_005
        );
        assert_eq!(namespace_offset("monotonic  -1 0\n"), -1_000_000_000);
        assert_eq!(namespace_offset(""), 0);
    }

    #[test]
    fn a_tick_is_between_one_and_ten_milliseconds() {
        let tick = Clock::tick_nanoseconds();
        assert!((1_000_000..=10_000_000).contains(&tick), "{tick}");
    }
}
