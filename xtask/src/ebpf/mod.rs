//! `build-ebpf`: compiles the kernel program on its own.

mod recipe;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::workspace;

/// Builds the object the probe embeds and says how, where and how large.
pub(crate) fn run() -> Result<()> {
    let object = build()?;
    let size = fs::metadata(&object.path).with_context(|| object.path.display().to_string())?.len();
    println!("{}: {size} bytes, built with {}", object.path.display(), object.origin);
    Ok(())
}

/// The machine that xtask runs on is the one the object is for.
pub(crate) fn host() -> recipe::Machine<'static> {
    recipe::Machine { arch: std::env::consts::ARCH, big_endian: cfg!(target_endian = "big") }
}

fn build() -> Result<recipe::Object> {
    let target_dir: PathBuf = workspace::target_dir()?.join("ebpf");
    Ok(recipe::build(&recipe::Request {
        workspace: &workspace::root(),
        target_dir: &target_dir,
        bin: recipe::PROBE_BIN,
        features: &[],
        machine: host(),
    })?)
}
