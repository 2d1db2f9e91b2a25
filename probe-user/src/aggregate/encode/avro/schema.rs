//! Schemas of what is written, as JSON.
//!
//! Names and types of rows are those that pmacct's own tests expect of its Avro: numbers are `long`, other values
//! `string`, `flows` may be `null`, and the operator's own primitives are a map `custom_primitives`. Each field has a
//! default, so that a key that was changed makes a version that registries take as compatible with the one before.

use std::fmt;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::Kind;

/// Which record a datum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A row.
    Row = 0,
    /// What marks the beginning of a purge.
    PurgeInit = 1,
    /// What marks its end.
    PurgeClose = 2,
}

impl Record {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Row, Self::PurgeInit, Self::PurgeClose];

    /// Its name in the schema, which is pmacct's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Row => "acct_data",
            Self::PurgeInit => "acct_init",
            Self::PurgeClose => "acct_close",
        }
    }
}

/// The schema of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordSchema {
    r#type: &'static str,
    name: &'static str,
    fields: Vec<Field>,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Field {
    name: String,
    r#type: Json,
    default: Json,
}

impl RecordSchema {
    pub(super) fn of_rows(mut fields: Vec<Field>, behind_stamps: Vec<Field>) -> Self {
        fields.extend(["stamp_inserted", "stamp_updated"].map(|name| Field::optional(name, "string")));
        fields.extend(behind_stamps);
        fields.push(Field::of_kind("packets", Kind::Long));
        fields.push(Field::optional("flows", "long"));
        fields.push(Field::of_kind("bytes", Kind::Long));
        fields.push(Field::of_kind("writer_id", Kind::Text));
        Self::new(Record::Row, fields)
    }

    pub(super) fn of_marker(record: Record) -> Self {
        let mut fields: Vec<Field> =
            ["event_type", "writer_id"].map(|name| Field::of_kind(name, Kind::Text)).into();
        if record == Record::PurgeClose {
            let numbers = ["purged_entries", "total_entries", "duration"];
            fields.extend(numbers.map(|name| Field::of_kind(name, Kind::Long)));
        }
        Self::new(record, fields)
    }

    const fn new(record: Record, fields: Vec<Field>) -> Self {
        Self { r#type: "record", name: record.name(), fields }
    }

    /// With line breaks, for people; ends with one.
    #[must_use]
    pub fn pretty(&self) -> String {
        // It is made of texts and numbers, which cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for RecordSchema {
    /// In one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

impl Field {
    pub(super) fn of_kind(name: &str, kind: Kind) -> Self {
        let (r#type, default) = match kind {
            Kind::Long => (json!("long"), json!(0)),
            Kind::Double => (json!("double"), json!(0.0)),
            Kind::Text => (json!("string"), json!("")),
            Kind::Parts | Kind::Flags => (json!({ "type": "array", "items": "string" }), json!([])),
            Kind::Map => (json!({ "type": "map", "values": "string" }), json!({})),
        };
        Self { name: name.to_owned(), r#type, default }
    }

    pub(super) fn custom_primitives() -> Self {
        Self::of_kind("custom_primitives", Kind::Map)
    }

    fn optional(name: &str, r#type: &str) -> Self {
        Self { name: name.to_owned(), r#type: json!(["null", r#type]), default: Json::Null }
    }
}
