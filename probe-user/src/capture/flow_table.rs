//! The kernel's flow tables as user space sees them: start a new epoch, drain the old one.
//!
//! Why no packet is lost or counted twice:
//! 1. [`Epochs::advance`] stores `epoch + 1`; a program that starts later writes to the other generation.
//! 2. It then waits for one RCU grace period. A program that read the old epoch was inside a read-side
//!    section when the wait began, so it has finished when the wait ends.
//! 3. From then on nobody writes to the old generation until the next `advance`, which takes `&mut self`
//!    and is called only after every CPU of the old generation is drained.

use aya::maps::{ArrayOfMaps, MapData};
use pathflow_common::flow::{FlowCounters, Ipv4Slot, Ipv6Key, Ipv6Slot, Slot};
use pathflow_common::layout::{
    Control, OBSERVATION_POINTS, PointCounters, TableHeader, per_cpu_index, point_index,
};

use super::CaptureError;
use super::mapping::Mapping;

/// The mapped tables of one CPU and one generation.
///
/// A CPU that does not receive has only a spill log, and one that was offline at the start has nothing:
/// should a packet come there all the same, the kernel program counts it as table overflow.
#[derive(Debug)]
pub(super) struct CpuTables {
    /// Index of header and counters.
    pub(super) index: u32,
    pub(super) ipv4: Option<Mapping<Ipv4Slot>>,
    pub(super) ipv6: Option<Mapping<Ipv6Slot>>,
    pub(super) spill: Option<Mapping<Ipv6Slot>>,
}

/// What one epoch added to a flow, or one spilled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Key in the common form, without epoch.
    pub key: Ipv6Key,
    /// Layer 3 octets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Time of the first packet, monotonic nanoseconds.
    pub first: u64,
    /// Time of the last packet, monotonic nanoseconds.
    pub last: u64,
    /// TCP control bits of all packets, or-ed.
    pub tcp_control_bits: u16,
}

/// What is needed to wait for a grace period: updating an array of maps makes the kernel wait until no
/// program can use the element's former value (`maybe_wait_bpf_programs`). The element is set to the
/// value it has.
#[derive(Debug)]
pub(super) struct RcuWait {
    pub(super) outer: ArrayOfMaps<MapData, MapData>,
    pub(super) index: u32,
    pub(super) inner: MapData,
}

/// Starts new epochs. There is one, and it is not shared.
#[derive(Debug)]
pub struct Epochs {
    epoch: u64,
    rcu: RcuWait,
}

/// The tables, shared by the drain workers. A CPU's tables of a finished epoch may be drained by one
/// worker at a time.
#[derive(Debug)]
pub struct FlowTables {
    control: Mapping<Control>,
    headers: Mapping<TableHeader>,
    points: Mapping<PointCounters>,
    cpus: Vec<(u32, [CpuTables; 2])>,
    /// Possible CPUs, the stride between the generations.
    stride: u32,
    /// Nanoseconds from one jiffy to the next.
    tick: u64,
}

impl FlowTables {
    pub(super) fn new(
        control: Mapping<Control>,
        headers: Mapping<TableHeader>,
        points: Mapping<PointCounters>,
        cpus: Vec<(u32, [CpuTables; 2])>,
        rcu: RcuWait,
        tick: u64,
    ) -> (Self, Epochs) {
        let stride = (headers.length() / 2) as u32;
        let epoch = control.first_word(0);
        (Self { control, headers, points, cpus, stride, tick }, Epochs { epoch, rcu })
    }

    /// Number of possible CPUs; positions below are indices into them.
    #[must_use]
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// The CPU at `position`, if it has flow tables.
    #[must_use]
    pub fn table_cpu(&self, position: usize) -> Option<u32> {
        let (cpu, tables) = self.cpus.get(position)?;
        tables[0].ipv4.as_ref().map(|_| *cpu)
    }

    /// CPUs that have flow tables.
    #[must_use]
    pub fn table_cpu_count(&self) -> usize {
        (0..self.cpus.len()).filter(|position| self.table_cpu(*position).is_some()).count()
    }

    /// CPUs that have at least a spill log.
    #[must_use]
    pub fn online_cpu_count(&self) -> usize {
        self.cpus.iter().filter(|(_, tables)| tables[0].spill.is_some()).count()
    }

    /// True if a table or spill log of the current epoch is more than half full, so that the epoch should
    /// end early: beyond that, probe windows of eight slots begin to overflow.
    #[must_use]
    pub fn half_full(&self) -> bool {
        let epoch = self.control.first_word(0);
        self.cpus.iter().any(|(cpu, tables)| {
            let Some(header) = self.headers.read(per_cpu_index(epoch, self.stride, *cpu) as usize) else {
                return false;
            };
            let tables = &tables[(epoch & 1) as usize];
            let over = |used: u32, slots: usize| used as usize > slots / 2;
            tables.ipv4.as_ref().is_some_and(|table| over(header.ipv4_used, table.length()))
                || tables.ipv6.as_ref().is_some_and(|table| over(header.ipv6_used, table.length()))
                || tables.spill.as_ref().is_some_and(|log| over(header.spilled, log.length()))
        })
    }

