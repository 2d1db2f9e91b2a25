//! Apache Avro: each row is a datum of a record (Avro 1.12, "Binary encoding"), with the names of pmacct's JSON.
//!
//! Encoded here and not by `apache-avro`, whose values allocate for every field of every row; the tests read the data
//! with it.

mod schema;

use super::line::{Constant, Line, Memo};
use super::pmacct::names_of_flags;
use super::settings::{EncodeSettings, Style, TcpFlagsStyle};
use super::value::ValueWriter;
use super::{EncodeError, Fields, FormatTable, Primitive, Value, label, route};
use schema::Field;

pub use schema::{Record, RecordSchema};

/// Longest text whose length takes one octet.
const SHORT: usize = 63;

/// Writes rows of one aggregate, and what marks its purges.
#[derive(Debug)]
pub struct AvroEncoder {
    values: ValueWriter,
    line: Line,
    /// A text that becomes an array.
    parts: Line,
    before_stamps: Vec<Member>,
    custom: Vec<Custom>,
    behind_stamps: Vec<Member>,
    /// Position of the number of flows.
    flows: Option<usize>,
    /// The times of bin and purge.
    stamps: Memo,
    writer_id: Constant,
    schema: RecordSchema,
}

/// A primitive that is a field.
#[derive(Clone, Copy, Debug)]
struct Member {
    primitive: Primitive,
    position: usize,
    kind: Kind,
}

/// One of the operator's own primitives, which are a map.
#[derive(Debug)]
struct Custom {
    /// As a string.
    key: Constant,
    primitive: Primitive,
    position: usize,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Long,
    Double,
    Text,
    /// An array of what is between `_`.
    Parts,
    /// An array of the names of TCP flags.
    Flags,
    /// A map of strings: a label.
    Map,
}

impl AvroEncoder {
    /// An encoder for rows whose [`Fields::value`]s are in the order of `primitives`; each says that `writer` and this
    /// process wrote it.
    ///
    /// # Errors
    /// [`EncodeError`] if values are to have the style of nested JSON.
    pub fn new(
        settings: &EncodeSettings,
        primitives: &[Primitive],
        writer: &str,
    ) -> Result<Self, EncodeError> {
        if settings.style != Style::Pmacct {
            return Err(EncodeError::StyleNeedsJson);
        }
        let mut members = Vec::new();
        let (mut custom, mut flows) = (Vec::new(), None);
        for (position, &primitive) in primitives.iter().enumerate() {
            match primitive {
                Primitive::Flows => flows = Some(position),
                Primitive::Custom(_) => {
                    let key = string(settings.custom.name(primitive));
                    custom.push(Custom { key, primitive, position });
                }
                _ => {
                    members.push(Member { primitive, position, kind: kind(primitive, &settings.options) });
                }
            }
        }
        members.sort_by_key(|member| member.primitive);
        custom.sort_by_key(|custom| custom.primitive);
        let split = members.partition_point(|member| member.primitive < Primitive::Flows);
        let behind_stamps = members.split_off(split);
        let field = |member: &Member| Field::of_kind(settings.custom.json_key(member.primitive), member.kind);
        let map = (!custom.is_empty()).then(Field::custom_primitives);
        let fields = members.iter().map(field).chain(map).collect();
        let schema = RecordSchema::of_rows(fields, behind_stamps.iter().map(field).collect());
        Ok(Self {
            values: ValueWriter::new(settings, false),
            line: Line::default(),
            parts: Line::default(),
            before_stamps: members,
            custom,
            behind_stamps,
            flows,
            stamps: Memo::default(),
            writer_id: string(&format!("{writer}/{}", std::process::id())),
            schema,
        })
    }

    /// The schema that a reader needs.
    #[must_use]
    pub fn schema(&self, record: Record) -> RecordSchema {
        match record {
            Record::Row => self.schema.clone(),
            Record::PurgeInit | Record::PurgeClose => RecordSchema::of_marker(record),
        }
    }

