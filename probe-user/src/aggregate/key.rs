//! Keys of rows: the values of their primitives, one after the other, in as few octets as they need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use pathflow_common::extension::KeyExtension;
use pathflow_exporter::{BgpRoute, FlowDirection, FlowRecord, ObservationContext, OriginValidation};

use super::custom::{CustomPrimitives, CustomValue};
use super::inside::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, TCP, UDP};
use super::intern::{Interned, Kept, NOTHING, RoutePart};
use super::observed::Observed;
use super::primitive::{Key, Primitive};
use super::value::{RouteValue, Value};
use crate::enrich::{Place, TagsOf};

/// Words of the longest key: that of all primitives.
const MAX_WORDS: usize = 64;
/// In front of every key: the start of its bin, in seconds since the Unix epoch; 0 without bins.
const BIN_OCTETS: usize = 8;

/// What deltas without an extension have.
static NO_EXTENSION: KeyExtension = KeyExtension::NONE;
/// Octets of the number of MPLS labels, and of those in network byte order.
const LABEL_STACK_OCTETS: usize = 1 + 3 * NO_EXTENSION.labels.len();

/// Where each primitive is in a key.
#[derive(Clone, Debug)]
pub(super) struct KeyLayout {
    primitives: Vec<Primitive>,
    offsets: Vec<usize>,
    words: usize,
    interned: usize,
    both_ends: bool,
    agent: Option<IpAddr>,
    custom: CustomPrimitives,
}

/// A key in the making.
#[derive(Clone, Debug)]
pub(super) struct KeyBuffer([u64; MAX_WORDS]);

/// Names of interfaces by their number in records.
#[derive(Clone, Debug, Default)]
pub(super) struct InterfaceTexts {
    of: Option<Arc<ObservationContext>>,
    by_number: HashMap<u32, Arc<str>, RandomState>,
    /// Identifiers of VLANs that have an interface of their own.
    vlans: HashMap<u32, u16, RandomState>,
}

/// A delta on its way into a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'o> {
    pub(super) observed: &'o Observed,
    /// What the operator calls it.
    pub(super) tags: TagsOf<'o>,
    /// Where its ends are; places of no name where no primitive asks.
    pub(super) places: &'o EndPlaces,
    /// Start of its bin, in seconds since the Unix epoch; 0 without bins.
    pub(super) bin: u64,
    /// The end that it counts for.
    pub(super) end: End,
    /// What `sampling_rate` says.
    pub(super) sampling_rate: u32,
}

/// Where the two ends of a delta are.
#[derive(Clone, Debug, Default)]
pub(super) struct EndPlaces {
    pub(super) source: Arc<Place>,
    pub(super) destination: Arc<Place>,
}

/// Which end of the packets is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl InterfaceTexts {
    /// The names are those of `context` from now on.
    pub(super) fn set(&mut self, context: Arc<ObservationContext>) {
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &context)) {
            return;
        }
        self.by_number = context
            .interfaces
            .iter()
            .map(|interface| (interface.index, interface.name.as_str().into()))
            .collect();
        // Of several with one number the last one is meant, also if that is none of a VLAN.
        let vlans = context.interfaces.iter().map(|interface| (interface.index, interface.vlan_id));
        self.vlans = vlans.collect();
        self.of = Some(context);
    }

    /// The VLAN in which packets of a record went through an interface of it, in this direction: that of their tag where
    /// they were seen, or else that of the interface; 0 = none.
    fn vlan(&self, record: &FlowRecord, direction: FlowDirection) -> u16 {
        let tag = if direction == record.flow_direction { record.vlan_id } else { 0 };
        let interface = match direction {
            FlowDirection::Ingress => record.ingress_interface,
            FlowDirection::Egress => record.egress_interface,
        };
        if tag != 0 { tag } else { self.vlans.get(&interface).copied().unwrap_or(0) }
    }
}

impl KeyBuffer {
    pub(super) const fn new() -> Self {
        Self([0; MAX_WORDS])
    }

    /// A copy of a key.
    pub(super) fn copy(&mut self, key: &[u64]) -> &mut [u64] {
        let words = &mut self.0[..key.len().min(MAX_WORDS)];
        words.copy_from_slice(&key[..words.len()]);
        words
    }
}

