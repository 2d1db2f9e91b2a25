//! Builds the kernel programs and sets `PATHFLOW_EBPF` and `PATHFLOW_MIRROR_EBPF` to the paths of their
//! objects; with the feature `ndpi` also the shim for that library.

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
    #[cfg(feature = "ndpi")]
    if let Err(error) = ndpi() {
        println!("cargo::error={error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Compiles the shim against the headers that are installed, and links with the library.
#[cfg(feature = "ndpi")]
fn ndpi() -> Result<(), String> {
    const SHIM: &str = "src/classify/ndpi.c";
    println!("cargo::rerun-if-changed={SHIM}");
    let library =
        pkg_config::Config::new().range_version("4.2".."4.3").probe("libndpi").map_err(|error| {
            let error = error.to_string();
            let reason = error.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            format!("feature ndpi: nDPI 4.2 is not installed (Debian 12: libndpi-dev): {reason}")
        })?;
    // Its headers do without what compilers warn of.
    cc::Build::new().file(SHIM).includes(library.include_paths).warnings(false).compile("pathflow_ndpi");
    Ok(())
}
