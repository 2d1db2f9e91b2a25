//! sFlow version 5 as others read it.

mod collectors;
mod golden;
mod parser;
mod tshark;

use std::net::{SocketAddr, UdpSocket};

use pathflow_exporter::sflow::{
    Agent, AgentSettings, AsPathSegment, ExtendedGateway, ExtendedRouter, ExtendedSwitch, FlowSample,
    HeaderProtocol, InterfaceCounters, InterfaceDirection, InterfaceStatus, SampledInterface,
};
use pathflow_exporter::{Transport, Udp, UdpSettings};
use proptest::prelude::*;

use super::support::{NOW, address, receive_all};

/// What is known of a sampled packet, owned.
#[derive(Clone, Debug)]
struct Sample {
    flow: FlowSample<'static>,
    header: Vec<u8>,
    gateway: Option<Gateway>,
}

#[derive(Clone, Debug)]
struct Gateway {
    record: ExtendedGateway<'static>,
    /// Segments: whether it is a set, and its numbers.
    path: Vec<(bool, Vec<u32>)>,
    communities: Vec<u32>,
}

impl Sample {
    /// Gives the sample to an Agent.
    fn export(&self, agent: &mut Agent) {
        let segment = |(is_set, numbers): &'_ (bool, Vec<u32>)| (*is_set, numbers.clone());
        let path: Vec<(bool, Vec<u32>)> =
            self.gateway.iter().flat_map(|gateway| gateway.path.iter().map(segment)).collect();
        let segments: Vec<AsPathSegment<'_>> = path
            .iter()
            .map(
                |(is_set, numbers)| {
                    if *is_set { AsPathSegment::Set(numbers) } else { AsPathSegment::Sequence(numbers) }
                },
            )
            .collect();
        let gateway = self.gateway.as_ref().map(|gateway| ExtendedGateway {
            destination_as_path: &segments,
            communities: &gateway.communities,
            ..gateway.record
        });
        agent.flow_sample(NOW, &FlowSample { header: &self.header, gateway, ..self.flow });
    }
}

fn agent(collector: SocketAddr, settings: AgentSettings) -> Agent {
    let udp = Udp::connect(&UdpSettings::new(collector)).expect("UDP socket");
    Agent::new(settings, Transport::Udp(udp)).expect("settings")
}

fn settings() -> AgentSettings {
    AgentSettings { sub_agent_id: 3, ..AgentSettings::new(address("192.0.2.254")) }
}

/// What an Agent sends over loopback.
fn datagrams(settings: AgentSettings, export: impl FnOnce(&mut Agent)) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut agent = agent(socket.local_addr().unwrap(), settings);
    export(&mut agent);
    agent.close(NOW);
    assert_eq!(agent.account().accepted, agent.account().delivered);
    receive_all(&socket)
}

/// An Ethernet frame with an IPv4 UDP packet, without its end: so many octets on the wire, so many in the sample.
fn frame(source: [u8; 4], source_port: u16, frame_length: u16, captured: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let ip_length = frame_length - 14;
    frame.extend([0x45, 0]);
    frame.extend(ip_length.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(source);
    frame.extend([198, 51, 100, 2]);
    frame.extend(source_port.to_be_bytes());
    frame.extend(443_u16.to_be_bytes());
    frame.extend((ip_length - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(captured, 0x11);
    frame
}

/// A sample with every record; every value differs from every other.
fn full_sample() -> Sample {
    Sample {
        flow: FlowSample {
            source: 7,
            sampling_rate: 1000,
            sample_pool: (5 << 32) + 123_456,
            drops: (1 << 32) + 3,
            input: SampledInterface::Index(7),
            output: SampledInterface::Index(9),
            protocol: HeaderProtocol::Ethernet,
            frame_length: 1250,
            header: &[],
            switch: Some(ExtendedSwitch {
                source_vlan: 301,
                source_priority: 5,
                destination_vlan: 302,
                destination_priority: 6,
            }),
            router: Some(ExtendedRouter {
                next_hop: Some(address("198.51.100.254")),
                source_prefix_length: 24,
                destination_prefix_length: 22,
            }),
            gateway: None,
        },
        header: frame([192, 0, 2, 1], 49_152, 1250, 126),
        gateway: Some(Gateway {
            record: ExtendedGateway {
                next_hop: Some(address("203.0.113.1")),
                router_as: 64_496,
                source_as: 64_500,
                source_peer_as: 64_501,
                local_preference: 150,
                ..ExtendedGateway::default()
            },
            path: vec![(false, vec![64_502, 4_200_000_001]), (true, vec![64_510, 64_511, 64_512])],
            communities: vec![0xfbf0_0064, 0xffff_ff01],
        }),
    }
}

fn counters() -> InterfaceCounters {
    InterfaceCounters {
        index: 9,
        interface_type: 6,
        speed: 100_000_000_000,
        direction: InterfaceDirection::FullDuplex,
        status: InterfaceStatus { is_admin_up: true, is_operational: true },
        in_octets: Some(0x0102_0304_0506_0708),
        in_unicast_packets: Some((7 << 32) + 11),
        in_multicast_packets: Some(12),
        in_broadcast_packets: None,
        in_discards: Some(14),
        in_errors: Some(15),
        in_unknown_protocols: None,
        out_octets: Some(0x1112_1314_1516_1718),
        out_unicast_packets: Some(21),
        out_multicast_packets: Some(22),
        out_broadcast_packets: Some(23),
        out_discards: Some(24),
        out_errors: Some(25),
        is_promiscuous: true,
    }
}

prop_compose! {
    fn any_gateway()(
        next_hop in any::<Option<std::net::IpAddr>>(),
        [router_as, source_as, source_peer_as, local_preference] in any::<[u32; 4]>(),
        path in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u32>(), 1..8)), 0..5),
        communities in prop::collection::vec(any::<u32>(), 0..12),
    ) -> Gateway {
        let record = ExtendedGateway {
            next_hop,
            router_as,
            source_as,
            source_peer_as,
            local_preference,
            ..ExtendedGateway::default()
        };
        Gateway { record, path, communities }
    }
}

