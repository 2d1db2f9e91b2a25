//! `aggregate_primitives`: primitives of the operator's own, which become `[[capture.primitive]]`.

use std::path::Path;

use crate::aggregate::Semantics;
use crate::config::{self, ConfigError, raw};
use crate::pmacct::ImportError;
use crate::pmacct::maps::{self, Row};

use super::Translation;

/// What became of a line of the file.
#[derive(Clone, Debug)]
pub(super) struct Primitive {
    pub(super) name: String,
    /// Why it is left out, if it is.
    pub(super) fault: Option<String>,
}

/// Reads the file. Lines that cannot be honoured are left out, as pmacct leaves out what it does not understand.
pub(super) fn translate(work: &mut Translation<'_>) -> Result<Vec<Primitive>, ImportError> {
    let Some(setting) = work.global("aggregate_primitives") else { return Ok(Vec::new()) };
    let file = Path::new(&setting.value);
    let mut primitives: Vec<Primitive> = Vec::new();
    for row in maps::rows(file).map_err(|error| work.map_fault(&setting, &error))? {
        let name = row.get("name").unwrap_or_default().to_owned();
        let is_known = |primitive: &Primitive| primitive.name == name && primitive.fault.is_none();
        let fault = match primitive(&row) {
            Ok(_) if primitives.iter().any(is_known) => Some("a line above has this name".to_owned()),
            Ok(primitive) => {
                let table = work.document.array_table("capture.primitive", Some(&setting.origin));
                work.document.set(table, "name", primitive.name.as_str(), None);
                work.document.set(table, "at", primitive.at, None);
                work.document.set(table, "length", i64::from(primitive.length), None);
                work.document.set(table, "semantics", primitive.semantics.to_string(), None);
                if row.get("field_type").is_some() {
                    let text = format!("{name} is read from packets; fields of exports do not have it");
                    work.remark_in(file, row.line, "field_type", text);
                }
                None
            }
            Err(fault) => Some(fault),
        };
        if let Some(fault) = &fault {
            work.remark_in(file, row.line, &format!("name={name}"), format!("it is left out: {fault}"));
        }
        primitives.push(Primitive { name, fault });
    }
    Ok(primitives)
}

/// Of one line.
fn primitive(row: &Row) -> Result<raw::CapturePrimitive, String> {
    let at: Vec<String> =
        row.pairs.iter().filter(|(key, _)| key == "packet_ptr").map(|(_, value)| value.clone()).collect();
    if at.is_empty() {
        return Err("it has no packet_ptr: fields of flows that routers export are for collectors".to_owned());
    }
    let length = match row.get("len") {
        Some("vlen") => return Err("primitives of variable length are not possible; give a len".to_owned()),
        Some(text) => text.parse().map_err(|_| format!("len {text:?} is not a number up to 255"))?,
        None => return Err("it has no len".to_owned()),
    };
    let semantics = match row.get("semantics") {
        Some("u_int") => Semantics::UInt,
        Some("hex") => Semantics::Hex,
        Some("ip") => Semantics::Ip,
        Some("mac") => Semantics::Mac,
        Some("str") => Semantics::Str,
        Some("raw") => Semantics::Raw,
        other => return Err(format!("semantics {:?} is not one of pmacct's", other.unwrap_or_default())),
    };
    let name = row.get("name").unwrap_or_default().to_owned();
    let primitive = raw::CapturePrimitive { name, at, length, semantics };
    config::check_primitive(&primitive).map_err(|error| match error {
        ConfigError::Value { key, value, reason, .. } => {
            let key = match key.rsplit('.').next().unwrap_or_default() {
                "at" => "packet_ptr",
                "length" => "len",
                other => other,
            };
            format!("{key} {value:?}: {reason}")
        }
        other => other.to_string(),
    })?;
    Ok(primitive)
}
