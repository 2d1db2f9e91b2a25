//! JSON with the keys, order and types of pmacct 1.7.7, and the blanks of jansson.

use super::line::{Constant, Line, Memo};
use super::settings::{EncodeSettings, TcpFlagsStyle};
use super::value::ValueWriter;
use super::{Fields, Primitive, Value, custom, label, text};

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
    end: Constant,
    /// The times of bin and purge.
    stamps: Memo,
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
    key: Constant,
    primitive: Primitive,
    position: usize,
}

impl PmacctJson {
    pub(super) fn new(settings: &EncodeSettings, primitives: &[Primitive]) -> Self {
        let member = |(position, &primitive): (usize, &Primitive)| Member {
            key: Constant::new(format!(", \"{}\": ", settings.custom.json_key(primitive)).as_bytes()),
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
            end: Constant::new(b"}"),
            stamps: Memo::default(),
        }
    }

    pub(super) fn set_writer_id(&mut self, writer_id: &str) {
        let mut end = Line::default();
        end.put(b", \"writer_id\": ");
        text::json_string(&mut end, writer_id);
        end.push(b'}');
        self.end.set(end.text());
    }

    pub(super) fn row(&mut self, out: &mut Line, row: &impl Fields, updated: u64) {
        out.put_first(*b"{\"event_type\": \"purge\"", 22);
        members(&mut self.values, self.styles, out, &self.before_stamps, row);
        if let Some(bin) = row.bin() {
            self.stamps.put(out, (Some(bin), updated), |out| {
                out.put(b", \"stamp_inserted\": \"");
                self.values.time.stamp(out, bin);
                out.put(b"\", \"stamp_updated\": \"");
                self.values.time.stamp(out, updated);
                out.push(b'"');
            });
        }
        members(&mut self.values, self.styles, out, &self.behind_stamps, row);
        out.put_first(*b", \"packets\": ", 13);
        text::number(out, row.packets());
        out.put_first(*b", \"bytes\": ", 11);
        text::number(out, row.octets());
        out.put_constant(&self.end);
    }
}

#[inline]
fn members(values: &mut ValueWriter, styles: Styles, out: &mut Line, members: &[Member], row: &impl Fields) {
    for Member { key, primitive, position } in members {
        out.put_constant(key);
        match row.value(*position) {
            value @ (Value::Number(_) | Value::Path(_) | Value::Degrees(_)) => {
                values.write(out, *primitive, value);
            }
            Value::Text(text) if styles.label_as_map && *primitive == Primitive::Label => {
                label::object(out, text);
            }
            Value::Text(text) => text::json_string(out, text),
            Value::Custom(value) => custom::custom_string(out, value),
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

/// The names of the flags that are set.
pub(super) fn names_of_flags(flags: u8) -> impl Iterator<Item = &'static str> {
    let is_set = move |(name, bit): (&'static str, u8)| (flags & (1 << bit) != 0).then_some(name);
    TCP_FLAGS.into_iter().zip((0..8).rev()).filter_map(is_set)
}

/// Appends an array of the names of the flags that are set.
pub(super) fn flag_names(out: &mut Line, flags: u8) {
    out.push(b'[');
    let mut separator: &[u8] = b"\"";
    for name in names_of_flags(flags) {
        out.put(separator);
        out.put(name.as_bytes());
        out.push(b'"');
        separator = b", \"";
    }
    out.push(b']');
}
