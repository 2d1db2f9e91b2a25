//! Rules of the operator about records: whose routes they are looked up in, and from which AS they come in.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::IpNet;
use pathflow_exporter::{FlowDirection, FlowRecord};

use crate::export::IpVersion;
use crate::interfaces::{InterfaceNames, MacAddress, NamePattern};

/// How the operator names a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerReference {
    /// By the address of its sessions, or else by its BGP Identifier.
    Address(IpAddr),
    /// By the name that was given to it.
    Name(String),
}

impl From<&str> for PeerReference {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Address)
    }
}

/// Which BGP peer's routes are for which records; the first rule that is true of a record counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRule {
    /// The peer.
    pub peer: PeerReference,
    /// Version of the record's addresses.
    pub ip_version: Option<IpVersion>,
    /// Networks of which one holds source or destination; empty = any.
    pub networks: Vec<IpNet>,
    /// Interfaces where the flow was seen; empty = any.
    pub interfaces: Vec<NamePattern>,
}

impl AgentRule {
    /// Whether it is true of this record. `seen_at` are the numbers of its interfaces.
    #[must_use]
    pub fn is_for(&self, record: &FlowRecord, seen_at: &HashSet<u32>) -> bool {
        let interface = match record.flow_direction {
            FlowDirection::Ingress => record.ingress_interface,
            FlowDirection::Egress => record.egress_interface,
        };
        let version = if record.source_address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
        let addresses = [record.source_address, record.destination_address];
        self.ip_version.is_none_or(|wanted| wanted == version)
            && (self.interfaces.is_empty() || seen_at.contains(&interface))
            && (self.networks.is_empty()
                || addresses
                    .iter()
                    .any(|address| self.networks.iter().any(|network| network.contains(address))))
    }
}

/// From which AS traffic comes in; the first rule that is true of a record counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSourceRule {
    /// Interfaces at which it comes in; empty = any.
    pub interfaces: Vec<NamePattern>,
    /// MAC addresses of neighbours that send it; empty = any.
    pub macs: Vec<MacAddress>,
    /// BGP next hop of the route to its source; `None` = any.
    pub next_hop: Option<IpAddr>,
    /// The AS; `None` = as the route to its source says.
    pub as_number: Option<u32>,
}

impl PeerSourceRule {
    /// Whether it is true of a record whose source has a route with this next hop. `comes_in_at` are the numbers of its
    /// interfaces.
    #[must_use]
    pub fn is_for(&self, record: &FlowRecord, next_hop: Option<IpAddr>, comes_in_at: &HashSet<u32>) -> bool {
        (self.interfaces.is_empty() || comes_in_at.contains(&record.ingress_interface))
            && (self.macs.is_empty() || self.macs.contains(&MacAddress(record.source_mac_address)))
            && (self.next_hop.is_none() || self.next_hop == next_hop)
    }
}

/// The interfaces of many rules, by their numbers. Those that are gone stay known, as flows of theirs may be in the
/// cache.
#[derive(Debug, Default)]
pub struct InterfaceSets {
    names: Arc<InterfaceNames>,
    sets: Vec<HashSet<u32>>,
}

impl InterfaceSets {
    /// No interface is known.
    #[must_use]
    pub fn new(rules: usize) -> Self {
        Self { names: Arc::default(), sets: vec![HashSet::new(); rules] }
    }

