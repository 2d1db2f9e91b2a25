//! `setup`: installs what the build and the tests need and says each thing before doing it.
//!
//! Only Debian has the compiler of the second recipe as a package, so only Debian is served; elsewhere the
//! command lists what to install by hand. There is no toolchain file on purpose: any stable toolchain from
//! `rust-version` on will do, and rustup would try to download a pinned one that is missing.

use std::{env, fmt, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{self, Recipe},
    process,
};

/// The linker has to know the bitcode of the compiler: 0.13 is the first with LLVM 22, which rustc-web uses.
const BPF_LINKER_VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// What the probe itself is linked with.
const LIBRARIES: &[Package] = &[
    Package { name: "libpcap-dev", proof: Proof::File("/usr/include/pcap/pcap.h") },
    Package { name: "libssl-dev", proof: Proof::File("/usr/include/openssl/ssl.h") },
    Package { name: "zlib1g-dev", proof: Proof::File("/usr/include/zlib.h") },
    Package { name: "pkg-config", proof: Proof::Program("pkg-config") },
    // librdkafka and SQLite are built from source.
    Package { name: "build-essential", proof: Proof::Program("g++") },
];

/// The compiler for BPF, with its `core`.
const COMPILER: &[Package] = &[
    Package { name: "rustc-web", proof: Proof::File("/usr/bin/rustc") },
    Package { name: "rust-web-src", proof: Proof::File("/usr/lib/rustlib/src/rust") },
    Package {
        name: "libstd-rust-web-dev-bpf",
        proof: Proof::File("/usr/lib/rustlib/bpfel-unknown-none/lib"),
    },
];

/// What `bpf-linker` is built from; it also loads libLLVM when it runs.
const LINKER: &[Package] = &[
    Package { name: "build-essential", proof: Proof::Program("g++") },
    Package { name: "pkg-config", proof: Proof::Program("pkg-config") },
    Package { name: "llvm-22-dev", proof: Proof::File("/usr/lib/llvm-22/include/llvm-c/Core.h") },
    Package { name: "libpolly-22-dev", proof: Proof::File("/usr/lib/llvm-22/lib/libPolly.a") },
    Package { name: "zlib1g-dev", proof: Proof::File("/usr/include/zlib.h") },
    Package { name: "libzstd-dev", proof: Proof::File("/usr/include/zstd.h") },
];

/// Collectors, exporters, routers and network tools that the tests run against.
const PEERS: &[Package] = &[
    Package { name: "nfdump", proof: Proof::Program("nfcapd") },
    Package { name: "nfdump-sflow", proof: Proof::Program("sfcapd") },
    Package { name: "pmacct", proof: Proof::Program("nfacctd") },
    Package { name: "tshark", proof: Proof::Program("tshark") },
    Package { name: "tcpreplay", proof: Proof::Program("tcpreplay") },
    Package { name: "iperf3", proof: Proof::Program("iperf3") },
    Package { name: "openssl", proof: Proof::Program("openssl") },
    Package { name: "libfixbuf-tools", proof: Proof::Program("ipfixDump") },
    Package { name: "socat", proof: Proof::Program("socat") },
    Package { name: "softflowd", proof: Proof::Program("softflowd") },
    Package { name: "bird2", proof: Proof::Program("bird") },
    Package { name: "stayrtr", proof: Proof::Program("stayrtr") },
    Package { name: "gobgpd", proof: Proof::Program("gobgpd") },
    Package { name: "frr", proof: Proof::File("/usr/lib/frr/bgpd") },
    Package { name: "iproute2", proof: Proof::Program("ip") },
    Package { name: "ethtool", proof: Proof::Program("ethtool") },
    Package { name: "nftables", proof: Proof::Program("nft") },
    Package { name: "tcpdump", proof: Proof::Program("tcpdump") },
    Package { name: "bpftool", proof: Proof::Program("bpftool") },
    Package { name: "util-linux", proof: Proof::Program("nsenter") },
    Package { name: "procps", proof: Proof::Program("sysctl") },
    Package { name: "bird2", proof: Proof::Program("birdc") },
    Package { name: "frr", proof: Proof::File("/usr/lib/frr/bgpd") },
    Package { name: "gobgpd", proof: Proof::Program("gobgpd") },
    Package { name: "exabgp", proof: Proof::Program("exabgp") },
    Package { name: "kcat", proof: Proof::Program("kcat") },
    Package { name: "strace", proof: Proof::Program("strace") },
    Package { name: "openjdk-17-jre-headless", proof: Proof::Program("java") },
    Package { name: "maven", proof: Proof::Program("mvn") },
    Package { name: "mmdb-bin", proof: Proof::Program("mmdblookup") },
    Package {
        name: "libmaxmind-db-writer-perl",
        proof: Proof::File("/var/lib/dpkg/info/libmaxmind-db-writer-perl.list"),
    },
    Package { name: "python3", proof: Proof::Program("python3") },
    Package { name: "python3-pip", proof: Proof::Program("pip3") },
    // Tests have the feature ndpi, which programs as they are shipped do not need.
    Package { name: "libndpi-dev", proof: Proof::File("/usr/include/ndpi/ndpi_api.h") },
    Package { name: "libndpi-bin", proof: Proof::Program("ndpiReader") },
];

