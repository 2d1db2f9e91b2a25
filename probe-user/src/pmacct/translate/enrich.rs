//! AS numbers, networks, tags and whose routes count: `[enrich]`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::interfaces::InterfacesMap;
use crate::pmacct::ImportError;
use crate::pmacct::configuration::{Daemon, Line, Plugin};
use crate::pmacct::maps::{self, Row};
use crate::pmacct::remark::Verdict;

use super::{Setting, Translation};

/// Primitives that need to know the AS.
const AS_PRIMITIVES: &[&str] = &["src_as", "dst_as", "sum_as", "peer_src_as", "peer_dst_as"];

/// What a collector was sent, in a tag map.
const SAMPLE_TYPE: &str = "sample_type";

pub(super) fn translate(work: &mut Translation<'_>, plugins: &[Plugin]) -> Result<(), ImportError> {
    methods(work, plugins);
    let enrich = work.document.table("enrich");
    if let Some(setting) = work.global("networks_file") {
        work.document.set(enrich, "networks_file", setting.value.as_str(), Some(&setting.origin));
    }
    if let Some((setting, true)) = work.flag("networks_file_no_lpm") {
        work.document.set(enrich, "networks_file_no_lpm", true, Some(&setting.origin));
    }
    if let Some(setting) = work.global("geoipv2_file") {
        work.document.set(enrich, "geoip_file", setting.value.as_str(), Some(&setting.origin));
    }
    for key in ["networks_mask", "networks_no_mask_if_zero", "networks_file_filter"] {
        work.refuse(key, "src_net and dst_net are those of the route or of the line in networks_file");
    }
    tags(work)?;
    attributes(work);
    agents(work)?;
    peer_sources(work)
}

fn methods(work: &mut Translation<'_>, plugins: &[Plugin]) {
    let enrich = work.document.table("enrich");
    let as_method = method(work, "pmacctd_as");
    let net_method = method(work, "pmacctd_net");
    if let Some((setting, method)) = &as_method {
        work.document.set(enrich, "as_method", *method, Some(&setting.origin));
    } else if let Some(setting) = asks_for_as(work, plugins) {
        let text = "pmacctd_as is not set, and pmacctd would report AS 0; here AS numbers are those of the longest match";
        work.remark(&setting, Verdict::Differs, text);
    }
    // Without a method of their own, prefix length and next hop are from where the AS is from; pmacctd would have those
    // of the file, or none.
    if let Some((setting, method)) = net_method.as_ref().or(as_method.as_ref()) {
        work.document.set(enrich, "net_method", *method, Some(&setting.origin));
    }
}

fn method(work: &mut Translation<'_>, key: &str) -> Option<(Setting, &'static str)> {
    let setting = work.global(key)?;
    let method = match setting.value.to_lowercase().as_str() {
        "bgp" => "bgp",
        "file" => "file",
        "longest" | "fallback" => "longest",
        "bmp" => {
            work.remark(&setting, Verdict::Differs, "routes by BMP count as those by BGP do: \"bgp\"");
            "bgp"
        }
        "netflow" | "sflow" => {
            work.remark(
                &setting,
                Verdict::Differs,
                "there is no flow to take it from; it is that of the longest match",
            );
            "longest"
        }
        "mask" | "igp" | "bgp-ls" => {
            work.remark(
                &setting,
                Verdict::NotHonoured,
                "it can be bgp, file or longest; the longest match counts",
            );
            "longest"
        }
        _ => {
            work.remark(&setting, Verdict::NotHonoured, "it can be bgp, file or longest");
            return None;
        }
    };
    Some((setting, method))
}

/// The line that wants AS numbers, if any does.
fn asks_for_as(work: &Translation<'_>, plugins: &[Plugin]) -> Option<Setting> {
    plugins.iter().find_map(|plugin| {
        let setting = Setting::from(work.configuration.of_plugin(plugin, "aggregate")?);
        setting.list().iter().any(|name| AS_PRIMITIVES.contains(&name.as_str())).then_some(setting)
    })
}

