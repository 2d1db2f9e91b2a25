//! Applications of flows that come to a mirror port.

use super::{Mirrored, SPAN, mirror_port};
use crate::support::frames::write_octets;
use crate::support::json::flows;
use crate::support::probe::ProbeBuilder;
use crate::support::temp_dir::TempDir;
use crate::support::traffic::replay_slowly;

const AGGREGATE: &str = "[[aggregate]]\nname = \"applications\"\nrefresh = \"1s\"\n\
    key = [\"class\", \"dst_port\"]\n[aggregate.stdout]\n";
/// A query for the A record of example.org (RFC 1035).
const QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";
const QUERIES: u8 = 50;

/// A query from this host.
fn query(host: u8) -> Vec<u8> {
    let octets = 8 + QUERY.len() as u8;
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 20 + octets, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, host, 198, 18, 1, 1]);
    frame.extend([0xc0, host, 0, 53, 0, octets, 0, 0]);
    frame.extend(QUERY);
    frame
}

#[test]
fn packets_of_a_mirror_port_have_their_applications() {
    let mirrored = Mirrored::new();
    let directory = TempDir::new();
    let file = directory.file("queries.pcap");
    let frames: Vec<Vec<u8>> = (0..QUERIES).map(query).collect();
    write_octets(&file, &frames);
    let configuration = mirror_port("") + AGGREGATE;
    let probe = ProbeBuilder::configured(&mirrored.host).configuration(&configuration).start();
    replay_slowly((&mirrored.switch, SPAN), &file, frames.len());
    let metrics = probe.wait_until("applications", |metrics| {
        metrics.sum("pathflow_classify_flows_total", &[("result", "classified")])
            + metrics.total("pathflow_classify_pending_flows")
            >= u64::from(QUERIES)
    });
    assert_eq!(metrics.total("pathflow_classify_dropped_packets_total"), 0, "{metrics:#?}");
    // Now they are known.
    replay_slowly((&mirrored.switch, SPAN), &file, frames.len());
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let (mut all, mut known) = (0, 0);
    for row in flows(&ended.output).iter().filter(|row| row["port_dst"] == 53) {
        let packets = row["packets"].as_u64().unwrap();
        all += packets;
        match row["class"].as_str().unwrap() {
            "DNS" => known += packets,
            class => assert_eq!(class, "unknown"),
        }
    }
    assert_eq!(all, 2 * u64::from(QUERIES));
    assert!(known >= u64::from(QUERIES), "{known} of {all}");
}
