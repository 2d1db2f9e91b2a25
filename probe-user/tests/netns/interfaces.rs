//! Interfaces as the daemon sees them, against what `ip` says of them and does with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use pathflow::interfaces::{
    Action, Interface, InterfaceRules, LinkState, MacAddress, Monitor, NameTable, Plan, Snapshot, XdpMode,
    interfaces, xdp_program_id,
};
use serde_json::Value;

use super::refusals::write_program;
use super::support::PATIENCE;
use super::support::namespace::Namespace;
use super::support::network::{CAPTURED, Network};
use super::support::probe::ProbeBuilder;
use super::support::temp_dir::TempDir;
use super::support::tool::{output, tool};
use super::support::traffic::Traffic;

/// Runs `ip` with these words.
fn ip(namespace: &Namespace, words: &str) {
    output(namespace.command("ip").args(words.split(' ')));
}

/// Runs many commands of `ip` in one process, one soon after the other.
fn ip_batch(namespace: &Namespace, commands: &str) {
    let directory = TempDir::new();
    let file = directory.file("batch");
    fs::write(&file, commands).unwrap();
    output(namespace.command("ip").arg("-batch").arg(&file));
}

/// What `ip` says of every interface, by index.
fn links(text: &str) -> BTreeMap<u32, Value> {
    let links: Vec<Value> = serde_json::from_str(text).unwrap();
    links.into_iter().map(|link| (number(&link["ifindex"]).unwrap(), link)).collect()
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().map(|number| number.try_into().unwrap())
}

