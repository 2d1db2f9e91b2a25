//! Adds one packet to its flow, or to the counter that says why it is in none.
//!
//! No atomics and no locks: the tables, header and counters used here belong to this CPU and to the
//! current epoch, and a program that runs in the driver's receive path is not preempted by another one
//! on the same CPU.

use core::ptr::read_volatile;

use aya_ebpf::{helpers::bpf_get_smp_processor_id, programs::XdpContext};
use pathflow_common::DropReason;
use pathflow_common::flow::{FlowCounters, Ipv4Key, Ipv6Key, Key, Slot};
use pathflow_common::layout::{
    Count, INTERFACE_PROBES, PROBES, PointCounters, TableHeader, entry_point, interface_slot, per_cpu_index,
    point_index, slot_number,
};
use pathflow_common::parse::{FlowSink, PacketFacts, parse};

use crate::clock::{jiffies, stamp};
use crate::frame::{Frame, FrameLength};
use crate::log;
use crate::maps::{self, CONTROL, HEADERS, INTERFACES, IPV4_TABLES, IPV6_TABLES, POINTS, SPILL_LOGS};

/// Accounts the packet of `context`.
#[inline(always)]
pub fn account<L: FrameLength>(context: &XdpContext) {
    let Some(control) = CONTROL.get_ptr(0) else { return };
    // SAFETY: points to the one element of an array map. Read once: if user space starts a new epoch in
    // the middle of this packet, the packet still belongs wholly to the epoch it started in.
    let epoch = unsafe { read_volatile(&raw const (*control).epoch) };
    // SAFETY: the helper takes no argument and has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let table = per_cpu_index(epoch, maps::cpus(), cpu);
    let observation_point = observation_point(interface_index(context));
    let Some(counters) = POINTS.get_ptr_mut(point_index(table, observation_point)) else { return };
    let frame = Frame::<L>::new(context);
    parse(&frame, observation_point, Packet { context, epoch: epoch as u32, table, counters });
}

#[inline(always)]
fn interface_index(context: &XdpContext) -> u32 {
    // SAFETY: `ctx` is the context the program was called with.
    unsafe { (*context.ctx).ingress_ifindex }
}

/// The number that user space gave to the interface; 0 if none.
#[inline(always)]
fn observation_point(interface_index: u32) -> u16 {
    let mut probe = 0;
    while probe < INTERFACE_PROBES {
        let Some(entry) = INTERFACES.get_ptr(interface_slot(interface_index, probe)) else {
            return 0;
        };
        // SAFETY: points to an element of an array map; aligned 64-bit reads are not torn.
        if let Some(point) = entry_point(unsafe { read_volatile(entry) }, interface_index) {
            return point;
        }
        probe += 1;
    }
    0
}

/// One packet on its way into the tables.
struct Packet<'a> {
    context: &'a XdpContext,
    epoch: u32,
    /// Index of this CPU's table of the epoch's generation.
    table: u32,
    counters: *mut PointCounters,
}

impl FlowSink for Packet<'_> {
    #[inline(always)]
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.seen(facts.octets);
        let now = jiffies();
        let hash = key.hash(maps::hash_secrets());
        let Some(table) = IPV4_TABLES.get(self.table) else { return self.spill(key.widen(), facts, now) };
        let mut probe = 0;
        while probe < PROBES {
            let Some(slot) = table.get_ptr_mut(slot_number(hash, probe, maps::ipv4_mask())) else { break };
            // SAFETY: an element of the table of this CPU and generation, as looked up above.
            match unsafe { add(slot, self.epoch, &key, facts, now) } {
                Added::ToFlow => return,
                Added::NewFlow => {
                    return self.header(|header| {
                        header.ipv4_used += 1;
                        stamp(header);
                    });
                }
                Added::No => probe += 1,
            }
        }
        self.spill(key.widen(), facts, now);
    }

    #[inline(always)]
    fn ipv6(self, key: Ipv6Key, facts: PacketFacts) {
        self.seen(facts.octets);
        let now = jiffies();
        let hash = key.hash(maps::hash_secrets());
        let Some(table) = IPV6_TABLES.get(self.table) else { return self.spill(key, facts, now) };
        let mut probe = 0;
        while probe < PROBES {
            let Some(slot) = table.get_ptr_mut(slot_number(hash, probe, maps::ipv6_mask())) else { break };
            // SAFETY: points to an element of an array map; only the address of its part is taken.
            let slot = unsafe { &raw mut (*slot).slot };
            // SAFETY: an element of the table of this CPU and generation, as looked up above.
            match unsafe { add(slot, self.epoch, &key, facts, now) } {
                Added::ToFlow => return,
                Added::NewFlow => {
                    return self.header(|header| {
                        header.ipv6_used += 1;
                        stamp(header);
                    });
                }
                Added::No => probe += 1,
            }
        }
        self.spill(key, facts, now);
    }

    #[inline(always)]
    fn unaccounted(self, reason: DropReason, octets: u32) {
        log::unaccounted(self.context, reason);
        self.seen(octets);
        // SAFETY: see `seen`; a reason is a valid index by its type.
        unsafe { count(&raw mut (*self.counters).dropped[reason as usize], octets) };
    }
}

