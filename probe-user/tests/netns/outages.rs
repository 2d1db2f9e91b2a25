//! What happens to a collector costs exactly what the ledger says: firewalled, rejected, restarted, reset, slow.
//!
//! Outages last for two rounds of traffic, or for `PATHFLOW_OUTAGE_SECONDS`, if that is longer; slowness for six.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::support::network::{COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Probe, ProbeBuilder};
use super::support::report::Figure;
use super::support::socket::{Sequence, connections, datagrams, sequence};
use super::support::stream::totals;
use super::support::tool::output;
use super::support::traffic::Traffic;

const TRAFFIC: Traffic = Traffic {
    packets: 3000,
    flows: 1000,
    random: false,
    ipv6: false,
    vlan_id: None,
    frame_octets: 100,
    rate: None,
    interface: super::support::network::SENDER,
    cpu: None,
};

/// After so long without data, the fate of data in a format without templates can be told.
const TELLING_PAUSE: Duration = Duration::from_millis(1500);

/// Sends traffic until every record of it has been sent or lost, and all of it went through the exporter.
fn round(network: &Network, probe: &Probe<'_>) {
    let settled = |metrics: &super::support::metrics::Metrics| {
        metrics.total("pathflow_exported_packets_total")
            + metrics.total("pathflow_export_dropped_packets_total")
    };
    let before = settled(&probe.metrics());
    TRAFFIC.send(&network.sender);
    probe.wait_until("records are exported or lost", |metrics| settled(metrics) == before + TRAFFIC.packets);
}

/// For how long an outage is to last at least.
fn outage_time() -> Duration {
    let text = std::env::var("PATHFLOW_OUTAGE_SECONDS").unwrap_or_default();
    Duration::from_secs(text.parse().unwrap_or(0))
}

/// Sends traffic for as long as an outage is to last; in how many rounds.
fn outage(network: &Network, probe: &Probe<'_>) -> u64 {
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 2 || start.elapsed() < outage_time() {
        round(network, probe);
        rounds += 1;
    }
    rounds
}

fn probe<'a>(network: &'a Network, configuration: &str) -> Probe<'a> {
    ProbeBuilder::new(&network.router)
        .configuration(configuration)
        .argument("--idle-timeout", "300ms")
        .start()
}

fn export(format: &str, transport: &str) -> String {
    format!(
        "[export]\ncollectors = [\"{COLLECTOR_IPV4}\"]\nformat = \"{format}\"\ntransport = \"{transport}\"\n"
    )
}

fn records(rounds: u64) -> Figure {
    let (packets, octets) = (rounds * TRAFFIC.packets, rounds * TRAFFIC.octets());
    Figure { packets, octets, records: rounds * u64::from(TRAFFIC.flows) }
}

#[test]
fn what_a_firewall_drops_is_what_sequence_numbers_miss() {
    for format in ["ipfix", "netflow-v9", "netflow-v5"] {
        let network = Network::new();
        let reader = datagrams(&network.collector, COLLECTOR_IPV4);
        // Sequence Numbers of IPFIX count options data as well: none are repeated in a long outage.
        let settings = export(format, "udp") + "template_interval = \"1h\"\ntemplate_messages = 1000000\n";
        let probe = probe(&network, &settings);
        round(&network, &probe);
        network.firewall(COLLECTOR_IPV4.port());
        let rounds = outage(&network, &probe);
        let dropped = network.open_firewall();
        round(&network, &probe);
        let report = probe.terminate().report;
        network.datagrams_sent();
        let messages = reader.stop();
        let seen = sequence(&messages);
        // Nobody told the exporter.
        report.assert_complete();
        assert_eq!(report.exported(), records(rounds + 2));
        assert!(dropped > 0);
        if format == "netflow-v9" {
            assert_eq!(seen, Sequence { received: messages.len() as u64, missing: dropped });
            continue;
        }
        assert_eq!(seen.missing, records(rounds).records, "{format}");
        if format == "ipfix" {
            assert_eq!(totals(&messages.concat()), records(2));
        } else {
            assert_eq!(seen.received, records(2).records);
        }
    }
}

