//! One peer's task: drives its state machine with what sockets, timers and commands bring, and its routes into the
//! RIB.
//!
//! A turn works on one chunk of octets at most, or on fewer if their routes have short prefixes, then on timers and
//! commands, then lets other tasks run. So one peer's table, however long, holds up neither its own keepalives nor
//! another peer's.

mod negotiation;
mod report;
mod routes;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Sleep;

pub use negotiation::Negotiated;

use crate::Family;
use crate::connection::{self, Connection, Fill};
use crate::error::NotificationError;
use crate::fsm::{Action, Direction, Event, Machine, OpenFacts, Parameters, State, Time};
use crate::iana::cease_subcode;
use crate::rib::SLOTS_PER_TURN;
use crate::speaker::{LogKind, LogLimit, Peer, PeerSettings, Shared};
use crate::wire::encode_update::UpdateBuilder;
use crate::wire::{
    FamilySet, Header, MAXIMUM_LENGTH, Message, MessageType, Notification, Open, RouteRefresh,
    RouteRefreshSubtype, SessionContext, encode_keepalive,
};

/// What others want of a peer's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// A connection was accepted.
    Accepted(TcpStream),
    /// Ask for all routes again.
    Refresh,
    /// Settings changed.
    Reconfigure(Rc<PeerSettings>),
    /// End the session and start again, with this NOTIFICATION.
    Reset(Notification),
    /// End the session and forget the peer.
    Remove(Notification),
}

/// A connection with what its OPENs said.
struct Line {
    connection: Connection,
    own_open: Option<Open>,
    negotiated: Option<Rc<Negotiated>>,
    /// Families of which the peer is sending all routes again (RFC 7313).
    refreshing: FamilySet,
    /// The last turn ended before all messages that are complete were worked on.
    has_more: bool,
}

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// What a turn begins with.
enum Wake {
    Command(Option<Command>),
    Timer,
    Dialled(io::Result<TcpStream>),
    Ready(Direction),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    Wait,
}

/// A peer's task.
pub(crate) struct Session {
    shared: Rc<Shared>,
    peer: Rc<Peer>,
    settings: Rc<PeerSettings>,
    machine: Machine,
    lines: [Option<Line>; 2],
    /// Accepted; the machine says whether it is adopted.
    offered: Option<Connection>,
    dial: Option<Dial>,
    commands: mpsc::Receiver<Command>,
    timer: Pin<Box<Sleep>>,
    stale_until: Option<Time>,
    log_limit: LogLimit,
    removed: bool,
}

impl Session {
    pub(crate) fn new(shared: Rc<Shared>, peer: Rc<Peer>, commands: mpsc::Receiver<Command>) -> Self {
        let settings = Rc::clone(&peer.settings.borrow());
        Self {
            machine: Machine::new(parameters(&settings)),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            shared,
            peer,
            settings,
            lines: [None, None],
            offered: None,
            dial: None,
            commands,
            stale_until: None,
            log_limit: LogLimit::default(),
            removed: false,
        }
    }

    /// Runs until the peer is removed, or, for one that only a prefix allows, until nothing is left of it.
    pub(crate) async fn run(mut self) {
        self.event(Event::Start);
        while !self.removed {
            match self.next().await {
                Wake::Command(Some(command)) => self.command(command),
                Wake::Command(None) => {
                    self.remove(Notification::cease(cease_subcode::ADMINISTRATIVE_SHUTDOWN, ""));
                }
                Wake::Timer => self.timers(),
                Wake::Dialled(result) => self.dialled(result),
                Wake::Ready(direction) => self.ready(direction),
            }
            self.leave_if_idle();
            tokio::task::yield_now().await;
        }
    }

