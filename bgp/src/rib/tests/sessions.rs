//! What happens to routes when sessions come and go.

use super::*;

#[test]
fn a_lost_session_blanks_nothing_until_its_time_is_over() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    for (number, prefix) in [(1, "192.0.2.0/24"), (2, "198.51.100.0/24"), (3, "2001:db8::/32")] {
        announce(&mut rib, id, number, unicast(prefix));
    }
    rib.end_of_rib(id, Family::IPV4_UNICAST);
    assert!(rib.family_state(id, Family::IPV4_UNICAST).end_of_rib);
    assert!(rib.reader().enter().peer(id).unwrap().end_of_rib(Family::IPV4_UNICAST));
    assert!(!rib.reader().enter().peer(id).unwrap().end_of_rib(Family::IPV6_UNICAST));

    rib.session_down(id);
    rib.work(1000);
    let state = rib.family_state(id, Family::IPV4_UNICAST);
    assert_eq!(state, FamilyState { routes: 2, stale: 2, end_of_rib: false });
    assert!(!rib.reader().enter().peer(id).unwrap().end_of_rib(Family::IPV4_UNICAST));
    assert_eq!(lookup(&rib, id, "192.0.2.1"), Some((24, 1)));

    // The session is back; one route is as it was, another one did not come again.
    let counts = announce(&mut rib, id, 1, unicast("192.0.2.0/24"));
    assert_eq!(counts.unchanged, 1);
    rib.end_of_rib(id, Family::IPV4_UNICAST);
    while rib.work(1) {}
    assert_eq!(rib.family_state(id, Family::IPV4_UNICAST).routes, 1);
    assert_eq!(lookup(&rib, id, "192.0.2.1"), Some((24, 1)));
    assert_eq!(lookup(&rib, id, "198.51.100.1"), None);
    // IPv6 has no End-of-RIB yet.
    assert_eq!(lookup(&rib, id, "2001:db8::1"), Some((32, 3)));
    rib.sweep_stale(id);
    rib.work(1000);
    assert_eq!(lookup(&rib, id, "2001:db8::1"), None);
}

#[test]
fn a_loss_during_a_sweep_spares_what_the_second_session_sent() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    let prefix = |index: u32| unicast(&format!("10.{}.{}.0/24", index / 250, index % 250));
    for index in 0..1000 {
        announce(&mut rib, id, 1, prefix(index));
    }
    rib.session_down(id);
    for index in 0..500 {
        announce(&mut rib, id, 2, prefix(index));
    }
    rib.sweep_stale(id);
    assert!(rib.work(100));
    rib.session_down(id);
    while rib.work(100) {}
    let state = rib.family_state(id, Family::IPV4_UNICAST);
    assert_eq!((state.routes, state.stale), (500, 500));
    assert_eq!(lookup(&rib, id, "10.0.0.1"), Some((24, 2)));
    assert_eq!(lookup(&rib, id, "10.3.0.1"), None);
}

#[test]
fn as_many_losses_and_refreshes_as_one_likes() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    announce(&mut rib, id, 1, unicast("192.0.2.0/24"));
    for _ in 0..254 {
        rib.refresh_begin(id, Family::IPV4_UNICAST);
    }
    assert_eq!(lookup(&rib, id, "192.0.2.1"), Some((24, 1)));
    // The age of routes is known for 255 times only; older ones are gone.
    for _ in 0..1000 {
        rib.refresh_begin(id, Family::IPV4_UNICAST);
    }
    assert_eq!(rib.family_state(id, Family::IPV4_UNICAST).routes, 0);
    announce(&mut rib, id, 2, unicast("192.0.2.0/24"));
    rib.refresh_end(id, Family::IPV4_UNICAST);
    rib.work(1000);
    assert_eq!(lookup(&rib, id, "192.0.2.1"), Some((24, 2)));
}