    /// Packets counted by the kernel and not taken yet: in the current epoch, and in one that has ended and is
    /// not drained. Approximate by nature, as the kernel program is adding to it.
    #[must_use]
    pub fn live_packets(&self) -> u64 {
        let mut packets = 0;
        for tables in self.cpus.iter().flat_map(|(_, generations)| generations) {
            for point in 0..OBSERVATION_POINTS as u16 {
                packets += self.points.first_word(point_index(tables.index, point) as usize);
            }
        }
        packets
    }

    /// Takes the counters of a finished epoch on one CPU: returns them by observation point and clears
    /// them for the epoch after next.
    #[must_use]
    pub fn take_counters(&self, epoch: u64, position: usize) -> Vec<(u16, PointCounters)> {
        let mut counters = Vec::new();
        let Some(index) = self.tables(epoch, position).map(|tables| tables.index) else { return counters };
        for point in 0..OBSERVATION_POINTS as u16 {
            let element = point_index(index, point) as usize;
            if let Some(block) = self.points.read(element)
                && block != PointCounters::default()
            {
                counters.push((point, block));
                self.points.write(element, PointCounters::default());
            }
        }
        counters
    }

    /// Hands every flow and every spilled packet of a finished epoch on one CPU to `sink`, and clears the
    /// header for the epoch after next. The slots need no clearing: their epoch will be over.
    pub fn drain(&self, epoch: u64, position: usize, mut sink: impl FnMut(Delta)) -> Drained {
        let mut drained = Drained::default();
        let Some(tables) = self.tables(epoch, position) else { return drained };
        let Some(header) = self.headers.read(tables.index as usize) else { return drained };
        let stamp = epoch as u32;
        let time = TickTime { header, tick: self.tick };
        if let Some(table) = &tables.ipv4 {
            drained.slots_scanned += scan(table, stamp, header.ipv4_used, |slot| {
                sink(time.delta(slot.key.without_epoch().widen(), &slot.counters));
            });
        }
        if let Some(table) = &tables.ipv6 {
            drained.slots_scanned += scan(table, stamp, header.ipv6_used, |Ipv6Slot { slot, .. }| {
                sink(time.delta(slot.key.without_epoch(), &slot.counters));
            });
        }
        if let Some(log) = &tables.spill {
            for position in 0..header.spilled as usize {
                if let Some(Ipv6Slot { slot: Slot { key, counters }, .. }) = log.read(position) {
                    sink(time.delta(key.without_epoch(), &counters));
                }
            }
        }
        drained.flows = u64::from(header.ipv4_used) + u64::from(header.ipv6_used);
        drained.spilled = u64::from(header.spilled);
        self.headers.write(tables.index as usize, TableHeader::default());
        drained
    }

    fn tables(&self, epoch: u64, position: usize) -> Option<&CpuTables> {
        self.cpus.get(position).map(|(_, generations)| &generations[(epoch & 1) as usize])
    }
}

/// Turns the tick counts of an epoch into time.
#[derive(Clone, Copy)]
struct TickTime {
    header: TableHeader,
    tick: u64,
}

impl TickTime {
    /// The time at which the tick counter showed `jiffies`, in monotonic nanoseconds. Both counts are of
    /// one epoch, so their difference is small, whichever of them has wrapped.
    fn nanoseconds(&self, jiffies: u32) -> u64 {
        let ticks = i64::from(jiffies.wrapping_sub(self.header.jiffies) as i32);
        self.header.coarse_nanoseconds.saturating_add_signed(ticks.saturating_mul(self.tick as i64))
    }

    fn delta(&self, key: Ipv6Key, counters: &FlowCounters) -> Delta {
        Delta {
            key,
            octets: counters.octets,
            packets: u64::from(counters.packets),
            first: self.nanoseconds(counters.first),
            last: self.nanoseconds(counters.last),
            tcp_control_bits: counters.tcp_control_bits,
        }
    }
}

/// What one call of [`FlowTables::drain`] went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Slots looked at.
    pub slots_scanned: u64,
    /// Flows found in the tables.
    pub flows: u64,
    /// Records found in the spill log.
    pub spilled: u64,
}

/// Calls `found` for each of the `used` slots stamped with `stamp`, and stops after the last of them.
fn scan<T: super::mapping::Element>(
    table: &Mapping<T>,
    stamp: u32,
    used: u32,
    mut found: impl FnMut(T),
) -> u64 {
    let mut left = used;
    let mut index = 0;
    while left > 0 && index < table.length() {
        if table.first_word(index) as u32 == stamp
            && let Some(slot) = table.read(index)
        {
            found(slot);
            left -= 1;
        }
        index += 1;
    }
    index as u64
}

impl Epochs {
    /// Ends the current epoch: starts the next one and waits until the old one is no longer written to.
    /// Returns the number of the old one, which is then to be drained on every CPU before the next call.
    ///
    /// # Errors
    /// If the kernel refuses the wait. The new epoch has begun all the same, and the old one must not be
    /// drained; the caller ends the program.
    pub fn advance(&mut self, tables: &FlowTables) -> Result<u64, CaptureError> {
        let old = self.epoch;
        self.epoch = old + 1;
        tables.control.store_first_word(0, self.epoch);
        self.rcu
            .outer
            .set(self.rcu.index, &self.rcu.inner, 0)
            .map_err(|error| CaptureError::Map { name: "grace period", reason: error.to_string() })?;
        Ok(old)
    }
}
