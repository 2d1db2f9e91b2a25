//! `style = "pathflow"`: one JSON object for each row, with types.
//!
//! ```json
//! {"bin_start":"2026-11-21T05:45:00Z","purge_time":"2026-11-21T05:48:01Z","label":"edge",
//!  "bgp_source_as_number":397143,"source_address":"192.0.2.1","source_port":61983,"protocol_identifier":6,
//!  "tcp_control_bits":["ACK","SYN"],"packet_delta_count":1,"octet_delta_count":98,
//!  "destination_route":{"as_path":[6939,3356,{"set":[64500,64501]}],"communities":["6939:100"],"local_pref":150}}
//! ```
//!
//! Keys are those of flow records on standard output, numbers are JSON numbers, addresses are strings (RFC 5952), times
//! are strings in UTC (RFC 3339). What is unknown or absent is left out: AS numbers, prefix lengths, next hops, MAC
//! addresses, interfaces, VLANs, tags, labels and so on that are 0 or empty. `tunnel` has the keys of the packet inside
//! a tunnel, without what is 0, and `custom` those of the operator's own: numbers of `u_int` are always there, other
//! values if they are not all zeros. Of a route there is what the key has;
//! `as_path` is a list of numbers, in which an object with `set`, `confed_sequence` or `confed_set` stands for such a
//! segment; communities are lists of
//! strings.

use jiff::tz::TimeZone;
use pathflow_exporter::OriginValidation;

use super::line::{Constant, Line, Memo};
use super::pmacct::flag_names;
use super::route::{PathStyle, RouteStyle, RouteWriter, is_of_route};
use super::settings::{EncodeSettings, TimestampStyle};
use super::time::TimeWriter;
use super::{Fields, Primitive, Value, custom, text};
use crate::aggregate::Semantics;

/// Writes objects.
#[derive(Debug)]
pub(super) struct Nested {
    time: TimeWriter,
    /// The times of bin and purge.
    stamps: Memo,
    members: Vec<Member>,
    /// Objects by their names, left out if there is nothing in them.
    groups: [(Constant, Vec<Member>); 4],
    routes: RouteWriter,
    end: Constant,
}

#[derive(Debug)]
struct Member {
    /// `"source_address":`
    key: Constant,
    primitive: Primitive,
    position: usize,
    zero_is_unknown: bool,
}

impl Nested {
    pub(super) fn new(settings: &EncodeSettings, primitives: &[Primitive]) -> Self {
        let (mut members, mut source_route, mut destination_route) = (Vec::new(), Vec::new(), Vec::new());
        let (mut tunnel, mut custom) = (Vec::new(), Vec::new());
        for (position, &primitive) in primitives.iter().enumerate() {
            let (key, zero_is_unknown, is_source) = match primitive {
                Primitive::Custom(_) => (settings.custom.name(primitive), false, false),
                primitive => key(primitive),
            };
            let key = Constant::new(format!("\"{key}\":").as_bytes());
            let member = Member { key, primitive, position, zero_is_unknown };
            let is_of_route = is_of_route(primitive)
                || matches!(
                    primitive,
                    Primitive::LocalPref | Primitive::SrcLocalPref | Primitive::Med | Primitive::SrcMed
                );
            match (is_of_route, is_source) {
                (true, true) => source_route.push(member),
                (true, false) => destination_route.push(member),
                _ if primitive.is_of_tunnel() => tunnel.push(member),
                _ if matches!(primitive, Primitive::Custom(_)) => custom.push(member),
                (false, _) => members.push(member),
            }
        }
        let groups = [
            ("tunnel", tunnel),
            ("custom", custom),
            ("source_route", source_route),
            ("destination_route", destination_route),
        ];
        Self {
            time: TimeWriter::new(TimeZone::UTC, TimestampStyle::Rfc3339, false),
            stamps: Memo::default(),
            members,
            groups: groups
                .map(|(name, members)| (Constant::new(format!(",\"{name}\":{{").as_bytes()), members)),
            routes: RouteWriter::new(RouteStyle {
                path: PathStyle::Typed,
                communities_as_array: true,
                numbers: settings.options.community_numbers,
                quoted: true,
            }),
            end: Constant::new(b"}"),
        }
    }

