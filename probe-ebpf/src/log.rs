//! Messages for debugging this program, in builds with the feature `kernel-log` only. In any other build
//! these functions are empty and cost nothing.

#[cfg(feature = "kernel-log")]
use aya_ebpf::EbpfContext;
use pathflow_common::DropReason;

/// What a message can be about.
#[cfg(feature = "kernel-log")]
pub trait Log: EbpfContext {}
#[cfg(feature = "kernel-log")]
impl<C: EbpfContext> Log for C {}

/// What a message can be about.
#[cfg(not(feature = "kernel-log"))]
pub trait Log {}
#[cfg(not(feature = "kernel-log"))]
impl<C> Log for C {}

/// A packet was not accounted to a flow.
#[cfg(feature = "kernel-log")]
#[inline(always)]
pub fn unaccounted(context: &impl Log, reason: DropReason) {
    aya_log_ebpf::debug!(context, "packet not accounted to a flow, reason {}", reason as u8);
}

/// A packet was not accounted to a flow.
#[cfg(not(feature = "kernel-log"))]
#[inline(always)]
pub fn unaccounted(_context: &impl Log, _reason: DropReason) {}
