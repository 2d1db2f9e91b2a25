//! Files that pmacct's configuration names and that pathflow has no format for: they become settings.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Line, from 1.
    pub line: usize,
    /// Its `key=value` pairs.
    pub pairs: Vec<(String, String)>,
}

/// A file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", file.display(), if *line > 0 { format!(":{line}") } else { String::new() })]
pub(super) struct MapError {
    file: PathBuf,
    /// From 1; 0 = the whole file.
    line: usize,
    reason: String,
}

impl Row {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A line of librdkafka's properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property {
    /// Line, from 1.
    pub line: usize,
    /// Name.
    pub name: String,
    /// Value, which may be secret.
    pub value: String,
}

/// Rows of `key=value` pairs; values with blanks are in quotes.
pub(super) fn rows(file: &Path) -> Result<Vec<Row>, MapError> {
    lines(file)?
        .into_iter()
        .map(|(line, text)| {
            let pairs = pairs(&text).map_err(|reason| MapError { file: file.to_owned(), line, reason })?;
            Ok(Row { line, pairs })
        })
        .collect()
}

/// Addresses and networks, one a line.
pub(super) fn networks(file: &Path) -> Result<Vec<(usize, IpNet)>, MapError> {
    lines(file)?
        .into_iter()
        .map(|(line, text)| {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let reason = || "it is not an address or a network".to_owned();
            Ok((line, network.map_err(|_| MapError { file: file.to_owned(), line, reason: reason() })?))
        })
        .collect()
}

/// Addresses in front of a comma; what is behind it is secret.
pub(super) fn addresses_with_keys(file: &Path) -> Result<Vec<(usize, IpAddr)>, MapError> {
    lines(file)?
        .into_iter()
        .map(|(line, text)| {
            let address = text.split_once(',').and_then(|(address, _)| address.trim().parse().ok());
            let fault = || MapError { file: file.to_owned(), line, reason: "it is not ADDRESS, KEY".into() };
            Ok((line, address.ok_or_else(fault)?))
        })
        .collect()
}

/// `global, NAME, VALUE` and `topic, NAME, VALUE`; a value may have commas.
pub(super) fn properties(file: &Path) -> Result<Vec<Property>, MapError> {
    lines(file)?
        .into_iter()
        .map(|(line, text)| {
            let mut parts = text.splitn(3, ',').map(str::trim);
            match (parts.next(), parts.next(), parts.next()) {
                (Some("global" | "topic"), Some(name), Some(value)) if !name.is_empty() => {
                    Ok(Property { line, name: name.to_owned(), value: value.to_owned() })
                }
                _ => {
                    let reason = "it is not global, NAME, VALUE or topic, NAME, VALUE".to_owned();
                    Err(MapError { file: file.to_owned(), line, reason })
                }
            }
        })
        .collect()
}

/// Lines that are not empty and no comments.
fn lines(file: &Path) -> Result<Vec<(usize, String)>, MapError> {
    let text = fs::read_to_string(file).map_err(|error| MapError {
        file: file.to_owned(),
        line: 0,
        reason: error.to_string(),
    })?;
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim().to_owned()));
    Ok(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['!', '#'])).collect())
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("{rest:?} is not KEY=VALUE"))?;
        if key.contains(char::is_whitespace) {
            return Err(format!("{key:?} is not a key"));
        }
        let quote = after.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let (value, next) = match quote {
            Some(quote) => after
                .get(1..)
                .and_then(|after| after.split_once(quote))
                .ok_or_else(|| format!("the quote after {key} is not closed"))?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        pairs.push((key.to_lowercase(), value.to_owned()));
        rest = next.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_pairs_with_quotes_where_there_are_blanks() {
        let expected = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let row = "bgp_ip=192.0.2.1\tip=0.0.0.0/0   filter='ip6 or (vlan and ip6)'";
        let with_filter = [("bgp_ip", "192.0.2.1"), ("ip", "0.0.0.0/0"), ("filter", "ip6 or (vlan and ip6)")];
        assert_eq!(pairs(row), expected(&with_filter));
        assert_eq!(
            pairs("filter=\"net 0.0.0.0/0\" jeq=a"),
            expected(&[("filter", "net 0.0.0.0/0"), ("jeq", "a")])
        );
        assert_eq!(pairs("ip=1 what"), Err("\"what\" is not KEY=VALUE".to_owned()));
        assert_eq!(pairs("a b=1"), Err("\"a b\" is not a key".to_owned()));
        assert_eq!(pairs("filter='net"), Err("the quote after filter is not closed".to_owned()));
    }
}
