//! Routes that BIRD has, in the records of the probe: BIRD and the probe on the router, traffic through it.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::support::bird::Bird;
use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::flows;
use super::support::network::{COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Probe, ProbeBuilder, daemon};
use super::support::routed::{CLIENT, LEFT, RIGHT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::replay;
use super::support::wait_for;

/// Where the test's datagrams go.
const PORT: u16 = 4242;

/// The client's networks are the router's own, the server's are those of AS 60729 behind two others. A more specific
/// route of each of the latter is of AS 15169.
pub(crate) const CONFIGURATION: &str = "\
protocol static own4 { ipv4; route 198.51.100.0/24 via \"left\"; }
protocol static own6 { ipv6; route 2001:db8:1::/64 via \"left\"; }
protocol static other4 {
  ipv4;
  route 203.0.113.0/24 via 203.0.113.1;
  route 203.0.113.128/25 via 203.0.113.1;
}
protocol static other6 {
  ipv6;
  route 2001:db8:2::/64 via 2001:db8:2::1;
  route 2001:db8:2::8000/113 via 2001:db8:2::1;
}
filter to_pathflow {
  if source = RTS_STATIC && proto ~ \"other*\" then {
    if net.len = 25 || net.len = 113 then bgp_path.prepend(15169);
    else { bgp_path.prepend(60729); bgp_path.prepend(3356); }
    bgp_path.prepend(6939);
    bgp_local_pref = 150;
    bgp_med = 7;
    bgp_community.add((6939,100));
    bgp_community.add((65535,65281));
    bgp_large_community.add((397143,1,2));
  }
  accept;
}
protocol bgp pathflow {
  local 127.0.0.1 as 397143;
  neighbor 127.0.0.2 port 17917 as 397143;
  rr client;
  multihop;
  ipv4 { import none; export filter to_pathflow; };
  ipv6 { import none; export filter to_pathflow; next hop address 2001:db8:2::1; };
}
";

/// Settings of the probe; the socket is in a directory of the test's.
pub(crate) fn settings(directory: &TempDir, enrich: &str) -> String {
    format!(
        "[bgp]\nlisten = [\"127.0.0.2:17917\"]\nrouter_id = \"127.0.0.2\"\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nname = \"bird\"\nstale_time = \"1h\"\n\
         [control]\nsocket = \"{}\"\n[enrich]\nwait_for_rib = \"30s\"\n{enrich}",
        directory.file("control.sock").display()
    )
}

/// Asks the daemon, in JSON.
pub(crate) fn ask(directory: &TempDir, words: &[&str]) -> Value {
    let configuration = directory.file("ask.toml");
    let socket = directory.file("control.sock");
    fs::write(&configuration, format!("[control]\nsocket = \"{}\"\n", socket.display())).unwrap();
    let mut command = std::process::Command::new(daemon());
    command.args(words).arg("--json").arg("--config").arg(&configuration);
    serde_json::from_str(&output(&mut command)).unwrap()
}

/// Waits until the probe has this many routes of both families together.
pub(crate) fn wait_for_routes(probe: &Probe<'_>, count: u64) {
    probe.wait_until("routes", |metrics| metrics.total("pathflow_bgp_routes") == count);
}

/// The test's flows by their addresses.
pub(crate) fn by_addresses(output: &str) -> BTreeMap<(String, String), Value> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    flows(output)
        .into_iter()
        .filter(|flow| flow["destination_port"] == PORT)
        .map(|flow| ((text(&flow["source_address"]), text(&flow["destination_address"])), flow))
        .collect()
}

