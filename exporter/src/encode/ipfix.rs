//! IPFIX messages (RFC 7011).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::variable_length::CommunitiesAndTags;
use super::{Framing, Full, Message, MessageFormat, Stream};
use crate::flow_template::{FieldGroups, flow_templates};
use crate::information_element::InformationElement as Ie;
use crate::observation::{InterfaceInfo, Selector, SelectorAlgorithm, fixed_length};
use crate::sequence::SequenceRule;
use crate::statistics::Statistics;
use crate::template::{AddressFamily, FieldSpecifier, RecordTemplate as _, TemplateRecord, template};
use crate::time::ExportTime;

const VERSION: u16 = 10;

/// State of an IPFIX Transport Session within one Observation Domain.
#[derive(Debug)]
pub struct Ipfix {
    observation_domain_id: u32,
    pub(super) stream: Stream,
}

impl Ipfix {
    pub(super) const fn new(observation_domain_id: u32, groups: FieldGroups) -> Self {
        Self { observation_domain_id, stream: Stream::new(SequenceRule::DataRecords, groups) }
    }
}

flow_templates! {
    Flows, FieldSpecifier::new, CommunitiesAndTags, (record, source, destination);
    every {
        Ie::FlowStartMilliseconds, u64 = record.flow_start_milliseconds;
        Ie::FlowEndMilliseconds, u64 = record.flow_end_milliseconds;
        Ie::OctetDeltaCount, u64 = record.octet_delta_count;
        Ie::PacketDeltaCount, u64 = record.packet_delta_count;
        Ie::IpVersion, u8 = Address::IP_VERSION;
        Ie::IngressInterface, u32 = record.ingress_interface;
        Ie::EgressInterface, u32 = record.egress_interface;
        Ie::FlowDirection, u8 = record.flow_direction as u8;
        Address::SOURCE_ADDRESS, Address = *source;
        Address::DESTINATION_ADDRESS, Address = *destination;
        Ie::SourceTransportPort, u16 = record.source_port;
        Ie::DestinationTransportPort, u16 = record.destination_port;
        Ie::ProtocolIdentifier, u8 = record.protocol_identifier;
        Ie::IpClassOfService, u8 = record.ip_class_of_service;
        // One octet by reduced-size encoding, which the registry foresees for this element: nfacctd 1.7.7 reads
        // two octets as 0.
        Ie::TcpControlBits, u8 = record.tcp_control_bits as u8;
        Ie::VlanId, u16 = record.vlan_id;
        Ie::Dot1qCustomerVlanId, u16 = record.dot1q_customer_vlan_id;
        Address::ICMP_TYPE_CODE, u16 = record.icmp_type_code;
        Ie::BgpSourceAsNumber, u32 = record.bgp_source_as_number;
        Ie::BgpDestinationAsNumber, u32 = record.bgp_destination_as_number;
        Ie::FlowEndReason, u8 = record.flow_end_reason as u8;
        Address::IP_NEXT_HOP, Address = Address::or_unspecified(record.ip_next_hop);
        // nfacctd takes the rate from here.
        Ie::SamplingInterval, u32 = record.sampling_interval.max(1);
    }
    mpls {
        Ie::MplsTopLabelStackSection, [u8; 3] = record.mpls_top_label_stack_section();
    }
    overlay {
        Ie::Layer2SegmentId, u64 = record.layer2_segment_id_with_kind();
    }
    sampled {
        // nfcapd takes the rate from the options data of this Selector. Records without a Selector must not have
        // the field: to nfacctd a 0 means the Selector that it heard of last.
        Ie::SelectorId, u16 = record.selector_id;
    }
    mac {
        Ie::SourceMacAddress, [u8; 6] = record.source_mac_address;
        Ie::DestinationMacAddress, [u8; 6] = record.destination_mac_address;
    }
    route {
        Address::SOURCE_PREFIX_LENGTH, u8 = record.source_prefix_length;
        Address::DESTINATION_PREFIX_LENGTH, u8 = record.destination_prefix_length;
        Ie::BgpNextAdjacentAsNumber, u32 = record.bgp_next_adjacent_as_number;
        Ie::BgpPrevAdjacentAsNumber, u32 = record.bgp_prev_adjacent_as_number;
    }
    bgp_next_hop_ipv4 {
        Ie::BgpNextHopIpv4Address, Ipv4Addr = Ipv4Addr::or_unspecified(record.bgp_next_hop);
    }
    bgp_next_hop_ipv6 {
        Ie::BgpNextHopIpv6Address, Ipv6Addr = Ipv6Addr::or_unspecified(record.bgp_next_hop);
    }
}

