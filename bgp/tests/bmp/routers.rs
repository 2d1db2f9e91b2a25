//! FRR and `GoBGP` have a session with each other over loopback, and monitor it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, process};

use ipnet::IpNet;
use pathflow_bgp::Family;
use pathflow_bgp::bmp::router;
use pathflow_bgp::bmp::station::Settings;
use serde_json::Value;

use super::support::{Running, Table, count, equal, until};

/// A daemon; ends with its owner.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("pathflow-bmp-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.0.join(name), text).unwrap();
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(program: &str, arguments: &[String], log: &Path) -> Daemon {
    let log = fs::File::create(log).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .stdout(log.try_clone().unwrap())
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap_or_else(|error| panic!("{program} (Debian packages frr and gobgpd): {error}"));
    Daemon(child)
}

fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
}

/// gobgpd on 127.0.0.1.
struct Gobgp {
    _daemon: Daemon,
    api: String,
}

impl Gobgp {
    fn start(folder: &Folder, name: &str, bgp: u16, neighbors: &str, bmp: Option<(u16, &str)>) -> Self {
        let bmp = bmp.map_or(String::new(), |(port, policy)| {
            format!(
                "[[bmp-servers]]\n[bmp-servers.config]\naddress = \"127.0.0.1\"\nport = {port}\n\
                 route-monitoring-policy = \"{policy}\"\nstatistics-timeout = 15\n"
            )
        });
        let configuration = format!(
            "[global.config]\nas = 65001\nrouter-id = \"10.0.0.{}\"\nport = {bgp}\n\
             local-address-list = [\"127.0.0.1\"]\n{neighbors}{bmp}",
            name.len()
        );
        let configuration = folder.write(&format!("{name}.toml"), &configuration);
        let api = free_port().to_string();
        let arguments = [
            "-f".to_owned(),
            configuration.display().to_string(),
            format!("--api-hosts=127.0.0.1:{api}"),
            "--pprof-disable".to_owned(),
        ];
        let daemon = start("gobgpd", &arguments, &folder.0.join(format!("{name}.log")));
        let gobgp = Self { _daemon: daemon, api };
        until("gobgpd's API", || gobgp.ask(&["global"]).map(drop));
        gobgp
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        output("gobgp", &[&["-p", &self.api], arguments].concat())
    }

    fn change(&self, command: &str) {
        let arguments: Vec<_> = command.split(' ').collect();
        self.ask(&arguments).unwrap_or_else(|error| panic!("gobgp {command}: {error}"));
    }

    /// Routes of both families as `gobgp ARGUMENTS -j` has them.
    fn routes(&self, arguments: &[&str]) -> Result<Routes, String> {
        let mut routes = Routes::new();
        for family in ["ipv4", "ipv6"] {
            let text = self.ask(&[arguments, &["-a", family, "-j"]].concat())?;
            let json: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            for (prefix, paths) in json.as_object().into_iter().flatten() {
                for path in paths.as_array().unwrap() {
                    let attribute = |number: u64| {
                        path["attrs"].as_array().unwrap().iter().find(move |one| one["type"] == number)
                    };
                    let numbers = |value: Option<&Value>, key: &str| -> Vec<u32> {
                        let values =
                            value.and_then(|value| value[key].as_array()).cloned().unwrap_or_default();
                        values.iter().map(|number| number.as_u64().unwrap() as u32).collect()
                    };
                    let as_path =
                        attribute(2).and_then(|one| one["as_paths"].as_array()).cloned().unwrap_or_default();
                    let as_path: Vec<u32> =
                        as_path.iter().flat_map(|segment| numbers(Some(segment), "asns")).collect();
                    let next_hop = attribute(3).or(attribute(14)).unwrap()["nexthop"].as_str().unwrap();
                    let route = Route {
                        next_hop: next_hop.parse().unwrap(),
                        as_path,
                        multi_exit_disc: attribute(4).map(|one| one["metric"].as_u64().unwrap() as u32),
                        communities: numbers(attribute(8), "communities"),
                    };
                    routes.insert((prefix.parse().unwrap(), route));
                }
            }
        }
        Ok(routes)
    }
}

