//! Time bins: pmacct's `history`, `history_roundoff` and `history_offset`.
//!
//! A bin depends on the time alone, not on when the program was started. The letters say what bins are counted from, as
//! in pmacct: `m` the hour, `h` the day, `w` the week (from Sunday), `d` the month and `M` the year. Without letters it
//! is the day for bins of less than a day, for longer ones a fixed day, and the year for months. If bins do not fit into
//! that, the last one is shorter; what is shorter than a bin is passed over. Days, weeks and months are those of the
//! calendar, so that a day with a change of the clock has 23 or 25 hours.

use std::ops::Range;
use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

/// A Sunday; and days that are not counted from anything else are counted from here.
const EPOCH: Date = date(1970, 1, 4);

/// Time bins of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bins {
    length: Length,
    from: Option<From>,
    /// Seconds by which all bins begin later.
    offset: u64,
    zone: TimeZone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// Less than a day.
    Seconds(u32),
    Days(u32),
    Weeks(u32),
    Months(u32),
}

/// What bins are counted from, shortest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Bins {
    /// Reads a length such as `5m`, in `s`, `m`, `h`, `d`, `w` or `M`, and the letters of what bins are counted from.
    ///
    /// # Errors
    /// With a message that says what is expected.
    pub fn parse(history: &str, round_off: &str, offset: Duration, zone: TimeZone) -> Result<Self, String> {
        let from = round_off.chars().map(From::of_letter).collect::<Option<Vec<_>>>();
        let from =
            from.ok_or_else(|| format!("{round_off:?} is not made of the letters m, h, d, w and M"))?;
        let length = Length::parse(history)?;
        Ok(Self { length, from: from.into_iter().max(), offset: offset.as_secs(), zone })
    }

    /// Bins of this length, by the day: whole seconds, and less than a day or whole days.
    #[must_use]
    pub fn every(length: Duration) -> Self {
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX).max(1);
        Self { length: Length::of_seconds(seconds), from: None, offset: 0, zone: TimeZone::system() }
    }

    /// Start and end of the bin of a time, in seconds since the Unix epoch.
    #[must_use]
    pub fn bin_of(&self, seconds: u64) -> Range<u64> {
        let time = i64::try_from(seconds).ok().and_then(|time| time.checked_sub_unsigned(self.offset));
        let bin = time.and_then(|time| self.local(time)).unwrap_or_else(|| {
            // Outside of the calendar: such times are in damaged files only.
            let length = u64::from(self.length.at_most());
            let start = seconds / length * length;
            start as i64..start.saturating_add(length) as i64
        });
        let moved = |time: i64| time.saturating_add_unsigned(self.offset).max(0) as u64;
        moved(bin.start)..moved(bin.end)
    }

    /// Whether all bins begin and end on multiples of a duration.
    #[must_use]
    pub fn is_multiple_of(&self, duration: Duration) -> bool {
        let length = match self.length {
            Length::Seconds(seconds) => seconds,
            Length::Days(_) | Length::Weeks(_) | Length::Months(_) => DAY,
        };
        let divides = |seconds: u64| u128::from(seconds) * 1_000_000_000 % duration.as_nanos().max(1) == 0;
        // Time zones differ by quarters of an hour.
        divides(length.into()) && divides(self.offset) && divides((15 * MINUTE).into())
    }

    /// Longest length of a bin, in seconds; a day with a change of the clock aside.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length.at_most().into()
    }

    /// By the time without the offset.
    fn local(&self, time: i64) -> Option<Range<i64>> {
        let zoned = Timestamp::from_second(time).ok()?.to_zoned(self.zone.clone());
        match self.length {
            Length::Seconds(length) => self.within_a_day(&zoned, length),
            Length::Days(days) => self.of_days(zoned.date(), i64::from(days)),
            Length::Weeks(weeks) => self.of_days(zoned.date(), i64::from(weeks) * 7),
            Length::Months(months) => self.of_months(zoned.date(), i64::from(months)),
        }
    }

    fn within_a_day(&self, zoned: &Zoned, length: u32) -> Option<Range<i64>> {
        let time = zoned.timestamp().as_second();
        let (from, until) = if self.from == Some(From::Hour) && length <= HOUR {
            let start = time - i64::from(zoned.minute()) * i64::from(MINUTE) - i64::from(zoned.second());
            (start, start + i64::from(HOUR))
        } else {
            (self.start_of(zoned.date())?, self.start_of(zoned.date().tomorrow().ok()?)?)
        };
        let length = i64::from(length);
        let start = from + (time - from).div_euclid(length) * length;
        Some(start..(start + length).min(until))
    }

    fn of_days(&self, today: Date, days: i64) -> Option<Range<i64>> {
        let year = || Some((date(today.year(), 1, 1), date(today.year().checked_add(1)?, 1, 1)));
        let month = || Some((today.first_of_month(), today.last_of_month().tomorrow().ok()?));
        let week = || {
            let start = today.checked_sub(i64::from(today.weekday().to_sunday_zero_offset()).days()).ok()?;
            Some((start, start.checked_add(7.days()).ok()?))
        };
        let (from, until) = match self.from {
            Some(From::Year) if days <= 365 => year().map(|(from, until)| (from, Some(until)))?,
            Some(From::Month) if days <= 28 => month().map(|(from, until)| (from, Some(until)))?,
            Some(From::Week) if days <= 7 => week().map(|(from, until)| (from, Some(until)))?,
            _ => (EPOCH, None),
        };
        let passed = i64::from(from.until(today).ok()?.get_days()).div_euclid(days) * days;
        let start = from.checked_add(passed.days()).ok()?;
        let end = start.checked_add(days.days()).ok()?;
        Some(self.start_of(start)?..self.start_of(until.map_or(end, |until| until.min(end)))?)
    }

    fn of_months(&self, today: Date, months: i64) -> Option<Range<i64>> {
        let number = i64::from(today.year()) * 12 + i64::from(today.month()) - 1;
        let (start, end) = if months <= 12 {
            let (month, year) = (number.rem_euclid(12), number.div_euclid(12));
            let start = number - month % months;
            (start, (start + months).min((year + 1) * 12))
        } else {
            let start = number - number.rem_euclid(months);
            (start, start + months)
        };
        let first_of = |number: i64| {
            let year = i16::try_from(number.div_euclid(12)).ok()?;
            Date::new(year, number.rem_euclid(12) as i8 + 1, 1).ok()
        };
        Some(self.start_of(first_of(start)?)?..self.start_of(first_of(end)?)?)
    }

    /// The first moment of a day.
    fn start_of(&self, day: Date) -> Option<i64> {
        Some(day.to_zoned(self.zone.clone()).ok()?.start_of_day().ok()?.timestamp().as_second())
    }
}

