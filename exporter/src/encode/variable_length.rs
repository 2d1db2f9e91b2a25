//! Fields of IPFIX whose length differs from record to record (RFC 7011, section 7).

use crate::bgp_route::BgpRoute;
use crate::flow_template::{Content, VariableFields};
use crate::information_element::InformationElement as Ie;
use crate::record::FlowRecord;
use crate::template::FieldSpecifier;

/// BGP communities of both routes, and pmacct's private elements.
pub(super) struct CommunitiesAndTags;

const COMMUNITIES: &[FieldSpecifier] =
    &[variable(Ie::BgpSourceCommunityList), variable(Ie::BgpDestinationCommunityList)];

const OTHER_COMMUNITIES: &[FieldSpecifier] = &[
    variable(Ie::BgpSourceExtendedCommunityList),
    variable(Ie::BgpDestinationExtendedCommunityList),
    variable(Ie::BgpSourceLargeCommunityList),
    variable(Ie::BgpDestinationLargeCommunityList),
];

const TAGS: &[FieldSpecifier] = &[fixed(Ie::Tag, 8), fixed(Ie::Tag2, 8), variable(Ie::Label)];

/// In a constant, `panic` is a compile error, never one at run time.
const fn fixed(element: Ie, length: u16) -> FieldSpecifier {
    match FieldSpecifier::new(element, length) {
        Some(specifier) => specifier,
        None => panic!("length not allowed for this Information Element"),
    }
}

const fn variable(element: Ie) -> FieldSpecifier {
    fixed(element, FieldSpecifier::VARIABLE_LENGTH)
}

/// The lists of a route that there is not: no element each, in the order of [`BgpRoute::lists`].
const NO_LISTS: [&[u8]; 3] = [&[5, 3, 1, 227, 0, 4], &[5, 3, 1, 230, 0, 8], &[5, 3, 1, 233, 0, 12]];

/// A field of at most this many octets has one octet of length; a longer one has three.
const MAX_SHORT: usize = 254;

/// A label has to be shorter than this.
const MAX_LABEL: usize = 65_000;

impl VariableFields for CommunitiesAndTags {
    fn specifiers(content: Content) -> [&'static [FieldSpecifier]; 3] {
        [
            if content.has(Content::COMMUNITIES) { COMMUNITIES } else { &[] },
            if content.has(Content::OTHER_COMMUNITIES) { OTHER_COMMUNITIES } else { &[] },
            if content.has(Content::TAGS) { TAGS } else { &[] },
        ]
    }

    #[inline]
    fn length(record: &FlowRecord, content: Content) -> usize {
        let routes = routes(record);
        let of_kind = |kind| routes.iter().map(|route| list(*route, kind).len()).sum::<usize>();
        let mut length = 0;
        if content.has(Content::COMMUNITIES) {
            length += of_kind(0);
        }
        if content.has(Content::OTHER_COMMUNITIES) {
            length += of_kind(1) + of_kind(2);
        }
        if content.has(Content::TAGS) {
            let label = label(record).len() + 1;
            length += 8 + 8 + if label > MAX_SHORT { 3 } else { 1 } + label;
        }
        length
    }

    #[inline]
    fn write(mut octets: &mut [u8], record: &FlowRecord, content: Content) {
        let routes = routes(record);
        if content.has(Content::COMMUNITIES) {
            for route in routes {
                octets = put(octets, list(route, 0));
            }
        }
        if content.has(Content::OTHER_COMMUNITIES) {
            for (kind, route) in [1, 2].into_iter().flat_map(|kind| routes.map(|route| (kind, route))) {
                octets = put(octets, list(route, kind));
            }
        }
        if content.has(Content::TAGS) {
            octets = put(octets, &record.tag.to_be_bytes());
            octets = put(octets, &record.tag2.to_be_bytes());
            let label = label(record);
            // pmacct sends a zero octet at the end, and counts on it when it receives.
            let length = label.len() + 1;
            octets = match u8::try_from(length) {
                Ok(length) if length < u8::MAX => put(octets, &[length]),
                _ => put(put(octets, &[u8::MAX]), &(length as u16).to_be_bytes()),
            };
            octets = put(octets, label);
            octets = put(octets, &[0]);
        }
        debug_assert!(octets.is_empty());
    }
}

fn label(record: &FlowRecord) -> &[u8] {
    let label = record.label.as_deref().unwrap_or_default().as_bytes();
    label.get(..MAX_LABEL).unwrap_or(label)
}

/// In the order of the fields of each kind.
#[inline]
fn routes(record: &FlowRecord) -> [Option<&BgpRoute>; 2] {
    [record.source_route.as_deref(), record.destination_route.as_deref()]
}

/// One of [`BgpRoute::lists`], as a field.
#[inline]
fn list(route: Option<&BgpRoute>, kind: usize) -> &[u8] {
    let list = match route {
        Some(route) => route.lists().get(kind).map(AsRef::as_ref),
        None => NO_LISTS.get(kind).copied(),
    };
    list.unwrap_or_default()
}

/// Writes `value` to the beginning of `octets`; returns the rest.
#[inline]
fn put<'octets>(octets: &'octets mut [u8], value: &[u8]) -> &'octets mut [u8] {
    match octets.split_at_mut_checked(value.len()) {
        Some((field, rest)) => {
            copy(field, value);
            rest
        }
        // Not reached: the caller has made room.
        None => &mut [],
    }
}

/// Copies between slices of the same length. A call of `memcpy` takes longer than to copy the few octets of most lists
/// as two parts of fixed length, which may overlap.
#[inline]
fn copy(to: &mut [u8], from: &[u8]) {
    match from.len() {
        8..=16 => copy_ends::<8>(to, from),
        17..=32 => copy_ends::<16>(to, from),
        33..=64 => copy_ends::<32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn copy_ends<const LENGTH: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<LENGTH>(), from.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<LENGTH>(), from.last_chunk()) {
        *to = *from;
    }
}
