//! Rows that are kept and added up over purges, for who asks the running daemon.
//!
//! The lock is taken once for a purge and once for a question; the rows that answer it are copied out, and written
//! without it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ipnet::IpNet;
use pathflow_exporter::Tally;
use tracing::{info, warn};

use super::RowOutput;
use super::settings::MemorySettings;
use crate::aggregate::encode::{EncodeError, EncodeSettings, Format, Line, RowEncoder, Style, ValueWriter};
use crate::aggregate::key::KeyLayout;
use crate::aggregate::settings::AggregateSettings;
use crate::aggregate::{Primitive, Purge, Row, TopBy, Value};
use crate::ledger::OutputAccount;

/// Keeps rows.
#[derive(Debug)]
pub struct MemoryOutput {
    rows: KeptRows,
    account: OutputAccount,
    is_full: bool,
}

/// Rows of an aggregate that are kept; to be cloned by who wants to ask.
#[derive(Clone, Debug)]
pub struct KeptRows {
    aggregate: Arc<str>,
    encode: Arc<EncodeSettings>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    layout: Arc<KeyLayout>,
    limit: usize,
    has_bins: bool,
    rows: Purge,
    /// What has come, whether or not there was room.
    since: SystemTime,
}

/// What is asked of kept rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Only rows of which the primitive with this name says this: an address or prefix, or the text of the value.
    pub conditions: Vec<(String, String)>,
    /// Only so many rows; 0 = all.
    pub top: usize,
    /// What the largest are the largest by. They come first.
    pub top_by: TopBy,
    /// Whether all rows are forgotten, which has to be with no condition and all rows.
    pub forget: bool,
}

/// Kept rows that answer a question.
#[derive(Debug)]
pub struct Selected {
    /// The rows, the largest first.
    pub rows: Purge,
    /// Sum over all rows that meet the conditions.
    pub matching: Tally,
    /// Sum over all rows that are kept.
    pub all: Tally,
    /// Since when rows are added up.
    pub since: SystemTime,
}

/// A question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// What is not shown would be forgotten as well.
    #[error("only all rows together can be forgotten")]
    ForgetSome,
    /// The key has no such primitive.
    #[error("{name}: it is not in the key of {aggregate}, which is {key}")]
    NotInKey {
        /// What was asked for.
        name: String,
        /// The aggregate.
        aggregate: String,
        /// Its primitives.
        key: String,
    },
}

/// What a value has to be.
struct Condition {
    primitive: Primitive,
    position: usize,
    text: String,
    network: Option<IpNet>,
}

impl MemoryOutput {
    /// For the rows of an aggregate.
    #[must_use]
    pub fn new(aggregate: &AggregateSettings, settings: &MemorySettings) -> Self {
        let layout = Arc::new(KeyLayout::new(&aggregate.key, aggregate.agent));
        let (limit, has_bins) = (settings.max_entries, aggregate.history.is_some());
        let rows = Purge::for_rows(Arc::clone(&layout), limit, has_bins);
        let kept = Kept { layout, limit, has_bins, rows, since: SystemTime::now() };
        let rows = KeptRows {
            aggregate: aggregate.name.as_str().into(),
            encode: Arc::new(settings.encode.clone()),
            kept: Arc::new(Mutex::new(kept)),
        };
        Self { rows, account: OutputAccount::default(), is_full: false }
    }

    /// It adds to rows that are there, of the same kind.
    #[must_use]
    pub fn going_on(self, rows: KeptRows) -> Self {
        Self { rows, ..self }
    }
}

impl RowOutput for MemoryOutput {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn destination(&self) -> String {
        "memory".to_owned()
    }

    fn write(&mut self, purge: &Purge) {
        let (mut taken, mut lost) = (Tally::ZERO, Tally::ZERO);
        let mut kept = self.rows.lock();
        for row in purge.rows() {
            if kept.rows.absorb(&row) {
                taken += row.tally();
            } else {
                lost += row.tally();
            }
        }
        let limit = kept.limit;
        let has_room = kept.rows.has_room();
        drop(kept);
        self.account.delivered += taken;
        let name = &self.rows.aggregate;
        if lost != Tally::ZERO {
            self.account.lose("memory_full", lost);
            // Once until they are forgotten, however many purges have only rows that are there.
            if !std::mem::replace(&mut self.is_full, true) {
                warn!(
                    "aggregate {name}: there is no room for more in memory (max_entries = {limit}); further rows are \
                     lost until `pathflow rows {name} --reset`"
                );
            }
        } else if self.is_full && has_room {
            self.is_full = false;
            info!("aggregate {name}: rows are kept again");
        }
    }

