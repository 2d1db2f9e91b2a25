//! Lines that nobody took: known to be needless, known to be impossible, without a plugin, or unknown.

use crate::pmacct::configuration::{Line, Plugin};
use crate::pmacct::remark::Verdict;

use super::Translation;

/// Keys of which nothing is left to do; a `*` at the end stands for the rest of the name.
const NOT_NEEDED: &[(&str, &str)] = &[
    ("pidfile", "the service manager knows the process"),
    ("proc_priority", "nice and the service manager do that"),
    ("core_proc_name", "there is one process"),
    ("pmacctd_proc_name", "there is one process"),
    ("pmacctd_nonroot", "pathflow says which capabilities it lacks (pathflow doctor)"),
    ("plugin_exit_any", "there is one process"),
    ("propagate_signals", "there is one process"),
    ("plugin_*", "queues between threads have bounds of their own, and losses are counted"),
    ("pmacctd_pipe_size", "packets are counted in the kernel"),
    ("classifier_num_roots", "the table grows up to max_flows of [capture.classify]"),
    ("classifier_idle_scan_period", "flows are gone through all the time"),
    ("snaplen", "headers are read in the kernel, however long"),
    ("pmacctd_time_new", "packets are counted when they come; a replay has the times of its file"),
    ("pmacctd_force_frag_handling", "fragments always have the ports of their first one"),
    ("pmacctd_frag_buffer_size", "fragments need no buffer"),
    ("pmacctd_flow_*", "[flow] has the bounds of flows"),
    ("pmacctd_conntrack_buffer_size", "[flow] has the bounds of flows"),
    ("maps_*", "maps have no bounds, and SIGHUP has them read again"),
    ("networks_cache_entries", "lookups need no cache"),
    ("bgp_table_*_buckets", "tables grow as needed"),
    ("bgp_table_attr_hash_buckets", "tables grow as needed"),
    ("bgp_table_peer_buckets", "tables grow as needed"),
    ("bgp_table_per_peer_buckets", "tables grow as needed"),
    ("bgp_table_per_peer_hash", "tables grow as needed"),
    ("bgp_daemon_pipe_size", "the system chooses"),
    ("bgp_daemon_batch*", "sessions are taken as they come"),
    ("bmp_table_*", "tables grow as needed"),
    ("tmp_bgp_lookup_compare_ports", "sessions are told apart by address"),
    ("tmp_*", "it is a workaround for something of pmacct's"),
    ("use_ip_next_hop", "on a session with ADD-PATH the kernel's next hop selects the path"),
    ("tee_max_receiver*", "there is no tee"),
];

/// Keys that cannot be honoured, and what to do.
const IMPOSSIBLE: &[(&str, &str)] = &[
    ("logfile", "messages go to standard error; a service manager keeps them, or redirect them"),
    ("syslog", "messages go to standard error; a service manager can pass them to syslog"),
    ("nfacctd_*", "pathflow is no collector: it counts the packets of the router that it runs on"),
    ("sfacctd_*", "pathflow is no collector: it counts the packets of the router that it runs on"),
    (
        "uacctd_*",
        "packets are counted by XDP and tc, without NFLOG; name the interfaces in capture.interfaces",
    ),
    ("tee_*", "pathflow does not replicate what others export; give [export] several collectors"),
    ("telemetry_*", "pathflow does not collect telemetry"),
    ("isis_*", "there is no IS-IS; next hops are those of the kernel's routing table"),
    ("igp_*", "there is no IGP; next hops are those of the kernel's routing table"),
    ("bmp_dump_*", "tables that come by BMP are not dumped"),
    ("bmp_daemon_msglog_*", "messages of BMP are not logged"),
    ("bmp_*", "it is left out"),
    ("redis_*", "there is no Redis"),
    ("cluster_*", "there are no clusters"),
    ("geoip_*", "the old format is not read; geoipv2_file is for a file in the MaxMind DB format"),
    ("sql_*", "databases are not written to; use print with print_output: csv, or kafka, and load that"),
    ("amqp_*", "RabbitMQ is not written to; use kafka"),
    ("print_stitching", "the key is pmacctd_stitching; pmacct ignores this one, too"),
    ("kafka_stitching", "the key is pmacctd_stitching; pmacct ignores this one, too"),
    ("pmacctd_ext_sampling_rate", "counts are those of the packets that are seen"),
    ("sampling_map", "capture.interface has a sampling_interval for each interface"),
    ("writer_id_string", "it is PLUGIN/PROCESS"),
    ("ports_file", "all ports are kept"),
    ("num_hosts", "addresses are written as text"),
    (
        "mpls_label_stack_encode_as_array",
        "labels are a text with _ between; style = \"pathflow\" has an array",
    ),
    ("pcap_arista_*", "the trailer is not read"),
    (
        "files_*",
        "it is for files of print_output_file; others belong to the user that pathflow runs as, by its umask",
    ),
];

/// Keys that only their plugins know.
const OF_PLUGINS: &[(&str, &str)] = &[
    ("print_", "print"),
    ("kafka_", "kafka"),
    ("imt_", "memory"),
    ("nfprobe_", "nfprobe"),
    ("sfprobe_", "sfprobe"),
];

pub(super) fn translate(work: &mut Translation<'_>, plugins: &[Plugin]) {
    daemonize(work);
    debug(work);
    let lines = work.configuration.lines.iter().zip(work.used.clone());
    for (line, _) in lines.filter(|(_, used)| !used) {
        judge(work, line, plugins);
    }
}

