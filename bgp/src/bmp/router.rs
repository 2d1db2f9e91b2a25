//! One monitored router: its peers and their RIBs, from message to message and from connection to connection. No I/O and
//! no clock.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::RouteSink;
use super::wire::{
    BmpError, Message, MessageType, PeerDownReason, PeerHeader, PeerKind, PeerUp, RibKind, Statistic,
};
use crate::error::{ErrorHandling, NotificationError};
use crate::rib::{LookupSource, PeerId, PeerIdentity};
use crate::wire::{self, AsNumberSize, Capability, FamilySet, Open, SessionContext, Update};
use crate::{Family, RouteDistinguisher};

/// Lines logged of one connection about messages that could not be used; all of them are counted.
const LOGGED_PER_CONNECTION: u32 = 10;
/// Statistics kept of one peer. The standards have 18, some of them by family.
const MAX_STATISTICS: usize = 64;

/// How routers are treated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From the loss of a peer or of its router until its routes go.
    pub stale_time: Duration,
    /// Most peers of one router at a time, those that are down and stale included.
    pub max_peers: usize,
    /// RIBs in which traffic is looked up. Routes of all RIBs are kept.
    pub lookups: Vec<RibKind>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stale_time: Duration::from_mins(5),
            max_peers: 1024,
            lookups: vec![RibKind::AdjRibInPrePolicy, RibKind::AdjRibInPostPolicy, RibKind::LocRib],
        }
    }
}

/// What the station did, to be read at any time. Counters never go down.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections refused because their source is not allowed.
    pub refused_sources: AtomicU64,
    /// Connections refused because there were as many routers as allowed.
    pub refused_routers: AtomicU64,
    /// Connections ended by a newer one of the same router.
    pub replaced_connections: AtomicU64,
    /// Connections ended by what is no BMP, or no BMP that is allowed there.
    pub bad_connections: AtomicU64,
    /// Connections ended by the network, or in the middle of a message.
    pub connection_failures: AtomicU64,
    /// Messages by type, at the place of the type's number.
    pub messages: [AtomicU64; 7],
    /// Messages of peers that are not up.
    pub unknown_peers: AtomicU64,
    /// Messages of peers of an unknown type (IANA "BMP Peer Types").
    pub unknown_peer_types: AtomicU64,
    /// Peer Downs with an unknown reason (IANA "BMP Peer Down Reason Codes"); the peers are down.
    pub unknown_reasons: AtomicU64,
    /// Peer Ups above the number of peers allowed.
    pub refused_peers: AtomicU64,
    /// Peer Ups with an OPEN that cannot be read; their UPDATEs count as of an unknown peer.
    pub bad_opens: AtomicU64,
    /// UPDATEs that cannot be read.
    pub bad_updates: AtomicU64,
    /// UPDATEs treated as withdraw (RFC 7606).
    pub treated_as_withdraw: AtomicU64,
    /// UPDATEs of which attributes were discarded (RFC 7606).
    pub discarded_attributes: AtomicU64,
    /// Routes that the RIB did not take because of a bound.
    pub refused_routes: AtomicU64,
}

/// Why the connection to a router is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouterError {
    /// What came is no BMP.
    #[error("{0}")]
    Wire(#[from] BmpError),
    /// The first message is not an Initiation (RFC 7854, section 3.2).
    #[error("the first message is not an Initiation")]
    NotInitiated,
    /// The router said that it goes.
    #[error("the router terminates: {0}")]
    Terminated(&'static str),
}

/// A peer of a router, as all its messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// Which kind.
    pub kind: PeerKind,
    /// Of its VRF or instance; zero of a global peer.
    pub distinguisher: RouteDistinguisher,
    /// Unspecified of a Loc-RIB peer.
    pub address: IpAddr,
}

impl From<&PeerHeader> for PeerKey {
    fn from(header: &PeerHeader) -> Self {
        Self { kind: header.kind, distinguisher: header.distinguisher, address: header.address }
    }
}

/// A peer of a router.
#[derive(Debug)]
pub struct MonitoredPeer {
    /// Its session with the router is up, and the router with us.
    pub up: bool,
    /// Its AS.
    pub as_number: u32,
    /// Its BGP Identifier.
    pub bgp_identifier: Ipv4Addr,
    /// VRF or table name, if the router tells it.
    pub table_name: Option<String>,
    /// By [`RibKind::index`]; `None` until a route of that RIB comes.
    pub ribs: [Option<PeerId>; 5],
    /// Last value of each.
    pub statistics: Vec<Statistic>,
    /// Families with Path Identifiers: from the peer, to the peer, and in the Loc-RIB.
    add_path: [FamilySet; 3],
    /// When stale routes go, and with them the peer if it is not up.
    sweep_at: Option<Instant>,
}

