//! What records say of routes does not depend on whether they have the attributes.

use SegmentKind::{ConfedSequence, ConfedSet, Sequence, Set};

use super::*;
use crate::enrich::tags::Row;

type Path = &'static [(SegmentKind, &'static [u32])];

/// AS paths, each with origin AS and peer AS by the default settings (peer AS also if sub-ASes are passed over), and the AS
/// that announces it.
const PATHS: [(Path, u32, [u32; 2], Option<u32>); 12] = [
    (&[], 0, [0, 0], None),
    (&[(Sequence, &[])], 0, [0, 0], None),
    (&[(Sequence, &[6939])], 6939, [6939, 6939], Some(6939)),
    (&[(Sequence, &[6939, 3356, 60_729])], 60_729, [6939, 6939], Some(60_729)),
    (&[(Sequence, &[6939]), (Set, &[64_501, 64_502])], 64_502, [6939, 6939], None),
    (&[(Set, &[64_501, 64_502])], 64_502, [64_501, 64_501], None),
    (&[(ConfedSequence, &[64_512, 64_513]), (Sequence, &[3356, 1299])], 1299, [64_512, 3356], Some(1299)),
    (&[(ConfedSequence, &[64_512, 64_513])], 64_513, [64_512, 0], None),
    (&[(ConfedSet, &[64_512]), (Set, &[7, 8]), (Sequence, &[9, 10])], 10, [64_512, 7], Some(10)),
    (&[(Sequence, &[3356]), (ConfedSequence, &[64_513])], 3356, [3356, 3356], None),
    (&[(Sequence, &[3356, 0])], 0, [3356, 3356], Some(0)),
    (&[(Sequence, &[3356]), (Sequence, &[])], 3356, [3356, 3356], Some(3356)),
];

const NEXT_HOPS: [Option<&str>; 3] = [None, Some("192.0.2.7"), Some("2001:db8:9::7")];

/// A route for each path, with and without communities, by each next hop: each of a prefix of its own, which is that of the
/// number that comes with it.
fn routes() -> impl Iterator<Item = (u8, usize, Attributes)> {
    let communities: [(&[u32], &[[u32; 3]]); 4] = [
        (&[], &[]),
        (&[65_000 << 16 | 1, 64_500 << 16 | 0x64], &[]),
        (&[], &[[4_200_000_000, 4_200_000_001, 7]]),
        (&[64_500 << 16], &[[1, 2, 3]]),
    ];
    let all = (0..PATHS.len()).flat_map(move |path| {
        NEXT_HOPS.into_iter().flat_map(move |next_hop| {
            communities.into_iter().map(move |communities| (path, next_hop, communities))
        })
    });
    (0..).zip(all).map(|(number, (path, next_hop, (communities, large)))| {
        let segment = |(kind, numbers): &(SegmentKind, &[u32])| Segment {
            kind: *kind,
            as_numbers: Box::from(*numbers),
        };
        let attributes = Attributes {
            as_path: AsPath { segments: PATHS[path].0.iter().map(segment).collect() },
            next_hop: next_hop.map(address),
            local_pref: (number % 2 == 0).then_some(150),
            multi_exit_disc: (number % 3 == 0).then_some(7),
            communities: communities.into(),
            extended_communities: Box::from([[0, 2, 0xfd, 0xe8, 0, 0, 0, number]]),
            large_communities: large.into(),
            ..Attributes::default()
        };
        (number, path, attributes)
    })
}

fn settings() -> Vec<RouteSettings> {
    let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text).unwrap()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for local_as in [0, 397_143] {
        for skip_confederation in [false, true] {
            let plain = RouteSettings { local_as, skip_confederation, ..RouteSettings::default() };
            all.push(RouteSettings {
                communities_to_as: patterns(&["64500:"]),
                large_communities_to_as: patterns(&["4200000000:"]),
                aspath_radius: 1,
                ..plain.clone()
            });
            all.push(plain);
        }
    }
    all
}

