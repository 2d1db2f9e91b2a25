//! Values that do not fit into a key: kept once by content, with a number in the key.
//!
//! Equal content has one number whatever it is a part of: an AS path that two routes have is one path.

use std::hash::{BuildHasher as _, Hash as _, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use pathflow_exporter::{BgpAttributes, BgpRoute};

/// A part of a route that a primitive is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum RoutePart {
    AsPath = 0,
    Communities = 1,
    ExtendedCommunities = 2,
    LargeCommunities = 3,
}

const PARTS: [RoutePart; 4] =
    [RoutePart::AsPath, RoutePart::Communities, RoutePart::ExtendedCommunities, RoutePart::LargeCommunities];

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Text,
    Part(RoutePart),
}

/// Number of what is absent or empty.
pub(super) const NOTHING: u32 = 0;

/// Texts and parts of routes, by number.
#[derive(Debug, Default)]
pub(super) struct Interned {
    hasher: RandomState,
    texts: Numbers<str>,
    parts: [Numbers<BgpRoute>; 4],
    /// Numbers of the parts of routes that were seen. The routes are kept, so that no other one gets their address.
    routes: HashMap<usize, (Arc<BgpRoute>, [u32; 4]), RandomState>,
}

/// Values by number, which is their position and 1 more.
#[derive(Debug)]
struct Numbers<T: ?Sized> {
    index: HashTable<u32>,
    values: Vec<Arc<T>>,
}

impl<T: ?Sized> Default for Numbers<T> {
    fn default() -> Self {
        Self { index: HashTable::new(), values: Vec::new() }
    }
}

impl<T: ?Sized> Numbers<T> {
    fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.values.get((number as usize).checked_sub(1)?)
    }

    fn find(&self, hash: u64, is_equal: impl Fn(&T) -> bool) -> Option<u32> {
        let of = |number: u32| self.get(number).map(Arc::as_ref);
        self.index.find(hash, |number| of(*number).is_some_and(&is_equal)).copied()
    }

    fn number(&mut self, value: &Arc<T>, hash: impl Fn(&T) -> u64, is_equal: impl Fn(&T) -> bool) -> u32 {
        let own = hash(value);
        if let Some(number) = self.find(own, is_equal) {
            return number;
        }
        let Self { index, values } = self;
        let of = |number: u32| values.get(number as usize - 1).map(Arc::as_ref);
        let number = values.len() as u32 + 1;
        index.insert_unique(own, number, |number| of(*number).map_or(0, &hash));
        values.push(Arc::clone(value));
        number
    }

    fn clear(&mut self) {
        self.index.clear();
        self.values.clear();
    }
}

impl Interned {
    /// Number of a text; [`NOTHING`] if it is empty.
    pub(super) fn text(&mut self, text: &Arc<str>) -> u32 {
        if text.is_empty() {
            return NOTHING;
        }
        let hasher = &self.hasher;
        self.texts.number(text, |text| hasher.hash_one(text), |other| *other == **text)
    }

    /// Number of a part of a route; [`NOTHING`] if it is empty.
    pub(super) fn route(&mut self, route: &Arc<BgpRoute>, part: RoutePart) -> u32 {
        let address = Arc::as_ptr(route) as usize;
        if let Some((_, numbers)) = self.routes.get(&address) {
            return numbers[part as usize];
        }
        let numbers = PARTS.map(|part| self.part(route, part));
        self.routes.insert(address, (Arc::clone(route), numbers));
        numbers[part as usize]
    }

    fn part(&mut self, route: &Arc<BgpRoute>, part: RoutePart) -> u32 {
        let own = route.attributes();
        if is_empty(own, part) {
            return NOTHING;
        }
        let Self { hasher, parts, .. } = self;
        let is_equal = |other: &BgpRoute| is_same(own, other.attributes(), part);
        parts[part as usize].number(route, |route| hash_of(hasher, route, part), is_equal)
    }

    /// The text with this number.
    pub(super) fn get_text(&self, number: u32) -> &str {
        self.texts.get(number).map_or("", Arc::as_ref)
    }

    /// A route whose part has this number.
    pub(super) fn get_route(&self, number: u32, part: RoutePart) -> Option<&BgpRoute> {
        self.parts[part as usize].get(number).map(Arc::as_ref)
    }

    /// The number that a value of `other` has here. The route itself is not remembered: a table that is kept for long
    /// sees many routes with the same parts.
    pub(super) fn adopt(&mut self, other: &Self, number: u32, kept: Kept) -> u32 {
        match kept {
            Kept::Text => other.texts.get(number).map_or(NOTHING, |text| self.text(text)),
            Kept::Part(part) => match other.parts[part as usize].get(number) {
                Some(route) => self.part(route, part),
                None => NOTHING,
            },
        }
    }

