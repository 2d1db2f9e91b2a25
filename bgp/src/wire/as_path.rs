//! `AS_PATH` and AS4_PATH (RFC 4271, section 4.3; RFC 5065; RFC 6793).

use super::AsNumberSize;
use crate::error::AttributeErrorReason;
use crate::{AsPath, Segment, SegmentKind};

/// Most AS numbers of a path that is kept. The longest seen in the Internet have a few hundred; other speakers fell
/// over more than 2048 in an extended message (CVE-2026-49943).
pub(super) const MAXIMUM_AS_NUMBERS: usize = 2048;
/// Most AS numbers of one segment (RFC 4271, section 4.3: one octet).
const MAXIMUM_SEGMENT: usize = u8::MAX as usize;

impl SegmentKind {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Set,
            2 => Self::Sequence,
            3 => Self::ConfedSequence,
            4 => Self::ConfedSet,
            _ => return None,
        })
    }

    fn is_confederation(self) -> bool {
        matches!(self, Self::ConfedSequence | Self::ConfedSet)
    }
}

/// Checks a path: segment types and lengths (RFC 7606, section 7.2), AS number 0 (RFC 7607, section 2), that it is not
/// longer than what is kept, and that there is no confederation in it if it must not have one (RFC 5065, section 5).
pub(super) fn check(
    mut octets: &[u8],
    size: AsNumberSize,
    may_have_confederation: bool,
) -> Result<(), AttributeErrorReason> {
    let mut total = 0;
    while !octets.is_empty() {
        let (kind, numbers, rest) = split_segment(octets, size)?;
        if kind.is_confederation() && !may_have_confederation {
            return Err(AttributeErrorReason::NotExpected);
        }
        total += numbers.len() / size.octets();
        let has_zero = match size {
            AsNumberSize::TwoOctets => numbers.as_chunks::<2>().0.contains(&[0; 2]),
            AsNumberSize::FourOctets => numbers.as_chunks::<4>().0.contains(&[0; 4]),
        };
        if has_zero {
            return Err(AttributeErrorReason::Value);
        }
        octets = rest;
    }
    if total > MAXIMUM_AS_NUMBERS { Err(AttributeErrorReason::TooMany) } else { Ok(()) }
}

/// Kind and AS numbers of the first segment, and what follows.
fn split_segment(
    octets: &[u8],
    size: AsNumberSize,
) -> Result<(SegmentKind, &[u8], &[u8]), AttributeErrorReason> {
    let (&[kind, count], rest) = octets.split_first_chunk().ok_or(AttributeErrorReason::Length)?;
    let kind = SegmentKind::from_number(kind).ok_or(AttributeErrorReason::Value)?;
    let (numbers, rest) =
        rest.split_at_checked(usize::from(count) * size.octets()).ok_or(AttributeErrorReason::Length)?;
    if numbers.is_empty() { Err(AttributeErrorReason::Length) } else { Ok((kind, numbers, rest)) }
}

/// Decodes a path that [`check`] found well.
pub(super) fn decode(mut octets: &[u8], size: AsNumberSize) -> Vec<Segment> {
    let mut segments = Vec::new();
    while let Ok((kind, numbers, rest)) = split_segment(octets, size) {
        let as_numbers = match size {
            AsNumberSize::TwoOctets => {
                numbers.as_chunks().0.iter().map(|number| u16::from_be_bytes(*number).into()).collect()
            }
            AsNumberSize::FourOctets => {
                numbers.as_chunks().0.iter().map(|number| u32::from_be_bytes(*number)).collect()
            }
        };
        segments.push(Segment { kind, as_numbers });
        octets = rest;
    }
    segments
}

/// Number of AS numbers as route selection counts them: a set is one (RFC 4271, section 9.1.2.2), a confederation none
/// (RFC 5065, section 5.3).
fn count(segments: &[Segment]) -> usize {
    let of_segment = |segment: &Segment| match segment.kind {
        SegmentKind::Sequence => segment.as_numbers.len(),
        SegmentKind::Set => 1,
        SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
    };
    segments.iter().map(of_segment).sum()
}

/// The path that AS_PATH and AS4_PATH make together (RFC 6793, section 4.2.3): the leading numbers that AS4_PATH has
/// not, then AS4_PATH. Confederation segments in AS4_PATH are dropped (section 6).
pub(super) fn merge(as_path: Vec<Segment>, mut as4_path: Vec<Segment>) -> AsPath {
    as4_path.retain(|segment| !segment.kind.is_confederation());
    let Some(mut missing) = count(&as_path).checked_sub(count(&as4_path)).filter(|_| !as4_path.is_empty())
    else {
        return AsPath { segments: as_path.into() };
    };
    let mut merged: Vec<Segment> = Vec::new();
    for segment in as_path {
        match segment.kind {
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => merged.push(segment),
            _ if missing == 0 => break,
            SegmentKind::Set => {
                missing -= 1;
                merged.push(segment);
            }
            SegmentKind::Sequence => {
                let taken = segment.as_numbers.get(..missing).unwrap_or(&segment.as_numbers);
                missing -= taken.len();
                let cut = taken.len() < segment.as_numbers.len();
                merged.push(Segment { kind: segment.kind, as_numbers: Box::from(taken) });
                if cut {
                    break;
                }
            }
        }
    }
    for segment in as4_path {
        match merged.last_mut() {
            // One sequence in two halves reads as a speaker of four-octet numbers would have sent it.
            Some(last)
                if last.kind == SegmentKind::Sequence
                    && segment.kind == SegmentKind::Sequence
                    && last.as_numbers.len() + segment.as_numbers.len() <= MAXIMUM_SEGMENT =>
            {
                last.as_numbers = [&*last.as_numbers, &*segment.as_numbers].concat().into();
            }
            _ => merged.push(segment),
        }
    }
    AsPath { segments: merged.into() }
}

/// Appends a path. Segments are split at 255 numbers; in two octets `AS_TRANS` stands for a larger number.
pub(super) fn encode(path: &AsPath, size: AsNumberSize, into: &mut Vec<u8>) {
    for segment in &path.segments {
        for numbers in segment.as_numbers.chunks(MAXIMUM_SEGMENT) {
            into.extend_from_slice(&[segment.kind as u8, numbers.len() as u8]);
            for number in numbers {
                match size {
                    AsNumberSize::TwoOctets => {
                        let number = u16::try_from(*number).unwrap_or(crate::iana::AS_TRANS);
                        into.extend_from_slice(&number.to_be_bytes());
                    }
                    AsNumberSize::FourOctets => into.extend_from_slice(&number.to_be_bytes()),
                }
            }
        }
    }
}
