//! Flow keys and counters as they lie in the kernel's flow tables.
//!
//! A key is a row of 64-bit words, because words are what both the hash and the comparison in the kernel
//! work on. Fields are placed by shifts, the same on both sides, so there is no padding to forget:
//!
//! ```text
//! word 0    bits  0..32  epoch of the slot (zero in a key that is not in a slot)
//!           bits 32..48  observation point
//!           bits 48..56  flags (KEY_FLAG_*)
//!           bits 56..64  protocol
//! IPv4      word 1       source and destination address
//! IPv6      words 1..3   source address        words 3..5   destination address
//! last      bits  0..32  source and destination port
//!           bits 32..44  outer VLAN identifier
//!           bits 44..56  inner VLAN identifier
//!           bits 56..64  type of service / traffic class
//! ```
//!
//! Addresses and ports are the packet's octets in the packet's order (network byte order), moved as one
//! word without swapping; everything else is a value in host order.

/// The key is of an IPv6 packet.
pub const KEY_FLAG_IPV6: u8 = 1;
/// The packets are later fragments of fragmented datagrams: they carry no ports.
pub const KEY_FLAG_LATER_FRAGMENT: u8 = 2;

/// Words of an IPv4 key.
pub const IPV4_KEY_WORDS: usize = 3;
/// Words of an IPv6 key, and of the common form that holds either.
pub const IPV6_KEY_WORDS: usize = 6;

/// Secret words that [`Key::hash`] takes.
pub const HASH_SECRETS: usize = 2 * IPV6_KEY_WORDS;

/// A flow key of `N` words; see the module for the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Key<const N: usize>(pub [u64; N]);

/// Key of an IPv4 flow.
pub type Ipv4Key = Key<IPV4_KEY_WORDS>;
/// Key of an IPv6 flow.
pub type Ipv6Key = Key<IPV6_KEY_WORDS>;

/// The fields of a key that do not depend on the address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFields {
    /// Number of the observation point, as registered by user space; 0 if it registered none.
    pub observation_point: u16,
    /// `KEY_FLAG_*`.
    pub flags: u8,
    /// IP protocol number; for IPv6 that of the last header reached.
    pub protocol: u8,
    /// Source and destination port as the packet's four octets. ICMP: two zero octets, type, code.
    pub ports: [u8; 4],
    /// Outer VLAN identifier, 12 bits, 0 if untagged.
    pub vlan_id: u16,
    /// Inner VLAN identifier, 12 bits, 0 if there is no second tag.
    pub customer_vlan_id: u16,
    /// IPv4 type of service or IPv6 traffic class.
    pub class_of_service: u8,
}

impl KeyFields {
    #[inline(always)]
    const fn first_word(self) -> u64 {
        (self.observation_point as u64) << 32 | (self.flags as u64) << 48 | (self.protocol as u64) << 56
    }

    #[inline(always)]
    const fn last_word(self) -> u64 {
        u32::from_ne_bytes(self.ports) as u64
            | ((self.vlan_id & 0xfff) as u64) << 32
            | ((self.customer_vlan_id & 0xfff) as u64) << 44
            | (self.class_of_service as u64) << 56
    }
}

impl Ipv4Key {
    /// Builds the key; `addresses` are the source and destination address as in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(fields: KeyFields, addresses: [u8; 8]) -> Self {
        Self([fields.first_word(), u64::from_ne_bytes(addresses), fields.last_word()])
    }

    /// The same key in the common form, as used by the spill log and by user space.
    #[inline(always)]
    #[must_use]
    pub const fn widen(self) -> Ipv6Key {
        let [first, addresses, last] = self.0;
        Key([first, addresses, 0, 0, 0, last])
    }
}

impl Ipv6Key {
    /// Builds the key; `addresses` are the source and destination address as in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(fields: KeyFields, addresses: [[u8; 8]; 4]) -> Self {
        Self([
            fields.first_word() | (KEY_FLAG_IPV6 as u64) << 48,
            u64::from_ne_bytes(addresses[0]),
            u64::from_ne_bytes(addresses[1]),
            u64::from_ne_bytes(addresses[2]),
            u64::from_ne_bytes(addresses[3]),
            fields.last_word(),
        ])
    }
}

