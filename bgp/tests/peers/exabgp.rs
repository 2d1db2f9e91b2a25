//! `ExaBGP`: routes, and attributes that no other speaker would send.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use pathflow_bgp::error::ErrorHandling;
use pathflow_bgp::iana::attribute;

use crate::daemon::{Daemon, folder};
use crate::table::{Facts, assert_equal, is_complete, is_up, peer, routes, start, status};

const LOCAL: &str = "127.7.0.1";
const REMOTE: &str = "127.0.0.9";

fn configuration(routes: &str) -> String {
    format!(
        "neighbor {REMOTE} {{
  router-id 10.99.0.4;
  local-address {LOCAL};
  local-as 64500;
  peer-as 64500;
  hold-time 30;
  family {{
    ipv4 unicast;
    ipv4 nlri-mpls;
    ipv4 mpls-vpn;
  }}
  static {{
{routes}
  }}
}}
"
    )
}

fn exabgp(name: &str, routes: &str) -> Daemon {
    let folder = folder(name);
    fs::write(folder.join("exabgp.conf"), configuration(routes)).unwrap();
    let mut command = Command::new("exabgp");
    command.arg("exabgp.conf").env("exabgp.tcp.port", "17917").env("exabgp.daemon.user", "root");
    command.env("exabgp.api.cli", "false").env("exabgp.log.destination", "stdout");
    Daemon::start(folder, &mut command)
}

#[test]
fn the_table_is_what_exabgp_was_told_and_bad_attributes_do_no_harm() {
    let speaker = start(&format!("{REMOTE}:17917"), peer(LOCAL));
    let mut daemon = exabgp(
        "exabgp",
        "route 10.1.0.0/24 next-hop 192.0.2.1 as-path [ 64501 4200000000 ] med 5 local-preference 200 \
            community [ 64500:1 65535:65281 ] large-community [ 1:2:3 ] origin egp;
         route 10.2.0.0/24 next-hop 192.0.2.1;
         route 10.3.0.0/24 next-hop 192.0.2.1 label 24001;
         route 10.4.0.0/24 rd 64500:100 next-hop 192.0.2.1 label 24002;
         # COMMUNITIES of five octets: its routes are not taken (RFC 7606, section 7.8).
         route 10.5.0.0/24 next-hop 192.0.2.1 attribute [ 0x08 0xc0 0x0102030405 ];
         # An attribute that nobody knows, transitive: it is none of our business.
         route 10.6.0.0/24 next-hop 192.0.2.1 attribute [ 0xf7 0xe0 0x0102030405 ];
         # ATTR_SET cut short.
         route 10.7.0.0/24 next-hop 192.0.2.1 attribute [ 0x80 0xc0 0x00 ];
         # AGGREGATOR of two octets: it is discarded (RFC 7606, section 7.7).
         route 10.8.0.0/24 next-hop 192.0.2.1 attribute [ 0x07 0xc0 0x0102 ];",
    );
    let plain = |prefix: &str, next_hop: &str| Facts {
        prefix: prefix.to_owned(),
        origin: "IGP".to_owned(),
        next_hop: next_hop.to_owned(),
        local_pref: Some(100),
        ..Facts::default()
    };
    let mut expected: BTreeSet<Facts> =
        ["10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24", "10.6.0.0/24", "10.7.0.0/24", "10.8.0.0/24"]
            .map(|prefix| plain(prefix, "192.0.2.1"))
            .into();
    expected.insert(Facts {
        origin: "EGP".to_owned(),
        as_path: "64501 4200000000".to_owned(),
        med: Some(5),
        local_pref: Some(200),
        communities: vec!["64500:1".to_owned(), "65535:65281".to_owned()],
        large_communities: vec!["1:2:3".to_owned()],
        ..plain("10.1.0.0/24", "192.0.2.1")
    });
    daemon.until("all routes", || is_up(&speaker) && is_complete(&speaker));
    assert_equal(&routes(&speaker), &expected);
    let counters = status(&speaker).counters;
    assert_eq!((counters.treated_as_withdraw, counters.sessions), (1, 1));
    assert_eq!(counters.attributes_discarded, 1);
    let by_type: Vec<_> = status(&speaker).attribute_errors.into_iter().collect();
    let aggregator = (attribute::AGGREGATOR, ErrorHandling::AttributeDiscard);
    let communities = (attribute::COMMUNITIES, ErrorHandling::TreatAsWithdraw);
    assert_eq!(by_type, [(aggregator, 1), (communities, 1)]);
    speaker.stop("");
}
