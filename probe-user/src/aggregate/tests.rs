//! Aggregation against a model that keeps rows as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pathflow_exporter::{
    BgpAttributes, BgpPathSegment, BgpPathSegmentKind, BgpRoute, FlowDirection, FlowRecord, InterfaceInfo,
    ObservationContext,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

fn record() -> FlowRecord {
    FlowRecord::between(IpAddr::from([192, 0, 2, 1]), IpAddr::from([198, 51, 100, 1]))
}

fn observed(record: FlowRecord, start: u64) -> Observed {
    let (extension, inner_tcp_control_bits) = (None, 0);
    Observed { record, extension, inner_tcp_control_bits, begins: true, start, time: start, end: start + 10 }
}

fn route(path: &[u32], community: u32) -> Arc<BgpRoute> {
    let segment = BgpPathSegment { kind: BgpPathSegmentKind::Sequence, as_numbers: path.into() };
    Arc::new(BgpRoute::new(BgpAttributes {
        as_path: [segment].into(),
        communities: [community].into(),
        local_pref: Some(community),
        ..BgpAttributes::default()
    }))
}

fn settings(names: &[&str]) -> AggregateSettings {
    AggregateSettings::new("test", Key::parse(names).unwrap(), Duration::from_mins(1))
}

fn add_all(aggregation: &mut Aggregation, deltas: &[Observed]) -> Spread {
    let mut spread = Spread::default();
    aggregation.add(deltas, &mut spread);
    spread
}

/// Rows as text, with packets, octets, first and last time, flows and TCP flags.
type Rows = BTreeMap<String, (u64, u64, u64, u64, u64, u8)>;

fn text(value: Value<'_>, primitive: Primitive) -> String {
    match (value, primitive) {
        (Value::Path(route), Primitive::AsPath | Primitive::SrcAsPath) => {
            format!("{:?}", route.map(|value| &value.route.attributes().as_path))
        }
        (Value::Path(route), _) => format!("{:?}", route.map(|value| &value.route.attributes().communities)),
        (value, _) => format!("{value:?}"),
    }
}

fn rows(purge: &Purge) -> Rows {
    let mut rows = Rows::new();
    for row in purge.rows() {
        let mut key = format!("{:?}", row.bin());
        for (position, primitive) in purge.primitives().iter().enumerate() {
            if !matches!(primitive, Primitive::TcpFlags | Primitive::Flows) {
                let _ = write!(key, " {}", text(row.value(position), *primitive));
            }
        }
        let flags = purge.primitives().iter().position(|primitive| *primitive == Primitive::TcpFlags);
        let flags = match flags.map(|position| row.value(position)) {
            Some(Value::TcpFlags(flags)) => flags,
            _ => 0,
        };
        let counters = (row.packets(), row.octets(), row.first(), row.last(), row.flows(), flags);
        assert!(rows.insert(key.clone(), counters).is_none(), "two rows: {key}");
    }
    rows
}

/// What a primitive says of a delta, from the record alone.
fn model_value(primitive: Primitive, observed: &Observed) -> String {
    use Primitive as P;
    let record = &observed.record;
    let path = |route: &Option<Arc<BgpRoute>>| {
        format!("{:?}", route.as_ref().map(|route| &route.attributes().as_path))
    };
    let value = match primitive {
        P::SrcHost => Value::Address(Some(record.source_address)),
        P::DstHost => Value::Address(Some(record.destination_address)),
        P::SrcNet => {
            let network = ipnet::IpNet::new(record.source_address, record.source_prefix_length).unwrap();
            Value::Address(Some(network.network()))
        }
        P::SrcMask => Value::Number(record.source_prefix_length.into()),
        P::SrcPort if matches!(record.protocol_identifier, 6 | 17) => {
            Value::Number(record.source_port.into())
        }
        P::SrcPort => Value::Number(0),
        P::Proto => Value::Protocol(record.protocol_identifier),
        P::Etype => Value::EtherType(if record.source_address.is_ipv4() { 0x800 } else { 0x86dd }),
        P::DstAs => Value::Number(record.bgp_destination_as_number.into()),
        P::Label => Value::Text(record.label.as_deref().unwrap_or("")),
        P::Tag => Value::Number(record.tag),
        P::PeerDstIp => Value::Address(record.bgp_next_hop),
        P::TimestampStart => Value::Time(Some(observed.start)),
        P::AsPath => return path(&record.destination_route),
        P::StdComm => {
            return format!(
                "{:?}",
                record.destination_route.as_ref().map(|route| &route.attributes().communities)
            );
        }
        P::LocalPref => {
            let local_pref =
                record.destination_route.as_ref().and_then(|route| route.attributes().local_pref);
            Value::Number(local_pref.unwrap_or(0).into())
        }
        other => panic!("{other} is not in the model"),
    };
    format!("{value:?}")
}

