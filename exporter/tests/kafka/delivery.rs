//! What arrives, when nothing is wrong with the broker.

use std::time::{Duration, Instant};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent, KafkaLossReason, KafkaSettings, Message};

use crate::{
    broker::Broker,
    support::{Folder, ONE, judge, payload, read, send, settings, wait_for},
};

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

#[test]
fn kcat_and_kafkas_own_consumer_read_what_was_sent() {
    let broker = Broker::start(&[]);
    let folder = Folder::new();
    let always = settings(&broker.address(), folder.path(), Durability::Always);
    let mut kafka = Kafka::start(always).expect("it starts");
    (0..5000).for_each(|number| send(&mut kafka, "pmacct.acct", number));
    let (account, events) = kafka.close(soon());
    assert_eq!(account.delivered.records, 5000, "{account:?} {events:?}");
    let found = read(&broker.address(), "pmacct.acct");
    let verdict = judge(&found, 5000);
    assert!(
        verdict.missing.is_empty() && verdict.duplicates == 0 && verdict.out_of_order == 0,
        "{verdict:?}"
    );
    assert_eq!(found.len(), 2, "both partitions have some");
    for (partition, messages) in &found {
        for seen in messages {
            assert_eq!((seen.epoch, seen.sequence % 16), (1, seen.key.parse().expect("a number")));
        }
        let (partition, count) = (partition.to_string(), messages.len().to_string());
        let printed = broker.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            &["--bootstrap-server", &broker.address(), "--topic", "pmacct.acct", "--partition", &partition]
                .into_iter()
                .chain(["--offset", "earliest", "--max-messages", &count, "--timeout-ms", "60000"])
                .collect::<Vec<_>>(),
        );
        let lines: Vec<&str> = printed.lines().filter(|line| line.len() == 300).collect();
        let payloads: Vec<&str> = messages.iter().map(|seen| seen.payload.as_str()).collect();
        assert!(lines == payloads, "Kafka's consumer sees {} messages, kcat {}", lines.len(), payloads.len());
    }
}

#[test]
fn a_topic_that_is_made_later_gets_everything() {
    let broker = Broker::start(&["auto.create.topics.enable=false"]);
    let folder = Folder::new();
    let mut settings = settings(&broker.address(), folder.path(), Durability::Outage);
    settings.properties.push(("topic.metadata.propagation.max.ms".to_owned(), "1000".to_owned()));
    let mut kafka = Kafka::start(settings).expect("it starts");
    (0..2000).for_each(|number| send(&mut kafka, "later", number));
    let end = soon();
    while !matches!(kafka.next_event(), Some(KafkaEvent::DeliveryFailed { .. })) {
        assert!(Instant::now() < end, "nothing was said of the missing topic");
        std::thread::sleep(Duration::from_millis(10));
    }
    let create =
        ["--create", "--topic", "later", "--partitions", "2", "--bootstrap-server", &broker.address()];
    broker.tool("org.apache.kafka.tools.TopicCommand", &create);
    wait_for(&mut kafka, "all are delivered", |account| account.delivered.records == 2000);
    let possible = kafka.counts().possibly_persisted;
    let verdict = judge(&read(&broker.address(), "later"), 2000);
    assert!(verdict.missing.is_empty() && verdict.duplicates <= possible, "{verdict:?}");
}

#[test]
fn a_topic_that_is_missing_holds_back_no_other() {
    let broker = Broker::start(&["auto.create.topics.enable=false"]);
    let create = |topic: &str| {
        let arguments =
            ["--create", "--topic", topic, "--partitions", "2", "--bootstrap-server", &broker.address()];
        broker.tool("org.apache.kafka.tools.TopicCommand", &arguments);
    };
    create("there");
    let folder = Folder::new();
    let settings = || KafkaSettings {
        in_flight_octets: 1 << 20,
        ..settings(&broker.address(), folder.path(), Durability::Outage)
    };
    let both = |kafka: &mut Kafka, numbers: std::ops::Range<u64>| {
        for number in numbers {
            send(kafka, "there", number);
            send(kafka, "missing", number);
        }
    };
    let mut kafka = Kafka::start(settings()).expect("it starts");
    both(&mut kafka, 0..20_000);
    wait_for(&mut kafka, "the other topic has all", |account| account.delivered.records == 20_000);
    let (account, _) = kafka.close(Instant::now() + Duration::from_secs(1));
    assert_eq!((account.spooled.records, account.total_lost().records), (20_000, 0), "{account:?}");
    let mut kafka = Kafka::start(settings()).expect("it starts");
    both(&mut kafka, 20_000..30_000);
    wait_for(&mut kafka, "the other topic has all", |account| account.delivered.records == 10_000);
    let end = soon();
    while !matches!(kafka.next_event(), Some(KafkaEvent::DeliveryFailed { .. })) {
        assert!(Instant::now() < end, "nothing was said of the missing topic");
        std::thread::sleep(Duration::from_millis(10));
    }
    create("missing");
    wait_for(&mut kafka, "all is delivered", |account| account.outstanding().records == 0);
    let possible = kafka.counts().possibly_persisted;
    let (account, events) = kafka.close(soon());
    assert_eq!((account.delivered.records, account.recovered.records), (40_000, 20_000), "{account:?}");
    let works = |event: &KafkaEvent| matches!(event, KafkaEvent::TopicWorks { .. });
    assert!(events.iter().any(works), "{events:?}");
    for topic in ["there", "missing"] {
        let verdict = judge(&read(&broker.address(), topic), 30_000);
        assert!(verdict.missing.is_empty() && verdict.duplicates <= possible, "{topic}: {verdict:?}");
        assert_eq!(verdict.out_of_order, 0, "{topic}");
    }
}

/// The broker, not the producer, finds the message too large, and refuses all that are in one batch with it.
#[test]
fn a_message_that_the_broker_finds_too_large_is_lost_alone() {
    let broker = Broker::start(&["message.max.bytes=3000"]);
    let mut settings = KafkaSettings::new(broker.address());
    settings.properties.push(("compression.codec".to_owned(), "none".to_owned()));
    let mut kafka = Kafka::start(settings).expect("it starts");
    (0..100).for_each(|number| send(&mut kafka, "small", number));
    let large = payload(0).repeat(20);
    let message = Message { topic: "small", partition: None, key: Some(b"3"), payload: &large, tally: ONE };
    kafka.send(&message).expect("there is room");
    (100..200).for_each(|number| send(&mut kafka, "small", number));
    let (account, events) = kafka.close(soon());
    assert_eq!(account.delivered.records, 200, "{account:?} {events:?}");
    assert_eq!(account.lost(KafkaLossReason::TooLarge), ONE);
    let verdict = judge(&read(&broker.address(), "small"), 200);
    assert!(verdict.missing.is_empty() && verdict.duplicates == 0, "{verdict:?}");
}
