//! What is pinned, and how a later start knows whether it can read it.

use std::mem::offset_of;

use pathflow_common::DropReason;
use pathflow_common::extension::KeyExtension;
use pathflow_common::flow::{FlowCounters, Ipv4Slot, WideSlot};
use pathflow_common::layout::{Control, Count, OBSERVATION_POINTS, PointCounters, TableHeader};

/// To be counted up when the meaning of something pinned changes, but neither its size nor its place: keys,
/// epochs, the words of the descriptor, the rows of the accounts.
const LAYOUT_VERSION: u64 = 5;

/// Stands for the layout of everything that is pinned. Table sizes are no part of it.
pub(super) const LAYOUT: u64 = {
    let numbers = [
        LAYOUT_VERSION,
        OBSERVATION_POINTS as u64,
        size_of::<Control>() as u64,
        size_of::<TableHeader>() as u64,
        offset_of!(TableHeader, ipv4_used) as u64,
        offset_of!(TableHeader, wide_used) as u64,
        offset_of!(TableHeader, spilled) as u64,
        offset_of!(TableHeader, jiffies) as u64,
        offset_of!(TableHeader, coarse_nanoseconds) as u64,
        size_of::<PointCounters>() as u64,
        offset_of!(PointCounters, seen) as u64,
        offset_of!(PointCounters, spilled) as u64,
        offset_of!(PointCounters, dropped) as u64,
        offset_of!(PointCounters, later_fragments) as u64,
        offset_of!(PointCounters, without_extension) as u64,
        size_of::<KeyExtension>() as u64,
        offset_of!(KeyExtension, labels) as u64,
        offset_of!(KeyExtension, chosen) as u64,
        offset_of!(Count, octets) as u64,
        size_of::<Ipv4Slot>() as u64,
        offset_of!(Ipv4Slot, counters) as u64,
        size_of::<WideSlot>() as u64,
        offset_of!(WideSlot, next_hop) as u64,
        size_of::<FlowCounters>() as u64,
        offset_of!(FlowCounters, octets) as u64,
        offset_of!(FlowCounters, packets) as u64,
        offset_of!(FlowCounters, first) as u64,
        offset_of!(FlowCounters, last) as u64,
        offset_of!(FlowCounters, other_interface) as u64,
        offset_of!(FlowCounters, next_hop) as u64,
        offset_of!(FlowCounters, tcp_control_bits) as u64,
        offset_of!(FlowCounters, neighbour) as u64,
        size_of::<Place>() as u64,
        size_of::<Row>() as u64,
    ];
    let mut hash = FNV_OFFSET;
    let mut i = 0;
    while i < numbers.len() {
        hash = fnv(hash, &numbers[i].to_le_bytes());
        i += 1;
    }
    let mut reason = 0;
    while reason < DropReason::COUNT {
        hash = fnv(hash, DropReason::ALL[reason].as_str().as_bytes());
        reason += 1;
    }
    hash
};

/// FNV-1a, 64 bits: it only has to tell layouts apart that were made without ill will.
pub(super) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

pub(super) const fn fnv(mut hash: u64, octets: &[u8]) -> u64 {
    let mut i = 0;
    while i < octets.len() {
        hash = (hash ^ octets[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Names of the pinned maps of one run. (A name on the BPF file system has no dot.)
pub(in crate::capture) mod name {
    /// `Array<u64, descriptor::WORDS>`. Pinned last: without it, nothing of this run was ever attached.
    pub const DESCRIPTOR: &str = "descriptor";
    /// `Array<Control, 1>`
    pub const CONTROL: &str = "control";
    /// `Array<TableHeader, 2 * cpus>`
    pub const HEADERS: &str = "headers";
    /// `Array<PointCounters, 2 * cpus * OBSERVATION_POINTS>`
    pub const POINTS: &str = "points";
    /// The same: what of these user space has taken.
    pub const TAKEN: &str = "taken";
    /// `Array<u64, 2 * cpus>`: the last epoch that user space has taken.
    pub const CLAIMS: &str = "claims";
    /// `LruHashMap<Datagram, DatagramPorts>`
    pub const DATAGRAMS: &str = "datagrams";
    /// `LruHashMap<KeyExtension, u64>`
    pub const EXTENSIONS: &str = "extensions";
    /// `Array<Place, OBSERVATION_POINTS>`
    pub const PLACES: &str = "places";
    /// `Array<Row, ...>`
    pub const ACCOUNTS: &str = "accounts";
    /// Prefix of inner maps; the index follows.
    pub const IPV4: &str = "ipv4_";
    /// Prefix of inner maps.
    pub const WIDE: &str = "wide_";
    /// Prefix of inner maps.
    pub const SPILL: &str = "spill_";
}

/// Words of the descriptor.
pub(super) mod descriptor {
    /// [`LAYOUT`](super::LAYOUT). The one word that every version has here.
    pub const LAYOUT: usize = 0;
    /// Number of the run.
    pub const RUN: usize = 1;
    /// Possible CPUs: the stride between the generations.
    pub const CPUS: usize = 2;
    /// Slots of an IPv4 table.
    pub const IPV4_SLOTS: usize = 3;
    /// Slots of a table of wide keys.
    pub const WIDE_SLOTS: usize = 4;
    /// Records of a spill log.
    pub const SPILL_SLOTS: usize = 5;
    /// Nanoseconds from one jiffy to the next.
    pub const TICK: usize = 6;
    /// Rows of the accounts.
    pub const ROWS: usize = 7;
    /// Run that has taken over everything that is in these tables; 0 = none.
    pub const ADOPTED_BY: usize = 8;
    /// 1 = the run has ended in order: nothing that it had taken is missing without a name.
    pub const ENDED: usize = 9;
    /// Stands for the places of chosen octets.
    pub const PLACES: usize = 10;
    /// What extensions of keys consist of.
    pub const EXTENSION_PARTS: usize = 11;
    /// How many there are.
    pub const WORDS: u32 = 16;
}

/// An observation point, for a later run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Place {
    /// The kernel's interface index; 0 = there is no such point.
    pub interface: u32,
    /// One in this many packets is accounted.
    pub sampling_interval: u32,
    /// 1 = packets that go out.
    pub is_egress: u32,
    /// 1 = every `sampling_interval`-th packet, 0 = at random.
    pub is_systematic: u16,
    /// 1 = packets begin with no Ethernet header.
    pub lacks_link_header: u16,
    /// Interface name, filled up with zeroes.
    pub name: [u8; 48],
}

impl Place {
    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> String {
        let length = self.name.iter().position(|octet| *octet == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..length]).into_owned()
    }

    /// `name` as it is stored. Interface names have 15 octets at most.
    #[must_use]
    pub fn name_octets(name: &str) -> [u8; 48] {
        let mut octets = [0; 48];
        for (place, octet) in octets.iter_mut().zip(name.bytes()) {
            *place = octet;
        }
        octets
    }
}

/// A row of the accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Row(pub [u64; 16]);

const _: () = assert!(size_of::<Place>() == 64);
