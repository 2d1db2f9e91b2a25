//! Protocol Data Units (RFC 8210, section 5): octets and values. All numbers on the wire are in network byte order.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::Vrp;

/// Octets of the common header: version, type, a field of the type, length.
pub const HEADER_OCTETS: usize = 8;
/// Longest PDU taken. Known PDUs are far shorter; Error Reports and ASPA PDUs have a length of 32 bits.
pub const MAX_PDU_OCTETS: usize = 65_535;

/// Protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// RFC 6810.
    V0 = 0,
    /// RFC 8210.
    V1 = 1,
    /// draft-ietf-sidrops-8210bis.
    V2 = 2,
}

impl Version {
    /// `None` if unknown.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::V0, Self::V1, Self::V2].into_iter().find(|version| *version as u8 == number)
    }
}

/// Error codes (RFC 8210, section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// Corrupt Data.
    CorruptData = 0,
    /// Internal Error.
    InternalError = 1,
    /// No Data Available: the only one that is not fatal.
    NoDataAvailable = 2,
    /// Invalid Request.
    InvalidRequest = 3,
    /// Unsupported Protocol Version.
    UnsupportedProtocolVersion = 4,
    /// Unsupported PDU Type.
    UnsupportedPduType = 5,
    /// Withdrawal of Unknown Record.
    WithdrawalOfUnknownRecord = 6,
    /// Duplicate Announcement Received.
    DuplicateAnnouncement = 7,
    /// Unexpected Protocol Version.
    UnexpectedProtocolVersion = 8,
}

/// Intervals of End of Data, in seconds (RFC 8210, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// From one success to the next query.
    pub refresh_seconds: u32,
    /// From a failure to the next query.
    pub retry_seconds: u32,
    /// From the last success until the data must not be used any longer.
    pub expire_seconds: u32,
}

impl Default for Intervals {
    /// What RFC 8210, section 6, gives for caches that say nothing.
    fn default() -> Self {
        Self { refresh_seconds: 3600, retry_seconds: 600, expire_seconds: 7200 }
    }
}

/// One PDU. Session IDs and serial numbers are opaque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu<'a> {
    /// The cache has something new (type 0).
    SerialNotify {
        /// Of the cache.
        session_id: u16,
        /// Of its newest data.
        serial: u32,
    },
    /// The router wants what is newer than `serial` (type 1).
    SerialQuery {
        /// As the cache gave it.
        session_id: u16,
        /// Of the router's data.
        serial: u32,
    },
    /// The router wants everything (type 2).
    ResetQuery,
    /// Data follows (type 3).
    CacheResponse {
        /// Of the cache.
        session_id: u16,
    },
    /// IPv4 Prefix and IPv6 Prefix (types 4 and 6).
    Prefix {
        /// Announced, not withdrawn.
        announce: bool,
        /// Which.
        vrp: Vrp,
    },
    /// The data is complete (type 7).
    EndOfData {
        /// Of the cache.
        session_id: u16,
        /// Of the data.
        serial: u32,
        /// Not in version 0.
        intervals: Option<Intervals>,
    },
    /// The cache has no increment; the router is to ask for everything (type 8).
    CacheReset,
    /// Router Key (type 9) or ASPA (type 11), which is not looked at.
    Skipped {
        /// PDU type.
        pdu_type: u8,
    },
    /// Error Report (type 10).
    ErrorReport {
        /// See [`ErrorCode`].
        code: u16,
        /// The erroneous PDU or its beginning; empty if there was none.
        pdu: &'a [u8],
        /// Diagnostic text; UTF-8 if the other side keeps to the protocol.
        text: &'a [u8],
    },
}

/// A PDU and where the next one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Version field.
    pub version: Version,
    /// The PDU.
    pub pdu: Pdu<'a>,
    /// Octets of the PDU.
    pub octets: usize,
}

/// Octets that are no PDU. The stream is lost after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// Version field.
    #[error("protocol version {0} is unknown")]
    Version(u8),
    /// Type field, or a type that this version does not have.
    #[error("PDU type {pdu_type} is unknown in version {version}")]
    Type {
        /// As received.
        pdu_type: u8,
        /// As received.
        version: u8,
    },
    /// Length field.
    #[error("PDU of type {pdu_type} cannot have a length of {length} octets")]
    Length {
        /// As received.
        pdu_type: u8,
        /// As received, in octets.
        length: u32,
    },
    /// Prefix length, maximum length or host bits.
    #[error("{address}/{prefix_length} up to {max_length} is no prefix")]
    Prefix {
        /// As received.
        address: std::net::IpAddr,
        /// As received, in bits.
        prefix_length: u8,
        /// As received, in bits.
        max_length: u8,
    },
}

