//! Room for the operator's filters: user space writes its instructions over a function that does nothing.
//!
//! The expressions are known only when the program is loaded, and compiled by user space
//! (`probe-user/src/capture/filter`). `object.rs` there finds the function by its symbol and overwrites it.
//! So the body is never run: without a filter the verifier sees that the call cannot be reached, and leaves
//! out call and function. All that the body has to be is long, free of relocations, and opaque to the
//! optimizer.

use core::ptr::read_volatile;

/// Bit of what [`pathflow_filter`] returns: the frame is to be accounted.
pub const ACCOUNTED: u32 = 1;
/// By how many bits the filter results are shifted in it.
pub const RESULTS: u32 = 8;

/// Upper half of the last argument of [`pathflow_filter`]: the lower half is a VLAN tag, TPID and TCI, that the
/// kernel holds beside the frame. The filter reads it at offset 12, where it was on the wire.
pub const TAG: u64 = 1;
/// The same: packets here begin with their IP header, and the protocol, as an `EtherType`, is in the upper
/// half of the lower half. The filter reads an Ethernet header with this type and addresses of zero.
pub const LINK_HEADER: u64 = 2;

/// Says whether the frame from `data` to `data_end` is to be accounted, and what its key has as filter results: see
/// [`ACCOUNTED`] and [`RESULTS`]. 0 if it is not to be accounted.
///
/// `wire_length` is the length in octets of the whole frame as it was on the wire, with a tag that is beside
/// it, and without a link header that was never there. Of the frame only the first buffer can be read: a
/// filter that needs more does not match. `beside` is 0, or says what is to be read as if it were in the
/// frame.
///
/// No argument may be a constant, or the compiler would drop it here and at the call.
#[inline(never)]
pub fn pathflow_filter(data: usize, data_end: usize, wire_length: u32, beside: u64) -> u32 {
    /// Eight times the same.
    macro_rules! eight_times {
        ($code:expr) => {
            $code;
            $code;
            $code;
            $code;
            $code;
            $code;
            $code;
            $code;
        };
    }
    let opaque = data as u64 ^ data_end as u64 ^ wire_length as u64 ^ beside;
    let place = &raw const opaque;
    // SAFETY: reads of a local variable. Volatile, so that each is an instruction of its own.
    unsafe {
        eight_times!(eight_times!(eight_times!(eight_times!(read_volatile(place)))));
        read_volatile(place) as u32
    }
}
