//! Several exports at once: formats beside each other, records by condition, shares of several collectors, and
//! collectors that stand in for each other.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::support::json::sum;
use super::support::network::{COLLECTOR_IPV4, COLLECTOR_IPV6, COLLECTOR_SFLOW, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::traffic::Traffic;
use super::support::wire::Wire;

/// The other port of the collector.
const OTHER: u16 = 2055;

fn other(collector: SocketAddr) -> SocketAddr {
    SocketAddr::new(collector.ip(), OTHER)
}

#[test]
fn formats_go_out_beside_each_other_and_each_has_the_records_it_is_for() {
    let network = Network::new();
    let everything = Nfcapd::start(&network, COLLECTOR_IPV4);
    let only_ipv6 = Nfcapd::start(&network, other(COLLECTOR_IPV6));
    let nothing = Nfcapd::start(&network, other(COLLECTOR_IPV4));
    let configuration = format!(
        "[export]\ncollectors = [\"{COLLECTOR_IPV4}\"]\n\
         [[export.process]]\ncollectors = [\"{}\"]\nformat = \"netflow-v9\"\nip_version = 6\n\
         networks = [\"2001:2::/48\"]\ninterfaces = [\"veth-*\"]\ndirection = \"ingress\"\n\
         [[export.process]]\ncollectors = [\"{}\"]\nprotocols = [6]\n",
        other(COLLECTOR_IPV6),
        other(COLLECTOR_IPV4)
    );
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    let ipv4 = Traffic { packets: 6000, flows: 300, frame_octets: 100, ..Traffic::default() };
    let ipv6 = Traffic { packets: 4000, flows: 200, ipv6: true, frame_octets: 120, ..Traffic::default() };
    ipv4.send(&network.sender);
    ipv6.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let (everything, only_ipv6, nothing) =
        (everything.stop(&network), only_ipv6.stop(&network), nothing.stop(&network));
    assert_eq!(everything.packets(), ipv4.packets + ipv6.packets);
    assert_eq!(everything.octets(), ipv4.octets() + ipv6.octets());
    assert_eq!((only_ipv6.packets(), only_ipv6.octets()), (ipv6.packets, ipv6.octets()));
    assert!(only_ipv6.flows.iter().all(|flow| flow["src6_addr"].is_string()));
    assert_eq!(nothing.flows.len(), 0);
    let report = &ended.report;
    let left_out = report.figure(&format!("netflow-v9 to {}: not for it", other(COLLECTOR_IPV6)));
    assert_eq!((left_out.packets, left_out.octets, left_out.records), (6000, ipv4.octets(), 300));
    let left_out = report.figure(&format!("ipfix to {}: not for it", other(COLLECTOR_IPV4)));
    assert_eq!((left_out.packets, left_out.records), (10_000, 500));
}

#[test]
fn collectors_share_the_flows_and_none_is_at_two_of_them() {
    let network = Network::new();
    let collectors = [COLLECTOR_IPV4, other(COLLECTOR_IPV4)];
    let nfcapds = collectors.map(|collector| Nfcapd::start(&network, collector));
    let configuration = format!(
        "[export]\ndistribution = \"flow-hash\"\ncollectors = [\"{}\", \"{}\"]\n",
        collectors[0], collectors[1]
    );
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    let traffic = Traffic { packets: 20_000, flows: 1000, ..Traffic::default() };
    // The same flows in two rounds, so in two records each.
    for round in 1..=2 {
        traffic.send(&network.sender);
        probe.wait_until("everything in flows", |metrics| {
            metrics.total("pathflow_received_packets_total") == round * traffic.packets
        });
    }
    probe.terminate().report.assert_balanced();
    let [one, two] = nfcapds.map(|nfcapd| nfcapd.stop(&network));
    assert_eq!(one.packets() + two.packets(), 2 * traffic.packets);
    assert_eq!(one.octets() + two.octets(), 2 * traffic.octets());
    let sources = |flows: &[serde_json::Value]| -> BTreeSet<String> {
        flows.iter().map(|flow| flow["src4_addr"].to_string()).collect()
    };
    let (one, two) = (sources(&one.flows), sources(&two.flows));
    assert_eq!(one.intersection(&two).count(), 0);
    assert_eq!(one.len() + two.len(), 1000);
    // Five standard deviations of 1000 throws of a coin.
    assert!(one.len().abs_diff(500) <= 79, "{} and {}", one.len(), two.len());
}

#[test]
fn the_second_collector_stands_in_while_the_first_refuses() {
    let network = Network::new();
    network.collector.sysctl("net.ipv4.icmp_ratelimit=0");
    let (first, second) = (COLLECTOR_IPV4, other(COLLECTOR_IPV4));
    let configuration =
        format!("[export]\ndistribution = \"failover\"\ncollectors = [\"{first}\", \"{second}\"]\n");
    let standing_in = Nfcapd::start(&network, second);
    let probe = ProbeBuilder::new(&network.router)
        .configuration(&configuration)
        .argument("--idle-timeout", "300ms")
        .start();
    let traffic = Traffic { packets: 500, flows: 5, ..Traffic::default() };
    let exported = |probe: &super::support::probe::Probe<'_>, packets: u64| {
        probe.wait_until("records exported", |metrics| {
            metrics.total("pathflow_exported_packets_total")
                + metrics.total("pathflow_export_dropped_packets_total")
                == packets
        })
    };
    // What finds out that the first is not there is lost, if its templates did not.
    traffic.send(&network.sender);
    exported(&probe, traffic.packets);
    traffic.send(&network.sender);
    let metrics = exported(&probe, 2 * traffic.packets);
    let lost = metrics.total("pathflow_export_dropped_packets_total");
    assert!(lost <= traffic.packets, "{lost}");

    let preferred = Nfcapd::start(&network, first);
    // The other one has news of the first through templates alone.
    probe.wait_until("the first is known to be back", |_| probe.errors().contains("takes messages again"));
    traffic.send(&network.sender);
    exported(&probe, 3 * traffic.packets);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let (preferred, standing_in) = (preferred.stop(&network), standing_in.stop(&network));
    assert_eq!(preferred.packets(), traffic.packets);
    assert_eq!(preferred.packets() + standing_in.packets() + lost, 3 * traffic.packets);
    assert_eq!(preferred.octets() + standing_in.octets(), ended.report.exported().octets);
    let text = ended.report.text();
    for collector in [second, first] {
        assert!(text.contains(&format!("records go to collector {collector} from now on")), "{text}");
    }
}