#[test]
fn records_without_attributes_say_the_same_of_routes() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    let mut vrps = Vec::new();
    for (number, path, attributes) in routes() {
        let ends = [format!("10.{number}.0.0/16"), format!("2001:db8:{number:x}::/48")];
        for prefix in &ends {
            announce(&mut rib, peer, prefix, 0, &attributes);
            // A third each is not covered, is announced by who may, and by who may not.
            if number % 3 != 0 {
                let may = if number % 3 == 1 { PATHS[path].3.unwrap_or(397_143) } else { 1 };
                vrps.push(
                    Vrp::new(prefix.parse().unwrap(), if prefix.contains(':') { 64 } else { 24 }, may)
                        .unwrap(),
                );
            }
        }
        // One destination by several paths, of which the next hop decides.
        announce(&mut rib, peer, "172.16.0.0/12", u32::from(number) % 60 + 1, &attributes);
    }
    // By default.
    announce(&mut rib, peer, "0.0.0.0/0", 0, &Attributes::default());
    let roas = Arc::new(RoaStore::new());
    roas.publish(Source::File, Arc::from(vrps));

    let mut seen = std::collections::BTreeSet::new();
    for routes_settings in settings() {
        let settings = EnrichSettings { routes: routes_settings.clone(), ..EnrichSettings::default() };
        let current = CurrentSettings::new(settings);
        let enricher = || Enricher::new(current.clone(), Some(rib.reader()), Some(Arc::clone(&roas)));
        let mut whole = enricher();
        let mut numbers = enricher().with_detail(RouteDetail::Numbers);
        for (number, path, _) in routes() {
            let here = |last: u8| format!("10.{number}.0.{last}");
            let six = |last: u8| format!("2001:db8:{number:x}::{last}");
            for (source, destination) in [
                (here(1), here(2)),
                (six(1), six(2)),
                (here(1), "172.16.1.1".to_owned()),
                ("172.16.1.1".to_owned(), here(1)),
                (here(1), "192.0.2.1".to_owned()),
                (six(1), "2001:db9::1".to_owned()),
                ("2001:db9::1".to_owned(), "2001:db9::2".to_owned()),
            ] {
                for via in NEXT_HOPS {
                    let record =
                        FlowRecord { ip_next_hop: via.map(address), ..record(&source, &destination) };
                    let of_whole = enriched(&mut whole, record.clone());
                    let of_numbers = enriched(&mut numbers, record);
                    let has_route = of_whole.source_route.is_some() || of_whole.destination_route.is_some();
                    assert_eq!(of_whole.has_route, has_route);
                    let expected =
                        FlowRecord { source_route: None, destination_route: None, ..of_whole.clone() };
                    assert_eq!(of_numbers, expected, "{routes_settings:?} {source} {destination} {via:?}");
                    // The second time by what is kept.
                    let again = enriched(
                        &mut numbers,
                        FlowRecord { ip_next_hop: via.map(address), ..super::record(&source, &destination) },
                    );
                    assert_eq!(again, expected);
                    seen.insert(of_whole.source_rpki.map(OriginValidation::as_str));
                }
            }
            if routes_settings.local_as == 0 && routes_settings.communities_to_as.is_empty() {
                let there = enriched(&mut numbers, record("2001:db9::1", &here(1)));
                let (_, origin_as, peer_as, _) = PATHS[path];
                assert_eq!(there.bgp_destination_as_number, origin_as, "{number}");
                let peer_as = peer_as[usize::from(routes_settings.skip_confederation)];
                assert_eq!(there.bgp_next_adjacent_as_number, peer_as, "{number}");
                assert_eq!((there.destination_prefix_length, there.has_route), (16, true));
            }
        }
        assert!(!enriched(&mut numbers, record("2001:db9::1", "2001:db9::2")).has_route);
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [None, Some("invalid"), Some("not-found"), Some("valid")]
    );
}

/// What a full table takes for each shard: [`NUMBERS`] of these.
#[test]
fn numbers_of_a_route_are_small() {
    assert!(size_of::<Option<(AttributesKey, RouteNumbers)>>() <= 44);
}

/// An aggregate that came with new settings, for instance.
#[test]
fn who_comes_later_and_asks_for_attributes_gets_them() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    announce(&mut rib, peer, "203.0.113.0/24", 0, &attributes(&[6939], "192.0.2.1"));
    let mut enricher = enricher(&rib, EnrichSettings::default()).with_detail(RouteDetail::Numbers);
    for asks_attributes in [false, true, false] {
        enricher.current.replace(EnrichSettings { asks_attributes, ..EnrichSettings::default() });
        let there = enriched(&mut enricher, record("192.0.2.77", "203.0.113.1"));
        assert_eq!(there.bgp_destination_as_number, 6939);
        assert_eq!(there.destination_route.is_some(), asks_attributes);
    }
}

#[test]
fn a_rule_that_asks_for_attributes_gets_them() {
    let mut rib = Rib::new();
    let peer = add_peer(&mut rib, "127.0.0.1", "bird");
    let route = Attributes {
        communities: Box::from([64_500 << 16 | 1]),
        local_pref: Some(150),
        ..attributes(&[6939], "192.0.2.1")
    };
    announce(&mut rib, peer, "203.0.113.0/24", 0, &route);
    for (condition, tag, has_attributes) in [
        (("dst_as", "6939"), 9, false),
        (("comms", "64500:1"), 9, true),
        (("comms", "64500:2"), 0, true),
        (("src_comms", "64500:1"), 0, true),
        (("local_pref", "150"), 9, true),
        (("src_local_pref", "150"), 0, true),
    ] {
        let mut tags = TagMap::new(Vec::new());
        tags.push(Row::new("here".to_owned(), [("set_tag", "9"), condition].into_iter()).unwrap()).unwrap();
        let mut enricher = enricher(&rib, EnrichSettings::default()).with_detail(RouteDetail::Numbers);
        let before = enriched(&mut enricher, record("192.0.2.77", "203.0.113.1"));
        assert_eq!((before.tag, before.destination_route), (0, None));
        enricher.current.replace(EnrichSettings { tags, ..EnrichSettings::default() });
        let there = enriched(&mut enricher, record("192.0.2.77", "203.0.113.1"));
        assert_eq!(there.tag, tag, "{condition:?}");
        assert_eq!(there.destination_route.is_some(), has_attributes, "{condition:?}");
    }
}