/// Panics unless `interface` is what `ip` says.
fn assert_same(interface: &Interface, link: &Value, all: &BTreeMap<u32, Value>) {
    let index_of =
        |name: &Value| all.values().find(|link| link["ifname"] == *name).map(|link| &link["ifindex"]);
    let context = format!("{interface:?}\n{link}");
    assert_eq!(interface.name, link["ifname"], "{context}");
    assert_eq!(interface.description, link["ifalias"].as_str().unwrap_or_default(), "{context}");
    let link_layer_type = match link["link_type"].as_str().unwrap() {
        "ether" => libc::ARPHRD_ETHER,
        "loopback" => libc::ARPHRD_LOOPBACK,
        "none" => libc::ARPHRD_NONE,
        other => panic!("link type {other} is not known to this test"),
    };
    assert_eq!(interface.link_layer_type, link_layer_type, "{context}");
    let kind = &link["linkinfo"]["info_kind"];
    assert_eq!(interface.kind.as_deref(), kind.as_str(), "{context}");
    assert_eq!(interface.parent_device.as_deref(), link["parentdev"].as_str(), "{context}");
    assert_eq!(interface.master, index_of(&link["master"]).and_then(number), "{context}");
    // A name in this namespace, or an index in another one.
    let other_end = number(&link["link_index"]).or_else(|| index_of(&link["link"]).and_then(number));
    assert_eq!(interface.link, other_end, "{context}");
    assert_eq!(interface.link_is_elsewhere, !link["link_netnsid"].is_null(), "{context}");
    let flags: BTreeSet<&str> = link["flags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(interface.state() != LinkState::Down, flags.contains("UP"), "{context}");
    assert_eq!(interface.is_loopback(), flags.contains("LOOPBACK"), "{context}");
    if flags.contains("UP") {
        let is_up = matches!(link["operstate"].as_str(), Some("UP" | "UNKNOWN"));
        assert_eq!(interface.state() == LinkState::Up, is_up, "{context}");
    }
    assert_eq!(Some(interface.mtu), number(&link["mtu"]), "{context}");
    assert_eq!(Some(interface.receive_queues), number(&link["num_rx_queues"]), "{context}");
    assert_eq!(Some(interface.transmit_queues), number(&link["num_tx_queues"]), "{context}");
    if link["link_type"] == "ether" {
        let address = link["address"].as_str().unwrap();
        assert_eq!(interface.mac_address.as_ref().map(MacAddress::to_string).as_deref(), Some(address));
    } else {
        assert_eq!(interface.mac_address, None, "{context}");
    }
    let names = link["altnames"].as_array().into_iter().flatten();
    assert!(interface.alternative_names.iter().eq(names), "{context}");
    assert_eq!(interface.xdp.first().map(|xdp| xdp.program), number(&link["xdp"]["prog"]["id"]), "{context}");
    // Modes of `ip`: 1 in the driver, 2 after it.
    let mode = match interface.xdp.first().map(|xdp| xdp.mode) {
        None => None,
        Some(XdpMode::Native) => Some(1),
        Some(XdpMode::Generic) => Some(2),
        Some(XdpMode::Offloaded) => Some(3),
    };
    assert_eq!(mode, number(&link["xdp"]["mode"]), "{context}");
}

/// A namespace with links of many kinds, and another one with their other ends.
fn many_links() -> (Namespace, Namespace) {
    let (router, other) = (Namespace::new(), Namespace::new());
    ip(&router, "link add veth-a numrxqueues 4 numtxqueues 3 type veth peer name veth-b");
    ip(&router, &format!("link add veth-c type veth peer name veth-d netns {}", other.name()));
    ip(&router, "link add br0 type bridge");
    ip(&router, "tuntap add dev tun0 mode tun");
    ip(&router, "tuntap add dev tap0 mode tap");
    ip(&router, "link set dev veth-a alias uplink_to_transit");
    ip(&router, "link property add dev veth-a altname transit-a altname a-very-long-name-of-thirty-octets");
    ip(&router, "link set dev veth-b master br0 mtu 9000");
    for name in ["br0", "veth-a", "veth-b", "veth-c", "tap0"] {
        ip(&router, &format!("link set dev {name} up"));
    }
    let directory = TempDir::new();
    let file = directory.file("foreign.o");
    write_program(&file, "foreign_xdp");
    for (name, mode) in [("veth-c", "xdpdrv"), ("tap0", "xdpgeneric")] {
        let command = ["link", "set", "dev", name, mode, "object"];
        output(router.command("ip").args(command).arg(&file).args(["section", "xdp"]));
    }
    (router, other)
}

#[test]
fn the_inventory_is_what_ip_says() {
    let (router, _other) = many_links();
    let found = router.run(|| interfaces().unwrap());
    let links = links(&output(router.command("ip").args(["-details", "-json", "link"])));
    let indexes: Vec<u32> = found.iter().map(|interface| interface.index).collect();
    assert_eq!(indexes, links.keys().copied().collect::<Vec<_>>());
    for interface in &found {
        assert_same(interface, &links[&interface.index], &links);
    }
    let by_name = |name: &str| found.iter().find(|interface| interface.name == name).unwrap();
    let kinds = ["veth-a", "br0", "tun0", "tap0", "lo"].map(|name| by_name(name).kind.as_deref());
    assert_eq!(kinds, [Some("veth"), Some("bridge"), Some("tun"), Some("tun"), None]);
    assert_eq!(by_name("veth-c").xdp[0].mode, XdpMode::Native);
    assert_eq!(by_name("tap0").xdp[0].mode, XdpMode::Generic);
    let veth_c = by_name("veth-c");
    assert_eq!(router.run(|| xdp_program_id(veth_c.index)), Some(veth_c.xdp[0].program));
    assert!(by_name("veth-a").is_called("transit-a") && !by_name("veth-b").is_called("transit-a"));
    assert!(!found.iter().any(Interface::is_physical));
}

#[test]
fn what_belongs_to_hardware_of_this_machine_is_what_ip_says() {
    let found = interfaces().unwrap();
    let links = links(&output(tool("ip").args(["-details", "-json", "link"])));
    for (index, link) in links.iter().filter(|(_, link)| !link["parentdev"].is_null()) {
        let interface = found.iter().find(|interface| interface.index == *index).unwrap();
        assert_same(interface, link, &links);
        assert_eq!(interface.is_physical(), link["link_type"] == "ether");
    }
}

/// A monitor in a namespace, and everything it has told.
struct Watched<'a> {
    namespace: &'a Namespace,
    monitor: Monitor,
    last: Snapshot,
    gone: BTreeSet<u32>,
}

impl<'a> Watched<'a> {
    fn new(namespace: &'a Namespace) -> Self {
        Self::with(namespace, || Monitor::start().unwrap())
    }

    fn with(namespace: &'a Namespace, start: impl FnOnce() -> Monitor + Send) -> Self {
        let monitor = namespace.run(start);
        let last = monitor.snapshots().try_recv().unwrap();
        Self { namespace, monitor, last, gone: BTreeSet::new() }
    }

    /// Runs `ip`, and waits for a snapshot that shows what is expected.
    fn after(&mut self, words: &str, is_expected: impl Fn(&Self) -> bool) {
        self.gone.clear();
        ip(self.namespace, words);
        self.wait(words, is_expected);
    }

    fn wait(&mut self, what: &str, is_expected: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_expected(self) {
            let snapshot = self.monitor.snapshots().recv_deadline(deadline);
            let snapshot = snapshot.unwrap_or_else(|_| panic!("{what}: {:#?}", self.last));
            self.gone.extend(&snapshot.gone);
            self.last = snapshot;
        }
    }

    fn link(&self, name: &str) -> Option<&Interface> {
        self.last.interfaces.iter().find(|interface| interface.name == name)
    }

    fn index(&self, name: &str) -> u32 {
        self.link(name).unwrap().index
    }

