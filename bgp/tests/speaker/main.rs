//! The speaker against peers of plain octets on loopback addresses.
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod errors;
mod load;
mod routes;
mod security;
mod sessions;
mod support;
