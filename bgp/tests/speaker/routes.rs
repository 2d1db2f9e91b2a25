//! What peers announce is in the RIB, and what happens to it when sessions end.

use std::time::Duration;

use pathflow_bgp::Family;
use pathflow_bgp::error::ErrorHandling;
use pathflow_bgp::fsm::State;
use pathflow_bgp::iana::attribute;
use pathflow_bgp::speaker::{LogCapacity, LogKind, PeerSettings};

use crate::support::*;

fn route(prefix: &str, stale: bool) -> (String, bool) {
    (prefix.to_owned(), stale)
}

#[test]
fn segments_may_cut_messages_anywhere() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    // Each octet in a segment of its own.
    for octet in open(90, &[MP_IPV4]) {
        raw.send(&[octet]);
    }
    raw.expect(OPEN);
    raw.expect(KEEPALIVE);
    // Many messages in one, the last one cut.
    let last = announce([192, 0, 2]);
    let (head, tail) = last.split_at(30);
    let octets = [keepalive(), announce([198, 51, 100]), withdraw([198, 51, 100]), announce([203, 0, 113])];
    raw.send(&[&octets.concat()[..], head].concat());
    let id = status(&speaker, "127.1.0.1").id;
    until("the second route", || prefixes(&speaker, id) == [route("203.0.113.0/24", false)]);
    raw.send(tail);
    until("the last route", || {
        prefixes(&speaker, id) == [route("192.0.2.0/24", false), route("203.0.113.0/24", false)]
    });
    let covering = speaker.covering(id, "192.0.2.77".parse().unwrap()).unwrap();
    let attributes = &covering[0].attributes;
    assert_eq!(attributes.as_path.to_string(), "64501");
    assert_eq!((attributes.local_pref, attributes.next_hop), (Some(100), Some("192.0.2.1".parse().unwrap())));
    assert_eq!(speaker.covering(id, "8.8.8.8".parse().unwrap()).unwrap(), []);
    let counters = status(&speaker, "127.1.0.1").counters;
    assert_eq!((counters.updates_received, counters.routes_added, counters.routes_withdrawn), (4, 3, 1));
    speaker.stop("");
}

#[test]
fn routes_of_a_lost_session_are_stale_until_the_peer_is_back_or_the_time_is_over() {
    let patient = PeerSettings { stale_time: Duration::from_secs(2), ..peer("127.1.0.1/32") };
    let speaker = start(vec![patient]);
    let address = speaker.addresses()[0];
    let mut raw = RawPeer::connect(address, "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4]));
    raw.send(&[announce([192, 0, 2]), announce([198, 51, 100])].concat());
    let id = status(&speaker, "127.1.0.1").id;
    until("two routes", || prefixes(&speaker, id).len() == 2);
    drop(raw);
    until("stale routes", || {
        prefixes(&speaker, id) == [route("192.0.2.0/24", true), route("198.51.100.0/24", true)]
    });

    let mut raw = RawPeer::connect(address, "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4]));
    raw.send(&announce([198, 51, 100]));
    until("one route fresh", || prefixes(&speaker, id).contains(&route("198.51.100.0/24", false)));
    // End-of-RIB: what did not come again is gone.
    raw.send(&message(UPDATE, &[0; 4]));
    until("one route", || prefixes(&speaker, id) == [route("198.51.100.0/24", false)]);
    let families = status(&speaker, "127.1.0.1").families;
    let (_, state) = families.into_iter().find(|(family, _)| *family == Family::IPV4_UNICAST).unwrap();
    assert!(state.end_of_rib);
    assert_eq!(state.routes, 1);

    drop(raw);
    until_state(&speaker, "127.1.0.1", State::Active);
    until("no route", || prefixes(&speaker, id).is_empty());
    speaker.stop("");
}

#[test]
fn a_peer_that_restarts_gracefully_gets_end_of_rib_and_no_other_update() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4, MP_IPV6, GRACEFUL_RESTART]));
    assert_eq!(raw.expect(UPDATE), [0, 0, 0, 0]);
    // MP_UNREACH_NLRI of IPv6 unicast without routes.
    assert_eq!(raw.expect(UPDATE), [0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]);
    speaker.stop("");
}

