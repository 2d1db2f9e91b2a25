//! When a message must carry templates.
//!
//! UDP may lose a template, and a collector forgets all of them when it restarts, so they are sent again
//! periodically (RFC 7011, section 8.1), and at once when there is reason to think that nobody listened.

use std::time::Duration;

/// How long no error must be heard before the collector counts as listening again.
///
/// Routers and hosts limit ICMP errors, Linux to one a second for each destination (`icmp_ratelimit`): one
/// message without an error says little.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// Interval of messages that carry nothing but templates while errors are heard and no data flows.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct TemplateSchedule {
    messages: u32,
    interval: Duration,
    sent_at: Option<Duration>,
    messages_since: u32,
    failed_at: Option<Duration>,
}

impl TemplateSchedule {
    pub(crate) const fn new(messages: u32, interval: Duration) -> Self {
        Self { messages, interval, sent_at: None, messages_since: 0, failed_at: None }
    }

    /// Whether the next message with data must carry templates.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.failed_at.is_some() || self.messages_since >= self.messages || self.is_interval_over(now)
    }

    /// Whether a message must be sent for the templates alone.
    pub(crate) fn is_due_without_data(&self, now: Duration) -> bool {
        let probe = self.failed_at.is_some()
            && self.sent_at.is_some_and(|at| now.saturating_sub(at) >= PROBE_INTERVAL);
        probe || self.is_interval_over(now)
    }

    /// A send failed, or an earlier message was reported undelivered.
    pub(crate) const fn failed(&mut self, now: Duration) {
        self.failed_at = Some(now);
    }

    /// A message was sent. Returns whether this ends a time of failure.
    pub(crate) fn sent(&mut self, now: Duration, with_templates: bool) -> bool {
        if !with_templates {
            self.messages_since = self.messages_since.saturating_add(1);
            return false;
        }
        self.sent_at = Some(now);
        self.messages_since = 1;
        let recovered = self.failed_at.is_some_and(|at| now.saturating_sub(at) >= QUIET_TIME);
        if recovered {
            self.failed_at = None;
        }
        recovered
    }

    fn is_interval_over(&self, now: Duration) -> bool {
        self.sent_at.is_none_or(|at| now.saturating_sub(at) >= self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn first_message_then_every_n_messages() {
        let mut schedule = TemplateSchedule::new(3, seconds(60));
        let due: Vec<bool> = (0..7)
            .map(|_| {
                let due = schedule.is_due(seconds(1));
                schedule.sent(seconds(1), due);
                due
            })
            .collect();
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn interval_applies_with_and_without_data() {
        let mut schedule = TemplateSchedule::new(1000, seconds(60));
        schedule.sent(seconds(5), true);
        assert!(!schedule.is_due(seconds(64)));
        assert!(!schedule.is_due_without_data(seconds(64)));
        assert!(schedule.is_due(seconds(65)));
        assert!(schedule.is_due_without_data(seconds(65)));
    }

    #[test]
    fn every_message_carries_templates_until_no_error_was_heard_for_the_quiet_time() {
        let mut schedule = TemplateSchedule::new(1000, seconds(60));
        schedule.sent(seconds(0), true);
        schedule.failed(seconds(1));
        assert!(schedule.is_due(seconds(1)));
        assert!(!schedule.sent(seconds(1), true));
        assert!(schedule.is_due(seconds(2)));
        assert!(!schedule.is_due_without_data(Duration::from_millis(1900)));
        assert!(schedule.is_due_without_data(seconds(2)));
        assert!(schedule.sent(seconds(3), true));
        assert!(!schedule.is_due(seconds(4)));
    }
}
