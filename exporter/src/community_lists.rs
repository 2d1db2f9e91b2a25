//! The communities of a route, as the fields of IPFIX records that they become (RFC 8549).

use crate::encode::BLOCK_LENGTH;
use crate::flow_template::Content;
use crate::information_element::InformationElement as Ie;

/// Communities, extended and large communities of a route, made ready for all records of it. In this order, what is read
/// most is in as few lines of a cache as can be.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CommunityLists {
    /// Of [`Content`], the groups in which it has a list that is not empty.
    content: u16,
    communities: ListField,
    extended_communities: ListField,
    large_communities: ListField,
}

/// A field of variable length (RFC 7011, section 7) whose content is a basicList (RFC 6313, section 4.5.1).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ListField {
    /// The field, if it is longer than a block.
    long: Option<Box<[u8]>>,
    length: u16,
    /// The field, if it is not, and zeros.
    block: [u8; BLOCK_LENGTH],
}

/// allOf: the route has all of the communities (RFC 6313, section 4.4.4).
const ALL_OF: u8 = 3;

/// Octets of elements in one list: far more than a message can have, and few enough for the length of a field. What is
/// left out could not be sent either, and the record is counted as one that does not fit.
const MAX_LIST_OCTETS: usize = 60_000;

impl CommunityLists {
    /// Those of a route that there is not: lists of no elements.
    pub(crate) const NONE: &'static Self = &Self {
        content: 0,
        communities: ListField::empty(Ie::BgpCommunity, 4),
        extended_communities: ListField::empty(Ie::BgpExtendedCommunity, 8),
        large_communities: ListField::empty(Ie::BgpLargeCommunity, 12),
    };

    pub(crate) fn new(communities: &[u32], extended: &[[u8; 8]], large: &[[u32; 3]]) -> Self {
        let mut content = 0;
        if !communities.is_empty() {
            content |= Content::COMMUNITIES;
        }
        if !extended.is_empty() || !large.is_empty() {
            content |= Content::OTHER_COMMUNITIES;
        }
        let communities = communities.iter().map(|community| community.to_be_bytes());
        Self {
            content,
            communities: ListField::new(Ie::BgpCommunity, communities),
            extended_communities: ListField::new(Ie::BgpExtendedCommunity, extended.iter().copied()),
            large_communities: ListField::new(
                Ie::BgpLargeCommunity,
                large.iter().map(large_community_octets),
            ),
        }
    }

    #[inline]
    pub(crate) const fn content(&self) -> u16 {
        self.content
    }

    #[inline]
    pub(crate) const fn communities(&self) -> &ListField {
        &self.communities
    }

    #[inline]
    pub(crate) const fn extended_communities(&self) -> &ListField {
        &self.extended_communities
    }

    #[inline]
    pub(crate) const fn large_communities(&self) -> &ListField {
        &self.large_communities
    }
}

impl ListField {
    const fn empty(element: Ie, element_length: u8) -> Self {
        let [high, low] = element.id().to_be_bytes();
        let mut block = [0; BLOCK_LENGTH];
        [block[0], block[1], block[2], block[3], block[4], block[5]] =
            [5, ALL_OF, high, low, 0, element_length];
        Self { length: 6, block, long: None }
    }

    fn new<const LENGTH: usize>(element: Ie, values: impl ExactSizeIterator<Item = [u8; LENGTH]>) -> Self {
        let mut few = Self::empty(element, LENGTH as u8);
        let head = few.length();
        let length = values.len().saturating_mul(LENGTH).saturating_add(head);
        // Those of most routes, which take no memory.
        if length <= BLOCK_LENGTH {
            let places = few.block.get_mut(head..).unwrap_or_default();
            places.as_chunks_mut().0.iter_mut().zip(values).for_each(|(place, value)| *place = value);
            few.block[0] = length as u8 - 1;
            few.length = length as u16;
            return few;
        }
        let mut list = vec![ALL_OF];
        list.extend_from_slice(&element.id().to_be_bytes());
        list.extend_from_slice(&(LENGTH as u16).to_be_bytes());
        values.take(MAX_LIST_OCTETS / LENGTH).for_each(|value| list.extend_from_slice(&value));
        let mut field = match u8::try_from(list.len()) {
            Ok(length) if length < u8::MAX => vec![length],
            _ => [&[u8::MAX], (list.len() as u16).to_be_bytes().as_slice()].concat(),
        };
        field.append(&mut list);
        let length = field.len() as u16;
        Self { length, block: [0; BLOCK_LENGTH], long: Some(field.into_boxed_slice()) }
    }

    /// Octets of the field.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.length.into()
    }

    /// The field with zeros after it, if it is so short.
    #[inline]
    pub(crate) fn block(&self) -> Option<&[u8; BLOCK_LENGTH]> {
        if self.long.is_none() { Some(&self.block) } else { None }
    }

    /// The field.
    #[inline]
    pub(crate) fn octets(&self) -> &[u8] {
        match &self.long {
            Some(octets) => octets,
            None => self.block.get(..self.length()).unwrap_or_default(),
        }
    }
}

fn large_community_octets(parts: &[u32; 3]) -> [u8; 12] {
    let mut octets = [0; 12];
    for (octets, part) in octets.as_chunks_mut().0.iter_mut().zip(parts) {
        *octets = part.to_be_bytes();
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets from RFC 6313, section 4.5.1, and RFC 7011, section 7.
    #[test]
    fn lists_have_one_or_three_octets_of_length() {
        let few = CommunityLists::new(&[0xfbf0_0064], &[], &[[1, 2, 3]]);
        assert_eq!(few.communities().octets(), [9, 3, 1, 227, 0, 4, 0xfb, 0xf0, 0, 100]);
        assert_eq!(few.extended_communities().octets(), [5, 3, 1, 230, 0, 8]);
        let large = few.large_communities().octets();
        assert_eq!(large, [17, 3, 1, 233, 0, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        let field = |count| CommunityLists::new(&vec![7; count], &[], &[]).communities;
        // 5 and 4 * 62 octets are the most below 255.
        assert_eq!(field(62).octets()[..3], [253, 3, 1]);
        assert_eq!(field(63).octets()[..4], [255, 1, 1, 3]);
        assert_eq!(field(100_000).octets().len(), 3 + 5 + 60_000);
        assert_eq!(field(6).octets().len(), 30);
        assert!(field(6).block().is_some() && field(7).block().is_none());
    }

    #[test]
    fn no_route_has_the_lists_of_a_route_without_communities() {
        let (none, empty) = (CommunityLists::NONE, CommunityLists::new(&[], &[], &[]));
        assert_eq!(none.communities().octets(), empty.communities().octets());
        assert_eq!(none.extended_communities().octets(), empty.extended_communities().octets());
        assert_eq!(none.large_communities().octets(), empty.large_communities().octets());
    }
}
