//! Table dumps and the log of messages: `[bgp.table_dump]` and `[bgp.message_log]`.

use crate::pmacct::ImportError;
use crate::pmacct::document::TableId;
use crate::pmacct::remark::Verdict;

use super::super::{Setting, Translation, kafka};

const TABLE_DUMP: &str = "bgp.table_dump";

pub(super) fn translate(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let utc = work.flag("timestamps_utc");
    let arrays = ["bgp_comms_encode_as_array", "as_path_encode_as_array"].map(|key| work.flag(key));
    for (table, prefix) in [(TABLE_DUMP, "bgp_table_dump"), ("bgp.message_log", "bgp_daemon_msglog")] {
        let key = |name: &str| format!("{prefix}_{name}");
        let file = work.global(&key("file"));
        if file.is_some() {
            work.refuse(
                &key("kafka_topic"),
                &format!("{prefix}_file is there as well, and one of the two is possible"),
            );
        }
        let topic = work.global(&key("kafka_topic")).filter(|_| file.is_none());
        if file.is_some() || topic.is_some() {
            let id = work.document.table(table);
            if let Some(file) = &file {
                work.document.set(id, "file", file.value.as_str(), Some(&file.origin));
                if table == TABLE_DUMP
                    && let Some(setting) = work.global(&key("latest_file"))
                {
                    work.document.set(id, "latest", setting.value.as_str(), Some(&setting.origin));
                }
            }
            if table == TABLE_DUMP
                && let Some((setting, seconds)) = work.global_number(&key("refresh_time"))
            {
                work.document.set(id, "interval", format!("{seconds}s"), Some(&setting.origin));
            }
            if let Some((setting, true)) = &utc {
                work.document.set(id, "utc", true, Some(&setting.origin));
            }
            if let Some((setting, true)) = arrays.iter().flatten().find(|(_, truth)| *truth) {
                work.document.set(id, "as_arrays", true, Some(&setting.origin));
            }
            if let Some(setting) = work.global(&key("output"))
                && setting.value != "json"
            {
                work.remark(&setting, Verdict::NotHonoured, "lines are JSON");
            }
            if let Some(topic) = topic {
                to_kafka(work, id, prefix, &topic)?;
            }
        }
        left_over(work, prefix);
    }
    Ok(())
}

fn to_kafka(
    work: &mut Translation<'_>,
    table: TableId,
    prefix: &str,
    topic: &Setting,
) -> Result<(), ImportError> {
    let key = |name: &str| format!("{prefix}_kafka_{name}");
    let id = work.document.subtable(table, "kafka", None);
    let (host, port) = (work.global(&key("broker_host")), work.global(&key("broker_port")));
    let of_rows = broker_of_rows(work);
    match (&host, of_rows) {
        (None, Some((host, port_of_rows))) => {
            let text = format!(
                "without {} the broker is that of {}; pmacct takes 127.0.0.1",
                key("broker_host"),
                host.origin.key
            );
            work.remark(topic, Verdict::Differs, text);
            kafka::set_brokers(work, id, Some(&host), port.or(port_of_rows).as_ref());
        }
        (host, _) => {
            if host.is_none() {
                let text = format!("without {} the broker is 127.0.0.1, as in pmacct", key("broker_host"));
                work.remark(topic, Verdict::Differs, text);
            }
            kafka::set_brokers(work, id, host.as_ref(), port.as_ref());
        }
    }
    work.document.set(id, "topic", topic.value.as_str(), Some(&topic.origin));
    let (partition, partition_key) = (work.global(&key("partition")), work.global(&key("partition_key")));
    kafka::partition(work, id, partition, partition_key);
    if let Some((setting, true)) = work.flag(&key("partition_dynamic")) {
        kafka::dynamic(work, &setting);
    }
    let properties = work.global(&key("config_file"));
    kafka::properties(work, id, properties)
}

/// Host and port of the first broker that rows go to.
fn broker_of_rows(work: &Translation<'_>) -> Option<(Setting, Option<Setting>)> {
    let lines = &work.configuration.lines;
    let host = lines.iter().find(|line| line.key == "kafka_broker_host")?;
    let port = lines.iter().find(|line| line.key == "kafka_broker_port" && line.name == host.name);
    Some((host.into(), port.map(Setting::from)))
}

/// What has nothing that it could be for.
fn left_over(work: &mut Translation<'_>, prefix: &str) {
    let text = format!("RabbitMQ is not written to; {prefix}_kafka_topic and {prefix}_file are there");
    work.refuse(&format!("{prefix}_amqp_routing_key"), &text);
    for (line, used) in work.configuration.lines.iter().zip(&mut work.used) {
        let rest = line.key.strip_prefix(prefix).unwrap_or_default();
        let is_meant =
            ["_kafka", "_amqp", "_avro", "_refresh_time", "_latest_file", "_workers", "_time_slots"];
        if is_meant.iter().any(|part| rest.starts_with(part)) && !*used {
            *used = true;
            let (file, number) = (&work.configuration.file, line.number);
            let text = "it is left out, as there is no broker or file that it could be for";
            work.remarks.add(file, number, &line.written, Verdict::NotHonoured, text);
        }
    }
}
