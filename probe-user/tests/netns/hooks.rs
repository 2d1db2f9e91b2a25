//! Whichever hook counts a TCP transfer through a router, it counts the packets of the wire.
//!
//! Between client and router the kernel passes on merged packets of up to 64 KiB. On the router's way out
//! they are cut, so that the interface's own counters tell how many there are in truth.

use serde_json::Value;

use super::support::json::flows;
use super::support::probe::ProbeBuilder;
use super::support::routed::{IPERF, LEFT, RIGHT, Routed, SERVER, TO_RIGHT};
use super::support::tool::output;

const OCTETS: u64 = 50_000_000;
const ETHERNET: u64 = 14;

/// Packets and octets of IP.
type Count = (u64, u64);

/// Packets and octets in one direction at an interface: of all flows, or of those with `port` of the server's.
fn counted(flows: &[Value], direction: &str, interface: &str, port: Option<&str>) -> Count {
    let counted = flows.iter().filter(|flow| {
        flow["flow_direction"] == direction
            && flow[format!("{direction}_interface_name")] == interface
            && port.is_none_or(|port| flow[port] == IPERF)
    });
    counted.fold((0, 0), |(packets, octets), flow| {
        let number = |key: &str| flow[key].as_u64().unwrap();
        (packets + number("packet_delta_count"), octets + number("octet_delta_count"))
    })
}

/// Both within 0.1 %, and within a packet where there are few.
fn assert_close(what: &str, counted: Count, truth: Count) {
    let is_close = |a: u64, b: u64, least: u64| a.abs_diff(b) <= (b / 1000).max(least);
    assert!(
        is_close(counted.0, truth.0, 1) && is_close(counted.1, truth.1, 100),
        "{what}: counted {counted:?}, truth {truth:?}"
    );
}

/// What an interface has counted, without `link` octets of each packet.
fn since(before: Count, after: Count, link: u64) -> Count {
    (after.0 - before.0, after.1 - before.1 - link * (after.0 - before.0))
}

fn a_transfer_counts_the_same_everywhere(hook: &str, family: usize) {
    let routed = Routed::new();
    let router = &routed.router;
    for (namespace, interface) in [(router, RIGHT), (&routed.server, TO_RIGHT)] {
        let offloads = ["-K", interface, "tso", "off", "gso", "off", "gro", "off"];
        output(namespace.command("ethtool").args(offloads));
    }
    for direction in ["both", "ingress"] {
        let configuration = format!("[capture]\nhook = \"{hook}\"\ndirection = \"{direction}\"");
        let probe = ProbeBuilder::configured(router)
            .argument("--interface", &format!("{LEFT},{RIGHT}"))
            .configuration(&configuration)
            .json()
            .start();
        let (sent, received, merged) = (router.sent(RIGHT), router.received(RIGHT), router.received(LEFT));
        let said = routed.transfer(SERVER[family], OCTETS);
        let truth = since(sent, router.sent(RIGHT), ETHERNET);
        // A veth with an XDP program counts what comes in without its Ethernet header.
        let link = if hook == "xdp" { 0 } else { ETHERNET };
        let truth_back = since(received, router.received(RIGHT), link);
        let merged = router.received(LEFT).0 - merged.0;
        let ended = probe.terminate();
        ended.report.assert_complete();

        // The truth is what the program says that has sent it, and it was merged where it should be.
        let headers = [52, 72][family];
        let said = |sum: &str, key: &str| said["end"][sum][key].as_u64().unwrap();
        // What is under way at the end is received by nobody.
        let (taken, given) = (said("sum_received", "bytes"), said("sum_sent", "bytes"));
        assert!(given >= OCTETS, "{given}");
        let resent = said("sum_sent", "retransmits") * 1448;
        let transferred = truth.1 - truth.0 * headers;
        assert!(
            (taken..given + given / 1000 + resent).contains(&transferred),
            "{taken} {transferred} {given}"
        );
        assert_eq!(merged < truth.0 / 2, hook == "tc", "{merged} of {truth:?} at {hook}");

        let flows = flows(&ended.output);
        let all = |direction, interface| counted(&flows, direction, interface, None);
        let (there, back) = (Some("destination_port"), Some("source_port"));
        let of_transfer =
            |direction, interface, port: Option<&str>| counted(&flows, direction, interface, port);
        // What comes in at the right is all that the interface has received, and what comes in at the left is
        // what goes out at the right.
        assert_close("in at the right", all("ingress", RIGHT), truth_back);
        assert_close("in at the left", of_transfer("ingress", LEFT, there), truth);
        if direction == "both" {
            assert_close("out at the right", all("egress", RIGHT), truth);
            assert_close(
                "out at the left",
                of_transfer("egress", LEFT, back),
                of_transfer("ingress", RIGHT, back),
            );
            assert_close(
                "in and out",
                of_transfer("egress", RIGHT, there),
                of_transfer("ingress", LEFT, there),
            );
        } else {
            // Each packet once.
            let received = ended.report.received();
            let both_ways = (truth.0 + truth_back.0, truth.1 + truth_back.1);
            assert_close("all", (received.packets, received.octets), both_ways);
            assert!(flows.iter().all(|flow| flow["flow_direction"] == "ingress"));
        }
    }
}

#[test]
fn xdp_counts_a_transfer_over_ipv4() {
    a_transfer_counts_the_same_everywhere("xdp", 0);
}

#[test]
fn xdp_counts_a_transfer_over_ipv6() {
    a_transfer_counts_the_same_everywhere("xdp", 1);
}

#[test]
fn tc_counts_a_transfer_over_ipv4() {
    a_transfer_counts_the_same_everywhere("tc", 0);
}

#[test]
fn tc_counts_a_transfer_over_ipv6() {
    a_transfer_counts_the_same_everywhere("tc", 1);
}
