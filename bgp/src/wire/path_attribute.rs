//! Path attributes: their frame, and what each value must be (RFC 4271, section 5; RFC 7606, section 7).

use std::net::{IpAddr, Ipv4Addr};

use super::{AsNumberSize, SessionContext, as_path};
use crate::error::AttributeErrorReason as Reason;
use crate::error::ErrorHandling;
use crate::iana::attribute;

/// Attribute Flags: the attribute is optional (RFC 4271, section 4.3).
pub(super) const OPTIONAL: u8 = 0x80;
/// Attribute Flags: the attribute is transitive.
pub(super) const TRANSITIVE: u8 = 0x40;
/// Attribute Flags: the length has two octets.
pub(super) const EXTENDED_LENGTH: u8 = 0x10;
/// The flags that an attribute's specification fixes. The Partial bit and the reserved ones are nobody's error.
const FIXED_FLAGS: u8 = OPTIONAL | TRANSITIVE;

/// Most communities of one kind of a route that is kept.
pub(super) const MAXIMUM_COMMUNITIES: usize = 4096;

/// AGGREGATOR (RFC 4271, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// The AS that aggregated.
    pub as_number: u32,
    /// The speaker that aggregated.
    pub bgp_identifier: Ipv4Addr,
}

impl Aggregator {
    /// Of six or eight octets, as the width of AS numbers says.
    pub(super) fn decode(value: &[u8], size: AsNumberSize) -> Option<Self> {
        let (as_number, identifier) = match size {
            AsNumberSize::TwoOctets => {
                let (number, rest) = value.split_first_chunk()?;
                (u16::from_be_bytes(*number).into(), rest)
            }
            AsNumberSize::FourOctets => {
                let (number, rest) = value.split_first_chunk()?;
                (u32::from_be_bytes(*number), rest)
            }
        };
        let identifier: [u8; 4] = identifier.try_into().ok()?;
        Some(Self { as_number, bgp_identifier: identifier.into() })
    }
}

/// An attribute in its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawAttribute<'a> {
    pub(super) flags: u8,
    pub(super) type_code: u8,
    pub(super) value: &'a [u8],
    /// Flags, type code, length and value: what a NOTIFICATION quotes.
    pub(super) octets: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    /// The first attribute of `octets`, and what follows; `None` if it runs over the end.
    #[inline]
    pub(super) fn split(octets: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[flags, type_code, length], after) = octets.split_first_chunk()?;
        let (length, after) = if flags & EXTENDED_LENGTH == 0 {
            (usize::from(length), after)
        } else {
            let (low, after) = after.split_first()?;
            (usize::from(u16::from_be_bytes([length, *low])), after)
        };
        let (value, rest) = after.split_at_checked(length)?;
        let octets = octets.get(..octets.len().checked_sub(rest.len())?)?;
        Some((Self { flags, type_code, value, octets }, rest))
    }
}

/// The attributes whose values are kept until the end of the message, by their place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Origin,
    AsPath,
    NextHop,
    MultiExitDisc,
    LocalPref,
    AtomicAggregate,
    Aggregator,
    Communities,
    OriginatorId,
    ClusterList,
    ExtendedCommunities,
    As4Path,
    As4Aggregator,
    Aigp,
    LargeCommunity,
    OnlyToCustomer,
    PrefixSid,
}

impl Kind {
    /// Number of kinds.
    pub(super) const COUNT: usize = Self::PrefixSid as usize + 1;

