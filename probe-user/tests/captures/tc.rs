//! What the tc programs know of a packet beside its octets: segments, the way it goes, no Ethernet header.

use pathflow::capture::TableSizes;
use pathflow_common::flow::{Addresses, Key, WideKey};
use pathflow_common::layout::{Count, INTERFACE_FLAG_LOCALLY_ORIGINATED, INTERFACE_FLAG_NO_LINK_HEADER};

use crate::frames::{
    CUSTOMER_TAG, GRE, HOP_BY_HOP, IPV4, IPV6, Ipv4, TCP, UDP, chain, ethernet, gre, ipv6, options, ports,
    tagged, tcp,
};
use crate::host::{FlowTotal, View};
use crate::kernel_run::{Hook, Kernel};

const SIZES: TableSizes = TableSizes { ipv4_slots: 64, ipv6_slots: 64, spill_slots: 64 };
/// The interface that the kernel makes the frames arrive at.
const LOOPBACK: u32 = 1;
const POINT: u16 = 5;

/// A `struct __sk_buff` with fields that a test run takes; they are where `linux/bpf.h` has them.
#[derive(Default)]
struct Context {
    ingress_interface: u32,
    segments: u32,
    segment_size: u32,
}

impl Context {
    fn octets(&self) -> Vec<u8> {
        let mut octets = vec![0; 192];
        for (place, value) in [(36, self.ingress_interface), (164, self.segments), (176, self.segment_size)] {
            octets[place..place + 4].copy_from_slice(&value.to_ne_bytes());
        }
        octets
    }
}

/// What the program makes of one frame: the one flow, and everything seen.
fn run(kernel: &mut Kernel, frame: &[u8], context: &Context) -> (Option<FlowTotal>, Count) {
    kernel.run_with(frame, Some(&context.octets())).expect("a context that the kernel takes");
    let totals = kernel.drain().totals;
    assert!(totals.flows.len() <= 1, "{totals:?}");
    (totals.flows.values().next().copied(), totals.seen.values().next().copied().unwrap_or_default())
}

/// Each segment is a packet and has the headers for itself, as it will have on the wire.
#[test]
fn a_packet_of_several_segments_counts_as_what_it_is_on_the_wire() {
    const DATA: usize = 2500;
    const SIZE: u32 = 1000;
    let ipv4 = Ipv4 { options: &[1; 8], ..Ipv4::new(TCP, &tcp(1, 0x010, DATA)) }.packet();
    let (first, octets) = chain(&[options(HOP_BY_HOP, 0)], TCP, &tcp(2, 0x010, DATA));
    let mut tcp_options = tcp(3, 0x010, DATA);
    tcp_options[12] = 8 << 4;
    for (frame, headers, data) in [
        (ethernet(IPV4, &ipv4), 28 + 20, DATA),
        (tagged(&[(CUSTOMER_TAG, 5)], IPV4, &ipv4), 28 + 20, DATA),
        (ethernet(IPV6, &ipv6(0, first, &octets)), 48 + 20, DATA),
        // 12 of the octets are options, and the last segment is shorter by them.
        (ethernet(IPV6, &ipv6(0, TCP, &tcp_options)), 40 + 32, DATA - 12),
        (Ipv4::new(UDP, &ports(4, 443, 8 + DATA)).frame(), 20 + 8, DATA),
    ] {
        for hook in [Hook::TcIngress, Hook::TcEgress] {
            let mut kernel = Kernel::load(SIZES, hook, View::Outer);
            // With the number of segments, and without as virtual machines have it.
            for segments in [3, 0] {
                let context = Context { segments, segment_size: SIZE, ..Context::default() };
                let (flow, seen) = run(&mut kernel, &frame, &context);
                let flow = flow.expect("a flow");
                assert_eq!((flow.packets, flow.octets), (3, (3 * headers + data) as u64));
                assert_eq!(seen, Count { packets: flow.packets, octets: flow.octets });
            }
            let (flow, _) = run(&mut kernel, &frame, &Context::default());
            let flow = flow.expect("a flow");
            assert_eq!((flow.packets, flow.octets), (1, (headers + data) as u64));
        }
    }
}

