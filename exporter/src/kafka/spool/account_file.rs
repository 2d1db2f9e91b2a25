//! A few numbers beside the spool that outlive the process, so that the next one can say what was lost with it.
//!
//! They are written without a sync: they survive `kill -9`, and may be old after a power cut. So that the next run knows
//! which of the two it was, a run that has not ended leaves the number of the machine's start there.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::AddAssign,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::NO_LINK;
use crate::record::Tally;

const MAGIC: &[u8; 8] = b"PFKAFKA1";

/// Octets of [`Standing`] in the file, with magic and checksum.
const STANDING: usize = 8 + 16 + 8 + 8 + 24 + 2 * 32 + 4;

/// Where the reservation is in the file: it is written by another thread.
const RESERVATION: u64 = 512;

/// Where the mark of a run is: written, and synced, at its start and end.
const MARK: u64 = 1024;

/// A number of messages, and what they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::kafka) struct Amount {
    pub messages: u64,
    pub tally: Tally,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        // Some are read from a disk.
        self.messages = self.messages.saturating_add(other.messages);
        self.tally += other.tally;
    }
}

impl Amount {
    /// Without `other`, or without as much of it as there is.
    pub(in crate::kafka) fn less(self, other: Self) -> Self {
        let Tally { records, packets, octets } = other.tally;
        Self {
            messages: self.messages.saturating_sub(other.messages),
            tally: Tally {
                records: self.tally.records.saturating_sub(records),
                packets: self.tally.packets.saturating_sub(packets),
                octets: self.tally.octets.saturating_sub(octets),
            },
        }
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kafka) struct Standing {
    pub instance: [u8; 16],
    pub epoch: u32,
    /// Messages that ever got a sequence number, and so the next number.
    pub accepted: Amount,
    /// Of those, settled without being in the spool.
    pub settled: Amount,
    /// Of those, settled and removed from the spool.
    pub removed: Amount,
}

/// Sequence numbers of which a part is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::kafka) struct Reservation {
    /// All below this one are given.
    pub given: u64,
    /// None from this one on is given.
    pub end: u64,
}

impl Reservation {
    pub(in crate::kafka) const fn nothing(next: u64) -> Self {
        Self { given: next, end: next }
    }
}

/// The file with both.
#[derive(Debug)]
pub(in crate::kafka) struct AccountFile(File);

impl AccountFile {
    /// Opens it; makes it if it is missing.
    pub(in crate::kafka) fn open(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK);
        Ok(Self(options.open(folder.join("spool.account"))?))
    }

    /// The standing and the reservation, as far as they are whole.
    pub(in crate::kafka) fn read(&self) -> (Option<Standing>, Reservation) {
        let mut octets = [0; STANDING];
        let standing = self.0.read_exact_at(&mut octets, 0).ok().and_then(|()| parse(&octets));
        let number_at = |place| {
            let mut octets = [0; 12];
            self.0.read_exact_at(&mut octets, place).ok()?;
            let (number, checksum) = octets.split_first_chunk::<8>()?;
            (checksum == crc32c::crc32c(number).to_le_bytes()).then_some(u64::from_le_bytes(*number))
        };
        let end = number_at(RESERVATION).unwrap_or(0);
        (standing, Reservation { given: number_at(RESERVATION + 12).unwrap_or(0).min(end), end })
    }

    pub(in crate::kafka) fn write(&self, standing: &Standing) -> io::Result<()> {
        let mut octets = Vec::with_capacity(STANDING);
        octets.extend(MAGIC);
        octets.extend(standing.instance);
        octets.extend(u64::from(standing.epoch).to_le_bytes());
        for amount in [&standing.accepted, &standing.settled, &standing.removed] {
            let Amount { messages, tally } = amount;
            for number in [*messages, tally.records, tally.packets, tally.octets] {
                octets.extend(number.to_le_bytes());
            }
        }
        octets.extend(crc32c::crc32c(&octets).to_le_bytes());
        self.0.write_all_at(&octets, 0)
    }

    /// The start of the machine under which a run began that did not end.
    pub(in crate::kafka) fn marked(&self) -> Option<[u8; 16]> {
        let mut octets = [0; 20];
        self.0.read_exact_at(&mut octets, MARK).ok()?;
        let (start, checksum) = octets.split_first_chunk::<16>()?;
        let is_whole = checksum == crc32c::crc32c(start).to_le_bytes();
        (is_whole && *start != [0; 16]).then_some(*start)
    }

    /// Has the disk keep the mark of a run; zeros for one that ends.
    pub(in crate::kafka) fn mark(&self, start: [u8; 16]) -> io::Result<()> {
        let mut octets = [0; 20];
        octets[..16].copy_from_slice(&start);
        octets[16..].copy_from_slice(&crc32c::crc32c(&start).to_le_bytes());
        self.0.write_all_at(&octets, MARK)?;
        self.0.sync_data()
    }

    /// Sequence numbers below the end may be given from now on.
    pub(in crate::kafka) fn reserve(&self, reservation: Reservation) -> io::Result<()> {
        let mut octets = [0; 24];
        for (place, number) in octets.chunks_exact_mut(12).zip([reservation.end, reservation.given]) {
            let number = number.to_le_bytes();
            place[..8].copy_from_slice(&number);
            place[8..].copy_from_slice(&crc32c::crc32c(&number).to_le_bytes());
        }
        self.0.write_all_at(&octets, RESERVATION)
    }
}

/// The number of this start of the machine; zeros if the system does not say it.
pub(in crate::kafka) fn start_of_machine() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0).to_be_bytes()
}

fn parse(octets: &[u8; STANDING]) -> Option<Standing> {
    let (content, checksum) = octets.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(content) {
        return None;
    }
    let (magic, rest) = content.split_first_chunk::<8>()?;
    if magic != MAGIC {
        return None;
    }
    let (instance, rest) = rest.split_first_chunk::<16>()?;
    let mut numbers = rest
        .chunks_exact(8)
        .map(|number| number.first_chunk().map_or(0, |number| u64::from_le_bytes(*number)));
    let epoch = u32::try_from(numbers.next()?).ok()?;
    let mut amount = || {
        let messages = numbers.next()?;
        let tally = Tally { records: numbers.next()?, packets: numbers.next()?, octets: numbers.next()? };
        Some(Amount { messages, tally })
    };
    Some(Standing { instance: *instance, epoch, accepted: amount()?, settled: amount()?, removed: amount()? })
}
