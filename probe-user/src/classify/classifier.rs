//! Looks at the first packets of each conversation until its class is known, or will not be.
//!
//! Memory is bounded: of conversations that are looked at, and of those that are decided. Where there are too many, those
//! that had no packets for longest of a few that are looked at make room; that is counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashSet};
use pathflow_common::bytes::SliceFrame;
use pathflow_common::parse::link::Link;

use super::conversation::{Telling, telling};
use super::ndpi::{Detector, FlowState};
use super::{Class, Classes, ClassifyError, ClassifySettings, Conversation};
use crate::metering::packets::KeySettings;

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// Of all conversations, this part may be pending at a time: they take much more memory (about 1 KiB each).
const PENDING_PART: usize = 4;
/// Pending conversations without a packet for this long are given up, in seconds.
const PENDING_IDLE: u32 = 30;
/// How many are compared where one has to make room.
const COMPARED: usize = 8;
/// Conversations that are gone through in a second, at least.
const SWEPT: usize = 4096;
/// So much of them is gone through in a second, if that is more.
const SWEPT_PART: usize = 64;

/// Classifies conversations. One thread has it.
#[derive(Debug)]
pub struct Classifier {
    detector: Detector,
    classes: Arc<Classes>,
    settings: ClassifySettings,
    keys: KeySettings,
    pending: HashMap<Conversation, Pending, RandomState>,
    /// Those that are or were pending, by when they began.
    begun: VecDeque<Conversation>,
    decided: HashSet<Conversation, RandomState>,
    /// The same ones, in the order in which they are gone through.
    order: VecDeque<Conversation>,
    /// Second in which is next looked for what can be forgotten.
    next_sweep: u32,
}

#[derive(Debug)]
struct Pending {
    flow: FlowState,
    packets: u32,
    class: Class,
    /// When its last packet was seen, in seconds.
    last: u32,
}

impl Classifier {
    /// Whatever it finds is put into `classes`. `keys` is what keys of packets are.
    ///
    /// # Errors
    /// [`ClassifyError`] if there is no nDPI.
    pub fn new(
        settings: ClassifySettings,
        keys: KeySettings,
        classes: Arc<Classes>,
    ) -> Result<Self, ClassifyError> {
        Ok(Self {
            detector: Detector::new()?,
            classes,
            settings,
            keys,
            pending: HashMap::default(),
            begun: VecDeque::new(),
            decided: HashSet::default(),
            order: VecDeque::new(),
            next_sweep: 0,
        })
    }

    /// How it classifies.
    #[must_use]
    pub const fn settings(&self) -> ClassifySettings {
        self.settings
    }

    /// Looks at a packet, if its conversation is not decided. `link` is where parsing starts; `time` in nanoseconds. Returns
    /// whether no more packets of it are wanted.
    pub fn packet(&mut self, frame: &SliceFrame<'_>, link: Link, time: u64) -> bool {
        self.tick(time);
        let Some(Telling { conversation, packet }) = telling(frame, link, &self.keys) else { return false };
        if self.decided.contains(&conversation) {
            return true;
        }
        let seconds = (time / SECOND) as u32;
        if !self.pending.contains_key(&conversation) {
            self.begin(conversation, seconds);
        }
        let Some(pending) = self.pending.get_mut(&conversation) else { return false };
        count(&self.classes.counters.packets);
        pending.packets += 1;
        pending.last = pending.last.max(seconds);
        let octets = frame.octets().get(packet).unwrap_or_default();
        let verdict = self.detector.packet(&mut pending.flow, octets, time / MILLISECOND);
        if verdict.class != Class::UNKNOWN && verdict.class != pending.class {
            pending.class = verdict.class;
            self.classes.set(conversation, verdict.class, seconds);
        }
        let is_decided = verdict.is_final || pending.packets >= self.settings.packets;
        if is_decided {
            self.decide(conversation, seconds);
        }
        self.note_pending();
        is_decided
    }

    /// Gives up and forgets what had no packets for long. To be called now and then; `time` in nanoseconds.
    pub fn tick(&mut self, time: u64) {
        let seconds = (time / SECOND) as u32;
        if seconds < self.next_sweep {
            return;
        }
        self.next_sweep = seconds.saturating_add(1);
        self.sweep_pending(seconds);
        self.sweep_decided(seconds);
        self.note_pending();
    }

