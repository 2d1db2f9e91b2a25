//! A collector that comes up late.

use super::support::network::{COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::traffic::Traffic;
use super::support::wire::Wire;

fn a_late_collector_gets_templates_first(format: &str) {
    let network = Network::new();
    // Every datagram to the closed port is answered.
    network.collector.sysctl("net.ipv4.icmp_ratelimit=0");
    let probe = ProbeBuilder::new(&network.router)
        .collector(COLLECTOR_IPV4, format)
        .argument("--idle-timeout", "300ms")
        .start();
    let traffic = Traffic { packets: 500, flows: 5, ..Traffic::default() };
    for round in 1..=2 {
        traffic.send(&network.sender);
        probe.wait_until("records counted as lost", |metrics| {
            let reason = [("reason", "collector_refused")];
            metrics.sum("pathflow_export_dropped_packets_total", &reason) == round * traffic.packets
        });
    }

    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let wire = Wire::start(&network);
    traffic.send(&network.sender);
    probe.wait_until("records exported", |metrics| {
        metrics.total("pathflow_exported_packets_total") == traffic.packets
    });
    traffic.send(&network.sender);
    let ended = probe.terminate();
    wire.stop(&network).assert_decodable();
    let collected = nfcapd.stop(&network);

    let report = &ended.report;
    report.assert_balanced();
    assert_eq!(report.made().packets, 4 * traffic.packets);
    let (exported, lost) = (report.exported(), report.lost());
    assert_eq!((exported.packets, lost.packets), (2 * traffic.packets, 2 * traffic.packets));
    assert_eq!(exported.records + lost.records, report.made().records);
    assert_eq!(lost, report.lost_for("collector_refused"));
    assert_eq!((collected.packets(), collected.octets()), (exported.packets, exported.octets));
    assert_eq!(collected.flows.len() as u64, exported.records);
    collected.assert_in_sequence();
    let text = report.text();
    assert!(text.contains("refuses messages") && text.contains("takes messages again"), "{text}");
}

#[test]
fn an_ipfix_collector_that_comes_up_late_gets_templates_first_and_the_loss_before_is_counted() {
    a_late_collector_gets_templates_first("ipfix");
}

#[test]
fn a_netflow_v9_collector_that_comes_up_late_gets_templates_first_and_the_loss_before_is_counted() {
    a_late_collector_gets_templates_first("netflow-v9");
}
