//! Tests of `[bgp]`, `[enrich]` and `[rpki]`.

use pathflow_bgp::RouteDistinguisher;
use pathflow_bgp::rib::LookupSource;

use super::*;
use crate::enrich::{Method, PeerReference, RouteDetail};
use crate::pipeline::route_detail;

fn config(text: &str) -> Config {
    Config::resolve(parse(Path::new("probe.toml"), text).unwrap(), Overrides::default()).unwrap()
}

#[test]
fn without_a_peer_there_is_no_bgp() {
    let config = Config::resolve(Raw::default(), Overrides::default()).unwrap();
    assert_eq!((config.bgp, config.rpki), (None, None));
    assert_eq!(config.enrich.methods.as_number, Method::Longest);
    assert_eq!(config.control, Some("/run/pathflow/control.sock".into()));
}

#[test]
fn peers_and_rules_are_read() {
    let config = config(
        "[bgp]\nlisten = [\"127.0.0.2:17917\", \"::1\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nas = 397143\nfamilies = [\"ipv4-unicast\"]\nhold_time = \"9s\"\n\
         [[bgp.peer]]\naddress = \"2001:db8::77/64\"\nlookups = \"1:192.0.2.1:7\"\n\
         [[enrich.agent]]\npeer = \"127.0.0.1\"\nip_version = 4\n\
         [[enrich.agent]]\npeer = \"core\"\n\
         [[enrich.peer_source]]\ninterfaces = [\"eth1\"]\nmacs = [\"02:00:5e:00:53:01\"]\nas = 64500\n\
         [rpki]\ncache = \"localhost:3323\"\n",
    );
    let bgp = config.bgp.unwrap();
    let listen: Vec<String> = bgp.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.2:17917", "[::1]:179"]);
    let [one, other] = &bgp.peers[..] else { panic!("{:?}", bgp.peers) };
    assert_eq!((one.remote_as, one.local_as, one.hold_time, one.families.len()), (Some(397_143), None, 9, 1));
    assert!(!one.is_dynamic() && one.active.is_none());
    assert_eq!(other.remote.to_string(), "2001:db8::/64");
    let vpn = LookupSource::Vpn(RouteDistinguisher([0, 1, 192, 0, 2, 1, 0, 7]));
    assert_eq!(other.lookups, Some(vpn));
    assert_eq!(config.enrich.agents[1].peer, PeerReference::Name("core".to_owned()));
    assert_eq!(config.enrich.peer_sources[0].as_number, Some(64_500));
    assert_eq!(config.enrich.peer_sources[0].macs, ["02:00:5e:00:53:01".parse().unwrap()]);
    assert_eq!(config.rpki.unwrap().cache.as_deref(), Some("localhost:3323"));
}

