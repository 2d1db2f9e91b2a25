//! tshark as an outside decoder of what the tests' BMP encoder makes, so that encoder and decoder cannot be wrong in the
//! same way.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use pathflow_bgp::RouteDistinguisher;
use pathflow_bgp::bmp::wire::{MessageType, PeerHeader, PeerKind, RibKind, encode};

/// Rows of `fields` of one TCP segment with these octets. Values of one field are joined by commas.
fn tshark(name: &str, octets: &[u8], fields: &[&str]) -> Vec<String> {
    let capture = env::temp_dir().join(format!("pathflow-bmp-{}-{name}.pcap", process::id()));
    let mut text2pcap = Command::new("text2pcap")
        .args(["-q", "-T", "40000,1790", "-"])
        .arg(&capture)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("text2pcap (Debian package wireshark-common) has to be installed");
    let mut stdin = text2pcap.stdin.take().unwrap();
    for (line, chunk) in octets.chunks(16).enumerate() {
        let hex: Vec<_> = chunk.iter().map(|octet| format!("{octet:02x}")).collect();
        writeln!(stdin, "{:06x} {}", line * 16, hex.join(" ")).unwrap();
    }
    drop(stdin);
    assert!(text2pcap.wait().unwrap().success());
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&capture).args(["-d", "tcp.port==1790,bmp", "-T", "fields", "-E", "separator=;"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark has to be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(&capture).unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().split(';').map(str::to_owned).collect()
}

fn header() -> PeerHeader {
    PeerHeader {
        kind: PeerKind::Rd,
        rib: RibKind::AdjRibInPostPolicy,
        two_octet_as_path: true,
        filtered: false,
        distinguisher: RouteDistinguisher([0, 0, 0xfd, 0xe8, 0, 0, 0, 1]),
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
        as_number: 65_536,
        bgp_identifier: Ipv4Addr::new(10, 0, 0, 1),
        timestamp_seconds: 1_700_000_000,
        timestamp_microseconds: 5,
    }
}

fn bgp(message_type: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend((19 + body.len() as u16).to_be_bytes());
    octets.push(message_type);
    octets.extend(body);
    octets
}

#[test]
fn tshark_reads_the_per_peer_header_and_its_flags() {
    let update = bgp(2, &[0, 3, 16, 10, 7, 0, 0]);
    let mut octets = Vec::new();
    encode::peer_message(MessageType::RouteMonitoring, &header(), &update, &mut octets);
    let fields = [
        "bmp.version",
        "bmp.type",
        "bmp.length",
        "bmp.peer.type",
        "bmp.peer.flags",
        "bmp.peer.ip.addr",
        "bmp.peer.asn",
        "bmp.peer.id",
        "bmp.peer.timestamp.sec",
        "bmp.peer.timestamp.msec",
        "bgp.type",
        "bgp.withdrawn_prefix",
        "_ws.malformed",
    ];
    let expected = [
        "3",
        "0",
        "74",
        "1",
        "0x60",
        "192.0.2.1",
        "65536",
        "10.0.0.1",
        "1700000000",
        "5",
        "2",
        "10.7.0.0",
        "",
    ];
    assert_eq!(tshark("monitoring", &octets, &fields), expected);

    let ipv6: IpAddr = "2001:db8::1".parse().unwrap();
    let ipv6 =
        PeerHeader { kind: PeerKind::Global, rib: RibKind::AdjRibOutPrePolicy, address: ipv6, ..header() };
    let loc_rib = PeerHeader {
        kind: PeerKind::LocRib,
        rib: RibKind::LocRib,
        two_octet_as_path: false,
        filtered: true,
        address: Ipv4Addr::UNSPECIFIED.into(),
        ..header()
    };
    // This tshark takes the F flag for V and shows the unspecified address as one of version 6.
    for (peer, expected) in [(ipv6, ["0", "0xb0", "2001:db8::1"]), (loc_rib, ["3", "0x80", "::"])] {
        let mut octets = Vec::new();
        encode::peer_message(MessageType::PeerDown, &peer, &[4], &mut octets);
        let fields = ["bmp.peer.type", "bmp.peer.flags", "bmp.peer.ipv6.addr", "bmp.peer.down.reason"];
        let found = tshark("flags", &octets, &fields);
        assert_eq!(found[..3], expected);
        assert_eq!(found[3], "4");
    }
}

#[test]
fn tshark_reads_what_stands_behind_it() {
    let open = |as_number: u16| {
        let [high, low] = as_number.to_be_bytes();
        bgp(1, &[4, high, low, 0, 90, 10, 0, 0, 1, 0])
    };
    let mut octets = Vec::new();
    let local = (Ipv4Addr::new(192, 0, 2, 254).into(), 179);
    encode::peer_up(&header(), local, 50_000, [&open(64_500), &open(64_501)], &[], &mut octets);
    let fields = [
        "bmp.peer.up.ip.addr",
        "bmp.peer.up.port.local",
        "bmp.peer.up.port.remote",
        "bgp.open.myas",
        "_ws.malformed",
    ];
    assert_eq!(tshark("up", &octets, &fields), ["192.0.2.254", "179", "50000", "64500,64501", ""]);

    let mut report = vec![0, 0, 0, 2];
    encode::tlv(0, &[0, 0, 0, 9], &mut report);
    encode::tlv(7, &[0, 0, 0, 1, 0, 0, 0, 2], &mut report);
    let mut octets = Vec::new();
    encode::peer_message(MessageType::StatisticsReport, &header(), &report, &mut octets);
    let fields = [
        "bmp.stats.count",
        "bmp.stats.type",
        "bmp.stats.data.prefix_rej",
        "bmp.stats.data.routes_adj_rib_in",
        "_ws.malformed",
    ];
    assert_eq!(tshark("statistics", &octets, &fields), ["2", "0,7", "9", "4294967298", ""]);

    let mut tlvs = Vec::new();
    encode::tlv(2, b"router", &mut tlvs);
    encode::tlv(1, b"a test", &mut tlvs);
    let mut octets = Vec::new();
    encode::message(MessageType::Initiation, &tlvs, &mut octets);
    let fields = ["bmp.init.type", "bmp.init.length", "bmp.init.info", "_ws.malformed"];
    assert_eq!(tshark("initiation", &octets, &fields), ["2,1", "6,6", "router,a test", ""]);
}
