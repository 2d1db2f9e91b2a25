//! Messages one after another in one buffer: the unit of queue and spool.
//!
//! A message is its lengths and its tally, in little-endian order, then topic, key and payload. Sequence numbers are
//! consecutive; in a block of what was left of others each message has its own in front.

use super::Message;
use crate::record::Tally;

/// A block is full with this many messages ...
pub(super) const MESSAGES: usize = 1000;

/// ... or with this many octets.
const OCTETS: usize = 256 * 1024;

/// Octets of a message before its topic.
const HEAD: usize = 40;

/// In place of the length of a topic, before a sequence number.
const OWN_SEQUENCE: u32 = u32::MAX;

/// Octets of both.
const SEQUENCE_HEAD: usize = 12;

/// Key length of a message without a key.
const NO_KEY: u32 = u32::MAX;

/// Partition of a message that goes where the partitioner says.
const NO_PARTITION: i32 = -1;

/// Messages in order of sequence numbers, accepted in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Part of the stamp of each message.
    pub epoch: u32,
    /// Sequence number of the first message.
    pub first: u64,
    /// Sum over the messages.
    pub tally: Tally,
    octets: Vec<u8>,
    /// Where each message begins.
    starts: Vec<u32>,
    /// Of each message; nothing if they are consecutive.
    sequences: Vec<u64>,
}

impl Block {
    pub(super) fn new(epoch: u32, first: u64) -> Self {
        Self {
            epoch,
            first,
            tally: Tally::ZERO,
            octets: Vec::new(),
            starts: Vec::new(),
            sequences: Vec::new(),
        }
    }

    /// Octets that `message` takes in a block.
    pub(super) fn size_of(message: &Message<'_>) -> usize {
        HEAD + message.topic.len() + message.key.map_or(0, <[u8]>::len) + message.payload.len()
    }

    /// Reads a block of `count` messages; `None` if it is not one.
    pub(super) fn from_octets(epoch: u32, first: u64, count: u32, octets: Vec<u8>) -> Option<Self> {
        let mut block = Self::new(epoch, first);
        let mut start = 0;
        while start < octets.len() {
            if let Some(sequence) = sequence_at(&octets, start) {
                block.sequences.push(sequence);
                start += SEQUENCE_HEAD;
            }
            let message = message_at(&octets, start)?;
            block.tally += message.tally;
            block.starts.push(u32::try_from(start).ok()?);
            start += Self::size_of(&message);
        }
        block.octets = octets;
        let is_in_order = block.sequences.is_sorted_by(|one, next| one < next)
            && block.sequences.first().is_none_or(|sequence| *sequence == first)
            && [0, block.starts.len()].contains(&block.sequences.len());
        (block.starts.len() == count as usize && is_in_order).then_some(block)
    }

    /// Adds a message to a block that has only such ones; its number is higher than those of the others.
    pub(super) fn push_with(&mut self, sequence: u64, message: &Message<'_>) {
        self.sequences.push(sequence);
        self.octets.extend(OWN_SEQUENCE.to_le_bytes());
        self.octets.extend(sequence.to_le_bytes());
        self.add(message);
    }

    pub(super) fn push(&mut self, message: &Message<'_>) {
        if self.octets.capacity() == 0 {
            // Most blocks become full; a message may be larger than a whole block.
            self.octets.reserve_exact(OCTETS + Self::size_of(message));
        }
        self.add(message);
    }

    fn add(&mut self, message: &Message<'_>) {
        self.starts.push(self.octets.len() as u32);
        let key_length = message.key.map_or(NO_KEY, |key| key.len() as u32);
        let octets = &mut self.octets;
        octets.extend((message.topic.len() as u32).to_le_bytes());
        octets.extend(key_length.to_le_bytes());
        octets.extend((message.payload.len() as u32).to_le_bytes());
        octets.extend(message.partition.unwrap_or(NO_PARTITION).to_le_bytes());
        octets.extend(message.tally.records.to_le_bytes());
        octets.extend(message.tally.packets.to_le_bytes());
        octets.extend(message.tally.octets.to_le_bytes());
        octets.extend(message.topic.as_bytes());
        octets.extend(message.key.unwrap_or_default());
        octets.extend(message.payload);
        self.tally += message.tally;
    }