const MODELLED: [&str; 15] = [
    "src_host",
    "dst_host",
    "src_net",
    "src_mask",
    "src_port",
    "proto",
    "etype",
    "dst_as",
    "label",
    "tag",
    "peer_dst_ip",
    "timestamp_start",
    "as_path",
    "std_comm",
    "local_pref",
];

fn deltas() -> impl Strategy<Value = Vec<Observed>> {
    let addresses =
        select(vec!["192.0.2.1", "192.0.2.77", "198.51.100.9", "2001:db8::1", "::ffff:192.0.2.1"]);
    let routes = [None, Some(route(&[1, 2], 7)), Some(route(&[1, 2], 8)), Some(route(&[3], 7))];
    let labels = select(vec![None, Some("a"), Some("b")]);
    let delta = (
        (addresses.clone(), addresses, 0_u8..33, select(vec![1_u8, 6, 17]), 0_u16..3),
        (0_u32..3, labels, 0_u64..2, select(routes.to_vec()), select(vec![0_u16, 2, 16, 0x118])),
        (1_u64..1000, 40_u64..1_000_000, 1_700_000_000_000_000_u64..1_700_000_600_000_000, any::<bool>()),
    );
    let delta = delta.prop_map(|((source, destination, length, protocol, port), more, counts)| {
        let (as_number, label, tag, destination_route, tcp_control_bits) = more;
        let (packets, octets, start, begins) = counts;
        let record = FlowRecord {
            source_prefix_length: length,
            protocol_identifier: protocol,
            source_port: port,
            bgp_destination_as_number: as_number,
            label: label.map(Into::into),
            tag,
            destination_route,
            tcp_control_bits,
            packet_delta_count: packets,
            octet_delta_count: octets,
            ..FlowRecord::between(source.parse().unwrap(), destination.parse().unwrap())
        };
        Observed { begins, ..observed(record, start) }
    });
    vec(delta, 0..60)
}

proptest! {
    #[test]
    fn rows_are_those_of_the_model(
        deltas in deltas(),
        names in subsequence(MODELLED.to_vec(), 0..8),
        has_bins in any::<bool>(),
    ) {
        let mut settings = settings(&[&names[..], &["tcpflags", "flows"]].concat());
        let bins = Bins::parse("1m", "m", Duration::ZERO, jiff::tz::TimeZone::UTC).unwrap();
        settings.history = has_bins.then_some(bins);
        let mut expected = Rows::new();
        let mut sum = crate::ledger::Amount::default();
        for delta in &deltas {
            let bin = has_bins.then(|| delta.start / 60_000_000 * 60);
            let mut key = format!("{bin:?}");
            for primitive in settings.key.primitives.iter().filter(|p| !matches!(p, Primitive::TcpFlags | Primitive::Flows)) {
                let _ = write!(key, " {}", model_value(*primitive, delta));
            }
            let row = expected.entry(key).or_insert((0, 0, u64::MAX, 0, 0, 0));
            let record = &delta.record;
            *row = (
                row.0 + record.packet_delta_count,
                row.1 + record.octet_delta_count,
                row.2.min(delta.start),
                row.3.max(delta.end),
                row.4 + u64::from(delta.begins),
                row.5 | record.tcp_control_bits as u8,
            );
            sum.add(crate::ledger::Amount { packets: record.packet_delta_count, octets: record.octet_delta_count });
        }
        let mut aggregation = Aggregation::new(settings);
        let spread = add_all(&mut aggregation, &deltas);
        prop_assert_eq!((spread.offered, spread.in_table), (sum, sum));
        // Half of them in memory that was used before.
        let first = aggregation.purge(1, None, None);
        prop_assert_eq!(rows(&first), expected.clone());
        add_all(&mut aggregation, &deltas);
        let second = aggregation.purge(2, None, Some(first));
        prop_assert_eq!(rows(&second), expected.clone());
        add_all(&mut aggregation, &deltas);
        prop_assert_eq!(rows(&aggregation.purge(3, None, Some(second))), expected);
    }

    /// What is held back at a purge comes with the next one, and nothing else.
    #[test]
    fn later_bins_are_held_back(deltas in deltas(), names in subsequence(MODELLED.to_vec(), 0..6)) {
        let mut settings = settings(&names);
        settings.history = Some(Bins::parse("1m", "m", Duration::ZERO, jiff::tz::TimeZone::UTC).unwrap());
        let time = 1_700_000_280;
        let of = |is_for: &dyn Fn(u64) -> bool| {
            let mut aggregation = Aggregation::new(settings.clone());
            let chosen: Vec<Observed> =
                deltas.iter().filter(|delta| is_for(delta.start / 60_000_000 * 60)).cloned().collect();
            add_all(&mut aggregation, &chosen);
            rows(&aggregation.purge(0, None, None))
        };
        let mut aggregation = Aggregation::new(settings.clone());
        add_all(&mut aggregation, &deltas);
        let first = aggregation.purge(time, Some(time), None);
        prop_assert_eq!(rows(&first), of(&|bin| bin < time));
        let second = aggregation.purge(time + 60, None, Some(first));
        prop_assert_eq!(rows(&second), of(&|bin| bin >= time));
    }
}

