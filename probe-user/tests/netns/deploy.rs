//! What is in `deploy` fits what the daemon writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pathflow::aggregate::Primitive;
use serde_json::Value;

use super::bgp;
use super::support::bird::Bird;
use super::support::probe::{ProbeBuilder, daemon};
use super::support::routed::{LEFT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::tool::output;

/// Where the test's datagrams go.
const PORT: u16 = 4242;

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).unwrap()
}

/// The tables of `deploy/clickhouse`, filled with what is in Kafka. Their engine is the same program as the server's, but
/// without Kafka: the messages are inserted by hand.
#[test]
fn clickhouse_has_the_sums() {
    let routed = Routed::new();
    let bird = Bird::start(&routed.router, bgp::CONFIGURATION);
    let directory = TempDir::new();
    let out = directory.file("rows.json");
    let configuration = format!(
        "[capture]\ninterfaces = [\"left\"]\n[[aggregate]]\nname = \"acct\"\nkey = [\"src_host\", \"dst_host\", \
         \"dst_port\", \"src_as\", \"dst_as\", \"as_path\", \"std_comm\", \"proto\", \"tcpflags\", \"peer_dst_ip\", \
         \"timestamp_start\"]\nrefresh = \"1s\"\nhistory = \"1m\"\nutc = true\n[aggregate.file]\npath = \"{}\"\n\
         append = true\n{}",
        out.display(),
        bgp::settings(&directory, "local_as = 397143\n"),
    );
    let probe = ProbeBuilder::configured(&routed.router).configuration(&configuration).start();
    bird.wait_until_established();
    bgp::wait_for_routes(&probe, 6);
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 25);
    probe.wait_until("rows are written", |metrics| {
        metrics.total("pathflow_aggregate_output_delivered_packets_total") >= 25
    });
    probe.terminate().report.assert_balanced();

    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/netns/clickhouse.py");
    let chdb = std::env::var_os("PATHFLOW_CHDB")
        .expect("PATHFLOW_CHDB names the folder that `cargo xtask clickhouse` prints");
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", chdb).arg(program).arg(deploy("clickhouse")).arg(&out);
    let answers = output(&mut command);
    let answers: Value = serde_json::from_str(&answers).unwrap();
    // The client's interface alone is captured, and only what comes in.
    let expected = serde_json::json!([[
        "198.51.100",
        397_143,
        60_729,
        ["6939", "3356", "60729"],
        ["6939:100", "no-export"],
        25,
        25 * 128
    ]]);
    assert_eq!(answers["flows"], expected, "{}", fs::read_to_string(&out).unwrap());
    assert_eq!(answers["as_traffic"], serde_json::json!([[397_143, 60_729, 25, 25 * 128]]));
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let settings = bgp::settings(&directory, "").replace("wait_for_rib = \"30s\"\n", "");
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .configuration(&format!(
            "[export]\ncollectors = [\"127.0.0.1:4739\"]\n{settings}\n[[aggregate]]\nname = \"lost\"\nrefresh = \"1s\"\n\
             [aggregate.file]\npath = \"/dev/full\"\n\n[bgp.message_log.kafka]\nbrokers = [\"127.0.0.1:1\"]\n\
             topic = \"log\"\nspool = \"{}\"\n",
            directory.file("spool").display()
        ))
        .start();
    let bird = Bird::start(&routed.router, bgp::CONFIGURATION);
    bird.wait_until_established();
    bgp::wait_for_routes(&probe, 6);
    let metrics = probe.metrics();
    let text = read("prometheus/alerts.yml") + &read("grafana/pathflow.json");
    let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
    let names: BTreeSet<&str> =
        text.split(|character| !is_name(character)).filter(|word| word.starts_with("pathflow_")).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(metrics.declares(name), "{name}");
    }
    drop(probe);
}

#[test]
fn ingestion_specs_name_keys_that_there_are() {
    let flows: Value = serde_json::from_str(&read("druid/flows.json")).unwrap();
    let dimensions = flows["spec"]["dataSchema"]["dimensionsSpec"]["dimensions"].as_array().unwrap();
    let keys: Vec<&str> = Primitive::ALL.iter().map(|primitive| primitive.json_key()).collect();
    assert!(dimensions.len() > 30);
    for dimension in dimensions {
        let name = dimension.as_str().or_else(|| dimension["name"].as_str()).unwrap();
        assert!(keys.contains(&name), "{name}");
    }
    let routes: Value = serde_json::from_str(&read("druid/bgp.json")).unwrap();
    assert_eq!(routes["spec"]["dataSchema"]["timestampSpec"]["column"], "timestamp");
}

/// What systemd tries again is what time may mend, and nothing else.
#[test]
fn the_unit_tries_again_what_may_pass() {
    let unit = read("systemd/pathflow.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    assert_eq!(value("Restart"), Some("on-failure"));
    let is_tried_again = |collector: &str| {
        let output = Command::new(daemon()).args(["run", "--collector", collector]).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.starts_with("pathflow: --collector") && errors.lines().count() == 1, "{errors}");
        let code = output.status.code().unwrap().to_string();
        !value("RestartPreventExitStatus").unwrap().split_whitespace().any(|status| status == code)
    };
    // RFC 6761, section 6.4: there is no such host.
    assert!(is_tried_again("collector.invalid:4739"));
    assert!(!is_tried_again("192.0.2.1:port"));
    assert_eq!(value("ExecStartPre"), None, "its status is not looked at");
}
