//! A node of two that is lost under load, and with it the leader of partitions.

use std::time::{Duration, Instant};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent, KafkaSettings};

use crate::{
    broker::Broker,
    support::{Folder, judge, read, send, settings, wait_for},
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
