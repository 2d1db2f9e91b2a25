//! Tests of what is said of interfaces: in the list, in tables of their own, in a map, and by flags.

use std::fs;
use std::process;

use super::super::raw::CaptureInterface;
use super::*;
use crate::interfaces::{EgressPackets, Mode, SamplingMethod};

fn config(text: &str) -> Config {
    config_with(text, Overrides::default())
}

fn config_with(text: &str, overrides: Overrides) -> Config {
    Config::resolve(parse(Path::new("probe.toml"), text).unwrap(), overrides).unwrap()
}

/// The commented `[[capture.interface]]` of the example.
fn example_of_an_interface() -> String {
    let lines = EXAMPLE.lines().skip_while(|line| *line != "# [[capture.interface]]");
    let lines = lines.map_while(|line| line.strip_prefix('#'));
    lines
        .map(str::trim_start)
        .filter(|line| line.contains('=') || line.starts_with('['))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_example_shows_every_key_of_an_interface_and_is_right_without_the_marks() {
    let text = example_of_an_interface();
    let shown: toml::Table = toml::from_str(&text).unwrap();
    let shown = shown["capture"]["interface"][0].as_table().unwrap();
    let full = CaptureInterface {
        name: "eth1".to_owned(),
        mode: Mode::Flow,
        direction: Some(Direction::Ingress),
        egress_packets: Some(EgressPackets::All),
        hook: Some(Hook::Auto),
        sampling_interval: Some(1),
        sampling: Some(SamplingMethod::Random),
        header_sampling_interval: Some(0),
        index: Some(1),
        i_know_this_steals: false,
        router_macs: Vec::new(),
    };
    let full = toml::Table::try_from(full).unwrap();
    assert_eq!(shown.keys().collect::<Vec<_>>(), full.keys().collect::<Vec<_>>());
    parse(Path::new("probe.toml"), &text).unwrap();
}

#[test]
fn the_first_table_that_means_an_interface_counts_and_the_rest_is_as_for_all() {
    let config = config(
        r#"
        [capture]
        interfaces = ["physical"]
        direction = "both"
        sampling_interval = 10
        sampling = "deterministic"
        header_sampling_interval = 1000
        [[capture.interface]]
        name = "eth1"
        index = 101
        hook = "tc"
        egress_packets = "locally-originated"
        [[capture.interface]]
        name = "eth*"
        sampling_interval = 1
        direction = "egress"
        header_sampling_interval = 0
        "#,
    );
    let eth1 = config.interface_settings("eth1");
    assert_eq!((eth1.index, eth1.hook, eth1.direction), (Some(101), Hook::Tc, Direction::Both));
    assert_eq!(eth1.egress_packets, EgressPackets::LocallyOriginated);
    assert_eq!((eth1.sampling.interval, eth1.sampling.method), (10, SamplingMethod::Deterministic));
    assert_eq!(eth1.header_sampling_interval, Some(1000));
    let eth2 = config.interface_settings("eth2");
    assert_eq!((eth2.index, eth2.hook, eth2.direction), (None, Hook::Auto, Direction::Egress));
    assert_eq!((eth2.sampling.interval, eth2.header_sampling_interval), (1, None));
    let other = config.interface_settings("wan0");
    assert_eq!((other.sampling.interval, other.direction, other.mode), (10, Direction::Both, Mode::Flow));
}

#[test]
fn what_is_said_of_all_interfaces_is_not_said_of_mirror_ports() {
    let text = r#"
        [capture]
        direction = "both"
        hook = "tc"
        sampling_interval = 10
        header_sampling_interval = 500
        [[capture.interface]]
        name = "span0"
        mode = "mirror"
        index = 7
        router_macs = ["02:00:5e:00:53:01"]
        "#;
    let overrides = Overrides { direction: Some(Direction::Egress), ..Overrides::default() };
    for config in [config(text), config_with(text, overrides)] {
        let span0 = config.interface_settings("span0");
        assert_eq!((span0.mode, span0.direction, span0.hook), (Mode::Mirror, Direction::Ingress, Hook::Auto));
        assert_eq!((span0.sampling.interval, span0.header_sampling_interval), (1, Some(500)));
        assert_eq!(span0.router_macs, ["02:00:5e:00:53:01".parse().unwrap()]);
        assert_eq!(span0.index, Some(7));
    }
}

#[test]
fn faults_are_named_with_the_line_of_their_table() {
    let before = "[capture]\n[[capture.interface]]\nname = \"eth0\"\n[[capture.interface]]\n";
    for (table, expected) in [
        ("name = \"eth 1\"\n", "5:1: capture.interface.name: \"eth 1\" cannot be used: no interface can"),
        (
            "name = \"eth1\"\nindex = 0\n",
            "6:1: capture.interface.index: \"0\" cannot be used: it must be from 1 to 2147483647",
        ),
        ("name = \"eth1\"\nsampling_interval = 0\n", "6:1: capture.interface.sampling_interval: \"0\""),
        (
            "name = \"eth1\"\nheader_sampling_interval = 16777216\n",
            "6:1: capture.interface.header_sampling_interval: \"16777216\"",
        ),
        (
            "name = \"eth1\"\nmode = \"mirror\"\nsampling_interval = 2\n",
            "7:1: capture.interface.sampling_interval: \"2\" cannot be used: with mode = \"mirror\" every packet",
        ),
        (
            "name = \"eth1\"\nmode = \"mirror\"\nsampling = \"random\"\n",
            "7:1: capture.interface.sampling: \"random\" cannot be used: with mode = \"mirror\"",
        ),
        (
            "name = \"eth1\"\nmode = \"mirror\"\ndirection = \"both\"\n",
            "7:1: capture.interface.direction: \"both\" cannot be used: with mode = \"mirror\" packets only",
        ),
        (
            "name = \"eth1\"\nmode = \"mirror\"\negress_packets = \"locally-originated\"\n",
            "7:1: capture.interface.egress_packets: \"locally-originated\" cannot be used",
        ),
        (
            "name = \"eth1\"\nmode = \"mirror\"\nhook = \"tc\"\n",
            "7:1: capture.interface.hook: \"tc\" cannot be used",
        ),
        (
            "name = \"eth1\"\ni_know_this_steals = true\n",
            "6:1: capture.interface.i_know_this_steals: \"true\" cannot be used: it has a meaning only with",
        ),
        (
            "name = \"eth1\"\nrouter_macs = [\"02:00:00:00:00:01\"]\n",
            "6:1: capture.interface.router_macs: \"02:00:00:00:00:01\" cannot be used: it has a meaning only",
        ),
        (
            "name = \"eth1\"\nmode = \"mirror\"\nrouter_macs = [\"02:00\"]\n",
            "7:1: capture.interface.router_macs: \"02:00\" cannot be used: a MAC address is six",
        ),
        ("name = \"eth1\"\nhok = \"tc\"\n", "6:1: unknown key \"hok\"; did you mean \"hook\"?"),
        ("mode = \"flow\"\n", "missing field `name`"),
    ] {
        let message = error(&format!("{before}{table}"));
        assert!(message.starts_with("probe.toml:") && message.contains(expected), "{message}");
    }
}

#[test]
fn flags_count_for_every_interface() {
    let text = r#"
        [capture]
        [[capture.interface]]
        name = "eth1"
        direction = "ingress"
        hook = "tc"
        sampling_interval = 5
        "#;
    let overrides = Overrides {
        direction: Some(Direction::Both),
        hook: Some(Hook::Xdp),
        sampling_interval: Some(100),
        ..Overrides::default()
    };
    let config = config_with(text, overrides);
    for name in ["eth0", "eth1"] {
        let settings = config.interface_settings(name);
        assert_eq!((settings.direction, settings.hook), (Direction::Both, Hook::Xdp));
        assert_eq!(settings.sampling.interval, 100);
    }
    let overrides = Overrides { sampling_interval: Some(0), ..Overrides::default() };
    let message = Config::resolve(Raw::default(), overrides).unwrap_err().to_string();
    assert_eq!(message, "--sampling-interval: \"0\" cannot be used: it must be from 1 to 16777215");
    let overrides = Overrides { interfaces: vec!["eth 0".to_owned()], ..Overrides::default() };
    let message = Config::resolve(Raw::default(), overrides).unwrap_err().to_string();
    assert_eq!(message, "--interface: \"eth 0\" cannot be used: no interface can have this name");
}

/// A file that goes when the test does.
struct MapFile(std::path::PathBuf);

impl MapFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pathflow-{name}-{}.map", process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for MapFile {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_map_gives_numbers_directions_and_interfaces_if_none_are_listed() {
    let map =
        MapFile::new("good", "! mine\nifname=eth0 ifindex=100 direction=out\nifname=eth1 ifindex=200\n");
    let key = format!("interfaces_map = {:?}\n", map.0);
    let config = config(&format!(
        "[capture]\n{key}[[capture.interface]]\nname = \"eth1\"\nindex = 7\ndirection = \"ingress\"\n"
    ));
    assert_eq!(config.interfaces.selection.to_string(), "eth0, eth1");
    let eth0 = config.interface_settings("eth0");
    assert_eq!((eth0.index, eth0.direction), (Some(100), Direction::Egress));
    let eth1 = config.interface_settings("eth1");
    assert_eq!((eth1.index, eth1.direction), (Some(7), Direction::Ingress));

    let overrides = Overrides { direction: Some(Direction::Both), ..Overrides::default() };
    let config = config_with(&format!("[capture]\ninterfaces = [\"eth0\"]\n{key}"), overrides);
    assert_eq!(config.interfaces.selection.to_string(), "eth0");
    let eth0 = config.interface_settings("eth0");
    assert_eq!((eth0.index, eth0.direction), (Some(100), Direction::Both));
}

#[test]
fn a_fault_of_the_map_is_named_with_its_file_and_line() {
    let map = MapFile::new("bad", "# mine\nifname=eth0 ifindex=none\n");
    let message = error(&format!("[capture]\ninterfaces_map = {:?}\n", map.0));
    let expected = format!("capture.interfaces_map: {}:2: ifindex \"none\" is not a number", map.0.display());
    assert!(message.starts_with(&expected), "{message}");
}
