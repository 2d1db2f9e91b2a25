//! A block as a row: LZ4, and a checksum that covers what the row says of it.

use crate::{kafka::block::Block, record::Tally};

/// What a row says besides the compressed octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowHead {
    pub first: u64,
    pub epoch: u32,
    pub count: u32,
    pub tally: Tally,
    /// Octets before compression.
    pub raw: u32,
}

/// No block is larger: a message of librdkafka has at most this many octets (1 000 000 000).
const LARGEST: u32 = 1_000_500_000;

impl RowHead {
    pub(super) fn of(block: &Block) -> Self {
        let Block { epoch, first, tally, .. } = *block;
        Self { first, epoch, count: block.count(), tally, raw: block.octets().len() as u32 }
    }

    pub(super) fn checksum(&self, compressed: &[u8]) -> u32 {
        let Self { first, epoch, count, tally, raw } = *self;
        let mut sum = crc32c::crc32c(&first.to_le_bytes());
        for part in [epoch, count, raw] {
            sum = crc32c::crc32c_append(sum, &part.to_le_bytes());
        }
        for part in [tally.records, tally.packets, tally.octets] {
            sum = crc32c::crc32c_append(sum, &part.to_le_bytes());
        }
        crc32c::crc32c_append(sum, compressed)
    }

    /// The block, if nothing of it has changed.
    pub(super) fn decode(&self, compressed: &[u8], checksum: u32) -> Option<Block> {
        if self.checksum(compressed) != checksum || self.raw > LARGEST {
            return None;
        }
        let octets = lz4_flex::block::decompress(compressed, self.raw as usize).ok()?;
        let block = Block::from_octets(self.epoch, self.first, self.count, octets)?;
        (block.tally == self.tally && block.octets().len() == self.raw as usize).then_some(block)
    }
}

pub(super) fn compress(block: &Block) -> Vec<u8> {
    lz4_flex::block::compress(block.octets())
}