#[test]
fn a_removed_peer_is_gone_at_once_and_its_memory_later() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    let empty = rib.memory().prefixes;
    for index in 0..3000u32 {
        let prefix = unicast(&format!("10.{}.{}.0/24", index / 250, index % 250));
        announce(&mut rib, id, index % 7, prefix);
    }
    let other = peer(&mut rib, None);
    announce(&mut rib, other, 3, unicast("192.0.2.0/24"));
    rib.remove_peer(id);
    assert!(rib.reader().enter().peer(id).is_none());
    assert_eq!(rib.attribute_sets(), 7);
    while rib.work(100) {}
    assert_eq!(rib.attribute_sets(), 1);
    assert_eq!(rib.family_state(id, Family::IPV4_UNICAST), FamilyState::default());
    assert_eq!(announce(&mut rib, id, 1, unicast("192.0.2.0/24")), ApplyCounts::default());
    rib.remove_peer(other);
    rib.work(100);
    assert_eq!((rib.attribute_sets(), rib.memory().prefixes), (0, empty));
    assert_eq!(rib.peers().count(), 0);
}

#[test]
fn a_dump_goes_on_where_it_was_while_routes_change() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, None);
    let prefix = |index: u32| unicast(&format!("10.{}.{}.0/24", index / 250, index % 250));
    for index in 0..1000 {
        announce(&mut rib, id, 1, prefix(index));
    }
    let (mut position, mut seen, mut next) = (DumpPosition::default(), Vec::new(), 1000);
    while rib.dump(id, &mut position, 10, |route| seen.push(route.nlri.prefix)) {
        // Many come, so that the table grows; of the first, every tenth goes.
        for index in next..next + 100 {
            announce(&mut rib, id, 2, prefix(index));
        }
        if next < 10_000 {
            withdraw(&mut rib, id, prefix((next - 1000) / 10));
        }
        next += 100;
        if next > 30_000 {
            break;
        }
    }
    seen.sort();
    let count = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), count, "given twice");
    while rib.dump(id, &mut position, 1000, |route| seen.push(route.nlri.prefix)) {}
    let gone: Vec<u32> = (0..90).map(|step| step * 10).collect();
    for index in (0..1000).filter(|index| !gone.contains(index)) {
        assert!(seen.contains(&prefix(index).1.prefix), "{index} is missing");
    }
}

#[test]
fn a_peer_takes_little_memory_before_it_has_many_routes() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    rib.session_down(id);
    assert_eq!(rib.memory().prefixes, 0);
    for (prefix, address) in [("192.0.2.128/25", "192.0.2.129"), ("2001:db8:1::/48", "2001:db8:1::1")] {
        assert_eq!(lookup(&rib, id, address), None);
        withdraw(&mut rib, id, unicast(prefix));
        let before = rib.memory();
        announce(&mut rib, id, 1, unicast(prefix));
        assert!(lookup(&rib, id, address).is_some());
        let memory = rib.memory();
        if address.contains(':') {
            assert_eq!(before.lookups_ipv6, 0);
        } else {
            assert_eq!((memory.lookups_ipv6, before.lookups_ipv4), (0, 0));
        }
        for octets in [memory.lookups_ipv4, memory.lookups_ipv6, memory.prefixes] {
            assert!(octets < 32 << 10, "{memory:?}");
        }
    }
    rib.remove_peers(&[id]);
    while rib.work(100) {}
    assert_eq!(rib.memory().lookups_ipv4, 0);
}

#[test]
fn stale_routes_that_are_dear_to_change_go_in_smaller_pieces() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    for length in [9, 12, 16, 19] {
        for number in 0..1 << (length - 4) {
            let network = std::net::Ipv4Addr::from_bits(0x1000_0000 | number << (32 - length));
            announce(&mut rib, id, 1, unicast(&format!("{network}/{length}")));
        }
    }
    rib.session_down(id);
    rib.sweep_stale(id);
    let mut more = true;
    while more {
        let before = rib.slots_rewritten();
        more = rib.work(10_000);
        let slots = rib.slots_rewritten() - before;
        assert!(slots < 1 << 18, "{slots} slots");
    }
    assert_eq!(rib.family_state(id, Family::IPV4_UNICAST).routes, 0);
}
