//! Messages that tell codecs apart: well-formed ones that some refuse, malformed ones that some let pass or fall over.
//! Mutations of them are in `differential.rs`.

use pathflow_bgp::Family;
use pathflow_bgp::error::ErrorHandling::{self, AttributeDiscard, TreatAsWithdraw};
use pathflow_bgp::iana::attribute::*;
use pathflow_bgp::wire::{SessionContext, Update};

use crate::support::*;

/// What has to come out.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// So many routes announced, nothing wrong.
    Routes(usize),
    /// The end of a table.
    EndOfRib(Family),
    /// So many routes, with this handling.
    Handled(usize, ErrorHandling),
    /// NOTIFICATION 3 with this subcode.
    Reset(u8),
}

fn outcome(octets: &[u8], context: SessionContext) -> Outcome {
    match Update::decode(octets, &context) {
        Err(error) => Outcome::Reset(error.notification.subcode),
        Ok(update) => match (update.end_of_rib(), update.handling()) {
            (Some(family), None) => Outcome::EndOfRib(family),
            (None, None) => Outcome::Routes(update.announced().count()),
            (None, Some(handling)) => Outcome::Handled(update.announced().count(), handling),
            (Some(_), Some(_)) => unreachable!("an end of a table has nothing to be wrong"),
        },
    }
}

fn reach(value: &str) -> Vec<u8> {
    body(&[], &[raw(OPTIONAL, MP_REACH_NLRI, &hex(value)), origin(), as_path()].concat(), &[])
}

fn with_path(path: &str) -> Vec<u8> {
    body(&[], &[origin(), raw(TRANSITIVE, AS_PATH, &hex(path)), next_hop()].concat(), &NET_10)
}

#[test]
fn messages_that_tell_codecs_apart() {
    let global = "20010db8000000000000000000000001";
    let local = "fe800000000000000000000000000001";
    let plain = internal();
    let both = add_path(&[Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    let one = add_path(&[Family::IPV4_UNICAST]);
    let duplicate =
        [raw(OPTIONAL, MULTI_EXIT_DISC, &[0; 4]), raw(OPTIONAL, MULTI_EXIT_DISC, &[0; 4])].concat();
    let as4 = [
        origin(),
        raw(TRANSITIVE, AS_PATH, &hex("0201 5ba0")),
        next_hop(),
        raw(OPTIONAL_TRANSITIVE, AS4_PATH, &hex("0201 0003f7a0")),
    ]
    .concat();
    let long: Vec<u8> = (0..3_000_u16).flat_map(|net| [24, 10, (net >> 8) as u8, net as u8]).collect();
    let cases = [
        (
            "RFC 8950, next hop of 16",
            reach(&format!("000101 10 {global} 00 08 0a")),
            plain,
            Outcome::Routes(1),
        ),
        (
            "RFC 8950, next hop of 32",
            reach(&format!("000101 20 {global}{local} 00 08 0a")),
            plain,
            Outcome::Routes(1),
        ),
        (
            "IPv6 next hop of 32",
            reach(&format!("000201 20 {global}{local} 00 20 20010db8")),
            plain,
            Outcome::Routes(1),
        ),
        ("End-of-RIB, IPv4", hex("0000 0000"), plain, Outcome::EndOfRib(Family::IPV4_UNICAST)),
        ("End-of-RIB, IPv6", hex("0000 0006 800f03 000201"), plain, Outcome::EndOfRib(Family::IPV6_UNICAST)),
        (
            "unknown attribute",
            update_with(&raw(OPTIONAL_TRANSITIVE, 199, &[1, 2])),
            plain,
            Outcome::Routes(1),
        ),
        (
            "OTC",
            update_with(&raw(OPTIONAL_TRANSITIVE, ONLY_TO_CUSTOMER, &[0, 0, 0, 1])),
            plain,
            Outcome::Routes(1),
        ),
        (
            "AIGP",
            update_with(&raw(OPTIONAL, AIGP, &hex("01000b 0000000000000001"))),
            plain,
            Outcome::Routes(1),
        ),
        (
            "large community",
            update_with(&raw(OPTIONAL_TRANSITIVE, LARGE_COMMUNITY, &[1; 12])),
            plain,
            Outcome::Routes(1),
        ),
        ("extended message of 12 kB", body(&[], &with_mandatory(&[]), &long), plain, Outcome::Routes(3_000)),
        ("0/0", body(&[], &with_mandatory(&[]), &[0]), plain, Outcome::Routes(1)),
        (
            "ADD-PATH IPv4",
            body(&[], &with_mandatory(&[]), &hex("00000001 08 0a 00000002 08 0a")),
            one,
            Outcome::Routes(2),
        ),
        (
            "ADD-PATH IPv6",
            reach(&format!("000201 10 {global} 00 00000001 20 20010db8")),
            both,
            Outcome::Routes(1),
        ),
        ("ADD-PATH IPv4 only", reach(&format!("000201 10 {global} 00 20 20010db8")), one, Outcome::Routes(1)),
        ("AS4_PATH", body(&[], &as4, &NET_10), two_octets(), Outcome::Routes(1)),
        ("AS_CONFED_SEQUENCE", with_path("0301 0000fc00 0201 0000fbf4"), plain, Outcome::Routes(1)),
        (
            "COMMUNITIES of 5 octets",
            update_with(&raw(OPTIONAL_TRANSITIVE, COMMUNITIES, &[0; 5])),
            plain,
            Outcome::Handled(1, TreatAsWithdraw),
        ),
        (
            "MED with wrong flags",
            update_with(&raw(TRANSITIVE, MULTI_EXIT_DISC, &[0; 4])),
            plain,
            Outcome::Handled(1, TreatAsWithdraw),
        ),
        (
            "AGGREGATOR of 6 octets",
            update_with(&raw(OPTIONAL_TRANSITIVE, AGGREGATOR, &[1; 6])),
            plain,
            Outcome::Handled(1, AttributeDiscard),
        ),
        (
            "ORIGIN 9",
            body(&[], &[raw(TRANSITIVE, ORIGIN, &[9]), as_path(), next_hop()].concat(), &NET_10),
            plain,
            Outcome::Handled(1, TreatAsWithdraw),
        ),
        ("AS_PATH over its end", with_path("0203 0000fbf4"), plain, Outcome::Handled(1, TreatAsWithdraw)),
        (
            "no ORIGIN",
            body(&[], &[as_path(), next_hop()].concat(), &NET_10),
            plain,
            Outcome::Handled(1, TreatAsWithdraw),
        ),
        ("MED twice", update_with(&duplicate), plain, Outcome::Handled(1, AttributeDiscard)),
        ("NLRI /33", body(&[], &with_mandatory(&[]), &hex("21 0a00000000")), plain, Outcome::Reset(10)),
        (
            "host bits: 10.1.47/20",
            body(&[], &with_mandatory(&[]), &hex("14 0a012f")),
            plain,
            Outcome::Routes(1),
        ),
    ];
    for (name, octets, context, expected) in cases {
        assert_eq!(outcome(&octets, context), expected, "{name}");
    }
}
