//! Capture files: pcap and pcapng, in either byte order, with micro- or nanoseconds.

use std::fs;
use std::io;
use std::path::Path;

use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::{Block, PcapNgParser};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

/// First octets of a pcapng file, the same in either byte order.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// `LINKTYPE_ETHERNET`.
pub(crate) const ETHERNET: u32 = 1;
/// The upper half of a pcap file's link type says how long the frame check sequence is.
const LINK_TYPE: u32 = 0xffff;

/// One packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// `LINKTYPE_*` of the interface it was captured on.
    pub(crate) link_type: u32,
    /// What was captured.
    pub(crate) octets: Vec<u8>,
    /// Its length when it was on the wire.
    pub(crate) wire_length: u32,
    /// When it was captured, nanoseconds since 1970.
    pub(crate) time: u64,
}

impl Packet {
    pub(crate) fn is_ethernet(&self) -> bool {
        self.link_type == ETHERNET
    }
}

/// What a file holds: its packets up to where it breaks, and how it breaks.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) packets: Vec<Packet>,
    pub(crate) fault: Option<String>,
}

/// Reads a capture file from memory.
pub(crate) fn read(octets: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let result = if octets.starts_with(&PCAPNG_MAGIC) {
        read_pcapng(octets, &mut contents.packets)
    } else {
        read_pcap(octets, &mut contents.packets)
    };
    contents.fault = result.err().map(|error| error.to_string());
    contents
}

fn read_pcap(octets: &[u8], packets: &mut Vec<Packet>) -> Result<(), PcapError> {
    let (mut rest, parser) = PcapParser::new(octets)?;
    let header = parser.header();
    let link_type = u32::from(header.datalink) & LINK_TYPE;
    let fraction = if header.ts_resolution == TsResolution::NanoSecond { 1 } else { 1000 };
    while !rest.is_empty() {
        // Raw: a length above the snap length or above the wire length is odd, but no reason to stop.
        let (after, packet) = parser.next_raw_packet(rest)?;
        packets.push(Packet {
            link_type,
            octets: packet.data.into_owned(),
            wire_length: packet.orig_len,
            time: u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_frac) * fraction,
        });
        rest = after;
    }
    Ok(())
}

fn read_pcapng(octets: &[u8], packets: &mut Vec<Packet>) -> Result<(), PcapError> {
    let (mut rest, mut parser) = PcapNgParser::new(octets)?;
    while !rest.is_empty() {
        let (after, block) = parser.next_block(rest)?;
        rest = after;
        let (interface, data, wire_length, time) = match block {
            Block::EnhancedPacket(packet) => (
                packet.interface_id,
                packet.data.into_owned(),
                packet.original_len,
                packet.timestamp.as_nanos() as u64,
            ),
            Block::SimplePacket(packet) => (0, packet.data.into_owned(), packet.original_len, 0),
            Block::Packet(packet) => {
                (u32::from(packet.interface_id), packet.data.into_owned(), packet.original_len, 0)
            }
            _ => continue,
        };
        let link_type = parser.interfaces().get(interface as usize).map_or(DataLink::NULL, |i| i.linktype);
        packets.push(Packet { link_type: u32::from(link_type), octets: data, wire_length, time });
    }
    Ok(())
}

/// Writes packets as a pcap file, which has the link type of the first one.
pub(crate) fn write<'a>(path: &Path, packets: impl IntoIterator<Item = &'a Packet>) -> io::Result<()> {
    fs::write(path, pcap(packets, Endianness::Little, TsResolution::NanoSecond))
}

