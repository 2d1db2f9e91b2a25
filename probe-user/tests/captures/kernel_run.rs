//! The loaded kernel program, run over frames by the kernel without an interface (`BPF_PROG_TEST_RUN`).

use aya::programs::{TestRun as _, TestRunOptions};
use pathflow::capture::{Epochs, FlowTables, KernelProgram, LoadSettings, TableSizes, receiving_cpus};
use pathflow_common::flow::HASH_SECRETS;
use pathflow_common::layout::{Count, OBSERVATION_POINTS};

use crate::host::{FIRST_BUFFER, Totals};

/// The longest frame that the kernel takes: the first buffer and 17 pages.
pub(crate) const LONGEST: usize = FIRST_BUFFER + 17 * 4096;
/// The shortest one: an Ethernet header.
pub(crate) const SHORTEST: usize = 14;
/// `XDP_PASS`.
const PASS: u32 = 2;

/// A loaded program with its tables. Nothing is attached to any interface.
pub(crate) struct Kernel {
    program: KernelProgram,
    tables: FlowTables,
    epochs: Epochs,
}

/// What a drain of the tables gave.
#[derive(Default)]
pub(crate) struct Drained {
    pub(crate) totals: Totals,
    /// Packets by way of the spill log, as counted.
    pub(crate) spilled: Count,
}

impl Kernel {
    /// Loads the program with tables for every CPU.
    ///
    /// # Panics
    /// If this process may not, or this kernel cannot.
    pub(crate) fn load(sizes: TableSizes) -> Self {
        // An interface that does not exist has no interrupts of its own: every CPU.
        let table_cpus = receiving_cpus(&[]);
        let hash_secrets: [u32; HASH_SECRETS] =
            std::array::from_fn(|index| 0x9e37_79b9_u32.wrapping_mul(2 * index as u32 + 1));
        match KernelProgram::load(&LoadSettings { sizes, table_cpus, hash_secrets }) {
            Ok((program, tables, epochs)) => Self { program, tables, epochs },
            Err(error) => panic!("this test runs the kernel program, which needs root: {error}"),
        }
    }

    /// Name of the loaded program.
    pub(crate) fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Numbers an interface, as the daemon does.
    pub(crate) fn register(&self, interface_index: u32, observation_point: u16) {
        self.program.register(interface_index, observation_point).expect("a place in the interface table");
    }

    /// Runs the program over one frame, which the kernel makes arrive on the loopback interface.
    ///
    /// # Errors
    /// If the kernel refuses the frame.
    ///
    /// # Panics
    /// If the program does not pass the frame on.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Result<(), String> {
        let xdp = self.program.xdp().expect("the loaded program");
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        let result = xdp.test_run(options).map_err(|error| format!("{error:?}"))?;
        assert_eq!(result.return_value, PASS, "every frame is passed on");
        Ok(())
    }

    /// Ends the epoch and takes everything out of its tables.
    ///
    /// # Panics
    /// If the kernel refuses, or if its own counters do not add up.
    pub(crate) fn drain(&mut self) -> Drained {
        let epoch = self.epochs.advance(&self.tables).expect("a new epoch");
        let mut drained = Drained::default();
        for position in 0..self.tables.cpu_count() {
            for (point, counters) in self.tables.take_counters(epoch, position) {
                assert!(u32::from(point) < OBSERVATION_POINTS);
                drained.totals.add_seen(point, counters.seen);
                for (reason, count) in counters.dropped.into_iter().enumerate() {
                    drained.totals.add_dropped(point, reason, count);
                }
                drained.spilled.packets += counters.spilled.packets;
                drained.spilled.octets += counters.spilled.octets;
            }
            self.tables.drain(epoch, position, |delta| {
                drained.totals.add_flow(delta.key, delta.packets, delta.octets, delta.tcp_control_bits);
            });
        }
        drained
    }
}
