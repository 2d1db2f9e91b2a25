//! Captures in files and streams: pcap and pcapng, read packet by packet.
//!
//! Times are nanoseconds since the Unix epoch. Files are untrusted: whatever is wrong with one ends the
//! reading with an error that says after which packet.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use pathflow_common::bytes::{SliceFrame, field};
use pathflow_common::parse::link::{self, Link as Start};
use pathflow_common::{DropReason, PacketBytes as _};
use pcap_parser::pcapng::InterfaceDescriptionBlock;
use pcap_parser::traits::{PcapNGPacketBlock as _, PcapReaderIterator};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::interfaces::MacAddress;
use crate::stop::Stop;

/// Longest block that is read, in octets: more than any snapshot length in use.
const LONGEST_BLOCK: usize = 16 << 20;
/// What is read at once.
const BUFFER: usize = 1 << 20;
/// How often a stream from which nothing comes is asked whether the program is to end.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why a capture cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum PcapFileError {
    /// The file cannot be opened.
    #[error("{}: {error}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// From the system.
        error: io::Error,
    },
    /// Neither pcap nor pcapng.
    #[error("{}: neither a pcap nor a pcapng file", file.display())]
    NotACapture {
        /// The file.
        file: PathBuf,
    },
    /// The file ends in the middle of a block.
    #[error("{}: cut short after packet {packets}", file.display())]
    CutShort {
        /// The file.
        file: PathBuf,
        /// Packets read before.
        packets: u64,
    },
    /// A block that is not understood.
    #[error("{}: damaged after packet {packets}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Packets read before.
        packets: u64,
    },
}

/// What lies below the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Ethernet,
    /// The network packet itself.
    Raw,
    /// Address family of the capturing host in 4 octets.
    Null,
    /// Linux "cooked" capture.
    LinuxSll,
    /// Linux "cooked" capture, version 2.
    LinuxSll2,
    /// Anything else: its packets are counted as not IP.
    Other(i32),
}

impl From<Linktype> for Link {
    fn from(link: Linktype) -> Self {
        // The upper half of a pcap file's field is about the frame check sequence.
        match link.0 & 0xffff {
            1 => Self::Ethernet,
            12 | 14 | 101 | 228 | 229 => Self::Raw,
            0 | 108 => Self::Null,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            other => Self::Other(other),
        }
    }
}

/// An interface of the capture.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Link,
    /// Time stamp units per second.
    resolution: u64,
    /// Added to time stamps, in seconds.
    offset: i64,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct FilePacket<'a> {
    /// Number of the interface in the capture, from 0.
    pub interface: u32,
    /// Nanoseconds since the Unix epoch; `None` if the block carries no time, or one after the year 2262.
    pub time: Option<u64>,
    link: Link,
    frame: SliceFrame<'a>,
}