#[test]
fn segments_in_no_flow_are_counted_as_well() {
    let mut kernel = Kernel::load(SIZES, Hook::TcIngress, View::Outer);
    let context = Context { segments: 4, segment_size: 700, ..Context::default() };
    let frame = ethernet(0x88cc, &[0; 2700]);
    let (flow, seen) = run(&mut kernel, &frame, &context);
    assert_eq!((flow, seen), (None, Count { packets: 4, octets: frame.len() as u64 }));
}

#[test]
fn what_was_forwarded_is_not_counted_as_sent_by_this_host() {
    let mut kernel = Kernel::load(SIZES, Hook::TcEgress, View::Outer);
    let frame = Ipv4::new(UDP, &ports(1, 53, 20)).frame();
    let forwarded = Context { ingress_interface: 7, ..Context::default() };
    kernel.register(LOOPBACK, POINT, INTERFACE_FLAG_LOCALLY_ORIGINATED);
    assert_eq!(run(&mut kernel, &frame, &forwarded), (None, Count::default()));
    assert_eq!(run(&mut kernel, &frame, &Context::default()).1, Count { packets: 1, octets: 40 });
    kernel.register(LOOPBACK, POINT, 0);
    assert_eq!(run(&mut kernel, &frame, &forwarded).1, Count { packets: 1, octets: 40 });
}

/// The kernel takes the two octets at offset 12 for an `EtherType`, so here they are part of an address.
#[test]
fn packets_without_an_ethernet_header() {
    let mut ipv4 = Ipv4::new(UDP, &ports(1, 53, 20)).packet();
    ipv4[12..14].copy_from_slice(&IPV4.to_be_bytes());
    let mut ipv6 = ipv6(0, TCP, &tcp(2, 0x002, 0));
    ipv6[12..14].copy_from_slice(&IPV6.to_be_bytes());
    for hook in [Hook::TcIngress, Hook::TcEgress] {
        let mut kernel = Kernel::load(SIZES, hook, View::Outer);
        kernel.register(LOOPBACK, POINT, INTERFACE_FLAG_NO_LINK_HEADER);
        for (packet, ports) in [(&ipv4, [0, 1, 0, 53]), (&ipv6, [0, 2, 1, 187])] {
            kernel.run(packet).expect("a packet that the kernel takes");
            let flows = kernel.drain().totals.flows;
            let [(words, total)] = Vec::from_iter(flows)[..] else { panic!("one packet, one flow") };
            let key: WideKey = Key(words);
            assert_eq!((key.fields().observation_point, key.fields().ports), (POINT, ports));
            assert_eq!((total.packets, total.octets), (1, packet.len() as u64));
            match key.addresses() {
                Addresses::Ipv4(source, _) => assert_eq!(source[..], ipv4[12..16]),
                Addresses::Ipv6(source, _) => assert_eq!(source[..], ipv6[8..24]),
            }
        }
    }
}

/// The segments of a packet in a tunnel are those of the packet inside.
#[test]
fn segments_inside_a_tunnel() {
    const DATA: usize = 2500;
    let inside = Ipv4::new(TCP, &tcp(1, 0x010, DATA)).packet();
    let frame = Ipv4::new(GRE, &gre(0, IPV4, &inside)).frame();
    let context = Context { segments: 3, segment_size: 1000, ..Context::default() };
    let mut kernel = Kernel::load(SIZES, Hook::TcIngress, View::Inner);
    let flow = run(&mut kernel, &frame, &context).0.expect("a flow");
    assert_eq!((flow.packets, flow.octets), (3, (3 * 40 + DATA) as u64));
}
