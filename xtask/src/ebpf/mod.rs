//! `build-ebpf`: compiles the kernel program on its own; also its lints.

mod recipe;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
pub(crate) use recipe::Recipe;

use crate::{process, workspace};

/// Debian's linter for Debian's compiler: rustup's cannot read the `core` of another version.
pub(crate) const DEBIAN_CLIPPY: &str = "/usr/bin/clippy-driver";

/// Builds the object the probe embeds and says how, where and how large.
pub(crate) fn run() -> Result<()> {
    let object = recipe::build(&request(&workspace::root(), &target_dir()?))?;
    let size = fs::metadata(&object.path).with_context(|| object.path.display().to_string())?.len();
    println!("{}: {size} bytes, built with {}", object.path.display(), object.origin);
    Ok(())
}

/// Lints the kernel program for its own target; warnings are errors.
pub(crate) fn lint() -> Result<()> {
    let (root, target_dir) = (workspace::root(), target_dir()?);
    let request = request(&root, &target_dir);
    let Some(recipe) = usable_recipe() else {
        bail!("no compiler for BPF; run `cargo xtask setup`");
    };
    match recipe {
        Recipe::Nightly => process::run(recipe.cargo("clippy", &request).args(["--", "-Dwarnings"])),
        Recipe::Debian => process::run(
            recipe
                .cargo("check", &request)
                .env("RUSTC_WORKSPACE_WRAPPER", DEBIAN_CLIPPY)
                .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__"),
        ),
    }
}

/// The first recipe that lacks nothing on this machine.
pub(crate) fn usable_recipe() -> Option<Recipe> {
    Recipe::ALL.into_iter().find(|recipe| recipe.missing(host()).is_empty())
}

/// Whether a packager has provided the object.
pub(crate) fn is_prebuilt() -> bool {
    env::var_os(recipe::PREBUILT_OBJECT).is_some()
}

/// The machine that xtask runs on is the one the object is for.
fn host() -> recipe::Machine<'static> {
    recipe::Machine { arch: env::consts::ARCH, big_endian: cfg!(target_endian = "big") }
}

fn request<'a>(workspace: &'a Path, target_dir: &'a Path) -> recipe::Request<'a> {
    recipe::Request { workspace, target_dir, bin: recipe::PROBE_BIN, features: &[], machine: host() }
}

fn target_dir() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("ebpf"))
}
