//! Applications of flows: real servers and clients, and floods.

use std::collections::BTreeMap;
use std::path::Path;

use super::filter::tcpdump_matches;
use super::support::json::flows;
use super::support::metrics::Metrics;
use super::support::network::{Network, ROUTER_ADDRESS, SENDER};
use super::support::probe::{Ended, ProbeBuilder};
use super::support::process::Process;
use super::support::stream::Certificate;
use super::support::temp_dir::TempDir;
use super::support::tool::{output, require};
use super::support::traffic::Traffic;
use super::support::wait_for;

const AGGREGATE: &str = "[[aggregate]]\nname = \"applications\"\nrefresh = \"1s\"\n\
    key = [\"class\", \"proto\", \"src_port\", \"dst_port\"]\n[aggregate.stdout]\n";
/// How often each server is asked.
const COUNT: usize = 20;

/// Packets by class and by port, `port_src` or `port_dst`.
fn packets(ended: &Ended, end: &str) -> BTreeMap<(String, u64), u64> {
    let mut packets = BTreeMap::new();
    for row in flows(&ended.output) {
        let number = |key: &str| row[key].as_u64().unwrap();
        let class = row["class"].as_str().unwrap().to_owned();
        *packets.entry((class, number(end))).or_default() += number("packets");
    }
    packets
}

fn script(network: &super::support::namespace::Namespace) -> std::process::Command {
    require("python3");
    let mut command = network.command("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/classes.py"));
    command
}

/// Each packet is in a row of its application, or of none if it came before that was known, and in one row only.
fn real_traffic_has_its_applications(hook: &str) {
    let network = Network::new();
    let (directory, certificate) = (TempDir::new(), Certificate::new("DNS:www.google.com"));
    let capture = directory.file("sent.pcap");
    let mut serve = script(&network.router);
    serve.args(["serve", &ROUTER_ADDRESS.to_string()]).arg(certificate.file()).arg(certificate.key());
    let mut servers = Process::start(&mut serve);
    servers.wait_for_message("ready");
    let probe = ProbeBuilder::new(&network.router)
        .configuration(AGGREGATE)
        .argument("--hook", hook)
        .argument("--direction", "both")
        .start();
    let mut dump = network.sender.command("tcpdump");
    dump.args(["-n", "-U", "--immediate-mode", "-B", "16384", "-Z", "root", "-Q", "out", "-i", SENDER, "-w"]);
    let mut dump = Process::start(dump.arg(&capture));
    dump.wait_for_message("listening on");
    let before = network.sender.sent(SENDER).0;
    output(script(&network.sender).args(["ask", &ROUTER_ADDRESS.to_string(), &COUNT.to_string()]));
    let classified =
        |metrics: &Metrics| metrics.sum("pathflow_classify_flows_total", &[("result", "classified")]);
    let metrics = probe.wait_until("all flows", |metrics| classified(metrics) >= 3 * COUNT as u64);
    let sent = network.sender.sent(SENDER).0 - before;
    let is_there = || (tcpdump_matches(&capture, "greater 1") as u64 >= sent).then_some(());
    wait_for("tcpdump has written", || sent.to_string(), is_there);
    dump.terminate();
    let ended = probe.terminate();
    ended.report.assert_balanced();
    assert_eq!(metrics.total("pathflow_classify_dropped_packets_total"), 0);
    assert_eq!(metrics.total("pathflow_classify_evicted_flows_total"), 0);
    let asked = packets(&ended, "port_dst");
    assert_eq!(asked.values().sum::<u64>(), ended.report.received().packets - not_ip(&ended), "{asked:?}");
    let answered = packets(&ended, "port_src");
    for (port, class) in [(53, "DNS"), (80, "HTTP"), (443, "TLS/Google")] {
        for rows in [&asked, &answered] {
            let of_port: Vec<(&str, u64)> = rows
                .iter()
                .filter(|((_, other), _)| *other == port)
                .map(|((class, _), packets)| (class.as_str(), *packets))
                .collect();
            let known = of_port.iter().find(|(found, _)| *found == class).map_or(0, |(_, packets)| *packets);
            assert!(known > 0, "port {port}: {of_port:?}");
            // What came in an earlier epoch than the packets that tell.
            let is_before = |other: &str| other == "unknown" || class.starts_with(&format!("{other}/"));
            assert!(of_port.iter().all(|(other, _)| *other == class || is_before(other)), "{of_port:?}");
        }
        // What comes back may have been merged before tcpdump sees it.
        let sent = tcpdump_matches(&capture, &format!("dst port {port}")) as u64;
        let counted: u64 =
            asked.iter().filter(|((_, other), _)| *other == port).map(|(_, packets)| packets).sum();
        assert_eq!(counted, sent, "port {port}: {asked:?}");
    }
}