#[test]
fn each_packet_counts_for_both_ends() {
    let delta = |source: [u8; 4], destination: [u8; 4], octets| {
        let record = FlowRecord {
            packet_delta_count: 1,
            octet_delta_count: octets,
            ..FlowRecord::between(source.into(), destination.into())
        };
        observed(record, 0)
    };
    let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let mut aggregation = Aggregation::new(settings(&["sum_host"]));
    let spread = add_all(&mut aggregation, &[delta(a, b, 100), delta(b, a, 10), delta(a, a, 1)]);
    assert_eq!((spread.offered.octets, spread.multiplied.octets, spread.in_table.octets), (111, 111, 222));
    let purge = aggregation.purge(0, None, None);
    let found: BTreeMap<String, u64> =
        purge.rows().map(|row| (format!("{:?}", row.value(0)), row.octets())).collect();
    let text = |address: [u8; 4]| format!("{:?}", Value::Address(Some(IpAddr::from(address))));
    assert_eq!(found, BTreeMap::from([(text(a), 112), (text(b), 110)]));
}

#[test]
fn vlans_are_those_of_tags_or_else_of_interfaces() {
    let interface = |index, vlan_id| InterfaceInfo {
        index,
        name: format!("eth{index}"),
        description: String::new(),
        vlan_id,
    };
    // The first one of the last number is gone, or has the number from the kernel and not from the operator.
    let interfaces = vec![interface(1, 0), interface(2, 42), interface(4, 43), interface(4, 0)];
    let context = ObservationContext { interfaces, selectors: Vec::new() };
    let vlans = |vlan_id, flow_direction, ingress_interface, egress_interface| {
        let mut aggregation = Aggregation::new(settings(&["in_vlan", "out_vlan"]));
        aggregation.set_context(Arc::new(context.clone()));
        let record = FlowRecord { vlan_id, flow_direction, ingress_interface, egress_interface, ..record() };
        add_all(&mut aggregation, &[observed(record, 0)]);
        let purge = aggregation.purge(0, None, None);
        let row = purge.rows().next().unwrap();
        [row.value(0), row.value(1)].map(|value| match value {
            Value::Number(number) => number,
            other => panic!("{other:?}"),
        })
    };
    let (incoming, outgoing) = (FlowDirection::Ingress, FlowDirection::Egress);
    assert_eq!(vlans(7, incoming, 1, 1), [7, 0]);
    assert_eq!(vlans(7, outgoing, 1, 1), [0, 7]);
    // The kernel's routing table says which interface packets go out of, and the inventory its VLAN.
    assert_eq!(vlans(7, incoming, 1, 2), [7, 42]);
    assert_eq!(vlans(7, outgoing, 2, 1), [42, 7]);
    // The interface of a VLAN sees no tag; if it does, there were two.
    assert_eq!(vlans(0, incoming, 2, 1), [42, 0]);
    assert_eq!(vlans(9, incoming, 2, 1), [9, 0]);
    assert_eq!(vlans(0, incoming, 1, 3), [0, 0]);
    assert_eq!(vlans(0, incoming, 1, 4), [0, 0]);
}

