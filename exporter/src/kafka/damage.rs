//! A bit of a small spool flips, whichever: the next run opens it, sends what is whole, counts what is not, and works.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    block::Block,
    disk::Disk,
    settings::{Durability, KafkaSettings},
    spool::{Amount, Read, random},
    *,
};

/// Blocks of the spool, and messages of each.
const BLOCKS: u64 = 4;
const MESSAGES: u64 = 3;

const ALL: u64 = BLOCKS * MESSAGES;

/// Sequence number of the first: such as take two octets.
const FIRST: u64 = 1000;

/// A folder in memory, where there is one: the disk need not keep any of this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = parent.join(format!("pathflow-damage-{:032x}", u128::from_be_bytes(random())));
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    /// Puts these files there, and nothing else.
    fn put(&self, files: &BTreeMap<String, Vec<u8>>) {
        for file in fs::read_dir(&self.0).expect("files") {
            fs::remove_file(file.expect("a file").path()).expect("removed");
        }
        for (name, octets) in files {
            fs::write(self.0.join(name), octets).expect("written");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(folder: &Path) -> KafkaSettings {
    let spool =
        SpoolSettings { max_octets: SpoolSettings::MIN_SIZE, ..SpoolSettings::new(folder.to_path_buf()) };
    KafkaSettings {
        durability: Durability::Always,
        spool: Some(spool),
        ..KafkaSettings::new("127.0.0.1:1".to_owned())
    }
}

fn block(number: u64) -> Block {
    let first = FIRST + number * MESSAGES;
    let mut block = Block::new(1, first);
    for sequence in first..first + MESSAGES {
        let payload = format!("{{\"number\": {sequence}}}");
        let tally = Tally { records: 1, packets: 10, octets: 1000 };
        block.push(&Message { topic: "t", partition: None, key: None, payload: payload.as_bytes(), tally });
    }
    block
}

/// The files of a run that ended in order, with all its blocks in the spool.
fn files(folder: &Folder) -> BTreeMap<String, Vec<u8>> {
    let mut found = Disk::open(&settings(&folder.0)).expect("it opens");
    let file = found.file.expect("a file");
    let mut spool = found.disk.spool.take().expect("a spool");
    let accepted = (0..BLOCKS).fold(Amount::default(), |mut sum, number| {
        spool.append(&block(number)).expect("there is room");
        sum += spool::Entry::of(&block(number)).amount;
        sum
    });
    let standing = &mut found.disk.standing;
    standing.settled.messages = FIRST;
    standing.accepted = accepted;
    standing.accepted.messages += FIRST;
    spool.note(standing);
    spool.close().expect("no failure");
    file.write(standing).expect("written");
    file.reserve(spool::Reservation::nothing(standing.accepted.messages)).expect("written");
    file.mark([0; 16]).expect("written");
    ["spool.sqlite", "spool.account"]
        .map(|name| (name.to_owned(), fs::read(folder.0.join(name)).expect("the file")))
        .into()
}

/// Opens the spool as the next run does; whether that lost a message.
fn check(folder: &Folder, flip: &str) -> bool {
    let mut found =
        Disk::open(&settings(&folder.0)).unwrap_or_else(|error| panic!("{flip}: it does not open: {error}"));
    let mut spool = found.disk.spool.take().expect("a spool");
    let (mut whole, mut damaged) = (0, found.damaged.messages);
    for entry in &found.disk.unsent {
        match spool.read(entry.first) {
            Ok(Read::Block(read)) => {
                let expected = read.first.checked_sub(FIRST).map(|place| block(place / MESSAGES));
                assert_eq!(Some(&read), expected.as_ref(), "{flip}: a wrong block passed for a good one");
                whole += MESSAGES;
            }
            Ok(Read::Damaged) => damaged += entry.amount.messages,
            Err(error) => panic!("{flip}: {error}"),
        }
    }
    assert!(whole == ALL || damaged > 0, "{flip}: {whole} messages of {ALL}, and none is counted");
    assert_eq!(found.lost_by_crash, Tally::ZERO, "{flip}: nothing was killed");
    // As many numbers may be left out as a block has.
    let next = found.disk.standing.accepted.messages;
    assert!((FIRST + ALL..=FIRST + ALL + 1000).contains(&next), "{flip}: {next} is the next number");
    let mut new = Block::new(spool.epoch(), next);
    new.push(&Message { topic: "t", partition: None, key: None, payload: b"new", tally: Tally::ZERO });
    spool.append(&new).unwrap_or_else(|error| panic!("{flip}: {error}"));
    spool.close().unwrap_or_else(|error| panic!("{flip}: {error}"));
    whole < ALL
}

/// Octets of pages that SQLite makes no use of are zeros; of them only those next to others are tried.
fn is_used(octets: &[u8], place: usize) -> bool {
    let around = octets.get(place.saturating_sub(8)..(place + 9).min(octets.len()));
    around.is_some_and(|around| around.iter().any(|octet| *octet != 0))
}

#[test]
fn a_flipped_bit_anywhere_costs_what_it_hits_and_that_is_counted() {
    let files = files(&Folder::new());
    let flips: Vec<(&String, usize)> = files
        .iter()
        .flat_map(|(name, octets)| {
            (0..octets.len()).filter(|place| is_used(octets, *place)).map(move |place| (name, place))
        })
        .collect();
    assert!(flips.len() > 1000, "only {} octets", flips.len());
    let (lost, faults) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|half| {
                let (flips, files) = (&flips, &files);
                scope.spawn(move || {
                    let folder = Folder::new();
                    let (mut lost, mut faults) = (0, Vec::<String>::new());
                    for (name, place) in flips.iter().skip(half).step_by(2) {
                        for bit in 0..8 {
                            let mut files = files.clone();
                            files.get_mut(*name).expect("the file")[*place] ^= 1 << bit;
                            folder.put(&files);
                            let flip = format!("bit {bit} of octet {place} of {name}");
                            match std::panic::catch_unwind(|| check(&folder, &flip)) {
                                Ok(has_lost) => lost += usize::from(has_lost),
                                Err(_) => faults.push(flip),
                            }
                        }
                    }
                    (lost, faults)
                })
            })
            .collect();
        workers.into_iter().fold((0, Vec::new()), |(lost, mut faults), worker| {
            let (more, of_worker) = worker.join().expect("no panic");
            faults.extend(of_worker);
            (lost + more, faults)
        })
    });
    assert!(faults.is_empty(), "{} bits, such as {:?}", faults.len(), &faults[..faults.len().min(20)]);
    // Of each block the checksum finds each bit of what it covers.
    assert!(lost > 8 * 40 * BLOCKS as usize, "only {lost} of {} bits cost a message", 8 * flips.len());
}

