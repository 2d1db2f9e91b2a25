//! The configurations of the documents that pathflow comes from: what they become, and what is said of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Overrides;

/// Where the documents have their maps.
const PLACES: [&str; 4] =
    ["/etc/pmacct/", "/opt/pmacct-1.7.2/", "/home/maoke/pmacct_work/maps/", "/path/to/"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pmacct")
}

/// A copy of a document's files, in which paths lead to the copies.
struct Copy(PathBuf);

impl Copy {
    fn new(document: &str, test: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("pathflow-import-{}-{test}-{document}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let copy = Self(path);
        for entry in fs::read_dir(folder().join(document)).unwrap() {
            let path = entry.unwrap().path();
            let text = PLACES.iter().fold(fs::read_to_string(&path).unwrap(), |text, place| {
                text.replace(place, &format!("{}/", copy.0.display()))
            });
            fs::write(copy.0.join(path.file_name().unwrap()), text).unwrap();
        }
        copy
    }

    fn here(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "/path/to/")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn documents() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for document in fs::read_dir(folder()).unwrap() {
        let document = document.unwrap();
        for file in fs::read_dir(document.path()).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let is_configuration = Path::new(&name).extension().is_some_and(|extension| extension == "conf");
            if is_configuration && name != "librdkafka.conf" {
                all.push((document.file_name().into_string().unwrap(), name));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn every_document_becomes_what_was_written_down_for_it() {
    let documents = documents();
    assert_eq!(documents.len(), 33, "{documents:?}");
    let mut faults = Vec::new();
    for (document, name) in documents {
        let copy = Copy::new(&document, "golden");
        let file = copy.0.join(&name);
        let configuration = Configuration::parse(&file, &fs::read_to_string(&file).unwrap()).unwrap();
        let (translated, remarks) = translate::translate(&configuration).unwrap();
        let actual = copy.here(&toml(&file, &translated, &remarks));
        let expected = folder().join(&document).join(name.replace(".conf", ".toml"));
        if fs::read_to_string(&expected).ok().as_deref() != Some(&actual) {
            faults.push(format!("=== {}\n{actual}", expected.display()));
        }
    }
    if let Some(file) = std::env::var_os("PATHFLOW_IMPORT_RESULTS") {
        fs::write(file, faults.concat()).unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.concat());
}

#[test]
fn what_is_printed_is_a_right_configuration_and_the_same_that_runs() {
    for (document, name) in documents() {
        let copy = Copy::new(&document, "check");
        let imported =
            import(&copy.0.join(&name)).unwrap_or_else(|error| panic!("{document}/{name}: {error}"));
        let file = copy.0.join("pathflow.toml");
        fs::write(&file, &imported.toml).unwrap();
        let read = config::read(&file).unwrap_or_else(|error| panic!("{document}/{name}: {error}"));
        assert_eq!(read, imported.raw, "{document}/{name}");
        // Names of hosts are not looked up here.
        if !imported.toml.contains("fqdn") {
            config::Config::resolve(read, Overrides::default())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

/// Every key of the documents.
const KEYS: &str = "daemonize debug logfile pidfile plugins pcap_interface interface pcap_interfaces_map pcap_filter \
    pcap_savefile pcap_savefile_wait snaplen sampling_rate aggregate aggregate_filter[p] aggregate_primitives pre_tag_map \
    pre_tag_filter maps_refresh maps_index maps_entries pmacctd_as pmacctd_net nfacctd_as nfacctd_as_new nfacctd_net \
    sfacctd_as sfacctd_net uacctd_as uacctd_net networks_file networks_file_no_lpm use_ip_next_hop bgp_daemon \
    bgp_daemon_ip bgp_daemon_port bgp_daemon_id bgp_daemon_as bgp_daemon_max_peers bgp_daemon_allow_file bgp_agent_map \
    tmp_bgp_lookup_compare_ports bgp_aspath_radius bgp_stdcomm_pattern bgp_stdcomm_pattern_to_asn \
    bgp_lrgcomm_pattern_to_asn bgp_peer_src_as_type bgp_peer_src_as_map bgp_src_as_path_type bgp_src_roa_type \
    bgp_follow_default bgp_table_dump_file bgp_table_dump_kafka_topic bgp_table_dump_refresh_time \
    bgp_table_dump_kafka_config_file bgp_daemon_msglog_file bgp_daemon_msglog_kafka_topic \
    bgp_daemon_msglog_kafka_config_file bgp_table_dump_amqp_routing_key bgp_daemon_msglog_amqp_routing_key \
    bgp_daemon_lg bgp_daemon_lg_user bgp_daemon_lg_passwd bgp_daemon_xconnect_map rpki_roas_file rpki_rtr_cache \
    rpki_rtr_cache_version kafka_topic kafka_broker_host kafka_broker_port kafka_refresh_time kafka_history \
    kafka_history_roundoff kafka_output kafka_config_file kafka_multi_values kafka_avro_schema_registry avro_schema_file avro_schema_output_file avro_buffer_size kafka_avro_schema_topic print_output \
    print_output_file print_output_file_append print_refresh_time print_history print_history_roundoff \
    print_cache_entries imt_path imt_mem_pools_number nfprobe_receiver nfprobe_version nfprobe_timeouts \
    nfprobe_source_ip nfprobe_engine nfprobe_direction nfprobe_ifindex sfprobe_receiver sfprobe_agentip \
    sfprobe_agentsubid sfprobe_source_ip plugin_pipe_size plugin_buffer_size plugin_pipe_zmq plugin_pipe_zmq_profile \
    nfacctd_time_new pmacctd_time_new nfacctd_ip nfacctd_port nfacctd_pipe_size nfacctd_allow_file \
    nfacctd_account_options nfacctd_templates_file nfacctd_templates_receiver uacctd_group uacctd_nl_size tee_receivers \
    tee_transparent sql_table sql_history sql_optimize_clauses sql_refresh_time amqp_host amqp_routing_key bmp_daemon \
    bmp_daemon_ip bmp_daemon_port bmp_daemon_max_peers telemetry_daemon redis_host cluster_name geoipv2_file geoip_ipv4_file classifier_num_roots \
    classifier_max_flows classifier_proto_guess classifier_idle_scan_period classifier_idle_max_time \
    classifier_giveup_proto_tcp classifier_giveup_proto_udp classifier_giveup_proto_other \
    print_trigger_exec kafka_trigger_exec files_uid files_gid files_umask kafka_topic_rr \
    pre_tag_map[p] pre_tag_map[n]";

/// A value that the key can have.
fn value(key: &str, folder: &Path) -> String {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    match key {
        "plugins" => "print[p], kafka[k], nfprobe[n], sfprobe[s]".into(),
        "aggregate" => "src_host, dst_host".into(),
        "aggregate_filter[p]" | "pcap_filter" => "port 53".into(),
        "pcap_interfaces_map" => file("interfaces.map", "ifname=eth0 ifindex=10\n"),
        "pre_tag_map" | "pre_tag_map[p]" | "pre_tag_map[n]" => file("pretag.map", "set_tag=1\n"),
        "bgp_agent_map" => file("agent.map", "bgp_ip=192.0.2.1 ip=0.0.0.0/0\n"),
        "bgp_peer_src_as_map" => file("peers.map", "set_tag=64500 filter='ether src 02:00:5e:00:53:01'\n"),
        "bgp_daemon_allow_file" => file("allow.map", "192.0.2.0/24\n"),
        "kafka_config_file" => file("librdkafka.conf", "global, linger.ms, 50\n"),
        "bgp_peer_src_as_type" | "bgp_src_as_path_type" | "bgp_src_roa_type" => "bgp".into(),
        "aggregate_primitives" => {
            file("primitives.lst", "name=ttl packet_ptr=l3:0x800+8 len=1 semantics=u_int\n")
        }
        "kafka_output" => "avro".into(),
        "kafka_history" | "print_history" => "5m".into(),
        "kafka_history_roundoff" | "print_history_roundoff" => "m".into(),
        "nfprobe_timeouts" => "tcp=120:maxlife=3600".into(),
        "nfprobe_version" | "sampling_rate" => "10".into(),
        "bgp_daemon_as" => "64500".into(),
        key if key.ends_with("_as") || key.ends_with("_as_new") || key.ends_with("_net") => "bgp".into(),
        key if key.ends_with("_ip") || key.ends_with("ip") || key.ends_with("_id") => "192.0.2.1".into(),
        "daemonize"
        | "debug"
        | "networks_file_no_lpm"
        | "classifier_proto_guess"
        | "bgp_daemon"
        | "print_output_file_append"
        | "bmp_daemon" => "true".into(),
        _ => "1".into(),
    }
}

#[test]
fn every_key_of_the_documents_becomes_something_or_is_remarked_on() {
    let folder = std::env::temp_dir().join(format!("pathflow-keys-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for key in KEYS.split_whitespace() {
        let name = key.split('[').next().unwrap();
        let base = [
            ("plugins", value("plugins", &folder)),
            ("aggregate", "src_host, src_as".to_owned()),
            ("bgp_daemon", "true".to_owned()),
            ("print_history", "5m".to_owned()),
            ("kafka_history", "5m".to_owned()),
            ("print_output_file", "/tmp/rows".to_owned()),
            ("bgp_table_dump_file", "/tmp/dump".to_owned()),
        ];
        let base =
            base.iter().filter(|(other, _)| *other != name && !name.starts_with("bgp_table_dump_kafka"));
        let mut lines: Vec<String> = base.map(|(key, value)| format!("{key}: {value}")).collect();
        lines.push(format!("{key}: {}", value(key, &folder)));
        let (line, text) = (lines.len(), lines.join("\n"));
        let configuration = Configuration::parse(Path::new("pmacct.conf"), &text).unwrap();
        let (document, remarks) =
            translate::translate(&configuration).unwrap_or_else(|error| panic!("{key}: {error}"));
        let is_set = document.text().contains(&format!("# line {line}: {name}"));
        let of_line: Vec<String> =
            remarks.iter().filter(|remark| remark.line == line).map(|remark| remark.text.clone()).collect();
        assert!(is_set || !of_line.is_empty(), "{key} is passed over\n{}", document.text());
        assert!(!of_line.iter().any(|text| text.contains("unknown")), "{key}: {of_line:?}");
    }
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_pmacct_says_of_classification_is_said_of_it_here() {
    let text = "plugins: print\naggregate: src_host, class\nclassifier_num_roots: 1024\nclassifier_max_flows: 500000\n\
        classifier_idle_max_time: 300\nclassifier_giveup_proto_tcp: 12\nclassifier_giveup_proto_udp: 8\n\
        classifier_proto_guess: true\n";
    let configuration = Configuration::parse(Path::new("pmacct.conf"), text).unwrap();
    let (document, remarks) = translate::translate(&configuration).unwrap();
    let raw: config::raw::Raw = toml::from_str(&document.text()).unwrap();
    assert_eq!(
        raw.capture.classify,
        config::raw::Classify {
            packets: 12,
            max_flows: 500_000,
            idle_timeout: std::time::Duration::from_mins(5),
            guess: true,
            ..config::raw::Classify::default()
        }
    );
    assert_eq!(raw.aggregate[0].key, ["src_host", "class"]);
    let of_line = |line| remarks.iter().find(|remark| remark.line == line).map(|remark| remark.text.as_str());
    assert_eq!(of_line(7), Some("there is one number for all protocols: 12"));
    assert_eq!(of_line(6), None);
}

#[test]
fn the_peers_of_pmaccts_bmp_daemon_are_routers() {
    let text = "plugins: print\naggregate: src_as\nbmp_daemon: true\nbmp_daemon_max_peers: 7\n";
    let configuration = Configuration::parse(Path::new("pmacct.conf"), text).unwrap();
    let (document, _) = translate::translate(&configuration).unwrap();
    let text = document.text();
    assert!(text.contains("max_routers = 7 # line 4: bmp_daemon_max_peers"), "{text}");
}

/// Without a type pmacct keeps a row that meets one of several minimums; with `all` it is as if nothing were said here.
#[test]
fn minimums_of_rows_have_the_meaning_that_they_had() {
    use crate::aggregate::Minimums;
    let file = std::env::temp_dir().join(format!("pathflow-minimums-{}.conf", std::process::id()));
    let imported = |lines: &str| {
        fs::write(&file, format!("plugins: print[p], kafka[k]\naggregate: src_host\n{lines}")).unwrap();
        let imported = import(&file).unwrap();
        let remarks: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
        let limits = config::Config::resolve(imported.raw, Overrides::default()).unwrap().aggregates;
        (limits.iter().map(|aggregate| aggregate.limits).collect::<Vec<_>>(), remarks)
    };
    let (limits, remarks) = imported(
        "kafka_preprocess: minp=100, minb=100000\nprint_preprocess: minp=7, minbpp=8\nprint_preprocess_type: all\n",
    );
    assert_eq!(
        (limits[1].min_packets, limits[1].min_octets, limits[1].minimums),
        (100, 100_000, Minimums::Any)
    );
    assert_eq!((limits[0].min_packets, limits[0].min_octets_per_packet), (7, 8));
    assert_eq!(limits[0].minimums, Minimums::All);
    assert!(!remarks.iter().any(|remark| remark.contains("preprocess")), "{remarks:?}");
    let (limits, remarks) = imported(
        "kafka_preprocess: minf=2, minppf=3, maxp=4, nonsense=5\nkafka_preprocess_type: some\n\
         print_preprocess_type: all\n",
    );
    assert_eq!(
        (limits[1].min_flows, limits[1].min_packets_per_flow, limits[1].minimums),
        (2, 3, Minimums::Any)
    );
    for expected in [
        ":3: kafka_preprocess: flows are those that began",
        ":3: kafka_preprocess: not needed: pmacct knows maxp of plugins for SQL only",
        ":3: kafka_preprocess: nonsense is left out",
        ":4: kafka_preprocess_type: it is neither any nor all",
        ":5: print_preprocess_type: not needed",
    ] {
        assert!(remarks.iter().any(|remark| remark.contains(expected)), "{expected}\n{remarks:#?}");
    }
    fs::remove_file(&file).unwrap();
}

/// There is one idle timeout: whatever else pmacct would have done is said.
#[test]
fn timeouts_that_mean_something_else_are_remarked_on() {
    let alike = "tcp=30:udp=30:icmp=30:general=30:maxlife=60:tcp.rst=5:tcp.fin=5";
    let silent = "silent flows are reported after 15 seconds (pmacctd: after five minutes to an hour)";
    let active = "flows that go on are reported every minute (pmacctd: after a week)";
    for (value, expected) in [
        (alike, &[][..]),
        ("maxlife=60", &[silent]),
        ("tcp=120:udp=120:icmp=120:general=120", &[active]),
        (
            "tcp=120:maxlife=3600",
            &["120s, also for udp, icmp, general (pmacctd: five minutes for udp and icmp, else"],
        ),
        ("tcp=9:udp=8:icmp=7:general=6:maxlife=1", &["for all protocols: the longest, 9s"]),
        ("tcp=9:udp=9:icmp=9:general=9:maxlife=1:tcp.fin=4", &["by FIN as by RST: 4s"]),
        ("tcp=9:udp=9:icmp=9:general=9:maxlife=1:tcp.fin=4:tcp.rst=3", &["by FIN as by RST: 3s"]),
    ] {
        let text = format!("plugins: nfprobe\naggregate: src_host\nnfprobe_timeouts: {value}\n");
        let configuration = Configuration::parse(Path::new("pmacct.conf"), &text).unwrap();
        let (_, remarks) = translate::translate(&configuration).unwrap();
        let of_line: Vec<&str> =
            remarks.iter().filter(|remark| remark.line == 3).map(|remark| remark.text.as_str()).collect();
        assert_eq!(of_line.len(), expected.len(), "{value}: {of_line:?}");
        for (text, expected) in of_line.iter().zip(expected) {
            assert!(text.contains(expected), "{value}: {text}");
        }
    }
}

/// What a key of pmacct's becomes, in the aggregates of two plugins.
#[test]
fn keys_of_rows_become_those_of_their_aggregates() {
    let file = std::env::temp_dir().join(format!("pathflow-rows-{}.conf", std::process::id()));
    let text = "plugins: print[p], kafka[k]\naggregate: vlan, cos, label, class\nprint_output: json\n\
        print_output_file: /tmp/rows\npmacctd_stitching[p]: true\npre_tag_label_encode_as_map: true\n\
        print_stitching: true\n";
    fs::write(&file, text).unwrap();
    let imported = import(&file).unwrap();
    let [print, kafka] = &imported.raw.aggregate[..] else { panic!("{}", imported.toml) };
    assert_eq!(print.key, ["vlan", "cos", "label", "class"]);
    assert_eq!(print.key, kafka.key);
    assert_eq!((print.stitching, kafka.stitching), (true, false));
    assert!(print.format.label_as_map && kafka.format.label_as_map);
    let remarks: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
    let start = format!(
        "{}:7: print_stitching: the key is pmacctd_stitching; pmacct ignores this one, too",
        file.display()
    );
    assert!(remarks.iter().any(|remark| remark.starts_with(&start)), "{remarks:#?}");
    fs::remove_file(file).unwrap();
}

#[test]
fn files_topics_places_and_tags_are_those_of_each_plugin() {
    let folder = std::env::temp_dir().join(format!("pathflow-plugins-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let map = folder.join("own.map").display().to_string();
    fs::write(&map, "set_tag=7 filter='udp'\n").unwrap();
    let text = format!(
        "plugins: print[p], print[q], kafka[k]\naggregate: src_host_coords, tag\npre_tag_map: {map}\n\
         pre_tag_map[p]: {map}\nprint_output_file[p]: /tmp/rows\nprint_trigger_exec[p]: /bin/true -x\n\
         files_uid: 65534\nfiles_gid: 7\nfiles_umask: 027\nkafka_topic_rr: 4\n"
    );
    let configuration = Configuration::parse(Path::new("pmacct.conf"), &text).unwrap();
    let (document, remarks) = translate::translate(&configuration).unwrap();
    let raw = config::parse(Path::new("pmacct.toml"), &document.text()).unwrap();
    assert!(remarks.iter().all(|remark| remark.verdict == Verdict::Differs), "{remarks:?}");
    let [p, q, k] = &raw.aggregate[..] else { panic!("{:?}", raw.aggregate) };
    assert_eq!(raw.enrich.tag_map, map);
    assert_eq!([&p.tag_map, &q.tag_map, &k.tag_map], [map.as_str(), "", ""]);
    let file = p.file.as_ref().unwrap();
    assert_eq!([&file.owner, &file.group, &file.umask], ["65534", "7", "027"]);
    // The whole value is the program, as in pmacctd.
    assert_eq!(file.exec, ["/bin/true -x"]);
    assert!(q.stdout.is_some());
    assert_eq!(k.kafka.as_ref().unwrap().topics, 4);

    let collected = text.clone() + "geoipv2_file: /nowhere/places.mmdb\n";
    fs::write(folder.join("pmacct.conf"), collected).unwrap();
    let error = import(&folder.join("pmacct.conf")).unwrap_err().to_string();
    assert!(error.contains("pmacct.conf:11: geoipv2_file: /nowhere/places.mmdb: No such file"), "{error}");
    fs::write(&map, "set_tag=x\n").unwrap();
    let own = text.replace("pre_tag_map: ", "! ");
    fs::write(folder.join("pmacct.conf"), own).unwrap();
    let error = import(&folder.join("pmacct.conf")).unwrap_err().to_string();
    assert!(
        error.contains(&format!("pmacct.conf:4: pre_tag_map[p]: {map}:1: set_tag=x: it must be")),
        "{error}"
    );
    fs::remove_dir_all(&folder).unwrap();
}

/// Avro to Kafka: with a registry, without, with a topic of variables, and where its keys are of no use.
#[test]
fn avro_and_its_registry_are_those_of_each_plugin() {
    let text = "plugins: kafka[r], kafka[v], kafka[p], kafka[x], kafka[j]\naggregate: src_host, peer_src_ip\n\
        kafka_output: avro\nkafka_topic[r]: daisy.flow\nkafka_topic[v]: acct.$peer_src_ip\n\
        kafka_avro_schema_registry[r]: http://user:canary@127.0.0.1:8081\n\
        kafka_avro_schema_registry[v]: http://127.0.0.1:8081\nkafka_markers: true\nkafka_multi_values[r]: 10000\n\
        kafka_multi_values[p]: 10000\navro_schema_output_file[p]: /tmp/p.avsc\navro_buffer_size: 8192\n\
        kafka_avro_schema_topic[p]: schemas\nkafka_output[x]: avro_json\nkafka_output[j]: json\n\
        avro_schema_file[j]: /tmp/j.avsc\n";
    let configuration = Configuration::parse(Path::new("pmacct.conf"), text).unwrap();
    let (document, remarks) = translate::translate(&configuration).unwrap();
    assert!(document.has_secrets());
    let raw = config::parse(Path::new("pmacct.toml"), &document.text()).unwrap();
    let kafka: Vec<_> = raw.aggregate.iter().map(|aggregate| aggregate.kafka.as_ref().unwrap()).collect();
    let [registered, variable, plain, as_json, json] = kafka[..] else { panic!("{}", document.text()) };
    let avro = crate::aggregate::KafkaFormat::Avro;
    let formats = [registered, variable, plain, as_json, json].map(|table| table.format == avro);
    assert_eq!(formats, [true, true, true, false, false]);
    assert_eq!(registered.schema_registry, "http://user:canary@127.0.0.1:8081");
    assert_eq!(
        [registered, variable, plain].map(|table| table.schema_subject.as_str()),
        ["daisy.flow-acct_data", "pmacct_kafka_v-acct_data", ""]
    );
    let files = [registered, plain, json].map(|table| table.schema_file.as_str());
    assert_eq!(files, ["", "/tmp/p.avsc", ""]);
    assert_eq!([registered, variable, plain, json].map(|table| table.markers), [true, true, false, true]);
    assert_eq!([registered, plain].map(|table| table.message_octets), [0, 10_000]);
    let remarks: Vec<String> = remarks.iter().map(ToString::to_string).collect();
    for (line, remark) in [
        (8, "kafka_markers: markers are left out: in Avro without kafka_avro_schema_registry"),
        (9, "kafka_multi_values[r]: with kafka_avro_schema_registry each row has a message of its own"),
        (12, "avro_buffer_size: not needed"),
        (13, "kafka_avro_schema_topic[p]: schemas are not sent to topics"),
        (14, "kafka_output[x]: messages are JSON, which has the same names, or binary Avro"),
        (16, "avro_schema_file[j]: not needed: it is for kafka_output: avro only"),
    ] {
        let start = format!("pmacct.conf:{line}: {remark}");
        assert!(remarks.iter().any(|remark| remark.starts_with(&start)), "{start} {remarks:#?}");
    }
    assert!(!remarks.concat().contains("canary"));
    let config = config::Config::resolve(raw, Overrides::default());
    assert_eq!(config.is_ok(), cfg!(feature = "avro"));
    if let Err(error) = config {
        let error = error.to_string();
        assert!(
            error.contains("aggregate.kafka.format") && error.contains("without its feature avro"),
            "{error}"
        );
    }
}

#[test]
fn a_plugin_that_exports_flows_has_a_tag_map_of_its_own() {
    let folder = std::env::temp_dir().join(format!("pathflow-exports-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let map = folder.join("own.map").display().to_string();
    fs::write(&map, "set_tag=7 filter='udp'\n").unwrap();
    let text = format!(
        "plugins: nfprobe[a], nfprobe[b], nfprobe[c], sfprobe[s]\n\
         aggregate: src_host, dst_host, src_port, dst_port, proto, tag\nnfprobe_version[c]: 9\n\
         nfprobe_receiver[b]: 192.0.2.9:2100\npre_tag_map[a]: {map}\npre_tag_map[c]: {map}\npre_tag_map[s]: {map}\n"
    );
    let configuration = Configuration::parse(Path::new("pmacct.conf"), &text).unwrap();
    let (document, remarks) = translate::translate(&configuration).unwrap();
    let raw = config::parse(Path::new("pmacct.toml"), &document.text()).unwrap();
    let maps: Vec<_> = raw.export.process.iter().map(|process| process.tag_map.as_deref()).collect();
    assert_eq!(maps, [Some(map.as_str()), None, None]);
    let of_line = |line: usize| -> Vec<&str> {
        remarks.iter().filter(|remark| remark.line == line).map(|remark| remark.text.as_str()).collect()
    };
    assert!(of_line(5).is_empty(), "{remarks:?}");
    assert!(of_line(6)[0].contains("nobody would see its tags"), "{remarks:?}");
    assert!(of_line(7)[0].contains("samples have no tags"), "{remarks:?}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn faults_name_file_line_and_key_and_remarks_hold_no_secrets() {
    let folder = std::env::temp_dir().join(format!("pathflow-faults-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("p.conf");
    let properties = folder.join("librdkafka.conf");
    let keys = folder.join("md5.lst");
    let at = |name: &str| folder.join(name).display().to_string();
    let attempt = |text: &str| {
        fs::write(&file, text).unwrap();
        import(&file).map_err(|error| error.to_string().replace(&at(""), ""))
    };
    fs::write(&properties, "global, sasl.password, canary1\nglobal, ssl.key.password, canary2\n").unwrap();
    fs::write(&keys, "192.0.2.1, canary3\n").unwrap();
    fs::write(folder.join("bad.map"), "! x\nifname=eth0 ifindex=0\n").unwrap();
    for (text, expected) in [
        ("daemonize true\n", "p.conf:1: there is no \":\" after a key".to_owned()),
        (
            "pcap_interface: eth0\n\npcap_filter: not prt 22\n",
            "p.conf:3: pcap_filter: \"not prt 22\" cannot be used: can't parse filter expression: syntax error".into(),
        ),
        (
            "pcap_interfaces_map: /nonexistent/map\n",
            "p.conf:1: pcap_interfaces_map: /nonexistent/map: No such file or directory (os error 2)".into(),
        ),
        (
            &format!("pcap_interfaces_map: {}\n", at("bad.map")),
            "p.conf:1: pcap_interfaces_map: bad.map:2: ifindex \"0\" is not a number from 1 to 2147483647".into(),
        ),
        (
            "networks_file: /nonexistent/networks\n",
            "p.conf:1: networks_file: /nonexistent/networks: No such file or directory (os error 2)".into(),
        ),
        (
            "bgp_daemon: true\nbgp_daemon_id: router\n",
            "p.conf:2: bgp_daemon_id: \"router\" cannot be used: it is not an IPv4 address".into(),
        ),
        (
            "plugins: nfprobe\nnfprobe_receiver: 192.0.2.1\n",
            "p.conf:2: nfprobe_receiver: \"192.0.2.1\" cannot be used: it needs a port: HOST:PORT".into(),
        ),
        ("plugins: nfprobe\nnfprobe_version: 8\n", "p.conf:2: nfprobe_version: it must be 5, 9 or 10".into()),
    ] {
        let error = attempt(text).expect_err(text);
        assert!(error.starts_with(&expected) && !error.contains('\n'), "{error}");
    }
    let text = format!(
        "bgp_daemon: true\nbgp_daemon_md5_file: {}\nbgp_daemon_lg_passwd: canary4\nsql_passwd: canary5\n\
         nfacctd_secret: canary6\nfoo_passwd: canary7\nplugins: kafka\nkafka_config_file: {}\n",
        keys.display(),
        properties.display()
    );
    let configuration = Configuration::parse(&file, &text).unwrap();
    let (document, remarks) = translate::translate(&configuration).unwrap();
    assert!(document.has_secrets());
    let remarks: BTreeSet<String> = remarks.iter().map(ToString::to_string).collect();
    assert!(remarks.len() >= 6, "{remarks:?}");
    assert!(!remarks.iter().any(|remark| remark.contains("canary")), "{remarks:?}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn primitives_of_the_operator_are_read_from_packets() {
    let folder = std::env::temp_dir().join(format!("pathflow-primitives-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (list, file) = (folder.join("primitives.lst"), folder.join("p.conf"));
    // The lines of the example that comes with pmacct, and further ones.
    fs::write(
        &list,
        "! comment\nname=mtla\tfield_type=47\tlen=4\tsemantics=ip\n\
         name=alu_91\tfield_type=637:91\tlen=2\tsemantics=hex\n\
         name=ttl_pm\tpacket_ptr=l3:0x800+8   packet_ptr=l3:0x86dd+7\tlen=1   semantics=u_int\n\
         name=udp_len\tpacket_ptr=l4:17+4      len=2   semantics=u_int\n\
         name=tcp_win\tpacket_ptr=l4:6+14      len=2   semantics=u_int\n\
         name=ttl_nf\tpacket_ptr=l3:0x800+8   packet_ptr=l3:0x86dd+7  len=1   semantics=u_int\tfield_type=192\n\
         name=text\tpacket_ptr=payload:+0 len=vlen semantics=str\n\
         name=wrong packet_ptr=l9:+0 len=1 semantics=raw\n\
         name=short packet_ptr=l3:+0 len=3 semantics=u_int\nname=ttl_pm packet_ptr=l3:+0 len=1 semantics=raw\n",
    )
    .unwrap();
    let text = format!(
        "plugins: print[p], print[q]\naggregate[p]: TTL_pm, src_host, mtla, text\naggregate[q]: tcp_win, ttl_nf\n\
         aggregate_primitives: {}\naggregate_primitives[q]: /nowhere\n",
        list.display()
    );
    fs::write(&file, text).unwrap();
    let imported = import(&file).unwrap();
    let names: Vec<&str> =
        imported.raw.capture.primitive.iter().map(|primitive| primitive.name.as_str()).collect();
    assert_eq!(names, ["ttl_pm", "udp_len", "tcp_win", "ttl_nf"]);
    assert_eq!(imported.raw.capture.primitive[0].at, ["l3:0x800+8", "l3:0x86dd+7"]);
    let [p, q] = &imported.raw.aggregate[..] else { panic!("{}", imported.toml) };
    assert_eq!([&p.key[..], &q.key[..]], [&["ttl_pm", "src_host"][..], &["tcp_win", "ttl_nf"]]);
    let remarks: Vec<String> = imported.warnings().map(ToString::to_string).collect();
    for remark in [
        "primitives.lst:2: name=mtla: it is left out: it has no packet_ptr",
        "primitives.lst:3: name=alu_91: it is left out: it has no packet_ptr",
        "primitives.lst:7: field_type: ttl_nf is read from packets; fields of exports do not have it",
        "primitives.lst:8: name=text: it is left out: primitives of variable length are not possible",
        "primitives.lst:9: name=wrong: it is left out: packet_ptr \"l9:+0\": \"l9\" is not one of packet, mac",
        "primitives.lst:10: name=short: it is left out: len \"3\": short is u_int, of which there are 1, 2, 4 or 8",
        "primitives.lst:11: name=ttl_pm: it is left out: a line above has this name",
        "p.conf:2: aggregate[p]: mtla is left out: it has no packet_ptr",
        "p.conf:2: aggregate[p]: text is left out: primitives of variable length",
        "p.conf:5: aggregate_primitives[q]: it is for all plugins",
    ] {
        assert!(remarks.iter().any(|text| text.contains(remark)), "{remark}\n{remarks:#?}");
    }
    let config = config::Config::resolve(imported.raw, Overrides::default()).unwrap();
    assert_eq!(config.keys.extension.chosen.len(), 5);
    fs::write(&file, "plugins: print\naggregate_primitives: /nowhere\n").unwrap();
    let error = import(&file).unwrap_err().to_string();
    assert!(error.contains("p.conf:2: aggregate_primitives: /nowhere: No such file"), "{error}");
    fs::remove_dir_all(&folder).unwrap();
}
