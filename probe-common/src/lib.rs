//! The contract between pathflow's kernel program and its user-space part.
//!
//! Everything both sides must agree on lives here and nowhere else: how a frame becomes a flow key
//! ([`parse`]), how a key and its counters lie in memory ([`flow`]), how the maps are laid out
//! ([`layout`]), and why a packet may end outside the flow table ([`DropReason`]).
//!
//! The crate has no dependency, allocates nothing and does no I/O. The same source is compiled for the
//! kernel (`bpfel-unknown-none`), for the daemon, for the tests and for the fuzzer.
#![no_std]
#![forbid(unsafe_code)]

pub mod bytes;
pub mod drop_reason;
pub mod extension;
pub mod flow;
pub mod layout;
pub mod mirror;
pub mod parse;

pub use bytes::PacketBytes;
pub use drop_reason::DropReason;
