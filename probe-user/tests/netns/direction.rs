//! Which way packets go: directions, interfaces and next hops in records.

use std::fs;

use serde_json::Value;

use super::support::json::{flows, sum};
use super::support::namespace::Namespace;
use super::support::network::{CAPTURED, COLLECTOR_IPV4, EXPORTING, Network};
use super::support::probe::ProbeBuilder;
use super::support::routed::{LEFT, RIGHT, ROUTER_LEFT, Routed, SERVER, TO_LEFT, TO_RIGHT};
use super::support::temp_dir::TempDir;
use super::support::traffic::Traffic;
use super::support::wire::Wire;

/// Destination port of every datagram here.
const PORT: u16 = 4343;
/// Octets of IP and UDP headers, by family.
const HEADERS: [u64; 2] = [28, 48];

/// Starts the daemon on both interfaces of the router.
fn probe<'a>(routed: &'a Routed, configuration: &str) -> ProbeBuilder<'a> {
    ProbeBuilder::configured(&routed.router)
        .argument("--interface", &format!("{LEFT},{RIGHT}"))
        .configuration(configuration)
        .json()
}

/// The flows of the test's datagrams.
fn datagrams(output: &str) -> Vec<Value> {
    flows(output).into_iter().filter(|flow| flow["destination_port"] == PORT).collect()
}

fn packets(flow: &Value) -> u64 {
    flow["packet_delta_count"].as_u64().unwrap()
}

#[test]
fn egress_interface_and_next_hop_are_those_of_the_routing_table() {
    let routed = Routed::new();
    let router = &routed.router;
    let index = |interface| router.link(interface)["ifindex"].clone();
    let (left, right) = (index(LEFT), index(RIGHT));
    let far = ["192.0.2.9", "2001:db8:99::9"];
    let prefixes = ["192.0.2.0/24", "2001:db8:99::/48"];
    let gateways = [SERVER, ["203.0.113.2", "2001:db8:2::2"]];
    for hook in ["xdp", "tc"] {
        for (prefix, gateway) in prefixes.iter().zip(gateways[0]) {
            router.ip(&format!("route replace {prefix} via {gateway}"));
        }
        let probe = probe(&routed, &format!("[capture]\nhook = \"{hook}\"")).start();
        for family in 0..2 {
            Routed::send(&routed.client, (SERVER[family], PORT), 10, 1);
            Routed::send(&routed.client, (far[family], PORT), 10, 2);
            Routed::send(&routed.client, (ROUTER_LEFT[family], PORT), 10, 3);
            // Nobody knows the hardware address of this one, which is the next hop nevertheless.
            router.ip(&format!("route replace {} via {}", prefixes[family], gateways[1][family]));
            Routed::send(&routed.client, (far[family], PORT), 10, 4);
        }
        let flows = datagrams(&probe.terminate().output);
        let flows: Vec<_> = flows.iter().filter(|flow| flow["ingress_interface_name"] == LEFT).collect();
        assert_eq!(flows.len(), 8, "{flows:#?}");
        for family in 0..2 {
            let flow = |destination: &str, count| {
                let found = flows
                    .iter()
                    .find(|flow| flow["destination_address"] == destination && packets(flow) == count);
                found.unwrap_or_else(|| panic!("{destination} {count}: {flows:#?}"))
            };
            let to_server = flow(SERVER[family], 1);
            let (via_first, via_second) = (flow(far[family], 2), flow(far[family], 4));
            assert_eq!(to_server.get("ip_next_hop"), None, "{hook} {to_server}");
            assert_eq!(via_first["ip_next_hop"], gateways[0][family], "{hook} {via_first}");
            assert_eq!(via_second["ip_next_hop"], gateways[1][family], "{hook} {via_second}");
            for flow in [to_server, via_first, via_second] {
                assert_eq!(flow["ingress_interface"], left, "{flow}");
                assert_eq!(flow["egress_interface"], right, "{hook} {flow}");
                assert_eq!(flow["egress_interface_name"], RIGHT, "{flow}");
            }
            let local = flow(ROUTER_LEFT[family], 3);
            assert_eq!(local["egress_interface"], 0, "{local}");
            assert_eq!(
                (local.get("egress_interface_name"), local.get("ip_next_hop")),
                (None, None),
                "{local}"
            );
        }
    }
}

#[test]
fn without_the_routing_table_there_is_no_egress_interface() {
    let routed = Routed::new();
    let probe = probe(&routed, "[capture]\negress_interface = \"none\"").start();
    Routed::send(&routed.client, (SERVER[0], PORT), 10, 5);
    let flows = datagrams(&probe.terminate().output);
    assert_eq!((flows.len(), packets(&flows[0])), (1, 5));
    assert_eq!((&flows[0]["egress_interface"], flows[0].get("ip_next_hop")), (&0.into(), None));
}

