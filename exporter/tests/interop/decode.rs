//! What `netflow_parser` reads equals what was exported, for any records, budget and mix of families.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{FieldValue, NetflowPacket, NetflowParser};
use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::{
    BgpAttributes, BgpRoute, ExportTime, FieldGroups, FlowDirection, FlowEndReason, FlowRecord, Format,
    LimitReason, ObservationContext,
};
use proptest::prelude::*;

use super::expected::{expected_communities, expected_with};
use super::netflow_v5::told_times;
use super::support::{NOW, context, flows};

const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Enterprise Number (0 = none) and Element ID.
pub(crate) type Id = (u32, u16);

/// Octets of each field, without zeros at the beginning.
pub(crate) type Fields = BTreeMap<Id, Vec<u8>>;

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
    /// In NetFlow v9: `FIRST_SWITCHED` and `LAST_SWITCHED` of each record (they are not among its fields), as the
    /// header tells them, in milliseconds since the Unix epoch modulo 2^32.
    pub(crate) switched: Vec<[u32; 2]>,
    /// Records of options data.
    pub(crate) options: Vec<OptionsFields>,
}

/// Scope fields, then the others; each Element ID (in NetFlow v9: scope type) with its octets.
pub(crate) type OptionsFields = Vec<(u16, Vec<u8>)>;

