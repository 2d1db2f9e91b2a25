//! Fragments are in the flow of their datagram, in whatever order and on whatever CPU they arrive.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::support::frames::{Frame, Upper, write_octets};
use super::support::json::flows;
use super::support::network::Network;
use super::support::probe::{Probe, ProbeBuilder};
use super::support::routed::{LEFT, RIGHT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::traffic::{replay, replay_on};
use super::support::wait_for;

const PORT: u16 = 4343;
const ETHERNET: usize = 14;

/// The frames of a datagram of 8 + 1200 octets that came in three fragments of at most 600 octets of payload.
fn fragments(source: &str, destination: &str, identification: u16) -> [Vec<u8>; 3] {
    let whole = Frame::new(source, destination, Upper::Udp(5000, PORT)).payload(1200).octets();
    let is_ipv4 = source.contains('.');
    let header = ETHERNET + if is_ipv4 { 20 } else { 40 };
    let payload = &whole[header..];
    [0_usize, 480, 960].map(|start| {
        let part = &payload[start..payload.len().min(start + 480)];
        let more = start + part.len() < payload.len();
        let mut frame = whole[..header].to_vec();
        let place = start as u16 / 8;
        if is_ipv4 {
            frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&identification.to_be_bytes());
            let flags = if more { 0x2000 } else { 0 };
            frame[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&(flags | place).to_be_bytes());
        } else {
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
            frame[ETHERNET + 6] = 44;
            frame.extend([17, 0]);
            frame.extend((place << 3 | u16::from(more)).to_be_bytes());
            frame.extend(u32::from(identification).to_be_bytes());
        }
        frame.extend(part);
        frame
    })
}

/// Octets of IP of three fragments.
fn octets(source: &str) -> u64 {
    1208 + 3 * if source.contains('.') { 20 } else { 48 }
}

const ENDS: [[&str; 2]; 2] = [["203.0.113.5", "198.18.0.9"], ["2001:db8:7::5", "2001:db8:7::9"]];

/// The one flow between two addresses, with what was counted.
fn flow<'a>(flows: &'a [Value], source: &str, ports: [u16; 2], packets: u64, octets: u64) -> &'a Value {
    let found: Vec<_> = flows
        .iter()
        .filter(|flow| flow["source_address"] == source && flow["destination_port"] == ports[1])
        .collect();
    assert_eq!(found.len(), 1, "{source}: {flows:#?}");
    assert_eq!(found[0]["source_port"], ports[0], "{}", found[0]);
    assert_eq!(found[0]["packet_delta_count"], packets, "{}", found[0]);
    assert_eq!(found[0]["octet_delta_count"], octets, "{}", found[0]);
    found[0]
}

#[test]
fn datagrams_that_the_kernel_fragments_are_in_their_flow_at_every_hook() {
    const COUNT: u64 = 200;
    const PAYLOAD: usize = 4000;
    let routed = Routed::new();
    for hook in ["xdp", "tc"] {
        let probe = ProbeBuilder::configured(&routed.router)
            .argument("--interface", &format!("{LEFT},{RIGHT}"))
            .argument("--hook", hook)
            .argument("--direction", "both")
            .json()
            .start();
        let before = (routed.router.received(LEFT).0, routed.router.sent(RIGHT).0);
        for address in SERVER {
            Routed::send(&routed.client, (address, PORT), PAYLOAD, COUNT);
        }
        // Three fragments of each, as the interfaces say.
        let passed = (routed.router.received(LEFT).0 - before.0, routed.router.sent(RIGHT).0 - before.1);
        assert!(passed.0 >= 2 * 3 * COUNT && passed.1 >= 2 * 3 * COUNT, "{passed:?}");
        let metrics = probe.wait_until("fragments in the metrics", |metrics| {
            let labels = [("interface", LEFT), ("direction", "ingress")];
            metrics.sum("pathflow_recorded_packets_total", &labels)
                + metrics.sum("pathflow_flow_cache_packets", &labels)
                >= 2 * 3 * COUNT
        });
        assert_eq!(metrics.total("pathflow_later_fragments_total"), 2 * 2 * 2 * COUNT);
        assert_eq!(metrics.total("pathflow_fragments_without_ports_total"), 0);
        let ended = probe.terminate();
        ended.report.assert_complete();
        for direction in ["ingress", "egress"] {
            let flows: Vec<_> = flows(&ended.output)
                .into_iter()
                .filter(|flow| flow["flow_direction"] == direction && flow["protocol_identifier"] == 17)
                .collect();
            assert_eq!(flows.len(), 2, "{flows:#?}");
            for flow in &flows {
                let headers = if flow["source_address"].as_str().unwrap().contains(':') { 48 } else { 20 };
                assert_eq!(flow["destination_port"], PORT, "{flow}");
                assert_eq!(flow["packet_delta_count"], 3 * COUNT, "{flow}");
                assert_eq!(flow["octet_delta_count"], COUNT * (8 + PAYLOAD as u64 + 3 * headers), "{flow}");
            }
        }
    }
}

