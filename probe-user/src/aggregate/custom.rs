//! Primitives of the operator's own: octets of a packet, read at a place that the settings name
//! (pmacct's `aggregate_primitives`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::primitive::Primitive;

/// What the octets of a custom primitive are, by pmacct's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// An unsigned number in network byte order, written in decimal.
    UInt,
    /// The same, written in hexadecimal.
    Hex,
    /// An IP address: four octets, or sixteen.
    Ip,
    /// A MAC address.
    Mac,
    /// A text that ends at the first zero.
    Str,
    /// Octets in hexadecimal.
    Raw,
}

impl Semantics {
    /// Whether there can be so many octets of it.
    #[must_use]
    pub const fn has_length(self, length: u8) -> bool {
        match self {
            Self::UInt | Self::Hex => matches!(length, 1 | 2 | 4 | 8),
            Self::Ip => matches!(length, 4 | 16),
            Self::Mac => length == 6,
            Self::Str | Self::Raw => length > 0,
        }
    }

    /// The lengths that it can have, for messages.
    #[must_use]
    pub const fn lengths(self) -> &'static str {
        match self {
            Self::UInt | Self::Hex => "1, 2, 4 or 8",
            Self::Ip => "4 or 16",
            Self::Mac => "6",
            Self::Str | Self::Raw => "at least 1",
        }
    }
}

impl fmt::Display for Semantics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::UInt => "u_int",
            Self::Hex => "hex",
            Self::Ip => "ip",
            Self::Mac => "mac",
            Self::Str => "str",
            Self::Raw => "raw",
        })
    }
}

/// A custom primitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomPrimitive {
    /// Name in settings, in JSON and above columns.
    pub name: String,
    /// What the octets are.
    pub semantics: Semantics,
    /// How many; right for the semantics.
    pub length: u8,
    /// Where they begin in [`KeyExtension::chosen`](pathflow_common::extension::KeyExtension).
    pub offset: u8,
}

/// The custom primitives of a key: [`Primitive::Custom`] has the position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomPrimitives(Arc<[CustomPrimitive]>);

impl CustomPrimitives {
    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &CustomPrimitive> {
        self.0.iter()
    }

    /// The same, wherever their octets are.
    #[must_use]
    pub fn without_offsets(&self) -> Self {
        self.iter().map(|custom| CustomPrimitive { offset: 0, ..custom.clone() }).collect()
    }

    /// The one with this number.
    #[must_use]
    pub fn get(&self, number: u8) -> Option<&CustomPrimitive> {
        self.0.get(usize::from(number))
    }

    /// Name of any primitive in the settings.
    #[must_use]
    pub fn name(&self, primitive: Primitive) -> &str {
        self.text(primitive, Primitive::name)
    }

    /// Key of any primitive in pmacct's JSON.
    #[must_use]
    pub fn json_key(&self, primitive: Primitive) -> &str {
        self.text(primitive, Primitive::json_key)
    }

    /// Title of any primitive's column.
    #[must_use]
    pub fn title(&self, primitive: Primitive) -> &str {
        self.text(primitive, Primitive::title)
    }

    fn text(&self, primitive: Primitive, built_in: impl Fn(Primitive) -> &'static str) -> &str {
        match primitive {
            Primitive::Custom(number) => self.get(number).map_or("", |custom| &custom.name),
            primitive => built_in(primitive),
        }
    }
}

impl FromIterator<CustomPrimitive> for CustomPrimitives {
    fn from_iter<I: IntoIterator<Item = CustomPrimitive>>(primitives: I) -> Self {
        Self(primitives.into_iter().collect())
    }
}

/// What a custom primitive says in one row: its octets, all of them zero where a packet had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomValue<'a> {
    /// What they are.
    pub semantics: Semantics,
    /// The octets, in the order of transmission.
    pub octets: &'a [u8],
}

impl<'a> CustomValue<'a> {
    /// As a number in network byte order.
    #[must_use]
    pub fn number(self) -> u64 {
        self.octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    }

    /// As an address: of IPv4 if there are four octets.
    #[must_use]
    pub fn address(self) -> IpAddr {
        if let Some(octets) = self.octets.first_chunk::<16>() {
            return Ipv6Addr::from(*octets).into();
        }
        Ipv4Addr::from(self.octets.first_chunk::<4>().copied().unwrap_or_default()).into()
    }

    /// As a MAC address.
    #[must_use]
    pub fn mac(self) -> [u8; 6] {
        self.octets.first_chunk().copied().unwrap_or_default()
    }

    /// The octets of a text, up to the first zero.
    #[must_use]
    pub fn text(self) -> &'a [u8] {
        self.octets.split(|octet| *octet == 0).next().unwrap_or_default()
    }

    /// Whether all octets are zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.octets.iter().all(|octet| *octet == 0)
    }
}
