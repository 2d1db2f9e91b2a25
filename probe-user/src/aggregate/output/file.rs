//! Rows in files: one for each time bin, tag and so on, by the pattern of their name. A name may also be that of a FIFO
//! or a device.
//!
//! Without `append`, a file has its name when it is complete. A FIFO is not waited for: without a reader, rows are lost.

use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use pathflow_exporter::Tally;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use super::RowOutput;
use super::failures::Books;
use super::groups::{FileChooser, Group};
use super::settings::FileSettings;
use super::writer::{Piece, RowWriter, Written};
use crate::aggregate::encode::EncodeError;
use crate::aggregate::{Primitive, Purge};
use crate::file_name::{replace_link, with_suffix};
use crate::ledger::OutputAccount;

/// Octets that are written to a file at once.
const CHUNK: usize = 1 << 16;
/// Octets that a FIFO takes wholly or not at all: `PIPE_BUF` of Linux (pipe(7)).
const FIFO_CHUNK: usize = 4096;
/// How long a FIFO may be full.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Writes rows to files.
#[derive(Debug)]
pub struct FileOutput {
    settings: FileSettings,
    chooser: FileChooser,
    writer: RowWriter,
    books: Books,
}

/// Where the rows of one file go.
#[derive(Debug)]
enum Target {
    /// A file that gets its name in the end.
    New { file: File, part: PathBuf },
    /// A file that has so many octets already.
    Grown { file: File, length: u64 },
    /// Something that is not a file: a FIFO or a device.
    Stream { file: File, is_fifo: bool },
}

impl FileOutput {
    /// For rows of these primitives of the aggregate `name`.
    ///
    /// # Errors
    /// [`EncodeError`] if the format cannot carry one of them.
    pub fn new(name: &str, settings: FileSettings, primitives: &[Primitive]) -> Result<Self, EncodeError> {
        let FileSettings { path, latest, encode, format, markers, zone, .. } = &settings;
        let (refresh, history) = (settings.refresh.as_secs(), settings.history.as_secs());
        let chooser = FileChooser::new(path.clone(), latest.clone(), zone.clone(), refresh, history);
        let writer =
            RowWriter::new(format!("aggregate {name}"), name, encode, *format, *markers, primitives)?;
        Ok(Self { chooser, writer, settings, books: Books::default() })
    }

    /// Writes one file; what was counted as lost is in the books.
    fn write_group(&mut self, purge: &Purge, group: Group<'_>) -> bool {
        let Group { path, latest, rows } = group;
        let tally = match &rows {
            None => purge.tally(),
            Some(rows) => rows.iter().fold(Tally::ZERO, |sum, row| sum + row.tally()),
        };
        let mut target = match self.open(&path) {
            Ok(target) => target,
            Err(error) => {
                self.books.lose(self.writer.name(), &path, &error, tally);
                return false;
            }
        };
        let piece = target.piece();
        let sink = |octets: &[u8]| target.write(octets);
        let written = if purge.is_empty() {
            // An empty file is empty, without markers and titles.
            Written::default()
        } else {
            match rows {
                None => self.writer.write(purge, purge.rows(), piece, sink),
                Some(rows) => self.writer.write(purge, rows.into_iter(), piece, sink),
            }
        };
        let failure = match written.lost {
            None => target.finish(&path).err().map(|error| (error, tally)),
            // Nobody has seen what is in the file.
            Some((error, _)) if target.is_new() => Some((error, tally)),
            lost => lost,
        };
        target.clean_up(failure.is_some());
        match failure {
            None => {
                self.books.deliver(tally);
                self.link(&path, latest.as_deref());
                true
            }
            Some((error, lost)) => {
                self.books.deliver(tally - lost);
                self.books.lose(self.writer.name(), &path, &error, lost);
                false
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Target> {
        let kind = fs::metadata(path).map(|metadata| metadata.file_type()).ok();
        let mut options = OpenOptions::new();
        options.write(true).mode(0o666 & !self.settings.umask);
        if let Some(kind) = kind.filter(|kind| !kind.is_file()) {
            return open_stream(path, &mut options, kind);
        }
        if let Some(directory) = path.parent() {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o777 & !self.settings.umask).create(directory)?;
        }
        if self.settings.append {
            let file = options.append(true).create(true).open(path)?;
            let length = file.metadata()?.len();
            return Ok(Target::Grown { file, length });
        }
        let part = with_suffix(path, ".part");
        let file = options.create(true).truncate(true).open(&part)?;
        Ok(Target::New { file, part })
    }

    /// The link goes to the file whose name is the last of all, which is the latest one if names say the time.
    fn link(&self, path: &Path, link: Option<&Path>) {
        let Some(link) = link else { return };
        let is_latest = || -> io::Result<bool> {
            let target = fs::canonicalize(path)?;
            match fs::read_link(link) {
                Ok(before) => Ok(before < target),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if let Some(directory) = link.parent() {
                        let mut builder = DirBuilder::new();
                        builder.recursive(true).mode(0o777 & !self.settings.umask).create(directory)?;
                    }
                    Ok(true)
                }
                Err(error) => Err(error),
            }
        };
        let linked =
            is_latest().and_then(|is_latest| if is_latest { replace_link(path, link) } else { Ok(()) });
        if let Err(error) = linked {
            warn!("{}: {}: {error}", self.writer.name(), link.display());
        }
    }
}

impl RowOutput for FileOutput {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn destination(&self) -> String {
        self.settings.path.as_str().to_owned()
    }

