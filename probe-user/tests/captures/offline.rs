//! `pathflow replay`: captures as files and as streams, through the pipeline, without the kernel.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use pathflow_common::bytes::SliceFrame;
use pcap_file::{Endianness, TsResolution};
use serde_json::Value;

use crate::corpus::{Capture, corpus};
use crate::file::{self, Packet};
use crate::host::{Fate, FlowTotal, Host, Totals, VXLAN_PORTS, View};
use crate::replay::{Identity, flows_of, flows_of_json};
use crate::say;
use crate::scratch::Scratch;

/// Packets and octets, first and last time (RFC 3339) of what is in flows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    packets: u64,
    octets: u64,
    first: Option<String>,
    last: Option<String>,
}

fn replay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathflow"));
    command.args(["replay", "--json"]);
    command
}

fn printed(output: &Output) -> Sum {
    let mut sum = Sum::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let flow: Value = serde_json::from_str(line).unwrap();
        let time = |name: &str| flow[name].as_str().map(str::to_owned);
        sum.packets += flow["packet_delta_count"].as_u64().unwrap();
        sum.octets += flow["octet_delta_count"].as_u64().unwrap();
        sum.first = sum.first.into_iter().chain(time("flow_start")).min();
        sum.last = sum.last.max(time("flow_end"));
    }
    sum
}

/// What is to be printed. Fragments have the ports of their first one, before or after them.
fn expected<'a>(
    packets: impl Iterator<Item = &'a Packet>,
    view: View,
) -> (Sum, BTreeMap<Identity, FlowTotal>) {
    let mut sum = Sum::default();
    let (host, mut totals) = (Host::new(view), Totals::default());
    for packet in packets {
        let frame = SliceFrame::captured(&packet.octets, packet.wire_length);
        let fate = host.fate_at(&frame, 0, packet.time);
        totals.add(fate, 0);
        if let Fate::Flow { facts, .. } = fate {
            let time = Some(rfc3339(packet.time));
            sum.packets += 1;
            sum.octets += u64::from(facts.octets);
            sum.first = sum.first.into_iter().chain(time.clone()).min();
            sum.last = sum.last.max(time);
        }
    }
    host.resolve(&mut totals);
    (sum, flows_of(&totals))
}

