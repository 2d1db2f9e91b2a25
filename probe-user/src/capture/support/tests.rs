//! Start-up checks on machines that are not there.

use super::privileges::Capability;
use super::*;
use crate::host::stub::{ALL_CAPABILITIES, StubHost};

const BPF: u64 = 1 << 39;
const PERFMON: u64 = 1 << 38;
const SYS_ADMIN: u64 = 1 << 21;
const NET_ADMIN: u64 = 1 << 12;

fn refusal(host: &StubHost) -> String {
    let message = check_host(host).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn old_kernels_are_told_what_they_lack() {
    let text = |release: &str| refusal(&StubHost::kernel(release));
    assert!(text("4.19.0-27-amd64").contains("memory-mapped BPF arrays"));
    assert!(text("5.4.0").contains("the first kernel that has it is 5.5"));
    assert!(refusal(&StubHost::linux_5_10()).contains("5.11"));
    assert!(text("5.14.21").contains("5.15"));
    for fine in ["5.15.0", "6.1.0-18-amd64", "6.18.44", "10.0.1", "weird"] {
        assert!(check_host(&StubHost::kernel(fine)).is_ok(), "{fine}");
    }
    assert!(check_host(&StubHost::linux_5_15()).is_ok());
}

#[test]
fn a_missing_capability_is_named() {
    let name = |mask: u64| {
        let mut host = StubHost::new();
        host.capabilities(mask);
        check_host(&host).map_err(|error| error.to_string())
    };
    assert!(name(0).unwrap_err().contains("CAP_BPF"));
    assert!(name(BPF | NET_ADMIN).unwrap_err().contains("CAP_PERFMON"));
    assert!(name(BPF | PERFMON).unwrap_err().contains("CAP_NET_ADMIN"));
    assert!(name(SYS_ADMIN).unwrap_err().contains("CAP_NET_ADMIN"));
    assert!(name(SYS_ADMIN | NET_ADMIN).is_ok());
    assert!(name(BPF | PERFMON | NET_ADMIN).is_ok());
}

#[test]
fn status_without_a_mask_leaves_the_decision_to_the_kernel() {
    let mut host = StubHost::new();
    host.file("/proc/self/status", "Name:\tx\n");
    assert!(check_host(&host).is_ok());
    host.files.clear();
    assert!(check_host(&host).is_ok());
}

#[test]
fn a_real_time_kernel_is_not_taken_for_a_missing_capability() {
    let mut host = StubHost::new();
    host.capabilities(0);
    host.file("/sys/kernel/realtime", "1");
    assert!(matches!(check_host(&host), Err(CaptureError::RealTimeKernel)));

    // Without /sys, by the version alone.
    let mut host = StubHost::new();
    host.file("/proc/sys/kernel/version", "#1 SMP PREEMPT_RT Debian 6.12.48-1 (2025-09-20)");
    assert!(matches!(check_host(&host), Err(CaptureError::RealTimeKernel)));
    host.file("/proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.48-1 (2025-09-20)");
    host.file("/sys/kernel/realtime", "0");
    assert!(check_host(&host).is_ok());
}

#[test]
fn a_refused_system_call_is_told_apart_from_missing_capabilities() {
    let mut host = StubHost::new();
    host.bpf_error = Some(libc::EPERM);
    assert!(refusal(&host).contains("security module"));
    let status = format!("CapEff:\t{ALL_CAPABILITIES:x}\nCapBnd:\t{ALL_CAPABILITIES:x}\nSeccomp:\t2");
    host.file("/proc/self/status", &status);
    assert!(refusal(&host).contains("seccomp"));
    host.file("/proc/self/uid_map", "0 1000 1");
    assert!(refusal(&host).contains("user namespace"));
    host.capabilities(0);
    assert!(refusal(&host).contains("CAP_BPF"));

    // Any other error is for the loading to tell.
    let mut host = StubHost::new();
    host.bpf_error = Some(libc::ENOMEM);
    assert!(check_host(&host).is_ok());
}

#[test]
fn a_capability_outside_the_bounding_set_cannot_be_had() {
    let mut host = StubHost::new();
    host.file("/proc/self/status", "CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n");
    let privileges = Privileges::of(&host);
    assert!(!privileges.may_have(Capability::Bpf) && !privileges.may_have(Capability::NetAdmin));
    // Docker's default set has this one.
    assert!(privileges.may_have(Capability::NetRaw) && !privileges.has(Capability::NetRaw));
}
