//! Sequences of RFC 8210, section 8, and what can go wrong in them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn vrp(number: u8) -> Vrp {
    Vrp::new(format!("10.{number}.0.0/16").parse().unwrap(), 24, 64_500).unwrap()
}

fn announce(number: u8) -> Pdu<'static> {
    Pdu::Prefix { announce: true, vrp: vrp(number) }
}

fn withdraw(number: u8) -> Pdu<'static> {
    Pdu::Prefix { announce: false, vrp: vrp(number) }
}

fn end(session_id: u16, serial: u32) -> Pdu<'static> {
    let intervals = Intervals { refresh_seconds: 100, retry_seconds: 50, expire_seconds: 1000 };
    Pdu::EndOfData { session_id, serial, intervals: Some(intervals) }
}

const DONE: Step = Step { query: None, complete: true };
const NOTHING: Step = Step { query: None, complete: false };

fn asks(query: Pdu<'static>) -> Step {
    Step { query: Some(query), complete: false }
}

/// A session with its clock.
struct Router {
    session: Session,
    now: Instant,
    version: Version,
}

impl Router {
    fn new() -> Self {
        Self { session: Session::new(Version::V1, 5), now: Instant::now(), version: Version::V1 }
    }

    fn receive(&mut self, pdu: Pdu<'_>) -> Result<Step, SessionError> {
        self.session.received(self.now, &Frame { version: self.version, pdu, octets: 0 })
    }

