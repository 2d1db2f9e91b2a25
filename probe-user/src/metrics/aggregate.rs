//! Metrics of aggregates.

use std::fmt;

use pathflow_exporter::Tally;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Rows, family};
use crate::ledger::{AggregateAccounts, Amount, OutputAccount, OutputAccounts};

/// Nothing if there is no aggregate.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, aggregates: &[AggregateAccounts]) -> fmt::Result {
    if aggregates.is_empty() {
        return Ok(());
    }
    packets(encoder, aggregates)?;
    rows(encoder, aggregates)?;
    outputs(encoder, aggregates)
}

/// Part of a metric's name, help, and where its value is from.
type Figure<A, V> = (&'static str, &'static str, MetricType, fn(&A) -> V);
/// A unit, and how much it is in that unit.
type Unit<A> = (&'static str, fn(A) -> u64);

fn amount(tally: Tally) -> Amount {
    Amount { packets: tally.packets, octets: tally.octets }
}

fn packets(encoder: &mut DescriptorEncoder<'_>, aggregates: &[AggregateAccounts]) -> fmt::Result {
    let kinds: [Figure<AggregateAccounts, Amount>; 7] = [
        ("offered", "offered to the aggregate", MetricType::Counter, |accounts| accounts.offered),
        (
            "multiplied",
            "counted more than once, for both ends or by renormalization",
            MetricType::Counter,
            |accounts| accounts.spread.multiplied,
        ),
        ("not_selected", "that the aggregate is not for", MetricType::Counter, |accounts| {
            accounts.spread.not_selected
        }),
        ("sampled_out", "that were not sampled", MetricType::Counter, |accounts| accounts.spread.sampled_out),
        ("queued", "in the queue of the aggregate", MetricType::Gauge, |accounts| accounts.queued),
        ("in_table", "in rows of the aggregate", MetricType::Gauge, |accounts| amount(accounts.in_table)),
        ("purging", "in purges that are being written", MetricType::Gauge, |accounts| {
            amount(accounts.purging)
        }),
    ];
    for (name, help, kind, of) in kinds {
        for (unit, value) in UNITS {
            let rows: Rows<'_, 1> =
                aggregates.iter().map(|accounts| ([accounts.name.as_str()], value(of(accounts)))).collect();
            let name = format!("pathflow_aggregate_{name}_{}", unit.to_lowercase());
            family(encoder, &name, &format!("{unit} {help}"), kind, ["aggregate"], &rows)?;
        }
    }
    for (unit, value) in UNITS {
        let mut lost: Rows<'_, 2> = Vec::new();
        let mut left_out: Rows<'_, 2> = Vec::new();
        for accounts in aggregates {
            let name = accounts.name.as_str();
            lost.push(([name, "queue_full"], value(accounts.queue_full)));
            lost.push(([name, "table_full"], value(accounts.spread.table_full)));
            left_out.push(([name, "below_minimum"], value(amount(accounts.left_out.below_minimum))));
            left_out.push(([name, "below_top"], value(amount(accounts.left_out.below_top))));
        }
        let labels = ["aggregate", "reason"];
        let lower = unit.to_lowercase();
        family(
            encoder,
            &format!("pathflow_aggregate_lost_{lower}"),
            &format!("{unit} lost on the way into rows"),
            MetricType::Counter,
            labels,
            &lost,
        )?;
        family(
            encoder,
            &format!("pathflow_aggregate_left_out_{lower}"),
            &format!("{unit} of rows that were left out as the settings say"),
            MetricType::Counter,
            labels,
            &left_out,
        )?;
    }
    Ok(())
}

const UNITS: [Unit<Amount>; 2] = [("Packets", |amount| amount.packets), ("Octets", |amount| amount.octets)];

fn rows(encoder: &mut DescriptorEncoder<'_>, aggregates: &[AggregateAccounts]) -> fmt::Result {
    let kinds: [Figure<AggregateAccounts, u64>; 3] = [
        ("rows", "Rows in the table of the aggregate", MetricType::Gauge, |accounts| {
            accounts.in_table.records
        }),
        ("purges", "Purges", MetricType::Counter, |accounts| accounts.purges),
        ("early_purges", "Purges because the table was full", MetricType::Counter, |accounts| {
            accounts.early_purges
        }),
    ];
    for (name, help, kind, value) in kinds {
        let rows: Rows<'_, 1> =
            aggregates.iter().map(|accounts| ([accounts.name.as_str()], value(accounts))).collect();
        family(encoder, &format!("pathflow_aggregate_{name}"), help, kind, ["aggregate"], &rows)?;
    }
    Ok(())
}

fn outputs(encoder: &mut DescriptorEncoder<'_>, aggregates: &[AggregateAccounts]) -> fmt::Result {
    fn labels<'a>(accounts: &'a AggregateAccounts, output: &'a OutputAccounts) -> [&'a str; 3] {
        [&accounts.name, output.kind, &output.destination]
    }
    let all = || {
        aggregates.iter().flat_map(|accounts| accounts.outputs.iter().map(move |output| (accounts, output)))
    };
    let units: [Unit<Tally>; 3] = [
        ("Rows", |tally| tally.records),
        ("Packets", |tally| tally.packets),
        ("Octets", |tally| tally.octets),
    ];
    let kinds: [Figure<OutputAccount, Tally>; 4] = [
        ("delivered", "delivered", MetricType::Counter, |account| account.delivered),
        ("waiting", "given to the output and not delivered yet", MetricType::Gauge, |account| {
            account.waiting
        }),
        ("spooled", "on disk, to be delivered by this run or the next", MetricType::Gauge, |account| {
            account.spooled
        }),
        ("recovered", "found on disk at the start", MetricType::Counter, |account| account.recovered),
    ];
    for (unit, value) in units {
        let lower = unit.to_lowercase();
        for (name, help, kind, of) in kinds {
            let rows: Rows<'_, 3> = all()
                .map(|(accounts, output)| (labels(accounts, output), value(of(&output.account))))
                .collect();
            let name = format!("pathflow_aggregate_output_{name}_{lower}");
            let help = format!("{unit} {help}");
            family(encoder, &name, &help, kind, ["aggregate", "output", "destination"], &rows)?;
        }
        let mut rows: Rows<'_, 4> = Vec::new();
        for (accounts, output) in all() {
            let [name, kind, destination] = labels(accounts, output);
            for (reason, lost) in &output.account.lost {
                rows.push(([name, kind, destination, reason], value(*lost)));
            }
        }
        family(
            encoder,
            &format!("pathflow_aggregate_output_lost_{lower}"),
            &format!("{unit} that the output could not deliver"),
            MetricType::Counter,
            ["aggregate", "output", "destination", "reason"],
            &rows,
        )?;
    }
    let mut programs: Rows<'_, 4> = Vec::new();
    for (accounts, output) in all() {
        let [name, kind, destination] = labels(accounts, output);
        let Some(counts) = output.account.programs else { continue };
        for (result, count) in
            [("succeeded", counts.succeeded), ("failed", counts.failed), ("postponed", counts.postponed)]
        {
            programs.push(([name, kind, destination, result], count));
        }
    }
    if !programs.is_empty() {
        family(
            encoder,
            "pathflow_aggregate_output_programs",
            "Programs that were to be run for files that were written",
            MetricType::Counter,
            ["aggregate", "output", "destination", "result"],
            &programs,
        )?;
    }
    let mut errors: Rows<'_, 4> = Vec::new();
    for (accounts, output) in all() {
        let [name, kind, destination] = labels(accounts, output);
        errors.extend(
            output.account.errors.iter().map(|(reason, times)| ([name, kind, destination, *reason], *times)),
        );
    }
    family(
        encoder,
        "pathflow_aggregate_output_errors",
        "Failures to deliver, of which those of Kafka are tried again, by reason",
        MetricType::Counter,
        ["aggregate", "output", "destination", "reason"],
        &errors,
    )
}
