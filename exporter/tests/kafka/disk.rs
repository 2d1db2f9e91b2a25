//! A file system that others fill.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use pathflow_exporter::kafka::{Durability, Kafka, KafkaEvent, KafkaLossReason, Message, SpoolSettings};

use crate::support::{Folder, ONE, settings, wait_for};

/// An ext4 file system in a file.
struct SmallDisk {
    folder: Folder,
    image: PathBuf,
}

impl SmallDisk {
    fn new() -> Self {
        let folder = Folder::new();
        let image = folder.path().with_extension("ext4");
        fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).expect("a file for the disk");
        let disk = Self { folder, image };
        // Nothing is kept for root, as which the test runs.
        run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&disk.image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(disk.path()));
        disk
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
        let _ = fs::remove_file(&self.image);
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Octets that nothing makes smaller.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut octets = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..125).flat_map(|_| octets()).collect()
}

#[test]
fn a_full_disk_costs_the_oldest_and_nothing_else() {
    let disk = SmallDisk::new();
    // Nobody listens there.
    let mut outage = settings("127.0.0.1:1", disk.path(), Durability::Always);
    outage.in_flight_octets = 500_000;
    outage.queue_octets = 4 << 20;
    outage.spool =
        Some(SpoolSettings { max_octets: 16 << 20, ..SpoolSettings::new(disk.path().join("spool")) });
    let mut kafka = Kafka::start(outage.clone()).expect("it starts");
    let mut next = 0;
    let mut produce = |kafka: &mut Kafka, count: u64| {
        for _ in 0..count {
            let payload = noise(next);
            next += 1;
            let message =
                Message { topic: "disk", partition: None, key: None, payload: &payload, tally: ONE };
            let end = Instant::now() + Duration::from_mins(1);
            while kafka.send(&message).is_err() {
                assert!(Instant::now() < end, "no room: {:?}", kafka.account());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    produce(&mut kafka, 2000);
    wait_for(&mut kafka, "they are on disk", |account| account.queued.records == 0);
    let other = disk.path().join("other");
    // Somebody else takes all that is left.
    let fill = format!("of={}", other.display());
    let status =
        Command::new("dd").args(["if=/dev/zero", &fill, "bs=64k"]).output().expect("dd starts").status;
    assert!(!status.success(), "the disk is full");
    produce(&mut kafka, 6000);
    let end = Instant::now() + Duration::from_mins(1);
    while kafka.account().lost(KafkaLossReason::DiskFull).records == 0 {
        assert!(Instant::now() < end, "{:?} {:?}", kafka.account(), kafka.counts());
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::remove_file(&other).expect("room again");
    produce(&mut kafka, 1000);
    let (account, events) = kafka.close(Instant::now() + Duration::from_secs(10));
    assert!(account.is_balanced(), "{account:?}");
    assert_eq!(account.accepted.records, 9000);
    assert!(events.contains(&KafkaEvent::DiskFull), "{events:?}");
    assert_eq!(account.lost(KafkaLossReason::SpoolFailed).records, 0, "{events:?}");
    let kept = account.spooled.records;
    assert!(kept > 1000, "{account:?}");
    let again = Kafka::start(outage).expect("it starts");
    assert_eq!(again.account().recovered.records, kept);
    assert_eq!(again.account().lost_by_crash.records, 0);
}
