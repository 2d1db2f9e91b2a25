//! ROUTE-REFRESH (RFC 2918), and what marks a refresh's begin and end (RFC 7313).

use super::{HEADER_OCTETS, MessageType, encode_message};
use crate::Family;
use crate::error::NotificationError;
use crate::iana::{error_code, header_subcode, route_refresh_subcode};

/// Octets after the header, without outbound route filters (RFC 5291).
const BODY_OCTETS: usize = 4;

/// Message Subtype (RFC 7313, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteRefreshSubtype {
    /// 0: a request to send all routes again.
    Request,
    /// 1: Beginning of Route Refresh (`BoRR`).
    Begin,
    /// 2: End of Route Refresh (`EoRR`).
    End,
    /// One that RFC 7313 does not know; the message is to be ignored (section 5).
    Other(u8),
}

impl RouteRefreshSubtype {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Begin => 1,
            Self::End => 2,
            Self::Other(other) => other,
        }
    }
}

/// A ROUTE-REFRESH. Outbound route filters in a request (RFC 5291) are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// Address Family Identifier.
    pub afi: u16,
    /// Subsequent Address Family Identifier.
    pub safi: u8,
    /// What it says about the family.
    pub subtype: RouteRefreshSubtype,
}

impl RouteRefresh {
    /// A message about a family that is kept.
    #[must_use]
    pub fn new(family: Family, subtype: RouteRefreshSubtype) -> Self {
        Self { afi: family.afi as u16, safi: family.safi as u8, subtype }
    }

    /// The family; `None` if its routes are not kept.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Family::from_numbers(self.afi, self.safi)
    }

    /// Decodes what follows the header.
    ///
    /// # Errors
    /// Bad Message Length if there are no four octets; ROUTE-REFRESH Message Error with the whole message if a begin or
    /// end is longer (RFC 7313, section 5).
    pub fn decode(body: &[u8]) -> Result<Self, NotificationError> {
        let Some(&[afi_high, afi_low, subtype, safi]) = body.first_chunk::<BODY_OCTETS>() else {
            let (code, subcode) = (error_code::MESSAGE_HEADER, header_subcode::BAD_MESSAGE_LENGTH);
            let length = ((HEADER_OCTETS + body.len()) as u16).to_be_bytes();
            return Err(NotificationError::new(code, subcode, &length, "ROUTE-REFRESH cut short"));
        };
        let subtype = RouteRefreshSubtype::from_number(subtype);
        if matches!(subtype, RouteRefreshSubtype::Begin | RouteRefreshSubtype::End)
            && body.len() != BODY_OCTETS
        {
            let (code, subcode) = (error_code::ROUTE_REFRESH, route_refresh_subcode::INVALID_MESSAGE_LENGTH);
            let mut message = Vec::with_capacity(HEADER_OCTETS + body.len());
            encode_message(&mut message, MessageType::RouteRefresh, |into| into.extend_from_slice(body));
            let reason = "begin or end of a route refresh with octets left over";
            return Err(NotificationError::new(code, subcode, &message, reason));
        }
        Ok(Self { afi: u16::from_be_bytes([afi_high, afi_low]), safi, subtype })
    }

    /// Appends the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode_message(into, MessageType::RouteRefresh, |into| {
            into.extend_from_slice(&self.afi.to_be_bytes());
            into.extend_from_slice(&[self.subtype.number(), self.safi]);
        });
    }
}
