//! Time as an argument: this crate reads no clock.

use std::time::Duration;

/// The time of an export call, as the caller read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportTime {
    /// Wall clock, in milliseconds since the Unix epoch: the Export Time of message headers.
    pub unix_milliseconds: u64,
    /// A clock that is never set back, such as `CLOCK_MONOTONIC`: drives every interval, and is the sysUpTime
    /// of NetFlow v5 and v9.
    pub monotonic: Duration,
}

impl ExportTime {
    /// Export Time of every format: seconds modulo 2^32.
    pub(crate) const fn unix_seconds(self) -> u32 {
        (self.unix_milliseconds / 1000) as u32
    }

    /// sysUpTime: milliseconds modulo 2^32.
    pub(crate) const fn uptime_milliseconds(self) -> u32 {
        self.monotonic.as_millis() as u32
    }
}
