//! Files as they are on disk.

mod continued;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use pathflow_exporter::{FlowRecord, Tally};

use super::*;
use crate::aggregate::encode::{EncodeSettings, Format, FormatTable};
use crate::aggregate::{AggregateSettings, Aggregation, Bins, Key, Observed, Spread};
use crate::classify::Class;
use crate::ledger::ProgramCounts;

/// 2026-11-21T05:45:00Z
const BIN: u64 = 1_795_239_900;

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pathflow-output-{name}-{}", std::process::id()));
        // One may be left of a run that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Source port, tag and seconds after [`BIN`] of packets of 100 octets.
type Packet = (u16, u64, u64);

fn purge(key: &[&str], history: &str, packets: &[Packet]) -> Purge {
    let mut settings = AggregateSettings::new("test", Key::parse(key).unwrap(), Duration::from_mins(1));
    if !history.is_empty() {
        settings.history = Some(Bins::parse(history, "m", Duration::ZERO, TimeZone::UTC).unwrap());
    }
    let mut aggregation = Aggregation::new(settings);
    for (source_port, tag, seconds) in packets {
        let record = FlowRecord {
            source_port: *source_port,
            protocol_identifier: 17,
            tag: *tag,
            packet_delta_count: 1,
            octet_delta_count: 100,
            ..FlowRecord::between([192, 0, 2, 1].into(), [192, 0, 2, 2].into())
        };
        let time = (BIN + seconds) * 1_000_000;
        let observed = Observed {
            record,
            extension: None,
            inner_tcp_control_bits: 0,
            class: Class::UNKNOWN,
            begins: true,
            start: time,
            time,
            end: time,
        };
        aggregation.add(&[observed], &mut Spread::default());
    }
    aggregation.purge(BIN + 600, None, None)
}

fn settings(path: &Path, table: FileTable, key: &[&str]) -> Result<FileSettings, OutputSettingsError> {
    let table = FileTable { path: path.display().to_string(), ..table };
    let encode = EncodeSettings::new(&FormatTable::default(), true);
    let minute = Duration::from_mins(1);
    let bins = Bins::parse("5m", "m", Duration::ZERO, TimeZone::UTC).unwrap();
    FileSettings::new(&table, &encode, &Key::parse(key).unwrap().primitives, minute, Some(&bins))
}

fn output(path: &Path, table: FileTable, key: &[&str]) -> FileOutput {
    let primitives = Key::parse(key).unwrap().primitives;
    FileOutput::new("test", settings(path, table, key).unwrap(), &primitives, false).unwrap()
}

fn csv() -> FileTable {
    FileTable { format: Format::Csv, ..FileTable::default() }
}

fn tally(records: u64) -> Tally {
    Tally { records, packets: records, octets: 100 * records }
}

