//! Tests of the configuration: the example file, unknown keys, values out of range.

use pathflow_exporter::Format;

use super::*;

const EXAMPLE: &str = include_str!("../../../pathflow.example.toml");

/// A certificate of an authority that has signed nothing, until 2126.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBiDCCAS2gAwIBAgIUFIwxFKTAEyOmrdftFIDi1Rdv4QswCgYIKoZIzj0EAwIw\n\
GDEWMBQGA1UEAwwNcGF0aGZsb3cgdGVzdDAgFw0yNjExMjExNjAwMDVaGA8yMTI2\n\
MTAyODE2MDAwNVowGDEWMBQGA1UEAwwNcGF0aGZsb3cgdGVzdDBZMBMGByqGSM49\n\
AgEGCCqGSM49AwEHA0IABNhPWEpkGGNca/NXeStRWm5Wcc38aP0hPY0DSb6UTJt3\n\
+q3IPbxZGY6xFfYdz3M/gyS56MFizPJqODI1Omw5iLyjUzBRMB0GA1UdDgQWBBQ7\n\
0m56p43ocDKANA9gCLzR/OMLFDAfBgNVHSMEGDAWgBQ70m56p43ocDKANA9gCLzR\n\
/OMLFDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDUXas6tcfP\n\
P3X+CfzSnEYQTMOg7ZZzCIQ33xBTgRDLEAIhAOQenhLoPVztrJDbMGmIyt9xKgUi\n\
pWoF0p6nKCDKNP/2\n\
-----END CERTIFICATE-----\n";

fn error(text: &str) -> String {
    parse(Path::new("probe.toml"), text).unwrap_err().to_string()
}

mod export;
mod interfaces;
mod routing;

#[test]
fn the_example_is_complete_and_equal_to_the_defaults() {
    let example: toml::Table = toml::from_str(EXAMPLE).unwrap();
    let defaults: toml::Table = toml::Table::try_from(Raw::default()).unwrap();
    let as_read: Raw = toml::from_str(EXAMPLE).unwrap();
    assert_eq!(as_read, Raw::default());
    for (section, keys) in &defaults {
        for key in keys.as_table().unwrap().keys() {
            assert!(example[section].as_table().unwrap().contains_key(key), "[{section}] {key} is missing");
        }
    }
}

#[test]
fn every_key_of_the_example_has_a_comment_above_it() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if line.contains('=') && !line.starts_with('#') {
            assert!(number > 0 && lines[number - 1].starts_with('#'), "{line}");
        }
    }
}

#[test]
fn the_defaults_are_accepted() {
    let config = Config::resolve(Raw::default(), Overrides::default()).unwrap();
    assert_eq!(config.timeouts.active, Duration::from_mins(1));
    assert_eq!(config.listen, Some("127.0.0.1:9590".parse().unwrap()));
    assert_eq!(config.shards, None);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
    let text = "[capture]\ninterfaces = [\"eth0\"]\n\n[flow]\nidle_timout = \"15s\"\n";
    assert_eq!(error(text), "probe.toml:5:1: unknown key \"idle_timout\"; did you mean \"idle_timeout\"?");
    assert_eq!(error("[exprot]\n"), "probe.toml:1:2: unknown key \"exprot\"; did you mean \"export\"?");
}

#[test]
fn mac_addresses_are_six_octets() {
    let mirror = |address: &str, mode: &str| {
        format!("[[capture.interface]]\nname = \"eth0\"\nmode = \"{mode}\"\nrouter_macs = [\"{address}\"]\n")
    };
    let text = mirror("02:00:5e:00:00:0A", "mirror");
    let config =
        Config::resolve(parse(Path::new("probe.toml"), &text).unwrap(), Overrides::default()).unwrap();
    let macs: Vec<[u8; 6]> = config.interface_settings("eth0").router_macs.iter().map(|mac| mac.0).collect();
    assert_eq!(macs, [[2, 0, 0x5e, 0, 0, 10]]);
    for wrong in ["", "02:00:5e:00:00", "02:00:5e:00:00:01:02", "02:00:5e:00:00:100", "02:00:5e:00:00:0g"] {
        let text = error(&mirror(wrong, "mirror"));
        assert!(text.starts_with("probe.toml:4:1: capture.interface.router_macs: "), "{text}");
        assert!(text.contains("six hexadecimal numbers"), "{text}");
    }
    let text = error(&mirror("02:00:5e:00:00:01", "flow"));
    assert!(text.contains("router_macs") && text.contains("only with mode = \"mirror\""), "{text}");
}

