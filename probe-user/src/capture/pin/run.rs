//! The pins of this run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use aya::pin::PinError as AyaPinError;

use super::accounts::{PinnedAccounts, rows};
use super::directory::{Directory, make_directory};
use super::error::PinError;
use super::layout::{LAYOUT, descriptor, name};
use super::plan::ExtensionPlan;
use crate::capture::mapping::Mapping;
use crate::capture::program::{TableSizes, array, full};
use crate::capture::{CaptureError, support};
use crate::clock::Clock;

/// What this run pins: maps, so that the kernel program has somewhere to count when this process is gone.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    number: u64,
    /// There once everything is pinned.
    descriptor: Mutex<Option<Mapping<u64>>>,
}

impl Run {
    /// An empty directory for this run.
    pub(super) fn new(directory: &Directory) -> Result<Self, PinError> {
        // Later runs have higher numbers, and none is 0.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = directory.runs()?.iter().filter_map(|path| number_of(path)).max().unwrap_or(0);
        let number = (now.as_nanos() as u64).max(last + 1);
        let path = directory.path().join(format!("{LAYOUT:016x}_{number:016x}"));
        make_directory(&path)?;
        Ok(Self { path, number, descriptor: Mutex::default() })
    }

    /// Pins a map under `name`.
    pub(in crate::capture) fn pin(
        &self,
        name: &str,
        pin: impl FnOnce(&Path) -> Result<(), AyaPinError>,
    ) -> Result<(), PinError> {
        let path = self.path.join(name);
        pin(&path).map_err(|error| PinError::Damaged { path, reason: full(&error) })
    }

    /// Makes the accounts of `labels`, of which the first `own` are sinks of this run.
    pub(super) fn accounts(&self, labels: Vec<String>, own: usize) -> Result<PinnedAccounts, CaptureError> {
        let rows = array(name::ACCOUNTS, rows(labels.len()) as u32, Some(self))?;
        Ok(PinnedAccounts::new(rows, labels, own))
    }

    /// Everything is pinned: a later run can take it over from now on.
    pub(super) fn complete(
        &self,
        sizes: &TableSizes,
        plan: ExtensionPlan,
        sinks: usize,
    ) -> Result<(), CaptureError> {
        let cpus = support::possible_cpus()?.last().ok_or(CaptureError::NoCpu)? + 1;
        // The words are there before the name is.
        let (map, words) = crate::capture::program::new_array(
            "pathflow_own",
            name::DESCRIPTOR,
            descriptor::WORDS,
            None,
            "",
        )?;
        for (word, value) in [
            (descriptor::LAYOUT, LAYOUT),
            (descriptor::RUN, self.number),
            (descriptor::CPUS, u64::from(cpus)),
            (descriptor::IPV4_SLOTS, u64::from(sizes.ipv4_slots)),
            (descriptor::WIDE_SLOTS, u64::from(sizes.ipv6_slots)),
            (descriptor::SPILL_SLOTS, u64::from(sizes.spill_slots)),
            (descriptor::TICK, Clock::tick_nanoseconds()),
            (descriptor::ROWS, rows(sinks) as u64),
            (descriptor::PLACES, plan.places),
            (descriptor::EXTENSION_PARTS, plan.parts),
        ] {
            words.store_first_word(word, value);
        }
        self.pin(name::DESCRIPTOR, |path| map.pin(path))?;
        *self.descriptor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(words);
        Ok(())
    }

    /// The run has ended in order.
    pub(super) fn ended(&self) {
        if let Some(words) = &*self.descriptor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            words.store_first_word(descriptor::ENDED, 1);
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Removes what is pinned. What is attached goes on counting where nobody looks, so nothing may be.
    pub(super) fn remove(&self) {
        remove(&self.path);
    }
}

/// The number of the run with this directory.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    u64::from_str_radix(path.file_name()?.to_str()?.rsplit('_').next()?, 16).ok()
}

/// Removes the pins of a run.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!("{}: cannot be removed: {error}", path.display());
    }
}
