//! Interfaces that come, go and change while packets are counted: nothing is lost but what the kernel loses.

use super::support::json::flows;
use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network, SENDER, join};
use super::support::probe::{Probe, ProbeBuilder};
use super::support::traffic::Traffic;
use super::support::wait_for;
use super::support::wire::Wire;

/// Goes on until the test has ended.
const ENDLESS: Traffic = Traffic {
    packets: 1_000_000_000,
    flows: 50,
    random: true,
    ipv6: false,
    vlan_id: None,
    frame_octets: 100,
    rate: Some(10_000),
    interface: "s0",
    cpu: None,
};
/// Sent at once.
const BURST: Traffic =
    Traffic { packets: 1000, flows: 10, random: false, rate: None, interface: "s1", ..ENDLESS };

/// Packets of an interface, by its name in the metrics.
fn received(probe: &Probe<'_>, interface: &str) -> u64 {
    let labels = [("interface", interface), ("direction", "ingress")];
    probe.metrics().sum("pathflow_received_packets_total", &labels)
}

fn wait_until_received(probe: &Probe<'_>, interface: &str, packets: u64) {
    wait_for(
        "packets in the metrics",
        || format!("{} of {packets} on {interface}", received(probe, interface)),
        || (received(probe, interface) == packets).then_some(()),
    );
}

fn index(network: &Network, interface: &str) -> String {
    network.router.link(interface)["ifindex"].to_string()
}

#[test]
fn interfaces_that_come_and_go_in_mid_traffic_are_followed() {
    let network = Network::new();
    let router = &network.router;
    network.add_captured_link("s0", "p0");
    let mut probe = ProbeBuilder::configured(router).argument("--interface", "p*").json().start();
    let generator = ENDLESS.start(&network.sender);

    // One is added.
    network.add_captured_link("s1", "p1");
    let first = index(&network, "p1");
    probe.process().wait_for_message(&format!("capturing on p1 (index {first}), XDP native mode"));
    BURST.send(&network.sender);
    wait_until_received(&probe, "p1", BURST.packets);

    // It gets a name that is not asked for, and one that is.
    for (old, new) in [("p1", "q1"), ("q1", "p2")] {
        for words in [format!("{old} down"), format!("{old} name {new}"), format!("{new} up")] {
            router.ip(&format!("link set dev {words}"));
        }
        if new == "q1" {
            let message = format!("no longer capturing on p1 (index {first}): it is not asked for any more");
            probe.process().wait_for_message(&message);
            assert_eq!(router.xdp_program("q1"), None);
        }
    }
    probe.process().wait_for_message(&format!("capturing on p2 (index {first}), XDP native mode"));
    BURST.send(&network.sender);
    wait_until_received(&probe, "p2", BURST.packets);

    // Down and up again: it stays attached.
    router.ip("link set dev p2 down");
    probe.process().wait_for_message("p2 is down now");
    router.ip("link set dev p2 up");
    BURST.send(&network.sender);
    wait_until_received(&probe, "p2", 2 * BURST.packets);

    // Deleted, and made again with another index.
    router.ip("link delete dev p2");
    probe.process().wait_for_message(&format!("no longer capturing on p2 (index {first}): it is gone"));
    network.add_captured_link("s1", "p2");
    let second = index(&network, "p2");
    assert_ne!(first, second);
    probe.process().wait_for_message(&format!("capturing on p2 (index {second}), XDP native mode"));
    BURST.send(&network.sender);
    wait_until_received(&probe, "p2", 3 * BURST.packets);
    // What was counted before is still there.
    assert_eq!(received(&probe, "p1"), BURST.packets);

    drop(generator);
    let steady = router.received("p0").0;
    assert!(steady > 0);
    wait_until_received(&probe, "p0", steady);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, steady + 4 * BURST.packets);
    // Records name the interface that the packets came in by.
    let packets = |interface: &str, name: &str| -> u64 {
        let flows = flows(&ended.output);
        let interface: u64 = interface.parse().unwrap();
        let flows = flows.iter().filter(|flow| flow["ingress_interface"] == interface);
        flows
            .map(|flow| {
                assert_eq!(flow["ingress_interface_name"], name, "{flow}");
                flow["packet_delta_count"].as_u64().unwrap()
            })
            .sum()
    };
    assert_eq!(packets(&second, "p2"), BURST.packets);
    assert_eq!(packets(&first, "p2"), 3 * BURST.packets);
    assert_eq!(packets(&index(&network, "p0"), "p0"), steady);
}

#[test]
fn an_interface_that_is_renamed_within_a_pattern_is_captured_all_the_time() {
    let network = Network::new();
    let router = &network.router;
    network.add_captured_link("s0", "p0");
    let mut probe = ProbeBuilder::configured(router).argument("--interface", "p*").json().start();
    let program = router.link("p0")["xdp"].clone();
    let burst = Traffic { interface: "s0", ..BURST };
    burst.send(&network.sender);
    for words in ["p0 down", "p0 name p9", "p9 up"] {
        router.ip(&format!("link set dev {words}"));
    }
    probe.process().wait_for_message("is called p9 now");
    assert_eq!(router.link("p9")["xdp"], program);
    burst.send(&network.sender);
    wait_until_received(&probe, "p9", 2 * burst.packets);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, 2 * burst.packets);
}

