//! The kernel as a whole, and what there is of memory, CPUs and time.

use super::{Plan, Row};
use crate::capture::support::privileges::{Capability, Privileges};
use crate::capture::support::{
    OLDEST_KERNEL, interrupt_cpus, is_real_time, kernel_release, missing_in, online_cpus_of, possible_cpus_of,
};
use crate::host::{Host, Link};
use crate::metering::FlowCache;

/// `BPF_FS_MAGIC` (`include/uapi/linux/magic.h`).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Where pins are.
const BPF_FS: &str = "/sys/fs/bpf";
/// Flow times are as exact as the tick.
const LONGEST_TICK: u64 = 10_000_000;
/// `AF_XDP` locks the memory of its frames; below this a few queues are too many.
const LOCKED_MEMORY: u64 = 256 << 20;

/// Release and flavour.
pub(super) fn kernel(host: &dyn Host) -> Vec<Row> {
    let wanted = format!("{OLDEST_KERNEL} or later");
    let release = match kernel_release(host) {
        None => Row::ok("kernel", "not known: /proc cannot be read", wanted)
            .warn("whether it is too old shows only at the start", "mount /proc"),
        Some(release) => match missing_in(&release) {
            None => Row::ok("kernel", release, wanted),
            Some((feature, since)) => Row::ok("kernel", release, wanted).fail(
                format!("it has no {feature}; the first kernel that has it is {since}"),
                format!("boot Linux {OLDEST_KERNEL} or later"),
            ),
        },
    };
    let flavour = if is_real_time(host) {
        Row::ok("preemption", "PREEMPT_RT", "not PREEMPT_RT").fail(
            "two programs may interleave on one CPU, so packets could not be counted exactly",
            "boot a kernel without PREEMPT_RT; capabilities make no difference",
        )
    } else {
        Row::ok("preemption", "not PREEMPT_RT", "not PREEMPT_RT")
    };
    vec![release, flavour, statistics(host), btf(host)]
}

