//! Flow keys and counters as they lie in the kernel's flow tables.
//!
//! A key is a row of 64-bit words, because words are what both the hash and the comparison in the kernel
//! work on. Fields are placed by shifts, the same on both sides, so there is no padding to forget. Plain
//! IPv4 has a short key; IPv6, and IPv4 below an MPLS label or inside a tunnel, has the wide one:
//!
//! ```text
//! word 0    bits  0..32  epoch of the slot (zero in a key that is not in a slot)
//!           bits 32..40  observation point
//!           bits 40..48  which of the operator's filters match the packets (first filter: bit 40)
//!           bits 48..53  flags (KEY_FLAG_*)
//!           bits 53..56  priority of the outer VLAN tag, if it is asked for
//!           bits 56..64  protocol
//! IPv4      word 1       source and destination address
//! wide      words 1..3   source address        words 3..5   destination address (IPv4: both in word 1)
//!           word 5       bits  0..20  label at the top of the MPLS stack
//!                        bits 20..21  whether there is one
//!                        bits 21..32  IPv6 flow label, if it is asked for: the lowest 11 bits
//!                        bits 32..56  VXLAN network identifier
//!                        bits 56..64  the next 8 bits of the flow label; its highest is a flag
//! last      bits  0..32  source and destination port
//!           bits 32..44  outer VLAN identifier
//!           bits 44..56  inner VLAN identifier
//!           bits 56..64  type of service / traffic class
//! ```
//!
//! Addresses and ports are the packet's octets in the packet's order (network byte order), moved as one
//! word without swapping; everything else is a value in host order.

use crate::PacketBytes;
use crate::bytes::field;
use crate::layout::OBSERVATION_POINTS;

/// The key is of an IPv6 packet.
pub const KEY_FLAG_IPV6: u8 = 1;
/// Later fragments of one datagram, of which the first fragment has not been seen: in place of the ports
/// the key has the datagram's identification, for user space to look up (see [`Datagram`]).
pub const KEY_FLAG_LATER_FRAGMENT: u8 = 2;
/// In the kernel's tables: word 5 of the wide key is not an [`Encapsulation`] but a reference to a
/// [`KeyExtension`](crate::extension::KeyExtension), which has what the encapsulation would say as well.
pub const KEY_FLAG_EXTENDED: u8 = 4;

/// The highest bit of the IPv6 flow label, for which word 5 has no room.
pub const KEY_FLAG_FLOW_LABEL: u8 = 8;

/// Bits of the flags.
const KEY_FLAGS: u64 = 0x1f;
/// Bits of a priority.
const VLAN_PRIORITY_MASK: u64 = 7;

/// Filters whose results a key has.
pub const FILTER_RESULTS: usize = 8;
const _: () = assert!(OBSERVATION_POINTS <= 1 << 8, "eight bits hold an observation point");

/// Words of an IPv4 key.
pub const IPV4_KEY_WORDS: usize = 3;
/// Words of a wide key: the common form that holds any flow.
pub const WIDE_KEY_WORDS: usize = 7;

/// Secret words that [`Key::hash`] takes.
pub const HASH_SECRETS: usize = 2 * WIDE_KEY_WORDS;

/// A flow key of `N` words; see the module for the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Key<const N: usize>(pub [u64; N]);

/// Key of an IPv4 flow.
pub type Ipv4Key = Key<IPV4_KEY_WORDS>;
/// Key of any flow.
pub type WideKey = Key<WIDE_KEY_WORDS>;

/// The fields of a key that do not depend on the address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFields {
    /// Number of the observation point, as registered by user space; 0 if it registered none. Below
    /// [`OBSERVATION_POINTS`].
    pub observation_point: u16,
    /// Which of the operator's filters match the packets, a bit for each.
    pub filter_results: u8,
    /// `KEY_FLAG_*`.
    pub flags: u8,
    /// IP protocol number; for IPv6 that of the last header reached.
    pub protocol: u8,
    /// Source and destination port as the packet's four octets. ICMP: two zero octets, type, code.
    /// With [`KEY_FLAG_LATER_FRAGMENT`]: the identification, in host order of this machine.
    pub ports: [u8; 4],
    /// Outer VLAN identifier, 12 bits, 0 if untagged.
    pub vlan_id: u16,
    /// Inner VLAN identifier, 12 bits, 0 if there is no second tag.
    pub customer_vlan_id: u16,
    /// Priority code point of the outer VLAN tag (IEEE 802.1Q), 3 bits; 0 if untagged, or if nobody asks for it.
    pub vlan_priority: u8,
    /// IPv4 type of service or IPv6 traffic class.
    pub class_of_service: u8,
}

