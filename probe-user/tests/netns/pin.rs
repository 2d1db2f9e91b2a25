//! Pinned capture: restarts, crashes and upgrades under traffic, of which every packet has to be somewhere.

mod link_layer;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::refusals::write_program;
use super::reload::reload;
use super::support::json;
use super::support::metrics::Metrics;
use super::support::namespace::Namespace;
use super::support::network::{CAPTURED, COLLECTOR_IPV4, EXPORTING, Network, SENDER_ADDRESS};
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Ended, Probe, ProbeBuilder, daemon, refusal};
use super::support::temp_dir::TempDir;
use super::support::tool::{output, tool};
use super::support::traffic::Traffic;
use super::support::wait_for;

/// A network whose pins are gone when the test is.
struct Pinned(Network);

impl Pinned {
    fn new() -> Self {
        Self(Network::new())
    }

    fn router(&self) -> &Namespace {
        &self.0.router
    }

    /// Where pins of the router are.
    fn directory(&self) -> PathBuf {
        let namespace = format!("/run/netns/{}", self.router().name());
        PathBuf::from("/sys/fs/bpf/pathflow").join(fs::metadata(namespace).unwrap().ino().to_string())
    }

    /// Directories of runs.
    fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with("links")).collect()
    }

    /// Names of pinned links.
    fn links(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory().join("links")).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn detach(&self) -> Command {
        let mut command = self.router().enter(daemon().to_str().unwrap());
        command.arg("detach");
        command
    }

    /// JSON output, records soon.
    fn probe(&self, capture: &str) -> Probe<'_> {
        pinned(ProbeBuilder::new(self.router()).json().argument("--idle-timeout", "300ms"), capture)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A test that has failed leaves pins behind, which would outlive the namespace.
        _ = self.detach().output();
    }
}

/// Starts with `capture.pin` and more keys.
fn pinned<'a>(builder: ProbeBuilder<'a>, capture: &str) -> Probe<'a> {
    builder.configuration(&format!("[capture]\npin = true\n{capture}")).start()
}

fn kill(mut probe: Probe<'_>) {
    probe.process().signal(Signal::KILL);
    probe.process().wait();
}

fn ip(namespace: &Namespace, words: &str) {
    output(namespace.command("ip").args(words.split(' ')));
}

fn send(network: &Network, packets: u64) {
    Traffic { packets, ..Traffic::default() }.send(&network.sender);
}

fn lost(metrics: &Metrics) -> (u64, u64, u64) {
    (
        metrics.total("pathflow_crash_lost_packets_total"),
        metrics.total("pathflow_crash_lost_octets_total"),
        metrics.total("pathflow_crash_doubtful_packets_total"),
    )
}

/// Packets in records of standard output.
fn recorded(ended: &Ended) -> u64 {
    json::sum(&json::flows(&ended.output), "packet_delta_count")
}

