//! Five million packets at full speed: each has one fate, and every fate has a counter.

use super::support::metrics::Metrics;
use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network, SENDER};
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Ended, Probe, ProbeBuilder};
use super::support::report::{Figure, Report};
use super::support::tool::output;
use super::support::traffic::Traffic;

const PACKETS: u64 = 5_000_000;

/// Sends `traffic`, waits until the metrics show all of it, and ends the daemon. Metrics, report and the
/// interface agree on what was received.
fn send_and_end(network: &Network, traffic: &Traffic, probe: Probe<'_>) -> (Metrics, Ended) {
    let router = &network.router;
    let before = router.received(CAPTURED);
    traffic.send(&network.sender);
    let metrics = probe.wait_until("all packets in the metrics", |metrics| {
        metrics.total("pathflow_received_packets_total") >= traffic.packets
    });
    assert_eq!(metrics.total("pathflow_received_packets_total"), traffic.packets);
    assert_eq!(metrics.total("pathflow_received_octets_total"), traffic.octets());
    let after = router.received(CAPTURED);
    assert_eq!(after.0 - before.0, traffic.packets);
    assert_eq!(after.1 - before.1, traffic.packets * traffic.frame_octets);

    let ended = probe.terminate();
    let received = ended.report.received();
    assert_eq!((received.packets, received.octets), (traffic.packets, traffic.octets()));
    ended.report.assert_balanced();
    (metrics, ended)
}

fn table_overflow(report: &Report) -> u64 {
    report.figure("not in a flow: table_overflow").packets
}

#[test]
fn a_tiny_table_overflows_and_every_packet_is_still_counted() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration("[capture]\nipv4_slots = 64\nspill_slots = 64\n[export]\nstdout = \"json\"")
        .start();
    let traffic = Traffic { packets: PACKETS, flows: 10_000, random: true, ..Traffic::default() };
    let (metrics, ended) = send_and_end(&network, &traffic, probe);
    assert!(metrics.total("pathflow_spilled_packets_total") > 0);
    assert!(table_overflow(&ended.report) > 0);
    assert!(ended.report.recorded().packets > 0);
    // There is no other reason to drop any of these packets.
    assert_eq!(ended.report.dropped().packets, table_overflow(&ended.report));
    assert_eq!(ended.report.lost(), Figure::default());
}

#[test]
fn a_thousand_flows_at_full_speed_lose_nothing_up_to_the_collector() {
    let network = Network::new();
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router).collector(COLLECTOR_IPV4, "ipfix").start();
    let traffic = Traffic { packets: PACKETS, flows: 1000, ..Traffic::default() };
    let (metrics, ended) = send_and_end(&network, &traffic, probe);
    ended.report.assert_complete();
    assert_eq!(metrics.total("pathflow_dropped_packets_total"), 0);
    assert_eq!(metrics.total("pathflow_export_dropped_records_total"), 0);

    let collected = nfcapd.stop(&network);
    assert_eq!((collected.packets(), collected.octets()), (PACKETS, traffic.octets()));
    assert_eq!(collected.flows.len(), 1000);
    assert!(collected.flows.iter().all(|flow| flow["in_packets"] == PACKETS / 1000));
    collected.assert_in_sequence();
}

#[test]
fn sixty_thousand_random_flows_are_counted_packet_by_packet() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).json().start();
    let traffic = Traffic { packets: PACKETS, flows: 60_000, random: true, ..Traffic::default() };
    let (_, ended) = send_and_end(&network, &traffic, probe);
    ended.report.assert_complete();
    // 83 packets for each flow on average: that one of them gets none is all but impossible.
    assert_eq!(ended.report.made().records, 60_000);
    assert_eq!(ended.output.lines().count(), 60_000);
}

#[test]
fn a_link_that_goes_down_and_up_again_is_still_captured() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).json().start();
    let traffic = Traffic::default();
    traffic.send(&network.sender);
    for (namespace, interface) in [(&network.router, CAPTURED), (&network.sender, SENDER)] {
        for state in ["down", "up"] {
            output(namespace.command("ip").args(["link", "set", interface, state]));
        }
        traffic.send(&network.sender);
    }
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 3 * traffic.packets);
}
