//! DSCP and TTL of messages are those of the configuration.

use super::support::network::{COLLECTOR_IPV4, COLLECTOR_IPV6, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::stream::{accept, listen, totals};
use super::support::tool::output;
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

#[test]
fn segments_of_a_connection_have_them_as_well() {
    let network = Network::new();
    // Whatever else comes for the collector is thrown away.
    let rules = "table inet marks { chain input { type filter hook input priority 0; \
                 tcp dport 4739 ip dscp != 46 counter drop; tcp dport 4739 ip ttl != 9 counter drop; }; }";
    output(network.collector.command("nft").arg(rules));
    let listener = listen(&network.collector, COLLECTOR_IPV4);
    let stream = accept(&listener, u64::MAX);
    let probe = ProbeBuilder::new(&network.router)
        .configuration("[export]\ntransport = \"tcp\"\ndscp = 46\nttl = 9\n")
        .argument("--collector", &COLLECTOR_IPV4.to_string())
        .start();
    let traffic = Traffic { packets: 1000, flows: 100, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.terminate().report.assert_complete();
    assert_eq!(totals(&stream.join().unwrap()).packets, traffic.packets);
    let ruleset = output(network.collector.command("nft").args(["list", "ruleset"]));
    assert_eq!(ruleset.matches("counter packets 0 ").count(), 2, "{ruleset}");
}
