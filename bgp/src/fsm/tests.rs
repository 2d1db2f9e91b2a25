//! Two machines over a scripted wire, and machines under arbitrary events.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DELAY: Duration = Duration::from_millis(20);

fn parameters(active: bool) -> Parameters {
    Parameters {
        active,
        hold_time: 90,
        open_time: 60 * SECOND,
        open_delay: Some(SECOND),
        connect_retry: 10 * SECOND,
        idle_hold: SECOND,
    }
}

fn facts() -> OpenFacts {
    OpenFacts {
        hold_time: 30,
        remote_identifier: 1,
        remote_as: 64_500,
        local_identifier: 2,
        local_as: 64_500,
        graceful_restart: false,
    }
}

/// Feeds events, each at its second; gives what the last one caused.
fn after(machine: &mut Machine, events: &[(u64, Event)]) -> Vec<Action> {
    let mut actions = Vec::new();
    for (second, event) in events {
        actions.clear();
        machine.handle(event.clone(), Duration::from_secs(*second), &mut actions);
    }
    actions
}

const IN: Direction = Direction::Incoming;
const OUT: Direction = Direction::Outgoing;

/// A passive machine whose session is up at second 0, with the hold time of [`facts`].
fn established() -> Machine {
    let mut machine = Machine::new(parameters(false));
    let up = after(
        &mut machine,
        &[
            (0, Event::Start),
            (0, Event::Accepted),
            (0, Event::OpenReceived(IN, facts())),
            (0, Event::KeepaliveReceived(IN)),
        ],
    );
    assert_eq!(up, [Action::Up(IN)]);
    machine
}

fn ended(direction: Direction, fault: Notification) -> Vec<Action> {
    vec![Action::SendNotification(direction, fault), Action::Close(direction)]
}

#[test]
fn a_passive_machine_answers_the_open_it_waited_for() {
    let mut machine = Machine::new(parameters(false));
    assert_eq!(machine.state(), State::Idle);
    assert_eq!(after(&mut machine, &[(0, Event::Start)]), []);
    assert_eq!((machine.state(), machine.deadline()), (State::Active, None));
    assert_eq!(after(&mut machine, &[(0, Event::Accepted)]), [Action::Adopt]);
    assert_eq!((machine.state(), machine.deadline()), (State::OpenSent, Some(SECOND)));
    let answered = after(&mut machine, &[(0, Event::OpenReceived(IN, facts()))]);
    assert_eq!(answered, [Action::SendOpen(IN), Action::SendKeepalive(IN)]);
    assert_eq!((machine.state(), machine.hold_time(IN)), (State::OpenConfirm, Some(30)));
}

#[test]
fn a_peer_that_waits_too_gets_our_open_after_the_delay() {
    let mut machine = Machine::new(parameters(false));
    let sent = after(&mut machine, &[(0, Event::Start), (0, Event::Accepted), (1, Event::Tick)]);
    assert_eq!(sent, [Action::SendOpen(IN)]);
    assert_eq!(machine.deadline(), Some(60 * SECOND));
    let late = after(&mut machine, &[(60, Event::Tick)]);
    assert_eq!(late, ended(IN, fault::hold_timer_expired()));
    assert_eq!(machine.state(), State::Active);
}

#[test]
fn keepalives_are_due_every_third_of_the_hold_time_and_the_hold_timer_ends_the_session() {
    let mut machine = established();
    assert_eq!(machine.deadline(), Some(10 * SECOND));
    assert_eq!(after(&mut machine, &[(10, Event::Tick)]), [Action::SendKeepalive(IN)]);
    assert_eq!(
        after(&mut machine, &[(19, Event::RoutesReceived(IN)), (20, Event::Tick)]),
        [Action::SendKeepalive(IN)]
    );
    // A message every 29 seconds keeps the session up.
    assert_eq!(after(&mut machine, &[(48, Event::Tick), (48, Event::KeepaliveReceived(IN))]), []);
    let mut expected = ended(IN, fault::hold_timer_expired());
    expected.push(Action::Down);
    assert_eq!(after(&mut machine, &[(78, Event::Tick)]), expected);
}

#[test]
fn hold_time_zero_is_no_timer() {
    let mut machine = Machine::new(parameters(false));
    let zero = OpenFacts { hold_time: 0, ..facts() };
    after(&mut machine, &[(0, Event::Start), (0, Event::Accepted), (0, Event::OpenReceived(IN, zero))]);
    // An OPEN alone does not hold a connection for ever.
    assert_eq!(machine.deadline(), Some(60 * SECOND));
    assert_eq!(after(&mut machine, &[(1, Event::KeepaliveReceived(IN))]), [Action::Up(IN)]);
    assert_eq!((machine.hold_time(IN), machine.deadline()), (Some(0), None));
}

