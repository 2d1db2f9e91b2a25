//! Synthetic frames: one valid Ethernet frame, and what is needed to make many flows of it.
//!
//! The flows of a frame differ in four octets: the last four of the source address. Everything else
//! stays, and the checksums that cover these octets follow them, so that every frame is valid.

/// Octets of an Ethernet header without tags.
const ETHERNET_OCTETS: usize = 14;
const TAG_OCTETS: usize = 4;
const IPV4_OCTETS: usize = 20;
const IPV6_OCTETS: usize = 40;
const UDP_OCTETS: usize = 8;
const TCP_OCTETS: usize = 20;

/// Shortest Ethernet frame without its check sequence.
pub const MIN_OCTETS: usize = 60;
/// Longest frame without its check sequence: the usual MTU of 1500, and one tag.
pub const MAX_OCTETS: usize = 1518;

const UDP: u8 = 17;
const TCP: u8 = 6;

/// Network layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// From `10.0.0.0` + flow to `198.18.0.1`, an address for benchmarks (RFC 2544).
    Ipv4,
    /// From `2001:2:0:1::` + flow to `2001:2:0:2::1`, addresses for benchmarks (RFC 5180).
    Ipv6,
}

/// Transport layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Port 1024 to the discard port.
    Udp,
    /// Port 1024 to the discard port, control bits ACK and PSH.
    Tcp,
}

/// What frame to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSettings {
    /// Network layer.
    pub family: Family,
    /// Transport layer.
    pub transport: Transport,
    /// Length of the frame without its check sequence.
    pub octets: usize,
    /// VLAN identifier of a customer tag (0x8100), if there is to be one.
    pub vlan_id: Option<u16>,
    /// Ethernet destination address.
    pub destination: [u8; 6],
}

impl Default for FrameSettings {
    /// IPv4 and UDP in 64 octets, to a locally administered address that nobody has.
    fn default() -> Self {
        Self {
            family: Family::Ipv4,
            transport: Transport::Udp,
            octets: 64,
            vlan_id: None,
            destination: [0x02, 0, 0, 0, 0, 0x02],
        }
    }
}

/// The frame cannot have this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of this kind has {minimum} to {MAX_OCTETS} octets, not {octets}")]
pub struct FrameLengthError {
    /// As asked for.
    pub octets: usize,
    /// Octets of the headers, or of the shortest Ethernet frame.
    pub minimum: usize,
}

/// A checksum that covers the octets by which flows differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// Where it is in the frame; 0 if there is none.
    pub offset: u32,
    /// One's complement sum of everything it covers but these octets, 16 bits.
    pub others: u32,
}

/// A frame of which many flows can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    octets: Vec<u8>,
    network_offset: usize,
    flow_offset: usize,
    flow_base: u32,
    checksums: [Checksum; 2],
}

