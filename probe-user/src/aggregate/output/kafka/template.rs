//! Topics and keys with variables, which stand for what a row says.

use std::fmt::Write as _;

use crate::aggregate::{Primitive, Row, Value};

/// Names of variables, and the primitives that they stand for. A name that begins with another comes first.
const VARIABLES: &[(&str, Primitive)] = &[
    ("$post_tag2", Primitive::Tag2),
    ("$post_tag", Primitive::Tag),
    ("$tag2", Primitive::Tag2),
    ("$tag", Primitive::Tag),
    ("$peer_src_ip", Primitive::PeerSrcIp),
    ("$src_host", Primitive::SrcHost),
    ("$dst_host", Primitive::DstHost),
    ("$src_port", Primitive::SrcPort),
    ("$dst_port", Primitive::DstPort),
    ("$proto", Primitive::Proto),
    ("$in_iface", Primitive::InIface),
];

/// A text with variables in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
    /// Whether dots and colons of values become `_`: names of topics have no colons.
    is_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(String),
    /// Position of the primitive in the key.
    Value(usize),
}

impl Template {
    /// Reads a template for rows of these primitives.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str, primitives: &[Primitive], is_name: bool) -> Result<Self, String> {
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find('$') {
            let (before, variable) = rest.split_at(start);
            let known = VARIABLES.iter().find(|(name, _)| variable.starts_with(name));
            let (name, primitive) = known.ok_or_else(|| {
                let names: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
                format!("of names that begin with $ only {} are known", names.join(", "))
            })?;
            let position = primitives.iter().position(|other| other == primitive);
            let position = position
                .ok_or_else(|| format!("{name} needs the primitive {primitive} in the aggregate's key"))?;
            if !before.is_empty() {
                segments.push(Segment::Text(before.to_owned()));
            }
            segments.push(Segment::Value(position));
            rest = variable.get(name.len()..).unwrap_or_default();
        }
        if !rest.is_empty() {
            segments.push(Segment::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), segments, is_name })
    }

    /// As it was read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is a variable in it.
    pub(super) fn is_variable(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Value(_)))
    }

    /// What it is where there is no row: without its variables.
    pub(super) fn fixed(&self) -> String {
        let texts = self.segments.iter().map(|segment| match segment {
            Segment::Text(text) => text.as_str(),
            Segment::Value(_) => "",
        });
        texts.collect()
    }

    /// What it is for `row`, in place of what was in `out`.
    pub(super) fn render(&self, row: &Row<'_>, out: &mut impl Rendered) {
        out.clear();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => out.append(text),
                Segment::Value(position) => {
                    let text = value_text(&row.value(*position));
                    if self.is_name {
                        out.append(&text.replace(['.', ':'], "_"));
                    } else {
                        out.append(&text);
                    }
                }
            }
        }
    }
}

/// Where a template is written.
pub(super) trait Rendered {
    fn clear(&mut self);
    fn append(&mut self, text: &str);
}

impl Rendered for String {
    fn clear(&mut self) {
        self.clear();
    }

    fn append(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Rendered for Vec<u8> {
    fn clear(&mut self) {
        self.clear();
    }

    fn append(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

fn value_text(value: &Value<'_>) -> String {
    let mut text = String::new();
    // Writing to a string can not fail.
    _ = match value {
        Value::Number(number) => write!(text, "{number}"),
        Value::Protocol(protocol) => write!(text, "{protocol}"),
        Value::Address(Some(address)) => write!(text, "{address}"),
        Value::Text(value) => write!(text, "{value}"),
        _ => Ok(()),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_of_the_key() {
        let primitives = [Primitive::Tag, Primitive::SrcHost];
        assert_eq!(
            Template::new("acct", &primitives, true).map(|template| template.is_variable()),
            Ok(false)
        );
        let template = Template::new("acct-$tag.$src_host", &primitives, true).unwrap();
        assert!(template.is_variable());
        assert_eq!(template.fixed(), "acct-.");
        assert_eq!(template.segments.len(), 4);
        let error = Template::new("$tag2", &primitives, true).unwrap_err();
        assert!(error.contains("$tag2 needs the primitive tag2"), "{error}");
        assert!(Template::new("$sender", &primitives, true).unwrap_err().contains("$peer_src_ip"));
    }
}
