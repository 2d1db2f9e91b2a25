//! A node of two that is lost under load, and with it the leader of partitions.

use std::time::{Duration, Instant};

use pathflow_exporter::kafka::{Durability, Kafka};

use crate::{
    broker::Broker,
    support::{Folder, judge, load, read, send, settings, wait_for},
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

#[test]
fn another_leader_gets_everything_once_and_in_order() {
    let [one, mut other] = Broker::start_two();
    wait_until("both nodes are there", || one.metadata(None).contains("2 brokers"));
    one.make_topic("load", "1:2,2:1,2:1");
    wait_until("it has leaders", || leaders(&one, "load") == ["1", "2", "2"]);
    let folder = Folder::new();
    let brokers = format!("{},{}", one.address(), other.address());
    let mut kafka = Kafka::start(settings(&brokers, folder.path(), Durability::Outage)).expect("it starts");
    let mut next = 0;
    load(&mut kafka, &mut next, Duration::from_secs(1));
    wait_for(&mut kafka, "some are delivered", |account| account.delivered.records > 1000);
    other.kill();
    load(&mut kafka, &mut next, Duration::from_secs(1));
    wait_until("there is another leader", || {
        load(&mut kafka, &mut next, Duration::from_millis(100));
        leaders(&one, "load") == ["1", "1", "1"]
    });
    load(&mut kafka, &mut next, Duration::from_secs(1));
    wait_for(&mut kafka, "all is settled", |account| account.outstanding().records == 0);
    other.start_again();
    load(&mut kafka, &mut next, Duration::from_secs(1));
    send(&mut kafka, "load", next);
    next += 1;
    wait_for(&mut kafka, "all is settled", |account| account.outstanding().records == 0);
    let counts = kafka.counts();
    let (account, _) = kafka.close(Instant::now() + Duration::from_secs(30));
    assert_eq!(account.accepted.records, next);
    let verdict = judge(&read(&brokers, "load"), next);
    println!("{next} messages, {counts:?}, {verdict:?}");
    assert_eq!(verdict.missing.len() as u64, account.total_lost().records);
    assert_eq!((verdict.duplicates, verdict.out_of_order), (0, 0), "{counts:?}");
    assert_eq!(account.total_lost().records, 0, "{account:?}");
}
