//! JSON with the keys, order and types of pmacct 1.7.7, and the blanks of jansson.

use super::settings::{EncodeSettings, TcpFlagsStyle};
use super::value::ValueWriter;
use super::{Fields, Primitive, Value, label, text};

/// Names of TCP flags, the highest bit first (RFC 9293, section 3.1).
const TCP_FLAGS: [&str; 8] = ["CWR", "ECE", "URG", "ACK", "PSH", "RST", "SYN", "FIN"];

/// Writes objects.
#[derive(Debug)]
pub(super) struct PmacctJson {
    values: ValueWriter,
    styles: Styles,
    before_stamps: Vec<Member>,
    behind_stamps: Vec<Member>,
    /// What follows the octets.
    end: Vec<u8>,
    stamps: Stamps,
}

/// How values are written that may be of several types.
#[derive(Clone, Copy, Debug)]
struct Styles {
    tcp_flags: TcpFlagsStyle,
    label_as_map: bool,
}

/// One key.
#[derive(Debug)]
struct Member {
    /// Everything up to the value, but for quotation marks: `, "ip_src": `.
    key: Box<[u8]>,
    primitive: Primitive,
    position: usize,
}

/// The two times of bin and purge, which are the same in row after row.
#[derive(Debug, Default)]
struct Stamps {
    of: Option<(u64, u64)>,
    text: Vec<u8>,
}

impl PmacctJson {
    pub(super) fn new(settings: &EncodeSettings, primitives: &[Primitive]) -> Self {
        let member = |(position, &primitive): (usize, &Primitive)| Member {
            key: format!(", \"{}\": ", primitive.json_key()).into_bytes().into(),
            primitive,
            position,
        };
        let mut before_stamps: Vec<Member> = primitives.iter().enumerate().map(member).collect();
        before_stamps.sort_by_key(|member| member.primitive);
        let split = before_stamps.partition_point(|member| member.primitive < Primitive::Flows);
        let behind_stamps = before_stamps.split_off(split);
        Self {
            values: ValueWriter::new(settings, true),
            styles: Styles {
                tcp_flags: settings.options.tcp_flags,
                label_as_map: settings.options.label_as_map,
            },
            before_stamps,
            behind_stamps,
            end: b"}".to_vec(),
            stamps: Stamps::default(),
        }
    }

    pub(super) fn set_writer_id(&mut self, writer_id: &str) {
        self.end = b", \"writer_id\": ".to_vec();
        text::json_string(&mut self.end, writer_id);
        self.end.push(b'}');
    }

    pub(super) fn row(&mut self, out: &mut Vec<u8>, row: &impl Fields, updated: u64) {
        out.extend_from_slice(b"{\"event_type\": \"purge\"");
        members(&mut self.values, self.styles, out, &self.before_stamps, row);
        if let Some(bin) = row.bin() {
            self.stamps.write(&mut self.values, out, bin, updated);
        }
        members(&mut self.values, self.styles, out, &self.behind_stamps, row);
        out.extend_from_slice(b", \"packets\": ");
        text::number(out, row.packets());
        out.extend_from_slice(b", \"bytes\": ");
        text::number(out, row.octets());
        out.extend_from_slice(&self.end);
    }
}

impl Stamps {
    fn write(&mut self, values: &mut ValueWriter, out: &mut Vec<u8>, bin: u64, updated: u64) {
        if self.of != Some((bin, updated)) {
            self.text.clear();
            self.text.extend_from_slice(b", \"stamp_inserted\": \"");
            values.time.stamp(&mut self.text, bin);
            self.text.extend_from_slice(b"\", \"stamp_updated\": \"");
            values.time.stamp(&mut self.text, updated);
            self.text.push(b'"');
            self.of = Some((bin, updated));
        }
        out.extend_from_slice(&self.text);
    }
}

#[inline]
fn members(
    values: &mut ValueWriter,
    styles: Styles,
    out: &mut Vec<u8>,
    members: &[Member],
    row: &impl Fields,
) {
    for Member { key, primitive, position } in members {
        out.extend_from_slice(key);
        match row.value(*position) {
            value @ (Value::Number(_) | Value::Path(_) | Value::Degrees(_)) => {
                values.write(out, *primitive, value);
            }
            Value::Text(text) if styles.label_as_map && *primitive == Primitive::Label => {
                label::object(out, text);
            }
            Value::Text(text) => text::json_string(out, text),
            Value::TcpFlags(flags) if styles.tcp_flags == TcpFlagsStyle::Number => text::number(out, flags),
            Value::TcpFlags(flags) if styles.tcp_flags == TcpFlagsStyle::Array => flag_names(out, flags),
            value => {
                out.push(b'"');
                values.write(out, *primitive, value);
                out.push(b'"');
            }
        }
    }
}

/// Appends an array of the names of the flags that are set.
pub(super) fn flag_names(out: &mut Vec<u8>, flags: u8) {
    out.push(b'[');
    let mut separator: &[u8] = b"\"";
    for (name, bit) in TCP_FLAGS.iter().zip((0..8).rev()) {
        if flags & (1 << bit) != 0 {
            out.extend_from_slice(separator);
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
            separator = b", \"";
        }
    }
    out.push(b']');
}
