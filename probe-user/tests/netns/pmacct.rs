//! A configuration of pmacctd's, run as it is: the same packets give the same sums as in pmacctd beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use super::bgp;
use super::support::bird::Bird;
use super::support::json::flows;
use super::support::probe::{ProbeBuilder, daemon, refusal};
use super::support::process::Process;
use super::support::routed::{CLIENT, LEFT, RIGHT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::wait_for;

/// Where the test's datagrams go.
const PORT: u16 = 4242;
/// Packets, octets, AS numbers of source and destination, and label, by source and destination.
type Sums = BTreeMap<(String, String), (u64, u64, u64, u64, String)>;

/// The files of the article, with this network's names and numbers.
pub(crate) fn files(directory: &TempDir) {
    let interfaces = format!("ifindex=100  ifname={LEFT}\nifindex=200  ifname={RIGHT}\n");
    for (name, text) in [
        ("interfaces.map", interfaces.as_str()),
        ("pretag.map", "set_label=bdr1.neptunenetworks.org\n"),
        ("networks.lst", "397143,198.51.100.0/24\n397143,2001:db8:1::/64\n"),
        // By the identifier of BIRD, as in the article.
        ("peering_agent.map", "bgp_ip=198.51.100.254     ip=0.0.0.0/0\n"),
    ] {
        fs::write(directory.file(name), text).unwrap();
    }
}

/// The article's configuration, with a socket of its own and other plugins at the end.
pub(crate) fn configuration(directory: &TempDir, listen: &str, plugins: &str) -> String {
    let at = |name: &str| directory.file(name).display().to_string();
    format!(
        "daemonize: false\npcap_interfaces_map: {}\npre_tag_map: {}\npmacctd_as: longest\npmacctd_net: longest\n\
         networks_file: {}\nnetworks_file_no_lpm: true\nsampling_rate: 1\n\
         aggregate: src_host, dst_host, src_port, dst_port, src_as, dst_as, label, proto\n!\nbgp_daemon: true\n\
         bgp_daemon_ip: {listen}\nbgp_daemon_port: 17917\nbgp_daemon_max_peers: 10\nbgp_agent_map: {}\n!\n{plugins}",
        at("interfaces.map"),
        at("pretag.map"),
        at("networks.lst"),
        at("peering_agent.map"),
    )
}

/// What pmacctd printed.
fn printed(text: &str) -> Sums {
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    sums(rows, ["ip_src", "ip_dst", "port_dst", "packets", "bytes", "as_src", "as_dst"])
}

fn exported(text: &str) -> Sums {
    let keys = [
        "source_address",
        "destination_address",
        "destination_port",
        "packet_delta_count",
        "octet_delta_count",
        "bgp_source_as_number",
        "bgp_destination_as_number",
    ];
    sums(flows(text).into_iter(), keys)
}

fn sums(rows: impl Iterator<Item = Value>, keys: [&str; 7]) -> Sums {
    let [source, destination, port, packets, octets, source_as, destination_as] = keys;
    let mut sums = Sums::new();
    for row in rows.filter(|row| row[port] == PORT) {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_u64().unwrap_or_default();
        let sum = sums.entry((text(source), text(destination))).or_default();
        *sum = (
            sum.0 + number(packets),
            sum.1 + number(octets),
            number(source_as),
            number(destination_as),
            text("label"),
        );
    }
    sums
}

#[test]
fn the_router_articles_configuration_has_the_sums_of_pmacctd() {
    let routed = Routed::new();
    let second = bgp::CONFIGURATION
        .split_once("protocol bgp pathflow")
        .map(|(_, session)| format!("protocol bgp pmacctd{}", session.replace("127.0.0.2", "127.0.0.3")))
        .unwrap();
    let bird = Bird::start(&routed.router, &(bgp::CONFIGURATION.to_owned() + &second));
    let directory = TempDir::new();
    files(&directory);

    let rows = directory.file("rows.json");
    let print = |file: &Path| {
        format!(
            "print_output[rows]: json\nprint_output_file[rows]: {}\nprint_refresh_time: 1\n\
             print_output_file_append: true\n",
            file.display()
        )
    };
    let (file, log) = (directory.file("pmacctd.conf"), directory.file("messages"));
    let plugins = format!("bgp_daemon_msglog_file: {}\nplugins: print[rows]\n", log.display());
    fs::write(&file, configuration(&directory, "127.0.0.3", &(plugins + &print(&rows)))).unwrap();
    let mut pmacctd = Process::start(routed.router.command("pmacctd").arg("-f").arg(&file));
    let listens = "waiting for BGP data";
    pmacctd.wait_for_message(listens);

    let own_rows = directory.file("own.json");
    let nfprobe = "plugins: print[rows], nfprobe[flows]\nnfprobe_receiver: 127.0.0.1:2100\nnfprobe_version: 10\n\
                   nfprobe_timeouts: maxlife=60:general=15\n";
    let probe = ProbeBuilder::configured(&routed.router)
        .pmacct_configuration(&configuration(
            &directory,
            "127.0.0.2",
            &(nfprobe.to_owned() + &print(&own_rows)),
        ))
        .json()
        .start();
    let state = || bird.ask(&["show", "protocols"]);
    wait_for("both BGP sessions", state, || (state().matches("Established").count() == 2).then_some(()));
    bgp::wait_for_routes(&probe, 6);
    let updates = || fs::read_to_string(&log).unwrap_or_default().matches("\"update\"").count();
    wait_for(
        "routes in pmacctd",
        || format!("{} {}", updates(), pmacctd.errors()),
        || (updates() >= 6).then_some(()),
    );

    for (sender, to, octets, count) in [
        (&routed.client, SERVER[0], 10, 30),
        (&routed.client, SERVER[0], 900, 5),
        (&routed.server, CLIENT[0], 100, 20),
    ] {
        Routed::send(sender, (to, PORT), octets, count);
    }
    probe.wait_until("packets of both interfaces", |metrics| {
        metrics.total("pathflow_received_packets_total") >= 110
    });
    let said = probe.errors();
    let ended = probe.terminate();
    ended.report.assert_balanced();
    // It crashes when it is told to end with BGP sessions, before it has written everything.
    let rows = || {
        let text = fs::read_to_string(&rows).unwrap_or_default();
        // The last line may be half written.
        printed(text.rfind('\n').map_or("", |end| &text[..=end]))
    };
    let packets = || rows().values().map(|sum| sum.0).sum::<u64>();
    wait_for("rows of pmacctd", || pmacctd.errors(), || (packets() >= 110).then_some(()));
    pmacctd.signal(Signal::INT);
    pmacctd.wait();

    let by_pathflow = exported(&ended.output);
    let by_pmacctd = rows();
    assert_eq!(by_pathflow, by_pmacctd, "{}", pmacctd.errors());
    assert_eq!(printed(&fs::read_to_string(&own_rows).unwrap_or_default()), by_pmacctd);
    // What follows from the test: each packet came in at one interface and went out at the other.
    let label = "bdr1.neptunenetworks.org".to_owned();
    let there = by_pathflow[&(CLIENT[0].to_owned(), SERVER[0].to_owned())].clone();
    assert_eq!(there, (70, 60 * 38 + 10 * 928, 397_143, 60_729, label.clone()));
    let back = by_pathflow[&(SERVER[0].to_owned(), CLIENT[0].to_owned())].clone();
    assert_eq!(back, (40, 40 * 128, 60_729, 397_143, label));
    let remark = "pmacctd.conf:2: pcap_interfaces_map: interfaces without a direction: packets that come in";
    assert!(said.contains(remark), "{said}");
}

#[test]
fn a_wrong_line_is_named_and_nothing_starts() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let file = directory.file("pmacctd.conf");
    fs::write(&file, "daemonize: false\npcap_interface: left\npcap_filter: not prt 22\n").unwrap();
    for words in [["run", "--pmacct-config"], ["check", "--pmacct-config"]] {
        let mut command = routed.router.enter(daemon().to_str().unwrap());
        let message = refusal(command.args(words).arg(&file));
        let expected = format!("pathflow: {}:3: pcap_filter: \"not prt 22\" cannot be used", file.display());
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn import_writes_a_configuration_that_check_takes_and_overwrites_none() {
    let directory = TempDir::new();
    files(&directory);
    let file = directory.file("pmacctd.conf");
    let plugins = "plugins: print, tee\nprint_output: csv\nfoo_bar: canary\nplugin_pipe_size: 1000\n";
    fs::write(&file, configuration(&directory, "127.0.0.2", plugins)).unwrap();
    let pathflow = |words: &[&str]| Command::new(daemon()).args(words).output().unwrap();
    let (name, folder) = (file.to_str().unwrap(), directory.file("made"));

    let printed = pathflow(&["import", name]);
    let remarks = String::from_utf8(printed.stderr).unwrap();
    assert!(printed.status.success(), "{remarks}");
    let lines: Vec<String> = remarks.lines().map(|line| line.replace(name, "FILE")).collect();
    let starts = [
        "FILE:2: pcap_interfaces_map: ",
        "FILE:17: plugins: tee[default_tee]: ",
        "FILE:19: foo_bar: unknown key",
    ];
    assert_eq!(lines.len(), starts.len(), "{remarks}");
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{remarks}");
    assert!(!remarks.contains("canary"), "{remarks}");

    let made = folder.join("pathflow.toml");
    let words = ["import", name, "-o", folder.to_str().unwrap()];
    assert!(pathflow(&words).status.success());
    assert_eq!(fs::read(&made).unwrap(), printed.stdout);
    assert!(pathflow(&["check", made.to_str().unwrap()]).status.success());
    assert!(pathflow(&["check", "--pmacct-config", name]).status.success());
    let again = pathflow(&words);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("File exists"));
}
