//! Opens the spool of an earlier run, or sets it aside and begins another.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    NO_LINK,
    account_file::{AccountFile, Standing},
    ballast::Ballast,
    meta::Meta,
    store::{self, Entry, PAGE, Read, Spool, SpoolError},
};
use crate::kafka::{KafkaError, block::Block, settings::SpoolSettings};

/// Of the file; another one is set aside.
const VERSION: i64 = 1;

/// What is in it.
const TABLES: &str = "CREATE TABLE IF NOT EXISTS spool (first INTEGER PRIMARY KEY, epoch INTEGER NOT NULL,
               count INTEGER NOT NULL, records INTEGER NOT NULL, packets INTEGER NOT NULL, octets INTEGER NOT NULL,
               raw INTEGER NOT NULL, crc INTEGER NOT NULL, v BLOB NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS meta (id INTEGER PRIMARY KEY, instance BLOB NOT NULL, epoch INTEGER NOT NULL,
               messages INTEGER NOT NULL, records INTEGER NOT NULL, packets INTEGER NOT NULL,
               octets INTEGER NOT NULL) STRICT;";

/// The check of the whole file takes no longer; damage that it does not find is found when a block is read.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// Largest size of the journal, in pages, before it is written back.
const JOURNAL_PAGES: u64 = 1000;

/// The folder of a spool, which no other process has as long as this lives.
pub(in crate::kafka) struct SpoolFolder {
    settings: SpoolSettings,
    _lock: File,
}

/// A spool, and what was found.
pub(in crate::kafka) struct Opened {
    pub spool: Spool,
    /// Every block in it, in order.
    pub entries: Vec<Entry>,
    /// Blocks at its end that were damaged, and are no longer in it.
    pub damaged: Vec<Entry>,
    pub set_aside: Option<SetAside>,
}

/// A file that was no good.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct SetAside {
    pub path: PathBuf,
    pub text: String,
    /// Messages that could be read.
    pub messages: u64,
}

