//! OPEN (RFC 4271, section 4.2) and its optional parameters (RFC 5492, RFC 9072).

use std::net::Ipv4Addr;

use super::{Capability, MessageType, encode_message};
use crate::error::NotificationError;
use crate::iana::{AS_TRANS, error_code, open_subcode};

/// The only version.
const VERSION: u8 = 4;
/// Octets before the optional parameters.
const FIXED_OCTETS: usize = 10;
/// Optional parameter that holds capabilities (RFC 5492, section 4).
const PARAMETER_CAPABILITIES: u8 = 2;
/// In place of a parameter's type: lengths of two octets follow (RFC 9072, section 2).
const PARAMETER_EXTENDED_LENGTH: u8 = 255;

/// An OPEN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Open {
    /// The sender's AS number: of the four-octet capability if it is there, else My Autonomous System.
    pub as_number: u32,
    /// Hold Time in seconds: 0, or at least 3.
    pub hold_time: u16,
    /// BGP Identifier, not zero.
    pub bgp_identifier: Ipv4Addr,
    /// Capabilities in the order sent, of all parameters.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Decodes and checks what follows the header (RFC 4271, section 6.2).
    ///
    /// # Errors
    /// OPEN Message Error with the subcode and data that section 6.2, RFC 5492, RFC 6286 (identifier) and RFC 7607 (AS
    /// number 0) ask for. Whether the AS number is the configured one is the caller's to check.
    pub fn decode(body: &[u8]) -> Result<Self, NotificationError> {
        let Some((&[version, as_high, as_low, hold_high, hold_low, i0, i1, i2, i3, length], rest)) =
            body.split_first_chunk::<FIXED_OCTETS>()
        else {
            return Err(error(open_subcode::UNSPECIFIC, &[], "OPEN cut short"));
        };
        if version != VERSION {
            let subcode = open_subcode::UNSUPPORTED_VERSION_NUMBER;
            return Err(error(subcode, &u16::from(VERSION).to_be_bytes(), "version other than 4"));
        }
        let hold_time = u16::from_be_bytes([hold_high, hold_low]);
        if matches!(hold_time, 1 | 2) {
            return Err(error(open_subcode::UNACCEPTABLE_HOLD_TIME, &[], "hold time below 3 seconds"));
        }
        let bgp_identifier = Ipv4Addr::new(i0, i1, i2, i3);
        if bgp_identifier.is_unspecified() {
            return Err(error(open_subcode::BAD_BGP_IDENTIFIER, &[], "BGP identifier 0.0.0.0"));
        }
        let capabilities = decode_parameters(length, rest)?;
        let my_as = u16::from_be_bytes([as_high, as_low]);
        let as_number = as_number(my_as, &capabilities)?;
        Ok(Self { as_number, hold_time, bgp_identifier, capabilities })
    }

    /// Appends the message, with all capabilities in one parameter, and with extended lengths (RFC 9072) if they need
    /// them. My Autonomous System is `AS_TRANS` if the AS number needs four octets.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let mut capabilities = Vec::new();
        self.capabilities.iter().for_each(|capability| capability.encode(&mut capabilities));
        encode_message(into, MessageType::Open, |into| {
            into.push(VERSION);
            into.extend_from_slice(&u16::try_from(self.as_number).unwrap_or(AS_TRANS).to_be_bytes());
            into.extend_from_slice(&self.hold_time.to_be_bytes());
            into.extend_from_slice(&self.bgp_identifier.octets());
            encode_parameters(&capabilities, into);
        });
    }
}

fn error(subcode: u8, data: &[u8], reason: &'static str) -> NotificationError {
    NotificationError::new(error_code::OPEN, subcode, data, reason)
}

/// The sender's AS number. RFC 6793 (section 4.1) asks for `AS_TRANS` beside a number of four octets; a sender whose
/// two numbers differ otherwise is refused.
fn as_number(my_as: u16, capabilities: &[Capability]) -> Result<u32, NotificationError> {
    let four_octets = capabilities.iter().find_map(|capability| match capability {
        Capability::FourOctetAsNumber(number) => Some(*number),
        _ => None,
    });
    let number = four_octets.unwrap_or(u32::from(my_as));
    if number == 0 || my_as == 0 {
        return Err(error(open_subcode::BAD_PEER_AS, &[], "AS number 0"));
    }
    if my_as != AS_TRANS && number != u32::from(my_as) {
        return Err(error(open_subcode::BAD_PEER_AS, &[], "two different AS numbers in one OPEN"));
    }
    Ok(number)
}

fn decode_parameters(length: u8, rest: &[u8]) -> Result<Vec<Capability>, NotificationError> {
    let malformed = || error(open_subcode::UNSPECIFIC, &[], "malformed optional parameters");
    // RFC 9072, section 2: a type of 255 in the place of the first parameter is what tells, whatever the length is.
    let extended = length != 0 && rest.first() == Some(&PARAMETER_EXTENDED_LENGTH);
    let mut parameters = if extended {
        let Some((&[_, high, low], parameters)) = rest.split_first_chunk() else {
            return Err(malformed());
        };
        (usize::from(u16::from_be_bytes([high, low])) == parameters.len()).then_some(parameters)
    } else {
        (usize::from(length) == rest.len()).then_some(rest)
    }
    .ok_or_else(malformed)?;

    let mut capabilities = Vec::new();
    while !parameters.is_empty() {
        let (kind, value, rest) = split_parameter(parameters, extended).ok_or_else(malformed)?;
        if kind != PARAMETER_CAPABILITIES {
            let subcode = open_subcode::UNSUPPORTED_OPTIONAL_PARAMETER;
            return Err(error(subcode, &[], "optional parameter other than capabilities"));
        }
        decode_capabilities(value, &mut capabilities).ok_or_else(malformed)?;
        parameters = rest;
    }
    Ok(capabilities)
}

/// Type and value of the first parameter, and what follows.
fn split_parameter(octets: &[u8], extended: bool) -> Option<(u8, &[u8], &[u8])> {
    let (kind, length, rest) = if extended {
        let (&[kind, high, low], rest) = octets.split_first_chunk()?;
        (kind, u16::from_be_bytes([high, low]), rest)
    } else {
        let (&[kind, length], rest) = octets.split_first_chunk()?;
        (kind, u16::from(length), rest)
    };
    let (value, rest) = rest.split_at_checked(usize::from(length))?;
    Some((kind, value, rest))
}

fn decode_capabilities(mut octets: &[u8], into: &mut Vec<Capability>) -> Option<()> {
    while !octets.is_empty() {
        let (&[code, length], rest) = octets.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        into.push(Capability::decode(code, value));
        octets = rest;
    }
    Some(())
}

fn encode_parameters(capabilities: &[u8], into: &mut Vec<u8>) {
    match u8::try_from(capabilities.len()) {
        Ok(0) => into.push(0),
        Ok(length @ 1..=253) => {
            into.extend_from_slice(&[length + 2, PARAMETER_CAPABILITIES, length]);
            into.extend_from_slice(capabilities);
        }
        _ => {
            let length = capabilities.len().min(usize::from(super::MAXIMUM_LENGTH)) as u16;
            into.extend_from_slice(&[u8::MAX, PARAMETER_EXTENDED_LENGTH]);
            into.extend_from_slice(&(length + 3).to_be_bytes());
            into.push(PARAMETER_CAPABILITIES);
            into.extend_from_slice(&length.to_be_bytes());
            into.extend_from_slice(capabilities.get(..usize::from(length)).unwrap_or_default());
        }
    }
}
