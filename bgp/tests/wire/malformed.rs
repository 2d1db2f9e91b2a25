//! RFC 7606: what each malformed attribute costs.

use pathflow_bgp::error::AttributeErrorReason as Reason;
use pathflow_bgp::error::ErrorHandling::{AttributeDiscard, TreatAsWithdraw};
use pathflow_bgp::iana::attribute::*;
use pathflow_bgp::wire::SessionContext;

use crate::support::*;

/// The mandatory attributes but one, and that one as given.
fn instead_of(type_code: u8, replacement: &[u8]) -> Vec<u8> {
    let rest = [(ORIGIN, origin()), (AS_PATH, as_path()), (NEXT_HOP, next_hop())];
    let rest = rest.into_iter().filter(|(code, _)| *code != type_code).flat_map(|(_, octets)| octets);
    body(&[], &rest.chain(replacement.iter().copied()).collect::<Vec<u8>>(), &NET_10)
}

#[test]
fn mandatory_attributes_with_wrong_values_are_treated_as_withdraw() {
    // RFC 7606, sections 7.1 to 7.3; RFC 7607, section 2; RFC 5065 for the segment types.
    let cases: [(u8, &str, Reason); 21] = [
        (ORIGIN, "", Reason::Length),
        (ORIGIN, "0000", Reason::Length),
        (ORIGIN, "03", Reason::Value),
        (ORIGIN, "ff", Reason::Value),
        (AS_PATH, "02", Reason::Length),
        (AS_PATH, "0200", Reason::Length),
        (AS_PATH, "0201 0000fb", Reason::Length),
        (AS_PATH, "0202 0000fbf4", Reason::Length),
        (AS_PATH, "0201 0000fbf4 00", Reason::Length),
        (AS_PATH, "0201 0000fbf4 0200", Reason::Length),
        (AS_PATH, "0001 0000fbf4", Reason::Value),
        (AS_PATH, "0501 0000fbf4", Reason::Value),
        (AS_PATH, "0202 0000fbf4 00000000", Reason::Value),
        (AS_PATH, "02ff 0000fbf4", Reason::Length),
        (NEXT_HOP, "", Reason::Length),
        (NEXT_HOP, "c00002", Reason::Length),
        (NEXT_HOP, "c000020101", Reason::Length),
        (NEXT_HOP, "20010db8000000000000000000000001", Reason::Length),
        (NEXT_HOP, "00000000", Reason::Value),
        (NEXT_HOP, "e0000001", Reason::Value),
        (NEXT_HOP, "ffffffff", Reason::Value),
    ];
    for (type_code, value, reason) in cases {
        let octets = instead_of(type_code, &raw(TRANSITIVE, type_code, &hex(value)));
        assert_eq!(
            errors(&octets, internal()),
            [(type_code, TreatAsWithdraw, reason)],
            "{type_code} {value}"
        );
        let update = decode(&octets, internal());
        assert_eq!(update.handling(), Some(TreatAsWithdraw));
        assert_eq!(announced(&update), ["IPv4 unicast 10.0.0.0/8"], "the route to withdraw is still named");
    }
}