impl<const N: usize> Key<N> {
    /// Hash of the key for the kernel's table, under keys that are random per load.
    ///
    /// NH (RFC 4418 section 5.2.2): two keys collide with a probability of `2^-32` at most, whoever chose
    /// them, as long as `secrets` are not known. Its sum is then mixed once, because a table takes only
    /// some of its bits. See [`slot_number`](crate::layout::slot_number).
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, secrets: &[u32; HASH_SECRETS]) -> u64 {
        let mut sum = 0u64;
        let mut i = 0;
        while i < N {
            let low = (self.0[i] as u32).wrapping_add(secrets[2 * i]);
            let high = ((self.0[i] >> 32) as u32).wrapping_add(secrets[2 * i + 1]);
            sum = sum.wrapping_add(low as u64 * high as u64);
            i += 1;
        }
        sum ^= sum >> 32;
        sum = sum.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Both halves are slot numbers, and the product's low half knows nothing of the sum's high half.
        sum ^ sum >> 32
    }

    /// The epoch of the slot the key was read from; 0 for a key that is not in a slot.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.0[0] as u32
    }

    /// The key without its epoch.
    #[must_use]
    pub const fn without_epoch(mut self) -> Self {
        self.0[0] &= !0xffff_ffff;
        self
    }

    /// The fields that do not depend on the address family.
    #[must_use]
    pub const fn fields(&self) -> KeyFields {
        let (first, last) = (self.0[0], self.0[N - 1]);
        KeyFields {
            observation_point: (first >> 32) as u16,
            flags: (first >> 48) as u8,
            protocol: (first >> 56) as u8,
            ports: (last as u32).to_ne_bytes(),
            vlan_id: (last >> 32) as u16 & 0xfff,
            customer_vlan_id: (last >> 44) as u16 & 0xfff,
            class_of_service: (last >> 56) as u8,
        }
    }
}

/// Source and destination address of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4 source and destination, network byte order.
    Ipv4([u8; 4], [u8; 4]),
    /// IPv6 source and destination, network byte order.
    Ipv6([u8; 16], [u8; 16]),
}

impl Ipv6Key {
    /// The addresses of a key in the common form (a key of either family).
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        let [first, a, b, c, d, _] = self.0;
        if (first >> 48) as u8 & KEY_FLAG_IPV6 == 0 {
            let [s0, s1, s2, s3, d0, d1, d2, d3] = a.to_ne_bytes();
            Addresses::Ipv4([s0, s1, s2, s3], [d0, d1, d2, d3])
        } else {
            Addresses::Ipv6(join(a, b), join(c, d))
        }
    }
}

const fn join(high: u64, low: u64) -> [u8; 16] {
    let [a0, a1, a2, a3, a4, a5, a6, a7] = high.to_ne_bytes();
    let [b0, b1, b2, b3, b4, b5, b6, b7] = low.to_ne_bytes();
    [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7]
}

/// What one epoch adds to a flow. All values in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowCounters {
    /// Layer 3 octets (RFC 5102 section 5.10.1: header and payload of IP, no Ethernet, no padding).
    pub octets: u64,
    /// Packets. One epoch lasts seconds at most, so 32 bits are enough.
    pub packets: u32,
    /// Time of the first packet: the low 32 bits of the kernel's tick counter (jiffies). What time that
    /// is, the [`TableHeader`](crate::layout::TableHeader) of the same epoch tells.
    pub first: u32,
    /// Time of the last packet, likewise.
    pub last: u32,
    /// TCP control bits of all packets, or-ed (RFC 7125).
    pub tcp_control_bits: u16,
    /// Zero.
    pub reserved: [u16; 9],
}

/// One slot of a flow table: a key stamped with the epoch in which it was written, and its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Slot<const N: usize> {
    /// Key with the epoch in the low half of word 0. A slot of another epoch is free.
    pub key: Key<N>,
    /// Counters of that epoch.
    pub counters: FlowCounters,
}

/// Slot of the IPv4 table: exactly one cache line.
pub type Ipv4Slot = Slot<IPV4_KEY_WORDS>;

/// Slot of the IPv6 table and record of the spill log: two cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Ipv6Slot {
    /// Key and counters.
    pub slot: Slot<IPV6_KEY_WORDS>,
    /// Zero; brings the slot to two cache lines, so that no slot straddles three.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<FlowCounters>() == 40);
const _: () = assert!(size_of::<Ipv4Slot>() == 64);
const _: () = assert!(size_of::<Ipv6Slot>() == 128);
