//! What capturing needs from this machine: capabilities, kernel features, the CPUs that receive.

use std::collections::BTreeSet;
use std::fs;

use super::CaptureError;
use crate::netlink::Interface;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Oldest kernel that is supported: everything the program uses is in it.
const OLDEST: (u32, u32) = (5, 15);

/// Checks capabilities, kernel version and kernel flavour.
pub(super) fn check() -> Result<(), CaptureError> {
    let release = read_trimmed("/proc/sys/kernel/osrelease");
    check_release(&release)?;
    if read_trimmed("/sys/kernel/realtime") == "1" {
        return Err(CaptureError::RealTimeKernel);
    }
    check_capabilities(effective_capabilities(&read_trimmed("/proc/self/status")))
}

fn check_release(release: &str) -> Result<(), CaptureError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        // An unreadable version is no reason to refuse: loading will tell.
        return Ok(());
    };
    // In the order in which an old kernel would miss them.
    for (since, text, feature) in [
        ((5, 5), "5.5", "memory-mapped BPF arrays"),
        ((5, 8), "5.8", "CAP_BPF and BPF links for XDP"),
        ((5, 11), "5.11", "the coarse clock for BPF programs"),
        (OLDEST, "5.15", "support by pathflow (older kernels are not tested)"),
    ] {
        if (major, minor) < since {
            return Err(CaptureError::KernelTooOld { release: release.to_owned(), feature, since: text });
        }
    }
    Ok(())
}

/// The `CapEff` mask of a `/proc/PID/status`; all ones if it cannot be read, so that the kernel decides.
fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

fn check_capabilities(effective: u64) -> Result<(), CaptureError> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    // CAP_SYS_ADMIN includes what was split off from it.
    for (present, capability) in [
        (has(CAP_BPF) || has(CAP_SYS_ADMIN), "CAP_BPF"),
        (has(CAP_PERFMON) || has(CAP_SYS_ADMIN), "CAP_PERFMON"),
        (has(CAP_NET_ADMIN), "CAP_NET_ADMIN"),
    ] {
        if !present {
            return Err(CaptureError::Capability { capability });
        }
    }
    Ok(())
}

/// Name and id of the XDP program on an interface, for an error message.
pub(super) fn attached_program(interface_index: u32) -> String {
    let id = crate::netlink::xdp_program_id(interface_index);
    match id {
        Some(id) => {
            let name = aya::programs::loaded_programs()
                .filter_map(Result::ok)
                .find(|program| program.id() == id)
                .and_then(|program| program.name_as_str().map(str::to_owned));
            name.map_or_else(|| format!("XDP program {id}"), |name| format!("XDP program {name} (id {id})"))
        }
        None => "another XDP program".to_owned(),
    }
}

/// CPUs on which packets of `interfaces` can arrive: those that the interrupts of their receive queues may
/// go to, or every CPU for an interface that has no interrupts of its own (veth, bonding and so on).
#[must_use]
pub fn receiving_cpus(interfaces: &[Interface]) -> Vec<u32> {
    let online = online_cpus().unwrap_or_default();
    let mut cpus = BTreeSet::new();
    for interface in interfaces {
        match interrupt_cpus(interface) {
            Some(found) => cpus.extend(found),
            None => return online,
        }
    }
    cpus.retain(|cpu| online.contains(cpu));
    if cpus.is_empty() { online } else { cpus.into_iter().collect() }
}

/// Numbers of the CPUs that are online, ascending.
pub(super) fn online_cpus() -> Result<Vec<u32>, CaptureError> {
    cpus_in("/sys/devices/system/cpu/online")
}

/// Numbers of the CPUs that could ever come online, ascending.
pub(super) fn possible_cpus() -> Result<Vec<u32>, CaptureError> {
    cpus_in("/sys/devices/system/cpu/possible")
}

fn cpus_in(path: &str) -> Result<Vec<u32>, CaptureError> {
    let mut cpus = cpu_list(&read_trimmed(path)).ok_or(CaptureError::NoCpu)?;
    cpus.sort_unstable();
    Ok(cpus)
}

fn interrupt_cpus(interface: &Interface) -> Option<BTreeSet<u32>> {
    let directory = format!("/sys/class/net/{}", interface.name);
    // `/sys` may show another network namespace, with another interface of this name.
    if read_trimmed(&format!("{directory}/ifindex")) != interface.index.to_string() {
        return None;
    }
    let mut cpus = BTreeSet::new();
    for entry in fs::read_dir(format!("{directory}/device/msi_irqs")).ok()? {
        let irq = entry.ok()?.file_name().into_string().ok()?;
        cpus.extend(cpu_list(&read_trimmed(&format!("/proc/irq/{irq}/smp_affinity_list")))?);
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// Parses a kernel CPU list such as `0-3,8`.
fn cpu_list(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?);
    }
    Some(cpus)
}

fn read_trimmed(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_what_they_lack() {
        let text = |release: &str| check_release(release).unwrap_err().to_string();
        assert!(text("4.19.0-27-amd64").contains("memory-mapped BPF arrays"));
        assert!(text("5.4.0").contains("the first kernel that has it is 5.5"));
        assert!(text("5.10.0-28-amd64").contains("5.11"));
        assert!(text("5.14.21").contains("5.15"));
        for fine in ["5.15.0", "6.1.0-18-amd64", "6.18.44", "10.0.1", "weird"] {
            assert!(check_release(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_missing_capability_is_named() {
        let name = |mask: u64| check_capabilities(mask).unwrap_err().to_string();
        assert!(name(0).contains("CAP_BPF"));
        assert!(name(1 << CAP_BPF | 1 << CAP_NET_ADMIN).contains("CAP_PERFMON"));
        assert!(name(1 << CAP_BPF | 1 << CAP_PERFMON).contains("CAP_NET_ADMIN"));
        assert!(name(1 << CAP_SYS_ADMIN).contains("CAP_NET_ADMIN"));
        assert!(check_capabilities(1 << CAP_SYS_ADMIN | 1 << CAP_NET_ADMIN).is_ok());
        assert!(check_capabilities(1 << CAP_BPF | 1 << CAP_PERFMON | 1 << CAP_NET_ADMIN).is_ok());
    }

    #[test]
    fn status_without_a_mask_leaves_the_decision_to_the_kernel() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert_eq!(effective_capabilities("Name:\tx\n"), u64::MAX);
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("7"), Some(vec![7]));
        assert_eq!(cpu_list("x"), None);
    }
}
