//! Pinned links: what keeps the kernel program attached while nobody runs.
//!
//! A link is named by interface and hook, and not by the run that made it: the next run puts its program into
//! the same link, from one packet to the next.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};

use super::directory::entries;
use super::error::PinError;
use crate::capture::Hook;

/// The directory of pinned links.
#[derive(Clone, Debug)]
pub struct LinkPins {
    directory: PathBuf,
    /// Whether links are to be pinned by this run, and not only taken over.
    is_pinning: bool,
}

impl LinkPins {
    pub(super) fn new(directory: PathBuf, is_pinning: bool) -> Self {
        Self { directory, is_pinning }
    }

    /// Whether links are to be pinned.
    pub(in crate::capture) fn is_pinning(&self) -> bool {
        self.is_pinning
    }

    /// Every pinned link.
    pub(super) fn all(&self) -> Result<Vec<(u32, Hook)>, PinError> {
        Ok(entries(&self.directory)?.iter().filter_map(|path| parse(path)).collect())
    }

    /// The hook at which packets of an interface in one direction are counted by a pinned link.
    pub(in crate::capture) fn hook(&self, interface_index: u32, egress: bool) -> Option<Hook> {
        [Hook::XdpNative, Hook::XdpGeneric, Hook::TcIngress, Hook::TcEgress]
            .into_iter()
            .find(|hook| hook.is_egress() == egress && self.path(interface_index, *hook).exists())
    }

    /// The link pinned for an interface and a hook.
    pub(in crate::capture) fn get(
        &self,
        interface_index: u32,
        hook: Hook,
    ) -> Result<Option<FdLink>, PinError> {
        let path = self.path(interface_index, hook);
        if !path.exists() {
            return Ok(None);
        }
        match PinnedLink::from_pin(&path) {
            Ok(link) => Ok(Some(link.into())),
            Err(error) => Err(PinError::Damaged { path, reason: error.to_string() }),
        }
    }

    /// Pins a link.
    pub(in crate::capture) fn pin(
        &self,
        link: FdLink,
        interface_index: u32,
        hook: Hook,
    ) -> Result<FdLink, PinError> {
        let path = self.path(interface_index, hook);
        match link.pin(&path) {
            Ok(link) => Ok(link.into()),
            Err(error) => Err(PinError::Damaged { path, reason: crate::capture::program::full(&error) }),
        }
    }

    /// Removes a pin: the program is detached as soon as nobody has the link open.
    pub(in crate::capture) fn remove(&self, interface_index: u32, hook: Hook) {
        // It may be gone already.
        let _ = fs::remove_file(self.path(interface_index, hook));
    }

    fn path(&self, interface_index: u32, hook: Hook) -> PathBuf {
        self.directory.join(format!("{interface_index}_{}", suffix(hook)))
    }
}

const fn suffix(hook: Hook) -> &'static str {
    match hook {
        Hook::XdpNative => "xdp",
        Hook::XdpGeneric => "generic",
        Hook::TcIngress => "in",
        Hook::TcEgress => "out",
    }
}

fn parse(path: &Path) -> Option<(u32, Hook)> {
    let (index, hook) = path.file_name()?.to_str()?.split_once('_')?;
    let hook = [Hook::XdpNative, Hook::XdpGeneric, Hook::TcIngress, Hook::TcEgress]
        .into_iter()
        .find(|candidate| suffix(*candidate) == hook)?;
    Some((index.parse().ok()?, hook))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_are_read_as_they_are_written() {
        let pins = LinkPins::new(PathBuf::from("/somewhere"), true);
        for hook in [Hook::XdpNative, Hook::XdpGeneric, Hook::TcIngress, Hook::TcEgress] {
            assert_eq!(parse(&pins.path(42, hook)), Some((42, hook)));
        }
        for name in ["42", "xdp", "42_", "_xdp", "42_foreign", "x_xdp"] {
            assert_eq!(parse(Path::new(name)), None, "{name}");
        }
    }
}
