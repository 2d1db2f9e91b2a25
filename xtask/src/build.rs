//! `build`, `run` and `bench`: one command from a fresh checkout to the running program.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process,
    setup::{self, Purpose},
    workspace,
};

/// Builds the probe into `target/release`, or into `target/debug`, and says where it is.
pub(crate) fn build(debug: bool) -> Result<()> {
    println!("{}", build_probe(debug)?.display());
    Ok(())
}

/// Builds the probe and becomes it.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    become_program(Command::new(build_probe(false)?).arg("run").args(arguments))
}

/// Builds the probe and the benchmarks, and becomes their program. The probe is measured beside its peers.
pub(crate) fn bench(arguments: &[OsString]) -> Result<()> {
    setup::run(Purpose::Test)?;
    build_probe(false)?;
    // They start other programs of their package.
    process::run(&mut process::cargo(["build", "--release", "--package", "pathflow-perf", "--bins"]))?;
    let run = ["run", "--release", "--package", "pathflow-perf", "--bin", "pathflow-bench", "--"];
    become_program(process::cargo(run).args(arguments))
}

fn build_probe(debug: bool) -> Result<PathBuf> {
    setup::run(Purpose::Build)?;
    let (profile, folder): (&[&str], _) = if debug { (&[], "debug") } else { (&["--release"], "release") };
    process::run(process::cargo(["build", "--package", "pathflow"]).args(profile))?;
    Ok(workspace::target_dir()?.join(folder).join("pathflow"))
}

/// Replaces this process, so that signals and the exit status need no forwarding.
fn become_program(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("`{}` did not start", process::line(command)))
}
