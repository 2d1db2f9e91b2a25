//! Rules and what they make of records, as pmacct's documentation and pmacctd 1.7.7 have them.

use std::path::Path;

use pathflow_exporter::{FlowDirection, FlowRecord, OriginValidation};

use super::*;

fn map(text: &str) -> Result<TagMap, String> {
    let mut map = TagMap::new(vec!["192.0.2.254".parse().unwrap()]);
    file::parse(Path::new("tags.map"), text, |row| map.push(row)).map_err(|error| error.to_string())?;
    map.resolve().map_err(|error| error.to_string())?;
    let mut filters = FilterSet::default();
    for by_address in [false, true] {
        map.bind(&mut filters, by_address).map_err(|error| error.to_string())?;
    }
    Ok(map)
}

fn record() -> FlowRecord {
    FlowRecord {
        ingress_interface: 3,
        egress_interface: 5,
        vlan_id: 10,
        dot1q_customer_vlan_id: 20,
        source_mac_address: [2, 0, 0x5e, 0, 0x53, 1],
        bgp_source_as_number: 64500,
        bgp_destination_as_number: 64501,
        bgp_prev_adjacent_as_number: 64502,
        bgp_next_adjacent_as_number: 64503,
        source_rpki: Some(OriginValidation::Valid),
        destination_rpki: Some(OriginValidation::InvalidCoveredByValid),
        ip_next_hop: Some("192.0.2.7".parse().unwrap()),
        ..FlowRecord::between("192.0.2.1".parse().unwrap(), "198.51.100.1".parse().unwrap())
    }
}

/// Tag, second tag and label of a record with these results of filters.
fn tagged(text: &str, filter_results: u8) -> (u64, u64, String) {
    let (map, mut labels) = (map(text).unwrap(), JoinedLabels::default());
    let mut record = FlowRecord { filter_results, ..record() };
    map.apply(&mut record, &mut labels);
    (record.tag, record.tag2, record.label.as_deref().unwrap_or_default().to_owned())
}

fn tag(text: &str) -> u64 {
    tagged(text, 0).0
}

#[test]
fn the_first_rule_that_is_true_counts() {
    assert_eq!(tag("set_tag=1 in=4\nset_tag=2 in=3\nset_tag=3"), 2);
    assert_eq!(tag("! comment\n# comment\n\n  set_tag=1\tin=4\n\tset_tag=2   in=4\n"), 0);
    assert_eq!(tag("in=3 id=18446744073709551615"), u64::MAX);
    assert_eq!(tagged("id2=7", 0), (0, 7, String::new()));
    assert_eq!(tagged("set_label=bdr1.neptunenetworks.org", 0).2, "bdr1.neptunenetworks.org");
}

#[test]
fn every_key_is_true_of_its_field_and_negated_of_any_other() {
    for (right, wrong) in [
        ("in=3", "in=4"),
        ("out=5", "out=3"),
        ("iface=3", "iface=5"),
        ("direction=0", "direction=1"),
        ("vlan=10", "vlan=20"),
        ("cvlan=20", "cvlan=10"),
        ("src_mac=02:00:5e:00:53:01", "src_mac=02:00:5e:00:53:02"),
        ("dst_mac=00:00:00:00:00:00", "dst_mac=02:00:5e:00:53:01"),
        ("src_net=192.0.2.0/24", "src_net=198.51.100.0/24"),
        ("dst_net=198.51.100.1", "dst_net=::/0"),
        ("src_as=64500", "src_as=64501"),
        ("dst_as=64501", "dst_as=64500"),
        ("peer_src_as=64502", "peer_src_as=64503"),
        ("peer_dst_as=64503", "peer_dst_as=64502"),
        ("nexthop=192.0.2.7", "nexthop=192.0.2.8"),
        ("src_roa=v", "src_roa=i"),
        ("dst_roa=i", "dst_roa=u"),
    ] {
        assert_eq!(tag(&format!("set_tag=1 {right}")), 1, "{right}");
        assert_eq!(tag(&format!("set_tag=1 {wrong}")), 0, "{wrong}");
        let negated = |text: &str| text.replacen('=', "=-", 1);
        assert_eq!(tag(&format!("set_tag=1 {}", negated(right))), 0, "{right}");
        assert_eq!(tag(&format!("set_tag=1 {}", negated(wrong))), 1, "{wrong}");
    }
    // Every condition has to be true. Without a route, nothing is true of it.
    assert_eq!(tag("set_tag=1 in=3 out=4"), 0);
    assert_eq!(tag("set_tag=1 comms=64500:1,64500:2\nset_tag=2 local_pref=0\nset_tag=3 src_comms=1:1"), 0);
    for (text, expected) in [("0.0.0.0/0", 1), ("::/0", 1), ("192.0.2.254", 1), ("192.0.2.0/25", 0)] {
        assert_eq!(tag(&format!("set_tag=1 ip={text}")), expected, "{text}");
    }
    let map = map("set_tag=1 iface=5 direction=1").unwrap();
    let mut egress = FlowRecord { flow_direction: FlowDirection::Egress, ..record() };
    map.apply(&mut egress, &mut JoinedLabels::default());
    assert_eq!(egress.tag, 1);
}

