//! The kernel's flow tables as user space sees them: start a new epoch, drain the old one.
//!
//! Why no packet is lost or counted twice:
//! 1. [`Epochs::advance`] stores `epoch + 1`; a program that starts later writes to the other generation.
//! 2. It then waits for one RCU grace period. A program that read the old epoch was inside a read-side
//!    section when the wait began, so it has finished when the wait ends.
//! 3. From then on nobody writes to the old generation until the next `advance`, which takes `&mut self`
//!    and is called only after every CPU of the old generation is drained.
//!
//! The kernel's counters only grow. Beside them lies a copy of what user space has taken, and for every CPU
//! and generation the last epoch that was claimed: so whoever finds these tables after a crash can tell what
//! was taken from what was not, by one word that was stored before the first packet of it went anywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{ArrayOfMaps, HashMap, MapData};
use pathflow_common::flow::{
    Addresses, DATAGRAM_SECONDS, Datagram, DatagramPorts, Encapsulation, FlowCounters, Ipv4Slot, Slot,
    WIDE_KEY_WORDS, WideKey, WideSlot,
};
use pathflow_common::layout::{
    Control, Count, OBSERVATION_POINTS, PointCounters, TableHeader, per_cpu_index, point_index,
};

use super::CaptureError;
use super::extension_table::{ExtensionNumbers, ExtensionTable};
use super::mapping::Mapping;
use crate::classify::Class;
use crate::interfaces::MacAddress;

/// The mapped tables of one CPU and one generation.
///
/// A CPU that does not receive has only a spill log, and one that was offline at the start has nothing:
/// should a packet come there all the same, the kernel program counts it as table overflow.
#[derive(Debug)]
pub(super) struct CpuTables {
    /// Index of header and counters.
    pub(super) index: u32,
    pub(super) ipv4: Option<Mapping<Ipv4Slot>>,
    pub(super) wide: Option<Mapping<WideSlot>>,
    pub(super) spill: Option<Mapping<WideSlot>>,
}

/// What one epoch added to a flow, or one spilled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Key in the common form, without epoch; with the number of its extension, if it has one.
    pub key: WideKey,
    /// Layer 3 octets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Time of the first packet, monotonic nanoseconds.
    pub first: u64,
    /// Time of the last packet, monotonic nanoseconds.
    pub last: u64,
    /// TCP control bits of all packets, or-ed. If the flow is not TCP, but its extension has a packet inside a tunnel: of
    /// those.
    pub tcp_control_bits: u16,
    /// The kernel's index of the interface at the other end of the way through this host; 0 = unknown.
    pub other_interface: u32,
    /// The gateway towards the destination, by the routing table.
    pub next_hop: Option<IpAddr>,
    /// MAC address at the other end of the link: the source of packets that come in, the destination of those that go
    /// out; zero if it is not known.
    pub neighbour: MacAddress,
    /// The application, if anybody asks, as far as it is known when the delta leaves for its shard.
    pub class: Class,
}

/// The kernel's table of datagrams in fragments, key and value as they lie in memory.
pub(super) type Datagrams = HashMap<MapData, [u8; size_of::<Datagram>()], [u8; size_of::<DatagramPorts>()]>;

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

/// What the tables consist of, apart from the flows.
#[derive(Debug)]
pub(super) struct TableMaps {
    pub(super) control: Mapping<Control>,
    pub(super) headers: Mapping<TableHeader>,
    pub(super) points: Mapping<PointCounters>,
    /// What of `points` has been taken.
    pub(super) taken: Mapping<PointCounters>,
    /// The last epoch that was taken, by CPU and generation.
    pub(super) claims: Mapping<u64>,
    pub(super) datagrams: Datagrams,
    pub(super) extensions: ExtensionTable,
}

/// The tables, shared by the drain workers. A CPU's tables of a finished epoch may be drained by one
/// worker at a time.
#[derive(Debug)]
pub struct FlowTables {
    maps: TableMaps,
    cpus: Vec<(u32, [CpuTables; 2])>,
    /// Possible CPUs, the stride between the generations.
    stride: u32,
    /// Nanoseconds from one jiffy to the next.
    tick: u64,
}

impl FlowTables {
    pub(super) fn new(maps: TableMaps, cpus: Vec<(u32, [CpuTables; 2])>, tick: u64) -> Self {
        let stride = (maps.headers.length() / 2) as u32;
        Self { maps, cpus, stride, tick }
    }

