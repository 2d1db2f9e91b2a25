//! The end of the daemon: by SIGTERM nothing is lost, by SIGKILL nothing is left behind.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::traffic::Traffic;
use super::support::wait_for;

/// Enough to go on until the test has ended.
const ENDLESS: Traffic = Traffic {
    packets: 1_000_000_000,
    flows: 800,
    random: true,
    ipv6: false,
    vlan_id: None,
    frame_octets: 64,
    rate: None,
    interface: super::support::network::SENDER,
    cpu: None,
};

#[test]
fn sigterm_in_mid_traffic_exports_everything_that_was_received() {
    let network = Network::new();
    for format in ["ipfix", "netflow-v9", "netflow-v5"] {
        let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
        let probe = ProbeBuilder::new(&network.router)
            .collector(COLLECTOR_IPV4, format)
            .argument("--active-timeout", "500ms")
            .start();
        let before = network.router.received(CAPTURED).0;
        let mut generator = ENDLESS.start(&network.sender);
        probe.wait_until("records in the metrics", |metrics| {
            metrics.total("pathflow_exported_records_total") > 0
        });
        assert!(generator.child().try_wait().unwrap().is_none(), "{}", generator.errors());
        let ended = probe.terminate();
        assert!(generator.child().try_wait().unwrap().is_none(), "{}", generator.errors());
        drop(generator);

        assert_eq!(network.router.xdp_program(CAPTURED), None);
        ended.report.assert_complete();
        let received = ended.report.received();
        let collected = nfcapd.stop(&network);
        // The interface tells how many there were. It may poll once more between the program's end and its
        // own, which is not a loss of the daemon's.
        let arrived = network.router.received(CAPTURED).0 - before;
        assert!(received.packets > 0);
        assert!((0..1000).contains(&(arrived - received.packets)), "{arrived} arrived, {received:?}");
        assert_eq!((collected.packets(), collected.octets()), (received.packets, received.octets));
        assert_eq!(collected.flows.len() as u64, ended.report.made().records);
        collected.assert_in_sequence();
    }
}

#[test]
fn kill_leaves_no_program_attached_and_the_next_start_succeeds() {
    let network = Network::new();
    let router = &network.router;
    for _ in 0..3 {
        let mut probe = ProbeBuilder::new(router).json().start();
        let name = router.xdp_program(CAPTURED);
        assert!(name.as_ref().is_some_and(|name| name.starts_with("pathflow")), "{name:?}");
        let generator = ENDLESS.start(&network.sender);
        probe.wait_until("packets in the metrics", |metrics| {
            metrics.total("pathflow_received_packets_total") > 0
        });
        probe.process().signal(Signal::KILL);
        let status = probe.process().wait();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
        drop(generator);
        // The kernel lets go of the link as it cleans up after the process.
        wait_for("no program attached", String::new, || router.xdp_program(CAPTURED).is_none().then_some(()));
    }

    let probe = ProbeBuilder::new(router).json().start();
    let traffic = Traffic::default();
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, traffic.packets);
}
