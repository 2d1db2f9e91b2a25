//! The CPUs of this machine, and those on which packets arrive.

use std::collections::BTreeSet;

use super::super::CaptureError;
use crate::host::{Host, System};
use crate::interfaces::Interface;

/// CPUs on which packets of `interfaces` can arrive: those that the interrupts of their receive queues may
/// go to, or every CPU for an interface that has no interrupts of its own (veth, bonding and so on).
#[must_use]
pub fn receiving_cpus(interfaces: &[Interface]) -> Vec<u32> {
    let online = online_cpus().unwrap_or_default();
    let mut cpus = BTreeSet::new();
    for interface in interfaces {
        match interrupt_cpus(&System, &interface.name, interface.index) {
            Some(found) => cpus.extend(found),
            None => return online,
        }
    }
    cpus.retain(|cpu| online.contains(cpu));
    if cpus.is_empty() { online } else { cpus.into_iter().collect() }
}

/// Numbers of the CPUs that are online, ascending.
pub(in crate::capture) fn online_cpus() -> Result<Vec<u32>, CaptureError> {
    online_cpus_of(&System)
}

/// Numbers of the CPUs that could ever come online, ascending.
pub(in crate::capture) fn possible_cpus() -> Result<Vec<u32>, CaptureError> {
    possible_cpus_of(&System)
}

/// Numbers of the CPUs of `host` that are online, ascending.
pub(crate) fn online_cpus_of(host: &dyn Host) -> Result<Vec<u32>, CaptureError> {
    cpus_in(host, "/sys/devices/system/cpu/online")
}

/// Numbers of the CPUs of `host` that could ever come online, ascending.
pub(crate) fn possible_cpus_of(host: &dyn Host) -> Result<Vec<u32>, CaptureError> {
    cpus_in(host, "/sys/devices/system/cpu/possible")
}

fn cpus_in(host: &dyn Host, path: &str) -> Result<Vec<u32>, CaptureError> {
    let list = host.read(path).unwrap_or_default();
    let mut cpus = cpu_list(&list).ok_or(CaptureError::NoCpu)?;
    cpus.sort_unstable();
    Ok(cpus)
}

/// CPUs that the interrupts of an interface may go to; `None` if it has none of its own.
pub(crate) fn interrupt_cpus(host: &dyn Host, name: &str, index: u32) -> Option<BTreeSet<u32>> {
    let directory = format!("/sys/class/net/{name}");
    // `/sys` may show another network namespace, with another interface of this name.
    if host.read(&format!("{directory}/ifindex")).ok()? != index.to_string() {
        return None;
    }
    let mut cpus = BTreeSet::new();
    for irq in host.list(&format!("{directory}/device/msi_irqs")).ok()? {
        let list = host.read(&format!("/proc/irq/{irq}/smp_affinity_list")).unwrap_or_default();
        cpus.extend(cpu_list(&list)?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cpu_list("7"), Some(vec![7]));
        assert_eq!(cpu_list("x"), None);
    }
}
