//! Rows in files: one for each time bin, tag and so on, by the pattern of their name. A name may also be that of a FIFO
//! or a device.
//!
//! A new file has its name when it is complete. What comes later for a name that says a time is added to it: a bin may come
//! in several purges, of which each has only what was counted since the one before. A FIFO is not waited for: without a
//! reader, rows are lost.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, FileTypeExt as _, OpenOptionsExt as _, chown, fchown,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pathflow_exporter::Tally;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use tracing::warn;

use super::RowOutput;
use super::failures::Books;
use super::groups::{FileChooser, Group};
use super::program::Program;
use super::settings::{FileSettings, Owner};
use super::writer::{Piece, RowWriter, Written};
use crate::aggregate::encode::EncodeError;
use crate::aggregate::{Primitive, Purge};
use crate::file_name::{replace_link, with_suffix};
use crate::ledger::OutputAccount;
use crate::written_file;

/// Octets that are written to a file at once.
const CHUNK: usize = 1 << 16;
/// Octets that a FIFO takes wholly or not at all: `PIPE_BUF` of Linux (pipe(7)).
const FIFO_CHUNK: usize = 4096;
/// How long a FIFO may be full.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// So many files of earlier periods are known to be of this run: more than there are bins open at a time.
const MOST_OWN: usize = 4096;
/// Octets that the marker before the titles has at most, with some to spare.
const MARKER: usize = 256;

/// Writes rows to files.
#[derive(Debug)]
pub struct FileOutput {
    settings: FileSettings,
    chooser: FileChooser,
    writer: RowWriter,
    books: Books,
    program: Option<Program>,
    /// Whether files of an earlier run are begun anew.
    begins_anew: bool,
    history: FileHistory,
    /// Which columns of the history its rows have.
    columns: u32,
    /// It goes on with the files of another output whose rows have the same columns or not, and has not looked yet which
    /// these are.
    goes_on: Option<bool>,
    /// Whether it was said that files cannot be given to their owner.
    has_said_owner: bool,
}

/// What was written to files in this run; one output may go on with that of another, which has ended.
#[derive(Clone, Debug, Default)]
pub struct FileHistory(Arc<Mutex<History>>);

#[derive(Debug, Default)]
struct History {
    files: HashMap<PathBuf, Own>,
    /// Number of the current period, which ends with a purge that was due.
    period: u64,
    /// The columns of the last rows.
    columns: u32,
}

/// A file of this run.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// Of the last rows in it.
    columns: u32,
    /// Likewise.
    period: u64,
}

impl FileHistory {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn remember(&mut self, path: PathBuf, columns: u32) {
        self.files.insert(path, Own { columns, period: self.period });
    }

    /// The next purge is of another period. `forgets`: files of periods before this one need not be known.
    fn end_period(&mut self, forgets: bool) {
        if forgets && self.files.len() > MOST_OWN {
            self.files.retain(|_, own| own.period == self.period);
        }
        self.period += 1;
    }
}

/// Where the rows of one file go.
#[derive(Debug)]
enum Target {
    /// A file that gets its name in the end.
    New { file: File, part: PathBuf },
    /// A file that has so many octets already.
    Grown { file: File, length: u64 },
    /// Something that is not a file: a FIFO, which has until the deadline to take it all, or a device.
    Stream { file: File, is_fifo: bool, deadline: Instant },
}

impl FileOutput {
    /// For rows of these primitives of the aggregate `name`. `begins_anew`: files of an earlier run are replaced, also those
    /// whose names say a time, as a replay wants it.
    ///
    /// # Errors
    /// [`EncodeError`] if the format cannot carry one of them.
    pub fn new(
        name: &str,
        settings: FileSettings,
        primitives: &[Primitive],
        begins_anew: bool,
    ) -> Result<Self, EncodeError> {
        let FileSettings { encode, format, markers, .. } = &settings;
        let chooser = FileChooser::new(&settings);
        let writer =
            RowWriter::new(format!("aggregate {name}"), name, encode, *format, *markers, primitives)?;
        let program = Program::new(name, &settings.exec);
        Ok(Self {
            chooser,
            writer,
            settings,
            books: Books::default(),
            program,
            begins_anew,
            history: FileHistory::default(),
            columns: 0,
            goes_on: None,
            has_said_owner: false,
        })
    }

