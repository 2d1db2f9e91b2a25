//! Captures sent over a veth pair by tcpreplay, through the running daemon, to its standard output.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use pathflow_common::DropReason;
use pathflow_common::flow::{Addresses, Key, WideKey};
use pathflow_common::layout::Count;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::corpus::{Capture, corpus};
use crate::file;
use crate::host::{FlowTotal, Host, Totals, View, in_first_buffer};
use crate::namespace::{Pair, RECEIVER, SENDER};
use crate::scratch::Scratch;
use crate::{own, say};

/// Frames that a socket sends on an interface with an MTU of 1,500 octets.
const SENDABLE: std::ops::RangeInclusive<usize> = 14..=1514;
const MTU: usize = 1500;
const JUMBO_MTU: usize = 9000;
/// Captures of the directory that are sent, and packets of each at most.
const CHOSEN: usize = 20;
const MOST_PACKETS: usize = 300;
/// Slow enough for the receive queue of a veth, which holds 256 packets.
const PACKETS_PER_SECOND: &str = "--pps=4000";
/// How long the daemon may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What tcpreplay sends of a capture is in the daemon's JSON or in its drop counters, to the packet and to
/// the octet, and the flows are those that the parser finds in the capture.
#[test]
fn replayed_captures_come_out_of_the_daemon_complete() {
    let captures = chosen();
    let (packets, records) = check(MTU, &captures);
    say(&format!("replay: {} captures, {packets} packets, {records} flow records", captures.len()));
    assert!(captures.len() >= 8 && packets >= 300, "{} captures, {packets} packets", captures.len());
}

/// The same of frames that the kernel hands over in several buffers.
#[test]
fn replayed_jumbo_frames_come_out_of_the_daemon_complete() {
    let own = own::captures();
    let jumbo: Vec<&Capture> = own.iter().filter(|capture| capture.name == own::JUMBO).collect();
    let (packets, records) = check(JUMBO_MTU, &jumbo);
    say(&format!("replay: {packets} jumbo frames, {records} flow records"));
    assert!(packets >= 30, "{packets} packets");
}

/// Sends captures, each to a daemon of its own, and checks what comes out. Returns how many packets and
/// flow records there were.
fn check(mtu: usize, captures: &[&Capture]) -> (u64, usize) {
    let scratch = Scratch::new(&format!("replay-{mtu}"));
    let pair = Pair::new(mtu);
    let (mut packets, mut records) = (0, 0);
    for (number, capture) in captures.iter().enumerate() {
        let file = capture.path.clone().unwrap_or_else(|| {
            let file = scratch.file(&format!("{number}.pcap"));
            file::write(&file, &capture.packets).expect("a file for tcpreplay");
            file
        });
        let daemon = Daemon::start(&pair, &scratch);
        let sent = replay(&pair, &file);
        let run = daemon.stop();

        let (host, mut expected) = (Host::new(View::Outer), Totals::default());
        for packet in &capture.packets {
            expected.add(host.fate(&in_first_buffer(&packet.octets)), 0);
        }
        host.resolve(&mut expected);
        let name = &capture.name;
        assert!(run.status.success(), "{name}: {} {}", run.status, run.report);
        assert_eq!(sent, capture.packets.len() as u64, "{name}: not every frame was sent");
        assert!(run.report.contains("ledger: every packet and every record"), "{name}: {}", run.report);
        assert_eq!(run.count("received"), expected.seen[&0], "{name}: {}", run.report);
        assert_eq!(run.count("received").packets, sent, "{name}: {}", run.report);
        for reason in DropReason::ALL {
            let label = format!("  not in a flow: {}", reason.as_str());
            assert_eq!(run.count(&label), expected.dropped_for(reason), "{name}: {}", run.report);
        }
        assert_eq!(flows_of_json(&run.json, RECEIVER), flows_of(&expected), "{name}");
        packets += sent;
        records += run.json.lines().count();
    }
    (packets, records)
}

/// The repository's own captures and some of the directory, as far as a socket sends every frame of them.
fn chosen() -> Vec<&'static Capture> {
    let corpus = corpus();
    let sendable: Vec<&Capture> = corpus
        .captures
        .iter()
        .filter(|capture| capture.fault.is_none() && !capture.packets.is_empty())
        .filter(|capture| {
            capture
                .packets
                .iter()
                .all(|packet| packet.is_ethernet() && SENDABLE.contains(&packet.octets.len()))
        })
        .collect();
    let (own, others): (Vec<&Capture>, Vec<&Capture>) =
        sendable.into_iter().partition(|capture| capture.path.is_none());
    let others: Vec<&Capture> =
        others.into_iter().filter(|capture| capture.packets.len() <= MOST_PACKETS).collect();
    // Half of them the longest there are, the others spread over the whole directory.
    let mut by_length = others.clone();
    by_length.sort_by_key(|capture| std::cmp::Reverse(capture.packets.len()));
    let (longest, rest) = by_length.split_at(by_length.len().min(CHOSEN / 2));
    let spread = others.iter().filter(|capture| rest.iter().any(|other| other.name == capture.name));
    let step = rest.len().div_ceil(CHOSEN / 2).max(1);
    own.into_iter().chain(longest.iter().copied()).chain(spread.step_by(step).copied()).collect()
}