    fn begin(&mut self, conversation: Conversation, seconds: u32) {
        if self.pending.len() >= (self.settings.max_flows / PENDING_PART).max(1) {
            self.make_room_for_pending(seconds);
        }
        let Some(flow) = Detector::flow() else { return };
        self.pending.insert(conversation, Pending { flow, packets: 0, class: Class::UNKNOWN, last: seconds });
        self.begun.push_back(conversation);
    }

    fn make_room_for_pending(&mut self, seconds: u32) {
        let mut compared = Vec::with_capacity(COMPARED);
        while compared.len() < COMPARED
            && let Some(conversation) = self.begun.pop_front()
        {
            if let Some(pending) = self.pending.get(&conversation) {
                compared.push((pending.last, conversation));
            }
        }
        let longest = compared.iter().map(|(last, _)| *last).enumerate().min_by_key(|(_, last)| *last);
        let Some((place, _)) = longest else { return };
        let (_, conversation) = compared.remove(place);
        // In front again: those that came first go first.
        for (_, other) in compared.into_iter().rev() {
            self.begun.push_front(other);
        }
        count(&self.classes.counters.pending_full);
        self.decide(conversation, seconds);
    }

    /// No more packets of it are wanted.
    fn decide(&mut self, conversation: Conversation, seconds: u32) {
        let Some(Pending { flow, mut class, .. }) = self.pending.remove(&conversation) else { return };
        if class == Class::UNKNOWN {
            class = self.detector.give_up(flow, self.settings.guess);
        }
        let counters = &self.classes.counters;
        count(if class == Class::UNKNOWN { &counters.unknown } else { &counters.classified });
        if self.decided.len() >= self.settings.max_flows {
            self.make_room_for_decided();
        }
        self.classes.set(conversation, class, seconds);
        if self.decided.insert(conversation) {
            self.order.push_back(conversation);
        }
    }

    fn make_room_for_decided(&mut self) {
        let mut compared: Vec<Conversation> = Vec::with_capacity(COMPARED);
        compared.extend(self.order.drain(..COMPARED.min(self.order.len())));
        let used = self.classes.used(&compared);
        let longest = used.iter().enumerate().min_by_key(|(_, used)| **used);
        let Some((place, _)) = longest else { return };
        let forgotten = compared.remove(place);
        // Behind the others: they are in use.
        self.order.extend(compared);
        self.decided.remove(&forgotten);
        self.classes.forget(&[forgotten]);
        count(&self.classes.counters.table_full);
    }

    fn sweep_pending(&mut self, seconds: u32) {
        let mut waiting = SWEPT.max(self.begun.len() / SWEPT_PART);
        for _ in 0..self.begun.len() {
            let Some(conversation) = self.begun.pop_front() else { return };
            match self.pending.get(&conversation).map(|pending| pending.last) {
                None => {}
                Some(last) if seconds.saturating_sub(last) >= PENDING_IDLE => self.decide(conversation, last),
                Some(_) => {
                    self.begun.push_back(conversation);
                    waiting = waiting.saturating_sub(1);
                    if waiting == 0 {
                        return;
                    }
                }
            }
        }
    }

    fn sweep_decided(&mut self, seconds: u32) {
        let swept = SWEPT.max(self.order.len() / SWEPT_PART).min(self.order.len());
        let looked_at: Vec<Conversation> = self.order.drain(..swept).collect();
        let used = self.classes.used(&looked_at);
        let idle = self.settings.idle_timeout.as_secs() as u32;
        let mut forgotten = Vec::new();
        for (conversation, used) in looked_at.into_iter().zip(used) {
            if seconds.saturating_sub(used) < idle {
                self.order.push_back(conversation);
            } else {
                self.decided.remove(&conversation);
                forgotten.push(conversation);
            }
        }
        self.classes.forget(&forgotten);
    }

    fn note_pending(&self) {
        self.classes.counters.pending.store(self.pending.len() as u64, Ordering::Relaxed);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(all(test, feature = "ndpi"))]
mod tests;
