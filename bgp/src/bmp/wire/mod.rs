//! BMP messages between octets and values (RFC 7854, section 4). Decoding borrows from the octets received and allocates
//! nothing. Numbers are in network byte order on the wire and in host byte order in values.

pub mod encode;
mod information;
mod peer_header;
mod peer_state;
mod statistics;

pub use information::{Information, InformationIterator, InformationKind, TerminationReason};
pub use peer_header::{PeerHeader, PeerKind, RibKind};
pub use peer_state::{PeerDownReason, PeerUp};
pub use statistics::{Statistic, StatisticValue, Statistics, statistic_name};

/// Octets of the common header: version, length, type (RFC 7854, section 4.1).
pub const HEADER_OCTETS: usize = 6;
/// Octets of the per-peer header (RFC 7854, section 4.2).
pub const PEER_HEADER_OCTETS: usize = 42;
/// Longest message taken; the protocol has no bound. Room for a Route Mirroring message of several BGP messages.
pub const MAX_MESSAGE_OCTETS: usize = 256 * 1024;
/// The only version (RFC 7854, section 4.1).
pub const VERSION: u8 = 3;

/// Longest BGP message (RFC 8654).
const BGP_MESSAGE: usize = 65_535;

/// Types of messages (IANA "BMP Message Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// Route Monitoring.
    RouteMonitoring = 0,
    /// Statistics Report.
    StatisticsReport = 1,
    /// Peer Down Notification.
    PeerDown = 2,
    /// Peer Up Notification.
    PeerUp = 3,
    /// Initiation.
    Initiation = 4,
    /// Termination.
    Termination = 5,
    /// Route Mirroring.
    RouteMirroring = 6,
}

impl MessageType {
    /// Every type, at the place of its number.
    pub const ALL: [Self; 7] = [
        Self::RouteMonitoring,
        Self::StatisticsReport,
        Self::PeerDown,
        Self::PeerUp,
        Self::Initiation,
        Self::Termination,
        Self::RouteMirroring,
    ];

    /// Octets of the whole message.
    fn lengths(self) -> std::ops::RangeInclusive<usize> {
        let fixed = HEADER_OCTETS + PEER_HEADER_OCTETS;
        match self {
            Self::RouteMonitoring => fixed + 19..=fixed + BGP_MESSAGE,
            Self::StatisticsReport => fixed + 4..=BGP_MESSAGE,
            Self::PeerDown => fixed + 1..=fixed + 1 + BGP_MESSAGE,
            // Addresses and ports, and two OPENs of at least 29 octets.
            Self::PeerUp => fixed + 20 + 58..=MAX_MESSAGE_OCTETS,
            Self::Initiation | Self::Termination => HEADER_OCTETS..=BGP_MESSAGE,
            Self::RouteMirroring => fixed..=MAX_MESSAGE_OCTETS,
        }
    }
}

/// Octets that are no message. The stream is lost after it, but for [`Self::PeerKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BmpError {
    /// Version field.
    #[error("BMP version {0}, not 3")]
    Version(u8),
    /// Type field.
    #[error("BMP message type {0} is unknown")]
    Type(u8),
    /// Length field.
    #[error("BMP message of type {message_type} cannot have a length of {length} octets")]
    Length {
        /// As received.
        message_type: u8,
        /// As received, in octets.
        length: u32,
    },
    /// The message is shorter than what its fields ask for.
    #[error("{0} is cut short")]
    Short(&'static str),
    /// Peer type in the per-peer header. The message is whole, and those behind it are.
    #[error("BMP peer type {0} is unknown")]
    PeerKind(u8),
    /// A BGP message in a BMP message does not have the length of its place.
    #[error("the BGP message in {0} has another length than its place")]
    BgpLength(&'static str),
}

/// A common header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type of the message.
    pub message_type: MessageType,
    /// Octets of the whole message.
    pub octets: usize,
}

