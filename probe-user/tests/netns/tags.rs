//! Tags, labels and filters of exports, as collectors see them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;

use super::filter::tcpdump_matches;
use super::support::frames::{Frame, Upper, write_capture};
use super::support::json::flows;
use super::support::network::{COLLECTOR_IPV4, Network};
use super::support::nfacctd::Nfacctd;
use super::support::nfcapd::Nfcapd;
use super::support::probe::{Probe, ProbeBuilder, daemon};
use super::support::temp_dir::TempDir;
use super::support::tool;
use super::support::traffic::replay;
use super::support::wait_for;

const AGGREGATE: &str = "aggregate[test]: tag,tag2,label,dst_port,proto\n";

/// Packets by tag, second tag and label.
type Tagged = BTreeMap<(u64, u64, String), u64>;

fn frames() -> Vec<Frame> {
    let mut frames = Vec::new();
    for (source, destination) in [("203.0.113.5", "198.18.0.9"), ("2001:db8::5", "2001:db8::9")] {
        let frame = |upper| Frame::new(source, destination, upper);
        frames.extend(vec![frame(Upper::Tcp(50_000, 443, 0x18)).payload(100); 4]);
        frames.extend(vec![frame(Upper::Udp(2222, 53)).payload(20); 3]);
        frames.extend(vec![frame(Upper::Tcp(50_000, 22, 0x18)).payload(10); 7]);
        // Without the keyword `vlan`, a filter does not look behind tags.
        frames.extend(vec![frame(Upper::Udp(2222, 53)).payload(20).tag(0x8100, 7); 2]);
    }
    frames
}

/// What nfacctd has printed when it had so many packets.
fn tagged(nfacctd: &Nfacctd, packets: u64) -> Tagged {
    let mut tagged = Tagged::new();
    for row in nfacctd.printed(packets) {
        let number = |key: &str| row[key].as_u64().unwrap_or_else(|| panic!("{row}"));
        let label = row["label"].as_str().unwrap_or_default().to_owned();
        *tagged.entry((number("tag"), number("tag2"), label)).or_default() += number("packets");
    }
    tagged
}

fn expected(rows: &[(u64, u64, &str, u64)]) -> Tagged {
    rows.iter().map(|(tag, tag2, label, packets)| ((*tag, *tag2, (*label).to_owned()), *packets)).collect()
}

/// Has the settings read again, and waits until that was done as often as `times`.
fn reload(probe: &mut Probe<'_>, signal: Signal, message: &str, times: usize) {
    probe.process().signal(signal);
    wait_for(
        "settings are read",
        || probe.errors(),
        || (probe.errors().matches(message).count() >= times).then_some(()),
    );
}

#[test]
fn a_tag_map_and_filters_of_exports_reach_collectors_and_the_map_is_read_again() {
    const READ: &str = "interfaces are captured by the new settings";
    let network = Network::new();
    let directory = TempDir::new();
    let (file, map) = (directory.file("frames.pcap"), directory.file("tags.map"));
    let frames = frames();
    write_capture(&file, &frames);
    let packets = frames.len() as u64;
    let tcp = tcpdump_matches(&file, "tcp") as u64;
    fs::write(
        &map,
        "set_label=dns filter='udp port 53' jeq=next\n\
         set_tag=100 filter='tcp port 443' jeq=more\n\
         set_tag=200\n\
         set_tag2=7 label=more\n",
    )
    .unwrap();
    let other = SocketAddr::new(COLLECTOR_IPV4.ip(), COLLECTOR_IPV4.port() + 1);
    let nfacctd = Nfacctd::start_with(&network.collector, COLLECTOR_IPV4, AGGREGATE);
    let nfcapd = Nfcapd::start(&network, other);
    let configuration = format!(
        "[export]\ncollectors = [\"{COLLECTOR_IPV4}\"]\nfields = [\"tags\"]\n\
         [[export.process]]\ncollectors = [\"{other}\"]\nformat = \"netflow-v9\"\nfilter = \"tcp\"\n\
         [enrich]\ntag_map = \"{}\"\n",
        map.display()
    );
    let mut probe = ProbeBuilder::new(&network.router)
        .argument("--idle-timeout", "300ms")
        .configuration(&configuration)
        .start();
    replay(&network.sender, &file, frames.len());
    let first = [(100, 7, "", 8), (200, 0, "", 18), (200, 0, "dns", 6)];
    assert_eq!(tagged(&nfacctd, packets), expected(&first));

    // Other rules with the same filters.
    fs::write(&map, "set_label=name filter='udp port 53' jeq=next\nset_tag=300 filter='tcp port 443'\n")
        .unwrap();
    reload(&mut probe, Signal::USR2, READ, 1);
    replay(&network.sender, &file, frames.len());
    let second = [(300, 0, "", 8), (0, 0, "", 18), (0, 0, "name", 6)];
    let both = [&first[..], &second].concat();
    assert_eq!(tagged(&nfacctd, 2 * packets), expected(&both));

    // A broken map changes nothing, and says where it is broken.
    fs::write(&map, "set_tag=400\nset_tag=nothing\n").unwrap();
    let broken = format!("{}:2: set_tag=nothing: it must be a number", map.display());
    reload(&mut probe, Signal::USR2, &broken, 1);
    assert!(probe.errors().contains("the settings stay as they are"), "{}", probe.errors());
    // Neither does one with a filter that packets are not asked.
    fs::write(&map, "set_tag=500 filter='udp port 54'\n").unwrap();
    reload(&mut probe, Signal::HUP, READ, 2);
    let unknown = format!("{}:1: filter=\"udp port 54\" is not one that packets are asked", map.display());
    assert!(probe.errors().contains(&unknown), "{}", probe.errors());
    replay(&network.sender, &file, frames.len());
    let mut all = expected(&both);
    for (row, more) in expected(&second) {
        *all.entry(row).or_default() += more;
    }
    assert_eq!(tagged(&nfacctd, 3 * packets), all);

    let ended = probe.terminate();
    ended.report.assert_balanced();
    assert_eq!(nfcapd.stop(&network).packets(), 3 * tcp);
    assert!(tcp > 0 && tcp < packets, "{tcp}");
}