/// The tag map, which pathflow reads itself, unless it has what only collectors know.
fn tags(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let Some(setting) = work.global("pre_tag_map") else { return Ok(()) };
    let file = PathBuf::from(&setting.value);
    let rows = maps::rows(&file).map_err(|error| work.map_fault(&setting, &error))?;
    remark_routers(work, &setting, &rows);
    if !rows.iter().any(|row| row.get(SAMPLE_TYPE).is_some()) {
        let enrich = work.document.table("enrich");
        work.document.set(enrich, "tag_map", setting.value.as_str(), Some(&setting.origin));
        return Ok(());
    }
    let text = "its rows are copied without sample_type, as everything here is a flow: changes have to be made in \
                [[enrich.tag]]";
    work.remark(&setting, Verdict::Differs, text);
    for row in rows {
        if row.get(SAMPLE_TYPE).is_some_and(|kind| !kind.starts_with("flow")) {
            work.remark_in(&file, row.line, SAMPLE_TYPE, "there are no such samples; the row is left out");
            continue;
        }
        let rule = work.document.array_table("enrich.tag", Some(&setting.origin));
        for (key, value) in row.pairs.iter().filter(|(key, _)| key != SAMPLE_TYPE) {
            let value = value.parse::<i64>().map_or_else(|_| value.as_str().into(), toml::Value::from);
            work.document.set(rule, key, value, Some(&setting.origin));
        }
    }
    Ok(())
}

fn remark_routers(work: &mut Translation<'_>, setting: &Setting, rows: &[Row]) {
    if rows.iter().any(|row| exporter(row).is_some()) {
        let text = "rows with ip are for the router with this address, which has to be source_address of an export or \
                    agent_address of [sflow]";
        work.remark(setting, Verdict::Differs, text);
    }
}

/// Samples have no tags.
pub(super) fn refuse_own_tag_map(work: &mut Translation<'_>, plugin: &Plugin) {
    if work.configuration.of_plugin(plugin, "pre_tag_map").is_some_and(|line| !line.is_global()) {
        let text = "samples have no tags";
        work.refuse_of(plugin, "pre_tag_map", text);
    }
}

/// The tag map that a plugin has in place of that for all, if it has one that can be read here.
pub(super) fn own_tag_map(
    work: &mut Translation<'_>,
    plugin: &Plugin,
) -> Result<Option<Setting>, ImportError> {
    let counts = work.configuration.of_plugin(plugin, "pre_tag_map");
    if counts.is_none_or(Line::is_global) {
        return Ok(None);
    }
    let Some(setting) = work.of_plugin(plugin, "pre_tag_map") else { return Ok(None) };
    let rows = maps::rows(Path::new(&setting.value)).map_err(|error| work.map_fault(&setting, &error))?;
    remark_routers(work, &setting, &rows);
    if rows.iter().any(|row| row.get(SAMPLE_TYPE).is_some()) {
        let text =
            "it is left out: its rows have sample_type, which only collectors know; take it out of them";
        work.remark(&setting, Verdict::NotHonoured, text);
        return Ok(None);
    }
    Ok(Some(setting))
}

/// Attributes of routes: which part of them is kept, and what they stand for.
fn attributes(work: &mut Translation<'_>) {
    let enrich = work.document.table("enrich");
    if let Some((setting, radius)) = work.global_number("bgp_aspath_radius") {
        work.document.set(enrich, "aspath_radius", radius, Some(&setting.origin));
    }
    for (key, name) in [
        ("bgp_stdcomm_pattern", "stdcomm_pattern"),
        ("bgp_extcomm_pattern", "extcomm_pattern"),
        ("bgp_lrgcomm_pattern", "lrgcomm_pattern"),
        ("bgp_stdcomm_pattern_to_asn", "stdcomm_pattern_to_asn"),
        ("bgp_lrgcomm_pattern_to_asn", "lrgcomm_pattern_to_asn"),
    ] {
        if let Some(setting) = work.global(key) {
            work.document.set(enrich, name, setting.list(), Some(&setting.origin));
        }
    }
    if let Some((setting, skip)) = work.flag("bgp_peer_as_skip_subas") {
        work.document.set(enrich, "skip_confederation", skip, Some(&setting.origin));
    } else if let Some(line) = work.configuration.global("bgp_daemon") {
        // The default is the other one here.
        let origin = line.into();
        work.document.set(enrich, "skip_confederation", false, Some(&origin));
    }
    for name in [
        "peer_src_as",
        "src_as_path",
        "src_std_comm",
        "src_ext_comm",
        "src_lrg_comm",
        "src_local_pref",
        "src_med",
        "src_roa",
    ] {
        let Some(setting) = work.global(&format!("bgp_{name}_type")) else { continue };
        match setting.value.to_lowercase().as_str() {
            "bgp" => work.remark(
                &setting,
                Verdict::NotNeeded,
                "not needed: it is always known if there is a route",
            ),
            "map" if name == "peer_src_as" => {}
            "map" => work.remark(&setting, Verdict::NotHonoured, "it is that of the route to the source"),
            _ => work.remark(&setting, Verdict::Differs, "it is that of the route to the source"),
        }
    }
    for key in ["bgp_follow_default", "bgp_follow_nexthop", "bgp_follow_nexthop_external"] {
        work.refuse(
            key,
            "routes of one peer do not lead to those of another; have each router send its full table",
        );
    }
    for key in ["bgp_src_local_pref_map", "bgp_src_med_map", "bgp_peer_dst_ip_map", "bgp_link_bandwidth"] {
        work.refuse(key, "it is left out");
    }
}