#[test]
fn a_full_table_loses_by_name_and_counts_what_it_knows() {
    let mut settings = settings(&["src_port", "proto"]);
    settings.max_entries = 3;
    let delta = |port| {
        let record = FlowRecord {
            protocol_identifier: 6,
            source_port: port,
            packet_delta_count: 1,
            octet_delta_count: 40,
            ..record()
        };
        observed(record, 0)
    };
    let mut aggregation = Aggregation::new(settings);
    let spread = add_all(&mut aggregation, &[1, 2, 3].map(delta));
    assert!(!aggregation.has_room() && spread.table_full.is_zero());
    let spread = add_all(&mut aggregation, &[1, 4, 2, 5].map(delta));
    assert_eq!((spread.in_table.packets, spread.table_full.packets), (2, 2));
    let purge = aggregation.purge(0, None, None);
    assert!(aggregation.has_room());
    assert_eq!((purge.tally().records, purge.tally().packets), (3, 5));
}

/// More rows than a cache holds near, twice in another order, the second time with more than there is room for.
#[test]
fn many_rows_are_each_counted_once() {
    const ROWS: u32 = 20_000;
    let delta = |number: u32| {
        let record = FlowRecord {
            bgp_source_as_number: number,
            packet_delta_count: u64::from(number % 7 + 1),
            octet_delta_count: u64::from(number),
            ..record()
        };
        observed(record, 0)
    };
    let mut settings = settings(&["src_as", "src_host"]);
    settings.max_entries = ROWS as usize;
    let mut aggregation = Aggregation::new(settings);
    let first: Vec<Observed> = (0..ROWS).map(delta).collect();
    assert_eq!(aggregation.room(100), 16);
    let spread = add_all(&mut aggregation, &first);
    assert!(spread.table_full.is_zero() && !aggregation.has_room());
    assert_eq!(aggregation.room(100), 1);
    // 7919 is prime: each number comes once.
    let second: Vec<Observed> = (0..2 * ROWS).map(|number| delta(number * 7919 % (2 * ROWS))).collect();
    let spread = add_all(&mut aggregation, &second);
    let without_room: u64 = (ROWS..2 * ROWS).map(|number| u64::from(number % 7 + 1)).sum();
    assert_eq!(spread.table_full.packets, without_room);
    let purge = aggregation.purge(0, None, None);
    let mut counted: Vec<(u64, u64, u64)> = purge
        .rows()
        .map(|row| match row.value(0) {
            Value::Number(number) => (number, row.packets(), row.octets()),
            other => panic!("{other:?} is no AS"),
        })
        .collect();
    counted.sort_unstable();
    let expected = (0..u64::from(ROWS)).map(|number| (number, 2 * (number % 7 + 1), 2 * number));
    assert!(counted.into_iter().eq(expected));
}

#[test]
fn sampling_and_renormalization_are_in_the_spread() {
    let mut settings = settings(&["sampling_rate"]);
    settings.sampling_interval = NonZeroU32::new(10).unwrap();
    settings.renormalize = true;
    let record =
        FlowRecord { packet_delta_count: 1000, octet_delta_count: 64_000, sampling_interval: 2, ..record() };
    let mut aggregation = Aggregation::new(settings.clone());
    let spread = add_all(&mut aggregation, &[observed(record.clone(), 0)]);
    assert_eq!((spread.sampled_out.packets, spread.multiplied.packets), (900, 1900));
    assert_eq!((spread.in_table.packets, spread.in_table.octets), (2000, 128_000));
    let purge = aggregation.purge(0, None, None);
    assert_eq!(purge.rows().next().unwrap().value(0), Value::Number(1));
    settings.renormalize = false;
    let mut aggregation = Aggregation::new(settings);
    add_all(&mut aggregation, &[observed(record, 0)]);
    let purge = aggregation.purge(0, None, None);
    let row = purge.rows().next().unwrap();
    assert_eq!((row.value(0), row.packets()), (Value::Number(20), 100));
}

#[test]
fn the_largest_rows_are_chosen_and_the_others_counted() {
    let deltas: Vec<Observed> = (1..=10_u64)
        .map(|number| {
            let record = FlowRecord {
                bgp_source_as_number: number as u32,
                packet_delta_count: 11 - number,
                octet_delta_count: number * 100,
                ..record()
            };
            observed(record, 0)
        })
        .collect();
    let mut aggregation = Aggregation::new(settings(&["src_as"]));
    add_all(&mut aggregation, &deltas);
    let mut purge = aggregation.purge(0, None, None);
    let limits = RowLimits { top: 3, min_packets: 3, ..RowLimits::default() };
    let left_out = purge.choose(&limits);
    let chosen: Vec<Value<'_>> = purge.rows().map(|row| row.value(0)).collect();
    assert_eq!(chosen, [8, 7, 6].map(Value::Number));
    assert_eq!((left_out.below_minimum.records, left_out.below_minimum.packets), (2, 3));
    assert_eq!((left_out.below_top.records, left_out.below_top.octets), (5, 1500));
    assert_eq!((purge.tally().records, purge.tally().octets), (3, 2100));
    let purge = aggregation.purge(0, None, Some(purge));
    assert!(purge.is_empty());
}

