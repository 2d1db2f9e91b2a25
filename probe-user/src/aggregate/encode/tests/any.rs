//! Rows of any content: they are JSON with the right types, and cost no allocation.

use std::net::IpAddr;
use std::sync::Arc;

use allocation_counter::measure;
use pathflow_exporter::{BgpRoute, FlowDirection, OriginValidation};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::{EncodeSettings, Format, FormatTable, Primitive, RowEncoder, Style, Value, route};
use crate::aggregate::{CustomPrimitive, CustomPrimitives, CustomValue, Semantics};

use super::{UPDATED, part, route as some_route, row, settings};

/// Text that may be anything a label is made of.
pub(super) fn values(route: &Arc<BgpRoute>) -> impl Strategy<Value = Vec<(Primitive, Value<'_>)>> {
    let texts = prop_oneof![Just(""), Just("a\"b\\\u{1}é,\n"), Just("bdr1.example.org")];
    (any::<u64>(), any::<[u16; 8]>(), any::<[u8; 6]>(), any::<bool>(), texts, any::<u8>()).prop_map(
        |(number, segments, mac, has, text, octet)| {
            let value =
                |primitive: &Primitive| value(*primitive, route, (number, segments, mac, has, text, octet));
            all().map(|primitive| (primitive, value(&primitive))).collect()
        },
    )
}

const SEMANTICS: [Semantics; 6] =
    [Semantics::UInt, Semantics::Hex, Semantics::Ip, Semantics::Mac, Semantics::Str, Semantics::Raw];
static LABELS: [[u8; 3]; 10] = [[0x0f, 0xff, 0xff]; 10];
/// Any octet, and 16 more.
static OCTETS: [u8; 271] = {
    let mut octets = [0; 271];
    let mut place = 0;
    while place < octets.len() {
        octets[place] = place as u8;
        place += 1;
    }
    octets
};

/// Custom primitives, one of each kind.
pub(super) fn custom() -> CustomPrimitives {
    let primitive = |semantics| {
        let (name, length) = (format!("of-{semantics}"), 16);
        CustomPrimitive { name, semantics, length, offset: 0 }
    };
    SEMANTICS.into_iter().map(primitive).collect()
}

/// All primitives, custom ones last.
pub(super) fn all() -> impl Iterator<Item = Primitive> {
    Primitive::ALL.iter().copied().chain((0..6).map(Primitive::Custom))
}

pub(super) type Any = (u64, [u16; 8], [u8; 6], bool, &'static str, u8);

pub(super) fn value(primitive: Primitive, route: &Arc<BgpRoute>, any: Any) -> Value<'_> {
    use Primitive as P;
    let (number, segments, mac, has, text, octet) = any;
    let state = [OriginValidation::Valid, OriginValidation::InvalidCoveredByNotFound][usize::from(octet) % 2];
    match primitive {
        P::Label
        | P::SrcHostCountry
        | P::DstHostCountry
        | P::SrcHostPocode
        | P::DstHostPocode
        | P::InIfaceName
        | P::OutIfaceName => Value::Text(text),
        P::SrcHostLatitude | P::SrcHostLongitude | P::DstHostLatitude | P::DstHostLongitude => {
            Value::Degrees(has.then_some(f64::from(octet) / 7.0))
        }
        P::SrcMac | P::DstMac | P::TunnelSrcMac | P::TunnelDstMac => Value::Mac(mac),
        P::MplsLabelStack => Value::Labels(LABELS.get(..usize::from(octet % 11)).unwrap_or_default()),
        P::Custom(number) => Value::Custom(CustomValue {
            semantics: SEMANTICS[usize::from(number)],
            octets: &OCTETS[usize::from(octet)..][..16],
        }),
        P::Etype => Value::EtherType(segments[0]),
        primitive if route::is_of_route(primitive) => {
            if has {
                part(route)
            } else {
                Value::Path(None)
            }
        }
        P::DstRoa | P::SrcRoa => Value::Roa(has.then_some(state)),
        P::PeerSrcIp
        | P::PeerDstIp
        | P::SrcHost
        | P::SrcNet
        | P::DstHost
        | P::DstNet
        | P::TunnelSrcHost
        | P::TunnelDstHost => Value::Address(has.then_some(IpAddr::from(segments))),
        P::TcpFlags | P::TunnelTcpFlags => Value::TcpFlags(octet),
        P::Proto | P::TunnelProto => Value::Protocol(octet),
        P::SamplingDirection => Value::Direction(FlowDirection::Egress),
        P::TimestampStart | P::TimestampEnd | P::TimestampArrival | P::TimestampMin | P::TimestampMax => {
            Value::Time(has.then_some(number))
        }
        _ => Value::Number(number),
    }
}

