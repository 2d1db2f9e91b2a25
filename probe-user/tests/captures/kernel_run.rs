//! The loaded kernel program, run over frames by the kernel without an interface (`BPF_PROG_TEST_RUN`).

use std::sync::Arc;

use aya::maps::{HashMap, Map, MapData, MapInfo};
use aya::programs::{ProgramError, TestRun, TestRunOptions, TestRunResult};
use pathflow::capture::{
    Epochs, ExtensionNumbers, Filter, FilterSet, FlowTables, KernelProgram, LoadSettings, TableSizes,
    receiving_cpus,
};
use pathflow::metering::packets::KeySettings;
use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Datagram, DatagramPorts, HASH_SECRETS};
use pathflow_common::layout::{Count, OBSERVATION_POINTS, map};

use crate::host::{FIRST_BUFFER, Totals, View, extensions, in_first_buffer};

/// Where the kernel has the program meet a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Xdp,
    TcIngress,
    TcEgress,
}

impl Hook {
    /// The longest frame that the kernel takes.
    pub(crate) const fn longest(self) -> usize {
        match self {
            // The first buffer and 17 pages.
            Self::Xdp => FIRST_BUFFER + 17 * 4096,
            // A page less 64 octets of headroom and 320 for what describes pages beside it.
            Self::TcIngress | Self::TcEgress => 3712,
        }
    }

    /// Whether the kernel takes a frame that is not too long. In tc it wants something behind the Ethernet
    /// header, and the whole fixed header of IP directly behind it.
    pub(crate) fn takes(self, frame: &[u8]) -> bool {
        let is_tc = self != Self::Xdp;
        match frame.get(12..14) {
            None => false,
            Some([0x08, 0x00]) if is_tc => frame.len() >= 14 + 20,
            Some([0x86, 0xdd]) if is_tc => frame.len() >= 14 + 40,
            Some(_) => !is_tc || frame.len() > 14,
        }
    }

    /// What the program can read of a frame.
    pub(crate) fn view(self, frame: &[u8]) -> SliceFrame<'_> {
        match self {
            Self::Xdp => in_first_buffer(frame),
            Self::TcIngress | Self::TcEgress => SliceFrame::new(frame),
        }
    }

    /// What the program returns: `XDP_PASS`, or `TC_ACT_UNSPEC`, by which others may have it too.
    const fn pass(self) -> u32 {
        match self {
            Self::Xdp => 2,
            Self::TcIngress | Self::TcEgress => -1_i32 as u32,
        }
    }
}

/// A loaded program with its tables. Nothing is attached to any interface.
pub(crate) struct Kernel {
    hook: Hook,
    program: KernelProgram,
    datagrams: Datagrams,
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
    pub(crate) fn load(sizes: TableSizes, hook: Hook, view: View) -> Self {
        Self::load_with(sizes, hook, view, FilterSet::default())
    }

    /// The same with filters.
    ///
    /// # Panics
    /// As [`Kernel::load`].
    pub(crate) fn load_with(sizes: TableSizes, hook: Hook, view: View, filters: FilterSet) -> Self {
        // An interface that does not exist has no interrupts of its own: every CPU.
        let table_cpus = receiving_cpus(&[]);
        let hash_secrets: [u32; HASH_SECRETS] =
            std::array::from_fn(|index| 0x9e37_79b9_u32.wrapping_mul(2 * index as u32 + 1));
        let settings = LoadSettings {
            sizes,
            table_cpus,
            hash_secrets,
            fib_lookup: false,
            keys: view.settings(),
            header_samples: false,
            payloads: None,
            filters,
        };
        match KernelProgram::load(&settings) {
            Ok((mut program, tables, epochs)) => {
                let datagrams = datagrams(&mut program);
                Self { hook, program, datagrams, tables, epochs }
            }
            Err(error) => panic!("this test runs the kernel program, which needs root: {error}"),
        }
    }

