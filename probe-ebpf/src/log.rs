//! Messages for debugging this program, in builds with the feature `kernel-log` only. In any other build
//! these functions are empty and cost nothing.

use aya_ebpf::programs::XdpContext;
use pathflow_common::DropReason;

/// A packet was not accounted to a flow.
#[cfg(feature = "kernel-log")]
#[inline(always)]
pub fn unaccounted(context: &XdpContext, reason: DropReason) {
    aya_log_ebpf::debug!(context, "packet not accounted to a flow, reason {}", reason as u8);
}

/// A packet was not accounted to a flow.
#[cfg(not(feature = "kernel-log"))]
#[inline(always)]
pub fn unaccounted(_context: &XdpContext, _reason: DropReason) {}
