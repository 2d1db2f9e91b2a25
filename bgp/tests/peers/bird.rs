//! BIRD 2.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use pathflow_bgp::Family;
use pathflow_bgp::speaker::{Active, Md5Key, PeerSettings};

use crate::daemon::{Daemon, PATIENCE, folder, output};
use crate::table::{Facts, assert_equal, is_complete, is_up, peer, routes, start, status};

/// The peer block that operators use for pmacctd, but for our ports, and for the IPv6 next hop: today's BIRD wants an
/// IPv6 address there.
fn block(local: &str, remote: &str, more: &str, channel: &str) -> String {
    format!(
        "protocol bgp pathflow {{
  description \"pathflow\";
  local {local} port 17901 as 397143;
  strict bind yes;
  neighbor {remote} port 17917 as 397143;
  rr client;
  hold time 90;
  keepalive time 30;
  graceful restart;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  {more}

  ipv4 {{
    next hop self;
    {channel}
    import filter {{ reject; }};
    export filter {{ accept; }};
  }};

  ipv6 {{
    next hop address ::1;
    {channel}
    import filter {{ reject; }};
    export filter {{ accept; }};
  }};
}}
"
    )
}

/// Static routes with all kinds of attributes, a different mix for each.
fn statics(first: u32, count: u32) -> String {
    let mut ipv4 = String::from("protocol static s4 {\n  ipv4;\n");
    let mut ipv6 = String::from("protocol static s6 {\n  ipv6;\n");
    for number in first..first + count {
        let mut attributes = String::new();
        for hop in 0..number % 5 {
            writeln!(attributes, "bgp_path.prepend({});", 64_500 + hop + number % 7 * 100_000).unwrap();
        }
        if number % 3 == 0 {
            writeln!(attributes, "bgp_community.add((64500,{}));", number % 1000).unwrap();
            writeln!(attributes, "bgp_community.add((65535,65281));").unwrap();
        }
        if number % 4 == 0 {
            writeln!(attributes, "bgp_large_community.add((397143,{number},1));").unwrap();
        }
        if number % 5 == 0 {
            writeln!(attributes, "bgp_med = {};", number * 1000).unwrap();
        }
        if number % 6 == 0 {
            writeln!(attributes, "bgp_local_pref = {number};").unwrap();
        }
        writeln!(
            attributes,
            "bgp_origin = {};",
            ["ORIGIN_IGP", "ORIGIN_EGP", "ORIGIN_INCOMPLETE"][number as usize % 3]
        )
        .unwrap();
        let (high, low) = (number / 256 % 256, number % 256);
        writeln!(ipv4, "  route 10.{high}.{low}.0/{} blackhole {{ {attributes} }};", 24 + number % 9)
            .unwrap();
        if number % 2 == 0 {
            writeln!(
                ipv6,
                "  route 2001:db8:{number:x}::/{} blackhole {{ {attributes} }};",
                48 + number % 81
            )
            .unwrap();
        }
    }
    ipv4 + "}\n" + &ipv6 + "}\n"
}

struct Bird {
    daemon: Daemon,
}

impl Bird {
    fn start(name: &str, configuration: &str) -> Self {
        let folder = folder(name);
        fs::write(folder.join("bird.conf"), Self::whole(configuration)).unwrap();
        let daemon = Daemon::start(
            folder,
            Command::new("bird").args(["-f", "-c", "bird.conf", "-s", "control", "-P", "pid"]),
        );
        Self { daemon }
    }

    fn whole(configuration: &str) -> String {
        format!("log stderr all;\nrouter id 10.99.0.1;\nprotocol device {{}}\n{configuration}")
    }

    fn client(&self, arguments: &[&str]) -> String {
        output(Command::new("birdc").arg("-s").arg(self.daemon.folder().join("control")).args(arguments))
    }

    fn reconfigure(&self, configuration: &str) {
        fs::write(self.daemon.folder().join("bird.conf"), Self::whole(configuration)).unwrap();
        let file = self.daemon.folder().join("bird.conf");
        self.client(&["configure", &format!("\"{}\"", file.display())]);
    }

