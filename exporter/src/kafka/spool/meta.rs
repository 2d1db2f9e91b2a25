//! Who wrote a spool, and how far its run had come: a few rows beside the blocks, with a checksum over all of them.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::account_file::Amount;
use crate::record::Tally;

/// Row with [`Meta::removed`].
const REMOVED: i64 = 0;

/// Row with [`Meta::end_of_remains`] in place of the number of messages.
const REMAINS: i64 = 1;

/// Row with [`Meta::accepted`].
const ACCEPTED: i64 = 2;

/// Row with [`Meta::settled`].
const SETTLED: i64 = 3;

/// Row with the checksum in place of the number of messages.
const CHECKSUM: i64 = 4;

/// No run comes so far that it gives this sequence number.
const END: u64 = 1 << 62;

/// Who wrote a spool, and what is no longer in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub instance: [u8; 16],
    pub epoch: u32,
    pub removed: Amount,
    /// Sequence numbers in blocks of remains are lower. Of such a block the row says only the first.
    pub end_of_remains: u64,
    /// As in [`Standing`](super::Standing), but as old as the rest of the file after a power cut, not as old as may be.
    pub accepted: Amount,
    pub settled: Amount,
}

impl Meta {
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached(
            "INSERT OR REPLACE INTO meta (id, instance, epoch, messages, records, packets, octets)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?;
        let alone = |messages| Amount { messages, ..Amount::default() };
        let rows = [
            (REMOVED, self.removed),
            (REMAINS, alone(self.end_of_remains)),
            (ACCEPTED, self.accepted),
            (SETTLED, self.settled),
            (CHECKSUM, alone(u64::from(self.checksum()))),
        ];
        for (id, Amount { messages, tally }) in rows {
            statement.execute(params![
                id,
                self.instance,
                self.epoch,
                messages as i64,
                tally.records as i64,
                tally.packets as i64,
                tally.octets as i64
            ])?;
        }
        Ok(())
    }

    /// What was written; `None` if nothing was, or if that has changed on disk.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        match Self::read_rows(connection) {
            // A value of another type than was written.
            Err(error) if error.sqlite_error_code().is_none() => Ok(None),
            read => read,
        }
    }

    fn read_rows(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection
            .prepare("SELECT instance, epoch, messages, records, packets, octets FROM meta WHERE id = ?")?;
        let mut row = |id: i64| {
            let row = statement.query_row([id], |row| {
                let number = |index| row.get::<_, i64>(index).map(|number| number as u64);
                let tally = Tally { records: number(3)?, packets: number(4)?, octets: number(5)? };
                Ok((row.get(0)?, row.get(1)?, Amount { messages: number(2)?, tally }))
            });
            row.optional()
        };
        let Some((instance, epoch, removed)) = row(REMOVED)? else { return Ok(None) };
        let mut amount = |id| -> rusqlite::Result<Option<Amount>> {
            let found: Option<([u8; 16], u32, Amount)> = row(id)?;
            Ok(found.map(|(_, _, amount)| amount))
        };
        let meta = Self {
            instance,
            epoch,
            removed,
            end_of_remains: amount(REMAINS)?.unwrap_or_default().messages,
            accepted: amount(ACCEPTED)?.unwrap_or_default(),
            settled: amount(SETTLED)?.unwrap_or_default(),
        };
        // Earlier versions wrote none.
        let is_whole = amount(CHECKSUM)?.is_none_or(|sum| sum.messages == u64::from(meta.checksum()));
        let numbers = [removed.messages, meta.end_of_remains, meta.accepted.messages, meta.settled.messages];
        Ok((is_whole && numbers.iter().all(|number| *number < END)).then_some(meta))
    }

    fn checksum(&self) -> u32 {
        let Self { instance, epoch, removed, end_of_remains, accepted, settled } = self;
        let mut sum = crc32c::crc32c(instance);
        let amounts = [removed, accepted, settled]
            .map(|Amount { messages, tally }| [*messages, tally.records, tally.packets, tally.octets]);
        for number in [u64::from(*epoch), *end_of_remains].iter().chain(amounts.as_flattened()) {
            sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
        }
        sum
    }
}
