//! `[aggregate.format]`: how values are written.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::aggregate::CustomPrimitives;

/// Names, order and types of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// As pmacct 1.7 has them.
    #[default]
    Pmacct,
    /// Nested, with types, and times by RFC 3339 in UTC.
    Pathflow,
}

/// How TCP flags are written in pmacct's JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpFlagsStyle {
    /// `"27"`, as up to pmacct 1.7.9.
    #[default]
    String,
    /// `27`, as pmacct since July 2026.
    Number,
    /// `["ACK", "PSH", "SYN", "FIN"]`, as with pmacct's `tcpflags_encode_as_array`, but with CWR and ECE too.
    Array,
}

/// How times are written in pmacct's formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampStyle {
    /// `2026-11-21 05:45:00`
    #[default]
    Plain,
    /// `"1795239900"`: seconds since the Unix epoch, as text (`timestamps_since_epoch`).
    Epoch,
    /// `2026-11-21T05:45:00Z` or with an offset such as `+01:00` (`timestamps_rfc3339`).
    Rfc3339,
    /// `2026-11-21T05:45:00+00:00`: the offset is always a number (`timestamps_rfc9557`).
    Rfc9557,
}

/// `[aggregate.format]` as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent keys")]
pub struct FormatTable {
    /// Names, order and types of JSON.
    pub style: Style,
    /// TCP flags in JSON.
    pub tcp_flags: TcpFlagsStyle,
    /// Whether labels are objects in JSON, of keys and values: `key1%value1,key2%value2`; else texts as they are.
    pub label_as_map: bool,
    /// Whether AS paths are arrays in JSON; else texts with `_` between.
    pub as_path_as_array: bool,
    /// Whether communities are arrays in JSON; else texts with `_` between.
    pub communities_as_array: bool,
    /// Whether well-known communities are numbers, not names.
    pub community_numbers: bool,
    /// Whether IP protocols are numbers, not names.
    pub protocol_numbers: bool,
    /// Whether `tos` is the Differentiated Services Codepoint only.
    pub tos_as_dscp: bool,
    /// How times are written.
    pub timestamps: TimestampStyle,
    /// Whether times of packets have no fraction.
    pub timestamps_in_seconds: bool,
}

/// How values are written.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodeSettings {
    /// Names, order and types of JSON.
    pub style: Style,
    /// The options of pmacct's formats.
    pub options: FormatTable,
    /// What is between two values of CSV: one character, `\\t` for a tab or `\\s` for a space.
    pub separator: String,
    /// The operator's own primitives, by their numbers.
    pub custom: CustomPrimitives,
    /// Zone of times in pmacct's formats.
    pub zone: TimeZone,
}

impl EncodeSettings {
    /// By the table, with times in UTC or in the system's zone.
    #[must_use]
    pub fn new(table: &FormatTable, utc: bool) -> Self {
        let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
        let (options, custom) = (table.clone(), CustomPrimitives::default());
        Self { style: table.style, options, separator: ",".to_owned(), custom, zone }
    }
}
