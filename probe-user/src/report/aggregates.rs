//! Lines of the report about aggregates.

use pathflow_exporter::Tally;

use super::{amount, tally};
use crate::ledger::AggregateAccounts;

/// A line for each figure that is not zero.
pub(super) fn lines(text: &mut String, accounts: &AggregateAccounts) {
    let name = format!("aggregate {}", accounts.name);
    amount(text, &name, accounts.offered);
    for (label, figure) in [
        ("counted more than once", accounts.spread.multiplied),
        ("not for it", accounts.spread.not_selected),
        ("not sampled", accounts.spread.sampled_out),
        ("lost, queue_full", accounts.queue_full),
        ("lost, table_full", accounts.spread.table_full),
        ("still in its queue", accounts.queued),
    ] {
        if !figure.is_zero() {
            amount(text, &format!("  {name}: {label}"), figure);
        }
    }
    let mut rows = |label: String, figure: Tally| {
        if figure != Tally::ZERO {
            tally(text, &format!("  {name}: {label}"), figure);
        }
    };
    rows("still in its table".to_owned(), accounts.in_table);
    rows("not written in time".to_owned(), accounts.purging);
    rows("left out, below_minimum".to_owned(), accounts.left_out.below_minimum);
    rows("left out, below_top".to_owned(), accounts.left_out.below_top);
    for output in &accounts.outputs {
        let to = if output.kind == output.destination {
            output.kind.to_owned()
        } else {
            format!("{} {}", output.kind, output.destination)
        };
        rows(format!("found in the spool of {to}"), output.account.recovered);
        rows(format!("written to {to}"), output.account.delivered);
        rows(format!("in the spool of {to}, for the next start"), output.account.spooled);
        rows(format!("not delivered in time to {to}"), output.account.waiting);
        for (reason, lost) in &output.account.lost {
            rows(format!("lost to {to}, {reason}"), *lost);
        }
    }
}
