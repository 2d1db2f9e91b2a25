//! Loads the kernel program, makes its tables, attaches it to interfaces.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use aya::maps::{ArrayOfMaps, Map, MapData};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use pathflow_common::flow::{HASH_SECRETS, Ipv4Slot, Ipv6Slot};
use pathflow_common::layout::{
    Control, INTERFACE_PROBES, INTERFACE_SLOTS, OBSERVATION_POINTS, PointCounters, TableHeader, global,
    interface_entry, interface_slot, map, per_cpu_index, program,
};

use super::flow_table::{CpuTables, Epochs, FlowTables, RcuWait};
use super::mapping::{Element, Mapping};
use super::{CaptureError, object, support};
use crate::clock::Clock;

/// `BPF_MAP_TYPE_ARRAY`.
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

/// Sizes of the tables of one CPU and one generation, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// IPv4 flows, a power of two.
    pub ipv4_slots: u32,
    /// IPv6 flows, a power of two.
    pub ipv6_slots: u32,
    /// Packets that found no slot.
    pub spill_slots: u32,
}

impl TableSizes {
    /// Octets of kernel memory for one CPU that has flow tables, both generations.
    #[must_use]
    pub const fn octets_with_tables(&self) -> u64 {
        2 * (self.ipv4_slots as u64 * size_of::<Ipv4Slot>() as u64
            + self.ipv6_slots as u64 * size_of::<Ipv6Slot>() as u64)
            + self.octets_without_tables()
    }

    /// Octets of kernel memory for one CPU that has only a spill log, both generations.
    #[must_use]
    pub const fn octets_without_tables(&self) -> u64 {
        2 * (self.spill_slots as u64 * size_of::<Ipv6Slot>() as u64
            + size_of::<TableHeader>() as u64
            + OBSERVATION_POINTS as u64 * size_of::<PointCounters>() as u64)
    }
}

/// What to load.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// Table sizes.
    pub sizes: TableSizes,
    /// CPUs that get flow tables: those that receive packets. Every other online CPU gets a spill log
    /// only, so that a packet on an unexpected CPU is still merged into its flow.
    pub table_cpus: Vec<u32>,
    /// Secrets of the table hash.
    pub hash_secrets: [u32; HASH_SECRETS],
}

/// The loaded kernel program. Dropping it detaches it everywhere and frees its tables.
#[derive(Debug)]
pub struct KernelProgram {
    ebpf: Ebpf,
    name: &'static str,
    interfaces: Mapping<u64>,
    links: BTreeMap<u32, FdLink>,
}

