//! What a measurement prints: a table that grows as it goes, or JSON at the end.

use anyhow::Result;
use pathflow_perf::machine::Machine;
use serde::Serialize;

/// Least, middle and greatest of several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of `values`; zeroes if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}

impl Spread {
    /// The three with `decimals` digits behind the point.
    pub(crate) fn text(&self, decimals: usize) -> String {
        format!("{:.decimals$} / {:.decimals$} / {:.decimals$}", self.min, self.median, self.max)
    }
}

/// How a target stands in a table.
pub(crate) fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

/// Collects the rows of one run of the program.
pub(crate) struct Report {
    json: bool,
    machine: Machine,
    command: String,
    measurement: &'static str,
    rows: Vec<serde_json::Value>,
}

impl Report {
    /// Notes machine and command line, and prints them above a table.
    pub(crate) fn new(json: bool) -> Self {
        let machine = Machine::read();
        let command = std::env::args().skip(1).fold("pathflow-bench".to_owned(), |mut line, argument| {
            line.push(' ');
            line.push_str(&argument);
            line
        });
        if !json {
            println!("{}\ncommand  {command}", machine.lines());
        }
        Self { json, machine, command, measurement: "", rows: Vec::new() }
    }

    /// Begins the table of a measurement: how it is measured, and the heads of its columns. The rows that
    /// follow are of this measurement.
    pub(crate) fn heading(&mut self, measurement: &'static str, method: &str) {
        self.measurement = measurement;
        self.text(&format!("\n{measurement}\nmethod   {method}"));
    }

    /// Prints a line of text above or between rows of a table.
    pub(crate) fn text(&self, line: &str) {
        if !self.json {
            println!("{line}");
        }
    }

    /// Adds one row: `line` for the table, `value` for JSON.
    pub(crate) fn row(&mut self, line: &str, value: impl Serialize) -> Result<()> {
        self.text(line);
        let mut row = serde_json::to_value(value)?;
        if let Some(fields) = row.as_object_mut() {
            fields.insert("measurement".to_owned(), self.measurement.into());
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the JSON, if that was wanted.
    pub(crate) fn finish(self) -> Result<()> {
        if self.json {
            let Self { machine, command, rows, .. } = self;
            let all = serde_json::json!({ "machine": machine, "command": command, "rows": rows });
            println!("{}", serde_json::to_string_pretty(&all)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_odd_number_of_values_is_one_of_them() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of([]), Spread { min: 0.0, median: 0.0, max: 0.0 });
    }
}