fn account(delivered: u64, lost: &[(&'static str, u64)]) -> OutputAccount {
    let lost = lost.iter().map(|(reason, records)| (*reason, tally(*records))).collect();
    OutputAccount { delivered: tally(delivered), lost, ..OutputAccount::default() }
}

#[test]
fn a_purge_fills_a_file_for_each_bin_and_tag() {
    let scratch = Scratch::new("bins");
    let key = ["tag", "src_port"];
    let mut output = output(&scratch.path("%Y/%H%M-$tag-$tag2-$ref-$hst$tzone.csv"), csv(), &key);
    output.write(&purge(&key, "5m", &[(1, 7, 0), (2, 7, 299), (1, 8, 10), (1, 7, 300)]));
    let mut names = Vec::new();
    for entry in fs::read_dir(scratch.path("2026")).unwrap() {
        names.push(entry.unwrap().file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["0545-7-0-60-300Z.csv", "0545-8-0-60-300Z.csv", "0550-7-0-60-300Z.csv"]);
    let mut lines: Vec<String> =
        scratch.read("2026/0545-7-0-60-300Z.csv").lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(lines, ["TAG,SRC_PORT,PACKETS,BYTES", "7,1,1,100", "7,2,1,100"]);
    assert_eq!(output.account(), account(4, &[]));
    let mode = |name: &str| fs::metadata(scratch.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("2026"), mode("2026/0550-7-0-60-300Z.csv")), (0o700, 0o600));
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_bin_that_comes_in_several_purges_is_whole() {
    let scratch = Scratch::new("purges");
    let key = ["src_port"];
    let path = scratch.path("%H%M");
    let mut first = output(&path, csv(), &key);
    first.write(&purge(&key, "5m", &[(1, 0, 0)]));
    first.write(&purge(&key, "5m", &[(2, 0, 200), (1, 0, 300)]));
    // One that comes late.
    first.write(&purge(&key, "5m", &[(3, 0, 299)]));
    assert_eq!(sorted(&scratch.read("0545")), ["1,1,100", "2,1,100", "3,1,100"]);
    // After a restart.
    output(&path, csv(), &key).write(&purge(&key, "5m", &[(4, 0, 1)]));
    assert_eq!(sorted(&scratch.read("0545")), ["1,1,100", "2,1,100", "3,1,100", "4,1,100"]);
    assert_eq!(sorted(&scratch.read("0550")), ["1,1,100"]);
    // A replay makes its files anew, and they are whole, too.
    let primitives = Key::parse(&key).unwrap().primitives;
    let mut replay =
        FileOutput::new("test", settings(&path, csv(), &key).unwrap(), &primitives, true).unwrap();
    replay.write(&purge(&key, "5m", &[(5, 0, 0)]));
    replay.write(&purge(&key, "5m", &[(6, 0, 300)]));
    replay.write(&purge(&key, "5m", &[(7, 0, 0)]));
    assert_eq!(sorted(&scratch.read("0545")), ["5,1,100", "7,1,100"]);
    assert_eq!(sorted(&scratch.read("0550")), ["6,1,100"]);
}

#[test]
fn a_period_with_an_early_purge_is_whole() {
    let scratch = Scratch::new("early");
    let key = ["src_port"];
    let mut output = output(&scratch.path("rows"), csv(), &key);
    output.write(&purge(&key, "", &[(1, 0, 0)]));
    let mut early = purge(&key, "", &[(2, 0, 0)]);
    early.set_early();
    output.write(&early);
    output.write(&purge(&key, "", &[(3, 0, 0)]));
    assert_eq!(sorted(&scratch.read("rows")), ["2,1,100", "3,1,100"]);
    output.write(&purge(&key, "", &[(4, 0, 0)]));
    assert_eq!(sorted(&scratch.read("rows")), ["4,1,100"]);
}

#[test]
fn another_output_goes_on_with_a_file() {
    let scratch = Scratch::new("going-on");
    let key = ["src_port"];
    let path = scratch.path("rows");
    let mut first = output(&path, csv(), &key);
    first.write(&purge(&key, "", &[(1, 0, 0)]));
    let mut second = output(&path, csv(), &key).going_on(first.files().unwrap(), true);
    // The last rows of one that is changed belong to a period that goes on.
    let mut last = purge(&key, "", &[(2, 0, 0)]);
    last.set_early();
    first.write(&last);
    second.write(&purge(&key, "", &[(3, 0, 0)]));
    assert_eq!(sorted(&scratch.read("rows")), ["2,1,100", "3,1,100"]);
    // Other columns have a title of their own.
    let other = ["tag", "src_port"];
    let mut third = output(&path, csv(), &other).going_on(second.files().unwrap(), false);
    last = purge(&key, "", &[(4, 0, 0)]);
    last.set_early();
    second.write(&last);
    third.write(&purge(&other, "", &[(5, 7, 0)]));
    let whole = "SRC_PORT,PACKETS,BYTES\n4,1,100\nTAG,SRC_PORT,PACKETS,BYTES\n7,5,1,100\n";
    assert_eq!(scratch.read("rows"), whole);
    // The next period is a file of its own, also when nothing was left in the one before.
    third.write(&purge(&other, "", &[(6, 7, 0)]));
    assert_eq!(scratch.read("rows"), "TAG,SRC_PORT,PACKETS,BYTES\n7,6,1,100\n");
}

#[test]
fn a_part_that_was_left_is_not_followed() {
    let scratch = Scratch::new("part");
    fs::write(scratch.path("other"), "precious").unwrap();
    symlink(scratch.path("other"), scratch.path("rows.part")).unwrap();
    let key = ["src_port"];
    output(&scratch.path("rows"), csv(), &key).write(&purge(&key, "", &[(1, 0, 0)]));
    assert_eq!(
        (scratch.read("other"), scratch.names()),
        ("precious".to_owned(), vec!["other".to_owned(), "rows".to_owned()])
    );
}

#[test]
fn files_are_replaced_or_appended_to_without_a_second_header() {
    let scratch = Scratch::new("append");
    let key = ["src_port"];
    let mut replacing = output(&scratch.path("replaced"), csv(), &key);
    let appending = FileTable { append: true, markers: true, ..csv() };
    let mut appending = output(&scratch.path("appended"), appending, &key);
    for port in [1, 2] {
        let purge = purge(&key, "", &[(port, 0, 0)]);
        replacing.write(&purge);
        appending.write(&purge);
    }
    assert_eq!(scratch.read("replaced"), "SRC_PORT,PACKETS,BYTES\n2,1,100\n");
    let process = std::process::id();
    let expected = format!(
        "--START ({process})--\nSRC_PORT,PACKETS,BYTES\n1,1,100\n--END ({process})--\n\
         --START ({process})--\n2,1,100\n--END ({process})--\n"
    );
    assert_eq!(scratch.read("appended"), expected);
    assert_eq!(scratch.names(), ["appended", "replaced"]);
}

#[test]
fn without_rows_there_is_a_file_only_if_wanted() {
    let scratch = Scratch::new("empty");
    let key = ["src_port"];
    output(&scratch.path("none"), csv(), &key).write(&purge(&key, "", &[]));
    assert!(scratch.names().is_empty());
    let wanted = FileTable { write_empty: true, markers: true, ..csv() };
    let mut wanted = output(&scratch.path("%H%M"), wanted, &key);
    // It is of the bin that has ended, and takes nobody's place.
    wanted.write(&purge(&key, "5m", &[]));
    assert_eq!((scratch.names(), scratch.read("0550")), (vec!["0550".to_owned()], String::new()));
    fs::write(scratch.path("0550"), "rows").unwrap();
    wanted.write(&purge(&key, "5m", &[]));
    assert_eq!(scratch.read("0550"), "rows");
}

#[test]
fn the_link_goes_to_the_last_name() {
    let scratch = Scratch::new("latest");
    let key = ["src_port"];
    let latest = FileTable { latest: scratch.path("links/latest").display().to_string(), ..csv() };
    let mut output = output(&scratch.path("%H%M"), latest, &key);
    output.write(&purge(&key, "5m", &[(1, 0, 0), (1, 0, 300)]));
    let target = || fs::read_link(scratch.path("links/latest")).unwrap().file_name().unwrap().to_owned();
    assert_eq!(target(), "0550");
    // A file of an earlier bin is not the latest.
    output.write(&purge(&key, "5m", &[(1, 0, 0)]));
    assert_eq!(target(), "0550");
    output.write(&purge(&key, "5m", &[(1, 0, 600)]));
    assert_eq!(target(), "0555");
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
}

#[test]
fn a_fifo_without_a_reader_does_not_block() {
    let scratch = Scratch::new("fifo");
    fifo(&scratch.path("fifo"));
    let key = ["src_port"];
    let mut output = output(&scratch.path("fifo"), csv(), &key);
    let one = purge(&key, "", &[(1, 0, 0)]);
    output.write(&one);
    output.write(&one);
    assert_eq!(output.account(), account(0, &[("no_reader", 2)]));

    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let reader = fs::OpenOptions::new().read(true).custom_flags(flags).open(scratch.path("fifo")).unwrap();
    output.write(&one);
    assert_eq!(output.account(), account(1, &[("no_reader", 2)]));
    let mut lines = BufReader::new(reader).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "SRC_PORT,PACKETS,BYTES");
    assert_eq!(lines.next().unwrap().unwrap(), "1,1,100");
    // It does not read on: what a pipe holds is delivered, whole rows, the rest is lost.
    let many: Vec<Packet> = (0..20_000).map(|port| (port, 0, 0)).collect();
    output.write(&purge(&key, "", &many));
    let OutputAccount { delivered, lost, .. } = output.account();
    assert_eq!(lost[1].0, "reader_slow");
    assert_eq!(delivered + lost[1].1, tally(20_001));
    let mut rest = Vec::new();
    lines.into_inner_rest(&mut rest);
    let text = String::from_utf8(rest).unwrap();
    assert_eq!(text.lines().count() as u64, delivered.records);
    assert!(text.ends_with('\n') && text.lines().skip(1).all(|line| line.ends_with(",1,100")));
}

/// Reads what is there now.
trait Rest {
    fn into_inner_rest(self, rest: &mut Vec<u8>);
}

impl Rest for std::io::Lines<BufReader<File>> {
    fn into_inner_rest(self, rest: &mut Vec<u8>) {
        // `Lines` does not give its reader back: line by line, until there is no more.
        for line in self.map_while(Result::ok) {
            rest.extend_from_slice(line.as_bytes());
            rest.push(b'\n');
        }
    }
}

#[test]
fn a_reader_that_goes_away_costs_the_rest() {
    let scratch = Scratch::new("reader");
    fifo(&scratch.path("fifo"));
    let key = ["src_port"];
    let mut output = output(&scratch.path("fifo"), csv(), &key);
    let path = scratch.path("fifo");
    let reader = std::thread::spawn(move || {
        let mut file = File::open(path).unwrap();
        file.read_exact(&mut [0; 1000]).unwrap();
    });
    let many: Vec<Packet> = (0..60_000).map(|port| (port, 0, 0)).collect();
    let purge = purge(&key, "", &many);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut written = 0;
    let gone = loop {
        output.write(&purge);
        written += 60_000;
        let account = output.account();
        let gone = account.lost.iter().find(|(reason, _)| *reason == "reader_gone").copied();
        let lost = account.lost.iter().fold(Tally::ZERO, |sum, (_, lost)| sum + *lost);
        assert_eq!(account.delivered + lost, tally(written));
        if gone.is_some() || Instant::now() > deadline {
            break gone;
        }
    };
    reader.join().unwrap();
    assert!(gone.unwrap().1.records > 0);
}

#[test]
fn what_cannot_be_written_is_counted_by_reason() {
    let scratch = Scratch::new("failures");
    let key = ["src_port"];
    let rows = purge(&key, "", &[(1, 0, 0), (2, 0, 0)]);
    let full = Path::new("/dev/full");
    let mut output_full = output(full, csv(), &key);
    output_full.write(&rows);
    output_full.write(&rows);
    assert_eq!(output_full.account(), account(0, &[("no_space", 4)]));

    fs::write(scratch.path("file"), "").unwrap();
    let mut below_a_file = output(&scratch.path("file/name"), csv(), &key);
    below_a_file.write(&rows);
    assert_eq!(below_a_file.account().lost, [("no_directory", tally(2))]);

    fs::create_dir(scratch.path("directory")).unwrap();
    let appending = FileTable { append: true, ..csv() };
    let mut is_directory = output(&scratch.path("directory"), appending, &key);
    is_directory.write(&rows);
    assert_eq!(is_directory.account().lost, [("is_directory", tally(2))]);

    // When the trouble is over, the next purge is written.
    symlink("/dev/full", scratch.path("link")).unwrap();
    let mut recovers = output(&scratch.path("link"), csv(), &key);
    recovers.write(&rows);
    fs::remove_file(scratch.path("link")).unwrap();
    recovers.write(&rows);
    assert_eq!(recovers.account(), account(2, &[("no_space", 2)]));
    assert_eq!(scratch.read("link").lines().count(), 3);
}

/// On a file system of its own that has room for some of the rows only.
#[test]
fn a_full_disk_leaves_whole_rows() {
    let scratch = Scratch::new("disk");
    let small = scratch.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "none"])
        .arg(&small)
        .status();
    assert!(mounted.unwrap().success(), "this test needs mount(8) and the right to use it");
    let key = ["src_port"];
    let appending = FileTable { append: true, ..csv() };
    let mut appending = output(&small.join("appended"), appending, &key);
    let many: Vec<Packet> = (0..60_000).map(|port| (port, 0, 0)).collect();
    let purge = purge(&key, "", &many);
    appending.write(&purge);
    let text = fs::read_to_string(small.join("appended")).unwrap();
    let mut replacing = output(&small.join("replaced"), csv(), &key);
    replacing.write(&purge);
    let names: Vec<_> = fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(std::process::Command::new("umount").arg(&small).status().unwrap().success());

    let OutputAccount { delivered, lost, .. } = appending.account();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].0, delivered + lost[0].1), ("no_space", tally(60_000)));
    assert_eq!(text.lines().count() as u64, 1 + delivered.records);
    assert!(delivered.records > 1000 && text.ends_with(",1,100\n"));
    assert_eq!(replacing.account(), account(0, &[("no_space", 60_000)]));
    assert_eq!(names, ["appended"]);
}

