//! A worker that waits for the rest of the pipeline, in this process: what finds no room is counted by name,
//! and after two seconds the host has its packets again.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use pathflow::capture::FilterSet;
use pathflow::capture::xsk::{Mirror, MirrorOutput, MirrorSettings};
use pathflow::clock::Clock;
use pathflow::ledger::{Ledger, PointAccounts};
use pathflow::metering::extensions::Extensions;
use pathflow::metering::packets::KeySettings;
use pathflow::metering::shard::ShardMessage;
use pathflow::stop::Stop;
use pathflow_common::DropReason;

use super::{Mirrored, PORT, STEADY};
use crate::support::traffic::Traffic;
use crate::support::wait_for;

/// Longer than the watchdog waits.
const TRAFFIC: Traffic = Traffic { packets: 50_000, rate: Some(10_000), ..STEADY };

/// A mirror whose one shard reads nothing until it is told to.
struct Stuck {
    mirror: Mirror,
    ledger: Arc<Ledger>,
    shard: Receiver<ShardMessage>,
}

impl Stuck {
    fn start(network: &Mirrored, ring_frames: u32, umem_frames: u32) -> Self {
        let ledger = Arc::new(Ledger::new([]));
        // One message only: that of the time.
        let (sender, shard) = bounded(1);
        let (_, pool) = bounded(1);
        let (stop, _) = Stop::new();
        let output = MirrorOutput {
            ingress_point: 1,
            egress_point: 2,
            shards: vec![sender],
            pool,
            ledger: Arc::clone(&ledger),
            keys: KeySettings::default(),
            extensions: Arc::new(Extensions::new(1, 1)),
            classes: None,
            taps: None,
            filters: FilterSet::default(),
            clock: Clock::new(),
            stop,
        };
        let index = network.host.link(PORT)["ifindex"].as_u64().unwrap() as u32;
        let settings = MirrorSettings {
            ring_frames,
            umem_frames,
            i_know_this_steals: true,
            drain_interval: Duration::from_millis(200),
            ..MirrorSettings::new(PORT.to_owned(), index)
        };
        let mirror = network.host.run(|| Mirror::start(&settings, &output)).unwrap();
        Self { mirror, ledger, shard }
    }

    /// Reads what the workers hand over, ends them, and returns the accounts and the packets handed over.
    fn end(self) -> (PointAccounts, u64) {
        let Self { mirror, ledger, shard } = self;
        let reading = std::thread::spawn(move || {
            let mut packets = 0;
            for message in shard {
                if let ShardMessage::Deltas(deltas) = message {
                    packets += deltas.iter().map(|delta| delta.packets).sum::<u64>();
                }
            }
            packets
        });
        mirror.stop();
        let packets = reading.join().unwrap();
        let books = ledger.books();
        assert_eq!(books.imbalance(), None);
        (books.total(), packets)
    }
}

/// What is lost while the worker is stuck has `lost_for` as its reason.
fn assert_lost(ring_frames: u32, umem_frames: u32, lost_for: DropReason) {
    let network = Mirrored::new();
    let stuck = Stuck::start(&network, ring_frames, umem_frames);
    TRAFFIC.send(&network.switch);
    let counted = stuck.mirror.statistics();
    let (accounts, handed_over) = stuck.end();
    assert_eq!(accounts.seen.packets, TRAFFIC.packets, "{accounts:?}");
    assert!(accounts.in_kernel.is_zero(), "{accounts:?}");
    assert_eq!(accounts.in_transit.packets, handed_over, "{accounts:?}");
    let dropped = |reason: DropReason| accounts.dropped[reason as usize].packets;
    let passed = counted.program.passed.packets;
    assert!(handed_over > 0 && dropped(lost_for) > 0 && passed > 0, "{accounts:?}");
    assert_eq!(dropped(DropReason::Passed), passed);
    assert_eq!(handed_over + dropped(lost_for) + passed, TRAFFIC.packets, "{accounts:?}");
    // The kernel program's word for it, without the sockets': the same packets.
    assert_eq!(counted.program.redirected.packets, handed_over + dropped(lost_for));
}

#[test]
fn a_full_ring_is_named() {
    assert_lost(1024, 4096, DropReason::RxRingFull);
}

#[test]
fn a_starved_fill_ring_is_named() {
    assert_lost(4096, 1024, DropReason::FillRingEmpty);
}

#[test]
fn a_worker_that_is_stuck_lets_packets_pass() {
    let network = Mirrored::with_addresses();
    let stuck = Stuck::start(&network, 1024, 4096);
    let mut talk = network.talk();
    talk.until_received();
    let (reached, passed) = (talk.received(), stuck.mirror.statistics().program.passed.packets);
    assert_eq!(reached, passed);
    // Nobody waits for ever: the worker goes on, and packets are taken again.
    let drained: Vec<ShardMessage> = stuck.shard.try_iter().collect();
    assert!(!drained.is_empty());
    wait_for(
        "what was sent is known",
        || format!("{:?}", stuck.mirror.statistics()),
        || {
            stuck.shard.try_iter().for_each(drop);
            (stuck.mirror.live_packets() == 0).then_some(())
        },
    );
    let (accounts, _) = stuck.end();
    assert_eq!(accounts.seen.packets, talk.sent);
    assert_eq!(accounts.dropped[DropReason::Passed as usize].packets, talk.received());
}
