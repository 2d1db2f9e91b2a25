//! Sampled headers on their way to sFlow: what each of them stands for.
//!
//! Each CPU samples for itself and says with every sample from how many packets it has drawn, and how many
//! samples it has lost. The sums over the CPUs are exact: every packet is in the pool of one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pathflow_common::bytes::SliceFrame;
use pathflow_common::flow::{Datagram, DatagramPorts, Ipv4Key, WideKey};
use pathflow_common::layout::{HEADER_SAMPLE_OCTETS, HeaderSample};
use pathflow_common::parse::link::Link;
use pathflow_common::parse::tunnel::Tunnels;
use pathflow_common::parse::{FlowSink, PacketFacts, parse_link};
use pathflow_common::{DropReason, PacketBytes as _};

/// Octets of a VLAN tag.
const TAG_OCTETS: u32 = 4;

/// A sampled packet (flow sample of sFlow v5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledHeader {
    /// Observation point.
    pub observation_point: u16,
    /// Length of the frame on the wire in octets, without its check sequence. Of a packet that the kernel has
    /// merged from several or is to cut into several: of one that is full.
    pub frame_length: u32,
    /// Kernel's index of the interface that a packet going out came in by; 0 = this host made it, or the packet
    /// comes in.
    pub ingress_interface: u32,
    /// The frame from its first octet, its VLAN tag where it was on the wire.
    pub header: HeaderOctets,
    /// Packets of this point from which samples were drawn (`sample_pool`).
    pub pool: u64,
    /// Samples of this point that were lost on their way, in the kernel or because nobody took them (`drops`).
    pub drops: u64,
}

/// The first octets of a frame: those that were sampled, and a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderOctets {
    octets: [u8; HEADER_OCTETS],
    length: u8,
}

/// Octets of a header at most.
const HEADER_OCTETS: usize = HEADER_SAMPLE_OCTETS + TAG_OCTETS as usize;

impl HeaderOctets {
    /// The first octets of `frame`, 132 at most.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        let mut header = Self { octets: [0; HEADER_OCTETS], length: 0 };
        header.append(frame);
        header
    }

    /// Those octets.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.octets.get(..usize::from(self.length)).unwrap_or(&self.octets)
    }

    fn append(&mut self, octets: &[u8]) {
        let room = self.octets.get_mut(usize::from(self.length)..).unwrap_or_default();
        for (to, from) in room.iter_mut().zip(octets) {
            *to = *from;
            self.length += 1;
        }
    }
}

/// What is known of the samples of one observation point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleTotals {
    /// Samples received.
    pub samples: u64,
    /// Packets from which samples were drawn, up to the last sample of each CPU.
    pub pool: u64,
    /// Samples lost, up to the last sample of each CPU.
    pub drops: u64,
    /// Samples received that found the queue for sFlow full.
    pub queue_full: u64,
}

impl SampleTotals {
    /// Adds the totals of another point.
    pub fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.pool += other.pool;
        self.drops += other.drops;
        self.queue_full += other.queue_full;
    }
}

/// Adds up what the CPUs say; shared with the page of metrics.
#[derive(Clone, Debug, Default)]
pub struct SamplePool(Arc<Mutex<Points>>);

type Points = BTreeMap<u16, Point>;

#[derive(Debug, Default)]
struct Point {
    samples: u64,
    queue_full: u64,
    /// Pool and drops as each CPU said last.
    cpus: BTreeMap<u32, (u64, u64)>,
    /// Those of CPUs that have begun anew, because the number of the point is used again.
    before: (u64, u64),
}

impl Point {
    fn totals(&self) -> SampleTotals {
        let (pool, drops) = self.cpus.values().fold(self.before, |sum, cpu| (sum.0 + cpu.0, sum.1 + cpu.1));
        SampleTotals { samples: self.samples, pool, drops, queue_full: self.queue_full }
    }
}

impl SamplePool {
    /// Enters a sample; returns what it stands for.
    pub fn enter(&self, sample: &HeaderSample) -> SampledHeader {
        let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let point = points.entry(sample.observation_point).or_default();
        point.samples += 1;
        if let Some((pool, drops)) = point.cpus.insert(sample.cpu, (sample.pool, sample.drops))
            && pool > sample.pool
        {
            point.before = (point.before.0 + pool, point.before.1 + drops);
        }
        let SampleTotals { pool, drops, queue_full, .. } = point.totals();
        drop(points);
        let captured = sample.header.get(..sample.captured as usize).unwrap_or(&sample.header);
        SampledHeader {
            observation_point: sample.observation_point,
            frame_length: frame_length(sample, captured),
            ingress_interface: sample.ingress_interface,
            header: with_tag(captured, sample.tag),
            pool,
            drops: drops + queue_full,
        }
    }

    /// A sample of this point found the queue full. The next one tells.
    pub fn queue_full(&self, observation_point: u16) {
        let mut points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        points.entry(observation_point).or_default().queue_full += 1;
    }

    /// By observation point.
    #[must_use]
    pub fn totals(&self) -> Vec<(u16, SampleTotals)> {
        let points = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        points.iter().map(|(number, point)| (*number, point.totals())).collect()
    }
}

