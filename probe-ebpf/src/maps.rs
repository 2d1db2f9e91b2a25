//! Every map and every load-time global. Their layout is documented in `pathflow_common::layout`.

use core::ptr::read_volatile;

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, LruHashMap, PerfEventByteArray, RingBuf},
    macros::btf_map,
};
use pathflow_common::extension::{CHOSEN_PLACES, KeyExtension};
use pathflow_common::flow::{self, Datagram, DatagramPorts, Ipv4Slot, WideSlot};
use pathflow_common::layout::{
    self, Control, ExtensionNews, ExtensionState, HeaderSample, INTERFACE_SLOTS, IPV4_SLOTS_MARK,
    OBSERVATION_POINTS, PayloadState, PointCounters, SPILL_SLOTS_MARK, Sampling, SamplingState, TableHeader,
    WIDE_SLOTS_MARK,
};

/// `BPF_F_MMAPABLE`: user space reads these arrays through a mapping, without system calls.
const MMAPABLE: usize = 1 << 10;
/// Sizes that depend on the number of CPUs are set by the loader.
const PER_CPU: usize = 1;
/// The loader makes it larger where it is used. At least a page.
const RING_OCTETS: usize = 4096;
/// Datagrams in fragments that are remembered at a time, about 2 MiB. The kernel forgets the oldest.
const DATAGRAMS_HELD: usize = 16_384;

/// Extensions that are held at a time. The loader makes it larger where they are asked for.
const EXTENSIONS_HELD: usize = 1;

/// Flow table of one generation on one CPU, IPv4.
pub type Ipv4Table = Array<Ipv4Slot, IPV4_SLOTS_MARK, MMAPABLE>;
/// Flow table of one generation on one CPU, wide keys.
pub type WideTable = Array<WideSlot, WIDE_SLOTS_MARK, MMAPABLE>;
/// Packets that found no slot, of either family, one record each.
pub type SpillLog = Array<WideSlot, SPILL_SLOTS_MARK, MMAPABLE>;

