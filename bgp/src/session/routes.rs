//! UPDATEs and ROUTE-REFRESHes of an established session: from the wire into the RIB.

use std::sync::Arc;

use super::Session;
use crate::error::ErrorHandling;
use crate::speaker::{LogKind, Withdrawal};
use crate::wire::{FamilySet, RouteRefresh, RouteRefreshSubtype, Update};
use crate::{Attributes, Family, Nlri};

/// Octets of attributes that one event of the message log has, about.
const WITHDRAWN_OCTETS: usize = 1 << 20;

impl Session {
    pub(super) fn update(&mut self, update: &Update<'_>) {
        self.peer.count(|counters| counters.updates_received += 1);
        if !update.errors().is_empty() {
            self.malformed(update);
        }
        if self.shared.has_subscribers() {
            self.log_update(update);
        }
        let id = self.peer.id;
        let mut rib = self.shared.rib.borrow_mut();
        let counts = rib.apply_update(id, update);
        self.peer.count(|counters| counters.add(counts));
        if let Some(family) = update.end_of_rib() {
            tracing::info!(peer = %self.peer.name, "End-of-RIB of {family}");
            rib.end_of_rib(id, family);
        }
    }

    fn malformed(&mut self, update: &Update<'_>) {
        let worst = update.handling();
        self.peer.count(|counters| match worst {
            Some(ErrorHandling::TreatAsWithdraw) => counters.treated_as_withdraw += 1,
            _ => counters.attributes_discarded += (update.errors().len() + update.errors_omitted()) as u64,
        });
        let mut status = self.peer.status.borrow_mut();
        for error in update.errors() {
            *status.attribute_errors.entry((error.type_code, error.handling)).or_default() += 1;
        }
        drop(status);
        let errors: Vec<String> = update.errors().iter().map(ToString::to_string).collect();
        let text = format!("malformed UPDATE: {}", errors.join("; "));
        if let Some(left_out) = self.log_limit.admit(&text, self.shared.now()) {
            tracing::warn!(peer = %self.peer.name, "{text}{left_out}");
        }
    }

    fn log_update(&self, update: &Update<'_>) {
        let mut withdrawn: Vec<_> = update.withdrawn().collect();
        let treat_as_withdraw = update.handling() == Some(ErrorHandling::TreatAsWithdraw);
        if treat_as_withdraw {
            withdrawn.extend(update.announced());
        }
        let mut routes = Vec::new();
        let mut size = 0;
        for (family, nlri) in withdrawn {
            let last = routes.last().and_then(|last: &Withdrawal| last.attributes.as_ref());
            let route = self.withdrawal(family, nlri, last);
            let is_same =
                last.zip(route.attributes.as_ref()).is_some_and(|(last, one)| Arc::ptr_eq(last, one));
            size += route.attributes.as_ref().filter(|_| !is_same).map_or(0, |attributes| attributes.size());
            routes.push(route);
            // A message names more routes than it can have attributes.
            if size > WITHDRAWN_OCTETS {
                self.shared.log(&self.peer, LogKind::Withdrawn(std::mem::take(&mut routes)));
                size = 0;
            }
        }
        if !routes.is_empty() {
            self.shared.log(&self.peer, LogKind::Withdrawn(routes));
        }
        if !treat_as_withdraw {
            for announcement in update.announcements() {
                let routes = announcement.nlri().map(|nlri| (announcement.family(), nlri)).collect();
                let attributes = Arc::new(announcement.attributes());
                self.shared.log(&self.peer, LogKind::Announced { routes, attributes });
            }
        }
        if let Some(family) = update.end_of_rib() {
            self.shared.log(&self.peer, LogKind::EndOfRib(family));
        }
    }

    /// To be asked for before the RIB forgets the route. With the attributes of `last`, if they are the same.
    fn withdrawal(&self, family: Family, nlri: Nlri, last: Option<&Arc<Attributes>>) -> Withdrawal {
        let mut attributes = None;
        let rib = self.shared.rib.borrow();
        rib.routes(self.peer.id, family, nlri.route_distinguisher, nlri.prefix, |route| {
            if route.nlri.path_id == nlri.path_id {
                let same = last.filter(|last| ***last == *route.attributes);
                attributes = Some(same.map_or_else(|| Arc::new(route.attributes.clone()), Arc::clone));
            }
        });
        Withdrawal { family, nlri, attributes }
    }

    /// RFC 7313, section 4. A request is answered by nothing: there is no route to send again.
    pub(super) fn route_refresh(&mut self, refresh: RouteRefresh, refreshing: &mut FamilySet) {
        self.peer.count(|counters| counters.route_refreshes_received += 1);
        let Some(family) = refresh.family() else { return };
        let mut rib = self.shared.rib.borrow_mut();
        match refresh.subtype {
            RouteRefreshSubtype::Begin => {
                refreshing.insert(family);
                rib.refresh_begin(self.peer.id, family);
            }
            RouteRefreshSubtype::End if refreshing.contains(family) => {
                refreshing.remove(family);
                rib.refresh_end(self.peer.id, family);
            }
            _ => {}
        }
    }
}