    /// The epoch that the kernel program writes to.
    pub(super) fn epoch(&self) -> u64 {
        self.maps.control.first_word(0)
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
        let epoch = self.epoch();
        self.cpus.iter().any(|(cpu, tables)| {
            let Some(header) = self.maps.headers.read(per_cpu_index(epoch, self.stride, *cpu) as usize)
            else {
                return false;
            };
            let tables = &tables[(epoch & 1) as usize];
            let over = |used: u32, slots: usize| used as usize > slots / 2;
            tables.ipv4.as_ref().is_some_and(|table| over(header.ipv4_used, table.length()))
                || tables.wide.as_ref().is_some_and(|table| over(header.wide_used, table.length()))
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
                let element = point_index(tables.index, point) as usize;
                let taken = self.maps.taken.first_word(element);
                packets += self.maps.points.first_word(element).wrapping_sub(taken);
            }
        }
        packets
    }

    /// Takes the counters of a finished epoch on one CPU: returns them by observation point. Its flows belong
    /// to the caller from now on, whatever becomes of him.
    #[must_use]
    pub fn take_counters(&self, epoch: u64, position: usize) -> Vec<(u16, PointCounters)> {
        let Some(index) = self.tables(epoch, position).map(|tables| tables.index) else { return Vec::new() };
        self.maps.claims.store_first_word(index as usize, epoch);
        let counters = self.difference(index);
        for (point, _) in &counters {
            let element = point_index(index, *point) as usize;
            if let Some(block) = self.maps.points.read(element) {
                self.maps.taken.write(element, block);
            }
        }
        counters
    }

    /// Counters that nobody has taken, on one CPU by epoch. Exact if nothing is attached any more that writes
    /// to these tables.
    pub(super) fn untaken(&self, position: usize) -> Vec<(u64, Vec<(u16, PointCounters)>)> {
        let current = self.epoch();
        let epochs = [current.wrapping_sub(1), current].into_iter().filter(|epoch| *epoch > 0);
        epochs
            .filter_map(|epoch| {
                let index = self.tables(epoch, position)?.index;
                let is_taken = self.maps.claims.first_word(index as usize) == epoch;
                (!is_taken).then(|| (epoch, self.difference(index)))
            })
            .collect()
    }

    /// Packets and octets in flows that were taken since the tables were made.
    pub(super) fn taken_in_flows(&self) -> Count {
        let current = self.epoch();
        let mut sum = Count::default();
        for (generation, tables) in self.cpus.iter().flat_map(|(_, generations)| (0..).zip(generations)) {
            let epoch = if current & 1 == generation { current } else { current.wrapping_sub(1) };
            // Claimed, and perhaps not copied yet.
            let is_claimed = self.maps.claims.first_word(tables.index as usize) == epoch && epoch > 0;
            let source = if is_claimed { &self.maps.points } else { &self.maps.taken };
            for point in 0..OBSERVATION_POINTS as u16 {
                let block = source.read(point_index(tables.index, point) as usize).unwrap_or_default();
                let in_flows = in_flows(&block);
                sum.packets = sum.packets.wrapping_add(in_flows.packets);
                sum.octets = sum.octets.wrapping_add(in_flows.octets);
            }
        }
        sum
    }

    fn difference(&self, index: u32) -> Vec<(u16, PointCounters)> {
        let mut counters = Vec::new();
        for point in 0..OBSERVATION_POINTS as u16 {
            let element = point_index(index, point) as usize;
            // Whatever is counted is counted as seen.
            if self.maps.points.first_word(element) == self.maps.taken.first_word(element) {
                continue;
            }
            if let (Some(block), Some(taken)) =
                (self.maps.points.read(element), self.maps.taken.read(element))
            {
                counters.push((point, subtract(block, &taken)));
            }
        }
        counters
    }