/// pmacct keeps a row that meets one of several minimums, if it is not told otherwise.
#[test]
fn a_row_has_to_meet_all_minimums_or_any_one() {
    // Many packets and few octets, the other way round, both, and neither; each is a flow.
    let deltas = [(1, 200, 20_000), (2, 2, 200_000), (3, 300, 300_000), (4, 3, 300)].map(
        |(number, packet_delta_count, octet_delta_count)| {
            let record = FlowRecord {
                bgp_source_as_number: number,
                packet_delta_count,
                octet_delta_count,
                ..record()
            };
            observed(record, 0)
        },
    );
    let chosen = |limits: RowLimits| {
        let mut aggregation = Aggregation::new(settings(&["src_as"]));
        add_all(&mut aggregation, &deltas);
        let mut purge = aggregation.purge(0, None, None);
        let left_out = purge.choose(&limits);
        assert_eq!(left_out.below_minimum.records as usize + purge.len(), 4);
        let mut numbers: Vec<u64> = purge.rows().map(|row| row.packets()).collect();
        numbers.sort_unstable();
        numbers
    };
    let limits = RowLimits { min_packets: 100, min_octets: 100_000, ..RowLimits::default() };
    assert_eq!(chosen(limits), [300]);
    assert_eq!(chosen(RowLimits { minimums: Minimums::Any, ..limits }), [2, 200, 300]);
    // One minimum is the same in both ways, and so is none.
    for minimums in [Minimums::All, Minimums::Any] {
        let none = RowLimits { minimums, ..RowLimits::default() };
        assert_eq!(chosen(RowLimits { min_octets_per_packet: 1000, ..none }), [2, 300]);
        assert_eq!(chosen(RowLimits { min_octets_per_packet: 1001, ..none }), [2]);
        assert_eq!(chosen(RowLimits { min_packets_per_flow: 200, ..none }), [200, 300]);
        assert_eq!(chosen(RowLimits { min_flows: 2, ..none }), [0; 0]);
        assert_eq!(chosen(none), [2, 3, 200, 300]);
    }
}

/// Rules of an aggregate's own take the place of those for all, for what it selects as for what it writes.
#[test]
fn tags_of_its_own_are_in_place_of_those_of_the_record() {
    use crate::enrich::tags::Row;
    use crate::enrich::{EnrichSettings, TagMap};
    let map = |rules: &[(&str, &str)]| {
        let mut map = TagMap::new(Vec::new());
        for (condition, label) in rules {
            let pairs = [("src_net", *condition), ("set_label", *label), ("jeq", "next")];
            map.push(Row::new("here".to_owned(), pairs.into_iter()).unwrap()).unwrap();
        }
        map.resolve().unwrap();
        Arc::new(map)
    };
    let of = |map: Option<Arc<TagMap>>| EnrichSettings {
        tags_of: map.into_iter().map(|map| ("test".to_owned(), map)).collect(),
        ..EnrichSettings::default()
    };
    let mut settings = settings(&["tag", "label"]);
    settings.selection.labels = "-null".parse().unwrap();
    let mut aggregation = Aggregation::new(settings);
    let mut written = |map| {
        aggregation.set_enrichment(&of(map));
        let mut tagged = FlowRecord { packet_delta_count: 1, tag: 7, label: Some("all".into()), ..record() };
        let mut deltas = vec![observed(tagged.clone(), 0)];
        tagged.source_address = IpAddr::from([203, 0, 113, 1]);
        deltas.push(observed(tagged, 0));
        let spread = add_all(&mut aggregation, &deltas);
        let rows: Vec<String> = rows(&aggregation.purge(0, None, None)).into_keys().collect();
        (rows, spread.not_selected.packets)
    };
    let row = |tag: u64, label: &str| format!("None Number({tag}) Text({label:?})");
    assert_eq!(written(None), (vec![row(7, "all")], 0));
    let own = map(&[("192.0.2.0/24", "a"), ("192.0.2.1", "b")]);
    assert_eq!(written(Some(Arc::clone(&own))), (vec![row(0, "a,b")], 1));
    assert_eq!(written(Some(own)), (vec![row(0, "a,b")], 1));
    let other = map(&[("0.0.0.0/0", "c"), ("203.0.113.1", "d")]);
    assert_eq!(written(Some(other)), (vec![row(0, "c"), row(0, "c,d")], 0));
    assert_eq!(written(Some(map(&[]))), (vec![], 2));
    assert_eq!(written(None), (vec![row(7, "all")], 0));
}

