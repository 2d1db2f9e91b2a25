//! Well-formed UPDATEs: attributes, next hops, families, ends of tables.

use std::net::IpAddr;

use pathflow_bgp::iana::attribute::*;
use pathflow_bgp::wire::{AsNumberSize, SessionContext};
use pathflow_bgp::{Afi, Attributes, Family, Origin, Safi};

use crate::support::*;

/// Attributes of the first field with routes.
fn attributes(octets: &[u8], context: SessionContext) -> Attributes {
    let update = decode(octets, context);
    assert_eq!(update.handling(), None, "{:?}", update.errors());
    update.announcements().next().unwrap().attributes()
}

#[test]
fn every_attribute_is_read_as_its_rfc_lays_it_out() {
    let more = [
        raw(OPTIONAL, MULTI_EXIT_DISC, &hex("00000019")),
        raw(TRANSITIVE, LOCAL_PREF, &hex("000000c8")),
        raw(TRANSITIVE, ATOMIC_AGGREGATE, &[]),
        raw(OPTIONAL_TRANSITIVE, AGGREGATOR, &hex("0000fbf5 c6336401")),
        raw(OPTIONAL_TRANSITIVE, COMMUNITIES, &hex("ffffff01 fbf40064")),
        raw(OPTIONAL, ORIGINATOR_ID, &hex("c0000207")),
        raw(OPTIONAL, CLUSTER_LIST, &hex("c0000208 c0000209")),
        raw(OPTIONAL_TRANSITIVE, EXTENDED_COMMUNITIES, &hex("0002fbf400000064 0003fbf400000065")),
        raw(OPTIONAL, AIGP, &hex("02000401 01000b 0000000000002710 01000b 0000000000000001")),
        raw(OPTIONAL_TRANSITIVE, LARGE_COMMUNITY, &hex("0003f7a0 00000001 00000002")),
        raw(OPTIONAL_TRANSITIVE, ONLY_TO_CUSTOMER, &hex("0000fbf4")),
        raw(OPTIONAL_TRANSITIVE, PREFIX_SID, &hex("030008 0000 00003e80 001f 010007 00 0000 0000002a")),
        raw(OPTIONAL_TRANSITIVE | 0x20, 99, &[1, 2, 3]),
    ];
    let octets = update_with(&more.concat());
    let attributes = attributes(&octets, internal());
    assert_eq!(attributes.origin, Origin::Igp);
    assert_eq!(attributes.as_path.to_string(), "64500 64501");
    assert_eq!(attributes.next_hop, Some("192.0.2.1".parse().unwrap()));
    assert_eq!((attributes.multi_exit_disc, attributes.local_pref), (Some(25), Some(200)));
    assert_eq!(*attributes.communities, [0xffff_ff01, 0xfbf4_0064]);
    assert_eq!(attributes.extended_communities[1], [0, 3, 0xfb, 0xf4, 0, 0, 0, 0x65]);
    assert_eq!(*attributes.large_communities, [[260_000, 1, 2]]);
    assert_eq!((attributes.aigp, attributes.prefix_sid_label_index), (Some(10_000), Some(42)));
    assert_eq!(attributes.only_to_customer, Some(64_500));
    assert_eq!(attributes.originator_id, Some("192.0.2.7".parse().unwrap()));
    let update = decode(&octets, internal());
    assert!(update.atomic_aggregate());
    let aggregator = update.aggregator().unwrap();
    assert_eq!(
        (aggregator.as_number, aggregator.bgp_identifier.to_string()),
        (64_501, "198.51.100.1".into())
    );
    assert_eq!(
        update.cluster_list().map(|id| id.to_string()).collect::<Vec<_>>(),
        ["192.0.2.8", "192.0.2.9"]
    );
}

#[test]
fn as_paths_of_every_segment_type_are_read_in_both_widths() {
    let path = |value: &str, context: SessionContext| {
        let attributes_octets = [origin(), raw(TRANSITIVE, AS_PATH, &hex(value)), next_hop()].concat();
        attributes(&body(&[], &attributes_octets, &NET_10), context).as_path.to_string()
    };
    assert_eq!(path("", internal()), "");
    assert_eq!(
        path("0301 0000fc00 0402 0000fc01 0000fc02 0201 0003f7a0 0101 0000fbf6", internal()),
        "(64512) [64513,64514] 260000 {64502}"
    );
    assert_eq!(
        path("0301 fc00 0402 fc01 fc02 0201 5ba0 0101 fbf6", two_octets()),
        "(64512) [64513,64514] 23456 {64502}"
    );
}