#[test]
fn settings_that_cannot_be_are_said() {
    let path = Path::new("/tmp/x");
    let wrong = |table: FileTable, key: &[&str]| settings(path, table, key).unwrap_err().to_string();
    let text = |table: &str| toml::from_str::<FileTable>(table).unwrap();
    assert_eq!(
        wrong(text("format = \"formatted\""), &["src_host", "as_path"]),
        "format: as_path has no fixed width, which the formatted output needs; use csv or json"
    );
    assert_eq!(wrong(text("latest = '/tmp/%H'"), &[]), "latest: it must not depend on the time");
    assert!(wrong(text("umask = \"000\""), &[]).starts_with("umask: "));
    assert!(wrong(text("format = \"csv\"\nseparator = \"--\""), &[]).starts_with("separator: "));
    let unknown = settings(Path::new("/tmp/$label"), csv(), &[]).unwrap_err();
    assert!(unknown.to_string().starts_with("path: of names that begin with $ only $peer_src_ip, $tag"));
    assert!(toml::from_str::<FileTable>("nothing = 1").is_err());
}

/// The commented tables of the example file, without the marks.
#[test]
fn the_example_shows_every_key_with_its_default() {
    let example = include_str!("../../../../pathflow.example.toml");
    let table = |name: &str| -> toml::Table {
        let lines = example.lines().skip_while(|line| *line != format!("# [aggregate.{name}]")).skip(1);
        let lines = lines.take_while(|line| line.len() > 1 && !line.starts_with("# ["));
        let text: Vec<&str> = lines.map(|line| line.trim_start_matches("# ")).collect();
        let keys: Vec<&str> = text.into_iter().filter(|line| line.contains(" = ")).collect();
        toml::from_str(&keys.join("\n")).unwrap()
    };
    let path = "/var/spool/pathflow/acct-%Y%m%d-%H%M.json".to_owned();
    let file = FileTable { path, ..FileTable::default() };
    assert_eq!(table("file"), toml::Table::try_from(file).unwrap());
    assert_eq!(table("stdout"), toml::Table::try_from(StdoutTable::default()).unwrap());
    assert_eq!(table("format"), toml::Table::try_from(FormatTable::default()).unwrap());
}