/// A decoder with its template cache.
#[derive(Default)]
pub(crate) struct Decoder {
    parser: NetflowParser,
    templates: HashMap<u16, Vec<Id>>,
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
            switched: Vec::new(),
            options: Vec::new(),
        };
        for set in message.flowsets {
            match set.body {
                ipfix::FlowSetBody::Template(template) => {
                    self.ipfix_template(&mut decoded, template.template_id, &template.fields);
                }
                ipfix::FlowSetBody::Templates(templates) => {
                    for template in templates {
                        self.ipfix_template(&mut decoded, template.template_id, &template.fields);
                    }
                }
                ipfix::FlowSetBody::OptionsTemplate(template) => {
                    self.ipfix_template(&mut decoded, template.template_id, &template.fields);
                }
                ipfix::FlowSetBody::Data(data) => {
                    assert!(data.padding.is_empty());
                    let ids = &self.templates[&set.header.header_id];
                    decoded.records.extend(
                        data.fields.iter().map(|record| fields(ids, record.iter().map(|(_, value)| value))),
                    );
                }
                ipfix::FlowSetBody::OptionsData(data) => {
                    let ids = &self.templates[&set.header.header_id];
                    for record in &data.fields {
                        assert_eq!(record.len(), ids.len());
                        let values = record.iter().map(|(_, value)| octets(value));
                        decoded.options.push(ids.iter().map(|(_, id)| *id).zip(values).collect());
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        decoded
    }

    fn ipfix_template(&mut self, decoded: &mut Decoded, id: u16, fields: &[ipfix::TemplateField]) {
        decoded.template_records += 1;
        let id_of =
            |field: &ipfix::TemplateField| (field.enterprise_number.unwrap_or(0), field.field_type_number);
        self.templates.insert(id, fields.iter().map(id_of).collect());
    }

    fn netflow_v9(&mut self, packet: v9::V9) -> Decoded {
        let mut decoded = Decoded {
            sequence_number: packet.header.sequence_number,
            export_seconds: packet.header.unix_secs,
            domain: packet.header.source_id,
            count: Some(packet.header.count),
            template_records: 0,
            records: Vec::new(),
            switched: Vec::new(),
            options: Vec::new(),
        };
        let started = packet.header.unix_secs.wrapping_mul(1000).wrapping_sub(packet.header.sys_up_time);
        for set in packet.flowsets {
            assert_eq!(set.header.length % 4, 0, "RFC 3954, section 5.3: padded to four octets");
            match set.body {
                v9::FlowSetBody::Template(templates) => {
                    decoded.template_records += templates.templates.len();
                    for template in templates.templates {
                        let ids = template.fields.iter().map(|field| (0, field.field_type_number));
                        self.templates.insert(template.template_id, ids.collect());
                    }
                }
                v9::FlowSetBody::Data(data) => {
                    assert!(data.padding.iter().all(|octet| *octet == 0));
                    let ids = &self.templates[&set.header.flowset_id];
                    for record in &data.fields {
                        let mut fields = fields(ids, record.iter().map(|(_, value)| value));
                        let switched =
                            [22, 21].map(|id| number_of(&fields.remove(&(0, id)).expect("switched")));
                        decoded.switched.push(switched.map(|uptime| started.wrapping_add(uptime as u32)));
                        decoded.records.push(fields);
                    }
                }
                v9::FlowSetBody::OptionsTemplate(templates) => {
                    decoded.template_records += templates.templates.len();
                    for template in templates.templates {
                        let ids = template.option_fields.iter().map(|field| (0, field.field_type_number));
                        self.templates.insert(template.template_id, ids.collect());
                    }
                }
                v9::FlowSetBody::OptionsData(data) => {
                    let ids = &self.templates[&set.header.flowset_id];
                    for record in data.fields {
                        let scope = record.scope_fields.into_iter().map(|scope| match scope {
                            v9::ScopeDataField::System(octets) => (1, octets),
                            v9::ScopeDataField::Interface(octets) => (2, octets),
                            other => panic!("unexpected {other:?}"),
                        });
                        assert_eq!(record.options_fields.len(), ids.len());
                        let values = record.options_fields.iter().map(|(_, value)| octets(value));
                        decoded
                            .options
                            .push(scope.chain(ids.iter().map(|(_, id)| *id).zip(values)).collect());
                    }
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        decoded
    }
}

fn octets(value: &FieldValue) -> Vec<u8> {
    let mut octets = Vec::new();
    value.write_be_bytes(&mut octets).expect("value");
    octets
}

fn fields<'a>(ids: &[Id], values: impl ExactSizeIterator<Item = &'a FieldValue>) -> Fields {
    assert_eq!(ids.len(), values.len());
    ids.iter().zip(values).map(|(id, value)| (*id, without_zeros(&octets(value)))).collect()
}

pub(crate) fn without_zeros(octets: &[u8]) -> Vec<u8> {
    let first = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len());
    octets[first..].to_vec()
}

pub(crate) fn number_of(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = || any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = || any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    prop_oneof![4 => (v4(), v4()), 4 => (v6(), v6()), 1 => (v4(), v6()), 1 => (v6(), v4())]
}

pub(crate) fn record() -> impl Strategy<Value = FlowRecord> {
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
        (direction, reason),
        link_and_sampling(),
    )
        .prop_map(
            |(addresses, shorts, octets, words, (counts, start, end), (direction, reason), more)| {
                FlowRecord {
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
                    ip_next_hop: more.0,
                    mpls_top_label: more.1,
                    layer2_segment_id: more.2,
                    sampling_interval: more.3,
                    selector_id: more.4,
                    source_mac_address: more.5[0],
                    destination_mac_address: more.5[1],
                    ..FlowRecord::between(addresses.0, addresses.1)
                }
            },
        )
}

type LinkAndSampling = (Option<IpAddr>, Option<u32>, u32, u32, u16, [[u8; 6]; 2]);

fn link_and_sampling() -> impl Strategy<Value = LinkAndSampling> {
    (
        prop::option::of(addresses().prop_map(|(address, _)| address)),
        prop::option::of(0_u32..1 << 20),
        prop_oneof![Just(0), 1_u32..1 << 24],
        any::<u32>(),
        prop_oneof![Just(0), any::<u16>()],
        prop_oneof![Just([[0; 6]; 2]), any::<[[u8; 6]; 2]>()],
    )
}

fn route() -> impl Strategy<Value = Option<Arc<BgpRoute>>> {
    let attributes = (
        prop::collection::vec(any::<u32>(), 0..80),
        prop::collection::vec(any::<[u8; 8]>(), 0..4),
        prop::collection::vec(any::<[u32; 3]>(), 0..3),
    );
    prop::option::of(attributes.prop_map(|(communities, extended, large)| {
        Arc::new(BgpRoute::new(BgpAttributes {
            communities: communities.into(),
            extended_communities: extended.into(),
            large_communities: large.into(),
            ..BgpAttributes::default()
        }))
    }))
}

/// A record with everything that enrichment can add.
fn enriched_record() -> impl Strategy<Value = FlowRecord> {
    let next_hop = prop::option::of(addresses().prop_map(|(address, _)| address));
    let number = || prop_oneof![Just(0), any::<u64>()];
    let label = prop::option::of(prop_oneof!["[a-z]{1,20}", "\\PC{0,400}"]);
    let neighbours = prop_oneof![Just([0, 0]), any::<[u32; 2]>()];
    let few = prop_oneof![Just(0), any::<u8>()];
    (record(), [route(), route()], next_hop, [number(), number()], label, neighbours, few, any::<bool>())
        .prop_map(
            |(
                record,
                [source_route, destination_route],
                bgp_next_hop,
                [tag, tag2],
                label,
                neighbours,
                length,
                has_route,
            )| {
                FlowRecord {
                    source_prefix_length: record.source_prefix_length & length,
                    destination_prefix_length: record.destination_prefix_length & length,
                    source_route,
                    destination_route,
                    has_route,
                    bgp_next_hop,
                    tag,
                    tag2,
                    label: label.map(Arc::from),
                    bgp_prev_adjacent_as_number: neighbours[0],
                    bgp_next_adjacent_as_number: neighbours[1],
                    ..record
                }
            },
        )
}

fn groups() -> impl Strategy<Value = FieldGroups> {
    any::<[bool; 4]>().prop_map(|chosen| {
        let groups = FieldGroups::NAMES.iter().zip(chosen).filter(|(_, chosen)| *chosen);
        groups.fold(FieldGroups::NONE, |groups, ((_, group), _)| groups.with(*group))
    })
}

/// Encodes the preamble and all records into as few messages as the budget allows.
fn encode(encoder: &mut Encoder, budget: usize, now: ExportTime, records: &[FlowRecord]) -> Vec<Vec<u8>> {
    let context = context();
    let parts = encoder.preamble(&context).all;
    let mut messages = Vec::new();
    let mut message = Message::new();
    encoder.begin(&mut message, budget).expect("budget holds a header");
    let mut next = |encoder: &mut Encoder, message: &mut Message| {
        encoder.finish(message, now);
        messages.push(message.octets().to_vec());
        encoder.commit(message);
        encoder.begin(message, budget).expect("budget holds a header");
    };
    let mut part = 0;
    loop {
        let reached = encoder.push_preamble(&mut message, &context, part..parts);
        if reached == parts {
            break;
        }
        assert!(reached > part, "budget holds a part");
        part = reached;
        next(encoder, &mut message);
    }
    for record in records {
        if encoder.push(&mut message, record).is_err() {
            next(encoder, &mut message);
            encoder.push(&mut message, record).expect("budget holds a record");
        }
    }
    next(encoder, &mut message);
    messages
}

/// What the records of options data for [`context`] are, from the RFCs.
fn expected_options(format: Format, domain: u32) -> Vec<OptionsFields> {
    let word = |value: u32| value.to_be_bytes().to_vec();
    let text = |text: &str, length| {
        let mut octets = text.as_bytes().to_vec();
        octets.resize(length, 0);
        octets
    };
    let mut options = match format {
        Format::Ipfix => vec![
            vec![
                (138, word(7)),
                (61, vec![0]),
                (302, vec![1, 44]),
                (304, vec![0, 1]),
                (34, word(100)),
                (305, word(1)),
                (306, word(99)),
            ],
            vec![
                (138, word(9)),
                (61, vec![1]),
                (302, vec![0, 4]),
                (304, vec![0, 3]),
                (34, word(1000)),
                (309, word(1)),
                (310, word(1000)),
            ],
        ],
        Format::NetflowV9 => vec![
            vec![
                (2, word(7)),
                (61, vec![0]),
                (48, vec![1, 44]),
                (49, vec![1]),
                (34, word(100)),
                (50, word(100)),
            ],
            vec![
                (2, word(9)),
                (61, vec![1]),
                (48, vec![0, 4]),
                (49, vec![2]),
                (34, word(1000)),
                (50, word(1000)),
            ],
        ],
        Format::NetflowV5 => unreachable!("no options data"),
    };
    for (index, name, description) in [(7, "eth0", "transit to AS\u{a0}64500"), (9, "eth1.301", "eth1.301")] {
        let (index, name, description) =
            ((10, word(index)), (82, text(name, 32)), (83, text(description, 64)));
        options.push(match format {
            Format::Ipfix => vec![name, index, description],
            Format::NetflowV9 => vec![(1, word(domain)), index, name, description],
            Format::NetflowV5 => unreachable!("no options data"),
        });
    }
    options
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoded_records_equal_exported_records(
        records in prop::collection::vec(enriched_record(), 0..80),
        groups in groups(),
        budget in 400_usize..9000,
        domain in any::<u32>(),
        // After the first 49 days.
        seconds in 5_000_000..u32::MAX,
    ) {
        for format in [Format::Ipfix, Format::NetflowV9] {
            let now = ExportTime {
                unix_milliseconds: u64::from(seconds) * 1000 + 999,
                monotonic: Duration::from_millis(u64::from(seconds)),
            };
            let groups = if format.carries(groups) { groups } else { FieldGroups::BGP };
            let mut encoder = Encoder::with_groups(format, domain, groups);
            let records: Vec<FlowRecord> = records
                .iter()
                .map(|record| {
                    let mut fit = encoder.fit(record, now).expect("fit");
                    encoder.fit_length(&mut fit, record, budget);
                    let left_out = fit.limits().any(|reason| reason == LimitReason::FieldsOverMessageSize);
                    // Template and record with all that can be large take no more than this.
                    let large = record.label.as_ref().map_or(0, |label| label.len())
                        + expected_communities(record).map(|(_, list)| list.len()).sum::<usize>();
                    assert!(!left_out || large + 500 > budget, "left out of {budget}: {large}");
                    fit.part(record, 0)
                })
                .collect();
            let messages = encode(&mut encoder, budget, now, &records);
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            let mut switched = Vec::new();
            let mut options = Vec::new();
            let mut templates = 0;
            for (index, octets) in messages.iter().enumerate() {
                prop_assert!(octets.len() <= budget);
                let decoded = decoder.decode(octets);
                prop_assert_eq!(decoded.domain, domain);
                match format {
                    Format::Ipfix => {
                        prop_assert_eq!(decoded.sequence_number as usize, seen.len() + options.len());
                        prop_assert_eq!(decoded.export_seconds, seconds);
                    }
                    Format::NetflowV9 => {
                        prop_assert_eq!(decoded.sequence_number as usize, index);
                        // The next full second.
                        prop_assert_eq!(decoded.export_seconds, seconds + 1);
                        let data_records = decoded.records.len() + decoded.options.len();
                        let count = decoded.template_records + data_records;
                        prop_assert_eq!(decoded.count.map(usize::from), Some(count));
                        prop_assert_eq!(octets.len() % 4, 0);
                    }
                    Format::NetflowV5 => unreachable!("it has tests of its own"),
                }
                templates += decoded.template_records;
                seen.extend(decoded.records);
                switched.extend(decoded.switched);
                options.extend(decoded.options);
            }
            let keys = |record: &FlowRecord| expected_with(record, format, groups).into_keys().collect();
            let kinds: BTreeSet<Vec<Id>> = records.iter().map(keys).collect();
            let plain = [FlowRecord::between(IPV4, IPV4), FlowRecord::between(IPV6, IPV6)];
            let kinds = kinds.into_iter().chain(plain.iter().map(keys)).collect::<BTreeSet<_>>();
            let options_templates = if format == Format::Ipfix { 3 } else { 2 };
            prop_assert_eq!(templates, kinds.len() + options_templates, "each template once");
            prop_assert_eq!(options, expected_options(format, domain));
            let expected: Vec<Fields> =
                records.iter().map(|record| expected_with(record, format, groups)).collect();
            prop_assert_eq!(seen, expected);
            if format == Format::NetflowV9 {
                let told = |record| told_times(record, now.unix_milliseconds).map(|time| time as u32);
                prop_assert_eq!(switched, records.iter().map(told).collect::<Vec<_>>());
            }
        }
    }

    /// A message that was finished but not committed leaves no trace: begun again with less room, the records
    /// arrive with the same Sequence Numbers.
    #[test]
    fn begun_again_with_a_smaller_budget(
        records in prop::collection::vec(record(), 1..40),
        small in 320_usize..1000,
    ) {
        for format in [Format::Ipfix, Format::NetflowV9] {
            let mut encoder = Encoder::new(format, 1);
            let mut message = Message::new();
            encoder.begin(&mut message, 65_507).expect("begin");
            let parts = encoder.preamble(&context()).all;
            assert_eq!(encoder.push_preamble(&mut message, &context(), 0..parts), parts);
            for record in &records {
                encoder.push(&mut message, record).expect("room");
            }
            encoder.finish(&mut message, NOW);
            let again = encode(&mut encoder, small, NOW, &records);
            let fresh = encode(&mut Encoder::new(format, 1), small, NOW, &records);
            prop_assert_eq!(again, fresh);
        }
    }
}

/// Every budget from nothing to more than enough: an error or a message within the budget, never a panic.
#[test]
fn any_budget() {
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        for budget in 0..1600 {
            for context in [context(), ObservationContext::default()] {
                let encoder = Encoder::new(format, 1);
                let mut message = Message::new();
                if encoder.begin(&mut message, budget).is_err() {
                    assert!(message.is_empty());
                }
                let parts = encoder.preamble(&context).all;
                let reached = encoder.push_preamble(&mut message, &context, 0..parts);
                assert!((message.template_records() + message.options_records()) as usize <= reached);
                for record in flows() {
                    let before = message.flow_records();
                    let pushed = encoder.push(&mut message, &record).is_ok();
                    assert_eq!(message.flow_records(), before + u32::from(pushed));
                }
                encoder.finish(&mut message, NOW);
                assert!(message.octets().len() <= budget);
            }
        }
    }
}