/// What is known of a packet before it is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// As in [`KeyFields::observation_point`].
    pub observation_point: u16,
    /// As in [`KeyFields::filter_results`].
    pub filter_results: u8,
}

/// Without filters.
impl From<u16> for Origin {
    #[inline(always)]
    fn from(observation_point: u16) -> Self {
        Self { observation_point, filter_results: 0 }
    }
}

impl KeyFields {
    #[inline(always)]
    const fn first_word(self) -> u64 {
        (self.observation_point as u8 as u64) << 32
            | (self.filter_results as u64) << 40
            | (self.flags as u64 & KEY_FLAGS) << 48
            | (self.vlan_priority as u64 & VLAN_PRIORITY_MASK) << 53
            | (self.protocol as u64) << 56
    }

    #[inline(always)]
    const fn last_word(self) -> u64 {
        u32::from_ne_bytes(self.ports) as u64
            | ((self.vlan_id & 0xfff) as u64) << 32
            | ((self.customer_vlan_id & 0xfff) as u64) << 44
            | (self.class_of_service as u64) << 56
    }
}

/// What lies between Ethernet and the IP header that the key is of, other than VLAN tags: the word of a wide
/// key. (A word and not fields, because what an absent field holds the verifier must know as well.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Encapsulation(u64);

const LABEL_MASK: u64 = 0xf_ffff;
const LABEL_PRESENT: u64 = 1 << 20;
const IDENTIFIER_MASK: u64 = 0xff_ffff;
const FLOW_LABEL_LOW: u64 = 0x7ff;
const FLOW_LABEL_MIDDLE: u64 = 0xff;
/// Those of a key's word 5 that are no encapsulation.
const FLOW_LABEL_BITS: u64 = FLOW_LABEL_LOW << 21 | FLOW_LABEL_MIDDLE << 56;

impl Encapsulation {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// With `label` at the top of the MPLS stack (RFC 3032), 20 bits.
    #[inline(always)]
    #[must_use]
    pub const fn with_mpls_top_label(self, label: u32) -> Self {
        Self(self.0 & !LABEL_MASK | label as u64 & LABEL_MASK | LABEL_PRESENT)
    }

    /// In a VXLAN of this network identifier (RFC 7348), 24 bits.
    #[inline(always)]
    #[must_use]
    pub const fn with_vxlan_network_identifier(self, identifier: u32) -> Self {
        Self(self.0 & !(IDENTIFIER_MASK << 32) | (identifier as u64 & IDENTIFIER_MASK) << 32)
    }

    /// The label at the top of the MPLS stack, if there is one.
    #[must_use]
    pub const fn mpls_top_label(self) -> Option<u32> {
        if self.0 & LABEL_PRESENT == 0 { None } else { Some((self.0 & LABEL_MASK) as u32) }
    }

    /// VXLAN network identifier; 0 if the packet came in no VXLAN, or if tunnels are not looked into.
    #[must_use]
    pub const fn vxlan_network_identifier(self) -> u32 {
        (self.0 >> 32 & IDENTIFIER_MASK) as u32
    }

    /// The same, as [`PacketBytes::forget_word`] has it.
    #[inline(always)]
    pub(crate) fn forget<P: PacketBytes>(self, packet: &P) -> Self {
        Self(packet.forget_word(self.0))
    }

    /// Whether there is any.
    #[inline(always)]
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.0 != 0
    }
}

