//! FRR's bgpd, without zebra: an external peer.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use pathflow_bgp::speaker::PeerSettings;
use serde_json::Value;

use crate::daemon::{Daemon, folder, output};
use crate::table::{Facts, assert_equal, is_complete, is_up, peer, routes, start, status};

const LOCAL: &str = "127.5.0.1";
const REMOTE: &str = "127.0.0.7";

/// A configuration that announces prefixes with three kinds of attributes.
fn configuration() -> String {
    let mut text = format!(
        "hostname frr
route-map attributes permit 10
 set as-path prepend 64501 4200000000
 set community 64500:1 64500:2
 set large-community 64500:1:2
 set metric 7
route-map incomplete permit 10
 set origin incomplete
router bgp 64500
 bgp router-id 10.99.0.2
 no bgp network import-check
 no bgp ebgp-requires-policy
 neighbor {REMOTE} remote-as 64999
 neighbor {REMOTE} port 17917
 neighbor {REMOTE} update-source {LOCAL}
 neighbor {REMOTE} ebgp-multihop 3
 neighbor {REMOTE} timers connect 1
 address-family ipv4 unicast
"
    );
    for number in 0..500 {
        let map = ["", " route-map attributes", " route-map incomplete"][number % 3];
        writeln!(text, "  network 10.{}.{}.0/24{map}", number / 256, number % 256).unwrap();
    }
    writeln!(text, " exit-address-family\n address-family ipv6 unicast\n  neighbor {REMOTE} activate")
        .unwrap();
    for number in 0..200 {
        writeln!(text, "  network 2001:db8:{number:x}::/48").unwrap();
    }
    text + " exit-address-family\n"
}

fn shell(folder: &Path, command: &str) -> String {
    output(Command::new("vtysh").arg("--vty_socket").arg(folder).args(["-d", "bgpd", "-c", command]))
}

/// What FRR says it sends. It shows neither communities nor, where it is its own address, the next hop.
fn advertised(folder: &Path) -> BTreeSet<Facts> {
    let mut facts = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let text =
            shell(folder, &format!("show bgp {family} unicast neighbors {REMOTE} advertised-routes json"));
        let value: Value = serde_json::from_str(&text).unwrap();
        for (prefix, route) in value["advertisedRoutes"].as_object().unwrap() {
            let path = route["path"].as_str().unwrap();
            // The own AS number comes in front as the route leaves.
            let as_path = format!("64500 {path}").trim().to_owned();
            let origin = match route["bgpOriginCode"].as_str().unwrap() {
                "i" => "IGP",
                _ => "Incomplete",
            };
            facts.insert(Facts {
                prefix: prefix.clone(),
                origin: origin.to_owned(),
                as_path,
                med: route["metric"].as_u64().map(|metric| metric as u32),
                ..Facts::default()
            });
        }
    }
    facts
}

#[test]
fn the_table_is_what_frr_advertises() {
    let external = PeerSettings { local_as: Some(64_999), ..peer(LOCAL) };
    let speaker = start(&format!("{REMOTE}:17917"), external);
    let folder = folder("frr");
    fs::write(folder.join("frr.conf"), configuration()).unwrap();
    let mut command = Command::new("/usr/lib/frr/bgpd");
    command.args(["-f", "frr.conf", "-S", "-n", "-Z", "-l", LOCAL, "-p", "17901", "-P", "0", "-i", "pid"]);
    command.args(["-z", "zserv", "--log", "stdout", "--vty_socket"]).arg(&folder);
    let mut frr = Daemon::start(folder.clone(), &mut command);
    frr.until("the session", || is_up(&speaker));
    let complete = || is_complete(&speaker) && routes(&speaker).len() == 700;
    frr.until("the whole table", complete);
    let agreed = status(&speaker).negotiated.unwrap();
    assert_eq!((agreed.local_as, agreed.remote_as, agreed.context.internal), (64_999, 64_500, false));

    let ours = routes(&speaker);
    let theirs = advertised(&folder);
    let visible = |facts: &Facts| Facts {
        next_hop: String::new(),
        communities: Vec::new(),
        large_communities: Vec::new(),
        ..facts.clone()
    };
    assert_equal(&ours.iter().map(visible).collect(), &theirs);
    for route in &ours {
        let tagged = route.as_path.contains("4200000000");
        let communities: &[&str] = if tagged { &["64500:1", "64500:2"] } else { &[] };
        assert_eq!(route.communities, communities, "{route:?}");
        let large: &[&str] = if tagged { &["64500:1:2"] } else { &[] };
        assert_eq!(route.large_communities, large, "{route:?}");
        if !route.prefix.contains(':') {
            assert_eq!(route.next_hop, LOCAL);
        }
    }
    assert_eq!(ours.iter().filter(|route| !route.communities.is_empty()).count(), 167);

    // RFC 7313 at our wish, then a session that FRR ends.
    let refreshed = || status(&speaker).counters.route_refreshes_received;
    assert!(speaker.refresh(status(&speaker).id).unwrap());
    frr.until("begin and end of two families", || refreshed() == 4);
    assert_eq!(routes(&speaker), ours);
    shell(&folder, "clear bgp *");
    frr.until("another session", || status(&speaker).counters.sessions == 2 && complete());
    assert_eq!(routes(&speaker), ours);
    speaker.stop("");
}
