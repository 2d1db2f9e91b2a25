//! The codec against the RFCs' texts, against malformed messages of every kind, against what other speakers fell over,
//! against two independent decoders, and against itself by way of encoding.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod conformance;
mod corpus;
mod differential;
mod fallen;
mod malformed;
mod open;
mod other_messages;
mod round_trip;
mod support;
mod update;
