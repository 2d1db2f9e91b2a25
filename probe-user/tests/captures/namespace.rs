//! Two network namespaces with a veth pair between them, gone when their guard is.

use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// Interface that sends.
pub(crate) const SENDER: &str = "veth-a";
/// Interface that receives.
pub(crate) const RECEIVER: &str = "veth-b";

/// The sending and the receiving namespace, in which nobody but the test sends anything.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) sender: Namespace,
    pub(crate) receiver: Namespace,
}

impl Pair {
    /// Makes both and joins them by interfaces with this MTU.
    ///
    /// # Panics
    /// If that fails: not root, or no such program.
    pub(crate) fn new(mtu: usize) -> Self {
        let pair = Self { sender: Namespace::new("sender"), receiver: Namespace::new("receiver") };
        let (sender, receiver) = (&pair.sender.name, &pair.receiver.name);
        let mut add = Command::new("ip");
        add.args(["link", "add", SENDER, "netns", sender, "type", "veth"]);
        run(add.args(["peer", "name", RECEIVER, "netns", receiver]));
        for (namespace, interface) in [(&pair.sender, SENDER), (&pair.receiver, RECEIVER)] {
            let mtu = mtu.to_string();
            run(namespace.command("ip").args(["link", "set", interface, "mtu", &mtu, "arp", "off", "up"]));
        }
        pair
    }
}

/// A named network namespace without IPv6 of its own.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pathflow-captures-{role}-{}-{number}", process::id());
        run(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        // Neighbour discovery and router solicitation would add frames of the kernel's own.
        for which in ["all", "default"] {
            let setting = format!("net.ipv6.conf.{which}.disable_ipv6=1");
            run(namespace.command("sysctl").args(["--quiet", "--write", &setting]));
        }
        namespace
    }

    /// A command that will run in the namespace. Unlike with `ip netns exec`, the BPF file system stays.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the name shows whose the namespace was.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs root; {command:?}: {message}");
}