#[test]
fn every_record_of_forwarded_traffic_has_its_as_pair_and_paths() {
    let routed = Routed::new();
    let bird = Bird::start(&routed.router, CONFIGURATION);
    let directory = TempDir::new();
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", &format!("{LEFT},{RIGHT}"))
        .configuration(&settings(&directory, "local_as = 397143\n"))
        .json()
        .start();
    // Before there are routes: these records wait for them.
    for family in 0..2 {
        Routed::send(&routed.client, (SERVER[family], PORT), 10, 3);
        Routed::send(&routed.server, (CLIENT[family], PORT), 10, 2);
    }
    bird.wait_until_established();
    wait_for_routes(&probe, 6);
    let ended = probe.terminate();
    ended.report.assert_balanced();

    let flows = by_addresses(&ended.output);
    for family in 0..2 {
        let (client, server) = (CLIENT[family].to_owned(), SERVER[family].to_owned());
        // What follows from the configuration of BIRD above.
        let next_hop = SERVER[family];
        let path = serde_json::json!({
            "origin": "igp", "as_path": "6939 3356 60729", "next_hop": next_hop, "local_pref": 150,
            "multi_exit_disc": 7, "communities": ["6939:100", "65535:65281"],
            "large_communities": ["397143:1:2"],
        });
        let there = &flows[&(client.clone(), server.clone())];
        assert_eq!(there["bgp_source_as_number"], 397_143, "{there:#}");
        assert_eq!(there["bgp_destination_as_number"], 60_729, "{there:#}");
        assert_eq!(there["bgp_next_adjacent_as_number"], 6939, "{there:#}");
        assert_eq!(there["bgp_next_hop"], next_hop, "{there:#}");
        assert_eq!(there["source_prefix_length"], [24, 64][family], "{there:#}");
        assert_eq!(there["destination_prefix_length"], [24, 64][family], "{there:#}");
        assert_eq!(there["destination_route"], path, "{there:#}");
        assert_eq!(there["source_route"]["as_path"], "", "{there:#}");

        let back = &flows[&(server, client)];
        assert_eq!(back["bgp_source_as_number"], 60_729, "{back:#}");
        assert_eq!(back["bgp_destination_as_number"], 397_143, "{back:#}");
        assert_eq!(back["bgp_prev_adjacent_as_number"], 6939, "{back:#}");
        assert_eq!(back["source_route"], path, "{back:#}");
        assert_eq!(back["destination_route"]["as_path"], "", "{back:#}");
    }
    assert_eq!(flows.len(), 4);
    // The probe says goodbye when it has exported everything (RFC 9003).
    let log = || bird.ask(&["show", "protocols", "all", "pathflow"]);
    wait_for("BIRD knows why", log, || log().contains("Administrative shutdown").then_some(()));
}

#[test]
fn an_ipfix_collector_gets_the_as_pair_of_every_record() {
    let network = Network::new();
    let bird = Bird::start(&network.router, &CONFIGURATION.replace("via \"left\"", "via \"veth-in\""));
    // The next hops of the routes.
    network.router.ip("address add 203.0.113.254/24 dev veth-out");
    network.router.ip("address add 2001:db8:2::fe/64 dev veth-out nodad");
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let directory = TempDir::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(&settings(&directory, "local_as = 397143\n"))
        .collector(COLLECTOR_IPV4, "ipfix")
        .start();
    bird.wait_until_established();
    wait_for_routes(&probe, 6);

    let cases = [
        ("198.51.100.1", "203.0.113.1", [397_143, 60_729], [24, 24]),
        ("198.51.100.1", "203.0.113.200", [397_143, 15_169], [24, 25]),
        ("203.0.113.129", "198.51.100.1", [15_169, 397_143], [25, 24]),
        ("198.51.100.1", "192.0.2.77", [397_143, 0], [24, 0]),
        ("2001:db8:1::1", "2001:db8:2::1", [397_143, 60_729], [64, 64]),
        ("2001:db8:2::8001", "2001:db8:1::1", [15_169, 397_143], [113, 64]),
        ("2001:db8:9::1", "2001:db8:1::1", [0, 397_143], [0, 64]),
    ];
    let frames = cases.map(|(source, destination, ..)| Frame::new(source, destination, Upper::Udp(1, PORT)));
    let capture = directory.file("frames.pcap");
    write_capture(&capture, &frames);
    replay(&network.sender, &capture, frames.len());
    probe.terminate().report.assert_complete();

    let collected = nfcapd.stop(&network);
    collected.assert_in_sequence();
    collected.capture().assert_decodable();
    let address = |flow: &Value, end: &str| {
        [4, 6].iter().find_map(|version| flow[format!("{end}{version}_addr")].as_str()).unwrap().to_owned()
    };
    for (source, destination, as_numbers, masks) in cases {
        let of_case = |flow: &&Value| address(flow, "src") == source && address(flow, "dst") == destination;
        let records: Vec<&Value> = collected.flows.iter().filter(of_case).collect();
        assert_eq!(records.len(), 1, "{source} {destination}: {:#?}", collected.flows);
        let number = |key: &str| records[0][key].as_u64().unwrap_or(0);
        assert_eq!([number("src_as"), number("dst_as")], as_numbers, "{:#}", records[0]);
        assert_eq!([number("src_mask"), number("dst_mask")], masks, "{:#}", records[0]);
    }
}

