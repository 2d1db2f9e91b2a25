//! A broker that asks who is there: TLS, SASL, and who may write what.

use std::thread;
use std::time::Duration;

use super::support::kafka::{GUEST, Kafka, PLAIN_USER, SASL, SCRAM_USER, TLS};
use super::support::probe::{Probe, ProbeBuilder};
use super::support::routed::{Routed, SERVER};
use super::support::stream::Certificate;
use super::support::temp_dir::TempDir;
use super::support::wait_for;

/// Where the test's datagrams go.
const PORT: u16 = 4242;
/// Subject of every [`Certificate`], as Kafka has it.
const SUBJECT: &str = "CN=pathflow test";

/// Certificates of broker and probe, and folders.
struct Parts {
    broker: Certificate,
    probe: Certificate,
    directory: TempDir,
}

impl Parts {
    fn new() -> Self {
        let broker = Certificate::new("IP:127.0.0.1");
        Self { broker, probe: Certificate::new("DNS:probe.test"), directory: TempDir::new() }
    }

    /// An aggregate with the topic and the name `name`.
    fn aggregate(&self, name: &str, broker: &str, properties: &[(&str, &str)]) -> String {
        let properties = properties.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"\n"));
        format!(
            "[[aggregate]]\nname = \"{name}\"\nkey = [\"src_host\", \"dst_port\"]\nrefresh = \"1s\"\n\
             filter = \"udp and dst port {PORT}\"\n[aggregate.kafka]\nbrokers = [\"{broker}\"]\ntopic = \"{name}\"\n\
             spool = \"{}\"\n[aggregate.kafka.properties]\n{}",
            self.directory.file("spool").display(),
            properties.collect::<String>(),
        )
    }

    /// By TLS, which trusts this certificate.
    fn by_tls(&self, name: &str, broker: &str, authority: &Certificate) -> String {
        let [authority, own, key] = [authority.file(), self.probe.file(), self.probe.key()];
        let properties = [
            ("security.protocol", "ssl"),
            ("ssl.ca.location", authority.to_str().unwrap()),
            ("ssl.certificate.location", own.to_str().unwrap()),
            ("ssl.key.location", key.to_str().unwrap()),
        ];
        self.aggregate(name, broker, &properties)
    }

    /// By a user's name and password.
    fn by_sasl(&self, name: &str, mechanism: &str, [user, password]: [&str; 2]) -> String {
        let properties = [
            ("security.protocol", "sasl_ssl"),
            ("ssl.ca.location", self.broker.file().to_str().unwrap()),
            ("sasl.mechanism", mechanism),
            ("sasl.username", user),
            ("sasl.password", password),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let properties = properties.each_ref().map(|(name, value)| (*name, value.as_str()));
        self.aggregate(name, SASL, &properties)
    }
}

fn start<'a>(routed: &'a Routed, aggregates: &[String]) -> Probe<'a> {
    let configuration = "[capture]\ninterfaces = [\"left\"]\n".to_owned() + &aggregates.concat();
    ProbeBuilder::configured(&routed.router).configuration(&configuration).start()
}

fn of(probe: &Probe<'_>, what: &str, name: &str) -> u64 {
    probe.metrics().sum(&format!("pathflow_aggregate_output_{what}"), &[("aggregate", name)])
}

fn delivered(probe: &Probe<'_>, name: &str, packets: u64) {
    probe.wait_until(&format!("packets are in the topic {name}"), |metrics| {
        let labels = [("aggregate", name)];
        metrics.sum("pathflow_aggregate_output_delivered_packets_total", &labels) >= packets
    });
}

fn packets(kafka: &Kafka<'_>, topic: &str) -> u64 {
    let messages = kafka.messages(topic);
    let rows = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.map(|row| row["packets"].as_u64().unwrap()).sum()
}

#[test]
fn every_guarded_listener_takes_what_is_sent() {
    let routed = Routed::new();
    let parts = Parts::new();
    let kafka = Kafka::guarded(&routed.router, &parts.broker, &parts.probe);
    for user in [SUBJECT, SCRAM_USER[0], PLAIN_USER[0]] {
        kafka.allow(user, "by-");
    }
    let aggregates = [
        parts.by_tls("by-tls", TLS, &parts.broker),
        parts.by_sasl("by-scram", "SCRAM-SHA-256", SCRAM_USER),
        parts.by_sasl("by-plain", "PLAIN", PLAIN_USER),
    ];
    let probe = start(&routed, &aggregates);
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 20);
    for topic in ["by-tls", "by-scram", "by-plain"] {
        delivered(&probe, topic, 20);
        assert_eq!(packets(&kafka, topic), 20, "{topic}");
    }
    let ended = probe.terminate();
    ended.report.assert_balanced();
    // A busy machine may take its time for the first connection, which is said as well.
    let is_error = |line: &&str| line.contains(" WARN aggregate") && !line.contains("Kafka confirms nothing");
    assert_eq!(ended.report.text().lines().find(is_error), None);
}

