//! Double-entry account of every message given to [`Kafka`](super::Kafka).

use crate::record::Tally;

/// Why messages will not reach the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum KafkaLossReason {
    /// Larger than `message.max.bytes` of the producer, of the broker or of the topic.
    TooLarge = 0,
    /// The broker found the record itself invalid, also when it came alone.
    Rejected = 1,
    /// The producer cannot take such a message: for instance, the name of the topic is none.
    Invalid = 2,
    /// Forced out of the spool by newer ones: the spool had its full size.
    SpoolBound = 3,
    /// Forced out of the spool, or never in it: the file system was full.
    DiskFull = 4,
    /// Their block in the spool was damaged.
    SpoolDamaged = 5,
    /// They were in a spool that can no longer be read.
    SpoolFailed = 6,
    /// Neither delivered nor in a spool when pathflow stopped. Some may have arrived.
    Unsent = 7,
    /// Their topic took nothing, and there was no room left for what waits for such topics.
    TopicUnavailable = 8,
}

impl KafkaLossReason {
    /// Number of reasons.
    pub const COUNT: usize = 9;

    /// Every reason, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TooLarge,
        Self::Rejected,
        Self::Invalid,
        Self::SpoolBound,
        Self::DiskFull,
        Self::SpoolDamaged,
        Self::SpoolFailed,
        Self::Unsent,
        Self::TopicUnavailable,
    ];

    /// Stable name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
            Self::SpoolBound => "spool_bound",
            Self::DiskFull => "disk_full",
            Self::SpoolDamaged => "spool_damaged",
            Self::SpoolFailed => "spool_failed",
            Self::Unsent => "unsent",
            Self::TopicUnavailable => "topic_unavailable",
        }
    }
}

/// Where every accepted message is now, by what it stands for.
///
/// At any time `accepted == queued + in_flight + spooled + delivered + total_lost()`; `accepted`, `delivered` and
/// `lost` only grow.
///
/// *Delivered* means that the broker has confirmed it: all in-sync replicas have it (`acks=all`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KafkaAccount {
    /// Given to [`Kafka::send`](super::Kafka::send), or found in the spool at the start.
    pub accepted: Tally,
    /// Of those, found in the spool at the start: accepted by an earlier run.
    pub recovered: Tally,
    /// In memory, not handed to the producer.
    pub queued: Tally,
    /// Handed to the producer, which has not reported on them yet, or waiting for another attempt. There may be a copy
    /// in the spool.
    pub in_flight: Tally,
    /// On disk alone.
    pub spooled: Tally,
    /// Confirmed by the broker.
    pub delivered: Tally,
    /// Not delivered, by [`KafkaLossReason`].
    pub lost: [Tally; KafkaLossReason::COUNT],
    /// Accepted by an earlier run that was killed, neither settled by it nor found in the spool. Not a part of the
    /// identity above. Some may have arrived.
    pub lost_by_crash: Tally,
}

impl KafkaAccount {
    /// Lost for `reason`.
    #[must_use]
    pub const fn lost(&self, reason: KafkaLossReason) -> Tally {
        self.lost[reason as usize]
    }

    /// Lost for any reason.
    #[must_use]
    pub fn total_lost(&self) -> Tally {
        self.lost.iter().fold(Tally::ZERO, |sum, tally| sum + *tally)
    }

    /// Whether everything that was accepted is accounted for exactly once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.queued + self.in_flight + self.spooled + self.delivered + self.total_lost()
    }

    /// Not settled yet.
    #[must_use]
    pub fn outstanding(&self) -> Tally {
        self.queued + self.in_flight + self.spooled
    }

    pub(super) fn lose(&mut self, tally: Tally, reason: KafkaLossReason) {
        self.lost[reason as usize] += tally;
    }
}

/// What the producer and the spool did, in messages. All counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KafkaCounts {
    /// Messages that the broker has confirmed.
    pub delivered: u64,
    /// Messages lost, for any reason.
    pub lost: u64,
    /// Attempts to send a message again, after the producer had given it up.
    pub resent: u64,
    /// Attempts that ended with an error and may have arrived all the same: so many duplicates are possible.
    pub possibly_persisted: u64,
    /// Producers made after the first, each after a fatal error.
    pub producers_recreated: u64,
    /// Messages written to the spool.
    pub spooled: u64,
    /// Messages that the producer gave up, by [`DeliveryErrorKind`].
    pub errors: [u64; DeliveryErrorKind::COUNT],
    /// What was wrong with brokers and connections, in times, by [`ClientErrorKind`]. The same error of a broker counts
    /// again after half a minute.
    pub client_errors: [u64; ClientErrorKind::COUNT],
}

/// What is wrong between producer and brokers, whatever the messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum ClientErrorKind {
    /// Nobody answers there, the name is unknown, or a connection was lost.
    Unreachable = 0,
    /// The broker does not take the user's name or password.
    Authentication = 1,
    /// The user may not produce at all.
    NotAllowed = 2,
    /// No TLS connection: the certificate of one side is not what the other trusts.
    Tls = 3,
    /// Anything else.
    Other = 4,
}

impl ClientErrorKind {
    /// Number of kinds.
    pub const COUNT: usize = 5;

    /// Every kind, in index order.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Unreachable, Self::Authentication, Self::NotAllowed, Self::Tls, Self::Other];

    /// Stable name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Authentication => "authentication",
            Self::NotAllowed => "not_allowed",
            Self::Tls => "tls",
            Self::Other => "client",
        }
    }
}

/// Why an attempt to send a message failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DeliveryErrorKind {
    /// The topic, or the partition, does not exist.
    TopicMissing = 0,
    /// Not allowed to write to the topic or the cluster.
    NotAuthorized = 1,
    /// The message, or the batch that it was in, is larger than the broker takes.
    TooLarge = 2,
    /// The broker refused the message or its batch.
    Rejected = 3,
    /// The producer ended: a fatal error, or the end of pathflow.
    ProducerEnded = 4,
    /// Anything else, such as a time-out or a policy of the broker.
    Other = 5,
}

impl DeliveryErrorKind {
    /// Number of kinds.
    pub const COUNT: usize = 6;

    /// Every kind, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::TopicMissing,
        Self::NotAuthorized,
        Self::TooLarge,
        Self::Rejected,
        Self::ProducerEnded,
        Self::Other,
    ];

    /// Stable name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TopicMissing => "topic_missing",
            Self::NotAuthorized => "not_authorized",
            Self::TooLarge => "too_large",
            Self::Rejected => "rejected",
            Self::ProducerEnded => "producer_ended",
            Self::Other => "other",
        }
    }
}
