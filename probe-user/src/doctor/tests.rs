//! The doctor on machines that are not there: each fault in its row, with its remedy, and what it means for
//! `run`.

use super::*;
use crate::ethtool::{Channels, Setting};
use crate::host::stub::{ALL_CAPABILITIES, StubHost};
use crate::host::{AttachedXdp, BpfFeature, FileSystem, Link, Program, XdpAttachMode};
use crate::xdp_features::XdpFeatures;

fn plan(interfaces: &[&str]) -> Plan {
    Plan {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        mirrors: Vec::new(),
        sizes: TableSizes { ipv4_slots: 131_072, ipv6_slots: 16_384, spill_slots: 8_192 },
        max_flows: 1_048_576,
        pins: false,
        bgp: Vec::new(),
        bmp: None,
    }
}

fn look(host: &StubHost) -> Findings {
    examine(host, &plan(&["eth0"]))
}

impl Findings {
    /// The one row about `item`.
    fn row(&self, item: &str) -> &Row {
        let mut found = self.rows.iter().filter(|row| row.item == item);
        let row = found.next().unwrap_or_else(|| panic!("no row {item:?}"));
        assert_eq!(found.next(), None, "{item:?} twice");
        row
    }

    /// Checks status and remedy of a row.
    fn assert(&self, item: &str, status: Status, remedy: &str) -> &Row {
        let row = self.row(item);
        assert_eq!(row.status, status, "{row:?}");
        assert!(row.remedy.contains(remedy), "{row:?}");
        assert_eq!(row.consequence.is_empty(), status == Status::Ok, "{row:?}");
        row
    }

    fn bad(&self) -> Vec<&str> {
        self.rows.iter().filter(|row| row.status != Status::Ok).map(|row| row.item).collect()
    }
}

#[test]
fn a_good_machine_has_nothing_to_say() {
    let findings = look(&StubHost::new());
    assert_eq!(findings.bad(), <[&str; 0]>::default());
    assert!(findings.is_fit());
    assert!(findings.row("driver").found.contains("ice"));
    // Eight of the sixteen possible CPUs are online, and each has an interrupt.
    assert!(findings.row("CPUs").found.contains("8 online of 16 possible, 8 receive"));
    // Eight times 22 MiB of flow tables, and the accounts of all.
    assert!(findings.row("memory").wanted.starts_with("178."));
    assert!(findings.text(110).ends_with("pathflow run would work here; 0 warnings\n"));
}

#[test]
fn linux_5_10_is_too_old() {
    let findings = look(&StubHost::linux_5_10());
    assert!(!findings.is_fit());
    let row = findings.assert("kernel", Status::Fail, "boot Linux 5.15");
    assert!(row.found.contains("5.10.0-28-amd64") && row.consequence.contains("5.11"), "{row:?}");
}

#[test]
fn linux_5_15_works_with_what_takes_the_place_of_newer_features() {
    let host = StubHost::linux_5_15();
    let findings = look(&host);
    assert!(findings.is_fit(), "{:?}", findings.bad());
    findings.assert("kernel", Status::Ok, "");
    let row = findings.assert("tc by links (tcx)", Status::Warn, "6.6");
    assert!(row.consequence.contains("clsact"));
    findings.assert("XDP in several buffers", Status::Warn, "5.18");
    // By the list of drivers, as this kernel does not say.
    assert!(findings.assert("driver", Status::Ok, "").found.contains("ice"));
    assert!(findings.row("kernel program").found.contains("pathflow_xdp"));

    let mut jumbo = host.clone();
    jumbo.link("eth0").mtu = 9000;
    look(&jumbo).assert("MTU", Status::Warn, "ip link set eth0 mtu");
    let mut unknown = StubHost::linux_5_15();
    unknown.links.clear();
    unknown.card("eth0", 2, "e1000e");
    unknown.xdp_features.insert(2, None);
    assert!(look(&unknown).assert("driver", Status::Warn, "").found.contains("e1000e"));
}

