//! Loads the kernel program, makes its tables, attaches it to interfaces.

use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{ArrayOfMaps, Map, MapData};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use pathflow_common::flow::{DATAGRAM_SECONDS, HASH_SECRETS, Ipv4Slot, WideSlot};
use pathflow_common::layout::{
    Control, INTERFACE_PROBES, INTERFACE_SLOTS, OBSERVATION_POINTS, PointCounters, Sampling, SamplingState,
    TableHeader, VXLAN_PORTS, global, interface_entry, interface_key, interface_slot, map, per_cpu_index,
    point_index, program,
};

use super::attachment::Attachments;
use super::extension_table::{self, ExtensionTable};
use super::filter::FilterSet;
use super::flow_table::{CpuTables, Epochs, FlowTables, RcuWait, TableMaps};
use super::mapping::{Element, Mapping};
use super::payloads::{PayloadStates, Payloads};
use super::pin::{LinkPins, Place, Run, name as pin};
use super::{CaptureError, HeaderSamples, object, support};
use crate::clock::Clock;
use crate::metering::packets::KeySettings;

/// `BPF_MAP_TYPE_ARRAY`.
pub(super) const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_F_MMAPABLE`.
pub(super) const MMAPABLE: u32 = 1 << 10;

/// Sizes of the tables of one CPU and one generation, in slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// IPv4 flows, a power of two.
    pub ipv4_slots: u32,
    /// IPv6 flows, and IPv4 ones below a label or in a tunnel; a power of two.
    pub ipv6_slots: u32,
    /// Packets that found no slot.
    pub spill_slots: u32,
}

impl TableSizes {
    /// Octets of kernel memory for one CPU that has flow tables, both generations.
    #[must_use]
    pub const fn octets_with_tables(&self) -> u64 {
        2 * (self.ipv4_slots as u64 * size_of::<Ipv4Slot>() as u64
            + self.ipv6_slots as u64 * size_of::<WideSlot>() as u64)
            + self.octets_without_tables()
    }

    /// Octets of kernel memory for one CPU that has only a spill log, both generations.
    #[must_use]
    pub const fn octets_without_tables(&self) -> u64 {
        2 * (self.spill_slots as u64 * size_of::<WideSlot>() as u64
            + size_of::<TableHeader>() as u64
            + 2 * OBSERVATION_POINTS as u64 * size_of::<PointCounters>() as u64)
            + OBSERVATION_POINTS as u64 * size_of::<SamplingState>() as u64
    }
}

/// What user space gets of packets with payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadSettings {
    /// So many of each flow and epoch.
    pub packets: u32,
    /// So many octets of each.
    pub octets: u32,
    /// So many of one CPU in one epoch at most.
    pub budget: u32,
    /// Flows, a power of two, of which it can be said that no more of their packets are wanted.
    pub done: u32,
    /// How long that holds.
    pub kept: Duration,
}

impl PayloadSettings {
    /// Nothing.
    const NONE: Self = Self { packets: 0, octets: 0, budget: 0, done: 1, kept: Duration::ZERO };
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
    /// Whether the routing table is asked for egress interface and next hop of new flows.
    pub fib_lookup: bool,
    /// What the key of a packet is.
    pub keys: KeySettings,
    /// Whether header samples may be wanted.
    pub header_samples: bool,
    /// Whether, and what, user space gets of the first packets of flows.
    pub payloads: Option<PayloadSettings>,
    /// Packets to account, and what else is asked of them.
    pub filters: FilterSet,
}

/// Lookups in the routing table of one CPU in one epoch at most. A flood of new flows in a second costs no
/// more than this, which is about 10 ms.
const FIB_BUDGET: u32 = 65_536;
/// Octets of the ring of header samples: 6,000 of them.
const RING_OCTETS: u32 = 1 << 20;
/// What the ring is if there are none: it cannot be absent. A page of the largest size there is.
const NO_RING_OCTETS: u32 = 1 << 16;

/// Octets of the ring that tells of new extensions: 50,000 of them.
const EXTENSION_NEWS_OCTETS: u32 = 1 << 23;

/// The loaded kernel program. Dropping it detaches it everywhere and frees its tables.
#[derive(Debug)]
pub struct KernelProgram {
    ebpf: Ebpf,
    names: ProgramNames,
    interfaces: Mapping<u64>,
    sampling: Mapping<Sampling>,
    sampling_states: Mapping<SamplingState>,
    cpus: Vec<u32>,
    attachments: Attachments,
    /// Observation points, for a later run.
    places: Option<Mapping<Place>>,
    /// Open, because programs that are loaded later refer to them by file descriptor.
    _tables: [OuterTable; 2],
}

impl KernelProgram {
    /// Loads the program and makes its tables. Nothing is attached yet.
    ///
    /// # Errors
    /// Whatever keeps the program from running here, by name: a missing capability, a kernel without a
    /// feature, a refused map or program.
    pub fn load(settings: &LoadSettings) -> Result<(Self, FlowTables, Epochs), CaptureError> {
        Self::load_pinned(settings, None)
    }

    /// The same; if there is a `run`, everything that another one needs to go on from here is pinned.
    ///
    /// # Errors
    /// As [`load`](Self::load), and if something cannot be pinned.
    pub fn load_pinned(
        settings: &LoadSettings,
        run: Option<&Run>,
    ) -> Result<(Self, FlowTables, Epochs), CaptureError> {
        support::check()?;
        let mut bytes = object::with_sizes(&settings.sizes)?;
        if !settings.filters.is_empty() {
            bytes = object::with_filters(bytes, &settings.filters)?;
        }
        // The highest number, not the count: numbers may have gaps.
        let possible = support::possible_cpus()?;
        let cpus = possible.last().ok_or(CaptureError::NoCpu)? + 1;
        let tick = Clock::tick_nanoseconds();
        let datagram_ticks = (u64::from(DATAGRAM_SECONDS) * 1_000_000_000 / tick) as u32;
        let ring = if settings.header_samples { RING_OCTETS } else { NO_RING_OCTETS };
        let payloads = settings.payloads.unwrap_or(PayloadSettings::NONE);
        let extension = &settings.keys.extension;
        let (held, news) = if extension.is_any() {
            (extension_table::HELD, EXTENSION_NEWS_OCTETS)
        } else {
            (1, NO_RING_OCTETS)
        };
        let mut ebpf = EbpfLoader::new()
            .override_global(global::FIB_LOOKUP, &u32::from(settings.fib_lookup), true)
            .override_global(global::FIB_BUDGET, &FIB_BUDGET, true)
            .override_global(global::INNER, &u32::from(settings.keys.inner), true)
            .override_global(global::VXLAN_PORTS, &vxlan_ports(&settings.keys), true)
            .override_global(global::VLAN_PRIORITY, &u32::from(settings.keys.vlan_priority), true)
            .override_global(global::EXTENSION_INNER, &u32::from(extension.inner), true)
            .override_global(global::EXTENSION_LABELS, &u32::from(extension.labels), true)
            .override_global(global::CHOSEN, &extension.chosen_words(), true)
            .override_global(global::CHOSEN_REACH, &extension.reach(), true)
            .map_max_entries(map::EXTENSIONS, held)
            .map_max_entries(map::EXTENSION_NEWS, news)
            .map_max_entries(map::EXTENSION_STATES, cpus)
            .override_global(global::PAYLOAD_PACKETS, &payloads.packets, true)
            .override_global(global::PAYLOAD_OCTETS, &payloads.octets, true)
            .override_global(global::PAYLOAD_BUDGET, &payloads.budget, true)
            .override_global(global::PAYLOAD_MASK, &(payloads.done - 1), true)
            .map_max_entries(map::PAYLOAD_DONE, payloads.done)
            .map_max_entries(map::PAYLOAD_STATES, cpus)
            .override_global(global::DATAGRAM_TICKS, &datagram_ticks, true)
            .map_max_entries(map::HEADER_SAMPLES, ring)
            .map_max_entries(map::SAMPLING_STATES, cpus * OBSERVATION_POINTS)
            .override_global(global::CPUS, &cpus, true)
            .override_global(global::IPV4_MASK, &(settings.sizes.ipv4_slots - 1), true)
            .override_global(global::WIDE_MASK, &(settings.sizes.ipv6_slots - 1), true)
            .override_global(global::SPILL_SLOTS, &settings.sizes.spill_slots, true)
            .override_global(global::HASH_SECRETS, &settings.hash_secrets, true)
            .override_global(global::FILTER, &u32::from(!settings.filters.is_empty()), true)
            .map_max_entries(map::HEADERS, 2 * cpus)
            .map_max_entries(map::POINTS, 2 * cpus * OBSERVATION_POINTS)
            .map_max_entries(map::IPV4_TABLES, 2 * cpus)
            .map_max_entries(map::WIDE_TABLES, 2 * cpus)
            .map_max_entries(map::SPILL_LOGS, 2 * cpus)
            .load(&bytes)
            .map_err(|error| load_error("load the kernel object", &error))?;

        let control: Mapping<Control> = map_array(&ebpf, map::CONTROL, 1)?;
        // Epoch 0 is what a slot that was never written carries.
        control.store_first_word(0, 1);
        let headers = map_array(&ebpf, map::HEADERS, 2 * cpus)?;
        let points = map_array(&ebpf, map::POINTS, 2 * cpus * OBSERVATION_POINTS)?;
        let interfaces = map_array(&ebpf, map::INTERFACES, INTERFACE_SLOTS)?;
        let sampling = map_array(&ebpf, map::SAMPLING, OBSERVATION_POINTS)?;
        let sampling_states = map_array(&ebpf, map::SAMPLING_STATES, cpus * OBSERVATION_POINTS)?;
        for (name, pin_name) in [
            (map::CONTROL, pin::CONTROL),
            (map::HEADERS, pin::HEADERS),
            (map::POINTS, pin::POINTS),
            (map::DATAGRAMS, pin::DATAGRAMS),
            (map::EXTENSIONS, pin::EXTENSIONS),
        ] {
            if let (Some(run), Some(map)) = (run, ebpf.map(name)) {
                run.pin(pin_name, |path| map.pin(path))?;
            }
        }
        let taken = array(pin::TAKEN, 2 * cpus * OBSERVATION_POINTS, run)?;
        let claims = array(pin::CLAIMS, 2 * cpus, run)?;
        let places = run.map(|run| array(pin::PLACES, OBSERVATION_POINTS, Some(run))).transpose()?;
        let datagrams = take_map(&mut ebpf, map::DATAGRAMS)?;
        let news = take_map(&mut ebpf, map::EXTENSION_NEWS)?;
        let extensions = ExtensionTable::new(take_map(&mut ebpf, map::EXTENSIONS)?, Some(news));

        let mut ipv4: OuterTable = take_map(&mut ebpf, map::IPV4_TABLES)?;
        let mut wide: OuterTable = take_map(&mut ebpf, map::WIDE_TABLES)?;
        let mut spill: OuterTable = take_map(&mut ebpf, map::SPILL_LOGS)?;
        let mut tables = Vec::new();
        let mut rcu_table = None;
        let online = support::online_cpus()?;
        for &cpu in &possible {
            let mut make = |generation| -> Result<CpuTables, CaptureError> {
                let index = per_cpu_index(generation, cpus, cpu);
                let mut cpu_tables = CpuTables { index, ipv4: None, wide: None, spill: None };
                if online.contains(&cpu) {
                    let (log_map, log) =
                        inner(&mut spill, index, settings.sizes.spill_slots, run, pin::SPILL)?;
                    cpu_tables.spill = Some(log);
                    rcu_table.get_or_insert((index, log_map));
                }
                if online.contains(&cpu) && settings.table_cpus.contains(&cpu) {
                    let (ipv4_slots, wide_slots) = (settings.sizes.ipv4_slots, settings.sizes.ipv6_slots);
                    cpu_tables.ipv4 = Some(inner(&mut ipv4, index, ipv4_slots, run, pin::IPV4)?.1);
                    cpu_tables.wide = Some(inner(&mut wide, index, wide_slots, run, pin::WIDE)?.1);
                }
                Ok(cpu_tables)
            };
            tables.push((cpu, [make(0)?, make(1)?]));
        }
        let (rcu_index, rcu_map) = rcu_table.ok_or(CaptureError::NoCpu)?;

        let names = ProgramNames::load(&mut ebpf, settings.keys.extension.is_any())?;
        let rcu = RcuWait { outer: spill, index: rcu_index, inner: rcu_map };
        let maps = TableMaps { control, headers, points, taken, claims, datagrams, extensions };
        let tables = FlowTables::new(maps, tables, tick);
        let epochs = Epochs::new(tables.epoch(), rcu);
        let program = Self {
            ebpf,
            names,
            interfaces,
            sampling,
            sampling_states,
            cpus: possible,
            attachments: Attachments::default(),
            places,
            _tables: [ipv4, wide],
        };
        Ok((program, tables, epochs))
    }

    /// Name of the program in use: `pathflow_frags`, or `pathflow_xdp` where the kernel has no
    /// multi-buffer XDP; `pathflow_efrags` or `pathflow_exdp` where keys are extended.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.names.xdp
    }

    /// The header samples that the kernel program sends; to be called once.
    ///
    /// # Errors
    /// [`CaptureError::Map`] if the ring cannot be read.
    pub fn header_samples(&mut self) -> Result<HeaderSamples, CaptureError> {
        Ok(HeaderSamples::new(take_map(&mut self.ebpf, map::HEADER_SAMPLES)?))
    }

    /// The first packets of flows, which the kernel program sends because it was loaded with these settings, and what it
    /// counts of them; to be called once.
    ///
    /// # Errors
    /// [`CaptureError::Map`] if the buffers cannot be read.
    pub fn payloads(
        &mut self,
        settings: &PayloadSettings,
    ) -> Result<(Payloads, PayloadStates), CaptureError> {
        let cpus = self.cpus.last().map_or(0, |last| last + 1);
        let states = PayloadStates::new(map_array(&self.ebpf, map::PAYLOAD_STATES, cpus)?);
        let done = map_array(&self.ebpf, map::PAYLOAD_DONE, settings.done)?;
        Ok((Payloads::open(take_map(&mut self.ebpf, map::PAYLOADS)?, done, settings.kept)?, states))
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
        xdp(&mut self.ebpf, self.names.xdp)
    }

    /// A tc program, loaded if it was not yet, for `BPF_PROG_TEST_RUN` in tests and benchmarks.
    ///
    /// # Errors
    /// [`CaptureError::Object`] if the object has no such program, [`CaptureError::Refused`] if the kernel
    /// refuses it.
    pub fn classifier(&mut self, egress: bool) -> Result<&mut SchedClassifier, CaptureError> {
        classifier(&mut self.ebpf, if egress { self.names.tc_egress } else { self.names.tc_ingress })
    }

    /// Gives packets of an interface in one direction the number `observation_point`, at once and whatever
    /// they had before. `flags` are `INTERFACE_FLAG_*`.
    ///
    /// # Errors
    /// [`CaptureError::TooManyInterfaces`] if the table has no place near the index.
    pub fn register(
        &self,
        interface_index: u32,
        egress: bool,
        observation_point: u16,
        flags: u16,
    ) -> Result<(), CaptureError> {
        let key = interface_key(interface_index, egress);
        let places = || (0..INTERFACE_PROBES).map(|probe| interface_slot(key, probe) as usize);
        let place = places()
            .find(|place| self.interfaces.first_word(*place) as u32 == key)
            .or_else(|| places().find(|place| self.interfaces.first_word(*place) == 0))
            .ok_or(CaptureError::TooManyInterfaces { limit: OBSERVATION_POINTS - 1 })?;
        self.interfaces.store_first_word(place, interface_entry(key, observation_point, flags));
        Ok(())
    }

    /// Packets of the interface in this direction are those of no registered interface from now on.
    pub fn unregister(&self, interface_index: u32, egress: bool) {
        let key = interface_key(interface_index, egress);
        for probe in 0..INTERFACE_PROBES {
            let place = interface_slot(key, probe) as usize;
            if self.interfaces.first_word(place) as u32 == key {
                self.interfaces.store_first_word(place, 0);
            }
        }
    }

    /// Says what an observation point is, for a later run. To be called before the point is registered.
    pub fn describe(&self, observation_point: u16, place: Place) {
        if let Some(places) = &self.places {
            places.write(observation_point as usize, place);
        }
    }

    /// Pinned links are taken over from now on, and new ones pinned if this run is.
    pub fn use_pins(&mut self, pins: LinkPins) {
        self.attachments.use_pins(pins);
    }

    /// Sets how packets of a point are sampled. To be called before the point is registered: `first` gives
    /// each CPU the distances to its first selected packets.
    pub fn set_sampling(
        &self,
        observation_point: u16,
        sampling: Sampling,
        mut first: impl FnMut(u32) -> u32,
    ) {
        self.sampling.write(observation_point as usize, sampling);
        for cpu in &self.cpus {
            let state = SamplingState {
                skip: first(sampling.interval.max(1)),
                header_skip: first(sampling.header_interval.max(1)),
                ..SamplingState::default()
            };
            self.sampling_states.write(point_index(*cpu, observation_point) as usize, state);
        }
    }

    /// What is attached.
    pub(super) fn attachments(&self) -> &Attachments {
        &self.attachments
    }

    /// What it takes to attach.
    pub(super) fn parts(&mut self) -> (&mut Ebpf, ProgramNames, &mut Attachments) {
        (&mut self.ebpf, self.names, &mut self.attachments)
    }
}

fn map_array<T: Element>(ebpf: &Ebpf, name: &'static str, length: u32) -> Result<Mapping<T>, CaptureError> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        return Err(CaptureError::Object(format!("no array {name}")));
    };
    Mapping::new(data.fd().as_fd(), length)
        .map_err(|error| CaptureError::Map { name, reason: error.to_string() })
}

/// An mmapable array of user space's own.
pub(super) fn array<T: Element>(
    name: &'static str,
    length: u32,
    run: Option<&Run>,
) -> Result<Mapping<T>, CaptureError> {
    Ok(new_array("pathflow_own", name, length, run, name)?.1)
}

pub(super) fn new_array<T: Element>(
    map_name: &str,
    name: &'static str,
    length: u32,
    run: Option<&Run>,
    pin_name: &str,
) -> Result<(MapData, Mapping<T>), CaptureError> {
    let value = size_of::<T>() as u32;
    let definition =
        aya_obj::Map::new_from_params(MAP_TYPE_ARRAY, size_of::<u32>() as u32, value, length, MMAPABLE);
    let map = MapData::create(definition, map_name, None)
        .map_err(|error| CaptureError::Map { name, reason: full(&error) })?;
    let mapping = Mapping::new(map.fd().as_fd(), length)
        .map_err(|error| CaptureError::Map { name, reason: error.to_string() })?;
    if let Some(run) = run {
        run.pin(pin_name, |path| map.pin(path))?;
    }
    Ok((map, mapping))
}

type OuterTable = ArrayOfMaps<MapData, MapData>;

fn take_map<T: TryFrom<Map, Error = aya::maps::MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, CaptureError> {
    ebpf.take_map(name)
        .ok_or_else(|| CaptureError::Object(format!("no map {name}")))?
        .try_into()
        .map_err(|error| CaptureError::Map { name, reason: full(&error) })
}

fn inner<T: Element>(
    outer: &mut OuterTable,
    index: u32,
    slots: u32,
    run: Option<&Run>,
    prefix: &str,
) -> Result<(MapData, Mapping<T>), CaptureError> {
    let name = "flow table";
    let (map, mapping) = new_array("pathflow_table", name, slots, run, &format!("{prefix}{index}"))?;
    outer.set(index, &map, 0).map_err(|error| CaptureError::Map { name, reason: full(&error) })?;
    Ok((map, mapping))
}

fn vxlan_ports(keys: &KeySettings) -> [u16; VXLAN_PORTS] {
    let mut ports = [0; VXLAN_PORTS];
    for (place, port) in ports.iter_mut().zip(&keys.vxlan_ports) {
        *place = *port;
    }
    ports
}

pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, CaptureError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| CaptureError::Object(format!("no XDP program {name}")))
}

/// The tc program `name`, loaded if it was not yet.
pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, CaptureError> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| CaptureError::Object(format!("no tc program {name}")))?;
    if program.fd().is_err() {
        program.load().map_err(refused)?;
    }
    Ok(program)
}

/// The programs that are in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProgramNames {
    pub(super) xdp: &'static str,
    pub(super) tc_ingress: &'static str,
    pub(super) tc_egress: &'static str,
}

impl ProgramNames {
    /// Loads the multi-buffer program, or the plain one where the kernel has no multi-buffer XDP.
    fn load(ebpf: &mut Ebpf, is_extended: bool) -> Result<Self, CaptureError> {
        let (frags, plain, tc_ingress, tc_egress) = if is_extended {
            (
                program::EXTENDED_XDP_FRAGS,
                program::EXTENDED_XDP,
                program::EXTENDED_TC_INGRESS,
                program::EXTENDED_TC_EGRESS,
            )
        } else {
            (program::XDP_FRAGS, program::XDP, program::TC_INGRESS, program::TC_EGRESS)
        };
        if xdp(ebpf, frags)?.load().is_ok() {
            return Ok(Self { xdp: frags, tc_ingress, tc_egress });
        }
        xdp(ebpf, plain)?.load().map_err(refused)?;
        Ok(Self { xdp: plain, tc_ingress, tc_egress })
    }
}

fn refused(error: ProgramError) -> CaptureError {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!("the verifier's log:\n{verifier_log}");
            CaptureError::Refused { reason: io_error.to_string(), log: verifier_log.to_string() }
        }
        other => CaptureError::Refused { reason: full(&other), log: String::new() },
    }
}

fn load_error(step: &'static str, error: &EbpfError) -> CaptureError {
    CaptureError::Load { step, reason: full(error) }
}

/// An error with its causes on one line.
pub(super) fn full(error: &dyn std::error::Error) -> String {
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
