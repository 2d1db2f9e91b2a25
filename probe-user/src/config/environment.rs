//! Settings by the environment, over those of the file.
//!
//! `PATHFLOW_CAPTURE__DRAIN_INTERVAL=500ms` is `drain_interval = "500ms"` in `[capture]`: two underscores lead from a
//! table into what is in it, and a number stands for a table of several. Variables without two underscores are none of
//! the settings.

use toml::{Table, Value};

use super::error::{self, ConfigError};
use super::raw::Raw;

const PREFIX: &str = "PATHFLOW_";
const STEP: &str = "__";

/// Settings by the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Name and value, by name.
    variables: Vec<(String, String)>,
}

impl Environment {
    /// That of this process. Variables whose names or values are no text are none of ours.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Those of `variables` that are settings.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let is_setting = |name: &str| name.strip_prefix(PREFIX).is_some_and(|path| path.contains(STEP));
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| is_setting(name)).collect();
        // Tables of several come in their order: 0 before 1.
        variables.sort();
        Self { variables }
    }

    /// Puts the settings over those of a file.
    ///
    /// # Errors
    /// [`ConfigError::Variable`] naming the variable that is no setting, or whose value is not of the right type.
    pub fn over(&self, mut raw: Raw) -> Result<Raw, ConfigError> {
        for (name, text) in &self.variables {
            let fault = |reason: String| ConfigError::Variable { name: name.clone(), reason };
            let mut first = None;
            let mut found = None;
            for value in readings(text) {
                let mut root = Value::try_from(&raw).map_err(|error| fault(error.to_string()))?;
                let path = path(name);
                set(&mut root, &path, value).map_err(fault)?;
                match root.try_into::<Raw>() {
                    Ok(raw) => {
                        found = Some(raw);
                        break;
                    }
                    Err(error) => drop(first.get_or_insert(error)),
                }
            }
            raw = match (found, first) {
                (Some(raw), _) => raw,
                (None, Some(error)) => return Err(fault(error::reason(error.message()))),
                (None, None) => raw,
            };
        }
        Ok(raw)
    }

    /// The variable that gave the value of a key such as `flow.idle_timeout` or `capture.interface[1].hook`.
    #[must_use]
    pub fn name_of(&self, key: &str) -> Option<&str> {
        let key = key.replace('[', ".").replace(']', "");
        let parts: Vec<&str> = key.split('.').collect();
        let is_it = |name: &&str| {
            let path = path(name);
            // A variable may have given the table that the key is in.
            path.len() <= parts.len() && path.iter().zip(&parts).all(|(one, other)| one == other)
        };
        self.variables.iter().map(|(name, _)| name.as_str()).find(is_it)
    }
}

fn path(name: &str) -> Vec<String> {
    let path = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
    path.split(STEP).map(str::to_owned).collect()
}

/// What a text can mean: a value in TOML, a text, a list of texts with commas.
fn readings(text: &str) -> impl Iterator<Item = Value> {
    // One key, unless there is a line feed in it.
    let table = toml::from_str::<Table>(&format!("value = {text}")).ok().filter(|table| table.len() == 1);
    let list = || text.split(',').map(|item| Value::String(item.trim().to_owned())).collect();
    table
        .and_then(|mut table| table.remove("value"))
        .into_iter()
        .chain([Value::String(text.to_owned()), Value::Array(list())])
}

/// Puts a value to where the path leads; tables that are not there are made.
fn set(root: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let mut at = root;
    for (depth, part) in path.iter().enumerate() {
        let so_far = || path.get(..depth).unwrap_or_default().join(".");
        if let Ok(number) = part.parse::<usize>() {
            let Value::Array(tables) = at else { return Err(format!("{} has no numbers", so_far())) };
            if number == tables.len() {
                tables.push(Value::Table(Table::new()));
            }
            let count = tables.len();
            at = tables
                .get_mut(number)
                .ok_or_else(|| format!("there are {count} of {}, counted from 0", so_far()))?;
            continue;
        }
        let Value::Table(table) = at else { return Err(format!("{} is no table", so_far())) };
        let is_counted = path.get(depth + 1).is_some_and(|next| next.parse::<usize>().is_ok());
        let empty = if is_counted { Value::Array(Vec::new()) } else { Value::Table(Table::new()) };
        at = table.entry(part.clone()).or_insert(empty);
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::{Config, Overrides, parse};
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn resolve(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let raw = parse(Path::new("probe.toml"), text).map_err(|error| error.to_string())?;
        let overrides = Overrides { environment: environment(variables), ..Overrides::default() };
        Config::resolve(raw, overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_are_over_the_file() {
        let text = "[capture]\ninterfaces = [\"eth0\"]\n[[aggregate]]\nname = \"a\"\nhistory = \"1m\"\n\
                    [aggregate.stdout]\n";
        let config = resolve(
            text,
            &[
                ("PATHFLOW_CAPTURE__INTERFACES", "eth1, eth2"),
                ("PATHFLOW_FLOW__IDLE_TIMEOUT", "5s"),
                ("PATHFLOW_AGGREGATE__0__TAGS", "7"),
                ("PATHFLOW_AGGREGATE__0__TOP", "7"),
                ("PATHFLOW_AGGREGATE__1__NAME", "b"),
                ("PATHFLOW_AGGREGATE__1__MEMORY", "{ max_entries = 10 }"),
                ("PATHFLOW_HTTP__LISTEN", ""),
                ("PATHFLOW_CAPTURES", "/of/a/test"),
                ("OTHER_CAPTURE__X", "1"),
            ],
        )
        .unwrap();
        assert_eq!(config.timeouts.idle, Duration::from_secs(5));
        assert_eq!((config.aggregates[0].limits.top, config.listen), (7, None));
        assert_eq!(config.aggregates[1].name, "b");
        let raw =
            environment(&[("PATHFLOW_CAPTURE__INTERFACES", "eth1, eth2")]).over(Raw::default()).unwrap();
        assert_eq!(raw.capture.interfaces, ["eth1", "eth2"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_variable() {
        for (name, value, expected) in [
            ("PATHFLOW_CAPTURE__DRAIN_INTERVALL", "1s", "unknown key \"drain_intervall\"; did you mean"),
            ("PATHFLOW_CAPTURES__X", "1", "unknown key \"captures\"; did you mean \"capture\"?"),
            ("PATHFLOW_FLOW__MAX_FLOWS", "many", "invalid type"),
            ("PATHFLOW_AGGREGATE__2__NAME", "x", "there are 0 of aggregate, counted from 0"),
            ("PATHFLOW_FLOW__0", "x", "flow has no numbers"),
            ("PATHFLOW_LOG__LEVEL__X", "x", "log.level is no table"),
            ("PATHFLOW_FLOW__IDLE_TIMEOUT", "10ms", "\"10ms\" cannot be used"),
            (
                "PATHFLOW_AGGREGATE__0",
                "{ name = \"a\", refresh = \"1ms\", stdout = {} }",
                "\"1ms\" cannot be used",
            ),
        ] {
            let error = resolve("", &[(name, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: ")) && error.contains(expected), "{error}");
        }
    }
}
