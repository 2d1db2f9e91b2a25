//! The kernel's extensions of keys: from the references that flows have to the numbers of
//! [`Extensions`](crate::metering::extensions::Extensions).
//!
//! The kernel program tells of each reference that it makes. What was not heard of, because the ring was full or another
//! run has heard it, is looked for in the table itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{HashMap as KernelMap, MapData, RingBuf};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use pathflow_common::extension::KeyExtension;
use pathflow_common::flow::{Encapsulation, WideKey};
use pathflow_common::layout::ExtensionNews;

use super::pin::Missing;
use crate::metering::extensions::Extensions;

/// Extensions that the kernel holds at a time, if any are asked for: about 13 MiB.
pub(super) const HELD: u32 = 65_536;
/// References that are known at most. Those that were not used in the last epochs are forgotten, and found in the
/// kernel's table if they come again.
const KNOWN: usize = 2 * HELD as usize;
/// Epochs in which a reference must have been used to stay known when there are too many.
const EPOCHS: u64 = 60;

/// The kernel's table of extensions, key and value as they lie in memory.
pub(super) type Table = KernelMap<MapData, [u8; size_of::<KeyExtension>()], u64>;

/// What references stand for.
pub(super) struct ExtensionTable(Mutex<References>);

impl fmt::Debug for ExtensionTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExtensionTable").finish_non_exhaustive()
    }
}

struct References {
    table: Table,
    news: Option<RingBuf<MapData>>,
    /// With the last epoch in which they were used.
    known: HashMap<u64, (KeyExtension, u64), RandomState>,
    /// Epoch in which the table was gone through last.
    searched: u64,
}

impl ExtensionTable {
    /// Without `news`, everything is looked for in the table.
    pub(super) fn new(table: Table, news: Option<RingBuf<MapData>>) -> Self {
        Self(Mutex::new(References { table, news, known: HashMap::default(), searched: 0 }))
    }

    /// What a reference stands for that a flow of `epoch` has; `None` if nobody knows any more.
    fn extension(&self, reference: u64, epoch: u64) -> Option<KeyExtension> {
        let mut references = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        references.listen(epoch);
        if !references.known.contains_key(&reference) && references.searched != epoch {
            references.searched = epoch;
            references.search(epoch);
        }
        let (extension, used) = references.known.get_mut(&reference)?;
        *used = epoch;
        Some(*extension)
    }
}

impl References {
    /// Learns what the kernel program tells.
    fn listen(&mut self, epoch: u64) {
        let Self { news, known, .. } = self;
        let Some(news) = news else { return };
        while let Some(item) = news.next() {
            if let Some(octets) = item.first_chunk() {
                let ExtensionNews { reference, extension } = ExtensionNews::from_octets(octets);
                known.insert(reference, (extension, epoch));
            }
        }
        if known.len() > KNOWN {
            known.retain(|_, (_, used)| *used + EPOCHS > epoch);
            if known.len() > KNOWN {
                known.retain(|_, (_, used)| *used == epoch);
            }
        }
    }

    /// Learns what is in the kernel's table.
    fn search(&mut self, epoch: u64) {
        // While it is read others come and go, which may begin it anew.
        // What goes away under the reader is lost for this epoch.
        for (octets, reference) in self.table.iter().take(KNOWN).flatten() {
            self.known.entry(reference).or_insert_with(|| (KeyExtension::from_octets(&octets), epoch));
        }
    }
}

/// Puts the numbers of extensions in place of references.
#[derive(Debug)]
pub struct ExtensionNumbers {
    extensions: Arc<Extensions>,
    /// Of the tables in hand.
    numbers: HashMap<u64, Option<(u32, Encapsulation)>, RandomState>,
    /// Packets by observation point.
    without: HashMap<u16, u64, RandomState>,
    missing: Missing,
}

impl ExtensionNumbers {
    /// Numbers in `extensions`.
    #[must_use]
    pub fn new(extensions: Arc<Extensions>) -> Self {
        Self {
            extensions,
            numbers: HashMap::default(),
            without: HashMap::default(),
            missing: Missing::default(),
        }
    }

    /// The tables are those of another run from now on, whose extensions lack this. Who is concerned by it is not counted
    /// here.
    pub(crate) fn set_missing(&mut self, missing: Missing) {
        self.missing = missing;
    }

    /// Packets, by observation point, whose flow has no extension because nobody knows it any more or there are too many,
    /// since this was asked last.
    pub fn take_without(&mut self) -> impl Iterator<Item = (u16, u64)> {
        self.without.drain()
    }

    /// References are those of another table from now on, or of another epoch.
    pub(super) fn begin(&mut self) {
        self.numbers.clear();
    }

    /// `key` without epoch and reference, of `packets` packets of `epoch` of which the last was seen at `time`.
    pub(super) fn key(
        &mut self,
        key: WideKey,
        table: &ExtensionTable,
        (epoch, time, packets): (u64, u64, u64),
    ) -> WideKey {
        let Some(reference) = key.extension_reference() else { return key.without_epoch() };
        let extensions = &self.extensions;
        let found = *self.numbers.entry(reference).or_insert_with(|| {
            let extension = table.extension(reference, epoch)?;
            Some((extensions.number(&self.missing.cut(extension), time), extension.encapsulation()))
        });
        let (number, encapsulation) = found.unwrap_or((0, Encapsulation::NONE));
        let key = key.with_extension(number, encapsulation);
        if number == 0 && !self.missing.concerns(&key) {
            *self.without.entry(key.fields().observation_point).or_default() += packets;
        }
        key
    }
}
