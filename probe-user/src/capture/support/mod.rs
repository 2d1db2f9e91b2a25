//! What capturing needs from this machine: capabilities, kernel features, the CPUs that receive.

mod cpus;
pub(crate) mod privileges;
pub(crate) mod probes;
#[cfg(test)]
mod tests;

pub use cpus::receiving_cpus;
pub(crate) use cpus::{interrupt_cpus, online_cpus_of, possible_cpus_of};
pub(super) use cpus::{online_cpus, possible_cpus};

use std::io;

use super::CaptureError;
use crate::host::{BpfFeature, Host, System};
use privileges::{Capability, Privileges};

/// Oldest kernel that is supported: everything the program uses is in it.
pub(crate) const OLDEST_KERNEL: &str = "5.15";

/// Checks capabilities, kernel version and kernel flavour.
pub(super) fn check() -> Result<(), CaptureError> {
    check_host(&System)
}

/// What keeps packets from being captured on `host`: the reason that lies deepest first, so that a
/// real-time kernel is never taken for a missing capability.
pub(crate) fn check_host(host: &dyn Host) -> Result<(), CaptureError> {
    // An unreadable version is no reason to refuse: loading will tell.
    let release = kernel_release(host).unwrap_or_default();
    if let Some((feature, since)) = missing_in(&release) {
        return Err(CaptureError::KernelTooOld { release, feature, since });
    }
    if is_real_time(host) {
        return Err(CaptureError::RealTimeKernel);
    }
    let privileges = Privileges::of(host);
    for capability in [Capability::Bpf, Capability::Perfmon, Capability::NetAdmin] {
        if !privileges.has(capability) {
            return Err(CaptureError::Capability { capability: capability.name() });
        }
    }
    match host.bpf(BpfFeature::SystemCall) {
        Err(error) if is_refusal(&error) => {
            Err(CaptureError::BpfRefused { reason: privileges::refusal_reason(host, &privileges) })
        }
        // Anything else shows when the program is loaded.
        _ => Ok(()),
    }
}

/// Whether an error says that this process may not.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// The kernel's release, as `uname -r` says it.
pub(crate) fn kernel_release(host: &dyn Host) -> Option<String> {
    host.read("/proc/sys/kernel/osrelease").ok()
}

/// Whether the kernel is real-time. Without `/sys` its version says so (`uname -v`).
pub(crate) fn is_real_time(host: &dyn Host) -> bool {
    let says = |path: &str| host.read(path).unwrap_or_default();
    says("/sys/kernel/realtime") == "1"
        || says("/proc/sys/kernel/version").split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// The first thing that a kernel of this release lacks, and the first release that has it.
pub(crate) fn missing_in(release: &str) -> Option<(&'static str, &'static str)> {
    let version = version(release)?;
    // In the order in which an old kernel would miss them.
    [
        ((5, 5), "5.5", "memory-mapped BPF arrays"),
        ((5, 8), "5.8", "CAP_BPF and BPF links for XDP"),
        ((5, 11), "5.11", "the coarse clock for BPF programs"),
        ((5, 15), OLDEST_KERNEL, "support by pathflow (older kernels are not tested)"),
    ]
    .into_iter()
    .find(|(first, ..)| version < *first)
    .map(|(_, since, feature)| (feature, since))
}

/// Major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Name and id of the XDP program on an interface, for an error message.
pub(super) fn attached_program(interface_index: u32) -> String {
    match crate::interfaces::xdp_program_id(interface_index) {
        Some(id) => match probes::program(id) {
            Some(program) => format!("XDP program {} (id {id})", program.name),
            None => format!("XDP program {id}"),
        },
        None => "another XDP program".to_owned(),
    }
}