#[test]
fn as4_path_is_merged_as_rfc_6793_says() {
    // Section 4.2.3; counted as RFC 4271, section 9.1.2.2, and RFC 5065, section 5.3.
    let cases = [
        ("same length", "0203 5ba0 5ba0 fbf4", "0203 0003f7a0 0003f7a1 0000fbf4", "260000 260001 64500"),
        (
            "leading numbers of old speakers",
            "0204 fbf6 fbf5 5ba0 fbf4",
            "0202 0003f7a1 0000fbf4",
            "64502 64501 260001 64500",
        ),
        ("AS4_PATH longer: ignored", "0202 5ba0 fbf4", "0203 0003f7a0 0003f7a1 0000fbf4", "23456 64500"),
        ("a set counts as one", "0201 fbf6 0102 fbf5 fbf4", "0101 0003f7a1", "64502 {260001}"),
        ("a set in front", "0102 fbf5 fbf4 0201 5ba0", "0201 0003f7a1", "{64501,64500} 260001"),
        (
            "a leading confederation stays",
            "0302 fc00 fc01 0202 5ba0 fbf4",
            "0202 0003f7a1 0000fbf4",
            "(64512 64513) 260001 64500",
        ),
        (
            "confederations beside what stays",
            "0201 fbf6 0301 fc00 0202 5ba0 fbf4",
            "0202 0003f7a1 0000fbf4",
            "64502 (64512) 260001 64500",
        ),
        (
            "confederation in AS4_PATH: dropped",
            "0202 fbf6 5ba0",
            "0301 0000fc00 0201 0003f7a1",
            "64502 260001",
        ),
        ("nothing but confederation: no AS4_PATH", "0202 fbf6 5ba0", "0301 0000fc00", "64502 23456"),
        ("segments cut anywhere", "0201 fbf6 0202 fbf5 5ba0", "0201 0003f7a1", "64502 64501 260001"),
    ];
    for (name, as_path, as4_path, merged) in cases {
        let octets = [
            origin(),
            raw(TRANSITIVE, AS_PATH, &hex(as_path)),
            next_hop(),
            raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex(as4_path)),
        ];
        let found = attributes(&body(&[], &octets.concat(), &NET_10), two_octets());
        assert_eq!(found.as_path.to_string(), merged, "{name}");
    }
}

#[test]
fn halves_of_a_sequence_become_one_segment() {
    let octets = [
        origin(),
        raw(TRANSITIVE, AS_PATH, &hex("0203 fbf6 5ba0 fbf4")),
        next_hop(),
        raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex("0202 0003f7a1 0000fbf4")),
    ];
    let found = attributes(&body(&[], &octets.concat(), &NET_10), two_octets());
    assert_eq!(found.as_path.segments.len(), 1);
    assert_eq!(*found.as_path.segments[0].as_numbers, [64_502, 260_001, 64_500]);
}

#[test]
fn an_aggregator_without_as_trans_overrules_the_four_octet_attributes() {
    // RFC 6793, section 4.2.3: only when both aggregators came.
    let with = |aggregator: &str, as4_aggregator: bool| {
        let mut octets = [
            origin(),
            raw(TRANSITIVE, AS_PATH, &hex("0202 5ba0 fbf4")),
            next_hop(),
            raw(OPTIONAL_TRANSITIVE, AGGREGATOR, &hex(aggregator)),
            raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex("0202 0003f7a0 0000fbf4")),
        ]
        .concat();
        if as4_aggregator {
            octets.extend(raw(OPTIONAL_TRANSITIVE, AS4_AGGREGATOR, &hex("0003f7a0 c6336402")));
        }
        let octets = body(&[], &octets, &NET_10);
        let update = decode(&octets, two_octets());
        let path = update.announcements().next().unwrap().attributes().as_path.to_string();
        (path, update.aggregator().unwrap().as_number)
    };
    assert_eq!(with("5ba0 c6336401", true), ("260000 64500".into(), 260_000));
    assert_eq!(with("fbf4 c6336401", true), ("23456 64500".into(), 64_500));
    assert_eq!(with("fbf4 c6336401", false), ("260000 64500".into(), 64_500));
}