    /// `show route export`, as BIRD's filters leave the routes; what the protocol itself adds when it sends them is
    /// added here: the next hop of the block, and a local preference of 100.
    fn exported(&self) -> BTreeSet<Facts> {
        let text = self.client(&["show", "route", "all", "export", "pathflow"]);
        let local = self.client(&["show", "protocols", "all", "pathflow"]);
        let local = local.lines().find_map(|line| line.trim().strip_prefix("Source address:"));
        let local = local.expect("the session is up").trim();
        let mut facts: Vec<Facts> = Vec::new();
        for line in text.lines() {
            // A line that begins with blanks is one more path of the prefix before.
            let again = line.starts_with("  ").then(|| facts.last().unwrap().prefix.clone());
            let prefix = line.split_once(' ').map(|(prefix, _)| prefix.to_owned());
            if let Some(prefix) = again.or(prefix.filter(|prefix| prefix.contains('/'))) {
                let next_hop = if prefix.contains(':') { "::1" } else { local };
                facts.push(Facts {
                    prefix,
                    origin: "IGP".to_owned(),
                    next_hop: next_hop.to_owned(),
                    local_pref: Some(100),
                    ..Facts::default()
                });
            }
            let Some((name, value)) = line.trim().strip_prefix("BGP.").and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            let route = facts.last_mut().unwrap();
            let tuples = || {
                let tuples = value.split(") (").map(|tuple| tuple.trim_matches(['(', ')']));
                tuples.map(|tuple| tuple.replace(", ", ":").replace(',', ":")).collect()
            };
            match name {
                "origin" => value.clone_into(&mut route.origin),
                "as_path" => value.clone_into(&mut route.as_path),
                "med" => route.med = value.parse().ok(),
                "local_pref" => route.local_pref = value.parse().ok(),
                "community" => route.communities = tuples(),
                "large_community" => route.large_communities = tuples(),
                "next_hop" => {}
                other => panic!("attribute {other}"),
            }
        }
        facts.into_iter().collect()
    }
}

#[test]
fn the_table_is_what_bird_exports_through_flaps_refreshes_and_changes() {
    let speaker = start("127.0.0.2:17917", peer("127.0.0.1"));
    let block = block("127.0.0.1", "127.0.0.2", "", "");
    let mut bird = Bird::start("bird", &(statics(0, 3000) + &block));
    bird.daemon.until("the whole table", || is_complete(&speaker));
    let exported = bird.exported();
    assert_eq!(exported.len(), 4500);
    assert_equal(&routes(&speaker), &exported);
    let agreed = status(&speaker).negotiated.unwrap();
    assert_eq!((agreed.local_as, agreed.remote_as), (397_143, 397_143));
    assert!(agreed.route_refresh && agreed.enhanced_refresh && agreed.graceful_restart.is_some());

    // All of it again, between begin and end (RFC 7313): at BIRD's wish, then at ours.
    let refreshed = || status(&speaker).counters.route_refreshes_received;
    bird.client(&["reload", "out", "pathflow"]);
    bird.daemon.until("begin and end of two families", || refreshed() == 4);
    assert_equal(&routes(&speaker), &exported);
    assert!(speaker.refresh(status(&speaker).id).unwrap());
    bird.daemon.until("begin and end of two families", || refreshed() == 8);
    assert_equal(&routes(&speaker), &exported);

    // Some routes go, some come.
    bird.reconfigure(&(statics(1000, 3000) + &block));
    let changed = bird.exported();
    assert_ne!(changed, exported);
    bird.daemon.until("the changes", || routes(&speaker) == changed);

    for _ in 0..3 {
        bird.client(&["disable", "pathflow"]);
        bird.daemon.until("the end of the session", || !is_up(&speaker));
        // Nothing is blank meanwhile.
        assert_eq!(speaker.routes(status(&speaker).id).count(), changed.len());
        let error = status(&speaker).last_error.unwrap();
        assert!(error.received && error.text.contains("Administrative Shutdown"), "{}", error.text);
        bird.client(&["enable", "pathflow"]);
        bird.daemon.until("the whole table", || is_complete(&speaker));
        assert_equal(&routes(&speaker), &changed);
    }
    speaker.stop("maintenance");
    let written = bird.daemon.folder().join("output");
    bird.daemon.until("our farewell", || fs::read_to_string(&written).unwrap().contains("maintenance"));
}

