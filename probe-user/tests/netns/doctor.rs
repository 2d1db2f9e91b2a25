//! `pathflow doctor` on real interfaces, against what ethtool, ip and bpftool say of them.

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use pathflow::ethtool;
use pathflow::xdp_features::{XdpFeatures, xdp_features};
use serde_json::Value;

use super::refusals::write_program;
use super::support::namespace::Namespace;
use super::support::network::{CAPTURED, Network};
use super::support::probe::{ProbeBuilder, daemon, refusal};
use super::support::temp_dir::TempDir;
use super::support::tool::{output, tool};

/// What the doctor has said.
#[derive(Debug)]
struct Diagnosis {
    is_fit: bool,
    rows: Vec<Value>,
}

impl Diagnosis {
    /// Runs `command`, which is the daemon, perhaps behind another program.
    fn of(command: &mut Command) -> Self {
        let output = command.arg("--json").stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(errors, "", "{command:?}");
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 2)), "{code:?}");
        let diagnosis = Self { is_fit: code == Some(0), rows };
        let faults = diagnosis.rows.iter().filter(|row| row["status"] == "fail").count();
        assert_eq!(diagnosis.is_fit, faults == 0, "{diagnosis:#?}");
        diagnosis
    }

    /// Of one interface.
    fn on(namespace: &Namespace, interface: &str) -> Self {
        Self::of(doctor(namespace).args(["--interface", interface]))
    }

    fn row(&self, item: &str) -> &Value {
        let mut found = self.rows.iter().filter(|row| row["item"] == item);
        let row = found.next().unwrap_or_else(|| panic!("no {item:?} in {self:#?}"));
        assert_eq!(found.next(), None);
        row
    }

    fn text(&self, item: &str, column: &str) -> &str {
        self.row(item)[column].as_str().unwrap()
    }

    fn assert(&self, item: &str, status: &str, column: &str, part: &str) {
        let row = self.row(item);
        assert_eq!(row["status"], status, "{row:#}");
        assert!(self.text(item, column).contains(part), "no {part:?} in {row:#}");
    }
}

fn doctor(namespace: &Namespace) -> Command {
    let mut command = namespace.enter(daemon().to_str().unwrap());
    command.arg("doctor");
    command
}

/// The value that a line `name: value` of an ethtool answer has.
fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

