//! A disk that fails under a running pathflow, as strace makes it do, while the broker is away.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::kafka::{PORT, rows, sums};
use super::support::kafka::{BROKER, Kafka};
use super::support::metrics::Metrics;
use super::support::probe::{Probe, ProbeBuilder};
use super::support::process::Process;
use super::support::routed::{Routed, SERVER};
use super::support::temp_dir::TempDir;
use super::support::tool::tool;
use super::support::wait_for;

/// System calls on the files of a spool fail as long as this lives.
struct Fault {
    strace: Process,
    log: PathBuf,
}

impl Fault {
    /// `call:error=NAME`, in a process whose spool is in this directory.
    fn begin(process: u32, spool: &Path, fault: &str, directory: &TempDir) -> Self {
        let log = directory.file("strace");
        let file = |name: &str| spool.join(name).display().to_string();
        let (call, _) = fault.split_once(':').unwrap();
        let mut command = tool("strace");
        command.args(["-f", "-o"]).arg(&log).args(["-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={fault}"), "-p", &process.to_string()]);
        for name in ["spool.sqlite", "spool.sqlite-wal"] {
            command.args(["-P", &file(name)]);
        }
        let mut strace = Process::start(&mut command);
        strace.wait_for_message("attached");
        Self { strace, log }
    }

    /// Waits until it has failed so often.
    fn wait_for(&self, times: usize) {
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        wait_for("a call fails", log, || (log().matches("(INJECTED)").count() >= times).then_some(()));
    }

    fn end(mut self) {
        self.strace.signal(rustix::process::Signal::INT);
        self.strace.wait();
    }
}

fn total(metrics: &Metrics, name: &str) -> u64 {
    metrics.total(&format!("pathflow_aggregate_output_{name}"))
}

/// Each disk fault, and whether the spool is opened again after it.
const FAULTS: [(&str, bool); 3] =
    [("fsync:error=EIO", true), ("pwrite64:error=EIO", true), ("pwrite64:error=ENOSPC", false)];

#[test]
fn a_disk_that_fails_and_works_again_costs_nothing_that_is_not_counted() {
    let routed = Routed::new();
    let directory = TempDir::new();
    let spool = directory.file("spool");
    let configuration = format!(
        "[capture]\ninterfaces = [\"left\"]\n[[aggregate]]\nname = \"acct\"\nkey = [\"src_host\", \"dst_host\", \
         \"src_port\", \"dst_port\"]\nfilter = \"udp port {PORT}\"\nrefresh = \"1s\"\n[aggregate.kafka]\n\
         brokers = [\"{BROKER}\"]\nspool = \"{}\"\n",
        spool.display()
    );
    let start = || ProbeBuilder::configured(&routed.router).configuration(&configuration).start();
    let mut probe = start();
    let id = probe.process().id();
    let mut sent = 0;
    let mut send = || {
        for _ in 0..10 {
            Routed::send(&routed.client, (SERVER[0], PORT), 100, 2);
        }
        sent += 20;
        sent
    };
    // In memory, or on disk.
    let all_are_kept = |probe: &Probe<'_>, sent: u64| {
        probe.wait_until("all is kept", |metrics| {
            total(metrics, "waiting_packets") + total(metrics, "spooled_packets") >= sent
        })
    };
    all_are_kept(&probe, send());
    let told = |probe: &Probe<'_>, text: &str, times: usize| {
        let log = || probe.errors();
        wait_for(text, log, || (log().matches(text).count() >= times).then_some(()));
    };
    told(&probe, "messages go to the spool", 1);
    let folder = wait_for("a spool", || "no file".to_owned(), || folder_of_spool(&spool));
    let mut opened_again = 0;
    for (fault, opens) in FAULTS {
        let fails = Fault::begin(id, &folder, fault, &directory);
        let sent = send();
        fails.wait_for(3);
        all_are_kept(&probe, sent);
        fails.end();
        opened_again += usize::from(opens);
        told(&probe, "the spool works again", opened_again);
        all_are_kept(&probe, send());
    }
    told(&probe, "the spool does not work", 1);
    told(&probe, "the file system of the spool is full", 1);
    // A twentieth of this is enough for what the queue has. Then there is nothing left but the disk.
    thread::sleep(Duration::from_secs(1));
    probe.process().child().kill().unwrap();
    probe.process().wait();
    drop(probe);

    let kafka = Kafka::start(&routed.router);
    let probe = start();
    probe.wait_until("all is delivered", |metrics| total(metrics, "delivered_packets_total") >= sent);
    let report = probe.terminate().report;
    report.assert_balanced();
    let consumed: u64 = sums(&rows(&kafka.messages("pmacct.acct"))).values().map(|sum| sum.0).sum();
    assert_eq!(consumed, sent, "{}", report.text());
}

/// Where the first output has its spool.
fn folder_of_spool(spool: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(spool).ok()?.flatten().map(|entry| entry.path());
    [spool.to_owned()].into_iter().chain(folders).find(|folder| folder.join("spool.sqlite").exists())
}
