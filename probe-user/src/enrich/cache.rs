//! Routes made ready for records, by the number of their attributes.

use super::route::PreparedRoute;

/// Sets of attributes that are kept at most; a power of two. Traffic uses few of those that a full table has.
const ENTRIES: usize = 1 << 15;

/// Which attributes: a number that is used again only in another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributesKey {
    /// Number of the set of attributes.
    pub id: u32,
    /// How often the number was given before.
    pub generation: u32,
}

/// The cache of one shard: each set of attributes has one place, which it shares with others.
#[derive(Debug)]
pub struct RouteCache {
    entries: Box<[Option<(AttributesKey, PreparedRoute)>]>,
}

impl Default for RouteCache {
    /// Takes no room before the first route.
    fn default() -> Self {
        Self { entries: Box::default() }
    }
}

impl RouteCache {
    /// The route of these attributes; `prepare` makes it if it is not there, if it can.
    pub fn get(
        &mut self,
        key: AttributesKey,
        prepare: impl FnOnce() -> Option<PreparedRoute>,
    ) -> Option<&PreparedRoute> {
        if self.entries.is_empty() {
            self.entries = vec![None; ENTRIES].into();
        }
        // Neighbouring numbers are of routes that came together.
        let place = self.entries.get_mut(key.id as usize % ENTRIES)?;
        if place.as_ref().is_none_or(|(held, _)| *held != key) {
            *place = prepare().map(|route| (key, route));
        }
        place.as_ref().map(|(_, route)| route)
    }
}

#[cfg(test)]
mod tests {
    use pathflow_bgp::Attributes;

    use super::*;
    use crate::enrich::RouteSettings;

    fn prepared(local_pref: u32) -> PreparedRoute {
        let attributes = Attributes { local_pref: Some(local_pref), ..Attributes::default() };
        RouteSettings::default().prepare(&attributes)
    }

    fn local_pref(route: Option<&PreparedRoute>) -> Option<u32> {
        route.unwrap().route.attributes().local_pref
    }

    #[test]
    fn a_route_is_prepared_once_and_again_when_its_number_means_another() {
        let mut cache = RouteCache::default();
        let key = |id, generation| AttributesKey { id, generation };
        let never = || panic!("it is there already");
        assert_eq!(local_pref(cache.get(key(1, 0), || Some(prepared(1)))), Some(1));
        assert_eq!(local_pref(cache.get(key(2, 0), || Some(prepared(2)))), Some(2));
        assert_eq!(local_pref(cache.get(key(1, 0), never)), Some(1));
        assert_eq!(local_pref(cache.get(key(1, 1), || Some(prepared(3)))), Some(3));
        // The same place.
        assert_eq!(local_pref(cache.get(key(2 + ENTRIES as u32, 0), || Some(prepared(4)))), Some(4));
        assert_eq!(local_pref(cache.get(key(2, 0), || Some(prepared(5)))), Some(5));
        assert!(cache.get(key(9, 0), || None).is_none());
    }
}
