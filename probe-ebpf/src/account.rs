//! Adds one packet to its flow, or to the counter that says why it is in none.
//!
//! No atomics and no locks: the tables, header and counters used here belong to this CPU and to the
//! current epoch, and a program that runs in the driver's receive path is not preempted by another one
//! on the same CPU.

use core::ffi::c_void;
use core::ptr::{null_mut, read_volatile};

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use pathflow_common::flow::{
    Datagram, DatagramPorts, Encapsulation, FlowCounters, Ipv4Key, Ipv4Slot, Key, Origin, Slot, WideKey,
    WideSlot,
};
use pathflow_common::layout::{
    Count, ExtensionState, INTERFACE_FLAG_LOCALLY_ORIGINATED, INTERFACE_FLAG_NO_LINK_HEADER,
    INTERFACE_FLAG_SAMPLING, INTERFACE_PROBES, PointCounters, Probes, TableHeader, entry_point,
    interface_key, interface_slot, per_cpu_index, point_index,
};
use pathflow_common::parse::link::Link;
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse_link};
use pathflow_common::{DropReason, PacketBytes as _};

use crate::clock::{jiffies, stamp};
use crate::extend::{self, pathflow_extend, pathflow_parse};
use crate::fib::{self, Route};
use crate::filter::{self, pathflow_filter};
use crate::frame::Frame;
use crate::hook::{Hook, Segments};
use crate::log;
use crate::maps::{
    self, CONTROL, DATAGRAMS, EXTENSION_STATES, HEADERS, INTERFACES, IPV4_TABLES, POINTS, SPILL_LOGS,
    WIDE_TABLES,
};
use crate::payload::pathflow_payload;
use crate::sample::Sampler;

/// Where the MAC addresses are in an Ethernet frame.
const DESTINATION_MAC: usize = 0;
const SOURCE_MAC: usize = 6;

/// What keys have.
pub trait Keys {
    /// Whether they are extended.
    const EXTENDED: bool;
}

/// No more than their words.
pub struct Words;
/// Extensions.
pub struct Extended;

impl Keys for Words {
    const EXTENDED: bool = false;
}

impl Keys for Extended {
    const EXTENDED: bool = true;
}

/// Accounts the packet at `hook`.
#[inline(always)]
pub fn account<H: Hook, K: Keys>(hook: &H) {
    let Some(control) = CONTROL.get_ptr(0) else { return };
    // SAFETY: points to the one element of an array map. Read once: if user space starts a new epoch in
    // the middle of this packet, the packet still belongs wholly to the epoch it started in.
    let epoch = unsafe { read_volatile(&raw const (*control).epoch) };
    // SAFETY: the helper takes no argument and has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let table = per_cpu_index(epoch, maps::cpus(), cpu);
    let (observation_point, flags) = observation_point(interface_key(hook.interface_index(), H::EGRESS));
    if H::EGRESS && flags & INTERFACE_FLAG_LOCALLY_ORIGINATED != 0 && hook.ingress_interface_index() != 0 {
        // Counted where it came in.
        return;
    }
    let Some(counters) = POINTS.get_ptr_mut(point_index(table, observation_point)) else { return };
    let frame = hook.frame();
    let segments = hook.segments();
    let mut packet = Packet { hook, epoch: epoch as u32, table, counters, segments, selected: u32::MAX };
    let has_link_header = flags & INTERFACE_FLAG_NO_LINK_HEADER == 0;
    let mut origin = Origin::from(observation_point);
    if maps::has_filter() != 0 {
        let verdict = filter(hook, &frame, has_link_header);
        if verdict & filter::ACCOUNTED == 0 {
            let octets = frame.wire_length();
            return packet.dropped(DropReason::Filtered, segments.packets(octets), octets as u64);
        }
        origin.filter_results = (verdict >> filter::RESULTS) as u8;
    }
    if flags & INTERFACE_FLAG_SAMPLING != 0
        && let Some(sampler) = Sampler::new(cpu, observation_point)
    {
        // How long the headers are is not known yet, so it is nearly exact where the kernel does not say.
        let packets = segments.packets(frame.wire_length());
        sampler.header(hook, &frame, cpu, observation_point, segments, packets);
        let selected = sampler.select(packets);
        if selected < packets {
            let octets = frame.wire_length() as u64 * (packets - selected) as u64 / packets as u64;
            packet.dropped(DropReason::NotSelected, packets - selected, octets);
            if selected == 0 {
                return;
            }
            packet.selected = selected;
        }
    }
    match hook.link(&frame, has_link_header) {
        Some(link) => {
            let link = if H::FORGETS { link.forget(&frame) } else { link };
            packet.selected = forget::<H>(packet.selected as u64) as u32;
            if K::EXTENDED {
                packet.account_extended(&frame, origin, link, cpu);
            } else {
                parse_link(&frame, origin, link, packet);
            }
        }
        None => packet.unaccounted(DropReason::Truncated, frame.wire_length()),
    }
}

