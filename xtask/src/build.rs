//! `build`, `run` and `bench`: one command from a fresh checkout to the running program.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process,
    setup::{self, Purpose},
    workspace,
};

/// Builds the probe into `target/release`, or into `target/debug`.
pub(crate) fn build(debug: bool) -> Result<()> {
    setup::run(Purpose::Build)?;
    let profile: &[&str] = if debug { &[] } else { &["--release"] };
    process::run(process::cargo(["build", "--package", "pathflow"]).args(profile))?;
    let folder = if debug { "debug" } else { "release" };
    println!("{}", workspace::target_dir()?.join(folder).join("pathflow").display());
    Ok(())
}

/// Builds the probe and becomes it.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    build(false)?;
    become_program(Command::new(workspace::target_dir()?.join("release/pathflow")).arg("run").args(arguments))
}

/// Builds the benchmarks and becomes their program.
pub(crate) fn bench(arguments: &[OsString]) -> Result<()> {
    setup::run(Purpose::Build)?;
    let run = ["run", "--release", "--package", "pathflow-perf", "--bin", "pathflow-bench", "--"];
    become_program(process::cargo(run).args(arguments))
}

/// Replaces this process, so that signals and the exit status need no forwarding.
fn become_program(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("`{}` did not start", process::line(command)))
}