#[test]
fn the_daemon_tells_of_its_peers_and_routes() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .configuration(&settings(&directory, ""))
        .start();
    let peers = ask(&directory, &["peers"]);
    assert_eq!(
        (&peers["peers"][0]["peer"], peers["peers"][0]["up_seconds"].as_u64()),
        (&"bird (127.0.0.1)".into(), None)
    );

    let bird = Bird::start(&routed.router, CONFIGURATION);
    bird.wait_until_established();
    wait_for_routes(&probe, 6);
    let peers = ask(&directory, &["peers"]);
    let peer = &peers["peers"][0];
    assert_eq!((&peer["as"], &peer["state"]), (&397_143.into(), &"Established".into()));
    for family in ["IPv4 unicast", "IPv6 unicast"] {
        let of_family = peer["families"].as_array().unwrap().iter().find(|entry| entry["family"] == family);
        assert_eq!(of_family.unwrap()["routes"], 3, "{peer:#}");
    }

    let answer = |address: &str| ask(&directory, &["route", address])["routes"][0].clone();
    let route = answer("203.0.113.9");
    assert_eq!((&route["prefix"], &route["stale"]), (&"203.0.113.0/24".into(), &false.into()));
    assert_eq!(route["paths"][0]["as_path"], "6939 3356 60729", "{route:#}");
    assert_eq!(answer("2001:db8:2::9000")["paths"][0]["as_path"], "6939 15169");
    // A route of the own AS, and none.
    assert_eq!(answer("198.51.100.9")["paths"][0]["as_path"], "");
    let mut command = std::process::Command::new(daemon());
    let none =
        command.args(["route", "192.0.2.1", "--config"]).arg(directory.file("ask.toml")).output().unwrap();
    assert_eq!((none.status.code(), &*none.stdout), (Some(1), &b"bird (127.0.0.1): no route\n"[..]));

    // When the router's daemon is gone, its routes are still there.
    drop(bird);
    let stale = || answer("203.0.113.9")["stale"] == true;
    wait_for("stale routes", || answer("203.0.113.9").to_string(), || stale().then_some(()));
    assert_eq!(answer("203.0.113.9")["paths"][0]["as_path"], "6939 3356 60729");
    probe.terminate().report.assert_balanced();
}

