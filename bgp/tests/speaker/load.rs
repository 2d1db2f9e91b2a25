//! One peer's load, or a crowd's, is not another peer's trouble.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pathflow_bgp::fsm::State;
use pathflow_bgp::speaker::LogCapacity;

use crate::support::*;

#[test]
fn a_hundred_connections_at_once_do_not_hurt_a_session() {
    let speaker = start(vec![peer("127.1.0.1/32"), peer("127.1.0.2/32")]);
    let address = speaker.addresses()[0];
    let mut raw = RawPeer::connect(address, "127.1.0.1");
    raw.establish(&open(3, &[MP_IPV4]));
    until_state(&speaker, "127.1.0.1", State::Established);
    // Strangers; a peer that says nothing; more connections of the peer itself.
    let crowd: Vec<RawPeer> = (0..300)
        .map(|number| {
            let from = ["127.9.0.1", "127.1.0.2", "127.1.0.1"][number % 3];
            RawPeer::connect(address, from)
        })
        .collect();
    // Longer than the hold time.
    for _ in 0..5 {
        raw.expect(KEEPALIVE);
        raw.send(&keepalive());
    }
    let after = status(&speaker, "127.1.0.1");
    assert_eq!((after.state, after.counters.sessions), (State::Established, 1));
    assert_eq!(after.counters.connections_refused, 100);
    assert_eq!(speaker.counters().unwrap().strangers_refused, 100);
    assert_eq!(status(&speaker, "127.1.0.2").counters.connections_refused, 99);
    drop(crowd);
    speaker.stop("");
}

#[test]
fn keepalives_are_served_while_a_table_pours_in() {
    let speaker = start(vec![peer("127.1.0.1/32"), peer("127.1.0.2/32")]);
    let address = speaker.addresses()[0];
    let mut quiet = RawPeer::connect(address, "127.1.0.1");
    quiet.establish(&open(3, &[MP_IPV4]));
    let mut loud = RawPeer::connect(address, "127.1.0.2");
    loud.establish(&open(3, &[MP_IPV4]));
    until_state(&speaker, "127.1.0.2", State::Established);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = loud.stream.try_clone().unwrap();
        let stop = &stop;
        scope.spawn(move || {
            // One prefix in each UPDATE, as BIRD sends a table; over and over.
            let table: Vec<u8> = (0..20_000_u16)
                .flat_map(|number| announce([10, (number >> 8) as u8, number as u8]))
                .collect();
            while !stop.load(Ordering::Relaxed) {
                writer.write_all(&table).unwrap();
            }
        });
        // Four seconds and more of both sessions: longer than their hold time.
        for _ in 0..4 {
            quiet.expect(KEEPALIVE);
            quiet.send(&keepalive());
            loud.expect(KEEPALIVE);
        }
        stop.store(true, Ordering::Relaxed);
    });
    for name in ["127.1.0.1", "127.1.0.2"] {
        let after = status(&speaker, name);
        assert_eq!((after.state, after.counters.sessions), (State::Established, 1));
    }
    let loud = status(&speaker, "127.1.0.2");
    assert!(loud.counters.updates_received > 20_000, "{:?}", loud.counters);
    assert_eq!(prefixes(&speaker, loud.id).len(), 20_000);
    speaker.stop("");
}

#[test]
fn a_peer_that_sends_single_octets_does_not_pass_for_alive() {
    let speaker = start(vec![peer("127.1.0.1/32")]);
    let mut raw = RawPeer::connect(speaker.addresses()[0], "127.1.0.1");
    raw.establish(&open(3, &[MP_IPV4]));
    // A KEEPALIVE that never ends: the hold timer counts messages, not octets.
    let mut writer = raw.stream.try_clone().unwrap();
    let slow = std::thread::spawn(move || {
        for octet in keepalive().into_iter().take(12) {
            let _ = writer.write_all(&[octet]);
            std::thread::sleep(Duration::from_millis(400));
        }
    });
    raw.expect_end(&[4, 0]);
    slow.join().unwrap();
    speaker.stop("");
}

#[test]
fn routes_that_are_dear_to_change_do_not_hold_up_another_peer() {
    const CHANGES: u16 = 700;
    let speaker = start(vec![peer("127.1.0.1/32"), peer("127.1.0.2/32")]);
    let address = speaker.addresses()[0];
    let [mut quiet, mut loud] = ["127.1.0.1", "127.1.0.2"].map(|from| RawPeer::connect(address, from));
    for raw in [&mut quiet, &mut loud] {
        raw.establish(&open(0, &[MP_IPV4]));
    }
    until_state(&speaker, "127.1.0.2", State::Established);
    // One /32 in each /24 of 20.0.0.0/9.
    for second in 0..128 {
        let hosts = (0..=255).flat_map(|third| [32, 20, second, third, 1]).collect::<Vec<_>>();
        loud.send(&announce_all(&hosts));
    }
    until("the table", || status(&speaker, "127.1.0.2").counters.updates_received == 128);
    let events = speaker.subscribe(LogCapacity { events: 10_000, octets: 16 << 20 }).unwrap();
    // Less than is read at a time.
    let change = [announce_all(&[9, 20, 0]), message(UPDATE, &[0, 3, 9, 20, 0, 0, 0])].concat();
    loud.send(&change.repeat(CHANGES.into()));
    let (mut of_loud, mut turns) = (0, 0);
    while of_loud < 2 * CHANGES {
        let event = events.recv_timeout(PATIENCE).unwrap();
        if event.address == loud.stream.local_addr().unwrap().ip() {
            of_loud += 1;
            if of_loud > 1 {
                continue;
            }
        } else {
            turns += 1;
        }
        quiet.send(&announce([10, 0, 0]));
    }
    assert!(turns >= 10, "{turns} turns of another peer during {of_loud} changes");
    speaker.stop("");
}
