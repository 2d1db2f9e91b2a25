//! What is known of this machine: the one seam through which start-up checks and `pathflow doctor` read it.
//!
//! [`System`] is the machine itself. Tests put other machines in its place: old kernels, kernels without a
//! feature, processes without capabilities. Everything here only reads: nothing is attached, no setting is
//! changed.

pub mod links;
#[cfg(test)]
pub(crate) mod stub;
mod system;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use links::{AttachedXdp, Link, XdpAttachMode};
pub use system::System;

use crate::ethtool::{Channels, Features, Setting};
use crate::xdp_features::XdpFeatures;

/// A feature of the kernel's BPF that can be tried without side effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BpfFeature {
    /// The system call itself: this process may make maps and load programs.
    SystemCall,
    /// Programs are compiled to machine code.
    Jit,
    /// Arrays that can be mapped into memory.
    MmapableArray,
    /// Arrays of maps.
    ArrayOfMaps,
    /// Hash tables that forget what was not used for longest.
    LruHash,
    /// Ring buffers.
    RingBuffer,
    /// Maps of `AF_XDP` sockets.
    XskMap,
    /// XDP programs.
    Xdp,
    /// XDP programs that accept frames of several buffers.
    XdpFrags,
    /// tc programs.
    SchedClassifier,
    /// tc programs attached by links (`tcx`).
    Tcx,
    /// Helper `bpf_jiffies64`.
    Jiffies,
    /// Helper `bpf_ktime_get_coarse_ns`.
    CoarseClock,
    /// Helper `bpf_fib_lookup`.
    FibLookup,
}

/// A file system, as `statfs` and `access` tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its magic number (`include/uapi/linux/magic.h`).
    pub magic: u64,
    /// Whether this process may make files in the directory that was asked about.
    pub writable: bool,
}

/// A loaded BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The kernel's number for it.
    pub id: u32,
    /// Its name, cut to 15 characters by the kernel.
    pub name: String,
    /// Digest of its instructions.
    pub tag: u64,
}

/// A machine that can be asked.
pub trait Host {
    /// Text of a small file, without white space around it.
    ///
    /// # Errors
    /// If it cannot be read.
    fn read(&self, path: &str) -> io::Result<String>;

    /// Names in a directory.
    ///
    /// # Errors
    /// If it cannot be read.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// What a symbolic link says.
    ///
    /// # Errors
    /// If it is none or cannot be read.
    fn read_link(&self, path: &str) -> io::Result<PathBuf>;

    /// The file system at a path.
    ///
    /// # Errors
    /// If there is no such path.
    fn file_system(&self, path: &str) -> io::Result<FileSystem>;

    /// Memory that this process may lock, in octets; `None` = any.
    fn locked_memory_limit(&self) -> Option<u64>;

    /// Tries to listen on an address and port of TCP, and lets go again.
    ///
    /// # Errors
    /// If that is not possible.
    fn listen(&self, address: SocketAddr) -> io::Result<()>;

    /// Nanoseconds from one tick of the kernel's counter (jiffy) to the next.
    fn tick_nanoseconds(&self) -> u64;

    /// Tries a feature.
    ///
    /// # Errors
    /// If trying was refused, so that nothing is known: `PermissionDenied` without the right to.
    fn bpf(&self, feature: BpfFeature) -> io::Result<bool>;

    /// Loads pathflow's own kernel program with small tables, attaches it nowhere, and lets it go again.
    /// Returns its name.
    ///
    /// # Errors
    /// The kernel's words, on one line.
    fn load_program(&self) -> Result<String, String>;

    /// A loaded program by its number, if it may be looked at.
    fn program(&self, id: u32) -> Option<Program>;

    /// The interfaces of this network namespace.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    fn links(&self) -> io::Result<Vec<Link>>;

    /// Features of an interface.
    ///
    /// # Errors
    /// As [`crate::ethtool::features`].
    fn features(&self, interface: &str) -> io::Result<Features>;

    /// Queues of an interface.
    ///
    /// # Errors
    /// As [`crate::ethtool::channels`].
    fn channels(&self, interface: &str) -> io::Result<Channels>;

    /// Length of its receive rings.
    ///
    /// # Errors
    /// As [`crate::ethtool::receive_ring`].
    fn receive_ring(&self, interface: &str) -> io::Result<Setting>;

    /// What its driver says of XDP; `None` where the kernel cannot say.
    ///
    /// # Errors
    /// As [`crate::xdp_features::xdp_features`].
    fn xdp_features(&self, interface_index: u32) -> io::Result<Option<XdpFeatures>>;
}
