//! Topics that take nothing, beside others that do.

use super::*;

const MISSING: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
const FORBIDDEN: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
const FINE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Messages for each topic.
const COUNT: u64 = 8000;

fn with_topics(errors: &[(&str, RDKafkaRespErr)]) -> Cluster {
    let cluster = cluster("flows");
    for (topic, error) in errors {
        cluster.create_topic(topic, 2, 1).expect("a topic");
        cluster.topic_error(topic, *error).expect("an error for the topic");
    }
    cluster
}

fn quick(mut settings: KafkaSettings) -> KafkaSettings {
    settings.properties.push(("topic.metadata.propagation.max.ms".to_owned(), "300".to_owned()));
    settings.properties.push(("allow.auto.create.topics".to_owned(), "false".to_owned()));
    settings
}

/// Sends each number to each topic, of 300 octets or more, when there is room.
fn send_to(kafka: &mut Kafka, topics: &[&str], numbers: std::ops::Range<u64>) {
    for number in numbers {
        let payload = format!("{{\"number\": {number:0300}}}");
        for topic in topics {
            let partition = i32::try_from(number % 2).ok();
            let message = Message { topic, partition, key: None, payload: payload.as_bytes(), tally: ONE };
            wait_for(kafka, "there is room", |kafka| kafka.has_room());
            kafka.send(&message).expect("there is room");
        }
    }
}

/// Numbers of a topic by partition, without copies; fails if they are out of order.
fn in_order(cluster: &Cluster, topic: &str, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    for messages in consume(cluster, topic, count).into_values() {
        let mut seen = std::collections::HashSet::new();
        let of_partition = BTreeMap::from([(0, messages)]);
        let messages =
            of_partition[&0].iter().map(|entry| numbers(&BTreeMap::from([(0, vec![entry.clone()])]))[0]);
        let firsts: Vec<(u64, u64)> = messages.filter(|(number, _)| seen.insert(*number)).collect();
        assert!(firsts.is_sorted_by_key(|(number, _)| *number), "{topic}: {firsts:?}");
        assert!(firsts.is_sorted_by_key(|(_, sequence)| *sequence), "{topic}: {firsts:?}");
        all.extend(firsts.into_iter().map(|(number, _)| number));
    }
    all.sort_unstable();
    all
}

#[test]
fn topics_that_take_nothing_hold_back_no_other() {
    for durability in [Durability::Memory, Durability::Outage, Durability::Always] {
        let folder = Folder::new();
        let cluster = with_topics(&[("missing", MISSING), ("forbidden", FORBIDDEN)]);
        let mut settings = quick(with_spool(&cluster, &folder, durability));
        // For the other topics it is small: all of this is eight times as much.
        settings.in_flight_octets = 1 << 20;
        if durability == Durability::Memory {
            settings.in_flight_octets = 16 << 20;
        }
        let mut kafka = Kafka::start(settings).expect("it starts");
        send_to(&mut kafka, &["missing", "flows", "forbidden"], 0..COUNT);
        wait_for(&mut kafka, "the others are delivered", |kafka| kafka.account().delivered.records == COUNT);
        wait_for(&mut kafka, "the rest moves aside", |kafka| {
            let account = kafka.account();
            let aside = if durability == Durability::Memory { account.queued } else { account.spooled };
            aside.records >= 2 * COUNT - 2
        });
        assert_eq!(in_order(&cluster, "flows", COUNT as usize), (0..COUNT).collect::<Vec<_>>());
        // One comes back; the other is still away.
        cluster.topic_error("forbidden", FINE).expect("it is allowed");
        send_to(&mut kafka, &["forbidden", "flows"], COUNT..COUNT + 100);
        wait_for(&mut kafka, "it is delivered", |kafka| kafka.account().delivered.records == 2 * COUNT + 200);
        cluster.topic_error("missing", FINE).expect("it exists");
        send_to(&mut kafka, &["missing"], COUNT..COUNT + 100);
        wait_for(&mut kafka, "all is settled", |kafka| kafka.account().outstanding() == Tally::ZERO);
        let (account, events) = kafka.close(soon());
        assert_eq!(account.delivered.records, 3 * (COUNT + 100), "{durability:?}: {account:?} {events:?}");
        assert!(account.is_balanced());
        let told = |topic: &str| {
            let is_it = |event: &&KafkaEvent| match event {
                KafkaEvent::DeliveryFailed { topic: of, .. } | KafkaEvent::TopicWorks { topic: of, .. } => {
                    of == topic
                }
                _ => false,
            };
            events.iter().filter(is_it).count()
        };
        assert_eq!((told("missing"), told("forbidden"), told("flows")), (2, 2, 0), "{events:?}");
        for topic in ["missing", "forbidden"] {
            let found = in_order(&cluster, topic, COUNT as usize + 100);
            assert_eq!(found, (0..COUNT + 100).collect::<Vec<_>>(), "{durability:?} {topic}");
        }
    }
}

