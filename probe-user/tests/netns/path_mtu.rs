//! Export messages fit the path to the collector.

use super::support::network::{COLLECTOR_IPV4, EXPORTING, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::tool::output;
use super::support::traffic::Traffic;
use super::support::wire::{Capture, Wire};

/// Octets of the Ethernet header, which an MTU does not count.
const ETHERNET: usize = 14;

/// Many records, so that messages are full.
const TRAFFIC: Traffic = Traffic {
    packets: 1500,
    flows: 1500,
    random: false,
    ipv6: false,
    vlan_id: None,
    frame_octets: 64,
    rate: None,
    interface: super::support::network::SENDER,
    cpu: None,
};

fn set_mtu(network: &Network, mtu: &str) {
    let collector = COLLECTOR_IPV4.ip().to_string();
    let route = ["route", "replace", &collector, "dev", EXPORTING, "mtu", mtu];
    output(network.router.command("ip").args(route));
}

/// Length of each IP packet; none is a fragment.
fn packet_lengths(capture: &Capture) -> Vec<usize> {
    let frames = capture.datagrams(&["frame.len", "ip.flags.mf", "ip.frag_offset", "ip.flags.df"]);
    frames
        .iter()
        .map(|frame| {
            assert_eq!(frame[1..], [["0"], ["0"], ["1"]], "fragments or fragmentable: {frame:?}");
            frame[0][0].parse::<usize>().unwrap() - ETHERNET
        })
        .collect()
}

#[test]
fn no_message_is_larger_than_the_path_mtu() {
    let network = Network::new();
    set_mtu(&network, "1280");
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    for format in ["ipfix", "netflow-v9"] {
        let wire = Wire::start(&network);
        let probe = ProbeBuilder::new(&network.router).collector(COLLECTOR_IPV4, format).start();
        TRAFFIC.send(&network.sender);
        probe.terminate().report.assert_complete();
        let capture = wire.stop(&network);
        let longest = packet_lengths(&capture).into_iter().max().unwrap();
        // Full, but for less than the room of one more record.
        assert!((1280 - 100..=1280).contains(&longest), "{longest}");
        capture.assert_decodable();
    }
    let collected = nfcapd.stop(&network);
    assert_eq!(collected.packets(), 2 * TRAFFIC.packets);
    collected.assert_in_sequence();
}

#[test]
fn a_path_mtu_that_shrinks_while_exporting_loses_nothing() {
    let network = Network::new();
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router)
        .collector(COLLECTOR_IPV4, "ipfix")
        .argument("--idle-timeout", "300ms")
        .start();
    for mtu in [1500, 1280, 800] {
        set_mtu(&network, &mtu.to_string());
        let wire = Wire::start(&network);
        let before = probe.metrics().total("pathflow_exported_records_total");
        TRAFFIC.send(&network.sender);
        probe.wait_until("all records exported", |metrics| {
            metrics.total("pathflow_exported_records_total") >= before + u64::from(TRAFFIC.flows)
        });
        let longest = packet_lengths(&wire.stop(&network)).into_iter().max().unwrap();
        assert!((mtu - 100..=mtu).contains(&longest), "{longest} with MTU {mtu}");
    }
    let ended = probe.terminate();
    ended.report.assert_complete();
    let collected = nfcapd.stop(&network);
    assert_eq!(collected.packets(), 3 * TRAFFIC.packets);
    assert_eq!(collected.flows.len() as u64, ended.report.made().records);
    collected.assert_in_sequence();
}
