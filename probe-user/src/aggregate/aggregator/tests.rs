//! The threads of an aggregate, driven message by message.

use std::net::IpAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use pathflow_exporter::FlowRecord;

use super::super::{Bins, Key};
use super::*;
use crate::classify::Class;
use crate::ledger::{AggregateAccounts, Amount, OutputAccount};

/// An output that tells what it was given, and waits until it may go on.
#[derive(Debug)]
struct Told {
    account: OutputAccount,
    /// Time of the purge, and the packets of its rows by bin.
    purges: mpsc::Sender<(u64, Vec<(u64, u64)>)>,
    go_on: mpsc::Receiver<()>,
}

impl RowOutput for Told {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn destination(&self) -> String {
        "test".to_owned()
    }

    fn write(&mut self, purge: &Purge) {
        let mut rows: Vec<(u64, u64)> =
            purge.rows().map(|row| (row.bin().unwrap_or(0), row.packets())).collect();
        rows.sort_unstable();
        self.account.delivered += purge.tally();
        let _ = self.purges.send((purge.updated(), rows));
        let _ = self.go_on.recv();
    }

    fn account(&self) -> OutputAccount {
        self.account.clone()
    }
}

struct Bench {
    ledger: Arc<Ledger>,
    queue: Option<AggregateQueue>,
    purges: mpsc::Receiver<(u64, Vec<(u64, u64)>)>,
    go_on: Option<mpsc::Sender<()>>,
    aggregator: Option<Aggregator>,
    threads: Vec<JoinHandle<()>>,
}

const START: u64 = 1_700_000_040;

impl Bench {
    /// With two shards, bins of ten seconds and a purge every ten seconds.
    fn new(max_entries: usize) -> Self {
        let ledger = Arc::new(Ledger::new([]));
        ledger.open_aggregate(AggregateAccounts::new(0, "test".to_owned(), [("test", "test".to_owned())]));
        let key = Key::parse(&["src_as"]).unwrap();
        let mut settings = AggregateSettings::new("test", key, Duration::from_secs(10));
        settings.history = Some(Bins::every(Duration::from_secs(10)));
        settings.max_entries = max_entries;
        let (told, purges) = mpsc::channel();
        let (go_on, waiting) = mpsc::channel();
        let parts = AggregatorParts {
            number: 0,
            settings,
            ledger: Arc::clone(&ledger),
            context: SharedContext::default(),
            enrichment: CurrentSettings::default(),
            shards: 2,
            pace: Pace::NeverWait,
            end: Arc::default(),
            before: Vec::new(),
        };
        let output = Told { account: OutputAccount::default(), purges: told, go_on: waiting };
        let (aggregator, writer, Handles { queue, .. }) = Aggregator::new(parts, vec![Box::new(output)]);
        let threads = vec![thread::spawn(|| writer.run())];
        Self { ledger, queue: Some(queue), purges, go_on: Some(go_on), aggregator: Some(aggregator), threads }
    }

    fn start(&mut self) {
        let aggregator = self.aggregator.take().unwrap();
        self.threads.push(thread::spawn(|| aggregator.run()));
    }

    /// Offers a packet of each of these AS numbers, at `second` after the start.
    fn offer(&self, second: u64, as_numbers: std::ops::Range<u32>) {
        let time = (START + second) * 1_000_000;
        let packets = u64::from(as_numbers.end - as_numbers.start);
        let deltas = as_numbers.map(|as_number| Observed {
            record: FlowRecord {
                bgp_source_as_number: as_number,
                packet_delta_count: 1,
                octet_delta_count: 100,
                ..FlowRecord::between(IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]))
            },
            extension: None,
            inner_tcp_control_bits: 0,
            class: Class::UNKNOWN,
            begins: true,
            start: time,
            time,
            end: time,
        });
        let deltas = Arc::new(deltas.collect::<Vec<_>>());
        // Asked under the ledger's lock.
        let offer = || (0, self.queue.as_ref().unwrap().offer(deltas, Pace::NeverWait));
        self.ledger.offered(Amount { packets, octets: packets * 100 }, std::iter::once_with(offer));
    }

    fn tick(&self, shard: usize, second: u64) {
        let wall = (START + second) * NANOSECONDS;
        self.queue.as_ref().unwrap().tick(shard, Reading { monotonic: wall, wall }, Pace::NeverWait);
    }

    fn purge(&self) -> (u64, Vec<(u64, u64)>) {
        let (updated, rows) = self.purges.recv_timeout(Duration::from_secs(20)).unwrap();
        (updated - START, rows.into_iter().map(|(bin, packets)| (bin - START, packets)).collect())
    }

    fn go_on(&self) {
        self.go_on.as_ref().unwrap().send(()).unwrap();
    }

    fn account(&self) -> AggregateAccounts {
        let books = self.ledger.books();
        assert_eq!(books.imbalance(), None);
        books.aggregates[0].clone()
    }

    /// Ends everything; the accounts at the end.
    fn finish(mut self) -> AggregateAccounts {
        self.queue = None;
        self.go_on = None;
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        let account = self.account();
        assert!(account.is_settled(), "{account:?}");
        account
    }
}

