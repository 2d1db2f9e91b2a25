//! Settings that are changed by SIGHUP while packets are counted.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::Value;

use super::support::json::{flows, sum};
use super::support::kafka::{BROKER, Kafka};
use super::support::network::{COLLECTOR_IPV4, COLLECTOR_SFLOW, Network};
use super::support::nfcapd::{Collected, Nfcapd};
use super::support::probe::{Probe, ProbeBuilder};
use super::support::report::Figure;
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::Traffic;
use super::support::wait_for;

const READ: &str = "interfaces are captured by the new settings";
/// How long packets come in between two changes.
const PHASE: Duration = Duration::from_millis(700);

/// Has another file read, and waits until that was done.
pub(crate) fn reload(probe: &Probe<'_>, configuration: &str) {
    let before = probe.errors().matches(READ).count();
    probe.reload(configuration);
    wait_for(
        "settings are read",
        || probe.errors(),
        || (probe.errors().matches(READ).count() > before).then_some(()),
    );
}

fn aggregate(name: &str, settings: &str) -> String {
    format!("[[aggregate]]\nname = \"{name}\"\n{settings}\n")
}

fn to_file(directory: &TempDir, name: &str) -> String {
    format!("[aggregate.file]\npath = \"{}-%Y%m%d.json\"", directory.file(name).display())
}