#[test]
fn after_a_stop_the_kernel_goes_on_counting_and_the_next_run_exports_it() {
    let pinned = Pinned::new();
    let probe = pinned.probe("");
    send(&pinned.0, 1000);
    let first = probe.terminate();
    first.report.assert_complete();
    assert_eq!(first.report.received().packets, 1000);
    let text = first.report.text();
    assert!(text.contains("the kernel goes on counting") && text.contains("pathflow detach"), "{text}");
    assert!(pinned.router().xdp_program(CAPTURED).is_some_and(|name| name.starts_with("pathflow")));
    let mode = fs::metadata(pinned.directory()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    // Nobody is there.
    send(&pinned.0, 700);
    let probe = pinned.probe("");
    // What was pinned before is gone, and there is one run again.
    assert_eq!(pinned.runs().len(), 1);
    send(&pinned.0, 50);
    let second = probe.terminate();
    second.report.assert_complete();
    assert_eq!(second.report.received().packets, 750);
    assert_eq!((recorded(&first), recorded(&second)), (1000, 750));
    let text = second.report.text();
    assert!(text.contains("going on where the last run ended: 700 packets"), "{text}");
    assert!(!text.contains("killed"), "{text}");

    // The same flows on the same interface: they are not told from those of this run.
    let flows = json::flows(&second.output);
    assert!(flows.iter().all(|flow| flow["ingress_interface_name"] == CAPTURED), "{flows:?}");

    send(&pinned.0, 20);
    let text = output(&mut pinned.detach());
    assert!(text.contains("veth-in") && text.contains("detached from XDP native mode"), "{text}");
    assert!(text.contains("tables removed, with 20 packets (1000 octets)"), "{text}");
    wait_until_detached(pinned.router(), CAPTURED);
    assert!(!pinned.directory().exists());
    assert_eq!(output(&mut pinned.detach()), "nothing was attached or pinned here\n");
}

#[test]
fn what_a_killed_run_had_drained_is_counted_as_lost_to_the_packet() {
    let pinned = Pinned::new();
    let start = |idle_timeout| {
        let builder = ProbeBuilder::new(pinned.router()).json().argument("--idle-timeout", idle_timeout);
        super::pin::pinned(builder, "")
    };
    // Exported all: nothing is lost.
    let probe = start("300ms");
    send(&pinned.0, 1000);
    probe.wait_until("records", |metrics| metrics.total("pathflow_exported_packets_total") == 1000);
    kill(probe);
    send(&pinned.0, 300);
    // Drained all, exported none.
    let probe = start("60s");
    let metrics = probe.wait_until("drained", |metrics| metrics.total("pathflow_flow_cache_packets") == 300);
    assert_eq!(lost(&metrics), (0, 0, 0));
    kill(probe);
    send(&pinned.0, 20);
    // Lost: what was in the cache, adopted from the run before.
    let probe = start("60s");
    let metrics = probe.wait_until("drained", |metrics| metrics.total("pathflow_flow_cache_packets") == 20);
    assert_eq!(lost(&metrics), (300, 300 * 50, 0));
    send(&pinned.0, 4);
    probe.wait_until("drained", |metrics| metrics.total("pathflow_flow_cache_packets") == 24);
    kill(probe);
    // Losses add up over runs.
    let probe = start("300ms");
    assert_eq!(lost(&probe.metrics()), (324, 324 * 50, 0));
    send(&pinned.0, 7);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 7);
    let text = ended.report.text();
    let line = "24 packets (1200 octets) drained but not exported to json stdout are lost";
    assert!(text.contains(line), "{text}");
    assert_eq!(ended.report.figure("json stdout: lost with runs that were killed").packets, 324);
    // A run that ended in order leaves no more than was lost before.
    let probe = start("300ms");
    assert_eq!(lost(&probe.metrics()).0, 324);
    assert!(!probe.terminate().report.text().contains("killed:"));
}

/// Exports that begin and end by SIGHUP have lost with a killed run what they had got and not sent, and no more.
#[test]
fn what_a_killed_run_lost_is_known_of_exports_that_changed() {
    let pinned = Pinned::new();
    let [first, second] = [4739, 2055].map(|port| SocketAddr::new(COLLECTOR_IPV4.ip(), port));
    let _collectors =
        [first, second].map(|address| pinned.0.collector.run(|| UdpSocket::bind(address).unwrap()));
    let with = |collector: SocketAddr, more: &str| {
        format!(
            "[capture]\npin = true\n[flow]\nidle_timeout = \"300ms\"\n[export]\nstdout = \"none\"\n\
             collectors = [\"{collector}\"]\n{more}"
        )
    };
    let exported = |probe: &Probe<'_>, packets: u64| {
        probe.wait_until("records", |metrics| metrics.total("pathflow_exported_packets_total") == packets);
    };
    let probe = ProbeBuilder::new(pinned.router()).configuration(&with(first, "")).start();
    send(&pinned.0, 1000);
    exported(&probe, 1000);
    reload(&probe, &with(second, ""));
    send(&pinned.0, 200);
    exported(&probe, 1200);
    reload(&probe, &with(second, "observation_domain_id = 7\n"));
    send(&pinned.0, 30);
    exported(&probe, 1230);
    // Nobody listens there: records wait.
    reload(&probe, &with(first, "transport = \"tcp\"\n"));
    send(&pinned.0, 4);
    probe.wait_until("records wait", |metrics| metrics.total("pathflow_export_queued_packets") == 4);
    kill(probe);
    let probe = ProbeBuilder::new(pinned.router()).configuration(&with(second, "")).start();
    let metrics = probe.metrics();
    assert_eq!(lost(&metrics), (4, 4 * 50, 0), "{}", probe.errors());
    let of_first = [("destination", "192.0.2.2:4739")];
    assert_eq!(metrics.sum("pathflow_crash_lost_packets_total", &of_first), 4);
    probe.terminate().report.assert_balanced();
}

