//! Records with routes of a real RIB.

use std::net::IpAddr;
use std::sync::Mutex;

use ipnet::IpNet;

use pathflow_bgp::rib::{LookupSource, PeerId, PeerIdentity, Rib};
use pathflow_bgp::rpki::{Source, Vrp};
use pathflow_bgp::{AsPath, Attributes, Family, Nlri, Segment, SegmentKind};

use super::*;
use crate::export::IpVersion;
use crate::interfaces::{Interface, InterfaceRules, NameTable};

mod detail;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn attributes(path: &[u32], next_hop: &str) -> Attributes {
    let segment = Segment { kind: SegmentKind::Sequence, as_numbers: path.into() };
    let segments = if path.is_empty() { Box::default() } else { Box::from([segment]) };
    Attributes { as_path: AsPath { segments }, next_hop: Some(address(next_hop)), ..Attributes::default() }
}

fn add_peer(rib: &mut Rib, peer: &str, name: &str) -> PeerId {
    let identity = PeerIdentity { name: name.into(), address: address(peer) };
    rib.add_peer(identity, Some(LookupSource::Unicast))
}

fn announce(rib: &mut Rib, peer: PeerId, prefix: &str, path_id: u32, attributes: &Attributes) {
    let prefix: IpNet = prefix.parse().unwrap();
    let family = if prefix.addr().is_ipv4() { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST };
    let nlri = Nlri { route_distinguisher: None, prefix, path_id, label: None };
    let key = format!("{attributes:?}");
    let counts = rib.apply(peer, [], key.as_bytes(), || attributes.clone(), [(family, nlri)]);
    assert_eq!(counts.refused, 0);
}

fn record(source: &str, destination: &str) -> FlowRecord {
    FlowRecord::between(address(source), address(destination))
}

fn enricher(rib: &Rib, settings: EnrichSettings) -> Enricher {
    Enricher::new(CurrentSettings::new(settings), Some(rib.reader()), None)
}

fn enriched(enricher: &mut Enricher, record: FlowRecord) -> FlowRecord {
    let mut records = [record];
    enricher.enrich(&mut records, &Arc::default());
    let [record] = records;
    record
}

fn path(route: Option<&Arc<pathflow_exporter::BgpRoute>>) -> Option<Vec<u32>> {
    let numbers = |route: &Arc<pathflow_exporter::BgpRoute>| {
        route.attributes().as_path.iter().flat_map(|segment| segment.as_numbers.to_vec()).collect()
    };
    route.map(numbers)
}

#[test]
fn records_have_both_ends_and_an_empty_path_is_not_an_unknown_one() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    announce(&mut rib, peer, "198.51.100.0/24", 0, &attributes(&[], "192.0.2.1"));
    announce(&mut rib, peer, "203.0.113.0/24", 0, &attributes(&[6939, 3356, 60_729], "192.0.2.9"));
    announce(&mut rib, peer, "2001:db8::/32", 0, &attributes(&[6939, 15_169], "2001:db8:9::1"));

    let mut enricher = enricher(&rib, EnrichSettings::default());
    let there = enriched(&mut enricher, record("198.51.100.1", "203.0.113.1"));
    assert_eq!((there.bgp_source_as_number, there.bgp_destination_as_number), (0, 60_729));
    assert_eq!((there.source_prefix_length, there.destination_prefix_length), (24, 24));
    assert_eq!((there.bgp_prev_adjacent_as_number, there.bgp_next_adjacent_as_number), (0, 6939));
    assert_eq!(there.bgp_next_hop, Some(address("192.0.2.9")));
    assert_eq!(path(there.source_route.as_ref()), Some(vec![]));
    assert_eq!(path(there.destination_route.as_ref()), Some(vec![6939, 3356, 60_729]));

    let back = enriched(&mut enricher, record("203.0.113.1", "198.51.100.1"));
    assert_eq!((back.bgp_source_as_number, back.bgp_prev_adjacent_as_number), (60_729, 6939));
    let unknown = enriched(&mut enricher, record("192.0.2.77", "2001:db8::1"));
    assert_eq!((unknown.source_route, unknown.bgp_source_as_number), (None, 0));
    assert_eq!((unknown.bgp_destination_as_number, unknown.destination_prefix_length), (15_169, 32));

    // When settings change, the route is made ready anew.
    let routes = RouteSettings { local_as: 397_143, aspath_radius: 1, ..RouteSettings::default() };
    enricher.current.replace(EnrichSettings { routes, ..EnrichSettings::default() });
    let there = enriched(&mut enricher, record("198.51.100.1", "203.0.113.1"));
    assert_eq!((there.bgp_source_as_number, there.bgp_destination_as_number), (397_143, 60_729));
    assert_eq!(path(there.destination_route.as_ref()), Some(vec![6939]));
}

