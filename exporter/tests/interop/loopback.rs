//! The UDP transport against the kernel: errors, path MTU, templates after an outage.

use std::net::UdpSocket;
use std::num::NonZeroU8;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pathflow_exporter::{
    ExportEvent, ExportSettings, ExportTime, ExportingProcess, FlowRecord, Format, LossReason, SendErrorKind,
    Tally, Transport, Udp, UdpError, UdpSettings,
};
use rustix::net::{AddressFamily, RecvFlags, SocketType, eth, recv, socket};

use super::decode::{Decoder, Fields};
use super::expected::expected;
use super::support::{NOW, address, flows, output, program, receive_all, udp_process, wait_until_closed};

fn later(milliseconds: u64) -> ExportTime {
    ExportTime {
        unix_milliseconds: NOW.unix_milliseconds + milliseconds,
        monotonic: NOW.monotonic + Duration::from_millis(milliseconds),
    }
}

#[test]
fn full_messages_fill_the_path_mtu_and_no_more() {
    for (local, overhead) in [("127.0.0.1:0", 28), ("[::1]:0", 48)] {
        let socket = UdpSocket::bind(local).unwrap();
        let settings = ExportSettings::default();
        let mut process = udp_process(&settings, socket.local_addr().unwrap());
        let records: Vec<FlowRecord> = flows().into_iter().cycle().take(100).collect();
        process.export(NOW, &records);
        process.close(NOW);
        let datagrams = receive_all(&socket);
        let budget = 1500 - overhead;
        assert_eq!(process.message_budget(), budget);
        let (last, full) = datagrams.split_last().unwrap();
        assert!(full.iter().all(|datagram| (budget - 260..=budget).contains(&datagram.len())));
        assert!(last.len() <= budget);
        let mut decoder = Decoder::default();
        let seen: Vec<Fields> =
            datagrams.iter().flat_map(|datagram| decoder.decode(datagram).records).collect();
        let sent: Vec<Fields> = records.iter().map(|record| expected(record, settings.format)).collect();
        assert_eq!(seen, sent);
    }
}

#[test]
fn closed_port_is_noticed_and_the_first_message_after_it_opens_has_templates() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let socket = UdpSocket::bind(local).unwrap();
        let collector = socket.local_addr().unwrap();
        let mut process = udp_process(&ExportSettings::default(), collector);
        let [first, second, third, fourth, ..] = &flows()[..] else { panic!("flows") };
        let send = |process: &mut pathflow_exporter::ExportingProcess, now, record: &FlowRecord| {
            process.export(now, std::slice::from_ref(record));
            process.flush(now);
            assert!(process.account().is_balanced());
        };

        send(&mut process, NOW, first);
        assert_eq!(receive_all(&socket).len(), 1);
        drop(socket);
        wait_until_closed("udp", collector.port());

        send(&mut process, later(100), second);
        assert_eq!(process.account().in_flight, Tally::from(second));
        send(&mut process, later(200), third);
        assert_eq!(process.account().lost(LossReason::CollectorRefused), Tally::from(second));
        assert!(matches!(process.next_event(), Some(ExportEvent::Refused { .. })));
        assert_eq!(process.counts().send_errors(SendErrorKind::Refused), 1);
        process.settle(later(300));
        assert_eq!(
            process.account().lost(LossReason::CollectorRefused),
            Tally::of(&[second.clone(), third.clone()])
        );
        assert!(process.next_event().is_none(), "one event for one outage");

        let socket = UdpSocket::bind(collector).unwrap();
        send(&mut process, later(400), fourth);
        let datagrams = receive_all(&socket);
        let decoded = Decoder::default().decode(&datagrams[0]);
        assert_eq!(decoded.template_records, 2);
        assert_eq!(decoded.records, [expected(fourth, ExportSettings::default().format)]);
        assert_eq!(decoded.sequence_number, 3, "the two lost records show as a gap");

        send(&mut process, later(5000), first);
        assert!(matches!(process.next_event(), Some(ExportEvent::Recovered)));
        send(&mut process, later(5100), first);
        assert!(receive_all(&socket)[1].len() < 140, "templates are no longer sent");
        process.close(later(5200));
        assert_eq!(process.account().in_flight, Tally::ZERO);
        let lost = Tally::of(&[second.clone(), third.clone()]);
        assert_eq!(process.account().total_lost(), lost);
        assert_eq!(process.account().delivered, process.account().accepted - lost);
    }
}