/// Sends `traffic`, again and again as long as `lives` come and go, however long that takes; afterwards, all
/// of it is in the collector or lost by name.
fn assert_conserved(pinned: &Pinned, traffic: Traffic, lives: impl FnOnce()) {
    let network = &pinned.0;
    let nfcapd = Nfcapd::start(network, COLLECTOR_IPV4);
    let start = || {
        let builder = ProbeBuilder::new(pinned.router())
            .collector(COLLECTOR_IPV4, "ipfix")
            .argument("--active-timeout", "300ms")
            .argument("--idle-timeout", "300ms");
        super::pin::pinned(builder, "")
    };
    kill(start());
    let over = AtomicBool::new(false);
    let rounds = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut rounds = 0;
            while rounds == 0 || !over.load(Ordering::Relaxed) {
                traffic.send(&network.sender);
                rounds += 1;
            }
            rounds
        });
        // A failure in there has to end the traffic, too.
        let lived = panic::catch_unwind(AssertUnwindSafe(lives));
        over.store(true, Ordering::Relaxed);
        let rounds = sending.join().unwrap();
        lived.unwrap_or_else(|failure| panic::resume_unwind(failure));
        rounds
    });
    let sent = traffic.packets * rounds;
    let probe = start();
    let (packets, octets, doubtful) = lost(&probe.metrics());
    let ended = probe.terminate();
    ended.report.assert_complete();
    let collected = nfcapd.stop(network);
    assert!(
        (sent..=sent + doubtful).contains(&(collected.packets() + packets)),
        "collected {}, lost {packets} ({doubtful} perhaps not), sent {}: {}",
        collected.packets(),
        sent,
        ended.report.text()
    );
    let each = traffic.octets() / traffic.packets;
    assert!((collected.octets() + octets - sent * each) <= doubtful * each);
    assert!(collected.packets() > 0);
}

#[test]
fn kills_in_mid_traffic_lose_nothing_without_a_name() {
    let pinned = Pinned::new();
    let traffic = Traffic { packets: 100_000, flows: 3000, rate: Some(60_000), ..Traffic::default() };
    assert_conserved(&pinned, traffic, || {
        for _ in 0..4 {
            let builder = ProbeBuilder::new(pinned.router())
                .collector(COLLECTOR_IPV4, "ipfix")
                .argument("--active-timeout", "300ms");
            let probe = super::pin::pinned(builder, "");
            probe.wait_until("records", |metrics| metrics.total("pathflow_exported_records_total") > 3000);
            kill(probe);
        }
    });
}

