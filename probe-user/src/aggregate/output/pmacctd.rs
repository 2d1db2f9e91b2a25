//! The same packets through pmacctd 1.7.7 and through an aggregate and its file: row for row, octet for octet.
//!
//! Rows come in another order, and the blanks between the titles of `SAMPLING_DIRECTION` and what follows it differ,
//! which pmacctd has not. Nothing else may.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pathflow_exporter::FlowRecord;

use super::{FileOutput, FileSettings, FileTable, RowOutput as _};
use crate::aggregate::encode::{EncodeSettings, Format, FormatTable};
use crate::aggregate::{AggregateSettings, Aggregation, Key, Observed, Spread};
use crate::classify::Class;
use crate::enrich::{EnrichSettings, Geography};

/// Primitives that pmacctd 1.7.7 has without BGP, but for those that make it crash (`vxlan`, `peer_src_as`).
const KEY: &str = "tag,tag2,src_mac,dst_mac,vlan,etype,src_as,dst_as,local_pref,med,peer_dst_as,peer_dst_ip,\
                   src_host,src_net,dst_host,dst_net,src_mask,dst_mask,src_port,dst_port,tcpflags,proto,tos,\
                   src_host_country,dst_host_country,src_host_pocode,dst_host_pocode,src_host_coords,dst_host_coords,\
                   mpls_label_top,timestamp_arrival";
/// The same, and texts without an end.
const LONG: &str = "label,as_path,std_comm,ext_comm,lrg_comm";

/// 2026-11-21T07:40:00Z
const START: u64 = 1_795_246_800;
const SOURCE_MAC: [u8; 6] = [0x02, 0x00, 0x5e, 0x00, 0x53, 0x01];
const DESTINATION_MAC: [u8; 6] = [0x02, 0xff, 0x5e, 0xa0, 0x53, 0xfe];
const TCP: u8 = 6;
const UDP: u8 = 17;

struct Packet {
    frame: Vec<u8>,
    record: FlowRecord,
    microseconds: u64,
}

/// One packet: what is on the wire, and what a record says of it.
fn packet(number: u64, source: IpAddr, protocol: u8, tos: u8, flags: u8) -> Packet {
    let (source_port, destination_port): (u16, u16) =
        if matches!(protocol, TCP | UDP) { (1024 + u16::from(tos), 53) } else { (0, 0) };
    let mut payload = vec![0; 40];
    if matches!(protocol, TCP | UDP) {
        payload[..2].copy_from_slice(&source_port.to_be_bytes());
        payload[2..4].copy_from_slice(&destination_port.to_be_bytes());
    }
    match protocol {
        TCP => (payload[12], payload[13]) = (0x50, flags),
        UDP => payload[4..6].copy_from_slice(&40_u16.to_be_bytes()),
        _ => {}
    }
    let vlan = if number.is_multiple_of(3) { 100 } else { 0 };
    let mut frame = [DESTINATION_MAC, SOURCE_MAC].concat();
    if vlan != 0 {
        frame.extend_from_slice(&[0x81, 0x00, 0xa0, vlan as u8]);
    }
    let (destination, network, length): (IpAddr, &[u8], u64) = match source {
        IpAddr::V4(source) => {
            let destination = Ipv4Addr::new(198, 51, 100, 1);
            frame.extend_from_slice(&[0x08, 0x00]);
            frame.extend_from_slice(&[0x45, tos, 0, 60, 0, 1, 0, 0, 64, protocol, 0, 0]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
            (destination.into(), &[192, 0, 2], 60)
        }
        IpAddr::V6(source) => {
            let destination = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 1, 0, 0xff);
            frame.extend_from_slice(&[0x86, 0xdd]);
            frame.extend_from_slice(&[0x60 | tos >> 4, tos << 4, 0, 0, 0, 40, protocol, 64]);
            frame.extend_from_slice(&source.octets());
            frame.extend_from_slice(&destination.octets());
            (destination.into(), &[], 80)
        }
    };
    frame.extend_from_slice(&payload);
    let is_known = !network.is_empty();
    let record = FlowRecord {
        source_port,
        destination_port,
        protocol_identifier: protocol,
        ip_class_of_service: tos,
        tcp_control_bits: if protocol == TCP { flags.into() } else { 0 },
        vlan_id: vlan,
        packet_delta_count: 1,
        octet_delta_count: length,
        source_mac_address: SOURCE_MAC,
        destination_mac_address: DESTINATION_MAC,
        bgp_source_as_number: if is_known { 4_200_000_001 } else { 0 },
        source_prefix_length: if is_known { 24 } else { 0 },
        ..FlowRecord::between(source, destination)
    };
    Packet { frame, record, microseconds: START * 1_000_000 + number / 2 * 100_003 }
}

/// Every protocol over IPv4, some over IPv6, and packets that go into one row.
fn packets() -> Vec<Packet> {
    let ipv4 = |host: u8| IpAddr::from([192, 0, 2, host]);
    let ipv6 = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
    let mut packets = Vec::new();
    for protocol in 0..=u8::MAX {
        packets.push(packet(packets.len() as u64, ipv4(protocol), protocol, protocol, 0x02));
    }
    for protocol in [6, 17, 58, 50, 132, 47, 89, 103, 139, 140] {
        packets.push(packet(packets.len() as u64, ipv6(protocol.into()), protocol, 0xb8, 0xda));
    }
    // Two packets at one time are one row with the flags of both.
    packets.push(packet(268, ipv4(250), TCP, 0, 0x10));
    packets.push(packet(269, ipv4(250), TCP, 0, 0x01));
    packets
}

