//! The speaker against real BGP daemons of Debian, on loopback addresses.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod bird;
mod daemon;
mod exabgp;
mod frr;
mod gobgp;
mod table;
