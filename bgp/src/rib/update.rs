//! UPDATEs as the codec has them, into the RIB.

use super::{ApplyCounts, PeerId, Rib};
use crate::error::ErrorHandling;
use crate::wire::Update;

impl Rib {
    /// Applies one UPDATE: first what it withdraws, then what it announces; with errors, as RFC 7606 says
    /// ([`Update::handling`]). Attributes are decoded only if they are not known. End-of-RIB is left to the caller
    /// ([`Update::end_of_rib`]).
    pub fn apply_update(&mut self, peer: PeerId, update: &Update<'_>) -> ApplyCounts {
        let mut counts = self.withdraw(peer, update.withdrawn());
        if update.handling().is_some_and(|handling| handling != ErrorHandling::AttributeDiscard) {
            counts += self.withdraw(peer, update.announced());
            return counts;
        }
        let mut key = std::mem::take(&mut self.key);
        for announcement in update.announcements() {
            key.clear();
            announcement.interning_key(&mut key);
            let family = announcement.family();
            let routes = announcement.nlri().map(|nlri| (family, nlri));
            counts += self.announce(peer, &key, || announcement.attributes(), routes);
        }
        self.key = key;
        counts
    }
}
