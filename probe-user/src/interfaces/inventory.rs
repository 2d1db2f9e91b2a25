//! Interfaces of this network namespace, asked of the kernel by rtnetlink.
//!
//! Not by `/sys/class/net`: that shows the namespace in which `/sys` was mounted, which need not be ours.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, io};

use super::mac::MacAddress;
use super::rtnetlink::LinkQuery;

/// How a program is attached to XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// After the driver, on socket buffers.
    Generic,
    /// In the network card.
    Offloaded,
}

/// A program that is attached to XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// Where it runs.
    pub mode: XdpMode,
    /// Kernel's id of the program.
    pub program: u32,
}

/// Whether an interface carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Switched off (`ip link set down`).
    Down,
    /// Switched on, but the other end or the cable is not there.
    NoCarrier,
    /// In use.
    Up,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::NoCarrier => "up, without a carrier",
            Self::Up => "up",
        })
    }
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Kernel's interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Other names by which it can be found (`ip link property add altname`).
    pub alternative_names: Vec<String>,
    /// Description (`ip link set alias`, SNMP's ifAlias); empty if there is none.
    pub description: String,
    /// Link-layer type, `ARPHRD_...`.
    pub link_layer_type: u16,
    /// Kind of a virtual interface, such as `veth`, `bridge` or `vlan`; hardware has none.
    pub kind: Option<String>,
    /// Identifier of the VLAN, if it is the interface of one.
    pub vlan_id: Option<u16>,
    /// Hardware that it belongs to, such as the PCI address of a card.
    pub parent_device: Option<String>,
    /// Index of the bridge, bond or VRF that it is part of.
    pub master: Option<u32>,
    /// Index of the interface that it is tied to: what a VLAN is on, or a veth's other end.
    pub link: Option<u32>,
    /// Whether [`link`](Self::link) is an index in another network namespace.
    pub link_is_elsewhere: bool,
    /// `IFF_...`
    pub flags: u32,
    /// Largest packet, in octets.
    pub mtu: u32,
    /// MAC address, if it is an Ethernet interface.
    pub mac_address: Option<MacAddress>,
    /// Programs that were attached to XDP when the kernel was asked. It does not tell of later ones.
    pub xdp: Vec<AttachedXdp>,
    /// Receive queues at most.
    pub receive_queues: u32,
    /// Transmit queues at most.
    pub transmit_queues: u32,
}

impl Interface {
    /// Whether it is an Ethernet port, not something made of software.
    #[must_use]
    pub fn is_physical(&self) -> bool {
        self.link_layer_type == libc::ARPHRD_ETHER && self.kind.is_none() && !self.is_loopback()
    }

    /// Whether it is the loopback interface.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.has(libc::IFF_LOOPBACK)
    }

    /// Whether it carries packets.
    #[must_use]
    pub fn state(&self) -> LinkState {
        match (self.has(libc::IFF_UP), self.has(libc::IFF_RUNNING)) {
            (false, _) => LinkState::Down,
            (true, false) => LinkState::NoCarrier,
            (true, true) => LinkState::Up,
        }
    }

    /// Whether this is its name or one of its alternative names.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }

    /// Index of the interface below: what a VLAN, MACVLAN or the like sends through.
    #[must_use]
    pub fn lower(&self) -> Option<u32> {
        // The other end of a veth is beside it, not below.
        let is_pair = self.kind.as_deref() == Some("veth");
        self.link.filter(|index| *index != self.index && !is_pair && !self.link_is_elsewhere)
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag as u32 != 0
    }
}

/// Lists the interfaces, by index.
///
/// # Errors
/// If the kernel cannot be asked or its answer is not understood.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    LinkQuery::new()?.all()
}

/// Id of the XDP program on an interface.
#[must_use]
pub fn xdp_program_id(index: u32) -> Option<u32> {
    let interface = LinkQuery::new().and_then(|mut query| query.one(index)).ok()?;
    interface.xdp.first().map(|attached| attached.program)
}

