//! Which packets are for an aggregate: pmacct's `aggregate_filter`, `pre_tag_filter`, `pre_tag2_filter` and
//! `pre_tag_label_filter`. All of them have to be for it.

use std::str::FromStr;
use std::sync::Arc;

use super::observed::Observed;
use crate::enrich::TagsOf;

/// What has to be true of packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Number of the filter that has to match: its bit in [`FlowRecord::filter_results`](pathflow_exporter::FlowRecord).
    pub filter: Option<u8>,
    /// Tags.
    pub tags: TagCondition,
    /// Second tags.
    pub tags2: TagCondition,
    /// Labels.
    pub labels: LabelCondition,
}

impl Selection {
    /// Whether packets with these tags are for the aggregate.
    #[must_use]
    pub fn is_for(&self, observed: &Observed, tags: TagsOf<'_>) -> bool {
        self.filter
            .is_none_or(|bit| observed.record.filter_results & 1_u8.checked_shl(bit.into()).unwrap_or(0) != 0)
            && self.tags.holds(tags.tag)
            && self.tags2.holds(tags.tag2)
            && self.labels.holds(tags.label.map(Arc::as_ref).unwrap_or_default())
    }
}

/// A list of tags, as `0,10-20,-6`: the first entry that decides counts. An entry decides for what is in it; one with a
/// minus sign decides against that, and for everything else. Empty: every tag is right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagCondition(Vec<TagEntry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TagEntry {
    first: u64,
    last: u64,
    is_negative: bool,
}

impl TagCondition {
    fn holds(&self, tag: u64) -> bool {
        decide(self.0.iter().map(|entry| ((entry.first..=entry.last).contains(&tag), entry.is_negative)))
    }
}

impl FromStr for TagCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entries = entries(text).map(|(text, is_negative)| {
            let number = |text: &str| {
                let number = text.trim().parse::<u64>();
                number.map_err(|_| format!("{text:?} is not a tag: write a list such as 0,10-20,-6"))
            };
            let (first, last) = match text.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(text)?, number(text)?),
            };
            if first > last {
                return Err(format!("{text:?} ends before it begins"));
            }
            Ok(TagEntry { first, last, is_negative })
        });
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }
}

/// A list of labels, as `a,-b`; `null` stands for no label. It is read as a [`TagCondition`] is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelCondition(Vec<(String, bool)>);

impl LabelCondition {
    fn holds(&self, label: &str) -> bool {
        decide(self.0.iter().map(|(entry, is_negative)| (entry == label, *is_negative)))
    }
}

impl FromStr for LabelCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let entries = entries(text).map(|(label, is_negative)| match label {
            "" => Err("there is an empty label in it: write null for no label".to_owned()),
            "null" => Ok((String::new(), is_negative)),
            label => Ok((label.to_owned(), is_negative)),
        });
        Ok(Self(entries.collect::<Result<_, _>>()?))
    }
}

/// Entries of a list, each with whether it has a minus sign.
fn entries(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let entries = (!text.trim().is_empty()).then(|| text.split(',')).into_iter().flatten();
    entries.map(str::trim).map(|entry| match entry.strip_prefix('-') {
        Some(entry) => (entry.trim(), true),
        None => (entry, false),
    })
}

/// By entries that each say whether they are met and whether they have a minus sign.
fn decide(entries: impl Iterator<Item = (bool, bool)>) -> bool {
    let mut is_empty = true;
    for (is_met, is_negative) in entries {
        is_empty = false;
        if is_met {
            return !is_negative;
        }
        if is_negative {
            return true;
        }
    }
    is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_listed_with_ranges_and_negation() {
        let right = |list: &str| {
            let condition: TagCondition = list.parse().unwrap();
            (0..25).filter(|tag| condition.holds(*tag)).collect::<Vec<u64>>()
        };
        assert_eq!(right(""), (0..25).collect::<Vec<_>>());
        assert_eq!(right("0"), [0]);
        assert_eq!(right("1, 10-12,24"), [1, 10, 11, 12, 24]);
        assert_eq!(right("-6"), (0..25).filter(|tag| *tag != 6).collect::<Vec<_>>());
        assert_eq!(right("-3-22"), [0, 1, 2, 23, 24]);
        for wrong in ["x", "1,,2", "5-1", "1-", "--1", "18446744073709551616"] {
            assert!(wrong.parse::<TagCondition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_are_listed_with_null_and_negation() {
        let right = |list: &str| {
            let condition: LabelCondition = list.parse().unwrap();
            ["", "a", "b"].map(|label| condition.holds(label))
        };
        assert_eq!(right(""), [true, true, true]);
        assert_eq!(right("a"), [false, true, false]);
        assert_eq!(right("null,b"), [true, false, true]);
        assert_eq!(right("-a"), [true, false, true]);
        assert_eq!(right("-null"), [false, true, true]);
        assert!("a,,b".parse::<LabelCondition>().is_err());
    }
}