#[test]
fn wrong_types_and_durations_are_one_line_with_their_place() {
    let text = error("[flow]\nactive_timeout = 60\n");
    assert!(text.starts_with("probe.toml:2:18: ") && !text.contains('\n'), "{text}");
    let text = error("[flow]\nactive_timeout = \"sixty\"\n");
    assert!(text.starts_with("probe.toml:2:18: \"sixty\" is not a duration"), "{text}");
    let text = error("[flow\n");
    assert!(text.starts_with("probe.toml:1:6: ") && !text.contains('\n'), "{text}");
}

#[test]
fn values_out_of_range_are_refused_by_key() {
    for (text, expected) in [
        (
            "[capture]\ndrain_interval = \"99ms\"\n",
            "capture.drain_interval: \"99ms\" cannot be used: it must be from 100ms to 5s",
        ),
        ("[capture]\ndrain_interval = \"6s\"\n", "capture.drain_interval"),
        (
            "[capture]\nipv4_slots = 1000\n",
            "capture.ipv4_slots: \"1000\" cannot be used: it must be a power of two",
        ),
        ("[capture]\nspill_slots = 1\n", "capture.spill_slots"),
        (
            "[capture]\ninterfaces = [\"a\", \"a\"]\n",
            "capture.interfaces: \"a\" cannot be used: it is named twice",
        ),
        (
            "[capture]\nfilter = \"not prt 22\"\n",
            "capture.filter: \"not prt 22\" cannot be used: can't parse filter expression: syntax error",
        ),
        (
            "[capture]\nfilter = \"port http-or-so\"\n",
            "capture.filter: \"port http-or-so\" cannot be used: unknown port 'http-or-so'",
        ),
        (
            "[capture]\nfilter = \"ip6 protochain 6\"\n",
            "capture.filter: \"ip6 protochain 6\" cannot be used: it needs a loop",
        ),
        (
            "[capture]\ninterfaces = [\"eth 0\"]\n",
            "capture.interfaces: \"eth 0\" cannot be used: no interface",
        ),
        ("[capture]\ninterfaces = [\"eth[\"]\n", "capture.interfaces: \"eth[\" cannot be used: it is not a"),
        ("[capture]\ninterfaces = [\"!eth0\"]\n", "\"!eth0\" cannot be used: it only says what not to"),
        ("[capture]\nsampling_interval = 0\n", "\"0\" cannot be used: it must be from 1 to 16777215"),
        ("[capture]\nheader_sampling_interval = 16777216\n", "capture.header_sampling_interval"),
        (
            "[capture]\nvxlan_ports = [4789, 4789]\n",
            "capture.vxlan_ports: \"4789\" cannot be used: it is named",
        ),
        ("[capture]\nvxlan_ports = [0]\n", "capture.vxlan_ports"),
        ("[capture]\nvxlan_ports = [1, 2, 3, 4, 5, 6, 7, 8, 9]\n", "capture.vxlan_ports: \"9\""),
        ("[flow]\nmax_flows = 0\n", "flow.max_flows"),
        ("[flow]\nidle_timeout = \"0s\"\n", "flow.idle_timeout"),
        ("[export]\nmtu = 100\n", "export.mtu"),
        ("[export]\ndscp = 64\n", "export.dscp: \"64\" cannot be used: it must be from 0 to 63"),
        (
            "[export]\ncollectors = [\"192.0.2.1\"]\n",
            "export.collectors: \"192.0.2.1\" cannot be used: it needs a port",
        ),
        ("[export]\ncollectors = [\"192.0.2.1:x\"]\n", "its port is not a number"),
        ("[export]\nsource_address = \"nowhere\"\n", "export.source_address"),
        ("[export]\nserver_name = \"a\"\n", "it is of use only with transport = \"tls\""),
        ("[http]\nlisten = \"9590\"\n", "http.listen"),
        ("[log]\nlevel = \"warning\"\n", "log.level: \"warning\" cannot be used: it must be error, warn,"),
        ("[export]\ncollectors = [\"192.0.2.1:0\"]\n", "its port cannot be 0"),
        (
            "[sflow]\ncollectors = [\"192.0.2.1:x\"]\n",
            "sflow.collectors: \"192.0.2.1:x\" cannot be used: its port",
        ),
        ("[sflow]\ncollectors = [\"192.0.2.1:0\"]\n", "its port cannot be 0"),
        (
            "[sflow]\nagent_address = \"router\"\n",
            "sflow.agent_address: \"router\" cannot be used: it is not",
        ),
        ("[sflow]\nsource_address = \"router\"\n", "sflow.source_address"),
        (
            "[[enrich.tag]]\nsampel = 3\nset_tag = 1\n",
            "enrich.tag.sampel: \"3\" cannot be used: there is no such key",
        ),
        (
            "[export]\nfilter = \"prt 53\"\ncollectors = [\"192.0.2.1:4739\"]\n",
            "export.filter: \"prt 53\" cannot be used: can't parse filter expression",
        ),
        ("[sflow]\ncounter_interval = \"900ms\"\n", "sflow.counter_interval: \"900ms\" cannot be used"),
        (
            "[capture]\nheader_sampling_interval = 0\n[sflow]\ncollectors = [\"192.0.2.1\"]\n",
            "capture.header_sampling_interval: \"0\" cannot be used: sflow.collectors need header samples",
        ),
    ] {
        let message = error(text);
        assert!(message.starts_with("probe.toml:2:1: ") && message.contains(expected), "{message}");
    }
}

