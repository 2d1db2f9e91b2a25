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
    let start = out.len();
    for segment in segments {
        let (open, close): (&[u8], &[u8]) = match segment.kind {
            BgpPathSegmentKind::Sequence if segment.as_numbers.is_empty() => continue,
            BgpPathSegmentKind::Sequence => (b"", b""),
            BgpPathSegmentKind::Set => (b"{\"set\":[", b"]}"),
            BgpPathSegmentKind::ConfedSequence => (b"{\"confed_sequence\":[", b"]}"),
            BgpPathSegmentKind::ConfedSet => (b"{\"confed_set\":[", b"]}"),
        };
        if out.len() > start {
            out.push(b',');
        }
        out.put(open);
        join(out, b",", &segment.as_numbers, |out, as_number| number(out, *as_number));
        out.put(close);
    }
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

#[cfg(test)]
mod tests {
    use BgpPathSegmentKind as Kind;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn routes() -> impl Strategy<Value = Arc<BgpRoute>> {
        let kind = prop_oneof![
            Just(Kind::Sequence),
            Just(Kind::Set),
            Just(Kind::ConfedSequence),
            Just(Kind::ConfedSet)
        ];
        let segment = (kind, vec(any::<u32>(), 0..9));
        let segment = segment.prop_map(|(kind, list)| BgpPathSegment { kind, as_numbers: list.into() });
        let community = prop_oneof![any::<u32>(), 0xffff_ff00..=0xffff_ff04_u32, 0..2_u32];
        let extended = (0..3_u8, 1..4_u8, any::<[u8; 6]>()).prop_map(|(kind, subtype, value)| {
            let mut octets = [kind, subtype, 0, 0, 0, 0, 0, 0];
            octets[2..].copy_from_slice(&value);
            octets
        });
        // Some texts are longer than what is kept.
        let lists =
            (vec(segment, 0..4), vec(community, 0..40), vec(extended, 0..20), vec(any::<[u32; 3]>(), 0..20));
        lists.prop_map(|(as_path, communities, extended, large)| {
            Arc::new(BgpRoute::new(BgpAttributes {
                as_path: as_path.into(),
                communities: communities.into(),
                extended_communities: extended.into(),
                large_communities: large.into(),
                ..BgpAttributes::default()
            }))
        })
    }

    /// Each hop as text: sets are one hop.
    fn hops(route: &BgpRoute, between: &str) -> Vec<String> {
        let hop = |segment: &BgpPathSegment| {
            let list: Vec<String> = segment.as_numbers.iter().map(u32::to_string).collect();
            match segment.kind {
                Kind::Sequence => list.join(between),
                Kind::Set => format!("{{{}}}", list.join(",")),
                Kind::ConfedSequence => format!("({})", list.join(between)),
                Kind::ConfedSet => format!("[{}]", list.join(",")),
            }
        };
        route.attributes().as_path.iter().map(hop).collect()
    }

    fn typed(route: &BgpRoute) -> Json {
        let mut list = Vec::new();
        for segment in &route.attributes().as_path {
            let numbers: Vec<Json> = segment.as_numbers.iter().map(|number| json!(number)).collect();
            match segment.kind {
                Kind::Sequence => list.extend(numbers),
                Kind::Set => list.push(json!({"set": numbers})),
                Kind::ConfedSequence => list.push(json!({"confed_sequence": numbers})),
                Kind::ConfedSet => list.push(json!({"confed_set": numbers})),
            }
        }
        list.into()
    }

    fn communities(route: &BgpRoute, part: Part, numbers: bool) -> Vec<String> {
        let attributes = route.attributes();
        let standard = |number: &u32| {
            let name = Community(*number).to_string();
            if numbers { format!("{}:{}", number >> 16, number & 0xffff) } else { name }
        };
        match part {
            Part::Path => Vec::new(),
            Part::Standard => attributes.communities.iter().map(standard).collect(),
            Part::Extended => {
                let texts = attributes.extended_communities.iter();
                texts.map(|octets| ExtendedCommunity(*octets).to_string()).collect()
            }
            Part::Large => {
                let texts = attributes.large_communities.iter();
                texts.map(|[global, first, second]| format!("{global}:{first}:{second}")).collect()
            }
        }
    }

    /// By `format!` and `serde_json`, each time anew.
    fn model(style: RouteStyle, primitive: Primitive, route: &BgpRoute) -> String {
        let part = part(primitive);
        let array = |list: &[String]| json!(list).to_string().replace("\",\"", "\", \"");
        let quoted = |text: String| if style.quoted { format!("\"{text}\"") } else { text };
        match (part, style.path) {
            (Part::Path, PathStyle::Typed) => typed(route).to_string(),
            (Part::Path, PathStyle::Array) => match hops(route, "\", \"").join("\", \"") {
                empty if empty.is_empty() => "[]".to_owned(),
                hops => format!("[\"{hops}\"]"),
            },
            (Part::Path, PathStyle::Text) => quoted(hops(route, "_").join("_")),
            (part, _) => {
                let list = communities(route, part, style.numbers);
                if style.communities_as_array { array(&list) } else { quoted(list.join("_")) }
            }
        }
    }

    /// Routes come and go under the same few numbers, some of which share their place.
    #[test]
    fn kept_texts_are_those_of_their_routes() {
        let primitives = [Primitive::AsPath, Primitive::StdComm, Primitive::ExtComm, Primitive::LrgComm];
        let rows = vec((0..6_usize, 0..3_usize, 0..4_usize, any::<bool>()), 1..100);
        proptest!(|(routes in vec(routes(), 6), rows in rows, style in 0..12_u8)| {
            let style = RouteStyle {
                path: [PathStyle::Text, PathStyle::Array, PathStyle::Typed][usize::from(style % 3)],
                communities_as_array: style & 1 != 0,
                numbers: style & 2 != 0,
                quoted: style & 1 != 0 || style % 3 > 0 || style & 4 != 0,
            };
            let mut writer = RouteWriter::new(style);
            for (route, number, primitive, has_route) in rows {
                let (route, primitive) = (&routes[route], primitives[primitive]);
                let number = [1, MOST_TEXTS as u32 + 1, 7][number];
                let mut out = Line::default();
                writer.write(&mut out, primitive, has_route.then_some(RouteValue { route, number }));
                let nothing = BgpRoute::new(BgpAttributes::default());
                let expected = model(style, primitive, if has_route { route } else { &nothing });
                prop_assert_eq!(std::str::from_utf8(out.text()).unwrap(), expected);
            }
        });
    }
}
