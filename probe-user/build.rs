//! Builds the kernel program and sets `PATHFLOW_EBPF` to the path of its object.

#[path = "../xtask/src/ebpf/build_script.rs"]
mod build_script;

fn main() -> std::process::ExitCode {
    build_script::embed("pathflow-ebpf", "PATHFLOW_EBPF")
}
