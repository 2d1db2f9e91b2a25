//! Numbers and names of IANA's "Border Gateway Protocol (BGP) Parameters".

/// Message types (RFC 4271, section 4.1; RFC 2918).
pub mod message_type {
    /// OPEN.
    pub const OPEN: u8 = 1;
    /// UPDATE.
    pub const UPDATE: u8 = 2;
    /// NOTIFICATION.
    pub const NOTIFICATION: u8 = 3;
    /// KEEPALIVE.
    pub const KEEPALIVE: u8 = 4;
    /// ROUTE-REFRESH.
    pub const ROUTE_REFRESH: u8 = 5;
}

/// Type codes of path attributes.
pub mod attribute {
    /// ORIGIN (RFC 4271).
    pub const ORIGIN: u8 = 1;
    /// `AS_PATH` (RFC 4271).
    pub const AS_PATH: u8 = 2;
    /// `NEXT_HOP` (RFC 4271).
    pub const NEXT_HOP: u8 = 3;
    /// `MULTI_EXIT_DISC` (RFC 4271).
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// `LOCAL_PREF` (RFC 4271).
    pub const LOCAL_PREF: u8 = 5;
    /// `ATOMIC_AGGREGATE` (RFC 4271).
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// AGGREGATOR (RFC 4271).
    pub const AGGREGATOR: u8 = 7;
    /// COMMUNITIES (RFC 1997).
    pub const COMMUNITIES: u8 = 8;
    /// `ORIGINATOR_ID` (RFC 4456).
    pub const ORIGINATOR_ID: u8 = 9;
    /// `CLUSTER_LIST` (RFC 4456).
    pub const CLUSTER_LIST: u8 = 10;
    /// `MP_REACH_NLRI` (RFC 4760).
    pub const MP_REACH_NLRI: u8 = 14;
    /// `MP_UNREACH_NLRI` (RFC 4760).
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// EXTENDED COMMUNITIES (RFC 4360).
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// `AS4_PATH` (RFC 6793).
    pub const AS4_PATH: u8 = 17;
    /// `AS4_AGGREGATOR` (RFC 6793).
    pub const AS4_AGGREGATOR: u8 = 18;
    /// AIGP (RFC 7311).
    pub const AIGP: u8 = 26;
    /// `LARGE_COMMUNITY` (RFC 8092).
    pub const LARGE_COMMUNITY: u8 = 32;
    /// Only to Customer (RFC 9234).
    pub const ONLY_TO_CUSTOMER: u8 = 35;
    /// BGP Prefix-SID (RFC 8669).
    pub const PREFIX_SID: u8 = 40;
}

/// Codes of capabilities.
pub mod capability {
    /// Multiprotocol Extensions (RFC 4760).
    pub const MULTIPROTOCOL: u8 = 1;
    /// Route Refresh (RFC 2918).
    pub const ROUTE_REFRESH: u8 = 2;
    /// Extended Next Hop Encoding (RFC 8950).
    pub const EXTENDED_NEXT_HOP: u8 = 5;
    /// BGP Extended Message (RFC 8654).
    pub const EXTENDED_MESSAGE: u8 = 6;
    /// BGP Role (RFC 9234).
    pub const ROLE: u8 = 9;
    /// Graceful Restart (RFC 4724).
    pub const GRACEFUL_RESTART: u8 = 64;
    /// Four-octet AS numbers (RFC 6793).
    pub const FOUR_OCTET_AS_NUMBER: u8 = 65;
    /// ADD-PATH (RFC 7911).
    pub const ADD_PATH: u8 = 69;
    /// Enhanced Route Refresh (RFC 7313).
    pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
    /// FQDN (draft-walton-bgp-hostname-capability).
    pub const FQDN: u8 = 73;
}

/// Error codes of NOTIFICATION.
pub mod error_code {
    /// Message Header Error.
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    /// Finite State Machine Error.
    pub const FINITE_STATE_MACHINE: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313).
    pub const ROUTE_REFRESH: u8 = 7;
}

/// Subcodes of Message Header Error (RFC 4271, section 6.1).
pub mod header_subcode {
    /// Connection Not Synchronized.
    pub const CONNECTION_NOT_SYNCHRONIZED: u8 = 1;
    /// Bad Message Length.
    pub const BAD_MESSAGE_LENGTH: u8 = 2;
    /// Bad Message Type.
    pub const BAD_MESSAGE_TYPE: u8 = 3;
}

