//! Values as text. What is short is made in a register and appended with one copy of fixed width.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::line::Line;

/// Numbers below this have eight digits at most.
const EIGHT_DIGITS: u64 = 100_000_000;

/// A number in decimal.
#[inline]
pub(super) fn number(out: &mut Line, value: impl Into<u64>) {
    let value = value.into();
    if value < EIGHT_DIGITS {
        let digits = digits(value as u32);
        // At least one digit stays: what is before it is cut off.
        let zeros = (digits | 1 << 56).trailing_zeros() / 8;
        out.put_first(((digits | ZEROS) >> (8 * zeros)).to_le_bytes(), 8 - zeros as usize);
    } else {
        long_number(out, value);
    }
}

fn long_number(out: &mut Line, value: u64) {
    number(out, value / EIGHT_DIGITS);
    out.put_first((digits((value % EIGHT_DIGITS) as u32) | ZEROS).to_le_bytes(), 8);
}

/// `0` in each octet.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight digits of a number as octets 0 to 9, the highest one in the lowest octet.
///
/// Numbers side by side in one word are split at once: one of eight digits into two of four, those into four of two,
/// those into eight of one. 10486 / 2^20 and 103 / 2^10 are near enough to 1/100 and 1/10 for their ranges.
const fn digits(value: u32) -> u64 {
    let fours = (value / 10_000) as u64 | ((value % 10_000) as u64) << 32;
    let hundreds = (fours * 10_486) >> 20 & 0x7f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = (twos * 103) >> 10 & 0x000f_000f_000f_000f;
    tens | (twos - 10 * tens) << 8
}

/// A number in hexadecimal, in small letters and without zeros before it.
pub(super) fn hexadecimal(out: &mut Line, value: u16) {
    let (digits, length) = hexadecimal_digits(value);
    out.put_first(digits.to_le_bytes(), length);
}

/// A number of any size, likewise.
pub(super) fn long_hexadecimal(out: &mut Line, value: u64) {
    out.put(Formatted::new(format_args!("{value:x}")).text().as_bytes());
}

/// Octets in hexadecimal, as `00-1D-60`.
pub(super) fn octets(out: &mut Line, octets: &[u8]) {
    for (position, octet) in octets.iter().enumerate() {
        if position > 0 {
            out.push(b'-');
        }
        let [high, low] = [octet >> 4, *octet].map(|digit| hexadecimal_digit(digit).to_ascii_uppercase());
        out.put_first([high, low], 2);
    }
}

/// Digits of a number without zeros before it, the first one in the lowest octet, and how many there are.
const fn hexadecimal_digits(value: u16) -> (u32, usize) {
    let nibbles = value.swap_bytes() as u32;
    let nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff;
    let nibbles = (nibbles >> 4 | nibbles << 8) & 0x0f0f_0f0f;
    // 6 more than a nibble has a carry for a to f, which come 39 behind the octet after `9`.
    let letters = (nibbles + 0x0606_0606) >> 4 & 0x0101_0101;
    let zeros = (value | 1).leading_zeros() / 4;
    ((nibbles + 0x3030_3030 + 39 * letters) >> (8 * zeros), 4 - zeros as usize)
}

const fn hexadecimal_digit(value: u8) -> u8 {
    match value & 15 {
        value @ 0..=9 => b'0' + value,
        value => b'a' + value - 10,
    }
}

/// A MAC address, as `02:00:5e:00:53:01`.
pub(super) fn mac_address(out: &mut Line, address: [u8; 6]) {
    let mut text = [b':'; 17];
    for (text, octet) in text.chunks_mut(3).zip(address) {
        if let [high, low, ..] = text {
            (*high, *low) = (hexadecimal_digit(octet >> 4), hexadecimal_digit(octet));
        }
    }
    out.put_first(text, 17);
}

/// An address as RFC 5952 writes it.
#[inline]
pub(super) fn address(out: &mut Line, address: IpAddr) {
    match address {
        IpAddr::V4(address) => ipv4_address(out, address),
        IpAddr::V6(address) => ipv6_address(out, address),
    }
}

