//! What comes later for a file: after a restart, and within a period that was written early.

use super::*;

#[test]
fn other_columns_after_a_restart_have_titles_of_their_own() {
    let scratch = Scratch::new("restart");
    let path = scratch.path("%H%M");
    for (markers, format) in [(false, Format::Csv), (true, Format::Csv), (false, Format::Formatted)] {
        let table = || FileTable { markers, format, ..FileTable::default() };
        output(&path, table(), &["src_port"]).write(&purge(&["src_port"], "5m", &[(1, 0, 0)]));
        let other = ["tag", "src_port"];
        let mut second = output(&path, table(), &other);
        second.write(&purge(&other, "5m", &[(2, 7, 0)]));
        second.write(&purge(&other, "5m", &[(3, 7, 0)]));
        let text = scratch.read("0545");
        let titles: Vec<usize> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains("SRC_PORT"))
            .map(|(at, _)| at)
            .collect();
        let (first, again) = if markers { (1, 5) } else { (0, 2) };
        assert_eq!(titles, [first, again], "{text}");
        fs::remove_file(scratch.path("0545")).unwrap();
    }
    let json = || FileTable { format: Format::Json, ..FileTable::default() };
    output(&path, json(), &["src_port"]).write(&purge(&["src_port"], "5m", &[(1, 0, 0)]));
    output(&path, json(), &["tag"]).write(&purge(&["tag"], "5m", &[(1, 0, 0)]));
    assert_eq!(scratch.read("0545").lines().count(), 2);
}

/// Each of these files gets rows by an early purge and by the one that was due: none may take the place of the others.
#[test]
fn a_period_of_very_many_files_is_whole() {
    let scratch = Scratch::new("many");
    let key = ["tag", "src_port"];
    let mut output = output(&scratch.path("$tag"), csv(), &key);
    let count = MANY as u64;
    let rows = |port| -> Vec<Packet> { (1..=count).map(|tag| (port, tag, 0)).collect() };
    let mut early = purge(&key, "", &rows(1));
    early.set_early();
    output.write(&early);
    output.write(&purge(&key, "", &rows(2)));
    assert_eq!(output.account(), account(2 * count, &[]));
    for tag in 1..=count {
        let text = scratch.read(&tag.to_string());
        assert_eq!(text, format!("TAG,SRC_PORT,PACKETS,BYTES\n{tag},1,1,100\n{tag},2,1,100\n"));
    }
}

/// More than are known of periods that are over.
const MANY: usize = 5000;

#[test]
fn rows_of_a_period_take_the_place_of_those_before_also_if_another_file_was_early() {
    let scratch = Scratch::new("period");
    let key = ["tag", "src_port"];
    let mut output = output(&scratch.path("$tag"), csv(), &key);
    output.write(&purge(&key, "", &[(1, 7, 0), (1, 8, 0)]));
    let mut early = purge(&key, "", &[(2, 7, 0)]);
    early.set_early();
    output.write(&early);
    output.write(&purge(&key, "", &[(3, 8, 0)]));
    assert_eq!(scratch.read("7"), "TAG,SRC_PORT,PACKETS,BYTES\n7,2,1,100\n");
    assert_eq!(scratch.read("8"), "TAG,SRC_PORT,PACKETS,BYTES\n8,3,1,100\n");
}
