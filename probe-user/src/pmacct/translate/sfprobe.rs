//! `sfprobe`: `[sflow]` and `capture.header_sampling_interval`.

use crate::pmacct::configuration::Plugin;
use crate::pmacct::remark::Verdict;

use super::{Setting, Translation, aggregate};

/// Where pmacctd sends to if nothing is said.
const RECEIVER: &str = "127.0.0.1:6343";

pub(super) fn translate(work: &mut Translation<'_>, plugin: &Plugin) {
    let sflow = work.document.table("sflow");
    let mut collectors = work.document.get(sflow, "collectors").and_then(|value| value.as_array()).cloned();
    let collectors = collectors.get_or_insert_default();
    let receiver = work.of_plugin(plugin, "sfprobe_receiver");
    let address = receiver.as_ref().map_or(RECEIVER, |setting| setting.value.as_str());
    if receiver.is_none() {
        work.whole(format!("{}: no sfprobe_receiver is given; pmacctd sends to {RECEIVER}", plugin.name));
    }
    collectors.push(address.into());
    let origin = receiver.as_ref().map(|setting| &setting.origin);
    work.document.set(sflow, "collectors", collectors.clone(), origin);
    for (key, name) in [("sfprobe_agentip", "agent_address"), ("sfprobe_source_ip", "source_address")] {
        if let Some(setting) = work.of_plugin(plugin, key) {
            once(work, "sflow", name, &setting, setting.value.as_str());
        }
    }
    if let Some((setting, id)) = work.plugin_number(plugin, "sfprobe_agentsubid") {
        once(work, "sflow", "sub_agent_id", &setting, id);
    }
    if let Some((setting, interval)) = work.plugin_number(plugin, "sampling_rate") {
        once(work, "capture", "header_sampling_interval", &setting, interval.max(1));
    } else {
        every_packet(work, plugin);
    }
    if let Some((origin, _)) = aggregate::filter(work, plugin) {
        let text = "samples are of all packets; capture.filter is for everything";
        work.remark_at(&origin, Verdict::NotHonoured, text);
    }
    super::enrich::refuse_own_tag_map(work, plugin);
    for key in ["pre_tag_filter", "pre_tag2_filter", "pre_tag_label_filter"] {
        work.refuse_of(plugin, key, "samples are of all packets");
    }
    for key in ["sfprobe_direction", "sfprobe_ifindex", "sfprobe_ifindex_override"] {
        if let Some(setting) = work.of_plugin(plugin, key) {
            let text = "samples have the direction and the interfaces that packets really had";
            work.remark(&setting, Verdict::Differs, text);
        }
    }
    if let Some(setting) = work.of_plugin(plugin, "sfprobe_ifspeed") {
        work.remark(&setting, Verdict::NotNeeded, "not needed: it is the real speed of the interface");
    }
    if let Some(setting) = work.of_plugin(plugin, "aggregate") {
        let text = "not needed: samples have the header and every record that there is something to say in";
        work.remark(&setting, Verdict::NotNeeded, text);
    }
    for key in ["sfprobe_ipprec", "sfprobe_peer_as", "pmacctd_renormalize"] {
        work.refuse_of(plugin, key, "it is left out");
    }
}

fn every_packet(work: &mut Translation<'_>, plugin: &Plugin) {
    let capture = work.document.table("capture");
    if work.document.get(capture, "header_sampling_interval").is_none() {
        let text = "without sampling_rate every packet is a sample; a router should take one in 1000 or so";
        work.whole(format!("{}: {text}", plugin.name));
        work.document.set(capture, "header_sampling_interval", 1, None);
    }
}

/// There is one `[sflow]` for all plugins.
fn once(
    work: &mut Translation<'_>,
    table: &str,
    key: &str,
    setting: &Setting,
    value: impl Into<toml::Value>,
) {
    let value = value.into();
    let id = work.document.table(table);
    match work.document.get(id, key) {
        Some(before) if *before != value => {
            let text = format!("all sFlow collectors get the same; {key} is that of another plugin");
            work.remark(setting, Verdict::NotHonoured, text);
        }
        _ => work.document.set(id, key, value, Some(&setting.origin)),
    }
}
