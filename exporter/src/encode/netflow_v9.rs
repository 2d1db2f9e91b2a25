//! NetFlow version 9 export packets (RFC 3954).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Message, MessageFormat};
use crate::information_element::InformationElement as Ie;
use crate::sequence::{SequenceNumber, SequenceRule};
use crate::template::{AddressFamily, data_templates};
use crate::time::ExportTime;

const VERSION: u16 = 9;

/// State of a NetFlow v9 export stream of one Source ID.
#[derive(Debug)]
pub struct NetflowV9 {
    source_id: u32,
    sequence: SequenceNumber,
}

impl NetflowV9 {
    pub(super) const fn new(source_id: u32) -> Self {
        Self { source_id, sequence: SequenceNumber::first(SequenceRule::ExportPackets) }
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
        // Absolute milliseconds instead of FIRST_SWITCHED and LAST_SWITCHED (22, 21): those are relative to a
        // 32-bit uptime that wraps every 49 days. nfdump, pmacct and Wireshark read these in NetFlow v9.
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
        // One octet: TCP_FLAGS in RFC 3954, section 8, has no room for the later bits.
        Ie::TcpControlBits, u8 = record.tcp_control_bits as u8;
        Ie::VlanId, u16 = record.vlan_id;
        // ICMP_TYPE of RFC 3954, section 8, serves both families; nfdump 1.7.1 does not know 139 in NetFlow v9.
        Ie::IcmpTypeCodeIpv4, u16 = record.icmp_type_code;
        Ie::BgpSourceAsNumber, u32 = record.bgp_source_as_number;
        Ie::BgpDestinationAsNumber, u32 = record.bgp_destination_as_number;
        Ie::FlowEndReason, u8 = record.flow_end_reason as u8;
    }
}

impl MessageFormat for NetflowV9 {
    type Ipv4 = Ipv4Record;
    type Ipv6 = Ipv6Record;

    const HEADER_LENGTH: usize = 20;
    const TEMPLATE_SET_ID: u16 = 0;
    /// RFC 3954, section 5.3: each `FlowSet` starts on a four-octet boundary.
    const SET_ALIGNMENT: usize = 4;

    fn sequence(&mut self) -> &mut SequenceNumber {
        &mut self.sequence
    }

    /// Packet Header (RFC 3954, section 5.1). Its Count is of records, templates included, not of octets.
    fn write_header(&self, message: &mut Message, export_time: ExportTime) {
        let count = (message.data_records + message.template_records) as u16;
        message.write_at(0, &VERSION.to_be_bytes());
        message.write_at(2, &count.to_be_bytes());
        message.write_at(4, &export_time.uptime_milliseconds().to_be_bytes());
        message.write_at(8, &export_time.unix_seconds().to_be_bytes());
        message.write_at(12, &self.sequence.next().to_be_bytes());
        message.write_at(16, &self.source_id.to_be_bytes());
    }
}