impl KeyLayout {
    /// `agent` is what `peer_src_ip` says.
    pub(super) fn new(key: &Key, agent: Option<IpAddr>) -> Self {
        let mut octets = BIN_OCTETS;
        let mut offsets = Vec::with_capacity(key.primitives.len());
        for primitive in &key.primitives {
            offsets.push(octets);
            octets += match primitive {
                Primitive::Custom(number) => key.custom.get(*number).map_or(0, |custom| custom.length.into()),
                primitive => width(*primitive),
            };
        }
        let words = octets.div_ceil(size_of::<u64>()).min(MAX_WORDS);
        let interned = key.primitives.iter().filter(|primitive| interned_as(**primitive).is_some()).count();
        let (primitives, custom) = (key.primitives.clone(), key.custom.clone());
        Self { primitives, offsets, words, interned, both_ends: key.both_ends, agent, custom }
    }

    /// The primitives, in order.
    pub(super) fn primitives(&self) -> &[Primitive] {
        &self.primitives
    }

    /// Words of a key.
    pub(super) const fn words(&self) -> usize {
        self.words
    }

    /// The ends that a packet counts for.
    pub(super) const fn ends(&self) -> &'static [End] {
        if self.both_ends { &[End::Source, End::Destination] } else { &[End::Source] }
    }

    /// Values that a key refers to at most.
    pub(super) const fn interned(&self) -> usize {
        self.interned
    }

    /// Makes the key of a delta, of [`KeyLayout::words`].
    pub(super) fn project(
        &self,
        words: &mut [u64],
        part: &Part<'_>,
        interned: &mut Interned,
        names: &InterfaceTexts,
    ) {
        // What lies between the values and behind them is the same in every key.
        words.fill(0);
        let octets: &mut [u8] = bytemuck::cast_slice_mut(words);
        put(octets, 0, &part.bin.to_ne_bytes());
        for (primitive, offset) in self.primitives.iter().zip(&self.offsets) {
            let primitive = match part.end {
                End::Source => *primitive,
                End::Destination => counterpart(*primitive),
            };
            match primitive {
                Primitive::Custom(number) => self.put_chosen(octets, *offset, number, part.observed),
                primitive => write(octets, *offset, primitive, part, interned, names),
            }
        }
    }

    /// Puts the octets of a custom primitive into a key.
    fn put_chosen(&self, octets: &mut [u8], offset: usize, number: u8, observed: &Observed) {
        let (Some(custom), Some(extension)) = (self.custom.get(number), &observed.extension) else { return };
        let start = usize::from(custom.offset);
        if let Some(chosen) = extension.chosen.get(start..start + usize::from(custom.length)) {
            put(octets, offset, chosen);
        }
    }

    /// The start of the bin, in seconds since the Unix epoch; 0 without bins.
    pub(super) fn bin(key: &[u64]) -> u64 {
        key.first().copied().unwrap_or(0)
    }

    /// The value of the primitive at `position`. Those that are not in the key are zero.
    pub(super) fn value<'a>(&self, key: &'a [u64], position: usize, interned: &'a Interned) -> Value<'a> {
        let (Some(primitive), Some(offset)) = (self.primitives.get(position), self.offsets.get(position))
        else {
            return Value::Number(0);
        };
        let octets: &[u8] = bytemuck::cast_slice(key);
        let field = octets.get(*offset..).unwrap_or_default();
        if let Primitive::Custom(number) = primitive {
            let octets = |length: u8| field.get(..length.into()).unwrap_or_default();
            return self.custom.get(*number).map_or(Value::Number(0), |custom| {
                Value::Custom(CustomValue { semantics: custom.semantics, octets: octets(custom.length) })
            });
        }
        read(*primitive, field, interned, self.agent)
    }

    /// Puts other numbers in place of those of another table into a key that comes from there; false if there is none for
    /// one of them.
    pub(super) fn renumber(
        &self,
        key: &mut [u64],
        mut number_here: impl FnMut(u32, Kept) -> Option<u32>,
    ) -> bool {
        let octets: &mut [u8] = bytemuck::cast_slice_mut(key);
        for (primitive, offset) in self.primitives.iter().zip(&self.offsets) {
            if let Some(kept) = interned_as(*primitive) {
                let number = u32::from_ne_bytes(take(octets.get(*offset..).unwrap_or_default()));
                let Some(number) = number_here(number, kept) else { return false };
                put(octets, *offset, &number.to_ne_bytes());
            }
        }
        true
    }
}