/// A plugin with a map of its own has tags by that alone; both programs read the same files.
#[test]
fn a_map_for_one_plugin_is_in_place_of_the_one_for_all_as_in_pmacctd() {
    let network = Network::new();
    let directory = TempDir::new();
    let [capture, file, all, own] =
        ["frames.pcap", "pmacctd.conf", "all.map", "own.map"].map(|name| directory.file(name));
    write_capture(&capture, &frames());
    fs::write(&all, "set_tag=1 filter='tcp'\nset_tag=2\n").unwrap();
    fs::write(&own, "set_label=web filter='tcp port 443' jeq=next\nset_tag2=9 filter='ip6'\n").unwrap();
    let rows = |who: &str, command: &mut Command| -> Vec<Vec<String>> {
        let output = |plugin: &str| directory.file(&format!("{who}-{plugin}"));
        let text = format!(
            "daemonize: false\npcap_savefile: {}\nplugins: print[a], print[b]\naggregate: tag,tag2,label,proto\n\
             print_output: json\nprint_refresh_time: 86400\nprint_output_file[a]: {}\nprint_output_file[b]: {}\n\
             pre_tag_map: {}\npre_tag_map[a]: {}\n",
            capture.display(),
            output("a").display(),
            output("b").display(),
            all.display(),
            own.display()
        );
        fs::write(&file, text).unwrap();
        tool::output(command);
        let lines = |plugin| {
            let text = fs::read_to_string(output(plugin)).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        vec![lines("a"), lines("b")]
    };
    let theirs = rows("theirs", network.router.command("pmacctd").arg("-f").arg(&file));
    let mut ours = network.router.enter(&daemon().display().to_string());
    let ours = rows("ours", ours.arg("replay").arg("--pmacct-config").arg(&file).arg(&capture));
    assert_eq!(ours, theirs);
    assert_eq!([ours[0].len(), ours[1].len()], [6, 2], "{ours:?}");
}

/// Of the same packets, each collector gets the tags of the map that is for it.
#[test]
fn an_export_has_tags_by_a_map_of_its_own() {
    const READ: &str = "interfaces are captured by the new settings";
    let network = Network::new();
    let directory = TempDir::new();
    let [capture, all, own] = ["frames.pcap", "all.map", "own.map"].map(|name| directory.file(name));
    let frames = frames();
    write_capture(&capture, &frames);
    let packets = frames.len() as u64;
    fs::write(&all, "set_tag=1 filter='tcp'\nset_tag=2\n").unwrap();
    fs::write(&own, "set_label=web filter='tcp port 443' jeq=next\nset_tag2=9 filter='ip6'\n").unwrap();
    let other = SocketAddr::new(COLLECTOR_IPV4.ip(), COLLECTOR_IPV4.port() + 1);
    let common = Nfacctd::start_with(&network.collector, COLLECTOR_IPV4, AGGREGATE);
    let special = Nfacctd::start_with(&network.collector, other, AGGREGATE);
    let configuration = format!(
        "[export]\ncollectors = [\"{COLLECTOR_IPV4}\"]\nfields = [\"tags\"]\n\
         [[export.process]]\ncollectors = [\"{other}\"]\ntag_map = \"{}\"\n[enrich]\ntag_map = \"{}\"\n",
        own.display(),
        all.display()
    );
    let mut probe = ProbeBuilder::new(&network.router)
        .argument("--idle-timeout", "300ms")
        .configuration(&configuration)
        .start();
    replay(&network.sender, &capture, frames.len());
    let by_all = [(1, 0, "", 22), (2, 0, "", 10)];
    assert_eq!(tagged(&common, packets), expected(&by_all));
    let first = [(0, 0, "web", 4), (0, 9, "web", 4), (0, 9, "", 10), (0, 0, "", 14)];
    assert_eq!(tagged(&special, packets), expected(&first));

    // Read again; what packets are not asked changes nothing.
    fs::write(&own, "set_tag=7 filter='ip6'\n").unwrap();
    reload(&mut probe, Signal::USR2, READ, 1);
    fs::write(&own, "set_tag=8 filter='udp port 54'\n").unwrap();
    reload(&mut probe, Signal::HUP, READ, 2);
    let unknown = format!(
        "export ipfix to {other}: tag_map: {}:1: filter=\"udp port 54\" is not one that packets are asked",
        own.display()
    );
    assert!(probe.errors().contains(&unknown), "{}", probe.errors());
    replay(&network.sender, &capture, frames.len());
    let mut both = expected(&first);
    for (row, more) in expected(&[(7, 0, "", 14), (0, 0, "", 18)]) {
        *both.entry(row).or_default() += more;
    }
    assert_eq!(tagged(&special, 2 * packets), both);
    let twice = by_all.map(|(tag, tag2, label, packets)| (tag, tag2, label, 2 * packets));
    assert_eq!(tagged(&common, 2 * packets), expected(&twice));
    probe.terminate().report.assert_balanced();
}

/// The rules of an aggregate are read again, and those that ask for another filter change nothing.
#[test]
fn rules_of_an_aggregate_are_read_again() {
    const READ: &str = "interfaces are captured by the new settings";
    let network = Network::new();
    let directory = TempDir::new();
    let (file, map) = (directory.file("frames.pcap"), directory.file("own.map"));
    let frames = frames();
    write_capture(&file, &frames);
    fs::write(&map, "set_tag=10 filter='tcp'\n").unwrap();
    let mut probe = ProbeBuilder::new(&network.router)
        .configuration(&format!(
            "[[enrich.tag]]\nset_tag = 1\n\
             [[aggregate]]\nname = \"all\"\nkey = [\"tag\"]\nrefresh = \"1s\"\n[aggregate.stdout]\n\
             [[aggregate]]\nname = \"own\"\nkey = [\"tag\", \"proto\"]\nrefresh = \"1s\"\n\
             tag_map = \"{}\"\n[aggregate.stdout]\n",
            map.display()
        ))
        .start();
    let mut sent = 0;
    let mut send = |probe: &mut Probe<'_>| {
        replay(&network.sender, &file, frames.len());
        sent += frames.len() as u64;
        probe.wait_until("the packets are in rows that are written", |metrics| {
            metrics.total("pathflow_aggregate_output_delivered_packets_total") >= 2 * sent
        });
    };
    send(&mut probe);
    fs::write(&map, "set_tag=20 filter='tcp'\n").unwrap();
    reload(&mut probe, Signal::USR2, READ, 1);
    send(&mut probe);
    fs::write(&map, "set_tag=30 filter='udp'\n").unwrap();
    reload(&mut probe, Signal::USR2, READ, 2);
    let unknown = format!("aggregate own: tag_map: {}:1: filter=\"udp\" is not one that", map.display());
    assert!(probe.errors().contains(&unknown), "{}", probe.errors());
    send(&mut probe);
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let mut packets: BTreeMap<(bool, u64), u64> = BTreeMap::new();
    for row in flows(&ended.output) {
        let number = |key: &str| row[key].as_u64().unwrap();
        *packets.entry((row.get("ip_proto").is_some(), number("tag"))).or_default() += number("packets");
    }
    let (all, tcp) = (frames.len() as u64, tcpdump_matches(&file, "tcp") as u64);
    let expected =
        [((false, 1), 3 * all), ((true, 0), 3 * (all - tcp)), ((true, 10), tcp), ((true, 20), 2 * tcp)];
    assert_eq!(packets, expected.into());
}