    /// Hands every flow and every spilled packet of a finished epoch on one CPU to `sink`, and clears the
    /// header for the epoch after next. The slots need no clearing: their epoch will be over. Extensions of keys get
    /// their `numbers`.
    pub fn drain(
        &self,
        epoch: u64,
        position: usize,
        numbers: &mut ExtensionNumbers,
        mut sink: impl FnMut(Delta),
    ) -> Drained {
        let mut drained = Drained::default();
        let Some(tables) = self.tables(epoch, position) else { return drained };
        let Some(header) = self.maps.headers.read(tables.index as usize) else { return drained };
        let stamp = epoch as u32;
        let time = TickTime { header, tick: self.tick };
        numbers.begin();
        let mut number = |slot: &Slot<WIDE_KEY_WORDS>| {
            let last = time.nanoseconds(slot.counters.last);
            numbers.key(slot.key, &self.maps.extensions, (epoch, last, slot.counters.packets))
        };
        if let Some(table) = &tables.ipv4 {
            drained.slots_scanned += scan(table, stamp, header.ipv4_used, |slot| {
                let key = slot.key.without_epoch().widen(Encapsulation::NONE);
                sink(time.delta(key, &slot.counters, [0; 2]));
            });
        }
        if let Some(table) = &tables.wide {
            drained.slots_scanned +=
                scan(table, stamp, header.wide_used, |WideSlot { slot, next_hop, .. }| {
                    sink(time.delta(number(&slot), &slot.counters, next_hop));
                });
        }
        if let Some(log) = &tables.spill {
            for position in 0..header.spilled as usize {
                if let Some(WideSlot { slot, .. }) = log.read(position) {
                    sink(time.delta(number(&slot), &slot.counters, [0; 2]));
                }
            }
        }
        drained.flows = u64::from(header.ipv4_used) + u64::from(header.wide_used);
        drained.spilled = u64::from(header.spilled);
        drained.ticks = (header.coarse_nanoseconds != 0).then_some(time);
        self.maps.headers.write(tables.index as usize, TableHeader::default());
        drained
    }

    /// What the first fragment of a datagram said, if a CPU has seen it no longer than
    /// [`DATAGRAM_SECONDS`] before `time` (monotonic nanoseconds), or later. `ticks` is that of an epoch
    /// drained lately.
    #[must_use]
    pub fn datagram_ports(&self, datagram: &Datagram, ticks: TickTime, time: u64) -> Option<DatagramPorts> {
        // An error is as good as nothing found: the fragments are then accounted without ports.
        let first = DatagramPorts::from_octets(self.maps.datagrams.get(&datagram.octets(), 0).ok()?);
        let lifetime = u64::from(DATAGRAM_SECONDS) * 1_000_000_000;
        (ticks.nanoseconds_of_any(first.jiffies).saturating_add(lifetime) >= time).then_some(first)
    }

    fn tables(&self, epoch: u64, position: usize) -> Option<&CpuTables> {
        self.cpus.get(position).map(|(_, generations)| &generations[(epoch & 1) as usize])
    }
}

/// What of these packets is in flows.
pub(super) fn in_flows(counters: &PointCounters) -> Count {
    counters.dropped.iter().fold(counters.seen, |rest, dropped| minus(rest, *dropped))
}

fn subtract(mut counters: PointCounters, taken: &PointCounters) -> PointCounters {
    counters.seen = minus(counters.seen, taken.seen);
    counters.spilled = minus(counters.spilled, taken.spilled);
    for (count, taken) in counters.dropped.iter_mut().zip(taken.dropped) {
        *count = minus(*count, taken);
    }
    counters.later_fragments = counters.later_fragments.wrapping_sub(taken.later_fragments);
    counters.without_extension = counters.without_extension.wrapping_sub(taken.without_extension);
    counters
}

const fn minus(count: Count, taken: Count) -> Count {
    Count {
        packets: count.packets.wrapping_sub(taken.packets),
        octets: count.octets.wrapping_sub(taken.octets),
    }
}

/// How long before the count of its epoch a slot may have been written, in nanoseconds: programs interrupt each other.
const MOMENT: u64 = 5_000_000_000;

/// Turns the tick counts of an epoch into time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickTime {
    header: TableHeader,
    tick: u64,
}

impl TickTime {
    /// The time at which the tick counter showed `jiffies` in a slot, in monotonic nanoseconds. That is no more than a moment
    /// before the count of the epoch, which its first packet has noted, and may be long after it: an epoch goes on for as
    /// long as nobody ends it.
    fn nanoseconds(&self, jiffies: u32) -> u64 {
        let before = self.header.jiffies.wrapping_sub(jiffies);
        if u64::from(before).saturating_mul(self.tick) <= MOMENT {
            return self.at(-i64::from(before));
        }
        self.at(i64::from(jiffies.wrapping_sub(self.header.jiffies)))
    }

    /// The same of a count that may be long before that of the epoch.
    fn nanoseconds_of_any(&self, jiffies: u32) -> u64 {
        self.at(i64::from(jiffies.wrapping_sub(self.header.jiffies) as i32))
    }

    /// The time so many ticks after the count of the epoch.
    fn at(&self, ticks: i64) -> u64 {
        self.header.coarse_nanoseconds.saturating_add_signed(ticks.saturating_mul(self.tick as i64))
    }