#[test]
fn messages_out_of_order_are_errors_that_name_the_state() {
    let open_sent = [(0, Event::Start), (0, Event::Accepted), (2, Event::Tick)];
    for (events, subcode) in [
        (vec![(3, Event::KeepaliveReceived(IN))], 1),
        (vec![(3, Event::RoutesReceived(IN))], 1),
        (vec![(3, Event::OpenReceived(IN, facts())), (4, Event::RoutesReceived(IN))], 2),
        (vec![(3, Event::OpenReceived(IN, facts())), (4, Event::OpenReceived(IN, facts()))], 2),
    ] {
        let mut machine = Machine::new(parameters(false));
        after(&mut machine, &open_sent);
        assert_eq!(after(&mut machine, &events), ended(IN, Notification::new(5, subcode, &[])));
    }
    let mut expected = ended(IN, Notification::new(5, 3, &[]));
    expected.push(Action::Down);
    assert_eq!(after(&mut established(), &[(1, Event::OpenReceived(IN, facts()))]), expected);
}

#[test]
fn of_two_connections_that_of_the_higher_identifier_stays() {
    // Incoming confirmed first, then the OPEN on ours.
    for (local, remote, loser) in [(2, 1, IN), (1, 2, OUT)] {
        let open = |direction| {
            Event::OpenReceived(
                direction,
                OpenFacts { local_identifier: local, remote_identifier: remote, ..facts() },
            )
        };
        let mut machine = Machine::new(parameters(true));
        let first = [(0, Event::Start), (0, Event::Accepted), (0, Event::Connected), (2, Event::Tick)];
        after(&mut machine, &first);
        let mut expected = vec![Action::SendKeepalive(OUT)];
        expected.extend(ended(loser, fault::collision()));
        assert_eq!(after(&mut machine, &[(3, open(IN)), (3, open(OUT))]), expected);
        assert_eq!(machine.connection_state(loser.other()), Some(State::OpenConfirm));
    }
}

#[test]
fn an_established_session_wins_against_a_new_connection_unless_the_peer_restarts_gracefully() {
    let refused = after(&mut established(), &[(1, Event::Accepted)]);
    assert_eq!(refused, [Action::Refuse(fault::collision())]);

    let mut machine = Machine::new(parameters(false));
    let graceful = OpenFacts { graceful_restart: true, ..facts() };
    let events = [
        (0, Event::Start),
        (0, Event::Accepted),
        (0, Event::OpenReceived(IN, graceful)),
        (0, Event::KeepaliveReceived(IN)),
        (1, Event::Accepted),
    ];
    assert_eq!(after(&mut machine, &events), [Action::Close(IN), Action::Down, Action::Adopt]);
}

