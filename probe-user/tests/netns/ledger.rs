//! The identities of the ledger, at every scrape and not only at the end.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::support::metrics::Metrics;
use super::support::network::{COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::traffic::Traffic;

const SCRAPING: Duration = Duration::from_secs(10);
const SCRAPES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// Every packet and octet that an interface has received is in exactly one place.
fn assert_received_is_accounted(metrics: &Metrics) {
    for interface in metrics.values_of("pathflow_received_packets_total", "interface") {
        for unit in ["packets", "octets"] {
            let sum = |name: &str| metrics.sum(name, &[("interface", &interface)]);
            let places = [
                sum(&format!("pathflow_recorded_{unit}_total")),
                sum(&format!("pathflow_dropped_{unit}_total")),
                sum(&format!("pathflow_in_kernel_{unit}")),
                sum(&format!("pathflow_in_transit_{unit}")),
                sum(&format!("pathflow_flow_cache_{unit}")),
            ];
            let received = sum(&format!("pathflow_received_{unit}_total"));
            assert_eq!(received, places.iter().sum::<u64>(), "{unit} of {interface}: {places:?}");
        }
    }
}

/// Every record that was made is, for each sink, in exactly one place.
fn assert_recorded_is_accounted(metrics: &Metrics) {
    for (unit, recorded) in [
        ("packets", metrics.total("pathflow_recorded_packets_total")),
        ("octets", metrics.total("pathflow_recorded_octets_total")),
        ("records", metrics.total("pathflow_expired_flows_total")),
    ] {
        for destination in metrics.values_of("pathflow_exported_records_total", "destination") {
            let sum = |name: &str| metrics.sum(name, &[("destination", &destination)]);
            let places = [
                sum(&format!("pathflow_exported_{unit}_total")),
                sum(&format!("pathflow_export_queued_{unit}")),
                sum(&format!("pathflow_export_pending_{unit}")),
                sum(&format!("pathflow_export_dropped_{unit}_total")),
            ];
            assert_eq!(recorded, places.iter().sum::<u64>(), "{unit} to {destination}: {places:?}");
        }
    }
}

fn assert_counters_only_grow(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    for (name, value) in before {
        assert!(
            after.get(name).is_some_and(|later| later >= value),
            "{name}: {value}, {:?}",
            after.get(name)
        );
    }
}

#[test]
fn identities_hold_at_every_scrape_under_load() {
    let network = Network::new();
    network.add_captured_link("veth-send2", "veth-in2");
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    // Three sinks: one that listens, one that does not, and standard output.
    let probe = ProbeBuilder::new(&network.router)
        .argument("--interface", "veth-in2")
        .collector(COLLECTOR_IPV4, "ipfix")
        .argument("--collector", "192.0.2.2:9")
        .argument("--active-timeout", "1s")
        .argument("--idle-timeout", "400ms")
        .configuration("[capture]\nipv4_slots = 1024\nspill_slots = 512\n[export]\nstdout = \"json\"")
        .start();
    // More flows than fit: table, spill log and overflow are all in use.
    let busy = Traffic {
        packets: 100_000_000,
        flows: 5000,
        random: true,
        rate: Some(150_000),
        ..Traffic::default()
    };
    let calm = Traffic {
        flows: 50,
        ipv6: true,
        frame_octets: 300,
        rate: Some(5_000),
        interface: "veth-send2",
        ..busy
    };
    let generators = [busy.start(&network.sender), calm.start(&network.sender)];

    let mut counters = BTreeMap::new();
    let mut scrapes = 0;
    let start = Instant::now();
    while start.elapsed() < SCRAPING || scrapes <= SCRAPES {
        let metrics = probe.metrics();
        assert_received_is_accounted(&metrics);
        assert_recorded_is_accounted(&metrics);
        let now = metrics.counters();
        assert_counters_only_grow(&counters, &now);
        counters = now;
        scrapes += 1;
        thread::sleep(PAUSE);
    }

    // The test means little unless all of this has happened.
    for (name, labels) in [
        ("pathflow_received_packets_total", [("interface", "veth-in")]),
        ("pathflow_received_packets_total", [("interface", "veth-in2")]),
        ("pathflow_spilled_packets_total", [("interface", "veth-in")]),
        ("pathflow_dropped_packets_total", [("reason", "table_overflow")]),
        ("pathflow_expired_flows_total", [("reason", "idle_timeout")]),
        ("pathflow_expired_flows_total", [("reason", "active_timeout")]),
        ("pathflow_exported_records_total", [("destination", "192.0.2.2:4739")]),
        ("pathflow_exported_records_total", [("destination", "stdout")]),
        ("pathflow_export_dropped_records_total", [("reason", "collector_refused")]),
    ] {
        probe.wait_until(name, |metrics| metrics.sum(name, &labels) > 0);
    }

    drop(generators);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let listener = ended.report.figure("ipfix to 192.0.2.2:4739: exported");
    let collected = nfcapd.stop(&network);
    assert_eq!(collected.packets(), listener.packets);
    assert_eq!(collected.flows.len() as u64, listener.records);
    collected.assert_in_sequence();
}
