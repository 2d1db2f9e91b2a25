//! Layout of the maps that the kernel program writes and user space reads.
//!
//! The flow tables exist twice, as generation 0 and 1. The kernel program reads [`Control::epoch`] once
//! per packet and writes to the generation of that epoch (`epoch & 1`) and of its own CPU; user space
//! increments the epoch, waits until no program can still be using the old one, and then owns the old
//! generation until the next increment. So each table, header and counter block has one writer at a time.

use crate::DropReason;
use crate::bytes::field;
use crate::extension::KeyExtension;
use crate::flow::WideKey;
use crate::parse::extension::Layers;

/// Names of the maps in the object.
pub mod map {
    /// `Array<Control, 1>`, mmapable.
    pub const CONTROL: &str = "CONTROL";
    /// `Array<u64, INTERFACE_SLOTS>`, mmapable: [`interface_entry`](super::interface_entry).
    pub const INTERFACES: &str = "INTERFACES";
    /// `Array<Sampling, OBSERVATION_POINTS>`, mmapable.
    pub const SAMPLING: &str = "SAMPLING";
    /// `Array<SamplingState, cpus * OBSERVATION_POINTS>`, mmapable, at
    /// [`point_index`](super::point_index) of the CPU.
    pub const SAMPLING_STATES: &str = "SAMPLING_STATES";
    /// `RingBuf`: [`HeaderSample`](super::HeaderSample).
    pub const HEADER_SAMPLES: &str = "HEADER_SAMPLES";
    /// `LruHashMap<Datagram, DatagramPorts>`: datagrams whose first fragment was seen.
    pub const DATAGRAMS: &str = "DATAGRAMS";
    /// `Array<TableHeader, 2 * cpus>`, mmapable, at [`per_cpu_index`](super::per_cpu_index).
    pub const HEADERS: &str = "HEADERS";
    /// `Array<PointCounters, 2 * cpus * OBSERVATION_POINTS>`, mmapable.
    pub const POINTS: &str = "POINTS";
    /// `ArrayOfMaps<Array<Ipv4Slot, slots>, 2 * cpus>`, inner maps mmapable.
    pub const IPV4_TABLES: &str = "IPV4_TABLES";
    /// `ArrayOfMaps<Array<WideSlot, slots>, 2 * cpus>`, inner maps mmapable: IPv6, and IPv4 in an
    /// [`Encapsulation`](crate::flow::Encapsulation).
    pub const WIDE_TABLES: &str = "WIDE_TABLES";
    /// `ArrayOfMaps<Array<WideSlot, slots>, 2 * cpus>`, inner maps mmapable.
    pub const SPILL_LOGS: &str = "SPILL_LOGS";
    /// `LruHashMap<KeyExtension, u64>`: the reference of each extension that flows have.
    pub const EXTENSIONS: &str = "EXTENSIONS";
    /// `RingBuf`: [`ExtensionNews`](super::ExtensionNews), each new reference with what it stands for.
    pub const EXTENSION_NEWS: &str = "EXTENSION_NEWS";
    /// `Array<ExtensionState, cpus>`.
    pub const EXTENSION_STATES: &str = "EXTENSION_STATES";
    /// `PerfEventArray`: [`PayloadHeader`](super::PayloadHeader), and the packet behind it.
    pub const PAYLOADS: &str = "PAYLOADS";
    /// `Array<PayloadState, cpus>`, mmapable.
    pub const PAYLOAD_STATES: &str = "PAYLOAD_STATES";
    /// `Array<u64>`, mmapable, a power of two long: at the low bits of the hash of a key, the hash of one whose packets
    /// user space does not want any more.
    pub const PAYLOAD_DONE: &str = "PAYLOAD_DONE";
}