/// A file with rules in tables.
fn tags(text: &str) -> Result<Config, String> {
    let raw = parse(Path::new("probe.toml"), text).map_err(|error| error.to_string())?;
    Config::resolve(raw, Overrides::default()).map_err(|error| error.to_string())
}

#[test]
fn rules_for_tags_are_a_file_and_tables_with_the_same_keys() {
    let map = std::env::temp_dir().join(format!("pathflow-tags-{}.map", std::process::id()));
    std::fs::write(&map, "set_tag=1 filter='udp port 53' jeq=last\n").unwrap();
    let file = format!("[enrich]\ntag_map = \"{}\"\n", map.display());
    let tables = "[[enrich.tag]]\nset_tag = 18\nfilter = \"src net 192.0.2.0/24\"\nvlan = -7\n\
        [[enrich.tag]]\nset_label = \"x\"\nlabel = \"last\"\n";
    let config = tags(&format!("{file}{tables}")).unwrap();
    // What needs a bit has it first.
    assert_eq!(config.filters.expressions().collect::<Vec<_>>(), ["udp port 53", "src net 192.0.2.0/24"]);
    assert_eq!(config.record_filters, 0b11);
    assert!(!config.enrich.tags.is_empty());
    // Other rules make do with the filters that there are; other exports do not.
    let other = tags("[[enrich.tag]]\nset_tag = 2\nfilter = \"tcp\"\n").unwrap();
    assert!(other.needs_restart(&config).is_empty() && config.needs_restart(&other).is_empty());
    let export = |filter: &str| {
        tags(&format!("[export]\ncollectors = [\"192.0.2.1:4739\"]\nfilter = \"{filter}\"\n")).unwrap()
    };
    assert!(export("tcp").needs_restart(&export("udp")).is_empty());
    let error = export("tcp").bind_exports(&export("udp")).unwrap_err();
    let expected = "export ipfix to 192.0.2.1:4739: filter: \"tcp\" is not one that exports ask since the start: it \
                    needs a restart";
    assert_eq!(error, expected);
    // Its number is the one that packets have since then.
    let both = "[[export.process]]\ncollectors = [\"192.0.2.2:2055\"]\nfilter = \"tcp\"\n";
    let started =
        tags(&format!("[export]\ncollectors = [\"192.0.2.1:4739\"]\nfilter = \"udp\"\n{both}")).unwrap();
    let mut new = export("tcp");
    new.bind_exports(&started).unwrap();
    assert_eq!(new.processes[0].conditions.filter, Some(1));
    let capture = tags("[capture]\nfilter = \"tcp\"\n").unwrap();
    assert_eq!(capture.needs_restart(&other), ["capture.filter"]);

    std::fs::write(&map, "! rules\nset_tag=x\n").unwrap();
    let expected = format!("enrich.tag_map: {}:2: set_tag=x: it must be a number", map.display());
    assert!(tags(&file).unwrap_err().starts_with(&expected));
    std::fs::remove_file(&map).unwrap();
    let error = tags("[[enrich.tag]]\nset_tag = 1\njeq = \"nowhere\"\n").unwrap_err();
    assert!(error.contains("probe.toml:1:") && error.contains("no later rule has this label"), "{error}");
}

