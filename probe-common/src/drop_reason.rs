//! Why a packet is not in a flow.

/// Why a packet is not accounted to a flow.
///
/// The packet itself always continues on its way (`XDP_PASS`); what is dropped is its place in the flow
/// table. Each reason has its own packet and octet counter per observation point, so that
/// `seen = in flows + sum of these`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// Neither IPv4 nor IPv6: ARP, LLDP, spanning tree, Ethernet over MPLS and so on.
    NotIp = 0,
    /// The frame ends before the end of its link or fixed IP header.
    Truncated = 1,
    /// The IP version does not match the `EtherType`, or a length field contradicts its own header.
    Malformed = 2,
    /// The flow table had no free slot for a new flow and the spill log was full as well.
    TableOverflow = 3,
    /// The operator's filter does not match it.
    Filtered = 4,
    /// Sampling did not select it.
    NotSelected = 5,
    /// Mirror port: the receive ring of its AF_XDP socket was full.
    RxRingFull = 6,
    /// Mirror port: the fill ring of its AF_XDP socket was empty.
    FillRingEmpty = 7,
    /// Mirror port: the kernel dropped it before its AF_XDP socket for another reason.
    RxDropped = 8,
    /// Mirror port: nobody was there to take it, so it went to the network stack of this host.
    Passed = 9,
}

impl DropReason {
    /// Whether the packet should have been in a flow: it is one that the operator wants, and IP.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::NotIp | Self::Filtered | Self::NotSelected)
    }

    /// Number of reasons.
    pub const COUNT: usize = 10;

    /// Every reason, in the order of the counters.
    pub const ALL: [Self; Self::COUNT] = [
        Self::NotIp,
        Self::Truncated,
        Self::Malformed,
        Self::TableOverflow,
        Self::Filtered,
        Self::NotSelected,
        Self::RxRingFull,
        Self::FillRingEmpty,
        Self::RxDropped,
        Self::Passed,
    ];

    /// The name used in metrics and in the ledger.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::TableOverflow => "table_overflow",
            Self::Filtered => "filtered",
            Self::NotSelected => "not_selected",
            Self::RxRingFull => "rx_ring_full",
            Self::FillRingEmpty => "fill_ring_empty",
            Self::RxDropped => "rx_dropped",
            Self::Passed => "passed",
        }
    }
}
