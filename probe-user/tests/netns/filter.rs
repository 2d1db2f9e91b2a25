//! The operator's filter: what it leaves out is counted, and in no flow.

use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::flows;
use super::support::network::{COLLECTOR_IPV4, Network};
use super::support::nfcapd::Nfcapd;
use super::support::probe::ProbeBuilder;
use super::support::temp_dir::TempDir;
use super::support::tool::{output, tool};
use super::support::traffic::replay;

/// The frames that a filter lets pass, by `tcpdump`.
pub(crate) fn tcpdump_matches(capture: &std::path::Path, filter: &str) -> usize {
    let text = output(tool("tcpdump").args(["-n", "-t", "-q", "-r"]).arg(capture).arg(filter));
    text.lines()
        .filter(|line| line.contains(" IP") || line.starts_with("IP") || line.contains("ethertype"))
        .count()
}

#[test]
fn what_the_filter_leaves_out_is_counted_and_in_no_flow() {
    let network = Network::new();
    let directory = TempDir::new();
    let file = directory.file("frames.pcap");
    let mut frames = Vec::new();
    for (source, destination) in [("203.0.113.5", "198.18.0.9"), ("2001:db8::5", "2001:db8::9")] {
        let frame = |upper| Frame::new(source, destination, upper);
        frames.extend(vec![frame(Upper::Tcp(50_000, 22, 0x18)).payload(100); 7]);
        frames.extend(vec![frame(Upper::Tcp(22, 50_000, 0x18)).payload(200); 6]);
        frames.extend(vec![frame(Upper::Udp(22, 4343)).payload(10); 5]);
        frames.extend(vec![frame(Upper::Tcp(50_000, 443, 0x18)).payload(300); 4]);
        frames.extend(vec![frame(Upper::Udp(53, 2222)).payload(20); 3]);
        frames.extend(vec![frame(Upper::Icmp(3, 3)).payload(22); 2]);
        // Without the keyword `vlan`, a filter does not look behind tags.
        frames.push(frame(Upper::Tcp(50_000, 22, 0x18)).tag(0x8100, 7));
    }
    write_capture(&file, &frames);
    for hook in ["xdp", "tc"] {
        for filter in ["not port 22", "port 22", "udp and not port 22", "vlan 7 and port 22"] {
            let matched = tcpdump_matches(&file, filter);
            assert!(matched > 0 && matched < frames.len(), "{filter}: {matched}");
            let nfcapd = Nfcapd::start(&network, COLLECTOR_IPV4);
            let configuration = format!("[capture]\nfilter = \"{filter}\"\n[export]\nstdout = \"json\"");
            let probe = ProbeBuilder::new(&network.router)
                .collector(COLLECTOR_IPV4, "netflow-v9")
                .argument("--hook", hook)
                .configuration(&configuration)
                .start();
            replay(&network.sender, &file, frames.len());
            let expected = frames.len() - matched;
            let metrics = probe.wait_until("all frames in the metrics", |metrics| {
                metrics.total("pathflow_received_packets_total") == frames.len() as u64
            });
            let reason = [("reason", "filtered")];
            assert_eq!(
                metrics.sum("pathflow_dropped_packets_total", &reason),
                expected as u64,
                "{filter} {hook}"
            );
            let ended = probe.terminate();
            ended.report.assert_balanced();
            assert_eq!(ended.report.recorded().packets, matched as u64, "{filter} {hook}");
            assert_eq!(ended.report.dropped(), ended.report.figure("not in a flow: filtered"));
            assert_eq!(nfcapd.stop(&network).packets(), matched as u64);
            let flows = flows(&ended.output);
            let of_ssh =
                |flow: &serde_json::Value| flow["source_port"] == 22 || flow["destination_port"] == 22;
            match filter {
                "port 22" => assert!(flows.iter().all(of_ssh), "{flows:#?}"),
                "not port 22" => assert!(flows.iter().all(|flow| !of_ssh(flow) || flow["vlan_id"] == 7)),
                _ => {}
            }
        }
    }
}