#[test]
fn a_refresh_drops_what_does_not_come_again() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4, REFRESH]));
    raw.send(&[announce([192, 0, 2]), announce([198, 51, 100])].concat());
    let id = status(&speaker, "127.1.0.1").id;
    until("two routes", || prefixes(&speaker, id).len() == 2);
    assert!(speaker.refresh(id).unwrap());
    assert_eq!(raw.expect(ROUTE_REFRESH), [0, 1, 0, 1]);
    // An end without a begin means nothing (RFC 7313, section 4).
    raw.send(&message(ROUTE_REFRESH, &[0, 1, 2, 1]));
    raw.send(&message(ROUTE_REFRESH, &[0, 1, 1, 1]));
    raw.send(&announce([198, 51, 100]));
    until("a stale route", || {
        prefixes(&speaker, id) == [route("192.0.2.0/24", true), route("198.51.100.0/24", false)]
    });
    raw.send(&message(ROUTE_REFRESH, &[0, 1, 2, 1]));
    until("one route", || prefixes(&speaker, id) == [route("198.51.100.0/24", false)]);
    speaker.stop("");
}

#[test]
fn a_malformed_attribute_withdraws_its_routes_and_the_session_stays() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4]));
    raw.send(&[announce([192, 0, 2]), announce([198, 51, 100])].concat());
    let id = status(&speaker, "127.1.0.1").id;
    until("two routes", || prefixes(&speaker, id).len() == 2);
    let mut bad = announce([192, 0, 2]);
    // ORIGIN 9 (RFC 7606, section 7.1).
    bad[26] = 9;
    raw.send(&bad);
    until("one route", || prefixes(&speaker, id) == [route("198.51.100.0/24", false)]);
    let after = status(&speaker, "127.1.0.1");
    assert_eq!((after.state, after.counters.treated_as_withdraw), (State::Established, 1));
    let origin = (attribute::ORIGIN, ErrorHandling::TreatAsWithdraw);
    assert_eq!(after.attribute_errors.into_iter().collect::<Vec<_>>(), [(origin, 1)]);
    speaker.stop("");
}

#[test]
fn subscribers_hear_everything_in_order() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let events = speaker.subscribe(LogCapacity { events: 100, octets: 1 << 20 }).unwrap();
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(90, &[MP_IPV4]));
    let octets = [announce([192, 0, 2]), withdraw([192, 0, 2]), message(UPDATE, &[0; 4])].concat();
    raw.send(&[octets, message(NOTIFICATION, &[6, 4])].concat());
    let next = || events.recv_timeout(PATIENCE).unwrap().kind;
    assert!(matches!(next(), LogKind::SessionUp));
    let LogKind::Announced { routes, attributes } = next() else { panic!() };
    assert_eq!(routes[0].1.prefix.to_string(), "192.0.2.0/24");
    assert_eq!(attributes.as_path.to_string(), "64501");
    let LogKind::Withdrawn(routes) = next() else { panic!() };
    assert_eq!(routes[0].nlri.prefix.to_string(), "192.0.2.0/24");
    // What the peer had said of it.
    assert_eq!(routes[0].attributes.as_ref().map(|said| said.as_path.to_string()).as_deref(), Some("64501"));
    assert!(matches!(next(), LogKind::EndOfRib(Family::IPV4_UNICAST)));
    let LogKind::NotificationReceived(notification) = next() else { panic!() };
    assert_eq!((notification.code, notification.subcode), (6, 4));
    assert!(matches!(next(), LogKind::SessionDown));
    speaker.stop("");
}
