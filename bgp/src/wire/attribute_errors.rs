//! Malformed attributes of one UPDATE, kept without allocation.

use crate::error::AttributeErrorReason as Reason;
use crate::error::{AttributeError, ErrorHandling, NotificationError};
use crate::iana::{attribute, update_subcode};

/// Errors listed of one message.
const LISTED: usize = 8;

/// What [`super::Update::errors`] lists.
#[derive(Clone, Debug)]
pub(super) struct AttributeErrors<'a> {
    list: [AttributeError; LISTED],
    count: usize,
    worst: Option<ErrorHandling>,
    /// The first error worse than attribute discard, and the attribute.
    escalating: Option<(AttributeError, &'a [u8])>,
}

impl<'a> AttributeErrors<'a> {
    pub(super) fn new() -> Self {
        let nothing = AttributeError {
            type_code: 0,
            handling: ErrorHandling::AttributeDiscard,
            reason: Reason::Missing,
        };
        Self { list: [nothing; LISTED], count: 0, worst: None, escalating: None }
    }

    /// `octets` are the attribute as received, flags and length included.
    #[cold]
    pub(super) fn record(
        &mut self,
        type_code: u8,
        handling: ErrorHandling,
        reason: Reason,
        octets: &'a [u8],
    ) {
        let error = AttributeError { type_code, handling, reason };
        if let Some(place) = self.list.get_mut(self.count) {
            *place = error;
        }
        self.count += 1;
        self.worst = self.worst.max(Some(handling));
        if handling > ErrorHandling::AttributeDiscard {
            self.escalating.get_or_insert((error, octets));
        }
    }

    pub(super) fn worst(&self) -> Option<ErrorHandling> {
        self.worst
    }

    pub(super) fn list(&self) -> &[AttributeError] {
        self.list.get(..self.count).unwrap_or(&self.list)
    }

    pub(super) fn omitted(&self) -> usize {
        self.count.saturating_sub(LISTED)
    }

    /// The session reset that the first error worse than attribute discard becomes where its routes cannot be found
    /// (RFC 7606, section 5.2), with the subcode and data of RFC 4271, section 6.3.
    pub(super) fn escalated(&self) -> Option<NotificationError> {
        let (error, octets) = self.escalating?;
        let subcode = match (error.reason, error.type_code) {
            (Reason::Overrun | Reason::Duplicate, _) => update_subcode::MALFORMED_ATTRIBUTE_LIST,
            (Reason::Missing, _) => update_subcode::MISSING_WELL_KNOWN_ATTRIBUTE,
            (Reason::Flags, _) => update_subcode::ATTRIBUTE_FLAGS_ERROR,
            (_, attribute::AS_PATH) => update_subcode::MALFORMED_AS_PATH,
            (Reason::Length, _) => update_subcode::ATTRIBUTE_LENGTH_ERROR,
            (_, attribute::ORIGIN) => update_subcode::INVALID_ORIGIN,
            (_, attribute::NEXT_HOP) => update_subcode::INVALID_NEXT_HOP,
            _ => update_subcode::OPTIONAL_ATTRIBUTE_ERROR,
        };
        let data = match subcode {
            update_subcode::MALFORMED_ATTRIBUTE_LIST | update_subcode::MALFORMED_AS_PATH => &[],
            _ => octets,
        };
        Some(NotificationError::update(subcode, data, "malformed attribute in an UPDATE without routes"))
    }
}