#[test]
fn pauses_between_tries_double_up_to_the_retry_time() {
    let mut machine = Machine::new(parameters(true));
    assert_eq!(after(&mut machine, &[(0, Event::Start)]), [Action::Connect]);
    let mut now = Duration::ZERO;
    let mut actions = Vec::new();
    let mut pauses = Vec::new();
    for _ in 0..6 {
        machine.handle(Event::ConnectFailed, now, &mut actions);
        let next = machine.deadline().unwrap();
        pauses.push(next.abs_diff(now).as_secs());
        now = next;
        actions.clear();
        machine.handle(Event::Tick, now, &mut actions);
        assert_eq!(actions, [Action::Connect]);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn stopping_ends_everything_with_the_given_notification() {
    let cease = Notification::cease(2, "bye");
    let mut machine = established();
    let mut expected = ended(IN, cease.clone());
    expected.push(Action::Down);
    assert_eq!(after(&mut machine, &[(1, Event::Stop(cease))]), expected);
    assert_eq!((machine.state(), machine.deadline()), (State::Idle, None));
    let refused = after(&mut machine, &[(2, Event::Accepted)]);
    assert_eq!(refused, [Action::Refuse(fault::connection_rejected())]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let direction = prop_oneof![Just(IN), Just(OUT)];
    let hold_time = prop_oneof![Just(0), 3..200_u16];
    prop_oneof![
        4 => Just(Event::Start),
        1 => Just(Event::Stop(Notification::new(6, 2, &[]))),
        4 => Just(Event::Accepted),
        4 => Just(Event::Connected),
        2 => Just(Event::ConnectFailed),
        1 => direction.clone().prop_map(Event::ConnectionLost),
        6 => (direction.clone(), hold_time, 0..3_u32, 0..3_u32, any::<bool>()).prop_map(
            |(direction, hold_time, remote_identifier, local_identifier, graceful_restart)| {
                let facts =
                    OpenFacts { hold_time, remote_identifier, local_identifier, graceful_restart, ..facts() };
                Event::OpenReceived(direction, facts)
            }
        ),
        6 => direction.clone().prop_map(Event::KeepaliveReceived),
        3 => direction.clone().prop_map(Event::RoutesReceived),
        1 => direction.clone().prop_map(Event::NotificationReceived),
        1 => direction.prop_map(|direction| Event::Broken(direction, Notification::new(3, 1, &[]))),
        6 => Just(Event::Tick),
    ]
}

/// What an owner sees: which connections are open, and whether the session is up.
#[derive(Default)]
struct Owner {
    open: [bool; 2],
    up: Option<Direction>,
}

impl Owner {
    fn obey(&mut self, actions: &[Action]) {
        let mut notified = None;
        for action in actions {
            if let Some(direction) = notified.take() {
                assert_eq!(*action, Action::Close(direction), "a NOTIFICATION ends the connection");
            }
            match action {
                Action::Adopt => {
                    assert!(!self.open[IN as usize]);
                    self.open[IN as usize] = true;
                }
                Action::SendOpen(direction) => {
                    // Ours is opened by the event, without an action.
                    assert!(*direction == OUT || self.open[IN as usize]);
                }
                Action::SendKeepalive(_) | Action::Connect | Action::StopConnecting | Action::Refuse(_) => {}
                Action::SendNotification(direction, _) => notified = Some(*direction),
                Action::Close(direction) => self.open[*direction as usize] = false,
                Action::Up(direction) => assert_eq!(self.up.replace(*direction), None, "two sessions"),
                Action::Down => assert!(self.up.take().is_some(), "down without up"),
            }
        }
        assert_eq!(notified, None);
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_panics_or_leaves_a_machine_without_a_timer(
        active: bool,
        delay in prop::option::of(0..3_u64),
        events in prop::collection::vec((0..100_u64, any_event()), 0..200),
    ) {
        let open_delay = delay.map(Duration::from_secs);
        let mut machine = Machine::new(Parameters { open_delay, ..parameters(active) });
        let mut owner = Owner::default();
        let mut actions = Vec::new();
        let mut now = Duration::ZERO;
        for (seconds, event) in events {
            now += Duration::from_secs(seconds);
            actions.clear();
            machine.handle(event, now, &mut actions);
            owner.obey(&actions);
            prop_assert_eq!(owner.up.is_some(), machine.state() == State::Established);
            let mut hold_times = Direction::BOTH.into_iter().filter_map(|d| machine.hold_time(d));
            let may_rest = match machine.state() {
                State::Idle => machine.effort == Effort::Stopped,
                State::Active => !active,
                State::Established => hold_times.any(|seconds| seconds == 0),
                State::Connect | State::OpenSent | State::OpenConfirm => false,
            };
            prop_assert!(machine.deadline().is_some() || may_rest, "{:?} has no timer", machine);
        }
    }

    #[test]
    fn two_machines_find_each_other_whatever_the_wire_did(
        both_active: bool,
        identifiers in prop_oneof![Just([1, 2]), Just([2, 1])],
        faults in prop::collection::vec((0..60_000_u64, 0..2_usize, any::<bool>()), 0..12),
    ) {
        let mut world = World::new([true, both_active], identifiers);
        let mut faults = faults;
        faults.sort_unstable();
        for (millis, link, silent) in faults {
            world.run_until(Duration::from_millis(millis));
            world.harm(link, silent);
        }
        // The longest wait: a silent connection under a full hold time, then the pause and collisions.
        world.run_until(400 * SECOND);
        let states = [world.machines[0].state(), world.machines[1].state()];
        prop_assert_eq!(states, [State::Established; 2]);
        // On one and the same connection, and on no other.
        let [[in_0, out_0], [in_1, out_1]] = world.ends;
        prop_assert_eq!((in_0, out_0), (out_1, in_1));
        prop_assert_eq!(in_0.iter().chain(&out_0).count(), 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Open,
    Keepalive,
    Notification,
}

/// One TCP connection.
struct Link {
    /// The machine that opened it.
    opener: usize,
    /// Nothing arrives any more, and nobody learns it.
    silent: bool,
    /// By receiver: what is under way, with its time of arrival; `None` is the end of the connection.
    under_way: [VecDeque<(Time, Option<Message>)>; 2],
}

/// Two machines, each with the other as its peer.
struct World {
    now: Time,
    machines: [Machine; 2],
    identifiers: [u32; 2],
    links: BTreeMap<u32, Link>,
    /// Which link a machine has, by direction.
    ends: [[Option<u32>; 2]; 2],
    /// Connections being opened, with the time of their success.
    dialled: [Option<Time>; 2],
    next_link: u32,
}

impl World {
    fn new(active: [bool; 2], identifiers: [u32; 2]) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            machines: active.map(|active| Machine::new(parameters(active))),
            identifiers,
            links: BTreeMap::new(),
            ends: [[None; 2]; 2],
            dialled: [None; 2],
            next_link: 0,
        };
        world.feed(0, Event::Start, None);
        world.feed(1, Event::Start, None);
        world
    }

    /// Does one thing to all links that a machine opened.
    fn harm(&mut self, opener: usize, silent: bool) {
        let ids: Vec<u32> =
            self.links.iter().filter(|(_, link)| link.opener == opener).map(|(id, _)| *id).collect();
        for id in ids {
            if silent {
                self.links.get_mut(&id).unwrap().silent = true;
            } else {
                self.links.remove(&id);
                for side in 0..2 {
                    self.lose(side, id);
                }
            }
        }
    }

    fn lose(&mut self, side: usize, id: u32) {
        for direction in Direction::BOTH {
            if self.ends[side][direction as usize] == Some(id) {
                self.ends[side][direction as usize] = None;
                self.feed(side, Event::ConnectionLost(direction), None);
            }
        }
    }

    fn run_until(&mut self, end: Time) {
        loop {
            let deadlines = self.machines.iter().filter_map(Machine::deadline);
            let arrivals = self.links.values().flat_map(|link| {
                link.under_way.iter().filter_map(|queue| queue.front().map(|front| front.0))
            });
            let next = deadlines.chain(arrivals).chain(self.dialled.into_iter().flatten()).min();
            match next {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            for side in 0..2 {
                self.connect(side);
                let ids: Vec<u32> = self.links.keys().copied().collect();
                for id in ids {
                    self.deliver(id, side);
                }
                if self.machines[side].deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.feed(side, Event::Tick, None);
                }
            }
        }
        self.now = self.now.max(end);
    }

    fn connect(&mut self, side: usize) {
        if self.dialled[side].is_none_or(|due| due > self.now) {
            return;
        }
        self.dialled[side] = None;
        let id = self.next_link;
        self.next_link += 1;
        let under_way = [VecDeque::new(), VecDeque::new()];
        self.links.insert(id, Link { opener: side, silent: false, under_way });
        self.ends[side][OUT as usize] = Some(id);
        self.feed(1 - side, Event::Accepted, Some(id));
        self.feed(side, Event::Connected, None);
    }

    fn deliver(&mut self, id: u32, receiver: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let queue = &mut link.under_way[receiver];
        if queue.front().is_none_or(|front| front.0 > self.now) {
            return;
        }
        let (_, message) = queue.pop_front().unwrap();
        let direction = if receiver == link.opener { OUT } else { IN };
        if link.silent || self.ends[receiver][direction as usize] != Some(id) {
            return;
        }
        let Some(message) = message else { return self.lose(receiver, id) };
        let event = match message {
            Message::Open => Event::OpenReceived(
                direction,
                OpenFacts {
                    local_identifier: self.identifiers[receiver],
                    remote_identifier: self.identifiers[1 - receiver],
                    ..facts()
                },
            ),
            Message::Keepalive => Event::KeepaliveReceived(direction),
            Message::Notification => Event::NotificationReceived(direction),
        };
        self.feed(receiver, event, None);
    }

    fn send(&mut self, from: usize, id: Option<u32>, message: Option<Message>) {
        if let Some(link) = id.and_then(|id| self.links.get_mut(&id)) {
            link.under_way[1 - from].push_back((self.now + DELAY, message));
        }
    }

    fn feed(&mut self, side: usize, event: Event, offered: Option<u32>) {
        let mut actions = Vec::new();
        self.machines[side].handle(event, self.now, &mut actions);
        for action in actions {
            let end = |direction: Direction| self.ends[side][direction as usize];
            match action {
                // One side is a little slower, as in life.
                Action::Connect => self.dialled[side] = Some(self.now + DELAY * (2 + side as u32)),
                Action::StopConnecting => self.dialled[side] = None,
                Action::Adopt => self.ends[side][IN as usize] = offered,
                Action::Refuse(_) => {
                    self.send(side, offered, Some(Message::Notification));
                    self.send(side, offered, None);
                }
                Action::SendOpen(direction) => self.send(side, end(direction), Some(Message::Open)),
                Action::SendKeepalive(direction) => {
                    self.send(side, end(direction), Some(Message::Keepalive));
                }
                Action::SendNotification(direction, _) => {
                    self.send(side, end(direction), Some(Message::Notification));
                }
                Action::Close(direction) => {
                    self.send(side, end(direction), None);
                    self.ends[side][direction as usize] = None;
                }
                Action::Up(_) | Action::Down => {}
            }
        }
    }
}