#[test]
fn other_attributes_with_wrong_values_cost_what_their_rfcs_say() {
    // RFC 7606, section 7; RFC 8092, section 6; RFC 7311, section 3; RFC 8669, section 6; RFC 9234, section 5.
    let (withdraw, discard) = (TreatAsWithdraw, AttributeDiscard);
    let cases = [
        (OPTIONAL, MULTI_EXIT_DISC, "000000", withdraw),
        (OPTIONAL, MULTI_EXIT_DISC, "", withdraw),
        (OPTIONAL, MULTI_EXIT_DISC, "0000000001", withdraw),
        (TRANSITIVE, LOCAL_PREF, "000064", withdraw),
        (TRANSITIVE, ATOMIC_AGGREGATE, "00", discard),
        (OPTIONAL_TRANSITIVE, AGGREGATOR, "fbf4 c0000201", discard),
        (OPTIONAL_TRANSITIVE, AGGREGATOR, "0000fbf4 c0000201 00", discard),
        (OPTIONAL_TRANSITIVE, AGGREGATOR, "", discard),
        (OPTIONAL_TRANSITIVE, COMMUNITIES, "", withdraw),
        (OPTIONAL_TRANSITIVE, COMMUNITIES, "fbf4000100", withdraw),
        (OPTIONAL, ORIGINATOR_ID, "c00002", withdraw),
        (OPTIONAL, CLUSTER_LIST, "", withdraw),
        (OPTIONAL, CLUSTER_LIST, "c0000201 c0", withdraw),
        (OPTIONAL_TRANSITIVE, EXTENDED_COMMUNITIES, "", withdraw),
        (OPTIONAL_TRANSITIVE, EXTENDED_COMMUNITIES, "0002fbf4000001", withdraw),
        (OPTIONAL_TRANSITIVE, LARGE_COMMUNITY, "", withdraw),
        (OPTIONAL_TRANSITIVE, LARGE_COMMUNITY, "0000fbf4 00000001", withdraw),
        (OPTIONAL, AIGP, "", discard),
        (OPTIONAL, AIGP, "01", discard),
        (OPTIONAL, AIGP, "010002", discard),
        (OPTIONAL, AIGP, "01000a 00000000000001", discard),
        (OPTIONAL, AIGP, "01000b 00000000000000", discard),
        (OPTIONAL, AIGP, "01000b 0000000000000001 02", discard),
        (OPTIONAL_TRANSITIVE, PREFIX_SID, "", discard),
        (OPTIONAL_TRANSITIVE, PREFIX_SID, "010006 000000 000001", discard),
        (OPTIONAL_TRANSITIVE, PREFIX_SID, "010007 000000 000001", discard),
        (OPTIONAL_TRANSITIVE, PREFIX_SID, "03ffff 0000", discard),
        (OPTIONAL_TRANSITIVE, ONLY_TO_CUSTOMER, "fbf4", withdraw),
        (OPTIONAL_TRANSITIVE, ONLY_TO_CUSTOMER, "", withdraw),
    ];
    for (flags, type_code, value, handling) in cases {
        let octets = update_with(&raw(flags, type_code, &hex(value)));
        let expected = [(type_code, handling, Reason::Length)];
        assert_eq!(errors(&octets, internal()), expected, "{type_code} {value}");
        assert_eq!(decode(&octets, internal()).handling(), Some(handling));
    }
    let zero = update_with(&raw(OPTIONAL_TRANSITIVE, AGGREGATOR, &hex("00000000 c0000201")));
    assert_eq!(errors(&zero, internal()), [(AGGREGATOR, AttributeDiscard, Reason::Value)]);
    assert_eq!(decode(&zero, internal()).aggregator(), None);
}

#[test]
fn a_discarded_attribute_is_not_among_the_values() {
    let more = [
        raw(OPTIONAL, AIGP, &hex("01000b 00000000000000")),
        raw(OPTIONAL_TRANSITIVE, PREFIX_SID, &hex("010006 000000 000001")),
        raw(OPTIONAL, MULTI_EXIT_DISC, &hex("00000007")),
    ];
    let octets = update_with(&more.concat());
    let update = decode(&octets, internal());
    let attributes = update.announcements().next().unwrap().attributes();
    assert_eq!((attributes.aigp, attributes.prefix_sid_label_index), (None, None));
    assert_eq!(attributes.multi_exit_disc, Some(7), "what follows is still read");
}

