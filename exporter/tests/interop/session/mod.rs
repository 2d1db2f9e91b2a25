//! TCP and TLS: whole messages, a session for each connection, and an account that adds up whatever collectors do.

mod independent;
mod peer;
mod secured;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use pathflow_exporter::{
    ExportEvent, ExportSettings, FlowRecord, LossReason, SendErrorKind, Session, Tally, TcpSettings,
};
use peer::{Exporter, PATIENCE, accept, accept_slowly, messages, numbered, octets};

use crate::decode::Fields;
use crate::expected::expected;
use crate::support::wait_until_closed;

#[test]
fn every_record_arrives_over_tcp_in_full_messages() {
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(local).unwrap();
        let collector = accept(&listener, u64::MAX);
        let mut exporter = Exporter::tcp(listener.local_addr().unwrap());
        let records = numbered(0..20_000);
        exporter.export(&records);
        let account = exporter.close();
        let messages = messages(&collector.join().unwrap());
        let seen: Vec<Fields> = messages.iter().flat_map(|message| message.records.clone()).collect();
        let format = ExportSettings::default().format;
        let sent: Vec<Fields> = records.iter().map(|record| expected(record, format)).collect();
        assert!(seen == sent, "{} of {} records", seen.len(), sent.len());
        assert_eq!(octets(&messages).len(), records.len());
        // Templates alone at once, then data; none of them again.
        assert!(messages[0].records.is_empty());
        assert!(messages.len() < records.len() / 60, "{} messages", messages.len());
        assert_eq!(account.delivered, Tally::of(&records));
        assert_eq!(account.accepted, account.delivered);
    }
}

#[test]
fn templates_are_sent_at_once_and_not_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = accept(&listener, u64::MAX);
    let mut exporter = Exporter::tcp(listener.local_addr().unwrap());
    exporter.until("connected", |exporter| exporter.process.is_ready());
    assert_eq!(exporter.process.counts().messages, 1);
    for _ in 0..200 {
        exporter.now.monotonic += Duration::from_mins(1);
        exporter.process.tick(exporter.now);
    }
    exporter.export(&[crate::support::tcp_flow()]);
    exporter.close();
    let messages = messages(&collector.join().unwrap());
    let templates: Vec<usize> = messages.iter().map(|message| message.template_records).collect();
    assert_eq!(templates, [2, 0]);
}

#[test]
fn a_collector_that_restarts_gets_templates_first_and_nothing_is_lost_or_sent_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut exporter = Exporter::tcp(listener.local_addr().unwrap());
    let lives = [1_000_000, 700_000, u64::MAX];
    let collector = std::thread::spawn(move || lives.map(|limit| accept(&listener, limit).join().unwrap()));
    let connections = |exporter: &Exporter| {
        exporter.events.iter().filter(|event| matches!(event, ExportEvent::Connected)).count()
    };
    let deadline = Instant::now() + PATIENCE;
    let mut accepted = 0;
    while connections(&exporter) < 3 {
        assert!(Instant::now() < deadline, "{:?}", exporter.events);
        exporter.export(&numbered(accepted..accepted + 500));
        accepted += 500;
    }
    exporter.export(&numbered(accepted..accepted + 500));
    accepted += 500;
    let lost = exporter.process.account().total_lost();
    let account = exporter.close();
    let mut received = Vec::new();
    for stream in collector.join().unwrap() {
        received.extend(octets(&messages(&stream)));
    }
    assert!(received.is_sorted_by(|a, b| a < b), "out of order, or twice");
    assert_eq!(lost, account.lost(LossReason::ConnectionLost));
    assert_eq!(received.len() as u64 + lost.records, accepted);
    assert_eq!(account.delivered.records, received.len() as u64);
}

#[test]
fn a_slow_collector_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = accept_slowly(&listener);
    let mut exporter = Exporter::tcp(listener.local_addr().unwrap());
    // More than sockets have room for.
    let records = numbered(0..150_000);
    exporter.export(&records);
    assert_eq!(exporter.faults(), [""; 0]);
    let account = exporter.close();
    assert_eq!(octets(&messages(&collector.join().unwrap())), (0..150_000).collect::<Vec<u64>>());
    assert_eq!(account.delivered, Tally::of(&records));
}