/// Each octet in decimal with a dot behind it, and its length.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let [hundreds, tens, ones] =
            [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        octets[octet] = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        octet += 1;
    }
    octets
};

fn ipv4_address(out: &mut Line, address: Ipv4Addr) {
    let [rest @ .., last] = address.octets();
    for octet in rest {
        let (text, length) = OCTETS[usize::from(octet)];
        out.put_first(text, length.into());
    }
    let (text, length) = OCTETS[usize::from(last)];
    out.put_first(text, usize::from(length) - 1);
}

fn ipv6_address(out: &mut Line, address: Ipv6Addr) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        out.put_first(*b"::ffff:", 7);
        return ipv4_address(out, mapped);
    }
    let segments = address.segments();
    let (zeros, length) = longest_zeros(segments);
    let (before, rest) = segments.split_at_checked(zeros).unwrap_or((&segments, &[]));
    for segment in before {
        segment_and_colon(out, *segment);
    }
    if let Some(behind) = rest.get(length..).filter(|_| length > 0) {
        // In front of the first zeros there is a colon.
        out.put_first(*b"::", if before.is_empty() { 2 } else { 1 });
        if behind.is_empty() {
            return;
        }
        for segment in behind {
            segment_and_colon(out, *segment);
        }
    }
    out.truncate(out.len() - 1);
}

fn segment_and_colon(out: &mut Line, segment: u16) {
    let (digits, length) = hexadecimal_digits(segment);
    out.put_first((u64::from(digits) | u64::from(b':') << (8 * length)).to_le_bytes(), length + 1);
}

/// The first of the longest runs of two zeros or more: where it starts, and its length. Without one, it is behind the
/// end.
fn longest_zeros(segments: [u16; 8]) -> (usize, usize) {
    let zeros =
        (0..8).zip(segments).fold(0_u32, |zeros, (bit, segment)| zeros | u32::from(segment == 0) << bit);
    // A bit is left for each place where a run of `length` starts.
    let (mut starts, mut length) = (zeros & zeros >> 1, 2);
    if starts == 0 {
        return (segments.len(), 0);
    }
    while starts & zeros >> length != 0 {
        starts &= zeros >> length;
        length += 1;
    }
    (starts.trailing_zeros() as usize, length)
}

/// Digits by which every number of 64 bits can be told (C's `DBL_DECIMAL_DIG`).
const DIGITS: i32 = 17;

/// A real number as jansson writes it: 17 significant digits (C's `%.17g`), with a point or an exponent in it.
pub(super) fn json_real(out: &mut Line, value: f64) {
    let written = Formatted::new(format_args!("{value:.*e}", DIGITS as usize - 1));
    let parts = written.text().split_once('e');
    let Some((digits, exponent)) =
        parts.and_then(|(digits, exponent)| Some((digits, exponent.parse().ok()?)))
    else {
        return;
    };
    if (-4..DIGITS).contains(&exponent) {
        let plain = Formatted::new(format_args!("{value:.*}", (DIGITS - 1 - exponent) as usize));
        let plain = without_zeros(plain.text());
        out.put(plain.as_bytes());
        if !plain.contains('.') {
            out.put(b".0");
        }
    } else {
        out.put(without_zeros(digits).as_bytes());
        out.put(Formatted::new(format_args!("e{exponent}")).text().as_bytes());
    }
}

/// Takes zeros behind a point away, and a point with nothing behind it.
fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A real number with six digits behind the point (C's `%f`).
pub(super) fn fixed_real(out: &mut Line, value: f64) {
    out.put(Formatted::new(format_args!("{value:.6}")).text().as_bytes());
}

/// A real number in the fewest digits by which it can be told.
pub(super) fn shortest_real(out: &mut Line, value: f64) {
    out.put(Formatted::new(format_args!("{value:?}")).text().as_bytes());
}

/// Text of a number, on the stack. There is room for the 309 digits of the largest real number, and those behind the point.
struct Formatted {
    octets: [u8; 384],
    length: usize,
}

impl Formatted {
    fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut formatted = Self { octets: [0; 384], length: 0 };
        // There is room.
        let _ = formatted.write_fmt(arguments);
        formatted
    }

    fn text(&self) -> &str {
        self.octets.get(..self.length).and_then(|octets| str::from_utf8(octets).ok()).unwrap_or_default()
    }
}

