//! The state machine of one peer (RFC 4271, section 8): events and the time go in, actions come out. It reads no
//! clock and no socket.
//!
//! A peer can have two connections for a moment, one that it opened and one that we opened; which one stays is
//! decided here (RFC 4271, section 6.8). Administrative states are few: a machine is stopped or it runs.

mod connection;
#[cfg(test)]
mod tests;

use std::time::Duration;

use connection::{Connection, Phase};

use crate::iana::finite_state_machine_subcode as subcode;
use crate::wire::Notification;

/// Time since any fixed moment.
pub type Time = Duration;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The peer did.
    Incoming,
    /// We did.
    Outgoing,
}

impl Direction {
    /// Both, in the order of their indices.
    pub const BOTH: [Self; 2] = [Self::Incoming, Self::Outgoing];

    /// The opposite.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Incoming => Self::Outgoing,
            Self::Outgoing => Self::Incoming,
        }
    }
}

/// States of a session (RFC 4271, section 8.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nothing is tried: stopped, or waiting after an error.
    #[default]
    Idle,
    /// A connection is being opened.
    Connect,
    /// The peer's connection is waited for.
    Active,
    /// Connected; the peer's OPEN is waited for.
    OpenSent,
    /// The peer's OPEN was accepted; its KEEPALIVE is waited for.
    OpenConfirm,
    /// The session is up.
    Established,
}

impl std::fmt::Display for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}

/// The NOTIFICATIONs that the machine sends of its own accord.
mod fault {
    use crate::iana::{cease_subcode, error_code};
    use crate::wire::Notification;

    /// RFC 4271, section 6.5.
    pub(super) fn hold_timer_expired() -> Notification {
        Notification::new(error_code::HOLD_TIMER_EXPIRED, 0, &[])
    }

    /// RFC 4486.
    pub(super) fn connection_rejected() -> Notification {
        Notification::cease(cease_subcode::CONNECTION_REJECTED, "")
    }

    /// RFC 4486.
    pub(super) fn collision() -> Notification {
        Notification::cease(cease_subcode::CONNECTION_COLLISION_RESOLUTION, "")
    }

    /// RFC 6608: the subcode names the state.
    pub(super) fn unexpected(subcode: u8) -> Notification {
        Notification::new(error_code::FINITE_STATE_MACHINE, subcode, &[])
    }
}

/// What the machine needs to know of an acceptable OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFacts {
    /// Hold time offered, in seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// The peer's BGP Identifier.
    pub remote_identifier: u32,
    /// The peer's AS number.
    pub remote_as: u32,
    /// Our BGP Identifier on this connection.
    pub local_identifier: u32,
    /// Our AS number on this session.
    pub local_as: u32,
    /// Both sides can restart gracefully (RFC 4724): a new connection then ends an established one.
    pub graceful_restart: bool,
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Run from now on.
    Start,
    /// Stop; connections are ended with this NOTIFICATION.
    Stop(Notification),
    /// The peer opened a connection. Answered by [`Action::Adopt`] or [`Action::Refuse`].
    Accepted,
    /// Our connection is open.
    Connected,
    /// Our connection could not be opened.
    ConnectFailed,
    /// A connection ended without NOTIFICATION.
    ConnectionLost(Direction),
    /// An OPEN came and is acceptable.
    OpenReceived(Direction, OpenFacts),
    /// A KEEPALIVE came.
    KeepaliveReceived(Direction),
    /// An UPDATE or ROUTE-REFRESH came.
    RoutesReceived(Direction),
    /// A NOTIFICATION came.
    NotificationReceived(Direction),
    /// What came is an error that ends the connection.
    Broken(Direction, Notification),
    /// Time passed.
    Tick,
}

