//! Several exports in one file.

use std::path::Path;
use std::time::Duration;

use pathflow_exporter::{FieldGroups, FlowDirection, Format};

use super::error;
use crate::config::raw::Distribution;
use crate::config::{Config, Overrides, parse};
use crate::export::{Conditions, IpVersion};

const FILE: &str = r#"
[export]
collectors = ["192.0.2.1:4739"]
observation_domain_id = 7
fields = ["bgp", "communities"]
mtu = 1400

[[export.process]]
collectors = ["192.0.2.2:2055", "192.0.2.3:2055"]
format = "netflow-v9"
distribution = "failover"
template_interval = "30s"

[[export.process]]
collectors = ["[2001:db8::1]:4739"]
observation_domain_id = 8
fields = ["tags"]
sampling_interval = 100
ip_version = 6
networks = ["2001:db8::/32", "2001:db8:f::1"]
protocols = [6]
interfaces = ["eth*"]
direction = "egress"
"#;

fn read(text: &str) -> Config {
    Config::resolve(parse(Path::new("probe.toml"), text).unwrap(), Overrides::default()).unwrap()
}

#[test]
fn what_an_export_does_not_say_is_as_in_the_section() {
    let config = read(FILE);
    let [first, second, third] = config.processes.as_slice() else { panic!("{:?}", config.processes) };
    assert_eq!((first.settings.format, first.distribution), (Format::Ipfix, Distribution::All));
    assert_eq!(first.conditions, Conditions::default());
    assert_eq!((second.settings.format, second.distribution), (Format::NetflowV9, Distribution::Failover));
    assert_eq!(second.collectors.len(), 2);
    assert_eq!(first.settings.field_groups, FieldGroups::BGP.with(FieldGroups::COMMUNITIES));
    // Communities are not inherited: NetFlow v9 has none.
    assert_eq!(second.settings.field_groups, FieldGroups::BGP);
    assert_eq!(third.settings.field_groups, FieldGroups::TAGS);
    assert_eq!((second.sampling_interval.get(), third.sampling_interval.get()), (1, 100));
    assert_eq!((second.settings.mtu, second.settings.observation_domain_id), (1400, 7));
    assert_eq!(second.settings.template_interval, Duration::from_secs(30));
    assert_eq!((third.settings.format, third.settings.observation_domain_id), (Format::Ipfix, 8));
    assert_eq!(
        third.conditions,
        Conditions {
            ip_version: Some(IpVersion::V6),
            networks: vec!["2001:db8::/32".parse().unwrap(), "2001:db8:f::1/128".parse().unwrap()],
            protocols: vec![6],
            interfaces: vec!["eth*".parse().unwrap()],
            direction: Some(FlowDirection::Egress),
            filter: None,
        }
    );
}

#[test]
fn fields_of_bgp_are_the_default_where_there_are_routes() {
    let networks = std::env::temp_dir().join(format!("pathflow-fields-{}.lst", std::process::id()));
    std::fs::write(&networks, "64500,192.0.2.0/24\n").unwrap();
    let by_file = format!("[enrich]\nnetworks_file = \"{}\"\n", networks.display());
    let by_bmp = "[bmp]\nlisten = \"127.0.0.1:5000\"\nrouters = [\"127.0.0.1\"]\n";
    let by_bgp = "[bgp]\nlisten = [\"127.0.0.1:1790\"]\n[[bgp.peer]]\naddress = \"127.0.0.1\"\n";
    let groups = |source: &str, fields: &str| {
        let text = format!(
            "{source}[export]\ncollectors = [\"192.0.2.1:1\"]\n{fields}\n\
             [[export.process]]\ncollectors = [\"192.0.2.2:1\"]\nformat = \"netflow-v9\"\n\
             [[export.process]]\ncollectors = [\"192.0.2.3:1\"]\nformat = \"netflow-v5\"\n\
             [[export.process]]\ncollectors = [\"192.0.2.4:1\"]\nfields = []\n"
        );
        let config = read(&text);
        config.processes.iter().map(|process| process.settings.field_groups).collect::<Vec<_>>()
    };
    let none = [FieldGroups::NONE; 4];
    for source in [&*by_file, by_bmp, by_bgp] {
        let some = [FieldGroups::BGP, FieldGroups::BGP, FieldGroups::NONE, FieldGroups::NONE];
        assert_eq!(groups(source, ""), some, "{source}");
        assert_eq!(groups(source, "fields = []"), none, "{source}");
    }
    assert_eq!(groups("", ""), none);
    assert_eq!(groups("[enrich]\nlocal_as = 397143\n", ""), none);
    let tags = [FieldGroups::TAGS, FieldGroups::NONE, FieldGroups::NONE, FieldGroups::NONE];
    assert_eq!(groups(by_bgp, "fields = [\"tags\"]"), tags);
    std::fs::remove_file(networks).unwrap();
}