/// Subcodes of OPEN Message Error (RFC 4271, section 6.2; RFC 5492; RFC 9234).
pub mod open_subcode {
    /// Unspecific.
    pub const UNSPECIFIC: u8 = 0;
    /// Unsupported Version Number.
    pub const UNSUPPORTED_VERSION_NUMBER: u8 = 1;
    /// Bad Peer AS.
    pub const BAD_PEER_AS: u8 = 2;
    /// Bad BGP Identifier.
    pub const BAD_BGP_IDENTIFIER: u8 = 3;
    /// Unsupported Optional Parameter.
    pub const UNSUPPORTED_OPTIONAL_PARAMETER: u8 = 4;
    /// Unacceptable Hold Time.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// Unsupported Capability.
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
    /// Role Mismatch.
    pub const ROLE_MISMATCH: u8 = 11;
}

/// Subcodes of UPDATE Message Error (RFC 4271, section 6.3).
pub mod update_subcode {
    /// Malformed Attribute List.
    pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    /// Unrecognized Well-known Attribute.
    pub const UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE: u8 = 2;
    /// Missing Well-known Attribute.
    pub const MISSING_WELL_KNOWN_ATTRIBUTE: u8 = 3;
    /// Attribute Flags Error.
    pub const ATTRIBUTE_FLAGS_ERROR: u8 = 4;
    /// Attribute Length Error.
    pub const ATTRIBUTE_LENGTH_ERROR: u8 = 5;
    /// Invalid ORIGIN Attribute.
    pub const INVALID_ORIGIN: u8 = 6;
    /// Invalid `NEXT_HOP` Attribute.
    pub const INVALID_NEXT_HOP: u8 = 8;
    /// Optional Attribute Error.
    pub const OPTIONAL_ATTRIBUTE_ERROR: u8 = 9;
    /// Invalid Network Field.
    pub const INVALID_NETWORK_FIELD: u8 = 10;
    /// Malformed `AS_PATH`.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of Finite State Machine Error (RFC 6608).
pub mod finite_state_machine_subcode {
    /// Receive Unexpected Message in OpenSent State.
    pub const OPEN_SENT: u8 = 1;
    /// Receive Unexpected Message in OpenConfirm State.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Receive Unexpected Message in Established State.
    pub const ESTABLISHED: u8 = 3;
}

/// Subcodes of Cease (RFC 4486, RFC 8538, RFC 9384).
pub mod cease_subcode {
    /// Maximum Number of Prefixes Reached.
    pub const MAXIMUM_PREFIXES: u8 = 1;
    /// Administrative Shutdown.
    pub const ADMINISTRATIVE_SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const PEER_DECONFIGURED: u8 = 3;
    /// Administrative Reset.
    pub const ADMINISTRATIVE_RESET: u8 = 4;
    /// Connection Rejected.
    pub const CONNECTION_REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const OTHER_CONFIGURATION_CHANGE: u8 = 6;
    /// Connection Collision Resolution.
    pub const CONNECTION_COLLISION_RESOLUTION: u8 = 7;
    /// Out of Resources.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Hard Reset (RFC 8538).
    pub const HARD_RESET: u8 = 9;
    /// BFD Down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// Subcode of ROUTE-REFRESH Message Error (RFC 7313, section 5).
pub mod route_refresh_subcode {
    /// Invalid Message Length.
    pub const INVALID_MESSAGE_LENGTH: u8 = 1;
}

/// The two-octet AS number that stands for one of four octets (RFC 6793, section 9).
pub const AS_TRANS: u16 = 23456;

/// Name of a path attribute; `None` for one that is unknown here.
#[must_use]
pub fn attribute_name(type_code: u8) -> Option<&'static str> {
    Some(match type_code {
        attribute::ORIGIN => "ORIGIN",
        attribute::AS_PATH => "AS_PATH",
        attribute::NEXT_HOP => "NEXT_HOP",
        attribute::MULTI_EXIT_DISC => "MULTI_EXIT_DISC",
        attribute::LOCAL_PREF => "LOCAL_PREF",
        attribute::ATOMIC_AGGREGATE => "ATOMIC_AGGREGATE",
        attribute::AGGREGATOR => "AGGREGATOR",
        attribute::COMMUNITIES => "COMMUNITIES",
        attribute::ORIGINATOR_ID => "ORIGINATOR_ID",
        attribute::CLUSTER_LIST => "CLUSTER_LIST",
        attribute::MP_REACH_NLRI => "MP_REACH_NLRI",
        attribute::MP_UNREACH_NLRI => "MP_UNREACH_NLRI",
        attribute::EXTENDED_COMMUNITIES => "EXTENDED COMMUNITIES",
        attribute::AS4_PATH => "AS4_PATH",
        attribute::AS4_AGGREGATOR => "AS4_AGGREGATOR",
        attribute::AIGP => "AIGP",
        attribute::LARGE_COMMUNITY => "LARGE_COMMUNITY",
        attribute::ONLY_TO_CUSTOMER => "OTC",
        attribute::PREFIX_SID => "PREFIX_SID",
        _ => return None,
    })
}

/// Name of a NOTIFICATION's error code; `None` if it has none.
#[must_use]
pub fn error_code_name(code: u8) -> Option<&'static str> {
    Some(match code {
        error_code::MESSAGE_HEADER => "Message Header Error",
        error_code::OPEN => "OPEN Message Error",
        error_code::UPDATE => "UPDATE Message Error",
        error_code::HOLD_TIMER_EXPIRED => "Hold Timer Expired",
        error_code::FINITE_STATE_MACHINE => "Finite State Machine Error",
        error_code::CEASE => "Cease",
        error_code::ROUTE_REFRESH => "ROUTE-REFRESH Message Error",
        _ => return None,
    })
}