#[test]
fn what_waits_for_a_topic_in_memory_has_a_bound_and_the_oldest_go() {
    let cluster = with_topics(&[("missing", MISSING)]);
    let settings = KafkaSettings { in_flight_octets: 1 << 20, ..quick(settings(&cluster)) };
    let mut kafka = Kafka::start(settings).expect("it starts");
    send_to(&mut kafka, &["missing", "flows"], 0..COUNT);
    wait_for(&mut kafka, "the others are delivered", |kafka| kafka.account().delivered.records == COUNT);
    wait_for(&mut kafka, "some are lost", |kafka| kafka.account().queued.records < 2000);
    cluster.topic_error("missing", FINE).expect("it exists");
    wait_for(&mut kafka, "all is settled", |kafka| kafka.account().outstanding() == Tally::ZERO);
    let (account, events) = kafka.close(soon());
    let lost = account.lost(KafkaLossReason::TopicUnavailable).records;
    assert!(lost > 0, "{account:?}");
    assert_eq!(account.delivered.records, 2 * COUNT - lost, "{account:?}");
    assert_eq!(account.total_lost().records, lost);
    assert!(events.iter().any(|event| matches!(event, KafkaEvent::HeldLost { .. })), "{events:?}");
    let found = in_order(&cluster, "missing", (COUNT - lost) as usize);
    assert_eq!(found.len() as u64, COUNT - lost);
    assert_eq!(found.last(), Some(&(COUNT - 1)), "the newest are kept");
}

#[test]
fn a_full_spool_loses_what_waits_for_a_topic_and_nothing_else() {
    let folder = Folder::new();
    let cluster = with_topics(&[("missing", MISSING)]);
    let settings = KafkaSettings {
        in_flight_octets: 1 << 20,
        ..quick(with_spool(&cluster, &folder, Durability::Outage))
    };
    let mut kafka = Kafka::start(settings).expect("it starts");
    let noise = |number: u64| -> Vec<u8> {
        let mut state = number + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..1000).map(|_| next()).collect()
    };
    send_to(&mut kafka, &["missing"], 0..1);
    wait_for(&mut kafka, "it is known", |kafka| {
        matches!(kafka.next_event(), Some(KafkaEvent::DeliveryFailed { .. }))
    });
    for number in 1..COUNT {
        let payload = noise(number);
        if number % 100 == 0 {
            // No faster than the broker.
            wait_for(&mut kafka, "the other topic goes on", |kafka| {
                kafka.account().delivered.records + 500 > number
            });
        }
        for topic in ["missing", "flows"] {
            let message = Message { topic, partition: Some(0), key: None, payload: &payload, tally: ONE };
            wait_for(&mut kafka, "there is room", |kafka| kafka.has_room());
            kafka.send(&message).expect("there is room");
        }
    }
    wait_for(&mut kafka, "the others are delivered", |kafka| kafka.account().delivered.records == COUNT - 1);
    wait_for(&mut kafka, "the rest is aside or lost", |kafka| {
        let account = kafka.account();
        (account.spooled + account.total_lost()).records >= COUNT - 1
    });
    cluster.topic_error("missing", FINE).expect("it exists");
    wait_for(&mut kafka, "all is settled", |kafka| kafka.account().outstanding() == Tally::ZERO);
    let (account, _) = kafka.close(soon());
    let lost = account.lost(KafkaLossReason::TopicUnavailable).records;
    assert!(lost > 0 && lost < COUNT, "{account:?}");
    assert_eq!(account.total_lost().records, lost);
    assert_eq!(account.delivered.records, 2 * COUNT - 1 - lost, "{account:?}");
}

