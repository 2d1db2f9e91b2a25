//! Filters against tcpdump: the same frames of all captures match the same expressions.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use pathflow::capture::filter::Instruction;
use pathflow::capture::{Filter, FilterError, FilterSet, TableSizes};
use pathflow_common::DropReason;
use pathflow_common::flow::FILTER_RESULTS;

use crate::corpus::{Capture, corpus};
use crate::file::{self, ETHERNET, Packet};
use crate::filter_run::{Beside, KernelFilters, LONGEST, sets};
use crate::frames::{
    CUSTOMER_TAG, ICMP, ICMPV6, IPV4, IPV6, Ipv4, OLD_SERVICE_TAG, SERVICE_TAG, TCP, UDP, ethernet, icmp,
    ipv6, ports, tagged, tcp,
};
use crate::host::{FIRST_BUFFER, Fate, Host, Totals, View};
use crate::kernel_run::{Hook, Kernel};
use crate::say;
use crate::scratch::Scratch;

/// Expressions, each with a frame in the captures that matches it and one that does not.
pub(crate) const EXPRESSIONS: [&str; 66] = [
    "ip",
    "ip6",
    "arp or rarp",
    "not port 22",
    "host 192.0.2.1",
    "src host 192.0.2.1 and dst host 198.51.100.2",
    "host 2001:db8::1",
    "net 10.0.0.0/8",
    "src net 192.168.0.0/16 or dst net 172.16.0.0/12",
    "ip6 net 2001:db8::/32",
    "not (net 10.0.0.0/8 or net 192.168.0.0/16)",
    "port 53",
    "tcp port 80",
    "udp src port 53",
    "dst port 443",
    "portrange 1024-5000",
    "udp and not portrange 0-1023",
    "tcp",
    "udp or sctp",
    "icmp or icmp6",
    "proto 89",
    "ip proto \\gre",
    "ip6 proto 44",
    "esp or ah",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn|tcp-ack",
    "tcp[13] = 2",
    "icmp[icmptype] = icmp-echo",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "icmp6[icmp6type] = 135",
    "ip[6:2] & 0x1fff != 0",
    "ip[6] & 0x20 != 0",
    "ip[0] & 0xf > 5",
    "ip[2:2] > 1000",
    "ip[8] < 5",
    "ip[1] & 0xfc != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "udp[4:2] = 28",
    "ip[(ip[0] & 0xf) * 4] > 0x10",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 40",
    "len - 14 > ip[2:2]",
    "ip[9] * 3 / 2 = 9 or ip[9] % 4 = 2",
    "ether[0] ^ ether[6] = 0",
    "ether[len - 1] = 0",
    "ether[10:4] & 0xffff0000 != 0",
    "ether[13:4] & 0xff != 0",
    "greater 100",
    "less 64",
    "len == 60",
    "ether host 02:00:00:00:00:0a",
    "ether src 02:00:00:00:00:0a and ip",
    "ether broadcast",
    "ether multicast",
    "ip multicast or ip6 multicast",
    "ether proto 0x88cc",
    "ether proto 0x8847 or stp or llc",
    "vlan",
    "not vlan",
    "vlan 10 and port 53",
    "vlan and vlan",
    "vlan 200 and vlan 300 and ip6",
    "vlan and ip and udp",
    "mpls",
    "mpls 100 and host 192.0.2.1",
    "mpls and mpls and port 53",
    "pppoes and ip",
];

fn filters() -> Vec<Filter> {
    EXPRESSIONS
        .map(|expression| Filter::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}")))
        .into()
}

/// Every Ethernet packet of the captures, and of [`encapsulated`]; numbered by their time stamps.
pub(crate) fn packets() -> Vec<Packet> {
    let captured = corpus().captures.iter().flat_map(Capture::ethernet).cloned();
    let mut packets: Vec<Packet> = captured.chain(encapsulated()).collect();
    // tcpdump takes no packet longer than this.
    packets.retain(|packet| packet.octets.len() <= 262_144);
    for (number, packet) in (0..).zip(&mut packets) {
        packet.time = number * 1000;
    }
    packets
}