#[test]
fn templates_are_sent_by_tick_without_data() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut process = udp_process(&ExportSettings::default(), socket.local_addr().unwrap());
    for seconds in 0..130 {
        process.tick(later(seconds * 1000));
    }
    let datagrams = receive_all(&socket);
    assert_eq!(datagrams.len(), 3, "at 0, 60 and 120 s");
    for datagram in datagrams {
        let decoded = Decoder::default().decode(&datagram);
        assert_eq!((decoded.template_records, decoded.records.len(), decoded.sequence_number), (2, 0, 0));
    }
}

#[test]
fn errors_of_set_up_name_what_is_wrong() {
    let mut settings = UdpSettings::new("127.0.0.1:4739".parse().unwrap());
    settings.source_address = Some(address("::1"));
    let error = Udp::connect(&settings).unwrap_err();
    assert!(matches!(error, UdpError::FamilyMismatch { .. }));
    assert_eq!(
        error.to_string(),
        "source address ::1 and collector 127.0.0.1:4739 are of different address families"
    );
    settings.source_address = None;
    settings.dscp = 64;
    assert_eq!(Udp::connect(&settings).unwrap_err().to_string(), "DSCP 64 is over the maximum of 63");
    settings.dscp = 0;
    // TEST-NET-1 is on no interface.
    settings.source_address = Some(address("192.0.2.99"));
    let error = Udp::connect(&settings).unwrap_err();
    assert!(matches!(error, UdpError::Bind { .. }), "{error}");
}

#[test]
fn source_address_is_used() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut settings = UdpSettings::new(socket.local_addr().unwrap());
    settings.source_address = Some(address("127.0.0.77"));
    let udp = Udp::connect(&settings).unwrap();
    let transport = pathflow_exporter::Transport::Udp(udp);
    let mut process =
        pathflow_exporter::ExportingProcess::new(&ExportSettings::default(), transport).unwrap();
    process.tick(NOW);
    let (_, from) = socket.recv_from(&mut [0; 2000]).unwrap();
    assert_eq!(from.ip(), address("127.0.0.77"));
}

/// Set in the process that runs in a network namespace of its own.
const INSIDE: &str = "PATHFLOW_TEST_INSIDE";

/// Runs itself once more in a network namespace of its own, where it may change the MTU of loopback.
#[test]
fn smaller_path_mtu_loses_nothing() {
    in_a_namespace("loopback::smaller_path_mtu_loses_nothing", smaller_path_mtu_inside_a_namespace);
}

/// Runs `inside` where the test with this name runs once more.
fn in_a_namespace(name: &str, inside: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let test = std::env::current_exe().unwrap();
    let mut unshare = program("unshare", "util-linux");
    unshare.args(["--map-root-user", "--net"]).arg(test).env(INSIDE, "1").args(["--exact", name]);
    let text = output(&mut unshare);
    assert!(text.contains("1 passed"), "{text}");
}

fn smaller_path_mtu_inside_a_namespace() {
    let set_mtu = |mtu: &str| {
        output(program("ip", "iproute2").args(["link", "set", "lo", "up", "mtu", mtu]));
    };
    for (local, overhead) in [("127.0.0.1:0", 28), ("[::1]:0", 48)] {
        set_mtu("1500");
        let socket = UdpSocket::bind(local).unwrap();
        let mut process = udp_process(&ExportSettings::default(), socket.local_addr().unwrap());
        let records: Vec<FlowRecord> = flows().into_iter().cycle().take(100).collect();
        process.export(NOW, &records[..50]);
        set_mtu("1300");
        process.export(NOW, &records[50..]);
        process.close(NOW);

        assert_eq!(process.account().delivered, Tally::of(&records));
        assert_eq!(process.counts().send_errors(SendErrorKind::TooBig), 1);
        let event = process.next_event();
        assert!(matches!(event, Some(ExportEvent::PathMtuChanged { from: 1500, to: 1300 })), "{event:?}");
        assert_eq!(process.message_budget(), 1300 - overhead);
        let mut decoder = Decoder::default();
        let decoded: Vec<_> = receive_all(&socket).iter().map(|datagram| decoder.decode(datagram)).collect();
        let mut count = 0;
        for message in &decoded {
            assert_eq!(message.sequence_number as usize, count);
            count += message.records.len();
        }
        assert_eq!(count, records.len());

        set_mtu("1500");
        process.tick(later(60_000));
        assert_eq!(process.message_budget(), 1500 - overhead, "a larger path MTU is noticed in time");
    }
}

