//! How other BGP speakers fell, 2008 to 2026: each message again, and what is right. OPEN: see `open.rs`.

use pathflow_bgp::Family;
use pathflow_bgp::error::AttributeErrorReason as Reason;
use pathflow_bgp::error::ErrorHandling::{AttributeDiscard, TreatAsWithdraw};
use pathflow_bgp::iana::attribute::*;
use pathflow_bgp::wire::{Notification, Update};

use crate::support::*;

#[test]
fn frr_cve_2023_38802_a_malformed_tunnel_encapsulation_is_passed_over() {
    // frr#14289: attribute 23 is not used here, so nothing in it matters.
    for value in ["", "00", "000f ffff", "000f 0004 01ff"] {
        let octets = update_with(&raw(OPTIONAL_TRANSITIVE, 23, &hex(value)));
        assert_eq!(errors(&octets, internal()), []);
        assert_eq!(announced(&decode(&octets, internal())).len(), 1);
    }
}

#[test]
fn frr_cve_2023_46752_malformed_mp_reach_resets_the_session() {
    let attribute = raw(OPTIONAL, MP_REACH_NLRI, &hex("0002 01 20 20010db8"));
    let octets = body(&[], &[attribute.clone(), origin(), as_path()].concat(), &[]);
    assert_eq!(reset(&octets, internal()), (3, 9, attribute));
}

#[test]
fn frr_d8482bf_an_unknown_attribute_alone_is_no_set_of_attributes() {
    let octets = body(&[], &raw(OPTIONAL_TRANSITIVE, 200, &[1]), &NET_10);
    let missing = |type_code| (type_code, TreatAsWithdraw, Reason::Missing);
    assert_eq!(errors(&octets, internal()), [ORIGIN, AS_PATH, NEXT_HOP].map(missing));
}

#[test]
fn frr_cve_2017_15865_a_quoted_attribute_is_the_one_received() {
    // frr#1417: the length said, not the octets there, went into the NOTIFICATION.
    let long = raw(OPTIONAL, MP_REACH_NLRI, &[&hex("000201 05")[..], &[0xaa; 6000]].concat());
    let (code, subcode, data) = reset(&body(&[], &long, &[]), internal());
    assert_eq!((code, subcode), (3, 9));
    assert_eq!(data, long[..4075], "as much as 4096 octets hold");
    let overrun = [hex("d00effff"), vec![0xaa; 8]].concat();
    assert_eq!(reset(&body(&[], &overrun, &[]), internal()), (3, 1, vec![]));
}

#[test]
fn frr_13099_22041_22042_19336_prefix_sid_costs_itself_only() {
    // Lengths of TLVs beyond the attribute; also in transit by way of a peer that does not look at them.
    for value in
        ["01", "0100", "010007", "010008 00", "030006 00", "05ffff 00", "050001", "010007 00000000000001 05"]
    {
        let octets = update_with(&raw(OPTIONAL_TRANSITIVE | 0x20, PREFIX_SID, &hex(value)));
        assert_eq!(errors(&octets, external()), [(PREFIX_SID, AttributeDiscard, Reason::Length)], "{value}");
        assert_eq!(decode(&octets, external()).announcements().count(), 1);
    }
}

#[test]
fn bird_cve_2026_49943_a_path_of_more_than_2048_numbers_is_withdrawn() {
    let path = |numbers: usize| {
        let mut value = Vec::new();
        for first in (0..numbers).step_by(255) {
            let count = (numbers - first).min(255);
            value.extend([2, count as u8]);
            value.extend([0, 0, 0xfb, 0xf4].repeat(count));
        }
        body(&[], &[origin(), raw(TRANSITIVE, AS_PATH, &value), next_hop()].concat(), &NET_10)
    };
    let longest = path(2048);
    let update = decode(&longest, internal());
    assert_eq!(update.handling(), None);
    let attributes = update.announcements().next().unwrap().attributes();
    assert_eq!(
        attributes.as_path.segments.iter().map(|segment| segment.as_numbers.len()).sum::<usize>(),
        2048
    );
    for numbers in [2049, 16_000] {
        assert_eq!(errors(&path(numbers), internal()), [(AS_PATH, TreatAsWithdraw, Reason::TooMany)]);
    }
}

#[test]
fn communities_beyond_a_bound_are_withdrawn() {
    for (type_code, row) in [(COMMUNITIES, 4), (EXTENDED_COMMUNITIES, 8), (LARGE_COMMUNITY, 12)] {
        let most = update_with(&raw(OPTIONAL_TRANSITIVE, type_code, &vec![1; row * 4096]));
        assert_eq!(errors(&most, internal()), []);
        let more = update_with(&raw(OPTIONAL_TRANSITIVE, type_code, &vec![1; row * 4097]));
        assert_eq!(errors(&more, internal()), [(type_code, TreatAsWithdraw, Reason::TooMany)]);
    }
}

