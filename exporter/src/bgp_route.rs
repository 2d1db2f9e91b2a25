//! What a record says of the BGP route of one of its addresses.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::OnceLock;

use crate::community_lists::CommunityLists;

/// Path attributes of a route, as a record carries them (RFC 4271, section 5). Values are in host byte order. What the
/// peer did not send is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpAttributes {
    /// ORIGIN.
    pub origin: BgpOrigin,
    /// `AS_PATH`, nearest segment first. Empty for a route of the own AS.
    pub as_path: Box<[BgpPathSegment]>,
    /// `NEXT_HOP`, or that of `MP_REACH_NLRI`; it may be of another family than the route (RFC 8950).
    pub next_hop: Option<IpAddr>,
    /// `LOCAL_PREF`.
    pub local_pref: Option<u32>,
    /// `MULTI_EXIT_DISC`.
    pub multi_exit_disc: Option<u32>,
    /// COMMUNITIES (RFC 1997), in the order received.
    pub communities: Box<[u32]>,
    /// EXTENDED COMMUNITIES (RFC 4360), in the order received and as on the wire.
    pub extended_communities: Box<[[u8; 8]]>,
    /// `LARGE_COMMUNITY` (RFC 8092): Global Administrator and two local parts, in the order received.
    pub large_communities: Box<[[u32; 3]]>,
}

/// Values of ORIGIN (RFC 4271, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BgpOrigin {
    /// Interior to the originating AS.
    Igp = 0,
    /// Learned by EGP (RFC 904).
    Egp = 1,
    /// Learned by some other means.
    #[default]
    Incomplete = 2,
}

impl BgpOrigin {
    /// Name for people and for JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        }
    }
}

/// One segment of an `AS_PATH`, with its AS numbers as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpPathSegment {
    /// What the numbers mean together.
    pub kind: BgpPathSegmentKind,
    /// AS numbers; nearest first if they are a sequence.
    pub as_numbers: Box<[u32]>,
}

/// Kinds of `AS_PATH` segments (RFC 4271, section 4.3; RFC 5065, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BgpPathSegmentKind {
    /// `AS_SET`: unordered.
    Set = 1,
    /// `AS_SEQUENCE`.
    Sequence = 2,
    /// `AS_CONFED_SEQUENCE`.
    ConfedSequence = 3,
    /// `AS_CONFED_SET`.
    ConfedSet = 4,
}

/// Route Prefix origin validation states (RFC 6811, section 2), and of an invalid route what stands behind it: where
/// invalid routes are rejected, traffic follows the nearest less specific route that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OriginValidation {
    /// No VRP covers the prefix.
    NotFound = 0,
    /// At least one VRP matches the prefix.
    Valid = 1,
    /// A VRP covers the prefix and none matches it. Less specific routes are invalid too, if there are any, or not known.
    Invalid = 2,
    /// The same, but the nearest less specific route that is not invalid is valid.
    InvalidCoveredByValid = 3,
    /// The same, but no VRP covers the nearest less specific route that is not invalid.
    InvalidCoveredByNotFound = 4,
}

impl OriginValidation {
    /// Name for people and for JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::InvalidCoveredByValid => "invalid-covered-by-valid",
            Self::InvalidCoveredByNotFound => "invalid-covered-by-not-found",
        }
    }
}

/// A route that many records share. Its attributes are made ready for export once, when they are first exported.
#[derive(Debug)]
pub struct BgpRoute {
    attributes: BgpAttributes,
    json: OnceLock<Box<str>>,
    communities: OnceLock<CommunityLists>,
}

impl PartialEq for BgpRoute {
    fn eq(&self, other: &Self) -> bool {
        self.attributes == other.attributes
    }
}

impl Eq for BgpRoute {}

impl BgpRoute {
    /// A route with `attributes`.
    #[must_use]
    pub const fn new(attributes: BgpAttributes) -> Self {
        Self { attributes, json: OnceLock::new(), communities: OnceLock::new() }
    }

    /// Its communities as fields of records.
    #[inline]
    pub(crate) fn communities(&self) -> &CommunityLists {
        self.communities.get_or_init(|| {
            CommunityLists::new(
                &self.attributes.communities,
                &self.attributes.extended_communities,
                &self.attributes.large_communities,
            )
        })
    }

    /// What it was made from.
    #[must_use]
    pub const fn attributes(&self) -> &BgpAttributes {
        &self.attributes
    }

