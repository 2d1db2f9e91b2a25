//! Routes that FRR has of its peer, in the records of a probe that has no BGP session of its own: FRR tells them by BMP.

use std::fs;
use std::process::Stdio;

use super::bgp::{CONFIGURATION, ask, by_addresses};
use super::support::bird::Bird;
use super::support::namespace::Namespace;
use super::support::probe::ProbeBuilder;
use super::support::process::Process;
use super::support::routed::{CLIENT, LEFT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::wait_for;

/// Where the test's datagrams go.
const PORT: u16 = 4242;

/// FRR on the router's right side, to which BIRD connects from the left side, and which connects to the station. (FRR
/// takes no next hop in 127.0.0.0/8, as BIRD's would be.)
const FRR: &str = "\
router bgp 397143
 bgp router-id 198.51.100.253
 neighbor 198.51.100.254 remote-as 397143
 neighbor 198.51.100.254 passive
 address-family ipv4 unicast
  neighbor 198.51.100.254 soft-reconfiguration inbound
 exit-address-family
 address-family ipv6 unicast
  neighbor 198.51.100.254 activate
  neighbor 198.51.100.254 soft-reconfiguration inbound
 exit-address-family
 bmp targets station
  bmp monitor ipv4 unicast pre-policy
  bmp monitor ipv6 unicast pre-policy
  bmp connect 127.0.0.2 port 17990 min-retry 100 max-retry 500
 exit
";

/// Starts `bgpd`, without a kernel to put routes into.
fn start_frr(namespace: &Namespace, directory: &TempDir) -> Process {
    let file = directory.file("bgpd.conf");
    fs::write(&file, FRR).unwrap();
    let mut command = namespace.command("/usr/lib/frr/bgpd");
    command.args([
        "-Z",
        "-S",
        "-n",
        "-P",
        "0",
        "-M",
        "bmp",
        "--log",
        "stdout",
        "-l",
        "203.0.113.254",
        "-p",
        "17919",
    ]);
    command.arg("-f").arg(&file).arg("-i").arg(directory.file("bgpd.pid"));
    command.arg("--vty_socket").arg(directory.file("")).stdout(Stdio::null());
    Process::start(&mut command)
}

#[test]
fn records_have_the_routes_that_a_router_tells_by_bmp() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let frr = start_frr(&routed.router, &directory);
    let to_frr = CONFIGURATION
        .replace("neighbor 127.0.0.2 port 17917", "neighbor 203.0.113.254 port 17919")
        .replace("local 127.0.0.1", "local 198.51.100.254");
    let bird = Bird::start(&routed.router, &to_frr);
    bird.wait_until_established();

    let settings = format!(
        "[bmp]\nlisten = \"127.0.0.2:17990\"\nrouters = [\"127.0.0.0/8\"]\nstale_time = \"1h\"\n\
         [control]\nsocket = \"{}\"\n[enrich]\nlocal_as = 397143\nwait_for_rib = \"1h\"\n",
        directory.file("control.sock").display()
    );
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .argument("--idle-timeout", "300ms")
        .configuration(&settings)
        .json()
        .start();
    // Before there are routes: these records wait for them, and not for an hour.
    for server in SERVER {
        Routed::send(&routed.client, (server, PORT), 10, 3);
    }
    let found = || {
        let output = probe.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..=end]);
        let flows = by_addresses(whole);
        (flows.len() == 2).then_some(flows)
    };
    let flows = wait_for("two flows", || probe.errors() + &frr.errors(), found);
    for family in 0..2 {
        let flow = &flows[&(CLIENT[family].to_owned(), SERVER[family].to_owned())];
        assert_eq!(flow["bgp_source_as_number"], 397_143, "{flow:#}");
        assert_eq!(flow["bgp_destination_as_number"], 60_729, "{flow:#}");
        assert_eq!(flow["bgp_next_adjacent_as_number"], 6939, "{flow:#}");
        assert_eq!(flow["destination_prefix_length"], [24, 64][family], "{flow:#}");
        assert_eq!(flow["destination_route"]["as_path"], "6939 3356 60729", "{flow:#}");
        assert_eq!(flow["source_route"]["as_path"], "", "{flow:#}");
    }
    assert!(probe.errors().contains("the routes are complete after"), "{}", probe.errors());

    let metrics = probe.metrics();
    let of_family = |family| metrics.sum("pathflow_bmp_routes", &[("family", family)]);
    assert_eq!([of_family("IPv4 unicast"), of_family("IPv6 unicast")], [3, 3]);
    assert_eq!(metrics.total("pathflow_bmp_connected"), 1);
    assert_eq!(metrics.sum("pathflow_bmp_messages_total", &[("type", "peer_up")]), 1);
    assert_eq!(metrics.total("pathflow_bmp_errors_total"), 0);

    let peers = ask(&directory, &["peers"]);
    let table = &peers["peers"][0];
    let name = "bmp 127.0.0.1 198.51.100.254 adj-rib-in-pre";
    assert_eq!((&table["peer"], &table["state"]), (&name.into(), &"BMP up".into()), "{peers:#}");
    assert_eq!(table["as"], 397_143);
    for family in table["families"].as_array().unwrap() {
        assert_eq!((&family["routes"], &family["end_of_rib"]), (&3.into(), &true.into()), "{peers:#}");
    }
    let route = || ask(&directory, &["route", "203.0.113.200"])["routes"][0].clone();
    assert_eq!((&route()["peer"], &route()["prefix"]), (&name.into(), &"203.0.113.128/25".into()));
    assert_eq!(route()["paths"][0]["as_path"], "6939 15169");

    // When the router is gone, its routes are still there.
    drop(frr);
    wait_for("stale routes", || route().to_string(), || (route()["stale"] == true).then_some(()));
    let peers = ask(&directory, &["peers"]);
    assert_eq!(peers["peers"][0]["state"], "BMP down", "{peers:#}");
    assert_eq!(probe.metrics().total("pathflow_bmp_stale_routes"), 6);
    probe.terminate().report.assert_balanced();
}
