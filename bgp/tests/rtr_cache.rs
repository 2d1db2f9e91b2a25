//! The RTR client with a real cache: stayrtr (Debian package `stayrtr`), fed with a JSON file, over loopback.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use pathflow_bgp::rpki::rtr::client::{Client, Settings, Statistics};
use pathflow_bgp::rpki::rtr::pdu::Version;
use pathflow_bgp::rpki::{RoaStore, ValidationState, read_file};

const TIME: Duration = Duration::from_secs(30);

/// A running cache; ends with its owner.
struct Cache {
    child: Child,
    port: u16,
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Cache {
    fn start(json: &Path, version: u8, port: u16) -> Self {
        let child = Command::new("stayrtr")
            .arg(format!("-bind=127.0.0.1:{port}"))
            .arg(format!("-cache={}", json.display()))
            .args(["-checktime=false", "-metrics.addr=", "-refresh=1", &format!("-protocol={version}")])
            .args(["-rtr.refresh=3600", "-rtr.retry=1", "-rtr.expire=7200"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("stayrtr (Debian package stayrtr) has to be installed");
        let cache = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < TIME, "stayrtr does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        cache
    }
}

/// The client on a thread, as the probe runs it. The runtime ends with its owner.
struct Router {
    store: Arc<RoaStore>,
    statistics: Arc<Statistics>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Router {
    fn start(port: u16, version: Version, max_vrps: usize) -> Self {
        let store = Arc::new(RoaStore::new());
        let statistics = Arc::new(Statistics::default());
        let settings = Settings { cache: format!("127.0.0.1:{port}"), version, max_vrps };
        let client = Client::new(settings, Arc::clone(&store), Arc::clone(&statistics));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(client.run());
        Self { store, statistics, runtime: Some(runtime) }
    }

    fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            assert!(start.elapsed() < TIME, "not reached: {what}; {:?}", self.statistics);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn state(&self, prefix: &str, origin_as: u32) -> ValidationState {
        self.store.table().validate(prefix.parse().unwrap(), Some(origin_as))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn scratch(name: &str) -> PathBuf {
    env::temp_dir().join(format!("pathflow-rtr-{}-{name}.json", process::id()))
}

/// `count` VRPs of IPv4 and a few of IPv6.
fn write(path: &Path, count: u32, origin_as: u32) {
    let mut roas: Vec<String> = (0..count)
        .map(|number| {
            let [_, high, middle, low] = number.to_be_bytes();
            format!(
                r#"{{"asn":"AS{origin_as}","prefix":"{}.{middle}.{low}.0/24","maxLength":24,"ta":"x"}}"#,
                10 + high
            )
        })
        .collect();
    roas.push(r#"{"asn":"AS64500","prefix":"2001:db8::/32","maxLength":48,"ta":"x"}"#.to_owned());
    let json = format!(r#"{{"metadata":{{"vrps":{}}},"roas":[{}]}}"#, roas.len(), roas.join(","));
    // Renamed into place: the cache reads it at any time.
    let temporary = path.with_extension("new");
    fs::write(&temporary, json).unwrap();
    fs::rename(&temporary, path).unwrap();
}

#[test]
fn follows_a_cache_through_changes_and_restarts() {
    let json = scratch("follow");
    write(&json, 5000, 64_501);
    let cache = Cache::start(&json, 1, free_port());
    let port = cache.port;
    let router = Router::start(port, Version::V1, 100_000);
    router.until("first load", |router| router.store.table().len() == 5001);
    assert_eq!(router.state("10.0.7.0/24", 64_501), ValidationState::Valid);
    assert_eq!(router.state("10.0.7.0/24", 64_502), ValidationState::Invalid);
    assert_eq!(router.state("2001:db8:1::/48", 64_500), ValidationState::Valid);
    assert_eq!(router.state("192.0.2.0/24", 64_501), ValidationState::NotFound);

    // An increment, which the cache announces by a Serial Notify. It replaces every VRP of IPv4 by another.
    let before = router.statistics.received_pdus.load(Ordering::Relaxed);
    write(&json, 4000, 64_502);
    router.until("increment", |router| router.store.table().len() == 4001);
    assert_eq!(router.state("10.0.7.0/24", 64_502), ValidationState::Valid);
    // Withdrawals and announcements: more PDUs than a load of 4001 would take.
    let received = router.statistics.received_pdus.load(Ordering::Relaxed) - before;
    assert!(received >= 9000, "{received}");

    // Without the cache the data stays, and the file says the same as the protocol did.
    drop(cache);
    router.until("connection lost", |router| !router.statistics.connected.load(Ordering::Relaxed));
    assert_eq!(router.state("10.0.7.0/24", 64_502), ValidationState::Valid);
    assert_eq!(read_file(&json, 100_000).unwrap().len(), router.store.table().len());

    // A cache with another Session ID and other data.
    write(&json, 10, 64_503);
    let _cache = Cache::start(&json, 1, port);
    router.until("data of the second cache", |router| router.store.table().len() == 11);
    assert_eq!(router.state("10.0.7.0/24", 64_503), ValidationState::Valid);
    assert_eq!(router.state("10.0.11.0/24", 64_502), ValidationState::NotFound);
    fs::remove_file(&json).unwrap();
}

#[test]
fn agrees_on_a_version_with_older_and_newer_caches() {
    let json = scratch("version");
    write(&json, 100, 64_501);
    for (of_cache, of_router) in
        [(0, Version::V1), (0, Version::V2), (1, Version::V2), (2, Version::V1), (2, Version::V2)]
    {
        let cache = Cache::start(&json, of_cache, free_port());
        let router = Router::start(cache.port, of_router, 1000);
        router.until(&format!("load of {of_router:?} from {of_cache}"), |router| {
            router.store.table().len() == 101
        });
    }
    fs::remove_file(&json).unwrap();
}

#[test]
fn a_set_above_the_limit_is_refused_as_a_whole() {
    let json = scratch("limit");
    write(&json, 100, 64_501);
    let cache = Cache::start(&json, 1, free_port());
    let router = Router::start(cache.port, Version::V1, 100);
    router.until("refusal", |router| router.statistics.too_many_vrps.load(Ordering::Relaxed) >= 1);
    assert!(router.store.table().is_empty());
    // What the cache drops below the limit is taken at the next connection.
    write(&json, 99, 64_501);
    router.until("a set within the limit", |router| router.store.table().len() == 100);
    fs::remove_file(&json).unwrap();
}