#[test]
fn what_goes_out_is_counted_with_where_it_came_in() {
    let routed = Routed::new();
    let probe = probe(&routed, "[capture]\ndirection = \"egress\"").start();
    for family in 0..2 {
        Routed::send(&routed.client, (SERVER[family], PORT), 100, 7);
        // Comes in and stays here.
        Routed::send(&routed.client, (ROUTER_LEFT[family], PORT), 100, 7);
        // Goes out and comes from here.
        Routed::send(&routed.router, (SERVER[family], PORT), 200, 3);
    }
    let ended = probe.terminate();
    ended.report.assert_complete();
    let flows = datagrams(&ended.output);
    assert_eq!(flows.len(), 4, "{flows:#?}");
    for flow in &flows {
        let family = usize::from(flow["source_address"].as_str().unwrap().contains(':'));
        let forwarded = packets(flow) == 7;
        let (count, payload) = if forwarded { (7, 100) } else { (3, 200) };
        assert_eq!(packets(flow), count, "{flow}");
        assert_eq!(flow["octet_delta_count"], count * (payload + HEADERS[family]), "{flow}");
        assert_eq!(
            (&flow["flow_direction"], &flow["egress_interface_name"]),
            (&"egress".into(), &RIGHT.into())
        );
        let came_in_by = flow.get("ingress_interface_name").and_then(Value::as_str);
        assert_eq!(came_in_by, forwarded.then_some(LEFT), "{flow}");
    }
}

#[test]
fn of_packets_going_out_only_those_from_here_may_be_counted() {
    let routed = Routed::new();
    for hook in ["xdp", "tc"] {
        let configuration = format!(
            "[capture]\nhook = \"{hook}\"\ndirection = \"both\"\negress_packets = \"locally-originated\""
        );
        let probe = probe(&routed, &configuration).start();
        for server in SERVER {
            Routed::send(&routed.client, (server, PORT), 100, 11);
            Routed::send(&routed.router, (server, PORT), 100, 5);
        }
        let ended = probe.terminate();
        ended.report.assert_complete();
        let flows = datagrams(&ended.output);
        let (outgoing, incoming): (Vec<_>, Vec<_>) =
            flows.into_iter().partition(|flow| flow["flow_direction"] == "egress");
        // Each packet of the router's counted once.
        assert_eq!((incoming.len(), sum(&incoming, "packet_delta_count")), (2, 2 * 11), "{incoming:#?}");
        assert_eq!((outgoing.len(), sum(&outgoing, "packet_delta_count")), (2, 2 * 5), "{outgoing:#?}");
        assert!(incoming.iter().all(|flow| flow["ingress_interface_name"] == LEFT));
        assert!(outgoing.iter().all(|flow| flow["ingress_interface"] == 0));
    }
}

#[test]
fn the_operators_numbers_stand_in_records_and_options() {
    let network = Network::new();
    let router = &network.router;
    router.sysctl("net.ipv4.ip_forward=1");
    // The generator's frames are for nobody's hardware address, so that they go no further.
    router.ip("route add 198.18.0.0/15 via 192.0.2.2");
    router.ip(&format!("link set dev {CAPTURED} alias to_the_sender"));
    let directory = TempDir::new();
    let map = directory.file("interfaces.map");
    fs::write(&map, format!("! numbers\nifname={EXPORTING} ifindex=202 direction=in\n")).unwrap();
    let configuration = format!(
        "[capture]\ninterfaces_map = \"{}\"\n[[capture.interface]]\nname = \"{CAPTURED}\"\nindex = 101\n\
         [export]\nstdout = \"json\"",
        map.display()
    );
    for format in ["ipfix", "netflow-v9"] {
        let wire = Wire::start(&network);
        let probe =
            ProbeBuilder::new(router).collector(COLLECTOR_IPV4, format).configuration(&configuration).start();
        let traffic = Traffic { packets: 100, flows: 4, ..Traffic::default() };
        traffic.send(&network.sender);
        let ended = probe.terminate();
        for flow in flows(&ended.output) {
            let values = ["ingress_interface", "egress_interface"].map(|key| flow[key].as_u64().unwrap());
            let names = ["ingress_interface_name", "egress_interface_name"].map(|key| flow[key].clone());
            assert_eq!((values, names), ([101, 202], [CAPTURED.into(), EXPORTING.into()]), "{flow}");
        }
        let capture = wire.stop(&network);
        capture.assert_decodable();
        let fields = ["cflow.protocol", "cflow.inputint", "cflow.outputint", "cflow.nexthop"];
        let records = capture.records(&fields);
        assert_eq!(records.len(), 4);
        for record in records {
            assert_eq!(fields.map(|field| record[field].clone()), ["17", "101", "202", "192.0.2.2"]);
        }
        let told = capture.interfaces();
        for (number, name, description) in [("101", CAPTURED, "to_the_sender"), ("202", EXPORTING, EXPORTING)]
        {
            let expected = [number, name, description].map(str::to_owned);
            assert!(told.contains(&expected), "{format}: no {expected:?} in {told:?}");
        }
    }
}

#[test]
fn records_have_the_mac_address_of_the_neighbour() {
    let routed = Routed::new();
    let mac =
        |namespace: &Namespace, name: &str| namespace.link(name)["address"].as_str().unwrap().to_owned();
    let (client, server) = (mac(&routed.client, TO_LEFT), mac(&routed.server, TO_RIGHT));
    for hook in ["xdp", "tc"] {
        let configuration = format!("[capture]\nhook = \"{hook}\"\ndirection = \"both\"");
        let probe = probe(&routed, &configuration).start();
        for address in SERVER {
            Routed::send(&routed.client, (address, PORT), 100, 5);
        }
        let flows = datagrams(&probe.terminate().output);
        assert_eq!(flows.len(), 4, "{flows:#?}");
        for flow in &flows {
            let came_in = flow["flow_direction"] == "ingress";
            let (known, other) = if came_in {
                ("source_mac_address", "destination_mac_address")
            } else {
                ("destination_mac_address", "source_mac_address")
            };
            assert_eq!(flow[known], if came_in { client.as_str() } else { server.as_str() }, "{hook} {flow}");
            assert_eq!(flow.get(other), None, "{hook} {flow}");
        }
    }
}
