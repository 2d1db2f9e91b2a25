//! UPDATE (RFC 4271, section 4.3) with the revised error handling of RFC 7606.

use std::net::{IpAddr, Ipv4Addr};

use super::as_path;
use super::attribute_errors::AttributeErrors;
use super::multiprotocol::{self, MpReachNlri, MpUnreachNlri, Multiprotocol};
use super::nlri::NlriFormat;
use super::path_attribute::{Kind, OPTIONAL, RawAttribute, aigp, flags_are, is_host, label_index};
use super::{Aggregator, AsNumberSize, NlriIterator, SessionContext};
use crate::error::AttributeErrorReason as Reason;
use crate::error::{AttributeError, ErrorHandling, NotificationError};
use crate::iana::{AS_TRANS, attribute, update_subcode};
use crate::{AsPath, Attributes, Family, Nlri, Origin};

/// An UPDATE, borrowed from the octets received. Everything that the iterators read was checked in
/// [`Update::decode`]; they allocate nothing.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    context: SessionContext,
    withdrawn: &'a [u8],
    nlri: &'a [u8],
    attributes: PathAttributes<'a>,
    reach: Option<MpReachNlri<'a>>,
    unreach: Option<MpUnreachNlri<'a>>,
    ignored: [Option<(u16, u8)>; 2],
    end_of_rib: Option<Family>,
    errors: AttributeErrors<'a>,
}

/// Where the values of well-formed attributes are.
#[derive(Clone, Copy, Debug)]
struct PathAttributes<'a> {
    octets: &'a [u8],
    /// By [`Kind`].
    spans: [Span; Kind::COUNT],
    /// Bit by [`Kind`].
    present: u32,
}

/// Octets of a value. All attributes together have no more than 65535.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u16,
    length: u16,
}

impl<'a> PathAttributes<'a> {
    fn new(octets: &'a [u8]) -> Self {
        Self { octets, spans: [Span::default(); Kind::COUNT], present: 0 }
    }

    fn insert(&mut self, kind: Kind, start: usize, length: usize) {
        if let Some(span) = self.spans.get_mut(kind as usize) {
            *span = Span { start: start as u16, length: length as u16 };
            self.present |= 1 << kind as u32;
        }
    }

    fn get(&self, kind: Kind) -> Option<&'a [u8]> {
        if self.present & 1 << kind as u32 == 0 {
            return None;
        }
        let span = self.spans.get(kind as usize)?;
        self.octets.get(usize::from(span.start)..)?.get(..usize::from(span.length))
    }

    fn number(&self, kind: Kind) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// Rows of `N` octets each; none if the attribute is not there.
    fn rows<const N: usize>(&self, kind: Kind) -> &'a [[u8; N]] {
        self.get(kind).unwrap_or_default().as_chunks().0
    }
}

/// Routes of one field of an UPDATE, with the next hop of that field. An UPDATE has up to two: its NLRI field (IPv4
/// unicast, `NEXT_HOP`) and `MP_REACH_NLRI`.
#[derive(Clone, Copy, Debug)]
pub struct Announcement<'u, 'a> {
    update: &'u Update<'a>,
    nlri: &'a [u8],
    format: NlriFormat,
    /// The field's next hop: the global one where there are two. `None` if `NEXT_HOP` is missing or malformed, which is
    /// [`ErrorHandling::TreatAsWithdraw`].
    pub next_hop: Option<IpAddr>,
}

/// Attributes whose values go into the key as they are.
const KEY_KINDS: [Kind; 9] = [
    Kind::Origin,
    Kind::AsPath,
    Kind::MultiExitDisc,
    Kind::LocalPref,
    Kind::Communities,
    Kind::OriginatorId,
    Kind::ExtendedCommunities,
    Kind::LargeCommunity,
    Kind::OnlyToCustomer,
];
/// In the key, before a next hop.
const KEY_NEXT_HOP: u8 = Kind::NextHop as u8;

