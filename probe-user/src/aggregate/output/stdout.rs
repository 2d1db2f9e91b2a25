//! Rows on standard output.

use std::io::{self, Write as _};
use std::path::Path;

use super::RowOutput;
use super::failures::Books;
use super::settings::StdoutSettings;
use super::writer::{Piece, RowWriter};
use crate::aggregate::encode::EncodeError;
use crate::aggregate::{Primitive, Purge};
use crate::ledger::OutputAccount;

/// Octets that are written at once.
const CHUNK: usize = 1 << 16;

/// Writes rows to standard output.
#[derive(Debug)]
pub struct StdoutOutput {
    writer: RowWriter,
    books: Books,
}

impl StdoutOutput {
    /// For rows of these primitives of the aggregate `name`.
    ///
    /// # Errors
    /// [`EncodeError`] if the format cannot carry one of them.
    pub fn new(name: &str, settings: &StdoutSettings, primitives: &[Primitive]) -> Result<Self, EncodeError> {
        let StdoutSettings { format, encode, markers } = settings;
        let writer =
            RowWriter::new(format!("aggregate {name}"), name, encode, *format, *markers, primitives)?;
        Ok(Self { writer, books: Books::default() })
    }
}

impl RowOutput for StdoutOutput {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn destination(&self) -> String {
        "stdout".to_owned()
    }

    fn write(&mut self, purge: &Purge) {
        if purge.is_empty() {
            return;
        }
        let mut stdout = io::stdout().lock();
        let piece = Piece { octets: CHUNK, has_header: true };
        let written = self.writer.write(purge, purge.rows(), piece, |octets| {
            stdout.write_all(octets)?;
            stdout.flush()
        });
        self.books.deliver(written.delivered);
        match written.lost {
            Some((error, rows)) => self.books.lose(self.writer.name(), Path::new("stdout"), &error, rows),
            None => self.books.works(self.writer.name()),
        }
    }

    fn account(&self) -> OutputAccount {
        self.books.account()
    }
}