#[test]
fn kills_at_any_moment_of_a_start_lose_nothing_without_a_name() {
    let pinned = Pinned::new();
    let traffic = Traffic { packets: 100_000, flows: 1000, rate: Some(40_000), ..Traffic::default() };
    let directory = TempDir::new();
    let configuration = directory.file("pathflow.toml");
    fs::write(&configuration, "[capture]\npin = true\ndrain_interval = \"100ms\"\n").unwrap();
    assert_conserved(&pinned, traffic, || {
        let mut random = 4711_u64;
        for _ in 0..20 {
            let mut command = pinned.router().enter(daemon().to_str().unwrap());
            command.args(["run", "--listen", "", "--interface", CAPTURED, "--active-timeout", "200ms"]);
            command.args(["--collector", &COLLECTOR_IPV4.to_string(), "--format", "ipfix", "--config"]);
            let mut child = command
                .arg(&configuration)
                .stderr(fs::File::create(directory.file("log")).unwrap())
                .spawn()
                .unwrap();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            thread::sleep(Duration::from_millis(20 + (random >> 33) % 400));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
}

#[test]
fn an_upgrade_with_other_sizes_and_another_filter_under_traffic_loses_nothing() {
    let pinned = Pinned::new();
    let network = &pinned.0;
    let nfcapd = Nfcapd::start(network, COLLECTOR_IPV4);
    let start = |capture: &str| {
        let builder = ProbeBuilder::new(pinned.router()).collector(COLLECTOR_IPV4, "ipfix");
        super::pin::pinned(builder.argument("--active-timeout", "300ms"), capture)
    };
    let probe = start("ipv4_slots = 1024\nspill_slots = 64\n");
    let traffic = Traffic { packets: 200_000, flows: 300, rate: Some(60_000), ..Traffic::default() };
    let mut received = 0;
    thread::scope(|scope| {
        let sending = scope.spawn(|| traffic.send(&network.sender));
        let mut probe = probe;
        for capture in [
            "ipv4_slots = 65536\nipv6_slots = 64\n",
            "filter = \"udp or tcp\"\n",
            "tunnels = \"inner\"\nipv4_slots = 4096\nfilter = \"ip\"\n",
        ] {
            thread::sleep(Duration::from_millis(300));
            let ended = probe.terminate();
            ended.report.assert_balanced();
            assert_eq!(ended.report.lost(), ended.report.dropped());
            received += ended.report.received().packets;
            thread::sleep(Duration::from_millis(200));
            probe = start(capture);
        }
        sending.join().unwrap();
        let ended = probe.terminate();
        ended.report.assert_complete();
        received += ended.report.received().packets;
    });
    let collected = nfcapd.stop(network);
    assert_eq!(received, traffic.packets);
    assert_eq!((collected.packets(), collected.octets()), (traffic.packets, traffic.octets()));
}

/// The number of a filter means another one in the next run.
#[test]
fn filters_of_one_run_say_nothing_in_the_next() {
    let pinned = Pinned::new();
    let nfcapd = Nfcapd::start(&pinned.0, COLLECTOR_IPV4);
    let start = |filter: &str| {
        let builder = ProbeBuilder::new(pinned.router()).json().argument("--idle-timeout", "300ms");
        let export = format!("[export]\ncollectors = [\"{COLLECTOR_IPV4}\"]\nfilter = \"{filter}\"\n");
        super::pin::pinned(builder, &export)
    };
    let packets = |ended: &Ended| json::sum(&json::flows(&ended.output), "packet_delta_count");
    let received = |probe: &Probe<'_>, packets: u64| {
        probe.wait_until("packets are received", |metrics| {
            metrics.total("pathflow_received_packets_total") == packets
        });
    };
    // Counted by the kernel alone, as packets that the first filter matches.
    kill(start("udp"));
    send(&pinned.0, 200);
    let probe = start("tcp");
    received(&probe, 200);
    assert_eq!(packets(&probe.terminate()), 200);
    send(&pinned.0, 30);
    let probe = start("udp");
    received(&probe, 30);
    send(&pinned.0, 50);
    received(&probe, 80);
    assert_eq!(packets(&probe.terminate()), 80);
    assert_eq!(nfcapd.stop(&pinned.0).packets(), 50);
}

#[test]
fn links_of_both_directions_are_taken_over_and_an_unwanted_one_is_detached() {
    let pinned = Pinned::new();
    let router = pinned.router();
    // Nobody answers that there is no such port.
    let _receiver = pinned.0.sender.run(|| UdpSocket::bind((SENDER_ADDRESS, 9)).unwrap());
    let send_out = |packets: usize| {
        router.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for _ in 0..packets {
                socket.send_to(b"out", (SENDER_ADDRESS, 9)).unwrap();
            }
        });
    };
    let both = "direction = \"both\"\n";
    let of = |ended: &Ended, direction: &str| {
        let mut flows = json::flows(&ended.output);
        flows.retain(|flow| flow["flow_direction"] == direction);
        json::sum(&flows, "packet_delta_count")
    };
    let index = router.link(CAPTURED)["ifindex"].clone();
    kill(pinned.probe(both));
    assert_eq!(pinned.links(), [format!("{index}_out"), format!("{index}_xdp")]);
    send(&pinned.0, 200);
    send_out(30);
    let probe = pinned.probe(both);
    send_out(4);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!((of(&ended, "ingress"), of(&ended, "egress")), (200, 34));

    // Counted at tc from now on: the first run to do so says what happens in between.
    let ended = pinned.probe("direction = \"ingress\"\nhook = \"tc\"\n").terminate();
    assert!(ended.report.text().contains("packets in between are not counted"), "{}", ended.report.text());
    assert_eq!(pinned.links(), [format!("{index}_in")]);
    send_out(9);
    // Without a hook asked for, the one that counts is kept.
    output(router.command("ethtool").args(["-K", CAPTURED, "gro", "on"]));
    send(&pinned.0, 10);
    let ended = pinned.probe("").terminate();
    assert_eq!((of(&ended, "ingress"), of(&ended, "egress")), (10, 0), "{}", ended.report.text());
    assert_eq!(pinned.links(), [format!("{index}_in")]);
}