#[test]
fn wrong_flags_are_treated_as_withdraw_but_for_aigp() {
    // RFC 7606, section 3 c; RFC 7311, section 3.
    let values: [(u8, u8, &str); 16] = [
        (TRANSITIVE, LOCAL_PREF, "00000064"),
        (TRANSITIVE, ATOMIC_AGGREGATE, ""),
        (OPTIONAL, MULTI_EXIT_DISC, "00000001"),
        (OPTIONAL_TRANSITIVE, AGGREGATOR, "0000fbf4 c0000201"),
        (OPTIONAL_TRANSITIVE, COMMUNITIES, "fbf40001"),
        (OPTIONAL, ORIGINATOR_ID, "c0000201"),
        (OPTIONAL, CLUSTER_LIST, "c0000201"),
        (OPTIONAL_TRANSITIVE, EXTENDED_COMMUNITIES, "0002fbf400000001"),
        (OPTIONAL, AIGP, "01000b 0000000000000001"),
        (OPTIONAL_TRANSITIVE, LARGE_COMMUNITY, "0000fbf4 00000001 00000002"),
        (OPTIONAL_TRANSITIVE, ONLY_TO_CUSTOMER, "0000fbf4"),
        (OPTIONAL_TRANSITIVE, PREFIX_SID, "010007 000000 00000001"),
        (OPTIONAL, MP_UNREACH_NLRI, "000201 20 20010db8"),
        (TRANSITIVE, ORIGIN, "00"),
        (TRANSITIVE, AS_PATH, ""),
        (TRANSITIVE, NEXT_HOP, "c0000201"),
    ];
    for (right, type_code, value) in values {
        for wrong in [0, TRANSITIVE, OPTIONAL, OPTIONAL_TRANSITIVE] {
            // The Partial bit and the reserved ones are not compared.
            for others in [0, 0x20, 0x0f] {
                let octets = instead_of(type_code, &raw(wrong | others, type_code, &hex(value)));
                let handling = if type_code == AIGP { AttributeDiscard } else { TreatAsWithdraw };
                let expected = (wrong != right).then_some((type_code, handling, Reason::Flags));
                assert_eq!(
                    errors(&octets, internal()),
                    expected.into_iter().collect::<Vec<_>>(),
                    "{type_code} with {wrong:#x}"
                );
            }
        }
    }
}

#[test]
fn what_an_external_peer_has_no_right_to_send_is_discarded() {
    // RFC 7606, sections 7.5, 7.9 and 7.10: discarded whatever is in it.
    for (flags, type_code, value) in [
        (TRANSITIVE, LOCAL_PREF, "00000064"),
        (TRANSITIVE, LOCAL_PREF, "00"),
        (OPTIONAL, ORIGINATOR_ID, "c0000201"),
        (OPTIONAL, ORIGINATOR_ID, ""),
        (OPTIONAL, CLUSTER_LIST, "c0000201"),
        (OPTIONAL, CLUSTER_LIST, "c0"),
    ] {
        let octets = update_with(&raw(flags, type_code, &hex(value)));
        assert_eq!(errors(&octets, external()), [(type_code, AttributeDiscard, Reason::NotExpected)]);
        let update = decode(&octets, external());
        let attributes = update.announcements().next().unwrap().attributes();
        assert_eq!((attributes.local_pref, attributes.originator_id), (None, None));
        assert_eq!(update.cluster_list().count(), 0);
    }
    // RFC 6793, section 6: between two speakers of four-octet numbers.
    for (type_code, value) in [(AS4_PATH, "0201 0000fbf4"), (AS4_AGGREGATOR, "0000fbf4 c0000201")] {
        let octets = update_with(&raw(OPTIONAL_TRANSITIVE, type_code, &hex(value)));
        assert_eq!(errors(&octets, internal()), [(type_code, AttributeDiscard, Reason::NotExpected)]);
    }
}

#[test]
fn a_confederation_in_the_path_of_an_external_peer_is_treated_as_withdraw() {
    // RFC 5065, section 5.
    for path in ["0301 0000fc00", "0401 0000fc00", "0201 0000fbf4 0301 0000fc00"] {
        let octets = instead_of(AS_PATH, &raw(TRANSITIVE, AS_PATH, &hex(path)));
        assert_eq!(errors(&octets, internal()), []);
        assert_eq!(errors(&octets, external()), [(AS_PATH, TreatAsWithdraw, Reason::NotExpected)]);
    }
}

