//! Attributes in a row of octets: a third of the memory that the decoded ones take. They are read seldom, because
//! readers keep what they make of them by [`super::AttributesId`]; who needs little of them does not unpack all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{AsPath, AsPathEnds, Attributes, Origin, Segment, SegmentKind};

/// Attributes that [`Packed::unpack`] gives back as they were.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

/// Bits for what is there, in the order in which it is written.
const NEXT_HOP_IPV4: u16 = 1;
const NEXT_HOP_IPV6: u16 = 1 << 1;
const MULTI_EXIT_DISC: u16 = 1 << 2;
const LOCAL_PREF: u16 = 1 << 3;
const AIGP: u16 = 1 << 4;
const PREFIX_SID: u16 = 1 << 5;
const ONLY_TO_CUSTOMER: u16 = 1 << 6;
const ORIGINATOR_ID: u16 = 1 << 7;
const COMMUNITIES: u16 = 1 << 8;
const EXTENDED_COMMUNITIES: u16 = 1 << 9;
const LARGE_COMMUNITIES: u16 = 1 << 10;
/// From here on, ORIGIN.
const ORIGIN_SHIFT: u32 = 14;

/// Octets of each value of one length.
const FIXED: [(u16, usize); 8] = [
    (NEXT_HOP_IPV4, 4),
    (NEXT_HOP_IPV6, 16),
    (MULTI_EXIT_DISC, 4),
    (LOCAL_PREF, 4),
    (AIGP, 8),
    (PREFIX_SID, 4),
    (ONLY_TO_CUSTOMER, 4),
    (ORIGINATOR_ID, 4),
];
/// Octets of each element of a list.
const LISTS: [(u16, usize); 3] = [(COMMUNITIES, 4), (EXTENDED_COMMUNITIES, 8), (LARGE_COMMUNITIES, 12)];

