//! Rules for every file of the repository: nothing compiled, nothing large, nothing from outside.

use super::{File, Finding};

/// Captures and test vectors stay small: the repository is cloned by everyone who builds it.
const MAX_BINARY_OCTETS: usize = 64 * 1024;

/// Endings of files that a compiler writes.
const COMPILED: [&str; 5] = ["o", "so", "a", "ko", "elf"];

/// Endings of data that may be kept when it is small.
const DATA: [&str; 3] = ["bin", "pcap", "pcapng"];

/// Data that lies beside a checkout, and the one file that may know about it.
const OUTSIDE: &str = concat!("..", "/shared");
const OUTSIDE_ALLOWED: &str = ".ci/run";

/// Checks one file of any kind.
pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line, message: String| findings.push(Finding::new(&file.path, line, message));
    let extension = file.extension();
    if COMPILED.contains(&extension) || file.content.starts_with(b"\x7fELF") {
        find(1, "a compiled object; the build makes it".to_owned());
    }
    let length = file.content.len();
    if DATA.contains(&extension) && length > MAX_BINARY_OCTETS {
        find(1, format!("{length} octets of binary data (limit {MAX_BINARY_OCTETS})"));
    }
    if file.path != OUTSIDE_ALLOWED {
        for (index, line) in file.text().unwrap_or_default().lines().enumerate() {
            if line.contains(OUTSIDE) {
                find(index + 1, format!("only {OUTSIDE_ALLOWED} may mention {OUTSIDE}"));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, content: impl Into<Vec<u8>>) -> Vec<usize> {
        let findings = check(&File { path: path.to_owned(), content: content.into() });
        findings.into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn compiled_objects_are_found_by_name_and_by_content() {
        assert_eq!(lines("probe-ebpf/program.o", ""), [1]);
        assert_eq!(lines("probe-ebpf/program", "\x7fELF"), [1]);
        assert!(lines("probe-ebpf/src/main.rs", "//! Text.\n").is_empty());
    }

    #[test]
    fn large_captures_are_found() {
        assert!(lines("tests/a.pcap", vec![0; MAX_BINARY_OCTETS]).is_empty());
        assert_eq!(lines("tests/a.pcap", vec![0; MAX_BINARY_OCTETS + 1]), [1]);
        assert_eq!(lines("tests/a.bin", vec![0; MAX_BINARY_OCTETS + 1]), [1]);
    }

    #[test]
    fn a_path_outside_the_repository_is_found() {
        let text = format!("first\ncp {OUTSIDE}/data .\n");
        assert_eq!(lines("README.md", text.clone()), [2]);
        assert!(lines(OUTSIDE_ALLOWED, text).is_empty());
    }
}
