//! `nfprobe`: `[[export.process]]` and the timeouts of `[flow]`.

use crate::pmacct::ImportError;
use crate::pmacct::configuration::Plugin;
use crate::pmacct::document::{Origin, TableId};
use crate::pmacct::remark::Verdict;

use super::{Setting, Translation, aggregate};

/// Where pmacctd sends to if nothing is said.
const RECEIVER: &str = "127.0.0.1:2100";

pub(super) fn translate(work: &mut Translation<'_>, plugin: &Plugin) -> Result<(), ImportError> {
    let origin: Option<Origin> = work.configuration.global("plugins").map(Into::into);
    let table = work.document.array_table("export.process", origin.as_ref());
    if let Some(setting) = work.of_plugin(plugin, "nfprobe_receiver") {
        work.document.set(table, "collectors", vec![setting.value.as_str()], Some(&setting.origin));
    } else {
        work.whole(format!("{}: no nfprobe_receiver is given; pmacctd sends to {RECEIVER}", plugin.name));
        work.document.set(table, "collectors", vec![RECEIVER], None);
    }
    let is_ipfix = format(work, plugin, table)?;
    engine(work, plugin, table);
    if let Some(setting) = work.of_plugin(plugin, "nfprobe_source_ip") {
        work.document.set(table, "source_address", setting.value.as_str(), Some(&setting.origin));
    }
    if let Some((setting, hops)) = work.plugin_number(plugin, "nfprobe_hoplimit") {
        work.document.set(table, "ttl", hops, Some(&setting.origin));
    }
    if let Some((setting, precedence)) = work.plugin_number(plugin, "nfprobe_ipprec") {
        // Class Selector codepoints have the precedence in their upper three bits (RFC 2474, section 4.2.2).
        work.document.set(table, "dscp", precedence.saturating_mul(8), Some(&setting.origin));
    }
    if let Some((setting, interval)) = work.plugin_number(plugin, "sampling_rate")
        && interval > 1
    {
        work.document.set(table, "sampling_interval", interval, Some(&setting.origin));
    }
    if let Some((setting, true)) = work.plugin_flag(plugin, "pmacctd_renormalize") {
        let text =
            "counts are exported as sampled, with the interval, by which the collector multiplies them";
        work.remark(&setting, Verdict::Differs, text);
    }
    fields(work, plugin, table, is_ipfix);
    selection(work, plugin, table);
    tags(work, plugin, table)?;
    timeouts(work, plugin);
    interfaces(work, plugin);
    refusals(work, plugin);
    Ok(())
}

fn format(work: &mut Translation<'_>, plugin: &Plugin, table: TableId) -> Result<bool, ImportError> {
    let Some(setting) = work.of_plugin(plugin, "nfprobe_version") else {
        work.document.set(table, "format", "ipfix", None);
        return Ok(true);
    };
    let format = match setting.value.as_str() {
        "5" => "netflow-v5",
        "9" => "netflow-v9",
        "10" => "ipfix",
        _ => return Err(work.line_fault(&setting, "it must be 5, 9 or 10")),
    };
    work.document.set(table, "format", format, Some(&setting.origin));
    Ok(format == "ipfix")
}

/// Engine type and id of NetFlow v5 are the low 16 bits of the one number that there is here.
fn engine(work: &mut Translation<'_>, plugin: &Plugin, table: TableId) {
    let Some(setting) = work.of_plugin(plugin, "nfprobe_engine") else { return };
    let number = match setting.value.split_once(':') {
        None => setting.value.trim().parse::<u32>().ok(),
        Some((kind, id)) => match (kind.trim().parse::<u8>(), id.trim().parse::<u8>()) {
            (Ok(kind), Ok(id)) => Some(u32::from(kind) << 8 | u32::from(id)),
            _ => None,
        },
    };
    match number {
        Some(number) => {
            work.document.set(table, "observation_domain_id", i64::from(number), Some(&setting.origin));
        }
        None => work.remark(&setting, Verdict::NotHonoured, "it is neither TYPE:ID nor a number"),
    }
}

