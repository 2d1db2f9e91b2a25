//! What was made of routes, by the number of their attributes.

/// Which attributes: a number that is used again only in another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributesKey {
    /// Number of the set of attributes.
    pub id: u32,
    /// How often the number was given before.
    pub generation: u32,
}

/// The cache of one shard. Numbers are small, so each set of attributes has a place of its own, until there are more of
/// them than places: then it shares its place with others.
#[derive(Debug)]
pub struct RouteCache<T> {
    entries: Vec<Option<(AttributesKey, T)>>,
    most: usize,
}

/// Places to begin with.
const FIRST: usize = 1 << 10;

impl<T: Clone> RouteCache<T> {
    /// With this many places at most, a power of two. Takes no room before the first route, and then what the numbers
    /// that come need.
    pub const fn with_room(most: usize) -> Self {
        Self { entries: Vec::new(), most }
    }

    /// What there is of these attributes; `make` makes it if it is not there, if it can.
    pub fn get(&mut self, key: AttributesKey, make: impl FnOnce() -> Option<T>) -> Option<&T> {
        let id = key.id as usize;
        if id >= self.entries.len() && self.entries.len() < self.most {
            // Every number that is there is its own place, and remains that.
            let places = (id + 1).next_power_of_two().max(FIRST).min(self.most);
            self.entries.resize(places, None);
        }
        // Neighbouring numbers are of routes that came together.
        let place = self.entries.get_mut(id & (self.most - 1))?;
        if place.as_ref().is_none_or(|(held, _)| *held != key) {
            *place = make().map(|made| (key, made));
        }
        place.as_ref().map(|(_, made)| made)
    }

    /// Looks at the memory that [`Self::get`] needs; what it returns means nothing.
    #[inline]
    pub fn look_at(&self, key: AttributesKey) -> u32 {
        let place = self.entries.get(key.id as usize & (self.most - 1));
        place.and_then(Option::as_ref).map_or(0, |(held, _)| held.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(id: u32, generation: u32) -> AttributesKey {
        AttributesKey { id, generation }
    }

    #[test]
    fn what_is_made_is_made_once_and_again_when_its_number_means_another() {
        let mut cache = RouteCache::with_room(1 << 11);
        let never = || panic!("it is there already");
        assert_eq!(cache.get(key(1, 0), || Some("one")), Some(&"one"));
        assert_eq!(cache.get(key(2, 0), || Some("two")), Some(&"two"));
        assert_eq!(cache.get(key(1, 0), never), Some(&"one"));
        assert_eq!(cache.get(key(1, 1), || Some("three")), Some(&"three"));
        assert!(cache.get(key(9, 0), || None).is_none());
        assert_eq!(cache.get(key(9, 0), || Some("nine")), Some(&"nine"));
    }

    #[test]
    fn it_grows_with_the_numbers_and_then_they_share_places() {
        let mut cache = RouteCache::with_room(1 << 11);
        let never = || panic!("it is there already");
        assert_eq!(cache.entries.len(), 0);
        cache.get(key(5, 0), || Some(5));
        assert_eq!(cache.entries.len(), 1 << 10);
        cache.get(key(1029, 0), || Some(1029));
        assert_eq!(cache.entries.len(), 1 << 11);
        assert_eq!(cache.get(key(5, 0), never), Some(&5));
        assert_eq!(cache.get(key(1029, 0), never), Some(&1029));
        // The same place.
        assert_eq!(cache.get(key(2048 + 5, 0), || Some(2053)), Some(&2053));
        assert_eq!(cache.get(key(5, 0), || Some(6)), Some(&6));
        assert_eq!(cache.entries.len(), 1 << 11);
        // From the beginning with a high number.
        let mut cache = RouteCache::with_room(1 << 11);
        cache.get(key(u32::MAX, 7), || Some(1));
        assert_eq!(cache.get(key(u32::MAX, 7), never), Some(&1));
        assert_eq!(cache.entries.len(), 1 << 11);
    }
}
