//! Why rows could not be written: for the account by a name, for people once until it works again.

use std::io::{self, ErrorKind};
use std::path::Path;

use pathflow_exporter::Tally;
use tracing::{info, warn};

use crate::ledger::OutputAccount;

/// The name under which a loss is counted.
pub(super) fn reason(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "no_space",
        ErrorKind::FileTooLarge => "file_too_large",
        ErrorKind::PermissionDenied => "permission",
        ErrorKind::ReadOnlyFilesystem => "read_only",
        // A file is where a directory would be made.
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "no_directory",
        ErrorKind::IsADirectory => "is_directory",
        ErrorKind::BrokenPipe => "reader_gone",
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "reader_slow",
        _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => "no_reader",
        _ => "write",
    }
}

/// What became of the rows of one output.
#[derive(Debug, Default)]
pub(super) struct Books {
    account: OutputAccount,
    /// Why rows are lost now, if they are.
    failing: Option<&'static str>,
}

impl Books {
    pub(super) fn account(&self) -> OutputAccount {
        self.account.clone()
    }

    pub(super) fn deliver(&mut self, rows: Tally) {
        self.account.delivered += rows;
    }

    /// Counts a loss, and says so if there was none for this reason before.
    pub(super) fn lose(&mut self, output: &str, path: &Path, error: &io::Error, rows: Tally) {
        let reason = reason(error);
        if rows.records > 0 {
            self.account.lose(reason, rows);
        }
        if self.failing.replace(reason) != Some(reason) {
            let explained = match reason {
                "no_reader" => "nobody reads".to_owned(),
                "reader_slow" => "the reader is too slow".to_owned(),
                "reader_gone" => "the reader has gone".to_owned(),
                _ => error.to_string(),
            };
            warn!("{output}: {}: {explained}; rows are lost until it works again", path.display());
        }
    }

    /// A purge was written without loss.
    pub(super) fn works(&mut self, output: &str) {
        if self.failing.take().is_some() {
            info!("{output}: rows are written again");
        }
    }
}