/// Lints the kernel program with the compiler that builds it.
const LINTER: &[Package] = &[Package { name: "rust-web-clippy", proof: Proof::File(ebpf::DEBIAN_CLIPPY) }];

/// What the machine is to be able to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Build the probe.
    Build,
    /// Build it, and run every check and test.
    Test,
}

/// This machine has to be set up by a person: `xtask` ends with status 2.
#[derive(Debug)]
pub(crate) struct ByHand {
    reason: &'static str,
    packages: Vec<&'static str>,
}

/// A Debian package, and what shows that it need not be installed.
struct Package {
    name: &'static str,
    proof: Proof,
}

enum Proof {
    Program(&'static str),
    File(&'static str),
}

impl fmt::Display for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; install by hand, then run this again: {}", self.reason, self.packages.join(" "))
    }
}

impl std::error::Error for ByHand {}

impl Package {
    fn is_present(&self) -> bool {
        match self.proof {
            Proof::File(path) => Path::new(path).exists(),
            Proof::Program(program) => {
                // A user's PATH often lacks the folders of system programs.
                let path = env::var_os("PATH").unwrap_or_default();
                let system = ["/usr/sbin", "/sbin"].map(Into::into);
                env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
            }
        }
    }
}

/// Installs what is missing for `purpose`; does and says nothing about what is present.
pub(crate) fn run(purpose: Purpose) -> Result<()> {
    install(purpose, ebpf::usable_recipe())
}

/// `cargo xtask setup`: as [`run`], but trusts a recipe only after it has built the object.
pub(crate) fn command(purpose: Purpose) -> Result<()> {
    if ebpf::is_prebuilt() {
        install(purpose, None)?;
        println!("Ready: the eBPF object is a prebuilt one.");
        return Ok(());
    }
    install(purpose, ebpf::working_recipe()?)?;
    let Some(recipe) = ebpf::working_recipe()? else {
        bail!("the eBPF object still cannot be built; `cargo xtask build-ebpf` tells why");
    };
    println!("Ready: the eBPF object is built with {recipe}.");
    Ok(())
}

fn install(purpose: Purpose, recipe: Option<Recipe>) -> Result<()> {
    let needs_recipe = recipe.is_none() && !ebpf::is_prebuilt();
    let linker_missing = needs_recipe && !has_linker();
    let mut wanted: Vec<&Package> = LIBRARIES.iter().collect();
    if needs_recipe {
        wanted.extend(COMPILER);
    }
    if linker_missing {
        wanted.extend(LINKER);
    }
    if purpose == Purpose::Test {
        wanted.extend(PEERS);
        if recipe != Some(Recipe::Nightly) {
            wanted.extend(LINTER);
        }
    }
    install_packages(&wanted)?;
    // The linker may have lacked nothing but the library that has just been installed.
    if linker_missing && !has_linker() {
        install_linker()?;
    }
    if purpose == Purpose::Test {
        install_components()?;
    }
    Ok(())
}

fn install_packages(wanted: &[&Package]) -> Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|package| !package.is_present()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/etc/debian_version").is_file() {
        return Err(ByHand { reason: "setup installs packages on Debian only", packages: missing }.into());
    }
    if !process::is_root() {
        return Err(ByHand { reason: "setup installs packages as root only", packages: missing }.into());
    }
    println!("Updating the package lists.");
    if let Err(error) = process::run(&mut apt_get(&["update"])) {
        // One unreachable source among many must not stop the installation from the others.
        println!("Going on with the package lists as they are: {error}.");
    }
    println!("Installing packages: {}.", missing.join(" "));
    process::run(apt_get(&["install", "--yes", "--no-install-recommends"]).args(&missing))
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn has_linker() -> bool {
    let version = Command::new("bpf-linker").arg("--version").output();
    version.is_ok_and(|version| version.stdout.trim_ascii_end().ends_with(BPF_LINKER_VERSION.as_bytes()))
}

fn install_linker() -> Result<()> {
    println!("Installing bpf-linker {BPF_LINKER_VERSION} for LLVM 22 (about a minute).");
    process::run(
        process::cargo(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked", "--force"])
            .args(["--no-default-features", "--features", "llvm-22"])
            // Without the first, the build links against whichever LLVM it finds.
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX),
    )?;
    if !has_linker() {
        bail!("bpf-linker is installed but not found: add cargo's bin folder to PATH");
    }
    Ok(())
}

fn install_components() -> Result<()> {
    for (component, subcommand) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !process::succeeds(&mut process::cargo([subcommand, "--version"])) {
            println!("Installing {component}.");
            process::run(Command::new("rustup").args(["component", "add", component]))
                .with_context(|| format!("{component} is missing"))?;
        }
    }
    Ok(())
}