impl FilePacket<'_> {
    /// The packet.
    #[must_use]
    pub fn frame(&self) -> &SliceFrame<'_> {
        &self.frame
    }

    /// The MAC address that sent it, if it has one.
    #[must_use]
    pub fn neighbour(&self) -> MacAddress {
        let source = (self.link == Link::Ethernet).then(|| self.frame.read::<6>(6)).flatten();
        source.map_or(MacAddress::UNKNOWN, MacAddress)
    }

    /// The packet as an Ethernet frame: itself, or made in `imagined` with a header of zero addresses.
    #[must_use]
    pub fn ethernet<'a>(&'a self, imagined: &'a mut Vec<u8>) -> &'a [u8] {
        match self.start() {
            Ok(start) if self.link != Link::Ethernet => {
                imagined.clear();
                imagined.extend_from_slice(&[0; 12]);
                imagined.extend_from_slice(&start.ether_type.to_be_bytes());
                imagined.extend_from_slice(self.frame.octets().get(start.offset..).unwrap_or_default());
                imagined
            }
            _ => self.frame.octets(),
        }
    }

    /// Length on the wire of what [`ethernet`](Self::ethernet) returns.
    #[must_use]
    pub fn ethernet_length(&self) -> u32 {
        let length = self.frame.wire_length();
        match self.start() {
            Ok(start) if self.link != Link::Ethernet => length.saturating_sub(start.offset as u32) + 14,
            _ => length,
        }
    }

    /// Where parsing starts.
    ///
    /// # Errors
    /// Why the packet cannot be in a flow: it ends before its link header does, or its link is of an unknown
    /// type.
    pub fn start(&self) -> Result<Start, DropReason> {
        let frame = &self.frame;
        let start = match self.link {
            Link::Ethernet => Start::ethernet(frame),
            Link::Raw => frame.read::<1>(0).map(|[first]| Start::network(version_ether_type(first), 0)),
            // The family's number depends on the system that captured, so the packet itself is asked.
            Link::Null => frame.read::<5>(0).map(|[.., first]| Start::network(version_ether_type(first), 4)),
            Link::LinuxSll => {
                frame.read::<16>(0).map(|header| Start::network(u16::from_be_bytes(field(&header, 14)), 16))
            }
            Link::LinuxSll2 => {
                frame.read::<20>(0).map(|header| Start::network(u16::from_be_bytes(field(&header, 0)), 20))
            }
            Link::Other(_) => return Err(DropReason::NotIp),
        };
        start.ok_or(DropReason::Truncated)
    }
}

/// `EtherType` of a network packet that begins with this octet; 0 if it is neither IPv4 nor IPv6.
fn version_ether_type(first: u8) -> u16 {
    match first >> 4 {
        4 => link::IPV4,
        6 => link::IPV6,
        _ => 0,
    }
}

/// A file or stream that ends when the program is to end, even if nothing comes.
struct Input {
    input: File,
    stop: Stop,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.stop.is_pulled() {
            let mut ready = [PollFd::new(&self.input, PollFlags::IN)];
            if poll(&mut ready, Some(&WAIT))? > 0 {
                return self.input.read(buffer);
            }
        }
        Ok(0)
    }
}

/// A capture that is being read.
pub struct PacketFile {
    file: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
    /// Link types met that are not understood.
    unknown_links: Vec<i32>,
    packets: u64,
    capacity: usize,
}

impl std::fmt::Debug for PacketFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("PacketFile")
            .field("file", &self.file)
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}

impl PacketFile {
    /// Opens a file; `-` is standard input. Once `stop` is pulled, it is at its end.
    ///
    /// # Errors
    /// If it cannot be opened or is not a capture.
    pub fn open(file: &Path, stop: &Stop) -> Result<Self, PcapFileError> {
        let opened = if file == Path::new("-") {
            io::stdin().as_fd().try_clone_to_owned().map(File::from)
        } else {
            File::open(file)
        };
        let input = opened.map_err(|error| PcapFileError::Open { file: file.to_owned(), error })?;
        let reader = create_reader(BUFFER, Input { input, stop: stop.clone() })
            .map_err(|_| PcapFileError::NotACapture { file: file.to_owned() })?;
        Ok(Self {
            file: file.to_owned(),
            reader,
            interfaces: Vec::new(),
            unknown_links: Vec::new(),
            packets: 0,
            capacity: BUFFER,
        })
    }

