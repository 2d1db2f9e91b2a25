//! sFlow: what real collectors make of header samples and interface counters.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};

use sflow_parser::models::core::{Address, FlowData, FlowSample};
use sflow_parser::{SampleData, parse_datagram};

use super::support::PATIENCE;
use super::support::json::sum;
use super::support::metrics::Metrics;
use super::support::network::{CAPTURED, COLLECTOR_SFLOW, Network, SENDER_ADDRESS};
use super::support::nfacctd::Nfacctd;
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Probe, ProbeBuilder};
use super::support::routed::{LEFT, RIGHT, ROUTER_LEFT, Routed, SERVER};
use super::support::sflow::{datagrams, samples};
use super::support::tool::output;
use super::support::traffic::Traffic;
use super::support::wire::Wire;

/// Octets of a frame check sequence, which sFlow counts and nobody sees.
const FCS: u64 = 4;

fn start<'a>(network: &'a Network, interval: u32, more: &str) -> Probe<'a> {
    let configuration = format!(
        "[capture]\nheader_sampling_interval = {interval}\n[sflow]\ncollectors = [\"{}\"]\n{more}\n\
         [export]\nstdout = \"none\"\n",
        COLLECTOR_SFLOW.ip()
    );
    ProbeBuilder::new(&network.router).configuration(&configuration).start()
}

fn exported(metrics: &Metrics) -> u64 {
    metrics.sum("pathflow_sflow_exported_samples_total", &[("kind", "flow")])
}

/// Waits until every sample that was received is sent.
fn settled(probe: &Probe<'_>) -> Metrics {
    probe.wait_until("samples are sent", |metrics| {
        let received = metrics.total("pathflow_header_samples_total");
        received > 0
            && received == exported(metrics) + metrics.total("pathflow_header_sample_queue_full_total")
    })
}

/// Kernel's index of the captured interface.
fn captured_index(network: &Network) -> u64 {
    network.router.link(CAPTURED)["ifindex"].as_u64().unwrap()
}

#[test]
fn sfcapd_counts_every_packet_if_every_packet_is_sampled() {
    let network = Network::new();
    let sfcapd = Nfcapd::start_sflow(&network, COLLECTOR_SFLOW);
    let probe = start(&network, 1, "agent_address = \"203.0.113.7\"\nsub_agent_id = 9");
    let traffic = Traffic {
        packets: 10_000,
        flows: 50,
        frame_octets: 300,
        rate: Some(5_000),
        vlan_id: Some(301),
        ..Traffic::default()
    };
    traffic.send(&network.sender);
    let metrics = settled(&probe);
    assert_eq!(exported(&metrics), traffic.packets);
    assert_eq!(metrics.total("pathflow_header_sample_pool_total"), traffic.packets);
    assert_eq!(metrics.total("pathflow_header_sample_drops_total"), 0);
    assert_eq!(metrics.total("pathflow_header_sample_queue_full_total"), 0);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let text = ended.report.text();
    let line = text.lines().find(|line| line.contains("sflow to 192.0.2.2:6343: exported")).expect(text);
    assert!(line.contains(" 10000 flow samples"), "{line}");
    assert!(text.contains(" 10000 samples from a pool of 10000"), "{text}");

    let collected = sfcapd.stop(&network);
    assert_eq!(collected.packets(), traffic.packets);
    assert_eq!(collected.octets(), traffic.packets * (traffic.frame_octets + FCS));
    collected.assert_in_sequence();

    let index = captured_index(&network);
    let datagrams = datagrams(collected.capture());
    assert!(datagrams.iter().all(|datagram| datagram.header["Agent address"] == "203.0.113.7"));
    assert!(datagrams.iter().all(|datagram| datagram.header["Sub-agent ID"] == "9"));
    let samples = samples(&datagrams, true);
    assert_eq!(samples.len() as u64, traffic.packets);
    for (number, sample) in (1..).zip(&samples) {
        assert_eq!(sample.source(), index);
        assert_eq!(sample.text("Sampling rate"), "1 out of 1 packets");
        assert_eq!(sample.number("Sample pool"), number);
        assert_eq!(sample.number("Dropped packets"), 0);
        assert_eq!(sample.number("Input interface (ifIndex)"), index);
        assert_eq!(sample.number("Frame Length"), traffic.frame_octets + FCS);
        assert_eq!(sample.number("Payload stripped"), FCS);
        assert_eq!(sample.number("Sampled header length"), 128);
        assert_eq!(sample.number("Incoming 802.1Q VLAN"), 301);
    }
}