/// One router.
#[derive(Debug)]
pub struct Router {
    address: IpAddr,
    settings: Settings,
    /// Initiation came on this connection.
    initiated: bool,
    system_name: Option<String>,
    system_description: Option<String>,
    peers: HashMap<PeerKey, MonitoredPeer>,
    log_lines: u32,
}

impl Router {
    /// Without peers. `address` is the source of its connections.
    #[must_use]
    pub fn new(address: IpAddr, settings: Settings) -> Self {
        Self {
            address,
            settings,
            initiated: false,
            system_name: None,
            system_description: None,
            peers: HashMap::new(),
            log_lines: 0,
        }
    }

    /// sysName as the router gives it, escaped.
    #[must_use]
    pub fn system_name(&self) -> Option<&str> {
        self.system_name.as_deref()
    }

    /// sysDescr as the router gives it, escaped.
    #[must_use]
    pub fn system_description(&self) -> Option<&str> {
        self.system_description.as_deref()
    }

    /// True after the Initiation of the present connection.
    #[must_use]
    pub fn is_initiated(&self) -> bool {
        self.initiated
    }

    /// Its peers, those that are down and stale too.
    pub fn peers(&self) -> impl Iterator<Item = (&PeerKey, &MonitoredPeer)> {
        self.peers.iter()
    }

    /// The connection is gone: all routes become stale.
    pub fn disconnected(&mut self, now: Instant, sink: &mut impl RouteSink) {
        self.initiated = false;
        self.log_lines = 0;
        for peer in self.peers.values_mut().filter(|peer| peer.up) {
            peer.down(now + self.settings.stale_time, sink);
        }
    }

    /// Time has passed.
    pub fn timer(&mut self, now: Instant, sink: &mut impl RouteSink) {
        let mut removed = Vec::new();
        self.peers.retain(|_, peer| {
            if peer.sweep_at.is_none_or(|at| at > now) {
                return true;
            }
            peer.sweep_at = None;
            for rib in peer.ribs.iter().flatten() {
                if peer.up {
                    sink.sweep_stale(*rib);
                } else {
                    removed.push(*rib);
                }
            }
            peer.up
        });
        sink.remove_peers(&removed);
    }

    /// Forgets everything at once.
    pub fn remove(&mut self, sink: &mut impl RouteSink) {
        let ribs: Vec<PeerId> = self.peers.drain().flat_map(|(_, peer)| peer.ribs).flatten().collect();
        sink.remove_peers(&ribs);
    }

