//! The frame of a context: the only reads of packet memory in this crate.

use core::{mem::size_of, ptr};

use pathflow_common::PacketBytes;

use crate::maps;

/// Something that knows the length of its frame.
pub trait FrameLength {
    /// Octets of the whole frame, without its check sequence.
    fn wire_length(&self) -> u32;
}

/// A frame as the parser reads it.
pub struct Frame<'a, C> {
    context: &'a C,
    /// Address of the first octet.
    pub start: usize,
    /// Address behind the last octet that can be read.
    pub end: usize,
}

impl<'a, C> Frame<'a, C> {
    /// The frame of `context`, of which `start..end` can be read.
    #[inline(always)]
    pub fn new(context: &'a C, start: usize, end: usize) -> Self {
        Self { context, start, end }
    }
}

impl<C: FrameLength> PacketBytes for Frame<'_, C> {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut after = self.start + offset + size_of::<[u8; N]>();
        if N == 1 {
            // Or the compiler would compare the octet itself with the end, by which the verifier grants nothing where
            // it knows no constant distance from the start.
            after = core::hint::black_box(after);
        }
        if after > self.end {
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
    fn forget(&self, offset: usize) -> usize {
        (offset + maps::zero()) & 0x7fff
    }

    #[inline(always)]
    fn forget_word(&self, word: u64) -> u64 {
        word + maps::zero() as u64
    }

    #[inline(always)]
    fn wire_length(&self) -> u32 {
        self.context.wire_length()
    }
}