fn daemonize(work: &mut Translation<'_>) {
    if let Some((setting, true)) = work.flag("daemonize") {
        let text = "pathflow stays in the foreground, where a service manager wants it";
        work.remark(&setting, Verdict::Differs, text);
    }
}

fn debug(work: &mut Translation<'_>) {
    if let Some((setting, true)) = work.flag("debug") {
        let log = work.document.table("log");
        work.document.set(log, "level", "debug", Some(&setting.origin));
    }
}

fn judge(work: &mut Translation<'_>, line: &Line, plugins: &[Plugin]) {
    let (verdict, text) = verdict(line, plugins);
    work.remark_at(&line.into(), verdict, text);
}

fn verdict(line: &Line, plugins: &[Plugin]) -> (Verdict, String) {
    let find = |table: &'static [(&str, &str)]| table.iter().find(|(pattern, _)| matches(pattern, &line.key));
    if let Some(name) = &line.name
        && !line.is_global()
        && !plugins.iter().any(|plugin| plugin.name == *name)
    {
        return (Verdict::NotHonoured, "no plugin has this name; pmacct ignores it, too".to_owned());
    }
    if let Some((_, why)) = find(NOT_NEEDED) {
        return (Verdict::NotNeeded, format!("not needed: {why}"));
    }
    if let Some((_, why)) = find(IMPOSSIBLE) {
        return (Verdict::NotHonoured, (*why).to_owned());
    }
    if let Some((_, kind)) = OF_PLUGINS.iter().find(|(prefix, _)| line.key.starts_with(prefix)) {
        if plugins.iter().any(|plugin| plugin.kind == *kind) {
            return (Verdict::NotHonoured, unknown(line));
        }
        return (Verdict::NotNeeded, format!("not needed: there is no {kind} plugin"));
    }
    match line.key.as_str() {
        "aggregate_primitives" => {
            (Verdict::NotHonoured, "it is for all plugins, without a name; pmacct ignores it, too".to_owned())
        }
        "aggregate_filter" if line.name.is_none() => (
            Verdict::NotHonoured,
            "it is for one plugin, as aggregate_filter[NAME]; pmacct ignores it, too".to_owned(),
        ),
        key if OF_PLUGIN_ANY.contains(&key) => {
            (Verdict::NotNeeded, "not needed: no plugin is left that it is for".to_owned())
        }
        _ => (Verdict::NotHonoured, unknown(line)),
    }
}

/// Keys of all plugins that write rows or flows.
const OF_PLUGIN_ANY: &[&str] = &[
    "aggregate",
    "aggregate_filter",
    "pre_tag_filter",
    "pre_tag2_filter",
    "pre_tag_label_filter",
    "pre_tag_label_encode_as_map",
    "post_tag",
    "post_tag2",
    "sampling_rate",
    "pmacctd_renormalize",
    "pmacctd_stitching",
    "timestamps_utc",
    "timestamps_secs",
    "timestamps_since_epoch",
    "timestamps_rfc3339",
    "timestamps_rfc9557",
    "tcpflags_encode_as_array",
    "tos_encode_as_dscp",
    "as_path_encode_as_array",
    "bgp_comms_encode_as_array",
    "bgp_comms_num",
];

/// Says so, with the key that was perhaps meant.
fn unknown(line: &Line) -> String {
    let known = KNOWN.split_whitespace();
    let nearest = known.map(|known| (strsim::damerau_levenshtein(&line.key, known), known)).min();
    match nearest {
        Some((0, _)) => "pathflow has nothing for it; it is left out".to_owned(),
        Some((distance, known)) if distance <= 2 => format!("unknown key; did you mean {known}?"),
        _ => "unknown key; it is left out".to_owned(),
    }
}

/// Keys that are often used, for proposals.
const KNOWN: &str = "daemonize debug logfile pidfile plugins pcap_interface pcap_interfaces_map pcap_filter \
    sampling_rate aggregate aggregate_filter pre_tag_map pre_tag_filter pmacctd_as pmacctd_net networks_file \
    networks_file_no_lpm bgp_daemon bgp_daemon_ip bgp_daemon_port bgp_daemon_id bgp_daemon_as bgp_daemon_max_peers \
    bgp_daemon_allow_file bgp_daemon_md5_file bgp_agent_map bgp_aspath_radius bgp_peer_src_as_type bgp_peer_src_as_map \
    bgp_table_dump_file bgp_table_dump_refresh_time bgp_table_dump_kafka_topic bgp_daemon_msglog_file \
    bgp_daemon_msglog_kafka_topic rpki_roas_file rpki_rtr_cache kafka_topic \
    kafka_broker_host kafka_broker_port kafka_refresh_time kafka_history kafka_history_roundoff kafka_output \
    kafka_config_file print_output print_output_file print_output_file_append print_refresh_time print_history \
    print_history_roundoff nfprobe_receiver nfprobe_version nfprobe_timeouts nfprobe_source_ip nfprobe_engine \
    sfprobe_receiver sfprobe_agentip sfprobe_agentsubid sfprobe_source_ip timestamps_utc \
    geoipv2_file print_trigger_exec kafka_topic_rr files_uid files_gid files_umask";

/// Whether a key is meant; at most one `*` stands for anything.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == key,
        Some((before, after)) => key.strip_prefix(before).is_some_and(|rest| rest.ends_with(after)),
    }
}
