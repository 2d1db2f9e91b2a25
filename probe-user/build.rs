//! Builds the kernel programs and sets `PATHFLOW_EBPF` and `PATHFLOW_MIRROR_EBPF` to the paths of their
//! objects.

#[path = "../xtask/src/ebpf/build_script.rs"]
mod build_script;

use std::process::ExitCode;

fn main() -> ExitCode {
    let objects = [("pathflow-ebpf", "PATHFLOW_EBPF"), ("pathflow-mirror-ebpf", "PATHFLOW_MIRROR_EBPF")];
    for (bin, variable) in objects {
        if build_script::embed(bin, variable) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
