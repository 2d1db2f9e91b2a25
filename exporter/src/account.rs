//! Double-entry account of every record given to an Exporting Process.

use crate::record::Tally;

/// Why records will not reach the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum LossReason {
    /// An ICMP error said that the datagram did not reach the collector, such as "port unreachable".
    CollectorRefused = 0,
    /// The socket took no more within the send timeout.
    SendTimeout = 1,
    /// The system refused to send.
    SendFailed = 2,
    /// The path carries less than one record needs, or a router dropped the datagram for its size.
    MessageTooBig = 3,
    /// The reader of standard output is gone.
    OutputClosed = 4,
    /// The format has no fields for IPv6 addresses.
    FormatCannotCarryIpv6 = 5,
    /// The counters are larger than any sensible number of the format's records could carry.
    FormatCannotCarryCounters = 6,
    /// The connection ended before the collector's host had acknowledged them. Some may have arrived.
    ConnectionLost = 7,
    /// There was no connection, or it took no more, until the end.
    NotConnected = 8,
}

impl LossReason {
    /// Number of reasons.
    pub const COUNT: usize = 9;

    /// Every reason, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::CollectorRefused,
        Self::SendTimeout,
        Self::SendFailed,
        Self::MessageTooBig,
        Self::OutputClosed,
        Self::FormatCannotCarryIpv6,
        Self::FormatCannotCarryCounters,
        Self::ConnectionLost,
        Self::NotConnected,
    ];

    /// Stable name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CollectorRefused => "collector_refused",
            Self::SendTimeout => "send_timeout",
            Self::SendFailed => "send_failed",
            Self::MessageTooBig => "message_too_big",
            Self::OutputClosed => "output_closed",
            Self::FormatCannotCarryIpv6 => "format_cannot_carry_ipv6",
            Self::FormatCannotCarryCounters => "format_cannot_carry_counters",
            Self::ConnectionLost => "connection_lost",
            Self::NotConnected => "not_connected",
        }
    }
}

/// What a narrow format cannot say of a record that it carries otherwise. Such a record is not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LimitReason {
    /// An AS number over 65535 was replaced by 23456 (`AS_TRANS`, RFC 6793, section 9).
    AsNumberOver16Bits = 0,
    /// An interface index over 65535 was replaced by 0 (unknown).
    InterfaceIndexOver16Bits = 1,
    /// A sampling interval over 16383 was replaced by 16383.
    SamplingIntervalOver14Bits = 2,
    /// A counter over 4294967295: the record became several, which add up to it.
    CountersOver32Bits = 3,
    /// The flow was in the future of the message or more than 49 days before it, and was moved.
    FlowTimeOutOfRange = 4,
    /// With its communities and its label the record is larger than a message: they were left out.
    FieldsOverMessageSize = 5,
}

impl LimitReason {
    /// Number of reasons.
    pub const COUNT: usize = 6;

    /// Every reason, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::AsNumberOver16Bits,
        Self::InterfaceIndexOver16Bits,
        Self::SamplingIntervalOver14Bits,
        Self::CountersOver32Bits,
        Self::FlowTimeOutOfRange,
        Self::FieldsOverMessageSize,
    ];

    /// Stable name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsNumberOver16Bits => "as_number_over_16_bits",
            Self::InterfaceIndexOver16Bits => "interface_index_over_16_bits",
            Self::SamplingIntervalOver14Bits => "sampling_interval_over_14_bits",
            Self::CountersOver32Bits => "counters_over_32_bits",
            Self::FlowTimeOutOfRange => "flow_time_out_of_range",
            Self::FieldsOverMessageSize => "fields_over_message_size",
        }
    }
}

/// Where every accepted record is now.
///
/// At any time `accepted == pending + in_flight + delivered + total_lost()`; `delivered` and `lost` only grow.
///
/// UDP confirms nothing: *delivered* means sent, with no error reported by the time the next datagram was sent
/// or the account was settled. An ICMP error that comes later, or that a router did not send, goes unseen, so
/// at the beginning of an outage `lost` is too small by what was sent within a round trip.
///
/// TCP and TLS: *delivered* means that the collector's host has acknowledged it, whether or not the collector has read
/// it. A record of a message that never was sent whole stays pending and is sent in the next session; one that was, and
/// was not acknowledged when the connection ended, is lost for [`LossReason::ConnectionLost`] and not sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportAccount {
    /// Given to `export`.
    pub accepted: Tally,
    /// In the message or buffer that is not sent yet.
    pub pending: Tally,
    /// In datagrams about which an error could still be reported: the last one sent or, while the collector
    /// refuses, all since the last error. With a connection: not acknowledged yet.
    pub in_flight: Tally,
    /// Sent without a report of failure.
    pub delivered: Tally,
    /// Not delivered, by [`LossReason`].
    pub lost: [Tally; LossReason::COUNT],
}

