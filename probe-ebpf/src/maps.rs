//! Every map and every load-time global. Their layout is documented in `pathflow_common::layout`.

use core::ptr::read_volatile;

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps},
    macros::btf_map,
};
use pathflow_common::flow::{self, Ipv4Slot, Ipv6Slot};
use pathflow_common::layout::{
    Control, INTERFACE_SLOTS, IPV4_SLOTS_MARK, IPV6_SLOTS_MARK, PointCounters, SPILL_SLOTS_MARK, TableHeader,
};

/// `BPF_F_MMAPABLE`: user space reads these arrays through a mapping, without system calls.
const MMAPABLE: usize = 1 << 10;
/// Sizes that depend on the number of CPUs are set by the loader.
const PER_CPU: usize = 1;

/// Flow table of one generation on one CPU, IPv4.
pub type Ipv4Table = Array<Ipv4Slot, IPV4_SLOTS_MARK, MMAPABLE>;
/// Flow table of one generation on one CPU, IPv6.
pub type Ipv6Table = Array<Ipv6Slot, IPV6_SLOTS_MARK, MMAPABLE>;
/// Packets that found no slot, of either family, one record each.
pub type SpillLog = Array<Ipv6Slot, SPILL_SLOTS_MARK, MMAPABLE>;

#[btf_map]
pub static CONTROL: Array<Control, 1, MMAPABLE> = Array::new();
#[btf_map]
pub static INTERFACES: Array<u64, { INTERFACE_SLOTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub static HEADERS: Array<TableHeader, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static POINTS: Array<PointCounters, PER_CPU, MMAPABLE> = Array::new();
#[btf_map]
pub static IPV4_TABLES: ArrayOfMaps<Ipv4Table, PER_CPU> = ArrayOfMaps::new();
#[btf_map]
pub static IPV6_TABLES: ArrayOfMaps<Ipv6Table, PER_CPU> = ArrayOfMaps::new();
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
    /// Slots of an IPv6 table, less one.
    ipv6_mask, IPV6_MASK: u32);
global!(
    /// Records of a spill log.
    spill_slots, SPILL_SLOTS: u32);

#[unsafe(no_mangle)]
static HASH_SECRETS: [u32; flow::HASH_SECRETS] = [0; flow::HASH_SECRETS];

/// Secrets of the table hash.
#[inline(always)]
pub fn hash_secrets() -> &'static [u32; flow::HASH_SECRETS] {
    // The compiler knows the zeroes above, but must not use them: the loader replaces them.
    core::hint::black_box(&HASH_SECRETS)
}