#[test]
fn the_networks_file_is_read_again() {
    let routed = Routed::new();
    let bird = Bird::start(&routed.router, CONFIGURATION);
    let directory = TempDir::new();
    let networks = directory.file("networks.lst");
    fs::write(&networks, "64500,203.0.113.0/24\n64501,2001:db8:2::/48\n").unwrap();
    let enrich =
        |no_lpm| format!("networks_file = \"{}\"\nnetworks_file_no_lpm = {no_lpm}\n", networks.display());
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .argument("--idle-timeout", "300ms")
        .configuration(&settings(&directory, &enrich(false)))
        .json()
        .start();
    bird.wait_until_established();
    wait_for_routes(&probe, 6);
    let seen = |which: usize| -> Vec<Option<u64>> {
        for server in SERVER {
            Routed::send(&routed.client, (server, PORT + which as u16), 10, 1);
        }
        let found = || -> Vec<Value> {
            let text = probe.output();
            let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
            flows(whole).into_iter().filter(|flow| flow["destination_port"] == PORT + which as u16).collect()
        };
        let mut records =
            wait_for("two flows", || probe.output(), || Some(found()).filter(|flows| flows.len() == 2));
        records.sort_by_key(|flow| flow["source_address"].as_str().unwrap().contains(':'));
        records.iter().map(|flow| flow["bgp_destination_as_number"].as_u64()).collect()
    };
    // At equal length the file wins; where it is shorter, BGP does.
    assert_eq!(seen(0), [Some(64_500), Some(60_729)]);
    probe.reload(&settings(&directory, &enrich(true)));
    let read_twice = || probe.errors().matches("2 networks of our own").count() == 2;
    wait_for("settings", || probe.errors(), || read_twice().then_some(()));
    assert_eq!(seen(1), [Some(64_500), Some(64_501)]);
    fs::write(&networks, "64502,0.0.0.0/0\n").unwrap();
    probe.reload(&settings(&directory, &enrich(true)));
    wait_for(
        "settings",
        || probe.errors(),
        || probe.errors().contains("1 networks of our own").then_some(()),
    );
    assert_eq!(seen(2), [Some(64_502), Some(60_729)]);
    // A file that is wrong changes nothing.
    fs::write(&networks, "64502,0.0.0.0\n").unwrap();
    probe.reload(&settings(&directory, &enrich(true)));
    wait_for("a complaint", || probe.errors(), || probe.errors().contains("networks.lst:1: ").then_some(()));
    assert_eq!(seen(3), [Some(64_502), Some(60_729)]);
    probe.terminate().report.assert_balanced();
}

#[test]
fn of_several_paths_the_record_has_that_of_the_kernels_next_hop() {
    let routed = Routed::new();
    let paths = "\
protocol static path1 { ipv4; route 192.0.2.0/24 via 203.0.113.1; }
protocol static path2 { ipv4 { preference 150; }; route 192.0.2.0/24 via 203.0.113.2; }
filter to_pathflow {
  bgp_path.prepend(60729);
  if proto = \"path1\" then bgp_path.prepend(6939); else bgp_path.prepend(3356);
  accept;
}
protocol bgp pathflow {
  local 127.0.0.1 as 397143;
  neighbor 127.0.0.2 port 17917 as 397143;
  rr client;
  multihop;
  ipv4 { import none; export filter to_pathflow; add paths tx; next hop keep; };
}
";
    let bird = Bird::start(&routed.router, paths);
    let directory = TempDir::new();
    let far = "192.0.2.9";
    let mut upstreams = Vec::new();
    for gateway in ["203.0.113.1", "203.0.113.2"] {
        routed.router.ip(&format!("route replace 192.0.2.0/24 via {gateway}"));
        let probe = ProbeBuilder::configured(&routed.router)
            .argument("--interface", LEFT)
            .configuration(&settings(&directory, ""))
            .json()
            .start();
        bird.wait_until_established();
        wait_for_routes(&probe, 2);
        Routed::send(&routed.client, (far, PORT), 10, 3);
        let ended = probe.terminate();
        ended.report.assert_balanced();
        let flow = &by_addresses(&ended.output)[&(CLIENT[0].to_owned(), far.to_owned())];
        assert_eq!(
            (&flow["ip_next_hop"], &flow["bgp_next_hop"]),
            (&gateway.into(), &gateway.into()),
            "{flow:#}"
        );
        assert_eq!(flow["bgp_destination_as_number"], 60_729, "{flow:#}");
        upstreams.push(flow["bgp_next_adjacent_as_number"].as_u64().unwrap());
    }
    assert_eq!(upstreams, [6939, 3356]);
}
