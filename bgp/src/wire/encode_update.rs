//! Encoding of UPDATEs: pathflow announces nothing; its tests and measurements do.

use std::net::IpAddr;

use super::nlri::{self, NlriFormat};
use super::path_attribute::{EXTENDED_LENGTH, OPTIONAL, TRANSITIVE};
use super::{MessageType, SessionContext, as_path, encode_message};
use crate::iana::attribute;
use crate::{Attributes, Family, Nlri, Safi};

/// Collects the parts of one UPDATE. Nothing is checked: what a peer could send wrongly can be built. A length that its
/// field cannot hold is cut to the field's width.
#[derive(Clone, Debug, Default)]
pub struct UpdateBuilder {
    context: SessionContext,
    withdrawn: Vec<u8>,
    attributes: Vec<u8>,
    nlri: Vec<u8>,
}

impl UpdateBuilder {
    /// An empty UPDATE, which is the IPv4 unicast End-of-RIB.
    #[must_use]
    pub fn new(context: SessionContext) -> Self {
        Self { context, ..Self::default() }
    }

    /// Adds IPv4 unicast routes to the Withdrawn Routes field.
    #[must_use]
    pub fn withdraw(mut self, routes: &[Nlri]) -> Self {
        let format = self.format(Family::IPV4_UNICAST, true);
        nlri::encode(routes, format, &mut self.withdrawn);
        self
    }

    /// Adds IPv4 unicast routes to the NLRI field.
    #[must_use]
    pub fn announce(mut self, routes: &[Nlri]) -> Self {
        let format = self.format(Family::IPV4_UNICAST, false);
        nlri::encode(routes, format, &mut self.nlri);
        self
    }

    /// Adds one attribute as it is; a length above 255 sets the Extended Length flag.
    #[must_use]
    pub fn attribute(mut self, flags: u8, type_code: u8, value: &[u8]) -> Self {
        match u8::try_from(value.len()) {
            Ok(length) if flags & EXTENDED_LENGTH == 0 => {
                self.attributes.extend_from_slice(&[flags, type_code, length]);
            }
            _ => {
                self.attributes.extend_from_slice(&[flags | EXTENDED_LENGTH, type_code]);
                self.attributes.extend_from_slice(&(value.len() as u16).to_be_bytes());
            }
        }
        self.attributes.extend_from_slice(value);
        self
    }

    /// Adds octets to the path attributes as they are.
    #[must_use]
    pub fn raw_attributes(mut self, octets: &[u8]) -> Self {
        self.attributes.extend_from_slice(octets);
        self
    }

    /// Adds all that `attributes` holds, in the order of type codes, an IPv4 next hop only if `with_next_hop`.
    #[must_use]
    pub fn attributes(mut self, attributes: &Attributes, with_next_hop: bool) -> Self {
        let optional_transitive = OPTIONAL | TRANSITIVE;
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut as_path = Vec::new();
        as_path::encode(&attributes.as_path, self.context.as_numbers, &mut as_path);
        self = self.attribute(TRANSITIVE, attribute::ORIGIN, &[attributes.origin as u8]);
        self = self.attribute(TRANSITIVE, attribute::AS_PATH, &as_path);
        if let (true, Some(IpAddr::V4(address))) = (with_next_hop, attributes.next_hop) {
            self = self.attribute(TRANSITIVE, attribute::NEXT_HOP, &address.octets());
        }
        if let Some(metric) = attributes.multi_exit_disc {
            self = self.attribute(OPTIONAL, attribute::MULTI_EXIT_DISC, &metric.to_be_bytes());
        }
        if let Some(preference) = attributes.local_pref {
            self = self.attribute(TRANSITIVE, attribute::LOCAL_PREF, &preference.to_be_bytes());
        }
        if !attributes.communities.is_empty() {
            self =
                self.attribute(optional_transitive, attribute::COMMUNITIES, &words(&attributes.communities));
        }
        if let Some(identifier) = attributes.originator_id {
            self = self.attribute(OPTIONAL, attribute::ORIGINATOR_ID, &identifier.octets());
        }
        if !attributes.extended_communities.is_empty() {
            let octets = attributes.extended_communities.as_flattened();
            self = self.attribute(optional_transitive, attribute::EXTENDED_COMMUNITIES, octets);
        }
        if let Some(metric) = attributes.aigp {
            let value = [&[1, 0, 11], metric.to_be_bytes().as_slice()].concat();
            self = self.attribute(OPTIONAL, attribute::AIGP, &value);
        }
        if !attributes.large_communities.is_empty() {
            let octets = words(attributes.large_communities.as_flattened());
            self = self.attribute(optional_transitive, attribute::LARGE_COMMUNITY, &octets);
        }
        if let Some(number) = attributes.only_to_customer {
            self = self.attribute(optional_transitive, attribute::ONLY_TO_CUSTOMER, &number.to_be_bytes());
        }
        if let Some(index) = attributes.prefix_sid_label_index {
            let value = [&[1, 0, 7, 0, 0, 0], index.to_be_bytes().as_slice()].concat();
            self = self.attribute(optional_transitive, attribute::PREFIX_SID, &value);
        }
        self
    }

    /// Adds `MP_REACH_NLRI`; the next hop of a VPN family with a Route Distinguisher of zero (RFC 4364, section 4.3.2).
    #[must_use]
    pub fn mp_reach(self, family: Family, next_hop: IpAddr, routes: &[Nlri]) -> Self {
        let distinguisher: &[u8] = if family.safi == Safi::MplsVpn { &[0; 8] } else { &[] };
        let next_hop = match next_hop {
            IpAddr::V4(address) => [distinguisher, &address.octets()].concat(),
            IpAddr::V6(address) => [distinguisher, &address.octets()].concat(),
        };
        let mut value = family_octets(family);
        value.push(next_hop.len() as u8);
        value.extend_from_slice(&next_hop);
        value.push(0);
        let format = self.format(family, false);
        nlri::encode(routes, format, &mut value);
        self.attribute(OPTIONAL, attribute::MP_REACH_NLRI, &value)
    }

    /// Adds `MP_UNREACH_NLRI`; without routes it is the End-of-RIB of the family.
    #[must_use]
    pub fn mp_unreach(self, family: Family, routes: &[Nlri]) -> Self {
        let mut value = family_octets(family);
        let format = self.format(family, true);
        nlri::encode(routes, format, &mut value);
        self.attribute(OPTIONAL, attribute::MP_UNREACH_NLRI, &value)
    }

    /// Appends the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        encode_message(into, MessageType::Update, |into| self.encode_body(into));
    }

    /// Appends what follows the header.
    pub fn encode_body(&self, into: &mut Vec<u8>) {
        for field in [&self.withdrawn, &self.attributes] {
            into.extend_from_slice(&(field.len() as u16).to_be_bytes());
            into.extend_from_slice(field);
        }
        into.extend_from_slice(&self.nlri);
    }

    fn format(&self, family: Family, withdrawn: bool) -> NlriFormat {
        NlriFormat { family, add_path: self.context.add_path.contains(family), withdrawn }
    }
}

fn family_octets(family: Family) -> Vec<u8> {
    let [high, low] = (family.afi as u16).to_be_bytes();
    vec![high, low, family.safi as u8]
}
