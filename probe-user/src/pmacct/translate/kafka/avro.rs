//! `kafka_output` and the keys of Avro.

use crate::pmacct::configuration::Plugin;
use crate::pmacct::document::TableId;
use crate::pmacct::remark::Verdict;

use super::super::Translation;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageFormat {
    Json,
    Avro { has_registry: bool },
}

impl MessageFormat {
    /// Whether a reader can tell a marker from a row.
    pub(super) const fn has_markers(self) -> bool {
        !matches!(self, Self::Avro { has_registry: false })
    }

    /// Whether rows can share messages.
    pub(super) const fn has_shared_messages(self) -> bool {
        !matches!(self, Self::Avro { has_registry: true })
    }
}

/// Sets format, registry and file of the schema. The topic is set.
pub(super) fn translate(work: &mut Translation<'_>, plugin: &Plugin, kafka: TableId) -> MessageFormat {
    let output = work.of_plugin(plugin, "kafka_output");
    let registry = work.of_plugin(plugin, "kafka_avro_schema_registry");
    let file = work.of_plugin(plugin, "avro_schema_file");
    for key in ["kafka_avro_schema_topic", "kafka_avro_schema_refresh_time"] {
        work.refuse_of(
            plugin,
            key,
            "schemas are not sent to topics; schema_registry or schema_file has them",
        );
    }
    if let Some(setting) = work.of_plugin(plugin, "avro_buffer_size") {
        work.remark(&setting, Verdict::NotNeeded, "not needed: messages have the size that they have");
    }
    let is_avro = match &output {
        Some(setting) if setting.value == "avro" => {
            work.document.set(kafka, "format", "avro", Some(&setting.origin));
            true
        }
        Some(setting) if setting.value != "json" => {
            let text = "messages are JSON, which has the same names, or binary Avro (kafka_output: avro)";
            work.remark(setting, Verdict::NotHonoured, text);
            false
        }
        _ => false,
    };
    if !is_avro {
        for setting in registry.iter().chain(&file) {
            work.remark(setting, Verdict::NotNeeded, "not needed: it is for kafka_output: avro only");
        }
        return MessageFormat::Json;
    }
    if let Some(setting) = &file {
        work.document.set(kafka, "schema_file", setting.value.as_str(), Some(&setting.origin));
    }
    if let Some(setting) = &registry {
        work.document.set(kafka, "schema_registry", setting.value.as_str(), Some(&setting.origin));
        // As pmacct names it from 1.7.9 on.
        let topic =
            work.of_plugin(plugin, "kafka_topic").map_or_else(|| super::TOPIC.into(), |topic| topic.value);
        let name = if topic.contains('$') { format!("pmacct_kafka_{}", plugin.name) } else { topic };
        work.document.set(kafka, "schema_subject", format!("{name}-acct_data"), None);
    }
    MessageFormat::Avro { has_registry: registry.is_some() }
}
