//! TLVs that are counted by their lengths only: of Initiation, Termination, Peer Up and Route Mirroring.

use super::BmpError;

/// What the numbers of TLVs mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InformationKind {
    /// Of Initiation: 0 string, 1 sysDescr, 2 sysName (RFC 7854, section 4.4).
    Initiation,
    /// Of Termination: 0 string, 1 reason (RFC 7854, section 4.5).
    Termination,
    /// Of Peer Up and Peer Down: 0 string, 3 VRF or table name (RFC 9069, section 5.3.1), 4 admin label (RFC 9736).
    Peer,
    /// Of Route Mirroring: 0 BGP message, 1 information (RFC 7854, section 4.7).
    Mirroring,
}

/// Reasons of a Termination (IANA "BMP Termination Message Reason Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// 0: Session administratively closed.
    AdministrativelyClosed,
    /// 1: Unspecified.
    Unspecified,
    /// 2: Out of resources.
    OutOfResources,
    /// 3: Redundant connection.
    RedundantConnection,
    /// 4: Session permanently administratively closed.
    PermanentlyClosed,
    /// Any other.
    Unknown(u16),
}

impl From<u16> for TerminationReason {
    fn from(number: u16) -> Self {
        match number {
            0 => Self::AdministrativelyClosed,
            1 => Self::Unspecified,
            2 => Self::OutOfResources,
            3 => Self::RedundantConnection,
            4 => Self::PermanentlyClosed,
            other => Self::Unknown(other),
        }
    }
}

/// TLVs whose lengths were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Information<'a> {
    kind: InformationKind,
    octets: &'a [u8],
}

/// Type and value of each TLV, in order.
#[derive(Clone, Debug)]
pub struct InformationIterator<'a> {
    octets: &'a [u8],
}

impl<'a> Iterator for InformationIterator<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (number, value, rest) = split(self.octets)?;
        self.octets = rest;
        Some((number, value))
    }
}

/// Type, value and rest; also how TLVs of statistics are laid out.
pub(super) fn split(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[t0, t1, l0, l1], rest) = octets.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
    Some((u16::from_be_bytes([t0, t1]), value, rest))
}

impl<'a> IntoIterator for &Information<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = InformationIterator<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> Information<'a> {
    /// # Errors
    ///
    /// The last TLV is cut short.
    pub(super) fn decode(kind: InformationKind, octets: &'a [u8]) -> Result<Self, BmpError> {
        let mut rest = octets;
        while !rest.is_empty() {
            (_, _, rest) = split(rest).ok_or(BmpError::Short("an information TLV"))?;
        }
        Ok(Self { kind, octets })
    }

    /// What the types mean.
    #[must_use]
    pub fn kind(&self) -> InformationKind {
        self.kind
    }

    /// Every TLV, those of unknown types too.
    #[must_use]
    pub fn iter(&self) -> InformationIterator<'a> {
        InformationIterator { octets: self.octets }
    }

    fn text(&self, kind: InformationKind, wanted: u16) -> Option<String> {
        let (_, value) = self.iter().find(|(number, _)| self.kind == kind && *number == wanted)?;
        // The router's text goes to logs and state queries: neither control characters nor a flood.
        Some(String::from_utf8_lossy(value.get(..255).unwrap_or(value)).escape_debug().to_string())
    }

    /// sysDescr of an Initiation, escaped and cut.
    #[must_use]
    pub fn system_description(&self) -> Option<String> {
        self.text(InformationKind::Initiation, 1)
    }

    /// sysName of an Initiation, escaped and cut.
    #[must_use]
    pub fn system_name(&self) -> Option<String> {
        self.text(InformationKind::Initiation, 2)
    }

    /// VRF or table name of a Peer Up or Peer Down, escaped and cut.
    #[must_use]
    pub fn table_name(&self) -> Option<String> {
        self.text(InformationKind::Peer, 3)
    }

    /// Reason of a Termination.
    #[must_use]
    pub fn termination_reason(&self) -> Option<TerminationReason> {
        let reason = |(number, value): (u16, &[u8])| match (self.kind, number, value) {
            (InformationKind::Termination, 1, [high, low]) => Some(u16::from_be_bytes([*high, *low]).into()),
            _ => None,
        };
        self.iter().find_map(reason)
    }
}
