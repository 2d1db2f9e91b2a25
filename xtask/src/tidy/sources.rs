//! Rules for Rust files: size, header, where aya and unsafe code may be, unfinished code.

use super::{Finding, code};

/// A file this long holds more than one subject.
const MAX_LINES: usize = 700;

/// Where aya may be named: the kernel side, the contract, the one place that loads programs, measurements.
const AYA_ALLOWED: [&str; 5] =
    ["probe-ebpf/", "probe-common/", "probe-user/src/capture/", "probe-user/tests/captures/", "perf/"];

/// The names aya's crates have in code.
const AYA_CRATES: [&str; 6] = ["aya", "aya_build", "aya_ebpf", "aya_log", "aya_log_ebpf", "aya_obj"];

/// Where unsafe code may be. A new entry needs a reason that no safe interface exists.
const UNSAFE_ALLOWED: [&str; 19] = [
    "probe-ebpf/src/main.rs",
    "probe-ebpf/src/frame.rs",
    "probe-ebpf/src/account.rs",
    "probe-ebpf/src/extend.rs",
    "probe-ebpf/src/maps.rs",
    "probe-ebpf/src/fib.rs",
    "probe-ebpf/src/filter.rs",
    "probe-ebpf/src/hook.rs",
    "probe-ebpf/src/payload.rs",
    "probe-ebpf/src/sample.rs",
    "probe-ebpf/src/clock.rs",
    "probe-ebpf/src/bin/mirror.rs",
    "probe-ebpf/src/bin/perf.rs",
    "probe-user/src/capture/mapping.rs",
    "probe-user/src/capture/xsk/",
    // nDPI is a library in C.
    "probe-user/src/classify/ndpi.rs",
    // No library has the request SIOCOUTQ.
    "probe-user/src/unacknowledged.rs",
    // No library has the options TCP_MD5SIG_EXT, IP_MINTTL and IPV6_MINHOPCOUNT.
    "bgp/src/md5.rs",
    // No library has the advice MADV_COLLAPSE.
    "bgp/src/rib/lpm/huge_pages.rs",
];

/// Crates that have to forbid unsafe code altogether.
const UNSAFE_FORBIDDEN: [&str; 4] =
    ["exporter/src/lib.rs", "perf/src/lib.rs", "probe-common/src/lib.rs", "xtask/src/main.rs"];

/// Macros that mark code as unfinished.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Checks one Rust file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, message: String| findings.push(Finding::new(path, line, message));
    let is_build_script = path == "build.rs" || path.ends_with("/build.rs");
    let first = text.lines().next().unwrap_or_default();
    if !(first.starts_with("//!") || is_build_script && first.starts_with("//")) {
        find(1, "the file does not start with a `//!` header that says what it is for".to_owned());
    }
    let length = text.lines().count();
    if length > MAX_LINES {
        find(MAX_LINES + 1, format!("the file has {length} lines; split it by subject (limit {MAX_LINES})"));
    }
    let code = code::only(text);
    if UNSAFE_FORBIDDEN.contains(&path) && !code.contains("#![forbid(unsafe_code)]") {
        find(1, "the crate does not say `#![forbid(unsafe_code)]`".to_owned());
    }
    for (index, line) in code.lines().enumerate() {
        for (word, rest) in code::words(line) {
            if word == "unsafe" && !is_allowed(path, &UNSAFE_ALLOWED) {
                find(index + 1, "unsafe code outside the files listed in tidy".to_owned());
            }
            if AYA_CRATES.contains(&word) && !is_allowed(path, &AYA_ALLOWED) {
                find(index + 1, format!("`{word}` is named outside {}", AYA_ALLOWED.join(", ")));
            }
            if UNFINISHED.contains(&word) && rest.trim_start().starts_with('!') {
                find(index + 1, format!("`{word}!` marks unfinished code"));
            }
        }
    }
    findings
}

/// Whether a path is one of the entries or inside one that ends in `/`.
fn is_allowed(path: &str, entries: &[&str]) -> bool {
    entries.iter().any(|entry| path == *entry || entry.ends_with('/') && path.starts_with(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line and first words of each finding for a file with a good header.
    fn found(path: &str, body: &str) -> Vec<(usize, String)> {
        let findings = check(path, &format!("//! Header.\n{body}"));
        findings.into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn a_clean_file_passes() {
        let body =
            "// aya, unsafe and todo!() in prose\nfn f() -> &'static str { \"unsafe aya::x dbg!(1)\" }\n";
        assert_eq!(found("bgp/src/rib.rs", body), []);
    }

    #[test]
    fn a_missing_header_is_found() {
        assert_eq!(check("bgp/src/rib.rs", "use std::io;\n").len(), 1);
        assert_eq!(check("bgp/src/rib.rs", "// Plain.\n").len(), 1);
        assert_eq!(check("bgp/src/rib.rs", "").len(), 1);
        assert_eq!(check("perf/build.rs", "// Plain.\n"), []);
    }

    #[test]
    fn a_long_file_is_found() {
        let lines = |count: usize| "\n".repeat(count - 1);
        assert_eq!(found("bgp/src/rib.rs", &lines(MAX_LINES)), []);
        let findings = found("bgp/src/rib.rs", &lines(MAX_LINES + 1));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].0, MAX_LINES + 1);
    }

    #[test]
    fn aya_outside_its_places_is_found() {
        let body = "\nuse aya::Ebpf;\nfn f() { aya_log::init(); }\n";
        let findings = found("probe-user/src/supervisor.rs", body);
        assert_eq!(findings.iter().map(|finding| finding.0).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(found("probe-user/src/capture/program.rs", body), []);
        assert_eq!(found("probe-user/src/x.rs", "fn aya_is_not_named() {}\n"), []);
    }

    #[test]
    fn unsafe_outside_its_files_is_found() {
        let body = "fn f() { unsafe { g() } }\n";
        assert_eq!(found("probe-user/src/clock.rs", body).len(), 1);
        assert_eq!(found("probe-ebpf/src/other.rs", body).len(), 1);
        assert_eq!(found("probe-ebpf/src/frame.rs", body), []);
        assert_eq!(found("probe-user/src/capture/mapping.rs", body), []);
        assert_eq!(found("probe-user/src/capture/program.rs", body).len(), 1);
    }

    #[test]
    fn a_crate_that_stops_forbidding_unsafe_code_is_found() {
        assert_eq!(found("exporter/src/lib.rs", "#![forbid(unsafe_code)]\n"), []);
        assert_eq!(found("exporter/src/lib.rs", "// #![forbid(unsafe_code)]\n").len(), 1);
    }

    #[test]
    fn unfinished_code_is_found() {
        for body in ["fn f() { todo!() }", "fn f() { unimplemented! {} }", "fn f() { dbg!(1); }"] {
            assert_eq!(found("bgp/src/rib.rs", body).len(), 1, "{body}");
        }
        assert_eq!(found("bgp/src/rib.rs", "fn todo() {}"), []);
    }
}