impl<'a> Announcement<'_, 'a> {
    /// Of all routes in it.
    #[must_use]
    pub fn family(&self) -> Family {
        self.format.family
    }

    /// The routes.
    #[must_use]
    pub fn nlri(&self) -> NlriIterator<'a> {
        NlriIterator::new(self.nlri, self.format)
    }

    /// Appends octets that stand for the routes' attributes: equal octets mean equal [`Self::attributes`], on any
    /// session. The same attributes may have several keys.
    pub fn interning_key(&self, key: &mut Vec<u8>) {
        let attributes = &self.update.attributes;
        key.push(self.update.context.as_numbers.octets() as u8);
        let mut part = |kind: u8, value: &[u8]| {
            key.push(kind);
            key.extend_from_slice(&(value.len() as u16).to_be_bytes());
            key.extend_from_slice(value);
        };
        for kind in KEY_KINDS {
            if let Some(value) = attributes.get(kind) {
                part(kind as u8, value);
            }
        }
        if let Some(value) = self.update.as4_path() {
            part(Kind::As4Path as u8, value);
        }
        if let Some(metric) = self.update.aigp() {
            part(Kind::Aigp as u8, &metric.to_be_bytes());
        }
        if let Some(index) = self.update.prefix_sid_label_index() {
            part(Kind::PrefixSid as u8, &index.to_be_bytes());
        }
        match self.next_hop {
            Some(IpAddr::V4(address)) => part(KEY_NEXT_HOP, &address.octets()),
            Some(IpAddr::V6(address)) => part(KEY_NEXT_HOP, &address.octets()),
            None => {}
        }
    }

    /// The attributes, decoded; AS4_PATH merged (RFC 6793, section 4.2.3).
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let update = self.update;
        let values = &update.attributes;
        let word = |octets: &[u8; 4]| u32::from_be_bytes(*octets);
        let large = |octets: &[u8; 12]| {
            let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = *octets;
            [[a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3]].map(u32::from_be_bytes)
        };
        Attributes {
            origin: match values.get(Kind::Origin) {
                Some([0]) => Origin::Igp,
                Some([1]) => Origin::Egp,
                _ => Origin::Incomplete,
            },
            as_path: update.as_path(),
            next_hop: self.next_hop,
            multi_exit_disc: values.number(Kind::MultiExitDisc),
            local_pref: values.number(Kind::LocalPref),
            communities: values.rows(Kind::Communities).iter().map(word).collect(),
            extended_communities: Box::from(values.rows(Kind::ExtendedCommunities)),
            large_communities: values.rows(Kind::LargeCommunity).iter().map(large).collect(),
            aigp: update.aigp(),
            prefix_sid_label_index: update.prefix_sid_label_index(),
            only_to_customer: values.number(Kind::OnlyToCustomer),
            originator_id: values.number(Kind::OriginatorId).map(Ipv4Addr::from),
        }
    }
}

impl<'a> Update<'a> {
    /// Decodes and checks what follows the header.
    ///
    /// # Errors
    /// UPDATE Message Error, where RFC 7606 leaves nothing but a session reset.
    pub fn decode(body: &'a [u8], context: &SessionContext) -> Result<Self, NotificationError> {
        let list_error =
            |reason| NotificationError::update(update_subcode::MALFORMED_ATTRIBUTE_LIST, &[], reason);
        let (withdrawn, rest) =
            split_field(body).ok_or_else(|| list_error("Withdrawn Routes run over the message"))?;
        let (attributes, nlri) =
            split_field(rest).ok_or_else(|| list_error("path attributes run over the message"))?;

        let mut update = Self {
            context: *context,
            withdrawn,
            nlri,
            attributes: PathAttributes::new(attributes),
            reach: None,
            unreach: None,
            ignored: [None; 2],
            end_of_rib: None,
            errors: AttributeErrors::new(),
        };
        // The two fields first: without them, nothing of the message can be taken as withdrawn (RFC 7606, section 3 j).
        if !update.ipv4_format(true).is_well_formed(withdrawn) {
            let reason = "malformed NLRI in Withdrawn Routes";
            return Err(NotificationError::update(update_subcode::INVALID_NETWORK_FIELD, &[], reason));
        }
        if !update.ipv4_format(false).is_well_formed(nlri) {
            let reason = "malformed NLRI";
            return Err(NotificationError::update(update_subcode::INVALID_NETWORK_FIELD, &[], reason));
        }
        update.decode_attributes(attributes)?;
        Ok(update)
    }

