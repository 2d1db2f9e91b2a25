//! Data in Avro, read by `apache-avro` with the schema that belongs to them, are the rows of the JSON.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;

use super::any::{all, custom, value, values};
use super::*;
use allocation_counter::measure;
use proptest::prelude::*;

const WRITER: &str = "default_kafka";

/// What a reader with another schema, or that of the writer, makes of a datum. Nothing may be left behind it.
fn read(datum: &[u8], schema: &RecordSchema, reader: Option<&RecordSchema>) -> Json {
    let parse = |schema: &RecordSchema| Schema::parse_str(&schema.to_string()).unwrap();
    let (schema, reader) = (parse(schema), reader.map(parse));
    let datum_reader =
        GenericDatumReader::builder(&schema).maybe_reader_schema(reader.as_ref()).build().unwrap();
    let mut rest = datum;
    let value = datum_reader.read_value(&mut rest).unwrap();
    assert_eq!(rest, b"");
    value.try_into().unwrap()
}

/// The row of the JSON encoder, as the record has it.
fn expected(settings: &EncodeSettings, primitives: &[Primitive], row: &TestRow<'_>) -> Json {
    let mut encoder = RowEncoder::new(settings, Format::Json, primitives).unwrap();
    encoder.set_writer(WRITER, true);
    let mut text = Vec::new();
    encoder.row(&mut text, row, UPDATED);
    let mut object: Json = serde_json::from_slice(&text).unwrap();
    let members = object.as_object_mut().unwrap();
    members.remove("event_type");
    for name in ["flows", "stamp_inserted", "stamp_updated"] {
        members.entry(name).or_insert(Json::Null);
    }
    let of_operator = |primitive: &&Primitive| matches!(primitive, Primitive::Custom(_));
    let map: serde_json::Map<String, Json> = primitives
        .iter()
        .filter(of_operator)
        .map(|primitive| {
            let name = settings.custom.name(*primitive);
            (name.to_owned(), members.remove(name).unwrap())
        })
        .collect();
    if !map.is_empty() {
        members.insert("custom_primitives".to_owned(), map.into());
    }
    for (primitive, value) in primitives.iter().zip(&row.values) {
        // serde_json reads some numbers one off in the last bit.
        if let Value::Degrees(degrees) = value {
            members.insert(primitive.json_key().to_owned(), json!(degrees.unwrap_or(0.0)));
        }
    }
    for member in members.values_mut() {
        // A long has 63 bits and a sign.
        if let Some(number) = member.as_u64() {
            *member = json!(number as i64);
        }
    }
    object
}

/// Every option that changes a type.
fn tables() -> [FormatTable; 3] {
    let arrays = FormatTable {
        tcp_flags: TcpFlagsStyle::Array,
        label_as_map: true,
        as_path_as_array: true,
        communities_as_array: true,
        ..FormatTable::default()
    };
    let numbers = FormatTable {
        tcp_flags: TcpFlagsStyle::Number,
        community_numbers: true,
        protocol_numbers: true,
        tos_as_dscp: true,
        timestamps: TimestampStyle::Epoch,
        ..FormatTable::default()
    };
    [FormatTable::default(), arrays, numbers]
}

fn settings_of(table: &FormatTable) -> EncodeSettings {
    EncodeSettings { custom: custom(), ..settings(table) }
}

#[test]
fn any_row_is_that_of_the_json() {
    let route = route();
    for table in tables() {
        let settings = settings_of(&table);
        proptest!(ProptestConfig::with_cases(64), |(fields in values(&route), bin: Option<u32>, counters: [u64; 2])| {
            let (primitives, mut row) = row(&fields);
            row.bin = bin.map(u64::from);
            [row.packets, row.octets] = counters;
            let mut encoder = AvroEncoder::new(&settings, &primitives, WRITER).unwrap();
            let mut datum = Vec::new();
            encoder.row(&mut datum, &row, UPDATED);
            let read = read(&datum, &encoder.schema(Record::Row), None);
            prop_assert_eq!(read, expected(&settings, &primitives, &row));
        });
    }
}

