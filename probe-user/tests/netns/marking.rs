//! DSCP and TTL of messages are those of the configuration.

use super::support::network::{COLLECTOR_IPV4, COLLECTOR_IPV6, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::traffic::Traffic;
use super::support::wire::Wire;

#[test]
fn messages_have_the_dscp_and_the_ttl_of_the_configuration() {
    let network = Network::new();
    for (collector, fields) in [
        (COLLECTOR_IPV4, ["ip.dsfield.dscp", "ip.dsfield.ecn", "ip.ttl"]),
        (COLLECTOR_IPV6, ["ipv6.tclass.dscp", "ipv6.tclass.ecn", "ipv6.hlim"]),
    ] {
        // 64 is what Linux sends when nothing else is said.
        for (configuration, expected) in
            [("[export]\ndscp = 46\nttl = 9\n", ["46", "0", "9"]), ("", ["0", "0", "64"])]
        {
            let nfcapd = Nfcapd::start(&network, collector);
            let wire = Wire::start(&network);
            let probe = ProbeBuilder::new(&network.router)
                .collector(collector, "ipfix")
                .configuration(configuration)
                .start();
            let traffic = Traffic { packets: 100, flows: 100, ..Traffic::default() };
            traffic.send(&network.sender);
            probe.terminate().report.assert_complete();
            assert_eq!(nfcapd.stop(&network).packets(), traffic.packets);
            let datagrams = wire.stop(&network).datagrams(&fields);
            assert!(datagrams.len() > 1, "{datagrams:?}");
            assert!(datagrams.iter().all(|datagram| *datagram == expected.map(|v| [v])), "{datagrams:?}");
        }
    }
}
