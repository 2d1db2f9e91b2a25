//! What the kernel's BPF can do, found by trying.

use super::{Plan, Row};
use crate::host::{BpfFeature, Host};

/// What it means if a feature is missing.
enum Need {
    /// `run` does not work.
    Always,
    /// Something else takes its place, with this consequence.
    Preferred(&'static str),
    /// Mirror ports do not work.
    Mirror,
}

struct Tried {
    feature: BpfFeature,
    item: &'static str,
    /// First kernel that has it, for the remedy. Whether it is there is tried.
    since: &'static str,
    need: Need,
}

const FEATURES: [Tried; 12] = [
    Tried { feature: BpfFeature::Xdp, item: "XDP programs", since: "4.8", need: Need::Always },
    Tried {
        feature: BpfFeature::MmapableArray,
        item: "memory-mapped arrays",
        since: "5.5",
        need: Need::Always,
    },
    Tried { feature: BpfFeature::ArrayOfMaps, item: "arrays of maps", since: "4.12", need: Need::Always },
    Tried { feature: BpfFeature::Jiffies, item: "helper bpf_jiffies64", since: "5.5", need: Need::Always },
    Tried {
        feature: BpfFeature::CoarseClock,
        item: "helper bpf_ktime_get_coarse_ns",
        since: "5.11",
        need: Need::Always,
    },
    Tried {
        feature: BpfFeature::XdpFrags,
        item: "XDP in several buffers",
        since: "5.18",
        need: Need::Preferred("XDP cannot be attached where the MTU is above one buffer; tc takes its place"),
    },
    Tried {
        feature: BpfFeature::SchedClassifier,
        item: "tc programs",
        since: "4.1",
        need: Need::Preferred("packets going out, and interfaces without native XDP, cannot be counted"),
    },
    Tried {
        feature: BpfFeature::Tcx,
        item: "tc by links (tcx)",
        since: "6.6",
        need: Need::Preferred(
            "clsact filters take its place: a filter of others that ends the chain first hides its packets",
        ),
    },
    Tried {
        feature: BpfFeature::FibLookup,
        item: "helper bpf_fib_lookup",
        since: "4.18",
        need: Need::Always,
    },
    Tried { feature: BpfFeature::LruHash, item: "LRU hash tables", since: "4.10", need: Need::Always },
    Tried { feature: BpfFeature::RingBuffer, item: "ring buffers", since: "5.8", need: Need::Always },
    Tried { feature: BpfFeature::XskMap, item: "maps of AF_XDP sockets", since: "4.18", need: Need::Mirror },
];

pub(super) fn rows(host: &dyn Host, plan: &Plan) -> Vec<Row> {
    let mut rows: Vec<Row> = FEATURES.iter().map(|tried| row(host, plan, tried)).collect();
    rows.push(jit(host));
    rows.push(match host.load_program() {
        Ok(name) => Row::ok("kernel program", format!("{name} accepted"), "accepted by the verifier"),
        Err(reason) => Row::ok("kernel program", reason, "accepted by the verifier")
            .fail("nothing can be counted", "report this line with the kernel's release"),
    });
    rows
}

/// In place of all of them.
pub(super) fn not_examined() -> Row {
    Row::ok("BPF features", "not tried", "tried").warn(
        "what this kernel can do is not known until the faults above are gone",
        "remove them and run pathflow doctor again",
    )
}

fn row(host: &dyn Host, plan: &Plan, tried: &Tried) -> Row {
    let &Tried { feature, item, since, ref need } = tried;
    let wanted = match need {
        Need::Always => "present",
        Need::Preferred(_) => "present if possible",
        Need::Mirror if plan.mirrors.is_empty() => "for mirror ports only (none here)",
        Need::Mirror => "present, for mirror ports",
    };
    let found = match host.bpf(feature) {
        Ok(true) => return Row::ok(item, "present", wanted),
        Ok(false) => "missing".to_owned(),
        Err(error) => format!("not known: {error}"),
    };
    let row = Row::ok(item, found, wanted);
    let remedy = format!("boot Linux {since} or later, built with it");
    match need {
        Need::Always => row.fail("the kernel program cannot be loaded", remedy),
        Need::Preferred(consequence) => row.warn(*consequence, remedy),
        Need::Mirror if plan.mirrors.is_empty() => row,
        Need::Mirror => row.fail("packets of mirror ports cannot be received", remedy),
    }
}

fn jit(host: &dyn Host) -> Row {
    let wanted = "compiled";
    // Not shown in other network namespaces than the first.
    let setting = host.read("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    let limit = host.read("/proc/sys/net/core/bpf_jit_limit").ok().and_then(|text| text.parse::<u64>().ok());
    let limit = limit.map(|octets| format!(", at most {} MiB", octets >> 20)).unwrap_or_default();
    match host.bpf(BpfFeature::Jit) {
        Ok(true) => Row::ok("BPF JIT", format!("compiled{limit}"), wanted),
        Ok(false) => {
            let setting = if setting.is_empty() { setting } else { format!(" (bpf_jit_enable = {setting})") };
            Row::ok("BPF JIT", format!("interpreted{setting}"), wanted).warn(
                "each packet costs several times as much",
                "sysctl -w net.core.bpf_jit_enable=1, in the first network namespace",
            )
        }
        Err(error) => Row::ok("BPF JIT", format!("not known: {error}"), wanted)
            .warn("whether packets cost several times as much is not known", ""),
    }
}
