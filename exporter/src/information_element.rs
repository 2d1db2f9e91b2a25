//! The Information Elements this crate exports, from the IANA "IPFIX Entities" registry
//! (<https://www.iana.org/assignments/ipfix/>, RFC 7012) and from the private ones of others. NetFlow v9 field types 1 to
//! 127 have the same numbers (RFC 7012, section 4).

mod table;

pub use table::InformationElement;

/// Abstract Data Types of RFC 7012, section 3.1, as far as exported elements use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbstractDataType {
    /// One octet.
    Unsigned8,
    /// Two octets.
    Unsigned16,
    /// Four octets.
    Unsigned32,
    /// Eight octets.
    Unsigned64,
    /// Milliseconds since the Unix epoch, eight octets.
    DateTimeMilliseconds,
    /// IPv4 address.
    Ipv4Address,
    /// IPv6 address.
    Ipv6Address,
    /// MAC address, six octets.
    MacAddress,
    /// Octets whose number the template says.
    OctetArray,
    /// UTF-8 text whose length in octets the template says.
    String,
    /// Values of one Information Element (RFC 6313, section 4.5.1).
    BasicList,
}

impl AbstractDataType {
    /// Length on the wire in octets (RFC 7011, section 6.1); `None` if the template decides.
    #[must_use]
    pub const fn length(self) -> Option<u16> {
        match self {
            Self::Unsigned8 => Some(1),
            Self::Unsigned16 => Some(2),
            Self::Unsigned32 | Self::Ipv4Address => Some(4),
            Self::Unsigned64 | Self::DateTimeMilliseconds => Some(8),
            Self::MacAddress => Some(6),
            Self::Ipv6Address => Some(16),
            Self::OctetArray | Self::String | Self::BasicList => None,
        }
    }

    /// Whether reduced-size encoding (RFC 7011, section 6.2) is allowed.
    #[must_use]
    pub const fn is_reducible(self) -> bool {
        matches!(self, Self::Unsigned16 | Self::Unsigned32 | Self::Unsigned64)
    }

    /// Whether a template may give a field of this type `length` octets; 65535 stands for variable length (RFC 7011,
    /// section 7).
    #[must_use]
    pub const fn allows(self, length: u16) -> bool {
        match self.length() {
            Some(full) => length == full || (self.is_reducible() && length > 0 && length < full),
            None => length > 0,
        }
    }
}

/// Data Type Semantics of RFC 7012, section 3.2, as far as exported elements use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataTypeSemantics {
    /// The element's description says it all.
    Default,
    /// A number that says how much.
    Quantity,
    /// A counter since the Metering or Exporting Process began.
    TotalCounter,
    /// A counter since the last report.
    DeltaCounter,
    /// A name that happens to be a number.
    Identifier,
    /// Bits.
    Flags,
    /// Several values (RFC 6313, section 3.2).
    List,
}

macro_rules! information_elements {
    ($($variant:ident = $enterprise:literal, $id:literal, $name:literal, $type:ident, $semantics:ident;)*) => {
        /// An Information Element by its registry name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum InformationElement {
            $(
                #[doc = concat!("`", $name, "` (", stringify!($id), " of enterprise ", stringify!($enterprise), ").")]
                $variant,
            )*
        }

        impl InformationElement {
            /// All elements this crate can export.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Element ID in the registry.
            #[must_use]
            pub const fn id(self) -> u16 {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// Private Enterprise Number of the registry; 0 = IANA's own.
            #[must_use]
            pub const fn enterprise_number(self) -> u32 {
                match self {
                    $(Self::$variant => $enterprise,)*
                }
            }

            /// Name in the registry.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Abstract Data Type in the registry.
            #[must_use]
            pub const fn abstract_data_type(self) -> $crate::information_element::AbstractDataType {
                match self {
                    $(Self::$variant => $crate::information_element::AbstractDataType::$type,)*
                }
            }

            /// Data Type Semantics in the registry.
            #[must_use]
            pub const fn semantics(self) -> $crate::information_element::DataTypeSemantics {
                match self {
                    $(Self::$variant => $crate::information_element::DataTypeSemantics::$semantics,)*
                }
            }
        }
    };
}
use information_elements;
