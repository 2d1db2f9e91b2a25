//! The RIB against plain models.

mod concurrent;
mod million;
mod model;
mod sessions;

use std::net::IpAddr;

use ipnet::IpNet;

use super::*;
use crate::{AsPath, Origin, Segment, SegmentKind};

/// Attributes that tell `number`, with one of four next hops.
fn attributes(number: u32) -> Attributes {
    let segment = Segment { kind: SegmentKind::Sequence, as_numbers: Box::from([64_500, number]) };
    Attributes {
        origin: Origin::Igp,
        as_path: AsPath { segments: Box::from([segment]) },
        next_hop: Some(next_hop(number)),
        ..Attributes::default()
    }
}

fn next_hop(number: u32) -> IpAddr {
    IpAddr::from([192, 0, 2, (number % 4) as u8])
}

fn number_of(attributes: &Attributes) -> u32 {
    attributes.as_path.origin_as().unwrap()
}

fn peer(rib: &mut Rib, lookups: Option<LookupSource>) -> PeerId {
    rib.add_peer(PeerIdentity { name: Box::from("a"), address: [127, 0, 0, 2].into() }, lookups)
}

fn unicast(prefix: &str) -> (Family, Nlri) {
    let prefix: IpNet = prefix.parse().unwrap();
    let family = if prefix.addr().is_ipv4() { Family::IPV4_UNICAST } else { Family::IPV6_UNICAST };
    (family, Nlri { route_distinguisher: None, prefix, path_id: 0, label: None })
}

fn announce(rib: &mut Rib, peer: PeerId, number: u32, route: (Family, Nlri)) -> ApplyCounts {
    rib.apply(peer, [], &number.to_be_bytes(), || attributes(number), [route])
}

fn withdraw(rib: &mut Rib, peer: PeerId, route: (Family, Nlri)) -> ApplyCounts {
    rib.apply(peer, [route], &[], || unreachable!(), [])
}

/// Prefix length and number of what a reader finds.
fn lookup(rib: &Rib, peer: PeerId, address: &str) -> Option<(u8, u32)> {
    let mut reader = rib.reader();
    let view = reader.enter();
    let found = view.peer(peer)?.lookup(address.parse().unwrap())?;
    Some((found.prefix_length(), number_of(&found.choose(None)?.attributes)))
}

#[test]
fn the_longest_prefix_is_found_at_every_depth() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    let nested = [
        (
            "203.0.113.77",
            ["0.0.0.0/0", "203.0.0.0/8", "203.0.113.0/24", "203.0.113.64/26", "203.0.113.77/32"],
        ),
        (
            "2001:db8:1:2::3",
            ["::/0", "2001::/16", "2001:db8::/29", "2001:db8:1:2::/64", "2001:db8:1:2::3/128"],
        ),
    ];
    for (address, prefixes) in nested {
        assert_eq!(lookup(&rib, id, address), None);
        for (number, prefix) in prefixes.iter().enumerate() {
            announce(&mut rib, id, number as u32 + 1, unicast(prefix));
            let length = prefix.parse::<IpNet>().unwrap().prefix_len();
            assert_eq!(lookup(&rib, id, address), Some((length, number as u32 + 1)));
        }
        // From the middle, so that covering routes have to be found over a gap.
        for (gone, found) in [(3, Some(4)), (4, Some(2)), (1, Some(2)), (2, Some(0)), (0, None)] {
            withdraw(&mut rib, id, unicast(prefixes[gone]));
            assert_eq!(lookup(&rib, id, address).map(|(_, number)| number), found.map(|index| index + 1));
        }
    }
    assert_eq!(rib.attribute_sets(), 0);
    rib.work(1000);
    assert_eq!(rib.retained(), Retained::default());
}

#[test]
fn less_specific_routes_are_those_around_a_prefix_that_are_looked_up() {
    let less = |rib: &Rib, id, prefix: &str| {
        let mut numbers = Vec::new();
        rib.less_specific(id, prefix.parse().unwrap(), |route| numbers.push(number_of(route.attributes)));
        numbers
    };
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    let distinguisher = RouteDistinguisher([0, 0, 0, 1, 0, 0, 0, 2]);
    let prefixes =
        ["0.0.0.0/0", "203.0.0.0/8", "203.0.113.0/24", "203.0.113.0/25", "203.0.113.128/25", "2001:db8::/32"];
    for (number, prefix) in (1..).zip(prefixes) {
        announce(&mut rib, id, number, unicast(prefix));
    }
    let vpn = |route_distinguisher, prefix: &str| {
        let (_, nlri) = unicast(prefix);
        (
            Family { afi: crate::Afi::Ipv4, safi: Safi::MplsVpn },
            Nlri { route_distinguisher: Some(route_distinguisher), ..nlri },
        )
    };
    announce(&mut rib, id, 11, vpn(distinguisher, "203.0.0.0/16"));
    announce(&mut rib, id, 12, vpn(RouteDistinguisher([0; 8]), "203.0.112.0/20"));

    assert_eq!(less(&rib, id, "203.0.113.0/25"), [3, 2, 1]);
    assert_eq!(less(&rib, id, "203.0.113.0/24"), [2, 1]);
    // Not there itself.
    assert_eq!(less(&rib, id, "203.0.113.192/26"), [5, 3, 2, 1]);
    assert_eq!(less(&rib, id, "0.0.0.0/0"), Vec::<u32>::new());
    assert_eq!(less(&rib, id, "2001:db8:1::/48"), [6]);
    rib.set_lookups(id, Some(LookupSource::Vpn(distinguisher)));
    assert_eq!(less(&rib, id, "203.0.113.0/25"), [11]);
    rib.set_lookups(id, None);
    assert_eq!(less(&rib, id, "203.0.113.0/25"), Vec::<u32>::new());
}

