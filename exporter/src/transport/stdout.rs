//! Standard output, or any other stream of octets.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use super::SendOutcome;

/// An output stream without a buffer of its own: each send is written at once.
pub struct Stdout {
    writer: Box<dyn Write + Send>,
}

impl Stdout {
    /// Standard output of this process.
    ///
    /// # Errors
    /// If the descriptor cannot be duplicated, such as when it is closed.
    pub fn new() -> io::Result<Self> {
        // Not `io::stdout()`, which would cut every batch into lines.
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::from_writer(File::from(descriptor)))
    }

    /// Any other writer, such as a file or one end of a pipe.
    pub fn from_writer(writer: impl Write + Send + 'static) -> Self {
        Self { writer: Box::new(writer) }
    }

    pub(crate) fn send(&mut self, octets: &[u8]) -> SendOutcome {
        match self.writer.write_all(octets).and_then(|()| self.writer.flush()) {
            Ok(()) => SendOutcome::Sent,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => SendOutcome::Closed,
            Err(error) => SendOutcome::Failed(error),
        }
    }
}

impl fmt::Debug for Stdout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stdout").finish_non_exhaustive()
    }
}