type ObservationDomainId = u32;

/// Metering Process Statistics (RFC 7011, section 4.1).
struct MeteringProcessStatistics;

/// Metering Process Reliability Statistics (RFC 7011, section 4.2).
struct MeteringProcessReliability;

/// Exporting Process Reliability Statistics (RFC 7011, section 4.3).
struct ExportingProcessReliability;

template! {
    MeteringProcessStatistics = 275 with (statistics, domain): (Statistics, ObservationDomainId);
    scope FieldSpecifier::new, {
        Ie::ObservationDomainId, u32 = domain;
    }
    fields FieldSpecifier::new, {
        Ie::ExportedMessageTotalCount, u64 = statistics.exported_messages;
        Ie::ExportedFlowRecordTotalCount, u64 = statistics.exported_records;
        Ie::ExportedOctetTotalCount, u64 = statistics.exported_octets;
    }
}

template! {
    MeteringProcessReliability = 276 with (statistics, domain): (Statistics, ObservationDomainId);
    scope FieldSpecifier::new, {
        Ie::ObservationDomainId, u32 = domain;
    }
    fields FieldSpecifier::new, {
        Ie::IgnoredPacketTotalCount, u64 = statistics.metering.ignored_packets;
        Ie::IgnoredOctetTotalCount, u64 = statistics.metering.ignored_octets;
        Ie::FlowStartMilliseconds, u64 = statistics.first_ignored_milliseconds;
        Ie::FlowEndMilliseconds, u64 = statistics.last_ignored_milliseconds;
    }
}

template! {
    ExportingProcessReliability = 277 with (statistics, _domain): (Statistics, ObservationDomainId);
    scope FieldSpecifier::new, {
        Ie::ExportingProcessId, u32 = statistics.metering.exporting_process_id;
    }
    fields FieldSpecifier::new, {
        Ie::NotSentFlowTotalCount, u64 = statistics.not_sent.records;
        Ie::NotSentPacketTotalCount, u64 = statistics.not_sent.packets;
        Ie::NotSentOctetTotalCount, u64 = statistics.not_sent.octets;
        Ie::FlowStartMilliseconds, u64 = statistics.first_not_sent_milliseconds;
        Ie::FlowEndMilliseconds, u64 = statistics.last_not_sent_milliseconds;
    }
}

/// Options data about Systematic count-based Sampling (RFC 5477, section 8.2).
struct SystematicSampling;

/// Options data about random n-out-of-N Sampling (RFC 5477, section 8.2).
struct RandomSampling;

/// Options data about an interface.
struct Interfaces;

// The scope is the Observation Point, its number being that of the interface, in a direction. Were it the Selector,
// as in RFC 5476, section 6.5.2, nfcapd would not learn its number; were the interface called ingressInterface here,
// nfcapd 1.7.4 would take the record for one about an interface without a name. nfcapd 1.7.1 does not see sampling
// unless there is a samplingInterval, and takes the last one of the intervals and spaces.
template! {
    SystematicSampling = 272 with (selector, ()): (Selector, ());
    scope FieldSpecifier::new, {
        Ie::ObservationPointId, u32 = selector.interface;
        Ie::FlowDirection, u8 = selector.direction as u8;
    }
    fields FieldSpecifier::new, {
        Ie::SelectorId, u16 = selector.id;
        Ie::SelectorAlgorithm, u16 = selector.algorithm as u16;
        Ie::SamplingInterval, u32 = selector.interval();
        Ie::SamplingPacketInterval, u32 = 1;
        Ie::SamplingPacketSpace, u32 = selector.interval() - 1;
    }
}