    /// Reads until `each` has been called for a packet; false at the end.
    ///
    /// # Errors
    /// If the file is cut short or damaged.
    pub fn next(&mut self, mut each: impl FnMut(FilePacket<'_>)) -> Result<bool, PcapFileError> {
        loop {
            let (consumed, found) = match self.reader.next() {
                Ok((consumed, block)) => (consumed, visit(&block, &mut self.interfaces, &mut each)),
                Err(PcapError::Eof) => return Ok(false),
                Err(PcapError::Incomplete(_)) => {
                    self.refill()?;
                    continue;
                }
                Err(PcapError::UnexpectedEof) => return Err(self.cut_short()),
                Err(_) => return Err(self.damaged()),
            };
            self.reader.consume(consumed);
            match found {
                Found::Packet => {
                    self.packets += 1;
                    return Ok(true);
                }
                Found::UnknownLink(link) if !self.unknown_links.contains(&link) => {
                    self.unknown_links.push(link);
                }
                Found::UnknownLink(_) | Found::Other => {}
                Found::Fault => return Err(self.damaged()),
            }
        }
    }

    /// Link types met that are not understood: their packets are counted as not IP.
    #[must_use]
    pub fn unknown_links(&self) -> &[i32] {
        &self.unknown_links
    }

    fn refill(&mut self) -> Result<(), PcapFileError> {
        if self.reader.reader_exhausted() {
            return Err(self.cut_short());
        }
        match self.reader.refill() {
            Ok(()) => Ok(()),
            Err(PcapError::BufferTooSmall) if self.capacity < LONGEST_BLOCK => {
                self.capacity *= 2;
                if self.reader.grow(self.capacity) { Ok(()) } else { Err(self.damaged()) }
            }
            Err(_) => Err(self.damaged()),
        }
    }

    fn cut_short(&self) -> PcapFileError {
        PcapFileError::CutShort { file: self.file.clone(), packets: self.packets }
    }

    fn damaged(&self) -> PcapFileError {
        PcapFileError::Damaged { file: self.file.clone(), packets: self.packets }
    }
}

/// What a block was.
enum Found {
    Packet,
    UnknownLink(i32),
    Other,
    Fault,
}

fn visit(
    block: &PcapBlockOwned<'_>,
    interfaces: &mut Vec<Interface>,
    each: &mut impl FnMut(FilePacket<'_>),
) -> Found {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            add(interfaces, Interface { link: header.network.into(), resolution, offset: 0 })
        }
        PcapBlockOwned::Legacy(packet) => {
            let Some(interface) = interfaces.first() else { return Found::Fault };
            let fraction = u64::from(packet.ts_usec) * (1_000_000_000 / interface.resolution);
            let time = u64::from(packet.ts_sec) * 1_000_000_000 + fraction;
            let captured = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
            let frame = SliceFrame::captured(captured, packet.origlen.max(captured.len() as u32));
            each(FilePacket { interface: 0, time: Some(time), link: interface.link, frame });
            Found::Packet
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            // A new section has interfaces of its own.
            interfaces.clear();
            Found::Other
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
            add(interfaces, described(description))
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let Some(interface) = interfaces.get(packet.if_id as usize) else { return Found::Fault };
            let stamp = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let captured = packet.packet_data();
            let frame = SliceFrame::captured(captured, packet.origlen.max(captured.len() as u32));
            let time = nanoseconds(stamp, interface);
            each(FilePacket { interface: packet.if_id, time, link: interface.link, frame });
            Found::Packet
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            let Some(interface) = interfaces.first() else { return Found::Fault };
            let captured = packet.packet_data();
            let frame = SliceFrame::captured(captured, packet.origlen.max(captured.len() as u32));
            each(FilePacket { interface: 0, time: None, link: interface.link, frame });
            Found::Packet
        }
        PcapBlockOwned::NG(_) => Found::Other,
    }
}

fn add(interfaces: &mut Vec<Interface>, interface: Interface) -> Found {
    interfaces.push(interface);
    match interface.link {
        Link::Other(link) => Found::UnknownLink(link),
        _ => Found::Other,
    }
}

fn described(description: &InterfaceDescriptionBlock<'_>) -> Interface {
    Interface {
        link: description.linktype.into(),
        resolution: description.ts_resolution().unwrap_or(1_000_000).max(1),
        offset: description.ts_offset(),
    }
}

/// A time stamp in units of the interface, as nanoseconds since the Unix epoch. Half of the range is plenty,
/// and leaves room for arithmetic.
fn nanoseconds(stamp: u64, interface: &Interface) -> Option<u64> {
    let since_offset = i128::from(stamp) * 1_000_000_000 / i128::from(interface.resolution);
    let time = since_offset + i128::from(interface.offset) * 1_000_000_000;
    i64::try_from(time).ok().and_then(|time| u64::try_from(time).ok())
}
