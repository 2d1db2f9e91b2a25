//! What the operator says of a Kafka output, and which properties of librdkafka are not the operator's to set.

use std::{fmt, path::PathBuf, time::Duration};

use super::{KafkaError, producer};

/// What is durable when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Messages wait in memory alone. A crash loses them; a long outage fills the queue, which then refuses more.
    Memory,
    /// Messages go to the spool when the broker has not confirmed for a while, or when too many wait.
    #[default]
    Outage,
    /// Messages go to the spool first.
    Always,
}

/// The spool on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// Folder of this output alone; it is made if it is missing.
    pub directory: PathBuf,
    /// Octets of the spool with its journal, [`MIN_SIZE`](Self::MIN_SIZE) or more. A quarter more is kept free beside
    /// it (32 MiB at most), so that a full file system does not stop it.
    pub max_octets: u64,
    /// Longest time from the write of a message to the moment from which a power cut does not cost it.
    pub sync_interval: Duration,
}

impl SpoolSettings {
    /// Smallest spool, in octets.
    pub const MIN_SIZE: u64 = 4 * 1024 * 1024;

    /// A spool in `directory` with the default size: 1 GiB.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory, max_octets: 1 << 30, sync_interval: Duration::from_millis(100) }
    }
}

/// A Kafka output.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port,host:port`, as librdkafka's `bootstrap.servers` has it.
    pub brokers: String,
    /// Properties of librdkafka, in any order. They may be secret, and are in no message and no `Debug`.
    pub properties: Vec<(String, String)>,
    /// What is durable when.
    pub durability: Durability,
    /// Where the spool is; [`Durability::Memory`] keeps only its account there, and needs none.
    pub spool: Option<SpoolSettings>,
    /// Octets that may wait in memory before the producer.
    pub queue_octets: usize,
    /// Octets that may be with the producer, not confirmed. Memory holds them twice. What has waited for a topic that took
    /// nothing has half as much of its own; without a spool it may wait in another half. What is for partitions
    /// without a leader has as much again.
    pub in_flight_octets: usize,
    /// So long without a confirmation is an outage.
    pub outage_after: Duration,
}

impl KafkaSettings {
    /// Defaults, without a spool: [`Durability::Memory`].
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            properties: Vec::new(),
            durability: Durability::Memory,
            spool: None,
            queue_octets: 64 << 20,
            in_flight_octets: 32 << 20,
            outage_after: Duration::from_secs(1),
        }
    }

    /// Whether an output could start with these settings, as far as that can be said without starting it.
    ///
    /// # Errors
    /// The first thing that cannot be as it is.
    pub fn verify(&self) -> Result<(), KafkaError> {
        self.check()?;
        producer::verify(self)
    }

    /// What the operator should know of these settings, one sentence each: they work, but are not safe.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let value = |names: &[&str]| {
            let property = self.properties.iter().rev().find(|(name, _)| names.contains(&name.as_str()));
            property.map_or("", |(_, value)| value.as_str())
        };
        let mut warnings = Vec::new();
        let mechanism = value(&["sasl.mechanism", "sasl.mechanisms"]);
        let protocol = value(&["security.protocol"]);
        if mechanism.eq_ignore_ascii_case("PLAIN") && !protocol.eq_ignore_ascii_case("sasl_ssl") {
            warnings.push("sasl.mechanism = PLAIN without TLS sends the password in clear".to_owned());
        }
        if value(&["enable.ssl.certificate.verification"]).eq_ignore_ascii_case("false") {
            warnings
                .push("enable.ssl.certificate.verification = false: anybody can be the broker".to_owned());
        }
        if protocol.to_ascii_lowercase().ends_with("ssl")
            && value(&["ssl.endpoint.identification.algorithm"]).eq_ignore_ascii_case("none")
        {
            warnings.push(
                "ssl.endpoint.identification.algorithm = none: any certificate of the authority will do"
                    .to_owned(),
            );
        }
        warnings
    }

    /// The defaults for what is not set, what is set, and what must be.
    pub(super) fn all_properties(&self) -> Vec<(&str, &str)> {
        let is_set = |names: &[&str]| self.properties.iter().any(|(name, _)| names.contains(&name.as_str()));
        let defaults = DEFAULTS.iter().filter(|(names, _)| !is_set(names));
        let defaults = defaults.filter_map(|(names, value)| Some((*names.first()?, *value)));
        let set = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        defaults
            .chain(set)
            .chain(FIXED.iter().copied())
            .chain([("bootstrap.servers", self.brokers.as_str())])
            .collect()
    }

    /// How long messages without a key are for the same partition, unless the operator wants librdkafka to choose it.
    pub(super) fn together(&self) -> Option<Duration> {
        const LINGER: [&str; 2] = ["linger.ms", "queue.buffering.max.ms"];
        const CHOICE: [&str; 2] = ["partitioner", "sticky.partitioning.linger.ms"];
        if self.properties.iter().any(|(name, _)| CHOICE.contains(&name.as_str())) {
            return None;
        }
        let properties = self.all_properties();
        let linger = properties.iter().rev().find(|(name, _)| LINGER.contains(name));
        let milliseconds = linger.and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or_default();
        // As in librdkafka: twice as long as messages wait for a batch.
        Some(Duration::try_from_secs_f64(milliseconds * 2.0 / 1000.0).unwrap_or_default())
    }

    /// `text` of librdkafka without the values of properties that look like secrets.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        const SECRET: [&str; 6] = ["password", "secret", "key", "pem", "token", "sasl.oauthbearer.config"];
        let is_secret = |name: &str| SECRET.iter().any(|part| name.contains(part));
        let secrets = self.properties.iter().filter(|(name, value)| is_secret(name) && !value.is_empty());
        secrets.fold(text.to_owned(), |text, (_, value)| text.replace(value.as_str(), "***"))
    }

    /// # Errors
    /// The first thing that cannot be as it is.
    pub(super) fn check(&self) -> Result<(), KafkaError> {
        for (name, _) in &self.properties {
            if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
                return Err(KafkaError::Reserved { property: name.clone(), why });
            }
        }
        match (&self.spool, self.durability) {
            (None, Durability::Outage | Durability::Always) => Err(KafkaError::NoSpool),
            (Some(spool), _) if spool.max_octets < SpoolSettings::MIN_SIZE => Err(KafkaError::SpoolTooSmall),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("properties", &names)
            .field("durability", &self.durability)
            .field("spool", &self.spool)
            .field("queue_octets", &self.queue_octets)
            .field("in_flight_octets", &self.in_flight_octets)
            .field("outage_after", &self.outage_after)
            .finish()
    }
}

