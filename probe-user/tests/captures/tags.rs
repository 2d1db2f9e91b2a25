//! Tags and labels against pmacctd: the same packets get the same ones by the same map.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::aggregate::side_by_side;
use crate::corpus::{Capture, corpus};
use crate::file::{self, ETHERNET, Packet};
use crate::frames::{
    CUSTOMER_TAG, ICMP, IPV4, IPV6, Ipv4, TCP, UDP, ethernet, icmp, ipv6, ports, tagged, tcp,
};
use crate::say;
use crate::scratch::Scratch;

/// Captures of the directory that are compared, and packets of each at most.
const CHOSEN: usize = 6;
const MOST_PACKETS: usize = 2000;

/// Each with eight expressions at most. In the last one several are the same.
const MAPS: [&str; 5] = [
    "set_tag=1 filter='port 53'\nset_tag=2 filter='tcp'\nset_tag=3 filter='udp'\nset_tag=4 filter='ip6'\nset_tag=5\n",
    "set_tag=1 filter='ip' jeq=ports\n\
     set_tag=2 filter='vlan' jeq=ports stack=sum\n\
     set_tag=9 filter='ip6'\n\
     set_tag=100 filter='tcp' label=ports stack=sum\n\
     set_tag=200 filter='udp' stack=or\n\
     set_tag=400 filter='icmp' stack=sum\n",
    "! labels\n\
     set_label=four filter='ip' jeq=next\n\
     set_label=small filter='less 100' jeq=next\n\
     set_label=tcp filter='tcp' jeq=end\n\
     set_label=udp filter='udp' jeq=next\n\
     set_tag=7 filter='not ip'\n\
     set_label=rest\n\
     set_tag2=3 label=end\n",
    "set_tag2=1 filter='ip[8] < 64' jeq=next\n\
     set_tag=10 filter='portrange 1-1023' jeq=next\n\
     set_tag2=2 filter='ether multicast' jeq=next stack=sum\n\
     set_label=big filter='greater 600'\n\
     set_label=usual filter='greater 64'\n",
    // The map of pmacct's QUICKSTART, chapter XII.4, with addresses of the frames here.
    "set_tag=1 filter='dst net 198.51.100.0/24' jeq=eval_ifindexes\n\
     set_tag=2 filter='src net 198.51.100.0/24' jeq=eval_ifindexes\n\
     set_tag=1 filter='dst net 192.0.2.0/24' jeq=eval_ifindexes\n\
     set_tag=2 filter='src net 192.0.2.0/24' jeq=eval_ifindexes\n\
     set_tag=1 filter='ether src 02:00:00:00:00:0a' jeq=eval_ifindexes\n\
     set_tag=2 filter='ether dst 02:00:00:00:00:0a' jeq=eval_ifindexes\n\
     set_tag=999 filter='net 0.0.0.0/0'\n\
     !\n\
     set_tag2=100 filter='dst host 198.51.100.2' label=eval_ifindexes\n\
     set_tag2=100 filter='src host 198.51.100.2'\n\
     set_tag2=200 filter='dst host 192.0.2.1'\n\
     set_tag2=200 filter='src host 192.0.2.1'\n\
     set_tag2=200 filter='ether src 02:00:00:00:00:0a'\n\
     set_tag2=200 filter='ether dst 02:00:00:00:00:0a'\n",
];

/// Packets and octets by tag, second tag and label.
type Tagged = BTreeMap<(u64, u64, String), (u64, u64)>;

fn by_tags(rows: &str, packets: &str, octets: &str) -> Tagged {
    let mut tagged = Tagged::new();
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).expect("a line of JSON");
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        let key = (number("tag"), number("tag2"), row["label"].as_str().unwrap_or_default().to_owned());
        let sum = tagged.entry(key).or_default();
        sum.0 += number(packets);
        sum.1 += number(octets);
    }
    // pmacctd prints a row of nothing if there was nothing.
    tagged.retain(|_, (packets, _)| *packets > 0);
    tagged
}

fn by_pmacctd(scratch: &Scratch, capture: &Path, map: &Path) -> Tagged {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let configuration = scratch.file(&format!("{number}.conf"));
    let printed = scratch.file(&format!("{number}.json"));
    let text = format!(
        "daemonize: false\npcap_savefile: {}\npmacctd_time_new: true\nsnaplen: 65535\nplugins: print[a]\n\
         aggregate[a]: tag, tag2, label\nprint_output[a]: json\nprint_output_file[a]: {}\n\
         print_refresh_time[a]: 3600\npre_tag_map: {}\n",
        capture.display(),
        printed.display(),
        map.display()
    );
    fs::write(&configuration, text).expect("a configuration");
    let output =
        Command::new("pmacctd").arg("-f").arg(&configuration).output().expect("this test needs pmacctd");
    let log = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("ignored") && !log.contains("Ignoring"), "{log}");
    by_tags(&fs::read_to_string(&printed).unwrap_or_default(), "packets", "bytes")
}