#[test]
fn a_jumbo_mtu_is_fine_where_xdp_takes_several_buffers() {
    let mut host = StubHost::new();
    host.link("eth0").mtu = 9000;
    look(&host).assert("MTU", Status::Ok, "");
    // The kernel can, the driver cannot.
    host.xdp_features.insert(2, Some(XdpFeatures(XdpFeatures::BASIC)));
    look(&host).assert("MTU", Status::Warn, "ip link set eth0 mtu");
}

#[test]
fn a_real_time_kernel_is_refused_by_its_name_and_not_for_capabilities() {
    let mut host = StubHost::new();
    host.file("/proc/sys/kernel/version", "#1 SMP PREEMPT_RT Debian 6.12.48-1 (2025-09-20)");
    let findings = look(&host);
    assert!(!findings.is_fit());
    findings.assert("preemption", Status::Fail, "without PREEMPT_RT");
    findings.assert("CAP_BPF", Status::Ok, "");
    assert_eq!(findings.bad(), ["preemption", "BPF features"]);
}

#[test]
fn each_missing_capability_has_a_row_and_a_remedy() {
    let mut host = StubHost::new();
    host.capabilities(1 << 12);
    let findings = look(&host);
    assert!(!findings.is_fit());
    findings.assert("CAP_BPF", Status::Fail, "AmbientCapabilities=CAP_BPF");
    findings.assert("CAP_PERFMON", Status::Fail, "cap_perfmon+ep");
    findings.assert("CAP_NET_ADMIN", Status::Ok, "");
    // Not needed without mirror ports.
    assert_eq!(findings.row("CAP_NET_RAW").status, Status::Ok);
    // Nothing was tried, and nothing is said of it.
    findings.assert("BPF features", Status::Warn, "again");
    assert!(findings.rows.iter().all(|row| row.item != "XDP programs"));
}

#[test]
fn a_container_without_the_capability_in_its_bounding_set_is_told_how_to_start_it() {
    let mut host = StubHost::new();
    host.file("/proc/self/status", "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nSeccomp:\t2");
    let findings = look(&host);
    findings.assert("CAP_BPF", Status::Fail, "--cap-add=BPF");
    findings.assert("CAP_NET_ADMIN", Status::Fail, "--cap-add=NET_ADMIN");
}

#[test]
fn a_refused_system_call_is_not_taken_for_a_missing_capability() {
    let mut host = StubHost::new();
    host.bpf_error = Some(libc::EPERM);
    let status = host.files["/proc/self/status"].replace("Seccomp:\t0", "Seccomp:\t2");
    host.file("/proc/self/status", &status);
    let findings = look(&host);
    let row = findings.assert("bpf() system call", Status::Fail, "seccomp profile");
    assert!(row.consequence.contains("seccomp filter"), "{row:?}");
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"] {
        findings.assert(capability, Status::Ok, "");
    }

    host.file("/proc/self/uid_map", "0 1000 65536");
    let findings = examine(&host, &plan(&["eth0"]));
    findings.assert("user namespace", Status::Warn, "outside of the unprivileged container");
    assert!(findings.row("bpf() system call").consequence.contains("user namespace"));
}

#[test]
fn lockdown_is_a_warning_only_where_it_forbids_something() {
    let mut host = StubHost::new();
    host.file("/sys/kernel/security/lockdown", "none [integrity] confidentiality");
    look(&host).assert("kernel lockdown", Status::Ok, "");
    host.file("/sys/kernel/security/lockdown", "none integrity [confidentiality]");
    look(&host).assert("kernel lockdown", Status::Warn, "lockdown=integrity");
}