/// What no row can say, but a flipped bit can have it say: the checksum of a block is compared only when it is read.
#[test]
fn numbers_that_no_row_can_have_are_damage() {
    let files = files(&Folder::new());
    let folder = Folder::new();
    // The middle and the end; SQLite writes numbers of one, two, three, four, six and eight octets.
    for row in [FIRST + MESSAGES, FIRST + ALL - MESSAGES] {
        for change in [
            "count = -31768".to_owned(),
            "count = 0".to_owned(),
            "count = 1001".to_owned(),
            "count = 9223372036854775807".to_owned(),
            "count = -9223372036854775808".to_owned(),
            "records = -1".to_owned(),
            "octets = -9223372036854775808".to_owned(),
            "epoch = -1".to_owned(),
            "raw = 4294967296".to_owned(),
            "raw = 4294967295".to_owned(),
            format!("first = {}", -(row as i64)),
            "first = -9223372036854775808".to_owned(),
            "first = 9223372036854775807".to_owned(),
            "first = 4611686018427387904".to_owned(),
        ] {
            folder.put(&files);
            let connection = rusqlite::Connection::open(folder.0.join("spool.sqlite")).expect("the file");
            let changed = connection.execute(&format!("UPDATE spool SET {change} WHERE first = {row}"), []);
            assert_eq!(changed, Ok(1), "{change}");
            connection.close().expect("closed");
            loses_one_block(&folder, &format!("{change} in the row of {row}"));
        }
    }
    for id in 0..=4 {
        for change in ["messages = -1", "messages = 9223372036854775807", "epoch = -1", "instance = x''"] {
            folder.put(&files);
            let connection = rusqlite::Connection::open(folder.0.join("spool.sqlite")).expect("the file");
            let changed = connection.execute(&format!("UPDATE meta SET {change} WHERE id = {id}"), []);
            assert_eq!(changed, Ok(1), "{change}");
            connection.close().expect("closed");
            assert!(!check(&folder, &format!("{change} in row {id} of meta")));
        }
    }
}

/// An output that begins with this spool counts one block as damaged, and has the others for the broker.
fn loses_one_block(folder: &Folder, what: &str) {
    let now = Instant::now();
    let (mut worker, _inbox) = worker::Worker::new(settings(&folder.0)).expect("it starts");
    worker.load(now);
    let (account, counts) = (worker.account, worker.counts);
    assert!(account.is_balanced(), "{what}: {account:?}");
    assert_eq!(account.spooled.records, ALL - MESSAGES, "{what}: {account:?}");
    assert_eq!(account.total_lost(), account.lost(KafkaLossReason::SpoolDamaged), "{what}");
    assert_eq!(account.lost_by_crash, Tally::ZERO, "{what}");
    assert!((1..=1000).contains(&counts.lost), "{what}: {} messages", counts.lost);
    assert_eq!(worker.flights.iter().count() as u64, BLOCKS - 1, "{what}");
}