/// Names and types of what pmacct's own tests expect of its Avro.
#[test]
fn the_schema_has_the_types_of_pmacct() {
    use Primitive as P;
    let primitives = [P::Label, P::PeerSrcIp, P::InIface, P::SrcHost, P::SrcPort, P::TcpFlags, P::Custom(0)];
    let [default, arrays, _] = tables();
    let schema = |table: &FormatTable| {
        AvroEncoder::new(&settings_of(table), &primitives, WRITER).unwrap().schema(Record::Row)
    };
    let long = |name: &str| format!(r#"{{"name":"{name}","type":"long","default":0}}"#);
    let string = |name: &str| format!(r#"{{"name":"{name}","type":"string","default":""}}"#);
    let map = |name: &str| {
        format!(r#"{{"name":"{name}","type":{{"type":"map","values":"string"}},"default":{{}}}}"#)
    };
    let array = |name: &str| {
        format!(r#"{{"name":"{name}","type":{{"items":"string","type":"array"}},"default":[]}}"#)
    };
    let optional =
        |name: &str, of: &str| format!(r#"{{"name":"{name}","type":["null","{of}"],"default":null}}"#);
    let expected = |label: String, flags: String| {
        let fields = [
            label,
            string("peer_ip_src"),
            long("iface_in"),
            string("ip_src"),
            long("port_src"),
            flags,
            map("custom_primitives"),
            optional("stamp_inserted", "string"),
            optional("stamp_updated", "string"),
            long("packets"),
            optional("flows", "long"),
            long("bytes"),
            string("writer_id"),
        ];
        format!(r#"{{"type":"record","name":"acct_data","fields":[{}]}}"#, fields.join(","))
    };
    assert_eq!(schema(&default).to_string(), expected(string("label"), string("tcp_flags")));
    assert_eq!(schema(&arrays).to_string(), expected(map("label"), array("tcp_flags")));
    let pretty: Json = serde_json::from_str(&schema(&arrays).pretty()).unwrap();
    assert_eq!(pretty, serde_json::from_str::<Json>(&schema(&arrays).to_string()).unwrap());
}

#[test]
fn a_key_that_is_changed_makes_a_compatible_schema() {
    let short = [(Primitive::SrcHost, address("192.0.2.1")), (Primitive::Proto, Value::Protocol(17))];
    let route = route();
    let any = (1, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [2; 6], true, "label", 6);
    let long: Vec<_> = all().map(|primitive| (primitive, value(primitive, &route, any))).collect();
    for table in tables() {
        let settings = settings_of(&table);
        let encoder = |fields: &[(Primitive, Value<'_>)]| {
            let (primitives, row) = row(fields);
            let mut encoder = AvroEncoder::new(&settings, &primitives, WRITER).unwrap();
            let mut datum = Vec::new();
            encoder.row(&mut datum, &row, UPDATED);
            (encoder.schema(Record::Row), datum)
        };
        let ((short, datum), (long, _)) = (encoder(&short), encoder(&long));
        let schemas = [&short, &long].map(|schema| Schema::parse_str(&schema.to_string()).unwrap());
        SchemaCompatibility::mutual_read(&schemas[0], &schemas[1]).unwrap();
        // Who knows the long key reads a row of the short one: what that has not is as if nothing were known.
        let read = read(&datum, &short, Some(&long));
        assert_eq!(
            (&read["ip_src"], &read["port_src"], &read["etype"]),
            (&json!("192.0.2.1"), &json!(0), &json!(""))
        );
    }
}

/// The length in front of a text takes more octets for longer ones.
#[test]
fn texts_of_any_length_are_whole() {
    for length in [0, 1, 63, 64, 65, 8191, 8192, 70_000] {
        let text = "x".repeat(length);
        let fields = [(Primitive::Label, Value::Text(&text)), (Primitive::Tag, Value::Number(7))];
        let (primitives, row) = row(&fields);
        let mut encoder = AvroEncoder::new(&settings(&FormatTable::default()), &primitives, WRITER).unwrap();
        let mut datum = Vec::new();
        for _ in 0..2 {
            datum.clear();
            encoder.row(&mut datum, &row, UPDATED);
        }
        let read = read(&datum, &encoder.schema(Record::Row), None);
        assert_eq!((&read["label"], &read["tag"], &read["bytes"]), (&json!(text), &json!(7), &json!(98)));
    }
}

#[test]
fn markers_are_records_of_their_own() {
    let encoder = AvroEncoder::new(&settings(&FormatTable::default()), &[], WRITER).unwrap();
    let writer = format!("{WRITER}/{}", std::process::id());
    let (mut init, mut close) = (Vec::new(), Vec::new());
    encoder.purge_init(&mut init);
    encoder.purge_close(&mut close, 8, 9, 2);
    let [init_schema, close_schema] = [Record::PurgeInit, Record::PurgeClose].map(|of| encoder.schema(of));
    assert_eq!(read(&init, &init_schema, None), json!({ "event_type": "purge_init", "writer_id": writer }));
    let expected = json!({
        "event_type": "purge_close", "writer_id": writer, "purged_entries": 8, "total_entries": 9, "duration": 2
    });
    assert_eq!(read(&close, &close_schema, None), expected);
}

#[test]
fn nested_rows_are_refused() {
    let settings = settings(&FormatTable { style: Style::Pathflow, ..FormatTable::default() });
    assert_eq!(AvroEncoder::new(&settings, &[], WRITER).unwrap_err(), EncodeError::StyleNeedsJson);
}

#[test]
fn rows_in_avro_allocate_nothing() {
    let route = route();
    let label = "site%ams,rack%7,".repeat(9);
    let any = (1_795_240_081_000_123, [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [2; 6], true, "", 6);
    let mut fields: Vec<_> = all().map(|primitive| (primitive, value(primitive, &route, any))).collect();
    for (primitive, value) in &mut fields {
        if *primitive == Primitive::Label {
            *value = Value::Text(&label);
        }
    }
    for table in tables() {
        let (primitives, mut row) = row(&fields);
        let mut encoder = AvroEncoder::new(&settings_of(&table), &primitives, WRITER).unwrap();
        let mut out = Vec::new();
        let mut encode = || {
            out.clear();
            for updated in UPDATED..UPDATED + 100 {
                row.bin = Some(updated);
                encoder.row(&mut out, &row, updated);
            }
        };
        encode();
        assert_eq!(measure(encode).count_total, 0, "{table:?}");
        assert!(out.len() > 50_000);
    }
}
