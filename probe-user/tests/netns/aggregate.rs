//! Aggregates of the running daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use rustix::time::{ClockId, clock_getres, clock_gettime};
use serde_json::Value;

use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::{flows, sum};
use super::support::network::{CAPTURED, Network};
use super::support::probe::ProbeBuilder;
use super::support::process::Process;
use super::support::report::Figure;
use super::support::temp_dir::TempDir;
use super::support::tool::tool;
use super::support::traffic::{Traffic, replay};
use super::support::wait_for;

/// Traffic over the ends of several bins: nothing is lost, and the sum over bins is the ledger's.
#[test]
fn the_sum_over_bins_is_the_ledger() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(
            "[[aggregate]]\nname = \"bins\"\nkey = [\"src_host\", \"dst_host\", \"proto\", \"in_iface_name\"]\n\
             history = \"2s\"\nrefresh = \"1s\"\nutc = true\n[aggregate.stdout]\n",
        )
        .start();
    let traffic = Traffic { packets: 300_000, flows: 1000, rate: Some(60_000), ..Traffic::default() };
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    traffic.send(&network.sender);
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(end > start + Duration::from_secs(4), "the traffic is to be in three bins");
    let metrics = probe.wait_until("all packets in rows that are written", |metrics| {
        metrics.total("pathflow_aggregate_output_delivered_packets_total") >= traffic.packets
    });
    assert_eq!(metrics.total("pathflow_aggregate_offered_packets_total"), traffic.packets);
    assert_eq!(metrics.total("pathflow_aggregate_lost_packets_total"), 0);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let offered = ended.report.figure("aggregate bins");
    assert_eq!((offered.packets, offered.octets), (traffic.packets, traffic.octets()));
    assert_eq!(ended.report.lost(), Figure::default());

    let rows = flows(&ended.output);
    assert_eq!(sum(&rows, "packets"), traffic.packets);
    assert_eq!(sum(&rows, "bytes"), traffic.octets());
    assert!(rows.iter().all(|row| row["iface_name_in"] == "veth-in"), "{:#}", rows[0]);
    let mut bins: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        *bins.entry(row["stamp_inserted"].to_string()).or_default() += row["packets"].as_u64().unwrap();
    }
    assert!(bins.len() >= 3, "{bins:?}");
    // Bins between the first and the last one have two seconds of even traffic.
    let inner: Vec<u64> = bins.values().copied().skip(1).take(bins.len() - 2).collect();
    assert!(inner.iter().all(|packets| packets.abs_diff(120_000) < 60_000), "{bins:?}");
}

/// A table that is too small is written early; with many purges, nothing is lost.
#[test]
fn a_small_table_is_purged_early() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration(
            "[[aggregate]]\nname = \"small\"\nkey = [\"src_host\", \"src_port\"]\nmax_entries = 500\n\
             [aggregate.stdout]\n",
        )
        .start();
    let traffic = Traffic { packets: 20_000, flows: 5000, rate: Some(20_000), ..Traffic::default() };
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let rows = flows(&ended.output);
    let lost = ended.report.lost_for("table_full");
    assert_eq!(sum(&rows, "packets") + lost.packets, traffic.packets);
    assert_eq!(sum(&rows, "bytes") + lost.octets, traffic.octets());
    assert!(rows.len() > 500, "{} rows", rows.len());
}

fn write_places(file: &Path, kind: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places/write.pl");
    let status = tool("perl").arg(script).arg(file).arg(kind).status().unwrap();
    assert!(status.success(), "this test needs Debian's package libmaxmind-db-writer-perl");
}