impl PduError {
    /// The code to report.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Version(_) => ErrorCode::UnsupportedProtocolVersion,
            Self::Type { .. } => ErrorCode::UnsupportedPduType,
            Self::Length { .. } | Self::Prefix { .. } => ErrorCode::CorruptData,
        }
    }
}

mod types {
    pub(super) const SERIAL_NOTIFY: u8 = 0;
    pub(super) const SERIAL_QUERY: u8 = 1;
    pub(super) const RESET_QUERY: u8 = 2;
    pub(super) const CACHE_RESPONSE: u8 = 3;
    pub(super) const IPV4_PREFIX: u8 = 4;
    pub(super) const IPV6_PREFIX: u8 = 6;
    pub(super) const END_OF_DATA: u8 = 7;
    pub(super) const CACHE_RESET: u8 = 8;
    pub(super) const ROUTER_KEY: u8 = 9;
    pub(super) const ERROR_REPORT: u8 = 10;
    pub(super) const ASPA: u8 = 11;
}

/// Takes one PDU from the front of `octets`; `None` if it is not complete yet. Nothing is allocated, and a length that
/// the type cannot have is refused before its octets are waited for.
///
/// # Errors
///
/// The octets are no PDU.
pub fn decode(octets: &[u8]) -> Result<Option<Frame<'_>>, PduError> {
    let Some((header, _)) = octets.split_first_chunk::<HEADER_OCTETS>() else {
        return Ok(None);
    };
    let [version_field, pdu_type, field_high, field_low, length @ ..] = *header;
    let version = Version::from_number(version_field).ok_or(PduError::Version(version_field))?;
    let field = u16::from_be_bytes([field_high, field_low]);
    let length = u32::from_be_bytes(length);
    let bad_length = PduError::Length { pdu_type, length };
    if !lengths(version, pdu_type)?.contains(&length) {
        return Err(bad_length);
    }
    let Some(body) = octets.get(HEADER_OCTETS..length as usize) else {
        return Ok(None);
    };
    let pdu = body_of(version, pdu_type, field, body).ok_or(bad_length)??;
    Ok(Some(Frame { version, pdu, octets: length as usize }))
}

/// Lengths that a PDU may have, header included.
fn lengths(version: Version, pdu_type: u8) -> Result<std::ops::RangeInclusive<u32>, PduError> {
    Ok(match (pdu_type, version) {
        (types::SERIAL_NOTIFY | types::SERIAL_QUERY, _) | (types::END_OF_DATA, Version::V0) => 12..=12,
        (types::RESET_QUERY | types::CACHE_RESPONSE | types::CACHE_RESET, _) => 8..=8,
        (types::IPV4_PREFIX, _) => 20..=20,
        (types::IPV6_PREFIX, _) => 32..=32,
        (types::END_OF_DATA, _) => 24..=24,
        // Subject Key Identifier, AS number, and at least one octet of key.
        (types::ROUTER_KEY, Version::V1 | Version::V2) => 33..=MAX_PDU_OCTETS as u32,
        (types::ERROR_REPORT, _) => 16..=MAX_PDU_OCTETS as u32,
        (types::ASPA, Version::V2) => 12..=MAX_PDU_OCTETS as u32,
        _ => return Err(PduError::Type { pdu_type, version: version as u8 }),
    })
}

