//! Ends capture that goes on without pathflow.

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
use pathflow_common::layout::program;

use super::directory::{Directory, entries};
use super::former::{Former, Found};
use super::links::LinkPins;
use super::{Hook, PinError, run};
use crate::interfaces::Interface;
use crate::ledger::Amount;

/// What was found and ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detached {
    /// By interface index, where the kernel program was attached.
    pub links: Vec<(u32, Hook)>,
    /// Names of interfaces and of the filters removed there.
    pub filters: Vec<(String, &'static str)>,
    /// Whether tables were removed. They are kept as long as something is attached.
    pub tables: bool,
    /// Packets counted since the last run took some: with the tables, they are gone.
    pub counted: Amount,
    /// Tables of another version, of which it is not known what they held.
    pub unknown_tables: usize,
}

impl Detached {
    /// What was done, in lines. `interfaces` are those that there are.
    #[must_use]
    pub fn text(&self, interfaces: &[Interface]) -> String {
        let mut lines = Vec::new();
        for (index, hook) in &self.links {
            let found = interfaces.iter().find(|interface| interface.index == *index);
            let name = found.map_or_else(|| "an interface that is gone".to_owned(), |one| one.name.clone());
            lines.push(format!("{name} (index {index}): detached from {}", hook.as_str()));
        }
        for (interface, filter) in &self.filters {
            lines.push(format!("{interface}: filter {filter} removed"));
        }
        let Amount { packets, octets } = self.counted;
        let counted = format!("{packets} packets ({octets} octets) that were counted and not exported");
        if self.tables {
            lines.push(format!("tables removed, with {counted}"));
        } else if packets > 0 {
            lines.push(format!("tables kept, with {counted}; the next `pathflow run` exports them"));
        }
        if self.unknown_tables > 0 {
            lines.push("some tables were of another version: what they held is not known".to_owned());
        }
        if lines.is_empty() {
            lines.push("nothing was attached or pinned here".to_owned());
        }
        lines.join("\n") + "\n"
    }
}

/// Detaches from `only` these interfaces, or from all that there are (`interfaces`), and removes the tables if
/// nothing is attached any more.
///
/// # Errors
/// [`PinError`]: pathflow is running, or the pins cannot be removed.
pub fn detach(interfaces: &[Interface], only: Option<&[Interface]>) -> Result<Detached, PinError> {
    let mut detached = Detached::default();
    if let Some(directory) = Directory::lock(false)? {
        detach_pins(&directory, only, &mut detached)?;
        directory.remove_if_empty();
    }
    for interface in only.unwrap_or(interfaces) {
        for (way, name) in [
            (TcAttachType::Ingress, program::TC_INGRESS),
            (TcAttachType::Egress, program::TC_EGRESS),
            (TcAttachType::Ingress, program::EXTENDED_TC_INGRESS),
            (TcAttachType::Egress, program::EXTENDED_TC_EGRESS),
        ] {
            // An error says that there is none, or no place for one.
            if qdisc_detach_program(&interface.name, way, name).is_ok() {
                detached.filters.push((interface.name.clone(), name));
            }
        }
    }
    Ok(detached)
}

fn detach_pins(
    directory: &Directory,
    only: Option<&[Interface]>,
    detached: &mut Detached,
) -> Result<(), PinError> {
    let links = LinkPins::new(directory.links()?, false);
    let is_meant = |index: u32| only.is_none_or(|only| only.iter().any(|interface| interface.index == index));
    for (index, hook) in links.all()? {
        if is_meant(index) {
            links.remove(index, hook);
            detached.links.push((index, hook));
        }
    }
    let runs = directory.runs()?;
    for path in &runs {
        match Former::open(path) {
            Ok(Found::Run(former)) => {
                for (_, counters) in former.untaken().iter().flat_map(|one| &one.counters) {
                    detached.counted.add(counters.seen.into());
                }
            }
            Ok(Found::Nothing) => {}
            Err(_) => detached.unknown_tables += 1,
        }
    }
    // With nothing attached, nobody needs the tables; otherwise the next run exports what is in them.
    if only.is_none() || links.all()?.is_empty() {
        for path in &runs {
            detached.tables |= !entries(path)?.is_empty();
            run::remove(path);
        }
    }
    Ok(())
}
