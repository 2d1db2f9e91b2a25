//! What an aggregate hands to its output: the rows of one purge.

use std::cmp::Reverse;
use std::sync::Arc;

use pathflow_exporter::Tally;
use serde::{Deserialize, Serialize};

use super::key::KeyLayout;
use super::primitive::Primitive;
use super::table::{Counters, Table};
use super::value::Value;

/// What rows are chosen by when only the largest are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TopBy {
    /// Octets.
    #[default]
    Octets,
    /// Packets.
    Packets,
}

/// How many of the minimums a row has to meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Minimums {
    /// All.
    #[default]
    All,
    /// One, whichever.
    Any,
}

/// Which rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowLimits {
    /// Only so many rows of each purge, the largest; 0 = all.
    pub top: usize,
    /// By what they are the largest.
    pub top_by: TopBy,
    /// Only rows of so many packets at least; 0 = there is no such minimum, here and below.
    pub min_packets: u64,
    /// Only rows of so many octets at least.
    pub min_octets: u64,
    /// Only rows of so many flows that began at least.
    pub min_flows: u64,
    /// Only rows of so many octets per packet at least, rounded down.
    pub min_octets_per_packet: u64,
    /// Only rows of so many packets per flow at least, rounded down; a row of flows that have all begun before counts as
    /// one flow.
    pub min_packets_per_flow: u64,
    /// Whether rows have to meet all of these minimums.
    pub minimums: Minimums,
}

impl RowLimits {
    fn has_minimum(&self) -> bool {
        let Self { min_packets, min_octets, min_flows, min_octets_per_packet, min_packets_per_flow, .. } =
            *self;
        [min_packets, min_octets, min_flows, min_octets_per_packet, min_packets_per_flow] != [0; 5]
    }

    fn is_met_by(&self, row: &Row<'_>) -> bool {
        let (packets, octets, flows) = (row.packets(), row.octets(), row.flows());
        let mut met = [
            (self.min_packets, packets),
            (self.min_octets, octets),
            (self.min_flows, flows),
            (self.min_octets_per_packet, octets / packets.max(1)),
            (self.min_packets_per_flow, packets / flows.max(1)),
        ]
        .into_iter()
        .filter(|(minimum, _)| *minimum > 0)
        .map(|(minimum, value)| value >= minimum);
        match self.minimums {
            Minimums::All => met.all(|is_met| is_met),
            Minimums::Any => met.any(|is_met| is_met),
        }
    }
}

/// What was left out of a purge, by [`RowLimits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Rows of too few packets, octets or flows.
    pub below_minimum: Tally,
    /// Rows that others are larger than.
    pub below_top: Tally,
}

/// Rows of one purge. Every row is what was counted since the purge before.
#[derive(Debug)]
pub struct Purge {
    table: Table,
    updated: u64,
    has_bins: bool,
    is_early: bool,
    /// Numbers of the rows that are written; `None` = all.
    chosen: Option<Vec<u32>>,
}

/// A row of a purge.
#[derive(Clone, Copy, Debug)]
pub struct Row<'p> {
    purge: &'p Purge,
    counters: Counters,
    key: &'p [u64],
}

impl Purge {
    pub(super) const fn new(table: Table, updated: u64, has_bins: bool) -> Self {
        Self { table, updated, has_bins, is_early: false, chosen: None }
    }

    /// Notes that it was not due yet.
    pub(super) const fn set_early(&mut self) {
        self.is_early = true;
    }

    /// Whether it was not due yet: the next one is of the same period.
    #[must_use]
    pub const fn is_early(&self) -> bool {
        self.is_early
    }

    /// Room for rows of other purges of the same aggregate.
    pub(super) fn for_rows(layout: Arc<KeyLayout>, limit: usize, has_bins: bool) -> Self {
        Self::new(Table::new(layout, limit), 0, has_bins)
    }

    /// Adds a row of another purge of the same aggregate, which is of the time `updated`; false if there is no room.
    pub(super) fn absorb(&mut self, row: &Row<'_>) -> bool {
        self.updated = self.updated.max(row.purge.updated);
        self.table.absorb(&row.purge.table, row.counters, row.key)
    }

