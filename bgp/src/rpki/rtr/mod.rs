//! The RPKI-to-Router protocol (RFC 8210, version 1; RFC 6810, version 0; of version 2, its ASPA PDUs are skipped):
//! [`pdu`] is the octets, [`session`] the state machine without I/O or clock, [`client`] the connection.

pub mod client;
pub mod pdu;
pub mod session;
