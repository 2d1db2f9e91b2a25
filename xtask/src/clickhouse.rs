//! `ClickHouse` as a library for Python, with which the tables of `deploy/clickhouse` are tested. It is in no Debian
//! package, and comes from the Python Package Index.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{process, workspace};

const VERSION: &str = "4.4.0";

/// Where its modules are once they have been fetched: a `PYTHONPATH`.
///
/// # Errors
/// Why they cannot be had here.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = workspace::target_dir()?.join("chdb");
    if folder.join(format!("chdb-{VERSION}.dist-info")).is_dir() {
        return Ok(folder);
    }
    println!("Fetching chdb {VERSION} (about half a minute).");
    process::pip(&folder, &format!("chdb=={VERSION}")).context("chdb cannot be fetched")?;
    Ok(folder)
}
