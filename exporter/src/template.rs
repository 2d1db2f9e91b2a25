//! Template Records, and the macro that makes a template and its record writer from one list of fields.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::encode::{Full, Message};
use crate::information_element::InformationElement;
use crate::record::FlowRecord;

/// Template ID (RFC 7011, section 3.4.1): always 256 or more, since lower Set IDs are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateId(u16);

impl TemplateId {
    /// `None` if `id` is below 256.
    #[must_use]
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 256 { Some(Self(id)) } else { None }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Field Specifier (RFC 7011, section 3.2): an Information Element and its length in this template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpecifier {
    information_element: InformationElement,
    length: u16,
}

impl FieldSpecifier {
    /// Octets of a Field Specifier on the wire (no Enterprise Number).
    pub const ENCODED_LENGTH: usize = 4;

    /// `length` in octets: the element's own, or less where reduced-size encoding is allowed
    /// (RFC 7011, section 6.2); else `None`.
    #[must_use]
    pub const fn new(information_element: InformationElement, length: u16) -> Option<Self> {
        let data_type = information_element.abstract_data_type();
        let full = data_type.length();
        if length == full || (data_type.is_reducible() && length > 0 && length < full) {
            Some(Self { information_element, length })
        } else {
            None
        }
    }

    /// The Information Element.
    #[must_use]
    pub const fn information_element(self) -> InformationElement {
        self.information_element
    }

    /// Octets of the field in a Data Record.
    #[must_use]
    pub const fn length(self) -> u16 {
        self.length
    }
}

/// Template Record (RFC 7011, section 3.4.1): which fields a Data Record has, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateRecord {
    /// The Set ID of Data Sets this template describes.
    pub template_id: TemplateId,
    /// Fields in wire order.
    pub field_specifiers: &'static [FieldSpecifier],
}

impl TemplateRecord {
    /// Octets of the Template Record itself on the wire.
    #[must_use]
    pub const fn encoded_length(&self) -> usize {
        4 + self.field_specifiers.len() * FieldSpecifier::ENCODED_LENGTH
    }
}

/// A template with the writer of its Data Records. Implemented by [`data_templates`] only.
pub(crate) trait DataTemplate {
    type Address;
    const TEMPLATE_RECORD: TemplateRecord;

    /// Appends one Data Record, or leaves `message` as it is if there is no room.
    fn append(
        message: &mut Message,
        set_alignment: usize,
        record: &FlowRecord,
        source: Self::Address,
        destination: Self::Address,
    ) -> Result<(), Full>;
}

/// What differs between the IPv4 and the IPv6 template.
pub(crate) trait AddressFamily {
    const SOURCE_ADDRESS: InformationElement;
    const DESTINATION_ADDRESS: InformationElement;
    const ICMP_TYPE_CODE: InformationElement;
    const IP_VERSION: u8;
}

impl AddressFamily for Ipv4Addr {
    const SOURCE_ADDRESS: InformationElement = InformationElement::SourceIpv4Address;
    const DESTINATION_ADDRESS: InformationElement = InformationElement::DestinationIpv4Address;
    const ICMP_TYPE_CODE: InformationElement = InformationElement::IcmpTypeCodeIpv4;
    const IP_VERSION: u8 = 4;
}

impl AddressFamily for Ipv6Addr {
    const SOURCE_ADDRESS: InformationElement = InformationElement::SourceIpv6Address;
    const DESTINATION_ADDRESS: InformationElement = InformationElement::DestinationIpv6Address;
    const ICMP_TYPE_CODE: InformationElement = InformationElement::IcmpTypeCodeIpv6;
    const IP_VERSION: u8 = 6;
}

/// A field value in network byte order.
pub(crate) trait FieldValue {
    type Octets;
    fn octets(self) -> Self::Octets;
}

macro_rules! unsigned_field_values {
    ($($type:ty),*) => {$(
        impl FieldValue for $type {
            type Octets = [u8; size_of::<$type>()];

            fn octets(self) -> Self::Octets {
                self.to_be_bytes()
            }
        }
    )*};
}
unsigned_field_values!(u8, u16, u32, u64);

impl FieldValue for Ipv4Addr {
    type Octets = [u8; 4];

    fn octets(self) -> Self::Octets {
        Self::octets(&self)
    }
}

impl FieldValue for Ipv6Addr {
    type Octets = [u8; 16];

    fn octets(self) -> Self::Octets {
        Self::octets(&self)
    }
}

/// Defines one [`DataTemplate`] per head, all from the same list of fields.
///
/// A field is `element: type = value`. The list yields the Field Specifiers and a straight-line writer into an
/// array of exactly the record's length, so template and data can not disagree and every offset is a constant.
/// In the list, `Address` is the head's address type.
macro_rules! data_templates {
    ($($name:ident = $id:literal with $address:ty),+; $arguments:tt, $fields:tt) => {
        $($crate::template::data_templates!(@one $name, $id, $address, $arguments, $fields);)+
    };
    (@one $name:ident, $id:literal, $address:ty,
     ($record:ident, $source:ident, $destination:ident),
     { $($element:expr, $type:ty = $value:expr;)+ }) => {
        #[doc = concat!("Data Records of template ", stringify!($id), ".")]
        pub(crate) struct $name;

        const _: () = {
            use $crate::template::{DataTemplate, FieldSpecifier, FieldValue, TemplateId, TemplateRecord};
            type Address = $address;

            const LENGTH: usize = 0 $(+ size_of::<$type>())+;

            impl DataTemplate for $name {
                type Address = $address;
                const TEMPLATE_RECORD: TemplateRecord = TemplateRecord {
                    // In a constant, `panic` is a compile error, never one at run time.
                    template_id: match TemplateId::new($id) {
                        Some(id) => id,
                        None => panic!("Template ID below 256"),
                    },
                    field_specifiers: &[$(
                        match FieldSpecifier::new($element, size_of::<$type>() as u16) {
                            Some(specifier) => specifier,
                            None => panic!("length not allowed for this Information Element"),
                        }
                    ),+],
                };

                #[inline]
                fn append(
                    message: &mut $crate::encode::Message,
                    set_alignment: usize,
                    $record: &$crate::record::FlowRecord,
                    $source: $address,
                    $destination: $address,
                ) -> Result<(), $crate::encode::Full> {
                    let octets: &mut [u8; LENGTH] =
                        message.data_record(Self::TEMPLATE_RECORD.template_id, set_alignment)?;
                    let rest = octets.as_mut_slice();
                    $(
                        let Some((field, rest)) = rest.split_first_chunk_mut::<{ size_of::<$type>() }>() else {
                            // Not reached: LENGTH is the sum of these sizes.
                            return Err($crate::encode::Full);
                        };
                        *field = <$type as FieldValue>::octets($value);
                    )+
                    debug_assert!(rest.is_empty());
                    Ok(())
                }
            }
        };
    };
}
pub(crate) use data_templates;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_ids_below_256_do_not_exist() {
        assert_eq!(TemplateId::new(255), None);
        assert_eq!(TemplateId::new(256).map(TemplateId::get), Some(256));
    }

    #[test]
    fn only_integers_may_be_reduced() {
        assert!(FieldSpecifier::new(InformationElement::TcpControlBits, 1).is_some());
        assert!(FieldSpecifier::new(InformationElement::TcpControlBits, 3).is_none());
        assert!(FieldSpecifier::new(InformationElement::FlowStartMilliseconds, 4).is_none());
        assert!(FieldSpecifier::new(InformationElement::SourceIpv4Address, 0).is_none());
    }
}