/// Tags, labels and sessions around packets that the expressions tell apart.
fn encapsulated() -> Vec<Packet> {
    let inner = [
        (IPV4, Ipv4::new(UDP, &ports(5000, 53, 20)).packet()),
        (IPV4, Ipv4::new(TCP, &tcp(22, 0x002, 6)).packet()),
        (IPV4, Ipv4::new(ICMP, &icmp(8, 0)).packet()),
        (IPV6, ipv6(0, UDP, &ports(53, 4000, 20))),
        (IPV6, ipv6(0, TCP, &tcp(22, 0x012, 0))),
        (0x0806, vec![0; 28]),
        (0x0026, vec![0xaa; 38]),
    ];
    let mut frames = Vec::new();
    for (ether_type, packet) in &inner {
        for identifier in [CUSTOMER_TAG, SERVICE_TAG, OLD_SERVICE_TAG] {
            for control in [0, 10, 0x600a, 200] {
                frames.push(tagged(&[(identifier, control)], *ether_type, packet));
                frames.push(tagged(&[(identifier, control), (CUSTOMER_TAG, 300)], *ether_type, packet));
                frames.push(tagged(
                    &[(identifier, control), (SERVICE_TAG, 10), (CUSTOMER_TAG, 5)],
                    *ether_type,
                    packet,
                ));
            }
        }
        for labels in [&[100][..], &[99], &[16, 100], &[100, 17, 18], &[0xf_ffff]] {
            let labelled = [label_stack(labels), packet.clone()].concat();
            frames.push(ethernet(0x8847, &labelled));
            frames.push(ethernet(0x8848, &labelled));
            frames.push(tagged(&[(CUSTOMER_TAG, 10)], 0x8847, &labelled));
        }
        for protocol in [0x0021_u16, 0x0057] {
            let mut session = vec![0x11, 0, 0x12, 0x34];
            session.extend((packet.len() as u16 + 2).to_be_bytes());
            session.extend(protocol.to_be_bytes());
            session.extend(packet);
            frames.push(ethernet(0x8864, &session));
            frames.push(tagged(&[(CUSTOMER_TAG, 10)], 0x8864, &session));
            frames.push(ethernet(0x8863, &session));
        }
    }
    frames.extend(addressed());
    // What is cut anywhere.
    let cut: Vec<Vec<u8>> = frames
        .iter()
        .step_by(7)
        .flat_map(|frame| (0..frame.len()).step_by(3).map(|end| frame[..end].to_vec()))
        .collect();
    let whole = frames.into_iter().map(|octets| (octets.len() as u32, octets));
    let packets = whole.chain(cut.into_iter().map(|octets| (90, octets)));
    packets
        .map(|(wire_length, octets)| Packet { link_type: ETHERNET, octets, wire_length, time: 0 })
        .collect()
}

/// What is in none of the repository's own captures, for the expressions that look for it.
fn addressed() -> [Vec<u8>; 3] {
    let request = [&tcp(1024, 0x018, 0)[..], b"GET / HTTP/1.0"].concat();
    let mut request = Ipv4::new(TCP, &request).frame();
    request[22] = 3;
    request[26..34].copy_from_slice(&[192, 168, 1, 1, 172, 16, 0, 1]);
    request[36..38].copy_from_slice(&80_u16.to_be_bytes());
    let mut answer = Ipv4::new(UDP, &ports(53, 5353, 28)).frame();
    answer[26..34].copy_from_slice(&[10, 1, 1, 1, 224, 0, 0, 251]);
    let mut solicitation = ethernet(IPV6, &ipv6(0, ICMPV6, &icmp(135, 0)));
    solicitation[38..40].copy_from_slice(&[0xff, 0x02]);
    [request, answer, solicitation]
}

fn label_stack(labels: &[u32]) -> Vec<u8> {
    let entry = |(position, label): (usize, &u32)| {
        (label << 12 | u32::from(position + 1 == labels.len()) << 8 | 64).to_be_bytes()
    };
    labels.iter().enumerate().flat_map(entry).collect()
}

/// A bit for each, the first one at the bottom.
pub(crate) fn bits(results: impl IntoIterator<Item = bool>) -> u8 {
    (0..).zip(results).fold(0, |bits, (bit, result)| bits | u8::from(result) << bit)
}

/// Times of the packets that tcpdump chooses, in microseconds.
pub(crate) fn chosen_by_tcpdump(file: &Path, expression: &str) -> BTreeSet<u64> {
    let output = Command::new("tcpdump")
        .args(["-r", "-", "-w", "-", expression])
        .stdin(Stdio::from(File::open(file).expect("the file of all packets")))
        .output()
        .expect("this test needs tcpdump");
    assert!(output.status.success(), "{expression}: {}", String::from_utf8_lossy(&output.stderr));
    let contents = file::read(&output.stdout);
    assert_eq!(contents.fault, None, "{expression}");
    contents.packets.iter().map(|packet| packet.time / 1000).collect()
}

