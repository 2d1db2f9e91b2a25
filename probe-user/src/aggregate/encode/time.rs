//! Times as pmacct writes them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::line::Line;
use super::settings::TimestampStyle;
use super::text::number;

/// Minutes that are remembered: those of the bin, of the purge, and of first and last packets.
const REMEMBERED: usize = 16;
/// 9999-12-31T00:00:00Z: what comes later is written as this, in whatever zone.
const LAST: u64 = 253_402_214_400;

/// Writes times in one zone and style.
#[derive(Debug)]
pub(super) struct TimeWriter {
    zone: TimeZone,
    style: TimestampStyle,
    whole_seconds: bool,
    remembered: [Minute; REMEMBERED],
}

/// A minute and its text: calendar and clock are computed once for it.
#[derive(Clone, Copy, Debug)]
struct Minute {
    /// Minutes since the Unix epoch.
    number: u64,
    /// `2026-11-21 05:45:`
    text: [u8; 17],
    /// Of the zone from UTC, in minutes.
    offset: i32,
}

impl TimeWriter {
    pub(super) fn new(zone: TimeZone, style: TimestampStyle, whole_seconds: bool) -> Self {
        let none = Minute { number: u64::MAX, text: [0; 17], offset: 0 };
        Self { zone, style, whole_seconds, remembered: [none; REMEMBERED] }
    }

    /// A time of whole seconds since the Unix epoch: `2026-11-21 05:45:00`.
    pub(super) fn stamp(&mut self, out: &mut Line, unix_seconds: u64) {
        self.write(out, unix_seconds, None);
    }

    /// A time in microseconds since the Unix epoch: `2026-11-21 05:45:00.000123`.
    pub(super) fn time(&mut self, out: &mut Line, unix_microseconds: u64) {
        if self.whole_seconds {
            self.stamp(out, unix_microseconds / 1_000_000);
        } else {
            self.exact(out, unix_microseconds);
        }
    }

    /// The same with its fraction in any case.
    pub(super) fn exact(&mut self, out: &mut Line, unix_microseconds: u64) {
        let fraction = (unix_microseconds % 1_000_000) as u32;
        self.write(out, unix_microseconds / 1_000_000, Some(fraction));
    }

    fn write(&mut self, out: &mut Line, unix_seconds: u64, microseconds: Option<u32>) {
        if self.style == TimestampStyle::Epoch {
            number(out, unix_seconds);
            return fraction(out, microseconds);
        }
        let unix_seconds = unix_seconds.min(LAST);
        let minute = self.minute(unix_seconds / 60);
        out.put_first(minute.text, minute.text.len());
        two_digits(out, (unix_seconds % 60) as u32);
        fraction(out, microseconds);
        match self.style {
            TimestampStyle::Plain | TimestampStyle::Epoch => {}
            TimestampStyle::Rfc3339 if minute.offset == 0 => out.push(b'Z'),
            TimestampStyle::Rfc3339 | TimestampStyle::Rfc9557 => {
                out.push(if minute.offset < 0 { b'-' } else { b'+' });
                two_digits(out, minute.offset.unsigned_abs() / 60);
                out.push(b':');
                two_digits(out, minute.offset.unsigned_abs() % 60);
            }
        }
    }

    fn minute(&mut self, number: u64) -> Minute {
        let position = (number % REMEMBERED as u64) as usize;
        if let Some(minute) = self.remembered.get(position).filter(|minute| minute.number == number) {
            return *minute;
        }
        let minute = self.compute(number);
        if let Some(place) = self.remembered.get_mut(position) {
            *place = minute;
        }
        minute
    }

    fn compute(&self, number: u64) -> Minute {
        let time = Timestamp::from_second((number * 60) as i64).unwrap_or(Timestamp::UNIX_EPOCH);
        // Zones of today are whole minutes from UTC.
        let offset = self.zone.to_offset(time).seconds() / 60;
        let local = Timestamp::from_second((number * 60) as i64 + i64::from(offset) * 60).unwrap_or(time);
        let local = local.to_zoned(TimeZone::UTC).datetime();
        let separator = if self.style == TimestampStyle::Plain { b' ' } else { b'T' };
        let mut text = *b"0000-00-00 00:00:";
        let mut put = |at: usize, value: i32| {
            if let Some([tens, ones]) = text.get_mut(at..at + 2) {
                (*tens, *ones) = (b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8);
            }
        };
        put(0, i32::from(local.year()) / 100);
        put(2, i32::from(local.year()) % 100);
        put(5, local.month().into());
        put(8, local.day().into());
        put(11, local.hour().into());
        put(14, local.minute().into());
        if let Some(place) = text.get_mut(10) {
            *place = separator;
        }
        Minute { number, text, offset }
    }
}

fn fraction(out: &mut Line, microseconds: Option<u32>) {
    if let Some(microseconds) = microseconds {
        out.push(b'.');
        for part in [microseconds / 10_000, microseconds / 100, microseconds] {
            two_digits(out, part);
        }
    }
}

/// The last two digits.
fn two_digits(out: &mut Line, value: u32) {
    out.put_first([b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8], 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(zone: &str, style: TimestampStyle, whole_seconds: bool) -> [String; 2] {
        let mut writer = TimeWriter::new(TimeZone::get(zone).unwrap(), style, whole_seconds);
        let mut texts = [Line::default(), Line::default()];
        writer.stamp(&mut texts[0], 1_795_239_900);
        writer.time(&mut texts[1], 1_795_240_081_000_123);
        texts.map(|text| String::from_utf8(text.text().to_vec()).unwrap())
    }

    /// Expected by `TZ=... date -d @1795239900` and as nfacctd 1.7.7 writes them.
    #[test]
    fn times_are_those_of_pmacct() {
        use TimestampStyle::{Epoch, Plain, Rfc3339, Rfc9557};
        let known = [
            ("UTC", Plain, false, ["2026-11-21 05:45:00", "2026-11-21 05:48:01.000123"]),
            ("UTC", Plain, true, ["2026-11-21 05:45:00", "2026-11-21 05:48:01"]),
            ("Asia/Kolkata", Plain, false, ["2026-11-21 11:15:00", "2026-11-21 11:18:01.000123"]),
            ("UTC", Epoch, false, ["1795239900", "1795240081.000123"]),
            ("UTC", Rfc3339, false, ["2026-11-21T05:45:00Z", "2026-11-21T05:48:01.000123Z"]),
            ("UTC", Rfc9557, true, ["2026-11-21T05:45:00+00:00", "2026-11-21T05:48:01+00:00"]),
            ("America/New_York", Rfc3339, true, ["2026-11-21T00:45:00-05:00", "2026-11-21T00:48:01-05:00"]),
        ];
        for (zone, style, whole_seconds, texts) in known {
            assert_eq!(times(zone, style, whole_seconds), texts, "{zone} {style:?}");
        }
    }

    /// Every minute of the two nights in which clocks change, against jiff's own text.
    #[test]
    fn clocks_that_change_are_followed() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let mut writer = TimeWriter::new(zone.clone(), TimestampStyle::Rfc3339, false);
        for night in [1_774_735_200, 1_792_872_000_u64] {
            for second in (night..night + 86_400).step_by(59) {
                let mut text = Line::default();
                writer.stamp(&mut text, second);
                let time = Timestamp::from_second(second as i64).unwrap().to_zoned(zone.clone());
                assert_eq!(
                    String::from_utf8(text.text().to_vec()).unwrap(),
                    time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
                );
            }
        }
    }
}
