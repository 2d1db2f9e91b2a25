//! Values as pmacct writes them, without quotation marks.

use pathflow_exporter::{FlowDirection, OriginValidation};

use super::line::Line;
use super::route::{PathStyle, RouteStyle, RouteWriter};
use super::settings::EncodeSettings;
use super::time::TimeWriter;
use super::{Primitive, Value, custom, protocol, text};

/// Writes values in one style.
#[derive(Debug)]
pub struct ValueWriter {
    pub(super) time: TimeWriter,
    route: RouteWriter,
    protocol_numbers: bool,
    tos_as_dscp: bool,
    is_json: bool,
}

impl ValueWriter {
    pub fn new(settings: &EncodeSettings, is_json: bool) -> Self {
        let options = &settings.options;
        Self {
            time: TimeWriter::new(settings.zone.clone(), options.timestamps, options.timestamps_in_seconds),
            route: RouteWriter::new(RouteStyle {
                path: if is_json && options.as_path_as_array { PathStyle::Array } else { PathStyle::Text },
                communities_as_array: is_json && options.communities_as_array,
                numbers: options.community_numbers,
                quoted: is_json,
            }),
            protocol_numbers: options.protocol_numbers,
            tos_as_dscp: options.tos_as_dscp,
            is_json,
        }
    }

    /// A number as it is written.
    #[inline]
    pub(super) const fn number(&self, primitive: Primitive, number: u64) -> u64 {
        // The codepoint is in the upper six bits (RFC 2474, section 3).
        let is_codepoint = matches!(primitive, Primitive::Tos | Primitive::TunnelTos) && self.tos_as_dscp;
        if is_codepoint { number >> 2 } else { number }
    }

    /// Appends the value. Text is appended as it is.
    #[inline]
    pub fn write(&mut self, out: &mut Line, primitive: Primitive, value: Value<'_>) {
        match value {
            Value::Number(number) => text::number(out, self.number(primitive, number)),
            Value::Degrees(degrees) if self.is_json => text::json_real(out, degrees.unwrap_or(0.0)),
            Value::Degrees(degrees) => text::fixed_real(out, degrees.unwrap_or(0.0)),
            Value::Text(text) => out.put(text.as_bytes()),
            Value::Address(Some(address)) => text::address(out, address),
            Value::Address(None) => {}
            Value::Mac(address) => text::mac_address(out, address),
            Value::Protocol(protocol) => match protocol::name(protocol).filter(|_| !self.protocol_numbers) {
                Some((name, length)) => out.put_first(name, length),
                None => text::number(out, protocol),
            },
            Value::EtherType(ether_type) => text::hexadecimal(out, ether_type),
            Value::TcpFlags(flags) => text::number(out, flags),
            Value::Roa(state) => out.push(roa_letter(state)),
            Value::Path(route) => self.route.write(out, primitive, route),
            // pmacct's `timestamps_secs` is not for these.
            Value::Time(time) if matches!(primitive, Primitive::TimestampMin | Primitive::TimestampMax) => {
                self.time.exact(out, time.unwrap_or(0));
            }
            Value::Time(time) => self.time.time(out, time.unwrap_or(0)),
            Value::Labels(labels) => custom::label_stack(out, labels),
            Value::Custom(value) => custom::custom(out, value),
            Value::Direction(FlowDirection::Ingress) => out.push(b'i'),
            Value::Direction(FlowDirection::Egress) => out.push(b'e'),
        }
    }
}

/// pmacct's letter. Where RPKI was not asked, nothing is known.
const fn roa_letter(state: Option<OriginValidation>) -> u8 {
    match state {
        None | Some(OriginValidation::NotFound) => b'u',
        Some(OriginValidation::Valid) => b'v',
        Some(OriginValidation::Invalid) => b'i',
        Some(OriginValidation::InvalidCoveredByValid) => b'V',
        Some(OriginValidation::InvalidCoveredByNotFound) => b'U',
    }
}
