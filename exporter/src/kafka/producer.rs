//! librdkafka's producer: one thread hands it messages and asks for its reports.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError as ClientError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    KafkaError, Message,
    account::{ClientErrorKind, DeliveryErrorKind, KafkaLossReason},
    partitioner::Available,
    settings::KafkaSettings,
};

/// Name of the Kafka header that tells messages apart: `INSTANCE:EPOCH:SEQUENCE`, in hexadecimal, decimal, decimal.
pub const STAMP_HEADER: &str = "pathflow-stamp";

/// How messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batching {
    /// As fast as possible.
    Many,
    /// One by one, so that a broker that refuses a batch for one of its messages shows which one it is.
    Single,
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Sequence number of the message.
    pub sequence: u64,
    /// `None`: the broker has it.
    pub error: Option<RDKafkaErrorCode>,
}

/// What is wrong with a broker or the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub kind: ClientErrorKind,
    pub text: String,
}

impl Complaint {
    fn new(code: RDKafkaErrorCode, text: &str) -> Self {
        use RDKafkaErrorCode as Code;
        let kind = match code {
            // Under more than one code, as OpenSSL tells of it at once or later.
            _ if text.contains("SSL routines") => ClientErrorKind::Tls,
            Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut => {
                ClientErrorKind::Unreachable
            }
            Code::SaslAuthenticationFailed | Code::Authentication => ClientErrorKind::Authentication,
            Code::ClusterAuthorizationFailed => ClientErrorKind::NotAllowed,
            Code::SSL => ClientErrorKind::Tls,
            _ => ClientErrorKind::Other,
        };
        // What librdkafka advises here leaves out one of the two causes.
        let text = match text.split_once(": ") {
            Some((broker, why)) if why.contains("certificate verify failed") => format!(
                "{broker}: the certificate of the broker is not for this host name, or nothing in ssl.ca.location \
                 vouches for it"
            ),
            _ => text.to_owned(),
        };
        Self { kind, text }
    }
}

/// What the producer says by itself.
#[derive(Debug, Default)]
struct Heard {
    reports: Vec<Report>,
    errors: Vec<Complaint>,
}

/// Receives what librdkafka has to say; called by the thread that polls, and by no other. Chooses partitions, in whatever
/// thread.
#[derive(Clone)]
struct Listener {
    heard: Arc<Mutex<Heard>>,
    /// `None`: librdkafka does.
    partitioner: Option<Available>,
}

impl Listener {
    fn new(settings: &KafkaSettings) -> Self {
        Self { heard: Arc::default(), partitioner: settings.together().map(Available::new) }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Listener {
    /// Errors come by [`error`](ClientContext::error) as well; the rest may hold what is nobody's business.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: ClientError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        // That all are down is said of each of them as well; a fatal error is asked for.
        if matches!(code, RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Fatal) {
            return;
        }
        let mut heard = self.heard();
        if heard.errors.len() < 16 {
            heard.errors.push(Complaint::new(code, reason));
        }
    }
}

impl ProducerContext<Available> for Listener {
    /// Sequence number of the message: a pointer has room for it on the 64-bit systems that pathflow is for.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sequence: usize) {
        let error = match result {
            Ok(_) => None,
            Err((error, _)) => Some(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
        };
        self.heard().reports.push(Report { sequence: sequence as u64, error });
    }

    fn get_custom_partitioner(&self) -> Option<&Available> {
        self.partitioner.as_ref()
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The producer's queue is full.
    QueueFull,
    Failed(RDKafkaErrorCode),
}

/// Whether librdkafka takes all properties, one by one. Nothing is started.
///
/// # Errors
/// The first that it does not know or take, by name.
pub(super) fn verify(settings: &KafkaSettings) -> Result<(), KafkaError> {
    config(settings).create_native_config().map(drop).map_err(|error| client_error(settings, error))
}

fn config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings.all_properties() {
        config.set(name, value);
    }
    if settings.together().is_some() {
        // Otherwise it chooses for messages without a key itself.
        config.set("sticky.partitioning.linger.ms", "0");
    }
    config
}

fn client_error(settings: &KafkaSettings, error: ClientError) -> KafkaError {
    match error {
        // The description has the value, which may be a secret.
        ClientError::ClientConfig(result, _, property, _) => KafkaError::Property {
            property,
            unknown: result == rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
        },
        ClientError::ClientCreation(text) => KafkaError::Client { text: settings.without_secrets(&text) },
        error => KafkaError::Client { text: settings.without_secrets(&error.to_string()) },
    }
}

/// A producer of one life: until its fatal error.
pub(super) struct Producer {
    client: BaseProducer<Listener, Available>,
    listener: Listener,
}

impl Producer {
    /// # Errors
    /// The property that librdkafka does not know or take, by name.
    pub(super) fn new(settings: &KafkaSettings, batching: Batching) -> Result<Self, KafkaError> {
        let mut config = config(settings);
        if batching == Batching::Single {
            config.set("batch.num.messages", "1");
        }
        let listener = Listener::new(settings);
        let client =
            config.create_with_context(listener.clone()).map_err(|error| client_error(settings, error))?;
        Ok(Self { client, listener })
    }