#[test]
fn records_share_the_route_that_was_made_ready_once() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    let same = attributes(&[6939, 3356], "192.0.2.9");
    announce(&mut rib, peer, "203.0.113.0/25", 0, &same);
    announce(&mut rib, peer, "203.0.113.128/25", 0, &same);
    let mut enricher = enricher(&rib, EnrichSettings::default());
    let one = enriched(&mut enricher, record("192.0.2.77", "203.0.113.1")).destination_route.unwrap();
    let other = enriched(&mut enricher, record("192.0.2.77", "203.0.113.200")).destination_route.unwrap();
    assert!(Arc::ptr_eq(&one, &other));
    announce(&mut rib, peer, "203.0.113.0/25", 0, &attributes(&[1299], "192.0.2.9"));
    let changed = enriched(&mut enricher, record("192.0.2.77", "203.0.113.1"));
    assert_eq!(path(changed.destination_route.as_ref()), Some(vec![1299]));
}

#[test]
fn of_several_paths_that_of_the_kernels_next_hop_counts() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    for (path_id, upstream, next_hop) in
        [(7, 6939, "192.0.2.6"), (3, 3356, "192.0.2.3"), (9, 1299, "192.0.2.1")]
    {
        announce(&mut rib, peer, "203.0.113.0/24", path_id, &attributes(&[upstream, 60_729], next_hop));
    }
    let mut enricher = enricher(&rib, EnrichSettings::default());
    for (next_hop, upstream) in [
        (Some("192.0.2.6"), 6939),
        (Some("192.0.2.1"), 1299),
        (Some("192.0.2.3"), 3356),
        // That of the lowest identifier.
        (None, 3356),
        (Some("192.0.2.99"), 3356),
    ] {
        let ip_next_hop = next_hop.map(address);
        let there =
            enriched(&mut enricher, FlowRecord { ip_next_hop, ..record("192.0.2.77", "203.0.113.1") });
        assert_eq!(there.bgp_next_adjacent_as_number, upstream, "{next_hop:?}");
        assert_eq!(there.bgp_destination_as_number, 60_729);
        // The next hop is on the way to the destination, not to the source.
        let back = enriched(&mut enricher, FlowRecord { ip_next_hop, ..record("203.0.113.1", "192.0.2.77") });
        assert_eq!(back.bgp_prev_adjacent_as_number, 3356);
    }
}

