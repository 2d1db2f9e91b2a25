//! From BIRD and the wire to Kafka: the configuration of the router article, run as it is.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use super::bgp;
use super::bgp_output::{ROUTES, session};
use super::pmacct::{configuration, files};
use super::refresh::purges;
use super::support::bird::Bird;
use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::sum;
use super::support::kafka::{BROKER, Kafka};
use super::support::network::Network;
use super::support::probe::{Probe, ProbeBuilder, daemon};
use super::support::process::Process;
use super::support::routed::{CLIENT, LEFT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::tool::output;
use super::support::traffic::Traffic;
use super::support::wait_for;

/// Where the test's datagrams go.
pub(crate) const PORT: u16 = 4242;
const LABEL: &str = "bdr1.neptunenetworks.org";

/// What flow-exporter reads of a message: of its Go struct, the types too.
#[derive(Debug, Deserialize)]
struct FlowMessage {
    label: String,
    as_src: i64,
    as_dst: i64,
    bytes: i64,
}

/// Packets and octets by source and destination address.
pub(crate) type Sums = BTreeMap<(String, String), (u64, u64)>;

fn probe<'a>(routed: &'a Routed, directory: &TempDir) -> Probe<'a> {
    let properties = directory.file("kafka.conf");
    fs::write(&properties, "global, queue.buffering.max.ms, 5\n").unwrap();
    let plugin = format!(
        "plugins: kafka\nkafka_output: json\nkafka_broker_host: {BROKER}\nkafka_refresh_time: 1\n\
         kafka_history: 5m\nkafka_history_roundoff: m\nkafka_config_file: {}\n",
        properties.display()
    );
    ProbeBuilder::configured(&routed.router)
        .pmacct_configuration(&configuration(directory, "127.0.0.2", &plugin))
        .start()
}

fn delivered(probe: &Probe<'_>, packets: u64) {
    probe.wait_until("packets are in Kafka", |metrics| {
        metrics.total("pathflow_aggregate_output_delivered_packets_total") >= packets
    });
}

pub(crate) fn rows(messages: &str) -> Vec<Value> {
    let rows = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["port_dst"] == PORT).collect()
}

pub(crate) fn sums(rows: &[Value]) -> Sums {
    let mut sums = Sums::new();
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let sum = sums.entry((text("ip_src"), text("ip_dst"))).or_default();
        sum.0 += row["packets"].as_u64().unwrap();
        sum.1 += row["bytes"].as_u64().unwrap();
    }
    sums
}

/// Each packet counts where it comes in and where it goes out, as in pmacctd.
fn send(routed: &Routed, there: u64, back: u64) -> Sums {
    Routed::send(&routed.client, (SERVER[0], PORT), 100, there);
    Routed::send(&routed.server, (CLIENT[0], PORT), 900, back);
    let (client, server) = (CLIENT[0].to_owned(), SERVER[0].to_owned());
    Sums::from([
        ((client.clone(), server.clone()), (2 * there, 2 * there * 128)),
        ((server, client), (2 * back, 2 * back * 928)),
    ])
}