    fn state(&self, name: &str) -> Option<LinkState> {
        self.link(name).map(Interface::state)
    }

    /// Waits until the last snapshot is all that a new list has.
    fn assert_settled(&mut self) {
        let present = self.namespace.run(|| interfaces().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while self.last.interfaces != present {
            let Ok(snapshot) = self.monitor.snapshots().recv_deadline(deadline) else {
                let differs = |interface: &&Interface| !present.contains(interface);
                let told: Vec<_> = self.last.interfaces.iter().filter(differs).collect();
                let differs = |interface: &&Interface| !self.last.interfaces.contains(interface);
                let listed: Vec<_> = present.iter().filter(differs).collect();
                panic!("told: {told:#?}\nbut listed: {listed:#?}");
            };
            self.gone.extend(&snapshot.gone);
            self.last = snapshot;
        }
    }
}

#[test]
fn the_monitor_tells_of_every_change() {
    let (router, other) = (Namespace::new(), Namespace::new());
    let mut watched = Watched::new(&router);
    assert!(watched.link("lo").is_some());
    watched.after("link add wan0 type veth peer name wan1", |w| {
        w.link("wan0").is_some() && w.link("wan1").is_some()
    });
    let index = watched.index("wan0");
    assert_eq!(watched.state("wan0"), Some(LinkState::Down));
    watched.after("link set dev wan0 up", |w| w.state("wan0") == Some(LinkState::NoCarrier));
    watched.after("link set dev wan1 up", |w| w.state("wan0") == Some(LinkState::Up));
    watched.after("link set dev wan0 alias transit", |w| w.link("wan0").unwrap().description == "transit");
    watched.after("link set dev wan0 mtu 1400", |w| w.link("wan0").unwrap().mtu == 1400);
    watched
        .after("link property add dev wan0 altname uplink", |w| w.link("wan0").unwrap().is_called("uplink"));
    watched.after("link set dev wan0 name transit0", |w| w.link("transit0").is_some());
    assert_eq!((watched.index("transit0"), watched.link("wan0")), (index, None));
    watched.after("link set dev transit0 down", |w| w.state("transit0") == Some(LinkState::Down));
    watched.after("link set dev transit0 up", |w| w.state("transit0") == Some(LinkState::Up));
    watched.assert_settled();

    // To come into a bridge and to leave it is no end, though the kernel says `RTM_DELLINK` then.
    watched.after("link add br0 type bridge", |w| w.link("br0").is_some());
    let bridge = Some(watched.index("br0"));
    watched.after("link set dev transit0 master br0", |w| w.link("transit0").unwrap().master == bridge);
    watched.after("link set dev transit0 nomaster", |w| w.link("transit0").unwrap().master.is_none());
    watched.assert_settled();
    assert_eq!(watched.gone, BTreeSet::new());

    // To move to another namespace is an end here.
    let leave = format!("link set dev transit0 netns {}", other.name());
    watched.after(&leave, |w| w.link("transit0").is_none());
    assert_eq!(watched.gone, BTreeSet::from([index]));
    watched.after("link delete dev wan1", |w| w.link("wan1").is_none());
    watched.assert_settled();
    assert_eq!(watched.monitor.overruns(), 0);
}

#[test]
fn a_link_made_again_with_its_old_index_and_name_is_told_as_gone() {
    let router = Namespace::new();
    let mut watched = Watched::new(&router);
    let add = "link add wan0 index 70 type veth peer name wan1 index 71";
    watched.after(add, |w| w.link("wan0").is_some());
    ip_batch(&router, &format!("link delete dev wan0\n{add}\nlink set dev wan0 mtu 1300\n"));
    watched.wait("the second one", |w| w.link("wan0").is_some_and(|link| link.mtu == 1300));
    assert_eq!(watched.index("wan0"), 70);
    assert_eq!(watched.gone, BTreeSet::from([70, 71]));
}

#[test]
fn lost_messages_are_noticed_and_made_good() {
    let router = Namespace::new();
    // The kernel grants its minimum, in which hardly one message has room.
    let mut watched = Watched::with(&router, || Monitor::with_buffer(1).unwrap());
    let deadline = Instant::now() + PATIENCE;
    let mut expected = vec!["lo".to_owned()];
    for round in 0.. {
        let mut commands = String::new();
        for number in 0..20 {
            let name = format!("r{round}-{number}");
            writeln!(commands, "link add {name} type veth peer name {name}p").unwrap();
            // The end that was made first tells of the other one only now.
            writeln!(commands, "link set dev {name}p up\nlink set dev {name} up").unwrap();
            if number % 2 == 0 {
                writeln!(commands, "link delete dev {name}").unwrap();
            } else {
                expected.extend([format!("{name}p"), name]);
            }
        }
        ip_batch(&router, &commands);
        watched.assert_settled();
        assert!(watched.last.interfaces.iter().map(|link| &link.name).eq(&expected));
        if watched.monitor.overruns() > 0 && round >= 2 {
            break;
        }
        assert!(Instant::now() < deadline, "no message was lost");
    }
}

/// Does as a plan says, but for capturing: index to name.
struct Followed<'a> {
    watched: Watched<'a>,
    plan: Plan,
    rules: InterfaceRules,
    names: NameTable,
    captured: BTreeMap<u32, String>,
}

