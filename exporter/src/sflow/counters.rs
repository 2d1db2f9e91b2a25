//! Counters of an interface, in plain types.

/// Duplex or simplex (`ifDirection`, derived from RFC 2863).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum InterfaceDirection {
    /// Not known.
    #[default]
    Unknown = 0,
    /// Both directions at once.
    FullDuplex = 1,
    /// Both directions in turn.
    HalfDuplex = 2,
    /// Only receives.
    In = 3,
    /// Only sends.
    Out = 4,
}

/// `ifAdminStatus` and `ifOperStatus` (RFC 2863).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStatus {
    /// The operator has switched it on.
    pub is_admin_up: bool,
    /// It passes packets.
    pub is_operational: bool,
}

/// Generic interface counters (`if_counters`, format 1; objects of RFC 2863).
///
/// Counters only grow. Those that the standard has with 32 bits are sent modulo 2^32; `None` is sent as "not
/// available", all bits set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// `ifIndex`, and the data source.
    pub index: u32,
    /// `ifType` (IANA "ifType definitions"): 6 = Ethernet, 24 = loopback, 1 = other.
    pub interface_type: u32,
    /// `ifSpeed` in bits per second; 0 = not known.
    pub speed: u64,
    /// Duplex or simplex.
    pub direction: InterfaceDirection,
    /// Whether it is switched on and works.
    pub status: InterfaceStatus,
    /// `ifHCInOctets`.
    pub in_octets: Option<u64>,
    /// `ifInUcastPkts`.
    pub in_unicast_packets: Option<u64>,
    /// `ifInMulticastPkts`.
    pub in_multicast_packets: Option<u64>,
    /// `ifInBroadcastPkts`.
    pub in_broadcast_packets: Option<u64>,
    /// `ifInDiscards`.
    pub in_discards: Option<u64>,
    /// `ifInErrors`.
    pub in_errors: Option<u64>,
    /// `ifInUnknownProtos`.
    pub in_unknown_protocols: Option<u64>,
    /// `ifHCOutOctets`.
    pub out_octets: Option<u64>,
    /// `ifOutUcastPkts`.
    pub out_unicast_packets: Option<u64>,
    /// `ifOutMulticastPkts`.
    pub out_multicast_packets: Option<u64>,
    /// `ifOutBroadcastPkts`.
    pub out_broadcast_packets: Option<u64>,
    /// `ifOutDiscards`.
    pub out_discards: Option<u64>,
    /// `ifOutErrors`.
    pub out_errors: Option<u64>,
    /// `ifPromiscuousMode`.
    pub is_promiscuous: bool,
}