fn by_pathflow(scratch: &Scratch, capture: &Path, map: &Path) -> Tagged {
    let configuration = scratch.file("pathflow.toml");
    fs::write(&configuration, format!("[enrich]\ntag_map = \"{}\"\n", map.display()))
        .expect("a configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pathflow"));
    let output =
        command.args(["replay", "--json", "-c"]).arg(&configuration).arg(capture).output().expect("pathflow");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    by_tags(&String::from_utf8_lossy(&output.stdout), "packet_delta_count", "octet_delta_count")
}

/// Frames that differ in what the maps ask for.
fn own() -> Vec<Packet> {
    let mut frames = Vec::new();
    for (number, payload) in [(0_u16, 20_usize), (1, 90), (2, 700)] {
        let upper = [
            (UDP, ports(5000 + number, 53, payload)),
            (UDP, ports(5000, 4000 + number, payload)),
            (TCP, tcp(22, 0x002, payload)),
            (TCP, tcp(8080, 0x010, payload)),
            (ICMP, icmp(8, 0)),
        ];
        for (protocol, segment) in &upper {
            let packet = Ipv4::new(*protocol, segment).packet();
            frames.push(ethernet(IPV4, &packet));
            frames.push(tagged(&[(CUSTOMER_TAG, 10 + number)], IPV4, &packet));
            if *protocol != ICMP {
                frames.push(ethernet(IPV6, &ipv6(0, *protocol, segment)));
            }
        }
    }
    let mut multicast = frames[0].clone();
    multicast[0] |= 1;
    frames.push(multicast);
    let packet =
        |octets: Vec<u8>| Packet { link_type: ETHERNET, wire_length: octets.len() as u32, octets, time: 0 };
    frames.into_iter().map(packet).collect()
}

#[test]
fn packets_have_the_tags_that_pmacctd_gives_them() {
    let scratch = Scratch::new("tags");
    let everything = "set_tag=1\n";
    let maps: Vec<(&str, PathBuf)> = [everything]
        .into_iter()
        .chain(MAPS)
        .enumerate()
        .map(|(number, text)| {
            let map = scratch.file(&format!("{number}.map"));
            fs::write(&map, text).expect("a map");
            (text, map)
        })
        .collect();
    let own_file = scratch.file("own.pcap");
    file::write(&own_file, &own()).expect("a file");
    let mut files = vec![("own frames".to_owned(), own_file)];
    let mut captures: Vec<&Capture> = corpus()
        .captures
        .iter()
        .filter(|capture| capture.path.is_some() && capture.fault.is_none())
        .filter(|capture| capture.packets.iter().all(Packet::is_ethernet))
        .filter(|capture| capture.packets.len() <= MOST_PACKETS)
        .collect();
    captures.sort_by_key(|capture| std::cmp::Reverse(capture.packets.len()));
    let chosen = captures.iter().take(CHOSEN);
    files.extend(chosen.filter_map(|capture| Some((capture.name.clone(), capture.path.clone()?))));
    let runs: Vec<(&Path, &Path)> = files
        .iter()
        .flat_map(|(_, file)| maps.iter().map(move |(_, map)| (file.as_path(), map.as_path())))
        .collect();
    let theirs = side_by_side(&runs, |(file, map)| by_pmacctd(&scratch, file, map));
    let (mut compared, mut tags) = (0, 0);
    for ((name, file), theirs) in files.iter().zip(theirs.chunks(maps.len())) {
        let mut both = maps
            .iter()
            .zip(theirs)
            .map(|((text, map), theirs)| (text, by_pathflow(&scratch, file, map), theirs));
        // pmacctd leaves out what it does not understand, and counts octets of some in another way.
        let (_, here, theirs) = both.next().expect("the first map");
        if here != *theirs {
            assert_ne!(name, "own frames");
            continue;
        }
        for (text, here, theirs) in both {
            assert_eq!(here, *theirs, "{name}: {text}");
            tags += here.len();
        }
        compared += 1;
    }
    say(&format!("tags: {compared} of {} captures and {} maps as pmacctd has them", files.len(), MAPS.len()));
    assert!(compared == 1 || compared * 2 >= files.len(), "{compared} of {}", files.len());
    assert!(tags > 10, "{tags}");
}