/// What the owner of the machine has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection.
    Connect,
    /// Give up opening a connection.
    StopConnecting,
    /// The connection just accepted is the incoming one from now on.
    Adopt,
    /// End the connection just accepted with this NOTIFICATION.
    Refuse(Notification),
    /// Send our OPEN.
    SendOpen(Direction),
    /// Send a KEEPALIVE.
    SendKeepalive(Direction),
    /// Send a NOTIFICATION; `Close` follows.
    SendNotification(Direction, Notification),
    /// End a connection.
    Close(Direction),
    /// The session is up on this connection.
    Up(Direction),
    /// The session, which was up, is over.
    Down,
}

/// What a machine is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Whether to open connections too.
    pub active: bool,
    /// Our hold time in seconds: 0, or 3 and more.
    pub hold_time: u16,
    /// How long an OPEN may take (RFC 4271, section 8.2.2, proposes 4 minutes).
    pub open_time: Duration,
    /// `DelayOpenTime`: how long the peer's OPEN is waited for before ours is sent. `None`: however long it takes.
    pub open_delay: Option<Duration>,
    /// `ConnectRetryTime`: how long opening a connection may take.
    pub connect_retry: Duration,
    /// The first pause after a failure; doubled with each failure, up to `connect_retry`.
    pub idle_hold: Duration,
}

/// What is done to get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    Stopped,
    /// The peer is to open one.
    Listening,
    /// Opening one is tried again at that time.
    Paused(Time),
    /// One is being opened; given up at that time.
    Connecting(Time),
}

/// State machine of one peer.
#[derive(Clone, Debug)]
pub struct Machine {
    parameters: Parameters,
    effort: Effort,
    connections: [Option<Connection>; 2],
    failures: u32,
}

