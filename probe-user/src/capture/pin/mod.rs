//! Pins: the kernel goes on counting while pathflow is away, and the next run takes over what it counted.
//!
//! A run makes new maps and loads a new program, whatever it finds, so that another layout of the program,
//! other table sizes or another filter are nothing special. Then:
//! 1. It puts its program into each pinned link: a packet meets the program before or the new one.
//! 2. It removes links that nobody wants any more, and waits for a grace period: now nobody writes to the
//!    tables of the run before.
//! 3. It enters in its own accounts what is in those tables, and stores in their descriptor that they belong
//!    to it. A run that is killed before this word leaves them as they were; one that is killed after it has
//!    lost them, and the next one finds how much that was.
//! 4. It drains them, and removes their pins.
//!
//! What a killed run had taken from the kernel and not delivered is known by its accounts, which are pinned
//! as well.

mod accounts;
mod detach;
mod directory;
mod error;
mod former;
mod layout;
mod links;
mod plan;
mod run;

use std::collections::BTreeSet;

pub(super) use layout::name;

pub(crate) use accounts::add_losses;
pub use accounts::{CrashLoss, CrashLosses, PinnedAccounts};
pub use detach::{Detached, detach};
pub use error::PinError;
pub use former::{Former, Untaken};
pub use layout::{Place, Row};
pub use links::LinkPins;
pub use plan::Missing;
pub use run::Run;

use directory::Directory;
use former::Found;
use plan::ExtensionPlan;

use super::program::TableSizes;
use super::{CaptureError, Hook};
use crate::ledger::{Amount, Ledger};
use crate::metering::packets::KeySettings;

/// Takes the tables of an earlier run although it pins nothing itself.
const NOBODY: u64 = u64::MAX;

/// The pins of this network namespace, held by this process.
#[derive(Debug)]
pub struct Pins {
    directory: Directory,
    links: LinkPins,
    formers: Vec<Former>,
    run: Option<Run>,
    /// Of this run.
    keys: KeySettings,
}

impl Pins {
    /// Takes hold of what is pinned, and makes room for this run if it `is_pinning`. `None` if neither is
    /// anything pinned nor to be. `keys` are those of this run.
    ///
    /// # Errors
    /// [`PinError`]: there is no BPF file system, another process has the pins, or what is pinned cannot be
    /// read by this version. Nothing is changed then.
    pub fn open(is_pinning: bool, keys: &KeySettings) -> Result<Option<Self>, PinError> {
        let directory = match Directory::lock(is_pinning) {
            Ok(Some(directory)) => directory,
            Ok(None) => return Ok(None),
            // Of this namespace's interfaces, it has those that it has.
            Err(PinError::Busy { .. }) if !is_pinning => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut formers = Vec::new();
        for path in directory.runs()? {
            match Former::open(&path)? {
                Found::Run(former) => formers.push(*former),
                Found::Nothing => run::remove(&path),
            }
        }
        let links = LinkPins::new(directory.links()?, is_pinning);
        if !is_pinning && formers.is_empty() && links.all()?.is_empty() {
            directory.remove_if_empty();
            return Ok(None);
        }
        let run = if is_pinning { Some(Run::new(&directory)?) } else { None };
        Ok(Some(Self { directory, links, formers, run, keys: keys.clone() }))
    }

    /// Where this run pins its maps, if it does.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// The pinned links.
    #[must_use]
    pub fn links(&self) -> LinkPins {
        self.links.clone()
    }

    /// Earlier runs, the oldest first.
    #[must_use]
    pub fn formers(&self) -> &[Former] {
        &self.formers
    }

    /// Has the ledger keep its accounts where the next run finds them, and makes this run one that can be
    /// taken over. To be called when all maps are pinned and nothing is attached.
    ///
    /// # Errors
    /// If maps cannot be made or pinned.
    pub fn keep_accounts(&self, ledger: &Ledger, sizes: &TableSizes) -> Result<(), CaptureError> {
        let Some(run) = &self.run else { return Ok(()) };
        let mut labels: Vec<String> =
            ledger.books().sinks.iter().map(|sink| format!("{} {}", sink.format, sink.destination)).collect();
        let own = labels.len();
        let earlier: BTreeSet<String> = self.formers.iter().flat_map(Former::labels).collect();
        labels.extend(earlier.into_iter().filter(|label| !labels.contains(label)).collect::<Vec<_>>());
        let sinks = labels.len();
        ledger.pin(run.accounts(labels, own)?);
        run.complete(sizes, ExtensionPlan::new(&self.keys.extension), sinks)
    }

    /// Detaches what is pinned and not `wanted`.
    ///
    /// # Errors
    /// If the links cannot be listed.
    pub fn remove_links(&self, wanted: impl Fn(u32, Hook) -> bool) -> Result<(), PinError> {
        for (interface_index, hook) in self.links.all()? {
            if !wanted(interface_index, hook) {
                self.links.remove(interface_index, hook);
            }
        }
        Ok(())
    }

    /// What rows of this run say, and what an earlier run has counted does not tell.
    #[must_use]
    pub fn missing(&self, former: &Former) -> Missing {
        Missing::new(&self.keys, former.extension_plan())
    }

    /// What was lost with an earlier run, if it was killed, and what was lost with those before.
    #[must_use]
    pub fn losses(&self, former: &Former) -> (CrashLosses, CrashLosses) {
        let open: Vec<u64> = self.formers.iter().map(Former::number).collect();
        former.losses(&open)
    }

    /// From now on what was counted and `untaken` in the tables of `former` belongs to this run, with what was
    /// lost before.
    pub fn take_over(&self, former: &Former, untaken: &[Untaken], losses: &CrashLosses, ledger: &Ledger) {
        let in_flows = untaken.iter().fold(Amount::default(), |mut sum, one| {
            sum.add(one.in_flows());
            sum
        });
        ledger.take_over(former.number(), in_flows, losses);
        former.give_to(self.run.as_ref().map_or(NOBODY, Run::number));
    }

    /// Removes the pins of earlier runs, whose tables are drained. If this run pins nothing, nothing is pinned
    /// any more.
    pub fn forget_formers(&mut self) {
        for former in self.formers.drain(..) {
            former.remove();
        }
        if self.run.is_none() {
            self.directory.remove_if_empty();
        }
    }

    /// This run has ended in order.
    pub fn ended(&self) {
        if let Some(run) = &self.run {
            run.ended();
        }
    }

    /// This run could not start, and has detached what it attached. If its program is in links of an earlier
    /// run, which stay, its maps stay as well, for the next one.
    pub fn give_up(&self) {
        if let Some(run) = &self.run {
            run.ended();
            if self.links.all().is_ok_and(|links| links.is_empty()) {
                run.remove();
            }
        }
        self.directory.remove_if_empty();
    }
}