#[test]
fn every_feature_that_is_needed_is_a_fault_and_every_other_a_warning() {
    for (feature, item, status) in [
        (BpfFeature::Xdp, "XDP programs", Status::Fail),
        (BpfFeature::MmapableArray, "memory-mapped arrays", Status::Fail),
        (BpfFeature::ArrayOfMaps, "arrays of maps", Status::Fail),
        (BpfFeature::Jiffies, "helper bpf_jiffies64", Status::Fail),
        (BpfFeature::CoarseClock, "helper bpf_ktime_get_coarse_ns", Status::Fail),
        (BpfFeature::SchedClassifier, "tc programs", Status::Warn),
        (BpfFeature::FibLookup, "helper bpf_fib_lookup", Status::Fail),
        (BpfFeature::LruHash, "LRU hash tables", Status::Fail),
        (BpfFeature::RingBuffer, "ring buffers", Status::Fail),
    ] {
        let mut host = StubHost::new();
        host.missing.insert(feature);
        let findings = look(&host);
        findings.assert(item, status, "boot Linux");
        assert_eq!(findings.bad(), [item]);
        assert_eq!(findings.is_fit(), status == Status::Warn);
    }
    let mut host = StubHost::new();
    host.missing.insert(BpfFeature::Jit);
    host.file("/proc/sys/net/core/bpf_jit_enable", "0");
    look(&host).assert("BPF JIT", Status::Warn, "net.core.bpf_jit_enable=1");
}

#[test]
fn a_program_that_the_verifier_refuses_is_a_fault_in_its_words() {
    let mut host = StubHost::new();
    host.load = Err("the kernel refuses the program: R2 offset is outside of the packet".to_owned());
    let findings = look(&host);
    let row = findings.assert("kernel program", Status::Fail, "");
    assert!(row.found.contains("R2 offset"), "{row:?}");
    assert!(!findings.is_fit());
}

#[test]
fn mirror_ports_need_more() {
    let mut host = StubHost::new();
    host.capabilities(1 << 39 | 1 << 38 | 1 << 12);
    host.missing.insert(BpfFeature::XskMap);
    assert!(examine(&host, &plan(&["eth0"])).is_fit());
    let mirror = Plan { mirrors: vec!["eth0".to_owned()], ..plan(&["eth0"]) };
    let findings = examine(&host, &mirror);
    findings.assert("CAP_NET_RAW", Status::Fail, "CAP_NET_RAW");
    findings.assert("locked memory", Status::Warn, "LimitMEMLOCK=infinity");

    host.capabilities(1 << 39 | 1 << 38 | 1 << 12 | 1 << 13 | 1 << 14);
    let findings = examine(&host, &mirror);
    findings.assert("locked memory", Status::Ok, "");
    findings.assert("maps of AF_XDP sockets", Status::Fail, "4.18");
}

#[test]
fn a_mirror_port_is_looked_at_like_any_interface() {
    let mut host = StubHost::new();
    host.card("eth1", 3, "igb");
    host.xdp_features.insert(3, Some(XdpFeatures(XdpFeatures::BASIC | XdpFeatures::REDIRECT)));
    let mirrors = Plan { mirrors: vec!["eth0".to_owned(), "eth1".to_owned()], ..plan(&[]) };
    let findings = examine(&host, &mirrors);
    let copying = |name: &str| {
        let mut rows = findings.rows.iter().filter(|row| row.interface.as_deref() == Some(name));
        rows.find(|row| row.item == "AF_XDP").unwrap().found.clone()
    };
    assert_eq!([copying("eth0"), copying("eth1")], ["without copying", "with copying"]);
    let mirrors = Plan { mirrors: vec!["eth0".to_owned(), "eth7".to_owned()], ..plan(&["eth0"]) };
    let findings = examine(&host, &mirrors);
    let faults = findings.rows.iter().filter(|row| row.status == Status::Fail);
    assert_eq!(faults.map(|row| row.interface.as_deref()).collect::<Vec<_>>(), [Some("eth7")]);
}

#[test]
fn pins_need_the_bpf_file_system() {
    let mut host = StubHost::new();
    let pins = Plan { pins: true, ..plan(&["eth0"]) };
    assert!(examine(&host, &pins).is_fit());
    for (system, remedy) in [
        (None, "mount -t bpf"),
        // sysfs itself, where nothing is mounted.
        (Some(FileSystem { magic: 0x6265_6572, writable: true }), "mount -t bpf"),
        (Some(FileSystem { magic: 0xcafe_4a11, writable: false }), "remount,rw"),
    ] {
        host.file_systems.clear();
        host.file_systems.extend(system.map(|system| ("/sys/fs/bpf".to_owned(), system)));
        let findings = examine(&host, &pins);
        findings.assert("BPF file system", Status::Fail, remedy);
        assert!(!findings.is_fit());
        // Without pins nobody needs it.
        assert!(examine(&host, &plan(&["eth0"])).is_fit());
    }
}

