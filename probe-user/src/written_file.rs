//! Opens files to be written, without being led elsewhere.
//!
//! pathflow mostly runs as root. Where others can make files, one of them could put a symbolic link in the place of a file
//! that pathflow is to write, and have it write into any file of the system. So a link as the last part of a path is followed
//! only if nobody else can have put it there: its folder belongs to root or to the user that pathflow runs as, and nobody
//! else can write in it; or, in a folder as `/tmp` where everybody has files of their own (the sticky bit), the link belongs to
//! one of the two. Folders above the last one are followed as ever.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::geteuid;

/// Opens `path` as `options` say, with these flags. Of links, those are followed that nobody else can have made, if it
/// `follows` any.
///
/// # Errors
/// If it cannot be opened, or is a link that is not followed.
pub fn open(options: &mut OpenOptions, flags: OFlags, path: &Path, follows: bool) -> io::Result<File> {
    let mut open = |flags: OFlags| options.custom_flags(flags.bits().cast_signed()).open(path);
    // Whether it is a link is asked in the same breath: there is no time to replace it.
    let opened = open(flags | OFlags::NOFOLLOW);
    let Err(error) = &opened else { return opened };
    if error.raw_os_error() != Some(rustix::io::Errno::LOOP.raw_os_error()) || !follows {
        return opened;
    }
    check_link(path)?;
    open(flags)
}

/// What is at `path`, at the end of a link if that is followed.
///
/// # Errors
/// If it is a link that is not followed, or there is nothing.
pub fn kind(path: &Path, follows: bool) -> io::Result<FileType> {
    let found = fs::symlink_metadata(path)?.file_type();
    if !found.is_symlink() || !follows {
        return Ok(found);
    }
    check_link(path)?;
    Ok(fs::metadata(path)?.file_type())
}

/// Whether nobody else can have made this link.
fn check_link(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = fs::metadata(folder)?;
    let mode = Mode::from_raw_mode(folder.mode());
    let is_shared = mode.intersects(Mode::WGRP | Mode::WOTH);
    let is_sticky = mode.contains(Mode::SVTX);
    let is_own_link = || fs::symlink_metadata(path).is_ok_and(|link| is_own(&link));
    if is_own(&folder) && (!is_shared || is_sticky && is_own_link()) {
        return Ok(());
    }
    let reason = "it is a symbolic link where others could have made it, and is not followed";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// Whether it belongs to root or to the user of this process.
fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == 0 || metadata.uid() == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

    use super::*;

    const NOBODY: Option<u32> = Some(65534);

    #[test]
    fn a_link_is_followed_only_where_nobody_else_can_have_made_it() {
        assert!(geteuid().is_root(), "this test needs root: it gives files to others");
        let scratch = std::env::temp_dir().join(format!("pathflow-written-{}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        let folder = scratch.join("folder");
        fs::create_dir_all(&folder).unwrap();
        let (link, target) = (folder.join("log"), scratch.join("target"));
        symlink(&target, &link).unwrap();
        let append = |path: &Path, follows| {
            let opened = open(OpenOptions::new().append(true).create(true), OFlags::NONBLOCK, path, follows);
            opened.and_then(|mut file| file.write_all(b"x"))
        };
        let length = || fs::metadata(&target).map_or(0, |metadata| metadata.len());

        // Owner and mode of the folder, owner of the link, and whether it is followed.
        let mut written = 0;
        for (owner, mode, owner_of_link, is_followed) in [
            (Some(0), 0o755, Some(0), true),
            (Some(0), 0o755, NOBODY, true),
            (NOBODY, 0o755, Some(0), false),
            (Some(0), 0o775, Some(0), false),
            (Some(0), 0o757, Some(0), false),
            (Some(0), 0o1777, Some(0), true),
            (Some(0), 0o1777, NOBODY, false),
            (NOBODY, 0o1777, Some(0), false),
        ] {
            chown(&folder, owner, None).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            lchown(&link, owner_of_link, None).unwrap();
            let result = append(&link, true);
            written += u64::from(is_followed);
            assert_eq!((result.is_ok(), length()), (is_followed, written), "{owner:?} {mode:o} {result:?}");
            assert_eq!(kind(&link, true).is_ok_and(|kind| kind.is_file()), is_followed);
            // In a sticky folder the kernel may be the first to refuse it.
            if let Err(error) = result {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            }
        }
        chown(&folder, Some(0), None).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(append(&link, false).is_err() && kind(&link, false).unwrap().is_symlink());
        assert_eq!(length(), written);
        // What is no link is written wherever it is, and what leads in a circle is no file.
        append(&folder.join("file"), false).unwrap();
        symlink("circle", folder.join("circle")).unwrap();
        assert!(append(&folder.join("circle"), true).is_err());
        fs::remove_dir_all(&scratch).unwrap();
    }
}