/// A purge is due when the last shard has got there, and what one of them has counted since then stays.
#[test]
fn a_purge_waits_for_every_shard() {
    let mut bench = Bench::new(1000);
    bench.start();
    bench.tick(0, 1);
    bench.tick(1, 1);
    bench.offer(5, 0..2);
    bench.tick(0, 10);
    // The first shard is ahead.
    bench.offer(12, 0..1);
    bench.offer(9, 0..1);
    bench.tick(1, 10);
    assert_eq!(bench.purge(), (10, vec![(0, 1), (0, 2)]));
    bench.go_on();
    bench.tick(0, 20);
    bench.tick(1, 21);
    assert_eq!(bench.purge(), (20, vec![(10, 1)]));
    bench.go_on();
    bench.offer(22, 5..6);
    let account = bench.finish();
    assert_eq!((account.offered.packets, account.purged.packets, account.purges), (5, 5, 3));
}

#[test]
fn a_clock_that_is_set_back_delays_no_purge() {
    let mut bench = Bench::new(1000);
    bench.start();
    let tick = |bench: &Bench, second| [0, 1].map(|shard| bench.tick(shard, second));
    tick(&bench, 7201);
    bench.offer(7202, 0..1);
    tick(&bench, 7210);
    assert_eq!(bench.purge(), (7210, vec![(7200, 1)]));
    bench.go_on();
    // Rows of a bin that is in the future after the next tick.
    bench.offer(7213, 0..1);
    tick(&bench, 3);
    assert_eq!(bench.purge(), (3, vec![(7210, 1)]));
    bench.go_on();
    bench.offer(4, 0..1);
    tick(&bench, 10);
    assert_eq!(bench.purge(), (10, vec![(0, 1)]));
    bench.go_on();
    bench.finish();
}

/// While the writer is busy, the table takes what it has room for, and the rest is lost by name; then it goes on.
#[test]
fn a_full_table_is_purged_early_if_the_writer_can_take_it() {
    let mut bench = Bench::new(10);
    bench.start();
    // One purge is being written, one waits, and the table is full.
    bench.offer(1, 0..10);
    bench.offer(1, 10..20);
    assert_eq!(bench.purge().1.len(), 10);
    bench.offer(1, 20..30);
    bench.offer(1, 25..40);
    while !bench.account().queued.is_zero() {
        thread::sleep(Duration::from_millis(1));
    }
    let account = bench.account();
    assert_eq!((account.early_purges, account.purging.records, account.in_table.records), (2, 20, 10));
    // Rows that are there count on.
    assert_eq!((account.spread.table_full.packets, account.in_table.packets), (10, 15));
    let account = bench.finish();
    assert_eq!((account.purged.packets, account.spread.table_full.packets), (35, 10));
}

/// A queue that nobody empties takes so much and no more; ticks have room beside it.
#[test]
fn a_full_queue_loses_by_name() {
    let mut bench = Bench::new(1000);
    for _ in 0..QUEUE + 3 {
        bench.offer(1, 0..2);
    }
    bench.tick(0, 10);
    bench.tick(1, 10);
    let account = bench.account();
    assert_eq!((account.queue_full.packets, account.queued.packets), (6, QUEUE as u64 * 2));
    bench.start();
    let account = bench.finish();
    assert_eq!((account.queue_full.octets, account.purged.packets), (600, QUEUE as u64 * 2));
}
