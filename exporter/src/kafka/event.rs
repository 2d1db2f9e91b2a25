//! What happened that an operator should hear of, once per episode.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::account::{ClientErrorKind, DeliveryErrorKind, KafkaLossReason};
use crate::record::Tally;

/// As many events wait for the caller; later ones are dropped.
const WAITING: usize = 64;

/// What goes on is not told of again for so long.
const QUIET: Duration = Duration::from_secs(30);

/// Why nothing is delivered is told once, until something is delivered or the reason has not been seen for so long:
/// more than librdkafka is silent between errors that are alike.
const FORGOTTEN: Duration = Duration::from_mins(2);

/// An event for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaEvent {
    /// The broker has confirmed nothing for a while.
    OutageBegan {
        /// Whether messages go to the spool from now on.
        to_spool: bool,
    },
    /// It confirms again.
    OutageEnded {
        /// How long it did not.
        lasted: Duration,
    },
    /// The producer tells of a broker that is down, of a failed authentication, and the like.
    ClientError {
        /// What it is about.
        kind: ClientErrorKind,
        /// As librdkafka puts it, without control characters.
        text: String,
    },
    /// A topic takes nothing. Its messages wait, and those of other topics go on.
    DeliveryFailed {
        /// Why.
        kind: DeliveryErrorKind,
        /// Its name.
        topic: String,
        /// As librdkafka puts it.
        text: String,
    },
    /// A topic confirms nothing while others do: a partition of it has no leader. Its messages wait, and those of other
    /// topics go on.
    TopicStuck {
        /// Its name.
        topic: String,
    },
    /// The topic takes messages again.
    TopicWorks {
        /// Its name.
        topic: String,
        /// How long it did not.
        lasted: Duration,
    },
    /// A message was lost.
    MessageLost {
        /// Why.
        reason: KafkaLossReason,
        /// Topic of the first such message.
        topic: String,
        /// Its key, without control characters.
        key: String,
        /// Octets of its payload.
        octets: usize,
    },
    /// Messages of topics that take nothing were forced out: there was no more room for them.
    HeldLost {
        /// How many at first.
        messages: u64,
    },
    /// The producer had a fatal error. Another takes its place and sends again what was not confirmed.
    ProducerRecreated {
        /// Part of the stamps from now on.
        epoch: u32,
        /// As librdkafka puts it.
        text: String,
    },
    /// No producer could be made.
    ProducerFailed {
        /// Why.
        text: String,
    },
    /// There were messages in the spool; they are sent first.
    SpoolRecovered {
        /// How many.
        messages: u64,
        /// What they stand for.
        tally: Tally,
    },
    /// An earlier run was killed, or the machine went down under it.
    CrashLoss {
        /// Messages that are neither confirmed nor in the spool. Some may have arrived.
        messages: u64,
        /// So many more at most had just been accepted.
        uncertain: u64,
        /// What those of `messages` stand for that no longer waited in the queue.
        tally: Tally,
        /// It was the machine: these numbers are of the last time that they were written to disk, and what was accepted
        /// after that is in none of them.
        went_down: bool,
    },
    /// The spool file was damaged, or of another version. Another takes its place.
    SpoolSetAside {
        /// Where the file is now.
        path: PathBuf,
        /// What was wrong.
        text: String,
        /// Messages that could be read and are in the new spool.
        messages: u64,
    },
    /// Blocks of the spool were damaged or are missing, and their messages are lost.
    SpoolDamaged {
        /// How many.
        messages: u64,
    },
    /// The spool has its full size, and its oldest messages are dropped.
    SpoolFull,
    /// The file system is full.
    DiskFull,
    /// The spool does not work; messages wait in memory alone. It is tried again after a second, and later every ten.
    SpoolFailed {
        /// Why.
        text: String,
    },
    /// The spool works again.
    SpoolWorks,
}

/// Events that wait for the caller.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<KafkaEvent>,
    /// When each kind was told of.
    told: Vec<(Episode, Instant)>,
}

impl Events {
    pub(super) fn next(&mut self) -> Option<KafkaEvent> {
        self.waiting.pop_front()
    }