#[test]
fn the_router_articles_messages_are_in_kafka() {
    let routed = Routed::new();
    let kafka = Kafka::start(&routed.router);
    let bird = Bird::start(&routed.router, bgp::CONFIGURATION);
    let directory = TempDir::new();
    files(&directory);
    let mut probe = probe(&routed, &directory);
    let id = probe.process().id();
    bird.wait_until_established();
    bgp::wait_for_routes(&probe, 6);
    let expected = send(&routed, 30, 20);
    delivered(&probe, 100);
    let ended = probe.terminate();
    ended.report.assert_balanced();

    let messages = kafka.messages("pmacct.acct");
    let rows = rows(&messages);
    assert_eq!(sums(&rows), expected, "{messages}");
    let (mut transmitted, mut received) = (0, 0);
    for row in &rows {
        let message: FlowMessage = serde_json::from_value(row.clone()).unwrap();
        assert_eq!(message.label, LABEL);
        match (message.as_src, message.as_dst) {
            (397_143, 60_729) => transmitted += message.bytes,
            (60_729, 397_143) => received += message.bytes,
            others => panic!("{others:?}"),
        }
    }
    assert_eq!((transmitted, received), (60 * 128, 40 * 928));

    // Octet for octet but for what changes from run to run.
    let is_one = |line: &&str| line.contains("\"as_src\": 397143") && line.contains("\"port_dst\": 4242");
    let line = messages.lines().find(is_one).unwrap();
    let row: Value = serde_json::from_str(line).unwrap();
    let text = |key: &str| row[key].as_str().unwrap();
    let expected = format!(
        "{{\"event_type\": \"purge\", \"label\": \"{LABEL}\", \"as_src\": 397143, \"as_dst\": 60729, \
         \"ip_src\": \"{}\", \"ip_dst\": \"{}\", \"port_src\": {}, \"port_dst\": {PORT}, \"ip_proto\": \"udp\", \
         \"stamp_inserted\": \"{}\", \"stamp_updated\": \"{}\", \"packets\": {}, \"bytes\": {}, \
         \"writer_id\": \"default_kafka/{id}\"}}",
        CLIENT[0],
        SERVER[0],
        row["port_src"],
        text("stamp_inserted"),
        text("stamp_updated"),
        row["packets"],
        row["bytes"],
    );
    assert_eq!(line, expected);
    assert!(text("stamp_inserted").ends_with("0:00") || text("stamp_inserted").ends_with("5:00"), "{line}");
}

#[test]
fn what_was_counted_while_kafka_was_away_is_there_when_it_is_back() {
    let routed = Routed::new();
    let mut kafka = Kafka::start(&routed.router);
    let directory = TempDir::new();
    let configuration = format!(
        "[capture]\ninterfaces = [\"left\"]\n[[aggregate]]\nname = \"acct\"\nkey = [\"src_host\", \"dst_host\", \
         \"dst_port\"]\nrefresh = \"1s\"\n[aggregate.kafka]\nbrokers = [\"{BROKER}\"]\nspool = \"{}\"\n",
        directory.file("spool").display()
    );
    let start = || ProbeBuilder::configured(&routed.router).configuration(&configuration).start();
    let counted = |probe: &Probe<'_>, packets: u64| {
        probe.wait_until("rows are with the output", |metrics| {
            let total = |name: &str| metrics.total(&format!("pathflow_aggregate_output_{name}"));
            total("delivered_packets_total") + total("waiting_packets") + total("spooled_packets") >= packets
        });
    };
    let probe = start();
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 10);
    delivered(&probe, 10);
    kafka.kill();
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 20);
    counted(&probe, 30);
    // What is in the spool goes on in the next run.
    let report = probe.terminate().report;
    report.assert_balanced();
    assert!(report.text().contains("in the spool of kafka"), "{}", report.text());
    let probe = start();
    Routed::send(&routed.client, (SERVER[0], PORT), 100, 40);
    counted(&probe, 60);
    kafka.start_again();
    delivered(&probe, 60);
    let report = probe.terminate().report;
    report.assert_balanced();
    let rows = rows(&kafka.messages("pmacct.acct"));
    let flow = (CLIENT[0].to_owned(), SERVER[0].to_owned());
    assert_eq!(sums(&rows), Sums::from([(flow, (70, 70 * 128))]), "{}", report.text());
}