#[test]
fn expressions_choose_the_packets_that_tcpdump_chooses() {
    let packets = packets();
    let scratch = Scratch::new("filter");
    let file = scratch.file("all.pcap");
    file::write(&file, &packets).expect("a file for tcpdump");
    let (mut in_kernel, mut differences) = (0_u64, Vec::new());
    let sets = sets(&filters());
    let mut kernel = KernelFilters::load(&sets);
    for (position, (expressions, set)) in EXPRESSIONS.chunks(FILTER_RESULTS).zip(&sets).enumerate() {
        let chosen: Vec<_> =
            expressions.iter().map(|expression| chosen_by_tcpdump(&file, expression)).collect();
        for (expression, chosen) in expressions.iter().zip(&chosen) {
            let count = chosen.len();
            assert!(count != 0 && count < packets.len(), "{expression}: {count} packets");
        }
        for (number, packet) in (0..).zip(&packets) {
            let expected = bits(chosen.iter().map(|chosen| chosen.contains(&number)));
            let here = set.results(&packet.octets, packet.wire_length);
            let short = packet.octets.len() <= LONGEST;
            let of_kernel = if short {
                in_kernel += 1;
                kernel.run(position, &packet.octets, packet.wire_length, Beside::Nothing)
            } else {
                here
            };
            if [here, of_kernel] != [Some(expected); 2] {
                differences.push(format!(
                    "{expressions:?}: tcpdump {expected:#b}, here {here:?}, kernel {of_kernel:?}: {packet:02x?}"
                ));
            }
        }
    }
    let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
    say(&format!(
        "filter: {} expressions over {} packets as tcpdump has them, {in_kernel} times in the kernel",
        EXPRESSIONS.len(),
        packets.len()
    ));
}

/// A tag that the kernel holds beside the frame is to a filter what it was in the frame.
#[test]
fn a_tag_beside_the_frame_is_read_where_it_was() {
    let tagged: Vec<Packet> = packets()
        .into_iter()
        .filter(|packet| (18..=LONGEST).contains(&packet.octets.len()) && tag_of(&packet.octets).is_some())
        .collect();
    let mut matches = 0;
    let sets = sets(&filters());
    let mut kernel = KernelFilters::load(&sets);
    for (position, (expressions, set)) in EXPRESSIONS.chunks(FILTER_RESULTS).zip(&sets).enumerate() {
        for Packet { octets, wire_length, .. } in &tagged {
            let expected = set.results(octets, *wire_length);
            let rest = [&octets[..12], &octets[16..]].concat();
            let (identifier, control) = tag_of(octets).expect("a tag");
            let beside = kernel.run(position, &rest, *wire_length, Beside::Tag(identifier, control));
            assert_eq!(beside, expected, "{expressions:?}: {octets:02x?}");
            matches += expected.map_or(0, u8::count_ones);
        }
    }
    assert!(tagged.len() > 100 && matches > 1000, "{matches} matches of {} packets", tagged.len());
}

fn tag_of(octets: &[u8]) -> Option<(u16, u16)> {
    let half = |at: usize| Some(u16::from_be_bytes([*octets.get(at)?, *octets.get(at + 1)?]));
    let identifier = half(12)?;
    [CUSTOMER_TAG, SERVICE_TAG, OLD_SERVICE_TAG].contains(&identifier).then_some((identifier, half(14)?))
}

