//! Network namespaces.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{panic, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tool::{output, require, tool};

/// A named network namespace; gone, with its interfaces, when the guard is.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace without IPv6, so that nobody but the test sends anything in it.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pathflow-test-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        output(tool("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        for which in ["all", "default"] {
            namespace.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6=1"));
        }
        output(namespace.command("ip").args(["link", "set", "lo", "up"]));
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A program of the system, to run in the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        require(program);
        self.enter(program)
    }

    /// A command that will run in the namespace. By `nsenter`, because `ip netns exec` mounts a `/sys`
    /// without the BPF file system. It becomes the program: its process id is the program's.
    pub(crate) fn enter(&self, program: &str) -> Command {
        let mut command = tool("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs `ip` with these words.
    pub(crate) fn ip(&self, words: &str) {
        output(self.command("ip").args(words.split(' ')));
    }

    pub(crate) fn sysctl(&self, setting: &str) {
        output(self.command("sysctl").args(["--quiet", "--write", setting]));
    }

    /// Runs `action` in a thread that is in the namespace, and waits for it. Sockets that it makes stay in
    /// the namespace.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path()).unwrap();
        let result = thread::scope(|scope| {
            scope
                .spawn(move || {
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                    action()
                })
                .join()
        });
        result.unwrap_or_else(|reason| panic::resume_unwind(reason))
    }

    /// What `ip -details -json link show` says of an interface.
    pub(crate) fn link(&self, interface: &str) -> serde_json::Value {
        let text = output(self.command("ip").args(["-details", "-json", "link", "show", "dev", interface]));
        let mut links: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        links.remove(0)
    }

    /// Name of the XDP program on an interface.
    pub(crate) fn xdp_program(&self, interface: &str) -> Option<String> {
        let id = self.link(interface)["xdp"]["prog"]["id"].as_u64()?;
        let text = output(tool("bpftool").args(["--json", "prog", "show", "id", &id.to_string()]));
        let program: serde_json::Value = serde_json::from_str(&text).unwrap();
        Some(program["name"].as_str().unwrap().to_owned())
    }

    /// Packets and octets that an interface has received.
    pub(crate) fn received(&self, interface: &str) -> (u64, u64) {
        self.statistics(interface, "rx")
    }

    /// Packets and octets that an interface has sent.
    pub(crate) fn sent(&self, interface: &str) -> (u64, u64) {
        self.statistics(interface, "tx")
    }

    fn statistics(&self, interface: &str, direction: &str) -> (u64, u64) {
        let text =
            output(self.command("ip").args(["-statistics", "-json", "link", "show", "dev", interface]));
        let links: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let counted = &links[0]["stats64"][direction];
        (counted["packets"].as_u64().unwrap(), counted["bytes"].as_u64().unwrap())
    }

    /// Sum of some of the kernel's UDP counters, IPv4 and IPv6, by their names in `/proc/net/snmp`.
    pub(crate) fn udp_counters(&self, names: &[&str]) -> u64 {
        // Of the thread, because it is a thread that is in the namespace.
        let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        let (ipv4, ipv6) = self.run(|| (read("snmp"), read("snmp6")));
        let mut rows = ipv4.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(str::split_whitespace);
        let (columns, values) = (rows.next().unwrap(), rows.next().unwrap());
        let ipv4 = columns.zip(values).filter(|(name, _)| names.contains(name));
        let ipv6 = ipv6
            .lines()
            .filter_map(|line| line.strip_prefix("Udp6")?.split_once(char::is_whitespace))
            .filter(|(name, _)| names.contains(name));
        ipv4.chain(ipv6).map(|(_, value)| value.trim().parse::<u64>().unwrap()).sum()
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the name shows whose the namespace was.
        _ = tool("ip").args(["netns", "delete", &self.name]).output();
    }
}
