//! AS paths and communities as pmacct's flow records have them: `_` where BGP's own output has blanks.

use std::fmt::Write as _;

use pathflow_bgp::{Community, ExtendedCommunity, LargeCommunity};
use pathflow_exporter::{BgpPathSegment, BgpPathSegmentKind, BgpRoute};

use super::Primitive;
use super::text::number;

/// How the parts of a route are written.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent options")]
pub(super) struct RouteText {
    /// AS paths are JSON arrays.
    pub path_as_array: bool,
    /// Communities are JSON arrays.
    pub communities_as_array: bool,
    /// Well-known communities are numbers too.
    pub numbers: bool,
    /// Text goes in quotation marks.
    pub quoted: bool,
}

/// The part of a route that a primitive names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Path,
    Standard,
    Extended,
    Large,
}

const fn part(primitive: Primitive) -> Part {
    match primitive {
        Primitive::StdComm | Primitive::SrcStdComm => Part::Standard,
        Primitive::ExtComm | Primitive::SrcExtComm => Part::Extended,
        Primitive::LrgComm | Primitive::SrcLrgComm => Part::Large,
        _ => Part::Path,
    }
}

/// Whether the text of the primitive is a part of a route.
pub(super) const fn is_of_route(primitive: Primitive) -> bool {
    matches!(primitive, Primitive::AsPath | Primitive::SrcAsPath) || !matches!(part(primitive), Part::Path)
}

impl RouteText {
    /// Appends what `primitive` says of `route`.
    pub(super) fn write(self, out: &mut Vec<u8>, primitive: Primitive, route: Option<&BgpRoute>) {
        let part = part(primitive);
        let is_array = if part == Part::Path { self.path_as_array } else { self.communities_as_array };
        let (open, separator, close): (&[u8], &[u8], &[u8]) = match (is_array, self.quoted) {
            (true, _) => (b"[", b"\", \"", b"]"),
            (false, true) => (b"\"", b"_", b"\""),
            (false, false) => (b"", b"_", b""),
        };
        out.extend_from_slice(open);
        let start = out.len();
        if let Some(route) = route {
            if is_array {
                out.push(b'"');
            }
            let attributes = route.attributes();
            let text = out.len();
            match part {
                Part::Path => path(out, &attributes.as_path, separator),
                Part::Standard => join(out, separator, &attributes.communities, |out, community| {
                    self.standard(out, *community);
                }),
                Part::Extended => join(out, separator, &attributes.extended_communities, |out, community| {
                    display(out, &ExtendedCommunity(*community));
                }),
                Part::Large => join(out, separator, &attributes.large_communities, |out, community| {
                    display(out, &LargeCommunity(*community));
                }),
            }
            match (is_array, out.len() == text) {
                (true, true) => out.truncate(start),
                (true, false) => out.push(b'"'),
                (false, _) => {}
            }
        }
        out.extend_from_slice(close);
    }

    fn standard(self, out: &mut Vec<u8>, community: u32) {
        if self.numbers {
            number(out, community >> 16);
            out.push(b':');
            number(out, community & 0xffff);
        } else {
            display(out, &Community(community));
        }
    }
}

fn join<C>(out: &mut Vec<u8>, separator: &[u8], list: &[C], write: impl Fn(&mut Vec<u8>, &C)) {
    for (position, one) in list.iter().enumerate() {
        if position > 0 {
            out.extend_from_slice(separator);
        }
        write(out, one);
    }
}

/// Sets have commas in them, and are one hop.
fn path(out: &mut Vec<u8>, segments: &[BgpPathSegment], separator: &[u8]) {
    join(out, separator, segments, |out, segment| {
        let (open, between, close): (_, &[u8], _) = match segment.kind {
            BgpPathSegmentKind::Sequence => (None, separator, None),
            BgpPathSegmentKind::Set => (Some(b'{'), b",", Some(b'}')),
            BgpPathSegmentKind::ConfedSequence => (Some(b'('), separator, Some(b')')),
            BgpPathSegmentKind::ConfedSet => (Some(b'['), b",", Some(b']')),
        };
        out.extend(open);
        join(out, between, &segment.as_numbers, |out, as_number| number(out, *as_number));
        out.extend(close);
    });
}

fn display(out: &mut Vec<u8>, value: &impl std::fmt::Display) {
    struct Appended<'a>(&'a mut Vec<u8>);
    impl std::fmt::Write for Appended<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Appending does not fail.
    _ = write!(Appended(out), "{value}");
}
