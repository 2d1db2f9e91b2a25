//! The spool alone: every row, in order, to the message.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use super::{Call, Fate, Numbers, cut_power, say};
use crate::{
    kafka::{
        Message,
        block::Block,
        settings::SpoolSettings,
        spool::{Amount, Entry, Read, Spool, SpoolError, SpoolFolder},
    },
    record::Tally,
};

fn settings(folder: &Path) -> SpoolSettings {
    SpoolSettings { max_octets: SpoolSettings::MIN_SIZE, ..SpoolSettings::new(folder.join("of/spool")) }
}

/// A block that the spool has, by which it can be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    count: u64,
    octets: usize,
    is_remains: bool,
}

impl Made {
    fn block(self, first: u64) -> Block {
        let mut block = Block::new(1, first);
        for number in first..first + self.count {
            let mut state = Numbers::new(number);
            let payload: Vec<u8> = (0..self.octets).map(|_| state.below(256) as u8).collect();
            let tally = Tally { records: 1, packets: number, octets: 2 * number };
            block.push(&Message {
                topic: "pmacct.acct",
                partition: None,
                key: None,
                payload: &payload,
                tally,
            });
        }
        if !self.is_remains {
            return block;
        }
        let mut remains = Block::new(1, first);
        for index in (0..block.count()).step_by(3) {
            remains.push_with(block.sequence(index), &block.message(index).expect("it is there"));
        }
        remains
    }

    fn messages(self) -> u64 {
        if self.is_remains { self.count.div_ceil(3) } else { self.count }
    }
}

/// What the spool holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    blocks: BTreeMap<u64, Made>,
    removed: u64,
}