/// Names of the read-only globals that user space sets before it loads the program. All are `u32` but
/// the secrets.
pub mod global {
    /// Number of possible CPUs.
    pub const CPUS: &str = "CPUS";
    /// Slots of an IPv4 table, less one; slots are a power of two.
    pub const IPV4_MASK: &str = "IPV4_MASK";
    /// Slots of a table of wide keys, less one; slots are a power of two.
    pub const WIDE_MASK: &str = "WIDE_MASK";
    /// Records of a spill log.
    pub const SPILL_SLOTS: &str = "SPILL_SLOTS";
    /// 1 if filters have been written into the object.
    pub const FILTER: &str = "FILTER";
    /// `[u32; HASH_SECRETS]`: secrets of [`Key::hash`](crate::flow::Key::hash), random per load.
    pub const HASH_SECRETS: &str = "HASH_SECRETS";
    /// 1 = ask the routing table for egress interface and next hop of new flows.
    pub const FIB_LOOKUP: &str = "FIB_LOOKUP";
    /// Lookups of one CPU in one epoch at most: a flood of new flows must not cost a lookup each.
    pub const FIB_BUDGET: &str = "FIB_BUDGET";
    /// 1 = the key is that of the packet inside a tunnel, for packets that are in one.
    pub const INNER: &str = "INNER";
    /// 1 = the key has the priority of the outer VLAN tag.
    pub const VLAN_PRIORITY: &str = "VLAN_PRIORITY";
    /// 1 = extensions have the packet inside a tunnel.
    pub const EXTENSION_INNER: &str = "EXTENSION_INNER";
    /// 1 = extensions have the whole MPLS stack.
    pub const EXTENSION_LABELS: &str = "EXTENSION_LABELS";
    /// `[u64; CHOSEN_PLACES]`: [`ChosenPlace::word`](crate::extension::ChosenPlace::word); 0 = none.
    pub const CHOSEN: &str = "CHOSEN";
    /// Octets of a layer that chosen places reach.
    pub const CHOSEN_REACH: &str = "CHOSEN_REACH";
    /// `[u16; VXLAN_PORTS]`: UDP destination ports of VXLAN, host order; 0 = none.
    pub const VXLAN_PORTS: &str = "VXLAN_PORTS";
    /// [`DATAGRAM_SECONDS`](crate::flow::DATAGRAM_SECONDS) in ticks.
    pub const DATAGRAM_TICKS: &str = "DATAGRAM_TICKS";
    /// Packets with payload of each flow and epoch of which user space gets the first octets; 0 = of none.
    pub const PAYLOAD_PACKETS: &str = "PAYLOAD_PACKETS";
    /// Octets of such a packet, from the start of the frame.
    pub const PAYLOAD_OCTETS: &str = "PAYLOAD_OCTETS";
    /// Such packets of one CPU in one epoch at most: a flood of new flows must not cost each of them this.
    pub const PAYLOAD_BUDGET: &str = "PAYLOAD_BUDGET";
    /// Elements of [`map::PAYLOAD_DONE`](super::map::PAYLOAD_DONE), less one.
    pub const PAYLOAD_MASK: &str = "PAYLOAD_MASK";
}

/// Names of the programs in the object.
pub mod program {
    /// XDP program for frames of several buffers (kernel 5.18 and a driver that has them).
    pub const XDP_FRAGS: &str = "pathflow_frags";
    /// XDP program for frames of one buffer.
    pub const XDP: &str = "pathflow_xdp";
    /// tc program for packets that come in.
    pub const TC_INGRESS: &str = "pathflow_in";
    /// tc program for packets that go out.
    pub const TC_EGRESS: &str = "pathflow_out";
    /// The same where keys are extended. Programs of their own, because what is needed for that and what is not would
    /// not have room in one stack.
    pub const EXTENDED_XDP_FRAGS: &str = "pathflow_efrags";
    /// Likewise.
    pub const EXTENDED_XDP: &str = "pathflow_exdp";
    /// Likewise.
    pub const EXTENDED_TC_INGRESS: &str = "pathflow_ein";
    /// Likewise.
    pub const EXTENDED_TC_EGRESS: &str = "pathflow_eout";
}

