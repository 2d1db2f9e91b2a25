//! `kafka`: an aggregate to a broker.

mod avro;

use std::path::{Path, PathBuf};

use crate::pmacct::ImportError;
use crate::pmacct::configuration::Plugin;
use crate::pmacct::document::TableId;
use crate::pmacct::maps;
use crate::pmacct::remark::Verdict;

use super::{Setting, Translation, aggregate};

/// Where pmacct finds a broker if nothing is said.
const HOST: &str = "127.0.0.1";
const PORT: &str = "9092";
/// Its topic.
const TOPIC: &str = "pmacct.acct";
/// Properties that pathflow sets itself.
const RESERVED: &[&str] = &[
    "acks",
    "request.required.acks",
    "bootstrap.servers",
    "metadata.broker.list",
    "delivery.timeout.ms",
    "message.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "transactional.id",
    "dr_msg_cb",
    "dr_cb",
    "delivery.report.only.error",
    "test.mock.num.brokers",
];

pub(super) fn translate(work: &mut Translation<'_>, plugin: &Plugin) -> Result<(), ImportError> {
    let table = aggregate::begin(work, plugin, "kafka")?;
    aggregate::format(work, plugin, table, "kafka");
    let kafka = work.document.subtable(table, "kafka", None);
    brokers(work, plugin, kafka);
    match work.of_plugin(plugin, "kafka_topic") {
        Some(setting) => work.document.set(kafka, "topic", setting.value.as_str(), Some(&setting.origin)),
        None => work.document.set(kafka, "topic", TOPIC, None),
    }
    let setting = work.of_plugin(plugin, "kafka_partition");
    let key = work.of_plugin(plugin, "kafka_partition_key");
    partition(work, kafka, setting, key);
    if let Some((setting, true)) = work.plugin_flag(plugin, "kafka_partition_dynamic") {
        dynamic(work, &setting);
    }
    let format = avro::translate(work, plugin, kafka);
    if let Some((setting, true)) = work.plugin_flag(plugin, "kafka_markers") {
        if format.has_markers() {
            work.document.set(kafka, "markers", true, Some(&setting.origin));
        } else {
            let text = "markers are left out: in Avro without kafka_avro_schema_registry nobody could tell them from rows";
            work.remark(&setting, Verdict::NotHonoured, text);
        }
    }
    if let Some((setting, octets)) = work.plugin_number(plugin, "kafka_multi_values") {
        if format.has_shared_messages() {
            work.document.set(kafka, "message_octets", octets, Some(&setting.origin));
        } else {
            let text = "with kafka_avro_schema_registry each row has a message of its own";
            work.remark(&setting, Verdict::NotHonoured, text);
        }
    }
    if let Some((setting, topics)) = work.plugin_number(plugin, "kafka_topic_rr") {
        work.document.set(kafka, "topics", topics, Some(&setting.origin));
    }
    let setting = work.of_plugin(plugin, "kafka_config_file");
    properties(work, kafka, setting)
}

fn brokers(work: &mut Translation<'_>, plugin: &Plugin, kafka: TableId) {
    let port = work.of_plugin(plugin, "kafka_broker_port");
    let host = work.of_plugin(plugin, "kafka_broker_host");
    set_brokers(work, kafka, host.as_ref(), port.as_ref());
}

/// What these settings say, or where pmacct finds a broker.
pub(super) fn set_brokers(
    work: &mut Translation<'_>,
    kafka: TableId,
    host: Option<&Setting>,
    port_setting: Option<&Setting>,
) {
    let port = port_setting.map_or(PORT, |setting| setting.value.as_str());
    let brokers: Vec<String> = match host {
        None => vec![with_port(HOST, port)],
        Some(setting) => setting.list().iter().map(|host| with_port(host, port)).collect(),
    };
    let origin = host.or(port_setting).map(|setting| &setting.origin);
    work.document.set(kafka, "brokers", brokers, origin);
}

/// A host of its own may have its port, and IPv6 is in brackets then.
fn with_port(host: &str, port: &str) -> String {
    let (scheme, rest) =
        host.rsplit_once("://").map_or(("", host), |(_, rest)| (host.trim_end_matches(rest), rest));
    if rest.parse::<std::net::Ipv6Addr>().is_ok() {
        return format!("{scheme}[{rest}]:{port}");
    }
    let after_brackets = rest.rsplit(']').next().unwrap_or_default();
    if after_brackets.contains(':') { host.to_owned() } else { format!("{host}:{port}") }
}

pub(super) fn partition(
    work: &mut Translation<'_>,
    kafka: TableId,
    partition: Option<Setting>,
    key: Option<Setting>,
) {
    if let Some(setting) = partition
        && setting.value != "-1"
    {
        match setting.value.parse::<u32>() {
            Ok(partition) => {
                work.document.set(kafka, "partition", i64::from(partition), Some(&setting.origin));
            }
            Err(_) => work.remark(&setting, Verdict::NotHonoured, "it is not a number"),
        }
    }
    if let Some(setting) = key {
        work.document.set(kafka, "key", setting.value.as_str(), Some(&setting.origin));
    }
}

pub(super) fn dynamic(work: &mut Translation<'_>, setting: &Setting) {
    work.remark(setting, Verdict::NotNeeded, "not needed: variables in the key are always replaced");
}

/// librdkafka's properties, of the broker and of topics alike: it sorts them out itself.
pub(super) fn properties(
    work: &mut Translation<'_>,
    kafka: TableId,
    setting: Option<Setting>,
) -> Result<(), ImportError> {
    let Some(setting) = setting else { return Ok(()) };
    let file = PathBuf::from(&setting.value);
    let properties = maps::properties(Path::new(&file)).map_err(|error| work.map_fault(&setting, &error))?;
    let table = work.document.subtable(kafka, "properties", Some(&setting.origin));
    for property in properties {
        if RESERVED.contains(&property.name.as_str()) {
            let text = "it is left out: what pathflow promises of delivery rests on its own value";
            work.remark_in(&file, property.line, &property.name, text);
            continue;
        }
        work.document.set(table, &property.name, property.value.as_str(), None);
    }
    secrets(work, &setting);
    Ok(())
}

fn secrets(work: &mut Translation<'_>, setting: &Setting) {
    if work.document.has_secrets() {
        let text = "its passwords are in the TOML as well: let nobody else read it";
        work.remark(setting, Verdict::Differs, text);
    }
}

#[cfg(test)]
mod tests {
    use super::with_port;

    /// The list is here as well because a pathflow without Kafka imports configurations, too.
    #[cfg(feature = "kafka")]
    #[test]
    fn what_is_left_out_is_what_the_settings_refuse() {
        let refused: Vec<&str> = pathflow_exporter::kafka::reserved_properties().collect();
        assert_eq!(super::RESERVED, refused);
    }

    #[test]
    fn brokers_have_a_port() {
        for (host, expected) in [
            ("kafka.example.org", "kafka.example.org:9092"),
            ("192.0.2.1:9093", "192.0.2.1:9093"),
            ("2001:db8::1", "[2001:db8::1]:9092"),
            ("[2001:db8::1]", "[2001:db8::1]:9092"),
            ("[2001:db8::1]:9093", "[2001:db8::1]:9093"),
            ("ssl://kafka", "ssl://kafka:9092"),
        ] {
            assert_eq!(with_port(host, "9092"), expected);
        }
    }
}