#[test]
fn what_a_firewall_rejects_is_lost_by_name() {
    for format in ["ipfix", "netflow-v5"] {
        let network = Network::new();
        network.collector.sysctl("net.ipv4.icmp_ratelimit=0");
        let reader = datagrams(&network.collector, COLLECTOR_IPV4);
        let probe = probe(&network, &export(format, "udp"));
        round(&network, &probe);
        let table = "table inet rejecting { chain input { type filter hook input priority 0; \
                     udp dport 4739 counter reject with icmp type admin-prohibited; }; }";
        output(network.collector.command("nft").arg(table));
        let rounds = outage(&network, &probe);
        output(network.collector.command("nft").arg("delete table inet rejecting"));
        // It is known to be back before anything is at stake. In a format without templates only data tells, and that only
        // if it is sent a second after the last refusal: hosts limit how often they refuse.
        if format == "ipfix" {
            probe.wait_until("it is back", |_| probe.errors().contains("takes messages again"));
        } else {
            std::thread::sleep(TELLING_PAUSE);
        }
        round(&network, &probe);
        let report = probe.terminate().report;
        network.datagrams_sent();
        let messages = reader.stop();
        report.assert_balanced();
        assert_eq!(report.lost(), report.lost_for("collector_refused"), "{}", report.text());
        let (exported, lost) = (report.exported(), report.lost());
        assert_eq!((exported.records, lost.records), (records(2).records, records(rounds).records));
        let seen = sequence(&messages);
        if format == "ipfix" {
            assert_eq!(totals(&messages.concat()), exported);
            assert!(seen.missing >= lost.records, "{seen:?}");
        } else {
            assert_eq!((seen.received, seen.missing), (exported.records, lost.records));
        }
    }
}

#[test]
fn a_collector_that_restarts_costs_what_it_refused() {
    for format in ["ipfix", "netflow-v9", "netflow-v5"] {
        let network = Network::new();
        network.collector.sysctl("net.ipv4.icmp_ratelimit=0");
        let probe = probe(&network, &export(format, "udp"));
        let first = Nfcapd::start(&network, COLLECTOR_IPV4);
        round(&network, &probe);
        let first = first.stop(&network);
        let rounds = outage(&network, &probe);
        let second = Nfcapd::start(&network, COLLECTOR_IPV4);
        if format == "netflow-v5" {
            std::thread::sleep(TELLING_PAUSE);
        }
        round(&network, &probe);
        let report = probe.terminate().report;
        let second = second.stop(&network);
        report.assert_balanced();
        assert_eq!((first.packets(), first.flows.len() as u64), (TRAFFIC.packets, records(1).records));
        assert_eq!((second.packets(), second.octets()), (TRAFFIC.packets, TRAFFIC.octets()));
        assert_eq!(report.exported(), records(2), "{}", report.text());
        assert_eq!(report.lost(), records(rounds));
        assert_eq!(report.lost(), report.lost_for("collector_refused"));
    }
}

/// A firewall ends every connection to the collector, whose host has acknowledged what came before.
#[test]
fn a_connection_that_is_reset_costs_what_was_not_acknowledged() {
    let network = Network::new();
    let reader = connections(&network.collector, COLLECTOR_IPV4, None);
    let probe = probe(&network, &export("ipfix", "tcp"));
    round(&network, &probe);
    let traffic = Traffic { packets: 100_000, random: true, rate: Some(25_000), ..TRAFFIC };
    let mut generator = traffic.start(&network.sender);
    let lost = |metrics: &super::support::metrics::Metrics| {
        metrics.sum("pathflow_export_dropped_packets_total", &[("reason", "connection_lost")])
    };
    for number in 1..=2 {
        let before = lost(&probe.metrics());
        let table = "table inet resetting { chain input { type filter hook input priority 0; \
                     tcp dport 4739 counter reject with tcp reset; }; }";
        output(network.collector.command("nft").arg(table));
        probe.wait_until("a connection is lost", |metrics| lost(metrics) > before);
        output(network.collector.command("nft").arg("delete table inet resetting"));
        probe.wait_until("there is another", |_| probe.errors().matches("connected to").count() > number);
    }
    generator.wait();
    let report = probe.terminate().report;
    let streams = reader.stop();
    report.assert_balanced();
    assert_eq!(report.received().packets, TRAFFIC.packets + traffic.packets);
    assert_eq!(report.lost(), report.lost_for("connection_lost"), "{}", report.text());
    let received: Vec<Figure> = streams.iter().map(|stream| totals(stream)).collect();
    assert_eq!(received.len(), 3);
    let sum = |value: fn(&Figure) -> u64| received.iter().map(value).sum::<u64>();
    let exported = report.exported();
    assert_eq!((sum(|f| f.packets), sum(|f| f.records)), (exported.packets, exported.records));
}