/// Name of a NOTIFICATION's error subcode; `None` if it has none.
#[must_use]
pub fn error_subcode_name(code: u8, subcode: u8) -> Option<&'static str> {
    Some(match (code, subcode) {
        (error_code::MESSAGE_HEADER, 1) => "Connection Not Synchronized",
        (error_code::MESSAGE_HEADER, 2) => "Bad Message Length",
        (error_code::MESSAGE_HEADER, 3) => "Bad Message Type",
        (error_code::OPEN, 1) => "Unsupported Version Number",
        (error_code::OPEN, 2) => "Bad Peer AS",
        (error_code::OPEN, 3) => "Bad BGP Identifier",
        (error_code::OPEN, 4) => "Unsupported Optional Parameter",
        (error_code::OPEN, 6) => "Unacceptable Hold Time",
        (error_code::OPEN, 7) => "Unsupported Capability",
        (error_code::OPEN, 11) => "Role Mismatch",
        (error_code::UPDATE, 1) => "Malformed Attribute List",
        (error_code::UPDATE, 2) => "Unrecognized Well-known Attribute",
        (error_code::UPDATE, 3) => "Missing Well-known Attribute",
        (error_code::UPDATE, 4) => "Attribute Flags Error",
        (error_code::UPDATE, 5) => "Attribute Length Error",
        (error_code::UPDATE, 6) => "Invalid ORIGIN Attribute",
        (error_code::UPDATE, 8) => "Invalid NEXT_HOP Attribute",
        (error_code::UPDATE, 9) => "Optional Attribute Error",
        (error_code::UPDATE, 10) => "Invalid Network Field",
        (error_code::UPDATE, 11) => "Malformed AS_PATH",
        (error_code::FINITE_STATE_MACHINE, 1) => "Receive Unexpected Message in OpenSent State",
        (error_code::FINITE_STATE_MACHINE, 2) => "Receive Unexpected Message in OpenConfirm State",
        (error_code::FINITE_STATE_MACHINE, 3) => "Receive Unexpected Message in Established State",
        (error_code::CEASE, 1) => "Maximum Number of Prefixes Reached",
        (error_code::CEASE, 2) => "Administrative Shutdown",
        (error_code::CEASE, 3) => "Peer De-configured",
        (error_code::CEASE, 4) => "Administrative Reset",
        (error_code::CEASE, 5) => "Connection Rejected",
        (error_code::CEASE, 6) => "Other Configuration Change",
        (error_code::CEASE, 7) => "Connection Collision Resolution",
        (error_code::CEASE, 8) => "Out of Resources",
        (error_code::CEASE, 9) => "Hard Reset",
        (error_code::CEASE, 10) => "BFD Down",
        (error_code::ROUTE_REFRESH, 1) => "Invalid Message Length",
        _ => return None,
    })
}

/// Name of an address family by its numbers, also of those whose routes are not kept; `None` if it has none here.
#[must_use]
pub fn family_name(afi: u16, safi: u8) -> Option<&'static str> {
    Some(match (afi, safi) {
        (1, 1) => "IPv4 unicast",
        (1, 2) => "IPv4 multicast",
        (1, 4) => "IPv4 labelled unicast",
        (1, 5) => "IPv4 multicast VPN",
        (1, 66) => "IPv4 MDT",
        (1, 73) => "IPv4 SR Policy",
        (1, 128) => "IPv4 VPN",
        (1, 129) => "IPv4 multicast in VPN",
        (1, 132) => "IPv4 Route Target constraint",
        (1, 133) => "IPv4 Flow Specification",
        (1, 134) => "IPv4 VPN Flow Specification",
        (2, 1) => "IPv6 unicast",
        (2, 2) => "IPv6 multicast",
        (2, 4) => "IPv6 labelled unicast",
        (2, 5) => "IPv6 multicast VPN",
        (2, 73) => "IPv6 SR Policy",
        (2, 128) => "IPv6 VPN",
        (2, 129) => "IPv6 multicast in VPN",
        (2, 133) => "IPv6 Flow Specification",
        (2, 134) => "IPv6 VPN Flow Specification",
        (25, 65) => "L2VPN VPLS",
        (25, 70) => "L2VPN EVPN",
        (16388, 71) => "BGP-LS",
        (16388, 72) => "BGP-LS VPN",
        _ => return None,
    })
}
