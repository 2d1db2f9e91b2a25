//! Flow records as a router makes them, for the measurements of the exporter.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pathflow_exporter::{BgpAttributes, BgpRoute, ExportTime, FlowDirection, FlowEndReason, FlowRecord};

/// Records of one batch, as many as the flow cache hands over at once.
pub(crate) const BATCH: u32 = 1024;
/// When they are exported.
pub(crate) const NOW: ExportTime =
    ExportTime { unix_milliseconds: 1_795_246_800_123, monotonic: Duration::from_hours(1) };

/// One batch.
pub(crate) fn records(is_ipv6: bool) -> Vec<FlowRecord> {
    (0..BATCH)
        .map(|number| {
            let (source_address, destination_address) = if is_ipv6 {
                (
                    IpAddr::from([0x2001, 2, 0, 1, 0, 0, 0, number as u16]),
                    IpAddr::from([0x2001, 2, 0, 2, 0, 0, 0, 1]),
                )
            } else {
                (IpAddr::from((0x0a00_0000 + number).to_be_bytes()), IpAddr::from([198, 18, 0, 1]))
            };
            FlowRecord {
                source_address,
                destination_address,
                source_port: 1024,
                destination_port: 443,
                protocol_identifier: 6,
                ip_class_of_service: 0,
                tcp_control_bits: 0x1b,
                vlan_id: 0,
                dot1q_customer_vlan_id: 0,
                dot1q_priority: 0,
                flow_label_ipv6: 0,
                ingress_interface: 1,
                egress_interface: 2,
                flow_direction: FlowDirection::Ingress,
                icmp_type_code: 0,
                packet_delta_count: u64::from(number) + 1,
                octet_delta_count: u64::from(number) * 1000,
                flow_start_milliseconds: 1_795_246_790_001,
                flow_end_milliseconds: 1_795_246_799_999,
                flow_end_reason: FlowEndReason::EndOfFlow,
                bgp_source_as_number: 64_500,
                bgp_destination_as_number: 64_501,
                source_prefix_length: 24,
                destination_prefix_length: 24,
                bgp_next_hop: Some(IpAddr::from([203, 0, 113, 1])),
                ip_next_hop: None,
                mpls_top_label: None,
                layer2_segment_id: 0,
                sampling_interval: 1,
                selector_id: 0,
                filter_results: 0,
                ..FlowRecord::between(source_address, destination_address)
            }
        })
        .collect()
}

/// One batch of records with all that is known of routes, with four communities in each, and an operator's tags.
pub(crate) fn enriched_records(is_ipv6: bool) -> Vec<FlowRecord> {
    let route = |first: u32| {
        let communities = (first..first + 4).map(|number| 0xfbf0_0000 + number).collect();
        Arc::new(BgpRoute::new(BgpAttributes { communities, ..BgpAttributes::default() }))
    };
    // Some hundred routes have most of the traffic.
    let routes: Vec<Arc<BgpRoute>> = (0..256).map(route).collect();
    let label: Arc<str> = Arc::from("customer-a");
    let route = |number: usize| routes.get(number % routes.len()).cloned();
    let enrich = |(number, record): (usize, FlowRecord)| FlowRecord {
        bgp_prev_adjacent_as_number: 64_502,
        bgp_next_adjacent_as_number: 64_503,
        source_route: route(number),
        destination_route: route(number * 7),
        tag: 7,
        tag2: number as u64,
        label: Some(Arc::clone(&label)),
        ..record
    };
    records(is_ipv6).into_iter().enumerate().map(enrich).collect()
}
