//! `GoBGP`: several families, VPN routes among them.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use pathflow_bgp::Family;

use crate::daemon::{Daemon, folder, output};
use crate::table::{Facts, assert_equal, is_up, peer, routes, start, status};

const LOCAL: &str = "127.6.0.1";
const REMOTE: &str = "127.0.0.8";
const API: &str = "50917";

fn configuration() -> String {
    let families =
        ["ipv4-unicast", "ipv6-unicast", "ipv4-labelled-unicast", "l3vpn-ipv4-unicast", "l3vpn-ipv6-unicast"];
    let families: Vec<String> = families
        .iter()
        .map(|family| {
            format!(
                "  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = \"{family}\"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = true
"
            )
        })
        .collect();
    let families = families.concat();
    format!(
        "[global.config]
  as = 4200000001
  router-id = \"10.99.0.3\"
  port = 17901
  local-address-list = [\"{LOCAL}\"]
[[neighbors]]
  [neighbors.config]
    neighbor-address = \"{REMOTE}\"
    peer-as = 4200000001
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [neighbors.transport.config]
    remote-port = 17917
    local-address = \"{LOCAL}\"
  [neighbors.graceful-restart.config]
    enabled = true
    restart-time = 20
{families}"
    )
}

fn client(arguments: &str) -> String {
    output(Command::new("gobgp").args(["-p", API]).args(arguments.split(' ')))
}

#[test]
fn the_table_is_what_gobgp_was_told() {
    let speaker = start(&format!("{REMOTE}:17917"), peer(LOCAL));
    let folder = folder("gobgp");
    fs::write(folder.join("gobgpd.conf"), configuration()).unwrap();
    let mut command = Command::new("gobgpd");
    command.args(["-f", "gobgpd.conf", "--api-hosts", &format!("127.0.0.1:{API}"), "--pprof-disable"]);
    let mut gobgp = Daemon::start(folder, &mut command);
    gobgp.until("the session", || is_up(&speaker));

    let mut expected = BTreeSet::new();
    for number in 0..20_u32 {
        let prefix = format!("10.0.{number}.0/24");
        let attributes = format!(
            "aspath 64501,{} med {number} local-pref {} community 64500:{number} large-community 1:2:{number} origin egp",
            64_502 + number,
            200 + number
        );
        client(&format!("global rib add {prefix} nexthop 192.0.2.1 {attributes}"));
        expected.insert(Facts {
            prefix,
            origin: "EGP".to_owned(),
            as_path: format!("64501 {}", 64_502 + number),
            next_hop: "192.0.2.1".to_owned(),
            med: Some(number),
            local_pref: Some(200 + number),
            communities: vec![format!("64500:{number}")],
            large_communities: vec![format!("1:2:{number}")],
            ..Facts::default()
        });
    }
    let plain = |prefix: &str, next_hop: &str| Facts {
        prefix: prefix.to_owned(),
        origin: "Incomplete".to_owned(),
        next_hop: next_hop.to_owned(),
        local_pref: Some(100),
        ..Facts::default()
    };
    client("global rib add -a ipv6 2001:db8::/32 nexthop 2001:db8::1");
    expected.insert(plain("2001:db8::/32", "2001:db8::1"));
    client("global rib add -a vpnv4 10.7.0.0/16 label 24001 rd 64500:100 rt 64500:100 nexthop 192.0.2.9");
    expected.insert(plain("10.7.0.0/16", "192.0.2.9"));
    client(
        "global rib add -a vpnv6 2001:db8:7::/48 label 24002 rd 192.0.2.7:5 rt 64500:100 nexthop 2001:db8::9",
    );
    expected.insert(plain("2001:db8:7::/48", "2001:db8::9"));
    gobgp.until("all routes", || routes(&speaker).len() == expected.len());
    assert_equal(&routes(&speaker), &expected);

    let vpn: Vec<_> = speaker
        .routes(status(&speaker).id)
        .filter_map(|route| {
            let distinguisher = route.nlri.route_distinguisher?;
            Some((distinguisher.to_string(), route.nlri.label.unwrap().value()))
        })
        .collect();
    let vpn: BTreeSet<_> = vpn.into_iter().collect();
    let wanted = [("0:64500:100".to_owned(), 24_001), ("1:192.0.2.7:5".to_owned(), 24_002)];
    assert_eq!(vpn, BTreeSet::from(wanted));

    client("global rib del 10.0.3.0/24");
    expected.retain(|route| route.prefix != "10.0.3.0/24");
    gobgp.until("the withdrawal", || routes(&speaker).len() == expected.len());
    assert_equal(&routes(&speaker), &expected);

    // AS 4200000001 is the speaker's own too, learned from the OPEN.
    let agreed = status(&speaker).negotiated.unwrap();
    assert_eq!((agreed.local_as, agreed.remote_as), (4_200_000_001, 4_200_000_001));
    assert_eq!(agreed.graceful_restart, Some(20));
    assert!(agreed.families.contains(Family::from_numbers(1, 128).unwrap()));
    client(&format!("neighbor {REMOTE} shutdown --reason bye"));
    gobgp.until("the end of the session", || !is_up(&speaker));
    let error = status(&speaker).last_error.unwrap();
    assert!(error.received && error.text.contains("\"bye\""), "{}", error.text);
    speaker.stop("");
}
