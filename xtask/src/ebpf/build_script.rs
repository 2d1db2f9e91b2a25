//! What the build scripts of `probe-user` and `perf` share: build one object and embed it.
//!
//! The crate reads it with `include_bytes!(env!("..."))`. No compiled object is ever committed.

mod recipe;

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Files that the objects are made from, relative to the workspace.
const SOURCES: [&str; 6] = [
    "probe-ebpf/src",
    "probe-ebpf/Cargo.toml",
    "probe-common/src",
    "probe-common/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
];

/// Builds binary target `bin` of `probe-ebpf` and sets `variable` to its path for the crate being compiled.
pub(crate) fn embed(bin: &str, variable: &str) -> ExitCode {
    let Err(error) = try_embed(bin, variable) else { return ExitCode::SUCCESS };
    // Cargo shows these lines as errors of the package, apart from the messages of the inner build.
    for line in error.to_string().lines() {
        println!("cargo::error={line}");
    }
    ExitCode::FAILURE
}

fn try_embed(bin: &str, variable: &str) -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(required("OUT_DIR")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let big_endian = env::var("CARGO_CFG_TARGET_ENDIAN")? == "big";
    let workspace = manifest_dir.parent().ok_or("the package is not inside the workspace")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    for (_, variable) in recipe::PREBUILT_OBJECTS {
        println!("cargo::rerun-if-env-changed={variable}");
        if let Some(prebuilt) = env::var_os(variable) {
            println!("cargo::rerun-if-changed={}", Path::new(&prebuilt).display());
        }
    }

    let kernel_log = env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some();
    let object = recipe::build(&recipe::Request {
        workspace,
        target_dir: &ebpf_target_dir(&out_dir),
        bin,
        features: if kernel_log { &["kernel-log"] } else { &[] },
        machine: recipe::Machine { arch: &arch, big_endian },
    })?;
    // A copy: another build may replace the shared one while this crate compiles.
    let embedded = out_dir.join(format!("{bin}.o"));
    fs::copy(&object.path, &embedded).map_err(|error| format!("{}: {error}", object.path.display()))?;
    println!("cargo::rustc-env={variable}={}", embedded.display());
    eprintln!("{bin}: {}", object.origin);
    Ok(())
}

/// `<target directory>/ebpf`, so that all profiles of the host share one build of the object.
fn ebpf_target_dir(out_dir: &Path) -> PathBuf {
    // Cargo marks the root of its target directory with this file, for backup programs.
    let root = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    root.unwrap_or(out_dir).join("ebpf")
}

fn required(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}