/// Flow exporters that the agent map names, other than "any".
pub(super) fn exporters(work: &Translation<'_>) -> Vec<IpAddr> {
    let Some(line) = work.configuration.global("bgp_agent_map") else { return Vec::new() };
    let rows = maps::rows(Path::new(&line.value)).unwrap_or_default();
    let mut exporters: Vec<IpAddr> = rows
        .iter()
        .filter_map(|row| exporter(row)?.parse().ok())
        .filter(|ip: &IpAddr| !ip.is_unspecified())
        .collect();
    exporters.sort_unstable();
    exporters.dedup();
    exporters
}

/// The flow exporter of a row; `None` = any.
fn exporter(row: &Row) -> Option<&str> {
    let ip = row.get("ip")?;
    let is_any = ["0.0.0.0", "0.0.0.0/0", "::", "::/0"].contains(&ip);
    (!is_any).then_some(ip)
}

/// The agent map: whose routes are for which records.
fn agents(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let Some(setting) = work.global("bgp_agent_map") else { return Ok(()) };
    let file = PathBuf::from(&setting.value);
    let rows = maps::rows(&file).map_err(|error| work.map_fault(&setting, &error))?;
    let mut rules: Vec<(IpAddr, Condition)> = Vec::new();
    for row in &rows {
        let Some(peer) = row.get("bgp_ip") else {
            work.remark_in(&file, row.line, "", "bgp_ip is missing; the row is left out");
            continue;
        };
        let Ok(peer) = peer.parse() else {
            let reason = format!("{}:{}: bgp_ip is not an address", file.display(), row.line);
            return Err(work.line_fault(&setting, &reason));
        };
        // A packet probe of pmacct has exporter 0.0.0.0, so that rows for others never match.
        if exporter(row).is_some() && work.daemon == Daemon::Pmacctd {
            let text = "the row never matched packets of pmacctd, which needs ip=0.0.0.0/0; it is left out";
            work.remark_in(&file, row.line, "ip", text);
            continue;
        }
        if row.get("bgp_port").is_some() {
            work.remark_in(&file, row.line, "bgp_port", "sessions are told apart by address only");
        }
        if let Some(condition) = condition(row.get("filter").unwrap_or_default()) {
            rules.push((peer, condition));
        } else {
            let text = "a row's filter can be ip, ip6, or net NETWORK; the row is left out";
            work.remark_in(&file, row.line, "filter", text);
        }
    }
    if work.daemon != Daemon::Pmacctd && exporters(work).len() > 1 {
        let text = "it has rows for several routers, and pathflow runs on one of them: say by [[enrich.agent]] which \
                    peer's routes count, or the first peer that has a route does";
        work.remark(&setting, Verdict::NotHonoured, text);
        return Ok(());
    }
    for (peer, condition) in rules {
        let agent = work.document.array_table("enrich.agent", Some(&setting.origin));
        work.document.set(agent, "peer", peer.to_string(), Some(&setting.origin));
        if let Some(version) = condition.ip_version {
            work.document.set(agent, "ip_version", version, Some(&setting.origin));
        }
        if let Some(network) = condition.network {
            work.document.set(agent, "networks", vec![network.to_string()], Some(&setting.origin));
        }
    }
    Ok(())
}