#[test]
fn an_aggregate_has_rules_of_its_own() {
    let map = std::env::temp_dir().join(format!("pathflow-own-tags-{}.map", std::process::id()));
    std::fs::write(&map, "set_tag=1 filter='udp port 53'\n").unwrap();
    let aggregate =
        format!("[[aggregate]]\nname = \"own\"\ntag_map = \"{}\"\n[aggregate.stdout]\n", map.display());
    // What only names addresses is for all, but comes behind what needs a bit.
    let rule = |host: u32| format!("[[enrich.tag]]\nset_tag = 2\nfilter = \"host 192.0.2.{host}\"\n");
    let for_all = (0..8).map(rule).collect::<Vec<_>>().concat();
    let config = tags(&format!("{for_all}{aggregate}")).unwrap();
    assert_eq!(config.filters.expressions().next(), Some("udp port 53"));
    assert_eq!(config.enrich.tags.without_bit().count(), 1);
    assert_eq!(config.enrich.tags_of["own"].filter_bits(), 1);
    // Flows are not split by what only aggregates ask.
    assert_eq!(config.record_filters, 0b1111_1110);
    let without = aggregate.replace("tag_map", "# tag_map");
    assert!(config.needs_restart(&tags(&format!("{for_all}{without}")).unwrap()).is_empty());
    std::fs::write(&map, "set_tag=x\n").unwrap();
    let expected = format!("aggregate[0].tag_map: {}:1: set_tag=x: it must be a number", map.display());
    assert!(tags(&aggregate).unwrap_err().starts_with(&expected));
    std::fs::remove_file(&map).unwrap();
}

#[test]
fn an_export_has_rules_of_its_own() {
    let map = std::env::temp_dir().join(format!("pathflow-export-tags-{}.map", std::process::id()));
    std::fs::write(&map, "set_tag=1 filter='udp port 53'\n").unwrap();
    let export = |fields: &str| {
        format!(
            "[export]\ncollectors = [\"192.0.2.1:4739\"]\n{fields}tag_map = \"{}\"\n[[export.process]]\n\
             collectors = [\"192.0.2.2:2055\"]\nformat = \"netflow-v9\"\n",
            map.display()
        )
    };
    let config = tags(&export("fields = [\"tags\"]\n")).unwrap();
    // Another format cannot carry them, and inherits no map.
    let names: Vec<&str> = config.enrich.tags_of_exports.keys().map(String::as_str).collect();
    assert_eq!(names, ["ipfix to 192.0.2.1:4739"]);
    // Records have what the rules ask.
    assert_eq!(config.record_filters, 1);
    let error = tags(&export("")).unwrap_err();
    assert!(error.contains("export.tag_map") && error.contains("only with \"tags\" in fields"), "{error}");
    // Rules can come and go while packets are counted.
    let text = "[export]\ncollectors = [\"192.0.2.1:4739\"]\nfields = [\"tags\"]\n";
    let with = tags(&format!("{text}tag_map = \"{}\"\n", map.display())).unwrap();
    assert!(tags(text).unwrap().needs_restart(&with).is_empty());
    std::fs::write(&map, "set_tag=x\n").unwrap();
    let expected = format!("export.tag_map: {}:1: set_tag=x: it must be a number", map.display());
    assert!(tags(&export("fields = [\"tags\"]\n")).unwrap_err().starts_with(&expected));
    std::fs::remove_file(&map).unwrap();
}