#[test]
fn malformed_four_octet_attributes_on_a_two_octet_session_are_discarded() {
    // RFC 6793, section 6.
    let path = raw(TRANSITIVE, AS_PATH, &hex("0202 5ba0 fbf4"));
    for (type_code, value, reason) in [
        (AS4_PATH, "", Reason::Length),
        (AS4_PATH, "0201 0000fb", Reason::Length),
        (AS4_PATH, "0200", Reason::Length),
        (AS4_PATH, "0901 0000fbf4", Reason::Value),
        (AS4_PATH, "0201 00000000", Reason::Value),
        (AS4_AGGREGATOR, "fbf4 c0000201", Reason::Length),
        (AS4_AGGREGATOR, "00000000 c0000201", Reason::Value),
    ] {
        let octets =
            instead_of(AS_PATH, &[path.clone(), raw(OPTIONAL_TRANSITIVE, type_code, &hex(value))].concat());
        assert_eq!(
            errors(&octets, two_octets()),
            [(type_code, AttributeDiscard, reason)],
            "{type_code} {value}"
        );
        let update = decode(&octets, two_octets());
        let attributes = update.announcements().next().unwrap().attributes();
        assert_eq!(attributes.as_path.to_string(), "23456 64500");
    }
}

#[test]
fn missing_mandatory_attributes_are_treated_as_withdraw() {
    // RFC 7606, section 3 d.
    for type_code in [ORIGIN, AS_PATH, NEXT_HOP] {
        let octets = instead_of(type_code, &[]);
        assert_eq!(errors(&octets, external()), [(type_code, TreatAsWithdraw, Reason::Missing)]);
    }
    // MP_REACH_NLRI has its own next hop.
    let multiprotocol = body(&[], &[mp_reach_ipv6(), origin(), as_path()].concat(), &[]);
    assert_eq!(errors(&multiprotocol, internal()), []);
    let multiprotocol = body(&[], &mp_reach_ipv6(), &[]);
    let missing = |type_code| (type_code, TreatAsWithdraw, Reason::Missing);
    assert_eq!(errors(&multiprotocol, internal()), [missing(ORIGIN), missing(AS_PATH)]);
    // Withdrawals need no attributes.
    assert_eq!(errors(&body(&NET_10, &[], &[]), internal()), []);
}

#[test]
fn of_two_equal_attributes_the_first_one_counts() {
    // RFC 7606, section 3 g; the second one is not even looked at.
    let med = |value: &str| raw(OPTIONAL, MULTI_EXIT_DISC, &hex(value));
    for second in ["00000009", "00"] {
        let octets = update_with(&[med("00000005"), med(second)].concat());
        assert_eq!(errors(&octets, internal()), [(MULTI_EXIT_DISC, AttributeDiscard, Reason::Duplicate)]);
        let update = decode(&octets, internal());
        assert_eq!(update.announcements().next().unwrap().attributes().multi_exit_disc, Some(5));
    }
    let unknown = raw(OPTIONAL_TRANSITIVE, 99, &[1]);
    let octets = update_with(&[unknown.clone(), unknown].concat());
    assert_eq!(errors(&octets, internal()), [(99, AttributeDiscard, Reason::Duplicate)]);
}

#[test]
fn routes_sent_twice_reset_the_session() {
    // RFC 7606, section 3 g: Malformed Attribute List.
    let unreach = raw(OPTIONAL, MP_UNREACH_NLRI, &hex("000201 20 20010db8"));
    let reach = mp_reach_ipv6();
    assert_eq!(reset(&body(&[], &[unreach.clone(), unreach].concat(), &[]), internal()), (3, 1, vec![]));
    assert_eq!(reset(&update_with(&[reach.clone(), reach].concat()), internal()), (3, 1, vec![]));
}