#[test]
fn communities_and_preference_are_those_of_the_routes() {
    use pathflow_exporter::{BgpAttributes, BgpOrigin, BgpRoute};
    let route = |local_pref, communities: &[u32]| {
        Some(Arc::new(BgpRoute::new(BgpAttributes {
            origin: BgpOrigin::Igp,
            as_path: Box::default(),
            next_hop: None,
            local_pref: Some(local_pref),
            multi_exit_disc: None,
            communities: communities.into(),
            extended_communities: Box::default(),
            large_communities: Box::default(),
        })))
    };
    let record = FlowRecord {
        source_route: route(100, &[64500 << 16 | 1]),
        destination_route: route(200, &[64500 << 16 | 2, 64500 << 16 | 3]),
        ..record()
    };
    for (text, expected) in [
        ("src_local_pref=100", 1),
        ("local_pref=200", 1),
        ("local_pref=100", 0),
        ("src_comms=64500:1", 1),
        ("comms=64500:9,64500:3", 1),
        ("comms=64500:1", 0),
        ("comms=-64500:1", 1),
    ] {
        let map = map(&format!("set_tag=1 {text}")).unwrap();
        let mut record = record.clone();
        map.apply(&mut record, &mut JoinedLabels::default());
        assert_eq!(record.tag, expected, "{text}");
    }
}

/// What pmacctd 1.7.7 made of the same maps.
#[test]
fn jumps_go_on_at_a_later_rule() {
    let chained = "set_tag=1 filter='src net 192.0.2.0/24 and udp' jeq=x\n\
        set_tag=2 filter='port 53' label=x\n\
        set_tag=3 filter='port 80'\n";
    assert_eq!(tagged(chained, 0b011).0, 2);
    assert_eq!(tagged(chained, 0b101).0, 3);
    assert_eq!(tagged(chained, 0b001).0, 1);
    assert_eq!(tagged(chained, 0b100).0, 3);
    let stacked = "set_tag=1 filter='src net 192.0.2.0/24 and udp' jeq=x stack=sum\n\
        set_tag=9\n\
        set_tag=2 filter='port 53' label=x stack=sum\n\
        set_tag=4 stack=or\n";
    assert_eq!(tagged(stacked, 0b11).0, 3);
    assert_eq!(tagged(stacked, 0b01).0, 5);
    assert_eq!(tagged(stacked, 0b10).0, 9);
    let labels = "set_label=a jeq=next\nset_label=b filter='port 53' jeq=next\nset_label=c\nset_label=d";
    assert_eq!(tagged(labels, 0b1).2, "a,b,c");
    assert_eq!(tagged(labels, 0b0).2, "a,c");
    // The first later rule of that label; an earlier one does not count.
    assert_eq!(
        tag(
            "set_tag=9 in=4 label=x\nset_tag=1 jeq=x stack=sum\nset_tag=2 label=x stack=sum\nset_tag=4 label=x"
        ),
        3
    );
    assert_eq!(tagged("set_tag=1 jeq=next\nset_tag2=2 jeq=next\nset_label=l", 0), (1, 2, "l".to_owned()));
}

