//! Validated ROA payloads (VRPs) and what they say about the origin of a route (RFC 6811).
//!
//! VRPs come from a JSON file as relying parties write it ([`read_file`]), from a cache by the RPKI-to-Router
//! protocol ([`rtr`]), or from both. Each source publishes whole sets; readers see one immutable [`RoaTable`].

mod file;
pub mod rtr;
mod store;
mod table;

use ipnet::IpNet;

pub use file::{FileError, read_file, read_json};
pub use store::{RoaStore, Source};
pub use table::{RoaStatus, RoaTable, ValidationState};

/// A Validated ROA Payload (RFC 6811, section 2): `as_number` may originate `prefix` and what is inside it, up to
/// `max_length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrp {
    prefix: IpNet,
    max_length: u8,
    as_number: u32,
}

/// Values that are no VRP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VrpError {
    /// Host bits are set.
    #[error("{0} has bits set behind its prefix length")]
    HostBits(IpNet),
    /// Shorter than the prefix, or longer than an address.
    #[error(
        "maximum length {max_length} of {prefix} is not between its prefix length and that of an address"
    )]
    MaxLength {
        /// The prefix.
        prefix: IpNet,
        /// As given, in bits.
        max_length: u8,
    },
}

impl Vrp {
    /// `max_length` is in bits. AS 0 is a VRP like any other and matches no route (RFC 6483, section 4).
    ///
    /// # Errors
    ///
    /// Host bits, or a maximum length that the prefix cannot have.
    pub fn new(prefix: IpNet, max_length: u8, as_number: u32) -> Result<Self, VrpError> {
        if prefix.trunc() != prefix {
            return Err(VrpError::HostBits(prefix));
        }
        if max_length < prefix.prefix_len() || max_length > prefix.max_prefix_len() {
            return Err(VrpError::MaxLength { prefix, max_length });
        }
        Ok(Self { prefix, max_length, as_number })
    }

    /// Its host bits are zero.
    #[must_use]
    pub fn prefix(&self) -> IpNet {
        self.prefix
    }

    /// Longest prefix that may be announced, in bits.
    #[must_use]
    pub fn max_length(&self) -> u8 {
        self.max_length
    }

    /// The AS that may announce it.
    #[must_use]
    pub fn as_number(&self) -> u32 {
        self.as_number
    }
}