#[test]
fn what_is_wrong_with_bgp_and_routes_is_said_by_key() {
    let peer = |text: &str| {
        format!("[bgp]\nlisten = [\"127.0.0.2\"]\n[[bgp.peer]]\naddress = \"127.0.0.1\"\n{text}\n")
    };
    for (text, expected) in [
        (
            "[bgp]\nlisten = [\"127.0.0.2\"]\n".to_owned(),
            "probe.toml:2:1: bgp.listen: \"127.0.0.2\" cannot be used: there is no [[bgp.peer]]",
        ),
        (
            "[[bgp.peer]]\naddress = \"127.0.0.1\"\n".to_owned(),
            "probe.toml:2:1: bgp.peer.address: \"127.0.0.1/32\" cannot be used: nobody can connect",
        ),
        ("[bgp]\nlisten = [\"localhost\"]\n".to_owned(), "bgp.listen: \"localhost\" cannot be used"),
        (
            peer("hold_time = \"2s\""),
            "probe.toml:5:1: bgp.peer.hold_time: \"2s\" cannot be used: it must be 0s",
        ),
        (peer("families = []"), "bgp.peer.families: \"[]\" cannot be used: it names no family"),
        (peer("lookups = \"0:1\""), "bgp.peer.lookups: \"0:1\" cannot be used: it must be unicast"),
        (peer("local_address = \"127.0.0.2\""), "bgp.peer.local_address"),
        (peer("active = true\nlocal_address = \"::1\""), "of two versions of IP"),
        (peer("md5_key_file = \"/nonexistent/key\""), "bgp.peer.md5_key_file: \"/nonexistent/key\" cannot"),
        (peer("[[bgp.peer]]\naddress = \"127.0.0.1\""), "peer 127.0.0.1/32 is there twice"),
        (
            "[enrich]\nnetworks_file = \"/nonexistent/networks\"\n".to_owned(),
            "enrich.networks_file: /nonexistent/networks: No such file",
        ),
        (
            "[enrich]\nas_method = \"bmp\"\n".to_owned(),
            "probe.toml:2:13: unknown variant `bmp`, expected one of `bgp`, `file`, `longest`",
        ),
        ("[enrich]\nstdcomm_pattern = [\"\"]\n".to_owned(), "enrich.stdcomm_pattern: \"\" cannot be used"),
        ("[enrich]\nwait_for_rib = \"2h\"\n".to_owned(), "enrich.wait_for_rib: \"2h\" cannot be used"),
        ("[[enrich.agent]]\nip_version = 4\n".to_owned(), "enrich.agent.peer: \"\" cannot be used"),
        (
            "[[enrich.peer_source]]\nnext_hop = \"gw\"\n".to_owned(),
            "enrich.peer_source.next_hop: \"gw\" cannot be used: it is not an IP address",
        ),
        ("[bmp]\nlisten = \"127.0.0.1\"\n".to_owned(), "bmp.listen: \"127.0.0.1\" cannot be used: no router"),
        ("[bmp]\nmax_peers = 0\n".to_owned(), "bmp.max_peers: \"0\" cannot be used: it must be 1 or more"),
        ("[bmp]\nrouters = [\"core\"]\n".to_owned(), "bmp.routers: \"core\" cannot be used"),
        ("[rpki]\ncache = \"localhost\"\n".to_owned(), "rpki.cache: \"localhost\" cannot be used"),
    ] {
        let message = error(&text);
        assert!(message.contains(expected), "{message}");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn dumps_and_log_go_to_files_or_to_kafka() {
    for function in ["table_dump", "message_log"] {
        let text = |file: &str, keys: &str| {
            format!("[bgp.{function}]\nfile = \"{file}\"\n[bgp.{function}.kafka]\n{keys}")
        };
        let good = "brokers = [\"192.0.2.1:9092\"]\ntopic = \"pmacct.bgp\"\n";
        let raw = parse(Path::new("probe.toml"), &text("", good)).unwrap();
        assert_eq!(
            Config::resolve(raw, Overrides::default()).unwrap().bgp_output.message_log.is_some(),
            function == "message_log"
        );
        let both = error(&text("/tmp/$peer_src_ip", good));
        assert!(both.contains(&format!("bgp.{function}.file")), "{both}");
        assert!(both.contains(&format!("[bgp.{function}.kafka]")), "{both}");
        let topic = error(&text("", "brokers = [\"192.0.2.1:9092\"]\n"));
        assert!(topic.contains(&format!("bgp.{function}.kafka.topic")), "{topic}");
        let brokers = error(&text("", "topic = \"pmacct.bgp\"\n"));
        assert!(brokers.contains(&format!("bgp.{function}.kafka.brokers")), "{brokers}");
    }
}

#[test]
fn attributes_of_routes_are_wanted_where_something_shows_them() {
    let detail = |text: &str| route_detail(&config(text));
    for (text, expected) in [
        ("[export]\ncollectors = [\"192.0.2.1:4739\"]\nfields = [\"bgp\", \"tags\"]\n", RouteDetail::Numbers),
        (
            "[export]\ncollectors = [\"192.0.2.1:4739\"]\nfields = [\"communities\"]\n",
            RouteDetail::Attributes,
        ),
        (
            "[export]\ncollectors = [\"192.0.2.1:4739\"]\n\
             [[export.process]]\ncollectors = [\"192.0.2.2:4739\"]\nfields = [\"communities\"]\n",
            RouteDetail::Attributes,
        ),
        ("[export]\ncollectors = [\"192.0.2.1:4739\"]\nstdout = \"json\"\n", RouteDetail::Attributes),
        ("[export]\nstdout = \"json\"\n", RouteDetail::Attributes),
        ("[export]\nstdout = \"none\"\n", RouteDetail::Numbers),
    ] {
        assert_eq!(detail(text), expected, "{text}");
    }
    let numbers =
        ["src_as", "dst_as", "peer_dst_as", "peer_dst_ip", "src_net", "dst_mask", "dst_roa", "label"];
    assert_eq!(detail(&aggregate(&numbers)), RouteDetail::Numbers);
    for primitive in [
        "std_comm",
        "ext_comm",
        "lrg_comm",
        "as_path",
        "local_pref",
        "med",
        "src_std_comm",
        "src_ext_comm",
        "src_lrg_comm",
        "src_as_path",
        "src_local_pref",
        "src_med",
    ] {
        assert_eq!(detail(&aggregate(&["src_as", primitive])), RouteDetail::Attributes, "{primitive}");
    }
}

fn aggregate(key: &[&str]) -> String {
    format!("[[aggregate]]\nname = \"test\"\nkey = {key:?}\n[aggregate.stdout]\n")
}