#[test]
fn interfaces_change_while_nobody_is_there() {
    let pinned = Pinned::new();
    let (network, router) = (&pinned.0, pinned.router());
    network.add_captured_link("veth-send2", "veth-in2");
    network.add_captured_link("veth-send3", "veth-in3");
    let interfaces = "wait_for_interfaces = true\ninterfaces = [\"veth-in*\", \"renamed\"]\n";
    let start = || {
        let builder = ProbeBuilder::configured(router).json().argument("--idle-timeout", "300ms");
        super::pin::pinned(builder, interfaces)
    };
    start().terminate().report.assert_complete();
    let send = |interface: &'static str, packets: u64| {
        Traffic { packets, interface, ..Traffic::default() }.send(&network.sender);
    };
    send("veth-send", 100);
    send("veth-send2", 20);
    send("veth-send3", 3);
    ip(router, "link delete veth-in2");
    ip(router, "link delete veth-in3");
    network.add_captured_link("veth-send3", "veth-in3");
    ip(router, "link set veth-in down");
    ip(router, "link set veth-in name renamed");
    ip(router, "link set renamed up");
    let probe = start();
    send("veth-send", 1000);
    send("veth-send3", 400);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 1523, "{}", ended.report.text());
    let flows = json::flows(&ended.output);
    let of = |name: &str| {
        let mut flows = flows.clone();
        flows.retain(|flow| flow["ingress_interface_name"] == name);
        json::sum(&flows, "packet_delta_count")
    };
    assert_eq!((of("renamed"), of("veth-in2"), of("veth-in3")), (1100, 20, 403));
    assert_eq!(pinned.links().len(), 2);
    assert!(router.xdp_program("veth-in3").is_some());
}