    /// A message came.
    ///
    /// # Errors
    ///
    /// The connection is to be closed. UPDATEs and OPENs that cannot be read, and types and reasons that nobody knows yet,
    /// are no such reason: the messages around them are whole, and the router would send the same again after each
    /// reconnect.
    pub fn received(
        &mut self,
        now: Instant,
        message_type: MessageType,
        body: &[u8],
        statistics: &Statistics,
        sink: &mut impl RouteSink,
    ) -> Result<(), RouterError> {
        if let Some(counter) = statistics.messages.get(message_type as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if !self.initiated && message_type != MessageType::Initiation {
            return Err(RouterError::NotInitiated);
        }
        let message = match Message::decode(message_type, body) {
            Err(error @ BmpError::PeerKind(_)) => {
                statistics.unknown_peer_types.fetch_add(1, Ordering::Relaxed);
                if self.may_log() {
                    warn!(router = %self.address, "BMP: {error}");
                }
                return Ok(());
            }
            decoded => decoded?,
        };
        match message {
            Message::Initiation(information) => {
                self.initiated = true;
                self.system_name = information.system_name();
                self.system_description = information.system_description();
                let (name, description) = (&self.system_name, &self.system_description);
                info!(router = %self.address, ?name, ?description, "BMP: initiation");
            }
            Message::Termination(information) => {
                let reason = information.termination_reason();
                info!(router = %self.address, ?reason, "BMP: termination");
                return Err(RouterError::Terminated("Termination received"));
            }
            Message::PeerUp { peer, up } => self.peer_up(now, &peer, &up, statistics, sink),
            Message::PeerDown { peer, reason } => {
                let key = PeerKey::from(&peer);
                if let PeerDownReason::Unknown(number) = reason {
                    statistics.unknown_reasons.fetch_add(1, Ordering::Relaxed);
                    self.log(&key, &format_args!("reason {number} of a Peer Down Notification is unknown"));
                }
                let sweep_at = now + self.settings.stale_time;
                match self.peers.get_mut(&key).filter(|peer| peer.up) {
                    Some(peer) => {
                        info!(router = %self.address, peer = %key.address, reason = reason.name(), "BMP: peer down");
                        peer.down(sweep_at, sink);
                    }
                    None => self.unknown_peer(&key, statistics),
                }
            }
            Message::RouteMonitoring { peer, update } => self.update(&peer, update, statistics, sink),
            Message::StatisticsReport { peer, statistics: values } => {
                let key = PeerKey::from(&peer);
                match self.peers.get_mut(&key).filter(|peer| peer.up) {
                    Some(peer) => peer.statistics = values.iter().take(MAX_STATISTICS).collect(),
                    None => self.unknown_peer(&key, statistics),
                }
            }
            // Copies of messages whose routes come by Route Monitoring.
            Message::RouteMirroring { .. } => {}
        }
        Ok(())
    }

    fn peer_up(
        &mut self,
        now: Instant,
        header: &PeerHeader,
        up: &PeerUp<'_>,
        statistics: &Statistics,
        sink: &mut impl RouteSink,
    ) {
        let key = PeerKey::from(header);
        let sweep_at = now + self.settings.stale_time;
        // Up without a Peer Down before: the session was lost and came back.
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.up) {
            peer.down(sweep_at, sink);
        }
        let opens = decode_open(up.sent_open).and_then(|sent| Ok((sent, decode_open(up.received_open)?)));
        let (sent, received) = match opens {
            Ok(opens) => opens,
            Err(error) => {
                statistics.bad_opens.fetch_add(1, Ordering::Relaxed);
                self.log(&key, &error);
                return;
            }
        };
        if !self.peers.contains_key(&key) && self.peers.len() >= self.settings.max_peers {
            statistics.refused_peers.fetch_add(1, Ordering::Relaxed);
            self.log(&key, &"more peers than allowed");
            return;
        }
        let peer = self.peers.entry(key).or_insert_with(MonitoredPeer::new);
        peer.up = true;
        peer.as_number = header.as_number;
        peer.bgp_identifier = header.bgp_identifier;
        peer.table_name = up.information.table_name();
        let from_peer = add_path(&received, &sent);
        let to_peer = add_path(&sent, &received);
        // Both OPENs of a Loc-RIB are the router's own invention (RFC 9069, section 5.2): either may say it.
        peer.add_path = [from_peer, to_peer, from_peer.iter().chain(to_peer.iter()).collect()];
        // Routes of the last session, if there are any, are to be sent again within the same time.
        peer.sweep_at = peer.ribs.iter().flatten().next().map(|_| sweep_at);
        info!(router = %self.address, peer = %key.address, as_number = header.as_number, "BMP: peer up");
    }

    fn update(
        &mut self,
        header: &PeerHeader,
        message: &[u8],
        statistics: &Statistics,
        sink: &mut impl RouteSink,
    ) {
        let key = PeerKey::from(header);
        // GoBGP sends its Loc-RIB without the Peer Up that RFC 9069, section 4.3, asks for.
        if key.kind == PeerKind::LocRib
            && !self.peers.contains_key(&key)
            && self.peers.len() < self.settings.max_peers
        {
            let peer = self.peers.entry(key).or_insert_with(MonitoredPeer::new);
            (peer.up, peer.as_number, peer.bgp_identifier) = (true, header.as_number, header.bgp_identifier);
        }
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.up) else {
            self.unknown_peer(&key, statistics);
            return;
        };
        let update = match decode_update(message, peer.context(header)) {
            Ok(update) => update,
            Err(error) => {
                statistics.bad_updates.fetch_add(1, Ordering::Relaxed);
                self.log(&key, &error);
                return;
            }
        };
        let slot = &mut peer.ribs[header.rib.index()];
        let rib = *slot.get_or_insert_with(|| {
            let name = rib_name(self.address, &key, header.rib).into();
            let lookups = self.settings.lookups.contains(&header.rib).then_some(LookupSource::Unicast);
            sink.add_peer(PeerIdentity { name, address: self.address }, lookups)
        });
        let counts = sink.apply(rib, &update);
        statistics.refused_routes.fetch_add(counts.refused.into(), Ordering::Relaxed);
        if let Some(family) = update.end_of_rib() {
            debug!(router = %self.address, peer = %key.address, rib = %header.rib, %family, "BMP: end of RIB");
            sink.end_of_rib(rib, family);
        }
        let counter = match update.handling() {
            None => return,
            Some(ErrorHandling::AttributeDiscard) => &statistics.discarded_attributes,
            Some(ErrorHandling::TreatAsWithdraw | ErrorHandling::SessionReset) => {
                &statistics.treated_as_withdraw
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = update.errors().first() {
            self.log(&key, error);
        }
    }

    fn unknown_peer(&mut self, key: &PeerKey, statistics: &Statistics) {
        statistics.unknown_peers.fetch_add(1, Ordering::Relaxed);
        self.log(key, &"a message of a peer that is not up");
    }

    fn log(&mut self, key: &PeerKey, reason: &dyn std::fmt::Display) {
        if self.may_log() {
            warn!(router = %self.address, peer = %key.address, "BMP: {reason}");
        }
    }

    fn may_log(&mut self) -> bool {
        let may = self.log_lines < LOGGED_PER_CONNECTION;
        self.log_lines += u32::from(may);
        may
    }
}

impl MonitoredPeer {
    fn new() -> Self {
        Self {
            up: false,
            as_number: 0,
            bgp_identifier: Ipv4Addr::UNSPECIFIED,
            table_name: None,
            ribs: [None; 5],
            statistics: Vec::new(),
            add_path: [FamilySet::EMPTY; 3],
            sweep_at: None,
        }
    }