/// `None` if the body is too short for its own fields, which of types with one length only is not possible.
fn body_of(version: Version, pdu_type: u8, field: u16, body: &[u8]) -> Option<Result<Pdu<'_>, PduError>> {
    Some(Ok(match pdu_type {
        types::SERIAL_NOTIFY => Pdu::SerialNotify { session_id: field, serial: number(body, 0)? },
        types::SERIAL_QUERY => Pdu::SerialQuery { session_id: field, serial: number(body, 0)? },
        types::RESET_QUERY => Pdu::ResetQuery,
        types::CACHE_RESPONSE => Pdu::CacheResponse { session_id: field },
        types::IPV4_PREFIX => {
            let address: [u8; 4] = *body.get(4..)?.first_chunk()?;
            return prefix_of(body, Ipv4Addr::from(address).into(), number(body, 8)?);
        }
        types::IPV6_PREFIX => {
            let address: [u8; 16] = *body.get(4..)?.first_chunk()?;
            return prefix_of(body, Ipv6Addr::from(address).into(), number(body, 20)?);
        }
        types::END_OF_DATA => {
            let intervals = match version {
                Version::V0 => None,
                Version::V1 | Version::V2 => Some(Intervals {
                    refresh_seconds: number(body, 4)?,
                    retry_seconds: number(body, 8)?,
                    expire_seconds: number(body, 12)?,
                }),
            };
            Pdu::EndOfData { session_id: field, serial: number(body, 0)?, intervals }
        }
        types::CACHE_RESET => Pdu::CacheReset,
        types::ERROR_REPORT => {
            let (pdu, rest) = counted(body)?;
            let (text, rest) = counted(rest)?;
            if !rest.is_empty() {
                return None;
            }
            Pdu::ErrorReport { code: field, pdu, text }
        }
        _ => Pdu::Skipped { pdu_type },
    }))
}

fn number(body: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*body.get(offset..)?.first_chunk()?))
}

/// Octets after their own number, and the rest.
fn counted(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

fn prefix_of(
    body: &[u8],
    address: std::net::IpAddr,
    as_number: u32,
) -> Option<Result<Pdu<'static>, PduError>> {
    let [flags, prefix_length, max_length, _zero] = *body.first_chunk()?;
    let vrp = IpNet::new(address, prefix_length)
        .ok()
        .and_then(|prefix| Vrp::new(prefix, max_length, as_number).ok())
        .ok_or(PduError::Prefix { address, prefix_length, max_length });
    Some(vrp.map(|vrp| Pdu::Prefix { announce: flags & 1 != 0, vrp }))
}

impl Pdu<'_> {
    /// Appends the PDU to `octets`. An Error Report is cut to [`MAX_PDU_OCTETS`]; what is skipped cannot be written and
    /// becomes its header.
    pub fn encode(&self, version: Version, octets: &mut Vec<u8>) {
        match *self {
            Self::SerialNotify { session_id, serial } => {
                header(octets, version, types::SERIAL_NOTIFY, session_id, 12);
                octets.extend(serial.to_be_bytes());
            }
            Self::SerialQuery { session_id, serial } => {
                header(octets, version, types::SERIAL_QUERY, session_id, 12);
                octets.extend(serial.to_be_bytes());
            }
            Self::ResetQuery => header(octets, version, types::RESET_QUERY, 0, 8),
            Self::CacheResponse { session_id } => {
                header(octets, version, types::CACHE_RESPONSE, session_id, 8);
            }
            Self::Prefix { announce, vrp } => {
                let lengths = [u8::from(announce), vrp.prefix().prefix_len(), vrp.max_length(), 0];
                match vrp.prefix() {
                    IpNet::V4(prefix) => encode_ipv4(octets, version, lengths, prefix),
                    IpNet::V6(prefix) => encode_ipv6(octets, version, lengths, prefix),
                }
                octets.extend(vrp.as_number().to_be_bytes());
            }
            Self::EndOfData { session_id, serial, intervals } => {
                let with_intervals = version != Version::V0;
                header(octets, version, types::END_OF_DATA, session_id, if with_intervals { 24 } else { 12 });
                octets.extend(serial.to_be_bytes());
                if with_intervals {
                    let intervals = intervals.unwrap_or_default();
                    octets.extend(intervals.refresh_seconds.to_be_bytes());
                    octets.extend(intervals.retry_seconds.to_be_bytes());
                    octets.extend(intervals.expire_seconds.to_be_bytes());
                }
            }
            Self::CacheReset => header(octets, version, types::CACHE_RESET, 0, 8),
            Self::Skipped { pdu_type } => header(octets, version, pdu_type, 0, 8),
            Self::ErrorReport { code, pdu, text } => {
                let room = MAX_PDU_OCTETS - HEADER_OCTETS - 8;
                let text = text.get(..room.min(text.len())).unwrap_or_default();
                let pdu = pdu.get(..(room - text.len()).min(pdu.len())).unwrap_or_default();
                let length = HEADER_OCTETS + 8 + pdu.len() + text.len();
                header(octets, version, types::ERROR_REPORT, code, length as u32);
                for part in [pdu, text] {
                    octets.extend((part.len() as u32).to_be_bytes());
                    octets.extend_from_slice(part);
                }
            }
        }
    }
}