    /// The interfaces that there are now. Costs nothing if they are the same as before.
    pub fn set_names<'p>(
        &mut self,
        names: &Arc<InterfaceNames>,
        rules: impl Iterator<Item = &'p [NamePattern]>,
    ) {
        if Arc::ptr_eq(&self.names, names) {
            return;
        }
        self.names = Arc::clone(names);
        for (patterns, set) in rules.zip(&mut self.sets) {
            let meant = names
                .iter()
                .filter(|interface| patterns.iter().any(|pattern| pattern.matches_name(&interface.name)));
            set.extend(meant.map(|interface| interface.number));
        }
    }

    /// With the numbers of each rule's interfaces.
    pub fn iter(&self) -> impl Iterator<Item = &HashSet<u32>> {
        self.sets.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::interfaces::{Interface, InterfaceRules, NameTable};

    const PEER: PeerReference = PeerReference::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn record(source: &str, destination: &str) -> FlowRecord {
        FlowRecord::between(source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn a_rule_without_conditions_is_for_every_record() {
        let rule = AgentRule { ip_version: None, networks: vec![], interfaces: vec![], peer: PEER };
        assert!(rule.is_for(&record("192.0.2.1", "192.0.2.2"), &HashSet::new()));
        assert!(rule.is_for(&record("2001:db8::1", "2001:db8::2"), &HashSet::new()));
    }

    #[test]
    fn family_network_and_interface_have_to_be_true_together() {
        let rule = AgentRule {
            peer: PEER,
            ip_version: Some(IpVersion::V4),
            networks: vec!["198.51.100.0/24".parse().unwrap()],
            interfaces: vec!["eth*".parse().unwrap()],
        };
        let seen_at = HashSet::from_iter([7]);
        let good = FlowRecord { ingress_interface: 7, ..record("192.0.2.1", "198.51.100.9") };
        assert!(rule.is_for(&good, &seen_at));
        let back = FlowRecord {
            flow_direction: FlowDirection::Egress,
            egress_interface: 7,
            ..record("198.51.100.9", "192.0.2.1")
        };
        assert!(rule.is_for(&back, &seen_at));
        assert!(!rule.is_for(&FlowRecord { ingress_interface: 8, ..good.clone() }, &seen_at));
        assert!(
            !rule.is_for(&FlowRecord { ingress_interface: 7, ..record("192.0.2.1", "192.0.2.2") }, &seen_at)
        );
        let ipv6 = FlowRecord { ingress_interface: 7, ..record("2001:db8::1", "2001:db8::2") };
        assert!(!AgentRule { networks: vec![], ..rule }.is_for(&ipv6, &seen_at));
    }

    #[test]
    fn the_source_peer_is_found_by_where_traffic_comes_in_and_from_whom() {
        let next_hop: Option<IpAddr> = Some("192.0.2.9".parse().unwrap());
        let by_interface = PeerSourceRule {
            interfaces: vec!["eth1".parse().unwrap()],
            as_number: Some(1),
            ..PeerSourceRule::default()
        };
        let by_next_hop = PeerSourceRule { next_hop, as_number: Some(2), ..PeerSourceRule::default() };
        // Also of what is seen when it goes out.
        let seen = FlowRecord {
            ingress_interface: 3,
            egress_interface: 4,
            flow_direction: FlowDirection::Egress,
            ..record("192.0.2.1", "198.51.100.9")
        };
        assert!(by_interface.is_for(&seen, None, &HashSet::from_iter([3])));
        assert!(!by_interface.is_for(&seen, None, &HashSet::from_iter([4])));
        assert!(by_next_hop.is_for(&seen, next_hop, &HashSet::new()));
        assert!(!by_next_hop.is_for(&seen, None, &HashSet::new()));
        let macs = vec!["02:00:5e:00:53:01".parse().unwrap()];
        let by_mac = PeerSourceRule { macs, as_number: Some(3), ..PeerSourceRule::default() };
        let sent = |last| FlowRecord { source_mac_address: [2, 0, 0x5e, 0, 0x53, last], ..seen.clone() };
        assert!(by_mac.is_for(&sent(1), None, &HashSet::new()));
        assert!(!by_mac.is_for(&sent(2), None, &HashSet::new()));
    }

    #[test]
    fn interfaces_are_known_by_the_operators_numbers_and_stay_known() {
        let table = NameTable::default();
        let interface =
            |index, name: &str| Interface { index, name: name.to_owned(), ..Interface::default() };
        table.update(&[interface(3, "eth0"), interface(4, "lo")], &InterfaceRules::default());
        let rules: [&[NamePattern]; 2] = [&["eth*".parse().unwrap()], &["lo".parse().unwrap()]];
        let mut sets = InterfaceSets::new(2);
        sets.set_names(&table.load(), rules.into_iter());
        let numbers = |sets: &InterfaceSets| -> Vec<Vec<u32>> {
            sets.iter()
                .map(|set| {
                    let mut numbers: Vec<u32> = set.iter().copied().collect();
                    numbers.sort_unstable();
                    numbers
                })
                .collect()
        };
        assert_eq!(numbers(&sets), [[3], [4]]);
        table.update(&[interface(5, "eth1")], &InterfaceRules::default());
        sets.set_names(&table.load(), rules.into_iter());
        assert_eq!(numbers(&sets), [vec![3, 5], vec![4]]);
    }
}
