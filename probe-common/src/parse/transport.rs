//! Ports, TCP control bits, ICMP type and code.

use crate::PacketBytes;

const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Octets of a UDP header.
pub(super) const UDP_OCTETS: usize = 8;
/// Octets of a TCP header as far as it is read.
pub(super) const TCP_OCTETS: usize = TCP_WORD_OFFSET + 2;
/// Where it has its length and control bits.
pub(super) const TCP_WORD_OFFSET: usize = 12;

/// What the transport header gives. All zero if the protocol has no ports or the header is cut: the
/// packet is still accounted, by its addresses and protocol.
#[derive(Clone, Copy, Default)]
pub(super) struct Transport {
    /// As in [`KeyFields::ports`](crate::flow::KeyFields::ports).
    pub(super) ports: [u8; 4],
    /// RFC 7125.
    pub(super) tcp_control_bits: u16,
    /// Octets of the header, for the protocols that the kernel segments: TCP and UDP.
    pub(super) header_octets: u16,
}

impl Transport {
    /// Of UDP.
    #[inline(always)]
    pub(super) const fn udp(ports: [u8; 4]) -> Self {
        Self { ports, tcp_control_bits: 0, header_octets: UDP_OCTETS as u16 }
    }

    /// Of TCP; `word` is at [`TCP_WORD_OFFSET`]: length of the header and control bits.
    #[inline(always)]
    pub(super) const fn tcp(ports: [u8; 4], word: [u8; 2]) -> Self {
        let word = u16::from_be_bytes(word);
        Self { ports, tcp_control_bits: word & 0x0fff, header_octets: word >> 12 << 2 }
    }
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
                && offset + TCP_OCTETS <= end
                && let Some(word) = packet.read::<2>(offset + TCP_WORD_OFFSET)
            {
                return Transport::tcp(ports, word);
            }
            if protocol == UDP {
                return Transport::udp(ports);
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
