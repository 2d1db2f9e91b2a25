//! Sessions begin and end as the RFCs say.

use std::net::TcpListener;
use std::time::Duration;

use pathflow_bgp::fsm::State;
use pathflow_bgp::speaker::{Active, PeerSettings};

use crate::support::*;

#[test]
fn an_answer_has_the_peers_as_number_and_only_its_capabilities() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    // EVPN is not kept; "send" several paths of IPv4; a capability that nobody knows.
    let add_path: &[u8] = &[69, 4, 0, 1, 1, 2];
    let capabilities: &[&[u8]] = &[MP_IPV4, &[1, 4, 0, 25, 0, 70], AS4, add_path, &[2, 0], &[200, 1, 7]];
    let answer = raw.establish(&open_as(23_456, 30, [10, 0, 0, 1], capabilities));
    // Version, AS_TRANS, our hold time, our address as BGP Identifier.
    assert_eq!(answer[..9], [4, 0x5b, 0xa0, 0, 90, 127, 0, 0, 1]);
    let expected = [MP_IPV4, &[2, 0], AS4, &[69, 4, 0, 1, 1, 1]].concat();
    assert_eq!(answer[12..], expected);
    until_state(&speaker, "127.1.0.1", State::Established);
    let agreed = status(&speaker, "127.1.0.1").negotiated.unwrap();
    assert_eq!((agreed.local_as, agreed.remote_as, agreed.hold_time), (397_143, 397_143, 30));
    speaker.stop("");
}

#[test]
fn a_peer_that_waits_gets_the_first_open_where_the_as_number_is_known() {
    let known = PeerSettings { local_as: Some(64_500), ..peer("127.1.0.1/32") };
    let speaker = start(vec![known]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.expect(OPEN);
    raw.send(&open(90, &[MP_IPV4]));
    raw.expect(KEEPALIVE);
    raw.send(&keepalive());
    until_state(&speaker, "127.1.0.1", State::Established);
    speaker.stop("");
}

#[test]
fn hold_time_zero_means_no_timers() {
    // By our own hold time there would be a KEEPALIVE each second, and an end after three.
    let speaker = start(vec![PeerSettings { hold_time: 3, ..peer("127.1.0.1/32") }]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(0, &[MP_IPV4]));
    until_state(&speaker, "127.1.0.1", State::Established);
    assert_eq!(status(&speaker, "127.1.0.1").negotiated.unwrap().hold_time, 0);
    // Neither KEEPALIVE nor NOTIFICATION: the next octets are the farewell.
    std::thread::sleep(Duration::from_secs(4));
    std::thread::scope(|scope| {
        scope.spawn(|| speaker.stop("good bye"));
        assert_eq!(raw.expect(NOTIFICATION), b"\x06\x02\x08good bye");
        assert_eq!(raw.receive(), None);
    });
}

#[test]
fn only_peers_may_connect() {
    let speaker = start(vec![peer("127.1.0.1/32"), peer("127.2.0.0/16")]);
    let mut stranger = RawPeer::connect(speaker.addresses()[0], "127.1.0.2");
    stranger.expect_end(&[6, 5]);
    assert_eq!(speaker.counters().unwrap().strangers_refused, 1);

    let short = [peer("127.1.0.1/32"), PeerSettings { stale_time: Duration::ZERO, ..peer("127.2.0.0/16") }];
    speaker.reload(settings_of(&speaker, short.to_vec())).unwrap();
    let mut dynamic = RawPeer::connect(speaker.addresses()[0], "127.2.3.4");
    dynamic.establish(&open(90, &[MP_IPV4]));
    until_state(&speaker, "127.2.3.4", State::Established);
    assert!(status(&speaker, "127.2.3.4").dynamic);
    drop(dynamic);
    // Nothing is left of it, but a configured peer stays.
    until("the end of the dynamic peer", || find(&speaker, "127.2.3.4").is_none());
    assert_eq!(status(&speaker, "127.1.0.1").state, State::Active);
    speaker.stop("");
}

/// Settings with the addresses that a speaker listens on already.
fn settings_of(
    speaker: &pathflow_bgp::speaker::SpeakerHandle,
    peers: Vec<PeerSettings>,
) -> pathflow_bgp::speaker::Settings {
    let mut settings = settings(peers);
    // Port 0 was asked for, so port 0 it stays.
    settings.listen.truncate(speaker.addresses().len());
    settings
}

#[test]
fn a_second_connection_ends_unless_the_peer_restarts_gracefully() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let address = speaker.addresses()[0];
    let mut first = RawPeer::connect(address, "127.1.0.1");
    first.establish(&open(90, &[MP_IPV4]));
    until_state(&speaker, "127.1.0.1", State::Established);
    RawPeer::connect(address, "127.1.0.1").expect_end(&[6, 7]);
    assert_eq!(status(&speaker, "127.1.0.1").counters.sessions, 1);
    drop(first);
    until_state(&speaker, "127.1.0.1", State::Active);

    // RFC 4724, section 5: the old connection of a peer that restarted is dead without a word.
    let mut before = RawPeer::connect(address, "127.1.0.1");
    before.establish(&open(90, &[MP_IPV4, GRACEFUL_RESTART]));
    until_state(&speaker, "127.1.0.1", State::Established);
    let mut after = RawPeer::connect(address, "127.1.0.1");
    after.establish(&open(90, &[MP_IPV4, GRACEFUL_RESTART]));
    until("the third session", || status(&speaker, "127.1.0.1").counters.sessions == 3);
    assert_eq!(status(&speaker, "127.1.0.1").state, State::Established);
    speaker.stop("");
}

