//! Flows with known values, and guards for the programs that read them.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pathflow_exporter::{
    BgpAttributes, BgpRoute, ExportSettings, ExportTime, ExportingProcess, FieldGroups, FlowDirection,
    FlowEndReason, FlowRecord, Format, InterfaceInfo, ObservationContext, Selector, SelectorAlgorithm,
    Transport, Udp, UdpSettings,
};

/// 2026-11-21T07:40:00.123Z, an hour after start-up.
pub(crate) const NOW: ExportTime =
    ExportTime { unix_milliseconds: 1_795_246_800_123, monotonic: Duration::from_hours(1) };

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

/// As tools write it.
pub(crate) fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

/// A TCP flow over IPv4; every value differs from every other, so that swapped fields show.
pub(crate) fn tcp_flow() -> FlowRecord {
    FlowRecord {
        source_port: 49_152,
        destination_port: 443,
        protocol_identifier: 6,
        ip_class_of_service: 0xb8,
        tcp_control_bits: 0x1b,
        vlan_id: 301,
        dot1q_customer_vlan_id: 402,
        dot1q_priority: 0,
        flow_label_ipv6: 0,
        ingress_interface: 7,
        egress_interface: 9,
        flow_direction: FlowDirection::Ingress,
        icmp_type_code: 0,
        packet_delta_count: 12,
        octet_delta_count: 3456,
        flow_start_milliseconds: 1_795_246_790_001,
        flow_end_milliseconds: 1_795_246_799_999,
        flow_end_reason: FlowEndReason::EndOfFlow,
        bgp_source_as_number: 64_500,
        bgp_destination_as_number: 4_200_000_001,
        source_prefix_length: 24,
        destination_prefix_length: 22,
        bgp_next_hop: Some(address("203.0.113.1")),
        ip_next_hop: Some(address("198.51.100.254")),
        ..FlowRecord::between(address("192.0.2.1"), address("198.51.100.2"))
    }
}

/// What the flows refer to.
pub(crate) fn context() -> ObservationContext {
    let interface = |index, name: &str, description: &str| InterfaceInfo {
        index,
        name: name.to_owned(),
        description: description.to_owned(),
        vlan_id: 0,
    };
    ObservationContext {
        interfaces: vec![interface(7, "eth0", "transit to AS\u{a0}64500"), interface(9, "eth1.301", "")],
        selectors: vec![
            Selector {
                id: 300,
                interface: 7,
                direction: FlowDirection::Ingress,
                algorithm: SelectorAlgorithm::Systematic,
                interval: 100,
            },
            Selector {
                id: 4,
                interface: 9,
                direction: FlowDirection::Egress,
                algorithm: SelectorAlgorithm::Random,
                interval: 1000,
            },
        ],
    }
}

