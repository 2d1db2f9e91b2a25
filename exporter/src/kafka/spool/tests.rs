//! The spool against a queue in memory, killed, cut, overwritten and with flipped bits.

use std::{
    collections::VecDeque,
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{
    kafka::{KafkaError, Message, block::Block, settings::SpoolSettings},
    record::Tally,
};

/// A folder that is gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("{:032x}", u128::from_be_bytes(random()));
        let path = std::env::temp_dir().join(format!("pathflow-spool-{name}"));
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("spool.sqlite")
    }

    fn settings(&self, max_octets: u64) -> SpoolSettings {
        SpoolSettings {
            max_octets,
            sync_interval: Duration::from_millis(100),
            ..SpoolSettings::new(self.0.clone())
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SIZE: u64 = SpoolSettings::MIN_SIZE;

/// Payload that LZ4 cannot make smaller, and that tells its number.
fn payload(number: u64, octets: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(octets).collect()
}

fn block(first: u64, count: u64, octets: usize) -> Block {
    let mut block = Block::new(1, first);
    for number in first..first + count {
        let payload = payload(number, octets);
        let tally = Tally { records: 1, packets: number, octets: 2 * number };
        block.push(&Message { topic: "pmacct.acct", partition: None, key: None, payload: &payload, tally });
    }
    block
}

fn open(folder: &SpoolFolder) -> Opened {
    folder.open(None, None).expect("it opens")
}

fn read(spool: &Spool, first: u64) -> Option<Block> {
    match spool.read(first).expect("no failure") {
        Read::Block(block) => Some(block),
        Read::Damaged => None,
    }
}

/// The files as a kill would leave them: nothing was closed.
fn as_after_a_kill(folder: &Folder) -> Folder {
    let copy = Folder::new();
    for file in fs::read_dir(&folder.0).expect("files") {
        let file = file.expect("a file");
        fs::copy(file.path(), copy.0.join(file.file_name())).expect("a copy");
    }
    copy
}

/// What is left of `block`: every third message.
fn remains(block: &Block) -> Block {
    let mut remains = Block::new(block.epoch, block.first);
    for index in (0..block.count()).step_by(3) {
        remains.push_with(block.sequence(index), &block.message(index).expect("it is there"));
    }
    remains
}

#[test]
fn remains_take_the_place_of_their_block_or_nothing_changes() {
    let folder = Folder::new();
    let lock = SpoolFolder::take(&folder.settings(SIZE)).expect("the folder");
    let mut spool = open(&lock).spool;
    let blocks: Vec<Block> = (0..3).map(|number| block(number * 10, 10, 100)).collect();
    for block in &blocks {
        spool.append(block).expect("there is room");
    }
    // They begin with the same message as their block.
    let rest = remains(&blocks[1]);
    let settled = Amount { messages: 6, tally: Tally { records: 6, packets: 7, octets: 8 } };
    spool.exchange(&[10], settled, std::slice::from_ref(&rest)).expect("there is room");
    assert_eq!(spool.removed(), settled);
    let copy = as_after_a_kill(&folder);
    let lock = SpoolFolder::take(&copy.settings(SIZE)).expect("the folder");
    let again = open(&lock);
    assert_eq!(again.entries, [&blocks[0], &rest, &blocks[2]].map(Entry::of));
    assert_eq!(read(&again.spool, 10).as_ref(), Some(&rest));
    assert_eq!((again.spool.removed(), again.spool.end_of_remains()), (settled, 20));

    // More than there is room for.
    let large = block(1000, 1000, 6000);
    let result = spool.exchange(&[20], settled, &[remains(&blocks[2]), large]);
    assert!(matches!(result, Err(SpoolError::Full)), "{result:?}");
    assert_eq!(spool.removed(), settled);
    assert_eq!(read(&spool, 20).as_ref(), Some(&blocks[2]));
}

#[test]
fn what_was_written_is_there_after_a_kill() {
    let folder = Folder::new();
    let settings = folder.settings(SIZE);
    let lock = SpoolFolder::take(&settings).expect("the folder");
    let mut spool = open(&lock).spool;
    let blocks: Vec<Block> = (0..5).map(|number| block(number * 10, 10, 100)).collect();
    for block in &blocks {
        spool.append(block).expect("there is room");
    }
    let copy = as_after_a_kill(&folder);
    let lock = SpoolFolder::take(&copy.settings(SIZE)).expect("the folder");
    let again = open(&lock);
    assert_eq!(again.entries, blocks.iter().map(Entry::of).collect::<Vec<_>>());
    for block in &blocks {
        assert_eq!(read(&again.spool, block.first).as_ref(), Some(block));
    }
    assert_eq!(again.spool.instance(), spool.instance());
    assert_eq!(again.spool.epoch(), spool.epoch() + 1);
}

#[test]
fn a_spool_has_one_owner() {
    let folder = Folder::new();
    let settings = folder.settings(SIZE);
    let _first = SpoolFolder::take(&settings).expect("the folder");
    assert!(matches!(SpoolFolder::take(&settings), Err(KafkaError::SpoolTaken { .. })));
}

#[test]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let lock = SpoolFolder::take(&folder.settings(SIZE)).expect("the folder");
    let mut spool = open(&lock).spool;
    spool.append(&block(0, 10, 10)).expect("there is room");
    let mut files = 0;
    for file in fs::read_dir(&folder.0).expect("files") {
        let file = file.expect("a file");
        let mode = file.metadata().expect("a mode").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", file.path().display());
        files += 1;
    }
    assert!(files >= 4, "only {files} files");
}

/// Who could put one there could have the daemon write anywhere.
#[test]
fn a_link_in_its_folder_is_not_followed() {
    let elsewhere = Folder::new();
    let other = elsewhere.0.join("other");
    for name in ["spool.lock", "spool.account", "spool.sqlite"] {
        let folder = Folder::new();
        std::os::unix::fs::symlink(&other, folder.0.join(name)).expect("a link");
        let opened = SpoolFolder::take(&folder.settings(SIZE))
            .is_ok_and(|taken| taken.account_file().is_ok() && taken.open(None, None).is_ok());
        assert!(!opened && !other.exists(), "{name}");
    }
}

#[test]
fn the_bound_holds_for_file_and_journal_and_what_is_removed_makes_room() {
    let folder = Folder::new();
    let lock = SpoolFolder::take(&folder.settings(SIZE)).expect("the folder");
    let mut spool = open(&lock).spool;
    let mut kept = VecDeque::new();
    let (mut forced_out, mut first) = (0, 0);
    for _ in 0..400 {
        let block = block(first, 50, 1000);
        first += 50;
        while let Err(error) = spool.append(&block) {
            assert!(matches!(error, SpoolError::Full), "{error}");
            let entry: Entry = kept.pop_front().expect("something to force out");
            spool.remove(&entry, true).expect("no failure");
            spool.remove_now().expect("no failure");
            forced_out += 1;
        }
        kept.push_back(Entry::of(&block));
        let size = |name: &str| fs::metadata(folder.0.join(name)).map_or(0, |file| file.len());
        let octets = size("spool.sqlite") + size("spool.sqlite-wal");
        assert!(octets <= SIZE, "{octets} octets");
    }
    assert!(forced_out > 0, "the bound was not reached");
    // Two thirds of the bound hold messages even with such blocks, a little larger than three pages.
    assert!(kept.len() > 40, "only {} blocks of 50000 octets in {SIZE}", kept.len());
    for entry in &kept {
        assert!(read(&spool, entry.first).is_some());
    }
    assert_eq!(spool.removed().messages, forced_out * 50);
}

#[test]
fn a_flipped_bit_costs_its_block_and_no_other() {
    let folder = Folder::new();
    let settings = folder.settings(SIZE);
    {
        let lock = SpoolFolder::take(&settings).expect("the folder");
        let mut spool = open(&lock).spool;
        (0..40).for_each(|number| spool.append(&block(number * 10, 10, 2000)).expect("there is room"));
        spool.close().expect("no failure");
    }
    let whole = fs::read(folder.file()).expect("the file");
    let (mut damaged_blocks, mut set_aside) = (0, 0);
    for round in 0_u64..60 {
        let place = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % whole.len() as u64;
        let mut octets = whole.clone();
        octets[place as usize] ^= 1 << (round % 8);
        fs::write(folder.file(), &octets).expect("written");
        let lock = SpoolFolder::take(&settings).expect("the folder");
        let opened = open(&lock);
        let mut good = 0;
        for number in 0..40 {
            let expected = block(number * 10, 10, 2000);
            // An error is damage to the tree of rows: the worker sets the file aside for it.
            match opened.spool.read(expected.first) {
                Ok(Read::Block(found)) => {
                    assert_eq!(found, expected, "octet {place}: a wrong block passed for a good one");
                    good += 1;
                }
                Ok(Read::Damaged) | Err(_) => {}
            }
        }
        match &opened.set_aside {
            Some(_) => set_aside += 1,
            None => assert!(good >= 39, "octet {place}: {good} of 40 blocks"),
        }
        damaged_blocks += u32::from(good == 39);
        for file in fs::read_dir(&folder.0).expect("files") {
            let path = file.expect("a file").path();
            if path != folder.file() {
                fs::remove_file(path).expect("removed");
            }
        }
    }
    // The test would see nothing if no flip had hit a block.
    assert!(damaged_blocks > 10, "{damaged_blocks} blocks damaged, {set_aside} files set aside");
}

fn overwrite(path: &Path, from: u64, octets: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.seek(SeekFrom::Start(from)).expect("there");
    file.write_all(&payload(7, octets)).expect("written");
}

#[test]
fn a_file_that_is_none_is_set_aside() {
    let folder = Folder::new();
    fs::write(folder.file(), payload(1, 100_000)).expect("written");
    let lock = SpoolFolder::take(&folder.settings(SIZE)).expect("the folder");
    let mut opened = open(&lock);
    let aside = opened.set_aside.expect("it was set aside");
    assert!(aside.path.exists(), "{} is missing", aside.path.display());
    assert_eq!(aside.messages, 0);
    opened.spool.append(&block(0, 10, 10)).expect("the new one works");
}

#[test]
fn of_a_damaged_file_what_can_be_read_is_kept() {
    let folder = Folder::new();
    let settings = folder.settings(SIZE);
    let instance;
    {
        let lock = SpoolFolder::take(&settings).expect("the folder");
        let mut spool = open(&lock).spool;
        (0..40).for_each(|number| spool.append(&block(number * 10, 10, 2000)).expect("there is room"));
        instance = spool.instance();
        spool.close().expect("no failure");
    }
    // Pages in the middle, some of them parts of the tree.
    let length = fs::metadata(folder.file()).expect("the file").len();
    overwrite(&folder.file(), length / 2, 60_000);
    let lock = SpoolFolder::take(&settings).expect("the folder");
    let standing = Standing { instance, ..Standing::default() };
    let opened = lock.open(Some(&standing), Some("so says the test".to_owned())).expect("it opens");
    let aside = opened.set_aside.expect("it was set aside");
    assert_eq!(opened.spool.instance(), instance);
    let messages: u64 = opened.entries.iter().map(|entry| entry.amount.messages).sum();
    assert_eq!(aside.messages, messages);
    assert!((10..400).contains(&messages), "{messages} of 400 messages");
    for entry in &opened.entries {
        assert_eq!(read(&opened.spool, entry.first), Some(block(entry.first, 10, 2000)));
    }
}

#[test]
fn a_spool_of_another_version_is_set_aside() {
    let folder = Folder::new();
    let settings = folder.settings(SIZE);
    drop(open(&SpoolFolder::take(&settings).expect("the folder")));
    {
        let connection = rusqlite::Connection::open(folder.file()).expect("the file");
        connection.pragma_update(None, "user_version", 99).expect("another version");
    }
    let lock = SpoolFolder::take(&settings).expect("the folder");
    let aside = open(&lock).set_aside.expect("it was set aside");
    assert!(aside.text.contains("99"), "{}", aside.text);
}

#[test]
fn the_numbers_outlive_the_process() {
    let folder = Folder::new();
    let file = AccountFile::open(&folder.0).expect("the file");
    assert_eq!(file.read(), (None, Reservation::default()));
    let amount = |messages| Amount { messages, tally: Tally { records: 1, packets: 2, octets: u64::MAX } };
    let standing = Standing {
        instance: random(),
        epoch: 7,
        accepted: amount(10),
        settled: amount(3),
        removed: amount(4),
    };
    file.write(&standing).expect("written");
    let reserved = Reservation { given: 910, end: 1010 };
    file.reserve(reserved).expect("written");
    let again = AccountFile::open(&folder.0).expect("the file");
    assert_eq!(again.read(), (Some(standing), reserved));
    overwrite(&folder.0.join("spool.account"), 30, 1);
    assert_eq!(again.read(), (None, reserved));
    let mut octets = Vec::new();
    fs::File::open(folder.0.join("spool.account"))
        .and_then(|mut file| file.read_to_end(&mut octets))
        .expect("read");
    assert!(octets.len() < 4096, "one page, so that a kill cannot cut it");
}

#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, octets: usize },
    Read(usize),
    Remove { settled: bool },
    Tick,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..60, 0_usize..3000).prop_map(|(count, octets)| Step::Append { count, octets }),
        2 => any::<prop::sample::Index>().prop_map(|index| Step::Read(index.index(1000))),
        2 => any::<bool>().prop_map(|settled| Step::Remove { settled }),
        1 => Just(Step::Tick),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a queue in memory: what was appended and not removed is there, in order, also after a kill.
    #[test]
    fn it_is_a_queue(steps in steps()) {
        let folder = Folder::new();
        let settings = folder.settings(SIZE);
        let mut lock = SpoolFolder::take(&settings).expect("the folder");
        let mut spool = open(&lock).spool;
        let mut model: VecDeque<Block> = VecDeque::new();
        let (mut next, mut removed) = (0, 0);
        let mut now = Instant::now();
        for step in steps {
            match step {
                Step::Append { count, octets } => {
                    let block = block(next, count, octets);
                    next += count;
                    match spool.append(&block) {
                        Ok(()) => model.push_back(block),
                        Err(SpoolError::Full) => prop_assert!(model.len() > 10, "full with {}", model.len()),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Step::Read(index) => {
                    if let Some(block) = model.get(index % model.len().max(1)) {
                        prop_assert_eq!(read(&spool, block.first), Some(block.clone()));
                    }
                }
                Step::Remove { settled } => {
                    if let Some(block) = model.pop_front() {
                        spool.remove(&Entry::of(&block), settled).expect("no failure");
                        removed += if settled { u64::from(block.count()) } else { 0 };
                    }
                }
                Step::Tick => {
                    now += Duration::from_secs(1);
                    spool.tick(now).expect("no failure");
                }
                Step::Reopen => {
                    // What waits to be removed may be there again: it is removed first, as a worker would.
                    spool.remove_now().expect("no failure");
                    drop(spool);
                    drop(lock);
                    lock = SpoolFolder::take(&settings).expect("the folder");
                    let opened = open(&lock);
                    prop_assert_eq!(opened.entries, model.iter().map(Entry::of).collect::<Vec<_>>());
                    spool = opened.spool;
                }
            }
            prop_assert_eq!(spool.removed().messages, removed);
        }
        for block in &model {
            prop_assert_eq!(read(&spool, block.first), Some(block.clone()));
        }
    }
}