impl Content {
    /// Makes what a line of the recorded process says.
    fn apply(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let action = words.next().expect("an action");
        let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
        match (action, &numbers[..]) {
            ("append", [first, count, octets]) => {
                let made = Made { count: *count, octets: *octets as usize, is_remains: false };
                self.blocks.insert(*first, made);
            }
            ("remove", [settled, firsts @ ..]) => {
                for first in firsts {
                    let made = self.blocks.remove(first).expect("it was there");
                    self.removed += settled * made.messages();
                }
            }
            ("exchange", [first]) => {
                let made = self.blocks.get_mut(first).expect("it was there");
                made.is_remains = true;
                self.removed += made.count - made.messages();
            }
            ("sync" | "epoch" | "shrink", _) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Works with the spool, and says before and after each action what it is.
fn work(folder: &Path) {
    let mut numbers = Numbers::new(
        std::env::var("PATHFLOW_POWER_CUT_SEED").map_or(1, |seed| seed.parse().expect("a number")),
    );
    let mut content = Content::default();
    let mut next = 0;
    let mut now = Instant::now();
    for _ in 0..3 {
        let lock = SpoolFolder::take(&settings(folder)).expect("the folder");
        let mut spool = lock.open(None, None).expect("it opens").spool;
        say(&format!("opened {}", spool.epoch()));
        for _ in 0..70 {
            now += Duration::from_secs(1);
            step(&mut spool, &mut numbers, &mut content, &mut next, now);
        }
        if numbers.below(2) == 0 {
            spool.close().expect("it closes");
        }
    }
}

fn step(spool: &mut Spool, numbers: &mut Numbers, content: &mut Content, next: &mut u64, now: Instant) {
    match numbers.below(100) {
        0..60 => {
            let made = Made {
                count: 1 + numbers.below(30),
                octets: numbers.below(1600) as usize,
                is_remains: false,
            };
            let line = format!("append {next} {} {}", made.count, made.octets);
            while !act(content, &line, || spool.append(&made.block(*next))) {
                let oldest = *content.blocks.first_key_value().expect("something to force out").0;
                remove(spool, content, &[oldest], true);
            }
            *next += made.count;
        }
        60..75 => {
            let firsts: Vec<u64> = content.blocks.keys().copied().collect();
            let most = (firsts.len() as u64).min(4);
            let chosen = (0..most).map(|_| firsts[numbers.below(firsts.len() as u64) as usize]);
            let mut chosen: Vec<u64> = chosen.collect();
            chosen.sort_unstable();
            chosen.dedup();
            remove(spool, content, &chosen, numbers.below(3) > 0);
        }
        75..83 => {
            let blocks: Vec<(u64, Made)> =
                content.blocks.iter().map(|(first, made)| (*first, *made)).collect();
            let whole: Vec<_> =
                blocks.into_iter().filter(|(_, made)| !made.is_remains && made.count > 1).collect();
            if let Some((first, made)) = whole.get(numbers.below(whole.len() as u64) as usize) {
                let remains = Made { is_remains: true, ..*made }.block(*first);
                let settled = entry(*first, *made).amount.tally - Entry::of(&remains).amount.tally;
                let settled = Amount { messages: made.count - u64::from(remains.count()), tally: settled };
                act(content, &format!("exchange {first}"), || spool.exchange(&[*first], settled, &[remains]));
            }
        }
        83..94 => {
            act(content, "sync", || spool.tick(now));
        }
        94..97 => {
            let epoch = spool.epoch() + 1;
            act(content, &format!("epoch {epoch}"), || spool.begin_epoch(epoch));
        }
        _ => {
            act(content, "shrink", || spool.shrink());
        }
    }
}

fn entry(first: u64, made: Made) -> Entry {
    Entry::of(&made.block(first))
}

fn remove(spool: &mut Spool, content: &mut Content, firsts: &[u64], settled: bool) {
    let words: Vec<String> = firsts.iter().map(ToString::to_string).collect();
    let entries: Vec<Entry> = firsts.iter().map(|first| entry(*first, content.blocks[first])).collect();
    act(content, &format!("remove {} {}", u8::from(settled), words.join(" ")), || {
        for entry in &entries {
            spool.remove(entry, settled)?;
        }
        spool.remove_now().map(drop)
    });
}

/// Whether there was room for it.
fn act(content: &mut Content, line: &str, action: impl FnOnce() -> Result<(), SpoolError>) -> bool {
    say(&format!("begin {line}"));
    match action() {
        Ok(()) => {
            say(&format!("done {line}"));
            content.apply(line);
            true
        }
        Err(SpoolError::Full) => {
            say("full");
            false
        }
        Err(error) => panic!("{line}: {error}"),
    }
}

/// The contents that the spool may have: as of the last sync, and after each action since.
fn possible(calls: &[Call]) -> (Vec<Content>, u32) {
    let mut contents = vec![Content::default()];
    let mut epoch = 0;
    let mut last = Content::default();
    let mut begun: Option<&str> = None;
    for call in calls {
        let Call::Said(line) = call else { continue };
        if let Some(line) = line.strip_prefix("begin ") {
            begun = Some(line);
        } else if line == "full" {
            begun = None;
        } else if let Some(line) = line.strip_prefix("done ") {
            begun = None;
            last.apply(line);
            if line == "sync" || line.starts_with("epoch") {
                contents.clear();
            }
            contents.push(last.clone());
            epoch = line.strip_prefix("epoch ").map_or(epoch, |number| number.parse().expect("a number"));
        } else if let Some(number) = line.strip_prefix("opened ") {
            // What was there when the spool was opened was synced by that.
            contents = vec![last.clone()];
            epoch = number.parse().expect("a number");
        }
    }
    if let Some(line) = begun {
        last.apply(line);
        contents.push(last);
    }
    (contents, epoch)
}

fn check(folder: &super::Folder, fate: Fate, calls: &[Call]) {
    let (contents, epoch) = possible(calls);
    let lock = SpoolFolder::take(&settings(&folder.0)).expect("the folder");
    let opened = match lock.open(None, None) {
        Ok(opened) => opened,
        Err(error) => panic!("{fate:?} after {:?}: {error}", calls.last()),
    };
    assert!(opened.set_aside.is_none(), "{fate:?} after {} calls: {:?}", calls.len(), opened.set_aside);
    assert!(opened.spool.epoch() > epoch, "epoch {} again", opened.spool.epoch());
    let removed = opened.spool.removed().messages;
    let entries = opened.entries.iter().map(|entry| (entry.first, entry.amount.messages));
    let entries: Vec<(u64, u64)> = entries.collect();
    let is_it = |content: &&Content| {
        let blocks = content.blocks.iter().map(|(first, made)| (*first, made.messages()));
        content.removed == removed && blocks.eq(entries.iter().copied())
    };
    let found = contents.iter().find(is_it).unwrap_or_else(|| {
        panic!(
            "{fate:?} after {} calls: found {removed} removed and {entries:?}, not one of {contents:?}",
            calls.len()
        )
    });
    if fate == Fate::Kept {
        assert_eq!(Some(found), contents.iter().rev().take(2).find(is_it), "a kill costs nothing");
    }
    for (first, made) in &found.blocks {
        match opened.spool.read(*first).expect("no failure") {
            Read::Block(block) => assert_eq!(block, made.block(*first)),
            Read::Damaged => panic!("{fate:?} after {} calls: block {first} is damaged", calls.len()),
        }
    }
}

#[test]
fn the_spool_has_what_it_had_synced_and_the_rest_in_order() {
    let name = "kafka::power_cut::spool::the_spool_has_what_it_had_synced_and_the_rest_in_order";
    cut_power(name, work, check);
}
