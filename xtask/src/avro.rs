//! Readers of what is written in Avro: Apicurio Registry, from Maven Central, and fastavro, from the Python Package Index.
//! Neither is in a Debian package.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{process, workspace};

const APICURIO: &str = "3.0.9";
const FASTAVRO: &str = "1.12.2";

/// Where Apicurio Registry is once it has been fetched: its `apicurio-registry-app-*-runner.jar` is started by Java.
///
/// # Errors
/// Why it cannot be had here.
pub(crate) fn registry() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("apicurio");
    if folder.join("complete").is_file() {
        return Ok(folder);
    }
    println!("Fetching Apicurio Registry {APICURIO} (about half a minute).");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let artifact = format!("io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all");
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "dependency:copy"]).arg(format!("-Dartifact={artifact}")).args([
        "-DoutputDirectory=.",
        "-Dmdep.stripVersion=true",
        "-Dmdep.useBaseVersion=true",
    ]);
    process::run(maven.current_dir(&folder)).context("Apicurio Registry cannot be fetched")?;
    let archive = "apicurio-registry-app-all.tar.gz";
    let mut tar = Command::new("tar");
    process::run(tar.args(["--extract", "--file", archive]).current_dir(&folder))
        .context("Apicurio Registry cannot be unpacked")?;
    fs::remove_file(folder.join(archive)).context(archive)?;
    fs::write(folder.join("complete"), "").context("complete")?;
    Ok(folder)
}

/// Where the modules of fastavro are once they have been fetched: a `PYTHONPATH`.
///
/// # Errors
/// Why they cannot be had here.
pub(crate) fn reader() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("fastavro");
    if folder.join(format!("fastavro-{FASTAVRO}.dist-info")).is_dir() {
        return Ok(folder);
    }
    println!("Fetching fastavro {FASTAVRO}.");
    process::pip(&folder, &format!("fastavro=={FASTAVRO}")).context("fastavro cannot be fetched")?;
    Ok(folder)
}
