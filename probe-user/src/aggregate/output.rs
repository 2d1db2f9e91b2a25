//! Where rows go.

use std::fmt::Debug;
use std::io::{self, Write as _};
use std::time::Instant;

use serde_json::{Map, Value as Json};

use super::purge::{Purge, Row};
use super::value::Value;
use crate::ledger::OutputAccount;
use pathflow_exporter::Tally;

/// An output of an aggregate. It is used by one thread, and may take its time.
pub trait RowOutput: Debug + Send {
    /// What it is, for metrics: `stdout`, `file`, `kafka`.
    fn kind(&self) -> &'static str;

    /// Where it goes, for people and for metrics.
    fn destination(&self) -> String;

    /// Takes the rows of a purge. Every one of them is in [`Self::account`] afterwards.
    fn write(&mut self, purge: &Purge);

    /// Does what has to be done from time to time: called once a second at least.
    fn poll(&mut self) {}

    /// What became of all rows so far.
    fn account(&self) -> OutputAccount;

    /// The end: delivers until `deadline` what waits.
    fn close(&mut self, _deadline: Instant) {}
}

/// A JSON object for each row on standard output.
#[derive(Debug, Default)]
pub struct StdoutOutput {
    account: OutputAccount,
    lines: Vec<u8>,
}

/// Octets that are written at once.
const CHUNK: usize = 1 << 16;

impl RowOutput for StdoutOutput {
    fn kind(&self) -> &'static str {
        "stdout"
    }

    fn destination(&self) -> String {
        "stdout".to_owned()
    }

    fn write(&mut self, purge: &Purge) {
        let mut tally = Tally::ZERO;
        for row in purge.rows() {
            line(&mut self.lines, purge, &row);
            tally += row.tally();
            if self.lines.len() >= CHUNK {
                self.flush(std::mem::replace(&mut tally, Tally::ZERO));
            }
        }
        self.flush(tally);
    }

    fn account(&self) -> OutputAccount {
        self.account.clone()
    }
}

impl StdoutOutput {
    fn flush(&mut self, tally: Tally) {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&self.lines).and_then(|()| stdout.flush()) {
            Ok(()) => self.account.delivered += tally,
            Err(_) => self.account.lose("write", tally),
        }
        self.lines.clear();
    }
}

fn line(lines: &mut Vec<u8>, purge: &Purge, row: &Row<'_>) {
    let mut object = Map::new();
    for (position, primitive) in purge.primitives().iter().enumerate() {
        object.insert(primitive.json_key().to_owned(), json(row.value(position)));
    }
    if let Some(bin) = row.bin() {
        object.insert("stamp_inserted".to_owned(), bin.into());
        object.insert("stamp_updated".to_owned(), purge.updated().into());
    }
    object.insert("packets".to_owned(), row.packets().into());
    object.insert("bytes".to_owned(), row.octets().into());
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(&mut *lines, &Json::Object(object));
    lines.push(b'\n');
}

fn json(value: Value<'_>) -> Json {
    match value {
        Value::Number(number) => number.into(),
        Value::Text(text) => text.into(),
        Value::Address(address) => address.map(|address| address.to_string()).unwrap_or_default().into(),
        Value::Mac(octets) => octets.map(|octet| format!("{octet:02x}")).join(":").into(),
        Value::Protocol(number) => number.to_string().into(),
        Value::EtherType(number) => format!("{number:x}").into(),
        Value::TcpFlags(flags) => flags.to_string().into(),
        Value::Roa(state) => state.map_or("u", |state| state.as_str()).into(),
        Value::Path(route) => route.map_or("", |route| route.json()).into(),
        Value::Time(time) => time.into(),
        Value::Direction(direction) => direction.as_str().into(),
    }
}