/// Octets in a key.
const fn width(primitive: Primitive) -> usize {
    use Primitive as P;
    match primitive {
        P::Tag
        | P::Tag2
        | P::SrcHostLatitude
        | P::SrcHostLongitude
        | P::DstHostLatitude
        | P::DstHostLongitude
        | P::TimestampStart
        | P::TimestampEnd
        | P::TimestampArrival => 8,
        P::SrcMac | P::DstMac | P::TunnelSrcMac | P::TunnelDstMac => 6,
        P::Vlan
        | P::InVlan
        | P::OutVlan
        | P::InCvlan
        | P::Etype
        | P::SrcPort
        | P::DstPort
        | P::TunnelSrcPort
        | P::TunnelDstPort => 2,
        P::Cos
        | P::DstRoa
        | P::SrcRoa
        | P::SrcMask
        | P::DstMask
        | P::Proto
        | P::Tos
        | P::MplsStackDepth
        | P::TunnelProto
        | P::TunnelTos
        | P::SamplingDirection => 1,
        P::MplsLabelStack => LABEL_STACK_OCTETS,
        // What kind of address it is, and the address.
        P::PeerDstIp
        | P::SrcHost
        | P::SrcNet
        | P::DstHost
        | P::DstNet
        | P::TunnelSrcHost
        | P::TunnelDstHost => 17,
        // Not in the key: the same in all rows, or added up. And what has a length of its own.
        P::PeerSrcIp
        | P::TcpFlags
        | P::TunnelTcpFlags
        | P::Flows
        | P::TimestampMin
        | P::TimestampMax
        | P::Custom(_) => 0,
        P::Label
        | P::SrcAs
        | P::DstAs
        | P::StdComm
        | P::ExtComm
        | P::LrgComm
        | P::AsPath
        | P::LocalPref
        | P::Med
        | P::PeerSrcAs
        | P::PeerDstAs
        | P::SrcStdComm
        | P::SrcExtComm
        | P::SrcLrgComm
        | P::SrcAsPath
        | P::SrcLocalPref
        | P::SrcMed
        | P::InIface
        | P::OutIface
        | P::SrcHostCountry
        | P::DstHostCountry
        | P::SrcHostPocode
        | P::DstHostPocode
        | P::SamplingRate
        | P::MplsLabelTop
        | P::MplsLabelBottom
        | P::TunnelFlowLabel
        | P::Vxlan
        | P::InIfaceName
        | P::OutIfaceName => 4,
    }
}

/// What the key has only the number of, if it does.
const fn interned_as(primitive: Primitive) -> Option<Kept> {
    use Primitive as P;
    match primitive {
        P::Label
        | P::SrcHostCountry
        | P::DstHostCountry
        | P::SrcHostPocode
        | P::DstHostPocode
        | P::InIfaceName
        | P::OutIfaceName => Some(Kept::Text),
        P::AsPath | P::SrcAsPath => Some(Kept::Part(RoutePart::AsPath)),
        P::StdComm | P::SrcStdComm => Some(Kept::Part(RoutePart::Communities)),
        P::ExtComm | P::SrcExtComm => Some(Kept::Part(RoutePart::ExtendedCommunities)),
        P::LrgComm | P::SrcLrgComm => Some(Kept::Part(RoutePart::LargeCommunities)),
        _ => None,
    }
}

/// The same of the other end.
const fn counterpart(primitive: Primitive) -> Primitive {
    match primitive {
        Primitive::SrcHost => Primitive::DstHost,
        Primitive::SrcNet => Primitive::DstNet,
        Primitive::SrcAs => Primitive::DstAs,
        Primitive::SrcPort => Primitive::DstPort,
        Primitive::SrcMac => Primitive::DstMac,
        other => other,
    }
}

