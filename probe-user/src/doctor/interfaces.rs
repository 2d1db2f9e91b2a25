//! Each interface: its driver, what it does to packets before they are seen, its queues.

use std::io;

use super::{Plan, Row};
use crate::capture::support::{interrupt_cpus, online_cpus_of};
use crate::ethtool::{Setting, TC_OFFLOAD, VLAN_STRIPPING};
use crate::host::{AttachedXdp, BpfFeature, Host, Link, XdpAttachMode};
use crate::xdp_features::XdpFeatures;

/// What an IP packet may have if its frame is to fit into one buffer: a page without the room for the
/// program's headers and the kernel's. Some drivers take a little less.
const SINGLE_BUFFER_MTU: u32 = 3498;
/// Receive rings shorter than this lose packets in bursts.
const SHORT_RING: u32 = 512;
/// How names of pathflow's own programs begin.
const OWN_PROGRAM: &str = "pathflow";

/// Drivers (and kinds of virtual interfaces) that have native XDP in Linux 5.15 and do not say so
/// themselves, since that takes 6.3.
const NATIVE_XDP: [&str; 27] = [
    "bnxt_en",
    "bond",
    "cpsw",
    "ena",
    "fsl_dpaa_eth",
    "fsl_dpaa2_eth",
    "fsl_enetc",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mlx4_core",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "nicvf",
    "qede",
    "sfc",
    "tun",
    "veth",
    "virtio_net",
    "vif",
];

/// Drivers that attach XDP only if at most half of their queues are in use.
const HALF_QUEUES: [&str; 2] = ["ena", "gve"];

/// Kinds of interfaces that hand on the packets of another one.
const ON_TOP: [&str; 6] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"];

pub(super) fn rows(host: &dyn Host, plan: &Plan) -> Vec<Row> {
    let links = match host.links() {
        Ok(links) => links,
        Err(error) => {
            return vec![
                Row::ok("interfaces", format!("not known: {error}"), "listed")
                    .fail("no interface can be found", "let this process make netlink sockets"),
            ];
        }
    };
    if plan.captured().next().is_none() {
        let names = links.iter().filter(|link| link.device.is_some()).map(|link| link.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let remedy = "name one with --interface NAME or capture.interfaces in the configuration file";
        let remedy =
            if names.is_empty() { remedy.to_owned() } else { format!("{remedy}; here are: {names}") };
        return vec![
            Row::ok("interfaces", "none named", "one or more").fail("nothing to capture on", remedy),
        ];
    }
    let mut rows = Vec::new();
    for name in plan.captured() {
        match links.iter().find(|link| link.name == *name) {
            Some(link) => {
                let driver = driver(host, link);
                let native = Native::of(host, link, driver.as_deref());
                let interface = Interface { host, link, links: &links, plan, driver, native };
                rows.extend(interface.rows().into_iter().map(|row| row.of(name)));
            }
            None => rows.push(
                Row::ok("interface", "no such interface", "present")
                    .fail("pathflow does not start", "correct its name; ip link shows all of them")
                    .of(name),
            ),
        }
    }
    rows
}

/// Name of the driver, or the kind of a virtual interface.
fn driver(host: &dyn Host, link: &Link) -> Option<String> {
    // By its bus, not by `/sys/class/net`, which may show another network namespace.
    let by_bus = link.device.as_ref().and_then(|(bus, device)| {
        let target = host.read_link(&format!("/sys/bus/{bus}/devices/{device}/driver")).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    });
    by_bus.or_else(|| link.kind.clone())
}

struct Interface<'a> {
    host: &'a dyn Host,
    link: &'a Link,
    links: &'a [Link],
    plan: &'a Plan,
    driver: Option<String>,
    native: Native,
}

/// Whether the driver can run XDP programs.
#[derive(Clone, Copy)]
enum Native {
    /// It can; what it says if the kernel can be asked.
    Yes(Option<XdpFeatures>),
    No,
    NotKnown,
}

