//! BGP as pathflow needs it: a speaker that takes routes and gives none, a BMP station, the routes of all peers with
//! lookups that take no lock, and RPKI.
//!
//! ```text
//! octets -> session -> wire (decode) -> fsm (pure) -> rib (one writer) -> readers (no lock)
//! ```
//!
//! | Module | What | Standards |
//! |---|---|---|
//! | [`wire`] | messages between octets and values | RFC 4271, 4760, 7606, 6793, 7911, 8277, 4364, 8950, 8654, 9072 |
//! | [`fsm`] | state machine of a peer, pure | RFC 4271 section 8 |
//! | [`speaker`] | sessions, in one thread | RFC 2385, 5082, 2918, 7313, 4724, 9003, 9234 |
//! | [`bmp`] | BMP station | RFC 7854, 8671, 9069 |
//! | [`rib`] | routes and longest-prefix match | RFC 4632 |
//! | [`rpki`] | origin validation | RFC 6811, 8210 |
//!
//! This crate knows nothing of flows.

// Only `md5` and `rib::lpm::huge_pages` have unsafe code; `cargo xtask tidy` sees to that.
#![deny(unsafe_code)]

mod attributes;
pub mod bmp;
mod community;
mod connection;
pub mod error;
mod family;
pub mod fsm;
pub mod iana;
mod listener;
mod md5;
mod nlri;
pub mod rib;
pub mod rpki;
mod session;
pub mod speaker;
pub mod wire;

pub use attributes::{AsPath, AsPathEnds, Attributes, Origin, Segment, SegmentKind};
pub use community::{Community, ExtendedCommunity, LargeCommunity};
pub use family::{Afi, Family, Safi};
pub use nlri::{MplsLabel, Nlri, RouteDistinguisher};