    #[inline]
    pub(super) fn from_type_code(type_code: u8) -> Option<Self> {
        Some(match type_code {
            attribute::ORIGIN => Self::Origin,
            attribute::AS_PATH => Self::AsPath,
            attribute::NEXT_HOP => Self::NextHop,
            attribute::MULTI_EXIT_DISC => Self::MultiExitDisc,
            attribute::LOCAL_PREF => Self::LocalPref,
            attribute::ATOMIC_AGGREGATE => Self::AtomicAggregate,
            attribute::AGGREGATOR => Self::Aggregator,
            attribute::COMMUNITIES => Self::Communities,
            attribute::ORIGINATOR_ID => Self::OriginatorId,
            attribute::CLUSTER_LIST => Self::ClusterList,
            attribute::EXTENDED_COMMUNITIES => Self::ExtendedCommunities,
            attribute::AS4_PATH => Self::As4Path,
            attribute::AS4_AGGREGATOR => Self::As4Aggregator,
            attribute::AIGP => Self::Aigp,
            attribute::LARGE_COMMUNITY => Self::LargeCommunity,
            attribute::ONLY_TO_CUSTOMER => Self::OnlyToCustomer,
            attribute::PREFIX_SID => Self::PrefixSid,
            _ => return None,
        })
    }

    /// The Optional and Transitive flags of its specification.
    fn flags(self) -> u8 {
        match self {
            Self::Origin | Self::AsPath | Self::NextHop | Self::LocalPref | Self::AtomicAggregate => {
                TRANSITIVE
            }
            Self::MultiExitDisc | Self::OriginatorId | Self::ClusterList | Self::Aigp => OPTIONAL,
            Self::Aggregator
            | Self::Communities
            | Self::ExtendedCommunities
            | Self::As4Path
            | Self::As4Aggregator
            | Self::LargeCommunity
            | Self::OnlyToCustomer
            | Self::PrefixSid => OPTIONAL | TRANSITIVE,
        }
    }

    /// What follows if the attribute is malformed: RFC 7606, section 7; RFC 6793, section 6; RFC 7311, section 3; RFC
    /// 8092, section 6; RFC 8669, section 6; RFC 9234, section 5.
    fn handling(self) -> ErrorHandling {
        match self {
            Self::AtomicAggregate
            | Self::Aggregator
            | Self::As4Path
            | Self::As4Aggregator
            | Self::Aigp
            | Self::PrefixSid => ErrorHandling::AttributeDiscard,
            _ => ErrorHandling::TreatAsWithdraw,
        }
    }

    /// True if a peer of this kind has a right to send the attribute. AS4_PATH and `AS4_AGGREGATOR` mean nothing on a
    /// session of four-octet AS numbers (RFC 6793, section 6).
    fn is_expected(self, context: SessionContext) -> bool {
        match self {
            Self::LocalPref | Self::OriginatorId | Self::ClusterList => context.internal,
            Self::As4Path | Self::As4Aggregator => context.as_numbers == AsNumberSize::TwoOctets,
            _ => true,
        }
    }

    /// Checks an attribute of this kind.
    #[inline]
    pub(super) fn check(
        self,
        raw: &RawAttribute<'_>,
        context: SessionContext,
    ) -> Result<(), (ErrorHandling, Reason)> {
        if !self.is_expected(context) {
            return Err((ErrorHandling::AttributeDiscard, Reason::NotExpected));
        }
        if !flags_are(raw.flags, self.flags()) {
            // RFC 7606, section 3 c, asks for treat-as-withdraw; RFC 7311, section 3, asks for less.
            let handling = match self {
                Self::Aigp => ErrorHandling::AttributeDiscard,
                _ => ErrorHandling::TreatAsWithdraw,
            };
            return Err((handling, Reason::Flags));
        }
        self.check_value(raw.value, context).map_err(|reason| (self.handling(), reason))
    }

    fn check_value(self, value: &[u8], context: SessionContext) -> Result<(), Reason> {
        match self {
            Self::Origin => match value {
                [0..=2] => Ok(()),
                [_] => Err(Reason::Value),
                _ => Err(Reason::Length),
            },
            Self::AsPath => as_path::check(value, context.as_numbers, context.internal),
            Self::As4Path if value.is_empty() => Err(Reason::Length),
            Self::As4Path => as_path::check(value, AsNumberSize::FourOctets, true),
            Self::NextHop => match <[u8; 4]>::try_from(value) {
                Ok(address) if is_host(address.into(), context) => Ok(()),
                Ok(_) => Err(Reason::Value),
                Err(_) => Err(Reason::Length),
            },
            Self::MultiExitDisc | Self::LocalPref | Self::OriginatorId | Self::OnlyToCustomer => {
                if value.len() == 4 { Ok(()) } else { Err(Reason::Length) }
            }
            Self::AtomicAggregate => {
                if value.is_empty() {
                    Ok(())
                } else {
                    Err(Reason::Length)
                }
            }
            Self::Aggregator => check_aggregator(value, context.as_numbers),
            Self::As4Aggregator => check_aggregator(value, AsNumberSize::FourOctets),
            Self::Communities | Self::ClusterList => check_rows(value, 4),
            Self::ExtendedCommunities => check_rows(value, 8),
            Self::LargeCommunity => check_rows(value, 12),
            Self::Aigp => aigp(value).map(|_| ()),
            Self::PrefixSid => label_index(value).map(|_| ()),
        }
    }
}

