//! Interfaces that somebody else uses as well, and interfaces without native XDP: packets are counted at tc.

use serde_json::Value;

use super::refusals::write_program;
use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::{flows, sum};
use super::support::namespace::Namespace;
use super::support::network::{CAPTURED, Network};
use super::support::probe::{Ended, Probe, ProbeBuilder, daemon, refusal};
use super::support::process::Process;
use super::support::routed::Routed;
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::{Traffic, replay};
use super::support::wait_for;

const FRAMES: usize = 500;
const PAYLOAD: u16 = 100;
/// Octets of IP of a frame.
const IP_OCTETS: u64 = 128;

/// Sends known frames through the captured link. No generator could: a veth without native XDP takes no frames
/// that pass its peer by.
fn send_frames(network: &Network) {
    let directory = TempDir::new();
    let file = directory.file("frames.pcap");
    let frame = Frame::new("203.0.113.5", "198.18.0.9", Upper::Udp(1024, 9)).payload(PAYLOAD);
    write_capture(&file, &vec![frame; FRAMES]);
    replay(&network.sender, &file, FRAMES);
}

/// Ends the daemon, which has counted the known frames and nothing else.
fn assert_frames_are_counted(probe: Probe<'_>) -> Ended {
    let ended = probe.terminate();
    ended.report.assert_complete();
    let flows = flows(&ended.output);
    assert_eq!(flows.len(), 1, "{flows:#?}");
    assert_eq!(flows[0]["packet_delta_count"], FRAMES, "{}", flows[0]);
    assert_eq!(flows[0]["octet_delta_count"], FRAMES as u64 * IP_OCTETS, "{}", flows[0]);
    ended
}

fn attach_foreign(router: &Namespace) -> Value {
    let directory = TempDir::new();
    let file = directory.file("foreign.o");
    write_program(&file, "foreign_xdp");
    let attach = ["link", "set", "dev", CAPTURED, "xdpdrv", "object"];
    output(router.command("ip").args(attach).arg(&file).args(["section", "xdp"]));
    assert_eq!(router.xdp_program(CAPTURED).as_deref(), Some("foreign_xdp"));
    router.link(CAPTURED)["xdp"].clone()
}

#[test]
fn beside_a_foreign_xdp_program_every_packet_is_counted_at_tc() {
    let network = Network::new();
    let router = &network.router;
    let foreign = attach_foreign(router);
    let probe = ProbeBuilder::new(router).json().start();
    assert_eq!(router.link(CAPTURED)["xdp"], foreign);
    let traffic = Traffic { packets: 100_000, flows: 100, ..Traffic::default() };
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_complete();
    let received = ended.report.received();
    assert_eq!((received.packets, received.octets), (traffic.packets, traffic.octets()));
    assert_eq!(flows(&ended.output).len(), 100);
    let said = ended.report.text();
    let id = foreign["prog"]["id"].to_string();
    let warning = format!("WARN {CAPTURED}: XDP program foreign_xdp (id {id}) is attached already and stays");
    assert!(said.contains(&warning) && said.contains("tc ingress"), "{said}");
    // The same program as before, never replaced.
    assert_eq!(router.link(CAPTURED)["xdp"], foreign);

    // Where XDP was asked for by name, there is no other way.
    let mut command = router.enter(daemon().to_str().unwrap());
    let message = refusal(command.args(["run", "--json", "--hook", "xdp", "--interface", CAPTURED]));
    assert!(message.contains("foreign_xdp") && message.contains(&id), "{message}");
    assert_eq!(router.link(CAPTURED)["xdp"], foreign);
}

#[test]
fn filters_of_others_stay_and_see_every_packet() {
    let network = Network::new();
    let router = &network.router;
    let tc = |words: &str| output(router.command("tc").args(words.split(' ')));
    for words in ["link add sink type bridge", "link set sink up"] {
        router.ip(words);
    }
    tc(&format!("qdisc add dev {CAPTURED} clsact"));
    for (way, preference) in [("ingress", 7), ("egress", 8)] {
        tc(&format!(
            "filter add dev {CAPTURED} {way} pref {preference} protocol all u32 match u32 0 0 \
             action mirred egress mirror dev sink"
        ));
    }
    let probe =
        ProbeBuilder::new(router).argument("--hook", "tc").argument("--direction", "both").json().start();
    // A veth whose peer has no XDP program takes frames only the usual way.
    send_frames(&network);
    Routed::send(router, ("198.51.100.1", 4343), 72, FRAMES as u64);
    let ended = probe.terminate();
    ended.report.assert_complete();
    let flows = flows(&ended.output);
    for direction in ["ingress", "egress"] {
        let flows = flows
            .iter()
            .filter(|flow| flow["flow_direction"] == direction && flow["protocol_identifier"] == 17);
        let packets: u64 = flows.map(|flow| flow["packet_delta_count"].as_u64().unwrap()).sum();
        assert_eq!(packets, FRAMES as u64, "{direction}");
        // Whatever it does on the way, the filters behind it go on seeing everything.
        let filters = tc(&format!("-statistics filter show dev {CAPTURED} {direction}"));
        let seen = filters.lines().find_map(|line| line.trim().strip_prefix("Sent ")?.split(' ').nth(2));
        let seen: u64 = seen.unwrap_or_else(|| panic!("{filters}")).parse().unwrap();
        assert!(seen >= FRAMES as u64, "{filters}");
    }
    let received = ended.report.received();
    assert!(received.packets >= 2 * FRAMES as u64);
}

