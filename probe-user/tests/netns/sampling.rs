//! One packet in N: how many are chosen, which, what becomes of the others, and what collectors are told.

use std::collections::BTreeMap;

use super::support::json::{flows, sum};
use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network};
use super::support::nfacctd::Nfacctd;
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Ended, ProbeBuilder};
use super::support::traffic::Traffic;
use super::support::wire::Wire;

fn configuration(interval: u32, method: &str) -> String {
    format!("[capture]\nsampling_interval = {interval}\nsampling = \"{method}\"\n[export]\nstdout = \"json\"")
}

/// Sends `traffic` to a daemon that samples, and says how it ended; what was not selected was counted.
fn sample(interval: u32, method: &str, traffic: &Traffic) -> Ended {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration(interval, method)).start();
    traffic.send(&network.sender);
    let ended = probe.terminate();
    let report = &ended.report;
    report.assert_balanced();
    let (received, not_selected) = (report.received(), report.figure("not in a flow: not_selected"));
    assert_eq!(received.packets, traffic.packets);
    assert_eq!(not_selected, report.dropped(), "{}", report.text());
    assert_eq!(report.recorded().packets + not_selected.packets, traffic.packets);
    let ip_octets = traffic.octets() / traffic.packets;
    assert_eq!(report.recorded().octets, report.recorded().packets * ip_octets);
    for flow in flows(&ended.output) {
        assert_eq!(flow["sampling_interval"], interval, "{flow}");
        assert!(flow["selector_id"].as_u64().is_some_and(|id| id > 0), "{flow}");
    }
    ended
}

/// Packets of each flow, by source address.
fn by_flow(ended: &Ended) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for flow in flows(&ended.output) {
        let key = format!("{} {}", flow["source_address"], flow["source_port"]);
        *counted.entry(key).or_default() += flow["packet_delta_count"].as_u64().unwrap();
    }
    counted
}

/// Everything on one CPU, each of which counts for itself.
const TRAFFIC: Traffic = Traffic {
    packets: 1_000_000,
    flows: 100,
    random: false,
    ipv6: false,
    vlan_id: None,
    frame_octets: 64,
    rate: None,
    interface: super::support::network::SENDER,
    cpu: Some(0),
};

#[test]
fn deterministic_sampling_takes_exactly_each_nth_packet() {
    let traffic = Traffic { packets: 100_000, flows: 7, ..TRAFFIC };
    let ended = sample(10, "deterministic", &traffic);
    assert_eq!(ended.report.recorded().packets, 10_000);
    assert_eq!(by_flow(&ended).len(), 7);

    // Packet k is in flow k modulo 100, so that each hundredth packet is in the same one.
    let ended = sample(100, "deterministic", &TRAFFIC);
    assert_eq!(by_flow(&ended).into_values().collect::<Vec<_>>(), [10_000]);
}

#[test]
fn random_sampling_takes_one_in_n_on_average_whatever_the_period_of_the_traffic() {
    let ended = sample(100, "random", &TRAFFIC);
    // Distances are uniform from 1 to 2 N - 1, of variance N^2 / 3: the count has a standard deviation of
    // the square root of n / 3N, which is 58.
    let counted = ended.report.recorded().packets;
    assert!(counted.abs_diff(10_000) <= 5 * 58, "{counted}");
    // Each flow gets its hundredth of them, with a standard deviation of 10: six of these.
    let flows = by_flow(&ended);
    assert_eq!(flows.len(), 100, "{flows:?}");
    assert!(flows.values().all(|packets| packets.abs_diff(100) <= 60), "{flows:?}");
}