    /// Appends the datum of one row. `updated` is the time of the purge in seconds since the Unix epoch.
    pub fn row(&mut self, out: &mut Vec<u8>, row: &impl Fields, updated: u64) {
        let Self { values, line, parts, .. } = self;
        line.truncate(0);
        for member in &self.before_stamps {
            member.write(line, values, parts, row.value(member.position));
        }
        if !self.custom.is_empty() {
            long(line, self.custom.len() as i64);
            for Custom { key, primitive, position } in &self.custom {
                line.put_constant(key);
                text(line, |line| values.write(line, *primitive, row.value(*position)));
            }
            line.push(0);
        }
        match row.bin() {
            Some(bin) => self.stamps.put(line, (Some(bin), updated), |line| {
                for time in [bin, updated] {
                    optional(line);
                    text(line, |line| values.time.stamp(line, time));
                }
            }),
            None => line.put_first([0; 2], 2),
        }
        for member in &self.behind_stamps {
            member.write(line, values, parts, row.value(member.position));
        }
        long(line, row.packets() as i64);
        match self.flows.map(|position| row.value(position)) {
            Some(Value::Number(flows)) => {
                optional(line);
                long(line, flows as i64);
            }
            _ => line.push(0),
        }
        long(line, row.octets() as i64);
        line.put_constant(&self.writer_id);
        out.extend_from_slice(line.text());
    }

    /// Appends what marks the beginning of a purge: a datum of [`Record::PurgeInit`].
    pub fn purge_init(&self, out: &mut Vec<u8>) {
        self.marker(out, "purge_init", &[]);
    }

    /// Appends what marks the end of a purge, a datum of [`Record::PurgeClose`]: `purged` of `total` rows were written in
    /// so many `seconds`.
    pub fn purge_close(&self, out: &mut Vec<u8>, purged: u64, total: u64, seconds: u64) {
        self.marker(out, "purge_close", &[purged, total, seconds]);
    }

    fn marker(&self, out: &mut Vec<u8>, event_type: &str, numbers: &[u64]) {
        let mut line = Line::default();
        line.put_constant(&string(event_type));
        line.put_constant(&self.writer_id);
        for number in numbers {
            long(&mut line, *number as i64);
        }
        out.extend_from_slice(line.text());
    }
}

impl Member {
    #[inline]
    fn write(&self, out: &mut Line, values: &mut ValueWriter, parts: &mut Line, value: Value<'_>) {
        match self.kind {
            Kind::Long => {
                let number = match value {
                    Value::Number(number) => values.number(self.primitive, number),
                    Value::TcpFlags(flags) => flags.into(),
                    _ => 0,
                };
                // What is beyond 63 bits, as a tag may be, keeps its bits.
                long(out, number as i64);
            }
            Kind::Double => {
                let degrees = if let Value::Degrees(Some(degrees)) = value { degrees } else { 0.0 };
                out.put_first(degrees.to_le_bytes(), 8);
            }
            Kind::Text => text(out, |out| values.write(out, self.primitive, value)),
            Kind::Parts => {
                parts.truncate(0);
                values.write(parts, self.primitive, value);
                let parts = parts.text();
                let number = if parts.is_empty() { 0 } else { parts.split(|octet| *octet == b'_').count() };
                block(out, number, parts.split(|octet| *octet == b'_'), put_string);
            }
            Kind::Flags => {
                let flags = if let Value::TcpFlags(flags) = value { flags } else { 0 };
                block(out, flags.count_ones() as usize, names_of_flags(flags), |out, name| {
                    put_string(out, name.as_bytes());
                });
            }
            Kind::Map => {
                let label = if let Value::Text(label) = value { label } else { "" };
                block(out, label::pairs(label).count(), label::pairs(label), |out, (key, value)| {
                    put_string(out, key.as_bytes());
                    put_string(out, value.as_bytes());
                });
            }
        }
    }
}

