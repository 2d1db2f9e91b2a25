//! A rule: what it sets, what has to be true for that, and where it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pathflow_exporter::FlowRecord;

use super::address::AddressFilter;
use super::condition::{Condition, Surroundings};

/// A rule of the tag map.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// File and line, or the table of the configuration.
    pub(super) place: String,
    pub(super) set: Set,
    conditions: Vec<Condition>,
    pub(super) filter: Option<RowFilter>,
    pub(super) label: Option<String>,
    pub(super) jump: Option<Jump>,
    stack: Option<Stack>,
}

/// A key that cannot be used, with its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}={value}: {reason}")]
pub struct RowError {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is wrong.
    pub reason: String,
}

/// What a rule sets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Set {
    Tag(Number),
    Tag2(Number),
    Label(Arc<str>),
}

/// A tag, perhaps one that goes up.
#[derive(Clone, Debug)]
pub(super) struct Number {
    first: u64,
    /// The next one, for all threads. Begins anew when the map is read again.
    next: Option<Arc<AtomicU64>>,
}

/// A pcap expression that packets have to match.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowFilter {
    pub(super) expression: String,
    /// The bit of the filter results.
    pub(super) bit: Option<u8>,
    /// What it says of addresses, if that is all.
    pub(super) address: Option<AddressFilter>,
}

/// Where a rule goes on if it was true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) label: String,
    /// The number of the rule.
    pub(super) target: usize,
}

/// What becomes of a tag that was set before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    Sum,
    Or,
}

impl Row {
    /// A rule of keys and values, found at `place`.
    ///
    /// # Errors
    /// [`RowError`] with the first key that cannot be used.
    pub fn new<'t>(place: String, pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Result<Self, RowError> {
        let mut set = None;
        let mut row = Self {
            place,
            set: Set::Tag(Number { first: 0, next: None }),
            conditions: Vec::new(),
            filter: None,
            label: None,
            jump: None,
            stack: None,
        };
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in pairs {
            let wrong = |reason: String| RowError { key: key.to_owned(), value: value.to_owned(), reason };
            if seen.contains(&key) {
                return Err(wrong("the rule has this key already".to_owned()));
            }
            seen.push(key);
            if value.is_empty() {
                return Err(wrong("it has no value".to_owned()));
            }
            let sets = match key {
                "set_tag" | "id" => Some(Set::Tag(Number::new(value).map_err(wrong)?)),
                "set_tag2" | "id2" => Some(Set::Tag2(Number::new(value).map_err(wrong)?)),
                "set_label" => Some(Set::Label(value.into())),
                _ => None,
            };
            if let Some(sets) = sets {
                if set.replace(sets).is_some() {
                    return Err(wrong("a rule sets one of set_tag, set_tag2 and set_label".to_owned()));
                }
                continue;
            }
            match key {
                "filter" => {
                    row.filter = Some(RowFilter {
                        expression: value.to_owned(),
                        bit: None,
                        address: AddressFilter::of(value),
                    });
                }
                "label" if value == "next" => {
                    return Err(wrong("this label is the one of the next rule, whatever it is".to_owned()));
                }
                "label" => row.label = Some(value.to_owned()),
                "jeq" => row.jump = Some(Jump { label: value.to_owned(), target: usize::MAX }),
                "stack" => {
                    row.stack = Some(match value {
                        "sum" => Stack::Sum,
                        "or" => Stack::Or,
                        _ => return Err(wrong("it must be sum or or".to_owned())),
                    });
                }
                _ => row.conditions.push(Condition::new(key, value).map_err(wrong)?),
            }
        }
        row.set = set.ok_or_else(|| RowError {
            key: "set_tag".to_owned(),
            value: String::new(),
            reason: "the rule sets nothing: it has none of set_tag, set_tag2 and set_label".to_owned(),
        })?;
        Ok(row)
    }

    /// Whether a condition asks for attributes of a route.
    pub(super) fn asks_attributes(&self) -> bool {
        self.conditions.iter().any(Condition::asks_attributes)
    }

    /// Whether it is true of a record.
    pub(super) fn matches(&self, record: &FlowRecord, surroundings: &Surroundings) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(record))
            && self.conditions.iter().all(|condition| condition.matches(record, surroundings))
    }

    /// The tag of a record that had `before`.
    pub(super) const fn stacked(&self, before: u64, tag: u64) -> u64 {
        match self.stack {
            None => tag,
            Some(Stack::Sum) => before.wrapping_add(tag),
            Some(Stack::Or) => before | tag,
        }
    }
}

impl Number {
    fn new(text: &str) -> Result<Self, String> {
        let digits = text.strip_suffix("++");
        let first: u64 = digits
            .unwrap_or(text)
            .parse()
            .map_err(|_| "it must be a number up to 18446744073709551615, perhaps with ++".to_owned())?;
        Ok(Self { first, next: digits.map(|_| Arc::new(AtomicU64::new(first))) })
    }

    /// The tag of the next record.
    pub(super) fn value(&self) -> u64 {
        self.next.as_ref().map_or(self.first, |next| next.fetch_add(1, Ordering::Relaxed))
    }
}

/// However far it went up.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.next.is_some() == other.next.is_some()
    }
}

impl RowFilter {
    fn matches(&self, record: &FlowRecord) -> bool {
        match (self.bit, &self.address) {
            (Some(bit), _) => record.filter_results >> bit & 1 != 0,
            (None, Some(address)) => address.matches(record),
            (None, None) => false,
        }
    }
}
