//! NetFlow version 9 export packets (RFC 3954).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::message::SET_HEADER_LENGTH;
use super::netflow_v5::times_to_tell;
use super::{Framing, Full, Message, MessageFormat, Stream};
use crate::flow_template::{Content, FieldGroups, FlowTemplates as _, NoVariableFields, flow_templates};
use crate::information_element::InformationElement as Ie;
use crate::observation::{InterfaceInfo, Selector, SelectorAlgorithm, fixed_length};
use crate::sequence::SequenceRule;
use crate::statistics::Statistics;
use crate::template::{
    AddressFamily, FieldSpecifier, RecordTemplate as _, ScopeFieldType, TemplateRecord, template,
};
use crate::time::ExportTime;

const VERSION: u16 = 9;
const HEADER_LENGTH: usize = 20;

/// Octets of a field's type and length in a template.
const FIELD_LENGTH: usize = 4;

/// Where in a Flow Record the times by the uptime begin; absolute ones are before them.
const FIRST_SWITCHED: usize = 16;
/// Octets of all times.
const TIMES_LENGTH: usize = 24;

type SourceId = u32;

/// State of a NetFlow v9 export stream of one Source ID.
#[derive(Debug)]
pub struct NetflowV9 {
    source_id: u32,
    pub(super) stream: Stream,
}

impl NetflowV9 {
    pub(super) const fn new(source_id: u32, groups: FieldGroups) -> Self {
        Self { source_id, stream: Stream::new(SequenceRule::ExportPackets, groups) }
    }
}