/// Keys that are numbers in pmacct's JSON.
fn is_number(primitive: Primitive) -> bool {
    use Primitive as P;
    !matches!(
        primitive,
        P::Label
            | P::SrcMac
            | P::DstMac
            | P::Etype
            | P::StdComm
            | P::ExtComm
            | P::LrgComm
            | P::AsPath
            | P::DstRoa
            | P::PeerSrcIp
            | P::PeerDstIp
            | P::SrcStdComm
            | P::SrcExtComm
            | P::SrcLrgComm
            | P::SrcAsPath
            | P::SrcRoa
            | P::SrcHost
            | P::SrcNet
            | P::DstHost
            | P::DstNet
            | P::TcpFlags
            | P::Proto
            | P::MplsLabelStack
            | P::TunnelSrcMac
            | P::TunnelDstMac
            | P::TunnelSrcHost
            | P::TunnelDstHost
            | P::TunnelProto
            | P::TunnelTcpFlags
            | P::Custom(_)
            | P::SamplingDirection
            | P::TimestampStart
            | P::TimestampEnd
            | P::TimestampArrival
            | P::SrcHostCountry
            | P::DstHostCountry
            | P::SrcHostPocode
            | P::DstHostPocode
            | P::TimestampMin
            | P::TimestampMax
            | P::InIfaceName
            | P::OutIfaceName
    )
}

#[test]
fn any_row_is_json_with_the_types_of_pmacct() {
    let route = some_route();
    proptest!(|(fields in values(&route), bin: Option<u32>, counters: [u64; 2])| {
        let (primitives, mut row) = row(&fields);
        row.bin = bin.map(u64::from);
        [row.packets, row.octets] = counters;
        for style in [Style::Pmacct, Style::Pathflow] {
            let custom = custom();
            let settings =
                EncodeSettings { custom, ..settings(&FormatTable { style, ..FormatTable::default() }) };
            let mut encoder = RowEncoder::new(&settings, Format::Json, &primitives).unwrap();
            let mut out = Vec::new();
            encoder.row(&mut out, &row, UPDATED);
            let object: Json = serde_json::from_slice(&out).unwrap();
            prop_assert!(!out.contains(&b'\n'));
            if style == Style::Pathflow {
                prop_assert_eq!(&object["packet_delta_count"], &json!(row.packets));
                prop_assert!(object.as_object().unwrap().values().all(|value| !value.is_null()));
                continue;
            }
            for (primitive, value) in &fields {
                let member = &object[settings.custom.json_key(*primitive)];
                prop_assert_eq!(member.is_number(), is_number(*primitive), "{}", primitive);
                prop_assert_eq!(member.is_string(), !is_number(*primitive), "{}", primitive);
                match value {
                    Value::Custom(value) if value.semantics == Semantics::Str => {
                        prop_assert_eq!(member, &json!(String::from_utf8_lossy(value.text())));
                    }
                    Value::Number(number) => prop_assert_eq!(member, &json!(number)),
                    Value::Text(text) => prop_assert_eq!(member, &json!(text)),
                    Value::Address(Some(address)) => prop_assert_eq!(member, &json!(address.to_string())),
                    _ => {}
                }
            }
            prop_assert_eq!(object.get("stamp_inserted").is_some(), bin.is_some());
            prop_assert_eq!((&object["packets"], &object["bytes"]), (&json!(row.packets), &json!(row.octets)));
            let members = fields.len() + 3 + if bin.is_some() { 2 } else { 0 };
            prop_assert_eq!(object.as_object().unwrap().len(), members);
        }
    });
}

#[test]
fn rows_allocate_nothing() {
    let route = some_route();
    let any = (1_795_240_081_000_123, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [2; 6], true, "a\"b", 6);
    let fields: Vec<_> = all().map(|primitive| (primitive, value(primitive, &route, any))).collect();
    for (format, style) in
        [(Format::Json, Style::Pmacct), (Format::Json, Style::Pathflow), (Format::Csv, Style::Pmacct)]
    {
        let (primitives, mut row) = row(&fields);
        let custom = custom();
        let settings =
            EncodeSettings { custom, ..settings(&FormatTable { style, ..FormatTable::default() }) };
        let mut encoder = RowEncoder::new(&settings, format, &primitives).unwrap();
        let mut out = Vec::new();
        let mut encode = || {
            out.clear();
            // Also over the turn of a minute.
            for updated in UPDATED..UPDATED + 100 {
                row.bin = Some(updated);
                encoder.row(&mut out, &row, updated);
            }
        };
        encode();
        assert_eq!(measure(encode).count_total, 0, "{format:?} {style:?}");
        assert!(out.len() > 50_000);
    }
}
