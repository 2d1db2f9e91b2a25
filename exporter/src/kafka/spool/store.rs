//! The open spool: append, read, remove, sync.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use super::{
    account_file::{Amount, Standing},
    ballast::Ballast,
    codec::{self, RowHead},
    meta::Meta,
};
use crate::{
    kafka::block::{self, Block},
    record::Tally,
};

/// Octets of a page.
pub(super) const PAGE: u64 = 16_384;

/// Pages that a block needs besides those of its octets.
const PAGES_BESIDE: u64 = 4;

/// A removal waits for others at most until there are so many; the next sync takes it in any case.
const REMOVALS: usize = 256;

/// Most messages of a block.
const MESSAGES: u64 = block::MESSAGES as u64;

/// How often a full file system is asked whether it has the room of the ballast again.
const BALLAST_RETRY: Duration = Duration::from_secs(10);

/// Why the spool did not do it.
#[derive(Debug, thiserror::Error)]
pub(in crate::kafka) enum SpoolError {
    #[error("the spool has its full size")]
    Full,
    #[error("the file system is full")]
    DiskFull,
    #[error("the spool is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Failed(String),
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            // SQLite itself is content: there is a value of another type than was ever written.
            None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// What is known of a block without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::kafka) struct Entry {
    /// Sequence number of its first message.
    pub first: u64,
    pub amount: Amount,
}

impl Entry {
    pub(in crate::kafka) fn of(block: &Block) -> Self {
        let amount = Amount { messages: u64::from(block.count()), tally: block.tally };
        Self { first: block.first, amount }
    }
}

/// What there is where a block should be.
#[derive(Debug)]
pub(in crate::kafka) enum Read {
    Block(Block),
    /// Something else than was written.
    Damaged,
}

/// The spool, open.
pub(in crate::kafka) struct Spool {
    connection: Connection,
    ballast: Ballast,
    meta: Meta,
    /// Most pages that the file may have by the settings.
    max_pages: u64,
    removals: Vec<u64>,
    sync_interval: Duration,
    synced: Instant,
    needs_sync: bool,
    ballast_tried: Instant,
}

impl Spool {
    pub(super) fn new(
        connection: Connection,
        ballast: Ballast,
        meta: Meta,
        max_pages: u64,
        sync_interval: Duration,
    ) -> Self {
        let now = Instant::now();
        Self {
            connection,
            ballast,
            meta,
            max_pages,
            removals: Vec::new(),
            sync_interval,
            synced: now,
            needs_sync: false,
            ballast_tried: now,
        }
    }

    pub(in crate::kafka) fn instance(&self) -> [u8; 16] {
        self.meta.instance
    }

    pub(in crate::kafka) fn epoch(&self) -> u32 {
        self.meta.epoch
    }

    /// Sequence numbers in blocks of remains are lower.
    pub(in crate::kafka) fn end_of_remains(&self) -> u64 {
        self.meta.end_of_remains
    }

    /// What was removed after it was settled.
    pub(in crate::kafka) fn removed(&self) -> Amount {
        self.meta.removed
    }

    /// How far the run had come when the file was last written, for a file that says it.
    pub(in crate::kafka) fn standing(&self) -> Standing {
        let Meta { instance, epoch, removed, accepted, settled, .. } = self.meta;
        Standing { instance, epoch, accepted, settled, removed }
    }

    /// The next write says how far the run has come.
    pub(in crate::kafka) fn note(&mut self, standing: &Standing) {
        (self.meta.accepted, self.meta.settled) = (standing.accepted, standing.settled);
    }

    /// Adds a block behind all others.
    pub(in crate::kafka) fn append(&mut self, block: &Block) -> Result<(), SpoolError> {
        if self.removals.contains(&block.first) {
            // What was left of a block may begin with the same message.
            self.remove_now()?;
        }
        if block.is_of_remains() {
            self.meta.end_of_remains = self.meta.end_of_remains.max(end_of(block));
        }
        let compressed = codec::compress(block);
        match self.insert(block, &compressed) {
            Err(SpoolError::DiskFull) => {}
            result => return result,
        }
        // Room that is free already, but not yet for SQLite.
        if self.remove_now()? > 0 {
            match self.insert(block, &compressed) {
                Err(SpoolError::DiskFull) => {}
                result => return result,
            }
        }
        if self.is_at_bound(compressed.len() as u64)? {
            return Err(SpoolError::Full);
        }
        if self.release_ballast()? { self.insert(block, &compressed) } else { Err(SpoolError::DiskFull) }
    }