/// How pmacct's Avro has the values of a primitive: as its JSON does.
fn kind(primitive: Primitive, options: &FormatTable) -> Kind {
    use Primitive as P;
    let array = |is_array| if is_array { Kind::Parts } else { Kind::Text };
    match primitive {
        P::Label if options.label_as_map => Kind::Map,
        P::TcpFlags | P::TunnelTcpFlags => match options.tcp_flags {
            TcpFlagsStyle::String => Kind::Text,
            TcpFlagsStyle::Number => Kind::Long,
            TcpFlagsStyle::Array => Kind::Flags,
        },
        P::AsPath | P::SrcAsPath => array(options.as_path_as_array),
        primitive if route::is_of_route(primitive) => array(options.communities_as_array),
        P::SrcHostLatitude | P::SrcHostLongitude | P::DstHostLatitude | P::DstHostLongitude => Kind::Double,
        P::Label
        | P::SrcMac
        | P::DstMac
        | P::Etype
        | P::DstRoa
        | P::SrcRoa
        | P::PeerSrcIp
        | P::PeerDstIp
        | P::SrcHost
        | P::SrcNet
        | P::DstHost
        | P::DstNet
        | P::SrcHostCountry
        | P::DstHostCountry
        | P::SrcHostPocode
        | P::DstHostPocode
        | P::MplsLabelStack
        | P::Proto
        | P::SamplingDirection
        | P::TunnelSrcMac
        | P::TunnelDstMac
        | P::TunnelSrcHost
        | P::TunnelDstHost
        | P::TunnelProto
        | P::TimestampStart
        | P::TimestampEnd
        | P::TimestampArrival
        | P::TimestampMin
        | P::TimestampMax
        | P::InIfaceName
        | P::OutIfaceName => Kind::Text,
        _ => Kind::Long,
    }
}

/// Appends a `long`: zigzag, then seven bits in each octet, the lowest first.
#[inline]
fn long(out: &mut Line, number: i64) {
    let (octets, length) = encoded(number);
    out.put_first(octets, length);
}

/// The octets of a `long`, and how many they are.
#[inline]
fn encoded(number: i64) -> ([u8; 10], usize) {
    let mut rest = (number << 1 ^ number >> 63) as u64;
    let (mut octets, mut length) = ([0; 10], 0);
    for octet in &mut octets {
        length += 1;
        if rest < 0x80 {
            *octet = rest as u8;
            break;
        }
        *octet = rest as u8 | 0x80;
        rest >>= 7;
    }
    (octets, length)
}

/// Appends the number of the second branch of a union, whose first one is `null`.
#[inline]
fn optional(out: &mut Line) {
    out.push(2);
}

/// Appends a `string`, which `write` appends.
#[inline]
fn text(out: &mut Line, write: impl FnOnce(&mut Line)) {
    let start = out.len();
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    if length > SHORT {
        return lengthen(out, start, length);
    }
    if let Some(first) = out.text_mut(start).first_mut() {
        *first = (length << 1) as u8;
    }
}

/// Makes room for the length of the text that begins one octet behind `start`.
fn lengthen(out: &mut Line, start: usize, length: usize) {
    let (prefix, octets) = encoded(length as i64);
    out.put(prefix.get(1..octets).unwrap_or_default());
    let whole = out.text_mut(start);
    whole.copy_within(1..=length, octets);
    whole.iter_mut().zip(prefix).take(octets).for_each(|(to, from)| *to = from);
}

fn put_string(out: &mut Line, octets: &[u8]) {
    long(out, octets.len() as i64);
    out.put(octets);
}

/// A `string` that is the same in every row.
fn string(text: &str) -> Constant {
    let mut line = Line::default();
    put_string(&mut line, text.as_bytes());
    Constant::new(line.text())
}

/// Appends an array or a map of so many items: one block, and its end.
fn block<T>(out: &mut Line, number: usize, items: impl Iterator<Item = T>, put: impl Fn(&mut Line, T)) {
    if number > 0 {
        long(out, number as i64);
        items.for_each(|item| put(out, item));
    }
    out.push(0);
}
