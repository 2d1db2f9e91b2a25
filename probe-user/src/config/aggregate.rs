//! Checks `[[aggregate]]`.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::{ConfigError, between, invalid, raw};
#[cfg(feature = "kafka")]
use crate::aggregate::KafkaOutputSettings;
use crate::aggregate::encode::EncodeSettings;
use crate::aggregate::{
    AggregateSettings, Bins, CustomPrimitive, FileSettings, Key, MemorySettings, OutputSettings,
    OutputSettingsError, RowLimits, Selection, StdoutSettings,
};
use crate::capture::FilterSet;

/// Settings of every aggregate, whose filters become some of `filters`. `custom` are the operator's own primitives,
/// `drain_interval` is how often it gets something.
pub(super) fn settings(
    aggregates: &[raw::Aggregate],
    custom: &[CustomPrimitive],
    drain_interval: Duration,
    filters: &mut FilterSet,
) -> Result<Vec<AggregateSettings>, ConfigError> {
    let mut settings: Vec<AggregateSettings> = Vec::new();
    for (number, aggregate) in aggregates.iter().enumerate() {
        let key = |name: &str| format!("aggregate[{number}].{name}");
        let checked = check(aggregate, custom, drain_interval, filters, &key)?;
        if settings.iter().any(|other| other.name == checked.name) {
            return Err(invalid(key("name"), &checked.name, "another aggregate has this name"));
        }
        settings.push(checked);
    }
    Ok(settings)
}

/// Standard output is for flows or for aggregates.
pub(super) fn check_stdout(
    aggregates: &[AggregateSettings],
    flows: raw::StdoutStyle,
) -> Result<(), ConfigError> {
    let style = match flows {
        raw::StdoutStyle::Auto | raw::StdoutStyle::None => return Ok(()),
        raw::StdoutStyle::Text => "text",
        raw::StdoutStyle::Json => "json",
    };
    match aggregates
        .iter()
        .find(|aggregate| aggregate.outputs.iter().any(|output| matches!(output, OutputSettings::Stdout(_))))
    {
        Some(aggregate) => {
            let reason = format!("aggregate {} writes to standard output", aggregate.name);
            Err(invalid("export.stdout", &style, reason))
        }
        None => Ok(()),
    }
}

fn check(
    aggregate: &raw::Aggregate,
    custom: &[CustomPrimitive],
    drain_interval: Duration,
    filters: &mut FilterSet,
    key: &impl Fn(&str) -> String,
) -> Result<AggregateSettings, ConfigError> {
    let name = aggregate.name.as_str();
    let is_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) || name.starts_with('.') {
        let reason = "a name has letters, digits, -, _ and ., but no . in front, and 64 at most";
        return Err(invalid(key("name"), &name, reason));
    }
    // Its spool would be theirs.
    if ["bgp.table_dump", "bgp.message_log"].contains(&name) {
        return Err(invalid(key("name"), &name, "another output has this name"));
    }
    let fields = Key::parse_with(&aggregate.key, custom)
        .map_err(|(name, error)| invalid(key("key"), &name, error.to_string()))?;
    let fields = if aggregate.stitching { fields.with_stitching() } else { fields };
    let zone = if aggregate.utc { TimeZone::UTC } else { TimeZone::system() };

    let sampling_interval = NonZeroU32::new(aggregate.sampling_interval)
        .filter(|interval| interval.get() < 1 << 24)
        .ok_or_else(|| {
            invalid(key("sampling_interval"), &aggregate.sampling_interval, "it must be from 1 to 16777215")
        })?;
    let agent = match aggregate.agent_address.as_str() {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| invalid(key("agent_address"), &text, "it is not an IP address"))?)
        }
    };
    between(key("refresh"), aggregate.refresh, Duration::from_secs(1), Duration::from_hours(24))?;
    if aggregate.refresh.subsec_nanos() > 0 {
        let text = super::duration::text(aggregate.refresh);
        return Err(invalid(key("refresh"), &text, "it must be whole seconds"));
    }
    let selection = Selection {
        filter: filter_number(&aggregate.filter, filters)
            .map_err(|reason| invalid(key("filter"), &aggregate.filter, reason))?,
        tags: aggregate
            .tags
            .parse()
            .map_err(|reason: String| invalid(key("tags"), &aggregate.tags, reason))?,
        tags2: aggregate
            .tags2
            .parse()
            .map_err(|reason: String| invalid(key("tags2"), &aggregate.tags2, reason))?,
        labels: aggregate
            .labels
            .parse()
            .map_err(|reason: String| invalid(key("labels"), &aggregate.labels, reason))?,
    };
    if !(2..=1 << 28).contains(&aggregate.max_entries) {
        return Err(invalid(key("max_entries"), &aggregate.max_entries, "it must be from 2 to 268435456"));
    }
    let history = history(aggregate, drain_interval, zone, key)?;
    let outputs = outputs(aggregate, &fields, history.as_ref(), key)?;
    if outputs.is_empty() {
        return Err(invalid(key("name"), &name, "it has no output, such as [aggregate.stdout]"));
    }
    Ok(AggregateSettings {
        name: name.to_owned(),
        key: fields,
        selection,
        filter: aggregate.filter.trim().to_owned(),
        sampling_interval,
        renormalize: aggregate.renormalize,
        agent,
        refresh: Bins::every(aggregate.refresh),
        history,
        max_entries: aggregate.max_entries as usize,
        limits: RowLimits {
            top: aggregate.top as usize,
            top_by: aggregate.top_by,
            min_packets: aggregate.min_packets,
            min_octets: aggregate.min_octets,
            min_flows: aggregate.min_flows,
            min_octets_per_packet: aggregate.min_octets_per_packet,
            min_packets_per_flow: aggregate.min_packets_per_flow,
            minimums: aggregate.minimums,
        },
        outputs,
    })
}