/// Field groups for the primitives that are not in every record. Records are always of single flows.
fn fields(work: &mut Translation<'_>, plugin: &Plugin, table: TableId, is_ipfix: bool) {
    let Some(setting) = work.of_plugin(plugin, "aggregate") else { return };
    let names: Vec<String> = setting.list().iter().map(|name| name.to_lowercase()).collect();
    let has = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
    let mut fields = Vec::new();
    let is_v5 = work.document.get(table, "format").and_then(|value| value.as_str()) == Some("netflow-v5");
    if has(&["src_mask", "dst_mask", "src_net", "dst_net", "peer_dst_ip", "peer_src_as", "peer_dst_as"])
        && !is_v5
    {
        fields.push("bgp");
    }
    if is_ipfix && has(&["std_comm", "ext_comm", "lrg_comm", "src_std_comm", "src_ext_comm", "src_lrg_comm"])
    {
        fields.push("communities");
    }
    if has(&["tag", "tag2", "label"]) {
        if is_ipfix {
            fields.push("tags");
        } else {
            work.remark(
                &setting,
                Verdict::NotHonoured,
                "tags are exported by IPFIX only (nfprobe_version: 10)",
            );
        }
    }
    if has(&["src_mac", "dst_mac"]) && !is_v5 {
        fields.push("mac");
    }
    if !fields.is_empty() {
        work.document.set(table, "fields", fields, Some(&setting.origin));
    }
    let key = ["src_host", "dst_host", "src_port", "dst_port", "proto"];
    if !key.iter().all(|name| names.iter().any(|other| other == name)) {
        let text = "records are of single flows (addresses, ports, protocol, ToS, interface), whatever is left out here";
        work.remark(&setting, Verdict::Differs, text);
    }
    if has(&["class"]) {
        work.remark(&setting, Verdict::NotHonoured, "class is left out: pathflow does not look into payload");
    }
}

fn selection(work: &mut Translation<'_>, plugin: &Plugin, table: TableId) {
    if let Some((origin, filter)) = aggregate::filter(work, plugin) {
        work.document.set(table, "filter", filter, Some(&origin));
    }
    for key in ["pre_tag_filter", "pre_tag2_filter", "pre_tag_label_filter"] {
        work.refuse_of(
            plugin,
            key,
            "exports do not choose by tags; aggregate_filter can say the same of packets",
        );
    }
}

/// Rules for tags of its own, if it exports tags.
fn tags(work: &mut Translation<'_>, plugin: &Plugin, table: TableId) -> Result<(), ImportError> {
    let Some(setting) = super::enrich::own_tag_map(work, plugin)? else { return Ok(()) };
    let fields = work.document.get(table, "fields").and_then(|fields| fields.as_array());
    if fields.is_some_and(|fields| fields.iter().any(|field| field.as_str() == Some("tags"))) {
        work.document.set(table, "tag_map", setting.value.as_str(), Some(&setting.origin));
    } else {
        let text = "nobody would see its tags: they are exported if aggregate has tag, tag2 or label, and by IPFIX \
                    only (nfprobe_version: 10)";
        work.remark(&setting, Verdict::NotNeeded, text);
    }
    Ok(())
}

/// What pmacct has an idle timeout for.
const PROTOCOLS: [&str; 4] = ["tcp", "udp", "icmp", "general"];

