//! `pathflow doctor`: everything that pathflow depends on, with what was found, what is wanted, what follows
//! and what to do. It reads, tries and lets go; nothing is attached and no setting is changed.

mod features;
mod interfaces;
mod machine;
mod ports;
mod privileges;
mod row;
mod table;
#[cfg(test)]
mod tests;

pub use row::{Row, Status};

use std::io;
use std::net::SocketAddr;

use crate::capture::TableSizes;
use crate::config::Config;
use crate::host::Host;
use crate::interfaces::{Interface, Mode};

/// What `pathflow run` is meant to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Interfaces to capture on.
    pub interfaces: Vec<String>,
    /// Interfaces that are captured from by `AF_XDP` (mirror ports).
    pub mirrors: Vec<String>,
    /// Sizes of the kernel's tables.
    pub sizes: TableSizes,
    /// Flows that the cache holds at most.
    pub max_flows: u32,
    /// Whether maps and links are pinned.
    pub pins: bool,
    /// Where routers connect to with BGP.
    pub bgp: Vec<SocketAddr>,
    /// Where they do with BMP.
    pub bmp: Option<SocketAddr>,
}

impl Plan {
    /// Every interface that is captured on, each once.
    fn captured(&self) -> impl Iterator<Item = &String> {
        let mirrors = self.mirrors.iter().filter(|name| !self.interfaces.contains(name));
        self.interfaces.iter().chain(mirrors)
    }
}

impl Plan {
    /// What `config` means among the interfaces that are `present`, and those it names that are not.
    #[must_use]
    pub fn new(config: &Config, present: &[Interface]) -> Self {
        let selection = &config.interfaces.selection;
        let found = present.iter().filter(|interface| selection.matches(interface));
        let (mirrors, interfaces): (Vec<_>, Vec<_>) =
            found.partition(|interface| config.interfaces.settings(interface).mode == Mode::Mirror);
        let names = |interfaces: Vec<&Interface>| interfaces.iter().map(|one| one.name.clone()).collect();
        let mut interfaces: Vec<String> = names(interfaces);
        interfaces.extend(selection.missing(present).map(str::to_owned));
        Self {
            interfaces,
            mirrors: names(mirrors),
            sizes: config.sizes,
            max_flows: config.max_flows,
            pins: config.pin,
            bgp: config.bgp.iter().flat_map(|settings| settings.listen.clone()).collect(),
            bmp: config.bmp.as_ref().map(|settings| settings.listen),
        }
    }
}

/// What was found, most important first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// One for each thing.
    pub rows: Vec<Row>,
}

/// Looks at everything that `plan` needs of `host`.
#[must_use]
pub fn examine(host: &dyn Host, plan: &Plan) -> Findings {
    let mut rows = machine::kernel(host);
    rows.extend(privileges::rows(host, plan));
    // Without the right to ask, every answer would be the same.
    if rows.iter().all(|row| row.status != Status::Fail) {
        rows.extend(features::rows(host, plan));
    } else {
        rows.push(features::not_examined());
    }
    rows.extend(ports::rows(host, plan));
    rows.extend(machine::resources(host, plan));
    rows.extend(interfaces::rows(host, plan));
    rows.sort_by_key(|row| row.status);
    Findings { rows }
}

impl Findings {
    /// Whether `pathflow run` would work.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.count(Status::Fail) == 0
    }

    /// Rows of a status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.rows.iter().filter(|row| row.status == status).count()
    }

    /// A table for people, at most `width` columns wide, and a last line that says whether it would work.
    #[must_use]
    pub fn text(&self, width: usize) -> String {
        table::text(self, width)
    }

    /// An array of objects, one for each row, with the names of [`Row`]'s fields.
    ///
    /// # Errors
    /// If it cannot be made: never, as far as is known.
    pub fn json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(&self.rows)?)
    }
}