    fn decode_attributes(&mut self, octets: &'a [u8]) -> Result<(), NotificationError> {
        let mut seen = TypeCodes::default();
        let mut count = 0_usize;
        let mut reach_is_empty = true;
        let mut rest = octets;
        while !rest.is_empty() {
            let Some((raw, after)) = RawAttribute::split(rest) else {
                let type_code = rest.get(1).copied().unwrap_or_default();
                self.errors.record(type_code, ErrorHandling::TreatAsWithdraw, Reason::Overrun, rest);
                count += 1;
                break;
            };
            // Of the value, which ends where the next attribute begins.
            let start = octets.len().saturating_sub(after.len() + raw.value.len());
            rest = after;
            count += 1;
            if !seen.insert(raw.type_code) {
                self.duplicate(&raw)?;
                continue;
            }
            match raw.type_code {
                attribute::MP_REACH_NLRI => reach_is_empty = self.decode_reach(&raw)?,
                attribute::MP_UNREACH_NLRI => self.decode_unreach(&raw)?,
                type_code => match Kind::from_type_code(type_code) {
                    Some(kind) => match kind.check(&raw, self.context) {
                        Ok(()) => self.attributes.insert(kind, start, raw.value.len()),
                        Err((handling, reason)) => {
                            self.errors.record(type_code, handling, reason, raw.octets);
                        }
                    },
                    None if raw.flags & OPTIONAL == 0 => {
                        let subcode = update_subcode::UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE;
                        let reason = "unrecognized well-known attribute";
                        return Err(NotificationError::update(subcode, raw.octets, reason));
                    }
                    None => {}
                },
            }
        }
        self.check_missing(&seen);
        // RFC 7606, section 5.2: where no route is found, one may have been lost in what is malformed.
        let only_unreach = count == 1 && seen.contains(attribute::MP_UNREACH_NLRI);
        let is_route_lost = reach_is_empty && self.nlri.is_empty() && !only_unreach;
        if is_route_lost && let Some(error) = self.errors.escalated() {
            return Err(error);
        }
        self.end_of_rib = self.find_end_of_rib(count);
        Ok(())
    }

    /// RFC 7606, section 3 g: the first one counts, but of routes there must not be two.
    fn duplicate(&mut self, raw: &RawAttribute<'a>) -> Result<(), NotificationError> {
        if matches!(raw.type_code, attribute::MP_REACH_NLRI | attribute::MP_UNREACH_NLRI) {
            let subcode = update_subcode::MALFORMED_ATTRIBUTE_LIST;
            let reason = "MP_REACH_NLRI or MP_UNREACH_NLRI sent twice in one message";
            return Err(NotificationError::update(subcode, &[], reason));
        }
        self.errors.record(raw.type_code, ErrorHandling::AttributeDiscard, Reason::Duplicate, raw.octets);
        Ok(())
    }

    /// True if nothing is announced in it.
    fn decode_reach(&mut self, raw: &RawAttribute<'a>) -> Result<bool, NotificationError> {
        self.check_multiprotocol_flags(raw);
        match multiprotocol::decode_reach(raw.value, self.context) {
            Ok(Multiprotocol::Kept(reach)) => {
                self.reach = Some(reach);
                if !is_host(reach.next_hop, self.context) {
                    let handling = ErrorHandling::TreatAsWithdraw;
                    self.errors.record(raw.type_code, handling, Reason::Value, raw.octets);
                }
                Ok(reach.nlri.is_empty())
            }
            Ok(Multiprotocol::Ignored { family, empty }) => {
                self.ignored[0] = Some(family);
                Ok(empty)
            }
            Err(reason) => Err(multiprotocol_error(raw, reason)),
        }
    }

    fn decode_unreach(&mut self, raw: &RawAttribute<'a>) -> Result<(), NotificationError> {
        self.check_multiprotocol_flags(raw);
        match multiprotocol::decode_unreach(raw.value, self.context) {
            Ok(Multiprotocol::Kept(unreach)) => self.unreach = Some(unreach),
            Ok(Multiprotocol::Ignored { family, .. }) => self.ignored[1] = Some(family),
            Err(reason) => return Err(multiprotocol_error(raw, reason)),
        }
        Ok(())
    }

