//! First packets of flows on their way to user space, which finds the application in their payload.

use core::ffi::c_void;
use core::ptr::read_volatile;

use aya_ebpf::bindings::BPF_F_CURRENT_CPU;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_perf_event_output};
use pathflow_common::layout::PayloadHeader;

use crate::maps::{self, PAYLOAD_DONE, PAYLOAD_STATES, PAYLOADS};

/// Where the number of octets is in the flags of the helper (`BPF_F_CTXLEN_MASK`).
const CONTEXT_LENGTH: u32 = 32;

/// Sends the first octets of the packet of `context`, which has `length` octets, to user space. A function of its own, so
/// that what comes before it need not be followed for what is done here.
#[inline(never)]
pub fn pathflow_payload(
    context: *mut c_void,
    length: u32,
    observation_point: u32,
    epoch: u32,
    hash: u64,
) -> u32 {
    if let Some(done) = PAYLOAD_DONE.get_ptr(hash as u32 & maps::payload_mask()) {
        // SAFETY: points to an element of an array map; aligned 64-bit reads are not torn.
        if unsafe { read_volatile(done) } == hash {
            return 0;
        }
    }
    // SAFETY: the helper takes no argument and has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let Some(state) = PAYLOAD_STATES.get_ptr_mut(cpu) else { return 0 };
    // SAFETY: points to an element of an array map that only this CPU writes to.
    let state = unsafe { &mut *state };
    if state.epoch != epoch {
        state.epoch = epoch;
        state.in_epoch = 0;
    }
    if state.in_epoch >= maps::payload_budget() {
        state.over_budget += 1;
        return 0;
    }
    state.in_epoch += 1;
    let most = maps::payload_octets();
    let captured = if length < most { length } else { most };
    let mut header = PayloadHeader {
        observation_point: observation_point as u16,
        captured: captured as u16,
        frame_length: length,
        hash,
        // SAFETY: the helper takes no argument and has no precondition.
        time: unsafe { bpf_ktime_get_ns() },
    };
    let flags = (captured as u64) << CONTEXT_LENGTH | BPF_F_CURRENT_CPU;
    // SAFETY: `context` is the one that the program was called with, by the caller; the map is one of perf events; the
    // header lives until the helper returns.
    let result = unsafe {
        bpf_perf_event_output(
            context,
            (&raw const PAYLOADS).cast_mut().cast(),
            flags,
            (&raw mut header).cast(),
            size_of::<PayloadHeader>() as u64,
        )
    };
    if result == 0 {
        state.sent += 1;
    } else {
        state.buffer_full += 1;
    }
    0
}
