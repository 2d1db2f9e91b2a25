//! Measurements of pathflow, never shipped: synthetic frames, a traffic generator, namespaces to send
//! traffic through, and what the benchmarks share.
//!
//! The generator is a kernel program of its own (`probe-ebpf/src/bin/perf.rs`), run by
//! `BPF_PROG_TEST_RUN`: no network card and no kernel module is needed.
#![forbid(unsafe_code)]

pub mod cpu;
pub mod frames;
pub mod full_table;
pub mod generator;
pub mod headers;
pub mod interface;
pub mod machine;
pub mod netns;
mod object;
pub mod pass;
pub mod random;
pub mod rib;
pub mod vary;
