//! Wall-clock time as people and JSON write it: RFC 3339, UTC, milliseconds.

const MILLISECONDS_PER_DAY: u64 = 86_400_000;

/// 9999-12-31T23:59:59.999Z, the last time RFC 3339 can write; later ones are shown as this.
const LAST: u64 = 253_402_300_799_999;

/// Days in 400 years of the Gregorian calendar, after which it repeats.
const DAYS_PER_ERA: u32 = 146_097;

struct Date {
    year: u32,
    month: u32,
    day: u32,
}

impl Date {
    /// `days` since 1970-01-01.
    ///
    /// Years are counted from 1 March of the year 0, so that the leap day is the last day of its year and
    /// month lengths follow one rule (the method of Howard Hinnant's "Low-Level Date Algorithms").
    const fn from_unix_days(days: u32) -> Self {
        // From 0000-03-01 to 1970-01-01.
        let days = days + 719_468;
        let era = days / DAYS_PER_ERA;
        let day_of_era = days % DAYS_PER_ERA;
        // Leaves out the leap days before: one in 4 years (1461 days), not in 100 (36524), but in 400.
        let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / (DAYS_PER_ERA - 1);
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
        // From March on, every five months have 153 days.
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let is_next_year = month_from_march >= 10;
        let month = if is_next_year { month_from_march - 9 } else { month_from_march + 3 };
        let year = era * 400 + year_of_era + is_next_year as u32;
        Self { year, month, day }
    }
}

/// Appends `unix_milliseconds` as `2026-11-21T07:40:00.123Z`, with `separator` between date and time and
/// `suffix` at the end.
pub(super) fn append(out: &mut Vec<u8>, unix_milliseconds: u64, separator: u8, suffix: &[u8]) {
    let time = unix_milliseconds.min(LAST);
    let date = Date::from_unix_days((time / MILLISECONDS_PER_DAY) as u32);
    let milliseconds = (time % MILLISECONDS_PER_DAY) as u32;
    digits::<4>(out, date.year, b'-');
    digits::<2>(out, date.month, b'-');
    digits::<2>(out, date.day, separator);
    digits::<2>(out, milliseconds / 3_600_000, b':');
    digits::<2>(out, milliseconds / 60_000 % 60, b':');
    digits::<2>(out, milliseconds / 1000 % 60, b'.');
    let thousandths = milliseconds % 1000;
    out.extend_from_slice(&decimal::<3>(thousandths));
    out.extend_from_slice(suffix);
}

fn digits<const N: usize>(out: &mut Vec<u8>, value: u32, end: u8) {
    out.extend_from_slice(&decimal::<N>(value));
    out.push(end);
}

/// The last `N` decimal digits.
fn decimal<const N: usize>(mut value: u32) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    fn rfc3339(unix_milliseconds: u64) -> String {
        let mut out = Vec::new();
        super::append(&mut out, unix_milliseconds, b'T', b"Z");
        String::from_utf8(out).unwrap()
    }

    /// Expected values from `date -u -d @SECONDS`.
    #[test]
    fn known_times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(951_868_799_999), "2000-02-29T23:59:59.999Z");
        assert_eq!(rfc3339(1_795_246_800_123), "2026-11-21T07:40:00.123Z");
        assert_eq!(rfc3339(4_107_542_399_000), "2100-02-28T23:59:59.000Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let is_leap =
            |year: u32| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..400_000_u32 {
            let date = super::Date::from_unix_days(days);
            assert_eq!((date.year, date.month, date.day), (year, month, day), "day {days}");
            let length = match month {
                2 => 28 + u32::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
