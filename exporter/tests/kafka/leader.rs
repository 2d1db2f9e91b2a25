//! A node of two that is lost under load, and with it the leader of partitions; and which partition a message is for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent, KafkaSettings, Message};

use crate::{
    broker::Broker,
    support::{Folder, ONE, judge, payload, read, send, settings, wait_for},
};

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Leaders of the partitions of a topic, as the first node has them.
fn leaders(node: &Broker, topic: &str) -> Vec<String> {
    let metadata = node.metadata(Some(topic));
    let leader = |line: &str| Some(line.split_once(", leader ")?.1.split(',').next()?.to_owned());
    metadata.lines().filter_map(leader).collect()
}

/// What was sent so far: to a topic that both nodes have, and to one that only the lost one has.
#[derive(Clone, Copy, Default)]
struct Sent {
    both: u64,
    single: u64,
}

impl Sent {
    fn load(&mut self, kafka: &mut Kafka, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for _ in 0..100 {
                send(kafka, "both", self.both);
                self.both += 1;
                if self.both.is_multiple_of(4) {
                    send(kafka, "single", self.single);
                    self.single += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Of one topic another leader gets everything, once and in order; the other one has none for a while, and holds back
/// nothing.
#[test]
fn a_node_that_is_lost_costs_and_doubles_nothing_and_holds_back_no_other_topic() {
    let [one, mut other] = Broker::start_two();
    wait_until("both nodes are there", || one.metadata(None).contains("2 brokers"));
    one.make_topic("both", "1:2,2:1,2:1");
    one.make_topic("single", "2");
    wait_until("they have leaders", || {
        leaders(&one, "both") == ["1", "2", "2"] && leaders(&one, "single") == ["2"]
    });
    let folder = Folder::new();
    let brokers = format!("{},{}", one.address(), other.address());
    // A tenth of a second of it.
    let settings =
        KafkaSettings { in_flight_octets: 300_000, ..settings(&brokers, folder.path(), Durability::Outage) };
    let mut kafka = Kafka::start(settings).expect("it starts");
    let mut sent = Sent::default();
    sent.load(&mut kafka, Duration::from_secs(1));
    wait_for(&mut kafka, "all are delivered", |account| account.outstanding().records == 0);
    let before = sent;
    other.kill();
    wait_until("there is another leader", || {
        sent.load(&mut kafka, Duration::from_millis(100));
        leaders(&one, "both") == ["1", "1", "1"]
    });
    sent.load(&mut kafka, Duration::from_secs(1));
    let expected = sent.both + before.single;
    wait_for(&mut kafka, "the topic of both is delivered", |account| account.delivered.records == expected);
    other.start_again();
    sent.load(&mut kafka, Duration::from_secs(1));
    wait_for(&mut kafka, "all is settled", |account| account.outstanding().records == 0);
    let counts = kafka.counts();
    let (account, events) = kafka.close(Instant::now() + Duration::from_secs(30));
    assert_eq!(account.accepted.records, sent.both + sent.single);
    assert_eq!(account.total_lost().records, 0, "{account:?}");
    let is_told = |event: &KafkaEvent| matches!(event, KafkaEvent::TopicStuck { topic } if topic == "single");
    assert!(events.iter().any(is_told), "{events:?}");
    for (topic, count) in [("both", sent.both), ("single", sent.single)] {
        let verdict = judge(&read(&brokers, topic), count);
        println!("{topic}: {count} messages, {counts:?}, {verdict:?}");
        assert!(verdict.missing.is_empty(), "{topic}: {verdict:?}");
        assert_eq!((verdict.duplicates, verdict.out_of_order), (0, 0), "{topic}: {counts:?}");
    }
}

/// As [`Sent::load`], without keys, to one topic.
fn load_without_keys(kafka: &mut Kafka, next: &mut u64, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for _ in 0..20 {
            let payload = payload(*next);
            let message =
                Message { topic: "three", partition: None, key: None, payload: &payload, tally: ONE };
            kafka.send(&message).expect("there is room");
            *next += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Messages without a key go to the partitions that have a leader: nothing more waits for the one that has none.
#[test]
fn messages_without_a_key_go_to_partitions_with_a_leader() {
    let [one, mut other] = Broker::start_two();
    wait_until("both nodes are there", || one.metadata(None).contains("2 brokers"));
    one.make_topic("three", "1,2,1");
    wait_until("it has leaders", || leaders(&one, "three") == ["1", "2", "1"]);
    let folder = Folder::new();
    let brokers = format!("{},{}", one.address(), other.address());
    let mut kafka = Kafka::start(settings(&brokers, folder.path(), Durability::Outage)).expect("it starts");
    let mut sent = 0;
    load_without_keys(&mut kafka, &mut sent, Duration::from_secs(2));
    wait_for(&mut kafka, "all are delivered", |account| account.outstanding().records == 0);
    assert!(read(&brokers, "three").values().all(|partition| !partition.is_empty()));
    other.kill();
    wait_until("a partition has no leader", || leaders(&one, "three") == ["1", "-1", "1"]);
    // What the producer had for it until it knew stays with it. From then on nothing more does.
    let waiting = |kafka: &mut Kafka| kafka.account().outstanding().records;
    let mut known = None;
    wait_until("the producer knows", || {
        let before = waiting(&mut kafka);
        load_without_keys(&mut kafka, &mut sent, Duration::from_millis(300));
        std::thread::sleep(Duration::from_secs(1));
        known = Some(waiting(&mut kafka)).filter(|after| *after <= before);
        known.is_some()
    });
    let held = known.expect("it is known");
    load_without_keys(&mut kafka, &mut sent, Duration::from_secs(10));
    wait_for(&mut kafka, "all others are delivered", |account| account.outstanding().records <= held);
    println!("{held} of {sent} messages wait for the partition without a leader");
    other.start_again();
    wait_for(&mut kafka, "all is settled", |account| account.outstanding().records == 0);
    let (account, events) = kafka.close(Instant::now() + Duration::from_secs(30));
    assert_eq!((account.accepted.records, account.total_lost().records), (sent, 0), "{account:?} {events:?}");
    let verdict = judge(&read(&brokers, "three"), sent);
    assert!(verdict.missing.is_empty(), "{verdict:?}");
    assert_eq!((verdict.duplicates, verdict.out_of_order), (0, 0));
}

/// Whether pathflow chooses the partition of a key, or librdkafka does, as it is told to here.
#[test]
fn a_key_has_the_partition_that_it_has_with_librdkafka() {
    let one = Broker::start(&[]);
    let folder = Folder::new();
    let mut found = Vec::new();
    for (topic, partitioner) in [("ours", None), ("theirs", Some("consistent_random"))] {
        one.make_topic(topic, "1,1,1,1,1,1,1");
        let mut settings = settings(&one.address(), &folder.path().join(topic), Durability::Memory);
        settings.properties.extend(partitioner.map(|name| ("partitioner".to_owned(), name.to_owned())));
        let mut kafka = Kafka::start(settings).expect("it starts");
        for number in 0..200 {
            let (payload, key) = (payload(number), format!("key-{number}"));
            let key = Some(key.as_bytes());
            kafka
                .send(&Message { topic, partition: None, key, payload: &payload, tally: ONE })
                .expect("there is room");
        }
        let (account, events) = kafka.close(Instant::now() + Duration::from_mins(1));
        assert_eq!(account.delivered.records, 200, "{account:?} {events:?}");
        let mut partitions = BTreeMap::new();
        for (partition, messages) in read(&one.address(), topic) {
            partitions.extend(messages.into_iter().map(|seen| (seen.payload, partition)));
        }
        assert_eq!(partitions.len(), 200);
        found.push(partitions);
    }
    assert_eq!(found[0], found[1]);
}
