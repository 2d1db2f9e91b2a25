//! CSV and columns of fixed width, as pmacct's print plugin writes them. Neither has time stamps of bin and purge.

use super::line::Line;
use super::settings::EncodeSettings;
use super::value::ValueWriter;
use super::{EncodeError, Fields, Format, Primitive, Value, text};
use crate::aggregate::{CustomPrimitive, CustomPrimitives, Semantics};

/// Primitives whose values have no greatest length, which columns of fixed width cannot have.
pub const NOT_IN_COLUMNS: [Primitive; 10] = [
    Primitive::Label,
    Primitive::StdComm,
    Primitive::ExtComm,
    Primitive::LrgComm,
    Primitive::AsPath,
    Primitive::SrcStdComm,
    Primitive::SrcExtComm,
    Primitive::SrcLrgComm,
    Primitive::SrcAsPath,
    Primitive::MplsLabelStack,
];

/// Columns in their order, which is not that of JSON. Flows come between packets and octets, the operator's own behind
/// all others.
const ORDER: [Primitive; 78] = [
    Primitive::Tag,
    Primitive::Tag2,
    Primitive::Label,
    Primitive::Class,
    Primitive::SrcMac,
    Primitive::DstMac,
    Primitive::Vlan,
    Primitive::InVlan,
    Primitive::OutVlan,
    Primitive::InCvlan,
    Primitive::Cos,
    Primitive::Etype,
    Primitive::SrcAs,
    Primitive::DstAs,
    Primitive::StdComm,
    Primitive::ExtComm,
    Primitive::LrgComm,
    Primitive::SrcStdComm,
    Primitive::SrcExtComm,
    Primitive::SrcLrgComm,
    Primitive::AsPath,
    Primitive::SrcAsPath,
    Primitive::LocalPref,
    Primitive::SrcLocalPref,
    Primitive::Med,
    Primitive::SrcMed,
    Primitive::SrcRoa,
    Primitive::DstRoa,
    Primitive::PeerSrcAs,
    Primitive::PeerDstAs,
    Primitive::PeerSrcIp,
    Primitive::PeerDstIp,
    Primitive::InIface,
    Primitive::OutIface,
    Primitive::SrcHost,
    Primitive::SrcNet,
    Primitive::DstHost,
    Primitive::DstNet,
    Primitive::SrcMask,
    Primitive::DstMask,
    Primitive::SrcPort,
    Primitive::DstPort,
    Primitive::TcpFlags,
    Primitive::MplsLabelStack,
    Primitive::Proto,
    Primitive::Tos,
    Primitive::SrcHostCountry,
    Primitive::DstHostCountry,
    Primitive::SrcHostPocode,
    Primitive::DstHostPocode,
    Primitive::SrcHostLatitude,
    Primitive::SrcHostLongitude,
    Primitive::DstHostLatitude,
    Primitive::DstHostLongitude,
    Primitive::SamplingRate,
    Primitive::SamplingDirection,
    Primitive::MplsLabelTop,
    Primitive::MplsLabelBottom,
    Primitive::MplsStackDepth,
    Primitive::TunnelSrcMac,
    Primitive::TunnelDstMac,
    Primitive::TunnelSrcHost,
    Primitive::TunnelDstHost,
    Primitive::TunnelProto,
    Primitive::TunnelTos,
    Primitive::TunnelFlowLabel,
    Primitive::TunnelSrcPort,
    Primitive::TunnelDstPort,
    Primitive::TunnelTcpFlags,
    Primitive::Vxlan,
    Primitive::TimestampStart,
    Primitive::TimestampEnd,
    Primitive::TimestampArrival,
    Primitive::TimestampMin,
    Primitive::TimestampMax,
    Primitive::InIfaceName,
    Primitive::OutIfaceName,
    Primitive::Flows,
];

/// Width of packets and flows; that of octets is not filled up.
const COUNTER_WIDTH: usize = 22;

/// Writes rows.
#[derive(Debug)]
pub(super) struct Columns {
    values: ValueWriter,
    primitives: Vec<Column>,
    flows: Option<usize>,
    custom: CustomPrimitives,
    filling: Filling,
    has_counters: bool,
    ambiguous_rows: u64,
}