    /// It goes on with the files of another output, whose rows have the same columns or not. From its first call on, for it
    /// may never begin.
    #[must_use]
    pub fn going_on(self, history: FileHistory, has_same_columns: bool) -> Self {
        Self { history, goes_on: Some(has_same_columns), ..self }
    }

    fn begin(&mut self) {
        let Some(has_same_columns) = self.goes_on.take() else { return };
        let mut last = self.history.lock();
        last.columns += u32::from(!has_same_columns);
        self.columns = last.columns;
    }

    /// Writes one file; what was counted as lost is in the books.
    fn write_group(&mut self, purge: &Purge, group: Group<'_>) -> bool {
        let Group { path, latest, rows } = group;
        let tally = match &rows {
            None => purge.tally(),
            Some(rows) => rows.iter().fold(Tally::ZERO, |sum, row| sum + row.tally()),
        };
        if purge.is_empty() && path.exists() {
            return false;
        }
        let mut target = match self.open(&path) {
            Ok(target) => target,
            Err(error) => {
                self.books.lose(self.writer.name(), &path, &error, tally);
                return false;
            }
        };
        let mut piece = target.piece();
        let own = self.history.lock().files.get(&path).copied();
        piece.has_header |= match own {
            Some(own) => own.columns != self.columns,
            // An earlier run may have had another key.
            None => target.begins_otherwise(&self.writer.titles()),
        };
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
                self.history.lock().remember(path, self.columns);
                true
            }
            Some((error, lost)) => {
                self.books.deliver(tally - lost);
                self.books.lose(self.writer.name(), &path, &error, lost);
                false
            }
        }
    }

    fn end_period(&self, purge: &Purge) {
        if !purge.is_early() {
            // A replay begins every file anew that it does not know.
            self.history.lock().end_period(!self.begins_anew);
        }
    }

    fn open(&mut self, path: &Path) -> io::Result<Target> {
        // Whoever owns the directory could lead us elsewhere.
        let follows = self.settings.owner.user.is_none();
        let kind = match written_file::kind(path, follows) {
            Ok(kind) => Some(kind),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            Err(_) => None,
        };
        let mut options = OpenOptions::new();
        options.write(true).mode(0o666 & !self.settings.umask);
        if let Some(kind) = kind.filter(|kind| !kind.is_file() && !kind.is_symlink()) {
            let deadline = Instant::now() + self.settings.refresh;
            return open_stream(path, &mut options, kind, follows, deadline);
        }
        if let Some(directory) = path.parent() {
            self.make_directories(directory)?;
        }
        if self.settings.append || (kind.is_some() && self.is_to_go_on(path)) {
            options.append(true).create(true);
            // To read is for the titles alone.
            let file = written_file::open(options.clone().read(true), OFlags::empty(), path, follows)
                .or_else(|_| written_file::open(&mut options, OFlags::empty(), path, follows))?;
            let length = file.metadata()?.len();
            if length == 0 {
                self.give_away(path, |user, group| fchown(&file, user, group));
            }
            return Ok(Target::Grown { file, length });
        }
        let part = with_suffix(path, ".part");
        // One of a run that was killed, or of somebody who has put it there.
        let _ = fs::remove_file(&part);
        let file = options.create_new(true).open(&part)?;
        self.give_away(path, |user, group| fchown(&file, user, group));
        Ok(Target::New { file, part })
    }

    /// Whether what is in a file is still valid when more comes for it.
    fn is_to_go_on(&self, path: &Path) -> bool {
        let history = self.history.lock();
        let own = history.files.get(path);
        if self.settings.path.has_time() {
            !self.begins_anew || own.is_some()
        } else {
            // Rows of a whole period replace those of the period before.
            own.is_some_and(|own| own.period == history.period)
        }
    }

    /// Makes a directory and those above it that are not there yet.
    fn make_directories(&mut self, directory: &Path) -> io::Result<()> {
        if self.settings.owner == Owner::default() {
            let mut builder = DirBuilder::new();
            return builder.recursive(true).mode(0o777 & !self.settings.umask).create(directory);
        }
        let missing: Vec<&Path> = directory
            .ancestors()
            .take_while(|directory| !directory.as_os_str().is_empty() && !directory.exists())
            .collect();
        for directory in missing.into_iter().rev() {
            DirBuilder::new().mode(0o777 & !self.settings.umask).create(directory)?;
            self.give_away(directory, |user, group| chown(directory, user, group));
        }
        Ok(())
    }

    /// Rows in a file of somebody else's are better than none.
    fn give_away(&mut self, path: &Path, chown: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>) {
        let owner = self.settings.owner;
        if owner == Owner::default() {
            return;
        }
        match chown(owner.user, owner.group) {
            Ok(()) => self.has_said_owner = false,
            Err(error) => {
                if !std::mem::replace(&mut self.has_said_owner, true) {
                    let name = self.writer.name();
                    warn!("{name}: {}: it cannot be given to its owner or group: {error}", path.display());
                }
            }
        }
    }

    /// The link goes to the file whose name is the last of all, which is the latest one if names say the time.
    fn link(&mut self, path: &Path, link: Option<&Path>) {
        let Some(link) = link else { return };
        let mut is_latest = || -> io::Result<bool> {
            let target = fs::canonicalize(path)?;
            match fs::read_link(link) {
                Ok(before) => Ok(before < target),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if let Some(directory) = link.parent() {
                        self.make_directories(directory)?;
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
        self.begin();
        if purge.is_empty() && !self.settings.write_empty {
            self.end_period(purge);
            return;
        }
        let mut works = true;
        let mut written = Vec::new();
        for group in self.chooser.groups(purge) {
            let path = group.path.clone();
            if self.write_group(purge, group) {
                written.push(path);
            } else {
                works = false;
            }
        }
        self.end_period(purge);
        if works {
            self.books.works(self.writer.name());
        }
        if let Some(program) = self.program.as_mut().filter(|_| !written.is_empty()) {
            program.run(written);
        }
    }

    fn files(&self) -> Option<FileHistory> {
        Some(self.history.clone())
    }

    fn poll(&mut self) {
        self.begin();
        self.program.iter_mut().for_each(Program::reap);
    }

    fn account(&self) -> OutputAccount {
        OutputAccount { programs: self.program.as_ref().map(Program::counts), ..self.books.account() }
    }

    fn close(&mut self, deadline: Instant) {
        self.program.iter_mut().for_each(|program| program.close(deadline));
    }
}

fn open_stream(
    path: &Path,
    options: &mut OpenOptions,
    kind: FileType,
    follows: bool,
    deadline: Instant,
) -> io::Result<Target> {
    let is_fifo = kind.is_fifo();
    // Without a reader this fails with ENXIO, where it would wait otherwise (fifo(7)).
    let flags = if is_fifo { OFlags::NONBLOCK } else { OFlags::empty() };
    Ok(Target::Stream { file: written_file::open(options, flags, path, follows)?, is_fifo, deadline })
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

    /// Whether it has rows that do not stand below these titles, as far as its beginning says.
    fn begins_otherwise(&self, titles: &[u8]) -> bool {
        let Self::Grown { file, length: 1.. } = self else { return false };
        let mut octets = vec![0; MARKER + titles.len()];
        // What cannot be read is taken for what it always was.
        let Ok(length) = file.read_at(&mut octets, 0) else { return false };
        let mut lines = octets.get(..length).unwrap_or_default().split_inclusive(|octet| *octet == b'\n');
        !titles.is_empty() && !lines.by_ref().take(2).any(|line| line == titles)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::New { file, .. } | Self::Stream { file, is_fifo: false, .. } => file.write_all(octets),
            Self::Stream { file, is_fifo: true, deadline } => write_fifo(file, octets, *deadline),
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

fn write_fifo(file: &mut File, mut octets: &[u8], deadline: Instant) -> io::Result<()> {
    while !octets.is_empty() {
        match file.write(octets) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => octets = octets.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut events = [PollFd::new(&*file, PollFlags::OUT)];
                if Instant::now() > deadline || poll(&mut events, Some(&PATIENCE))? == 0 {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