    /// The number that a value of `other` has here, if it is here.
    pub(super) fn find(&self, other: &Self, number: u32, kept: Kept) -> Option<u32> {
        match kept {
            Kept::Text => {
                let Some(text) = other.texts.get(number) else { return Some(NOTHING) };
                self.texts.find(self.hasher.hash_one(&**text), |other| *other == **text)
            }
            Kept::Part(part) => {
                let Some(route) = other.parts[part as usize].get(number) else { return Some(NOTHING) };
                let is_equal = |other: &BgpRoute| is_same(route.attributes(), other.attributes(), part);
                self.parts[part as usize].find(hash_of(&self.hasher, route, part), is_equal)
            }
        }
    }

    /// How much is kept, in values.
    pub(super) fn len(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.values.len()).max().unwrap_or(0);
        self.texts.values.len() + self.routes.len().max(parts)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.texts.clear();
        self.parts.iter_mut().for_each(Numbers::clear);
        self.routes.clear();
    }
}

fn hash_of(hasher: &RandomState, route: &BgpRoute, part: RoutePart) -> u64 {
    let mut state = hasher.build_hasher();
    hash_part(route.attributes(), part, &mut state);
    state.finish()
}

fn is_empty(attributes: &BgpAttributes, part: RoutePart) -> bool {
    match part {
        RoutePart::AsPath => attributes.as_path.is_empty(),
        RoutePart::Communities => attributes.communities.is_empty(),
        RoutePart::ExtendedCommunities => attributes.extended_communities.is_empty(),
        RoutePart::LargeCommunities => attributes.large_communities.is_empty(),
    }
}

fn is_same(one: &BgpAttributes, other: &BgpAttributes, part: RoutePart) -> bool {
    match part {
        RoutePart::AsPath => one.as_path == other.as_path,
        RoutePart::Communities => one.communities == other.communities,
        RoutePart::ExtendedCommunities => one.extended_communities == other.extended_communities,
        RoutePart::LargeCommunities => one.large_communities == other.large_communities,
    }
}

fn hash_part(attributes: &BgpAttributes, part: RoutePart, state: &mut impl Hasher) {
    match part {
        RoutePart::AsPath => {
            for segment in &attributes.as_path {
                state.write_u8(segment.kind as u8);
                segment.as_numbers.hash(state);
            }
        }
        RoutePart::Communities => attributes.communities.hash(state),
        RoutePart::ExtendedCommunities => attributes.extended_communities.hash(state),
        RoutePart::LargeCommunities => attributes.large_communities.hash(state),
    }
}

#[cfg(test)]
mod tests {
    use pathflow_exporter::{BgpPathSegment, BgpPathSegmentKind};

    use super::*;

    fn route(as_path: &[u32], communities: &[u32]) -> Arc<BgpRoute> {
        let segment = BgpPathSegment { kind: BgpPathSegmentKind::Sequence, as_numbers: as_path.into() };
        Arc::new(BgpRoute::new(BgpAttributes {
            as_path: if as_path.is_empty() { [].into() } else { [segment].into() },
            communities: communities.into(),
            ..BgpAttributes::default()
        }))
    }

    #[test]
    fn equal_content_has_one_number() {
        let mut interned = Interned::default();
        let (one, same, other) =
            (route(&[64_500, 64_501], &[1]), route(&[64_500, 64_501], &[2]), route(&[64_501], &[1]));
        let mut path = |route| interned.route(route, RoutePart::AsPath);
        assert_eq!((path(&one), path(&same), path(&other), path(&one)), (1, 1, 2, 1));
        let mut communities = |route| interned.route(route, RoutePart::Communities);
        assert_eq!((communities(&one), communities(&same), communities(&other)), (1, 2, 1));
        assert_eq!(interned.route(&route(&[], &[]), RoutePart::AsPath), NOTHING);
        let found = interned.get_route(2, RoutePart::AsPath).unwrap();
        assert_eq!(found.attributes().as_path, other.attributes().as_path);
        assert!(interned.get_route(NOTHING, RoutePart::AsPath).is_none());
    }

    #[test]
    fn numbers_of_another_table_are_taken_over_by_content() {
        let (mut old, mut new) = (Interned::default(), Interned::default());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!((old.text(&a), old.text(&b), old.text(&"a".into()), old.text(&"".into())), (1, 2, 1, 0));
        assert_eq!(new.adopt(&old, 2, Kept::Text), 1);
        assert_eq!(new.get_text(1), "b");
        let number = old.route(&route(&[1], &[]), RoutePart::AsPath);
        assert_eq!(new.adopt(&old, number, Kept::Part(RoutePart::AsPath)), 1);
        assert_eq!(new.adopt(&old, NOTHING, Kept::Part(RoutePart::AsPath)), NOTHING);
    }
}