/// Puts the tag back to where it was: behind the addresses.
fn with_tag(captured: &[u8], tag: u32) -> HeaderOctets {
    let Some((addresses, rest)) = captured.split_at_checked(12).filter(|_| tag != 0) else {
        return HeaderOctets::new(captured);
    };
    let mut header = HeaderOctets::new(addresses);
    header.append(&tag.to_be_bytes());
    header.append(rest);
    header
}

fn frame_length(sample: &HeaderSample, captured: &[u8]) -> u32 {
    let tag = if sample.tag == 0 { 0 } else { TAG_OCTETS };
    if sample.segment_payload == 0 {
        return sample.frame_length + tag;
    }
    let mut headers = 0;
    let frame = SliceFrame::captured(captured, sample.frame_length);
    if let Some(link) = Link::ethernet(&frame) {
        parse_link(&frame, 0, link, Headers { frame_length: frame.wire_length(), headers: &mut headers });
    }
    // A segment is no longer than all of them together, whatever the headers say.
    (headers + sample.segment_payload).min(sample.frame_length) + tag
}

/// Finds how many octets come before the payload.
struct Headers<'a> {
    frame_length: u32,
    headers: &'a mut u32,
}

impl Headers<'_> {
    fn found(self, facts: PacketFacts) {
        // Whatever is not the network packet comes before it, in a packet that is to be cut.
        *self.headers = self.frame_length.saturating_sub(facts.octets) + u32::from(facts.header_octets);
    }
}

impl FlowSink for Headers<'_> {
    fn ipv4(self, _: Ipv4Key, facts: PacketFacts) {
        self.found(facts);
    }

    fn wide(self, _: WideKey, facts: PacketFacts) {
        self.found(facts);
    }

    fn unaccounted(self, _: DropReason, _: u32) {}

    fn has_vlan_priority(&self) -> bool {
        false
    }

    fn first_fragment(&self, _: &Datagram, _: DatagramPorts) {}

    fn datagram_ports(&self, _: &Datagram) -> Option<DatagramPorts> {
        None
    }
}

impl Tunnels for Headers<'_> {
    fn entered(&self) -> bool {
        false
    }

    fn is_vxlan(&self, _: u16) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: u32, pool: u64, drops: u64) -> HeaderSample {
        HeaderSample {
            observation_point: 1,
            captured: 128,
            frame_length: 1514,
            cpu,
            tag: 0,
            pool,
            drops,
            segment_payload: 0,
            ingress_interface: 0,
            header: [0; HEADER_SAMPLE_OCTETS],
        }
    }

    #[test]
    fn pool_and_drops_are_those_of_all_cpus() {
        let pool = SamplePool::default();
        pool.enter(&sample(0, 100, 0));
        pool.enter(&sample(1, 40, 2));
        let last = pool.enter(&sample(0, 205, 1));
        assert_eq!((last.pool, last.drops), (245, 3));
        assert_eq!(pool.totals(), [(1, SampleTotals { samples: 3, pool: 245, drops: 3, queue_full: 0 })]);
    }

    #[test]
    fn what_found_the_queue_full_is_told_with_the_next_sample() {
        let pool = SamplePool::default();
        assert_eq!(pool.enter(&sample(0, 100, 1)).drops, 1);
        pool.queue_full(1);
        assert_eq!(pool.enter(&sample(0, 110, 1)).drops, 2);
        assert_eq!(pool.totals(), [(1, SampleTotals { samples: 2, pool: 110, drops: 1, queue_full: 1 })]);
    }

    #[test]
    fn a_point_that_is_used_again_goes_on() {
        let pool = SamplePool::default();
        pool.enter(&sample(0, 100, 1));
        pool.enter(&sample(0, 7, 0));
        assert_eq!(pool.totals(), [(1, SampleTotals { samples: 2, pool: 107, drops: 1, queue_full: 0 })]);
    }

    #[test]
    fn a_tag_that_was_beside_the_frame_is_put_back() {
        let mut tagged = sample(0, 1, 0);
        tagged.captured = 60;
        tagged.frame_length = 60;
        tagged.header[12..14].copy_from_slice(&[0x08, 0x00]);
        tagged.tag = 0x8100_0064;
        let header = SamplePool::default().enter(&tagged);
        assert_eq!(header.header.as_slice().len(), 64);
        assert_eq!(header.header.as_slice()[12..18], [0x81, 0x00, 0x00, 0x64, 0x08, 0x00]);
        assert_eq!(header.frame_length, 64);
    }

    #[test]
    fn a_merged_packet_stands_for_one_that_is_full() {
        // 20 segments of 1,448 octets: Ethernet 14, IPv4 20, TCP 32.
        let mut merged = sample(0, 20, 0);
        merged.segment_payload = 1448;
        merged.frame_length = 14 + 20 + 32 + 20 * 1448;
        merged.header[12..14].copy_from_slice(&[0x08, 0x00]);
        merged.header[14] = 0x45;
        merged.header[16..18].copy_from_slice(&(20u16 + 32 + 20 * 1448).to_be_bytes());
        merged.header[23] = 6;
        merged.header[14 + 20 + 12] = 8 << 4;
        assert_eq!(SamplePool::default().enter(&merged).frame_length, 1514);
    }
}