fn write(
    octets: &mut [u8],
    offset: usize,
    primitive: Primitive,
    part: &Part<'_>,
    interned: &mut Interned,
    names: &InterfaceTexts,
) {
    use Primitive as P;
    let observed = part.observed;
    let record = &observed.record;
    let extension = observed.extension.as_deref().unwrap_or(&NO_EXTENSION);
    let inner = &extension.inner;
    let mut number = |number: u32| put(octets, offset, &number.to_ne_bytes());
    match primitive {
        P::Tag => put(octets, offset, &part.tags.tag.to_ne_bytes()),
        P::Tag2 => put(octets, offset, &part.tags.tag2.to_ne_bytes()),
        P::TimestampStart | P::TimestampArrival => put(octets, offset, &observed.start.to_ne_bytes()),
        P::TimestampEnd => put(octets, offset, &observed.end.to_ne_bytes()),
        P::Label => number(part.tags.label.map_or(NOTHING, |label| interned.text(label))),
        P::InIfaceName | P::OutIfaceName => {
            let index =
                if primitive == P::InIfaceName { record.ingress_interface } else { record.egress_interface };
            number(names.by_number.get(&index).map_or(NOTHING, |name| interned.text(name)));
        }
        P::SrcHostCountry => number(interned.text(&part.places.source.country)),
        P::DstHostCountry => number(interned.text(&part.places.destination.country)),
        P::SrcHostPocode => number(interned.text(&part.places.source.postal_code)),
        P::DstHostPocode => number(interned.text(&part.places.destination.postal_code)),
        P::SrcHostLatitude => put_degrees(octets, offset, part.places.source.latitude),
        P::SrcHostLongitude => put_degrees(octets, offset, part.places.source.longitude),
        P::DstHostLatitude => put_degrees(octets, offset, part.places.destination.latitude),
        P::DstHostLongitude => put_degrees(octets, offset, part.places.destination.longitude),
        P::SrcMac => put(octets, offset, &record.source_mac_address),
        P::DstMac => put(octets, offset, &record.destination_mac_address),
        P::Vlan => put(octets, offset, &record.vlan_id.to_ne_bytes()),
        P::InVlan => put(octets, offset, &names.vlan(record, FlowDirection::Ingress).to_ne_bytes()),
        P::OutVlan => put(octets, offset, &names.vlan(record, FlowDirection::Egress).to_ne_bytes()),
        P::InCvlan => put(octets, offset, &record.dot1q_customer_vlan_id.to_ne_bytes()),
        P::Cos => put(octets, offset, &[record.dot1q_priority]),
        P::Etype => {
            let is_ipv4 = record.source_address.is_ipv4();
            let ethertype = if is_ipv4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
            put(octets, offset, &ethertype.to_ne_bytes());
        }
        P::SrcAs => number(record.bgp_source_as_number),
        P::DstAs => number(record.bgp_destination_as_number),
        P::PeerSrcAs => number(record.bgp_prev_adjacent_as_number),
        P::PeerDstAs => number(record.bgp_next_adjacent_as_number),
        P::StdComm | P::ExtComm | P::LrgComm | P::AsPath => {
            number(route_part(record.destination_route.as_ref(), primitive, interned));
        }
        P::SrcStdComm | P::SrcExtComm | P::SrcLrgComm | P::SrcAsPath => {
            number(route_part(record.source_route.as_ref(), primitive, interned));
        }
        P::LocalPref => number(local_pref(record.destination_route.as_deref())),
        P::SrcLocalPref => number(local_pref(record.source_route.as_deref())),
        P::Med => number(multi_exit_disc(record.destination_route.as_deref())),
        P::SrcMed => number(multi_exit_disc(record.source_route.as_deref())),
        P::DstRoa => put(octets, offset, &[roa(record.destination_rpki)]),
        P::SrcRoa => put(octets, offset, &[roa(record.source_rpki)]),
        P::PeerDstIp => put_address(octets, offset, record.bgp_next_hop),
        P::SrcHost => put_address(octets, offset, Some(record.source_address)),
        P::DstHost => put_address(octets, offset, Some(record.destination_address)),
        P::SrcNet => {
            put_address(octets, offset, network(record.source_address, record.source_prefix_length));
        }
        P::DstNet => {
            put_address(
                octets,
                offset,
                network(record.destination_address, record.destination_prefix_length),
            );
        }
        P::SrcMask => put(octets, offset, &[record.source_prefix_length]),
        P::DstMask => put(octets, offset, &[record.destination_prefix_length]),
        P::InIface => number(record.ingress_interface),
        P::OutIface => number(record.egress_interface),
        P::SrcPort => put(octets, offset, &port(record, record.source_port).to_ne_bytes()),
        P::DstPort => put(octets, offset, &port(record, record.destination_port).to_ne_bytes()),
        P::Proto => put(octets, offset, &[record.protocol_identifier]),
        P::Tos => put(octets, offset, &[record.ip_class_of_service]),
        P::SamplingRate => number(part.sampling_rate),
        P::SamplingDirection => put(octets, offset, &[record.flow_direction as u8]),
        P::MplsLabelTop => number(record.mpls_top_label.unwrap_or(0)),
        P::MplsLabelBottom => number(extension.label_stack().last().copied().unwrap_or(0)),
        P::MplsStackDepth => put(octets, offset, &[extension.label_stack().len() as u8]),
        P::MplsLabelStack => {
            let labels = extension.label_stack();
            put(octets, offset, &[labels.len() as u8]);
            for (place, label) in (offset + 1..).step_by(3).zip(labels) {
                let [_, label @ ..] = label.to_be_bytes();
                put(octets, place, &label);
            }
        }
        P::TunnelSrcMac => put(octets, offset, &inner.source_mac),
        P::TunnelDstMac => put(octets, offset, &inner.destination_mac),
        P::TunnelSrcHost => put_address(octets, offset, inside::addresses(inner).map(|(source, _)| source)),
        P::TunnelDstHost => {
            put_address(octets, offset, inside::addresses(inner).map(|(_, destination)| destination));
        }
        P::TunnelProto => put(octets, offset, &[inner.protocol]),
        P::TunnelTos => put(octets, offset, &[inner.class_of_service]),
        P::TunnelFlowLabel => number(inner.flow_label),
        P::TunnelSrcPort => put(octets, offset, &inside::ports(inner).0.to_ne_bytes()),
        P::TunnelDstPort => put(octets, offset, &inside::ports(inner).1.to_ne_bytes()),
        P::Vxlan => number(record.layer2_segment_id),
        P::PeerSrcIp
        | P::TcpFlags
        | P::TunnelTcpFlags
        | P::Flows
        | P::TimestampMin
        | P::TimestampMax
        | P::Custom(_) => {}
    }
}

