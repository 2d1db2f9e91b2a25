//! Template Records, and the macro that makes a template of options data and its record writer from one list of fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::encode::{Framing, Full, Message};
use crate::information_element::InformationElement;

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

    /// The one with this [`index`](Self::index), below 65280.
    pub(crate) const fn at(index: u16) -> Self {
        Self(index.saturating_add(256))
    }

    /// Counted from 0.
    pub(crate) const fn index(self) -> u16 {
        self.0 - 256
    }
}

/// What a record of options data is about, in NetFlow v9, which has numbers of its own for this (RFC 3954,
/// section 6.1). In IPFIX any Information Element can be a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ScopeFieldType {
    /// The whole exporter.
    System = 1,
    /// One interface.
    Interface = 2,
}

/// Field Specifier (RFC 7011, section 3.2): an Information Element and its length in this template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpecifier {
    id: u16,
    length: u16,
    /// 0 = none.
    enterprise_number: u32,
}

impl FieldSpecifier {
    /// The length that stands for variable length (RFC 7011, section 7).
    pub const VARIABLE_LENGTH: u16 = u16::MAX;

    /// `length` in octets: the element's own, or less where reduced-size encoding is allowed
    /// (RFC 7011, section 6.2), or [`VARIABLE_LENGTH`](Self::VARIABLE_LENGTH) if the element has no length of its own;
    /// else `None`.
    #[must_use]
    pub const fn new(information_element: InformationElement, length: u16) -> Option<Self> {
        if information_element.abstract_data_type().allows(length) {
            Some(Self {
                id: information_element.id(),
                length,
                enterprise_number: information_element.enterprise_number(),
            })
        } else {
            None
        }
    }

    /// A field of the length that NetFlow v9 exporters give it, which may differ from the registry's. There is no variable
    /// length, and there are no Enterprise Numbers.
    #[must_use]
    pub const fn netflow_v9(information_element: InformationElement, length: u16) -> Option<Self> {
        let is_ipfix_only = length == Self::VARIABLE_LENGTH || information_element.enterprise_number() != 0;
        match information_element {
            // One octet in RFC 3954, section 8; exporters with more samplers have long used two or four.
            InformationElement::SamplerId if length == 2 => {
                Some(Self { id: information_element.id(), length, enterprise_number: 0 })
            }
            _ if is_ipfix_only => None,
            _ => Self::new(information_element, length),
        }
    }

    /// A scope field of NetFlow v9. Its length is free (RFC 3954, section 6.1); `None` only if it is 0.
    #[must_use]
    pub const fn scope(scope: ScopeFieldType, length: u16) -> Option<Self> {
        if length > 0 { Some(Self { id: scope as u16, length, enterprise_number: 0 }) } else { None }
    }

    /// Number of the Information Element or, in a scope of NetFlow v9, of the [`ScopeFieldType`].
    #[must_use]
    pub const fn id(self) -> u16 {
        self.id
    }

    /// Octets of the field in a Data Record, or [`VARIABLE_LENGTH`](Self::VARIABLE_LENGTH).
    #[must_use]
    pub const fn length(self) -> u16 {
        self.length
    }

    /// Private Enterprise Number; `None` for the elements of IANA's registry.
    #[must_use]
    pub const fn enterprise_number(self) -> Option<u32> {
        if self.enterprise_number == 0 { None } else { Some(self.enterprise_number) }
    }

    /// Octets of the Field Specifier itself on the wire.
    #[must_use]
    pub const fn encoded_length(self) -> usize {
        if self.enterprise_number == 0 { 4 } else { 8 }
    }
}

/// Template Record or Options Template Record (RFC 7011, sections 3.4.1 and 3.4.2): which fields a Data Record has,
/// in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateRecord<'fields> {
    /// The Set ID of Data Sets this template describes.
    pub template_id: TemplateId,
    /// How many of the fields, the first ones, are the scope; 0 if this is no Options Template.
    pub scope_field_count: usize,
    /// Fields in wire order, in groups that mean nothing on the wire.
    pub field_specifiers: &'fields [&'static [FieldSpecifier]],
}

impl TemplateRecord<'_> {
    /// Whether this is an Options Template Record.
    #[must_use]
    pub const fn is_options_template(&self) -> bool {
        self.scope_field_count > 0
    }

    /// Fields, those of the scope included.
    #[must_use]
    pub fn field_count(&self) -> usize {
        self.field_specifiers.iter().map(|group| group.len()).sum()
    }

    /// Octets of the Template Record itself on the wire.
    #[must_use]
    pub fn encoded_length(&self) -> usize {
        let header = if self.is_options_template() { 6 } else { 4 };
        let fields = self.field_specifiers.iter().copied().flatten();
        header + fields.map(|field| field.encoded_length()).sum::<usize>()
    }
}

/// A template of options data with the writer of its Data Records. Implemented by [`template!`] only.
pub(crate) trait RecordTemplate {
    /// What one Data Record is made of.
    type Record;
    /// What else its fields need.
    type Context;
    const TEMPLATE_RECORD: TemplateRecord<'static>;

    /// Appends one Data Record, or leaves `message` as it is if there is no room.
    fn append(
        message: &mut Message,
        framing: Framing,
        record: &Self::Record,
        context: Self::Context,
    ) -> Result<(), Full>;
}

