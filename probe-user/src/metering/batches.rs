//! Deltas on their way to the shards, in batches.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use foldhash::quality::FixedState;

use super::shard::ShardMessage;
use crate::capture::Delta;
use crate::classify::Classes;
use crate::clock::Reading;
use crate::ledger::{Amount, Ledger, PointAmounts};

/// Deltas that are handed to a shard together.
pub const DELTA_BATCH: usize = 1024;

/// Sorts deltas by shard and hands them over.
#[derive(Debug)]
pub struct Batches {
    shards: Vec<Sender<ShardMessage>>,
    /// Empty buffers that the shards are done with.
    pool: Receiver<Vec<Delta>>,
    ledger: Arc<Ledger>,
    /// A buffer and its amounts for each shard.
    buffers: Vec<(Vec<Delta>, PointAmounts)>,
    hasher: FixedState,
    classes: Option<Arc<Classes>>,
}

impl Batches {
    /// Empty batches for `shards`, which send their emptied buffers to `pool`.
    #[must_use]
    pub fn new(shards: Vec<Sender<ShardMessage>>, pool: Receiver<Vec<Delta>>, ledger: Arc<Ledger>) -> Self {
        let buffers = shards.iter().map(|_| (Vec::with_capacity(DELTA_BATCH), PointAmounts::new())).collect();
        Self { shards, pool, ledger, buffers, hasher: FixedState::default(), classes: None }
    }

    /// Deltas get their classes from these, if there are any.
    #[must_use]
    pub fn with_classes(mut self, classes: Option<Arc<Classes>>) -> Self {
        self.classes = classes;
        self
    }

    /// The accounts that hand-overs are entered in.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds a delta to the batch of its shard; returns the shard if the batch is full now.
    pub fn push(&mut self, delta: Delta) -> Option<usize> {
        let shard = match self.buffers.len() {
            1 => 0,
            shards => (self.hasher.hash_one(delta.key.0) % shards as u64) as usize,
        };
        let (deltas, amounts) = self.buffers.get_mut(shard)?;
        let amount = Amount { packets: delta.packets, octets: delta.octets };
        amounts.add(delta.key.fields().observation_point, amount);
        deltas.push(delta);
        (deltas.len() >= DELTA_BATCH).then_some(shard)
    }

    /// Adds a delta to the batch of its shard, and hands the batch over if it is full. The ledger must have
    /// been told of its packets as seen.
    pub fn push_and_send(&mut self, delta: Delta) {
        if let Some(full) = self.push(delta) {
            self.send(full);
        }
    }

    /// Notes that these later fragments are accounted without the ports of their datagram.
    pub fn fragments_without_ports(&self, delta: &Delta) {
        self.ledger.fragments_without_ports(delta.key.fields().observation_point, delta.packets);
    }

    /// Hands a batch over, unless it is empty. The ledger must have been told of its packets as seen.
    pub fn send(&mut self, shard: usize) {
        let (Some((deltas, amounts)), Some(queue)) = (self.buffers.get_mut(shard), self.shards.get(shard))
        else {
            return;
        };
        if deltas.is_empty() {
            return;
        }
        if let Some(classes) = &self.classes {
            classes.apply(deltas);
        }
        self.ledger.drained(amounts);
        amounts.clear();
        let empty = self.pool.try_recv().unwrap_or_else(|_| Vec::with_capacity(DELTA_BATCH));
        // Waits if the shard is behind; the kernel's tables go on counting meanwhile. A shard ends only
        // after every sender is gone.
        let _ = queue.send(ShardMessage::Deltas(std::mem::replace(deltas, empty)));
    }

    /// Hands every batch over.
    pub fn send_all(&mut self) {
        for shard in 0..self.buffers.len() {
            self.send(shard);
        }
    }

    /// Tells every shard something about the time.
    pub fn tell(&self, message: impl Fn(Reading) -> ShardMessage, now: Reading) {
        for shard in &self.shards {
            let _ = shard.send(message(now));
        }
    }
}