/// Sends a capture. Returns how many packets tcpreplay says were sent.
fn replay(pair: &Pair, file: &Path) -> u64 {
    let mut command = pair.sender.command("tcpreplay");
    command.args(["--preload-pcap", PACKETS_PER_SECOND, "--intf1", SENDER]).arg(file);
    let output = command.output().expect("this test needs tcpreplay");
    let text = String::from_utf8_lossy(&output.stdout);
    let sent = text.lines().find_map(|line| line.trim().strip_prefix("Successful packets:"));
    sent.and_then(|number| number.trim().parse().ok())
        .unwrap_or_else(|| panic!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// The running daemon.
struct Daemon {
    child: Child,
    json: PathBuf,
    messages: PathBuf,
}

/// A run of the daemon that has ended.
struct Ended {
    status: ExitStatus,
    json: String,
    report: String,
}

impl Daemon {
    /// Starts it and waits until it captures.
    fn start(pair: &Pair, scratch: &Scratch) -> Self {
        let (json, messages) = (scratch.file("flows.json"), scratch.file("messages"));
        let mut command: Command = pair.receiver.command(env!("CARGO_BIN_EXE_pathflow"));
        command.args(["run", "--interface", RECEIVER, "--json", "--listen=", "--drain-interval=100ms"]);
        command.stdout(File::create(&json).expect("a file for the flows"));
        command.stderr(File::create(&messages).expect("a file for the messages"));
        let mut daemon = Self { child: command.spawn().expect("the daemon"), json, messages };
        let deadline = Instant::now() + PATIENCE;
        while !daemon.messages().contains("capturing on") {
            let ended = daemon.child.try_wait().expect("the daemon's state");
            assert!(ended.is_none() && Instant::now() < deadline, "no capture: {}", daemon.messages());
            thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.messages).unwrap_or_default()
    }

    /// Ends it in order.
    fn stop(mut self) -> Ended {
        // nsenter becomes the daemon, so the child's id is the daemon's.
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a running daemon");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the daemon's state") {
                break status;
            }
            assert!(Instant::now() < deadline, "the daemon does not end: {}", self.messages());
            thread::sleep(Duration::from_millis(5));
        };
        let json = fs::read_to_string(&self.json).expect("the flows");
        Ended { status, json, report: self.messages() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing to do if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Packets and octets of a line of the report; zero if it is not there.
    fn count(&self, label: &str) -> Count {
        let mut count = Count::default();
        // The last one, as the report comes at the end.
        let found = self.report.lines().rfind(|line| {
            line.strip_prefix(label).is_some_and(|rest| rest.starts_with(' ') && rest.contains("packets"))
        });
        if let Some(line) = found {
            let words: Vec<&str> = line[label.len()..].split_whitespace().collect();
            if let [packets, "packets", octets, "octets"] = words[..] {
                count.packets = packets.parse().expect("a number of packets");
                count.octets = octets.parse().expect("a number of octets");
            }
        }
        count
    }
}

/// What tells flows apart in JSON: addresses, ports, protocol, class of service, ICMP type and code, tags.
pub(crate) type Identity = (IpAddr, IpAddr, [u64; 7]);

pub(crate) fn flows_of_json(json: &str, interface: &str) -> BTreeMap<Identity, FlowTotal> {
    let mut flows: BTreeMap<Identity, FlowTotal> = BTreeMap::new();
    for line in json.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let number = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("{line}: {name}"));
        let address = |name: &str| {
            let text = record[name].as_str().unwrap_or_default();
            text.parse().unwrap_or_else(|error| panic!("{line}: {name}: {error}"))
        };
        let numbers = [
            "source_port",
            "destination_port",
            "protocol_identifier",
            "ip_class_of_service",
            "icmp_type_code",
            "vlan_id",
            "dot1q_customer_vlan_id",
        ];
        let identity = (address("source_address"), address("destination_address"), numbers.map(number));
        let flow = flows.entry(identity).or_default();
        flow.packets += number("packet_delta_count");
        flow.octets += number("octet_delta_count");
        flow.tcp_control_bits |= number("tcp_control_bits") as u16;
        assert_eq!(record["ingress_interface_name"], interface, "{line}");
    }
    flows
}

/// The same of the parser's flows. Some of them are told apart by what JSON does not have.
pub(crate) fn flows_of(totals: &Totals) -> BTreeMap<Identity, FlowTotal> {
    const ICMP: [u8; 2] = [1, 58];
    let mut flows: BTreeMap<Identity, FlowTotal> = BTreeMap::new();
    for (words, total) in &totals.flows {
        let key: WideKey = Key(*words);
        let fields = key.fields();
        let [s0, s1, d0, d1] = fields.ports;
        let destination_port = u64::from(u16::from_be_bytes([d0, d1]));
        let (source, destination) = match key.addresses() {
            Addresses::Ipv4(source, destination) => {
                (IpAddr::V4(Ipv4Addr::from(source)), IpAddr::V4(Ipv4Addr::from(destination)))
            }
            Addresses::Ipv6(source, destination) => {
                (IpAddr::V6(Ipv6Addr::from(source)), IpAddr::V6(Ipv6Addr::from(destination)))
            }
        };
        let numbers = [
            u64::from(u16::from_be_bytes([s0, s1])),
            destination_port,
            u64::from(fields.protocol),
            u64::from(fields.class_of_service),
            if ICMP.contains(&fields.protocol) { destination_port } else { 0 },
            u64::from(fields.vlan_id),
            u64::from(fields.customer_vlan_id),
        ];
        let flow = flows.entry((source, destination, numbers)).or_default();
        flow.packets += total.packets;
        flow.octets += total.octets;
        flow.tcp_control_bits |= total.tcp_control_bits;
    }
    flows
}