    fn check_multiprotocol_flags(&mut self, raw: &RawAttribute<'a>) {
        if !flags_are(raw.flags, OPTIONAL) {
            self.errors.record(raw.type_code, ErrorHandling::TreatAsWithdraw, Reason::Flags, raw.octets);
        }
    }

    /// RFC 7606, section 3 d; what is mandatory: RFC 4271, section 5, and RFC 4760, section 3. `LOCAL_PREF` is not
    /// asked for: a route without it is of use here, and there is nothing that it could break.
    fn check_missing(&mut self, seen: &TypeCodes) {
        let by_reach = self.reach.is_some_and(|reach| !reach.nlri.is_empty());
        let mandatory = [
            (attribute::ORIGIN, by_reach || !self.nlri.is_empty()),
            (attribute::AS_PATH, by_reach || !self.nlri.is_empty()),
            (attribute::NEXT_HOP, !self.nlri.is_empty()),
        ];
        for (type_code, needed) in mandatory {
            if needed && !seen.contains(type_code) {
                self.errors.record(type_code, ErrorHandling::TreatAsWithdraw, Reason::Missing, &[]);
            }
        }
    }

    /// RFC 4724, section 2: nothing at all for IPv4 unicast, nothing but an empty `MP_UNREACH_NLRI` for the others.
    fn find_end_of_rib(&self, attributes: usize) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.nlri.is_empty() {
            return None;
        }
        match attributes {
            0 => Some(Family::IPV4_UNICAST),
            1 => self.unreach.filter(|unreach| unreach.nlri.is_empty()).map(|unreach| unreach.format.family),
            _ => None,
        }
    }

    fn ipv4_format(&self, withdrawn: bool) -> NlriFormat {
        let family = Family::IPV4_UNICAST;
        NlriFormat { family, add_path: self.context.add_path.contains(family), withdrawn }
    }

    /// Withdrawn routes, of the Withdrawn Routes field and of `MP_UNREACH_NLRI`.
    pub fn withdrawn(&self) -> impl Iterator<Item = (Family, Nlri)> + use<'a> {
        let field = NlriIterator::new(self.withdrawn, self.ipv4_format(true));
        let unreach = self.unreach.map(|unreach| NlriIterator::new(unreach.nlri, unreach.format));
        with_family(field).chain(unreach.into_iter().flat_map(with_family))
    }

    /// Announced routes, of the NLRI field and of `MP_REACH_NLRI`. To be taken as withdrawn if [`Self::handling`] is
    /// [`ErrorHandling::TreatAsWithdraw`].
    pub fn announced(&self) -> impl Iterator<Item = (Family, Nlri)> + use<'a> {
        let field = NlriIterator::new(self.nlri, self.ipv4_format(false));
        let reach = self.reach.map(|reach| NlriIterator::new(reach.nlri, reach.format));
        with_family(field).chain(reach.into_iter().flat_map(with_family))
    }

    /// The same by field, each with its next hop and attributes. A field without routes is left out.
    pub fn announcements(&self) -> impl Iterator<Item = Announcement<'_, 'a>> {
        let field = Announcement {
            update: self,
            nlri: self.nlri,
            format: self.ipv4_format(false),
            next_hop: self.attributes.number(Kind::NextHop).map(|address| Ipv4Addr::from(address).into()),
        };
        let reach = self.reach.map(|reach| Announcement {
            update: self,
            nlri: reach.nlri,
            format: reach.format,
            next_hop: Some(reach.next_hop),
        });
        [Some(field), reach].into_iter().flatten().filter(|announcement| !announcement.nlri.is_empty())
    }

    /// The family whose first table is complete with this message (RFC 4724, section 2).
    #[must_use]
    pub fn end_of_rib(&self) -> Option<Family> {
        self.end_of_rib
    }

    /// The worst of [`Self::errors`]; `None` if all is well. Never a session reset: that is an error of
    /// [`Self::decode`].
    #[must_use]
    pub fn handling(&self) -> Option<ErrorHandling> {
        self.errors.worst()
    }

    /// The first errors found, in the order found; [`Self::errors_omitted`] tells how many more there were.
    #[must_use]
    pub fn errors(&self) -> &[AttributeError] {
        self.errors.list()
    }

    /// Errors found that [`Self::errors`] has no room for.
    #[must_use]
    pub fn errors_omitted(&self) -> usize {
        self.errors.omitted()
    }

    /// AFI and SAFI in `MP_REACH_NLRI` and `MP_UNREACH_NLRI` whose routes are not kept, and so were ignored.
    pub fn ignored_families(&self) -> impl Iterator<Item = (u16, u8)> + use<'a> {
        self.ignored.into_iter().flatten()
    }

    /// AGGREGATOR, with `AS4_AGGREGATOR` merged in (RFC 6793, section 4.2.3).
    #[must_use]
    pub fn aggregator(&self) -> Option<Aggregator> {
        let aggregator = Aggregator::decode(self.attributes.get(Kind::Aggregator)?, self.context.as_numbers)?;
        let as4_aggregator = self.attributes.get(Kind::As4Aggregator);
        match as4_aggregator.and_then(|value| Aggregator::decode(value, AsNumberSize::FourOctets)) {
            Some(as4_aggregator) if aggregator.as_number == u32::from(AS_TRANS) => Some(as4_aggregator),
            _ => Some(aggregator),
        }
    }

    /// True if `ATOMIC_AGGREGATE` is there (RFC 4271, section 5.1.6).
    #[must_use]
    pub fn atomic_aggregate(&self) -> bool {
        self.attributes.get(Kind::AtomicAggregate).is_some()
    }

    /// `CLUSTER_LIST`, nearest first (RFC 4456, section 8).
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> + use<'a> {
        self.attributes.rows(Kind::ClusterList).iter().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets))
    }

    fn as_path(&self) -> AsPath {
        let octets = self.attributes.get(Kind::AsPath).unwrap_or_default();
        let as_path = as_path::decode(octets, self.context.as_numbers);
        match self.as4_path() {
            Some(as4_path) => as_path::merge(as_path, as_path::decode(as4_path, AsNumberSize::FourOctets)),
            None => AsPath { segments: as_path.into() },
        }
    }

    /// AS4_PATH; `None` if it is not to be merged: both aggregators are there, and a speaker of two-octet numbers has
    /// aggregated since `AS4_AGGREGATOR` was written (RFC 6793, section 4.2.3).
    fn as4_path(&self) -> Option<&'a [u8]> {
        let as4_path = self.attributes.get(Kind::As4Path)?;
        if let (Some(aggregator), Some(_)) =
            (self.attributes.get(Kind::Aggregator), self.attributes.get(Kind::As4Aggregator))
        {
            aggregator.starts_with(&AS_TRANS.to_be_bytes()).then_some(())?;
        }
        Some(as4_path)
    }

    fn aigp(&self) -> Option<u64> {
        aigp(self.attributes.get(Kind::Aigp)?).ok()?
    }

    fn prefix_sid_label_index(&self) -> Option<u32> {
        label_index(self.attributes.get(Kind::PrefixSid)?).ok()?
    }
}

/// Which type codes came up.
#[derive(Default)]
struct TypeCodes([u64; 4]);

impl TypeCodes {
    /// False if it was there before.
    fn insert(&mut self, type_code: u8) -> bool {
        let bit = 1 << (type_code & 63);
        match self.0.get_mut(usize::from(type_code >> 6)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    fn contains(&self, type_code: u8) -> bool {
        self.0.get(usize::from(type_code >> 6)).is_some_and(|word| *word & 1 << (type_code & 63) != 0)
    }
}

/// A field with its length in two octets in front, and what follows.
fn split_field(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn with_family(nlri: NlriIterator<'_>) -> impl Iterator<Item = (Family, Nlri)> {
    let family = nlri.family();
    nlri.map(move |nlri| (family, nlri))
}

/// RFC 4760, section 7.
fn multiprotocol_error(raw: &RawAttribute<'_>, reason: &'static str) -> NotificationError {
    NotificationError::update(update_subcode::OPTIONAL_ATTRIBUTE_ERROR, raw.octets, reason)
}
