//! What `netflow_parser` reads equals what was exported, for any records, budget and mix of families.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{FieldValue, NetflowPacket, NetflowParser};
use pathflow_exporter::encode::{Encoder, Message, Templates};
use pathflow_exporter::{ExportTime, FlowDirection, FlowEndReason, FlowRecord, Format};
use proptest::prelude::*;

/// Element ID to value.
pub(crate) type Fields = BTreeMap<u16, u128>;

/// A message as the independent decoder sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) sequence_number: u32,
    pub(crate) export_seconds: u32,
    pub(crate) domain: u32,
    /// Count of the NetFlow v9 header.
    pub(crate) count: Option<u16>,
    pub(crate) template_records: usize,
    pub(crate) records: Vec<Fields>,
}

/// A decoder with its template cache.
#[derive(Default)]
pub(crate) struct Decoder {
    parser: NetflowParser,
    templates: HashMap<u16, Vec<u16>>,
}

impl Decoder {
    pub(crate) fn decode(&mut self, octets: &[u8]) -> Decoded {
        let mut result = self.parser.parse_bytes(octets);
        assert!(result.error.is_none(), "{:?}", result.error);
        assert_eq!(result.packets.len(), 1);
        match result.packets.remove(0) {
            NetflowPacket::IPFix(message) => self.ipfix(message, octets.len()),
            NetflowPacket::V9(packet) => self.netflow_v9(packet),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn ipfix(&mut self, message: ipfix::IPFix, length: usize) -> Decoded {
        assert_eq!(usize::from(message.header.length), length);
        let mut decoded = Decoded {
            sequence_number: message.header.sequence_number,
            export_seconds: message.header.export_time,
            domain: message.header.observation_domain_id,
            count: None,
            template_records: 0,
            records: Vec::new(),
        };
        for set in message.flowsets {
            match set.body {
                ipfix::FlowSetBody::Templates(templates) => {
                    decoded.template_records += templates.len();
                    for template in templates {
                        let ids = template.fields.iter().map(|field| field.field_type_number);
                        self.templates.insert(template.template_id, ids.collect());
                    }
                }
                ipfix::FlowSetBody::Data(data) => {
                    assert!(data.padding.is_empty());
                    let ids = &self.templates[&set.header.header_id];
                    decoded.records.extend(
                        data.fields.iter().map(|record| fields(ids, record.iter().map(|(_, value)| value))),
                    );
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        decoded
    }

    fn netflow_v9(&mut self, packet: v9::V9) -> Decoded {
        let mut decoded = Decoded {
            sequence_number: packet.header.sequence_number,
            export_seconds: packet.header.unix_secs,
            domain: packet.header.source_id,
            count: Some(packet.header.count),
            template_records: 0,
            records: Vec::new(),
        };
        for set in packet.flowsets {
            assert_eq!(set.header.length % 4, 0, "RFC 3954, section 5.3: padded to four octets");
            match set.body {
                v9::FlowSetBody::Template(templates) => {
                    decoded.template_records += templates.templates.len();
                    for template in templates.templates {
                        let ids = template.fields.iter().map(|field| field.field_type_number);
                        self.templates.insert(template.template_id, ids.collect());
                    }
                }
                v9::FlowSetBody::Data(data) => {
                    assert!(data.padding.iter().all(|octet| *octet == 0));
                    let ids = &self.templates[&set.header.flowset_id];
                    decoded.records.extend(
                        data.fields.iter().map(|record| fields(ids, record.iter().map(|(_, value)| value))),
                    );
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        decoded
    }
}

fn fields<'a>(ids: &[u16], values: impl ExactSizeIterator<Item = &'a FieldValue>) -> Fields {
    assert_eq!(ids.len(), values.len());
    ids.iter()
        .zip(values)
        .map(|(id, value)| {
            let mut octets = Vec::new();
            value.write_be_bytes(&mut octets).expect("value");
            (*id, octets.iter().fold(0, |number, octet| number << 8 | u128::from(*octet)))
        })
        .collect()
}

/// What the registry says a record's fields are, written down a second time.
pub(crate) fn expected(record: &FlowRecord, format: Format) -> Fields {
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
    let mut fields = Fields::from([
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
    if format == Format::Ipfix {
        fields.insert(245, record.dot1q_customer_vlan_id.into());
    }
    fields
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = || any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = || any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    prop_oneof![4 => (v4(), v4()), 4 => (v6(), v6()), 1 => (v4(), v6()), 1 => (v6(), v4())]
}

fn record() -> impl Strategy<Value = FlowRecord> {
    let reason = prop_oneof![
        Just(FlowEndReason::IdleTimeout),
        Just(FlowEndReason::ActiveTimeout),
        Just(FlowEndReason::EndOfFlow),
        Just(FlowEndReason::ForcedEnd),
        Just(FlowEndReason::LackOfResources),
    ];
    let direction = prop_oneof![Just(FlowDirection::Ingress), Just(FlowDirection::Egress)];
    (
        addresses(),
        any::<[u16; 6]>(),
        any::<[u8; 4]>(),
        any::<[u32; 4]>(),
        // The decoder turns times into durations of 64 bits, so times stay below the year 10000.
        (any::<[u64; 2]>(), 0..253_402_300_800_000_u64, 0..253_402_300_800_000_u64),
        direction,
        reason,
    )
        .prop_map(|(addresses, shorts, octets, words, (counts, start, end), direction, reason)| {
            FlowRecord {
                source_address: addresses.0,
                destination_address: addresses.1,
                source_port: shorts[0],
                destination_port: shorts[1],
                protocol_identifier: octets[0],
                ip_class_of_service: octets[1],
                tcp_control_bits: shorts[2],
                vlan_id: shorts[3],
                dot1q_customer_vlan_id: shorts[4],
                ingress_interface: words[0],
                egress_interface: words[1],
                flow_direction: direction,
                icmp_type_code: shorts[5],
                packet_delta_count: counts[0],
                octet_delta_count: counts[1],
                flow_start_milliseconds: start,
                flow_end_milliseconds: end,
                flow_end_reason: reason,
                bgp_source_as_number: words[2],
                bgp_destination_as_number: words[3],
                source_prefix_length: octets[2],
                destination_prefix_length: octets[3],
                bgp_next_hop: None,
            }
        })
}

/// Encodes all records into as few messages as the budget allows, templates in the first.
fn encode(encoder: &mut Encoder, budget: usize, now: ExportTime, records: &[FlowRecord]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut message = Message::new();
    encoder.begin(&mut message, budget, Templates::Include).expect("budget holds the templates");
    for record in records {
        if encoder.push(&mut message, record).is_err() {
            encoder.finish(&mut message, now);
            messages.push(message.octets().to_vec());
            encoder.commit(&message);
            encoder.begin(&mut message, budget, Templates::Omit).expect("budget holds a header");
            encoder.push(&mut message, record).expect("budget holds a record");
        }
    }
    encoder.finish(&mut message, now);
    messages.push(message.octets().to_vec());
    encoder.commit(&message);
    messages
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoded_records_equal_exported_records(
        records in prop::collection::vec(record(), 0..80),
        budget in 528_usize..9000,
        domain in any::<u32>(),
        seconds in any::<u32>(),
    ) {
        for format in [Format::Ipfix, Format::NetflowV9] {
            let now = ExportTime {
                unix_milliseconds: u64::from(seconds) * 1000 + 999,
                monotonic: Duration::from_millis(u64::from(seconds)),
            };
            let messages = encode(&mut Encoder::new(format, domain), budget, now, &records);
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for (index, octets) in messages.iter().enumerate() {
                prop_assert!(octets.len() <= budget);
                let decoded = decoder.decode(octets);
                prop_assert_eq!(decoded.template_records, if index == 0 { 2 } else { 0 });
                prop_assert_eq!(decoded.export_seconds, seconds);
                prop_assert_eq!(decoded.domain, domain);
                match format {
                    Format::Ipfix => prop_assert_eq!(decoded.sequence_number as usize, seen.len()),
                    Format::NetflowV9 => {
                        prop_assert_eq!(decoded.sequence_number as usize, index);
                        let count = decoded.template_records + decoded.records.len();
                        prop_assert_eq!(decoded.count.map(usize::from), Some(count));
                        prop_assert_eq!(octets.len() % 4, 0);
                    }
                }
                seen.extend(decoded.records);
            }
            let expected: Vec<Fields> = records.iter().map(|record| expected(record, format)).collect();
            prop_assert_eq!(seen, expected);
        }
    }

    /// A message that was finished but not committed leaves no trace: begun again with less room, the records
    /// arrive with the same Sequence Numbers.
    #[test]
    fn begun_again_with_a_smaller_budget(
        records in prop::collection::vec(record(), 1..40),
        small in 528_usize..1000,
    ) {
        for format in [Format::Ipfix, Format::NetflowV9] {
            let mut encoder = Encoder::new(format, 1);
            let mut message = Message::new();
            encoder.begin(&mut message, 65_507, Templates::Include).expect("begin");
            for record in &records {
                encoder.push(&mut message, record).expect("room");
            }
            encoder.finish(&mut message, super::support::NOW);
            let again = encode(&mut encoder, small, super::support::NOW, &records);
            let fresh = encode(&mut Encoder::new(format, 1), small, super::support::NOW, &records);
            prop_assert_eq!(again, fresh);
        }
    }
}

/// Every budget from nothing to more than enough: an error or a message within the budget, never a panic.
#[test]
fn any_budget() {
    for format in [Format::Ipfix, Format::NetflowV9] {
        for budget in 0..800 {
            for templates in [Templates::Include, Templates::Omit] {
                let encoder = Encoder::new(format, 1);
                let mut message = Message::new();
                if encoder.begin(&mut message, budget, templates).is_err() {
                    assert!(message.is_empty());
                }
                for record in super::support::flows() {
                    let before = message.data_records();
                    let pushed = encoder.push(&mut message, &record).is_ok();
                    assert_eq!(message.data_records(), before + u32::from(pushed));
                }
                encoder.finish(&mut message, super::support::NOW);
                assert!(message.octets().len() <= budget);
            }
        }
    }
}
