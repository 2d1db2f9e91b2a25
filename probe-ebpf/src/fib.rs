//! Where the routing table sends a packet: egress interface and next hop.

use core::ffi::c_void;
use core::mem::size_of;

use aya_ebpf::bindings::bpf_fib_lookup as KernelParameters;
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use pathflow_common::flow::{KEY_FLAG_IPV6, WideKey};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// A route was found, and the neighbour.
const SUCCESS: i64 = 0;
/// A route was found, but not the neighbour.
const NO_NEIGHBOUR: i64 = 7;

/// As the kernel's structure of this name (`linux/bpf.h`), with its unions resolved to what is needed. In
/// words: the stack may only be written to aligned, which the compiler does not know.
#[repr(C)]
struct Parameters {
    /// Octets. In: address family, protocol, source port. Out: the gateway's family, which may be another.
    start: u32,
    /// Octets: destination port, total length; with a length of 0 the path MTU is not asked for.
    rest: u32,
    /// In: ingress interface. Out: egress interface.
    interface: u32,
    /// Octets. IPv4: type of service. IPv6: flow information, network byte order.
    class: u32,
    source: [u64; 2],
    /// In: destination. Out: the gateway, if there is one.
    destination: [u64; 2],
    neighbour: [u64; 2],
}

const _: () = assert!(size_of::<Parameters>() == size_of::<KernelParameters>());

/// Where packets go.
#[derive(Clone, Copy)]
pub struct Route {
    /// Egress interface; 0 if the packet is for this host, or goes nowhere.
    pub interface: u32,
    /// The gateway's address, IPv4 in the first half of the first word; zero if there is none.
    pub next_hop: [u64; 2],
}

/// Asks for a packet that came in by `interface`; `context` is the program's. Not inlined: it would cost
/// packets of known flows, which do not come here, registers.
#[inline(never)]
pub fn look_up(context: *mut c_void, interface: u32, key: &WideKey) -> Route {
    let fields = key.fields();
    let is_ipv6 = fields.flags & KEY_FLAG_IPV6 != 0;
    let [_, a, b, c, d, _, _] = key.0;
    let (source, destination) =
        if is_ipv6 { ([a, b], [c, d]) } else { ([first_half(a), 0], [second_half(a), 0]) };
    let [s0, s1, d0, d1] = fields.ports;
    let class = fields.class_of_service;
    let family = if is_ipv6 { AF_INET6 } else { AF_INET };
    let mut parameters = Parameters {
        start: u32::from_ne_bytes([family, fields.protocol, s0, s1]),
        rest: u32::from_ne_bytes([d0, d1, 0, 0]),
        interface,
        class: u32::from_ne_bytes(if is_ipv6 { [class >> 4, class << 4, 0, 0] } else { [class, 0, 0, 0] }),
        source,
        destination,
        neighbour: [0; 2],
    };
    // SAFETY: the context the program was called with, and a structure of the size that is said.
    let result = unsafe {
        bpf_fib_lookup(
            context,
            (&raw mut parameters).cast::<KernelParameters>(),
            size_of::<Parameters>() as i32,
            0,
        )
    };
    if result as i64 != SUCCESS && result as i64 != NO_NEIGHBOUR {
        return Route { interface: 0, next_hop: [0; 2] };
    }
    // A gateway of another family has no place in a flow's slot.
    let [answered_family, ..] = parameters.start.to_ne_bytes();
    let has_gateway = answered_family == family && parameters.destination != destination;
    Route {
        interface: parameters.interface,
        next_hop: if has_gateway { parameters.destination } else { [0; 2] },
    }
}

/// The first four of the eight octets of a word, with zeroes behind them.
#[inline(always)]
fn first_half(word: u64) -> u64 {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

/// The last four of the eight octets of a word, with zeroes behind them.
#[inline(always)]
fn second_half(word: u64) -> u64 {
    let [.., a, b, c, d] = word.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}
