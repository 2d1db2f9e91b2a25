//! Filters that only name addresses: they can be compared with those of a record.
//!
//! That is not quite the same. To tcpdump such a filter looks at the outermost packet, and not behind VLAN tags and MPLS
//! labels: so it is not true of records that have any.

use std::net::IpAddr;

use ipnet::IpNet;
use pathflow_exporter::FlowRecord;

/// `[ip|ip6] [src|dst] host|net ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressFilter {
    ends: Ends,
    network: IpNet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Source,
    Destination,
    Either,
}

impl AddressFilter {
    /// What the expression says, if it is of this form.
    pub(super) fn of(expression: &str) -> Option<Self> {
        let mut words = expression.split_ascii_whitespace();
        let mut word = words.next()?;
        let version = match word {
            "ip" => Some(4),
            "ip6" => Some(6),
            _ => None,
        };
        if version.is_some() {
            word = words.next()?;
        }
        let ends = match word {
            "src" => Ends::Source,
            "dst" => Ends::Destination,
            _ => Ends::Either,
        };
        if ends != Ends::Either {
            word = words.next()?;
        }
        let address = words.next()?;
        let network = match word {
            "host" => IpNet::from(address.parse::<IpAddr>().ok()?),
            "net" => address.parse().ok()?,
            _ => return None,
        };
        let is_whole = words.next().is_none() && network == network.trunc();
        let is_of_version = version.is_none_or(|version| (version == 4) == network.addr().is_ipv4());
        (is_whole && is_of_version).then_some(Self { ends, network })
    }

    /// Whether it is true of a record.
    pub(super) fn matches(&self, record: &FlowRecord) -> bool {
        let source = || self.network.contains(&record.source_address);
        let destination = || self.network.contains(&record.destination_address);
        record.vlan_id == 0
            && record.mpls_top_label.is_none()
            && record.layer2_segment_id == 0
            && match self.ends {
                Ends::Source => source(),
                Ends::Destination => destination(),
                Ends::Either => source() || destination(),
            }
    }
}
