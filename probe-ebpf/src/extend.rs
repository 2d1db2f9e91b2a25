//! What keys have beyond their words: read from the packet, and given a reference.
//!
//! In functions of their own, which hand each other everything through memory. Of that the verifier knows nothing, so
//! that it follows each of them once, and not for every path that leads there.

use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use pathflow_common::extension::{EXTENSION_WORDS, KeyExtension, SealedExtension};
use pathflow_common::flow::{Datagram, DatagramPorts, Encapsulation, Ipv4Key, Origin, WideKey};
use pathflow_common::layout::ExtensionState;
use pathflow_common::parse::extension::{self, Layers, Wanted};
use pathflow_common::parse::link::Link;
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse_link};
use pathflow_common::{DropReason, PacketBytes};

use crate::account;
use crate::frame::{Frame, FrameLength};
use crate::maps::{self, EXTENSION_NEWS, EXTENSIONS};

/// In place of a reference: there is nothing to extend the key by.
pub const NOTHING: u64 = 0;
/// In place of a reference: there is something, and no room for it.
pub const NO_ROOM: u64 = u64::MAX;

/// References of one CPU have its number from this bit on.
const CPU: u32 = 48;

/// What user space asks for.
struct Asked;

impl Wanted for Asked {
    #[inline(always)]
    fn inner_packet(&self) -> bool {
        maps::extension_inner() != 0
    }

    #[inline(always)]
    fn label_stack(&self) -> bool {
        maps::extension_labels() != 0
    }

    #[inline(always)]
    fn chosen_place(&self, number: usize) -> u64 {
        maps::chosen_place(number)
    }
}

impl Tunnels for Asked {
    #[inline(always)]
    fn entered(&self) -> bool {
        false
    }

    #[inline(always)]
    fn is_vxlan(&self, destination_port: u16) -> bool {
        is_vxlan(destination_port)
    }
}

/// Whether UDP to this port is VXLAN.
#[inline(always)]
pub fn is_vxlan(destination_port: u16) -> bool {
    let mut is_named = false;
    for port in maps::vxlan_ports() {
        is_named |= port == destination_port;
    }
    is_named && destination_port != 0
}

struct Length(u32);

impl FrameLength for Length {
    #[inline(always)]
    fn wire_length(&self) -> u32 {
        self.0
    }
}

/// What [`pathflow_parse`] found: a flow.
pub const FLOW: u64 = 0;
/// Likewise: [`DropReason::NotIp`].
pub const NOT_IP: u64 = 1;
/// Likewise: [`DropReason::Truncated`].
pub const TRUNCATED: u64 = 2;
/// Likewise: [`DropReason::Malformed`].
pub const MALFORMED: u64 = 3;

/// Keeps what the parser finds.
struct Keep<'a> {
    state: *mut ExtensionState,
    found: &'a mut u64,
}

impl Keep<'_> {
    #[inline(always)]
    fn keep(self, facts: PacketFacts) {
        // SAFETY: as in `pathflow_parse`.
        unsafe {
            (*self.state).octets = facts.octets;
            (*self.state).tcp_control_bits = facts.tcp_control_bits;
            (*self.state).header_octets = facts.header_octets;
        }
        *self.found = FLOW;
    }
}

impl FlowSink for Keep<'_> {
    #[inline(always)]
    fn ipv4(self, key: Ipv4Key, facts: PacketFacts) {
        self.wide(key.widen(Encapsulation::NONE), facts);
    }

    #[inline(always)]
    fn wide(self, key: WideKey, facts: PacketFacts) {
        // SAFETY: as in `pathflow_parse`.
        unsafe { (*self.state).key = key };
        self.keep(facts);
    }

    #[inline(always)]
    fn unaccounted(self, reason: DropReason, _: u32) {
        *self.found = match reason {
            DropReason::NotIp => NOT_IP,
            DropReason::Truncated => TRUNCATED,
            _ => MALFORMED,
        };
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
        account::first_fragment(datagram, ports);
    }

    #[inline(always)]
    fn datagram_ports(&self, datagram: &Datagram) -> Option<DatagramPorts> {
        // SAFETY: as in `pathflow_parse`.
        unsafe { (*self.state).is_later_fragment = 1 };
        account::datagram_ports(datagram)
    }

    #[inline(always)]
    fn extends(&self) -> bool {
        true
    }

    #[inline(always)]
    fn extended<P: PacketBytes>(
        &self,
        _: &P,
        layers: Layers,
        key: WideKey,
        facts: PacketFacts,
    ) -> (WideKey, PacketFacts) {
        // SAFETY: as in `pathflow_parse`.
        unsafe { (*self.state).layers = Layers { tag: (*self.state).tag, ..layers } };
        (key, facts)
    }
}