/// Rows of all files whose names begin so.
fn rows_of(directory: &TempDir, name: &str) -> Vec<Value> {
    let prefix = directory.file(name);
    let (folder, prefix) = (prefix.parent().unwrap(), prefix.file_name().unwrap().to_str().unwrap());
    let is_wanted = |file: &Path| file.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|file| is_wanted(file)).flat_map(|file| flows(&fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn aggregates_begin_change_and_end_under_traffic() {
    let network = Network::new();
    let directory = TempDir::new();
    let steady = aggregate("steady", "key = [\"src_host\"]\nrefresh = \"1s\"\n[aggregate.stdout]");
    let always =
        |settings: &str| aggregate("always", &format!("{settings}\n{}", to_file(&directory, "always")));
    let passing = aggregate(
        "passing",
        &format!("key = [\"src_host\"]\nrefresh = \"1s\"\n{}", to_file(&directory, "passing")),
    );
    let kept = |refresh: &str| {
        aggregate("kept", &format!("key = [\"proto\"]\nrefresh = \"{refresh}\"\n[aggregate.memory]"))
    };
    let first =
        [&steady, &always("key = [\"src_host\"]\nrefresh = \"1s\""), &passing].map(String::as_str).concat();
    let wider = always("key = [\"src_host\", \"src_port\"]\nrefresh = \"1s\"");
    let second = [&wider, &steady, &kept("1s")].map(String::as_str).concat();
    let third = [&kept("2s"), &passing, &always("key = [\"in_iface\"]\nrefresh = \"3s\""), &steady]
        .map(String::as_str)
        .concat();
    let probe = ProbeBuilder::new(&network.router).configuration(&first).start();

    let traffic = Traffic { packets: 240_000, flows: 500, rate: Some(30_000), ..Traffic::default() };
    thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send(&network.sender));
        thread::sleep(PHASE);
        reload(&probe, &second);
        thread::sleep(PHASE);
        reload(&probe, &third);
        thread::sleep(PHASE);
        // The same once more: nobody begins anew.
        reload(&probe, &third);
        thread::sleep(PHASE);
        // What is wrong changes nothing.
        probe.reload(&third.replace("in_iface", "in_ifcae"));
        wait_for(
            "the file is refused",
            || probe.errors(),
            || probe.errors().contains("the settings stay as they are").then_some(()),
        );
        // Neither does what would need another kernel program, and it is said why.
        for (text, why) in [
            (
                "key = [\"src_host\"]\nfilter = \"udp port 9\"",
                "aggregate new: filter: \"udp port 9\" is not one that packets are asked since the start: it needs \
                 a restart; all aggregates stay as they are",
            ),
            (
                "key = [\"cos\"]",
                "aggregate new: key: packets are told apart by \"cos\" only if an aggregate has it at the start: it \
                 needs a restart; all aggregates stay as they are",
            ),
        ] {
            let new = aggregate("new", &format!("{text}\n[aggregate.memory]"));
            reload(&probe, &format!("{new}{steady}"));
            assert!(probe.errors().contains(why), "{}", probe.errors());
        }
        thread::sleep(PHASE);
        reload(&probe, &first);
        reload(&probe, &second);
        sender.join().unwrap();
    });

    let delivered = |name: &str| {
        let name = [("aggregate", name)];
        probe.metrics().sum("pathflow_aggregate_output_delivered_packets_total", &name)
    };
    for name in ["steady", "always"] {
        wait_for(
            "all rows are written",
            || format!("{} of {name}: {}", delivered(name), probe.errors()),
            || (delivered(name) == traffic.packets).then_some(()),
        );
    }
    let metrics = probe.metrics();
    let offered =
        |name: &str| metrics.sum("pathflow_aggregate_offered_packets_total", &[("aggregate", name)]);
    assert_eq!((offered("steady"), offered("always")), (traffic.packets, traffic.packets));
    // One series for each name, whatever it was before.
    let mut names: Vec<&str> = metrics
        .family("pathflow_aggregate_offered_packets_total")
        .iter()
        .map(|(labels, _)| labels["aggregate"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["always", "kept", "passing", "steady"]);
    let summed = |name: &str| -> Value {
        serde_json::from_str(&output(&mut probe.ask(&["rows", name, "--sum", "--json"]))).unwrap()
    };
    let last = summed("kept")["all"][1].as_u64().unwrap();
    let gone = probe.ask(&["rows", "passing"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));

    let ended = probe.terminate();
    let (report, text) = (&ended.report, ended.report.text());
    report.assert_balanced();
    assert_eq!((report.received().packets, report.lost()), (traffic.packets, Figure::default()), "{text}");
    assert_eq!(report.figure("aggregate always").packets, traffic.packets, "{text}");
    assert_eq!(sum(&flows(&ended.output), "packets"), traffic.packets, "{text}");
    let always = rows_of(&directory, "always");
    assert_eq!(sum(&always, "packets"), traffic.packets, "{text}");
    assert_eq!(sum(&always, "bytes"), traffic.octets(), "{text}");
    // Each of the three keys has been there.
    for key in ["ip_src", "port_src", "iface_in"] {
        assert!(always.iter().any(|row| !row[key].is_null()), "{key}: {text}");
    }
    let passing = report.figure("aggregate passing").packets;
    assert_eq!(sum(&rows_of(&directory, "passing"), "packets"), passing, "{text}");
    assert!(passing > 0 && passing < traffic.packets, "{text}");
    // Rows in memory went on through the change of the time between purges, and began anew after the end.
    let kept = report.figure("aggregate kept").packets;
    assert!(last > 0 && last < kept, "{last} {text}");
    for (line, times) in [
        ("aggregate steady begins anew", 0),
        ("aggregate always begins anew", 4),
        ("aggregate passing ends", 2),
        ("aggregate kept begins anew", 1),
        ("aggregate kept ends", 1),
        ("aggregate new", 2),
    ] {
        assert_eq!(text.matches(line).count(), times, "{line}: {text}");
    }
}

/// Without aggregates at the start there is nothing to ask; with the first one there is.
#[test]
fn the_first_aggregate_comes_later() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router).configuration("[export]\nstdout = \"none\"\n").start();
    let traffic = Traffic { packets: 500, flows: 10, ..Traffic::default() };
    let memory = "[export]\nstdout = \"none\"\n[[aggregate]]\nname = \"late\"\nkey = [\"src_host\"]\n\
                  refresh = \"1s\"\n[aggregate.memory]\n";
    reload(&probe, memory);
    traffic.send(&network.sender);
    let text = || output(&mut probe.ask(&["rows", "--sum"]));
    let expected = format!("{} packets, {} octets", traffic.packets, traffic.octets());
    wait_for("all rows", text, || text().contains(&expected).then_some(()));
    // What is wanted of exports is said, and aggregates change all the same.
    let other = "[export]\nstdout = \"json\"\n[flow]\nmax_flows = 77\n[[aggregate]]\nname = \"next\"\n\
                 key = [\"dst_host\"]\nrefresh = \"1s\"\n[aggregate.memory]\n";
    reload(&probe, other);
    let said = "flow.max_flows, export.stdout: a change needs a restart; what holds since the start goes on";
    assert!(probe.errors().contains(said), "{}", probe.errors());
    assert!(text().starts_with("0 rows"), "{}", text());
    probe.terminate().report.assert_balanced();
}

