//! pathflow's kernel side: programs that account every packet to a flow and pass it on.
//!
//! Nothing here changes, delays or drops a packet: each program is one expression that ends in `XDP_PASS`,
//! or in `TC_ACT_UNSPEC`, which lets the next program on the hook have it.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "the functions that the program macro makes have none")]
#![expect(clippy::needless_pass_by_value, reason = "the program macro hands over the context by value")]

mod account;
mod clock;
mod extend;
mod fib;
mod filter;
mod frame;
mod hook;
mod log;
mod maps;
mod payload;
mod sample;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::account::{Extended, Words};
use crate::hook::{Egress, Ingress, MultiBuffer, SingleBuffer, Tc, Xdp};

/// For drivers that hand over frames of several buffers: jumbo frames, header split.
#[xdp(frags)]
#[inline(always)]
pub fn pathflow_frags(context: XdpContext) -> u32 {
    account::account::<_, Words>(&Xdp::<MultiBuffer>::new(&context));
    xdp_action::XDP_PASS
}

/// For kernels before 5.18 and drivers without multi-buffer support.
#[xdp]
#[inline(always)]
pub fn pathflow_xdp(context: XdpContext) -> u32 {
    account::account::<_, Words>(&Xdp::<SingleBuffer>::new(&context));
    xdp_action::XDP_PASS
}

/// For packets coming in where the driver has no XDP.
#[classifier]
#[inline(always)]
pub fn pathflow_in(context: TcContext) -> i32 {
    account::account::<_, Words>(&Tc::<Ingress>::new(&context));
    TC_ACT_UNSPEC
}

/// For packets going out.
#[classifier]
#[inline(always)]
pub fn pathflow_out(context: TcContext) -> i32 {
    account::account::<_, Words>(&Tc::<Egress>::new(&context));
    TC_ACT_UNSPEC
}

/// The same four where keys are extended.
#[xdp(frags)]
#[inline(always)]
pub fn pathflow_efrags(context: XdpContext) -> u32 {
    account::account::<_, Extended>(&Xdp::<MultiBuffer>::new(&context));
    xdp_action::XDP_PASS
}

/// See [`pathflow_xdp`].
#[xdp]
#[inline(always)]
pub fn pathflow_exdp(context: XdpContext) -> u32 {
    account::account::<_, Extended>(&Xdp::<SingleBuffer>::new(&context));
    xdp_action::XDP_PASS
}

/// See [`pathflow_in`].
#[classifier]
#[inline(always)]
pub fn pathflow_ein(context: TcContext) -> i32 {
    account::account::<_, Extended>(&Tc::<Ingress>::new(&context));
    TC_ACT_UNSPEC
}

/// See [`pathflow_out`].
#[classifier]
#[inline(always)]
pub fn pathflow_eout(context: TcContext) -> i32 {
    account::account::<_, Extended>(&Tc::<Egress>::new(&context));
    TC_ACT_UNSPEC
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