impl ExportAccount {
    /// Records lost for `reason`.
    #[must_use]
    pub const fn lost(&self, reason: LossReason) -> Tally {
        self.lost[reason as usize]
    }

    /// Records lost for any reason.
    #[must_use]
    pub fn total_lost(&self) -> Tally {
        self.lost.iter().fold(Tally::ZERO, |sum, tally| sum + *tally)
    }

    /// Whether every accepted record is accounted for exactly once.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.pending + self.in_flight + self.delivered + self.total_lost()
    }

    /// Both accounts together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.accepted += other.accepted;
        self.pending += other.pending;
        self.in_flight += other.in_flight;
        self.delivered += other.delivered;
        for (sum, tally) in self.lost.iter_mut().zip(other.lost) {
            *sum += tally;
        }
        self
    }

    pub(crate) fn accept(&mut self, tally: Tally) {
        self.accepted += tally;
        self.pending += tally;
    }

    pub(crate) fn send(&mut self, tally: Tally) {
        self.pending -= tally;
        self.in_flight += tally;
    }

    /// `tally` of what is in flight has arrived.
    pub(crate) fn deliver(&mut self, tally: Tally) {
        self.in_flight -= tally;
        self.delivered += tally;
    }

    pub(crate) fn settle_delivered(&mut self) {
        self.delivered += std::mem::take(&mut self.in_flight);
    }

    pub(crate) fn lose_in_flight(&mut self, reason: LossReason) {
        self.lost[reason as usize] += std::mem::take(&mut self.in_flight);
    }

    pub(crate) fn lose_pending(&mut self, tally: Tally, reason: LossReason) {
        self.pending -= tally;
        self.lost[reason as usize] += tally;
    }
}

/// Why a send did not succeed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum SendErrorKind {
    /// An ICMP error about an earlier datagram.
    Refused = 0,
    /// The message is larger than the path MTU.
    TooBig = 1,
    /// The send timeout passed.
    TimedOut = 2,
    /// Any other error of the system.
    Failed = 3,
    /// The reader of standard output is gone.
    Closed = 4,
    /// No connection could be made.
    ConnectFailed = 5,
    /// The connection ended.
    ConnectionLost = 6,
}

impl SendErrorKind {
    /// Number of kinds.
    pub const COUNT: usize = 7;

    /// Every kind, in index order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Refused,
        Self::TooBig,
        Self::TimedOut,
        Self::Failed,
        Self::Closed,
        Self::ConnectFailed,
        Self::ConnectionLost,
    ];

    /// Stable name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TooBig => "too_big",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Closed => "closed",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectionLost => "connection_lost",
        }
    }
}

/// What an Exporting Process has sent, and what the format could not say. All counters only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Messages handed to the network or to the output.
    pub messages: u64,
    /// Octets of those messages, without IP and UDP headers.
    pub octets: u64,
    /// Template Records and Options Template Records in those messages.
    pub templates: u64,
    /// Records of options data in those messages.
    pub options_records: u64,
    /// Sends that failed, whether or not a second attempt succeeded, by [`SendErrorKind`].
    pub send_errors: [u64; SendErrorKind::COUNT],
    /// Accepted Flow Records of which something had to be altered for the format, by [`LimitReason`].
    pub limited: [u64; LimitReason::COUNT],
}

impl ExportCounts {
    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        let Self { messages, octets, templates, options_records, send_errors, limited } = other;
        self.messages += messages;
        self.octets += octets;
        self.templates += templates;
        self.options_records += options_records;
        for (sum, count) in self.send_errors.iter_mut().zip(send_errors) {
            *sum += count;
        }
        for (sum, count) in self.limited.iter_mut().zip(limited) {
            *sum += count;
        }
        self
    }

    /// Failed sends of one kind.
    #[must_use]
    pub const fn send_errors(&self, kind: SendErrorKind) -> u64 {
        self.send_errors[kind as usize]
    }

    /// Flow Records that were altered for one reason.
    #[must_use]
    pub const fn limited(&self, reason: LimitReason) -> u64 {
        self.limited[reason as usize]
    }
}
