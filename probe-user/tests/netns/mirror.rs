//! Mirror mode: exact counts through `AF_XDP`, and its safety rules, each by what a host notices.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::support::json::{flows, sum};
use super::support::metrics::Metrics;
use super::support::namespace::Namespace;
use super::support::probe::{Ended, Probe, ProbeBuilder, daemon, refusal};
use super::support::report::{Figure, Report};
use super::support::temp_dir::TempDir;
use super::support::tool::{output, tool};
use super::support::traffic::Traffic;
use super::support::wait_for;

mod classes;
mod filters;
mod starvation;

/// Interface that mirrored traffic is sent out of.
const SPAN: &str = "span";
/// The mirror port.
const PORT: &str = "port";
/// RX queues of the mirror port.
const QUEUES: u32 = 2;
const SENDER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Where the host listens.
const LISTENING: u16 = 7007;
/// Source address of the generator's frames.
const GENERATOR_MAC: &str = "02:00:00:00:00:01";

/// Traffic that a busy machine keeps up with, on one queue of the port.
const STEADY: Traffic = Traffic {
    packets: 20_000,
    flows: 100,
    random: false,
    ipv6: false,
    vlan_id: None,
    frame_octets: 64,
    rate: Some(10_000),
    interface: SPAN,
    cpu: Some(0),
};

/// A switch that mirrors, and the host with the mirror port.
struct Mirrored {
    switch: Namespace,
    host: Namespace,
}

/// A configuration with one mirror port, and `settings` of it.
fn mirror_port(settings: &str) -> String {
    format!(
        "[capture]\ninterfaces = [\"{PORT}\"]\n[[capture.interface]]\nname = \"{PORT}\"\nmode = \"mirror\"\n{settings}"
    )
}

impl Mirrored {
    /// A port without addresses.
    fn new() -> Self {
        let this = Self { switch: Namespace::new(), host: Namespace::new() };
        this.add_port();
        this
    }

    fn add_port(&self) {
        let queues = QUEUES.to_string();
        let queues = ["numrxqueues", &queues, "numtxqueues", &queues];
        let mut command = self.switch.command("ip");
        command.args(["link", "add", SPAN]).args(queues).args(["type", "veth", "peer", "name", PORT]);
        output(command.args(queues).args(["netns", self.host.name()]));
        for (namespace, interface) in [(&self.switch, SPAN), (&self.host, PORT)] {
            output(namespace.command("ip").args(["link", "set", interface, "up"]));
        }
        self.wait_until_up();
    }

    /// A veth sends nothing before the kernel has told of its carrier.
    fn wait_until_up(&self) {
        for (namespace, interface) in [(&self.switch, SPAN), (&self.host, PORT)] {
            let is_up = || (namespace.link(interface)["operstate"] == "UP").then_some(());
            wait_for("an interface is up", || interface.to_owned(), is_up);
        }
    }

    /// A port that the host uses itself: it has an address, and knows that of the other side.
    fn with_addresses() -> Self {
        let this = Self::new();
        for (namespace, interface, own, other, peer) in [
            (&this.switch, SPAN, SENDER, HOST, this.host.link(PORT)),
            (&this.host, PORT, HOST, SENDER, this.switch.link(SPAN)),
        ] {
            output(namespace.command("ip").args(["address", "add", &format!("{own}/24"), "dev", interface]));
            let mac = peer["address"].as_str().unwrap();
            let arguments = ["lladdr", mac, "dev", interface, "nud", "permanent"];
            output(namespace.command("ip").args(["neighbour", "add", &other.to_string()]).args(arguments));
        }
        this
    }

    fn probe(&self, configuration: &str) -> Probe<'_> {
        let text = mirror_port(configuration);
        ProbeBuilder::configured(&self.host).json().configuration(&text).start()
    }

    /// The daemon's words when it refuses the port.
    fn refusal(&self) -> String {
        let directory = TempDir::new();
        let file = directory.file("pathflow.toml");
        fs::write(&file, mirror_port("")).unwrap();
        let mut command = self.host.enter(daemon().to_str().unwrap());
        let message = refusal(command.args(["run", "--json", "--config"]).arg(&file));
        assert_eq!(self.host.xdp_program(PORT), None, "{message}");
        message
    }

    fn ip(&self, arguments: &str) {
        output(self.host.command("ip").args(arguments.split(' ')));
    }

    /// Packets that each RX queue of the port has received, as `ethtool -S` says.
    fn queue_packets(&self) -> Vec<u64> {
        let text = output(self.host.command("ethtool").args(["-S", PORT]));
        let count = |queue| {
            let name = format!("rx_queue_{queue}_xdp_packets:");
            let line = text.lines().find_map(|line| line.trim().strip_prefix(&name)).unwrap();
            line.trim().parse().unwrap()
        };
        (0..QUEUES).map(count).collect()
    }

    fn talk(&self) -> Talk {
        let receiver = self.host.run(|| UdpSocket::bind((HOST, LISTENING)).unwrap());
        receiver.set_nonblocking(true).unwrap();
        let sender = self.switch.run(|| UdpSocket::bind((SENDER, 0)).unwrap());
        Talk { sender, receiver, sent: 0, received: 0 }
    }
}