    fn write(&mut self, purge: &Purge) {
        if purge.is_empty() && !self.settings.write_empty {
            return;
        }
        let mut works = true;
        for group in self.chooser.groups(purge) {
            works &= self.write_group(purge, group);
        }
        if works {
            self.books.works(self.writer.name());
        }
    }

    fn account(&self) -> OutputAccount {
        self.books.account()
    }
}

fn open_stream(path: &Path, options: &mut OpenOptions, kind: FileType) -> io::Result<Target> {
    let is_fifo = kind.is_fifo();
    if is_fifo {
        // Without a reader this fails with ENXIO, where it would wait otherwise (fifo(7)).
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    Ok(Target::Stream { file: options.open(path)?, is_fifo })
}

impl Target {
    const fn is_new(&self) -> bool {
        matches!(self, Self::New { .. })
    }

    const fn piece(&self) -> Piece {
        match self {
            Self::Stream { is_fifo: true, .. } => Piece { octets: FIFO_CHUNK, has_header: true },
            Self::New { .. } | Self::Stream { .. } => Piece { octets: CHUNK, has_header: true },
            Self::Grown { length, .. } => Piece { octets: CHUNK, has_header: *length == 0 },
        }
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::New { file, .. } | Self::Stream { file, is_fifo: false } => file.write_all(octets),
            Self::Stream { file, is_fifo: true } => write_fifo(file, octets),
            Self::Grown { file, length } => {
                let written = file.write_all(octets);
                match &written {
                    Ok(()) => *length += octets.len() as u64,
                    // The file goes on to end with a whole row; if not even this works, there is nothing to be done.
                    Err(_) => drop(file.set_len(*length)),
                }
                written
            }
        }
    }

    /// Gives a new file its name.
    fn finish(&mut self, path: &Path) -> io::Result<()> {
        match self {
            Self::New { part, .. } => fs::rename(part, path),
            Self::Grown { .. } | Self::Stream { .. } => Ok(()),
        }
    }

    fn clean_up(self, has_failed: bool) {
        if let Self::New { file, part } = self
            && has_failed
        {
            drop(file);
            // It takes room, and will be tried again.
            let _ = fs::remove_file(part);
        }
    }
}

fn write_fifo(file: &mut File, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match file.write(octets) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => octets = octets.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut events = [PollFd::new(&*file, PollFlags::OUT)];
                if poll(&mut events, Some(&PATIENCE))? == 0 {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
