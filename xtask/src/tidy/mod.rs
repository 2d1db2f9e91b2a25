//! `tidy`: the rules of this repository that neither rustfmt nor clippy knows.
//!
//! Every check is a function from files or members to findings, so that its tests need no repository.

mod code;
mod dependencies;
mod files;
mod sources;

use std::{ffi::OsStr, fmt, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{codegen, workspace};

/// One broken rule, where it is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

/// A file of the repository.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    content: Vec<u8>,
}

/// Checks the whole repository; prints each finding as `file:line: message`.
pub(crate) fn run() -> Result<()> {
    let files = repository_files()?;
    let members = dependencies::members(&workspace::metadata()?, &workspace::root())?;
    let mut findings = dependencies::check(&members);
    for file in &files {
        findings.extend(files::check(file));
        if let Some(text) = file.rust_source() {
            findings.extend(sources::check(&file.path, text));
        }
    }
    findings.extend(made_sources(&files)?);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    println!("tidy: {} files, {} members, nothing to say", files.len(), members.len());
    Ok(())
}

/// Sources that are not what their table makes.
fn made_sources(files: &[File]) -> Result<Vec<Finding>> {
    let text = |path| files.iter().find(|file| file.path == path).and_then(File::text).unwrap_or_default();
    let made = codegen::information_elements(text(codegen::REGISTRY)).context(codegen::REGISTRY)?;
    let is_current = made == text(codegen::TABLE);
    let finding = || Finding::new(codegen::TABLE, 1, "not what its table makes; run `cargo xtask codegen`");
    Ok((!is_current).then(finding).into_iter().collect())
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl File {
    /// The text of a Rust file; `None` for other files.
    fn rust_source(&self) -> Option<&str> {
        if self.extension() == "rs" { self.text() } else { None }
    }

    fn extension(&self) -> &str {
        let extension = Path::new(&self.path).extension();
        extension.and_then(OsStr::to_str).unwrap_or_default()
    }

    /// The content when it is text.
    fn text(&self) -> Option<&str> {
        str::from_utf8(&self.content).ok()
    }
}

/// What git tracks or is about to track.
fn repository_files() -> Result<Vec<File>> {
    let root = workspace::root();
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(&root)
        .output()
        .context("`git ls-files` did not start")?;
    if !output.status.success() {
        bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let mut files = Vec::new();
    for path in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let absolute = root.join(path);
        // Git still lists a file that is deleted but not yet staged.
        if absolute.is_file() {
            let content = fs::read(&absolute).with_context(|| absolute.display().to_string())?;
            files.push(File { path: path.to_owned(), content });
        }
    }
    Ok(files)
}