impl fmt::Write for Formatted {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.octets.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// A JSON string as jansson writes it: UTF-8 as it is, and of what must be escaped the short form where there is one.
#[inline]
pub(super) fn json_string(out: &mut Line, text: &str) {
    out.push(b'"');
    let start = out.len();
    let (words, rest) = text.as_bytes().as_chunks();
    let mut must_escape = false;
    for word in words {
        must_escape |= has_special(*word);
        out.put_first(*word, 8);
    }
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    must_escape |= has_special(last);
    out.put_first(last, rest.len());
    if must_escape {
        out.truncate(start);
        escaped(out, text.as_bytes());
    }
    out.push(b'"');
}

/// Whether one of the octets must be escaped.
const fn has_special(octets: [u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    // For words of octets: whether one of them is less than `limit`, which is 128 at most.
    const fn has_less(word: u64, limit: u64) -> bool {
        word.wrapping_sub(ONES * limit) & !word & ONES << 7 != 0
    }
    let word = u64::from_ne_bytes(octets);
    has_less(word, b' ' as u64)
        | has_less(word ^ (ONES * b'"' as u64), 1)
        | has_less(word ^ (ONES * b'\\' as u64), 1)
}

#[cold]
fn escaped(out: &mut Line, mut rest: &[u8]) {
    while let Some(at) = rest.iter().position(|&octet| octet < b' ' || octet == b'"' || octet == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.put(plain);
        if let Some((special, behind)) = special.split_first() {
            escape(out, *special);
            rest = behind;
        }
    }
    out.put(rest);
}

fn escape(out: &mut Line, octet: u8) {
    out.push(b'\\');
    match octet {
        b'"' | b'\\' => out.push(octet),
        b'\n' => out.push(b'n'),
        b'\r' => out.push(b'r'),
        b'\t' => out.push(b't'),
        0x08 => out.push(b'b'),
        0x0c => out.push(b'f'),
        control => {
            let [high, low] =
                [control >> 4, control].map(|digit| hexadecimal_digit(digit).to_ascii_uppercase());
            out.put_first([b'u', b'0', b'0', high, low], 5);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(append: impl FnOnce(&mut Line)) -> String {
        let mut out = Line::default();
        append(&mut out);
        String::from_utf8(out.text().to_vec()).unwrap()
    }

    #[test]
    fn numbers_are_those_of_display() {
        let powers = (0..20).map(|digits| 10_u64.pow(digits));
        let ends = powers.flat_map(|power| [power - 1, power, power + 1, power.wrapping_mul(9)]);
        for value in ends.chain([u64::MAX]).chain(0..100_000).chain((0..EIGHT_DIGITS).step_by(997)) {
            assert_eq!(text(|out| number(out, value)), value.to_string());
        }
    }

    #[test]
    fn ipv4_addresses_have_all_octets() {
        for octet in 0..=255_u8 {
            let any = IpAddr::from([octet, !octet, octet.rotate_left(3), octet]);
            assert_eq!(text(|out| address(out, any)), any.to_string());
        }
    }

    /// One octet at each place of strings around the lengths that are looked at together.
    #[test]
    fn each_octet_is_escaped_wherever_it_is() {
        for length in 1..=17 {
            for at in 0..length {
                for special in '\0'..='\u{80}' {
                    let string: String =
                        (0..length).map(|place| if place == at { special } else { 'x' }).collect();
                    let written = text(|out| json_string(out, &string));
                    assert_eq!(serde_json::from_str::<String>(&written).unwrap(), string);
                }
            }
        }
    }

    /// The examples of RFC 5952, sections 4 and 5, and addresses with runs of zeros at either end.
    #[test]
    fn ipv6_addresses_are_those_of_rfc_5952() {
        for known in [
            "2001:db8::1",
            "2001:db8:0:1:1:1:1:1",
            "2001:0:0:1::1",
            "2001:db8::1:0:0:1",
            "::",
            "::1",
            "1::",
            "1:2:3:4:5:6:7:8",
            "1:0:3:4:5:6:7:0",
            "::ffff:192.0.2.1",
            "0:0:1::",
            "::1:0:0",
        ] {
            let parsed: IpAddr = known.parse().unwrap();
            assert_eq!(text(|out| address(out, parsed)), parsed.to_string());
        }
    }

    /// By jansson 2.14's `json_dumps` and C's `printf`.
    #[test]
    fn real_numbers_are_written_as_jansson_and_printf_do() {
        for (value, json, fixed) in [
            (0.0, "0.0", "0.000000"),
            (10.0, "10.0", "10.000000"),
            (47.37, "47.369999999999997", "47.370000"),
            (8.54, "8.5399999999999991", "8.540000"),
            (-33.8688, "-33.8688", "-33.868800"),
            (-151.209_312_345_678_9, "-151.20931234567891", "-151.209312"),
            (139.691_71, "139.69171", "139.691710"),
            (0.000_1, "0.0001", "0.000100"),
            (0.000_012_5, "1.2500000000000001e-5", "0.000013"),
            (5e-324, "4.9406564584124654e-324", "0.000000"),
            (1e17, "1e17", "100000000000000000.000000"),
            (123_456_789_012_345_680.0, "1.2345678901234568e17", "123456789012345680.000000"),
            (12_345_678_901_234_568.0, "12345678901234568.0", "12345678901234568.000000"),
        ] {
            assert_eq!(text(|out| json_real(out, value)), json);
            assert_eq!(text(|out| fixed_real(out, value)), fixed);
        }
        assert_eq!(text(|out| shortest_real(out, 47.37)), "47.37");
        assert_eq!(text(|out| shortest_real(out, 35.0)), "35.0");
    }

    /// By jansson 2.14's `json_dumps`.
    #[test]
    fn strings_are_escaped_as_jansson_does() {
        let written = text(|out| json_string(out, "a\"b\\c/d\u{1}\u{1f}\u{7f}\n\r\t\u{8}\u{c}é\u{2028}😀"));
        assert_eq!(written, "\"a\\\"b\\\\c/d\\u0001\\u001F\u{7f}\\n\\r\\t\\b\\fé\u{2028}😀\"");
    }

    proptest! {
        #[test]
        fn any_address_is_what_display_says(segments: [u16; 8], zeros: u8) {
            let mut segments = segments;
            for (position, segment) in segments.iter_mut().enumerate() {
                if zeros & (1 << position) != 0 {
                    *segment = 0;
                }
            }
            let any = IpAddr::from(segments);
            prop_assert_eq!(text(|out| address(out, any)), any.to_string());
        }

        #[test]
        fn any_real_number_can_be_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for written in [text(|out| json_real(out, value)), text(|out| shortest_real(out, value))] {
                // Of JSON, as the other reader of floating point numbers would take what JSON does not allow.
                let number = serde_json::from_str::<serde_json::Number>(&written).unwrap();
                prop_assert!(!number.is_u64() && !number.is_i64());
                prop_assert_eq!(written.parse::<f64>().unwrap().to_bits(), bits);
            }
        }

        #[test]
        fn any_number_is_what_display_says(value: u64, bits in 0..64_u32) {
            let value = value >> bits;
            prop_assert_eq!(text(|out| number(out, value)), value.to_string());
        }

        #[test]
        fn any_string_can_be_read_back(string: String) {
            let written = text(|out| json_string(out, &string));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), string);
        }

        #[test]
        fn hexadecimal_is_what_format_says(value: u16, octets: [u8; 6]) {
            prop_assert_eq!(text(|out| hexadecimal(out, value)), format!("{value:x}"));
            let mac = octets.map(|octet| format!("{octet:02x}")).join(":");
            prop_assert_eq!(text(|out| mac_address(out, octets)), mac);
        }
    }
}