/// The whole kernel program with a filter: what the filter does not want is counted, as such and with the
/// octets of the frame, and in no flow.
#[test]
fn what_the_filter_does_not_want_is_counted_as_filtered() {
    const SIZES: TableSizes = TableSizes { ipv4_slots: 1 << 14, ipv6_slots: 1 << 14, spill_slots: 1 << 14 };
    let packets: Vec<Packet> = packets()
        .into_iter()
        .filter(|packet| Hook::Xdp.takes(&packet.octets) && packet.octets.len() <= FIRST_BUFFER)
        .collect();
    for expression in ["not port 22", "vlan and ip", "ip[6:2] & 0x1fff != 0", "ether[len - 1] = 0", "less 64"]
    {
        let filter = Filter::compile(expression).expect("an expression");
        let mut kernel =
            Kernel::load_with(SIZES, Hook::Xdp, View::Outer, FilterSet::new(Some(filter.clone())));
        let (mut octets, mut unwanted) = (0, 0);
        for packet in &packets {
            // The kernel's frame is as long as what was captured of it.
            let length = packet.octets.len();
            kernel.run(&packet.octets).expect("a frame that the kernel takes");
            if !filter.matches(&packet.octets, length as u32) {
                unwanted += 1;
                octets += length as u64;
            }
        }
        let totals = kernel.drain().totals;
        let filtered = totals.dropped_for(DropReason::Filtered);
        assert_eq!((filtered.packets, filtered.octets), (unwanted, octets), "{expression}");
        let seen: u64 = totals.seen.values().map(|count| count.packets).sum();
        let elsewhere: u64 = DropReason::ALL.map(|reason| totals.dropped_for(reason).packets).iter().sum();
        assert_eq!(seen, packets.len() as u64, "{expression}");
        assert_eq!(totals.in_flows().packets + elsewhere, seen, "{expression}");
        assert!(unwanted > 0 && unwanted < seen, "{expression}: {unwanted} of {seen}");
    }
}

/// The whole kernel program with eight filters, at every hook: the keys are those of the parser on the host, with
/// the results of the filters.
fn keys_have_the_results_of_eight_filters(hook: Hook, view: View) {
    const SIZES: TableSizes = TableSizes { ipv4_slots: 1 << 14, ipv6_slots: 1 << 14, spill_slots: 1 << 14 };
    let packets: Vec<Packet> = packets()
        .into_iter()
        .filter(|packet| hook.takes(&packet.octets) && packet.octets.len() <= FIRST_BUFFER)
        .collect();
    let (mut loaded, mut with_results) = (0, 0);
    for set in sets(&filters()) {
        let mut kernel = Kernel::load_with(SIZES, hook, view, set.clone());
        let host = Host::new(view);
        let mut totals = Totals::default();
        for packet in &packets {
            kernel.run(&packet.octets).expect("a frame that the kernel takes");
            let results =
                set.results(&packet.octets, packet.octets.len() as u32).expect("nothing is required");
            let mut fate = host.fate(&hook.view(&packet.octets));
            if let Fate::Flow { key, .. } = &mut fate {
                key.0[0] |= u64::from(results) << 40;
                with_results += u64::from(results != 0);
            }
            totals.add(fate, 0);
        }
        assert_eq!(kernel.drain().totals.differences(&totals), Vec::<String>::new());
        loaded += 1;
    }
    let runs = loaded * packets.len() as u64;
    assert!(with_results > runs / 4, "{with_results}");
    say(&format!("filters ({hook:?}, {view:?}): {loaded} sets, {runs} packets, {with_results} with results"));
}

#[test]
fn keys_have_the_results_of_eight_filters_in_xdp() {
    keys_have_the_results_of_eight_filters(Hook::Xdp, View::Outer);
}

#[test]
fn keys_have_the_results_of_eight_filters_in_xdp_inside_tunnels() {
    keys_have_the_results_of_eight_filters(Hook::Xdp, View::Inner);
}

#[test]
fn keys_have_the_results_of_eight_filters_in_tc_ingress() {
    keys_have_the_results_of_eight_filters(Hook::TcIngress, View::Outer);
}

#[test]
fn keys_have_the_results_of_eight_filters_in_tc_egress() {
    keys_have_the_results_of_eight_filters(Hook::TcEgress, View::Inner);
}

#[test]
fn what_cannot_be_a_filter_is_refused_in_words() {
    for (expression, words) in [
        ("not prt 22", "can't parse filter expression: syntax error"),
        ("port nosuchservice", "unknown port 'nosuchservice'"),
        ("net 10.0.0.1/8", "non-network bits set in \"10.0.0.1/8\""),
        ("ip[0:3] = 1", "data size must be 1, 2, or 4"),
        ("inbound", "it asks for what is not in a frame"),
        ("ip6 protochain 6", "it needs a loop, as protochain does, which the kernel program cannot run"),
    ] {
        let error = Filter::compile(expression).expect_err(expression).to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{expression}: {error}");
    }
    // A load, a thousand times; then, a return.
    let mut program = vec![Instruction { code: 0x28, jt: 0, jf: 0, k: 12 }; 1000];
    program.push(Instruction { code: 0x06, jt: 0, jf: 0, k: 1 });
    let error = Filter::new(&program).expect_err("too long");
    assert!(matches!(error, FilterError::TooLong { instructions: 4097.., limit: 4095 }), "{error}");
}
