//! What an independent decoder is expected to read of a record, by the registry and the RFCs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pathflow_exporter::{FieldGroups, FlowDirection, FlowEndReason, FlowRecord, Format};

use super::decode::{Fields, number_of, without_zeros};

/// What the registry says a record's fields are, written down a second time.
pub(crate) fn expected(record: &FlowRecord, format: Format) -> Fields {
    expected_with(record, format, FieldGroups::NONE)
}

/// The same for an export with more fields.
pub(crate) fn expected_with(record: &FlowRecord, format: Format, groups: FieldGroups) -> Fields {
    let (source, destination, version) = match (record.source_address, record.destination_address) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ((8, u128::from(source.to_bits())), (12, u128::from(destination.to_bits())), 4)
        }
        (source, destination) => {
            let bits = |address| match address {
                IpAddr::V4(v4) => 0xffff_0000_0000 | u128::from(v4.to_bits()),
                IpAddr::V6(v6) => v6.to_bits(),
            };
            ((27, bits(source)), (28, bits(destination)), 6)
        }
    };
    let icmp = if version == 6 && format == Format::Ipfix { 139 } else { 32 };
    let mut fields = BTreeMap::<u16, u128>::from([
        (1, record.octet_delta_count.into()),
        (2, record.packet_delta_count.into()),
        (4, record.protocol_identifier.into()),
        (5, record.ip_class_of_service.into()),
        (6, (record.tcp_control_bits & 0xff).into()),
        (7, record.source_port.into()),
        source,
        (10, record.ingress_interface.into()),
        (11, record.destination_port.into()),
        destination,
        (14, record.egress_interface.into()),
        (16, record.bgp_source_as_number.into()),
        (17, record.bgp_destination_as_number.into()),
        (icmp, record.icmp_type_code.into()),
        (58, record.vlan_id.into()),
        (60, version),
        (61, (record.flow_direction == FlowDirection::Egress).into()),
        (
            136,
            match record.flow_end_reason {
                FlowEndReason::IdleTimeout => 1,
                FlowEndReason::ActiveTimeout => 2,
                FlowEndReason::EndOfFlow => 3,
                FlowEndReason::ForcedEnd => 4,
                FlowEndReason::LackOfResources => 5,
            },
        ),
        (152, record.flow_start_milliseconds.into()),
        (153, record.flow_end_milliseconds.into()),
    ]);
    let next_hop = match (version, record.ip_next_hop) {
        (4, Some(IpAddr::V4(address))) => u128::from(address.to_bits()),
        (6, Some(IpAddr::V6(address))) => address.to_bits(),
        _ => 0,
    };
    fields.insert(if version == 4 { 15 } else { 62 }, next_hop);
    fields.insert(34, record.sampling_interval.max(1).into());
    if let Some(label) = record.mpls_top_label {
        fields.insert(70, u128::from(label) * 16);
    }
    if record.layer2_segment_id != 0 {
        fields.insert(351, 0x0100_0000_0000_0000 + u128::from(record.layer2_segment_id));
    }
    if record.selector_id != 0 {
        fields.insert(if format == Format::Ipfix { 302 } else { 48 }, record.selector_id.into());
    }
    if format == Format::Ipfix {
        fields.insert(245, record.dot1q_customer_vlan_id.into());
    }
    let macs = [record.source_mac_address, record.destination_mac_address];
    if groups.contains(FieldGroups::MAC) && macs != [[0; 6]; 2] {
        fields.extend([56, 80].into_iter().zip(macs.map(|mac| u128::from(number_of(&mac)))));
    }
    if groups.contains(FieldGroups::BGP) {
        fields.extend(expected_route(record, version == 6));
    }
    let number = |(id, number): (u16, u128)| ((0, id), without_zeros(&number.to_be_bytes()));
    let mut fields: Fields = fields.into_iter().map(number).collect();
    if groups.contains(FieldGroups::COMMUNITIES) {
        fields.extend(expected_communities(record).map(|(id, list)| ((0, id), list)));
    }
    let has_tags = record.tag != 0 || record.tag2 != 0 || record.label.is_some();
    if groups.contains(FieldGroups::TAGS) && has_tags {
        let label = [record.label.as_deref().unwrap_or("").as_bytes(), &[0]].concat();
        fields.insert((43_874, 1), without_zeros(&record.tag.to_be_bytes()));
        fields.insert((43_874, 2), without_zeros(&record.tag2.to_be_bytes()));
        fields.insert((43_874, 3), without_zeros(&label));
    }
    fields
}

fn expected_route(record: &FlowRecord, is_ipv6: bool) -> Vec<(u16, u128)> {
    let next_hop: Option<(u16, u128)> = match record.bgp_next_hop {
        Some(IpAddr::V4(address)) => Some((18, address.to_bits().into())),
        Some(IpAddr::V6(address)) => Some((63, address.to_bits())),
        None => None,
    };
    let lengths = [record.source_prefix_length, record.destination_prefix_length];
    let neighbours = [record.bgp_next_adjacent_as_number, record.bgp_prev_adjacent_as_number];
    let has_route = record.has_route || record.source_route.is_some() || record.destination_route.is_some();
    if next_hop.is_none() && lengths == [0, 0] && neighbours == [0, 0] && !has_route {
        return Vec::new();
    }
    let ids = if is_ipv6 { [29, 30] } else { [9, 13] };
    let lengths = ids.into_iter().zip(lengths.map(u128::from));
    let neighbours = [128, 129].into_iter().zip(neighbours.map(u128::from));
    lengths.chain(neighbours).chain(next_hop).collect()
}

/// Lists of RFC 8549: all of (3) the elements of one kind, if either route has any of that kind; of extended and large
/// communities the lists come together.
pub(crate) fn expected_communities(record: &FlowRecord) -> impl Iterator<Item = (u16, Vec<u8>)> {
    let routes = [&record.source_route, &record.destination_route];
    let attributes =
        routes.map(|route| route.as_ref().map(|route| route.attributes().clone()).unwrap_or_default());
    let list = |element: u16, length: u16, octets: Vec<u8>| {
        [&[3], element.to_be_bytes().as_slice(), &length.to_be_bytes(), &octets].concat()
    };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let standard = attributes.clone().map(|route| list(483, 4, words(&route.communities)));
    let extended = attributes.clone().map(|route| list(486, 8, route.extended_communities.concat()));
    let large = attributes.clone().map(|route| list(489, 12, words(route.large_communities.as_flattened())));
    let has_standard = attributes.iter().any(|route| !route.communities.is_empty());
    let has_other = attributes
        .iter()
        .any(|route| !route.extended_communities.is_empty() || !route.large_communities.is_empty());
    let standard = [484, 485].into_iter().zip(standard).filter(move |_| has_standard);
    let other = [487, 488, 490, 491].into_iter().zip(extended.into_iter().chain(large));
    standard.chain(other.filter(move |_| has_other))
}
