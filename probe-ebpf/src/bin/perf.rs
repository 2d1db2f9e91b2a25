//! Programs for tests and benchmarks: a traffic generator, a wrapper that varies the flow of a constant
//! packet, and the empty program that others are compared with. Never part of the product.
#![no_std]
#![no_main]

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::xdp_action,
    btf_maps::{Array, ProgramArray},
    helpers::{bpf_get_prandom_u32, generated::bpf_redirect},
    macros::{btf_map, xdp},
    programs::XdpContext,
};

/// Position in the sequence of flows.
#[btf_map]
static NEXT: Array<u64, 1> = Array::new();

/// The program that [`vary`] goes on with.
#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

/// Flows to vary over; 0 leaves the packet as it is.
#[unsafe(no_mangle)]
static FLOWS: u32 = 0;
/// 0: the flows follow each other in order; 1: each packet is of a random flow.
#[unsafe(no_mangle)]
static RANDOM: u32 = 0;
/// Offset in the frame of the four octets that tell the flows apart.
#[unsafe(no_mangle)]
static OFFSET: u32 = 0;
/// Interface that the generator sends to.
#[unsafe(no_mangle)]
static OUTPUT: u32 = 0;

/// Empty program.
#[xdp(frags)]
pub fn pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Varies the packet, then calls the program in [`TARGET`].
#[xdp(frags)]
pub fn vary(context: XdpContext) -> u32 {
    write_flow(&context);
    // SAFETY: a tail call; on failure the program goes on here.
    unsafe { TARGET.tail_call(&context, 0) };
    xdp_action::XDP_ABORTED
}

/// Varies the packet and sends it to [`OUTPUT`].
#[xdp]
pub fn generate(context: XdpContext) -> u32 {
    write_flow(&context);
    // SAFETY: the helper takes plain values; a wrong interface index drops the frame.
    unsafe { bpf_redirect(read_volatile(&raw const OUTPUT), 0) as u32 }
}

#[inline(always)]
fn write_flow(context: &XdpContext) {
    // SAFETY: reads of statics of this type; volatile, because the loader sets them.
    let (flows, random, offset) = unsafe {
        (read_volatile(&raw const FLOWS), read_volatile(&raw const RANDOM), read_volatile(&raw const OFFSET))
    };
    if flows == 0 {
        return;
    }
    let flow = if random == 0 {
        let Some(next) = NEXT.get_ptr_mut(0) else { return };
        // SAFETY: points to the one element of an array map; one CPU runs this program at a time.
        unsafe {
            let flow = *next;
            *next = if flow + 1 >= flows as u64 { 0 } else { flow + 1 };
            flow as u32
        }
    } else {
        // SAFETY: the helper takes no argument and has no precondition.
        unsafe { bpf_get_prandom_u32() % flows }
    };
    let start = context.data() + (offset & 0xff) as usize;
    if start + 4 > context.data_end() {
        return;
    }
    // SAFETY: the comparison just above shows that the four octets lie in the frame.
    unsafe { (start as *mut u32).write_unaligned(flow.to_be()) };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