    /// Puts `remains` of blocks in the place of those that begin with `old`; of what these had, `settled` is settled. All
    /// or nothing of it.
    pub(in crate::kafka) fn exchange(
        &mut self,
        old: &[u64],
        settled: Amount,
        remains: &[Block],
    ) -> Result<(), SpoolError> {
        let rows: Vec<(&Block, Vec<u8>)> =
            remains.iter().map(|block| (block, codec::compress(block))).collect();
        match self.try_exchange(old, settled, &rows) {
            Err(SpoolError::DiskFull) => {}
            result => return result,
        }
        let octets: u64 = rows.iter().map(|(_, compressed)| compressed.len() as u64 + PAGE).sum();
        if self.is_at_bound(octets)? {
            return Err(SpoolError::Full);
        }
        if self.release_ballast()? {
            self.try_exchange(old, settled, &rows)
        } else {
            Err(SpoolError::DiskFull)
        }
    }

    fn try_exchange(
        &mut self,
        old: &[u64],
        settled: Amount,
        rows: &[(&Block, Vec<u8>)],
    ) -> Result<(), SpoolError> {
        let mut meta = self.meta;
        meta.removed += settled;
        let ends = rows.iter().map(|(block, _)| end_of(block));
        meta.end_of_remains = ends.fold(meta.end_of_remains, u64::max);
        let transaction = self.connection.transaction()?;
        delete(&transaction, self.removals.iter().chain(old))?;
        for (block, compressed) in rows {
            insert(&transaction, block, compressed)?;
        }
        meta.write(&transaction)?;
        transaction.commit()?;
        self.meta = meta;
        self.removals.clear();
        self.needs_sync = true;
        Ok(())
    }

    /// Whether there is some room now that was not there before.
    fn release_ballast(&mut self) -> Result<bool, SpoolError> {
        if !self.ballast.is_held() {
            return Ok(false);
        }
        let pages = self.number("page_count")?;
        self.ballast.release().map_err(|error| SpoolError::Failed(error.to_string()))?;
        self.ballast_tried = Instant::now();
        // What the ballast gave is for the journal: the file must not grow into it.
        self.connection.pragma_update_and_check(None, "max_page_count", pages as i64, |_| Ok(()))?;
        Ok(true)
    }

    fn insert(&mut self, block: &Block, compressed: &[u8]) -> Result<(), SpoolError> {
        insert(&self.connection, block, compressed)?;
        self.needs_sync = true;
        Ok(())
    }

    fn is_at_bound(&self, octets: u64) -> Result<bool, SpoolError> {
        let free = self.number("freelist_count")? + self.max_pages.saturating_sub(self.number("page_count")?);
        Ok(free < octets / PAGE + PAGES_BESIDE)
    }

    fn number(&self, pragma: &str) -> Result<u64, SpoolError> {
        let number: i64 = self.connection.pragma_query_value(None, pragma, |row| row.get(0))?;
        Ok(number as u64)
    }

