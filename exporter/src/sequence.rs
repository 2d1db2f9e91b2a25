//! Sequence Numbers: how many things were sent before this message, by each format's own rule.

/// What a format's Sequence Number counts. All count modulo 2^32 and separately for each Transport Session
/// and Observation Domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceRule {
    /// IPFIX: Data Records sent before this message; Template Records do not count (RFC 7011, section 3.1). NetFlow
    /// v5 has no others: `flow_sequence`.
    DataRecords,
    /// NetFlow v9: Export Packets sent before this one (RFC 3954, section 5.1).
    ExportPackets,
}

/// The Sequence Number of the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceNumber {
    rule: SequenceRule,
    next: u32,
}

impl SequenceNumber {
    /// The first Sequence Number of a Transport Session: 0.
    #[must_use]
    pub const fn first(rule: SequenceRule) -> Self {
        Self { rule, next: 0 }
    }

    /// The number the next message carries.
    #[must_use]
    pub const fn next(self) -> u32 {
        self.next
    }

    /// Counts one message of `data_records` Data Records as sent.
    pub const fn advance(&mut self, data_records: u32) {
        let step = match self.rule {
            SequenceRule::DataRecords => data_records,
            SequenceRule::ExportPackets => 1,
        };
        self.next = self.next.wrapping_add(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipfix_counts_data_records_modulo_two_to_the_32() {
        let mut sequence = SequenceNumber { rule: SequenceRule::DataRecords, next: u32::MAX - 1 };
        sequence.advance(0);
        assert_eq!(sequence.next(), u32::MAX - 1);
        sequence.advance(5);
        assert_eq!(sequence.next(), 3);
    }

    #[test]
    fn netflow_v9_counts_export_packets() {
        let mut sequence = SequenceNumber::first(SequenceRule::ExportPackets);
        sequence.advance(0);
        sequence.advance(24);
        assert_eq!(sequence.next(), 2);
    }
}
