//! Every capture there is to test with, read once for all tests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::file::{self, Packet};
use crate::{own, say};

/// Names the directory with further captures.
const VARIABLE: &str = "PATHFLOW_CAPTURES";
/// Endings of capture files.
const ENDINGS: [&str; 3] = ["pcap", "pcapng", "cap"];

/// One capture.
#[derive(Debug)]
pub(crate) struct Capture {
    /// Name of the file, or of the repository's own capture.
    pub(crate) name: String,
    /// Where the file is; the repository's own captures have none.
    pub(crate) path: Option<PathBuf>,
    pub(crate) packets: Vec<Packet>,
    /// How the file breaks after the packets.
    pub(crate) fault: Option<String>,
}

impl Capture {
    /// The packets that begin with an Ethernet header.
    pub(crate) fn ethernet(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter().filter(|packet| packet.is_ethernet())
    }
}

/// Every capture.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// The repository's own first.
    pub(crate) captures: Vec<Capture>,
    /// Capture files in the directory.
    files: usize,
}

/// The captures.
///
/// # Panics
/// If the variable is set and the directory cannot be read, or has no capture.
pub(crate) fn corpus() -> &'static Corpus {
    static CORPUS: LazyLock<Result<Corpus, String>> = LazyLock::new(load);
    match &*CORPUS {
        Ok(corpus) => corpus,
        Err(reason) => panic!("{reason}"),
    }
}

fn load() -> Result<Corpus, String> {
    let mut captures = own::captures();
    let Some(directory) = env::var_os(VARIABLE).map(PathBuf::from) else {
        say(&format!("{VARIABLE} is not set: only the repository's own {} captures", captures.len()));
        return Ok(Corpus { captures, files: 0 });
    };
    let paths = capture_files(&directory)?;
    let files = paths.len();
    for path in paths {
        captures.push(read_capture(path)?);
    }
    let faults: Vec<&Capture> = captures.iter().filter(|capture| capture.fault.is_some()).collect();
    say(&format!("{files} files in the directory, {} of them broken as files", faults.len()));
    for Capture { name, packets, fault, .. } in faults {
        say(&format!("  {name}: {} after {} packets", fault.as_deref().unwrap_or_default(), packets.len()));
    }
    Ok(Corpus { captures, files })
}

fn capture_files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("{VARIABLE}={}: {error}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(format!("{VARIABLE}={}: no capture in it", directory.display()));
    }
    paths.sort();
    Ok(paths)
}

fn read_capture(path: PathBuf) -> Result<Capture, String> {
    let octets = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file::Contents { packets, fault } = file::read(&octets);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Capture { name, path: Some(path), packets, fault })
}

impl Corpus {
    /// Fails if a test went through too few captures and packets to mean anything: 19 of 20 files of the
    /// directory, and four packets for each, besides the repository's own Ethernet packets. A capture counts
    /// if the test used a packet of it.
    pub(crate) fn check_processed(&self, captures: usize, packets: u64) {
        let own = self.captures.iter().filter(|capture| capture.path.is_none());
        let own: Vec<usize> = own.map(|own| own.ethernet().count()).filter(|packets| *packets > 0).collect();
        let own_packets: usize = own.iter().sum();
        assert!(own.len() >= 10 && own_packets >= 300, "{} own captures, {own_packets} packets", own.len());
        let least_captures = own.len() + (self.files * 19).div_ceil(20);
        assert!(captures >= least_captures, "{captures} captures were used of at least {least_captures}");
        let least_packets = own_packets + 4 * self.files;
        assert!(packets >= least_packets as u64, "{packets} packets were used of at least {least_packets}");
    }
}