flow_templates! {
    Flows, FieldSpecifier::netflow_v9, NoVariableFields, (record, source, destination);
    every {
        // nfdump, pmacct and Wireshark read these in NetFlow v9.
        Ie::FlowStartMilliseconds, u64 = record.flow_start_milliseconds;
        Ie::FlowEndMilliseconds, u64 = record.flow_end_milliseconds;
        // FIRST_SWITCHED and LAST_SWITCHED of RFC 3954, section 8, for collectors such as goflow2 that read no others.
        // `write_header` fills them in, since they count from where the header says.
        Ie::FlowStartSysUpTime, u32 = 0;
        Ie::FlowEndSysUpTime, u32 = 0;
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
        // One octet: TCP_FLAGS in RFC 3954, section 8, has no room for the later bits.
        Ie::TcpControlBits, u8 = record.tcp_control_bits as u8;
        Ie::VlanId, u16 = record.vlan_id;
        // ICMP_TYPE of RFC 3954, section 8, serves both families; nfdump 1.7.1 does not know 139 in NetFlow v9.
        Ie::IcmpTypeCodeIpv4, u16 = record.icmp_type_code;
        Ie::BgpSourceAsNumber, u32 = record.bgp_source_as_number;
        Ie::BgpDestinationAsNumber, u32 = record.bgp_destination_as_number;
        Ie::FlowEndReason, u8 = record.flow_end_reason as u8;
        Address::IP_NEXT_HOP, Address = Address::or_unspecified(record.ip_next_hop);
        Ie::SamplingInterval, u32 = record.sampling_interval.max(1);
    }
    mpls {
        Ie::MplsTopLabelStackSection, [u8; 3] = record.mpls_top_label_stack_section();
    }
    overlay {
        Ie::Layer2SegmentId, u64 = record.layer2_segment_id_with_kind();
    }
    sampled {
        // nfcapd and nfacctd take the rate from the options data of this sampler. Records without one must not have
        // the field: to nfacctd a 0 means the sampler that it heard of last.
        Ie::SamplerId, u16 = record.selector_id;
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

/// Options data about the exporter itself.
struct ExporterStatistics;

// TOTAL_BYTES_EXP, TOTAL_PKTS_EXP and TOTAL_FLOWS_EXP of RFC 3954, section 8. It has no numbers for losses; those of IPFIX
// mean nothing else in NetFlow v9.
template! {
    ExporterStatistics = 275 with (statistics, source_id): (Statistics, SourceId);
    scope FieldSpecifier::scope, {
        ScopeFieldType::System, u32 = source_id;
    }
    fields FieldSpecifier::netflow_v9, {
        Ie::ExportedMessageTotalCount, u64 = statistics.exported_messages;
        Ie::ExportedFlowRecordTotalCount, u64 = statistics.exported_records;
        Ie::ExportedOctetTotalCount, u64 = statistics.exported_octets;
        Ie::IgnoredPacketTotalCount, u64 = statistics.metering.ignored_packets;
        Ie::IgnoredOctetTotalCount, u64 = statistics.metering.ignored_octets;
        Ie::NotSentFlowTotalCount, u64 = statistics.not_sent.records;
        Ie::NotSentPacketTotalCount, u64 = statistics.not_sent.packets;
        Ie::NotSentOctetTotalCount, u64 = statistics.not_sent.octets;
    }
}

/// Options data about sampling.
struct Samplers;

/// Options data about an interface.
struct Interfaces;

// SAMPLING_ALGORITHM (35) would say the same as FLOW_SAMPLER_MODE, and nfcapd 1.7.1 sees no sampling if it is there;
// nor does it without SAMPLING_INTERVAL (34).
template! {
    Samplers = 272 with (selector, ()): (Selector, ());
    scope FieldSpecifier::scope, {
        ScopeFieldType::Interface, u32 = selector.interface;
    }
    fields FieldSpecifier::netflow_v9, {
        Ie::FlowDirection, u8 = selector.direction as u8;
        Ie::SamplerId, u16 = selector.id;
        Ie::SamplerMode, u8 = sampler_mode(selector.algorithm);
        Ie::SamplingInterval, u32 = selector.interval();
        Ie::SamplerRandomInterval, u32 = selector.interval();
    }
}

// The interface is not the scope, because nfcapd 1.7.1 does not look for it there. (It reads one record in a set; for
// the name, which it does not know, it logs "32 extra bytes".)
template! {
    Interfaces = 274 with (interface, source_id): (InterfaceInfo, SourceId);
    scope FieldSpecifier::scope, {
        ScopeFieldType::System, u32 = source_id;
    }
    fields FieldSpecifier::netflow_v9, {
        Ie::IngressInterface, u32 = interface.index;
        Ie::InterfaceName, [u8; 32] = fixed_length(&interface.name);
        Ie::InterfaceDescription, [u8; 64] = fixed_length(interface.description_or_name());
    }
}

/// `FLOW_SAMPLER_MODE` (RFC 3954, section 8): 1 is deterministic, 2 is random.
const fn sampler_mode(algorithm: SelectorAlgorithm) -> u8 {
    match algorithm {
        SelectorAlgorithm::Systematic => 1,
        SelectorAlgorithm::Random => 2,
    }
}

impl MessageFormat for NetflowV9 {
    type Flows = Flows;

    const STATISTICS_TEMPLATES: &[TemplateRecord<'static>] = &[ExporterStatistics::TEMPLATE_RECORD];
    const OPTIONS_TEMPLATES: &[TemplateRecord<'static>] =
        &[Samplers::TEMPLATE_RECORD, Interfaces::TEMPLATE_RECORD];
    const HEADER_LENGTH: usize = HEADER_LENGTH;
    const FRAMING: Framing = Framing {
        template_set_id: 0,
        options_template_set_id: 1,
        // RFC 3954, section 5.3: each `FlowSet` starts on a four-octet boundary.
        alignment: 4,
    };

    /// Option Scope Length and Option Length, in octets (RFC 3954, section 6.1).
    fn options_template_counts(template: &TemplateRecord<'_>) -> [u16; 2] {
        let scope = template.scope_field_count;
        let options = template.field_count() - scope;
        [scope, options].map(|fields| (fields * FIELD_LENGTH) as u16)
    }

    fn append_statistics(
        &self,
        message: &mut Message,
        statistics: &Statistics,
        _: usize,
    ) -> Result<(), Full> {
        ExporterStatistics::append(message, Self::FRAMING, statistics, self.source_id)
    }

    fn append_selector(&self, message: &mut Message, selector: &Selector) -> Result<(), Full> {
        Samplers::append(message, Self::FRAMING, selector, ())
    }

    fn append_interface(&self, message: &mut Message, interface: &InterfaceInfo) -> Result<(), Full> {
        Interfaces::append(message, Self::FRAMING, interface, self.source_id)
    }

    fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Packet Header (RFC 3954, section 5.1). Its Count is of records, templates included, not of octets.
    fn write_header(&self, message: &mut Message, export_time: ExportTime) {
        let count = (message.data_records() + message.template_records()) as u16;
        // To the next full second, so that the two times fit each other, and no flow ends after them: goflow2 takes that
        // for 49 days later.
        let ahead = (1000 - export_time.unix_milliseconds % 1000) % 1000;
        let seconds = export_time.unix_seconds().wrapping_add(u32::from(ahead > 0));
        let uptime = export_time.uptime_milliseconds().wrapping_add(ahead as u32);
        message.write_at(0, &VERSION.to_be_bytes());
        message.write_at(2, &count.to_be_bytes());
        message.write_at(4, &uptime.to_be_bytes());
        message.write_at(8, &seconds.to_be_bytes());
        message.write_at(12, &self.stream.sequence.next().to_be_bytes());
        message.write_at(16, &self.source_id.to_be_bytes());
        write_times(message, export_time);
    }
}

/// Writes `FIRST_SWITCHED` and `LAST_SWITCHED` of every Flow Record: the uptime at the time of the flow, modulo 2^32 ms.
fn write_times(message: &mut Message, export_time: ExportTime) {
    let now = export_time.unix_milliseconds;
    // Where the uptime was 0, modulo 2^32 as well.
    let zero = (now as u32).wrapping_sub(export_time.uptime_milliseconds());
    let end_of_message = message.octets().len();
    let mut set = HEADER_LENGTH;
    while set < end_of_message {
        let [id, length] = [set, set + 2].map(|offset| u16::from_be_bytes(message.read_at(offset)));
        let end_of_set = set + usize::from(length).max(SET_HEADER_LENGTH);
        if let Some(content) = Content::of_template(id) {
            let fields = Flows::specifiers(content);
            let fields = fields.iter().copied().flatten();
            let record_length: usize = fields.map(|field| usize::from(field.length())).sum();
            let octets = message.octets_mut(set + SET_HEADER_LENGTH..end_of_set);
            for record in octets.chunks_exact_mut(record_length.max(1)) {
                // Every record begins with them.
                let Some(times) = record.first_chunk_mut::<TIMES_LENGTH>() else { continue };
                let (absolute, by_uptime) = times.split_at_mut(FIRST_SWITCHED);
                let (absolute, by_uptime) = (absolute.as_chunks().0, by_uptime.as_chunks_mut().0);
                let ([start, end], [first_switched, last_switched]) = (absolute, by_uptime) else { continue };
                let times = [start, end].map(|time| u64::from_be_bytes(*time));
                let [first, last] = times_to_tell(times, now).map(|time| (time as u32).wrapping_sub(zero));
                *first_switched = first.to_be_bytes();
                *last_switched = last.to_be_bytes();
            }
        }
        set = end_of_set;
    }
}