impl Machine {
    /// A stopped machine.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        Self { parameters, effort: Effort::Stopped, connections: [None, None], failures: 0 }
    }

    /// The state of the connection that got furthest, or what is done to get one.
    #[must_use]
    pub fn state(&self) -> State {
        let furthest = self.connections.iter().flatten().map(|connection| connection.phase.state()).max();
        furthest.unwrap_or(match self.effort {
            Effort::Stopped | Effort::Paused(_) => State::Idle,
            Effort::Listening => State::Active,
            Effort::Connecting(_) => State::Connect,
        })
    }

    /// The state of one connection, if there is one.
    #[must_use]
    pub fn connection_state(&self, direction: Direction) -> Option<State> {
        self.connection(direction).map(|connection| connection.phase.state())
    }

    /// When to call [`Self::handle`] with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let effort = match self.effort {
            Effort::Stopped | Effort::Listening => None,
            Effort::Paused(until) | Effort::Connecting(until) => Some(until),
        };
        let timers = self.connections.iter().flatten().filter_map(Connection::deadline);
        timers.chain(effort).min()
    }

    /// The hold time agreed on, in seconds, once the peer's OPEN came.
    #[must_use]
    pub fn hold_time(&self, direction: Direction) -> Option<u16> {
        self.connection(direction)?.hold_time
    }

    /// Takes one event and appends what is to be done to `actions`. Events that mean nothing in the present state,
    /// such as the loss of a connection that is closed already, do nothing.
    pub fn handle(&mut self, event: Event, now: Time, actions: &mut Vec<Action>) {
        match event {
            Event::Start => self.start(now, actions),
            Event::Stop(fault) => self.stop(&fault, actions),
            Event::Accepted => self.accepted(now, actions),
            Event::Connected => self.connected(now, actions),
            Event::ConnectFailed => {
                if matches!(self.effort, Effort::Connecting(_)) {
                    self.pause(now);
                }
            }
            Event::ConnectionLost(direction) | Event::NotificationReceived(direction) => {
                self.close(direction, None, now, actions);
            }
            Event::Broken(direction, fault) => self.close(direction, Some(fault), now, actions),
            Event::OpenReceived(direction, facts) => self.open_received(direction, facts, now, actions),
            Event::KeepaliveReceived(direction) => self.keepalive_received(direction, now, actions),
            Event::RoutesReceived(direction) => {
                let Some(connection) = self.connection_mut(direction) else { return };
                if connection.phase == Phase::Established {
                    connection.restart_hold(now);
                } else {
                    self.unexpected(direction, now, actions);
                }
            }
            Event::Tick => self.tick(now, actions),
        }
    }

    fn connection(&self, direction: Direction) -> Option<&Connection> {
        self.connections[direction as usize].as_ref()
    }

    fn connection_mut(&mut self, direction: Direction) -> Option<&mut Connection> {
        self.connections[direction as usize].as_mut()
    }

    fn start(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.effort == Effort::Stopped {
            self.effort = Effort::Listening;
            if self.parameters.active {
                self.connect(now, actions);
            }
        }
    }

    fn stop(&mut self, fault: &Notification, actions: &mut Vec<Action>) {
        if matches!(self.effort, Effort::Connecting(_)) {
            actions.push(Action::StopConnecting);
        }
        self.effort = Effort::Stopped;
        for direction in Direction::BOTH {
            self.end(direction, Some(fault.clone()), actions);
        }
    }

    fn connect(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.effort = Effort::Connecting(now.saturating_add(self.parameters.connect_retry));
        actions.push(Action::Connect);
    }

    /// Waits before the next try.
    fn pause(&mut self, now: Time) {
        let doubled = self.parameters.idle_hold.saturating_mul(1 << self.failures.min(16));
        // No pause at all would be a loop without end.
        let pause = doubled.min(self.parameters.connect_retry).max(Duration::from_millis(1));
        self.failures = self.failures.saturating_add(1);
        self.effort = Effort::Paused(now.saturating_add(pause));
    }

    fn accepted(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.effort == Effort::Stopped {
            actions.push(Action::Refuse(fault::connection_rejected()));
            return;
        }
        for direction in Direction::BOTH {
            let Some(connection) = self.connection(direction) else { continue };
            if connection.phase == Phase::Established {
                if connection.restarts_gracefully() {
                    // RFC 4724, section 5: the peer restarted before we saw its old connection end.
                    self.end(direction, None, actions);
                } else {
                    actions.push(Action::Refuse(fault::collision()));
                    return;
                }
            } else if direction == Direction::Incoming {
                actions.push(Action::Refuse(fault::connection_rejected()));
                return;
            }
        }
        actions.push(Action::Adopt);
        self.begin(Direction::Incoming, now, actions);
    }

    fn connected(&mut self, now: Time, actions: &mut Vec<Action>) {
        if matches!(self.effort, Effort::Connecting(_)) {
            self.effort = Effort::Listening;
            self.begin(Direction::Outgoing, now, actions);
        } else {
            actions.push(Action::Close(Direction::Outgoing));
        }
    }

    /// A new connection: our OPEN is sent at once where there is no delay.
    fn begin(&mut self, direction: Direction, now: Time, actions: &mut Vec<Action>) {
        let mut connection = Connection::new(&self.parameters, now);
        if connection.open_is_due(now) {
            connection.phase = Phase::OpenSent;
            actions.push(Action::SendOpen(direction));
        }
        self.connections[direction as usize] = Some(connection);
    }

    fn open_received(
        &mut self,
        direction: Direction,
        facts: OpenFacts,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let own_hold_time = self.parameters.hold_time;
        let open_time = self.parameters.open_time;
        let Some(connection) = self.connection_mut(direction) else { return };
        match connection.phase {
            Phase::AwaitOpen => {
                actions.push(Action::SendOpen(direction));
                actions.push(Action::SendKeepalive(direction));
            }
            Phase::OpenSent => actions.push(Action::SendKeepalive(direction)),
            Phase::OpenConfirm | Phase::Established => {
                self.unexpected(direction, now, actions);
                return;
            }
        }
        connection.confirm(facts, own_hold_time, open_time, now);
        self.resolve_collision(direction, facts, now, actions);
    }

    /// RFC 4271, section 6.8, and RFC 6286, section 2.3: the connection stays that the side with the higher BGP
    /// Identifier opened; with equal ones, the side with the higher AS number. An established one always stays.
    fn resolve_collision(
        &mut self,
        direction: Direction,
        facts: OpenFacts,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        let Some(other) = self.connection(direction.other()) else { return };
        let loser = match other.phase {
            Phase::AwaitOpen | Phase::OpenSent => return,
            Phase::Established => direction,
            Phase::OpenConfirm => {
                let ours = (facts.local_identifier, facts.local_as);
                let theirs = (facts.remote_identifier, facts.remote_as);
                if ours < theirs { Direction::Outgoing } else { Direction::Incoming }
            }
        };
        self.close(loser, Some(fault::collision()), now, actions);
    }

    fn keepalive_received(&mut self, direction: Direction, now: Time, actions: &mut Vec<Action>) {
        let Some(connection) = self.connection_mut(direction) else { return };
        match connection.phase {
            Phase::AwaitOpen | Phase::OpenSent => self.unexpected(direction, now, actions),
            Phase::Established => connection.restart_hold(now),
            Phase::OpenConfirm => {
                connection.establish(now);
                self.failures = 0;
                if matches!(self.effort, Effort::Connecting(_)) {
                    actions.push(Action::StopConnecting);
                }
                self.effort = Effort::Listening;
                self.end(direction.other(), Some(fault::collision()), actions);
                actions.push(Action::Up(direction));
            }
        }
    }

    /// Finite State Machine Error, with the state as its subcode (RFC 6608).
    fn unexpected(&mut self, direction: Direction, now: Time, actions: &mut Vec<Action>) {
        let subcode = match self.connection(direction).map(|connection| connection.phase) {
            None => return,
            Some(Phase::AwaitOpen | Phase::OpenSent) => subcode::OPEN_SENT,
            Some(Phase::OpenConfirm) => subcode::OPEN_CONFIRM,
            Some(Phase::Established) => subcode::ESTABLISHED,
        };
        self.close(direction, Some(fault::unexpected(subcode)), now, actions);
    }

    fn tick(&mut self, now: Time, actions: &mut Vec<Action>) {
        match self.effort {
            // The peer came meanwhile.
            Effort::Paused(until) if until <= now && self.connections.iter().any(Option::is_some) => {
                self.effort = Effort::Listening;
            }
            Effort::Paused(until) if until <= now => self.connect(now, actions),
            Effort::Connecting(until) if until <= now => {
                actions.push(Action::StopConnecting);
                self.pause(now);
            }
            Effort::Stopped | Effort::Listening | Effort::Paused(_) | Effort::Connecting(_) => {}
        }
        for direction in Direction::BOTH {
            let Some(connection) = self.connection_mut(direction) else { continue };
            if connection.hold_is_over(now) {
                self.close(direction, Some(fault::hold_timer_expired()), now, actions);
            } else if connection.phase == Phase::AwaitOpen && connection.open_is_due(now) {
                connection.phase = Phase::OpenSent;
                connection.open_delay = None;
                actions.push(Action::SendOpen(direction));
            } else if connection.keepalive_is_due(now) {
                actions.push(Action::SendKeepalive(direction));
            }
        }
    }

    /// Ends a connection and sees to the next one.
    fn close(
        &mut self,
        direction: Direction,
        fault: Option<Notification>,
        now: Time,
        actions: &mut Vec<Action>,
    ) {
        if !self.end(direction, fault, actions) {
            return;
        }
        let idle = self.connections.iter().all(Option::is_none);
        if idle && self.parameters.active && self.effort == Effort::Listening {
            self.pause(now);
        }
    }

    /// Ends a connection; false if there is none.
    fn end(&mut self, direction: Direction, fault: Option<Notification>, actions: &mut Vec<Action>) -> bool {
        let Some(connection) = self.connections[direction as usize].take() else { return false };
        if let Some(fault) = fault {
            actions.push(Action::SendNotification(direction, fault));
        }
        actions.push(Action::Close(direction));
        if connection.phase == Phase::Established {
            actions.push(Action::Down);
        }
        true
    }
}