/// What differs between the IPv4 and the IPv6 template.
pub(crate) trait AddressFamily {
    const SOURCE_ADDRESS: InformationElement;
    const DESTINATION_ADDRESS: InformationElement;
    const SOURCE_PREFIX_LENGTH: InformationElement;
    const DESTINATION_PREFIX_LENGTH: InformationElement;
    const IP_NEXT_HOP: InformationElement;
    const ICMP_TYPE_CODE: InformationElement;
    const IP_VERSION: u8;

    /// `address` if it is of this family, else the unspecified address.
    fn or_unspecified(address: Option<IpAddr>) -> Self;
}

impl AddressFamily for Ipv4Addr {
    const SOURCE_ADDRESS: InformationElement = InformationElement::SourceIpv4Address;
    const DESTINATION_ADDRESS: InformationElement = InformationElement::DestinationIpv4Address;
    const SOURCE_PREFIX_LENGTH: InformationElement = InformationElement::SourceIpv4PrefixLength;
    const DESTINATION_PREFIX_LENGTH: InformationElement = InformationElement::DestinationIpv4PrefixLength;
    const IP_NEXT_HOP: InformationElement = InformationElement::IpNextHopIpv4Address;
    const ICMP_TYPE_CODE: InformationElement = InformationElement::IcmpTypeCodeIpv4;
    const IP_VERSION: u8 = 4;

    fn or_unspecified(address: Option<IpAddr>) -> Self {
        match address {
            Some(IpAddr::V4(address)) => address,
            _ => Self::UNSPECIFIED,
        }
    }
}

impl AddressFamily for Ipv6Addr {
    const SOURCE_ADDRESS: InformationElement = InformationElement::SourceIpv6Address;
    const DESTINATION_ADDRESS: InformationElement = InformationElement::DestinationIpv6Address;
    const SOURCE_PREFIX_LENGTH: InformationElement = InformationElement::SourceIpv6PrefixLength;
    const DESTINATION_PREFIX_LENGTH: InformationElement = InformationElement::DestinationIpv6PrefixLength;
    const IP_NEXT_HOP: InformationElement = InformationElement::IpNextHopIpv6Address;
    const ICMP_TYPE_CODE: InformationElement = InformationElement::IcmpTypeCodeIpv6;
    const IP_VERSION: u8 = 6;

    fn or_unspecified(address: Option<IpAddr>) -> Self {
        match address {
            Some(IpAddr::V6(address)) => address,
            _ => Self::UNSPECIFIED,
        }
    }
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

/// Octets that are in their order already.
impl<const LENGTH: usize> FieldValue for [u8; LENGTH] {
    type Octets = Self;

    fn octets(self) -> Self {
        self
    }
}

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

/// Defines one [`RecordTemplate`] from a list of fields.
///
/// A field is `element: type = value`. The list yields the Field Specifiers and a straight-line writer into an
/// array of exactly the record's length, so template and data can not disagree and every offset is a constant.
/// `scope` and `fields` name the functions that make the Field Specifiers.
macro_rules! template {
    ($name:ty = $id:literal with ($record:ident, $context:pat_param): ($record_type:ty, $context_type:ty);
     scope $scope:path, { $($scope_element:expr, $scope_type:ty = $scope_value:expr;)* }
     fields $fields:path, { $($element:expr, $type:ty = $value:expr;)+ }) => {
        const _: () = {
            use $crate::template::{FieldSpecifier, FieldValue, RecordTemplate, TemplateId, TemplateRecord};

            const LENGTH: usize = 0 $(+ size_of::<$scope_type>())* $(+ size_of::<$type>())+;

            const SCOPE: &[FieldSpecifier] = &[$(
                // In a constant, `panic` is a compile error, never one at run time.
                match $scope($scope_element, size_of::<$scope_type>() as u16) {
                    Some(specifier) => specifier,
                    None => panic!("length not allowed for this scope field"),
                }
            ),*];

            const FIELDS: &[FieldSpecifier] = &[
                $(match $scope($scope_element, size_of::<$scope_type>() as u16) {
                    Some(specifier) => specifier,
                    None => panic!("length not allowed for this scope field"),
                },)*
                $(match $fields($element, size_of::<$type>() as u16) {
                    Some(specifier) => specifier,
                    None => panic!("length not allowed for this Information Element"),
                },)+
            ];

            impl RecordTemplate for $name {
                type Record = $record_type;
                type Context = $context_type;
                const TEMPLATE_RECORD: TemplateRecord<'static> = TemplateRecord {
                    template_id: match TemplateId::new($id) {
                        Some(id) => id,
                        None => panic!("Template ID below 256"),
                    },
                    scope_field_count: SCOPE.len(),
                    field_specifiers: &[FIELDS],
                };

                #[inline]
                fn append(
                    message: &mut $crate::encode::Message,
                    framing: $crate::encode::Framing,
                    $record: &Self::Record,
                    $context: Self::Context,
                ) -> Result<(), $crate::encode::Full> {
                    let rest = message.options_record_in_new_set(
                        Self::TEMPLATE_RECORD.template_id,
                        framing,
                        LENGTH,
                    )?;
                    $(
                        let Some((field, rest)) = rest.split_first_chunk_mut::<{ size_of::<$scope_type>() }>()
                        else {
                            // Not reached: LENGTH is the sum of these sizes.
                            return Err($crate::encode::Full);
                        };
                        *field = <$scope_type as FieldValue>::octets($scope_value);
                    )*
                    $(
                        let Some((field, rest)) = rest.split_first_chunk_mut::<{ size_of::<$type>() }>() else {
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
pub(crate) use template;

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