impl Header {
    /// Reads the header that `octets` begin with; `None` as long as it is not complete. The message may be longer than
    /// `octets`.
    ///
    /// # Errors
    ///
    /// Version, type or length that no message has. A wrong version is found at once.
    pub fn decode(octets: &[u8]) -> Result<Option<Self>, BmpError> {
        if let Some(version) = octets.first()
            && *version != VERSION
        {
            return Err(BmpError::Version(*version));
        }
        let Some((&[_, l0, l1, l2, l3, number], _)) = octets.split_first_chunk::<HEADER_OCTETS>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let message_type = *MessageType::ALL.get(usize::from(number)).ok_or(BmpError::Type(number))?;
        if !message_type.lengths().contains(&(length as usize)) {
            return Err(BmpError::Length { message_type: number, length });
        }
        Ok(Some(Self { message_type, octets: length as usize }))
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A route of a peer, or the end of its table.
    RouteMonitoring {
        /// Whose.
        peer: PeerHeader,
        /// One BGP message with its header, which should be an UPDATE. Only its length field is checked.
        update: &'a [u8],
    },
    /// Counters of a peer.
    StatisticsReport {
        /// Whose.
        peer: PeerHeader,
        /// What.
        statistics: Statistics<'a>,
    },
    /// A session is over.
    PeerDown {
        /// Whose.
        peer: PeerHeader,
        /// Why.
        reason: PeerDownReason<'a>,
    },
    /// A session is up.
    PeerUp {
        /// Whose.
        peer: PeerHeader,
        /// Its OPENs.
        up: PeerUp<'a>,
    },
    /// The router introduces itself.
    Initiation(Information<'a>),
    /// The router is about to close the connection.
    Termination(Information<'a>),
    /// Messages of a peer as they came.
    RouteMirroring {
        /// Whose.
        peer: PeerHeader,
        /// [`InformationKind::Mirroring`].
        information: Information<'a>,
    },
}

impl<'a> Message<'a> {
    /// Decodes what follows a common header.
    ///
    /// # Errors
    ///
    /// Lengths inside do not fit, or a peer type is unknown.
    pub fn decode(message_type: MessageType, body: &'a [u8]) -> Result<Self, BmpError> {
        match message_type {
            MessageType::Initiation => {
                return Information::decode(InformationKind::Initiation, body).map(Self::Initiation);
            }
            MessageType::Termination => {
                return Information::decode(InformationKind::Termination, body).map(Self::Termination);
            }
            _ => {}
        }
        let (header, body) =
            body.split_first_chunk::<PEER_HEADER_OCTETS>().ok_or(BmpError::Short("per-peer header"))?;
        let peer = PeerHeader::decode(header)?;
        Ok(match message_type {
            MessageType::RouteMonitoring => {
                let (update, rest) = split_bgp_message(body, "Route Monitoring")?;
                if !rest.is_empty() {
                    return Err(BmpError::BgpLength("Route Monitoring"));
                }
                Self::RouteMonitoring { peer, update }
            }
            MessageType::StatisticsReport => {
                Self::StatisticsReport { peer, statistics: Statistics::decode(body)? }
            }
            MessageType::PeerDown => Self::PeerDown { peer, reason: PeerDownReason::decode(body)? },
            MessageType::PeerUp => Self::PeerUp { peer, up: PeerUp::decode(body, &peer)? },
            _ => Self::RouteMirroring {
                peer,
                information: Information::decode(InformationKind::Mirroring, body)?,
            },
        })
    }
}

/// A BGP message by the length in its header, and what follows it.
fn split_bgp_message<'a>(octets: &'a [u8], place: &'static str) -> Result<(&'a [u8], &'a [u8]), BmpError> {
    let Some(&[high, low, _]) = octets.get(16..).and_then(<[u8]>::first_chunk) else {
        return Err(BmpError::Short(place));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length < crate::wire::HEADER_OCTETS {
        return Err(BmpError::BgpLength(place));
    }
    octets.split_at_checked(length).ok_or(BmpError::BgpLength(place))
}

#[cfg(test)]
mod tests;
