//! What an earlier run left pinned.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, MapError, MapType};
use pathflow_common::flow::{Ipv4Slot, WideSlot};
use pathflow_common::layout::{Control, OBSERVATION_POINTS, PointCounters, TableHeader, per_cpu_index};

use super::accounts::{CrashLosses, FormerAccounts};
use super::error::PinError;
use super::layout::{LAYOUT, Place, Row, descriptor, name};
use super::plan::ExtensionPlan;
use super::run;
use crate::capture::extension_table::ExtensionTable;
use crate::capture::flow_table::{CpuTables, FlowTables, TableMaps, in_flows};
use crate::capture::mapping::{Element, Mapping};
use crate::capture::program::full;
use crate::ledger::Amount;

/// CPUs at most: more than Linux can have.
const MAX_CPUS: u64 = 1 << 16;
/// Slots of a table at most, as in the settings.
const MAX_SLOTS: u64 = 1 << 24;

/// An earlier run, whose program may still be counting.
#[derive(Debug)]
pub struct Former {
    path: PathBuf,
    words: Mapping<u64>,
    tables: FlowTables,
    places: Mapping<Place>,
    rows: Mapping<Row>,
}

/// What a CPU counted in an epoch, and nobody took.
#[derive(Clone, Debug)]
pub struct Untaken {
    /// Position of the CPU in the tables.
    pub position: usize,
    /// The epoch.
    pub epoch: u64,
    /// Counters by observation point.
    pub counters: Vec<(u16, PointCounters)>,
}

impl Untaken {
    /// The part that is in flows.
    pub(super) fn in_flows(&self) -> Amount {
        self.counters.iter().fold(Amount::default(), |mut sum, (_, counters)| {
            sum.add(in_flows(counters).into());
            sum
        })
    }
}

/// What was found in the directory of a run.
#[derive(Debug)]
pub(super) enum Found {
    /// Tables that belong to nobody.
    Run(Box<Former>),
    /// Nothing that anybody needs: the run was never ready, or another one has taken everything over.
    Nothing,
}

impl Former {
    /// Opens what is pinned in `path`.
    pub(super) fn open(path: &Path) -> Result<Found, PinError> {
        let descriptor_path = path.join(name::DESCRIPTOR);
        if !descriptor_path.exists() {
            return Ok(Found::Nothing);
        }
        // Of a layout that is not known, nothing but the first word is looked at.
        let length = map_length::<u64>(&descriptor_path)?;
        let words = open::<u64>(&descriptor_path, length)?;
        let found = words.first_word(descriptor::LAYOUT);
        if found != LAYOUT || length != descriptor::WORDS {
            return Err(PinError::UnknownLayout { directory: path.to_owned(), found });
        }
        if words.first_word(descriptor::ADOPTED_BY) != 0 {
            return Ok(Found::Nothing);
        }
        let cpus = word(&words, &descriptor_path, descriptor::CPUS, MAX_CPUS)?;
        let slots = |number| word(&words, &descriptor_path, number, MAX_SLOTS);
        let ipv4_slots = slots(descriptor::IPV4_SLOTS)?;
        let wide_slots = slots(descriptor::WIDE_SLOTS)?;
        let spill_slots = slots(descriptor::SPILL_SLOTS)?;
        let points = 2 * cpus * OBSERVATION_POINTS;
        let maps = TableMaps {
            control: open::<Control>(&path.join(name::CONTROL), 1)?,
            headers: open::<TableHeader>(&path.join(name::HEADERS), 2 * cpus)?,
            points: open::<PointCounters>(&path.join(name::POINTS), points)?,
            taken: open::<PointCounters>(&path.join(name::TAKEN), points)?,
            claims: open::<u64>(&path.join(name::CLAIMS), 2 * cpus)?,
            datagrams: open_map(&path.join(name::DATAGRAMS))?,
            extensions: ExtensionTable::new(open_map(&path.join(name::EXTENSIONS))?, None),
        };
        let mut cpu_tables = Vec::new();
        for cpu in 0..cpus {
            let tables = |generation| -> Result<CpuTables, PinError> {
                let index = per_cpu_index(generation, cpus, cpu);
                let inner = |prefix: &str| path.join(format!("{prefix}{index}"));
                Ok(CpuTables {
                    index,
                    ipv4: open_if_there::<Ipv4Slot>(&inner(name::IPV4), ipv4_slots)?,
                    wide: open_if_there::<WideSlot>(&inner(name::WIDE), wide_slots)?,
                    spill: open_if_there::<WideSlot>(&inner(name::SPILL), spill_slots)?,
                })
            };
            cpu_tables.push((cpu, [tables(0)?, tables(1)?]));
        }
        let rows = word(&words, &descriptor_path, descriptor::ROWS, MAX_SLOTS)?;
        let tick = words.first_word(descriptor::TICK);
        Ok(Found::Run(Box::new(Self {
            tables: FlowTables::new(maps, cpu_tables, tick),
            places: open::<Place>(&path.join(name::PLACES), OBSERVATION_POINTS)?,
            rows: open::<Row>(&path.join(name::ACCOUNTS), rows)?,
            path: path.to_owned(),
            words,
        })))
    }

