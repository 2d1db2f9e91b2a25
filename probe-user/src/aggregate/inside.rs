//! The packet inside a tunnel, as values of rows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pathflow_common::extension::InnerPacket;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Source and destination of the packet inside a tunnel, if there is one.
pub(super) fn addresses(inner: &InnerPacket) -> Option<(IpAddr, IpAddr)> {
    let words = inner.addresses.map(u64::to_ne_bytes);
    match inner.ether_type {
        ETHERTYPE_IPV4 => {
            let ([source, destination], []) = words[0].as_chunks::<4>() else { return None };
            Some((Ipv4Addr::from(*source).into(), Ipv4Addr::from(*destination).into()))
        }
        ETHERTYPE_IPV6 => {
            let ([source, destination], []) = words.as_flattened().as_chunks::<16>() else { return None };
            Some((Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into()))
        }
        _ => None,
    }
}

/// Source and destination port of the packet inside a tunnel.
pub(super) fn ports(inner: &InnerPacket) -> (u16, u16) {
    let [s0, s1, d0, d1] = inner.ports;
    match inner.protocol {
        TCP | UDP => (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1])),
        _ => (0, 0),
    }
}