    /// Something is delivered: what hinders it next is news.
    pub(super) fn end_of_outage(&mut self) {
        self.told.retain(|(episode, _)| !episode.is_reason());
    }

    /// Keeps `event`, unless the same episode was told of lately.
    pub(super) fn tell(&mut self, event: KafkaEvent, now: Instant) {
        if let Some(episode) = event.episode() {
            let told = self.told.iter_mut().find(|(kind, _)| *kind == episode);
            match told {
                Some((_, at)) if episode.is_reason() && now.duration_since(*at) < FORGOTTEN => {
                    *at = now;
                    return;
                }
                Some((_, at)) if !episode.is_reason() && now.duration_since(*at) < QUIET => return,
                Some((_, at)) => *at = now,
                None => self.told.push((episode, now)),
            }
        }
        if self.waiting.len() < WAITING {
            self.waiting.push_back(event);
        }
    }
}

impl KafkaEvent {
    /// Events of the same episode may come by the thousand.
    fn episode(&self) -> Option<Episode> {
        Some(match self {
            Self::ClientError { kind, .. } => Episode::ClientError(*kind),
            Self::ProducerRecreated { .. } => Episode::ProducerRecreated,
            Self::ProducerFailed { .. } => Episode::ProducerFailed,
            Self::SpoolDamaged { .. } => Episode::SpoolDamaged,
            Self::HeldLost { .. } => Episode::HeldLost,
            Self::SpoolFull => Episode::SpoolFull,
            Self::DiskFull => Episode::DiskFull,
            Self::SpoolFailed { .. } => Episode::SpoolFailed,
            Self::MessageLost { reason, .. } => Episode::MessageLost(*reason),
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Episode {
    ClientError(ClientErrorKind),
    ProducerRecreated,
    ProducerFailed,
    HeldLost,
    SpoolDamaged,
    SpoolFull,
    DiskFull,
    SpoolFailed,
    MessageLost(KafkaLossReason),
}

impl Episode {
    /// Whether it says why nothing is delivered, for as long as that is so.
    fn is_reason(self) -> bool {
        matches!(self, Self::ClientError(_) | Self::ProducerRecreated)
    }
}

/// `text` without control characters and line separators, and not too long for a line of a log.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 256;
    let clean = |character: char| {
        let hidden = character.is_control()
            || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
            || ('\u{202a}'..='\u{202e}').contains(&character)
            || ('\u{2066}'..='\u{2069}').contains(&character);
        if hidden { '?' } else { character }
    };
    text.chars().take(LONGEST).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_told_of_once() {
        let mut events = Events::default();
        let start = Instant::now();
        events.tell(KafkaEvent::SpoolFull, start);
        events.tell(KafkaEvent::DiskFull, start);
        events.tell(KafkaEvent::SpoolFull, start + Duration::from_secs(1));
        events.tell(KafkaEvent::SpoolFull, start + Duration::from_secs(31));
        let told: Vec<KafkaEvent> = std::iter::from_fn(|| events.next()).collect();
        assert_eq!(told, [KafkaEvent::SpoolFull, KafkaEvent::DiskFull, KafkaEvent::SpoolFull]);
    }

    #[test]
    fn a_reason_is_told_once_until_something_is_delivered() {
        let mut events = Events::default();
        let start = Instant::now();
        let error = |kind| KafkaEvent::ClientError { kind, text: String::new() };
        for seconds in 0..100 {
            let now = start + Duration::from_secs(31 * seconds);
            events.tell(error(ClientErrorKind::Unreachable), now);
            events.tell(error(ClientErrorKind::Tls), now);
        }
        assert_eq!(std::iter::from_fn(|| events.next()).count(), 2);
        events.end_of_outage();
        events.tell(error(ClientErrorKind::Tls), start + Duration::from_secs(31 * 100));
        assert_eq!(std::iter::from_fn(|| events.next()).count(), 1);
    }

    #[test]
    fn what_a_broker_says_cannot_forge_a_line() {
        assert_eq!(printable("a\nb\u{1b}[31m\u{202e}c"), "a?b?[31m?c");
    }
}