#[test]
fn memory_is_compared_with_the_machine_and_with_the_cgroup() {
    let mut host = StubHost::new();
    let needed = "capture.ipv4_slots";
    look(&host).assert("memory", Status::Ok, "");
    host.file("/sys/fs/cgroup/system.slice/memory.max", "max");
    host.file("/sys/fs/cgroup/system.slice/pathflow.service/memory.max", "314572800");
    host.file("/sys/fs/cgroup/system.slice/pathflow.service/memory.current", "10485760");
    // 290 MiB: the tables of eight CPUs (176 MiB) fit, a full flow cache does not.
    assert!(look(&host).assert("memory", Status::Warn, needed).found.contains("290.0 MiB"));
    // A limit above is a limit, too.
    host.file("/sys/fs/cgroup/system.slice/memory.max", "104857600");
    host.file("/sys/fs/cgroup/system.slice/memory.current", "0");
    look(&host).assert("memory", Status::Fail, needed);

    let mut host = StubHost::new();
    host.file("/proc/meminfo", "MemTotal: 500000 kB\nMemAvailable:      102400 kB");
    let findings = look(&host);
    assert!(findings.assert("memory", Status::Fail, needed).found.contains("100.0 MiB"));
    assert!(!findings.is_fit());
}

#[test]
fn settings_that_cost_time_are_warnings() {
    let mut host = StubHost::new();
    host.file("/proc/sys/kernel/bpf_stats_enabled", "1");
    host.tick_nanoseconds = 20_000_000;
    let findings = look(&host);
    findings.assert("BPF run-time statistics", Status::Warn, "kernel.bpf_stats_enabled=0");
    findings.assert("clock tick", Status::Warn, "CONFIG_HZ");
    assert!(findings.is_fit());
}

#[test]
fn an_interface_that_is_missing_or_not_named_is_a_fault() {
    let host = StubHost::new();
    let findings = examine(&host, &plan(&["eth0", "eth7"]));
    let row = findings.rows.iter().find(|row| row.interface.as_deref() == Some("eth7")).unwrap();
    assert_eq!((row.status, row.found.as_str()), (Status::Fail, "no such interface"));
    assert!(!findings.is_fit());

    let findings = examine(&host, &plan(&[]));
    // The candidates are named.
    findings.assert("interfaces", Status::Fail, "eth0");
    assert!(!findings.is_fit());
}

#[test]
fn a_driver_without_native_xdp_is_counted_by_tc() {
    let mut host = StubHost::new();
    host.xdp_features.insert(2, Some(XdpFeatures(0)));
    host.features_on("eth0", &["rx-vlan-hw-parse", "rx-lro"]);
    let findings = look(&host);
    let row = findings.assert("driver", Status::Warn, "");
    assert!(row.consequence.contains("tc at ingress"), "{row:?}");
    // tc finds the tag, and how many packets were merged.
    findings.assert("rx-vlan-offload", Status::Ok, "");
    findings.assert("merging of packets", Status::Ok, "");
    assert!(findings.is_fit());

    host.missing.insert(BpfFeature::SchedClassifier);
    let findings = examine(&host, &plan(&["eth0"]));
    findings.assert("driver", Status::Fail, "");
    assert!(!findings.is_fit());
}

#[test]
fn offloads_that_change_packets_before_xdp_are_warnings_with_the_command() {
    let mut host = StubHost::new();
    host.features_on("eth0", &["rx-vlan-hw-parse", "rx-lro", "rx-gro-hw", "hw-tc-offload"]);
    let findings = look(&host);
    findings.assert("rx-vlan-offload", Status::Warn, "ethtool -K eth0 rxvlan off");
    findings.assert("merging of packets", Status::Warn, "ethtool -K eth0 rx-lro off rx-gro-hw off");
    findings.assert("hw-tc-offload", Status::Warn, "ethtool -K eth0 hw-tc-offload off");
    assert!(findings.is_fit());

    // As virtio_net has it: a command that cannot work is not offered.
    host.features.insert("eth0".to_owned(), crate::ethtool::Features::new(["rx-gro-hw"], []));
    let findings = examine(&host, &plan(&["eth0"]));
    let row = findings.assert("merging of packets", Status::Warn, "rx-gro-hw");
    assert!(!row.remedy.contains("ethtool"), "{row:?}");
}

