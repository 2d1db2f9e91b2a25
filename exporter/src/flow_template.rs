//! The templates of Flow Records: which groups of fields a record has, and the macro that makes a group's Field
//! Specifiers and its writer from one list.
//!
//! A record has the fields that say something of it and no others, since to collectors the mere presence of some of them
//! means something. Each combination of groups is a template of its own, announced when a record first needs it. Nothing
//! is kept for one that is not needed: what it consists of follows from its Template ID.

use std::net::IpAddr;
use std::sync::Arc;

use crate::bgp_route::BgpRoute;
use crate::encode::{Framing, Full, Message};
use crate::record::FlowRecord;
use crate::template::{FieldSpecifier, TemplateId, TemplateRecord};

/// Groups of fields that an export has beside the standard ones, in records for which there is something to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldGroups(u16);

impl FieldGroups {
    /// The standard fields only.
    pub const NONE: Self = Self(0);
    /// Prefix lengths, adjacent AS numbers and the BGP next hop.
    pub const BGP: Self = Self(Content::ROUTE);
    /// BGP communities of both routes (RFC 8549). IPFIX only.
    pub const COMMUNITIES: Self = Self(Content::COMMUNITIES | Content::OTHER_COMMUNITIES);
    /// pmacct's `tag`, `tag2` and `label`. IPFIX only.
    pub const TAGS: Self = Self(Content::TAGS);

    /// MAC addresses of neighbours.
    pub const MAC: Self = Self(Content::MAC);

    /// Every group with its name in configuration.
    pub const NAMES: [(&str, Self); 4] =
        [("bgp", Self::BGP), ("communities", Self::COMMUNITIES), ("tags", Self::TAGS), ("mac", Self::MAC)];

    /// Whether all groups of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The groups of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Its name in configuration, for one group.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(_, group)| *group == self).map(|(name, _)| *name)
    }
}

/// The groups of fields in one template, beside those of every record. As a number it is the Template ID, less 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content(u16);

impl Content {
    pub(crate) const IPV6: u16 = 1;
    pub(crate) const MPLS: u16 = 1 << 1;
    pub(crate) const OVERLAY: u16 = 1 << 2;
    pub(crate) const SAMPLED: u16 = 1 << 3;
    /// Never in it: so the Template IDs from 272 on are free for options data.
    const OPTIONS: u16 = 1 << 4;
    /// Two bits: something is known of a route; and whether there is a BGP next hop, and of which family.
    const ROUTE: u16 = 3 << 5;
    const ROUTE_ALONE: u16 = 1 << 5;
    const ROUTE_BY_IPV4: u16 = 2 << 5;
    const ROUTE_BY_IPV6: u16 = 3 << 5;
    /// Groups whose fields are between those of every record and those of a route, which few records have.
    pub(crate) const BEFORE_ROUTE: u16 = Self::MPLS | Self::OVERLAY | Self::SAMPLED | Self::MAC;
    /// Groups with fields of variable length.
    pub(crate) const VARIABLE: u16 = Self::COMMUNITIES | Self::OTHER_COMMUNITIES | Self::TAGS;
    pub(crate) const COMMUNITIES: u16 = 1 << 7;
    /// Extended and large ones.
    pub(crate) const OTHER_COMMUNITIES: u16 = 1 << 8;
    pub(crate) const TAGS: u16 = 1 << 9;
    pub(crate) const MAC: u16 = 1 << 10;
    /// How many there are.
    pub(crate) const COUNT: usize = 1 << 11;
    /// The same without [`FieldGroups`].
    const STANDARD_COUNT: usize = 1 << 4;

    #[inline(always)]
    pub(crate) fn of(record: &FlowRecord, is_ipv6: bool, groups: FieldGroups) -> Self {
        let mut content = if is_ipv6 { Self::IPV6 } else { 0 };
        if record.is_labelled() {
            content |= Self::MPLS;
        }
        if record.is_in_overlay() {
            content |= Self::OVERLAY;
        }
        if record.is_sampled() {
            content |= Self::SAMPLED;
        }
        if groups == FieldGroups::NONE {
            return Self(content);
        }
        if groups.contains(FieldGroups::BGP) {
            content |= route(record);
        }
        if groups.contains(FieldGroups::COMMUNITIES) {
            content |= communities(record);
        }
        if groups.contains(FieldGroups::TAGS) {
            content |= tags(record);
        }
        if groups.contains(FieldGroups::MAC) && record.has_mac_address() {
            content |= Self::MAC;
        }
        Self(content)
    }

