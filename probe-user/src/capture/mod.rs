//! Capture: the kernel program, its flow tables, and what they need from this machine.

mod attachment;
mod extension_table;
pub mod filter;
pub mod flow_table;
mod header_samples;
#[cfg(feature = "kernel-log")]
mod kernel_log;
mod mapping;
mod object;
mod payloads;
pub mod pcap;
pub mod pin;
pub mod program;
pub(crate) mod support;
pub mod xsk;

pub use attachment::Hook;
pub use extension_table::ExtensionNumbers;
pub use filter::{Filter, FilterError, FilterSet};
pub use flow_table::{Delta, Drained, Epochs, FlowTables, TickTime};
pub use header_samples::HeaderSamples;
#[cfg(feature = "kernel-log")]
pub use kernel_log::KernelLog;
pub use payloads::{PayloadCounts, PayloadStates, Payloads};
pub use program::{KernelProgram, LoadSettings, PayloadSettings, TableSizes};
pub use support::receiving_cpus;

/// Why packets cannot be captured here. Each message is one line that an operator can act on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A capability is missing.
    #[error(
        "missing capability {capability}: run as root, or grant it with setcap or systemd's AmbientCapabilities"
    )]
    Capability {
        /// `CAP_...`.
        capability: &'static str,
    },
    /// The capabilities are there, and the system call is refused all the same.
    #[error("the kernel refuses bpf() although the capabilities are present: {reason}")]
    BpfRefused {
        /// What is likely to forbid it.
        reason: String,
    },
    /// The kernel lacks something.
    #[error("kernel {release} has no {feature}; the first kernel that has it is {since}")]
    KernelTooOld {
        /// As of `uname -r`.
        release: String,
        /// What is missing.
        feature: &'static str,
        /// First kernel version that has it.
        since: &'static str,
    },
    /// The kernel is real-time: two programs may interleave on one CPU there, so counts would not be exact.
    #[error("this kernel is PREEMPT_RT: packets could not be counted exactly on it")]
    RealTimeKernel,
    /// There is no such interface.
    #[error("interface {interface}: no such interface")]
    NoInterface {
        /// Name as given.
        interface: String,
    },
    /// Another XDP program is attached.
    #[error(
        "interface {interface}: {program} is attached already and stays untouched; detach it to capture here"
    )]
    Busy {
        /// Interface name.
        interface: String,
        /// Name and id of the program present, as far as the kernel tells.
        program: String,
    },
    /// The driver has no native XDP.
    #[error(
        "interface {interface}: no native XDP ({reason}); generic XDP is not used because it miscounts merged packets"
    )]
    NoNativeXdp {
        /// Interface name.
        interface: String,
        /// Why.
        reason: &'static str,
    },
    /// Attaching failed for another reason.
    #[error("interface {interface}: the kernel program cannot be attached: {reason}")]
    Attach {
        /// Interface name.
        interface: String,
        /// The kernel's words.
        reason: String,
    },
    /// More interfaces than there are counters for.
    #[error("more than {limit} interfaces")]
    TooManyInterfaces {
        /// How many are possible.
        limit: u32,
    },
    /// The verifier or the kernel refused the program.
    #[error("the kernel refuses the program: {reason}{}", last_line(log))]
    Refused {
        /// Error of the system call.
        reason: String,
        /// The verifier's log.
        log: String,
    },
    /// The object could not be loaded.
    #[error("cannot {step}: {reason}")]
    Load {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// A map could not be made or mapped.
    #[error("map {name}: {reason}")]
    Map {
        /// Which one.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// The filters cannot be used.
    #[error("filters: {0}")]
    Filter(#[from] FilterError),
    /// The embedded object does not fit this program: a fault of the build.
    #[error("the embedded kernel object is damaged: {0}")]
    Object(String),
    /// Capture cannot be pinned, or what is pinned cannot be taken over.
    #[error(transparent)]
    Pin(#[from] pin::PinError),
    /// The CPUs could not be listed.
    #[error("/sys/devices/system/cpu: the CPUs cannot be listed")]
    NoCpu,
    /// A worker thread could not be started or has ended.
    #[error("cannot start {0}")]
    Thread(String),
}

impl CaptureError {
    /// Whether the interface is busy with a program of pathflow's own.
    #[must_use]
    pub fn is_pathflow(&self) -> bool {
        matches!(self, Self::Busy { program, .. } if program.contains(" pathflow_"))
    }
}

fn last_line(log: &str) -> String {
    log.lines()
        .rev()
        .find(|line| !line.trim().is_empty() && !line.starts_with("processed "))
        .map_or_else(String::new, |line| format!(": {line}"))
}
