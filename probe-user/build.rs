//! Builds the kernel program and sets `PATHFLOW_EBPF` to the path of its object.

#[path = "../xtask/src/ebpf/build_script.rs"]
mod build_script;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    build_script::embed("pathflow-ebpf", "PATHFLOW_EBPF")
}
