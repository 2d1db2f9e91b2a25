//! The Information Elements this crate exports, from the IANA "IPFIX Entities" registry
//! (<https://www.iana.org/assignments/ipfix/>, RFC 7012). NetFlow v9 field types 1 to 127 have the same
//! numbers (RFC 7012, section 4).

/// Abstract Data Types of RFC 7012, section 3.1, as far as exported elements use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbstractDataType {
    /// One octet.
    Unsigned8,
    /// Two octets.
    Unsigned16,
    /// Four octets.
    Unsigned32,
    /// Eight octets.
    Unsigned64,
    /// Milliseconds since the Unix epoch, eight octets.
    DateTimeMilliseconds,
    /// IPv4 address.
    Ipv4Address,
    /// IPv6 address.
    Ipv6Address,
    /// Octets whose number the template says.
    OctetArray,
    /// UTF-8 text whose length in octets the template says.
    String,
}

impl AbstractDataType {
    /// Length on the wire in octets (RFC 7011, section 6.1); `None` if the template decides.
    #[must_use]
    pub const fn length(self) -> Option<u16> {
        match self {
            Self::Unsigned8 => Some(1),
            Self::Unsigned16 => Some(2),
            Self::Unsigned32 | Self::Ipv4Address => Some(4),
            Self::Unsigned64 | Self::DateTimeMilliseconds => Some(8),
            Self::Ipv6Address => Some(16),
            Self::OctetArray | Self::String => None,
        }
    }

    /// Whether reduced-size encoding (RFC 7011, section 6.2) is allowed.
    #[must_use]
    pub const fn is_reducible(self) -> bool {
        matches!(self, Self::Unsigned16 | Self::Unsigned32 | Self::Unsigned64)
    }

    /// Whether a template may give a field of this type `length` octets. Variable length
    /// (RFC 7011, section 7) is not used.
    #[must_use]
    pub const fn allows(self, length: u16) -> bool {
        match self.length() {
            Some(full) => length == full || (self.is_reducible() && length > 0 && length < full),
            None => length > 0 && length < u16::MAX,
        }
    }
}

macro_rules! information_elements {
    ($($variant:ident = $id:literal, $name:literal, $type:ident;)*) => {
        /// An Information Element by its registry name; all of the IANA number space (no enterprise number).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum InformationElement {
            $(
                #[doc = concat!("`", $name, "` (", stringify!($id), ").")]
                $variant = $id,
            )*
        }

        impl InformationElement {
            /// All elements this crate can export.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Element ID in the registry.
            #[must_use]
            pub const fn id(self) -> u16 {
                self as u16
            }

            /// Name in the registry.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Abstract Data Type in the registry.
            #[must_use]
            pub const fn abstract_data_type(self) -> AbstractDataType {
                match self {
                    $(Self::$variant => AbstractDataType::$type,)*
                }
            }
        }
    };
}

information_elements! {
    OctetDeltaCount = 1, "octetDeltaCount", Unsigned64;
    PacketDeltaCount = 2, "packetDeltaCount", Unsigned64;
    ProtocolIdentifier = 4, "protocolIdentifier", Unsigned8;
    IpClassOfService = 5, "ipClassOfService", Unsigned8;
    TcpControlBits = 6, "tcpControlBits", Unsigned16;
    SourceTransportPort = 7, "sourceTransportPort", Unsigned16;
    SourceIpv4Address = 8, "sourceIPv4Address", Ipv4Address;
    IngressInterface = 10, "ingressInterface", Unsigned32;
    DestinationTransportPort = 11, "destinationTransportPort", Unsigned16;
    DestinationIpv4Address = 12, "destinationIPv4Address", Ipv4Address;
    EgressInterface = 14, "egressInterface", Unsigned32;
    IpNextHopIpv4Address = 15, "ipNextHopIPv4Address", Ipv4Address;
    BgpSourceAsNumber = 16, "bgpSourceAsNumber", Unsigned32;
    BgpDestinationAsNumber = 17, "bgpDestinationAsNumber", Unsigned32;
    SourceIpv6Address = 27, "sourceIPv6Address", Ipv6Address;
    DestinationIpv6Address = 28, "destinationIPv6Address", Ipv6Address;
    IcmpTypeCodeIpv4 = 32, "icmpTypeCodeIPv4", Unsigned16;
    SamplingInterval = 34, "samplingInterval", Unsigned32;
    ExportedOctetTotalCount = 40, "exportedOctetTotalCount", Unsigned64;
    ExportedMessageTotalCount = 41, "exportedMessageTotalCount", Unsigned64;
    ExportedFlowRecordTotalCount = 42, "exportedFlowRecordTotalCount", Unsigned64;
    SamplerId = 48, "samplerId", Unsigned8;
    SamplerMode = 49, "samplerMode", Unsigned8;
    SamplerRandomInterval = 50, "samplerRandomInterval", Unsigned32;
    VlanId = 58, "vlanId", Unsigned16;
    IpVersion = 60, "ipVersion", Unsigned8;
    FlowDirection = 61, "flowDirection", Unsigned8;
    IpNextHopIpv6Address = 62, "ipNextHopIPv6Address", Ipv6Address;
    MplsTopLabelStackSection = 70, "mplsTopLabelStackSection", OctetArray;
    InterfaceName = 82, "interfaceName", String;
    InterfaceDescription = 83, "interfaceDescription", String;
    FlowEndReason = 136, "flowEndReason", Unsigned8;
    ObservationPointId = 138, "observationPointId", Unsigned64;
    IcmpTypeCodeIpv6 = 139, "icmpTypeCodeIPv6", Unsigned16;
    ExportingProcessId = 144, "exportingProcessId", Unsigned32;
    ObservationDomainId = 149, "observationDomainId", Unsigned32;
    FlowStartMilliseconds = 152, "flowStartMilliseconds", DateTimeMilliseconds;
    FlowEndMilliseconds = 153, "flowEndMilliseconds", DateTimeMilliseconds;
    IgnoredPacketTotalCount = 164, "ignoredPacketTotalCount", Unsigned64;
    IgnoredOctetTotalCount = 165, "ignoredOctetTotalCount", Unsigned64;
    NotSentFlowTotalCount = 166, "notSentFlowTotalCount", Unsigned64;
    NotSentPacketTotalCount = 167, "notSentPacketTotalCount", Unsigned64;
    NotSentOctetTotalCount = 168, "notSentOctetTotalCount", Unsigned64;
    Dot1qCustomerVlanId = 245, "dot1qCustomerVlanId", Unsigned16;
    SelectorId = 302, "selectorId", Unsigned64;
    SelectorAlgorithm = 304, "selectorAlgorithm", Unsigned16;
    SamplingPacketInterval = 305, "samplingPacketInterval", Unsigned32;
    SamplingPacketSpace = 306, "samplingPacketSpace", Unsigned32;
    SamplingSize = 309, "samplingSize", Unsigned32;
    SamplingPopulation = 310, "samplingPopulation", Unsigned32;
    Layer2SegmentId = 351, "layer2SegmentId", Unsigned64;
}