    /// That of the template with this number among all that an export with `groups` may have.
    pub(crate) fn at(index: usize, groups: FieldGroups) -> Option<Self> {
        let content = Self(u16::try_from(index).ok()?);
        (index < Self::count(groups) && !content.has(Self::OPTIONS)).then_some(content)
    }

    /// That of the template with this ID, if it is one of Flow Records.
    pub(crate) fn of_template(id: u16) -> Option<Self> {
        let content = Self(id.checked_sub(256)?);
        (usize::from(content.0) < Self::COUNT && !content.has(Self::OPTIONS)).then_some(content)
    }

    /// Numbers of templates are below this.
    pub(crate) fn count(groups: FieldGroups) -> usize {
        if groups == FieldGroups::NONE { Self::STANDARD_COUNT } else { Self::COUNT }
    }

    /// The templates of records with no more than every record has are announced always; others when they are first
    /// needed, and from then on.
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & !Self::IPV6 == 0
    }

    pub(crate) const fn has(self, group: u16) -> bool {
        self.0 & group != 0
    }

    pub(crate) const fn has_route(self) -> bool {
        self.has(Self::ROUTE)
    }

    pub(crate) const fn has_bgp_next_hop_ipv4(self) -> bool {
        self.0 & Self::ROUTE == Self::ROUTE_BY_IPV4
    }

    pub(crate) const fn has_bgp_next_hop_ipv6(self) -> bool {
        self.0 & Self::ROUTE == Self::ROUTE_BY_IPV6
    }

    #[inline]
    pub(crate) const fn template_id(self) -> TemplateId {
        TemplateId::at(self.0)
    }
}

#[inline]
fn route(record: &FlowRecord) -> u16 {
    match record.bgp_next_hop {
        Some(IpAddr::V4(_)) => Content::ROUTE_BY_IPV4,
        Some(IpAddr::V6(_)) => Content::ROUTE_BY_IPV6,
        None => {
            let numbers = record.bgp_prev_adjacent_as_number | record.bgp_next_adjacent_as_number;
            let is_known = numbers != 0
                || record.source_prefix_length | record.destination_prefix_length != 0
                || record.has_route
                || record.source_route.is_some()
                || record.destination_route.is_some();
            if is_known { Content::ROUTE_ALONE } else { 0 }
        }
    }
}

#[inline]
fn communities(record: &FlowRecord) -> u16 {
    let of = |route: &Option<Arc<BgpRoute>>| route.as_ref().map_or(0, |route| route.communities().content());
    of(&record.source_route) | of(&record.destination_route)
}

#[inline]
fn tags(record: &FlowRecord) -> u16 {
    if record.tag | record.tag2 != 0 || record.label.is_some() { Content::TAGS } else { 0 }
}

/// The most groups that a template can have.
pub(crate) const MAX_GROUPS: usize = 10;

/// Field Specifiers by group; groups that a template does not have are empty.
pub(crate) type Specifiers = [&'static [FieldSpecifier]; MAX_GROUPS];

/// The templates of Flow Records in a format, and the choice between them. Implemented by [`flow_templates!`] only.
pub(crate) trait FlowTemplates {
    fn specifiers(content: Content) -> Specifiers;

    /// Appends one Data Record, or leaves `message` as it is if there is no room.
    fn append(
        message: &mut Message,
        framing: Framing,
        record: &FlowRecord,
        groups: FieldGroups,
    ) -> Result<(), Full>;

    /// Octets of the Data Record of `record`, and of the template for it.
    fn lengths(record: &FlowRecord, groups: FieldGroups) -> (usize, usize);
}

/// A group of fields of fixed length. Implemented by [`flow_templates!`] only.
pub(crate) trait FieldGroup<Address> {
    const LENGTH: usize;
    const SPECIFIERS: &'static [FieldSpecifier];

    /// Writes the fields to the beginning of `octets`; returns the rest.
    fn write<'octets>(
        octets: &'octets mut [u8],
        record: &FlowRecord,
        source: &Address,
        destination: &Address,
    ) -> Result<&'octets mut [u8], Full>;
}

/// The groups with fields of variable length, which are last in a record.
pub(crate) trait VariableFields {
    /// Communities; other communities; tags.
    fn specifiers(content: Content) -> [&'static [FieldSpecifier]; 3];
    fn length(record: &FlowRecord, content: Content) -> usize;
    /// Writes the fields to the beginning of `octets`, and maybe more after them; returns the rest.
    fn write<'octets>(
        octets: &'octets mut [u8],
        record: &FlowRecord,
        content: Content,
    ) -> Result<&'octets mut [u8], Full>;
}

