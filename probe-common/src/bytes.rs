//! Bounds-checked reads over a frame, wherever the frame is.

/// The octets of one frame, starting at the Ethernet destination address.
///
/// The kernel program implements this over `data..data_end` of its context, tests and replay over a
/// slice. The parser never sees anything else, so it cannot read outside the frame on either side.
pub trait PacketBytes {
    /// Reads `N` octets at `offset`; `None` if any of them is not readable.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// Octets from the start of the frame that [`read`](Self::read) reaches.
    fn readable_length(&self) -> usize;

    /// Length of the frame in octets as it was on the wire, without the frame check sequence.
    ///
    /// May be more than what [`read`](Self::read) reaches: a capture may have cut the frame, and a
    /// multi-buffer frame continues outside its first buffer.
    fn wire_length(&self) -> u32;

    /// `offset`, which is less than 32,768, so that nobody can tell how it came about.
    ///
    /// The kernel's verifier follows every path through the parser and takes two paths for one only where
    /// they agree in all they know. With this they agree in what they know of the offset: that it has 15
    /// bits.
    #[inline(always)]
    #[must_use]
    fn forget(&self, offset: usize) -> usize {
        offset
    }

    /// `word`, so that nobody can tell how it came about: for values that are 0 on one path and read from the
    /// packet on another.
    #[inline(always)]
    #[must_use]
    fn forget_word(&self, word: u64) -> u64 {
        word
    }
}

/// The `N` octets of `header` from `offset`, as one value; zero if they are not all in it.
///
/// With a constant offset the checks disappear, and the compiler makes one load of it, which it does not
/// do for the same octets picked one by one.
#[inline(always)]
#[must_use]
pub fn field<const N: usize>(header: &[u8], offset: usize) -> [u8; N] {
    header.get(offset..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// A frame in a slice, for tests, fuzzing and replay.
#[derive(Clone, Copy, Debug)]
pub struct SliceFrame<'a> {
    octets: &'a [u8],
    wire_length: u32,
}

impl<'a> SliceFrame<'a> {
    /// A complete frame.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        Self { octets, wire_length: octets.len() as u32 }
    }

    /// A frame of which only the first octets were captured; `wire_length` is its length on the wire.
    #[must_use]
    pub fn captured(octets: &'a [u8], wire_length: u32) -> Self {
        Self { octets, wire_length }
    }

    /// The octets that were captured.
    #[must_use]
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }
}

impl PacketBytes for SliceFrame<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.octets.get(offset..)?.first_chunk::<N>().copied()
    }

    fn readable_length(&self) -> usize {
        self.octets.len()
    }

    fn wire_length(&self) -> u32 {
        self.wire_length
    }
}
