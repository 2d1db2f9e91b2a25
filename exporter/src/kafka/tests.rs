//! Against librdkafka's own imitation of a cluster, which fails on demand.

mod held;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::*;

type Cluster = MockCluster<'static, DefaultProducerContext>;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("{:032x}", u128::from_be_bytes(spool::random()));
        Self(std::env::temp_dir().join(format!("pathflow-kafka-{name}")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn cluster(topic: &str) -> Cluster {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic(topic, 2, 1).expect("a topic");
    cluster
}

fn settings(cluster: &Cluster) -> KafkaSettings {
    KafkaSettings::new(cluster.bootstrap_servers())
}

fn with_spool(cluster: &Cluster, folder: &Folder, durability: Durability) -> KafkaSettings {
    let spool = SpoolSettings { max_octets: SpoolSettings::MIN_SIZE, ..SpoolSettings::new(folder.0.clone()) };
    KafkaSettings {
        durability,
        spool: Some(spool),
        outage_after: Duration::from_millis(200),
        ..settings(cluster)
    }
}

const ONE: Tally = Tally { records: 1, packets: 10, octets: 1000 };

fn send(kafka: &mut Kafka, topic: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let payload = format!("{{\"number\": {number}}}");
        let key = (number % 2).to_string();
        let message = Message {
            topic,
            partition: i32::try_from(number % 2).ok(),
            key: Some(key.as_bytes()),
            payload: payload.as_bytes(),
            tally: ONE,
        };
        kafka.send(&message).expect("there is room");
        assert!(kafka.account().is_balanced());
    }
}

fn wait_for(kafka: &mut Kafka, what: &str, mut condition: impl FnMut(&mut Kafka) -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition(kafka) {
        assert!(kafka.account().is_balanced(), "{:?}", kafka.account());
        assert!(Instant::now() < end, "{what}: {:?} {:?}", kafka.account(), kafka.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A busy machine must not fail a test.
fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// Payloads and stamps by partition, in order, of `count` messages and of what comes within a moment after them.
fn consume(cluster: &Cluster, topic: &str, count: usize) -> BTreeMap<i32, Vec<(String, String)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "test")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a consumer");
    let mut partitions = rdkafka::TopicPartitionList::new();
    for partition in 0..2 {
        partitions.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).expect("a partition");
    }
    consumer.assign(&partitions).expect("assigned");
    let mut found: BTreeMap<i32, Vec<(String, String)>> = BTreeMap::new();
    let mut total = 0;
    let end = soon();
    while Instant::now() < end {
        let wait = if total < count { Duration::from_secs(1) } else { Duration::from_millis(300) };
        let Some(message) = consumer.poll(wait) else {
            if total >= count {
                break;
            }
            continue;
        };
        let message = message.expect("a message");
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let headers = message.headers().expect("headers");
        let stamp = headers.iter().find(|header| header.key == STAMP_HEADER).expect("a stamp");
        let entry = (text(message.payload().expect("a payload")), text(stamp.value.expect("a value")));
        found.entry(message.partition()).or_default().push(entry);
        total += 1;
    }
    found
}

/// Number in the payload and sequence number in the stamp of every message.
fn numbers(found: &BTreeMap<i32, Vec<(String, String)>>) -> Vec<(u64, u64)> {
    let number =
        |payload: &str| payload.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    let sequence =
        |stamp: &str| stamp.rsplit(':').next().and_then(|number| number.parse().ok()).expect("a number");
    let mut numbers: Vec<(u64, u64)> =
        found.values().flatten().map(|(payload, stamp)| (number(payload), sequence(stamp))).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn messages_arrive_with_key_partition_and_stamp_in_order() {
    let cluster = cluster("flows");
    let mut kafka = Kafka::start(settings(&cluster)).expect("it starts");
    send(&mut kafka, "flows", 0..3000);
    let (account, _) = kafka.close(soon());
    assert_eq!(account.delivered.records, 3000);
    assert_eq!(account.delivered.octets, 3_000_000);
    assert!(account.is_balanced());
    let found = consume(&cluster, "flows", 3000);
    assert_eq!(numbers(&found), (0..3000).map(|number| (number, number)).collect::<Vec<_>>());
    for messages in found.values() {
        assert_eq!(messages.len(), 1500);
        let instance = messages[0].1.split(':').next();
        assert!(instance.is_some_and(|instance| instance.len() == 32));
        let sequences: Vec<u64> = messages
            .iter()
            .map(|(_, stamp)| stamp.rsplit(':').next().expect("three parts").parse().expect("a number"))
            .collect();
        assert!(sequences.is_sorted());
        assert!(messages.iter().all(|(_, stamp)| stamp.split(':').next() == instance));
    }
}

#[test]
fn a_bad_property_is_named_and_its_value_is_not() {
    let with = |name: &str, value: &str| KafkaSettings {
        properties: vec![(name.to_owned(), value.to_owned())],
        ..KafkaSettings::new("127.0.0.1:9")
    };
    let error = Kafka::start(with("queue.bufering.max.ms", "1")).expect_err("it is unknown");
    assert!(error.to_string().contains("queue.bufering.max.ms"), "{error}");
    let error = Kafka::start(with("linger.ms", "canary")).expect_err("it is no number");
    assert!(error.to_string().contains("linger.ms"), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
    let mut no_key = with("ssl.key.pem", "canary");
    no_key.properties.push(("security.protocol".to_owned(), "ssl".to_owned()));
    let error = Kafka::start(no_key).expect_err("it is no key");
    assert!(!error.to_string().contains("canary"), "{error}");
    let error = Kafka::start(with("acks", "1")).expect_err("it is reserved");
    assert!(error.to_string().contains("acks"), "{error}");
}

#[test]
fn passing_errors_of_the_broker_cost_nothing_and_double_nothing() {
    let cluster = cluster("flows");
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        ],
    );
    let mut kafka = Kafka::start(settings(&cluster)).expect("it starts");
    send(&mut kafka, "flows", 0..2000);
    let (account, _) = kafka.close(soon());
    assert_eq!(account.delivered.records, 2000);
    let found = numbers(&consume(&cluster, "flows", 2000));
    assert_eq!(found.len(), 2000);
}

/// Refused as a batch, each message is sent alone; what the broker refuses then is lost, and nothing else.
#[test]
fn a_message_that_is_too_large_goes_and_the_others_stay() {
    let cluster = cluster("flows");
    let mut settings = settings(&cluster);
    settings.properties.push(("message.max.bytes".to_owned(), "2000".to_owned()));
    let mut kafka = Kafka::start(settings).expect("it starts");
    send(&mut kafka, "flows", 0..10);
    let large = vec![b'x'; 5000];
    let message = Message { topic: "flows", partition: None, key: Some(b"big"), payload: &large, tally: ONE };
    kafka.send(&message).expect("there is room");
    send(&mut kafka, "flows", 10..20);
    let (account, events) = kafka.close(soon());
    assert_eq!(account.delivered.records, 20);
    assert_eq!(account.lost(KafkaLossReason::TooLarge), ONE);
    let lost = events.iter().find_map(|event| match event {
        KafkaEvent::MessageLost { reason, topic, key, octets } => {
            Some((*reason, topic.as_str(), key.as_str(), *octets))
        }
        _ => None,
    });
    assert_eq!(lost, Some((KafkaLossReason::TooLarge, "flows", "big", 5000)));
}

#[test]
fn a_batch_that_the_broker_refuses_for_its_size_is_sent_one_by_one() {
    let cluster = cluster("flows");
    let mut kafka = Kafka::start(settings(&cluster)).expect("it starts");
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    // Two batches: of each partition one.
    cluster.request_errors(RDKafkaApiKey::Produce, &[error, error]);
    send(&mut kafka, "flows", 0..100);
    let (account, _) = kafka.close(soon());
    assert_eq!(account.delivered.records, 100, "{account:?}");
    let found = numbers(&consume(&cluster, "flows", 100));
    assert_eq!(found, (0..100).map(|number| (number, number)).collect::<Vec<_>>());
}

/// The producer cannot go on after it; another takes its place, and sends again what was not confirmed.
#[test]
fn after_a_fatal_error_another_producer_sends_the_rest() {
    let cluster = cluster("flows");
    let mut kafka = Kafka::start(settings(&cluster)).expect("it starts");
    send(&mut kafka, "flows", 0..100);
    wait_for(&mut kafka, "the first are delivered", |kafka| kafka.account().delivered.records == 100);
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
        ],
    );
    send(&mut kafka, "flows", 100..200);
    wait_for(&mut kafka, "there is another", |kafka| kafka.counts().producers_recreated > 0);
    send(&mut kafka, "flows", 200..300);
    let counts = kafka.counts();
    let (account, events) = kafka.close(soon());
    assert_eq!(account.delivered.records, 300, "{account:?}");
    let epoch = events.iter().find_map(|event| match event {
        KafkaEvent::ProducerRecreated { epoch, .. } => Some(*epoch),
        _ => None,
    });
    let found = consume(&cluster, "flows", 300);
    let epochs: std::collections::BTreeSet<&str> =
        found.values().flatten().filter_map(|(_, stamp)| stamp.split(':').nth(1)).collect();
    assert!(
        epochs.contains("1") && epoch.is_some_and(|epoch| epochs.contains(epoch.to_string().as_str())),
        "{epochs:?}"
    );
    let mut times: HashMap<u64, u64> = HashMap::new();
    for (_, sequence) in numbers(&found) {
        *times.entry(sequence).or_default() += 1;
    }
    assert_eq!(times.len(), 300);
    let duplicates: u64 = times.values().map(|times| times - 1).sum();
    assert!(duplicates <= counts.possibly_persisted, "{duplicates} {counts:?}");
}