#[test]
fn a_collector_of_the_command_line_is_the_only_one() {
    let raw = parse(Path::new("probe.toml"), FILE).unwrap();
    let overrides = Overrides { collectors: vec!["192.0.2.9:9".to_owned()], ..Overrides::default() };
    let config = Config::resolve(raw, overrides).unwrap();
    assert_eq!(config.processes.len(), 1);
    assert_eq!(config.processes[0].collectors, ["192.0.2.9:9".parse().unwrap()]);
}

#[test]
fn faults_are_named_with_the_table_they_are_in() {
    for (text, expected) in [
        ("format = \"ipfix\"", "export.process.collectors: \"[]\" cannot be used: it names no collector"),
        (
            "collectors = [\"192.0.2.1\"]",
            "export.process.collectors: \"192.0.2.1\" cannot be used: it needs a port",
        ),
        ("collectors = [\"192.0.2.1:1\"]\nmtu = 9", "export.process.mtu: \"9\" cannot be used"),
        (
            "collectors = [\"192.0.2.1:1\"]\nformat = \"netflow-v9\"\nfields = [\"bgp\", \"tags\"]",
            "export.process.fields: \"tags\" cannot be used: netflow-v9 has no such fields",
        ),
        (
            "collectors = [\"192.0.2.1:1\"]\nsampling_interval = 0",
            "export.process.sampling_interval: \"0\" cannot be used: it must be 1 or more",
        ),
        ("collectors = [\"192.0.2.1:1\"]\nip_version = 5", "export.process.ip_version: \"5\" cannot be used"),
        (
            "collectors = [\"192.0.2.1:1\"]\nnetworks = [\"x\"]",
            "export.process.networks: \"x\" cannot be used",
        ),
        (
            "collectors = [\"192.0.2.1:1\"]\nprotocol = [6]",
            "unknown key \"protocol\"; did you mean \"protocols\"?",
        ),
        (
            "collectors = [\"192.0.2.1:1\", \"192.0.2.1:1\"]",
            "export.process.collectors: \"192.0.2.1:1\" cannot be used: it gets ipfix already",
        ),
    ] {
        let message = error(&format!("[[export.process]]\n{text}\n"));
        assert!(message.starts_with("probe.toml:") && message.contains(expected), "{message}");
    }
    let again = FILE.replace("[2001:db8::1]", "192.0.2.1");
    assert!(error(&again).contains("it gets ipfix already"), "{}", error(&again));
}

#[test]
fn filters_of_exports_are_bits_in_the_order_of_the_exports() {
    let text = "[export]\ncollectors = [\"127.0.0.1:2055\"]\nfilter = \"port 53\"\n\
        [[export.process]]\ncollectors = [\"127.0.0.1:2056\"]\n\
        [[export.process]]\ncollectors = [\"127.0.0.1:2057\"]\nfilter = \"tcp\"\n\
        [[export.process]]\ncollectors = [\"127.0.0.1:2058\"]\nfilter = \"\"\n";
    let config = read(text);
    let bits: Vec<Option<u8>> = config.processes.iter().map(|process| process.conditions.filter).collect();
    assert_eq!(bits, [Some(0), Some(0), Some(1), None]);
    assert_eq!(config.filters.expressions().collect::<Vec<_>>(), ["port 53", "tcp"]);
    assert_eq!(config.record_filters, 0b11);
}