/// The number and the flags that user space gave to an interface in one direction; 0 if none.
#[inline(always)]
fn observation_point(interface_key: u32) -> (u16, u16) {
    let mut probe = 0;
    while probe < INTERFACE_PROBES {
        let Some(entry) = INTERFACES.get_ptr(interface_slot(interface_key, probe)) else {
            return (0, 0);
        };
        // SAFETY: points to an element of an array map; aligned 64-bit reads are not torn.
        if let Some(found) = entry_point(unsafe { read_volatile(entry) }, interface_key) {
            return found;
        }
        probe += 1;
    }
    (0, 0)
}

/// What the operator's filters say of the packet, see [`pathflow_filter`].
#[inline(always)]
fn filter<H: Hook>(hook: &H, frame: &Frame<'_, H>, has_link_header: bool) -> u32 {
    let beside = hook.beside(has_link_header);
    let tag_octets = if beside >> 32 == filter::TAG { 4 } else { 0 };
    pathflow_filter(frame.start, frame.end, frame.wire_length() + tag_octets, beside)
}

/// One packet on its way into the tables.
struct Packet<'a, H> {
    hook: &'a H,
    epoch: u32,
    /// Index of this CPU's table of the epoch's generation.
    table: u32,
    counters: *mut PointCounters,
    segments: Segments,
    /// Packets of these segments that sampling selected.
    selected: u32,
}

/// What a packet adds to its flow: more than one packet, if it is of several segments.
#[derive(Clone, Copy)]
struct Addition {
    packets: u32,
    octets: u64,
    tcp_control_bits: u16,
    now: u32,
    /// Octets of payload, as a difference that the verifier knows nothing of: 0 or less = there is none.
    payload: u32,
}

impl<H: Hook> FlowSink for Packet<'_, H> {
    #[inline(always)]
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        let slot = self.ipv4_slot(key, facts);
        if !slot.is_null() {
            // SAFETY: a slot of the table of this CPU and generation, which was just taken for this flow.
            unsafe { self.complete_ipv4(slot, &key) };
        }
    }

    #[inline(always)]
    fn wide(self, key: WideKey, facts: PacketFacts) {
        let slot = self.wide_slot(key, facts);
        if !slot.is_null() {
            // SAFETY: a slot of the table of this CPU and generation, which was just taken for this flow.
            unsafe { self.complete_wide(slot, &key) };
        }
    }

    #[inline(always)]
    fn unaccounted(self, reason: DropReason, octets: u32) {
        log::unaccounted(self.hook.context(), reason);
        let packets = self.segments.packets(octets);
        let packets = if !H::MERGED || packets < self.selected { packets } else { self.selected };
        self.dropped(reason, packets, octets as u64);
    }

    #[inline(always)]
    fn has_vlan_priority(&self) -> bool {
        maps::vlan_priority() != 0
    }

    #[inline(always)]
    fn has_flow_label(&self) -> bool {
        maps::flow_label() != 0
    }

    #[inline(always)]
    fn first_fragment(&self, datagram: &Datagram, ports: DatagramPorts) {
        first_fragment(datagram, ports);
    }

    #[inline(always)]
    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        // SAFETY: `counters` as in `seen`.
        unsafe { (*self.counters).later_fragments += 1 };
        datagram_ports(datagram)
    }
}