impl Followed<'_> {
    fn look(&mut self) {
        // What went is in `gone` since the last command, all snapshots together.
        let snapshot = Snapshot { gone: self.watched.gone.clone(), ..self.watched.last.clone() };
        self.names.update(&snapshot.interfaces, &self.rules);
        for action in self.plan.update(&snapshot) {
            match action {
                Action::Start { interface, .. } => {
                    assert_eq!(self.captured.insert(interface.index, interface.name), None);
                }
                Action::Stop { index, name, .. } => {
                    assert_eq!(self.captured.remove(&index), Some(name));
                }
                Action::Rename { index, old, new } => {
                    assert_eq!(self.captured.insert(index, new), Some(old));
                }
                _ => {}
            }
        }
    }

    fn after(&mut self, words: &str, is_expected: impl Fn(&Watched<'_>) -> bool) {
        self.watched.after(words, is_expected);
        self.look();
    }

    fn captured(&self) -> Vec<&str> {
        self.captured.values().map(String::as_str).collect()
    }
}

#[test]
fn the_plan_follows_links_that_come_go_and_change_their_names() {
    let router = Namespace::new();
    let mut rules = InterfaceRules { wait: true, ..InterfaceRules::default() };
    for entry in ["wan", "eth*", "!eth9"] {
        rules.selection.add(entry).unwrap();
    }
    let mut followed = Followed {
        watched: Watched::new(&router),
        plan: Plan::new(rules.clone()),
        rules,
        names: NameTable::default(),
        captured: BTreeMap::new(),
    };
    followed.look();
    assert_eq!(followed.captured(), [""; 0]);
    followed.after("link add eth0 type veth peer name far0", |w| w.link("eth0").is_some());
    assert_eq!(followed.captured(), ["eth0"]);
    let first = followed.watched.index("eth0");
    followed.after("link set dev eth0 name eth7", |w| w.link("eth7").is_some());
    assert_eq!(followed.captured, BTreeMap::from([(first, "eth7".to_owned())]));
    followed.after("link set dev eth7 name eth9", |w| w.link("eth9").is_some());
    assert_eq!(followed.captured(), [""; 0]);
    followed.after("link set dev eth9 name wan", |w| w.link("wan").is_some());
    assert_eq!(followed.captured, BTreeMap::from([(first, "wan".to_owned())]));

    // Another link takes the name over.
    followed.after("link set dev wan name old", |w| w.link("old").is_some());
    followed.after("link add wan type veth peer name far1", |w| w.link("wan").is_some());
    let second = followed.watched.index("wan");
    assert_eq!(followed.captured, BTreeMap::from([(second, "wan".to_owned())]));
    // Deleted and made again.
    ip(&router, "link delete dev wan");
    followed.after("link add wan type veth peer name far1", |w| {
        w.link("wan").is_some_and(|link| link.index != second)
    });
    let third = followed.watched.index("wan");
    assert_eq!(followed.captured, BTreeMap::from([(third, "wan".to_owned())]));
    // The kernel tells of descriptions if the interface is up.
    followed.after("link set dev wan up", |w| w.state("wan") != Some(LinkState::Down));
    // The kernel tells of descriptions if the interface is up.
    followed.after("link set dev wan up", |w| w.state("wan") != Some(LinkState::Down));
    followed
        .after("link set dev wan alias to_transit", |w| w.link("wan").unwrap().description == "to_transit");
    let names = followed.names.load();
    assert_eq!(names.of_index(third).unwrap().description, "to_transit");
    // Its flows may still be reported.
    assert_eq!(names.of_index(second).unwrap().name, "wan");
    assert_eq!(names.of_index(first).unwrap().name, "old");
}

#[test]
fn the_daemon_starts_on_what_a_pattern_matches() {
    let network = Network::new();
    let probe =
        ProbeBuilder::new(&network.router).json().argument("--interface", "veth*,!veth-out,ppp*").start();
    assert!(network.router.xdp_program(CAPTURED).is_some());
    assert_eq!(network.router.xdp_program("veth-out"), None);
    let traffic = Traffic::default();
    traffic.send(&network.sender);
    let ended = probe.terminate();
    ended.report.assert_complete();
    assert_eq!(ended.report.received().packets, traffic.packets);
}