/// The producer, the spool and what is in it go over to the aggregate as it is now.
#[test]
fn an_aggregate_to_kafka_changes_with_and_without_a_broker() {
    let network = Network::new();
    let mut kafka = Kafka::start(&network.router);
    let directory = TempDir::new();
    let configuration = |key: &str, topic: &str| {
        format!(
            "[[aggregate]]\nname = \"to-kafka\"\nkey = [{key}]\nrefresh = \"1s\"\n[aggregate.kafka]\n\
             brokers = [\"{BROKER}\"]\ntopic = \"{topic}\"\nspool = \"{}\"\n",
            directory.file("spool").display()
        )
    };
    let probe =
        ProbeBuilder::new(&network.router).configuration(&configuration("\"src_host\"", "one")).start();
    let traffic = Traffic { packets: 240_000, flows: 50, rate: Some(12_000), ..Traffic::default() };
    thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send(&network.sender));
        thread::sleep(2 * PHASE);
        reload(&probe, &configuration("\"src_port\"", "one"));
        thread::sleep(2 * PHASE);
        reload(&probe, &configuration("\"src_port\"", "two"));
        thread::sleep(2 * PHASE);
        kafka.kill();
        thread::sleep(3 * PHASE);
        reload(&probe, &configuration("\"dst_port\", \"src_host\"", "two"));
        thread::sleep(3 * PHASE);
        reload(&probe, &configuration("\"src_host\"", "two"));
        sender.join().unwrap();
    });
    kafka.start_again();
    let metrics = probe.wait_until("all rows are confirmed", |metrics| {
        metrics.total("pathflow_aggregate_output_delivered_packets_total") == traffic.packets
    });
    assert_eq!(metrics.total("pathflow_aggregate_output_spooled_packets"), 0);
    let ended = probe.terminate();
    let text = ended.report.text();
    ended.report.assert_balanced();
    assert_eq!(ended.report.lost(), Figure::default(), "{text}");
    let topics = ["one", "two"].map(|topic| sum(&flows(&kafka.messages(topic)), "packets"));
    assert_eq!(topics.iter().sum::<u64>(), traffic.packets, "{topics:?} {text}");
    assert!(topics.iter().all(|packets| *packets > 0), "{topics:?} {text}");
}

/// Another collector beside the usual one.
fn collector(port: u16) -> SocketAddr {
    SocketAddr::new(COLLECTOR_IPV4.ip(), port)
}

/// Flows end soon, and templates are sent once.
const SHORT_FLOWS: &str = "[flow]\nactive_timeout = \"500ms\"\nidle_timeout = \"300ms\"\n\
                           [export]\nstdout = \"none\"\ntemplate_interval = \"1h\"\ntemplate_messages = 100000\n";

fn export(collector: SocketAddr, settings: &str) -> String {
    format!("[[export.process]]\ncollectors = [\"{collector}\"]\n{settings}")
}