#[test]
fn sfacctd_estimates_the_traffic_from_one_packet_in_ten() {
    let network = Network::new();
    let more = "sfacctd_renormalize: true\n";
    let sfacctd = Nfacctd::start_sflow(&network.collector, COLLECTOR_SFLOW, more);
    let wire = Wire::start(&network);
    let probe = start(&network, 10, "");
    let traffic = Traffic {
        packets: 200_000,
        flows: 20,
        frame_octets: 100,
        rate: Some(40_000),
        cpu: Some(0),
        ..Traffic::default()
    };
    traffic.send(&network.sender);
    let metrics = settled(&probe);
    let sampled = exported(&metrics);
    // The last sample says how much the pool was then.
    let pool = metrics.total("pathflow_header_sample_pool_total");
    assert!(pool <= traffic.packets && traffic.packets - pool < 20, "{pool}");
    let lost = metrics.total("pathflow_header_sample_drops_total")
        + metrics.total("pathflow_header_sample_queue_full_total");
    assert_eq!(lost, 0);

    // sfacctd multiplies by what pool and sequence number say of each sample, so that in the end it has the pool; only
    // the first one counts as ten.
    let printed = sfacctd.printed(pool - 20);
    let (packets, octets) = (sum(&printed, "packets"), sum(&printed, "bytes"));
    assert!(packets.abs_diff(pool) < 20, "{packets} of {pool}");
    assert_eq!(octets, packets * (traffic.frame_octets + FCS));
    // Distances are uniform from 1 to 2 N - 1, so that the number of samples has a standard deviation of the square
    // root of n / 3N, and N times it, what a collector without the pool estimates, one of 816 packets.
    assert!((sampled * 10).abs_diff(traffic.packets) <= 5 * 817, "{sampled}");
    // Each of the flows has a twentieth of the packets: about 1,000 samples, each of which stands for a distance with a
    // mean square of 133. That is a standard deviation of 365.
    let mut flows: BTreeMap<String, u64> = BTreeMap::new();
    for flow in &printed {
        *flows.entry(flow["ip_src"].to_string()).or_default() += flow["packets"].as_u64().unwrap();
    }
    assert_eq!(flows.len(), 20, "{flows:?}");
    assert!(flows.values().all(|packets| packets.abs_diff(10_000) <= 6 * 365), "{flows:?}");

    probe.terminate().report.assert_balanced();
    let capture = wire.stop(&network);
    let datagrams = datagrams(&capture);
    let samples = samples(&datagrams, true);
    assert_eq!(samples.len() as u64, sampled);
    let last = samples.last().unwrap();
    assert_eq!(last.number("Sample pool"), pool);
    assert_eq!(last.text("Sampling rate"), "1 out of 10 packets");
    // Without a setting, what the router sends from.
    assert_eq!(datagrams[0].header["Agent address"], "192.0.2.1");
}