#[test]
fn what_waits_for_a_topic_at_the_end_comes_with_the_next_start() {
    for durability in [Durability::Outage, Durability::Always] {
        let folder = Folder::new();
        let cluster = with_topics(&[("missing", MISSING)]);
        let settings = || quick(with_spool(&cluster, &folder, durability));
        let mut kafka = Kafka::start(settings()).expect("it starts");
        send_to(&mut kafka, &["missing", "flows", "flows"], 0..2500);
        wait_for(&mut kafka, "the others are delivered", |kafka| kafka.account().delivered.records == 5000);
        let (account, _) = kafka.close(Instant::now() + Duration::from_millis(500));
        assert_eq!((account.delivered.records, account.spooled.records), (5000, 2500), "{account:?}");
        // Still away: it waits on.
        let mut kafka = Kafka::start(settings()).expect("it starts");
        assert_eq!(kafka.account().recovered.records, 2500);
        send_to(&mut kafka, &["missing", "flows"], 2500..3000);
        wait_for(&mut kafka, "the others are delivered", |kafka| kafka.account().delivered.records == 500);
        let (account, events) = kafka.close(Instant::now() + Duration::from_millis(500));
        assert_eq!((account.delivered.records, account.spooled.records), (500, 3000), "{account:?}");
        assert!(!events.iter().any(|event| matches!(event, KafkaEvent::CrashLoss { .. })), "{events:?}");
        cluster.topic_error("missing", FINE).expect("it exists");
        // After a power cut it may be as old as can be. No number is given twice all the same.
        std::fs::remove_file(folder.0.join("spool.account")).expect("it is there");
        let mut kafka = Kafka::start(settings()).expect("it starts");
        send_to(&mut kafka, &["missing"], 3000..3100);
        wait_for(&mut kafka, "all is settled", |kafka| kafka.account().outstanding() == Tally::ZERO);
        let (account, events) = kafka.close(soon());
        assert_eq!(account.delivered.records, 3100, "{account:?}");
        assert_eq!(account.lost_by_crash, Tally::ZERO);
        assert!(!events.iter().any(|event| matches!(event, KafkaEvent::CrashLoss { .. })), "{events:?}");
        assert_eq!(in_order(&cluster, "missing", 3100), (0..3100).collect::<Vec<_>>());
        assert_eq!(in_order(&cluster, "flows", 5500), (0..3000).collect::<Vec<_>>());
    }
}

/// librdkafka keeps what is for such a partition, and says nothing of it. Here its leader is a node that is down.
#[test]
fn a_partition_without_a_leader_holds_back_no_other_topic() {
    for durability in [Durability::Memory, Durability::Outage] {
        let folder = Folder::new();
        let cluster = Cluster::new(2).expect("a cluster");
        for topic in ["stuck", "flows"] {
            cluster.create_topic(topic, 2, 1).expect("a topic");
            for partition in 0..2 {
                let leader = if topic == "stuck" { 2 } else { 1 };
                cluster.partition_leader(topic, partition, Some(leader)).expect("a leader");
            }
        }
        let mut settings = quick(with_spool(&cluster, &folder, durability));
        // A quarter of what is sent.
        settings.in_flight_octets = if durability == Durability::Memory { 4 << 20 } else { 1 << 20 };
        let mut kafka = Kafka::start(settings).expect("it starts");
        send_to(&mut kafka, &["stuck", "flows"], 0..100);
        wait_for(&mut kafka, "all are delivered", |kafka| kafka.account().delivered.records == 200);
        cluster.broker_down(2).expect("it is down");
        send_to(&mut kafka, &["stuck", "flows"], 100..COUNT);
        let ended = |kafka: &mut Kafka| kafka.counts().delivered == COUNT + 100;
        wait_for(&mut kafka, "the others are delivered", ended);
        cluster.broker_up(2).expect("it is up");
        send_to(&mut kafka, &["stuck", "flows"], COUNT..COUNT + 100);
        wait_for(&mut kafka, "all is settled", |kafka| kafka.account().outstanding() == Tally::ZERO);
        let (account, events) = kafka.close(soon());
        assert_eq!(account.delivered.records, 2 * (COUNT + 100), "{durability:?}: {account:?} {events:?}");
        assert!(account.is_balanced());
        let is_told =
            |event: &KafkaEvent| matches!(event, KafkaEvent::TopicStuck { topic } if topic == "stuck");
        assert!(events.iter().any(is_told), "{durability:?}: {events:?}");
        for topic in ["stuck", "flows"] {
            let count = COUNT as usize + 100;
            assert_eq!(in_order(&cluster, topic, count), (0..COUNT + 100).collect::<Vec<_>>(), "{topic}");
            let all: usize = consume(&cluster, topic, count).values().map(Vec::len).sum();
            assert_eq!(all, count, "{durability:?} {topic}: nothing comes twice");
        }
    }
}