#[test]
fn an_attribute_over_the_end_leaves_the_routes_withdrawn() {
    // RFC 7606, section 4.
    for cut in ["c0", "c008", "c0080500", "d0080001", "d00800", "d008000501", "40"] {
        let octets = update_with(&hex(cut));
        let type_code = hex(cut).get(1).copied().unwrap_or_default();
        assert_eq!(errors(&octets, internal()), [(type_code, TreatAsWithdraw, Reason::Overrun)], "{cut}");
        assert_eq!(announced(&decode(&octets, internal())), ["IPv4 unicast 10.0.0.0/8"]);
    }
}

#[test]
fn lengths_of_whole_fields_over_the_end_reset_the_session() {
    // RFC 4271, section 6.3: Malformed Attribute List.
    for octets in
        ["", "00", "0000", "000000", "0001 0000", "0000 0001", "ffff 0000", "0000 ffff 400101", "0002 0810"]
    {
        assert_eq!(reset(&hex(octets), internal()), (3, 1, vec![]), "{octets}");
    }
}

#[test]
fn malformed_routes_reset_the_session() {
    // RFC 7606, sections 3 i, 3 j and 5.3; RFC 4271, section 6.3: Invalid Network Field.
    for routes in ["21 0a00000000", "ff 0a", "08", "20 0a0000", "08 0a 18 0a00"] {
        let routes = hex(routes);
        assert_eq!(reset(&body(&[], &with_mandatory(&[]), &routes), internal()), (3, 10, vec![]));
        assert_eq!(reset(&body(&routes, &[], &[]), internal()), (3, 10, vec![]));
    }
    // With Path Identifiers the first octets are not a length.
    let ipv4 = add_path(&[pathflow_bgp::Family::IPV4_UNICAST]);
    for routes in ["00000001", "000001", "00000001 21 0a00000000", "00000001 08 0a 0000"] {
        assert_eq!(reset(&body(&[], &with_mandatory(&[]), &hex(routes)), ipv4), (3, 10, vec![]));
    }
}

#[test]
fn malformed_multiprotocol_attributes_reset_the_session_and_are_quoted() {
    // RFC 7606, sections 5.3, 7.11 and 7.12; RFC 4760, section 7: Optional Attribute Error.
    let next_hop = "10 20010db8000000000000000000000001";
    let reach = [
        String::new(),
        "00".into(),
        "0002".into(),
        "000201".into(),
        "000201 10 2001".into(),
        format!("000201 {next_hop}"),
        format!("000201 {next_hop} 00 81 20010db8000000000000000000000001 00"),
        format!("000201 {next_hop} 00 20 20010d"),
        "000201 00 00 20 20010db8".into(),
        "000201 05 0102030405 00 20 20010db8".into(),
        "000101 0f 20010db80000000000000000000000 00 08 0a".into(),
        "000180 0c 0000000000000000c0000201 00 57 00001 1 0000000000000000".into(),
        "000104 04 c0000201 00 17 00001 1".into(),
        "000104 04 c0000201 00 39 00001 1 0a00000000".into(),
    ];
    for value in reach {
        let attribute = raw(OPTIONAL, MP_REACH_NLRI, &hex(&value));
        let octets = body(&[], &[origin(), as_path(), attribute.clone()].concat(), &[]);
        assert_eq!(reset(&octets, internal()), (3, 9, attribute), "{value}");
    }
    for value in
        ["", "0002", "000201 81 20010db8000000000000000000000001 00", "000201 20 20010d", "000104 08 80"]
    {
        let attribute = raw(OPTIONAL, MP_UNREACH_NLRI, &hex(value));
        assert_eq!(reset(&body(&[], &attribute, &[]), internal()), (3, 9, attribute), "{value}");
    }
}

