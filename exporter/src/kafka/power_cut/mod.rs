//! Power cuts: what the spool does is recorded call by call, disks are made from that as a power cut could have left them
//! at any moment, and the spool is opened on each. `PATHFLOW_POWER_CUTS` is how many, in each test.

mod disk;
mod output;
mod spool;
mod trace;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use disk::{Disk, Fate, Numbers};
use trace::Call;

/// Set for a process that is recorded: the folder in which it works.
const CHILD: &str = "PATHFLOW_POWER_CUT_CHILD";

/// A folder that is gone when the test ends.
struct Folder(PathBuf);

impl Folder {
    /// In memory, where there is such a file system: nobody cuts the power of these disks.
    fn new() -> Self {
        let name = format!("{:032x}", u128::from_be_bytes(super::spool::random()));
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(format!("pathflow-power-cut-{name}"));
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the recorder sees between the other calls.
fn say(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).expect("it is heard");
}

/// Records `child`, and calls `check` for disks as they may be after a power cut: with the folder, what happened to the
/// rest, and how many calls there were until then.
fn cut_power(name: &str, child: impl FnOnce(&Path), mut check: impl FnMut(&Folder, Fate, &[Call])) {
    if let Some(folder) = std::env::var_os(CHILD) {
        child(Path::new(&folder));
        std::process::exit(0);
    }
    let folder = Folder::new();
    let calls = trace::record(name, (CHILD, folder.0.to_str().expect("text")), &folder.0);
    assert!(
        calls.iter().filter(|call| matches!(call, Call::Sync(_))).count() > 20,
        "too little was recorded"
    );
    let wanted = std::env::var("PATHFLOW_POWER_CUTS").map_or(400, |count| count.parse().expect("a number"));
    let mut disk = Disk::new(&folder.0);
    let mut numbers = Numbers::new(7);
    let mut disks = 0;
    for (place, call) in calls.iter().enumerate() {
        disk.apply(call);
        // Every fate at some moments, more of them than there are moments if so many are wanted.
        let share = wanted * 1000 / calls.len() as u64;
        let count = share / 1000 + u64::from(numbers.below(1000) < share % 1000);
        for _ in 0..count {
            let fate = match numbers.below(5) {
                0 => Fate::Lost,
                1 => Fate::Kept,
                _ => Fate::Some(numbers.below(u64::MAX)),
            };
            let after = Folder::new();
            disk.write_to(&after.0, fate);
            check(&after, fate, &calls[..=place]);
            disks += 1;
        }
    }
    println!("{disks} disks from {} calls", calls.len());
    assert!(disks > wanted / 2, "only {disks} disks");
}