    /// Waits for what comes first. Commands and timers are looked at before sockets, which always have more.
    async fn next(&mut self) -> Wake {
        let deadline = [self.machine.deadline(), self.stale_until].into_iter().flatten().min();
        if let Some(deadline) = deadline {
            let instant = self.shared.instant(deadline);
            if self.timer.deadline() != instant {
                self.timer.as_mut().reset(instant);
            }
        }
        poll_fn(|context| self.poll_next(context, deadline)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>, deadline: Option<Time>) -> Poll<Wake> {
        if let Poll::Ready(command) = self.commands.poll_recv(context) {
            return Poll::Ready(Wake::Command(command));
        }
        if deadline.is_some_and(|deadline| deadline <= self.shared.now())
            || deadline.is_some() && self.timer.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Wake::Timer);
        }
        if let Some(dial) = &mut self.dial
            && let Poll::Ready(result) = dial.as_mut().poll(context)
        {
            return Poll::Ready(Wake::Dialled(result));
        }
        for direction in Direction::BOTH {
            if let Some(line) = self.line(direction)
                && (line.has_more || line.connection.poll_ready(context).is_ready())
            {
                return Poll::Ready(Wake::Ready(direction));
            }
        }
        Poll::Pending
    }

    fn line(&self, direction: Direction) -> Option<&Line> {
        self.lines[direction as usize].as_ref()
    }

    fn line_mut(&mut self, direction: Direction) -> Option<&mut Line> {
        self.lines[direction as usize].as_mut()
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Accepted(stream) => self.accepted(stream),
            Command::Refresh => self.request_refresh(),
            Command::Reconfigure(settings) => self.reconfigure(settings),
            Command::Reset(notification) => self.restart(notification),
            Command::Remove(notification) => self.remove(notification),
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        let prepared =
            connection::set_options(&stream, &self.settings).and_then(|()| Connection::new(stream));
        match prepared {
            Ok(connection) => {
                self.offered = Some(connection);
                self.event(Event::Accepted);
            }
            // The peer has gone already, as a rule.
            Err(error) => self.failed(None, false, format!("connection accepted and lost: {error}")),
        }
    }

    fn dialled(&mut self, result: io::Result<TcpStream>) {
        self.dial = None;
        match result.and_then(Connection::new) {
            Ok(connection) => {
                self.lines[Direction::Outgoing as usize] = Some(Line::new(connection));
                self.event(Event::Connected);
            }
            Err(error) => {
                self.peer.count(|counters| counters.connects_failed += 1);
                self.failed(None, false, format!("cannot connect: {error}"));
                self.event(Event::ConnectFailed);
            }
        }
    }

    /// Timers that are due. What lies in a socket counts as received in time: this thread may have been stopped.
    fn timers(&mut self) {
        for direction in Direction::BOTH {
            self.ready(direction);
        }
        self.event(Event::Tick);
        if self.stale_until.is_some_and(|until| until <= self.shared.now()) {
            self.stale_until = None;
            self.shared.rib.borrow_mut().sweep_stale(self.peer.id);
        }
    }

    /// Reads a chunk, unless there is one, and works on all messages that are complete, or on as many as a turn may.
    fn ready(&mut self, direction: Direction) {
        let Some(line) = self.line_mut(direction) else { return };
        if line.has_more {
            // Errors of writing show when the connection is read.
            let _ = line.connection.flush();
            self.messages(direction);
            return;
        }
        let before = line.connection.input().len();
        let filled = line.connection.flush().and_then(|()| line.connection.fill());
        let octets = line.connection.input().len() - before;
        self.peer.count(|counters| counters.octets_received += octets as u64);
        match filled {
            Ok(Fill::Nothing) => {}
            Ok(Fill::Octets) => self.messages(direction),
            Ok(Fill::End) => self.lost(direction, "the peer closed the connection".to_owned()),
            Err(error) => self.lost(direction, format!("connection lost: {error}")),
        }
    }

    fn lost(&mut self, direction: Direction, text: String) {
        self.lines[direction as usize] = None;
        self.failed(None, false, text);
        self.event(Event::ConnectionLost(direction));
    }

    fn messages(&mut self, direction: Direction) {
        let start = self.shared.rib.borrow().slots_rewritten();
        let mut has_more = false;
        while self.message(direction) == Progress::More {
            if self.shared.rib.borrow().slots_rewritten() - start > SLOTS_PER_TURN {
                has_more = true;
                break;
            }
        }
        if let Some(line) = self.line_mut(direction) {
            line.has_more = has_more;
        }
    }

    /// Works on one message.
    fn message(&mut self, direction: Direction) -> Progress {
        // UPDATEs borrow from the line while the RIB and counters change.
        let Some(mut line) = self.lines[direction as usize].take() else { return Progress::Wait };
        let maximum = line.negotiated.as_ref().map_or(MAXIMUM_LENGTH, |agreed| agreed.maximum_length());
        let context = line.negotiated.as_ref().map_or_else(SessionContext::default, |agreed| agreed.context);
        let established = self.machine.connection_state(direction) == Some(State::Established);
        let input = line.connection.input();
        let mut length = 0;
        let mut message_type = None;
        let decoded = match Header::decode(input, maximum) {
            Ok(None) => None,
            Ok(Some(header)) => {
                length = usize::from(header.length);
                message_type = Some(header.message_type);
                let body = input.get(length - header.body_octets()..length);
                body.map(|body| match header.message_type {
                    // Not read where it has no business.
                    MessageType::Update | MessageType::RouteRefresh if !established => Ok(Received::Routes),
                    message_type => Message::decode(message_type, body, &context)
                        .map(|message| self.receive(message, &mut line.refreshing)),
                })
            }
            Err(error) => Some(Err(error)),
        };
        if decoded.is_some() {
            line.connection.consume(length);
        }
        self.lines[direction as usize] = Some(line);
        let Some(decoded) = decoded else { return Progress::Wait };
        match decoded {
            Ok(received) => self.received(direction, received),
            // RFC 4271, section 6.4: nothing answers a NOTIFICATION.
            Err(error) if message_type == Some(MessageType::Notification) => {
                self.lost(direction, format!("malformed NOTIFICATION: {}", error.reason));
            }
            Err(error) => self.broken(direction, error),
        }
        Progress::More
    }

    /// What can be done while the message is borrowed: its routes; all else is handed on.
    fn receive(&mut self, message: Message<'_>, refreshing: &mut FamilySet) -> Received {
        match message {
            Message::Update(update) => {
                self.update(&update);
                Received::Routes
            }
            Message::RouteRefresh(refresh) => {
                self.route_refresh(refresh, refreshing);
                Received::Routes
            }
            Message::Open(open) => Received::Open(open),
            Message::Notification(notification) => Received::Notification(notification),
            Message::Keepalive => Received::Keepalive,
        }
    }

    fn received(&mut self, direction: Direction, received: Received) {
        match received {
            Received::Routes => self.event(Event::RoutesReceived(direction)),
            Received::Keepalive => {
                self.peer.count(|counters| counters.keepalives_received += 1);
                self.event(Event::KeepaliveReceived(direction));
            }
            Received::Open(open) => {
                self.peer.count(|counters| counters.opens_received += 1);
                self.open(direction, &open);
            }
            Received::Notification(notification) => {
                self.peer.count(|counters| counters.notifications_received += 1);
                self.failed(Some(notification.clone()), true, format!("the peer says: {notification}"));
                self.shared.log(&self.peer, LogKind::NotificationReceived(notification));
                self.event(Event::NotificationReceived(direction));
            }
        }
    }

    fn broken(&mut self, direction: Direction, error: NotificationError) {
        self.failed(Some(error.notification.clone()), false, error.to_string());
        self.event(Event::Broken(direction, error.notification));
    }

    fn open(&mut self, direction: Direction, open: &Open) {
        let router_id = self.shared.settings.borrow().router_id;
        let settings = Rc::clone(&self.settings);
        // An OPEN out of order is the machine's to refuse.
        let expected = self.machine.connection_state(direction) == Some(State::OpenSent);
        let Some(line) = self.line_mut(direction) else { return };
        if !expected {
            let Some(agreed) = &line.negotiated else { return };
            let facts = facts(agreed, open.hold_time);
            self.event(Event::OpenReceived(direction, facts));
            return;
        }
        let address = line.connection.local.ip();
        let as_number = negotiation::local_as(&settings, Some(open)).unwrap_or(open.as_number);
        let own = line.own_open.get_or_insert_with(|| {
            let identifier = negotiation::local_identifier(router_id, address, Some(open));
            negotiation::own_open(&settings, as_number, identifier, Some(open))
        });
        match negotiation::negotiate(&settings, own, open) {
            Ok(agreed) => {
                let facts = facts(&agreed, open.hold_time);
                line.negotiated = Some(Rc::new(agreed));
                self.event(Event::OpenReceived(direction, facts));
            }
            Err(error) => self.broken(direction, error),
        }
    }

    fn event(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.machine.handle(event, self.shared.now(), &mut actions);
        for action in actions {
            self.perform(action);
        }
        let state = self.machine.state();
        let mut status = self.peer.status.borrow_mut();
        if status.state != state {
            status.state = state;
            status.since = SystemTime::now();
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect => {
                self.dial = self.settings.active.map(|active| -> Dial {
                    Box::pin(connection::connect(Rc::clone(&self.settings), active))
                });
            }
            Action::StopConnecting => self.dial = None,
            Action::Adopt => {
                self.peer.count(|counters| counters.connections_accepted += 1);
                self.lines[Direction::Incoming as usize] = self.offered.take().map(Line::new);
            }
            Action::Refuse(notification) => self.refuse(&notification),
            Action::SendOpen(direction) => self.send_open(direction),
            Action::SendKeepalive(direction) => {
                self.peer.count(|counters| counters.keepalives_sent += 1);
                self.send(direction, encode_keepalive);
            }
            Action::SendNotification(direction, notification) => {
                self.peer.count(|counters| counters.notifications_sent += 1);
                self.send(direction, |into| notification.encode(into));
                self.note_sent(&notification);
                self.shared.log(&self.peer, LogKind::NotificationSent(notification));
            }
            Action::Close(direction) => {
                if let Some(line) = self.lines[direction as usize].take() {
                    self.shared.linger(line.connection);
                }
            }
            Action::Up(direction) => self.up(direction),
            Action::Down => self.down(),
        }
    }

    /// Errors of writing show when the connection is read.
    fn send(&mut self, direction: Direction, encode: impl FnOnce(&mut Vec<u8>)) {
        if let Some(line) = self.line_mut(direction)
            && let Err(error) = line.connection.send(encode)
        {
            tracing::debug!(peer = %self.peer.name, "cannot send: {error}");
        }
    }

    fn refuse(&mut self, notification: &Notification) {
        self.peer.count(|counters| {
            counters.connections_refused += 1;
            counters.notifications_sent += 1;
        });
        if let Some(mut connection) = self.offered.take() {
            tracing::debug!(peer = %self.peer.name, remote = %connection.remote, "refused: {notification}");
            // It is closed in any case.
            let _ = connection.send(|into| notification.encode(into));
            self.shared.linger(connection);
        }
    }

    fn send_open(&mut self, direction: Direction) {
        let router_id = self.shared.settings.borrow().router_id;
        let settings = Rc::clone(&self.settings);
        let Some(line) = self.line_mut(direction) else { return };
        let address = line.connection.local.ip();
        let own = line.own_open.get_or_insert_with(|| {
            let identifier = negotiation::local_identifier(router_id, address, None);
            // Without any AS number there is no delay after which this could come before the peer's OPEN.
            let as_number = negotiation::local_as(&settings, None).unwrap_or_default();
            negotiation::own_open(&settings, as_number, identifier, None)
        });
        let own = own.clone();
        self.peer.count(|counters| counters.opens_sent += 1);
        self.send(direction, |into| own.encode(into));
    }

    fn up(&mut self, direction: Direction) {
        let Some(line) = self.line_mut(direction) else { return };
        line.connection.grow();
        let ends = (line.connection.local, line.connection.remote);
        let Some(agreed) = line.negotiated.clone() else { return };
        self.note_up(ends, &agreed);
        self.shared.rib.borrow_mut().set_identifier(self.peer.id, agreed.remote_identifier);
        if self.stale_until.is_some() {
            // The peer has that long again to say what is still there.
            self.stale_until = Some(self.shared.now().saturating_add(self.settings.stale_time));
        }
        if agreed.graceful_restart.is_some() {
            // A peer that restarted waits for this (RFC 4724, section 4.1). There are no routes before it.
            for family in agreed.families.iter() {
                self.send(direction, |into| end_of_rib(family, agreed.context).encode(into));
            }
        }
        self.shared.log(&self.peer, LogKind::SessionUp);
    }

    fn down(&mut self) {
        self.shared.log(&self.peer, LogKind::SessionDown);
        let agreed = {
            let mut status = self.peer.status.borrow_mut();
            status.local = None;
            status.remote = None;
            status.negotiated.take()
        };
        let restart_time = agreed.and_then(|agreed| agreed.graceful_restart).filter(|seconds| *seconds > 0);
        let stale_time =
            restart_time.map_or(self.settings.stale_time, |seconds| Duration::from_secs(seconds.into()));
        let mut rib = self.shared.rib.borrow_mut();
        rib.session_down(self.peer.id);
        let routes = Family::ALL.map(|family| rib.family_state(self.peer.id, family).routes);
        let routes = routes.into_iter().sum::<u32>();
        if routes > 0 {
            let seconds = stale_time.as_secs();
            tracing::info!(peer = %self.peer.name, "session lost: {routes} routes are stale and kept for {seconds} s");
        }
        self.stale_until = Some(self.shared.now().saturating_add(stale_time));
    }

    fn request_refresh(&mut self) {
        for direction in Direction::BOTH {
            if self.machine.connection_state(direction) != Some(State::Established) {
                continue;
            }
            let Some(agreed) = self.line(direction).and_then(|line| line.negotiated.clone()) else {
                continue;
            };
            if !agreed.route_refresh {
                continue;
            }
            for family in agreed.families.iter() {
                self.peer.count(|counters| counters.route_refreshes_sent += 1);
                let request = RouteRefresh::new(family, RouteRefreshSubtype::Request);
                self.send(direction, |into| request.encode(into));
            }
        }
    }

    fn reconfigure(&mut self, settings: Rc<PeerSettings>) {
        *self.peer.settings.borrow_mut() = Rc::clone(&settings);
        if self.settings.lookups != settings.lookups {
            self.shared.rib.borrow_mut().set_lookups(self.peer.id, settings.lookups);
        }
        let same = self.settings.same_session(&settings);
        self.settings = settings;
        if !same {
            self.restart(Notification::cease(cease_subcode::OTHER_CONFIGURATION_CHANGE, ""));
        }
    }

    fn restart(&mut self, notification: Notification) {
        self.event(Event::Stop(notification));
        self.machine = Machine::new(parameters(&self.settings));
        self.event(Event::Start);
    }

    fn remove(&mut self, notification: Notification) {
        self.event(Event::Stop(notification));
        self.removed = true;
        self.shared.remove_peer(&self.peer);
    }

    /// A peer that only a prefix allows is forgotten when it has neither connection nor routes.
    fn leave_if_idle(&mut self) {
        let idle = self.lines.iter().all(Option::is_none) && self.stale_until.is_none();
        if self.peer.dynamic && idle && self.commands.is_empty() && !self.removed {
            self.remove(Notification::cease(cease_subcode::PEER_DECONFIGURED, ""));
        }
    }
}

