//! Names of applications, as small numbers.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

/// The application of a flow. Numbers are for this process alone; the same name always has the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Class(u16);

/// Every name that was ever given. As many as there are pairs of protocols at most, so they are kept for good.
static NAMES: LazyLock<RwLock<Names>> = LazyLock::new(RwLock::default);

#[derive(Default)]
struct Names {
    /// By number, less one.
    names: Vec<&'static str>,
    numbers: HashMap<&'static str, u16>,
}

impl Class {
    /// Not known, or not known yet.
    pub const UNKNOWN: Self = Self(0);

    /// The class with this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = names.numbers.get(name) {
            return Self(*number);
        }
        let Ok(number) = u16::try_from(names.names.len() + 1) else { return Self::UNKNOWN };
        let name: &'static str = Box::leak(name.into());
        names.names.push(name);
        names.numbers.insert(name, number);
        Self(number)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
        let name = usize::from(self.0).checked_sub(1).and_then(|place| names.names.get(place));
        name.copied().unwrap_or("unknown")
    }

    /// For keys of rows.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The class that has this number.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number() {
        let (dns, tls) = (Class::named("DNS"), Class::named("TLS/Google"));
        assert_eq!(Class::named("DNS"), dns);
        assert_ne!(dns, tls);
        assert_eq!((dns.name(), tls.name()), ("DNS", "TLS/Google"));
        assert_eq!(Class::from_number(tls.number()), tls);
        assert_eq!(Class::UNKNOWN.name(), "unknown");
        assert_eq!(Class::from_number(u16::MAX).name(), "unknown");
    }
}
