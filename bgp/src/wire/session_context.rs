//! What the two OPENs of a session agreed on, as far as UPDATEs cannot be read without it.

use crate::Family;

/// Width of AS numbers in `AS_PATH` and AGGREGATOR (RFC 6793, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AsNumberSize {
    /// One side does not know the four-octet capability.
    TwoOctets,
    /// Both sides do.
    #[default]
    FourOctets,
}

impl AsNumberSize {
    /// Octets of one AS number.
    #[must_use]
    pub fn octets(self) -> usize {
        match self {
            Self::TwoOctets => 2,
            Self::FourOctets => 4,
        }
    }
}

/// A set of families.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FamilySet(u8);

impl FamilySet {
    /// No family.
    pub const EMPTY: Self = Self(0);

    /// Adds a family.
    pub fn insert(&mut self, family: Family) {
        self.0 |= 1 << family.index();
    }

    /// Removes a family.
    pub fn remove(&mut self, family: Family) {
        self.0 &= !(1 << family.index());
    }

    /// True if `family` is in the set.
    #[must_use]
    pub fn contains(self, family: Family) -> bool {
        self.0 & (1 << family.index()) != 0
    }

    /// True if there is no family.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The families, in the order of [`Family::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}

impl FromIterator<Family> for FamilySet {
    fn from_iter<T: IntoIterator<Item = Family>>(families: T) -> Self {
        let mut set = Self::EMPTY;
        families.into_iter().for_each(|family| set.insert(family));
        set
    }
}

impl std::fmt::Debug for FamilySet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

/// What decoding an UPDATE depends on.
///
/// Extended next hops (RFC 8950) need no field: the next hop's length says which one it is, and one that was not
/// negotiated is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionContext {
    /// Width of AS numbers.
    pub as_numbers: AsNumberSize,
    /// Families in which the peer sends Path Identifiers (RFC 7911): it said "send", and we "receive".
    pub add_path: FamilySet,
    /// True for a peer of the same AS, or of the same confederation: `LOCAL_PREF`, `ORIGINATOR_ID` and `CLUSTER_LIST`
    /// are discarded from any other (RFC 7606, sections 7.5, 7.9 and 7.10), and confederations in its `AS_PATH` are
    /// malformed (RFC 5065, section 5).
    pub internal: bool,
    /// True for what a BMP station hears of another router's tables: routes of the router's own have a next hop of zero
    /// there (RFC 9069), which on a session is malformed (RFC 4271, section 6.3).
    pub monitored: bool,
}

impl Default for SessionContext {
    /// Internal, four-octet AS numbers, no ADD-PATH.
    fn default() -> Self {
        Self {
            as_numbers: AsNumberSize::FourOctets,
            add_path: FamilySet::EMPTY,
            internal: true,
            monitored: false,
        }
    }
}
