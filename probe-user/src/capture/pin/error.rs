//! What can be wrong with pins.

use std::io;
use std::path::PathBuf;

/// Why capture cannot be pinned, or why what is pinned cannot be taken over. One line for the operator each.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no BPF file system to pin on.
    #[error(
        "capture.pin: {path} is no BPF file system: mount -t bpf bpf {path} (below `ip netns exec` it is \
         hidden; `nsenter --net=` leaves it visible)"
    )]
    NotMounted {
        /// Where it should be.
        path: &'static str,
    },
    /// Another process has the pins of this network namespace.
    #[error("{directory}: {holder} holds what is pinned for this network namespace; stop it first")]
    Busy {
        /// The directory of the namespace.
        directory: PathBuf,
        /// `process 4711`, or `another process`.
        holder: String,
    },
    /// The directory could have been changed by others.
    #[error("{directory}: it is not owned by this user alone (0700); remove it if nobody needs it")]
    Foreign {
        /// Which directory.
        directory: PathBuf,
    },
    /// Tables of a version of pathflow with another layout.
    #[error(
        "{directory}: pinned by a version of pathflow with another layout ({found:#018x}, not {LAYOUT:#018x}): \
         run that version to export what is in it, or give up what was counted since it ended and what it had \
         not exported yet with `pathflow detach`",
        LAYOUT = super::layout::LAYOUT
    )]
    UnknownLayout {
        /// Directory of the run.
        directory: PathBuf,
        /// What its descriptor says.
        found: u64,
    },
    /// What is pinned is not what was pinned.
    #[error("{path}: {reason}; `pathflow detach` gives up what is pinned there")]
    Damaged {
        /// Which pin.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system refuses something.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Only links can be pinned.
    #[error(
        "interface {interface}: capture.pin needs tcx at traffic control, which this kernel lacks (6.6 has it)"
    )]
    NoTcx {
        /// Interface name.
        interface: String,
    },
}