#[test]
fn an_empty_path_is_a_route() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    rib.apply(id, [], b"empty", Attributes::default, [unicast("192.0.2.0/24")]);
    let mut reader = rib.reader();
    let view = reader.enter();
    let table = view.peer(id).unwrap();
    let found = table.lookup([192, 0, 2, 1].into()).unwrap();
    assert!(found.choose(None).unwrap().attributes.as_path.is_empty());
    assert!(table.lookup([198, 51, 100, 1].into()).is_none());
}

#[test]
fn attributes_are_decoded_once_and_counted() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, None);
    let routes = || ["192.0.2.0/24", "2001:db8::/32"].map(unicast);
    let counts = rib.apply(id, [], b"k", || attributes(1), routes());
    assert_eq!(counts, ApplyCounts { added: 2, ..ApplyCounts::default() });
    let counts = rib.apply(id, [], b"k", || unreachable!(), routes());
    assert_eq!(counts, ApplyCounts { unchanged: 2, ..ApplyCounts::default() });
    assert_eq!(rib.attribute_sets(), 1);
    let counts = rib.apply(id, [routes()[0], unicast("10.0.0.0/8")], b"l", || attributes(2), [routes()[1]]);
    assert_eq!(counts, ApplyCounts { replaced: 1, withdrawn: 1, unknown: 1, ..ApplyCounts::default() });
    assert_eq!(rib.attribute_sets(), 1);
    assert!(rib.reader().enter().peer(id).is_none());
}

#[test]
fn a_peer_is_found_by_its_address_and_by_its_identifier_but_the_address_comes_first() {
    let mut rib = Rib::new();
    let identity = |last| PeerIdentity { name: Box::from("p"), address: [127, 0, 0, last].into() };
    let first = rib.add_peer(identity(1), Some(LookupSource::Unicast));
    let second = rib.add_peer(identity(2), Some(LookupSource::Unicast));
    let mut reader = rib.reader();
    let mut found = |address: [u8; 4]| reader.enter().peers_at(address.into()).collect::<Vec<_>>();
    assert_eq!(found([192, 0, 2, 1]), []);
    rib.set_identifier(first, [192, 0, 2, 1].into());
    assert_eq!(found([192, 0, 2, 1]), [first]);
    rib.set_identifier(first, [127, 0, 0, 2].into());
    assert_eq!(found([127, 0, 0, 2]), [second, first]);
    assert_eq!(found([192, 0, 2, 1]), []);
}

#[test]
fn a_short_prefix_above_many_nodes_changes_one_slot_of_each() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    for number in 0..1 << 15 {
        let host = std::net::Ipv4Addr::from_bits(0x1400_0001 | number << 8);
        announce(&mut rib, id, 1, unicast(&format!("{host}/32")));
    }
    let before = rib.slots_rewritten();
    for number in 2..5 {
        announce(&mut rib, id, number, unicast("20.0.0.0/9"));
        assert_eq!(lookup(&rib, id, "20.0.0.1"), Some((32, 1)));
        assert_eq!(lookup(&rib, id, "20.127.255.2"), Some((9, number)));
        announce(&mut rib, id, 9, unicast("20.127.0.0/16"));
        assert_eq!(lookup(&rib, id, "20.127.255.2"), Some((16, 9)));
        withdraw(&mut rib, id, unicast("20.0.0.0/9"));
        assert_eq!(lookup(&rib, id, "20.127.255.2"), Some((16, 9)));
        withdraw(&mut rib, id, unicast("20.127.0.0/16"));
        assert_eq!(lookup(&rib, id, "20.127.255.2"), None);
    }
    let rewritten = rib.slots_rewritten() - before;
    assert!(rewritten < 120 << 15, "{rewritten} slots");
}

#[test]
fn routes_that_fill_a_node_with_equal_attributes_go_one_by_one() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    for (halves, inside, addresses) in [
        (["10.0.0.0/25", "10.0.0.128/25"], "10.0.0.1/32", ["10.0.0.1", "10.0.0.129"]),
        (["2001:db8::/33", "2001:db8:8000::/33"], "2001:db8::1/128", ["2001:db8::1", "2001:db8:8000::1"]),
    ] {
        for prefix in halves {
            announce(&mut rib, id, 1, unicast(prefix));
        }
        announce(&mut rib, id, 1, unicast(inside));
        withdraw(&mut rib, id, unicast(inside));
        withdraw(&mut rib, id, unicast(halves[0]));
        assert_eq!(lookup(&rib, id, addresses[0]), None);
        let length = halves[1].split_once('/').unwrap().1.parse().unwrap();
        assert_eq!(lookup(&rib, id, addresses[1]), Some((length, 1)));
        withdraw(&mut rib, id, unicast(halves[1]));
        assert_eq!(lookup(&rib, id, addresses[1]), None);
    }
    assert_eq!(rib.nodes_in_use(), 0);
}