fn read<'a>(
    primitive: Primitive,
    field: &'a [u8],
    interned: &'a Interned,
    agent: Option<IpAddr>,
) -> Value<'a> {
    use Primitive as P;
    let octet = || take::<1>(field)[0];
    let short = || u16::from_ne_bytes(take(field));
    let number = || u32::from_ne_bytes(take(field));
    if let Some(kept) = interned_as(primitive) {
        return match kept {
            Kept::Text => Value::Text(interned.get_text(number())),
            Kept::Part(part) => {
                let number = number();
                Value::Path(interned.get_route(number, part).map(|route| RouteValue { route, number }))
            }
        };
    }
    match primitive {
        P::Tag | P::Tag2 => Value::Number(u64::from_ne_bytes(take(field))),
        P::TimestampStart | P::TimestampEnd | P::TimestampArrival => {
            Value::Time(Some(u64::from_ne_bytes(take(field))))
        }
        P::SrcHostLatitude | P::SrcHostLongitude | P::DstHostLatitude | P::DstHostLongitude => {
            let degrees = f64::from_ne_bytes(take(field));
            Value::Degrees(Some(degrees).filter(|degrees| !degrees.is_nan()))
        }
        P::SrcMac | P::DstMac | P::TunnelSrcMac | P::TunnelDstMac => Value::Mac(take(field)),
        P::Etype => Value::EtherType(short()),
        P::Vlan
        | P::InVlan
        | P::OutVlan
        | P::InCvlan
        | P::SrcPort
        | P::DstPort
        | P::TunnelSrcPort
        | P::TunnelDstPort => Value::Number(short().into()),
        P::DstRoa | P::SrcRoa => Value::Roa(from_roa(octet())),
        P::PeerSrcIp => Value::Address(agent),
        P::PeerDstIp
        | P::SrcHost
        | P::SrcNet
        | P::DstHost
        | P::DstNet
        | P::TunnelSrcHost
        | P::TunnelDstHost => Value::Address(take_address(field)),
        P::Proto | P::TunnelProto => Value::Protocol(octet()),
        P::Cos | P::SrcMask | P::DstMask | P::Tos | P::TunnelTos | P::MplsStackDepth => {
            Value::Number(octet().into())
        }
        P::MplsLabelStack => {
            let (count, labels) = field.split_first().unwrap_or((&0, &[]));
            Value::Labels(labels.as_chunks().0.get(..usize::from(*count)).unwrap_or_default())
        }
        P::SamplingDirection => Value::Direction(match octet() {
            0 => FlowDirection::Ingress,
            _ => FlowDirection::Egress,
        }),
        P::TimestampMin | P::TimestampMax => Value::Time(None),
        P::TcpFlags | P::TunnelTcpFlags => Value::TcpFlags(0),
        P::Flows => Value::Number(0),
        _ => Value::Number(number().into()),
    }
}