template! {
    RandomSampling = 273 with (selector, ()): (Selector, ());
    scope FieldSpecifier::new, {
        Ie::ObservationPointId, u32 = selector.interface;
        Ie::FlowDirection, u8 = selector.direction as u8;
    }
    fields FieldSpecifier::new, {
        Ie::SelectorId, u16 = selector.id;
        Ie::SelectorAlgorithm, u16 = selector.algorithm as u16;
        Ie::SamplingInterval, u32 = selector.interval();
        Ie::SamplingSize, u32 = 1;
        Ie::SamplingPopulation, u32 = selector.interval();
    }
}

// The scope is the interface by its name and not by its index, because nfcapd 1.7.1 looks for the index among the other
// fields, and takes all but index and description to be scope. Texts are of fixed length, because neither nfcapd nor
// nfacctd reads options of variable length.
template! {
    Interfaces = 274 with (interface, ()): (InterfaceInfo, ());
    scope FieldSpecifier::new, {
        Ie::InterfaceName, [u8; 32] = fixed_length(&interface.name);
    }
    fields FieldSpecifier::new, {
        Ie::IngressInterface, u32 = interface.index;
        Ie::InterfaceDescription, [u8; 64] = fixed_length(interface.description_or_name());
    }
}

impl MessageFormat for Ipfix {
    type Flows = Flows;

    const STATISTICS_TEMPLATES: &[TemplateRecord<'static>] = &[
        MeteringProcessStatistics::TEMPLATE_RECORD,
        MeteringProcessReliability::TEMPLATE_RECORD,
        ExportingProcessReliability::TEMPLATE_RECORD,
    ];
    const OPTIONS_TEMPLATES: &[TemplateRecord<'static>] =
        &[SystematicSampling::TEMPLATE_RECORD, RandomSampling::TEMPLATE_RECORD, Interfaces::TEMPLATE_RECORD];
    const HEADER_LENGTH: usize = 16;
    const FRAMING: Framing = Framing {
        template_set_id: 2,
        options_template_set_id: 3,
        // Padding is optional (RFC 7011, section 3.3.1) and no collector needs it.
        alignment: 1,
    };

    /// Options Template Record Header (RFC 7011, section 3.4.2.2).
    fn options_template_counts(template: &TemplateRecord<'_>) -> [u16; 2] {
        [template.field_count() as u16, template.scope_field_count as u16]
    }

    fn append_statistics(
        &self,
        message: &mut Message,
        statistics: &Statistics,
        index: usize,
    ) -> Result<(), Full> {
        let domain = self.observation_domain_id;
        match index {
            0 => MeteringProcessStatistics::append(message, Self::FRAMING, statistics, domain),
            1 => MeteringProcessReliability::append(message, Self::FRAMING, statistics, domain),
            _ => ExportingProcessReliability::append(message, Self::FRAMING, statistics, domain),
        }
    }

    fn append_selector(&self, message: &mut Message, selector: &Selector) -> Result<(), Full> {
        match selector.algorithm {
            SelectorAlgorithm::Systematic => SystematicSampling::append(message, Self::FRAMING, selector, ()),
            SelectorAlgorithm::Random => RandomSampling::append(message, Self::FRAMING, selector, ()),
        }
    }

    fn append_interface(&self, message: &mut Message, interface: &InterfaceInfo) -> Result<(), Full> {
        Interfaces::append(message, Self::FRAMING, interface, ())
    }

    fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Message Header (RFC 7011, section 3.1).
    fn write_header(&self, message: &mut Message, export_time: ExportTime) {
        message.write_at(0, &VERSION.to_be_bytes());
        message.write_at(2, &(message.octets().len() as u16).to_be_bytes());
        message.write_at(4, &export_time.unix_seconds().to_be_bytes());
        message.write_at(8, &self.stream.sequence.next().to_be_bytes());
        message.write_at(12, &self.observation_domain_id.to_be_bytes());
    }
}
