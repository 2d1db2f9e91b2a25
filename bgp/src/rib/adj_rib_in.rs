//! What one peer sent of one family (RFC 4271, section 3.2: Adj-RIB-In).

use foldhash::fast::RandomState;

use super::counts::ApplyCounts;
use super::epoch::Epochs;
use super::intern::InternTable;
use super::length_table::NO_VALUE;
use super::lookups::{Lookups, PathSet, PeerLookups, path_set};
use super::packed::Packed;
use super::paths::{Path, PathLists, Route, Value};
use super::store::{Destination, Store};
use crate::{Family, MplsLabel};

/// What all peers share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) epochs: std::sync::Arc<Epochs>,
    pub(super) attributes: InternTable<Packed>,
    pub(super) path_sets: InternTable<PathSet>,
    pub(super) hasher: RandomState,
}

impl Common {
    fn release(&mut self, route: Route) {
        self.attributes.release(route.attributes(), self.epochs.current());
    }
}

/// A walk that takes stale routes out, in pieces.
#[derive(Debug)]
struct Sweep {
    /// Routes last announced before this epoch go.
    keep_from: u8,
    after: Option<Destination>,
}

/// The routes of one family of one peer.
#[derive(Debug)]
pub(super) struct AdjRibIn {
    pub(super) family: Family,
    store: Store,
    lists: PathLists,
    /// Counts losses of the session and begins of refreshes. Routes of earlier epochs are stale.
    epoch: u8,
    /// Routes by the epoch in which they were last announced.
    by_epoch: Box<[u32; 256]>,
    pub(super) end_of_rib: bool,
    sweep: Option<Sweep>,
}

/// One route to announce.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announced {
    pub(super) path_id: u32,
    pub(super) label: Option<MplsLabel>,
    pub(super) attributes: u32,
}

impl AdjRibIn {
    pub(super) fn new(family: Family) -> Self {
        Self {
            family,
            store: Store::new(family),
            lists: PathLists::default(),
            epoch: 0,
            by_epoch: Box::new([0; 256]),
            end_of_rib: false,
            sweep: None,
        }
    }

    pub(super) fn routes(&self) -> u32 {
        self.by_epoch.iter().sum()
    }

    pub(super) fn stale(&self) -> u32 {
        self.routes() - self.count(self.epoch)
    }