/// With one partition, messages are in the order in which they were sent: each purge between its marks.
#[test]
fn marks_of_purges_in_kafka_count_the_rows_between_them() {
    let routed = Routed::new();
    let kafka = Kafka::start(&routed.router);
    let directory = TempDir::new();
    let aggregate = |topic: &str, octets: u32| {
        format!(
            "[[aggregate]]\nname = \"{topic}\"\nkey = [\"src_host\", \"dst_host\", \"src_port\", \"dst_port\"]\n\
             filter = \"udp port {PORT}\"\nrefresh = \"1s\"\n[aggregate.kafka]\nbrokers = [\"{BROKER}\"]\n\
             topic = \"{topic}\"\nmarkers = true\nmessage_octets = {octets}\nspool = \"{}\"\n",
            directory.file("spool").display()
        )
    };
    // A message for each row, and messages that rows share.
    let configuration = "[capture]\ninterfaces = [\"left\"]\n".to_owned()
        + &aggregate("single", 0)
        + &aggregate("shared", 600);
    let probe = ProbeBuilder::configured(&routed.router).configuration(&configuration).start();
    for round in 1..=3 {
        // Each socket has a port of its own.
        for _ in 0..5 {
            Routed::send(&routed.client, (SERVER[0], PORT), 100, 4);
        }
        // Everything of this round is in a purge before the next one begins.
        delivered(&probe, round * 2 * 20);
    }
    probe.terminate().report.assert_balanced();
    for topic in ["single", "shared"] {
        let messages = kafka.messages(topic);
        // A message that rows share ends with a line feed.
        let lines = messages.lines().filter(|line| topic == "single" || !line.is_empty());
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let purges = purges(&lines);
        assert_eq!(sum(&purges.concat(), "packets"), 60, "{topic}: {messages}");
        assert!(purges.len() >= 3 && purges.iter().all(|purge| !purge.is_empty()), "{topic}: {messages}");
    }
}

/// AS paths by prefix, as BIRD announces them to the probe.
fn announced(bird: &Bird<'_>) -> BTreeMap<String, String> {
    let mut routes = BTreeMap::new();
    let mut prefix = String::new();
    for line in bird.ask(&["show", "route", "export", "pathflow", "all"]).lines() {
        let first = line.split_whitespace().next().unwrap_or_default();
        if line.starts_with(|start: char| start.is_ascii_hexdigit()) && first.contains('/') {
            first.clone_into(&mut prefix);
            routes.insert(prefix.clone(), String::new());
        } else if let Some(path) = line.trim().strip_prefix("BGP.as_path:") {
            routes.insert(prefix.clone(), path.trim().to_owned());
        }
    }
    routes
}

/// The messages, of each of which `writer_id` is the last key; without what differs from session to session, and that.
fn written_by(messages: &str, writer: &str) -> Vec<Value> {
    let line = |line: &str| {
        assert!(line.ends_with(&format!(", \"writer_id\": \"{writer}\"}}")), "{line}");
        let mut line: Value = serde_json::from_str(line).unwrap();
        for key in ["timestamp", "peer_tcp_port", "writer_id"] {
            assert!(line.as_object_mut().unwrap().remove(key).is_some(), "no {key} in {line}");
        }
        line
    };
    messages.lines().map(line).collect()
}