#[test]
fn of_two_connections_that_of_the_higher_identifier_stays() {
    // The speaker's identifier is between those of the peers.
    for (identifier, incoming_stays) in [([10, 0, 0, 9], true), ([200, 0, 0, 9], false)] {
        let listener = TcpListener::bind("127.1.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = PeerSettings {
            local_as: Some(64_500),
            active: Some(Active { port, local: None }),
            ..peer("127.1.0.1/32")
        };
        let mut settings = settings(vec![both]);
        settings.router_id = Some("100.0.0.1".parse().unwrap());
        let speaker = pathflow_bgp::speaker::Speaker::start(settings).unwrap();
        // As the speaker sees them: its own connection, and the peer's.
        let mut outgoing = RawPeer::accept(&listener);
        let mut incoming = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
        outgoing.expect(OPEN);
        incoming.expect(OPEN);
        let open = open_as(64_500, 90, identifier, &[MP_IPV4]);
        outgoing.send(&open);
        outgoing.expect(KEEPALIVE);
        incoming.send(&open);
        incoming.expect(KEEPALIVE);
        // RFC 4271, section 6.8: the connection that the side with the higher identifier opened stays. Our connection is
        // the peer's incoming one.
        let (mut loser, mut winner) =
            if incoming_stays { (incoming, outgoing) } else { (outgoing, incoming) };
        loser.expect_end(&[6, 7]);
        winner.send(&keepalive());
        until_state(&speaker, "127.1.0.1", State::Established);
        speaker.stop("");
    }
}

#[test]
fn an_active_peer_is_connected_to_again_and_again() {
    let listener = TcpListener::bind("127.1.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let local = Some("127.0.0.9:0".parse().unwrap());
    let active = PeerSettings {
        remote_as: Some(64_500),
        active: Some(Active { port, local }),
        open_delay: Duration::ZERO,
        ..peer("127.1.0.1/32")
    };
    let speaker = start(vec![active]);
    for session in 1..=2 {
        let mut raw = RawPeer::accept(&listener);
        assert_eq!(raw.stream.peer_addr().unwrap().ip().to_string(), "127.0.0.9");
        raw.expect(OPEN);
        raw.send(&open(90, &[MP_IPV4]));
        raw.expect(KEEPALIVE);
        raw.send(&keepalive());
        until("the session", || status(&speaker, "127.1.0.1").counters.sessions == session);
    }
    speaker.stop("");
}

#[test]
fn a_reload_ends_only_the_sessions_that_it_changes() {
    let names = ["127.1.0.1", "127.1.0.2", "127.1.0.3"];
    let of = |address: &str| peer(&format!("{address}/32"));
    let speaker = start(names.iter().map(|name| of(name)).collect());
    let mut raws: Vec<RawPeer> = names
        .iter()
        .map(|name| {
            let mut raw = RawPeer::connect(speaker.addresses()[0], name);
            raw.establish(&open(90, &[MP_IPV4]));
            until_state(&speaker, name, State::Established);
            raw
        })
        .collect();
    let stale_time = Duration::from_secs(7);
    let kept = PeerSettings { stale_time, ..of(names[0]) };
    let changed = PeerSettings { hold_time: 30, ..of(names[1]) };
    speaker.reload(settings_of(&speaker, vec![kept, changed, of("127.1.0.4")])).unwrap();
    raws[1].expect_end(&[6, 6]);
    raws[2].expect_end(&[6, 3]);
    until("the end of the third", || find(&speaker, names[2]).is_none());
    assert_eq!(status(&speaker, names[0]).state, State::Established);
    assert_eq!(status(&speaker, "127.1.0.4").state, State::Active);
    // The changed peer offers its new hold time.
    let mut again = RawPeer::connect(speaker.addresses()[0], names[1]);
    assert_eq!(again.establish(&open(90, &[MP_IPV4]))[3..5], [0, 30]);
    // A broken configuration changes nothing.
    let twice = settings_of(&speaker, vec![of(names[0]), of(names[0])]);
    let error = speaker.reload(twice).unwrap_err().to_string();
    assert_eq!(error, "peer 127.1.0.1/32 is there twice");
    assert_eq!(status(&speaker, names[0]).state, State::Established);
    speaker.stop("");
}

#[test]
fn a_reset_says_why() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4]));
    until_state(&speaker, "127.1.0.1", State::Established);
    assert!(speaker.reset(status(&speaker, "127.1.0.1").id, "new table").unwrap());
    raw.expect_end(b"\x06\x04\x09new table");
    speaker.stop("");
    assert_eq!(speaker.peers().unwrap_err().to_string(), "the BGP speaker has stopped");
}