#[test]
fn counter_samples_are_what_the_kernel_has_counted() {
    let network = Network::new();
    let sfcapd = Nfcapd::start_sflow(&network, COLLECTOR_SFLOW);
    let probe = start(&network, 100, "counter_interval = \"1s\"");
    Traffic { packets: 5000, frame_octets: 200, ..Traffic::default() }.send(&network.sender);
    let counted =
        |metrics: &Metrics| metrics.sum("pathflow_sflow_exported_samples_total", &[("kind", "counter")]);
    let before = counted(&probe.metrics());
    probe.wait_until("counters are sent", |metrics| counted(metrics) >= before + 3);
    let (received, sent) = (network.router.received(CAPTURED), network.router.sent(CAPTURED));
    probe.terminate();
    let collected = sfcapd.stop(&network);
    let datagrams = datagrams(collected.capture());
    let samples = samples(&datagrams, false);
    assert!(samples.len() >= 3);
    let index = captured_index(&network);
    let last = samples.last().unwrap();
    assert_eq!((last.source(), last.number("Interface index")), (index, index));
    assert!(received.0 >= 5000);
    assert_eq!((last.number("Input Packets"), last.number("Input Octets")), received);
    assert_eq!((last.number("Output Packets"), last.number("Output Octets")), sent);
    let statistic = |name: &str| {
        let text = output(network.router.command("ip").args([
            "-statistics",
            "-json",
            "link",
            "show",
            "dev",
            CAPTURED,
        ]));
        let links: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let (direction, name) = name.split_once(' ').unwrap();
        links[0]["stats64"][direction][name].as_u64().unwrap()
    };
    assert_eq!(last.number("Input Errors"), statistic("rx errors"));
    assert_eq!(last.number("Input Discarded Packets"), statistic("rx dropped"));
    assert_eq!(last.number("Input Multicast Packets"), statistic("rx multicast"));
    assert_eq!(last.number("Output Errors"), statistic("tx errors"));
    assert_eq!(last.number("Output Discarded Packets"), statistic("tx dropped"));
    // What `ethtool` says of a veth.
    assert_eq!(last.number("Interface Speed"), 10_000_000_000);
    assert_eq!(last.text("Interface Direction"), "Full-Duplex (1)");
    assert_eq!((last.text("IfAdminStatus"), last.text("IfOperStatus")), ("Up", "Up"));
    assert_eq!(last.number("Interface Type"), 6);
    assert!(!last.has("Frame Length"));
}

#[test]
fn what_a_collector_refuses_is_a_counted_loss() {
    let network = Network::new();
    // Nobody listens there.
    let probe = start(&network, 1, "");
    let traffic = Traffic { packets: 2000, rate: Some(2000), ..Traffic::default() };
    traffic.send(&network.sender);
    let samples = |metrics: &Metrics, name: &str| metrics.sum(name, &[("kind", "flow")]);
    let metrics = probe.wait_until("samples are lost", |metrics| {
        let lost = metrics.sum(
            "pathflow_sflow_dropped_samples_total",
            &[("kind", "flow"), ("reason", "collector_refused")],
        );
        metrics.total("pathflow_header_samples_total") == traffic.packets
            && lost > 0
            && lost
                + samples(metrics, "pathflow_sflow_exported_samples_total")
                + samples(metrics, "pathflow_sflow_pending_samples")
                == traffic.packets
    });
    assert!(metrics.total("pathflow_sflow_send_errors_total") > 0);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let text = ended.report.text();
    assert!(text.contains("sFlow collector 192.0.2.2:6343 refuses datagrams"), "{text}");
    let count = |label: &str| {
        let line = text.lines().find(|line| line.contains(label)).unwrap_or_default();
        let (_, rest) = line.split_once(label).unwrap_or_default();
        rest.split_whitespace().next().map_or(0, |number| number.parse::<u64>().unwrap())
    };
    let lost = count("sflow to 192.0.2.2:6343: lost, collector_refused");
    let sent = count("sflow to 192.0.2.2:6343: exported");
    assert_eq!(lost + sent, traffic.packets, "{text}");
    assert!(lost > 0, "{text}");
}

/// Pool and drops of the last flow sample that has arrived.
fn last_sample(socket: &UdpSocket) -> Option<(u64, u64)> {
    let mut buffer = vec![0; 2048];
    let mut last = None;
    while let Ok(length) = socket.recv(&mut buffer) {
        for sample in parse_datagram(&buffer[..length]).unwrap().samples {
            if let SampleData::FlowSample(sample) = sample.sample_data {
                last = Some((sample.sample_pool.into(), sample.drops.into()));
            }
        }
    }
    last
}

