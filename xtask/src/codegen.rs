//! Sources made from tables: the Information Elements that the exporter knows.
//!
//! What is made is committed, and `tidy` finds it if it is not what the table makes.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace;

/// The table, relative to the root of the workspace.
pub(crate) const REGISTRY: &str = "exporter/src/information_element/registry.csv";
/// What is made of it.
pub(crate) const TABLE: &str = "exporter/src/information_element/table.rs";

const HEADER: &str = "\
//! Made by `cargo xtask codegen` from registry.csv.

use super::information_elements;

information_elements! {
";

/// Writes what is made.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let registry = fs::read_to_string(root.join(REGISTRY)).context(REGISTRY)?;
    let table = information_elements(&registry).context(REGISTRY)?;
    fs::write(root.join(TABLE), table).context(TABLE)
}

/// The source for `registry`: a row is enterprise (0 for IANA's), id, name, Abstract Data Type and Data Type Semantics.
pub(crate) fn information_elements(registry: &str) -> Result<String> {
    let mut source = HEADER.to_owned();
    let mut rows = registry.lines().filter(|line| !line.starts_with('#'));
    ensure!(rows.next() == Some("enterprise,id,name,type,semantics"), "unknown columns");
    let mut last = None;
    for row in rows {
        let columns: Vec<&str> = row.split(',').collect();
        let [enterprise, id, name, kind, semantics] = columns[..] else { bail!("not five columns: {row}") };
        let number: (u32, u16) =
            (enterprise.parse().context(row.to_owned())?, id.parse().context(row.to_owned())?);
        ensure!(last < Some(number), "not in order: {row}");
        last = Some(number);
        let [variant, kind, semantics] = [name, kind, semantics].map(variant);
        writeln!(source, "    {variant} = {enterprise}, {id}, \"{name}\", {kind}, {semantics};")?;
    }
    source.push_str("}\n");
    Ok(source)
}

/// `sourceIPv4Address` as Rust writes it: `SourceIpv4Address`.
fn variant(name: &str) -> String {
    let mut letters = name.replace("IPv", "Ipv");
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_lines_in_order() {
        let columns = "enterprise,id,name,type,semantics\n";
        let rows = "0,8,sourceIPv4Address,ipv4Address,default\n43874,3,label,string,default\n";
        let source = information_elements(&format!("# Text.\n{columns}{rows}")).unwrap();
        let lines = "    SourceIpv4Address = 0, 8, \"sourceIPv4Address\", Ipv4Address, Default;\n    \
                     Label = 43874, 3, \"label\", String, Default;\n}\n";
        assert_eq!(source.strip_prefix(HEADER), Some(lines));
        for wrong in ["0,8,a,string\n", "0,x,a,string,list\n", "0,9,a,string,list\n0,8,b,string,list\n"] {
            assert!(information_elements(&format!("{columns}{wrong}")).is_err(), "{wrong}");
        }
    }
}
