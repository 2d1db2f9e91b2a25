//! What plugins that write rows have in common: `[[aggregate]]`.

use crate::aggregate::{Key, PrimitiveError};
use crate::pmacct::ImportError;
use crate::pmacct::configuration::Plugin;
use crate::pmacct::document::TableId;
use crate::pmacct::remark::Verdict;

use super::{Setting, Translation};

/// What pmacctd aggregates by if nothing is said.
const DEFAULT_KEY: &str = "src_host";

/// Begins the aggregate of a plugin; `prefix` is that of its keys, such as `print`.
pub(super) fn begin(
    work: &mut Translation<'_>,
    plugin: &Plugin,
    prefix: &str,
) -> Result<TableId, ImportError> {
    let origin = work.configuration.global("plugins").map(Into::into);
    let table = work.document.array_table("aggregate", origin.as_ref());
    work.document.set(table, "name", plugin.name.as_str(), None);
    key(work, plugin, table);
    selection(work, plugin, table)?;
    time(work, plugin, prefix, table);
    limits(work, plugin, prefix);
    preprocess(work, plugin, prefix, table);
    Ok(table)
}

fn key(work: &mut Translation<'_>, plugin: &Plugin, table: TableId) {
    let Some(setting) = work.of_plugin(plugin, "aggregate") else {
        let text =
            format!("{}: nothing is said of what to aggregate by; pmacctd takes {DEFAULT_KEY}", plugin.name);
        work.whole(text);
        work.document.set(table, "key", vec![DEFAULT_KEY], None);
        return;
    };
    let mut key: Vec<String> = Vec::new();
    for name in setting.list() {
        let own = work.primitives.iter().filter(|own| own.name.eq_ignore_ascii_case(&name));
        let own = own.min_by_key(|own| own.fault.is_some());
        let name = own.map_or_else(|| name.to_lowercase(), |own| own.name.clone());
        if name == "none" || key.contains(&name) {
            continue;
        }
        let why = match Key::parse(&[&name]) {
            Err(_) if let Some(fault) = own.and_then(|own| own.fault.clone()) => fault,
            _ if own.is_some_and(|own| own.fault.is_none()) => {
                key.push(name);
                continue;
            }
            Ok(_) => {
                key.push(name);
                continue;
            }
            Err((_, PrimitiveError::Unavailable(why))) => why.to_owned(),
            Err((_, error)) => error.to_string(),
        };
        work.remark(&setting, Verdict::NotHonoured, format!("{name} is left out: {why}"));
    }
    let is_agent_asked_for = key.iter().any(|name| name == "peer_src_ip");
    work.document.set(table, "key", key, Some(&setting.origin));
    if is_agent_asked_for {
        agent(work, &setting, table);
    }
}

/// What `peer_src_ip` says is the address by which collectors knew the router.
fn agent(work: &mut Translation<'_>, setting: &Setting, table: TableId) {
    let exporters = super::enrich::exporters(work);
    match exporters.as_slice() {
        [address] => work.document.set(table, "agent_address", address.to_string(), Some(&setting.origin)),
        _ => work.remark(
            setting,
            Verdict::Differs,
            "peer_src_ip is empty until agent_address of the aggregate has the address of this router",
        ),
    }
}

fn selection(work: &mut Translation<'_>, plugin: &Plugin, table: TableId) -> Result<(), ImportError> {
    if let Some((origin, filter)) = filter(work, plugin) {
        work.document.set(table, "filter", filter, Some(&origin));
    }
    if let Some(setting) = super::enrich::own_tag_map(work, plugin)? {
        work.document.set(table, "tag_map", setting.value.as_str(), Some(&setting.origin));
    }
    let filters =
        [("pre_tag_filter", "tags"), ("pre_tag2_filter", "tags2"), ("pre_tag_label_filter", "labels")];
    for (key, name) in filters {
        if let Some(setting) = work.of_plugin(plugin, key) {
            work.document.set(table, name, setting.value.as_str(), Some(&setting.origin));
        }
    }
    if let Some((setting, interval)) = work.plugin_number(plugin, "sampling_rate")
        && interval > 1
    {
        work.document.set(table, "sampling_interval", interval, Some(&setting.origin));
    }
    if let Some((setting, true)) = work.plugin_flag(plugin, "pmacctd_renormalize") {
        work.document.set(table, "renormalize", true, Some(&setting.origin));
    }
    for key in ["post_tag", "post_tag2"] {
        work.refuse_of(plugin, key, "give the tag in the pre_tag_map");
    }
    Ok(())
}

