//! Numbers, names and descriptions of interfaces, for records and for those who read them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use super::inventory::Interface;
use super::settings::InterfaceRules;

/// Interfaces that are gone and whose names are still known: their last flows are reported later.
const REMEMBERED: usize = 1024;

/// How an interface appears in records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedInterface {
    /// Kernel's interface index.
    pub kernel_index: u32,
    /// Number in records: the operator's, or else the kernel's.
    pub number: u32,
    /// Name.
    pub name: String,
    /// Description; may be empty.
    pub description: String,
    /// Identifier of the VLAN, if it is the interface of one; 0 = it is not.
    pub vlan_id: u16,
}

/// All interfaces at one time, with those that went not long ago.
#[derive(Clone, Debug, Default)]
pub struct InterfaceNames {
    by_index: BTreeMap<u32, Arc<NamedInterface>>,
    by_number: BTreeMap<u32, Arc<NamedInterface>>,
    /// What is meant by a number is behind all others that have it.
    in_order: Vec<Arc<NamedInterface>>,
    gone: VecDeque<u32>,
}

impl InterfaceNames {
    /// The interface with this index of the kernel's.
    #[must_use]
    pub fn of_index(&self, kernel_index: u32) -> Option<&NamedInterface> {
        self.by_index.get(&kernel_index).map(Arc::as_ref)
    }

    /// The interface with this number in records. If several have it, one of those to which the operator
    /// gave it.
    #[must_use]
    pub fn of_number(&self, number: u32) -> Option<&NamedInterface> {
        self.by_number.get(&number).map(Arc::as_ref)
    }

    /// Number in records of the interface with this index of the kernel's: the same if nothing else is known.
    #[must_use]
    pub fn number(&self, kernel_index: u32) -> u32 {
        self.of_index(kernel_index).map_or(kernel_index, |interface| interface.number)
    }

    /// All. Of several with one number in records the one that [`of_number`](Self::of_number) takes comes last.
    pub fn iter(&self) -> impl Iterator<Item = &NamedInterface> {
        self.in_order.iter().map(Arc::as_ref)
    }

    fn next(&self, interfaces: &[Interface], rules: &InterfaceRules) -> Self {
        let present: BTreeMap<u32, Arc<NamedInterface>> = interfaces
            .iter()
            .map(|interface| {
                let named = NamedInterface {
                    kernel_index: interface.index,
                    number: rules.settings(interface).index.unwrap_or(interface.index),
                    name: interface.name.clone(),
                    description: interface.description.clone(),
                    vlan_id: interface.vlan_id.unwrap_or(0),
                };
                (interface.index, Arc::new(named))
            })
            .collect();
        let mut gone: VecDeque<u32> =
            self.gone.iter().copied().filter(|index| !present.contains_key(index)).collect();
        let before: BTreeSet<u32> = self.gone.iter().copied().collect();
        let is_new = |index: &&u32| !present.contains_key(index) && !before.contains(index);
        gone.extend(self.by_index.keys().filter(is_new));
        gone.drain(..gone.len().saturating_sub(REMEMBERED));
        let mut by_index = present.clone();
        for index in &gone {
            if let Some(interface) = self.by_index.get(index) {
                by_index.insert(*index, Arc::clone(interface));
            }
        }
        // Later ones win: present over gone, and the operator's numbers over the kernel's.
        let is_own = |interface: &&Arc<NamedInterface>| interface.number == interface.kernel_index;
        let remembered = gone.iter().filter_map(|index| by_index.get(index));
        let (kernels, operators): (Vec<_>, Vec<_>) = present.values().partition(is_own);
        let in_order: Vec<_> = remembered.chain(kernels).chain(operators).map(Arc::clone).collect();
        let by_number = in_order.iter().map(|interface| (interface.number, Arc::clone(interface))).collect();
        Self { by_index, by_number, in_order, gone }
    }
}

/// A table of names that many read and one replaces. Readers take the present state once per batch.
#[derive(Clone, Debug, Default)]
pub struct NameTable(Arc<RwLock<Arc<InterfaceNames>>>);

impl NameTable {
    /// The present state.
    #[must_use]
    pub fn load(&self) -> Arc<InterfaceNames> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the state by these interfaces, with numbers by `rules`.
    pub fn update(&self, interfaces: &[Interface], rules: &InterfaceRules) {
        // Made outside of the lock; nobody else writes.
        let next = Arc::new(self.load().next(interfaces, rules));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::map::InterfacesMap;
    use super::*;

    fn link(index: u32, name: &str) -> Interface {
        Interface { index, name: name.to_owned(), description: format!("to {name}"), ..Interface::default() }
    }

    fn rules(map: &str) -> InterfaceRules {
        InterfaceRules {
            map: InterfacesMap::parse(Path::new("map"), map).unwrap(),
            ..InterfaceRules::default()
        }
    }

    #[test]
    fn numbers_are_the_operators_where_given() {
        let table = NameTable::default();
        assert_eq!(table.load().number(7), 7);
        let before = table.load();
        table.update(&[link(2, "eth0"), link(3, "eth1")], &rules("ifname=eth0 ifindex=3\n"));
        let names = table.load();
        assert_eq!((names.number(2), names.number(3), names.number(4)), (3, 3, 4));
        // Two have it; it was given to eth0.
        assert_eq!(names.of_number(3).unwrap().name, "eth0");
        assert_eq!(names.of_number(3).unwrap().description, "to eth0");
        assert_eq!(names.of_index(3).unwrap().name, "eth1");
        assert_eq!(names.of_number(2), None);
        assert_eq!(names.iter().count(), 2);
        let last = |number| names.iter().filter(|interface| interface.number == number).last();
        assert_eq!(last(3).unwrap().name, "eth0", "whoever goes through them all comes to the same");
        // One that is gone has the number only as long as no other one has it.
        table.update(&[link(4, "eth2")], &rules("ifname=eth0 ifindex=3\n"));
        table.update(&[link(4, "eth2")], &rules("ifname=eth2 ifindex=3\n"));
        let later = table.load();
        assert_eq!(later.of_number(3).unwrap().name, "eth2");
        assert_eq!(later.iter().filter(|interface| interface.number == 3).last().unwrap().name, "eth2");
        // Whoever took the state earlier keeps it.
        assert_eq!(before.iter().count(), 0);
    }

    #[test]
    fn names_of_interfaces_that_are_gone_stay_until_the_index_is_used_again() {
        let (table, rules) = (NameTable::default(), rules(""));
        table.update(&[link(2, "eth0"), link(3, "eth1")], &rules);
        table.update(&[link(3, "renamed")], &rules);
        let names = table.load();
        assert_eq!(names.of_number(2).unwrap().name, "eth0");
        assert_eq!(names.of_number(3).unwrap().name, "renamed");
        table.update(&[link(2, "eth7")], &rules);
        assert_eq!(table.load().of_number(2).unwrap().name, "eth7");
        assert_eq!(table.load().of_number(3).unwrap().name, "renamed");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let (table, rules) = (NameTable::default(), rules(""));
        let last = REMEMBERED as u32 + 20;
        for index in 1..=last {
            table.update(&[link(index, "ppp0")], &rules);
        }
        let names = table.load();
        assert_eq!(names.iter().count(), REMEMBERED + 1);
        assert!(names.of_index(last).is_some() && names.of_index(last - REMEMBERED as u32).is_some());
        assert_eq!(names.of_index(last - REMEMBERED as u32 - 1), None);
        assert_eq!(names.of_number(1), None);
    }
}