fn header(octets: &mut Vec<u8>, version: Version, pdu_type: u8, field: u16, length: u32) {
    octets.extend([version as u8, pdu_type]);
    octets.extend(field.to_be_bytes());
    octets.extend(length.to_be_bytes());
}

fn encode_ipv4(octets: &mut Vec<u8>, version: Version, lengths: [u8; 4], prefix: Ipv4Net) {
    header(octets, version, types::IPV4_PREFIX, 0, 20);
    octets.extend(lengths);
    octets.extend(prefix.addr().octets());
}

fn encode_ipv6(octets: &mut Vec<u8>, version: Version, lengths: [u8; 4], prefix: Ipv6Net) {
    header(octets, version, types::IPV6_PREFIX, 0, 32);
    octets.extend(lengths);
    octets.extend(prefix.addr().octets());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vrp(prefix: &str, max_length: u8, as_number: u32) -> Vrp {
        Vrp::new(prefix.parse().unwrap(), max_length, as_number).unwrap()
    }

    /// Laid out by hand after the figures of RFC 8210, section 5, and RFC 6810, section 5.
    #[test]
    fn pdus_are_as_the_rfcs_draw_them() {
        let intervals = Intervals { refresh_seconds: 3600, retry_seconds: 600, expire_seconds: 7200 };
        let prefix4 = Pdu::Prefix { announce: true, vrp: vrp("192.0.2.0/24", 26, 64_496) };
        let prefix6 = Pdu::Prefix { announce: false, vrp: vrp("2001:db8::/32", 48, 65_536) };
        let report = Pdu::ErrorReport { code: 2, pdu: &[1, 2, 0, 0, 0, 0, 0, 8], text: b"none" };
        let vectors: [(Version, Pdu<'_>, &[u8]); 11] = [
            (
                Version::V1,
                Pdu::SerialNotify { session_id: 0x1234, serial: 7 },
                &[1, 0, 0x12, 0x34, 0, 0, 0, 12, 0, 0, 0, 7],
            ),
            (
                Version::V1,
                Pdu::SerialQuery { session_id: 0x1234, serial: 7 },
                &[1, 1, 0x12, 0x34, 0, 0, 0, 12, 0, 0, 0, 7],
            ),
            (Version::V0, Pdu::ResetQuery, &[0, 2, 0, 0, 0, 0, 0, 8]),
            (Version::V1, Pdu::CacheResponse { session_id: 9 }, &[1, 3, 0, 9, 0, 0, 0, 8]),
            (Version::V1, prefix4, &[1, 4, 0, 0, 0, 0, 0, 20, 1, 24, 26, 0, 192, 0, 2, 0, 0, 0, 0xfb, 0xf0]),
            (
                Version::V1,
                prefix6,
                &[
                    1, 6, 0, 0, 0, 0, 0, 32, 0, 32, 48, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                    0, 0, 0, 1, 0, 0,
                ],
            ),
            (
                Version::V1,
                Pdu::EndOfData { session_id: 9, serial: 8, intervals: Some(intervals) },
                &[1, 7, 0, 9, 0, 0, 0, 24, 0, 0, 0, 8, 0, 0, 0x0e, 0x10, 0, 0, 0x02, 0x58, 0, 0, 0x1c, 0x20],
            ),
            (
                Version::V0,
                Pdu::EndOfData { session_id: 9, serial: 8, intervals: None },
                &[0, 7, 0, 9, 0, 0, 0, 12, 0, 0, 0, 8],
            ),
            (Version::V1, Pdu::CacheReset, &[1, 8, 0, 0, 0, 0, 0, 8]),
            (
                Version::V1,
                report,
                &[
                    1, 10, 0, 2, 0, 0, 0, 28, 0, 0, 0, 8, 1, 2, 0, 0, 0, 0, 0, 8, 0, 0, 0, 4, b'n', b'o',
                    b'n', b'e',
                ],
            ),
            (
                Version::V2,
                Pdu::EndOfData { session_id: 0, serial: 0, intervals: Some(intervals) },
                &[2, 7, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0x0e, 0x10, 0, 0, 0x02, 0x58, 0, 0, 0x1c, 0x20],
            ),
        ];
        for (version, pdu, octets) in vectors {
            let mut encoded = Vec::new();
            pdu.encode(version, &mut encoded);
            assert_eq!(encoded, octets, "{pdu:?}");
            assert_eq!(decode(octets), Ok(Some(Frame { version, pdu, octets: octets.len() })));
            for cut in 0..octets.len() {
                assert_eq!(decode(&octets[..cut]), Ok(None), "{pdu:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn router_keys_and_aspa_are_stepped_over() {
        let mut key = vec![1, 9, 1, 0, 0, 0, 0, 40];
        key.resize(40, 0xaa);
        key.extend([1, 8, 0, 0, 0, 0, 0, 8]);
        let frame = decode(&key).unwrap().unwrap();
        assert_eq!((frame.pdu, frame.octets), (Pdu::Skipped { pdu_type: 9 }, 40));
        let aspa = [2, 11, 1, 0, 0, 0, 0, 16, 0, 0, 0xfb, 0xf0, 0, 0, 0xfb, 0xf1];
        assert_eq!(decode(&aspa).unwrap().unwrap().pdu, Pdu::Skipped { pdu_type: 11 });
    }

    #[test]
    fn what_is_no_pdu_is_refused_by_its_header() {
        for (octets, error) in [
            ([3, 2, 0, 0, 0, 0, 0, 8], PduError::Version(3)),
            ([1, 5, 0, 0, 0, 0, 0, 8], PduError::Type { pdu_type: 5, version: 1 }),
            ([0, 9, 0, 0, 0, 0, 0, 40], PduError::Type { pdu_type: 9, version: 0 }),
            ([1, 11, 0, 0, 0, 0, 0, 16], PduError::Type { pdu_type: 11, version: 1 }),
            ([1, 3, 0, 0, 0, 0, 0, 7], PduError::Length { pdu_type: 3, length: 7 }),
            ([1, 3, 0, 0, 0, 0, 0, 0], PduError::Length { pdu_type: 3, length: 0 }),
            ([1, 4, 0, 0, 0, 0, 0, 21], PduError::Length { pdu_type: 4, length: 21 }),
            ([0, 7, 0, 0, 0, 0, 0, 24], PduError::Length { pdu_type: 7, length: 24 }),
            ([1, 7, 0, 0, 0, 0, 0, 12], PduError::Length { pdu_type: 7, length: 12 }),
            ([1, 10, 0, 0, 0, 1, 0, 0], PduError::Length { pdu_type: 10, length: 65_536 }),
            ([1, 10, 0, 0, 255, 255, 255, 255], PduError::Length { pdu_type: 10, length: u32::MAX }),
        ] {
            assert_eq!(decode(&octets), Err(error));
        }
    }

    #[test]
    fn lengths_inside_an_error_report_stay_inside_it() {
        for (pdu_length, text_length, good) in
            [(0, 0, true), (1, 0, false), (u32::MAX, 0, false), (0, u32::MAX, false)]
        {
            let mut octets = vec![1, 10, 0, 0, 0, 0, 0, 16];
            octets.extend(pdu_length.to_be_bytes());
            octets.extend(text_length.to_be_bytes());
            assert_eq!(decode(&octets).is_ok(), good, "{pdu_length} {text_length}");
        }
        // Octets behind both parts.
        assert!(decode(&[1, 10, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 9]).is_err());
    }

    #[test]
    fn prefixes_that_cannot_be_are_corrupt_data() {
        for (prefix_length, max_length, last) in
            [(33, 33, 0), (24, 23, 0), (24, 33, 0), (24, 24, 1), (255, 255, 0)]
        {
            let octets =
                [1, 4, 0, 0, 0, 0, 0, 20, 1, prefix_length, max_length, 0, 192, 0, 2, last, 0, 0, 0, 1];
            assert_eq!(decode(&octets).unwrap_err().code(), ErrorCode::CorruptData);
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_pdu_or_an_error_or_too_short(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(frame)) = decode(&octets) {
                prop_assert!(frame.octets >= HEADER_OCTETS && frame.octets <= octets.len());
                // Only flags and reserved fields, which are not kept, may differ.
                if !matches!(frame.pdu, Pdu::Skipped { .. }) {
                    let mut encoded = Vec::new();
                    frame.pdu.encode(frame.version, &mut encoded);
                    prop_assert_eq!(decode(&encoded), Ok(Some(frame)));
                }
            }
        }
    }
}