fn put(octets: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(field) = octets.get_mut(offset..offset + value.len()) {
        field.copy_from_slice(value);
    }
}

fn take<const N: usize>(field: &[u8]) -> [u8; N] {
    field.first_chunk().copied().unwrap_or([0; N])
}

/// Not a number, where nothing is known.
fn put_degrees(octets: &mut [u8], offset: usize, degrees: Option<f64>) {
    put(octets, offset, &degrees.unwrap_or(f64::NAN).to_ne_bytes());
}

fn put_address(octets: &mut [u8], offset: usize, address: Option<IpAddr>) {
    match address {
        None => {}
        Some(IpAddr::V4(address)) => {
            put(octets, offset, &[4]);
            put(octets, offset + 1, &address.octets());
        }
        Some(IpAddr::V6(address)) => {
            put(octets, offset, &[6]);
            put(octets, offset + 1, &address.octets());
        }
    }
}

fn take_address(field: &[u8]) -> Option<IpAddr> {
    let (version, address) = field.split_first()?;
    match version {
        4 => Some(IpAddr::V4(Ipv4Addr::from(take::<4>(address)))),
        6 => Some(IpAddr::V6(Ipv6Addr::from(take::<16>(address)))),
        _ => None,
    }
}

/// The network of `length` bits that holds `address`: that of no bits if the length is not known.
fn network(address: IpAddr, length: u8) -> Option<IpAddr> {
    Some(IpNet::new(address, length).ok()?.network())
}

/// Other protocols have something else in the place of ports, or ports that pmacct does not show.
fn port(record: &FlowRecord, port: u16) -> u16 {
    if matches!(record.protocol_identifier, TCP | UDP) { port } else { 0 }
}

fn route_part(route: Option<&Arc<BgpRoute>>, primitive: Primitive, interned: &mut Interned) -> u32 {
    match (route, interned_as(primitive)) {
        (Some(route), Some(Kept::Part(part))) => interned.route(route, part),
        _ => NOTHING,
    }
}

fn local_pref(route: Option<&BgpRoute>) -> u32 {
    route.and_then(|route| route.attributes().local_pref).unwrap_or(0)
}

fn multi_exit_disc(route: Option<&BgpRoute>) -> u32 {
    route.and_then(|route| route.attributes().multi_exit_disc).unwrap_or(0)
}

/// 0 is for what was not asked.
fn roa(state: Option<OriginValidation>) -> u8 {
    state.map_or(0, |state| state as u8 + 1)
}

fn from_roa(octet: u8) -> Option<OriginValidation> {
    use OriginValidation as O;
    let states = [O::NotFound, O::Valid, O::Invalid, O::InvalidCoveredByValid, O::InvalidCoveredByNotFound];
    states.into_iter().find(|state| roa(Some(*state)) == octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_all_primitives() {
        let octets: usize = Primitive::ALL.iter().map(|primitive| width(*primitive)).sum();
        let octets = octets + NO_EXTENSION.chosen.len();
        assert!((BIN_OCTETS + octets).div_ceil(8) <= MAX_WORDS, "{octets}");
    }
}
