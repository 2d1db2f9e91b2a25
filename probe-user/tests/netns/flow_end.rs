//! When flows end, and what their records say about it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::support::json::{flows, sum};
use super::support::network::{CAPTURED, Network, ROUTER_ADDRESS, SENDER, SENDER_ADDRESS};
use super::support::probe::{Probe, ProbeBuilder};
use super::support::tool::output;
use super::support::traffic::Traffic;
use super::support::wait_for;

/// Waits until `count` flows are printed.
fn printed(probe: &Probe<'_>, count: usize) -> Vec<Value> {
    wait_for(
        "flows",
        || probe.output(),
        || {
            // A line may be half written.
            let text = probe.output();
            let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
            Some(flows(whole)).filter(|flows| flows.len() >= count)
        },
    )
}

#[test]
fn a_closed_tcp_connection_is_reported_as_end_of_flow_long_before_the_idle_timeout() {
    let network = Network::new();
    let Network { sender, router, .. } = &network;
    // The sender's stack would hand over segments of 64 KiB, which the link would count as one packet.
    output(sender.command("ethtool").args(["-K", SENDER, "tso", "off", "gso", "off"]));
    // Longer than anybody waits here.
    let probe = ProbeBuilder::new(router).json().argument("--idle-timeout", "10m").start();
    let before = router.received(CAPTURED);

    let listener = router.run(|| TcpListener::bind((ROUTER_ADDRESS, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let reader = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        (octets.len(), peer)
    });
    let mut stream = sender.run(|| TcpStream::connect(address).unwrap());
    stream.write_all(&vec![b'x'; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (received, peer): (usize, SocketAddr) = reader.join().unwrap();
    drop(stream);
    assert_eq!(received, 100_000);

    let flows = printed(&probe, 1);
    let (packets, octets) = router.received(CAPTURED);
    // Without Ethernet headers: a veth takes them off frames from a socket before it counts octets.
    let (packets, octets) = (packets - before.0, octets - before.1);
    assert!(packets > 60, "{packets} packets for 100,000 octets");
    let flow = &flows[0];
    for (key, value) in [
        ("flow_end_reason", Value::from("end of flow")),
        ("source_address", SENDER_ADDRESS.to_string().into()),
        ("destination_address", ROUTER_ADDRESS.to_string().into()),
        ("source_port", peer.port().into()),
        ("destination_port", address.port().into()),
        ("protocol_identifier", 6.into()),
        // SYN, PSH, ACK and FIN.
        ("tcp_control_bits", 0x1b.into()),
        ("packet_delta_count", packets.into()),
        ("octet_delta_count", octets.into()),
    ] {
        assert_eq!(flow[key], value, "{key} of {flow:#}");
    }
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.made().records, 1);
}

#[test]
fn the_active_timeout_splits_a_long_flow_into_parts_that_add_up() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).json().argument("--active-timeout", "1s").start();
    let traffic = Traffic { packets: 8_000, flows: 1, rate: Some(2_000), ..Traffic::default() };
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_complete();

    let parts = flows(&ended.output);
    assert!(parts.len() >= 3, "{} parts in 4 seconds", parts.len());
    assert_eq!(sum(&parts, "packet_delta_count"), traffic.packets);
    assert_eq!(sum(&parts, "octet_delta_count"), traffic.octets());
    for part in &parts[..parts.len() - 1] {
        assert_eq!(part["flow_end_reason"], "active timeout", "{part:#}");
    }
    let time = |flow: &Value, key: &str| flow[key].as_str().unwrap().to_owned();
    for pair in parts.windows(2) {
        // Times of one form sort as text.
        assert!(time(&pair[0], "flow_end") <= time(&pair[1], "flow_start"), "{pair:#?}");
        assert!(time(&pair[0], "flow_start") < time(&pair[0], "flow_end"), "{pair:#?}");
    }
    // As many parts as there were seconds, however many those were. What is drained late begins the next part earlier,
    // so that single parts may be shorter.
    let [start, last] = [&parts[0], &parts[parts.len() - 1]].map(|part| milliseconds(part, "flow_start"));
    let others = parts.len() as i64 - 1;
    assert!((500..=2000).contains(&((last - start) / others)), "{others} parts in {} ms", last - start);
}

/// Milliseconds of a time in a record since 1970.
fn milliseconds(flow: &Value, key: &str) -> i64 {
    flow[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[test]
fn the_idle_timeout_ends_silent_flows() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).json().argument("--idle-timeout", "1s").start();
    let traffic = Traffic { packets: 300, flows: 3, ..Traffic::default() };
    for round in 1..=2 {
        traffic.send(&network.sender);
        let flows = printed(&probe, 3 * round);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        for flow in &flows {
            assert_eq!(flow["flow_end_reason"], "idle timeout", "{flow:#}");
            assert_eq!(flow["packet_delta_count"], 100, "{flow:#}");
        }
        // Not before the timeout is over, but for a tick of the kernel's coarse clock.
        let silence = now - flows.iter().map(|flow| milliseconds(flow, "flow_end")).max().unwrap();
        assert!(silence >= 990, "{silence} ms: {flows:#?}");
    }
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.made().records, 6);
}
