//! Tags by a map of an aggregate's or export's own, in place of the one for all.

use std::sync::Arc;

use pathflow_exporter::FlowRecord;

use super::{JoinedLabels, TagMap, Tags, TagsOf};

/// The map of one's own, if there is one, and what its thread remembers of it.
#[derive(Debug, Default)]
pub struct OwnTags {
    map: Option<Arc<TagMap>>,
    labels: JoinedLabels,
    /// Of the record in hand.
    tags: Tags,
}

impl OwnTags {
    /// It is this map from now on.
    pub fn set(&mut self, map: Option<&Arc<TagMap>>) {
        if self.map.as_ref().map(Arc::as_ptr) != map.map(Arc::as_ptr) {
            self.map = map.cloned();
            // They are by the numbers of rules.
            self.labels = JoinedLabels::default();
        }
    }

    /// Whether there is a map.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        self.map.is_some()
    }

    /// Sets the tags of a record by the map, if there is one.
    pub fn apply(&mut self, record: &mut FlowRecord) {
        if let Some(map) = &self.map {
            map.apply(record, &mut self.labels);
        }
    }

    /// The tags of a record: those of the map, or without one those that it has.
    pub fn of<'a>(&'a mut self, record: &'a FlowRecord) -> TagsOf<'a> {
        match &self.map {
            None => record.into(),
            Some(map) => {
                self.tags = map.tags(record, &mut self.labels);
                (&self.tags).into()
            }
        }
    }
}
