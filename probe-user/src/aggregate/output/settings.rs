//! `[aggregate.file]` and `[aggregate.stdout]`.

use std::time::Duration;

use jiff::tz::TimeZone;
use nix::unistd::{Group, User};
use serde::{Deserialize, Serialize};

use crate::aggregate::encode::{EncodeError, EncodeSettings, Format, RowEncoder};
use crate::aggregate::{Bins, Primitive};
use crate::file_name::{FileNameError, FileNamePattern};

/// Address of this router, as a row says it.
pub(super) const PEER: &str = "$peer_src_ip";
/// The operator's number, as a row says it.
pub(super) const TAG: &str = "$tag";
/// The operator's second number.
pub(super) const TAG2: &str = "$tag2";
/// Time between purges in seconds.
pub(super) const REFRESH: &str = "$ref";
/// Length of time bins in seconds.
pub(super) const HISTORY: &str = "$hst";

/// `[aggregate.file]` as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileTable {
    /// Name of each file.
    pub path: String,
    /// How rows are written.
    pub format: Format,
    /// What is between two values of CSV.
    pub separator: String,
    /// Whether rows are added to files that are there.
    pub append: bool,
    /// Name of a link to the file with the last name; empty = none.
    pub latest: String,
    /// Whether the beginning and the end of a purge are marked.
    pub markers: bool,
    /// Whether a purge without rows makes an empty file.
    pub write_empty: bool,
    /// Permissions that files and directories do not get, in octal digits.
    pub umask: String,
    /// User that files and directories belong to, by name or number; empty = the one that pathflow runs as.
    pub owner: String,
    /// Group that they belong to, by name or number; empty = that of the one that pathflow runs as.
    pub group: String,
    /// Program with its arguments that is run when files of a purge were written; empty = none.
    pub exec: Vec<String>,
}

impl Default for FileTable {
    fn default() -> Self {
        Self {
            path: String::new(),
            format: Format::Json,
            separator: ",".to_owned(),
            append: false,
            latest: String::new(),
            markers: false,
            write_empty: false,
            umask: "0077".to_owned(),
            owner: String::new(),
            group: String::new(),
            exec: Vec::new(),
        }
    }
}

/// `[aggregate.stdout]` as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StdoutTable {
    /// How rows are written.
    pub format: Format,
    /// What is between two values of CSV.
    pub separator: String,
    /// Whether the beginning and the end of a purge are marked.
    pub markers: bool,
}

impl Default for StdoutTable {
    fn default() -> Self {
        Self { format: Format::Json, separator: ",".to_owned(), markers: false }
    }
}

/// `[aggregate.memory]` as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryTable {
    /// Rows at most.
    pub max_entries: u32,
}

impl Default for MemoryTable {
    fn default() -> Self {
        Self { max_entries: 1 << 20 }
    }
}

/// How rows are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct MemorySettings {
    /// Rows at most.
    pub max_entries: usize,
    /// How values are written for who asks.
    pub encode: EncodeSettings,
}

/// Where files are written, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSettings {
    /// Name of each file.
    pub path: FileNamePattern,
    /// Name of a link to the file with the last name.
    pub latest: Option<FileNamePattern>,
    /// How rows are written.
    pub format: Format,
    /// How values are written.
    pub encode: EncodeSettings,
    /// Whether rows are added to files that are there.
    pub append: bool,
    /// Whether the beginning and the end of a purge are marked.
    pub markers: bool,
    /// Whether a purge without rows makes an empty file.
    pub write_empty: bool,
    /// Permissions that files and directories do not get.
    pub umask: u32,
    /// Whom files and directories belong to.
    pub owner: Owner,
    /// Program with its arguments that is run when files of a purge were written; empty = none.
    pub exec: Vec<String>,
    /// Zone of times in names.
    pub zone: TimeZone,
    /// Time between purges.
    pub refresh: Duration,
    /// Time bins, if there are any.
    pub history: Option<Bins>,
}

/// Whom files belong to; `None` = whom pathflow runs as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Number of the user.
    pub user: Option<u32>,
    /// Number of the group.
    pub group: Option<u32>,
}

/// How rows are written to standard output.
#[derive(Clone, Debug, PartialEq)]
pub struct StdoutSettings {
    /// How rows are written.
    pub format: Format,
    /// How values are written.
    pub encode: EncodeSettings,
    /// Whether the beginning and the end of a purge are marked.
    pub markers: bool,
}

