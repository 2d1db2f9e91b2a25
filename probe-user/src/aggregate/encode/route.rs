//! AS paths and communities as pmacct's flow records have them: `_` where BGP's own output has blanks.
//!
//! Rows of a purge have few routes, so texts are kept.

use std::fmt::Write as _;
use std::sync::Arc;

use pathflow_bgp::{Community, ExtendedCommunity};
use pathflow_exporter::{BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute};

use super::line::{CHUNK, Line};
use super::text::number;
use super::{Primitive, RouteValue};

/// How the parts of a route are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteStyle {
    pub path: PathStyle,
    /// Communities are JSON arrays.
    pub communities_as_array: bool,
    /// Well-known communities are numbers too.
    pub numbers: bool,
    /// Text goes in quotation marks.
    pub quoted: bool,
}

/// How AS paths are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathStyle {
    /// `6939_3356_{64500,64501}`
    Text,
    /// `["6939", "3356", "{64500,64501}"]`
    Array,
    /// `[6939,3356,{"set":[64500,64501]}]`
    Typed,
}

/// Writes parts of routes.
#[derive(Debug)]
pub(super) struct RouteWriter {
    style: RouteStyle,
    /// Texts of parts of each kind, by their number.
    texts: [Vec<Text>; 4],
}

/// Texts of a kind that are kept at most.
const MOST_TEXTS: usize = 2048;
/// Chunks of the longest text that is kept.
const CHUNKS: usize = 8;

/// The text of a part.
#[derive(Clone, Debug)]
struct Text {
    /// The route that it is of, which cannot become another one as long as it is held; `None` = no text.
    of: Option<Arc<BgpRoute>>,
    length: usize,
    chunks: [[u8; CHUNK]; CHUNKS],
}

/// The part of a route that a primitive names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Part {
    Path = 0,
    Standard = 1,
    Extended = 2,
    Large = 3,
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

impl RouteWriter {
    pub(super) const fn new(style: RouteStyle) -> Self {
        Self { style, texts: [const { Vec::new() }; 4] }
    }

    /// Appends what `primitive` says of a route.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Line, primitive: Primitive, value: Option<RouteValue<'_>>) {
        let part = part(primitive);
        let Some(RouteValue { route, number }) = value else {
            return self.style.write_nothing(out, part);
        };
        let kept = self.texts[part as usize].get(number as usize % MOST_TEXTS);
        match kept.filter(|text| text.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, route))) {
            Some(text) => out.put_chunks(&text.chunks, text.length),
            None => self.write_new(out, part, route, number),
        }
    }

    fn write_new(&mut self, out: &mut Line, part: Part, route: &Arc<BgpRoute>, number: u32) {
        let start = out.len();
        self.style.write(out, part, route.attributes());
        let text = out.text().get(start..).unwrap_or_default();
        let texts = &mut self.texts[part as usize];
        let at = number as usize % MOST_TEXTS;
        if at >= texts.len() {
            texts.resize(at + 1, Text { of: None, length: 0, chunks: [[0; CHUNK]; CHUNKS] });
        }
        if let Some(kept) = texts.get_mut(at)
            && let Some(room) = kept.chunks.as_flattened_mut().get_mut(..text.len())
        {
            room.copy_from_slice(text);
            (kept.of, kept.length) = (Some(Arc::clone(route)), text.len());
        }
    }
}

impl RouteStyle {
    fn write_nothing(self, out: &mut Line, part: Part) {
        if self.is_array(part) {
            out.put_first(*b"[]", 2);
        } else if self.quoted {
            out.put_first(*b"\"\"", 2);
        }
    }

    fn is_array(self, part: Part) -> bool {
        if part == Part::Path { self.path != PathStyle::Text } else { self.communities_as_array }
    }

    fn write(self, out: &mut Line, part: Part, attributes: &BgpAttributes) {
        if part == Part::Path && self.path == PathStyle::Typed {
            return typed_path(out, &attributes.as_path);
        }
        let is_array = self.is_array(part);
        let (open, separator, close): (&[u8], &[u8], &[u8]) = match (is_array, self.quoted) {
            (true, _) => (b"[\"", b"\", \"", b"\"]"),
            (false, true) => (b"\"", b"_", b"\""),
            (false, false) => (b"", b"_", b""),
        };
        let start = out.len();
        out.put(open);
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
                join(out, b":", community, |out, part| number(out, *part));
            }),
        }
        if is_array && out.len() == text {
            out.truncate(start);
            out.put(b"[]");
        } else {
            out.put(close);
        }
    }

    fn standard(self, out: &mut Line, community: u32) {
        match Community(community).name().filter(|_| !self.numbers) {
            Some(name) => out.put(name.as_bytes()),
            None => join(out, b":", &[community >> 16, community & 0xffff], |out, half| number(out, *half)),
        }
    }
}

fn join<C>(out: &mut Line, separator: &[u8], list: &[C], write: impl Fn(&mut Line, &C)) {
    for (position, one) in list.iter().enumerate() {
        if position > 0 {
            out.put(separator);
        }
        write(out, one);
    }
}

/// Sets have commas in them, and are one hop.
fn path(out: &mut Line, segments: &[BgpPathSegment], separator: &[u8]) {
    join(out, separator, segments, |out, segment| {
        let (open, between, close): (&[u8], &[u8], &[u8]) = match segment.kind {
            BgpPathSegmentKind::Sequence => (b"", separator, b""),
            BgpPathSegmentKind::Set => (b"{", b",", b"}"),
            BgpPathSegmentKind::ConfedSequence => (b"(", separator, b")"),
            BgpPathSegmentKind::ConfedSet => (b"[", b",", b"]"),
        };
        out.put(open);
        join(out, between, &segment.as_numbers, |out, as_number| number(out, *as_number));
        out.put(close);
    });
}

/// A list of numbers, in which objects stand for segments that are no sequence.
fn typed_path(out: &mut Line, segments: &[BgpPathSegment]) {
    out.push(b'[');
    join(out, b",", segments, |out, segment| {
        let (open, close): (&[u8], &[u8]) = match segment.kind {
            BgpPathSegmentKind::Sequence => (b"", b""),
            BgpPathSegmentKind::Set => (b"{\"set\":[", b"]}"),
            BgpPathSegmentKind::ConfedSequence => (b"{\"confed_sequence\":[", b"]}"),
            BgpPathSegmentKind::ConfedSet => (b"{\"confed_set\":[", b"]}"),
        };
        out.put(open);
        join(out, b",", &segment.as_numbers, |out, as_number| number(out, *as_number));
        out.put(close);
    });
    out.push(b']');
}

fn display(out: &mut Line, value: &impl std::fmt::Display) {
    struct Appended<'a>(&'a mut Line);
    impl std::fmt::Write for Appended<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.put(text.as_bytes());
            Ok(())
        }
    }
    // Appending does not fail.
    _ = write!(Appended(out), "{value}");
}