impl KernelProgram {
    /// Loads the program and makes its tables. Nothing is attached yet.
    ///
    /// # Errors
    /// Whatever keeps the program from running here, by name: a missing capability, a kernel without a
    /// feature, a refused map or program.
    pub fn load(settings: &LoadSettings) -> Result<(Self, FlowTables, Epochs), CaptureError> {
        support::check()?;
        let bytes = object::with_sizes(&settings.sizes)?;
        // The highest number, not the count: numbers may have gaps.
        let cpus = support::possible_cpus()?.last().ok_or(CaptureError::NoCpu)? + 1;
        let mut ebpf = EbpfLoader::new()
            .override_global(global::CPUS, &cpus, true)
            .override_global(global::IPV4_MASK, &(settings.sizes.ipv4_slots - 1), true)
            .override_global(global::IPV6_MASK, &(settings.sizes.ipv6_slots - 1), true)
            .override_global(global::SPILL_SLOTS, &settings.sizes.spill_slots, true)
            .override_global(global::HASH_SECRETS, &settings.hash_secrets, true)
            .map_max_entries(map::HEADERS, 2 * cpus)
            .map_max_entries(map::POINTS, 2 * cpus * OBSERVATION_POINTS)
            .map_max_entries(map::IPV4_TABLES, 2 * cpus)
            .map_max_entries(map::IPV6_TABLES, 2 * cpus)
            .map_max_entries(map::SPILL_LOGS, 2 * cpus)
            .load(&bytes)
            .map_err(|error| load_error("load the kernel object", &error))?;

        let control: Mapping<Control> = map_array(&ebpf, map::CONTROL, 1)?;
        // Epoch 0 is what a slot that was never written carries.
        control.store_first_word(0, 1);
        let headers = map_array(&ebpf, map::HEADERS, 2 * cpus)?;
        let points = map_array(&ebpf, map::POINTS, 2 * cpus * OBSERVATION_POINTS)?;
        let interfaces = map_array(&ebpf, map::INTERFACES, INTERFACE_SLOTS)?;

        let mut ipv4 = take_tables(&mut ebpf, map::IPV4_TABLES)?;
        let mut ipv6 = take_tables(&mut ebpf, map::IPV6_TABLES)?;
        let mut spill = take_tables(&mut ebpf, map::SPILL_LOGS)?;
        let mut tables = Vec::new();
        let mut rcu_table = None;
        let online = support::online_cpus()?;
        for cpu in support::possible_cpus()? {
            let mut make = |generation| -> Result<CpuTables, CaptureError> {
                let index = per_cpu_index(generation, cpus, cpu);
                let mut cpu_tables = CpuTables { index, ipv4: None, ipv6: None, spill: None };
                if online.contains(&cpu) {
                    let (log_map, log) = inner(&mut spill, index, settings.sizes.spill_slots)?;
                    cpu_tables.spill = Some(log);
                    rcu_table.get_or_insert((index, log_map));
                }
                if online.contains(&cpu) && settings.table_cpus.contains(&cpu) {
                    cpu_tables.ipv4 = Some(inner(&mut ipv4, index, settings.sizes.ipv4_slots)?.1);
                    cpu_tables.ipv6 = Some(inner(&mut ipv6, index, settings.sizes.ipv6_slots)?.1);
                }
                Ok(cpu_tables)
            };
            tables.push((cpu, [make(0)?, make(1)?]));
        }
        let (rcu_index, rcu_map) = rcu_table.ok_or(CaptureError::NoCpu)?;

        let name = load_program(&mut ebpf)?;
        let rcu = RcuWait { outer: spill, index: rcu_index, inner: rcu_map };
        let (tables, epochs) =
            FlowTables::new(control, headers, points, tables, rcu, Clock::tick_nanoseconds());
        Ok((Self { ebpf, name, interfaces, links: BTreeMap::new() }, tables, epochs))
    }

    /// Name of the program in use: `pathflow_frags`, or `pathflow_xdp` where the kernel has no
    /// multi-buffer XDP.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The messages of the kernel program, to be read as long as it runs.
    ///
    /// # Errors
    /// [`CaptureError::Object`] if the object was built without them.
    #[cfg(feature = "kernel-log")]
    pub fn log(&mut self) -> Result<super::KernelLog, CaptureError> {
        super::KernelLog::new(&mut self.ebpf)
    }

    /// The loaded program, for `BPF_PROG_TEST_RUN` in tests and benchmarks.
    ///
    /// # Errors
    /// [`CaptureError::Object`] if the object has no such program.
    pub fn xdp(&mut self) -> Result<&mut Xdp, CaptureError> {
        xdp(&mut self.ebpf, self.name)
    }

    /// Gives packets of `interface_index` the number `observation_point`.
    ///
    /// # Errors
    /// [`CaptureError::TooManyInterfaces`] if the table has no place near the index.
    pub fn register(&self, interface_index: u32, observation_point: u16) -> Result<(), CaptureError> {
        for probe in 0..INTERFACE_PROBES {
            let index = interface_slot(interface_index, probe) as usize;
            let entry = self.interfaces.first_word(index);
            if entry == 0 || entry as u32 == interface_index {
                self.interfaces.store_first_word(index, interface_entry(interface_index, observation_point));
                return Ok(());
            }
        }
        Err(CaptureError::TooManyInterfaces { limit: OBSERVATION_POINTS - 1 })
    }