/// Steps that take a packet from what [`pathflow_parse`] and [`pathflow_extend`] have left in the state. `place` has the
/// table and, in its low half, the epoch.
macro_rules! step {
    ($(#[$doc:meta])* $name:ident, $slot:ty, $($argument:ident)? |$packet:ident, $state:ident| $step:expr) => {
        $(#[$doc])*
        #[inline(never)]
        fn $name<H: Hook>(
            context: *mut c_void,
            $state: *mut ExtensionState,
            counters: *mut PointCounters,
            place: u64,
            $($argument: *mut $slot,)?
        ) -> *mut $slot {
            let own = H::own_context(context);
            let hook = H::of(&own);
            // SAFETY: as in `account_extended`.
            let (segments, selected) = unsafe {
                let segments = Segments { count: (*$state).segments, payload: (*$state).segment_payload };
                (segments, (*$state).selected)
            };
            let (epoch, table) = (place as u32, (place >> 32) as u32);
            let $packet = Packet { hook: &hook, epoch, table, counters, segments, selected };
            $step
        }
    };
}

step!(
    /// See [`Packet::ipv4_slot`].
    pathflow_ipv4, Ipv4Slot, |packet, state| {
        // SAFETY: as in `account_extended`.
        let (key, facts) = unsafe { ((*state).key.narrow(), facts(state)) };
        packet.ipv4_slot(key, facts)
    }
);
step!(
    /// See [`Packet::wide_slot`].
    pathflow_wide, WideSlot, |packet, state| {
        // SAFETY: as in `account_extended`.
        let (key, facts) = unsafe { ((*state).key, facts(state)) };
        packet.wide_slot(key, facts)
    }
);
step!(
    /// See [`Packet::complete_ipv4`].
    pathflow_new_ipv4, Ipv4Slot, slot |packet, state| {
        // SAFETY: as in `account_extended`; the slot that was just taken.
        unsafe {
            let key = (*state).key.narrow();
            packet.complete_ipv4(slot, &key);
        }
        null_mut()
    }
);
step!(
    /// See [`Packet::complete_wide`].
    pathflow_new_wide, WideSlot, slot |packet, state| {
        // SAFETY: as in `account_extended`; the slot that was just taken.
        unsafe {
            let key = (*state).key;
            packet.complete_wide(slot, &key);
        }
        null_mut()
    }
);

/// What the parser found.
///
/// # Safety
/// `state` must point to the state of this CPU.
#[inline(always)]
unsafe fn facts(state: *mut ExtensionState) -> PacketFacts {
    // SAFETY: by the caller's guarantee.
    unsafe {
        PacketFacts {
            octets: (*state).octets,
            tcp_control_bits: (*state).tcp_control_bits,
            header_octets: (*state).header_octets,
        }
    }
}

/// Remembers what the first fragment of a datagram says.
#[inline(always)]
pub fn first_fragment(datagram: &Datagram, ports: DatagramPorts) {
    // A full table makes room by itself; other failures cost the later fragments their ports.
    let _ = DATAGRAMS.insert(datagram, DatagramPorts { jiffies: jiffies(), ..ports }, 0);
}

/// What the first fragment of a datagram said.
#[inline(always)]
pub fn datagram_ports(datagram: &Datagram) -> Option<DatagramPorts> {
    let first = DATAGRAMS.get_ptr(datagram)?;
    // SAFETY: points to a value of the map. Another CPU may be overwriting it with that of a datagram of
    // the same name, in which case either is as good.
    let first = unsafe { read_volatile(first) };
    (jiffies().wrapping_sub(first.jiffies) <= maps::datagram_ticks()).then_some(first)
}

impl<H> Tunnels for Packet<'_, H> {
    #[inline(always)]
    fn entered(&self) -> bool {
        maps::inner() != 0
    }

    #[inline(always)]
    fn is_vxlan(&self, destination_port: u16) -> bool {
        extend::is_vxlan(destination_port)
    }
}

impl<H: Hook> Packet<'_, H> {
    /// Accounts the packet where keys are extended. All of it goes through memory, so that the verifier follows the
    /// parser, what comes behind it, and the tables one after the other and not in every combination; and in functions
    /// of their own, which can have the stack to themselves.
    #[inline(always)]
    fn account_extended(self, frame: &Frame<'_, H>, origin: Origin, link: Link, cpu: u32) {
        let Some(state) = EXTENSION_STATES.get_ptr_mut(cpu) else { return };
        // SAFETY: points to an element of an array map, of which this CPU is the only user.
        unsafe {
            (*state).ether_type = link.ether_type;
            (*state).offset = link.offset as u16;
            (*state).outer_tag = link.outer_tag;
            (*state).has_tag = link.tags as u16;
            (*state).tag = self.hook.tag();
            (*state).observation_point = origin.observation_point;
            (*state).filter_results = origin.filter_results as u16;
        }
        let length = frame.wire_length();
        match pathflow_parse(frame.start, frame.end, length, state) {
            extend::FLOW => {}
            extend::NOT_IP => return self.unaccounted(DropReason::NotIp, length),
            extend::TRUNCATED => return self.unaccounted(DropReason::Truncated, length),
            _ => return self.unaccounted(DropReason::Malformed, length),
        }
        let reference = pathflow_extend(frame.start, frame.end, length, state);
        // SAFETY: as above.
        unsafe {
            (*state).segments = self.segments.count;
            (*state).segment_payload = self.segments.payload;
            (*state).selected = self.selected;
        }
        let place = (self.table as u64) << 32 | self.epoch as u64;
        // SAFETY: as above; `counters` as in `seen`.
        let is_plain = unsafe {
            (*self.counters).later_fragments += (*state).is_later_fragment;
            match reference {
                extend::NOTHING => {}
                extend::NO_ROOM => (*self.counters).without_extension += 1,
                reference => (*state).key = (*state).key.with_extension_reference(reference),
            }
            (*state).key.is_plain_ipv4()
        };
        let context = self.hook.pointer();
        if is_plain {
            let slot = pathflow_ipv4::<H>(context, state, self.counters, place);
            if !slot.is_null() {
                pathflow_new_ipv4::<H>(context, state, self.counters, place, slot);
            }
        } else {
            let slot = pathflow_wide::<H>(context, state, self.counters, place);
            if !slot.is_null() {
                pathflow_new_wide::<H>(context, state, self.counters, place, slot);
            }
        }
    }

    /// Adds the packet to its flow. Returns the slot if the flow is new: it is to be completed.
    #[inline(always)]
    fn ipv4_slot(&self, mut key: Ipv4Key, facts: PacketFacts) -> *mut Ipv4Slot {
        for word in &mut key.0 {
            *word = forget::<H>(*word);
        }
        let addition = self.seen(facts);
        let hash = key.hash(maps::hash_secrets());
        let Some(table) = IPV4_TABLES.get(self.table) else {
            self.spill(key.widen(Encapsulation::NONE), addition);
            return null_mut();
        };
        // The mask is read once: in the loop, that costs packets that find no slot a sixth of their time.
        let (mut probes, mask) = (Probes::new(hash), maps::ipv4_mask());
        while let Some(number) = probes.next(mask) {
            let Some(slot) = table.get_ptr_mut(number) else { break };
            // SAFETY: an element of the table of this CPU and generation, as looked up above.
            let added = unsafe { add(slot, self.epoch, &key, addition) };
            if matches!(added, Added::No) {
                continue;
            }
            // SAFETY: the packet is in this slot.
            unsafe { self.show(&raw const (*slot).counters, key.0[0], hash, addition) };
            return if matches!(added, Added::NewFlow) { slot } else { null_mut() };
        }
        self.spill(key.widen(Encapsulation::NONE), addition);
        null_mut()
    }

    /// The same for a wide key.
    #[inline(always)]
    fn wide_slot(&self, mut key: WideKey, facts: PacketFacts) -> *mut WideSlot {
        for word in &mut key.0 {
            *word = forget::<H>(*word);
        }
        let addition = self.seen(facts);
        let hash = key.hash(maps::hash_secrets());
        let Some(table) = WIDE_TABLES.get(self.table) else {
            self.spill(key, addition);
            return null_mut();
        };
        // The mask is read once: in the loop, that costs packets that find no slot a sixth of their time.
        let (mut probes, mask) = (Probes::new(hash), maps::wide_mask());
        while let Some(number) = probes.next(mask) {
            let Some(slot) = table.get_ptr_mut(number) else { break };
            // SAFETY: points to an element of an array map; only the address of its part is taken.
            let flow = unsafe { &raw mut (*slot).slot };
            // SAFETY: an element of the table of this CPU and generation, as looked up above.
            let added = unsafe { add(flow, self.epoch, &key, addition) };
            if matches!(added, Added::No) {
                continue;
            }
            // SAFETY: the packet is in this slot.
            unsafe { self.show(&raw const (*flow).counters, key.0[0], hash, addition) };
            return if matches!(added, Added::NewFlow) { slot } else { null_mut() };
        }
        self.spill(key, addition);
        null_mut()
    }

    /// Notes where packets of a new flow go, or come from.
    ///
    /// # Safety
    /// `slot` must point to an element of the table of this CPU and generation.
    #[inline(always)]
    unsafe fn complete_ipv4(&self, slot: *mut Ipv4Slot, key: &Ipv4Key) {
        let Some(header) = self.header() else { return };
        header.ipv4_used += 1;
        stamp(header);
        let route = self.other_end(header, &key.widen(Encapsulation::NONE));
        // SAFETY: by the caller's guarantee this CPU alone writes to the slot.
        unsafe {
            if let Some(route) = route {
                (*slot).counters.other_interface = route.interface;
                (*slot).counters.next_hop = first_half(route.next_hop[0]);
            }
            (*slot).counters.neighbour = self.neighbour();
        }
    }

    /// The same for a wide key, and as unsafe.
    #[inline(always)]
    unsafe fn complete_wide(&self, slot: *mut WideSlot, key: &WideKey) {
        let Some(header) = self.header() else { return };
        header.wide_used += 1;
        stamp(header);
        let route = self.other_end(header, key);
        // SAFETY: by the caller's guarantee this CPU alone writes to the slot.
        unsafe {
            if let Some(route) = route {
                (*slot).slot.counters.other_interface = route.interface;
                (*slot).next_hop = route.next_hop;
            } else {
                clear((&raw mut (*slot).next_hop).cast::<u64>(), 2);
            }
            (*slot).slot.counters.neighbour = self.neighbour();
        }
    }

    /// Counts the packet as seen; returns what it adds to its flow.
    #[inline(always)]
    fn seen(&self, facts: PacketFacts) -> Addition {
        let facts = PacketFacts {
            tcp_control_bits: forget::<H>(facts.tcp_control_bits as u64) as u16,
            header_octets: forget::<H>(facts.header_octets as u64) as u16,
            ..facts
        };
        let headers = facts.header_octets as u32;
        let mut packets = self.segments.packets(facts.octets.saturating_sub(headers));
        // Every segment has the headers for itself.
        let mut octets = facts.octets as u64 + (packets - 1) as u64 * headers as u64;
        // One packet is selected as a whole.
        if H::MERGED && self.selected < packets {
            octets = octets * self.selected as u64 / packets as u64;
            packets = self.selected;
        }
        // SAFETY: `counters` points to an element of an array map, which lives as long as the program,
        // and this CPU is its only writer in this epoch.
        unsafe { count(&raw mut (*self.counters).seen, packets, octets) };
        let payload = facts.octets.wrapping_sub(headers);
        Addition { packets, octets, tcp_control_bits: facts.tcp_control_bits, now: jiffies(), payload }
    }

    /// Sends the packet to user space, if it has payload and is one of the first in its slot, which has these `counters`.
    #[inline(always)]
    unsafe fn show(&self, counters: *const FlowCounters, first_word: u64, hash: u64, addition: Addition) {
        if maps::payload_packets() == 0 || addition.payload as i32 <= 0 {
            return;
        }
        // SAFETY: by the caller's guarantee.
        let before = unsafe { read_volatile(&raw const (*counters).packets) } - addition.packets as u64;
        if before < maps::payload_packets() as u64 {
            let observation_point = (first_word >> 32) as u8 as u32;
            let (context, length) = (self.hook.pointer(), self.hook.wire_length());
            pathflow_payload(context, length, observation_point, self.epoch, hash);
        }
    }

    /// Counts packets as seen, and as in no flow.
    #[inline(always)]
    fn dropped(&self, reason: DropReason, packets: u32, octets: u64) {
        // SAFETY: as in `seen`; a reason is a valid index by its type.
        unsafe {
            count(&raw mut (*self.counters).seen, packets, octets);
            count(&raw mut (*self.counters).dropped[reason as usize], packets, octets);
        }
    }

    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "it is the map's, and not borrowed from the packet")]
    fn header(&self) -> Option<&mut TableHeader> {
        let header = HEADERS.get_ptr_mut(self.table)?;
        // SAFETY: points to an element of an array map; this CPU is its only writer in this epoch, and the
        // one reference to it is this one.
        Some(unsafe { &mut *header })
    }

    /// The other end of the packet's way through this host, if it is asked for.
    #[inline(always)]
    fn other_end(&self, header: &mut TableHeader, key: &WideKey) -> Option<Route> {
        if H::EGRESS {
            return Some(Route { interface: self.hook.ingress_interface_index(), next_hop: [0; 2] });
        }
        if maps::fib_lookup() == 0 || header.fib_lookups >= maps::fib_budget() {
            return None;
        }
        header.fib_lookups += 1;
        Some(fib::look_up(self.hook.pointer(), self.hook.interface_index(), key))
    }

    /// The MAC address at the other end of the link.
    #[inline(always)]
    fn neighbour(&self) -> [u8; 6] {
        let offset = if H::EGRESS { DESTINATION_MAC } else { SOURCE_MAC };
        self.hook.start().read(offset).unwrap_or_default()
    }

    /// The packet found no slot: keep it as a record of its own, for user space to merge.
    #[inline(always)]
    fn spill(&self, key: WideKey, addition: Addition) {
        let Addition { packets, octets, .. } = addition;
        if self.log(key, addition) {
            // SAFETY: see `seen`.
            unsafe { count(&raw mut (*self.counters).spilled, packets, octets) };
        } else {
            log::unaccounted(self.hook.context(), DropReason::TableOverflow);
            // SAFETY: see `seen`.
            unsafe {
                count(&raw mut (*self.counters).dropped[DropReason::TableOverflow as usize], packets, octets);
            }
        }
    }

    #[inline(always)]
    fn log(&self, key: WideKey, addition: Addition) -> bool {
        let Some(header) = self.header() else { return false };
        let position = header.spilled;
        if position >= maps::spill_slots() {
            return false;
        }
        let Some(log) = SPILL_LOGS.get(self.table) else { return false };
        let Some(record) = log.get_ptr_mut(position) else { return false };
        // SAFETY: an element of this CPU's log of this generation; `position` was checked by the lookup.
        unsafe {
            write(&raw mut (*record).slot, self.epoch, &key, addition);
            clear((&raw mut (*record).next_hop).cast::<u64>(), 2);
        }
        header.spilled = position + 1;
        stamp(header);
        true
    }
}

