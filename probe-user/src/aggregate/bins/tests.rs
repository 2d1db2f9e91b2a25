//! Bins against pmacct's rules, and around changes of the clock.

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

const BERLIN: &str = "Europe/Berlin";

fn bins(history: &str, round_off: &str, zone: &str) -> Bins {
    let zone = TimeZone::get(zone).expect("time zones in /usr/share/zoneinfo (Debian: tzdata)");
    Bins::parse(history, round_off, Duration::ZERO, zone).unwrap()
}

/// Local time as text, with what the clock is ahead of UTC.
fn local(time: u64, zone: &str) -> String {
    let zoned = Timestamp::from_second(time as i64).unwrap().to_zoned(TimeZone::get(zone).unwrap());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z").to_string()
}

fn at(text: &str, zone: &str) -> u64 {
    let time: DateTime = text.parse().unwrap();
    time.to_zoned(TimeZone::get(zone).unwrap()).unwrap().timestamp().as_second() as u64
}

fn start(bins: &Bins, time: &str, zone: &str) -> String {
    let bin = bins.bin_of(at(time, zone));
    local(bin.start, zone).rsplit_once(' ').unwrap().0.to_owned()
}

/// What pmacct's `roundoff_time` and the steps from there yield for lengths that fit.
#[test]
fn letters_say_what_bins_are_counted_from() {
    // 2026-11-21 is a Saturday.
    let time = "2026-11-21 17:38:42";
    for (history, letters, expected) in [
        ("5m", "m", "2026-11-21 17:35:00"),
        ("5m", "", "2026-11-21 17:35:00"),
        ("10s", "m", "2026-11-21 17:38:40"),
        ("1h", "mh", "2026-11-21 17:00:00"),
        ("4h", "h", "2026-11-21 16:00:00"),
        ("4h", "mh", "2026-11-21 16:00:00"),
        ("1d", "h", "2026-11-21 00:00:00"),
        ("1d", "d", "2026-11-21 00:00:00"),
        ("24h", "", "2026-11-21 00:00:00"),
        ("7d", "d", "2026-11-15 00:00:00"),
        ("10d", "M", "2026-11-17 00:00:00"),
        ("1w", "w", "2026-11-15 00:00:00"),
        ("1w", "", "2026-11-15 00:00:00"),
        ("1w", "M", "2026-11-19 00:00:00"),
        ("1M", "d", "2026-11-01 00:00:00"),
        ("1M", "M", "2026-11-01 00:00:00"),
        ("3M", "M", "2026-10-01 00:00:00"),
        ("7m", "m", "2026-11-21 17:35:00"),
        ("7m", "h", "2026-11-21 17:37:00"),
    ] {
        assert_eq!(start(&bins(history, letters, BERLIN), time, BERLIN), expected, "{history} {letters}");
    }
}

#[test]
fn an_offset_moves_all_bins() {
    // pmacct's example: 30 minutes with an offset of 900 seconds are 10:15, 10:45, 11:15.
    let bins = Bins::parse("30m", "h", Duration::from_mins(15), TimeZone::UTC).unwrap();
    for (time, expected) in [("10:15:00", "10:15:00"), ("10:44:59", "10:15:00"), ("11:00:00", "10:45:00")] {
        let expected = format!("2026-11-21 {expected}");
        assert_eq!(start(&bins, &format!("2026-11-21 {time}"), "UTC"), expected);
    }
}

#[test]
fn days_are_as_long_as_the_calendar_says() {
    for (day, hours) in [("2026-03-29", 23), ("2026-10-25", 25), ("2026-11-21", 24)] {
        let bin = bins("1d", "h", BERLIN).bin_of(at(&format!("{day} 12:00:00"), BERLIN));
        assert_eq!((bin.end - bin.start) / 3600, hours, "{day}");
        assert!(local(bin.start, BERLIN).starts_with(&format!("{day} 00:00:00")));
    }
    // In Beirut, clocks go from 23:59 to 01:00: the day begins at 1.
    let bin = bins("1d", "h", "Asia/Beirut").bin_of(at("2026-03-29 12:00:00", "Asia/Beirut"));
    assert_eq!(local(bin.start, "Asia/Beirut"), "2026-03-29 01:00:00 +0300");
    let month = bins("1M", "d", BERLIN).bin_of(at("2026-10-31 23:59:59", BERLIN));
    assert_eq!(local(month.start, BERLIN), "2026-10-01 00:00:00 +0200");
    assert_eq!(local(month.end, BERLIN), "2026-11-01 00:00:00 +0100");
}

#[test]
fn the_hour_that_comes_twice_is_two_bins() {
    let bins = bins("1h", "m", BERLIN);
    let first = bins.bin_of(at("2026-10-25 02:30:00", BERLIN));
    let second = bins.bin_of(first.end);
    assert_eq!(local(first.start, BERLIN), "2026-10-25 02:00:00 +0200");
    assert_eq!(local(second.start, BERLIN), "2026-10-25 02:00:00 +0100");
    assert_eq!(local(second.end, BERLIN), "2026-10-25 03:00:00 +0100");
}

#[test]
fn what_is_not_a_length_is_refused() {
    for wrong in ["", "5", "m", "0m", "-5m", "5x", "1.5h", "36h", "100001s", "5 m", "5é"] {
        assert!(Bins::parse(wrong, "", Duration::ZERO, TimeZone::UTC).is_err(), "{wrong:?}");
    }
    assert!(Bins::parse("5m", "y", Duration::ZERO, TimeZone::UTC).unwrap_err().contains("m, h, d, w and M"));
}

proptest! {
    /// Bins are without gaps and overlaps: the end of one is the start of the next.
    #[test]
    fn bins_follow_one_another(
        number in 1_u32..60,
        unit in "[smhdwM]",
        letters in "[mhdwM]{0,2}",
        offset in 0_u64..100_000,
        time in 0_u64..4_102_444_800,
        zone in proptest::sample::select(vec!["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let Ok(bins) = Bins::parse(&format!("{number}{unit}"), &letters, Duration::from_secs(offset), zone) else {
            // More hours than a day has.
            prop_assert!(unit == "h");
            return Ok(());
        };
        let bin = bins.bin_of(time);
        prop_assert!(bin.contains(&time), "{bin:?} {time}");
        prop_assert_eq!(&bins.bin_of(bin.start), &bin);
        prop_assert_eq!(&bins.bin_of(bin.end - 1), &bin);
        prop_assert_eq!(bins.bin_of(bin.end).start, bin.end);
    }
}