/// Pairs of captured interfaces that see the same packets, upper one first: a bridge or bond and a port of it,
/// a VLAN and what it is on. To capture on both counts packets twice.
#[must_use]
pub fn overlaps(
    all: &[Interface],
    is_captured: impl Fn(&Interface) -> bool,
) -> Vec<(&Interface, &Interface)> {
    let mut uppers: BTreeMap<u32, Vec<&Interface>> = BTreeMap::new();
    let by_index: BTreeMap<u32, &Interface> = all.iter().map(|link| (link.index, link)).collect();
    for interface in all {
        if let Some(lower) = interface.lower() {
            uppers.entry(lower).or_default().push(interface);
        }
        if let Some(&master) = interface.master.and_then(|master| by_index.get(&master)) {
            uppers.entry(interface.index).or_default().push(master);
        }
    }
    let mut pairs = Vec::new();
    for lower in all.iter().filter(|interface| is_captured(interface)) {
        let (mut seen, mut next) = (BTreeSet::from([lower.index]), vec![lower.index]);
        while let Some(index) = next.pop() {
            for &upper in uppers.get(&index).into_iter().flatten() {
                if seen.insert(upper.index) {
                    next.push(upper.index);
                    if is_captured(upper) {
                        pairs.push((upper, lower));
                    }
                }
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed() {
        let interfaces = interfaces().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!(loopback.index, 1);
        assert_eq!(loopback.xdp, []);
        assert!(loopback.is_loopback() && !loopback.is_physical());
        assert_eq!(xdp_program_id(1), None);
        assert_eq!(xdp_program_id(u32::MAX >> 1), None);
    }

    #[test]
    fn only_ethernet_without_a_kind_is_physical() {
        let ethernet = Interface { link_layer_type: libc::ARPHRD_ETHER, ..Interface::default() };
        assert!(ethernet.is_physical());
        assert!(!Interface { kind: Some("veth".to_owned()), ..ethernet.clone() }.is_physical());
        assert!(!Interface { flags: libc::IFF_LOOPBACK as u32, ..ethernet.clone() }.is_physical());
        assert!(!Interface { link_layer_type: libc::ARPHRD_PPP, ..ethernet }.is_physical());
    }

    #[test]
    fn the_state_is_that_of_the_flags() {
        let state = |flags: i32| Interface { flags: flags as u32, ..Interface::default() }.state();
        assert_eq!(state(0), LinkState::Down);
        assert_eq!(state(libc::IFF_RUNNING), LinkState::Down);
        assert_eq!(state(libc::IFF_UP), LinkState::NoCarrier);
        assert_eq!(state(libc::IFF_UP | libc::IFF_RUNNING), LinkState::Up);
    }

    #[test]
    fn packets_that_would_be_counted_twice_are_found_through_what_is_between() {
        let link = |index, name: &str, kind: &str, lower, master| Interface {
            index,
            name: name.to_owned(),
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            link: lower,
            master,
            ..Interface::default()
        };
        let all = [
            link(1, "eth0", "", None, Some(3)),
            link(2, "eth1", "", None, Some(3)),
            link(3, "bond0", "bond", None, None),
            link(4, "bond0.7", "vlan", Some(3), None),
            link(5, "veth0", "veth", Some(6), None),
            link(6, "veth1", "veth", Some(5), None),
        ];
        let found = |names: &[&str]| {
            let pairs = overlaps(&all, |interface| names.contains(&interface.name.as_str()));
            let mut names: Vec<String> =
                pairs.iter().map(|(upper, lower)| format!("{}>{}", upper.name, lower.name)).collect();
            names.sort();
            names
        };
        assert_eq!(found(&["eth0", "eth1", "veth0", "veth1"]), [""; 0]);
        assert_eq!(found(&["eth0", "bond0.7", "veth0"]), ["bond0.7>eth0"]);
        assert_eq!(found(&["eth1", "bond0", "bond0.7"]), ["bond0.7>bond0", "bond0.7>eth1", "bond0>eth1"]);
    }
}