#[test]
fn birds_routes_are_in_the_topics_of_dumps_and_log() {
    let routed = Routed::new();
    let kafka = Kafka::start(&routed.router);
    let directory = TempDir::new();
    let file = directory.file("pmbgpd.conf");
    let text = format!(
        "daemonize: false\nbgp_daemon_ip: 127.0.0.3\nbgp_daemon_port: 17918\n\
        bgp_table_dump_file: {}\nbgp_table_dump_refresh_time: 3600\n\
        bgp_daemon_msglog_kafka_topic: pmbgpd.log\nbgp_daemon_msglog_kafka_broker_host: 127.0.0.1\n\
        bgp_daemon_msglog_kafka_broker_port: 9092\n",
        // Without it, it keeps no routes.
        directory.file("pmbgpd-$peer_src_ip").display(),
    );
    fs::write(&file, text).unwrap();
    let mut pmbgpd = Process::start(routed.router.command("pmbgpd").arg("-f").arg(&file));
    pmbgpd.wait_for_message("waiting for BGP data");
    let broker = format!("brokers = [\"{BROKER}\"]\nspool = \"{}\"", directory.file("spool").display());
    let configuration = format!(
        "[bgp]\nlisten = [\"127.0.0.2:17917\"]\n[[bgp.peer]]\naddress = \"127.0.0.1\"\n\
         [bgp.table_dump]\ninterval = \"10s\"\n[bgp.table_dump.kafka]\ntopic = \"pmacct.bgp\"\n{broker}\n\
         [bgp.message_log.kafka]\ntopic = \"pmacct.log-$peer_src_ip\"\n{broker}\n[control]\nsocket = \"\"\n",
    );
    let mut probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .configuration(&configuration)
        .start();
    let writer = format!("default/{}", probe.process().id());
    let sessions = session("pathflow", "127.0.0.2 port 17917") + &session("pmbgpd", "127.0.0.3 port 17918");
    let bird = Bird::start(&routed.router, &(ROUTES.to_owned() + &sessions));
    bird.wait_until_established();
    let expected = announced(&bird);
    assert_eq!(expected.len(), 4, "{expected:?}");

    // A dump that began when all routes were there.
    let is_whole = |dump: &[Value]| dump.last().is_some_and(|last| last["entries"] == expected.len());
    let dumps = || written_by(&kafka.messages_so_far("pmacct.bgp"), &writer);
    let last = || {
        let dumps = dumps();
        let end = dumps.iter().rposition(|line| line["event_type"] == "dump_close")?;
        let start = dumps[..end].iter().rposition(|line| line["event_type"] == "dump_init")?;
        Some(dumps[start..=end].to_vec()).filter(|dump| is_whole(dump))
    };
    let dump = wait_for("a dump", || format!("{:#?} {}", dumps(), probe.errors()), last);
    assert_eq!((&dump[0]["dump_period"], &dump[5]["tables"]), (&10.into(), &1.into()));
    assert!(dump.iter().all(|line| line["seq"] == dump[0]["seq"] && line["peer_ip_src"] == "127.0.0.1"));
    let routes = dump[1..5].iter().map(|line| {
        assert_eq!(line["event_type"], "dump");
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        (text("ip_prefix"), text("as_path"))
    });
    assert_eq!(routes.collect::<BTreeMap<_, _>>(), expected);

    // The log says what that of pmacct's daemon says, and who wrote it.
    let updates = |topic: &str, writer: &str| {
        let mut lines = written_by(&kafka.messages_so_far(topic), writer);
        lines.retain(|line| line["log_type"] == "update");
        for line in &mut lines {
            assert!(line.as_object_mut().unwrap().remove("seq").is_some());
        }
        let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    };
    let pmbgpd_writer = format!("default/{}", pmbgpd.id());
    let of_pmbgpd = || updates("pmbgpd.log", &pmbgpd_writer);
    let of_pmbgpd = wait_for(
        "pmbgpd's log",
        || format!("{:#?}", of_pmbgpd()),
        || Some(of_pmbgpd()).filter(|lines| lines.len() == 4),
    );
    assert_eq!(updates("pmacct.log-127_0_0_1", &writer), of_pmbgpd);

    let seen = dumps().len() + kafka.messages("pmacct.log-127_0_0_1").lines().count();
    let metrics = probe.wait_until("messages are confirmed", |metrics| {
        metrics.total("pathflow_bgp_kafka_delivered_messages_total") >= seen as u64
    });
    assert_eq!(metrics.total("pathflow_bgp_kafka_lost_messages_total"), 0);
    probe.terminate();
    let messages = dumps();
    let count = |event: &str| messages.iter().filter(|line| line["event_type"] == event).count();
    assert_eq!(count("dump_init"), count("dump_close"));
}

