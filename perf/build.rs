//! Builds the kernel programs for measurements and sets `PATHFLOW_PERF_EBPF` to the path of their object.

#[path = "../xtask/src/ebpf/build_script.rs"]
mod build_script;

use std::{fs, process::ExitCode};

const BIN: &str = "pathflow-perf-ebpf";

fn main() -> ExitCode {
    let manifest = "../probe-ebpf/Cargo.toml";
    if fs::read_to_string(manifest).is_ok_and(|manifest| manifest.contains(BIN)) {
        return build_script::embed(BIN, "PATHFLOW_PERF_EBPF");
    }
    println!("cargo::rerun-if-changed={manifest}");
    ExitCode::SUCCESS
}
