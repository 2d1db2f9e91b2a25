//! From sampled headers to flow samples: what a data source has sampled, and what is known of a packet.

use std::collections::BTreeMap;

use pathflow_exporter::FlowDirection;
use pathflow_exporter::sflow::{
    ExtendedGateway, ExtendedSwitch, FlowSample, HeaderProtocol, SampledInterface,
};

use super::routing::PacketRoute;
use crate::interfaces::{InterfaceNames, KernelRoute};
use crate::metering::observation::ObservationPoint;
use crate::metering::samples::SampledHeader;

/// `EtherType`s of VLAN tags (IEEE 802.1Q).
const TAG_PROTOCOLS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];

/// Pool and drops of each data source. An interface is one, with both directions and, one after the other, several
/// observation points: a data source has the sum of what was counted at its points.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// By number in records.
    totals: BTreeMap<u32, Totals>,
    /// What was heard of each observation point last.
    points: BTreeMap<u16, Totals>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    pool: u64,
    drops: u64,
}

impl Sources {
    /// The flow sample of a packet that was sampled at `point`, goes by `route` and belongs to `gateway`.
    pub(super) fn flow_sample<'a>(
        &mut self,
        sample: &'a SampledHeader,
        point: &ObservationPoint,
        route: &PacketRoute,
        gateway: Option<ExtendedGateway<'a>>,
        names: &InterfaceNames,
    ) -> FlowSample<'a> {
        let number = names.number(point.interface);
        let last = self.points.entry(sample.observation_point).or_default();
        let source = self.totals.entry(number).or_default();
        source.pool += sample.pool.saturating_sub(last.pool);
        source.drops += sample.drops.saturating_sub(last.drops);
        *last = Totals { pool: sample.pool, drops: sample.drops };

        let header = sample.header.as_slice();
        let tag = if point.has_link_header { tag(header) } else { None };
        let interface = SampledInterface::Index(number);
        let (input, output) = match point.direction {
            FlowDirection::Ingress => (interface, output(route, names)),
            FlowDirection::Egress => (input(sample, names), interface),
        };
        FlowSample {
            source: number,
            sampling_rate: point.header_sampling_interval,
            sample_pool: source.pool,
            drops: source.drops,
            input,
            output,
            protocol: protocol(header, point.has_link_header),
            frame_length: sample.frame_length,
            header,
            switch: tag.map(|tag| switch(tag, point.direction)),
            router: route.extended_router(),
            gateway,
        }
    }
}

/// Where a packet goes that comes in.
fn output(route: &PacketRoute, names: &InterfaceNames) -> SampledInterface {
    match route.way {
        Some(KernelRoute { is_local: true, .. }) => SampledInterface::Internal,
        Some(KernelRoute { egress_interface: Some(index), .. }) => known(names.number(index)),
        _ => SampledInterface::Unknown,
    }
}

/// Where a packet came in that goes out.
fn input(sample: &SampledHeader, names: &InterfaceNames) -> SampledInterface {
    match sample.ingress_interface {
        0 => SampledInterface::Internal,
        index => known(names.number(index)),
    }
}

/// 0 is what stands for "not known" on the wire.
const fn known(number: u32) -> SampledInterface {
    if number == 0 { SampledInterface::Unknown } else { SampledInterface::Index(number) }
}

fn protocol(header: &[u8], has_link_header: bool) -> HeaderProtocol {
    match header.first() {
        _ if has_link_header => HeaderProtocol::Ethernet,
        Some(first) if first >> 4 == 6 => HeaderProtocol::Ipv6,
        _ => HeaderProtocol::Ipv4,
    }
}

/// The tag control information of the outer VLAN tag.
fn tag(header: &[u8]) -> Option<u16> {
    let (protocol, tag) = (header.get(12..14)?, header.get(14..16)?);
    let is_tag = TAG_PROTOCOLS.iter().any(|known| known == protocol);
    if is_tag { tag.try_into().ok().map(u16::from_be_bytes) } else { None }
}

