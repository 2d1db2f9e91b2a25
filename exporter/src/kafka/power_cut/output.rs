//! The whole output: what it found, what it says of the rest, and what it cannot know.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rdkafka::mocking::MockCluster;

use super::{Call, Fate, Folder, cut_power, say};
use crate::{
    kafka::{
        Durability, Kafka, KafkaEvent, KafkaSettings, Message, SpoolSettings,
        disk::Disk,
        spool::{AccountFile, Read},
    },
    record::Tally,
};

const ONE: Tally = Tally { records: 1, packets: 10, octets: 1000 };

/// Messages that reach the broker, before it goes away.
const DELIVERED: u64 = 1000;

fn settings(folder: &Path, brokers: &str, durability: Durability) -> KafkaSettings {
    let spool =
        SpoolSettings { max_octets: SpoolSettings::MIN_SIZE, ..SpoolSettings::new(folder.join("spool")) };
    KafkaSettings {
        durability,
        spool: Some(spool),
        outage_after: Duration::from_millis(200),
        ..KafkaSettings::new(brokers)
    }
}

/// Delivers some, and goes on without the broker. A pause in that is long enough for a sync.
fn work(folder: &Path, durability: Durability) {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("flows", 2, 1).expect("a topic");
    let mut kafka =
        Kafka::start(settings(folder, &cluster.bootstrap_servers(), durability)).expect("it starts");
    say("started");
    let mut next = 0;
    send(&mut kafka, &mut next, DELIVERED);
    wait_for(&mut kafka, |kafka| kafka.account().delivered.records == DELIVERED);
    cluster.broker_down(1).expect("it is down");
    for _ in 0..2 {
        send(&mut kafka, &mut next, 300);
        wait_for(&mut kafka, |kafka| kafka.counts().spooled >= next - DELIVERED);
        // By the promise a tenth of a second is enough; a busy machine may need more.
        std::thread::sleep(Duration::from_secs(2));
        say(&format!("safe {next}"));
    }
    send(&mut kafka, &mut next, 500);
    say("ends");
}

fn send(kafka: &mut Kafka, next: &mut u64, count: u64) {
    for _ in 0..count {
        let payload = format!("{{\"number\": {next:0200}}}");
        let message =
            Message { topic: "flows", partition: None, key: None, payload: payload.as_bytes(), tally: ONE };
        // Before and after: in between it may be accepted or not.
        say(&format!("sends {next}"));
        kafka.send(&message).expect("there is room");
        *next += 1;
        say(&format!("sent {next}"));
        if next.is_multiple_of(20) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn wait_for(kafka: &mut Kafka, mut condition: impl FnMut(&Kafka) -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition(kafka) {
        assert!(Instant::now() < end, "{:?} {:?}", kafka.account(), kafka.counts());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check(folder: &Folder, fate: Fate, calls: &[Call], durability: Durability) {
    let said = |word: &str| {
        let words = calls.iter().rev().filter_map(|call| match call {
            Call::Said(line) => line.strip_prefix(word),
            _ => None,
        });
        words.clone().next().map(|number| number.trim().parse::<u64>().unwrap_or(0))
    };
    let (safe, sent) = (said("safe ").unwrap_or(0), said("sent ").unwrap_or(0));
    let sends = said("sends ").map_or(0, |number| number + 1);
    let went_down = fate != Fate::Kept;
    if went_down {
        // The machine starts again with another number.
        if let Ok(file) = AccountFile::open(&folder.0.join("spool"))
            && file.marked().is_some()
        {
            file.mark([1; 16]).expect("written");
        }
    }
    let settings = settings(&folder.0, "127.0.0.1:1", durability);
    let when = format!("{fate:?} after {} calls, {sent} sent, {safe} safe", calls.len());
    let found = Disk::open(&settings).unwrap_or_else(|error| panic!("{when}: {error}"));
    let mut events = found.events.iter();
    assert!(
        events.all(|event| !matches!(event, KafkaEvent::SpoolSetAside { .. })),
        "{when}: {:?}",
        found.events
    );

    // In order, without a gap: with the broker some of the first are gone.
    let entries: Vec<_> = found.disk.unsent.iter().collect();
    let first = entries.first().map_or(DELIVERED, |entry| entry.first);
    let mut next = first;
    let spool = found.disk.spool.as_ref().expect("a spool");
    for entry in entries {
        assert_eq!(entry.first, next, "{when}");
        let Read::Block(block) = spool.read(next).expect("no failure") else {
            panic!("{when}: {next} is damaged")
        };
        for index in 0..block.count() {
            let payload = format!("{{\"number\": {next:0200}}}");
            assert_eq!(
                block.message(index).map(|message| message.payload),
                Some(payload.as_bytes()),
                "{when}"
            );
            next += 1;
        }
    }
    assert!(first <= DELIVERED && next <= sends.max(DELIVERED), "{when}: found {first} to {next}");
    assert!(next >= safe, "{when}: found up to {next} only");
    let accepted = found.disk.standing.accepted.messages;
    assert!(next == first || accepted >= next, "{when}: a number would be given twice");

    let told = found.events.iter().find_map(|event| match event {
        KafkaEvent::CrashLoss { messages, uncertain, tally, went_down } => {
            Some((*messages, *uncertain, *tally, *went_down))
        }
        _ => None,
    });
    let has_started = said("started").is_some();
    if went_down && has_started && !told.is_some_and(|(.., went_down)| went_down) {
        assert_eq!((said("ends"), next), (Some(0), sent), "{when}: nothing is said");
    }
    let (lost, uncertain, tally, _) = told.unwrap_or_default();
    assert_eq!(tally, found.lost_by_crash);
    // What those stand for that waited in the queue is not known.
    assert!(tally.records <= lost && tally.octets == 1000 * tally.records, "{when}: {lost} said, {tally:?}");
    if safe > 0 {
        // Nothing is delivered any more: what is not there is lost.
        let missing = sent.max(next) - next..=sends.max(next) - next;
        assert!(lost <= *missing.end(), "{when}: {missing:?} missing, {lost} said");
        if fate == Fate::Kept {
            assert!(
                lost + uncertain >= *missing.start(),
                "{when}: {missing:?} missing, {lost} and {uncertain} said"
            );
        }
    }
}

#[test]
fn a_power_cut_costs_what_was_not_synced_in_an_outage() {
    let name = "kafka::power_cut::output::a_power_cut_costs_what_was_not_synced_in_an_outage";
    let durability = Durability::Outage;
    let check = |folder: &Folder, fate, calls: &[Call]| check(folder, fate, calls, durability);
    cut_power(name, |folder| work(folder, durability), check);
}

#[test]
fn a_power_cut_costs_what_was_not_synced_where_all_goes_to_the_spool() {
    let name = "kafka::power_cut::output::a_power_cut_costs_what_was_not_synced_where_all_goes_to_the_spool";
    let durability = Durability::Always;
    let check = |folder: &Folder, fate, calls: &[Call]| check(folder, fate, calls, durability);
    cut_power(name, |folder| work(folder, durability), check);
}
