//! What an Exporting Process tells its collector of itself, in options data (RFC 7011, section 4).

use crate::record::Tally;

/// What the caller counts and the Exporting Process cannot know. Totals since the start; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeteringStatistics {
    /// Distinguishes Exporting Processes of one device.
    pub exporting_process_id: u32,
    /// Packets that were seen and should have been accounted to a flow, but are in none.
    pub ignored_packets: u64,
    /// Their layer 3 octets.
    pub ignored_octets: u64,
    /// Flow Records that did not reach the Exporting Process.
    pub not_accepted: Tally,
}

/// The values of the statistics records, as of now. Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// What the caller counts.
    pub metering: MeteringStatistics,
    /// When packets were first found to be ignored, in milliseconds since the Unix epoch; 0 = none were.
    pub first_ignored_milliseconds: u64,
    /// When that was last found.
    pub last_ignored_milliseconds: u64,
    /// Messages handed to the network.
    pub exported_messages: u64,
    /// Octets of these.
    pub exported_octets: u64,
    /// Flow Records in these.
    pub exported_records: u64,
    /// Flow Records that the collector does not get.
    pub not_sent: Tally,
    /// When some were first found not to be sent, in milliseconds since the Unix epoch; 0 = all were.
    pub first_not_sent_milliseconds: u64,
    /// When that was last found.
    pub last_not_sent_milliseconds: u64,
}

impl Statistics {
    /// Takes over new totals, and notes that losses grew by `unix_milliseconds`.
    pub(crate) fn update(&mut self, metering: MeteringStatistics, not_sent: Tally, unix_milliseconds: u64) {
        if metering.ignored_packets != self.metering.ignored_packets {
            note(
                &mut self.first_ignored_milliseconds,
                &mut self.last_ignored_milliseconds,
                unix_milliseconds,
            );
        }
        if not_sent != self.not_sent {
            note(
                &mut self.first_not_sent_milliseconds,
                &mut self.last_not_sent_milliseconds,
                unix_milliseconds,
            );
        }
        self.metering = metering;
        self.not_sent = not_sent;
    }
}

const fn note(first: &mut u64, last: &mut u64, now: u64) {
    if *first == 0 {
        *first = now;
    }
    *last = now;
}