impl SpoolFolder {
    /// Makes the folder if it is missing, and locks it.
    pub(in crate::kafka) fn take(settings: &SpoolSettings) -> Result<Self, KafkaError> {
        let folder = &settings.directory;
        let failed = |error: io::Error| KafkaError::Spool { path: folder.clone(), text: error.to_string() };
        make(folder).map_err(failed)?;
        let lock = create(&folder.join("spool.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { settings: settings.clone(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(KafkaError::SpoolTaken { path: folder.clone() }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    pub(in crate::kafka) fn account_file(&self) -> io::Result<AccountFile> {
        let file = AccountFile::open(&self.settings.directory)?;
        sync_folder(&self.settings.directory)?;
        Ok(file)
    }

    /// Opens the spool and begins an epoch. `standing` is what the account file says, for a spool that says nothing;
    /// `damaged` says what was wrong when it was open.
    pub(in crate::kafka) fn open(
        &self,
        standing: Option<&Standing>,
        damaged: Option<String>,
    ) -> Result<Opened, SpoolError> {
        let path = self.settings.directory.join("spool.sqlite");
        if let Some(text) = damaged {
            return self.set_aside(&path, text, standing);
        }
        // A file that was missing is not damaged.
        create(&path).map_err(|error| SpoolError::Failed(error.to_string()))?;
        match self.open_file(&path, standing) {
            Err(SpoolError::Damaged(text)) => self.set_aside(&path, text, standing),
            Err(SpoolError::DiskFull) => {
                // The ballast of an earlier run is for this, too.
                Ballast::remove(&self.settings.directory);
                self.open_file(&path, standing)
            }
            opened => opened,
        }
    }

    fn open_file(&self, path: &Path, standing: Option<&Standing>) -> Result<Opened, SpoolError> {
        let mut connection = connect(path).map_err(at_first_sight)?;
        check(&mut connection)?;
        let (max_pages, ballast) = self.prepare(&connection)?;
        check_tables(&connection)?;
        let mut meta = Meta::read(&connection)?.unwrap_or_else(|| first_meta(standing));
        meta.epoch = next_epoch(meta.epoch, standing);
        let mut entries = store::entries(&connection)?;
        let mut spool = Spool::new(connection, ballast, meta, max_pages, self.settings.sync_interval);
        let damaged = cut_damaged_end(&mut spool, &mut entries)?;
        spool.begin_epoch(meta.epoch)?;
        Ok(Opened { spool, entries, damaged, set_aside: None })
    }

    /// Size, journal, tables, ballast.
    fn prepare(&self, connection: &Connection) -> Result<(u64, Ballast), SpoolError> {
        let pages = self.settings.max_octets / PAGE;
        // Of the bound, an eighth is for the journal. SQLite writes it back at half of that, to have room for a
        // transaction more.
        let journal = (pages / 8).min(JOURNAL_PAGES);
        let max_pages = pages - journal;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", (journal / 2) as i64, |_| Ok(()))?;
        connection.pragma_update_and_check(
            None,
            "journal_size_limit",
            (journal * PAGE) as i64,
            |_| Ok(()),
        )?;
        connection.pragma_update_and_check(None, "max_page_count", max_pages as i64, |_| Ok(()))?;
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", VERSION)?;
        Ok((max_pages, Ballast::new(&self.settings.directory, 2 * journal * PAGE)))
    }

    /// Moves the file away and copies what can be read of it into another.
    fn set_aside(
        &self,
        path: &Path,
        text: String,
        standing: Option<&Standing>,
    ) -> Result<Opened, SpoolError> {
        let failed = |error: io::Error| SpoolError::Failed(error.to_string());
        let date = date()?;
        remove_others(path);
        let aside = path.with_file_name(format!("spool.sqlite.damaged-{date}"));
        fs::rename(path, &aside).map_err(failed)?;
        for (journal, aside) in [("spool.sqlite-wal", "-wal"), ("spool.sqlite-shm", "-shm")] {
            let to = path.with_file_name(format!("spool.sqlite.damaged-{date}{aside}"));
            match fs::rename(path.with_file_name(journal), to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        create(path).map_err(failed)?;
        let mut opened = self.open_file(path, standing)?;
        let mut found = SetAside { path: aside.clone(), text, messages: 0 };
        if let Ok(damaged) = connect(&aside) {
            salvage(&damaged, &mut |block| {
                let entry = Entry::of(&block);
                // The new spool may be full before the old one is read: it has the same bound and more rows.
                if opened.spool.append(&block).is_ok() {
                    found.messages += entry.amount.messages;
                    opened.entries.push(entry);
                }
            });
            opened.entries.sort_by_key(|entry| entry.first);
        }
        opened.set_aside = Some(found);
        Ok(opened)
    }
}

/// Makes `folder` where it is missing, and has the disk keep its name: a power cut must not take the folder with all that
/// was synced in it.
fn make(folder: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.exists();
    let missing =
        folder.ancestors().filter(|folder| !folder.as_os_str().is_empty()).take_while(is_missing).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // One more: an earlier run may have made it, and have had no time for this.
    for folder in folder.ancestors().skip(1).take(missing.max(1)) {
        sync_folder(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
    }
    Ok(())
}

/// Has the disk keep the names in `folder`.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        // It may be one that others look after, and that lets nobody read its names.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what was set aside before: one damaged file is kept to be looked at, not one for each time.
fn remove_others(path: &Path) {
    let Some(directory) = path.parent() else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("spool.sqlite.damaged-") {
            // It stays if it has to: then it takes room that the file system counts.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Gives every block that can be read to `keep`: from the first on to the damage, then from the last back to it.
fn salvage(connection: &Connection, keep: &mut dyn FnMut(Block)) {
    let mut seen = std::collections::HashSet::new();
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT first FROM spool ORDER BY first {order}");
        let Ok(mut statement) = connection.prepare(&sql) else { return };
        let Ok(rows) = statement.query_map([], |row| row.get::<_, i64>(0)) else { return };
        for first in rows.map_while(Result::ok) {
            if !seen.insert(first) {
                continue;
            }
            if let Ok(Some(block)) = store::read_row(connection, first as u64) {
                keep(block);
            }
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // Only of an empty file.
    connection.pragma_update(None, "page_size", PAGE as i64)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // No other process, and so no shared memory that a full file system could take away.
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    Ok(connection)
}

/// What SQLite says of a file that it reads for the first time. That the format is not supported, or that it must not write
/// there, is what the header says: the file itself was opened to be written.
fn at_first_sight(error: rusqlite::Error) -> SpoolError {
    match error.sqlite_error_code() {
        Some(ErrorCode::Unknown | ErrorCode::ReadOnly) => SpoolError::Damaged(error.to_string()),
        _ => error.into(),
    }
}

fn check(connection: &mut Connection) -> Result<(), SpoolError> {
    let version: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(at_first_sight)?;
    if version != VERSION && version != 0 {
        return Err(SpoolError::Damaged(format!("it has version {version}, not {VERSION}")));
    }
    let end = Instant::now() + CHECK_TIME;
    connection.progress_handler(10_000, Some(move || Instant::now() > end))?;
    let result = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match result {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => Err(SpoolError::Damaged(text)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the tables are those that were made, also to the letter: one flipped bit in the name of a table hides all rows.
fn check_tables(connection: &Connection) -> Result<(), SpoolError> {
    let new = Connection::open_in_memory()?;
    new.execute_batch(TABLES)?;
    let tables = |connection: &Connection| -> rusqlite::Result<Vec<[String; 4]>> {
        let mut statement =
            connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")?;
        let rows = statement.query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))?;
        rows.collect()
    };
    if tables(connection)? == tables(&new)? {
        Ok(())
    } else {
        Err(SpoolError::Damaged("its tables are not those of a spool".to_owned()))
    }
}

/// Takes out what is damaged behind the last whole block: the next sequence number is the one behind the last, and only a
/// whole block is to be believed.
fn cut_damaged_end(spool: &mut Spool, entries: &mut Vec<Entry>) -> Result<Vec<Entry>, SpoolError> {
    let mut damaged = Vec::new();
    while let Some(last) = entries.last().copied() {
        if let Read::Block(block) = spool.read(last.first)?
            && Entry::of(&block) == last
        {
            break;
        }
        spool.remove(&last, true)?;
        damaged.push(last);
        entries.pop();
    }
    Ok(damaged)
}

fn first_meta(standing: Option<&Standing>) -> Meta {
    standing.map_or_else(
        || Meta { instance: random(), ..Meta::default() },
        |standing| Meta {
            instance: standing.instance,
            epoch: standing.epoch,
            removed: standing.removed,
            ..Meta::default()
        },
    )
}

fn next_epoch(epoch: u32, standing: Option<&Standing>) -> u32 {
    epoch.max(standing.map_or(0, |standing| standing.epoch)).wrapping_add(1)
}

/// A number that no other spool has.
pub(in crate::kafka) fn random() -> [u8; 16] {
    let mut octets = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut octets));
    if read.is_err() {
        // Not secret, only different: time and process are good enough.
        let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        octets = (time << 32 | u128::from(std::process::id())).to_le_bytes();
    }
    octets
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK).open(path)
}

/// Now, as a part of a file name.
fn date() -> rusqlite::Result<String> {
    Connection::open_in_memory()?.query_row("SELECT strftime('%Y%m%dT%H%M%fZ', 'now')", [], |row| row.get(0))
}