#[test]
fn rules_say_whose_routes_are_for_which_records() {
    let mut rib = Rib::new();
    let first = add_peer(&mut rib, "127.0.0.1", "first");
    let second = add_peer(&mut rib, "127.0.0.3", "second");
    announce(&mut rib, first, "203.0.113.0/24", 0, &attributes(&[1], "192.0.2.1"));
    announce(&mut rib, second, "203.0.113.0/24", 0, &attributes(&[2], "192.0.2.1"));
    announce(&mut rib, second, "2001:db8::/32", 0, &attributes(&[2], "192.0.2.1"));
    let by = |enricher: &mut Enricher, record| enriched(enricher, record).bgp_destination_as_number;
    let ipv4 = || record("192.0.2.77", "203.0.113.1");
    let ipv6 = || record("2001:db8:9::1", "2001:db8::1");

    // Without a rule, the first that has a route.
    let mut plain = enricher(&rib, EnrichSettings::default());
    assert_eq!((by(&mut plain, ipv4()), by(&mut plain, ipv6())), (1, 2));

    let rule = |peer: &str, ip_version, interfaces: &[&str]| AgentRule {
        peer: peer.into(),
        ip_version,
        networks: vec![],
        interfaces: interfaces.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let agents = vec![
        rule("127.0.0.1", None, &["eth1"]),
        rule("second", Some(IpVersion::V4), &[]),
        rule("nobody", None, &[]),
    ];
    let mut ruled = enricher(&rib, EnrichSettings { agents, ..EnrichSettings::default() });
    let names = NameTable::default();
    let eth1 = Interface { index: 4, name: "eth1".to_owned(), ..Interface::default() };
    names.update(&[eth1], &InterfaceRules::default());
    let mut records = [
        ipv4(),
        FlowRecord { ingress_interface: 4, ..ipv4() },
        // A rule that names no peer there is: no route at all.
        ipv6(),
        FlowRecord { ingress_interface: 4, ..ipv6() },
    ];
    ruled.enrich(&mut records, &names.load());
    assert_eq!(records.map(|record| record.bgp_destination_as_number), [2, 1, 0, 0]);
}

#[test]
fn a_rule_knows_the_source_peer_better_than_the_route() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    announce(&mut rib, peer, "203.0.113.0/24", 0, &attributes(&[6939, 60_729], "192.0.2.1"));
    announce(&mut rib, peer, "198.51.100.0/24", 0, &attributes(&[3356, 60_729], "192.0.2.2"));
    let peer_sources = vec![PeerSourceRule {
        next_hop: Some(address("192.0.2.1")),
        as_number: Some(64_500),
        ..PeerSourceRule::default()
    }];
    let mut enricher = enricher(&rib, EnrichSettings { peer_sources, ..EnrichSettings::default() });
    let from = |enricher: &mut Enricher, source| {
        enriched(enricher, record(source, "192.0.2.77")).bgp_prev_adjacent_as_number
    };
    assert_eq!(from(&mut enricher, "203.0.113.1"), 64_500);
    assert_eq!(from(&mut enricher, "198.51.100.1"), 3356);
    assert_eq!(from(&mut enricher, "192.0.2.78"), 0);
}

#[test]
fn routes_are_validated_by_their_prefix_and_the_end_of_their_path() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    announce(&mut rib, peer, "203.0.113.0/24", 0, &attributes(&[6939, 60_729], "192.0.2.1"));
    announce(&mut rib, peer, "203.0.113.128/25", 0, &attributes(&[6939, 60_729], "192.0.2.1"));
    announce(&mut rib, peer, "198.51.100.0/24", 0, &attributes(&[], "192.0.2.1"));
    announce(&mut rib, peer, "192.0.2.0/24", 0, &attributes(&[3356], "192.0.2.1"));
    let roas = Arc::new(RoaStore::new());
    let vrp = |prefix: &str, as_number| Vrp::new(prefix.parse().unwrap(), 24, as_number).unwrap();
    roas.publish(Source::File, Arc::from([vrp("203.0.113.0/24", 60_729), vrp("198.51.100.0/24", 397_143)]));
    let state = |local_as, destination| {
        let routes = RouteSettings { local_as, ..RouteSettings::default() };
        let current = CurrentSettings::new(EnrichSettings { routes, ..EnrichSettings::default() });
        let mut enricher = Enricher::new(current, Some(rib.reader()), Some(Arc::clone(&roas)));
        enriched(&mut enricher, record("10.0.0.1", destination)).destination_rpki
    };
    assert_eq!(state(0, "203.0.113.1"), Some(OriginValidation::Valid));
    // Longer than the maximum length.
    assert_eq!(state(0, "203.0.113.200"), Some(OriginValidation::Invalid));
    assert_eq!(state(0, "192.0.2.1"), Some(OriginValidation::NotFound));
    // Of the own AS, which has to be known.
    assert_eq!(state(0, "198.51.100.1"), None);
    assert_eq!(state(397_143, "198.51.100.1"), Some(OriginValidation::Valid));
    assert_eq!(state(64_500, "198.51.100.1"), Some(OriginValidation::Invalid));
    assert_eq!(state(0, "10.0.0.2"), None);
}

