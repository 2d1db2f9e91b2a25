//! What became of rows.

use pathflow_exporter::Tally;

/// What became of the rows that an output was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputAccount {
    /// Given and not yet delivered.
    pub waiting: Tally,
    /// Written, or acknowledged.
    pub delivered: Tally,
    /// Lost, by reason.
    pub lost: Vec<(&'static str, Tally)>,
}

impl OutputAccount {
    /// Enters a loss.
    pub fn lose(&mut self, reason: &'static str, lost: Tally) {
        match self.lost.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, sum)) => *sum += lost,
            None => self.lost.push((reason, lost)),
        }
    }
}