/// There is one flow cache for all exports, with one idle timeout for all protocols.
fn timeouts(work: &mut Translation<'_>, plugin: &Plugin) {
    let Some(setting) = work.of_plugin(plugin, "nfprobe_timeouts") else {
        let text = "flows that go on are reported every minute, and silent ones after 15 seconds (pmacctd: after a \
                    week, and after five minutes to an hour); [flow] has the timeouts";
        work.whole(format!("{}: {text}", plugin.name));
        return;
    };
    let (mut idle, mut ended, mut active) = (Vec::new(), Vec::new(), None);
    for part in setting.value.split(':') {
        let (name, value) = part
            .split_once('=')
            .map_or((part.trim(), None), |(name, value)| (name.trim(), value.trim().parse::<u32>().ok()));
        match (name, value) {
            (_, None) => {
                work.remark(&setting, Verdict::NotHonoured, "it has a part that is not NAME=SECONDS");
            }
            ("maxlife", value) => active = value,
            ("tcp.rst" | "tcp.fin", Some(value)) => ended.push(value),
            ("tcp" | "udp" | "icmp" | "general", Some(value)) => idle.push((name, value)),
            ("expint", _) => {
                work.remark(
                    &setting,
                    Verdict::NotNeeded,
                    "expint is not needed: flows are reported when they end",
                );
            }
            _ => work.remark(&setting, Verdict::NotHonoured, "it has a name that is not known"),
        }
    }
    let missing: Vec<&str> =
        PROTOCOLS.into_iter().filter(|protocol| idle.iter().all(|(name, _)| name != protocol)).collect();
    let longest = idle.iter().map(|(_, value)| *value).max();
    match longest {
        None => {
            let text = "silent flows are reported after 15 seconds (pmacctd: after five minutes to an hour); \
                        idle_timeout of [flow] says when";
            work.remark(&setting, Verdict::Differs, text);
        }
        Some(longest) if !missing.is_empty() => {
            let text = format!(
                "there is one idle timeout for all protocols: {longest}s, also for {} (pmacctd: five minutes for udp \
                 and icmp, else an hour)",
                missing.join(", ")
            );
            work.remark(&setting, Verdict::Differs, text);
        }
        Some(longest) if idle.iter().any(|(_, value)| *value != longest) => {
            let text = format!("there is one idle timeout for all protocols: the longest, {longest}s");
            work.remark(&setting, Verdict::Differs, text);
        }
        Some(_) => {}
    }
    if active.is_none() {
        let text = "flows that go on are reported every minute (pmacctd: after a week); active_timeout of [flow] says when";
        work.remark(&setting, Verdict::Differs, text);
    }
    if let Some(shortest) =
        ended.iter().min().filter(|shortest| ended.len() < 2 || ended.iter().any(|end| end != *shortest))
    {
        let text =
            format!("there is one timeout for the end of a TCP connection, by FIN as by RST: {shortest}s");
        work.remark(&setting, Verdict::Differs, text);
    }
    let values =
        [("active_timeout", active), ("idle_timeout", longest), ("tcp_end_timeout", ended.into_iter().min())];
    for (key, seconds) in values {
        if let Some(seconds) = seconds {
            flow(work, &setting, key, &format!("{seconds}s"));
        }
    }
}

fn flow(work: &mut Translation<'_>, setting: &Setting, key: &str, value: &str) {
    let table = work.document.table("flow");
    match work.document.get(table, key).and_then(|before| before.as_str()) {
        Some(before) if before != value => {
            let text =
                format!("there is one flow cache for all plugins, and its {key} is that of another one");
            work.remark(setting, Verdict::NotHonoured, text);
        }
        _ => work.document.set(table, key, value, Some(&setting.origin)),
    }
}

/// Direction and interfaces are those that packets really had.
fn interfaces(work: &mut Translation<'_>, plugin: &Plugin) {
    if let Some(setting) = work.of_plugin(plugin, "nfprobe_direction") {
        let text = "records say in which direction packets really went at the interface; which of them are exported \
                    is said by direction and filter of [[export.process]]";
        work.remark(&setting, Verdict::Differs, text);
    }
    for key in ["nfprobe_ifindex", "nfprobe_ifindex_override"] {
        if let Some(setting) = work.of_plugin(plugin, key) {
            let text = "records have the interfaces that packets really used, with the kernel's numbers or those of \
                        pcap_interfaces_map";
            work.remark(&setting, Verdict::Differs, text);
        }
    }
}

fn refusals(work: &mut Translation<'_>, plugin: &Plugin) {
    for key in ["nfprobe_dtls", "nfprobe_dtls_verify_cert"] {
        let text = "there is no DTLS; transport = \"tls\" of [[export.process]] is TLS over TCP";
        work.refuse_of(plugin, key, text);
    }
    for key in ["nfprobe_dont_cache", "nfprobe_tstamp_usec", "nfprobe_peer_as"] {
        work.refuse_of(plugin, key, "it is left out");
    }
    if let Some(setting) = work.of_plugin(plugin, "nfprobe_maxflows") {
        work.remark(
            &setting,
            Verdict::NotNeeded,
            "not needed: flow.max_flows is for all plugins, and larger",
        );
    }
}
