//! The network of a test: a sender, the router with the probe, and a collector, each in a namespace.
//!
//! ```text
//! sender                     router                      collector
//! veth-send ------------- veth-in   veth-out ------------- veth-collect
//! 198.51.100.1      198.51.100.2    192.0.2.1                 192.0.2.2
//!                                   2001:db8::1             2001:db8::2
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::Value;

use super::namespace::Namespace;
use super::temp_dir::TempDir;
use super::tool::{output, tool};
use super::wait_for;

/// Interface of the sender.
pub(crate) const SENDER: &str = "veth-send";
/// Interface that the probe captures on.
pub(crate) const CAPTURED: &str = "veth-in";
/// Interface of the router towards the collector.
pub(crate) const EXPORTING: &str = "veth-out";
/// Interface of the collector.
pub(crate) const COLLECTING: &str = "veth-collect";
/// Address of the sender.
pub(crate) const SENDER_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Address of the router on the captured interface.
pub(crate) const ROUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Where the collector listens, IPv4: the IPFIX port, for the tests that of `NetFlow` v9 as well.
pub(crate) const COLLECTOR_IPV4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 4739);
/// Where the collector listens, IPv6.
pub(crate) const COLLECTOR_IPV6: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), 4739);

/// Where the collector of sFlow listens.
pub(crate) const COLLECTOR_SFLOW: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 6343);

/// Of the kernel's packet filter, at the collector.
const TABLE: &str = "arrivals";

/// Three namespaces in a row. Nothing but the test sends through the captured interface.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) sender: Namespace,
    pub(crate) router: Namespace,
    pub(crate) collector: Namespace,
}

impl Network {
    pub(crate) fn new() -> Self {
        let network =
            Self { sender: Namespace::new(), router: Namespace::new(), collector: Namespace::new() };
        let Self { sender, router, collector } = &network;
        join((sender, SENDER), (router, CAPTURED));
        // As good as ARP, but without frames that would be captured.
        for (namespace, interface, own, other, peer) in [
            (sender, SENDER, SENDER_ADDRESS, ROUTER_ADDRESS, router.link(CAPTURED)),
            (router, CAPTURED, ROUTER_ADDRESS, SENDER_ADDRESS, sender.link(SENDER)),
        ] {
            namespace.add_address(interface, own.into(), 24);
            let mac_address = peer["address"].as_str().unwrap();
            let (other, neighbour) = (other.to_string(), ["neighbour", "add"]);
            let arguments = ["lladdr", mac_address, "dev", interface, "nud", "permanent"];
            output(namespace.command("ip").args(neighbour).arg(other).args(arguments));
        }

        join((router, EXPORTING), (collector, COLLECTING));
        // Datagrams that leave together are cut before the wire, as a network card does: a veth would hand them over in
        // one piece, which no capture can read.
        output(router.command("ethtool").args(["--offload", EXPORTING, "tx-udp-segmentation", "off"]));
        // Nobody has an address yet, so nothing has been sent.
        network.count_arrivals();
        for (namespace, interface, host) in [(router, EXPORTING, 1), (collector, COLLECTING, 2)] {
            namespace.sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6=0"));
            namespace.add_address(interface, Ipv4Addr::new(192, 0, 2, host).into(), 24);
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into());
            namespace.add_address(interface, address.into(), 64);
        }
        network
    }

    /// Adds another pair of interfaces between sender and router.
    pub(crate) fn add_captured_link(&self, sending: &str, captured: &str) {
        join((&self.sender, sending), (&self.router, captured));
    }

    /// Has the kernel count what comes to the collector; see [`arrived`](Self::arrived).
    fn count_arrivals(&self) {
        let rules = format!(
            "table netdev {TABLE} {{
                 counter frames {{ }}
                 counter firewalled {{ }}
                 counter datagrams {{ }}
                 chain firewall {{ }}
                 chain arrivals {{
                     type filter hook ingress device {COLLECTING} priority 0;
                     counter name frames
                     jump firewall
                     meta l4proto udp counter name datagrams
                 }}
             }}"
        );
        let directory = TempDir::new();
        let file = directory.file("rules.nft");
        fs::write(&file, rules).unwrap();
        output(self.collector.command("nft").arg("-f").arg(file));
    }

    /// A firewall before the collector that drops UDP to this port without a word, from now on.
    pub(crate) fn firewall(&self, port: u16) {
        let rule = ["add", "rule", "netdev", TABLE, "firewall", "udp", "dport"];
        let mut command = self.collector.command("nft");
        output(command.args(rule).args([&port.to_string(), "counter", "name", "firewalled", "drop"]));
    }

    /// The firewall lets everything pass again. Returns how many datagrams it has dropped.
    pub(crate) fn open_firewall(&self) -> u64 {
        self.wait_for_arrival();
        output(self.collector.command("nft").args(["flush", "chain", "netdev", TABLE, "firewall"]));
        self.arrived("firewalled")
    }

    /// Datagrams that the router has sent and no firewall has dropped.
    pub(crate) fn datagrams_sent(&self) -> u64 {
        self.wait_for_arrival();
        self.arrived("datagrams")
    }

    /// Waits until nothing is on its way from the router.
    fn wait_for_arrival(&self) {
        let counted = || (self.arrived("frames"), self.router.sent(EXPORTING).0);
        wait_for(
            "frames arrive",
            || format!("{:?}", counted()),
            || {
                let (arrived, sent) = counted();
                (arrived >= sent).then_some(())
            },
        );
    }

    fn arrived(&self, counter: &str) -> u64 {
        let mut command = self.collector.command("nft");
        let text = output(command.args(["--json", "list", "counter", "netdev", TABLE, counter]));
        let list: Value = serde_json::from_str(&text).unwrap();
        let found =
            list["nftables"].as_array().unwrap().iter().find_map(|item| item["counter"]["packets"].as_u64());
        found.unwrap_or_else(|| panic!("{text}"))
    }

    /// Waits until whatever came through to the collector is read by a program of the collector's, or counted as
    /// refused or dropped there.
    pub(crate) fn wait_until_read(&self) {
        let sent = self.datagrams_sent();
        let read = || self.collector.udp_counters(&["InDatagrams", "NoPorts", "InErrors"]);
        wait_for("datagrams are read", || format!("{} of {sent}", read()), || (read() >= sent).then_some(()));
    }
}

impl Namespace {
    pub(crate) fn add_address(&self, interface: &str, address: IpAddr, prefix_length: u8) {
        let mut command = self.command("ip");
        command.args(["address", "add", &format!("{address}/{prefix_length}"), "dev", interface]);
        if address.is_ipv6() {
            // Usable at once: nobody else has it.
            command.arg("nodad");
        }
        output(&mut command);
    }
}

/// Joins two namespaces by a veth pair and sets both ends up.
pub(crate) fn join((left, left_name): (&Namespace, &str), (right, right_name): (&Namespace, &str)) {
    let mut command = tool("ip");
    command.args(["link", "add", left_name, "netns", left.name(), "type", "veth"]);
    output(command.args(["peer", "name", right_name, "netns", right.name()]));
    for (namespace, interface) in [(left, left_name), (right, right_name)] {
        output(namespace.command("ip").args(["link", "set", interface, "up"]));
    }
}
