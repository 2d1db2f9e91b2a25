//! Octets of the operator's choice, and MPLS label stacks.

use pathflow_common::extension::CHOSEN_OCTETS;

use super::line::Line;
use super::text;
use crate::aggregate::{CustomValue, Semantics};

/// A text of the packet, with U+FFFD for what is no UTF-8.
pub(super) struct PacketText {
    octets: [u8; 3 * CHOSEN_OCTETS],
    length: usize,
}

impl PacketText {
    pub(super) fn new(octets: &[u8]) -> Self {
        let mut text = Self { octets: [0; 3 * CHOSEN_OCTETS], length: 0 };
        for chunk in octets.utf8_chunks() {
            text.push(chunk.valid());
            if !chunk.invalid().is_empty() {
                text.push("\u{fffd}");
            }
        }
        text
    }

    pub(super) fn as_str(&self) -> &str {
        self.octets.get(..self.length).and_then(|octets| str::from_utf8(octets).ok()).unwrap_or_default()
    }

    /// There is room: an octet becomes three at most.
    fn push(&mut self, text: &str) {
        if let Some(room) = self.octets.get_mut(self.length..self.length + text.len()) {
            room.copy_from_slice(text.as_bytes());
            self.length += text.len();
        }
    }
}

/// Appends the value as pmacct writes it, without quotation marks. All are texts in its JSON.
pub(super) fn custom(out: &mut Line, value: CustomValue<'_>) {
    match value.semantics {
        Semantics::UInt => text::number(out, value.number()),
        Semantics::Hex => text::long_hexadecimal(out, value.number()),
        Semantics::Ip => text::address(out, value.address()),
        Semantics::Mac => text::mac_address(out, value.mac()),
        Semantics::Str => out.put(PacketText::new(value.text()).as_str().as_bytes()),
        Semantics::Raw => text::octets(out, value.octets),
    }
}

/// Appends the value as a member of pmacct's JSON.
pub(super) fn custom_string(out: &mut Line, value: CustomValue<'_>) {
    if value.semantics == Semantics::Str {
        return text::json_string(out, PacketText::new(value.text()).as_str());
    }
    out.push(b'"');
    custom(out, value);
    out.push(b'"');
}

/// Labels with `_` between, the top one first, as pmacct (from 1.7.9) has them.
pub(super) fn label_stack(out: &mut Line, labels: &[[u8; 3]]) {
    joined(out, labels, b'_');
}

/// Labels as an array of numbers.
pub(super) fn label_array(out: &mut Line, labels: &[[u8; 3]]) {
    out.push(b'[');
    joined(out, labels, b',');
    out.push(b']');
}

fn joined(out: &mut Line, labels: &[[u8; 3]], separator: u8) {
    for (position, [high, middle, low]) in labels.iter().enumerate() {
        if position > 0 {
            out.push(separator);
        }
        text::number(out, u32::from_be_bytes([0, *high, *middle, *low]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(semantics: Semantics, octets: &[u8]) -> String {
        let mut out = Line::default();
        custom_string(&mut out, CustomValue { semantics, octets });
        String::from_utf8(out.text().to_vec()).unwrap()
    }

    /// As pmacctd 1.7.7 wrote these octets of captures.
    #[test]
    fn values_are_written_as_pmacctd_does() {
        for (semantics, octets, expected) in [
            (Semantics::UInt, &[255][..], "255"),
            (Semantics::UInt, &[0x0a, 0, 0, 1, 0x0a, 0, 0, 100], "720575944842018916"),
            (Semantics::UInt, &[0], "0"),
            (Semantics::Hex, &[0x00, 0x46], "46"),
            (Semantics::Hex, &[0x0a, 0, 0, 100], "a000064"),
            (Semantics::Hex, &[0x0a, 0, 0, 1, 0x0a, 0, 0, 100], "a0000010a000064"),
            (Semantics::Hex, &[0; 4], "0"),
            (Semantics::Ip, &[10, 0, 0, 1], "10.0.0.1"),
            (Semantics::Ip, &[0; 4], "0.0.0.0"),
            (Semantics::Ip, &[0; 16], "::"),
            (Semantics::Mac, &[0x00, 0x1d, 0x60, 0xb3, 0x01, 0x84], "00:1d:60:b3:01:84"),
            (Semantics::Raw, &[0x00, 0x1d, 0x60, 0xb3, 0x01], "00-1D-60-B3-01"),
            (Semantics::Raw, &[0; 2], "00-00"),
            (Semantics::Raw, &[], ""),
            (Semantics::Str, &[0x40, 0x00], "@"),
            (Semantics::Str, &[0; 8], ""),
        ] {
            assert_eq!(written(semantics, octets), format!("\"{expected}\""));
        }
    }

    #[test]
    fn any_text_of_a_packet_is_json() {
        let all: Vec<u8> = (1..=255).collect();
        for octets in all.windows(CHOSEN_OCTETS).chain([&[0xff; CHOSEN_OCTETS][..], b"a\"\\\n\0b"]) {
            let text: String = serde_json::from_str(&written(Semantics::Str, octets)).unwrap();
            let end = octets.iter().position(|octet| *octet == 0).unwrap_or(octets.len());
            assert_eq!(text, String::from_utf8_lossy(&octets[..end]));
        }
    }

    #[test]
    fn labels_are_joined() {
        let text = |write: fn(&mut Line, &[[u8; 3]]), labels: &[[u8; 3]]| {
            let mut out = Line::default();
            write(&mut out, labels);
            String::from_utf8(out.text().to_vec()).unwrap()
        };
        let labels = [[0x0f, 0xff, 0xff], [0, 0, 3], [0, 0x3e, 0x86]];
        assert_eq!(text(label_stack, &labels), "1048575_3_16006");
        assert_eq!(text(label_array, &labels), "[1048575,3,16006]");
        assert_eq!(text(label_stack, &[]), "");
    }
}
