//! Time in the tables.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use pathflow_common::layout::TableHeader;

/// The low 32 bits of the kernel's tick counter.
///
/// The verifier turns the helper into one load. Reading even the coarse clock instead costs a call, a
/// tenth of everything that is done for a packet, and advances no more often: both do once per tick.
#[inline(always)]
pub fn jiffies() -> u32 {
    // SAFETY: the helper takes no argument and has no precondition.
    unsafe { bpf_jiffies64() as u32 }
}

/// Notes in the header of a new epoch what time its ticks are, unless that was done before.
#[inline(always)]
pub fn stamp(header: &mut TableHeader) {
    if header.coarse_nanoseconds == 0 {
        header.jiffies = jiffies();
        // SAFETY: the helper takes no argument and has no precondition.
        header.coarse_nanoseconds = unsafe { bpf_ktime_get_coarse_ns() };
    }
}
