//! Builds the kernel programs for measurements and sets `PATHFLOW_PERF_EBPF` to the path of their object.

#[path = "../xtask/src/ebpf/build_script.rs"]
mod build_script;

use std::{error::Error, fs};

const BIN: &str = "pathflow-perf-ebpf";

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = "../probe-ebpf/Cargo.toml";
    if fs::read_to_string(manifest)?.contains(BIN) {
        return build_script::embed(BIN, "PATHFLOW_PERF_EBPF");
    }
    println!("cargo::rerun-if-changed={manifest}");
    Ok(())
}