    /// The kernel takes every program with everything that can be asked for at once.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn load_with_everything(sizes: TableSizes, view: View) {
        let filter = Filter::compile("tcp port 80 and (vlan or ip6 or mpls)").expect("a filter");
        let settings = LoadSettings {
            sizes,
            table_cpus: receiving_cpus(&[]),
            hash_secrets: [1; HASH_SECRETS],
            fib_lookup: true,
            keys: KeySettings { vlan_priority: true, ..view.settings() },
            header_samples: true,
            payloads: None,
            filters: FilterSet::new(Some(filter)),
        };
        let (mut program, _tables, _epochs) = KernelProgram::load(&settings).expect("XDP");
        program.classifier(false).expect("tc, in");
        program.classifier(true).expect("tc, out");
    }

    /// Where it meets frames.
    pub(crate) fn hook(&self) -> Hook {
        self.hook
    }

    /// Name of the loaded program.
    pub(crate) fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Numbers an interface, as the daemon does.
    pub(crate) fn register(&self, interface_index: u32, observation_point: u16, flags: u16) {
        let egress = self.hook == Hook::TcEgress;
        self.program
            .register(interface_index, egress, observation_point, flags)
            .expect("a place in the interface table");
    }

    /// Runs the program over one frame of the loopback interface.
    ///
    /// # Errors
    /// If the kernel refuses the frame.
    ///
    /// # Panics
    /// If the program does not pass the frame on.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Result<(), String> {
        self.run_with(frame, None)
    }

    /// The same with a context: a `struct __sk_buff` of as many fields as wanted.
    ///
    /// # Errors
    /// If the kernel refuses the frame or the context.
    ///
    /// # Panics
    /// If the program does not pass the frame on.
    pub(crate) fn run_with(&mut self, frame: &[u8], context: Option<&[u8]>) -> Result<(), String> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.ctx_in = context;
        let result = match self.hook {
            Hook::Xdp => test_run(self.program.xdp().expect("the loaded program"), options),
            Hook::TcIngress => test_run(self.program.classifier(false).expect("the program"), options),
            Hook::TcEgress => test_run(self.program.classifier(true).expect("the program"), options),
        };
        let result = result.map_err(|error| format!("{error:?}"))?;
        assert_eq!(result.return_value, self.hook.pass(), "every frame is passed on");
        Ok(())
    }

    /// Ends the epoch, takes everything out of its tables, and has the program forget all fragments.
    ///
    /// # Panics
    /// If the kernel refuses, or if its own counters do not add up.
    pub(crate) fn drain(&mut self) -> Drained {
        let epoch = self.epochs.advance(&self.tables).expect("a new epoch");
        let mut drained = Drained::default();
        let mut numbers = ExtensionNumbers::new(Arc::clone(extensions()));
        for position in 0..self.tables.cpu_count() {
            for (point, counters) in self.tables.take_counters(epoch, position) {
                assert!(u32::from(point) < OBSERVATION_POINTS);
                drained.totals.add_seen(point, counters.seen);
                for (reason, count) in counters.dropped.into_iter().enumerate() {
                    drained.totals.add_dropped(point, reason, count);
                }
                assert_eq!(counters.without_extension, 0, "there is room for every extension");
                drained.spilled.packets += counters.spilled.packets;
                drained.spilled.octets += counters.spilled.octets;
            }
            self.tables.drain(epoch, position, &mut numbers, |delta| {
                drained.totals.add_flow(delta.key, delta.packets, delta.octets, delta.tcp_control_bits);
            });
        }
        assert_eq!(numbers.take_without().count(), 0, "every extension has its number");
        let keys: Vec<_> = self.datagrams.keys().collect::<Result<_, _>>().expect("the datagrams");
        for key in keys {
            self.datagrams.remove(&key).expect("a datagram");
        }
        drained
    }
}

/// The kernel's table of datagrams in fragments, key and value as they lie in memory.
type Datagrams = HashMap<MapData, [u8; size_of::<Datagram>()], [u8; size_of::<DatagramPorts>()]>;

/// The program's own such table.
fn datagrams(program: &mut KernelProgram) -> Datagrams {
    let info = program.xdp().expect("the loaded program").info().expect("what the kernel says of it");
    let ids = info.map_ids().expect("a list of its maps").unwrap_or_default();
    let is_wanted =
        |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(map::DATAGRAMS));
    let id = ids.into_iter().find(is_wanted).expect("the table of datagrams");
    let data = MapData::from_id(id).expect("the table of datagrams");
    Datagrams::try_from(Map::LruHashMap(data)).expect("a table with these sizes")
}

fn test_run<P>(program: &P, options: TestRunOptions<'_>) -> Result<TestRunResult, ProgramError>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    program.test_run(options)
}
