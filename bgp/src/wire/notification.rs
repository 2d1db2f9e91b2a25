//! NOTIFICATION (RFC 4271, section 4.5) and the shutdown communication in it (RFC 9003).

use std::fmt;

use super::{HEADER_OCTETS, MAXIMUM_LENGTH, MessageType, encode_message};
use crate::error::NotificationError;
use crate::iana::{self, cease_subcode, error_code, header_subcode};

/// Octets of data that a NOTIFICATION of [`MAXIMUM_LENGTH`] holds.
const MAXIMUM_DATA: usize = MAXIMUM_LENGTH as usize - HEADER_OCTETS - 2;

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Error code; see [`iana::error_code`].
    pub code: u8,
    /// Error subcode, of its own meaning for each code; 0 is "unspecific".
    pub subcode: u8,
    /// Data, of a meaning that depends on the codes.
    pub data: Box<[u8]>,
}

impl Notification {
    /// A NOTIFICATION; data that a message of 4096 octets does not hold are cut.
    #[must_use]
    pub fn new(code: u8, subcode: u8, data: &[u8]) -> Self {
        Self { code, subcode, data: Box::from(data.get(..MAXIMUM_DATA).unwrap_or(data)) }
    }

    /// Cease with a subcode of [`cease_subcode`]. `communication` goes with Administrative Shutdown and Administrative
    /// Reset only (RFC 9003, section 2); it is cut at 255 octets, between two characters.
    #[must_use]
    pub fn cease(subcode: u8, communication: &str) -> Self {
        let mut data = Vec::new();
        if Self::carries_communication(error_code::CEASE, subcode) && !communication.is_empty() {
            let length = communication.floor_char_boundary(usize::from(u8::MAX));
            data.push(length as u8);
            data.extend_from_slice(communication.as_bytes().get(..length).unwrap_or_default());
        }
        Self::new(error_code::CEASE, subcode, &data)
    }

    /// The shutdown communication (RFC 8203, RFC 9003); `None` if there is none or it is not valid UTF-8 of the length
    /// it says. The text is the peer's: escape it before it goes to a log.
    #[must_use]
    pub fn shutdown_communication(&self) -> Option<&str> {
        if !Self::carries_communication(self.code, self.subcode) {
            return None;
        }
        let (length, text) = self.data.split_first()?;
        let text = std::str::from_utf8(text.get(..usize::from(*length))?).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// Decodes what follows the header.
    ///
    /// # Errors
    /// Bad Message Length if there are no two octets. There is no answer to a malformed NOTIFICATION (RFC 4271, section
    /// 6.4): log it, close.
    pub fn decode(body: &[u8]) -> Result<Self, NotificationError> {
        let Some((&[code, subcode], data)) = body.split_first_chunk() else {
            let (code, subcode) = (error_code::MESSAGE_HEADER, header_subcode::BAD_MESSAGE_LENGTH);
            return Err(NotificationError::new(code, subcode, &[], "NOTIFICATION without codes"));
        };
        Ok(Self { code, subcode, data: Box::from(data) })
    }

    /// Appends the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode_message(into, MessageType::Notification, |into| {
            into.extend_from_slice(&[self.code, self.subcode]);
            into.extend_from_slice(self.data.get(..MAXIMUM_DATA).unwrap_or(&self.data));
        });
    }

    fn carries_communication(code: u8, subcode: u8) -> bool {
        code == error_code::CEASE
            && matches!(subcode, cease_subcode::ADMINISTRATIVE_SHUTDOWN | cease_subcode::ADMINISTRATIVE_RESET)
    }
}

impl fmt::Display for Notification {
    /// `Cease/Administrative Shutdown: "text"`, the text escaped. Data of other kinds are not shown.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match iana::error_code_name(self.code) {
            Some(name) => formatter.write_str(name)?,
            None => write!(formatter, "error code {}", self.code)?,
        }
        match iana::error_subcode_name(self.code, self.subcode) {
            Some(name) => write!(formatter, "/{name}")?,
            None if self.subcode == 0 => {}
            None => write!(formatter, "/subcode {}", self.subcode)?,
        }
        match self.shutdown_communication() {
            Some(text) => write!(formatter, ": {text:?}"),
            None => Ok(()),
        }
    }
}