#[test]
fn collectors_multiply_by_the_rate_they_are_told_once() {
    let network = Network::new();
    let traffic = Traffic { packets: 100_000, flows: 5, frame_octets: 100, ..TRAFFIC };
    for format in ["ipfix", "netflow-v9", "netflow-v5"] {
        let send = || {
            let probe = ProbeBuilder::new(&network.router)
                .collector(COLLECTOR_IPV4, format)
                .configuration(&configuration(10, "deterministic"))
                .start();
            traffic.send(&network.sender);
            let ended = probe.terminate();
            ended.report.assert_balanced();
            assert_eq!(sum(&flows(&ended.output), "packet_delta_count"), 10_000);
        };
        let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
        let wire = Wire::start(&network);
        send();
        let collected = nfcapd.stop(&network);
        assert_eq!(
            (collected.packets(), collected.octets()),
            (traffic.packets, traffic.octets()),
            "{format}"
        );
        collected.assert_in_sequence();
        // On the wire is what was counted.
        let capture = wire.stop(&network);
        capture.assert_decodable();
        let records = capture.records(&["cflow.protocol", "cflow.packets"]);
        let packets: u64 = records.iter().map(|record| record["cflow.packets"].parse::<u64>().unwrap()).sum();
        assert_eq!(packets, 10_000, "{format}");

        for (renormalize, packets, octets) in
            [(true, traffic.packets, traffic.octets()), (false, 10_000, traffic.octets() / 10)]
        {
            let more = format!("nfacctd_renormalize: {renormalize}\n");
            let nfacctd = Nfacctd::start_with(&network.collector, COLLECTOR_IPV4, &more);
            send();
            let printed = nfacctd.printed(packets);
            let counted = (sum(&printed, "packets"), sum(&printed, "bytes"));
            assert_eq!(counted, (packets, octets), "{format} renormalize {renormalize}");
        }
    }
}

#[test]
fn each_interface_has_its_own_rate() {
    let network = Network::new();
    network.add_captured_link("veth-send2", "veth-in2");
    let probe = ProbeBuilder::new(&network.router)
        .argument("--interface", "veth-in2")
        .json()
        .configuration(
            "[capture]\nsampling = \"deterministic\"\n[[capture.interface]]\nname = \"veth-in2\"\nsampling_interval = 4",
        )
        .start();
    let traffic = Traffic { packets: 10_000, flows: 10, ..TRAFFIC };
    traffic.send(&network.sender);
    Traffic { interface: "veth-send2", ..traffic }.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let (all, sampled): (Vec<_>, Vec<_>) =
        flows(&ended.output).into_iter().partition(|flow| flow["ingress_interface_name"] == CAPTURED);
    assert_eq!(sum(&all, "packet_delta_count"), 10_000);
    assert_eq!(sum(&sampled, "packet_delta_count"), 2_500);
    assert!(all.iter().all(|flow| flow["sampling_interval"] == 1 && flow.get("selector_id").is_none()));
    assert!(sampled.iter().all(|flow| flow["sampling_interval"] == 4));
}

/// While routes are waited for, flows stay in the cache for longer than any timeout. They have the interval with which they
/// were counted, however often it has changed since.
#[test]
fn flows_that_wait_for_routes_keep_their_sampling_interval() {
    let network = Network::new();
    let with = |interval: u32| {
        format!(
            "{}[flow]\nactive_timeout = \"300ms\"\nidle_timeout = \"300ms\"\n[enrich]\nwait_for_rib = \"1h\"\n\
             [bgp]\nlisten = [\"127.0.0.1:1790\"]\nrouter_id = \"192.0.2.9\"\n\
             [[bgp.peer]]\naddress = \"127.0.0.2\"\n",
            configuration(interval, "deterministic") + "\n"
        )
    };
    let mut probe = ProbeBuilder::new(&network.router).configuration(&with(1)).start();
    let traffic = Traffic { packets: 600, flows: 3, rate: None, ..TRAFFIC };
    let mut received = 0;
    for interval in [1, 2, 3, 5] {
        if interval > 1 {
            probe.reload(&with(interval));
            probe.process().wait_for_message(&format!("counts one packet in {interval} now"));
        }
        traffic.send(&network.sender);
        received += traffic.packets;
        probe.wait_until("packets are drained", |metrics| {
            metrics.total("pathflow_received_packets_total") == received
        });
        // Longer than the timeout and two drains.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let mut packets = BTreeMap::<u64, u64>::new();
    for flow in flows(&ended.output) {
        let interval = flow["sampling_interval"].as_u64().unwrap_or(1);
        *packets.entry(interval).or_default() += flow["packet_delta_count"].as_u64().unwrap();
    }
    let expected = [1, 2, 3, 5].map(|interval| (interval, traffic.packets / interval));
    assert_eq!(packets, expected.into(), "{}", ended.report.text());
}