impl Ipv4Key {
    /// Builds the key; `addresses` are the source and destination address as in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(fields: KeyFields, addresses: [u8; 8]) -> Self {
        Self([fields.first_word(), u64::from_ne_bytes(addresses), fields.last_word()])
    }

    /// The same key in the common form.
    #[inline(always)]
    #[must_use]
    pub const fn widen(self, encapsulation: Encapsulation) -> WideKey {
        let [first, addresses, last] = self.0;
        Key([first, addresses, 0, 0, 0, encapsulation.0, last])
    }
}

impl WideKey {
    /// Builds the key; `addresses` are the source and destination address as in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(fields: KeyFields, addresses: [[u8; 8]; 4], encapsulation: Encapsulation) -> Self {
        Self([
            fields.first_word() | (KEY_FLAG_IPV6 as u64) << 48,
            u64::from_ne_bytes(addresses[0]),
            u64::from_ne_bytes(addresses[1]),
            u64::from_ne_bytes(addresses[2]),
            u64::from_ne_bytes(addresses[3]),
            encapsulation.0,
            fields.last_word(),
        ])
    }
}

impl<const N: usize> Key<N> {
    /// Hash of the key for the kernel's table, under keys that are random per load.
    ///
    /// NH (RFC 4418 section 5.2.2): two keys collide with a probability of `2^-32` at most, whoever chose
    /// them, as long as `secrets` are not known. Its sum is then mixed once, because a table takes only
    /// some of its bits. See [`Probes`](crate::layout::Probes).
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

    /// The key with another observation point.
    #[must_use]
    pub const fn with_observation_point(mut self, observation_point: u16) -> Self {
        self.0[0] = self.0[0] & !(0xff << 32) | (observation_point as u8 as u64) << 32;
        self
    }

    /// The key with only those filter results that are set in `mask`.
    #[must_use]
    pub const fn with_filter_results_of(mut self, mask: u8) -> Self {
        self.0[0] &= !((!mask as u64) << 40);
        self
    }

    /// The key of packets of any priority.
    #[must_use]
    pub const fn without_vlan_priority(mut self) -> Self {
        self.0[0] &= !(VLAN_PRIORITY_MASK << 53);
        self
    }

