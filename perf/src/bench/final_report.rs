//! The report that pathflow prints when it has ended.

use anyhow::{Context as _, Result, ensure};

/// What of it is compared with what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FinalReport {
    pub(crate) received: Option<u64>,
    pub(crate) in_records: Option<u64>,
    pub(crate) octets: Option<u64>,
    /// Every packet and every record is accounted for.
    pub(crate) balances: bool,
}

impl FinalReport {
    pub(crate) fn parse(log: &str) -> Self {
        let figure = |label: &str, unit: &str| {
            let line = log.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(' '))?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let place = words.iter().position(|word| *word == unit)?;
            words.get(place.checked_sub(1)?)?.parse().ok()
        };
        Self {
            received: figure("received", "packets"),
            in_records: figure("  in flow records", "packets"),
            octets: figure("received", "octets"),
            balances: log.lines().any(|line| line.starts_with("ledger: every packet")),
        }
    }

    /// Fails unless the probe saw every packet that arrived, and its ledger balances.
    pub(crate) fn check(&self, arrived: u64) -> Result<()> {
        let received = self.received.context("pathflow printed no report")?;
        ensure!(received == arrived, "{arrived} packets arrived, pathflow received {received}");
        ensure!(self.balances, "the ledger does not balance");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read() {
        let log = "INFO stopping\n\
            received                        12 packets     345 octets\n\
            \u{20} in flow records              11 packets     300 octets\n\
            ledger: every packet and every record is accounted for\n";
        let report = FinalReport::parse(log);
        let expected =
            FinalReport { received: Some(12), in_records: Some(11), octets: Some(345), balances: true };
        assert_eq!(report, expected);
        assert!(report.check(12).is_ok());
        assert!(report.check(13).is_err());
        assert!(FinalReport::parse("").check(0).is_err());
    }
}
