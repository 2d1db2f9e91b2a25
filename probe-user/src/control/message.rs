//! What is asked of a running daemon and what it answers: one JSON document on one line each.

use std::fmt::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::aggregate::TopBy;
use crate::aggregate::encode::Format;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The routes to an address.
    Route {
        /// The address.
        address: IpAddr,
        /// Only those of the peer with this address or name.
        peer: Option<String>,
    },
    /// How the BGP peers are.
    Peers,
    /// The rows that an aggregate keeps in memory.
    Rows(RowsRequest),
}

/// Which rows are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsRequest {
    /// Name of the aggregate; `None` = the only one.
    pub aggregate: Option<String>,
    /// Primitives and what they have to say: an address, a prefix, or the value as rows have it.
    pub conditions: Vec<(String, String)>,
    /// Only so many; 0 = all.
    pub top: usize,
    /// What the largest are the largest by.
    pub by: TopBy,
    /// How they are written.
    pub format: Format,
    /// What is between two values of CSV.
    pub separator: String,
    /// Whether all rows are forgotten afterwards.
    pub reset: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Of every peer that was asked for.
    Routes(Vec<RouteAnswer>),
    /// All of them.
    Peers(Vec<PeerAnswer>),
    /// What comes behind this answer.
    Rows(RowsAnswer),
    /// It cannot be answered.
    Error(String),
}

/// What one peer knows of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// Name and address of the peer.
    pub peer: String,
    /// The longest prefix that holds the address; `None` = it has no route.
    pub prefix: Option<String>,
    /// What its paths say, with the keys of routes in JSON records; several only with ADD-PATH.
    pub paths: Vec<serde_json::Value>,
    /// Whether the session is over, or has not brought the route again.
    pub stale: bool,
    /// Origin validation; `None` = not known.
    pub rpki: Option<String>,
}

/// What the rows are that come behind this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsAnswer {
    /// The aggregate.
    pub aggregate: String,
    /// Rows, packets and octets of what is behind this.
    pub written: [u64; 3],
    /// The same of all that meets the conditions.
    pub matching: [u64; 3],
    /// The same of all that is kept.
    pub all: [u64; 3],
    /// Since when, in seconds since the Unix epoch.
    pub since: u64,
}

/// How one peer is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAnswer {
    /// Its address.
    pub peer: String,
    /// Its AS number; 0 = not known yet.
    #[serde(rename = "as")]
    pub as_number: u32,
    /// State of the session (RFC 4271, section 8.2.2).
    pub state: String,
    /// Seconds since the session came up.
    pub up_seconds: Option<u64>,
    /// UPDATE messages received; `None` = not counted, as of tables that come by BMP.
    pub updates: Option<u64>,
    /// Why the last session ended.
    pub last_error: Option<String>,
    /// Routes by family.
    pub families: Vec<FamilyAnswer>,
}

/// The routes of one family of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyAnswer {
    /// Its name.
    pub family: String,
    /// Routes, stale ones included.
    pub routes: u64,
    /// Those of a session that is over.
    pub stale: u64,
    /// Whether all have come.
    pub end_of_rib: bool,
}

impl Response {
    /// Whether it says something of what was asked.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Routes(routes) => routes.iter().any(|route| route.prefix.is_some()),
            Self::Peers(_) | Self::Rows(_) => true,
            Self::Error(_) => false,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Routes(routes) if routes.is_empty() => "no such peer\n".to_owned(),
            Self::Routes(routes) => routes.iter().map(RouteAnswer::text).collect(),
            Self::Peers(peers) => peers_text(peers),
            Self::Rows(rows) => rows.text(),
            Self::Error(error) => format!("{error}\n"),
        }
    }
}

impl RowsAnswer {
    /// What there is, for people.
    fn text(&self) -> String {
        let Self { written, matching, all, since, .. } = self;
        let tally = |[rows, packets, octets]: &[u64; 3]| {
            let s = if *rows == 1 { "" } else { "s" };
            format!("{rows} row{s}, {packets} packets, {octets} octets")
        };
        let mut text = tally(written);
        // Writing to a String cannot fail.
        if matching != written {
            _ = write!(text, "; matching: {}", tally(matching));
        }
        if all != matching {
            _ = write!(text, "; in memory: {}", tally(all));
        }
        let since = i64::try_from(*since).ok().and_then(|since| Timestamp::from_second(since).ok());
        if let Some(since) = since {
            _ = write!(text, "; since {since}");
        }
        text + "\n"
    }
}