const DATAGRAMS: u16 = 20;

/// The later fragments, last ones first, and the first ones.
fn out_of_order() -> [Vec<Vec<u8>>; 2] {
    let (mut later, mut first) = (Vec::new(), Vec::new());
    for identification in 0..DATAGRAMS {
        for [source, destination] in ENDS {
            let [a, b, c] = fragments(source, destination, identification);
            later.extend([c, b]);
            first.push(a);
        }
    }
    [later, first]
}

/// Ends a daemon that should have all fragments in the flows of their datagrams.
fn assert_in_their_flows(probe: Probe<'_>, what: &str) {
    let packets = 2 * 3 * u64::from(DATAGRAMS);
    let metrics = probe.wait_until("fragments in flows", |metrics| {
        metrics.total("pathflow_recorded_packets_total") + metrics.total("pathflow_flow_cache_packets")
            >= packets
    });
    assert_eq!(metrics.total("pathflow_fragments_without_ports_total"), 0, "{what}");
    let ended = probe.terminate();
    ended.report.assert_complete();
    let flows = flows(&ended.output);
    assert_eq!(flows.len(), 2, "{what} {flows:#?}");
    for [source, _] in ENDS {
        let count = u64::from(DATAGRAMS);
        flow(&flows, source, [5000, PORT], 3 * count, count * octets(source));
    }
}

#[test]
fn a_first_fragment_that_comes_last_gives_its_ports_to_all() {
    let network = Network::new();
    let directory = TempDir::new();
    let file = directory.file("frames");
    let frames = out_of_order().concat();
    write_octets(&file, &frames);
    for hook in ["xdp", "tc"] {
        let probe = ProbeBuilder::new(&network.router).argument("--hook", hook).json().start();
        replay(&network.sender, &file, frames.len());
        assert_in_their_flows(probe, hook);
    }
}

#[test]
fn a_first_fragment_on_another_cpu_gives_its_ports_to_all() {
    let network = Network::new();
    let directory = TempDir::new();
    let files = ["later", "first"].map(|name| directory.file(name));
    let parts = out_of_order();
    for (file, frames) in files.iter().zip(&parts) {
        write_octets(file, frames);
    }
    for hook in ["xdp", "tc"] {
        for order in [[1, 0], [0, 1]] {
            let probe = || ProbeBuilder::new(&network.router).argument("--hook", hook).json().start();
            let send = || {
                for (part, cpu) in order.into_iter().zip(0..) {
                    replay_on(cpu, &network.sender, &files[part], parts[part].len());
                }
            };
            // Later fragments wait for a second. On a machine that takes longer nothing can be said.
            let mut attempts = 0;
            let probe = wait_for("two programs within a second", String::new, || {
                attempts += 1;
                let (probe, start) = (probe(), Instant::now());
                send();
                let in_time = start.elapsed() < Duration::from_millis(900);
                in_time.then_some(probe)
            });
            assert_in_their_flows(probe, &format!("{hook} {order:?}, attempt {attempts}"));
        }
    }
}

#[test]
fn fragments_without_their_first_one_are_counted_as_such() {
    let network = Network::new();
    let directory = TempDir::new();
    let file = directory.file("later");
    let mut frames = Vec::new();
    for [source, destination] in ENDS {
        let [_, b, c] = fragments(source, destination, 77);
        frames.extend([b, c]);
    }
    write_octets(&file, &frames);
    for hook in ["xdp", "tc"] {
        let probe = ProbeBuilder::new(&network.router).argument("--hook", hook).json().start();
        replay(&network.sender, &file, frames.len());
        let metrics = probe.wait_until("fragments without ports", |metrics| {
            metrics.total("pathflow_fragments_without_ports_total") >= 4
        });
        assert_eq!(metrics.total("pathflow_fragments_without_ports_total"), 4);
        assert_eq!(metrics.total("pathflow_later_fragments_total"), 4);
        let ended = probe.terminate();
        ended.report.assert_complete();
        let flows = flows(&ended.output);
        assert_eq!(flows.len(), 2, "{flows:#?}");
        for [source, _] in ENDS {
            let header = if source.contains('.') { 20 } else { 48 };
            let flow = flow(&flows, source, [0, 0], 2, 1208 - 480 + 2 * header);
            assert_eq!(flow["protocol_identifier"], 17, "{flow}");
        }
    }
}
