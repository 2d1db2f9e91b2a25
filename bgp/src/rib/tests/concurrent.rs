//! Readers at full speed while routes change.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

/// Attributes whose parts belong together: a mixture of two would be seen.
fn stamped(prefix: u32, stamp: u32) -> Attributes {
    Attributes {
        local_pref: Some(prefix),
        multi_exit_disc: Some(stamp),
        aigp: Some(check(prefix, stamp)),
        ..Attributes::default()
    }
}

fn check(prefix: u32, stamp: u32) -> u64 {
    u64::from(prefix) << 32 | u64::from(stamp ^ 0x5555_5555)
}

/// Nested prefixes of both families, and addresses inside some of them.
const PREFIXES: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/14",
    "10.1.0.0/16",
    "10.1.0.0/22",
    "10.1.2.0/24",
    "10.1.2.128/25",
    "10.1.2.129/32",
    "::/0",
    "2001:d00::/24",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1:2::/64",
    "2001:db8:1:2::3/128",
];
const ADDRESSES: [&str; 9] = [
    "10.1.2.129",
    "10.1.2.130",
    "10.1.2.1",
    "10.1.3.1",
    "10.2.0.1",
    "192.0.2.1",
    "2001:db8:1:2::3",
    "2001:db8:1:2::4",
    "2001:db8:2::1",
];

/// The writer announces each prefix with stamps that grow, and withdraws it at times. For each prefix it notes the last
/// stamp that is complete before it begins a change, and the stamp that it begins. A reader's answer must be a prefix
/// that covers the address, with a stamp between what was complete before the lookup and what was begun after it.
#[test]
fn every_answer_was_true_during_the_lookup() {
    const CHANGES: u32 = 60_000;
    let nets = PREFIXES.map(|prefix| prefix.parse::<IpNet>().unwrap());
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    let begun: [AtomicU32; PREFIXES.len()] = std::array::from_fn(|_| AtomicU32::new(0));
    let complete: [AtomicU32; PREFIXES.len()] = std::array::from_fn(|_| AtomicU32::new(0));
    let done = AtomicBool::new(false);
    let readers: Vec<RibReader> = (0..2).map(|_| rib.reader()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let (nets, begun, complete, done) = (&nets, &begun, &complete, &done);
                scope.spawn(move || {
                    let addresses = ADDRESSES.map(|address| address.parse::<IpAddr>().unwrap());
                    let (mut answers, mut generations) = (0u64, std::collections::HashMap::new());
                    while !done.load(Ordering::Acquire) {
                        let view = reader.enter();
                        let table = view.peer(id).unwrap();
                        for address in addresses {
                            let before = complete.each_ref().map(|stamp| stamp.load(Ordering::SeqCst));
                            let Some(found) = table.lookup(address) else { continue };
                            let path = found.choose(None).expect("held for a few lookups only");
                            let after = begun.each_ref().map(|stamp| stamp.load(Ordering::SeqCst));
                            let (prefix, stamp) = (
                                path.attributes.local_pref.unwrap(),
                                path.attributes.multi_exit_disc.unwrap(),
                            );
                            assert_eq!(path.attributes.aigp, Some(check(prefix, stamp)));
                            let net = nets[prefix as usize];
                            assert!(net.contains(&address), "{address} in {net}");
                            assert_eq!(found.prefix_length(), net.prefix_len());
                            let (before, after) = (before[prefix as usize], after[prefix as usize]);
                            assert!(
                                (before..=after).contains(&stamp),
                                "{net}: {before} <= {stamp} <= {after}"
                            );
                            let known = generations.entry(path.attributes_id).or_insert((prefix, stamp));
                            assert_eq!(*known, (prefix, stamp), "one id for two attribute sets");
                            answers += 1;
                        }
                    }
                    answers
                })
            })
            .collect();
        let mut stamps = [0u32; PREFIXES.len()];
        let mut state = 1u32;
        for _ in 0..CHANGES {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let index = (state >> 16) as usize % PREFIXES.len();
            stamps[index] += 1;
            let stamp = stamps[index];
            begun[index].store(stamp, Ordering::SeqCst);
            if state >> 30 == 0 {
                withdraw(&mut rib, id, unicast(PREFIXES[index]));
            } else {
                let key = [index as u32, stamp].map(u32::to_be_bytes).concat();
                rib.apply(id, [], &key, || stamped(index as u32, stamp), [unicast(PREFIXES[index])]);
            }
            complete[index].store(stamp, Ordering::SeqCst);
        }
        done.store(true, Ordering::Release);
        for thread in threads {
            assert!(thread.join().unwrap() > 1000);
        }
    });
    rib.work(1000);
    let retained = rib.retained();
    assert_eq!((retained.attribute_sets, retained.nodes, retained.taken), (0, 0, 0));
}

#[test]
fn a_reader_that_never_leaves_costs_a_bounded_amount() {
    let mut rib = Rib::new();
    let id = peer(&mut rib, Some(LookupSource::Unicast));
    announce(&mut rib, id, 0, unicast("192.0.2.0/24"));
    let mut reader = rib.reader();
    let view = reader.enter();
    let table = view.peer(id).unwrap();
    let old = table.lookup([192, 0, 2, 1].into()).unwrap();
    for number in 1..200_000 {
        announce(&mut rib, id, number, unicast("192.0.2.0/24"));
    }
    let retained = rib.retained();
    assert!(retained.taken > 100_000, "{retained:?}");
    // What it found first has gone, what it finds now is right.
    assert!(old.choose(None).is_none());
    let now = table.lookup([192, 0, 2, 1].into()).unwrap().choose(None).unwrap();
    assert_eq!(number_of(&now.attributes), 199_999);
    drop(view);
    rib.work(1);
    assert_eq!(rib.retained().attribute_sets, 0);
}