impl Frame {
    /// Makes the frame of flow 0.
    ///
    /// # Errors
    /// If its headers do not fit the wanted length, or it is longer than [`MAX_OCTETS`].
    pub fn new(settings: &FrameSettings) -> Result<Self, FrameLengthError> {
        let FrameSettings { family, transport, octets, vlan_id, destination } = *settings;
        let network_offset = ETHERNET_OCTETS + vlan_id.map_or(0, |_| TAG_OCTETS);
        let (ether_type, network_octets): (u16, _) = match family {
            Family::Ipv4 => (0x0800, IPV4_OCTETS),
            Family::Ipv6 => (0x86dd, IPV6_OCTETS),
        };
        let (protocol, transport_octets) = match transport {
            Transport::Udp => (UDP, UDP_OCTETS),
            Transport::Tcp => (TCP, TCP_OCTETS),
        };
        let headers = network_offset + network_octets + transport_octets;
        let minimum = headers.max(MIN_OCTETS);
        if !(minimum..=MAX_OCTETS).contains(&octets) {
            return Err(FrameLengthError { octets, minimum });
        }
        let payload_octets = octets - network_offset - network_octets;

        let mut frame = Vec::with_capacity(octets);
        frame.extend(destination);
        frame.extend([0x02, 0, 0, 0, 0, 0x01]);
        if let Some(vlan_id) = vlan_id {
            frame.extend(0x8100_u16.to_be_bytes());
            frame.extend((vlan_id & 0xfff).to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        let (flow_offset, flow_base) = match family {
            Family::Ipv4 => {
                frame.extend([0x45, 0]);
                frame.extend(((IPV4_OCTETS + payload_octets) as u16).to_be_bytes());
                // Identification 0, do not fragment, time to live 64, checksum later.
                frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend([10, 0, 0, 0, 198, 18, 0, 1]);
                (network_offset + 12, 0x0a00_0000)
            }
            Family::Ipv6 => {
                frame.extend([0x60, 0, 0, 0]);
                frame.extend((payload_octets as u16).to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(address(0x2001_0002_0000_0001, 0));
                frame.extend(address(0x2001_0002_0000_0002, 1));
                (network_offset + 8 + 12, 0)
            }
        };
        let transport_offset = network_offset + network_octets;
        frame.extend(1024_u16.to_be_bytes());
        frame.extend(9_u16.to_be_bytes());
        match transport {
            Transport::Udp => frame.extend((payload_octets as u16).to_be_bytes()),
            // Sequence and acknowledgement number 0, five words of header, ACK and PSH, window 65535.
            Transport::Tcp => frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 0xff, 0xff]),
        }
        frame.resize(octets, 0);

        let mut made = Self {
            octets: frame,
            network_offset,
            flow_offset,
            flow_base,
            checksums: [Checksum::default(); 2],
        };
        made.set_checksums(family, transport, protocol, transport_offset);
        Ok(made)
    }

    fn set_checksums(&mut self, family: Family, transport: Transport, protocol: u8, transport_offset: usize) {
        // Until now the checksum fields are zero, and so is flow 0 but for its base, which is taken out.
        let base = sum(&self.flow_base.to_be_bytes());
        let payload = &self.octets[transport_offset..];
        let addresses = match family {
            Family::Ipv4 => &self.octets[transport_offset - 8..transport_offset],
            Family::Ipv6 => &self.octets[transport_offset - 32..transport_offset],
        };
        let pseudo_header = sum(addresses) + u64::from(protocol) + payload.len() as u64;
        let offset = transport_offset
            + match transport {
                Transport::Udp => 6,
                Transport::Tcp => 16,
            };
        let mut checksums = [
            Checksum { offset: offset as u32, others: fold(pseudo_header + sum(payload) - base) },
            Checksum::default(),
        ];
        if family == Family::Ipv4 {
            let header = &self.octets[self.network_offset..transport_offset];
            checksums[1] =
                Checksum { offset: self.network_offset as u32 + 10, others: fold(sum(header) - base) };
        }
        for checksum in checksums.iter().filter(|checksum| checksum.offset != 0) {
            let value = match !(fold(u64::from(checksum.others) + base) as u16) {
                // 0 says "no checksum" in UDP; its other form is right everywhere.
                0 => 0xffff,
                value => value,
            };
            self.octets[checksum.offset as usize..][..2].copy_from_slice(&value.to_be_bytes());
        }
        self.checksums = checksums;
    }

    /// The frame of flow 0, from the Ethernet destination address, without the check sequence.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The frame of another flow, as the kernel program makes it.
    #[must_use]
    pub fn flow(&self, flow: u32) -> Vec<u8> {
        let mut octets = self.octets.clone();
        let value = self.flow_base.wrapping_add(flow);
        octets[self.flow_offset..][..4].copy_from_slice(&value.to_be_bytes());
        for Checksum { offset, others } in self.checksums.iter().filter(|checksum| checksum.offset != 0) {
            let sum = fold(u64::from(*others) + u64::from(value >> 16) + u64::from(value & 0xffff));
            let checksum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
            octets[*offset as usize..][..2].copy_from_slice(&checksum.to_be_bytes());
        }
        octets
    }

    /// Layer 3 octets: what the frame adds to its flow.
    #[must_use]
    pub fn ip_octets(&self) -> u64 {
        (self.octets.len() - self.network_offset) as u64
    }

    /// Offset of the four octets by which the flows differ.
    #[must_use]
    pub fn flow_offset(&self) -> u32 {
        self.flow_offset as u32
    }

    /// Value of these octets in flow 0, to which the number of the flow is added.
    #[must_use]
    pub fn flow_base(&self) -> u32 {
        self.flow_base
    }

    /// The checksums that have to follow these octets.
    #[must_use]
    pub fn checksums(&self) -> [Checksum; 2] {
        self.checksums
    }
}

fn address(high: u64, low: u64) -> [u8; 16] {
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// Sum of the 16-bit words; a last odd octet is the high half of a word.
fn sum(octets: &[u8]) -> u64 {
    octets.chunks(2).map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0))).sum()
}

