//! A timer wheel: which flows to look at next.
//!
//! Holds small numbers (positions in a slab), each in one bucket at most. Filing, taking out and finding
//! the next due number take constant time, whatever the number of flows.

/// A bucket is 2^26 ns (67 ms) wide.
const BUCKET_SHIFT: u32 = 26;
/// The wheel reaches 68 s ahead. What is due later is filed in the last bucket and looked at then.
const BUCKETS: u64 = 1024;
/// No number, no bucket.
const NONE: u32 = u32::MAX;

/// The wheel.
#[derive(Debug)]
pub struct TimerWheel {
    heads: Vec<u32>,
    /// One bit for each bucket that is not empty.
    occupied: [u64; (BUCKETS / 64) as usize],
    /// Bucket number (time >> `BUCKET_SHIFT`) of the first bucket that has not been gone through.
    cursor: u64,
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    bucket: u32,
}

const UNFILED: Link = Link { previous: NONE, next: NONE, bucket: NONE };

impl TimerWheel {
    /// An empty wheel.
    #[must_use]
    pub fn new() -> Self {
        Self {
            heads: vec![NONE; BUCKETS as usize],
            occupied: [0; (BUCKETS / 64) as usize],
            cursor: 0,
            links: Vec::new(),
        }
    }

    /// Files `number` to be looked at soon after `time` (nanoseconds). It must not be filed yet.
    pub fn file(&mut self, number: u32, time: u64) {
        if self.links.len() <= number as usize {
            self.links.resize(number as usize + 1, UNFILED);
        }
        let tick = (time >> BUCKET_SHIFT).clamp(self.cursor, self.cursor + BUCKETS - 1);
        let bucket = (tick % BUCKETS) as u32;
        let head = self.heads[bucket as usize];
        self.links[number as usize] = Link { previous: NONE, next: head, bucket };
        if head != NONE {
            self.links[head as usize].previous = number;
        }
        self.heads[bucket as usize] = number;
        self.occupied[bucket as usize / 64] |= 1 << (bucket % 64);
    }

    /// Takes `number` out, if it is filed.
    pub fn remove(&mut self, number: u32) {
        let Some(link) = self.links.get_mut(number as usize) else { return };
        let Link { previous, next, bucket } = std::mem::replace(link, UNFILED);
        if bucket == NONE {
            return;
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous == NONE {
            self.heads[bucket as usize] = next;
            if next == NONE {
                self.occupied[bucket as usize / 64] &= !(1 << (bucket % 64));
            }
        } else {
            self.links[previous as usize].next = next;
        }
    }

    /// Takes out the next number whose bucket lies wholly before `now` (nanoseconds).
    ///
    /// A number taken out may not be due after all (it was filed closer than its time); then it is filed
    /// again, which never puts it back before `now`.
    pub fn take_due(&mut self, now: u64) -> Option<u32> {
        let now = now >> BUCKET_SHIFT;
        let distance = self.next_occupied()?;
        if self.cursor + distance >= now {
            return None;
        }
        self.cursor += distance;
        self.take_head()
    }

    /// Moves on to `now` (nanoseconds); to be called when [`take_due`](Self::take_due) has nothing more.
    pub fn advance(&mut self, now: u64) {
        let now = now >> BUCKET_SHIFT;
        let limit = self.next_occupied().map_or(now, |distance| now.min(self.cursor + distance));
        self.cursor = self.cursor.max(limit);
    }

    /// Takes out the number that would be looked at first.
    pub fn take_first(&mut self) -> Option<u32> {
        let distance = self.next_occupied()?;
        let bucket = ((self.cursor + distance) % BUCKETS) as usize;
        let head = self.heads[bucket];
        self.remove(head);
        Some(head)
    }

    fn take_head(&mut self) -> Option<u32> {
        let head = self.heads[(self.cursor % BUCKETS) as usize];
        if head == NONE {
            return None;
        }
        self.remove(head);
        Some(head)
    }

    /// Distance in buckets from the cursor to the first bucket that is not empty.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.cursor % BUCKETS;
        let words = self.occupied.len() as u64;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word as usize];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let bucket = word * 64 + u64::from(bits.trailing_zeros());
                return Some((bucket + BUCKETS - start) % BUCKETS);
            }
        }
        None
    }
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        File(u32, u64),
        Remove(u32),
        TakeFirst,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..64u32, 0..200_000_000_000u64).prop_map(|(number, ahead)| Step::File(number, ahead)),
            (0..64u32).prop_map(Step::Remove),
            Just(Step::TakeFirst),
            (0..100_000_000_000u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against a map from number to time: nothing is forgotten, nothing comes before its bucket unless
        /// it was beyond the wheel's reach, and what is due comes.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec(step(), 1..200), start in 0..1u64 << 50) {
            let mut wheel = TimerWheel::new();
            let mut model = BTreeMap::new();
            let mut now = start;
            wheel.advance(now);
            let reach = (BUCKETS - 1) << BUCKET_SHIFT;
            for step in steps {
                match step {
                    Step::File(number, ahead) => {
                        wheel.remove(number);
                        wheel.file(number, now + ahead);
                        model.insert(number, (now + ahead, now));
                    }
                    Step::Remove(number) => {
                        wheel.remove(number);
                        model.remove(&number);
                    }
                    Step::TakeFirst => {
                        let taken = wheel.take_first();
                        prop_assert_eq!(taken.is_some(), !model.is_empty());
                        if let Some(number) = taken {
                            prop_assert!(model.remove(&number).is_some());
                        }
                    }
                    Step::Pass(time) => {
                        now += time;
                        while let Some(number) = wheel.take_due(now) {
                            let (due, filed) = model.remove(&number).unwrap();
                            prop_assert!(due <= now || due - filed >= reach - (1 << BUCKET_SHIFT));
                        }
                        wheel.advance(now);
                        for (due, _) in model.values() {
                            prop_assert!(due >> BUCKET_SHIFT >= now >> BUCKET_SHIFT, "overdue");
                        }
                    }
                }
            }
        }
    }
}
