//! The crate `sflow-parser` decodes what was given to the Agent, whatever it is.

use std::net::{IpAddr, Ipv4Addr};

use pathflow_exporter::sflow::{
    AgentSettings, HeaderProtocol as Sampled, InterfaceCounters, SampledInterface,
};
use proptest::prelude::*;
use sflow_parser::models::core::{Address, CounterData, DataFormat, FlowData, FlowRecord};
use sflow_parser::models::record_flows::{AsPathType, HeaderProtocol};
use sflow_parser::{SFlowDatagram, SampleData, parse_datagram};

use super::{Sample, any_counters, any_sample, datagrams, settings};
use crate::support::NOW;

fn same_address(found: &Address, expected: Option<IpAddr>) {
    let expected = match expected {
        None => Address::IPv4(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => Address::IPv4(address),
        Some(IpAddr::V6(address)) => Address::IPv6(address),
    };
    assert_eq!(*found, expected);
}

/// Source, rate, pool, drops, input and output (each with its format), as sent.
type Fixed = (u32, u32, u32, u32, (u32, u32), (u32, u32));

fn expected_fixed(sample: &Sample, is_expanded: bool) -> Fixed {
    let interface = |interface| match interface {
        SampledInterface::Unknown => (0, 0),
        SampledInterface::Internal if is_expanded => (0, u32::MAX),
        SampledInterface::Internal => (0, 0x3FFF_FFFF),
        SampledInterface::Index(index) => (0, index),
    };
    let flow = &sample.flow;
    let (pool, drops) = (flow.sample_pool as u32, flow.drops as u32);
    (flow.source, flow.sampling_rate, pool, drops, interface(flow.input), interface(flow.output))
}

fn needs_expansion(sample: &Sample) -> bool {
    let is_large = |interface| matches!(interface, SampledInterface::Index(index) if index >= 0x3FFF_FFFF);
    sample.flow.source >= 1 << 24 || is_large(sample.flow.input) || is_large(sample.flow.output)
}

fn check_records(records: &[FlowRecord], sample: &Sample) {
    let mut records = records.iter();
    let mut next = |format| {
        let record = records.next().expect("record");
        assert_eq!(record.flow_format, DataFormat::new(0, format));
        record.flow_data.clone()
    };
    let FlowData::SampledHeader(header) = next(1) else { panic!("no header") };
    let (protocol, stripped) = match sample.flow.protocol {
        Sampled::Ethernet => (HeaderProtocol::EthernetIso88023, 4),
        Sampled::Ipv4 => (HeaderProtocol::Ipv4, 0),
        Sampled::Ipv6 => (HeaderProtocol::Ipv6, 0),
    };
    assert_eq!(header.protocol, protocol);
    assert_eq!((header.frame_length, header.stripped), (sample.flow.frame_length + stripped, stripped));
    assert_eq!(header.header, sample.header);
    if let Some(switch) = sample.flow.switch {
        let FlowData::ExtendedSwitch(found) = next(1001) else { panic!("no switch record") };
        assert_eq!((found.src_vlan, found.src_priority), (switch.source_vlan, switch.source_priority));
        assert_eq!(
            (found.dst_vlan, found.dst_priority),
            (switch.destination_vlan, switch.destination_priority)
        );
    }
    if let Some(router) = sample.flow.router {
        let FlowData::ExtendedRouter(found) = next(1002) else { panic!("no router record") };
        same_address(&found.next_hop, router.next_hop);
        assert_eq!(found.src_mask_len, router.source_prefix_length);
        assert_eq!(found.dst_mask_len, router.destination_prefix_length);
    }
    if let Some(gateway) = &sample.gateway {
        let FlowData::ExtendedGateway(found) = next(1003) else { panic!("no gateway record") };
        same_address(&found.next_hop, gateway.record.next_hop);
        assert_eq!(found.as_number, gateway.record.router_as);
        assert_eq!(found.src_as, gateway.record.source_as);
        assert_eq!(found.src_peer_as, gateway.record.source_peer_as);
        assert_eq!(found.local_pref, gateway.record.local_preference);
        assert_eq!(found.communities, gateway.communities);
        let path: Vec<(bool, Vec<u32>)> = found
            .dst_as_path
            .iter()
            .map(|segment| (segment.path_type == AsPathType::AsSet, segment.path.clone()))
            .collect();
        assert_eq!(path, gateway.path);
    }
    assert!(records.next().is_none());
}

fn check_flow_sample(data: &SampleData, sample: &Sample) {
    match data {
        SampleData::FlowSample(found) => {
            assert!(!needs_expansion(sample));
            assert_eq!((found.sequence_number, found.source_id.source_type()), (1, 0));
            let interface = |interface: &sflow_parser::models::core::Interface| {
                (u32::from(interface.format()), interface.value())
            };
            let fixed = (
                found.source_id.index(),
                found.sampling_rate,
                found.sample_pool,
                found.drops,
                interface(&found.input),
                interface(&found.output),
            );
            assert_eq!(fixed, expected_fixed(sample, false));
            check_records(&found.flow_records, sample);
        }
        SampleData::FlowSampleExpanded(found) => {
            assert!(needs_expansion(sample));
            assert_eq!((found.sequence_number, found.source_id.source_id_type), (1, 0));
            let fixed = (
                found.source_id.source_id_index,
                found.sampling_rate,
                found.sample_pool,
                found.drops,
                (found.input.format, found.input.value),
                (found.output.format, found.output.value),
            );
            assert_eq!(fixed, expected_fixed(sample, true));
            check_records(&found.flow_records, sample);
        }
        other => panic!("{other:?}"),
    }
}

fn check_counter_sample(data: &SampleData, expected: &InterfaceCounters) {
    let (index, records) = match data {
        SampleData::CountersSample(found) => (found.source_id.0, &found.counters),
        SampleData::CountersSampleExpanded(found) => {
            assert!(expected.index >= 1 << 24);
            assert_eq!(found.source_id.source_id_type, 0);
            (found.source_id.source_id_index, &found.counters)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(index, expected.index);
    assert_eq!(records.len(), 1);
    let CounterData::GenericInterface(found) = &records[0].counter_data else { panic!("{records:?}") };
    let status = u32::from(expected.status.is_admin_up) + 2 * u32::from(expected.status.is_operational);
    assert_eq!((found.if_index, found.if_type), (expected.index, expected.interface_type));
    assert_eq!((found.if_speed, found.if_status), (expected.speed, status));
    assert_eq!(found.if_direction, expected.direction as u32);
    assert_eq!(found.if_promiscuous_mode, u32::from(expected.is_promiscuous));
    let wide = |value: Option<u64>| value.unwrap_or(u64::MAX);
    assert_eq!(found.if_in_octets, wide(expected.in_octets));
    assert_eq!(found.if_out_octets, wide(expected.out_octets));
    let narrow = |value: Option<u64>| value.map_or(u32::MAX, |value| value as u32);
    for (found, expected) in [
        (found.if_in_ucast_pkts, expected.in_unicast_packets),
        (found.if_in_multicast_pkts, expected.in_multicast_packets),
        (found.if_in_broadcast_pkts, expected.in_broadcast_packets),
        (found.if_in_discards, expected.in_discards),
        (found.if_in_errors, expected.in_errors),
        (found.if_in_unknown_protos, expected.in_unknown_protocols),
        (found.if_out_ucast_pkts, expected.out_unicast_packets),
        (found.if_out_multicast_pkts, expected.out_multicast_packets),
        (found.if_out_broadcast_pkts, expected.out_broadcast_packets),
        (found.if_out_discards, expected.out_discards),
        (found.if_out_errors, expected.out_errors),
    ] {
        assert_eq!(found, narrow(expected));
    }
}

fn only_sample(settings: AgentSettings, datagrams: &[Vec<u8>]) -> SampleData {
    let [octets] = datagrams else { panic!("{} datagrams", datagrams.len()) };
    let SFlowDatagram { agent_address, sub_agent_id, sequence_number, uptime, mut samples, .. } =
        parse_datagram(octets).unwrap();
    same_address(&agent_address, Some(settings.agent_address));
    assert_eq!((sub_agent_id, sequence_number, uptime), (settings.sub_agent_id, 1, 3_600_000));
    assert_eq!(u128::from(uptime), NOW.monotonic.as_millis());
    assert_eq!(samples.len(), 1);
    samples.remove(0).sample_data
}

proptest! {
    #[test]
    fn any_flow_sample(sample in any_sample(), address in any::<IpAddr>()) {
        let settings = AgentSettings { agent_address: address, ..settings() };
        let sent = datagrams(settings, |agent| sample.export(agent));
        check_flow_sample(&only_sample(settings, &sent), &sample);
    }

    #[test]
    fn any_counter_sample(counters in any_counters()) {
        let sent = datagrams(settings(), |agent| agent.counter_sample(NOW, &counters));
        check_counter_sample(&only_sample(settings(), &sent), &counters);
    }

    #[test]
    fn any_number_of_samples_in_as_few_datagrams_as_they_fit(
        samples in prop::collection::vec(any_sample(), 1..60),
        counters in prop::collection::vec(any_counters(), 0..20),
    ) {
        let sent = datagrams(settings(), |agent| {
            for sample in &samples {
                sample.export(agent);
            }
            for counters in &counters {
                agent.counter_sample(NOW, counters);
            }
        });
        let mut found = 0;
        for (sequence_number, octets) in (1..).zip(&sent) {
            prop_assert!(octets.len() <= settings().max_datagram);
            let datagram = parse_datagram(octets).unwrap();
            prop_assert_eq!(datagram.sequence_number, sequence_number);
            found += datagram.samples.len();
        }
        prop_assert_eq!(found, samples.len() + counters.len());
        // Two that follow each other would not have fitted one.
        for pair in sent.windows(2) {
            let first_of_next = u32::from_be_bytes(pair[1][32..36].try_into().unwrap()) as usize + 8;
            prop_assert!(pair[0].len() + first_of_next > settings().max_datagram);
        }
    }
}
