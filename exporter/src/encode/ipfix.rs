//! IPFIX messages (RFC 7011).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Message, MessageFormat};
use crate::information_element::InformationElement as Ie;
use crate::sequence::{SequenceNumber, SequenceRule};
use crate::template::{AddressFamily, data_templates};
use crate::time::ExportTime;

const VERSION: u16 = 10;

/// State of an IPFIX Transport Session within one Observation Domain.
#[derive(Debug)]
pub struct Ipfix {
    observation_domain_id: u32,
    sequence: SequenceNumber,
}

impl Ipfix {
    pub(super) const fn new(observation_domain_id: u32) -> Self {
        Self { observation_domain_id, sequence: SequenceNumber::first(SequenceRule::DataRecords) }
    }

    pub(super) const fn next_sequence_number(&self) -> u32 {
        self.sequence.next()
    }
}

data_templates! {
    Ipv4Record = 256 with Ipv4Addr,
    Ipv6Record = 257 with Ipv6Addr;
    (record, source, destination),
    {
        Ie::FlowStartMilliseconds, u64 = record.flow_start_milliseconds;
        Ie::FlowEndMilliseconds, u64 = record.flow_end_milliseconds;
        Ie::OctetDeltaCount, u64 = record.octet_delta_count;
        Ie::PacketDeltaCount, u64 = record.packet_delta_count;
        Ie::IpVersion, u8 = Address::IP_VERSION;
        Ie::IngressInterface, u32 = record.ingress_interface;
        Ie::EgressInterface, u32 = record.egress_interface;
        Ie::FlowDirection, u8 = record.flow_direction as u8;
        Address::SOURCE_ADDRESS, Address = source;
        Address::DESTINATION_ADDRESS, Address = destination;
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
    }
}

impl MessageFormat for Ipfix {
    type Ipv4 = Ipv4Record;
    type Ipv6 = Ipv6Record;

    const HEADER_LENGTH: usize = 16;
    const TEMPLATE_SET_ID: u16 = 2;
    // Padding is optional (RFC 7011, section 3.3.1) and no collector needs it.
    const SET_ALIGNMENT: usize = 1;

    fn sequence(&mut self) -> &mut SequenceNumber {
        &mut self.sequence
    }

    /// Message Header (RFC 7011, section 3.1).
    fn write_header(&self, message: &mut Message, export_time: ExportTime) {
        message.write_at(0, &VERSION.to_be_bytes());
        message.write_at(2, &(message.length as u16).to_be_bytes());
        message.write_at(4, &export_time.unix_seconds().to_be_bytes());
        message.write_at(8, &self.sequence.next().to_be_bytes());
        message.write_at(12, &self.observation_domain_id.to_be_bytes());
    }
}
