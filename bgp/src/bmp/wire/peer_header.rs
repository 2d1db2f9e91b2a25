//! The per-peer header (RFC 7854, section 4.2; RFC 8671, section 4; RFC 9069, section 4.1).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{BmpError, PEER_HEADER_OCTETS};
use crate::RouteDistinguisher;

/// Peer types (IANA "BMP Peer Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PeerKind {
    /// Global Instance Peer.
    Global = 0,
    /// RD Instance Peer: of a VRF, which the distinguisher names.
    Rd = 1,
    /// Local Instance Peer: of an instance without a Route Distinguisher.
    Local = 2,
    /// Loc-RIB Instance Peer (RFC 9069): the router itself.
    LocRib = 3,
}

/// Which RIB of the router routes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RibKind {
    /// Adj-RIB-In before the router's policy.
    AdjRibInPrePolicy,
    /// Adj-RIB-In after it.
    AdjRibInPostPolicy,
    /// Adj-RIB-Out before the router's policy (RFC 8671).
    AdjRibOutPrePolicy,
    /// Adj-RIB-Out after it.
    AdjRibOutPostPolicy,
    /// Loc-RIB (RFC 9069).
    LocRib,
}

impl RibKind {
    /// Every kind, at the place of its [`Self::index`].
    pub const ALL: [Self; 5] = [
        Self::AdjRibInPrePolicy,
        Self::AdjRibInPostPolicy,
        Self::AdjRibOutPrePolicy,
        Self::AdjRibOutPostPolicy,
        Self::LocRib,
    ];

    /// Place in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for RibKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::AdjRibInPrePolicy => "adj-rib-in-pre",
            Self::AdjRibInPostPolicy => "adj-rib-in-post",
            Self::AdjRibOutPrePolicy => "adj-rib-out-pre",
            Self::AdjRibOutPostPolicy => "adj-rib-out-post",
            Self::LocRib => "loc-rib",
        })
    }
}

/// Whose message it is, and when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerHeader {
    /// Peer Type.
    pub kind: PeerKind,
    /// L, and O or the kind of peer: the RIB that Route Monitoring is about.
    pub rib: RibKind,
    /// A: two-octet AS numbers in `AS_PATH`.
    pub two_octet_as_path: bool,
    /// F of a Loc-RIB peer: not all routes of it are sent.
    pub filtered: bool,
    /// Peer Distinguisher; zero of a global peer.
    pub distinguisher: RouteDistinguisher,
    /// Peer Address, of the version that V says; unspecified of a Loc-RIB peer.
    pub address: IpAddr,
    /// Peer AS.
    pub as_number: u32,
    /// Peer BGP ID.
    pub bgp_identifier: Ipv4Addr,
    /// Since 1970, when the message was encapsulated or the route received; 0 if the router does not say.
    pub timestamp_seconds: u32,
    /// Microseconds of the second.
    pub timestamp_microseconds: u32,
}

mod flag {
    pub(super) const V: u8 = 0x80;
    pub(super) const L: u8 = 0x40;
    pub(super) const A: u8 = 0x20;
    pub(super) const O: u8 = 0x10;
    /// In the place of V, of a Loc-RIB peer.
    pub(super) const F: u8 = 0x80;
}

impl PeerHeader {
    /// Flags without a meaning are ignored.
    ///
    /// # Errors
    ///
    /// The peer type is unknown.
    pub(super) fn decode(octets: &[u8; PEER_HEADER_OCTETS]) -> Result<Self, BmpError> {
        let short = || BmpError::Short("per-peer header");
        let (&[kind, flags], rest) = octets.split_first_chunk().ok_or_else(short)?;
        let (&distinguisher, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (address, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let (&as_number, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&bgp_identifier, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (&seconds, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (&microseconds, _) = rest.split_first_chunk().ok_or_else(short)?;
        let kind = match kind {
            0 => PeerKind::Global,
            1 => PeerKind::Rd,
            2 => PeerKind::Local,
            3 => PeerKind::LocRib,
            other => return Err(BmpError::PeerKind(other)),
        };
        let of_peer = kind != PeerKind::LocRib;
        let rib = match (of_peer, flags & flag::O != 0, flags & flag::L != 0) {
            (false, ..) => RibKind::LocRib,
            (true, false, false) => RibKind::AdjRibInPrePolicy,
            (true, false, true) => RibKind::AdjRibInPostPolicy,
            (true, true, false) => RibKind::AdjRibOutPrePolicy,
            (true, true, true) => RibKind::AdjRibOutPostPolicy,
        };
        Ok(Self {
            kind,
            rib,
            // RFC 9069, section 4.2: a Loc-RIB peer has the F flag only; its AS numbers have four octets.
            two_octet_as_path: of_peer && flags & flag::A != 0,
            filtered: !of_peer && flags & flag::F != 0,
            distinguisher: RouteDistinguisher(distinguisher),
            address: decode_address(address, of_peer && flags & flag::V != 0),
            as_number: u32::from_be_bytes(as_number),
            bgp_identifier: bgp_identifier.into(),
            timestamp_seconds: u32::from_be_bytes(seconds),
            timestamp_microseconds: u32::from_be_bytes(microseconds),
        })
    }

    /// True if V says that addresses have version 6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let mut flags = match self.rib {
            RibKind::AdjRibInPrePolicy | RibKind::LocRib => 0,
            RibKind::AdjRibInPostPolicy => flag::L,
            RibKind::AdjRibOutPrePolicy => flag::O,
            RibKind::AdjRibOutPostPolicy => flag::O | flag::L,
        };
        for (set, bit) in
            [(self.is_ipv6(), flag::V), (self.two_octet_as_path, flag::A), (self.filtered, flag::F)]
        {
            flags |= if set { bit } else { 0 };
        }
        into.extend([self.kind as u8, flags]);
        into.extend(self.distinguisher.0);
        encode_address(self.address, into);
        into.extend(self.as_number.to_be_bytes());
        into.extend(self.bgp_identifier.octets());
        into.extend(self.timestamp_seconds.to_be_bytes());
        into.extend(self.timestamp_microseconds.to_be_bytes());
    }
}

/// Of sixteen octets, an IPv4 address has the last four.
pub(super) fn decode_address(octets: &[u8; 16], is_ipv6: bool) -> IpAddr {
    let [.., a, b, c, d] = *octets;
    if is_ipv6 { Ipv6Addr::from(*octets).into() } else { Ipv4Addr::new(a, b, c, d).into() }
}

pub(super) fn encode_address(address: IpAddr, into: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            into.extend([0; 12]);
            into.extend(address.octets());
        }
        IpAddr::V6(address) => into.extend(address.octets()),
    }
}