/// Milliseconds of a time in nanoseconds since 1970 (Howard Hinnant's days-to-civil rule).
fn rfc3339(time: u64) -> String {
    let (milliseconds, seconds) = (time / 1_000_000 % 1000, time / 1_000_000_000);
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

fn check(name: &str, path: &Path, packets: &[Packet], scratch: &Scratch) {
    for (view, tunnels) in [(View::Outer, "outer"), (View::Inner, "inner")] {
        let configuration = scratch.file("pathflow.toml");
        let text = format!("[capture]\ntunnels = \"{tunnels}\"\nvxlan_ports = {VXLAN_PORTS:?}\n");
        fs::write(&configuration, text).unwrap();
        let output = replay().arg("-c").arg(&configuration).arg(path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        assert!(
            errors.contains("ledger: every packet and every record is accounted for"),
            "{name}: {errors}"
        );
        let (sum, flows) = expected(packets.iter(), view);
        assert_eq!(printed(&output), sum, "{name}: {errors}");
        let interface = path.display().to_string();
        let printed = flows_of_json(&String::from_utf8_lossy(&output.stdout), &interface);
        assert_eq!(printed, flows, "{name}, {view:?}");
    }
}

#[test]
fn every_file_gives_the_flows_that_the_parser_finds_in_it() {
    let whole =
        |capture: &&Capture| capture.fault.is_none() && capture.packets.iter().all(Packet::is_ethernet);
    let scratch = Scratch::new("offline-files");
    let mut checked = 0;
    for capture in corpus().captures.iter().filter(whole) {
        if let Some(path) = &capture.path {
            check(&capture.name, path, &capture.packets, &scratch);
            checked += 1;
        }
    }
    say(&format!("pathflow replay: {checked} files"));
}

#[test]
fn every_form_of_a_file_gives_the_same_flows() {
    let scratch = Scratch::new("offline");
    let path = scratch.file("capture");
    let mut checked = 0;
    for capture in corpus().captures.iter().filter(|capture| capture.path.is_none()) {
        let packets: Vec<Packet> = capture.ethernet().cloned().collect();
        if packets.is_empty() {
            continue;
        }
        for order in [Endianness::Little, Endianness::Big] {
            for resolution in [TsResolution::MicroSecond, TsResolution::NanoSecond] {
                fs::write(&path, file::pcap(&packets, order, resolution)).unwrap();
                check(&capture.name, &path, &packets, &scratch);
            }
            fs::write(&path, file::pcapng(&packets, order)).unwrap();
            check(&capture.name, &path, &packets, &scratch);
            checked += 1;
        }
    }
    assert!(checked >= 20, "{checked}");
}

#[test]
fn a_stream_that_comes_in_pieces_is_read_to_its_end_and_a_cut_is_said() {
    let own = corpus().captures.iter().find(|capture| capture.ethernet().count() > 50).unwrap();
    let packets: Vec<Packet> = own.ethernet().cloned().collect();
    let file = file::pcap(&packets, Endianness::Little, TsResolution::NanoSecond);
    for (octets, is_whole) in [(&file[..], true), (&file[..file.len() - 3], false)] {
        let mut child = replay()
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for piece in octets.chunks(777) {
            stdin.write_all(piece).unwrap();
            stdin.flush().unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let whole_packets = if is_whole { packets.len() } else { packets.len() - 1 };
        assert_eq!(output.status.code(), Some(i32::from(!is_whole)), "{errors}");
        assert_eq!(errors.contains("cut short after packet"), !is_whole, "{errors}");
        let (sum, _) = expected(packets[..whole_packets].iter(), View::Outer);
        assert_eq!(printed(&output), sum);
    }
}

#[test]
fn what_is_not_a_capture_is_refused() {
    let scratch = Scratch::new("no-capture");
    for (name, octets) in [("empty", &b""[..]), ("text", &b"root:x:0:0:root:/root:/bin/bash\n"[..])] {
        let path = scratch.file(name);
        fs::write(&path, octets).unwrap();
        let output = replay().arg(&path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert_eq!(errors, format!("pathflow: {}: neither a pcap nor a pcapng file\n", path.display()));
    }
}

/// Damage of any kind ends the reading, never the process.
#[test]
fn damaged_files_do_not_bring_it_down() {
    let scratch = Scratch::new("damaged");
    let path = scratch.file("capture");
    let own = corpus().captures.iter().find(|capture| capture.ethernet().count() > 50).unwrap();
    let packets: Vec<Packet> = own.ethernet().cloned().collect();
    let forms = [
        file::pcap(&packets, Endianness::Little, TsResolution::MicroSecond),
        file::pcapng(&packets, Endianness::Big),
    ];
    for form in forms {
        for position in (0..400.min(form.len())).step_by(7) {
            let mut damaged = form.clone();
            damaged[position] ^= 0xff;
            fs::write(&path, &damaged).unwrap();
            let output = replay().arg(&path).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0..=2)), "octet {position}: {errors}");
            assert!(
                !errors.contains("panicked") && !errors.contains("DOES NOT BALANCE"),
                "octet {position}: {errors}"
            );
        }
    }
}

/// A pcapng file of one UDP packet at each of `stamps`, in units of 10 to the power of -`resolution` seconds.
fn stamped(resolution: u8, stamps: &[u64]) -> Vec<u8> {
    let word = |value: u32| value.to_le_bytes().to_vec();
    let block = |kind: u32, body: Vec<u8>| {
        let length = word(body.len() as u32 + 12);
        [word(kind), length.clone(), body, length].concat()
    };
    let section = [word(0x1a2b_3c4d), word(1), word(u32::MAX), word(u32::MAX)].concat();
    let option = vec![9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0];
    let mut file = [block(0x0a0d_0d0a, section), block(1, [word(1), word(0), option].concat())].concat();
    let mut frame = vec![0; 60];
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    frame[17] = 46;
    frame[23] = 17;
    for stamp in stamps {
        let header = [word(0), word((stamp >> 32) as u32), word(*stamp as u32), word(60), word(60)].concat();
        file.extend(block(6, [header, frame.clone()].concat()));
    }
    file
}

#[test]
fn time_stamps_that_cannot_be_do_no_harm() {
    let scratch = Scratch::new("stamps");
    let path = scratch.file("capture");
    for (resolution, stamps) in [
        (0, vec![1 << 40, 1_700_000_000, u64::MAX]),
        (6, vec![9_300_000_000_000_000, 1_700_000_000_000_000]),
        (6, vec![16_000_000_000_000_000, 1_700_000_000_000_000, 0]),
        (9, vec![u64::MAX, i64::MAX as u64, i64::MAX as u64 + 1, 0, 1]),
        (127, vec![u64::MAX, 0]),
    ] {
        fs::write(&path, stamped(resolution, &stamps)).unwrap();
        let output = replay().arg(&path).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!errors.contains("panicked"), "{resolution} {stamps:?}: {errors}");
        if output.status.success() {
            let sum = printed(&output);
            assert_eq!(sum.packets, stamps.len() as u64, "{resolution} {stamps:?}: {errors}");
            assert!(sum.first <= sum.last, "{sum:?}");
        } else {
            assert_eq!(output.status.code(), Some(1), "{resolution} {stamps:?}: {errors}");
        }
    }
}