/// Else an export would begin anew whenever the addresses of its collector come in another order.
#[test]
fn a_name_keeps_the_address_that_is_in_use() {
    let name = "localhost:4739";
    let addresses: Vec<SocketAddr> = name.to_socket_addrs().unwrap().collect();
    for address in addresses {
        assert_eq!(look_up(name, &[address]), Some(address));
        assert!(look_up(name, &["192.0.2.1:4739".parse().unwrap()]).unwrap().ip().is_loopback());
    }
}

/// What routes fill is by the routes that there are, and those of BGP need a restart.
#[test]
fn exports_change_their_fields_with_the_routes_that_there_are() {
    let config = |text: &str| Config::resolve(toml::from_str(text).unwrap(), Overrides::default()).unwrap();
    let export = "[export]\ncollectors = [\"192.0.2.1:4739\"]\n";
    let bgp = "[bgp]\nlisten = [\"127.0.0.1:1790\"]\n[[bgp.peer]]\naddress = \"127.0.0.2\"\n";
    let (without, with) = (config(export), config(&format!("{bgp}{export}")));
    for (new, started) in [(&without, &with), (&with, &without), (&with, &with)] {
        let mut new = new.clone();
        new.bind_exports(started).unwrap();
        assert_eq!(new.processes, started.processes);
    }
    assert_ne!(with.processes, without.processes);
}

#[test]
fn the_ninth_expression_is_refused() {
    let export = "[export]\ncollectors = [\"192.0.2.1:4739\"]\nfilter = \"port 1\"\n".to_owned();
    let rule = |port: u16| format!("[[enrich.tag]]\nset_tag = 1\nfilter = \"port {port}\"\n");
    let text = export + &(2..=8).map(rule).collect::<Vec<_>>().concat();
    assert_eq!(tags(&text).unwrap().record_filters, 0xff);
    let by_address = "[[enrich.tag]]\nset_tag = 1\nfilter = \"host 192.0.2.1\"\n";
    assert_eq!(tags(&format!("{text}{by_address}")).unwrap().enrich.tags.without_bit().count(), 1);
    let error = tags(&(text + &rule(9))).unwrap_err();
    assert!(error.contains("can have 8 different ones"), "{error}");
}

