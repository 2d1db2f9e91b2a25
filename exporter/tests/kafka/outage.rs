//! A broker that is away under load, in the two ways a broker can be away.

use std::time::{Duration, Instant};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent};

use crate::{
    broker::Broker,
    support::{Folder, judge, load, read, send, settings, wait_for},
};

fn length() -> Duration {
    let seconds = std::env::var("PATHFLOW_KAFKA_OUTAGE").map(|seconds| seconds.parse().expect("seconds"));
    Duration::from_secs(seconds.unwrap_or(4))
}

fn outage(begin: impl Fn(&mut Broker), end: impl Fn(&mut Broker)) {
    let mut broker = Broker::start(&[]);
    let folder = Folder::new();
    let outage = settings(&broker.address(), folder.path(), Durability::Outage);
    let mut kafka = Kafka::start(outage).expect("it starts");
    let mut next = 0;
    load(&mut kafka, &mut next, Duration::from_secs(1));
    wait_for(&mut kafka, "some are delivered", |account| account.delivered.records > 0);
    begin(&mut broker);
    load(&mut kafka, &mut next, length());
    assert!(kafka.counts().spooled > 0, "nothing went to the spool: {:?}", kafka.account());
    let stopped_at = kafka.account().delivered;
    end(&mut broker);
    load(&mut kafka, &mut next, Duration::from_secs(1));
    wait_for(&mut kafka, "all is settled", |account| account.outstanding().records == 0);
    // A fresh message gets through.
    send(&mut kafka, "load", next);
    next += 1;
    wait_for(&mut kafka, "it is delivered", |account| account.outstanding().records == 0);
    let counts = kafka.counts();
    let (account, events) = kafka.close(Instant::now() + Duration::from_secs(30));
    assert_eq!(account.accepted.records, next);
    assert_eq!(account.delivered + account.total_lost(), account.accepted);
    assert!(account.delivered.records > stopped_at.records);
    let told = |event: &KafkaEvent| matches!(event, KafkaEvent::OutageBegan { to_spool: true });
    assert!(events.iter().any(told), "{events:?}");
    let verdict = judge(&read(&broker.address(), "load"), next);
    println!("{next} messages, {counts:?}, {verdict:?}");
    assert_eq!(verdict.missing.len() as u64, account.total_lost().records);
    assert!(verdict.duplicates <= counts.possibly_persisted, "{verdict:?} {counts:?}");
    if counts.resent == 0 {
        assert_eq!(verdict.out_of_order, 0);
    }
}

#[test]
fn a_broker_that_is_killed_and_comes_back_gets_everything() {
    outage(Broker::kill, Broker::start_again);
}

#[test]
fn a_broker_that_freezes_and_thaws_gets_everything() {
    outage(|broker| broker.freeze(), |broker| broker.thaw());
}
