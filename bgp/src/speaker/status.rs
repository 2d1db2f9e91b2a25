//! How peers stand: what a handle shows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crate::Family;
use crate::error::ErrorHandling;
use crate::fsm::State;
use crate::rib::{ApplyCounts, FamilyState, PeerId};
use crate::session::Negotiated;
use crate::wire::Notification;

/// One peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Number in the RIB.
    pub id: PeerId,
    /// Name as set, else the address.
    pub name: Box<str>,
    /// The peer's address.
    pub address: IpAddr,
    /// True if only a prefix allows it.
    pub dynamic: bool,
    /// State of the session.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Our end of the connection, while the session is up.
    pub local: Option<SocketAddr>,
    /// The peer's end of the connection, while the session is up.
    pub remote: Option<SocketAddr>,
    /// What was agreed on, while the session is up.
    pub negotiated: Option<Negotiated>,
    /// Families with routes or of the session.
    pub families: Vec<(Family, FamilyState)>,
    /// Events since the peer was added.
    pub counters: PeerCounters,
    /// Malformed path attributes by type code and what followed (RFC 7606); those that one UPDATE has beyond the first few
    /// are not among them.
    pub attribute_errors: BTreeMap<(u8, ErrorHandling), u64>,
    /// Why the last session or try ended.
    pub last_error: Option<LastError>,
}

/// Events of a peer since it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounters {
    /// Octets read.
    pub octets_received: u64,
    /// OPENs read.
    pub opens_received: u64,
    /// UPDATEs read.
    pub updates_received: u64,
    /// KEEPALIVEs read.
    pub keepalives_received: u64,
    /// NOTIFICATIONs read.
    pub notifications_received: u64,
    /// ROUTE-REFRESHes read.
    pub route_refreshes_received: u64,
    /// OPENs sent.
    pub opens_sent: u64,
    /// KEEPALIVEs sent.
    pub keepalives_sent: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: u64,
    /// ROUTE-REFRESHes sent.
    pub route_refreshes_sent: u64,
    /// Times that the session came up.
    pub sessions: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused: another one was there, or too many came at once.
    pub connections_refused: u64,
    /// Tries to connect that failed.
    pub connects_failed: u64,
    /// Routes that were new.
    pub routes_added: u64,
    /// Routes whose attributes changed.
    pub routes_replaced: u64,
    /// Routes announced as they were.
    pub routes_unchanged: u64,
    /// Routes withdrawn.
    pub routes_withdrawn: u64,
    /// Withdrawals of routes that were not there.
    pub withdrawals_unknown: u64,
    /// Routes not taken because a bound was reached.
    pub routes_refused: u64,
    /// UPDATEs whose routes were taken as withdrawn (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Path attributes discarded (RFC 7606).
    pub attributes_discarded: u64,
}

impl PeerCounters {
    pub(crate) fn add(&mut self, counts: ApplyCounts) {
        self.routes_added += u64::from(counts.added);
        self.routes_replaced += u64::from(counts.replaced);
        self.routes_unchanged += u64::from(counts.unchanged);
        self.routes_withdrawn += u64::from(counts.withdrawn);
        self.withdrawals_unknown += u64::from(counts.unknown);
        self.routes_refused += u64::from(counts.refused);
    }
}

/// Why a session or a try to get one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: SystemTime,
    /// The NOTIFICATION, if there was one.
    pub notification: Option<Notification>,
    /// True if the NOTIFICATION is the peer's.
    pub received: bool,
    /// In words; texts of the peer are escaped.
    pub text: String,
}

/// Events of a speaker that belong to no peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeakerCounters {
    /// Connections from addresses that are no peer's.
    pub strangers_refused: u64,
    /// Connections of dynamic peers beyond [`super::Settings::max_dynamic_peers`].
    pub dynamic_peers_refused: u64,
    /// Connections that the system did not hand over, for lack of descriptors and such.
    pub accept_errors: u64,
    /// Events that subscribers of the message log were too slow for.
    pub log_events_dropped: u64,
}
