//! From the wire to Kafka in Avro, with a real registry, and read by fastavro.

use std::fs;

use serde_json::Value;

use super::kafka::{PORT, Sums, sums};
use super::support::kafka::{BROKER, Kafka};
use super::support::probe::{Probe, ProbeBuilder};
use super::support::registry::{REGISTRY, Registry, SECURE_REGISTRY, read};
use super::support::routed::{CLIENT, Routed, SERVER};
use super::support::stream::Certificate;
use super::support::temp_dir::TempDir;

/// Numbers, texts, addresses, a list, and what is not a part of the key.
const KEY: &str = "[\"label\", \"src_mac\", \"etype\", \"in_iface\", \"src_host\", \"dst_host\", \"src_port\", \
                   \"dst_port\", \"tcpflags\", \"proto\", \"tos\", \"flows\"]";

fn aggregate(directory: &TempDir, name: &str, more: &str) -> String {
    format!(
        "[[aggregate]]\nname = \"{name}\"\nkey = {KEY}\nfilter = \"udp port {PORT}\"\nrefresh = \"1s\"\n\
         history = \"1h\"\n[aggregate.format]\ntcp_flags = \"array\"\nlabel_as_map = true\n[aggregate.kafka]\n\
         brokers = [\"{BROKER}\"]\ntopic = \"{name}\"\nspool = \"{}\"\n{more}",
        directory.file("spool").display()
    )
}

fn delivered(probe: &Probe<'_>, packets: u64) {
    probe.wait_until("packets are in Kafka", |metrics| {
        metrics.total("pathflow_aggregate_output_delivered_packets_total") >= packets
    });
}

/// Rows without what differs from output to output, in an order of their own.
fn comparable(rows: impl Iterator<Item = Value>) -> Vec<String> {
    let row = |mut row: Value| {
        row.as_object_mut().unwrap().retain(|key, _| key != "event_type" && key != "writer_id");
        row.to_string()
    };
    let mut rows: Vec<String> = rows.map(row).collect();
    rows.sort();
    rows
}

#[test]
fn rows_in_avro_are_those_in_json() {
    let routed = Routed::new();
    let kafka = Kafka::start(&routed.router);
    let certificate = Certificate::new("IP:127.0.0.1");
    let registry = Registry::start(&routed.router, Some(&certificate));
    let directory = TempDir::new();
    let schema = directory.file("schemas/plain.avsc");
    let map = directory.file("tags.map");
    fs::write(&map, "set_label=site%ams,rack%7 filter='udp'\n").unwrap();
    let avro = |more: &str| format!("format = \"avro\"\n{more}");
    let by_tls = avro(&format!(
        "schema_registry = \"{SECURE_REGISTRY}\"\nschema_registry_ca_file = \"{}\"\nmarkers = true\n",
        certificate.file().display()
    ));
    let plain = avro(&format!("schema_file = \"{}\"\nmessage_octets = 600\n", schema.display()));
    let configuration =
        format!("[capture]\ninterfaces = [\"left\"]\n[enrich]\ntag_map = \"{}\"\n", map.display())
            + &aggregate(&directory, "json", "")
            + &aggregate(&directory, "registered", &by_tls)
            + &aggregate(&directory, "plain", &plain);
    let probe = ProbeBuilder::configured(&routed.router).configuration(&configuration).start();
    for round in 1..=3 {
        // Each socket has a port of its own.
        for _ in 0..5 {
            Routed::send(&routed.client, (SERVER[0], PORT), 100, 4);
        }
        Routed::send(&routed.client, (SERVER[1], PORT), 100, 4);
        delivered(&probe, round * 3 * 24);
    }
    probe.terminate().report.assert_balanced();

    let messages = kafka.messages("json");
    let json = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let json = comparable(json);
    assert!(json.len() >= 18 && json[0].contains(r#""label":{"rack":"7","site":"ams"}"#), "{json:?}");

    let plain = read(&routed.router, &kafka.octets("plain"), schema.to_str().unwrap(), false);
    assert!(plain.iter().all(|(record, _)| record == "acct_data"));
    assert_eq!(comparable(plain.into_iter().map(|(_, row)| row)), json);

    let registered = read(&routed.router, &kafka.octets("registered"), REGISTRY, true);
    let rows = registered.iter().filter(|(record, _)| record == "acct_data").map(|(_, row)| row.clone());
    assert_eq!(comparable(rows), json);
    let of = |name: &str| registered.iter().filter(|(record, _)| record == name).count();
    let entries = registered.iter().filter(|(record, _)| record == "acct_close");
    let entries: u64 = entries.map(|(_, marker)| marker["total_entries"].as_u64().unwrap()).sum();
    assert_eq!((of("acct_init"), entries), (of("acct_close"), json.len() as u64));
    assert!(of("acct_init") >= 3);
    assert_eq!(registry.subjects(), ["registered-acct_close", "registered-acct_init", "registered-value"]);
}

/// The daemon begins without its registry; what it has counted meanwhile waits, and is there when the registry is. The
/// next run does not need it.
#[test]
fn rows_wait_for_a_registry_that_is_away() {
    let routed = Routed::new();
    let kafka = Kafka::start(&routed.router);
    let directory = TempDir::new();
    let schema = directory.file("acct.avsc");
    let avro = format!(
        "format = \"avro\"\nschema_registry = \"{REGISTRY}\"\nschema_file = \"{}\"\n",
        schema.display()
    );
    let configuration =
        "[capture]\ninterfaces = [\"left\"]\n".to_owned() + &aggregate(&directory, "acct", &avro);
    let start =
        |configuration: &str| ProbeBuilder::configured(&routed.router).configuration(configuration).start();
    let waiting = |probe: &Probe<'_>, packets: u64| {
        probe.wait_until("rows wait", |metrics| {
            let reason = [("reason", "schema_registry")];
            metrics.total("pathflow_aggregate_output_waiting_packets") == packets
                && metrics.sum("pathflow_aggregate_output_errors_total", &reason) > 0
        });
    };
    let probe = start(&configuration);
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 10);
    waiting(&probe, 10);
    assert!(probe.errors().contains(&format!("schema registry {REGISTRY}: ")), "{}", probe.errors());
    let registry = Registry::start(&routed.router, None);
    delivered(&probe, 10);
    probe.terminate().report.assert_balanced();
    assert_eq!(registry.subjects(), ["acct-value"]);
    drop(registry);

    // The id is known.
    let probe = start(&configuration);
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 20);
    delivered(&probe, 20);
    probe.terminate().report.assert_balanced();
    let rows = read(&routed.router, &kafka.octets("acct"), schema.to_str().unwrap(), true);
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    let flow = (CLIENT[0].to_owned(), SERVER[0].to_owned());
    assert_eq!(sums(&rows), Sums::from([(flow, (30, 30 * 128))]));

    // That of another key is not.
    let probe = start(&configuration.replace("\"tos\", ", ""));
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 30);
    waiting(&probe, 30);
    let report = probe.terminate().report;
    report.assert_balanced();
    let lost = format!("aggregate acct: lost to kafka {BROKER}/acct, schema_not_registered");
    assert_eq!(report.figure(&lost).packets, 30, "{}", report.text());
}