fn outputs(
    aggregate: &raw::Aggregate,
    fields: &Key,
    history: Option<&Bins>,
    key: &impl Fn(&str) -> String,
) -> Result<Vec<OutputSettings>, ConfigError> {
    let wrong = |table: &str, error: OutputSettingsError| {
        invalid(key(&format!("{table}.{}", error.key)), &error.value, error.reason)
    };
    // Where the octets are may change with the key alone.
    let custom = fields.custom.without_offsets();
    let encode = EncodeSettings { custom, ..EncodeSettings::new(&aggregate.format, aggregate.utc) };
    let mut outputs = Vec::new();
    if let Some(table) = &aggregate.file {
        let file = FileSettings::new(table, &encode, &fields.primitives, aggregate.refresh, history);
        outputs.push(OutputSettings::File(file.map_err(|error| wrong("file", error))?));
    }
    if let Some(table) = &aggregate.stdout {
        let stdout = StdoutSettings::new(table, &encode, &fields.primitives);
        outputs.push(OutputSettings::Stdout(stdout.map_err(|error| wrong("stdout", error))?));
    }
    if let Some(table) = &aggregate.memory {
        let memory = MemorySettings::new(table, &encode);
        outputs.push(OutputSettings::Memory(memory.map_err(|error| wrong("memory", error))?));
    }
    #[cfg(feature = "kafka")]
    if let Some(table) = &aggregate.kafka {
        let kafka = KafkaOutputSettings::new(&aggregate.name, table, &encode, &fields.primitives);
        outputs.push(OutputSettings::Kafka(Box::new(kafka.map_err(|error| wrong("kafka", error))?)));
    }
    Ok(outputs)
}

fn history(
    aggregate: &raw::Aggregate,
    drain_interval: Duration,
    zone: TimeZone,
    key: &impl Fn(&str) -> String,
) -> Result<Option<Bins>, ConfigError> {
    let raw::Aggregate { history, history_roundoff, history_offset, .. } = aggregate;
    if history.is_empty() {
        return match (history_roundoff.as_str(), history_offset.is_zero()) {
            ("", true) => Ok(None),
            (letters, _) => Err(invalid(
                key("history_roundoff"),
                &letters,
                "it is of use only with history, as is history_offset",
            )),
        };
    }
    if history_offset.subsec_nanos() > 0 {
        let text = super::duration::text(*history_offset);
        return Err(invalid(key("history_offset"), &text, "it must be whole seconds"));
    }
    let bins = Bins::parse(history, history_roundoff, *history_offset, zone)
        .map_err(|reason| invalid(key("history"), history, reason))?;
    if !bins.is_multiple_of(drain_interval) {
        let interval = super::duration::text(drain_interval);
        let reason =
            format!("its bins do not begin and end with a drain: capture.drain_interval is {interval}");
        return Err(invalid(key("history"), history, reason));
    }
    Ok(Some(bins))
}