#[test]
fn a_multicast_next_hop_in_mp_reach_is_treated_as_withdraw() {
    for value in ["000101 04 e0000001 00 08 0a", "000201 10 ff020000000000000000000000000001 00 20 20010db8"]
    {
        let attributes = [origin(), as_path(), raw(OPTIONAL, MP_REACH_NLRI, &hex(value))].concat();
        let octets = body(&[], &attributes, &[]);
        assert_eq!(errors(&octets, internal()), [(MP_REACH_NLRI, TreatAsWithdraw, Reason::Value)]);
    }
}

#[test]
fn a_zero_next_hop_is_a_monitored_routers_own_route() {
    // RFC 9069: the Loc-RIB has the router's own routes.
    let monitored = SessionContext { monitored: true, ..internal() };
    let octets = instead_of(NEXT_HOP, &raw(TRANSITIVE, NEXT_HOP, &[0; 4]));
    assert_eq!(errors(&octets, monitored), []);
}

#[test]
fn an_unrecognized_well_known_attribute_resets_the_session() {
    // RFC 4271, section 6.3: Unrecognized Well-known Attribute, with the attribute.
    let attribute = raw(TRANSITIVE, 99, &[1, 2, 3]);
    assert_eq!(reset(&update_with(&attribute), internal()), (3, 2, attribute));
}

#[test]
fn without_routes_a_malformed_attribute_resets_the_session() {
    // RFC 7606, section 5.2: the routes may have been lost in it. Subcodes and data: RFC 4271, section 6.3.
    let origin_9 = raw(TRANSITIVE, ORIGIN, &[9]);
    let flags = raw(OPTIONAL, ORIGIN, &[0]);
    let long_med = raw(OPTIONAL, MULTI_EXIT_DISC, &[0; 5]);
    let zero_hop = raw(TRANSITIVE, NEXT_HOP, &[0; 4]);
    let path = raw(TRANSITIVE, AS_PATH, &hex("0501 0000fbf4"));
    let cases = [
        (origin_9.clone(), 6, origin_9),
        (flags.clone(), 4, flags),
        (long_med.clone(), 5, long_med),
        (zero_hop.clone(), 8, zero_hop),
        (path, 11, vec![]),
        (hex("c00805"), 1, vec![]),
    ];
    for (attribute, subcode, data) in cases {
        assert_eq!(reset(&body(&[], &attribute, &[]), internal()), (3, subcode, data.clone()));
        // Withdrawals beside it do not help.
        assert_eq!(reset(&body(&NET_10, &attribute, &[]), internal()), (3, subcode, data));
    }
    // Attribute discard is no reason.
    let aggregate = raw(TRANSITIVE, ATOMIC_AGGREGATE, &[0]);
    assert_eq!(
        errors(&body(&[], &aggregate, &[]), internal()),
        [(ATOMIC_AGGREGATE, AttributeDiscard, Reason::Length)]
    );
    // Nor is MP_UNREACH_NLRI alone, even with wrong flags.
    let unreach = raw(OPTIONAL_TRANSITIVE, MP_UNREACH_NLRI, &hex("000201 20 20010db8"));
    assert_eq!(withdrawn(&decode(&body(&[], &unreach, &[]), internal())), ["IPv6 unicast 2001:db8::/32"]);
}

#[test]
fn the_worst_error_counts_and_the_list_is_bounded() {
    // RFC 7606, section 3 h.
    let mut more = [raw(TRANSITIVE, ATOMIC_AGGREGATE, &[0]), raw(OPTIONAL, MULTI_EXIT_DISC, &[0])].concat();
    (100..112).for_each(|type_code| {
        more.extend([raw(OPTIONAL, type_code, &[]), raw(OPTIONAL, type_code, &[])].concat());
    });
    let octets = update_with(&more);
    let update = decode(&octets, internal());
    assert_eq!(update.handling(), Some(TreatAsWithdraw));
    assert_eq!((update.errors().len(), update.errors_omitted()), (8, 6));
    let line = update.errors()[1].to_string();
    assert_eq!(line, "MULTI_EXIT_DISC: wrong length, treat-as-withdraw");
}