fn any_interface() -> impl Strategy<Value = SampledInterface> {
    prop_oneof![
        Just(SampledInterface::Unknown),
        Just(SampledInterface::Internal),
        (1..1_u32 << 24).prop_map(SampledInterface::Index),
        (1..1_u32 << 31).prop_map(SampledInterface::Index),
    ]
}

fn any_index() -> impl Strategy<Value = u32> {
    prop_oneof![1..1_u32 << 24, 1..1_u32 << 31]
}

prop_compose! {
    fn any_switch()([source_vlan, source_priority, destination_vlan, destination_priority] in any::<[u32; 4]>())
        -> ExtendedSwitch {
        ExtendedSwitch { source_vlan, source_priority, destination_vlan, destination_priority }
    }
}

prop_compose! {
    fn any_router()(
        next_hop in any::<Option<std::net::IpAddr>>(),
        [source_prefix_length, destination_prefix_length] in any::<[u32; 2]>(),
    ) -> ExtendedRouter {
        ExtendedRouter { next_hop, source_prefix_length, destination_prefix_length }
    }
}

prop_compose! {
    fn any_sample()(
        source in any_index(),
        sampling_rate in 1..1_u32 << 24,
        (sample_pool, drops) in any::<(u64, u64)>(),
        input in any_interface(),
        output in any_interface(),
        protocol in prop::sample::select(vec![
            HeaderProtocol::Ethernet,
            HeaderProtocol::Ipv4,
            HeaderProtocol::Ipv6,
        ]),
        frame_length in 14..65_536_u32,
        header in prop::collection::vec(any::<u8>(), 1..=132),
        switch in prop::option::of(any_switch()),
        router in prop::option::of(any_router()),
        gateway in prop::option::of(any_gateway()),
    ) -> Sample {
        let header_only: &[u8] = &[];
        let flow = FlowSample {
            source, sampling_rate, sample_pool, drops, input, output, protocol, frame_length, switch, router,
            header: header_only,
            gateway: None,
        };
        Sample { flow, header, gateway }
    }
}

prop_compose! {
    fn any_counters()(
        index in any_index(),
        interface_type in any::<u32>(),
        speed in any::<u64>(),
        direction in prop::sample::select(vec![
            InterfaceDirection::Unknown,
            InterfaceDirection::FullDuplex,
            InterfaceDirection::HalfDuplex,
            InterfaceDirection::In,
            InterfaceDirection::Out,
        ]),
        (is_admin_up, is_operational, is_promiscuous) in any::<(bool, bool, bool)>(),
        values in any::<[Option<u64>; 14]>(),
    ) -> InterfaceCounters {
        InterfaceCounters {
            index,
            interface_type,
            speed,
            direction,
            status: InterfaceStatus { is_admin_up, is_operational },
            in_octets: values[0],
            in_unicast_packets: values[1],
            in_multicast_packets: values[2],
            in_broadcast_packets: values[3],
            in_discards: values[4],
            in_errors: values[5],
            in_unknown_protocols: values[6],
            out_octets: values[7],
            out_unicast_packets: values[8],
            out_multicast_packets: values[9],
            out_broadcast_packets: values[10],
            out_discards: values[11],
            out_errors: values[12],
            is_promiscuous,
        }
    }
}