/// The one's complement sum in 16 bits.
fn fold(mut sum: u64) -> u32 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u32
}

/// The Internet checksum (RFC 1071) of octets in which the checksum's own are zero.
pub(crate) fn internet_checksum(octets: &[u8]) -> u16 {
    !(fold(sum(octets)) as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn all() -> impl Iterator<Item = FrameSettings> {
        let families = [Family::Ipv4, Family::Ipv6];
        let transports = [Transport::Udp, Transport::Tcp];
        families.into_iter().flat_map(move |family| {
            transports.into_iter().flat_map(move |transport| {
                [None, Some(7)].into_iter().flat_map(move |vlan_id| {
                    [78, 79, 128, 1518].map(|octets| FrameSettings {
                        family,
                        transport,
                        octets,
                        vlan_id,
                        ..FrameSettings::default()
                    })
                })
            })
        })
    }

    fn assert_valid(octets: &[u8], settings: &FrameSettings) {
        let packet = SlicedPacket::from_ethernet(octets).unwrap();
        assert_eq!(packet.vlan_ids().first().map(|id| id.value()), settings.vlan_id);
        let checksum = match (packet.net.unwrap(), packet.transport.unwrap()) {
            (NetSlice::Ipv4(ip), transport) => {
                assert_eq!(settings.family, Family::Ipv4);
                let header = ip.header().to_header();
                assert_eq!(header.calc_header_checksum(), header.header_checksum);
                match transport {
                    TransportSlice::Udp(udp) => {
                        (udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap(), udp.checksum())
                    }
                    TransportSlice::Tcp(tcp) => {
                        (tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap(), tcp.checksum())
                    }
                    other => panic!("{other:?}"),
                }
            }
            (NetSlice::Ipv6(ip), transport) => {
                assert_eq!(settings.family, Family::Ipv6);
                let header = ip.header().to_header();
                match transport {
                    TransportSlice::Udp(udp) => {
                        (udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap(), udp.checksum())
                    }
                    TransportSlice::Tcp(tcp) => {
                        (tcp.to_header().calc_checksum_ipv6(&header, tcp.payload()).unwrap(), tcp.checksum())
                    }
                    other => panic!("{other:?}"),
                }
            }
            (other, _) => panic!("{other:?}"),
        };
        assert_eq!(checksum.0, checksum.1, "{settings:?}");
    }

    #[test]
    fn frames_and_their_flows_are_valid() {
        for settings in all() {
            let frame = Frame::new(&settings).unwrap();
            assert_eq!(frame.octets().len(), settings.octets);
            assert_valid(frame.octets(), &settings);
            assert_eq!(frame.flow(0), frame.octets(), "{settings:?}");
            for number in [1, 255, 65_535, 65_536, 1_000_000, 0x00ff_ffff] {
                assert_valid(&frame.flow(number), &settings);
            }
        }
    }

    #[test]
    fn the_default_is_64_octets_from_10_0_0_0() {
        let frame = Frame::new(&FrameSettings::default()).unwrap();
        assert_eq!((frame.octets().len(), frame.ip_octets()), (64, 50));
        assert_eq!(frame.octets()[26..34], [10, 0, 0, 0, 198, 18, 0, 1]);
        assert_eq!((frame.flow_offset(), frame.flow_base()), (26, 0x0a00_0000));
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        let refused = |family, transport, octets| {
            let settings = FrameSettings { family, transport, octets, ..FrameSettings::default() };
            Frame::new(&settings).unwrap_err().minimum
        };
        assert_eq!(refused(Family::Ipv4, Transport::Udp, 59), 60);
        assert_eq!(refused(Family::Ipv6, Transport::Udp, 61), 62);
        assert_eq!(refused(Family::Ipv6, Transport::Tcp, 73), 74);
        assert_eq!(refused(Family::Ipv4, Transport::Tcp, 1519), 60);
    }
}
