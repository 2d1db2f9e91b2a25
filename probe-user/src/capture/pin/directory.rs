//! Where pins are, and the lock on them.
//!
//! ```text
//! /sys/fs/bpf/pathflow/            0700
//!     4026531840/                  a network namespace, locked by whoever uses it
//!         links/                   one for each interface and hook
//!         LAYOUT_RUN/              the maps of one run of pathflow
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock, statfs};

use super::error::PinError;

/// The BPF file system.
const BPF_FS: &str = "/sys/fs/bpf";
/// Its magic number (`BPF_FS_MAGIC`).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// The directory of links.
const LINKS: &str = "links";

/// The pins of this network namespace, locked.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks the directory of this network namespace. If there is none it is made, or `None` is returned.
    pub(super) fn lock(make: bool) -> Result<Option<Self>, PinError> {
        let is_mounted =
            statfs(BPF_FS).is_ok_and(|system| system.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC);
        if !is_mounted {
            return if make { Err(PinError::NotMounted { path: BPF_FS }) } else { Ok(None) };
        }
        let path = Self::path_of_namespace()?;
        loop {
            if make {
                for directory in path.parent().into_iter().chain([path.as_path()]) {
                    make_directory(directory)?;
                }
            }
            let lock = match File::open(&path) {
                Ok(directory) => directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !make => return Ok(None),
                // Removed just now by the one who had it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(PinError::File { path, error }),
            };
            for directory in path.parent().into_iter().chain([path.as_path()]) {
                check_owner(directory)?;
            }
            let inode = lock.metadata().map_err(|error| file_error(&path, error))?.ino();
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = holder(inode);
                    return Err(PinError::Busy { directory: path, holder });
                }
                Err(error) => return Err(file_error(&path, error.into())),
            }
            // It may have been removed, and made anew, before it was locked.
            if fs::metadata(&path).is_ok_and(|metadata| metadata.ino() == inode) {
                return Ok(Some(Self { path, _lock: lock }));
            }
        }
    }

    fn path_of_namespace() -> Result<PathBuf, PinError> {
        let namespace = Path::new("/proc/self/ns/net");
        let inode = fs::metadata(namespace).map_err(|error| file_error(namespace, error))?.ino();
        Ok(Path::new(BPF_FS).join("pathflow").join(inode.to_string()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of links, made if it is missing.
    pub(super) fn links(&self) -> Result<PathBuf, PinError> {
        let path = self.path.join(LINKS);
        make_directory(&path)?;
        Ok(path)
    }

    /// Directories of runs, the oldest first.
    pub(super) fn runs(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut runs: Vec<PathBuf> =
            entries(&self.path)?.into_iter().filter(|path| !path.ends_with(LINKS)).collect();
        runs.sort_by_key(|path| {
            path.file_name().and_then(|name| name.to_str()?.rsplit('_').next().map(str::to_owned))
        });
        Ok(runs)
    }

    /// Removes the directory if nothing is pinned in it any more.
    pub(super) fn remove_if_empty(&self) {
        // Each of these fails if there is something left, and is to be left then.
        let _ = fs::remove_dir(self.path.join(LINKS));
        if fs::remove_dir(&self.path).is_ok() {
            let _ = self.path.parent().map(fs::remove_dir);
        }
    }
}

/// Files of a directory; none if there is no directory.
pub(super) fn entries(path: &Path) -> Result<Vec<PathBuf>, PinError> {
    let list = match fs::read_dir(path) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error(path, error)),
    };
    list.map(|entry| entry.map(|entry| entry.path()).map_err(|error| file_error(path, error))).collect()
}

pub(super) fn make_directory(path: &Path) -> Result<(), PinError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file_error(path, error)),
        _ => Ok(()),
    }
}

pub(super) fn file_error(path: &Path, error: io::Error) -> PinError {
    PinError::File { path: path.to_owned(), error }
}

/// What others could have pinned is not taken over.
fn check_owner(path: &Path) -> Result<(), PinError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| file_error(path, error))?;
    let own = rustix::process::geteuid().as_raw();
    let others = Mode::RWXG | Mode::RWXO;
    let is_private = !Mode::from_raw_mode(metadata.mode()).intersects(others);
    if metadata.is_dir() && metadata.uid() == own && is_private {
        return Ok(());
    }
    Err(PinError::Foreign { directory: path.to_owned() })
}

/// Who has locked the file with this inode, by `/proc/locks`.
fn holder(inode: u64) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    holder_in(&locks, inode)
        .map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

/// A line is `1: FLOCK  ADVISORY  WRITE 4711 00:1d:42 0 EOF`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, file, ..] = fields[..] else { return None };
        let found: u64 = file.rsplit(':').next()?.parse().ok()?;
        (found == inode).then(|| process.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 00:1d:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 00:1d:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 00:1d:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 7 00:1d:421 0 EOF\n";
        assert_eq!(holder_in(locks, 42), Some(4711));
        assert_eq!(holder_in(locks, 421), Some(7));
        assert_eq!(holder_in(locks, 4), None);
        assert_eq!(holder_in("", 42), None);
    }
}