    /// Hands over `message`.
    pub(super) fn send(&self, message: &Message<'_>, stamp: &Stamp<'_>) -> Result<(), NotTaken> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(message.topic, stamp.sequence as usize).payload(message.payload);
        record.key = message.key;
        record.partition = message.partition;
        let mut text = String::with_capacity(80);
        // Writing to a String does not fail.
        let _ = write!(text, "{}:{}:{}", stamp.instance, stamp.epoch, stamp.sequence);
        let header = Header { key: STAMP_HEADER, value: Some(text.as_bytes()) };
        record.headers = Some(OwnedHeaders::new_with_capacity(1).insert(header));
        self.client.send(record).map_err(|(error, _)| match error {
            ClientError::MessageProduction(RDKafkaErrorCode::QueueFull) => NotTaken::QueueFull,
            ClientError::MessageProduction(code) => NotTaken::Failed(code),
            // A topic with a NUL octet.
            _ => NotTaken::Failed(RDKafkaErrorCode::InvalidTopic),
        })
    }

    /// Takes the reports that are there.
    pub(super) fn reports(&self) -> Vec<Report> {
        self.client.poll(Duration::ZERO);
        // Each call serves one event, which may have many reports.
        let mut count = 0;
        for _ in 0..64 {
            let reports = self.listener.heard().reports.len();
            if reports == count {
                break;
            }
            count = reports;
            self.client.poll(Duration::ZERO);
        }
        std::mem::take(&mut self.listener.heard().reports)
    }

    /// What it said of brokers and connections since the last call.
    pub(super) fn errors(&self) -> Vec<Complaint> {
        std::mem::take(&mut self.listener.heard().errors)
    }

    /// Why it will never send again, if that is so.
    pub(super) fn fatal_error(&self) -> Option<Complaint> {
        let (code, text) = self.client.client().fatal_error()?;
        Some(Complaint::new(code, &format!("{code}: {text}")))
    }

    /// Ends it within about half a second; the last reports.
    pub(super) fn end(self) -> Vec<Report> {
        let Self { client, listener } = self;
        drop(client);
        std::mem::take(&mut listener.heard().reports)
    }
}

/// Tells messages apart, also those that came twice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    /// Random number of the spool, or of this run, in hexadecimal.
    pub instance: &'a str,
    pub epoch: u32,
    pub sequence: u64,
}

/// What to do with a message after an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It would fail for ever.
    Lose(KafkaLossReason),
    /// Its batch was refused, perhaps for another one.
    SendAlone,
    /// Until it succeeds or the spool forces it out: the operator may mend the cause.
    SendAgain,
}

/// Judges an error of a delivery report, or of the hand-over. `alone`: the message was a batch of its own.
pub(super) fn judge(code: RDKafkaErrorCode, alone: bool) -> (DeliveryErrorKind, Verdict) {
    use RDKafkaErrorCode as Code;
    let refused = |reason| if alone { Verdict::Lose(reason) } else { Verdict::SendAlone };
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            (DeliveryErrorKind::TooLarge, refused(KafkaLossReason::TooLarge))
        }
        Code::InvalidRecord | Code::InvalidMessage | Code::InvalidTimestamp => {
            (DeliveryErrorKind::Rejected, refused(KafkaLossReason::Rejected))
        }
        Code::InvalidTopic | Code::InvalidArgument => {
            (DeliveryErrorKind::Rejected, Verdict::Lose(KafkaLossReason::Invalid))
        }
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::LeaderNotAvailable => (DeliveryErrorKind::TopicMissing, Verdict::SendAgain),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => (DeliveryErrorKind::NotAuthorized, Verdict::SendAgain),
        Code::Fatal | Code::PurgeQueue | Code::PurgeInflight | Code::BrokerDestroy => {
            (DeliveryErrorKind::ProducerEnded, Verdict::SendAgain)
        }
        _ => (DeliveryErrorKind::Other, Verdict::SendAgain),
    }
}

/// Whether an attempt that ended with `code` may have put the message into the log all the same.
pub(super) fn may_be_persisted(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    !matches!(
        code,
        Code::PurgeQueue
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::MessageSizeTooLarge
            | Code::TopicAuthorizationFailed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are what librdkafka 2.12 says of a certificate for another host.
    #[test]
    fn a_certificate_that_is_not_trusted_is_said_in_one_way() {
        let texts = [
            (
                RDKafkaErrorCode::SSL,
                "ssl://localhost:9094/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify \
                 failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured",
            ),
            (
                RDKafkaErrorCode::BrokerTransportFailure,
                "ssl://localhost:9094/bootstrap: error:0A000086:SSL routines::certificate verify failed (after 5ms in \
                 state SSL_HANDSHAKE)",
            ),
        ];
        let [one, other] = texts.map(|(code, text)| Complaint::new(code, text));
        assert_eq!(one, other);
        assert_eq!(one.kind, ClientErrorKind::Tls);
        let expected =
            "ssl://localhost:9094/bootstrap: the certificate of the broker is not for this host name";
        assert!(one.text.starts_with(expected), "{}", one.text);
    }
}