    /// All but the last say nothing.
    fn receive_all(&mut self, pdus: &[Pdu<'_>]) -> Result<Step, SessionError> {
        let (last, first) = pdus.split_last().unwrap();
        for pdu in first {
            assert_eq!(self.receive(*pdu), Ok(NOTHING));
        }
        self.receive(*last)
    }

    fn pass(&mut self, seconds: u64) -> Result<Step, SessionError> {
        self.now += Duration::from_secs(seconds);
        self.session.timer(self.now)
    }

    fn numbers(&self) -> BTreeSet<Vrp> {
        self.session.vrps().iter().copied().collect()
    }

    /// With VRPs 1 and 2, session 7, serial 1.
    fn loaded() -> Self {
        let mut router = Self::new();
        assert_eq!(router.session.connected(router.now), asks(Pdu::ResetQuery));
        let answer = [Pdu::CacheResponse { session_id: 7 }, announce(1), announce(2), end(7, 1)];
        assert_eq!(router.receive_all(&answer), Ok(DONE));
        assert_eq!(router.numbers(), BTreeSet::from([vrp(1), vrp(2)]));
        router
    }
}

const SERIAL_1: Pdu<'static> = Pdu::SerialQuery { session_id: 7, serial: 1 };

fn fault_code(result: Result<Step, SessionError>) -> ErrorCode {
    match result {
        Err(SessionError::Fault { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn increments_follow_at_the_refresh_interval_and_at_a_notify() {
    let mut router = Router::loaded();
    assert_eq!(router.session.deadline(), Some(router.now + Duration::from_secs(100)));
    assert_eq!(router.pass(99), Ok(NOTHING));
    assert_eq!(router.pass(1), Ok(asks(SERIAL_1)));
    let increment = [Pdu::CacheResponse { session_id: 7 }, withdraw(1), announce(3), end(7, 2)];
    assert_eq!(router.receive_all(&increment), Ok(DONE));
    assert_eq!(router.numbers(), BTreeSet::from([vrp(2), vrp(3)]));
    assert_eq!(router.session.serial(), Some(2));

    // Nothing new, then something; the serial number runs over.
    assert_eq!(router.receive(Pdu::SerialNotify { session_id: 7, serial: 2 }), Ok(NOTHING));
    let notify = Pdu::SerialNotify { session_id: 7, serial: u32::MAX };
    assert_eq!(router.receive(notify), Ok(asks(Pdu::SerialQuery { session_id: 7, serial: 2 })));
    let increment = [Pdu::CacheResponse { session_id: 7 }, announce(4), withdraw(4), end(7, u32::MAX)];
    assert_eq!(router.receive_all(&increment), Ok(DONE));
    let notify = Pdu::SerialNotify { session_id: 7, serial: 0 };
    assert_eq!(router.receive(notify), Ok(asks(Pdu::SerialQuery { session_id: 7, serial: u32::MAX })));
    // A notify while the answer is on its way asks again after it; an increment without changes is no news.
    assert_eq!(router.receive(Pdu::CacheResponse { session_id: 7 }), Ok(NOTHING));
    assert_eq!(router.receive(Pdu::SerialNotify { session_id: 7, serial: 1 }), Ok(NOTHING));
    assert_eq!(router.receive(end(7, 0)), Ok(asks(Pdu::SerialQuery { session_id: 7, serial: 0 })));
    assert_eq!(router.numbers(), BTreeSet::from([vrp(2), vrp(3)]));
}

#[test]
fn a_cache_reset_replaces_everything_at_its_end_of_data() {
    let mut router = Router::loaded();
    assert_eq!(router.pass(100), Ok(asks(SERIAL_1)));
    assert_eq!(router.receive(Pdu::CacheReset), Ok(asks(Pdu::ResetQuery)));
    // A new session is fine here.
    assert_eq!(router.receive_all(&[Pdu::CacheResponse { session_id: 8 }, announce(5)]), Ok(NOTHING));
    assert_eq!(router.numbers(), BTreeSet::from([vrp(1), vrp(2)]));
    assert_eq!(router.receive(end(8, 1)), Ok(DONE));
    assert_eq!(router.numbers(), BTreeSet::from([vrp(5)]));
}

#[test]
fn data_outlives_the_connection_until_it_expires() {
    let mut router = Router::loaded();
    router.session.disconnected();
    assert_eq!(router.pass(500), Ok(NOTHING));
    assert_eq!(router.session.connected(router.now), asks(SERIAL_1));
    // Cut within an increment: none of it counts.
    assert_eq!(router.receive_all(&[Pdu::CacheResponse { session_id: 7 }, withdraw(1)]), Ok(NOTHING));
    router.session.disconnected();
    assert_eq!(router.numbers().len(), 2);
    assert_eq!(router.session.deadline(), Some(router.now + Duration::from_secs(500)));
    assert_eq!(router.pass(500), Ok(DONE));
    assert_eq!(router.numbers(), BTreeSet::new());
    assert_eq!((router.session.deadline(), router.session.connected(router.now)), {
        (None, asks(Pdu::ResetQuery))
    });
    // Cut within everything: to be asked for again.
    assert_eq!(router.receive_all(&[Pdu::CacheResponse { session_id: 7 }, announce(1)]), Ok(NOTHING));
    router.session.disconnected();
    assert_eq!(router.session.connected(router.now), asks(Pdu::ResetQuery));
}

#[test]
fn a_silent_cache_is_given_up() {
    let mut router = Router::loaded();
    assert_eq!(router.pass(100), Ok(asks(SERIAL_1)));
    assert_eq!(router.pass(59), Ok(NOTHING));
    // Each PDU is a sign of life.
    assert_eq!(router.receive(Pdu::CacheResponse { session_id: 7 }), Ok(NOTHING));
    assert_eq!(router.pass(59), Ok(NOTHING));
    assert_eq!(router.pass(1), Err(SessionError::ResponseTimeout));
    // Data that expires while the cache is silent is told after all.
    let mut router = Router::loaded();
    router.now += Duration::from_secs(990);
    assert_eq!(router.session.timer(router.now), Ok(asks(SERIAL_1)));
    assert_eq!(router.pass(100), Err(SessionError::ResponseTimeout));
    router.session.disconnected();
    assert_eq!(router.pass(0), Ok(DONE));
    assert_eq!(router.numbers().len(), 0);
}

#[test]
fn another_session_id_asks_for_everything_anew() {
    for answer in [Pdu::CacheResponse { session_id: 8 }, Pdu::SerialNotify { session_id: 8, serial: 1 }] {
        let mut router = Router::loaded();
        assert_eq!(router.pass(100), Ok(asks(SERIAL_1)));
        assert_eq!(fault_code(router.receive(answer)), ErrorCode::CorruptData);
        router.session.disconnected();
        assert_eq!(router.numbers().len(), 2);
        assert_eq!(router.session.connected(router.now), asks(Pdu::ResetQuery));
    }
    let mut router = Router::loaded();
    assert_eq!(router.pass(100), Ok(asks(SERIAL_1)));
    assert_eq!(router.receive(Pdu::CacheResponse { session_id: 7 }), Ok(NOTHING));
    assert_eq!(fault_code(router.receive(end(8, 2))), ErrorCode::CorruptData);
}

#[test]
fn unknown_withdrawals_and_double_announcements_are_reported() {
    for (change, code) in
        [(withdraw(9), ErrorCode::WithdrawalOfUnknownRecord), (announce(1), ErrorCode::DuplicateAnnouncement)]
    {
        let mut router = Router::loaded();
        assert_eq!(router.pass(100), Ok(asks(SERIAL_1)));
        assert_eq!(router.receive(Pdu::CacheResponse { session_id: 7 }), Ok(NOTHING));
        assert_eq!(fault_code(router.receive(change)), code);
        router.session.disconnected();
        assert_eq!(router.numbers().len(), 2);
        assert_eq!(router.session.connected(router.now), asks(Pdu::ResetQuery));
    }
    let mut router = Router::new();
    router.session.connected(router.now);
    let answer = [Pdu::CacheResponse { session_id: 7 }, announce(1), announce(1)];
    assert_eq!(fault_code(router.receive_all(&answer)), ErrorCode::DuplicateAnnouncement);
}

#[test]
fn too_many_vrps_leave_the_last_good_data() {
    let mut router = Router::loaded();
    router.pass(100).unwrap();
    router.receive(Pdu::CacheReset).unwrap();
    router.receive(Pdu::CacheResponse { session_id: 7 }).unwrap();
    for number in 1..=5 {
        assert_eq!(router.receive(announce(number)), Ok(NOTHING));
    }
    assert_eq!(router.receive(announce(6)), Err(SessionError::TooManyVrps { limit: 5 }));
    assert_eq!(router.numbers(), BTreeSet::from([vrp(1), vrp(2)]));

    let mut router = Router::loaded();
    router.pass(100).unwrap();
    let increment =
        [Pdu::CacheResponse { session_id: 7 }, announce(3), announce(4), announce(5), announce(6), end(7, 2)];
    assert_eq!(router.receive_all(&increment), Err(SessionError::TooManyVrps { limit: 5 }));
    assert_eq!(router.numbers(), BTreeSet::from([vrp(1), vrp(2)]));
}

#[test]
fn versions_fall_back() {
    // By Error Report (RFC 8210, section 7), in the cache's own version.
    let mut router = Router::new();
    router.session.connected(router.now);
    router.version = Version::V0;
    let refusal = Pdu::ErrorReport { code: 4, pdu: &[], text: b"" };
    assert_eq!(router.receive(refusal), Err(SessionError::Downgrade));
    router.session.disconnected();
    assert_eq!(router.session.connected(router.now), asks(Pdu::ResetQuery));
    assert_eq!(router.session.version(), Version::V0);
    let end_of_data = Pdu::EndOfData { session_id: 7, serial: 1, intervals: None };
    assert_eq!(
        router.receive_all(&[Pdu::CacheResponse { session_id: 7 }, announce(1), end_of_data]),
        Ok(DONE)
    );
    assert_eq!(router.session.intervals(), Intervals::default());
    assert!(matches!(router.receive(refusal), Err(SessionError::Reported { code: 4, .. })));

    // By answering in a lower version, which then holds.
    let mut router = Router::new();
    router.session.connected(router.now);
    router.version = Version::V0;
    // Not before the version is agreed on.
    assert_eq!(router.receive(Pdu::SerialNotify { session_id: 1, serial: 1 }), Ok(NOTHING));
    assert_eq!(router.receive(Pdu::CacheResponse { session_id: 7 }), Ok(NOTHING));
    router.version = Version::V1;
    assert_eq!(fault_code(router.receive(announce(1))), ErrorCode::UnexpectedProtocolVersion);

    // Never to a higher one.
    let mut router = Router::new();
    router.session.connected(router.now);
    router.version = Version::V2;
    let answer = router.receive(Pdu::CacheResponse { session_id: 7 });
    assert_eq!(fault_code(answer), ErrorCode::UnexpectedProtocolVersion);
}

#[test]
fn a_cache_without_data_is_asked_again() {
    let mut router = Router::new();
    router.session.connected(router.now);
    assert_eq!(router.receive(Pdu::ErrorReport { code: 2, pdu: &[], text: b"" }), Ok(NOTHING));
    assert_eq!(router.pass(600), Ok(asks(Pdu::ResetQuery)));
    let error = router.receive(Pdu::ErrorReport { code: 1, pdu: &[], text: b"no\x1bdisk" });
    assert_eq!(error, Err(SessionError::Reported { code: 1, text: "no\\u{1b}disk".to_owned() }));
}

#[test]
fn pdus_out_of_order_are_faults() {
    for pdu in [
        announce(1),
        end(7, 1),
        Pdu::CacheReset,
        Pdu::ResetQuery,
        Pdu::CacheResponse { session_id: 7 },
        Pdu::Skipped { pdu_type: 9 },
    ] {
        let mut router = Router::loaded();
        assert!(matches!(router.receive(pdu), Err(SessionError::Fault { .. })), "{pdu:?}");
        assert_eq!(router.numbers().len(), 2);
    }
}

#[test]
fn intervals_are_kept_within_the_ranges_of_the_rfc() {
    let intervals = |refresh_seconds, retry_seconds, expire_seconds| {
        sane(Intervals { refresh_seconds, retry_seconds, expire_seconds })
    };
    assert_eq!(intervals(0, 0, 0), intervals(1, 1, 600));
    assert_eq!(intervals(u32::MAX, u32::MAX, u32::MAX), intervals(86_400, 7200, 172_800));
    assert_eq!(intervals(86_400, 1, 600).expire_seconds, 86_400);
}

proptest! {
    /// A cache that keeps to the protocol, with connections lost anywhere: the router has the cache's set whenever an
    /// answer is complete.
    #[test]
    fn follows_a_cache(steps in prop::collection::vec((prop::collection::btree_set(0..5u8, 0..5), 0..4u8), 1..20)) {
        let mut router = Router::new();
        let mut have: Option<BTreeSet<u8>> = None;
        let mut step = router.session.connected(router.now);
        for (serial, (set, event)) in steps.into_iter().enumerate() {
            let increment = matches!(step.query, Some(Pdu::SerialQuery { .. }));
            prop_assert_eq!(increment, have.is_some());
            let before = have.clone().unwrap_or_default();
            let changes: Vec<_> = before
                .difference(&set)
                .map(|number| withdraw(*number))
                .chain(set.difference(&before).map(|number| announce(*number)))
                .collect();
            router.receive(Pdu::CacheResponse { session_id: 7 }).unwrap();
            for change in &changes {
                prop_assert_eq!(router.receive(*change), Ok(NOTHING));
            }
            if event == 0 {
                router.session.disconnected();
                step = router.session.connected(router.now);
            } else {
                let done = router.receive(end(7, serial as u32)).unwrap();
                prop_assert_eq!(done.complete, !increment || !changes.is_empty());
                prop_assert_eq!(router.numbers(), set.iter().map(|number| vrp(*number)).collect());
                have = Some(set);
                step = router.pass(100).unwrap();
            }
        }
    }
}