#[test]
fn next_hops_of_every_length_are_read() {
    // RFC 4760; RFC 2545, section 3; RFC 8950, section 3; RFC 4364, section 4.3.2; RFC 4659, section 3.2.1.
    let global = "20010db8000000000000000000000001";
    let local = "fe800000000000000000000000000001";
    let (rd, zero) = ("0000000000000000", "00000000000000000000000000000000");
    let cases = [
        ("0001 01", "04 c0000201".to_owned(), "08 0a", "192.0.2.1"),
        ("0001 01", format!("10 {global}"), "08 0a", "2001:db8::1"),
        ("0001 01", format!("20 {global} {local}"), "08 0a", "2001:db8::1"),
        ("0002 01", format!("10 {global}"), "20 20010db8", "2001:db8::1"),
        ("0002 01", format!("10 {local}"), "20 20010db8", "fe80::1"),
        ("0002 01", format!("20 {global} {local}"), "20 20010db8", "2001:db8::1"),
        ("0002 01", format!("20 {zero} {local}"), "20 20010db8", "fe80::1"),
        (
            "0002 04",
            "10 00000000000000000000ffffc0000201".to_owned(),
            "38 000011 20010db8",
            "::ffff:192.0.2.1",
        ),
        ("0001 80", format!("0c {rd} c0000201"), "60 000011 0000fbf400000001 0a", "192.0.2.1"),
        ("0001 80", format!("18 {rd} {global}"), "60 000011 0000fbf400000001 0a", "2001:db8::1"),
        ("0002 80", format!("18 {rd} {global}"), "78 000011 0000fbf400000001 20010db8", "2001:db8::1"),
        (
            "0002 80",
            format!("30 {rd} {global} {rd} {local}"),
            "78 000011 0000fbf400000001 20010db8",
            "2001:db8::1",
        ),
    ];
    for (family, hop, nlri, expected) in cases {
        let value = hex(&format!("{family} {hop} 00 {nlri}"));
        let octets = body(&[], &[origin(), as_path(), raw(OPTIONAL, MP_REACH_NLRI, &value)].concat(), &[]);
        let found = attributes(&octets, internal());
        assert_eq!(found.next_hop, Some(expected.parse::<IpAddr>().unwrap()), "{family} {hop}");
        assert_eq!(decode(&octets, internal()).announced().count(), 1);
    }
}

#[test]
fn routes_have_one_label_and_withdrawals_three_octets_in_its_place() {
    let reach = |family: &str, nlri: &str| {
        let hop = if family.ends_with("80") { "0c 0000000000000000c0000201" } else { "04 c0000201" };
        let value = hex(&format!("{family} {hop} 00 {nlri}"));
        let octets = body(&[], &[origin(), as_path(), raw(OPTIONAL, MP_REACH_NLRI, &value)].concat(), &[]);
        announced(&decode(&octets, internal()))
    };
    let unreach = |family: &str, nlri: &str| {
        let octets = body(&[], &raw(OPTIONAL, MP_UNREACH_NLRI, &hex(&format!("{family} {nlri}"))), &[]);
        withdrawn(&decode(&octets, internal()))
    };
    // Label 24001 with the bottom-of-stack bit; then two routes, one of them 0.0.0.0/0.
    assert_eq!(reach("000104", "20 05dc11 0a"), ["IPv4 labelled unicast 10.0.0.0/8 label 24001"]);
    assert_eq!(
        reach("000104", "18 05dc11 20 05dc21 0b"),
        ["IPv4 labelled unicast 0.0.0.0/0 label 24001", "IPv4 labelled unicast 11.0.0.0/8 label 24002"]
    );
    // There is one label, even without the bottom-of-stack bit (RFC 8277, section 2.2), and what looks like one behind it
    // is prefix.
    assert_eq!(reach("000104", "20 05dc10 0a"), ["IPv4 labelled unicast 10.0.0.0/8 label 24001"]);
    for third in ["02", "03", "ff"] {
        let expected = format!("10.1.{}.0/24", u8::from_str_radix(third, 16).unwrap());
        assert_eq!(
            reach("000104", &format!("30 05dc10 0a01{third}")),
            [format!("IPv4 labelled unicast {expected} label 24001")]
        );
        for label in ["800000", "05dc10"] {
            assert_eq!(
                unreach("000104", &format!("30 {label} 0a01{third}")),
                [format!("IPv4 labelled unicast {expected}")]
            );
        }
    }
    let odd = "70 05dc10 0001010101010101 0a0103";
    assert_eq!(reach("000180", odd), ["IPv4 VPN 10.1.3.0/24 rd 1:1.1.1.1:257 label 24001"]);
    let vpn = "IPv4 VPN 10.1.2.0/24 rd 0:64500:100";
    assert_eq!(reach("000180", "70 05dc11 0000fbf400000064 0a0102"), [format!("{vpn} label 24001")]);
    // RFC 8277, section 2.4: 0x800000. Others send 0, or the label that was announced.
    for label in ["800000", "000000", "05dc11", "05dc10"] {
        assert_eq!(unreach("000104", &format!("20 {label} 0a")), ["IPv4 labelled unicast 10.0.0.0/8"]);
        assert_eq!(unreach("000180", &format!("70 {label} 0000fbf400000064 0a0102")), [vpn]);
    }
}

