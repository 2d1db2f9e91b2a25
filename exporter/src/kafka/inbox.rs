//! What the caller's thread and the thread of the output share.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Message, Refused,
    account::{KafkaAccount, KafkaCounts},
    block::Block,
    event::{Events, KafkaEvent},
    spool::{AccountFile, Reservation},
};
use crate::record::Tally;

/// So many sequence numbers are reserved at a time: a write to a file for each would cost too much. So many messages at
/// most are such that the next run does not know whether they were accepted.
const RESERVATION: u64 = 100;

/// Both sides.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
    /// There may be room again.
    emptied: Condvar,
    file: Option<AccountFile>,
    max_octets: usize,
}

#[derive(Debug)]
struct State {
    filling: Option<(Block, Instant)>,
    full: VecDeque<Block>,
    /// Of both.
    octets: usize,
    tally: Tally,
    epoch: u32,
    next: u64,
    reserved: u64,
    worker_waits: bool,
    sender_waits: bool,
    end: Option<Instant>,
    published: Published,
    events: Events,
}

/// What the thread of the output says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    pub account: KafkaAccount,
    pub counts: KafkaCounts,
    /// Octets that it took and neither handed over nor stored.
    pub octets: usize,
    pub is_in_outage: bool,
}

/// What the thread of the output took.
#[derive(Debug)]
pub(super) struct Taken {
    pub blocks: VecDeque<Block>,
    pub tally: Tally,
    /// Sequence number of the next message that will be accepted.
    pub next: u64,
}

impl Inbox {
    pub(super) fn new(max_octets: usize, file: Option<AccountFile>, epoch: u32, next: u64) -> Self {
        let state = State {
            filling: None,
            full: VecDeque::new(),
            octets: 0,
            tally: Tally::ZERO,
            epoch,
            next,
            reserved: next,
            worker_waits: false,
            sender_waits: false,
            end: None,
            published: Published::default(),
            events: Events::default(),
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new(), file, max_octets }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn file(&self) -> Option<&AccountFile> {
        self.file.as_ref()
    }

    /// Accepts a message; waits for room until `give_up`, if that is given.
    pub(super) fn push(&self, message: &Message<'_>, give_up: Option<Instant>) -> Result<(), Refused> {
        let size = Block::size_of(message);
        let mut state = self.state();
        loop {
            if state.end.is_some() {
                return Err(Refused::Closing);
            }
            let waiting = state.octets + state.published.octets;
            // A message that is larger than the queue goes alone.
            if waiting == 0 || waiting + size <= self.max_octets {
                break;
            }
            let left = give_up.map(|at| at.saturating_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { return Err(Refused::QueueFull) };
            state.sender_waits = true;
            (state, _) = self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state.sender_waits = false;
        }
        if state.next >= state.reserved {
            state.reserved = state.next + RESERVATION;
            if let Some(file) = &self.file {
                // Without it the next run can say less; nothing is lost for that.
                let _ = file.reserve(Reservation { given: state.next, end: state.reserved });
            }
        }
        let (epoch, next) = (state.epoch, state.next);
        let (block, _) = state.filling.get_or_insert_with(|| (Block::new(epoch, next), Instant::now()));
        block.push(message);
        let is_full = block.is_full();
        state.next += 1;
        state.octets += size;
        state.tally += message.tally;
        if is_full {
            state.close_block();
            if state.worker_waits {
                self.filled.notify_one();
            }
        }
        Ok(())
    }

    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        state.octets + state.published.octets < self.max_octets
    }

    /// Takes what waits, also a block that is not full if it has waited for `linger`.
    pub(super) fn take(&self, linger: Duration, now: Instant) -> Taken {
        let mut state = self.state();
        let is_old = |(_, since): &(Block, Instant)| now.saturating_duration_since(*since) >= linger;
        if state.end.is_some() || state.filling.as_ref().is_some_and(is_old) {
            state.close_block();
        }
        let left =
            state.filling.as_ref().map_or((0, Tally::ZERO), |(block, _)| (block.octets().len(), block.tally));
        let blocks = std::mem::take(&mut state.full);
        let tally = state.tally - left.1;
        let taken_octets = state.octets - left.0;
        (state.octets, state.tally) = left;
        state.published.account.accepted += tally;
        state.published.account.queued += tally;
        state.published.octets += taken_octets;
        let next = state.filling.as_ref().map_or(state.next, |(block, _)| block.first);
        if state.filling.is_none() && state.reserved != state.next {
            state.reserved = state.next;
            if let Some(file) = &self.file {
                let _ = file.reserve(Reservation::nothing(state.next));
            }
        }
        Taken { blocks, tally, next }
    }

    /// Waits for a full block, for `time` at most.
    pub(super) fn wait(&self, time: Duration) {
        let mut state = self.state();
        if !state.full.is_empty() || state.end.is_some() {
            // An end that is near must not make the thread spin.
            drop(state);
            std::thread::sleep(time.min(Duration::from_millis(1)));
            return;
        }
        state.worker_waits = true;
        let (mut state, _) = self.filled.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner);
        state.worker_waits = false;
    }

    pub(super) fn begin_epoch(&self, epoch: u32) {
        let mut state = self.state();
        state.close_block();
        state.epoch = epoch;
    }

    pub(super) fn publish(&self, published: &Published) {
        let mut state = self.state();
        let has_more_room = published.octets < state.published.octets;
        state.published = *published;
        if has_more_room && state.sender_waits {
            self.emptied.notify_one();
        }
    }

    pub(super) fn tell(&self, event: KafkaEvent, now: Instant) {
        self.state().events.tell(event, now);
    }

    pub(super) fn end_of_outage(&self) {
        self.state().events.end_of_outage();
    }

    pub(super) fn next_event(&self) -> Option<KafkaEvent> {
        self.state().events.next()
    }

    pub(super) fn close(&self, end: Instant) {
        let mut state = self.state();
        state.end = Some(end);
        self.filled.notify_one();
        self.emptied.notify_one();
    }

    /// When to end.
    pub(super) fn end(&self) -> Option<Instant> {
        self.state().end
    }

    /// The account with what only the caller's side knows.
    pub(super) fn account(&self) -> KafkaAccount {
        let state = self.state();
        let mut account = state.published.account;
        account.accepted += state.tally;
        account.queued += state.tally;
        account
    }

    pub(super) fn published(&self) -> Published {
        self.state().published
    }
}

impl State {
    fn close_block(&mut self) {
        if let Some((mut block, _)) = self.filling.take() {
            block.close();
            self.full.push_back(block);
        }
    }
}
