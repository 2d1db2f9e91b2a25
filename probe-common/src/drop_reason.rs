//! Why a packet is not in a flow.

/// Why the kernel program could not account a packet to a flow.
///
/// The packet itself always continues on its way (`XDP_PASS`); what is dropped is its place in the flow
/// table. Each reason has its own packet and octet counter per observation point, so that
/// `seen = in flows + sum of these`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// Neither IPv4 nor IPv6: ARP, LLDP, spanning tree, more than two VLAN tags and so on.
    NotIp = 0,
    /// The frame ends before the end of its Ethernet or fixed IP header.
    Truncated = 1,
    /// The IP version does not match the `EtherType`, or a length field contradicts its own header.
    Malformed = 2,
    /// The flow table had no free slot for a new flow and the spill log was full as well.
    TableOverflow = 3,
}

impl DropReason {
    /// Number of reasons.
    pub const COUNT: usize = 4;

    /// Every reason, in the order of the counters.
    pub const ALL: [Self; Self::COUNT] = [Self::NotIp, Self::Truncated, Self::Malformed, Self::TableOverflow];

    /// The name used in metrics and in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::TableOverflow => "table_overflow",
        }
    }
}
