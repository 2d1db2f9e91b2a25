//! What this process may do, and what could keep the kernel from letting it.

use crate::host::Host;

/// A capability (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    /// Listen on ports below 1024.
    NetBindService,
    /// Attach to interfaces.
    NetAdmin,
    /// `AF_XDP` sockets.
    NetRaw,
    /// Lock any amount of memory.
    IpcLock,
    /// What most others were split off from.
    SysAdmin,
    /// Load programs without the restrictions against speculative execution.
    Perfmon,
    /// Load programs and make maps.
    Bpf,
}

impl Capability {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::IpcLock => "CAP_IPC_LOCK",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// Its bit, by its number in `include/uapi/linux/capability.h`. `CAP_SYS_ADMIN` includes what was
    /// split off from it.
    const fn mask(self) -> u64 {
        match self {
            Self::NetBindService => 1 << 10,
            Self::NetAdmin => 1 << 12,
            Self::NetRaw => 1 << 13,
            Self::IpcLock => 1 << 14,
            Self::SysAdmin => 1 << 21,
            Self::Perfmon => 1 << 38 | Self::SysAdmin.mask(),
            Self::Bpf => 1 << 39 | Self::SysAdmin.mask(),
        }
    }
}

/// What `/proc/self/status` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    effective: u64,
    bounding: u64,
    /// Whether a seccomp filter is in force.
    pub(crate) is_filtered: bool,
}

impl Privileges {
    /// What cannot be read counts as allowed, so that the kernel decides.
    pub(crate) fn of(host: &dyn Host) -> Self {
        let status = host.read("/proc/self/status").unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mask = |name| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        Self {
            effective: mask("CapEff:").unwrap_or(u64::MAX),
            bounding: mask("CapBnd:").unwrap_or(u64::MAX),
            is_filtered: field("Seccomp:") == Some("2"),
        }
    }

    pub(crate) const fn has(&self, capability: Capability) -> bool {
        self.effective & capability.mask() != 0
    }

    /// Whether it could be had by this process at all.
    pub(crate) const fn may_have(&self, capability: Capability) -> bool {
        self.bounding & capability.mask() != 0
    }
}

/// Whether the capabilities of this process count for the whole machine: not in a user namespace.
pub(crate) fn is_in_user_namespace(host: &dyn Host) -> bool {
    let map = host.read("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// How far the kernel is locked down: the word in brackets of `/sys/kernel/security/lockdown`.
pub(crate) fn lockdown(host: &dyn Host) -> Option<String> {
    let text = host.read("/sys/kernel/security/lockdown").ok()?;
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(level, _)| level.to_owned())
}

/// Why `bpf()` may be refused to a process that has the capabilities.
pub(crate) fn refusal_reason(host: &dyn Host, privileges: &Privileges) -> String {
    if is_in_user_namespace(host) {
        return "this process is in a user namespace, where capabilities do not count for bpf()".to_owned();
    }
    if privileges.is_filtered {
        return "a seccomp filter is in force, as in containers; let it allow bpf()".to_owned();
    }
    if let Some(level) = lockdown(host).filter(|level| level != "none") {
        return format!("the kernel is locked down ({level}), or a security module forbids it");
    }
    let modules = host.read("/sys/kernel/security/lsm").unwrap_or_default();
    match modules.as_str() {
        "" => "a security module or a seccomp filter forbids it".to_owned(),
        modules => format!("a security module forbids it (loaded: {modules})"),
    }
}