#[test]
fn of_an_invalid_route_the_record_says_what_stands_behind_it() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    let of = |number| attributes(&[6939, number], "192.0.2.1");
    for (prefix, number) in [
        ("203.0.112.0/23", 60_729),
        ("203.0.113.0/24", 1),
        ("203.0.113.128/25", 2),
        ("192.0.0.0/16", 3),
        ("192.0.2.0/24", 4),
        ("198.51.100.0/24", 5),
    ] {
        announce(&mut rib, peer, prefix, 0, &of(number));
    }
    let roas = Arc::new(RoaStore::new());
    let vrp = |prefix: &str| Vrp::new(prefix.parse().unwrap(), 24, 60_729).unwrap();
    let vrps = ["203.0.112.0/23", "192.0.2.0/24", "198.51.100.0/24"].map(vrp);
    roas.publish(Source::File, Arc::from(vrps));
    let reader = rib.reader();
    let rib = Arc::new(Mutex::new(rib));
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let covers = Covers::new(move |peer, prefix| {
        count.fetch_add(1, Ordering::Relaxed);
        let mut routes = Vec::new();
        rib.lock().unwrap().less_specific(peer, prefix, |route| {
            routes.push((route.nlri.prefix, Arc::new(route.attributes.clone())));
        });
        Some(routes)
    });
    let none = Enricher::new(CurrentSettings::default(), Some(reader.clone()), Some(Arc::clone(&roas)));
    let mut with = Enricher {
        covers: Some(covers),
        ..Enricher::new(CurrentSettings::default(), Some(reader), Some(roas))
    };
    let state = |enricher: &mut Enricher, address| {
        let enriched = enriched(enricher, record(address, address));
        assert_eq!(enriched.source_rpki, enriched.destination_rpki);
        enriched.destination_rpki.map(OriginValidation::as_str)
    };
    for _ in 0..2 {
        assert_eq!(state(&mut with, "203.0.112.1"), Some("valid"));
        assert_eq!(state(&mut with, "203.0.113.1"), Some("invalid-covered-by-valid"));
        assert_eq!(state(&mut with, "203.0.113.200"), Some("invalid-covered-by-valid"));
        assert_eq!(state(&mut with, "192.0.2.1"), Some("invalid-covered-by-not-found"));
        assert_eq!(state(&mut with, "198.51.100.1"), Some("invalid"));
        assert_eq!(state(&mut with, "192.0.1.1"), Some("not-found"));
        assert_eq!(state(&mut with, "10.0.0.1"), None);
    }
    // Once for each invalid route.
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    let mut none = none;
    assert_eq!(state(&mut none, "203.0.113.1"), Some("invalid"));
    // Who does not answer is left alone for a while.
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    none.covers = Some(Covers::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        None
    }));
    assert_eq!(state(&mut none, "203.0.113.1"), Some("invalid"));
    assert_eq!(state(&mut none, "192.0.2.1"), Some("invalid"));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn without_bgp_the_networks_file_is_enough() {
    let networks =
        Networks::parse(std::path::Path::new("networks.lst"), "64501_64500,203.0.113.0/24\n").unwrap();
    let settings = EnrichSettings { networks: Arc::new(networks), ..EnrichSettings::default() };
    let mut enricher = Enricher::new(CurrentSettings::new(settings), None, None);
    let there = enriched(&mut enricher, record("203.0.113.9", "203.0.113.1"));
    assert_eq!((there.bgp_source_as_number, there.bgp_destination_as_number), (64_500, 64_500));
    assert_eq!((there.destination_prefix_length, there.bgp_next_adjacent_as_number), (24, 64_501));
    assert_eq!(there.destination_route, None);
}

#[test]
fn a_record_whose_routes_are_known_allocates_nothing() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    announce(&mut rib, peer, "203.0.113.0/24", 0, &attributes(&[6939, 60_729], "192.0.2.1"));
    announce(&mut rib, peer, "2001:db8::/32", 0, &attributes(&[3356], "192.0.2.1"));
    announce(&mut rib, peer, "198.51.100.0/24", 1, &attributes(&[1], "192.0.2.1"));
    announce(&mut rib, peer, "198.51.100.0/24", 2, &attributes(&[2], "192.0.2.2"));
    for detail in [RouteDetail::Numbers, RouteDetail::Attributes] {
        let mut enricher = enricher(&rib, EnrichSettings::default()).with_detail(detail);
        let names = Arc::default();
        let mut allocations = |count: usize| {
            let mut records = vec![record("203.0.113.1", "203.0.113.2"); count];
            records.extend(vec![record("2001:db8::1", "2001:db8::2"); count]);
            records.extend(vec![record("198.51.100.1", "198.51.100.2"); count]);
            let counted = allocation_counter::measure(|| enricher.enrich(&mut records, &names));
            assert!(records.iter().all(|record| record.has_route));
            counted.count_total
        };
        allocations(1);
        // What a batch needs, however many records it has.
        let of_few = allocations(1);
        assert_eq!(allocations(256), of_few);
    }
}
