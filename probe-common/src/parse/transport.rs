//! Ports, TCP control bits, ICMP type and code.

use crate::PacketBytes;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// What the transport header gives. All zero if the protocol has no ports or the header is cut: the
/// packet is still accounted, by its addresses and protocol.
#[derive(Clone, Copy, Default)]
pub(super) struct Transport {
    /// As in [`KeyFields::ports`](crate::flow::KeyFields::ports).
    pub(super) ports: [u8; 4],
    /// RFC 7125.
    pub(super) tcp_control_bits: u16,
}

/// Reads the header at `offset`. What lies at `end` and beyond is no longer the packet's: padding.
#[inline(always)]
pub(super) fn parse<P: PacketBytes>(packet: &P, protocol: u8, offset: usize, end: usize) -> Transport {
    let mut transport = Transport::default();
    match protocol {
        TCP | UDP | SCTP | UDP_LITE | DCCP => {
            if offset + 4 > end {
                return transport;
            }
            let Some(ports) = packet.read::<4>(offset) else { return transport };
            transport.ports = ports;
            if protocol == TCP
                && offset + 14 <= end
                && let Some(word) = packet.read::<2>(offset + 12)
            {
                transport.tcp_control_bits = u16::from_be_bytes(word) & 0x0fff;
            }
        }
        ICMP | ICMPV6 => {
            if offset + 2 <= end
                && let Some([kind, code]) = packet.read::<2>(offset)
            {
                transport.ports = [0, 0, kind, code];
            }
        }
        _ => {}
    }
    transport
}
