//! The process itself is killed while it cannot deliver.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent};

use crate::{
    broker::Broker,
    support::{Folder, Verdict, judge, read, send, settings, wait_for},
};

/// Broker and folder for the process that is to be killed; it is this program again.
const CHILD: &str = "PATHFLOW_KAFKA_CHILD";

/// Sends until it is killed, each message to all of `topics`: 1000, a pause in which all are in the spool, or delivered
/// to all topics but the first, then without end.
fn child(arguments: &str, topics: &[&str]) -> ! {
    let (brokers, folder) = arguments.split_once(' ').expect("two arguments");
    let mut kafka =
        Kafka::start(settings(brokers, Path::new(folder), Durability::Outage)).expect("it starts");
    let send = |kafka: &mut Kafka, number| topics.iter().for_each(|topic| send(kafka, topic, number));
    (0..1000).for_each(|number| send(&mut kafka, number));
    let end = Instant::now() + Duration::from_mins(1);
    let is_there = |kafka: &Kafka| {
        let account = kafka.account();
        // Of a topic that is missing one message may be out to try it.
        account.delivered.records == 1000 * (topics.len() as u64 - 1)
            && account.queued.records == 0
            && if topics.len() == 1 { kafka.counts().spooled >= 1000 } else { account.spooled.records >= 999 }
    };
    while !is_there(&kafka) {
        assert!(Instant::now() < end, "nothing reaches the spool: {:?}", kafka.account());
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 1000_u64.. {
        send(&mut kafka, number);
        let mut out = std::io::stdout().lock();
        // The test reads what was accepted before the end.
        writeln!(out, "\naccepted {}", number + 1).and_then(|()| out.flush()).expect("the test listens");
        drop(out);
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    unreachable!("there are not so many numbers")
}

/// Runs the test `name` as the process that is killed; how many numbers it has sent at least.
fn run_and_kill(name: &str, broker: &Broker, folder: &Folder) -> u64 {
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("kill::{name}"), "--nocapture"])
        .env(CHILD, format!("{} {}", broker.address(), folder.path().display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut accepted = 0;
    let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
    let number_of = |line: &str| line.strip_prefix("accepted ").and_then(|number| number.parse::<u64>().ok());
    while accepted < 5000 {
        let line = lines.next().expect("it has not ended").expect("a line");
        accepted = accepted.max(number_of(&line).unwrap_or(0));
    }
    process.kill().expect("it is killed");
    process.wait().expect("it has ended");
    // What it had said when it died.
    lines.map_while(Result::ok).filter_map(|line| number_of(&line)).fold(accepted, u64::max)
}

/// What the next run says: messages that are lost, those that it is not sure of, and those that it has found.
struct Said {
    lost: u64,
    uncertain: u64,
    recovered: u64,
}

/// Starts again and delivers all.
fn next_run(broker: &Broker, folder: &Folder) -> Said {
    let outage = settings(&broker.address(), folder.path(), Durability::Outage);
    let mut kafka = Kafka::start(outage).expect("it starts");
    let events: Vec<KafkaEvent> = std::iter::from_fn(|| kafka.next_event()).collect();
    let (lost, uncertain) = events
        .iter()
        .find_map(|event| match event {
            KafkaEvent::CrashLoss { messages, uncertain, .. } => Some((*messages, *uncertain)),
            _ => None,
        })
        .unwrap_or_default();
    let recovered = kafka.account().recovered.records;
    assert!(recovered >= 1000, "{recovered} messages were in the spool");
    wait_for(&mut kafka, "all is settled", |account| account.outstanding().records == 0);
    let (account, _) = kafka.close(Instant::now() + Duration::from_secs(30));
    assert_eq!(account.delivered.records, recovered);
    // What those stand for that waited in the queue is not known.
    assert!(account.lost_by_crash.records <= lost, "{account:?}");
    assert!(uncertain <= 100, "{lost} lost and {uncertain} more");
    Said { lost, uncertain, recovered }
}

/// What of the first `accepted` numbers is not in the topic, and what there is in all.
fn missing(broker: &Broker, topic: &str, accepted: u64) -> (u64, Verdict) {
    // The last one may have been accepted without being said.
    let verdict = judge(&read(&broker.address(), topic), accepted + 1);
    (verdict.missing.iter().filter(|number| **number < accepted).count() as u64, verdict)
}

#[test]
fn a_kill_in_an_outage_costs_what_the_next_start_says() {
    if let Ok(arguments) = std::env::var(CHILD) {
        child(&arguments, &["kill"]);
    }
    let mut broker = Broker::start(&[]);
    let folder = Folder::new();
    broker.kill();
    let accepted = run_and_kill("a_kill_in_an_outage_costs_what_the_next_start_says", &broker, &folder);
    broker.start_again();
    let Said { lost, uncertain, recovered } = next_run(&broker, &folder);
    let (missing, verdict) = missing(&broker, "kill", accepted);
    println!(
        "{accepted} accepted, {recovered} recovered, {missing} missing; said: {lost} and up to {uncertain}"
    );
    assert_eq!(verdict.missing.iter().find(|number| **number < 1000), None, "these were in the spool");
    assert!(
        (lost..=lost + uncertain).contains(&missing),
        "{missing} missing, said: {lost} to {}",
        lost + uncertain
    );
    assert_eq!(verdict.out_of_order, 0);
}

/// What waits for a topic is in the spool apart from the blocks that it came in: neither lost nor there twice.
#[test]
fn a_kill_while_a_topic_is_missing_costs_what_the_next_start_says() {
    if let Ok(arguments) = std::env::var(CHILD) {
        child(&arguments, &["kill", "there"]);
    }
    let broker = Broker::start(&["auto.create.topics.enable=false"]);
    let create = |topic: &str| {
        let arguments =
            ["--create", "--topic", topic, "--partitions", "2", "--bootstrap-server", &broker.address()];
        broker.tool("org.apache.kafka.tools.TopicCommand", &arguments);
    };
    create("there");
    let folder = Folder::new();
    let name = "a_kill_while_a_topic_is_missing_costs_what_the_next_start_says";
    let accepted = run_and_kill(name, &broker, &folder);
    create("kill");
    let Said { lost, uncertain, recovered } = next_run(&broker, &folder);
    let (missing_there, _) = missing(&broker, "there", accepted);
    let (missing, verdict) = missing(&broker, "kill", accepted);
    println!(
        "{accepted} accepted, {recovered} recovered, {missing} and {missing_there} missing; said: {lost} and up to \
         {uncertain}"
    );
    assert_eq!(verdict.missing.iter().find(|number| **number < 1000), None, "these were in the spool");
    // Of what was with the producer, some has arrived.
    assert!((..=lost + uncertain).contains(&(missing + missing_there)));
    assert_eq!((verdict.duplicates, verdict.out_of_order), (0, 0));
}
