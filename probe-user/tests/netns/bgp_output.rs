//! Table dumps and the log of messages: BIRD tells the probe and pmacct's BGP daemon the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::support::bird::Bird;
use super::support::probe::ProbeBuilder;
use super::support::process::Process;
use super::support::routed::{LEFT, Routed};
use super::support::temp_dir::TempDir;
use super::support::wait_for;

/// Routes with attributes of all kinds that BIRD can make up.
pub(crate) const ROUTES: &str = "\
protocol static four {
  ipv4;
  route 192.0.2.0/24 blackhole {
    bgp_path.prepend(60729); bgp_path.prepend(3356); bgp_path.prepend(6939);
    bgp_community.add((6939,100)); bgp_community.add((65535,65281));
    bgp_large_community.add((397143,1,2));
    bgp_ext_community.add((rt,65000,100)); bgp_ext_community.add((ro,65000,7));
    bgp_local_pref = 150; bgp_med = 7; bgp_origin = ORIGIN_IGP;
  };
  route 192.0.2.128/25 blackhole { bgp_path.prepend(4200000001); bgp_origin = ORIGIN_EGP; bgp_med = 0; };
  route 0.0.0.0/0 blackhole { bgp_origin = ORIGIN_INCOMPLETE; };
}
protocol static six {
  ipv6;
  route 2001:db8:77::/48 blackhole { bgp_path.prepend(15169); bgp_community.add((0,0)); };
}
";

pub(crate) fn session(name: &str, neighbour: &str) -> String {
    format!(
        "protocol bgp {name} {{\n  local 127.0.0.1 as 397143;\n  neighbor {neighbour} as 397143;\n  rr client;\n  \
         multihop;\n  ipv4 {{ import none; export all; next hop self; }};\n  \
         ipv6 {{ import none; export all; next hop address 2001:db8:2::1; }};\n}}\n"
    )
}

/// The lines of a file, without what differs from one session or moment to the next.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let object = line.as_object_mut().unwrap();
        for key in ["seq", "timestamp", "peer_tcp_port"] {
            assert!(object.remove(key).is_some(), "no {key} in {object:?}");
        }
        line
    };
    text.lines().map(line).collect()
}

/// Those of a kind, as text, in an order of their own.
fn of(lines: &[Value], log_type: &str) -> BTreeSet<String> {
    lines.iter().filter(|line| line["log_type"] == log_type).map(ToString::to_string).collect()
}

#[test]
fn files_say_what_those_of_pmbgpd_say() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let (pmbgpd_log, log) = (directory.file("pmbgpd-127_0_0_1"), directory.file("log-127_0_0_1"));
    let in_directory = |name: &str| directory.file(name).display().to_string();
    let pmbgpd_configuration = directory.file("pmbgpd.conf");
    let text = format!(
        "daemonize: false\nbgp_daemon_ip: 127.0.0.3\nbgp_daemon_port: 17918\nbgp_daemon_msglog_file: {}\n\
         bgp_table_dump_file: {}\nbgp_table_dump_refresh_time: 3600\n",
        in_directory("pmbgpd-$peer_src_ip"),
        // Without it, it keeps no routes and does not know what is withdrawn.
        in_directory("pmbgpd-dump-$peer_src_ip"),
    );
    fs::write(&pmbgpd_configuration, text).unwrap();
    let mut pmbgpd = Process::start(routed.router.command("pmbgpd").arg("-f").arg(&pmbgpd_configuration));
    pmbgpd.wait_for_message("waiting for BGP data");
    let configuration = format!(
        "[bgp]\nlisten = [\"127.0.0.2:17917\"]\n[[bgp.peer]]\naddress = \"127.0.0.1\"\n\
             [bgp.table_dump]\nfile = \"{}\"\nlatest = \"{}\"\ninterval = \"10s\"\nutc = true\n\
             [bgp.message_log]\nfile = \"{}\"\n[control]\nsocket = \"\"\n",
        in_directory("dumps/$peer_src_ip-%Y"),
        in_directory("latest-$peer_src_ip"),
        in_directory("log-$peer_src_ip"),
    );
    let probe = ProbeBuilder::configured(&routed.router)
        .argument("--interface", LEFT)
        .configuration(&configuration)
        .start();
    let sessions = session("pathflow", "127.0.0.2 port 17917") + &session("pmbgpd", "127.0.0.3 port 17918");
    let bird = Bird::start(&routed.router, &(ROUTES.to_owned() + &sessions));
    let wait_for_lines = |path: &Path, log_type: &str, count: usize| {
        let found = || of(&lines(path), log_type);
        wait_for(log_type, || format!("{:#?}", found()), || (found().len() == count).then(found))
    };

    let expected = wait_for_lines(&pmbgpd_log, "update", 4);
    assert_eq!(wait_for_lines(&log, "update", 4), expected);
    wait_for_lines(&log, "end-of-rib", 2);
    assert_eq!(lines(&log)[0]["event_type"], "log_init");

    let latest = directory.file("latest-127_0_0_1");
    wait_for("a dump", String::new, || (lines(&latest).len() == 6).then_some(()));
    let target = fs::read_link(&latest).unwrap();
    assert!(target.parent().unwrap().ends_with("dumps"), "{}", target.display());
    let dump = lines(&latest);
    let first = &dump[0];
    assert_eq!((&first["event_type"], &first["dump_period"]), (&"dump_init".into(), &10.into()));
    let last = &dump[5];
    assert_eq!((&last["event_type"], &last["entries"]), (&"dump_close".into(), &4.into()));
    let mut routes = BTreeSet::new();
    for line in &dump[1..5] {
        assert_eq!(line["event_type"], "dump");
        let mut line = line.clone();
        line["event_type"] = "log".into();
        line["log_type"] = "update".into();
        routes.insert(line.to_string());
    }
    assert_eq!(routes, expected);

    // Moved away; what comes after the signal is in a new file.
    fs::rename(&log, directory.file("old")).unwrap();
    probe.reload(&configuration);
    wait_for("a new file", || probe.errors(), || log.exists().then_some(()));
    bird.ask(&["disable", "six"]);
    assert_eq!(wait_for_lines(&log, "withdraw", 1), wait_for_lines(&pmbgpd_log, "withdraw", 1));
    bird.ask(&["disable", "pathflow"]);
    let closed = || lines(&log).last().is_some_and(|line| line["event_type"] == "log_close");
    wait_for("log_close", String::new, || closed().then_some(()));
    probe.terminate();
}
