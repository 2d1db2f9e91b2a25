//! Which rows of a purge go to which file.

use std::net::IpAddr;
use std::path::PathBuf;

use hashbrown::HashMap;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::settings::{FileSettings, HISTORY, PEER, REFRESH, TAG, TAG2};
use crate::aggregate::{Bins, Primitive, Purge, Row, Value};
use crate::file_name::FileNamePattern;

/// Finds the file of a row.
#[derive(Debug)]
pub(super) struct FileChooser {
    path: FileNamePattern,
    latest: Option<FileNamePattern>,
    zone: TimeZone,
    bins: Option<Bins>,
    /// Texts of `$ref` and `$hst`.
    refresh: String,
    history: String,
    uses: Uses,
}

/// What of a row a name depends on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be in a name")]
struct Uses {
    time: bool,
    peer: bool,
    tag: bool,
    tag2: bool,
}

/// What of a row is in a name; what is not is always the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct NameKey {
    seconds: u64,
    peer: Option<IpAddr>,
    tag: u64,
    tag2: u64,
}

/// A file and what goes into it.
#[derive(Debug)]
pub(super) struct Group<'p> {
    pub(super) path: PathBuf,
    pub(super) latest: Option<PathBuf>,
    /// `None`: all rows of the purge.
    pub(super) rows: Option<Vec<Row<'p>>>,
}

impl FileChooser {
    pub(super) fn new(settings: &FileSettings) -> Self {
        let FileSettings { path, latest, zone, refresh, history, .. } = settings;
        let has = |variable| path.has(variable) || latest.as_ref().is_some_and(|latest| latest.has(variable));
        let uses = Uses { time: path.has_time(), peer: has(PEER), tag: has(TAG), tag2: has(TAG2) };
        Self {
            path: path.clone(),
            latest: latest.clone(),
            zone: zone.clone(),
            bins: history.clone(),
            refresh: refresh.as_secs().to_string(),
            history: history.as_ref().map_or(0, Bins::length).to_string(),
            uses,
        }
    }

    /// The files of a purge, in the order of their names.
    pub(super) fn groups<'p>(&self, purge: &'p Purge) -> Vec<Group<'p>> {
        let position = |wanted| purge.primitives().iter().position(|primitive| *primitive == wanted);
        let positions = [Primitive::PeerSrcIp, Primitive::Tag, Primitive::Tag2].map(position);
        let keys = || purge.rows().map(|row| self.key(purge, &row, positions));
        // Of an empty purge: the bin that has ended.
        let ended = || match &self.bins {
            Some(bins) => bins.bin_of(purge.updated().saturating_sub(1)).start,
            None => purge.updated(),
        };
        let first = keys().next().unwrap_or_else(|| NameKey { seconds: ended(), ..NameKey::default() });
        if keys().all(|key| key == first) {
            return vec![self.group(first, None)];
        }
        let mut by_key: HashMap<NameKey, Vec<Row<'p>>, foldhash::fast::RandomState> = HashMap::default();
        for row in purge.rows() {
            by_key.entry(self.key(purge, &row, positions)).or_default().push(row);
        }
        let mut groups: Vec<Group<'p>> =
            by_key.into_iter().map(|(key, rows)| self.group(key, Some(rows))).collect();
        groups.sort_by(|one, other| one.path.cmp(&other.path));
        // Times that are alike as far as the name says them.
        groups.dedup_by(|later, earlier| {
            let is_same = later.path == earlier.path;
            if is_same && let (Some(rows), Some(more)) = (&mut earlier.rows, &mut later.rows) {
                rows.append(more);
            }
            is_same
        });
        groups
    }

    fn key(&self, purge: &Purge, row: &Row<'_>, [peer, tag, tag2]: [Option<usize>; 3]) -> NameKey {
        let number = |is_used: bool, position: Option<usize>| match position.filter(|_| is_used) {
            Some(position) => match row.value(position) {
                Value::Number(number) => number,
                _ => 0,
            },
            None => 0,
        };
        let peer = peer.filter(|_| self.uses.peer).and_then(|position| match row.value(position) {
            Value::Address(address) => address,
            _ => None,
        });
        NameKey {
            seconds: if self.uses.time { row.bin().unwrap_or(purge.updated()) } else { 0 },
            peer,
            tag: number(self.uses.tag, tag),
            tag2: number(self.uses.tag2, tag2),
        }
    }

    fn group<'p>(&self, key: NameKey, rows: Option<Vec<Row<'p>>>) -> Group<'p> {
        let (tag, tag2) = (key.tag.to_string(), key.tag2.to_string());
        let peer = key.peer.map_or_else(|| "null".to_owned(), |peer| peer.to_string());
        let values = [
            (PEER, peer.as_str()),
            (TAG, tag.as_str()),
            (TAG2, tag2.as_str()),
            (REFRESH, self.refresh.as_str()),
            (HISTORY, self.history.as_str()),
        ];
        let at = self.at(key.seconds);
        Group {
            path: self.path.path(&at, &values),
            latest: self.latest.as_ref().map(|latest| latest.path(&at, &values)),
            rows,
        }
    }

    fn at(&self, unix_seconds: u64) -> Zoned {
        let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.zone.clone())
    }
}
