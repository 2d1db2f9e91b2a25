//! IPv6 extension headers, put together octet by octet.

use crate::support::ipv6_frame;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// Protocol number of an extension header and its octets, of which the first is set later.
pub(crate) type Extension = (u8, Vec<u8>);

/// One whose length is in units of eight octets, not counting the first; filled with what is no port.
pub(crate) fn options(number: u8, units: u8) -> Extension {
    let mut octets = vec![0xee; 8 * (usize::from(units) + 1)];
    octets[1] = units;
    (number, octets)
}

/// Authentication header: length in units of four octets, less two.
pub(crate) fn authentication(value_octets: usize) -> Extension {
    let mut octets = vec![0xee; 12 + value_octets];
    octets[1] = (octets.len() / 4 - 2) as u8;
    (AUTHENTICATION, octets)
}

/// Fragment header; the lowest bit of the first value says that more follow.
pub(crate) fn fragment(offset_and_flags: u16, identification: u32) -> Extension {
    let [high, low] = offset_and_flags.to_be_bytes();
    // The second octet is reserved, and must not be taken for a length.
    let [a, b, c, d] = identification.to_be_bytes();
    (FRAGMENT, vec![0, 0xff, high, low, a, b, c, d])
}

/// The frame of an IPv6 packet with these extension headers, in this order.
pub(crate) fn extended(extensions: &[Extension], protocol: u8, transport: &[u8]) -> Vec<u8> {
    let following = extensions.iter().skip(1).map(|(number, _)| *number).chain([protocol]);
    let mut payload = Vec::new();
    for ((_, octets), next) in extensions.iter().zip(following) {
        payload.push(next);
        payload.extend(&octets[1..]);
    }
    payload.extend(transport);
    ipv6_frame(extensions.first().map_or(protocol, |(number, _)| *number), &payload)
}
