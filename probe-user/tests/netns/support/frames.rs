//! Frames made by hand, each field a known value, and capture files to send them from.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Neither end of the link: nobody answers.
const MAC_ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Upper {
    /// Ports and control bits.
    Tcp(u16, u16, u8),
    /// Ports.
    Udp(u16, u16),
    /// Type and code; ICMP or `ICMPv6`, as the addresses are.
    Icmp(u8, u8),
}

/// A packet in a frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Tags from the outside in: protocol identifier and VLAN identifier.
    pub(crate) tags: Vec<(u16, u16)>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) class_of_service: u8,
    pub(crate) upper: Upper,
    /// Octets behind the transport header.
    pub(crate) payload: u16,
}

impl Frame {
    /// A packet between two addresses of one family, without payload.
    pub(crate) fn new(source: &str, destination: &str, upper: Upper) -> Self {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Self { tags: Vec::new(), source, destination, class_of_service: 0, upper, payload: 0 }
    }

    /// Under a tag with this control information: VLAN identifier in the low 12 bits, priority in the high 3.
    pub(crate) fn tag(mut self, protocol: u16, control_information: u16) -> Self {
        self.tags.push((protocol, control_information));
        self
    }

    pub(crate) fn class_of_service(mut self, class_of_service: u8) -> Self {
        self.class_of_service = class_of_service;
        self
    }

    pub(crate) fn payload(mut self, octets: u16) -> Self {
        self.payload = octets;
        self
    }

    /// Octets of its IP packet.
    pub(crate) fn ip_octets(&self) -> u64 {
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        header + self.transport().len() as u64 + u64::from(self.payload)
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut frame = MAC_ADDRESSES.to_vec();
        for (protocol, vlan_id) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(vlan_id.to_be_bytes());
        }
        let transport = self.transport();
        let length = transport.len() as u16 + self.payload;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, self.class_of_service]);
                frame.extend((20 + length).to_be_bytes());
                // Identification 0, do not fragment, time to live 64, no checksum.
                frame.extend([0, 0, 0x40, 0, 64, self.protocol(), 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (high, low) = (self.class_of_service >> 4, self.class_of_service << 4);
                frame.extend([0x86, 0xdd, 0x60 | high, low, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([self.protocol(), 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            addresses => panic!("{addresses:?} are of two families"),
        }
        frame.extend(&transport);
        frame.resize(frame.len() + usize::from(self.payload), 0);
        // No shorter than the shortest Ethernet frame.
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn protocol(&self) -> u8 {
        match self.upper {
            Upper::Tcp(..) => 6,
            Upper::Udp(..) => 17,
            Upper::Icmp(..) if self.source.is_ipv4() => 1,
            Upper::Icmp(..) => 58,
        }
    }

    /// The transport header. Checksums are zero: the probe does not look at them.
    fn transport(&self) -> Vec<u8> {
        let mut header = Vec::new();
        match self.upper {
            Upper::Tcp(source, destination, control_bits) => {
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                header.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, control_bits, 0xff, 0xff, 0, 0, 0, 0]);
            }
            Upper::Udp(source, destination) => {
                header.extend(source.to_be_bytes());
                header.extend(destination.to_be_bytes());
                header.extend((8 + self.payload).to_be_bytes());
                header.extend([0, 0]);
            }
            Upper::Icmp(kind, code) => header.extend([kind, code, 0, 0, 0, 0, 0, 0]),
        }
        header
    }
}

/// Writes a capture file (pcap, Ethernet).
pub(crate) fn write_capture(path: &Path, frames: &[Frame]) {
    write_octets(path, &frames.iter().map(Frame::octets).collect::<Vec<_>>());
}

/// Writes a capture file with frames as they are.
pub(crate) fn write_octets(path: &Path, frames: &[Vec<u8>]) {
    write_timed(path, frames.iter().map(|octets| (0, octets.clone())));
}

/// The same with their times, seconds since 1970.
pub(crate) fn write_timed(path: &Path, frames: impl IntoIterator<Item = (u32, Vec<u8>)>) {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_be_bytes());
    // Version 2.4, no time zone, no accuracy.
    file.extend([0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend(65_535_u32.to_be_bytes());
    file.extend(1_u32.to_be_bytes());
    for (time, octets) in frames {
        let length = (octets.len() as u32).to_be_bytes();
        file.extend(time.to_be_bytes());
        file.extend([0; 4]);
        file.extend(length);
        file.extend(length);
        file.extend(octets);
    }
    fs::write(path, file).unwrap();
}