impl Native {
    fn of(host: &dyn Host, link: &Link, driver: Option<&str>) -> Self {
        match host.xdp_features(link.index) {
            Ok(Some(features)) if features.has(XdpFeatures::BASIC) => Self::Yes(Some(features)),
            Ok(Some(_)) => Self::No,
            _ if driver.is_some_and(|driver| NATIVE_XDP.contains(&driver)) => Self::Yes(None),
            _ => Self::NotKnown,
        }
    }
}

impl Interface<'_> {
    fn rows(&self) -> Vec<Row> {
        let mut rows = vec![self.state()];
        rows.push(self.native_xdp());
        if let Native::Yes(features) = self.native {
            rows.push(self.mtu(features));
        }
        rows.extend(self.af_xdp());
        rows.push(self.attached());
        rows.extend(self.offloads());
        rows.extend(self.queues());
        rows.extend(self.ring());
        rows.push(self.interrupts());
        rows.push(self.counted_twice());
        rows
    }

    fn name(&self) -> &str {
        &self.link.name
    }

    fn driver(&self) -> &str {
        self.driver.as_deref().unwrap_or("no driver")
    }

    fn is_hardware(&self) -> bool {
        self.link.device.is_some()
    }

    fn state(&self) -> Row {
        let Link { index, is_up, is_ethernet, .. } = *self.link;
        let what = if is_up { "up" } else { "down" };
        let layer = if is_ethernet { "Ethernet" } else { "not Ethernet" };
        let row = Row::ok("interface", format!("index {index}, {what}, {layer}"), "up, Ethernet");
        if !is_ethernet {
            row.warn(
                "its packets have no Ethernet header: they would be counted as not IP",
                "capture on the interface below it",
            )
        } else if !is_up {
            row.warn("nothing arrives", format!("ip link set {} up", self.name()))
        } else {
            row
        }
    }

    /// The driver, and whether the program runs in it.
    fn native_xdp(&self) -> Row {
        let driver = self.driver();
        let row = |found: &str| Row::ok("driver", format!("{driver}, {found}"), "native XDP");
        match self.native {
            Native::Yes(Some(_)) => row("native XDP"),
            Native::Yes(None) => row("native XDP (known of the driver; this kernel does not say)"),
            Native::No if driver == "veth" => self.by_tc(
                row("no native XDP as it is set up"),
                "",
                format!("ethtool -L {} rx N, with N no less than its peer's send queues", self.name()),
            ),
            Native::No => self.by_tc(
                row("no native XDP"),
                "",
                "none needed; a driver with native XDP costs less for each packet",
            ),
            Native::NotKnown => self.by_tc(
                row("native XDP not known: shows at the start"),
                "if there is none, ",
                "none needed; Linux 6.3 or later tells",
            ),
        }
    }

    /// XDP cannot be attached: tc takes its place, if it can.
    fn by_tc(&self, row: Row, when: &str, remedy: impl Into<String>) -> Row {
        if matches!(self.host.bpf(BpfFeature::SchedClassifier), Ok(false)) {
            return row
                .fail(format!("{when}nothing can be counted here: this kernel has no tc programs"), remedy);
        }
        row.warn(format!("{when}packets are counted by tc at ingress, behind GRO, at a higher cost"), remedy)
    }

    fn mtu(&self, features: Option<XdpFeatures>) -> Row {
        let mtu = self.link.mtu;
        let takes_several = features.is_none_or(|features| features.has(XdpFeatures::RX_SG))
            && !matches!(self.host.bpf(BpfFeature::XdpFrags), Ok(false));
        let wanted = if takes_several {
            "any: XDP takes several buffers".to_owned()
        } else {
            format!("about {SINGLE_BUFFER_MTU} or less: XDP takes one buffer")
        };
        let row = Row::ok("MTU", mtu.to_string(), wanted);
        if takes_several || mtu <= SINGLE_BUFFER_MTU {
            return row;
        }
        let remedy = format!("ip link set {} mtu {SINGLE_BUFFER_MTU}, if the network allows", self.name());
        self.by_tc(row, "the driver is likely to refuse XDP; then ", remedy)
    }

    /// How the frames of a mirror port reach user space.
    fn af_xdp(&self) -> Option<Row> {
        if !self.plan.mirrors.contains(&self.link.name) {
            return None;
        }
        let found = match self.native {
            Native::Yes(Some(features)) if features.has(XdpFeatures::XSK_ZEROCOPY) => "without copying",
            Native::Yes(Some(_)) | Native::No => "with copying",
            Native::Yes(None) | Native::NotKnown => "shows at the start",
        };
        Some(Row::ok("AF_XDP", found, "any; without copying costs less"))
    }

    fn attached(&self) -> Row {
        let Some(AttachedXdp { id, mode }) = self.link.xdp else {
            return Row::ok("XDP program present", "none", "none");
        };
        let mode = match mode {
            XdpAttachMode::Native => "native",
            XdpAttachMode::Generic => "generic",
            XdpAttachMode::Other => "in an unknown mode",
        };
        let program = self.host.program(id);
        let found = match &program {
            Some(program) => format!("{} (id {id}, tag {:016x}), {mode}", program.name, program.tag),
            None => format!("id {id}, {mode}"),
        };
        let row = Row::ok("XDP program present", found, "none");
        if program.is_some_and(|program| program.name.starts_with(OWN_PROGRAM)) {
            return row.warn(
                "pathflow runs here already, or its program was left behind",
                "stop the other pathflow, or run pathflow detach",
            );
        }
        let remedy = format!("ip link set {} xdp off, if nobody needs it", self.name());
        self.by_tc(row, "it stays untouched, and what it drops is not seen; ", remedy)
    }

    /// What the driver does to packets before they are seen.
    fn offloads(&self) -> Vec<Row> {
        let name = self.name();
        let features = match self.host.features(name) {
            Ok(features) => features,
            Err(error) => {
                return vec![Row::ok("offloads", format!("not known: {error}"), "known").warn(
                    "whether the driver hides VLAN tags or merges packets is not known",
                    format!("ethtool -k {name}"),
                )];
            }
        };
        let is_xdp = !matches!(self.native, Native::No);
        // The names that `ethtool -K` takes, with their feature.
        let switch_off = |switches: &[(&str, &str)]| {
            if let Some((switch, _)) = switches.iter().find(|(_, feature)| !features.is_changeable(feature)) {
                return format!(
                    "the driver does not let {switch} be switched off; another one, or its host, may"
                );
            }
            let switches: Vec<String> = switches.iter().map(|(switch, _)| format!("{switch} off")).collect();
            format!("ethtool -K {name} {}", switches.join(" "))
        };
        let on_off = |is_on| if is_on { "on" } else { "off" };

        let strips = features.strips_vlan();
        let wanted = if is_xdp { "off" } else { "any: tc finds the tag beside the frame" };
        let mut vlan = Row::ok("rx-vlan-offload", on_off(strips), wanted);
        if strips && is_xdp {
            vlan = vlan.warn(
                "VLAN tags are taken out of frames before XDP sees them: packets are counted as untagged",
                switch_off(&[("rxvlan", VLAN_STRIPPING)]),
            );
        }

        let merging = features.merging();
        let found =
            if merging.is_empty() { "none on".to_owned() } else { format!("{} on", merging.join(", ")) };
        let wanted = if is_xdp { "rx-lro and rx-gro-hw off" } else { "any: tc counts the parts" };
        let mut merged = Row::ok("merging of packets", found, wanted);
        if !merging.is_empty() && is_xdp {
            let switches: Vec<(&str, &str)> = merging.iter().map(|feature| (*feature, *feature)).collect();
            merged = merged.warn(
                "several packets may be counted as one, or the driver refuses XDP",
                switch_off(&switches),
            );
        }

        let offloads = features.offloads_forwarding();
        let mut forwarding = Row::ok("hw-tc-offload", on_off(offloads), "off");
        if offloads {
            forwarding = forwarding.warn(
                "packets that the hardware forwards by tc rules or flow tables are never seen",
                switch_off(&[("hw-tc-offload", TC_OFFLOAD)]),
            );
        }
        vec![vlan, merged, forwarding]
    }

    /// Queues against CPUs.
    fn queues(&self) -> Vec<Row> {
        let name = self.name();
        let cpus = online_cpus_of(self.host).map_or(1, |cpus| cpus.len()) as u32;
        let (channels, Setting { current, maximum }) = match self.host.channels(name) {
            Ok(channels) => (Some(channels), channels.receiving()),
            Err(error) if is_unsupported(&error) => {
                let count = self.link.receive_queues;
                (None, Setting { current: count, maximum: count })
            }
            Err(error) => {
                return vec![
                    Row::ok("receive queues", format!("not known: {error}"), "known")
                        .warn("whether every CPU can receive is not known", format!("ethtool -l {name}")),
                ];
            }
        };
        let useful = maximum.min(cpus);
        let wanted = if self.is_hardware() { format!("{useful} ({cpus} CPUs)") } else { "any".to_owned() };
        let found = format!("{current} of {maximum}");
        let mut row = Row::ok("receive queues", found, wanted);
        if self.is_hardware() && current < useful {
            let which = if channels.is_some_and(|channels| channels.combined.maximum == 0) {
                "rx"
            } else {
                "combined"
            };
            row = row.warn(
                "some CPUs receive nothing, and the others may not keep up",
                format!("ethtool -L {name} {which} {useful}"),
            );
        }
        let mut rows = vec![row];
        let needs_half = self.driver.as_deref().is_some_and(|driver| HALF_QUEUES.contains(&driver));
        if needs_half {
            let half = (maximum / 2).max(1);
            let row = Row::ok(
                "queues left for XDP",
                format!("{current} of {maximum} in use"),
                format!("{half} or fewer in use"),
            );
            rows.push(if current <= half {
                row
            } else {
                let remedy = format!("ethtool -L {name} combined {half}");
                self.by_tc(row, "the driver refuses XDP; ", remedy)
            });
        }
        rows
    }

    fn ring(&self) -> Option<Row> {
        // Most virtual interfaces have none.
        let Setting { current, maximum } = self.host.receive_ring(self.name()).ok()?;
        if maximum == 0 {
            return None;
        }
        let best = maximum.min(SHORT_RING);
        let row =
            Row::ok("receive ring", format!("{current} of {maximum} frames"), format!("{best} or more"));
        if current >= best {
            return Some(row);
        }
        Some(row.warn(
            "bursts are lost in the card, where nobody counts them to a flow",
            format!("ethtool -G {} rx {best}", self.name()),
        ))
    }

    fn interrupts(&self) -> Row {
        let cpus = interrupt_cpus(self.host, self.name(), self.link.index);
        let found = match cpus {
            Some(cpus) if cpus.len() == 1 => "1 CPU".to_owned(),
            Some(cpus) => format!("{} CPUs", cpus.len()),
            None => "any CPU".to_owned(),
        };
        // Each of these CPUs has tables, so any number of them is right.
        Row::ok("interrupts go to", found, "any")
    }

    /// Whether another captured interface sees the same packets.
    fn counted_twice(&self) -> Row {
        let is_on_top = self.link.kind.as_deref().is_some_and(|kind| ON_TOP.contains(&kind));
        let lower = self.link.lower.filter(|_| is_on_top);
        let name_of = |index: u32| self.links.iter().find(|link| link.index == index).map(|link| &link.name);
        let others: Vec<&str> = [lower, self.link.master]
            .into_iter()
            .flatten()
            .filter_map(name_of)
            .filter(|name| self.plan.captured().any(|other| other == *name))
            .map(String::as_str)
            .collect();
        let row = |found: String| Row::ok("captured below or above", found, "nothing");
        if others.is_empty() {
            return row("nothing".to_owned());
        }
        row(others.join(", ")).warn(
            "the same packets are counted on both",
            format!("capture on {} or on {}, not on both", self.name(), others.join(" and ")),
        )
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}
