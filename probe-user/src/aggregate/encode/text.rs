//! Values as text, appended without a detour.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A number in decimal.
#[inline]
pub(super) fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number in hexadecimal, in small letters and without zeros before it.
pub(super) fn hexadecimal(out: &mut Vec<u8>, value: u16) {
    let digits = (16 - (value | 1).leading_zeros()).div_ceil(4);
    for position in (0..digits).rev() {
        out.push(hexadecimal_digit((value >> (4 * position)) as u8));
    }
}

const fn hexadecimal_digit(value: u8) -> u8 {
    match value & 15 {
        value @ 0..=9 => b'0' + value,
        value => b'a' + value - 10,
    }
}

/// A MAC address, as `02:00:5e:00:53:01`.
pub(super) fn mac_address(out: &mut Vec<u8>, address: [u8; 6]) {
    let mut text = [b':'; 17];
    for (text, octet) in text.chunks_mut(3).zip(address) {
        if let [high, low, ..] = text {
            (*high, *low) = (hexadecimal_digit(octet >> 4), hexadecimal_digit(octet));
        }
    }
    out.extend_from_slice(&text);
}

/// An address as RFC 5952 writes it.
#[inline]
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => ipv4_address(out, address),
        IpAddr::V6(address) => ipv6_address(out, address),
    }
}

fn ipv4_address(out: &mut Vec<u8>, address: Ipv4Addr) {
    let [first, rest @ ..] = address.octets();
    number(out, first);
    for octet in rest {
        out.push(b'.');
        number(out, octet);
    }
}

/// By hand, as `Display` costs several times as much.
fn ipv6_address(out: &mut Vec<u8>, address: Ipv6Addr) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return ipv4_address(out, mapped);
    }
    let segments = address.segments();
    let (zeros, length) = longest_zeros(segments);
    for (position, segment) in segments.into_iter().enumerate() {
        if position == zeros {
            out.extend_from_slice(b"::");
        } else if position < zeros || position >= zeros + length {
            if position != 0 && position != zeros + length {
                out.push(b':');
            }
            hexadecimal(out, segment);
        }
    }
}

/// The first of the longest runs of two zeros or more: where it starts, and its length. Without one, it is behind the end.
fn longest_zeros(segments: [u16; 8]) -> (usize, usize) {
    let (mut start, mut length) = (usize::MAX / 2, 1);
    let mut run = 0;
    for (position, segment) in segments.into_iter().enumerate() {
        run = if segment == 0 { run + 1 } else { 0 };
        if run > length {
            (start, length) = (position + 1 - run, run);
        }
    }
    (start, length)
}

/// Digits by which every number of 64 bits can be told (C's `DBL_DECIMAL_DIG`).
const DIGITS: i32 = 17;

/// A real number as jansson writes it: 17 significant digits (C's `%.17g`), with a point or an exponent in it.
pub(super) fn json_real(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    // Writing to a vector cannot fail.
    let _ = write!(out, "{value:.*e}", DIGITS as usize - 1);
    let exponent = out.get(start..).and_then(|written| {
        let at = written.iter().position(|octet| *octet == b'e')?;
        Some((start + at, str::from_utf8(written.get(at + 1..)?).ok()?.parse::<i32>().ok()?))
    });
    let Some((at, exponent)) = exponent else { return };
    if (-4..DIGITS).contains(&exponent) {
        out.truncate(start);
        let _ = write!(out, "{value:.*}", (DIGITS - 1 - exponent) as usize);
        trim_zeros(out, start);
        if !out.iter().skip(start).any(|octet| *octet == b'.') {
            out.extend_from_slice(b".0");
        }
    } else {
        out.truncate(at);
        trim_zeros(out, start);
        let _ = write!(out, "e{exponent}");
    }
}

/// Takes zeros behind a point away, and a point with nothing behind it.
fn trim_zeros(out: &mut Vec<u8>, start: usize) {
    if !out.iter().skip(start).any(|octet| *octet == b'.') {
        return;
    }
    while out.last() == Some(&b'0') {
        out.pop();
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
}

/// A real number with six digits behind the point (C's `%f`).
pub(super) fn fixed_real(out: &mut Vec<u8>, value: f64) {
    let _ = write!(out, "{value:.6}");
}

/// A real number in the fewest digits by which it can be told.
pub(super) fn shortest_real(out: &mut Vec<u8>, value: f64) {
    let _ = write!(out, "{value:?}");
}

/// A JSON string as jansson writes it: UTF-8 as it is, and of what must be escaped the short form where there is one.
#[inline]
pub(super) fn json_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&octet| octet < b' ' || octet == b'"' || octet == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        if let Some((special, behind)) = special.split_first() {
            escape(out, *special);
            rest = behind;
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cold]
fn escape(out: &mut Vec<u8>, octet: u8) {
    out.push(b'\\');
    match octet {
        b'"' | b'\\' => out.push(octet),
        b'\n' => out.push(b'n'),
        b'\r' => out.push(b'r'),
        b'\t' => out.push(b't'),
        0x08 => out.push(b'b'),
        0x0c => out.push(b'f'),
        control => {
            let digits = [control >> 4, control].map(|digit| hexadecimal_digit(digit).to_ascii_uppercase());
            out.extend_from_slice(b"u00");
            out.extend_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(append: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        append(&mut out);
        String::from_utf8(out).unwrap()
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
