//! Any records in any order, in IPFIX and NetFlow v9 with any groups of fields and any size of messages, are messages that
//! netflow_parser reads without a complaint, with as many records in them, and the counts of each as they were.
#![no_main]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;

use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{FieldValue, NetflowPacket, NetflowParser};
use pathflow_exporter::encode::{Encoder, Message};
use pathflow_exporter::{
    BgpAttributes, BgpRoute, ExportTime, FieldGroups, FlowRecord, Format, ObservationContext,
};

/// Where octetDeltaCount is in every Flow Record.
const IPFIX_COUNTS: usize = 2;
/// The same in NetFlow v9, behind four times.
const NETFLOW_V9_COUNTS: usize = 4;

const NOW: ExportTime =
    ExportTime { unix_milliseconds: 1_795_246_800_123, monotonic: Duration::from_secs(3600) };

fn address(input: &mut Unstructured<'_>, is_ipv6: bool) -> arbitrary::Result<IpAddr> {
    Ok(if is_ipv6 { <[u8; 16]>::arbitrary(input)?.into() } else { <[u8; 4]>::arbitrary(input)?.into() })
}

fn route(input: &mut Unstructured<'_>) -> arbitrary::Result<Option<Arc<BgpRoute>>> {
    if !bool::arbitrary(input)? {
        return Ok(None);
    }
    Ok(Some(Arc::new(BgpRoute::new(BgpAttributes {
        communities: Vec::arbitrary(input)?.into(),
        extended_communities: Vec::arbitrary(input)?.into(),
        large_communities: Vec::arbitrary(input)?.into(),
        ..BgpAttributes::default()
    }))))
}

fn record(input: &mut Unstructured<'_>) -> arbitrary::Result<FlowRecord> {
    let [is_ipv6, is_hop_ipv6] = Arbitrary::arbitrary(input)?;
    let (source, destination) = (address(input, is_ipv6)?, address(input, is_ipv6)?);
    Ok(FlowRecord {
        packet_delta_count: u64::arbitrary(input)?,
        octet_delta_count: u64::arbitrary(input)?,
        source_port: u16::arbitrary(input)?,
        // What a decoder turns into durations stays below the year 10000.
        flow_start_milliseconds: u64::arbitrary(input)? % 253_402_300_800_000,
        flow_end_milliseconds: u64::arbitrary(input)? % 253_402_300_800_000,
        source_prefix_length: u8::arbitrary(input)?,
        bgp_next_hop: if bool::arbitrary(input)? { Some(address(input, is_hop_ipv6)?) } else { None },
        mpls_top_label: Option::<u32>::arbitrary(input)?.map(|label| label & 0xf_ffff),
        layer2_segment_id: u32::arbitrary(input)? & 0xff_ffff,
        selector_id: u16::arbitrary(input)?,
        source_mac_address: Arbitrary::arbitrary(input)?,
        source_route: route(input)?,
        destination_route: route(input)?,
        tag: u64::arbitrary(input)?,
        label: Option::<String>::arbitrary(input)?.map(Arc::from),
        ..FlowRecord::between(source, destination)
    })
}

/// Octets of the messages, and packets and octets of what they have room for.
fn encode(encoder: &mut Encoder, budget: usize, records: &[FlowRecord]) -> (Vec<Vec<u8>>, Vec<[u64; 2]>) {
    let (mut messages, mut sent) = (Vec::new(), Vec::new());
    let mut message = Message::new();
    encoder.begin(&mut message, budget).expect("room for a header");
    let context = ObservationContext::default();
    encoder.push_preamble(&mut message, &context, 0..encoder.preamble(&context).all);
    let mut next = |encoder: &mut Encoder, message: &mut Message| {
        encoder.finish(message, NOW);
        messages.push(message.octets().to_vec());
        encoder.commit(message);
        encoder.begin(message, budget).expect("room for a header");
    };
    for record in records {
        if encoder.push(&mut message, record).is_err() {
            next(encoder, &mut message);
            if encoder.push(&mut message, record).is_err() {
                // Larger than a message, with its template: the Exporting Process leaves fields out.
                continue;
            }
        }
        sent.push([record.packet_delta_count, record.octet_delta_count]);
    }
    next(encoder, &mut message);
    (messages, sent)
}

fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

fn run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let is_ipfix = bool::arbitrary(input)?;
    let format = if is_ipfix { Format::Ipfix } else { Format::NetflowV9 };
    let groups = FieldGroups::NAMES.iter().map(|(_, group)| *group).filter(|group| format.carries(*group));
    let chosen = u8::arbitrary(input)?;
    let groups = groups.enumerate().filter(|(number, _)| chosen & 1 << number != 0);
    let groups = groups.fold(FieldGroups::NONE, |all, (_, group)| all.with(group));
    let budget = usize::from(u16::arbitrary(input)?).clamp(480, 9000);
    let mut records = Vec::new();
    while !input.is_empty() && records.len() < 100 {
        records.push(record(input)?);
    }
    let (messages, sent) = encode(&mut Encoder::with_groups(format, 1, groups), budget, &records);
    let mut parser = NetflowParser::default();
    let mut seen = Vec::new();
    for octets in &messages {
        assert!(octets.len() <= budget);
        let result = parser.parse_bytes(octets);
        assert!(result.error.is_none(), "{:?}", result.error);
        assert_eq!(result.packets.len(), 1);
        for packet in result.packets {
            match packet {
                NetflowPacket::IPFix(message) => message.flowsets.iter().for_each(|set| match &set.body {
                    ipfix::FlowSetBody::Data(data) => seen.extend(
                        data.fields
                            .iter()
                            .map(|record| counts(record.iter().map(|(_, value)| value), IPFIX_COUNTS)),
                    ),
                    ipfix::FlowSetBody::NoTemplate(_) => panic!("no template for {:?}", set.header),
                    _ => {}
                }),
                NetflowPacket::V9(message) => message.flowsets.iter().for_each(|set| match &set.body {
                    v9::FlowSetBody::Data(data) => seen.extend(
                        data.fields
                            .iter()
                            .map(|record| counts(record.iter().map(|(_, value)| value), NETFLOW_V9_COUNTS)),
                    ),
                    v9::FlowSetBody::NoTemplate(_) => panic!("no template for {:?}", set.header),
                    _ => {}
                }),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    assert_eq!(seen, sent);
    Ok(())
}

/// Packets and octets of a record: octetDeltaCount is at `place`, and packetDeltaCount behind it.
fn counts<'a>(values: impl Iterator<Item = &'a FieldValue>, place: usize) -> [u64; 2] {
    let octets = |value: &FieldValue| {
        let mut octets = Vec::new();
        value.write_be_bytes(&mut octets).expect("value");
        octets
    };
    let values: Vec<u64> = values.skip(place).take(2).map(|value| number(&octets(value))).collect();
    [values[1], values[0]]
}

fuzz_target!(|octets: &[u8]| {
    // What has an end before a record is complete is no case.
    let _ = run(&mut Unstructured::new(octets));
});
