//! The kernel program with tables of a wanted size on one CPU, never attached: only run by hand.

use std::sync::Arc;

use anyhow::Result;
use pathflow::capture::{
    Delta, Drained, Epochs, ExtensionNumbers, FilterSet, FlowTables, KernelProgram, LoadSettings, TableSizes,
};
use pathflow::config::raw::Capture;
use pathflow::metering::extensions::{Extensions, LIMIT};
use pathflow::metering::packets::KeySettings;
use pathflow_common::flow::HASH_SECRETS;
use pathflow_common::layout::{Count, INTERFACE_FLAG_SAMPLING, Sampling};
use pathflow_perf::frames::Family;

/// Interface that `BPF_PROG_TEST_RUN` gives a packet: loopback.
const LOOPBACK: u32 = 1;
/// Its observation point.
const POINT: u16 = 1;

/// Secrets for the table's hash: digits of pi, so that runs can be compared.
const SECRETS: [u32; HASH_SECRETS] = [
    0x243f_6a88,
    0x85a3_08d3,
    0x1319_8a2e,
    0x0370_7344,
    0xa409_3822,
    0x299f_31d0,
    0x082e_fa98,
    0xec4e_6c89,
    0x4528_21e6,
    0x38d0_1377,
    0xbe54_66cf,
    0x34e9_0c6c,
    0xc0ac_29b7,
    0xc97c_50dd,
];

/// The sizes that the probe has unless it is told otherwise.
pub(crate) fn default_sizes() -> TableSizes {
    let Capture { ipv4_slots, ipv6_slots, spill_slots, .. } = Capture::default();
    TableSizes { ipv4_slots, ipv6_slots, spill_slots }
}

/// The default sizes, or as many slots of one family as keep the table less than half full.
pub(crate) fn ample_sizes(family: Family, flows: u32) -> TableSizes {
    let mut sizes = default_sizes();
    match family {
        Family::Ipv4 => sizes.ipv4_slots = sizes.ipv4_slots.max((2 * flows).next_power_of_two()),
        Family::Ipv6 => sizes.ipv6_slots = sizes.ipv6_slots.max((2 * flows).next_power_of_two()),
    }
    sizes
}

/// The loaded kernel program and its tables.
pub(crate) struct Tables {
    pub(crate) program: KernelProgram,
    pub(crate) flows: FlowTables,
    pub(crate) epochs: Epochs,
    extensions: Arc<Extensions>,
}

/// Every packet into its flow, with tables for one CPU.
pub(crate) fn settings(sizes: TableSizes, cpu: u32) -> LoadSettings {
    LoadSettings {
        sizes,
        table_cpus: vec![cpu],
        hash_secrets: SECRETS,
        fib_lookup: false,
        keys: KeySettings::default(),
        header_samples: false,
        payloads: None,
        filters: FilterSet::default(),
    }
}

/// What one epoch held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epoch {
    /// Packets the program was run for.
    pub(crate) seen: Count,
    /// Packets that found no slot: spilled or dropped.
    pub(crate) without_slot: u64,
}

impl Tables {
    /// Loads the program with flow tables for `cpu`.
    pub(crate) fn load(sizes: TableSizes, cpu: u32) -> Result<Self> {
        Self::load_with(&settings(sizes, cpu), None)
    }

    /// The same with other settings; packets are sampled if that is wanted.
    pub(crate) fn load_with(settings: &LoadSettings, sampling: Option<Sampling>) -> Result<Self> {
        let (program, tables, epochs) = KernelProgram::load(settings)?;
        let mut flags = 0;
        if let Some(sampling) = sampling {
            program.set_sampling(POINT, sampling, |_| 0);
            flags = INTERFACE_FLAG_SAMPLING;
        }
        // As on a router: the interface of the packet is found at once.
        program.register(LOOPBACK, false, POINT, flags)?;
        Ok(Self { program, flows: tables, epochs, extensions: Arc::new(Extensions::new(LIMIT, 1)) })
    }

    /// Ends the epoch without looking at its flows.
    pub(crate) fn end_epoch(&mut self) -> Result<Epoch> {
        let epoch = self.epochs.advance(&self.flows)?;
        self.drain(epoch, |_| ());
        Ok(self.counters(epoch))
    }

    /// Drains every CPU's tables of a finished epoch.
    pub(crate) fn drain(&self, epoch: u64, mut sink: impl FnMut(Delta)) -> Drained {
        let mut sum = Drained::default();
        let mut numbers = ExtensionNumbers::new(Arc::clone(&self.extensions));
        for position in 0..self.flows.cpu_count() {
            let drained = self.flows.drain(epoch, position, &mut numbers, &mut sink);
            sum.slots_scanned += drained.slots_scanned;
            sum.flows += drained.flows;
            sum.spilled += drained.spilled;
        }
        sum
    }

    /// Takes the counters of a finished epoch.
    pub(crate) fn counters(&self, epoch: u64) -> Epoch {
        let mut sum = Epoch::default();
        for position in 0..self.flows.cpu_count() {
            for (_, counters) in self.flows.take_counters(epoch, position) {
                sum.seen.packets += counters.seen.packets;
                sum.seen.octets += counters.seen.octets;
                let dropped: u64 = counters.dropped.iter().map(|count| count.packets).sum();
                sum.without_slot += counters.spilled.packets + dropped;
            }
        }
        sum
    }
}
