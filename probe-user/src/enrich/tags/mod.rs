//! Tags and labels: numbers and texts that the operator gives to flows, by rules in pmacct's `pre_tag_map` format.
//!
//! Rules are tried from the first on, and the first that is true of a record counts, unless it has a jump (`jeq`): then it
//! goes on at a later rule. Each rule sets one of tag, tag2 and label. A tag that was set before is replaced, or added up
//! with the new one if the rule says so (`stack`); labels are joined by a comma.

mod address;
mod condition;
mod error;
mod file;
mod own;
mod row;

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use pathflow_exporter::FlowRecord;

use crate::capture::{FilterError, FilterSet};
use condition::Surroundings;
pub use error::TagMapError;
pub use own::OwnTags;
use row::{Jump, Set};
pub use row::{Row, RowError};

/// Rules at most: each record may be compared with all of them.
pub const ROWS: usize = 16_384;
/// Labels of several rules that are remembered by each thread.
const JOINED: usize = 65_536;

/// The rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagMap {
    rows: Vec<Row>,
    surroundings: Surroundings,
}

impl TagMap {
    /// No rule yet. `ip=` in rules is compared with `agents`, the addresses by which collectors know this router.
    #[must_use]
    pub const fn new(agents: Vec<std::net::IpAddr>) -> Self {
        Self { rows: Vec::new(), surroundings: Surroundings { agents } }
    }

    /// Adds the rules of a file.
    ///
    /// # Errors
    /// [`TagMapError`] naming file and line.
    pub fn read(&mut self, file: &Path) -> Result<(), TagMapError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| TagMapError::Read { file: file.to_owned(), reason: error.to_string() })?;
        file::parse(file, &text, |row| self.push(row))
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// If there are too many; in words.
    pub fn push(&mut self, row: Row) -> Result<(), String> {
        if self.rows.len() >= ROWS {
            return Err(format!("there are more than {ROWS} rules"));
        }
        self.rows.push(row);
        Ok(())
    }

    /// True if there is no rule.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a rule asks for attributes of routes.
    #[must_use]
    pub fn asks_attributes(&self) -> bool {
        self.rows.iter().any(Row::asks_attributes)
    }

    /// Finds where jumps go, when every rule is there.
    ///
    /// # Errors
    /// [`TagMapError::Row`] if no later rule has the label.
    pub fn resolve(&mut self) -> Result<(), TagMapError> {
        let mut targets: HashMap<String, usize> = HashMap::new();
        for (number, row) in self.rows.iter_mut().enumerate().rev() {
            if let Some(Jump { label, target }) = &mut row.jump {
                *target = match label.as_str() {
                    "next" => number + 1,
                    label => *targets.get(label).ok_or_else(|| TagMapError::Row {
                        place: row.place.clone(),
                        reason: format!("jeq={label}: no later rule has this label"),
                    })?,
                };
            }
            if let Some(label) = &row.label {
                targets.insert(label.clone(), number);
            }
        }
        Ok(())
    }

    /// Gives filters of the rules a bit of `filters` each: those that only name addresses (`by_address`), or the others. Of
    /// all maps the others come first: if there is no bit left for one that names addresses, it is compared with those of
    /// the record.
    ///
    /// # Errors
    /// [`TagMapError::Row`] if an expression cannot be used, or no bit is left for one that needs it.
    pub fn bind(&mut self, filters: &mut FilterSet, by_address: bool) -> Result<(), TagMapError> {
        for row in &mut self.rows {
            let Some(filter) = row.filter.as_mut().filter(|one| one.address.is_some() == by_address) else {
                continue;
            };
            filter.bit = match filters.add(&filter.expression) {
                Ok(bit) => Some(bit),
                Err(FilterError::TooMany { .. } | FilterError::TooLong { .. }) if by_address => None,
                Err(error) => {
                    let reason = format!("filter={:?} cannot be used: {error}", filter.expression);
                    return Err(TagMapError::Row { place: row.place.clone(), reason });
                }
            };
        }
        Ok(())
    }

    /// Gives every filter of the rules the bit that it has in `filters`, of which records have those in `mask`.
    ///
    /// # Errors
    /// [`TagMapError::Row`] if an expression has none, and needs one.
    pub fn bind_to_loaded(&mut self, filters: &FilterSet, mask: u8) -> Result<(), TagMapError> {
        for row in &mut self.rows {
            let Some(filter) = &mut row.filter else { continue };
            filter.bit = filters.bit(&filter.expression).filter(|bit| mask >> bit & 1 != 0);
            if filter.bit.is_none() && filter.address.is_none() {
                let reason = format!(
                    "filter={:?} is not one that packets are asked since the start: it needs a restart",
                    filter.expression
                );
                return Err(TagMapError::Row { place: row.place.clone(), reason });
            }
        }
        Ok(())
    }

    /// The bits of filter results that rules look at.
    #[must_use]
    pub fn filter_bits(&self) -> u8 {
        let bits = self.rows.iter().filter_map(|row| row.filter.as_ref()?.bit);
        bits.fold(0, |bits, bit| bits | 1 << bit)
    }

    /// Expressions that are compared with the addresses of records, because no bit was left for them.
    pub fn without_bit(&self) -> impl Iterator<Item = &str> {
        let filters = self.rows.iter().filter_map(|row| row.filter.as_ref());
        filters.filter(|filter| filter.bit.is_none()).map(|filter| filter.expression.as_str())
    }

    /// Tags and label for a record that has everything else.
    pub fn tags(&self, record: &FlowRecord, labels: &mut JoinedLabels) -> Tags {
        let mut tags = Tags::default();
        let mut number = 0;
        let mut chain = 0;
        while let Some(row) = self.rows.get(number) {
            if !row.matches(record, &self.surroundings) {
                number += 1;
                continue;
            }
            match &row.set {
                Set::Tag(tag) => tags.tag = row.stacked(tags.tag, tag.value()),
                Set::Tag2(tag) => tags.tag2 = row.stacked(tags.tag2, tag.value()),
                Set::Label(label) => {
                    let joined = labels.join(chain, tags.label.as_ref(), number, label);
                    chain = joined.0;
                    tags.label = Some(joined.1);
                }
            }
            match &row.jump {
                Some(jump) => number = jump.target,
                None => break,
            }
        }
        tags
    }

    /// Sets tags and label of a record that has everything else.
    pub fn apply(&self, record: &mut FlowRecord, labels: &mut JoinedLabels) {
        let Tags { tag, tag2, label } = self.tags(record, labels);
        (record.tag, record.tag2, record.label) = (tag, tag2, label);
    }
}

