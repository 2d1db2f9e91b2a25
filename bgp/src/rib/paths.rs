//! Routes of one destination that do not fit into one number: those with a Path Identifier or a label.

use crate::MplsLabel;

/// Paths of one destination that are kept; a peer that sends more has the others refused.
const MAX_PATHS: usize = 64;
const NONE: u32 = u32::MAX;

/// Attributes and age of a route: number of the attributes in the lower 23 bits, epoch in the upper 8 but one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route(u32);

/// Set in a value of the store that is the first of a list of paths.
const LIST: u32 = 1 << 31;
const ATTRIBUTES_BITS: u32 = 23;

impl Route {
    pub(super) fn new(attributes: u32, epoch: u8) -> Self {
        Self((u32::from(epoch) << ATTRIBUTES_BITS) | attributes)
    }

    pub(super) fn attributes(self) -> u32 {
        self.0 & ((1 << ATTRIBUTES_BITS) - 1)
    }

    /// When it was last announced.
    pub(super) fn epoch(self) -> u8 {
        (self.0 >> ATTRIBUTES_BITS) as u8
    }
}

/// What the store has for a destination.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// One route, Path Identifier 0, no label.
    One(Route),
    /// The number of the first path of a list.
    List(u32),
}

impl Value {
    pub(super) fn from_store(value: u32) -> Self {
        if value & LIST == 0 { Self::One(Route(value)) } else { Self::List(value & !LIST) }
    }

    pub(super) fn to_store(self) -> u32 {
        match self {
            Self::One(route) => route.0,
            Self::List(first) => first | LIST,
        }
    }
}

/// One path of a list.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "RFC 7911 calls it Path Identifier")]
pub(super) struct Path {
    pub(super) path_id: u32,
    pub(super) route: Route,
    pub(super) label: Option<MplsLabel>,
    /// Number of the list's path set for readers, in its first path; 0 if it has none.
    pub(super) set: u32,
    next: u32,
}

impl Path {
    pub(super) fn new(path_id: u32, route: Route, label: Option<MplsLabel>) -> Self {
        Self { path_id, route, label, set: 0, next: NONE }
    }
}

/// Lists of paths, each in the order of their Path Identifiers.
#[derive(Debug, Default)]
pub(super) struct PathLists {
    paths: Vec<Path>,
    free: Vec<u32>,
}

impl PathLists {
    /// A list of one path. `None` if there are too many.
    pub(super) fn create(&mut self, path: Path) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            *self.paths.get_mut(number as usize)? = path;
            return Some(number);
        }
        let number = u32::try_from(self.paths.len()).ok().filter(|number| number & LIST == 0)?;
        self.paths.push(path);
        Some(number)
    }

    /// The paths of a list.
    pub(super) fn iter(&self, first: u32) -> impl Iterator<Item = &Path> {
        std::iter::successors(self.paths.get(first as usize), |path| self.paths.get(path.next as usize))
    }

    /// Path set of a list.
    pub(super) fn set_mut(&mut self, first: u32) -> Option<&mut u32> {
        self.paths.get_mut(first as usize).map(|path| &mut path.set)
    }

    /// Adds a path or replaces the one with its Path Identifier, which is returned. `Err` if there are too many. The
    /// first path of the list keeps its number.
    pub(super) fn insert(&mut self, first: u32, path: Path) -> Result<Option<Path>, ()> {
        let (mut before, mut at, mut count) = (NONE, first, 0);
        while let Some(here) = self.paths.get_mut(at as usize) {
            if here.path_id == path.path_id {
                let old = *here;
                (here.route, here.label) = (path.route, path.label);
                return Ok(Some(old));
            }
            if here.path_id > path.path_id {
                break;
            }
            (before, at) = (at, here.next);
            count += 1;
        }
        if count + self.iter(at).count() >= MAX_PATHS {
            return Err(());
        }
        if before == NONE {
            // The new one takes the place of the first, which moves behind it.
            let old = *self.paths.get(first as usize).ok_or(())?;
            let moved = self.create(Path { set: 0, ..old }).ok_or(())?;
            *self.paths.get_mut(first as usize).ok_or(())? = Path { set: old.set, next: moved, ..path };
        } else {
            let new = self.create(Path { next: at, set: 0, ..path }).ok_or(())?;
            if let Some(before) = self.paths.get_mut(before as usize) {
                before.next = new;
            }
        }
        Ok(None)
    }

    /// Takes the path with `path_id` out, if it is not the only one; the first of those that are left has the
    /// number that the first one had. With the only one, the list is left as it is: see [`Self::drop_list`].
    pub(super) fn remove(&mut self, first: u32, path_id: u32) -> Option<(Path, bool)> {
        let (mut before, mut at) = (NONE, first);
        loop {
            let here = *self.paths.get(at as usize)?;
            if here.path_id != path_id {
                (before, at) = (at, here.next);
                continue;
            }
            if before != NONE {
                self.paths.get_mut(before as usize)?.next = here.next;
                self.free.push(at);
                return Some((here, false));
            }
            let Some(second) = self.paths.get(here.next as usize).copied() else { return Some((here, true)) };
            *self.paths.get_mut(first as usize)? = Path { set: here.set, ..second };
            self.free.push(here.next);
            return Some((here, false));
        }
    }

    /// Gives the memory of a whole list back.
    pub(super) fn drop_list(&mut self, first: u32) {
        let mut at = first;
        while let Some(path) = self.paths.get(at as usize) {
            self.free.push(at);
            at = path.next;
        }
    }

    pub(super) fn octets(&self) -> usize {
        self.paths.capacity() * size_of::<Path>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path_id: u32) -> Path {
        Path::new(path_id, Route::new(path_id + 1, 0), None)
    }

    fn ids(lists: &PathLists, first: u32) -> Vec<u32> {
        lists.iter(first).map(|path| path.path_id).collect()
    }

    #[test]
    fn lists_are_sorted_and_keep_their_number() {
        let mut lists = PathLists::default();
        let first = lists.create(path(5)).unwrap();
        for id in [7, 3, 4, 9] {
            assert!(lists.insert(first, path(id)).unwrap().is_none());
        }
        assert_eq!(ids(&lists, first), [3, 4, 5, 7, 9]);
        assert_eq!(lists.insert(first, path(4)).unwrap().unwrap().path_id, 4);
        for (id, left) in [(3, vec![4, 5, 7, 9]), (9, vec![4, 5, 7]), (5, vec![4, 7]), (4, vec![7])] {
            let (removed, last) = lists.remove(first, id).unwrap();
            assert_eq!((removed.path_id, removed.route.attributes(), last), (id, id + 1, false));
            assert_eq!(ids(&lists, first), left);
        }
        assert!(lists.remove(first, 8).is_none());
        assert!(lists.remove(first, 7).unwrap().1);
        lists.drop_list(first);
        assert_eq!(lists.free.len(), lists.paths.len());
    }

    #[test]
    fn one_destination_has_no_more_than_so_many_paths() {
        let mut lists = PathLists::default();
        let first = lists.create(path(0)).unwrap();
        for id in 1..MAX_PATHS as u32 {
            lists.insert(first, path(id)).unwrap();
        }
        assert!(lists.insert(first, path(1000)).is_err());
        assert!(lists.insert(first, path(7)).unwrap().is_some());
    }
}
