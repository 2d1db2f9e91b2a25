//! A station on a thread of its own, with a slow RIB that the test can look into.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pathflow_bgp::bmp::RouteSink;
use pathflow_bgp::bmp::router::Statistics;
use pathflow_bgp::bmp::station::{Settings, Station};
use pathflow_bgp::error::ErrorHandling;
use pathflow_bgp::rib::{ApplyCounts, DumpPosition, LookupSource, PeerId, PeerIdentity, Rib};
use pathflow_bgp::wire::Update;
use pathflow_bgp::{Afi, Attributes, Family};
use tokio::sync::oneshot;

/// How long anything may take.
pub const TIME: Duration = Duration::from_mins(1);

/// What one peer of the RIB has.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub name: String,
    /// By prefix and Path Identifier.
    pub routes: BTreeMap<(IpNet, u32), (Attributes, bool)>,
    pub ends: Vec<Family>,
}

type Tables = Arc<Mutex<BTreeMap<PeerId, Table>>>;

/// Beside the slow RIB, the real one has the same routes.
struct Model {
    tables: Tables,
    rib: Arc<Mutex<Rib>>,
}

impl Model {
    fn with(&self, peer: PeerId, change: impl FnOnce(&mut Table)) {
        change(self.tables.lock().unwrap().get_mut(&peer).unwrap());
    }
}

impl RouteSink for Model {
    fn slots_rewritten(&self) -> u64 {
        self.rib.lock().unwrap().slots_rewritten()
    }

    fn add_peer(&mut self, identity: PeerIdentity, lookups: Option<LookupSource>) -> PeerId {
        let table = Table { name: identity.name.clone().into(), ..Table::default() };
        let peer = RouteSink::add_peer(&mut *self.rib.lock().unwrap(), identity, lookups);
        self.tables.lock().unwrap().insert(peer, table);
        peer
    }

    fn apply(&mut self, peer: PeerId, update: &Update<'_>) -> ApplyCounts {
        self.with(peer, |table| {
            for (_, nlri) in update.withdrawn() {
                table.routes.remove(&(nlri.prefix, nlri.path_id));
            }
            for announcement in update.announcements() {
                for nlri in announcement.nlri() {
                    let key = (nlri.prefix, nlri.path_id);
                    if update.handling() == Some(ErrorHandling::TreatAsWithdraw) {
                        table.routes.remove(&key);
                    } else {
                        table.routes.insert(key, (announcement.attributes(), false));
                    }
                }
            }
        });
        RouteSink::apply(&mut *self.rib.lock().unwrap(), peer, update)
    }

    fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        RouteSink::end_of_rib(&mut *self.rib.lock().unwrap(), peer, family);
        self.with(peer, |table| {
            table.ends.push(family);
            let of_family = |prefix: &IpNet| prefix.addr().is_ipv6() == (family.afi == Afi::Ipv6);
            table.routes.retain(|(prefix, _), (_, stale)| !(*stale && of_family(prefix)));
        });
    }

    fn session_down(&mut self, peer: PeerId) {
        RouteSink::session_down(&mut *self.rib.lock().unwrap(), peer);
        self.with(peer, |table| {
            for (_, stale) in table.routes.values_mut() {
                *stale = true;
            }
        });
    }

    fn sweep_stale(&mut self, peer: PeerId) {
        RouteSink::sweep_stale(&mut *self.rib.lock().unwrap(), peer);
        self.with(peer, |table| table.routes.retain(|_, (_, stale)| !*stale));
    }

    fn remove_peers(&mut self, peers: &[PeerId]) {
        RouteSink::remove_peers(&mut *self.rib.lock().unwrap(), peers);
        for peer in peers {
            self.tables.lock().unwrap().remove(peer).unwrap();
        }
    }
}

/// A running station; ends with its owner.
pub struct Running {
    pub address: SocketAddr,
    pub statistics: Arc<Statistics>,
    tables: Tables,
    rib: Arc<Mutex<Rib>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the station panicked");
    }
}

impl Running {
    pub fn start(settings: Settings) -> Self {
        Self::start_at(settings, "127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(settings: Settings, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (tables, statistics) = (Tables::default(), Arc::new(Statistics::default()));
        let (stop, stopped) = oneshot::channel();
        let rib = Arc::new(Mutex::new(Rib::new()));
        let sink = Model { tables: Arc::clone(&tables), rib: Arc::clone(&rib) };
        let of_station = Arc::clone(&statistics);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let station = Station::new(settings, Rc::new(RefCell::new(sink)), of_station);
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = station.run(listener) => {}
                    _ = stopped => station.close(),
                }
            });
        });
        Self { address, statistics, tables, rib, stop: Some(stop), thread: Some(thread) }
    }

    /// The table whose name ends so; an empty one if there is none.
    pub fn table(&self, name: &str) -> Table {
        let tables = self.tables.lock().unwrap();
        tables.values().find(|table| table.name.ends_with(name)).cloned().unwrap_or_default()
    }

    /// Compares all routes of the real RIB with those of the slow one. Nothing may change meanwhile.
    pub fn check_rib(&self) {
        let mut rib = self.rib.lock().unwrap();
        while rib.work(1000) {}
        let tables = self.tables.lock().unwrap();
        let of_rib = rib.peers().map(|(peer, identity)| (peer, &*identity.name));
        assert!(of_rib.eq(tables.iter().map(|(peer, table)| (*peer, &*table.name))));
        for (peer, table) in &*tables {
            let mut routes = BTreeMap::new();
            let mut position = DumpPosition::default();
            while rib.dump(*peer, &mut position, 7, |route| {
                let attributes = Attributes::clone(route.attributes);
                routes.insert((route.nlri.prefix, route.nlri.path_id), (attributes, route.stale));
            }) {}
            assert_eq!(routes, table.routes, "{}", table.name);
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.tables.lock().unwrap().values().map(|table| table.name.clone()).collect()
    }
}

pub fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits until `reached`, and says what was not.
pub fn until(what: &str, mut reached: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(state) = reached() {
        assert!(start.elapsed() < TIME, "not reached: {what}: {state}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// For [`until`].
#[expect(clippy::needless_pass_by_value, reason = "calls read better without references to temporaries")]
pub fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} is not {expected:?}")) }
}