    /// There will be no further message: gives back the room for them, if that is most of it. In an outage many blocks
    /// wait, and where few messages come each has few.
    pub(super) fn close(&mut self) {
        if self.octets.len() < self.octets.capacity() / 2 {
            self.octets.shrink_to_fit();
            self.starts.shrink_to_fit();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.starts.len() >= MESSAGES || self.octets.len() >= OCTETS
    }

    /// Number of messages.
    pub(super) fn count(&self) -> u32 {
        self.starts.len() as u32
    }

    /// The buffer, as [`from_octets`](Self::from_octets) reads it.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Whether it has messages that were left of other blocks.
    pub(super) fn is_of_remains(&self) -> bool {
        !self.sequences.is_empty()
    }

    /// Sequence number of the message with this place in the block.
    pub(super) fn sequence(&self, index: u32) -> u64 {
        self.sequences.get(index as usize).copied().unwrap_or(self.first + u64::from(index))
    }

    /// Place of the message with this number, if it can be in the block.
    pub(super) fn place_of(&self, sequence: u64) -> Option<u32> {
        let place = if self.is_of_remains() {
            self.sequences.binary_search(&sequence).ok()? as u64
        } else {
            sequence.checked_sub(self.first)?
        };
        u32::try_from(place).ok().filter(|place| *place < self.count())
    }

    /// The message with this place in the block.
    pub(super) fn message(&self, index: u32) -> Option<Message<'_>> {
        message_at(&self.octets, *self.starts.get(index as usize)? as usize)
    }
}

fn sequence_at(octets: &[u8], start: usize) -> Option<u64> {
    let (mark, rest) = octets.get(start..)?.split_first_chunk()?;
    let sequence = rest.first_chunk()?;
    (u32::from_le_bytes(*mark) == OWN_SEQUENCE).then_some(u64::from_le_bytes(*sequence))
}

fn message_at(octets: &[u8], start: usize) -> Option<Message<'_>> {
    let head = octets.get(start..)?.first_chunk::<HEAD>()?;
    let u32_at = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (topic_length, key_length, payload_length) = (u32_at(0)?, u32_at(4)?, u32_at(8)?);
    let partition = i32::from_le_bytes(u32_at(12)?.to_le_bytes());
    let tally = Tally { records: u64_at(16)?, packets: u64_at(24)?, octets: u64_at(32)? };
    let rest = octets.get(start + HEAD..)?;
    let (topic, rest) = rest.split_at_checked(topic_length as usize)?;
    let (key, rest) = match key_length {
        NO_KEY => (None, rest),
        length => {
            let (key, rest) = rest.split_at_checked(length as usize)?;
            (Some(key), rest)
        }
    };
    let payload = rest.get(..payload_length as usize)?;
    let topic = str::from_utf8(topic).ok()?;
    Some(Message { topic, partition: (partition >= 0).then_some(partition), key, payload, tally })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_block_of_few_messages_keeps_no_room_for_others() {
        let mut block = Block::new(1, 1);
        let message = Message { topic: "t", partition: None, key: None, payload: b"few", tally: Tally::ZERO };
        block.push(&message);
        let (octets, room) = (block.octets.len(), block.octets.capacity());
        assert!(room > OCTETS);
        block.close();
        assert!(block.octets.capacity() < 2 * octets, "{}", block.octets.capacity());
        assert_eq!(block.message(0), Some(message));
    }

    proptest! {
        #[test]
        fn a_block_reads_what_was_pushed(
            messages in prop::collection::vec(
                (
                    "[a-z.]{1,20}",
                    prop::option::of(0..9),
                    prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
                    prop::collection::vec(any::<u8>(), 0..300),
                    any::<(u64, u64, u64)>(),
                ),
                1..50,
            ),
        ) {
            let messages: Vec<Message<'_>> = messages
                .iter()
                .map(|(topic, partition, key, payload, (records, packets, octets))| Message {
                    topic,
                    partition: *partition,
                    key: key.as_deref(),
                    payload,
                    tally: Tally { records: *records, packets: *packets, octets: *octets },
                })
                .collect();
            let mut block = Block::new(3, 70);
            for message in &messages {
                block.push(message);
            }
            let read = Block::from_octets(3, 70, block.count(), block.octets().to_vec());
            let read = read.expect("it is one");
            prop_assert_eq!(&read, &block);
            let again: Vec<Message<'_>> =
                (0..read.count()).filter_map(|index| read.message(index)).collect();
            prop_assert_eq!(&again, &messages);

            let sequence = |place: usize| 7 + 3 * place as u64;
            let mut remains = Block::new(3, 7);
            for (place, message) in messages.iter().enumerate() {
                remains.push_with(sequence(place), message);
            }
            let read = Block::from_octets(3, 7, remains.count(), remains.octets().to_vec());
            let read = read.expect("it is one");
            prop_assert_eq!(&read, &remains);
            for (place, message) in messages.iter().enumerate() {
                let index = read.place_of(sequence(place)).expect("it is there");
                prop_assert_eq!(index as usize, place);
                prop_assert_eq!(read.sequence(index), sequence(place));
                prop_assert_eq!(read.message(index), Some(*message));
            }
            prop_assert_eq!(read.place_of(8), None);
            prop_assert_eq!(Block::from_octets(3, 8, remains.count(), remains.octets().to_vec()), None);
        }

        #[test]
        fn any_octets_are_a_block_or_none(octets in prop::collection::vec(any::<u8>(), 0..400), count in 0_u32..5) {
            if let Some(block) = Block::from_octets(0, 0, count, octets.clone()) {
                prop_assert_eq!(block.octets(), octets);
                prop_assert_eq!(block.count(), count);
            }
        }
    }
}
