//! Which interfaces are meant: names, globs, `physical`, and exclusions.

use std::fmt;
use std::str::FromStr;

use glob::Pattern;

use super::inventory::Interface;

/// The word that means every physical interface.
const PHYSICAL: &str = "physical";
/// Longest alternative name (`ALTIFNAMSIZ` less its NUL).
const MAX_NAME: usize = 127;

/// A name, or a glob: `*` any characters, `?` one, `[0-3]` one of these, `[!0-3]` one that is none of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// A name, also an alternative one.
    Name(String),
    /// A glob over names. Alternative names do not count, or one link would be many things at once.
    Glob(Pattern),
}

/// The text cannot be a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing at all.
    #[error("an interface name cannot be empty")]
    Empty,
    /// No interface can have this name.
    #[error("no interface can have this name")]
    NotAName,
    /// Not a glob.
    #[error("it is not a pattern: {0}")]
    NotAGlob(&'static str),
}

impl NamePattern {
    /// Whether it means this name.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Glob(glob) => glob.matches(name),
        }
    }

    /// Whether it means this interface.
    #[must_use]
    pub fn matches(&self, interface: &Interface) -> bool {
        match self {
            Self::Name(name) => interface.is_called(name),
            Self::Glob(glob) => glob.matches(&interface.name),
        }
    }
}

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        // As `dev_valid_name` of the kernel has it.
        let is_impossible = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
        if text.len() > MAX_NAME || text.contains(is_impossible) || matches!(text, "." | "..") {
            return Err(PatternError::NotAName);
        }
        if text.contains(['*', '?', '[']) {
            Pattern::new(text).map(Self::Glob).map_err(|error| PatternError::NotAGlob(error.msg))
        } else {
            Ok(Self::Name(text.to_owned()))
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Glob(glob) => f.write_str(glob.as_str()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Name(NamePattern),
    Physical,
}

impl Term {
    fn matches(&self, interface: &Interface) -> bool {
        match self {
            Self::Name(pattern) => pattern.matches(interface),
            Self::Physical => interface.is_physical(),
        }
    }
}

impl FromStr for Term {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == PHYSICAL { Ok(Self::Physical) } else { text.parse().map(Self::Name) }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(pattern) => pattern.fmt(f),
            Self::Physical => f.write_str(PHYSICAL),
        }
    }
}

/// The interfaces to capture on: whatever one entry means and no `!` entry does, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    included: Vec<Term>,
    excluded: Vec<Term>,
}

/// Interfaces that were asked for are not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// One that was named.
    #[error("interface {name}: no such interface; with capture.wait_for_interfaces = true it may come later")]
    NoSuchInterface {
        /// Name as given.
        name: String,
    },
    /// None at all.
    #[error("no interface matches {patterns}; with capture.wait_for_interfaces = true one may come later")]
    NothingMatches {
        /// What was given.
        patterns: Selection,
    },
}

impl Selection {
    /// Whether every interface is given by its name.
    #[must_use]
    pub fn names_only(&self) -> bool {
        self.included.iter().all(|term| matches!(term, Term::Name(NamePattern::Name(_))))
    }