/// As with pmacctd's `files_uid` and `files_gid`, directories that had to be made are given away, too.
#[test]
fn files_and_new_directories_belong_to_whom_the_settings_say() {
    let scratch = Scratch::new("owner");
    let key = ["src_port"];
    let nobody = |uid: &str, gid: &str| FileTable { owner: uid.to_owned(), group: gid.to_owned(), ..csv() };
    let owner_of = |name: &str| {
        let metadata = fs::symlink_metadata(scratch.path(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    let rows = purge(&key, "", &[(1, 0, 0)]);
    output(&scratch.path("a/b/by-name"), nobody("nobody", "nogroup"), &key).write(&rows);
    let told = owner_of("a/b/by-name");
    assert_eq!(told, (65534, 65534), "this test needs root, and Debian's nobody and nogroup");
    assert_eq!([owner_of("a"), owner_of("a/b")], [(65534, 65534); 2]);
    assert_ne!(owner_of("."), (65534, 65534), "it was there before");

    let table = FileTable { append: true, ..nobody("", "7") };
    output(&scratch.path("by-number"), table, &key).write(&rows);
    assert_eq!(owner_of("by-number"), (owner_of(".").0, 7));

    // The new owner cannot have rows written somewhere else.
    fs::write(scratch.path("elsewhere"), "stays\n").unwrap();
    for (name, append) in [("link", false), ("link.part", false), ("grown", true)] {
        symlink(scratch.path("elsewhere"), scratch.path(name)).unwrap();
        let table = FileTable { append, ..nobody("nobody", "") };
        let name = name.trim_end_matches(".part");
        output(&scratch.path(name), table, &key).write(&rows);
        assert_eq!(scratch.read("elsewhere"), "stays\n", "{name}");
    }

    // Nor can anybody else, where others can make files.
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
    let table = || FileTable { append: true, ..csv() };
    output(&scratch.path("grown"), table(), &key).write(&rows);
    assert_eq!(scratch.read("elsewhere"), "stays\n");
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).unwrap();
    output(&scratch.path("grown"), table(), &key).write(&rows);
    assert!(scratch.read("elsewhere").lines().count() > 1);

    for (table, expected) in [
        (nobody("no-such-user", ""), "owner: there is no such user"),
        (nobody("", "no-such-group"), "group: there is no such group"),
        (nobody("4294967295", ""), "owner: it is too large a number"),
    ] {
        assert_eq!(settings(Path::new("/tmp/x"), table, &key).unwrap_err().to_string(), expected);
    }
}

/// Until the counts are these.
fn wait_for_programs(output: &mut FileOutput, expected: ProgramCounts) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while output.account().programs != Some(expected) {
        assert!(Instant::now() < deadline, "{:?}", output.account().programs);
        std::thread::sleep(Duration::from_millis(10));
        output.poll();
    }
}

#[test]
fn a_program_is_run_for_what_was_written_and_gets_the_names() {
    let scratch = Scratch::new("exec");
    let key = ["tag"];
    let exec =
        |command: &[&str]| FileTable { exec: command.iter().map(|&part| part.to_owned()).collect(), ..csv() };
    let script =
        format!("echo $PATHFLOW_AGGREGATE $# \"$1\" >> {0}; cat >> {0}", scratch.path("told").display());
    let path = scratch.path("rows-$tag");
    let mut told = output(&path, exec(&["/bin/sh", "-c", &script, "name", "a; b"]), &key);
    // Of no rows there is no file.
    told.write(&purge(&key, "", &[]));
    told.write(&purge(&key, "", &[(1, 7, 0), (1, 8, 0)]));
    wait_for_programs(&mut told, ProgramCounts { succeeded: 1, ..ProgramCounts::default() });
    let name = |tag: u64| scratch.path(&format!("rows-{tag}")).display().to_string();
    assert_eq!(scratch.read("told"), format!("test 1 a; b\n{}\n{}\n", name(7), name(8)));
    assert_eq!(told.account().delivered, tally(2));

    for command in [&["/bin/false"][..], &["/nowhere/program"], &["/bin/sh", "-c", "kill -9 $$"]] {
        let mut failing = output(&path, exec(command), &key);
        failing.write(&purge(&key, "", &[(1, 7, 0)]));
        wait_for_programs(&mut failing, ProgramCounts { failed: 1, ..ProgramCounts::default() });
        assert_eq!(failing.account().delivered, tally(1));
    }
    let error = settings(&path, exec(&["program"]), &key).unwrap_err().to_string();
    assert_eq!(error, "exec: it is not the full path of a program");
}

#[test]
fn a_program_that_had_to_wait_gets_all_names() {
    let scratch = Scratch::new("wait");
    let key = ["tag"];
    let path = |name: &str| scratch.path(name).display().to_string();
    let script = format!("cat >> {}; until [ -e {} ]; do sleep 0.01; done", path("told"), path("go"));
    let command = ["/bin/sh", "-c", &script].map(str::to_owned);
    let table = FileTable { exec: command.into(), ..csv() };
    let mut output = output(&scratch.path("rows-$tag"), table, &key);
    for tag in 1..=7 {
        output.write(&purge(&key, "", &[(1, tag, 0)]));
    }
    assert_eq!(output.account().programs, Some(ProgramCounts { postponed: 3, ..ProgramCounts::default() }));
    fs::write(scratch.path("go"), "").unwrap();
    // The end waits for them.
    output.close(Instant::now() + Duration::from_mins(1));
    let expected = ProgramCounts { succeeded: 5, postponed: 3, ..ProgramCounts::default() };
    assert_eq!(output.account().programs, Some(expected));
    let mut told: Vec<String> = scratch.read("told").lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, (1..=7).map(|tag| path(&format!("rows-{tag}"))).collect::<Vec<_>>());
}

