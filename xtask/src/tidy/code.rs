//! Rust source without its comments and literals, so that a rule about code does not trip over prose.

/// The same text, line for line, with comments, strings and character literals blanked.
pub(super) fn only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_until(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Identifiers and keywords of one line of code with what follows each.
pub(super) fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(is_word)?;
        let end = rest[start..].find(|c| !is_word(c)).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        rest = &rest[end..];
        Some((word, rest))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn blank_until(chars: &[char], at: usize) -> usize {
    let inside_word = at > 0 && is_word(chars[at - 1]);
    match chars[at..] {
        ['/', '/', ..] => find(chars, at, |rest| rest[0] == '\n'),
        ['/', '*', ..] => block_comment(chars, at),
        ['"', ..] => string(chars, at + 1),
        ['r', '"' | '#', ..] if !inside_word => raw_string(chars, at),
        // br"..." and cr"...": the prefix before the r.
        ['b' | 'c', 'r', '"' | '#', ..] if !inside_word => match raw_string(chars, at + 1) {
            end if end == at + 1 => at,
            end => end,
        },
        ['\'', '\\', ..] => find(chars, at + 3, |rest| rest[0] == '\'') + 1,
        ['\'', _, '\'', ..] => at + 3,
        _ => at,
    }
    .min(chars.len())
}

/// First position from `at` on whose rest satisfies the condition, else the end.
fn find(chars: &[char], at: usize, condition: impl Fn(&[char]) -> bool) -> usize {
    (at..chars.len()).find(|&position| condition(&chars[position..])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => (at, depth) = (at + 2, depth + 1),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

fn string(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn raw_string(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    // r#name is an identifier.
    if chars.get(open) != Some(&'"') {
        return start;
    }
    let close =
        |rest: &[char]| rest[0] == '"' && rest.iter().skip(1).take_while(|&&c| c == '#').count() >= hashes;
    find(chars, open + 1, close) + 1 + hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_lines_stay() {
        let text = "a // b\n/* c\n/* d */ e */ f \"g\\\"\nh\" i";
        let code = only(text);
        assert_eq!(code.lines().count(), text.lines().count());
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "f", "i"]);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let code = only(r###"x r#"y " z"# w br##"v"# u"## t r#type s"###);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["x", "w", "t", "r#type", "s"]);
    }

    #[test]
    fn a_lifetime_is_not_a_character() {
        let code = only(r#"fn f<'a>(x: &'a str) { '"'; '\''; '\\'; b'"'; g }"#);
        assert!(code.contains("<'a>(x: &'a str)"));
        assert!(code.contains('g'));
        assert!(!code.contains('"'));
    }

    #[test]
    fn text_that_ends_inside_a_literal_is_no_trouble() {
        for text in ["\"", "\"\\", "'\\", "/*", "r#\"", "'", "//"] {
            assert_eq!(only(text).chars().count(), text.chars().count(), "{text}");
        }
    }

    #[test]
    fn words_come_with_what_follows() {
        let found: Vec<_> = words("a::b_1!(c)").collect();
        assert_eq!(found, [("a", "::b_1!(c)"), ("b_1", "!(c)"), ("c", ")")]);
    }
}
