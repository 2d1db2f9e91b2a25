//! The parser on frames: what key, facts or reason each one gives, by hand-made frames, by properties
//! against an independent parser, and by the fuzzer's corpus.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod corpus;
mod ethernet;
mod extended;
mod extensions;
mod fragments;
mod hash;
mod ipv4;
mod ipv6;
mod keys;
mod layers;
mod mpls;
mod pppoe;
mod properties;
mod support;
mod transport;
mod truncation;
mod tunnel;
