//! Origin validation of routes in records: VRPs of stayrtr, routes of BIRD.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use super::bgp::{CONFIGURATION, ask, by_addresses, settings, wait_for_routes};
use super::support::bird::Bird;
use super::support::probe::ProbeBuilder;
use super::support::process::Process;
use super::support::routed::{CLIENT, LEFT, Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::wait_for;

/// Where the test's datagrams go.
const PORT: u16 = 4242;

/// The client's IPv4 network is of another AS than the router's; the server's are of AS 60729, their more specific routes
/// of another. Nobody has said anything of 192.0.0.0/16, behind an invalid route.
const ROAS: &str = r#"{ "roas": [
    { "asn": "AS64500", "prefix": "198.51.100.0/24", "maxLength": 24, "ta": "test" },
    { "asn": "AS60729", "prefix": "203.0.113.0/24", "maxLength": 24, "ta": "test" },
    { "asn": "AS60729", "prefix": "2001:db8:2::/64", "maxLength": 64, "ta": "test" },
    { "asn": "AS64500", "prefix": "192.0.2.0/24", "maxLength": 24, "ta": "test" }
] }"#;

/// By prefix, the state in each table dump.
fn dumps(directory: &TempDir) -> Vec<BTreeMap<String, String>> {
    let files = fs::read_dir(directory.file("")).unwrap().map(|entry| entry.unwrap().path());
    let is_dump = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("dump-") && !name.ends_with(".part")
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let states = |path: PathBuf| {
        let lines = fs::read_to_string(path).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|line| (text(&line["ip_prefix"]), text(&line["roa"]))).collect()
    };
    files.filter(is_dump).map(states).collect()
}

#[test]
fn records_have_the_five_states_of_origin_validation() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let json = directory.file("roas.json");
    fs::write(&json, ROAS).unwrap();
    let mut command = routed.router.command("stayrtr");
    command
        .arg("-bind=127.0.0.1:8282")
        .arg(format!("-cache={}", json.display()))
        .args([
            "-checktime=false",
            "-metrics.addr=",
            "-rtr.refresh=3600",
            "-rtr.retry=600",
            "-rtr.expire=7200",
        ])
        .stdout(Stdio::null());
    let cache = Process::start(&mut command);
    let connect = || routed.router.run(|| TcpStream::connect("127.0.0.1:8282").ok());
    wait_for("stayrtr listens", || cache.errors(), connect);

    let more = format!(
        "route 192.0.2.0/24 via {};\n  route 192.0.0.0/16 via {};\n  route 203.0.113.0/24",
        SERVER[0], SERVER[0]
    );
    let bird = Bird::start(&routed.router, &CONFIGURATION.replacen("route 203.0.113.0/24", &more, 1));
    routed.router.ip(&format!("route add default via {}", SERVER[0]));
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .configuration(&format!(
            "{}[rpki]\ncache = \"127.0.0.1:8282\"\n[bgp.table_dump]\nfile = \"{}\"\ninterval = \"10s\"\n",
            settings(&directory, "local_as = 397143\n"),
            directory.file("dump-$peer_src_ip-%s").display(),
        ))
        .json()
        .start();
    bird.wait_until_established();
    wait_for_routes(&probe, 8);
    probe.wait_until("VRPs", |metrics| metrics.total("pathflow_rpki_vrps") == 4);

    let cases = [
        ("203.0.113.1", "valid"),
        ("203.0.113.200", "invalid-covered-by-valid"),
        ("2001:db8:2::1", "valid"),
        ("2001:db8:2::8001", "invalid-covered-by-valid"),
        ("192.0.2.9", "invalid-covered-by-not-found"),
        ("192.0.3.9", "not-found"),
    ];
    for (destination, _) in cases {
        Routed::send(&routed.client, (destination, PORT), 10, 1);
    }
    for (destination, state) in cases {
        let route = &ask(&directory, &["route", destination])["routes"][0];
        assert_eq!(route["rpki"], state, "{route:#}");
    }
    let letters = [
        ("198.51.100.0/24", "i"),
        ("203.0.113.0/24", "v"),
        ("203.0.113.128/25", "V"),
        ("192.0.2.0/24", "U"),
        ("192.0.0.0/16", "u"),
        ("2001:db8:2::/64", "v"),
    ];
    // A dump of a moment at which everything was there.
    wait_for(
        "letters in a dump",
        || format!("{:#?}", dumps(&directory)),
        || {
            dumps(&directory).into_iter().find(|states| {
                letters
                    .iter()
                    .all(|(prefix, letter)| states.get(*prefix).is_some_and(|found| found == letter))
            })
        },
    );
    let ended = probe.terminate();
    ended.report.assert_balanced();
    let flows = by_addresses(&ended.output);
    assert_eq!(flows.len(), cases.len());
    for (destination, state) in cases {
        let (source, source_state) =
            if destination.contains(':') { (CLIENT[1], "not-found") } else { (CLIENT[0], "invalid") };
        let flow = &flows[&(source.to_owned(), destination.to_owned())];
        assert_eq!((&flow["destination_rpki"], &flow["source_rpki"]), (&state.into(), &source_state.into()));
    }
}