/// Of a format that has none.
pub(crate) struct NoVariableFields;

impl VariableFields for NoVariableFields {
    fn specifiers(_: Content) -> [&'static [FieldSpecifier]; 3] {
        [&[]; 3]
    }

    fn length(_: &FlowRecord, _: Content) -> usize {
        0
    }

    fn write<'octets>(
        octets: &'octets mut [u8],
        _: &FlowRecord,
        _: Content,
    ) -> Result<&'octets mut [u8], Full> {
        Ok(octets)
    }
}

/// Octets of the Template Record for `specifiers`.
pub(crate) fn template_length(content: Content, specifiers: &Specifiers) -> usize {
    template_record(content, specifiers).encoded_length()
}

pub(crate) const fn template_record(content: Content, specifiers: &Specifiers) -> TemplateRecord<'_> {
    TemplateRecord { template_id: content.template_id(), scope_field_count: 0, field_specifiers: specifiers }
}

/// Defines [`FlowTemplates`] from groups of fields.
///
/// A field is `element: type = value`. The list of a group yields its Field Specifiers and a straight-line writer into an
/// array of exactly its length, so template and data can not disagree and every offset within it is a constant.
///
/// In the lists, `Address` is the address type of the family.
macro_rules! flow_templates {
    ($name:ident, $specifier:path, $variable:ty, $arguments:tt;
     every $every:tt mpls $mpls:tt overlay $overlay:tt sampled $sampled:tt
     mac $mac:tt route $route:tt bgp_next_hop_ipv4 $next_hop_ipv4:tt bgp_next_hop_ipv6 $next_hop_ipv6:tt) => {
        pub(crate) struct $name;

        const _: () = {
            use $crate::flow_template::{
                Content, FieldGroup, FieldGroups, FlowTemplates, Specifiers, VariableFields, flow_templates,
                template_length, template_record,
            };
            use std::net::IpAddr;

            use $crate::record::FlowRecord;
            use $crate::template::FieldValue;

            struct Every;
            struct Mpls;
            struct Overlay;
            struct Sampled;
            struct Mac;
            struct Route;
            struct BgpNextHopIpv4;
            struct BgpNextHopIpv6;

            flow_templates!(@group Every, $specifier, $arguments, $every);
            flow_templates!(@group Mpls, $specifier, $arguments, $mpls);
            flow_templates!(@group Overlay, $specifier, $arguments, $overlay);
            flow_templates!(@group Sampled, $specifier, $arguments, $sampled);
            flow_templates!(@group Mac, $specifier, $arguments, $mac);
            flow_templates!(@group Route, $specifier, $arguments, $route);
            flow_templates!(@group BgpNextHopIpv4, $specifier, $arguments, $next_hop_ipv4);
            flow_templates!(@group BgpNextHopIpv6, $specifier, $arguments, $next_hop_ipv6);

            impl FlowTemplates for $name {
                fn specifiers(content: Content) -> Specifiers {
                    if content.has(Content::IPV6) {
                        specifiers::<Ipv6Addr>(content)
                    } else {
                        specifiers::<Ipv4Addr>(content)
                    }
                }

                #[inline]
                fn append(
                    message: &mut $crate::encode::Message,
                    framing: $crate::encode::Framing,
                    record: &FlowRecord,
                    groups: FieldGroups,
                ) -> Result<(), $crate::encode::Full> {
                    match (&record.source_address, &record.destination_address) {
                        (IpAddr::V4(source), IpAddr::V4(destination)) => {
                            let content = Content::of(record, false, groups);
                            append(message, framing, record, source, destination, content)
                        }
                        (IpAddr::V6(source), IpAddr::V6(destination)) => {
                            let content = Content::of(record, true, groups);
                            append(message, framing, record, source, destination, content)
                        }
                        _ => append_mixed(message, framing, record, groups),
                    }
                }

                fn lengths(record: &FlowRecord, groups: FieldGroups) -> (usize, usize) {
                    let is_ipv6 = !record.is_ipv4();
                    let content = Content::of(record, is_ipv6, groups);
                    let length = if is_ipv6 {
                        length::<Ipv6Addr>(record, content)
                    } else {
                        length::<Ipv4Addr>(record, content)
                    };
                    (length, template_length(content, &Self::specifiers(content)))
                }
            }

            fn specifiers<Address>(content: Content) -> Specifiers
            where
                Every: FieldGroup<Address>,
                Mpls: FieldGroup<Address>,
                Overlay: FieldGroup<Address>,
                Sampled: FieldGroup<Address>,
                Mac: FieldGroup<Address>,
                Route: FieldGroup<Address>,
                BgpNextHopIpv4: FieldGroup<Address>,
                BgpNextHopIpv6: FieldGroup<Address>,
            {
                let next_hop = if content.has_bgp_next_hop_ipv4() {
                    BgpNextHopIpv4::SPECIFIERS
                } else if content.has_bgp_next_hop_ipv6() {
                    BgpNextHopIpv6::SPECIFIERS
                } else {
                    &[]
                };
                let [communities, other_communities, tags] = <$variable>::specifiers(content);
                [
                    Every::SPECIFIERS,
                    if content.has(Content::MPLS) { Mpls::SPECIFIERS } else { &[] },
                    if content.has(Content::OVERLAY) { Overlay::SPECIFIERS } else { &[] },
                    if content.has(Content::SAMPLED) { Sampled::SPECIFIERS } else { &[] },
                    if content.has(Content::MAC) { Mac::SPECIFIERS } else { &[] },
                    if content.has_route() { Route::SPECIFIERS } else { &[] },
                    next_hop,
                    communities,
                    other_communities,
                    tags,
                ]
            }

            #[inline]
            fn length<Address>(record: &FlowRecord, content: Content) -> usize
            where
                Every: FieldGroup<Address>,
                Mpls: FieldGroup<Address>,
                Overlay: FieldGroup<Address>,
                Sampled: FieldGroup<Address>,
                Mac: FieldGroup<Address>,
                Route: FieldGroup<Address>,
                BgpNextHopIpv4: FieldGroup<Address>,
                BgpNextHopIpv6: FieldGroup<Address>,
            {
                let mut length = Every::LENGTH;
                if content.is_plain() {
                    return length;
                }
                let mut add = |is_there: bool, octets: usize| length += if is_there { octets } else { 0 };
                add(content.has(Content::MPLS), Mpls::LENGTH);
                add(content.has(Content::OVERLAY), Overlay::LENGTH);
                add(content.has(Content::SAMPLED), Sampled::LENGTH);
                add(content.has(Content::MAC), Mac::LENGTH);
                add(content.has_route(), Route::LENGTH);
                add(content.has_bgp_next_hop_ipv4(), BgpNextHopIpv4::LENGTH);
                add(content.has_bgp_next_hop_ipv6(), BgpNextHopIpv6::LENGTH);
                length + <$variable>::length(record, content)
            }

            /// Between two families.
            #[cold]
            #[inline(never)]
            fn append_mixed(
                message: &mut $crate::encode::Message,
                framing: $crate::encode::Framing,
                record: &FlowRecord,
                groups: FieldGroups,
            ) -> Result<(), $crate::encode::Full> {
                let (source, destination) = record.ipv6_addresses();
                let content = Content::of(record, true, groups);
                append(message, framing, record, &source, &destination, content)
            }

            #[inline]
            fn append<Address>(
                message: &mut $crate::encode::Message,
                framing: $crate::encode::Framing,
                record: &FlowRecord,
                source: &Address,
                destination: &Address,
                content: Content,
            ) -> Result<(), $crate::encode::Full>
            where
                Every: FieldGroup<Address>,
                Mpls: FieldGroup<Address>,
                Overlay: FieldGroup<Address>,
                Sampled: FieldGroup<Address>,
                Mac: FieldGroup<Address>,
                Route: FieldGroup<Address>,
                BgpNextHopIpv4: FieldGroup<Address>,
                BgpNextHopIpv6: FieldGroup<Address>,
            {
                if !message.has_open_set(content.template_id()) {
                    open_set::<Address>(message, framing, record, content)?;
                }
                // What does not fit is found out when it is written: to add up lengths before takes longer.
                let octets = message.free();
                let room = octets.len();
                let mut rest = Every::write(octets, record, source, destination)?;
                if content.has(Content::BEFORE_ROUTE) {
                    rest = write_before_route(rest, record, source, destination, content)?;
                }
                if content.has_route() {
                    rest = Route::write(rest, record, source, destination)?;
                    if content.has_bgp_next_hop_ipv4() {
                        rest = BgpNextHopIpv4::write(rest, record, source, destination)?;
                    } else if content.has_bgp_next_hop_ipv6() {
                        rest = BgpNextHopIpv6::write(rest, record, source, destination)?;
                    }
                }
                if content.has(Content::VARIABLE) {
                    rest = <$variable>::write(rest, record, content)?;
                }
                let length = room - rest.len();
                message.add_flow_record(framing, length)
            }

            #[inline(never)]
            fn write_before_route<'octets, Address>(
                mut rest: &'octets mut [u8],
                record: &FlowRecord,
                source: &Address,
                destination: &Address,
                content: Content,
            ) -> Result<&'octets mut [u8], $crate::encode::Full>
            where
                Every: FieldGroup<Address>,
                Mpls: FieldGroup<Address>,
                Overlay: FieldGroup<Address>,
                Sampled: FieldGroup<Address>,
                Mac: FieldGroup<Address>,
                Route: FieldGroup<Address>,
                BgpNextHopIpv4: FieldGroup<Address>,
                BgpNextHopIpv6: FieldGroup<Address>,
            {
                if content.has(Content::MPLS) {
                    rest = Mpls::write(rest, record, source, destination)?;
                }
                if content.has(Content::OVERLAY) {
                    rest = Overlay::write(rest, record, source, destination)?;
                }
                if content.has(Content::SAMPLED) {
                    rest = Sampled::write(rest, record, source, destination)?;
                }
                if content.has(Content::MAC) {
                    rest = Mac::write(rest, record, source, destination)?;
                }
                Ok(rest)
            }

            /// Opens the set for a record, with its template before it if the collector has not been told.
            #[inline(never)]
            fn open_set<Address>(
                message: &mut $crate::encode::Message,
                framing: $crate::encode::Framing,
                record: &FlowRecord,
                content: Content,
            ) -> Result<(), $crate::encode::Full>
            where
                Every: FieldGroup<Address>,
                Mpls: FieldGroup<Address>,
                Overlay: FieldGroup<Address>,
                Sampled: FieldGroup<Address>,
                Mac: FieldGroup<Address>,
                Route: FieldGroup<Address>,
                BgpNextHopIpv4: FieldGroup<Address>,
                BgpNextHopIpv6: FieldGroup<Address>,
            {
                let length = length::<Address>(record, content);
                if message.has_announced(content.template_id()) {
                    return message.open_data_set(content.template_id(), framing, length);
                }
                let specifiers = specifiers::<Address>(content);
                message.open_data_set_with_template(&template_record(content, &specifiers), framing, length)
            }
        };
    };
    (@group $group:ident, $specifier:path, $arguments:tt, $fields:tt) => {
        flow_templates!(@one $group, Ipv4Addr, $specifier, $arguments, $fields);
        flow_templates!(@one $group, Ipv6Addr, $specifier, $arguments, $fields);
    };
    (@one $group:ident, $address:ty, $specifier:path, ($record:ident, $source:ident, $destination:ident),
     { $($element:expr, $type:ty = $value:expr;)+ }) => {
        const _: () = {
            type Address = $address;

            impl FieldGroup<Address> for $group {
                const LENGTH: usize = 0 $(+ size_of::<$type>())+;
                const SPECIFIERS: &'static [$crate::template::FieldSpecifier] = &[$(
                    // In a constant, `panic` is a compile error, never one at run time.
                    match $specifier($element, size_of::<$type>() as u16) {
                        Some(specifier) => specifier,
                        None => panic!("length not allowed for this Information Element"),
                    }
                ),+];

                #[inline]
                fn write<'octets>(
                    octets: &'octets mut [u8],
                    $record: &FlowRecord,
                    $source: &Address,
                    $destination: &Address,
                ) -> Result<&'octets mut [u8], $crate::encode::Full> {
                    const LENGTH: usize = <$group as FieldGroup<Address>>::LENGTH;
                    // Only one group has the addresses.
                    _ = ($source, $destination);
                    let (fields, after) = octets.split_first_chunk_mut::<LENGTH>().ok_or($crate::encode::Full)?;
                    let rest = fields.as_mut_slice();
                    $(
                        let Some((field, rest)) = rest.split_first_chunk_mut::<{ size_of::<$type>() }>() else {
                            // Not reached: LENGTH is the sum of these sizes.
                            return Err($crate::encode::Full);
                        };
                        *field = <$type as FieldValue>::octets($value);
                    )+
                    debug_assert!(rest.is_empty());
                    Ok(after)
                }
            }
        };
    };
}
pub(crate) use flow_templates;
