//! What is printed when the daemon has ended: the ledger and the latencies.

mod aggregates;

use std::fmt::Write as _;
use std::time::Duration;

use pathflow_common::DropReason;
use pathflow_exporter::sflow::SampleTally;
use pathflow_exporter::{LimitReason, LossReason, Tally};

use crate::classify::ClassCounts;
use crate::ledger::{Amount, SinkAccounts};
use crate::metering::samples::SampleTotals;
use crate::pipeline::Ended;
use crate::sflow::SflowEnded;

/// The report, a line for each figure that is not zero.
#[must_use]
pub fn report(ended: &Ended) -> String {
    let mut text = String::new();
    let total = ended.books.total();
    amount(&mut text, "received", total.seen);
    amount(&mut text, "  in flow records", total.in_records);
    for (label, held) in [
        ("  still in the flow cache", total.in_cache),
        ("  still between kernel and cache", total.in_transit),
        ("  counted by the kernel, not found in its tables", total.in_kernel),
    ] {
        if !held.is_zero() {
            amount(&mut text, label, held);
        }
    }
    for reason in DropReason::ALL {
        let dropped = total.dropped[reason as usize];
        if !dropped.is_zero() {
            amount(&mut text, &format!("  not in a flow: {}", reason.as_str()), dropped);
        }
    }
    if !total.spilled.is_zero() {
        amount(&mut text, "of these by way of a spill log", total.spilled);
    }
    tally(&mut text, "flow records made", ended.books.records);
    for sink in &ended.books.sinks_by_destination() {
        sink_lines(&mut text, sink);
    }
    for accounts in &ended.books.aggregates_by_name() {
        aggregates::lines(&mut text, accounts);
    }
    sflow_lines(&mut text, &ended.sflow);
    if let Some(classes) = &ended.classes {
        class_lines(&mut text, classes);
    }
    for (sink, loss) in &ended.books.crash_losses {
        if !loss.lost.is_zero() {
            amount(&mut text, &format!("{sink}: lost with runs that were killed"), loss.lost);
        }
    }
    match ended.books.imbalance() {
        None if ended.books.is_settled() => {
            text.push_str("ledger: every packet and every record is accounted for\n");
        }
        None => text
            .push_str("ledger: balances, but what is named above as held or not sent is in no record sent\n"),
        Some(imbalance) => {
            let _ = writeln!(text, "ledger: DOES NOT BALANCE: {imbalance}");
        }
    }
    for (stage, [median, high, longest], count) in ended.latencies.summary() {
        if count > 0 {
            let _ = writeln!(
                text,
                "{stage:<14} {count:>9} times; median {}, 99th percentile {}, longest {}",
                milliseconds(median),
                milliseconds(high),
                milliseconds(longest)
            );
        }
    }
    text
}

/// Those of a loss only if there was one.
fn class_lines(text: &mut String, classes: &ClassCounts) {
    let ClassCounts { packets, classified, unknown, pending, pending_full, table_full, held: _ } = *classes;
    let _ = writeln!(
        text,
        "applications: {classified} flows classified, {unknown} unknown, {pending} not decided, by {packets} packets"
    );
    for (reason, flows) in [("pending_full", pending_full), ("table_full", table_full)] {
        if flows > 0 {
            let _ = writeln!(text, "  flows given up or forgotten before their time: {reason} {flows}");
        }
    }
}

fn sink_lines(text: &mut String, sink: &SinkAccounts) {
    let name = format!("  {} to {}", sink.format, sink.destination);
    tally(text, &format!("{name}: exported"), sink.account.delivered);
    if sink.not_selected != Tally::ZERO {
        tally(text, &format!("{name}: not for it"), sink.not_selected);
    }
    if sink.missed != Tally::ZERO {
        tally(text, &format!("{name}: made while it was not there"), sink.missed);
    }
    let waiting = sink.queued + sink.account.pending + sink.account.in_flight;
    if waiting != Tally::ZERO {
        tally(text, &format!("{name}: not sent in time"), waiting);
    }
    if sink.queue_full != Tally::ZERO {
        tally(text, &format!("{name}: lost, queue_full"), sink.queue_full);
    }
    for reason in LossReason::ALL {
        let lost = sink.account.lost(reason);
        if lost != Tally::ZERO {
            tally(text, &format!("{name}: lost, {}", reason.as_str()), lost);
        }
    }
    for reason in LimitReason::ALL {
        let limited = sink.counts.limited(reason);
        if limited > 0 {
            let _ = writeln!(text, "{name}: altered for the format, {}: {limited} records", reason.as_str());
        }
    }
}

/// Samples stand beside the flows: each of their packets is counted above as well.
fn sflow_lines(text: &mut String, sflow: &SflowEnded) {
    let SampleTotals { samples, pool, drops, queue_full } = sflow.samples;
    if sflow.collectors.is_empty() {
        return;
    }
    let _ = writeln!(text, "{:<50} {samples:>16} samples from a pool of {pool}", "header samples received");
    for (label, lost) in [
        ("  header samples lost in the kernel", drops),
        ("  header samples lost, queue_full", queue_full),
        ("  header samples not sent in time", sflow.not_taken),
    ] {
        if lost > 0 {
            let _ = writeln!(text, "{label:<50} {lost:>16} samples");
        }
    }
    for collector in &sflow.collectors {
        let name = format!("  sflow to {}", collector.destination);
        samples_line(text, &format!("{name}: exported"), collector.account.delivered);
        let waiting = collector.account.pending + collector.account.in_flight;
        if waiting != SampleTally::ZERO {
            samples_line(text, &format!("{name}: not sent in time"), waiting);
        }
        for reason in LossReason::ALL {
            let lost = collector.account.lost(reason);
            if lost != SampleTally::ZERO {
                samples_line(text, &format!("{name}: lost, {}", reason.as_str()), lost);
            }
        }
    }
}

fn samples_line(text: &mut String, label: &str, tally: SampleTally) {
    let SampleTally { flow_samples, counter_samples } = tally;
    let _ =
        writeln!(text, "{label:<50} {flow_samples:>16} flow samples {counter_samples:>14} counter samples");
}

fn amount(text: &mut String, label: &str, amount: Amount) {
    // Signed: if the tables ever held more than the kernel counted, that is to be seen as what it is.
    let (packets, octets) = (amount.packets as i64, amount.octets as i64);
    let _ = writeln!(text, "{label:<50} {packets:>16} packets {octets:>20} octets");
}

fn tally(text: &mut String, label: &str, tally: Tally) {
    let _ = writeln!(
        text,
        "{label:<50} {:>16} packets {:>20} octets {:>12} records",
        tally.packets, tally.octets, tally.records
    );
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1000.0)
}