#[test]
fn generic_xdp_is_taken_only_if_asked_for() {
    let network = Network::new();
    let router = &network.router;
    let probe = ProbeBuilder::new(router).argument("--hook", "generic").json().start();
    // `XDP_ATTACHED_SKB`
    assert_eq!(router.link(CAPTURED)["xdp"]["mode"], 2);
    send_frames(&network);
    let ended = assert_frames_are_counted(probe);
    let said = ended.report.text();
    assert!(said.contains("WARN veth-in: generic XDP as asked for"), "{said}");
    assert!(said.contains("capturing on veth-in (index 2), XDP generic mode"), "{said}");
    assert!(router.link(CAPTURED)["xdp"].is_null());
}

#[test]
fn without_native_xdp_every_packet_is_counted_at_tc() {
    let network = Network::new();
    let router = &network.router;
    // With the address that the frames are for.
    router.ip("link add upper link veth-in address 02:00:00:00:00:02 type macvlan");
    router.ip("link set upper up");
    for (hook, is_said) in [("auto", true), ("tc", false)] {
        let probe = ProbeBuilder::configured(router)
            .argument("--interface", "upper")
            .argument("--hook", hook)
            .json()
            .start();
        assert!(router.link("upper")["xdp"].is_null());
        send_frames(&network);
        let ended = assert_frames_are_counted(probe);
        let said = ended.report.text();
        assert_eq!(
            said.contains("WARN upper: no native XDP (its driver has none); counting at tc ingress"),
            is_said
        );
    }
    let mut command = router.enter(daemon().to_str().unwrap());
    let message = refusal(command.args(["run", "--json", "--hook", "xdp", "--interface", "upper"]));
    assert!(message.contains("upper") && message.contains("no native XDP"), "{message}");
}

/// Datagrams of `octets` of payload, `count` of them, of the flows to a port.
fn assert_datagrams(flows: &[Value], port: u16, count: u64, octets: u64) {
    let flows: Vec<Value> = flows.iter().filter(|flow| flow["destination_port"] == port).cloned().collect();
    let counted = ["packet_delta_count", "octet_delta_count"].map(|key| sum(&flows, key));
    assert_eq!(counted, [count, count * octets], "{flows:#?}");
}

#[test]
fn the_loopback_interface_is_counted_at_tc() {
    let router = Namespace::new();
    let probe = ProbeBuilder::configured(&router)
        .argument("--interface", "lo")
        .argument("--direction", "both")
        .json()
        .start();
    Routed::send(&router, ("127.0.0.1", 4343), 100, 50);
    let ended = probe.terminate();
    ended.report.assert_complete();
    let (out, back): (Vec<_>, Vec<_>) =
        flows(&ended.output).into_iter().partition(|flow| flow["flow_direction"] == "egress");
    assert_datagrams(&out, 4343, 50, 128);
    assert_datagrams(&back, 4343, 50, 128);
}

#[test]
fn packets_without_a_link_header_are_counted_at_tc() {
    let router = Namespace::new();
    // Each datagram that it receives comes in by the tunnel, and each packet that goes out there is a datagram.
    let mut command = router.command("socat");
    let mut tunnel = Process::start(command.args([
        "UDP4-DATAGRAM:127.0.0.1:7001,bind=127.0.0.1:7000",
        "TUN:198.51.100.2/24,tun-type=tun,iff-no-pi,iff-up,tun-name=t0",
    ]));
    let is_up = || output(router.command("ip").args(["-brief", "link"])).contains("t0 ").then_some(());
    wait_for("the tunnel", || tunnel.errors(), is_up);
    assert_eq!(router.link("t0")["link_type"], "none");
    let probe = ProbeBuilder::configured(&router)
        .argument("--interface", "t0")
        .argument("--direction", "both")
        .json()
        .start();
    let before = router.received("t0");
    // IP packets as such: an Ethernet frame without its header.
    let frames = [
        Frame::new("198.51.100.9", "198.51.100.2", Upper::Udp(1024, 4001)).payload(100),
        Frame::new("2001:db8::9", "2001:db8::2", Upper::Udp(1024, 4002)).payload(200),
    ];
    let socket = router.run(|| std::net::UdpSocket::bind("127.0.0.1:7001").unwrap());
    for frame in &frames {
        let packet = frame.octets()[14..].to_vec();
        for _ in 0..30 {
            socket.send_to(&packet, "127.0.0.1:7000").unwrap();
        }
    }
    Routed::send(&router, ("198.51.100.77", 4003), 300, 20);
    let received = || (router.received("t0").0 - before.0, router.sent("t0").0);
    wait_for(
        "packets through the tunnel",
        || format!("{:?} {}", received(), tunnel.errors()),
        || (received().0 == 60 && received().1 >= 20).then_some(()),
    );
    let ended = probe.terminate();
    ended.report.assert_complete();
    let (out, back): (Vec<_>, Vec<_>) =
        flows(&ended.output).into_iter().partition(|flow| flow["flow_direction"] == "egress");
    assert_datagrams(&back, 4001, 30, 128);
    assert_datagrams(&back, 4002, 30, 248);
    assert_datagrams(&out, 4003, 20, 328);
    tunnel.terminate();
}