/// pmacctd's `kafka_topic_rr`, from the same capture and by the same configuration.
#[test]
fn messages_take_turns_over_topics_as_pmacctds_do() {
    let routed = Routed::new();
    let kafka = Kafka::start(&routed.router);
    let directory = TempDir::new();
    let capture = directory.file("frames.pcap");
    let frame = |host: u16| Frame::new("192.0.2.1", &format!("198.51.100.{host}"), Upper::Udp(2222, 53));
    write_capture(&capture, &(1..=8).map(frame).collect::<Vec<_>>());
    let file = directory.file("turns.conf");
    let sent = |topic: &str, mut command: Command| -> Vec<usize> {
        let text = format!(
            "daemonize: false\nplugins: kafka[turns]\naggregate: dst_host\nkafka_topic: {topic}\n\
             kafka_topic_rr: 3\nkafka_broker_host: 127.0.0.1\nkafka_refresh_time: 86400\npcap_savefile: {}\n",
            capture.display()
        );
        fs::write(&file, text).unwrap();
        output(&mut command);
        assert_eq!(kafka.messages_so_far(topic), "");
        let messages = |number| kafka.messages_so_far(&format!("{topic}_{number}")).lines().count();
        (0..4).map(messages).collect()
    };
    let mut ours = routed.router.enter(&daemon().display().to_string());
    ours.arg("replay").arg("--pmacct-config").arg(&file).arg(&capture);
    let ours = sent("ours", ours);
    let mut theirs = routed.router.command("pmacctd");
    theirs.arg("-f").arg(&file);
    let theirs = sent("theirs", theirs);
    assert_eq!((ours, theirs), (vec![3, 3, 2, 0], vec![3, 3, 2, 0]));
}

/// Messages of a topic that has one partition: who wrote them, and what they are.
fn by_writer(messages: &str) -> Vec<(String, Value)> {
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["writer_id"].as_str().unwrap().to_owned(), row)
    };
    messages.lines().map(row).collect()
}

#[test]
fn dumps_and_log_of_an_outage_are_there_once_after_the_next_start() {
    let routed = Routed::new();
    let mut kafka = Kafka::start(&routed.router);
    let directory = TempDir::new();
    let broker = format!("brokers = [\"{BROKER}\"]\nspool = \"{}\"", directory.file("spool").display());
    let configuration = format!(
        "[bgp]\nlisten = [\"127.0.0.2:17917\"]\n[[bgp.peer]]\naddress = \"127.0.0.1\"\n\
         [bgp.table_dump]\ninterval = \"10s\"\n[bgp.table_dump.kafka]\ntopic = \"pmacct.bgp\"\n{broker}\n\
         [bgp.message_log.kafka]\ntopic = \"pmacct.log\"\n{broker}\n[control]\nsocket = \"\"\n",
    );
    let start = || {
        ProbeBuilder::configured(&routed.router)
            .argument("--interface", LEFT)
            .configuration(&configuration)
            .start()
    };
    let kept = |probe: &Probe<'_>, function: &str, count: u64| {
        probe.wait_until(&format!("messages of the {function} wait"), |metrics| {
            let sum = |name: &str| {
                metrics.sum(&format!("pathflow_bgp_kafka_{name}_messages"), &[("function", function)])
            };
            sum("waiting") + sum("spooled") >= count
        });
    };
    kafka.kill();
    let bird =
        Bird::start(&routed.router, &(ROUTES.to_owned() + &session("pathflow", "127.0.0.2 port 17917")));
    let mut writers = Vec::new();
    // Two runs leave messages behind, and a third is there when the broker comes back.
    for run in 1..=3 {
        let mut probe = start();
        writers.push(format!("default/{}", probe.process().id()));
        bird.wait_until_established();
        // Session, two End-of-RIBs and four routes of each run; of a dump, the first and last line and the routes.
        kept(&probe, "message_log", run * 7);
        kept(&probe, "table_dump", run * 6);
        if run == 3 {
            kafka.start_again();
            probe.wait_until("all is delivered", |metrics| {
                metrics.total("pathflow_bgp_kafka_waiting_messages") == 0
                    && metrics.total("pathflow_bgp_kafka_spooled_messages") == 0
            });
        }
        let report = probe.terminate().report;
        if run < 3 {
            for function in ["bgp.table_dump", "bgp.message_log"] {
                let is_told = |line: &str| line.contains(function) && line.contains("stay in the spool");
                assert!(report.text().lines().any(is_told), "{function}: {}", report.text());
            }
        }
        assert!(!report.text().contains("messages are lost"), "{}", report.text());
    }

    // Every run numbers its lines from 0.
    let of_log = by_writer(&kafka.messages("pmacct.log"));
    let mut seen: Vec<&str> = of_log.iter().map(|(writer, _)| writer.as_str()).collect();
    seen.dedup();
    assert_eq!(seen, writers, "the order of the runs");
    for writer in &writers {
        let lines = of_log.iter().filter(|(of, _)| of == writer);
        let numbers: Vec<u64> = lines.map(|(_, line)| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{writer}");
        assert!(numbers.len() >= 7, "{writer}: {numbers:?}");
    }
    let dumps = by_writer(&kafka.messages("pmacct.bgp"));
    let mut seen: Vec<&str> = dumps.iter().map(|(writer, _)| writer.as_str()).collect();
    seen.dedup();
    assert_eq!(seen, writers, "the order of the runs");
    // Each dump once, from its first line to its last, with as many routes as that says.
    let mut lines = dumps.iter().map(|(_, line)| line);
    while let Some(first) = lines.next() {
        assert_eq!(first["event_type"], "dump_init");
        let mut prefixes = Vec::new();
        let last = loop {
            let line = lines.next().unwrap();
            assert_eq!((&line["seq"], &line["writer_id"]), (&first["seq"], &first["writer_id"]));
            if line["event_type"] == "dump_close" {
                break line;
            }
            prefixes.push(line["ip_prefix"].as_str().unwrap());
        };
        assert_eq!(last["entries"], prefixes.len());
        prefixes.sort_unstable();
        prefixes.dedup();
        assert_eq!(last["entries"], prefixes.len());
    }
    let begun: Vec<(&str, &Value)> = dumps
        .iter()
        .filter(|(_, line)| line["event_type"] == "dump_init")
        .map(|(writer, line)| (writer.as_str(), &line["seq"]))
        .collect();
    let mut once = begun.clone();
    once.dedup();
    assert_eq!(begun, once);
}