#[test]
fn tables_that_overflow_while_nobody_is_there_count_what_found_no_room() {
    let pinned = Pinned::new();
    let small = "ipv4_slots = 64\nipv6_slots = 64\nspill_slots = 64\n";
    pinned.probe(small).terminate().report.assert_complete();
    let traffic = Traffic { packets: 10_000, flows: 2000, ..Traffic::default() };
    traffic.send(&pinned.0.sender);
    let ended = pinned.probe("").terminate();
    ended.report.assert_balanced();
    let report = &ended.report;
    assert_eq!((report.received().packets, report.received().octets), (10_000, traffic.octets()));
    let overflow = report.figure("not in a flow: table_overflow").packets;
    assert_eq!(report.dropped().packets, overflow);
    assert!(
        (64..=128).contains(&report.figure("of these by way of a spill log").packets),
        "{}",
        report.text()
    );
    assert!(overflow > 5000, "{}", report.text());
    assert_eq!(recorded(&ended), 10_000 - overflow);
}

#[test]
fn tables_of_another_layout_are_refused_until_they_are_given_up() {
    let pinned = Pinned::new();
    pinned.probe("").terminate();
    send(&pinned.0, 5);
    let run = pinned.runs().remove(0);
    let mut command = tool("bpftool");
    command.args(["map", "update", "pinned"]).arg(run.join("descriptor"));
    output(command.args("key 0 0 0 0 value 1 2 3 4 5 6 7 8".split(' ')));
    let message = refusal(&mut start(&pinned, "pin = true\n"));
    for part in [run.to_str().unwrap(), "another layout", "0x0807060504030201", "pathflow detach"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    // A run that pins nothing must not leave it behind unseen either.
    assert!(refusal(&mut start(&pinned, "")).contains("another layout"));
    assert!(pinned.router().xdp_program(CAPTURED).is_some());
    let text = output(&mut pinned.detach());
    assert!(text.contains("another version: what they held is not known"), "{text}");
    wait_until_detached(pinned.router(), CAPTURED);
    send_after_start(&pinned);
}

fn start(pinned: &Pinned, capture: &str) -> Command {
    let directory = std::env::temp_dir().join(format!("pathflow-{}.toml", pinned.router().name()));
    fs::write(&directory, format!("[capture]\n{capture}")).unwrap();
    let mut command = pinned.router().enter(daemon().to_str().unwrap());
    command.args(["run", "--json", "--listen", "", "--interface", CAPTURED, "--config"]).arg(directory);
    command
}

fn send_after_start(pinned: &Pinned) {
    let probe = pinned.probe("");
    send(&pinned.0, 10);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 10);
}

#[test]
fn a_damaged_pin_is_named() {
    let pinned = Pinned::new();
    pinned.probe("").terminate();
    let run = pinned.runs().remove(0);
    fs::remove_file(run.join("claims")).unwrap();
    let message = refusal(&mut start(&pinned, "pin = true\n"));
    assert!(message.contains("claims") && message.contains("pathflow detach"), "{message}");
    // Another map in its place.
    let mut command = tool("bpftool");
    command.args(["map", "create"]).arg(run.join("claims"));
    output(command.args("type array key 4 value 8 entries 3 name other".split(' ')));
    let message = refusal(&mut start(&pinned, "pin = true\n"));
    assert!(message.contains("claims: it has 3 elements, not"), "{message}");
}

#[test]
fn the_pins_belong_to_one_process_at_a_time() {
    let pinned = Pinned::new();
    let mut probe = pinned.probe("");
    let id = probe.process().id();
    let process = format!("process {id}");
    let message = refusal(&mut start(&pinned, "pin = true\n"));
    assert!(message.contains(&process) && message.contains("stop it first"), "{message}");
    let message = refusal(&mut pinned.detach());
    assert!(message.contains(&process), "{message}");
    send(&pinned.0, 10);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 10);
}

#[test]
fn a_run_that_pins_nothing_takes_over_what_is_pinned_and_ends_it() {
    let pinned = Pinned::new();
    kill(pinned.probe(""));
    send(&pinned.0, 300);
    let probe = ProbeBuilder::new(pinned.router()).json().start();
    assert!(!pinned.directory().exists());
    send(&pinned.0, 40);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 340);
    wait_until_detached(pinned.router(), CAPTURED);
}

