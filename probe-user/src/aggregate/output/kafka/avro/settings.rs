//! What `[aggregate.kafka]` says of Avro.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::tls::{PemItem, parse_pem};

use super::super::settings::KafkaTable;
use super::super::template::Template;
use crate::aggregate::Primitive;
use crate::aggregate::encode::{AvroEncoder, EncodeSettings, Record};
use crate::aggregate::output::OutputSettingsError;

/// How rows are written, and where their schema goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroSettings {
    pub(super) schema_file: Option<PathBuf>,
    pub(super) registry: Option<RegistrySettings>,
}

/// Where schemas are registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegistrySettings {
    pub(super) url: RegistryUrl,
    /// Certificates as PEM (RFC 7468); empty without TLS.
    pub(super) authorities: String,
    /// Of each record that is written.
    pub(super) subjects: Vec<(Record, String)>,
}

/// Where a registry is; shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RegistryUrl {
    /// Without user and password, and without a slash at the end.
    text: String,
    is_secure: bool,
    authorization: Option<String>,
}

impl AvroSettings {
    /// Checks the keys, for rows of these `primitives` and messages to `topic`. The file of authorities is read.
    ///
    /// # Errors
    /// The key that is wrong.
    pub(in crate::aggregate::output::kafka) fn new(
        table: &KafkaTable,
        encode: &EncodeSettings,
        primitives: &[Primitive],
        topic: &Template,
    ) -> Result<Self, OutputSettingsError> {
        let wrong = |key, value: &dyn ToString, reason: String| OutputSettingsError {
            key,
            value: value.to_string(),
            reason,
        };
        AvroEncoder::new(encode, primitives, "")
            .map_err(|error| wrong("format", &"avro", error.to_string()))?;
        let schema_file = (!table.schema_file.is_empty()).then(|| PathBuf::from(&table.schema_file));
        if table.schema_registry.is_empty() {
            if !table.schema_subject.is_empty() {
                let reason = "it is of use only with schema_registry".to_owned();
                return Err(wrong("schema_subject", &table.schema_subject, reason));
            }
            if table.markers {
                let reason = "in Avro they need schema_registry: without the id of its schema nobody can tell a \
                              marker from a row";
                return Err(wrong("markers", &true, reason.to_owned()));
            }
            return Ok(Self { schema_file, registry: None });
        }
        if table.message_octets > 0 {
            let reason = "with schema_registry each row has a message of its own".to_owned();
            return Err(wrong("message_octets", &table.message_octets, reason));
        }
        let url = RegistryUrl::parse(&table.schema_registry)
            .map_err(|reason| wrong("schema_registry", &"...", reason))?;
        let is_legal = |character: char| character.is_ascii_alphanumeric() || "._-:".contains(character);
        if !table.schema_subject.chars().all(is_legal) {
            let reason = "names of subjects have letters, digits, ., _, - and :".to_owned();
            return Err(wrong("schema_subject", &table.schema_subject, reason));
        }
        if table.schema_subject.is_empty() && topic.is_variable() {
            let reason = "it is empty, which is possible only if the topic has no variables".to_owned();
            return Err(wrong("schema_subject", &"", reason));
        }
        let of_rows = match table.schema_subject.as_str() {
            "" => format!("{}-value", table.topic),
            subject => subject.to_owned(),
        };
        let base = if topic.is_variable() { &of_rows } else { &table.topic };
        let markers = [Record::PurgeInit, Record::PurgeClose]
            .map(|record| (record, format!("{base}-{}", record.name())))
            .into_iter()
            .filter(|_| table.markers);
        let subjects = [(Record::Row, of_rows.clone())].into_iter().chain(markers).collect();
        let authorities = if url.is_secure {
            authorities(&table.schema_registry_ca_file)
                .map_err(|reason| wrong("schema_registry_ca_file", &table.schema_registry_ca_file, reason))?
        } else {
            String::new()
        };
        Ok(Self { schema_file, registry: Some(RegistrySettings { url, authorities, subjects }) })
    }
}

fn authorities(file: &str) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let has_certificate = parse_pem(text.as_bytes()).any(|item| matches!(item, Ok(PemItem::Certificate(_))));
    if has_certificate { Ok(text) } else { Err("there is no certificate in it".to_owned()) }
}

/// `USER:PASSWORD` of a URL as HTTP has it (RFC 7617, section 2).
fn basic(user: &str) -> String {
    let user: Vec<u8> = percent_decode_str(user).collect();
    format!("Basic {}", STANDARD.encode(user))
}

impl RegistryUrl {
    /// Reads `http://` or `https://`, perhaps `USER:PASSWORD@`, `HOST`, and perhaps `:PORT` and a path.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Neither text nor error is repeated: there may be a password in it.
        let uri: Uri = text.parse().map_err(|_| "it is not a URL".to_owned())?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let (user, host) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        if !matches!(scheme, "http" | "https") || host.is_empty() || uri.query().is_some() {
            return Err("it is not http:// or https:// with a host, and perhaps a port and a path".to_owned());
        }
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            text: format!("{scheme}://{host}{path}"),
            is_secure: scheme == "https",
            authorization: user.map(basic),
        })
    }

    /// Value of the field `Authorization`, if there is a user.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Where versions of a subject are posted.
    pub(super) fn versions_of(&self, subject: &str) -> String {
        format!("{}/subjects/{subject}/versions", self.text)
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