    /// The fields that do not depend on the address family.
    #[must_use]
    pub const fn fields(&self) -> KeyFields {
        let (first, last) = (self.0[0], self.0[N - 1]);
        KeyFields {
            observation_point: (first >> 32) as u8 as u16,
            filter_results: (first >> 40) as u8,
            flags: (first >> 48 & KEY_FLAGS) as u8,
            protocol: (first >> 56) as u8,
            ports: (last as u32).to_ne_bytes(),
            vlan_id: (last >> 32) as u16 & 0xfff,
            customer_vlan_id: (last >> 44) as u16 & 0xfff,
            vlan_priority: (first >> 53 & VLAN_PRIORITY_MASK) as u8,
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

impl WideKey {
    /// What the packets were wrapped in.
    #[must_use]
    pub const fn encapsulation(&self) -> Encapsulation {
        Encapsulation(self.0[5] & !FLOW_LABEL_BITS)
    }

    /// IPv6 flow label (RFC 6437), 20 bits; 0 if there is none, or if nobody asks for it.
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        let (word, flags) = (self.0[5], (self.0[0] >> 48) as u8);
        let highest = (flags & KEY_FLAG_FLOW_LABEL != 0) as u32;
        (word >> 21 & FLOW_LABEL_LOW) as u32 | ((word >> 56) as u32) << 11 | highest << 19
    }

    /// The key of packets with this IPv6 flow label. Not for a key that has a reference to its extension.
    #[inline(always)]
    #[must_use]
    pub const fn with_flow_label(mut self, label: u32) -> Self {
        let label = label as u64;
        self.0[5] = self.0[5] & !FLOW_LABEL_BITS
            | (label & FLOW_LABEL_LOW) << 21
            | (label >> 11 & FLOW_LABEL_MIDDLE) << 56;
        self.0[0] = self.0[0] & !((KEY_FLAG_FLOW_LABEL as u64) << 48)
            | (label >> 19 & 1) << (48 + KEY_FLAG_FLOW_LABEL.trailing_zeros());
        self
    }

    /// The key of packets of any flow label.
    #[must_use]
    pub const fn without_flow_label(self) -> Self {
        self.with_flow_label(0)
    }

    /// The reference that the kernel program gave to the key's extension, if it has one.
    #[must_use]
    pub const fn extension_reference(&self) -> Option<u64> {
        if (self.0[0] >> 48) as u8 & KEY_FLAG_EXTENDED == 0 { None } else { Some(self.0[5]) }
    }

    /// The key outside of the kernel's tables: with the number of its extension (0 = none) in place of the epoch, and
    /// the encapsulation in place of the reference. Without flow label.
    #[must_use]
    pub const fn with_extension(mut self, number: u32, encapsulation: Encapsulation) -> Self {
        let flags = (KEY_FLAG_EXTENDED | KEY_FLAG_FLOW_LABEL) as u64;
        self.0[0] = self.0[0] & !(flags << 48 | 0xffff_ffff) | number as u64;
        self.0[5] = encapsulation.0;
        self
    }

    /// The number of the key's extension, for a key outside of the kernel's tables; 0 = it has none.
    #[must_use]
    pub const fn extension(&self) -> u32 {
        self.epoch()
    }

    /// The key of packets with any extension, outside of the kernel's tables.
    #[must_use]
    pub const fn without_extension(self) -> Self {
        self.without_epoch()
    }

    /// Whether this is no more than a widened [`Ipv4Key`]: without encapsulation and without extension.
    #[inline(always)]
    #[must_use]
    pub const fn is_plain_ipv4(&self) -> bool {
        let [first, .., last_but_one, _] = self.0;
        (first >> 48) as u8 & KEY_FLAG_IPV6 == 0 && first as u32 == 0 && last_but_one == 0
    }

    /// The short form of a key that [is plain IPv4](Self::is_plain_ipv4).
    #[inline(always)]
    #[must_use]
    pub const fn narrow(&self) -> Ipv4Key {
        let [first, addresses, .., last] = self.0;
        Key([first, addresses, last])
    }

    /// The key in the kernel's tables with a reference to its extension.
    #[inline(always)]
    #[must_use]
    pub const fn with_extension_reference(mut self, reference: u64) -> Self {
        let flow_label = (KEY_FLAG_FLOW_LABEL as u64) << 48;
        self.0[0] = self.0[0] & !flow_label | (KEY_FLAG_EXTENDED as u64) << 48;
        self.0[5] = reference;
        self
    }

    /// The datagram whose later fragments these are; `None` if the flow has its ports.
    #[must_use]
    pub const fn datagram(&self) -> Option<Datagram> {
        let fields = self.fields();
        if fields.flags & KEY_FLAG_LATER_FRAGMENT == 0 {
            return None;
        }
        let [_, a, b, c, d, _, _] = self.0;
        let identification = u32::from_ne_bytes(fields.ports);
        let is_ipv6 = fields.flags & KEY_FLAG_IPV6 != 0;
        Some(Datagram {
            addresses: [a, b, c, d],
            identification,
            // RFC 8200 section 4.5: fragments may differ in it, and only the first one's counts.
            protocol: if is_ipv6 { 0 } else { fields.protocol as u32 },
        })
    }

    /// The key of the flow that the later fragments belong to, by what their first fragment says.
    #[must_use]
    pub const fn with_ports_of(mut self, first: DatagramPorts) -> Self {
        let ports = u32::from_ne_bytes(first.ports) as u64;
        self.0[6] = self.0[6] & !0xffff_ffff | ports;
        self.0[0] &= !((KEY_FLAG_LATER_FRAGMENT as u64) << 48 | 0xff << 56);
        self.0[0] |= (first.protocol as u64) << 56;
        self
    }

    /// The key of the later fragments for when their first fragment never came: without ports.
    #[must_use]
    pub const fn without_ports(self) -> Self {
        let protocol = self.fields().protocol as u32;
        self.with_ports_of(DatagramPorts { ports: [0; 4], protocol, jiffies: 0 })
    }

    /// The addresses of a key in the common form (a key of either family).
    #[must_use]
    pub const fn addresses(&self) -> Addresses {
        let [first, a, b, c, d, _, _] = self.0;
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

/// What tells the fragments of one datagram from those of others (RFC 791 section 2.3, RFC 8200 section
/// 4.5): key of the kernel's table of datagrams whose first fragment was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Datagram {
    /// The four address words of a wide key.
    pub addresses: [u64; 4],
    /// IPv4: 16 bits; IPv6: 32 bits.
    pub identification: u32,
    /// IPv4: protocol; IPv6: 0.
    pub protocol: u32,
}

impl Datagram {
    /// As it lies in memory.
    #[must_use]
    pub fn octets(&self) -> [u8; size_of::<Self>()] {
        let mut octets = [0; size_of::<Self>()];
        let (addresses, rest) = octets.split_at_mut(size_of::<[u64; 4]>());
        for (place, word) in addresses.as_chunks_mut().0.iter_mut().zip(self.addresses) {
            *place = word.to_ne_bytes();
        }
        for (place, word) in rest.as_chunks_mut().0.iter_mut().zip([self.identification, self.protocol]) {
            *place = word.to_ne_bytes();
        }
        octets
    }
}

/// What only the first fragment of a datagram tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DatagramPorts {
    /// As in [`KeyFields::ports`].
    pub ports: [u8; 4],
    /// As in [`KeyFields::protocol`].
    pub protocol: u32,
    /// When the first fragment was seen: the low 32 bits of the kernel's tick counter.
    pub jiffies: u32,
}

impl DatagramPorts {
    /// From how it lies in memory.
    #[must_use]
    pub fn from_octets(octets: [u8; size_of::<Self>()]) -> Self {
        Self {
            ports: field(&octets, 0),
            protocol: u32::from_ne_bytes(field(&octets, 4)),
            jiffies: u32::from_ne_bytes(field(&octets, 8)),
        }
    }
}

/// For how long after its first fragment others are taken for the same datagram: as long as a Linux host
/// waits for them (`net.ipv4.ipfrag_time`). Identifications are used again later.
pub const DATAGRAM_SECONDS: u32 = 30;

/// What one epoch adds to a flow. All values in host order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowCounters {
    /// Layer 3 octets (RFC 5102 section 5.10.1: header and payload of IP, no Ethernet, no padding).
    pub octets: u64,
    /// Packets. While nobody drains, an epoch lasts as long as that, so 32 bits would not be enough.
    pub packets: u64,
    /// Time of the first packet: the low 32 bits of the kernel's tick counter (jiffies). What time that
    /// is, the [`TableHeader`](crate::layout::TableHeader) of the same epoch tells.
    pub first: u32,
    /// Time of the last packet, likewise.
    pub last: u32,
    /// The interface at the other end of the packets' way through this host, of the first packet: egress
    /// interface by the routing table on an ingress point, ingress interface on an egress point; 0 if
    /// there is none or it is not known.
    pub other_interface: u32,
    /// IPv4 address of the gateway towards the destination, the packet's octets; 0 if there is none.
    pub next_hop: u32,
    /// TCP control bits of all packets, or-ed (RFC 7125).
    pub tcp_control_bits: u16,
    /// MAC address of the neighbour, of the first packet: its source on an ingress point, its destination on an egress
    /// point; zero if it is not known. On a link without MAC addresses it means nothing.
    pub neighbour: [u8; 6],
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

/// Slot of the table of wide keys and record of the spill log: two cache lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WideSlot {
    /// Key and counters.
    pub slot: Slot<WIDE_KEY_WORDS>,
    /// IPv6 address of the gateway towards the destination, the address's octets; 0 if there is none.
    pub next_hop: [u64; 2],
    /// Zero; brings the slot to two cache lines, so that no slot straddles three.
    pub reserved: [u64; 2],
}

const _: () = assert!(size_of::<FlowCounters>() == 40);
const _: () = assert!(size_of::<Ipv4Slot>() == 64);
const _: () = assert!(size_of::<WideSlot>() == 128);
