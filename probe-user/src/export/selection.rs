//! Which records a sink is for: what the operator wants of an export, and the share of one collector of several.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;
use pathflow_exporter::{FlowDirection, FlowRecord, ObservationContext};

use crate::interfaces::NamePattern;

/// The hash by which flows are shared out is the same in every run, so that a flow stays with its collector.
const SHARE_SEED: u64 = 0;

/// The versions of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What has to be true of a record. Of a list, one entry has to be; an absent condition is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Version of its addresses.
    pub ip_version: Option<IpVersion>,
    /// Networks of which one holds its source or its destination.
    pub networks: Vec<IpNet>,
    /// Protocol numbers.
    pub protocols: Vec<u8>,
    /// Interfaces where it was seen.
    pub interfaces: Vec<NamePattern>,
    /// Direction in which it was seen there.
    pub direction: Option<FlowDirection>,
    /// Number of the filter that its packets match: the bit of [`FlowRecord::filter_results`].
    pub filter: Option<u8>,
}

/// One of several shares of all flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which, from 0.
    pub number: u64,
    /// Of how many; not 0.
    pub of: u64,
}

impl Share {
    /// Whether the flow of the record is in it. Both directions of a conversation are in the same share.
    fn holds(self, record: &FlowRecord) -> bool {
        let source = (record.source_address, record.source_port);
        let destination = (record.destination_address, record.destination_port);
        // The port field of ICMP is type and code, and those of a reply are others.
        let is_icmp = matches!(record.protocol_identifier, 1 | 58);
        let ports = |end: (IpAddr, u16)| if is_icmp { (end.0, 0) } else { end };
        let (one, other) = (ports(source), ports(destination));
        let ends = if one <= other { (one, other) } else { (other, one) };
        let hash = FixedState::with_seed(SHARE_SEED).hash_one((ends, record.protocol_identifier));
        hash % self.of == self.number
    }
}

/// Which records a sink is for.
#[derive(Clone, Debug, Default)]
pub struct RecordSelection {
    conditions: Conditions,
    share: Option<Share>,
    /// Numbers of the interfaces that the conditions mean.
    interfaces: HashSet<u32>,
}

impl RecordSelection {
    /// Records of `share` that `conditions` are true of.
    #[must_use]
    pub fn new(conditions: Conditions, share: Option<Share>) -> Self {
        Self { conditions, share, interfaces: HashSet::new() }
    }

    /// Whether it selects every record, whatever it is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.share.is_none() && self.conditions == Conditions::default()
    }

    /// The interfaces that there are now.
    pub fn set_context(&mut self, context: &ObservationContext) {
        let patterns = &self.conditions.interfaces;
        if patterns.is_empty() {
            return;
        }
        let meant = context
            .interfaces
            .iter()
            .filter(|interface| patterns.iter().any(|pattern| pattern.matches_name(&interface.name)));
        // One that is gone may still have flows in the cache.
        self.interfaces.extend(meant.map(|interface| interface.index));
    }

    /// Whether the sink is to have this record.
    #[must_use]
    pub fn selects(&self, record: &FlowRecord) -> bool {
        let Conditions { ip_version, networks, protocols, interfaces, direction, filter } = &self.conditions;
        let version = if record.source_address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
        let seen_at = match record.flow_direction {
            FlowDirection::Ingress => record.ingress_interface,
            FlowDirection::Egress => record.egress_interface,
        };
        let addresses = [record.source_address, record.destination_address];
        ip_version.is_none_or(|wanted| wanted == version)
            && filter.is_none_or(|bit| record.filter_results >> bit & 1 != 0)
            && direction.is_none_or(|wanted| wanted == record.flow_direction)
            && (protocols.is_empty() || protocols.contains(&record.protocol_identifier))
            && (interfaces.is_empty() || self.interfaces.contains(&seen_at))
            && (networks.is_empty()
                || addresses.iter().any(|address| networks.iter().any(|network| network.contains(address))))
            && self.share.is_none_or(|share| share.holds(record))
    }
}

