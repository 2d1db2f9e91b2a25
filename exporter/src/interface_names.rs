//! Names of interfaces, for output that people read.

use std::collections::BTreeMap;

/// Interface index to name. A snapshot: the caller makes a new one when interfaces change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceNames(BTreeMap<u32, String>);

impl InterfaceNames {
    /// Name of the interface with `index`, if known.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&str> {
        self.0.get(&index).map(String::as_str)
    }
}

impl FromIterator<(u32, String)> for InterfaceNames {
    fn from_iter<I: IntoIterator<Item = (u32, String)>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}
