//! When a message must carry templates, or templates and options data.
//!
//! UDP may lose a template, and a collector forgets all of them when it restarts, so they are sent again
//! periodically (RFC 7011, section 8.1), and at once when there is reason to think that nobody listened. The same
//! goes for options data; but as that can be many messages, it is not in every message while nobody listens.

use std::time::Duration;

/// How long no error must be heard before the collector counts as listening again.
///
/// Routers and hosts limit ICMP errors, Linux to one a second for each destination (`icmp_ratelimit`): one
/// message without an error says little.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// While errors are heard: interval of messages that carry nothing but templates when no data flows, and interval of
/// options data.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be sent before data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Templates,
    /// Templates and options data.
    All,
}

#[derive(Debug)]
pub(crate) struct TemplateSchedule {
    messages: u32,
    interval: Duration,
    templates_sent_at: Option<Duration>,
    all_sent_at: Option<Duration>,
    /// Since all was sent.
    messages_since: u32,
    failed_at: Option<Duration>,
    /// The last message of any kind.
    sent_at: Option<Duration>,
}

impl TemplateSchedule {
    pub(crate) const fn new(messages: u32, interval: Duration) -> Self {
        Self {
            messages,
            interval,
            templates_sent_at: None,
            all_sent_at: None,
            messages_since: 0,
            failed_at: None,
            sent_at: None,
        }
    }

    /// On a transport that loses nothing, once at the beginning and once for each change is enough (RFC 7011,
    /// section 8: templates are sent again over UDP only).
    pub(crate) const fn once() -> Self {
        Self::new(u32::MAX, Duration::MAX)
    }

    /// What the next message with data must carry.
    pub(crate) fn due(&self, now: Duration) -> Due {
        let probe = self.failed_at.is_some() && has_passed(PROBE_INTERVAL, self.all_sent_at, now);
        if probe || self.messages_since >= self.messages || has_passed(self.interval, self.all_sent_at, now) {
            Due::All
        } else if self.failed_at.is_some() {
            Due::Templates
        } else {
            Due::Nothing
        }
    }

    /// Whether a message must be sent for the templates alone.
    pub(crate) fn is_due_without_data(&self, now: Duration) -> bool {
        let probe = self.failed_at.is_some() && has_passed(PROBE_INTERVAL, self.templates_sent_at, now);
        probe || has_passed(self.interval, self.all_sent_at, now)
    }

    /// The options data is new.
    pub(crate) const fn options_changed(&mut self) {
        self.all_sent_at = None;
    }

    /// A send failed, or an earlier message was reported undelivered.
    pub(crate) const fn failed(&mut self, now: Duration) {
        self.failed_at = Some(now);
    }

    /// A message was sent, the last one of those that `what` took. Returns whether this ends a time of failure.
    pub(crate) fn sent(&mut self, now: Duration, what: Due) -> bool {
        self.messages_since = self.messages_since.saturating_add(1);
        self.sent_at = Some(now);
        if what == Due::Nothing {
            return false;
        }
        self.templates_sent_at = Some(now);
        if what == Due::All {
            self.all_sent_at = Some(now);
            self.messages_since = 1;
        }
        let recovered = self.failed_at.is_some_and(|at| now.saturating_sub(at) >= QUIET_TIME);
        if recovered {
            self.failed_at = None;
        }
        recovered
    }

    /// For formats without templates to ask with: whether the last message was one that an error would have been heard
    /// about, long after the one before, and none was. Ends the time of failure if so.
    pub(crate) fn silence_ends_failure(&mut self, now: Duration) -> bool {
        let (Some(failed_at), Some(sent_at)) = (self.failed_at, self.sent_at) else { return false };
        let is_over =
            sent_at.saturating_sub(failed_at) >= PROBE_INTERVAL && now.saturating_sub(sent_at) >= QUIET_TIME;
        if is_over {
            self.failed_at = None;
        }
        is_over
    }
}

fn has_passed(interval: Duration, since: Option<Duration>, now: Duration) -> bool {
    since.is_none_or(|at| now.saturating_sub(at) >= interval)
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
                let due = schedule.due(seconds(1));
                schedule.sent(seconds(1), due);
                due == Due::All
            })
            .collect();
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn interval_applies_with_and_without_data() {
        let mut schedule = TemplateSchedule::new(1000, seconds(60));
        schedule.sent(seconds(5), Due::All);
        assert_eq!(schedule.due(seconds(64)), Due::Nothing);
        assert!(!schedule.is_due_without_data(seconds(64)));
        assert_eq!(schedule.due(seconds(65)), Due::All);
        assert!(schedule.is_due_without_data(seconds(65)));
    }

    #[test]
    fn every_message_carries_templates_until_no_error_was_heard_for_the_quiet_time() {
        let mut schedule = TemplateSchedule::new(1000, seconds(60));
        schedule.sent(seconds(0), Due::All);
        schedule.failed(Duration::from_millis(900));
        assert_eq!(schedule.due(Duration::from_millis(900)), Due::Templates);
        assert!(!schedule.sent(Duration::from_millis(900), Due::Templates));
        assert_eq!(schedule.due(seconds(1)), Due::All);
        assert!(!schedule.sent(seconds(1), Due::All));
        assert_eq!(schedule.due(Duration::from_millis(1900)), Due::Templates);
        assert!(!schedule.is_due_without_data(Duration::from_millis(1900)));
        assert!(schedule.is_due_without_data(seconds(2)));
        assert!(schedule.sent(seconds(3), Due::All));
        assert_eq!(schedule.due(Duration::from_millis(3900)), Due::Nothing);
    }

    #[test]
    fn new_options_data_is_due_at_once() {
        let mut schedule = TemplateSchedule::new(1000, seconds(60));
        schedule.sent(seconds(0), Due::All);
        schedule.options_changed();
        assert!(schedule.is_due_without_data(seconds(1)));
        assert_eq!(schedule.due(seconds(1)), Due::All);
        schedule.sent(seconds(1), Due::All);
        assert_eq!(schedule.due(seconds(2)), Due::Nothing);
    }
}
