//! Messages by hand.

use pathflow_bgp::error::{AttributeErrorReason, ErrorHandling, NotificationError};
use pathflow_bgp::iana::attribute;
use pathflow_bgp::wire::{AsNumberSize, FamilySet, SessionContext, Update};
use pathflow_bgp::{Family, Nlri};

/// Attribute Flags.
pub(crate) const TRANSITIVE: u8 = 0x40;
pub(crate) const OPTIONAL: u8 = 0x80;
pub(crate) const OPTIONAL_TRANSITIVE: u8 = 0xc0;

/// 10.0.0.0/8.
pub(crate) const NET_10: [u8; 2] = [8, 10];

pub(crate) fn internal() -> SessionContext {
    SessionContext::default()
}

pub(crate) fn external() -> SessionContext {
    SessionContext { internal: false, ..SessionContext::default() }
}

pub(crate) fn two_octets() -> SessionContext {
    SessionContext { as_numbers: AsNumberSize::TwoOctets, ..SessionContext::default() }
}

pub(crate) fn add_path(families: &[Family]) -> SessionContext {
    SessionContext { add_path: families.iter().copied().collect::<FamilySet>(), ..SessionContext::default() }
}

/// Octets from hexadecimal digits; what is no digit is skipped.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// One attribute in its frame.
pub(crate) fn raw(flags: u8, type_code: u8, value: &[u8]) -> Vec<u8> {
    if let Ok(length) = u8::try_from(value.len()) {
        [&[flags, type_code, length], value].concat()
    } else {
        let length = (value.len() as u16).to_be_bytes();
        [&[flags | 0x10, type_code], length.as_slice(), value].concat()
    }
}

/// What follows the header of an UPDATE.
pub(crate) fn body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = |octets: &[u8]| (octets.len() as u16).to_be_bytes();
    [&length(withdrawn), withdrawn, &length(attributes), attributes, nlri].concat()
}

pub(crate) fn origin() -> Vec<u8> {
    raw(TRANSITIVE, attribute::ORIGIN, &[0])
}

/// AS_PATH 64500 64501, in four octets.
pub(crate) fn as_path() -> Vec<u8> {
    raw(TRANSITIVE, attribute::AS_PATH, &hex("02 02 0000fbf4 0000fbf5"))
}

/// NEXT_HOP 192.0.2.1.
pub(crate) fn next_hop() -> Vec<u8> {
    raw(TRANSITIVE, attribute::NEXT_HOP, &[192, 0, 2, 1])
}

/// The mandatory attributes, then more.
pub(crate) fn with_mandatory(more: &[u8]) -> Vec<u8> {
    [origin(), as_path(), next_hop(), more.to_vec()].concat()
}

/// An UPDATE of 10.0.0.0/8 with the mandatory attributes and more.
pub(crate) fn update_with(more: &[u8]) -> Vec<u8> {
    body(&[], &with_mandatory(more), &NET_10)
}

/// `MP_REACH_NLRI` of IPv6 unicast `2001:db8::/32` by way of `2001:db8::1`.
pub(crate) fn mp_reach_ipv6() -> Vec<u8> {
    raw(OPTIONAL, 14, &hex("0002 01 10 20010db8000000000000000000000001 00 20 20010db8"))
}

pub(crate) fn decode(body: &[u8], context: SessionContext) -> Update<'_> {
    Update::decode(body, &context).unwrap()
}

/// What is found wrong in an UPDATE that leaves the session up.
pub(crate) fn errors(body: &[u8], context: SessionContext) -> Vec<(u8, ErrorHandling, AttributeErrorReason)> {
    let update = decode(body, context);
    update.errors().iter().map(|error| (error.type_code, error.handling, error.reason)).collect()
}

/// Code, subcode and data of the NOTIFICATION that an UPDATE gives.
pub(crate) fn reset(body: &[u8], context: SessionContext) -> (u8, u8, Vec<u8>) {
    codes(&Update::decode(body, &context).unwrap_err())
}

pub(crate) fn codes(error: &NotificationError) -> (u8, u8, Vec<u8>) {
    (error.notification.code, error.notification.subcode, error.notification.data.to_vec())
}

pub(crate) fn announced(update: &Update<'_>) -> Vec<String> {
    update.announced().map(text).collect()
}

pub(crate) fn withdrawn(update: &Update<'_>) -> Vec<String> {
    update.withdrawn().map(text).collect()
}

/// `family prefix`, and what else the route is named by.
fn text((family, nlri): (Family, Nlri)) -> String {
    let parts = [
        Some(format!("{family} {}", nlri.prefix)),
        (nlri.path_id != 0).then(|| format!("id {}", nlri.path_id)),
        nlri.route_distinguisher.map(|distinguisher| format!("rd {distinguisher}")),
        nlri.label.map(|label| format!("label {}", label.value())),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
