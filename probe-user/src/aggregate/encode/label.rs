//! Labels as an object (`pre_tag_label_encode_as_map` in pmacct's CONFIG-KEYS).
//!
//! The operator's label is `key1%value1,key2%value2`, and in JSON `{"key1": "value1", "key2": "value2"}`; no label is
//! `{}`. A part without `%` is a key without a value, of a key that is there twice the last value counts, and its
//! place is that of the first.

use super::line::Line;
use super::text;

/// Between two parts of a label: several rules that are true of a packet put it there, too.
const SEPARATOR: char = ',';
/// Between key and value.
const DELIMITER: char = '%';

fn parts(label: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = label.split(SEPARATOR).filter(|part| !part.is_empty());
    parts.map(|part| part.split_once(DELIMITER).unwrap_or((part, "")))
}

/// Each key with its value.
pub(super) fn pairs(label: &str) -> impl Iterator<Item = (&str, &str)> {
    parts(label).enumerate().filter_map(move |(position, (key, value))| {
        // Labels have few parts, so that this costs less than to remember them.
        if parts(label).take(position).any(|(earlier, _)| earlier == key) {
            return None;
        }
        let later = parts(label).skip(position + 1).filter(|(later, _)| *later == key);
        Some((key, later.last().map_or(value, |(_, value)| value)))
    })
}

/// Appends the object.
pub(super) fn object(out: &mut Line, label: &str) {
    out.push(b'{');
    let start = out.len();
    for (key, value) in pairs(label) {
        if out.len() > start {
            out.put(b", ");
        }
        text::json_string(out, key);
        out.put(b": ");
        text::json_string(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(label: &str) -> String {
        let mut out = Line::default();
        object(&mut out, label);
        String::from_utf8(out.text().to_vec()).unwrap()
    }

    /// The forms of pmacct's documentation and of the output that its own tests expect.
    #[test]
    fn objects_are_those_of_pmacct() {
        for (label, expected) in [
            ("", "{}"),
            ("key1%value1,key2%value2", r#"{"key1": "value1", "key2": "value2"}"#),
            (
                "nkey%a-long18181-node-id-10,pkey%PLATFORM_ID",
                r#"{"nkey": "a-long18181-node-id-10", "pkey": "PLATFORM_ID"}"#,
            ),
        ] {
            assert_eq!(written(label), expected);
        }
    }

    #[test]
    fn any_label_becomes_an_object_without_a_key_twice() {
        for (label, expected) in [
            ("plain", r#"{"plain": ""}"#),
            ("a%1,plain,b%2%3,,", r#"{"a": "1", "plain": "", "b": "2%3"}"#),
            ("a%1,b%2,a%3", r#"{"a": "3", "b": "2"}"#),
            ("%x,\"q\"%\\", r#"{"": "x", "\"q\"": "\\"}"#),
        ] {
            assert_eq!(written(label), expected);
        }
    }
}
