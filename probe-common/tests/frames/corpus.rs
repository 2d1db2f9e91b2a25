//! The fuzzer's corpus, and every input that once made it fail, on every test run.

use std::fs;
use std::path::Path;

use crate::support::{parse_captured, parse_frame};

/// Fewer files than this would mean that the folder is not found.
const AT_LEAST: usize = 20;

#[test]
fn every_file_of_the_corpus_parses() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/parse");
    let mut files = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let octets = fs::read(&path).unwrap();
        println!("{}", path.display());
        parse_frame(&octets);
        parse_captured(&octets, u32::MAX);
        files += 1;
    }
    assert!(files >= AT_LEAST, "{files} files in {}", folder.display());
}
