//! Rows as octets, handed on in pieces that end with a whole row.

use std::io;
use std::time::Instant;

use pathflow_exporter::Tally;
use tracing::warn;

use crate::aggregate::encode::{EncodeError, EncodeSettings, Format, RowEncoder};
use crate::aggregate::{Primitive, Purge, Row};

/// Writes the rows of purges.
#[derive(Debug)]
pub(super) struct RowWriter {
    /// The output, for people.
    name: String,
    encoder: RowEncoder,
    has_markers: bool,
    out: Vec<u8>,
    has_warned: bool,
}

/// How rows are written to one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Octets that are handed on at once, about.
    pub(super) octets: usize,
    /// Whether the line of titles comes first.
    pub(super) has_header: bool,
}

/// What became of rows.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) delivered: Tally,
    /// Why the rest is lost.
    pub(super) lost: Option<(io::Error, Tally)>,
}

impl RowWriter {
    pub(super) fn new(
        name: String,
        writer: &str,
        settings: &EncodeSettings,
        format: Format,
        has_markers: bool,
        primitives: &[Primitive],
    ) -> Result<Self, EncodeError> {
        let mut encoder = RowEncoder::new(settings, format, primitives)?;
        encoder.set_writer(writer, false);
        Ok(Self { name, encoder, has_markers, out: Vec::new(), has_warned: false })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The line of titles, line feed included; empty if the format has none.
    pub(super) fn titles(&self) -> Vec<u8> {
        let mut titles = Vec::new();
        self.encoder.header(&mut titles);
        titles
    }

    /// Gives `rows` to `sink`; after its first error only counts.
    pub(super) fn write<'p>(
        &mut self,
        purge: &'p Purge,
        rows: impl Iterator<Item = Row<'p>>,
        piece: Piece,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Written {
        let started = Instant::now();
        self.out.clear();
        if self.has_markers {
            self.encoder.purge_init(&mut self.out);
        }
        if piece.has_header {
            self.encoder.header(&mut self.out);
        }
        let (mut delivered, mut pending) = (Tally::ZERO, Tally::ZERO);
        let mut error = None;
        for row in rows {
            if error.is_none() {
                let whole = self.out.len();
                self.encoder.row(&mut self.out, &row, purge.updated());
                self.out.push(b'\n');
                if self.out.len() > piece.octets && whole > 0 {
                    error = self.hand_on(whole, &mut sink, &mut delivered, &mut pending);
                }
            }
            pending += row.tally();
        }
        if error.is_none() && self.has_markers {
            let rows = (delivered + pending).records;
            self.encoder.purge_close(&mut self.out, rows, rows, started.elapsed().as_secs());
        }
        if error.is_none() {
            error = self.hand_on(self.out.len(), &mut sink, &mut delivered, &mut pending);
        }
        if !self.has_warned {
            self.has_warned = warn_of_ambiguous_rows(&self.name, &mut self.encoder);
        }
        Written { delivered, lost: error.map(|error| (error, pending)) }
    }

    /// Gives the first octets to `sink`, and keeps those behind.
    fn hand_on(
        &mut self,
        octets: usize,
        sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
        delivered: &mut Tally,
        pending: &mut Tally,
    ) -> Option<io::Error> {
        match sink(self.out.get(..octets).unwrap_or_default()) {
            Ok(()) => {
                self.out.drain(..octets);
                *delivered += std::mem::replace(pending, Tally::ZERO);
                None
            }
            Err(error) => Some(error),
        }
    }
}

/// Says that rows have a column too many, if some of those since the last call have.
pub(super) fn warn_of_ambiguous_rows(name: &str, encoder: &mut RowEncoder) -> bool {
    let rows = encoder.take_ambiguous_rows();
    if rows > 0 {
        warn!(
            "{name}: in {rows} rows a value has the separator in it, so that they have a column too many; another \
             separator would do"
        );
    }
    rows > 0
}
