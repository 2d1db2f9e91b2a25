//! Hand-over of VRPs from their sources to the readers.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::{RoaTable, Vrp};

/// Who published a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A JSON file.
    File = 0,
    /// A cache of the RPKI-to-Router protocol.
    Cache = 1,
}

/// VRPs of all sources together. Readers take no lock; publishing builds a new table beside the one in use.
#[derive(Debug, Default)]
pub struct RoaStore {
    sets: Mutex<[Arc<[Vrp]>; 2]>,
    table: ArcSwap<RoaTable>,
}

impl RoaStore {
    /// Without VRPs: everything is unknown.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces everything that `source` published. An empty set takes it back. Costs a sort of all VRPs.
    pub fn publish(&self, source: Source, vrps: Arc<[Vrp]>) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        match source {
            Source::File => sets[0] = vrps,
            Source::Cache => sets[1] = vrps,
        }
        let table = RoaTable::new(sets.iter().flat_map(|set| set.iter().copied()));
        self.table.store(Arc::new(table));
    }

    /// The table of now. Cheap enough for one call for each batch of lookups.
    #[must_use]
    pub fn table(&self) -> Arc<RoaTable> {
        self.table.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ValidationState;
    use super::*;

    #[test]
    fn sources_add_up_and_are_replaced_one_by_one() {
        let vrp = |prefix: &str, as_number| Vrp::new(prefix.parse().unwrap(), 24, as_number).unwrap();
        let store = RoaStore::new();
        let state = |prefix: &str| store.table().validate(prefix.parse().unwrap(), Some(1));
        assert_eq!(state("192.0.2.0/24"), ValidationState::NotFound);
        store.publish(Source::File, Arc::from([vrp("192.0.2.0/24", 1)]));
        let before = store.table();
        store.publish(Source::Cache, Arc::from([vrp("192.0.2.0/24", 1), vrp("198.51.100.0/24", 2)]));
        assert_eq!((before.len(), store.table().len()), (1, 2));
        assert_eq!(state("198.51.100.0/24"), ValidationState::Invalid);
        store.publish(Source::Cache, Arc::from([]));
        assert_eq!(state("198.51.100.0/24"), ValidationState::NotFound);
        assert_eq!(state("192.0.2.0/24"), ValidationState::Valid);
    }
}