/// The plugin's `aggregate_filter`: of several, one has to be true.
pub(super) fn filter(
    work: &mut Translation<'_>,
    plugin: &Plugin,
) -> Option<(crate::pmacct::document::Origin, String)> {
    let mut expressions: Vec<String> = Vec::new();
    let mut origin = None;
    for (line, used) in work.configuration.lines.iter().zip(&mut work.used) {
        if line.key == "aggregate_filter" && line.name.as_ref() == Some(&plugin.name) {
            *used = true;
            expressions.extend(Setting::from(line).list());
            origin.get_or_insert_with(|| line.into());
        }
    }
    let origin = origin?;
    Some(match expressions.as_slice() {
        [one] => (origin, one.clone()),
        several => {
            let bracketed: Vec<String> = several.iter().map(|one| format!("({one})")).collect();
            (origin, bracketed.join(" or "))
        }
    })
}

fn time(work: &mut Translation<'_>, plugin: &Plugin, prefix: &str, table: TableId) {
    let key = |name: &str| format!("{prefix}_{name}");
    if let Some((setting, seconds)) = work.plugin_number(plugin, &key("refresh_time")) {
        work.document.set(table, "refresh", format!("{seconds}s"), Some(&setting.origin));
    }
    let history = work.of_plugin(plugin, &key("history"));
    if let Some(setting) = &history {
        let is_seconds = setting.value.bytes().all(|c| c.is_ascii_digit());
        let unit = if is_seconds { "s" } else { "" };
        work.document.set(table, "history", format!("{}{unit}", setting.value), Some(&setting.origin));
    }
    let of_bins =
        ["history_roundoff", "history_offset"].map(|name| (name, work.of_plugin(plugin, &key(name))));
    for (name, setting) in of_bins {
        let Some(setting) = setting else { continue };
        if history.is_none() {
            let text = format!("not needed: there is no {prefix}_history");
            work.remark(&setting, Verdict::NotNeeded, text);
        } else if name == "history_roundoff" {
            work.document.set(table, name, setting.value.as_str(), Some(&setting.origin));
        } else if let Some(seconds) = work.number(&setting) {
            work.document.set(table, name, format!("{seconds}s"), Some(&setting.origin));
        }
    }
    if let Some((setting, true)) = work.plugin_flag(plugin, "timestamps_utc") {
        work.document.set(table, "utc", true, Some(&setting.origin));
    }
    // The name of the daemon is before it, not that of the plugin.
    if let Some((setting, true)) = work.plugin_flag(plugin, "pmacctd_stitching") {
        work.document.set(table, "stitching", true, Some(&setting.origin));
    }
    work.refuse_of(plugin, &key("startup_delay"), "the first purge is at the next multiple of refresh");
}

/// How values are written: `[aggregate.format]`.
pub(super) fn format(work: &mut Translation<'_>, plugin: &Plugin, table: TableId, prefix: &str) {
    let flags = [
        ("pre_tag_label_encode_as_map", "label_as_map"),
        ("as_path_encode_as_array", "as_path_as_array"),
        ("bgp_comms_encode_as_array", "communities_as_array"),
        ("bgp_comms_num", "community_numbers"),
        ("tos_encode_as_dscp", "tos_as_dscp"),
        ("timestamps_secs", "timestamps_in_seconds"),
        (&format!("{prefix}_num_protos"), "protocol_numbers"),
    ];
    for (key, name) in flags {
        if let Some((setting, true)) = work.plugin_flag(plugin, key) {
            let format = work.document.subtable(table, "format", None);
            work.document.set(format, name, true, Some(&setting.origin));
        }
    }
    let words = [
        ("tcpflags_encode_as_array", "tcp_flags", "array"),
        ("timestamps_since_epoch", "timestamps", "epoch"),
        ("timestamps_rfc3339", "timestamps", "rfc3339"),
        ("timestamps_rfc9557", "timestamps", "rfc9557"),
    ];
    for (key, name, word) in words {
        if let Some((setting, true)) = work.plugin_flag(plugin, key) {
            let format = work.document.subtable(table, "format", None);
            work.document.set(format, name, word, Some(&setting.origin));
        }
    }
}