#[test]
fn certificates_are_for_the_host_of_each_collector_unless_a_name_is_given() {
    let directory = std::env::temp_dir().join(format!("pathflow-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, AUTHORITY).unwrap();
    let names = |more: &str| {
        let text = format!(
            "[export]\ntransport = \"tls\"\nca_file = {ca:?}\n{more}\n\
             collectors = [\"localhost:4740\", \"192.0.2.1:4740\", \"[2001:db8::1]:4740\"]\n"
        );
        let raw = parse(Path::new("probe.toml"), &text).unwrap();
        match Config::resolve(raw, Overrides::default()).unwrap().processes.remove(0).transport {
            ExportTransport::Tls { server_names, .. } => server_names,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(names(""), ["localhost", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(names("server_name = \"collector.test\""), ["collector.test"; 3]);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn sflow_collectors_have_the_usual_port_and_need_header_samples() {
    let resolve = |text: &str| Config::resolve(toml::from_str(text).unwrap(), Overrides::default());
    let sflow = |text: &str| resolve(text).unwrap().sflow;
    assert_eq!(sflow("[sflow]\nsub_agent_id = 7\n"), None);
    let collectors = "[sflow]\ncollectors = [\"192.0.2.1\", \"192.0.2.2:99\", \"2001:db8::1\", \"[2001:db8::2]\", \
                      \"[2001:db8::3]:99\"]\nagent_address = \"2001:db8::9\"\nsub_agent_id = 7\n";
    let settings = sflow(&format!("[capture]\nheader_sampling_interval = 100\n{collectors}")).unwrap();
    let expected =
        ["192.0.2.1:6343", "192.0.2.2:99", "[2001:db8::1]:6343", "[2001:db8::2]:6343", "[2001:db8::3]:99"];
    assert_eq!(settings.collectors, expected.map(|address| address.parse().unwrap()));
    assert_eq!(settings.agent_address, Some("2001:db8::9".parse().unwrap()));
    assert_eq!((settings.sub_agent_id, settings.counter_interval), (7, Duration::from_secs(20)));
    // Of one interface is enough.
    let interface = "[[capture.interface]]\nname = \"eth1\"\nheader_sampling_interval = 10\n";
    assert!(sflow(&format!("{interface}{collectors}")).is_some());
    let message = error(&format!("[capture]\n{collectors}"));
    assert!(message.contains("capture.header_sampling_interval: \"0\" cannot be used"), "{message}");
}

#[test]
fn a_bad_flag_is_named() {
    let message = |overrides| Config::resolve(Raw::default(), overrides).unwrap_err().to_string();
    let collectors = vec!["192.0.2.1".to_owned()];
    assert_eq!(
        message(Overrides { collectors, ..Overrides::default() }),
        "--collector: \"192.0.2.1\" cannot be used: it needs a port: HOST:PORT"
    );
    let drain_interval = Some(Duration::from_secs(9));
    let text = message(Overrides { drain_interval, ..Overrides::default() });
    assert!(text.starts_with("--drain-interval: \"9s\" cannot be used"), "{text}");
}

#[test]
fn a_collector_in_the_file_is_not_taken_for_a_flag() {
    let resolve = |collector: &str| {
        let raw = Raw {
            export: toml::from_str(&format!("collectors = [{collector:?}]")).unwrap(),
            ..Raw::default()
        };
        let error = Config::resolve(raw, Overrides::default()).unwrap_err();
        (error.to_string(), error.may_pass())
    };
    // RFC 6761, section 6.4: there is no such host.
    let (message, may_pass) = resolve("collector.invalid:4739");
    assert_eq!(
        message,
        "export.collectors: \"collector.invalid:4739\" cannot be used: its host cannot be resolved"
    );
    assert!(may_pass);
    let (message, may_pass) = resolve("tcp://192.0.2.1:4739");
    assert!(!may_pass && message.contains("it is HOST:PORT and nothing else"), "{message}");
}

#[test]
fn flags_override_the_file() {
    let raw = toml::from_str("[capture]\ninterfaces = [\"a\"]\n[export]\nformat = \"ipfix\"\n").unwrap();
    let overrides = Overrides {
        environment: Environment::default(),
        interfaces: vec!["b".to_owned(), "c".to_owned()],
        collectors: vec!["[2001:db8::1]:2055".to_owned()],
        format: Some(FormatName::NetflowV9),
        active_timeout: Some(Duration::from_secs(5)),
        idle_timeout: Some(Duration::from_secs(2)),
        direction: Some(Direction::Both),
        hook: Some(Hook::Tc),
        sampling_interval: Some(100),
        tunnels: Some(Tunnels::Inner),
        drain_interval: Some(Duration::from_millis(200)),
        listen: Some(String::new()),
        json: true,
        in_use: Vec::new(),
    };
    let config = Config::resolve(raw, overrides).unwrap();
    assert_eq!(config.interfaces.selection.to_string(), "b, c");
    assert_eq!(config.processes.len(), 1);
    assert_eq!(config.processes[0].collectors, ["[2001:db8::1]:2055".parse().unwrap()]);
    assert_eq!(config.processes[0].settings.format, Format::NetflowV9);
    assert_eq!(config.timeouts.active, Duration::from_secs(5));
    assert_eq!(config.timeouts.idle, Duration::from_secs(2));
    assert_eq!(config.drain_interval, Duration::from_millis(200));
    assert!(config.keys.inner);
    let settings = config.interface_settings("b");
    assert_eq!((settings.direction, settings.hook), (Direction::Both, Hook::Tc));
    assert_eq!(settings.sampling.interval, 100);
    assert_eq!(config.listen, None);
    assert_eq!(config.stdout, StdoutStyle::Json);
}