impl Line {
    fn new(connection: Connection) -> Self {
        Self { connection, own_open: None, negotiated: None, refreshing: FamilySet::EMPTY, has_more: false }
    }
}

/// A message after its routes were taken.
enum Received {
    Open(Open),
    Routes,
    Notification(Notification),
    Keepalive,
}

fn parameters(settings: &PeerSettings) -> Parameters {
    Parameters {
        active: settings.active.is_some(),
        hold_time: settings.hold_time,
        open_time: settings.open_time,
        open_delay: negotiation::local_as(settings, None).map(|_| settings.open_delay),
        connect_retry: settings.connect_retry,
        idle_hold: Duration::from_secs(1),
    }
}

fn facts(agreed: &Negotiated, hold_time: u16) -> OpenFacts {
    OpenFacts {
        hold_time,
        remote_identifier: agreed.remote_identifier.into(),
        remote_as: agreed.remote_as,
        local_identifier: agreed.local_identifier.into(),
        local_as: agreed.local_as,
        graceful_restart: agreed.graceful_restart.is_some(),
    }
}

/// RFC 4724, section 2. This is the only UPDATE that is ever sent.
fn end_of_rib(family: crate::Family, context: SessionContext) -> UpdateBuilder {
    let empty = UpdateBuilder::new(context);
    if family == crate::Family::IPV4_UNICAST { empty } else { empty.mp_unreach(family, &[]) }
}
