//! What a process did to the files of a folder, and what it said in between, as strace saw it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One system call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    MakeFolder(PathBuf),
    /// The file may have been there.
    Open {
        file: PathBuf,
        creates: bool,
        truncates: bool,
    },
    Write {
        file: PathBuf,
        at: usize,
        octets: Vec<u8>,
    },
    Truncate {
        file: PathBuf,
        length: usize,
    },
    /// Room for so many octets, without a shorter file.
    Allocate {
        file: PathBuf,
        length: usize,
    },
    Sync(PathBuf),
    Unlink(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    /// A line on standard error.
    Said(String),
}

/// Calls that change files or have the disk keep them. One that the recorder cannot read would fail the test.
const CALLS: &str = "trace=openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,\
                     ftruncate,truncate,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mkdir,\
                     mkdirat,fallocate,copy_file_range,sendfile";

/// Runs the test `name` of this program with `variable` set, and records what it does in `folder`.
pub(super) fn record(name: &str, variable: (&str, &str), folder: &Path) -> Vec<Call> {
    let file = folder.with_extension("trace");
    let output = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "100000", "-e", CALLS])
        .args(["-e", "status=successful", "-o"])
        .arg(&file)
        .arg(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(variable.0, variable.1)
        .output()
        .expect("strace is installed: cargo xtask setup --peers");
    let text = fs::read_to_string(&file).expect("a trace");
    fs::remove_file(&file).expect("it is removed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the process to be recorded failed: {said}");
    text.lines().filter_map(|line| call(line, folder)).collect()
}

/// A call in `folder`, or a word of the process.
fn call(line: &str, folder: &Path) -> Option<Call> {
    let (_, line) = line.split_once(' ')?;
    let (name, rest) = line.trim_start().split_once('(')?;
    let (rest, result) = rest.rsplit_once(" = ")?;
    let arguments: Vec<&str> = rest.strip_suffix(')')?.trim_end().split(", ").collect();
    let argument = |index: usize| *arguments.get(index).expect("an argument");
    let number = |index: usize| argument(index).parse::<usize>().expect("a number");
    if name == "write" && argument(0).starts_with("2<") {
        return Some(Call::Said(String::from_utf8(octets(argument(1))).expect("text")));
    }
    let within = |text: &str| {
        let path = PathBuf::from(String::from_utf8(octets(text)).expect("a path"));
        path.starts_with(folder).then_some(path)
    };
    let open = |index: usize| {
        let (_, path) = argument(index).split_once('<')?;
        within(path.strip_suffix('>')?)
    };
    Some(match name {
        "mkdir" => Call::MakeFolder(within(argument(0))?),
        "openat" => Call::Open {
            file: within(argument(1))?,
            creates: argument(2).contains("O_CREAT"),
            truncates: argument(2).contains("O_TRUNC"),
        },
        "pwrite64" => {
            let file = open(0)?;
            let octets = octets(argument(1));
            assert_eq!(result.parse(), Ok(octets.len()), "a whole write");
            Call::Write { file, at: number(3), octets }
        }
        "ftruncate" => Call::Truncate { file: open(0)?, length: number(1) },
        "fallocate" => Call::Allocate { file: open(0)?, length: number(2) + number(3) },
        "fsync" | "fdatasync" => Call::Sync(open(0)?),
        "unlink" => Call::Unlink(within(argument(0))?),
        "rename" => Call::Rename { from: within(argument(0))?, to: within(argument(1))? },
        _ => {
            let is_inside = arguments.iter().any(|text| {
                let text = text.split_once('<').map_or(*text, |(_, path)| path.trim_end_matches('>'));
                text.contains("\\x")
                    && String::from_utf8(octets(text)).is_ok_and(|path| Path::new(&path).starts_with(folder))
            });
            assert!(!is_inside, "a call that the recorder does not know: {name}");
            return None;
        }
    })
}

/// What is written as `"\x00\x01"`, with or without quotes.
fn octets(text: &str) -> Vec<u8> {
    assert!(!text.ends_with("..."), "strace has cut it");
    let digit = |digit: u8| (digit as char).to_digit(16).expect("a digit") as u8;
    let text = text.trim_matches('"').as_bytes();
    text.chunks_exact(4).map(|octet| digit(octet[2]) << 4 | digit(octet[3])).collect()
}