    fn account(&self) -> OutputAccount {
        self.account.clone()
    }

    fn kept(&self) -> Option<KeptRows> {
        Some(self.rows.clone())
    }
}

impl KeptRows {
    /// Name of the aggregate.
    #[must_use]
    pub fn aggregate(&self) -> &str {
        &self.aggregate
    }

    /// The rows that answer a question.
    ///
    /// # Errors
    /// [`AskError`] if a condition is about something that rows do not have.
    pub fn ask(&self, question: &Question) -> Result<Selected, AskError> {
        if question.forget && (question.top > 0 || !question.conditions.is_empty()) {
            return Err(AskError::ForgetSome);
        }
        let mut kept = self.lock();
        let conditions = question.conditions.iter().map(|condition| self.condition(&kept.rows, condition));
        let conditions = conditions.collect::<Result<Vec<_>, _>>()?;
        let mut values = ValueWriter::new(&self.encode, false);
        let mut text = Line::default();
        let mut is_met =
            |row: &Row<'_>| conditions.iter().all(|condition| condition.is_met(row, &mut values, &mut text));
        let mut chosen: Vec<Row<'_>> = kept.rows.rows().filter(|row| is_met(row)).collect();
        let matching = chosen.iter().fold(Tally::ZERO, |sum, row| sum + row.tally());
        chosen.sort_by_key(|row| std::cmp::Reverse(row.size(question.top_by)));
        if question.top > 0 {
            chosen.truncate(question.top);
        }
        let mut rows = kept.empty(kept.limit);
        for row in &chosen {
            // There is room: they are from a table of this size.
            let _ = rows.absorb(row);
        }
        let (all, since) = (kept.rows.tally(), kept.since);
        if question.forget {
            kept.rows = kept.empty(kept.limit);
            kept.since = SystemTime::now();
        }
        Ok(Selected { rows, matching, all, since })
    }

    /// Adds rows again that were forgotten for an answer which has not arrived.
    pub fn put_back(&self, selected: &Selected) {
        let mut kept = self.lock();
        let mut lost = Tally::ZERO;
        for row in selected.rows.rows().filter(|row| !kept.rows.absorb(row)).collect::<Vec<_>>() {
            lost += row.tally();
        }
        kept.since = selected.since;
        if lost != Tally::ZERO {
            let (name, rows, packets) = (&self.aggregate, lost.records, lost.packets);
            warn!("aggregate {name}: {rows} rows ({packets} packets) found no room in memory again");
        }
    }

    /// What writes the rows. `separator` is that of CSV.
    ///
    /// # Errors
    /// [`EncodeError`] if the format cannot carry them.
    pub fn encoder(&self, format: Format, separator: &str) -> Result<RowEncoder, EncodeError> {
        let mut settings = EncodeSettings { separator: separator.to_owned(), ..(*self.encode).clone() };
        if format != Format::Json {
            settings.style = Style::Pmacct;
        }
        RowEncoder::new(&settings, format, self.lock().rows.primitives())
    }

    fn condition(&self, rows: &Purge, (name, text): &(String, String)) -> Result<Condition, AskError> {
        let primitives = rows.primitives();
        let position = primitives.iter().position(|primitive| primitive.name() == name);
        let Some((position, primitive)) = position.and_then(|at| Some((at, *primitives.get(at)?))) else {
            let key: Vec<&str> = primitives.iter().map(|primitive| primitive.name()).collect();
            let (name, aggregate) = (name.clone(), self.aggregate.to_string());
            return Err(AskError::NotInKey { name, aggregate, key: key.join(", ") });
        };
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        Ok(Condition { primitive, position, text: text.clone(), network })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn empty(&self, limit: usize) -> Purge {
        Purge::for_rows(Arc::clone(&self.layout), limit, self.has_bins)
    }
}

impl Condition {
    fn is_met(&self, row: &Row<'_>, values: &mut ValueWriter, text: &mut Line) -> bool {
        match (row.value(self.position), self.network) {
            (Value::Address(Some(address)), Some(network)) => network.contains(&address),
            (value, _) => {
                text.truncate(0);
                values.write(text, self.primitive, value);
                text.text() == self.text.as_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests;