#[test]
fn a_slow_collector_loses_what_its_queue_has_no_room_for_and_another_gets_everything() {
    let network = Network::new();
    // Little room in sockets, so that the queue is what fills.
    network.router.sysctl("net.ipv4.tcp_wmem=4096 16384 16384");
    network.collector.sysctl("net.ipv4.tcp_rmem=4096 16384 16384");
    let other = SocketAddr::new(COLLECTOR_IPV4.ip(), 2055);
    let slow = connections(&network.collector, COLLECTOR_IPV4, Some(1000));
    let nfcapd = Nfcapd::start(&network, other);
    let configuration = format!(
        "{}queue_records = 1024\n[[export.process]]\ncollectors = [\"{other}\"]\ntransport = \"udp\"\n\
         queue_records = 100000\n",
        export("ipfix", "tcp")
    );
    let probe = probe(&network, &configuration);
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 6 || start.elapsed() < outage_time() {
        rounds += 1;
        TRAFFIC.send(&network.sender);
        probe.wait_until("the other has it all", |metrics| {
            let labels = [("destination", "192.0.2.2:2055")];
            metrics.sum("pathflow_exported_packets_total", &labels) == rounds * TRAFFIC.packets
        });
    }
    let report = probe.terminate().report;
    let received = totals(&slow.stop().concat());
    let collected = nfcapd.stop(&network);
    report.assert_balanced();
    assert_eq!(report.figure("ipfix to 192.0.2.2:2055: exported"), records(rounds));
    assert_eq!(
        (collected.packets(), collected.flows.len() as u64),
        (rounds * TRAFFIC.packets, rounds * 1000)
    );
    let lost = |reason: &str| report.figure(&format!("ipfix to {COLLECTOR_IPV4}: lost, {reason}"));
    assert!(lost("queue_full").records > 0, "{}", report.text());
    let exported = report.figure(&format!("ipfix to {COLLECTOR_IPV4}: exported"));
    assert!(exported.records > 0 && exported.records < rounds * 1000);
    assert_eq!(received, exported, "{}", report.text());
    assert_eq!(exported.records + report.lost().records, rounds * 1000, "{}", report.text());
}

#[test]
fn over_tcp_the_second_collector_stands_in_while_the_first_is_away() {
    let network = Network::new();
    let other = SocketAddr::new(COLLECTOR_IPV4.ip(), 2055);
    let configuration = format!(
        "[export]\ndistribution = \"failover\"\ntransport = \"tcp\"\ncollectors = [\"{COLLECTOR_IPV4}\", \"{other}\"]\n"
    );
    let standing_in = connections(&network.collector, other, None);
    let probe = probe(&network, &configuration);
    round(&network, &probe);
    let preferred = connections(&network.collector, COLLECTOR_IPV4, None);
    probe.wait_until("the first is there", |_| {
        probe.errors().contains("connected to collector 192.0.2.2:4739")
    });
    round(&network, &probe);
    // Its host closes the connection when the reader goes.
    let preferred = preferred.stop();
    outage(&network, &probe);
    let again = connections(&network.collector, COLLECTOR_IPV4, None);
    probe.wait_until("the first is back", |_| {
        probe.errors().matches("connected to collector 192.0.2.2:4739").count() == 2
    });
    round(&network, &probe);
    let report = probe.terminate().report;
    report.assert_balanced();
    let received = [preferred, standing_in.stop(), again.stop()].map(|streams| {
        streams.iter().map(|stream| totals(stream)).fold(Figure::default(), |sum, figure| Figure {
            packets: sum.packets + figure.packets,
            octets: sum.octets + figure.octets,
            records: sum.records + figure.records,
        })
    });
    let [first, second, again] = received;
    assert_eq!((first, again), (records(1), records(1)), "{}", report.text());
    let records_of_all = first.records + second.records + again.records;
    assert_eq!(records_of_all, report.exported().records);
    assert_eq!(report.exported().records + report.lost().records, report.made().records);
    assert_eq!(report.lost(), Figure::default(), "{}", report.text());
}