fn limits(work: &mut Translation<'_>, plugin: &Plugin, prefix: &str) {
    for name in ["cache_entries", "max_writers"] {
        if let Some(setting) = work.of_plugin(plugin, &format!("{prefix}_{name}")) {
            work.remark(
                &setting,
                Verdict::NotNeeded,
                "not needed: tables grow up to max_entries of the aggregate",
            );
        }
    }
    if prefix != "print" {
        let text = "it is left out: programs are run for files, as with print_trigger_exec";
        work.refuse_of(plugin, &format!("{prefix}_trigger_exec"), text);
    }
}

/// Of several minimums a row has to meet one, if nothing is said of it.
fn preprocess(work: &mut Translation<'_>, plugin: &Plugin, prefix: &str, table: TableId) {
    let conditions = work.of_plugin(plugin, &format!("{prefix}_preprocess"));
    let kind = work.of_plugin(plugin, &format!("{prefix}_preprocess_type"));
    let Some(setting) = conditions else {
        if let Some(kind) = kind {
            let text = format!("not needed: there is no {prefix}_preprocess");
            work.remark(&kind, Verdict::NotNeeded, text);
        }
        return;
    };
    let mut minimums = Vec::new();
    for condition in setting.list() {
        let (name, value) = condition
            .split_once('=')
            .map_or((condition.as_str(), ""), |(name, value)| (name.trim(), value.trim()));
        let name = name.to_lowercase();
        let key = match name.as_str() {
            "minp" => "min_packets",
            "minb" => "min_octets",
            "minf" => "min_flows",
            "minbpp" => "min_octets_per_packet",
            "minppf" => "min_packets_per_flow",
            "qnum" | "maxp" | "maxf" | "maxb" | "maxbpp" | "maxppf" | "fss" | "fsrc" | "usrf" | "adjb"
            | "recover" => {
                let text = format!("not needed: pmacct knows {name} of plugins for SQL only");
                work.remark(&setting, Verdict::NotNeeded, text);
                continue;
            }
            _ => {
                let text = format!("{name} is left out: there are minp, minb, minf, minbpp and minppf");
                work.remark(&setting, Verdict::NotHonoured, text);
                continue;
            }
        };
        match value.parse::<u32>() {
            Ok(value) => {
                work.document.set(table, key, i64::from(value), Some(&setting.origin));
                minimums.push(key);
            }
            Err(_) => work.remark(&setting, Verdict::NotHonoured, format!("{name} has no number")),
        }
    }
    if minimums.iter().any(|key| matches!(*key, "min_flows" | "min_packets_per_flow")) {
        let text = "flows are those that began among the packets of a row; pmacctd counts none in most rows";
        work.remark(&setting, Verdict::Differs, text);
    }
    let is_all = match kind.as_ref().map(|kind| kind.value.to_lowercase()).as_deref() {
        None | Some("any") => false,
        Some("all") => true,
        Some(_) => {
            if let Some(kind) = &kind {
                work.remark(kind, Verdict::NotHonoured, "it is neither any nor all; any is taken");
            }
            false
        }
    };
    if minimums.len() > 1 && !is_all {
        let origin = kind.as_ref().map_or(&setting.origin, |kind| &kind.origin);
        work.document.set(table, "minimums", "any", Some(origin));
    } else if let Some(kind) = kind.filter(|_| is_all && minimums.len() > 1) {
        work.document.set(table, "minimums", "all", Some(&kind.origin));
    }
}