impl Packet<'_> {
    #[inline(always)]
    fn seen(&self, octets: u32) {
        // SAFETY: `counters` points to an element of an array map, which lives as long as the program,
        // and this CPU is its only writer in this epoch.
        unsafe { count(&raw mut (*self.counters).seen, octets) };
    }

    #[inline(always)]
    fn header(&self, change: impl FnOnce(&mut TableHeader)) {
        let Some(header) = HEADERS.get_ptr_mut(self.table) else { return };
        // SAFETY: points to an element of an array map; this CPU is its only writer in this epoch.
        change(unsafe { &mut *header });
    }

    /// The packet found no slot: keep it as a record of its own, for user space to merge.
    #[inline(always)]
    fn spill(&self, key: Ipv6Key, facts: PacketFacts, now: u32) {
        if self.log(key, facts, now) {
            // SAFETY: see `seen`.
            unsafe { count(&raw mut (*self.counters).spilled, facts.octets) };
        } else {
            log::unaccounted(self.context, DropReason::TableOverflow);
            // SAFETY: see `seen`.
            unsafe {
                count(&raw mut (*self.counters).dropped[DropReason::TableOverflow as usize], facts.octets);
            }
        }
    }

    #[inline(always)]
    fn log(&self, key: Ipv6Key, facts: PacketFacts, now: u32) -> bool {
        let Some(header) = HEADERS.get_ptr_mut(self.table) else { return false };
        // SAFETY: points to an element of an array map; this CPU is its only writer in this epoch.
        let position = unsafe { (*header).spilled };
        if position >= maps::spill_slots() {
            return false;
        }
        let Some(log) = SPILL_LOGS.get(self.table) else { return false };
        let Some(record) = log.get_ptr_mut(position) else { return false };
        // SAFETY: as for the header; `position` was checked by the lookup.
        unsafe {
            write(&raw mut (*record).slot, self.epoch, &key, facts, now);
            (*header).spilled = position + 1;
            stamp(&mut *header);
        }
        true
    }
}

/// What became of a packet at one slot.
enum Added {
    ToFlow,
    NewFlow,
    No,
}

/// Adds the packet to `slot` if the slot is free or holds the packet's flow.
///
/// # Safety
/// `slot` must point to an element of a table of this CPU and of the generation of `epoch`.
#[inline(always)]
unsafe fn add<const N: usize>(
    slot: *mut Slot<N>,
    epoch: u32,
    key: &Key<N>,
    facts: PacketFacts,
    now: u32,
) -> Added {
    // SAFETY: by the caller's guarantee this CPU alone writes to the slot.
    unsafe {
        let words = &(*slot).key.0;
        if words[0] as u32 != epoch {
            write(slot, epoch, key, facts, now);
            return Added::NewFlow;
        }
        let mut difference = words[0] ^ (key.0[0] | epoch as u64);
        let mut i = 1;
        while i < N {
            difference |= words[i] ^ key.0[i];
            i += 1;
        }
        if difference != 0 {
            return Added::No;
        }
        let counters = &raw mut (*slot).counters;
        (*counters).octets += facts.octets as u64;
        (*counters).packets += 1;
        (*counters).last = now;
        (*counters).tcp_control_bits |= facts.tcp_control_bits;
        Added::ToFlow
    }
}

/// Writes a new flow of one packet into `slot`.
///
/// # Safety
/// `slot` must point to an element of a table of this CPU and of the generation of `epoch`.
#[inline(always)]
unsafe fn write<const N: usize>(slot: *mut Slot<N>, epoch: u32, key: &Key<N>, facts: PacketFacts, now: u32) {
    let mut key = *key;
    key.0[0] |= epoch as u64;
    // SAFETY: by the caller's guarantee this CPU alone writes to the slot.
    unsafe {
        (*slot).key = key;
        (*slot).counters = FlowCounters {
            octets: facts.octets as u64,
            packets: 1,
            first: now,
            last: now,
            tcp_control_bits: facts.tcp_control_bits,
            reserved: [0; 9],
        };
    }
}

/// Adds one packet of `octets` to a counter.
///
/// # Safety
/// `counter` must point into an element of a map of which this CPU is the only writer in this epoch.
#[inline(always)]
unsafe fn count(counter: *mut Count, octets: u32) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        (*counter).packets += 1;
        (*counter).octets += octets as u64;
    }
}