/// The data base of places is read again on SIGUSR2, and a damaged one changes nothing.
#[test]
fn places_are_those_of_the_last_file_that_was_right() {
    let network = Network::new();
    let directory = TempDir::new();
    let (capture, places) = (directory.file("frames.pcap"), directory.file("places.mmdb"));
    let frames: Vec<Frame> = [("192.0.2.7", "198.51.100.9"), ("2001:db8::7", "2001:db8:1::9")]
        .map(|(source, destination)| Frame::new(source, destination, Upper::Udp(2222, 53)))
        .into();
    write_capture(&capture, &frames);
    write_places(&places, "city");
    let mut probe = ProbeBuilder::new(&network.router)
        .configuration(&format!(
            "[enrich]\ngeoip_file = \"{}\"\n[[aggregate]]\nname = \"places\"\nrefresh = \"1s\"\n\
             key = [\"src_host_country\", \"dst_host_country\", \"src_host_pocode\", \"src_host_coords\"]\n\
             [aggregate.stdout]\n",
            places.display()
        ))
        .start();
    let mut sent = 0;
    let mut send = |probe: &mut super::support::probe::Probe<'_>| {
        replay(&network.sender, &capture, frames.len());
        sent += frames.len() as u64;
        probe.wait_until("the packets are in rows that are written", |metrics| {
            metrics.total("pathflow_aggregate_output_delivered_packets_total") >= sent
        });
    };
    send(&mut probe);

    write_places(&places, "moved");
    let read = "interfaces are captured by the new settings";
    probe.process().signal(Signal::USR2);
    wait_for("the file is read", || probe.errors(), || probe.errors().contains(read).then_some(()));
    send(&mut probe);

    let whole = fs::read(&places).unwrap();
    fs::write(&places, &whole[..whole.len() / 2]).unwrap();
    probe.process().signal(Signal::HUP);
    let refused =
        format!("enrich.geoip_file: {}: it is not a MaxMind DB file, or damaged: ", places.display());
    wait_for("the file is refused", || probe.errors(), || probe.errors().contains(&refused).then_some(()));
    assert!(probe.errors().contains("the settings stay as they are"), "{}", probe.errors());
    send(&mut probe);

    let ended = probe.terminate();
    ended.report.assert_balanced();
    let mut packets: BTreeMap<String, u64> = BTreeMap::new();
    for row in flows(&ended.output) {
        let place = format!(
            "{} {} {} {} {}",
            row["country_ip_src"],
            row["country_ip_dst"],
            row["pocode_ip_src"],
            row["lat_ip_src"],
            row["lon_ip_src"]
        );
        *packets.entry(place).or_default() += row["packets"].as_u64().unwrap();
    }
    let expected = [
        ("\"AT\" \"DE\" \"1010\" 48.2 16.37", 2),
        ("\"CH\" \"DE\" \"8001\" 47.37 8.54", 1),
        ("\"JP\" \"IS\" \"100-0001\" 35.0 139.69171", 3),
    ];
    assert_eq!(packets, expected.map(|(place, packets)| (place.to_owned(), packets)).into());
}

/// Microseconds of a time such as `1700000000.000111`.
fn microseconds(time: &Value) -> u64 {
    let (seconds, fraction) = time.as_str().and_then(|text| text.split_once('.')).unwrap();
    assert_eq!(fraction.len(), 6, "{time}");
    seconds.parse::<u64>().unwrap() * 1_000_000 + fraction.parse::<u64>().unwrap()
}

