//! Peer Up and Peer Down Notifications (RFC 7854, sections 4.9 and 4.10).

use std::net::IpAddr;

use super::peer_header::decode_address;
use super::{BmpError, Information, InformationKind, PeerHeader, split_bgp_message};

/// A session is up: its OPENs tell how to read its UPDATEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUp<'a> {
    /// The router's end; unspecified of a Loc-RIB peer.
    pub local_address: IpAddr,
    /// The router's port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// OPEN of the router, with its BGP header.
    pub sent_open: &'a [u8],
    /// OPEN of the peer, with its BGP header.
    pub received_open: &'a [u8],
    /// [`InformationKind::Peer`].
    pub information: Information<'a>,
}

impl<'a> PeerUp<'a> {
    pub(super) fn decode(body: &'a [u8], peer: &PeerHeader) -> Result<Self, BmpError> {
        let short = || BmpError::Short("Peer Up Notification");
        let (address, rest) = body.split_first_chunk::<16>().ok_or_else(short)?;
        let (&[l0, l1, r0, r1], rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (sent_open, rest) = split_bgp_message(rest, "Peer Up Notification")?;
        let (received_open, rest) = split_bgp_message(rest, "Peer Up Notification")?;
        Ok(Self {
            local_address: decode_address(address, peer.is_ipv6()),
            local_port: u16::from_be_bytes([l0, l1]),
            remote_port: u16::from_be_bytes([r0, r1]),
            sent_open,
            received_open,
            information: Information::decode(InformationKind::Peer, rest)?,
        })
    }
}

/// Why a session is over (IANA "BMP Peer Down Reason Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerDownReason<'a> {
    /// 1: the router closed it with this NOTIFICATION, BGP header included.
    LocalNotification(&'a [u8]),
    /// 2: the router closed it without a NOTIFICATION, upon this event of its state machine (RFC 4271, section 8.1); 0
    /// if it does not say.
    LocalEvent(u16),
    /// 3: the peer closed it with this NOTIFICATION, BGP header included.
    RemoteNotification(&'a [u8]),
    /// 4: the peer closed it without a NOTIFICATION.
    Remote,
    /// 5: the router does not monitor the peer any more; the session may be up.
    DeConfigured,
    /// 6: the Loc-RIB is not monitored any more (RFC 9069, section 5.3).
    LocalInformation(Information<'a>),
    /// Another one. The session is over, whatever follows.
    Unknown(u8),
}

impl<'a> PeerDownReason<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, BmpError> {
        let notification = |body: &'a [u8]| {
            let (notification, rest) = split_bgp_message(body, "Peer Down Notification")?;
            rest.is_empty().then_some(notification).ok_or(BmpError::BgpLength("Peer Down Notification"))
        };
        let (&reason, data) = body.split_first().ok_or(BmpError::Short("Peer Down Notification"))?;
        Ok(match reason {
            1 => Self::LocalNotification(notification(data)?),
            2 => {
                let event = data.first_chunk().ok_or(BmpError::Short("Peer Down Notification"))?;
                Self::LocalEvent(u16::from_be_bytes(*event))
            }
            3 => Self::RemoteNotification(notification(data)?),
            4 => Self::Remote,
            5 => Self::DeConfigured,
            6 => Self::LocalInformation(Information::decode(InformationKind::Peer, data)?),
            other => Self::Unknown(other),
        })
    }

    /// For logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LocalNotification(_) => "closed by the router with a NOTIFICATION",
            Self::LocalEvent(_) => "closed by the router",
            Self::RemoteNotification(_) => "closed by the peer with a NOTIFICATION",
            Self::Remote => "closed by the peer",
            Self::DeConfigured => "not monitored any more",
            Self::LocalInformation(_) => "Loc-RIB not monitored any more",
            Self::Unknown(_) => "unknown reason",
        }
    }
}
