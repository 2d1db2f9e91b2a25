//! An interface with several RX queues: a flow that several CPUs see is one flow.

use super::support::json::flows;
use super::support::namespace::Namespace;
use super::support::probe::ProbeBuilder;
use super::support::tool::output;
use super::support::traffic::Traffic;

#[test]
fn a_flow_on_two_queues_at_once_is_counted_exactly_and_once() {
    let (sender, router) = (Namespace::new(), Namespace::new());
    let queues = ["numrxqueues", "2", "numtxqueues", "2"];
    let mut command = sender.command("ip");
    command.args(["link", "add", "to-router"]).args(queues).args(["type", "veth", "peer", "name", "wide"]);
    output(command.args(queues).args(["netns", router.name()]));
    sender.ip("link set to-router up");
    router.ip("link set wide up");
    let traffic = Traffic { packets: 500_000, flows: 3, interface: "to-router", ..Traffic::default() };
    for ipv6 in [false, true] {
        let before = router.received("wide").0;
        let probe = ProbeBuilder::configured(&router).argument("--interface", "wide").json().start();
        let generators = [0, 1].map(|cpu| Traffic { cpu: Some(cpu), ipv6, ..traffic }.start(&sender));
        for mut generator in generators {
            assert!(generator.wait().success(), "{}", generator.errors());
        }
        assert_eq!(router.received("wide").0 - before, 2 * traffic.packets);
        let statistics = output(router.command("ethtool").args(["-S", "wide"]));
        for queue in ["rx_queue_0_xdp_packets:", "rx_queue_1_xdp_packets:"] {
            let counted = statistics.lines().find_map(|line| line.trim().strip_prefix(queue)).unwrap();
            assert_ne!(counted.trim(), "0", "{statistics}");
        }
        let ended = probe.terminate();
        ended.report.assert_complete();
        let frames = if ipv6 { Traffic { ipv6, ..traffic } } else { traffic };
        let received = ended.report.received();
        assert_eq!((received.packets, received.octets), (2 * frames.packets, 2 * frames.octets()));
        let flows = flows(&ended.output);
        assert_eq!(flows.len(), 3, "{flows:#?}");
        // Flow k gets packet k, k + 3, ... of each.
        for flow in &flows {
            let packets = flow["packet_delta_count"].as_u64().unwrap();
            assert!([2 * 166_666, 2 * 166_667].contains(&packets), "{flow}");
        }
    }
}