/// Every record is for the collector of before or for that of after, and the one that stays notices nothing.
#[test]
fn exports_begin_change_and_end_under_traffic() {
    let network = Network::new();
    let steady = Nfcapd::start(&network, COLLECTOR_IPV4);
    let moving = [2055, 9996].map(|port| Nfcapd::start(&network, collector(port)));
    let with = |settings: &str| format!("{SHORT_FLOWS}{}{settings}", export(COLLECTOR_IPV4, ""));
    let to = |port: u16, more: &str| export(collector(port), &format!("format = \"netflow-v9\"\n{more}"));
    let [first, second] = [2055, 9996].map(|port| with(&to(port, "")));
    let other_domain = with(&to(9996, "observation_domain_id = 7\n"));
    let probe = ProbeBuilder::new(&network.router).configuration(&first).start();

    let traffic = Traffic { packets: 240_000, flows: 500, rate: Some(30_000), ..Traffic::default() };
    thread::scope(|scope| {
        let sender = scope.spawn(|| traffic.send(&network.sender));
        for settings in [&second, &other_domain, &other_domain] {
            thread::sleep(PHASE);
            reload(&probe, settings);
        }
        // What is wrong changes nothing, nor does what cannot be.
        probe.reload(&second.replace("netflow-v9", "netflow-v8"));
        wait_for(
            "the file is refused",
            || probe.errors(),
            || probe.errors().contains("the settings stay as they are").then_some(()),
        );
        for (more, why) in [
            ("filter = \"udp port 9\"\n", "is not one that exports ask since the start: it needs a restart"),
            ("source_address = \"203.0.113.99\"\n", "203.0.113.99"),
        ] {
            reload(&probe, &format!("{}{}", with(&to(2055, more)), export(collector(2056), "")));
            let said = probe.errors();
            let line = said.lines().find(|line| line.contains(why)).expect(&said);
            assert!(line.ends_with("all exports stay as they are"), "{line}");
        }
        thread::sleep(PHASE);
        reload(&probe, &first);
        thread::sleep(PHASE);
        reload(&probe, &second);
        sender.join().unwrap();
    });

    let ended = probe.terminate();
    let (report, text) = (&ended.report, ended.report.text());
    report.assert_balanced();
    assert_eq!((report.received().packets, report.lost()), (traffic.packets, Figure::default()), "{text}");
    let steady = steady.stop(&network);
    assert_eq!((steady.packets(), steady.octets()), (traffic.packets, traffic.octets()), "{text}");
    steady.assert_in_sequence();
    // From one socket, and templates once.
    let fields = ["udp.dstport", "udp.srcport", "cflow.template_id"];
    let (mut sources, mut templates) = (BTreeSet::new(), Vec::new());
    for datagram in steady.capture().datagrams(&fields) {
        if datagram[0] == ["4739"] {
            sources.extend(datagram[1].clone());
            templates.extend(datagram[2].clone());
        }
    }
    assert_eq!(sources.len(), 1, "{text}");
    let distinct: BTreeSet<&String> = templates.iter().collect();
    assert_eq!(distinct.len(), templates.len(), "{templates:?}");

    let moving = moving.map(|nfcapd| nfcapd.stop(&network));
    for (collected, port) in moving.iter().zip([2055, 9996]) {
        let name = format!("netflow-v9 to 192.0.2.2:{port}");
        let exported = report.figure(&format!("{name}: exported"));
        assert_eq!((collected.packets(), collected.octets()), (exported.packets, exported.octets), "{text}");
        let missed = report.figure(&format!("{name}: made while it was not there"));
        assert_eq!(exported.packets + missed.packets, traffic.packets, "{text}");
        assert!(exported.packets > 0 && missed.packets > 0, "{text}");
    }
    let packets: u64 = moving.iter().map(Collected::packets).sum();
    assert_eq!(packets, traffic.packets, "{text}");
    for (line, times) in [
        ("export of ipfix", 0),
        ("export of netflow-v9 to 192.0.2.2:2055 ends", 2),
        ("export of netflow-v9 to 192.0.2.2:9996 ends", 1),
        ("export of netflow-v9 to 192.0.2.2:9996 begins anew with other settings", 1),
        ("192.0.2.2:2056", 0),
    ] {
        assert_eq!(text.matches(line).count(), times, "{line}: {text}");
    }
}