#[btf_map]
pub static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();
#[btf_map]
pub static INTERFACES: Array<u64, { INTERFACE_SLOTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub static SAMPLING: Array<Sampling, { OBSERVATION_POINTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub static SAMPLING_STATES: Array<SamplingState, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static HEADER_SAMPLES: RingBuf<HeaderSample, RING_OCTETS> = RingBuf::new();
#[btf_map]
pub static DATAGRAMS: LruHashMap<Datagram, DatagramPorts, DATAGRAMS_HELD> = LruHashMap::new();
#[btf_map]
pub static EXTENSIONS: LruHashMap<KeyExtension, u64, EXTENSIONS_HELD> = LruHashMap::new();
#[btf_map]
pub static EXTENSION_NEWS: RingBuf<ExtensionNews, RING_OCTETS> = RingBuf::new();
#[btf_map]
pub static EXTENSION_STATES: Array<ExtensionState, PER_CPU> = Array::new();
/// It has an element for each CPU: the loader sees to it.
#[btf_map]
pub static PAYLOADS: PerfEventByteArray = PerfEventByteArray::new();
#[btf_map]
pub static PAYLOAD_STATES: Array<PayloadState, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static PAYLOAD_DONE: Array<u64, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static HEADERS: Array<TableHeader, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static POINTS: Array<PointCounters, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static IPV4_TABLES: ArrayOfMaps<Ipv4Table, PER_CPU> = ArrayOfMaps::new();
#[btf_map]
pub static WIDE_TABLES: ArrayOfMaps<WideTable, PER_CPU> = ArrayOfMaps::new();
#[btf_map]
pub static SPILL_LOGS: ArrayOfMaps<SpillLog, PER_CPU> = ArrayOfMaps::new();

macro_rules! global {
    ($(#[$doc:meta])* $function:ident, $name:ident: $type:ty) => {
        #[unsafe(no_mangle)]
        static $name: $type = 0;
        $(#[$doc])*
        #[inline(always)]
        pub fn $function() -> $type {
            // SAFETY: reads a static of this type. Volatile, because the loader replaces the value in
            // the object's read-only data, where the verifier then takes it for a constant.
            unsafe { read_volatile(&raw const $name) }
        }
    };
}

global!(
    /// Number of possible CPUs.
    cpus, CPUS: u32);
global!(
    /// Slots of an IPv4 table, less one.
    ipv4_mask, IPV4_MASK: u32);
global!(
    /// Slots of a table of wide keys, less one.
    wide_mask, WIDE_MASK: u32);
global!(
    /// Records of a spill log.
    spill_slots, SPILL_SLOTS: u32);
global!(
    /// 1 if the operator's filters have been written into the object.
    has_filter, FILTER: u32);
global!(
    /// 0: a constant for the verifier, and none for the compiler.
    nothing, NOTHING: u64);

global!(
    /// Whether the routing table is asked.
    fib_lookup, FIB_LOOKUP: u32);
global!(
    /// Lookups of one CPU in one epoch at most.
    fib_budget, FIB_BUDGET: u32);
global!(
    /// Whether tunnels are entered.
    inner, INNER: u32);
global!(
    /// Whether the key has the priority of the outer VLAN tag.
    vlan_priority, VLAN_PRIORITY: u32);
global!(
    /// Whether extensions have the packet inside a tunnel.
    extension_inner, EXTENSION_INNER: u32);
global!(
    /// Whether extensions have the whole MPLS stack.
    extension_labels, EXTENSION_LABELS: u32);
global!(
    /// Octets of a layer that chosen places reach.
    chosen_reach, CHOSEN_REACH: u32);
global!(
    /// For how long fragments are of one datagram, in ticks.
    datagram_ticks, DATAGRAM_TICKS: u32);

global!(
    /// Packets with payload of each flow and epoch of which user space gets the first octets.
    payload_packets, PAYLOAD_PACKETS: u32);
global!(
    /// Octets of such a packet.
    payload_octets, PAYLOAD_OCTETS: u32);
global!(
    /// Such packets of one CPU in one epoch at most.
    payload_budget, PAYLOAD_BUDGET: u32);
global!(
    /// Elements of the array of those that are not wanted any more, less one.
    payload_mask, PAYLOAD_MASK: u32);

#[unsafe(no_mangle)]
static VXLAN_PORTS: [u16; layout::VXLAN_PORTS] = [0; layout::VXLAN_PORTS];

/// UDP destination ports of VXLAN.
#[inline(always)]
pub fn vxlan_ports() -> [u16; layout::VXLAN_PORTS] {
    // SAFETY: reads a static of this type; volatile, because the loader replaces the value.
    unsafe { read_volatile(&raw const VXLAN_PORTS) }
}

#[unsafe(no_mangle)]
static CHOSEN: [u64; CHOSEN_PLACES] = [0; CHOSEN_PLACES];

/// A place of chosen octets; `number` is below [`CHOSEN_PLACES`].
#[inline(always)]
pub fn chosen_place(number: usize) -> u64 {
    let place = (&raw const CHOSEN).cast::<u64>().wrapping_add(number & (CHOSEN_PLACES - 1));
    // SAFETY: reads an element of a static of this type; volatile, because the loader replaces the value.
    unsafe { read_volatile(place) }
}

#[unsafe(no_mangle)]
static HASH_SECRETS: [u32; flow::HASH_SECRETS] = [0; flow::HASH_SECRETS];

/// Secrets of the table hash.
#[inline(always)]
pub fn hash_secrets() -> &'static [u32; flow::HASH_SECRETS] {
    // The compiler knows the zeroes above, but must not use them: the loader replaces them.
    core::hint::black_box(&HASH_SECRETS)
}

/// Not read-only, so that the verifier does not take its value for known.
static mut ZERO: usize = 0;

/// Zero, which neither the compiler nor the verifier knows.
#[inline(always)]
pub fn zero() -> usize {
    // SAFETY: reads a static of this type, which nobody writes to. Volatile, because the compiler knows that.
    unsafe { read_volatile(&raw const ZERO) }
}
