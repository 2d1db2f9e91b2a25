//! pathflow's kernel side: XDP programs that account every packet to a flow and pass it on.
//!
//! Nothing here changes, delays or drops a packet: each program is one expression that ends in
//! `XDP_PASS`.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the functions that the program macro makes have none")]
#![expect(clippy::needless_pass_by_value, reason = "the program macro hands over the context by value")]

mod account;
mod clock;
mod frame;
mod log;
mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

use crate::frame::{MultiBuffer, SingleBuffer};

/// For drivers that hand over frames of several buffers: jumbo frames, header split.
#[xdp(frags)]
pub fn pathflow_frags(context: XdpContext) -> u32 {
    account::account::<MultiBuffer>(&context);
    xdp_action::XDP_PASS
}

/// For kernels before 5.18 and drivers without multi-buffer support.
#[xdp]
pub fn pathflow_xdp(context: XdpContext) -> u32 {
    account::account::<SingleBuffer>(&context);
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