    /// The attributes as a JSON object (RFC 8259) without spaces. Keys are the field names of [`BgpAttributes`]; what
    /// is `None` or empty is left out, except for `as_path`, whose empty text says that the route is of the own AS.
    /// `as_path` and communities are texts: `64500 {64501,64502}`, `64500:100`, `0x0002fbf000000064`, `64500:1:2`.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.get_or_init(|| json(&self.attributes).into_boxed_str())
    }
}

fn json(attributes: &BgpAttributes) -> String {
    let mut out = format!(
        r#"{{"origin":"{}","as_path":"{}""#,
        attributes.origin.as_str(),
        AsPathText(&attributes.as_path)
    );
    // Writing to a text can not fail.
    let mut add = |key: &str, value: &dyn fmt::Display| _ = write!(out, r#","{key}":{value}"#);
    if let Some(next_hop) = attributes.next_hop {
        add("next_hop", &format_args!(r#""{next_hop}""#));
    }
    if let Some(local_pref) = attributes.local_pref {
        add("local_pref", &local_pref);
    }
    if let Some(multi_exit_disc) = attributes.multi_exit_disc {
        add("multi_exit_disc", &multi_exit_disc);
    }
    let mut add_list = |key: &str, values: Vec<String>| {
        if !values.is_empty() {
            add(key, &format_args!(r#"["{}"]"#, values.join(r#"",""#)));
        }
    };
    let standard = |community: &u32| format!("{}:{}", community >> 16, community & 0xffff);
    let extended = |community: &[u8; 8]| format!("0x{:016x}", u64::from_be_bytes(*community));
    let large = |[global, first, second]: &[u32; 3]| format!("{global}:{first}:{second}");
    add_list("communities", attributes.communities.iter().map(standard).collect());
    add_list("extended_communities", attributes.extended_communities.iter().map(extended).collect());
    add_list("large_communities", attributes.large_communities.iter().map(large).collect());
    out.push('}');
    out
}

/// As routers and pmacct write it: `64500 64501 {64502,64503}`, confederations `(64512 64513)` and `[64514,64515]`.
struct AsPathText<'path>(&'path [BgpPathSegment]);

impl fmt::Display for AsPathText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            let (open, separator, close) = match segment.kind {
                BgpPathSegmentKind::Sequence => ("", " ", ""),
                BgpPathSegmentKind::Set => ("{", ",", "}"),
                BgpPathSegmentKind::ConfedSequence => ("(", " ", ")"),
                BgpPathSegmentKind::ConfedSet => ("[", ",", "]"),
            };
            if position > 0 {
                formatter.write_str(" ")?;
            }
            formatter.write_str(open)?;
            for (index, as_number) in segment.as_numbers.iter().enumerate() {
                let separator = if index > 0 { separator } else { "" };
                write!(formatter, "{separator}{as_number}")?;
            }
            formatter.write_str(close)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_what_the_route_has() {
        let segment = |kind, as_numbers: &[u32]| BgpPathSegment { kind, as_numbers: as_numbers.into() };
        let route = BgpRoute::new(BgpAttributes {
            origin: BgpOrigin::Igp,
            as_path: [
                segment(BgpPathSegmentKind::ConfedSequence, &[64_512, 64_513]),
                segment(BgpPathSegmentKind::Sequence, &[3356, 4_200_000_001]),
                segment(BgpPathSegmentKind::Set, &[64_501, 64_502]),
            ]
            .into(),
            next_hop: Some(IpAddr::from([192, 0, 2, 1])),
            local_pref: Some(0),
            multi_exit_disc: None,
            communities: [0xfbf0_0064, 0xffff_ff01].into(),
            extended_communities: [[0, 2, 0xfb, 0xf0, 0, 0, 0, 100]].into(),
            large_communities: [[64_500, 1, 4_294_967_295]].into(),
        });
        let value: serde_json::Value = serde_json::from_str(route.json()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "origin": "igp",
                "as_path": "(64512 64513) 3356 4200000001 {64501,64502}",
                "next_hop": "192.0.2.1",
                "local_pref": 0,
                "communities": ["64496:100", "65535:65281"],
                "extended_communities": ["0x0002fbf000000064"],
                "large_communities": ["64500:1:4294967295"],
            })
        );
    }

    #[test]
    fn a_route_of_the_own_as_has_an_empty_path() {
        let route = BgpRoute::new(BgpAttributes::default());
        assert_eq!(route.json(), r#"{"origin":"incomplete","as_path":""}"#);
    }
}
