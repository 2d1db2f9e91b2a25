//! What a route says: its path attributes, decoded and owned.

use std::fmt;
use std::net::IpAddr;

/// The path attributes of a route (RFC 4271, section 5, and the RFCs named at each field). All values are in host
/// byte order. An attribute that the peer did not send, or that was discarded (RFC 7606), is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN.
    pub origin: Origin,
    /// `AS_PATH`, with AS4_PATH merged in on a session of two-octet AS numbers (RFC 6793, section 4.2.3).
    pub as_path: AsPath,
    /// `NEXT_HOP`, or the global address in `MP_REACH_NLRI` (RFC 4760, RFC 2545, RFC 8950).
    pub next_hop: Option<IpAddr>,
    /// `MULTI_EXIT_DISC`.
    pub multi_exit_disc: Option<u32>,
    /// `LOCAL_PREF`.
    pub local_pref: Option<u32>,
    /// COMMUNITIES (RFC 1997), in the order received.
    pub communities: Box<[u32]>,
    /// EXTENDED COMMUNITIES (RFC 4360), in the order received.
    pub extended_communities: Box<[[u8; 8]]>,
    /// `LARGE_COMMUNITY` (RFC 8092): Global Administrator and two local parts, in the order received.
    pub large_communities: Box<[[u32; 3]]>,
    /// AIGP metric (RFC 7311).
    pub aigp: Option<u64>,
    /// Label-Index of the BGP Prefix-SID (RFC 8669, section 3.1).
    pub prefix_sid_label_index: Option<u32>,
    /// Only to Customer (RFC 9234, section 5).
    pub only_to_customer: Option<u32>,
    /// `ORIGINATOR_ID` (RFC 4456, section 8).
    pub originator_id: Option<std::net::Ipv4Addr>,
}

impl Attributes {
    /// Octets of memory that they take, about.
    pub(crate) fn size(&self) -> usize {
        let segments = &self.as_path.segments;
        let path: usize = segments.iter().map(|segment| size_of_val(&*segment.as_numbers)).sum();
        size_of::<Self>()
            + size_of_val(&**segments)
            + path
            + size_of_val(&*self.communities)
            + size_of_val(&*self.extended_communities)
            + size_of_val(&*self.large_communities)
    }
}

/// Values of ORIGIN (RFC 4271, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// Interior to the originating AS.
    Igp = 0,
    /// Learned by EGP (RFC 904).
    Egp = 1,
    /// Learned by some other means.
    #[default]
    Incomplete = 2,
}

/// Kinds of AS_PATH segments (RFC 4271, section 4.3; RFC 5065, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SegmentKind {
    /// `AS_SET`: unordered.
    Set = 1,
    /// `AS_SEQUENCE`: nearest first.
    Sequence = 2,
    /// `AS_CONFED_SEQUENCE`.
    ConfedSequence = 3,
    /// `AS_CONFED_SET`.
    ConfedSet = 4,
}

/// One segment of an AS_PATH.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// What the numbers mean together.
    pub kind: SegmentKind,
    /// AS numbers as received.
    pub as_numbers: Box<[u32]>,
}

/// `AS_PATH`. An empty one is that of a route of the router's own AS, which is not the same as no route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsPath {
    /// Segments, nearest first.
    pub segments: Box<[Segment]>,
}

impl AsPath {
    /// The AS from which the route comes: the last number of the path, of a set its last as received. `None` if the
    /// path is empty.
    #[must_use]
    pub fn origin_as(&self) -> Option<u32> {
        self.segments.iter().rev().find_map(|segment| segment.as_numbers.last().copied())
    }

    /// The AS from which the router has the route: the first number outside confederations (RFC 5065, section 5.3:
    /// those are not seen from outside); `None` if there is none.
    #[must_use]
    pub fn peer_as(&self) -> Option<u32> {
        self.segments
            .iter()
            .filter(|segment| matches!(segment.kind, SegmentKind::Set | SegmentKind::Sequence))
            .find_map(|segment| segment.as_numbers.first().copied())
    }