/// What is compared of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    next_hop: IpAddr,
    as_path: Vec<u32>,
    multi_exit_disc: Option<u32>,
    communities: Vec<u32>,
}

/// `gobgp` does not tell Path Identifiers, so paths of one prefix are told apart by what they say.
type Routes = BTreeSet<(IpNet, Route)>;

/// Those of a station's table that are not stale.
fn fresh(table: &Table) -> Routes {
    let fresh = table.routes.iter().filter(|(_, (_, stale))| !*stale);
    fresh
        .map(|(key, (attributes, _))| {
            let segments = attributes.as_path.segments.iter();
            let route = Route {
                next_hop: attributes.next_hop.unwrap(),
                as_path: segments.flat_map(|segment| segment.as_numbers.to_vec()).collect(),
                multi_exit_disc: attributes.multi_exit_disc,
                communities: attributes.communities.to_vec(),
            };
            (key.0, route)
        })
        .collect()
}

fn inject(gobgp: &Gobgp) {
    for number in 0..40u32 {
        gobgp.change(&format!(
            "global rib add 10.{number}.0.0/{} nexthop 192.0.2.{} aspath 65010,{} med {number} community 65001:{number}",
            16 + number % 8,
            1 + number % 5,
            4_200_000_000 + number,
        ));
    }
    for number in 0..20u32 {
        gobgp.change(&format!(
            "global rib -a ipv6 add 2001:db8:{number:x}::/48 nexthop 2001:db8::{number:x}1 aspath 65020"
        ));
    }
}

fn settings() -> Settings {
    let router = router::Settings { stale_time: Duration::from_secs(3), ..router::Settings::default() };
    Settings { router, ..Settings::default() }
}

/// Of a neighbour of `GoBGP`; what follows belongs to the second one.
const FAMILIES: &str = "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n\
                        [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n";

/// `gobgp`'s view of what it sends to a neighbour of the same AS, which gets it as it is.
fn frr_routes(folder: &Folder) -> Result<Routes, String> {
    let socket = folder.0.display().to_string();
    let mut routes = Routes::new();
    for family in ["ipv4", "ipv6"] {
        let command = format!("show bgp {family} unicast json");
        let text = output("vtysh", &["--vty_socket", &socket, "-c", &command])?;
        let json: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        for prefix in json["routes"].as_object().into_iter().flatten().map(|(prefix, _)| prefix) {
            let command = format!("show bgp {family} unicast {prefix} json");
            let text = output("vtysh", &["--vty_socket", &socket, "-c", &command])?;
            let json: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            let path = json["paths"].get(0).ok_or("no path")?;
            let number = |value: &Value| value.as_u64().map(|number| number as u32);
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let community = |pair: &str| {
                let (high, low) = pair.split_once(':').unwrap();
                high.parse::<u32>().unwrap() << 16 | low.parse::<u32>().unwrap()
            };
            let route = Route {
                next_hop: path["nexthops"][0]["ip"].as_str().unwrap().parse().unwrap(),
                as_path: text(&path["aspath"]["string"])
                    .split(' ')
                    .filter_map(|number| number.parse().ok())
                    .collect(),
                multi_exit_disc: number(&path["metric"]),
                communities: text(&path["community"]["string"]).split_whitespace().map(community).collect(),
            };
            routes.insert((prefix.parse().unwrap(), route));
        }
    }
    Ok(routes)
}

