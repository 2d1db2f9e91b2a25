//! The daemon in other shapes than the default: several workers and shards, early epochs, no output, nobody
//! who reads its messages.

use std::fs::File;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::support::json::{flows, sum};
use super::support::network::{CAPTURED, Network};
use super::support::probe::{ProbeBuilder, daemon};
use super::support::traffic::Traffic;
use super::support::wait_for;

#[test]
fn several_workers_and_shards_with_little_room_lose_nothing() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration("[capture]\ndrain_workers = 2\n[flow]\nshards = 3\nmax_flows = 3000\n")
        .json()
        .start();
    let traffic = Traffic { packets: 300_000, flows: 30_000, random: true, ..Traffic::default() };
    traffic.send(&network.sender);
    let evicted = probe.wait_until("evictions", |metrics| {
        metrics.sum("pathflow_expired_flows_total", &[("reason", "lack_of_resources")]) > 20_000
    });
    assert!(evicted.total("pathflow_flow_cache_flows") <= 3000);
    let ended = probe.terminate();
    ended.report.assert_complete();
    let flows = flows(&ended.output);
    assert_eq!(sum(&flows, "packet_delta_count"), traffic.packets);
    let mut sources: Vec<&str> = flows.iter().filter_map(|flow| flow["source_address"].as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    // Each of 30,000 flows has 10 packets on average; that one has none is once in 20,000.
    assert!((29_900..=30_000).contains(&sources.len()), "{}", sources.len());
}

#[test]
fn a_table_that_is_half_full_is_drained_before_its_time() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .drain_interval("5s")
        .configuration("[capture]\nipv4_slots = 1024\nspill_slots = 64\n")
        .json()
        .start();
    // Two seconds, in which the interval ends once at most; on a busy machine the tables are looked at less often.
    let traffic = Traffic { packets: 40_000, flows: 700, rate: Some(20_000), ..Traffic::default() };
    traffic.send(&network.sender);
    let drains = probe.metrics().total("pathflow_grace_periods_total");
    assert!(drains > 3, "{drains}");
    probe.terminate().report.assert_balanced();
}

#[test]
fn without_an_output_flows_end_all_the_same() {
    let network = Network::new();
    let probe = ProbeBuilder::new(&network.router)
        .configuration("[export]\nstdout = \"none\"\n[flow]\nidle_timeout = \"300ms\"\n")
        .start();
    let traffic = Traffic { packets: 500, flows: 50, ..Traffic::default() };
    traffic.send(&network.sender);
    let metrics = probe.wait_until("flows ended", |metrics| {
        metrics.sum("pathflow_expired_flows_total", &[("reason", "idle_timeout")]) == 50
    });
    assert_eq!(metrics.total("pathflow_flow_cache_flows"), 0);
    probe.terminate().report.assert_balanced();
}

#[test]
fn a_standard_error_that_takes_nothing_changes_nothing() {
    let network = Network::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = network.router.enter(daemon().to_str().unwrap());
    command.args(["run", "--interface", CAPTURED, "--json"]).stderr(full()).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    wait_for("the program attached", String::new, || network.router.xdp_program(CAPTURED));
    let traffic = Traffic { packets: 500, flows: 50, ..Traffic::default() };
    traffic.send(&network.sender);
    kill_process(pid, Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(sum(&flows(&String::from_utf8(output.stdout).unwrap()), "packet_delta_count"), 500);

    let mut command = network.router.enter(daemon().to_str().unwrap());
    let refused = command.args(["run", "--interface", "no-such"]).stderr(full()).status().unwrap();
    assert_eq!(refused.code(), Some(2));
}