#[test]
fn a_missing_topic_is_waited_for() {
    let cluster = cluster("flows");
    let mut settings = settings(&cluster);
    settings.properties.push(("topic.metadata.propagation.max.ms".to_owned(), "500".to_owned()));
    settings.properties.push(("allow.auto.create.topics".to_owned(), "false".to_owned()));
    cluster
        .topic_error("later", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        .expect("an error for the topic");
    let mut kafka = Kafka::start(settings).expect("it starts");
    send(&mut kafka, "later", 0..100);
    send(&mut kafka, "flows", 0..100);
    wait_for(&mut kafka, "the others are delivered", |kafka| kafka.account().delivered.records == 100);
    wait_for(&mut kafka, "it is tried", |kafka| {
        kafka.counts().errors[DeliveryErrorKind::TopicMissing as usize] > 0
    });
    cluster.topic_error("later", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).expect("it exists");
    wait_for(&mut kafka, "all are delivered", |kafka| kafka.account().delivered.records == 200);
    let (account, events) = kafka.close(soon());
    assert_eq!(account.total_lost(), Tally::ZERO);
    let told = events.iter().filter(|event| {
        matches!(event, KafkaEvent::DeliveryFailed { kind: DeliveryErrorKind::TopicMissing, topic, .. } if topic == "later")
    });
    assert_eq!(told.count(), 1);
}

#[test]
fn in_an_outage_messages_go_to_the_spool_and_leave_it_in_order() {
    let folder = Folder::new();
    let cluster = cluster("flows");
    // Late is late, also where only the machine is slow: an hour is not.
    let patient = KafkaSettings {
        outage_after: Duration::from_hours(1),
        ..with_spool(&cluster, &folder, Durability::Outage)
    };
    let mut kafka = Kafka::start(patient).expect("it starts");
    send(&mut kafka, "flows", 0..500);
    wait_for(&mut kafka, "the first are delivered", |kafka| kafka.account().delivered.records == 500);
    assert_eq!(kafka.counts().spooled, 0, "nothing is on disk without an outage");
    drop(kafka);
    let mut kafka = Kafka::start(with_spool(&cluster, &folder, Durability::Outage)).expect("it starts");
    cluster.broker_down(1).expect("it is down");
    send(&mut kafka, "flows", 500..1000);
    wait_for(&mut kafka, "there is an outage", |kafka| kafka.is_in_outage() && kafka.counts().spooled >= 500);
    send(&mut kafka, "flows", 1000..2000);
    wait_for(&mut kafka, "all is on disk", |kafka| kafka.counts().spooled == 1500);
    cluster.broker_up(1).expect("it is up");
    wait_for(&mut kafka, "all is delivered", |kafka| kafka.account().delivered.records == 1500);
    send(&mut kafka, "flows", 2000..2100);
    // Not at the end: what is not confirmed for ten seconds there is left to the spool, and a machine can be so busy.
    wait_for(&mut kafka, "the last are delivered", |kafka| kafka.account().delivered.records == 1600);
    let (account, events) = kafka.close(soon());
    assert_eq!((account.delivered.records, account.spooled.records), (1600, 0), "{account:?} {events:?}");
    assert!(events.contains(&KafkaEvent::OutageBegan { to_spool: true }));
    assert!(events.iter().any(|event| matches!(event, KafkaEvent::OutageEnded { .. })));
    let found = consume(&cluster, "flows", 2100);
    assert_eq!(numbers(&found), (0..2100).map(|number| (number, number)).collect::<Vec<_>>());
    for messages in found.values() {
        let sequences: Vec<u64> = messages
            .iter()
            .map(|(_, stamp)| stamp.rsplit(':').next().expect("three parts").parse().expect("a number"))
            .collect();
        assert!(sequences.is_sorted(), "partitions are in order");
    }
}

#[test]
fn what_is_left_at_the_end_comes_with_the_next_start() {
    for durability in [Durability::Outage, Durability::Always] {
        let folder = Folder::new();
        let cluster = cluster("flows");
        cluster.broker_down(1).expect("it is down");
        let mut kafka = Kafka::start(with_spool(&cluster, &folder, durability)).expect("it starts");
        send(&mut kafka, "flows", 0..1000);
        let (account, _) = kafka.close(Instant::now() + Duration::from_millis(300));
        assert_eq!(account.spooled.records, 1000, "{durability:?}: {account:?}");
        assert!(account.is_balanced());
        cluster.broker_up(1).expect("it is up");
        let mut kafka = Kafka::start(with_spool(&cluster, &folder, durability)).expect("it starts");
        assert_eq!(kafka.account().recovered.records, 1000);
        let recovered = KafkaEvent::SpoolRecovered { messages: 1000, tally: account.spooled };
        assert_eq!(kafka.next_event(), Some(recovered));
        send(&mut kafka, "flows", 1000..1500);
        let (account, events) = kafka.close(soon());
        assert_eq!(account.delivered.records, 1500, "{durability:?}: {account:?}");
        assert_eq!(account.lost_by_crash, Tally::ZERO);
        assert!(!events.iter().any(|event| matches!(event, KafkaEvent::CrashLoss { .. })), "{events:?}");
        let found = consume(&cluster, "flows", 1500);
        assert_eq!(numbers(&found), (0..1500).map(|number| (number, number)).collect::<Vec<_>>());
    }
}

#[test]
fn without_a_spool_the_queue_refuses_and_the_end_counts() {
    let cluster = cluster("flows");
    cluster.broker_down(1).expect("it is down");
    let settings = KafkaSettings { queue_octets: 100_000, in_flight_octets: 100_000, ..settings(&cluster) };
    let mut kafka = Kafka::start(settings).expect("it starts");
    let payload = vec![b'x'; 1000];
    let message = Message { topic: "flows", partition: None, key: None, payload: &payload, tally: ONE };
    let end = Instant::now() + Duration::from_secs(20);
    let mut accepted = 0;
    let mut refused_in_a_row = 0;
    while refused_in_a_row < 100 {
        match kafka.send(&message) {
            Ok(()) => (accepted, refused_in_a_row) = (accepted + 1, 0),
            Err(refused) => {
                assert_eq!(refused, Refused::QueueFull);
                assert!(!kafka.has_room() || accepted == 0 || kafka.send(&message).is_err());
                refused_in_a_row += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(Instant::now() < end, "it accepts without end");
        assert!(kafka.account().is_balanced());
    }
    let (account, _) = kafka.close(Instant::now());
    assert_eq!(account.accepted.records, accepted);
    assert_eq!(account.lost(KafkaLossReason::Unsent).records, accepted);
}

#[test]
fn a_full_spool_forces_out_its_oldest() {
    let folder = Folder::new();
    let cluster = cluster("flows");
    cluster.broker_down(1).expect("it is down");
    let settings =
        KafkaSettings { in_flight_octets: 500_000, ..with_spool(&cluster, &folder, Durability::Outage) };
    let mut kafka = Kafka::start(settings).expect("it starts");
    let total = 12_000;
    for number in 0..total {
        // Nothing that LZ4 could make smaller.
        let mut state = number + 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(1000)
        .collect();
        let message = Message { topic: "flows", partition: Some(0), key: None, payload: &noise, tally: ONE };
        wait_for(&mut kafka, "there is room", |kafka| kafka.has_room());
        kafka.send(&message).expect("there is room");
    }
    wait_for(&mut kafka, "nothing is queued", |kafka| {
        kafka.account().queued.records == 0
            || kafka.is_in_outage()
                && kafka.account().spooled.records > 0
                && kafka.account().queued.records < 600
    });
    cluster.broker_up(1).expect("it is up");
    wait_for(&mut kafka, "the rest is delivered", |kafka| {
        kafka.account().delivered + kafka.account().total_lost() == kafka.account().accepted
    });
    let counts = kafka.counts();
    let (account, events) = kafka.close(soon());
    assert_eq!(account.accepted.records, total);
    let lost = account.lost(KafkaLossReason::SpoolBound).records;
    assert!(lost > 0 && lost < total, "{account:?}");
    assert_eq!(account.delivered.records + lost, total);
    assert_eq!(counts.lost, lost);
    assert!(events.contains(&KafkaEvent::SpoolFull));
    let found = consume(&cluster, "flows", account.delivered.records as usize);
    let mut sequences: Vec<u64> = found
        .values()
        .flatten()
        .map(|(_, stamp)| stamp.rsplit(':').next().expect("three parts").parse().expect("a number"))
        .collect();
    assert!(sequences.is_sorted());
    sequences.dedup();
    assert_eq!(sequences.len() as u64, total - lost);
    assert!(sequences.contains(&(total - 1)), "the newest is kept");
}

#[test]
fn a_full_queue_is_waited_for_until_there_is_room() {
    let cluster = cluster("flows");
    cluster.broker_down(1).expect("it is down");
    let settings = KafkaSettings { queue_octets: 100_000, in_flight_octets: 100_000, ..settings(&cluster) };
    let mut kafka = Kafka::start(settings).expect("it starts");
    let payload = vec![b'x'; 1000];
    let message = Message { topic: "flows", partition: None, key: None, payload: &payload, tally: ONE };
    let mut accepted = 0;
    let wait = Duration::from_millis(200);
    while kafka.send_before(&message, Instant::now() + wait).is_ok() {
        accepted += 1;
        assert!(accepted < 2000, "it accepts without end");
    }
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| kafka.send_before(&message, soon()));
        std::thread::sleep(wait);
        cluster.broker_up(1).expect("it is up");
        assert_eq!(sender.join().expect("no panic"), Ok(()), "there is room in the end");
    });
    let (account, _) = kafka.close(soon());
    assert_eq!(account.delivered.records, accepted + 1, "{account:?}");
}

#[test]
fn names_that_no_topic_can_have_are_refused() {
    let cluster = cluster("flows");
    let mut kafka = Kafka::start(settings(&cluster)).expect("it starts");
    for topic in ["", ".", "..", "a b", "a\0b", "a/b", &"x".repeat(250)] {
        let message = Message { topic, partition: None, key: None, payload: b"", tally: ONE };
        assert_eq!(kafka.send(&message), Err(Refused::InvalidTopic), "{topic:?}");
    }
    assert_eq!(kafka.account().accepted, Tally::ZERO);
}
