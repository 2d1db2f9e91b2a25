//! Template Records, and the macro that makes a template and its record writer from one list of fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::encode::{Framing, Full, Message};
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
}

impl FieldSpecifier {
    /// Octets of a Field Specifier on the wire (no Enterprise Number).
    pub const ENCODED_LENGTH: usize = 4;

    /// `length` in octets: the element's own, or less where reduced-size encoding is allowed
    /// (RFC 7011, section 6.2); else `None`.
    #[must_use]
    pub const fn new(information_element: InformationElement, length: u16) -> Option<Self> {
        if information_element.abstract_data_type().allows(length) {
            Some(Self { id: information_element.id(), length })
        } else {
            None
        }
    }

    /// A field of the length that NetFlow v9 exporters give it, which may differ from the registry's.
    #[must_use]
    pub const fn netflow_v9(information_element: InformationElement, length: u16) -> Option<Self> {
        match information_element {
            // One octet in RFC 3954, section 8; exporters with more samplers have long used two or four.
            InformationElement::SamplerId if length == 2 => {
                Some(Self { id: information_element.id(), length })
            }
            _ => Self::new(information_element, length),
        }
    }

    /// A scope field of NetFlow v9. Its length is free (RFC 3954, section 6.1); `None` only if it is 0.
    #[must_use]
    pub const fn scope(scope: ScopeFieldType, length: u16) -> Option<Self> {
        if length > 0 { Some(Self { id: scope as u16, length }) } else { None }
    }

    /// Number of the Information Element or, in a scope of NetFlow v9, of the [`ScopeFieldType`].
    #[must_use]
    pub const fn id(self) -> u16 {
        self.id
    }

    /// Octets of the field in a Data Record.
    #[must_use]
    pub const fn length(self) -> u16 {
        self.length
    }
}

/// Template Record or Options Template Record (RFC 7011, sections 3.4.1 and 3.4.2): which fields a Data Record has,
/// in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateRecord {
    /// The Set ID of Data Sets this template describes.
    pub template_id: TemplateId,
    /// How many of the fields, the first ones, are the scope; 0 if this is no Options Template.
    pub scope_field_count: usize,
    /// Fields in wire order.
    pub field_specifiers: &'static [FieldSpecifier],
}

impl TemplateRecord {
    /// Whether this is an Options Template Record.
    #[must_use]
    pub const fn is_options_template(&self) -> bool {
        self.scope_field_count > 0
    }

    /// Octets of the Template Record itself on the wire.
    #[must_use]
    pub const fn encoded_length(&self) -> usize {
        let header = if self.is_options_template() { 6 } else { 4 };
        header + self.field_specifiers.len() * FieldSpecifier::ENCODED_LENGTH
    }
}

/// A template with the writer of its Data Records. Implemented by [`template!`] only.
pub(crate) trait RecordTemplate {
    /// What one Data Record is made of.
    type Record;
    /// What else its fields need.
    type Context;
    const TEMPLATE_RECORD: TemplateRecord;

    /// Appends one Data Record, or leaves `message` as it is if there is no room.
    fn append(
        message: &mut Message,
        framing: Framing,
        record: &Self::Record,
        context: Self::Context,
    ) -> Result<(), Full>;
}

/// The templates of Flow Records and the choice between them. Implemented by [`flow_templates!`] only.
pub(crate) trait FlowTemplates {
    const TEMPLATE_RECORDS: &'static [TemplateRecord];

    /// Appends one Data Record, or leaves `message` as it is if there is no room.
    fn append(message: &mut Message, framing: Framing, record: &FlowRecord) -> Result<(), Full>;
}

/// What differs between the IPv4 and the IPv6 template.
pub(crate) trait AddressFamily {
    const SOURCE_ADDRESS: InformationElement;
    const DESTINATION_ADDRESS: InformationElement;
    const IP_NEXT_HOP: InformationElement;
    const ICMP_TYPE_CODE: InformationElement;
    const IP_VERSION: u8;

    /// `address` if it is of this family, else the unspecified address.
    fn or_unspecified(address: Option<IpAddr>) -> Self;
}

impl AddressFamily for Ipv4Addr {
    const SOURCE_ADDRESS: InformationElement = InformationElement::SourceIpv4Address;
    const DESTINATION_ADDRESS: InformationElement = InformationElement::DestinationIpv4Address;
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
                const TEMPLATE_RECORD: TemplateRecord = TemplateRecord {
                    template_id: match TemplateId::new($id) {
                        Some(id) => id,
                        None => panic!("Template ID below 256"),
                    },
                    scope_field_count: SCOPE.len(),
                    field_specifiers: FIELDS,
                };