    pub(super) fn is_stale(&self, route: Route) -> bool {
        route.epoch() != self.epoch
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    fn count(&self, epoch: u8) -> u32 {
        self.by_epoch.get(usize::from(epoch)).copied().unwrap_or(0)
    }

    fn count_in(&mut self, epoch: u8) {
        if let Some(count) = self.by_epoch.get_mut(usize::from(epoch)) {
            *count += 1;
        }
    }

    fn count_out(&mut self, epoch: u8) {
        if let Some(count) = self.by_epoch.get_mut(usize::from(epoch)) {
            *count -= 1;
        }
    }

    /// Takes a route. The caller holds one use of the attributes; the route takes another one.
    pub(super) fn announce(
        &mut self,
        at: Destination,
        new: Announced,
        common: &mut Common,
        lookups: Option<&mut Lookups>,
        counts: &mut ApplyCounts,
    ) {
        let route = Route::new(new.attributes, self.epoch);
        if new.path_id != 0 || new.label.is_some() {
            let before = self.store.get(&common.hasher, &at);
            self.announce_path(at, before, new, common, lookups, counts);
            return;
        }
        // The usual case needs one look at the store.
        let before = self.store.replace(&common.hasher, at, Value::One(route).to_store());
        if before == NO_VALUE {
            counts.added += 1;
        } else {
            match Value::from_store(before) {
                Value::One(old) => {
                    self.count_out(old.epoch());
                    self.count_in(self.epoch);
                    if old.attributes() == new.attributes {
                        counts.unchanged += 1;
                        return;
                    }
                    counts.replaced += 1;
                    common.attributes.add_use(new.attributes);
                    if let Some(lookups) = lookups
                        && !lookups.set(at.prefix, new.attributes, common.epochs.current())
                    {
                        counts.refused += 1;
                    }
                    common.release(old);
                    return;
                }
                Value::List(_) => {
                    self.store.replace(&common.hasher, at, before);
                    self.announce_path(at, Some(before), new, common, lookups, counts);
                    return;
                }
            }
        }
        self.count_in(self.epoch);
        common.attributes.add_use(new.attributes);
        if let Some(lookups) = lookups
            && !lookups.set(at.prefix, new.attributes, common.epochs.current())
        {
            counts.refused += 1;
        }
    }

    /// As [`Self::announce`], where a list of paths is or will be.
    fn announce_path(
        &mut self,
        at: Destination,
        before: Option<u32>,
        new: Announced,
        common: &mut Common,
        lookups: Option<&mut Lookups>,
        counts: &mut ApplyCounts,
    ) {
        let route = Route::new(new.attributes, self.epoch);
        let path = Path::new(new.path_id, route, new.label);
        let first = match before.map(Value::from_store) {
            None => self.lists.create(path),
            Some(Value::One(old)) => self.lists.create(Path::new(0, old, None)),
            Some(Value::List(first)) => Some(first),
        };
        let Some(first) = first else {
            counts.refused += 1;
            return;
        };
        let inserted = if before.is_some() { self.lists.insert(first, path) } else { Ok(None) };
        let Ok(old) = inserted else {
            counts.refused += 1;
            if let Some(Value::One(_)) = before.map(Value::from_store) {
                self.lists.drop_list(first);
            }
            return;
        };
        self.count_in(self.epoch);
        self.store.replace(&common.hasher, at, Value::List(first).to_store());
        if let Some(old) = old {
            self.count_out(old.route.epoch());
            if old.route.attributes() == new.attributes {
                let changed = old.label != new.label;
                *(if changed { &mut counts.replaced } else { &mut counts.unchanged }) += 1;
                return;
            }
            counts.replaced += 1;
        } else {
            counts.added += 1;
        }
        common.attributes.add_use(new.attributes);
        self.publish(at, common, lookups, counts);
        if let Some(old) = old {
            common.release(old.route);
        }
    }

    /// Takes back a route.
    pub(super) fn withdraw(
        &mut self,
        at: &Destination,
        path_id: u32,
        common: &mut Common,
        lookups: Option<&mut Lookups>,
        counts: &mut ApplyCounts,
    ) {
        let Some(value) = self.store.get(&common.hasher, at) else {
            counts.unknown += 1;
            return;
        };
        let route = match Value::from_store(value) {
            Value::One(route) if path_id == 0 => {
                self.remove_last(at, 0, common, lookups);
                Some(route)
            }
            Value::One(_) => None,
            Value::List(first) => match self.lists.remove(first, path_id) {
                Some((path, true)) => {
                    self.remove_last(at, path.set, common, lookups);
                    self.lists.drop_list(first);
                    Some(path.route)
                }
                Some((path, false)) => {
                    self.publish(*at, common, lookups, counts);
                    Some(path.route)
                }
                None => None,
            },
        };
        match route {
            Some(route) => {
                counts.withdrawn += 1;
                self.count_out(route.epoch());
                common.release(route);
            }
            None => counts.unknown += 1,
        }
    }

    /// Takes a destination out.
    fn remove_last(
        &mut self,
        at: &Destination,
        set: u32,
        common: &mut Common,
        lookups: Option<&mut Lookups>,
    ) {
        self.store.remove(&common.hasher, at);
        if let Some(lookups) = lookups {
            let cover = self.store.covering(&common.hasher, at, at.prefix.length);
            let cover = cover.map(|(cover, value)| (cover.prefix.length, self.payload(value)));
            lookups.clear(at.prefix, cover, common.epochs.current());
        }
        if set != 0 {
            common.path_sets.release(set, common.epochs.current());
        }
    }

    /// What lookup tables have for a value of the store.
    fn payload(&self, value: u32) -> u32 {
        match Value::from_store(value) {
            Value::One(route) => route.attributes(),
            Value::List(first) => match self.lists.iter(first).next() {
                Some(path) if path.set != 0 => Lookups::payload_of_set(path.set),
                Some(path) => path.route.attributes(),
                None => NO_VALUE,
            },
        }
    }

    /// Shows readers the present paths of a destination.
    pub(super) fn publish(
        &mut self,
        at: Destination,
        common: &mut Common,
        lookups: Option<&mut Lookups>,
        counts: &mut ApplyCounts,
    ) {
        let Some(lookups) = lookups else { return };
        let Some(value) = self.store.get(&common.hasher, &at) else { return };
        let mut old = 0;
        if let Value::List(first) = Value::from_store(value) {
            let numbers: Vec<u32> = self.lists.iter(first).map(|path| path.route.attributes()).collect();
            let set = match numbers.len() {
                0 | 1 => Some(0),
                _ => path_set(&numbers, &common.attributes, &mut common.path_sets),
            };
            // Without a number for the set, the first path stands for all.
            counts.refused += u32::from(set.is_none());
            if let Some(place) = self.lists.set_mut(first) {
                old = std::mem::replace(place, set.unwrap_or(0));
            }
        }
        if !lookups.set(at.prefix, self.payload(value), common.epochs.current()) {
            counts.refused += 1;
        }
        if old != 0 {
            common.path_sets.release(old, common.epochs.current());
        }
    }

    /// Makes all routes stale. False if routes of 255 epochs ago are still there: sweep first.
    pub(super) fn begin_epoch(&mut self) -> bool {
        let next = self.epoch.wrapping_add(1);
        if self.count(next) > 0 {
            return false;
        }
        self.epoch = next;
        true
    }

    /// From now on, stale routes go in [`Self::sweep`]. `keep_from`: how many epochs back routes are not stale.
    pub(super) fn begin_sweep(&mut self, epochs_back: u8) {
        if self.stale() > 0 {
            self.sweep = Some(Sweep { keep_from: self.epoch.wrapping_sub(epochs_back), after: None });
        }
    }

    pub(super) fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// Looks at about `limit` destinations and takes out what is stale. Returns how many it looked at.
    pub(super) fn sweep(
        &mut self,
        limit: usize,
        common: &mut Common,
        lookups: &mut Option<PeerLookups>,
    ) -> usize {
        let Some(Sweep { keep_from, after }) = self.sweep.take() else { return 0 };
        let oldest_kept = self.epoch.wrapping_sub(keep_from);
        let is_old = |epoch: u8| self.epoch.wrapping_sub(epoch) > oldest_kept;
        let (mut last, mut seen, mut old) = (after, 0, Vec::new());
        let lists = &self.lists;
        // Lookup tables have many slots for a short prefix, which take as long to rewrite as some routes.
        let length = after.map_or(0, |at| at.prefix.length);
        let weight = (1 << 22u8.saturating_sub(length).min(13)) as usize;
        let more = self.store.walk(&common.hasher, after, limit.div_ceil(weight), |at, value| {
            (last, seen) = (Some(at), seen + weight);
            match Value::from_store(value) {
                Value::One(route) if is_old(route.epoch()) => old.push((at, 0)),
                Value::One(_) => {}
                Value::List(first) => old.extend(
                    lists
                        .iter(first)
                        .filter(|path| is_old(path.route.epoch()))
                        .map(|path| (at, path.path_id)),
                ),
            }
        });
        let mut counts = ApplyCounts::default();
        for (at, path_id) in old {
            let table = lookups.as_mut().and_then(|lookups| lookups.table(self.family, &at));
            self.withdraw(&at, path_id, common, table, &mut counts);
        }
        if more {
            self.sweep = Some(Sweep { keep_from, after: last });
        }
        seen
    }

    /// Takes everything out of use, about `limit` destinations at once. True if there are more.
    pub(super) fn dissolve(&mut self, limit: usize, common: &mut Common) -> bool {
        let mut all = Vec::new();
        let lists = &self.lists;
        self.store.walk(&common.hasher, None, limit, |at, value| match Value::from_store(value) {
            Value::One(_) => all.push((at, 0)),
            Value::List(first) => all.extend(lists.iter(first).map(|path| (at, path.path_id))),
        });
        let mut counts = ApplyCounts::default();
        for (at, path_id) in all {
            self.withdraw(&at, path_id, common, None, &mut counts);
        }
        self.routes() > 0
    }

    /// Gives `each` the paths of one destination.
    pub(super) fn paths(&self, value: u32, mut each: impl FnMut(u32, Route, Option<MplsLabel>)) {
        match Value::from_store(value) {
            Value::One(route) => each(0, route, None),
            Value::List(first) => {
                self.lists.iter(first).for_each(|path| each(path.path_id, path.route, path.label));
            }
        }
    }

    /// Takes path sets away from readers: there is no lookup table any more.
    pub(super) fn drop_path_sets(&mut self, common: &mut Common) {
        let mut firsts = Vec::new();
        self.store.walk(&common.hasher, None, usize::MAX, |_, value| {
            if let Value::List(first) = Value::from_store(value) {
                firsts.push(first);
            }
        });
        for first in firsts {
            if let Some(set) = self.lists.set_mut(first).map(std::mem::take)
                && set != 0
            {
                common.path_sets.release(set, common.epochs.current());
            }
        }
    }

    pub(super) fn octets(&self) -> usize {
        self.store.octets() + self.lists.octets() + size_of_val(&*self.by_epoch)
    }
}
