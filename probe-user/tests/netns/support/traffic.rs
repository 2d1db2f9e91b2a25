//! Generated traffic: exact numbers of packets in exact numbers of flows.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::namespace::Namespace;
use super::network::SENDER;
use super::process::Process;
use super::tool::output;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) flows: u32,
    /// Each packet in a random flow, instead of one flow after the other.
    pub(crate) random: bool,
    pub(crate) ipv6: bool,
    pub(crate) vlan_id: Option<u16>,
    /// Length of a frame in octets, without its check sequence.
    pub(crate) frame_octets: u64,
    /// Packets per second; as fast as possible without.
    pub(crate) rate: Option<u32>,
    /// Interface to send out of.
    pub(crate) interface: &'static str,
    /// CPU to send on, which chooses among the RX queues of a veth.
    pub(crate) cpu: Option<u32>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            packets: 1000,
            flows: 10,
            random: false,
            ipv6: false,
            vlan_id: None,
            frame_octets: 64,
            rate: None,
            interface: SENDER,
            cpu: None,
        }
    }
}

impl Traffic {
    /// Layer 3 octets of all packets.
    pub(crate) fn octets(&self) -> u64 {
        self.packets * (self.frame_octets - 14 - self.vlan_id.map_or(0, |_| 4))
    }

    /// Sends it all from `sender`, and makes sure that the interface took it all. A veth takes no frame if
    /// its peer has no XDP program, so this must not be called before the probe captures.
    pub(crate) fn send(&self, sender: &Namespace) {
        let sent: Value = serde_json::from_str(&output(&mut self.command(sender))).unwrap();
        assert_eq!(sent["packets"], self.packets, "{sent}");
        assert_eq!(sent["missing_packets"], 0, "{sent}");
        assert_eq!(sent["interface_sent_packets"], self.packets, "{sent}");
    }

    /// Begins to send; what is not sent yet when the guard goes is not sent.
    pub(crate) fn start(&self, sender: &Namespace) -> Process {
        Process::start(self.command(sender).stdout(File::create("/dev/null").unwrap()))
    }

    fn command(&self, sender: &Namespace) -> Command {
        let mut command = sender.enter(generator().to_str().unwrap());
        command.args(["--json", "--interface", self.interface]);
        command.args(["--packets", &self.packets.to_string(), "--flows", &self.flows.to_string()]);
        command.args(["--frame-octets", &self.frame_octets.to_string()]);
        if self.random {
            command.arg("--random");
        }
        if self.ipv6 {
            command.arg("--ipv6");
        }
        if let Some(vlan_id) = self.vlan_id {
            command.args(["--vlan", &vlan_id.to_string()]);
        }
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if let Some(cpu) = self.cpu {
            command.args(["--cpu", &cpu.to_string()]);
        }
        command
    }
}

/// Sends the frames of a capture file from `sender`, which must be `frames` many.
pub(crate) fn replay(sender: &Namespace, capture: &Path, frames: usize) {
    replayed(
        sender.command("tcpreplay").args(["--quiet", "--topspeed", "--intf1", SENDER]).arg(capture),
        frames,
    );
}

/// As [`replay`], by a program that runs on one CPU.
pub(crate) fn replay_on(cpu: u32, sender: &Namespace, capture: &Path, frames: usize) {
    let mut command = sender.command("taskset");
    command.args(["--cpu-list", &cpu.to_string()]);
    replayed(command.args(["tcpreplay", "--quiet", "--topspeed", "--intf1", SENDER]).arg(capture), frames);
}

/// Sends the frames out of an interface, no faster than a busy machine keeps up with.
pub(crate) fn replay_slowly((sender, interface): (&Namespace, &str), capture: &Path, frames: usize) {
    let mut command = sender.command("tcpreplay");
    replayed(command.args(["--quiet", "--pps", "5000", "--intf1", interface]).arg(capture), frames);
}

fn replayed(command: &mut Command, frames: usize) {
    let text = output(command);
    let sent = text.lines().find_map(|line| line.trim().strip_prefix("Successful packets:"));
    assert_eq!(sent.map(str::trim), Some(frames.to_string().as_str()), "{text}");
}

fn generator() -> PathBuf {
    let path = env::var_os("PATHFLOW_TRAFFICGEN").map_or_else(
        || {
            let profile = Path::new(env!("CARGO_BIN_EXE_pathflow")).parent();
            profile.and_then(Path::parent).unwrap().join("release/pathflow-trafficgen")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing; build it: cargo build --release -p pathflow-perf",
        path.display()
    );
    path
}