#[test]
fn programs_are_few_and_none_outlives_the_output() {
    let scratch = Scratch::new("few");
    let key = ["tag"];
    let script = format!("sleep 1000 & echo $! >> {}; wait", scratch.path("sleeping").display());
    let command = ["/bin/sh", "-c", &script].map(str::to_owned);
    let mut output = output(&scratch.path("rows"), FileTable { exec: command.into(), ..csv() }, &key);
    for _ in 0..6 {
        output.write(&purge(&key, "", &[(1, 7, 0)]));
    }
    assert_eq!(output.account().programs, Some(ProgramCounts { postponed: 2, ..ProgramCounts::default() }));
    let deadline = Instant::now() + Duration::from_mins(1);
    let sleeping = || fs::read_to_string(scratch.path("sleeping")).unwrap_or_default();
    while sleeping().lines().count() < 4 {
        assert!(Instant::now() < deadline, "the programs have not begun");
        std::thread::sleep(Duration::from_millis(10));
    }
    output.close(Instant::now());
    assert_eq!(
        output.account().programs,
        Some(ProgramCounts { failed: 5, postponed: 2, ..ProgramCounts::default() })
    );
    for process in sleeping().lines() {
        // What has ended is there until somebody has asked for its status.
        let lives = || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        while lives() {
            assert!(Instant::now() < deadline, "{process} goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