    /// Attaches to an interface in native mode. The attachment ends with this process, however it ends.
    ///
    /// # Errors
    /// [`CaptureError::Busy`] if the interface has an XDP program, which stays untouched;
    /// [`CaptureError::NoNativeXdp`] if its driver cannot run one.
    pub fn attach(&mut self, interface: &str, interface_index: u32) -> Result<(), CaptureError> {
        let xdp = xdp(&mut self.ebpf, self.name)?;
        let id = xdp
            .attach_to_if_index(interface_index, XdpMode::Driver)
            .map_err(|error| attach_error(interface, interface_index, &error))?;
        let link = xdp.take_link(id).map_err(|error| attach_error(interface, interface_index, &error))?;
        // A link that is not a file descriptor would outlive a killed process.
        let link = FdLink::try_from(link).map_err(|error| CaptureError::Attach {
            interface: interface.to_owned(),
            reason: error.to_string(),
        })?;
        self.links.insert(interface_index, link);
        Ok(())
    }

    /// Detaches from every interface. The tables stay, to be drained.
    pub fn detach(&mut self) {
        self.links.clear();
    }
}

fn map_array<T: Element>(ebpf: &Ebpf, name: &'static str, length: u32) -> Result<Mapping<T>, CaptureError> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(CaptureError::Object(format!("no array {name}")));
    };
    Mapping::new(data.fd().as_fd(), length)
        .map_err(|error| CaptureError::Map { name, reason: error.to_string() })
}

type OuterTable = ArrayOfMaps<MapData, MapData>;

fn take_tables(ebpf: &mut Ebpf, name: &'static str) -> Result<OuterTable, CaptureError> {
    ebpf.take_map(name)
        .ok_or_else(|| CaptureError::Object(format!("no array of maps {name}")))?
        .try_into()
        .map_err(|error: aya::maps::MapError| CaptureError::Map { name, reason: error.to_string() })
}

fn inner<T: Element>(
    outer: &mut OuterTable,
    index: u32,
    slots: u32,
) -> Result<(MapData, Mapping<T>), CaptureError> {
    let name = "flow table";
    let definition = aya_obj::Map::new_from_params(
        MAP_TYPE_ARRAY,
        size_of::<u32>() as u32,
        size_of::<T>() as u32,
        slots,
        MMAPABLE,
    );
    let map = MapData::create(definition, "pathflow_table", None)
        .map_err(|error| CaptureError::Map { name, reason: full(&error) })?;
    let mapping = Mapping::new(map.fd().as_fd(), slots)
        .map_err(|error| CaptureError::Map { name, reason: error.to_string() })?;
    outer.set(index, &map, 0).map_err(|error| CaptureError::Map { name, reason: full(&error) })?;
    Ok((map, mapping))
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, CaptureError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| CaptureError::Object(format!("no XDP program {name}")))
}

/// Loads the multi-buffer program, or the plain one where the kernel has no multi-buffer XDP.
fn load_program(ebpf: &mut Ebpf) -> Result<&'static str, CaptureError> {
    if xdp(ebpf, program::XDP_FRAGS)?.load().is_ok() {
        return Ok(program::XDP_FRAGS);
    }
    xdp(ebpf, program::XDP)?.load().map_err(|error| match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            CaptureError::Refused { reason: io_error.to_string(), log: verifier_log.to_string() }
        }
        other => CaptureError::Refused { reason: full(&other), log: String::new() },
    })?;
    Ok(program::XDP)
}

fn load_error(step: &'static str, error: &EbpfError) -> CaptureError {
    CaptureError::Load { step, reason: full(error) }
}

fn attach_error(interface: &str, interface_index: u32, error: &ProgramError) -> CaptureError {
    let code = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::EBUSY | libc::EEXIST) => CaptureError::Busy {
            interface: interface.to_owned(),
            program: support::attached_program(interface_index),
        },
        Some(libc::EOPNOTSUPP) => CaptureError::NoNativeXdp { interface: interface.to_owned() },
        Some(libc::ENODEV) => CaptureError::NoInterface { interface: interface.to_owned() },
        _ => CaptureError::Attach { interface: interface.to_owned(), reason: full(error) },
    }
}

/// An error with its causes on one line.
fn full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
