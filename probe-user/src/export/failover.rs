//! Several collectors of which one at a time gets records: the first that works.

use std::sync::Arc;

use pathflow_exporter::{
    ExportAccount, ExportCounts, ExportEvent, ExportTime, ExportingProcess, FlowRecord, MeteringStatistics,
    ObservationContext,
};

/// Exports to the first collector, and while that fails to the next.
///
/// Those that have no records to get are sent templates all the same: so they can read the first record that comes,
/// and whether one of them works again shows without risking a record.
#[derive(Debug)]
pub struct Failover {
    processes: Vec<ExportingProcess>,
    /// Number of the one that gets records.
    active: usize,
    account: ExportAccount,
    counts: ExportCounts,
    has_switched: bool,
}

impl Failover {
    /// With one Exporting Process for each collector, the preferred one first.
    #[must_use]
    pub fn new(processes: Vec<ExportingProcess>) -> Self {
        let (account, counts) = (ExportAccount::default(), ExportCounts::default());
        Self { processes, active: 0, account, counts, has_switched: false }
    }

    /// As [`ExportingProcess::export`]. What was in the message that failed is lost.
    pub fn export(&mut self, now: ExportTime, records: &[FlowRecord]) {
        self.choose(now);
        self.with_active(|process| process.export(now, records));
    }

    /// As [`ExportingProcess::flush`].
    pub fn flush(&mut self, now: ExportTime) {
        self.with_active(|process| process.flush(now));
    }

    /// As [`ExportingProcess::tick`], of every collector.
    pub fn tick(&mut self, now: ExportTime) {
        self.processes.iter_mut().for_each(|process| process.tick(now));
        self.choose(now);
        self.add_up();
    }

    /// Whether one of the collectors takes records now.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.processes.iter().any(ExportingProcess::is_ready)
    }

    /// As [`ExportingProcess::poll`], of every collector.
    pub fn poll(&mut self, now: ExportTime) {
        self.processes.iter_mut().for_each(|process| process.poll(now));
        self.choose(now);
        self.add_up();
    }

    /// As [`ExportingProcess::retry`], of every collector.
    pub fn retry(&mut self) {
        self.processes.iter_mut().for_each(ExportingProcess::retry);
    }

    /// Whether what was sent has arrived, where that can be known.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.processes.iter().all(|process| !process.has_sessions() || process.is_settled())
    }

    /// As [`ExportingProcess::give_up`].
    pub fn give_up(&mut self, records: &[FlowRecord]) {
        self.with_active(|process| process.give_up(records));
    }

    /// As [`ExportingProcess::close`].
    pub fn close(&mut self, now: ExportTime) {
        self.processes.iter_mut().for_each(|process| process.close(now));
        self.add_up();
    }

    /// As [`ExportingProcess::set_context`].
    pub fn set_context(&mut self, context: &Arc<ObservationContext>) {
        for process in &mut self.processes {
            process.set_context(Arc::clone(context));
        }
    }

    /// As [`ExportingProcess::set_metering_statistics`].
    pub fn set_metering_statistics(&mut self, statistics: MeteringStatistics) {
        for process in &mut self.processes {
            process.set_metering_statistics(statistics);
        }
    }

    /// Of all collectors together.
    #[must_use]
    pub const fn account(&self) -> &ExportAccount {
        &self.account
    }

    /// Of all collectors together.
    #[must_use]
    pub const fn counts(&self) -> &ExportCounts {
        &self.counts
    }

    /// The next event, and the number of its collector.
    pub fn next_event(&mut self) -> Option<(usize, ExportEvent)> {
        self.processes
            .iter_mut()
            .enumerate()
            .find_map(|(number, process)| process.next_event().map(|event| (number, event)))
    }

    /// The collector that gets records from now on, if it is another one than at the last call.
    pub fn switched(&mut self) -> Option<usize> {
        std::mem::take(&mut self.has_switched).then_some(self.active)
    }

    /// The first that works; if none does, it stays as it is.
    fn choose(&mut self, now: ExportTime) {
        let working = self.processes.iter().position(|process| process.is_ready() && !process.is_failing());
        let Some(first) = working.filter(|first| *first != self.active) else { return };
        self.with_active(|process| process.flush(now));
        // What waits for a connection has somewhere better to go.
        let waiting = self.processes.get_mut(self.active).map(ExportingProcess::take_pending);
        self.active = first;
        self.has_switched = true;
        self.with_active(|process| process.export(now, &waiting.unwrap_or_default()));
    }

    fn with_active(&mut self, action: impl FnOnce(&mut ExportingProcess)) {
        if let Some(process) = self.processes.get_mut(self.active) {
            action(process);
        }
        self.add_up();
    }

    fn add_up(&mut self) {
        let (account, counts) = (ExportAccount::default(), ExportCounts::default());
        self.account = self.processes.iter().fold(account, |sum, process| sum.and(process.account()));
        self.counts = self.processes.iter().fold(counts, |sum, process| sum.and(process.counts()));
    }
}
