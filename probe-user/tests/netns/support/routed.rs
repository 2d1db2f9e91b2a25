//! A router between two hosts, each in a namespace; everybody knows everybody's hardware address.
//!
//! ```text
//! client                          router                          server
//! to-left ------------------- left      right ------------------- to-right
//! 198.51.100.1    198.51.100.254          203.0.113.254      203.0.113.1
//! 2001:db8:1::1   2001:db8:1::fe          2001:db8:2::fe     2001:db8:2::1
//! ```

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::Value;

use super::namespace::Namespace;
use super::network::join;
use super::process::Process;
use super::tool::output;
use super::wait_for;

/// The client's interface.
pub(crate) const TO_LEFT: &str = "to-left";
/// The router's interface towards the client.
pub(crate) const LEFT: &str = "left";
/// The router's interface towards the server.
pub(crate) const RIGHT: &str = "right";
/// The server's interface.
pub(crate) const TO_RIGHT: &str = "to-right";
/// The client.
pub(crate) const CLIENT: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
/// The router on the client's side.
pub(crate) const ROUTER_LEFT: [&str; 2] = ["198.51.100.254", "2001:db8:1::fe"];
/// The router on the server's side.
pub(crate) const ROUTER_RIGHT: [&str; 2] = ["203.0.113.254", "2001:db8:2::fe"];
/// The server.
pub(crate) const SERVER: [&str; 2] = ["203.0.113.1", "2001:db8:2::1"];
/// Where `iperf3` listens.
pub(crate) const IPERF: u16 = 5201;

const PREFIX_LENGTHS: [u8; 2] = [24, 64];

/// The three namespaces. Nothing but the test sends anything but for multicast of IPv6 at the start.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) client: Namespace,
    pub(crate) router: Namespace,
    pub(crate) server: Namespace,
}

impl Routed {
    pub(crate) fn new() -> Self {
        let routed = Self { client: Namespace::new(), router: Namespace::new(), server: Namespace::new() };
        let Self { client, router, server } = &routed;
        join((client, TO_LEFT), (router, LEFT));
        join((router, RIGHT), (server, TO_RIGHT));
        router.sysctl("net.ipv4.ip_forward=1");
        router.sysctl("net.ipv6.conf.all.forwarding=1");
        for (namespace, interface, own) in [
            (client, TO_LEFT, CLIENT),
            (router, LEFT, ROUTER_LEFT),
            (router, RIGHT, ROUTER_RIGHT),
            (server, TO_RIGHT, SERVER),
        ] {
            for setting in ["router_solicitations=0", "accept_ra=0", "disable_ipv6=0"] {
                namespace.sysctl(&format!("net.ipv6.conf.{interface}.{setting}"));
            }
            for (address, length) in own.into_iter().zip(PREFIX_LENGTHS) {
                namespace.add_address(interface, address.parse().unwrap(), length);
            }
        }
        for (namespace, interface, other, peer) in [
            (client, TO_LEFT, ROUTER_LEFT, router.link(LEFT)),
            (router, LEFT, CLIENT, client.link(TO_LEFT)),
            (router, RIGHT, SERVER, server.link(TO_RIGHT)),
            (server, TO_RIGHT, ROUTER_RIGHT, router.link(RIGHT)),
        ] {
            for address in other {
                add_neighbour(namespace, interface, address, &peer);
            }
        }
        for (namespace, gateway) in [(client, ROUTER_LEFT), (server, ROUTER_RIGHT)] {
            for address in gateway {
                namespace.ip(&format!("route add default via {address}"));
            }
        }
        routed
    }

    /// Sends datagrams of `octets` of payload, one after the other, from `sender` to an address and port.
    pub(crate) fn send(sender: &Namespace, to: (&str, u16), octets: usize, count: u64) {
        let to = SocketAddr::new(to.0.parse().unwrap(), to.1);
        let from: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        // Not connected: what comes back does not concern it.
        let socket = sender.run(|| UdpSocket::bind((from, 0)).unwrap());
        for _ in 0..count {
            assert_eq!(socket.send_to(&vec![0; octets], to).unwrap(), octets);
        }
    }

    /// Transfers `octets` from client to server by TCP, and returns what `iperf3` says of it.
    pub(crate) fn transfer(&self, to: &str, octets: u64) -> Value {
        let mut command = self.server.command("iperf3");
        command
            .args(["--server", "--one-off", "--port", &IPERF.to_string()])
            .stdout(std::process::Stdio::null());
        let mut server = Process::start(&mut command);
        wait_for("iperf3 listens", || server.errors(), || self.server.listens(IPERF).then_some(()));
        let mut command = self.client.command("iperf3");
        command.args([
            "--client",
            to,
            "--port",
            &IPERF.to_string(),
            "--bytes",
            &octets.to_string(),
            "--json",
        ]);
        let said = serde_json::from_str(&output(&mut command)).unwrap();
        server.wait();
        said
    }
}

/// Tells an interface of the hardware address of somebody on its link.
pub(crate) fn add_neighbour(namespace: &Namespace, interface: &str, address: &str, peer: &Value) {
    let mac_address = peer["address"].as_str().unwrap();
    namespace.ip(&format!("neighbour add {address} lladdr {mac_address} dev {interface} nud permanent"));
}

impl Namespace {
    /// Whether a program listens on a TCP port.
    fn listens(&self, port: u16) -> bool {
        let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        let tables = self.run(|| read("tcp") + &read("tcp6"));
        let port = format!(":{port:04X}");
        tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
            matches!(columns[..], [_, local, _, state, ..] if local.ends_with(&port) && state == "0A")
        })
    }
}
