//! Room on the disk that is given back when the file system is full, so that SQLite can write its journal and delete.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::NO_LINK;

const NAME: &str = "spool.ballast";

/// A file of zeros, or its absence.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    octets: u64,
    is_held: bool,
}

impl Ballast {
    /// Takes the room if it is there.
    pub(super) fn new(folder: &Path, octets: u64) -> Self {
        let mut ballast = Self { path: folder.join(NAME), octets, is_held: false };
        ballast.take();
        ballast
    }

    /// Gives the room back that an earlier run took.
    pub(super) fn remove(folder: &Path) {
        // If there is none, there is no room in it.
        let _ = fs::remove_file(folder.join(NAME));
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Takes the room again, if there is so much.
    pub(super) fn take(&mut self) {
        let made = self.make();
        if made.is_err() {
            // What it got would be missing elsewhere, and would not be enough here.
            let _ = fs::remove_file(&self.path);
        }
        self.is_held = made.is_ok();
    }

    fn make(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(NO_LINK);
        let file: File = options.open(&self.path)?;
        fallocate(&file, FallocateFlags::empty(), 0, self.octets)?;
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn release(&mut self) -> io::Result<()> {
        self.is_held = false;
        fs::remove_file(&self.path)
    }
}
