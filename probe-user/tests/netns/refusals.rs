//! What the daemon cannot do, it says in one line, and changes nothing.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::write::{Object, StandardSegment, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

use super::support::namespace::Namespace;
use super::support::network::{CAPTURED, Network};
use super::support::probe::{ProbeBuilder, daemon, refusal};
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::Traffic;

/// `pathflow run` in `namespace`.
fn run(namespace: &Namespace, arguments: &[&str]) -> Command {
    let mut command = namespace.enter(daemon().to_str().unwrap());
    command.arg("run").args(arguments);
    command
}

fn check(file: &Path) -> Command {
    let mut command = Command::new(daemon());
    command.arg("check").arg(file);
    command
}

fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

/// An object file with one XDP program that passes everything.
pub(crate) fn write_program(path: &Path, name: &str) {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::default());
    let text = object.segment_name(StandardSegment::Text).to_vec();
    let section = object.add_section(text.clone(), b"xdp".to_vec(), SectionKind::Text);
    // `r0 = XDP_PASS; exit`
    let instructions = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    object.append_section_data(section, &instructions, 8);
    object.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size: instructions.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    fs::write(path, object.write().unwrap()).unwrap();
}

#[test]
fn an_interface_that_is_missing_or_not_named_is_refused() {
    let network = Network::new();
    let message = refusal(&mut run(&network.router, &["--interface", "veth-none"]));
    assert_contains(&message, &["veth-none", "no such interface"]);
    // The first one exists: it must not stay attached.
    let message = refusal(&mut run(&network.router, &["--interface", "veth-in,veth-none"]));
    assert_contains(&message, &["veth-none"]);
    assert_eq!(network.router.xdp_program(CAPTURED), None);

    // A pattern that matches nothing says so, unless something else was found.
    let message = refusal(&mut run(&network.router, &["--interface", "ppp*,!ppp9"]));
    assert_contains(&message, &["no interface matches ppp*, !ppp9", "wait_for_interfaces"]);
    let message = refusal(&mut run(&network.router, &["--interface", "veth-in,!veth-in"]));
    assert_contains(&message, &["no interface matches veth-in, !veth-in"]);
    let message = refusal(&mut run(&network.router, &["--interface", "!veth-in"]));
    assert_contains(&message, &["--interface", "!veth-in", "only says what not to capture"]);

    let message = refusal(&mut run(&network.router, &["--json"]));
    assert_contains(&message, &["no interface", "--interface", "capture.interfaces"]);
    let message = refusal(&mut run(&network.router, &["--interface", "veth-in,veth-in"]));
    assert_contains(&message, &["veth-in", "twice"]);
}

#[test]
fn a_second_daemon_on_the_same_interface_is_refused_and_the_first_goes_on() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).json().start();
    let attached = network.router.link(CAPTURED)["xdp"].clone();
    let message = refusal(&mut run(&network.router, &["--interface", CAPTURED, "--json", "--listen", ""]));
    assert_contains(&message, &[CAPTURED, "XDP program pathflow", "attached already"]);
    assert_eq!(network.router.link(CAPTURED)["xdp"], attached);

    let traffic = Traffic::default();
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, traffic.packets);
}

#[test]
fn a_missing_capability_is_named() {
    let network = Network::new();
    for (removed, named) in [
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-perfmon,-sys_admin", "CAP_PERFMON"),
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-all", "CAP_BPF"),
    ] {
        let mut command = network.router.command("setpriv");
        command.args(["--bounding-set", removed, "--inh-caps", "-all"]).arg(daemon());
        let message = refusal(command.args(["run", "--interface", CAPTURED, "--json"]));
        assert_contains(&message, &["missing capability", named]);
    }
    assert_eq!(network.router.xdp_program(CAPTURED), None);
}

#[test]
fn an_address_of_the_metrics_page_that_is_in_use_is_named() {
    let network = Network::new();
    let listener = network.router.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap().to_string();
    let message =
        refusal(&mut run(&network.router, &["--interface", CAPTURED, "--json", "--listen", &address]));
    assert_contains(&message, &["http.listen", &address, "in use"]);
    assert_eq!(network.router.xdp_program(CAPTURED), None);
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_flag() {
    let network = Network::new();
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--drain-interval", "10ms"], &["--drain-interval", "10ms", "100ms to 5s"]),
        (&["--collector", "192.0.2.2"], &["--collector", "192.0.2.2", "HOST:PORT"]),
        (&["--collector", "203.0.113.1:4739"], &["203.0.113.1:4739", "unreachable"]),
        (&["--listen", "127.0.0.1:port"], &["--listen", "127.0.0.1:port"]),
        (&["--idle-timeout", "0s"], &["--idle-timeout", "0s"]),
    ];
    for (arguments, parts) in cases {
        let message = refusal(run(&network.router, &["--interface", CAPTURED]).args(arguments));
        assert_contains(&message, parts);
    }
}

#[test]
fn a_flag_that_does_not_exist_or_cannot_be_read_is_named() {
    let network = Network::new();
    for (arguments, part) in
        [(["--no-such-flag", "1"], "--no-such-flag"), (["--idle-timeout", "soon"], "--idle-timeout")]
    {
        assert_contains(&refusal(&mut run(&network.router, &arguments)), &[part]);
    }
}

#[test]
fn the_example_file_is_right_and_faults_of_a_file_are_named_with_their_place() {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pathflow.example.toml");
    assert_contains(&output(&mut check(&example)), &["right"]);

    let directory = TempDir::new();
    let file = directory.file("faulty.toml");
    for (text, place, parts) in [
        ("[capture]\ninterfases = []\n", ":2:1: ", &["interfases", "did you mean \"interfaces\""][..]),
        ("[flow]\nidle_timeout = \"1s\"\n  max_flow = 5\n", ":3:3: ", &["max_flow", "\"max_flows\""]),
        ("[capture]\nipv4_slots = \"many\"\n", ":2:14: ", &["invalid type"]),
        ("[capture\n", ":1:9: ", &[]),
        ("[flow]\nactive_timeout = \"soon\"\n", ":2:18: ", &["soon"]),
        ("[capture]\nipv4_slots = 1000\n", ":2:1: ", &["capture.ipv4_slots", "1000", "power of two"]),
        ("[export]\nformat = \"netflow-v7\"\n", ":2:10: ", &["netflow-v7"]),
    ] {
        fs::write(&file, text).unwrap();
        let message = refusal(&mut check(&file));
        assert_contains(&message, parts);
        assert_contains(&message, &[&format!("{}{place}", file.display())]);
        // The same words when the daemon is to run with it.
        let mut command = Command::new(daemon());
        assert_contains(&refusal(command.args(["run", "--config"]).arg(&file)), parts);
    }

    let missing = directory.file("missing.toml");
    assert_contains(&refusal(&mut check(&missing)), &["missing.toml", "No such file"]);
}