fn statistics(host: &dyn Host) -> Row {
    // Readable by root only.
    let is_on = host.read("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text == "1");
    let row = Row::ok("BPF run-time statistics", if is_on { "on" } else { "off" }, "off");
    if !is_on {
        return row;
    }
    row.warn("two clock readings more for each packet", "sysctl -w kernel.bpf_stats_enabled=0")
}

fn btf(host: &dyn Host) -> Row {
    let is_there = host.list("/sys/kernel/btf").is_ok_and(|names| names.iter().any(|name| name == "vmlinux"));
    Row::ok("kernel BTF", if is_there { "present" } else { "absent" }, "not needed")
}

/// Memory, CPUs, clock, file system.
pub(super) fn resources(host: &dyn Host, plan: &Plan) -> Vec<Row> {
    let mut rows = vec![bpf_file_system(host, plan), locked_memory(host, plan), tick(host)];
    rows.extend(cpus_and_memory(host, plan));
    rows
}

fn bpf_file_system(host: &dyn Host, plan: &Plan) -> Row {
    let mount = format!("mount -t bpf bpf {BPF_FS}");
    let (found, remedy) = match host.file_system(BPF_FS) {
        Ok(system) if system.magic != BPF_FS_MAGIC => ("not mounted".to_owned(), mount),
        Ok(system) if !system.writable => (
            "mounted, not writable".to_owned(),
            format!("mount -o remount,rw {BPF_FS}, or run as a user who may write there"),
        ),
        Ok(_) => ("mounted, writable".to_owned(), String::new()),
        Err(error) => (format!("{BPF_FS}: {error}"), mount),
    };
    let item = "BPF file system";
    if remedy.is_empty() || !plan.pins {
        let wanted = if plan.pins { "writable, for capture.pin" } else { "for capture.pin only (off)" };
        return Row::ok(item, found, wanted);
    }
    Row::ok(item, found, "writable, for capture.pin").fail("nothing can be pinned", remedy)
}

fn locked_memory(host: &dyn Host, plan: &Plan) -> Row {
    let limit = host.locked_memory_limit();
    let item = "locked memory";
    let found = limit.map_or_else(|| "unlimited".to_owned(), |limit| format!("at most {}", octets(limit)));
    if plan.mirrors.is_empty() {
        return Row::ok(item, found, "for mirror ports only (none here)");
    }
    let row = Row::ok(item, found, format!("{} or CAP_IPC_LOCK, for mirror ports", octets(LOCKED_MEMORY)));
    let is_short = limit.is_some_and(|limit| limit < LOCKED_MEMORY);
    if !is_short || Privileges::of(host).has(Capability::IpcLock) {
        return row;
    }
    row.warn(
        "the frames of AF_XDP sockets may not be locked, and the mirror port is then refused",
        "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
    )
}

fn tick(host: &dyn Host) -> Row {
    let tick = host.tick_nanoseconds();
    let source = host.read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.map(|source| format!(", clock source {source}")).unwrap_or_default();
    let row = Row::ok("clock tick", format!("{} ms{source}", tick as f64 / 1e6), "10 ms or less");
    if tick <= LONGEST_TICK {
        return row;
    }
    row.warn("start and end of flows are as inexact as this", "boot a kernel with CONFIG_HZ of 100 or more")
}

fn cpus_and_memory(host: &dyn Host, plan: &Plan) -> Vec<Row> {
    let online = online_cpus_of(host).unwrap_or_default();
    let possible = possible_cpus_of(host).unwrap_or_default();
    if online.is_empty() || possible.is_empty() {
        return vec![
            Row::ok("CPUs", "not known: /sys/devices/system/cpu cannot be read", "known")
                .fail("no tables can be made for them", "mount /sys"),
        ];
    }
    let links = host.links().unwrap_or_default();
    let with_tables = receiving(host, plan, &links, online.len());
    let cpus = format!("{} online of {} possible, {with_tables} receive", online.len(), possible.len());
    vec![Row::ok("CPUs", cpus, "any number"), memory(host, plan, with_tables, online.len())]
}

/// How many CPUs get tables: the rule of `capture::receiving_cpus`.
fn receiving(host: &dyn Host, plan: &Plan, links: &[Link], online: usize) -> usize {
    let mut cpus = std::collections::BTreeSet::new();
    for name in plan.captured() {
        let Some(link) = links.iter().find(|link| link.name == *name) else { continue };
        match interrupt_cpus(host, name, link.index) {
            Some(found) => cpus.extend(found),
            None => return online,
        }
    }
    if cpus.is_empty() { online } else { cpus.len().min(online) }
}

fn memory(host: &dyn Host, plan: &Plan, with_tables: usize, online: usize) -> Row {
    let tables = with_tables as u64 * plan.sizes.octets_with_tables()
        + (online - with_tables) as u64 * plan.sizes.octets_without_tables();
    let cache = u64::from(plan.max_flows) * FlowCache::OCTETS_PER_FLOW as u64;
    let wanted = format!("{} for tables, then up to {} for flows", octets(tables), octets(cache));
    let Some((available, whose)) = available_memory(host) else {
        return Row::ok("memory", "not known", wanted)
            .warn("whether the tables fit shows only at the start", "mount /proc");
    };
    let row = Row::ok("memory", format!("{} available {whose}", octets(available)), wanted);
    let remedy =
        "make capture.ipv4_slots, capture.ipv6_slots or flow.max_flows smaller, or allow more memory";
    if available < tables {
        row.fail("the tables cannot be made", remedy)
    } else if available < tables + cache {
        row.warn("it may be killed for want of memory once the flow cache is full", remedy)
    } else {
        row
    }
}

/// What may still be used, in octets, and whose limit that is.
fn available_memory(host: &dyn Host) -> Option<(u64, &'static str)> {
    let machine = host.read("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?.trim();
        Some(line.trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    });
    let machine = machine.map(|octets| (octets, "on this machine"));
    let group = cgroup_memory(host).map(|octets| (octets, "in its cgroup"));
    machine.into_iter().chain(group).min_by_key(|(octets, _)| *octets)
}

/// What the limits of this process's cgroup and those above leave (cgroup v2), in octets.
fn cgroup_memory(host: &dyn Host) -> Option<u64> {
    let groups = host.read("/proc/self/cgroup").ok()?;
    let mut path = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end_matches('/');
    let mut least = None;
    loop {
        let number =
            |file: &str| host.read(&format!("/sys/fs/cgroup{path}/{file}")).ok()?.parse::<u64>().ok();
        if let (Some(limit), Some(used)) = (number("memory.max"), number("memory.current")) {
            let left = limit.saturating_sub(used);
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => return least,
        }
    }
}

fn octets(octets: u64) -> String {
    let mebibytes = octets as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.1} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}
