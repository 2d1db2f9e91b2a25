//! Communities as text, and patterns that select them, as in pmacct's `bgp_stdcomm_pattern` and its kin.

use pathflow_bgp::{Community, ExtendedCommunity, LargeCommunity};

/// A pattern for the text of a community. Without a dot it means every text that contains it; with dots it means texts
/// of its own length, in which a dot stands for any character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it is empty, or has a character that no community has.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("a pattern cannot be empty".to_owned());
        }
        match text.chars().find(|character| !character.is_ascii_alphanumeric() && !":.-".contains(*character))
        {
            Some(character) => Err(format!("no community has the character {character:?}")),
            None => Ok(Self(text.into())),
        }
    }

    /// Whether it means this community. Dots of an IPv4 address are characters as any other.
    #[must_use]
    pub fn matches(&self, community: &str) -> bool {
        if !self.0.contains('.') {
            return community.contains(&*self.0);
        }
        community.len() == self.0.len()
            && self.0.bytes().zip(community.bytes()).all(|(wanted, found)| wanted == b'.' || wanted == found)
    }
}

/// Those of `communities` that a pattern means, in the order of the patterns; all of them if there is no pattern.
#[must_use]
pub fn select<C: Copy + PartialEq>(
    communities: Box<[C]>,
    patterns: &[Pattern],
    texts: impl Fn(C) -> Vec<String>,
) -> Box<[C]> {
    if patterns.is_empty() {
        return communities;
    }
    let mut selected = Vec::new();
    for pattern in patterns {
        for community in &communities {
            if !selected.contains(community) && texts(*community).iter().any(|text| pattern.matches(text)) {
                selected.push(*community);
            }
        }
    }
    selected.into()
}

/// The first community, in the order of the patterns, that one of them means.
#[must_use]
pub fn first<C: Copy>(
    communities: &[C],
    patterns: &[Pattern],
    texts: impl Fn(C) -> Vec<String>,
) -> Option<C> {
    let means = |pattern: &Pattern, community: C| texts(community).iter().any(|text| pattern.matches(text));
    patterns
        .iter()
        .find_map(|pattern| communities.iter().find(|community| means(pattern, **community)).copied())
}

/// A community (RFC 1997) as `AS:VALUE`, and by its name if it has one.
#[must_use]
pub fn standard(community: u32) -> Vec<String> {
    let (number, name) =
        (format!("{}:{}", community >> 16, community & 0xffff), Community(community).to_string());
    if name == number { vec![number] } else { vec![number, name] }
}

/// An extended community (RFC 4360), as `RT:ADMINISTRATOR:NUMBER` or `SoO:ADMINISTRATOR:NUMBER`; one of another kind as
/// its octets, `0x0002fbf000000064`.
#[must_use]
pub fn extended(community: [u8; 8]) -> Vec<String> {
    vec![ExtendedCommunity(community).to_string()]
}

/// A large community (RFC 8092) as `GLOBAL:FIRST:SECOND`.
#[must_use]
pub fn large(community: [u32; 3]) -> Vec<String> {
    vec![LargeCommunity(community).to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    const fn community(high: u32, low: u32) -> u32 {
        high << 16 | low
    }

    #[test]
    fn a_pattern_is_a_part_of_the_text_and_with_dots_all_of_it() {
        let matches = |pattern: &str, community: &str| Pattern::new(pattern).unwrap().matches(community);
        assert!(matches("65000:", "65000:100"));
        assert!(matches("6939:", "16939:1"));
        assert!(matches(":64", "65000:64512"));
        assert!(!matches("65000:64", "65000:46"));
        assert!(matches("65000:64...", "65000:64512"));
        assert!(!matches("65000:64..", "65000:64512"));
        assert!(!matches("5000:64...", "65000:64512"));
        assert!(matches("6500.:6451.", "65001:64519"));
        assert!(matches("RT:192.0.2.1:7", "RT:192.0.2.1:7"));
        for (text, reason) in [
            (" ", "a pattern cannot be empty"),
            ("65000:*", "no community has the character '*'"),
            ("1:1,2:2", "no community has the character ','"),
        ] {
            assert_eq!(Pattern::new(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn selected_communities_are_in_the_order_of_the_patterns_and_once() {
        let communities = [community(65_000, 1), community(64_512, 2), community(65_000, 30), 0xffff_ff01];
        let selected = |texts: &[&str]| select(communities.into(), &patterns(texts), standard).into_vec();
        assert_eq!(selected(&[]), communities);
        assert_eq!(selected(&["64512:", "65000:"]), [communities[1], communities[0], communities[2]]);
        assert_eq!(selected(&["65000:..", "65000:"]), [communities[2], communities[0]]);
        assert_eq!(selected(&["no-export"]), [0xffff_ff01]);
        assert_eq!(selected(&["65535:65281"]), [0xffff_ff01]);
        assert!(selected(&["3356:"]).is_empty());
        assert_eq!(first(&communities, &patterns(&["3356:", "65000:"]), standard), Some(communities[0]));
        assert_eq!(first(&communities, &[], standard), None);
    }

    #[test]
    fn extended_and_large_communities_read_as_routers_write_them() {
        assert_eq!(extended([0, 2, 0xfd, 0xe8, 0, 0, 0, 100]), ["RT:65000:100"]);
        assert_eq!(extended([1, 3, 192, 0, 2, 1, 0, 7]), ["SoO:192.0.2.1:7"]);
        assert_eq!(extended([2, 2, 0, 1, 0, 0, 0, 5]), ["RT:65536:5"]);
        assert_eq!(extended([0x40, 4, 0, 0, 0x4b, 0, 0, 0]), ["0x400400004b000000"]);
        assert_eq!(large([64_500, 1, 4_294_967_295]), ["64500:1:4294967295"]);
    }
}