/// What rules give to a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The number; 0 = none.
    pub tag: u64,
    /// The second number; 0 = none.
    pub tag2: u64,
    /// The text.
    pub label: Option<Arc<str>>,
}

/// The tags of a record, whoever keeps them.
#[derive(Clone, Copy, Debug)]
pub struct TagsOf<'a> {
    /// The number; 0 = none.
    pub tag: u64,
    /// The second number; 0 = none.
    pub tag2: u64,
    /// The text.
    pub label: Option<&'a Arc<str>>,
}

impl<'a> From<&'a Tags> for TagsOf<'a> {
    fn from(tags: &'a Tags) -> Self {
        Self { tag: tags.tag, tag2: tags.tag2, label: tags.label.as_ref() }
    }
}

impl<'a> From<&'a FlowRecord> for TagsOf<'a> {
    fn from(record: &'a FlowRecord) -> Self {
        Self { tag: record.tag, tag2: record.tag2, label: record.label.as_ref() }
    }
}

/// Labels that several rules have made, so that no text is made twice.
#[derive(Debug, Default)]
pub struct JoinedLabels {
    /// By the number of what was joined before, and of the rule.
    joined: HashMap<(u32, usize), (u32, Arc<str>)>,
    last: u32,
}

impl JoinedLabels {
    /// The label of the rule behind those of `chain`, which are `before`; with the number of the new chain.
    fn join(
        &mut self,
        chain: u32,
        before: Option<&Arc<str>>,
        row: usize,
        label: &Arc<str>,
    ) -> (u32, Arc<str>) {
        if let Some(joined) = self.joined.get(&(chain, row)) {
            return joined.clone();
        }
        if self.joined.len() >= JOINED {
            self.joined.clear();
        }
        // Numbers are not used again while a record is being made, so old ones never meet new texts.
        self.last = self.last.checked_add(1).unwrap_or_else(|| {
            self.joined.clear();
            1
        });
        let text = before.map_or_else(|| Arc::clone(label), |before| format!("{before},{label}").into());
        let joined = (self.last, text);
        self.joined.insert((chain, row), joined.clone());
        joined
    }
}

#[cfg(test)]
mod tests;