#[test]
fn ports_for_routers_are_tried() {
    let [bgp, other, bmp] =
        ["192.0.2.1:179", "[::1]:179", "192.0.2.1:1790"].map(|text| text.parse().unwrap());
    let with_routes = Plan { bgp: vec![other, bgp], bmp: Some(bmp), ..plan(&["eth0"]) };
    let mut host = StubHost::new();
    let findings = examine(&host, &with_routes);
    assert!(findings.assert("BGP port", Status::Ok, "").found.contains("[::1]:179, 192.0.2.1:179"));
    findings.assert("BMP port", Status::Ok, "");

    host.listen_errors.insert(bgp, libc::EACCES);
    host.listen_errors.insert(bmp, libc::EADDRINUSE);
    host.file("/proc/self/status", &format!("CapEff: {:x}", ALL_CAPABILITIES & !(1 << 10)));
    let findings = examine(&host, &with_routes);
    let row = findings.assert("BGP port", Status::Fail, "AmbientCapabilities=CAP_NET_BIND_SERVICE");
    assert_eq!(row.found, "192.0.2.1:179 refused: CAP_NET_BIND_SERVICE is missing");
    let row = findings.assert("BMP port", Status::Fail, "ss -ltnp sport = :1790");
    assert_eq!(row.found, "192.0.2.1:1790 taken");
    assert!(!findings.is_fit());
    // Nobody is to connect.
    assert!(look(&host).is_fit());
    host.listen_errors.insert(bgp, libc::EADDRNOTAVAIL);
    examine(&host, &with_routes).assert("BGP port", Status::Fail, "ip address add 192.0.2.1 dev");
}

#[test]
fn fewer_queues_than_cpus_is_a_warning_with_the_command() {
    let mut host = StubHost::new();
    let combined = Setting { current: 2, maximum: 64 };
    host.channels.insert("eth0".to_owned(), Channels { combined, ..Channels::default() });
    host.receive_rings.insert("eth0".to_owned(), Setting { current: 128, maximum: 4096 });
    let findings = look(&host);
    findings.assert("receive queues", Status::Warn, "ethtool -L eth0 combined 8");
    findings.assert("receive ring", Status::Warn, "ethtool -G eth0 rx 512");

    let receive = Setting { current: 1, maximum: 4 };
    host.channels.insert("eth0".to_owned(), Channels { receive, ..Channels::default() });
    examine(&host, &plan(&["eth0"])).assert("receive queues", Status::Warn, "ethtool -L eth0 rx 4");

    // Amazon's card wants as many queues for sending by XDP as it receives on.
    let mut host = StubHost::new();
    host.links.clear();
    host.card("eth0", 2, "ena");
    let combined = Setting { current: 8, maximum: 8 };
    host.channels.insert("eth0".to_owned(), Channels { combined, ..Channels::default() });
    look(&host).assert("queues left for XDP", Status::Warn, "ethtool -L eth0 combined 4");
}

#[test]
fn a_program_that_is_attached_is_named() {
    let mut host = StubHost::new();
    host.link("eth0").xdp = Some(AttachedXdp { id: 42, mode: XdpAttachMode::Native });
    host.programs.push(Program { id: 42, name: "xdp_firewall".to_owned(), tag: 0x3b18_5187_f1d8_55c4 });
    let findings = look(&host);
    let row = findings.assert("XDP program present", Status::Warn, "if nobody needs it");
    for part in ["xdp_firewall", "42", "3b185187f1d855c4", "native"] {
        assert!(row.found.contains(part), "{row:?}");
    }
    assert!(findings.is_fit());

    host.programs[0].name = "pathflow_frags".to_owned();
    examine(&host, &plan(&["eth0"])).assert("XDP program present", Status::Warn, "pathflow detach");
    // Not everybody may look at programs.
    host.programs.clear();
    assert!(examine(&host, &plan(&["eth0"])).row("XDP program present").found.contains("id 42"));
}

