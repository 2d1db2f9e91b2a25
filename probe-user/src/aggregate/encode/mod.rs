//! Rows of an aggregate as text: pmacct's JSON, CSV and columns, and JSON with types of its own.
//!
//! What does not change from row to row is made ready once by [`RowEncoder::new`]; a row then costs no allocation when
//! the buffer has its size.

#[cfg(feature = "avro")]
mod avro;
mod columns;
mod custom;
mod label;
mod line;
mod nested;
mod pmacct;
mod protocol;
mod route;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod value;

#[cfg(feature = "avro")]
pub use avro::{AvroEncoder, Record, RecordSchema};
pub use columns::NOT_IN_COLUMNS;
pub(super) use line::Line;
pub(super) use value::ValueWriter;

pub use settings::{EncodeSettings, FormatTable, Style, TcpFlagsStyle, TimestampStyle};

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Primitive, RouteValue, Row, Value};
use columns::Columns;
use nested::Nested;
use pmacct::PmacctJson;

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object (RFC 8259) for each row.
    #[default]
    Json,
    /// Values with a separator between them, below a line of titles. Nothing is quoted.
    Csv,
    /// Values in columns of fixed width, below a line of titles.
    Formatted,
    /// As CSV, without packets, flows and octets.
    EventCsv,
    /// As formatted, without packets, flows and octets.
    EventFormatted,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Formatted => "formatted",
            Self::EventCsv => "event-csv",
            Self::EventFormatted => "event-formatted",
        })
    }
}

/// What the encoder reads of a row.
pub trait Fields {
    /// Start of its time bin, in seconds since the Unix epoch; `None` without history.
    fn bin(&self) -> Option<u64>;
    /// What the primitive at `position` says.
    fn value(&self, position: usize) -> Value<'_>;
    /// Packets.
    fn packets(&self) -> u64;
    /// Layer 3 octets.
    fn octets(&self) -> u64;
}

impl Fields for Row<'_> {
    #[inline]
    fn bin(&self) -> Option<u64> {
        Row::bin(self)
    }

    #[inline]
    fn value(&self, position: usize) -> Value<'_> {
        Row::value(self, position)
    }

    #[inline]
    fn packets(&self) -> u64 {
        Row::packets(self)
    }

    #[inline]
    fn octets(&self) -> u64 {
        Row::octets(self)
    }
}

/// Rows cannot be written so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A column has a width.
    #[error("{0} has no fixed width, which the formatted output needs; use csv or json")]
    NoWidth(Primitive),
    /// Only JSON can be nested.
    #[error("style = \"pathflow\" is for format = \"json\" only")]
    StyleNeedsJson,
    /// The separator is not one character.
    #[error("separator {0:?} is not one ASCII character (nor \\t for a tab, \\s for a space)")]
    Separator(String),
}

/// Writes rows of one aggregate.
#[derive(Debug)]
pub struct RowEncoder {
    layout: Layout,
    line: Line,
    markers: Markers,
}

#[derive(Debug)]
enum Layout {
    Pmacct(PmacctJson),
    Nested(Nested),
    Columns(Columns),
}

#[derive(Debug, Default)]
struct Markers {
    /// `NAME/NUMBER`
    writer_id: String,
    process: u32,
}

impl RowEncoder {
    /// An encoder for rows whose [`Fields::value`]s are in the order of `primitives`.
    ///
    /// # Errors
    /// [`EncodeError`] if the format cannot carry one of them.
    pub fn new(
        settings: &EncodeSettings,
        format: Format,
        primitives: &[Primitive],
    ) -> Result<Self, EncodeError> {
        let layout = match (format, settings.style) {
            (Format::Json, Style::Pmacct) => Layout::Pmacct(PmacctJson::new(settings, primitives)),
            (Format::Json, Style::Pathflow) => Layout::Nested(Nested::new(settings, primitives)),
            (_, Style::Pathflow) => return Err(EncodeError::StyleNeedsJson),
            (_, Style::Pmacct) => Layout::Columns(Columns::new(settings, format, primitives)?),
        };
        Ok(Self { layout, line: Line::default(), markers: Markers::default() })
    }

    /// Who writes, as markers say it: `name` and the number of this process. `in_rows`: JSON rows say it too, as
    /// pmacct's for Kafka do.
    pub fn set_writer(&mut self, name: &str, in_rows: bool) {
        let process = std::process::id();
        self.markers = Markers { writer_id: format!("{name}/{process}"), process };
        match &mut self.layout {
            Layout::Pmacct(layout) if in_rows => layout.set_writer_id(&self.markers.writer_id),
            Layout::Nested(layout) if in_rows => layout.set_writer_id(&self.markers.writer_id),
            _ => {}
        }
    }

    /// Appends the line of titles, line feed included, if the format has one.
    pub fn header(&self, out: &mut Vec<u8>) {
        if let Layout::Columns(columns) = &self.layout {
            let mut line = Line::default();
            columns.header(&mut line);
            out.extend_from_slice(line.text());
        }
    }

    /// Appends one row, without a line feed. `updated` is the time of the purge in seconds since the Unix epoch.
    pub fn row(&mut self, out: &mut Vec<u8>, row: &impl Fields, updated: u64) {
        let line = &mut self.line;
        line.truncate(0);
        match &mut self.layout {
            Layout::Pmacct(layout) => layout.row(line, row, updated),
            Layout::Nested(layout) => layout.row(line, row, updated),
            Layout::Columns(layout) => layout.row(line, row),
        }
        out.extend_from_slice(line.text());
    }

    /// Appends what marks the beginning of a purge, line feed included.
    pub fn purge_init(&self, out: &mut Vec<u8>) {
        self.marker(out, "START", "purge_init", &[]);
    }

    /// Appends what marks the end of a purge, line feed included: `purged` of `total` rows were written in so many
    /// `seconds`.
    pub fn purge_close(&self, out: &mut Vec<u8>, purged: u64, total: u64, seconds: u64) {
        let numbers = [("purged_entries", purged), ("total_entries", total), ("duration", seconds)];
        self.marker(out, "END", "purge_close", &numbers);
    }

    /// Rows since the last call of this in which a value had the separator of CSV in it, so that a reader sees one
    /// column too many.
    pub fn take_ambiguous_rows(&mut self) -> u64 {
        match &mut self.layout {
            Layout::Columns(columns) => columns.take_ambiguous_rows(),
            Layout::Pmacct(_) | Layout::Nested(_) => 0,
        }
    }

    fn marker(&self, out: &mut Vec<u8>, word: &str, event_type: &str, numbers: &[(&str, u64)]) {
        let Markers { writer_id, process } = &self.markers;
        if matches!(self.layout, Layout::Columns(_)) {
            out.extend_from_slice(format!("--{word} ({process})--\n").as_bytes());
            return;
        }
        let mut line = Line::default();
        text::json_string(&mut line, writer_id);
        out.extend_from_slice(format!("{{\"event_type\": \"{event_type}\", \"writer_id\": ").as_bytes());
        out.extend_from_slice(line.text());
        for (key, number) in numbers {
            out.extend_from_slice(format!(", \"{key}\": {number}").as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }
}