impl From {
    const fn of_letter(letter: char) -> Option<Self> {
        match letter {
            'm' => Some(Self::Hour),
            'h' => Some(Self::Day),
            'w' => Some(Self::Week),
            'd' => Some(Self::Month),
            'M' => Some(Self::Year),
            _ => None,
        }
    }
}

impl Length {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let expected =
            || format!("{text:?} is not a length: write a number with s, m, h, d, w or M, such as 5m");
        let unit = text.chars().next_back().ok_or_else(expected)?;
        let number = text.strip_suffix(unit).unwrap_or_default();
        let number: u32 =
            number.parse().ok().filter(|number| (1..=100_000).contains(number)).ok_or_else(expected)?;
        let seconds = match unit {
            's' => 1,
            'm' => MINUTE,
            'h' => HOUR,
            'd' => DAY,
            'w' => return Ok(Self::Weeks(number)),
            'M' => return Ok(Self::Months(number)),
            _ => return Err(expected()),
        };
        let seconds = number.checked_mul(seconds).ok_or_else(expected)?;
        if seconds > DAY && seconds % DAY != 0 {
            return Err(format!("{text:?} is more than a day, and not whole days"));
        }
        Ok(Self::of_seconds(seconds))
    }

    const fn of_seconds(seconds: u32) -> Self {
        if seconds >= DAY { Self::Days(seconds / DAY) } else { Self::Seconds(seconds) }
    }

    /// Seconds.
    const fn at_most(self) -> u32 {
        match self {
            Self::Seconds(seconds) => seconds,
            Self::Days(days) => days.saturating_mul(DAY),
            Self::Weeks(weeks) => weeks.saturating_mul(7 * DAY),
            Self::Months(months) => months.saturating_mul(31 * DAY),
        }
    }
}

#[cfg(test)]
mod tests;