/// A pcap file of packets, with the link type of the first one. Written by hand, so that reading is checked against
/// something else than the library that reads.
pub(crate) fn pcap<'a>(
    packets: impl IntoIterator<Item = &'a Packet>,
    order: Endianness,
    resolution: TsResolution,
) -> Vec<u8> {
    let (magic, fraction) = match resolution {
        TsResolution::MicroSecond => (0xa1b2_c3d4, 1000),
        TsResolution::NanoSecond => (0xa1b2_3c4d, 1),
    };
    let word = |value: u32| ordered(value.to_be_bytes(), order);
    let half = |value: u16| ordered(value.to_be_bytes(), order);
    let mut packets = packets.into_iter().peekable();
    let link_type = packets.peek().map_or(ETHERNET, |packet| packet.link_type);
    let mut file = Vec::new();
    file.extend(word(magic));
    file.extend([half(2), half(4)].concat());
    file.extend([word(0), word(0), word(262_144), word(link_type)].concat());
    for Packet { octets, wire_length, time, .. } in packets {
        let (seconds, rest) = ((time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32);
        file.extend([word(seconds), word(rest / fraction)].concat());
        file.extend([word(octets.len() as u32), word(*wire_length)].concat());
        file.extend(octets);
    }
    file
}

/// A pcapng file of Ethernet packets.
pub(crate) fn pcapng(packets: &[Packet], order: Endianness) -> Vec<u8> {
    let word = |value: u32| ordered(value.to_be_bytes(), order);
    let half = |value: u16| ordered(value.to_be_bytes(), order);
    let block = |kind: u32, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = word((body.len() + padding.len() + 12) as u32);
        [&word(kind), &length, body, &padding, &length].concat()
    };
    // Version 1.0, length of the section unknown.
    let section = [word(0x1a2b_3c4d), [half(1), half(0)].concat(), word(u32::MAX), word(u32::MAX)].concat();
    // No limit of length; option if_tsresol: nanoseconds.
    let interface = [
        [half(1), half(0)].concat(),
        word(0),
        [half(9), half(1)].concat(),
        vec![9, 0, 0, 0],
        [half(0), half(0)].concat(),
    ]
    .concat();
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for Packet { octets, wire_length, time, .. } in packets {
        let header = [0, (time >> 32) as u32, *time as u32, octets.len() as u32, *wire_length].map(word);
        let padding = vec![0; octets.len().next_multiple_of(4) - octets.len()];
        file.extend(block(6, &[header.concat(), octets.clone(), padding].concat()));
    }
    file
}

fn ordered<const N: usize>(mut big_endian: [u8; N], order: Endianness) -> Vec<u8> {
    if order == Endianness::Little {
        big_endian.reverse();
    }
    big_endian.to_vec()
}

#[test]
fn every_file_format_gives_the_same_packets() {
    let packet =
        |octets: Vec<u8>, wire_length, time| Packet { link_type: ETHERNET, octets, wire_length, time };
    let packets = [
        packet(vec![1; 60], 60, 1_700_000_000_123_456_000),
        packet(vec![2; 61], 1514, 1_700_000_001_000_001_000),
        packet(Vec::new(), 0, 1_700_000_001_999_999_000),
    ];
    for order in [Endianness::Little, Endianness::Big] {
        for resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
            let contents = read(&pcap(&packets, order, resolution));
            assert_eq!(contents.fault, None, "pcap {order:?} {resolution:?}");
            assert_eq!(contents.packets, packets, "pcap {order:?} {resolution:?}");
        }
        let contents = read(&pcapng(&packets, order));
        assert_eq!(contents.fault, None, "pcapng {order:?}");
        let untimed = |packets: &[Packet]| {
            packets.iter().map(|packet| Packet { time: 0, ..packet.clone() }).collect::<Vec<_>>()
        };
        assert_eq!(untimed(&contents.packets), untimed(&packets), "pcapng {order:?}");
    }
}

#[test]
fn a_broken_file_gives_what_comes_before_the_fault() {
    let packet = Packet { link_type: ETHERNET, octets: vec![7; 60], wire_length: 60, time: 0 };
    let packets = [packet.clone(), packet];
    for file in
        [pcap(&packets, Endianness::Big, TsResolution::MicroSecond), pcapng(&packets, Endianness::Little)]
    {
        let contents = read(&file[..file.len() - 30]);
        assert_eq!(contents.packets, packets[..1]);
        assert!(contents.fault.is_some());
    }
    assert!(read(b"not a capture, but longer than a header of one").fault.is_some());
    assert!(read(b"").fault.is_some());
}