/// Size that the object declares for the inner IPv4 tables. The loader replaces it, in the object's BTF,
/// by the configured size: an inner map must have exactly the declared size for the kernel to inline the
/// lookup. The value is only a mark that occurs nowhere else.
pub const IPV4_SLOTS_MARK: usize = 0x00a4_f10d;
/// The same for the inner tables of wide keys.
pub const WIDE_SLOTS_MARK: usize = 0x00a6_f10d;
/// The same for the spill logs.
pub const SPILL_SLOTS_MARK: usize = 0x00a5_f10d;

/// Name of the function of the object that user space overwrites with the operator's filters. It is part of
/// the symbol.
pub const FILTER_FUNCTION: &str = "pathflow_filter";
/// Instructions that there is room for in it.
pub const FILTER_INSTRUCTIONS: usize = 4096;

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
pub const OBSERVATION_POINTS: u32 = 256;

/// Ports that can be named as those of VXLAN.
pub const VXLAN_PORTS: usize = 8;

/// Slots of the interface table.
pub const INTERFACE_SLOTS: u32 = 1024;
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
    /// Slots of the table of wide keys in use.
    pub wide_used: u32,
    /// Records in the spill log.
    pub spilled: u32,
    /// Low 32 bits of the kernel's tick counter when this CPU wrote its first slot of the epoch.
    pub jiffies: u32,
    /// `CLOCK_MONOTONIC_COARSE` of the kernel at that tick, in nanoseconds; 0 if nothing was written.
    pub coarse_nanoseconds: u64,
    /// Lookups in the routing table.
    pub fib_lookups: u32,
    /// Zero.
    pub padding: u32,
    /// Zero; brings the element to one cache line, so that two CPUs never write to the same line.
    pub reserved: [u64; 4],
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
    /// Packets that went to the spill log, from where user space merges them into their flows.
    pub spilled: Count,
    /// Packets not in a flow, by [`DropReason`].
    pub dropped: [Count; DropReason::COUNT],
    /// Packets that are later fragments of a datagram. Not an account: they are in the others as well.
    pub later_fragments: u64,
    /// Packets whose flow has not the extension that they would have, for lack of room. Likewise.
    pub without_extension: u64,
    /// Zero; brings the element to four cache lines.
    pub reserved: [u64; 6],
}

/// Room in which one CPU makes the key and the extension of the packet in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExtensionState {
    /// References that this CPU has made. None is made twice.
    pub references: u64,
    /// The reference in hand.
    pub reference: u64,
    /// Where parsing starts: fields of [`Link`](crate::parse::link::Link).
    pub ether_type: u16,
    /// Likewise.
    pub offset: u16,
    /// Likewise.
    pub outer_tag: u16,
    /// 1 = there is a tag beside the frame.
    pub has_tag: u16,
    /// That tag: TPID and TCI; 0 = none.
    pub tag: u32,
    /// As in [`Origin`](crate::flow::Origin).
    pub observation_point: u16,
    /// Likewise.
    pub filter_results: u16,
    /// What the parser found: the key without its extension.
    pub key: WideKey,
    /// Fields of [`PacketFacts`](crate::parse::PacketFacts).
    pub octets: u32,
    /// Likewise; of the packet inside a tunnel, if the outer one is not TCP.
    pub tcp_control_bits: u16,
    /// Likewise.
    pub header_octets: u16,
    /// 1 = the packet is a later fragment of a datagram.
    pub is_later_fragment: u64,
    /// How many packets were merged into this one, or it will be cut into; 0 = the kernel does not say.
    pub segments: u32,
    /// Octets of payload of each; 0 = it is one packet.
    pub segment_payload: u32,
    /// How many of them sampling has selected.
    pub selected: u32,
    /// Zero.
    pub padding: u32,
    /// Where the layers are.
    pub layers: Layers,
    /// The extension.
    pub extension: KeyExtension,
    /// Zero; brings the element to five cache lines.
    pub reserved: [u64; 3],
}

/// A reference that the kernel program has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExtensionNews {
    /// The reference.
    pub reference: u64,
    /// What it stands for.
    pub extension: KeyExtension,
}

impl ExtensionNews {
    /// From how it lies in memory.
    #[must_use]
    pub fn from_octets(octets: &[u8; size_of::<Self>()]) -> Self {
        Self {
            reference: u64::from_ne_bytes(field(octets, 0)),
            extension: KeyExtension::from_octets(&field(octets, size_of::<u64>())),
        }
    }
}