/// One of several collectors goes, and the others keep what they have; then all go, and one comes back.
#[test]
fn one_of_several_collectors_goes() {
    let network = Network::new();
    let collectors = [COLLECTOR_IPV4, collector(2055)];
    let [stays, goes] = collectors.map(|collector| Nfcapd::start(&network, collector));
    let with =
        |collectors: &str| format!("{SHORT_FLOWS}format = \"netflow-v9\"\ncollectors = [{collectors}]\n");
    let [stays_text, goes_text] = collectors.map(|collector| format!("\"{collector}\""));
    let both = with(&format!("{goes_text}, {stays_text}"));
    let probe = ProbeBuilder::new(&network.router).configuration(&both).start();
    let traffic = Traffic { packets: 1000, flows: 10, ..Traffic::default() };
    let sent = |probe: &Probe<'_>, collector: SocketAddr, packets: u64| {
        let labels = [("destination", collector.to_string())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        probe.wait_until("records are sent", |metrics| {
            metrics.sum("pathflow_exported_packets_total", &labels) == packets
        });
    };
    traffic.send(&network.sender);
    for collector in &collectors {
        sent(&probe, *collector, traffic.packets);
    }
    reload(&probe, &with(&stays_text));
    traffic.send(&network.sender);
    sent(&probe, COLLECTOR_IPV4, 2 * traffic.packets);
    reload(&probe, &with(""));
    traffic.send(&network.sender);
    probe.wait_until("records are made", |metrics| {
        metrics.total("pathflow_recorded_packets_total") == 3 * traffic.packets
    });
    reload(&probe, &both);
    traffic.send(&network.sender);
    let ended = probe.terminate();
    let text = ended.report.text();
    ended.report.assert_balanced();
    assert_eq!(ended.report.lost(), Figure::default(), "{text}");
    let [stays, goes] = [stays, goes].map(|nfcapd| nfcapd.stop(&network));
    assert_eq!((stays.packets(), goes.packets()), (3 * traffic.packets, 2 * traffic.packets), "{text}");
    // The one that stayed began anew once, after all had gone.
    let mut sources: Vec<Vec<String>> = stays
        .capture()
        .datagrams(&["udp.dstport", "udp.srcport"])
        .into_iter()
        .filter(|datagram| datagram[0] == ["4739"])
        .map(|mut datagram| datagram.remove(1))
        .collect();
    sources.dedup();
    assert_eq!(sources.len(), 2, "{sources:?}");
}

/// Collectors of sFlow come and go, and one that stays has no gap.
#[test]
fn collectors_of_sflow_come_and_go() {
    let network = Network::new();
    let other = SocketAddr::new(COLLECTOR_SFLOW.ip(), 6344);
    let [stays, comes] = [COLLECTOR_SFLOW, other].map(|collector| Nfcapd::start_sflow(&network, collector));
    let with = |collectors: &[SocketAddr], more: &str| {
        let collectors: Vec<String> = collectors.iter().map(|collector| format!("\"{collector}\"")).collect();
        format!(
            "[capture]\nheader_sampling_interval = 1\n[export]\nstdout = \"none\"\n[sflow]\n{more}collectors = [{}]\n",
            collectors.join(", ")
        )
    };
    let probe = ProbeBuilder::new(&network.router).configuration(&with(&[COLLECTOR_SFLOW], "")).start();
    let traffic = Traffic { packets: 2000, flows: 10, rate: Some(4000), ..Traffic::default() };
    // Packets that the collectors are to have been sent.
    let (mut of_first, mut of_other) = (0, 0);
    let mut send = |to_first: bool, to_other: bool| {
        traffic.send(&network.sender);
        of_first += u64::from(to_first) * traffic.packets;
        of_other += u64::from(to_other) * traffic.packets;
        let sent = of_first + of_other;
        probe.wait_until("samples are sent", |metrics| {
            metrics.sum("pathflow_sflow_exported_samples_total", &[("kind", "flow")]) == sent
        });
    };
    send(true, false);
    reload(&probe, &with(&[COLLECTOR_SFLOW, other], ""));
    send(true, true);
    reload(&probe, &with(&[COLLECTOR_SFLOW], ""));
    send(true, false);
    // An address that is not ours changes nothing.
    reload(&probe, &with(&[other], "source_address = \"203.0.113.99\"\n"));
    let said = probe.errors();
    assert!(said.lines().any(|line| line.ends_with("sFlow stays as it is")), "{said}");
    send(true, false);
    let text = probe.terminate().report.text().to_owned();
    let [first, second] = [stays, comes].map(|sfcapd| sfcapd.stop(&network));
    assert_eq!((first.packets(), second.packets()), (4 * traffic.packets, traffic.packets), "{text}");
    first.assert_in_sequence();
    let mut sources: Vec<Vec<String>> = first
        .capture()
        .datagrams(&["udp.dstport", "udp.srcport"])
        .into_iter()
        .filter(|datagram| datagram[0] == ["6343"])
        .map(|mut datagram| datagram.remove(1))
        .collect();
    sources.dedup();
    assert_eq!(sources.len(), 1, "{text}");
}