    /// Reads the block that begins with `first`.
    pub(in crate::kafka) fn read(&self, first: u64) -> Result<Read, SpoolError> {
        match read_row(&self.connection, first) {
            Ok(Some(block)) => Ok(Read::Block(block)),
            Ok(None) => Ok(Read::Damaged),
            // A row of the wrong shape is damage to this row; damage to the tree of rows is more.
            Err(error) if error.sqlite_error_code().is_none() => Ok(Read::Damaged),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a block. If it is `settled`, the accounts of the next run need not look for its messages; if not, they
    /// are only no longer on disk.
    pub(in crate::kafka) fn remove(&mut self, entry: &Entry, settled: bool) -> Result<(), SpoolError> {
        self.removals.push(entry.first);
        if settled {
            self.meta.removed += entry.amount;
        }
        if self.removals.len() >= REMOVALS {
            self.remove_now()?;
        }
        Ok(())
    }

    /// Removes a block now, as [`remove`](Self::remove) does, or leaves all as it is.
    pub(in crate::kafka) fn give_up(&mut self, entry: &Entry, settled: bool) -> Result<(), SpoolError> {
        let removed = self.meta.removed;
        self.removals.push(entry.first);
        if settled {
            self.meta.removed += entry.amount;
        }
        let mut done = self.remove_now();
        if matches!(done, Err(SpoolError::DiskFull)) {
            // The journal has room again once it has been written back, which may fail as well.
            let _ = self.connection.execute_batch("PRAGMA wal_checkpoint(RESTART)");
            done = self.remove_now();
        }
        if done.is_err() {
            self.removals.retain(|first| *first != entry.first);
            self.meta.removed = removed;
        }
        done.map(drop)
    }

    /// Removes what waits for it; how many that were.
    pub(in crate::kafka) fn remove_now(&mut self) -> Result<usize, SpoolError> {
        if self.removals.is_empty() {
            return Ok(0);
        }
        let transaction = self.connection.transaction()?;
        delete(&transaction, &self.removals)?;
        self.meta.write(&transaction)?;
        transaction.commit()?;
        let count = self.removals.len();
        self.removals.clear();
        self.needs_sync = true;
        Ok(count)
    }

    /// Begins another epoch; when it returns, a power cut does not undo that.
    pub(in crate::kafka) fn begin_epoch(&mut self, epoch: u32) -> Result<(), SpoolError> {
        self.remove_now()?;
        self.meta.epoch = epoch;
        self.sync()
    }

    /// What is due: removals, sync, ballast. To be called more often than the interval between syncs.
    pub(in crate::kafka) fn tick(&mut self, now: Instant) -> Result<(), SpoolError> {
        if now.duration_since(self.synced) >= self.sync_interval
            && (self.needs_sync || !self.removals.is_empty())
        {
            match self.remove_now().and_then(|_| self.sync()) {
                Err(SpoolError::DiskFull) if self.release_ballast()? => {
                    self.remove_now()?;
                    self.sync()?;
                }
                result => result?,
            }
        }
        if !self.ballast.is_held() && now.duration_since(self.ballast_tried) >= BALLAST_RETRY {
            self.ballast_tried = now;
            self.ballast.take();
            if self.ballast.is_held() {
                let pages = self.max_pages as i64;
                self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
            }
        }
        Ok(())
    }

    /// Has the disk keep what was written.
    fn sync(&mut self) -> Result<(), SpoolError> {
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        let written = self.commit_meta();
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        written?;
        self.synced = Instant::now();
        self.needs_sync = false;
        Ok(())
    }

    fn commit_meta(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        self.meta.write(&transaction)?;
        transaction.commit()
    }

    /// Gives the room of what was removed back to the file system; for a spool that has become empty.
    pub(in crate::kafka) fn shrink(&mut self) -> Result<(), SpoolError> {
        self.remove_now()?;
        self.connection.execute_batch("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(())
    }

    /// Writes everything to its place.
    pub(in crate::kafka) fn close(mut self) -> Result<(), SpoolError> {
        self.remove_now()?;
        self.sync()?;
        self.shrink()?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// The sequence number after the last of `block`.
fn end_of(block: &Block) -> u64 {
    block.sequence(block.count().saturating_sub(1)) + 1
}

fn insert(connection: &Connection, block: &Block, compressed: &[u8]) -> rusqlite::Result<()> {
    let head = RowHead::of(block);
    let RowHead { first, epoch, count, tally, raw } = head;
    let mut statement = connection.prepare_cached(
        "INSERT INTO spool (first, epoch, count, records, packets, octets, raw, crc, v)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    let Tally { records, packets, octets } = tally;
    statement.execute(params![
        first as i64,
        epoch,
        count,
        records as i64,
        packets as i64,
        octets as i64,
        raw,
        head.checksum(compressed),
        compressed
    ])?;
    Ok(())
}

fn delete<'a>(connection: &Connection, rows: impl IntoIterator<Item = &'a u64>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("DELETE FROM spool WHERE first = ?")?;
    for first in rows {
        statement.execute([*first as i64])?;
    }
    Ok(())
}

/// The block that begins with `first`; `None` if it is missing or damaged.
pub(super) fn read_row(connection: &Connection, first: u64) -> rusqlite::Result<Option<Block>> {
    let mut statement = connection.prepare_cached(
        "SELECT epoch, count, records, packets, octets, raw, crc, v FROM spool WHERE first = ?",
    )?;
    let block = statement.query_row([first as i64], |row| {
        let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
        let tally = Tally { records: number(2)?, packets: number(3)?, octets: number(4)? };
        let head = RowHead { first, epoch: row.get(0)?, count: row.get(1)?, tally, raw: row.get(5)? };
        let compressed = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(head.decode(compressed, row.get(6)?))
    });
    Ok(block.optional()?.flatten())
}

/// What the rows say of themselves, in order. Nobody has compared it with a checksum: what no row can say is left out of
/// it.
pub(super) fn entries(connection: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut statement =
        connection.prepare("SELECT first, count, records, packets, octets FROM spool ORDER BY first")?;
    let rows = statement.query_map([], |row| {
        let number = |index| row.get::<_, i64>(index).unwrap_or_default() as u64;
        let tally = Tally { records: number(2), packets: number(3), octets: number(4) };
        Ok(Entry { first: row.get::<_, i64>(0)? as u64, amount: Amount { messages: number(1), tally } })
    })?;
    let mut entries = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut next = 0_u64;
    for Entry { first, amount } in entries.iter_mut().rev() {
        if !(1..=MESSAGES).contains(&amount.messages) {
            // As a rule the next block begins where this one ends.
            amount.messages =
                next.checked_sub(*first).filter(|count| (1..=MESSAGES).contains(count)).unwrap_or(1);
        }
        next = *first;
    }
    Ok(entries)
}