#[cfg(test)]
mod tests {
    use pathflow_exporter::InterfaceInfo;

    use super::*;

    fn record(source: &str, destination: &str) -> FlowRecord {
        FlowRecord::between(source.parse().unwrap(), destination.parse().unwrap())
    }

    fn only(conditions: Conditions) -> RecordSelection {
        RecordSelection::new(conditions, None)
    }

    #[test]
    fn without_conditions_every_record_is_selected() {
        assert!(RecordSelection::default().is_everything());
        assert!(RecordSelection::default().selects(&record("192.0.2.1", "192.0.2.2")));
        assert!(!only(Conditions { protocols: vec![6], ..Conditions::default() }).is_everything());
    }

    #[test]
    fn one_entry_of_a_list_and_every_condition_has_to_be_true() {
        let selection = only(Conditions {
            ip_version: Some(IpVersion::V4),
            networks: vec!["198.51.100.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
            protocols: vec![6, 17],
            direction: Some(FlowDirection::Egress),
            ..Conditions::default()
        });
        let good = FlowRecord {
            protocol_identifier: 17,
            flow_direction: FlowDirection::Egress,
            ..record("192.0.2.1", "203.0.113.7")
        };
        assert!(selection.selects(&good));
        assert!(!selection.selects(&FlowRecord { protocol_identifier: 1, ..good.clone() }));
        assert!(!selection.selects(&FlowRecord { flow_direction: FlowDirection::Ingress, ..good.clone() }));
        let elsewhere = "192.0.2.2".parse().unwrap();
        assert!(!selection.selects(&FlowRecord { destination_address: elsewhere, ..good.clone() }));
        let (source_address, destination_address) = (good.destination_address, good.source_address);
        assert!(selection.selects(&FlowRecord { source_address, destination_address, ..good }));
        let ipv6 = FlowRecord { protocol_identifier: 6, ..record("2001:db8::1", "2001:db8::2") };
        assert!(!selection.selects(&ipv6));
        let all_of_ipv6 = Conditions { ip_version: Some(IpVersion::V6), ..Conditions::default() };
        assert!(only(all_of_ipv6).selects(&ipv6));
    }

    #[test]
    fn the_interface_is_where_the_flow_was_seen_and_stays_known() {
        let mut selection =
            only(Conditions { interfaces: vec!["eth*".parse().unwrap()], ..Conditions::default() });
        let interface = |index, name: &str| InterfaceInfo {
            index,
            name: name.to_owned(),
            description: String::new(),
            vlan_id: 0,
        };
        let context = ObservationContext {
            interfaces: vec![interface(7, "eth1"), interface(8, "lo")],
            selectors: vec![],
        };
        selection.set_context(&context);
        let incoming =
            FlowRecord { ingress_interface: 7, egress_interface: 8, ..record("192.0.2.1", "192.0.2.2") };
        assert!(selection.selects(&incoming));
        assert!(
            !selection.selects(&FlowRecord { flow_direction: FlowDirection::Egress, ..incoming.clone() })
        );
        selection.set_context(&ObservationContext::default());
        assert!(selection.selects(&incoming));
    }

    #[test]
    fn every_flow_is_in_one_share_and_both_directions_in_the_same() {
        let mut held = [0; 3];
        for port in 0..3000_u16 {
            let there = FlowRecord {
                source_port: port,
                destination_port: 443,
                protocol_identifier: 6,
                ..record("192.0.2.1", "198.51.100.1")
            };
            let back = FlowRecord {
                source_port: 443,
                destination_port: port,
                protocol_identifier: 6,
                ..record("198.51.100.1", "192.0.2.1")
            };
            let shares: Vec<u64> =
                (0..3).filter(|number| Share { number: *number, of: 3 }.holds(&there)).collect();
            assert_eq!(shares.len(), 1);
            assert!(Share { number: shares[0], of: 3 }.holds(&back));
            held[shares[0] as usize] += 1;
        }
        // Binomial: five standard deviations are 129.
        assert!(held.iter().all(|count| (871..=1129).contains(count)), "{held:?}");
    }
}