#[test]
fn a_bird_that_dies_keeps_its_routes_until_it_is_back() {
    let speaker = start("127.0.0.3:17917", peer("127.4.0.1"));
    let configuration = statics(0, 300) + &block("127.4.0.1", "127.0.0.3", "", "");
    let mut bird = Bird::start("bird-dies", &configuration);
    bird.daemon.until("the whole table", || is_complete(&speaker));
    let exported = bird.exported();
    // It is killed.
    drop(bird);
    let start = std::time::Instant::now();
    while is_up(&speaker) {
        assert!(start.elapsed() < PATIENCE);
    }
    let stale: Vec<_> = speaker.routes(status(&speaker).id).collect();
    assert_eq!(stale.len(), exported.len());
    assert!(stale.iter().all(|route| route.stale));
    let mut bird = Bird::start("bird-dies", &configuration);
    bird.daemon.until("the whole table", || is_complete(&speaker));
    assert_equal(&routes(&speaker), &exported);
    speaker.stop("");
}

#[test]
fn a_bird_that_hangs_loses_its_session_and_gets_it_back() {
    let hasty = PeerSettings { hold_time: 3, ..peer("127.4.0.2") };
    let speaker = start("127.0.0.4:17917", hasty);
    let mut bird = Bird::start("bird-hangs", &(statics(0, 300) + &block("127.4.0.2", "127.0.0.4", "", "")));
    bird.daemon.until("the whole table", || is_complete(&speaker));
    let exported = bird.exported();
    bird.daemon.signal("STOP");
    bird.daemon.until("the hold timer", || !is_up(&speaker));
    assert_eq!(status(&speaker).last_error.unwrap().notification.unwrap().code, 4);
    bird.daemon.signal("CONT");
    bird.daemon.until("the whole table", || is_complete(&speaker));
    assert_equal(&routes(&speaker), &exported);
    speaker.stop("");
}

#[test]
fn several_paths_signed_and_from_a_neighbour() {
    let secured = PeerSettings {
        md5_key: Some(Md5Key::new(b"a secret of both").unwrap()),
        ttl_security: Some(1),
        ..peer("127.4.0.3")
    };
    let speaker = start("127.0.0.5:17917", secured);
    let more = "password \"a secret of both\"; ttl security yes; multihop 2; enable extended messages yes;";
    let second = "protocol static more { ipv4 { preference 150; };
        route 10.0.3.0/27 blackhole { bgp_path.prepend(64999); bgp_origin = ORIGIN_IGP; }; }\n";
    let block = block("127.4.0.3", "127.0.0.5", more, "add paths tx;");
    let mut bird = Bird::start("bird-paths", &(statics(0, 300) + second + &block));
    bird.daemon.until("the whole table", || is_complete(&speaker));
    let agreed = status(&speaker).negotiated.unwrap();
    assert!(agreed.extended_messages);
    assert!(agreed.context.add_path.contains(Family::IPV4_UNICAST));
    let ours = routes(&speaker);
    let paths: Vec<&Facts> = ours.iter().filter(|route| route.prefix == "10.0.3.0/27").collect();
    assert_eq!(paths.len(), 2);
    assert_ne!(paths[0].path_id, paths[1].path_id);
    // BIRD does not show Path Identifiers.
    let without = ours.into_iter().map(|route| Facts { path_id: 0, ..route }).collect();
    assert_equal(&without, &bird.exported());
    speaker.stop("");
}

#[test]
fn a_bird_that_waits_is_connected_to() {
    let active = Active { port: 17901, local: Some("127.0.0.6:0".parse().unwrap()) };
    let active = PeerSettings { active: Some(active), remote_as: Some(397_143), ..peer("127.4.0.4") };
    let speaker = start("127.0.0.6:17917", active);
    let block = block("127.4.0.4", "127.0.0.6", "passive yes;", "");
    let mut bird = Bird::start("bird-waits", &(statics(0, 300) + &block));
    bird.daemon.until("the whole table", || is_complete(&speaker));
    assert_equal(&routes(&speaker), &bird.exported());
    assert_eq!(status(&speaker).counters.connections_accepted, 0);
    speaker.stop("");
}