/// The value, so that the verifier does not know how it came about.
#[inline(always)]
fn forget<H: Hook>(value: u64) -> u64 {
    if H::FORGETS { value + maps::zero() as u64 } else { value }
}

/// The first four of the eight octets of a word.
#[inline(always)]
fn first_half(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
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
unsafe fn add<const N: usize>(slot: *mut Slot<N>, epoch: u32, key: &Key<N>, addition: Addition) -> Added {
    // SAFETY: by the caller's guarantee this CPU alone writes to the slot.
    unsafe {
        let words = &(*slot).key.0;
        if words[0] as u32 != epoch {
            write(slot, epoch, key, addition);
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
        (*counters).octets += addition.octets;
        (*counters).packets += addition.packets as u64;
        (*counters).last = addition.now;
        (*counters).tcp_control_bits |= addition.tcp_control_bits;
        Added::ToFlow
    }
}

/// Writes a new flow of one packet into `slot`.
///
/// # Safety
/// `slot` must point to an element of a table of this CPU and of the generation of `epoch`.
#[inline(always)]
#[expect(clippy::cast_ptr_alignment, reason = "the MAC address lies behind a number of 16 bits")]
unsafe fn write<const N: usize>(slot: *mut Slot<N>, epoch: u32, key: &Key<N>, addition: Addition) {
    let mut key = *key;
    key.0[0] |= epoch as u64;
    // SAFETY: by the caller's guarantee this CPU alone writes to the slot.
    unsafe {
        (*slot).key = key;
        let counters = &raw mut (*slot).counters;
        (*counters).octets = addition.octets;
        (*counters).packets = addition.packets as u64;
        (*counters).first = addition.now;
        (*counters).last = addition.now;
        (*counters).other_interface = 0;
        (*counters).next_hop = 0;
        (*counters).tcp_control_bits = addition.tcp_control_bits;
        clear((&raw mut (*counters).neighbour).cast::<u16>(), 3);
    }
}

/// Writes zero to `count` words from `first`. Volatile, or the compiler would call a function that goes octet by octet.
///
/// # Safety
/// They must be this CPU's to write.
#[inline(always)]
pub unsafe fn clear<W: Copy + From<u8>>(first: *mut W, count: usize) {
    let mut number = 0;
    while number < count {
        // SAFETY: by the caller's guarantee.
        unsafe { first.add(number).write_volatile(W::from(0)) };
        number += 1;
    }
}

/// Adds packets to a counter.
///
/// # Safety
/// `counter` must point into an element of a map of which this CPU is the only writer in this epoch.
#[inline(always)]
unsafe fn count(counter: *mut Count, packets: u32, octets: u64) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        (*counter).packets += packets as u64;
        (*counter).octets += octets;
    }
}