#[test]
fn a_collector_that_dies_while_nothing_is_sent_is_noticed_and_gets_templates_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut exporter = Exporter::tcp(listener.local_addr().unwrap());
    exporter.until("connected", |exporter| exporter.process.is_ready());
    let (connection, _) = listener.accept().unwrap();
    exporter.export(&numbered(0..10));
    // With octets that nobody has read, the connection is reset.
    drop(connection);
    let deadline = Instant::now() + PATIENCE;
    while exporter.faults().is_empty() {
        assert!(Instant::now() < deadline, "not noticed");
        exporter.process.tick(exporter.now);
        exporter.events.extend(exporter.process.next_event());
    }
    assert!(!exporter.process.is_ready());
    let collector = accept(&listener, u64::MAX);
    exporter.export(&numbered(10..20));
    let account = exporter.close();
    assert_eq!(octets(&messages(&collector.join().unwrap())), (10..20).collect::<Vec<u64>>());
    assert_eq!(account.accepted.records, 20);
    assert_eq!(account.delivered, account.accepted, "the system had taken all; it was not asked for more");
}

#[test]
fn a_collector_that_never_reads_costs_what_is_counted_and_never_blocks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = TcpSettings::new(listener.local_addr().unwrap());
    settings.send_timeout = Duration::from_secs(5);
    let mut exporter = Exporter::new(Session::tcp(settings));
    exporter.until("connected", |exporter| exporter.process.is_ready());
    let (connection, _) = listener.accept().unwrap();
    let batch = numbered(0..500);
    let deadline = Instant::now() + PATIENCE;
    let mut accepted = 0;
    // As a sink does: more is handed over only if it takes more.
    while exporter.faults().is_empty() {
        assert!(Instant::now() < deadline, "it takes everything: {:?}", exporter.process.account());
        while exporter.process.is_ready() && exporter.faults().is_empty() {
            exporter.process.export(exporter.now, &batch);
            accepted += 500;
        }
        assert!(exporter.process.account().pending.records < 500);
        exporter.step(1000);
    }
    assert_eq!(exporter.faults(), ["the collector takes no more"]);
    let account = *exporter.process.account();
    assert!(account.lost(LossReason::SendTimeout).records > 0);
    assert_eq!(account.total_lost(), account.lost(LossReason::SendTimeout));
    let waiting = account.pending.records;
    assert!(waiting < 500);
    assert_eq!(account.accepted.records, accepted);
    drop(connection);
    let account = exporter.close();
    assert_eq!(account.pending + account.in_flight, Tally::ZERO);
    assert_eq!(account.lost(LossReason::NotConnected).records, waiting);
}

#[test]
fn a_refused_connection_is_tried_again_later_and_later_and_said_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    wait_until_closed("tcp", address.port());
    let mut exporter = Exporter::tcp(address);
    let mut failures = Vec::new();
    while failures.len() < 8 {
        let before = exporter.process.counts().send_errors(SendErrorKind::ConnectFailed);
        exporter.step(10);
        if exporter.process.counts().send_errors(SendErrorKind::ConnectFailed) > before {
            failures.push(exporter.now.monotonic);
        }
    }
    let delays: Vec<u64> =
        failures.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_secs()).collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(exporter.faults(), ["Connection refused (os error 111)"]);
    assert!(!exporter.process.is_ready());

    let listener = TcpListener::bind(address).unwrap();
    let collector = accept(&listener, u64::MAX);
    let records = numbered(0..10);
    exporter.process.retry();
    exporter.export(&records);
    assert!(matches!(exporter.events.last(), Some(ExportEvent::Connected)));
    let account = exporter.close();
    assert_eq!(octets(&messages(&collector.join().unwrap())), (0..10).collect::<Vec<u64>>());
    assert_eq!(account.delivered, Tally::of(&records));
}

#[test]
fn an_attempt_without_an_answer_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // TLS, and a collector that accepts and says nothing.
    let certificates = peer::Certificates::new("silent");
    let mut exporter =
        Exporter::tls(listener.local_addr().unwrap(), &certificates.anonymous(), peer::NAMES[0]);
    let deadline = Instant::now() + PATIENCE;
    while exporter.faults().is_empty() {
        assert!(Instant::now() < deadline, "it waits for ever");
        exporter.step(1000);
    }
    assert_eq!(exporter.faults(), ["no answer in the TLS handshake"]);
    assert!(exporter.now.monotonic >= crate::support::NOW.monotonic + Duration::from_secs(10));
}

#[test]
fn what_is_left_without_a_connection_at_the_end_is_lost_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    wait_until_closed("tcp", address.port());
    let mut exporter = Exporter::tcp(address);
    exporter.until("failed", |exporter| !exporter.events.is_empty());
    let records: Vec<FlowRecord> = numbered(0..700);
    let (kept, left) = records.split_at(500);
    exporter.process.export(exporter.now, kept);
    exporter.process.give_up(left);
    assert_eq!(exporter.process.account().pending, Tally::of(kept));
    let account = exporter.close();
    assert_eq!(account.lost(LossReason::NotConnected), Tally::of(&records));
    assert_eq!(account.accepted, Tally::of(&records));
}
