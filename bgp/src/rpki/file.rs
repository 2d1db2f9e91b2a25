//! VRPs from JSON, as routinator, rpki-client, stayrtr's feeds and the RIPE validator write them.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::{Deserialize, de};

use super::Vrp;

/// Why a file gave no VRPs.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened.
    #[error("{}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It cannot be read, is not JSON, or holds what is no VRP. The message has line and column.
    #[error("{}: {error}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What and where.
        error: serde_json::Error,
    },
}

/// Reads `path`, which holds at most `max_vrps` VRPs.
///
/// # Errors
///
/// The file cannot be read, or one entry of it is bad: part of a set would make valid routes invalid.
pub fn read_file(path: &Path, max_vrps: usize) -> Result<Vec<Vrp>, FileError> {
    let file = File::open(path).map_err(|error| FileError::Open { path: path.to_owned(), error })?;
    read_json(BufReader::new(file), max_vrps)
        .map_err(|error| FileError::Content { path: path.to_owned(), error })
}

/// Reads `{"roas": [{"asn": "AS64500", "prefix": "192.0.2.0/24", "maxLength": 24}, ..]}`. The AS may be a number, with
/// or without quotes; without `maxLength` it is the length of the prefix; other members are skipped.
///
/// # Errors
///
/// As [`read_file`].
pub fn read_json(json: impl Read, max_vrps: usize) -> Result<Vec<Vrp>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(json);
    let vrps = Document { max_vrps }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(vrps)
}

#[derive(Clone, Copy)]
struct Document {
    max_vrps: usize,
}

impl<'de> DeserializeSeed<'de> for Document {
    type Value = Vec<Vrp>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document {
    type Value = Vec<Vrp>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a member \"roas\"")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut vrps = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == "roas" {
                if vrps.is_some() {
                    return Err(M::Error::duplicate_field("roas"));
                }
                vrps = Some(map.next_value_seed(Roas { max_vrps: self.max_vrps })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        vrps.ok_or_else(|| M::Error::missing_field("roas"))
    }
}

struct Roas {
    max_vrps: usize,
}

impl<'de> DeserializeSeed<'de> for Roas {
    type Value = Vec<Vrp>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Roas {
    type Value = Vec<Vrp>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of ROAs")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Self::Value, S::Error> {
        let mut vrps = Vec::new();
        while let Some(Roa { asn: AsNumber(as_number), prefix, max_length }) = sequence.next_element()? {
            if vrps.len() >= self.max_vrps {
                return Err(S::Error::custom(format_args!("more than {} VRPs", self.max_vrps)));
            }
            let max_length = max_length.unwrap_or(prefix.prefix_len());
            vrps.push(Vrp::new(prefix, max_length, as_number).map_err(S::Error::custom)?);
        }
        Ok(vrps)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Roa {
    asn: AsNumber,
    prefix: IpNet,
    max_length: Option<u8>,
}

struct AsNumber(u32);

impl<'de> Deserialize<'de> for AsNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsNumberVisitor;

        impl Visitor<'_> for AsNumberVisitor {
            type Value = AsNumber;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an AS number such as \"AS64500\" or 64500")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<AsNumber, E> {
                u32::try_from(number)
                    .map(AsNumber)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AsNumber, E> {
                let digits = match text.split_at_checked(2) {
                    Some((prefix, digits)) if prefix.eq_ignore_ascii_case("AS") => digits,
                    _ => text,
                };
                digits.parse().map(AsNumber).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(AsNumberVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Vrp>, String> {
        read_json(json.as_bytes(), 3).map_err(|error| error.to_string())
    }

    fn vrp(prefix: &str, max_length: u8, as_number: u32) -> Vrp {
        Vrp::new(prefix.parse().unwrap(), max_length, as_number).unwrap()
    }

    #[test]
    fn reads_what_relying_parties_write() {
        // routinator: strings; rpki-client: numbers and an expiry; the RIPE validator: no "AS".
        let json = r#"{
            "metadata": { "generated": 1663942400, "roas": 3, "nested": [{"roas": []}] },
            "roas": [
                { "asn": "AS2914", "prefix": "128.121.0.0/16", "maxLength": 20, "ta": "arin" },
                { "asn": 64496, "prefix": "2001:db8::/32", "maxLength": 48, "ta": "ripe", "expires": 1700000000 },
                { "asn": "4294967295", "prefix": "192.0.2.0/24" }
            ],
            "bgpsec_keys": []
        }"#;
        let expected = vec![
            vrp("128.121.0.0/16", 20, 2914),
            vrp("2001:db8::/32", 48, 64_496),
            vrp("192.0.2.0/24", 24, u32::MAX),
        ];
        assert_eq!(read(json), Ok(expected));
        assert_eq!(read(r#"{"roas": []}"#), Ok(Vec::new()));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (json, expected) in [
            ("{}", "missing field `roas`"),
            ("[]", "expected an object with a member \"roas\""),
            (
                r#"{"roas": [{"asn": "ASX", "prefix": "192.0.2.0/24"}]}"#,
                "string \"ASX\", expected an AS number",
            ),
            (r#"{"roas": [{"asn": 4294967296, "prefix": "192.0.2.0/24"}]}"#, "integer `4294967296`"),
            (r#"{"roas": [{"asn": 1, "prefix": "192.0.2.0"}]}"#, "invalid IP address syntax"),
            ("{\"roas\": [\n{\"asn\": 1, \"prefix\": \"192.0.2.0/24\", \"maxLength\": 23}]}", "at line 2"),
            (r#"{"roas": [{"asn": 1, "prefix": "192.0.2.1/24"}]}"#, "192.0.2.1/24 has bits set"),
            (r#"{"roas": [{"asn": 1, "prefix": "192.0.2.0/24"}"#, "EOF while parsing a list"),
            (r#"{"roas": []} more"#, "trailing characters"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let one = r#"{"asn": 1, "prefix": "192.0.2.0/24"}"#;
        let error = read(&format!("{{\"roas\": [{one},{one},{one},{one}]}}")).unwrap_err();
        assert!(error.contains("more than 3 VRPs"), "{error}");
        let error = read_file(Path::new("/nonexistent/roas.json"), 1).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/roas.json: No such file"), "{error}");
    }
}