/// Datagrams from the switch to the host itself.
struct Talk {
    sender: UdpSocket,
    receiver: UdpSocket,
    sent: u64,
    received: u64,
}

impl Talk {
    fn send(&mut self, octets: usize) {
        let to = SocketAddr::new(IpAddr::V4(HOST), LISTENING);
        assert_eq!(self.sender.send_to(&vec![0; octets], to).unwrap(), octets);
        self.sent += 1;
    }

    /// Datagrams that have reached the host so far.
    fn received(&mut self) -> u64 {
        let mut datagram = [0; 16];
        while self.receiver.recv(&mut datagram).is_ok() {
            self.received += 1;
        }
        self.received
    }

    /// Sends until something has reached the host, and says how much was sent.
    fn until_received(&mut self) {
        let before = self.received();
        wait_for("a datagram reaches the host", String::new, || {
            self.send(8);
            (self.received() > before).then_some(())
        });
    }
}

/// Packets that were dropped for `reason`.
fn dropped(report: &Report, reason: &str) -> u64 {
    report.figure(&format!("not in a flow: {reason}")).packets
}

fn received(metrics: &Metrics) -> u64 {
    metrics.total("pathflow_received_packets_total")
}

/// Ends the daemon; all that was sent is in its report, and adds up to the packet.
fn end(probe: Probe<'_>, sent: u64) -> Ended {
    let ended = probe.terminate();
    ended.report.assert_balanced();
    assert_eq!(ended.report.received().packets, sent, "{}", ended.report.text());
    ended
}

#[test]
fn flows_on_every_queue_are_counted_exactly() {
    let network = Mirrored::new();
    let probe = network.probe("");
    let traffics = [
        STEADY,
        Traffic { cpu: Some(1), flows: 50, ipv6: true, frame_octets: 100, ..STEADY },
        Traffic { cpu: Some(1), flows: 10, vlan_id: Some(7), frame_octets: 200, ..STEADY },
    ];
    for traffic in traffics {
        traffic.send(&network.switch);
    }
    assert_eq!(network.queue_packets(), [STEADY.packets, 2 * STEADY.packets]);
    let ended = end(probe, 3 * STEADY.packets);
    ended.report.assert_complete();
    let flows = flows(&ended.output);
    assert_eq!(flows.len(), 160);
    assert_eq!(sum(&flows, "packet_delta_count"), 3 * STEADY.packets);
    assert_eq!(sum(&flows, "octet_delta_count"), traffics.iter().map(Traffic::octets).sum::<u64>());
    for flow in &flows {
        let is_ipv6 = flow["source_address"].as_str().unwrap().contains(':');
        let share = match (flow["vlan_id"].as_u64(), is_ipv6) {
            (Some(7), _) => STEADY.packets / 10,
            (_, true) => STEADY.packets / 50,
            _ => STEADY.packets / 100,
        };
        assert_eq!(flow["packet_delta_count"], share, "{flow}");
    }
    assert!(ended.report.text().contains("AF_XDP mirror mode, 2 queues, copy"), "{}", ended.report.text());
}

#[test]
fn at_full_speed_every_packet_is_recorded_or_lost_by_name() {
    let network = Mirrored::new();
    let probe = network.probe("");
    let traffic = Traffic { packets: 1_000_000, flows: 20_000, random: true, rate: None, ..STEADY };
    traffic.send(&network.switch);
    let report = end(probe, traffic.packets).report;
    let lost =
        ["rx_ring_full", "fill_ring_empty", "rx_dropped", "passed"].map(|reason| dropped(&report, reason));
    assert_eq!(report.recorded().packets + lost.iter().sum::<u64>(), traffic.packets, "{}", report.text());
    assert_eq!(report.dropped().packets, lost.iter().sum::<u64>(), "{}", report.text());
    assert_eq!(report.lost(), Figure::default());
}

