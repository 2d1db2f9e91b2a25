//! NetFlow v5: all of IPv4 arrives, with the right values, and the rest is lost under a name.

use serde_json::Value;

use super::field_values::{IPV4, frames, milliseconds_of, unix_milliseconds};
use super::support::frames::{Frame, write_capture};
use super::support::metrics::Metrics;
use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::report::Figure;
use super::support::temp_dir::TempDir;
use super::support::traffic::{Traffic, replay};

#[test]
fn ipv4_totals_are_equal_and_ipv6_is_lost_by_name() {
    let network = Network::new();
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router)
        .collector(COLLECTOR_IPV4, "netflow-v5")
        .argument("--idle-timeout", "300ms")
        .start();
    let ipv4 = Traffic { packets: 30_000, flows: 500, frame_octets: 200, ..Traffic::default() };
    let ipv6 = Traffic { packets: 7000, flows: 70, ipv6: true, frame_octets: 300, ..Traffic::default() };
    for traffic in [ipv4, ipv6] {
        traffic.send(&network.sender);
    }
    let is_done = [ipv4.packets, ipv6.packets];
    let metrics = probe.wait_until("all records exported or lost", |metrics| {
        let dropped = metrics.total("pathflow_export_dropped_packets_total");
        [metrics.total("pathflow_exported_packets_total"), dropped] == is_done
    });
    let ended = probe.terminate();
    let collected = nfcapd.stop(&network);

    let reason = [("format", "netflow-v5"), ("reason", "format_cannot_carry_ipv6")];
    let dropped = |unit: &str| metrics.sum(&format!("pathflow_export_dropped_{unit}_total"), &reason);
    let lost = Figure { packets: ipv6.packets, octets: ipv6.octets(), records: dropped("records") };
    assert!(lost.records >= 70, "{lost:?}");
    assert_eq!((dropped("packets"), dropped("octets")), (lost.packets, lost.octets));
    for reason in ["as_number_over_16_bits", "counters_over_32_bits", "flow_time_out_of_range"] {
        let labels = [("format", "netflow-v5"), ("reason", reason)];
        assert_eq!(metrics.sum("pathflow_export_limited_records_total", &labels), 0, "{reason}");
    }
    let report = &ended.report;
    report.assert_balanced();
    assert_eq!(report.lost(), lost);
    assert_eq!(report.lost_for("format_cannot_carry_ipv6"), lost);
    let exported = report.exported();
    assert_eq!((exported.packets, exported.octets), (ipv4.packets, ipv4.octets()));
    assert_eq!((collected.packets(), collected.octets()), (ipv4.packets, ipv4.octets()));
    assert_eq!(collected.flows.len() as u64, exported.records);
    collected.assert_in_sequence();
    let said = report.text().matches("counted as format_cannot_carry_ipv6").count();
    assert_eq!(said, 1, "{}", report.text());
}

#[test]
fn records_have_the_right_values() {
    let network = Network::new();
    let directory = TempDir::new();
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router).collector(COLLECTOR_IPV4, "netflow-v5").start();
    let frames = frames(IPV4[0], IPV4[1]);
    let file = directory.file("frames.pcap");
    write_capture(&file, &frames);

    let start = unix_milliseconds();
    replay(&network.sender, &file, frames.len());
    let end = unix_milliseconds();
    probe.terminate().report.assert_complete();
    let collected = nfcapd.stop(&network);
    collected.assert_in_sequence();
    assert_eq!(collected.flows.len(), 3);

    let is = |flow: &Value, key: &str, value: Value| assert_eq!(flow[key], value, "{key} of {flow:#}");
    for flow in &collected.flows {
        is(flow, "src4_addr", IPV4[0].into());
        is(flow, "dst4_addr", IPV4[1].into());
        is(flow, "src_tos", 0xb8.into());
        is(flow, "input_snmp", network.router.link(CAPTURED)["ifindex"].clone());
        is(flow, "output_snmp", 0.into());
        is(flow, "sampled", 0.into());
        let [first, last] =
            ["first", "last"].map(|key| milliseconds_of(&format!("{}Z", flow[key].as_str().unwrap())));
        assert!(first <= last, "{flow:#}");
        // Times are of the kernel's tick, 10 ms at most; a clock may be adjusted by as much.
        assert!(first + 20 >= start && last <= end + 20, "{start} to {end}: {flow:#}");
    }
    let octets = |frames: &[Frame]| frames.iter().map(Frame::ip_octets).sum::<u64>();
    for (protocol, packets, octets, more) in [
        (6, 2, octets(&frames[..2]), [("src_port", 49_152), ("dst_port", 443)]),
        (17, 1, octets(&frames[2..3]), [("src_port", 5353), ("dst_port", 53)]),
        (1, 1, octets(&frames[3..]), [("icmp_type", 3), ("icmp_code", 3)]),
    ] {
        let flow =
            collected.flows.iter().find(|flow| flow["proto"] == protocol).expect("flow of the protocol");
        is(flow, "in_packets", packets.into());
        is(flow, "in_bytes", octets.into());
        for (key, value) in more {
            is(flow, key, value.into());
        }
    }
}

/// There are no templates to ask with whether the collector is back; data says so.
#[test]
fn a_collector_that_comes_up_late_gets_everything_from_then_on() {
    let network = Network::new();
    // Every datagram to the closed port is answered.
    network.collector.sysctl("net.ipv4.icmp_ratelimit=0");
    let probe = ProbeBuilder::new(&network.router)
        .collector(COLLECTOR_IPV4, "netflow-v5")
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
    let sent = |metrics: &Metrics| {
        let exported = metrics.total("pathflow_exported_packets_total");
        (exported, exported + metrics.total("pathflow_export_pending_packets"))
    };
    let mut rounds = 0;
    let mut exported = 0;
    while exported == 0 {
        assert!(rounds < 30, "{:?}", probe.metrics());
        rounds += 1;
        traffic.send(&network.sender);
        let metrics = probe.wait_until("records sent", |metrics| sent(metrics).1 == rounds * traffic.packets);
        exported = sent(&metrics).0;
    }
    let ended = probe.terminate();
    let collected = nfcapd.stop(&network);

    let report = &ended.report;
    report.assert_balanced();
    assert_eq!(report.exported().packets, rounds * traffic.packets);
    assert_eq!(report.lost(), report.lost_for("collector_refused"));
    assert_eq!(report.lost().packets, 2 * traffic.packets);
    assert_eq!(
        (collected.packets(), collected.flows.len() as u64),
        (report.exported().packets, report.exported().records)
    );
    collected.assert_in_sequence();
    let text = report.text();
    assert!(text.contains("refuses messages") && text.contains("takes messages again"), "{text}");
}
