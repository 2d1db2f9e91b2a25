//! Messages that tell who they are, and what became of them.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use pathflow_exporter::{
    Tally,
    kafka::{Durability, Kafka, KafkaAccount, KafkaSettings, Message, SpoolSettings},
};

/// A folder that is gone when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pathflow-kafka-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub const ONE: Tally = Tally { records: 1, packets: 1, octets: 300 };

pub fn settings(brokers: &str, folder: &Path, durability: Durability) -> KafkaSettings {
    KafkaSettings {
        durability,
        spool: Some(SpoolSettings { max_octets: 256 << 20, ..SpoolSettings::new(folder.join("spool")) }),
        ..KafkaSettings::new(brokers)
    }
}

/// 300 octets that are a function of the number.
pub fn payload(number: u64) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    let filling =
        (0_u64..).map(|place| b'a' + ((number.wrapping_mul(31).wrapping_add(place * 7)) % 26) as u8);
    let missing = 300 - payload.len();
    payload.extend(filling.take(missing));
    payload
}

/// Sends the message with this number, when there is room for it.
pub fn send(kafka: &mut Kafka, topic: &str, number: u64) {
    let payload = payload(number);
    let key = (number % 16).to_string();
    let message =
        Message { topic, partition: None, key: Some(key.as_bytes()), payload: &payload, tally: ONE };
    let end = Instant::now() + Duration::from_mins(2);
    while kafka.send(&message).is_err() {
        assert!(Instant::now() < end, "no room: {:?}", kafka.account());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// About 10,000 messages a second, in slices, for `time`.
pub fn load(kafka: &mut Kafka, next: &mut u64, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for _ in 0..100 {
            send(kafka, "load", *next);
            *next += 1;
        }
        assert!(kafka.account().is_balanced());
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn wait_for(kafka: &mut Kafka, what: &str, mut condition: impl FnMut(&KafkaAccount) -> bool) {
    let end = Instant::now() + Duration::from_mins(2);
    loop {
        let account = kafka.account();
        assert!(account.is_balanced(), "{account:?}");
        if condition(&account) {
            return;
        }
        assert!(Instant::now() < end, "{what}: {account:?} {:?}", kafka.counts());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One message as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub key: String,
    pub epoch: u32,
    pub sequence: u64,
    pub payload: String,
}

/// Everything in a topic, by partition, in order, as kcat reads it.
pub fn read(brokers: &str, topic: &str) -> BTreeMap<i32, Vec<Seen>> {
    let output = Command::new("kcat")
        .args(["-C", "-q", "-e", "-o", "beginning", "-b", brokers, "-t", topic])
        .args(["-X", "check.crcs=true", "-f", "%p %k %h %s\n"])
        .output()
        .expect("kcat is installed: cargo xtask setup --peers");
    assert!(output.status.success(), "kcat: {}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<i32, Vec<Seen>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().expect("four parts");
        let (partition, key, header) = (part(), part(), part());
        let stamp = header.strip_prefix("pathflow-stamp=").expect("a stamp");
        let mut stamp = stamp.split(':').skip(1).map(|number| number.parse::<u64>().expect("a number"));
        let mut number = || stamp.next().expect("three parts");
        let seen = Seen {
            key: key.to_owned(),
            epoch: number() as u32,
            sequence: number(),
            payload: part().to_owned(),
        };
        found.entry(partition.parse().expect("a number")).or_default().push(seen);
    }
    found
}

/// What a consumer can say of a topic that got the messages `0..produced`.
#[derive(Debug, Default)]
pub struct Verdict {
    pub missing: Vec<u64>,
    pub duplicates: u64,
    /// Messages that came after one with a higher number of their partition, copies left out.
    pub out_of_order: u64,
}

/// Compares; fails on a message that nobody sent.
pub fn judge(found: &BTreeMap<i32, Vec<Seen>>, produced: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let mut times: HashMap<u64, u64> = HashMap::new();
    for messages in found.values() {
        let mut highest = None;
        for seen in messages {
            let number: u64 =
                seen.payload.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
            assert!(number < produced, "nobody sent {number}");
            assert_eq!(seen.payload.as_bytes(), payload(number), "content of {number}");
            let times = times.entry(number).or_default();
            *times += 1;
            if *times == 1 {
                verdict.out_of_order += u64::from(highest.is_some_and(|highest| highest > seen.sequence));
                highest = highest.max(Some(seen.sequence));
            }
        }
    }
    verdict.missing = (0..produced).filter(|number| !times.contains_key(number)).collect();
    verdict.duplicates = times.values().map(|times| times - 1).sum();
    verdict
}
