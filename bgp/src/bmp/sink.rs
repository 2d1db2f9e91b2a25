//! What the station does to routes, so that the station does not depend on how they are kept.

use crate::Family;
use crate::rib::{ApplyCounts, LookupSource, PeerId, PeerIdentity, Rib};
use crate::wire::Update;

/// A place for routes of several peers.
pub trait RouteSink {
    /// Adds a peer without routes; see [`Rib::add_peer`].
    fn add_peer(&mut self, identity: PeerIdentity, lookups: Option<LookupSource>) -> PeerId;
    /// Withdraws and announces; see [`Rib::apply_update`].
    fn apply(&mut self, peer: PeerId, update: &Update<'_>) -> ApplyCounts;
    /// A family's table is complete.
    fn end_of_rib(&mut self, peer: PeerId, family: Family);
    /// Routes become stale and stay usable.
    fn session_down(&mut self, peer: PeerId);
    /// Stale routes go.
    fn sweep_stale(&mut self, peer: PeerId);
    /// Peers and their routes go.
    fn remove_peers(&mut self, peers: &[PeerId]);
    /// What all that took so far; see [`Rib::slots_rewritten`].
    fn slots_rewritten(&self) -> u64;
}

impl RouteSink for Rib {
    fn add_peer(&mut self, identity: PeerIdentity, lookups: Option<LookupSource>) -> PeerId {
        Self::add_peer(self, identity, lookups)
    }

    fn apply(&mut self, peer: PeerId, update: &Update<'_>) -> ApplyCounts {
        self.apply_update(peer, update)
    }

    fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        Self::end_of_rib(self, peer, family);
    }

    fn session_down(&mut self, peer: PeerId) {
        Self::session_down(self, peer);
    }

    fn sweep_stale(&mut self, peer: PeerId) {
        Self::sweep_stale(self, peer);
    }

    fn remove_peers(&mut self, peers: &[PeerId]) {
        Self::remove_peers(self, peers);
    }

    fn slots_rewritten(&self) -> u64 {
        Self::slots_rewritten(self)
    }
}
