//! Each error has its NOTIFICATION (RFC 4271, section 6), and no other peer notices.

use std::time::Duration;

use pathflow_bgp::Family;
use pathflow_bgp::fsm::State;
use pathflow_bgp::speaker::PeerSettings;
use pathflow_bgp::wire::Role;

use crate::support::*;

/// How far a session is when the octets are sent.
#[derive(Clone, Copy)]
enum Stage {
    Connected,
    OpenConfirm,
    Established,
}

fn with(mut octets: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
    octets[offset..offset + value.len()].copy_from_slice(value);
    octets
}

#[test]
fn every_error_has_its_notification_and_other_peers_do_not_notice() {
    use Stage::{Connected, Established, OpenConfirm};

    let strict = PeerSettings {
        remote_as: Some(64_500),
        families: vec![Family::IPV4_UNICAST],
        role: None,
        ..peer("127.1.0.1/32")
    };
    let speaker = start(vec![strict, peer("127.1.0.2/32")]);
    let mut witness = RawPeer::connect(speaker.addresses()[0], "127.1.0.2");
    witness.establish(&open(90, &[MP_IPV4]));
    witness.send(&announce([198, 51, 100]));
    until("the witness's route", || prefixes(&speaker, status(&speaker, "127.1.0.2").id).len() == 1);
    let before = status(&speaker, "127.1.0.2");

    let plain = || open(90, &[]);
    let long = message(UPDATE, &[0; 4096 - 18]);
    // ORIGIN, AS_PATH and NEXT_HOP, then a prefix of 33 bits.
    let bad_prefix = {
        let mut octets = announce([192, 0, 2]);
        let at = octets.len() - 4;
        octets[at] = 33;
        octets
    };
    let cases: Vec<(&str, Stage, Vec<u8>, Vec<u8>)> = vec![
        ("marker", Connected, with(plain(), 3, &[0]), vec![1, 1]),
        ("text", Connected, b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![1, 1]),
        ("too short", Connected, with(keepalive(), 16, &[0, 18]), vec![1, 2, 0, 18]),
        ("too long", Established, long, vec![1, 2, 0x10, 1]),
        ("KEEPALIVE with a body", Established, message(KEEPALIVE, &[0]), vec![1, 2, 0, 20]),
        ("OPEN cut short", Connected, message(OPEN, &[4, 0, 1]), vec![1, 2, 0, 22]),
        ("type", Connected, message(9, &[]), vec![1, 3, 9]),
        ("version", Connected, with(plain(), 19, &[3]), vec![2, 1, 0, 4]),
        ("AS number", Connected, open_as(64_501, 90, [10, 0, 0, 1], &[]), vec![2, 2]),
        ("AS number 0", Connected, open_as(0, 90, [10, 0, 0, 1], &[]), vec![2, 2]),
        ("identifier 0", Connected, open_as(64_500, 90, [0; 4], &[]), vec![2, 3]),
        ("hold time", Connected, open(2, &[]), vec![2, 6]),
        // EVPN only; the answer names what is missed.
        ("family", Connected, open(90, &[&[1, 4, 0, 25, 0, 70]]), [&[2, 7][..], MP_IPV4].concat()),
        ("KEEPALIVE before OPEN", Connected, keepalive(), vec![5, 1]),
        ("UPDATE before OPEN", Connected, announce([1, 2, 3]), vec![5, 1]),
        ("UPDATE before KEEPALIVE", OpenConfirm, announce([1, 2, 3]), vec![5, 2]),
        ("second OPEN", OpenConfirm, plain(), vec![5, 2]),
        ("OPEN in a session", Established, plain(), vec![5, 3]),
        ("withdrawn routes overrun", Established, message(UPDATE, &[0, 9, 0, 0]), vec![3, 1]),
        ("attributes overrun", Established, message(UPDATE, &[0, 0, 0, 9]), vec![3, 1]),
        ("prefix of 33 bits", Established, bad_prefix, vec![3, 10]),
    ];
    let count = cases.len();
    for (name, stage, octets, expected) in cases {
        let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
        match stage {
            Connected => {}
            OpenConfirm => {
                raw.send(&plain());
                raw.expect(OPEN);
                raw.expect(KEEPALIVE);
            }
            Established => drop(raw.establish(&plain())),
        }
        raw.send(&octets);
        assert_eq!(raw.expect_after_keepalives(NOTIFICATION), expected, "{name}");
        assert_eq!(raw.receive(), None, "{name}");
        let error = status(&speaker, "127.1.0.1").last_error.unwrap();
        let notification = error.notification.unwrap();
        assert_eq!((notification.code, notification.subcode), (expected[0], expected[1]), "{name}");
        assert!(!error.received, "{name}");
        until_state(&speaker, "127.1.0.1", State::Active);
    }
    let broken = status(&speaker, "127.1.0.1");
    assert_eq!(broken.counters.notifications_sent, count as u64);

    let after = status(&speaker, "127.1.0.2");
    assert_eq!((after.state, after.since), (State::Established, before.since));
    assert_eq!((after.counters.sessions, after.counters.notifications_sent), (1, 0));
    assert_eq!(prefixes(&speaker, after.id), [("198.51.100.0/24".to_owned(), false)]);
    speaker.stop("");
}

#[test]
fn an_unknown_optional_parameter_and_a_wrong_role_are_refused() {
    let customer = PeerSettings {
        role: Some(Role::CUSTOMER),
        role_strict: true,
        local_as: Some(64_999),
        ..peer("127.1.0.1/32")
    };
    let speaker = start(vec![customer]);
    // Authentication (RFC 1771), long deprecated.
    let parameter = [&[4, 0xfb, 0xf4, 0, 90, 10, 0, 0, 1, 3][..], &[1, 1, 0]].concat();
    for (octets, expected) in [
        (message(OPEN, &parameter), [2, 4]),
        (open(90, &[MP_IPV4]), [2, 11]),
        (open(90, &[MP_IPV4, &[9, 1, 3]]), [2, 11]),
    ] {
        let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
        raw.send(&octets);
        raw.expect_end(&expected);
    }
    let mut provider = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    provider.establish(&open(90, &[MP_IPV4, &[9, 1, 0]]));
    until_state(&speaker, "127.1.0.1", State::Established);
    speaker.stop("");
}

#[test]
fn a_silent_peer_loses_its_session_when_the_hold_time_is_over() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(3, &[MP_IPV4]));
    // KEEPALIVEs every second until then.
    raw.expect(KEEPALIVE);
    raw.expect(KEEPALIVE);
    raw.expect_end(&[4, 0]);
    speaker.stop("");
}

#[test]
fn an_open_has_to_come_in_time() {
    let hasty = PeerSettings { open_time: Duration::from_secs(1), ..peer("127.1.0.1/32") };
    let speaker = start(vec![hasty]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.expect_end(&[4, 0]);
    speaker.stop("");
}

#[test]
fn what_the_peer_says_at_the_end_is_kept_in_words() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4]));
    let text = "back at 5\u{1b}[2J";
    let body = [&[6, 2, text.len() as u8][..], text.as_bytes()].concat();
    raw.send(&message(NOTIFICATION, &body));
    assert_eq!(raw.expect_nothing_but_keepalives(), None);
    until_state(&speaker, "127.1.0.1", State::Active);
    let error = status(&speaker, "127.1.0.1").last_error.unwrap();
    assert!(error.received);
    // RFC 9003, section 4: control characters do not reach a log.
    assert!(error.text.contains(r"back at 5\u{1b}[2J"), "{}", error.text);
    speaker.stop("");
}
