//! Tagged frames are accounted under their VLAN identifiers.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::flows;
use super::support::network::{CAPTURED, COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::process::Process;
use super::support::routed::{LEFT, RIGHT, Routed, TO_LEFT, TO_RIGHT};
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::{Traffic, replay, replay_slowly};
use super::support::wait_for;

const CUSTOMER: u16 = 0x8100;
const SERVICE: u16 = 0x88a8;

#[test]
fn frames_are_accounted_under_their_outer_and_inner_vlan() {
    frames_are_accounted_under_their_vlan("xdp");
}

/// The kernel takes the outer tag out of the frame before tc sees it.
#[test]
fn tags_that_are_held_beside_the_frame_are_seen_at_tc() {
    frames_are_accounted_under_their_vlan("tc");
}

fn frames_are_accounted_under_their_vlan(hook: &str) {
    let network = Network::new();
    let features = output(network.router.command("ethtool").args(["-k", CAPTURED]));
    assert!(features.contains("rx-vlan-offload: on"), "{features}");
    let directory = TempDir::new();
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router)
        .collector(COLLECTOR_IPV4, "ipfix")
        .configuration("[export]\nstdout = \"json\"")
        .argument("--hook", hook)
        .start();

    // The same addresses and ports everywhere: only the tags tell the flows apart.
    let frame = || Frame::new("203.0.113.5", "198.18.0.9", Upper::Udp(1024, 9)).payload(100);
    let mut frames = vec![frame()];
    frames.extend(vec![frame().tag(CUSTOMER, 7); 2]);
    frames.extend(vec![frame().tag(SERVICE, 100).tag(CUSTOMER, 200); 3]);
    frames.extend(vec![frame().tag(CUSTOMER, 100).tag(CUSTOMER, 4094); 4]);
    frames
        .push(Frame::new("2001:db8::5", "2001:db8::9", Upper::Udp(1024, 9)).tag(SERVICE, 3).tag(CUSTOMER, 4));
    // Of deeper stacks the outer two count.
    frames.push(frame().tag(SERVICE, 8).tag(CUSTOMER, 9).tag(CUSTOMER, 3));
    frames.push(frame().tag(SERVICE, 8).tag(CUSTOMER, 9).tag(CUSTOMER, 4).tag(CUSTOMER, 5));
    // More tags than are walked: no flow, but a counter.
    let too_many = if hook == "xdp" { 5 } else { 6 };
    frames.push((1..=too_many).fold(frame(), |frame, vlan_id| frame.tag(CUSTOMER, vlan_id)));
    let file = directory.file("frames.pcap");
    write_capture(&file, &frames);
    replay(&network.sender, &file, frames.len());
    let fast = Traffic { packets: 50_000, flows: 1, vlan_id: Some(42), ..Traffic::default() };
    if hook == "xdp" {
        // As fast as the generator goes, too.
        fast.send(&network.sender);
    }
    let ended = probe.terminate();
    ended.report.assert_balanced();
    assert_eq!(ended.report.dropped().packets, 1);
    assert_eq!(ended.report.figure("not in a flow: not_ip").packets, 1);

    let mut expected = BTreeMap::from([
        ((0, 0), (1, 128)),
        ((7, 0), (2, 2 * 128)),
        ((100, 200), (3, 3 * 128)),
        ((100, 4094), (4, 4 * 128)),
        ((3, 4), (1, 48)),
        ((8, 9), (2, 2 * 128)),
    ]);
    if hook == "xdp" {
        expected.insert((42, 0), (fast.packets, fast.octets()));
    }
    let printed: BTreeMap<_, _> = flows(&ended.output)
        .iter()
        .map(|flow| {
            let number = |key: &str| flow[key].as_u64().unwrap();
            let vlans = (number("vlan_id"), number("dot1q_customer_vlan_id"));
            (vlans, (number("packet_delta_count"), number("octet_delta_count")))
        })
        .collect();
    assert_eq!(printed, expected);

    // nfdump knows of one VLAN only, the outer one.
    let mut by_outer: BTreeMap<u64, u64> = BTreeMap::new();
    for flow in &nfcapd.stop(&network).flows {
        let vlan = flow["src_vlan"].as_u64().unwrap_or_default();
        *by_outer.entry(vlan).or_default() += flow["in_packets"].as_u64().unwrap();
    }
    let mut expected = BTreeMap::from([(0, 1), (3, 1), (7, 2), (8, 2), (100, 7)]);
    if hook == "xdp" {
        expected.insert(42, fast.packets);
    }
    assert_eq!(by_outer, expected);
}

/// Packets of one flow with different priorities, by VLAN and priority: a number of packets for each.
fn with_priorities() -> Vec<Frame> {
    let frame = || Frame::new("203.0.113.5", "198.18.0.9", Upper::Udp(1024, 9)).payload(100);
    let mut frames = vec![frame()];
    for priority in 0..8_u16 {
        frames.extend(vec![frame().tag(CUSTOMER, priority << 13 | 0x64); usize::from(priority) + 1]);
        // Drop eligible, and without a VLAN.
        frames.push(frame().tag(CUSTOMER, priority << 13 | 0x1064));
        frames.push(frame().tag(CUSTOMER, priority << 13));
    }
    frames
}

