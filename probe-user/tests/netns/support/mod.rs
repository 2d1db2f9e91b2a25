//! Namespaces, links, traffic, the probe and the collectors, each behind a guard that cleans up.

pub(crate) mod bird;
pub(crate) mod frames;
pub(crate) mod json;
pub(crate) mod kafka;
pub(crate) mod metrics;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod nfacctd;
pub(crate) mod nfcapd;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod report;
pub(crate) mod routed;
pub(crate) mod sflow;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod temp_dir;
pub(crate) mod tool;
pub(crate) mod traffic;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// How long anything that is expected may take. Generous: a busy machine must not fail a test, and a Java program starts
/// as slowly as it does.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Asks again and again until there is an answer; a panic that tells `what` did not come, and `why`.
pub(crate) fn wait_for<T>(what: &str, why: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}. {}", why());
        std::thread::sleep(Duration::from_millis(10));
    }
}