#[derive(Debug)]
struct Column {
    primitive: Primitive,
    position: usize,
}

/// What is between two values.
#[derive(Clone, Copy, Debug)]
enum Filling {
    Separator(u8),
    Blanks,
}

impl Columns {
    pub(super) fn new(
        settings: &EncodeSettings,
        format: Format,
        primitives: &[Primitive],
    ) -> Result<Self, EncodeError> {
        let filling = match format {
            Format::Csv | Format::EventCsv => Filling::Separator(separator(&settings.separator)?),
            Format::Json | Format::Formatted | Format::EventFormatted => Filling::Blanks,
        };
        if matches!(filling, Filling::Blanks)
            && let Some(endless) = primitives.iter().find(|primitive| NOT_IN_COLUMNS.contains(primitive))
        {
            return Err(EncodeError::NoWidth(*endless));
        }
        let numbered = primitives.iter().enumerate();
        let mut columns: Vec<Column> =
            numbered.map(|(position, &primitive)| Column { primitive, position }).collect();
        columns.sort_by_key(|column| (place(column.primitive), column.primitive));
        let flows = columns.iter().position(|column| column.primitive == Primitive::Flows);
        let flows = flows.map(|at| columns.remove(at).position);
        let has_counters = matches!(format, Format::Csv | Format::Formatted | Format::Json);
        let (values, custom) = (ValueWriter::new(settings, false), settings.custom.clone());
        Ok(Self { values, primitives: columns, flows, custom, filling, has_counters, ambiguous_rows: 0 })
    }

    pub(super) fn header(&self, out: &mut Line) {
        for Column { primitive, .. } in &self.primitives {
            self.cell(out, width(*primitive, &self.custom), |out| {
                out.put(self.custom.title(*primitive).as_bytes());
            });
        }
        if self.has_counters {
            self.cell(out, COUNTER_WIDTH, |out| out.put(b"PACKETS"));
            if self.flows.is_some() {
                self.cell(out, COUNTER_WIDTH, |out| out.put(b"FLOWS"));
            }
            self.cell(out, 0, |out| out.put(b"BYTES"));
        }
        out.push(b'\n');
    }

    pub(super) fn row(&mut self, out: &mut Line, row: &impl Fields) {
        let mut is_ambiguous = false;
        for Column { primitive, position } in &self.primitives {
            let cell = begin(out, self.filling);
            match row.value(*position) {
                Value::Address(None) if matches!(self.filling, Filling::Blanks) => {
                    out.put(b"::");
                }
                value @ (Value::Text(_) | Value::Path(_)) => {
                    self.values.write(out, *primitive, value);
                    is_ambiguous |= mend(out.text_mut(cell), self.filling);
                }
                value @ Value::Custom(_) => {
                    self.values.write(out, *primitive, value);
                    is_ambiguous |= mend(out.text_mut(cell), self.filling);
                    // pmacct's columns keep two blanks behind a value that is wider.
                    if matches!(self.filling, Filling::Blanks) {
                        out.push(b' ');
                    }
                }
                value @ Value::Degrees(_) => {
                    self.values.write(out, *primitive, value);
                    // pmacct's columns of degrees are as wide as their title, but not filled up.
                    end(out, cell, out.len() + 2 - cell, self.filling);
                    continue;
                }
                value => self.values.write(out, *primitive, value),
            }
            end(out, cell, width(*primitive, &self.custom), self.filling);
        }
        if self.has_counters {
            self.cell(out, COUNTER_WIDTH, |out| text::number(out, row.packets()));
            if let Some(flows) = self.flows
                && let Value::Number(flows) = row.value(flows)
            {
                self.cell(out, COUNTER_WIDTH, |out| text::number(out, flows));
            }
            self.cell(out, 0, |out| text::number(out, row.octets()));
        }
        self.ambiguous_rows += u64::from(is_ambiguous);
    }

    pub(super) fn take_ambiguous_rows(&mut self) -> u64 {
        std::mem::take(&mut self.ambiguous_rows)
    }

    fn cell(&self, out: &mut Line, width: usize, write: impl FnOnce(&mut Line)) {
        let cell = begin(out, self.filling);
        write(out);
        end(out, cell, width, self.filling);
    }
}

