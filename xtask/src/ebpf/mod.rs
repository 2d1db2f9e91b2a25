//! `build-ebpf`: compiles the kernel program on its own; also its lints.

mod recipe;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
pub(crate) use recipe::Recipe;

use crate::{process, workspace};

/// The member that is compiled for BPF.
const PACKAGE: &str = "pathflow-ebpf";

/// Debian's linter for Debian's compiler: rustup's cannot read the `core` of another version.
pub(crate) const DEBIAN_CLIPPY: &str = "/usr/bin/clippy-driver";

/// Builds the object the probe embeds and says how, where and how large.
pub(crate) fn run() -> Result<()> {
    let object = recipe::build(&request(&workspace::root(), &target_dir()?))?;
    let size = fs::metadata(&object.path).with_context(|| object.path.display().to_string())?.len();
    println!("{}: {size} bytes, {}", object.path.display(), object.origin);
    Ok(())
}

/// Lints the kernel programs for their own target; warnings are errors.
pub(crate) fn lint() -> Result<()> {
    let Some(recipe) = usable_recipe() else {
        bail!("no compiler for BPF; run `cargo xtask setup`");
    };
    let (root, target_dir) = (workspace::root(), target_dir()?);
    for bin in bins()? {
        let request = recipe::Request { bin: &bin, ..request(&root, &target_dir) };
        match recipe {
            Recipe::Nightly => process::run(recipe.cargo("clippy", &request).args(["--", "-Dwarnings"]))?,
            Recipe::Debian => process::run(
                recipe
                    .cargo("check", &request)
                    .env("RUSTC_WORKSPACE_WRAPPER", DEBIAN_CLIPPY)
                    .env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__"),
            )?,
        }
    }
    Ok(())
}

/// The first recipe that lacks nothing on this machine.
pub(crate) fn usable_recipe() -> Option<Recipe> {
    Recipe::ALL.into_iter().find(|recipe| recipe.missing(host()).is_empty())
}

/// The first recipe that does build the object: a nightly may be too new for the linker.
pub(crate) fn working_recipe() -> Result<Option<Recipe>> {
    let (root, target_dir) = (workspace::root(), target_dir()?);
    let request = request(&root, &target_dir);
    let works = |recipe: &Recipe| recipe.missing(host()).is_empty() && recipe::run(*recipe, &request).is_ok();
    Ok(Recipe::ALL.into_iter().find(works))
}

/// Whether a packager has provided every object.
pub(crate) fn is_prebuilt() -> bool {
    recipe::PREBUILT_OBJECTS.iter().all(|(_, variable)| env::var_os(variable).is_some())
}

/// The machine that xtask runs on is the one the object is for.
fn host() -> recipe::Machine<'static> {
    recipe::Machine { arch: env::consts::ARCH, big_endian: cfg!(target_endian = "big") }
}

fn request<'a>(workspace: &'a Path, target_dir: &'a Path) -> recipe::Request<'a> {
    recipe::Request { workspace, target_dir, bin: recipe::PROBE_BIN, features: &[], machine: host() }
}

/// Names of the kernel-side binary targets.
fn bins() -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let targets = metadata
        .packages
        .iter()
        .filter(|package| package.name == PACKAGE)
        .flat_map(|package| &package.targets);
    Ok(targets.filter(|target| target.is_bin()).map(|target| target.name.clone()).collect())
}

fn target_dir() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("ebpf"))
}