/// Rule 1: without mirror mode, every packet goes on to the host.
#[test]
fn without_mirror_mode_nothing_is_taken_away() {
    let network = Mirrored::with_addresses();
    let probe = ProbeBuilder::configured(&network.host).argument("--interface", PORT).json().start();
    assert_ne!(network.host.xdp_program(PORT).unwrap(), "pathflow_mirror");
    let mut talk = network.talk();
    for _ in 0..10 {
        talk.send(8);
    }
    wait_for("datagrams reach the host", String::new, || (talk.received() == 10).then_some(()));
    end(probe, 10).report.assert_complete();
}

/// Rule 2: a port that the host uses itself.
#[test]
fn an_interface_that_the_host_uses_is_refused_by_its_use() {
    for (set_up, reason) in [
        ("address add 198.51.100.2/24 dev port", "198.51.100.2/24"),
        ("route add 203.0.113.0/24 dev port", "route to 203.0.113.0/24"),
        ("route add default dev port", "default route"),
        ("nexthop add id 7 dev port", "next hop"),
        ("link add link port name above type macvlan", "above is built upon it"),
    ] {
        let network = Mirrored::new();
        network.ip(set_up);
        let message = network.refusal();
        for part in [PORT, "mirror mode takes every packet away", reason, "i_know_this_steals"] {
            assert!(message.contains(part), "{set_up}: no {part:?} in {message}");
        }
    }

    let network = Mirrored::new();
    network.ip("link add over type bridge");
    network.ip("link set port master over");
    assert!(network.refusal().contains("port of over"));

    // Routes by a next hop object do not name the interface themselves.
    let network = Mirrored::new();
    network.host.sysctl("net.ipv4.nexthop_compat_mode=0");
    network.ip("nexthop add id 7 dev port");
    network.ip("route add 203.0.113.0/24 nhid 7");
    assert!(network.refusal().contains("next hop"));

    let network = Mirrored::new();
    for which in ["all", PORT] {
        network.host.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6=0"));
    }
    network.ip("address add 2001:db8::2/64 dev port nodad");
    assert!(network.refusal().contains("2001:db8::2/64"));
    network.ip("address del 2001:db8::2/64 dev port");
    network.ip("route add 2001:db8:1::/48 dev port");
    assert!(network.refusal().contains("2001:db8:1::/48"));
}

/// Rule 2: what every interface has is no use of it.
#[test]
fn a_link_local_address_alone_is_no_reason_to_refuse() {
    let network = Mirrored::new();
    for which in ["all", PORT] {
        network.host.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6=0"));
    }
    let has_link_local = || {
        let text = output(network.host.command("ip").args(["-6", "address", "show", "dev", PORT]));
        text.contains("fe80::").then_some(())
    };
    wait_for("a link-local address", String::new, has_link_local);
    let probe = network.probe("");
    assert_eq!(network.host.xdp_program(PORT).as_deref(), Some("pathflow_mirror"));
    assert_eq!(network.host.link(PORT)["promiscuity"], 1);
    STEADY.send(&network.switch);
    assert_eq!(end(probe, STEADY.packets).report.recorded().packets, STEADY.packets);
    assert_eq!(network.host.xdp_program(PORT), None);
    assert_eq!(network.host.link(PORT)["promiscuity"], 0);
}

/// Rule 3: packets of a queue that has no socket pass, and are counted; those of the others do not.
#[test]
fn a_queue_without_a_socket_passes() {
    let network = Mirrored::with_addresses();
    let probe = network.probe("i_know_this_steals = true");
    let program = network.host.link(PORT)["xdp"]["prog"]["id"].to_string();
    let program = bpftool(&["prog", "show", "id", &program]);
    let mut maps = program["map_ids"].as_array().unwrap().iter().map(Value::to_string);
    let sockets = maps.find(|map| bpftool(&["map", "show", "id", map])["type"] == "xskmap").unwrap();
    let remove = |queue| {
        let key = ["key", queue, "0", "0", "0"];
        output(tool("bpftool").args(["map", "delete", "id", &sockets]).args(key));
    };
    remove("1");
    STEADY.send(&network.switch);
    Traffic { cpu: Some(1), ..STEADY }.send(&network.switch);
    // What is in the ring is taken, whether or not the kernel puts more into it.
    remove("0");
    let mut talk = network.talk();
    for _ in 0..10 {
        talk.send(8);
    }
    wait_for("datagrams reach the host", String::new, || (talk.received() == 10).then_some(()));
    let report = end(probe, 2 * STEADY.packets + 10).report;
    assert_eq!(report.recorded().packets, STEADY.packets);
    let passed = report.figure("not in a flow: passed");
    assert_eq!(passed.packets, STEADY.packets + 10);
    assert_eq!(passed.octets, STEADY.packets * STEADY.frame_octets + 10 * (14 + 28 + 8));
}

