//! Export over TCP and TLS: totals, and what outages of the collector cost.

use super::support::network::{COLLECTING, COLLECTOR_IPV4, COLLECTOR_IPV6, Network};
use super::support::probe::{ProbeBuilder, daemon, refusal};
use super::support::report::Figure;
use super::support::stream::{Certificate, OpenSsl, accept, listen, totals};
use super::support::temp_dir::TempDir;
use super::support::traffic::Traffic;

const TCP: &str = "[export]\ntransport = \"tcp\"\n";

/// What was sent, as the report says it.
fn figure(traffic: &Traffic, flows: u64) -> Figure {
    Figure { packets: traffic.packets, octets: traffic.octets(), records: flows }
}

#[test]
fn totals_over_tcp_equal_what_was_sent_for_each_family() {
    let network = Network::new();
    for (collector, ipv6) in [(COLLECTOR_IPV4, false), (COLLECTOR_IPV6, true)] {
        let traffic = Traffic { packets: 30_000, flows: 500, ipv6, frame_octets: 200, ..Traffic::default() };
        let listener = listen(&network.collector, collector);
        let stream = accept(&listener, u64::MAX);
        let probe = ProbeBuilder::new(&network.router)
            .configuration(TCP)
            .argument("--collector", &collector.to_string())
            .start();
        traffic.send(&network.sender);
        let ended = probe.terminate();
        ended.report.assert_complete();
        assert_eq!(ended.report.exported(), figure(&traffic, 500));
        assert_eq!(totals(&stream.join().unwrap()), figure(&traffic, 500));
    }
}

#[test]
fn totals_over_tls_equal_what_was_sent_with_a_certificate_on_either_side() {
    let network = Network::new();
    let (collectors, exporters) = (Certificate::new("IP:192.0.2.2"), Certificate::new("DNS:exporter.test"));
    let traffic = Traffic { packets: 30_000, flows: 500, frame_octets: 200, ..Traffic::default() };
    let openssl = OpenSsl::start(&network.collector, COLLECTOR_IPV4, &collectors, &exporters);
    let configuration = format!(
        "[export]\ntransport = \"tls\"\nca_file = {:?}\ncertificate_file = {:?}\nkey_file = {:?}\n",
        collectors.file(),
        exporters.file(),
        exporters.key()
    );
    let probe = ProbeBuilder::new(&network.router)
        .configuration(&configuration)
        .argument("--collector", &COLLECTOR_IPV4.to_string())
        .start();
    traffic.send(&network.sender);
    let ended = probe.terminate();
    assert_eq!(ended.report.lost(), Figure::default(), "{}{}", ended.report.text(), openssl.errors());
    ended.report.assert_complete();
    assert_eq!(totals(&openssl.received()), figure(&traffic, 500));
}

#[test]
fn a_collector_with_the_wrong_name_or_authority_gets_nothing_and_that_is_said_once() {
    let network = Network::new();
    let (right, wrong) = (Certificate::new("IP:192.0.2.2"), Certificate::new("IP:192.0.2.3"));
    let traffic = Traffic::default();
    for (trusted, reason) in
        [(&wrong, "certificate not valid for name"), (&right, "invalid peer certificate")]
    {
        let openssl = OpenSsl::start(&network.collector, COLLECTOR_IPV4, &wrong, &right);
        let configuration = format!("[export]\ntransport = \"tls\"\nca_file = {:?}\n", trusted.file());
        let mut probe = ProbeBuilder::new(&network.router)
            .configuration(&configuration)
            .argument("--collector", &COLLECTOR_IPV4.to_string())
            .argument("--idle-timeout", "300ms")
            .start();
        probe.process().wait_for_message(reason);
        traffic.send(&network.sender);
        assert!(openssl.received().is_empty());
        let ended = probe.terminate();
        ended.report.assert_balanced();
        assert_eq!(ended.report.lost_for("not_connected").packets, traffic.packets);
        assert_eq!(ended.report.exported(), Figure::default());
        let text = ended.report.text();
        assert_eq!(text.matches(reason).count(), 1, "{text}");
    }
}

#[test]
fn records_wait_for_a_collector_that_comes_up_late() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(TCP)
        .argument("--collector", &COLLECTOR_IPV4.to_string())
        .argument("--idle-timeout", "300ms")
        .start();
    let traffic = Traffic { packets: 20_000, flows: 1000, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.wait_until("records wait", |metrics| metrics.total("pathflow_export_queued_packets") > 0);
    let listener = listen(&network.collector, COLLECTOR_IPV4);
    let stream = accept(&listener, u64::MAX);
    probe.wait_until("records exported", |metrics| {
        metrics.total("pathflow_exported_packets_total") == traffic.packets
    });
    let ended = probe.terminate();
    ended.report.assert_complete();
    let received = totals(&stream.join().unwrap());
    assert_eq!(received, ended.report.exported());
    let text = ended.report.text();
    assert_eq!(text.matches("no connection to collector").count(), 1, "{text}");
}

#[test]
fn a_collector_that_restarts_in_mid_traffic_costs_what_is_counted() {
    let network = Network::new();
    let listener = listen(&network.collector, COLLECTOR_IPV4);
    let first = accept(&listener, 200_000);
    let probe = ProbeBuilder::new(&network.router)
        .configuration(TCP)
        .argument("--collector", &COLLECTOR_IPV4.to_string())
        .argument("--active-timeout", "300ms")
        .start();
    let traffic =
        Traffic { packets: 150_000, flows: 1000, random: true, rate: Some(30_000), ..Traffic::default() };
    let mut generator = traffic.start(&network.sender);
    let first = first.join().unwrap();
    // Nobody listens for a while.
    drop(listener);
    let listener = listen(&network.collector, COLLECTOR_IPV4);
    let second = accept(&listener, u64::MAX);
    generator.wait();
    let ended = probe.terminate();
    let report = &ended.report;
    report.assert_balanced();
    assert_eq!((report.received().packets, report.dropped().packets), (traffic.packets, 0));
    let (first, second) = (totals(&first), totals(&second.join().unwrap()));
    assert!(first.records > 0 && second.records > 0, "{first:?} {second:?}");
    assert_eq!(report.lost(), report.lost_for("connection_lost"));
    assert_eq!(first.packets + second.packets, report.exported().packets, "{}", report.text());
    assert_eq!(first.records + second.records, report.exported().records);
    assert_eq!(report.exported().records + report.lost().records, report.made().records);
}