#[test]
fn collectors_are_told_of_every_sample_that_was_lost_before_it_was_sent() {
    let network = Network::new();
    let socket = network.collector.run(|| UdpSocket::bind(COLLECTOR_SFLOW).unwrap());
    socket.set_nonblocking(true).unwrap();
    let probe = start(&network, 1, "");
    // More at once than ring and queue hold.
    let burst = Traffic { packets: 300_000, cpu: Some(0), ..Traffic::default() };
    burst.send(&network.sender);
    settled(&probe);
    // What was lost last is told by the next samples of the same CPU.
    let rest = Traffic { packets: 200, rate: Some(1000), ..burst };
    last_sample(&socket);
    rest.send(&network.sender);
    let pool = burst.packets + rest.packets;
    probe.wait_until("the pool is known", |metrics| {
        metrics.total("pathflow_header_sample_pool_total") == pool
    });
    let metrics = settled(&probe);
    let kernel = metrics.total("pathflow_header_sample_drops_total");
    let queue = metrics.total("pathflow_header_sample_queue_full_total");
    assert_eq!(last_sample(&socket), Some((pool, kernel + queue)), "{kernel} {queue}");
    assert!(kernel + queue > 0);
    // Every packet is sampled: it is sent or lost.
    assert_eq!(exported(&metrics) + kernel + queue, pool);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let text = ended.report.text();
    for (label, lost) in [("lost in the kernel", kernel), ("lost, queue_full", queue)] {
        let line = text.lines().find(|line| line.contains(&format!("header samples {label}")));
        assert_eq!(line.is_some(), lost > 0, "{text}");
        assert!(line.is_none_or(|line| line.contains(&format!(" {lost} samples"))), "{text}");
    }
}

