//! Layout of the maps that the kernel program writes and user space reads.
//!
//! The flow tables exist twice, as generation 0 and 1. The kernel program reads [`Control::epoch`] once
//! per packet and writes to the generation of that epoch (`epoch & 1`) and of its own CPU; user space
//! increments the epoch, waits until no program can still be using the old one, and then owns the old
//! generation until the next increment. So each table, header and counter block has one writer at a time.

use crate::DropReason;

/// Names of the maps in the object.
pub mod map {
    /// `Array<Control, 1>`, mmapable.
    pub const CONTROL: &str = "CONTROL";
    /// `Array<u64, INTERFACE_SLOTS>`: [`interface_entry`](super::interface_entry).
    pub const INTERFACES: &str = "INTERFACES";
    /// `Array<TableHeader, 2 * cpus>`, mmapable, at [`per_cpu_index`](super::per_cpu_index).
    pub const HEADERS: &str = "HEADERS";
    /// `Array<PointCounters, 2 * cpus * OBSERVATION_POINTS>`, mmapable.
    pub const POINTS: &str = "POINTS";
    /// `ArrayOfMaps<Array<Ipv4Slot, slots>, 2 * cpus>`, inner maps mmapable.
    pub const IPV4_TABLES: &str = "IPV4_TABLES";
    /// `ArrayOfMaps<Array<Ipv6Slot, slots>, 2 * cpus>`, inner maps mmapable.
    pub const IPV6_TABLES: &str = "IPV6_TABLES";
    /// `ArrayOfMaps<Array<Ipv6Slot, slots>, 2 * cpus>`, inner maps mmapable.
    pub const SPILL_LOGS: &str = "SPILL_LOGS";
}

/// Names of the read-only globals that user space sets before it loads the program. All are `u32` but
/// the secrets.
pub mod global {
    /// Number of possible CPUs.
    pub const CPUS: &str = "CPUS";
    /// Slots of an IPv4 table, less one; slots are a power of two.
    pub const IPV4_MASK: &str = "IPV4_MASK";
    /// Slots of an IPv6 table, less one; slots are a power of two.
    pub const IPV6_MASK: &str = "IPV6_MASK";
    /// Records of a spill log.
    pub const SPILL_SLOTS: &str = "SPILL_SLOTS";
    /// `[u32; HASH_SECRETS]`: secrets of [`Key::hash`](crate::flow::Key::hash), random per load.
    pub const HASH_SECRETS: &str = "HASH_SECRETS";
}

/// Names of the programs in the object.
pub mod program {
    /// XDP program for frames of several buffers (kernel 5.18 and a driver that has them).
    pub const XDP_FRAGS: &str = "pathflow_frags";
    /// XDP program for frames of one buffer.
    pub const XDP: &str = "pathflow_xdp";
}

/// Size that the object declares for the inner IPv4 tables. The loader replaces it, in the object's BTF,
/// by the configured size: an inner map must have exactly the declared size for the kernel to inline the
/// lookup. The value is only a mark that occurs nowhere else.
pub const IPV4_SLOTS_MARK: usize = 0x00a4_f10d;
/// The same for the inner IPv6 tables.
pub const IPV6_SLOTS_MARK: usize = 0x00a6_f10d;
/// The same for the spill logs.
pub const SPILL_SLOTS_MARK: usize = 0x00a5_f10d;

/// Slots that are tried for a key before the packet is spilled: two windows of adjacent slots.
///
/// With one window of 8, one flow in 11 finds no slot in a table of 65,536 that is 92 % full; with two,
/// one in 29 (simulated). Below half full, the second one is hardly ever looked at.
pub const PROBES: u32 = 16;

/// The slot to try as number `probe` (from 0) for a key with this hash.
///
/// Within an epoch slots are only ever taken, so a key is in the second window only if the first one was
/// full when it came, and then it still is: a free slot ends the search.
#[inline(always)]
#[must_use]
pub const fn slot_number(hash: u64, probe: u32, mask: u32) -> u32 {
    let window = if probe < PROBES / 2 { hash } else { hash >> 32 };
    (window as u32).wrapping_add(probe) & mask
}

/// Observation points (interface and direction) that can be counted apart. Point 0 is for packets of an
/// interface that was not registered.
pub const OBSERVATION_POINTS: u32 = 64;

/// Slots of the interface table.
pub const INTERFACE_SLOTS: u32 = 256;
/// Slots of the interface table that are tried for an interface index.
pub const INTERFACE_PROBES: u32 = 8;

/// Written by user space, read by the kernel program once per packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Current epoch; never 0, so that a slot never written is always free.
    pub epoch: u64,
    /// Zero; brings the element to one cache line.
    pub reserved: [u64; 7],
}

/// Fill level of the tables of one generation on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableHeader {
    /// Slots of the IPv4 table in use.
    pub ipv4_used: u32,
    /// Slots of the IPv6 table in use.
    pub ipv6_used: u32,
    /// Records in the spill log.
    pub spilled: u32,
    /// Low 32 bits of the kernel's tick counter when this CPU wrote its first slot of the epoch.
    pub jiffies: u32,
    /// `CLOCK_MONOTONIC_COARSE` of the kernel at that tick, in nanoseconds; 0 if nothing was written.
    pub coarse_nanoseconds: u64,
    /// Zero; brings the element to one cache line, so that two CPUs never write to the same line.
    pub reserved: [u64; 5],
}

/// Packets and octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets: layer 3 for a packet whose IP header was read, otherwise the frame without its check
    /// sequence.
    pub octets: u64,
}

/// Counters of one observation point of one generation on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PointCounters {
    /// Every packet the program was called for.
    pub seen: Count,
    /// Packets not in a flow, by [`DropReason`].
    pub dropped: [Count; DropReason::COUNT],
    /// Packets that went to the spill log, from where user space merges them into their flows.
    pub spilled: Count,
    /// Zero; brings the element to two cache lines.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<Control>() == 64);
const _: () = assert!(size_of::<TableHeader>() == 64);
const _: () = assert!(size_of::<PointCounters>() == 128);

/// Index of a CPU's table, header or spill log in the generation of `epoch`.
#[inline(always)]
#[must_use]
pub const fn per_cpu_index(epoch: u64, cpus: u32, cpu: u32) -> u32 {
    (epoch & 1) as u32 * cpus + cpu
}

/// Index of a CPU's counters of an observation point.
#[inline(always)]
#[must_use]
pub const fn point_index(per_cpu_index: u32, observation_point: u16) -> u32 {
    per_cpu_index * OBSERVATION_POINTS + observation_point as u32
}

/// The slot of the interface table to try as number `probe` (from 0) for an interface. Mixed, because hosts
/// that make and delete many interfaces have indices of every pattern.
#[inline(always)]
#[must_use]
pub const fn interface_slot(interface_index: u32, probe: u32) -> u32 {
    (interface_index.wrapping_mul(0x9e37_79b1) >> 24).wrapping_add(probe) & (INTERFACE_SLOTS - 1)
}

/// Entry of the interface table: the interface index in the low half, its observation point above.
#[inline(always)]
#[must_use]
pub const fn interface_entry(interface_index: u32, observation_point: u16) -> u64 {
    interface_index as u64 | (observation_point as u64) << 32
}

/// The observation point of an entry that is for `interface_index`.
#[inline(always)]
#[must_use]
pub const fn entry_point(entry: u64, interface_index: u32) -> Option<u16> {
    if entry as u32 == interface_index { Some((entry >> 32) as u16) } else { None }
}