/// A key of a table cannot be as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct OutputSettingsError {
    /// The key, without that of the table.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl FileSettings {
    /// Checks `table`, for rows of these `primitives`. `encode` is as `[aggregate.format]` has it.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn new(
        table: &FileTable,
        encode: &EncodeSettings,
        primitives: &[Primitive],
        refresh: Duration,
        history: Option<&Bins>,
    ) -> Result<Self, OutputSettingsError> {
        let wrong =
            |key, value: &str, reason: String| OutputSettingsError { key, value: value.to_owned(), reason };
        let pattern = |key, text: &str| {
            let variables = [PEER, TAG, TAG2, REFRESH, HISTORY];
            FileNamePattern::new(text, &variables).map_err(|error| wrong(key, text, error.to_string()))
        };
        if table.path.is_empty() {
            return Err(wrong("path", "", "it is empty".to_owned()));
        }
        let latest = match table.latest.as_str() {
            "" => None,
            text => {
                let latest = pattern("latest", text)?;
                if latest.has_time() {
                    return Err(wrong("latest", text, FileNameError::HasTime.to_string()));
                }
                Some(latest)
            }
        };
        // Whoever may write to a directory may replace the files in it.
        let umask = u32::from_str_radix(&table.umask, 8)
            .ok()
            .filter(|umask| *umask <= 0o777 && umask & 0o002 != 0)
            .ok_or_else(|| {
                wrong(
                    "umask",
                    &table.umask,
                    "it is not from 0002 to 0777 and such that others may not write".to_owned(),
                )
            })?;
        let owner = Owner {
            user: number(&table.owner, "user", |name| {
                Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
            })
            .map_err(|reason| wrong("owner", &table.owner, reason))?,
            group: number(&table.group, "group", |name| {
                Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
            })
            .map_err(|reason| wrong("group", &table.group, reason))?,
        };
        if let Some(program) = table.exec.first()
            && !program.starts_with('/')
        {
            return Err(wrong("exec", program, "it is not the full path of a program".to_owned()));
        }
        let encode = EncodeSettings { separator: table.separator.clone(), ..encode.clone() };
        check_format(&encode, table.format, primitives)?;
        Ok(Self {
            path: pattern("path", &table.path)?,
            latest,
            format: table.format,
            zone: encode.zone.clone(),
            encode,
            append: table.append,
            markers: table.markers,
            write_empty: table.write_empty,
            umask,
            owner,
            exec: table.exec.clone(),
            refresh,
            history: history.cloned(),
        })
    }
}

/// The number of a user or group that is given by name or number.
fn number(
    text: &str,
    kind: &str,
    look_up: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<Option<u32>, String> {
    match text {
        "" => Ok(None),
        text if text.bytes().all(|octet| octet.is_ascii_digit()) => {
            // The largest number stands for no change (chown(2)).
            let number = text.parse().ok().filter(|number| *number != u32::MAX);
            number.map(Some).ok_or_else(|| "it is too large a number".to_owned())
        }
        name => match look_up(name) {
            Ok(Some(number)) => Ok(Some(number)),
            Ok(None) => Err(format!("there is no such {kind}")),
            Err(error) => Err(format!("the {kind} cannot be looked up: {error}")),
        },
    }
}

impl StdoutSettings {
    /// Checks `table`, for rows of these `primitives`. `encode` is as `[aggregate.format]` has it.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn new(
        table: &StdoutTable,
        encode: &EncodeSettings,
        primitives: &[Primitive],
    ) -> Result<Self, OutputSettingsError> {
        let encode = EncodeSettings { separator: table.separator.clone(), ..encode.clone() };
        check_format(&encode, table.format, primitives)?;
        Ok(Self { format: table.format, encode, markers: table.markers })
    }
}

impl MemorySettings {
    /// Checks `table`. `encode` is as `[aggregate.format]` has it.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn new(table: &MemoryTable, encode: &EncodeSettings) -> Result<Self, OutputSettingsError> {
        let MemoryTable { max_entries } = *table;
        if !(2..=1 << 28).contains(&max_entries) {
            return Err(OutputSettingsError {
                key: "max_entries",
                value: max_entries.to_string(),
                reason: "it must be from 2 to 268435456".to_owned(),
            });
        }
        Ok(Self { max_entries: max_entries as usize, encode: encode.clone() })
    }
}

/// Whether rows can be written so.
pub(super) fn check_format(
    encode: &EncodeSettings,
    format: Format,
    primitives: &[Primitive],
) -> Result<(), OutputSettingsError> {
    let Err(error) = RowEncoder::new(encode, format, primitives) else { return Ok(()) };
    let (key, value) = match error {
        EncodeError::Separator(_) => ("separator", encode.separator.clone()),
        EncodeError::NoWidth(_) | EncodeError::StyleNeedsJson => ("format", format.to_string()),
    };
    Err(OutputSettingsError { key, value, reason: error.to_string() })
}