#[test]
fn both_directions_of_an_interface_are_one_data_source() {
    let network = Network::new();
    let sfcapd = Nfcapd::start_sflow(&network, COLLECTOR_SFLOW);
    let configuration = format!(
        "[capture]\ndirection = \"both\"\nheader_sampling_interval = 1\n[[capture.interface]]\nname = \"{CAPTURED}\"\n\
         index = 16777217\n[sflow]\ncollectors = [\"{COLLECTOR_SFLOW}\"]\n[export]\nstdout = \"none\"\n"
    );
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    Traffic { packets: 500, rate: Some(5000), ..Traffic::default() }.send(&network.sender);
    // Nobody listens there: one packet out, one in.
    network.router.run(|| {
        for _ in 0..200 {
            let error = TcpStream::connect((SENDER_ADDRESS, 9)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        }
    });
    let metrics = settled(&probe);
    let of = |name: &str, direction| metrics.sum(name, &[("direction", direction)]);
    let pools = ["ingress", "egress"].map(|direction| of("pathflow_header_sample_pool_total", direction));
    probe.terminate();
    let collected = sfcapd.stop(&network);
    collected.assert_in_sequence();
    let datagrams = datagrams(collected.capture());
    let samples = samples(&datagrams, true);
    let taken_at =
        |name: &str| samples.iter().filter(|sample| sample.number(name) == 16_777_217).count() as u64;
    assert_eq!([taken_at("Input interface value"), taken_at("Output interface value")], pools);
    assert_eq!(pools, [700, 200]);
    assert_eq!(collected.packets(), 900);
    assert_eq!(samples.len() as u64, pools[0] + pools[1]);
    assert_eq!(samples.last().unwrap().number("Sample pool"), pools[0] + pools[1]);
}

/// The flow samples of datagrams to `port` that come to this socket, until there are `count` of them.
pub(crate) fn flow_samples(socket: &UdpSocket, port: u16, count: usize) -> Vec<FlowSample> {
    let mut buffer = vec![0; 2048];
    let mut samples = Vec::new();
    while samples.len() < count {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{samples:#?}: {error}"));
        for sample in parse_datagram(&buffer[..length]).unwrap().samples {
            let SampleData::FlowSample(sample) = sample.sample_data else { continue };
            let is_of_test = sample.flow_records.iter().any(|record| match &record.flow_data {
                FlowData::SampledHeader(header) => {
                    header.header.windows(2).any(|two| two == port.to_be_bytes())
                }
                _ => false,
            });
            samples.extend(is_of_test.then_some(sample));
        }
    }
    samples
}

#[test]
fn samples_say_where_packets_go_and_where_they_came_in() {
    const PORT: u16 = 0xfade;
    // Behind the server, by a next hop of the own family and by one of the other.
    const BEHIND: [(&str, &str, u32); 3] = [
        ("198.18.0.9", "198.18.0.0/15", 15),
        ("198.51.99.9", "198.51.99.0/24", 24),
        ("2001:db8:99::9", "2001:db8:99::/48", 48),
    ];
    let routed = Routed::new();
    let hops = [SERVER[0], SERVER[1], SERVER[1]];
    for ((_, prefix, _), hop) in BEHIND.into_iter().zip(hops) {
        let via = if prefix.contains(':') { "via" } else { "via inet6" };
        let via = if hop.contains(':') { via } else { "via" };
        routed.router.ip(&format!("route add {prefix} {via} {hop} dev {RIGHT}"));
    }
    let socket = routed.router.run(|| UdpSocket::bind("127.0.0.1:6343").unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let configuration = "[capture]\ndirection = \"both\"\nheader_sampling_interval = 1\n\
         [sflow]\ncollectors = [\"127.0.0.1\"]\n[export]\nstdout = \"none\"\n";
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", &format!("{LEFT},{RIGHT}"))
        .configuration(configuration)
        .start();
    let index = |name| routed.router.link(name)["ifindex"].as_u64().unwrap() as u32;
    let (left, right, internal) = (index(LEFT), index(RIGHT), 0x3fff_ffff);
    let router = |sample: &FlowSample| {
        sample.flow_records.iter().find_map(|record| match &record.flow_data {
            FlowData::ExtendedRouter(router) => Some(router.clone()),
            _ => None,
        })
    };
    let is_at = |point: u32| move |sample: &&FlowSample| sample.source_id.0 == point;

    for ((destination, _, length), hop) in BEHIND.into_iter().zip(hops) {
        Routed::send(&routed.client, (destination, PORT), 100, 1);
        // Coming in at one interface, going out at the other.
        let samples = flow_samples(&socket, PORT, 2);
        for sample in &samples {
            assert_eq!((sample.input.0, sample.output.0), (left, right), "{destination} {sample:#?}");
        }
        let next_hop = match hop.parse().unwrap() {
            std::net::IpAddr::V4(hop) => Address::IPv4(hop),
            std::net::IpAddr::V6(hop) => Address::IPv6(hop),
        };
        let came_in = router(samples.iter().find(is_at(left)).unwrap()).unwrap();
        let source_length = if destination.contains(':') { 64 } else { 24 };
        assert_eq!(
            (came_in.next_hop, came_in.src_mask_len, came_in.dst_mask_len),
            (next_hop, source_length, length),
            "{destination}"
        );
    }
    // To the router itself, and from it.
    for address in ROUTER_LEFT {
        Routed::send(&routed.client, (address, PORT), 100, 1);
        let sample = &flow_samples(&socket, PORT, 1)[0];
        assert_eq!((sample.input.0, sample.output.0), (left, internal), "{address} {sample:#?}");
    }
    for address in SERVER {
        Routed::send(&routed.router, (address, PORT), 100, 1);
        let sample = &flow_samples(&socket, PORT, 1)[0];
        assert_eq!((sample.input.0, sample.output.0), (internal, right), "{address} {sample:#?}");
    }
    probe.terminate().report.assert_balanced();
}
