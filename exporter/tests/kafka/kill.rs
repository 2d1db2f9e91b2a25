//! The process itself is killed while the broker is away.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent};

use crate::{
    broker::Broker,
    support::{Folder, judge, read, send, settings, wait_for},
};

/// Broker and folder for the process that is to be killed; it is this program again.
const CHILD: &str = "PATHFLOW_KAFKA_CHILD";

/// Sends until it is killed: 1000 messages, a pause in which all of them reach the spool, then without end.
fn child(arguments: &str) -> ! {
    let (brokers, folder) = arguments.split_once(' ').expect("two arguments");
    let mut kafka =
        Kafka::start(settings(brokers, Path::new(folder), Durability::Outage)).expect("it starts");
    (0..1000).for_each(|number| send(&mut kafka, "kill", number));
    let end = Instant::now() + Duration::from_mins(1);
    while kafka.counts().spooled < 1000 {
        assert!(Instant::now() < end, "nothing reaches the spool: {:?}", kafka.account());
        std::thread::sleep(Duration::from_millis(5));
    }
    for number in 1000_u64.. {
        send(&mut kafka, "kill", number);
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

#[test]
fn a_kill_in_an_outage_costs_what_the_next_start_says() {
    if let Ok(arguments) = std::env::var(CHILD) {
        child(&arguments);
    }
    let mut broker = Broker::start(&[]);
    let folder = Folder::new();
    broker.kill();
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "kill::a_kill_in_an_outage_costs_what_the_next_start_says", "--nocapture"])
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
    accepted = lines.map_while(Result::ok).filter_map(|line| number_of(&line)).fold(accepted, u64::max);

    broker.start_again();
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
    assert_eq!(account.lost_by_crash.records, lost);
    // The last one may have been accepted without being said.
    let verdict = judge(&read(&broker.address(), "kill"), accepted + 1);
    let missing = verdict.missing.iter().filter(|number| **number < accepted).count() as u64;
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