    /// Number of the run.
    pub(super) fn number(&self) -> u64 {
        self.words.first_word(descriptor::RUN)
    }

    /// What its extensions consist of.
    pub(super) fn extension_plan(&self) -> ExtensionPlan {
        ExtensionPlan {
            parts: self.words.first_word(descriptor::EXTENSION_PARTS),
            places: self.words.first_word(descriptor::PLACES),
        }
    }

    /// Whether the run has ended in order, and was not killed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.words.first_word(descriptor::ENDED) != 0
    }

    /// What the observation points of its counters are, by number; `None` where there is none.
    #[must_use]
    pub fn places(&self) -> Vec<Option<Place>> {
        (0..OBSERVATION_POINTS as usize)
            .map(|number| self.places.read(number).filter(|place| place.interface != 0))
            .collect()
    }

    /// Its tables, to be drained.
    #[must_use]
    pub fn tables(&self) -> &FlowTables {
        &self.tables
    }

    /// What was counted and not taken.
    #[must_use]
    pub fn untaken(&self) -> Vec<Untaken> {
        let of = |position| {
            let epochs = self.tables.untaken(position).into_iter();
            epochs.map(move |(epoch, counters)| Untaken { position, epoch, counters })
        };
        (0..self.tables.cpu_count()).flat_map(of).collect()
    }

    /// What was lost with it, if it was killed, and with runs before it. `runs` are the numbers of all that are
    /// there and belong to nobody.
    pub(super) fn losses(&self, runs: &[u64]) -> (CrashLosses, CrashLosses) {
        let accounts = FormerAccounts::read(&self.rows, |run| runs.contains(&run));
        let own = accounts.own_losses(self.tables.taken_in_flows().into(), self.has_ended());
        (own, accounts.earlier_losses())
    }

    /// Labels of its accounts.
    pub(super) fn labels(&self) -> Vec<String> {
        FormerAccounts::read(&self.rows, |_| false).sinks.into_iter().map(|(label, ..)| label).collect()
    }

    /// From now on everything that is in its tables belongs to `run`.
    pub(super) fn give_to(&self, run: u64) {
        self.words.store_first_word(descriptor::ADOPTED_BY, run);
    }

    /// Removes its pins.
    pub(super) fn remove(&self) {
        run::remove(&self.path);
    }
}

fn word(words: &Mapping<u64>, path: &Path, number: usize, most: u64) -> Result<u32, PinError> {
    let value = words.first_word(number);
    if (1..=most).contains(&value) {
        return Ok(value as u32);
    }
    Err(PinError::Damaged { path: path.to_owned(), reason: format!("its word {number} is {value}") })
}

fn open_if_there<T: Element>(path: &Path, length: u32) -> Result<Option<Mapping<T>>, PinError> {
    if path.exists() { open(path, length).map(Some) } else { Ok(None) }
}

/// Maps a pinned array that must have this length.
fn open<T: Element>(path: &Path, length: u32) -> Result<Mapping<T>, PinError> {
    let found = map_length::<T>(path)?;
    let damaged = |reason: String| PinError::Damaged { path: path.to_owned(), reason };
    if found != length {
        return Err(damaged(format!("it has {found} elements, not {length}")));
    }
    let map = MapData::from_pin(path).map_err(|error| damaged(full(&error)))?;
    Mapping::new(map.fd().as_fd(), length).map_err(|error| damaged(error.to_string()))
}

/// Opens a pinned map of another kind.
fn open_map<T: TryFrom<Map, Error = MapError>>(path: &Path) -> Result<T, PinError> {
    MapData::from_pin(path)
        .and_then(Map::from_map_data)
        .and_then(TryInto::try_into)
        .map_err(|error| PinError::Damaged { path: path.to_owned(), reason: full(&error) })
}

/// Elements of a pinned array of `T`.
fn map_length<T: Element>(path: &Path) -> Result<u32, PinError> {
    let damaged = |reason: String| PinError::Damaged { path: path.to_owned(), reason };
    let map = MapData::from_pin(path).map_err(|error| damaged(full(&error)))?;
    let info = map.info().map_err(|error| damaged(full(&error)))?;
    let is_array = info.map_type().is_ok_and(|kind| kind == MapType::Array);
    if is_array && info.value_size() as usize == size_of::<T>() {
        return Ok(info.max_entries());
    }
    Err(damaged("it is not the map that pathflow pins there".to_owned()))
}
