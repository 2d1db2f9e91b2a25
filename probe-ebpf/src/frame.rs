//! The frame of an XDP context: the only reads of packet memory in this crate.

use core::{mem::size_of, ptr};

use aya_ebpf::{helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use pathflow_common::PacketBytes;

/// How the length of a frame is known.
pub trait FrameLength {
    /// Octets of the whole frame.
    fn wire_length(context: &XdpContext) -> u32;
}

/// The frame lies in one buffer.
pub struct SingleBuffer;
/// The frame may continue in further buffers; only the first one is read.
pub struct MultiBuffer;

impl FrameLength for SingleBuffer {
    #[inline(always)]
    fn wire_length(context: &XdpContext) -> u32 {
        (context.data_end() - context.data()) as u32
    }
}

impl FrameLength for MultiBuffer {
    #[inline(always)]
    fn wire_length(context: &XdpContext) -> u32 {
        // SAFETY: `ctx` is the context the program was called with.
        unsafe { bpf_xdp_get_buff_len(context.ctx) as u32 }
    }
}

/// A frame as the parser reads it.
pub struct Frame<'a, L> {
    context: &'a XdpContext,
    start: usize,
    end: usize,
    length: core::marker::PhantomData<L>,
}

impl<'a, L: FrameLength> Frame<'a, L> {
    /// The frame of `context`.
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context, start: context.data(), end: context.data_end(), length: core::marker::PhantomData }
    }
}

impl<L: FrameLength> PacketBytes for Frame<'_, L> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if self.start + offset + size_of::<[u8; N]>() > self.end {
            return None;
        }
        // SAFETY: the comparison just above shows that all N octets lie before `end`, and the kernel
        // keeps `data..data_end` readable for as long as the program runs. The verifier checks the same
        // pair of instructions, which is why both use the very same address expression.
        Some(unsafe { ptr::read_unaligned((self.start + offset) as *const [u8; N]) })
    }

    #[inline(always)]
    fn readable_length(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn wire_length(&self) -> u32 {
        L::wire_length(self.context)
    }
}