/// The bit of an expression among the results of a packet.
fn filter_number(expression: &str, filters: &mut FilterSet) -> Result<Option<u8>, String> {
    if expression.trim().is_empty() {
        return Ok(None);
    }
    filters.add(expression).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Config, Overrides, parse};
    use super::*;
    use crate::aggregate::Primitive;

    fn resolve(text: &str) -> Result<Config, String> {
        let raw = parse(Path::new("probe.toml"), text).map_err(|error| error.to_string())?;
        Config::resolve(raw, Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_aggregate_is_what_the_file_says() {
        let config = resolve(
            "[[aggregate]]\nname = \"a\"\nkey = [\"proto\", \"src_host\"]\nhistory = \"5m\"\ntags = \"1-3\"\n\
             top = 7\n[aggregate.stdout]\n\n[[aggregate]]\nname = \"b\"\n[aggregate.stdout]\n",
        )
        .unwrap();
        let [a, b] = &config.aggregates[..] else { panic!("{:?}", config.aggregates) };
        assert_eq!(a.key.primitives, [Primitive::SrcHost, Primitive::Proto]);
        assert_eq!((a.limits.top, a.history.as_ref().map(Bins::length)), (7, Some(300)));
        assert_eq!((b.key.clone(), b.history.clone(), b.refresh.length()), (Key::default(), None, 60));
        let other = resolve("[[aggregate]]\nname = \"a\"\n[aggregate.stdout]\n").unwrap();
        assert!(!config.keys.vlan_priority && !other.keys.vlan_priority);
        let asks = "[[aggregate]]\nname = \"a\"\nkey = [\"cos\"]\n[aggregate.stdout]\n";
        assert!(resolve(asks).unwrap().keys.vlan_priority, "keys have it where an aggregate asks for it");
        assert!(config.needs_restart(&other).is_empty(), "aggregates need no restart");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, expected) in [
            ("key = [\"vrf_name\"]", "aggregate.key: \"vrf_name\" cannot be used: VRFs are not known"),
            ("key = [\"src_hots\"]", "it is not a primitive; did you mean \"src_host\"?"),
            ("key = [\"sum_as\", \"proto\"]", "has to be the only primitive"),
            ("filter = \"not prt 22\"", "aggregate.filter: \"not prt 22\" cannot be used: can't parse"),
            ("tags = \"x\"", "aggregate.tags: \"x\" cannot be used"),
            (
                "refresh = \"500ms\"",
                "aggregate.refresh: \"500ms\" cannot be used: it must be from 1s to 1day",
            ),
            ("history = \"5x\"", "aggregate.history: \"5x\" cannot be used"),
            ("history_roundoff = \"m\"", "it is of use only with history"),
            ("max_entries = 0", "aggregate.max_entries"),
            ("sampling_interval = 0", "aggregate.sampling_interval"),
            ("agent_address = \"router\"", "aggregate.agent_address: \"router\" cannot be used: it is not"),
        ] {
            let text = format!("[[aggregate]]\nname = \"a\"\n{text}\n[aggregate.stdout]\n");
            let error = resolve(&text).unwrap_err();
            assert!(error.starts_with("probe.toml:3:1: ") && error.contains(expected), "{error}");
        }
        let error = resolve("[[aggregate]]\nname = \"a\"\n").unwrap_err();
        assert!(error.contains("it has no output, such as [aggregate.stdout]"), "{error}");
        let twice = "[[aggregate]]\nname = \"a\"\n[aggregate.stdout]\n";
        let error = resolve(&[twice, twice].concat()).unwrap_err();
        assert!(error.contains("another aggregate has this name"), "{error}");
        let error = resolve(&format!("[export]\nstdout = \"json\"\n{twice}")).unwrap_err();
        assert!(error.starts_with("probe.toml:2:1: export.stdout: \"json\" cannot be used"), "{error}");
        let text = "[capture]\ndrain_interval = \"700ms\"\n[[aggregate]]\nname = \"a\"\nhistory = \"1m\"\n\
                    [aggregate.stdout]\n";
        let error = resolve(text).unwrap_err();
        assert!(error.starts_with("probe.toml:5:1: ") && error.contains("capture.drain_interval"), "{error}");
    }
}