impl Tunnels for Keep<'_> {
    #[inline(always)]
    fn entered(&self) -> bool {
        maps::inner() != 0
    }

    #[inline(always)]
    fn is_vxlan(&self, destination_port: u16) -> bool {
        is_vxlan(destination_port)
    }
}

/// Parses the packet from `data` to `data_end`. Where to start is in `state`, and there the key, the facts and the layers
/// are put. Returns [`FLOW`], or why it is in none.
#[inline(never)]
pub fn pathflow_parse(data: usize, data_end: usize, wire_length: u32, state: *mut ExtensionState) -> u64 {
    let length = Length(wire_length);
    let frame = Frame::new(&length, data, data_end);
    let mut found = NOT_IP;
    // SAFETY: by the caller, `state` is an element of an array map that this CPU alone uses, for one packet at a time.
    let (origin, link) = unsafe {
        (*state).is_later_fragment = 0;
        let origin = Origin {
            observation_point: (*state).observation_point,
            filter_results: (*state).filter_results as u8,
        };
        let network = if (*state).offset == 0 {
            Link::network((*state).ether_type, 0)
        } else {
            Link::after_ethernet((*state).ether_type)
        };
        (origin, Link { outer_tag: (*state).outer_tag, tags: (*state).has_tag as u8 & 1, ..network })
    };
    parse_link(&frame, origin, link, Keep { state, found: &mut found });
    found
}

/// The reference of the extension of the packet from `data` to `data_end`, of which [`pathflow_parse`] has left in
/// `state` what it found; or [`NOTHING`], or [`NO_ROOM`].
#[inline(never)]
pub fn pathflow_extend(data: usize, data_end: usize, wire_length: u32, state: *mut ExtensionState) -> u64 {
    let length = Length(wire_length);
    let frame = Frame::new(&length, data, data_end);
    // SAFETY: as in `pathflow_parse`.
    unsafe {
        account::clear((&raw mut (*state).extension).cast::<u64>(), EXTENSION_WORDS);
    }
    // SAFETY: as above.
    let state = unsafe { &mut *state };
    if !extension::read(&frame, &state.layers, &Asked, &mut state.extension, &mut state.tcp_control_bits) {
        return NOTHING;
    }
    if let Some(reference) = find(&state.extension) {
        return reference;
    }
    make(state)
}

/// The reference of an extension that the table has.
///
/// The element that the kernel finds may be taken for another extension at any time. Then it does not open.
#[inline(always)]
fn find(extension: &KeyExtension) -> Option<u64> {
    let sealed = EXTENSIONS.get_ptr(extension)?;
    let words = (&raw const *extension).cast::<u64>();
    // SAFETY: points to a value of the map, which stays one for as long as the program runs; aligned 64-bit reads are
    // not torn. Both have so many words.
    unsafe {
        let reference = read_volatile(&raw const (*sealed).reference);
        let mut difference = 0;
        let mut number = 0;
        while number < EXTENSION_WORDS {
            let word = read_volatile((&raw const (*sealed).words).cast::<u64>().add(number));
            difference |= word ^ reference ^ *words.add(number);
            number += 1;
        }
        (difference == 0).then_some(reference)
    }
}

#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "moved, they would be copied to a stack that has no room for them"
)]
fn make(state: &mut ExtensionState) -> u64 {
    // SAFETY: the helper takes no argument and has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    state.references += 1;
    let reference = (cpu as u64) << CPU | state.references;
    state.sealed.reference = reference;
    let from = (&raw const state.extension).cast::<u64>();
    let to = (&raw mut state.sealed.words).cast::<u64>();
    let mut number = 0;
    while number < EXTENSION_WORDS {
        // SAFETY: both have so many words. Volatile, for the reason that `clear` has.
        unsafe { to.add(number).write_volatile(*from.add(number) ^ reference) };
        number += 1;
    }
    if EXTENSIONS.insert(&state.extension, &state.sealed, BPF_NOEXIST as u64).is_err() {
        // Another CPU was faster, or there is no room.
        return find(&state.extension).unwrap_or(NO_ROOM);
    }
    if let Some(mut entry) = EXTENSION_NEWS.reserve(0) {
        let news: &mut MaybeUninit<SealedExtension> = &mut entry;
        // SAFETY: the whole entry is written before it is submitted.
        unsafe { news.as_mut_ptr().copy_from_nonoverlapping(&raw const state.sealed, 1) };
        // User space looks when it drains.
        entry.submit(BPF_RB_NO_WAKEUP);
    }
    reference
}

const BPF_RB_NO_WAKEUP: u64 = 1;
