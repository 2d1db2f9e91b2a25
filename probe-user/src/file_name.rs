//! Names of files with variables in them, and what goes with writing such files.

use std::io;
use std::path::{Path, PathBuf};

use jiff::fmt::strtime;
use jiff::{Timestamp, Zoned, tz::TimeZone};

/// Stands for the zone of the time, as RFC 3339 writes it.
const ZONE: &str = "$tzone";

/// A path in which `%H` and the like stand for a time (`strftime`), `$tzone` for its zone, and further variables for
/// what whoever writes the file knows, as in pmacct's names of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNamePattern {
    text: String,
    /// Those that are in the text, in the order in which they are replaced.
    variables: Vec<&'static str>,
}

/// A pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileNameError {
    /// Different files would have one name.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// There is a `$` that stands for nothing.
    #[error("of names that begin with $ only {0} is known")]
    UnknownVariable(String),
    /// What follows a `%` is not known.
    #[error("{0}")]
    Time(String),
    /// There is a time where there can be none.
    #[error("it must not depend on the time")]
    HasTime,
}

impl FileNamePattern {
    /// Reads a pattern in which each of `variables` may be.
    ///
    /// # Errors
    /// [`FileNameError`], but for [`Missing`](FileNameError::Missing) and [`HasTime`](FileNameError::HasTime).
    pub fn new(text: &str, variables: &[&'static str]) -> Result<Self, FileNameError> {
        let mut known = [variables, &[ZONE]].concat();
        // $tag is the beginning of $tag2.
        known.sort_by_key(|variable| std::cmp::Reverse(variable.len()));
        let mut rest = text.to_owned();
        let mut found = Vec::new();
        for variable in &known {
            if rest.contains(variable) {
                rest = rest.replace(variable, "");
                found.push(*variable);
            }
        }
        if rest.contains('$') {
            let listed = if variables.is_empty() { ZONE.to_owned() } else { variables.join(", ") };
            return Err(FileNameError::UnknownVariable(listed));
        }
        let some_time = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        strtime::format(text, &some_time).map_err(|error| FileNameError::Time(error.to_string()))?;
        Ok(Self { text: text.to_owned(), variables: found })
    }

    /// The pattern as it was read.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the variable is in it.
    #[must_use]
    pub fn has(&self, variable: &str) -> bool {
        self.variables.contains(&variable)
    }

    /// Whether it depends on the time.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.has(ZONE) || self.text.replace("%%", "").contains('%')
    }

    /// The path for this time and these values of variables. Dots and colons of values become `_`; variables without a
    /// value are `null`.
    #[must_use]
    pub fn path(&self, at: &Zoned, values: &[(&str, &str)]) -> PathBuf {
        let mut text = self.text.clone();
        for variable in &self.variables {
            let value = if *variable == ZONE {
                let zone = at.strftime("%:z").to_string();
                if zone == "+00:00" { "Z".to_owned() } else { zone }
            } else {
                let value =
                    values.iter().find(|(name, _)| name == variable).map_or("null", |(_, value)| value);
                value.replace(['.', ':'], "_")
            };
            text = text.replace(variable, &value);
        }
        // What formats one time formats every time.
        strtime::format(&text, at).unwrap_or(text).into()
    }
}

/// The path with `suffix` behind it.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Lets `link` point to the file `target`, from one moment to the next.
///
/// # Errors
/// If there is no such file, or the link cannot be made.
pub fn replace_link(target: &Path, link: &Path) -> io::Result<()> {
    let part = with_suffix(link, ".part");
    // One may be left of a run that was killed.
    let _ = std::fs::remove_file(&part);
    std::os::unix::fs::symlink(std::fs::canonicalize(target)?, &part)?;
    std::fs::rename(&part, link)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn variables_and_time_are_replaced() {
        let variables = ["$peer_src_ip", "$tag", "$tag2", "$ref", "$hst"];
        let at = date(2026, 11, 21).at(5, 40, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        let path = |text: &str| {
            let pattern = FileNamePattern::new(text, &variables).unwrap();
            let values = [("$tag", "7"), ("$tag2", "8"), ("$ref", "60"), ("$peer_src_ip", "192.0.2.1")];
            pattern.path(&at, &values).display().to_string()
        };
        assert_eq!(path("/tmp/$tag2-$tag-%Y%m%d_%H%M.txt"), "/tmp/8-7-20261121_0540.txt");
        assert_eq!(path("$peer_src_ip/$ref.$hst%w%W"), "192_0_2_1/60.null646");
        assert_eq!(path("%s$tzone%z%%"), "1795239600Z+0000%");
        let india = at.with_time_zone(TimeZone::get("Asia/Kolkata").unwrap());
        let pattern = FileNamePattern::new("%H%M$tzone", &[]).unwrap();
        assert_eq!(pattern.path(&india, &[]), PathBuf::from("1110+05:30"));
        assert!(pattern.has_time() && pattern.has("$tzone") && !pattern.has("$tag"));
        assert!(!FileNamePattern::new("a%%b", &[]).unwrap().has_time());
    }

    #[test]
    fn what_cannot_be_a_name_is_said() {
        let error = FileNamePattern::new("$tag-$nothing", &["$tag"]).unwrap_err();
        assert_eq!(error.to_string(), "of names that begin with $ only $tag is known");
        assert!(matches!(FileNamePattern::new("%!", &[]), Err(FileNameError::Time(_))));
    }
}
