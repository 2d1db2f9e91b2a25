//! BGP over IPv6: BIRD tells routes of both families in one session, with signatures (RFC 2385).

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::bgp::{CONFIGURATION, ask, by_addresses, wait_for_routes};
use super::support::bird::Bird;
use super::support::namespace::Namespace;
use super::support::probe::{Probe, ProbeBuilder};
use super::support::routed::{CLIENT, LEFT, RIGHT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::wait_for;

/// Where the test's datagrams go.
const PORT: u16 = 4242;
/// BIRD and the probe, both on the router's loopback.
const BIRD: &str = "fd00::1";
const PROBE: &str = "fd00::2";
const KEY: &str = "a secret of both";

fn network() -> Routed {
    let routed = Routed::new();
    routed.router.sysctl("net.ipv6.conf.lo.disable_ipv6=0");
    for address in [BIRD, PROBE] {
        routed.router.add_address("lo", address.parse().unwrap(), 128);
    }
    routed
}

/// The routes of [`CONFIGURATION`], over IPv6. `key` is BIRD's, `channel` is further settings for IPv4.
fn bird_configuration(key: &str, channel: &str) -> String {
    let (routes, _) = CONFIGURATION.split_once("protocol bgp").unwrap();
    format!(
        "{routes}protocol bgp pathflow {{\n  local {BIRD} as 397143;\n  neighbor {PROBE} port 17917 as 397143;\n  \
         rr client;\n  multihop;\n  connect delay time 1;\n  connect retry time 2;\n  password \"{key}\";\n  \
         ipv4 {{ import none; export filter to_pathflow; {channel} }};\n  \
         ipv6 {{ import none; export filter to_pathflow; next hop address {}; }};\n}}\n",
        SERVER[1]
    )
}

fn probe<'a>(routed: &'a Routed, directory: &TempDir) -> Probe<'a> {
    let key = directory.file("md5.lst");
    fs::write(&key, format!("{BIRD}, {KEY}\n")).unwrap();
    let at = |name: &str| directory.file(name).display().to_string();
    let configuration = format!(
        "[bgp]\nlisten = [\"[{PROBE}]:17917\"]\nrouter_id = \"127.0.0.2\"\n\
         [[bgp.peer]]\naddress = \"{BIRD}\"\nname = \"bird\"\nmd5_key_file = \"{}\"\n\
         [bgp.table_dump]\nfile = \"{}\"\ninterval = \"10s\"\nutc = true\n\
         [control]\nsocket = \"{}\"\n[enrich]\nwait_for_rib = \"30s\"\nlocal_as = 397143\n",
        key.display(),
        at("dump-$peer_src_ip"),
        at("control.sock"),
    );
    ProbeBuilder::configured(&routed.router)
        .argument("--interface", &format!("{LEFT},{RIGHT}"))
        .configuration(&configuration)
        .json()
        .start()
}

/// Segments that the kernel threw away because of their signature.
fn bad_signatures(namespace: &Namespace) -> u64 {
    let table = namespace.run(|| fs::read_to_string("/proc/thread-self/net/netstat").unwrap());
    let mut rows = table.lines().filter_map(|line| line.strip_prefix("TcpExt: ")).map(str::split_whitespace);
    let (columns, values) = (rows.next().unwrap(), rows.next().unwrap());
    let counts = columns.zip(values).filter(|(name, _)| *name == "TCPMD5Failure");
    counts.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

#[test]
fn routes_of_both_families_come_over_a_signed_ipv6_session() {
    // A next hop of IPv4 for IPv4, as ever, and one of IPv6 (RFC 8950).
    for (channel, next_hop) in [
        (format!("next hop address {};", SERVER[0]), SERVER[0]),
        (format!("extended next hop; next hop self; next hop address {};", SERVER[1]), SERVER[1]),
    ] {
        let routed = network();
        let directory = TempDir::new();
        let probe = probe(&routed, &directory);
        for server in SERVER {
            Routed::send(&routed.client, (server, PORT), 10, 3);
        }
        // With another key there is no session.
        let bird = Bird::start(&routed.router, &bird_configuration("another", &channel));
        let bad = || bad_signatures(&routed.router);
        wait_for("wrong signatures", || bird.ask(&["show", "protocols"]), || (bad() > 0).then_some(()));
        let peers = ask(&directory, &["peers"]);
        assert_ne!(peers["peers"][0]["state"], "Established", "{peers:#}");
        drop(bird);
        let bird = Bird::start(&routed.router, &bird_configuration(KEY, &channel));
        bird.wait_until_established();
        wait_for_routes(&probe, 6);
        let peers = ask(&directory, &["peers"]);
        assert_eq!(peers["peers"][0]["peer"], format!("bird ({BIRD})"), "{peers:#}");
        assert_eq!(peers["peers"][0]["state"], "Established", "{peers:#}");

        compare_dump(&directory, next_hop);
        let ended = probe.terminate();
        ended.report.assert_balanced();
        let flows = by_addresses(&ended.output);
        for family in 0..2 {
            let flow = &flows[&(CLIENT[family].to_owned(), SERVER[family].to_owned())];
            let hop = [next_hop, SERVER[1]][family];
            assert_eq!(flow["bgp_source_as_number"], 397_143, "{flow:#}");
            assert_eq!(flow["bgp_destination_as_number"], 60_729, "{flow:#}");
            assert_eq!(flow["bgp_next_adjacent_as_number"], 6939, "{flow:#}");
            assert_eq!(flow["destination_route"]["as_path"], "6939 3356 60729", "{flow:#}");
            assert_eq!(flow["destination_route"]["next_hop"], hop, "{flow:#}");
            assert_eq!(flow["bgp_next_hop"], hop, "{flow:#}");
            assert_eq!(flow["destination_prefix_length"], [24, 64][family], "{flow:#}");
        }
    }
}

/// A table dump of all six routes.
fn compare_dump(directory: &TempDir, next_hop: &str) {
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(directory.file("dump-fd00__1")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let is_whole = |lines: &Vec<Value>| lines.last().is_some_and(|line| line["entries"] == 6);
    let dump = wait_for("a dump", || format!("{:#?}", lines()), || Some(lines()).filter(is_whole));
    assert!(dump.iter().all(|line| line["peer_ip_src"] == BIRD), "{dump:#?}");
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let routes: BTreeSet<[String; 3]> = dump[1..7]
        .iter()
        .map(|line| ["ip_prefix", "bgp_nexthop", "as_path"].map(|key| text(line, key)))
        .collect();
    let expected = [
        ["198.51.100.0/24", next_hop, ""],
        ["203.0.113.0/24", next_hop, "6939 3356 60729"],
        ["203.0.113.128/25", next_hop, "6939 15169"],
        ["2001:db8:1::/64", SERVER[1], ""],
        ["2001:db8:2::/64", SERVER[1], "6939 3356 60729"],
        ["2001:db8:2::8000/113", SERVER[1], "6939 15169"],
    ];
    assert_eq!(routes, expected.map(|route| route.map(str::to_owned)).into());
}