#[test]
fn frr_tells_what_its_peer_told_it() {
    let folder = Folder::new("frr");
    let station = Running::start(settings());
    let (gobgp_port, frr_port) = (free_port(), free_port());
    let neighbor = format!(
        "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"127.0.0.2\"\npeer-as = 65001\n\
         [neighbors.transport.config]\npassive-mode = true\n{FAMILIES}"
    );
    let gobgp = Gobgp::start(&folder, "peer", gobgp_port, &neighbor, None);
    inject(&gobgp);
    let configuration = format!(
        "router bgp 65001\n bgp router-id 10.0.1.2\n neighbor 127.0.0.1 remote-as 65001\n \
         neighbor 127.0.0.1 port {gobgp_port}\n neighbor 127.0.0.1 update-source 127.0.0.2\n \
         neighbor 127.0.0.1 timers connect 1\n address-family ipv4 unicast\n  \
         neighbor 127.0.0.1 soft-reconfiguration inbound\n exit-address-family\n address-family ipv6 unicast\n  \
         neighbor 127.0.0.1 activate\n  neighbor 127.0.0.1 soft-reconfiguration inbound\n exit-address-family\n bmp targets station\n  bmp monitor ipv4 unicast pre-policy\n  \
         bmp monitor ipv4 unicast post-policy\n  bmp monitor ipv6 unicast pre-policy\n  bmp stats interval 1000\n  \
         bmp connect 127.0.0.1 port {} min-retry 100 max-retry 500\n exit\n",
        station.address.port()
    );
    let configuration = folder.write("bgpd.conf", &configuration);
    let path = |name: &str| folder.0.join(name).display().to_string();
    let mut arguments: Vec<String> =
        ["-Z", "-S", "-n", "-P", "0", "-M", "bmp", "--log", "stdout", "-l", "127.0.0.2"]
            .map(str::to_owned)
            .into();
    for (option, value) in [
        ("-p", frr_port.to_string()),
        ("-f", configuration.display().to_string()),
        ("-i", path("bgpd.pid")),
        ("--vty_socket", folder.0.display().to_string()),
    ] {
        arguments.extend([option.to_owned(), value]);
    }
    let frr = start("/usr/lib/frr/bgpd", &arguments, &folder.0.join("bgpd.log"));

    let before = |station: &Running| fresh(&station.table("127.0.0.1 adj-rib-in-pre"));
    until("all routes", || {
        equal(before(&station).len(), 60).map_err(|error| format!("{error} {:?}", station.statistics))
    });
    let expected = frr_routes(&folder).unwrap();
    assert_eq!(expected.len(), 60);
    assert_eq!(before(&station), expected);
    let ipv4 = |routes: &Routes| -> Routes {
        routes.iter().filter(|(prefix, _)| prefix.addr().is_ipv4()).cloned().collect()
    };
    until("after policy", || equal(fresh(&station.table("127.0.0.1 adj-rib-in-post")), ipv4(&expected)));
    // Another station in its place: FRR connects again and sends everything, with the end of each table.
    let address = station.address;
    drop(station);
    let station = Running::start_at(settings(), address);
    until("all routes at the next station", || equal(before(&station), expected.clone()));
    until("ends of RIBs", || {
        let ends = station.table("127.0.0.1 adj-rib-in-pre").ends;
        equal(ends.contains(&Family::IPV4_UNICAST) && ends.contains(&Family::IPV6_UNICAST), true)
    });

    for number in 0..20 {
        gobgp.change(&format!("global rib del 10.{number}.0.0/{}", 16 + number % 8));
    }
    gobgp.change("global rib add 10.39.0.0/23 nexthop 192.0.2.99 aspath 65030 med 7");
    until("changes", || equal(before(&station).len(), 40));
    until("changes are the same", || equal(before(&station), frr_routes(&folder)?));
    station.check_rib();
    until("statistics", || equal(count(&station.statistics.messages[1]) > 0, true));

    // The peer goes: FRR says so; its routes are stale, then gone.
    drop(gobgp);
    until("stale", || {
        let table = station.table("127.0.0.1 adj-rib-in-pre");
        equal((table.routes.len(), fresh(&table).len()), (40, 0))
    });
    station.check_rib();
    until("gone", || equal(station.names(), Vec::new()));
    drop(frr);
    until("connection ended", || {
        let ended = count(&station.statistics.connection_failures);
        equal((count(&station.statistics.connections), ended <= 1), (1, true))
    });
    for counter in
        [&station.statistics.bad_connections, &station.statistics.bad_updates, &station.statistics.bad_opens]
    {
        assert_eq!(count(counter), 0, "{:?}", station.statistics);
    }
}

