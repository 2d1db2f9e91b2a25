//! Peers that are not ours: OpenSSL takes the connection, libfixbuf and Wireshark read what came.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::peer::{Certificates, Exporter, NAMES, PATIENCE, accept, messages, numbered, octets};
use crate::support::{TempDir, output, program};

/// A port that nothing listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Ends with the test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Waits for the end of a program that ends by itself.
fn wait(child: &mut Guard) {
    let deadline = Instant::now() + PATIENCE;
    while child.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

/// octetDeltaCount of every record that libfixbuf reads, which has to know every template.
fn libfixbuf(file: &std::path::Path) -> Vec<u64> {
    let mut command: Command = program("ipfixDump", "libfixbuf-tools");
    let text = output(command.arg("--in").arg(file));
    let value = |line: &str| {
        let (name, value) = line.trim().split_once(" : ")?;
        name.trim_end().ends_with("octetDeltaCount").then(|| value.trim().parse().unwrap())
    };
    text.lines().filter_map(value).collect()
}

#[test]
fn openssl_takes_the_connection_and_libfixbuf_reads_what_came() {
    let certificates = Certificates::new("openssl");
    for (version, asks) in [("-tls1_2", false), ("-tls1_3", false), ("-tls1_2", true), ("-tls1_3", true)] {
        let port = free_port();
        let (received, log) = (certificates.file("received.ipfix"), certificates.file("s_server.log"));
        let mut command = program("openssl", "openssl");
        command.args(["s_server", "-quiet", "-naccept", "1", version]);
        command.args(["-accept", &format!("127.0.0.1:{port}")]);
        command.arg("-cert").arg(certificates.file("collector.pem"));
        command.arg("-key").arg(certificates.file("collector.key"));
        command.arg("-CAfile").arg(certificates.file("ca.pem"));
        if asks {
            command.args(["-Verify", "1", "-verify_return_error"]);
        }
        // At the end of its input it would close the connection.
        command.stdin(Stdio::piped());
        command.stdout(File::create(&received).unwrap()).stderr(File::create(&log).unwrap());
        let mut server = Guard(command.spawn().unwrap());
        let files = if asks { certificates.identified() } else { certificates.anonymous() };
        let collector = ([127, 0, 0, 1], port).into();
        let mut exporter = Exporter::tls(collector, &files, NAMES[0]);
        exporter.export(&numbered(0..5000));
        let account = exporter.close();
        wait(&mut server);
        let stream = fs::read(&received).unwrap();
        let log = fs::read_to_string(&log).unwrap();
        let seen = octets(&messages(&stream));
        assert_eq!(seen.len(), 5000, "{version}: {log}");
        assert_eq!(libfixbuf(&received), (0..5000).collect::<Vec<u64>>());
        assert_eq!(account.delivered, account.accepted);
    }
}

/// A capture file (pcap, `LINKTYPE_RAW`) with a TCP connection from 127.0.0.1 to port 4739, in `segments`.
fn pcap<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend_from_slice(&0xa1b2_c3d4_u32.to_be_bytes());
    file.extend_from_slice(&[0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend_from_slice(&65_535_u32.to_be_bytes());
    file.extend_from_slice(&101_u32.to_be_bytes());
    // SYN, then data.
    let mut packet = |sequence_number: u32, flags: u8, payload: &[u8]| {
        let length = (40 + payload.len()) as u32;
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(&length.to_be_bytes());
        file.extend_from_slice(&length.to_be_bytes());
        file.extend_from_slice(&[0x45, 0]);
        file.extend_from_slice(&(length as u16).to_be_bytes());
        file.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        file.extend_from_slice(&[0xc0, 0x00, 0x12, 0x83]);
        file.extend_from_slice(&sequence_number.to_be_bytes());
        file.extend_from_slice(&[0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        file.extend_from_slice(payload);
    };
    packet(0, 0x02, &[]);
    let mut sequence_number = 1;
    for segment in segments {
        packet(sequence_number, 0x18, segment);
        sequence_number += segment.len() as u32;
    }
    file
}

#[test]
fn tshark_finds_every_message_in_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = accept(&listener, u64::MAX);
    let mut exporter = Exporter::tcp(listener.local_addr().unwrap());
    exporter.export(&numbered(0..2000));
    exporter.close();
    let stream = collector.join().unwrap();
    let directory = TempDir::new("tshark-tcp");
    let capture = directory.file("stream.pcap");
    // Segments that end anywhere.
    fs::write(&capture, pcap(stream.chunks(1448))).unwrap();
    let mut command = program("tshark", "tshark");
    command.arg("-r").arg(&capture).args(["-d", "tcp.port==4739,cflow", "-T", "fields"]);
    command.args(["-E", "separator=|", "-E", "aggregator=,"]);
    for field in ["cflow.octets", "cflow.sequence", "_ws.malformed", "cflow.no_template_found"] {
        command.args(["-e", field]);
    }
    let text = output(&mut command);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    let list = |column: usize| -> Vec<u64> {
        let values = rows.iter().flat_map(|row| row[column].split(','));
        values.filter(|value| !value.is_empty()).map(|value| value.parse().unwrap()).collect()
    };
    assert_eq!(list(0), (0..2000).collect::<Vec<u64>>());
    let sequence_numbers: Vec<u64> =
        messages(&stream).iter().map(|message| message.sequence_number.into()).collect();
    assert_eq!(list(1), sequence_numbers);
    assert!(rows.iter().all(|row| row[2].is_empty() && row[3].is_empty()), "{text}");
}