fn bpftool(arguments: &[&str]) -> Value {
    serde_json::from_str(&output(tool("bpftool").arg("--json").args(arguments))).unwrap()
}

/// Rule 4: however the process ends, the packets are the host's again.
#[test]
fn a_killed_daemon_leaves_nothing_behind() {
    let network = Mirrored::with_addresses();
    let mut probe = network.probe("i_know_this_steals = true");
    let mut talk = network.talk();
    talk.send(8);
    probe.wait_until("the datagram in the metrics", |metrics| received(metrics) == 1);
    assert_eq!(talk.received(), 0);
    probe.process().signal(Signal::KILL);
    probe.process().wait();
    talk.until_received();
    assert_eq!(network.host.xdp_program(PORT), None);
    assert_eq!(network.host.link(PORT)["promiscuity"], 0);
}

/// Rule 5: packets that nobody takes any more are the host's again, and each is counted in one place.
#[test]
fn a_stopped_daemon_lets_packets_pass_until_it_goes_on() {
    let network = Mirrored::with_addresses();
    let mut probe = network.probe("i_know_this_steals = true");
    let mut talk = network.talk();
    for _ in 0..5 {
        talk.send(8);
    }
    probe.wait_until("datagrams in the metrics", |metrics| received(metrics) == 5);
    assert_eq!(talk.received(), 0);

    probe.process().signal(Signal::STOP);
    talk.until_received();
    probe.process().signal(Signal::CONT);

    // Taken again: what is sent now is recorded and does not reach the host.
    let metrics = probe.wait_until("all datagrams in the metrics", |metrics| received(metrics) == talk.sent);
    let reached = talk.received();
    assert_eq!(metrics.sum("pathflow_dropped_packets_total", &[("reason", "passed")]), reached);
    let (sent, passed) = (talk.sent, reached);
    wait_for("datagrams are taken again", String::new, || {
        let before = talk.received();
        talk.send(8);
        std::thread::sleep(Duration::from_millis(50));
        (talk.received() == before).then_some(())
    });
    let report = end(probe, talk.sent).report;
    assert_eq!(dropped(&report, "passed"), talk.received());
    assert_eq!(report.recorded().packets, talk.sent - talk.received());
    assert!(talk.sent > sent && report.recorded().packets > sent - passed);
}

/// Rule 6: the kernel's own counters, to the packet, while the daemon takes nothing.
#[test]
fn what_a_stopped_daemon_does_not_take_is_in_the_counters_of_the_kernel() {
    let network = Mirrored::new();
    let mut probe = network.probe("");
    let endless = Traffic { packets: 1_000_000_000, rate: Some(200_000), ..STEADY };
    let sending = endless.start(&network.switch);
    probe.wait_until("packets in the metrics", |metrics| received(metrics) > 0);
    probe.process().signal(Signal::STOP);
    // First the ring fills up, then the watchdog lets everything pass.
    std::thread::sleep(Duration::from_secs(4));
    probe.process().signal(Signal::CONT);
    probe.wait_until("passed packets in the metrics", |metrics| {
        metrics.sum("pathflow_dropped_packets_total", &[("reason", "passed")]) > 0
    });
    drop(sending);
    let sent = network.host.received(PORT).0;
    let report = end(probe, sent).report;
    let [full, passed] = ["rx_ring_full", "passed"].map(|reason| dropped(&report, reason));
    assert!(report.recorded().packets > 0 && full > 0 && passed > 0, "{}", report.text());
    assert_eq!(report.recorded().packets + full + passed, sent, "{}", report.text());
}

/// Rule 7: both directions of a mirror come in.
#[test]
fn frames_of_the_router_are_egress() {
    let network = Mirrored::with_addresses();
    let configuration = format!("i_know_this_steals = true\nrouter_macs = [\"{GENERATOR_MAC}\"]");
    let probe = network.probe(&configuration);
    STEADY.send(&network.switch);
    let mut talk = network.talk();
    for _ in 0..10 {
        talk.send(8);
    }
    let metrics =
        probe.wait_until("all packets in the metrics", |metrics| received(metrics) == STEADY.packets + 10);
    for (direction, packets) in [("ingress", 10), ("egress", STEADY.packets)] {
        let labels = [("interface", PORT), ("direction", direction)];
        assert_eq!(metrics.sum("pathflow_received_packets_total", &labels), packets, "{direction}");
    }
    let ended = end(probe, STEADY.packets + 10);
    ended.report.assert_complete();
    for flow in flows(&ended.output) {
        let is_of_talk = flow["destination_port"] == LISTENING;
        assert_eq!(flow["flow_direction"], if is_of_talk { "ingress" } else { "egress" }, "{flow}");
    }
}