impl RouteAnswer {
    fn text(&self) -> String {
        let Self { peer, prefix: Some(prefix), paths, stale, rpki } = self else {
            return format!("{}: no route\n", self.peer);
        };
        let stale = if *stale { ", stale" } else { "" };
        let mut text = format!("{peer}: {prefix}{stale}\n");
        for path in paths {
            text += &path_text(path);
        }
        if let Some(rpki) = rpki {
            // Writing to a String cannot fail.
            _ = writeln!(text, "  RPKI {rpki}");
        }
        text
    }
}

fn path_text(path: &serde_json::Value) -> String {
    let mut text = match path["as_path"].as_str() {
        None | Some("") => "  AS path empty: a route of the own AS\n".to_owned(),
        Some(path) => format!("  AS path {path}\n"),
    };
    for (key, name) in [
        ("next_hop", "next hop"),
        ("origin", "origin"),
        ("local_pref", "local preference"),
        ("multi_exit_disc", "MED"),
        ("communities", "communities"),
        ("extended_communities", "extended communities"),
        ("large_communities", "large communities"),
    ] {
        let value = match &path[key] {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(values) => {
                values.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        };
        // Writing to a String cannot fail.
        _ = writeln!(text, "    {name} {value}");
    }
    text
}

fn peers_text(peers: &[PeerAnswer]) -> String {
    if peers.is_empty() {
        return "no peers\n".to_owned();
    }
    let mut text = format!("{:<40} {:>10} {:<12} {:>10} {:>10}\n", "peer", "AS", "state", "up", "updates");
    for peer in peers {
        let PeerAnswer { peer, as_number, state, up_seconds, updates, last_error, families } = peer;
        let up = up_seconds.map_or_else(|| "-".to_owned(), duration);
        let updates = updates.map_or_else(|| "-".to_owned(), |updates| updates.to_string());
        _ = writeln!(text, "{peer:<40} {as_number:>10} {state:<12} {up:>10} {updates:>10}");
        for FamilyAnswer { family, routes, stale, end_of_rib } in families {
            let stale = if *stale > 0 { format!(", {stale} of them stale") } else { String::new() };
            let complete = if *end_of_rib { "" } else { ", more may come" };
            _ = writeln!(text, "  {family}: {routes} routes{stale}{complete}");
        }
        if let Some(error) = last_error {
            _ = writeln!(text, "  the last session ended: {error}");
        }
    }
    text
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours:02}h")
    } else {
        format!("{hours}h{minutes:02}m{:02}s", seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_line_of_json() {
        let route = Request::Route { address: "8.8.8.8".parse().unwrap(), peer: None };
        assert_eq!(serde_json::to_string(&route).unwrap(), r#"{"route":{"address":"8.8.8.8","peer":null}}"#);
        assert_eq!(serde_json::from_str::<Request>("\"peers\"").unwrap(), Request::Peers);
        assert!(serde_json::from_str::<Request>(r#"{"route":{"address":"8.8.8.8","x":1}}"#).is_err());
    }

    #[test]
    fn a_route_of_the_own_as_and_none_read_differently() {
        let own = RouteAnswer {
            peer: "192.0.2.1".to_owned(),
            prefix: Some("23.157.160.0/24".to_owned()),
            paths: vec![serde_json::json!({"origin": "igp", "as_path": "", "local_pref": 100})],
            stale: true,
            rpki: Some("valid".to_owned()),
        };
        let none = RouteAnswer { peer: "192.0.2.2".to_owned(), ..RouteAnswer::default() };
        let text = Response::Routes(vec![own, none]).text();
        assert_eq!(
            text,
            "192.0.2.1: 23.157.160.0/24, stale\n  AS path empty: a route of the own AS\n    origin igp\n    \
             local preference 100\n  RPKI valid\n192.0.2.2: no route\n"
        );
    }

    #[test]
    fn peers_are_a_table() {
        let peer = PeerAnswer {
            peer: "127.0.0.1".to_owned(),
            as_number: 397_143,
            state: "Established".to_owned(),
            up_seconds: Some(90_061),
            updates: Some(7),
            last_error: None,
            families: vec![FamilyAnswer {
                family: "IPv4 unicast".to_owned(),
                routes: 3,
                stale: 1,
                end_of_rib: false,
            }],
        };
        let text = Response::Peers(vec![peer]).text();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["127.0.0.1", "397143", "Established", "1d01h", "7"]);
        assert!(text.ends_with("  IPv4 unicast: 3 routes, 1 of them stale, more may come\n"), "{text}");
    }
}