/// What a record has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Condition {
    ip_version: Option<i64>,
    network: Option<IpNet>,
}

/// The filters that have a counterpart in `[[enrich.agent]]`.
fn condition(filter: &str) -> Option<Condition> {
    let words: Vec<&str> = filter.split_whitespace().collect();
    let version = |version| Some(Condition { ip_version: Some(version), network: None });
    match words.join(" ").as_str() {
        "" => Some(Condition::default()),
        "ip" | "ip or (vlan and ip)" => version(4),
        "ip6" | "ip6 or (vlan and ip6)" => version(6),
        text => {
            let network = text.strip_prefix("net ").or_else(|| text.strip_prefix("host "))?;
            let network = network.parse().or_else(|_| network.parse::<IpAddr>().map(IpNet::from)).ok()?;
            Some(Condition { ip_version: None, network: Some(network) })
        }
    }
}

/// The peers map: from which AS traffic comes in.
fn peer_sources(work: &mut Translation<'_>) -> Result<(), ImportError> {
    let Some(setting) = work.global("bgp_peer_src_as_map") else { return Ok(()) };
    let file = PathBuf::from(&setting.value);
    let rows = maps::rows(&file).map_err(|error| work.map_fault(&setting, &error))?;
    let numbers = match work.configuration.global("pcap_interfaces_map") {
        Some(line) => InterfacesMap::read(Path::new(&line.value)).unwrap_or_default(),
        None => InterfacesMap::default(),
    };
    let routers: BTreeSet<&str> = rows.iter().filter_map(exporter).collect();
    if routers.len() > 1 {
        let text = "its rows are of several routers, and all of them count: leave those of this router";
        work.remark(&setting, Verdict::Differs, text);
    }
    for row in &rows {
        peer_source(work, &setting, &file, row, &numbers);
    }
    Ok(())
}

fn peer_source(
    work: &mut Translation<'_>,
    setting: &Setting,
    file: &Path,
    row: &Row,
    numbers: &InterfacesMap,
) {
    let left_out = |work: &mut Translation<'_>, key: &str, text: &str| {
        work.remark_in(file, row.line, key, format!("{text}; the row is left out"));
    };
    let number = match row.get("set_tag").or_else(|| row.get("id")) {
        Some("bgp") => 0,
        Some(text) => match text.parse::<u32>() {
            Ok(number) => i64::from(number),
            Err(_) => return left_out(work, "set_tag", "it is neither an AS number nor bgp"),
        },
        None => return left_out(work, "set_tag", "it is missing"),
    };
    let (mut interfaces, mut macs, mut next_hop) = (Vec::new(), Vec::new(), None);
    for (key, value) in &row.pairs {
        match key.as_str() {
            "set_tag" | "id" | "ip" => {}
            "in" => {
                let index = value.parse().ok();
                let names = numbers.names().filter(|name| {
                    index.is_some() && numbers.get(name).and_then(|entry| entry.index) == index
                });
                interfaces.extend(names.map(str::to_owned));
                if interfaces.is_empty() {
                    let text = "no interface has this number in pcap_interfaces_map; name the interface in \
                                [[enrich.peer_source]]";
                    return left_out(work, "in", text);
                }
            }
            "bgp_nexthop" | "nexthop" => next_hop = Some(value.clone()),
            "src_mac" => macs.push(value.clone()),
            "filter" => match value.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["ether", "src", mac] => macs.push((*mac).to_owned()),
                _ => return left_out(work, "filter", "it can be ether src MAC"),
            },
            other => return left_out(work, other, "it cannot be a condition"),
        }
    }
    let rule = work.document.array_table("enrich.peer_source", Some(&setting.origin));
    let origin = Some(&setting.origin);
    if !interfaces.is_empty() {
        work.document.set(rule, "interfaces", interfaces, origin);
    }
    if !macs.is_empty() {
        work.document.set(rule, "macs", macs, origin);
    }
    if let Some(next_hop) = next_hop {
        work.document.set(rule, "next_hop", next_hop, origin);
    }
    work.document.set(rule, "as", number, origin);
}
