//! Aggregates of the running daemon.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::support::json::{flows, sum};
use super::support::network::Network;
use super::support::probe::ProbeBuilder;
use super::support::report::Figure;
use super::support::traffic::Traffic;

/// Traffic over the ends of several bins: nothing is lost, and the sum over bins is the ledger's.
#[test]
fn the_sum_over_bins_is_the_ledger() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(
            "[[aggregate]]\nname = \"bins\"\nkey = [\"src_host\", \"dst_host\", \"proto\", \"in_iface_name\"]\n\
             history = \"2s\"\nrefresh = \"1s\"\nutc = true\n[aggregate.stdout]\n",
        )
        .start();
    let traffic = Traffic { packets: 300_000, flows: 1000, rate: Some(60_000), ..Traffic::default() };
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    traffic.send(&network.sender);
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(end > start + Duration::from_secs(4), "the traffic is to be in three bins");
    let metrics = probe.wait_until("all packets in rows that are written", |metrics| {
        metrics.total("pathflow_aggregate_output_delivered_packets_total") >= traffic.packets
    });
    assert_eq!(metrics.total("pathflow_aggregate_offered_packets_total"), traffic.packets);
    assert_eq!(metrics.total("pathflow_aggregate_lost_packets_total"), 0);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let offered = ended.report.figure("aggregate bins");
    assert_eq!((offered.packets, offered.octets), (traffic.packets, traffic.octets()));
    assert_eq!(ended.report.lost(), Figure::default());

    let rows = flows(&ended.output);
    assert_eq!(sum(&rows, "packets"), traffic.packets);
    assert_eq!(sum(&rows, "bytes"), traffic.octets());
    assert!(rows.iter().all(|row| row["iface_name_in"] == "veth-in"), "{:#}", rows[0]);
    let mut bins: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        *bins.entry(row["stamp_inserted"].to_string()).or_default() += row["packets"].as_u64().unwrap();
    }
    assert!(bins.len() >= 3, "{bins:?}");
    // Bins between the first and the last one have two seconds of even traffic.
    let inner: Vec<u64> = bins.values().copied().skip(1).take(bins.len() - 2).collect();
    assert!(inner.iter().all(|packets| packets.abs_diff(120_000) < 60_000), "{bins:?}");
}

/// A table that is too small is written early; with many purges, nothing is lost.
#[test]
fn a_small_table_is_purged_early() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(
            "[[aggregate]]\nname = \"small\"\nkey = [\"src_host\", \"src_port\"]\nmax_entries = 500\n\
             [aggregate.stdout]\n",
        )
        .start();
    let traffic = Traffic { packets: 20_000, flows: 5000, rate: Some(20_000), ..Traffic::default() };
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let rows = flows(&ended.output);
    let lost = ended.report.lost_for("table_full");
    assert_eq!(sum(&rows, "packets") + lost.packets, traffic.packets);
    assert_eq!(sum(&rows, "bytes") + lost.octets, traffic.octets());
    assert!(rows.len() > 500, "{} rows", rows.len());
}
