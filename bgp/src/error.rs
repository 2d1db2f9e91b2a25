//! What is wrong with a message, and what RFC 7606 says to do about it.

use std::fmt;

use crate::iana;
use crate::wire::Notification;

/// The session cannot go on: send [`Self::notification`] and close (RFC 4271, section 6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({notification})")]
pub struct NotificationError {
    /// What to send to the peer.
    pub notification: Notification,
    /// What was found, for the log.
    pub reason: &'static str,
}

impl NotificationError {
    /// An error with these codes (see [`iana`]). Data that no NOTIFICATION of 4096 octets holds is cut.
    #[must_use]
    pub fn new(code: u8, subcode: u8, data: &[u8], reason: &'static str) -> Self {
        Self { notification: Notification::new(code, subcode, data), reason }
    }

    /// An UPDATE Message Error (RFC 4271, section 6.3).
    pub(crate) fn update(subcode: u8, data: &[u8], reason: &'static str) -> Self {
        Self::new(iana::error_code::UPDATE, subcode, data, reason)
    }
}

/// How a malformed path attribute is handled (RFC 7606, section 2), mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorHandling {
    /// The attribute is dropped, the route stays.
    AttributeDiscard,
    /// The routes that the message announces are taken as withdrawn.
    TreatAsWithdraw,
    /// A NOTIFICATION ends the session.
    SessionReset,
}

impl ErrorHandling {
    /// In the words of RFC 7606, for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AttributeDiscard => "attribute discard",
            Self::TreatAsWithdraw => "treat-as-withdraw",
            Self::SessionReset => "session reset",
        }
    }
}

/// Why a path attribute is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttributeErrorReason {
    /// The Optional or Transitive flag is not the attribute's (RFC 7606, section 3 c).
    Flags,
    /// A length that the attribute cannot have.
    Length,
    /// A value that the attribute cannot have.
    Value,
    /// The attribute runs over the end of all attributes (RFC 7606, section 4).
    Overrun,
    /// It came before in the same message (RFC 7606, section 3 g).
    Duplicate,
    /// A mandatory attribute is not there (RFC 7606, section 3 d).
    Missing,
    /// What this peer has no right to send (RFC 7606, sections 7.5, 7.9 and 7.10; RFC 6793, section 6; RFC 5065, section
    /// 5).
    NotExpected,
    /// More AS numbers, segments or communities than are kept.
    TooMany,
}

impl AttributeErrorReason {
    /// For logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flags => "wrong flags",
            Self::Length => "wrong length",
            Self::Value => "wrong value",
            Self::Overrun => "longer than all attributes",
            Self::Duplicate => "sent twice",
            Self::Missing => "missing",
            Self::NotExpected => "not expected from this peer",
            Self::TooMany => "too many values",
        }
    }
}

/// A malformed path attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttributeError {
    /// Type code of the attribute (IANA "BGP Path Attributes").
    pub type_code: u8,
    /// What follows from it.
    pub handling: ErrorHandling,
    /// What is wrong.
    pub reason: AttributeErrorReason,
}

impl fmt::Display for AttributeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match iana::attribute_name(self.type_code) {
            Some(name) => formatter.write_str(name)?,
            None => write!(formatter, "attribute {}", self.type_code)?,
        }
        write!(formatter, ": {}, {}", self.reason.name(), self.handling.name())
    }
}
