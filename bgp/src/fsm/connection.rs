//! One connection as the state machine sees it: how far it got, and its timers.

use std::time::Duration;

use super::{OpenFacts, Parameters, State, Time};

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// No OPEN was sent or came: RFC 4271's `DelayOpenTimer` runs.
    AwaitOpen,
    OpenSent,
    OpenConfirm,
    Established,
}

impl Phase {
    pub(super) fn state(self) -> State {
        match self {
            Self::AwaitOpen | Self::OpenSent => State::OpenSent,
            Self::OpenConfirm => State::OpenConfirm,
            Self::Established => State::Established,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// `DelayOpenTimer`.
    pub(super) open_delay: Option<Time>,
    /// `HoldTimer`; while an OPEN is waited for, the time that it may take.
    hold: Option<Time>,
    /// `KeepaliveTimer`.
    keepalive: Option<Time>,
    /// Agreed on, in seconds.
    pub(super) hold_time: Option<u16>,
    facts: Option<OpenFacts>,
}

impl Connection {
    pub(super) fn new(parameters: &Parameters, now: Time) -> Self {
        Self {
            phase: Phase::AwaitOpen,
            open_delay: parameters.open_delay.map(|delay| now.saturating_add(delay)),
            hold: Some(now.saturating_add(parameters.open_time)),
            keepalive: None,
            hold_time: None,
            facts: None,
        }
    }

    /// The next timer to expire.
    pub(super) fn deadline(&self) -> Option<Time> {
        let open_delay = self.open_delay.filter(|_| self.phase == Phase::AwaitOpen);
        [open_delay, self.hold, self.keepalive].into_iter().flatten().min()
    }

    pub(super) fn open_is_due(&self, now: Time) -> bool {
        self.open_delay.is_some_and(|due| due <= now)
    }

    pub(super) fn hold_is_over(&self, now: Time) -> bool {
        self.hold.is_some_and(|over| over <= now)
    }

    /// True when a KEEPALIVE is to be sent; the next one is then due a third of the hold time later.
    pub(super) fn keepalive_is_due(&mut self, now: Time) -> bool {
        let due = self.keepalive.is_some_and(|due| due <= now);
        if due {
            self.restart_keepalive(now);
        }
        due
    }

    pub(super) fn restarts_gracefully(&self) -> bool {
        self.facts.is_some_and(|facts| facts.graceful_restart)
    }

    /// The peer's OPEN was accepted: the lower hold time counts; 0 is no timer at all (RFC 4271, section 4.2). Until
    /// the session is up there is a limit even then, or a peer that never goes on would stay for ever.
    pub(super) fn confirm(&mut self, facts: OpenFacts, own_hold_time: u16, open_time: Duration, now: Time) {
        let hold_time = own_hold_time.min(facts.hold_time);
        self.phase = Phase::OpenConfirm;
        self.facts = Some(facts);
        self.hold_time = Some(hold_time);
        if hold_time == 0 {
            self.hold = Some(now.saturating_add(open_time));
        } else {
            self.restart_hold(now);
            self.restart_keepalive(now);
        }
    }

    pub(super) fn establish(&mut self, now: Time) {
        self.phase = Phase::Established;
        self.hold = None;
        self.restart_hold(now);
    }

    pub(super) fn restart_hold(&mut self, now: Time) {
        if let Some(seconds @ 1..) = self.hold_time {
            self.hold = Some(now.saturating_add(Duration::from_secs(u64::from(seconds))));
        }
    }

    fn restart_keepalive(&mut self, now: Time) {
        if let Some(seconds @ 1..) = self.hold_time {
            // RFC 4271, section 10: a third of the hold time.
            let interval = Duration::from_millis(u64::from(seconds) * 1000 / 3);
            self.keepalive = Some(now.saturating_add(interval));
        }
    }
}
