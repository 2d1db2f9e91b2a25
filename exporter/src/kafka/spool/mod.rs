//! Messages on disk, while the broker does not take them: SQLite, used as a log of blocks.
//!
//! A row is a block, compressed (LZ4) and with a checksum (CRC-32C) over all of it: SQLite checks its own pages for
//! nothing. A write survives the end of the process at once, and a power cut from the next sync on. One thread has the
//! spool, and one process its folder.

mod account_file;
mod ballast;
mod codec;
mod meta;
mod open;
mod store;

#[cfg(test)]
mod tests;

use rustix::fs::OFlags;

pub(super) use account_file::{AccountFile, Amount, Reservation, Standing, start_of_machine};
pub(super) use open::{Opened, SetAside, SpoolFolder, random};
pub(super) use store::{Entry, Read, Spool, SpoolError};

/// There is no reason for a symbolic link in the folder; one that somebody has put there is not followed. SQLite does the same
/// with its journal.
const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();