/// Packets that are in no row, for they are in no flow.
fn not_ip(ended: &Ended) -> u64 {
    ended.report.dropped().packets
}

#[test]
fn real_traffic_has_its_applications_at_xdp() {
    real_traffic_has_its_applications("xdp");
}

#[test]
fn real_traffic_has_its_applications_at_tc() {
    real_traffic_has_its_applications("tc");
}

/// In a flood each packet is counted in its flow and its row, and of those that nobody looks at it is said why.
#[test]
fn a_flood_of_new_flows_is_counted_whole() {
    let network = Network::new();
    let configuration =
        format!("[capture]\nipv4_slots = 524288\n[capture.classify]\nmax_flows = 1000\n{AGGREGATE}");
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).drain_interval("5s").start();
    let traffic = Traffic { packets: 200_000, flows: 200_000, ..Traffic::default() };
    traffic.send(&network.sender);
    let total = |metrics: &Metrics| {
        metrics.total("pathflow_classify_sent_packets_total")
            + metrics.total("pathflow_classify_dropped_packets_total")
            // They are in no slot that they could be among the first of.
            + metrics.total("pathflow_spilled_packets_total")
    };
    let metrics = probe.wait_until("all packets", |metrics| total(metrics) >= traffic.packets);
    assert_eq!(total(&metrics), traffic.packets);
    let of = |name: &str, reason| metrics.sum(name, &[("reason", reason)]);
    // Which of the two depends on the machine.
    let dropped =
        ["over_budget", "buffer_full"].map(|reason| of("pathflow_classify_dropped_packets_total", reason));
    assert!(dropped.iter().sum::<u64>() > 0, "{metrics:#?}");
    assert!(of("pathflow_classify_evicted_flows_total", "table_full") > 0, "{metrics:#?}");
    assert!(metrics.total("pathflow_classify_held_flows") <= 1250, "{metrics:#?}");
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let rows: u64 = packets(&ended, "port_dst").values().sum();
    assert_eq!(rows, traffic.packets);
}

/// Of flows that are decided, known or not, no more packets leave the kernel.
#[test]
fn packets_of_decided_flows_stay_in_the_kernel() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).configuration(AGGREGATE).start();
    let traffic = Traffic { packets: 4000, flows: 10, rate: Some(500), ..Traffic::default() };
    traffic.send(&network.sender);
    let metrics = probe
        .wait_until("packets", |metrics| metrics.total("pathflow_received_packets_total") >= traffic.packets);
    let sent = metrics.total("pathflow_classify_sent_packets_total");
    // Ten of each flow, and what was on its way meanwhile; else ten of each flow in each of 40 epochs.
    assert!((100..2000).contains(&sent), "{metrics:#?}");
    assert_eq!(metrics.sum("pathflow_classify_flows_total", &[("result", "unknown")]), 10);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    assert_eq!(packets(&ended, "port_dst").values().sum::<u64>(), traffic.packets);
}

/// Who does not ask pays nothing: no packet leaves the kernel.
#[test]
fn without_the_primitive_no_payload_leaves_the_kernel() {
    let network = Network::new();
    let configuration = AGGREGATE.replace("\"class\", ", "");
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    let traffic = Traffic { packets: 100, flows: 10, ..Traffic::default() };
    traffic.send(&network.sender);
    let metrics = probe
        .wait_until("packets", |metrics| metrics.total("pathflow_received_packets_total") >= traffic.packets);
    assert!(!metrics.declares("pathflow_classify_sent_packets"), "{metrics:#?}");
    let asks = format!("[capture.classify]\n{AGGREGATE}");
    probe.reload(&asks);
    super::support::wait_for(
        "a refusal",
        || probe.errors(),
        || probe.errors().contains("payload is looked at for \"class\" only").then_some(()),
    );
    probe.terminate().report.assert_balanced();
}