#[test]
fn bird_cve_2025_59688_any_notification_is_read() {
    for octets in ["0000", "ffff", "0600", "0602ff", "0300 ffffffff"] {
        assert!(Notification::decode(&hex(octets)).is_ok());
    }
}

#[test]
fn bird_2_0_8_otc_of_1024_octets_is_treated_as_withdraw() {
    // October 2025: other speakers reset the session.
    let octets = update_with(&raw(OPTIONAL_TRANSITIVE, ONLY_TO_CUSTOMER, &[0; 1024]));
    assert_eq!(errors(&octets, external()), [(ONLY_TO_CUSTOMER, TreatAsWithdraw, Reason::Length)]);
}

#[test]
fn gobgp_cve_2026_41643_as4_path_may_come_first() {
    let octets = [
        raw(OPTIONAL_TRANSITIVE, AS4_AGGREGATOR, &hex("0003f7a0 c0000201")),
        raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex("0202 0003f7a0 0000fbf4")),
        raw(OPTIONAL_TRANSITIVE, AGGREGATOR, &hex("5ba0 c0000201")),
        raw(TRANSITIVE, AS_PATH, &hex("0202 5ba0 fbf4")),
        next_hop(),
        origin(),
    ];
    let octets = body(&[], &octets.concat(), &NET_10);
    let update = decode(&octets, two_octets());
    assert_eq!(update.handling(), None);
    assert_eq!(update.announcements().next().unwrap().attributes().as_path.to_string(), "260000 64500");
    assert_eq!(update.aggregator().unwrap().as_number, 260_000);
}

#[test]
fn gobgp_cve_2026_37462_lengths_that_exceed_the_message_do_not_wrap() {
    for octets in ["ffff ffff", "0004 08 0a", "0000 fffe 40", "fffc 0000 0000"] {
        assert_eq!(reset(&hex(octets), internal()), (3, 1, vec![]), "{octets}");
    }
}

#[test]
fn gobgp_cve_2026_37461_a_short_ipv6_extended_community_is_passed_over() {
    let octets = update_with(&raw(OPTIONAL_TRANSITIVE, 25, &[0, 2, 0x20]));
    assert_eq!(errors(&octets, internal()), []);
}

#[test]
fn gobgp_cve_2026_30405_next_hops_have_four_octets_and_a_host() {
    for (value, reason) in [("c00002", Reason::Length), ("", Reason::Length), ("00000000", Reason::Value)] {
        let octets =
            body(&[], &[origin(), as_path(), raw(TRANSITIVE, NEXT_HOP, &hex(value))].concat(), &NET_10);
        assert_eq!(errors(&octets, internal()), [(NEXT_HOP, TreatAsWithdraw, reason)]);
    }
}

#[test]
fn gobgp_a_label_stack_without_bottom_stays_in_its_route() {
    // The bits of the route hold ten labels, none with the bottom-of-stack bit, and no prefix of 200 bits exists.
    let value = [hex("000104 04 c0000201 00 f0"), [5, 0xdc, 0x10].repeat(10)].concat();
    let attribute = raw(OPTIONAL, MP_REACH_NLRI, &value);
    let octets = body(&[], &[origin(), as_path(), attribute.clone()].concat(), &[]);
    assert_eq!(reset(&octets, internal()), (3, 9, attribute));
}

#[test]
fn openbgpd_cve_2023_38283_attributes_end_where_their_total_length_says() {
    // Total Path Attribute Length cuts the last attribute: what follows is NLRI, and nothing else.
    let attributes = with_mandatory(&raw(OPTIONAL, MULTI_EXIT_DISC, &[0, 0, 0, 1])[..5]);
    let octets = body(&[], &attributes, &NET_10);
    assert_eq!(errors(&octets, internal()), [(MULTI_EXIT_DISC, TreatAsWithdraw, Reason::Overrun)]);
    assert_eq!(announced(&decode(&octets, internal())), ["IPv4 unicast 10.0.0.0/8"]);
}

#[test]
fn openbgpd_2011_reserved_flags_are_nobodys_error() {
    let octets = [
        raw(TRANSITIVE | 0x0f, ORIGIN, &[0]),
        raw(TRANSITIVE | 0x20, AS_PATH, &hex("0201 0000fbf4")),
        raw(TRANSITIVE | 0x2f, NEXT_HOP, &[192, 0, 2, 1]),
    ];
    assert_eq!(errors(&body(&[], &octets.concat(), &NET_10), internal()), []);
}