#[test]
fn gobgp_tells_path_identifiers_and_after_a_restart_all_its_ribs() {
    let folder = Folder::new("gobgp");
    let station = Running::start(settings());
    let bmp = station.address.port();
    let (monitored_port, peer_port) = (free_port(), free_port());
    let neighbor = |port: u16, passive: bool, address: &str, add_paths: bool| {
        let add_paths = if add_paths {
            "[neighbors.afi-safis.add-paths.config]\nreceive = true\nsend-max = 8\n"
        } else {
            ""
        };
        format!(
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = 65001\n\
             [neighbors.transport.config]\npassive-mode = {passive}\nremote-port = {port}\n\
             local-address = \"{}\"\n[neighbors.timers.config]\nconnect-retry = 1\nidle-hold-time-after-reset = 1\n\
             {FAMILIES}{add_paths}",
            if passive { "127.0.0.1" } else { "127.0.0.3" }
        )
    };
    let configuration = neighbor(peer_port, true, "127.0.0.3", true);
    let monitored =
        Gobgp::start(&folder, "monitored", monitored_port, &configuration, Some((bmp, "pre-policy")));
    let peer =
        Gobgp::start(&folder, "peer", peer_port, &neighbor(monitored_port, false, "127.0.0.1", true), None);
    inject(&peer);
    for identifier in [7, 8] {
        peer.change(&format!(
            "global rib add 172.16.0.0/16 identifier {identifier} nexthop 192.0.2.{identifier} aspath 6500{identifier}"
        ));
    }
    let table = |rib: &str| station.table(&format!("127.0.0.3 {rib}"));
    let before = || fresh(&table("adj-rib-in-pre"));
    until("session and routes", || equal(before().len(), 62));
    assert_eq!(before(), monitored.routes(&["neighbor", "127.0.0.3", "adj-in"]).unwrap());
    let both = table("adj-rib-in-pre")
        .routes
        .into_keys()
        .filter(|(prefix, _)| prefix.to_string() == "172.16.0.0/16");
    let identifiers: BTreeSet<_> = both.map(|(_, identifier)| identifier).collect();
    assert!(identifiers.len() == 2 && !identifiers.contains(&0), "{identifiers:?}");

    station.check_rib();

    // The router goes and comes back: its routes are stale, then replaced by those of a session without ADD-PATH. With
    // ADD-PATH, GoBGP encodes the tables after policy without Path Identifiers, although its OPENs promise them.
    drop(monitored);
    until("stale", || equal((table("adj-rib-in-pre").routes.len(), before().len()), (62, 0)));
    let configuration = neighbor(peer_port, true, "127.0.0.3", false);
    let monitored = Gobgp::start(&folder, "monitored", monitored_port, &configuration, Some((bmp, "all")));
    let adj_in = || monitored.routes(&["neighbor", "127.0.0.3", "adj-in"]);
    until("all again", || equal(before().len(), 61));
    assert_eq!(before(), adj_in().unwrap());
    until("after policy", || equal(fresh(&table("adj-rib-in-post")).len(), 61));
    until("Loc-RIB", || equal(fresh(&station.table("loc-rib")), monitored.routes(&["global", "rib"])?));
    until("no stale routes", || equal(table("adj-rib-in-pre").routes.len(), 61));
    station.check_rib();
    for counter in
        [&station.statistics.bad_updates, &station.statistics.bad_opens, &station.statistics.unknown_peers]
    {
        assert_eq!(count(counter), 0, "{:?}", station.statistics);
    }
}
