//! What was sent is what collectors add up, for every format and both families.

use super::support::json::sum;
use super::support::network::{COLLECTOR_IPV4, COLLECTOR_IPV6, Network};
use super::support::nfacctd::Nfacctd;
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::report::Figure;
use super::support::traffic::Traffic;

#[test]
fn nfcapd_totals_equal_what_was_sent_for_each_format_and_family() {
    let network = Network::new();
    for (format, ipv6) in [("ipfix", false), ("ipfix", true), ("netflow-v9", false), ("netflow-v9", true)] {
        let traffic = Traffic { packets: 30_000, flows: 500, ipv6, frame_octets: 200, ..Traffic::default() };
        // The export takes the family of the traffic as well.
        let collector = if ipv6 { COLLECTOR_IPV6 } else { COLLECTOR_IPV4 };
        let nfcapd = Nfcapd::start(&network, collector);
        let probe = ProbeBuilder::new(&network.router).collector(collector, format).start();
        traffic.send(&network.sender);
        let ended = probe.terminate();
        let collected = nfcapd.stop(&network);

        let sent = Figure { packets: traffic.packets, octets: traffic.octets(), records: 500 };
        ended.report.assert_complete();
        assert_eq!(ended.report.exported(), sent, "{format} IPv6 {ipv6}");
        assert_eq!((collected.packets(), collected.octets()), (sent.packets, sent.octets));
        assert_eq!(collected.flows.len(), 500);
        collected.assert_in_sequence();
        let address = if ipv6 { "src6_addr" } else { "src4_addr" };
        assert!(collected.flows.iter().all(|flow| flow[address].is_string()), "{:#}", collected.flows[0]);
        assert!(collected.flows.iter().all(|flow| flow["in_packets"] == 60), "{:#}", collected.flows[0]);
    }
}

#[test]
fn nfacctd_totals_equal_what_was_sent_in_each_format() {
    let network = Network::new();
    for (format, version) in [("ipfix", 10), ("netflow-v9", 9), ("netflow-v5", 5)] {
        let traffic = Traffic { packets: 20_000, flows: 200, frame_octets: 100, ..Traffic::default() };
        let nfacctd = Nfacctd::start(&network.collector, COLLECTOR_IPV4);
        let probe = ProbeBuilder::new(&network.router).collector(COLLECTOR_IPV4, format).start();
        traffic.send(&network.sender);
        probe.terminate().report.assert_complete();

        let flows = nfacctd.printed(traffic.packets);
        assert_eq!(sum(&flows, "packets"), traffic.packets);
        assert_eq!(sum(&flows, "bytes"), traffic.octets());
        assert_eq!(flows.len(), 200);
        for flow in &flows {
            assert_eq!(flow["export_proto_version"], version, "{flow}");
            assert_eq!((&flow["ip_dst"], &flow["port_dst"]), (&"198.18.0.1".into(), &9.into()), "{flow}");
        }
    }
}
