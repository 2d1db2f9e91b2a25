//! Programs for tests and benchmarks: a traffic generator, a wrapper that varies the flow of a constant
//! packet, and the empty program that others are compared with. Never part of the product.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the functions that the program macro makes have none")]
#![expect(clippy::needless_pass_by_value, reason = "the program macro hands over the context by value")]

use core::mem::size_of;
use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    btf_maps::{Array, ProgramArray},
    helpers::{
        bpf_get_prandom_u32,
        generated::{bpf_ktime_get_ns, bpf_redirect},
    },
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Words of the frame up to the end of the network header, or short of two octets of it that nobody
/// changes; fewer than the shortest frame has.
const HEADER_WORDS: usize = 7;

/// Position in the sequence of flows.
#[btf_map]
static NEXT: Array<u64, 1> = Array::new();

/// Time at which the last frame was due, in monotonic nanoseconds.
#[btf_map]
static DUE: Array<u64, 1> = Array::new();

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
/// Added to the number of the flow, so that the four octets are an address of the wanted network.
#[unsafe(no_mangle)]
static BASE: u32 = 0;
/// Offsets in the frame of the checksums that cover the four octets; 0 if there is none.
#[unsafe(no_mangle)]
static CHECKSUM_OFFSETS: [u32; 2] = [0; 2];
/// For each of them, the one's complement sum (16 bits) of all that it covers but the four octets.
#[unsafe(no_mangle)]
static CHECKSUM_SUMS: [u32; 2] = [0; 2];
/// The first words of the frame, for the generator.
#[unsafe(no_mangle)]
static HEADERS: [u64; HEADER_WORDS] = [0; HEADER_WORDS];
/// Nanoseconds from one frame to the next, for the generator; 0: as fast as possible.
#[unsafe(no_mangle)]
static INTERVAL: u64 = 0;
/// Interface that the generator sends to.
#[unsafe(no_mangle)]
static OUTPUT: u32 = 0;

/// Empty program.
#[xdp(frags)]
pub fn pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Empty program for tc.
#[classifier]
pub fn pass_tc(_context: TcContext) -> i32 {
    TC_ACT_UNSPEC
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
    wait();
    restore(&context);
    write_flow(&context);
    // SAFETY: the helper takes plain values; a wrong interface index drops the frame.
    unsafe { bpf_redirect(read_volatile(&raw const OUTPUT), 0) as u32 }
}

/// How often the clock is read at most while waiting for one frame: bounds the wait to about 0.1 ms, and
/// the loop to what the verifier follows.
const MAX_READS: u32 = 4096;
/// Lag that is made up for: that of the set-up between two calls of the generator, and no more.
const MAX_LAG: u64 = 100_000_000;

/// Waits until the next frame is due.
#[inline(always)]
fn wait() {
    // SAFETY: a read of a static of this type; volatile, because the loader sets it.
    let interval = unsafe { read_volatile(&raw const INTERVAL) };
    if interval == 0 {
        return;
    }
    let Some(last) = DUE.get_ptr_mut(0) else { return };
    // SAFETY: points to the one element of an array map; one CPU runs this program at a time.
    let due = unsafe { *last } + interval;
    // SAFETY: the helper takes no argument and has no precondition.
    let mut now = unsafe { bpf_ktime_get_ns() };
    let mut reads = 0;
    while now < due && reads < MAX_READS {
        // SAFETY: as above.
        now = unsafe { bpf_ktime_get_ns() };
        reads += 1;
    }
    // SAFETY: as for reading it.
    unsafe { *last = if due + MAX_LAG < now { now } else { due } };
}

/// Makes the frame again what it was. The kernel uses its memory again and again, and whoever got the
/// frame before may have changed it there: taken off its tag, or one off its time to live.
#[inline(always)]
fn restore(context: &XdpContext) {
    let start = context.data();
    if start + size_of::<[u64; HEADER_WORDS]>() > context.data_end() {
        return;
    }
    // SAFETY: reads of a static of this type; volatile, because the loader sets it. The comparison just
    // above shows that as many octets lie in the frame.
    unsafe { (start as *mut [u64; HEADER_WORDS]).write_unaligned(read_volatile(&raw const HEADERS)) };
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
    // SAFETY: a read of a static of this type; volatile, because the loader sets it.
    let value = unsafe { read_volatile(&raw const BASE) }.wrapping_add(flow);
    let start = context.data() + (offset & 0xff) as usize;
    if start + 4 > context.data_end() {
        return;
    }
    // SAFETY: the comparison just above shows that the four octets lie in the frame.
    unsafe { (start as *mut u32).write_unaligned(value.to_be()) };
    write_checksum(context, 0, value);
    write_checksum(context, 1, value);
}

/// Makes the `index`-th checksum right for `value` in the four octets.
#[inline(always)]
fn write_checksum(context: &XdpContext, index: usize, value: u32) {
    // SAFETY: reads of statics of this type at a constant index; volatile, because the loader sets them.
    let (offset, others) = unsafe {
        (read_volatile(&raw const CHECKSUM_OFFSETS[index]), read_volatile(&raw const CHECKSUM_SUMS[index]))
    };
    if offset == 0 {
        return;
    }
    let mut sum = others + (value >> 16) + (value & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !(sum as u16);
    // 0 says "no checksum" in UDP; its other form is right everywhere.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    let start = context.data() + (offset & 0xff) as usize;
    if start + 2 > context.data_end() {
        return;
    }
    // SAFETY: the comparison just above shows that the two octets lie in the frame.
    unsafe { (start as *mut u16).write_unaligned(checksum.to_be()) };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