#[test]
fn a_second_interface_with_a_name_is_captured_from_when_it_is_there() {
    let network = Network::new();
    let mut probe = ProbeBuilder::configured(&network.router)
        .configuration("[capture]\ninterfaces = [\"p0\", \"veth-in\"]\nwait_for_interfaces = true")
        .json()
        .start();
    network.add_captured_link("s0", "p0");
    probe.process().wait_for_message("capturing on p0");
    Traffic { interface: "s0", ..BURST }.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, BURST.packets);
}

#[test]
fn another_description_is_told_to_the_collector() {
    let network = Network::new();
    let wire = Wire::start(&network);
    let mut probe = ProbeBuilder::new(&network.router).collector(COLLECTOR_IPV4, "ipfix").start();
    network.router.ip(&format!("link set dev {CAPTURED} alias transit_a"));
    probe.process().wait_for_message(&format!("{CAPTURED} is described as \"transit_a\" now"));
    Traffic { interface: SENDER, ..BURST }.send(&network.sender);
    let number = index(&network, CAPTURED);
    probe.terminate();
    let told = wire.stop(&network).interfaces();
    let descriptions = told.iter().filter(|[told, name, _]| *told == number && name == CAPTURED);
    let descriptions: Vec<&str> = descriptions.map(|[_, _, description]| description.as_str()).collect();
    // Told once before, if the daemon had the time.
    assert_eq!(descriptions.last(), Some(&"transit_a"), "{told:?}");
    assert!(descriptions.iter().all(|description| ["transit_a", CAPTURED].contains(description)), "{told:?}");
}

#[test]
fn other_settings_in_mid_traffic_lose_nothing() {
    let network = Network::new();
    let router = &network.router;
    for number in 0..3 {
        join((&network.sender, &format!("s{number}")), (router, &format!("p{number}")));
    }
    let first = "[capture]\ninterfaces = [\"p0\", \"p1\"]";
    let mut probe = ProbeBuilder::configured(router).json().configuration(first).start();
    let burst = |interface| Traffic { interface, ..BURST };
    let generator = ENDLESS.start(&network.sender);
    burst("s1").send(&network.sender);
    wait_for("packets", String::new, || (received(&probe, "p0") > 2000).then_some(()));

    probe.reload(
        "[capture]\ninterfaces = [\"p0\", \"p2\"]\nsampling_interval = 10\nsampling = \"deterministic\"",
    );
    probe.process().wait_for_message("capturing on p2");
    assert_eq!(router.xdp_program("p1"), None);
    assert!(probe.process().errors().contains("p0: XDP native mode counts one packet in 10 now"));
    burst("s2").send(&network.sender);
    let before = received(&probe, "p0");
    wait_for("packets", String::new, || (received(&probe, "p0") > before + 2000).then_some(()));

    // What cannot be understood changes nothing.
    probe.reload("[capture]\ninterfaces = [\"p7\"\n");
    probe.process().wait_for_message("the settings stay as they are");
    probe.reload("[capture]\nsampling_interfal = 3");
    probe.process().wait_for_message("sampling_interfal");
    assert!(router.xdp_program("p0").is_some());

    // And back again.
    probe.reload(first);
    probe.process().wait_for_message("p0: XDP native mode counts one packet in 1 now");
    let before = received(&probe, "p0");
    wait_for("packets", String::new, || (received(&probe, "p0") > before + 2000).then_some(()));
    drop(generator);
    let steady = router.received("p0").0;
    wait_until_received(&probe, "p0", steady);
    let metrics = probe.metrics();
    let ended = probe.terminate();
    ended.report.assert_balanced();

    // Seen is what the interfaces have received; of it, recorded is what was selected.
    assert_eq!(ended.report.received().packets, steady + 2 * BURST.packets);
    let not_selected = |interface| {
        let labels = [("interface", interface), ("reason", "not_selected")];
        metrics.sum("pathflow_dropped_packets_total", &labels)
    };
    assert_eq!(ended.report.dropped().packets, not_selected("p0") + not_selected("p2"));
    let recorded = |interface: &str, interval: u64| -> u64 {
        let flows = flows(&ended.output);
        let flows = flows.iter().filter(|flow| {
            flow["ingress_interface_name"] == interface && flow["sampling_interval"] == interval
        });
        flows.map(|flow| flow["packet_delta_count"].as_u64().unwrap()).sum()
    };
    assert_eq!((recorded("p1", 1), recorded("p1", 10)), (BURST.packets, 0));
    assert_eq!((recorded("p2", 1), recorded("p2", 10)), (0, BURST.packets / 10));
    let sampled = recorded("p0", 10);
    assert_eq!(recorded("p0", 1) + sampled + not_selected("p0"), steady);
    // Deterministic: on each CPU, one of ten, but for the first and the last ten.
    let seen = sampled + not_selected("p0");
    assert!((sampled * 10).abs_diff(seen) <= 20 && sampled > 200, "{sampled} of {seen}");
}
