//! BGP Monitoring Protocol (RFC 7854; Adj-RIB-Out of RFC 8671; Loc-RIB of RFC 9069): routers tell a station what their
//! peers told them.
//!
//! [`wire`] is the octets, [`router`] what one router has said so far, without I/O or clock, [`station`] the listener, [`status`]
//! what can be asked of it.
//! Every (router, peer, RIB) is a peer of the same RIB that BGP sessions fill ([`RouteSink`]).

pub mod router;
mod sink;
pub mod station;
pub mod status;
pub mod wire;

pub use sink::RouteSink;