#[test]
fn vpn_routes_have_their_distinguisher() {
    let value = hex(
        "000180 0c 0000000000000000c0000201 00 68 05dc11 0000fbf400000064 0a01 60 05dc21 0001c0000201 0007 0b",
    );
    let octets = body(&[], &[origin(), as_path(), raw(OPTIONAL, MP_REACH_NLRI, &value)].concat(), &[]);
    assert_eq!(
        announced(&decode(&octets, internal())),
        [
            "IPv4 VPN 10.1.0.0/16 rd 0:64500:100 label 24001",
            "IPv4 VPN 11.0.0.0/8 rd 1:192.0.2.1:7 label 24002"
        ]
    );
}

#[test]
fn path_identifiers_are_read_in_the_families_that_have_them() {
    // RFC 7911, section 3: per family, in the fields of RFC 4271 and in those of RFC 4760.
    let ipv4 = add_path(&[Family::IPV4_UNICAST]);
    let octets = body(
        &hex("00000007 08 0b"),
        &with_mandatory(&mp_reach_ipv6()),
        &hex("00000001 08 0a 00000002 08 0a"),
    );
    let update = decode(&octets, ipv4);
    assert_eq!(withdrawn(&update), ["IPv4 unicast 11.0.0.0/8 id 7"]);
    assert_eq!(
        announced(&update),
        ["IPv4 unicast 10.0.0.0/8 id 1", "IPv4 unicast 10.0.0.0/8 id 2", "IPv6 unicast 2001:db8::/32"]
    );
    let vpn = Family { afi: Afi::Ipv4, safi: Safi::MplsVpn };
    let octets = body(
        &[],
        &raw(OPTIONAL, MP_UNREACH_NLRI, &hex("000180 00000009 60 800000 0000fbf400000001 0a")),
        &[],
    );
    assert_eq!(withdrawn(&decode(&octets, add_path(&[vpn]))), ["IPv4 VPN 10.0.0.0/8 id 9 rd 0:64500:1"]);
}

#[test]
fn host_bits_are_masked() {
    // RFC 4271, section 4.3: trailing bits are irrelevant.
    let mut more = with_mandatory(&[]);
    let value = hex("0002 01 10 20010db8000000000000000000000001 00 21 20010db8ff");
    more.extend(raw(OPTIONAL, MP_REACH_NLRI, &value));
    let octets = body(&[], &more, &hex("14 0a012f 00 01 ff 20 0a010203"));
    assert_eq!(
        announced(&decode(&octets, internal())),
        [
            "IPv4 unicast 10.1.32.0/20",
            "IPv4 unicast 0.0.0.0/0",
            "IPv4 unicast 128.0.0.0/1",
            "IPv4 unicast 10.1.2.3/32",
            "IPv6 unicast 2001:db8:8000::/33"
        ]
    );
}