                #[inline]
                fn append(
                    message: &mut $crate::encode::Message,
                    framing: $crate::encode::Framing,
                    $record: &Self::Record,
                    $context: Self::Context,
                ) -> Result<(), $crate::encode::Full> {
                    let octets: &mut [u8; LENGTH] =
                        message.data_record(&Self::TEMPLATE_RECORD, framing)?;
                    let rest = octets.as_mut_slice();
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

/// Defines [`FlowTemplates`]: for each address family a template with the fields of `every` record, and others with
/// those of `mpls`, `overlay` and `sampled` beside them, one for each combination, so that no record has fields for
/// what it does not have: to collectors the mere presence of some of them means something.
///
/// In the lists, `Address` is the address type of the family.
macro_rules! flow_templates {
    ($name:ident, $specifier:path, $arguments:tt;
     every { $($every:tt)+ }
     mpls { $($mpls:tt)+ }
     overlay { $($overlay:tt)+ }
     sampled { $($sampled:tt)+ }) => {
        pub(crate) struct $name;

        const _: () = {
            use $crate::record::{AddressPair, FlowRecord};
            use $crate::template::{FlowTemplates, RecordTemplate, TemplateRecord, flow_templates, template};

            struct Plain<Address>(Address);
            struct Mpls<Address>(Address);
            struct Overlay<Address>(Address);
            struct OverlayMpls<Address>(Address);
            struct Sampled<Address>(Address);
            struct SampledMpls<Address>(Address);
            struct SampledOverlay<Address>(Address);
            struct SampledOverlayMpls<Address>(Address);

            flow_templates!(@pair Plain, 256, 257, $specifier, $arguments,
                { $($every)+ });
            flow_templates!(@pair Mpls, 258, 259, $specifier, $arguments,
                { $($every)+ $($mpls)+ });
            flow_templates!(@pair Overlay, 260, 261, $specifier, $arguments,
                { $($every)+ $($overlay)+ });
            flow_templates!(@pair OverlayMpls, 262, 263, $specifier, $arguments,
                { $($every)+ $($mpls)+ $($overlay)+ });
            flow_templates!(@pair Sampled, 264, 265, $specifier, $arguments,
                { $($every)+ $($sampled)+ });
            flow_templates!(@pair SampledMpls, 266, 267, $specifier, $arguments,
                { $($every)+ $($mpls)+ $($sampled)+ });
            flow_templates!(@pair SampledOverlay, 268, 269, $specifier, $arguments,
                { $($every)+ $($overlay)+ $($sampled)+ });
            flow_templates!(@pair SampledOverlayMpls, 270, 271, $specifier, $arguments,
                { $($every)+ $($mpls)+ $($overlay)+ $($sampled)+ });

            impl FlowTemplates for $name {
                const TEMPLATE_RECORDS: &'static [TemplateRecord] = &[
                    Plain::<Ipv4Addr>::TEMPLATE_RECORD,
                    Plain::<Ipv6Addr>::TEMPLATE_RECORD,
                    Mpls::<Ipv4Addr>::TEMPLATE_RECORD,
                    Mpls::<Ipv6Addr>::TEMPLATE_RECORD,
                    Overlay::<Ipv4Addr>::TEMPLATE_RECORD,
                    Overlay::<Ipv6Addr>::TEMPLATE_RECORD,
                    OverlayMpls::<Ipv4Addr>::TEMPLATE_RECORD,
                    OverlayMpls::<Ipv6Addr>::TEMPLATE_RECORD,
                    Sampled::<Ipv4Addr>::TEMPLATE_RECORD,
                    Sampled::<Ipv6Addr>::TEMPLATE_RECORD,
                    SampledMpls::<Ipv4Addr>::TEMPLATE_RECORD,
                    SampledMpls::<Ipv6Addr>::TEMPLATE_RECORD,
                    SampledOverlay::<Ipv4Addr>::TEMPLATE_RECORD,
                    SampledOverlay::<Ipv6Addr>::TEMPLATE_RECORD,
                    SampledOverlayMpls::<Ipv4Addr>::TEMPLATE_RECORD,
                    SampledOverlayMpls::<Ipv6Addr>::TEMPLATE_RECORD,
                ];

                #[inline]
                fn append(
                    message: &mut $crate::encode::Message,
                    framing: $crate::encode::Framing,
                    record: &FlowRecord,
                ) -> Result<(), $crate::encode::Full> {
                    match record.address_pair() {
                        AddressPair::V4(pair) => append(message, framing, record, pair),
                        AddressPair::V6(pair) => append(message, framing, record, pair),
                    }
                }
            }

            #[inline]
            fn append<Address>(
                message: &mut $crate::encode::Message,
                framing: $crate::encode::Framing,
                record: &FlowRecord,
                pair: (Address, Address),
            ) -> Result<(), $crate::encode::Full>
            where
                Plain<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                Mpls<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                Overlay<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                OverlayMpls<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                Sampled<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                SampledMpls<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                SampledOverlay<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
                SampledOverlayMpls<Address>: RecordTemplate<Record = FlowRecord, Context = (Address, Address)>,
            {
                match (record.is_sampled(), record.is_in_overlay(), record.is_labelled()) {
                    (false, false, false) => Plain::<Address>::append(message, framing, record, pair),
                    (false, false, true) => Mpls::<Address>::append(message, framing, record, pair),
                    (false, true, false) => Overlay::<Address>::append(message, framing, record, pair),
                    (false, true, true) => OverlayMpls::<Address>::append(message, framing, record, pair),
                    (true, false, false) => Sampled::<Address>::append(message, framing, record, pair),
                    (true, false, true) => SampledMpls::<Address>::append(message, framing, record, pair),
                    (true, true, false) => SampledOverlay::<Address>::append(message, framing, record, pair),
                    (true, true, true) => SampledOverlayMpls::<Address>::append(message, framing, record, pair),
                }
            }
        };
    };
    (@pair $pair:ident, $ipv4:literal, $ipv6:literal, $specifier:path, $arguments:tt, $fields:tt) => {
        flow_templates!(@one $pair, $ipv4, Ipv4Addr, $specifier, $arguments, $fields);
        flow_templates!(@one $pair, $ipv6, Ipv6Addr, $specifier, $arguments, $fields);
    };
    (@one $pair:ident, $id:literal, $address:ty, $specifier:path,
     ($record:ident, $source:ident, $destination:ident), $fields:tt) => {
        const _: () = {
            type Address = $address;

            template! {
                $pair<$address> = $id with ($record, ($source, $destination)): (FlowRecord, (Address, Address));
                scope $specifier, {}
                fields $specifier, $fields
            }
        };
    };
}
pub(crate) use flow_templates;

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
