//! pathflow's mirror mode: hands every frame of a mirror port to the `AF_XDP` socket of its RX queue.
//!
//! The frame is gone for this host then, so the program hands over only where somebody takes it: without a
//! socket on the queue, or without a recent sign of life of its worker, the frame passes.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the functions that the program macro makes have none")]
#![expect(clippy::needless_pass_by_value, reason = "the program macro hands over the context by value")]

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    btf_maps::{Array, ArrayOfMaps, XskMap},
    helpers::{
        bpf_get_smp_processor_id,
        generated::{bpf_ktime_get_coarse_ns, bpf_xdp_get_buff_len},
    },
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use pathflow_common::layout::Count;
use pathflow_common::mirror::{Heartbeat, MirrorCounters, is_alive};

/// `BPF_F_MMAPABLE`: user space reads and writes these arrays without system calls.
const MMAPABLE: usize = 1 << 10;
/// Sizes that depend on the interface and the machine are set by the loader.
const SET_BY_LOADER: usize = 1;

#[btf_map]
static SOCKETS: XskMap<SET_BY_LOADER> = XskMap::new();
#[btf_map]
static HEARTBEATS: Array<Heartbeat, SET_BY_LOADER, MMAPABLE> = Array::new();
#[btf_map]
static COUNTERS: Array<MirrorCounters, SET_BY_LOADER, MMAPABLE> = Array::new();
#[btf_map]
static GRACE: ArrayOfMaps<Array<u64, 1>, 1> = ArrayOfMaps::new();

/// For drivers that hand over frames of several buffers.
#[xdp(frags)]
pub fn pathflow_mirror(context: XdpContext) -> u32 {
    // SAFETY: `ctx` is the context the program was called with.
    mirror(&context, unsafe { bpf_xdp_get_buff_len(context.ctx) })
}

/// For kernels before 5.18 and drivers without multi-buffer support.
#[xdp]
pub fn mirror_plain(context: XdpContext) -> u32 {
    mirror(&context, (context.data_end() - context.data()) as u64)
}

#[inline(always)]
fn mirror(context: &XdpContext, octets: u64) -> u32 {
    // SAFETY: the helper takes no argument and has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let Some(counters) = COUNTERS.get_ptr_mut(cpu) else { return XDP_PASS };
    // SAFETY: `ctx` is the context the program was called with.
    let queue = unsafe { (*context.ctx).rx_queue_index };
    if has_worker(queue)
        && let Ok(action) = SOCKETS.redirect(queue, XDP_PASS as u64)
    {
        // SAFETY: points to an element of an array map, which lives as long as the program; this CPU is its
        // only writer, and XDP programs do not preempt each other on one CPU.
        unsafe { count(&raw mut (*counters).redirected, octets) };
        return action;
    }
    // SAFETY: as above.
    unsafe { count(&raw mut (*counters).passed, octets) };
    XDP_PASS
}

/// Whether the worker of a queue has shown recently that it works.
#[inline(always)]
fn has_worker(queue: u32) -> bool {
    let Some(heartbeat) = HEARTBEATS.get_ptr(queue) else { return false };
    // SAFETY: points to an element of an array map; aligned 64-bit reads are not torn.
    let heartbeat = unsafe { read_volatile(&raw const (*heartbeat).nanoseconds) };
    // SAFETY: the helper takes no argument and has no precondition.
    is_alive(heartbeat, unsafe { bpf_ktime_get_coarse_ns() })
}

/// Adds one packet of `octets` to a counter.
///
/// # Safety
/// `counter` must point into an element of a map of which this CPU is the only writer.
#[inline(always)]
unsafe fn count(counter: *mut Count, octets: u64) {
    // SAFETY: by the caller's guarantee.
    unsafe {
        (*counter).packets += 1;
        (*counter).octets += octets;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
