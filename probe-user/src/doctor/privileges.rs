//! Capabilities, and what may forbid things in spite of them.

use super::{Plan, Row};
use crate::capture::support::is_refusal;
use crate::capture::support::privileges::{
    Capability, Privileges, is_in_user_namespace, lockdown, refusal_reason,
};
use crate::host::{BpfFeature, Host};

pub(super) fn rows(host: &dyn Host, plan: &Plan) -> Vec<Row> {
    let privileges = Privileges::of(host);
    let mut rows = Vec::new();
    for (capability, consequence) in [
        (Capability::Bpf, "no kernel program can be loaded and no table made"),
        (Capability::Perfmon, "the kernel refuses what it takes for speculative access in the program"),
        (Capability::NetAdmin, "no program can be attached to an interface"),
    ] {
        let row = capability_row(&privileges, capability, "effective");
        rows.push(if privileges.has(capability) {
            row
        } else {
            row.fail(consequence, remedy(&privileges, capability))
        });
    }
    rows.push(net_raw(&privileges, plan));
    let lacks_capability = rows.iter().any(|row| row.status == super::Status::Fail);

    rows.push(namespace(host));
    if !lacks_capability {
        rows.push(system_call(host, &privileges));
    }
    rows.push(lockdown_row(host));
    rows
}

fn capability_row(privileges: &Privileges, capability: Capability, wanted: &str) -> Row {
    let found = match (privileges.has(capability), privileges.may_have(capability)) {
        (true, _) => "effective",
        (false, true) => "missing",
        (false, false) => "missing, and outside the bounding set",
    };
    Row::ok(capability.name(), found, wanted)
}

pub(super) fn remedy(privileges: &Privileges, capability: Capability) -> String {
    let name = capability.name();
    if privileges.may_have(capability) {
        return format!(
            "run as root; or AmbientCapabilities={name} in the systemd unit; or setcap {}+ep on the program",
            name.to_lowercase()
        );
    }
    let short = name.trim_start_matches("CAP_");
    format!("start the container with --cap-add={short}, or the unit with CapabilityBoundingSet={name}")
}

fn net_raw(privileges: &Privileges, plan: &Plan) -> Row {
    if plan.mirrors.is_empty() {
        return capability_row(privileges, Capability::NetRaw, "for mirror ports only (none here)");
    }
    let row = capability_row(privileges, Capability::NetRaw, "effective, for mirror ports");
    if privileges.has(Capability::NetRaw) {
        return row;
    }
    let remedy = remedy(privileges, Capability::NetRaw);
    row.fail("no AF_XDP socket can be made for a mirror port", remedy)
}

fn namespace(host: &dyn Host) -> Row {
    let wanted = "the initial one";
    if is_in_user_namespace(host) {
        Row::ok("user namespace", "another one", wanted).warn(
            "capabilities of this namespace do not count for bpf()",
            "run outside of the unprivileged container",
        )
    } else {
        Row::ok("user namespace", "the initial one", wanted)
    }
}

/// Asked only with the capabilities, so that a refusal has another reason.
fn system_call(host: &dyn Host, privileges: &Privileges) -> Row {
    let row = |found: String| Row::ok("bpf() system call", found, "allowed");
    match host.bpf(BpfFeature::SystemCall) {
        Ok(true) => row("allowed".to_owned()),
        Ok(false) => row("not in this kernel".to_owned())
            .fail("no kernel program can be loaded", "boot a kernel with CONFIG_BPF_SYSCALL"),
        Err(error) if is_refusal(&error) => row(format!("refused, with the capabilities: {error}")).fail(
            refusal_reason(host, privileges),
            "allow bpf() to this process: its seccomp profile, security module or container",
        ),
        Err(error) => row(error.to_string()).fail(
            "no table can be made",
            "see what the kernel says; often it is memory, or a cgroup's limit",
        ),
    }
}

fn lockdown_row(host: &dyn Host) -> Row {
    let wanted = "none or integrity";
    match lockdown(host) {
        None => Row::ok("kernel lockdown", "not in this kernel, or not shown", wanted),
        Some(level) if level == "confidentiality" => Row::ok("kernel lockdown", level, wanted).warn(
            "BPF may not read kernel memory; pathflow does not, but a later kernel may forbid more",
            "boot with lockdown=integrity",
        ),
        Some(level) => Row::ok("kernel lockdown", level, wanted),
    }
}