#[test]
fn a_tag_with_plus_goes_up_with_every_record() {
    let (map, mut labels) = (map("set_tag=5++ in=3").unwrap(), JoinedLabels::default());
    let tags: Vec<u64> = (0..3)
        .map(|_| {
            let mut record = record();
            map.apply(&mut record, &mut labels);
            record.tag
        })
        .collect();
    assert_eq!(tags, [5, 6, 7]);
}

#[test]
fn labels_are_made_once_and_not_mixed_up() {
    let text = "set_label=a filter='port 1 or port 2' jeq=next\nset_label=b filter='port 3' jeq=next\nset_label=c filter='port 4'";
    let (map, mut labels) = (map(text).unwrap(), JoinedLabels::default());
    for _ in 0..2 {
        for (filter_results, expected) in [
            (0, None),
            (1, Some("a")),
            (2, Some("b")),
            (3, Some("a,b")),
            (4, Some("c")),
            (5, Some("a,c")),
            (6, Some("b,c")),
            (7, Some("a,b,c")),
        ] {
            let mut record = FlowRecord { filter_results, ..record() };
            map.apply(&mut record, &mut labels);
            assert_eq!(record.label.as_deref(), expected, "{filter_results}");
        }
    }
    assert_eq!(labels.joined.len(), 7);
}

#[test]
fn what_cannot_be_a_rule_is_said_with_its_line() {
    for (text, expected) in [
        ("set_tag=1\nset_tag=x", "tags.map:2: set_tag=x: it must be a number"),
        ("set_tag=-1", "tags.map:1: set_tag=-1: it must be a number"),
        ("in=3", "tags.map:1: set_tag=: the rule sets nothing"),
        ("set_tag=1 set_tag2=2", "tags.map:1: set_tag2=2: a rule sets one of"),
        ("set_tag=1 in=1 in=2", "tags.map:1: in=2: the rule has this key already"),
        ("set_tag=1 sampel=3", "tags.map:1: sampel=3: there is no such key"),
        ("set_tag=1 in", "tags.map:1: \"in\" is not a key with a value"),
        ("set_tag=1 in =3", "tags.map:1: \"in\" is not a key with a value"),
        ("set_tag=1 filter='port 53", "tags.map:1: filter: the quotation mark is not closed"),
        (
            "set_tag=1 filter='prt 53'",
            "tags.map:1: filter=\"prt 53\" cannot be used: can't parse filter expression",
        ),
        ("set_tag=1 vlan=4096", "tags.map:1: vlan=4096: it must be from 0 to 4095"),
        ("set_tag=1 src_mac=1", "tags.map:1: src_mac=1: a MAC address is"),
        ("set_tag=1 src_net=192.0.2.0/33", "tags.map:1: src_net=192.0.2.0/33: it is not a network"),
        ("set_tag=1 comms=1", "tags.map:1: comms=1: communities are such as"),
        ("set_tag=1 stack=xor", "tags.map:1: stack=xor: it must be sum or or"),
        ("set_tag=1 label=x\nset_tag=2 jeq=x", "tags.map:2: jeq=x: no later rule has this label"),
        ("set_tag=1 label=next", "tags.map:1: label=next: this label is"),
        ("set_tag=1 in=", "tags.map:1: in=: it has no value"),
    ] {
        let error = map(text).unwrap_err();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{text}: {error}");
    }
    let many = "set_tag=1\n".repeat(ROWS + 1);
    assert_eq!(map(&many).unwrap_err(), "tags.map:16385: there are more than 16384 rules");
}

