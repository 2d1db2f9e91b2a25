//! A schema registry, by the REST API of Confluent's, which Karapace, Apicurio and Redpanda have as well
//! (`POST /subjects/SUBJECT/versions`). A schema that is registered already has the id that it has.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::settings::{RegistrySettings, RegistryUrl};
use crate::aggregate::encode::Record;
use crate::error::RunError;
use crate::pipeline::spawn;

/// How long the registry is asked for one schema.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause before the second try. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// Octets of an answer that are read at most.
const LONGEST_ANSWER: u64 = 1 << 20;
/// Octets of what a registry says that are repeated.
const LONGEST_TEXT: usize = 300;
/// Content type of requests and answers.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A schema that is to be registered.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) record: Record,
    pub(super) subject: String,
    pub(super) schema: String,
}

/// Ids of the schemas of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids([u32; Record::ALL.len()]);

impl Ids {
    pub(super) fn of(self, record: Record) -> u32 {
        self.0.get(record as usize).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, record: Record, id: u32) {
        if let Some(place) = self.0.get_mut(record as usize) {
            *place = id;
        }
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.iter().filter(|id| **id > 0);
        let ids: Vec<String> = ids.map(ToString::to_string).collect();
        write!(formatter, "id {}", ids.join(", "))
    }
}

/// Why a schema is not registered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistryError {
    /// There is no answer.
    #[error("{0}")]
    Http(#[from] ureq::Error),
    /// It does not take the schema, or does not take it from us.
    #[error("{subject}: refused with status {status}: {text}")]
    Refused {
        /// Of the schema.
        subject: String,
        /// Of HTTP.
        status: u16,
        /// As the registry puts it.
        text: String,
    },
    /// Something else is there.
    #[error("{subject}: this is no answer of a schema registry: {text}")]
    Answer {
        /// Of the schema.
        subject: String,
        /// The beginning of the answer.
        text: String,
    },
}

/// A client.
pub(super) struct Registry {
    url: RegistryUrl,
    agent: Agent,
}

impl Registry {
    pub(super) fn new(settings: &RegistrySettings) -> Self {
        let certificates: Vec<_> = parse_pem(settings.authorities.as_bytes())
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&certificates))
            .build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(PATIENCE))
            .tls_config(tls)
            .user_agent(concat!("pathflow/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { url: settings.url.clone(), agent }
    }

    /// The id of a schema, which is registered if it is not yet.
    ///
    /// # Errors
    /// [`RegistryError`], which does not name the registry.
    pub(super) fn register(&self, wanted: &Wanted) -> Result<u32, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            id: Option<u32>,
            message: Option<String>,
        }
        let subject = &wanted.subject;
        let body = json!({ "schema": wanted.schema }).to_string();
        let mut request = self
            .agent
            .post(self.url.versions_of(subject))
            .header("Content-Type", MEDIA_TYPE)
            .header("Accept", MEDIA_TYPE);
        if let Some(authorization) = self.url.authorization() {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.send(body)?;
        let status = response.status();
        let text =
            response.body_mut().with_config().limit(LONGEST_ANSWER).lossy_utf8(true).read_to_string()?;
        let answer = serde_json::from_str::<Answer>(&text).ok();
        let (id, message) = answer.map_or((None, None), |answer| (answer.id, answer.message));
        let subject = subject.clone();
        match id {
            Some(id) if status.is_success() => Ok(id),
            _ if status.is_success() => Err(RegistryError::Answer { subject, text: beginning(&text) }),
            _ => {
                let text = beginning(&message.unwrap_or(text));
                Err(RegistryError::Refused { subject, status: status.as_u16(), text })
            }
        }
    }
}

/// In one line.
fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_TEXT).collect()
}

/// Registers schemas in a thread of its own, which tries until it has done it.
#[derive(Debug)]
pub(super) struct Registrar {
    ids: Receiver<Ids>,
    failures: Arc<AtomicU64>,
    /// What is sent ends a pause. The thread ends when this is gone.
    hurry: Sender<()>,
}

impl Registrar {
    /// Begins, for the output `name`.
    ///
    /// # Errors
    /// [`RunError`] if there is no thread.
    pub(super) fn start(
        name: &str,
        settings: &RegistrySettings,
        wanted: Vec<Wanted>,
    ) -> Result<Self, RunError> {
        let (to, ids) = bounded(1);
        let (hurry, hurried) = bounded(1);
        let failures = Arc::<AtomicU64>::default();
        let (registry, name, counted) = (Registry::new(settings), name.to_owned(), Arc::clone(&failures));
        // It may be asking when the output ends, and is not waited for.
        let _thread = spawn("schemas".to_owned(), move || {
            if let Some(ids) = try_until_done(&registry, &name, &wanted, &counted, &hurried) {
                // The output may be gone.
                let _ = to.send(ids);
            }
        })?;
        Ok(Self { ids, failures, hurry })
    }

    /// The ids, once.
    pub(super) fn take(&self) -> Option<Ids> {
        self.ids.try_recv().ok()
    }

    /// The ids, once, as soon as they are there; asks at once.
    pub(super) fn wait(&self, until: Instant) -> Option<Ids> {
        // If there is no room it was told so before.
        let _ = self.hurry.try_send(());
        self.ids.recv_deadline(until).ok()
    }

    /// How often it did not work.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

fn try_until_done(
    registry: &Registry,
    name: &str,
    wanted: &[Wanted],
    failures: &AtomicU64,
    hurried: &Receiver<()>,
) -> Option<Ids> {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    let all = || {
        let mut ids = Ids::default();
        for wanted in wanted {
            ids.set(wanted.record, registry.register(wanted)?);
        }
        Ok::<_, RegistryError>(ids)
    };
    loop {
        match all() {
            Ok(ids) => {
                info!("{name}: schema registry {}: {ids}", registry.url);
                return Some(ids);
            }
            Err(error) => {
                failures.fetch_add(1, Ordering::Relaxed);
                let text = error.to_string();
                if text != said {
                    warn!("{name}: schema registry {}: {text}; it is tried again", registry.url);
                    said = text;
                }
            }
        }
        match hurried.recv_timeout(pause) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => pause = (2 * pause).min(LAST_PAUSE),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}