#[test]
fn where_the_doctor_is_content_the_probe_runs() {
    let network = Network::new();
    let router = &network.router;
    let diagnosis = Diagnosis::on(router, CAPTURED);
    assert!(diagnosis.is_fit);
    for item in ["kernel", "preemption", "CAP_BPF", "CAP_NET_ADMIN", "bpf() system call", "kernel program"] {
        assert_eq!(diagnosis.row(item)["status"], "ok", "{item}");
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(diagnosis.text("kernel", "found"), release.trim());

    // The table says the same.
    let table = output(doctor(router).args(["--interface", CAPTURED]));
    for row in &diagnosis.rows {
        assert!(table.contains(row["item"].as_str().unwrap()), "{row:#} in {table}");
    }
    assert!(table.contains("pathflow run would work here"), "{table}");
    ProbeBuilder::new(router).json().start().terminate().report.assert_complete();
}

#[test]
fn what_ethtool_says_the_doctor_says() {
    let network = Network::new();
    let router = &network.router;
    // Two queues of four.
    let create = ["link", "add", "veth-queues", "numrxqueues", "4", "numtxqueues", "4", "type", "veth"];
    let peer = ["peer", "name", "veth-peer", "numrxqueues", "4", "numtxqueues", "4"];
    output(router.command("ip").args(create).args(peer));
    output(router.command("ethtool").args(["-L", "veth-queues", "rx", "2"]));
    // The driver refuses XDP where the peer has more queues to send than there are to receive.
    Diagnosis::on(router, "veth-queues").assert("driver", "warn", "found", "no native XDP");
    output(router.command("ethtool").args(["-L", "veth-peer", "tx", "2"]));
    for interface in [CAPTURED, "veth-queues"] {
        let ethtool = |question: &str| output(router.command("ethtool").args([question, interface]));
        let diagnosis = Diagnosis::on(router, interface);
        assert!(diagnosis.is_fit);
        let (channels, driver) = (ethtool("-l"), ethtool("-i"));
        let (limits, current) = channels.split_once("Current hardware settings:").unwrap();
        let queues = format!("{} of {}", value(current, "RX"), value(limits, "RX"));
        assert_eq!(diagnosis.text("receive queues", "found"), queues, "{channels}");
        diagnosis.assert("driver", "ok", "found", &format!("{}, native XDP", value(&driver, "driver")));
        diagnosis.assert("merging of packets", "ok", "found", "none on");
        let features = ethtool("-k");
        assert!(value(&features, "large-receive-offload").starts_with("off"), "{features}");
        assert!(value(&features, "rx-gro-hw").starts_with("off"), "{features}");
    }
    assert_eq!(Diagnosis::on(router, "veth-queues").text("receive queues", "found"), "2 of 4");

    for state in ["off", "on"] {
        output(router.command("ethtool").args(["-K", CAPTURED, "rxvlan", state]));
        let features = output(router.command("ethtool").args(["-k", CAPTURED]));
        assert_eq!(value(&features, "rx-vlan-offload"), state);
        assert_eq!(router.run(|| ethtool::vlan_stripping(CAPTURED)).unwrap(), state == "on");
        let diagnosis = Diagnosis::on(router, CAPTURED);
        let status = if state == "on" { "warn" } else { "ok" };
        diagnosis.assert("rx-vlan-offload", status, "found", state);
    }
    // And its remedy is one.
    let diagnosis = Diagnosis::on(router, CAPTURED);
    let remedy: Vec<&str> = diagnosis.text("rx-vlan-offload", "remedy").split(' ').collect();
    output(router.command(remedy[0]).args(&remedy[1..]));
    Diagnosis::on(router, CAPTURED).assert("rx-vlan-offload", "ok", "found", "off");
    assert_eq!(router.run(|| ethtool::merges_packets(CAPTURED)).unwrap(), <[&str; 0]>::default());
}

#[test]
fn rings_and_every_feature_are_those_of_ethtool() {
    let network = Network::new();
    let router = &network.router;
    let text = output(router.command("ethtool").args(["-k", CAPTURED]));
    let features = router.run(|| ethtool::features(CAPTURED)).unwrap();
    let mut compared = 0;
    for line in text.lines().filter(|line| line.contains(": ")) {
        let (name, state) = line.trim().split_once(": ").unwrap();
        // Names that ethtool has made up, for groups and from older days, are not the kernel's.
        if !(name.starts_with("rx-gro") || name.starts_with("tx-checksum-") || name.starts_with("tx-tcp")) {
            continue;
        }
        assert_eq!(features.is_on(name), state.starts_with("on"), "{line}");
        assert_eq!(features.is_changeable(name), !state.contains("[fixed]"), "{line}");
        compared += 1;
    }
    assert!(compared > 5, "{text}");
    // A veth pair has no rings.
    let error = router.run(|| ethtool::receive_ring(CAPTURED)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(
        !tool("nsenter")
            .arg(format!("--net=/run/netns/{}", router.name()))
            .args(["ethtool", "-g", CAPTURED])
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn the_mtu_and_native_xdp_are_those_of_the_interface() {
    let network = Network::new();
    let router = &network.router;
    output(router.command("ip").args(["link", "set", CAPTURED, "mtu", "9000"]));
    let diagnosis = Diagnosis::on(router, CAPTURED);
    assert_eq!(diagnosis.text("MTU", "found"), "9000");
    let index = router.link(CAPTURED)["ifindex"].as_u64().unwrap() as u32;
    let features = router.run(|| xdp_features(index)).unwrap();
    assert!(features.is_none_or(|features| features.has(XdpFeatures::BASIC | XdpFeatures::REDIRECT)));

    output(router.command("ip").args(["link", "set", CAPTURED, "down"]));
    Diagnosis::on(router, CAPTURED).assert("interface", "warn", "remedy", "ip link set veth-in up");
    // The loopback interface has no driver at all.
    let diagnosis = Diagnosis::on(router, "lo");
    diagnosis.assert("driver", "warn", "consequence", "tc at ingress");
}

#[test]
fn missing_capabilities_are_named() {
    let network = Network::new();
    for (removed, named, present) in [
        ("-bpf,-sys_admin", "CAP_BPF", "CAP_NET_ADMIN"),
        ("-perfmon,-sys_admin", "CAP_PERFMON", "CAP_BPF"),
        ("-net_admin", "CAP_NET_ADMIN", "CAP_PERFMON"),
    ] {
        let mut command = network.router.command("setpriv");
        command.args(["--bounding-set", removed, "--inh-caps", "-all"]).arg(daemon());
        let diagnosis = Diagnosis::of(command.args(["doctor", "--interface", CAPTURED]));
        assert!(!diagnosis.is_fit);
        diagnosis.assert(named, "fail", "remedy", named);
        diagnosis.assert(present, "ok", "found", "effective");
        // Not taken for anything else.
        diagnosis.assert("preemption", "ok", "found", "not PREEMPT_RT");
        diagnosis.assert("BPF features", "warn", "found", "not tried");
    }
}

#[test]
fn ports_that_routers_cannot_connect_to_are_named() {
    let network = Network::new();
    let router = &network.router;
    let directory = TempDir::new();
    let configuration = directory.file("probe.toml");
    let text = "[bgp]\nlisten = [\"127.0.0.1:179\"]\n[[bgp.peer]]\naddress = \"127.0.0.1\"\n\
                [bmp]\nlisten = \"127.0.0.1:1790\"\nrouters = [\"127.0.0.1\"]\n";
    fs::write(&configuration, text).unwrap();
    let arguments = ["--interface", CAPTURED, "--config", configuration.to_str().unwrap()];
    let diagnosis = Diagnosis::of(doctor(router).args(arguments));
    assert!(diagnosis.is_fit, "{diagnosis:#?}");
    diagnosis.assert("BGP port", "ok", "found", "127.0.0.1:179");
    diagnosis.assert("BMP port", "ok", "found", "127.0.0.1:1790");

    let taken = router.run(|| TcpListener::bind("127.0.0.1:1790").unwrap());
    let mut command = router.command("setpriv");
    command.args(["--bounding-set", "-net_bind_service", "--inh-caps", "-all"]).arg(daemon());
    let diagnosis = Diagnosis::of(command.arg("doctor").args(arguments));
    diagnosis.assert("BGP port", "fail", "found", "CAP_NET_BIND_SERVICE is missing");
    diagnosis.assert("BMP port", "fail", "remedy", "ss -ltnp sport = :1790");
    // The command finds who it is.
    let holder = output(router.command("ss").args(["-ltnp", "sport", "=", ":1790"]));
    assert!(holder.contains(&format!("pid={}", std::process::id())), "{holder}");
    drop(taken);
}

#[test]
fn capabilities_of_a_user_namespace_are_not_taken_for_real_ones() {
    let network = Network::new();
    let container = |arguments: &[&str]| {
        let mut command = network.router.command("unshare");
        command.args(["--user", "--map-root-user"]).arg(daemon()).args(arguments);
        command
    };
    let diagnosis = Diagnosis::of(&mut container(&["doctor", "--interface", CAPTURED]));
    assert!(!diagnosis.is_fit);
    diagnosis.assert("CAP_BPF", "ok", "found", "effective");
    diagnosis.assert("user namespace", "warn", "found", "another one");
    diagnosis.assert("bpf() system call", "fail", "consequence", "user namespace");

    let message = refusal(&mut container(&["run", "--interface", CAPTURED, "--json"]));
    assert!(message.contains("user namespace"), "{message}");
}

#[test]
fn a_program_that_is_attached_is_named_and_stays() {
    let network = Network::new();
    let router = &network.router;
    let directory = TempDir::new();
    let file = directory.file("foreign.o");
    write_program(&file, "foreign_xdp");
    output(
        router
            .command("ip")
            .args(["link", "set", "dev", CAPTURED, "xdpdrv", "object"])
            .arg(&file)
            .args(["section", "xdp"]),
    );
    let attached = router.link(CAPTURED)["xdp"].clone();
    let id = attached["prog"]["id"].to_string();
    let text = output(tool("bpftool").args(["--json", "prog", "show", "id", &id]));
    let program: Value = serde_json::from_str(&text).unwrap();
    let diagnosis = Diagnosis::on(router, CAPTURED);
    for part in ["foreign_xdp", &format!("id {id}"), program["tag"].as_str().unwrap(), "native"] {
        diagnosis.assert("XDP program present", "warn", "found", part);
    }
    assert_eq!(router.link(CAPTURED)["xdp"], attached);

    // pathflow's own is told apart.
    output(router.command("ip").args(["link", "set", "dev", CAPTURED, "xdpdrv", "off"]));
    let probe = ProbeBuilder::new(router).json().start();
    Diagnosis::on(router, CAPTURED).assert("XDP program present", "warn", "remedy", "pathflow detach");
    probe.terminate();
    Diagnosis::on(router, CAPTURED).assert("XDP program present", "ok", "found", "none");
}

#[test]
fn nothing_is_changed() {
    let network = Network::new();
    let router = &network.router;
    let state = || {
        let mut link = router.link(CAPTURED);
        link.as_object_mut().unwrap().remove("stats64");
        let features = output(router.command("ethtool").args(["-k", CAPTURED]));
        let filters = output(router.command("bpftool").args(["--json", "net", "show"]));
        (link, features, filters)
    };
    let before = state();
    assert!(Diagnosis::on(router, CAPTURED).is_fit);
    assert_eq!(state(), before);
}

#[test]
fn the_configuration_file_says_what_is_looked_at() {
    let network = Network::new();
    let router = &network.router;
    let directory = TempDir::new();
    let file = directory.file("pathflow.toml");
    fs::write(&file, format!("[capture]\ninterfaces = [\"{CAPTURED}\"]\nipv4_slots = 64\n")).unwrap();
    let diagnosis = Diagnosis::of(doctor(router).arg("--config").arg(&file));
    assert!(diagnosis.is_fit);
    assert_eq!(diagnosis.row("interface")["interface"], CAPTURED);
    let smaller = Diagnosis::on(router, CAPTURED);
    assert_ne!(diagnosis.text("memory", "wanted"), smaller.text("memory", "wanted"));

    // Without an interface, run would not start.
    let diagnosis = Diagnosis::of(&mut doctor(router));
    diagnosis.assert("interfaces", "fail", "remedy", "--interface");
    let diagnosis = Diagnosis::on(router, "veth-none");
    diagnosis.assert("interface", "fail", "found", "no such interface");

    fs::write(&file, "[capture]\ninterfases = []\n").unwrap();
    let message = refusal(doctor(router).arg("--config").arg(&file));
    assert!(message.contains("interfases"), "{message}");
}