#[test]
fn flows_that_end_together_are_spread_over_time() {
    let network = Network::new();
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router)
        .configuration(&format!("[export]\ncollectors = [\"{COLLECTOR_IPV4}\"]\npace = 2000\n"))
        .argument("--idle-timeout", "300ms")
        .start();
    let wire = Wire::start(&network);
    let traffic = Traffic { packets: 4000, flows: 4000, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.wait_until("records exported", |metrics| {
        metrics.total("pathflow_exported_packets_total") == traffic.packets
    });
    probe.terminate().report.assert_complete();
    let datagrams = wire.stop(&network).datagrams(&["frame.time_epoch", "cflow.srcaddr"]);
    let with_records = datagrams.iter().filter(|fields| !fields[1].is_empty());
    let sent: Vec<f64> = with_records.map(|fields| fields[0][0].parse().unwrap()).collect();
    assert_eq!(nfcapd.stop(&network).packets(), traffic.packets);
    assert_eq!(datagrams.iter().map(|fields| fields[1].len()).sum::<usize>(), 4000);
    // All but the first and the last batch of 512 have had to wait for those before.
    let taken = sent.last().unwrap() - sent.first().unwrap();
    assert!(taken >= (4000.0 - 2.0 * 512.0) / 2000.0, "{taken}");
}

#[test]
fn all_formats_of_the_same_traffic_agree() {
    let network = Network::new();
    // By format, in the order of the formats below.
    let ports = [4739, 2055, 2056];
    let collectors = ports.map(|port| SocketAddr::new(COLLECTOR_IPV4.ip(), port));
    let nfcapds = collectors.map(|collector| Nfcapd::start(&network, collector));
    let sfcapd = Nfcapd::start_sflow(&network, COLLECTOR_SFLOW);
    let [ipfix, v9, v5] = collectors;
    let configuration = format!(
        "[capture]\nheader_sampling_interval = 1\n[export]\ncollectors = [\"{ipfix}\"]\n\
         [[export.process]]\ncollectors = [\"{v9}\"]\nformat = \"netflow-v9\"\n\
         [[export.process]]\ncollectors = [\"{v5}\"]\nformat = \"netflow-v5\"\n\
         [sflow]\ncollectors = [\"{}\"]\n",
        COLLECTOR_SFLOW.ip()
    );
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    let rate = Some(5000);
    let traffic = Traffic { packets: 6000, flows: 60, frame_octets: 400, rate, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.wait_until("samples are sent", |metrics| {
        metrics.sum("pathflow_sflow_exported_samples_total", &[("kind", "flow")]) == traffic.packets
    });
    probe.terminate().report.assert_balanced();
    let flows = nfcapds.map(|nfcapd| nfcapd.stop(&network).flows);
    for flows in &flows {
        assert_eq!((sum(flows, "in_packets"), flows.len()), (traffic.packets, 60));
        assert_eq!(sum(flows, "in_bytes"), traffic.octets());
    }
    // The same flows, and not only the same sums.
    let keys = |flows: &[serde_json::Value]| -> BTreeSet<String> {
        let fields = ["src4_addr", "dst4_addr", "src_port", "dst_port", "proto", "input_snmp", "in_packets"];
        let key = |flow: &serde_json::Value| fields.map(|field| flow[field].to_string()).join(" ");
        flows.iter().map(key).collect()
    };
    let [ipfix, v9, v5] = flows.map(|flows| keys(&flows));
    assert_eq!(ipfix.len(), 60);
    assert_eq!((&v9, &v5), (&ipfix, &ipfix));
    let sampled = sfcapd.stop(&network);
    assert_eq!(sampled.packets(), traffic.packets);
    // sFlow counts frames, with their check sequence.
    assert_eq!(sampled.octets(), traffic.packets * (traffic.frame_octets + 4));
}
