//! The TOML that is written: tables in the order in which they were begun, each key with the line it is from.

use std::fmt::Write as _;

use toml::Value;

use super::configuration::Line;

/// The line of pmacct's configuration that something is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Line, from 1.
    pub line: usize,
    /// The key as written.
    pub key: String,
}

impl From<&Line> for Origin {
    fn from(line: &Line) -> Self {
        Self { line: line.number, key: line.written.clone() }
    }
}

/// The document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    tables: Vec<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    /// As in its header.
    name: String,
    is_array: bool,
    /// As in faults: entries of arrays have their number, from 0, in brackets.
    path: String,
    origin: Option<Origin>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    value: Value,
    origin: Option<Origin>,
}

/// A table of the document.
#[derive(Clone, Copy, Debug)]
pub struct TableId(usize);

impl Document {
    /// The table of this name, begun now or before.
    pub fn table(&mut self, name: &str) -> TableId {
        let found = self.tables.iter().position(|table| !table.is_array && table.path == name);
        TableId(found.unwrap_or_else(|| self.begin(name, false, name.to_owned(), None)))
    }

    /// A new table of an array.
    pub fn array_table(&mut self, name: &str, origin: Option<&Origin>) -> TableId {
        let number = self.tables.iter().filter(|table| table.is_array && table.name == name).count();
        TableId(self.begin(name, true, format!("{name}[{number}]"), origin.cloned()))
    }

    /// A table below the one that was begun by [`Document::array_table`] last.
    pub fn subtable(&mut self, parent: TableId, name: &str, origin: Option<&Origin>) -> TableId {
        let (header, path) = self.tables.get(parent.0).map_or_else(Default::default, |table| {
            (format!("{}.{name}", table.name), format!("{}.{name}", table.path))
        });
        let found = self.tables.iter().position(|table| table.path == path);
        TableId(found.unwrap_or_else(|| self.begin(&header, false, path, origin.cloned())))
    }

    fn begin(&mut self, name: &str, is_array: bool, path: String, origin: Option<Origin>) -> usize {
        self.tables.push(Table { name: name.to_owned(), is_array, path, origin, entries: Vec::new() });
        self.tables.len() - 1
    }

    /// Sets a key, in place of what it was.
    pub fn set(&mut self, table: TableId, key: &str, value: impl Into<Value>, origin: Option<&Origin>) {
        let Some(table) = self.tables.get_mut(table.0) else { return };
        let entry = Entry { key: key.to_owned(), value: value.into(), origin: origin.cloned() };
        match table.entries.iter_mut().find(|entry| entry.key == key) {
            Some(before) => *before = entry,
            None => table.entries.push(entry),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, table: TableId, key: &str) -> Option<&Value> {
        let table = self.tables.get(table.0)?;
        table.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// What a key such as `capture.filter` or `bgp.peer[0].address` is from.
    #[must_use]
    pub fn origin_of(&self, key: &str) -> Option<&Origin> {
        let entries = self.tables.iter().flat_map(|table| {
            table.entries.iter().map(move |entry| (format!("{}.{}", table.path, entry.key), entry))
        });
        let exact = entries.filter(|(path, _)| path == key).find_map(|(_, entry)| entry.origin.as_ref());
        exact.or_else(|| {
            let mut tables = self.tables.iter().rev();
            tables
                .find(|table| {
                    key.strip_prefix(&table.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                })
                .and_then(|table| table.origin.as_ref())
        })
    }

    /// Whether anything in it should stay secret.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        let properties = self.tables.iter().filter(|table| table.name.ends_with(".properties"));
        let mut urls = self.tables.iter().flat_map(|table| &table.entries);
        properties.flat_map(|table| &table.entries).any(|entry| is_secret(&entry.key))
            // `http://USER:PASSWORD@HOST`
            || urls.any(|entry| entry.key == "schema_registry" && entry.value.to_string().contains('@'))
    }

    /// The text. Each key has the line that it is from behind it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            // A table without keys says nothing, but an entry of an array, and the parent of what follows, does.
            if table.entries.is_empty() && !table.is_array {
                continue;
            }
            let header =
                if table.is_array { format!("[[{}]]", table.name) } else { format!("[{}]", table.name) };
            let _ = writeln!(text, "\n{header}{}", from(table.origin.as_ref()));
            for Entry { key, value, origin } in &table.entries {
                let is_bare = key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
                let key = if is_bare { key.clone() } else { Value::from(key.as_str()).to_string() };
                let _ = writeln!(text, "{key} = {value}{}", from(origin.as_ref()));
            }
        }
        text
    }
}

fn from(origin: Option<&Origin>) -> String {
    origin.map_or_else(String::new, |origin| format!(" # line {}: {}", origin.line, origin.key))
}

/// Whether a property of this name is a password or the like.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["password", "passwd", "secret", ".pem", "token", "oauthbearer.config", "jaas"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_their_order_and_keys_know_their_lines() {
        let origin = |line, key: &str| Origin { line, key: key.into() };
        let mut document = Document::default();
        let capture = document.table("capture");
        document.set(capture, "filter", "port 53", Some(&origin(3, "pcap_filter")));
        let first = document.array_table("aggregate", Some(&origin(1, "plugins")));
        document.set(first, "name", "a", None);
        let second = document.array_table("aggregate", None);
        let kafka = document.subtable(second, "kafka", None);
        let properties = document.subtable(kafka, "properties", Some(&origin(9, "kafka_config_file")));
        document.set(properties, "sasl.password", "x\"y", None);
        document.set(capture, "pin", true, None);
        assert_eq!(
            document.text(),
            "\n[capture]\nfilter = \"port 53\" # line 3: pcap_filter\npin = true\n\n\
             [[aggregate]] # line 1: plugins\nname = \"a\"\n\n[[aggregate]]\n\n\
             [aggregate.kafka.properties] # line 9: kafka_config_file\n\"sasl.password\" = 'x\"y'\n"
        );
        let line = |key| document.origin_of(key).map(|origin| origin.line);
        assert_eq!(line("capture.filter"), Some(3));
        assert_eq!(line("capture.pin"), None);
        assert_eq!(line("aggregate[0].name"), Some(1));
        assert_eq!(line("aggregate[1].kafka.properties.sasl.password"), Some(9));
        assert!(document.has_secrets());
    }
}