/// Flows of the kinds a router sees, each different in one way from the ones before.
pub(crate) fn flows() -> Vec<FlowRecord> {
    let tcp = tcp_flow();
    let udp6 = FlowRecord {
        source_address: address("2001:db8::1"),
        destination_address: address("2001:db8:ffff::2"),
        ip_next_hop: Some(address("fe80::1")),
        source_port: 5353,
        destination_port: 53,
        protocol_identifier: 17,
        tcp_control_bits: 0,
        flow_direction: FlowDirection::Egress,
        flow_end_reason: FlowEndReason::IdleTimeout,
        flow_start_milliseconds: 1_795_246_780_250,
        flow_end_milliseconds: 1_795_246_780_250,
        packet_delta_count: 1,
        octet_delta_count: 128,
        ..tcp.clone()
    };
    let icmp = FlowRecord {
        source_port: 0,
        destination_port: 0x0800,
        protocol_identifier: 1,
        tcp_control_bits: 0,
        icmp_type_code: 0x0800,
        ip_class_of_service: 0,
        vlan_id: 0,
        dot1q_customer_vlan_id: 0,
        dot1q_priority: 0,
        flow_label_ipv6: 0,
        flow_end_reason: FlowEndReason::LackOfResources,
        ..tcp.clone()
    };
    let icmp6 = FlowRecord {
        source_port: 0,
        destination_port: 0x8700,
        protocol_identifier: 58,
        icmp_type_code: 0x8700,
        ..udp6.clone()
    };
    let elephant = FlowRecord {
        source_address: address("203.0.113.255"),
        packet_delta_count: 5_000_000_000,
        octet_delta_count: 7_000_000_000_000,
        flow_end_reason: FlowEndReason::ActiveTimeout,
        tcp_control_bits: 0x10,
        ..tcp.clone()
    };
    let unknown_route = FlowRecord {
        source_address: address("10.0.0.1"),
        egress_interface: 0,
        bgp_source_as_number: 0,
        bgp_destination_as_number: 0,
        source_prefix_length: 0,
        destination_prefix_length: 0,
        bgp_next_hop: None,
        ip_next_hop: None,
        flow_end_reason: FlowEndReason::ForcedEnd,
        ..tcp.clone()
    };
    let labelled =
        FlowRecord { source_address: address("192.0.2.70"), mpls_top_label: Some(1_048_000), ..tcp.clone() };
    let sampled = FlowRecord {
        source_address: address("192.0.2.48"),
        sampling_interval: 100,
        selector_id: 300,
        ..tcp.clone()
    };
    let sampled_in_a_tunnel = FlowRecord {
        source_address: address("192.0.2.51"),
        mpls_top_label: Some(16_001),
        layer2_segment_id: 0xab_cdef,
        ..sampled.clone()
    };
    let sampled6 = FlowRecord {
        source_address: address("2001:db8::48"),
        sampling_interval: 1000,
        selector_id: 4,
        ..udp6.clone()
    };
    let in_a_tunnel6 =
        FlowRecord { source_address: address("2001:db8::51"), layer2_segment_id: 4242, ..udp6.clone() };
    vec![
        tcp,
        udp6,
        icmp,
        icmp6,
        elephant,
        unknown_route,
        labelled,
        sampled,
        sampled_in_a_tunnel,
        sampled6,
        in_a_tunnel6,
    ]
}

/// Flows with what is known of routes and what an operator says of them, each different in one way from the ones before.
pub(crate) fn enriched_flows() -> Vec<FlowRecord> {
    let route = |communities: &[u32]| {
        Arc::new(BgpRoute::new(BgpAttributes { communities: communities.into(), ..BgpAttributes::default() }))
    };
    let [tcp, udp6] = [0, 1].map(|index| flows().swap_remove(index));
    let routed = FlowRecord {
        bgp_prev_adjacent_as_number: 64_511,
        bgp_next_adjacent_as_number: 4_200_000_777,
        source_mac_address: [0x02, 0, 0x5e, 0, 0x53, 1],
        destination_mac_address: [0x02, 0, 0x5e, 0, 0x53, 0xfe],
        source_route: Some(route(&[0xfbf0_0064, 0xfbf0_0065])),
        destination_route: Some(route(&[0xffff_ff01])),
        ..tcp.clone()
    };
    let extended = [0, 2, 0xfb, 0xf0, 0, 0, 0, 100];
    let destination_route = Arc::new(BgpRoute::new(BgpAttributes {
        communities: (0..70).map(|number| 0xfbf0_0000 + number).collect(),
        extended_communities: [extended].into(),
        large_communities: [[4_200_000_000, 1, 2]].into(),
        ..BgpAttributes::default()
    }));
    let by_ipv6 = FlowRecord {
        source_address: address("192.0.2.63"),
        bgp_next_hop: Some(address("2001:db8::63")),
        source_route: None,
        destination_route: Some(destination_route),
        ..routed.clone()
    };
    let tagged = FlowRecord {
        source_address: address("192.0.2.99"),
        tag: 100,
        tag2: 0xff00_0000_0000_0001,
        label: Some("customer-a".into()),
        ..tcp.clone()
    };
    let routed6 = FlowRecord {
        source_prefix_length: 32,
        destination_prefix_length: 48,
        bgp_next_hop: Some(address("2001:db8::3")),
        bgp_prev_adjacent_as_number: 64_510,
        bgp_next_adjacent_as_number: 64_509,
        ..udp6.clone()
    };
    let of_the_own_as = FlowRecord {
        source_address: address("2001:db8::18"),
        source_prefix_length: 0,
        destination_prefix_length: 0,
        bgp_next_hop: None,
        source_route: Some(route(&[])),
        tag: 7,
        ..udp6
    };
    vec![tcp, routed, by_ipv6, tagged, routed6, of_the_own_as]
}