#[test]
fn ends_of_tables_are_known_by_family() {
    // RFC 4724, section 2.
    assert_eq!(decode(&hex("0000 0000"), internal()).end_of_rib(), Some(Family::IPV4_UNICAST));
    for family in Family::ALL {
        let value = [(family.afi as u16).to_be_bytes().as_slice(), &[family.safi as u8]].concat();
        let octets = body(&[], &raw(OPTIONAL, MP_UNREACH_NLRI, &value), &[]);
        assert_eq!(decode(&octets, internal()).end_of_rib(), Some(family));
    }
    // BIRD writes the length in two octets.
    assert_eq!(
        decode(&hex("0000 0007 900f0003 000201"), internal()).end_of_rib(),
        Some(Family::IPV6_UNICAST)
    );
    let none = [
        body(&NET_10, &[], &[]),
        update_with(&[]),
        body(&[], &raw(OPTIONAL, MP_UNREACH_NLRI, &hex("000201 20 20010db8")), &[]),
        body(&[], &raw(OPTIONAL, MP_UNREACH_NLRI, &hex("001946")), &[]),
        body(&NET_10, &raw(OPTIONAL, MP_UNREACH_NLRI, &hex("000201")), &[]),
        body(&[], &origin(), &[]),
    ];
    for octets in none {
        assert_eq!(decode(&octets, internal()).end_of_rib(), None);
    }
}

#[test]
fn families_that_are_not_kept_are_ignored_by_name() {
    // EVPN announced, IPv4 Flow Specification withdrawn, with NLRI that would be malformed anywhere else.
    let more = [
        raw(OPTIONAL, MP_REACH_NLRI, &hex("0019 46 04 c0000201 00 ff ff ff")),
        raw(OPTIONAL, MP_UNREACH_NLRI, &hex("0001 85 ff ff")),
    ];
    let octets = update_with(&more.concat());
    let update = decode(&octets, internal());
    assert_eq!(update.handling(), None);
    assert_eq!(announced(&update), ["IPv4 unicast 10.0.0.0/8"]);
    let names =
        update.ignored_families().map(|(afi, safi)| pathflow_bgp::iana::family_name(afi, safi).unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["L2VPN EVPN", "IPv4 Flow Specification"]);
}

#[test]
fn two_fields_have_two_next_hops_and_two_keys() {
    let octets = update_with(&mp_reach_ipv6());
    let update = decode(&octets, internal());
    let found: Vec<_> = update
        .announcements()
        .map(|announcement| {
            let mut key = Vec::new();
            announcement.interning_key(&mut key);
            (announcement.family(), announcement.attributes().next_hop.unwrap().to_string(), key)
        })
        .collect();
    assert_eq!((found[0].0, found[0].1.as_str()), (Family::IPV4_UNICAST, "192.0.2.1"));
    assert_eq!((found[1].0, found[1].1.as_str()), (Family::IPV6_UNICAST, "2001:db8::1"));
    assert_ne!(found[0].2, found[1].2);
}

#[test]
fn keys_know_the_width_and_forget_the_order() {
    let key = |octets: &[u8], context: SessionContext| {
        let mut key = Vec::new();
        decode(octets, context).announcements().next().unwrap().interning_key(&mut key);
        key
    };
    let forwards = body(&[], &[origin(), as_path(), next_hop()].concat(), &NET_10);
    let backwards = body(&[], &[next_hop(), as_path(), origin()].concat(), &[16, 10, 1]);
    assert_eq!(key(&forwards, internal()), key(&backwards, internal()));
    // The same octets of AS_PATH in both widths: 1 segment of 4 octets, or 2 of 2.
    let path = raw(TRANSITIVE, AS_PATH, &hex("0202 0201 0201 0201 0201"));
    let octets = body(&[], &[origin(), path, next_hop()].concat(), &NET_10);
    let two = SessionContext { as_numbers: AsNumberSize::TwoOctets, ..internal() };
    assert_ne!(attributes(&octets, internal()), attributes(&octets, two));
    assert_ne!(key(&octets, internal()), key(&octets, two));
}

#[test]
fn decoding_does_not_allocate() {
    let context = add_path(&[Family { afi: Afi::Ipv4, safi: Safi::MplsVpn }]);
    let vpn = hex("000180 0c 0000000000000000c0000201 00 00000001 60 05dc11 0000fbf400000064 0a");
    let broken = raw(OPTIONAL, MULTI_EXIT_DISC, &[0]);
    let octets =
        body(&NET_10, &with_mandatory(&[raw(OPTIONAL, MP_REACH_NLRI, &vpn), broken].concat()), &NET_10);
    let mut key = Vec::with_capacity(4096);
    let info = allocation_counter::measure(|| {
        let update = decode(&octets, context);
        let routes = update.withdrawn().count() + update.announced().count();
        update.announcements().for_each(|announcement| announcement.interning_key(&mut key));
        assert_eq!((routes, update.errors().len()), (3, 1));
    });
    assert_eq!(info.count_total, 0);
}