/// Threads of the daemon with this name.
fn threads(probe: &mut Probe<'_>, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", probe.process().id())).unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim() == name).count()
}

/// What failed leaves nothing behind, so that the next change is as if it had never been.
#[test]
fn a_change_that_fails_half_way_leaves_nothing() {
    let network = Network::new();
    let directory = TempDir::new();
    // Without a time in its name, it is replaced by the rows of each period: this one is a day.
    let file = directory.file("always.json");
    let always = |key: &str| {
        let settings =
            format!("key = [{key}]\nrefresh = \"1d\"\n[aggregate.file]\npath = \"{}\"", file.display());
        aggregate("always", &settings)
    };
    let to_kafka = |spool: &str| {
        let settings = format!(
            "key = [\"src_host\"]\nrefresh = \"1s\"\n[aggregate.kafka]\nbrokers = [\"{BROKER}\"]\ntopic = \"t\"\nspool = \"{}\"",
            directory.file(spool).display()
        );
        aggregate("b", &settings)
    };
    fs::write(directory.file("no-directory"), "").unwrap();
    let mut probe = ProbeBuilder::new(&network.router).configuration(&always("\"src_host\"")).start();
    let traffic = Traffic { packets: 1000, flows: 20, ..Traffic::default() };
    let mut packets = 0;
    let mut send = |probe: &Probe<'_>| {
        traffic.send(&network.sender);
        packets += traffic.packets;
        probe.wait_until("packets are added up", |metrics| {
            metrics.sum("pathflow_aggregate_offered_packets_total", &[("aggregate", "always")]) == packets
        });
    };
    send(&probe);
    for _ in 0..3 {
        reload(&probe, &[always("\"src_port\""), to_kafka("no-directory/spool")].concat());
        let said = probe.errors();
        assert!(said.contains("all aggregates stay as they are"), "{said}");
        assert_eq!(threads(&mut probe, "write-always"), 1, "{said}");
    }
    send(&probe);
    reload(&probe, &[always("\"src_port\""), to_kafka("spool")].concat());
    send(&probe);
    let ended = probe.terminate();
    let text = ended.report.text();
    ended.report.assert_balanced();
    let rows = flows(&fs::read_to_string(&file).unwrap());
    assert_eq!(sum(&rows, "packets"), 3 * traffic.packets, "{text}");
    for key in ["ip_src", "port_src"] {
        assert!(rows.iter().any(|row| !row[key].is_null()), "{key}: {text}");
    }
}

/// Files may lie where nobody answers.
#[test]
fn the_end_is_heard_while_settings_are_read() {
    let network = Network::new();
    let directory = TempDir::new();
    let map = directory.file("tags");
    mknodat(CWD, &map, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let probe = ProbeBuilder::new(&network.router).json().start();
    let traffic = Traffic { packets: 500, flows: 10, ..Traffic::default() };
    traffic.send(&network.sender);
    probe.reload(&format!("[enrich]\ntag_map = \"{}\"\n", map.display()));
    // From here on it is read, as long as this end is open.
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let end = wait_for("the map is read", || probe.errors(), || options.open(&map).ok());
    let ended = probe.terminate();
    drop(end);
    ended.report.assert_complete();
    assert_eq!(sum(&flows(&ended.output), "packet_delta_count"), traffic.packets);
}
