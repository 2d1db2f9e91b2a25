//! Programs of the system.

use std::env;
use std::process::{Command, Stdio};

/// Where system programs are, even for users whose `PATH` lacks them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs the tests use, with the Debian packages they are from.
const PACKAGES: [(&str, &str); 36] = [
    ("/usr/lib/frr/bgpd", "frr"),
    ("bird", "bird2"),
    ("birdc", "bird2"),
    ("bpftool", "bpftool"),
    ("date", "coreutils"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("iperf3", "iperf3"),
    ("ipfixDump", "libfixbuf-tools"),
    ("java", "openjdk-17-jre-headless"),
    ("kcat", "kcat"),
    ("nfacctd", "pmacct"),
    ("pmacct", "pmacct"),
    ("perl", "perl-base"),
    ("pmacctd", "pmacct"),
    ("pmbgpd", "pmacct"),
    ("nfcapd", "nfdump"),
    ("nfdump", "nfdump"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
    ("sfacctd", "pmacct"),
    ("sfcapd", "nfdump-sflow"),
    ("socat", "socat"),
    ("ss", "iproute2"),
    ("stayrtr", "stayrtr"),
    ("strace", "strace"),
    ("sysctl", "procps"),
    ("taskset", "util-linux"),
    ("tc", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("tcpreplay", "tcpreplay"),
    ("tshark", "tshark"),
    ("unshare", "util-linux"),
];

/// Panics with the package to install if `program` is missing.
pub(crate) fn require(program: &str) {
    let found = env::split_paths(PATH).any(|directory| directory.join(program).is_file());
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map(|(_, package)| package);
    let package = package.unwrap_or_else(|| panic!("`{program}` is not in the list of programs"));
    assert!(found, "program `{program}` is missing; install the Debian package `{package}`");
}

/// A command that runs where the test itself does.
pub(crate) fn tool(program: &str) -> Command {
    require(program);
    let mut command = Command::new(program);
    // Times in local time and messages in another language would depend on the machine.
    command.env("PATH", PATH).env("TZ", "UTC").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Standard output of a command that must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed with {}: {text}{errors}", output.status);
    text
}
