//! The table for people. The same on a terminal and in a pipe: no colours, no control characters.

use std::fmt::Write as _;

use super::{Findings, Row, Status};

/// Space between columns.
const GAP: usize = 2;
/// Widest name of a thing; longer ones are broken.
const WIDEST: usize = 40;
/// Narrowest text, however little space there is.
const NARROWEST: usize = 40;

pub(super) fn text(findings: &Findings, width: usize) -> String {
    let head = ["", "item", "found", "wanted"].map(str::to_owned);
    let cells: Vec<[String; 4]> = findings.rows.iter().map(cells).collect();
    let widest = |column: usize| {
        let all = std::iter::once(&head).chain(&cells).filter_map(|cells| cells.get(column));
        all.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    // What the first two columns leave is for the other two.
    let [status, item] = [widest(0), widest(1).min(WIDEST)];
    let rest = width.saturating_sub(status + item + 3 * GAP).max(NARROWEST);
    let wanted = widest(3).min(rest / 2);
    let widths = [status, item, widest(2).min(rest - wanted), wanted];
    let mut text = String::new();
    line(&mut text, &head, widths);
    for (row, cells) in findings.rows.iter().zip(&cells) {
        line(&mut text, cells, widths);
        for (label, more) in [("consequence: ", &row.consequence), ("remedy: ", &row.remedy)] {
            if !more.is_empty() {
                below(&mut text, widths[0] + GAP, width, label, more);
            }
        }
    }
    text.push_str(&verdict(findings));
    text.push('\n');
    text
}

fn cells(row: &Row) -> [String; 4] {
    let item = match &row.interface {
        Some(interface) => format!("{interface}: {}", row.item),
        None => row.item.to_owned(),
    };
    [row.status.name().to_owned(), item, row.found.clone(), row.wanted.clone()]
}

/// A line of cells, or several if a cell does not fit.
fn line(text: &mut String, cells: &[String; 4], widths: [usize; 4]) {
    let broken: [Vec<String>; 4] = std::array::from_fn(|column| wrap(&cells[column], widths[column]));
    let height = broken.iter().map(Vec::len).max().unwrap_or(0);
    for number in 0..height {
        let mut line = String::new();
        for (cell, width) in broken.iter().zip(widths) {
            let part = cell.get(number).map_or("", String::as_str);
            let _ = write!(line, "{part:<width$}{:GAP$}", "");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Something longer, below the line that it belongs to.
fn below(text: &mut String, indent: usize, width: usize, label: &str, more: &str) {
    let indent = indent + label.len();
    for (number, part) in wrap(more, width.saturating_sub(indent).max(NARROWEST)).into_iter().enumerate() {
        let label = if number == 0 { label } else { "" };
        let _ = writeln!(text, "{label:>indent$}{part}");
    }
}

fn verdict(findings: &Findings) -> String {
    let count = |status, one: &str, more: &str| match findings.count(status) {
        1 => format!("1 {one}"),
        count => format!("{count} {more}"),
    };
    let warnings = count(Status::Warn, "warning", "warnings");
    if findings.is_fit() {
        format!("pathflow run would work here; {warnings}")
    } else {
        format!("pathflow run would not work here: {}, {warnings}", count(Status::Fail, "fault", "faults"))
    }
}

/// Breaks a text between words into lines of at most `width` characters. A longer word stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