/// What is said of a packet that user space gets to find its application. Its octets follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PayloadHeader {
    /// Observation point.
    pub observation_point: u16,
    /// Octets of the packet that follow.
    pub captured: u16,
    /// Length of the frame in octets, without its check sequence; of a packet of several segments, of all of it.
    pub frame_length: u32,
    /// Hash of its key in the kernel's tables; 0 = it comes from elsewhere.
    pub hash: u64,
    /// When it was seen, in nanoseconds (`CLOCK_MONOTONIC`).
    pub time: u64,
}

impl PayloadHeader {
    /// As it lies in memory.
    #[must_use]
    pub fn octets(&self) -> [u8; size_of::<Self>()] {
        let mut octets = [0; size_of::<Self>()];
        let fields = [
            &self.observation_point.to_ne_bytes()[..],
            &self.captured.to_ne_bytes(),
            &self.frame_length.to_ne_bytes(),
            &self.hash.to_ne_bytes(),
            &self.time.to_ne_bytes(),
        ];
        for (place, octet) in octets.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *octet;
        }
        octets
    }

    /// From how it lies in memory.
    #[must_use]
    pub fn from_octets(octets: &[u8; size_of::<Self>()]) -> Self {
        Self {
            observation_point: u16::from_ne_bytes(field(octets, 0)),
            captured: u16::from_ne_bytes(field(octets, 2)),
            frame_length: u32::from_ne_bytes(field(octets, 4)),
            hash: u64::from_ne_bytes(field(octets, 8)),
            time: u64::from_ne_bytes(field(octets, 16)),
        }
    }
}

/// What one CPU has sent of such packets. Written by the kernel program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PayloadState {
    /// The epoch that `in_epoch` is of, its low 32 bits.
    pub epoch: u32,
    /// Packets of this epoch.
    pub in_epoch: u32,
    /// Packets that are in the buffer, or were.
    pub sent: u64,
    /// Packets beyond the budget of their epoch.
    pub over_budget: u64,
    /// Packets for which there was no room in the buffer.
    pub buffer_full: u64,
    /// Zero; brings the element to one cache line.
    pub reserved: [u64; 4],
}

/// How packets of an observation point are sampled. Written by user space at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// One in this many packets is accounted (samplingInterval, IE 34); 0 and 1 = every packet.
    pub interval: u32,
    /// `SAMPLING_*`.
    pub algorithm: u32,
    /// Of one in this many packets the header goes to user space; 0 = of none.
    pub header_interval: u32,
    /// Zero.
    pub reserved: u32,
}

/// Every `interval`-th packet.
pub const SAMPLING_DETERMINISTIC: u32 = 1;
/// Packets at random, one in `interval` on average: the distance to the next one is drawn evenly from 1 to
/// twice the interval less one, so that no period in the traffic is followed.
pub const SAMPLING_RANDOM: u32 = 2;

/// Where one CPU is in the sampling of one observation point. Written by the kernel program, and by user
/// space before the point is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SamplingState {
    /// Packets that pass before the next one is selected.
    pub skip: u32,
    /// The same for header samples.
    pub header_skip: u32,
    /// Packets from which header samples were drawn (`sample_pool` of sFlow v5).
    pub header_pool: u64,
    /// Header samples that found no room on their way to user space (drops of sFlow v5).
    pub header_drops: u64,
    /// Zero.
    pub reserved: u64,
}

/// Octets of a packet that a header sample holds at most.
pub const HEADER_SAMPLE_OCTETS: usize = 128;