#[test]
fn interfaces_that_see_the_same_packets_are_named() {
    let mut host = StubHost::new();
    host.card("eth1", 3, "ice");
    let vlan = Link {
        index: 10,
        name: "eth0.100".to_owned(),
        kind: Some("vlan".to_owned()),
        lower: Some(2),
        is_ethernet: true,
        is_up: true,
        mtu: 1500,
        ..Link::default()
    };
    let bond = Link {
        index: 11,
        name: "bond0".to_owned(),
        kind: Some("bond".to_owned()),
        lower: None,
        ..vlan.clone()
    };
    // The other end of a veth pair is no lower interface.
    let veth = Link { index: 12, name: "veth0".to_owned(), kind: Some("veth".to_owned()), ..vlan.clone() };
    host.links.extend([vlan, bond, veth]);
    host.link("eth1").master = Some(11);

    let twice = |names: &[&str]| {
        let findings = examine(&host, &plan(names));
        let rows = findings.rows.iter().filter(|row| row.item == "captured below or above");
        rows.filter(|row| row.status == Status::Warn)
            .map(|row| (row.interface.clone().unwrap(), row.found.clone()))
            .collect::<Vec<_>>()
    };
    let pair = |one: &str, other: &str| vec![(one.to_owned(), other.to_owned())];
    assert_eq!(twice(&["eth0", "eth0.100"]), pair("eth0.100", "eth0"));
    assert_eq!(twice(&["eth1", "bond0"]), pair("eth1", "bond0"));
    assert_eq!(twice(&["eth0", "eth1", "veth0"]), []);
    assert_eq!(twice(&["eth0.100", "bond0"]), []);
}

#[test]
fn an_interface_that_is_down_or_has_no_ethernet_is_a_warning() {
    let mut host = StubHost::new();
    host.link("eth0").is_up = false;
    look(&host).assert("interface", Status::Warn, "ip link set eth0 up");
    host.link("eth0").is_ethernet = false;
    look(&host).assert("interface", Status::Warn, "below");
}

#[test]
fn what_is_most_important_comes_first_and_nothing_is_wider_than_asked() {
    let mut host = StubHost::linux_5_15();
    host.load = Err("refused for a reason that is said in many words, ".repeat(4));
    host.file("/proc/sys/kernel/bpf_stats_enabled", "1");
    let findings = look(&host);
    let statuses: Vec<Status> = findings.rows.iter().map(|row| row.status).collect();
    assert!(statuses.is_sorted());
    assert_eq!(statuses.first(), Some(&Status::Fail));
    let text = findings.text(110);
    for line in text.lines() {
        assert!(line.chars().count() <= 110, "{line}");
        assert!(!line.ends_with(' ') && !line.contains('\u{1b}'), "{line:?}");
    }
    // Every word of every cell is there.
    for row in &findings.rows {
        for cell in [&row.found, &row.wanted, &row.consequence, &row.remedy] {
            assert!(cell.split_whitespace().all(|word| text.contains(word)), "{row:?}");
        }
    }
    assert!(text.contains("1 fault, 3 warnings"), "{text}");
}

#[test]
fn json_has_an_object_for_each_row() {
    let findings = look(&StubHost::linux_5_10());
    let json: Vec<serde_json::Value> = serde_json::from_str(&findings.json().unwrap()).unwrap();
    assert_eq!(json.len(), findings.rows.len());
    assert_eq!(json[0]["status"], "fail");
    assert_eq!(json[0]["item"], "kernel");
    assert_eq!(json[0]["interface"], serde_json::Value::Null);
    let queue = json.iter().find(|row| row["item"] == "receive queues").unwrap();
    assert_eq!(queue["interface"], "eth0");
    for row in &json {
        for key in ["found", "wanted", "consequence", "remedy"] {
            assert!(row[key].is_string(), "{row}");
        }
    }
}