/// The map of pmacct's QUICKSTART, chapter XII.4, with addresses: eleven filters, two of which need the packet.
#[test]
fn more_filters_than_bits_are_compared_with_addresses() {
    let text = "set_tag=1 filter='dst net 192.0.2.0/24' jeq=eval_ifindexes\n\
        set_tag=2 filter='src net 192.0.2.0/24' jeq=eval_ifindexes\n\
        set_tag=1 filter='dst net 198.51.100.0/24' jeq=eval_ifindexes\n\
        set_tag=2 filter='src net 198.51.100.0/24' jeq=eval_ifindexes\n\
        set_tag=1 filter='ether src 02:00:5e:00:53:01' jeq=eval_ifindexes\n\
        set_tag=2 filter='ether dst 02:00:5e:00:53:01' jeq=eval_ifindexes\n\
        set_tag=999 filter='net 0.0.0.0/0'\n\
        !\n\
        set_tag2=100 filter='dst host 192.0.2.1' label=eval_ifindexes\n\
        set_tag2=100 filter='src host 192.0.2.1'\n\
        set_tag2=200 filter='dst host 198.51.100.1'\n\
        set_tag2=200 filter='src host 198.51.100.1'\n\
        set_tag2=200 filter='ether src 02:00:5e:00:53:01'\n\
        set_tag2=200 filter='ether dst 02:00:5e:00:53:01'\n";
    let map = map(text).unwrap();
    assert_eq!(map.filter_bits(), 0xff);
    let without: Vec<&str> = map.without_bit().collect();
    assert_eq!(without, ["src host 192.0.2.1", "dst host 198.51.100.1", "src host 198.51.100.1"]);
    // Bits 0 and 1 are those of Ethernet, 2 and 3 those of the first network, as it was said first.
    let mut record = FlowRecord { filter_results: 1 << 3 | 1 << 4, vlan_id: 0, ..record() };
    map.apply(&mut record, &mut JoinedLabels::default());
    assert_eq!((record.tag, record.tag2), (2, 100));
    let others = "203.0.113.1".parse().unwrap();
    let mut record =
        FlowRecord { filter_results: 1 << 6, source_address: others, destination_address: others, ..record };
    (record.tag, record.tag2) = (0, 0);
    map.apply(&mut record, &mut JoinedLabels::default());
    assert_eq!((record.tag, record.tag2), (999, 0));
}

#[test]
fn filters_of_addresses_are_those_that_say_no_more() {
    use super::address::AddressFilter;
    let seen = FlowRecord { vlan_id: 0, ..record() };
    for (expression, expected) in [
        ("host 192.0.2.1", Some(true)),
        ("ip host 198.51.100.1", Some(true)),
        ("src host 198.51.100.1", Some(false)),
        ("dst net 198.51.100.0/24", Some(true)),
        ("ip6 net 2001:db8::/32", Some(false)),
        ("net 0.0.0.0/0", Some(true)),
        ("ip6 host 192.0.2.1", None),
        ("net 192.0.2.1/24", None),
        ("net 10", None),
        ("src or dst host 192.0.2.1", None),
        ("host 192.0.2.1 and tcp", None),
        ("host router", None),
        ("port 53", None),
    ] {
        let matches = AddressFilter::of(expression).map(|filter| filter.matches(&seen));
        assert_eq!(matches, expected, "{expression}");
    }
    assert!(
        !AddressFilter::of("host 192.0.2.1").unwrap().matches(&record()),
        "tcpdump does not look behind tags"
    );
}

#[test]
fn at_a_reload_filters_have_the_bits_that_they_had() {
    let mut loaded = FilterSet::default();
    for expression in ["tcp", "udp port 53", "icmp"] {
        loaded.add(expression).unwrap();
    }
    let mut map = map("set_tag=1 filter='udp port 53'\nset_tag=2 filter='host 192.0.2.1'").unwrap();
    assert_eq!(map.filter_bits(), 0b11);
    map.bind_to_loaded(&loaded, 0b111).unwrap();
    assert_eq!(map.filter_bits(), 0b10);
    assert_eq!(map.without_bit().collect::<Vec<_>>(), ["host 192.0.2.1"]);
    let error = map.bind_to_loaded(&loaded, 0b101).unwrap_err().to_string();
    assert_eq!(
        error,
        "tags.map:1: filter=\"udp port 53\" is not one that packets are asked since the start: it needs a restart"
    );
}