#[test]
fn a_collector_that_is_cut_off_costs_what_is_counted() {
    let network = Network::new();
    let listener = listen(&network.collector, COLLECTOR_IPV4);
    let stream = accept(&listener, u64::MAX);
    let probe = ProbeBuilder::new(&network.router)
        .configuration(TCP)
        .argument("--collector", &COLLECTOR_IPV4.to_string())
        .argument("--idle-timeout", "300ms")
        .start();
    let traffic = Traffic { packets: 20_000, flows: 1000, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.wait_until("acknowledged", |metrics| {
        metrics.total("pathflow_exported_packets_total") == traffic.packets
    });
    network.collector.ip(&format!("link set {COLLECTING} down"));
    traffic.send(&network.sender);
    probe.wait_until("sent into the void", |metrics| {
        metrics.total("pathflow_export_pending_packets") == traffic.packets
    });
    let ended = probe.terminate();
    let report = &ended.report;
    report.assert_balanced();
    assert_eq!(report.exported(), figure(&traffic, 1000), "{}", report.text());
    assert_eq!(report.lost_for("connection_lost").packets, traffic.packets);
    assert_eq!(report.lost(), report.lost_for("connection_lost"));
    // What is counted as lost does not arrive later.
    network.collector.ip(&format!("link set {COLLECTING} up"));
    drop(listener);
    drop(network);
    assert_eq!(totals(&stream.join().unwrap()), report.exported());
}

#[test]
fn a_collector_that_never_reads_stops_nothing_and_the_end_counts_what_is_left() {
    let network = Network::new();
    let listener = listen(&network.collector, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router)
        .configuration(&format!("{TCP}queue_records = 4096\n[flow]\nidle_timeout = \"200ms\"\n"))
        .argument("--collector", &COLLECTOR_IPV4.to_string())
        .start();
    // The system takes the connection; nobody reads. Records until sockets and queue have no more room, at a rate that
    // the kernel's tables have room for. It is over before the connection is given up, which is after 30 s without
    // progress: another one would have room again.
    let traffic = Traffic { packets: 20_000, flows: 20_000, rate: Some(50_000), ..Traffic::default() };
    let is_full = || {
        let reason = [("reason", "queue_full")];
        probe.metrics().sum("pathflow_export_dropped_packets_total", &reason) > 0
    };
    let mut rounds = 0;
    while !is_full() {
        traffic.send(&network.sender);
        rounds += 1;
        probe.wait_until("records are made", |metrics| {
            metrics.total("pathflow_expired_flows_total") == rounds * traffic.packets
        });
    }
    traffic.send(&network.sender);
    rounds += 1;
    let ended = probe.terminate();
    drop(listener);
    let report = &ended.report;
    report.assert_balanced();
    assert_eq!((report.received().packets, report.dropped().packets), (rounds * traffic.packets, 0));
    assert_eq!(report.exported().records + report.lost().records, report.made().records);
    for reason in ["queue_full", "connection_lost", "not_connected"] {
        assert!(report.lost_for(reason).records > 0, "{reason}: {}", report.text());
    }
}

#[test]
fn files_and_formats_that_cannot_be_are_refused_by_key() {
    let directory = TempDir::new();
    let file = directory.file("probe.toml");
    let ours = Certificate::new("DNS:exporter.test");
    let theirs = Certificate::new("DNS:collector.test");
    let tls = format!("transport = \"tls\"\nca_file = {:?}\n", ours.file());
    for (text, parts) in [
        ("transport = \"tcp\"\nformat = \"netflow-v9\"\n".to_owned(), ["export.format: ", "udp"]),
        ("transport = \"tls\"\n".to_owned(), ["export.ca_file: ", "is needed"]),
        ("ca_file = \"/ca.pem\"\n".to_owned(), ["export.ca_file: ", "only with transport"]),
        (
            "transport = \"tls\"\nca_file = \"/missing.pem\"\n".to_owned(),
            ["export.ca_file: \"/missing.pem\" cannot be used", "No such file or directory"],
        ),
        (format!("{tls}certificate_file = {:?}\n", ours.file()), ["export.certificate_file: ", "key_file"]),
        (
            format!("{tls}certificate_file = {:?}\nkey_file = {:?}\n", ours.file(), theirs.key()),
            ["export.key_file: ", "it is not the key of the certificate in"],
        ),
        (format!("{tls}server_name = \"not a name\"\n"), ["\"not a name\"", "neither a host name"]),
    ] {
        let collectors = "collectors = [\"192.0.2.2:4739\"]\n";
        std::fs::write(&file, format!("[export]\n{collectors}{text}")).unwrap();
        let mut check = std::process::Command::new(daemon());
        let mut run = std::process::Command::new(daemon());
        for command in [check.arg("check").arg(&file), run.args(["run", "-i", "lo", "-c"]).arg(&file)] {
            let message = refusal(command);
            for part in parts {
                assert!(message.contains(part), "no {part:?} in {message}");
            }
            assert!(message.contains("probe.toml:"), "{message}");
        }
    }
}
