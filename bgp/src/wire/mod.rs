//! BGP messages between octets and values (RFC 4271, section 4). Decoding borrows from the octets received. Numbers
//! are in host byte order in values.
//!
//! The header's length frames a message before anything in it is read; a path attribute's length frames the
//! attribute. Whatever is wrong inside does not move the frame.

mod as_path;
mod attribute_errors;
mod capability;
pub mod encode_update;
mod multiprotocol;
mod nlri;
mod notification;
mod open;
mod path_attribute;
mod route_refresh;
mod session_context;
mod update;

pub use capability::{AddPathFamily, Capability, ExtendedNextHop, GracefulRestartFamily, Role};
pub use nlri::NlriIterator;
pub use notification::Notification;
pub use open::Open;
pub use path_attribute::Aggregator;
pub use route_refresh::{RouteRefresh, RouteRefreshSubtype};
pub use session_context::{AsNumberSize, FamilySet, SessionContext};
pub use update::{Announcement, Update};

use crate::error::NotificationError;
use crate::iana::{error_code, header_subcode, message_type};

/// Octets of the message header: marker, length, type (RFC 4271, section 4.1).
pub const HEADER_OCTETS: usize = 19;
/// Longest message without the Extended Message capability (RFC 4271, section 4.1).
pub const MAXIMUM_LENGTH: u16 = 4096;
/// Longest message with it, OPEN and KEEPALIVE excepted (RFC 8654, section 4).
pub const EXTENDED_MAXIMUM_LENGTH: u16 = u16::MAX;

/// Octets of the marker, all ones.
const MARKER_OCTETS: usize = 16;

/// Types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// OPEN (RFC 4271, section 4.2).
    Open = message_type::OPEN,
    /// UPDATE (RFC 4271, section 4.3).
    Update = message_type::UPDATE,
    /// NOTIFICATION (RFC 4271, section 4.5).
    Notification = message_type::NOTIFICATION,
    /// KEEPALIVE (RFC 4271, section 4.4).
    Keepalive = message_type::KEEPALIVE,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh = message_type::ROUTE_REFRESH,
}

impl MessageType {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            message_type::OPEN => Self::Open,
            message_type::UPDATE => Self::Update,
            message_type::NOTIFICATION => Self::Notification,
            message_type::KEEPALIVE => Self::Keepalive,
            message_type::ROUTE_REFRESH => Self::RouteRefresh,
            _ => return None,
        })
    }

    /// Lengths that a message of this type can have, the header included (RFC 4271, section 6.1).
    fn length_limits(self, maximum: u16) -> (u16, u16) {
        match self {
            Self::Open => (29, MAXIMUM_LENGTH),
            Self::Update | Self::RouteRefresh => (23, maximum),
            Self::Notification => (21, maximum),
            Self::Keepalive => (19, 19),
        }
    }
}

/// A message's header (RFC 4271, section 4.1), checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type of the message.
    pub message_type: MessageType,
    /// Octets of the message, the header included.
    pub length: u16,
}

impl Header {
    /// Reads the header of the message that `octets` begin with; `None` as long as they hold no whole header. The
    /// message may be longer than `octets`. `maximum_length` is [`MAXIMUM_LENGTH`], or [`EXTENDED_MAXIMUM_LENGTH`]
    /// once that is negotiated.
    ///
    /// # Errors
    /// Message Header Error (RFC 4271, section 6.1). A wrong marker is found at its first wrong octet, so that
    /// whoever speaks something else is not waited for.
    pub fn decode(octets: &[u8], maximum_length: u16) -> Result<Option<Self>, NotificationError> {
        let marker = octets.get(..MARKER_OCTETS).unwrap_or(octets);
        if marker.iter().any(|octet| *octet != u8::MAX) {
            let subcode = header_subcode::CONNECTION_NOT_SYNCHRONIZED;
            return Err(Self::error(subcode, &[], "wrong marker"));
        }
        let Some(&[high, low, number]) = octets.get(MARKER_OCTETS..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        let length = u16::from_be_bytes([high, low]);
        if usize::from(length) < HEADER_OCTETS || length > maximum_length {
            let subcode = header_subcode::BAD_MESSAGE_LENGTH;
            return Err(Self::error(subcode, &[high, low], "length that no message has"));
        }
        let Some(message_type) = MessageType::from_number(number) else {
            return Err(Self::error(header_subcode::BAD_MESSAGE_TYPE, &[number], "unknown message type"));
        };
        let (least, most) = message_type.length_limits(maximum_length);
        if length < least || length > most {
            let subcode = header_subcode::BAD_MESSAGE_LENGTH;
            return Err(Self::error(subcode, &[high, low], "length that a message of this type cannot have"));
        }
        Ok(Some(Self { message_type, length }))
    }

    /// Octets of the message after the header.
    #[must_use]
    pub fn body_octets(&self) -> usize {
        usize::from(self.length).saturating_sub(HEADER_OCTETS)
    }

    fn error(subcode: u8, data: &[u8], reason: &'static str) -> NotificationError {
        NotificationError::new(error_code::MESSAGE_HEADER, subcode, data, reason)
    }
}

/// A message.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an UPDATE is the common case, and a box would be an allocation each"
)]
pub enum Message<'a> {
    /// OPEN.
    Open(Open),
    /// UPDATE.
    Update(Update<'a>),
    /// NOTIFICATION.
    Notification(Notification),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh),
}

impl<'a> Message<'a> {
    /// Decodes what follows a header; `body` holds exactly [`Header::body_octets`]. `context` matters to UPDATE only.
    ///
    /// # Errors
    /// The NOTIFICATION that ends the session.
    pub fn decode(
        message_type: MessageType,
        body: &'a [u8],
        context: &SessionContext,
    ) -> Result<Self, NotificationError> {
        Ok(match message_type {
            MessageType::Open => Self::Open(Open::decode(body)?),
            MessageType::Update => Self::Update(Update::decode(body, context)?),
            MessageType::Notification => Self::Notification(Notification::decode(body)?),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(RouteRefresh::decode(body)?),
        })
    }
}

/// Appends a KEEPALIVE (RFC 4271, section 4.4).
pub fn encode_keepalive(into: &mut Vec<u8>) {
    encode_message(into, MessageType::Keepalive, |_| {});
}

/// Appends a message: its header, then what `body` writes. A body longer than a message can be is cut.
fn encode_message(into: &mut Vec<u8>, message_type: MessageType, body: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    into.extend_from_slice(&[u8::MAX; MARKER_OCTETS]);
    into.extend_from_slice(&[0, 0, message_type as u8]);
    body(into);
    into.truncate(start.saturating_add(usize::from(EXTENDED_MAXIMUM_LENGTH)));
    let length = (into.len() - start) as u16;
    if let Some(field) = into.get_mut(start + MARKER_OCTETS..start + MARKER_OCTETS + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