/// The first octets of a sampled packet, for sFlow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HeaderSample {
    /// Observation point.
    pub observation_point: u16,
    /// Octets of `header` that are the packet's.
    pub captured: u16,
    /// Length of the frame in octets, without its check sequence; of a packet of several segments, of all
    /// of it.
    pub frame_length: u32,
    /// CPU whose totals these are.
    pub cpu: u32,
    /// The tag that the kernel holds beside the frame: TPID and TCI (IEEE 802.1Q); 0 = none.
    pub tag: u32,
    /// Packets of this point on this CPU from which samples were drawn, since the point was registered.
    pub pool: u64,
    /// Samples of this point on this CPU that were lost on their way.
    pub drops: u64,
    /// Octets of payload that each segment but the last one carries, if the kernel merged several packets
    /// or is to cut this one; 0 if not.
    pub segment_payload: u32,
    /// Kernel's index of the interface that a packet came in by that goes out here; 0 = this host made it, or the
    /// packet comes in here.
    pub ingress_interface: u32,
    /// The frame from its first octet.
    pub header: [u8; HEADER_SAMPLE_OCTETS],
}

impl HeaderSample {
    /// From how it lies in memory. `None` if it says that more was captured than there is room for.
    #[must_use]
    pub fn from_octets(octets: &[u8; size_of::<Self>()]) -> Option<Self> {
        let u16_at = |offset| u16::from_ne_bytes(field(octets, offset));
        let u32_at = |offset| u32::from_ne_bytes(field(octets, offset));
        let sample = Self {
            observation_point: u16_at(0),
            captured: u16_at(2),
            frame_length: u32_at(4),
            cpu: u32_at(8),
            tag: u32_at(12),
            pool: u64::from_ne_bytes(field(octets, 16)),
            drops: u64::from_ne_bytes(field(octets, 24)),
            segment_payload: u32_at(32),
            ingress_interface: u32_at(36),
            header: field(octets, 40),
        };
        (sample.captured as usize <= HEADER_SAMPLE_OCTETS).then_some(sample)
    }
}

const _: () = assert!(size_of::<Control>() == 64);
const _: () = assert!(size_of::<TableHeader>() == 64);
const _: () = assert!(size_of::<PointCounters>() == 256);
const _: () = assert!(size_of::<ExtensionState>() == 320);
const _: () = assert!(size_of::<ExtensionNews>() == 144);
const _: () = assert!(size_of::<SamplingState>() == 32);
const _: () = assert!(size_of::<HeaderSample>() == 168);

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

/// Stands for the egress direction of an interface in [`interface_key`]; indices have 31 bits.
const EGRESS: u32 = 1 << 31;

/// Packets of the interface have no Ethernet header.
pub const INTERFACE_FLAG_NO_LINK_HEADER: u16 = 1;
/// Only packets that this host sent itself are counted, not those that it forwards. Egress only.
pub const INTERFACE_FLAG_LOCALLY_ORIGINATED: u16 = 2;
/// The point has an entry in the sampling table.
pub const INTERFACE_FLAG_SAMPLING: u16 = 4;

/// What the interface table is searched for: an interface in one direction.
#[inline(always)]
#[must_use]
pub const fn interface_key(interface_index: u32, egress: bool) -> u32 {
    if egress { interface_index | EGRESS } else { interface_index }
}

/// The slot of the interface table to try as number `probe` (from 0) for an
/// [`interface_key`]. Mixed, because hosts that make and delete many interfaces have indices of every
/// pattern.
#[inline(always)]
#[must_use]
pub const fn interface_slot(interface_key: u32, probe: u32) -> u32 {
    (interface_key.wrapping_mul(0x9e37_79b1) >> 22).wrapping_add(probe) & (INTERFACE_SLOTS - 1)
}

/// Entry of the interface table: the [`interface_key`] in the low half, above it the observation point and
/// `INTERFACE_FLAG_*`, 16 bits each.
#[inline(always)]
#[must_use]
pub const fn interface_entry(interface_key: u32, observation_point: u16, flags: u16) -> u64 {
    interface_key as u64 | (observation_point as u64) << 32 | (flags as u64) << 48
}

/// Observation point and flags of an entry that is for `interface_key`.
#[inline(always)]
#[must_use]
pub const fn entry_point(entry: u64, interface_key: u32) -> Option<(u16, u16)> {
    if entry as u32 == interface_key { Some(((entry >> 32) as u16, (entry >> 48) as u16)) } else { None }
}