/// Packets and octets by VLAN and priority.
fn by_priority(rows: impl IntoIterator<Item = Value>) -> BTreeMap<(u64, u64), (u64, u64)> {
    let mut sums: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for row in rows {
        let number = |key: &str| row[key].as_u64().unwrap();
        let sum = sums.entry((number("vlan"), number("cos"))).or_default();
        *sum = (sum.0 + number("packets"), sum.1 + number("bytes"));
    }
    sums
}

fn priorities_are_those_of_pmacctd(hook: &str) {
    let network = Network::new();
    let directory = TempDir::new();
    let (rows, configuration) = (directory.file("rows.json"), directory.file("pmacctd.conf"));
    let text = format!(
        "daemonize: false\npcap_interface: {CAPTURED}\nplugins: print\nprint_output: json\nprint_output_file: {}\n\
         print_output_file_append: true\nprint_refresh_time: 1\npcap_filter: host 203.0.113.5 or vlan\n\
         aggregate: vlan, cos, src_host\n",
        rows.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut pmacctd = Process::start(network.router.command("pmacctd").arg("-f").arg(&configuration));
    pmacctd.wait_for_message("link type is: 1");
    let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
    let probe = ProbeBuilder::new(&network.router)
        .collector(COLLECTOR_IPV4, "ipfix")
        .configuration(
            "[[aggregate]]\nname = \"a\"\nkey = [\"vlan\", \"cos\", \"src_host\"]\n[aggregate.stdout]\n",
        )
        .argument("--hook", hook)
        .start();
    let frames = with_priorities();
    let file = directory.file("frames.pcap");
    write_capture(&file, &frames);
    replay(&network.sender, &file, frames.len());
    let by_pmacctd = || {
        let text = fs::read_to_string(&rows).unwrap_or_default();
        by_priority(text.lines().filter_map(|line| serde_json::from_str(line).ok()))
    };
    let complete = || by_pmacctd().values().map(|sum| sum.0).sum::<u64>() == frames.len() as u64;
    wait_for(
        "rows of pmacctd",
        || format!("{:?} {}", by_pmacctd(), pmacctd.errors()),
        || complete().then_some(()),
    );
    pmacctd.signal(Signal::INT);
    pmacctd.wait();
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let ours = by_priority(flows(&ended.output));
    assert_eq!(ours, by_pmacctd());
    assert_eq!(ours[&(0, 0)], (2, 2 * 128));
    assert_eq!((ours[&(100, 6)], ours[&(0, 7)]), ((8, 8 * 128), (1, 128)));
    // Records of flows are not told apart by it.
    let exported = nfcapd.stop(&network).flows;
    assert_eq!(exported.len(), 2, "{exported:#?}");
}

#[test]
fn priorities_are_those_of_pmacctd_at_xdp() {
    priorities_are_those_of_pmacctd("xdp");
}

#[test]
fn priorities_are_those_of_pmacctd_at_tc() {
    priorities_are_those_of_pmacctd("tc");
}

/// Where packets come in and where they go out, by the tags that they have there.
#[test]
fn rows_have_the_vlans_in_which_packets_came_and_went() {
    let routed = Routed::new();
    routed.router.ip("link add br0 type bridge");
    for port in [LEFT, RIGHT] {
        routed.router.ip(&format!("link set {port} master br0"));
    }
    routed.router.ip("link set br0 up");
    let directory = TempDir::new();
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", &format!("{LEFT},{RIGHT}"))
        .argument("--direction", "both")
        .configuration(
            "[[aggregate]]\nname = \"vlans\"\nrefresh = \"1s\"\n\
             key = [\"in_vlan\", \"out_vlan\", \"vlan\", \"in_iface_name\", \"out_iface_name\", \"dst_port\"]\n\
             [aggregate.stdout]\n",
        )
        .start();
    let file = directory.file("frames.pcap");
    for (sender, vlan_id, port) in
        [((&routed.client, TO_LEFT), 42, 4242), ((&routed.server, TO_RIGHT), 43, 4343)]
    {
        let frame = Frame::new("203.0.113.5", "198.18.0.9", Upper::Udp(1024, port)).payload(100);
        write_capture(&file, &vec![frame.tag(CUSTOMER, vlan_id); 20]);
        replay_slowly(sender, &file, 20);
    }
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let mut packets: BTreeMap<_, u64> = BTreeMap::new();
    for row in flows(&ended.output) {
        let number = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{row}"));
        let seen_going_out = !row["iface_name_out"].is_null() && row["iface_name_out"] != "";
        if [4242, 4343].contains(&number("port_dst")) {
            let key = (number("vlan"), seen_going_out, number("vlan_in"), number("vlan_out"));
            *packets.entry(key).or_default() += number("packets");
        }
    }
    let expected = [
        ((42, false, 42, 0), 20),
        ((42, true, 0, 42), 20),
        ((43, false, 43, 0), 20),
        ((43, true, 0, 43), 20),
    ];
    assert_eq!(packets, BTreeMap::from(expected), "{}", ended.output);
}