/// A packet socket sees the IP headers.
#[test]
fn dscp_and_ttl_are_on_the_wire() {
    in_a_namespace("loopback::dscp_and_ttl_are_on_the_wire", dscp_and_ttl_inside_a_namespace);
}

fn dscp_and_ttl_inside_a_namespace() {
    output(program("ip", "iproute2").args(["link", "set", "lo", "up"]));
    let wire = socket(AddressFamily::PACKET, SocketType::DGRAM, Some(eth::ALL)).unwrap();
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let collector = UdpSocket::bind(local).unwrap();
        // 46 is Expedited Forwarding; without settings Linux sends 64 for the TTL.
        for (dscp, ttl, seen_ttl) in [(46, Some(7), 7), (63, Some(255), 255), (0, None, 64)] {
            let mut settings = UdpSettings::new(collector.local_addr().unwrap());
            settings.dscp = dscp;
            settings.ttl = ttl.map(|ttl| NonZeroU8::new(ttl).unwrap());
            let transport = pathflow_exporter::Transport::Udp(Udp::connect(&settings).unwrap());
            let mut process =
                pathflow_exporter::ExportingProcess::new(&ExportSettings::default(), transport).unwrap();
            process.tick(NOW);
            assert_eq!(receive_all(&collector).len(), 1);
            let seen = ip_headers(&wire);
            // Loopback shows a packet as it leaves and as it comes.
            assert_eq!(seen, [(dscp << 2, seen_ttl); 2], "{local} {dscp} {ttl:?}");
        }
    }
}

/// TOS or traffic class octet, and TTL or Hop Limit, of all UDP packets that wait in a packet socket.
fn ip_headers(wire: &OwnedFd) -> Vec<(u8, u8)> {
    let mut packet = [0; 2000];
    let mut headers = Vec::new();
    while recv(wire, &mut packet, RecvFlags::DONTWAIT).is_ok() {
        match (packet[0] >> 4, packet[9], packet[6]) {
            (4, 17, _) => headers.push((packet[1], packet[8])),
            (6, _, 17) => headers.push((packet[0] << 4 | packet[1] >> 4, packet[7])),
            _ => {}
        }
    }
    headers
}

/// Exports over loopback to a collector that reads it all; what it has read, in order.
fn exported(records: &[FlowRecord], format: Format, segmentation_offload: bool) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The kernel gives twice as much, at most 416 KiB without privileges.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20).unwrap();
    let settings = UdpSettings { segmentation_offload, ..UdpSettings::new(socket.local_addr().unwrap()) };
    let transport = Transport::Udp(Udp::connect(&settings).unwrap());
    let settings = ExportSettings { format, template_messages: 20, ..ExportSettings::default() };
    let mut process = ExportingProcess::new(&settings, transport).unwrap();
    let mut datagrams = Vec::new();
    for batch in records.chunks(1000) {
        process.export(NOW, batch);
        datagrams.extend(receive_all(&socket));
    }
    process.close(NOW);
    datagrams.extend(receive_all(&socket));
    assert_eq!(process.account().delivered, process.account().accepted);
    assert_eq!(process.counts().messages as usize, datagrams.len());
    assert_eq!(process.counts().octets as usize, datagrams.iter().map(Vec::len).sum::<usize>());
    datagrams
}

#[test]
fn datagrams_that_leave_together_are_the_same_octets_as_one_by_one() {
    // In NetFlow v5 a record with large counters becomes many.
    let is_small = |flow: &FlowRecord| u32::try_from(flow.octet_delta_count).is_ok();
    let ipv4: Vec<FlowRecord> =
        flows().into_iter().filter(|flow| flow.source_address.is_ipv4() && is_small(flow)).collect();
    for format in [Format::Ipfix, Format::NetflowV9, Format::NetflowV5] {
        // Of one kind, so that messages are of one length; of every kind; and few that change now and then.
        let all = if format == Format::NetflowV5 { ipv4.clone() } else { flows() };
        let mixed = all.iter().cycle().take(3000).cloned().collect();
        let plain = vec![ipv4[0].clone(); 3000];
        let changing = (0..3000).map(|number| all[number / 400 % all.len()].clone()).collect();
        for records in [plain, mixed, changing] {
            let together = exported(&records, format, true);
            assert!(together.len() > 90, "{}", together.len());
            assert!(together == exported(&records, format, false), "{format:?}");
        }
    }
}