#[test]
fn openbgpd_2008_confederations_in_as4_path_do_not_end_the_session() {
    let octets = [
        origin(),
        raw(TRANSITIVE, AS_PATH, &hex("0202 5ba0 fbf4")),
        next_hop(),
        raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex("0301 0000fc00 0202 0003f7a0 0000fbf4")),
    ];
    let octets = body(&[], &octets.concat(), &NET_10);
    let update = decode(&octets, two_octets());
    assert_eq!(update.handling(), None);
    assert_eq!(update.announcements().next().unwrap().attributes().as_path.to_string(), "260000 64500");
}

#[test]
fn pmacct_2026_03_as4_path_without_as_path_is_a_missing_as_path() {
    let octets = [origin(), next_hop(), raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex("0201 0003f7a0"))].concat();
    assert_eq!(
        errors(&body(&[], &octets, &NET_10), two_octets()),
        [(AS_PATH, TreatAsWithdraw, Reason::Missing)]
    );
}

#[test]
fn pmacct_539_routes_without_the_agreed_path_identifiers_are_no_default_routes() {
    // 10.0.0.0/8 and 11.0.0.0/8 without identifiers: an identifier, and then nothing.
    let octets = body(&[], &with_mandatory(&[]), &hex("08 0a 08 0b"));
    assert_eq!(reset(&octets, add_path(&[Family::IPV4_UNICAST])), (3, 10, vec![]));
}

#[test]
fn fastnetmon_cve_2026_48686_prefix_lengths_are_those_of_the_family() {
    for length in 33..=255_u8 {
        let nlri = [&[length][..], &[0; 32]].concat();
        assert_eq!(reset(&body(&[], &with_mandatory(&[]), &nlri), internal()), (3, 10, vec![]));
    }
    for length in 129..=255_u8 {
        let attribute = raw(OPTIONAL, MP_UNREACH_NLRI, &[&[0, 2, 1, length][..], &[0; 32]].concat());
        assert_eq!(reset(&body(&[], &attribute, &[]), internal()), (3, 9, attribute));
    }
}

#[test]
fn fastnetmon_cve_2026_48685_an_extended_length_has_two_octets() {
    // 0x0104 octets of communities; read as 0x04, everything behind would be garbage.
    let communities = raw(OPTIONAL_TRANSITIVE, COMMUNITIES, &[1; 0x0104]);
    let octets = update_with(&[communities, raw(OPTIONAL, MULTI_EXIT_DISC, &[0, 0, 0, 7])].concat());
    let update = decode(&octets, internal());
    let attributes = update.announcements().next().unwrap().attributes();
    assert_eq!(
        (update.handling(), attributes.communities.len(), attributes.multi_exit_disc),
        (None, 65, Some(7))
    );
}

#[test]
fn fastnetmon_cve_2026_48691_a_segment_count_beyond_the_path_is_withdrawn() {
    let path = raw(TRANSITIVE, AS_PATH, &hex("02ff 0000fbf4 0000fbf5"));
    let octets = body(&[], &[origin(), path, next_hop()].concat(), &NET_10);
    assert_eq!(errors(&octets, internal()), [(AS_PATH, TreatAsWithdraw, Reason::Length)]);
}

#[test]
fn fastnetmon_cve_2026_48688_an_ipv6_mp_reach_is_checked_to_its_end() {
    let value = hex("0002 01 10 20010db8000000000000000000000001 00 80 20010db8");
    let attribute = raw(OPTIONAL, MP_REACH_NLRI, &value);
    assert_eq!(reset(&body(&[], &attribute, &[]), internal()), (3, 9, attribute));
}

#[test]
fn zettabgp_one_corrupt_octet_asks_for_no_memory() {
    // 8 and 32 GB from one message. Here decoding allocates nothing but what a NOTIFICATION quotes.
    let communities = raw(OPTIONAL_TRANSITIVE, COMMUNITIES, &[1; 40]);
    let good = update_with(&[communities, mp_reach_ipv6()].concat());
    for position in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xfe, 0xff] {
            let mut octets = good.clone();
            octets[position] = value;
            let info = allocation_counter::measure(|| {
                Update::decode(&octets, &internal()).ok();
            });
            assert!(info.bytes_total <= good.len() as u64, "octet {position} as {value}");
        }
    }
}

#[test]
fn vu_347067_no_malformed_attribute_of_a_transit_route_resets_the_session() {
    // What any AS can attach to a route, and other routers carry without a look at it: optional transitive attributes.
    let carried = (0..=u8::MAX).filter(|code| !matches!(*code, MP_REACH_NLRI | MP_UNREACH_NLRI));
    for type_code in carried {
        for value in [&[][..], &[0], &[0xff; 5], &[0; 300]] {
            let octets = update_with(&raw(OPTIONAL_TRANSITIVE, type_code, value));
            assert_eq!(announced(&decode(&octets, external())), ["IPv4 unicast 10.0.0.0/8"], "{type_code}");
        }
    }
}