/// Properties that what is promised rests on, and why.
const RESERVED: &[(&str, &str)] = &[
    ("acks", ACKS),
    ("request.required.acks", ACKS),
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("delivery.timeout.ms", TIMEOUT),
    ("message.timeout.ms", TIMEOUT),
    ("enable.gapless.guarantee", "a lost message would stop all the others"),
    ("enable.idempotence", "without it messages could arrive twice and in another order"),
    ("transactional.id", "messages are not sent in transactions"),
    ("dr_msg_cb", CALLBACK),
    ("dr_cb", CALLBACK),
    ("delivery.report.only.error", "what is never confirmed would never leave memory"),
    ("test.mock.num.brokers", "there would be no broker"),
];

const ACKS: &str = "a confirmed message is one that all in-sync replicas have";
const BROKERS: &str = "the brokers have a key of their own";
const TIMEOUT: &str = "the bounds of queue and spool say when a message is given up";
const CALLBACK: &str = "it is no setting";

/// Properties that cannot be set.
pub fn reserved_properties() -> impl Iterator<Item = &'static str> {
    RESERVED.iter().map(|(name, _)| *name)
}

/// What is set where the operator sets nothing: properties by all their names, as librdkafka takes any of them.
const DEFAULTS: &[(&[&str], &str)] = &[
    (&["client.id"], "pathflow"),
    (&["compression.codec", "compression.type"], "lz4"),
    (&["linger.ms", "queue.buffering.max.ms"], "20"),
    (&["queue.buffering.max.messages"], "1000000"),
    (&["reconnect.backoff.max.ms"], "2000"),
    // A topic that is thought missing too early costs nothing but a try two seconds later.
    (&["topic.metadata.propagation.max.ms"], "3000"),
    (&["socket.keepalive.enable"], "true"),
];

/// What is set in any case.
const FIXED: &[(&str, &str)] = &[
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("enable.gapless.guarantee", "false"),
    ("message.timeout.ms", "0"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(properties: &[(&str, &str)]) -> KafkaSettings {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        KafkaSettings { properties: properties.collect(), ..KafkaSettings::new("127.0.0.1:9092") }
    }

    #[test]
    fn what_the_promise_rests_on_cannot_be_set() {
        for property in ["acks", "enable.idempotence", "message.timeout.ms", "bootstrap.servers"] {
            let error = with(&[(property, "1")]).check().expect_err("it is reserved");
            assert!(error.to_string().contains(property), "{error}");
        }
    }

    #[test]
    fn a_property_that_librdkafka_does_not_take_is_named_without_its_value() {
        for (property, value) in
            [("compression.codec", "canary"), ("canary.ms", "1"), ("linger.ms", "canary")]
        {
            let error = with(&[(property, value)]).verify().expect_err("it cannot be").to_string();
            assert!(
                error.contains(property) && (property == "canary.ms" || !error.contains("canary")),
                "{error}"
            );
        }
        assert!(with(&[("compression.codec", "zstd")]).verify().is_ok());
    }

    #[test]
    fn durability_needs_a_place() {
        let settings = KafkaSettings { durability: Durability::Outage, ..with(&[]) };
        assert!(settings.check().is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = with(&[("sasl.password", "canary")]);
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn unsafe_settings_are_warned_of() {
        let plain = [("sasl.mechanism", "PLAIN"), ("security.protocol", "sasl_plaintext")];
        assert_eq!(with(&plain).warnings().len(), 1);
        assert_eq!(with(&[plain[0], ("security.protocol", "SASL_SSL")]).warnings().len(), 0);
        assert_eq!(with(&[("enable.ssl.certificate.verification", "false")]).warnings().len(), 1);
    }
}