    pub(super) fn set_writer_id(&mut self, writer_id: &str) {
        let mut end = Line::default();
        end.put(b",\"writer_id\":");
        text::json_string(&mut end, writer_id);
        end.push(b'}');
        self.end.set(end.text());
    }

    pub(super) fn row(&mut self, out: &mut Line, row: &impl Fields, updated: u64) {
        out.push(b'{');
        let bin = row.bin();
        self.stamps.put(out, (bin, updated), |out| {
            if let Some(bin) = bin {
                out.put(b"\"bin_start\":\"");
                self.time.stamp(out, bin);
                out.put(b"\",");
            }
            out.put(b"\"purge_time\":\"");
            self.time.stamp(out, updated);
            out.put(b"\",");
        });
        for member in &self.members {
            member.write(out, &mut self.time, &mut self.routes, row.value(member.position));
        }
        out.put(b"\"packet_delta_count\":");
        text::number(out, row.packets());
        out.put(b",\"octet_delta_count\":");
        text::number(out, row.octets());
        for (key, members) in &self.groups {
            let before = out.len();
            out.put_constant(key);
            let start = out.len();
            for member in members {
                member.write(out, &mut self.time, &mut self.routes, row.value(member.position));
            }
            if out.len() == start {
                out.truncate(before);
            } else {
                // The comma behind the last one.
                out.truncate(out.len() - 1);
                out.push(b'}');
            }
        }
        out.put_constant(&self.end);
    }
}

impl Member {
    /// Appends key, value and comma; nothing if the value is not known.
    fn write(&self, out: &mut Line, time: &mut TimeWriter, routes: &mut RouteWriter, value: Value<'_>) {
        let is_unknown = match value {
            Value::Number(number) => number == 0 && self.zero_is_unknown,
            Value::Protocol(number) => number == 0 && self.zero_is_unknown,
            Value::TcpFlags(flags) => flags == 0 && self.zero_is_unknown,
            Value::Text(text) => text.is_empty(),
            Value::Labels(labels) => labels.is_empty(),
            Value::Custom(value) => value.is_nothing(),
            Value::Mac(address) => address == [0; 6],
            Value::Address(None)
            | Value::Path(None)
            | Value::Time(None)
            | Value::Roa(None)
            | Value::Degrees(None) => true,
            _ => false,
        };
        if is_unknown {
            return;
        }
        out.put_constant(&self.key);
        match value {
            Value::Number(number) => text::number(out, number),
            Value::Degrees(degrees) => text::shortest_real(out, degrees.unwrap_or(0.0)),
            Value::Text(text) => text::json_string(out, text),
            Value::Address(address) => {
                out.push(b'"');
                if let Some(address) = address {
                    text::address(out, address);
                }
                out.push(b'"');
            }
            Value::Mac(address) => {
                out.push(b'"');
                text::mac_address(out, address);
                out.push(b'"');
            }
            Value::Protocol(number) => text::number(out, number),
            Value::EtherType(number) => text::number(out, number),
            Value::TcpFlags(flags) => flag_names(out, flags),
            Value::Roa(state) => {
                out.push(b'"');
                out.put(state.map_or("", OriginValidation::as_str).as_bytes());
                out.push(b'"');
            }
            Value::Labels(labels) => custom::label_array(out, labels),
            Value::Custom(value) if value.semantics == Semantics::UInt => text::number(out, value.number()),
            Value::Custom(value) => custom::custom_string(out, value),
            Value::Path(route) => routes.write(out, self.primitive, route),
            Value::Time(at) => {
                out.push(b'"');
                time.time(out, at.unwrap_or(0));
                out.push(b'"');
            }
            Value::Direction(direction) => {
                out.push(b'"');
                out.put(direction.as_str().as_bytes());
                out.push(b'"');
            }
        }
        out.push(b',');
    }
}