/// Of each address family inside, and through another table, as rows in memory go.
#[test]
fn rows_have_what_extensions_say() {
    use pathflow_common::extension::{InnerPacket, KeyExtension};
    let octets = |octets: [u8; 32]| {
        let (words, _) = octets.as_chunks::<8>();
        [words[0], words[1], words[2], words[3]].map(u64::from_ne_bytes)
    };
    let mut ipv4 = [0; 32];
    ipv4[..8].copy_from_slice(&[192, 0, 2, 7, 198, 51, 100, 8]);
    let (mut ipv6, mut chosen) = ([0x20; 32], [0; 32]);
    (ipv6[15], ipv6[31], chosen[4], chosen[5]) = (1, 2, 0xff, 0xfe);
    let inner = InnerPacket { ports: [0x10, 1, 0, 53], protocol: 17, ..InnerPacket::default() };
    let extensions = [
        KeyExtension {
            inner: InnerPacket { addresses: octets(ipv4), ether_type: 0x800, ..inner },
            chosen,
            ..KeyExtension::default()
        },
        KeyExtension {
            inner: InnerPacket { addresses: octets(ipv6), ether_type: 0x86dd, protocol: 58, ..inner },
            labels: [0xf_ffff, 16, 17, 0, 0, 0, 0, 0, 0, 0],
            label_count: 3,
            ..KeyExtension::default()
        },
    ];
    let custom = ["none", "some"].map(|name| CustomPrimitive {
        name: format!("own-{name}"),
        semantics: Semantics::Hex,
        length: 2,
        offset: if name == "some" { 4 } else { 0 },
    });
    let names = [
        "own-some",
        "tunnel_src_host",
        "tunnel_dst_host",
        "tunnel_src_port",
        "tunnel_dst_port",
        "mpls_label_stack",
        "mpls_label_bottom",
        "mpls_stack_depth",
        "tunnel_tcpflags",
        "tcpflags",
        "own-none",
    ];
    let key = Key::parse_with(&names, &custom).unwrap();
    let mut aggregation = Aggregation::new(AggregateSettings::new("test", key, Duration::from_mins(1)));
    let with = |extension: Option<&KeyExtension>| Observed {
        extension: extension.copied().map(Arc::new),
        inner_tcp_control_bits: 0x112,
        ..observed(FlowRecord { packet_delta_count: 1, ..record() }, 1)
    };
    let deltas = [with(None), with(extensions.first()), with(extensions.last()), with(extensions.last())];
    add_all(&mut aggregation, &deltas);
    let purge = aggregation.purge(0, None, None);
    let mut others =
        Purge::for_rows(Arc::new(key::KeyLayout::new(&aggregation.settings().key, None)), 10, false);
    assert!(purge.rows().all(|row| others.absorb(&row)));
    for purge in [&purge, &others] {
        let mut rows: Vec<String> = purge
            .rows()
            .map(|row| {
                let values: Vec<String> = (0..names.len())
                    .map(|position| match row.value(position) {
                        Value::Number(number) => number.to_string(),
                        Value::TcpFlags(flags) => flags.to_string(),
                        Value::Address(address) => address.map_or("-".into(), |address| address.to_string()),
                        Value::Labels(labels) => format!("{labels:x?}"),
                        Value::Custom(value) => format!("{:x}", value.number()),
                        other => panic!("{other:?}"),
                    })
                    .collect();
                format!("{} {}", row.packets(), values.join(" "))
            })
            .collect();
        rows.sort();
        assert_eq!(
            rows,
            [
                "1 0 [] 0 0 - - 0 0 18 0 0",
                "1 0 [] 0 0 192.0.2.7 198.51.100.8 4097 53 18 fffe 0",
                "2 0 [[f, ff, ff], [0, 0, 10], [0, 0, 11]] 17 3 2020:2020:2020:2020:2020:2020:2020:2001 \
                 2020:2020:2020:2020:2020:2020:2020:2002 0 0 18 0 0",
            ]
        );
    }
}