    /// Adds an entry: a name, a glob, `physical`, or one of these after `!`.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn add(&mut self, entry: &str) -> Result<(), PatternError> {
        match entry.strip_prefix('!') {
            Some(excluded) => self.excluded.push(excluded.parse()?),
            None => self.included.push(entry.parse()?),
        }
        Ok(())
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.included.is_empty()
    }

    /// Whether there are only exclusions.
    #[must_use]
    pub fn only_excludes(&self) -> bool {
        self.included.is_empty() && !self.excluded.is_empty()
    }

    /// Whether `interface` is meant.
    #[must_use]
    pub fn matches(&self, interface: &Interface) -> bool {
        let is_any = |terms: &[Term]| terms.iter().any(|term| term.matches(interface));
        is_any(&self.included) && !is_any(&self.excluded)
    }

    /// Names that were given as such and that no interface has.
    pub fn missing<'a>(&'a self, present: &'a [Interface]) -> impl Iterator<Item = &'a str> {
        self.included.iter().filter_map(|term| match term {
            Term::Name(NamePattern::Name(name)) => {
                (!present.iter().any(|interface| interface.is_called(name))).then_some(name.as_str())
            }
            _ => None,
        })
    }

    /// The interfaces that are meant, if every one that was given by its name is there, and at least one.
    ///
    /// # Errors
    /// [`SelectionError`] naming what is missing.
    pub fn find(&self, present: &[Interface]) -> Result<Vec<Interface>, SelectionError> {
        if let Some(name) = self.missing(present).next() {
            return Err(SelectionError::NoSuchInterface { name: name.to_owned() });
        }
        let found: Vec<Interface> =
            present.iter().filter(|interface| self.matches(interface)).cloned().collect();
        if found.is_empty() {
            return Err(SelectionError::NothingMatches { patterns: self.clone() });
        }
        Ok(found)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let included = self.included.iter().map(Term::to_string);
        let excluded = self.excluded.iter().map(|term| format!("!{term}"));
        f.write_str(&included.chain(excluded).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(entries: &[&str]) -> Selection {
        let mut selection = Selection::default();
        for entry in entries {
            selection.add(entry).unwrap();
        }
        selection
    }

    /// Kind `-` is hardware.
    fn link(name: &str, kind: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            link_layer_type: libc::ARPHRD_ETHER,
            kind: (kind != "-").then(|| kind.to_owned()),
            ..Interface::default()
        }
    }

    fn found(entries: &[&str]) -> Vec<String> {
        let present = [
            link("eth0", "-"),
            link("eth1", "-"),
            link("eth0.100", "vlan"),
            link("enp1s0f0", "-"),
            link("enp1s0f2", "-"),
            link("br0", "bridge"),
            link("eth9", "-"),
        ];
        let selection = selection(entries);
        present.iter().filter(|link| selection.matches(link)).map(|link| link.name.clone()).collect()
    }

    #[test]
    fn names_globs_and_the_word_physical() {
        assert_eq!(found(&["eth1", "br0"]), ["eth1", "br0"]);
        assert_eq!(found(&["eth*"]), ["eth0", "eth1", "eth0.100", "eth9"]);
        assert_eq!(found(&["eth?"]), ["eth0", "eth1", "eth9"]);
        assert_eq!(found(&["enp?s0f[01]"]), ["enp1s0f0"]);
        assert_eq!(found(&["enp?s0f[!01]"]), ["enp1s0f2"]);
        assert_eq!(found(&["physical"]), ["eth0", "eth1", "enp1s0f0", "enp1s0f2", "eth9"]);
        // Case counts, as it does for the kernel.
        assert_eq!(found(&["ETH*"]), [""; 0]);
    }

    #[test]
    fn exclusions_hold_wherever_they_stand() {
        for entries in [["!eth9", "eth*", "!*.*"], ["eth*", "!*.*", "!eth9"]] {
            assert_eq!(found(&entries), ["eth0", "eth1"]);
        }
        assert_eq!(found(&["*", "!physical"]), ["eth0.100", "br0"]);
        assert_eq!(found(&["eth0", "!eth0"]), [""; 0]);
        assert!(selection(&["!eth0"]).only_excludes() && selection(&["!eth0"]).is_empty());
    }

    #[test]
    fn a_name_may_be_an_alternative_one_and_a_glob_may_not() {
        let mut interface = link("eth0", "-");
        interface.alternative_names = vec!["wan-to-transit".to_owned()];
        assert!(selection(&["wan-to-transit"]).matches(&interface));
        assert!(!selection(&["wan*"]).matches(&interface));
        assert!(!selection(&["eth*", "!wan-to-transit"]).matches(&interface));
    }

    #[test]
    fn what_cannot_be_a_name_or_glob_is_refused() {
        let error = |entry: &str| Selection::default().add(entry).unwrap_err();
        assert_eq!(error(""), PatternError::Empty);
        assert_eq!(error("!"), PatternError::Empty);
        for entry in ["eth 0", "a/b", "eth0:1", ".", &"x".repeat(128)] {
            assert_eq!(error(entry), PatternError::NotAName, "{entry}");
        }
        assert!(matches!(error("eth[0"), PatternError::NotAGlob(_)));
        assert!(matches!(error("eth**0"), PatternError::NotAGlob(_)));
    }

    #[test]
    fn a_name_has_to_be_there_and_a_glob_may_match_nothing_if_something_else_does() {
        let present = [link("eth0", "-"), link("br0", "bridge")];
        let find = |entries: &[&str]| selection(entries).find(&present);
        let names = |entries: &[&str]| -> Vec<String> {
            find(entries).unwrap().into_iter().map(|interface| interface.name).collect()
        };
        assert_eq!(names(&["eth0", "ppp*"]), ["eth0"]);
        assert_eq!(
            find(&["eth0", "ppp0"]).unwrap_err().to_string(),
            "interface ppp0: no such interface; with capture.wait_for_interfaces = true it may come later"
        );
        let text = find(&["ppp*", "wlan?", "!br0"]).unwrap_err().to_string();
        assert!(text.starts_with("no interface matches ppp*, wlan?, !br0; "), "{text}");
        assert_eq!(selection(&["eth0", "ppp0", "x*"]).missing(&present).collect::<Vec<_>>(), ["ppp0"]);
    }
}