/// Returns where the value starts.
fn begin(out: &mut Line, filling: Filling) -> usize {
    if let Filling::Separator(separator) = filling
        && out.len() > 0
    {
        out.push(separator);
    }
    out.len()
}

fn end(out: &mut Line, cell: usize, width: usize, filling: Filling) {
    if matches!(filling, Filling::Blanks) && width > 0 {
        // A value that is wider than its column keeps a blank behind it.
        out.push(b' ');
        while out.len() < cell + width {
            out.push(b' ');
        }
    }
}

/// Makes line breaks blanks, as they would begin a row. Returns whether the separator is in the value.
fn mend(value: &mut [u8], filling: Filling) -> bool {
    let mut has_separator = false;
    for octet in value {
        if matches!(octet, b'\n' | b'\r') {
            *octet = b' ';
        }
        has_separator |= matches!(filling, Filling::Separator(separator) if separator == *octet);
    }
    has_separator
}

fn place(primitive: Primitive) -> usize {
    ORDER.iter().position(|other| *other == primitive).unwrap_or(ORDER.len())
}

fn separator(text: &str) -> Result<u8, EncodeError> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        b"\\s" => Ok(b' '),
        [octet] if octet.is_ascii() && !matches!(octet, b'\n' | b'\r' | 0) => Ok(*octet),
        _ => Err(EncodeError::Separator(text.to_owned())),
    }
}

/// Width of a column with the blanks behind it, as seen in the output of pmacctd and nfacctd 1.7.7. Those that it does not
/// have, `tunnel_flow_label` and `tunnel_tcpflags`, are as wide as their titles.
fn width(primitive: Primitive, custom: &CustomPrimitives) -> usize {
    use Primitive as P;
    match primitive {
        P::SrcMac
        | P::DstMac
        | P::TunnelSrcMac
        | P::TunnelDstMac
        | P::TunnelFlowLabel
        | P::MplsLabelBottom => 19,
        P::MplsStackDepth | P::TunnelTcpFlags => 18,
        P::Cos => 4,
        // Two names and what is between them.
        P::Class => 34,
        P::Vlan | P::InCvlan | P::Etype | P::Tos => 7,
        P::SrcRoa | P::DstRoa | P::Med | P::SrcMed => 8,
        P::LocalPref | P::SrcLocalPref => 9,
        P::PeerSrcIp
        | P::PeerDstIp
        | P::SrcHost
        | P::SrcNet
        | P::DstHost
        | P::DstNet
        | P::TunnelSrcHost
        | P::TunnelDstHost => 47,
        P::InVlan | P::OutVlan | P::SrcMask | P::DstMask | P::SrcPort | P::DstPort | P::Vxlan => 10,
        P::TcpFlags => 11,
        P::SrcHostPocode
        | P::DstHostPocode
        | P::SrcHostLatitude
        | P::SrcHostLongitude
        | P::DstHostLatitude
        | P::DstHostLongitude
        | P::SamplingRate => 14,
        // There pmacct's titles have a blank less than its values.
        P::SamplingDirection => 20,
        P::MplsLabelTop => 16,
        P::Custom(number) => custom.get(number).map_or(0, width_of_custom),
        P::InIfaceName | P::OutIfaceName | P::TunnelProto | P::TunnelSrcPort | P::TunnelDstPort => 17,
        P::TimestampStart | P::TimestampEnd | P::TimestampArrival | P::TimestampMin | P::TimestampMax => 31,
        _ => 12,
    }
}

/// As wide as the name or as any value, but for octets, which are not counted with what is between them.
fn width_of_custom(custom: &CustomPrimitive) -> usize {
    let value = match (custom.semantics, custom.length) {
        (Semantics::UInt | Semantics::Hex, 1) => 3,
        (Semantics::UInt | Semantics::Hex, 2) => 5,
        (Semantics::UInt | Semantics::Hex, 4) => 10,
        (Semantics::UInt | Semantics::Hex, _) => 20,
        (Semantics::Ip, _) => 46,
        (Semantics::Mac, _) => 18,
        (Semantics::Str | Semantics::Raw, length) => length.into(),
    };
    value.max(custom.name.len()) + 2
}