    /// Whether there is room for another row.
    pub(super) fn has_room(&self) -> bool {
        self.table.has_room(1)
    }

    /// The primitives, in the order of [`Row::value`].
    #[must_use]
    pub fn primitives(&self) -> &[Primitive] {
        self.table.layout().primitives()
    }

    /// Time of this purge, in seconds since the Unix epoch.
    #[must_use]
    pub const fn updated(&self) -> u64 {
        self.updated
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chosen.as_ref().map_or_else(|| self.table.len(), Vec::len)
    }

    /// True if there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, in no order but for that of [`RowLimits::top`], where the largest comes first.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).filter_map(|position| match &self.chosen {
            None => self.row(position),
            Some(chosen) => self.row(*chosen.get(position)? as usize),
        })
    }

    /// Sum over the rows.
    #[must_use]
    pub fn tally(&self) -> Tally {
        match &self.chosen {
            None => self.table.tally(),
            Some(_) => self.rows().fold(Tally::ZERO, |sum, row| sum + row.tally()),
        }
    }

    /// Leaves out the rows that are not wanted.
    pub fn choose(&mut self, limits: &RowLimits) -> LeftOut {
        let RowLimits { top, top_by, .. } = *limits;
        let has_minimum = limits.has_minimum();
        let mut left_out = LeftOut::default();
        if top == 0 && !has_minimum {
            return left_out;
        }
        let mut chosen = Vec::new();
        for number in 0..self.table.len() as u32 {
            let Some(row) = self.row(number as usize) else { continue };
            if has_minimum && !limits.is_met_by(&row) {
                left_out.below_minimum += row.tally();
            } else {
                chosen.push(number);
            }
        }
        if top > 0 {
            chosen.sort_by_cached_key(|number| {
                Reverse(self.row(*number as usize).map_or(0, |row| row.size(top_by)))
            });
            for number in chosen.drain(top.min(chosen.len())..) {
                left_out.below_top += self.row(number as usize).map_or(Tally::ZERO, |row| row.tally());
            }
        }
        self.chosen = Some(chosen);
        left_out
    }

    /// The memory, for another purge.
    pub(super) fn into_table(mut self) -> Table {
        self.table.clear();
        self.table
    }

    fn row(&self, number: usize) -> Option<Row<'_>> {
        let (counters, key) = self.table.row(number)?;
        Some(Row { purge: self, counters, key })
    }
}

impl<'p> Row<'p> {
    /// Start of its time bin, in seconds since the Unix epoch; `None` without history.
    #[must_use]
    pub fn bin(&self) -> Option<u64> {
        self.purge.has_bins.then(|| KeyLayout::bin(self.key))
    }

    /// What the primitive at `position` says.
    #[must_use]
    pub fn value(&self, position: usize) -> Value<'p> {
        match self.purge.primitives().get(position) {
            Some(Primitive::TcpFlags) => Value::TcpFlags(self.counters.tcp_flags),
            Some(Primitive::TunnelTcpFlags) => Value::TcpFlags(self.counters.tunnel_tcp_flags),
            Some(Primitive::Flows) => Value::Number(self.counters.flows),
            Some(Primitive::TimestampMin) => Value::Time(Some(self.counters.first)),
            Some(Primitive::TimestampMax) => Value::Time(Some(self.counters.last)),
            _ => self.purge.table.layout().value(self.key, position, self.purge.table.interned()),
        }
    }

    /// Packets.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.counters.packets
    }

    /// Layer 3 octets.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.counters.octets
    }

    /// What rows are the largest by.
    #[must_use]
    pub const fn size(&self, by: TopBy) -> u64 {
        match by {
            TopBy::Octets => self.counters.octets,
            TopBy::Packets => self.counters.packets,
        }
    }

    /// Flows that began among these packets.
    #[must_use]
    pub const fn flows(&self) -> u64 {
        self.counters.flows
    }

    /// Time of the first packet, in microseconds since the Unix epoch.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.counters.first
    }

    /// Time of the last packet, in microseconds since the Unix epoch.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.counters.last
    }

    /// The row as a sum of one record.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        Tally { records: 1, packets: self.counters.packets, octets: self.counters.octets }
    }
}
