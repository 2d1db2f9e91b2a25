//! An aggregate without threads and queues: selects, samples, makes keys, adds up.

use std::ops::Range;
use std::sync::Arc;

use pathflow_exporter::{ObservationContext, Tally};

use super::bins::Bins;
use super::key::{EndPlaces, InterfaceTexts, KeyLayout, Part};
use super::observed::Observed;
use super::purge::Purge;
use super::settings::AggregateSettings;
use super::table::Table;
use crate::enrich::{EnrichSettings, OwnTags, Places};
use crate::export::RecordSampling;
use crate::ledger::Amount;

const MICROSECONDS: u64 = 1_000_000;
/// Deltas whose rows are looked up together: a core reads some ten lines of memory at once.
const GROUP: usize = 16;

/// Adds up the packets of one aggregate.
#[derive(Debug)]
pub struct Aggregation {
    settings: AggregateSettings,
    layout: Arc<KeyLayout>,
    table: Table,
    sampling: Option<RecordSampling>,
    names: InterfaceTexts,
    own_tags: OwnTags,
    /// Where addresses are, if the key asks.
    places: Option<Places>,
    /// The places of the delta in hand.
    of_ends: EndPlaces,
    /// The bin that was looked up last.
    bin: Range<u64>,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// All that was offered.
    pub offered: Amount,
    /// Counted more than once: for both ends, or multiplied by sampling intervals.
    pub multiplied: Amount,
    /// Not for this aggregate.
    pub not_selected: Amount,
    /// Not sampled.
    pub sampled_out: Amount,
    /// Lost, because there was no room for another row.
    pub table_full: Amount,
    /// Added to rows.
    pub in_table: Amount,
}

impl Spread {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.offered.add(other.offered);
        self.multiplied.add(other.multiplied);
        self.not_selected.add(other.not_selected);
        self.sampled_out.add(other.sampled_out);
        self.table_full.add(other.table_full);
        self.in_table.add(other.in_table);
    }
}

impl Aggregation {
    /// Nothing added up yet.
    #[must_use]
    pub fn new(settings: AggregateSettings) -> Self {
        let layout = Arc::new(KeyLayout::new(&settings.key, settings.agent));
        Self {
            table: Table::new(Arc::clone(&layout), settings.max_entries),
            layout,
            sampling: RecordSampling::new(settings.sampling_interval),
            names: InterfaceTexts::default(),
            own_tags: OwnTags::default(),
            places: settings.key.asks_places().then(Places::default),
            of_ends: EndPlaces::default(),
            bin: 0..0,
            settings,
        }
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &AggregateSettings {
        &self.settings
    }

    /// Interfaces are named as in `context` from now on.
    pub fn set_context(&mut self, context: Arc<ObservationContext>) {
        self.names.set(context);
    }

    /// What is known of packets beyond what they carry is by these settings from now on.
    pub fn set_enrichment(&mut self, settings: &EnrichSettings) {
        self.own_tags.set(settings.tags_of.get(&self.settings.name));
        if let Some(places) = &mut self.places {
            places.set(settings.geography.as_ref());
        }
    }

    /// Adds deltas, and enters in `spread` what became of their packets.
    pub fn add(&mut self, deltas: &[Observed], spread: &mut Spread) {
        for observed in deltas {
            self.stage(observed, spread);
            if self.table.staged() >= GROUP {
                self.count_staged(spread);
            }
        }
        self.count_staged(spread);
    }

    fn count_staged(&mut self, spread: &mut Spread) {
        let without_room = self.table.count_staged();
        spread.in_table.subtract(without_room);
        spread.table_full.add(without_room);
    }

    /// What is staged is in the table as far as `spread` says: there is room most likely.
    fn stage(&mut self, observed: &Observed, spread: &mut Spread) {
        let record = &observed.record;
        let offered = Amount { packets: record.packet_delta_count, octets: record.octet_delta_count };
        spread.offered.add(offered);
        let tags = self.own_tags.of(record);
        if !self.settings.selection.is_for(observed, tags) {
            spread.not_selected.add(offered);
            return;
        }
        let mut amount = offered;
        let mut rate = record.sampling_interval.max(1);
        if let Some(sampling) = &mut self.sampling {
            rate = rate.saturating_mul(self.settings.sampling_interval.get());
            amount = sampling.sample_amount(offered);
            let mut sampled_out = offered;
            sampled_out.subtract(amount);
            spread.sampled_out.add(sampled_out);
            if amount.packets == 0 {
                return;
            }
        }
        if self.settings.renormalize {
            let more = amount.times(u64::from(rate - 1));
            spread.multiplied.add(more);
            amount.add(more);
            rate = 1;
        }
        let bin = bin(&mut self.bin, self.settings.history.as_ref(), observed.time / MICROSECONDS);
        if let Some(places) = &mut self.places {
            self.of_ends.source = places.find(record.source_address);
            self.of_ends.destination = places.find(record.destination_address);
        }
        let ends = self.layout.ends();
        spread.multiplied.add(amount.times(ends.len() as u64 - 1));
        for end in ends {
            let part = Part { observed, tags, places: &self.of_ends, bin, end: *end, sampling_rate: rate };
            if self.table.stage(&part, amount, &self.names) {
                spread.in_table.add(amount);
            } else {
                spread.table_full.add(amount);
            }
        }
    }

    /// Whether there is room for the next delta, whatever it is.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.table.has_room(self.layout.ends().len())
    }

    /// How many of so many deltas find room, whatever they are: 1 even if that one does not.
    #[must_use]
    pub fn room(&self, deltas: usize) -> usize {
        let group = deltas.min(GROUP);
        if self.table.has_room_for(group) { group } else { 1 }
    }

    /// What is added up, with the number of rows.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.table.tally()
    }

    /// Takes out all rows, but those of bins that begin at `before` or later. `updated` is the time of the purge. Both are
    /// in seconds since the Unix epoch. The memory of an earlier purge is used again.
    pub fn purge(&mut self, updated: u64, before: Option<u64>, memory: Option<Purge>) -> Purge {
        let empty = memory.map(Purge::into_table);
        let empty = empty.unwrap_or_else(|| Table::new(Arc::clone(&self.layout), self.settings.max_entries));
        let mut table = std::mem::replace(&mut self.table, empty);
        if let Some(time) = before.filter(|_| self.settings.history.is_some()) {
            table.move_later(time, &mut self.table);
        }
        Purge::new(table, updated, self.settings.history.is_some())
    }
}

/// The start of the bin of a time in seconds; `last` is the one that was looked up last.
fn bin(last: &mut Range<u64>, history: Option<&Bins>, time: u64) -> u64 {
    let Some(history) = history else { return 0 };
    if !last.contains(&time) {
        *last = history.bin_of(time);
    }
    last.start
}