#[test]
fn a_start_that_fails_leaves_what_was_pinned() {
    let pinned = Pinned::new();
    // A start that fails with nothing pinned before leaves nothing.
    let broken = "pin = true\n[[capture.interface]]\nname = \"lo\"\nhook = \"xdp\"\n";
    let fail = || {
        let refused = start(&pinned, broken).args(["--interface", "lo"]).output().unwrap();
        let message = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert!(message.contains("interface lo: no native XDP"), "{message}");
    };
    fail();
    assert_eq!(pinned.router().xdp_program(CAPTURED), None);
    assert!(!pinned.directory().exists());

    pinned.probe("").terminate();
    send(&pinned.0, 100);
    fail();
    send(&pinned.0, 20);
    fail();
    send(&pinned.0, 3);
    let ended = pinned.probe("").terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 123, "{}", ended.report.text());
    assert_eq!(lost_in(&ended), 0);
}

fn lost_in(ended: &Ended) -> u64 {
    ended.report.figure("json stdout: lost with runs that were killed").packets
}

#[test]
fn detach_ends_one_interface_or_all_and_leaves_foreign_programs() {
    let pinned = Pinned::new();
    let (network, router) = (&pinned.0, pinned.router());
    network.add_captured_link("veth-send2", "veth-in2");
    let directory = TempDir::new();
    let file = directory.file("foreign.o");
    write_program(&file, "foreign_xdp");
    let mut command = router.command("ip");
    command.args(["link", "set", "dev", EXPORTING, "xdpdrv", "object"]).arg(&file);
    output(command.args(["section", "xdp"]));
    let builder = ProbeBuilder::configured(router).json();
    kill(super::pin::pinned(builder, "interfaces = [\"veth-in\", \"veth-in2\"]\n"));
    send(network, 10);
    Traffic { packets: 7, interface: "veth-send2", ..Traffic::default() }.send(&network.sender);

    let text = output(pinned.detach().args(["--interface", "veth-in2"]));
    assert!(text.contains("veth-in2 (index") && text.contains("tables kept, with 17 packets"), "{text}");
    wait_until_detached(router, "veth-in2");
    assert!(router.xdp_program(CAPTURED).is_some());
    let message = refusal(pinned.detach().args(["--interface", "veth-none"]));
    assert!(message.contains("veth-none: no such interface"), "{message}");
    let text = output(&mut pinned.detach());
    assert!(text.contains("veth-in (index") && text.contains("tables removed, with 17 packets"), "{text}");
    wait_until_detached(router, CAPTURED);
    assert_eq!(router.xdp_program(EXPORTING).as_deref(), Some("foreign_xdp"));
    assert!(!pinned.directory().exists());
}

/// The kernel takes a link down some time after its pin is gone.
fn wait_until_detached(router: &Namespace, interface: &str) {
    let program = || router.xdp_program(interface).unwrap_or_default();
    wait_for("no program", program, || router.xdp_program(interface).is_none().then_some(()));
}

#[test]
fn without_the_bpf_file_system_pinning_is_refused_with_a_remedy() {
    let pinned = Pinned::new();
    let directory = TempDir::new();
    let file = directory.file("pathflow.toml");
    fs::write(&file, "[capture]\npin = true\n").unwrap();
    // It mounts a /sys of its own.
    let mut command = tool("ip");
    command.args(["netns", "exec", pinned.router().name()]).arg(daemon());
    command.args(["run", "--json", "--interface", CAPTURED, "--config"]).arg(&file);
    let message = refusal(&mut command);
    assert!(message.contains("mount -t bpf bpf /sys/fs/bpf"), "{message}");
    assert_eq!(pinned.router().xdp_program(CAPTURED), None);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let pinned = Pinned::new();
    pinned.probe("").terminate();
    let directory = pinned.directory();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let message = refusal(&mut start(&pinned, "pin = true\n"));
    assert!(message.contains(directory.to_str().unwrap()) && message.contains("0700"), "{message}");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let _: Value = pinned.router().link(CAPTURED);
}