/// True if the Optional and Transitive flags are as specified.
#[inline]
pub(super) fn flags_are(flags: u8, specified: u8) -> bool {
    flags & FIXED_FLAGS == specified
}

/// True if a next hop is a host's address (RFC 4271, section 6.3).
pub(super) fn is_host(address: IpAddr, context: SessionContext) -> bool {
    if address.is_unspecified() {
        return context.monitored;
    }
    !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// RFC 7606, section 7.7; AS number 0: RFC 7607, section 2.
fn check_aggregator(value: &[u8], size: AsNumberSize) -> Result<(), Reason> {
    match Aggregator::decode(value, size) {
        Some(Aggregator { as_number: 0, .. }) => Err(Reason::Value),
        Some(_) => Ok(()),
        None => Err(Reason::Length),
    }
}

/// A non-zero multiple of `row` octets (RFC 7606, sections 7.8, 7.10 and 7.14; RFC 8092, section 6).
fn check_rows(value: &[u8], row: usize) -> Result<(), Reason> {
    if value.is_empty() || !value.len().is_multiple_of(row) {
        return Err(Reason::Length);
    }
    if value.len() / row > MAXIMUM_COMMUNITIES { Err(Reason::TooMany) } else { Ok(()) }
}

/// The first AIGP TLV (RFC 7311, section 3: type 1, length 11, of which 8 octets are the metric).
pub(super) fn aigp(value: &[u8]) -> Result<Option<u64>, Reason> {
    let mut metric = None;
    // The length counts the whole TLV.
    each_tlv(value, 3, |kind, value| match kind {
        1 if metric.is_none() => match value.try_into() {
            Ok(octets) => {
                metric = Some(u64::from_be_bytes(octets));
                Ok(())
            }
            Err(_) => Err(Reason::Length),
        },
        _ => Ok(()),
    })?;
    Ok(metric)
}

/// Label-Index of the first Label-Index TLV (RFC 8669, section 3.1: type 1, length 7: a reserved octet, flags, index).
pub(super) fn label_index(value: &[u8]) -> Result<Option<u32>, Reason> {
    let mut index = None;
    // The length counts what follows it.
    each_tlv(value, 0, |kind, value| match (kind, value) {
        (1, &[_reserved, _, _, a, b, c, d]) => {
            index.get_or_insert(u32::from_be_bytes([a, b, c, d]));
            Ok(())
        }
        (1, _) => Err(Reason::Length),
        _ => Ok(()),
    })?;
    Ok(index)
}

/// Calls `each` with type and value of every TLV: one octet of type, two of length. `counted` octets of the three are
/// in the length.
fn each_tlv(
    mut octets: &[u8],
    counted: u16,
    mut each: impl FnMut(u8, &[u8]) -> Result<(), Reason>,
) -> Result<(), Reason> {
    if octets.is_empty() {
        return Err(Reason::Length);
    }
    while !octets.is_empty() {
        let (&[kind, high, low], rest) = octets.split_first_chunk().ok_or(Reason::Length)?;
        let length = u16::from_be_bytes([high, low]).checked_sub(counted).ok_or(Reason::Length)?;
        let (value, rest) = rest.split_at_checked(usize::from(length)).ok_or(Reason::Length)?;
        each(kind, value)?;
        octets = rest;
    }
    Ok(())
}