/// Who is not let in keeps what it has, says why once, and delivers when it is let in.
#[test]
fn who_is_not_let_in_keeps_everything_and_says_why() {
    const LATE: [&str; 2] = ["late-user", "late-word"];
    const FAILED: &str = "Authentication failed";
    const LOGIN: &str = "authentication";
    let routed = Routed::new();
    let parts = Parts::new();
    let kafka = Kafka::guarded(&routed.router, &parts.broker, &parts.probe);
    for user in [SUBJECT, SCRAM_USER[0], PLAIN_USER[0], LATE[0]] {
        kafka.allow(user, "by-");
    }
    let is_right = |name: &str| match name {
        "by-name" | "by-authority" => parts.by_tls(name, TLS, &parts.broker),
        "by-scram" => parts.by_sasl(name, "SCRAM-SHA-256", SCRAM_USER),
        _ => parts.by_sasl(name, "PLAIN", PLAIN_USER),
    };
    // What is wrong, what of it must be in the log, and under which name it is counted.
    let wrong = [
        ("by-name", parts.by_tls("by-name", "localhost:9094", &parts.broker), "host name", "tls"),
        ("by-authority", parts.by_tls("by-authority", TLS, &parts.probe), "vouches for it", "tls"),
        ("by-scram", parts.by_sasl("by-scram", "SCRAM-SHA-256", [SCRAM_USER[0], "wrong"]), FAILED, LOGIN),
        ("by-plain", parts.by_sasl("by-plain", "PLAIN", [PLAIN_USER[0], "wrong"]), FAILED, LOGIN),
    ];
    // What is mended while it runs.
    let late = [
        ("by-late", parts.by_sasl("by-late", "SCRAM-SHA-256", LATE), FAILED, LOGIN),
        ("topic", parts.by_sasl("topic", "SCRAM-SHA-256", SCRAM_USER), "topic topic: ", "not_authorized"),
        ("guest", parts.by_sasl("guest", "PLAIN", GUEST), "ClusterAuthorizationFailed", "not_allowed"),
    ];
    let all = || wrong.iter().chain(&late);
    let aggregates: Vec<String> = all().map(|(_, text, ..)| text.clone()).collect();
    let probe = start(&routed, &aggregates);
    let warnings = |name: &str| -> Vec<String> {
        let of_it = format!("WARN aggregate {name}: ");
        probe.errors().lines().filter(|line| line.contains(&of_it)).map(str::to_owned).collect()
    };
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 20);
    let errors = |name, reason| {
        let labels = [("aggregate", name), ("reason", reason)];
        probe.metrics().sum("pathflow_aggregate_output_errors_total", &labels)
    };
    let is_kept = |name| of(&probe, "spooled_packets", name) + of(&probe, "waiting_packets", name) == 20;
    for (name, _, text, reason) in all() {
        let is_said = |line: &String| line.contains(text);
        let is_known = || is_kept(name) && errors(name, *reason) > 0 && warnings(name).iter().any(is_said);
        wait_for(
            name,
            || format!("{:?} {}", warnings(name), errors(name, *reason)),
            || is_known().then_some(()),
        );
    }
    // Long enough for several attempts of each: a producer that may do nothing is made anew every five seconds.
    thread::sleep(Duration::from_secs(12));
    for (name, _, text, _) in all() {
        let said = warnings(name);
        let times = |text: &str| said.iter().filter(|line| line.contains(text)).count();
        assert_eq!(times(text), 1, "{said:#?}");
        // A topic that takes nothing is no outage, if that is known soon. One who may do nothing hears of both.
        let outages = times("Kafka confirms nothing");
        let topics = times("its messages wait");
        let expected = match *name {
            "topic" => outages <= 1 && topics == 1 && said.len() == 1 + outages,
            "guest" => outages <= 1 && topics <= 1 && said.len() == 1 + outages + topics,
            _ => outages == 1 && said.len() == 2,
        };
        assert!(expected, "{said:#?}");
        assert_eq!(of(&probe, "delivered_packets_total", name), 0, "{name}");
        assert!(is_kept(name), "{name}");
    }
    let word = format!("SCRAM-SHA-256=[password={}]", LATE[1]);
    kafka.administer(
        "kafka.admin.ConfigCommand",
        &["--alter", "--entity-type", "users", "--entity-name", LATE[0], "--add-config", &word],
    );
    kafka.allow(SCRAM_USER[0], "topic");
    kafka.allow(GUEST[0], "guest");
    for (name, ..) in &late {
        delivered(&probe, name, 20);
        assert_eq!(packets(&kafka, name), 20, "{name}");
    }
    probe.terminate().report.assert_balanced();
    // The others need other settings; what they kept goes out then.
    let aggregates: Vec<String> = wrong.iter().map(|(name, ..)| is_right(name)).collect();
    let probe = start(&routed, &aggregates);
    for (name, ..) in &wrong {
        delivered(&probe, name, 20);
        assert_eq!(packets(&kafka, name), 20, "{name}");
    }
    probe.terminate().report.assert_balanced();
}