/// Messages are the lines that a file has below its titles.
#[test]
fn rows_are_csv_where_that_is_wanted() {
    let network = Network::new();
    let kafka = Kafka::start(&network.router);
    let directory = TempDir::new();
    let file = directory.file("rows.csv");
    let configuration = format!(
        "[[aggregate]]\nname = \"csv\"\nkey = [\"src_host\", \"dst_host\", \"proto\"]\nrefresh = \"1s\"\n\
         [aggregate.kafka]\nbrokers = [\"{BROKER}\"]\ntopic = \"rows\"\nspool = \"{}\"\nformat = \"csv\"\n\
         separator = \";\"\n[aggregate.file]\npath = \"{}\"\nappend = true\nformat = \"csv\"\nseparator = \";\"\n",
        directory.file("spool").display(),
        file.display()
    );
    let probe = ProbeBuilder::new(&network.router).configuration(&configuration).start();
    let traffic = Traffic { packets: 3000, flows: 30, ..Traffic::default() };
    traffic.send(&network.sender);
    delivered(&probe, 2 * traffic.packets);
    probe.terminate().report.assert_balanced();
    let text = fs::read_to_string(file).unwrap();
    let (titles, rows) = text.split_once('\n').unwrap();
    assert!(titles.contains("SRC_IP;") && titles.contains(";PACKETS;"), "{titles}");
    let sorted = |lines: &str| {
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let messages = kafka.messages("rows");
    assert_eq!(sorted(&messages), sorted(rows));
    let packets = titles.split(';').position(|title| title == "PACKETS").unwrap();
    let packets = messages.lines().map(|line| line.split(';').nth(packets).unwrap().parse::<u64>().unwrap());
    assert_eq!(packets.sum::<u64>(), traffic.packets);
}
