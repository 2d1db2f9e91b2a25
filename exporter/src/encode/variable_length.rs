//! Fields of IPFIX whose length differs from record to record (RFC 7011, section 7).

use std::sync::Arc;

use super::Full;
use crate::bgp_route::BgpRoute;
use crate::community_lists::{CommunityLists, ListField};
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

    fn length(record: &FlowRecord, content: Content) -> usize {
        let mut length = 0;
        for lists in routes(record) {
            if content.has(Content::COMMUNITIES) {
                length += lists.communities().length();
            }
            if content.has(Content::OTHER_COMMUNITIES) {
                length += lists.extended_communities().length() + lists.large_communities().length();
            }
        }
        if content.has(Content::TAGS) {
            let label = label(record).len() + 1;
            length += 8 + 8 + if label > MAX_SHORT { 3 } else { 1 } + label;
        }
        length
    }

    #[inline(always)]
    fn write<'octets>(
        mut octets: &'octets mut [u8],
        record: &FlowRecord,
        content: Content,
    ) -> Result<&'octets mut [u8], Full> {
        if content.has(Content::COMMUNITIES) {
            for lists in routes(record) {
                octets = put_list(octets, lists.communities())?;
            }
        }
        if content.has(Content::OTHER_COMMUNITIES) {
            let lists = routes(record);
            for list in lists.map(CommunityLists::extended_communities) {
                octets = put_list(octets, list)?;
            }
            for list in lists.map(CommunityLists::large_communities) {
                octets = put_list(octets, list)?;
            }
        }
        if content.has(Content::TAGS) {
            octets = put_tags(octets, record)?;
        }
        Ok(octets)
    }
}

#[inline]
fn put_tags<'octets>(octets: &'octets mut [u8], record: &FlowRecord) -> Result<&'octets mut [u8], Full> {
    let tags = u128::from(record.tag) << 64 | u128::from(record.tag2);
    let (field, octets) = octets.split_first_chunk_mut().ok_or(Full)?;
    *field = tags.to_be_bytes();
    let label = label(record);
    // pmacct sends a zero octet at the end, and counts on it when it receives.
    let length = label.len() + 1;
    let octets = if length > MAX_SHORT {
        put(put(octets, &[u8::MAX])?, &(length as u16).to_be_bytes())?
    } else {
        put(octets, &[length as u8])?
    };
    let octets = put(octets, label)?;
    put(octets, &[0])
}

#[inline]
fn label(record: &FlowRecord) -> &[u8] {
    let label = record.label.as_deref().unwrap_or_default().as_bytes();
    label.get(..MAX_LABEL).unwrap_or(label)
}

/// Source and destination, in the order of the fields of each kind.
#[inline]
fn routes(record: &FlowRecord) -> [&CommunityLists; 2] {
    [record.source_route.as_ref(), record.destination_route.as_ref()].map(lists_of)
}

#[inline]
fn lists_of(route: Option<&Arc<BgpRoute>>) -> &CommunityLists {
    route.map_or(CommunityLists::NONE, |route| route.communities())
}

/// Writes `list` to the beginning of `octets`, and maybe more after it; returns the rest.
#[inline]
fn put_list<'octets>(octets: &'octets mut [u8], list: &ListField) -> Result<&'octets mut [u8], Full> {
    let Some(block) = list.block() else { return put(octets, list.octets()) };
    *octets.first_chunk_mut().ok_or(Full)? = *block;
    octets.get_mut(list.length()..).ok_or(Full)
}

/// Writes `value` to the beginning of `octets`; returns the rest.
#[inline]
fn put<'octets>(octets: &'octets mut [u8], value: &[u8]) -> Result<&'octets mut [u8], Full> {
    let (field, rest) = octets.split_at_mut_checked(value.len()).ok_or(Full)?;
    copy(field, value);
    Ok(rest)
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