/// Of the other direction nothing is known.
fn switch(tag: u16, direction: FlowDirection) -> ExtendedSwitch {
    let (vlan, priority) = (u32::from(tag & 0x0fff), u32::from(tag >> 13));
    match direction {
        FlowDirection::Ingress => {
            ExtendedSwitch { source_vlan: vlan, source_priority: priority, ..ExtendedSwitch::default() }
        }
        FlowDirection::Egress => ExtendedSwitch {
            destination_vlan: vlan,
            destination_priority: priority,
            ..ExtendedSwitch::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use pathflow_exporter::SelectorAlgorithm;

    use super::*;
    use crate::metering::samples::HeaderOctets;

    fn point(direction: FlowDirection) -> ObservationPoint {
        ObservationPoint {
            interface: 4,
            name: "eth0".to_owned(),
            direction,
            sampling_interval: 1,
            algorithm: SelectorAlgorithm::Random,
            header_sampling_interval: 1000,
            has_link_header: true,
        }
    }

    fn sample(observation_point: u16, pool: u64, drops: u64, header: &[u8]) -> SampledHeader {
        SampledHeader {
            observation_point,
            frame_length: 100,
            ingress_interface: 0,
            header: HeaderOctets::new(header),
            pool,
            drops,
        }
    }

    #[test]
    fn a_data_source_has_the_sum_of_its_points() {
        let mut sources = Sources::default();
        let mut enter = |number, pool, drops, direction| {
            let sample = sample(number, pool, drops, &[0; 60]);
            let (point, route) = (point(direction), PacketRoute::default());
            let flow_sample = sources.flow_sample(&sample, &point, &route, None, &InterfaceNames::default());
            assert_eq!(flow_sample.source, 4);
            (flow_sample.sample_pool, flow_sample.drops)
        };
        assert_eq!(enter(1, 100, 1, FlowDirection::Ingress), (100, 1));
        assert_eq!(enter(2, 50, 0, FlowDirection::Egress), (150, 1));
        assert_eq!(enter(1, 130, 4, FlowDirection::Ingress), (180, 4));
        // Another point of the same interface, after a change of the interval.
        assert_eq!(enter(3, 10, 0, FlowDirection::Ingress), (190, 4));
    }

    #[test]
    fn the_other_interface_is_where_the_packet_goes_or_came_from() {
        let interfaces = |direction, ingress_interface, way| {
            let sample = SampledHeader { ingress_interface, ..sample(1, 1, 0, &[0; 60]) };
            let route = PacketRoute { way, ..PacketRoute::default() };
            let (mut sources, names) = (Sources::default(), InterfaceNames::default());
            let flow_sample = sources.flow_sample(&sample, &point(direction), &route, None, &names);
            (flow_sample.input, flow_sample.output)
        };
        let (own, internal) = (SampledInterface::Index(4), SampledInterface::Internal);
        let by = |index| Some(KernelRoute { egress_interface: Some(index), ..KernelRoute::default() });
        let here = Some(KernelRoute { is_local: true, ..KernelRoute::default() });
        let ingress = |way| interfaces(FlowDirection::Ingress, 0, way);
        assert_eq!(ingress(by(9)), (own, SampledInterface::Index(9)));
        assert_eq!(ingress(here), (own, internal));
        // A route that leads nowhere, and none.
        assert_eq!(ingress(Some(KernelRoute::default())), (own, SampledInterface::Unknown));
        assert_eq!(ingress(None), (own, SampledInterface::Unknown));
        assert_eq!(interfaces(FlowDirection::Egress, 9, None), (SampledInterface::Index(9), own));
        assert_eq!(interfaces(FlowDirection::Egress, 0, None), (internal, own));
    }

    #[test]
    fn vlan_and_protocol_are_those_of_the_header() {
        let mut sources = Sources::default();
        let mut tagged = [0; 60];
        tagged[12..16].copy_from_slice(&[0x81, 0x00, 0xa1, 0x2d]);
        let tagged = sample(1, 1, 0, &tagged);
        let (route, names) = (PacketRoute::default(), InterfaceNames::default());
        let flow_sample = sources.flow_sample(&tagged, &point(FlowDirection::Ingress), &route, None, &names);
        let switch = flow_sample.switch.unwrap();
        assert_eq!((switch.source_vlan, switch.source_priority, switch.destination_vlan), (301, 5, 0));
        assert_eq!((flow_sample.protocol, flow_sample.sampling_rate), (HeaderProtocol::Ethernet, 1000));
        for (first, protocol) in [(0x45, HeaderProtocol::Ipv4), (0x60, HeaderProtocol::Ipv6)] {
            let bare = sample(1, 1, 0, &[first; 40]);
            let point = ObservationPoint { has_link_header: false, ..point(FlowDirection::Ingress) };
            let flow_sample = sources.flow_sample(&bare, &point, &route, None, &names);
            assert_eq!((flow_sample.protocol, flow_sample.switch), (protocol, None));
        }
    }
}