    /// True if there is no AS number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.iter().all(|segment| segment.as_numbers.is_empty())
    }

    /// What its ends say.
    #[must_use]
    pub fn ends(&self) -> AsPathEnds {
        let mut ends = AsPathEnds::default();
        for Segment { kind, as_numbers } in &self.segments {
            if let (Some(first), Some(last)) = (as_numbers.first(), as_numbers.last()) {
                ends.add(*kind, *first, *last);
            }
        }
        ends
    }
}

/// The ends of an `AS_PATH`: all that is needed to know whose a route is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsPathEnds {
    /// First AS number; `None` if the path is empty.
    pub first: Option<u32>,
    /// First AS number outside confederations, as [`AsPath::peer_as`].
    pub first_outside: Option<u32>,
    /// Last AS number, as [`AsPath::origin_as`].
    pub last: Option<u32>,
    /// Last AS number outside confederations.
    pub last_outside: Option<u32>,
    /// Whether the last AS number is in an `AS_SEQUENCE`.
    pub ends_with_sequence: bool,
}

impl AsPathEnds {
    /// Adds a segment that is not empty behind the others, by its first and last AS number.
    pub(crate) fn add(&mut self, kind: SegmentKind, first: u32, last: u32) {
        self.first.get_or_insert(first);
        self.last = Some(last);
        if matches!(kind, SegmentKind::Set | SegmentKind::Sequence) {
            self.first_outside.get_or_insert(first);
            self.last_outside = Some(last);
        }
        self.ends_with_sequence = kind == SegmentKind::Sequence;
    }

    /// True if there is no AS number.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The AS that origin validation looks at (RFC 6811, section 2): the last of the path; `None` if that is in a set or
    /// in a confederation, or there is none.
    #[must_use]
    pub fn announced_by(&self) -> Option<u32> {
        self.last.filter(|_| self.ends_with_sequence)
    }
}

impl fmt::Display for AsPath {
    /// As pmacct writes it: `64500 64501 {64502,64503}`, confederations `(64512 64513)` and `[64514,64515]`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.segments.iter().enumerate() {
            let (open, separator, close) = match segment.kind {
                SegmentKind::Sequence => ("", " ", ""),
                SegmentKind::Set => ("{", ",", "}"),
                SegmentKind::ConfedSequence => ("(", " ", ")"),
                SegmentKind::ConfedSet => ("[", ",", "]"),
            };
            if position > 0 {
                formatter.write_str(" ")?;
            }
            formatter.write_str(open)?;
            for (number, as_number) in segment.as_numbers.iter().enumerate() {
                if number > 0 {
                    formatter.write_str(separator)?;
                }
                write!(formatter, "{as_number}")?;
            }
            formatter.write_str(close)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(segments: &[(SegmentKind, &[u32])]) -> AsPath {
        let segment = |(kind, numbers): &(SegmentKind, &[u32])| Segment {
            kind: *kind,
            as_numbers: Box::from(*numbers),
        };
        AsPath { segments: segments.iter().map(segment).collect() }
    }

    #[test]
    fn origin_and_peer_are_the_ends_of_the_path() {
        let plain = path(&[(SegmentKind::Sequence, &[6939, 3356, 60729])]);
        assert_eq!((plain.peer_as(), plain.origin_as()), (Some(6939), Some(60729)));
        assert_eq!(plain.to_string(), "6939 3356 60729");

        let mixed = path(&[
            (SegmentKind::ConfedSequence, &[64512, 64513]),
            (SegmentKind::ConfedSet, &[64514, 64515]),
            (SegmentKind::Sequence, &[3356]),
            (SegmentKind::Set, &[64501, 64502]),
        ]);
        assert_eq!((mixed.peer_as(), mixed.origin_as()), (Some(3356), Some(64502)));
        assert_eq!(mixed.to_string(), "(64512 64513) [64514,64515] 3356 {64501,64502}");

        assert_eq!((AsPath::default().peer_as(), AsPath::default().origin_as()), (None, None));
        assert!(AsPath::default().is_empty());
    }
}