    fn down(&mut self, sweep_at: Instant, sink: &mut impl RouteSink) {
        self.up = false;
        self.statistics = Vec::new();
        self.sweep_at = Some(sweep_at);
        for rib in self.ribs.iter().flatten() {
            sink.session_down(*rib);
        }
    }

    /// How UPDATEs of this RIB are read. `LOCAL_PREF` is taken from any peer: after policy it is the router's.
    fn context(&self, header: &PeerHeader) -> SessionContext {
        let [from_peer, to_peer, of_loc_rib] = self.add_path;
        SessionContext {
            as_numbers: if header.two_octet_as_path {
                AsNumberSize::TwoOctets
            } else {
                AsNumberSize::FourOctets
            },
            add_path: match header.rib {
                RibKind::AdjRibInPrePolicy | RibKind::AdjRibInPostPolicy => from_peer,
                RibKind::AdjRibOutPrePolicy | RibKind::AdjRibOutPostPolicy => to_peer,
                RibKind::LocRib => of_loc_rib,
            },
            internal: true,
            monitored: true,
        }
    }
}

/// Names a peer of the RIB: `bmp ROUTER PEER RIB`, with the Route Distinguisher of its instance behind the peer.
pub(super) fn rib_name(router: IpAddr, key: &PeerKey, rib: RibKind) -> String {
    let distinguisher = match key.distinguisher {
        RouteDistinguisher([0, 0, 0, 0, 0, 0, 0, 0]) => String::new(),
        other => format!(" {other}"),
    };
    let kind = if key.kind == PeerKind::Local { " local" } else { "" };
    format!("bmp {router} {}{distinguisher}{kind} {rib}", key.address)
}

/// Families in which `sender` sends Path Identifiers to `receiver` (RFC 7911, section 4).
fn add_path(sender: &Open, receiver: &Open) -> FamilySet {
    let entries = |open: &Open| {
        let families = open.capabilities.iter().filter_map(|capability| match capability {
            Capability::AddPath(families) => Some(families.to_vec()),
            _ => None,
        });
        families.flatten().collect::<Vec<_>>()
    };
    let receiver = entries(receiver);
    let received =
        |afi, safi| receiver.iter().any(|entry| (entry.afi, entry.safi) == (afi, safi) && entry.receives());
    entries(sender)
        .into_iter()
        .filter(|entry| entry.sends() && received(entry.afi, entry.safi))
        .filter_map(|entry| Family::from_numbers(entry.afi, entry.safi))
        .collect()
}

/// The body of a BGP message of this type.
fn body(message: &[u8], wanted: wire::MessageType) -> Result<&[u8], NotificationError> {
    let wrong = || NotificationError::new(1, 3, &[], "a BGP message of another type than its place");
    let header = wire::Header::decode(message, wire::EXTENDED_MAXIMUM_LENGTH)?.ok_or_else(wrong)?;
    if header.message_type != wanted {
        return Err(wrong());
    }
    message.get(wire::HEADER_OCTETS..).ok_or_else(wrong)
}

fn decode_open(message: &[u8]) -> Result<Open, NotificationError> {
    Open::decode(body(message, wire::MessageType::Open)?)
}

fn decode_update(message: &[u8], context: SessionContext) -> Result<Update<'_>, NotificationError> {
    Update::decode(body(message, wire::MessageType::Update)?, &context)
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