/// Key; whether 0 says that nothing is known; whether it is of the source.
const fn key(primitive: Primitive) -> (&'static str, bool, bool) {
    use Primitive as P;
    match primitive {
        P::Tag => ("tag", true, false),
        P::Tag2 => ("tag2", true, false),
        P::Label => ("label", true, false),
        P::Class => ("application_name", true, false),
        P::SrcMac | P::TunnelSrcMac => ("source_mac_address", true, true),
        P::DstMac | P::TunnelDstMac => ("destination_mac_address", true, false),
        P::Vlan => ("vlan_id", true, false),
        P::InVlan => ("ingress_vlan_id", true, false),
        P::OutVlan => ("egress_vlan_id", true, false),
        P::InCvlan => ("dot1q_customer_vlan_id", true, false),
        P::Cos => ("dot1q_priority", true, false),
        P::Etype => ("ethernet_type", true, false),
        P::SrcAs => ("bgp_source_as_number", true, true),
        P::DstAs => ("bgp_destination_as_number", true, false),
        P::StdComm => ("communities", true, false),
        P::ExtComm => ("extended_communities", true, false),
        P::LrgComm => ("large_communities", true, false),
        P::AsPath => ("as_path", true, false),
        P::LocalPref => ("local_pref", true, false),
        P::Med => ("multi_exit_disc", true, false),
        P::DstRoa => ("destination_rpki", true, false),
        P::PeerSrcAs => ("bgp_prev_adjacent_as_number", true, true),
        P::PeerDstAs => ("bgp_next_adjacent_as_number", true, false),
        P::PeerSrcIp => ("exporter_address", true, true),
        P::PeerDstIp => ("bgp_next_hop", true, false),
        P::SrcStdComm => ("communities", true, true),
        P::SrcExtComm => ("extended_communities", true, true),
        P::SrcLrgComm => ("large_communities", true, true),
        P::SrcAsPath => ("as_path", true, true),
        P::SrcLocalPref => ("local_pref", true, true),
        P::SrcMed => ("multi_exit_disc", true, true),
        P::SrcRoa => ("source_rpki", true, true),
        P::InIface => ("ingress_interface", true, true),
        P::OutIface => ("egress_interface", true, false),
        P::SrcHost | P::TunnelSrcHost => ("source_address", true, true),
        P::SrcNet => ("source_prefix", true, true),
        P::DstHost | P::TunnelDstHost => ("destination_address", true, false),
        P::DstNet => ("destination_prefix", true, false),
        P::SrcMask => ("source_prefix_length", true, true),
        P::DstMask => ("destination_prefix_length", true, false),
        P::SrcPort => ("source_port", false, true),
        P::DstPort => ("destination_port", false, false),
        P::SrcHostCountry => ("source_country", true, true),
        P::DstHostCountry => ("destination_country", true, false),
        P::SrcHostPocode => ("source_postal_code", true, true),
        P::DstHostPocode => ("destination_postal_code", true, false),
        P::SrcHostLatitude => ("source_latitude", true, true),
        P::SrcHostLongitude => ("source_longitude", true, true),
        P::DstHostLatitude => ("destination_latitude", true, false),
        P::DstHostLongitude => ("destination_longitude", true, false),
        P::TcpFlags => ("tcp_control_bits", false, false),
        P::Proto => ("protocol_identifier", false, false),
        P::Tos => ("ip_class_of_service", false, false),
        P::FlowLabel | P::TunnelFlowLabel => ("flow_label_ipv6", true, false),
        P::SamplingRate => ("sampling_interval", true, false),
        P::SamplingDirection => ("flow_direction", false, false),
        P::MplsLabelTop => ("mpls_top_label", true, false),
        P::MplsLabelBottom => ("mpls_bottom_label", true, false),
        P::MplsLabelStack => ("mpls_label_stack", true, false),
        P::MplsStackDepth => ("mpls_label_stack_depth", true, false),
        P::TunnelProto => ("protocol_identifier", true, false),
        P::TunnelTos => ("ip_class_of_service", true, false),
        P::TunnelSrcPort => ("source_port", true, true),
        P::TunnelDstPort => ("destination_port", true, false),
        P::TunnelTcpFlags => ("tcp_control_bits", true, false),
        P::Custom(_) => ("", false, false),
        P::Vxlan => ("layer2_segment_id", true, false),
        P::TimestampStart => ("flow_start", true, false),
        P::TimestampEnd => ("flow_end", true, false),
        P::TimestampArrival => ("arrival_time", true, false),
        P::TimestampMin => ("first_packet_time", true, false),
        P::TimestampMax => ("last_packet_time", true, false),
        P::Flows => ("flow_count", false, false),
        P::InIfaceName => ("ingress_interface_name", true, true),
        P::OutIfaceName => ("egress_interface_name", true, false),
    }
}
