//! goflow2, a collector that the exporter is tested against. It is in no Debian package, and is built where there is Go.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace};

const MODULE: &str = "github.com/netsampler/goflow2/v2/cmd/goflow2@v2.2.6";

/// Builds it, if that has not been done; its path.
///
/// # Errors
/// Why it cannot be had here.
pub(crate) fn program() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("goflow2");
    let program = folder.join("goflow2");
    if program.is_file() {
        return Ok(program);
    }
    if !process::succeeds(Command::new("go").arg("version")) {
        bail!("there is no Go on this machine");
    }
    println!("Building goflow2 (about a minute).");
    process::run(Command::new("go").args(["install", MODULE]).env("GOBIN", &folder))
        .context("goflow2 cannot be built")?;
    Ok(program)
}