fn set_mtu(network: &Mirrored, mtu: &str) {
    for (namespace, interface) in [(&network.switch, SPAN), (&network.host, PORT)] {
        output(namespace.command("ip").args(["link", "set", interface, "mtu", mtu]));
    }
}

#[test]
fn packets_larger_than_a_frame_come_in_several() {
    const PAYLOAD: usize = 8000;
    let network = Mirrored::with_addresses();
    set_mtu(&network, "9000");
    let probe = network.probe("i_know_this_steals = true");
    let mut talk = network.talk();
    for _ in 0..100 {
        talk.send(PAYLOAD);
        talk.send(8);
    }
    let report = end(probe, 200).report;
    report.assert_complete();
    assert_eq!(report.recorded().octets, 100 * (PAYLOAD as u64 + 28) + 100 * 36);
}

#[test]
fn packets_that_are_too_large_are_lost_by_name() {
    let network = Mirrored::with_addresses();
    let probe = network.probe("i_know_this_steals = true");
    // After the sockets were made for 1500.
    set_mtu(&network, "9000");
    let mut talk = network.talk();
    for _ in 0..10 {
        talk.send(8000);
        talk.send(8);
    }
    let report = end(probe, 20).report;
    assert_eq!(dropped(&report, "rx_dropped"), 10, "{}", report.text());
    assert_eq!(report.recorded().packets, 10);
}

#[test]
fn a_mirror_port_that_is_deleted_and_made_again_is_followed() {
    let network = Mirrored::new();
    let mut probe = network.probe("");
    let index = network.host.link(PORT)["ifindex"].to_string();
    STEADY.send(&network.switch);
    probe.wait_until("packets in the metrics", |metrics| received(metrics) == STEADY.packets);
    network.ip("link del port");
    probe.process().wait_for_message(&format!("no longer capturing on port (index {index}): it is gone"));
    network.add_port();
    let index = network.host.link(PORT)["ifindex"].to_string();
    probe.process().wait_for_message(&format!("capturing on port (index {index}), AF_XDP"));
    STEADY.send(&network.switch);
    let metrics =
        probe.wait_until("all packets in the metrics", |metrics| received(metrics) == 2 * STEADY.packets);
    let port = [("interface", PORT), ("direction", "ingress")];
    assert_eq!(metrics.sum("pathflow_received_packets_total", &port), 2 * STEADY.packets);
    end(probe, 2 * STEADY.packets).report.assert_complete();
}

#[test]
fn a_mirror_port_that_goes_down_and_up_again_is_still_captured() {
    let network = Mirrored::new();
    let mut probe = network.probe("");
    STEADY.send(&network.switch);
    network.ip("link set port down");
    probe.process().wait_for_message("port is down now");
    network.ip("link set port up");
    network.wait_until_up();
    STEADY.send(&network.switch);
    end(probe, 2 * STEADY.packets).report.assert_complete();
}

#[test]
fn a_mirror_port_that_is_renamed_has_its_new_name() {
    let network = Mirrored::new();
    let configuration = |name: &str| mirror_port("").replace(&format!("\"{PORT}\""), &format!("\"{name}\""));
    let mut probe =
        ProbeBuilder::configured(&network.host).json().configuration(&configuration("port*")).start();
    STEADY.send(&network.switch);
    probe.wait_until("packets in the metrics", |metrics| received(metrics) == STEADY.packets);
    network.ip("link set port down");
    network.ip("link set port name port9");
    network.ip("link set port9 up");
    probe.process().wait_for_message("is called port9 now");
    let name = || format!("{:?}", network.host.link("port9")["operstate"]);
    wait_for("an interface is up", name, || (network.host.link("port9")["operstate"] == "UP").then_some(()));
    STEADY.send(&network.switch);
    let metrics =
        probe.wait_until("all packets in the metrics", |metrics| received(metrics) == 2 * STEADY.packets);
    let of = |name: &str| metrics.sum("pathflow_received_packets_total", &[("interface", name)]);
    assert_eq!((of("port9"), of(PORT)), (2 * STEADY.packets, 0));
    end(probe, 2 * STEADY.packets).report.assert_complete();
}