/// All groups of fields that `format` has.
pub(crate) fn all_groups(format: Format) -> FieldGroups {
    match format {
        Format::Ipfix => {
            FieldGroups::NAMES.iter().fold(FieldGroups::NONE, |all, (_, group)| all.with(*group))
        }
        Format::NetflowV9 => FieldGroups::BGP.with(FieldGroups::MAC),
        Format::NetflowV5 => FieldGroups::NONE,
    }
}

/// What of a flow with a counter below 2^32 NetFlow v5 can say; `None` if it is not IPv4.
pub(crate) fn as_in_netflow_v5(record: &FlowRecord) -> Option<FlowRecord> {
    let as_number = |number: u32| if number < 65_536 { number } else { 23_456 };
    record.source_address.is_ipv4().then(|| FlowRecord {
        bgp_source_as_number: as_number(record.bgp_source_as_number),
        bgp_destination_as_number: as_number(record.bgp_destination_as_number),
        vlan_id: 0,
        flow_direction: FlowDirection::Ingress,
        mpls_top_label: None,
        layer2_segment_id: 0,
        ..record.clone()
    })
}

/// An Exporting Process to `collector` over a real UDP socket.
pub(crate) fn udp_process(settings: &ExportSettings, collector: SocketAddr) -> ExportingProcess {
    let udp = Udp::connect(&UdpSettings::new(collector)).expect("UDP socket");
    ExportingProcess::new(settings, Transport::Udp(udp)).expect("settings")
}

/// Everything that waits in `socket`, as datagrams.
pub(crate) fn receive_all(socket: &UdpSocket) -> Vec<Vec<u8>> {
    // Loopback delivers within the call that sends, so nothing is still under way.
    socket.set_nonblocking(true).expect("non-blocking");
    let mut buffer = vec![0; 65_536];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
}

/// A command, or a panic that names the package to install.
pub(crate) fn program(name: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(name).is_file())
    });
    assert!(found, "program `{name}` is missing; install the Debian package `{package}`");
    let mut command = Command::new(name);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // Times in local time would depend on the machine.
    command.env("TZ", "UTC").stdin(Stdio::null());
    command
}

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().expect("start");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A directory that is removed at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pathflow-exporter-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temporary directory");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // What is left behind is no reason to fail.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A collector that runs until it is stopped or dropped, in a process group of its own, because nfacctd makes
/// children.
pub(crate) struct Collector {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Collector {
    /// Starts `command` and waits until something listens on UDP `port`. It writes to `log`, since a pipe that
    /// nobody reads could stop it.
    pub(crate) fn start(command: &mut Command, port: u16, log: PathBuf) -> Self {
        let file = File::create(&log).expect("log file");
        command.process_group(0).stderr(file.try_clone().expect("log file")).stdout(file);
        let child = command.spawn().expect("start collector");
        let mut collector = Self { child, port, log };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_open("udp", port) {
            let exited = collector.child.try_wait().expect("wait");
            assert!(
                exited.is_none() && Instant::now() < deadline,
                "collector does not listen on port {port}: {}",
                collector.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        collector
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks the collector to end, and returns all it wrote.
    pub(crate) fn stop(mut self) -> String {
        // By the `kill` program, because the standard library only knows SIGKILL.
        output(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().expect("wait").is_none() {
            assert!(Instant::now() < deadline, "collector does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.log()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // The group is empty after `stop`, or the collector has ended by itself: no reason to fail.
        _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).output();
        _ = self.child.wait();
    }
}

/// A UDP port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    let port =
        UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("free port").port();
    wait_until_closed("udp", port);
    port
}

/// Waits until nobody has a socket of `protocol` on `port`. Where one was closed just before, a program that another
/// test is starting may still have it, until it runs.
pub(crate) fn wait_until_closed(protocol: &str, port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_open(protocol, port) {
        assert!(Instant::now() < deadline, "{protocol} port {port} stays open");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the kernel's socket table has a socket of `protocol` on `port`, IPv4 or IPv6.
fn is_open(protocol: &str, port: u16) -> bool {
    let needle = format!(":{port:04X} ");
    ["", "6"].iter().any(|version| {
        std::fs::read_to_string(format!("/proc/net/{protocol}{version}"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once(": "))
            .any(|(_, socket)| {
                socket.split_inclusive(' ').next().is_some_and(|local| local.ends_with(&needle))
            })
    })
}