impl Packed {
    pub(super) fn pack(attributes: &Attributes) -> Self {
        let mut octets = vec![0, 0];
        let mut present = (attributes.origin as u16) << ORIGIN_SHIFT;
        let mut put = |bit: u16, value: Option<&[u8]>| {
            if let Some(value) = value {
                present |= bit;
                octets.extend_from_slice(value);
            }
        };
        let word = |value: Option<u32>| value.map(u32::to_le_bytes);
        match attributes.next_hop {
            Some(IpAddr::V4(address)) => put(NEXT_HOP_IPV4, Some(&address.octets())),
            Some(IpAddr::V6(address)) => put(NEXT_HOP_IPV6, Some(&address.octets())),
            None => {}
        }
        put(MULTI_EXIT_DISC, word(attributes.multi_exit_disc).as_ref().map(<[u8; 4]>::as_slice));
        put(LOCAL_PREF, word(attributes.local_pref).as_ref().map(<[u8; 4]>::as_slice));
        put(AIGP, attributes.aigp.map(u64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
        put(PREFIX_SID, word(attributes.prefix_sid_label_index).as_ref().map(<[u8; 4]>::as_slice));
        put(ONLY_TO_CUSTOMER, word(attributes.only_to_customer).as_ref().map(<[u8; 4]>::as_slice));
        put(ORIGINATOR_ID, attributes.originator_id.map(|id| id.octets()).as_ref().map(<[u8; 4]>::as_slice));
        let mut list = |bit: u16, count: usize, values: &mut dyn Iterator<Item = u8>| {
            if count > 0 {
                present |= bit;
                put_count(&mut octets, count);
                octets.extend(values);
            }
        };
        let communities = &attributes.communities;
        list(COMMUNITIES, communities.len(), &mut communities.iter().flat_map(|value| value.to_le_bytes()));
        let extended = &attributes.extended_communities;
        list(EXTENDED_COMMUNITIES, extended.len(), &mut extended.as_flattened().iter().copied());
        let large = &attributes.large_communities;
        let words = large.as_flattened().iter();
        list(LARGE_COMMUNITIES, large.len(), &mut words.flat_map(|value| value.to_le_bytes()));
        for segment in &attributes.as_path.segments {
            octets.push(segment.kind as u8);
            put_count(&mut octets, segment.as_numbers.len());
            octets.extend(segment.as_numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        if let Some(first) = octets.first_chunk_mut() {
            *first = present.to_le_bytes();
        }
        Self(octets.into_boxed_slice())
    }

    /// Octets of memory.
    pub(super) fn octets(&self) -> usize {
        self.0.len() + size_of::<Self>()
    }

    pub(super) fn unpack(&self) -> Attributes {
        let mut rest = Rest(&self.0);
        let present = u16::from_le_bytes(rest.take());
        let has = |bit: u16| present & bit != 0;
        let next_hop = if has(NEXT_HOP_IPV4) {
            Some(Ipv4Addr::from(rest.take::<4>()).into())
        } else {
            has(NEXT_HOP_IPV6).then(|| Ipv6Addr::from(rest.take::<16>()).into())
        };
        Attributes {
            origin: match present >> ORIGIN_SHIFT {
                0 => Origin::Igp,
                1 => Origin::Egp,
                _ => Origin::Incomplete,
            },
            next_hop,
            multi_exit_disc: has(MULTI_EXIT_DISC).then(|| rest.word()),
            local_pref: has(LOCAL_PREF).then(|| rest.word()),
            aigp: has(AIGP).then(|| u64::from_le_bytes(rest.take())),
            prefix_sid_label_index: has(PREFIX_SID).then(|| rest.word()),
            only_to_customer: has(ONLY_TO_CUSTOMER).then(|| rest.word()),
            originator_id: has(ORIGINATOR_ID).then(|| Ipv4Addr::from(rest.take::<4>())),
            communities: rest.list(has(COMMUNITIES), Rest::word),
            extended_communities: rest.list(has(EXTENDED_COMMUNITIES), Rest::take),
            large_communities: rest.list(has(LARGE_COMMUNITIES), |rest| std::array::from_fn(|_| rest.word())),
            as_path: rest.as_path(),
        }
    }

    /// The next hop alone.
    pub(super) fn next_hop(&self) -> Option<IpAddr> {
        let mut rest = Rest(&self.0);
        let present = u16::from_le_bytes(rest.take());
        if present & NEXT_HOP_IPV4 != 0 {
            return Some(Ipv4Addr::from(rest.take::<4>()).into());
        }
        (present & NEXT_HOP_IPV6 != 0).then(|| Ipv6Addr::from(rest.take::<16>()).into())
    }

    /// The ends of the AS path alone.
    pub(super) fn as_path_ends(&self) -> AsPathEnds {
        let mut rest = Rest(&self.0);
        let present = u16::from_le_bytes(rest.take());
        let octets: usize =
            FIXED.iter().filter(|(bit, _)| present & bit != 0).map(|(_, octets)| octets).sum();
        rest.skip(octets);
        for (bit, octets) in LISTS {
            if present & bit != 0 {
                let count = rest.count();
                rest.skip(count.saturating_mul(octets));
            }
        }
        let mut ends = AsPathEnds::default();
        while !rest.0.is_empty() {
            let kind = rest.segment_kind();
            let count = rest.count();
            if count == 0 {
                continue;
            }
            let first = rest.word();
            rest.skip(count.saturating_sub(2).saturating_mul(4));
            let last = if count > 1 { rest.word() } else { first };
            ends.add(kind, first, last);
        }
        ends
    }
}

/// One octet for less than 255, five for others.
fn put_count(octets: &mut Vec<u8>, count: usize) {
    match u8::try_from(count) {
        Ok(count) if count < u8::MAX => octets.push(count),
        _ => {
            octets.push(u8::MAX);
            octets.extend_from_slice(&(count as u32).to_le_bytes());
        }
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        // There are as many octets as were written.
        let (taken, rest) = self.0.split_first_chunk().unwrap_or((&[0; N], &[]));
        self.0 = rest;
        *taken
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn count(&mut self) -> usize {
        match self.take() {
            [u8::MAX] => self.word() as usize,
            [count] => count.into(),
        }
    }

    fn list<T>(&mut self, present: bool, mut each: impl FnMut(&mut Self) -> T) -> Box<[T]> {
        let count = if present { self.count() } else { 0 };
        (0..count).map(|_| each(self)).collect()
    }

    fn skip(&mut self, octets: usize) {
        self.0 = self.0.get(octets..).unwrap_or_default();
    }

    fn segment_kind(&mut self) -> SegmentKind {
        match self.take() {
            [1] => SegmentKind::Set,
            [2] => SegmentKind::Sequence,
            [3] => SegmentKind::ConfedSequence,
            [_] => SegmentKind::ConfedSet,
        }
    }

    fn as_path(&mut self) -> AsPath {
        let mut segments = Vec::new();
        while !self.0.is_empty() {
            let kind = self.segment_kind();
            segments.push(Segment { kind, as_numbers: self.list(true, Self::word) });
        }
        AsPath { segments: segments.into_boxed_slice() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn as_path() -> impl Strategy<Value = AsPath> {
        let kinds =
            [SegmentKind::Set, SegmentKind::Sequence, SegmentKind::ConfedSequence, SegmentKind::ConfedSet];
        let segment = (prop::sample::select(kinds.to_vec()), prop::collection::vec(any::<u32>(), 0..300));
        let segment = segment.prop_map(|(kind, numbers)| Segment { kind, as_numbers: numbers.into() });
        prop::collection::vec(segment, 0..4).prop_map(|segments| AsPath { segments: segments.into() })
    }

    proptest! {
        #[test]
        fn attributes_come_back_as_they_were(
            path in as_path(),
            origin in prop::sample::select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]),
            (next_hop, aigp) in (any::<Option<IpAddr>>(), any::<Option<u64>>()),
            words in any::<[Option<u32>; 5]>(),
            communities in prop::collection::vec(any::<u32>(), 0..400),
            extended in prop::collection::vec(any::<[u8; 8]>(), 0..4),
            large in prop::collection::vec(any::<[u32; 3]>(), 0..4),
        ) {
            let attributes = Attributes {
                origin,
                as_path: path,
                next_hop,
                multi_exit_disc: words[0],
                local_pref: words[1],
                communities: communities.into(),
                extended_communities: extended.into(),
                large_communities: large.into(),
                aigp,
                prefix_sid_label_index: words[2],
                only_to_customer: words[3],
                originator_id: words[4].map(Ipv4Addr::from),
            };
            let packed = Packed::pack(&attributes);
            prop_assert_eq!(packed.next_hop(), attributes.next_hop);
            let ends = packed.as_path_ends();
            let path = &attributes.as_path;
            prop_assert_eq!(ends, path.ends());
            prop_assert_eq!((ends.last, ends.first_outside), (path.origin_as(), path.peer_as()));
            prop_assert_eq!(ends.is_empty(), path.is_empty());
            let numbers = || path.segments.iter().flat_map(|segment| segment.as_numbers.iter().copied());
            prop_assert_eq!((ends.first, ends.last), (numbers().next(), numbers().last()));
            let last = path.segments.iter().rfind(|segment| !segment.as_numbers.is_empty());
            let is_sequence = last.is_some_and(|segment| segment.kind == SegmentKind::Sequence);
            prop_assert_eq!(ends.announced_by(), if is_sequence { path.origin_as() } else { None });
            let is_outside =
                |segment: &&Segment| matches!(segment.kind, SegmentKind::Set | SegmentKind::Sequence);
            let outside = path.segments.iter().filter(is_outside);
            let last_outside = outside.flat_map(|segment| segment.as_numbers.iter().copied()).last();
            prop_assert_eq!(ends.last_outside, last_outside);
            prop_assert_eq!(packed.unpack(), attributes);
        }
    }
}