/// What one of the kernel's clocks shows, in microseconds.
fn time_of(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Microseconds between two ticks of the kernel: its coarse clock advances by as much.
fn tick() -> u64 {
    clock_getres(ClockId::RealtimeCoarse).tv_nsec as u64 / 1000
}

/// First and last packets of a row, beside the times that pmacctd has of every packet, and those at which they were
/// sent.
#[test]
fn rows_have_the_times_of_their_first_and_last_packets() {
    let network = Network::new();
    let directory = TempDir::new();
    let (stitched, arrivals) = (directory.file("stitched.json"), directory.file("arrivals.json"));
    let configuration = directory.file("pmacctd.conf");
    let text = format!(
        "daemonize: false\npcap_interface: {CAPTURED}\npcap_filter: udp port 9\nplugins: print[a], print[b]\n\
         print_output: json\nprint_refresh_time: 600\nplugin_pipe_size: 10240000\n\
         plugin_buffer_size: 512\ntimestamps_since_epoch: true\npmacctd_stitching[a]: true\n\
         aggregate[a]: src_host\naggregate[b]: src_host, timestamp_arrival\n\
         print_output_file[a]: {}\nprint_output_file[b]: {}\n",
        stitched.display(),
        arrivals.display()
    );
    fs::write(&configuration, text).unwrap();
    let mut pmacctd = Process::start(network.router.command("pmacctd").arg("-f").arg(&configuration));
    pmacctd.wait_for_message("link type is: 1");
    let probe = ProbeBuilder::new(&network.router)
        .configuration(
            "[[aggregate]]\nname = \"a\"\nkey = [\"src_host\"]\nstitching = true\nrefresh = \"1h\"\n\
             format = { timestamps = \"epoch\" }\n[aggregate.stdout]\n",
        )
        .start();
    let frame = Frame::new("203.0.113.5", "198.18.0.9", Upper::Udp(1024, 9)).payload(100);
    let file = directory.file("frames.pcap");
    write_capture(&file, &[frame]);
    // When each packet came: by the clock that the kernel program sees, and by that of pmacctd.
    let (mut ticked, mut passed) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let (coarse, exact) = (time_of(ClockId::RealtimeCoarse), time_of(ClockId::Realtime));
        replay(&network.sender, &file, 1);
        let received = || network.router.received(CAPTURED).0;
        wait_for(
            "the packet",
            || format!("{} received", received()),
            || (received() == number).then_some(()),
        );
        ticked.push(coarse..=time_of(ClockId::RealtimeCoarse));
        // What captures has a packet a moment after it is counted; and the next one comes at a time that is another.
        std::thread::sleep(Duration::from_micros(10 * tick()));
        passed.push(exact..=time_of(ClockId::Realtime));
    }
    // pmacctd hands a packet to its plugins when the next one comes, and forgets the last ones when it ends.
    let others = directory.file("others.pcap");
    write_capture(&others, &[Frame::new("203.0.113.6", "198.18.0.9", Upper::Udp(1024, 9)).payload(100)]);
    for _ in 0..8 {
        replay(&network.sender, &others, 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    let ended = probe.terminate();
    pmacctd.signal(Signal::INT);
    pmacctd.wait();
    let rows = |file| -> Vec<Value> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["ip_src"] == "203.0.113.5").collect()
    };
    let mut arrivals: Vec<u64> =
        rows(&arrivals).iter().map(|row| microseconds(&row["timestamp_arrival"])).collect();
    arrivals.sort_unstable();
    assert_eq!(arrivals.len(), passed.len(), "{arrivals:?}");
    assert!(
        arrivals.iter().zip(&passed).all(|(arrival, passed)| passed.contains(arrival)),
        "{arrivals:?} {passed:?}"
    );
    let ours: Vec<Value> =
        flows(&ended.output).into_iter().filter(|row| row["ip_src"] == "203.0.113.5").collect();
    let [ours] = &ours[..] else { panic!("{}", ended.output) };
    // A slot has a tick, and its table the time of one tick. Counter and clock advance one after the other, and not at
    // the same fraction of a tick: a tick for the reading of both, and one for the difference.
    let near = |time: &Value, came: &RangeInclusive<u64>| {
        (came.start() - 2 * tick()..=came.end() + 2 * tick()).contains(&microseconds(time))
    };
    assert!(near(&ours["timestamp_min"], &ticked[0]), "{ours} {ticked:?}");
    assert!(near(&ours["timestamp_max"], &ticked[2]), "{ours} {ticked:?}");
    // Its first packet is the same; of the last one it has the second in which it looks at it.
    let [theirs] = &rows(&stitched)[..] else { panic!("{}", pmacctd.errors()) };
    assert_eq!(microseconds(&theirs["timestamp_min"]), arrivals[0]);
    assert_eq!(theirs["packets"], ours["packets"]);
    let names = |row: &Value| -> BTreeSet<String> { row.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(theirs), names(ours));
}