    fn delta(&self, key: WideKey, counters: &FlowCounters, next_hop: [u64; 2]) -> Delta {
        let next_hop = match (counters.next_hop, next_hop) {
            (0, [0, 0]) => None,
            (0, [high, low]) => match key.addresses() {
                Addresses::Ipv4(..) => Some(IpAddr::V4(Ipv4Addr::from(first_octets(high)))),
                Addresses::Ipv6(..) => Some(IpAddr::V6(Ipv6Addr::from(join(high, low)))),
            },
            (address, _) => Some(IpAddr::V4(Ipv4Addr::from(address.to_ne_bytes()))),
        };
        Delta {
            key,
            octets: counters.octets,
            packets: counters.packets,
            first: self.nanoseconds(counters.first),
            last: self.nanoseconds(counters.last),
            tcp_control_bits: counters.tcp_control_bits,
            other_interface: counters.other_interface,
            next_hop,
            neighbour: MacAddress(counters.neighbour),
            class: Class::UNKNOWN,
        }
    }
}

fn first_octets(word: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    [a, b, c, d]
}

fn join(high: u64, low: u64) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&high.to_ne_bytes());
    octets[8..].copy_from_slice(&low.to_ne_bytes());
    octets
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
    /// What time the ticks of the epoch are; `None` if it was empty.
    pub ticks: Option<TickTime>,
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
    pub(super) fn new(epoch: u64, rcu: RcuWait) -> Self {
        Self { epoch, rcu }
    }

    /// Ends the current epoch: starts the next one and waits until the old one is no longer written to.
    /// Returns the number of the old one, which is then to be drained on every CPU before the next call.
    ///
    /// # Errors
    /// If the kernel refuses the wait. The new epoch has begun all the same, and the old one must not be
    /// drained; the caller ends the program.
    pub fn advance(&mut self, tables: &FlowTables) -> Result<u64, CaptureError> {
        let old = self.epoch;
        self.epoch = old + 1;
        tables.maps.control.store_first_word(0, self.epoch);
        self.wait()?;
        Ok(old)
    }

    /// Waits until every program has ended that was running when this was called.
    ///
    /// # Errors
    /// If the kernel refuses the wait.
    pub fn wait(&mut self) -> Result<(), CaptureError> {
        self.rcu
            .outer
            .set(self.rcu.index, &self.rcu.inner, 0)
            .map_err(|error| CaptureError::Map { name: "grace period", reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 24 * 3600 * SECOND;

    /// An epoch that began when the tick counter showed `jiffies`, a hundred days after the start of the machine.
    fn ticks(jiffies: u32, per_second: u64) -> TickTime {
        let header = TableHeader { jiffies, coarse_nanoseconds: 100 * DAY, ..TableHeader::default() };
        TickTime { header, tick: SECOND / per_second }
    }

    /// Nanoseconds after the start of the epoch at which the counter showed so many ticks more.
    fn after(ticks: TickTime, more: i64) -> i64 {
        let jiffies = ticks.header.jiffies.wrapping_add(more as u32);
        ticks.nanoseconds(jiffies) as i64 - ticks.header.coarse_nanoseconds as i64
    }

    #[test]
    fn an_epoch_that_nobody_ends_goes_on_for_weeks() {
        for (per_second, days) in [(1000, 49), (250, 198), (100, 497)] {
            for start in [0, 5, 1 << 31, u32::MAX - 7, u32::MAX] {
                let ticks = ticks(start, per_second as u64);
                for second in [0, 1, 3600, 12 * 3600, 24 * 86_400, 25 * 86_400, days * 86_400] {
                    let expected = second * SECOND as i64;
                    assert_eq!(after(ticks, second * per_second), expected, "{per_second} {start} {second}");
                }
                // A program that was interrupted has taken the time before.
                for early in [1, per_second, 4 * per_second] {
                    assert_eq!(after(ticks, -early), -early * (SECOND as i64 / per_second));
                }
            }
        }
    }

    #[test]
    fn a_datagram_may_have_begun_long_before_the_epoch() {
        let ticks = ticks(1000, 1000);
        let an_hour_ago = 1000_u32.wrapping_sub(3_600_000);
        assert_eq!(ticks.nanoseconds_of_any(an_hour_ago), 100 * DAY - 3600 * SECOND);
        assert_eq!(ticks.nanoseconds_of_any(3_601_000), 100 * DAY + 3600 * SECOND);
    }
}