fn write_capture(path: &Path, packets: &[Packet]) {
    use pcap_file::pcap::{PcapPacket, PcapWriter};
    let mut writer = PcapWriter::new(fs::File::create(path).unwrap()).unwrap();
    for Packet { frame, microseconds, .. } in packets {
        let time = Duration::from_micros(*microseconds);
        writer.write_packet(&PcapPacket::new(time, frame.len() as u32, frame)).unwrap();
    }
}

fn pmacctd(directory: &Path, format: &str, key: &str) -> Vec<String> {
    let path = |name: &str| directory.join(name).display().to_string();
    let configuration = [
        "daemonize: false".to_owned(),
        format!("pcap_savefile: {}", path("capture.pcap")),
        "plugins: print".to_owned(),
        format!("aggregate: {key}"),
        format!("print_output: {format}"),
        format!("print_output_file: {}", path(format)),
        "print_output_file_append: true".to_owned(),
        // In the end only.
        "print_refresh_time: 86400".to_owned(),
        format!("networks_file: {}", path("networks")),
        format!("geoipv2_file: {}", path("places")),
        "pmacctd_as: file".to_owned(),
        "pmacctd_net: file".to_owned(),
    ];
    fs::write(path("networks"), "4200000001,192.0.2.0/24\n").unwrap();
    fs::write(path("conf"), configuration.join("\n") + "\n").unwrap();
    let mut child = Command::new("pmacctd")
        .args(["-f", &path("conf")])
        .env("TZ", "UTC")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test needs pmacctd, of Debian's package pmacct");
    let deadline = Instant::now() + Duration::from_mins(1);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("pmacctd did not come to an end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    sorted(&fs::read_to_string(path(format)).expect("pmacctd wrote no file"))
}

fn pathflow(directory: &Path, format: Format, key: &str, packets: &[Packet]) -> Vec<String> {
    let names: Vec<&str> = key.split(',').collect();
    let key = Key::parse(&names).unwrap();
    let primitives = key.primitives.clone();
    let mut aggregation = Aggregation::new(AggregateSettings::new("test", key, Duration::from_mins(1)));
    let geography = Geography::read(&directory.join("places")).unwrap();
    aggregation
        .set_enrichment(&EnrichSettings { geography: Some(geography.into()), ..EnrichSettings::default() });
    for Packet { record, microseconds, .. } in packets {
        let (record, start, end) = (record.clone(), *microseconds, *microseconds);
        let observed = Observed {
            record,
            extension: None,
            inner_tcp_control_bits: 0,
            class: Class::UNKNOWN,
            begins: true,
            start,
            time: start,
            end,
        };
        aggregation.add(&[observed], &mut Spread::default());
    }
    let path = directory.join("pathflow").display().to_string();
    let table = FileTable { path: path.clone(), format, ..FileTable::default() };
    let encode = EncodeSettings::new(&FormatTable::default(), true);
    let settings = FileSettings::new(&table, &encode, &primitives, Duration::from_mins(1), None).unwrap();
    let mut output = FileOutput::new("test", settings, &primitives, true).unwrap();
    output.write(&aggregation.purge(START + 60, None, None));
    sorted(&fs::read_to_string(path).unwrap())
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn compare(name: &str, format: Format, pmacct_format: &str, key: &str) {
    let directory: PathBuf =
        std::env::temp_dir().join(format!("pathflow-pmacctd-{name}-{}", std::process::id()));
    // One may be left of a run that was killed.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    let packets = packets();
    write_capture(&directory.join("capture.pcap"), &packets);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places/write.pl");
    let status = Command::new("perl").arg(script).arg(directory.join("places")).arg("city").status().unwrap();
    assert!(status.success(), "this test needs Debian's package libmaxmind-db-writer-perl");
    let theirs = pmacctd(&directory, pmacct_format, key);
    let ours = pathflow(&directory, format, key, &packets);
    fs::remove_dir_all(&directory).unwrap();
    let without = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter().filter(|line| !others.contains(line)).take(3).cloned().collect()
    };
    assert_eq!(without(&ours, &theirs), without(&theirs, &ours), "ours and not theirs, and the reverse");
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() >= 267);
}

#[test]
fn json_is_that_of_pmacctd() {
    compare("json", Format::Json, "json", &format!("{KEY},{LONG}"));
}

#[test]
fn csv_is_that_of_pmacctd() {
    compare("csv", Format::Csv, "csv", &format!("{KEY},{LONG}"));
}

#[test]
fn columns_are_those_of_pmacctd() {
    compare("formatted", Format::Formatted, "formatted", KEY);
}

#[test]
fn events_are_those_of_pmacctd() {
    compare("event-csv", Format::EventCsv, "event_csv", &format!("{KEY},{LONG}"));
    compare("event-formatted", Format::EventFormatted, "event_formatted", KEY);
}
